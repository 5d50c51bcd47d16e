//! What the inputs of `hostile_reads` and `hostile_registry` say.

use crate::attach::script::From;
use crate::wire::scripts;

scripts! {
    /// A reader, and a ring that changes under it.
    struct Reads {
        shape: Shape,
        fill: Vec<u8>,
        kind: Kind,
        start: From,
        resume: From,
        /// What a peer stores while the calls run, in this order.
        strokes: Vec<Stroke>,
        calls: Vec<Call>,
    }

    /// A writer, and a registry that changes under it and under those who join.
    struct Registry {
        shape: Shape,
        strokes: Vec<Stroke>,
        calls: Vec<Deed>,
    }

    /// The sizes of the ring.
    struct Shape {
        capacity: u8,
        wide: bool,
        blocks: u8,
        slots: u8,
        late: bool,
    }

    enum Kind {
        Lossless,
        Lossy,
        Follower,
    }

    /// A store of a peer's, after so many more accesses.
    struct Stroke {
        after: u8,
        aim: Aim,
        value: Value,
    }

    /// Which word.
    enum Aim {
        /// The one that is about to be accessed.
        Here,
        /// So far from it.
        Near { words: i8 },
        /// Counted from the start of the segment.
        Any { word: u16 },
        /// Behind the static header: the words that change.
        Head { word: u8 },
    }

    enum Value {
        Raw { value: u64 },
        Small { value: u16 },
        /// So much more than what is there.
        Add { delta: i16 },
        /// So many words from the writer's position.
        Position { words: i16 },
        Pad { words: u16 },
        /// So far below zero.
        Below { words: u16 },
    }

    enum Call {
        Read { count: u8 },
        Again,
        Into { room: u8 },
        Exact { len: u8 },
        Run { len: u8, most: u8 },
        Poll { most: u8 },
        Lag,
        Park,
        Rejoin,
        Outlives,
        Owe { lost: u8 },
        Publish { len: u8, count: u8 },
        PassOver,
        Close,
        Join { start: From },
    }

    enum Deed {
        Publish { len: u8, count: u8 },
        PublishLong { less: u8 },
        Stage { len: u8, count: u8 },
        Claim { len: u8, shorter: u8, commit: bool },
        Park { len: u8 },
        PassOver,
        Reap { slot: u8 },
        ReapAll { which: u8 },
        Count,
        Heed { heed: bool },
        TakeOver,
        Close,
        Join { lossless: bool, start: From },
        Read { reader: u8, count: u8 },
        Rejoin { reader: u8 },
        ParkReader { reader: u8 },
        Leave { reader: u8 },
        /// A store between two calls.
        Strike { stroke: Stroke },
    }
}
