//! What an input of `attach` says.

use shmcast::ring::Start;

use crate::wire::scripts;

scripts! {
    /// One ring and what is done to it.
    struct Script {
        shape: Shape,
        case: Case,
        /// Lengths of the records that are there.
        fill: Vec<u8>,
        close: bool,
        /// Changed before it is opened.
        edits: Vec<Edit>,
        /// Put the checksums right afterwards.
        seal: bool,
        ring_lies: Vec<Falsehood>,
        registry_lies: Vec<Falsehood>,
        steps: Vec<Step>,
    }

    /// The sizes of the ring.
    struct Shape {
        capacity: u8,
        wide: bool,
        blocks: u8,
        slots: u8,
        start: u8,
        back: u16,
    }

    enum Case {
        /// Claimed lengths of the two mappings.
        Headers { ring: Claimed, registry: Claimed },
        Damaged,
        Registry,
        DamagedAgain,
        RegistryAgain,
        DamagedOnceMore,
        /// For one value of `share` in sixteen, because files are slow.
        Files { share: u8, ring_cut: u16, registry_cut: u16 },
    }

    enum Claimed {
        True,
        Less { by: u16 },
        More { by: u16 },
        Any { bytes: u64 },
    }

    struct Edit {
        place: Place,
        value: Value,
    }

    /// A word.
    enum Place {
        RingHeader { word: u8 },
        Limit,
        Announced,
        Status { word: u8 },
        HeadCell { cell: bool, sequence: bool },
        Checkpoint { block: u16, sequence: bool },
        /// Counted from the writer's position back.
        Data { back: u16 },
        /// Of one of the records that were there at first.
        RecordHeader { record: u8 },
        AnyRing { word: u16 },
        RegistryHeader { word: u8 },
        Flags { word: u8 },
        Slot { slot: u8, word: u8 },
        AnyRegistry { word: u16 },
    }

    enum Value {
        Raw { value: u64 },
        Small { value: u16 },
        /// So much more than what is there.
        Add { delta: i16 },
        /// So many words from the writer's position.
        Position { words: i16 },
        /// The pad header that would be right here.
        Pad { of: u16 },
        /// A value that means something somewhere.
        Mark { which: u8 },
        /// What is in another word of the ring.
        Copy { word: u16 },
    }

    /// One [`Lie`].
    struct Falsehood {
        skip: u8,
        last: bool,
        value: Value,
    }

    enum Step {
        Join { lossless: bool, blind: bool, start: From, resume: From },
        Read { reader: u8, count: u8 },
        ReadOnly { reader: u8 },
        Release { reader: u8 },
        Poll { reader: u8, most: u8 },
        Owe { reader: u8, lost: u8 },
        Lag { reader: u8 },
        Park { reader: u8 },
        Leave { reader: u8 },
        Change { edit: Edit },
        Publish { len: u8 },
        PublishLong { less: u8 },
        Stage { len: u8, count: u8 },
        ParkForRoom { len: u8 },
        Count,
        Close,
    }

    /// A [`Start`].
    enum From {
        Oldest,
        Middle,
        Newest,
        Sequence { sequence: u8 },
        AnySequence { sequence: u64 },
    }
}

impl From {
    /// What it stands for.
    pub(crate) fn start(&self) -> Start {
        match *self {
            From::Oldest => Start::Oldest,
            From::Middle => Start::Middle,
            From::Newest => Start::Newest,
            From::Sequence { sequence } => Start::Sequence(u64::from(sequence)),
            From::AnySequence { sequence } => Start::Sequence(sequence),
        }
    }
}
