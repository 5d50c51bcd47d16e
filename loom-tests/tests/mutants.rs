//! The other half of each proof: an access that is done wrongly makes a model fail.
//!
//! Each mutant weakens, drops, moves or redirects one access of the protocol, by its [`Site`], and is hunted by the models
//! that are about it, within their bounds. What loom cannot see, what is redundant, and what carries no order is listed
//! here with the reason; together the lists name every site.

use std::collections::BTreeSet;

use loom_tests::mutants::{Mutant, all, orders, quiet, successors, tokens, wakeups};
use loom_tests::weaken::Mutation;
use shmcast::ring::Site;

/// What no model can see, and why.
const UNSEEN: &[(Site, &str)] = &[
    (
        Site::SlotCursorLook,
        "P5: orders the reader's loads before the writer's later stores; load buffering, not in loom: `buffering.rs` hunts it",
    ),
    (Site::Cursor, "P5: as SlotCursorLook (its value is hunted here, its release in `buffering.rs`)"),
    (
        Site::RoomBarrier,
        "P9: as a full fence it is doubled by AnnounceFence, and hunted together with it; as a membarrier it is not, and `simulator.rs` hunts it",
    ),
    (Site::RoomWait, "the sleep itself: without it the writer polls, and nothing but time is lost"),
    (Site::SleepWait, "the sleep itself: as RoomWait"),
    (Site::ReaderDrain, "that tokens add up without it takes more sleeps than a model has: `counts.rs` hunts it"),
    (Site::WriterDrain, "as ReaderDrain"),
    (Site::WriterTake, "the sleep itself: as RoomWait"),
    (Site::ReaderTake, "the sleep itself: as RoomWait"),
    (
        Site::RecoverWake,
        "a value that sleepers have seen before costs one of them a slice, if it comes between its look and its sleep",
    ),
];

/// What carries no order, or is redundant, and why.
const UNORDERED: &[(Site, &str)] = &[
    (
        Site::SleepHeaderLook,
        "its acquire is redundant: the receive that follows loads the header again (its value is hunted)",
    ),
    (
        Site::SleepClosedLook,
        "its acquire is redundant: the receive that follows loads `closed` again (its value is hunted)",
    ),
    (
        Site::HeaderAfterClosed,
        "its acquire is redundant: `closed` was acquired, so every commit is visible (its value is hunted)",
    ),
    (Site::CellSequenceLook, "relaxed: judged by the second look"),
    (Site::CellSecondLook, "relaxed: ordered by the fence before it"),
    (Site::HighWaterLook, "relaxed: ordered by AnnounceFence"),
    (Site::ModeStore, "relaxed: a stale mode costs a slice; models have one mode"),
    (Site::ModeLook, "relaxed: as ModeStore"),
    (Site::SlotReap, "the end of the slot's owner is an edge of its own, by its lock (`crash.rs` hunts its value)"),
    (
        Site::RollCallSet,
        "relaxed: a hint, which tells the writer a block earlier who left (`tests/hostile` sees its value)",
    ),
    (Site::RollCallLook, "relaxed: as RollCallSet"),
    (Site::RollCallTell, "relaxed: as RollCallSet"),
    (Site::SleepLimitLook, "relaxed: a hint, the receive that follows judges"),
];

#[test]
fn every_weakened_order_makes_a_model_fail() {
    hunt(orders());
}

#[test]
fn every_weakened_wakeup_makes_a_model_fail() {
    hunt(wakeups());
}

#[test]
fn every_weakened_token_makes_a_model_fail() {
    hunt(tokens());
}

#[test]
fn every_step_of_a_take_over_counts() {
    hunt(successors());
}

fn hunt(mutants: Vec<Mutant>) {
    quiet();
    let mut survivors = Vec::new();
    for mutant in mutants {
        let name = mutant.name();
        let Mutant { mutations, pair, hunters } = mutant;
        let mut executions = 0;
        let killer = hunters.iter().find_map(|model| {
            let verdict = model.hunt(&mutations);
            executions += verdict.executions;
            verdict.killed.map(|why| (model.name, why))
        });
        let (killer, why) = killer.unwrap_or_else(|| {
            survivors.push(name.clone());
            ("SURVIVED", String::new())
        });
        let why = why.lines().next().unwrap_or_default().chars().take(60).collect::<String>();
        println!("{name:<45} | {pair:<20} | {killer:<62} | {executions:>7} | {why}");
    }
    assert!(survivors.is_empty(), "survived: {survivors:?}");
}

#[test]
fn every_site_is_hunted_or_argued() {
    for (site, reason) in UNSEEN.iter().chain(UNORDERED) {
        println!("{site:?} | {reason}");
    }
    let mut named: BTreeSet<Site> = UNSEEN.iter().chain(UNORDERED).map(|(site, _)| *site).collect();
    named.extend(all().iter().flat_map(|mutant| &mutant.mutations).map(Mutation::site));
    let missing: Vec<&Site> = Site::ALL.iter().filter(|site| !named.contains(site)).collect();
    assert!(missing.is_empty(), "neither hunted nor argued: {missing:?}");
}
