//! Waiting for a descriptor, and napping where nothing wakes.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Patience;

/// The longest nap.
const LONGEST: Duration = Duration::from_millis(1);

/// Waits until a descriptor is ready for `events`, or at its end (hung up, in error). False if that took too long.
pub(super) fn ready(descriptor: impl AsFd, events: PollFlags, patience: Patience) -> Result<bool, Errno> {
    any_ready(&mut [PollFd::new(descriptor.as_fd(), events)], patience)
}

/// As `ready`, for any of several.
pub(super) fn any_ready(descriptors: &mut [PollFd<'_>], patience: Patience) -> Result<bool, Errno> {
    loop {
        // Rounded up: a timeout of 0 would spin at the end.
        let timeout = match patience.left() {
            None => PollTimeout::NONE,
            Some(left) => {
                let millis = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(millis.min(60_000)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(descriptors, timeout) {
            Ok(0) if patience.is_over() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

/// Looks again and again, with longer and longer naps: for what no kernel object wakes.
pub(super) struct Naps {
    patience: Patience,
    next: Duration,
}

impl Naps {
    pub(super) fn new(patience: Patience) -> Naps {
        Naps { patience, next: Duration::from_micros(20) }
    }

    /// Sleeps for a while; false if there is no time left.
    pub(super) fn nap(&mut self) -> bool {
        let length = match self.patience.left() {
            Some(Duration::ZERO) => return false,
            Some(left) => left.min(self.next),
            None => self.next,
        };
        std::thread::sleep(length);
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}
