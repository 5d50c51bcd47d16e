//! Bugs that a tool must find: positive controls. Each test must FAIL under the tool that it names, and the scripts say so
//! if one passes. Without a tool some of them are undefined behaviour, so they are only there for the tools.

use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::Duration;

use shmcast::memory::{Backing, Barrier, Mapped, Memory, Semaphore, Word};
use shmcast::ring::Site;

use super::words::{RECORDS, Race, race};

/// What is done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Payload words are stored as if nobody else could see them.
    PlainStores,
    /// A copy out reads a word behind the last one of the segment.
    OneTooMany,
    /// A copy in goes through a reference to a word, across an access of another thread's.
    References,
    /// A load goes by an address that was a number in between.
    Numbers,
    /// An access at a site is relaxed.
    Without(Site),
}

/// Heap words, with a flaw.
#[derive(Clone, Debug)]
struct Flawed(Mapped, Flaw);

impl Flawed {
    fn order(&self, order: Ordering, site: Site) -> Ordering {
        if self.1 == Flaw::Without(site) { Relaxed } else { order }
    }

    fn backing(&self) -> &dyn Backing {
        &**self.0.backing()
    }

    fn address(&self, at: Word) -> *mut u64 {
        self.backing().base().wrapping_add(at.0)
    }
}

impl Memory for Flawed {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        if self.1 == Flaw::Numbers && site == Site::LimitLook {
            let number = self.address(at).expose_provenance();
            let word = std::ptr::with_exposed_provenance_mut::<std::sync::atomic::AtomicUsize>(number);
            // SAFETY: a word of the segment: what is planted is where its address comes from.
            let _ = unsafe { &*word }.load(Relaxed);
        }
        self.0.load(at, self.order(order, site), site)
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.0.store(at, value, self.order(order, site), site);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        self.0.compare_exchange(at, current, new, site)
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        self.0.fetch_add(at, n, order, site)
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.0.fetch_max(at, value, order, site);
    }

    fn fence(&self, order: Ordering, site: Site) {
        self.0.fence(order, site);
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        self.0.light_barrier(mode, site);
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.0.heavy_barrier(mode, site)
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (n, bytes) in bytes.chunks_exact(8).enumerate() {
            let word = self.address(at.plus(n));
            match self.1 {
                // SAFETY: a word of the segment, aligned; what is planted is that readers look at it meanwhile.
                Flaw::PlainStores => unsafe { word.cast::<[u8; 8]>().write(bytes.try_into().expect("a word")) },
                Flaw::References => {
                    // SAFETY: as above; what is planted is that it is no secret.
                    let secret = unsafe { &mut *word };
                    self.0.copy_in(at.plus(n), bytes);
                    *secret = u64::from_ne_bytes(bytes.try_into().expect("a word"));
                }
                _ => self.0.copy_in(at.plus(n), bytes),
            }
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        if self.1 == Flaw::OneTooMany {
            let behind = Word(self.backing().words());
            // SAFETY: none: this is what is planted.
            let _ = std::hint::black_box(unsafe { self.address(behind).read() });
        }
        self.0.copy_out(at, bytes);
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        self.0.wait(at, seen, slice, site);
    }

    fn wake(&self, at: Word, site: Site) {
        self.0.wake(at, site);
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.0.drain(semaphore, most, site)
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        self.0.take(semaphore, slice, site);
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        self.0.post(semaphore, site);
    }
}

/// The race of one lossy reader with this flaw.
fn plant(flaw: Flaw) {
    race(Race { records: RECORDS, lossless: false }, |memory| Flawed(memory, flaw));
}

/// The decorator alone breaks nothing: `WakeSeen` is not in these races.
#[test]
fn no_flaw_at_all() {
    plant(Flaw::Without(Site::WakeSeen));
}

#[test]
#[ignore = "planted: a data race, for Miri and ThreadSanitizer"]
fn plain_stores() {
    plant(Flaw::PlainStores);
}

#[test]
#[ignore = "planted: a read out of bounds, for Miri and AddressSanitizer"]
fn one_too_many() {
    plant(Flaw::OneTooMany);
}

#[test]
#[ignore = "planted: a reference to a shared word, for Miri's rules of borrows"]
fn references() {
    plant(Flaw::References);
}

#[test]
#[ignore = "planted: an address out of a number, for Miri's strict provenance"]
fn numbers() {
    plant(Flaw::Numbers);
}

/// P1: the payload comes with the header.
#[test]
#[ignore = "planted: a relaxed commit, for Miri's weak memory"]
fn relaxed_commit() {
    plant(Flaw::Without(Site::Commit));
}

#[test]
#[ignore = "planted: memory that nobody frees, for LeakSanitizer"]
fn leak() {
    race(Race { records: RECORDS, lossless: false }, |memory| {
        // As if a handle forgot its mapping. Filled, so that no stray copy of the address is mistaken for an owner.
        std::mem::forget(vec![memory.words(); 64]);
        memory
    });
}
