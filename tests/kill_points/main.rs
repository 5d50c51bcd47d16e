//! Processes that are killed, or stopped, at every single instruction (invariants I1 to I5).
//!
//! ```text
//!   child  ── one instruction ──▶ stop ── one instruction ──▶ stop …          (ptrace; see `stepper`)
//!                                  │
//!   parent        copies both segments: what a SIGKILL here would leave       (`image`)
//!                 runs the shipped readers and the shipped take-over on them  (`judge`)
//!                 compares every byte with what the script must have written  (`plan`)
//! ```
//! The images show the words as the processor has them in order: who is killed has his stores drained. What weaker orders
//! would do is the models' business (`loom-tests`).
//!
//! `SHMCAST_KILL_POINTS` says how many kill points of writers at least (700,000 by default). The whole sweep, of 13 million,
//! takes minutes: `SHMCAST_KILL_POINTS=whole cargo test --test kill_points -- --show-output`.
#![cfg(target_arch = "x86_64")] // Where the kernel steps in hardware; the protocol is the same elsewhere.

mod beside;
mod image;
mod judge;
mod laps;
mod plan;
mod readers;
mod stepper;
#[path = "../support/mod.rs"]
mod support;
mod writers;

use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use shmcast::layout::CELL_OPEN;
use shmcast::memory::Memory;
use shmcast::ring::Site;

use image::{Page, Segments};
use plan::{Audience, CAPACITY, MAX, Operation, Plan, Scenario};
use writers::{Also, Count};

/// The extremes first, for those who have less time.
const SIZES: [usize; 9] = [MAX, 0, 255, 65, 1, 64, 7, 63, 8];

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = support::role() else { return };
    let path = Path::new(&arguments[0]);
    let page = Page::open(&path.with_file_name("page"));
    match role.as_str() {
        "writer" => {
            let plan = Plan::of(Scenario::parse(&arguments[1]), &writers::operations_of(&arguments[2]));
            stepper::trace_me();
            plan.play(&page, path);
        }
        "successor" => {
            stepper::trace_me();
            writers::take_over_again_and_again(path, &page);
        }
        "reader" => {
            stepper::trace_me();
            let [size, from] = [1, 3].map(|n| arguments[n].parse().expect("a number"));
            readers::play(path, &page, size, arguments[2] == "true", from);
        }
        "beside" => {
            stepper::trace_me();
            beside::play(path, arguments[1] == "lossy");
        }
        "lapped" => {
            stepper::trace_me();
            laps::play(path, &page, laps::Kind::parse(&arguments[1]));
        }
        other => panic!("no role {other:?}"),
    }
}

/// Runs a sweep; where the system permits no tracing, says so.
fn traced(nth: usize, what: &str, sweep: impl FnOnce() -> Result<String, String>) {
    stepper::pin(nth);
    let start = Instant::now();
    match sweep() {
        Ok(found) => println!("{what}: {found}, in {:.1} s", start.elapsed().as_secs_f64()),
        Err(why) => support::skipped(format_args!("{what}: no ptrace: {why}")),
    }
}

/// Kill points of writers at least, for each of `tests` tests.
fn budget(tests: u64) -> u64 {
    match std::env::var("SHMCAST_KILL_POINTS").as_deref() {
        Ok("whole") => u64::MAX,
        Ok(number) => number.parse::<u64>().expect("SHMCAST_KILL_POINTS is a number, or whole") / tests,
        Err(_) => 700_000 / tests,
    }
}

/// All scenarios of these audiences, in rounds: every size, at the end of a lap and in the middle of one, in each round.
fn scenarios(audiences: &[Audience]) -> impl Iterator<Item = Scenario> {
    let mut all = Vec::new();
    for round in 0..24 {
        let alignment = if round % 2 == 0 { 8 } else { 64 };
        for (nth, size) in SIZES.into_iter().enumerate() {
            for (mth, &audience) in audiences.iter().enumerate() {
                let record = (size as u64 + 8).next_multiple_of(alignment);
                // Most of the script crosses the end of the lap: at once, behind a record, behind two.
                let ends = [record - alignment, 2 * record - alignment, record / 2, alignment, 2 * record, 3 * record];
                let end = ends[(round + nth + mth) % ends.len()].next_multiple_of(alignment);
                for room in [CAPACITY / 2 + 512 + 64 * round as u64, end] {
                    all.push(Scenario { size, alignment, audience, room, turn: (round / 4 + nth + mth) % 6 });
                }
            }
        }
    }
    all.into_iter()
}

/// Sweeps scenarios until there are enough kill points, and takes over from some of the crashes while being killed, too.
fn sweep_writers(audiences: &[Audience]) -> Result<String, String> {
    let budget = budget(2);
    let (mut first, mut second, mut bases) = (Count::default(), Count::default(), 0);
    for scenario in scenarios(audiences) {
        if first.points + second.points >= budget {
            break;
        }
        let plan = Plan::new(scenario);
        let mut also = Also { keep_each: Some(40), ..Also::default() };
        first.add(writers::sweep(&plan, &mut also)?);
        bases += also.kept.len();
        second.add(writers::sweep_recovery(&plan, &also.kept)?);
    }
    assert!(first.accesses <= MOST_ACCESSES, "a poll beside a stopped writer took {} accesses", first.accesses);
    Ok(format!(
        "{} kill points, {} different images; {} kill points, {} different images in the recovery of {bases} of them; at most {} \
         shared accesses of a poll beside the writer",
        first.points, first.images, second.points, second.images, first.accesses
    ))
}

/// Shared accesses of one poll beside a writer that stands anywhere: what `Reader` promises, with room for a pad.
const MOST_ACCESSES: u64 = 12;

#[test]
fn a_writer_killed_anywhere_loses_nothing_that_was_committed() {
    traced(0, "writers, with lossy readers", || sweep_writers(&[Audience::Poller, Audience::Sleeper]));
}

#[test]
fn a_writer_killed_anywhere_keeps_its_word_to_lossless_readers() {
    traced(1, "writers, with lossless readers", || sweep_writers(&[Audience::Lossless, Audience::Stalled]));
}

/// The whole of `open_or_create_file`, with its files, locks and mappings.
#[test]
fn a_successor_killed_anywhere_leaves_what_it_found() {
    traced(0, "take-overs", || {
        let mut count = Count::default();
        let operations = [Operation::TakeOver, Operation::Publish, Operation::Close];
        for (size, room) in [(63, 16), (0, 2560), (255, 8), (MAX, 2560)] {
            let audience = if size == 255 { Audience::Lossless } else { Audience::Poller };
            let plan = Plan::of(Scenario { size, alignment: 8, audience, room, turn: 0 }, &operations);
            count.add(writers::sweep(&plan, &mut Also::default())?);
        }
        Ok(format!("{} kill points, {} different images", count.points, count.images))
    });
}

#[test]
fn a_reader_killed_anywhere_holds_nobody_up() {
    traced(1, "readers", || {
        let (mut count, mut held) = (Count::default(), 0);
        // The joins are long, and one is as another.
        let joins = [(255, false, true, 0), (64, true, false, 0)];
        let rest = SIZES.map(|size| (size.max(63), false, size % 2 == 1, 1));
        for (size, lossy, writer_sleeps, from) in joins.into_iter().chain(rest) {
            let swept = readers::sweep(readers::Scenario { size, lossy, writer_sleeps, from }, true, None)?;
            assert_eq!(swept.held > 0, !lossy, "a dead lossless reader is in the way, a lossy one never");
            count.add(swept.count);
            held += swept.held;
        }
        Ok(format!("{} kill points, {} different images, a slot to be freed in {held}", count.points, count.images))
    });
}

#[test]
fn a_reader_stopped_anywhere_while_it_is_lapped_gets_nothing_torn() {
    traced(0, "lapped readers", || {
        let lossy = laps::sweep(laps::Kind::Lossy, &laps::BURSTS)?;
        let lossless = laps::sweep(laps::Kind::Lossless, &laps::BURSTS[1..3])?;
        assert!(lossy.lagged > 0 && lossless.evicted > 0, "laps there were: {lossy:?} {lossless:?}");
        let most = lossy.instructions.max(lossless.instructions);
        assert!(most <= MOST_INSTRUCTIONS, "{most} instructions");
        // The control: a reader that does not look at `limit` is caught.
        let careless = laps::sweep(laps::Kind::Careless, &laps::BURSTS[2..3])?;
        assert!(careless.torn > 0, "a careless reader gets torn records: {careless:?}");
        Ok(format!("{lossy:?}, {lossless:?}; a careless one: {careless:?}"))
    });
}

/// Both at once: a writer that is stopped wherever it changes a word, and a reader whose calls there are counted.
#[test]
fn a_reader_beside_a_writer_stopped_anywhere_ends_every_call() {
    traced(1, "readers beside a stopped writer", || {
        let mut all = beside::Beside::default();
        for (size, alignment, audience, room, lossy) in [
            (255, 8, Audience::Poller, 264, true),
            (255, 8, Audience::Poller, 2560, false),
            (64, 64, Audience::Sleeper, 64, false),
            (MAX, 8, Audience::Poller, 2560, true),
        ] {
            all.add(beside::sweep(Scenario { size, alignment, audience, room, turn: 0 }, lossy)?);
        }
        assert!(all.records > 20 && all.empty > 20, "{all:?}");
        assert!(all.instructions <= MOST_BESIDE, "{} instructions", all.instructions);
        Ok(format!("{all:?}"))
    });
}

/// Instructions of one call that never waits, on a ring of 16 blocks: what the docs of [`Reader`](shmcast::Reader) promise. Most of
/// them are the look at all checkpoints of a reader that was lapped. (In this build, which is hardly optimised.)
const MOST_INSTRUCTIONS: u64 = 4_000;
/// Of one that is not lapped.
const MOST_BESIDE: u64 = 1_000;

#[test]
fn real_kills_leave_what_the_images_say() {
    traced(1, "real kills", || {
        let (mut writers, mut readers) = (0, 0);
        for n in 0..24 {
            let audience = [Audience::Poller, Audience::Sleeper, Audience::Lossless][n % 3];
            let plan = Plan::new(Scenario { size: SIZES[n % 9], alignment: 8, audience, room: 64, turn: n % 6 });
            let mut also = Also { kill_at: Some(37 + 131 * n as u64), ..Also::default() };
            let count = writers::sweep(&plan, &mut also)?;
            writers += u64::from(count.points == 37 + 131 * n as u64);
            let (size, from) = (SIZES[n % 9].max(8), n % readers::OPERATIONS);
            let scenario = readers::Scenario { size, lossy: n % 4 == 3, writer_sleeps: n % 2 == 0, from };
            let kill_at = 11 + 17 * n as u64;
            readers += u64::from(readers::sweep(scenario, true, Some(kill_at))?.count.points == kill_at);
        }
        // And in the middle of `open_or_create_file`.
        let mut successors = 0;
        for n in 0..8 {
            let scenario = Scenario { size: 65, alignment: 8, audience: Audience::Poller, room: 64, turn: 0 };
            let plan = Plan::of(scenario, &[Operation::TakeOver, Operation::Publish]);
            let mut also = Also { kill_at: Some(700 + 4001 * n), ..Also::default() };
            successors += u64::from(writers::sweep(&plan, &mut also)?.points == 700 + 4001 * n);
        }
        assert!(writers > 12 && readers > 12 && successors > 4, "{writers} {readers} {successors}");
        Ok(format!("{writers} of writers, {successors} of successors, {readers} of readers"))
    });
}

// ---- controls: what is broken must be found ----

fn flagged(damage: &mut dyn FnMut(&Segments, &Plan)) -> Result<u64, String> {
    let audience = Audience::Poller;
    let plan = Plan::new(Scenario { size: 255, alignment: 8, audience, room: 2560, turn: 0 });
    let mut also = Also { damage: Some(damage), ..Also::default() };
    writers::sweep(&plan, &mut also)?;
    Ok(also.flagged)
}

#[test]
fn a_recovery_that_trusts_one_head_cell_is_caught() {
    traced(0, "control, one head cell", || {
        let found = flagged(&mut |copy, _| {
            copy.ring.store(copy.layouts.0.head_cell(1), CELL_OPEN, SeqCst, Site::CellOpen);
        })?;
        assert!(found > 0);
        Ok(format!("{found} images flagged"))
    });
}

#[test]
fn a_writer_that_stores_no_zero_ahead_is_caught() {
    traced(1, "control, no zero ahead", || {
        // What stood last in each word behind a record, before the zero.
        let mut before = std::collections::HashMap::new();
        let found = flagged(&mut |copy, plan| {
            for place in &plan.places[plan.warm..] {
                let at = copy.layouts.0.data().word(place.end);
                match (copy.word(at), before.get(&at)) {
                    (0, Some(&old)) => copy.ring.store(at, old, SeqCst, Site::ZeroAhead),
                    (0, None) => {}
                    (other, _) => drop(before.insert(at, other)),
                }
            }
        })?;
        assert!(found > 0);
        Ok(format!("{found} images flagged"))
    });
}

#[test]
fn a_dead_reader_whose_slot_nobody_frees_is_caught() {
    traced(1, "control, no slot freed", || {
        let scenario = readers::Scenario { size: 255, lossy: false, writer_sleeps: false, from: 1 };
        let swept = readers::sweep(scenario, false, None)?;
        assert!(swept.flagged > 0);
        Ok(format!("{} images flagged", swept.flagged))
    });
}
