//! The ring itself, behind the same trait: every kind of segment, every wait strategy.
//!
//! The sender's process creates the ring, because the writer's locks are its own; receivers open it as soon as it is there, and the
//! sender waits until all have joined. The descriptors of a memfd go over a pair of sockets.

use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::error::During;
use super::link::{Local, Plug, ring_key};
use super::rules::{FanOut, Reach, Seen, Wake};
use super::wait::{Naps, ready};
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};
use crate::{
    Handover, OpenError, Options, PublishError, PublishTimeoutError, Reader, RecvError, RecvTimeoutError, SharedRing,
    Start, TryPublishError, TryRecvError, WaitStrategy, Writer,
};

/// Bytes of a ring's data area.
const CAPACITY: u64 = 4 << 20;
/// Half the ring less 8 bytes.
const MAX_BYTES: usize = (CAPACITY / 2 - 8) as usize;
/// "For ever", for calls that want a time.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Where a ring lives: the kinds of [the crate's documentation](crate#kinds-of-rings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RingKind {
    Named,
    File,
    Posix,
    Memfd,
    MemfdStrict,
    Sysv,
    Anonymous,
    Heap,
}

impl RingKind {
    const ALL: [RingKind; 8] = [
        RingKind::Named,
        RingKind::File,
        RingKind::Posix,
        RingKind::Memfd,
        RingKind::MemfdStrict,
        RingKind::Sysv,
        RingKind::Anonymous,
        RingKind::Heap,
    ];
}

/// A ring of one kind, whose ends wait in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The kind.
    pub kind: RingKind,
    /// How both ends wait.
    pub wait: WaitStrategy,
}

impl Ring {
    /// Every kind with every strategy.
    #[must_use]
    pub fn all() -> Vec<Ring> {
        let waits = [WaitStrategy::Park, WaitStrategy::ParkAtOnce, WaitStrategy::Yield, WaitStrategy::Spin];
        RingKind::ALL.iter().flat_map(|&kind| waits.map(|wait| Ring { kind, wait })).collect()
    }

    fn options(self) -> Options {
        // Whatever the sender has published before a receiver came is still there, because the sender waits for all.
        // Its first lap costs what the others do, so that what is measured of it is what it is in use.
        Options::new().capacity(CAPACITY).wait(self.wait).start(Start::Oldest).prefault(true)
    }

    fn open(self, plug: &Plug, handed: Option<&SharedRing>) -> Result<Reader, SetupError> {
        let options = self.options();
        Ok(match self.kind {
            RingKind::Named => options.open(plug.word(0)?)?,
            RingKind::File => options.open_file(plug.word(0)?)?,
            RingKind::Posix => options.open_posix(plug.word(0)?)?,
            RingKind::Sysv => options.open_sysv(ring_key(plug.word(0)?.as_ref())?)?,
            RingKind::Memfd | RingKind::MemfdStrict => match handed {
                Some(ring) => ring.open(&options)?,
                None => return Err(SetupError::Timeout { doing: "the descriptors of a ring" }),
            },
            RingKind::Anonymous | RingKind::Heap => match &plug.local {
                Some(Local::Subscriber(subscriber)) => options.join(subscriber)?,
                _ => return Err(self.not_local()),
            },
        })
    }

    fn not_local(self) -> SetupError {
        SetupError::Unable { transport: self.name(), reason: "its ends cannot leave the process that made it" }
    }
}

impl Transport for Ring {
    fn name(&self) -> String {
        let kind = match self.kind {
            RingKind::Named => "named",
            RingKind::File => "file",
            RingKind::Posix => "posix",
            RingKind::Memfd => "memfd",
            RingKind::MemfdStrict => "memfd-strict",
            RingKind::Sysv => "sysv",
            RingKind::Anonymous => "anonymous",
            RingKind::Heap => "heap",
        };
        let wait = match self.wait {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Yield => "yield",
            WaitStrategy::Park => "park",
            WaitStrategy::ParkAtOnce => "park-at-once",
        };
        format!("ring-{kind}-{wait}")
    }

    fn rules(&self) -> Rules {
        let reach = match self.kind {
            RingKind::Named | RingKind::File | RingKind::Posix | RingKind::Sysv => Reach::Names,
            RingKind::Memfd | RingKind::MemfdStrict => Reach::Descriptors,
            RingKind::Anonymous => Reach::Forks,
            RingKind::Heap => Reach::Threads,
        };
        // By locks on files, or by semaphores that the kernel undoes for the dead.
        let deaths_are_seen = self.kind != RingKind::Heap;
        Rules {
            fan_out: FanOut::Once,
            reach,
            sender_end: if deaths_are_seen { Seen::BOTH } else { Seen::CLOSE },
            receiver_end: Seen::NOTHING,
            dead_holds_sender: !deaths_are_seen,
            wake: match self.wait {
                WaitStrategy::Spin | WaitStrategy::Yield => Wake::Spins,
                WaitStrategy::Park | WaitStrategy::ParkAtOnce => Wake::Kernel,
            },
            pollable: false,
            outlives: reach == Reach::Names,
            ..Rules::messages(MAX_BYTES)
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let word = match self.kind {
            RingKind::Named | RingKind::Posix => place.name(0)[1..].to_owned(),
            RingKind::File => place.file("ring").to_string_lossy().into_owned(),
            RingKind::Sysv => place.directory().to_string_lossy().into_owned(),
            _ => String::new(),
        };
        let mut sender = Plug::words([word.clone(), receivers.to_string()]);
        let mut plugs: Vec<Plug> = (0..receivers).map(|_| Plug::words([word.clone()])).collect();
        match self.kind {
            RingKind::Memfd | RingKind::MemfdStrict => {
                for plug in &mut plugs {
                    let (one, other) =
                        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                            .setup("make a pair of sockets")?;
                    sender.descriptors.push(one);
                    plug.descriptors.push(other);
                }
            }
            RingKind::Anonymous | RingKind::Heap => {
                let options = self.options();
                let writer =
                    if self.kind == RingKind::Heap { options.create_heap()? } else { options.create_anonymous()? };
                for plug in &mut plugs {
                    plug.local = Some(Local::Subscriber(writer.subscriber()));
                }
                sender.local = Some(Local::Writer(Box::new(writer)));
            }
            _ => {}
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    /// Creates the ring, and waits until every receiver has joined.
    fn sender(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let options = self.options();
        let mut writer = match self.kind {
            RingKind::Named => options.create(plug.word(0)?)?,
            RingKind::File => options.create_file(plug.word(0)?)?,
            RingKind::Posix => options.create_posix(plug.word(0)?)?,
            RingKind::Sysv => options.create_sysv(ring_key(plug.word(0)?.as_ref())?)?,
            RingKind::Memfd => options.create_memfd()?,
            RingKind::MemfdStrict => options.create_memfd_strict()?,
            RingKind::Anonymous | RingKind::Heap => match plug.local {
                Some(Local::Writer(writer)) => *writer,
                _ => return Err(self.not_local()),
            },
        };
        for line in &plug.descriptors {
            let shared = writer.share(line).map_err(|error| refused("the ring", error));
            shared.setup("hand over descriptors")?;
        }
        let receivers: u64 = Plug::words(plug.words).number(1)?;
        let timeout = patience.left().unwrap_or(LONG);
        if writer.wait_for_readers(receivers, timeout).is_err() {
            return Err(SetupError::Timeout { doing: "the readers of a ring" });
        }
        Ok(Box::new(RingSender { writer }))
    }

    /// Waits until there is a ring.
    fn receiver(&self, mut plug: Plug, patience: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let handed = match plug.descriptor() {
            Ok(line) => {
                if !ready(&line, PollFlags::POLLIN, patience).setup("wait for descriptors")? {
                    return Err(SetupError::Timeout { doing: "the descriptors of a ring" });
                }
                // As its rules want it: of this user, and strict where that was promised.
                let handover = Handover::new().require_strict(self.kind == RingKind::MemfdStrict);
                let shared = handover.receive(&line).map_err(|error| refused("the ring", error));
                Some(shared.setup("take descriptors")?)
            }
            Err(_) => None,
        };
        let mut naps = Naps::new(patience);
        loop {
            match self.open(&plug, handed.as_ref()) {
                Err(SetupError::Open(OpenError::NotFound { .. } | OpenError::Busy)) => {
                    if !naps.nap() {
                        return Err(SetupError::Timeout { doing: "the writer of a ring" });
                    }
                }
                reader => return Ok(Box::new(RingReceiver { reader: Some(reader?) })),
            }
        }
    }
}

fn refused(what: &'static str, why: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(format!("{what}: {why}"))
}

#[derive(Debug)]
struct RingSender {
    writer: Writer,
}

impl Sender for RingSender {
    #[inline]
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        let outcome = match patience {
            Patience::Forever => self.writer.publish(record).map_err(|error| match error {
                PublishError::TooLarge { len, max } => SendError::TooLong { len, max },
                PublishError::Closed => SendError::Closed,
                error => SendError::Io { doing: "publish", source: refused("the ring", error) },
            }),
            Patience::Not => self.writer.try_publish(record).map_err(|error| match error {
                TryPublishError::Full => SendError::Full,
                TryPublishError::TooLarge { len, max } => SendError::TooLong { len, max },
                TryPublishError::Closed => SendError::Closed,
                error => SendError::Io { doing: "publish", source: refused("the ring", error) },
            }),
            Patience::Until(deadline) => self.writer.publish_deadline(record, deadline).map_err(|error| match error {
                PublishTimeoutError::Timeout => SendError::Timeout,
                PublishTimeoutError::TooLarge { len, max } => SendError::TooLong { len, max },
                PublishTimeoutError::Closed => SendError::Closed,
                error => SendError::Io { doing: "publish", source: refused("the ring", error) },
            }),
        };
        outcome.map(drop)
    }

    fn close(&mut self) {
        self.writer.close();
    }
}

#[derive(Debug)]
struct RingReceiver {
    reader: Option<Reader>,
}

/// Why a receive of the ring brought nothing: for each of its errors alike.
macro_rules! stopped {
    ($errors:ident, $error:expr, $room:expr) => {
        match $error {
            $errors::Closed => ReceiveError::Closed,
            $errors::WriterDied => ReceiveError::SenderDied,
            $errors::Corrupt { .. } => ReceiveError::Damaged { what: "the ring" },
            $errors::TooSmall { needed } => ReceiveError::TooLong { len: needed, room: $room },
            error => ReceiveError::Io { doing: "receive", source: refused("the ring", error) },
        }
    };
}

impl Receiver for RingReceiver {
    #[inline]
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let reader = self.reader.as_mut().ok_or(ReceiveError::Closed)?;
        let room = buffer.len();
        let outcome = match patience {
            Patience::Forever => reader.recv_into(buffer).map_err(|error| stopped!(RecvError, error, room)),
            Patience::Not => reader.try_recv_into(buffer).map_err(|error| match error {
                TryRecvError::Empty => ReceiveError::Empty,
                error => stopped!(TryRecvError, error, room),
            }),
            Patience::Until(deadline) => {
                let timeout = deadline.saturating_duration_since(Instant::now());
                reader.recv_into_timeout(buffer, timeout).map_err(|error| match error {
                    RecvTimeoutError::Timeout => ReceiveError::Timeout,
                    error => stopped!(RecvTimeoutError, error, room),
                })
            }
        };
        if matches!(outcome, Err(ReceiveError::TooLong { .. })) {
            // Here a record that does not fit is gone, as with all other transports.
            let _ = reader.try_recv();
        }
        outcome.map(|received| Received::whole(received.len))
    }

    fn close(&mut self) {
        self.reader = None;
    }
}
