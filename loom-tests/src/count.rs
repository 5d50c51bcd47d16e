//! `Count`: what an operation asks of memory, exactly. A performance test without noise.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Release, SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

/// Accesses by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Relaxed loads.
    pub loads: u64,
    /// Acquire loads.
    pub acquire_loads: u64,
    /// Relaxed stores.
    pub stores: u64,
    /// Release stores.
    pub release_stores: u64,
    /// Read-modify-writes.
    pub rmws: u64,
    /// Acquire fences.
    pub acquire_fences: u64,
    /// Release fences.
    pub release_fences: u64,
    /// Full fences.
    pub full_fences: u64,
    /// Fast sides of a store-load handshake.
    pub light_barriers: u64,
    /// Slow sides of a store-load handshake.
    pub heavy_barriers: u64,
    /// Words stored by copies.
    pub words_in: u64,
    /// Words loaded by copies.
    pub words_out: u64,
    /// Pauses.
    pub pauses: u64,
    /// Sleeps: system calls.
    pub waits: u64,
    /// Wakes: system calls.
    pub wakes: u64,
    /// Semaphores that were emptied: system calls if they are of System V.
    pub drains: u64,
}

/// Counts the accesses to one segment. A clone counts into the same books.
#[derive(Clone, Debug)]
pub struct Count<M> {
    inner: M,
    books: Arc<Mutex<Accesses>>,
}

impl<M: Memory> Count<M> {
    /// Counts from zero.
    #[must_use]
    pub fn new(inner: M) -> Count<M> {
        Count { inner, books: Arc::default() }
    }

    /// What was counted since the last time.
    #[must_use]
    pub fn take(&self) -> Accesses {
        std::mem::take(&mut *self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, entry: impl FnOnce(&mut Accesses) -> &mut u64, n: u64) {
        *entry(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner)) += n;
    }
}

impl<M: Memory + Clone> Memory for Count<M> {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        self.note(|n| if order == Acquire { &mut n.acquire_loads } else { &mut n.loads }, 1);
        self.inner.load(at, order, site)
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.note(|n| if order == Release { &mut n.release_stores } else { &mut n.stores }, 1);
        self.inner.store(at, value, order, site);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        self.note(|n| &mut n.rmws, 1);
        self.inner.compare_exchange(at, current, new, site)
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        self.note(|n| &mut n.rmws, 1);
        self.inner.fetch_add(at, n, order, site)
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.note(|n| &mut n.rmws, 1);
        self.inner.fetch_max(at, value, order, site);
    }

    fn fence(&self, order: Ordering, site: Site) {
        let entry = |n: &mut Accesses| match order {
            Acquire => n.acquire_fences += 1,
            Release => n.release_fences += 1,
            AcqRel | SeqCst => n.full_fences += 1,
            other => panic!("a fence of {other:?}"),
        };
        entry(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner));
        self.inner.fence(order, site);
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        self.note(|n| &mut n.light_barriers, 1);
        self.inner.light_barrier(mode, site);
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.note(|n| &mut n.heavy_barriers, 1);
        self.inner.heavy_barrier(mode, site)
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        self.note(|n| &mut n.words_in, bytes.len().div_ceil(8) as u64);
        self.inner.copy_in(at, bytes);
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        self.note(|n| &mut n.words_out, bytes.len().div_ceil(8) as u64);
        self.inner.copy_out(at, bytes);
    }

    fn pause(&self) {
        self.note(|n| &mut n.pauses, 1);
        self.inner.pause();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        self.note(|n| &mut n.waits, 1);
        self.inner.wait(at, seen, slice, site);
    }

    fn wake(&self, at: Word, site: Site) {
        self.note(|n| &mut n.wakes, 1);
        self.inner.wake(at, site);
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.note(|n| &mut n.drains, 1);
        self.inner.drain(semaphore, most, site)
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        self.note(|n| &mut n.waits, 1);
        self.inner.take(semaphore, slice, site);
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        self.note(|n| &mut n.wakes, 1);
        self.inner.post(semaphore, site);
    }
}
