//! Scripts of a writer, its successors and several readers, judged by the list of all that was published.

use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use shmcast::{OpenError, Options, Reader, RecvError, Start, TryPublishError, TryRecvError, Writer};

use crate::config;
use crate::support::{Door, Random, anonymous, heap};

const MOST_READERS: usize = 5;

/// The ring, and what happens to it.
#[derive(Clone, Debug)]
struct Script {
    kind: Kind,
    capacity: u64,
    wide: bool,
    blocks: u64,
    slots: u64,
    start: u64,
    /// A lossless reader that holds the writer up is left behind at once.
    evicts: bool,
    ops: Vec<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Heap,
    Anonymous,
    File,
    Memfd,
}

/// A length, at a border.
#[derive(Clone, Copy, Debug)]
enum Len {
    Bytes(usize),
    /// So much less than the largest payload.
    Largest(usize),
    /// So much more than that.
    TooLarge(usize),
    /// What ends so many bytes before the end of the data area, header included.
    ToEnd(usize),
}

#[derive(Clone, Debug)]
enum Op {
    Publish(Len),
    /// Filled so far, cut to so much, and committed or not.
    Claim {
        len: Len,
        filled: usize,
        cut: Option<usize>,
        commit: bool,
    },
    Batch(Vec<Len>),
    Join {
        lossy: bool,
        start: From,
    },
    /// A reader, and how.
    Receive(usize, Way),
    Drain(usize),
    Rejoin(usize),
    Leave(usize),
    Close,
    /// The writer goes, and a successor takes the ring over.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Oldest,
    Middle,
    Newest,
    Back(u64),
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Owned,
    /// Into a buffer that has so much more room than the record that is next, or less.
    Into(isize),
    Borrowed,
    Batch(usize),
    Iterated(usize),
    Waited,
}

fn lens() -> impl Strategy<Value = Len> {
    prop_oneof![
        4 => prop_oneof![Just(0), Just(1), Just(7), Just(8), Just(9), Just(15), Just(16), Just(63), Just(64)].prop_map(Len::Bytes),
        3 => (0..600_usize).prop_map(Len::Bytes),
        2 => (0..10_usize).prop_map(Len::Largest),
        1 => (1..10_usize).prop_map(Len::TooLarge),
        2 => (0..20_usize).prop_map(Len::ToEnd),
    ]
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        3 => Just(Way::Owned),
        2 => (-9..9_isize).prop_map(Way::Into),
        2 => Just(Way::Borrowed),
        2 => (0..20_usize).prop_map(Way::Batch),
        1 => (0..20_usize).prop_map(Way::Iterated),
        1 => Just(Way::Waited),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let froms = prop_oneof![
        2 => Just(From::Oldest),
        1 => Just(From::Middle),
        1 => Just(From::Newest),
        1 => (0..40_u64).prop_map(From::Back),
    ];
    prop_oneof![
        8 => lens().prop_map(Op::Publish),
        4 => (lens(), 0..700_usize, proptest::option::of(0..700_usize), any::<bool>())
            .prop_map(|(len, filled, cut, commit)| Op::Claim { len, filled, cut, commit }),
        3 => vec(lens(), 0..12).prop_map(Op::Batch),
        3 => (any::<bool>(), froms).prop_map(|(lossy, start)| Op::Join { lossy, start }),
        12 => (0..MOST_READERS, ways()).prop_map(|(reader, way)| Op::Receive(reader, way)),
        2 => (0..MOST_READERS).prop_map(Op::Drain),
        1 => (0..MOST_READERS).prop_map(Op::Rejoin),
        1 => (0..MOST_READERS).prop_map(Op::Leave),
        1 => Just(Op::Reopen),
        1 => proptest::bool::weighted(0.2).prop_map(|close| if close { Op::Close } else { Op::Publish(Len::Bytes(8)) }),
    ]
}

fn scripts(kinds: &'static [Kind], length: Range<usize>) -> impl Strategy<Value = Script> {
    let starts = prop_oneof![Just(0), Just((1 << 32) - 1024), Just((1 << 62) + 64)];
    let shape = (proptest::sample::select(kinds), 12..14_u32, any::<bool>(), 1..5_u32, 0..4_u64, starts, any::<bool>());
    (shape, vec(ops(), length)).prop_map(|((kind, capacity, wide, blocks, slots, start, evicts), ops)| Script {
        kind,
        capacity: 1 << capacity,
        wide,
        blocks: 1 << blocks,
        slots,
        start,
        evicts,
        ops,
    })
}

/// Length and bytes of a record follow from its number, so that a wrong one shows.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut random = Random(sequence);
    let words = std::iter::repeat_with(|| random.next());
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

/// A reader, and its account.
struct Account {
    reader: Reader,
    /// The number of its first record.
    first: u64,
    received: u64,
    lost: u64,
    /// Rejoined, or lossless from the start, and not told of an eviction since.
    lossless: bool,
}

impl Account {
    fn next(&self) -> u64 {
        self.first + self.received + self.lost
    }
}

struct Model {
    options: Options,
    door: Door,
    /// None: closed for good.
    writer: Option<Writer>,
    closed: bool,
    published: Vec<Vec<u8>>,
    readers: Vec<Account>,
    script: Script,
}

impl Model {
    fn new(script: &Script) -> Model {
        let Script { capacity, blocks, slots, start, evicts, .. } = *script;
        let options = Options::new().capacity(capacity).blocks(blocks).reader_slots(slots).start_position(start);
        let options = options.record_alignment(if script.wide { 64 } else { 8 }).keep(true);
        let options = if evicts { options.stall_limit(Duration::ZERO) } else { options };
        let (writer, door) = match script.kind {
            Kind::Heap => heap(&options),
            Kind::Anonymous => anonymous(&options),
            Kind::File => crate::support::file(&options),
            Kind::Memfd => crate::support::memfd(&options),
        };
        let (writer, script) = (Some(writer), script.clone());
        Model { options, door, writer, closed: false, published: Vec::new(), readers: Vec::new(), script }
    }

    fn end(&self) -> u64 {
        self.published.len() as u64
    }

    fn max(&self) -> usize {
        (self.script.capacity / 2 - 8) as usize
    }

    fn len(&self, len: Len) -> usize {
        match len {
            Len::Bytes(bytes) => bytes,
            Len::Largest(less) => self.max() - less,
            Len::TooLarge(more) => self.max() + more,
            Len::ToEnd(before) => {
                let position = self.writer.as_ref().map_or(0, Writer::position);
                let room = (self.script.capacity - position % self.script.capacity) as usize;
                room.saturating_sub(8 + before).min(self.max())
            }
        }
    }

    fn step(&mut self, op: &Op) -> TestCaseResult {
        match *op {
            Op::Publish(len) => self.publish(self.len(len)),
            Op::Claim { len, filled, cut, commit } => self.claim(self.len(len), filled, cut, commit),
            Op::Batch(ref lens) => self.batch(lens),
            Op::Join { lossy, start } => self.join(lossy, start),
            Op::Reopen => self.reopen(),
            Op::Close => {
                self.writer.iter_mut().for_each(Writer::close);
                self.closed = true;
                Ok(())
            }
            Op::Receive(reader, way) => self.with(reader, |model, reader| model.receive(reader, way)),
            Op::Drain(reader) => self.with(reader, Model::drain),
            Op::Rejoin(reader) => self.with(reader, Model::rejoin),
            Op::Leave(reader) => self.with(reader, |model, reader| {
                drop(model.readers.swap_remove(reader));
                Ok(())
            }),
        }
    }

    fn with(&mut self, reader: usize, call: impl FnOnce(&mut Model, usize) -> TestCaseResult) -> TestCaseResult {
        match reader.checked_rem(self.readers.len()) {
            Some(reader) => call(self, reader),
            None => Ok(()),
        }
    }

    /// The property, between any two calls.
    fn check(&self) -> TestCaseResult {
        if let Some(writer) = &self.writer {
            prop_assert_eq!(writer.sequence(), self.end());
        }
        for account in &self.readers {
            let (reader, next) = (&account.reader, account.next());
            prop_assert_eq!(reader.sequence(), next);
            prop_assert_eq!(account.received + account.lost + reader.lag(), self.end() - account.first);
        }
        Ok(())
    }

    // ---- the writer ----

    /// Is this why nothing was published?
    fn refused(&self, len: usize, error: TryPublishError) -> TestCaseResult {
        match error {
            TryPublishError::Closed => prop_assert!(self.closed),
            TryPublishError::TooLarge { len: told, max } => {
                prop_assert!(told == len && max == self.max() && len > max && !self.closed);
            }
            TryPublishError::Full => {
                prop_assert!(
                    self.readers.iter().any(|account| account.reader.is_lossless()),
                    "nobody holds the writer"
                );
            }
            error => prop_assert!(false, "{}", error),
        }
        Ok(())
    }

    fn publish(&mut self, len: usize) -> TestCaseResult {
        let (bytes, evicts) = (payload(self.end(), len), self.script.evicts);
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let answer = if evicts {
            // Never for long: whoever holds it up is left behind.
            writer.publish(&bytes).map_err(|error| match error {
                shmcast::PublishError::TooLarge { len, max } => TryPublishError::TooLarge { len, max },
                shmcast::PublishError::Closed => TryPublishError::Closed,
                error => panic!("{error}"),
            })
        } else {
            writer.try_publish(&bytes)
        };
        match answer {
            Ok(sequence) => {
                prop_assert_eq!(sequence, self.end());
                self.published.push(bytes);
                Ok(())
            }
            Err(error) => self.refused(len, error),
        }
    }

    fn claim(&mut self, len: usize, filled: usize, cut: Option<usize>, commit: bool) -> TestCaseResult {
        let sequence = self.end();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let before = writer.sequence();
        let mut claim = match writer.try_claim(len) {
            Ok(claim) => claim,
            Err(error) => return self.refused(len, error),
        };
        let mut bytes = payload(sequence, filled.min(len));
        claim.write_all(&bytes).expect("there is room");
        // What is not written is zero.
        bytes.resize(len, 0);
        if let Some(cut) = cut {
            claim.truncate(cut);
            bytes.truncate(cut);
        }
        prop_assert_eq!(claim.len(), bytes.len());
        if commit {
            prop_assert_eq!(claim.commit(), sequence);
            self.published.push(bytes);
        } else {
            drop(claim);
            prop_assert_eq!(self.writer.as_ref().map(Writer::sequence), Some(before), "an abort publishes nothing");
        }
        Ok(())
    }

    fn batch(&mut self, lens: &[Len]) -> TestCaseResult {
        let first = self.end();
        let records: Vec<_> = (first..).zip(lens).map(|(number, &len)| payload(number, self.len(len))).collect();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let answer = writer.try_publish_batch(&records);
        let done = (writer.sequence() - first) as usize;
        let next = records.get(done).map(Vec::len);
        self.published.extend(records.into_iter().take(done));
        match (answer, next) {
            (Ok(count), None) => prop_assert_eq!(count, done),
            (Ok(count), Some(len)) => {
                prop_assert_eq!(count, done);
                return self.refused(len, TryPublishError::Full);
            }
            (Err(TryPublishError::Full), _) => prop_assert!(false, "a batch ends before what has no room"),
            (Err(error), next) => return self.refused(next.unwrap_or(0), error),
        }
        Ok(())
    }

    /// The ring lives on, with all that is in it.
    fn reopen(&mut self) -> TestCaseResult {
        if !matches!(self.script.kind, Kind::File | Kind::Memfd) {
            return Ok(());
        }
        drop(self.writer.take());
        let writer = match &self.door {
            Door::File(directory) => self.options.open_or_create_file(directory.path().join("ring")),
            Door::Descriptors([ring, registry]) => self.options.take_over_descriptors(ring.as_fd(), registry.as_fd()),
            _ => return Ok(()),
        };
        self.writer = Some(writer.map_err(|error| TestCaseError::fail(error.to_string()))?);
        self.closed = false;
        Ok(())
    }

    // ---- the readers ----

    fn join(&mut self, lossy: bool, from: From) -> TestCaseResult {
        if self.readers.len() == MOST_READERS {
            return Ok(());
        }
        let start = match from {
            From::Oldest => Start::Oldest,
            From::Middle => Start::Middle,
            From::Newest => Start::Newest,
            From::Back(records) => Start::Sequence(self.end().saturating_sub(records)),
        };
        match self.door.join(&Options::new().lossy(lossy).start(start)) {
            Ok(reader) => {
                let first = reader.sequence();
                match start {
                    Start::Newest => prop_assert_eq!(first, self.end()),
                    Start::Sequence(wanted) => prop_assert_eq!(first, wanted),
                    _ => prop_assert!(first <= self.end()),
                }
                self.readers.push(Account { reader, first, received: 0, lost: 0, lossless: !lossy });
            }
            Err(OpenError::NoFreeSlot { slots }) => prop_assert!(!lossy && slots == self.script.slots),
            Err(OpenError::SequenceGone { wanted, oldest }) => {
                prop_assert!(start == Start::Sequence(wanted) && wanted < oldest && oldest <= self.end());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        Ok(())
    }

    fn got(&mut self, reader: usize, sequence: u64, bytes: &[u8]) -> TestCaseResult {
        let account = &mut self.readers[reader];
        prop_assert_eq!(sequence, account.next(), "in order, no gap, none twice");
        prop_assert!(
            Some(bytes) == self.published.get(sequence as usize).map(Vec::as_slice),
            "record {} is torn",
            sequence
        );
        account.received += 1;
        Ok(())
    }

    fn stopped(&mut self, reader: usize, error: TryRecvError) -> TestCaseResult {
        let (end, closed, evicts) = (self.end(), self.closed, self.script.evicts);
        let account = &mut self.readers[reader];
        match error {
            TryRecvError::Lagged(lost) => {
                prop_assert!(!account.lossless && lost > 0);
                account.lost += lost;
            }
            TryRecvError::Evicted { lost } => {
                prop_assert!(account.lossless && evicts && !account.reader.is_lossless());
                account.lost += lost;
                account.lossless = false;
            }
            TryRecvError::Empty => prop_assert!(account.next() == end && !closed),
            TryRecvError::Closed => prop_assert!(account.next() == end && closed),
            TryRecvError::NotBorrowable => prop_assert!(!account.reader.can_borrow()),
            error => prop_assert!(false, "{}", error),
        }
        prop_assert!(account.next() <= end, "told of more than there is");
        Ok(())
    }

    fn receive(&mut self, reader: usize, way: Way) -> TestCaseResult {
        let (end, closed) = (self.end(), self.closed);
        let account = &mut self.readers[reader];
        let handle = &mut account.reader;
        match way {
            Way::Owned => match handle.try_recv() {
                Ok(record) => self.got(reader, record.sequence, &record.payload),
                Err(error) => self.stopped(reader, error),
            },
            Way::Waited if handle.sequence() == end && !closed => Ok(()),
            Way::Waited => match handle.recv() {
                Ok(record) => self.got(reader, record.sequence, &record.payload),
                Err(RecvError::Lagged(lost)) => self.stopped(reader, TryRecvError::Lagged(lost)),
                Err(RecvError::Evicted { lost }) => self.stopped(reader, TryRecvError::Evicted { lost }),
                Err(RecvError::Closed) => self.stopped(reader, TryRecvError::Closed),
                Err(error) => Err(TestCaseError::fail(error.to_string())),
            },
            Way::Into(more) => {
                let next = self.published.get(handle.sequence() as usize).map_or(0, Vec::len);
                let mut buffer = vec![0xA5; next.saturating_add_signed(more)];
                match handle.try_recv_into(&mut buffer) {
                    Ok(received) => self.got(reader, received.sequence, &buffer[..received.len]),
                    Err(TryRecvError::TooSmall { needed }) => {
                        let at = handle.sequence() as usize;
                        prop_assert!(needed > buffer.len() && Some(needed) == self.published.get(at).map(Vec::len));
                        Ok(())
                    }
                    Err(error) => self.stopped(reader, error),
                }
            }
            Way::Borrowed => match handle.try_recv_ref().map(|record| (record.sequence(), record.to_vec())) {
                Ok((sequence, bytes)) => self.got(reader, sequence, &bytes),
                Err(error) => self.stopped(reader, error),
            },
            Way::Batch(most) => {
                let mut records = Vec::new();
                match handle.try_recv_batch(&mut records, most) {
                    Ok(count) => {
                        prop_assert!(count == records.len() && count <= most && (count > 0 || most == 0));
                        records.iter().try_for_each(|record| self.got(reader, record.sequence, &record.payload))
                    }
                    Err(error) => self.stopped(reader, error),
                }
            }
            Way::Iterated(most) => {
                let items: Vec<_> = handle.try_iter().take(most).collect();
                let ended = items.len() < most;
                for item in items {
                    match item {
                        Ok(record) => self.got(reader, record.sequence, &record.payload)?,
                        Err(error) => self.stopped(reader, error)?,
                    }
                }
                prop_assert!(!ended || self.readers[reader].next() == end);
                Ok(())
            }
        }
    }

    fn drain(&mut self, reader: usize) -> TestCaseResult {
        // Each receive is a record or a loss; one more finds the end.
        for _ in 0..2 * self.published.len() + 2 {
            if self.readers[reader].next() == self.end() {
                break;
            }
            self.receive(reader, Way::Owned)?;
        }
        prop_assert_eq!(self.readers[reader].next(), self.end(), "it comes to the end");
        self.receive(reader, Way::Owned)
    }

    fn rejoin(&mut self, reader: usize) -> TestCaseResult {
        let account = &mut self.readers[reader];
        match account.reader.rejoin() {
            Ok(lost) => {
                prop_assert!(account.reader.is_lossless());
                account.lost += lost;
                account.lossless = true;
            }
            Err(OpenError::NoFreeSlot { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
        Ok(())
    }
}

fn holds(script: &Script) -> TestCaseResult {
    let mut model = Model::new(script);
    for op in &script.ops {
        model.step(op)?;
        model.check()?;
    }
    model.step(&Op::Close)?;
    for reader in 0..model.readers.len() {
        model.drain(reader)?;
        let account = &model.readers[reader];
        prop_assert_eq!(account.received + account.lost, model.end() - account.first, "received + lost = published");
    }
    model.check()
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn received_and_lost_and_left_are_what_was_published(script in scripts(&[Kind::Heap, Kind::Anonymous], 1..120)) {
        holds(&script)?;
    }

    #[test]
    fn successors_and_their_readers_too(script in scripts(&[Kind::File, Kind::Memfd], 1..60)) {
        holds(&script)?;
    }
}
