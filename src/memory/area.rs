//! Parts of a segment that the fast paths go by: what lies within the segment is found out once, not with every access.
//!
//! ```text
//!   position  …  40 │ 48 │ 56 │ 64 │ 72 …         grows for ever, and may be anything
//!                 & mask (bytes - 8)
//!   area      [ 0 │ 8 │ 16 │ … │ bytes - 8 ]      a power of two of bytes: whatever the position, it has a place here
//! ```
//! So an access asks for no bounds and a hostile position harms nobody. A payload that is read is a value of its own, which there
//! only is if all of it lies in the area; a copy in looks once whether its last byte does. An area keeps its segment alive; its
//! *view*, a few numbers, is taken at the start of a step and stays in registers: the compiler reloads whatever an atomic access
//! might have changed, which is everything else.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Backing, Cell, Mapped, Memory, Word, copy};
use crate::layout::WORD_BYTES;
use crate::ring::Site;
use crate::segment::heap;

/// A part that is loaded from.
pub trait ReadArea {
    /// What a step works with.
    type View<'a>: ReadView
    where
        Self: 'a;

    /// The view.
    fn view(&self) -> Self::View<'_>;
}

/// A part that is stored to.
pub trait WriteArea {
    /// What a step works with.
    type View<'a>: WriteView
    where
        Self: 'a;

    /// The view.
    fn view(&self) -> Self::View<'_>;
}

/// A view of an area that is loaded from.
pub trait ReadView: Copy {
    /// Some words of the area.
    type Payload: ReadPayload;

    /// As [`Memory::load`], of the word at a position.
    fn load(self, position: u64, order: Ordering, site: Site) -> u64;

    /// `len` bytes of the words *behind* the one at a position, if they all lie in the area.
    fn payload(self, position: u64, len: usize) -> Option<Self::Payload>;
}

/// Bytes that were found to lie in an area; they may be anything, and may change.
pub trait ReadPayload {
    /// How many.
    fn len(&self) -> usize;

    /// Are there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Memory::copy_out`], of the first ones. Nothing is copied if more are asked for than there are.
    fn copy_out(&self, bytes: &mut [u8]);
}

/// A view of an area that is stored to.
pub trait WriteView: Copy {
    /// As [`Memory::store`], into the word at a position.
    fn store(self, position: u64, value: u64, order: Ordering, site: Site);

    /// As [`Memory::copy_in`], from the word *behind* the one at a position on, if all of them lie in the area.
    fn copy_in(self, position: u64, bytes: &[u8]);

    /// As [`Memory::prefetch_for_store`], so many bytes behind the word at a position.
    fn prefetch_for_store(self, position: u64, behind: u64);
}

/// An area of any memory, by the words of it.
#[derive(Clone)]
pub struct ByWord<M> {
    memory: M,
    first: Word,
    mask: u64,
}

impl<M> fmt::Debug for ByWord<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByWord").field("first", &self.first).field("mask", &self.mask).finish_non_exhaustive()
    }
}

impl<M: Memory> ByWord<M> {
    /// `bytes`, a power of two and 8 at least, from a word on.
    #[must_use]
    pub fn new(memory: M, first: Word, bytes: u64) -> ByWord<M> {
        debug_assert!(bytes.is_power_of_two() && bytes >= WORD_BYTES, "{bytes} bytes");
        ByWord { memory, first, mask: bytes - WORD_BYTES }
    }

    fn word(&self, position: u64) -> Word {
        self.first.plus_bytes(position & self.mask)
    }

    /// The word behind the one at a position, if `len` bytes from there on lie in the area.
    fn behind(&self, position: u64, len: usize) -> Option<Word> {
        within(position & self.mask, len, self.mask).then(|| self.word(position).plus(1))
    }
}

/// Bytes of a [`ByWord`].
#[derive(Debug)]
pub struct WordPayload<'a, M> {
    area: &'a ByWord<M>,
    word: Word,
    len: usize,
}

impl<M> WordPayload<'_, M> {
    /// The first word that they lie in.
    #[must_use]
    pub fn word(&self) -> Word {
        self.word
    }
}

impl<M: Memory> ReadPayload for WordPayload<'_, M> {
    fn len(&self) -> usize {
        self.len
    }

    fn copy_out(&self, bytes: &mut [u8]) {
        debug_assert!(bytes.len() <= self.len, "{} of {} bytes", bytes.len(), self.len);
        if bytes.len() <= self.len {
            self.area.memory.copy_out(self.word, bytes);
        }
    }
}

/// The areas of a [`Memory`] that is `Clone` and has nothing better: in its `impl`.
#[doc(hidden)]
#[macro_export]
macro_rules! areas_by_word {
    () => {
        type ReadArea = $crate::memory::ByWord<Self>;
        type WriteArea = $crate::memory::ByWord<Self>;

        fn read_area(&self, first: $crate::memory::Word, bytes: u64) -> Self::ReadArea {
            $crate::memory::ByWord::new(self.clone(), first, bytes)
        }

        fn write_area(&self, first: $crate::memory::Word, bytes: u64) -> Self::WriteArea {
            $crate::memory::ByWord::new(self.clone(), first, bytes)
        }
    };
}

/// Do `len` bytes fit behind the word at this place?
#[inline(always)]
fn within(place: u64, len: usize, mask: u64) -> bool {
    // The room is whole words: what fits into it does so with the rest of its last word.
    len as u64 <= mask - place
}

impl<M: Memory> ReadArea for ByWord<M> {
    type View<'a>
        = &'a ByWord<M>
    where
        M: 'a;

    fn view(&self) -> &ByWord<M> {
        self
    }
}

impl<M: Memory> WriteArea for ByWord<M> {
    type View<'a>
        = &'a ByWord<M>
    where
        M: 'a;

    fn view(&self) -> &ByWord<M> {
        self
    }
}

impl<'a, M: Memory> ReadView for &'a ByWord<M> {
    type Payload = WordPayload<'a, M>;

    fn load(self, position: u64, order: Ordering, site: Site) -> u64 {
        self.memory.load(self.word(position), order, site)
    }

    fn payload(self, position: u64, len: usize) -> Option<WordPayload<'a, M>> {
        self.behind(position, len).map(|word| WordPayload { area: self, word, len })
    }
}

impl<M: Memory> WriteView for &ByWord<M> {
    fn store(self, position: u64, value: u64, order: Ordering, site: Site) {
        self.memory.store(self.word(position), value, order, site);
    }

    fn copy_in(self, position: u64, bytes: &[u8]) {
        let payload = self.behind(position, bytes.len());
        debug_assert!(payload.is_some(), "{} bytes behind position {position}", bytes.len());
        if let Some(payload) = payload {
            self.memory.copy_in(payload, bytes);
        }
    }

    fn prefetch_for_store(self, position: u64, behind: u64) {
        self.memory.prefetch_for_store(self.word(position).plus_bytes(behind));
    }
}

/// An area of real memory, for loads.
#[derive(Clone)]
pub struct MappedArea {
    base: NonNull<u64>,
    mask: u64,
    /// Keeps the mapping alive: `base` and as many bytes as `mask` says are within it for as long as this is.
    _backing: Arc<dyn Backing>,
}

// SAFETY: `base` points into `backing`, which is Send + Sync and whose words are only accessed atomically.
unsafe impl Send for MappedArea {}
// SAFETY: as above; every method takes `&self` and is an atomic access.
unsafe impl Sync for MappedArea {}

/// An area of real memory that may be written, for stores.
#[derive(Clone)]
pub struct MappedRoom(MappedArea);

impl MappedArea {
    /// `bytes`, a power of two and 8 at least, from a word on, if they are among the first `bound` words.
    fn new(memory: &Mapped, first: Word, bytes: u64, bound: usize) -> MappedArea {
        let words = (bytes / WORD_BYTES) as usize;
        let fits = bytes.is_power_of_two() && words > 0 && words <= bound.saturating_sub(first.0);
        debug_assert!(fits, "{bytes} bytes at word {} of {bound}", first.0);
        if fits {
            // SAFETY: `bound` is at most `readable`, so by the contract of `Backing` the address is within the segment.
            let base = unsafe { memory.base.add(first.0) };
            return MappedArea { base, mask: bytes - WORD_BYTES, _backing: memory.backing.clone() };
        }
        // A bug of this crate, and harmless: one word that nobody else has.
        let memory = Mapped::new(heap::zeroed(1));
        MappedArea { base: memory.base, mask: 0, _backing: memory.backing }
    }
}

impl Mapped {
    pub(super) fn readable_area(&self, first: Word, bytes: u64) -> MappedArea {
        MappedArea::new(self, first, bytes, self.readable)
    }

    pub(super) fn writable_area(&self, first: Word, bytes: u64) -> MappedRoom {
        MappedRoom(MappedArea::new(self, first, bytes, self.writable))
    }
}

impl fmt::Debug for MappedArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedArea").field("bytes", &(self.mask + WORD_BYTES)).finish_non_exhaustive()
    }
}

impl fmt::Debug for MappedRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The numbers of a [`MappedArea`], for as long as that is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MappedView<'a> {
    base: NonNull<u64>,
    mask: u64,
    area: PhantomData<&'a MappedArea>,
}

/// The numbers of a [`MappedRoom`].
#[derive(Clone, Copy, Debug)]
pub struct MappedRoomView<'a>(MappedView<'a>);

impl ReadArea for MappedArea {
    type View<'a> = MappedView<'a>;

    #[inline(always)]
    fn view(&self) -> MappedView<'_> {
        MappedView { base: self.base, mask: self.mask, area: PhantomData }
    }
}

impl WriteArea for MappedRoom {
    type View<'a> = MappedRoomView<'a>;

    #[inline(always)]
    fn view(&self) -> MappedRoomView<'_> {
        MappedRoomView(self.0.view())
    }
}

impl<'a> MappedView<'a> {
    /// The address of the word at a position.
    #[inline(always)]
    fn address(self, position: u64) -> NonNull<u64> {
        // SAFETY: the mask makes it one of the area's words, which `MappedArea::new` found within the segment.
        unsafe { self.base.byte_add((position & self.mask) as usize) }
    }

    #[inline(always)]
    fn cell(self, position: u64) -> &'a Cell {
        // SAFETY: by `address` one of the segment's words: by the contract of `Backing` aligned (and the mask is a multiple of 8),
        // initialised, alive for as long as the area, and accessed by nobody but atomically with this width.
        unsafe { Cell::from_ptr(self.address(position).as_ptr()) }
    }

    /// The address of the word behind the one at a position, if `len` bytes from there on lie in the area.
    #[inline(always)]
    fn behind(self, position: u64, len: usize) -> Option<*mut u64> {
        within(position & self.mask, len, self.mask).then(|| self.address(position).as_ptr().wrapping_add(1))
    }
}

/// Bytes of a [`MappedArea`], for as long as that is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MappedPayload<'a> {
    /// Of the first word: `len` bytes from there on lie within the segment, and so does the rest of their last word.
    address: *mut u64,
    len: usize,
    area: PhantomData<&'a MappedArea>,
}

impl MappedPayload<'_> {
    /// The address, if there are so many bytes.
    #[inline(always)]
    pub(super) fn at_least(self, bytes: usize) -> Option<*mut u64> {
        debug_assert!(bytes <= self.len, "{bytes} of {} bytes", self.len);
        (bytes <= self.len).then_some(self.address)
    }

    /// Appends the first `len` of them to `bytes`.
    #[inline]
    pub(crate) fn append_out(self, len: usize, bytes: &mut Vec<u8>) {
        let Some(from) = self.at_least(len) else { return };
        // SAFETY: by `at_least` that many bytes lie within the segment.
        unsafe { super::append(from, len, bytes) }
    }

    /// Where they are: for the one zero-copy door.
    #[inline(always)]
    pub(crate) fn bytes(self) -> NonNull<[u8]> {
        let first = NonNull::new(self.address.cast()).unwrap_or(NonNull::dangling());
        NonNull::slice_from_raw_parts(first, self.len)
    }
}

impl ReadPayload for MappedPayload<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn copy_out(&self, bytes: &mut [u8]) {
        let Some(from) = self.at_least(bytes.len()) else { return };
        // SAFETY: by `at_least`, all words that the bytes touch lie within the segment; `bytes` is as long as it says.
        unsafe { copy::words_out(from, bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl<'a> ReadView for MappedView<'a> {
    type Payload = MappedPayload<'a>;

    #[inline(always)]
    fn load(self, position: u64, order: Ordering, _: Site) -> u64 {
        super::load(self.cell(position), order)
    }

    #[inline(always)]
    fn payload(self, position: u64, len: usize) -> Option<MappedPayload<'a>> {
        self.behind(position, len).map(|address| MappedPayload { address, len, area: PhantomData })
    }
}

impl WriteView for MappedRoomView<'_> {
    #[inline(always)]
    fn store(self, position: u64, value: u64, order: Ordering, _: Site) {
        // A room is writable: see `Mapped::writable_area`.
        self.0.cell(position).store(value, order);
    }

    #[inline(always)]
    fn copy_in(self, position: u64, bytes: &[u8]) {
        let to = self.0.behind(position, bytes.len());
        debug_assert!(to.is_some(), "{} bytes behind position {position}", bytes.len());
        let Some(to) = to else { return };
        // SAFETY: by `behind`, all words that the bytes touch lie within the segment, and a room is writable; they are accessed
        // only atomically; `bytes` is as long as it says.
        unsafe { copy::words_in(to, bytes.as_ptr(), bytes.len()) }
    }

    #[inline(always)]
    fn prefetch_for_store(self, position: u64, behind: u64) {
        let offset = (position & self.0.mask).wrapping_add(behind);
        super::prefetch_for_store(self.0.base.as_ptr().wrapping_byte_add(offset as usize));
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn every_position_has_a_place_and_both_kinds_of_area_agree_on_it() {
        let memory = Mapped::new(heap::zeroed(16));
        let (room, area) = (memory.writable_area(Word(3), 64), memory.readable_area(Word(3), 64));
        let by_word = ByWord::new(memory.clone(), Word(3), 64);
        for position in [0, 8, 56, 64, 72, 1 << 40, u64::MAX, u64::MAX - 7, 13] {
            // Relaxed, here and below: one thread.
            room.view().store(position, !position, Relaxed, Site::Commit);
            let place = (position % 64) / 8;
            let found = [
                // Relaxed: likewise.
                memory.load(Word(3 + place as usize), Relaxed, Site::Header),
                // Relaxed: likewise.
                area.view().load(position, Relaxed, Site::Header),
                // Relaxed: likewise.
                ReadView::load(&by_word, position, Relaxed, Site::Header),
            ];
            assert_eq!(found, [!position; 3]);
        }
        for outside in [0, 1, 2, 11, 12] {
            // Relaxed: likewise.
            assert_eq!(memory.load(Word(outside), Relaxed, Site::Header), 0, "word {outside}");
        }
    }

    #[test]
    fn a_copy_ends_at_the_end_of_the_area() {
        let memory = Mapped::new(heap::zeroed(12));
        let (room, area) = (memory.writable_area(Word(2), 64), memory.readable_area(Word(2), 64));
        let by_word = &ByWord::new(memory.clone(), Word(2), 64);
        for (position, len) in [(0, 56), (48, 8), (56, 0), (112, 3), (40, 13)] {
            let bytes: Vec<u8> = (1..=len).collect();
            room.view().copy_in(position, &bytes);
            let mut out = vec![0; bytes.len()];
            area.view().payload(position, bytes.len()).expect("within").copy_out(&mut out);
            assert_eq!(out, bytes);
            out.fill(0);
            by_word.payload(position, bytes.len()).expect("within").copy_out(&mut out);
            assert_eq!(out, bytes);
        }
        // Relaxed: one thread.
        assert_eq!(memory.load(Word(10), Relaxed, Site::Header), 0, "nothing is stored behind the area");
        for (position, len) in [(0, 57), (48, 9), (56, 1), (64 + 48, 9), (0, usize::MAX)] {
            assert!(area.view().payload(position, len).is_none(), "{len} bytes behind {position}");
            assert!(by_word.payload(position, len).is_none(), "{len} bytes behind {position}");
        }
    }
}
