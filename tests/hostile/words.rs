//! Words that a test can watch and change while the protocol is at work: what a peer does between any two accesses.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::memory::{Barrier, Memory, ReadPayload, Semaphore, Word};
use shmcast::ring::{JoinError, Payload, Read, Reader, Refused, Registry, Ring, Site, Start, Stop, Writer};

use super::support::{assert_whole, record_of};

/// An access that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Load(Site),
    /// A word of a payload.
    Copy,
}

/// What a load is answered with: the word, how it is looked at, and what is there.
type Answer = Box<dyn FnMut(usize, Look, u64) -> u64>;

/// A segment in private memory. An access out of bounds panics, and so does one beyond the budget.
#[derive(Clone)]
pub(crate) struct Words(Rc<Inner>);

struct Inner {
    words: Vec<Cell<u64>>,
    answer: RefCell<Option<Answer>>,
    looks: RefCell<Vec<(usize, Look)>>,
    steps: Cell<u64>,
    wakes: Cell<u64>,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} words", self.0.words.len())
    }
}

impl Words {
    pub(crate) fn zeroed(bytes: u64) -> Words {
        Words(Rc::new(Inner {
            words: vec![Cell::new(0); (bytes / 8) as usize],
            answer: RefCell::default(),
            looks: RefCell::default(),
            steps: Cell::new(0),
            wakes: Cell::new(0),
        }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.words.len()
    }

    pub(crate) fn peek(&self, at: Word) -> u64 {
        self.0.words[at.0].get()
    }

    pub(crate) fn poke(&self, at: Word, value: u64) {
        self.0.words[at.0].set(value);
    }

    /// From now on loads are answered by this.
    pub(crate) fn lie(&self, answer: impl FnMut(usize, Look, u64) -> u64 + 'static) {
        *self.0.answer.borrow_mut() = Some(Box::new(answer));
    }

    pub(crate) fn tell_the_truth(&self) {
        *self.0.answer.borrow_mut() = None;
    }

    /// The looks since the last time.
    pub(crate) fn take_looks(&self) -> Vec<(usize, Look)> {
        self.0.looks.take()
    }

    /// The accesses since the last time.
    pub(crate) fn take_steps(&self) -> u64 {
        self.0.steps.take()
    }

    /// The wakes since the last time: each is a system call.
    pub(crate) fn take_wakes(&self) -> u64 {
        self.0.wakes.take()
    }

    fn cell(&self, at: Word) -> &Cell<u64> {
        let steps = self.0.steps.get() + 1;
        assert!(steps < 10_000_000, "a call takes a bounded number of steps");
        self.0.steps.set(steps);
        self.0.words.get(at.0).unwrap_or_else(|| panic!("word {} of {}", at.0, self.len()))
    }

    fn look(&self, at: Word, look: Look) -> u64 {
        let truth = self.cell(at).get();
        self.0.looks.borrow_mut().push((at.0, look));
        // Taken out, so that it may poke.
        let Some(mut answer) = self.0.answer.take() else { return truth };
        let told = answer(at.0, look, truth);
        *self.0.answer.borrow_mut() = Some(answer);
        told
    }
}

impl Memory for Words {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, _: Ordering, site: Site) -> u64 {
        self.look(at, Look::Load(site))
    }

    fn store(&self, at: Word, value: u64, _: Ordering, _: Site) {
        self.cell(at).set(value);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, _: Site) -> Result<u64, u64> {
        let found = self.cell(at).get();
        if found == current {
            self.cell(at).set(new);
            Ok(found)
        } else {
            Err(found)
        }
    }

    fn fetch_add(&self, at: Word, n: u64, _: Ordering, _: Site) -> u64 {
        let cell = self.cell(at);
        cell.replace(cell.get().wrapping_add(n))
    }

    fn fetch_max(&self, at: Word, value: u64, _: Ordering, _: Site) {
        let cell = self.cell(at);
        cell.set(cell.get().max(value));
    }

    fn fence(&self, _: Ordering, _: Site) {}

    fn light_barrier(&self, _: Barrier, _: Site) {}

    fn heavy_barrier(&self, _: Barrier, _: Site) -> bool {
        true
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (n, bytes) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.cell(at.plus(n)).set(u64::from_ne_bytes(word));
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for (n, bytes) in bytes.chunks_mut(8).enumerate() {
            let word = self.look(at.plus(n), Look::Copy);
            bytes.copy_from_slice(&word.to_ne_bytes()[..bytes.len()]);
        }
    }

    fn pause(&self) {}

    /// Returns for no reason, as it may.
    fn wait(&self, _: Word, _: u32, _: Duration, _: Site) {}

    fn wake(&self, _: Word, _: Site) {
        self.0.wakes.set(self.0.wakes.get() + 1);
    }

    fn drain(&self, semaphore: Semaphore, _: u64, _: Site) -> bool {
        let _ = self.cell(semaphore.at);
        true
    }

    fn take(&self, semaphore: Semaphore, _: Duration, _: Site) {
        let _ = self.cell(semaphore.at);
    }

    fn post(&self, semaphore: Semaphore, _: Site) {
        let _ = self.cell(semaphore.at);
        self.0.wakes.set(self.0.wakes.get() + 1);
    }
}

pub(crate) const CAPACITY: u64 = 4096;
pub(crate) const SLOTS: u64 = 4;

/// Both segments of a small ring, and handles to them.
pub(crate) struct Bench {
    pub(crate) ring: Words,
    pub(crate) registry: Words,
    pub(crate) layouts: (RingLayout, RegistryLayout),
}

pub(crate) type TestWriter = Writer<Words>;
pub(crate) type TestReader = Reader<Words>;

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::starting_at(0)
    }

    /// A ring whose first record stands at this position.
    pub(crate) fn starting_at(start: u64) -> Bench {
        let payload = PayloadType::default();
        let geometry = Geometry {
            capacity: CAPACITY,
            blocks: 4,
            alignment: 8,
            reader_slots: SLOTS,
            start,
            may_evict: false,
            waking: Waking::default(),
            payload,
        };
        let layout = RingLayout::new(geometry, 1).expect("a small ring");
        let slots = RegistryLayout::new(SLOTS, 1);
        let (ring, registry) = (Words::zeroed(layout.length), Words::zeroed(slots.length));
        slots.format(&registry);
        layout.format(&ring);
        Bench { ring, registry, layouts: (layout, slots) }
    }

    pub(crate) fn views(&self) -> (Ring<Words>, Registry<Words>) {
        let (ring, registry) = self.layouts.clone();
        (Ring::new(self.ring.clone(), ring), Registry::new(self.registry.clone(), registry))
    }

    pub(crate) fn writer(&self) -> TestWriter {
        let (ring, registry) = self.views();
        Writer::new(ring, registry, true)
    }

    pub(crate) fn lossless(&self) -> TestReader {
        let (ring, registry) = self.views();
        Reader::join_lossless(ring, registry, Start::Oldest, true, 0).expect("a slot")
    }

    /// A lossy reader without the registry.
    pub(crate) fn follower(&self) -> TestReader {
        self.try_follower(Start::Oldest).expect("a ring")
    }

    /// A lossless reader, or a follower.
    pub(crate) fn try_reader(&self, lossless: bool, start: Start) -> Result<TestReader, JoinError> {
        let (ring, registry) = self.views();
        if lossless { Reader::join_lossless(ring, registry, start, true, 0) } else { self.try_follower(start) }
    }

    pub(crate) fn try_follower(&self, start: Start) -> Result<TestReader, JoinError> {
        Reader::join_lossy(self.views().0, None, start, false, 0)
    }
}

// ---- the stream that goes through it ----

pub(crate) const BOUND: u64 = 300;

pub(crate) fn publish(writer: &mut TestWriter) -> Result<u64, Refused> {
    writer.try_publish(&record_of(writer.sequence(), BOUND))
}

pub(crate) fn copy_out(payload: Payload<'_, Words>) -> Vec<u8> {
    let mut bytes = vec![0; payload.len()];
    payload.copy_out(&mut bytes);
    bytes
}

pub(crate) fn receive(reader: &mut TestReader) -> Result<Vec<u8>, Stop> {
    let Read { value, sequence, .. } = reader.read(copy_out).inspect(|read| assert_eq!(read.len, read.value.len()))?;
    assert_eq!(sequence, reader.sequence());
    let next = reader.read(|_| ())?.next();
    reader.release(next);
    Ok(value)
}

/// Receives the next record of the stream, whole.
pub(crate) fn receive_whole(reader: &mut TestReader) -> Result<(), Stop> {
    let sequence = reader.sequence();
    receive(reader).map(|bytes| assert_whole(sequence, &bytes, BOUND))
}

pub(crate) fn drain(reader: &mut TestReader) {
    while receive_whole(reader).is_ok() {}
}

/// Values that arithmetic trips over.
pub(crate) fn odd_values(position: u64) -> Vec<u64> {
    let mut values =
        vec![0, 1, 2, 3, 7, 8, 2041, 4088, 4089, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 7, u64::MAX - 4095];
    values.extend([(1 << 32) | 1, (1 << 32) | 4089, (1 << 32) - 1, (1 << 40) + 1]);
    values.extend((0..64).step_by(8).flat_map(|d| [position.wrapping_add(d), position.wrapping_sub(d)]));
    values.extend([position.wrapping_add(CAPACITY), position.wrapping_sub(CAPACITY)]);
    values
}
