//! Rings in memfds go from process to process over a unix socket.
//!
//! ```text
//!   Writer ── shared_ring ──▶ SharedRing ══ Handover::share ═══ socket ═══ Handover::receive ══▶ SharedRing ── open ──▶ Reader
//! ```
//! The message is `layout/handover.rs`, the socket `segment/handover.rs`, the memfds `segment/memfd.rs`; here is who may have
//! what, and what is believed.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::{Options, Reader, Writer};
use crate::error::{OpenError, ReceiveError, ShareError};
use crate::layout::HandoverError;
use crate::layout::handover::{MESSAGE_BYTES, Message};
use crate::segment::handover::{self, Arrived, Peer};
use crate::segment::memfd;

/// The descriptors of a ring in memfds, to [hand over](Handover), to [open](Self::open), or to keep for a
/// [successor](Options::take_over_descriptors) of its writer. They keep the memory, not the ring open: readers are told when the
/// writer closes it all the same. All are closed on exec.
pub struct SharedRing {
    ring: OwnedFd,
    registry: Option<OwnedFd>,
    incarnation: u64,
    strict: bool,
    peer: Option<Peer>,
}

impl fmt::Debug for SharedRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRing")
            .field("strict", &self.strict)
            .field("registry", &self.registry.is_some())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl SharedRing {
    /// The descriptor of the ring segment: read-only, if its writer shared it.
    #[must_use]
    pub fn ring(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// The descriptor of the registry, to read and write; none if this process was made a follower.
    #[must_use]
    pub fn registry(&self) -> Option<BorrowedFd<'_>> {
        self.registry.as_ref().map(AsFd::as_fd)
    }

    /// Can nobody write the ring but its writer, whatever they try? See [`Options::create_memfd_strict`].
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Who sent it; none in the writer's process.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Joins the ring: [`Options::open_descriptors`]. A [follower](Handover::follower) is
    /// [`lossy`](Options::lossy).
    ///
    /// # Errors
    /// [`OpenError`]; [`NeedsRegistry`](OpenError::NeedsRegistry) if a follower would be lossless.
    pub fn open(&self, options: &Options) -> Result<Reader, OpenError> {
        options.open_descriptors(self.ring(), self.registry())
    }
}

/// How a ring in memfds is handed over a unix socket, and from whom and to whom. The socket is connected, of type stream or
/// seqpacket, and stays the caller's: nothing else is read from it or written to it, and its own timeouts apply.
///
/// ```
/// use shmcast::{Handover, Options};
/// use std::os::unix::net::UnixStream;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = Options::new().create_memfd_strict()?;
/// let (ours, theirs) = UnixStream::pair()?; // or a UnixListener, and whoever connects
/// Handover::new().follower(true).share(&writer.shared_ring()?, &ours)?;
///
/// let ring = Handover::new().require_strict(true).receive(&theirs)?; // in another process
/// let mut reader = ring.open(&Options::new().lossy(true))?;
/// writer.publish(b"read, and in no way written")?;
/// assert_eq!(reader.recv()?.payload, b"read, and in no way written");
/// # Ok(())
/// # }
/// ```
///
/// # Who
/// By default both ends refuse anybody but a process of this effective user. The kernel tells who it is, as of the moment at
/// which the [connection was made](Peer).
///
/// A *follower* gets the ring segment alone, by a descriptor that cannot write. So it can read, and in no way slow the writer or
/// be noticed by it. A *full reader* gets the registry, too, and whoever has that can hold the writer up and make it leave readers
/// behind. It must be able to open the registry again (the lock of its slot is its own): be of the same user, or root. Other
/// users are followers. A follower does not learn that the writer died, but can keep the socket, which then ends.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Handover {
    users: Vec<u32>,
    groups: Vec<u32>,
    anyone: bool,
    follower: bool,
    require_strict: bool,
}

impl Handover {
    /// Full readers of this user, any ring.
    pub fn new() -> Handover {
        Handover::default()
    }

    /// *Both.* Allow this user at the other end, besides this process's own: an effective user id.
    pub fn allow_user(mut self, user: u32) -> Handover {
        self.users.push(user);
        self
    }

    /// *Both.* Allow this group at the other end, whoever the user is: an effective group id. Supplementary groups do not count.
    pub fn allow_group(mut self, group: u32) -> Handover {
        self.groups.push(group);
        self
    }

    /// *Both.* Allow anyone at the other end. For a ring that is public; or, if one receives, only with
    /// [`require_strict`](Self::require_strict) and the knowledge that its writer may write what it likes.
    pub fn allow_anyone(mut self) -> Handover {
        self.anyone = true;
        self
    }

    /// *Share.* Hand over the ring segment without the registry, so that the other end can only follow. Off by default. A ring
    /// that was received without its registry is always handed on so.
    pub fn follower(mut self, follower: bool) -> Handover {
        self.follower = follower;
        self
    }

    /// *Receive.* Refuse a ring that others than its writer could write. Off by default. (Whoever created it may share its
    /// mapping with its forks, and be several: the kernel only promises that nobody joins them.)
    pub fn require_strict(mut self, require: bool) -> Handover {
        self.require_strict = require;
        self
    }

    /// Hands a ring over: one message. Answers who got it. Waits for room in the socket as the socket does; it is not known when
    /// the other end reads it. Some tens of microseconds.
    ///
    /// # Errors
    /// [`ShareError`]; nothing was sent.
    pub fn share(&self, ring: &SharedRing, socket: impl AsFd) -> Result<Peer, ShareError> {
        let socket = socket.as_fd();
        let io = |doing| move |errno: Errno| ShareError::Io { doing, source: errno.into() };
        let peer = handover::peer(socket).map_err(io("ask who is at the other end"))?.ok_or(ShareError::NoPeer)?;
        if !self.allows(peer) {
            return Err(ShareError::PeerRefused { peer });
        }
        let registry = match ring.registry() {
            Some(registry) if !self.follower => {
                if !handover::may_write(registry, peer).map_err(io("look at the registry"))? {
                    return Err(ShareError::NeedsFollower { peer });
                }
                // An open file of its own: it can neither hold nor drop a lock of somebody else's.
                Some(memfd::again(&registry, OFlag::O_RDWR).map_err(io("open the registry again"))?)
            }
            _ => None,
        };
        let message = Message { registry: registry.is_some(), incarnation: ring.incarnation };
        let files: Vec<BorrowedFd<'_>> =
            [Some(ring.ring()), registry.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
        match handover::send(socket, message, &files) {
            Ok(()) => Ok(peer),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ShareError::Closed),
            Err(Errno::EAGAIN) => Err(ShareError::WouldBlock),
            Err(Errno::ENOTCONN) => Err(ShareError::NoPeer),
            Err(errno) => Err(io("send to the other end")(errno)),
        }
    }

    /// Receives a ring: one message. Waits for it as the socket does. The other end may be hostile: what is no whole message, what
    /// are not the descriptors that it announces, and what are no memfds, sealed, with one ring in them, is refused. About
    /// a hundred microseconds.
    ///
    /// # Errors
    /// [`ReceiveError`]; all descriptors that came were closed.
    pub fn receive(&self, socket: impl AsFd) -> Result<SharedRing, ReceiveError> {
        let socket = socket.as_fd();
        let io = |doing| move |errno: Errno| ReceiveError::Io { doing, source: errno.into() };
        let peer = handover::peer(socket).map_err(io("ask who is at the other end"))?.ok_or(ReceiveError::NoPeer)?;
        if !self.allows(peer) {
            return Err(ReceiveError::PeerRefused { peer });
        }
        let arrived = match handover::receive(socket) {
            Ok(arrived) => arrived,
            Err(Errno::EAGAIN) => return Err(ReceiveError::NothingYet),
            Err(Errno::ECONNRESET) => return Err(ReceiveError::Closed),
            Err(Errno::ENOTCONN | Errno::EINVAL) => return Err(ReceiveError::NoPeer),
            Err(errno) => return Err(io("receive from the other end")(errno)),
        };
        let (message, ring, registry) = unpack(arrived)?;
        let segments = memfd::open(ring.as_fd(), registry.as_ref().map(AsFd::as_fd))?;
        let (announced, found) = (message.incarnation, segments.ring_layout.incarnation);
        if announced != found {
            return Err(ReceiveError::WrongRing { announced, found });
        }
        let strict = memfd::is_strictly_sealed(ring.as_fd());
        if self.require_strict && !strict {
            return Err(ReceiveError::NotStrict);
        }
        Ok(SharedRing { ring, registry, incarnation: found, strict, peer: Some(peer) })
    }

    fn allows(&self, peer: Peer) -> bool {
        self.anyone
            || peer.user == geteuid().as_raw()
            || self.users.contains(&peer.user)
            || self.groups.contains(&peer.group)
    }
}

/// The message and its descriptors: exactly those that it announces.
fn unpack(arrived: Arrived) -> Result<(Message, OwnedFd, Option<OwnedFd>), ReceiveError> {
    if arrived.count == 0 && arrived.files.is_empty() && !arrived.lost {
        return Err(ReceiveError::Closed);
    }
    let message = Message::parse(arrived.bytes())?;
    if arrived.cut {
        return Err(HandoverError::TooLong { needed: MESSAGE_BYTES }.into());
    }
    if arrived.lost {
        return Err(ReceiveError::DescriptorsLost);
    }
    let (announced, found) = (message.descriptors(), arrived.files.len());
    let mut files = arrived.files.into_iter();
    match (files.next(), files.next()) {
        (Some(ring), registry) if announced == found => Ok((message, ring, registry)),
        _ => Err(ReceiveError::WrongDescriptors { announced, found }),
    }
}

impl Writer {
    /// The descriptors of a ring in memfds as a value of its own: for a thread that hands them out while this one publishes, or
    /// for a supervisor. Two system calls.
    ///
    /// # Errors
    /// [`ShareError::NotAMemfd`] for other rings; [`ShareError::Io`] if this process may open no more.
    pub fn shared_ring(&self) -> Result<SharedRing, ShareError> {
        let [ring, registry] = self.shared.descriptors.as_ref().ok_or(ShareError::NotAMemfd)?;
        let io = |source| ShareError::Io { doing: "duplicate the descriptors", source };
        Ok(SharedRing {
            ring: ring.try_clone().map_err(io)?,
            registry: Some(registry.try_clone().map_err(io)?),
            incarnation: self.shared.incarnation(),
            strict: memfd::is_strictly_sealed(ring.as_fd()),
            peer: None,
        })
    }

    /// Hands the ring to the process of this user at the other end of a unix socket, as to a full reader:
    /// [`Handover::share`] with the defaults.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn share(&self, socket: impl AsFd) -> Result<Peer, ShareError> {
        Handover::new().share(&self.shared_ring()?, socket)
    }
}

impl Options {
    /// Receives a ring from the process of this user at the other end of a unix socket, and joins it: [`Handover::receive`] with
    /// the defaults.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive(&self, socket: impl AsFd) -> Result<Reader, ReceiveError> {
        Ok(Handover::new().receive(socket)?.open(self)?)
    }
}
