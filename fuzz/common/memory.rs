//! Memory that takes no nonsense: any access out of bounds panics, and so does a call that takes too many steps. And it
//! can lie: some loads are answered with another value than is there, as if a peer had written between two looks. Or a peer
//! really writes: some accesses are preceded by a store, which stays.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shmcast::layout::SEMAPHORE_BYTES;
use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

/// One false answer: `skip` more loads are answered truly, then one is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lie {
    pub(crate) skip: u8,
    pub(crate) kind: LieKind,
}

/// What a false answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LieKind {
    /// This value.
    Raw(u64),
    /// So much more than what is there.
    Add(i64),
    /// What was loaded the time before.
    Last,
}

/// A store of a peer's, before the access that follows on `after` others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) after: u8,
    pub(crate) spot: Spot,
    pub(crate) change: Change,
}

/// Where: modulo the length of the segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spot {
    /// So far from the word that is about to be accessed.
    Near(isize),
    At(usize),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    To(u64),
    Add(i64),
}

/// A segment in private memory, as hostile as can be.
#[derive(Clone, Debug)]
pub(crate) struct Guarded(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    words: Vec<Cell<u64>>,
    lies: RefCell<VecDeque<Lie>>,
    last: Cell<u64>,
    steps: Cell<u64>,
    strikes: RefCell<VecDeque<Strike>>,
    /// Does the peer strike now?
    armed: Cell<bool>,
    /// Strikes so far.
    struck: Cell<u64>,
}

impl Guarded {
    /// Zeroed.
    pub(crate) fn zeroed(bytes: u64) -> Guarded {
        let words = vec![Cell::new(0); (bytes / 8) as usize];
        Guarded(Rc::new(Inner {
            words,
            lies: RefCell::default(),
            last: Cell::new(0),
            steps: Cell::new(u64::MAX),
            strikes: RefCell::default(),
            armed: Cell::new(false),
            struck: Cell::new(0),
        }))
    }

    /// The stores to come; they come while the memory is [armed](Self::arm).
    pub(crate) fn set_strikes(&self, strikes: VecDeque<Strike>) {
        *self.0.strikes.borrow_mut() = strikes;
    }

    /// From now on the peer strikes, or holds still.
    pub(crate) fn arm(&self, armed: bool) {
        self.0.armed.set(armed);
    }

    /// How often it has.
    pub(crate) fn struck(&self) -> u64 {
        self.0.struck.get()
    }

    /// One store of a peer's, now.
    pub(crate) fn strike(&self, strike: Strike, there: usize) {
        self.0.struck.set(self.0.struck.get() + 1);
        let word = match strike.spot {
            Spot::Near(words) => there.wrapping_add_signed(words),
            Spot::At(word) => word,
        };
        let cell = &self.0.words[word % self.0.words.len()];
        cell.set(match strike.change {
            Change::To(value) => value,
            Change::Add(delta) => cell.get().wrapping_add_signed(delta),
        });
    }

    /// Before an access of a word.
    fn suffer(&self, there: usize) {
        if !self.0.armed.get() {
            return;
        }
        let due = {
            let mut strikes = self.0.strikes.borrow_mut();
            match strikes.front_mut() {
                Some(strike) if strike.after > 0 => {
                    strike.after -= 1;
                    None
                }
                _ => strikes.pop_front(),
            }
        };
        if let Some(due) = due {
            self.strike(due, there);
        }
    }

    /// The lies to tell from now on.
    pub(crate) fn set_lies(&self, lies: VecDeque<Lie>) {
        *self.0.lies.borrow_mut() = lies;
    }

    /// The steps that the calls until the next one of this may take.
    pub(crate) fn set_budget(&self, steps: u64) {
        self.0.steps.set(steps);
    }

    /// The number of words.
    pub(crate) fn len(&self) -> usize {
        self.0.words.len()
    }

    /// What is there, if it is within the segment.
    pub(crate) fn peek(&self, word: usize) -> Option<u64> {
        self.0.words.get(word).map(Cell::get)
    }

    /// Changes what is there, if it is within the segment.
    pub(crate) fn poke(&self, word: usize, value: u64) {
        if let Some(cell) = self.0.words.get(word) {
            cell.set(value);
        }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.words.iter().flat_map(|word| word.get().to_ne_bytes()).collect()
    }

    fn step(&self) {
        let left = self.0.steps.get().checked_sub(1).expect("a call takes a bounded number of steps");
        self.0.steps.set(left);
    }

    #[track_caller]
    fn cell(&self, at: Word) -> &Cell<u64> {
        self.step();
        self.suffer(at.0);
        self.0.words.get(at.0).unwrap_or_else(|| panic!("word {} of {}", at.0, self.len()))
    }

    #[track_caller]
    fn range(&self, at: Word, bytes: usize) -> &[Cell<u64>] {
        self.step();
        let end = at.0.checked_add(bytes.div_ceil(8)).expect("no overflow");
        self.0.words.get(at.0..end).unwrap_or_else(|| panic!("{bytes} bytes at word {} of {}", at.0, self.len()))
    }

    fn answer(&self, truth: u64) -> u64 {
        let mut lies = self.0.lies.borrow_mut();
        let value = match lies.front_mut() {
            None => truth,
            Some(lie) if lie.skip > 0 => {
                lie.skip -= 1;
                truth
            }
            Some(lie) => {
                let value = match lie.kind {
                    LieKind::Raw(value) => value,
                    LieKind::Add(delta) => truth.wrapping_add_signed(delta),
                    LieKind::Last => self.0.last.get(),
                };
                lies.pop_front();
                value
            }
        };
        self.0.last.set(value);
        value
    }
}

impl Memory for Guarded {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, _: Ordering, _: Site) -> u64 {
        self.answer(self.cell(at).get())
    }

    fn store(&self, at: Word, value: u64, _: Ordering, _: Site) {
        self.cell(at).set(value);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, _: Site) -> Result<u64, u64> {
        let cell = self.cell(at);
        let found = cell.get();
        if found == current {
            cell.set(new);
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
        for (cell, bytes) in self.range(at, bytes.len()).iter().zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            cell.set(u64::from_ne_bytes(word));
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for (nth, (cell, bytes)) in self.range(at, bytes.len()).iter().zip(bytes.chunks_mut(8)).enumerate() {
            self.suffer(at.0 + nth);
            bytes.copy_from_slice(&cell.get().to_ne_bytes()[..bytes.len()]);
        }
    }

    fn pause(&self) {
        self.step();
    }

    /// Nobody else runs here: returns for no reason, as it may.
    fn wait(&self, at: Word, _: u32, _: Duration, _: Site) {
        let _ = self.cell(at);
    }

    fn wake(&self, at: Word, _: Site) {
        let _ = self.cell(at);
    }

    fn drain(&self, semaphore: Semaphore, _: u64, _: Site) -> bool {
        let _ = self.range(semaphore.at, SEMAPHORE_BYTES as usize);
        true
    }

    fn take(&self, semaphore: Semaphore, _: Duration, _: Site) {
        let _ = self.range(semaphore.at, SEMAPHORE_BYTES as usize);
    }

    fn post(&self, semaphore: Semaphore, _: Site) {
        let _ = self.range(semaphore.at, SEMAPHORE_BYTES as usize);
    }
}
