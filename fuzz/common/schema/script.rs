//! What an input of `schema` says.

use crate::wire::scripts;

scripts! {
    /// The header of a ring of one type, changed, and a reader of another, or the same.
    struct Script {
        written: Type,
        wanted: Type,
        edits: Vec<Edit>,
        /// With the checksum of what it is now.
        sealed: bool,
    }

    enum Type {
        Raw,
        Unit,
        Flag,
        Order,
        Odd,
        Largest,
    }

    enum Edit {
        /// Of the payload's fields.
        Field { which: u8, value: Value },
        /// A byte of the name.
        Name { at: u8, value: u8 },
        /// A byte of the text.
        Text { at: u16, value: u8 },
        /// From there on.
        TextBytes { at: u16, bytes: Vec<u8> },
        /// So many lines for the text, and all that follows from it.
        Lines { lines: u8 },
        /// Any word, checked by whatever rule it has.
        Any { word: u8, value: u64 },
    }

    enum Value {
        Small { value: u8 },
        Raw { value: u64 },
        Flip { bit: u8 },
        /// That of the type that is wanted.
        Wanted,
    }
}
