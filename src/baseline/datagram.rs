//! Records as datagrams: each a message of its own, behind a header that names the link and numbers the records.
//!
//! ```text
//!   ┌────────────────┬───────────────────────────────┬─────────┐
//!   │ tag: which link│ number, network order; !0: end│ payload │      16 bytes before the payload
//!   └────────────────┴───────────────────────────────┴─────────┘
//! ```
//! A datagram socket has no end: a last datagram says it. Loss is counted by the numbers. Whoever else sends to the socket has
//! another tag, and is ignored.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg, sendmsg};

use super::each::One;
use super::error::{During, restarted};
use super::wait::ready;
use super::{CLOSE, Patience, ReceiveError, Received, Receiver, SendError};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 16;
/// The number of the last datagram.
const END: u64 = u64::MAX;

/// Datagrams to one address.
#[derive(Debug)]
pub(super) struct DatagramSender {
    socket: OwnedFd,
    /// None: the socket is connected.
    address: Option<SockaddrStorage>,
    tag: u64,
    number: u64,
    /// The longest payload.
    max: usize,
}

impl DatagramSender {
    pub(super) fn new(socket: OwnedFd, address: Option<SockaddrStorage>, tag: u64, max: usize) -> DatagramSender {
        DatagramSender { socket, address, tag, number: 0, max }
    }

    fn send_numbered(&self, number: u64, record: &[u8], patience: Patience) -> Result<(), SendError> {
        let (tag, number) = (self.tag.to_be_bytes(), number.to_be_bytes());
        let parts = [IoSlice::new(&tag), IoSlice::new(&number), IoSlice::new(record)];
        let waits = if patience == Patience::Forever { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let flags = MsgFlags::MSG_NOSIGNAL | waits;
        loop {
            match restarted(|| sendmsg(self.socket.as_raw_fd(), &parts, &[], flags, self.address.as_ref())) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    let room = ready(&self.socket, PollFlags::POLLOUT, patience).sending("wait for room")?;
                    if !room || patience.is_over() {
                        return Err(patience.full());
                    }
                }
                Err(Errno::EMSGSIZE) => return Err(SendError::TooLong { len: record.len(), max: self.max }),
                // Of a connected socket: nobody has the other address any more.
                Err(Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET | Errno::EPIPE | Errno::ENOENT) => {
                    return Err(SendError::PeerGone);
                }
                Err(errno) => return Err(errno).sending("send a datagram"),
            }
        }
    }
}

impl One for DatagramSender {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        self.send_numbered(self.number, record, patience)?;
        self.number += 1;
        Ok(())
    }

    fn close_one(&mut self) {
        let _ = self.send_numbered(END, &self.number.to_be_bytes(), Patience::of(CLOSE));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// Datagrams of one link.
#[derive(Debug)]
pub(super) struct DatagramReceiver {
    /// None when closed.
    socket: Option<OwnedFd>,
    tag: u64,
    /// The number of the next datagram, if none is lost.
    next: u64,
    /// Lost, and not told yet: what came behind did not fit.
    owed: u64,
    ended: bool,
}

impl DatagramReceiver {
    pub(super) fn new(socket: OwnedFd, tag: u64) -> DatagramReceiver {
        DatagramReceiver { socket: Some(socket), tag, next: 0, owed: 0, ended: false }
    }

    /// The header and the length of the next datagram, whose payload goes to the buffer.
    fn next_datagram(
        &self,
        buffer: &mut [u8],
        patience: Patience,
    ) -> Result<([u8; HEADER_BYTES], usize), ReceiveError> {
        let socket = self.socket.as_ref().ok_or(ReceiveError::Closed)?;
        let waits = if patience == Patience::Forever { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        // TRUNC: the answer is the length that the datagram had.
        let flags = MsgFlags::MSG_TRUNC | waits;
        loop {
            let mut header = [0; HEADER_BYTES];
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            let outcome =
                restarted(|| recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, flags).map(|message| message.bytes));
            match outcome {
                Ok(bytes) => return Ok((header, bytes)),
                Err(Errno::EAGAIN) => {
                    if !ready(socket, PollFlags::POLLIN, patience).receiving("wait for a datagram")? {
                        return Err(patience.empty());
                    }
                }
                // An answer to something sent before, of no meaning for a receiver.
                Err(Errno::ECONNREFUSED) => {}
                Err(errno) => return Err(errno).receiving("receive a datagram"),
            }
        }
    }
}

impl Receiver for DatagramReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        while !self.ended {
            let (header, bytes) = self.next_datagram(buffer, patience)?;
            let (Some(tag), Some(number)) = (header.first_chunk(), header.last_chunk()) else { continue };
            let (tag, number) = (u64::from_be_bytes(*tag), u64::from_be_bytes(*number));
            if bytes < HEADER_BYTES || tag != self.tag {
                continue;
            }
            if number == END {
                self.ended = true;
                break;
            }
            // Late or doubled: it was counted as lost, or received.
            let Some(lost) = number.checked_sub(self.next) else { continue };
            self.next = number.saturating_add(1);
            self.owed += lost;
            let len = bytes - HEADER_BYTES;
            if len > buffer.len() {
                return Err(ReceiveError::TooLong { len, room: buffer.len() });
            }
            return Ok(Received { len, lost: std::mem::take(&mut self.owed) });
        }
        Err(ReceiveError::Closed)
    }

    fn close(&mut self) {
        self.socket = None;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn what_was_lost_before_a_record_that_did_not_fit_is_told_with_the_next() {
        let (here, there) = UnixDatagram::pair().expect("a pair");
        let mut receiver = DatagramReceiver::new(here.into(), 7);
        let send = |number: u64, payload: &[u8]| {
            let parts = [&7u64.to_be_bytes()[..], &number.to_be_bytes(), payload].concat();
            there.send(&parts).expect("room");
        };
        send(4, b"too long");
        send(6, b"fits");
        assert!(matches!(receiver.try_receive(&mut [0; 4]), Err(ReceiveError::TooLong { len: 8, room: 4 })));
        let received = receiver.try_receive(&mut [0; 4]).expect("a record");
        assert_eq!(received, Received { len: 4, lost: 5 });
    }
}
