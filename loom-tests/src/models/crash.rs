//! A party dies behind each of its stores while the others go on, and then somebody goes on in its place (I4, I5; L12). The
//! mortal party is [`World::life`](crate::model::World)'s; its model is explored once for each of its stores.
//!
//! That a process has ended is an edge of its own (its lock), which these models have as the join of its thread, or as the
//! order of the first thread. Where the slices alone help, because a killed reader has cleared the writer's flag and has not
//! woken it, there is nothing to model without time: `tests/wake.rs` and `tests/crashes.rs` have it, with real kills.

use loom::thread;
use shmcast::ring::{Reader, Refused, Start, Stop, Writer};

use super::batch::stage;
use crate::audit::Audit;
use crate::memory::Waiting;
use crate::model::{Model, SLICE, Seam, World};

/// The mortal writer publishes one record, and two in a batch, for as long as it lives. A successor publishes the rest of the
/// plan, as far as there is room. Answers how many records there are in the end.
fn die_and_carry_on(world: &World) -> u64 {
    let mut writer = world.mortal_writer();
    let mut acknowledged = 0;
    if world.publish(&mut writer).is_ok() && !world.life.is_over() {
        acknowledged = writer.sequence();
        let staged = stage(world, &mut writer).is_ok() && stage(world, &mut writer).is_ok();
        writer.flush();
        if staged && !world.life.is_over() {
            acknowledged = writer.sequence();
        }
    }
    let (at_most, _) = (writer.sequence(), world.note_death());
    let mut successor = world.take_over();
    let recovered = successor.sequence();
    assert!((acknowledged..=at_most).contains(&recovered), "{recovered} of {acknowledged} to {at_most}");
    let rest = world.plan.words.len() as u64 - recovered;
    world.publish_up_to(&mut successor, rest as usize);
    successor.sequence()
}

/// Runs a reader, which receives up to `attempts` times meanwhile, against that.
fn beside_a_dying_writer(world: &World, mut reader: Reader<Seam>, attempts: usize) -> Audit {
    let mut audit = world.audit(&reader);
    let receiver = thread::spawn(move || {
        audit.attempts(&mut reader, attempts);
        (reader, audit)
    });
    let published = die_and_carry_on(world);
    let (mut reader, mut audit) = receiver.join().expect("a reader");
    if audit.received > 0 {
        world.saw("a record was received early");
    }
    audit.close(&mut reader, published);
    audit
}

/// A follower is overtaken by a writer that dies, or by its successor.
pub const FOLLOWED: Model = Model {
    capacity: 32,
    deaths: true,
    preemptions: Some(2),
    must_see: &["a record was received early", "a reader lagged"],
    ..Model::new("a_follower_counts_exactly_whatever_store_the_writer_dies_behind", &[1, 0, 0, 1], |world| {
        let reader = world.follower(Start::Oldest).expect("a reader");
        let audit = beside_a_dying_writer(&world, reader, 1);
        world.saw_in(&audit);
    })
};

/// A lossless reader holds the successor as it held the dead writer.
pub const HELD: Model = Model {
    slots: 1,
    deaths: true,
    preemptions: Some(2),
    must_see: &["a record was received early"],
    ..Model::new("a_lossless_reader_misses_nothing_whatever_store_the_writer_dies_behind", &[1, 0, 1, 1, 0], |world| {
        let reader = world.lossless(Start::Oldest).expect("a slot");
        let audit = beside_a_dying_writer(&world, reader, 2);
        assert_eq!(audit.lagged, 0, "records that it missed");
    })
};

/// A writer dies behind any store of a take-over, and of what it publishes then.
pub const SUCCESSOR: Model = Model {
    deaths: true,
    preemptions: Some(2),
    must_see: &["a record was received early"],
    ..Model::new("a_follower_counts_exactly_whatever_store_a_successor_dies_behind", &[1, 0, 1], |world| {
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            (reader, audit)
        });
        let mut writer = world.writer();
        world.publish(&mut writer).expect("room");
        let mut dying = world.mortal_successor();
        let _ = world.publish(&mut dying);
        let _ = world.note_death();
        let mut last = world.take_over();
        assert!((1..=2).contains(&last.sequence()), "{} records", last.sequence());
        let rest = 3 - last.sequence();
        assert_eq!(world.publish_up_to(&mut last, rest as usize), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        if audit.received > 0 {
            world.saw("a record was received early");
        }
        audit.close(&mut reader, 3);
    })
};

/// A lossless reader dies while it joins, reads or leaves; the writer clears its slot away, and another one takes it.
pub const READER: Model = Model {
    capacity: 32,
    slots: 1,
    deaths: true,
    preemptions: Some(2),
    must_see: &["the dead reader held the writer back"],
    ..Model::new("a_reader_holds_nobody_whatever_store_it_dies_behind", &[1, 0, 1, 0], |world| {
        let mut writer = world.writer();
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let here = world.clone();
        let dying = thread::spawn(move || {
            let Ok(mut reader) = here.mortal_lossless(Start::Oldest) else { return };
            if !here.life.is_over() {
                let mut audit = here.audit(&reader);
                while !here.life.is_over() && audit.step(&mut reader).is_ok() {}
                reader.leave();
            }
        });
        let refused = world.publish_up_to(&mut writer, 2);
        dying.join().expect("a reader");
        let died = world.note_death();
        if died && refused > 0 {
            world.saw("the dead reader held the writer back");
        }
        if died {
            writer.reap(0);
        }
        assert_eq!(writer.reader_count(), 0, "readers");
        assert_eq!(world.publish_up_to(&mut writer, refused), 0, "room");
        let mut heir = world.lossless(Start::Oldest).expect("the slot");
        let mut audit = world.audit(&heir);
        world.publish_up_to(&mut writer, 1);
        audit.close(&mut heir, writer.sequence());
    })
};

/// Receives one record, and parks until it is there; answers whether it came.
fn wait_for_one(world: &World, mut reader: Reader<Seam>, mortal: bool) -> bool {
    let mut audit = world.audit(&reader);
    while !(mortal && world.life.is_over()) {
        match audit.step(&mut reader) {
            Ok(()) => return true,
            Err(Stop::Empty) => {
                reader.park(SLICE);
            }
            Err(stop) => panic!("{stop:?}"),
        }
    }
    false
}

/// Two readers wait for a record, and one of them dies behind any store of its way to sleep (L12).
pub const SLEEPER: Model = Model {
    slots: 2,
    waiting: Waiting::Sleeps,
    deaths: true,
    threads: 2,
    preemptions: Some(2),
    ..Model::new("a_reader_is_woken_whatever_store_another_sleeper_dies_behind", &[0], |world| {
        let mut writer = world.writer();
        // The flags of the one must not hide the other.
        let dying = world.mortal_lossy(Start::Oldest).expect("a reader");
        let reader = world.lossy(Start::Oldest).expect("a reader");
        let (here, there) = (world.clone(), world.clone());
        let dying = thread::spawn(move || (here.life.is_over()) || wait_for_one(&here, dying, true));
        let other = thread::spawn(move || wait_for_one(&there, reader, false));
        world.publish(&mut writer).expect("room");
        dying.join().expect("a reader");
        assert!(other.join().expect("a reader"));
        let _ = world.note_death();
    })
};

/// A writer dies behind any store of a publish while a reader goes to sleep for its record: between the flag and the wake,
/// too. Its successor owes the wake.
pub const WAKER: Model = Model {
    waiting: Waiting::Sleeps,
    deaths: true,
    preemptions: Some(2),
    ..Model::new("a_reader_that_sleeps_is_woken_whatever_store_the_writer_dies_behind", &[0], |world| {
        let reader = world.lossy(Start::Oldest).expect("a reader");
        let here = world.clone();
        let receiver = thread::spawn(move || wait_for_one(&here, reader, false));
        let mut writer = world.mortal_writer();
        let _ = world.publish(&mut writer);
        let _ = world.note_death();
        let mut successor = world.take_over();
        if successor.sequence() == 0 {
            world.publish(&mut successor).expect("room");
        }
        assert!(receiver.join().expect("a reader"));
    })
};

/// Parks until the ring is closed.
fn until_closed(world: &World, mut reader: Reader<Seam>) {
    let mut audit = world.audit(&reader);
    loop {
        match audit.step(&mut reader) {
            Err(Stop::Empty) => {
                reader.park(SLICE);
            }
            stop => return assert_eq!(stop, Err(Stop::Closed)),
        }
    }
}

/// A writer dies behind any store of a close; its successor closes the ring.
pub const CLOSER: Model = Model {
    waiting: Waiting::Sleeps,
    deaths: true,
    preemptions: Some(2),
    ..Model::new("a_reader_learns_of_the_close_whatever_store_the_writer_dies_behind", &[], |world| {
        let reader = world.lossy(Start::Oldest).expect("a reader");
        let here = world.clone();
        let receiver = thread::spawn(move || until_closed(&here, reader));
        let mut writer: Writer<Seam> = world.mortal_writer();
        writer.close();
        if world.note_death() {
            let mut successor = world.take_over();
            successor.close();
            assert_eq!(successor.try_publish(&[]), Err(Refused::Closed));
        }
        receiver.join().expect("a reader");
    })
};

/// As [`SLEEPER`], on semaphores: what was posted for the dead one is nobody else's.
pub const SEMAPHORE_SLEEPER: Model =
    SLEEPER.with_semaphores("a_reader_gets_its_token_whatever_store_another_sleeper_dies_behind", 2);

/// As [`WAKER`], on semaphores.
pub const SEMAPHORE_WAKER: Model =
    WAKER.with_semaphores("a_reader_gets_a_token_whatever_store_the_writer_dies_behind", 1);

/// All of this file.
pub const ALL: &[Model] =
    &[FOLLOWED, HELD, SUCCESSOR, READER, SLEEPER, WAKER, CLOSER, SEMAPHORE_SLEEPER, SEMAPHORE_WAKER];
