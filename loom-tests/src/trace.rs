//! `Trace`: writes down what a party asks of memory, with the order of each access, for an argument about the one edge that loom
//! cannot see: that loads are over before another party's later stores (load buffering).
//!
//! The argument is the language's: a load that *happens before* a store never takes its value (read-write coherence). So it
//! is enough that everything which the one party loaded is sequenced before a release of it, and everything which
//! the other one stores is sequenced behind the acquire that sees that release. On Arm the same two make the only order
//! there is between them: `LDR; STLR` against `LDR; DMB ISHLD; STR` is forbidden to have both loads see the other's store,
//! and without either half it is allowed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Release, SeqCst};
use std::time::Duration;

use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

use crate::weaken::Segment;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load of a word.
    Load(Segment, Word, Ordering),
    /// A store, or a read-modify-write, of a word.
    Store(Segment, Word, Ordering),
    /// A fence.
    Fence(Ordering),
}

/// A party's accesses, in the order of its program. A clone is the same book.
#[derive(Clone, Debug, Default)]
pub struct Book(Rc<RefCell<Vec<Access>>>);

impl Book {
    /// What was written down since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Access> {
        self.0.take()
    }

    fn note(&self, access: Access) {
        self.0.borrow_mut().push(access);
    }
}

/// Memory whose accesses are written down.
#[derive(Clone, Debug)]
pub struct Trace<M> {
    inner: M,
    segment: Segment,
    book: Book,
}

impl<M> Trace<M> {
    /// One segment of a party, into its book.
    #[must_use]
    pub fn new(inner: M, segment: Segment, book: &Book) -> Trace<M> {
        Trace { inner, segment, book: book.clone() }
    }

    fn words(&self, at: Word, bytes: usize) -> impl Iterator<Item = Word> {
        (0..bytes.div_ceil(8)).map(move |word| at.plus(word))
    }
}

impl<M: Memory + Clone> Memory for Trace<M> {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        self.book.note(Access::Load(self.segment, at, order));
        self.inner.load(at, order, site)
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.book.note(Access::Store(self.segment, at, order));
        self.inner.store(at, value, order, site);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        self.book.note(Access::Store(self.segment, at, AcqRel));
        self.inner.compare_exchange(at, current, new, site)
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        self.book.note(Access::Store(self.segment, at, order));
        self.inner.fetch_add(at, n, order, site)
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.book.note(Access::Store(self.segment, at, order));
        self.inner.fetch_max(at, value, order, site);
    }

    fn fence(&self, order: Ordering, site: Site) {
        self.book.note(Access::Fence(order));
        self.inner.fence(order, site);
    }

    /// Not written down: nothing but the handshake with a sleeper may rely on it.
    fn light_barrier(&self, mode: Barrier, site: Site) {
        self.inner.light_barrier(mode, site);
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.inner.heavy_barrier(mode, site)
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for word in self.words(at, bytes.len()) {
            self.book.note(Access::Store(self.segment, word, Ordering::Relaxed));
        }
        self.inner.copy_in(at, bytes);
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for word in self.words(at, bytes.len()) {
            self.book.note(Access::Load(self.segment, word, Ordering::Relaxed));
        }
        self.inner.copy_out(at, bytes);
    }

    fn pause(&self) {
        self.inner.pause();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        self.inner.wait(at, seen, slice, site);
    }

    fn wake(&self, at: Word, site: Site) {
        self.inner.wake(at, site);
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.inner.drain(semaphore, most, site)
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        self.inner.take(semaphore, slice, site);
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        self.inner.post(semaphore, site);
    }
}

/// Are the loads of some words of the ring, by who let go of them with a store to `flag` in the registry, over before the
/// stores to them by who saw that? Answers how many words that is about.
///
/// # Errors
/// The half of the edge that is missing.
///
/// # Panics
/// If nobody stored the flag, or looked at it, or there is no word that the one loaded and the other stored.
pub fn loads_are_over(
    words: impl Fn(Word) -> bool,
    let_go: &[Access],
    flag: Word,
    saw: &[Access],
) -> Result<usize, &'static str> {
    let release =
        let_go.iter().rposition(|access| matches!(access, Access::Store(Segment::Registry, word, _) if *word == flag));
    let acquire =
        saw.iter().position(|access| matches!(access, Access::Load(Segment::Registry, word, _) if *word == flag));
    let (release, acquire) = release.zip(acquire).expect("a store of the flag, and a look at it");
    let loaded = |access: &Access| match *access {
        Access::Load(Segment::Ring, word, _) if words(word) => Some(word),
        _ => None,
    };
    let all: BTreeSet<Word> = let_go[..release].iter().filter_map(loaded).collect();
    let stored = |access: &Access| match *access {
        Access::Store(Segment::Ring, word, _) if all.contains(&word) => Some(word),
        _ => None,
    };
    let shared: BTreeSet<Word> = saw[acquire..].iter().filter_map(stored).collect();
    let last = let_go[..release].iter().rposition(|access| loaded(access).is_some_and(|word| shared.contains(&word)));
    let first = saw[acquire..].iter().position(|access| stored(access).is_some());
    let (last, first) = last.zip(first).expect("a word that is read and then overwritten");
    if !orders(&let_go[last..=release], Release) {
        return Err("the loads may come after the flag");
    }
    if !orders(&saw[acquire..=acquire + first], Acquire) {
        return Err("the stores may come before the look at the flag");
    }
    Ok(shared.len())
}

/// Is the flag's access, the last of these for a release and the first for an acquire, of this order, or is there a fence of it
/// on the way?
fn orders(way: &[Access], half: Ordering) -> bool {
    let flag = if half == Release { way.last() } else { way.first() };
    let is = |order: Ordering| order == half || order == AcqRel || order == SeqCst;
    matches!(flag, Some(Access::Load(_, _, order) | Access::Store(_, _, order)) if is(*order))
        || way.iter().any(|access| matches!(access, Access::Fence(order) if is(*order)))
}
