//! `eventfd`: a count in the kernel that processes with the same descriptor add to and take from. A doorbell: records have no bytes.
//!
//! With `EFD_SEMAPHORE` each read takes one, so that none is lost. Nobody is told when the other side closes or dies.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::unistd::{read, write};

use super::each::{Each, One};
use super::error::{During, restarted};
use super::link::Plug;
use super::rules::Seen;
use super::wait::ready;
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};

/// An eventfd to each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFd;

impl Transport for EventFd {
    fn name(&self) -> String {
        "eventfd".to_owned()
    }

    fn rules(&self) -> Rules {
        Rules {
            sender_end: Seen::NOTHING,
            receiver_end: Seen::NOTHING,
            // Sooner or later: a count of 2^64 - 2.
            holds_sender: false,
            ..Rules::messages(0)
        }
    }

    fn make(&self, _: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let (mut sender, mut plugs) = (Plug::default(), Vec::new());
        for _ in 0..receivers {
            let flags = EfdFlags::EFD_SEMAPHORE | EfdFlags::EFD_CLOEXEC;
            let counter = OwnedFd::from(Counter::from_flags(flags).setup("make an eventfd")?);
            sender = sender.with([counter.try_clone().setup("copy a descriptor")?]);
            plugs.push(Plug::default().with([counter]));
        }
        Ok(Plugs { sender, receivers: plugs })
    }

    fn sender(&self, plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let ones = plug.descriptors.into_iter().map(|counter| Bell { counter }).collect();
        Ok(Box::new(Each::new(ones, &self.rules())))
    }

    fn receiver(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        Ok(Box::new(BellReceiver { counter: Some(plug.descriptor()?) }))
    }
}

#[derive(Debug)]
struct Bell {
    counter: OwnedFd,
}

impl One for Bell {
    fn send_one(&mut self, _: &[u8], patience: Patience) -> Result<(), SendError> {
        // The two processes share the one open file, so its O_NONBLOCK is left alone: who may not wait looks first.
        if patience != Patience::Forever
            && !ready(&self.counter, PollFlags::POLLOUT, patience).sending("wait for room")?
        {
            return Err(patience.full());
        }
        restarted(|| write(&self.counter, &1_u64.to_ne_bytes())).sending("add to an eventfd").map(drop)
    }

    fn close_one(&mut self) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.counter.as_fd())
    }
}

#[derive(Debug)]
struct BellReceiver {
    counter: Option<OwnedFd>,
}

impl Receiver for BellReceiver {
    fn receive_within(&mut self, _: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let counter = self.counter.as_ref().ok_or(ReceiveError::Closed)?;
        // As for the sender. This is the only one that takes from it, so what is there stays until it is read.
        if patience != Patience::Forever && !ready(counter, PollFlags::POLLIN, patience).receiving("wait for a bell")? {
            return Err(patience.empty());
        }
        let mut count = [0; 8];
        match restarted(|| read(counter, &mut count)) {
            Ok(_) => Ok(Received::whole(0)),
            Err(Errno::EAGAIN) => Err(patience.empty()),
            Err(errno) => Err(errno).receiving("take from an eventfd"),
        }
    }

    fn close(&mut self) {
        self.counter = None;
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.counter.as_ref().map(AsFd::as_fd)
    }
}
