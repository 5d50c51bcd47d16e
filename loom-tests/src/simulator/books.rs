//! What really happened, as the parties' programs note it outside of the modelled memory, and what was counted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What happened, and how often.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Tally) {
                $(self.$name += other.$name;)+
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((stringify!($name), self.$name)),+];
                for (n, (name, count)) in all.into_iter().enumerate() {
                    write!(f, "{}{} {count}", if n == 0 { "" } else { ", " }, name.replace('_', " "))?;
                }
                Ok(())
            }
        }
    };
}

tally! {
    /// Schedules that were played.
    schedules,
    /// Shared accesses.
    accesses,
    /// Loads that saw a store that was not the newest.
    stale_loads,
    /// Stores that took effect before others that were there.
    early_stores,
    /// Laps of the ring.
    laps,
    /// Records published.
    published,
    /// Records received.
    received,
    /// Records that readers were told they lost.
    lost,
    /// Copies that were thrown away.
    void,
    /// Readers that joined.
    joins,
    /// Joins that failed with a reason that an honest ring has.
    refused,
    /// Readers that left.
    leaves,
    /// Readers that were evicted.
    evictions,
    /// Readers that became lossless again.
    rejoins,
    /// Parties that went to sleep.
    sleeps,
    /// Parties that were woken.
    woken,
    /// Sleeps that ended with their slice, because who owed the wake was killed.
    slices,
    /// Writers that saw all others rest, and who sleeps has nothing to read.
    rests,
    /// Writers that were killed.
    writers_killed,
    /// Readers that were killed.
    readers_killed,
    /// Of them, in their sleep.
    killed_asleep,
    /// Successors that took over.
    take_overs,
}

/// The truth about one schedule.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Records that are committed.
    pub(super) published: u64,
    /// Records that may be: one that is being published, or a batch.
    pub(super) attempted: u64,
    /// Where each record stands.
    pub(super) positions: Vec<u64>,
    /// The most that any reader has received: committed, therefore.
    pub(super) seen: u64,
    /// A writer has it open, or died with it open.
    pub(super) is_open: bool,
    /// Closes of the ring, the last writer's and earlier ones.
    pub(super) closes: u64,
    /// The last writer has closed the ring.
    pub(super) is_over: bool,
    /// Where readers stopped that outlived all writers: all at the same record.
    pub(super) orphans: Option<u64>,
    /// Changes with whatever anybody achieves.
    pub(super) progress: u64,
    /// Who had the lock of a slot last, and gave it back.
    pub(super) unlocked: BTreeMap<u64, usize>,
    /// A writer that was killed, or has closed the ring for a successor.
    pub(super) last_writer: Option<usize>,
    /// No writer comes any more.
    pub(super) writers_left: usize,
    pub(super) tally: Tally,
}

impl Books {
    pub(super) fn killed(&mut self, writer: bool) {
        self.progress += 1;
        if writer {
            self.writers_left -= 1;
            self.tally.writers_killed += 1;
        } else {
            self.tally.readers_killed += 1;
        }
    }

    /// A record is about to be published at a position.
    pub(super) fn attempt(&mut self, sequence: u64, position: u64) {
        self.positions.truncate(sequence as usize);
        assert_eq!(self.positions.len() as u64, sequence, "a record was left out");
        self.positions.push(position);
        self.attempted = sequence + 1;
    }

    pub(super) fn publish(&mut self, published: u64) {
        self.progress += 1;
        self.tally.published += published.saturating_sub(self.published);
        self.published = published;
    }

    /// A record was received.
    pub(super) fn receive(&mut self, sequence: u64) {
        assert!(sequence < self.attempted, "record {sequence} was never published, {} were", self.attempted);
        self.seen = self.seen.max(sequence + 1);
        self.progress += 1;
        self.tally.received += 1;
    }
}
