//! Typed channels: every record of the ring is one value of one type, whose size the compiler knows down to the copy.
//!
//! ```text
//!    TypedWriter<Tick>                     ring                                  TypedReader<Tick>
//!   publish(&Tick) ── NoUninit ──▶ ┌─────────────────────────────┐ ── CheckedBitPattern ──▶ recv() -> TypedRecord<Tick>
//!    no byte is uninitialised      │ header: id, size, alignment, │    what is read is a value, whatever the bytes;
//!                                  │ name, text of the schema     │    or it is checked first (bool, char, enums)
//!   create: writes the schema ───▶ ├─────────────────────────────┤ ◀─── open: compares it; a wrong type is
//!                                  │ 17│ Tick │ 17│ Tick │ ... │ 0 │      OpenError::WrongType, which names both
//!                                  └─────────────────────────────┘
//! ```
//!
//! They are thin: a typed handle holds the handle of bytes and adds no state. What differs is the record's length, which is
//! a constant: a reader compares the header with it and copies straight on, and a record of any other length (which no
//! typed writer publishes) is [`Invalid`](crate::RecvError::Invalid).

mod claim;
mod kinds;
mod options;
mod reader;
mod writer;

use std::ops::Deref;

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};

pub use claim::TypedClaim;
pub use options::TypedOptions;
pub use reader::{TypedIter, TypedReader, TypedTryIter};
pub use writer::TypedWriter;

/// A record that is no value of the reader's type. It was skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invalid {
    pub(super) sequence: u64,
    pub(super) len: usize,
}

macro_rules! tell_invalid {
    ($($error:ident)*) => {
        $(impl From<Invalid> for $error {
            #[cold]
            fn from(Invalid { sequence, len }: Invalid) -> $error {
                $error::Invalid { sequence, len }
            }
        })*
    };
}

tell_invalid!(TryRecvError RecvError RecvTimeoutError);

/// A value, and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TypedRecord<T> {
    /// Its number, counted from the start of the ring.
    pub sequence: u64,
    /// The value.
    pub value: T,
}

impl<T> Deref for TypedRecord<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
