//! The other half of each proof: an access that is done wrongly makes a model fail.
//!
//! Each mutant weakens, drops, moves or redirects one access of the protocol, by its [`Site`], and is hunted by the models
//! that are about it, within their bounds. What loom cannot see, what is redundant, and what carries no order is listed
//! here with the reason; together the lists name every site.

use std::collections::BTreeSet;
use std::sync::Once;

use loom_tests::model::Model;
use loom_tests::models::{batch, claim, close, crash, lap, notify, publish, registry, semaphores, take_over};
use loom_tests::weaken::{Mutation, Segment};
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::ring::Site;

use Mutation::{Alter, Answer, Delay, Demote, Drop, Early, Redirect, Skip};

/// One mutant: what is done wrongly, the pair (or rule) that it breaks, and the models that hunt it.
struct Mutant {
    mutations: Vec<Mutation>,
    pair: &'static str,
    hunters: &'static [Model],
}

fn mutant(mutation: Mutation, pair: &'static str, hunters: &'static [Model]) -> Mutant {
    Mutant { mutations: vec![mutation], pair, hunters }
}

/// The words of the flags and limits are at the same place in every geometry.
fn layouts() -> (RingLayout, RegistryLayout) {
    let payload = PayloadType::default();
    let geometry = Geometry {
        capacity: 32,
        blocks: 2,
        alignment: 8,
        reader_slots: 2,
        start: 0,
        may_evict: false,
        waking: Waking::default(),
        payload,
    };
    (RingLayout::new(geometry, 1).expect("a geometry"), RegistryLayout::new(2, 1))
}

fn delay(store: Site, until: Site) -> Mutation {
    Delay { store, until }
}

fn skip_all(sites: &'static [Site], pair: &'static str, hunters: &'static [Model]) -> impl Iterator<Item = Mutant> {
    sites.iter().map(move |&site| mutant(Skip(site), pair, hunters))
}

/// Below the futex: orders of the fast path, of the slow path and of the cells. No model here sleeps.
fn orders() -> Vec<Mutant> {
    use Site::*;
    let (ring, _) = layouts();
    vec![
        mutant(Demote(Commit), "P1", &[publish::WHOLE]),
        mutant(Demote(Commit), "P1", &[batch::AT_ONCE]),
        mutant(Demote(PadCommit), "P1", &[claim::ABORTED]),
        mutant(Demote(Header), "P1", &[publish::WHOLE]),
        mutant(Demote(Peek), "P1", &[publish::PEEKED]),
        mutant(delay(ZeroAhead, Commit), "zero ahead", &[lap::PHANTOM]),
        mutant(delay(ZeroAhead, Commit), "zero ahead", &[batch::PHANTOM]),
        mutant(delay(WrapZero, PadCommit), "zero ahead", &[claim::ABORTED]),
        mutant(Skip(ZeroAhead), "zero ahead", &[lap::PHANTOM]),
        mutant(Skip(WrapZero), "zero ahead", &[claim::ABORTED]),
        mutant(Skip(PadCommit), "chain", &[claim::ABORTED]),
        mutant(Skip(StagedHeader), "chain", &[batch::AT_ONCE]),
        mutant(Drop(LimitFence), "P2", &[lap::RESUMED]),
        mutant(Drop(ReadFence), "P2", &[lap::TORN]),
        mutant(delay(Limit, Commit), "P2", &[lap::TORN]),
        mutant(Answer { site: LimitLook, value: 64 }, "one rule", &[lap::TORN]),
        mutant(Redirect { site: LimitLook, word: ring.announced() }, "one rule", &[registry::BACK_PRESSURE]),
        mutant(Demote(CellPosition), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(Demote(CellFirstLook), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(Drop(CellFence), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(Drop(CellLookFence), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(Skip(CellOpen), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(delay(CellSequence, CellPosition), "P6", &[lap::HEADS, lap::CHECKPOINTS]),
        mutant(Drop(AnnounceFence), "P3", &[registry::OLDEST]),
        mutant(Demote(AnnounceFence), "P3", &[registry::OLDEST]),
        mutant(Drop(JoinFence), "P3", &[registry::OLDEST]),
        mutant(Demote(JoinFence), "P3", &[registry::OLDEST]),
        mutant(delay(Announce, SlotStateLook), "P3", &[registry::OLDEST]),
        mutant(Skip(Announce), "P3", &[registry::OLDEST]),
        mutant(delay(JoinState, JoinAnnouncedLook), "P3", &[registry::OLDEST]),
        mutant(Skip(HighWaterRaise), "P3", &[registry::OLDEST]),
        mutant(Redirect { site: JoinAnnouncedLook, word: ring.limit() }, "P3", &[registry::OLDEST]),
        mutant(Alter { site: Announce, change: |to| to + 32 }, "announced bound", &[registry::CHASED]),
        mutant(Demote(JoinState), "P4", &[registry::UNOBTRUSIVE]),
        mutant(Demote(SlotStateLook), "P4", &[registry::UNOBTRUSIVE]),
        mutant(delay(JoinCursor, JoinState), "P4", &[registry::UNOBTRUSIVE]),
        mutant(Demote(LeaveState), "P12", &[registry::REUSED]),
        // Its acquire is doubled by the fence of the cell in which the joiner finds its boundary.
        Mutant { mutations: vec![Demote(SlotClaim), Drop(CellLookFence)], pair: "P12", hunters: &[registry::REUSED] },
        mutant(Demote(SlotClaim), "slot", &[registry::JOINERS]),
        mutant(Skip(LeaveState), "slot", &[registry::LEAVE]),
        mutant(Skip(Cursor), "room", &[registry::SLOWEST, notify::ROOM_AWAKE]),
        mutant(Demote(Close), "P11", &[close::READING]),
        mutant(Demote(ClosedLook), "P11", &[close::READING]),
        mutant(delay(Commit, Close), "P11", &[close::READING]),
        mutant(Answer { site: HeaderAfterClosed, value: 0 }, "closed before header", &[close::READING]),
    ]
}

/// Sleep and wake: a lost wakeup is a deadlock.
fn wakeups() -> Vec<Mutant> {
    use Site::*;
    let (_, registry_layout) = layouts();
    let sleeping = registry_layout.sleeping();
    let writer_sleeping = registry_layout.writer_sleeping();
    let mut all = vec![
        mutant(Drop(NotifyBarrier), "P7", &[notify::SLEEPER]),
        mutant(Demote(NotifyBarrier), "P7", &[notify::SLEEPER]),
        mutant(Drop(SleepBarrier), "P7", &[notify::SLEEPER]),
        mutant(Demote(SleepBarrier), "P7", &[notify::SLEEPER]),
        mutant(Answer { site: SleepHeaderLook, value: 0 }, "second look", &[notify::SLEEPER]),
        mutant(Answer { site: SleepClosedLook, value: 0 }, "second look", &[close::SLEEPING, close::SLEEPERS]),
        mutant(Demote(WakeBump), "P8", &[notify::SLEEPER, notify::SLEEPERS]),
        mutant(Demote(WakeSeen), "P8", &[notify::SLEEPER, notify::SLEEPERS]),
        mutant(delay(SleepingClear, WakeBump), "P8", &[notify::SLEEPER, notify::SLEEPERS]),
        mutant(delay(SleepingClear, WakeReaders), "P8", &[notify::SLEEPER, notify::SLEEPERS]),
        mutant(delay(WakeBump, WakeReaders), "P8", &[notify::SLEEPER]),
        mutant(
            Early { store: SleepingSet, segment: Segment::Registry, word: sleeping, value: 1, before: WakeSeen },
            "P8",
            &[notify::SLEEPER, notify::SLEEPERS],
        ),
        mutant(Drop(CursorBarrier), "P9", &[notify::ROOM]),
        mutant(Demote(CursorBarrier), "P9", &[notify::ROOM]),
        Mutant { mutations: vec![Drop(RoomBarrier), Demote(AnnounceFence)], pair: "P9", hunters: &[notify::ROOM] },
        Mutant { mutations: vec![Demote(RoomBarrier), Demote(AnnounceFence)], pair: "P9", hunters: &[notify::ROOM] },
        mutant(Demote(RoomBump), "P10", &[notify::ROOM_IN_STEPS]),
        mutant(Demote(RoomSeen), "P10", &[notify::ROOM_IN_STEPS]),
        mutant(delay(WriterSleepingClear, RoomBump), "P10", &[notify::ROOM_IN_STEPS]),
        mutant(delay(WriterSleepingClear, WakeWriter), "P10", &[notify::ROOM_IN_STEPS]),
        mutant(
            Early {
                store: WriterSleepingSet,
                segment: Segment::Registry,
                word: writer_sleeping,
                value: 1,
                before: RoomSeen,
            },
            "P10",
            &[notify::ROOM_IN_STEPS],
        ),
        mutant(delay(Commit, RoomWait), "batch before slow path", &[notify::BATCH]),
        mutant(delay(Cursor, SleepWait), "cursor when dry", &[notify::ROOM]),
        mutant(Answer { site: SleepingLook, value: 0 }, "wake", &[notify::SLEEPER]),
        mutant(Answer { site: WriterSleepingLook, value: 0 }, "wake", &[notify::ROOM]),
        mutant(Answer { site: WriterSleepingLook, value: 0 }, "wake", &[notify::LEAVER]),
    ];
    all.extend(skip_all(&[SleepingSet, WakeBump, WakeReaders], "P7", &[notify::SLEEPER]));
    all.extend(skip_all(&[WriterSleepingSet, RoomBump, WakeWriter], "P9", &[notify::ROOM]));
    all
}

const SEMAPHORE_READERS: &[Model] = &[semaphores::SLEEPER, semaphores::SLEEPERS, semaphores::SLEEPER_AGAIN];
const SEMAPHORE_WRITERS: &[Model] = &[semaphores::ROOM, semaphores::ROOM_IN_STEPS, semaphores::ROOM_AGAIN];

/// The same with semaphores: a lost token is a deadlock, and too many of them fail a model.
fn tokens() -> Vec<Mutant> {
    use Site::*;
    let (ring, registry_layout) = layouts();
    let (readers, writers) = (SEMAPHORE_READERS, SEMAPHORE_WRITERS);
    let mut all = vec![
        mutant(Drop(NotifyBarrier), "P7", readers),
        mutant(Drop(SleepBarrier), "P7, P13", readers),
        mutant(Demote(WakeBump), "P8", &[semaphores::NEWCOMER]),
        mutant(Demote(WakeSeen), "P8", &[semaphores::NEWCOMER]),
        mutant(delay(SleepingClear, WakeBump), "P8", &[semaphores::NEWCOMER]),
        mutant(delay(WakeBump, SlotSleepingLook), "P13", readers),
        mutant(Drop(PostFence), "P13", readers),
        mutant(Redirect { site: WakeLook, word: ring.closed() }, "P13", readers),
        mutant(delay(SlotSleepingSet, WakeLook), "P13", readers),
        mutant(delay(SlotSleepingClear, PostReader), "P14", readers),
        mutant(Answer { site: SlotSleepingLook, value: 0 }, "wake", readers),
        mutant(Drop(CursorBarrier), "P9", writers),
        mutant(delay(WriterSleepingClear, PostWriter), "P14", writers),
        mutant(
            Early {
                store: WriterSleepingSet,
                segment: Segment::Registry,
                word: registry_layout.writer_sleeping(),
                value: 1,
                before: WriterDrain,
            },
            "P14",
            writers,
        ),
        mutant(
            Early {
                store: SlotSleepingSet,
                segment: Segment::Registry,
                word: registry_layout.slot_sleeping(0),
                value: 1,
                before: ReaderDrain,
            },
            "P14",
            readers,
        ),
    ];
    all.extend(skip_all(&[SlotSleepingSet, SleepingSet, PostReader], "P7", readers));
    all.extend(skip_all(&[WriterSleepingSet, PostWriter], "P9", writers));
    all
}

/// A successor that forgets one thing.
fn successors() -> Vec<Mutant> {
    use Site::*;
    vec![
        mutant(Answer { site: RecoverHeader, value: 0 }, "take-over", &[take_over::READING]),
        mutant(Answer { site: RecoverLimit, value: 0 }, "take-over", &[take_over::READING]),
        mutant(Drop(RecoverFence), "P2", &[crash::FOLLOWED]),
        mutant(Skip(Reopen), "take-over", &[take_over::REOPENED]),
        mutant(Skip(EpochStore), "take-over", &[take_over::REOPENED]),
        mutant(Answer { site: EpochLook, value: 0 }, "take-over", &[take_over::REOPENED]),
        mutant(Skip(WakeBump), "take-over", &[take_over::SLEEPING]),
    ]
}

/// What no model can see, and why.
const UNSEEN: &[(Site, &str)] = &[
    (
        Site::SlotCursorLook,
        "P5: orders the reader's loads before the writer's later stores; load buffering, not in loom: `buffering.rs` hunts it",
    ),
    (Site::Cursor, "P5: as SlotCursorLook (its value is hunted here, its release in `buffering.rs`)"),
    (
        Site::RoomBarrier,
        "P9: as a full fence it is doubled by AnnounceFence, and hunted together with it; as a membarrier it is not",
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

/// The failures of the hunts, which run in threads without a name, are what the tests are after: no noise.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some() {
                loud(panic);
            }
        }));
    });
}

fn hunt(mutants: Vec<Mutant>) {
    quiet();
    let mut survivors = Vec::new();
    for Mutant { mutations, pair, hunters } in mutants {
        let name = mutations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
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
    named.extend(
        orders()
            .iter()
            .chain(&wakeups())
            .chain(&tokens())
            .chain(&successors())
            .flat_map(|mutant| &mutant.mutations)
            .map(Mutation::site),
    );
    let missing: Vec<&Site> = Site::ALL.iter().filter(|site| !named.contains(site)).collect();
    assert!(missing.is_empty(), "neither hunted nor argued: {missing:?}");
}
