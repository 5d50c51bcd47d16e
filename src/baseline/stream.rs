//! Records over a stream of bytes: pipes, FIFOs, stream sockets.
//!
//! ```text
//!   ┌───────────────────────┬─────────┐┌────────┬─────────┐
//!   │ length, network order │ payload ││ length │ payload │ ...      a stream that ends within a record: its sender died
//!   └───────────────────────┴─────────┘└────────┴─────────┘
//! ```
//! A stream has no borders: a read may answer the half of a record, or three of them, and a write may take a part only (a *short count*).
//! [`read_n`], [`write_n`] and [`LineReader`] are the robust calls for blocking streams; the transports below do the same for streams that
//! may also not block.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, sendmsg, shutdown};
use nix::sys::uio::writev;
use nix::unistd::read;

use super::each::One;
use super::error::{During, restarted};
use super::wait::ready;
use super::{CLOSE, Patience, ReceiveError, Received, Receiver, SendError};

/// Bytes of a length.
pub const HEADER_BYTES: usize = 4;
/// The longest record: what comes with a greater length is damaged.
pub const MAX_RECORD_BYTES: usize = 16 << 20;
/// A receiver reads as much ahead.
const AHEAD_BYTES: usize = 64 << 10;

// ---- the robust calls ----

/// Reads until the buffer is full or the stream ends, whatever short counts and interrupted calls come; answers the bytes read.
///
/// # Errors
/// The stream's own; what was read before is in the buffer.
pub fn read_n(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(n) => count += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Writes all of the bytes, whatever short counts and interrupted calls come.
///
/// # Errors
/// The stream's own, or [`ErrorKind::WriteZero`]; a part may have been written.
pub fn write_n(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads lines, and bytes between them, through one buffer.
#[derive(Debug)]
pub struct LineReader<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    most: usize,
}

impl<R: Read> LineReader<R> {
    /// Lines are at most `most` bytes long, so that a peer cannot fill the memory.
    pub fn new(from: R, most: usize) -> LineReader<R> {
        LineReader { from, buffer: Vec::new(), start: 0, most }
    }

    /// The next line without its end; the last one may lack the end. None at the end of the stream.
    ///
    /// # Errors
    /// The stream's own; [`ErrorKind::InvalidData`]: the line is too long.
    pub fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let there = &self.buffer[self.start..];
            let end = there[searched..].iter().position(|&byte| byte == b'\n');
            if end.map_or(there.len(), |at| searched + at) > self.most {
                return Err(io::Error::new(ErrorKind::InvalidData, "a line is too long"));
            }
            if let Some(at) = end {
                let line = there[..searched + at].to_vec();
                self.start += searched + at + 1;
                return Ok(Some(line));
            }
            searched = there.len();
            if self.fill()? == 0 {
                let rest = self.buffer.split_off(self.start);
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// As [`read_n`], first from what was read ahead.
    ///
    /// # Errors
    /// The stream's own.
    pub fn read_n(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = buffer.len().min(self.buffer.len() - self.start);
        buffer[..ahead].copy_from_slice(&self.buffer[self.start..self.start + ahead]);
        self.start += ahead;
        Ok(ahead + read_n(&mut self.from, &mut buffer[ahead..])?)
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let mut chunk = [0; 4096];
        loop {
            match self.from.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

// ---- one descriptor ----

/// A descriptor of which this process is the only user, so that its `O_NONBLOCK` may be changed.
#[derive(Debug)]
pub(super) struct Wire {
    descriptor: OwnedFd,
    /// Sockets take a flag with each call; pipes have it at the descriptor.
    socket: bool,
    blocks: bool,
}

impl Wire {
    pub(super) fn socket(descriptor: OwnedFd) -> Wire {
        Wire { descriptor, socket: true, blocks: true }
    }

    pub(super) fn pipe(descriptor: OwnedFd) -> Result<Wire, Errno> {
        let mut wire = Wire { descriptor, socket: false, blocks: false };
        wire.set_blocking(true)?;
        Ok(wire)
    }

    fn set_blocking(&mut self, blocks: bool) -> Result<(), Errno> {
        if self.blocks != blocks {
            let flags = OFlag::from_bits_truncate(fcntl(&self.descriptor, FcntlArg::F_GETFL)?);
            let changed = if blocks { flags - OFlag::O_NONBLOCK } else { flags | OFlag::O_NONBLOCK };
            fcntl(&self.descriptor, FcntlArg::F_SETFL(changed))?;
            self.blocks = blocks;
        }
        Ok(())
    }

    fn write(&mut self, parts: &[IoSlice<'_>], blocks: bool) -> Result<usize, Errno> {
        if self.socket {
            let flags = MsgFlags::MSG_NOSIGNAL | if blocks { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
            return restarted(|| sendmsg::<()>(self.descriptor.as_raw_fd(), parts, &[], flags, None));
        }
        self.set_blocking(blocks)?;
        // Rust programs ignore SIGPIPE, so that this answers EPIPE.
        restarted(|| writev(&self.descriptor, parts))
    }

    fn read(&mut self, buffer: &mut [u8], blocks: bool) -> Result<usize, Errno> {
        let count = if self.socket {
            let flags = if blocks { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
            restarted(|| recv(self.descriptor.as_raw_fd(), buffer, flags))?
        } else {
            self.set_blocking(blocks)?;
            restarted(|| read(&self.descriptor, buffer))?
        };
        if count == 0 && !self.socket && !self.hung_up()? {
            // A FIFO that no sender has opened yet.
            return Err(Errno::EAGAIN);
        }
        Ok(count)
    }

    /// Had a sender, and has none any more.
    fn hung_up(&self) -> Result<bool, Errno> {
        let mut look = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        restarted(|| poll(&mut look, PollTimeout::ZERO))?;
        Ok(look[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
    }
}

fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN | Errno::ESHUTDOWN)
}

// ---- sender ----

/// One stream to one receiver.
#[derive(Debug)]
pub(super) struct StreamSender {
    /// None when closed.
    wire: Option<Wire>,
    /// The rest of a record of which a call that may not wait could write only a part.
    rest: Vec<u8>,
    /// Bytes of it that are written.
    done: usize,
}

impl StreamSender {
    pub(super) fn new(wire: Wire) -> StreamSender {
        StreamSender { wire: Some(wire), rest: Vec::new(), done: 0 }
    }

    /// Writes the parts, or as many bytes of them as may be without waiting; at least one, or it waits as long as it may.
    fn write_some(wire: &mut Wire, parts: &[IoSlice<'_>], patience: Patience) -> Result<usize, SendError> {
        loop {
            match wire.write(parts, patience == Patience::Forever) {
                Ok(count) => return Ok(count),
                Err(errno) if is_gone(errno) => return Err(SendError::PeerGone),
                Err(Errno::EAGAIN) => {
                    let room = ready(&wire.descriptor, PollFlags::POLLOUT, patience).sending("wait for room")?;
                    // A pipe can be ready and yet have too little room for a record that may not be split.
                    if !room || patience.is_over() {
                        return Err(patience.full());
                    }
                }
                Err(errno) => return Err(errno).sending("write to a stream"),
            }
        }
    }

    fn write_rest(&mut self, patience: Patience) -> Result<(), SendError> {
        let wire = self.wire.as_mut().ok_or(SendError::Closed)?;
        while self.done < self.rest.len() {
            self.done += Self::write_some(wire, &[IoSlice::new(&self.rest[self.done..])], patience)?;
        }
        self.rest.clear();
        self.done = 0;
        Ok(())
    }
}

impl One for StreamSender {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        self.write_rest(patience)?;
        let wire = self.wire.as_mut().ok_or(SendError::Closed)?;
        // Lengths are checked by the caller.
        let header = (record.len() as u32).to_be_bytes();
        // In one call: up to PIPE_BUF bytes stay together, whoever else writes to the pipe.
        let mut written = Self::write_some(wire, &[IoSlice::new(&header), IoSlice::new(record)], patience)?;
        while patience == Patience::Forever && written < HEADER_BYTES + record.len() {
            let parts = match written.checked_sub(HEADER_BYTES) {
                None => [IoSlice::new(&header[written..]), IoSlice::new(record)],
                Some(done) => [IoSlice::new(&record[done..]), IoSlice::new(&[])],
            };
            written += Self::write_some(wire, &parts, patience)?;
        }
        if written < HEADER_BYTES + record.len() {
            // The record is under way: the next call writes the rest of it first.
            self.rest.extend_from_slice(&header);
            self.rest.extend_from_slice(record);
            self.done = written;
        }
        Ok(())
    }

    fn close_one(&mut self) {
        let _ = self.write_rest(Patience::of(CLOSE));
        if let Some(wire) = self.wire.take().filter(|wire| wire.socket) {
            // Forked children may have the socket, too: a shutdown ends it for all of them, a close would not.
            let _ = shutdown(wire.descriptor.as_raw_fd(), Shutdown::Write);
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.wire.as_ref().map(|wire| wire.descriptor.as_fd())
    }
}

// ---- receiver ----

/// One stream from the sender, read ahead.
#[derive(Debug)]
pub(super) struct StreamReceiver {
    /// None when closed.
    wire: Option<Wire>,
    ahead: Vec<u8>,
    /// What was read ahead and not received: `ahead[start..end]`.
    start: usize,
    end: usize,
    /// Bytes of a record that did not fit, still to come.
    skip: usize,
}

impl StreamReceiver {
    pub(super) fn new(wire: Wire) -> StreamReceiver {
        StreamReceiver { wire: Some(wire), ahead: vec![0; AHEAD_BYTES], start: 0, end: 0, skip: 0 }
    }

    /// The length of the next record, if it is here.
    fn next_len(&self) -> Option<usize> {
        let header = self.ahead[self.start..self.end].first_chunk::<HEADER_BYTES>()?;
        Some(u32::from_be_bytes(*header) as usize)
    }

    fn pass(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more, until at least one byte came.
    fn read_ahead(&mut self, needed: usize, patience: Patience) -> Result<(), ReceiveError> {
        if self.ahead.len() - self.start < needed {
            self.ahead.copy_within(self.start..self.end, 0);
            self.end -= std::mem::take(&mut self.start);
            if self.ahead.len() < needed {
                self.ahead.resize(needed, 0);
            }
        }
        let inside = self.end > self.start || self.skip > 0;
        let wire = self.wire.as_mut().ok_or(ReceiveError::Closed)?;
        match read_some(wire, &mut self.ahead[self.end..], patience)? {
            0 if inside => Err(self.died()),
            0 => Err(ReceiveError::Closed),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// The rest of a record straight into the caller's buffer, for a call that waits for ever.
    fn read_directly(&mut self, record: &mut [u8]) -> Result<(), ReceiveError> {
        self.pass(HEADER_BYTES);
        let mut count = self.end - self.start;
        record[..count].copy_from_slice(&self.ahead[self.start..self.end]);
        self.pass(count);
        let wire = self.wire.as_mut().ok_or(ReceiveError::Closed)?;
        while count < record.len() {
            match read_some(wire, &mut record[count..], Patience::Forever) {
                Ok(0) => return Err(self.died()),
                Ok(n) => count += n,
                Err(error) => {
                    // The next call finds itself within this record.
                    self.skip = record.len() - count;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The stream has ended within a record, which will never be whole: so says every later call, too.
    fn died(&mut self) -> ReceiveError {
        (self.start, self.end, self.skip) = (0, 0, 1);
        ReceiveError::SenderDied
    }
}

/// Bytes that were read; 0 at the end of the stream.
fn read_some(wire: &mut Wire, buffer: &mut [u8], patience: Patience) -> Result<usize, ReceiveError> {
    loop {
        match wire.read(buffer, patience == Patience::Forever) {
            Err(Errno::EAGAIN) => {
                if !ready(&wire.descriptor, PollFlags::POLLIN, patience).receiving("wait for a record")? {
                    return Err(patience.empty());
                }
            }
            // Reset: the sender is gone, and did not read what was sent to it.
            Err(errno) if is_gone(errno) => return Ok(0),
            other => return other.receiving("read from a stream"),
        }
    }
}

impl Receiver for StreamReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        loop {
            let there = self.end - self.start;
            if self.skip > 0 {
                let now = self.skip.min(there);
                self.pass(now);
                self.skip -= now;
                if self.skip > 0 {
                    self.read_ahead(1, patience)?;
                }
                continue;
            }
            let Some(len) = self.next_len() else {
                self.read_ahead(HEADER_BYTES, patience)?;
                continue;
            };
            if len > MAX_RECORD_BYTES {
                return Err(ReceiveError::Damaged { what: "a length that no record has" });
            }
            if len > buffer.len() {
                self.pass(HEADER_BYTES);
                self.skip = len;
                return Err(ReceiveError::TooLong { len, room: buffer.len() });
            }
            if there >= HEADER_BYTES + len {
                let from = self.start + HEADER_BYTES;
                buffer[..len].copy_from_slice(&self.ahead[from..from + len]);
                self.pass(HEADER_BYTES + len);
                return Ok(Received::whole(len));
            }
            if patience == Patience::Forever {
                self.read_directly(&mut buffer[..len])?;
                return Ok(Received::whole(len));
            }
            self.read_ahead(HEADER_BYTES + len, patience)?;
        }
    }

    fn close(&mut self) {
        self.wire = None;
        // What was read ahead is not received any more either.
        (self.start, self.end, self.skip) = (0, 0, 0);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.wire.as_ref().map(|wire| wire.descriptor.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Answers its steps one by one: bytes, or an error.
    struct Script(VecDeque<Result<&'static [u8], ErrorKind>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(Err(kind)) => Err(kind.into()),
                Some(Ok(bytes)) => {
                    let count = bytes.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&bytes[..count]);
                    if count < bytes.len() {
                        self.0.push_front(Ok(&bytes[count..]));
                    }
                    Ok(count)
                }
            }
        }
    }

    fn script<const N: usize>(steps: [Result<&'static [u8], ErrorKind>; N]) -> Script {
        Script(steps.into())
    }

    #[test]
    fn read_n_outlasts_short_counts_and_interruptions() {
        let mut buffer = [0; 6];
        let mut from = script([Ok(b"ab"), Err(ErrorKind::Interrupted), Ok(b"c"), Ok(b"defgh")]);
        assert_eq!(read_n(&mut from, &mut buffer).expect("all"), 6);
        assert_eq!(&buffer, b"abcdef");
        assert_eq!(read_n(&mut from, &mut buffer).expect("the rest"), 2, "short only at the end");
        let mut from = script([Ok(b"ab"), Err(ErrorKind::ConnectionReset)]);
        assert_eq!(read_n(&mut from, &mut buffer).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    }

    /// Takes three bytes at a time, and is interrupted each second time.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn write_n_outlasts_short_counts_and_interruptions() {
        let mut to = Slow(Vec::new(), false);
        write_n(&mut to, b"all of these bytes").expect("all");
        assert_eq!(to.0, b"all of these bytes");
    }

    #[test]
    fn no_line_is_longer_than_it_may_be() {
        let too_long = |bytes: &'static [u8]| LineReader::new(script([Ok(bytes)]), 3).read_line();
        for bytes in [&b"abcd\n"[..], b"abcd"] {
            assert_eq!(too_long(bytes).map_err(|error| error.kind()), Err(ErrorKind::InvalidData));
        }
        for bytes in [&b"abc\n"[..], b"abc"] {
            assert_eq!(too_long(bytes).expect("a line").as_deref(), Some(&b"abc"[..]));
        }
    }

    /// A receiver, and the other end of its stream.
    fn receiver() -> (StreamReceiver, std::os::unix::net::UnixStream) {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("a pair");
        (StreamReceiver::new(Wire::socket(here.into())), there)
    }

    #[test]
    fn a_sender_that_died_within_a_record_stays_dead() {
        let (mut receiver, mut sender) = receiver();
        sender.write_all(&[0, 0, 0, 9, 1, 2, 3]).expect("room");
        drop(sender);
        for patience in [Patience::Forever, Patience::Forever, Patience::Not] {
            // Whatever there is room for: the record will never come.
            for room in [9, 3] {
                let answer = receiver.receive_within(&mut [0; 9][..room], patience);
                assert!(matches!(answer, Err(ReceiveError::SenderDied)), "{answer:?}");
            }
        }
    }

    #[test]
    fn a_closed_receiver_receives_no_more() {
        let (mut receiver, mut sender) = receiver();
        sender.write_all(&[0, 0, 0, 1, 7, 0, 0, 0, 1, 8]).expect("room");
        assert_eq!(receiver.receive(&mut [0; 9]).expect("a record").len, 1);
        receiver.close();
        let answer = receiver.try_receive(&mut [0; 9]);
        assert!(matches!(answer, Err(ReceiveError::Closed)), "{answer:?}");
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let steps = script([Ok(b"on"), Err(ErrorKind::Interrupted), Ok(b"e\ntwo\n\nbinary: \x01\x02la"), Ok(b"st")]);
        let mut lines = LineReader::new(steps, 100);
        assert_eq!(lines.read_line().expect("a line").as_deref(), Some(&b"one"[..]));
        assert_eq!(lines.read_line().expect("a line").as_deref(), Some(&b"two"[..]));
        assert_eq!(lines.read_line().expect("a line").as_deref(), Some(&b""[..]));
        let mut bytes = [0; 10];
        assert_eq!(lines.read_n(&mut bytes).expect("bytes"), 10);
        assert_eq!(&bytes, b"binary: \x01\x02");
        assert_eq!(lines.read_line().expect("a line").as_deref(), Some(&b"last"[..]), "without its end");
        assert_eq!(lines.read_line().expect("the end"), None);
        let endless = LineReader::new(io::repeat(b'x'), 1000).read_line();
        assert_eq!(endless.map_err(|error| error.kind()), Err(ErrorKind::InvalidData));
    }
}
