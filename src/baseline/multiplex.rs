//! One loop for many receivers: `epoll`, `poll` or `select` says which of them have something.
//!
//! | | knows the descriptors | cost of a wait | limit |
//! |---|---|---|---|
//! | `epoll` | the kernel, once | what is ready | memory |
//! | `poll` | passed each time | all of them | `RLIMIT_NOFILE` |
//! | `select` | passed each time, as bits | the highest number | numbers below 1024 |
//!
//! A receiver without a descriptor is put behind a [`Bridge`](super::Bridge) first.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::select::{FdSet, select};
use nix::sys::time::TimeVal;

use super::error::During;
use super::{Patience, ReceiveError, Received, Receiver, SetupError, wait};

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// `epoll`, level-triggered.
    Epoll,
    /// `poll`.
    Poll,
    /// `select`.
    Select,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// A record, at the front of the buffer.
    Record(Received),
    /// That receiver is at its end, and left out from now on.
    End(ReceiveError),
}

/// Many receivers, served in turn.
#[derive(Debug)]
pub struct Multiplexer {
    receivers: Vec<Option<Box<dyn Receiver>>>,
    with: With,
    epoll: Option<Epoll>,
    /// Those that may have more, each once.
    ready: VecDeque<usize>,
}

impl Multiplexer {
    /// Without receivers yet.
    ///
    /// # Errors
    /// The system has no `epoll` left.
    pub fn new(with: With) -> Result<Multiplexer, SetupError> {
        let epoll = match with {
            With::Epoll => Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).setup("make an epoll")?),
            With::Poll | With::Select => None,
        };
        Ok(Multiplexer { receivers: Vec::new(), with, epoll, ready: VecDeque::new() })
    }

    /// Adds a receiver; answers its number, from 0 on.
    ///
    /// # Errors
    /// It has no descriptor; or one that `select` cannot take.
    pub fn add(&mut self, receiver: Box<dyn Receiver>) -> Result<usize, SetupError> {
        let unable = |reason| SetupError::Unable { transport: format!("{:?}", self.with), reason };
        let number = self.receivers.len();
        let descriptor =
            receiver.descriptor().ok_or_else(|| unable("a receiver has no descriptor; put it behind a bridge"))?;
        if self.with == With::Select && descriptor.as_raw_fd() as usize >= libc::FD_SETSIZE {
            return Err(unable("select takes no descriptor from 1024 on; use poll or epoll"));
        }
        if let Some(epoll) = &self.epoll {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, number as u64)).setup("watch a descriptor")?;
        }
        self.receivers.push(Some(receiver));
        // It may have read ahead.
        self.ready.push_back(number);
        Ok(number)
    }

    /// Receivers that are not at their end.
    #[must_use]
    pub fn count(&self) -> usize {
        self.receivers.iter().flatten().count()
    }

    /// The next record of any of them, or the end of one; whoever has something gets its turn. Waits as long as it may.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`], [`ReceiveError::Timeout`]; [`ReceiveError::Closed`]: there is no receiver any more.
    pub fn next(&mut self, buffer: &mut [u8], patience: Patience) -> Result<(usize, Event), ReceiveError> {
        loop {
            while let Some(number) = self.ready.pop_front() {
                let Some(receiver) = self.receivers.get_mut(number).and_then(Option::as_mut) else { continue };
                match receiver.try_receive(buffer) {
                    Ok(received) => {
                        self.ready.push_back(number);
                        return Ok((number, Event::Record(received)));
                    }
                    Err(ReceiveError::Empty) => {}
                    Err(error @ ReceiveError::TooLong { .. }) => {
                        self.ready.push_back(number);
                        return Err(error);
                    }
                    Err(error) => {
                        self.leave_out(number);
                        return Ok((number, Event::End(error)));
                    }
                }
            }
            if self.count() == 0 {
                return Err(ReceiveError::Closed);
            }
            if patience.is_over() && patience != Patience::Not {
                return Err(ReceiveError::Timeout);
            }
            self.wait(patience).receiving("wait for descriptors")?;
            if self.ready.is_empty() && patience.is_over() {
                return Err(patience.empty());
            }
        }
    }

    fn leave_out(&mut self, number: usize) {
        let Some(receiver) = self.receivers.get_mut(number).and_then(Option::take) else { return };
        if let (Some(epoll), Some(descriptor)) = (&self.epoll, receiver.descriptor()) {
            let _ = epoll.delete(descriptor);
        }
    }

    /// Waits until one of them is ready, at most so long; may find none.
    fn wait(&mut self, patience: Patience) -> Result<(), Errno> {
        match (&self.epoll, self.with) {
            (Some(epoll), _) => {
                let timeout = patience.left().map(|left| left.as_nanos().div_ceil(1_000_000).min(60_000));
                let timeout =
                    timeout.map_or(Ok(EpollTimeout::NONE), EpollTimeout::try_from).unwrap_or(EpollTimeout::MAX);
                let mut events = [EpollEvent::empty(); 64];
                match epoll.wait(&mut events, timeout) {
                    Err(Errno::EINTR) => {}
                    count => self.ready.extend(events[..count?].iter().map(|event| event.data() as usize)),
                }
            }
            (None, With::Select) => self.select(patience)?,
            (None, _) => self.poll(patience)?,
        }
        Ok(())
    }

    fn poll(&mut self, patience: Patience) -> Result<(), Errno> {
        let mut numbers = Vec::new();
        let mut descriptors = Vec::new();
        for (number, receiver) in self.receivers.iter().enumerate() {
            if let Some(descriptor) = receiver.as_ref().and_then(|receiver| receiver.descriptor()) {
                numbers.push(number);
                descriptors.push(PollFd::new(descriptor, PollFlags::POLLIN));
            }
        }
        wait::any_ready(&mut descriptors, patience)?;
        let is_ready = |descriptor: &PollFd<'_>| descriptor.any().unwrap_or(true);
        let ready = numbers.iter().zip(&descriptors).filter(|(_, descriptor)| is_ready(descriptor));
        self.ready.extend(ready.map(|(number, _)| *number));
        Ok(())
    }

    fn select(&mut self, patience: Patience) -> Result<(), Errno> {
        let mut set = FdSet::new();
        let descriptor = |receiver: &Option<Box<dyn Receiver>>| Some(receiver.as_ref()?.descriptor()?.as_raw_fd());
        for receiver in self.receivers.iter().flatten() {
            if let Some(descriptor) = receiver.descriptor() {
                set.insert(descriptor);
            }
        }
        let mut timeout = patience.left().map(|left| {
            let micros = left.as_nanos().div_ceil(1000).min(60_000_000) as i64;
            TimeVal::new(micros / 1_000_000, micros % 1_000_000)
        });
        match select(None, &mut set, None, None, timeout.as_mut()) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            outcome => outcome?,
        };
        let ready: Vec<i32> = set.fds(None).map(|descriptor| descriptor.as_raw_fd()).collect();
        let numbers = self.receivers.iter().enumerate();
        let ready = numbers.filter(|(_, receiver)| descriptor(receiver).is_some_and(|it| ready.contains(&it)));
        let ready: Vec<usize> = ready.map(|(number, _)| number).collect();
        self.ready.extend(ready);
        Ok(())
    }
}
