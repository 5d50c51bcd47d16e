//! What a reader gets: an owned record, the account of one that was copied into a buffer, or a borrowed one.

use std::ops::Deref;

use super::Reader;

/// A record of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its number, counted from the start of the ring.
    pub sequence: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// A record that was copied into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    /// Its number, counted from the start of the ring.
    pub sequence: u64,
    /// Its length in bytes: the buffer's first `len` bytes are the record.
    pub len: usize,
}

/// A record in place, in the ring: no copy. The reader holds the writer back until this is dropped, which counts the
/// record as received. (If it is forgotten instead, the next receive yields the record again.)
#[derive(Debug)]
pub struct RecordRef<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) payload: &'a [u8],
    pub(super) sequence: u64,
    /// Bytes from its header to the next.
    pub(super) size: u64,
}

impl RecordRef<'_> {
    /// Its number, counted from the start of the ring.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Deref for RecordRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload
    }
}

impl Drop for RecordRef<'_> {
    #[inline]
    fn drop(&mut self) {
        self.payload = &[];
        self.reader.core.release(self.size);
    }
}
