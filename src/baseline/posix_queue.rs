//! POSIX message queues: a queue to each receiver, with priorities, limits and a notification.
//!
//! A message of higher priority overtakes all of lower ones; of equal priority they stay in order. That is how the end is said here:
//! by the one message of priority 0, which everything else overtakes. A queue holds few messages (`fs.mqueue.msg_max`, 10) of limited size
//! (`fs.mqueue.msgsize_max`, 8 KiB). Nobody learns that the other side has died. The name stays until it is unlinked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_getattr, mq_open, mq_unlink};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};

use super::each::{Each, One};
use super::error::{During, restarted};
use super::link::Plug;
use super::rules::{Reach, Seen};
use super::{
    CLOSE, Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};

/// The priority of the end.
const END: u32 = 0;
/// The priority of records.
const RECORD: u32 = 1;

/// What this machine allows: messages in a queue, bytes of a message.
#[must_use]
pub fn limits() -> (usize, usize) {
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).unwrap_or_default();
        text.trim().parse().ok()
    };
    (limit("msg_max").unwrap_or(10), limit("msgsize_max").unwrap_or(8192))
}

/// One end of one queue.
#[derive(Debug)]
pub struct Queue {
    descriptor: MqdT,
    /// Bytes of the longest message.
    longest: usize,
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own, and not used any more.
        unsafe { libc::mq_close(self.descriptor.as_raw_fd()) };
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Queue {
    /// Makes a queue of a name (`/name`) that nothing has, for that many messages of that many bytes, and this user.
    ///
    /// # Errors
    /// `EEXIST`; `EINVAL`: beyond [`limits`]; `EMFILE`: beyond `RLIMIT_MSGQUEUE`, bytes of all queues of this user.
    pub fn create(name: &str, messages: usize, bytes: usize) -> Result<Queue, Errno> {
        let flags = MQ_OFlag::O_RDWR | MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_CLOEXEC;
        let attributes = MqAttr::new(0, messages as i64, bytes as i64, 0);
        let descriptor = mq_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes))?;
        Ok(Queue { descriptor, longest: bytes })
    }

    /// Opens the queue of a name, to send or to receive.
    ///
    /// # Errors
    /// `ENOENT`: there is none; `EACCES`.
    pub fn open(name: &str, sends: bool) -> Result<Queue, Errno> {
        let way = if sends { MQ_OFlag::O_WRONLY } else { MQ_OFlag::O_RDONLY };
        let descriptor = mq_open(name, way | MQ_OFlag::O_CLOEXEC, Mode::empty(), None)?;
        let mut queue = Queue { descriptor, longest: 0 };
        queue.longest = usize::try_from(mq_getattr(&queue.descriptor)?.msgsize()).map_err(|_| Errno::EINVAL)?;
        Ok(queue)
    }

    /// Removes a name; whoever has the queue open keeps it.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES`: it is another user's.
    pub fn unlink(name: &str) -> Result<(), Errno> {
        mq_unlink(name)
    }

    /// Messages in it.
    ///
    /// # Errors
    /// The system's.
    pub fn count(&self) -> Result<usize, Errno> {
        Ok(usize::try_from(mq_getattr(&self.descriptor)?.curmsgs()).unwrap_or(0))
    }

    /// Sends a message; the higher its priority, the sooner it is received.
    ///
    /// # Errors
    /// `ETIMEDOUT`: no room; `EMSGSIZE`; `EINTR`.
    pub fn send(&self, message: &[u8], priority: u32, patience: Patience) -> Result<(), Errno> {
        let (data, len) = (message.as_ptr().cast(), message.len());
        let number = self.descriptor.as_raw_fd();
        let outcome = match deadline(patience) {
            // SAFETY: `message` is as long as it says.
            None => unsafe { libc::mq_send(number, data, len, priority) },
            // SAFETY: as above; the deadline is a `timespec`.
            Some(deadline) => unsafe { libc::mq_timedsend(number, data, len, priority, &raw const deadline) },
        };
        Errno::result(outcome).map(drop)
    }

    /// Receives the oldest of the messages of the highest priority; answers its bytes and its priority. The buffer must have room for the
    /// longest message of the queue.
    ///
    /// # Errors
    /// `ETIMEDOUT`: there is none; `EMSGSIZE`: the buffer is too short; `EINTR`.
    pub fn receive(&self, buffer: &mut [u8], patience: Patience) -> Result<(usize, u32), Errno> {
        let (data, room, mut priority) = (buffer.as_mut_ptr().cast(), buffer.len(), 0);
        let number = self.descriptor.as_raw_fd();
        let outcome = match deadline(patience) {
            // SAFETY: `buffer` has as much room as it says.
            None => unsafe { libc::mq_receive(number, data, room, &raw mut priority) },
            // SAFETY: as above; the deadline is a `timespec`.
            Some(deadline) => unsafe {
                libc::mq_timedreceive(number, data, room, &raw mut priority, &raw const deadline)
            },
        };
        Errno::result(outcome).map(|count| (count as usize, priority))
    }

    /// Asks for a signal, once, when the next message comes to the *empty* queue while nobody waits in a receive; `None` takes it back.
    /// Only one process can ask at a time.
    ///
    /// # Errors
    /// `EBUSY`: another process has asked.
    pub fn notify(&self, signal: Option<i32>) -> Result<(), Errno> {
        let Some(signal) = signal else {
            // SAFETY: null takes it back.
            return Errno::result(unsafe { libc::mq_notify(self.descriptor.as_raw_fd(), std::ptr::null()) }).map(drop);
        };
        // SAFETY: integers and a pointer, of which zeros are valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal;
        // SAFETY: `event` is alive during the call.
        Errno::result(unsafe { libc::mq_notify(self.descriptor.as_raw_fd(), &raw const event) }).map(drop)
    }
}

/// The calls take a time of day. One that has passed does not wait.
fn deadline(patience: Patience) -> Option<libc::timespec> {
    let left = patience.left()?;
    if left.is_zero() {
        return Some(libc::timespec { tv_sec: 0, tv_nsec: 0 });
    }
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    let end = now.saturating_add(left);
    let tv_sec = libc::time_t::try_from(end.as_secs()).unwrap_or(libc::time_t::MAX);
    Some(libc::timespec { tv_sec, tv_nsec: end.subsec_nanos().into() })
}

/// A POSIX message queue to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixQueue;

impl Transport for PosixQueue {
    fn name(&self) -> String {
        "posix-queue".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules {
            reach: Reach::Names,
            sender_end: Seen::CLOSE,
            receiver_end: Seen::NOTHING,
            dead_holds_sender: true,
            outlives: true,
            ..Rules::messages(limits().1)
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (messages, bytes) = limits();
        let mut names = Vec::new();
        for number in 0..receivers {
            let name = place.name(number);
            match Queue::create(&name, messages, bytes) {
                Ok(_) => names.push(name),
                Err(Errno::EMFILE | Errno::ENOSPC) => {
                    return Err(SetupError::Missing {
                        transport: self.name(),
                        reason: "this user's queues have reached RLIMIT_MSGQUEUE or fs.mqueue.queues_max".to_owned(),
                    });
                }
                Err(Errno::ENOSYS) => {
                    return Err(SetupError::Missing {
                        transport: self.name(),
                        reason: "the kernel has no POSIX message queues".to_owned(),
                    });
                }
                Err(errno) => return Err(errno).setup("make a message queue"),
            }
        }
        let receivers = names.iter().map(|name| Plug::words([name.clone()])).collect();
        Ok(Plugs { sender: Plug::words(names), receivers })
    }

    fn sender(&self, plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let queues: Result<Vec<Queue>, Errno> = plug.words.iter().map(|name| Queue::open(name, true)).collect();
        Ok(Box::new(Each::new(queues.setup("open a message queue")?, &self.rules())))
    }

    fn receiver(&self, plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let queue = Queue::open(plug.word(0)?, false).setup("open a message queue")?;
        let message = vec![0; queue.longest];
        Ok(Box::new(QueueReceiver { queue: Some(queue), message }))
    }
}

impl Queue {
    fn put(&self, message: &[u8], priority: u32, patience: Patience) -> Result<(), SendError> {
        match restarted(|| self.send(message, priority, patience)) {
            Ok(()) => Ok(()),
            Err(Errno::ETIMEDOUT) => Err(patience.full()),
            Err(Errno::EMSGSIZE) => Err(SendError::TooLong { len: message.len(), max: self.longest }),
            Err(errno) => Err(errno).sending("send a message"),
        }
    }
}

impl One for Queue {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        self.put(record, RECORD, patience)
    }

    fn close_one(&mut self) {
        let _ = self.put(&[], END, Patience::of(CLOSE));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

#[derive(Debug)]
struct QueueReceiver {
    /// None when closed, or at the end.
    queue: Option<Queue>,
    /// A buffer must have room for the longest message, whatever the length of the next one.
    message: Vec<u8>,
}

impl Receiver for QueueReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let queue = self.queue.as_ref().ok_or(ReceiveError::Closed)?;
        let room = buffer.len();
        let message = if room >= self.message.len() { &mut *buffer } else { &mut self.message[..] };
        let (len, priority) = match restarted(|| queue.receive(message, patience)) {
            Ok(received) => received,
            Err(Errno::ETIMEDOUT) => return Err(patience.empty()),
            Err(errno) => return Err(io::Error::from(errno)).receiving("receive a message"),
        };
        if priority == END {
            self.queue = None;
            return Err(ReceiveError::Closed);
        }
        if room < self.message.len() {
            let buffer = buffer.get_mut(..len).ok_or(ReceiveError::TooLong { len, room })?;
            buffer.copy_from_slice(&self.message[..len]);
        }
        Ok(Received::whole(len))
    }

    fn close(&mut self) {
        self.queue = None;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }
}
