//! What a reader gets: an owned record, or the account of one that was copied into a buffer.

use std::ops::Deref;

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
