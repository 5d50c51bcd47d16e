//! Filling a record in place, in the ring: no buffer of one's own, one copy less.

use std::io;

use super::Writer;
use crate::memory::{Memory, Word};
use crate::ring::Reserved;

/// Room in the ring for one record, from [`Writer::claim`]. Fill it, then [`commit`](Claim::commit); a claim that is
/// dropped is an abort, and no reader ever sees it.
///
/// Bytes are written in order, through the methods here or [`io::Write`]; what is not written is zero.
///
/// ```
/// use std::io::Write;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = shmcast::Options::new().create_heap()?;
/// let mut reader = writer.subscriber().reader()?;
/// let mut claim = writer.claim(64)?;
/// write!(claim, "{} bytes are enough", 19)?;
/// let written = claim.written();
/// claim.truncate(written);
/// claim.commit();
/// assert_eq!(reader.recv()?.payload, b"19 bytes are enough");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a claim that is not committed is aborted"]
pub struct Claim<'a> {
    pub(super) writer: &'a mut Writer,
    pub(super) reserved: Reserved,
    pub(super) written: usize,
    /// The last bytes written, as long as their word is not full: shared memory is written in whole words.
    partial: [u8; 8],
    pub(super) pending: usize,
}

impl<'a> Claim<'a> {
    #[inline(always)]
    pub(super) fn new(writer: &'a mut Writer, reserved: Reserved) -> Claim<'a> {
        Claim { writer, reserved, written: 0, partial: [0; 8], pending: 0 }
    }

    /// Bytes that fit.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.reserved.len()
    }

    /// True for a claim of 0 bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reserved.is_empty()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Makes the record shorter, for a payload that turned out so. Has no effect if `len` is not less than [`len`](Self::len).
    pub fn truncate(&mut self, len: usize) {
        self.writer.core.truncate(&mut self.reserved, len);
        if self.written > len {
            let cut = len % 8;
            if self.pending == 0 || len / 8 < self.written / 8 {
                // The word that is cut is in the ring already.
                self.writer.core.memory().copy_out(self.word(len), &mut self.partial[..cut]);
            }
            (self.written, self.pending) = (len, cut);
        }
    }

    /// Fills the whole claim.
    ///
    /// # Panics
    /// If the lengths differ, as [`slice::copy_from_slice`] does.
    #[inline(always)]
    pub fn copy_from_slice(&mut self, payload: &[u8]) {
        assert_eq!(payload.len(), self.len(), "the payload is as long as the claim");
        self.writer.core.fill(&self.reserved, payload);
        (self.written, self.pending) = (payload.len(), 0);
    }

    /// Appends a value's bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] if it does not fit; then nothing of it is written.
    #[inline]
    pub fn write_value<T: bytemuck::NoUninit>(&mut self, value: &T) -> io::Result<()> {
        let bytes = bytemuck::bytes_of(value);
        if bytes.len() > self.len() - self.written {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.append(bytes);
        Ok(())
    }

    /// Publishes the record; answers its sequence number.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        if self.written < self.len() || self.pending > 0 {
            self.complete();
        }
        let len = self.len();
        let sequence = self.writer.core.commit(self.reserved);
        self.writer.core.ask_ahead(len);
        sequence
    }

    /// Stores the last bytes, and zeros behind them: no older record shows through.
    #[inline(never)]
    fn complete(&self) {
        const ZEROS: [u8; 512] = [0; 512];
        let memory = self.writer.core.memory();
        if self.pending > 0 {
            memory.copy_in(self.word(self.written), &self.partial[..self.pending]);
        }
        let mut at = self.written.next_multiple_of(8);
        while at < self.len() {
            let count = ZEROS.len().min(self.len() - at);
            memory.copy_in(self.word(at), &ZEROS[..count]);
            at += count;
        }
    }

    /// The word that a byte of the payload lies in.
    fn word(&self, byte: usize) -> Word {
        self.writer.core.payload(&self.reserved).plus(byte / 8)
    }

    /// Writes bytes that fit.
    fn append(&mut self, mut bytes: &[u8]) {
        let memory = self.writer.core.memory();
        if self.pending > 0 {
            let (first, rest) = bytes.split_at(bytes.len().min(8 - self.pending));
            self.partial[self.pending..self.pending + first.len()].copy_from_slice(first);
            let start = self.written - self.pending;
            (self.written, self.pending) = (self.written + first.len(), self.pending + first.len());
            if self.pending < 8 {
                return;
            }
            memory.copy_in(self.word(start), &self.partial);
            bytes = rest;
        }
        let (whole, last) = bytes.split_at(bytes.len() & !7);
        memory.copy_in(self.word(self.written), whole);
        self.partial[..last.len()].copy_from_slice(last);
        (self.written, self.pending) = (self.written + bytes.len(), last.len());
    }
}

impl io::Write for Claim<'_> {
    /// Writes what fits; 0 once the claim is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.len() - self.written);
        self.append(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
