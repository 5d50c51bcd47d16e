//! Closing, and the options of a ring.

use super::*;

// ---- closing ----

#[test]
fn readers_get_closed_after_the_last_record() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut lossless, mut lossy) = (door.lossless(), door.lossy());
        publish_numbered(&mut writer, 3, 100);
        assert!(!writer.is_closed());
        writer.close();
        writer.close();
        assert!(writer.is_closed());
        assert_eq!(writer.publish(b"x"), Err(PublishError::Closed));
        assert_eq!(writer.try_publish(b"x"), Err(TryPublishError::Closed));
        assert_eq!(writer.publish_batch([b"x"]), Err(PublishError::Closed));
        assert!(matches!(writer.try_claim(1), Err(TryPublishError::Closed)));
        let mut late = door.lossless();
        for reader in [&mut lossless, &mut lossy, &mut late] {
            assert_eq!(drain(reader).len(), 3);
            assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
            assert_eq!(reader.recv(), Err(RecvError::Closed));
            assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Closed));
            assert_eq!(reader.recv_into(&mut []), Err(RecvError::Closed));
            assert_eq!((reader.iter().count(), reader.try_iter().count()), (0, 0));
        }
    });
}

#[test]
fn dropping_the_writer_closes_the_ring() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut lossless, mut lossy) = (door.lossless(), door.lossy());
        publish_numbered(&mut writer, 3, 100);
        drop(writer);
        for reader in [&mut lossless, &mut lossy] {
            let received: Result<Vec<_>, _> = reader.iter().collect();
            assert_eq!(received.expect("no loss").len(), 3);
            assert_eq!(reader.recv(), Err(RecvError::Closed));
        }
    });
}

/// A reader that polls while the writer publishes and closes: the close is never seen before the last record.
#[test]
fn a_close_never_hides_the_last_record() {
    let mut polls = 0;
    for round in 0..500 {
        let (mut writer, door) = heap(&smallest());
        let mut reader = if round % 2 == 0 { door.lossless() } else { door.lossy() };
        let polling = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut empty = 0;
                loop {
                    match reader.try_recv() {
                        Ok(record) => return (empty, record.sequence, reader.try_recv()),
                        Err(error) => assert_eq!(error, TryRecvError::Empty, "the record was hidden"),
                    }
                    polling.store(true, SeqCst);
                    empty += 1;
                    if empty % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            while !polling.load(SeqCst) {
                std::thread::yield_now();
            }
            writer.publish(b"last").expect("room");
            writer.close();
            let (empty, sequence, next) = thread.join().expect("no panic");
            assert_eq!(sequence, 0);
            assert!(matches!(next, Err(TryRecvError::Empty | TryRecvError::Closed)));
            polls += empty;
        });
    }
    assert!(polls >= 500, "each reader looked before the record was there");
}

#[test]
fn a_lagging_reader_of_a_closed_ring_is_told_first() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossy();
        publish_numbered(&mut writer, 1000, 100);
        drop(writer);
        let Err(RecvError::Lagged(lost)) = reader.recv() else { panic!("it was lapped") };
        let rest: Result<Vec<_>, _> = reader.iter().collect();
        assert_eq!(lost + rest.expect("no loss").len() as u64, 1000);
        assert_eq!(reader.recv(), Err(RecvError::Closed));
    });
}

#[test]
fn an_iterator_tells_a_loss_and_goes_on() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossy();
        publish_numbered(&mut writer, 1000, 100);
        writer.close();
        let results: Vec<_> = reader.iter().collect();
        assert!(matches!(results[0], Err(RecvError::Lagged(_))));
        assert!(results.len() > 10 && results[1..].iter().all(Result::is_ok));
    });
}

#[test]
fn a_blocked_reader_hears_of_the_close() {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park, WaitStrategy::ParkAtOnce] {
        on_every_kind(&smallest(), |writer, door| {
            let mut reader = door.reader(&Options::new().wait(strategy));
            std::thread::scope(|scope| {
                let waiting = scope.spawn(move || reader.recv_timeout(LIMIT));
                drop(writer);
                assert_eq!(waiting.join().expect("no panic"), Err(RecvTimeoutError::Closed), "{strategy:?}");
            });
        });
    }
}

// ---- options ----

#[test]
fn capacity_is_rounded_up_to_a_power_of_two() {
    for (asked, got) in [(4095, 4096), (4096, 4096), (4097, 8192), (5000, 8192), (100_000, 131_072)] {
        let (writer, door) = heap(&Options::new().capacity(asked));
        assert_eq!((writer.capacity(), door.lossy().capacity()), (got, got));
        assert_eq!(writer.max_payload() as u64, got / 2 - 8);
    }
    let default = Options::new().create_heap().expect("a ring");
    assert_eq!((default.capacity(), default.reader_count()), (1 << 20, 0));
}

#[test]
fn options_that_no_ring_can_have_are_named() {
    let new = Options::new;
    let cases = [
        (new().capacity(0), "capacity"),
        (new().capacity(2048), "capacity"),
        (new().capacity((1 << 40) + 1), "capacity"),
        (new().capacity(1 << 63), "capacity"),
        (new().capacity(u64::MAX), "capacity"),
        (new().blocks(0), "blocks"),
        (new().blocks(1), "blocks"),
        (new().blocks(12), "blocks"),
        (new().blocks(2048), "blocks"),
        (new().capacity(4096).blocks(1024), "blocks"),
        (new().capacity(4096).record_alignment(64).blocks(128), "blocks"),
        (new().record_alignment(0), "alignment"),
        (new().record_alignment(16), "alignment"),
        (new().record_alignment(u64::MAX), "alignment"),
        (new().reader_slots(1025), "reader_slots"),
        (new().reader_slots(u64::MAX), "reader_slots"),
        (new().start_position(4), "start"),
        (new().start_position((1 << 63) + 8), "start"),
        (new().start_position(u64::MAX), "start"),
        (new().record_alignment(64).start_position(8), "start"),
    ];
    for (options, field) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let attempts =
            [options.create_heap(), options.create_anonymous(), options.create_file(directory.path().join("ring"))];
        for attempt in attempts {
            match attempt {
                Err(CreateError::Geometry(error)) => assert_eq!(error.field, field, "{error}"),
                Err(error) => panic!("{field}: {error}"),
                Ok(_) => panic!("{field}: it was created"),
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }
}

#[test]
fn every_number_of_blocks_works() {
    for blocks in [2, 4, 64, 256, 512] {
        let (mut writer, door) = heap(&smallest().blocks(blocks));
        let (mut lossless, mut lossy) = (door.lossless(), door.lossy());
        for _ in 0..50 {
            let count = fill(&mut writer, 200);
            assert!(count > 0, "who has read everything holds nothing back");
            assert_eq!(drain(&mut lossless).len() as u64, count);
        }
        let (records, lost) = drain_lossy(&mut lossy);
        assert_eq!(records.len() as u64 + lost, writer.sequence(), "{blocks} blocks");
    }
}
