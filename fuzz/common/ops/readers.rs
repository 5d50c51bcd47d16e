//! Calls of the readers: each answer is the next record, or the only reason why not.

use std::time::Duration;

use shmcast::{OpenError, Options, Reader, RecvError, RecvTimeoutError, Start, TryRecvError};

use super::script::{From, Receive};
use super::{Attached, Model};

impl Model {
    pub(super) fn start_of(&self, from: &From) -> Start {
        match *from {
            From::Oldest => Start::Oldest,
            From::Middle => Start::Middle,
            From::Newest => Start::Newest,
            From::Back { records } => Start::Sequence(self.published().saturating_sub(u64::from(records))),
            From::Ahead { records } => Start::Sequence(self.published() + u64::from(records)),
            From::Sequence { sequence } => Start::Sequence(sequence),
        }
    }

    pub(super) fn join(&mut self, lossy: bool, start: Start, resume: Start) {
        let options = Options::new().lossy(lossy).resume(resume);
        let oldest = match options.clone().start(Start::Oldest).join(&self.subscriber) {
            Ok(reader) => reader.sequence(),
            Err(error) => {
                assert!(matches!(error, OpenError::NoFreeSlot { slots } if slots == self.slots), "{error}");
                assert!(!lossy && self.used() == self.slots);
                return;
            }
        };
        assert!(oldest == 0 || self.announced > self.start + self.capacity, "history was lost early");
        let published = self.published();
        match (start, options.start(start).join(&self.subscriber)) {
            (Start::Sequence(sequence), Err(OpenError::SequenceNotYet { wanted, next })) => {
                assert!(wanted == sequence && next == published && wanted > next);
            }
            (Start::Sequence(sequence), Err(OpenError::SequenceGone { wanted, oldest: named })) => {
                assert!(wanted == sequence && named == oldest && wanted < oldest);
            }
            (_, Err(error)) => panic!("{error}"),
            (_, Ok(reader)) => {
                let sequence = reader.sequence();
                assert!((oldest..=published).contains(&sequence));
                match start {
                    Start::Sequence(wanted) => assert_eq!(sequence, wanted),
                    Start::Newest => assert_eq!(sequence, published),
                    Start::Oldest => assert_eq!(sequence, oldest),
                    _ => {}
                }
                self.attached(reader, !lossy);
            }
        }
    }

    pub(super) fn attached(&mut self, reader: Reader, lossless: bool) {
        let (next, seen) = (reader.sequence(), reader.position());
        assert!(seen + self.capacity >= self.position, "joined at bytes that are overwritten");
        let cursor = if next == self.published() { seen } else { seen.saturating_sub(self.capacity / 8) };
        let counted = self.used() < self.slots;
        self.readers.push(Attached { reader, lossless, counted, next, seen, cursor, told: false });
    }

    pub(super) fn drain_all(&mut self) {
        for index in 0..self.readers.len() {
            self.drain(index);
            self.check();
        }
    }

    pub(super) fn drain(&mut self, index: usize) {
        while self.readers[index].next < self.published() {
            self.receive(index, &Receive::Owned);
        }
        // A reader that came over a pad gives that back when it finds nothing.
        self.receive(index, &Receive::Owned);
    }

    /// A record came. Is it the right one, whole?
    fn got(&mut self, index: usize, sequence: u64, payload: &[u8], released: bool) {
        let (published, capacity) = (self.published(), self.capacity);
        let at = &mut self.readers[index];
        assert_eq!(sequence, at.next, "a gap, or a repetition");
        let expected = self.records.get(at.next as usize).expect("a record that was published");
        assert!(payload == expected.payload, "record {sequence} is torn: {payload:?}, not {:?}", expected.payload);
        at.told = false;
        if released {
            at.next += 1;
            let position = at.reader.position();
            let kept = if at.next == published { 0 } else { capacity / 8 };
            at.cursor = at.cursor.max(position.saturating_sub(kept));
        }
    }

    /// None came. Is that right?
    fn stopped(&mut self, index: usize, error: TryRecvError) {
        let published = self.published();
        let at = &mut self.readers[index];
        match error {
            TryRecvError::Lagged(lost) => {
                assert!(!at.lossless && lost > 0 && !at.told, "a loss of {lost}");
                assert!(lost <= published - at.next, "told of {lost}, of {} records", published - at.next);
                assert!(self.announced > at.seen + self.capacity, "lost, but nothing was overwritten");
                at.next += lost;
                at.told = true;
            }
            TryRecvError::Empty | TryRecvError::Closed => {
                assert_eq!(at.next, published, "{error}");
                assert_eq!(error == TryRecvError::Closed, self.closed);
                at.cursor = at.reader.position();
            }
            error => panic!("{error}"),
        }
    }

    pub(super) fn receive(&mut self, index: usize, how: &Receive) {
        let published = self.published();
        let at = &mut self.readers[index];
        let ready = at.next < published || self.closed;
        let answer = match *how {
            Receive::Wait if ready => at.reader.recv().map_err(forever),
            Receive::Timeout | Receive::Wait => match at.reader.recv_timeout(Duration::ZERO) {
                Ok(record) => Ok(record),
                Err(RecvTimeoutError::Timeout) => Err(TryRecvError::Empty),
                Err(RecvTimeoutError::Lagged(lost)) => Err(TryRecvError::Lagged(lost)),
                Err(RecvTimeoutError::Closed) => Err(TryRecvError::Closed),
                Err(error) => panic!("{error}"),
            },
            Receive::Owned => at.reader.try_recv(),
            Receive::Into { room } => return self.receive_into(index, usize::from(room) % 4200),
            Receive::Borrowed { forget } => {
                if !at.lossless {
                    let answer = at.reader.try_recv_ref().map(|record| record.sequence());
                    assert_eq!(answer, Err(TryRecvError::NotBorrowable));
                    return;
                }
                return self.borrow(index, false, forget);
            }
            Receive::Unchecked { forget } => return self.borrow(index, true, forget),
            Receive::Batch { most, wait } => return self.receive_batch(index, usize::from(most), wait && ready),
            Receive::TryIter { most } => {
                let items: Vec<_> = at.reader.try_iter().take(usize::from(most)).collect();
                return self.iterated(index, items, usize::from(most));
            }
            Receive::Iter { most } => {
                // Must not wait: at most what is there, unless the end is there too.
                let there = usize::try_from(published - at.next).unwrap_or(usize::MAX);
                let most = if self.closed { usize::from(most) } else { usize::from(most).min(there) };
                // A lossy reader may get fewer than there are: an item at a time then.
                let most = if at.lossless || self.closed { most } else { most.min(1) };
                let items = at.reader.iter().take(most).map(|item| item.map_err(forever)).collect();
                return self.iterated(index, items, most);
            }
        };
        match answer {
            Ok(record) => self.got(index, record.sequence, &record.payload, true),
            Err(error) => self.stopped(index, error),
        }
    }

    fn receive_into(&mut self, index: usize, room: usize) {
        let at = &mut self.readers[index];
        let mut buffer = vec![0xA5; room];
        match at.reader.try_recv_into(&mut buffer) {
            Ok(received) => self.got(index, received.sequence, &buffer[..received.len], true),
            Err(TryRecvError::TooSmall { needed }) => {
                let expected = self.records.get(at.next as usize).expect("a record that was published");
                assert!(needed == expected.payload.len() && needed > room);
                at.told = false;
            }
            Err(error) => self.stopped(index, error),
        }
    }

    fn borrow(&mut self, index: usize, unchecked: bool, forget: bool) {
        let reader = &mut self.readers[index].reader;
        // SAFETY: the writer rests: this is the only thread.
        let answer = if unchecked { unsafe { reader.try_recv_ref_unchecked() } } else { reader.try_recv_ref() };
        let answer = answer.map(|record| {
            let copy = (record.sequence(), record.to_vec());
            if forget {
                std::mem::forget(record);
            }
            copy
        });
        match answer {
            Ok((sequence, payload)) => self.got(index, sequence, &payload, !forget),
            Err(error) => self.stopped(index, error),
        }
    }

    fn receive_batch(&mut self, index: usize, most: usize, wait: bool) {
        let pending = self.published() - self.readers[index].next;
        let reader = &mut self.readers[index].reader;
        let mut records = Vec::new();
        let answer = if wait {
            reader.recv_batch(&mut records, most).map_err(forever)
        } else {
            reader.try_recv_batch(&mut records, most)
        };
        match answer {
            Ok(count) => {
                // What was not lost before the first record is not lost while the writer rests.
                assert_eq!((count, count as u64), (records.len(), pending.min(most as u64)));
                for record in &records {
                    self.got(index, record.sequence, &record.payload, true);
                }
            }
            Err(error) => self.stopped(index, error),
        }
    }

    fn iterated(&mut self, index: usize, items: Vec<Result<shmcast::Record, TryRecvError>>, most: usize) {
        let (count, ended) = (items.len(), items.len() < most);
        for item in items {
            match item {
                Ok(record) => self.got(index, record.sequence, &record.payload, true),
                Err(error) => self.stopped(index, error),
            }
        }
        if ended {
            assert_eq!(self.readers[index].next, self.published(), "ended after {count} items");
        }
    }
}

fn forever(error: RecvError) -> TryRecvError {
    match error {
        RecvError::Lagged(lost) => TryRecvError::Lagged(lost),
        RecvError::Closed => TryRecvError::Closed,
        error => panic!("{error}"),
    }
}
