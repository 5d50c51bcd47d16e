//! `Mortal`: a party that dies after its k-th store, for every k. A process that is killed stops between two stores (the kernel
//! completes what was issued), so what it leaves is what its program order stored up to there.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

/// What is left of a party's life, in stores. A clone is the same life: a party has two segments.
#[derive(Clone, Debug)]
pub struct Life(Rc<Cell<u64>>);

impl Life {
    /// A life of so many stores.
    #[must_use]
    pub fn new(stores: u64) -> Life {
        Life(Rc::new(Cell::new(stores)))
    }

    /// A life without an end.
    #[must_use]
    pub fn endless() -> Life {
        Life::new(u64::MAX)
    }

    /// Stores that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.get()
    }

    /// Is the party dead? It may run on, but nobody sees it, and it sees nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// One more store, if there is one left.
    fn lives(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

/// The memory of a party that may die.
#[derive(Clone, Debug)]
pub struct Mortal<M> {
    inner: M,
    life: Life,
}

impl<M> Mortal<M> {
    /// Over the memory that all parties share.
    #[must_use]
    pub fn new(inner: M, life: &Life) -> Mortal<M> {
        Mortal { inner, life: life.clone() }
    }
}

impl<M: Memory + Clone> Memory for Mortal<M> {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        if self.life.is_over() { 0 } else { self.inner.load(at, order, site) }
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        if self.life.lives() {
            self.inner.store(at, value, order, site);
        }
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        if self.life.lives() { self.inner.compare_exchange(at, current, new, site) } else { Err(!current) }
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        if self.life.lives() { self.inner.fetch_add(at, n, order, site) } else { 0 }
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        if self.life.lives() {
            self.inner.fetch_max(at, value, order, site);
        }
    }

    fn fence(&self, order: Ordering, site: Site) {
        if !self.life.is_over() {
            self.inner.fence(order, site);
        }
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        if !self.life.is_over() {
            self.inner.light_barrier(mode, site);
        }
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.life.is_over() || self.inner.heavy_barrier(mode, site)
    }

    /// Word by word: a copy may end in the middle.
    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (word, bytes) in bytes.chunks(8).enumerate() {
            if self.life.lives() {
                self.inner.copy_in(at.plus(word), bytes);
            }
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        if !self.life.is_over() {
            self.inner.copy_out(at, bytes);
        }
    }

    fn pause(&self) {
        if !self.life.is_over() {
            self.inner.pause();
        }
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        if !self.life.is_over() {
            self.inner.wait(at, seen, slice, site);
        }
    }

    fn wake(&self, at: Word, site: Site) {
        if self.life.lives() {
            self.inner.wake(at, site);
        }
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.life.is_over() || self.inner.drain(semaphore, most, site)
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        if !self.life.is_over() {
            self.inner.take(semaphore, slice, site);
        }
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        if self.life.lives() {
            self.inner.post(semaphore, site);
        }
    }
}
