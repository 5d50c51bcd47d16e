//! The one zero-copy door: the only place where shared bytes become a slice.
//!
//! Shared bytes may change under a slice at any time, which would be undefined behaviour. So a slice exists only
//! * for a lossless reader, because the writer never overwrites what such a reader has not released, and
//! * on a ring in which every process that could write the bytes, or make the writer go on without this reader, already
//!   has power over this process: the [trust rule](crate#trust);
//!
//! or behind an `unsafe fn` whose caller vouches for as much.

use super::reader::{block, forever};
use super::{Claim, Reader, RecordRef};
use crate::error::{RecvError, TryRecvError};
use crate::memory::Mapped;
use crate::ring::{self, Read};

impl Reader {
    /// Borrows the next record in place if there is one: no copy. For lossless readers of a ring that can be
    /// [trusted](crate#trust).
    ///
    /// # Errors
    /// [`TryRecvError`]; [`NotBorrowable`](TryRecvError::NotBorrowable) always, or never, for one reader.
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<RecordRef<'_>, TryRecvError> {
        if !self.can_borrow() {
            return Err(TryRecvError::NotBorrowable);
        }
        let read = locate(&mut self.core)?;
        // SAFETY: `can_borrow`: this reader is lossless, so no honest writer overwrites the record before it is released,
        // and nobody but processes that have power over this one could do otherwise.
        Ok(unsafe { self.lend(read) })
    }

    /// Borrows the next record in place, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`]; [`NotBorrowable`](RecvError::NotBorrowable) always, or never, for one reader.
    #[inline(always)]
    pub fn recv_ref(&mut self) -> Result<RecordRef<'_>, RecvError> {
        if !self.can_borrow() {
            return Err(RecvError::NotBorrowable);
        }
        let read = block!(self, locate(&mut self.core), None).map_err(forever)?;
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
        let read = locate(&mut self.core)?;
        // SAFETY: the caller's.
        Ok(unsafe { self.lend(read) })
    }

    /// Can records be borrowed in safety? True for lossless readers of rings that no other user can write: see
    /// [trust](crate#trust). Never changes for one reader.
    #[must_use]
    #[inline]
    pub fn can_borrow(&self) -> bool {
        self.core.is_lossless() && self.shared.is_trusted()
    }

    /// The record that was just read, in place.
    ///
    /// # Safety
    /// Nobody writes the record's bytes until the result is dropped.
    #[inline(always)]
    unsafe fn lend(&mut self, read: Read<()>) -> RecordRef<'_> {
        let bytes = self.core.memory().bytes_at(read.payload, read.len);
        debug_assert!(bytes.is_some(), "a record lies within its segment");
        // SAFETY: `bytes_at` checked that the range lies within the segment, which is initialised and kept mapped by this
        // reader, which the result borrows; the caller vouches that nobody writes.
        let payload = bytes.map_or(&[][..], |bytes| unsafe { core::slice::from_raw_parts(bytes, read.len) });
        RecordRef { reader: self, payload, sequence: read.sequence, size: read.size() }
    }
}

/// Where the next record is; it is not released yet.
#[inline(always)]
fn locate(core: &mut ring::Reader<Mapped>) -> Result<Read<()>, TryRecvError> {
    Ok(core.read(|_, _, _| ())?)
}

impl Claim<'_> {
    /// The claim's bytes in place, to be filled by whatever writes to a slice; all of them count as written.
    ///
    /// # Safety
    /// Until the slice is dropped no lossy reader of this ring may exist: one that has been lapped may be reading these
    /// very bytes, which is a data race. The bytes are initialised, with whatever was in the ring before.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        (self.written, self.pending) = (self.len(), 0);
        let bytes = self.writer.core.memory().bytes_at(self.reserved.payload(), self.len());
        debug_assert!(bytes.is_some(), "a reservation lies within its segment");
        // SAFETY: `bytes_at` checked that the range lies within the segment, which is initialised and kept mapped by the
        // writer. Lossless readers do not read it (it was reserved), lossy ones do not by the caller's word, and nobody
        // writes it but this one writer, which the claim borrows.
        bytes.map_or(&mut [][..], |bytes| unsafe { core::slice::from_raw_parts_mut(bytes, self.reserved.len()) })
    }
}
