//! Another floor: one mailbox in each direction, a buffer and the flag that gives it away.
#![allow(clippy::disallowed_types, reason = "the floors are what the engine is measured against, not part of it")]

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Bytes before the payload: the flag, on a pair of cache lines of its own.
const PAYLOAD_OFFSET_BYTES: usize = 128;

/// Two mailboxes: each side fills its own and empties the other's.
#[derive(Clone, Copy)]
pub(super) struct Mailboxes {
    memory: *mut u8,
    payload_bytes: usize,
}

impl Mailboxes {
    /// Bytes that the memory must have for payloads of up to `payload` bytes.
    pub(super) const fn bytes(payload: usize) -> usize {
        2 * (PAYLOAD_OFFSET_BYTES + payload)
    }

    /// # Safety
    /// `memory` is [`Mailboxes::bytes`]`(payload_bytes)` zeroed bytes, aligned to 128, that live for ever and are used
    /// through `Mailboxes` only; `payload_bytes` is a multiple of 128.
    pub(super) unsafe fn new(memory: *mut u8, payload_bytes: usize) -> Mailboxes {
        Mailboxes { memory, payload_bytes }
    }

    fn start(&self, side: usize) -> *mut u8 {
        assert!(side < 2);
        self.memory.wrapping_add(side * (PAYLOAD_OFFSET_BYTES + self.payload_bytes))
    }

    fn flag(&self, side: usize) -> &AtomicU64 {
        // SAFETY: within the memory and aligned, by the contract of `new`; the flags are used as atomics only.
        unsafe { &*self.start(side).cast() }
    }

    /// memcpy of a payload into one's own mailbox, its flag, and the other's payload read in place; `trips` times there
    /// and back. Answers the sums of what was read, added up. Trips count on from call to call: `done` came before.
    pub(super) fn exchange<const WORDS: usize>(
        &self,
        side: usize,
        done: u64,
        trips: u64,
        fill: impl Fn(&mut [u64], u64),
        sum: impl Fn(&[u8]) -> u64,
    ) -> u64 {
        assert!(WORDS * 8 <= self.payload_bytes);
        let (mine, other) = (self.flag(side), self.flag(1 - side));
        let to = self.start(side).wrapping_add(PAYLOAD_OFFSET_BYTES);
        let from = self.start(1 - side).wrapping_add(PAYLOAD_OFFSET_BYTES).cast_const();
        let mut payload = [0u64; WORDS];
        let mut total = 0u64;
        for trip in 0..trips {
            let write = |payload: &mut [u64; WORDS]| {
                fill(payload, trip);
                // SAFETY: within the mailbox; the other side has read what was in it: it answered, or asks now.
                unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr().cast(), to, WORDS * 8) };
                mine.store(done + trip + 1, Release);
            };
            if side == 0 {
                write(&mut payload);
            }
            while other.load(Acquire) <= done + trip {
                spin_loop();
            }
            // SAFETY: within the mailbox; the other side does not write it until this one answers, or asks again.
            let bytes = unsafe { std::slice::from_raw_parts(from, WORDS * 8) };
            total = total.wrapping_add(sum(bytes));
            if side == 1 {
                write(&mut payload);
            }
        }
        total
    }
}
