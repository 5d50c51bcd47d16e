//! System V shared memory and semaphores: a bounded buffer, written once, read by each receiver.
//!
//! ```text
//!   semaphores   items of receiver 0, 1, ...     P by the receiver, V by the sender      one call for all receivers
//!                room for receiver 0, 1, ...     P by the sender, V by the receiver
//!                who is there: receivers, sender   +1 as long as it lives (SEM_UNDO)
//! ```
//! `SEM_UNDO` makes deaths visible: whoever connects does one V without and one P with undo to the semaphore that the other side waits
//! for. Nothing changes by that, but when the process ends, however it ends, the kernel takes the P back: whoever waits is woken, and
//! finds that the other one is not there any more.

use std::time::Duration;

use nix::errno::Errno;

use super::bounded::{self, Buffer, CLOSED, DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, JOINED};
use super::each::check_length;
use super::error::{During, restarted};
use super::link::{Plug, key_of};
use super::rules::{FanOut, Reach, Seen};
use super::sysv::{Operation, Semaphores};
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};
use crate::segment::plain;

/// A bounded buffer in System V shared memory: 64 slots of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysvMemory;

impl Transport for SysvMemory {
    fn name(&self) -> String {
        "sysv-shm".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules {
            fan_out: FanOut::Once,
            reach: Reach::Names,
            sender_end: Seen::BOTH,
            receiver_end: Seen::ALIKE,
            pollable: false,
            outlives: true,
            ..Rules::messages(DEFAULT_SLOT_BYTES)
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let length = bounded::length(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES);
        let memory = plain::create_sysv(place.key(), length).setup("make shared memory")?;
        Buffer::create(memory, DEFAULT_SLOTS, DEFAULT_SLOT_BYTES, receivers);
        let mut values = vec![0; receivers * 3 + 1];
        values[receivers..receivers * 2].fill(DEFAULT_SLOTS as u16);
        Semaphores::create(place.key(), &values).setup("make semaphores")?;
        let plug = |number: usize| {
            let path = place.directory().to_string_lossy().into_owned();
            Plug::words([path, number.to_string()])
        };
        Ok(Plugs { sender: plug(0), receivers: (0..receivers).map(plug).collect() })
    }

    fn sender(&self, plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let shared = Shared::open(&plug)?;
        let receivers: Vec<usize> = (0..shared.buffer.receivers).collect();
        let mut joining = vec![Operation::v(shared.sender()).undone()];
        for &receiver in &receivers {
            joining.extend([Operation::v(shared.items(receiver)), Operation::p(shared.items(receiver)).undone()]);
        }
        shared.set.operate(&joining, None).setup("join as the sender")?;
        shared.buffer.set(None, JOINED);
        Ok(Box::new(MemorySender { next: shared.buffer.published(), shared, receivers, closed: false }))
    }

    fn receiver(&self, plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let (shared, number) = (Shared::open(&plug)?, plug.number::<usize>(1)?);
        if number >= shared.buffer.receivers {
            return Err(SetupError::BadEnd { text: number.to_string(), reason: "there is no such receiver" });
        }
        let room = shared.room(number);
        let joining = [Operation::v(shared.there(number)).undone(), Operation::v(room), Operation::p(room).undone()];
        shared.set.operate(&joining, None).setup("join as a receiver")?;
        shared.buffer.set(Some(number), JOINED);
        Ok(Box::new(MemoryReceiver { shared, number, next: 0, closed: false }))
    }
}

#[derive(Debug)]
struct Shared {
    buffer: Buffer,
    set: Semaphores,
}

impl Shared {
    fn open(plug: &Plug) -> Result<Shared, SetupError> {
        let key = key_of(plug.word(0)?.as_ref())?;
        let buffer = Buffer::open(plain::open_sysv(key).setup("attach shared memory")?)?;
        Ok(Shared { buffer, set: Semaphores::open(key).setup("open semaphores")? })
    }

    fn items(&self, receiver: usize) -> u16 {
        receiver as u16
    }

    fn room(&self, receiver: usize) -> u16 {
        (self.buffer.receivers + receiver) as u16
    }

    fn there(&self, receiver: usize) -> u16 {
        (self.buffer.receivers * 2 + receiver) as u16
    }

    fn sender(&self) -> u16 {
        (self.buffer.receivers * 3) as u16
    }

    /// Was there, and is no more.
    fn is_gone(&self, receiver: Option<usize>) -> Result<bool, Errno> {
        let semaphore = receiver.map_or(self.sender(), |receiver| self.there(receiver));
        Ok(self.buffer.has(receiver, JOINED) && self.set.value(semaphore)? == 0)
    }

    /// First without waiting, then, if the other side is there, for as long as there is time. False: the other side may have gone.
    fn operate(
        &self,
        operations: &[Operation],
        patience: Patience,
        mut is_alone: impl FnMut() -> Result<bool, Errno>,
    ) -> Result<Outcome, Errno> {
        match self.set.operate(operations, Some(Duration::ZERO)) {
            Err(Errno::EAGAIN) => {}
            other => return other.map(|()| Outcome::Done),
        }
        // A death after this look adds what is waited for.
        if is_alone()? {
            return Ok(Outcome::Alone);
        }
        if patience.is_over() {
            return Ok(Outcome::Over);
        }
        match restarted(|| self.set.operate(operations, patience.left())) {
            Err(Errno::EAGAIN) => Ok(Outcome::Over),
            other => other.map(|()| Outcome::Done),
        }
    }
}

enum Outcome {
    Done,
    Over,
    Alone,
}

#[derive(Debug)]
struct MemorySender {
    shared: Shared,
    /// Those that are there, or may still come.
    receivers: Vec<usize>,
    next: u64,
    closed: bool,
}

impl Sender for MemorySender {
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        check_length(record.len(), 0, self.shared.buffer.slot_bytes)?;
        loop {
            if self.receivers.is_empty() {
                return Err(SendError::PeerGone);
            }
            let each = |semaphore: fn(&Shared, usize) -> u16, operation: fn(u16) -> Operation| -> Vec<Operation> {
                self.receivers.iter().map(|&receiver| operation(semaphore(&self.shared, receiver))).collect()
            };
            let gone = || {
                let mut gone = false;
                for &receiver in &self.receivers {
                    gone |= self.shared.is_gone(Some(receiver))?;
                }
                Ok(gone)
            };
            match self.shared.operate(&each(Shared::room, Operation::p), patience, gone) {
                Ok(Outcome::Done) => {}
                Ok(Outcome::Over) => return Err(patience.full()),
                Ok(Outcome::Alone) => {
                    let shared = &self.shared;
                    self.receivers.retain(|&receiver| !matches!(shared.is_gone(Some(receiver)), Ok(true)));
                    continue;
                }
                Err(Errno::EIDRM | Errno::EINVAL) => return Err(SendError::PeerGone),
                Err(errno) => return Err(errno).sending("wait for room"),
            }
            self.shared.buffer.write(self.next, record);
            self.next += 1;
            return match self.shared.set.operate(&each(Shared::items, Operation::v), None) {
                Err(Errno::EIDRM | Errno::EINVAL) => Err(SendError::PeerGone),
                other => other.sending("announce a record"),
            };
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.shared.buffer.set(None, CLOSED);
        // The kernel's part at a death, done here: it has nothing to take back afterwards.
        let mut leaving = vec![Operation::p(self.shared.sender()).undone()];
        leaving.extend(
            (0..self.shared.buffer.receivers).map(|receiver| Operation::v(self.shared.items(receiver)).undone()),
        );
        let _ = self.shared.set.operate(&leaving, Some(Duration::ZERO));
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct MemoryReceiver {
    shared: Shared,
    number: usize,
    next: u64,
    closed: bool,
}

impl MemoryReceiver {
    /// Takes the next record, which is published, and gives its slot back.
    fn take(&mut self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        let outcome = self.shared.buffer.read(self.next, buffer);
        self.next += 1;
        let given = self.shared.set.operate(&[Operation::v(self.shared.room(self.number))], None);
        if !matches!(given, Err(Errno::EIDRM | Errno::EINVAL)) {
            given.receiving("give a slot back")?;
        }
        outcome.map(Received::whole)
    }
}

impl Receiver for MemoryReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        if self.closed {
            return Err(ReceiveError::Closed);
        }
        let (shared, number) = (&self.shared, self.number);
        let outcome = shared.operate(&[Operation::p(shared.items(number))], patience, || shared.is_gone(None));
        match outcome {
            Ok(Outcome::Over) => return Err(patience.empty()),
            Ok(_) if self.next < shared.buffer.published() => return self.take(buffer),
            Ok(_) => {}
            // Removed: what was published can still be read.
            Err(Errno::EIDRM | Errno::EINVAL) if self.next < shared.buffer.published() => return self.take(buffer),
            Err(Errno::EIDRM | Errno::EINVAL) => return Err(ReceiveError::Closed),
            Err(errno) => return Err(errno).receiving("wait for a record"),
        }
        Err(if shared.buffer.has(None, CLOSED) { ReceiveError::Closed } else { ReceiveError::SenderDied })
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.shared.buffer.set(Some(self.number), CLOSED);
        let leaving = [
            Operation::p(self.shared.there(self.number)).undone(),
            Operation::v(self.shared.room(self.number)).undone(),
        ];
        let _ = self.shared.set.operate(&leaving, Some(Duration::ZERO));
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.close();
    }
}
