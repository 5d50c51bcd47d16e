//! Lines that the next records will need, asked for before they are: hints, which no order and no invariant rests on.

use crate::memory::{Memory, Word};

/// So far ahead of the next record the writer asks for a line to store to. Readers have had it since the last lap, and stores
/// become visible in order, so one that waits for its line (the zero ahead, most often) delays every commit behind it. (For
/// the same reason nothing on the fast paths is kept in memory that may be in a register.) At the end of a lap it asks for what lies behind the data area, whatever that is: a hint costs nobody more than a line.
const PREFETCH_BYTES: u64 = 512;
/// From this size on it asks for so many bytes of the next record, line by line: a fifth off the round trip of a claim of 1 KiB.
const LARGE_BYTES: usize = 1024;
const LINE_BYTES: u64 = 64;

/// Behind a commit: `len` is the length of the record, and the next one's header will be at this word. Of small records one line
/// is asked for, further on. A writer that waits for an answer meanwhile has them when it comes.
#[inline(always)]
pub(super) fn ask<M: Memory>(memory: &M, next_header: Word, len: usize) {
    if len < LARGE_BYTES {
        ask_for_one(memory, next_header);
    } else {
        // A constant number: straight-line code.
        (0..=LARGE_BYTES as u64 / LINE_BYTES)
            .for_each(|line| memory.prefetch_for_store(next_header.plus_bytes(line * LINE_BYTES)));
    }
}

/// A single line, for records that come one behind the other.
#[inline(always)]
pub(super) fn ask_for_one<M: Memory>(memory: &M, next_header: Word) {
    memory.prefetch_for_store(next_header.plus_bytes(PREFETCH_BYTES));
}
