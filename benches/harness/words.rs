//! What is carried: words that depend on the record, written in full, read in full, and added up.

use std::mem::MaybeUninit;

/// Every word depends on the record.
#[inline(always)]
pub(crate) fn fill(words: &mut [u64], sequence: u64) {
    for (i, word) in words.iter_mut().enumerate() {
        *word = sequence.wrapping_add(i as u64);
    }
}

/// Fills memory that has no value yet, without a copy.
#[inline(always)]
pub(crate) fn fill_in<const W: usize>(place: &mut MaybeUninit<[u64; W]>, sequence: u64) -> &mut [u64; W] {
    let words = place.as_mut_ptr().cast::<u64>();
    for i in 0..W {
        // SAFETY: there are `W` words, and `place` is exclusively borrowed.
        unsafe { words.wrapping_add(i).write(sequence.wrapping_add(i as u64)) };
    }
    // SAFETY: every word was written.
    unsafe { place.assume_init_mut() }
}

/// Reads words in full.
#[inline(always)]
pub(crate) fn add_up(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Reads bytes in full.
#[inline(always)]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

/// What the sums of the records `0..records` must add up to.
pub(crate) fn expected_sum(words: usize, records: u64) -> u64 {
    let words = words as u64;
    let sequences = u128::from(records) * u128::from(records.saturating_sub(1)) / 2;
    (sequences as u64).wrapping_mul(words).wrapping_add(records.wrapping_mul(words * (words - 1) / 2))
}

/// Words on the heap, which never were on the stack.
pub(crate) fn boxed<const W: usize, const N: usize>() -> Box<[[u64; W]; N]> {
    vec![[0u64; W]; N].into_boxed_slice().try_into().expect("as many as asked for")
}
