//! Fan-out by sending to each receiver in turn: what all transports do that connect two ends.

use std::fmt;
use std::os::fd::BorrowedFd;

use super::{Patience, Rules, SendError, Sender};

/// One connection of a sender.
pub(super) trait One: fmt::Debug + Send {
    /// Sends to that receiver: all of the record or nothing, or all of it sooner or later.
    fn send_one(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError>;

    /// Says that nothing more will come.
    fn close_one(&mut self);

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The sender over its connections.
#[derive(Debug)]
pub(super) struct Each<T: One> {
    /// None: that receiver is gone.
    ones: Vec<Option<T>>,
    /// The receiver that the record that is under way comes to next.
    next: usize,
    closed: bool,
    min: usize,
    max: usize,
}

impl<T: One> Each<T> {
    pub(super) fn new(ones: Vec<T>, rules: &Rules) -> Each<T> {
        let (min, max) = (rules.min_record, rules.max_record);
        Each { ones: ones.into_iter().map(Some).collect(), next: 0, closed: false, min, max }
    }
}

/// The two refusals that all senders share.
pub(super) fn check_length(len: usize, min: usize, max: usize) -> Result<(), SendError> {
    match len {
        len if len > max => Err(SendError::TooLong { len, max }),
        len if len < min => Err(SendError::TooShort { len, min }),
        _ => Ok(()),
    }
}

impl<T: One> Sender for Each<T> {
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        check_length(record.len(), self.min, self.max)?;
        while let Some(one) = self.ones.get_mut(self.next) {
            match one.as_mut().map_or(Ok(()), |one| one.send_one(record, patience)) {
                Ok(()) => {}
                Err(SendError::PeerGone) => self.ones[self.next] = None,
                Err(error) => return Err(error),
            }
            self.next += 1;
        }
        self.next = 0;
        if self.ones.iter().all(Option::is_none) { Err(SendError::PeerGone) } else { Ok(()) }
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.ones.iter_mut().flatten().for_each(One::close_one);
            self.ones.clear();
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.ones[..] {
            [Some(one)] => one.descriptor(),
            _ => None,
        }
    }
}

impl<T: One> Drop for Each<T> {
    fn drop(&mut self) {
        self.close();
    }
}
