//! Claim, truncate, commit, abort; the pad at the wrap (L21).

use loom::thread;
use shmcast::memory::Memory;
use shmcast::ring::Start;

use crate::audit::Plan;
use crate::model::Model;

/// A claim that does not fit before the end commits a pad and is then dropped; a smaller record follows, one lap on. The
/// header word at the start of the data area still holds the first record's.
pub const ABORTED: Model = Model {
    capacity: 32,
    must_see: &["a reader passed the pad before the next record", "a record was received early"],
    ..Model::new("a_dropped_claim_leaves_nothing_but_its_pad", &[1, 0, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        audit.positions = false;
        assert_eq!(world.publish_up_to(&mut writer, 2), 0);
        audit.attempts(&mut reader, 2);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            let pad = reader.position();
            audit.attempts(&mut reader, 2);
            if audit.received > 2 {
                here.saw("a record was received early");
            } else if reader.position() > pad {
                here.saw("a reader passed the pad before the next record");
            }
            (reader, audit)
        });
        let claim = writer.reserve(8).expect("room");
        writer.fill(&claim, &[0xFF; 8]);
        drop(claim);
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 3);
    })
};

/// A claim is filled word by word, shortened and committed, behind one that was dropped at the same place.
pub const SHORTENED: Model = Model {
    must_see: &["a record was received early"],
    ..Model::new("a_shortened_claim_is_received_at_its_length", &[1, 0], |world| {
        let mut writer = world.writer();
        let mut reader = world.follower(Start::Oldest).expect("a reader");
        let mut audit = world.audit(&reader);
        let here = world.clone();
        let receiver = thread::spawn(move || {
            audit.attempts(&mut reader, 2);
            here.saw_in(&audit);
            if audit.received > 0 {
                here.saw("a record was received early");
            }
            (reader, audit)
        });
        let dropped = writer.reserve(24).expect("room");
        for place in 0..3 {
            writer.memory().copy_in(writer.payload(&dropped).plus(place), &[0xFF; 8]);
        }
        drop(dropped);
        let mut claim = writer.reserve(24).expect("room");
        writer.fill(&claim, &Plan::word(0, 0).to_ne_bytes());
        writer.truncate(&mut claim, 8);
        assert_eq!(writer.commit(claim), 0);
        assert_eq!(world.publish_up_to(&mut writer, 1), 0);
        let (mut reader, mut audit) = receiver.join().expect("a reader");
        audit.close(&mut reader, 2);
    })
};

/// All of this file.
pub const ALL: &[Model] = &[ABORTED, SHORTENED];
