//! Calls of the readers of `typed`: each answer is the next value, or the only reason why not.

use std::time::Duration;

use bytemuck::{CheckedBitPattern, bytes_of};
use shmcast::{
    OpenError, Options, PayloadSchema, RecvTimeoutError, Schema, Start, TryRecvError, TypedReader, TypedRecord,
};

use super::script::{From, Receive};
use super::types::{Sample, Written};
use super::{Attached, Model, forever};

/// What the next record must be.
enum Next<'a> {
    Nothing,
    Value(&'a [u8]),
    Invalid { sequence: u64, len: usize },
}

impl<W: Written, R: Sample> Model<W, R> {
    pub(super) fn join(&mut self, lossy: bool, start: &From) {
        let (start, wanted) = match *start {
            From::Oldest => (Start::Oldest, None),
            From::Newest => (Start::Newest, Some(self.published())),
            From::Back { records } => {
                let sequence = self.published().saturating_sub(u64::from(records));
                (Start::Sequence(sequence), Some(sequence))
            }
        };
        let options = Options::new().lossy(lossy).start(start).typed::<R>();
        match options.join(&self.subscriber) {
            Err(OpenError::SequenceGone { wanted: gone, oldest }) => {
                assert!(Some(gone) == wanted && gone < oldest && oldest <= self.published());
                // Not before the ring was once around.
                let end = self.writer.as_ref().map_or(u64::MAX, |writer| writer.as_bytes().position());
                assert!(end.saturating_add(self.reach()) > self.capacity);
            }
            answer => self.joined(answer, !lossy, |sequence, _, _| wanted.is_none_or(|wanted| sequence == wanted)),
        }
    }

    /// How far the writer looks ahead of what it has published, at most.
    fn reach(&self) -> u64 {
        2 * self.record_size() + 8 + self.block
    }

    pub(super) fn joined(
        &mut self,
        answer: Result<TypedReader<R>, OpenError>,
        lossless: bool,
        right: impl FnOnce(u64, u64, &Self) -> bool,
    ) {
        let (used, published) = (self.used(), self.published());
        match answer {
            Ok(reader) => {
                assert!(!lossless || used < self.slots, "a lossless reader without a slot");
                let next = reader.sequence();
                assert!(next <= published && right(next, published, self), "begins at {next} of {published}");
                self.readers.push(Attached { reader, lossless, counted: used < self.slots, next, told: false });
            }
            Err(OpenError::NoFreeSlot { slots }) => assert!(lossless && used == slots && slots == self.slots),
            Err(error) => panic!("{error}"),
        }
    }

    /// A reader of another type is refused, and both types are named.
    pub(super) fn join_wrong<O: Schema + CheckedBitPattern>(&self, lossy: bool) {
        let expected = PayloadSchema::of::<O>();
        let same = expected == PayloadSchema::of::<R>();
        let answer = Options::new().lossy(lossy).typed::<O>().join(&self.subscriber);
        self.refused(answer.err(), &expected, same);
    }

    pub(super) fn join_raw(&self, lossy: bool) {
        let raw = PayloadSchema { text: "".into(), id: 0 };
        self.refused(Options::new().lossy(lossy).join(&self.subscriber).err(), &raw, false);
    }

    fn refused(&self, answer: Option<OpenError>, wanted: &PayloadSchema, same: bool) {
        match answer {
            Some(OpenError::WrongType { expected, found, .. }) => {
                assert!(!same && expected == *wanted && found == PayloadSchema::of::<R>(), "{found}");
            }
            None | Some(OpenError::NoFreeSlot { .. }) => assert!(same, "values of another type"),
            Some(error) => panic!("{error}"),
        }
    }

    /// A tool that shows any ring sees the bytes that there are.
    pub(super) fn read_untyped(&self, seen: u8) {
        let options = Options::new().lossy(true).untyped(true);
        let mut reader = options.join(&self.subscriber).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reader.payload_schema(), PayloadSchema::of::<R>());
        for _ in 0..seen {
            match reader.try_recv() {
                Ok(record) => assert_eq!(record.payload, self.records[record.sequence as usize].bytes),
                Err(error) => {
                    let end = if self.closed { TryRecvError::Closed } else { TryRecvError::Empty };
                    assert_eq!((error, reader.sequence()), (end, self.published()));
                    break;
                }
            }
        }
    }

    fn next(&self, index: usize) -> Next<'_> {
        let sequence = self.readers[index].next;
        match self.records.get(sequence as usize) {
            None => Next::Nothing,
            Some(record) if record.bytes.len() == size_of::<R>() && R::is_value(&record.bytes) => {
                Next::Value(&record.bytes)
            }
            Some(record) => Next::Invalid { sequence, len: record.bytes.len() },
        }
    }

    pub(super) fn drain(&mut self, index: usize) {
        while self.readers[index].next < self.published() {
            self.receive(index, &Receive::Try);
        }
        self.receive(index, &Receive::Try);
    }

    fn got(&mut self, index: usize, sequence: Option<u64>, value: &R) {
        match self.next(index) {
            Next::Value(bytes) => assert!(bytes_of(value) == bytes, "{value:?} is not what was published: {bytes:x?}"),
            Next::Invalid { sequence, len } => panic!("{value:?} of record {sequence}, of {len} bytes: it is no value"),
            Next::Nothing => panic!("{value:?} was never published"),
        }
        let at = &mut self.readers[index];
        assert!(sequence.is_none_or(|sequence| sequence == at.next), "a gap, or a repetition");
        (at.next, at.told) = (at.next + 1, false);
    }

    fn stopped(&mut self, index: usize, error: TryRecvError) {
        let (published, capacity, reach) = (self.published(), self.capacity, self.reach());
        let end = self.writer.as_ref().map(|writer| writer.as_bytes().position());
        match (error, self.next(index)) {
            (TryRecvError::Empty, Next::Nothing) => assert!(!self.closed),
            (TryRecvError::Closed, Next::Nothing) => assert!(self.closed),
            (TryRecvError::Invalid { sequence, len }, Next::Invalid { sequence: number, len: found }) => {
                assert_eq!((sequence, len), (number, found));
                let at = &mut self.readers[index];
                (at.next, at.told) = (at.next + 1, false);
            }
            (TryRecvError::Lagged(lost), Next::Value(_) | Next::Invalid { .. }) => {
                let position = self.records[self.readers[index].next as usize].position;
                let at = &mut self.readers[index];
                assert!(!at.lossless && !at.told && lost > 0 && at.next + lost <= published, "a loss of {lost}");
                assert!(end.is_none_or(|end| end + reach > position + capacity), "lost, but nothing was overwritten");
                (at.next, at.told) = (at.next + lost, true);
            }
            (error, _) => panic!("{error}"),
        }
    }

    fn answered(&mut self, index: usize, answer: Result<TypedRecord<R>, TryRecvError>) {
        match answer {
            Ok(TypedRecord { sequence, value }) => self.got(index, Some(sequence), &value),
            Err(error) => self.stopped(index, error),
        }
    }

    pub(super) fn receive(&mut self, index: usize, how: &Receive) {
        let (published, closed) = (self.published(), self.closed);
        let at = &mut self.readers[index];
        let ready = at.next < published || closed;
        match *how {
            Receive::Wait if ready => {
                let answer = at.reader.recv().map_err(forever);
                self.answered(index, answer);
            }
            Receive::Try => {
                let answer = at.reader.try_recv();
                self.answered(index, answer);
            }
            Receive::Timeout | Receive::Wait => {
                let answer = at.reader.recv_timeout(Duration::ZERO).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Lagged(lost) => TryRecvError::Lagged(lost),
                    RecvTimeoutError::Closed => TryRecvError::Closed,
                    RecvTimeoutError::Invalid { sequence, len } => TryRecvError::Invalid { sequence, len },
                    error => panic!("{error}"),
                });
                self.answered(index, answer);
            }
            Receive::Into { wait } => {
                if let Some(answer) = R::receive_into(&mut at.reader, wait && ready) {
                    self.answered(index, answer.map(|(sequence, value)| TypedRecord { sequence, value }));
                }
            }
            Receive::Borrowed { wait } => {
                let answer = if wait && ready {
                    at.reader.recv_ref().map(|it| (it.sequence(), *it)).map_err(forever)
                } else {
                    at.reader.try_recv_ref().map(|it| (it.sequence(), *it))
                };
                if !at.reader.can_borrow() {
                    assert_eq!(answer.err(), Some(TryRecvError::NotBorrowable));
                    return;
                }
                self.answered(index, answer.map(|(sequence, value)| TypedRecord { sequence, value }));
            }
            Receive::Batch { most, wait } => self.receive_batch(index, usize::from(most), wait && ready),
            Receive::TryIter { most } => {
                let items: Vec<_> = at.reader.try_iter().take(usize::from(most)).collect();
                self.iterated(index, items, usize::from(most));
            }
            Receive::Iter { most } => {
                // An item at a time, so that it never waits, unless the end is there.
                let most = if closed { usize::from(most) } else { usize::from(most > 0 && ready) };
                let items: Vec<_> = at.reader.iter().take(most).map(|item| item.map_err(forever)).collect();
                self.iterated(index, items, most);
            }
        }
    }

    fn receive_batch(&mut self, index: usize, most: usize, wait: bool) {
        let reader = &mut self.readers[index].reader;
        let mut values = Vec::new();
        let answer = if wait {
            reader.recv_batch(&mut values, most).map_err(forever)
        } else {
            reader.try_recv_batch(&mut values, most)
        };
        match answer {
            Ok(count) => {
                assert!(count == values.len() && count <= most && (count > 0 || most == 0));
                for value in &values {
                    self.got(index, None, value);
                }
                // It ends only where it may: what is not lost before the first is not lost while the writer rests.
                assert!(count == most || !matches!(self.next(index), Next::Value(_)), "ended after {count} of {most}");
            }
            Err(error) => {
                assert!(values.is_empty());
                self.stopped(index, error);
            }
        }
    }

    fn iterated(&mut self, index: usize, items: Vec<Result<TypedRecord<R>, TryRecvError>>, most: usize) {
        let count = items.len();
        for item in items {
            self.answered(index, item);
        }
        assert!(count == most || matches!(self.next(index), Next::Nothing), "ended after {count} items");
    }
}
