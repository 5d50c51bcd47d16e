//! The table of mutants: what is done wrongly, the pair or rule that it breaks, and the models that hunt it. `tests/mutants.rs` hunts them
//! with loom, `tests/simulator.rs` by chance.

use std::sync::Once;

use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::ring::Site;

use crate::model::Model;
use crate::models::{batch, claim, close, crash, lap, notify, publish, registry, semaphores, take_over};
use crate::weaken::{Mutation, Segment};

use Mutation::{Alter, Answer, Delay, Demote, Drop, Early, Redirect, Skip};

/// One mutant: what is done wrongly, the pair (or rule) that it breaks, and the models that hunt it.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// What is done wrongly; most often one thing.
    pub mutations: Vec<Mutation>,
    /// The pair of `ring/mod.rs`, or the rule.
    pub pair: &'static str,
    /// The models that hunt it.
    pub hunters: &'static [Model],
}

impl Mutant {
    /// What is done wrongly, in words.
    #[must_use]
    pub fn name(&self) -> String {
        self.mutations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Mutant> {
    [orders(), wakeups(), tokens(), successors()].concat()
}

fn mutant(mutation: Mutation, pair: &'static str, hunters: &'static [Model]) -> Mutant {
    Mutant { mutations: vec![mutation], pair, hunters }
}

/// What loom does not see, but schedules on weak memory with interrupts do: loom's barriers are fences, and another fence stands
/// beside this one.
#[must_use]
pub fn beyond_loom() -> Vec<Mutant> {
    use Site::RoomBarrier;
    vec![mutant(Drop(RoomBarrier), "P9", &[]), mutant(Demote(RoomBarrier), "P9", &[])]
}

/// Load buffering, which neither sees: see `UNSEEN` in `tests/mutants.rs`.
#[must_use]
pub fn beyond_both() -> Vec<Mutant> {
    use Site::{Cursor, SlotCursorLook};
    vec![mutant(Demote(Cursor), "P5", &[]), mutant(Demote(SlotCursorLook), "P5", &[])]
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
#[must_use]
pub fn orders() -> Vec<Mutant> {
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
#[must_use]
pub fn wakeups() -> Vec<Mutant> {
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
#[must_use]
pub fn tokens() -> Vec<Mutant> {
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
#[must_use]
pub fn successors() -> Vec<Mutant> {
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

/// The failures of the hunts, which run in threads without a name, are what the tests are after: no noise.
pub fn quiet() {
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
