//! Unix sockets: within one machine, by a pair of descriptors or by a name in the file system.
//!
//! | type | borders | the other side's end | queue |
//! |---|---|---|---|
//! | stream | none | seen | bytes, `SO_SNDBUF` |
//! | datagram | kept | not seen by the receiver: a last datagram says it | of a named one `net.unix.max_dgram_qlen` datagrams |
//! | seqpacket | kept | seen; a record of no bytes looks like the end, so there is none | bytes, `SO_SNDBUF` |
//!
//! A name is a file: who may write the file and search its directory may connect, and stays until it is unlinked. The system knows who
//! connected ([`peer_of`]); a sender takes connections of its own user, and of root, only.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect, getsockopt, recv, sendmsg,
    setsockopt, socketpair, sockopt,
};

use super::datagram::{self, DatagramReceiver, DatagramSender};
use super::each::{Each, One};
use super::error::{During, restarted};
use super::link::Plug;
use super::rules::{Reach, Seen};
use super::stream::{StreamReceiver, StreamSender, Wire};
use super::wait::ready;
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport, socket,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// What the system adds to each message in a socket's queue, at most.
const OVERHEAD_BYTES: usize = 1024;

/// A type of unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixKind {
    /// A stream of bytes.
    Stream,
    /// Datagrams: here they are lossless, and in order.
    Datagram,
    /// A stream of messages.
    Seqpacket,
}

/// A unix socket to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unix {
    /// The type.
    pub kind: UnixKind,
    /// Found by name; otherwise a pair of sockets that is inherited.
    pub named: bool,
}

/// Who is at the other end of a unix socket: of a pair, who made it; of a connection, who connected, or listened.
///
/// # Errors
/// It is no such socket.
pub fn peer_of(socket: impl AsFd) -> Result<UnixCredentials, Errno> {
    getsockopt(&socket, sockopt::PeerCredentials)
}

impl Unix {
    /// All of them.
    pub const ALL: [Unix; 6] = [
        Unix { kind: UnixKind::Stream, named: false },
        Unix { kind: UnixKind::Stream, named: true },
        Unix { kind: UnixKind::Datagram, named: false },
        Unix { kind: UnixKind::Datagram, named: true },
        Unix { kind: UnixKind::Seqpacket, named: false },
        Unix { kind: UnixKind::Seqpacket, named: true },
    ];

    fn socket_type(self) -> SockType {
        match self.kind {
            UnixKind::Stream => SockType::Stream,
            UnixKind::Datagram => SockType::Datagram,
            UnixKind::Seqpacket => SockType::SeqPacket,
        }
    }

    fn one(self, socket: OwnedFd, tag: u64, rules: &Rules) -> Box<dyn One> {
        let max = rules.max_record;
        match self.kind {
            UnixKind::Stream => Box::new(StreamSender::new(Wire::socket(socket))),
            UnixKind::Datagram => Box::new(DatagramSender::new(socket, None, tag, max)),
            UnixKind::Seqpacket => Box::new(PacketSender { socket, max }),
        }
    }
}

impl One for Box<dyn One> {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        (**self).send_one(record, patience)
    }

    fn close_one(&mut self) {
        (**self).close_one();
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (**self).descriptor()
    }
}

/// The longest message of a socket with the system's own buffer.
fn longest_message() -> usize {
    let default = std::fs::read_to_string("/proc/sys/net/core/wmem_default").unwrap_or_default();
    let buffer: usize = default.trim().parse().unwrap_or(212_992);
    buffer.saturating_sub(OVERHEAD_BYTES)
}

impl Transport for Unix {
    fn name(&self) -> String {
        let kind = match self.kind {
            UnixKind::Stream => "stream",
            UnixKind::Datagram => "datagram",
            UnixKind::Seqpacket => "seqpacket",
        };
        format!("unix-{kind}{}", if self.named { "-named" } else { "" })
    }

    fn rules(&self) -> Rules {
        let own = match self.kind {
            UnixKind::Stream => Rules::stream(),
            UnixKind::Datagram => {
                Rules { sender_end: Seen::CLOSE, ..Rules::messages(longest_message() - datagram::HEADER_BYTES) }
            }
            UnixKind::Seqpacket => Rules { min_record: 1, ..Rules::messages(longest_message()) },
        };
        let reach = if self.named { Reach::Names } else { Reach::Descriptors };
        Rules { reach, outlives: self.named, ..own }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (family, kind) = (AddressFamily::Unix, self.socket_type());
        let tag = format!("{:x}", tag_of(place)?);
        let mut sender = Plug::words([receivers.to_string(), tag.clone()]);
        let mut plugs = Vec::new();
        let path = place.file("socket");
        if self.named && self.kind != UnixKind::Datagram {
            let address = UnixAddr::new(&path).setup("name a socket")?;
            sender = sender.with([socket::listening(family, kind, &address, BACKLOG).setup("listen on a socket")?]);
            let path = path.to_string_lossy().into_owned();
            plugs.extend((0..receivers).map(|_| Plug::words([path.clone(), tag.clone()])));
            return Ok(Plugs { sender, receivers: plugs });
        }
        for number in 0..receivers {
            let (sends, receives) = if self.named {
                // Bound before anybody sends: what comes early waits in it.
                let address = UnixAddr::new(&place.file(&format!("socket-{number}"))).setup("name a socket")?;
                let receives = socket::open(family, kind).setup("make a socket")?;
                bind(receives.as_raw_fd(), &address).setup("name a socket")?;
                let sends = socket::open(family, kind).setup("make a socket")?;
                connect(sends.as_raw_fd(), &address).setup("connect a socket")?;
                (sends, receives)
            } else {
                socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).setup("make a pair of sockets")?
            };
            sender = sender.with([sends]);
            plugs.push(Plug::words([String::new(), tag.clone()]).with([receives]));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    /// Waits until every receiver has connected.
    fn sender(&self, mut plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let (receivers, tag) = (plug.number::<usize>(0)?, tag_in(&plug)?);
        let rules = self.rules();
        let mut ones = Vec::new();
        let listener = if self.named && self.kind != UnixKind::Datagram { Some(plug.descriptor()?) } else { None };
        while ones.len() < receivers {
            let socket = match &listener {
                None => plug.descriptor()?,
                Some(listener) => {
                    let socket = socket::accepted(listener, patience)?;
                    let user = peer_of(&socket).setup("ask who connected")?.uid();
                    if user != 0 && user != nix::unistd::geteuid().as_raw() {
                        continue;
                    }
                    socket
                }
            };
            ones.push(self.one(socket, tag, &rules));
        }
        Ok(Box::new(Each::new(ones, &rules)))
    }

    fn receiver(&self, mut plug: Plug, patience: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let tag = tag_in(&plug)?;
        let socket = if self.named && self.kind != UnixKind::Datagram {
            let address = UnixAddr::new(plug.word(0)?).setup("name a socket")?;
            socket::connected(AddressFamily::Unix, self.socket_type(), &address, patience)?.0
        } else {
            plug.descriptor()?
        };
        Ok(match self.kind {
            UnixKind::Stream => Box::new(StreamReceiver::new(Wire::socket(socket))),
            UnixKind::Datagram => Box::new(DatagramReceiver::new(socket, tag)),
            UnixKind::Seqpacket => Box::new(PacketReceiver { socket: Some(socket) }),
        })
    }
}

/// A number that tells this link from others.
pub(super) fn tag_of(place: &Place) -> Result<u64, SetupError> {
    // The name is 16 random hexadecimal digits.
    let name = place.name(0);
    let digits = name.split('-').nth(1).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| SetupError::BadEnd { text: name, reason: "it has no tag" })
}

/// The tag of a plug: its second word.
pub(super) fn tag_in(plug: &Plug) -> Result<u64, SetupError> {
    let word = plug.word(1)?;
    u64::from_str_radix(word, 16)
        .map_err(|_| SetupError::BadEnd { text: word.to_owned(), reason: "its tag is no number" })
}

// ---- seqpacket: the border is the system's ----

#[derive(Debug)]
struct PacketSender {
    socket: OwnedFd,
    max: usize,
}

impl One for PacketSender {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        let waits = if patience == Patience::Forever { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let flags = MsgFlags::MSG_NOSIGNAL | waits;
        loop {
            let parts = [IoSlice::new(record)];
            match restarted(|| sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None)) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => {
                    let room = ready(&self.socket, PollFlags::POLLOUT, patience).sending("wait for room")?;
                    if !room || patience.is_over() {
                        return Err(patience.full());
                    }
                }
                Err(Errno::EMSGSIZE) => return Err(SendError::TooLong { len: record.len(), max: self.max }),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => return Err(SendError::PeerGone),
                Err(errno) => return Err(errno).sending("send a packet"),
            }
        }
    }

    fn close_one(&mut self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

#[derive(Debug)]
struct PacketReceiver {
    socket: Option<OwnedFd>,
}

impl Receiver for PacketReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let socket = self.socket.as_ref().ok_or(ReceiveError::Closed)?;
        let waits = if patience == Patience::Forever { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let flags = MsgFlags::MSG_TRUNC | waits;
        let room = buffer.len();
        loop {
            match restarted(|| recv(socket.as_raw_fd(), buffer, flags)) {
                Ok(0) => return Err(ReceiveError::Closed),
                Ok(len) if len > room => return Err(ReceiveError::TooLong { len, room }),
                Ok(len) => return Ok(Received::whole(len)),
                Err(Errno::EAGAIN) => {
                    if !ready(socket, PollFlags::POLLIN, patience).receiving("wait for a packet")? {
                        return Err(patience.empty());
                    }
                }
                Err(Errno::ECONNRESET) => return Err(ReceiveError::Closed),
                Err(errno) => return Err(errno).receiving("receive a packet"),
            }
        }
    }

    fn close(&mut self) {
        self.socket = None;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

/// Changes how many bytes a socket's sending queue holds: the longest message, and how many fit. The system doubles what is asked for, for
/// its own overhead, and cuts it to `net.core.wmem_max`.
///
/// # Errors
/// It is no socket.
pub fn set_queue(socket: impl AsFd, bytes: usize) -> Result<(), Errno> {
    setsockopt(&socket, sockopt::SndBuf, &bytes)
}
