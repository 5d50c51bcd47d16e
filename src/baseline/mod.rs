//! The classic ways for processes to talk, behind one trait: what the ring is compared with, and the ring itself.
//!
//! *Feature `baseline`. Linux only, like the rest; made for comparisons, tests and examples, and complete enough to be used.*
//!
//! ```text
//!   Transport ── Link::make(&transport, place, receivers) ─▶ Link ─▶ End ── sender(..) ─▶ Sender     send, try_send, ..., close
//!      │                                                               └──── receiver(..) ▶ Receiver  receive, try_receive, ..., close
//!      └── rules() ─▶ Rules: borders, limits, loss, fan-out, reach, what is seen of the other side's end
//! ```
//!
//! | family | transports | module |
//! |---|---|---|
//! | pipes | `pipe`, `fifo` | `pipe`, `fifo` |
//! | unix sockets | `unix-stream`, `unix-datagram`, `unix-seqpacket`, each also `-named` | `unix` |
//! | internet sockets | `tcp`; `udp`, `udp-connected`, `udp-broadcast`, `udp-multicast` | `tcp`, `udp` |
//! | message queues | `sysv-queue`, `posix-queue` | `sysv_queue`, `posix_queue` |
//! | shared memory and semaphores | `sysv-shm`, `posix-sem-named`, `posix-sem-unnamed` | `sysv_shm`, `posix_sem` |
//! | files | `board-flock`, `board-lockf`, `board-record`, `board-mapped` | `board`, `locks` |
//! | signals, counters | `signal-queued`, `signal-standard`, `eventfd` | `signal`, `event` |
//! | the ring | `ring-<kind>-<wait>`: 8 kinds, 4 wait strategies | `ring` |
//!
//! Whom to trust: what is read from another process is checked, and never a bound or a pointer. But a process that may write the files
//! beneath (`posix-sem`, `board`) can truncate them while they are mapped, which kills with SIGBUS: they have mode 0600.
//!
//! Every call that waits uses the blocking call of its mechanism, so that its cost is the mechanism's own; calls that do not wait
//! cost a look at most. [`Multiplexer`] waits for many receivers at once, and a [`Bridge`] lets it wait for those without a
//! descriptor.

mod board;
mod bounded;
mod bridge;
mod datagram;
mod each;
mod error;
mod event;
mod fifo;
mod link;
mod locks;
mod multiplex;
pub mod pipe;
pub mod posix_queue;
mod posix_sem;
mod ring;
mod rules;
mod signal;
mod socket;
pub mod stream;
pub mod sysv;
mod sysv_queue;
mod sysv_shm;
pub mod tcp;
mod udp;
mod unix;
mod wait;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

pub use board::Board;
pub use bridge::Bridge;
pub use error::{ReceiveError, SendError, SetupError};
pub use event::EventFd;
pub use fifo::Fifo;
pub use link::{End, Link, MAX_RECEIVERS, Names, Object, Place, Plug, Plugs};
pub use locks::{FileLock, LockKind};
pub use multiplex::{Event, Multiplexer, With};
pub use pipe::Pipe;
pub use posix_queue::PosixQueue;
pub use posix_sem::PosixSemaphores;
pub use ring::{Ring, RingKind};
pub use rules::{Borders, Death, Delivery, FanOut, Reach, Rules, Seen, Wake};
pub use signal::Signals;
pub use sysv_queue::SysvQueue;
pub use sysv_shm::SysvMemory;
pub use tcp::Tcp;
pub use udp::Udp;
pub use unix::{Unix, UnixKind, peer_of, set_queue};

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Not,
    /// Until then.
    Until(Instant),
    /// For as long as it takes.
    Forever,
}

impl Patience {
    /// For so long from now on.
    #[must_use]
    pub fn of(timeout: Duration) -> Patience {
        Instant::now().checked_add(timeout).map_or(Patience::Forever, Patience::Until)
    }

    /// What is left of it; none for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Patience::Not => Some(Duration::ZERO),
            Patience::Until(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Patience::Forever => None,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// What a sender answers when it is over.
    fn full(self) -> SendError {
        if self == Patience::Not { SendError::Full } else { SendError::Timeout }
    }

    /// What a receiver answers when it is over.
    fn empty(self) -> ReceiveError {
        if self == Patience::Not { ReceiveError::Empty } else { ReceiveError::Timeout }
    }
}

/// One way for processes to talk: one sender, one or more receivers.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Its name: the same in every process.
    fn name(&self) -> String;

    /// What it can and cannot, here and now.
    fn rules(&self) -> Rules;

    /// Makes what both sides share; use [`Link::make`], which also removes it.
    ///
    /// # Errors
    /// [`SetupError`].
    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError>;

    /// Connects the sender's side: [`End::sender`].
    ///
    /// # Errors
    /// [`SetupError`].
    fn sender(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError>;

    /// Connects a receiver's side: [`End::receiver`].
    ///
    /// # Errors
    /// [`SetupError`].
    fn receiver(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Receiver>, SetupError>;
}

/// The sending side. Dropping it closes it.
pub trait Sender: fmt::Debug + Send {
    /// Sends a record to every receiver, and waits for room as long as it may.
    ///
    /// A receiver that is gone is left out; when the last one is, the answer is [`SendError::PeerGone`]. After
    /// [`Full`](SendError::Full) or [`Timeout`](SendError::Timeout) no receiver has got anything of this record, if there is one
    /// receiver; of several, the first ones may have it, and the next send must be this record again: it goes to the others only.
    ///
    /// # Errors
    /// [`SendError`].
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError>;

    /// Says that nothing more will come, where the transport has a way to say it. Everything sent before can still be received.
    ///
    /// Waits up to a second for room to say it, and to write the rest of a record of which a call that may not wait for ever could write only a
    /// part (streams). If there is none by then, the receiver is not told; a stream ends within that record, as if its sender had died.
    fn close(&mut self);

    /// A descriptor that is writable (`POLLOUT`) when there is room, if there is one receiver and such a descriptor.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Sends a record, and waits for room.
    ///
    /// # Errors
    /// [`SendError`].
    fn send(&mut self, record: &[u8]) -> Result<(), SendError> {
        self.send_within(record, Patience::Forever)
    }

    /// Sends a record if there is room.
    ///
    /// # Errors
    /// [`SendError`], first of all [`SendError::Full`].
    fn try_send(&mut self, record: &[u8]) -> Result<(), SendError> {
        self.send_within(record, Patience::Not)
    }

    /// Sends a record, and waits for room for that long.
    ///
    /// # Errors
    /// [`SendError`], first of all [`SendError::Timeout`].
    fn send_timeout(&mut self, record: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_within(record, Patience::of(timeout))
    }
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the record.
    pub len: usize,
    /// Records that were lost before this one, where that is [counted](Delivery::Counted).
    pub lost: u64,
}

impl Received {
    fn whole(len: usize) -> Received {
        Received { len, lost: 0 }
    }
}

/// A receiving side. Dropping it closes it.
pub trait Receiver: fmt::Debug + Send {
    /// Receives a record into the front of a buffer, and waits for one as long as it may.
    ///
    /// # Errors
    /// [`ReceiveError`].
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError>;

    /// Receives no more: the sender is told, where the transport has a way to tell it.
    fn close(&mut self);

    /// A descriptor that is readable (`POLLIN`) when [`try_receive`](Self::try_receive) may have an answer, if there is one.
    /// Ask `try_receive` until it says [`Empty`](ReceiveError::Empty): it may have read ahead.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Receives a record, and waits for it.
    ///
    /// # Errors
    /// [`ReceiveError`].
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.receive_within(buffer, Patience::Forever)
    }

    /// Receives a record if one is there.
    ///
    /// # Errors
    /// [`ReceiveError`], first of all [`ReceiveError::Empty`].
    fn try_receive(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        self.receive_within(buffer, Patience::Not)
    }

    /// Receives a record, and waits for it for that long.
    ///
    /// # Errors
    /// [`ReceiveError`], first of all [`ReceiveError::Timeout`].
    fn receive_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, ReceiveError> {
        self.receive_within(buffer, Patience::of(timeout))
    }
}

/// How long a close waits for room to say it.
const CLOSE: Duration = Duration::from_secs(1);

/// Every transport, the ring last.
#[must_use]
pub fn all() -> Vec<Box<dyn Transport>> {
    let mut all: Vec<Box<dyn Transport>> = vec![Box::new(Pipe::new()), Box::new(Fifo)];
    all.extend(Unix::ALL.map(boxed));
    all.push(Box::new(Tcp::new()));
    all.extend(Udp::ALL.map(boxed));
    all.extend([boxed(SysvQueue), boxed(PosixQueue), boxed(SysvMemory)]);
    all.extend(PosixSemaphores::ALL.map(boxed));
    all.extend(Board::ALL.map(boxed));
    all.extend(Signals::ALL.map(boxed));
    all.push(Box::new(EventFd));
    all.extend(Ring::all().into_iter().map(boxed));
    all
}

/// The transport of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Transport>> {
    all().into_iter().find(|transport| transport.name() == name)
}

fn boxed(transport: impl Transport + 'static) -> Box<dyn Transport> {
    Box::new(transport)
}
