//! Who must be woken, and how one falls asleep without missing it (invariants I4, I8). The system calls are the
//! memory's; the decisions are here. Both directions are mirror images:
//!
//! ```text
//!   who sleeps                                     who wakes
//!   seen = wake word      (Acquire, P8)            commit, or cursor
//!   flag = 1                                       light barrier  (P7, P9: store buffering with the heavy one)
//!   heavy barrier         (P7, P9)                 flag?  no: done, no system call
//!   look once more at everything                          yes: flag = 0, THEN wake word + 1 (Release, P8), wake all
//!   sleep while wake word = seen, a slice at most
//! ```
//! The order is load-bearing at every step, and so are the slices: whoever cleared a flag may be killed before it
//! wakes. A flag, not a count: a reader that is killed in its sleep leaves nothing behind that would have to be undone.
//! The readers' wake word lies in the ring segment, where no reader can rewind it; the flags and the room word, which
//! many bump, lie in the registry: whoever can write that can cost wakes, and slices.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;

use super::{NAP, Reader, Site, Writer};
use crate::memory::{Barrier, Memory};

impl<M: Memory> Writer<M> {
    /// Step 6 of publish: one load, of a line that changes only when somebody goes to sleep.
    #[inline(always)]
    pub(super) fn notify(&mut self) {
        // P7: pairs with `SleepBarrier`; between the commit and the look.
        self.ring.memory.light_barrier(self.barrier, Site::NotifyBarrier);
        // Relaxed: ordered by the barrier.
        if self.registry.memory.load(self.registry.layout.sleeping(), Relaxed, Site::SleepingLook) != 0 {
            self.wake_readers();
        }
    }

    /// A system call and about 3 microseconds per sleeper.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_readers(&mut self) {
        // Relaxed: ordered before the bump by its release. Clear BEFORE bump: see P8.
        self.registry.memory.store(self.registry.layout.sleeping(), 0, Relaxed, Site::SleepingClear);
        self.wake = self.wake.wrapping_add(1);
        // Release (P8): pairs with `WakeSeen`.
        self.ring.memory.store(self.ring.layout.wake(), self.wake, Release, Site::WakeBump);
        self.ring.memory.wake(self.ring.layout.wake(), Site::WakeReaders);
        self.hear_of_leaves();
    }

    /// Sleeps for a slice at most, unless `ready` holds once everybody can see that the writer is about to sleep. True if
    /// it held. A system call; the sleeper's barrier costs about 10 microseconds.
    pub fn park(&mut self, slice: Duration, mut ready: impl FnMut(&mut Self) -> bool) -> bool {
        let room = self.registry.layout.room();
        // Acquire (P10): pairs with `RoomBump`; the flag below is set after it was cleared for that bump.
        let seen = self.registry.memory.load(room, Acquire, Site::RoomSeen) as u32;
        // Relaxed: ordered before the second look by the barrier.
        self.registry.memory.store(self.registry.layout.writer_sleeping(), 1, Relaxed, Site::WriterSleepingSet);
        // P9: pairs with `CursorBarrier`.
        let can_be_woken = self.registry.memory.heavy_barrier(self.barrier, Site::RoomBarrier);
        if ready(self) {
            return true;
        }
        let slice = if can_be_woken { slice } else { slice.min(NAP) };
        self.registry.memory.wait(room, seen, slice, Site::RoomWait);
        false
    }
}

impl<M: Memory> Reader<M> {
    /// After a cursor moved, or a slot changed hands: wakes the writer if it sleeps.
    pub(super) fn notify_writer(&self) {
        let Some(registry) = &self.registry else { return };
        let (memory, layout) = (&registry.memory, &registry.layout);
        // P9: pairs with `RoomBarrier`; between the cursor and the look.
        memory.light_barrier(self.barrier, Site::CursorBarrier);
        // Relaxed: ordered by the barrier.
        if memory.load(layout.writer_sleeping(), Relaxed, Site::WriterSleepingLook) == 0 {
            return;
        }
        // Relaxed: ordered before the bump by its release. Clear BEFORE bump: see P10.
        memory.store(layout.writer_sleeping(), 0, Relaxed, Site::WriterSleepingClear);
        // Release (P10): pairs with `RoomSeen`. An addition, because many readers bump.
        memory.fetch_add(layout.room(), 1, Release, Site::RoomBump);
        memory.wake(layout.room(), Site::WakeWriter);
    }

    /// Sleeps for a slice at most, unless there is something to receive once the writer can see that a reader is about to
    /// sleep. A system call; the barrier costs about 10 microseconds. Without a registry nobody can see it: a short nap.
    pub fn park(&mut self, slice: Duration) {
        let wake = self.ring.layout.wake();
        // A reader that sleeps holds nothing back.
        self.settle_cursor();
        // Acquire (P8): pairs with `WakeBump`; the flag below is set after it was cleared for that bump.
        let seen = self.ring.memory.load(wake, Acquire, Site::WakeSeen) as u32;
        let mut can_be_woken = false;
        if let Some(registry) = &self.registry {
            // Relaxed: ordered before the second look by the barrier.
            registry.memory.store(registry.layout.sleeping(), 1, Relaxed, Site::SleepingSet);
            // P7: pairs with `NotifyBarrier`.
            can_be_woken = self.ring.memory.heavy_barrier(self.ring.barrier_mode(), Site::SleepBarrier);
        }
        if self.second_look() {
            return;
        }
        let slice = if can_be_woken { slice } else { slice.min(NAP) };
        self.ring.memory.wait(wake, seen, slice, Site::SleepWait);
    }

    /// Is there anything that a receive would not call empty?
    pub(super) fn second_look(&self) -> bool {
        let (memory, layout) = (&self.ring.memory, &self.ring.layout);
        // Acquire (P11): pairs with `Close`.
        let closed = memory.load(layout.closed(), Acquire, Site::SleepClosedLook) != 0;
        // Acquire (P1): pairs with `Commit`.
        let header = memory.load(self.at, Acquire, Site::SleepHeaderLook);
        // Relaxed: the receive that follows judges.
        let limit = memory.load(layout.limit(), Relaxed, Site::SleepLimitLook);
        closed || header != 0 || limit.wrapping_sub(self.position) > layout.geometry.capacity
    }
}

/// The barrier of the side that is fast: nothing, if the ring's writer counts on registered peers and this process is one.
pub(super) fn fast_side(ring: Barrier, registered: bool) -> Barrier {
    if registered { ring } else { Barrier::Fence }
}
