//! The transports of feature `baseline` that take bytes from a peer, and a peer that sends any, cut anywhere.
//!
//! The model knows all bytes that were sent, and so each answer: a record, whole, or the reason why not. What is damaged is told
//! and passed over or final; no answer depends on how the bytes were cut; no call waits for ever where the model knows that
//! nothing will come. `Sender` is the other direction: what goes out in parts is whole frames, one behind the other.

mod lines;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod seeds;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};
use nix::unistd::pipe2;
use shmcast::baseline::stream::{HEADER_BYTES, MAX_RECORD_BYTES};
use shmcast::baseline::{self, End, Patience, ReceiveError, Received, Receiver, SendError};

use crate::pattern;
pub(crate) use script::Script;
use script::{Carrier, How, Room, Step, What};

const MOST_STEPS: usize = 150;
/// What tells the datagrams of this link from others.
const TAG: u64 = 0x5EED;
const DATAGRAM_HEADER_BYTES: usize = 16;

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Script) {
    lines::read(&script.lines, usize::from(script.cut), usize::from(script.longest));
    lines::end(&script.end);
    if matches!(script.carrier, Carrier::Sender) {
        return send_records(&script.steps);
    }
    let mut pair = Pair::new(&script.carrier);
    for step in script.steps.iter().take(MOST_STEPS) {
        pair.step(step);
    }
    // The peer is gone: whatever was sent is told to the end, with calls that would wait for ever.
    pair.step(&Step::End { close: true });
    for _ in 0..3 {
        pair.step(&Step::Receive { room: Room::Any { bytes: u16::MAX }, how: How::Forever });
    }
}

/// What a call must answer.
#[derive(Debug, PartialEq)]
enum Answer {
    Record { lost: u64, bytes: Vec<u8> },
    Nothing,
    Closed,
    SenderDied,
    TooLong { len: usize, room: usize },
    Damaged,
}

/// What is on the way.
enum Sent {
    /// All bytes, and where the next record begins: perhaps behind what is there.
    Bytes { all: Vec<u8>, at: usize, died: bool },
    /// Messages; of datagrams, the number of the next, and what was lost and is not told yet.
    Messages { queue: VecDeque<Vec<u8>>, numbered: bool, next: u64, owed: u64, ended: bool },
}

struct Pair {
    peer: Option<OwnedFd>,
    socket: bool,
    /// Its end is seen here: of datagrams it is not.
    shut: bool,
    sees_end: bool,
    receiver: Box<dyn Receiver>,
    closed: bool,
    sent: Sent,
    /// The number of the next datagram that is sent.
    number: u64,
    /// What is cut off from the last frame.
    rest: Vec<u8>,
}

/// The end of a transport whose descriptor is this one.
fn end_of(transport: &str, role: &str, descriptor: OwnedFd, words: &str) -> End {
    let text = format!("{transport}|{role}|{}|{words}", descriptor.into_raw_fd());
    // SAFETY: the descriptor is open, and was let go of just now.
    unsafe { End::from_text(&text) }.unwrap_or_else(|error| panic!("{error}"))
}

impl Pair {
    fn new(carrier: &Carrier) -> Pair {
        let bytes = || Sent::Bytes { all: Vec::new(), at: 0, died: false };
        let messages = |numbered| Sent::Messages { queue: VecDeque::new(), numbered, next: 0, owed: 0, ended: false };
        let (transport, kind, sent) = match carrier {
            Carrier::Stream | Carrier::Sender => ("unix-stream", Some(SockType::Stream), bytes()),
            Carrier::Pipe => ("pipe", None, bytes()),
            Carrier::Datagram => ("unix-datagram", Some(SockType::Datagram), messages(true)),
            Carrier::Seqpacket => ("unix-seqpacket", Some(SockType::SeqPacket), messages(false)),
        };
        let (here, peer) = match kind {
            Some(kind) => socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("a pair"),
            None => pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe"),
        };
        let end = end_of(transport, "receiver", here, &format!("|{TAG:x}"));
        let receiver = end.receiver(Patience::Not).unwrap_or_else(|error| panic!("{error}"));
        let sees_end = !matches!(carrier, Carrier::Datagram);
        let (peer, socket) = (Some(peer), kind.is_some());
        Pair { peer, socket, shut: false, sees_end, receiver, closed: false, sent, number: 0, rest: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { what } => self.send(what),
            Step::SendRest => {
                let rest = std::mem::take(&mut self.rest);
                self.put(rest);
            }
            Step::Receive { room, how } => {
                let room = match *room {
                    Room::Small { bytes } => usize::from(bytes),
                    Room::Any { bytes } => usize::from(bytes),
                };
                self.receive(room, how);
            }
            Step::End { close } => {
                if let Some(peer) = self.peer.take_if(|_| *close || !self.socket) {
                    drop(peer);
                } else if let Some(peer) = &self.peer {
                    let _ = shutdown(peer.as_raw_fd(), Shutdown::Write);
                }
                self.shut = true;
            }
            Step::CloseHere => {
                self.receiver.close();
                self.closed = true;
            }
            Step::TrySend { .. } | Step::Drain { .. } => {}
        }
    }

    // ---- the peer ----

    fn send(&mut self, what: &What) {
        let streams = matches!(self.sent, Sent::Bytes { .. });
        let (bytes, cut) = match what {
            What::Record { len, cut } => {
                let len = usize::from(*len) % 9000;
                let payload = pattern::payload(self.number, len);
                let frame = if streams { frame(&payload) } else { self.datagram(self.number, TAG, &payload) };
                self.number += 1;
                let cut = if streams { usize::from(*cut).min(frame.len()) } else { 0 };
                (frame, cut)
            }
            What::Length { len } => (len.to_be_bytes().to_vec(), 0),
            What::Bytes { bytes } => (bytes.clone(), 0),
            What::Numbered { number, ours, len } => {
                let tag = if *ours { TAG } else { TAG ^ 1 };
                (self.datagram(*number, tag, &pattern::payload(*number, usize::from(*len))), 0)
            }
            What::Last => (self.datagram(u64::MAX, TAG, &self.number.to_be_bytes()), 0),
        };
        // What was cut off before is not sent any more: the peer goes on as if it had been.
        let kept = bytes.len() - cut;
        self.rest = bytes[kept..].to_vec();
        self.put(bytes[..kept].to_vec());
    }

    fn datagram(&self, number: u64, tag: u64, payload: &[u8]) -> Vec<u8> {
        let numbered = matches!(self.sent, Sent::Messages { numbered: true, .. });
        let header = if numbered { [tag.to_be_bytes(), number.to_be_bytes()].concat() } else { Vec::new() };
        [&header, payload].concat()
    }

    /// As much of it as there is room for.
    fn put(&mut self, bytes: Vec<u8>) {
        let Some(peer) = self.peer.as_ref().filter(|_| !self.shut && !self.closed) else { return };
        let empty_write = bytes.is_empty() && matches!(self.sent, Sent::Bytes { .. });
        let written = if empty_write {
            Ok(0)
        } else if self.socket {
            send(peer.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        } else {
            nix::unistd::write(peer, &bytes)
        };
        let Ok(written) = written else { return };
        match &mut self.sent {
            Sent::Bytes { all, .. } => all.extend_from_slice(&bytes[..written]),
            Sent::Messages { queue, .. } => queue.push_back(bytes),
        }
    }

    // ---- this end ----

    /// The answer, and the state behind it, which is taken on if the call is made.
    fn expected(&mut self, room: usize) -> Answer {
        if self.closed {
            return Answer::Closed;
        }
        let shut = self.shut && self.sees_end;
        match &mut self.sent {
            Sent::Bytes { died: true, .. } => Answer::SenderDied,
            Sent::Bytes { all, at, died } => {
                let answer = next_of_stream(all, at, shut, room);
                *died = answer == Answer::SenderDied;
                answer
            }
            Sent::Messages { queue, numbered: false, .. } => match queue.pop_front() {
                None => {
                    if shut {
                        Answer::Closed
                    } else {
                        Answer::Nothing
                    }
                }
                // No bytes look like the end.
                Some(bytes) if bytes.is_empty() => Answer::Closed,
                Some(bytes) if bytes.len() > room => Answer::TooLong { len: bytes.len(), room },
                Some(bytes) => Answer::Record { lost: 0, bytes },
            },
            Sent::Messages { queue, next, owed, ended, .. } => {
                while !*ended {
                    let Some(bytes) = queue.pop_front() else { return Answer::Nothing };
                    let Some((header, payload)) = bytes.split_at_checked(DATAGRAM_HEADER_BYTES) else { continue };
                    let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
                    let number = word(8);
                    if word(0) != TAG {
                        continue;
                    }
                    if number == u64::MAX {
                        *ended = true;
                        continue;
                    }
                    if number < *next {
                        continue;
                    }
                    *owed += number - *next;
                    *next = number + 1;
                    if payload.len() > room {
                        return Answer::TooLong { len: payload.len(), room };
                    }
                    return Answer::Record { lost: std::mem::take(owed), bytes: payload.to_vec() };
                }
                Answer::Closed
            }
        }
    }

    fn receive(&mut self, room: usize, how: &How) {
        let expected = self.expected(room);
        let mut buffer = vec![0xA5; room];
        let answer = match how {
            How::Forever if expected != Answer::Nothing => self.receiver.receive(&mut buffer),
            How::Timeout => self.receiver.receive_timeout(&mut buffer, Duration::ZERO),
            How::Try | How::Forever => self.receiver.try_receive(&mut buffer),
        };
        let found = match answer {
            Ok(Received { len, lost }) => Answer::Record { lost, bytes: buffer[..len].to_vec() },
            Err(ReceiveError::Empty) if !matches!(how, How::Timeout) => Answer::Nothing,
            Err(ReceiveError::Timeout) if matches!(how, How::Timeout) => Answer::Nothing,
            Err(ReceiveError::Closed) => Answer::Closed,
            Err(ReceiveError::SenderDied) => Answer::SenderDied,
            Err(ReceiveError::TooLong { len, room }) => Answer::TooLong { len, room },
            Err(ReceiveError::Damaged { what }) => {
                assert!(!what.is_empty());
                Answer::Damaged
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected);
    }
}

/// What a stream of these bytes, of which there is more to come unless it is shut, answers at `at`.
fn next_of_stream(all: &[u8], at: &mut usize, shut: bool, room: usize) -> Answer {
    let within = if shut { Answer::SenderDied } else { Answer::Nothing };
    // Still passing over a record that was too long?
    let Some(there) = all.get(*at..) else { return within };
    let Some(header) = there.first_chunk::<HEADER_BYTES>() else {
        return if shut && there.is_empty() { Answer::Closed } else { within };
    };
    let len = u32::from_be_bytes(*header) as usize;
    if len > MAX_RECORD_BYTES {
        return Answer::Damaged;
    }
    if len > room {
        *at += HEADER_BYTES + len;
        return Answer::TooLong { len, room };
    }
    let Some(bytes) = there.get(HEADER_BYTES..HEADER_BYTES + len) else { return within };
    *at += HEADER_BYTES + len;
    Answer::Record { lost: 0, bytes: bytes.to_vec() }
}

/// A record as a stream has it.
fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

/// Whatever a receiver reads, and when: the stream is whole frames of the records for which a send said that all is well.
fn send_records(steps: &[Step]) {
    let (here, peer) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
    // As little as the system allows: records go out in parts.
    baseline::set_queue(&here, 1).expect("a socket");
    let end = end_of("unix-stream", "sender", here, "1|5eed");
    let mut sender = end.sender(Patience::Not).unwrap_or_else(|error| panic!("{error}"));
    let mut peer = UnixStream::from(peer);
    peer.set_nonblocking(true).expect("a socket");
    let (mut expected, mut found, mut number) = (Vec::new(), Vec::new(), 0);
    for step in steps.iter().take(MOST_STEPS) {
        match *step {
            Step::TrySend { len } => {
                let record = pattern::payload(number, usize::from(len) % 20_000);
                match sender.try_send(&record) {
                    Ok(()) => {
                        expected.extend(frame(&record));
                        number += 1;
                    }
                    Err(error) => assert!(matches!(error, SendError::Full) && expected.len() > found.len(), "{error}"),
                }
            }
            Step::Drain { bytes } => drain(&mut peer, usize::from(bytes), &mut found),
            Step::End { close: true } => {
                drop(peer);
                let answer = (0..3).map(|_| sender.try_send(b"nobody hears it")).last();
                assert!(matches!(answer, Some(Err(SendError::PeerGone))), "{answer:?}");
                return;
            }
            _ => {}
        }
        assert!(expected.starts_with(&found), "the stream is not what was sent");
    }
    // A send writes what the ones before it could not.
    let done = (0..1000).any(|_| {
        drain(&mut peer, usize::MAX, &mut found);
        sender.try_send(b"").is_ok()
    });
    assert!(done, "there is room, and nothing is sent");
    drain(&mut peer, usize::MAX, &mut found);
    drop(sender);
    peer.set_nonblocking(false).expect("a socket");
    peer.read_to_end(&mut found).expect("the rest");
    expected.extend(frame(b""));
    assert!(found == expected, "{} bytes came of {}", found.len(), expected.len());
}

fn drain(peer: &mut UnixStream, most: usize, found: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    let mut left = most;
    while left > 0 {
        let room = left.min(buffer.len());
        match peer.read(&mut buffer[..room]) {
            Ok(0) => return,
            Ok(count) => {
                found.extend_from_slice(&buffer[..count]);
                left -= count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}
