//! A writer that is killed at each instruction, and whoever takes over.

use std::path::{Path, PathBuf};

use shmcast::memory::ReadPayload;
use shmcast::ring::{self, Start};
use shmcast::{Options, Reader, Received, TryRecvError};

use crate::image::{Bytes, Counted, Image, Page, Segments};
use crate::judge;
use crate::plan::{Audience, CAPACITY, Operation, Plan};
use crate::stepper::Traced;
use crate::support;

/// A ring in files of its own, and what is needed to look at it.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) page: Page,
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let page = Page::create(&directory.path().join("page"));
        Place { directory, page }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ring")
    }
}

/// How many instructions were kill points, and how many different images there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) points: u64,
    pub(crate) images: u64,
    /// Most shared accesses of one poll of a reader beside the writer.
    pub(crate) accesses: u64,
}

impl Count {
    pub(crate) fn add(&mut self, other: Count) {
        self.points += other.points;
        self.images += other.images;
        self.accesses = self.accesses.max(other.accesses);
    }
}

/// A ring that is warmed up for a plan, and its readers.
pub(crate) struct Stage {
    pub(crate) place: Place,
    lossless: Option<Reader>,
    poller: ring::Reader<Counted>,
    counter: Counted,
    pub(crate) image: Image,
    pub(crate) live: Segments,
}

impl Stage {
    pub(crate) fn new(plan: &Plan) -> Stage {
        let place = Place::new();
        let mut writer = plan.scenario.options().create_file(place.path()).expect("a small ring");
        let mut lossless = None;
        for (n, record) in plan.places[..plan.warm].iter().enumerate() {
            if n == plan.warm - plan.unread && plan.scenario.audience == Audience::Stalled {
                lossless = Some(newest(&place.path()));
            }
            writer.try_publish(&record.payload).expect("room");
        }
        if plan.scenario.audience == Audience::Lossless {
            lossless = Some(newest(&place.path()));
        }
        drop(writer);
        let live = Segments::open(&place.path());
        let counter = Counted::new(live.ring.clone());
        let ring = ring::Ring::new(counter.clone(), live.layouts.0.clone());
        let poller = ring::Reader::join_lossy(ring, None, Start::Newest, false, 0).expect("a ring");
        let image = Image::of(&live);
        place.page.set(Page::COMMITTED, plan.warm as u64);
        place.page.set(Page::BEGUN, plan.warm as u64);
        Stage { place, lossless, poller, counter, image, live }
    }
}

/// A lossless reader that gets what is published from now on.
fn newest(path: &Path) -> Reader {
    Options::new().start(shmcast::Start::Newest).wait_for_successor(true).open_file(path).expect("a ring")
}

/// What to do with each image instead of judging it as it is: a control.
pub(crate) type Damage<'a> = &'a mut dyn FnMut(&Segments, &Plan);

/// What a sweep is to do besides, and what came of it.
#[derive(Default)]
pub(crate) struct Also<'a> {
    /// Keep an image of about every so many that differ, for a crash during the recovery.
    pub(crate) keep_each: Option<u64>,
    /// Those, each with its records and the position behind them.
    pub(crate) kept: Vec<(Bytes, u64, u64)>,
    /// Break the image first; count what the judge says instead of failing.
    pub(crate) damage: Option<Damage<'a>>,
    pub(crate) flagged: u64,
    /// Kill for real at this kill point and end.
    pub(crate) kill_at: Option<u64>,
}

/// A writer that plays a plan, before its first operation.
pub(crate) fn start(plan: &Plan, path: &Path, words: &str) -> Result<Traced, String> {
    let list: Vec<String> = plan.operations.iter().map(|(operation, _)| (*operation as u8).to_string()).collect();
    let mut child = Traced::start("writer", &[path.to_str().expect("a name"), words, &list.join(" ")])?;
    child.run_to_mark();
    Ok(child)
}

/// Steps a child through a plan and judges every image.
pub(crate) fn sweep(plan: &Plan, also: &mut Also) -> Result<Count, String> {
    let mut stage = Stage::new(plan);
    let path = stage.place.path();
    let words = plan.scenario.words();
    let mut child = start(plan, &path, &words)?;
    let mut count = Count::default();
    let (mut last, mut operation) = (plan.warm as u64, u64::MAX);
    while child.step() {
        let page = &stage.place.page;
        if page.get(Page::INSIDE) == 0 {
            continue;
        }
        if operation != page.get(Page::OPERATION) {
            operation = page.get(Page::OPERATION);
            if plan.scenario.audience == Audience::Sleeper {
                stage.live.set_sleeping();
            }
        }
        let (least, most) = (page.get(Page::COMMITTED), page.get(Page::BEGUN));
        count.points += 1;
        let changed = stage.image.take();
        count.images += u64::from(changed);
        if also.kill_at.is_some_and(|at| count.points >= at) {
            child.kill();
            really_dead(stage, plan, least, most);
            return Ok(count);
        }
        let whole =
            also.keep_each.is_some_and(|each| changed && count.images % each == 0).then(|| stage.image.bytes.clone());
        if let Some(damage) = &mut also.damage {
            if changed {
                damage(&stage.image.copy, plan);
                also.flagged += u64::from(judge::writer(&mut stage.image, plan, least, most).is_err());
            }
            continue;
        }
        match judge::writer(&mut stage.image, plan, least, most) {
            Ok(found) => {
                assert!(found.records >= last, "what was committed stays: {} after {last}", found.records);
                last = found.records;
                also.kept.extend(whole.map(|bytes| (bytes, found.records, found.position)));
            }
            Err(error) => panic!(
                "{:?}, operation {:?}, kill point {}: {error}",
                plan.scenario, plan.operations[operation as usize], count.points
            ),
        }
        count.accesses = count.accesses.max(poll(&mut stage, plan, least, most));
        let reads = match plan.scenario.audience {
            Audience::Poller | Audience::Sleeper => false,
            Audience::Lossless => true,
            // Not before the writer has found the ring full, and has waited.
            Audience::Stalled => operation > 1,
        };
        if reads {
            drain(&mut stage, plan, most);
        }
    }
    if also.damage.is_none() && also.kill_at.is_none() {
        let end = plan.places.len() as u64;
        assert_eq!(last, end, "the script ran to its end");
        drain(&mut stage, plan, end);
        if let Some(reader) = &stage.lossless {
            assert_eq!(reader.sequence(), end, "the lossless reader got everything");
        }
    }
    Ok(count)
}

/// One call of a lossy reader beside the stopped writer, on the live words; answers its shared accesses.
fn poll(stage: &mut Stage, plan: &Plan, least: u64, most: u64) -> u64 {
    let mut buffer = [0; CAPACITY as usize];
    stage.counter.take_count();
    let found = stage.poller.read(|payload| payload.copy_out(&mut buffer[..payload.len()]));
    match found {
        Ok(read) => {
            assert!(read.sequence < most, "record {} was not begun", read.sequence);
            assert!(
                buffer[..read.len] == plan.places[read.sequence as usize].payload,
                "record {} is torn",
                read.sequence
            );
            stage.poller.release(read.next());
        }
        Err(ring::Stop::Empty) => assert!(stage.poller.sequence() >= least, "what is committed is there"),
        Err(ring::Stop::Closed) => {}
        // It reads one record at each instruction that changes something, so it is never a lap behind.
        Err(stop) => panic!("a poll beside the writer: {stop:?}"),
    }
    stage.counter.take_count()
}

/// What the lossless reader finds, on the live words.
fn drain(stage: &mut Stage, plan: &Plan, most: u64) {
    let Some(reader) = &mut stage.lossless else { return };
    let mut buffer = [0; CAPACITY as usize];
    loop {
        let expected = reader.sequence();
        match reader.try_recv_into(&mut buffer) {
            Ok(Received { sequence, len, .. }) => {
                assert!(sequence == expected && sequence < most, "record {sequence}, not {expected}, of {most}");
                assert!(buffer[..len] == plan.places[sequence as usize].payload, "record {sequence} is torn");
            }
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            Err(error) => panic!("the lossless reader: {error}"),
        }
    }
}

/// After a real SIGKILL: the real files, by the public API, with readers that were there before.
fn really_dead(mut stage: Stage, plan: &Plan, least: u64, most: u64) {
    drain(&mut stage, plan, most);
    let path = stage.place.path();
    let mut fresh = Options::new().lossy(true).wait_for_successor(true).open_file(&path).expect("a ring");
    let mut writer = plan.scenario.options().open_or_create_file(&path).unwrap_or_else(|error| panic!("{error}"));
    let records = writer.sequence();
    assert!((least..=most).contains(&records), "{records} records, not {least} to {most}");
    let mut readers: Vec<&mut Reader> = stage.lossless.iter_mut().chain([&mut fresh]).collect();
    // Before the successor publishes, which may lap the lossy one.
    for reader in &mut readers {
        while let Ok(record) = reader.try_recv() {
            assert!(*record == *plan.places[record.sequence as usize].payload, "record {} is torn", record.sequence);
        }
        assert_eq!((reader.sequence(), reader.try_recv()), (records, Err(TryRecvError::Empty)));
    }
    let next = crate::plan::payload(records, 100);
    assert_eq!(writer.publish_timeout(&next, support::LIMIT), Ok(records));
    for reader in readers {
        let record = reader.try_recv().unwrap_or_else(|error| panic!("at {records}: {error}"));
        assert!(record.sequence == records && *record == *next, "record {records} is torn");
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    }
}

/// A crash during the recovery: a child takes over what a crash left, and is stepped while it does.
pub(crate) fn sweep_recovery(plan: &Plan, bases: &[(Bytes, u64, u64)]) -> Result<Count, String> {
    let stage = Stage::new(plan);
    let Stage { place, mut image, live, .. } = stage;
    let path = place.path();
    let mut child = Traced::start("successor", &[path.to_str().expect("a name")])?;
    let mut count = Count::default();
    for (bytes, records, position) in bases {
        let cut = plan.cut(*records, *position, SUCCESSOR_BYTES);
        bytes.put(&live);
        place.page.set(Page::INSIDE, 0);
        place.page.set(Page::BEGUN, *records);
        place.page.set(Page::COMMITTED, *records);
        child.run_to_mark();
        while child.step() {
            if place.page.get(Page::INSIDE) == 0 {
                continue;
            }
            let known = (place.page.get(Page::COMMITTED), place.page.get(Page::BEGUN));
            count.points += 1;
            let changed = image.take();
            count.images += u64::from(changed);
            if let Err(error) = judge::writer(&mut image, &cut, known.0, known.1) {
                panic!("{:?}, recovery of {records} records, kill point {}: {error}", plan.scenario, count.points);
            }
        }
        assert_eq!(place.page.get(Page::COMMITTED), records + 1, "the successor published");
    }
    Ok(count)
}

/// Bytes of the record that a stepped successor publishes.
pub(crate) const SUCCESSOR_BYTES: usize = 40;

/// The successor, in the child: takes over whatever the parent has put into the files, again and again.
pub(crate) fn take_over_again_and_again(path: &Path, page: &Page) {
    let live = Segments::open(path);
    loop {
        crate::stepper::mark();
        let (ring, registry) = live.views();
        page.set(Page::INSIDE, 1);
        let mut writer = ring::Writer::take_over(ring, registry, true).expect("a ring that can be taken over");
        let sequence = writer.sequence();
        let next = crate::plan::payload(sequence, SUCCESSOR_BYTES);
        page.set(Page::BEGUN, sequence + 1);
        let mut published = writer.try_publish(&next);
        if let (Err(ring::Refused::Full), Some(blocker)) = (published, writer.blocker()) {
            // The image's reader is not there any more.
            writer.reap(blocker.slot);
            published = writer.try_publish(&next);
        }
        page.set(Page::COMMITTED, sequence + u64::from(published == Ok(sequence)));
        page.set(Page::INSIDE, 0);
        crate::stepper::mark();
    }
}

pub(crate) fn operations_of(words: &str) -> Vec<Operation> {
    const ALL: [Operation; 9] = [
        Operation::TakeOver,
        Operation::Publish,
        Operation::Claim,
        Operation::Abort,
        Operation::Shorten,
        Operation::Batch,
        Operation::Full,
        Operation::Wait,
        Operation::Close,
    ];
    words.split(' ').map(|word| ALL[word.parse::<usize>().expect("a number")]).collect()
}
