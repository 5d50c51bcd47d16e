//! What an input of `typed` says.

use crate::wire::scripts;

scripts! {
    /// One ring of values of one type, and what happens to it.
    struct Script {
        of: Type,
        /// The writer's program lies about its type: what it publishes need be no value of the readers' type.
        lies: bool,
        shape: Shape,
        ops: Vec<Op>,
    }

    /// What the values are: see `types.rs`.
    enum Type {
        Unit,
        Flag,
        Letter,
        Side,
        Order,
        Odd,
        Wide,
        Largest,
        TooLarge,
    }

    /// The options of the ring.
    struct Shape {
        /// In a memfd, where a peer can change what was published; otherwise on the heap.
        memfd: bool,
        capacity: u8,
        wide: bool,
        blocks: u8,
        slots: u8,
        late: bool,
    }

    enum Op {
        Publish { seed: u64, how: Publish },
        Batch { count: u8, seed: u64, wait: bool },
        /// For types of which any bytes are a value.
        Claim { seed: u64, in_place: bool, commit: bool },
        Join { lossy: bool, start: From },
        /// With another type, or none.
        JoinWrong { other: u8, lossy: bool },
        /// Bytes are what any value is.
        Untyped { seen: u8 },
        Receive { reader: u8, how: Receive },
        Drain { reader: u8 },
        Leave { reader: u8 },
        Resubscribe { reader: u8 },
        /// A peer changes bytes of a record that is in the ring.
        Scribble { back: u8, at: u16, value: u8 },
        /// A peer changes the length of a record that is in the ring, within the words that it has.
        Resize { back: u8, less: u8 },
        Close,
        DropWriter,
    }

    enum Publish {
        Try,
        Wait,
        Timeout,
    }

    /// Where a reader begins.
    enum From {
        Oldest,
        Newest,
        Back { records: u8 },
    }

    enum Receive {
        Try,
        Wait,
        Timeout,
        /// For types of which any bytes are a value.
        Into { wait: bool },
        Borrowed { wait: bool },
        Batch { most: u8, wait: bool },
        TryIter { most: u8 },
        Iter { most: u8 },
    }
}
