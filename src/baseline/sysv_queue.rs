//! The System V message queue: one queue for all receivers, each of which takes the messages of its own type.
//!
//! Messages have borders and a type; a queue holds `kernel.msgmnb` bytes (16 KiB), which its receivers share: one that does not read
//! holds the others up, too. Nobody learns that the other side has died. The queue stays until it is removed.

use nix::errno::Errno;

use super::each::{Each, One};
use super::error::{During, restarted};
use super::link::{Plug, key_of};
use super::rules::{Reach, Seen, Wake};
use super::sysv::{Queue, TYPE_BYTES, queue_limits};
use super::wait::Naps;
use super::{
    CLOSE, Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};

/// One byte before the payload: a record, or the end.
const FLAG_BYTES: usize = 1;
const RECORD: u8 = 0;
const END: u8 = 1;

/// A System V message queue, with a type for each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysvQueue;

impl Transport for SysvQueue {
    fn name(&self) -> String {
        "sysv-queue".to_owned()
    }

    fn rules(&self) -> Rules {
        let (longest, whole) = queue_limits();
        Rules {
            reach: Reach::Names,
            sender_end: Seen::CLOSE,
            receiver_end: Seen::NOTHING,
            dead_holds_sender: true,
            wake: Wake::Kernel,
            pollable: false,
            outlives: true,
            ..Rules::messages(longest.min(whole).saturating_sub(FLAG_BYTES))
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        Queue::create(place.key()).setup("make a message queue")?;
        // Whoever knows the path has the key.
        let plug = |number: usize| {
            let path = place.directory().to_string_lossy().into_owned();
            Plug::words([path, number.to_string()])
        };
        Ok(Plugs { sender: plug(receivers), receivers: (0..receivers).map(plug).collect() })
    }

    fn sender(&self, plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let (queue, rules) = (queue_of(&plug)?, self.rules());
        let ones =
            (0..plug.number::<i64>(1)?).map(|number| QueueSender { queue, kind: number + 1, message: Vec::new() });
        Ok(Box::new(Each::new(ones.collect(), &rules)))
    }

    fn receiver(&self, plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let kind = plug.number::<i64>(1)? + 1;
        let message = vec![0; TYPE_BYTES + queue_limits().0];
        Ok(Box::new(QueueReceiver { queue: Some(queue_of(&plug)?), kind, message }))
    }
}

fn queue_of(plug: &Plug) -> Result<Queue, SetupError> {
    Queue::open(key_of(plug.word(0)?.as_ref())?).setup("open a message queue")
}

#[derive(Debug)]
struct QueueSender {
    queue: Queue,
    kind: i64,
    /// Type, flag, payload.
    message: Vec<u8>,
}

impl QueueSender {
    fn put(&mut self, flag: u8, record: &[u8], patience: Patience) -> Result<(), SendError> {
        self.message.clear();
        self.message.resize(TYPE_BYTES, 0);
        self.message.push(flag);
        self.message.extend_from_slice(record);
        let mut naps = Naps::new(patience);
        loop {
            let waits = patience == Patience::Forever;
            match restarted(|| self.queue.send(self.kind, &mut self.message, waits)) {
                Ok(()) => return Ok(()),
                // It cannot wait for a time: it looks again and again.
                Err(Errno::EAGAIN) => {
                    if !naps.nap() {
                        return Err(patience.full());
                    }
                }
                Err(Errno::EIDRM | Errno::EINVAL) => return Err(SendError::PeerGone),
                Err(errno) => return Err(errno).sending("send a message"),
            }
        }
    }
}

impl One for QueueSender {
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        self.put(RECORD, record, patience)
    }

    fn close_one(&mut self) {
        let _ = self.put(END, &[], Patience::of(CLOSE));
    }
}

#[derive(Debug)]
struct QueueReceiver {
    queue: Option<Queue>,
    kind: i64,
    message: Vec<u8>,
}

impl Receiver for QueueReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let queue = self.queue.ok_or(ReceiveError::Closed)?;
        let mut naps = Naps::new(patience);
        let bytes = loop {
            match restarted(|| queue.receive(self.kind, &mut self.message, patience == Patience::Forever)) {
                Ok(bytes) => break bytes,
                Err(Errno::ENOMSG) => {
                    if !naps.nap() {
                        return Err(patience.empty());
                    }
                }
                // Removed.
                Err(Errno::EIDRM | Errno::EINVAL) => return Err(ReceiveError::Closed),
                Err(errno) => return Err(errno).receiving("receive a message"),
            }
        };
        let message = self.message.get(TYPE_BYTES..TYPE_BYTES + bytes).unwrap_or_default();
        match message.split_first() {
            Some((&RECORD, record)) => {
                let (len, room) = (record.len(), buffer.len());
                buffer.get_mut(..len).ok_or(ReceiveError::TooLong { len, room })?.copy_from_slice(record);
                Ok(Received::whole(len))
            }
            Some((&END, _)) => {
                self.queue = None;
                Err(ReceiveError::Closed)
            }
            _ => Err(ReceiveError::Damaged { what: "a message that is neither a record nor the end" }),
        }
    }

    fn close(&mut self) {
        self.queue = None;
    }
}
