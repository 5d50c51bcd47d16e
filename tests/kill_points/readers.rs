//! A reader that is killed at each instruction: the writer goes on, and other readers lose nothing.

use std::path::Path;
use std::time::Duration;

use shmcast::{Options, Reader, RecvTimeoutError, TryRecvError, WaitStrategy, Writer};

use crate::image::{Image, Page, Segments};
use crate::judge;
use crate::plan::{CAPACITY, payload};
use crate::stepper::{self, Traced};
use crate::support;
use crate::writers::{Count, Place};

/// What a reader does with the records of this length, and whether the writer seems to sleep meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) size: usize,
    pub(crate) lossy: bool,
    pub(crate) writer_sleeps: bool,
    /// The operation that the stepping begins with.
    pub(crate) from: usize,
}

/// The operations: one to come, some to receive in each way, one to sleep, one to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Join,
    Into,
    Owned,
    Borrow,
    Batch,
    Sleep,
    Leave,
}

pub(crate) const OPERATIONS: usize = SCRIPT.len();
const SCRIPT: [Operation; 14] = {
    use Operation::{Batch, Borrow, Into, Join, Leave, Owned, Sleep};
    [Join, Into, Into, Owned, Borrow, Batch, Into, Borrow, Into, Into, Batch, Batch, Sleep, Leave]
};

/// The slot of the parent's reader, which came first: lossless ones take slots from below.
const SURVIVOR: u64 = 0;

fn options() -> Options {
    Options::new().capacity(CAPACITY).blocks(4).reader_slots(4).keep(true)
}

/// Plays the script, in the child; the first mark stands before operation `from`.
pub(crate) fn play(path: &Path, page: &Page, size: usize, lossy: bool, from: usize) {
    let options = options().lossy(lossy).wait(WaitStrategy::ParkAtOnce).slice(Duration::from_millis(1));
    let mut reader = None;
    let mut buffer = [0; CAPACITY as usize];
    let mut records = Vec::with_capacity(8);
    for (number, operation) in SCRIPT.into_iter().enumerate() {
        if number == from {
            stepper::mark();
        }
        page.set(Page::OPERATION, number as u64);
        page.set(Page::INSIDE, 1);
        act(operation, path, &options, &mut reader, &mut buffer, &mut records);
        page.set(Page::INSIDE, 0);
        for record in records.drain(..) {
            let record: shmcast::Record = record;
            assert!(*record == *payload(record.sequence, size), "record {} is torn", record.sequence);
        }
    }
    stepper::mark();
}

#[inline(never)]
fn act(
    operation: Operation,
    path: &Path,
    options: &Options,
    reader: &mut Option<Reader>,
    buffer: &mut [u8],
    records: &mut Vec<shmcast::Record>,
) {
    if operation == Operation::Join {
        *reader = Some(options.open_file(path).unwrap_or_else(|error| panic!("{error}")));
    }
    let Some(open) = reader else { return };
    match operation {
        Operation::Join => {}
        Operation::Into => drop(open.try_recv_into(buffer)),
        Operation::Owned => records.extend(open.try_recv()),
        Operation::Borrow => drop(open.try_recv_ref()),
        Operation::Batch => drop(open.try_recv_batch(records, 3)),
        Operation::Sleep => loop {
            match open.recv_timeout(Duration::from_millis(1)) {
                Ok(record) => records.push(record),
                Err(RecvTimeoutError::Timeout) => break,
                Err(error) => panic!("{error}"),
            }
        },
        Operation::Leave => *reader = None,
    }
}

/// What becomes of a sweep over a reader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) count: Count,
    /// Kill points at which the dead reader held the writer back.
    pub(crate) held: u64,
    /// Kill points that the judge did not accept: only where nobody frees the dead reader's slot, the control.
    pub(crate) flagged: u64,
}

/// Steps a reader through its script and judges every image; with `kill_at`, kills it for real at that kill point.
pub(crate) fn sweep(scenario: Scenario, reaps: bool, kill_at: Option<u64>) -> Result<Swept, String> {
    let place = Place::new();
    let mut writer = options().create_file(place.path()).expect("a small ring");
    // More than a lap, and the last of it to be read.
    let records = (2 * CAPACITY).div_ceil(scenario.size as u64 + 8).next_multiple_of(2) + 3;
    publish(&mut writer, records, scenario.size);
    let mut survivor = options().open_file(place.path()).expect("a ring");
    let live = Segments::open(&place.path());
    let mut image = Image::of(&live);
    let words = [scenario.size.to_string(), scenario.lossy.to_string(), scenario.from.to_string()];
    let path = place.path();
    let mut child = Traced::start("reader", &[path.to_str().expect("a name"), &words[0], &words[1], &words[2]])?;
    child.run_to_mark();
    let mut swept = Swept::default();
    let mut operation = u64::MAX;
    let mut ended = false;
    while child.step() {
        if place.page.get(Page::INSIDE) == 0 {
            continue;
        }
        if operation != place.page.get(Page::OPERATION) {
            operation = place.page.get(Page::OPERATION);
            if scenario.writer_sleeps {
                live.set_writer_sleeping();
            }
        }
        swept.count.points += 1;
        swept.count.images += u64::from(image.take());
        if kill_at == Some(swept.count.points) {
            ended = true;
            break;
        }
        if kill_at.is_some() {
            continue;
        }
        image.free_slot(SURVIVOR);
        match judge::reader(&mut image, records, reaps) {
            Ok(held) => swept.held += u64::from(held),
            Err(_) if !reaps => swept.flagged += 1,
            Err(error) => panic!(
                "{scenario:?}, operation {:?}, kill point {}: {error}",
                SCRIPT[operation as usize], swept.count.points
            ),
        }
    }
    if kill_at.is_none() {
        assert_eq!(operation as usize, SCRIPT.len() - 1, "the script ran to its end");
    }
    if ended {
        child.kill();
        go_on(&mut writer, &mut survivor, &place.path(), records, scenario.size);
    }
    Ok(swept)
}

fn publish(writer: &mut Writer, count: u64, size: usize) {
    for _ in 0..count {
        let record = payload(writer.sequence(), size);
        writer.publish_timeout(&record, support::LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The real writer behind a real SIGKILL: three laps, every record of which a reader gets that was there before.
fn go_on(writer: &mut Writer, survivor: &mut Reader, path: &Path, records: u64, size: usize) {
    let drain = |survivor: &mut Reader| {
        loop {
            let expected = survivor.sequence();
            match survivor.try_recv() {
                Ok(record) => {
                    assert!(record.sequence == expected && *record == *payload(expected, size), "record {expected}");
                }
                Err(TryRecvError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let laps = 3 * CAPACITY.div_ceil(size as u64 + 8);
    for _ in 0..laps {
        drain(survivor);
        publish(writer, 1, size);
    }
    drain(survivor);
    assert_eq!(survivor.sequence(), records + laps, "the survivor lost nothing");
    // All slots but the survivor's can be had.
    let others: Vec<_> = (1..4).map(|_| options().open_file(path).expect("a free slot")).collect();
    assert_eq!(writer.reader_count(), 1 + others.len() as u64);
}
