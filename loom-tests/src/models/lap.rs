//! Readers that are overtaken: torn reads are void (I1), losses are exact (I3), and the boundary from which a reader goes
//! on belongs to its sequence number (L2, L6, L7, L8, L22).

use loom::thread;
use shmcast::layout::MAX_POSITION;
use shmcast::ring::{Refused, Start};

use crate::model::{Model, World};

/// Runs a follower, which has received what was published in the prologue, against `count` more records.
fn overtake(world: &World, prologue: usize, receives: bool, count: usize, attempts: usize) {
    let mut writer = world.writer();
    let mut reader = world.follower(Start::Oldest).expect("a reader");
    let mut audit = world.audit(&reader);
    for _ in 0..prologue {
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        if receives {
            assert_eq!(audit.step(&mut reader), Ok(()));
        }
    }
    let before = audit.received;
    let receiver = thread::spawn(move || {
        audit.attempts(&mut reader, attempts);
        (reader, audit)
    });
    assert_eq!(world.publish_up_to(&mut writer, count), 0);
    let (mut reader, mut audit) = receiver.join().expect("a reader");
    if audit.received > before {
        world.saw("a record was received early");
    }
    audit.close(&mut reader, (prologue + count) as u64);
    world.saw_in(&audit);
}

/// Three records in a ring that holds one.
pub const EXACT: Model = Model {
    capacity: 32,
    preemptions: Some(2),
    must_see: &["a reader lagged", "a copy was void", "a record was received early"],
    ..Model::new("received_plus_lagged_plus_left_equals_published", &[1, 1, 1], |world| {
        overtake(&world, 1, false, 2, 2)
    })
};

/// The same where positions end.
pub const LARGE: Model = Model {
    start: MAX_POSITION - 48,
    preemptions: Some(2),
    ..Model { name: "loss_is_exact_at_the_largest_positions", body: |world| overtake(&world, 1, false, 2, 1), ..EXACT }
};

/// A reader copies two words while they are overwritten, one lap later, behind a pad.
pub const TORN: Model = Model {
    must_see: &["a copy was void", "a reader lagged", "a record was received early"],
    ..Model::new("a_reader_never_receives_a_torn_record", &[2, 2, 2], |world| overtake(&world, 2, false, 1, 2))
};

/// A reader reads a run of two records, an eighth of the ring, which are judged together, while the first is overwritten.
pub const RUN: Model = Model {
    capacity: 256,
    blocks: 16,
    preemptions: Some(2),
    must_see: &["a copy was void", "a reader lagged", "a run was received early"],
    ..Model::new("a_reader_never_receives_a_torn_run", &[1; 17], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        assert_eq!(world.publish_up_to(&mut writer, 14), 0);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            if audit.run(&mut reader, 2) == 2 {
                here.saw("a run was received early");
            }
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 3), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 17);
        world.saw_in(&audit);
    })
};

/// The writer was refused in the block in which it overwrites then: no checkpoint, and so no fence of a cell, stands between
/// `limit` and the first byte of the new lap.
pub const RESUMED: Model = Model {
    slots: 1,
    must_see: &["a copy was void", "a reader lagged", "a record was received early"],
    ..Model::new("a_writer_that_was_refused_overwrites_under_its_limit", &[2, 2, 2], |world| {
        let mut writer = world.writer();
        let mut holder = world.lossless(Start::Oldest).expect("a slot");
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        assert_eq!(world.publish_up_to(&mut writer, 3), 1, "the holder holds the writer");
        holder.leave();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 1);
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        if audit.received > 0 {
            world.saw("a record was received early");
        }
        audit.close(&mut reader, 3);
        world.saw_in(&audit);
    })
};

/// The word behind the last record holds an old payload, which looks like a record.
pub const PHANTOM: Model = Model {
    capacity: 32,
    must_see: &["a record was received early"],
    ..Model::new("an_old_payload_never_passes_for_a_record", &[1, 0, 0, 0], |world| overtake(&world, 3, true, 1, 2))
};

/// Runs a follower that was overtaken in the prologue, and so looks for a boundary, against `count` more records.
fn resync(world: &World, resume: Start, prologue: usize, count: usize) {
    let mut writer = world.writer();
    let mut reader = world.follower(Start::Oldest).expect("a reader");
    reader.set_resume(resume);
    let mut audit = world.audit(&reader);
    assert_eq!(world.publish_up_to(&mut writer, prologue), 0);
    let receiver = thread::spawn(move || {
        audit.attempts(&mut reader, 1);
        (reader, audit)
    });
    assert_eq!(world.publish_up_to(&mut writer, count), 0);
    let (mut reader, mut audit) = receiver.join().expect("a reader");
    world.saw_in(&audit);
    audit.close(&mut reader, (prologue + count) as u64);
}

/// A lapped reader takes the newer head cell while the writer rewrites both: it may find one open, and then the other one
/// must not be half written, although its old position is still valid.
pub const HEADS: Model = Model {
    blocks: 8,
    preemptions: Some(3),
    must_see: &["a reader lagged"],
    ..Model::new("a_head_cell_is_never_taken_half_written", &[1; 7], |world| resync(&world, Start::Newest, 5, 2))
};

/// A lapped reader takes the oldest checkpoint while the writer rewrites it.
pub const CHECKPOINTS: Model = Model {
    capacity: 32,
    preemptions: Some(2),
    must_see: &["a reader lagged"],
    ..Model::new("a_checkpoint_is_never_taken_half_written", &[0; 9], |world| resync(&world, Start::Oldest, 6, 2))
};

/// A lapped reader goes on from the middle.
pub const MIDDLE: Model = Model {
    name: "a_reader_that_goes_on_from_the_middle_is_told_what_it_missed",
    body: |world| resync(&world, Start::Middle, 6, 2),
    ..CHECKPOINTS
};

/// A reader has read nothing; the last record of the plan is published while it looks. The ring holds seven of these records.
const fn behind(name: &'static str, words: &'static [usize], must_see: &'static [&'static str]) -> Model {
    let body = |world: World| overtake(&world, world.plan.words.len() - 1, false, 1, 8);
    Model { must_see, preemptions: Some(3), ..Model::new(name, words, body) }
}

/// Behind by one record less than the ring holds.
pub const BEHIND_BY_LESS: Model =
    behind("who_is_behind_by_less_than_a_ring_loses_nothing", &[0; 6], &["a record was received early"]);

/// Behind by as many as it holds.
pub const BEHIND_BY_A_RING: Model =
    behind("who_is_behind_by_a_ring_is_told_exactly", &[0; 7], &["a record was received early"]);

/// Behind by one more.
pub const BEHIND_BY_MORE: Model = behind(
    "who_is_behind_by_a_record_more_than_a_ring_is_told_exactly",
    &[0; 8],
    &["a reader lagged", "a record was received early"],
);

/// Behind by twice as many.
pub const BEHIND_BY_TWO_RINGS: Model =
    behind("who_is_behind_by_two_rings_is_told_exactly", &[0; 14], &["a reader lagged", "a record was received early"]);

/// The last positions of all: then the writer is refused for ever, and its reader has everything.
pub const END: Model = Model {
    start: MAX_POSITION - 32,
    must_see: &["a record was received early"],
    ..Model::new("a_ring_ends_at_the_largest_position_and_not_before", &[1, 1, 1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 3), 0);
        for _ in 0..2 {
            assert_eq!(world.publish(&mut writer), Err(Refused::Exhausted), "it is over");
        }
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        if audit.received > 0 {
            world.saw("a record was received early");
        }
        audit.close(&mut reader, 3);
        assert_eq!((audit.received, audit.lagged), (3, 0));
    })
};

/// All of this file.
pub const ALL: &[Model] = &[
    EXACT,
    LARGE,
    TORN,
    RUN,
    RESUMED,
    PHANTOM,
    HEADS,
    CHECKPOINTS,
    MIDDLE,
    BEHIND_BY_LESS,
    BEHIND_BY_A_RING,
    BEHIND_BY_MORE,
    BEHIND_BY_TWO_RINGS,
    END,
];
