//! Readers that stall, that are damaged, and that go: what the handles say, and what they can do afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use shmcast::ring::Stop;
use shmcast::{
    OpenError, Options, PublishError, PublishTimeoutError, Reader, RecvError, RecvTimeoutError, Start, TryPublishError,
    TryRecvError, Writer,
};

use super::support::{
    Child, Door, LIMIT, assert_whole, file, heap, hear, named, on_every_kind, record_of, say, smallest,
};
use super::words::{self, Bench};

const BOUND: u64 = 300;

fn publish(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Publishes until the writer has gone on without whoever stalls: a ring and more.
fn evict(writer: &mut Writer) {
    let goal = writer.position() + 3 * 4096;
    while writer.position() < goal {
        publish(writer, 1);
    }
}

fn lost_by(reader: &mut Reader) -> u64 {
    match reader.try_recv() {
        Err(TryRecvError::Evicted { lost }) => lost,
        other => panic!("{other:?}"),
    }
}

// ---- evicted ----

#[test]
fn an_evicted_reader_is_told_exactly_and_reads_on_as_a_lossy_one() {
    on_every_kind(&smallest().stall_limit(Duration::ZERO), |mut writer, door| {
        for resume in [Start::Oldest, Start::Middle, Start::Newest] {
            let mut reader = door.reader(&Options::new().resume(resume).start(Start::Newest));
            let first = reader.sequence();
            evict(&mut writer);
            let lost = lost_by(&mut reader);
            assert!(lost > 0 && !reader.is_lossless() && !reader.can_borrow());
            assert_eq!(reader.sequence(), first + lost);
            let mut received = 0;
            for record in reader.try_iter() {
                let record = record.unwrap_or_else(|error| panic!("{error}"));
                assert_whole(record.sequence, &record, BOUND);
                received += 1;
            }
            assert_eq!(first + lost + received, writer.sequence(), "received + lost = published");
            // Lapped once more: lagging, as any lossy reader.
            evict(&mut writer);
            assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(1..))));
            // It never holds the writer back, and is still counted.
            assert_eq!(writer.reader_count(), 1);
        }
    });
}

#[test]
fn every_way_to_receive_tells_an_eviction_once() {
    type Receive = fn(&mut Reader) -> Result<(), TryRecvError>;
    fn blocking(error: RecvError) -> TryRecvError {
        match error {
            RecvError::Evicted { lost } => TryRecvError::Evicted { lost },
            RecvError::NotBorrowable => TryRecvError::NotBorrowable,
            error => panic!("{error}"),
        }
    }
    let ways: [(&str, Receive); 8] = [
        ("try_recv", |reader| reader.try_recv().map(drop)),
        ("try_recv_into", |reader| reader.try_recv_into(&mut [0; 400]).map(drop)),
        ("recv", |reader| reader.recv().map(drop).map_err(blocking)),
        ("recv_into", |reader| reader.recv_into(&mut [0; 400]).map(drop).map_err(blocking)),
        ("recv_timeout", |reader| match reader.recv_timeout(LIMIT) {
            Err(RecvTimeoutError::Evicted { lost }) => Err(TryRecvError::Evicted { lost }),
            other => other.map(drop).map_err(|error| panic!("{error}")),
        }),
        ("try_recv_batch", |reader| reader.try_recv_batch(&mut Vec::new(), 3).map(drop)),
        ("iter", |reader| reader.iter().next().expect("an item").map(drop).map_err(blocking)),
        ("try_iter", |reader| reader.try_iter().next().expect("an item").map(drop)),
    ];
    for (way, receive) in ways {
        let (mut writer, door) = heap(&smallest().stall_limit(Duration::ZERO));
        let mut reader = door.lossless();
        evict(&mut writer);
        assert!(matches!(receive(&mut reader), Err(TryRecvError::Evicted { lost: 1.. })), "{way}");
        assert_eq!(receive(&mut reader), Ok(()), "{way}: it goes on");
    }
}

/// Only a damaged registry can make the writer go on without a reader that may borrow. The borrows end, the eviction is told.
#[test]
fn a_reader_that_borrows_is_told_of_its_eviction_and_lent_nothing_more() {
    use std::os::unix::fs::FileExt;
    for blocking in [false, true] {
        let (mut writer, door) = file(&smallest());
        let Door::File(directory) = &door else { unreachable!("a file ring") };
        let mut reader = door.lossless();
        publish(&mut writer, 1);
        assert_eq!(reader.recv_ref().map(|record| record.sequence()), Ok(0));
        let registry = std::fs::File::options().write(true).open(directory.path().join("ring.registry")).expect("it");
        let state = super::words::Bench::new().layouts.1.slot_state(0).0 as u64 * 8;
        registry.write_all_at(&0u64.to_ne_bytes(), state).expect("a word");
        evict(&mut writer);
        if blocking {
            assert!(matches!(reader.recv_ref().map(drop), Err(RecvError::Evicted { lost: 1.. })));
            assert!(matches!(reader.recv_ref().map(drop), Err(RecvError::NotBorrowable)));
        } else {
            assert!(matches!(reader.try_recv_ref().map(drop), Err(TryRecvError::Evicted { lost: 1.. })));
            assert!(matches!(reader.try_recv_ref().map(drop), Err(TryRecvError::NotBorrowable)));
        }
        while reader.try_recv().is_ok() {}
        assert_eq!(reader.rejoin().map_err(|error| error.to_string()), Ok(0));
        publish(&mut writer, 1);
        let record = reader.recv_ref().expect("it may borrow again");
        assert_whole(record.sequence(), &record, BOUND);
    }
}

#[test]
fn who_rejoins_misses_nothing_from_there_on() {
    on_every_kind(&smallest().stall_limit(Duration::from_secs(3600)), |mut writer, door| {
        // The stall limit is for the ring to say that it may evict; the evictions here are those of a writer without patience.
        let mut reader = door.lossless();
        for _ in 0..5 {
            while writer.try_publish(&record_of(writer.sequence(), BOUND)).is_ok() {}
            let next = reader.sequence();
            assert_eq!(reader.rejoin().map_err(|error| error.to_string()), Ok(0), "it is lossless already");
            for expected in next..writer.sequence() {
                assert_eq!(reader.try_recv().map(|record| record.sequence), Ok(expected));
            }
        }
    });
    on_every_kind(&smallest().stall_limit(Duration::ZERO), |mut writer, door| {
        let mut reader = door.lossless();
        for round in 0..20 {
            evict(&mut writer);
            let mut next = reader.sequence() + lost_by(&mut reader);
            // At once, a little later, or when there is nothing left to read.
            for _ in 0..round % 4 * 3 {
                if let Ok(record) = reader.try_recv() {
                    assert_eq!(record.sequence, next);
                    next += 1;
                }
            }
            if round % 5 == 4 {
                // Too late: the next record is about to go.
                evict(&mut writer);
            }
            let lost = reader.rejoin().unwrap_or_else(|error| panic!("{error}"));
            assert!((round % 5 == 4) == (lost > 0) || lost == 0, "{lost} lost in round {round}");
            next += lost;
            assert!(reader.is_lossless() && reader.sequence() == next);
            while let Ok(record) = reader.try_recv() {
                assert_eq!(record.sequence, next);
                assert_whole(next, &record, BOUND);
                next += 1;
            }
            assert_eq!(next, writer.sequence());
            // It holds the writer back again: half a ring behind it is not lapped.
            for _ in 0..30 {
                publish(&mut writer, 5);
                for _ in 0..5 {
                    assert_eq!(reader.try_recv().map(|record| record.sequence), Ok(next));
                    next += 1;
                }
            }
        }
    });
}

#[test]
fn who_rejoins_too_late_goes_on_where_it_was_told_to() {
    let (mut writer, door) = heap(&smallest().reader_slots(3));
    let starts = [Start::Oldest, Start::Middle, Start::Newest];
    let mut readers = starts.map(|resume| door.reader(&Options::new().lossy(true).resume(resume)));
    evict(&mut writer);
    let [oldest, middle, newest] =
        readers.each_mut().map(|reader| reader.rejoin().unwrap_or_else(|error| panic!("{error}")));
    assert!(0 < oldest && oldest < middle && middle < newest, "lost {oldest}, {middle}, {newest}");
    assert!(newest < writer.sequence(), "the newest boundary is one to read from");
}

/// A look for the writer's death finds the loss before any read does: `rejoin` tells it, and no read of the lossless reader.
#[test]
fn a_loss_that_no_read_has_told_is_told_by_rejoin() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    while writer.sequence() < 100 {
        if words::publish(&mut writer).is_err() {
            writer.pass_over(writer.blocker().expect("the reader stalls"));
        }
    }
    assert!(!reader.outlives_writer(|| true), "there is something to tell");
    let lost = reader.rejoin().expect("a boundary");
    assert!(lost > 0 && reader.is_lossless());
    let mut next = lost;
    assert_eq!(reader.sequence(), lost);
    while words::receive_whole(&mut reader).is_ok() {
        next += 1;
    }
    assert_eq!(next, writer.sequence(), "received + lost = published");
}

#[test]
fn who_cannot_rejoin_is_told_why() {
    let (writer, door) = heap(&smallest().reader_slots(1));
    let holder = door.lossless();
    let mut uncounted = door.lossy();
    assert!(matches!(uncounted.rejoin(), Err(OpenError::NoFreeSlot { slots: 1 })));
    drop((holder, uncounted));
    // A lossy one that is counted can become lossless.
    let mut counted = door.lossy();
    assert!(matches!(counted.rejoin(), Ok(0)) && counted.is_lossless());
    assert_eq!(writer.reader_count(), 1);
}

/// The three policies of a full ring.
#[test]
fn a_full_ring_blocks_fails_or_evicts_as_one_likes() {
    let (mut writer, door) = heap(&smallest());
    let mut reader = door.lossless();
    while writer.try_publish(&[1; 500]).is_ok() {}
    assert_eq!(writer.try_publish(&[1; 500]), Err(TryPublishError::Full), "fails");
    assert_eq!(writer.publish_timeout(&[1; 500], Duration::from_millis(5)), Err(PublishTimeoutError::Timeout));
    let full = writer.sequence();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| writer.publish(&[1; 500]));
        assert_eq!(reader.recv_timeout(LIMIT).map(|record| record.sequence), Ok(0));
        while reader.recv_timeout(LIMIT).map(|record| record.sequence) != Ok(full) {}
        assert_eq!(blocked.join().expect("no panic"), Ok(full), "blocks");
    });
    let (mut writer, door) = heap(&smallest().stall_limit(Duration::ZERO));
    let (mut slowest, mut other) = (door.lossless(), door.lossless());
    for _ in 0..100 {
        publish(&mut writer, 1);
        assert!(other.try_recv().is_ok(), "only the slowest goes");
    }
    assert!(lost_by(&mut slowest) > 0, "evicts");
}

// ---- poisoned ----

/// A ring in files whose next header cannot be one, a reader that comes to it, and what it saw.
fn damaged(options: &Options) -> (Writer, Door, Reader, TryRecvError) {
    use std::os::unix::fs::FileExt;
    let (mut writer, door) = file(&smallest());
    let Door::File(directory) = &door else { unreachable!("a file ring") };
    let mut reader = door.reader(options);
    publish(&mut writer, 1);
    reader.try_recv().expect("a record");
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    let segment = std::fs::File::options().write(true).open(directory.path().join("ring")).expect("a segment");
    let data = segment.metadata().expect("a file").len() - 4096;
    segment.write_all_at(&u64::MAX.to_ne_bytes(), data + reader.position()).expect("a word");
    let corrupt = TryRecvError::Corrupt { position: reader.position(), header: u64::MAX };
    (writer, door, reader, corrupt)
}

#[test]
fn a_poisoned_reader_says_so_in_every_call() {
    for lossy in [false, true] {
        let (mut writer, _door, mut reader, corrupt) = damaged(&Options::new().lossy(lossy));
        let same = |error: &dyn std::fmt::Display| assert_eq!(error.to_string(), corrupt.to_string());
        for _ in 0..2 {
            assert_eq!(reader.try_recv(), Err(corrupt));
            assert_eq!(reader.try_recv_into(&mut [0; 8]), Err(corrupt));
            assert_eq!(reader.try_recv_ref().map(drop), Err(corrupt));
            assert_eq!(reader.try_recv_batch(&mut Vec::new(), 2), Err(corrupt));
            same(&reader.recv().expect_err("an error"));
            same(&reader.recv_into(&mut [0; 8]).expect_err("an error"));
            same(&reader.recv_ref().map(drop).expect_err("an error"));
            same(&reader.recv_timeout(LIMIT).expect_err("an error"));
            same(&reader.recv_into_timeout(&mut [0; 8], LIMIT).expect_err("an error"));
            same(&reader.recv_deadline(Instant::now() + LIMIT).expect_err("an error"));
            same(&reader.recv_batch(&mut Vec::new(), 2).expect_err("an error"));
            assert_eq!(reader.try_iter().collect::<Vec<_>>(), [Err(corrupt)], "the error, and then the end");
            assert_eq!(reader.iter().count(), 1);
            assert!(matches!(reader.rejoin(), Err(OpenError::Corrupt { header: u64::MAX, .. })));
            // The writer overwrites the damage, laps it, closes: it stays poisoned, and holds nobody.
            evict(&mut writer);
        }
        drop(writer);
        assert_eq!(reader.try_recv(), Err(corrupt));
    }
}

#[test]
fn a_poisoned_writer_says_so_in_every_call_and_touches_nothing_more() {
    use std::os::unix::fs::FileExt;
    for (found, fenced) in [(1, true), (u64::MAX / 3, false)] {
        let (mut writer, door) = file(&smallest());
        let Door::File(directory) = &door else { unreachable!("a file ring") };
        let path = directory.path().join("ring");
        let segment = std::fs::File::options().write(true).open(&path).expect("a segment");
        let mut reader = door.lossy();
        let epoch = super::words::Bench::new().layouts.0.epoch().0 as u64 * 8;
        segment.write_all_at(&u64::to_ne_bytes(found), epoch).expect("a word");
        while writer.try_publish(&[5; 100]).is_ok() {
            assert!(writer.sequence() < 100, "it is noticed within a block");
        }
        let error = if fenced { TryPublishError::Fenced } else { TryPublishError::Corrupt { expected: 0, found } };
        segment.write_all_at(&0u64.to_ne_bytes(), epoch).expect("a word");
        for _ in 0..2 {
            assert_eq!(writer.try_publish(&[5]), Err(error));
            assert_eq!(writer.publish(&[5]).expect_err("an error").to_string(), error.to_string());
            assert_eq!(writer.publish_timeout(&[5], LIMIT).expect_err("an error").to_string(), error.to_string());
            assert_eq!(writer.try_claim(5).map(drop), Err(error));
            assert_eq!(writer.claim(5).map(drop).expect_err("an error").to_string(), error.to_string());
            assert_eq!(writer.try_publish_batch([[5]]), Err(error));
            assert_eq!(writer.publish_batch([[5]]).expect_err("an error").to_string(), error.to_string());
        }
        drop(writer);
        while reader.try_recv().is_ok() {}
        // Not closed; and a successor's ring keeps its name.
        assert!(matches!(reader.try_recv(), Err(TryRecvError::WriterDied | TryRecvError::Empty)));
        assert_eq!(path.exists(), fenced);
    }
}

// ---- nobody reads ----

/// How many records go out before the writer hears that nobody reads.
fn published_to_nobody(writer: &mut Writer) -> u64 {
    let before = writer.sequence();
    loop {
        match writer.try_publish(&[0; 8]) {
            Ok(sequence) => assert!(sequence < before + 10_000, "it never hears"),
            Err(TryPublishError::NoReaders) => return writer.sequence() - before,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn who_could_not_join_has_not_left() {
    let mut writer = smallest().need_readers(true).create_heap().expect("a ring");
    let early = Options::new().start(Start::Sequence(5)).join(&writer.subscriber());
    assert!(matches!(early, Err(OpenError::SequenceNotYet { .. })), "{early:?}");
    for _ in 0..200 {
        writer.try_publish(&[0; 100]).expect("nobody has come yet");
    }
}

#[test]
fn the_last_reader_that_leaves_is_missed_by_who_asked_for_it() {
    on_every_kind(&smallest().need_readers(true), |mut writer, door| {
        // Nobody has come yet: that is no reason to stop.
        for _ in 0..200 {
            writer.try_publish(&[0; 100]).expect("nobody has left");
        }
        for lossy in [false, true] {
            let mut readers = [(); 2].map(|()| door.reader(&Options::new().lossy(lossy).start(Start::Newest)));
            for _ in 0..300 {
                writer.try_publish(&[0; 100]).unwrap_or_else(|error| panic!("{error}"));
                for reader in &mut readers {
                    reader.try_recv().expect("a record");
                }
            }
            let [first, mut last] = readers;
            drop(first);
            for _ in 0..100 {
                writer.try_publish(&[0; 100]).expect("one is left");
                last.try_recv().expect("a record");
            }
            drop(last);
            assert!(published_to_nobody(&mut writer) <= 1, "noticed with the second record");
            // And so says every way to publish, until somebody comes.
            assert_eq!(writer.publish(&[1]), Err(PublishError::NoReaders));
            assert_eq!(writer.publish_timeout(&[1], LIMIT), Err(PublishTimeoutError::NoReaders));
            assert_eq!(writer.try_claim(1).map(drop), Err(TryPublishError::NoReaders));
            assert_eq!(writer.claim(1).map(drop), Err(PublishError::NoReaders));
            assert_eq!(writer.try_publish_batch([[1]]), Err(TryPublishError::NoReaders));
            assert_eq!(writer.publish_batch([[1]]), Err(PublishError::NoReaders));
            let mut next = door.reader(&Options::new().start(Start::Newest));
            writer.publish(b"somebody reads again").expect("it is not final");
            assert_eq!(next.recv().map(|record| record.payload), Ok(b"somebody reads again".to_vec()));
            drop(next);
            assert!(published_to_nobody(&mut writer) <= 1);
        }
    });
}

/// Also if the writer never saw it.
#[test]
fn a_reader_that_came_and_left_between_two_looks_was_there() {
    let (mut writer, door) = named(&smallest().need_readers(true));
    writer.publish(b"first").expect("nobody has left");
    drop(door.lossy());
    assert!(published_to_nobody(&mut writer) <= 1);
}

#[test]
fn who_did_not_ask_publishes_to_nobody() {
    on_every_kind(&smallest(), |mut writer, door| {
        drop(door.lossless());
        for _ in 0..500 {
            writer.try_publish(&[0; 100]).expect("lossy by nature");
        }
    });
}

#[test]
fn a_writer_that_waits_for_a_reader_that_leaves_hears_of_it() {
    let (mut writer, door) = heap(&smallest().need_readers(true));
    let reader = door.lossless();
    while writer.try_publish(&[0; 500]).is_ok() {}
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (0..2).map(|_| writer.publish_timeout(&[0; 500], LIMIT)).collect::<Vec<_>>());
        drop(reader);
        let answers = waiting.join().expect("no panic");
        assert_eq!(answers[1], Err(PublishTimeoutError::NoReaders), "{answers:?}");
    });
}

/// Joins, and waits to be told, or to be killed.
pub(crate) fn visit(path: &Path) {
    let lossy = hear() == "lossy";
    let _reader = Options::new().lossy(lossy).open_file(path).unwrap_or_else(|error| panic!("{error}"));
    say("joined");
    hear();
}

#[test]
fn the_last_reader_that_dies_is_missed_too() {
    for lossy in [false, true] {
        let (mut writer, door) = file(&smallest().need_readers(true));
        let Door::File(directory) = &door else { unreachable!("a file ring") };
        let path = directory.path().join("ring");
        for round in 0..3 {
            let mut child = Child::start("joins, then goes", &[path.to_str().expect("UTF-8")]);
            child.tell(if lossy { "lossy" } else { "lossless" });
            child.expect("joined");
            writer.publish(b"seen").unwrap_or_else(|error| panic!("{error}"));
            let before = writer.position();
            if round == 2 {
                // It holds the writer back when it dies: heard by the very publish that waits for it.
                while !lossy && writer.try_publish(&[0; 500]).is_ok() {}
                let answer = std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| writer.publish_timeout(&[0; 500], LIMIT));
                    child.kill();
                    waiting.join().expect("no panic")
                });
                assert!(lossy || answer == Err(PublishTimeoutError::NoReaders), "{answer:?}");
            } else {
                child.kill();
                published_to_nobody(&mut writer);
                // A block of sixteen, and a record.
                assert!(writer.position() - before <= 2 * 4096 / 16 + 64, "noticed within a block");
            }
        }
    }
}

/// A call that cannot be made any more, because of an eviction that a batch has found and not told, tells it.
#[test]
fn an_eviction_that_is_owed_is_told_once_and_no_other_loss_before_its_time() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    words::publish(&mut writer).expect("room");
    reader.owe(Stop::Lagged(2));
    assert_eq!(reader.take_eviction(), None);
    assert_eq!(words::receive(&mut reader), Err(Stop::Lagged(2)));
    reader.owe(Stop::Evicted { lost: 3 });
    assert_eq!(reader.take_eviction(), Some(Stop::Evicted { lost: 3 }));
    assert_eq!(reader.take_eviction(), None);
    words::receive_whole(&mut reader).expect("the record");
}
