//! Values out of shared words, for typed channels: their length is known at compile time, down to the copy.
//!
//! Whatever the words hold, torn ones too, is a value of an [`AnyBitPattern`]. A type that has more rules is read as its
//! [`Bits`](CheckedBitPattern::Bits), which has none, and becomes a value when it was checked.

use core::mem::MaybeUninit;

use bytemuck::{AnyBitPattern, CheckedBitPattern};

use super::{MappedPayload, copy};

impl MappedPayload<'_> {
    /// Copies a value out of the first bytes; the value of zeros if there are too few.
    #[inline(always)]
    pub(crate) fn value<B: AnyBitPattern>(self) -> B {
        let mut value = MaybeUninit::<B>::uninit();
        let Some(from) = self.at_least(size_of::<B>()) else { return B::zeroed() };
        // SAFETY: by `at_least`, all words that the value touches lie within the segment; `value` has the room.
        unsafe { copy::words_out(from, value.as_mut_ptr().cast(), size_of::<B>()) };
        // SAFETY: `words_out` initialised all its bytes, and any bytes are a value of this type.
        unsafe { value.assume_init() }
    }

    /// As [`value`](Self::value), in place.
    #[inline(always)]
    pub(crate) fn value_into<B: AnyBitPattern>(self, value: &mut B) {
        let Some(from) = self.at_least(size_of::<B>()) else { return };
        let to = core::ptr::from_mut(value).cast();
        // SAFETY: by `at_least`, all words that the value touches lie within the segment; `value` is exclusive and as large
        // as it is, and any bytes are a value of its type.
        unsafe { copy::words_out(from, to, size_of::<B>()) }
    }

    /// Appends a value to `values`, without a detour; false if it is none, and then nothing is appended.
    #[inline(always)]
    pub(crate) fn append_value<T: CheckedBitPattern>(self, values: &mut Vec<T>) -> bool {
        const { assert!(size_of::<T>() == size_of::<T::Bits>() && align_of::<T>() == align_of::<T::Bits>()) };
        let Some(from) = self.at_least(size_of::<T>()) else { return false };
        if values.len() == values.capacity() {
            values.reserve(1);
        }
        let place = values.spare_capacity_mut().as_mut_ptr().cast::<T::Bits>();
        // SAFETY: by `at_least`, all words that the value touches lie within the segment; behind the last value there is room
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
    use crate::memory::{Mapped, MappedArea, Memory, ReadArea, ReadView, Word};
    use crate::segment::heap;

    /// The area of some words, with these bytes behind the first.
    fn area(words: usize, bytes: &[u8]) -> MappedArea {
        let memory = Mapped::new(heap::zeroed(words));
        memory.copy_in(Word(1), bytes);
        memory.read_area(Word(0), words as u64 * 8)
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        let bytes: [u8; 120] = core::array::from_fn(|byte| byte as u8);
        let area = area(16, &bytes);
        let at = |position, len| area.view().payload(position, len).expect("within");
        assert_eq!(at(8, 13).value::<[u8; 13]>(), bytes[8..21]);
        assert_eq!(at(128 + 16, 8).value::<u32>().to_ne_bytes(), bytes[16..20]);
        let mut value = [0u64; 9];
        at(24, 72).value_into(&mut value);
        assert_eq!(bytemuck::bytes_of(&value), &bytes[24..96]);
        // A value of no bytes touches no word, not even behind the last one.
        assert_eq!(at(120, 0).value::<[u64; 0]>(), []);
    }

    #[test]
    fn only_bits_that_are_a_value_become_one() {
        let area = area(4, &[1, 0, 0, 0, 0, 0, 0, 0, 2]);
        let at = |position, len| area.view().payload(position, len).expect("within");
        let mut values = vec![false];
        assert!(at(0, 1).append_value::<bool>(&mut values));
        assert!(!at(8, 1).append_value::<bool>(&mut values));
        assert_eq!(values, [false, true]);
        assert_eq!(checked::<char>(&0x4E00), Some('一'));
        assert_eq!(checked::<char>(&0xD800), None);
        let mut signals = vec![(); 3];
        assert!(at(24, 0).append_value(&mut signals) && signals.len() == 4);
    }
}
