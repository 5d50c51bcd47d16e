//! What a contender must be able to do.

use super::session::Session;

/// Makes a channel of records of `W` words from one writer to one or two lossless readers.
///
/// Every call on it is inlined into the measuring loop, so that buffers kept in a writer or reader are as good as
/// locals.
pub(crate) trait Carrier {
    /// The writing end.
    type Writer<const W: usize>;
    /// The reading end.
    type Reader<const W: usize>;

    /// Creates the channel `what` of this session for `readers` readers.
    fn writer<const W: usize>(session: &Session, what: &'static str, readers: usize) -> Self::Writer<W>;

    /// Joins it, before anything is sent; `others` have joined before, in the same thread.
    fn reader<const W: usize>(session: &Session, what: &'static str, others: &[Self::Reader<W>]) -> Self::Reader<W>;

    /// All readers have joined. Most writers find out for themselves.
    fn joined<const W: usize>(_writer: &mut Self::Writer<W>, _readers: usize) {}
}

/// Calls that carry one record.
pub(crate) trait Singles: Carrier {
    /// Fills and sends one record, in one call; waits for room.
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64);

    /// Receives one record, in one call; waits for it. Answers the sum of its words.
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64;
}

/// Calls that carry many records at once.
pub(crate) trait Batches: Carrier {
    /// Fills and sends `count` records, the first of them `first`.
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, count: usize);

    /// Receives what is there, waits for one at least. Answers how many, and the sum of their words.
    /// `most` is the batch agreed on: a rival whose call takes all there is may return more.
    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, most: usize) -> (usize, u64);
}
