//! TCP: a stream of bytes, to other machines too.
//!
//! The sender listens, each receiver connects and shows the tag of the link. Names are looked up (`getaddrinfo`), and all their addresses
//! tried in turn. A failed connect is tried again on a *fresh* socket. `TCP_NODELAY` is set: otherwise a short record waits for the
//! answer to the one before it. A close of a socket that a forked child has, too, ends nothing; a `shutdown` does.

use std::ffi::CStr;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, setsockopt, sockopt};

use super::each::Each;
use super::error::During;
use super::link::Plug;
use super::rules::Reach;
use super::stream::{StreamReceiver, StreamSender, Wire, read_n, write_n};
use super::unix::{tag_in, tag_of};
use super::{Patience, Place, Plugs, Receiver, Rules, Sender, SetupError, Transport, socket};

/// Connections that may wait to be accepted, unless a caller says otherwise.
pub const BACKLOG: i32 = 128;
/// How long one address is tried before the next one.
const TURN: Duration = Duration::from_secs(1);
/// How long a connection may take to show its tag.
const TAG: Duration = Duration::from_secs(5);

/// A TCP connection to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    nodelay: bool,
}

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp::new()
    }
}

impl Tcp {
    /// With `TCP_NODELAY`.
    #[must_use]
    pub fn new() -> Tcp {
        Tcp { nodelay: true }
    }
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, SetupError> {
    Ok((host, port).to_socket_addrs().setup("look up a host")?.collect())
}

/// Listens on the first address of a host (`getaddrinfo`) that can be had; port 0 is a free one. Answers the address, too.
///
/// # Errors
/// [`SetupError::Io`]: no such host; all its addresses are taken, or not of this machine.
pub fn listen(host: &str, port: u16, backlog: i32) -> Result<(OwnedFd, SocketAddr), SetupError> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses(host, port)? {
        let listener = socket::listening(family(&address), SockType::Stream, &SockaddrStorage::from(address), backlog);
        match listener {
            Ok(listener) => {
                let listener = std::net::TcpListener::from(listener);
                let address = listener.local_addr().setup("ask for the address of a socket")?;
                return Ok((listener.into(), address));
            }
            Err(errno) => failed = errno.into(),
        }
    }
    Err(failed).setup("listen on a port")
}

/// The next connection.
///
/// # Errors
/// [`SetupError::Timeout`], or the system's.
pub fn accept(listener: &OwnedFd, patience: Patience) -> Result<TcpStream, SetupError> {
    socket::accepted(listener, patience).map(TcpStream::from)
}

/// Connects to the first address of a host (`getaddrinfo`) that answers; tries again, each time on a fresh socket, for as long as it may.
/// Answers the number of sockets that it took, too.
///
/// # Errors
/// [`SetupError::Timeout`]: nobody listens there; or the system's.
pub fn connect(host: &str, port: u16, patience: Patience) -> Result<(TcpStream, u32), SetupError> {
    let addresses = addresses(host, port)?;
    let mut sockets = 0;
    loop {
        for address in &addresses {
            // Round after round over all the addresses; a connection that is under way, to a host far off, gets its time.
            let turn = patience.left().map_or(TURN, |left| left.min(TURN));
            let to = SockaddrStorage::from(*address);
            match socket::connected(family(address), SockType::Stream, &to, Patience::of(turn)) {
                Ok((socket, more)) => return Ok((socket.into(), sockets + more)),
                Err(SetupError::Timeout { .. }) => sockets += 1,
                Err(error) => return Err(error),
            }
        }
        if patience.is_over() || addresses.is_empty() {
            return Err(SetupError::Timeout { doing: "somebody to connect to" });
        }
    }
}

/// The name of a host and of a service (`getnameinfo`): the reverse of the look-up; what has no name is answered as numbers.
///
/// # Errors
/// The names could not be looked up: try again, or use the address.
pub fn names_of(address: &SocketAddr) -> io::Result<(String, String)> {
    let address = SockaddrStorage::from(*address);
    let (mut host, mut service) = ([0_u8; 1025], [0_u8; 32]);
    let (host_room, service_room) = (host.len() as libc::socklen_t, service.len() as libc::socklen_t);
    let (to_host, to_service) = (host.as_mut_ptr().cast(), service.as_mut_ptr().cast());
    // SAFETY: the address is as long as it says, and so are the two places for texts.
    let outcome =
        unsafe { libc::getnameinfo(address.as_ptr(), address.len(), to_host, host_room, to_service, service_room, 0) };
    match outcome {
        0 => {}
        libc::EAI_SYSTEM => return Err(io::Error::last_os_error()),
        number => return Err(io::Error::other(format!("no name was found (EAI {number})"))),
    }
    let text = |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).unwrap_or_default().to_string_lossy().into_owned();
    Ok((text(&host), text(&service)))
}

/// Sends short writes at once (`TCP_NODELAY`), instead of waiting for the answer to the one before.
///
/// # Errors
/// It is no TCP socket.
pub fn set_nodelay(socket: impl AsFd, at_once: bool) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::TcpNoDelay, &at_once)?)
}

impl Transport for Tcp {
    fn name(&self) -> String {
        "tcp".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules { reach: Reach::Network, ..Rules::stream() }
    }

    /// Listens on the loopback.
    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (listener, address) = listen("localhost", 0, BACKLOG)?;
        let tag = format!("{:x}", tag_of(place)?);
        let sender = Plug::words([receivers.to_string(), tag.clone()]).with([listener]);
        let words = [address.ip().to_string(), tag, address.port().to_string()];
        Ok(Plugs { sender, receivers: (0..receivers).map(|_| Plug::words(words.clone())).collect() })
    }

    /// Waits until every receiver has connected.
    fn sender(&self, mut plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let (receivers, tag) = (plug.number::<usize>(0)?, tag_in(&plug)?);
        let listener = plug.descriptor()?;
        let mut ones = Vec::new();
        while ones.len() < receivers {
            let mut stream = accept(&listener, patience)?;
            let time = patience.left().map_or(TAG, |left| left.min(TAG)).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(time)).setup("wait for a tag")?;
            let mut shown = [0; 8];
            // Anybody of this machine can connect: who has not the tag is no receiver.
            if read_n(&mut stream, &mut shown).ok() != Some(8) || u64::from_be_bytes(shown) != tag {
                continue;
            }
            stream.set_read_timeout(None).setup("use a connection")?;
            stream.set_nodelay(self.nodelay).setup("send at once")?;
            ones.push(StreamSender::new(Wire::socket(stream.into())));
        }
        Ok(Box::new(Each::new(ones, &self.rules())))
    }

    fn receiver(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let (mut stream, _) = connect(plug.word(0)?, plug.number(2)?, patience)?;
        write_n(&mut stream, &tag_in(&plug)?.to_be_bytes()).setup("show the tag")?;
        Ok(Box::new(StreamReceiver::new(Wire::socket(stream.into()))))
    }
}
