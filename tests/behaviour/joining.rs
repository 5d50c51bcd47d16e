//! Joining, slots, and time limits.

use super::*;

// ---- time ----

#[test]
fn timeouts_are_timeouts() {
    for strategy in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park, WaitStrategy::ParkAtOnce] {
        on_every_kind(&smallest().wait(strategy), |mut writer, door| {
            let mut reader = door.reader(&Options::new().wait(strategy));
            let short = Duration::from_millis(3);
            let timed = |what: &mut dyn FnMut()| {
                let start = Instant::now();
                what();
                assert!(start.elapsed() >= short, "{strategy:?}: early");
            };
            timed(&mut || assert_eq!(reader.recv_timeout(short), Err(RecvTimeoutError::Timeout)));
            timed(&mut || assert_eq!(reader.recv_deadline(Instant::now() + short), Err(RecvTimeoutError::Timeout)));
            timed(&mut || assert_eq!(reader.recv_into_timeout(&mut [], short), Err(RecvTimeoutError::Timeout)));
            assert_eq!(reader.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
            assert_eq!(reader.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
            // With the reader as it is now nothing is read, so the writer is held back.
            fill(&mut writer, 100);
            let payload = [0; 1000];
            timed(&mut || assert_eq!(writer.publish_timeout(&payload, short), Err(PublishTimeoutError::Timeout)));
            timed(&mut || {
                let deadline = Instant::now() + short;
                assert_eq!(writer.publish_deadline(&payload, deadline), Err(PublishTimeoutError::Timeout));
            });
            timed(&mut || assert!(matches!(writer.claim_timeout(1000, short), Err(PublishTimeoutError::Timeout))));
            assert_eq!(writer.publish_timeout(&payload, Duration::ZERO), Err(PublishTimeoutError::Timeout));
            assert_eq!(writer.try_publish(&payload), Err(TryPublishError::Full));
            // What is there comes at once, whatever the limit; and there is no end to time.
            assert_eq!(reader.recv_timeout(Duration::ZERO).map(|record| record.sequence), Ok(0));
            assert_eq!(reader.recv_timeout(Duration::MAX).map(|record| record.sequence), Ok(1));
            drain(&mut reader);
            assert!(writer.publish_timeout(&payload, Duration::MAX).is_ok());
        });
    }
}

#[test]
fn a_writer_that_waits_goes_on_when_a_reader_reads_or_leaves() {
    for strategy in [WaitStrategy::Yield, WaitStrategy::Park, WaitStrategy::ParkAtOnce] {
        on_every_kind(&smallest().wait(strategy), |mut writer, door| {
            for leave in [false, true] {
                let mut reader = door.lossless();
                fill(&mut writer, 100);
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| writer.publish_timeout(&[0; 1500], LIMIT));
                    if leave {
                        drop(reader);
                    } else {
                        drain(&mut reader);
                    }
                    assert!(waiting.join().expect("no panic").is_ok(), "{strategy:?}");
                });
            }
        });
    }
}

// ---- joining ----

#[test]
fn readers_start_where_they_say() {
    on_every_kind(&smallest(), |mut writer, door| {
        publish_numbered(&mut writer, 1000, 100);
        let start = |start, lossy| door.join(&Options::new().lossy(lossy).start(start));
        for lossy in [false, true] {
            let first = |reader: Result<Reader, OpenError>| {
                let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
                let records = drain(&mut reader);
                records.iter().for_each(|record| assert_whole(record.sequence, record, 100));
                assert_eq!(records.last().map_or(999, |record| record.sequence), 999);
                records.first().map_or(1000, |record| record.sequence)
            };
            let oldest = first(start(Start::Oldest, lossy));
            let middle = first(start(Start::Middle, lossy));
            assert_eq!(first(start(Start::Newest, lossy)), 1000);
            assert!(oldest < middle && middle < 1000, "{oldest}, {middle}");
            // The middle is about half the bytes behind.
            let reader = start(Start::Middle, lossy).expect("a reader");
            let behind = writer.position() - reader.position();
            assert!((CAPACITY / 4..CAPACITY * 3 / 4).contains(&behind), "{behind} bytes");
            drop(reader);
            for wanted in oldest..=1000 {
                let reader = start(Start::Sequence(wanted), lossy).expect("a reader");
                assert_eq!(reader.sequence(), wanted);
                assert_eq!(first(Ok(reader)), wanted, "exactly there");
            }
            for wanted in [1001, 1 << 40, u64::MAX] {
                match start(Start::Sequence(wanted), lossy) {
                    Err(OpenError::SequenceNotYet { wanted: named, next: 1000 }) => assert_eq!(named, wanted),
                    other => panic!("{wanted}: {other:?}"),
                }
            }
            for wanted in [0, 1, oldest - 1] {
                match start(Start::Sequence(wanted), lossy) {
                    Err(OpenError::SequenceGone { wanted: named, oldest: offered }) => {
                        assert_eq!((named, offered), (wanted, oldest));
                    }
                    other => panic!("{wanted}: {other:?}"),
                }
            }
        }
        assert_eq!(writer.reader_count(), 0, "every one, refused or not, has given its slot back");
    });
}

#[test]
fn every_start_is_the_same_on_an_empty_ring() {
    on_every_kind(&smallest(), |mut writer, door| {
        let starts = [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(0)];
        let mut readers: Vec<_> = starts.iter().map(|&start| door.reader(&Options::new().start(start))).collect();
        assert!(matches!(
            door.join(&Options::new().lossy(true).start(Start::Sequence(1))),
            Err(OpenError::SequenceNotYet { wanted: 1, next: 0 })
        ));
        writer.publish(b"x").expect("room");
        for reader in &mut readers {
            assert_eq!(reader.try_recv().map(|record| record.sequence), Ok(0));
        }
    });
}

#[test]
fn a_lossless_reader_that_has_joined_misses_nothing_from_then_on() {
    on_every_kind(&smallest(), |mut writer, door| {
        for start in [Start::Oldest, Start::Middle, Start::Newest] {
            publish_numbered(&mut writer, 333, 100);
            let mut reader = door.reader(&Options::new().start(start));
            let first = reader.sequence();
            fill(&mut writer, 100);
            let records = drain(&mut reader);
            assert_eq!(records[0].sequence, first);
            assert_eq!(first + records.len() as u64, writer.sequence());
            records.iter().for_each(|record| assert_whole(record.sequence, record, 100));
        }
    });
}

/// Wherever the writer rests, and however large its last records and pads were, there is a boundary to join at.
#[test]
fn one_can_always_join_a_ring_that_rests() {
    for offset in (0..CAPACITY).step_by(8) {
        let (mut writer, door) = heap(&smallest().start_position(offset));
        for len in [MAX, 1, MAX, MAX - 8, 0, 700] {
            writer.try_publish(&vec![1; len]).expect("room");
            for start in [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(writer.sequence())] {
                for lossy in [false, true] {
                    let reader = door.join(&Options::new().lossy(lossy).start(start));
                    let mut reader =
                        reader.unwrap_or_else(|error| panic!("offset {offset}, {len} bytes, {start:?}: {error}"));
                    let (first, count) = (reader.sequence(), drain(&mut reader).len() as u64);
                    assert_eq!(first + count, writer.sequence());
                    assert!(start == Start::Oldest || start == Start::Middle || count == 0);
                }
            }
        }
    }
}

/// Readers that join while the writer runs at full speed: from the moment the join returns, nothing is missed.
#[test]
fn two_hundred_late_joiners_miss_nothing() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (done, mut moved) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                while !done.load(SeqCst) {
                    writer.publish_timeout(&record_of(writer.sequence(), 100), LIMIT).expect("the readers read");
                }
            });
            let _end = OnDrop(|| done.store(true, SeqCst));
            let mut last = 0;
            for round in 0..200 {
                let start = [Start::Oldest, Start::Middle, Start::Newest][round % 3];
                let mut reader = match door.join(&Options::new().start(start)) {
                    Err(OpenError::Busy) => continue,
                    reader => reader.unwrap_or_else(|error| panic!("{error}")),
                };
                let first = reader.sequence();
                moved += usize::from(first > last);
                for expected in first..first + 60 {
                    let record = reader.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{start:?}: {error}"));
                    assert_eq!(record.sequence, expected, "{start:?}");
                    assert_whole(expected, &record, 100);
                }
                last = first + 60;
            }
            drop(_end);
            publisher.join().expect("no panic");
        });
        assert!(moved > 60, "only {moved} of 200 joined a ring that had moved on");
    });
}

// ---- slots ----

#[test]
fn slots_run_out_and_come_back() {
    on_every_kind(&smallest().reader_slots(3), |mut writer, door| {
        assert_eq!(writer.reader_count(), 0);
        let mut readers = vec![door.lossless(), door.lossy(), door.lossless()];
        assert_eq!(writer.reader_count(), 3);
        for _ in 0..3 {
            assert!(matches!(door.join(&Options::new()), Err(OpenError::NoFreeSlot { slots: 3 })));
            // A lossy reader does without.
            let mut uncounted = door.lossy();
            assert_eq!(writer.reader_count(), 3);
            publish_numbered(&mut writer, 1, 10);
            assert!(drain(&mut uncounted).len() == writer.sequence() as usize);
            readers.remove(0);
            assert_eq!(writer.reader_count(), 2);
            readers.push(door.lossless());
        }
        drop(readers);
        assert_eq!(writer.reader_count(), 0);
    });
}

#[test]
fn a_ring_without_slots_refuses_lossless_readers_only() {
    on_every_kind(&smallest().reader_slots(0), |mut writer, door| {
        assert!(matches!(door.join(&Options::new()), Err(OpenError::NoFreeSlot { slots: 0 })));
        let mut reader = door.lossy();
        assert_eq!(writer.reader_count(), 0);
        publish_numbered(&mut writer, 5, 10);
        assert_eq!(drain(&mut reader).len(), 5);
    });
}

#[test]
fn a_dropped_reader_no_longer_holds_the_writer_back() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (idle, other) = (door.lossless(), door.lossless());
        fill(&mut writer, 100);
        drop(idle);
        assert_eq!(writer.try_publish(&[0; 1000]), Err(TryPublishError::Full), "the other one still does");
        drop(other);
        publish_numbered(&mut writer, 1000, 100);
    });
}

#[test]
fn waiting_for_readers_counts_them() {
    on_every_kind(&smallest(), |mut writer, door| {
        assert_eq!(writer.wait_for_readers(0, Duration::ZERO), Ok(()));
        let _one = door.lossless();
        let start = Instant::now();
        let error = WaitForReadersError { wanted: 2, found: 1 };
        assert_eq!(writer.wait_for_readers(2, Duration::from_millis(5)), Err(error));
        assert!(start.elapsed() >= Duration::from_millis(5));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| writer.wait_for_readers(3, LIMIT));
            let _two = (door.lossy(), door.lossless());
            assert_eq!(waiting.join().expect("no panic"), Ok(()));
        });
    });
}
