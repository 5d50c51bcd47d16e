//! Two memories without a segment: loom's atomics, and the plain words of one thread.
//!
//! # The modelled futex
//! With [`Waiting::Sleeps`], `wait` compares the newest value of the word and blocks until a `wake` of the same word
//! comes. There is no timeout: a lost wakeup is a deadlock. Only a sleep of no length ends at once, as one does that was
//! interrupted or timed out: behind everything that announces a sleeper.
//! - The compare is a failing relaxed compare-exchange: it sees the newest value, stores nothing, and synchronises with
//!   nobody. The list of sleepers is a plain cell that loom cannot see.
//! - Blocking is `loom::thread::park`; the wake is `unpark`, which adds ONE edge that a futex does not promise: all that
//!   the waker did before happens before what the sleeper does next. There is no edge from the sleeper to the waker.
//! - `wake` takes a step of its own on the word before it looks at the list, so that other threads can run between the
//!   store of the wake word and the wake itself.
//!
//! # The modelled semaphore
//! A count of tokens, which a post raises (Release) and who takes one lowers (Acquire): the edges that POSIX promises. Who finds
//! none blocks until a post, without a timeout, as above. More tokens than [`MOST_TOKENS`] fail the model.
//!
//! Because of that edge, and because the full fences of the sleeping protocol order more than the language says, every
//! property that is not about sleeping is modelled with [`Waiting::Yields`]: there `wait` gives the turn away and both
//! barriers do nothing, as the light one does on the machine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};
use std::time::Duration;

use loom::sync::atomic::AtomicU64;
use loom::thread::Thread;
use shmcast::layout::{RegistryLayout, RingLayout};
use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

/// What `wait` and the two barriers of a model do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// `wait` gives the turn away; the barriers do nothing. For everything but sleeping.
    Yields,
    /// `wait` blocks until it is woken; both barriers are `fence(SeqCst)`.
    Sleeps,
}

/// One word of a model.
enum Cellular {
    /// A word that no two threads race for: the header, the barrier mode, the process ids.
    Constant(Cell<u64>),
    /// A word of the protocol.
    Shared(AtomicU64),
}

/// A segment of loom atomics. A clone is another handle of the same words.
///
/// Must be made within a model's closure, by its first thread, before the others are spawned.
#[derive(Clone)]
pub struct LoomMemory(Rc<Segment>);

struct Segment {
    words: Vec<Cellular>,
    waiting: Waiting,
    /// A word that every full fence looks at: see [`LoomMemory::full_fence`].
    fences: Rc<AtomicU64>,
    /// The tokens of the semaphores, by their numbers.
    tokens: Vec<AtomicU64>,
    /// Who sleeps on which word. Loom runs all threads of a model on one thread of the system.
    sleepers: RefCell<Vec<(Word, Thread)>>,
}

/// A value that no futex word takes in a model.
const NO_VALUE: u64 = u64::MAX;

/// More tokens than this are never left in a semaphore: one for the sleep that ended otherwise, one for that which follows, and one
/// of a take-over. (That they do not add up is counted in `tests/counts.rs`.)
pub const MOST_TOKENS: u64 = 3;

impl LoomMemory {
    /// The freshly formatted segments of one ring, and of its registry.
    #[must_use]
    pub fn pair(ring: &RingLayout, registry: &RegistryLayout, waiting: Waiting) -> (LoomMemory, LoomMemory) {
        let fences = Rc::new(AtomicU64::new(0));
        (LoomMemory::ring(ring, waiting, &fences), LoomMemory::registry(registry, waiting, &fences))
    }

    fn ring(layout: &RingLayout, waiting: Waiting, fences: &Rc<AtomicU64>) -> LoomMemory {
        let plain = Plain::new(layout.length);
        layout.format(&plain);
        let geometry = &layout.geometry;
        let mut shared = vec![layout.limit(), layout.announced(), layout.wake(), layout.closed(), layout.epoch()];
        let blocks = (0..geometry.blocks).map(|block| layout.checkpoint_at(block * geometry.block()));
        for cell in (0..2).map(|index| layout.head_cell(index)).chain(blocks) {
            shared.extend([cell, cell.plus(1)]);
        }
        shared.extend((0..geometry.capacity / 8).map(|word| layout.data().word(word * 8)));
        LoomMemory::of(&plain, &shared, waiting, fences, 0)
    }

    fn registry(layout: &RegistryLayout, waiting: Waiting, fences: &Rc<AtomicU64>) -> LoomMemory {
        let plain = Plain::new(layout.length);
        layout.format(&plain);
        let mut shared = vec![layout.sleeping(), layout.room(), layout.writer_sleeping(), layout.high_water()];
        for slot in 0..layout.reader_slots {
            shared.extend([layout.slot_state(slot), layout.slot_cursor(slot), layout.slot_sleeping(slot)]);
        }
        LoomMemory::of(&plain, &shared, waiting, fences, layout.semaphores())
    }

    /// Loom atomics only for the words that threads race for: each step of a model costs executions.
    fn of(plain: &Plain, shared: &[Word], waiting: Waiting, fences: &Rc<AtomicU64>, semaphores: u64) -> LoomMemory {
        let mut words: Vec<Cellular> = plain.0.iter().map(|word| Cellular::Constant(word.clone())).collect();
        for &Word(at) in shared {
            words[at] = Cellular::Shared(AtomicU64::new(plain.0[at].get()));
        }
        let tokens = (0..semaphores).map(|_| AtomicU64::new(0)).collect();
        LoomMemory(Rc::new(Segment { words, waiting, fences: Rc::clone(fences), tokens, sleepers: RefCell::default() }))
    }

    /// A full fence. In loom a fence is no step: no other thread runs between it and the access before it, and the two
    /// orders of two fences are explored only where accesses around them happen to conflict. So each full fence takes a
    /// step first, in conflict with every other full fence: a look that adds no edge.
    fn full_fence(&self) {
        look(&self.0.fences);
        loom::sync::atomic::fence(SeqCst);
    }

    /// Takes a token, if there is one.
    fn take_one(&self, semaphore: Semaphore) -> bool {
        let tokens = &self.0.tokens[semaphore.number as usize];
        loop {
            match look(tokens) {
                0 => return false,
                found if tokens.compare_exchange(found, found - 1, Ordering::Acquire, Relaxed).is_ok() => return true,
                _ => {}
            }
        }
    }

    /// Blocks until a wake. No step of another thread can come between the look that led here, this list and the block: as in the
    /// kernel.
    fn sleep(&self, at: Word) {
        self.0.sleepers.borrow_mut().push((at, loom::thread::current()));
        loom::thread::park();
    }

    fn unpark(&self, at: Word) {
        let mut sleepers = self.0.sleepers.borrow_mut();
        for (_, thread) in sleepers.extract_if(.., |(word, _)| *word == at) {
            thread.unpark();
        }
    }

    /// The newest value of a word, whatever this thread has seen so far, and without any edge.
    fn newest(&self, at: Word) -> u64 {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) => cell.get(),
            Cellular::Shared(atomic) => look(atomic),
        }
    }
}

/// The newest value, as a step in conflict with every other access; stores nothing and synchronises with nobody.
fn look(atomic: &AtomicU64) -> u64 {
    match atomic.compare_exchange(NO_VALUE, NO_VALUE, Relaxed, Relaxed) {
        Ok(value) | Err(value) => value,
    }
}

impl fmt::Debug for LoomMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomMemory").field("words", &self.0.words.len()).field("waiting", &self.0.waiting).finish()
    }
}

impl Memory for LoomMemory {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, _: Site) -> u64 {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) => cell.get(),
            Cellular::Shared(atomic) => atomic.load(order),
        }
    }

    fn store(&self, at: Word, value: u64, order: Ordering, _: Site) {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) => cell.set(value),
            Cellular::Shared(atomic) => atomic.store(value, order),
        }
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, _: Site) -> Result<u64, u64> {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) if cell.get() == current => Ok(cell.replace(new)),
            Cellular::Constant(cell) => Err(cell.get()),
            Cellular::Shared(atomic) => atomic.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire),
        }
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, _: Site) -> u64 {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) => cell.replace(cell.get().wrapping_add(n)),
            Cellular::Shared(atomic) => atomic.fetch_add(n, order),
        }
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, _: Site) {
        match &self.0.words[at.0] {
            Cellular::Constant(cell) => cell.set(cell.get().max(value)),
            Cellular::Shared(atomic) => drop(atomic.fetch_max(value, order)),
        }
    }

    fn fence(&self, order: Ordering, _: Site) {
        if order == SeqCst { self.full_fence() } else { loom::sync::atomic::fence(order) }
    }

    fn light_barrier(&self, _: Barrier, _: Site) {
        if self.0.waiting == Waiting::Sleeps {
            self.full_fence();
        }
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.light_barrier(mode, site);
        true
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (n, bytes) in bytes.chunks(8).enumerate() {
            self.store(at.plus(n), word_of(bytes), Relaxed, Site::StagedHeader);
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for (n, bytes) in bytes.chunks_mut(8).enumerate() {
            let word = self.load(at.plus(n), Relaxed, Site::Header).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }

    fn pause(&self) {
        loom::thread::yield_now();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, _: Site) {
        if self.0.waiting == Waiting::Yields {
            loom::thread::yield_now();
            return;
        }
        // The compare, which is a step, comes first.
        if self.newest(at) as u32 == seen && !slice.is_zero() {
            self.sleep(at);
        }
    }

    fn wake(&self, at: Word, _: Site) {
        if self.0.waiting == Waiting::Yields {
            return;
        }
        // A step of its own, in conflict with the compare of `wait`.
        self.newest(at);
        self.unpark(at);
    }

    fn drain(&self, semaphore: Semaphore, most: u64, _: Site) -> bool {
        if self.0.waiting == Waiting::Sleeps {
            let _ = (0..most).take_while(|_| self.take_one(semaphore)).count();
        }
        true
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, _: Site) {
        if self.0.waiting == Waiting::Yields {
            loom::thread::yield_now();
        } else if !self.take_one(semaphore) && !slice.is_zero() {
            self.sleep(semaphore.at);
            assert!(self.take_one(semaphore), "a post leaves a token, and there is one to take it");
        }
    }

    fn post(&self, semaphore: Semaphore, _: Site) {
        if self.0.waiting == Waiting::Sleeps {
            let left = self.0.tokens[semaphore.number as usize].fetch_add(1, Ordering::Release);
            assert!(left < MOST_TOKENS, "{left} tokens and one more");
            self.unpark(semaphore.at);
        }
    }
}

/// Zeroed words for one thread, without atomics, and the tokens of its semaphores.
#[derive(Clone, Debug)]
pub struct Plain(Rc<[Cell<u64>]>, Rc<RefCell<BTreeMap<Semaphore, u64>>>);

impl Plain {
    /// At least `length` bytes.
    #[must_use]
    pub fn new(length: u64) -> Plain {
        Plain((0..length.div_ceil(8)).map(|_| Cell::new(0)).collect(), Rc::default())
    }

    /// The tokens that a semaphore has.
    #[must_use]
    pub fn tokens(&self, semaphore: Semaphore) -> u64 {
        self.1.borrow().get(&semaphore).copied().unwrap_or(0)
    }
}

impl Memory for Plain {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, _: Ordering, _: Site) -> u64 {
        self.0[at.0].get()
    }

    fn store(&self, at: Word, value: u64, _: Ordering, _: Site) {
        self.0[at.0].set(value);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, _: Site) -> Result<u64, u64> {
        let cell = &self.0[at.0];
        if cell.get() == current { Ok(cell.replace(new)) } else { Err(cell.get()) }
    }

    fn fetch_add(&self, at: Word, n: u64, _: Ordering, _: Site) -> u64 {
        self.0[at.0].replace(self.0[at.0].get().wrapping_add(n))
    }

    fn fetch_max(&self, at: Word, value: u64, _: Ordering, _: Site) {
        self.0[at.0].set(self.0[at.0].get().max(value));
    }

    fn fence(&self, _: Ordering, _: Site) {}

    fn light_barrier(&self, _: Barrier, _: Site) {}

    fn heavy_barrier(&self, _: Barrier, _: Site) -> bool {
        true
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (cell, bytes) in self.0[at.0..].iter().zip(bytes.chunks(8)) {
            cell.set(word_of(bytes));
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for (cell, bytes) in self.0[at.0..].iter().zip(bytes.chunks_mut(8)) {
            bytes.copy_from_slice(&cell.get().to_ne_bytes()[..bytes.len()]);
        }
    }

    fn pause(&self) {}

    fn wait(&self, _: Word, _: u32, _: Duration, _: Site) {}

    fn wake(&self, _: Word, _: Site) {}

    fn drain(&self, semaphore: Semaphore, most: u64, _: Site) -> bool {
        let mut tokens = self.1.borrow_mut();
        let tokens = tokens.entry(semaphore).or_default();
        *tokens = tokens.saturating_sub(most);
        true
    }

    fn take(&self, semaphore: Semaphore, _: Duration, site: Site) {
        self.drain(semaphore, 1, site);
    }

    fn post(&self, semaphore: Semaphore, _: Site) {
        *self.1.borrow_mut().entry(semaphore).or_default() += 1;
    }
}

/// Up to eight bytes as a word; the rest is zero.
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}
