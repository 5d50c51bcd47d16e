//! Descriptors over a unix socket: one message with one or two of them beside it, in either direction.
//!
//! Called by `channel/handover.rs`, which judges what came. Whatever a peer sends, every descriptor that the kernel
//! installed for it is an [`OwnedFd`] here, and closed with it: also those that nobody asked for, and those of a message that was
//! cut. (Hence a `recvmsg` of our own: that of `nix` has no access to the control data of a message that was cut.)

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg};
use nix::sys::stat::fstat;

use crate::layout::handover::{MESSAGE_BYTES, Message};

/// The process at the other end of a unix socket, as the kernel noted it when the connection was made (`SO_PEERCRED`): who
/// called `connect`, `listen` or `socketpair`. A process that inherited the socket from that one is not told apart from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its process id, in this process's pid namespace; 0 if it is not there.
    pub process: i32,
    /// Its effective user id.
    pub user: u32,
    /// Its effective group id. Supplementary groups are not looked at.
    pub group: u32,
}

/// What the kernel says where there is no peer.
const NOBODY_THERE: u32 = u32::MAX;

/// Who is at the other end; none if this is no connected unix socket.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Result<Option<Peer>, Errno> {
    match getsockopt(&socket, PeerCredentials) {
        Ok(found) if found.uid() == NOBODY_THERE => Ok(None),
        Ok(found) => Ok(Some(Peer { process: found.pid(), user: found.uid(), group: found.gid() })),
        Err(Errno::ENOTSOCK | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// May the peer open this file again, to write it? For a registry: only such a one can lock a slot.
pub(crate) fn may_write(file: BorrowedFd<'_>, peer: Peer) -> Result<bool, Errno> {
    let stat = fstat(file)?;
    // As the kernel chooses: the owner is judged by his bits alone, a member by those of the group.
    let bits = match peer {
        Peer { user: 0, .. } => 0o6,
        Peer { user, .. } if user == stat.st_uid => stat.st_mode >> 6,
        Peer { group, .. } if group == stat.st_gid => stat.st_mode >> 3,
        _ => stat.st_mode,
    };
    Ok(bits & 0o6 == 0o6)
}

/// Sends a message with its descriptors: whole, or not at all. Never raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, message: Message, files: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let (bytes, numbers) = (message.encode(), files.iter().map(AsRawFd::as_raw_fd).collect::<Vec<RawFd>>());
    let (parts, rights) = ([IoSlice::new(&bytes)], [ControlMessage::ScmRights(&numbers)]);
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            // The kernel does not split so few bytes.
            Ok(sent) => return if sent == MESSAGE_BYTES { Ok(()) } else { Err(Errno::EIO) },
            Err(errno) => return Err(errno),
        }
    }
}

/// What came in one message.
pub(crate) struct Arrived {
    bytes: [u8; MESSAGE_BYTES],
    pub(crate) count: usize,
    /// There were more bytes, which are gone (of a seqpacket socket; a stream keeps them).
    pub(crate) cut: bool,
    /// All descriptors that came, closed with this value.
    pub(crate) files: Vec<OwnedFd>,
    /// There were more descriptors, which are gone.
    pub(crate) lost: bool,
}

impl Arrived {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

/// Room for what a hand-over brings (two descriptors), for what options of the socket put beside it (credentials, a pidfd), and for
/// some surplus. A hostile sender makes this process hold no more descriptors than fit, 18, until they are closed.
const CONTROL_BYTES: usize = 88;
const CONTROL_HEADER_BYTES: usize = 16;
/// Of a socket with `SO_PASSPIDFD`: a descriptor, too.
const SCM_PIDFD: i32 = 4;

/// Aligned as the kernel's headers are.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Receives one message, as the socket waits. Descriptors are closed on exec.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Arrived, Errno> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MESSAGE_BYTES };
    // SAFETY: integers and pointers: zero is a value of each.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // The type of the length differs between C libraries.
    header.msg_controllen = CONTROL_BYTES as _;
    let count = loop {
        // SAFETY: `header` leads to `bytes` and `control`, with their lengths; nobody else uses them meanwhile.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(count) {
            Err(Errno::EINTR) => {}
            count => break usize::try_from(count?).unwrap_or(0),
        }
    };
    #[allow(clippy::unnecessary_cast)] // As above.
    let filled = (header.msg_controllen as usize).min(CONTROL_BYTES);
    // SAFETY: the kernel has just filled these bytes, and nobody has looked at them before.
    let files = unsafe { take_descriptors(&control.0[..filled]) };
    Ok(Arrived {
        bytes,
        count: count.min(MESSAGE_BYTES),
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        files,
        lost: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Takes the descriptors out of control data: those that were sent are answered, others are closed.
///
/// # Safety
/// The kernel wrote it for this process, and nobody else takes them.
unsafe fn take_descriptors(mut control: &[u8]) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    while let Some((length, level, kind)) = control_header(control) {
        let Some(data) = control.get(CONTROL_HEADER_BYTES..length) else { break };
        let sent = (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        if sent || (level, kind) == (libc::SOL_SOCKET, SCM_PIDFD) {
            let numbers = data.chunks_exact(size_of::<RawFd>()).filter_map(|number| number.try_into().ok());
            // Instead of a pidfd there may be an error.
            for number in numbers.map(RawFd::from_ne_bytes).filter(|&number| number >= 0) {
                // SAFETY: by the contract above it was installed for this process, and is nobody's yet.
                let file = unsafe { OwnedFd::from_raw_fd(number) };
                if sent {
                    files.push(file);
                }
            }
        }
        control = control.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    files
}

/// Length (with the header), level and type of the first control message.
fn control_header(control: &[u8]) -> Option<(usize, i32, i32)> {
    // As the kernel writes it on 64-bit machines, whatever the C library makes of it.
    let (length, rest) = control.split_first_chunk()?;
    let (level, rest) = rest.split_first_chunk()?;
    let (kind, _) = rest.split_first_chunk()?;
    let length = usize::from_ne_bytes(*length);
    let whole = length >= CONTROL_HEADER_BYTES && length <= control.len();
    whole.then_some((length, i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn control_message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (CONTROL_HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).chain(data.iter().copied()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn control_data_without_descriptors_has_none() {
        let credentials = control_message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[1; 12]);
        let no_pidfd = control_message(libc::SOL_SOCKET, SCM_PIDFD, &(-3_i32).to_ne_bytes());
        let length = |length: usize| [length.to_ne_bytes(), [0; 8]].concat();
        let all = [credentials.clone(), no_pidfd, control_message(0, 1, &[0; 4])].concat();
        for control in
            [all, Vec::new(), credentials[..15].to_vec(), length(0), length(15), length(17), length(usize::MAX)]
        {
            // SAFETY: there is nothing in it to take.
            assert!(unsafe { take_descriptors(&control) }.is_empty(), "{control:?}");
        }
    }

    #[test]
    #[cfg(not(miri))] // Miri has no sockets.
    fn a_pidfd_is_closed_and_what_was_sent_is_taken() {
        let pair = || UnixStream::pair().expect("a pair");
        let ((mut kept, ours), (mut other, theirs)) = (pair(), pair());
        // Longer than a child of another test keeps what it inherits.
        other.set_read_timeout(Some(Duration::from_secs(10))).expect("our own");
        let rights = control_message(libc::SOL_SOCKET, libc::SCM_RIGHTS, &ours.into_raw_fd().to_ne_bytes());
        let pidfd = control_message(libc::SOL_SOCKET, SCM_PIDFD, &theirs.into_raw_fd().to_ne_bytes());
        // SAFETY: both are this test's, which does not use them any more.
        let files = unsafe { take_descriptors(&[pidfd, rights].concat()) };
        let mut byte = [0];
        assert_eq!(other.read(&mut byte).ok(), Some(0), "nobody has its other end");
        let [file] = <[OwnedFd; 1]>::try_from(files).expect("one that was sent");
        UnixStream::from(file).write_all(b"x").expect("it is whole");
        kept.read_exact(&mut byte).expect("what was written");
    }
}
