//! What a stepped writer does, known beforehand to the last byte: parent and child make the same plan from the same words, and
//! the parent knows from it, without asking the library, where every record must stand and what is in it.

use std::fmt::Write as _;
use std::time::Duration;

use shmcast::{Options, PublishTimeoutError, TryPublishError, Writer};

use crate::image::Page;
use crate::stepper;
use crate::support::Random;

pub(crate) const CAPACITY: u64 = 4096;
/// The largest payload: half the capacity, less a header.
pub(crate) const MAX: usize = 2040;

/// One thing that a writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `open_or_create_file` of a ring that is there.
    TakeOver,
    Publish,
    /// Claim, fill in pieces, commit.
    Claim,
    /// A claim that is filled and dropped.
    Abort,
    /// A claim for more than is then committed.
    Shorten,
    /// Records that become visible together.
    Batch,
    /// A publish that finds the ring full and says so at once.
    Full,
    /// A publish that finds the ring full and sleeps for a millisecond.
    Wait,
    Close,
}

pub(crate) const BATCH: u64 = 3;

/// What listens to the writer while it is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A lossy reader that polls between any two instructions.
    Poller,
    /// As above, and the sleeping flag is set before each operation: as many wakes as can be.
    Sleeper,
    /// As the first, and a lossless reader that polls between any two instructions and holds a slot.
    Lossless,
    /// As the first, and a lossless reader that has not read anything, until the writer has waited for it.
    Stalled,
}

/// All that makes a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Length of the payloads.
    pub(crate) size: usize,
    pub(crate) alignment: u64,
    pub(crate) audience: Audience,
    /// The first stepped operation begins so many bytes before the end of the lap.
    pub(crate) room: u64,
    /// Where the list of operations begins.
    pub(crate) turn: usize,
}

/// Where a record stands, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) payload: Vec<u8>,
}

/// The whole life of a ring up to the end of the script.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) places: Vec<Place>,
    /// Records that the parent publishes beforehand.
    pub(crate) warm: usize,
    /// Those of them that a stalled reader leaves in the ring.
    pub(crate) unread: usize,
    /// Each operation with the number of records before it.
    pub(crate) operations: Vec<(Operation, usize)>,
    position: u64,
}

const TURN: [Operation; 6] =
    [Operation::Publish, Operation::Claim, Operation::Shorten, Operation::Batch, Operation::Abort, Operation::Publish];

impl Scenario {
    /// As words for a child.
    pub(crate) fn words(&self) -> String {
        let Scenario { size, alignment, audience, room, turn } = self;
        let mut words = String::new();
        write!(words, "{size} {alignment} {} {room} {turn}", *audience as u8).expect("a string");
        words
    }

    pub(crate) fn parse(words: &str) -> Scenario {
        let numbers: Vec<u64> = words.split(' ').map(|word| word.parse().expect("a number")).collect();
        let audience = [Audience::Poller, Audience::Sleeper, Audience::Lossless, Audience::Stalled];
        Scenario {
            size: numbers[0] as usize,
            alignment: numbers[1],
            audience: audience[numbers[2] as usize],
            room: numbers[3],
            turn: numbers[4] as usize,
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new().capacity(CAPACITY).blocks(4).record_alignment(self.alignment).reader_slots(4).keep(true)
    }
}

impl Plan {
    pub(crate) fn new(scenario: Scenario) -> Plan {
        let mut plan = Plan { scenario, places: Vec::new(), warm: 0, unread: 0, operations: Vec::new(), position: 0 };
        // One lap at least, so that old bytes stand wherever the script writes.
        let target = 2 * CAPACITY - scenario.room.clamp(scenario.alignment, CAPACITY);
        while plan.position < target {
            let size = (target - plan.position).min(128);
            plan.add(size as usize - 8);
        }
        plan.warm = plan.places.len();
        match scenario.audience {
            Audience::Stalled => plan.stalled(),
            _ => plan.script(),
        }
        plan
    }

    fn script(&mut self) {
        for n in 0..TURN.len() {
            self.operation(TURN[(self.scenario.turn + n) % TURN.len()]);
        }
        self.operation(Operation::Close);
    }

    /// Warms on until the ring is full of what a reader at `room` has not read.
    fn stalled(&mut self) {
        let from = self.position;
        loop {
            let (start, end) = self.place(self.scenario.size, self.scenario.size);
            // The zero ahead has to fit, too.
            if end + 8 > from + CAPACITY {
                break;
            }
            debug_assert!(start >= self.position);
            self.add(self.scenario.size);
            self.unread += 1;
        }
        self.warm = self.places.len();
        for operation in [Operation::Full, Operation::Wait, Operation::Publish, Operation::Publish, Operation::Close] {
            self.operation(operation);
        }
    }

    /// A script of its own, on top of the warm-up.
    pub(crate) fn of(scenario: Scenario, operations: &[Operation]) -> Plan {
        let mut plan = Plan::new(scenario);
        plan.places.truncate(plan.warm);
        plan.operations.clear();
        plan.position = plan.places.last().map_or(0, |last| last.end);
        for &operation in operations {
            plan.operation(operation);
        }
        plan
    }

    /// What is left of this plan when only so many records were committed and a successor at `position` publishes
    /// one of `len` bytes.
    pub(crate) fn cut(&self, records: u64, position: u64, len: usize) -> Plan {
        let mut plan = self.clone();
        plan.places.truncate(records as usize);
        plan.position = position;
        plan.operations = vec![(Operation::TakeOver, plan.places.len()), (Operation::Publish, plan.places.len())];
        plan.add(len);
        plan
    }

    fn operation(&mut self, operation: Operation) {
        self.operations.push((operation, self.places.len()));
        let size = self.scenario.size;
        match operation {
            Operation::Publish | Operation::Claim => self.add(size),
            Operation::Batch => (0..BATCH).for_each(|_| self.add(size)),
            Operation::Shorten => self.add_shortened(size),
            // Its pad stays, if it needed one.
            Operation::Abort => self.position = self.place(size, size).0,
            Operation::TakeOver | Operation::Full | Operation::Wait | Operation::Close => {}
        }
    }

    /// Where a record of `len` bytes goes that was made room for as one of `claimed`.
    fn place(&self, claimed: usize, len: usize) -> (u64, u64) {
        let size = |len: usize| (len as u64 + 8).next_multiple_of(self.scenario.alignment);
        let room = CAPACITY - self.position % CAPACITY;
        let start = self.position + if size(claimed) > room { room } else { 0 };
        (start, start + size(len))
    }

    fn add_placed(&mut self, (start, end): (u64, u64), len: usize) {
        self.places.push(Place { start, end, payload: payload(self.places.len() as u64, len) });
        self.position = end;
    }

    fn add(&mut self, len: usize) {
        self.add_placed(self.place(len, len), len);
    }

    fn add_shortened(&mut self, len: usize) {
        self.add_placed(self.place(len, len / 2), len / 2);
    }

    /// The payload of the next record of an operation.
    fn payload(&self, record: usize) -> &[u8] {
        &self.places[record].payload
    }

    /// Plays the script, in the child: between the first mark and the last.
    pub(crate) fn play(&self, page: &Page, path: &std::path::Path) {
        let options = self.scenario.options();
        let open = || options.open_or_create_file(path).unwrap_or_else(|error| panic!("{error}"));
        let takes_over = self.operations.first().is_some_and(|(first, _)| *first == Operation::TakeOver);
        let mut writer = if takes_over { None } else { Some(open()) };
        stepper::mark();
        for (number, &(operation, record)) in self.operations.iter().enumerate() {
            let next = self.operations.get(number + 1).map_or(self.places.len(), |next| next.1);
            page.set(Page::OPERATION, number as u64);
            page.set(Page::BEGUN, next as u64);
            page.set(Page::INSIDE, 1);
            if operation == Operation::TakeOver {
                writer = Some(open());
            } else {
                let writer = writer.as_mut().expect("a writer");
                self.act(operation, record, writer);
            }
            page.set(Page::COMMITTED, next as u64);
            page.set(Page::INSIDE, 0);
        }
        stepper::mark();
    }

    #[inline(never)]
    fn act(&self, operation: Operation, record: usize, writer: &mut Writer) {
        let size = self.scenario.size;
        match operation {
            Operation::TakeOver => {}
            Operation::Publish => {
                assert_eq!(writer.publish(self.payload(record)).expect("room"), record as u64);
            }
            Operation::Claim => {
                let mut claim = writer.claim(size).expect("room");
                let (first, second) = self.payload(record).split_at(size / 3);
                for part in [first, second] {
                    assert_eq!(std::io::Write::write(&mut claim, part).expect("room"), part.len());
                }
                assert_eq!(claim.commit(), record as u64);
            }
            Operation::Abort => {
                let mut claim = writer.claim(size).expect("room");
                let _ = std::io::Write::write(&mut claim, &[0xFF; 24]);
            }
            Operation::Shorten => {
                let mut claim = writer.claim(size).expect("room");
                let payload = self.payload(record);
                assert_eq!(std::io::Write::write(&mut claim, payload).expect("room"), payload.len());
                claim.truncate(payload.len());
                assert_eq!(claim.commit(), record as u64);
            }
            Operation::Batch => {
                let payloads = &self.places[record..record + BATCH as usize];
                assert_eq!(
                    writer.publish_batch(payloads.iter().map(|place| &place.payload)).expect("room"),
                    BATCH as usize
                );
            }
            Operation::Full => {
                assert_eq!(writer.try_publish(self.payload(record)), Err(TryPublishError::Full));
            }
            Operation::Wait => {
                let waited = writer.publish_timeout(self.payload(record), Duration::from_millis(1));
                assert_eq!(waited, Err(PublishTimeoutError::Timeout));
            }
            Operation::Close => writer.close(),
        }
    }
}

/// Payloads that can be told apart and look like headers wherever they can: every third record is made of words that would
/// pass for commit words, every third of words that would pass for pads.
pub(crate) fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut random = Random(sequence ^ 0x5EED);
    let word = |mixed: u64| match sequence % 3 {
        0 => mixed % 64 + 1,
        1 => mixed,
        _ => (mixed % 512 * 8 + 1) | 1 << 32,
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| word(random.next()).to_le_bytes()).collect();
    bytes.truncate(len);
    if let Some(last) = bytes.last_mut() {
        *last ^= sequence as u8;
    }
    bytes
}
