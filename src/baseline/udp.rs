//! UDP: datagrams that may be lost, doubled, or come in another order; here they are numbered, so that loss is counted.
//!
//! | mode | reaches | the receiver's end |
//! |---|---|---|
//! | unconnected | the address of each send | not seen |
//! | connected | the one peer; datagrams of others are not received | an ICMP answer: refused, at a later send |
//! | broadcast | everybody who listens to the port, with one send (`SO_BROADCAST`) | not seen |
//! | multicast | everybody who joined the group, with one send | not seen |
//!
//! All stay on the loopback. A receiver that is slow loses datagrams when its queue (`SO_RCVBUF`) is full; the sender is not held up, and
//! not told. The datagram that says the end can be lost, too.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockType, SockaddrStorage, bind, setsockopt, sockopt};

use super::datagram::{DatagramReceiver, DatagramSender, HEADER_BYTES};
use super::each::Each;
use super::error::During;
use super::link::Plug;
use super::rules::{Death, Delivery, FanOut, Reach, Seen};
use super::unix::{tag_in, tag_of};
use super::{Patience, Place, Plugs, Receiver, Rules, Sender, SetupError, Transport, socket};

/// The longest payload of IPv4 and UDP.
const MAX_DATAGRAM_BYTES: usize = 65507;
/// What is asked for a receiver's queue; the system cuts it to `net.core.rmem_max`.
const QUEUE_BYTES: usize = 4 << 20;
/// The broadcast address of the loopback.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// UDP to each receiver, or to all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// Every send names its address.
    Unconnected,
    /// Both sockets are connected to each other.
    Connected,
    /// One send to all that listen to the port.
    Broadcast,
    /// One send to all that joined the group.
    Multicast,
}

impl Udp {
    /// All of them.
    pub const ALL: [Udp; 4] = [Udp::Unconnected, Udp::Connected, Udp::Broadcast, Udp::Multicast];

    fn fan_out(self) -> FanOut {
        match self {
            Udp::Unconnected | Udp::Connected => FanOut::SendToEach,
            Udp::Broadcast | Udp::Multicast => FanOut::Once,
        }
    }
}

/// A socket bound to an address, that others may be bound to, too, if it is shared.
fn bound(address: Ipv4Addr, port: u16, shared: bool) -> Result<UdpSocket, SetupError> {
    let socket = socket::open(AddressFamily::Inet, SockType::Datagram).setup("make a socket")?;
    if shared {
        setsockopt(&socket, sockopt::ReuseAddr, &true).setup("share a port")?;
    }
    setsockopt(&socket, sockopt::RcvBuf, &QUEUE_BYTES).setup("lengthen a queue")?;
    let to = SockaddrStorage::from(SocketAddr::V4(SocketAddrV4::new(address, port)));
    bind(socket.as_raw_fd(), &to).setup("bind a socket")?;
    Ok(UdpSocket::from(socket))
}

fn address_of(socket: &UdpSocket) -> Result<SocketAddr, SetupError> {
    socket.local_addr().setup("ask for the address of a socket")
}

impl Transport for Udp {
    fn name(&self) -> String {
        match self {
            Udp::Unconnected => "udp",
            Udp::Connected => "udp-connected",
            Udp::Broadcast => "udp-broadcast",
            Udp::Multicast => "udp-multicast",
        }
        .to_owned()
    }

    fn rules(&self) -> Rules {
        let receiver_end =
            if *self == Udp::Connected { Seen { close: true, death: Death::LooksClosed } } else { Seen::NOTHING };
        Rules {
            delivery: Delivery::Counted,
            fan_out: self.fan_out(),
            reach: Reach::Network,
            sender_end: Seen::CLOSE,
            receiver_end,
            holds_sender: false,
            ..Rules::messages(MAX_DATAGRAM_BYTES - HEADER_BYTES)
        }
    }

    /// The receivers' sockets are bound here, before anybody sends: what comes early waits in them.
    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let tag = tag_of(place)?;
        let words = || [String::new(), format!("{tag:x}")];
        let (mut sender, mut plugs) = (Plug::words(words()), Vec::new());
        let [.., a, b, c] = tag.to_be_bytes();
        // 239.0.0.0/8 is for groups that nobody assigns.
        let group = Ipv4Addr::new(239, a, b, c);
        let shared = match self {
            Udp::Broadcast => Some(EVERYBODY),
            Udp::Multicast => Some(group),
            _ => None,
        };
        let mut port = 0;
        for _ in 0..receivers {
            let receives = bound(shared.unwrap_or(Ipv4Addr::LOCALHOST), port, shared.is_some())?;
            let address = address_of(&receives)?;
            if *self == Udp::Multicast {
                receives.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).setup("join a group")?;
            }
            if shared.is_some() {
                port = address.port();
            }
            if *self == Udp::Connected {
                let sends = bound(Ipv4Addr::LOCALHOST, 0, false)?;
                sends.connect(address).setup("connect a socket")?;
                receives.connect(address_of(&sends)?).setup("connect a socket")?;
                sender = sender.with([OwnedFd::from(sends)]);
            } else if shared.is_none() || plugs.is_empty() {
                sender.words.push(address.to_string());
            }
            plugs.push(Plug::words(words()).with([OwnedFd::from(receives)]));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    fn sender(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let (rules, tag) = (self.rules(), tag_in(&plug)?);
        let one = |socket, address| DatagramSender::new(socket, address, tag, rules.max_record);
        let mut ones = Vec::new();
        while let Ok(socket) = plug.descriptor() {
            ones.push(one(socket, None));
        }
        for at in 2..plug.words.len() {
            let address: SocketAddr = plug.number(at)?;
            // Bound to the loopback, so that what it sends to a group stays there.
            let socket = bound(Ipv4Addr::LOCALHOST, 0, false)?;
            socket.set_broadcast(*self == Udp::Broadcast).setup("allow broadcasts")?;
            ones.push(one(socket.into(), Some(SockaddrStorage::from(address))));
        }
        Ok(Box::new(Each::new(ones, &rules)))
    }

    fn receiver(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let tag = tag_in(&plug)?;
        Ok(Box::new(DatagramReceiver::new(plug.descriptor()?, tag)))
    }
}
