//! What is carried: words that depend on the record, written in full, read in full, and added up.

use std::mem::MaybeUninit;

use iceoryx2::prelude::ZeroCopySend;

/// A record of `WORDS` words.
#[repr(C)]
#[derive(Clone, Copy, Debug, ZeroCopySend)]
pub(crate) struct Payload<const WORDS: usize>(pub(crate) [u64; WORDS]);

impl<const WORDS: usize> Default for Payload<WORDS> {
    fn default() -> Self {
        Payload([0; WORDS])
    }
}

impl<const WORDS: usize> AsRef<[u8]> for Payload<WORDS> {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl<const WORDS: usize> Payload<WORDS> {
    #[inline(always)]
    pub(crate) fn fill(&mut self, sequence: u64) {
        fill(&mut self.0, sequence);
    }

    /// Fills memory that has no value yet, without a copy.
    #[inline(always)]
    pub(crate) fn fill_in(place: &mut MaybeUninit<Payload<WORDS>>, sequence: u64) -> &mut Payload<WORDS> {
        let words = place.as_mut_ptr().cast::<u64>();
        for i in 0..WORDS {
            // SAFETY: `Payload` is `WORDS` words, and `place` is exclusively borrowed.
            unsafe { words.wrapping_add(i).write(sequence.wrapping_add(i as u64)) };
        }
        // SAFETY: every word was written.
        unsafe { place.assume_init_mut() }
    }

    #[inline(always)]
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

/// Every word depends on the record.
#[inline(always)]
pub(crate) fn fill(words: &mut [u64], sequence: u64) {
    for (i, word) in words.iter_mut().enumerate() {
        *word = sequence.wrapping_add(i as u64);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn added_up<const WORDS: usize>(records: u64) -> u64 {
        let mut payload = Payload::<WORDS>::default();
        (0..records).fold(0u64, |total, sequence| {
            payload.fill(sequence);
            assert_eq!(payload.sum(), sum(payload.as_ref()));
            total.wrapping_add(Payload::<WORDS>::fill_in(&mut MaybeUninit::uninit(), sequence).sum())
        })
    }

    #[test]
    fn sums_are_what_was_written() {
        assert_eq!(added_up::<1>(1_000), expected_sum(1, 1_000));
        assert_eq!(added_up::<8>(1_000), expected_sum(8, 1_000));
        assert_eq!(added_up::<128>(3), expected_sum(128, 3));
        assert_eq!(added_up::<8>(0), expected_sum(8, 0));
    }

    #[test]
    fn a_lost_a_doubled_or_a_torn_record_changes_the_sum() {
        let right = expected_sum(8, 100);
        assert_ne!(right, expected_sum(8, 99));
        let mut torn = Payload::<8>::default();
        torn.fill(7);
        let whole = torn.sum();
        torn.0[3] = 0;
        assert_ne!(torn.sum(), whole);
    }
}
