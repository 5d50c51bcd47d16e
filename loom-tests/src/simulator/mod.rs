//! A simulator: seeded schedules of many parties and many laps, on a memory that is as weak as the language allows.
//!
//! Loom explores small models whole; this one plays large ones by chance, from a seed, and the same seed plays the same schedule. One
//! writer and its successors publish some laps of records in every way there is; two to eight readers, lossless, lossy and
//! followers, join, read, sleep, stall, are evicted, rejoin, leave; any party may be killed before any of its accesses, or in its
//! sleep. It is the very source of `shmcast::ring`, over [another memory](shmcast::memory::Memory).
//!
//! ```text
//!   plan      what the seed decides: sizes, parties, how weak memory is, who dies
//!   stage     parties on stacks of their own, one thread; who goes on is drawn before each access
//!   weak      the histories of the words and what each party has seen of them
//!   memory    the seam between the protocol and these two
//!   writer, reader, books     what the parties do, and what must be true of it
//! ```
//!
//! # What must be true
//! - What a reader receives is the next record, whole; every loss is exact: received + lost = published at the end.
//! - Where it stands, position and sequence number belong together.
//! - No lossless reader loses anything, but by an eviction that is told.
//! - A successor finds what was published and received, and no more than was attempted.
//! - There is no time. When nobody can go on, a writer may rest: then no reader may be asleep that has something to read, no writer
//!   for which there is room, and nobody once the ring is closed: a lost wakeup. A slice ends only where somebody was killed
//!   who may have owed the wake.
//!
//! # What it cannot see
//! Load buffering (P5), as loom; and it finds by chance what loom finds for certain. What it adds: many parties, laps and
//! deaths at once, older values than loom's last seven stores, interrupts ([`Barrier::Asymmetric`](shmcast::memory::Barrier)) where loom
//! has fences, wakes that order nothing, and kills between any two accesses of a running system.

mod books;
mod memory;
mod plan;
mod random;
mod reader;
mod stacks;
mod stage;
mod weak;
mod writer;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shmcast::ring::{Registry, Ring};

pub use books::Tally;
pub use random::Random;

use crate::weaken::{Mutation, Weaken};
use memory::SimMemory;
use plan::Plan;
use stacks::{Program, Stacks};
use stage::Stage;

/// The memory that the parties see.
type Seam = Weaken<SimMemory>;

/// Longest sleep; there is no time.
const SLICE: Duration = Duration::from_millis(100);

/// Plays schedules, one after the other.
#[derive(Default)]
pub struct Simulator {
    stacks: Stacks,
    spare: Option<weak::WeakMemory>,
    mutations: Arc<[Mutation]>,
    tally: Tally,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator")
            .field("mutations", &self.mutations)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// Of the protocol with some accesses done wrongly; of the protocol as it is if there are none.
    #[must_use]
    pub fn new(mutations: &[Mutation]) -> Simulator {
        Simulator { mutations: Arc::from(mutations), ..Simulator::default() }
    }

    /// What happened so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Plays the schedule of a seed.
    ///
    /// # Errors
    /// What was not true, and the last accesses of each party.
    pub fn play(&mut self, seed: u64) -> Result<(), String> {
        let plan = Plan::of(seed);
        let programs: Vec<Program> = std::iter::once(writer::first as Program)
            .chain((0..plan.readers).map(|_| reader::play as Program))
            .chain((0..plan.successors).map(|_| writer::successor as Program))
            .collect();
        let spare = self.spare.take().unwrap_or_else(weak::WeakMemory::new);
        let stage = Rc::new(Stage::new(plan, spare, Arc::clone(&self.mutations)));
        let failure = self.stacks.play(&stage, &programs);
        let Some(stage) = Rc::into_inner(stage) else {
            return Err(format!("{}\na party outlived its schedule", failure.unwrap_or_default()));
        };
        let (memory, mut tally) = stage.close();
        tally.schedules = 1;
        self.tally += tally;
        self.spare = Some(memory);
        failure.map_or(Ok(()), Err)
    }
}

/// Plays the schedules of the first seeds of a protocol that does something wrongly, until one fails: answers how many that took, and what
/// failed. In a thread without a name, whose panics a test can tell from its own.
#[must_use]
pub fn hunt(mutations: &[Mutation], seeds: u64) -> Option<(u64, String)> {
    let mutations = mutations.to_vec();
    let hunter = std::thread::spawn(move || {
        let mut simulator = Simulator::new(&mutations);
        (0..seeds).find_map(|seed| simulator.play(seed).err().map(|why| (seed + 1, why)))
    });
    hunter.join().unwrap_or_else(|_| Some((0, "the simulator itself panicked".to_owned())))
}

impl Stage {
    /// A party's view of both segments.
    fn views(self: &Rc<Stage>, party: usize) -> (Ring<Seam>, Registry<Seam>) {
        let (ring, registry) = SimMemory::pair(self, party);
        let (ring, registry) = Weaken::party(&ring, &registry, &self.mutations);
        (Ring::new(ring, self.plan.ring.clone()), Registry::new(registry, self.plan.registry.clone()))
    }
}
