//! A reader beside a writer that is stopped in the middle of whatever it does: nothing torn, nothing hangs, and each call of
//! the reader ends within a bounded number of instructions. Both are stepped, in turn: the reader makes one call at each instruction of
//! the writer that changes a word.

use std::path::Path;

use shmcast::{Options, Received, Start, TryRecvError};

use crate::image::Page;
use crate::plan::{Audience, CAPACITY, Plan, Scenario, payload};
use crate::stepper::{self, Traced};
use crate::writers::{self, Stage};

const RECORD: u64 = 1;
const NOTHING: u64 = 2;

/// The reader's page; the writer has the other one.
fn page(ring: &Path) -> std::path::PathBuf {
    ring.with_file_name("beside")
}

/// Receives, in the child, what is there; tells what it got.
pub(crate) fn play(path: &Path, lossy: bool) {
    let page = Page::open(&page(path));
    let options = Options::new().lossy(lossy).start(Start::Newest).wait_for_successor(true);
    let mut reader = options.open_file(path).unwrap_or_else(|error| panic!("{error}"));
    let mut buffer = [0; CAPACITY as usize];
    loop {
        stepper::mark();
        page.set(Page::INSIDE, 1);
        let received = reader.try_recv_into(&mut buffer);
        page.set(Page::INSIDE, 0);
        let told = match received {
            Ok(Received { sequence, len, .. }) => {
                assert!(buffer[..len] == *payload(sequence, len), "record {sequence} is torn");
                page.set(Page::NUMBER, sequence);
                RECORD
            }
            Err(TryRecvError::Empty | TryRecvError::Closed) => NOTHING,
            Err(error) => panic!("{error}"),
        };
        page.set(Page::KIND, told);
        stepper::mark();
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    /// Instructions of the writer at which it was stopped.
    pub(crate) stops: u64,
    pub(crate) records: u64,
    pub(crate) empty: u64,
    /// Most instructions of one call of the reader.
    pub(crate) instructions: u64,
}

impl Beside {
    pub(crate) fn add(&mut self, other: Beside) {
        self.stops += other.stops;
        self.records += other.records;
        self.empty += other.empty;
        self.instructions = self.instructions.max(other.instructions);
    }
}

/// Steps a writer through its script, and a reader through a call wherever that has changed something.
pub(crate) fn sweep(scenario: Scenario, lossy: bool) -> Result<Beside, String> {
    let plan = Plan::new(scenario);
    let Stage { place, mut image, live, .. } = Stage::new(&plan);
    let path = place.path();
    let theirs = Page::create(&page(&path));
    let name = path.to_str().expect("a name");
    let mut reader = Traced::start("beside", &[name, if lossy { "lossy" } else { "lossless" }])?;
    reader.run_to_mark();
    let mut writer = writers::start(&plan, &path, &scenario.words())?;
    let mut beside = Beside::default();
    let (mut next, mut operation) = (plan.warm as u64, u64::MAX);
    while writer.step() {
        if place.page.get(Page::INSIDE) == 0 {
            continue;
        }
        if operation != place.page.get(Page::OPERATION) {
            operation = place.page.get(Page::OPERATION);
            if scenario.audience == Audience::Sleeper {
                live.set_sleeping();
            }
        }
        if !image.take() {
            continue;
        }
        beside.stops += 1;
        let mut inside = 0;
        while reader.step() {
            if theirs.get(Page::INSIDE) == 1 {
                inside += 1;
            } else if inside > 0 {
                break;
            }
        }
        reader.run_to_mark();
        beside.instructions = beside.instructions.max(inside);
        if theirs.get(Page::KIND) == RECORD {
            assert_eq!(theirs.get(Page::NUMBER), next, "no gap");
            (next, beside.records) = (next + 1, beside.records + 1);
            assert!(next <= place.page.get(Page::BEGUN), "it was begun");
        } else {
            beside.empty += 1;
            assert!(next >= place.page.get(Page::COMMITTED), "what is committed is there");
        }
        reader.run_to_mark();
    }
    Ok(beside)
}
