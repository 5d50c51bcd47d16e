//! The protocol itself on heap words: rings of 64 bytes, which hold two to seven records, so that readers are overtaken all the time.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};

use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::memory::{Backing, Mapped, Memory, ReadPayload};
use shmcast::ring::{Reader, Refused, Registry, Ring, Start, Stop, Writer};

/// Payload words of record n; their sizes make pads of different lengths.
const WORDS: [usize; 7] = [1, 2, 0, 1, 1, 2, 0];

/// Heap words, freed with the last handle: whoever goes beyond them is out of the allocation.
struct Words(NonNull<u64>, Layout);

// SAFETY: the words belong to this value alone, which hands out nothing but their address.
unsafe impl Send for Words {}
// SAFETY: as above; `&self` only answers the address and the size.
unsafe impl Sync for Words {}

// SAFETY: the address of so many bytes, aligned to 8, zeroed at allocation and freed by `drop` only; no reference to them is
// formed here.
unsafe impl Backing for Words {
    fn base(&self) -> *mut u64 {
        self.0.as_ptr()
    }

    fn words(&self) -> usize {
        self.1.size() / 8
    }

    fn writable(&self) -> bool {
        true
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and not freed before.
        unsafe { dealloc(self.0.as_ptr().cast(), self.1) }
    }
}

fn zeroed(bytes: u64) -> Mapped {
    let layout = Layout::from_size_align(bytes as usize, 8).expect("a small layout");
    // SAFETY: the layout is not of size 0.
    let words = unsafe { alloc_zeroed(layout) };
    Mapped::new(Arc::new(Words(NonNull::new(words.cast()).expect("memory"), layout)))
}

/// A payload word: of another value in each record and place, and a header for whoever takes it for one.
fn word(sequence: u64, place: usize) -> u64 {
    1 + sequence * 8 + place as u64
}

fn payload(sequence: u64) -> Vec<u8> {
    (0..WORDS[sequence as usize % WORDS.len()]).flat_map(|place| word(sequence, place).to_ne_bytes()).collect()
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Race {
    pub(crate) records: u64,
    /// May the lossy reader be overtaken, or is there a lossless one that holds the writer?
    pub(crate) lossless: bool,
}

/// One reader that counts what it gets, or is told that it lost.
fn read<M: Memory>(mut reader: Reader<M>, records: u64, seen: &AtomicUsize) -> (u64, u64) {
    let (mut next, mut received) = (0, 0);
    while next < records {
        let result = reader.read(|payload| {
            let mut bytes = vec![0; payload.len()];
            payload.copy_out(&mut bytes);
            bytes
        });
        match result {
            Ok(read) => {
                assert_eq!(read.sequence, next, "the record that was received");
                assert_eq!(read.value, payload(next), "payload of record {next}");
                reader.release(read.next());
                (next, received) = (next + 1, received + 1);
            }
            Err(Stop::Lagged(lost)) => next += lost,
            Err(Stop::Empty) => thread::yield_now(),
            Err(stop) => panic!("{stop:?} at record {next}"),
        }
        // Relaxed: it paces the writer, and must order nothing.
        seen.store(next as usize, Relaxed);
    }
    (received, next)
}

/// A writer, a lossy reader and, if asked for, a lossless one, each through the memory that `wrap` makes of the heap words.
pub(crate) fn race<M: Memory<ReadArea: Send, WriteArea: Send> + Send>(race: Race, wrap: impl Fn(Mapped) -> M) {
    let geometry = Geometry {
        capacity: 64,
        blocks: 2,
        alignment: 8,
        reader_slots: 1,
        start: 0,
        may_evict: false,
        waking: Waking::default(),
        payload: PayloadType::default(),
    };
    let layouts = (RingLayout::new(geometry, 1).expect("a geometry"), RegistryLayout::new(1, 1));
    let (ring, registry) = (zeroed(layouts.0.length), zeroed(layouts.1.length));
    layouts.0.format(&ring);
    layouts.1.format(&registry);
    let party = || {
        let views = (wrap(ring.clone()), wrap(registry.clone()));
        (Ring::new(views.0, layouts.0.clone()), Registry::new(views.1, layouts.1.clone()))
    };
    let (in_ring, in_registry) = party();
    let mut writer = Writer::new(in_ring, in_registry, false);
    let lossy = Reader::join_lossy(party().0, None, Start::Oldest, false, 0).expect("a reader");
    let lossless = race.lossless.then(|| {
        let (in_ring, in_registry) = party();
        Reader::join_lossless(in_ring, in_registry, Start::Oldest, false, 0).expect("a slot")
    });
    let (seen, seen_by_lossless) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let lossy = scope.spawn(|| read(lossy, race.records, &seen));
        let lossless = lossless.map(|reader| scope.spawn(|| read(reader, race.records, &seen_by_lossless)));
        // Who ends before everything is published has failed, and says so when it is joined.
        let failed = || lossy.is_finished() || lossless.as_ref().is_some_and(ScopedJoinHandle::is_finished);
        while writer.sequence() < race.records && !failed() {
            // No more than three laps ahead: else it would all be over before the reader has begun.
            if writer.sequence() > seen.load(Relaxed) as u64 + 12 {
                thread::yield_now();
                continue;
            }
            match writer.try_publish(&payload(writer.sequence())) {
                Ok(_) => {}
                Err(Refused::Full) => thread::yield_now(),
                Err(refused) => panic!("{refused:?}"),
            }
        }
        let (received, accounted) = lossy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(accounted, race.records, "received + lagged = published");
        assert!(received > 0, "it read nothing at all");
        if let Some(lossless) = lossless {
            let counts = lossless.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(counts, (race.records, race.records), "nothing is lost");
        }
    });
}

pub(crate) const RECORDS: u64 = if cfg!(miri) { 40 } else { 50_000 };

#[test]
fn a_reader_that_is_overtaken_never_gets_a_torn_record() {
    race(Race { records: RECORDS, lossless: false }, |memory| memory);
}

#[test]
fn a_lossless_reader_of_a_tiny_ring_gets_everything() {
    race(Race { records: RECORDS, lossless: true }, |memory| memory);
}
