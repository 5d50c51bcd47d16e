//! Batches: a prefix, in order, all at once (L24).

use loom::thread;
use shmcast::ring::{Refused, Start, Stop, Writer};

use crate::model::{Model, Seam, World};

/// Stages the next record of the plan.
pub(super) fn stage(world: &World, writer: &mut Writer<Seam>) -> Result<u64, Refused> {
    let payload = world.plan.payload(writer.sequence());
    writer.stage(&payload)
}

/// Three records in one batch: whoever sees the first sees all.
pub const AT_ONCE: Model = Model {
    must_see: &["a batch was received early", "a reader came too early"],
    ..Model::new("a_batch_appears_at_once", &[1, 0, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            if audit.step(&mut reader) == Ok(()) {
                here.saw("a batch was received early");
                assert_eq!(audit.step(&mut reader), Ok(()), "the second record");
                assert_eq!(audit.step(&mut reader), Ok(()), "the third record");
                assert_eq!(audit.step(&mut reader), Err(Stop::Empty));
            } else {
                here.saw("a reader came too early");
            }
            (reader, audit)
        });
        for _ in 0..3 {
            stage(&world, &mut writer).expect("room");
        }
        writer.flush();
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 3);
    })
};

/// The same, staged and received in runs: who sees the first sees all, and one that comes later sees it in the next run.
pub const RUNS: Model = Model {
    capacity: 256,
    must_see: &["a run was received early", "a reader came too early"],
    ..Model::new("a_run_of_a_batch_is_received_whole", &[1, 1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            match audit.run(&mut reader, 3) {
                0 => here.saw("a reader came too early"),
                count => {
                    assert!(count >= 2, "the batch appears at once");
                    here.saw("a run was received early");
                }
            }
            (reader, audit)
        });
        // The first one needs the slow path.
        stage(&world, &mut writer).expect("room");
        let payload = world.plan.payload(writer.sequence());
        assert_eq!(writer.stage_run(payload.len(), [&payload[..]].into_iter()), 1);
        writer.flush();
        stage(&world, &mut writer).expect("room");
        writer.flush();
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 3);
    })
};

/// A batch that ends before a word which holds an old payload, one lap later.
pub const PHANTOM: Model = Model {
    capacity: 32,
    must_see: &["a record was received early"],
    ..Model::new("no_old_payload_follows_a_batch", &[1, 0, 0, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        for _ in 0..3 {
            assert_eq!(world.publish_up_to(&mut writer, 1), 0);
            assert_eq!(audit.step(&mut reader), Ok(()));
        }
        let here = world.clone();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            if audit.received > 3 {
                here.saw("a record was received early");
            }
            (reader, audit)
        });
        stage(&world, &mut writer).expect("room");
        writer.flush();
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 4);
    })
};

/// A batch longer than the ring: each slow path commits what was staged before it.
pub const LONG: Model = Model {
    capacity: 32,
    preemptions: Some(3),
    must_see: &["a reader lagged", "a record was received early"],
    ..Model::new("a_batch_longer_than_the_ring_is_received_as_prefixes", &[1, 0, 0, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            if audit.received > 0 {
                here.saw("a record was received early");
            }
            (reader, audit)
        });
        for _ in 0..4 {
            stage(&world, &mut writer).expect("room");
        }
        writer.flush();
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 4);
        world.saw_in(&audit);
    })
};

/// A batch that a lossless reader holds up: what was staged before is there for it.
pub const HELD_UP: Model = Model {
    capacity: 32,
    slots: 1,
    must_see: &["a batch was held up"],
    ..Model::new("a_batch_that_finds_no_room_has_committed_what_it_staged", &[1, 1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            (reader, audit)
        });
        let mut staged = 0;
        while staged < 3 && stage(&world, &mut writer).is_ok() {
            staged += 1;
        }
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        if staged < 3 {
            world.saw("a batch was held up");
        } else {
            writer.flush();
        }
        audit.close(&mut reader, staged);
    })
};

/// Whoever only looks how far the ring is sees nothing of a batch, or all of it.
pub const OBSERVED: Model = Model {
    must_see: &["nothing was there", "the batch was there"],
    ..Model::new("an_observer_sees_a_batch_at_once", &[1, 0, 0], |world| {
        let mut writer = world.writer();
        let observer = world.follower(Start::Oldest).expect("a reader");
        let here = world.clone();
        let looking = thread::spawn(move || {
            match observer.lag() {
                0 => here.saw("nothing was there"),
                lag => {
                    assert_eq!((lag, observer.lag()), (3, 3), "records that are there");
                    here.saw("the batch was there");
                }
            }
            observer
        });
        for _ in 0..3 {
            stage(&world, &mut writer).expect("room");
        }
        writer.flush();
        let observer = looking.join().expect("an observer");
        assert_eq!(observer.lag(), 3, "records that are there in the end");
    })
};

/// All of this file.
pub const ALL: &[Model] = &[AT_ONCE, RUNS, PHANTOM, LONG, HELD_UP, OBSERVED];
