//! What an input of `framing` says.

use crate::wire::scripts;

scripts! {
    /// One carrier, what a peer does at its other end, and calls at this end.
    struct Script {
        carrier: Carrier,
        steps: Vec<Step>,
        /// Read as lines, in pieces of `cut` bytes, of at most `longest`.
        lines: Vec<u8>,
        cut: u8,
        longest: u8,
        /// The text of an end, but for its descriptors.
        end: End,
    }

    enum Carrier {
        Stream,
        Pipe,
        Datagram,
        Seqpacket,
        /// A stream, whose other end reads what is sent.
        Sender,
    }

    enum Step {
        /// The peer sends this: on a stream, a part of it may wait for the next.
        Send { what: What },
        /// The rest of what is cut off.
        SendRest,
        Receive { room: Room, how: How },
        /// The peer shuts its end down, or closes it.
        End { close: bool },
        CloseHere,
        /// `Sender`: sends a record, without waiting.
        TrySend { len: u16 },
        /// `Sender`: the peer reads as many bytes.
        Drain { bytes: u16 },
    }

    enum What {
        /// As a sender sends it; `number` counts on from the last datagram.
        Record { len: u16, cut: u8 },
        /// A length, and nothing behind it.
        Length { len: u32 },
        Bytes { bytes: Vec<u8> },
        /// A datagram of this link or another, with that number.
        Numbered { number: u64, ours: bool, len: u8 },
        /// The last datagram.
        Last,
    }

    enum Room {
        Small { bytes: u8 },
        Any { bytes: u16 },
    }

    enum How {
        Try,
        Timeout,
        Forever,
    }

    struct End {
        transport: u8,
        role: u8,
        words: Vec<Vec<u8>>,
    }
}
