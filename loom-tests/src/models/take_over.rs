//! Take-over: the writer is gone, a successor goes on, readers notice nothing but new records (I4, I5; L21, L22).
//!
//! That a process is gone is an edge of its own (its lock), which these models have as the join of its thread.

use loom::thread;
use shmcast::ring::{Refused, Start, Stop};

use crate::memory::Waiting;
use crate::model::{Model, SLICE};

/// A reader receives while the ring changes hands, a lap and a pad further on.
pub const READING: Model = Model {
    preemptions: Some(2),
    must_see: &["a reader lagged", "a record was received"],
    ..Model::new("a_reader_carries_on_over_a_take_over", &[1, 2, 1, 2], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let mut successor = world.take_over();
        assert_eq!((successor.sequence(), successor.position()), (2, writer.position()));
        assert_eq!(world.publish_up_to(&mut successor, 2), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 4);
        world.saw_in(&audit);
    })
};

/// The dead writer had woken the reader once before; it sleeps when the successor comes.
pub const SLEEPING: Model = Model {
    waiting: Waiting::Sleeps,
    preemptions: Some(2),
    must_see: &["a reader parked"],
    ..Model::new("a_successor_wakes_the_reader_that_sleeps", &[0, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossy(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            while audit.received < 2 {
                match audit.step(&mut reader) {
                    Ok(()) => {}
                    Err(Stop::Empty) => {
                        here.saw("a reader parked");
                        reader.park(SLICE);
                    }
                    Err(stop) => panic!("{stop:?}"),
                }
            }
        });
        world.publish(&mut writer).expect("room");
        let mut successor = world.take_over();
        world.publish(&mut successor).expect("room");
        receiver.join().expect("a reader");
    })
};

/// A ring that was closed is opened again, and the writer that closed it is done for.
pub const REOPENED: Model = Model::new("a_successor_opens_the_ring_again", &[0, 0, 0, 0, 0, 0], |world| {
    let mut writer = world.writer();
    let mut reader = world.follower(Start::Oldest).expect("a reader");
    let mut audit = world.audit(&reader);
    world.publish(&mut writer).expect("room");
    let mut other = world.take_over();
    world.publish(&mut other).expect("room");
    other.close();
    let mut successor = world.take_over();
    audit.attempts(&mut reader, 2);
    assert_eq!(audit.step(&mut reader), Err(Stop::Empty), "it is open");
    world.publish(&mut successor).expect("room");
    audit.close(&mut reader, 3);
    // The first one closes nothing when it closes, and publishes nothing from then on.
    writer.close();
    assert_eq!(audit.step(&mut reader), Err(Stop::Empty), "it is still open");
    assert_eq!(writer.try_publish(&[]), Err(Refused::Fenced), "refused");
});

/// All of this file.
pub const ALL: &[Model] = &[READING, SLEEPING, REOPENED];
