//! The one zero-copy door: the only place where shared bytes become a slice.
//!
//! Shared bytes may change under a slice at any time, which would be undefined behaviour. So a slice exists only
//! * for a lossless reader, because the writer never overwrites what such a reader has not released, and
//! * on a ring in which every process that could write the bytes, or make the writer go on without this reader, already
//!   has power over this process: the [trust rule](crate#trust);
//!
//! or behind an `unsafe fn` whose caller vouches for as much.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use bytemuck::{AnyBitPattern, CheckedBitPattern};

use super::reader::forever;
use super::typed::Invalid;
use super::{Claim, Reader, TypedClaim};
use crate::error::{RecvError, TryRecvError};
use crate::memory::Mapped;
use crate::ring::{CopyOut, Payload, Read};
use crate::schema::Schema;
use crate::wait::fork;

/// A record in place, in the ring: no copy. The reader holds the writer back until this is dropped, which counts the
/// record as received. (If it is forgotten instead, the next receive yields the record again.)
pub struct RecordRef<'a> {
    reader: &'a mut Reader,
    /// A pointer, not a slice: the bytes may change once `drop` has given the room back, and a slice in an argument would
    /// have to stay valid until the function that was given it returns.
    payload: NonNull<[u8]>,
    sequence: u64,
    /// The position behind it.
    next: u64,
    /// It derefs to a slice of the ring.
    borrow: PhantomData<&'a [u8]>,
}

// SAFETY: it is an exclusive borrow of a reader, which is Send, and a pointer to bytes that do not change meanwhile.
unsafe impl Send for RecordRef<'_> {}

impl RecordRef<'_> {
    /// Its number, counted from the start of the ring.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Deref for RecordRef<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes lie within the segment (`MappedPayload::bytes`), which the reader keeps mapped; nobody writes them
        // until `drop` gives the room back, by the contract of `lend`.
        unsafe { self.payload.as_ref() }
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef").field("sequence", &self.sequence).field("payload", &&**self).finish()
    }
}

impl Drop for RecordRef<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // A forked child must not give back what its parent still borrows.
        if self.reader.born == fork::generation() {
            self.reader.core.release(self.next);
        }
    }
}

/// A value in place, in the ring: no copy. As [`RecordRef`], of a typed ring.
pub struct TypedRef<'a, T> {
    /// Of the length of a `T`, and with bits that are one.
    record: RecordRef<'a>,
    of: PhantomData<&'a T>,
}

impl<'a, T: Schema + CheckedBitPattern> TypedRef<'a, T> {
    /// The value that a record is. If it is none, it is released.
    #[inline(always)]
    pub(super) fn new<E: From<Invalid>>(record: RecordRef<'a>) -> Result<TypedRef<'a, T>, E> {
        const { assert!(align_of::<T>() <= 8 && align_of::<T>() == align_of::<T::Bits>()) };
        if record.len() == size_of::<T::Bits>() {
            // SAFETY: the payload begins at a word, so it is aligned for up to 8 bytes; it is as long as the type, any bytes
            // are such bits, and nobody changes them while the record is borrowed.
            let bits = unsafe { record.payload.cast::<T::Bits>().as_ref() };
            if T::is_valid_bit_pattern(bits) {
                return Ok(TypedRef { record, of: PhantomData });
            }
        }
        Err(Invalid { sequence: record.sequence, len: record.len() }.into())
    }

    /// Its number, counted from the start of the ring.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }
}

impl<T> Deref for TypedRef<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `new` checked that the bytes are a `T`; alignment and lifetime are as there.
        unsafe { self.record.payload.cast::<T>().as_ref() }
    }
}

impl<T: fmt::Debug> fmt::Debug for TypedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRef").field("sequence", &self.record.sequence).field("value", &**self).finish()
    }
}

/// Reads where a record is.
struct Locate;

impl CopyOut<Mapped> for Locate {
    type Value = NonNull<[u8]>;

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, Mapped>) -> NonNull<[u8]> {
        payload.bytes()
    }
}

impl Reader {
    /// Borrows the next record in place if there is one: no copy. For lossless readers of a ring that can be
    /// [trusted](crate#trust).
    ///
    /// # Errors
    /// [`TryRecvError`]; [`NotBorrowable`](TryRecvError::NotBorrowable) unless the reader [can](Self::can_borrow).
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<RecordRef<'_>, TryRecvError> {
        if !self.can_borrow() {
            return Err(self.not_borrowable());
        }
        let read = match self.mine().and_then(|core| core.look(&mut Locate)) {
            Some(read) => read,
            None => self.locate_slowly()?,
        };
        // SAFETY: it was just found. `can_borrow`: this reader is lossless, so no honest writer overwrites the record before it is
        // released, and nobody but processes that have power over this one could do otherwise.
        Ok(unsafe { self.lend(read) })
    }

    /// Borrows the next record in place, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`]; [`NotBorrowable`](RecvError::NotBorrowable) unless the reader [can](Self::can_borrow).
    #[inline(always)]
    pub fn recv_ref(&mut self) -> Result<RecordRef<'_>, RecvError> {
        if !self.can_borrow() {
            return Err(forever(self.not_borrowable().into()));
        }
        let mut waiting = None;
        let read = loop {
            if let Some(read) = self.mine().and_then(|core| core.look(&mut Locate)) {
                break read;
            }
            let polls = self.wait_for_record(&mut waiting, usize::MAX)?;
            self.core.poll(polls);
        };
        // SAFETY: as in `try_recv_ref`.
        Ok(unsafe { self.lend(read) })
    }

    /// As [`try_recv_ref`](Self::try_recv_ref), for any reader of any ring.
    ///
    /// # Safety
    /// Nobody writes the record's bytes while it is borrowed. That holds if the reader is lossless and all processes that
    /// can write the ring segment or the registry keep to the protocol, and do not evict this reader meanwhile. It
    /// does not hold for a lossy reader, unless the writer is known to rest.
    ///
    /// # Errors
    /// [`TryRecvError`].
    pub unsafe fn try_recv_ref_unchecked(&mut self) -> Result<RecordRef<'_>, TryRecvError> {
        let read = self.locate_slowly()?;
        // SAFETY: the caller's.
        Ok(unsafe { self.lend(read) })
    }

    /// Can records be borrowed in safety? True for lossless readers of rings that no other user can write: see
    /// [trust](crate#trust). Changes for a reader only if it is evicted, which on such a ring needs a damaged registry, or
    /// [rejoins](Self::rejoin).
    #[must_use]
    #[inline]
    pub fn can_borrow(&self) -> bool {
        self.core.is_lossless() && self.shared.is_trusted()
    }

    /// Why no record is lent; what is yet to be told of a lossless reader's eviction comes first.
    #[cold]
    #[inline(never)]
    fn not_borrowable(&mut self) -> TryRecvError {
        match self.mine() {
            None => TryRecvError::Inherited,
            Some(core) => {
                core.poison().or_else(|| core.take_eviction()).map_or(TryRecvError::NotBorrowable, Into::into)
            }
        }
    }

    /// Where the next record is, or why there is none.
    #[cold]
    #[inline(never)]
    fn locate_slowly(&mut self) -> Result<Read<NonNull<[u8]>>, TryRecvError> {
        let core = self.mine().ok_or(TryRecvError::Inherited)?;
        core.read(|payload| payload.bytes()).map_err(TryRecvError::from).or_else(|error| self.heed_death(error))
    }

    /// The record that was just read, in place.
    ///
    /// # Safety
    /// `read` is what this reader's core has found, with nothing released since; nobody writes the record's bytes until the result
    /// is dropped.
    #[inline(always)]
    unsafe fn lend(&mut self, read: Read<NonNull<[u8]>>) -> RecordRef<'_> {
        RecordRef { reader: self, payload: read.value, sequence: read.sequence, next: read.next(), borrow: PhantomData }
    }
}

impl Claim<'_> {
    /// The claim's bytes in place, to be filled by whatever writes to a slice; all of them count as written.
    ///
    /// # Safety
    /// Until the slice is dropped no lossy reader of this ring may exist: one that has been lapped may be reading these
    /// very bytes, which is a data race. For the same reason nobody may call [`Reader::lag`] meanwhile, or join. The bytes are initialised, with whatever was in the ring before.
    #[inline(always)]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        (self.written, self.pending) = (self.len(), 0);
        let bytes = self.writer.core.memory().bytes_at(self.writer.core.payload(&self.reserved), self.len());
        debug_assert!(bytes.is_some(), "a reservation lies within its segment");
        // SAFETY: `bytes_at` checked that the range lies within the segment, which is initialised and kept mapped by the
        // writer. Lossless readers do not read it (it was reserved), lossy ones do not by the caller's word, and nobody
        // writes it but this one writer, which the claim borrows.
        bytes.map_or(&mut [][..], |bytes| unsafe {
            core::slice::from_raw_parts_mut(bytes.as_ptr(), self.reserved.len())
        })
    }
}

impl<T: AnyBitPattern> TypedClaim<'_, T> {
    /// The value in place: at first whatever bytes were there.
    ///
    /// # Safety
    /// As of [`Claim::as_mut_slice`].
    #[inline(always)]
    pub unsafe fn as_mut(&mut self) -> &mut T {
        const { assert!(align_of::<T>() <= 8) };
        // SAFETY: the caller's word.
        let bytes = unsafe { self.bytes.as_mut_slice() };
        assert_eq!(bytes.len(), size_of::<T>(), "the claim is one value long");
        // SAFETY: the payload begins at a word, so it is aligned for up to 8 bytes; it is as long as the type, any bytes are a
        // value of it, and nobody else reaches them while `self` is borrowed, by the caller's word.
        unsafe { &mut *bytes.as_mut_ptr().cast::<T>() }
    }
}
