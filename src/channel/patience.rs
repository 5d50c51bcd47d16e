//! What a writer does about the reader that holds it back: a dead one is cleared away, a living one may have to go.

use std::time::{Duration, Instant};

use crate::memory::Mapped;
use crate::ring;
use crate::segment::Lives;

/// Between two looks of a writer that only tries.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a writer bears with the reader that holds it back.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    /// The cursor that has held the writer back, and since when. Not whose it is: several may stand at one place, and each in
    /// turn would count as a new one.
    blocker: Option<(u64, Instant)>,
    looked: Option<Instant>,
}

impl Patience {
    /// Is there something to look for that nobody wakes the writer for?
    pub(super) fn watches(&self, lives: Option<&Lives>) -> bool {
        lives.is_some() || self.limit.is_some()
    }

    pub(super) fn new(limit: Option<Duration>) -> Patience {
        Patience { limit, blocker: None, looked: None }
    }

    /// The writer found no room: can that be helped? If so, the next attempt will see it. A system call or two.
    pub(super) fn look(&mut self, core: &mut ring::Writer<Mapped>, lives: Option<&Lives>) -> bool {
        let Some(blocker) = core.blocker() else { return false };
        let now = Instant::now();
        self.looked = Some(now);
        // Its lock can be had: it is dead. Held meanwhile, so that nobody joins in this slot.
        if let Some(_lock) = lives.and_then(|lives| lives.lock_dead_slot(blocker.slot)) {
            return core.reap(blocker.slot);
        }
        let Some(limit) = self.limit else { return false };
        let since = match self.blocker {
            Some((cursor, since)) if cursor == blocker.cursor => since,
            _ => now,
        };
        let stalled = now.duration_since(since) >= limit;
        self.blocker = if stalled { None } else { Some((blocker.cursor, since)) };
        if stalled {
            core.pass_over(blocker);
        }
        stalled
    }

    /// As [`look`](Self::look), for a writer that only tries, and may do so without end: not more often than it is worth.
    pub(super) fn glance(&mut self, core: &mut ring::Writer<Mapped>, lives: Option<&Lives>) -> bool {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        due && self.look(core, lives)
    }
}
