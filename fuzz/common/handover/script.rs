//! What an input of `handover` says.

use crate::wire::scripts;

scripts! {
    /// One message, what comes with it, and what the receiver asks for.
    struct Script {
        stream: bool,
        /// What it is before it is changed.
        message: Base,
        edits: Vec<Edit>,
        length: Length,
        files: Vec<File>,
        require_strict: bool,
    }

    /// Of the strict ring or of the other one, with the registry or without.
    struct Base {
        strict: bool,
        registry: bool,
    }

    struct Edit {
        at: u8,
        value: u8,
    }

    enum Length {
        Whole,
        Less { by: u8 },
        More { by: u8 },
    }

    /// A descriptor.
    enum File {
        Ring { strict: bool },
        Registry { strict: bool },
        /// The ring's, able to write: harmless to a receiver.
        WritableRing { strict: bool },
        /// The registry's, not able to write.
        ReadOnlyRegistry { strict: bool },
        /// The write end of a pipe, which tells when it is closed.
        Pipe,
        /// Sealed or not, with any bytes in it.
        Memfd { sealed: bool, bytes: Vec<u8> },
        /// A sealed copy of a segment, changed.
        Copy { registry: bool, edits: Vec<WordEdit>, less: u16 },
    }

    struct WordEdit {
        word: u8,
        value: u64,
    }
}
