//! The shared words of a ring, seen from outside: the live ones, and images of them.
//!
//! An image is what a SIGKILL at this instruction would leave: the words of both segments, copied to private memory, where the
//! shipped recovery and the shipped readers then run.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};
use std::time::Duration;

use crate::support::words::Words;
use memmap2::{MmapOptions, MmapRaw};
use shmcast::layout::slot::FREE;
use shmcast::layout::{HEADER_WORDS, RegistryLayout, RingLayout};
use shmcast::memory::{Barrier, Mapped, Memory, Semaphore, Word};
use shmcast::ring::{Registry, Ring, Site};

/// Maps a file of shared words.
pub(crate) fn map(path: &Path) -> Mapped {
    let file = File::options().read(true).write(true).open(path).expect("a file of ours");
    Mapped::new(Arc::new(Words(MmapRaw::map_raw(&file).expect("memory"))))
}

fn private(bytes: usize) -> Mapped {
    let words = MmapOptions::new().len(bytes).map_anon().expect("memory");
    Mapped::new(Arc::new(Words(words.into())))
}

/// A page of words through which a child tells how far it is.
#[derive(Clone)]
pub(crate) struct Page(Mapped);

impl Page {
    /// Not 0 while the child is within an operation: then each instruction is a kill point.
    pub(crate) const INSIDE: usize = 0;
    /// Records that the child has begun to publish, and those that it was told are published.
    pub(crate) const BEGUN: usize = 1;
    pub(crate) const COMMITTED: usize = 2;
    /// The operation it is at.
    pub(crate) const OPERATION: usize = 3;
    /// What a reader got: kind, sequence number or loss, whole or not.
    pub(crate) const KIND: usize = 4;
    pub(crate) const NUMBER: usize = 5;
    pub(crate) const WHOLE: usize = 6;

    pub(crate) fn create(path: &Path) -> Page {
        std::fs::write(path, [0; 64]).expect("a directory of ours");
        Page::open(path)
    }

    pub(crate) fn open(path: &Path) -> Page {
        Page(map(path))
    }

    #[inline]
    pub(crate) fn get(&self, word: usize) -> u64 {
        self.0.load(Word(word), Relaxed, Site::Header)
    }

    #[inline]
    pub(crate) fn set(&self, word: usize, value: u64) {
        self.0.store(Word(word), value, SeqCst, Site::Commit);
    }
}

/// Both segments of a ring, with their layouts.
#[derive(Clone)]
pub(crate) struct Segments {
    pub(crate) ring: Mapped,
    pub(crate) registry: Mapped,
    pub(crate) layouts: (RingLayout, RegistryLayout),
}

impl Segments {
    /// The live ones of a ring in files.
    pub(crate) fn open(path: &Path) -> Segments {
        let (ring, registry) = (map(path), map(&path.with_extension("registry")));
        let words = |memory: &Mapped| -> [u64; HEADER_WORDS] {
            std::array::from_fn(|word| memory.load(Word(word), Relaxed, Site::Header))
        };
        let layout = RingLayout::parse(&words(&ring), ring.words() as u64 * 8).expect("a ring");
        let slots =
            RegistryLayout::parse(&words(&registry), registry.words() as u64 * 8, &layout).expect("its registry");
        Segments { ring, registry, layouts: (layout, slots) }
    }

    /// Both sides' views, as the ring modules take them.
    pub(crate) fn views(&self) -> (Ring<Mapped>, Registry<Mapped>) {
        let (ring, registry) = self.layouts.clone();
        (Ring::new(self.ring.clone(), ring), Registry::new(self.registry.clone(), registry))
    }

    /// One word of the ring segment.
    #[inline]
    pub(crate) fn word(&self, at: Word) -> u64 {
        self.ring.load(at, Relaxed, Site::Header)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.word(self.layouts.0.limit())
    }

    /// As a reader does that falls asleep.
    pub(crate) fn set_sleeping(&self) {
        self.registry.store(self.layouts.1.sleeping(), 1, SeqCst, Site::SleepingSet);
    }
}

impl Segments {
    /// As a writer does that falls asleep.
    pub(crate) fn set_writer_sleeping(&self) {
        self.registry.store(self.layouts.1.writer_sleeping(), 1, SeqCst, Site::WriterSleepingSet);
    }
}

/// The bytes of both segments at one moment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) ring: Vec<u8>,
    pub(crate) registry: Vec<u8>,
}

impl Bytes {
    pub(crate) fn of(segments: &Segments) -> Bytes {
        let zeros = |memory: &Mapped| vec![0; memory.words() * 8];
        let mut bytes = Bytes { ring: zeros(&segments.ring), registry: zeros(&segments.registry) };
        bytes.take(segments);
        bytes
    }

    fn take(&mut self, segments: &Segments) {
        segments.ring.copy_out(Word(0), &mut self.ring);
        segments.registry.copy_out(Word(0), &mut self.registry);
    }

    /// Makes these the bytes of a pair of segments.
    pub(crate) fn put(&self, segments: &Segments) {
        segments.ring.copy_in(Word(0), &self.ring);
        segments.registry.copy_in(Word(0), &self.registry);
    }
}

/// A private copy of a live ring, taken again and again.
pub(crate) struct Image {
    live: Segments,
    pub(crate) copy: Segments,
    pub(crate) bytes: Bytes,
    last: Bytes,
}

impl Image {
    pub(crate) fn of(live: &Segments) -> Image {
        let bytes = Bytes::of(live);
        let copy = Segments {
            ring: private(bytes.ring.len()),
            registry: private(bytes.registry.len()),
            layouts: live.layouts.clone(),
        };
        Image { live: live.clone(), copy, last: bytes.clone(), bytes }
    }

    /// Takes the image of this moment; says whether it differs from the one before.
    pub(crate) fn take(&mut self) -> bool {
        std::mem::swap(&mut self.bytes, &mut self.last);
        self.bytes.take(&self.live);
        self.bytes.put(&self.copy);
        self.bytes != self.last
    }

    /// Without the reader in this slot, which lives and is somewhere else.
    pub(crate) fn free_slot(&self, slot: u64) {
        self.copy.registry.store(self.copy.layouts.1.slot_state(slot), FREE, SeqCst, Site::LeaveState);
    }
}

/// The live words as a reader here polls them, with its accesses counted: what a call takes at most is a promise.
#[derive(Clone)]
pub(crate) struct Counted {
    memory: Mapped,
    accesses: Rc<Cell<u64>>,
}

impl Counted {
    pub(crate) fn new(memory: Mapped) -> Counted {
        Counted { memory, accesses: Rc::default() }
    }

    /// The accesses since the last time it was asked.
    pub(crate) fn take_count(&self) -> u64 {
        self.accesses.take()
    }

    fn count(&self) -> &Mapped {
        self.accesses.set(self.accesses.get() + 1);
        &self.memory
    }
}

impl Memory for Counted {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        self.count().load(at, order, site)
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.count().store(at, value, order, site);
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        self.count().compare_exchange(at, current, new, site)
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        self.count().fetch_add(at, n, order, site)
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.count().fetch_max(at, value, order, site);
    }

    fn fence(&self, order: Ordering, site: Site) {
        self.memory.fence(order, site);
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        self.memory.light_barrier(mode, site);
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.memory.heavy_barrier(mode, site)
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        self.count().copy_in(at, bytes);
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        self.count().copy_out(at, bytes);
    }

    fn pause(&self) {
        self.memory.pause();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        self.memory.wait(at, seen, slice, site);
    }

    fn wake(&self, at: Word, site: Site) {
        self.memory.wake(at, site);
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        self.memory.drain(semaphore, most, site)
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        self.memory.take(semaphore, slice, site);
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        self.memory.post(semaphore, site);
    }
}
