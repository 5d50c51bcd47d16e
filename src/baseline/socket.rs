//! What the families of sockets share: listening, accepting, and connecting with patience.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, accept4, bind, connect, getsockopt, listen, setsockopt,
    socket, sockopt,
};

use super::error::{During, restarted};
use super::wait::{Naps, ready};
use super::{Patience, SetupError};

pub(super) fn open(family: AddressFamily, kind: SockType) -> Result<OwnedFd, Errno> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// A socket that listens.
pub(super) fn listening(
    family: AddressFamily,
    kind: SockType,
    address: &dyn SockaddrLike,
    backlog: i32,
) -> Result<OwnedFd, Errno> {
    let listener = open(family, kind)?;
    // Or a port stays taken for a minute after its last connection; no meaning for unix sockets.
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    bind(listener.as_raw_fd(), address)?;
    // The system cuts it to net.core.somaxconn; beyond it, connecting waits (unix), or is retried (TCP).
    listen(&listener, Backlog::new(backlog)?)?;
    Ok(listener)
}

/// The next connection.
pub(super) fn accepted(listener: &OwnedFd, patience: Patience) -> Result<OwnedFd, SetupError> {
    loop {
        if patience != Patience::Forever
            && !ready(listener, PollFlags::POLLIN, patience).setup("wait for a connection")?
        {
            return Err(SetupError::Timeout { doing: "a connection" });
        }
        match restarted(|| accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)) {
            // That one has gone again.
            Err(Errno::ECONNABORTED) => {}
            Err(errno) => return Err(errno).setup("accept a connection"),
            // SAFETY: the call has just answered it: it is open, and nobody else's.
            Ok(number) => return Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        }
    }
}

/// Connects, again and again while the other side is not there yet: each time with a fresh socket, because after a failed
/// connect the state of a socket is not defined. Answers the number of sockets, too.
pub(super) fn connected(
    family: AddressFamily,
    kind: SockType,
    address: &dyn SockaddrLike,
    patience: Patience,
) -> Result<(OwnedFd, u32), SetupError> {
    let mut naps = Naps::new(patience);
    let mut attempts = 0;
    loop {
        let fresh = open(family, kind).setup("make a socket")?;
        attempts += 1;
        match connect_within(&fresh, address, patience) {
            Ok(true) => return Ok((fresh, attempts)),
            Ok(false) => return Err(SetupError::Timeout { doing: "somebody to accept the connection" }),
            // Nobody listens there yet; the file is not there yet; the backlog is full; whoever listened has gone.
            Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::EAGAIN | Errno::ETIMEDOUT | Errno::ECONNRESET) => {
                drop(fresh);
                if !naps.nap() {
                    return Err(SetupError::Timeout { doing: "somebody to connect to" });
                }
            }
            Err(errno) => return Err(errno).setup("connect a socket"),
        }
    }
}

/// One try, that waits no longer than it may: a full backlog would hold a blocking connect for minutes. False: it was too long.
fn connect_within(socket: &OwnedFd, address: &dyn SockaddrLike, patience: Patience) -> Result<bool, Errno> {
    set_nonblocking(socket, true)?;
    match connect(socket.as_raw_fd(), address) {
        // It goes on by itself, even if it was interrupted: the outcome is asked for, not the call repeated.
        Err(Errno::EINPROGRESS | Errno::EINTR) => {
            if !ready(socket, PollFlags::POLLOUT, patience)? {
                return Ok(false);
            }
            match getsockopt(socket, sockopt::SocketError)? {
                0 => {}
                number => return Err(Errno::from_raw(number)),
            }
        }
        outcome => outcome?,
    }
    set_nonblocking(socket, false)?;
    Ok(true)
}

fn set_nonblocking(socket: &OwnedFd, nonblocking: bool) -> Result<(), Errno> {
    let flags = if nonblocking { OFlag::O_NONBLOCK } else { OFlag::empty() };
    fcntl(socket, FcntlArg::F_SETFL(flags)).map(drop)
}
