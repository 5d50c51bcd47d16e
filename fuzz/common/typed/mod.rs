//! Typed rings, each call compared with a model that knows the bytes of every record.
//!
//! What the readers' type is need not be what the records are: the writer may be a program whose type has the same schema
//! and takes any bytes (`lies`), and a peer may change what lies in a memfd. Then the model knows which records are no
//! values, by rules of its own, and each of them must be told once, by number and length, and skipped.

mod readers;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod seeds;
pub(crate) mod types;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use shmcast::layout::RECORD_HEADER_BYTES;
use shmcast::{
    CreateError, Options, PublishError, PublishTimeoutError, RecvError, Subscriber, TryPublishError, TryRecvError,
    TypedReader, TypedWriter,
};

pub(crate) use script::Script;
use script::{Op, Publish, Receive, Shape, Type};
use types::{
    AnyFlag, AnyLetter, AnyOrder, AnySide, Claimed, Largest, Odd, Order, Sample, Side, TooLarge, Wide, Written,
};

const MOST_READERS: usize = 5;
const MOST_OPS: usize = 300;
/// Byte 320 of the header: the offset of the data. See `layout.md`.
const DATA_OFFSET_AT: u64 = 320;

/// Runs a script; panics at the first answer that is not the expected one.
pub(crate) fn run(script: &Script) {
    match (&script.of, script.lies) {
        (Type::Unit, _) => run_of::<(), ()>(script),
        (Type::Flag, false) => run_of::<bool, bool>(script),
        (Type::Flag, true) => run_of::<AnyFlag, bool>(script),
        (Type::Letter, false) => run_of::<char, char>(script),
        (Type::Letter, true) => run_of::<AnyLetter, char>(script),
        (Type::Side, false) => run_of::<Side, Side>(script),
        (Type::Side, true) => run_of::<AnySide, Side>(script),
        (Type::Order, false) => run_of::<Order, Order>(script),
        (Type::Order, true) => run_of::<AnyOrder, Order>(script),
        (Type::Odd, _) => run_of::<Odd, Odd>(script),
        (Type::Wide, _) => run_of::<Wide, Wide>(script),
        (Type::Largest, _) => run_of::<Largest, Largest>(script),
        (Type::TooLarge, _) => run_of::<TooLarge, TooLarge>(script),
    }
}

fn run_of<W: Written, R: Sample>(script: &Script) {
    let Some(mut model) = Model::<W, R>::new(script) else { return };
    for op in script.ops.iter().take(MOST_OPS) {
        model.step(op);
        model.check();
    }
    model.finish();
}

/// A record as it is now.
struct Published {
    position: u64,
    bytes: Vec<u8>,
}

/// A reader, and what it must get.
struct Attached<R> {
    reader: TypedReader<R>,
    lossless: bool,
    counted: bool,
    /// The number of its next record.
    next: u64,
    /// It was told of a loss, and the writer has rested since.
    told: bool,
}

struct Model<W, R> {
    writer: Option<TypedWriter<W>>,
    subscriber: Subscriber,
    /// The ring's file, where a peer can write it, and where the data begin in it.
    file: Option<(File, u64)>,
    lies: bool,
    capacity: u64,
    alignment: u64,
    block: u64,
    slots: u64,
    records: Vec<Published>,
    closed: bool,
    readers: Vec<Attached<R>>,
}

impl<W: Written, R: Sample> Model<W, R> {
    /// None if no such ring can be, as was right.
    fn new(script: &Script) -> Option<Model<W, R>> {
        let Shape { memfd, capacity, wide, blocks, slots, late } = script.shape;
        let capacity = 4096 << (capacity % 2);
        let alignment: u64 = if wide { 64 } else { 8 };
        let (blocks, slots) = (2 << (blocks % 5), u64::from(slots % 4));
        let start = if late { (1 << 32) - 2048 } else { 0 };
        let options = Options::new().capacity(capacity).record_alignment(alignment).blocks(blocks);
        let options = options.reader_slots(slots).start_position(start).typed::<W>();
        let made = if memfd { options.create_memfd() } else { options.create_heap() };
        let fits = size_of::<W>() as u64 <= capacity / 2 - RECORD_HEADER_BYTES;
        let writer = match made {
            Ok(writer) => writer,
            Err(CreateError::Geometry(error)) => {
                assert!(!fits && error.field == "payload_size" && error.value == size_of::<W>() as u64, "{error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(fits, "a value that no record can hold");
        let file = writer.as_bytes().descriptors().map(|files| {
            // As one who has the right to write opens it.
            let path = format!("/proc/self/fd/{}", files.ring.as_raw_fd());
            let file = File::options().read(true).write(true).open(path).expect("our own");
            let mut word = [0; 8];
            file.read_exact_at(&mut word, DATA_OFFSET_AT).expect("a header");
            (file, u64::from_ne_bytes(word))
        });
        Some(Model {
            subscriber: writer.subscriber(),
            writer: Some(writer),
            file,
            lies: script.lies,
            capacity,
            alignment,
            block: capacity / blocks,
            slots,
            records: Vec::new(),
            closed: false,
            readers: Vec::new(),
        })
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Publish { seed, ref how } => self.publish(seed, how),
            Op::Batch { count, seed, wait } => self.batch(count, seed, wait),
            Op::Claim { seed, in_place, commit } => self.claim(seed, in_place, commit),
            Op::Join { lossy, ref start } => {
                if self.readers.len() < MOST_READERS {
                    self.join(lossy, start);
                }
            }
            Op::JoinWrong { other, lossy } => match other % 9 {
                0 => self.join_wrong::<()>(lossy),
                1 => self.join_wrong::<bool>(lossy),
                2 => self.join_wrong::<char>(lossy),
                3 => self.join_wrong::<Side>(lossy),
                4 => self.join_wrong::<AnyOrder>(lossy),
                5 => self.join_wrong::<Odd>(lossy),
                6 => self.join_wrong::<Wide>(lossy),
                7 => self.join_wrong::<[u8; 1]>(lossy),
                _ => self.join_raw(lossy),
            },
            Op::Untyped { seen } => self.read_untyped(seen),
            Op::Receive { reader, ref how } => {
                if let Some(index) = self.reader(reader) {
                    self.receive(index, how);
                }
            }
            Op::Drain { reader } => {
                if let Some(index) = self.reader(reader) {
                    self.drain(index);
                }
            }
            Op::Leave { reader } => {
                if let Some(index) = self.reader(reader) {
                    drop(self.readers.swap_remove(index));
                }
            }
            Op::Resubscribe { reader } => {
                if let Some(index) = self.reader(reader).filter(|_| self.readers.len() < MOST_READERS) {
                    let lossless = self.readers[index].lossless;
                    let answer = self.readers[index].reader.resubscribe();
                    self.joined(answer, lossless, |sequence, published, _| sequence == published);
                }
            }
            Op::Scribble { back, at, value } => self.scribble(back, at, value),
            Op::Resize { back, less } => self.resize(back, less),
            Op::Close => {
                if let Some(writer) = &mut self.writer {
                    writer.close();
                    assert!(writer.is_closed());
                    self.closed = true;
                }
            }
            Op::DropWriter => {
                self.writer = None;
                self.closed = true;
            }
        }
    }

    /// What holds between any two calls.
    fn check(&self) {
        let published = self.published();
        if let Some(writer) = &self.writer {
            assert_eq!((writer.sequence(), writer.reader_count()), (published, self.used()));
        }
        for at in &self.readers {
            assert_eq!((at.reader.sequence(), at.reader.lag()), (at.next, published - at.next));
            assert_eq!(at.reader.is_lossless(), at.lossless);
            assert!(at.lossless || !at.reader.can_borrow());
            assert!(self.file.is_some() || at.lossless == at.reader.can_borrow());
        }
    }

    /// Everybody reads everything; then it ends.
    fn finish(mut self) {
        for index in 0..self.readers.len() {
            self.drain(index);
        }
        self.step(&Op::DropWriter);
        for index in 0..self.readers.len() {
            self.receive(index, &Receive::Wait);
            self.receive(index, &Receive::Batch { most: 1, wait: true });
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

    fn record_size(&self) -> u64 {
        (RECORD_HEADER_BYTES + size_of::<R>() as u64).next_multiple_of(self.alignment)
    }

    // ---- the writer ----

    /// Bytes of a value of the writer's type.
    fn bytes(&self, seed: u64) -> Vec<u8> {
        if self.lies && seed.is_multiple_of(4) { crate::pattern::payload(seed, size_of::<R>()) } else { R::bytes(seed) }
    }

    fn value(bytes: &[u8]) -> W {
        bytemuck::checked::try_pod_read_unaligned(bytes).expect("made as one")
    }

    /// There is room for one more, whatever the lossless readers have given back.
    fn certain(&self) -> bool {
        let Some(writer) = &self.writer else { return true };
        let end = writer.as_bytes().position() + 2 * self.record_size() + RECORD_HEADER_BYTES;
        let kept = self.capacity / 8;
        let mut lossless = self.readers.iter().filter(|at| at.lossless);
        lossless.all(|at| end <= at.reader.as_bytes().position().saturating_sub(kept) + self.capacity)
    }

    /// One was published.
    fn committed(&mut self, bytes: Vec<u8>, end: u64) {
        self.records.push(Published { position: end - self.record_size(), bytes });
    }

    /// It goes on, perhaps over what lossy readers have not read yet, whether it publishes something or not.
    fn rests_no_more(&mut self) {
        self.readers.iter_mut().for_each(|at| at.told = false);
    }

    /// No unread record of a lossless reader lies where the writer has been.
    fn none_overwritten(&self, end: u64) {
        for at in self.readers.iter().filter(|at| at.lossless) {
            let unread = self.records.get(at.next as usize).map_or(end, |record| record.position);
            assert!(end + RECORD_HEADER_BYTES <= unread + self.capacity, "unread records were overwritten");
        }
    }

    fn claim(&mut self, seed: u64, in_place: bool, commit: bool) {
        self.rests_no_more();
        let (bytes, certain) = (self.bytes(seed), self.certain());
        let claimed = Claimed { value: Self::value(&bytes), in_place, commit };
        let Some(writer) = &mut self.writer else { return };
        let Some(answer) = W::claim(writer, claimed) else { return };
        let end = writer.as_bytes().position();
        match answer {
            Ok(Some(sequence)) => {
                assert!(!self.closed && sequence == self.published());
                self.committed(bytes, end);
                self.none_overwritten(end);
            }
            Ok(None) => assert!(!commit && !self.closed),
            Err(TryPublishError::Closed) => assert!(self.closed),
            Err(TryPublishError::Full) => assert!(!self.closed && !certain, "full, but no reader holds the writer"),
            Err(error) => panic!("{error}"),
        }
    }

    fn publish(&mut self, seed: u64, how: &Publish) {
        self.rests_no_more();
        let (bytes, certain) = (self.bytes(seed), self.certain());
        let value = Self::value(&bytes);
        let Some(writer) = &mut self.writer else { return };
        let answer = match how {
            Publish::Wait if certain || self.closed => writer.publish(&value).map_err(|error| match error {
                PublishError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            }),
            Publish::Timeout => writer.publish_timeout(&value, Duration::ZERO).map_err(|error| match error {
                PublishTimeoutError::Timeout => TryPublishError::Full,
                PublishTimeoutError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            }),
            Publish::Try | Publish::Wait => writer.try_publish(&value),
        };
        let end = writer.as_bytes().position();
        match answer {
            Ok(sequence) => {
                assert!(!self.closed && sequence == self.published());
                self.committed(bytes, end);
                self.none_overwritten(end);
            }
            Err(TryPublishError::Closed) => assert!(self.closed),
            Err(TryPublishError::Full) => assert!(!self.closed && !certain, "full, but no reader holds the writer"),
            Err(error) => panic!("{error}"),
        }
    }

    fn batch(&mut self, count: u8, seed: u64, wait: bool) {
        self.rests_no_more();
        let batch: Vec<Vec<u8>> = (0..u64::from(count % 40)).map(|nth| self.bytes(seed.wrapping_add(nth))).collect();
        let values: Vec<W> = batch.iter().map(|bytes| Self::value(bytes)).collect();
        let lossless = self.readers.iter().any(|at| at.lossless);
        let (first, capacity, record_size) = (self.published(), self.capacity, self.record_size());
        let Some(writer) = &mut self.writer else { return };
        let mut start = writer.as_bytes().position();
        let answer = if wait && !lossless {
            writer.publish_batch(&values).map_err(|error| match error {
                PublishError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            })
        } else {
            writer.try_publish_batch(&values)
        };
        let (done, end) = ((writer.sequence() - first) as usize, writer.as_bytes().position());
        match answer {
            Ok(count) => assert!(count == done && (!self.closed || values.is_empty())),
            Err(TryPublishError::Closed) => assert!(self.closed && done == 0),
            Err(error) => panic!("{error}"),
        }
        for bytes in batch.into_iter().take(done) {
            let room = capacity - start % capacity;
            start += if record_size > room { room } else { 0 } + record_size;
            self.committed(bytes, start);
        }
        // A pad may stand behind the last one.
        assert!(start == end || start + (capacity - start % capacity) == end, "from {start} to {end}");
        self.none_overwritten(start);
        assert!(done == values.len() || self.closed || !self.certain(), "there was room for more");
    }

    // ---- the peer ----

    /// A record that is whole in the ring, and where it lies in the file.
    fn within_reach(&self, back: u8) -> Option<(usize, u64)> {
        let (_, data) = self.file.as_ref()?;
        let index = self.records.len().checked_sub(1 + usize::from(back))?;
        let position = self.records[index].position;
        let end = self.writer.as_ref()?.as_bytes().position() + RECORD_HEADER_BYTES;
        (position + self.capacity >= end).then_some((index, data + position % self.capacity))
    }

    fn scribble(&mut self, back: u8, at: u16, value: u8) {
        let Some((index, offset)) = self.within_reach(back) else { return };
        let (Some((file, _)), bytes) = (&self.file, &mut self.records[index].bytes) else { return };
        let Some(at) = usize::from(at).checked_rem(bytes.len()) else { return };
        file.write_all_at(&[value], offset + RECORD_HEADER_BYTES + at as u64).expect("a memfd");
        bytes[at] = value;
    }

    fn resize(&mut self, back: u8, less: u8) {
        let Some((index, offset)) = self.within_reach(back) else { return };
        // Who stands before it may have seen its header already, which is looked at once.
        if self.readers.iter().any(|at| at.next == index as u64) {
            return;
        }
        let longest = (self.record_size() - RECORD_HEADER_BYTES) as usize;
        // In as many words as before: where the next record begins stays as it was.
        let len = longest - usize::from(less) % (self.alignment as usize).min(longest + 1);
        let (Some((file, _)), bytes) = (&self.file, &mut self.records[index].bytes) else { return };
        file.write_all_at(&(len as u64 + 1).to_ne_bytes(), offset).expect("a memfd");
        // What is behind the value is not the writer's business, so it is the peer's here.
        bytes.resize(len, 0);
        file.write_all_at(bytes, offset + RECORD_HEADER_BYTES).expect("a memfd");
    }
}

fn forever(error: RecvError) -> TryRecvError {
    match error {
        RecvError::Lagged(lost) => TryRecvError::Lagged(lost),
        RecvError::Closed => TryRecvError::Closed,
        RecvError::Invalid { sequence, len } => TryRecvError::Invalid { sequence, len },
        RecvError::NotBorrowable => TryRecvError::NotBorrowable,
        error => panic!("{error}"),
    }
}
