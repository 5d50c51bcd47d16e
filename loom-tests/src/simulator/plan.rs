//! What is played: everything that a seed decides before the first step.

use shmcast::layout::{Geometry, MAX_POSITION, PayloadType, RegistryLayout, RingLayout, Wakeup, Waking};

use super::random::Random;
use super::weak::Weakness;

/// Longest payload of any schedule, in bytes.
pub(super) const MOST_PAYLOAD: usize = 256;

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) ring: RingLayout,
    pub(super) registry: RegistryLayout,
    /// Records to publish, by all writers together.
    pub(super) records: u64,
    most_len: u64,
    /// The writers' and readers' fast sides count on interrupts.
    pub(super) writers_registered: bool,
    pub(super) weakness: Weakness,
    pub(super) readers: usize,
    pub(super) successors: usize,
    /// Parties may be killed: each in so many of 256 cases.
    pub(super) mortality: u64,
    /// Slots have locks, which tell who is dead.
    pub(super) locks: bool,
    /// A party that comes later knows nothing, not even what is old.
    pub(super) newcomers_know_nothing: bool,
    pub(super) heeds_readers: bool,
    pub(super) most_burst: u64,
    /// How often the writer rests, of 256.
    pub(super) rests: u64,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let capacity = random.pick(&[32, 64, 64, 64, 128, 128, 256, 512]);
        let alignment = if capacity >= 256 && random.chance(32) { 64 } else { 8 };
        let blocks = loop {
            let blocks = random.pick(&[2, 2, 4, 8]);
            if capacity / blocks >= 2 * alignment || blocks == 2 {
                break blocks;
            }
        };
        let readers = random.pick(&[2, 2, 2, 3, 3, 4, 5, 8]);
        let reader_slots = (readers as u64 + 1).saturating_sub(random.below(3)).max(1);
        let means = if random.chance(80) { Wakeup::PosixSemaphore } else { Wakeup::Futex };
        let no_wake = random.chance(8);
        let start = match random.below(8) {
            0 => MAX_POSITION - (1 << 20),
            1 => 3 * capacity - alignment,
            _ => 0,
        };
        let geometry = Geometry {
            capacity,
            blocks,
            alignment,
            reader_slots,
            start,
            may_evict: random.chance(80),
            waking: Waking { means, key: 0, no_wake },
            payload: PayloadType::default(),
        };
        let mortality = if random.chance(100) { random.pick(&[32, 96, 160]) } else { 0 };
        let most_len = if random.chance(64) { 8 } else { geometry.max_payload() };
        Plan {
            seed,
            ring: RingLayout::new(geometry, 1).expect("the geometry of a model"),
            registry: RegistryLayout::new(reader_slots, 1),
            records: 3 + random.below(if capacity < 256 { 24 } else { 40 }),
            most_len,
            writers_registered: random.chance(128),
            weakness: Weakness { stale: random.pick(&[0, 24, 64, 128, 200]), early: random.pick(&[0, 64, 160]) },
            readers,
            successors: if mortality > 0 { 1 + random.below(3) as usize } else { usize::from(random.chance(40)) },
            mortality,
            locks: mortality > 0 || random.chance(64),
            newcomers_know_nothing: random.chance(64),
            heeds_readers: random.chance(32),
            most_burst: random.pick(&[1, 2, 4, 12, 40]),
            rests: random.pick(&[0, 16, 64]),
        }
    }

    /// The length of a record's payload, the same whoever publishes it.
    pub(super) fn len(&self, sequence: u64) -> usize {
        let mut random = Random::new(self.seed ^ sequence.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        // Runs of one length, too: they have a fast path of their own.
        if sequence % 8 < 3 { self.most_len.min(8) as usize } else { random.below(self.most_len + 1) as usize }
    }

    /// A payload: each word another in each record and place, and a header for whoever takes it for one.
    pub(super) fn payload<'a>(&self, sequence: u64, buffer: &'a mut [u8; MOST_PAYLOAD]) -> &'a [u8] {
        let len = self.len(sequence);
        for (place, bytes) in buffer[..len].chunks_mut(8).enumerate() {
            let word = 1 + sequence + 8 * place as u64;
            bytes.copy_from_slice(&word.to_ne_bytes()[..bytes.len()]);
        }
        &buffer[..len]
    }

    /// Bytes from a record's header to the next, computed anew, not by the source under test.
    pub(super) fn size(&self, sequence: u64) -> u64 {
        (8 + self.len(sequence) as u64).next_multiple_of(self.ring.geometry.alignment)
    }
}
