//! Sleep and wake, in both directions (I4; L9 to L11, L17), with the modelled futex, where a lost wakeup is a deadlock. What
//! is about an order has a twin that cannot sleep, here or in another file, where the futex cannot hide that it is missing.

use std::time::Duration;

use loom::thread::{self, JoinHandle};
use shmcast::ring::{Reader, Refused, Start, Stop, Writer};

use super::batch::stage;
use crate::audit::Audit;
use crate::memory::Waiting;
use crate::model::{Model, SLICE, Seam, World};

/// A reader that receives `count` records and parks when there is nothing.
fn receiver(world: &World, mut reader: Reader<Seam>, count: u64) -> JoinHandle<()> {
    let here = world.clone();
    let mut audit = world.audit(&reader);
    thread::spawn(move || {
        while audit.received < count {
            match audit.step(&mut reader) {
                Ok(()) => {}
                Err(Stop::Empty) => {
                    here.saw("a reader parked");
                    reader.park(SLICE);
                }
                Err(stop) => panic!("{stop:?}"),
            }
        }
    })
}

/// Publishes `count` records and parks when there is no room.
fn publish(world: &World, writer: &mut Writer<Seam>, count: u64) {
    while writer.sequence() < count {
        let len = world.plan.payload(writer.sequence()).len();
        match world.publish(writer) {
            Ok(_) => {}
            Err(Refused::Full) => {
                world.saw("the writer parked");
                writer.park_for_room(len, SLICE);
            }
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// All records of the plan for one sleeper.
fn sleeper(world: World) {
    let (mut writer, count) = (world.writer(), world.plan.words.len() as u64);
    let reader = receiver(&world, world.lossy(Start::Oldest).expect("a reader"), count);
    publish(&world, &mut writer, count);
    reader.join().expect("a reader");
}

/// Two records for one sleeper.
pub const SLEEPER: Model = Model {
    waiting: Waiting::Sleeps,
    preemptions: Some(3),
    must_see: &["a reader parked"],
    ..Model::new("a_record_wakes_the_reader_that_sleeps_for_it", &[0, 0], sleeper)
};

/// Two records for two sleepers.
pub const SLEEPERS: Model = Model {
    threads: 2,
    preemptions: Some(2),
    ..Model {
        name: "a_record_wakes_all_readers_that_sleep_for_it",
        body: |world| {
            let (mut writer, count) = (world.writer(), world.plan.words.len() as u64);
            let readers = [0, 1].map(|_| receiver(&world, world.lossy(Start::Oldest).expect("a reader"), count));
            publish(&world, &mut writer, count);
            for reader in readers {
                reader.join().expect("a reader");
            }
        },
        ..SLEEPER
    }
};

/// Two records: one sleeper is woken by the first, while another goes to sleep for the second.
pub const NEWCOMER: Model = Model {
    name: "who_falls_asleep_while_another_is_woken_is_woken_by_the_next",
    body: |world| {
        let mut writer = world.writer();
        let readers = [1, 2].map(|count| receiver(&world, world.lossy(Start::Oldest).expect("a reader"), count));
        publish(&world, &mut writer, 2);
        for reader in readers {
            reader.join().expect("a reader");
        }
    },
    ..SLEEPERS
};

/// As [`SLEEPER`], without the futex.
pub const AWAKE: Model =
    Model { name: "a_reader_that_cannot_sleep_receives_everything", waiting: Waiting::Yields, ..SLEEPER };

/// The writer sleeps for room, the reader for records.
pub const ROOM: Model = Model {
    capacity: 32,
    slots: 1,
    waiting: Waiting::Sleeps,
    preemptions: Some(3),
    must_see: &["the writer parked", "a reader parked"],
    ..Model::new("room_wakes_the_writer_that_sleeps_for_it", &[1, 1], |world| {
        let mut writer = world.writer();
        let reader = receiver(&world, world.lossless(Start::Oldest).expect("a slot"), world.plan.words.len() as u64);
        publish(&world, &mut writer, world.plan.words.len() as u64);
        reader.join().expect("a reader");
    })
};

/// As [`ROOM`], twice: what was set and cleared the first time must not be in the way the second time.
pub const ROOM_AGAIN: Model =
    Model { name: "room_wakes_the_writer_that_sleeps_for_it_again", words: &[1, 1, 1], preemptions: Some(2), ..ROOM };

/// As [`ROOM`], without the futex.
pub const ROOM_AWAKE: Model = Model {
    name: "a_writer_that_cannot_sleep_finds_room",
    waiting: Waiting::Yields,
    preemptions: Some(2),
    must_see: &["the writer parked"],
    ..ROOM
};

/// The writer sleeps twice while a reader, which finds all its records there and so never sleeps, makes room twice. No fence
/// of a sleeping reader lends its order to the words of the writer's sleep.
pub const ROOM_IN_STEPS: Model = Model {
    capacity: 64,
    words: &[1, 1, 1, 1, 1],
    must_see: &["the writer parked"],
    ..Model {
        name: "each_step_of_a_reader_wakes_the_writer_that_sleeps_for_it",
        body: |world| {
            let mut writer = world.writer();
            let mut reader = world.lossless(Start::Oldest).expect("a slot");
            let mut audit = world.audit(&reader);
            publish(&world, &mut writer, 3);
            let receiver = thread::spawn(move || {
                for _ in 0..2 {
                    assert_eq!(audit.step(&mut reader), Ok(()));
                }
            });
            publish(&world, &mut writer, 5);
            receiver.join().expect("a reader");
        },
        ..ROOM
    }
};

/// The writer sleeps for room that two readers make.
pub const ROOM_OF_TWO: Model = Model {
    slots: 2,
    threads: 2,
    preemptions: Some(3),
    must_see: &["the writer parked"],
    ..Model {
        name: "the_last_of_two_readers_wakes_the_writer",
        words: &[1, 1],
        body: |world| {
            let mut writer = world.writer();
            let readers = [0, 1].map(|_| world.lossless(Start::Oldest).expect("a slot"));
            publish(&world, &mut writer, 1);
            let readers = readers.map(|reader| receiver(&world, reader, 1));
            publish(&world, &mut writer, 2);
            for reader in readers {
                reader.join().expect("a reader");
            }
        },
        ..ROOM
    }
};

/// The writer sleeps for room that a reader holds which leaves.
pub const LEAVER: Model = Model {
    must_see: &["the writer parked"],
    preemptions: None,
    ..Model {
        name: "a_reader_that_leaves_wakes_the_writer",
        words: &[1, 1],
        body: |world| {
            let mut writer = world.writer();
            let mut reader = world.lossless(Start::Oldest).expect("a slot");
            publish(&world, &mut writer, 1);
            let leaver = thread::spawn(move || reader.leave());
            publish(&world, &mut writer, 2);
            leaver.join().expect("a reader");
        },
        ..ROOM
    }
};

/// A batch is held up by the reader that sleeps for its first record.
pub const BATCH: Model = Model {
    must_see: &["the writer parked", "a reader parked"],
    ..Model {
        name: "a_batch_that_waits_for_room_has_woken_its_readers",
        words: &[1, 1],
        body: |world| {
            let mut writer = world.writer();
            let reader = receiver(&world, world.lossless(Start::Oldest).expect("a slot"), 2);
            while writer.sequence() < 2 {
                if stage(&world, &mut writer).is_err() {
                    world.saw("the writer parked");
                    writer.park_for_room(8, SLICE);
                }
            }
            writer.flush();
            reader.join().expect("a reader");
        },
        ..ROOM
    }
};

/// A reader looks, and sleeps for no time: the flag is set, the sleep is over. Answers whether there was a record.
fn sleep_in_vain(world: &World, audit: &mut Audit, reader: &mut Reader<Seam>) -> bool {
    match audit.step(reader) {
        Ok(()) => true,
        stop => {
            assert_eq!(stop, Err(Stop::Empty));
            world.saw("a sleep timed out");
            reader.park(Duration::ZERO);
            false
        }
    }
}

/// A sleep times out, whatever the writer does at that moment; the next one is ended by a wake all the same (L11).
pub const TIMED_OUT: Model = Model {
    must_see: &["a sleep timed out", "a reader parked"],
    ..Model {
        name: "a_record_wakes_a_reader_whose_last_sleep_timed_out",
        body: |world| {
            let mut writer = world.writer();
            let mut reader = world.lossy(Start::Oldest).expect("a reader");
            let mut audit = world.audit(&reader);
            let here = world.clone();
            let receiver = thread::spawn(move || {
                sleep_in_vain(&here, &mut audit, &mut reader);
                while audit.received < 2 {
                    if audit.step(&mut reader) == Err(Stop::Empty) {
                        here.saw("a reader parked");
                        reader.park(SLICE);
                    }
                }
            });
            publish(&world, &mut writer, 2);
            receiver.join().expect("a reader");
        },
        ..SLEEPER
    }
};

/// A reader's sleep times out, and it goes away for good; the other one is woken all the same (L11).
pub const CANCELLED: Model = Model {
    slots: 2,
    words: &[0],
    must_see: &["a sleep timed out", "a reader parked"],
    ..Model {
        name: "a_record_wakes_a_reader_beside_one_that_gave_up",
        body: |world| {
            let mut writer = world.writer();
            let mut goes = world.lossy(Start::Oldest).expect("a reader");
            let mut audit = world.audit(&goes);
            let here = world.clone();
            let goer = thread::spawn(move || {
                sleep_in_vain(&here, &mut audit, &mut goes);
                goes.leave();
            });
            let stays = receiver(&world, world.lossy(Start::Oldest).expect("a reader"), 1);
            publish(&world, &mut writer, 1);
            goer.join().expect("a reader");
            stays.join().expect("a reader");
        },
        ..SLEEPERS
    }
};

/// All of this file.
pub const ALL: &[Model] = &[
    SLEEPER,
    SLEEPERS,
    NEWCOMER,
    AWAKE,
    TIMED_OUT,
    CANCELLED,
    ROOM,
    ROOM_AGAIN,
    ROOM_AWAKE,
    ROOM_IN_STEPS,
    ROOM_OF_TWO,
    LEAVER,
    BATCH,
];
