//! What an input of `names` says.

use crate::wire::scripts;

scripts! {
    /// A ring directory with anything in it, and calls that take names.
    struct Script {
        entries: Vec<Entry>,
        calls: Vec<Call>,
    }

    struct Entry {
        name: Name,
        what: What,
    }

    /// A name, of any bytes where the system allows any.
    enum Name {
        /// One that everybody uses.
        Known { which: u8 },
        /// A rule is broken, or nearly.
        Odd { which: u8 },
        Bytes { bytes: Vec<u8> },
        Long { len: u16, byte: u8 },
        /// As a create at work names its directory.
        Temporary { which: u8 },
    }

    /// What is in the ring directory.
    enum What {
        /// A ring whose writer lives, in this process.
        Live,
        /// A ring whose writer closed and kept it.
        Closed,
        /// A ring whose writer died.
        Orphan,
        /// Of the parts of a ring, what is said.
        Parts { old: bool, ring: Part, registry: Part, lease: Part, more: bool },
        File { bytes: Vec<u8> },
        /// To a place outside the ring directory, or in it.
        Link { to: u8 },
        Fifo,
    }

    /// What stands in the place of a part of a ring.
    enum Part {
        Whole,
        Missing,
        Empty,
        /// The part of another ring.
        Other,
        /// Changed, and cut.
        Damaged { at: u16, value: u8, less: u16 },
        Bytes { bytes: Vec<u8> },
        Link { to: u8 },
        Fifo,
        Directory,
    }

    enum Call {
        Create { name: Name },
        OpenOrCreate { name: Name, keep: bool },
        Open { name: Name, lossy: bool, follower: bool },
        Remove { name: Name },
        List,
        Gc,
        /// A path of the caller's choosing, of one more component.
        CreateFile { name: Name },
        RemoveFile { name: Name },
        OpenFile { name: Name },
        /// Names of POSIX shared memory, but only bad ones: the good ones are everybody's.
        Posix { name: Name, slash: bool },
        /// Drops the writer that was made last.
        DropWriter,
    }
}
