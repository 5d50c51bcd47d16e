//! What is carried, as a type of its own: some rivals ask for more than an array has.

use std::mem::MaybeUninit;

use iceoryx2::prelude::ZeroCopySend;

use crate::harness::words::{add_up, fill, fill_in};

/// A record of `WORDS` words.
#[repr(C)]
#[derive(Clone, Copy, Debug, ZeroCopySend)]
pub(crate) struct Payload<const WORDS: usize>(pub(crate) [u64; WORDS]);

impl<const WORDS: usize> Default for Payload<WORDS> {
    fn default() -> Self {
        Payload([0; WORDS])
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
        // SAFETY: the words are all of a `Payload`, and `place` is exclusively borrowed.
        let words = unsafe { &mut *place.as_mut_ptr().cast::<MaybeUninit<[u64; WORDS]>>() };
        fill_in(words, sequence);
        // SAFETY: every word was written.
        unsafe { place.assume_init_mut() }
    }

    #[inline(always)]
    pub(crate) fn sum(&self) -> u64 {
        add_up(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::words::{expected_sum, sum};

    fn added_up<const WORDS: usize>(records: u64) -> u64 {
        let mut payload = Payload::<WORDS>::default();
        (0..records).fold(0u64, |total, sequence| {
            payload.fill(sequence);
            assert_eq!(payload.sum(), sum(bytemuck::cast_slice(&payload.0)));
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
