//! What can go wrong: one enum for each verb. Every message says what to do next.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why a link could not be made, or an end of it connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// This machine lacks what the transport needs.
    #[error("{transport} cannot be had here: {reason}; use another transport")]
    Missing {
        /// The transport.
        transport: String,
        /// What is missing.
        reason: String,
    },
    /// The transport does not reach that many receivers, or not over that border.
    #[error("{transport} cannot do that: {reason}")]
    Unable {
        /// The transport.
        transport: String,
        /// Why, and what can be done instead.
        reason: &'static str,
    },
    /// Something has the name already.
    #[error("{} exists already; use another place, or remove what is there", .path.display())]
    NameTaken {
        /// What exists.
        path: PathBuf,
    },
    /// The other end did not come in time.
    #[error("the other end did not come in time ({doing}); start it, or wait longer")]
    Timeout {
        /// What was waited for.
        doing: &'static str,
    },
    /// The text is not that of an end.
    #[error("{text:?} describes no end of a link: {reason}; pass on what `End::pass_to` answered, unchanged")]
    BadEnd {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A ring's own refusal to be created.
    #[error(transparent)]
    Create(#[from] crate::CreateError),
    /// A ring's own refusal to be opened.
    #[error(transparent)]
    Open(#[from] crate::OpenError),
    /// The system refused.
    #[error("could not {doing}: {source}; resolve that and try again")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a record was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now. Try again, or use a call that waits.
    #[error("full: a receiver has not read far enough; try again later")]
    Full,
    /// There was no room for all that time. Try again.
    #[error("timed out: a receiver has not read far enough; try again later")]
    Timeout,
    /// The record is longer than this transport carries. Split it.
    #[error("a record of {len} bytes is too long: this transport carries at most {max}; split it")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The most this transport carries.
        max: usize,
    },
    /// The record is shorter than this transport can tell from its end. Send at least one byte.
    #[error("a record of {len} bytes is too short: this transport carries at least {min}; add a byte")]
    TooShort {
        /// Bytes of the record.
        len: usize,
        /// The least this transport carries.
        min: usize,
    },
    /// This end was closed.
    #[error("this end is closed: make a new link to send more")]
    Closed,
    /// Every receiver is gone.
    #[error("every receiver is gone: stop sending here, or make a new link")]
    PeerGone,
    /// The system refused.
    #[error("could not {doing}: {source}; resolve that, or make a new link")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why no record was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing there now. Try again, or use a call that waits.
    #[error("empty: nothing was sent since; try again later")]
    Empty,
    /// Nothing came for all that time. Try again.
    #[error("timed out: nothing was sent since; try again later")]
    Timeout,
    /// The sender has closed its end (or, where the transport cannot tell, died), and everything was received.
    #[error("the sender closed its end, and everything was received: stop receiving here")]
    Closed,
    /// The sender died, and everything that it sent was received.
    #[error("the sender died without closing its end: stop receiving here, or wait for a new link")]
    SenderDied,
    /// The record did not fit, and is gone. Offer [`Rules::max_record`](super::Rules::max_record) bytes.
    #[error("a record of {len} bytes did not fit into {room}, and is gone; offer a larger buffer")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// Bytes that there was room for.
        room: usize,
    },
    /// What came is not what a sender sends.
    #[error("what came is damaged ({what}): close this end, and check who else writes here")]
    Damaged {
        /// What was wrong.
        what: &'static str,
    },
    /// The system refused.
    #[error("could not {doing}: {source}; resolve that, or make a new link")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// The errors that an `Errno` becomes, with what was being done.
pub(super) trait During<T> {
    fn setup(self, doing: &'static str) -> Result<T, SetupError>;
    fn sending(self, doing: &'static str) -> Result<T, SendError>;
    fn receiving(self, doing: &'static str) -> Result<T, ReceiveError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn setup(self, doing: &'static str) -> Result<T, SetupError> {
        self.map_err(|source| SetupError::Io { doing, source: source.into() })
    }

    fn sending(self, doing: &'static str) -> Result<T, SendError> {
        self.map_err(|source| SendError::Io { doing, source: source.into() })
    }

    fn receiving(self, doing: &'static str) -> Result<T, ReceiveError> {
        self.map_err(|source| ReceiveError::Io { doing, source: source.into() })
    }
}

/// Calls again what a signal interrupted.
pub(super) fn restarted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
