//! A model: a small ring, the records to publish, the threads; and how it is explored.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Wakeup, Waking};
use shmcast::ring::{JoinError, Reader, Refused, Registry, Ring, Start, Writer};

use crate::audit::{Audit, Plan};
use crate::memory::{LoomMemory, Waiting};
use crate::mortal::{Life, Mortal};
use crate::weaken::{Mutation, Weaken};

/// The memory that the parties of a model see.
pub type Seam = Mortal<Weaken<LoomMemory>>;

/// Longest sleep; models have no time.
pub const SLICE: Duration = Duration::from_millis(100);

/// Most steps of one execution: beyond that, somebody runs in circles.
const MAX_STEPS: usize = 4_000;

/// More stores than any party of a model has in its life.
const MOST_DEATHS: u64 = 200;

/// What [`World::note_death`] notes.
const DIED: &str = "the mortal party died";

/// A property, the ring and the threads that try to break it, and the bounds.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The property, as a sentence.
    pub name: &'static str,
    /// Bytes of the data area.
    pub capacity: u64,
    /// Blocks of the data area.
    pub blocks: u64,
    /// Reader slots.
    pub slots: u64,
    /// The position of the first record.
    pub start: u64,
    /// Payload words of each record.
    pub words: &'static [usize],
    /// What a wait does.
    pub waiting: Waiting,
    /// How those who wait are woken.
    pub waking: Waking,
    /// How often a thread may be interrupted in one execution; `None`: exhaustive.
    pub preemptions: Option<usize>,
    /// Threads that run beside the first one.
    pub threads: usize,
    /// Is it explored once for each store behind which its mortal party may die?
    pub deaths: bool,
    /// What must have happened in at least one execution, or the model proves nothing.
    pub must_see: &'static [&'static str],
    /// The first thread.
    pub body: fn(World),
}

/// What came of an exploration.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Executions: orders of steps, and values of loads.
    pub executions: usize,
    /// Points of death, in a model that has them.
    pub deaths: u64,
    /// How long it took.
    pub time: Duration,
    /// Did it end before its time was over?
    pub complete: bool,
    /// What happened, and in how many executions.
    pub saw: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.as_secs_f64();
        write!(f, "{:>9} executions {:>4} deaths {time:>8.2} s", self.executions, self.deaths)
    }
}

/// What came of a hunt.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Executions until then.
    pub executions: usize,
    /// The message of the failure; `None`: the mutant survived.
    pub killed: Option<String>,
    /// How long it took.
    pub time: Duration,
}

/// What happened in the executions of one exploration, and how often.
type Tally = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// A line of the account, which is shown whether a test passes or not: the harness holds back what is printed otherwise.
pub fn tell(line: impl fmt::Display) {
    // Nobody is there to read it: that is no failure of a model.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Model {
    /// A model with the most common sizes: 64 bytes in 2 blocks, no slots, one thread beside the first, exhaustive.
    #[must_use]
    pub const fn new(name: &'static str, words: &'static [usize], body: fn(World)) -> Model {
        let waking = Waking { means: Wakeup::Futex, key: 0, no_wake: false };
        Model {
            name,
            capacity: 64,
            blocks: 2,
            slots: 0,
            start: 0,
            words,
            waiting: Waiting::Yields,
            waking,
            preemptions: None,
            threads: 1,
            deaths: false,
            must_see: &[],
            body,
        }
    }

    /// The same, with semaphores. (The protocol does not know which.)
    #[must_use]
    pub const fn with_semaphores(self, name: &'static str, slots: u64) -> Model {
        let waking = Waking { means: Wakeup::PosixSemaphore, key: 0, no_wake: false };
        Model { name, slots, waking, ..self }
    }

    /// Explores the model whole.
    ///
    /// # Panics
    /// If an execution breaks the property, or if what must be seen was not.
    pub fn check(&self) {
        let explored = self.explore(self.preemptions, Duration::MAX);
        tell(format_args!("{explored}  {}  {:?}", self.name, explored.saw));
        for what in self.must_see {
            assert!(explored.saw.contains_key(what), "{}: no execution in which {what}", self.name);
        }
    }

    /// Explores the model with another bound of preemptions, for so long at most.
    ///
    /// # Panics
    /// If an execution breaks the property.
    #[must_use]
    pub fn explore(&self, preemptions: Option<usize>, most: Duration) -> Explored {
        let (model, tally, executions) = (Model { preemptions, ..*self }, Tally::default(), Arc::default());
        let start = Instant::now();
        let (deaths, complete) = model.explore_deaths(&Arc::from([]), &tally, &executions, most);
        let saw = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
        Explored { executions: executions.load(Relaxed), deaths, time: start.elapsed(), complete, saw }
    }

    /// Explores the model with mutations, until an execution fails.
    #[must_use]
    pub fn hunt(&self, mutations: &[Mutation]) -> Verdict {
        let (model, mutations) = (*self, Arc::from(mutations));
        let (tally, executions) = (Tally::default(), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        // A thread of its own: what loom keeps per thread is gone with it.
        let count = Arc::clone(&executions);
        let explorer = std::thread::spawn(move || {
            let hunt = || model.explore_deaths(&mutations, &tally, &count, Duration::MAX);
            catch_unwind(AssertUnwindSafe(hunt)).err().map(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
            })
        });
        let killed = explorer.join().unwrap_or_else(|_| Some("panicked twice".to_owned()));
        Verdict { executions: executions.load(Relaxed), killed, time: start.elapsed() }
    }

    /// Once, or once for each point of death; answers how many there are, and whether it was explored whole.
    fn explore_deaths(
        &self,
        mutations: &Arc<[Mutation]>,
        tally: &Tally,
        executions: &Arc<AtomicUsize>,
        most: Duration,
    ) -> (u64, bool) {
        let start = Instant::now();
        if !self.deaths {
            return (0, self.explore_life(u64::MAX, mutations, tally, executions, most));
        }
        let deaths = || tally.lock().unwrap_or_else(PoisonError::into_inner).get(DIED).copied().unwrap_or(0);
        for death in 1..=MOST_DEATHS {
            let before = deaths();
            let most = most.saturating_sub(start.elapsed());
            if !self.explore_life(death, mutations, tally, executions, most) {
                return (death - 1, false);
            }
            if deaths() == before {
                // It lives for fewer stores than that, whatever happens.
                assert!(death > 1, "{}: nobody dies in it", self.name);
                return (death - 1, true);
            }
        }
        panic!("{}: more than {MOST_DEATHS} points of death", self.name);
    }

    /// Explores the model with a mortal party that dies behind so many stores. True if that ended in time.
    fn explore_life(
        &self,
        death: u64,
        mutations: &Arc<[Mutation]>,
        tally: &Tally,
        executions: &Arc<AtomicUsize>,
        most: Duration,
    ) -> bool {
        let Model { capacity, blocks, slots: reader_slots, start, words, waiting, waking, body, .. } = *self;
        let payload = PayloadType::default();
        let geometry =
            Geometry { capacity, blocks, alignment: 8, reader_slots, start, may_evict: false, waking, payload };
        let ring_layout = RingLayout::new(geometry, 1).expect("the geometry of a model");
        let registry_layout = RegistryLayout::new(reader_slots, 1);
        let (mutations, tally, executions) = (Arc::clone(mutations), Arc::clone(tally), Arc::clone(executions));
        let mut builder = loom::model::Builder::new();
        builder.max_branches = MAX_STEPS;
        builder.preemption_bound = self.preemptions;
        builder.max_duration = Some(most);
        // So often it looks at the clock.
        builder.checkpoint_interval = 1_000;
        let began = Instant::now();
        builder.check(move || {
            executions.fetch_add(1, Relaxed);
            let (ring, registry) = LoomMemory::pair(&ring_layout, &registry_layout, waiting);
            body(World {
                plan: Plan { geometry, words },
                life: Life::new(death),
                ring,
                registry,
                ring_layout: ring_layout.clone(),
                registry_layout: registry_layout.clone(),
                mutations: Arc::clone(&mutations),
                tally: Arc::clone(&tally),
            });
        });
        began.elapsed() < most
    }
}

/// One execution's ring. A clone is the same ring, for another thread.
#[derive(Clone, Debug)]
pub struct World {
    /// The records.
    pub plan: Plan,
    /// The life of the mortal party.
    pub life: Life,
    ring: LoomMemory,
    registry: LoomMemory,
    ring_layout: RingLayout,
    registry_layout: RegistryLayout,
    mutations: Arc<[Mutation]>,
    tally: Tally,
}

impl World {
    /// A new party's handles.
    fn party(&self) -> (Ring<Seam>, Registry<Seam>) {
        self.party_of(&Life::endless())
    }

    fn party_of(&self, life: &Life) -> (Ring<Seam>, Registry<Seam>) {
        let (ring, registry) = Weaken::party(&self.ring, &self.registry, &self.mutations);
        let (ring, registry) = (Mortal::new(ring, life), Mortal::new(registry, life));
        (Ring::new(ring, self.ring_layout.clone()), Registry::new(registry, self.registry_layout.clone()))
    }

    /// The writer.
    #[must_use]
    pub fn writer(&self) -> Writer<Seam> {
        let (ring, registry) = self.party();
        Writer::new(ring, registry, false)
    }

    /// A writer that is the mortal party.
    #[must_use]
    pub fn mortal_writer(&self) -> Writer<Seam> {
        let (ring, registry) = self.party_of(&self.life);
        Writer::new(ring, registry, false)
    }

    /// A lossy reader that is the mortal party.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn mortal_lossy(&self, start: Start) -> Result<Reader<Seam>, JoinError> {
        let (ring, registry) = self.party_of(&self.life);
        Reader::join_lossy(ring, Some(registry), start, false, 0)
    }

    /// A lossless reader that is the mortal party.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn mortal_lossless(&self, start: Start) -> Result<Reader<Seam>, JoinError> {
        let (ring, registry) = self.party_of(&self.life);
        Reader::join_lossless(ring, registry, start, false, 0)
    }

    /// Is the mortal party dead? To be asked once it would be done, or its model is explored for one point of death only.
    #[must_use]
    pub fn note_death(&self) -> bool {
        if self.life.is_over() {
            self.saw(DIED);
        }
        self.life.is_over()
    }

    /// The writer's successor.
    ///
    /// # Panics
    /// If the ring cannot be taken over.
    #[must_use]
    pub fn take_over(&self) -> Writer<Seam> {
        let (ring, registry) = self.party();
        Writer::take_over(ring, registry, false).expect("what a writer leaves")
    }

    /// A successor that is the mortal party.
    ///
    /// # Panics
    /// If the ring cannot be taken over.
    #[must_use]
    pub fn mortal_successor(&self) -> Writer<Seam> {
        let (ring, registry) = self.party_of(&self.life);
        Writer::take_over(ring, registry, false).expect("what a writer leaves")
    }

    /// A lossy reader without registry.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn follower(&self, start: Start) -> Result<Reader<Seam>, JoinError> {
        Reader::join_lossy(self.party().0, None, start, false, 0)
    }

    /// A lossy reader that can be woken.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn lossy(&self, start: Start) -> Result<Reader<Seam>, JoinError> {
        let (ring, registry) = self.party();
        Reader::join_lossy(ring, Some(registry), start, false, 0)
    }

    /// A lossless reader.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn lossless(&self, start: Start) -> Result<Reader<Seam>, JoinError> {
        let (ring, registry) = self.party();
        Reader::join_lossless(ring, registry, start, false, 0)
    }

    /// The books of a reader where it stands.
    #[must_use]
    pub fn audit(&self, reader: &Reader<Seam>) -> Audit {
        Audit::of(reader, &self.plan)
    }

    /// Publishes the next record of the plan.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn publish(&self, writer: &mut Writer<Seam>) -> Result<u64, Refused> {
        let payload = self.plan.payload(writer.sequence());
        writer.try_publish(&payload)
    }

    /// Publishes the next `count` records of the plan, or as many as find room; answers how many did not.
    pub fn publish_up_to(&self, writer: &mut Writer<Seam>, count: usize) -> usize {
        for n in 0..count {
            match self.publish(writer) {
                Ok(_) => {}
                Err(Refused::Full) => return count - n,
                Err(other) => panic!("{other:?}"),
            }
        }
        0
    }

    /// Notes that something happened in this execution.
    pub fn saw(&self, what: &'static str) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// Notes what happened to one reader.
    pub fn saw_in(&self, audit: &Audit) {
        let happened = [
            (audit.lagged > 0, "a reader lagged"),
            (audit.void > 0, "a copy was void"),
            (audit.received > 0, "a record was received"),
        ];
        for (_, what) in happened.into_iter().filter(|(happened, _)| *happened) {
            self.saw(what);
        }
    }
}
