//! Lines that the next records will need, asked for before they are: hints, which no order and no invariant rests on.

use crate::memory::WriteView;

/// So far ahead of the next record the writer asks for a line to store to. Readers have had it since the last lap, and stores
/// become visible in order, so one that waits for its line (the zero ahead, most often) delays every commit behind it. (For
/// the same reason nothing on the fast paths is kept in memory that may be in a register.) At the end of a lap it asks for what lies behind the data area,
/// whatever that is: a hint costs nobody more than a line.
const PREFETCH_BYTES: u64 = 512;
/// From this size on a claim's commit asks for so many bytes of the next one, line by line: a sixth off the round trip of 1 KiB.
const LARGE_BYTES: usize = 1024;
const LINE_BYTES: u64 = 64;

/// For records that come one behind the other: a line some records further on.
#[inline(always)]
pub(super) fn ask_for_one(room: impl WriteView, next: u64) {
    room.prefetch_for_store(next, PREFETCH_BYTES);
}

/// For a record that will be filled in place, word by word, and is as long as the last one. A writer that waits for an answer
/// meanwhile has its lines when that comes. (A copy in has no need of it: it asks for the lines itself, as fast.)
#[inline(always)]
pub(super) fn ask_for_record(room: impl WriteView, next: u64, len: usize) {
    if len >= LARGE_BYTES {
        // A constant number: straight-line code.
        (0..=LARGE_BYTES as u64 / LINE_BYTES).for_each(|line| room.prefetch_for_store(next, line * LINE_BYTES));
    }
}
