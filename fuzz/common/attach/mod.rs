//! Segments that nobody should trust.
//!
//! A ring is made by the real writer in [`Guarded`] memory, with some records in it. Then words of it are changed, the
//! headers' checksums put right again (or not), and what is there is opened like any ring, read, and changed again
//! between the calls, and within them by loads that are answered with lies. Four cases:
//!
//! | case | what may be changed | what must hold |
//! |---|---|---|
//! | headers | the two headers | what a parser accepts is exactly what this version writes, within the mapping |
//! | damaged | every word of both segments, at any time | no panic, nothing out of bounds, bounded steps, ends stay ends |
//! | registry | every word of the registry, at any time | the same, for the writer too; and nobody gets a wrong record or count |
//! | files | every byte of both files | a typed error, or a reader that answers |
//!
//! ```text
//!   script ──▶ mod (the ring) ──▶ changes ──┬─▶ headers   accepted, and then within the mapping?
//!                                           ├─▶ steps     calls, and what they answer
//!                                           └─▶ files     the same bytes, through the file system
//! ```

mod changes;
mod files;
mod headers;
pub(crate) mod script;
mod steps;

use shmcast::layout::{Geometry, HEADER_WORDS, MAX_POSITION, PayloadType, RegistryLayout, RingLayout, Wakeup, Waking};
use shmcast::ring::{Reader, Registry, Ring, Stop, Writer};

use crate::memory::Guarded;
pub(crate) use script::Script;
use script::{Case, Shape};

const MOST_STEPS: usize = 200;
const MOST_RECORDS: usize = 64;

/// A reader and, where the ring is honest, what it must get.
struct Attached {
    reader: Reader<Guarded>,
    next: u64,
    /// The size of the last record, if it was read and not released.
    held: Option<u64>,
    end: Option<Stop>,
}

struct Bench {
    /// The layouts that the ring was made with.
    made: (RingLayout, RegistryLayout),
    /// What an opener made of it.
    opened: Option<(RingLayout, RegistryLayout)>,
    ring: Guarded,
    registry: Guarded,
    writer: Writer<Guarded>,
    /// Bytes of payload of each record.
    lens: Vec<usize>,
    /// Positions of the records that were there at first.
    positions: Vec<u64>,
    closed: bool,
    /// May the ring segment be changed, too?
    damage: bool,
    readers: Vec<Attached>,
}

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Script) {
    let mut bench = Bench::new(script);
    for edit in script.edits.iter().take(MOST_STEPS) {
        bench.change(edit);
    }
    if script.seal && bench.damage {
        for segment in [&bench.ring, &bench.registry] {
            segment.poke(HEADER_WORDS - 1, checksum(&header(segment)));
        }
    }
    match &script.case {
        Case::Headers { ring, registry } => bench.headers(ring, registry),
        Case::Files { share, ring_cut, registry_cut } => {
            if share % 16 == 5 {
                bench.files(script, *ring_cut, *registry_cut);
            }
        }
        _ => bench.steps(script),
    }
}

/// The checksum of a header, as the format describes it.
fn checksum(words: &[u64; HEADER_WORDS]) -> u64 {
    words[..HEADER_WORDS - 1].iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, word| {
        let sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        sum ^ sum >> 32
    })
}

fn header(segment: &Guarded) -> [u64; HEADER_WORDS] {
    std::array::from_fn(|word| segment.peek(word).unwrap_or(0))
}

impl Bench {
    fn new(script: &Script) -> Bench {
        let Shape { capacity, wide, blocks, slots, start, back } = script.shape;
        let capacity = 64 << (capacity % 7);
        let alignment = if wide && capacity >= 256 { 64 } else { 8 };
        let blocks = (2 << (blocks % 5)).min(capacity / alignment);
        let start: u64 = match start % 5 {
            0 | 1 => 0,
            2 => u64::from(back) * 8,
            3 => (1 << 32) - u64::from(back) * 8,
            _ => MAX_POSITION - u64::from(back) * 8,
        };
        let start = start / alignment * alignment;
        let reader_slots = u64::from(slots % 5);
        let means = if slots & 64 == 0 { Wakeup::Futex } else { Wakeup::PosixSemaphore };
        let waking = Waking { means, key: 0, no_wake: slots & 128 != 0 };
        let geometry = Geometry {
            capacity,
            blocks,
            alignment,
            reader_slots,
            start,
            may_evict: false,
            waking,
            payload: PayloadType::default(),
        };
        let ring_layout = RingLayout::new(geometry, 7).unwrap_or_else(|error| panic!("{error}"));
        let registry_layout = RegistryLayout::new(reader_slots, 7);
        let (ring, registry) = (Guarded::zeroed(ring_layout.length), Guarded::zeroed(registry_layout.length));
        registry_layout.format(&registry);
        ring_layout.format(&ring);
        let in_ring = Ring::new(ring.clone(), ring_layout.clone());
        let writer = Writer::new(in_ring, Registry::new(registry.clone(), registry_layout.clone()), false);
        let mut bench = Bench {
            made: (ring_layout, registry_layout),
            opened: None,
            ring,
            registry,
            writer,
            lens: Vec::new(),
            positions: Vec::new(),
            closed: false,
            damage: !matches!(script.case, Case::Registry | Case::RegistryAgain),
            readers: Vec::new(),
        };
        for &len in script.fill.iter().take(MOST_RECORDS) {
            let before = bench.writer.sequence();
            bench.publish(usize::from(len) % (geometry.max_payload() as usize + 1));
            if bench.writer.sequence() > before {
                bench
                    .positions
                    .push(bench.writer.position() - bench.made.0.data().record_size(bench.lens[before as usize]));
            }
        }
        if script.close {
            bench.close();
        }
        bench
    }
}
