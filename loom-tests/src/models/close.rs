//! Close: everything that was published, then `Closed` (L20).

use loom::thread;
use shmcast::ring::{Reader, Start, Stop};

use crate::memory::Waiting;
use crate::model::{Model, SLICE, Seam, World};

/// Receives and parks until the ring is closed; answers how many records came.
fn until_closed(world: &World, mut reader: Reader<Seam>) -> u64 {
    let mut audit = world.audit(&reader);
    loop {
        match audit.step(&mut reader) {
            Ok(()) => {}
            Err(Stop::Empty) => {
                world.saw("a reader parked");
                reader.park(SLICE);
            }
            Err(Stop::Closed) => return audit.received,
            Err(stop) => panic!("{stop:?}"),
        }
    }
}

/// A reader looks three times while one record is published and the ring is closed.
pub const READING: Model = Model {
    must_see: &["a reader saw the close", "a reader saw no close"],
    ..Model::new("a_closed_ring_is_read_to_its_end", &[1], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            for _ in 0..2 {
                if audit.step(&mut reader) == Err(Stop::Closed) {
                    here.saw("a reader saw the close");
                    assert_eq!(audit.received, 1, "records before the close");
                } else {
                    here.saw("a reader saw no close");
                }
            }
            (reader, audit)
        });
        world.publish(&mut writer).expect("room");
        writer.close();
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 1);
        assert_eq!(audit.step(&mut reader), Err(Stop::Closed));
    })
};

/// A reader sleeps when the ring is closed.
pub const SLEEPING: Model = Model {
    waiting: Waiting::Sleeps,
    preemptions: Some(3),
    must_see: &["a reader parked"],
    ..Model::new("close_wakes_a_reader_that_sleeps", &[0], |world| {
        let mut writer = world.writer();
        let reader = world.lossy(Start::Oldest).expect("a reader");
        let here = world.clone();
        let receiver = thread::spawn(move || until_closed(&here, reader));
        world.publish(&mut writer).expect("room");
        writer.close();
        assert_eq!(receiver.join().expect("a reader"), 1);
    })
};

/// Two readers sleep when an empty ring is closed.
pub const SLEEPERS: Model = Model {
    threads: 2,
    preemptions: Some(2),
    ..Model {
        name: "close_wakes_all_readers_that_sleep",
        body: |world| {
            let mut writer = world.writer();
            let receivers = [0, 1].map(|_| {
                let reader = world.lossy(Start::Oldest).expect("a reader");
                let here = world.clone();
                thread::spawn(move || until_closed(&here, reader))
            });
            writer.close();
            for receiver in receivers {
                assert_eq!(receiver.join().expect("a reader"), 0);
            }
        },
        ..SLEEPING
    }
};

/// As [`SLEEPING`], without the futex.
pub const AWAKE: Model =
    Model { name: "close_reaches_a_reader_that_cannot_sleep", waiting: Waiting::Yields, ..SLEEPING };

/// All of this file.
pub const ALL: &[Model] = &[READING, SLEEPING, SLEEPERS, AWAKE];
