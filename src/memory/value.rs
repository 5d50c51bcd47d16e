//! Values out of shared words, for typed channels: their length is known at compile time, down to the copy.
//!
//! Whatever the words hold, torn ones too, is a value of an [`AnyBitPattern`]. A type that has more rules is read as its
//! [`Bits`](CheckedBitPattern::Bits), which has none, and becomes a value when it was checked.

use core::mem::MaybeUninit;

use bytemuck::{AnyBitPattern, CheckedBitPattern};

use super::{MappedView, copy};

impl MappedView<'_> {
    /// Copies a value out of the words behind the one at a position.
    #[inline(always)]
    pub(crate) fn value_at<B: AnyBitPattern>(self, position: u64) -> B {
        let mut value = MaybeUninit::<B>::uninit();
        let Some(from) = self.behind(position, size_of::<B>()) else { return B::zeroed() };
        // SAFETY: by `behind`, all words that the value touches lie within the segment; `value` has the room.
        unsafe { copy::words_out(from, value.as_mut_ptr().cast(), size_of::<B>()) };
        // SAFETY: `words_out` initialised all its bytes, and any bytes are a value of this type.
        unsafe { value.assume_init() }
    }

    /// As [`value_at`](Self::value_at), in place.
    #[inline(always)]
    pub(crate) fn value_into<B: AnyBitPattern>(self, position: u64, value: &mut B) {
        let Some(from) = self.behind(position, size_of::<B>()) else { return };
        let to = core::ptr::from_mut(value).cast();
        // SAFETY: by `behind`, all words that the value touches lie within the segment; `value` is exclusive and as large
        // as it is, and any bytes are a value of its type.
        unsafe { copy::words_out(from, to, size_of::<B>()) }
    }

    /// Appends a value to `values`, without a detour; false if it is none, and then nothing is appended.
    #[inline(always)]
    pub(crate) fn append_value<T: CheckedBitPattern>(self, position: u64, values: &mut Vec<T>) -> bool {
        const { assert!(size_of::<T>() == size_of::<T::Bits>() && align_of::<T>() == align_of::<T::Bits>()) };
        let Some(from) = self.behind(position, size_of::<T>()) else { return false };
        if values.len() == values.capacity() {
            values.reserve(1);
        }
        let place = values.spare_capacity_mut().as_mut_ptr().cast::<T::Bits>();
        // SAFETY: by `behind`, all words that the value touches lie within the segment; behind the last value there is room
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
    use crate::memory::{Mapped, MappedArea, Memory, ReadArea, Word};
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
        let view = area.view();
        assert_eq!(view.value_at::<[u8; 13]>(8), bytes[8..21]);
        assert_eq!(view.value_at::<u32>(128 + 16).to_ne_bytes(), bytes[16..20]);
        let mut value = [0u64; 9];
        view.value_into(24, &mut value);
        assert_eq!(bytemuck::bytes_of(&value), &bytes[24..96]);
        // A value of no bytes touches no word, not even behind the last one.
        assert_eq!(view.value_at::<[u64; 0]>(120), []);
    }

    #[test]
    fn only_bits_that_are_a_value_become_one() {
        let area = area(4, &[1, 0, 0, 0, 0, 0, 0, 0, 2]);
        let mut values = vec![false];
        assert!(area.view().append_value::<bool>(0, &mut values));
        assert!(!area.view().append_value::<bool>(8, &mut values));
        assert_eq!(values, [false, true]);
        assert_eq!(checked::<char>(&0x4E00), Some('一'));
        assert_eq!(checked::<char>(&0xD800), None);
        let mut signals = vec![(); 3];
        assert!(area.view().append_value(24, &mut signals) && signals.len() == 4);
    }
}
