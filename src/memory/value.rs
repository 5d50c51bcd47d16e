//! Values out of shared words, for typed channels: their length is known at compile time, down to the copy.
//!
//! Whatever the words hold, torn ones too, is a value of an [`AnyBitPattern`]. A type that has more rules is read as its
//! [`Bits`](CheckedBitPattern::Bits), which has none, and becomes a value when it was checked.

use core::mem::MaybeUninit;

use bytemuck::{AnyBitPattern, CheckedBitPattern};

use super::{Mapped, Word, copy};

impl Mapped {
    /// Copies a value out of the words from `at` on.
    #[inline(always)]
    pub(crate) fn value_at<B: AnyBitPattern>(&self, at: Word) -> B {
        let mut value = MaybeUninit::<B>::uninit();
        let Some(from) = self.words_at(at, size_of::<B>(), self.readable) else { return B::zeroed() };
        // SAFETY: by `words_at`, all words that the value touches lie within the segment; `value` has the room.
        unsafe { copy::words_out(from, value.as_mut_ptr().cast(), size_of::<B>()) };
        // SAFETY: `words_out` initialised all its bytes, and any bytes are a value of this type.
        unsafe { value.assume_init() }
    }

    /// As [`value_at`](Self::value_at), in place.
    #[inline(always)]
    pub(crate) fn value_into<B: AnyBitPattern>(&self, at: Word, value: &mut B) {
        let Some(from) = self.words_at(at, size_of::<B>(), self.readable) else { return };
        let to = core::ptr::from_mut(value).cast();
        // SAFETY: by `words_at`, all words that the value touches lie within the segment; `value` is exclusive and as large
        // as it is, and any bytes are a value of its type.
        unsafe { copy::words_out(from, to, size_of::<B>()) }
    }

    /// Appends a value to `values`, without a detour; false if it is none, and then nothing is appended.
    #[inline(always)]
    pub(crate) fn append_value<T: CheckedBitPattern>(&self, at: Word, values: &mut Vec<T>) -> bool {
        const { assert!(size_of::<T>() == size_of::<T::Bits>() && align_of::<T>() == align_of::<T::Bits>()) };
        let Some(from) = self.words_at(at, size_of::<T>(), self.readable) else { return false };
        if values.len() == values.capacity() {
            values.reserve(1);
        }
        let place = values.spare_capacity_mut().as_mut_ptr().cast::<T::Bits>();
        // SAFETY: by `words_at`, all words that the value touches lie within the segment; behind the last value there is room
        // for one more, and it is as large as its bits are.
        unsafe { copy::words_out(from, place.cast(), size_of::<T>()) };
        // SAFETY: `words_out` initialised all bytes there, any bytes are such bits, and the place is aligned for them.
        let valid = T::is_valid_bit_pattern(unsafe { &*place });
        if valid {
            // SAFETY: the bits behind the last value are valid ones, which by the contract of `CheckedBitPattern` is a value.
            unsafe { values.set_len(values.len() + 1) };
        }
        valid
    }
}

/// The value that these bits are, if they are one.
#[inline(always)]
pub(crate) fn checked<T: CheckedBitPattern>(bits: &T::Bits) -> Option<T> {
    const { assert!(size_of::<T>() == size_of::<T::Bits>(), "`CheckedBitPattern` promises it") };
    // SAFETY: the bits were just found valid, and have the size and, by the contract of `CheckedBitPattern`, the layout of `T`.
    T::is_valid_bit_pattern(bits).then(|| unsafe { core::mem::transmute_copy(bits) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::segment::heap;

    #[test]
    fn values_come_out_as_they_went_in() {
        let memory = Mapped::new(heap::zeroed(16));
        let bytes: [u8; 128] = core::array::from_fn(|byte| byte as u8);
        memory.copy_in(Word(0), &bytes);
        assert_eq!(memory.value_at::<[u8; 13]>(Word(1)), bytes[8..21]);
        assert_eq!(memory.value_at::<u32>(Word(2)).to_ne_bytes(), bytes[16..20]);
        let mut value = [0u64; 9];
        memory.value_into(Word(3), &mut value);
        assert_eq!(bytemuck::bytes_of(&value), &bytes[24..96]);
        // A value of no bytes touches no word, not even behind the last one.
        assert_eq!(memory.value_at::<[u64; 0]>(Word(16)), []);
    }

    #[test]
    fn only_bits_that_are_a_value_become_one() {
        let memory = Mapped::new(heap::zeroed(2));
        memory.copy_in(Word(0), &[1]);
        memory.copy_in(Word(1), &[2]);
        let mut values = vec![false];
        assert!(memory.append_value::<bool>(Word(0), &mut values));
        assert!(!memory.append_value::<bool>(Word(1), &mut values));
        assert_eq!(values, [false, true]);
        assert_eq!(checked::<char>(&0x4E00), Some('一'));
        assert_eq!(checked::<char>(&0xD800), None);
        let mut signals = vec![(); 3];
        assert!(memory.append_value(Word(2), &mut signals) && signals.len() == 4);
    }
}
