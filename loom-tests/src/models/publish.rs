//! Publish and receive below the first lap: message passing (L1, L4, L5).

use loom::thread;
use shmcast::ring::{Start, Stop};

use crate::model::Model;

/// One writer, one follower that looks three times while two records of one and two words are published.
pub const WHOLE: Model = Model {
    must_see: &["a record was received early", "a reader came too early"],
    ..Model::new("a_reader_receives_whole_records_in_order", &[1, 2], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 3);
            if audit.received > 0 {
                here.saw("a record was received early");
            }
            if audit.received < 2 {
                here.saw("a reader came too early");
            }
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 2);
    })
};

/// As above, with a lossless reader, which looks at the next header when it releases a record and keeps it.
pub const PEEKED: Model = Model {
    slots: 1,
    must_see: &["a record was received early", "a reader came too early"],
    ..Model::new("a_lossless_reader_receives_whole_records_in_order", &[1, 1], |world| {
        let mut writer = world.writer();
        let mut reader = world.lossless(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 3);
            here.saw(if audit.received > 0 { "a record was received early" } else { "a reader came too early" });
            (reader, audit)
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 2);
    })
};

/// One writer, two followers.
pub const BROADCAST: Model = Model {
    threads: 2,
    preemptions: Some(3),
    must_see: &["both readers received early"],
    ..Model::new("every_reader_receives_every_record", &[1, 1], |world| {
        let mut writer = world.writer();
        let receivers = [0, 1].map(|_| {
            let mut reader = world.follower(Start::Oldest).expect("a reader");
            let mut audit = world.audit(&reader);
            thread::spawn(move || {
                audit.attempts(&mut reader, 2);
                (reader, audit)
            })
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        let readers = receivers.map(|receiver| receiver.join().expect("a reader"));
        if readers.iter().all(|(_, audit)| audit.received > 0) {
            world.saw("both readers received early");
        }
        for (mut reader, mut audit) in readers {
            audit.close(&mut reader, 2);
        }
    })
};

/// A reader that polls without end gets everything, and never more.
pub const POLLED: Model = Model {
    must_see: &["a poll found nothing"],
    ..Model::new("a_reader_that_polls_receives_everything", &[1, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            while audit.received < 2 {
                if audit.step(&mut reader) == Err(Stop::Empty) {
                    here.saw("a poll found nothing");
                    thread::yield_now();
                }
            }
            audit.close(&mut reader, 2);
        });
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        receiver.join().expect("a reader");
    })
};

/// One writer, three followers.
pub const THREE: Model = Model {
    threads: 3,
    preemptions: Some(2),
    must_see: &["all readers received early"],
    ..Model::new("each_of_three_readers_receives_the_record", &[1], |world| {
        let mut writer = world.writer();
        let receivers = [0, 1, 2].map(|_| {
            let mut reader = world.follower(Start::Oldest).expect("a reader");
            let mut audit = world.audit(&reader);
            thread::spawn(move || {
                audit.attempts(&mut reader, 1);
                (reader, audit)
            })
        });
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let readers = receivers.map(|receiver| receiver.join().expect("a reader"));
        if readers.iter().all(|(_, audit)| audit.received > 0) {
            world.saw("all readers received early");
        }
        for (mut reader, mut audit) in readers {
            audit.close(&mut reader, 1);
        }
    })
};

/// All of this file.
pub const ALL: &[Model] = &[WHOLE, PEEKED, BROADCAST, POLLED, THREE];
