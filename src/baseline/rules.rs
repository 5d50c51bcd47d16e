//! What each transport can and cannot: told by the transport itself, and checked by `tests/baseline`.

/// How the border between two records is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borders {
    /// One record is one message, to the system too.
    Kept,
    /// A stream of bytes: each record is sent behind its length.
    Framed {
        /// Bytes that the length takes.
        header: usize,
    },
}

/// What becomes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Each arrives once: a sender that finds no room waits, or is told [`Full`](super::SendError::Full).
    Lossless,
    /// Records can be lost, and the receiver is told exactly how many: [`Received::lost`](super::Received::lost).
    Counted,
    /// Records can be lost, and nobody can tell how many.
    Silent,
}

/// How a record reaches several receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOut {
    /// It is sent to each of them in turn.
    SendToEach,
    /// It is sent once: the system, or shared memory, shows it to all.
    Once,
    /// It reaches one receiver only.
    One,
}

/// How the other process comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Threads of one process.
    Threads,
    /// A forked child shares the memory.
    Forks,
    /// A process that inherits descriptors, or is handed them over a socket: [`End::pass_to`](super::End::pass_to).
    Descriptors,
    /// Any process of this machine that knows the name.
    Names,
    /// Other machines, too.
    Network,
}

/// How the other side learns of a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It looks like a close.
    LooksClosed,
    /// It is told apart from a close.
    Told,
    /// Nobody is told: use timeouts.
    Unseen,
}

/// What the other side sees of the end of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A close is seen.
    pub close: bool,
    /// A death.
    pub death: Death,
}

impl Seen {
    /// Nothing.
    pub const NOTHING: Seen = Seen { close: false, death: Death::Unseen };
    /// The kernel closes what a dead process had open: no difference.
    pub const ALIKE: Seen = Seen { close: true, death: Death::LooksClosed };
    /// Both, and apart.
    pub const BOTH: Seen = Seen { close: true, death: Death::Told };
    /// Only a close.
    pub const CLOSE: Seen = Seen { close: true, death: Death::Unseen };
}

/// How a call that waits is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The kernel wakes it. (System V queues have no time limit: a call with one looks again and again.)
    Kernel,
    /// It looks again and again, and sleeps up to a millisecond in between.
    Polled,
    /// It looks again and again, and never sleeps.
    Spins,
}

/// What a transport can: the limits are those of this machine, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// How borders are kept.
    pub borders: Borders,
    /// Bytes of the shortest record.
    pub min_record: usize,
    /// Bytes of the longest record.
    pub max_record: usize,
    /// What becomes of records.
    pub delivery: Delivery,
    /// How several receivers are reached.
    pub fan_out: FanOut,
    /// Who can be reached.
    pub reach: Reach,
    /// What receivers see of the sender's end.
    pub sender_end: Seen,
    /// What the sender sees of the end of its last receiver, at one of the next sends.
    pub receiver_end: Seen,
    /// A receiver that lives and does not read holds the sender up, sooner or later.
    pub holds_sender: bool,
    /// So does a dead one: nobody tells the sender.
    pub dead_holds_sender: bool,
    /// How a receiver that waits is woken.
    pub wake: Wake,
    /// A descriptor tells that a record is there: for `epoll`, `poll`, `select`.
    pub pollable: bool,
    /// Objects outlive the processes, unless somebody removes them: [`Link`](super::Link) does.
    pub outlives: bool,
}

impl Rules {
    /// What most have; the others say where they differ.
    pub(super) const fn stream() -> Rules {
        Rules {
            borders: Borders::Framed { header: super::stream::HEADER_BYTES },
            min_record: 0,
            max_record: super::stream::MAX_RECORD_BYTES,
            delivery: Delivery::Lossless,
            fan_out: FanOut::SendToEach,
            reach: Reach::Descriptors,
            sender_end: Seen::ALIKE,
            receiver_end: Seen::ALIKE,
            holds_sender: true,
            dead_holds_sender: false,
            wake: Wake::Kernel,
            pollable: true,
            outlives: false,
        }
    }

    /// As `stream`, of messages of up to `max_record` bytes.
    pub(super) const fn messages(max_record: usize) -> Rules {
        Rules { borders: Borders::Kept, max_record, ..Rules::stream() }
    }
}
