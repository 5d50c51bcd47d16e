//! Seeded schedules of many parties and many laps, on weak memory: see [`loom_tests::simulator`].
//!
//! A million of them: `cargo run --release -p loom-tests --bin simulate` (`-- --from SEED --seeds N` plays others, or one again);
//! the mutants with more of them: `... --bin simulate -- --mutants 200000`.

use loom_tests::mutants;
use loom_tests::simulator::{Simulator, hunt};

/// Schedules that are played here.
const SEEDS: u64 = 20_000;
/// Schedules in which a mutant is hunted here.
const HUNT: u64 = 2_000;

/// What schedules do not find, or seldom, and why.
const UNSEEN: &[(&str, &str)] = &[
    ("demote JoinState", "P4: an old cursor in a new slot refuses the writer once too often, and it asks again"),
    ("demote SlotStateLook", "P4: as above"),
    ("JoinCursor after JoinState", "P4: as above"),
    (
        "demote LeaveState",
        "P12: a slot must change hands between two that nothing else has ordered, towards an older record",
    ),
    ("demote Cursor", "P5: load buffering, a load that sees a store which comes later: not in this model, either"),
    ("demote SlotCursorLook", "P5: as above"),
    (
        "drop RecoverFence",
        "P2: a writer must die right behind `limit`, and a reader read what its successor overwrites first",
    ),
    ("drop CellFence", "P6: a cell must be rewritten while one reads it: once in 10,000 schedules"),
    ("drop CellLookFence", "P6: as above"),
    ("skip CellOpen", "P6: as above; once in 1,000"),
];

#[test]
fn nothing_is_torn_lost_or_reordered_and_nobody_sleeps_in_vain() {
    let mut simulator = Simulator::new(&[]);
    for seed in 0..SEEDS {
        if let Err(why) = simulator.play(seed) {
            panic!("{why}\nagain: cargo run --release -p loom-tests --bin simulate -- --from {seed} --seeds 1");
        }
    }
    let tally = simulator.tally();
    println!("{tally}");
    let all = [
        tally.stale_loads,
        tally.early_stores,
        tally.laps,
        tally.lost,
        tally.void,
        tally.leaves,
        tally.evictions,
        tally.rejoins,
        tally.woken,
        tally.slices,
        tally.rests,
        tally.writers_killed,
        tally.readers_killed,
        tally.killed_asleep,
        tally.take_overs,
    ];
    assert!(all.iter().all(|&count| count > SEEDS / 200), "something hardly happened: {tally:?}");
}

#[test]
fn a_seed_plays_the_same_schedule_again() {
    let play = |seed| {
        let mut simulator = Simulator::new(&[]);
        simulator.play(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        *simulator.tally()
    };
    let mut others = Simulator::new(&[]);
    for seed in 0..50 {
        let before = *others.tally();
        others.play(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let mut both = before;
        both += play(seed);
        assert_eq!(both, *others.tally(), "seed {seed}, behind others and alone");
    }
}

/// The table, and so that the test above can fail.
#[test]
fn schedules_find_what_is_done_wrongly() {
    mutants::quiet();
    let (mut unseen, mut seen) = (Vec::new(), 0);
    let mutants = [mutants::all(), mutants::beyond_loom(), mutants::beyond_both()].concat();
    for mutant in &mutants {
        let name = mutant.name();
        let found = hunt(&mutant.mutations, HUNT);
        let (count, why) =
            found.as_ref().map_or((0, "not seen"), |(count, why)| (*count, why.lines().next().unwrap_or("")));
        println!("{name:<50} | {:<22} | {count:>7} | {}", mutant.pair, why.chars().take(60).collect::<String>());
        seen += usize::from(found.is_some());
        if found.is_none() && !UNSEEN.iter().any(|(known, _)| *known == name) {
            unseen.push(name);
        }
    }
    println!("{seen} of {} seen", mutants.len());
    for (name, reason) in UNSEEN {
        println!("not, or seldom: {name} | {reason}");
    }
    assert!(unseen.is_empty(), "not seen: {unseen:?}");
}
