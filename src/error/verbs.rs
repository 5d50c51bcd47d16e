//! Why a publish or a receive did not: one enum per kind of call.

use crate::ring::Stop;

// ---- publish ----

/// Why [`Writer::try_publish`](crate::Writer::try_publish) and its like published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryPublishError {
    /// A lossless reader holds the writer back. Try again, or use a call that waits.
    #[error("the ring is full: a lossless reader has not read far enough; try again later")]
    Full,
    /// The payload can never fit. Make the ring larger, or split the payload.
    #[error("a payload of {len} bytes is too large: this ring takes at most {max}; create it with a larger capacity")]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// The largest payload of this ring in bytes.
        max: usize,
    },
    /// This writer has closed the ring.
    #[error("the ring is closed: create a new one to publish more")]
    Closed,
    /// Another writer has taken the ring over. Final: this one is done.
    #[error("another writer has taken this ring over: stop publishing here")]
    Fenced,
    /// The ring's count of its writers is what no successor leaves there. Final: create the ring again.
    #[error("the ring is damaged: it counts {found:#x} take-overs, not {expected:#x}; create it again")]
    Corrupt {
        /// This writer's own count.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// All readers have left, or died: only with [`need_readers`](crate::Options::need_readers). Try again when another has come.
    #[error("all readers have left: stop publishing, or wait for other readers")]
    NoReaders,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// 2^63 bytes were published. Create a new ring.
    #[error("the ring has reached its last position: create a new one to publish more")]
    Exhausted,
}

/// Why [`Writer::publish`](crate::Writer::publish) and its like published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The payload can never fit. Make the ring larger, or split the payload.
    #[error("a payload of {len} bytes is too large: this ring takes at most {max}; create it with a larger capacity")]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// The largest payload of this ring in bytes.
        max: usize,
    },
    /// This writer has closed the ring.
    #[error("the ring is closed: create a new one to publish more")]
    Closed,
    /// Another writer has taken the ring over. Final: this one is done.
    #[error("another writer has taken this ring over: stop publishing here")]
    Fenced,
    /// The ring's count of its writers is what no successor leaves there. Final: create the ring again.
    #[error("the ring is damaged: it counts {found:#x} take-overs, not {expected:#x}; create it again")]
    Corrupt {
        /// This writer's own count.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// All readers have left, or died: only with [`need_readers`](crate::Options::need_readers). Try again when another has come.
    #[error("all readers have left: stop publishing, or wait for other readers")]
    NoReaders,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// 2^63 bytes were published. Create a new ring.
    #[error("the ring has reached its last position: create a new one to publish more")]
    Exhausted,
}

/// Why [`Writer::publish_timeout`](crate::Writer::publish_timeout) and its like published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishTimeoutError {
    /// A lossless reader held the writer back for all that time. Try again.
    #[error("timed out: a lossless reader has not read far enough; try again later")]
    Timeout,
    /// The payload can never fit. Make the ring larger, or split the payload.
    #[error("a payload of {len} bytes is too large: this ring takes at most {max}; create it with a larger capacity")]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// The largest payload of this ring in bytes.
        max: usize,
    },
    /// This writer has closed the ring.
    #[error("the ring is closed: create a new one to publish more")]
    Closed,
    /// Another writer has taken the ring over. Final: this one is done.
    #[error("another writer has taken this ring over: stop publishing here")]
    Fenced,
    /// The ring's count of its writers is what no successor leaves there. Final: create the ring again.
    #[error("the ring is damaged: it counts {found:#x} take-overs, not {expected:#x}; create it again")]
    Corrupt {
        /// This writer's own count.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// All readers have left, or died: only with [`need_readers`](crate::Options::need_readers). Try again when another has come.
    #[error("all readers have left: stop publishing, or wait for other readers")]
    NoReaders,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// 2^63 bytes were published. Create a new ring.
    #[error("the ring has reached its last position: create a new one to publish more")]
    Exhausted,
}

impl From<TryPublishError> for PublishTimeoutError {
    fn from(error: TryPublishError) -> Self {
        match error {
            TryPublishError::Full => PublishTimeoutError::Timeout,
            TryPublishError::TooLarge { len, max } => PublishTimeoutError::TooLarge { len, max },
            TryPublishError::Closed => PublishTimeoutError::Closed,
            TryPublishError::Fenced => PublishTimeoutError::Fenced,
            TryPublishError::Corrupt { expected, found } => PublishTimeoutError::Corrupt { expected, found },
            TryPublishError::NoReaders => PublishTimeoutError::NoReaders,
            TryPublishError::Inherited => PublishTimeoutError::Inherited,
            TryPublishError::Exhausted => PublishTimeoutError::Exhausted,
        }
    }
}

/// Too few readers came in time: [`Writer::wait_for_readers`](crate::Writer::wait_for_readers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out: {found} of {wanted} readers are there; start the others, or wait longer")]
pub struct WaitForReadersError {
    /// Readers asked for.
    pub wanted: u64,
    /// Readers there.
    pub found: u64,
}

// ---- receive ----

/// Why [`Reader::try_recv`](crate::Reader::try_recv) and its like received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing there now. Try again, or use a call that waits.
    #[error("the ring is empty: try again later")]
    Empty,
    /// This many records were overwritten before this lossy reader came to them. Go on: the next call reads behind them.
    #[error("lagged behind: {0} records were overwritten unread; receive again to go on behind them")]
    Lagged(u64),
    /// The writer has closed the ring, and everything is read.
    #[error("the ring is closed, and everything is read")]
    Closed,
    /// The writer died, and everything that it published is read. A successor may come: receive again, or open the
    /// ring with [`wait_for_successor`](crate::Options::wait_for_successor) to wait for it.
    #[error("the writer died; start its successor and receive again, or stop reading")]
    WriterDied,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// The writer went on without this lossless reader, which had stalled: so many records were overwritten unread. It is a lossy
    /// reader from now on: the next call reads behind them. [`rejoin`](crate::Reader::rejoin) makes it lossless again.
    #[error(
        "evicted: the writer went on without this reader, which lost {lost} records; receive again to go on behind them as a lossy reader, or rejoin first"
    )]
    Evicted {
        /// Records lost, exactly.
        lost: u64,
    },
    /// The buffer is too short. The record is still there: call again with a larger one.
    #[error("the record has {needed} bytes, more than the buffer; call again with a larger one")]
    TooSmall {
        /// Bytes of the record.
        needed: usize,
    },
    /// The record is no value of the typed ring's type: its writer did not keep to it. It was skipped; go on behind it.
    #[error("record {sequence}, of {len} bytes, is no value of the ring's type and was skipped; mend its writer")]
    Invalid {
        /// Its number, counted from the start of the ring.
        sequence: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// Records of this ring cannot be lent safely: see [trust](crate#trust). Copy them out.
    #[error("records of this ring cannot be borrowed safely; copy them out")]
    NotBorrowable,
    /// The segment is damaged. Final: every later call says the same. Create the ring again.
    #[error("the ring is damaged: {header:#x} at position {position} cannot begin a record; create it again")]
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

/// Why [`Reader::recv`](crate::Reader::recv) and its like received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// This many records were overwritten before this lossy reader came to them. Go on: the next call reads behind them.
    #[error("lagged behind: {0} records were overwritten unread; receive again to go on behind them")]
    Lagged(u64),
    /// The writer has closed the ring, and everything is read.
    #[error("the ring is closed, and everything is read")]
    Closed,
    /// The writer died, and everything that it published is read. A successor may come: receive again, or open the
    /// ring with [`wait_for_successor`](crate::Options::wait_for_successor) to wait for it.
    #[error("the writer died; start its successor and receive again, or stop reading")]
    WriterDied,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// The writer went on without this lossless reader, which had stalled: so many records were overwritten unread. It is a lossy
    /// reader from now on: the next call reads behind them. [`rejoin`](crate::Reader::rejoin) makes it lossless again.
    #[error(
        "evicted: the writer went on without this reader, which lost {lost} records; receive again to go on behind them as a lossy reader, or rejoin first"
    )]
    Evicted {
        /// Records lost, exactly.
        lost: u64,
    },
    /// The buffer is too short. The record is still there: call again with a larger one.
    #[error("the record has {needed} bytes, more than the buffer; call again with a larger one")]
    TooSmall {
        /// Bytes of the record.
        needed: usize,
    },
    /// The record is no value of the typed ring's type: its writer did not keep to it. It was skipped; go on behind it.
    #[error("record {sequence}, of {len} bytes, is no value of the ring's type and was skipped; mend its writer")]
    Invalid {
        /// Its number, counted from the start of the ring.
        sequence: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// Records of this ring cannot be lent safely: see [trust](crate#trust). Copy them out.
    #[error("records of this ring cannot be borrowed safely; copy them out")]
    NotBorrowable,
    /// The segment is damaged. Final: every later call says the same. Create the ring again.
    #[error("the ring is damaged: {header:#x} at position {position} cannot begin a record; create it again")]
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

/// Why [`Reader::recv_timeout`](crate::Reader::recv_timeout) and its like received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came in that time. Try again.
    #[error("timed out: nothing was published; try again")]
    Timeout,
    /// This many records were overwritten before this lossy reader came to them. Go on: the next call reads behind them.
    #[error("lagged behind: {0} records were overwritten unread; receive again to go on behind them")]
    Lagged(u64),
    /// The writer has closed the ring, and everything is read.
    #[error("the ring is closed, and everything is read")]
    Closed,
    /// The writer died, and everything that it published is read. A successor may come: receive again, or open the
    /// ring with [`wait_for_successor`](crate::Options::wait_for_successor) to wait for it.
    #[error("the writer died; start its successor and receive again, or stop reading")]
    WriterDied,
    /// This process is a forked child, and the handle its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// The writer went on without this lossless reader, which had stalled: so many records were overwritten unread. It is a lossy
    /// reader from now on: the next call reads behind them. [`rejoin`](crate::Reader::rejoin) makes it lossless again.
    #[error(
        "evicted: the writer went on without this reader, which lost {lost} records; receive again to go on behind them as a lossy reader, or rejoin first"
    )]
    Evicted {
        /// Records lost, exactly.
        lost: u64,
    },
    /// The buffer is too short. The record is still there: call again with a larger one.
    #[error("the record has {needed} bytes, more than the buffer; call again with a larger one")]
    TooSmall {
        /// Bytes of the record.
        needed: usize,
    },
    /// The record is no value of the typed ring's type: its writer did not keep to it. It was skipped; go on behind it.
    #[error("record {sequence}, of {len} bytes, is no value of the ring's type and was skipped; mend its writer")]
    Invalid {
        /// Its number, counted from the start of the ring.
        sequence: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// Records of this ring cannot be lent safely: see [trust](crate#trust). Copy them out.
    #[error("records of this ring cannot be borrowed safely; copy them out")]
    NotBorrowable,
    /// The segment is damaged. Final: every later call says the same. Create the ring again.
    #[error("the ring is damaged: {header:#x} at position {position} cannot begin a record; create it again")]
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

impl From<TryRecvError> for RecvTimeoutError {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Lagged(n) => RecvTimeoutError::Lagged(n),
            TryRecvError::Closed => RecvTimeoutError::Closed,
            TryRecvError::WriterDied => RecvTimeoutError::WriterDied,
            TryRecvError::Inherited => RecvTimeoutError::Inherited,
            TryRecvError::Evicted { lost } => RecvTimeoutError::Evicted { lost },
            TryRecvError::TooSmall { needed } => RecvTimeoutError::TooSmall { needed },
            TryRecvError::Invalid { sequence, len } => RecvTimeoutError::Invalid { sequence, len },
            TryRecvError::NotBorrowable => RecvTimeoutError::NotBorrowable,
            TryRecvError::Corrupt { position, header } => RecvTimeoutError::Corrupt { position, header },
        }
    }
}

impl From<Stop> for TryRecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Empty => TryRecvError::Empty,
            Stop::Lagged(n) => TryRecvError::Lagged(n),
            Stop::Closed => TryRecvError::Closed,
            Stop::Evicted { lost } => TryRecvError::Evicted { lost },
            Stop::Corrupt { position, header } => TryRecvError::Corrupt { position, header },
        }
    }
}

impl TryRecvError {
    /// Does an iteration over what is there end with this?
    pub(crate) fn ends(&self) -> bool {
        matches!(
            self,
            TryRecvError::Empty
                | TryRecvError::Closed
                | TryRecvError::WriterDied
                | TryRecvError::Inherited
                | TryRecvError::Corrupt { .. }
        )
    }
}

impl RecvError {
    /// Does an iteration end with this? The next receive would say the same.
    pub(crate) fn ends(&self) -> bool {
        matches!(self, RecvError::Closed | RecvError::WriterDied | RecvError::Inherited | RecvError::Corrupt { .. })
    }
}
