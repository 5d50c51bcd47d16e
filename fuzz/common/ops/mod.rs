//! Calls of the public API on a heap ring, each compared with a model that knows all that was ever published.
//!
//! In one thread every answer is known beforehand. What the design leaves to the implementation stays open: when exactly
//! a lossless reader gives room back (it may keep an eighth of the ring), how far ahead the writer announces, and which
//! boundary counts as the oldest. For these the model has bounds on both sides.

mod readers;
pub(crate) mod script;
mod writer;

use std::time::Duration;

use shmcast::layout::{MAX_POSITION, RECORD_HEADER_BYTES};
use shmcast::{OpenError, Options, Reader, Subscriber, WaitForReadersError, Writer};

pub(crate) use script::Script;
use script::{Len, Op, Publish, Receive, Shape, StartAt};

/// More readers than slots, in most shapes.
const MOST_READERS: usize = 7;
const MOST_OPS: usize = 400;

/// A record as it was published.
struct Published {
    /// Where the record before it ended: pads may stand between.
    from: u64,
    position: u64,
    payload: Vec<u8>,
}

/// A reader and what it must get.
struct Attached {
    reader: Reader,
    lossless: bool,
    counted: bool,
    /// Sequence number of its next record.
    next: u64,
    /// Its position when last seen.
    seen: u64,
    /// Its cursor is at least here.
    cursor: u64,
    /// It was told of a loss, and the writer has rested since.
    told: bool,
}

struct Model {
    writer: Option<Writer>,
    subscriber: Subscriber,
    capacity: u64,
    alignment: u64,
    block: u64,
    slots: u64,
    start: u64,
    position: u64,
    records: Vec<Published>,
    /// Where the last record ended.
    end: u64,
    /// `announced` is at most this.
    announced: u64,
    closed: bool,
    readers: Vec<Attached>,
}

/// Runs a script; panics at the first answer that is not the expected one.
pub(crate) fn run(script: &Script) {
    let mut model = Model::new(&script.shape);
    for op in script.ops.iter().take(MOST_OPS) {
        model.step(op);
        model.check();
    }
    model.finish();
}

impl Model {
    fn new(shape: &Shape) -> Model {
        let capacity = 4096 << (shape.capacity % 3);
        let alignment: u64 = if shape.wide { 64 } else { 8 };
        let blocks = 2 << (shape.blocks % 6);
        let slots = u64::from(shape.slots % 5);
        let start = match shape.start {
            StartAt::Zero => 0,
            StartAt::Below32 { back } => (1 << 32) - u64::from(back) * 8,
            StartAt::Below63 { back } => (1 << 63) - u64::from(back) * 8,
            StartAt::Anywhere { at } => at.min(MAX_POSITION),
        };
        let start = start / alignment * alignment;
        let options = Options::new().capacity(capacity).record_alignment(alignment).blocks(blocks);
        let writer = options.reader_slots(slots).start_position(start).create_heap();
        let writer = writer.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((writer.capacity(), writer.max_payload() as u64), (capacity, capacity / 2 - RECORD_HEADER_BYTES));
        Model {
            subscriber: writer.subscriber(),
            writer: Some(writer),
            capacity,
            alignment,
            block: capacity / blocks,
            slots,
            start,
            position: start,
            records: Vec::new(),
            end: start,
            announced: start,
            closed: false,
            readers: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Publish { len, how } => self.publish(len, how),
            Op::Claim { len, wait, fills, commit } => self.claim(len, *wait, fills, *commit),
            Op::Batch { count, len, shorter, wait } => self.batch(*count, len, *shorter, *wait),
            Op::Join { lossy, start, resume } => {
                if self.readers.len() < MOST_READERS {
                    self.join(*lossy, self.start_of(start), self.start_of(resume));
                }
            }
            Op::Receive { reader, how } => {
                if let Some(index) = self.reader(*reader) {
                    self.receive(index, how);
                }
            }
            Op::Drain { reader } => {
                if let Some(index) = self.reader(*reader) {
                    self.drain(index);
                }
            }
            Op::Leave { reader } => {
                if let Some(index) = self.reader(*reader) {
                    drop(self.readers.swap_remove(index));
                }
            }
            Op::Resubscribe { reader } => {
                if let Some(index) = self.reader(*reader).filter(|_| self.readers.len() < MOST_READERS) {
                    let lossless = self.readers[index].lossless;
                    let full = lossless && self.used() == self.slots;
                    match self.readers[index].reader.resubscribe() {
                        Ok(reader) => {
                            assert!(!full && reader.sequence() == self.published());
                            self.attached(reader, lossless);
                        }
                        Err(error) => assert!(full && matches!(error, OpenError::NoFreeSlot { .. }), "{error}"),
                    }
                }
            }
            Op::WaitForReaders { n } => {
                let (wanted, found) = (u64::from(n % 8), self.used());
                if let Some(writer) = &mut self.writer {
                    let expected = if found >= wanted { Ok(()) } else { Err(WaitForReadersError { wanted, found }) };
                    assert_eq!(writer.wait_for_readers(wanted, Duration::ZERO), expected);
                }
            }
            Op::Close => {
                if let Some(writer) = &mut self.writer {
                    writer.close();
                    assert!(writer.is_closed());
                    self.closed = true;
                }
            }
            Op::DropWriter => {
                self.closed = true;
                self.writer = None;
            }
        }
    }

    /// What holds between any two calls.
    fn check(&mut self) {
        let published = self.published();
        if let Some(writer) = &self.writer {
            assert_eq!((writer.sequence(), writer.position()), (published, self.position));
            assert_eq!(writer.reader_count(), self.used());
        }
        for at in &mut self.readers {
            assert_eq!(at.reader.sequence(), at.next);
            let position = at.reader.position();
            assert!(position >= at.seen, "positions only grow");
            at.seen = position;
            let (from, to) = match self.records.get(at.next as usize) {
                Some(record) => (record.from, record.position),
                None => (self.end, self.position),
            };
            assert!((from..=to).contains(&position), "at {position}, the next record from {from} to {to}");
            assert_eq!(at.reader.lag(), published - at.next, "the writer rests, so the lag is exact");
            assert_eq!((at.reader.is_lossless(), at.reader.can_borrow()), (at.lossless, at.lossless));
        }
    }

    /// Everybody reads everything; then there is room for anything; then it ends.
    fn finish(mut self) {
        self.drain_all();
        if self.writer.is_some() {
            self.publish(&Len::Largest { less: 0 }, &Publish::Try);
            self.publish(&Len::Largest { less: 0 }, &Publish::Try);
        }
        self.drain_all();
        self.step(&Op::DropWriter);
        for index in 0..self.readers.len() {
            self.receive(index, &Receive::Wait);
            self.receive(index, &Receive::Iter { most: 1 });
        }
        self.check();
    }

    fn published(&self) -> u64 {
        self.records.len() as u64
    }

    fn used(&self) -> u64 {
        self.readers.iter().filter(|at| at.counted).count() as u64
    }

    fn reader(&self, choice: u8) -> Option<usize> {
        usize::from(choice).checked_rem(self.readers.len())
    }

    fn max(&self) -> usize {
        (self.capacity / 2 - RECORD_HEADER_BYTES) as usize
    }

    fn record_size(&self, len: usize) -> u64 {
        (RECORD_HEADER_BYTES + len as u64).next_multiple_of(self.alignment)
    }

    fn room_to_end(&self) -> u64 {
        self.capacity - self.position % self.capacity
    }

    fn len(&self, len: &Len) -> usize {
        let max = self.max();
        match *len {
            Len::Small { len } => usize::from(len),
            Len::Any { len } => usize::from(len) % (max + 1),
            Len::Largest { less } => max - usize::from(less),
            Len::ToEnd { less } => (self.room_to_end() as usize).saturating_sub(usize::from(less % 96)).min(max),
            Len::TooLarge { more } => max + 1 + usize::from(more),
            Len::Huge { less } => usize::MAX - usize::from(less),
        }
    }

    /// The length of a payload that must exist.
    fn real_len(&self, len: &Len) -> usize {
        self.len(len).min(self.max() + 300)
    }
}
