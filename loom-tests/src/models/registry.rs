//! Lossless readers: join during publish, back-pressure, leave, slots (I2; L13 to L17).
//!
//! In all of these but [`EVICTED`], [`Audit`](crate::audit::Audit) panics if a lossless reader is evicted: nobody is, there.

use loom::thread;
use shmcast::ring::{JoinError, Start, Stop};

use crate::model::{Model, World};

/// Joins while `count` records are published behind a prologue, and reads on from there to the end.
fn join_during(world: &World, start: Start, prologue: usize, count: usize, attempts: usize) {
    let mut writer = world.writer();
    assert_eq!(world.publish_up_to(&mut writer, prologue), 0);
    let here = world.clone();
    let joiner = thread::spawn(move || {
        let mut reader = here.lossless(start).expect("a slot, and a boundary");
        let mut audit = here.audit(&reader);
        audit.attempts(&mut reader, attempts);
        (reader, audit)
    });
    let refused = world.publish_up_to(&mut writer, count);
    let (mut reader, mut audit) = joiner.join().expect("a reader");
    let published = writer.sequence();
    world.saw(if refused > 0 { "the joiner held the writer back" } else { "the writer was not held back" });
    let late = audit.received == 0 && reader.sequence() == published;
    world.saw(if late { "a reader joined late" } else { "a reader joined early" });
    audit.close(&mut reader, published);
}

/// Store buffering (P3): a reader joins at the oldest record while the writer's next step would overwrite it.
pub const OLDEST: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(2),
    must_see: &["the joiner held the writer back", "the writer was not held back"],
    ..Model::new("a_reader_that_joins_at_the_oldest_record_misses_nothing", &[1, 1, 1], |world| {
        join_during(&world, Start::Oldest, 1, 2, 1);
    })
};

/// As above, at the newest record.
pub const NEWEST: Model = Model {
    slots: 1,
    preemptions: Some(2),
    must_see: &["a reader joined late", "a reader joined early"],
    ..Model::new("a_reader_that_joins_at_the_newest_record_misses_nothing", &[1, 1, 1, 1], |world| {
        join_during(&world, Start::Newest, 2, 2, 1);
    })
};

/// The writer overtakes the joiner, which must find another boundary: there always is one.
pub const CHASED: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(2),
    must_see: &["the writer was not held back", "a reader joined early"],
    ..Model::new("there_is_always_a_boundary_to_join_at", &[0; 8], |world| join_during(&world, Start::Oldest, 5, 2, 1))
};

/// Whoever joins at the newest record needs no room that the writer needs now: the writer sees the new slot with its own
/// cursor, not with what stood there before.
pub const UNOBTRUSIVE: Model = Model {
    blocks: 8,
    slots: 1,
    preemptions: Some(3),
    must_see: &["a reader joined late", "a reader joined early"],
    ..Model::new("a_reader_that_joins_at_the_newest_record_refuses_nothing", &[1, 1, 3], |world| {
        let mut writer = world.writer();
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let here = world.clone();
        let joiner = thread::spawn(move || {
            let reader = here.lossless(Start::Newest).expect("a slot, and a boundary");
            here.saw(if reader.sequence() > 2 { "a reader joined late" } else { "a reader joined early" });
        });
        assert_eq!(world.publish_up_to(&mut writer, 1), 0, "refused");
        joiner.join().expect("a reader");
    })
};

/// A lossless reader that is slow: the writer waits, and never overwrites what is unread.
pub const BACK_PRESSURE: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(3),
    must_see: &["the writer was refused", "the writer went on"],
    ..Model::new("the_writer_never_overwrites_what_a_lossless_reader_has_not_read", &[1, 1, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        let mut audit = world.audit(&reader);
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 3);
            (reader, audit)
        });
        for _ in 0..4 {
            if writer.sequence() == 3 {
                world.saw("the writer went on");
            } else if world.publish_up_to(&mut writer, 1) > 0 {
                world.saw("the writer was refused");
            }
        }
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, writer.sequence());
    })
};

/// Two readers, one slow: the slowest cursor counts.
pub const SLOWEST: Model = Model {
    capacity: 32,
    slots: 2,
    threads: 2,
    preemptions: Some(3),
    must_see: &["the writer was refused", "the writer was not refused"],
    ..Model::new("the_slowest_lossless_reader_holds_the_writer", &[1, 1], |world| {
        let mut writer = world.writer();
        let mut slow = world.lossless(Start::Oldest).expect("a slot");
        let mut slow_audit = world.audit(&slow);
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        let mut audit = world.audit(&reader);
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let receivers = [
            thread::spawn(move || {
                audit.attempts(&mut reader, 2);
                (reader, audit)
            }),
            thread::spawn(move || {
                slow_audit.attempts(&mut slow, 1);
                (slow, slow_audit)
            }),
        ];
        let refused = world.publish_up_to(&mut writer, 1);
        world.saw(if refused > 0 { "the writer was refused" } else { "the writer was not refused" });
        for receiver in receivers {
            let (mut reader, mut audit) = receiver.join().expect("a reader");
            audit.close(&mut reader, writer.sequence());
        }
    })
};

/// A reader moves its cursor and leaves; another takes its slot at an older record. Then the writer looks (P12): the new
/// cursor counts, not the old one. The new owner's thread is the writer's, so that nothing but the slot orders the two.
pub const REUSED: Model = Model {
    capacity: 32,
    slots: 1,
    must_see: &["the slot was taken over", "the slot was not free yet"],
    ..Model::new("a_slot_that_changes_hands_holds_the_writer_for_its_new_owner", &[1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        let mut audit = world.audit(&reader);
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let leaver = thread::spawn(move || {
            audit.attempts(&mut reader, 1);
            reader.leave();
        });
        match world.lossless(Start::Oldest) {
            Ok(mut reader) => {
                world.saw("the slot was taken over");
                let mut audit = world.audit(&reader);
                world.publish_up_to(&mut writer, 1);
                audit.close(&mut reader, writer.sequence());
            }
            Err(error) => {
                assert_eq!(error, JoinError::NoFreeSlot);
                world.saw("the slot was not free yet");
            }
        }
        leaver.join().expect("a reader");
    })
};

/// Two readers join at once: each has a slot of its own.
pub const JOINERS: Model = Model {
    slots: 2,
    threads: 2,
    preemptions: Some(2),
    must_see: &["a reader was refused"],
    ..Model::new("two_readers_never_share_a_slot", &[1], |world| {
        let writer = world.writer();
        let joiners = [0, 1].map(|_| {
            let here = world.clone();
            thread::spawn(move || here.lossless(Start::Newest).expect("a slot"))
        });
        let readers = joiners.map(|joiner| joiner.join().expect("a reader"));
        assert_eq!(writer.reader_count(), 2, "readers that hold a slot");
        if world.lossless(Start::Newest).is_err() {
            world.saw("a reader was refused");
        }
        drop(readers);
    })
};

/// A reader leaves without having read: the writer may go on.
pub const LEAVE: Model = Model {
    capacity: 32,
    slots: 1,
    must_see: &["the writer was refused", "the writer was not refused"],
    ..Model::new("a_reader_that_leaves_holds_nobody", &[1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let leaver = thread::spawn(move || reader.leave());
        let refused = world.publish_up_to(&mut writer, 1);
        world.saw(if refused > 0 { "the writer was refused" } else { "the writer was not refused" });
        leaver.join().expect("a reader");
        assert_eq!(world.publish_up_to(&mut writer, refused), 0);
    })
};

/// A reader that was passed over rejoins while the writer goes on: at its next record, or behind what that costs.
pub const REJOINED: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(2),
    must_see: &[
        "the reader held the writer back",
        "the writer was not held back",
        "it cost nothing",
        "it cost records",
    ],
    ..Model::new("a_reader_that_rejoins_misses_nothing_from_there_on", &[0; 12], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        assert_eq!(world.publish_up_to(&mut writer, 4), 1, "it holds the writer back");
        writer.pass_over(writer.blocker().expect("the reader"));
        assert_eq!(world.publish_up_to(&mut writer, 2), 0, "and holds it no more");
        let evicted = reader.read(|_| ()).map(|_| ());
        assert_eq!(evicted, Err(Stop::Evicted { lost: reader.sequence() }));
        let here = world.clone();
        let rejoiner = thread::spawn(move || {
            let lost = reader.rejoin().expect("a boundary");
            here.saw(if lost > 0 { "it cost records" } else { "it cost nothing" });
            let mut audit = here.audit(&reader);
            audit.attempts(&mut reader, 1);
            (reader, audit)
        });
        let refused = world.publish_up_to(&mut writer, 4);
        world.saw(if refused > 0 { "the reader held the writer back" } else { "the writer was not held back" });
        let (mut reader, mut audit) = rejoiner.join().expect("a reader");
        audit.close(&mut reader, writer.sequence());
    })
};

/// Two readers want the one slot: one gets it, and its cursor is its own.
pub const ONE_SLOT: Model = Model {
    slots: 1,
    threads: 2,
    preemptions: Some(3),
    must_see: &["the first came first", "the second came first"],
    ..Model::new("two_readers_never_get_the_same_slot", &[1, 1], |world| {
        let mut writer = world.writer();
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let joiners = [Start::Oldest, Start::Newest].map(|start| {
            let here = world.clone();
            thread::spawn(move || here.lossless(start))
        });
        let joined = joiners.map(|joiner| joiner.join().expect("no panic"));
        assert_eq!(writer.reader_count(), 1, "readers that hold the slot");
        let mut reader = match joined {
            [Ok(reader), Err(JoinError::NoFreeSlot)] => {
                world.saw("the first came first");
                reader
            }
            [Err(JoinError::NoFreeSlot), Ok(reader)] => {
                world.saw("the second came first");
                reader
            }
            other => panic!("{other:?}"),
        };
        let mut audit = world.audit(&reader);
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        audit.close(&mut reader, writer.sequence());
    })
};

/// A lossy reader joins while it is overtaken: from where it stands, its books are right.
pub const LOSSY: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(1),
    must_see: &["a reader lagged", "a record was received"],
    ..Model::new("a_lossy_reader_counts_exactly_from_where_it_joined", &[1, 0, 1, 0], |world| {
        let mut writer = world.writer();
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let here = world.clone();
        let joiner = thread::spawn(move || {
            let mut reader = here.lossy(Start::Oldest).expect("a boundary");
            let mut audit = here.audit(&reader);
            audit.attempts(&mut reader, 1);
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0, "a lossy reader holds nobody");
        let (mut reader, mut audit) = joiner.join().expect("a reader");
        audit.close(&mut reader, 4);
        world.saw_in(&audit);
    })
};

/// A lossless and a lossy reader of one ring: the one holds the writer, and neither is in the other's way.
pub const BESIDE: Model = Model {
    capacity: 32,
    slots: 1,
    threads: 2,
    preemptions: Some(2),
    must_see: &["the writer was refused", "the writer was not refused"],
    ..Model::new("a_lossy_reader_beside_a_lossless_one_misses_nothing_either", &[1, 1, 0], |world| {
        let mut writer = world.writer();
        let mut lossless = world.lossless(Start::Oldest).expect("a slot");
        let mut lossy = world.follower(Start::Oldest).expect("a reader");
        let (mut books, mut lossy_books) = (world.audit(&lossless), world.audit(&lossy));
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let receivers = [
            thread::spawn(move || {
                books.attempts(&mut lossless, 1);
                (lossless, books)
            }),
            thread::spawn(move || {
                lossy_books.attempts(&mut lossy, 1);
                (lossy, lossy_books)
            }),
        ];
        let refused = world.publish_up_to(&mut writer, 1);
        world.saw(if refused > 0 { "the writer was refused" } else { "the writer was not refused" });
        let mut lagged = Vec::new();
        for receiver in receivers {
            let (mut reader, mut audit) = receiver.join().expect("a reader");
            audit.close(&mut reader, writer.sequence());
            lagged.push(audit.lagged);
        }
        assert_eq!(lagged[0], 0, "records that the lossless one missed");
    })
};

/// The writer goes on without a reader that stalls, which reads at that very moment (L16): it has read on in time, or is told
/// exactly what it lost, once.
pub const EVICTED: Model = Model {
    capacity: 32,
    slots: 1,
    preemptions: Some(2),
    must_see: &["it was evicted", "it read on in time"],
    ..Model::new("a_reader_that_is_passed_over_is_told_exactly", &[0; 8], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a slot");
        let mut audit = world.audit(&reader);
        audit.may_be_evicted = true;
        assert_eq!(world.publish_up_to(&mut writer, 4), 1, "it holds the writer back");
        let blocker = writer.blocker().expect("the reader");
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            (reader, audit)
        });
        writer.pass_over(blocker);
        world.publish_up_to(&mut writer, 2);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, writer.sequence());
        assert_eq!(audit.evicted, !reader.is_lossless(), "who is lossy was told");
        assert_eq!(audit.evicted, audit.lagged > 0, "who lost was told");
        world.saw(if audit.evicted { "it was evicted" } else { "it read on in time" });
    })
};

/// All of this file.
pub const ALL: &[Model] = &[
    OLDEST,
    NEWEST,
    CHASED,
    UNOBTRUSIVE,
    BACK_PRESSURE,
    SLOWEST,
    REUSED,
    JOINERS,
    LEAVE,
    REJOINED,
    ONE_SLOT,
    LOSSY,
    BESIDE,
    EVICTED,
];
