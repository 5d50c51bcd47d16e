//! A reader that is stopped at each instruction of a receive while the writer laps it: nothing torn, every loss counted, and
//! the call ends within a bounded number of instructions.

use std::path::Path;
use std::time::Duration;

use shmcast::layout::Geometry;
use shmcast::memory::Memory;
use shmcast::{Options, Received, TryRecvError, Writer};

use crate::image::{Page, Segments};
use crate::plan::{CAPACITY, payload};
use crate::stepper::{self, Traced};
use crate::support;
use crate::writers::Place;

/// Bytes of payload: large enough to be torn in the middle.
pub(crate) const BYTES: usize = 248;
const RECORD: u64 = BYTES as u64 + 8;
/// Records in a lap.
const LAP: u64 = CAPACITY / RECORD;

const RECEIVED: u64 = 1;
const LAGGED: u64 = 2;
const EMPTY: u64 = 3;
const EVICTED: u64 = 4;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lossy,
    /// On a ring whose writer bears with nobody.
    Lossless,
    /// No reader of the library's: one that does not look at `limit`, the control.
    Careless,
}

impl Kind {
    pub(crate) fn parse(word: &str) -> Kind {
        [Kind::Lossy, Kind::Lossless, Kind::Careless][word.parse::<usize>().expect("a number")]
    }

    fn options(self) -> Options {
        // As many blocks as by default: a reader that was lapped looks at each of their checkpoints.
        let options = Options::new().capacity(CAPACITY).reader_slots(4).keep(true);
        let options = options.lossy(self != Kind::Lossless).wait_for_successor(true);
        if self == Kind::Lossless { options.stall_limit(Duration::ZERO) } else { options }
    }
}

/// Receives one record after the other, in the child; tells what it got.
pub(crate) fn play(path: &Path, page: &Page, kind: Kind) {
    let mut buffer = [0; CAPACITY as usize];
    let open = || kind.options().start(shmcast::Start::Oldest).open_file(path).expect("a ring");
    let mut reader = open();
    let live = Segments::open(path);
    let mut next = 0;
    loop {
        page.set(Page::BEGUN, if kind == Kind::Careless { next } else { reader.sequence() });
        stepper::mark();
        page.set(Page::INSIDE, 1);
        let received =
            if kind == Kind::Careless { careless(&live, next, &mut buffer) } else { reader.try_recv_into(&mut buffer) };
        page.set(Page::INSIDE, 0);
        let (what, number) = match received {
            Ok(Received { sequence, len, .. }) => {
                next = sequence + 1;
                page.set(Page::WHOLE, u64::from(buffer[..len] == *payload(sequence, BYTES)));
                (RECEIVED, sequence)
            }
            Err(TryRecvError::Lagged(lost)) => (LAGGED, lost),
            Err(TryRecvError::Empty) => (EMPTY, 0),
            Err(TryRecvError::Evicted { .. }) => {
                reader = open();
                (EVICTED, 0)
            }
            Err(error) => panic!("{error}"),
        };
        page.set(Page::NUMBER, number);
        page.set(Page::KIND, what);
        stepper::mark();
        if kind == Kind::Careless {
            // The parent says where the writer is.
            next = page.get(Page::COMMITTED);
        }
    }
}

/// Takes what the header says for what is there.
#[inline(never)]
fn careless(live: &Segments, sequence: u64, buffer: &mut [u8]) -> Result<Received, TryRecvError> {
    let at = live.layouts.0.data().word(sequence * RECORD);
    if live.word(at) != Geometry::data_header(BYTES) {
        return Err(TryRecvError::Empty);
    }
    live.ring.copy_out(at.plus(1), &mut buffer[..BYTES]);
    std::hint::black_box(&mut *buffer);
    Ok(Received { sequence, len: BYTES })
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lapped {
    /// Receives that were stopped once.
    pub(crate) cases: u64,
    pub(crate) torn: u64,
    pub(crate) lagged: u64,
    pub(crate) evicted: u64,
    /// Most instructions of one call.
    pub(crate) instructions: u64,
}

/// Stops the reader at each instruction of a receive in turn, and lets the writer publish so many records there.
pub(crate) fn sweep(kind: Kind, bursts: &[u64]) -> Result<Lapped, String> {
    let place = Place::new();
    let mut writer = kind.options().create_file(place.path()).expect("a small ring");
    let mut child = Traced::start("lapped", &[place.path().to_str().expect("a name"), &(kind as u8).to_string()])?;
    let mut lapped = Lapped::default();
    for &burst in bursts {
        for stop_at in 1.. {
            publish(&mut writer, 1);
            child.run_to_mark();
            let (expected, before) = (place.page.get(Page::BEGUN), writer.sequence());
            let mut inside = 0;
            while child.step() {
                if place.page.get(Page::INSIDE) == 0 {
                    if inside > 0 {
                        break;
                    }
                    continue;
                }
                inside += 1;
                if inside == stop_at {
                    publish(&mut writer, burst);
                    // The rest of the call is counted now and then.
                    if stop_at % 32 != 0 {
                        break;
                    }
                }
            }
            lapped.instructions = lapped.instructions.max(inside);
            child.run_to_mark();
            let number = place.page.get(Page::NUMBER);
            match place.page.get(Page::KIND) {
                RECEIVED => {
                    let whole = place.page.get(Page::WHOLE) == 1;
                    lapped.torn += u64::from(!whole);
                    assert!(whole || kind == Kind::Careless, "record {number} is torn, stopped at {stop_at}");
                    assert_eq!(number, expected, "no gap that was not told");
                }
                LAGGED => {
                    lapped.lagged += 1;
                    assert!(number > 0 && expected + number <= writer.sequence(), "{number} lost behind {expected}");
                }
                EMPTY => assert!(expected >= before || kind == Kind::Careless, "{before} records, {expected} read"),
                EVICTED => lapped.evicted += 1,
                _ => unreachable!("told"),
            }
            place.page.set(Page::COMMITTED, writer.sequence());
            if inside < stop_at {
                break;
            }
            lapped.cases += 1;
        }
    }
    Ok(lapped)
}

/// Bursts of a record, and all around a lap.
pub(crate) const BURSTS: [u64; 4] = [1, LAP - 1, LAP, LAP + 2];

fn publish(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let record = payload(writer.sequence(), BYTES);
        writer.publish_timeout(&record, support::LIMIT).expect("room");
    }
}
