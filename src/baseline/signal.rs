//! Signals: the only asynchronous way, here received synchronously, by `signalfd`.
//!
//! | | queued (real-time, `sigqueue`) | standard (`kill`) |
//! |---|---|---|
//! | carries | 8 bytes: the length and up to 7 bytes of a record | nothing |
//! | sent twice before it is received | comes twice, in order | comes once: lost, and nobody can tell |
//! | limit | `RLIMIT_SIGPENDING`, then `EAGAIN` | one |
//!
//! Signals know process numbers only, and both sides must have them: they are exchanged over a pair of sockets, whose end also tells each
//! side of the other's. A signal is sent to one *thread*, so that the other threads of that process need not block it: a receiver
//! must be used by the thread that connected it. That thread keeps the signal blocked afterwards.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::ThreadId;

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::each::{Each, One};
use super::error::{During, restarted};
use super::link::Plug;
use super::rules::{Delivery, Seen};
use super::wait::{Naps, ready};
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};

/// The longest record: a signal carries 8 bytes, and one of them is the length.
const MAX_BYTES: usize = 7;
/// What the sender says on the pair of sockets before it closes its end.
const BYE: &[u8] = b"b";

/// Signals to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Real-time signals with a value.
    Queued,
    /// A standard signal: a record of no bytes, that may be lost.
    Standard,
}

impl Signals {
    /// Both.
    pub const ALL: [Signals; 2] = [Signals::Queued, Signals::Standard];

    /// The number of the signal.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            // The first ones are other people's favourites.
            Signals::Queued => libc::SIGRTMIN() + 7,
            Signals::Standard => libc::SIGUSR2,
        }
    }
}

impl Transport for Signals {
    fn name(&self) -> String {
        match self {
            Signals::Queued => "signal-queued",
            Signals::Standard => "signal-standard",
        }
        .to_owned()
    }

    fn rules(&self) -> Rules {
        let rules = Rules { sender_end: Seen::BOTH, ..Rules::messages(MAX_BYTES) };
        match self {
            Signals::Queued => rules,
            Signals::Standard => Rules { max_record: 0, delivery: Delivery::Silent, holds_sender: false, ..rules },
        }
    }

    fn make(&self, _: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (mut sender, mut plugs) = (Plug::default(), Vec::new());
        for _ in 0..receivers {
            let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .setup("make a pair of sockets")?;
            sender = sender.with([one]);
            plugs.push(Plug::default().with([other]));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    /// Waits until every receiver has told its number.
    fn sender(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let mut ones = Vec::new();
        for line in plug.descriptors {
            if !ready(&line, PollFlags::POLLIN, patience).setup("wait for a receiver's number")? {
                return Err(SetupError::Timeout { doing: "a receiver's number" });
            }
            let mut hello = [0; 8];
            let count = restarted(|| recv(line.as_raw_fd(), &mut hello, MsgFlags::empty())).setup("hear a number")?;
            if count != hello.len() {
                return Err(SetupError::Timeout { doing: "a receiver that lives" });
            }
            let number = u64::from_ne_bytes(hello);
            let [process, thread] = [(number >> 32) as c_int, number as c_int];
            ones.push(SignalSender { line, process, thread, signals: *self });
        }
        Ok(Box::new(Each::new(ones, &self.rules())))
    }

    fn receiver(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let line = plug.descriptor()?;
        let signals = block(self.number()).setup("block a signal")?;
        let both = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).setup("make an epoll")?;
        both.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0)).setup("watch a signalfd")?;
        both.add(&line, EpollEvent::new(EpollFlags::EPOLLIN, 1)).setup("watch a socket")?;
        // Blocked first, told then: no signal comes before.
        let [process, thread] = [std::process::id(), nix::unistd::gettid().as_raw() as u32];
        let hello = (u64::from(process) << 32 | u64::from(thread)).to_ne_bytes();
        restarted(|| send(line.as_raw_fd(), &hello, MsgFlags::MSG_NOSIGNAL)).setup("tell a number")?;
        let open = Open { line, signals, both, thread: std::thread::current().id() };
        Ok(Box::new(SignalReceiver { open: Some(open), queued: *self == Signals::Queued, said_bye: false }))
    }
}

/// Blocks a signal for this thread, and makes a signalfd for it. (By number: nix has no names for the real-time ones.)
fn block(number: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: integers, of which zeros are valid; `sigemptyset` sets them anyway.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a set.
    Errno::result(unsafe { libc::sigemptyset(&raw mut set) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::sigaddset(&raw mut set, number) })?;
    // SAFETY: `set` is a set; the old one is not wanted.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => {}
        number => return Err(Errno::from_raw(number)),
    }
    // SAFETY: `set` is a set.
    let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    // SAFETY: the call has just answered it: it is open, and nobody else's.
    Errno::result(descriptor).map(|descriptor| unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) })
}

/// What `rt_tgsigqueueinfo` takes: the layout of a `siginfo_t` with a value.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    process: c_int,
    user: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Info>() == size_of::<libc::siginfo_t>());

#[derive(Debug)]
struct SignalSender {
    line: OwnedFd,
    process: c_int,
    thread: c_int,
    signals: Signals,
}

impl SignalSender {
    fn send_signal(&self, record: &[u8]) -> Result<(), Errno> {
        let number = self.signals.number();
        if self.signals == Signals::Standard {
            // SAFETY: no memory is involved.
            let outcome = unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, number) };
            return Errno::result(outcome).map(drop);
        }
        let mut value = [0; 8];
        value[0] = record.len() as u8;
        value[1..=record.len()].copy_from_slice(record);
        let info = Info {
            signal: number,
            errno: 0,
            code: libc::SI_QUEUE,
            padding: 0,
            process: std::process::id().cast_signed(),
            user: nix::unistd::getuid().as_raw(),
            value: u64::from_ne_bytes(value),
            rest: [0; 12],
        };
        let info = &raw const info;
        // SAFETY: `info` is as large as a `siginfo_t`, and alive during the call.
        let outcome = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, self.process, self.thread, number, info) };
        Errno::result(outcome).map(drop)
    }

    /// A dead process that nobody has waited for still takes signals: the pair of sockets tells.
    fn is_gone(&self) -> Result<bool, Errno> {
        let mut look = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
        Ok(restarted(|| poll(&mut look, PollTimeout::ZERO))? > 0)
    }
}

impl One for SignalSender {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        let mut naps = Naps::new(patience);
        loop {
            if self.is_gone().sending("look for the receiver")? {
                return Err(SendError::PeerGone);
            }
            match self.send_signal(record) {
                Ok(()) => return Ok(()),
                // RLIMIT_SIGPENDING, of all processes of the receiver's user. Nothing tells when there is room again.
                Err(Errno::EAGAIN) => {
                    if !naps.nap() {
                        return Err(patience.full());
                    }
                }
                Err(Errno::ESRCH) => return Err(SendError::PeerGone),
                Err(errno) => return Err(errno).sending("send a signal"),
            }
        }
    }

    fn close_one(&mut self) {
        let _ = send(self.line.as_raw_fd(), BYE, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
        let _ = nix::sys::socket::shutdown(self.line.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }
}

#[derive(Debug)]
struct Open {
    line: OwnedFd,
    signals: OwnedFd,
    /// Both of them, so that one descriptor tells.
    both: Epoll,
    thread: ThreadId,
}

#[derive(Debug)]
struct SignalReceiver {
    open: Option<Open>,
    queued: bool,
    said_bye: bool,
}

/// The next signal that is pending for this thread: its value.
fn next_signal(signals: &OwnedFd) -> Result<Option<u64>, Errno> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    match restarted(|| nix::unistd::read(signals, &mut info)) {
        Ok(_) => {
            let at = std::mem::offset_of!(libc::signalfd_siginfo, ssi_ptr);
            Ok(info[at..].first_chunk().map(|value| u64::from_ne_bytes(*value)))
        }
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Receiver for SignalReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let open = self.open.as_ref().ok_or(ReceiveError::Closed)?;
        if open.thread != std::thread::current().id() {
            return Err(ReceiveError::Damaged {
                what: "signals for another thread: receive in the one that connected",
            });
        }
        loop {
            let mut ended = false;
            if !self.said_bye {
                // Looked at first: what was sent before the end is pending when the end is there.
                let mut word = [0; 8];
                match restarted(|| recv(open.line.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT)) {
                    Ok(0) | Err(Errno::ECONNRESET) => ended = true,
                    Ok(_) => self.said_bye = true,
                    Err(Errno::EAGAIN) => {}
                    Err(errno) => return Err(errno).receiving("hear the sender"),
                }
            }
            if let Some(value) = next_signal(&open.signals).receiving("read a signal")? {
                let value = value.to_ne_bytes();
                let len = if self.queued { usize::from(value[0]) } else { 0 };
                let record =
                    value[1..].get(..len).ok_or(ReceiveError::Damaged { what: "a length that no signal has" })?;
                let room = buffer.len();
                buffer.get_mut(..len).ok_or(ReceiveError::TooLong { len, room })?.copy_from_slice(record);
                return Ok(Received::whole(len));
            }
            match (self.said_bye, ended) {
                (true, _) => return Err(ReceiveError::Closed),
                (false, true) => return Err(ReceiveError::SenderDied),
                (false, false) => {}
            }
            if !ready(&open.both.0, PollFlags::POLLIN, patience).receiving("wait for a signal")? {
                return Err(patience.empty());
            }
        }
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.both.0.as_fd())
    }
}
