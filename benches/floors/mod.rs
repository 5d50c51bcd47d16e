//! The bare floors, over one shared mapping: ping-pong on one line and on two, and the hand-off of blocks.
#![allow(clippy::disallowed_types, reason = "the floors are what the engine is measured against, not part of it")]

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Words between two flags: each on a pair of cache lines of its own.
const APART: usize = 16;
const BLOCK_BYTES: usize = 64 * 1024;
/// Words before the buffer.
const CONTROL_WORDS: usize = 64 * APART;

/// Sizes of the mapping.
pub(super) struct Floors;

impl Floors {
    /// Bytes that a mapping must have for a buffer of `buffer` bytes.
    pub(super) const fn bytes(buffer: usize) -> usize {
        CONTROL_WORDS * 8 + buffer
    }
}

/// The shared lines.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    words: *const AtomicU64,
    buffer: *mut u8,
    buffer_bytes: usize,
}

impl Lines {
    /// # Safety
    /// `memory` is [`Floors::bytes`]`(buffer_bytes)` zeroed bytes that live for ever and are used through `Lines` only.
    pub(super) unsafe fn new(memory: std::ptr::NonNull<u8>, buffer_bytes: usize) -> Lines {
        let buffer = memory.as_ptr().wrapping_add(CONTROL_WORDS * 8);
        Lines { words: memory.as_ptr().cast(), buffer, buffer_bytes }
    }

    fn flag(&self, line: usize) -> &AtomicU64 {
        assert!(line < 64);
        // SAFETY: within the control words, by the contract of `new`.
        unsafe { &*self.words.wrapping_add(line * APART) }
    }

    /// Both processes leave together.
    pub(super) fn meet(&self, who: usize) {
        let other = 3 - who;
        let mine = self.flag(who).fetch_add(1, Release) + 1;
        while self.flag(other).load(Acquire) < mine {
            spin_loop();
        }
    }

    /// The second process is done.
    pub(super) fn give_result(&self, total: u64) {
        self.flag(3).store(total, Relaxed);
        self.flag(4).fetch_add(1, Release);
    }

    /// Waits for that.
    pub(super) fn wait_for_result(&self) -> u64 {
        let seen = self.flag(5).load(Relaxed);
        while self.flag(4).load(Acquire) == seen {
            spin_loop();
        }
        self.flag(5).store(seen + 1, Relaxed);
        self.flag(3).load(Relaxed)
    }

    /// Both sides wait for, and then write, the same line.
    pub(super) fn one_line(&self, trips: u64, side: u64) {
        let line = self.flag(6);
        let start = self.flag(7 + side as usize).load(Relaxed);
        for trip in 0..trips {
            let expected = start + 2 * trip + side;
            while line.load(Acquire) != expected {
                spin_loop();
            }
            line.store(expected + 1, Release);
        }
        self.flag(7 + side as usize).store(start + 2 * trips, Relaxed);
    }

    /// Each side writes a line of its own.
    pub(super) fn two_lines(&self, trips: u64, side: u64) {
        let (mine, other) = (self.flag(10 + side as usize), self.flag(11 - side as usize));
        let start = mine.load(Relaxed);
        for trip in 1..=trips {
            if side == 0 {
                mine.store(start + trip, Release);
            }
            while other.load(Acquire) < start + trip {
                spin_loop();
            }
            if side == 1 {
                mine.store(start + trip, Release);
            }
        }
    }

    /// Records in a block of the hand-off, the bytes of a block, and how many of them `bytes` of the buffer are.
    fn blocks<const WORDS: usize>(&self, bytes: usize) -> (usize, usize, usize) {
        assert!(bytes <= self.buffer_bytes);
        let per_block = (BLOCK_BYTES / (WORDS * 8)).max(1);
        let block_bytes = BLOCK_BYTES.max(WORDS * 8);
        (per_block, block_bytes, bytes / block_bytes)
    }

    /// memcpy of `records` payloads into `bytes` of the buffer, one flag per block of 64 KiB, or of one larger record.
    pub(super) fn hand_off_write<const WORDS: usize>(
        &self,
        bytes: usize,
        records: u64,
        fill: impl Fn(&mut [u64], u64),
    ) {
        let (per_block, block_bytes, blocks) = self.blocks::<WORDS>(bytes);
        let (written, read) = (self.flag(12), self.flag(13));
        let mut block = written.load(Relaxed);
        let mut payload = [0u64; WORDS];
        let mut sequence = 0;
        while sequence < records {
            while block - read.load(Acquire) >= blocks as u64 {
                spin_loop();
            }
            let base = (block as usize % blocks) * block_bytes;
            for i in 0..(per_block as u64).min(records - sequence) {
                fill(&mut payload, sequence + i);
                let to = self.buffer.wrapping_add(base + i as usize * WORDS * 8);
                // SAFETY: within the buffer; the reader has given this block back.
                unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr().cast(), to, WORDS * 8) };
            }
            sequence += per_block as u64;
            block += 1;
            written.store(block, Release);
        }
    }

    /// Reads them in place.
    pub(super) fn hand_off_read<const WORDS: usize>(
        &self,
        bytes: usize,
        records: u64,
        sum: impl Fn(&[u8]) -> u64,
    ) -> u64 {
        let (per_block, block_bytes, blocks) = self.blocks::<WORDS>(bytes);
        let (written, read) = (self.flag(12), self.flag(13));
        let mut block = read.load(Relaxed);
        let (mut total, mut sequence) = (0u64, 0);
        while sequence < records {
            while written.load(Acquire) <= block {
                spin_loop();
            }
            let base = (block as usize % blocks) * block_bytes;
            for i in 0..(per_block as u64).min(records - sequence) {
                let from = self.buffer.wrapping_add(base + i as usize * WORDS * 8);
                // SAFETY: within the buffer; the writer has given this block away.
                let bytes = unsafe { std::slice::from_raw_parts(from, WORDS * 8) };
                total = total.wrapping_add(sum(bytes));
            }
            sequence += per_block as u64;
            block += 1;
            read.store(block, Release);
        }
        total
    }
}
