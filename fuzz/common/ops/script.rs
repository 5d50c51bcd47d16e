//! What an input of `ops_vs_model` says.

use crate::wire::scripts;

scripts! {
    /// One ring and what happens to it.
    struct Script {
        shape: Shape,
        ops: Vec<Op>,
    }

    /// The options of the ring.
    struct Shape {
        capacity: u8,
        wide: bool,
        blocks: u8,
        slots: u8,
        start: StartAt,
    }

    /// Position of the first record.
    enum StartAt {
        Zero,
        Below32 { back: u16 },
        Below63 { back: u16 },
        Anywhere { at: u64 },
    }

    /// Length of a payload.
    enum Len {
        Small { len: u8 },
        Any { len: u16 },
        Largest { less: u8 },
        ToEnd { less: u8 },
        TooLarge { more: u8 },
        Huge { less: u8 },
    }

    enum Op {
        Publish { len: Len, how: Publish },
        Claim { len: Len, wait: bool, fills: Vec<Fill>, commit: bool },
        Batch { count: u8, len: Len, shorter: u8, wait: bool },
        Join { lossy: bool, start: From, resume: From },
        Receive { reader: u8, how: Receive },
        Drain { reader: u8 },
        Leave { reader: u8 },
        Resubscribe { reader: u8 },
        WaitForReaders { n: u8 },
        Close,
        DropWriter,
    }

    enum Publish {
        Try,
        Wait,
        Timeout,
    }

    /// One step of filling a claim.
    enum Fill {
        Write { len: u8 },
        Value { value: u32 },
        All,
        Slice,
        Truncate { len: u16 },
    }

    /// A [`Start`].
    enum From {
        Oldest,
        Middle,
        Newest,
        Back { records: u8 },
        Ahead { records: u8 },
        Sequence { sequence: u64 },
    }

    enum Receive {
        Owned,
        Wait,
        Timeout,
        Into { room: u16 },
        Borrowed { forget: bool },
        Unchecked { forget: bool },
        Batch { most: u8, wait: bool },
        TryIter { most: u8 },
        Iter { most: u8 },
    }
}
