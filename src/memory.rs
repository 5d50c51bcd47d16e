//! The memory seam: all that the protocol may ask of shared memory.
//!
//! *Outside semver; for the models and the fuzz targets.*
//!
//! ```text
//!   ring/  ──  M: Memory  ──┬──  Mapped        the only real atomics: a file, anonymous memory, the heap
//!  (protocol)               ├──  LoomMemory    a vector of loom atomics            (loom-tests)
//!                           └──  Count, Weaken decorators around any of the others (loom-tests)
//! ```
//! What every record takes goes by an *area* of it ([`ReadArea`], [`WriteArea`]): the same words and the same accesses, found to
//! lie within the segment once.
//!
//! Shared memory is an array of 64-bit words and nothing else. There is one access width, because an atomic access
//! that races with one of another width has no defined meaning; and no reference to shared bytes is ever formed
//! (but for the one zero-copy door, `channel/door.rs`), because a peer may change them at any time.
//! Payload bytes travel through relaxed words too: that is what [`Memory::copy_in`] and [`Memory::copy_out`] *mean*,
//! whatever instructions do it.
//!
//! Every access names its [`Site`]: the real memory ignores it, the models weaken one site at a time.

use core::fmt;
use core::sync::atomic::Ordering;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::layout::SEMAPHORE_BYTES;
use crate::ring::Site;
use crate::wait::futex;
use crate::wait::semaphore::{Semaphores, posix};

// The product's only use of atomic types: they are laid over shared bytes here and nowhere else.
#[allow(clippy::disallowed_types)]
type Cell = core::sync::atomic::AtomicU64;

mod area;
mod copy;
mod value;

pub use area::{
    ByWord, MappedArea, MappedPayload, MappedRoom, MappedRoomView, MappedView, ReadArea, ReadPayload, ReadView,
    WordPayload, WriteArea, WriteView,
};
pub(crate) use value::checked;

/// The index of a 64-bit word within one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(pub usize);

impl Word {
    /// The word `n` words behind this one.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, n: usize) -> Word {
        Word(self.0.wrapping_add(n))
    }

    /// The word so many bytes behind it: a multiple of 8.
    #[inline(always)]
    #[must_use]
    pub const fn plus_bytes(self, bytes: u64) -> Word {
        Word(self.0 + (bytes / 8) as usize)
    }
}

/// One of a ring's semaphores: where it lies if it is one of POSIX, and its number in the set if it is one of System V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Semaphore {
    /// Its first word in the registry.
    pub at: Word,
    /// 0 for the writer's, 1 + n for that of slot n.
    pub number: u64,
}

/// How the fast side and the slow side of a store-load handshake are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Both sides execute a full fence.
    Fence,
    /// The fast side executes nothing, the slow side interrupts it (`membarrier`). The fast side's process must be
    /// registered ([`Memory::heavy_barrier`] would silently do nothing otherwise).
    Asymmetric,
}

/// One segment of shared memory, seen as 64-bit words.
///
/// All methods are safe for any argument: a word outside of the segment, or a write to memory that is mapped
/// read-only, is a bug of this crate (`debug_assert`), reads 0 and writes nothing.
pub trait Memory {
    /// A part that is loaded from; [`ByWord`] but for real memory.
    type ReadArea: ReadArea + fmt::Debug;

    /// A part that is stored to; [`ByWord`] but for real memory.
    type WriteArea: WriteArea + fmt::Debug;

    /// `bytes` of the segment, a power of two and 8 at least, from a word on. An area that does not lie within the segment is a bug
    /// of this crate, and then none of it.
    fn read_area(&self, first: Word, bytes: u64) -> Self::ReadArea;

    /// As [`read_area`](Self::read_area), of a segment that may be written.
    fn write_area(&self, first: Word, bytes: u64) -> Self::WriteArea;

    /// Loads a word. One L1 hit, unless another core wrote the line.
    fn load(&self, at: Word, order: Ordering, site: Site) -> u64;

    /// Stores a word.
    fn store(&self, at: Word, value: u64, order: Ordering, site: Site);

    /// Stores `new` if the word is `current`; acquire-release on success, acquire on failure.
    ///
    /// # Errors
    /// The value found, if it was another one.
    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64>;

    /// Adds to a word, wrapping; answers the value before.
    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64;

    /// Raises a word to at least `value`.
    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site);

    /// A fence.
    fn fence(&self, order: Ordering, site: Site);

    /// The fast side of a store-load handshake: a compiler fence under [`Barrier::Asymmetric`], else a full fence.
    fn light_barrier(&self, mode: Barrier, site: Site);

    /// The slow side of a store-load handshake; about 10 microseconds under [`Barrier::Asymmetric`]. False if the
    /// system refused it: then the caller must not sleep for long.
    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool;

    /// Copies bytes into the words from `at` on; the rest of the last word becomes zero.
    fn copy_in(&self, at: Word, bytes: &[u8]);

    /// Copies bytes out of the words from `at` on.
    fn copy_out(&self, at: Word, bytes: &mut [u8]);

    /// Appends `len` bytes from the words from `at` on to `bytes`. The length is the caller's to bound.
    fn append_out(&self, at: Word, len: usize, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + len, 0);
        self.copy_out(at, &mut bytes[start..]);
    }

    /// A short pause in a bounded loop.
    fn pause(&self);

    /// A hint that a word will soon be stored: its line may be fetched meanwhile. Never an access.
    fn prefetch_for_store(&self, _at: Word) {}

    /// Sleeps while the low half of the word is `seen`, for at most `slice`; may return for no reason.
    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site);

    /// Wakes all that sleep on the word.
    fn wake(&self, at: Word, site: Site);

    /// Takes the tokens that a semaphore has, `most` of them at most, without sleeping: what was done before they were posted is
    /// visible then. False if there is no such semaphore, or none that may be used: then nobody can sleep on it.
    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool;

    /// Takes a token, sleeping until there is one, for at most `slice`; may return for no reason.
    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site);

    /// Adds a token, which wakes who sleeps for one.
    fn post(&self, semaphore: Semaphore, site: Site);
}

/// Keeps the bytes of a [`Mapped`] alive. Implemented by the segments.
///
/// # Safety
/// For as long as the value lives, `base()` must point to `words()` initialised 64-bit words, aligned to 8 bytes,
/// readable, writable if `writable()`, to which this process forms no reference, and which are reached by other
/// means only through atomic accesses of 64 bits at the same alignment (or by the kernel's futex compare, or, in the
/// words of the semaphores of a registry, by the C library).
#[doc(hidden)]
pub unsafe trait Backing: Send + Sync {
    /// The first word.
    fn base(&self) -> *mut u64;
    /// The number of words.
    fn words(&self) -> usize;
    /// May this process write them?
    fn writable(&self) -> bool;
}

/// Real memory: the words of one mapped segment.
#[derive(Clone)]
pub struct Mapped {
    base: NonNull<u64>,
    /// Words that may be loaded.
    readable: usize,
    /// Words that may be stored: `readable`, or 0 where the segment is mapped read-only.
    writable: usize,
    /// Keeps the mapping alive: `base` is valid for as long as this is.
    backing: Arc<dyn Backing>,
    /// Those of a registry that has some, and in which nobody has written who may not.
    semaphores: Semaphores,
}

// SAFETY: `base` points into `backing`, which is Send + Sync and whose words are only accessed atomically.
unsafe impl Send for Mapped {}
// SAFETY: as above; every method takes `&self` and is an atomic access.
unsafe impl Sync for Mapped {}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("words", &self.readable).field("writable", &(self.writable > 0)).finish()
    }
}

impl Mapped {
    /// The words of a segment.
    #[must_use]
    pub fn new(backing: Arc<dyn Backing>) -> Mapped {
        // A backing without an address has no words.
        let (base, readable) = match NonNull::new(backing.base()) {
            Some(base) => (base, backing.words()),
            None => (NonNull::dangling(), 0),
        };
        let writable = if backing.writable() { readable } else { 0 };
        Mapped { base, readable, writable, backing, semaphores: Semaphores::None }
    }

    /// The same, with the semaphores of a registry.
    pub(crate) fn with_semaphores(self, semaphores: Semaphores) -> Mapped {
        Mapped { semaphores, ..self }
    }

    /// The number of words.
    #[must_use]
    pub fn words(&self) -> usize {
        self.readable
    }

    /// What keeps the words alive.
    #[must_use]
    pub fn backing(&self) -> &Arc<dyn Backing> {
        &self.backing
    }

    /// The address of `len` bytes from a word on, if they lie within the segment: for the one zero-copy door.
    #[inline(always)]
    pub(crate) fn bytes_at(&self, at: Word, len: usize) -> Option<NonNull<u8>> {
        if at.0 > self.readable || len.div_ceil(8) > self.readable - at.0 {
            return None;
        }
        // SAFETY: the word is one of the segment's, or the one behind it.
        Some(unsafe { self.base.add(at.0) }.cast())
    }

    /// A semaphore of the C library, if it lies within the segment.
    fn posix(&self, semaphore: Semaphore) -> Option<posix::Place> {
        self.words_at(semaphore.at, SEMAPHORE_BYTES as usize, self.writable).and_then(posix::Place::new)
    }

    /// Makes a POSIX semaphore without tokens, in a registry that nobody else has seen yet.
    pub(crate) fn format_posix(&self, semaphore: Semaphore) {
        if let Some(place) = self.posix(semaphore) {
            // SAFETY: by `words_at` the place lies within the segment, writable and alive; nobody else uses it yet.
            unsafe { posix::init(place) }
        }
    }

    /// The atomic cell of a word, if it is one of the first `bound` words.
    #[inline(always)]
    fn cell(&self, at: Word, bound: usize) -> Option<&Cell> {
        debug_assert!(at.0 < bound, "word {} of {bound}", at.0);
        if at.0 >= bound {
            return None;
        }
        // SAFETY: `bound` is at most `readable`, so by the contract of `Backing` the address is within the segment.
        let word = unsafe { self.base.add(at.0) };
        // SAFETY: by the contract of `Backing` the word is aligned, initialised, alive for as long as `self`, and
        // accessed by nobody but atomically with this width.
        Some(unsafe { Cell::from_ptr(word.as_ptr()) })
    }

    /// The address of word `at`, if `len` bytes from there on lie within the first `bound` words.
    #[inline(always)]
    fn words_at(&self, at: Word, len: usize, bound: usize) -> Option<*mut u64> {
        // One comparison: behind the last word there is room for nothing. (For no bytes any address will do.)
        let within = len.div_ceil(8) <= bound.saturating_sub(at.0);
        debug_assert!(within && at.0 <= bound, "{len} bytes at word {} of {bound}", at.0);
        within.then(|| self.base.as_ptr().wrapping_add(at.0))
    }
}

impl Memory for Mapped {
    type ReadArea = MappedArea;
    type WriteArea = MappedRoom;

    fn read_area(&self, first: Word, bytes: u64) -> MappedArea {
        self.readable_area(first, bytes)
    }

    fn write_area(&self, first: Word, bytes: u64) -> MappedRoom {
        self.writable_area(first, bytes)
    }

    #[inline(always)]
    fn load(&self, at: Word, order: Ordering, _: Site) -> u64 {
        self.cell(at, self.readable).map_or(0, |cell| load(cell, order))
    }

    #[inline(always)]
    fn store(&self, at: Word, value: u64, order: Ordering, _: Site) {
        if let Some(cell) = self.cell(at, self.writable) {
            cell.store(value, order);
        }
    }

    #[inline]
    fn compare_exchange(&self, at: Word, current: u64, new: u64, _: Site) -> Result<u64, u64> {
        let cell = self.cell(at, self.writable).ok_or(0u64)?;
        // As the trait promises: acquire-release takes a slot over from its last owner (P12) and shows it to the next.
        cell.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }

    #[inline]
    fn fetch_add(&self, at: Word, n: u64, order: Ordering, _: Site) -> u64 {
        self.cell(at, self.writable).map_or(0, |cell| cell.fetch_add(n, order))
    }

    #[inline]
    fn fetch_max(&self, at: Word, value: u64, order: Ordering, _: Site) {
        if let Some(cell) = self.cell(at, self.writable) {
            cell.fetch_max(value, order);
        }
    }

    #[inline(always)]
    fn fence(&self, order: Ordering, _: Site) {
        core::sync::atomic::fence(order);
    }

    #[inline(always)]
    fn light_barrier(&self, mode: Barrier, _: Site) {
        match mode {
            // SeqCst for the compiler alone: the sleeper's membarrier makes the processor's part (P7, P9).
            Barrier::Asymmetric => core::sync::atomic::compiler_fence(Ordering::SeqCst),
            Barrier::Fence => full_fence(),
        }
    }

    fn heavy_barrier(&self, mode: Barrier, _: Site) -> bool {
        // SeqCst (P7, P9): the fence serves the peers that are in fence mode themselves; the membarrier those that are not.
        core::sync::atomic::fence(Ordering::SeqCst);
        mode == Barrier::Fence || crate::wait::membarrier::interrupt_all()
    }

    #[inline(always)]
    fn copy_in(&self, at: Word, bytes: &[u8]) {
        let Some(to) = self.words_at(at, bytes.len(), self.writable) else { return };
        // SAFETY: by `words_at`, and because a segment is whole words, all words that the bytes touch lie within the
        // writable segment, which is alive and accessed only atomically; `bytes` is as long as it says.
        unsafe { copy::words_in(to, bytes.as_ptr(), bytes.len()) }
    }

    #[inline(always)]
    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        let Some(from) = self.words_at(at, bytes.len(), self.readable) else { return };
        // SAFETY: by `words_at`, all words that the bytes touch lie within the segment; `bytes` is as long as it says.
        unsafe { copy::words_out(from, bytes.as_mut_ptr(), bytes.len()) }
    }

    #[inline]
    fn append_out(&self, at: Word, len: usize, bytes: &mut Vec<u8>) {
        let Some(from) = self.words_at(at, len, self.readable) else { return };
        // SAFETY: by `words_at`, all words that the bytes touch lie within the segment.
        unsafe { append(from, len, bytes) }
    }

    #[inline(always)]
    fn prefetch_for_store(&self, at: Word) {
        prefetch_for_store(self.base.as_ptr().wrapping_add(at.0));
    }

    #[inline]
    fn pause(&self) {
        core::hint::spin_loop();
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, _: Site) {
        if cfg!(miri) {
            // Miri takes the kernel's look at half of the word for an access of the program's, of another width. So nobody
            // sleeps there, and no futex, which is a full fence to Miri, hides a missing order.
            std::thread::yield_now();
        } else if let Some(cell) = self.cell(at, self.readable) {
            futex::wait(low_half(cell), seen, slice);
        }
    }

    fn wake(&self, at: Word, _: Site) {
        if cfg!(miri) {
            // Nobody sleeps.
        } else if let Some(cell) = self.cell(at, self.readable) {
            futex::wake_all(low_half(cell));
        }
    }

    fn drain(&self, semaphore: Semaphore, most: u64, _: Site) -> bool {
        match (&self.semaphores, self.posix(semaphore)) {
            (Semaphores::None, _) | (Semaphores::Posix, None) => false,
            // SAFETY: as in `post`.
            (Semaphores::Posix, Some(place)) => unsafe { posix::drain(place, most) },
            (Semaphores::Sysv(set), _) => set.drain(semaphore.number),
        }
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, _: Site) {
        match (&self.semaphores, self.posix(semaphore)) {
            (Semaphores::None, _) | (Semaphores::Posix, None) => {}
            // SAFETY: as in `post`.
            (Semaphores::Posix, Some(place)) => unsafe { posix::take(place, slice) },
            (Semaphores::Sysv(set), _) => set.take(semaphore.number, slice),
        }
    }

    fn post(&self, semaphore: Semaphore, _: Site) {
        match (&self.semaphores, self.posix(semaphore)) {
            (Semaphores::None, _) | (Semaphores::Posix, None) => {}
            // SAFETY: by `words_at` the place lies within the segment, writable and alive. Its creator made semaphores there;
            // by the trust rule, without which there are none here, nobody has written there since but the C library,
            // or else one that has power over this process anyway.
            (Semaphores::Posix, Some(place)) => unsafe { posix::post(place) },
            (Semaphores::Sysv(set), _) => set.post(semaphore.number),
        }
    }
}

/// Appends `len` bytes of shared words to `bytes`.
///
/// # Safety
/// `from` is valid for relaxed atomic loads of `len.div_ceil(8)` words.
#[inline]
unsafe fn append(from: *mut u64, len: usize, bytes: &mut Vec<u8>) {
    bytes.reserve(len);
    let start = bytes.len();
    let to = bytes.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: the caller's contract; `reserve` made room for `len`.
    unsafe { copy::words_out(from, to, len) };
    // SAFETY: `words_out` initialised the `len` bytes behind `start`.
    unsafe { bytes.set_len(start + len) };
}

/// Loads a cell.
#[inline(always)]
fn load(cell: &Cell, order: Ordering) -> u64 {
    // In read-only mappings the language guarantees only relaxed loads, so an acquire load is one followed by
    // a fence: on x86-64 the same machine code.
    let value = cell.load(Ordering::Relaxed);
    // Acquire: whatever the caller names it for.
    if order == Ordering::Acquire {
        // Acquire: likewise.
        core::sync::atomic::fence(Ordering::Acquire);
    }
    value
}

/// Asks for the line of an address.
#[inline(always)]
#[allow(clippy::not_unsafe_ptr_arg_deref)] // Nothing is dereferenced.
fn prefetch_for_store(address: *const u64) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
    // SAFETY: a hint; it never faults, whatever the address, and changes no memory.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable)))))]
    let _ = address;
}

/// Out of line: the fast paths of processes that can be interrupted by `membarrier`, nearly all of them, stay free of fences.
#[cold]
#[inline(never)]
fn full_fence() {
    // SeqCst (P7, P9): store before load, which nothing weaker orders.
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// The address of the 32 bits of a word that a futex compares: its low half on either byte order.
fn low_half(cell: &Cell) -> *const u32 {
    let half = usize::from(cfg!(target_endian = "big"));
    cell.as_ptr().cast::<u32>().cast_const().wrapping_add(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::heap;

    #[test]
    fn copies_round_trip_at_every_small_length_and_offset() {
        let memory = Mapped::new(heap::zeroed(64));
        let source: Vec<u8> = (1..=255).cycle().take(400).collect();
        for at in 0..4 {
            for len in 0..=400 {
                memory.copy_in(Word(at), &source[..len]);
                let mut out = vec![0xAA; len + 1];
                memory.copy_out(Word(at), &mut out[..len]);
                assert_eq!(out[..len], source[..len]);
                assert_eq!(out[len], 0xAA, "nothing is written behind the buffer");
                let mut appended = vec![7];
                memory.append_out(Word(at), len, &mut appended);
                assert_eq!(appended[1..], source[..len]);
            }
        }
    }

    #[test]
    fn the_rest_of_the_last_word_is_zeroed() {
        let memory = Mapped::new(heap::zeroed(4));
        // Relaxed, both: one thread.
        memory.store(Word(1), u64::MAX, Ordering::Relaxed, Site::ZeroAhead);
        memory.copy_in(Word(1), b"abc");
        // Relaxed: likewise.
        assert_eq!(memory.load(Word(1), Ordering::Relaxed, Site::Header).to_ne_bytes(), *b"abc\0\0\0\0\0");
    }
}
