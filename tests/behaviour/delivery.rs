//! What arrives: order, lag, sizes.

use super::*;

// ---- delivery ----

#[test]
fn every_reader_gets_every_record_in_order_once() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut readers = [door.lossless(), door.lossless(), door.lossy()];
        for round in 0..50 {
            for _ in 0..3 {
                assert_eq!(writer.publish(&record_of(writer.sequence(), 300)), Ok(writer.sequence() - 1));
            }
            for reader in &mut readers {
                let records = drain(reader);
                assert_eq!(records.len(), 3);
                for (offset, record) in records.iter().enumerate() {
                    assert_eq!(record.sequence, round * 3 + offset as u64);
                    assert_whole(record.sequence, record, 300);
                }
            }
        }
        assert!(writer.position() > 4 * CAPACITY, "it lapped");
    });
}

#[test]
fn a_ring_without_readers_takes_records_and_keeps_the_newest() {
    on_every_kind(&smallest(), |mut writer, door| {
        publish_numbered(&mut writer, 1000, 100);
        let records = drain(&mut door.lossless());
        assert!(records.len() > 20 && records.len() < 200, "{}", records.len());
        assert_eq!(records.last().map(|record| record.sequence), Some(999));
        for (record, expected) in records.iter().rev().zip((0..1000).rev()) {
            assert_eq!(record.sequence, expected);
            assert_whole(expected, record, 100);
        }
    });
}

#[test]
fn empty_records_are_records_also_behind_a_wrap() {
    for alignment in [8, 64] {
        on_every_kind(&smallest().record_alignment(alignment), |mut writer, door| {
            let (mut lossless, mut lossy) = (door.lossless(), door.lossy());
            for sequence in 0..CAPACITY / alignment * 3 {
                writer.try_publish(b"").expect("room");
                for reader in [&mut lossless, &mut lossy] {
                    assert_eq!(reader.try_recv(), Ok(Record { sequence, payload: vec![] }));
                    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
                }
            }
            // And in between others, which wrap with pads.
            let mut random = Random(1);
            for _ in 0..2000 {
                let payload = vec![b'x'; if random.below(2) == 0 { 0 } else { random.below(700) as usize }];
                writer.try_publish(&payload).expect("room");
                assert_eq!(lossless.try_recv().map(|record| record.payload), Ok(payload.clone()));
                assert_eq!(lossy.try_recv().map(|record| record.payload), Ok(payload));
            }
        });
    }
}

#[test]
fn the_largest_record_fits_at_every_place_of_the_ring() {
    for alignment in [8, 64] {
        for offset in (0..CAPACITY).step_by(alignment as usize) {
            let (mut writer, door) = heap(&smallest().record_alignment(alignment).start_position(offset));
            assert_eq!(writer.max_payload(), MAX);
            let (mut reader, mut lossy) = (door.lossless(), door.lossy());
            for round in 0..5 {
                let payload: Vec<u8> = (0..MAX).map(|at| (at as u64 + offset + round) as u8).collect();
                assert_eq!(writer.try_publish(&payload), Ok(round), "offset {offset}");
                assert_eq!(reader.try_recv().map(|record| record.payload).as_ref(), Ok(&payload), "offset {offset}");
                assert_eq!(lossy.try_recv().map(|record| record.payload).as_ref(), Ok(&payload), "offset {offset}");
            }
        }
    }
}

#[test]
fn a_payload_that_can_never_fit_is_too_large() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        let payload = vec![1; MAX + 1];
        let (len, max) = (MAX + 1, MAX);
        assert_eq!(writer.publish(&payload), Err(PublishError::TooLarge { len, max }));
        assert_eq!(writer.try_publish(&payload), Err(TryPublishError::TooLarge { len, max }));
        assert_eq!(writer.publish_timeout(&payload, LIMIT), Err(PublishTimeoutError::TooLarge { len, max }));
        assert_eq!(writer.try_publish_batch([&payload]), Err(TryPublishError::TooLarge { len, max }));
        assert_eq!((writer.position(), writer.sequence()), (0, 0), "nothing was published");
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
        // Also when there is much room before the next look at the limit.
        writer.publish(b"x").expect("room");
        assert_eq!(writer.try_publish(&payload), Err(TryPublishError::TooLarge { len, max }));
        assert_eq!(writer.try_publish(&payload[1..]), Ok(1));
    });
}

#[test]
fn a_claim_of_any_size_is_refused_and_never_overflows() {
    let (mut writer, _door) = heap(&smallest());
    for len in [MAX + 1, 1 << 32, (1 << 32) + 8, isize::MAX as usize, usize::MAX - 15, usize::MAX - 7, usize::MAX] {
        match writer.try_claim(len).map(|claim| claim.len()) {
            Err(TryPublishError::TooLarge { len: named, max }) => assert_eq!((named, max), (len, MAX)),
            other => panic!("a claim of {len} bytes: {other:?}"),
        }
        assert!(matches!(writer.claim(len), Err(PublishError::TooLarge { .. })));
        assert!(matches!(writer.claim_timeout(len, LIMIT), Err(PublishTimeoutError::TooLarge { .. })));
    }
    assert_eq!(writer.publish(b"x"), Ok(0));
}

#[test]
fn records_start_on_lines_of_their_own_if_the_ring_says_so() {
    on_every_kind(&smallest().record_alignment(64), |mut writer, door| {
        let mut reader = door.lossless();
        let mut random = Random(3);
        for _ in 0..1000 {
            let payload = vec![b'a'; random.below(300) as usize];
            writer.try_publish(&payload).expect("room");
            let before = reader.position();
            assert_eq!(reader.try_recv_ref().map(|record| record.len()), Ok(payload.len()));
            assert!(before.is_multiple_of(64) && reader.position().is_multiple_of(64));
        }
    });
}

// ---- lag ----

#[test]
fn a_lossy_reader_is_told_exactly_what_it_missed() {
    for resume in [Start::Oldest, Start::Middle, Start::Newest] {
        on_every_kind(&smallest(), |mut writer, door| {
            let mut reader = door.reader(&Options::new().lossy(true).resume(resume));
            let (mut received, mut lost) = (0, 0);
            let mut random = Random(8);
            for _ in 0..200 {
                publish_numbered(&mut writer, random.below(300), 120);
                // Sometimes everything, sometimes not.
                for _ in 0..random.below(100) {
                    match reader.try_recv() {
                        Ok(record) => {
                            assert_eq!(record.sequence, received + lost, "each at most once, in order, no gap untold");
                            assert_whole(record.sequence, &record, 120);
                            received += 1;
                        }
                        Err(TryRecvError::Lagged(n)) => lost += n,
                        Err(TryRecvError::Empty) => assert_eq!(received + lost, writer.sequence()),
                        Err(error) => panic!("{error}"),
                    }
                    assert_eq!(reader.sequence(), received + lost);
                }
            }
            let (rest, lost_last) = drain_lossy(&mut reader);
            assert_eq!(received + lost + rest.len() as u64 + lost_last, writer.sequence());
            assert!(received > 500 && lost > 1000, "{received} received, {lost} lost");
        });
    }
}

#[test]
fn lag_is_each_readers_own() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut fast, mut slow) = (door.lossy(), door.lossy());
        let mut taken = 0;
        for _ in 0..500 {
            publish_numbered(&mut writer, 1, 100);
            taken += drain(&mut fast).len();
        }
        assert_eq!(taken, 500, "who keeps up misses nothing");
        let Err(TryRecvError::Lagged(lost)) = slow.try_recv() else { panic!("it was lapped many times") };
        assert_eq!(drain(&mut slow).len() as u64 + lost, 500);
        assert_eq!(fast.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn a_reader_that_lags_again_before_it_reads_is_told_again() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossy();
        let mut lost = 0;
        for _ in 0..20 {
            publish_numbered(&mut writer, 300, 100);
            let Err(TryRecvError::Lagged(n)) = reader.try_recv() else { panic!("300 records are more than a lap") };
            lost += n;
        }
        let records = drain(&mut reader);
        assert_eq!(records[0].sequence, lost);
        assert_eq!(lost + records.len() as u64, writer.sequence());
    });
}

#[test]
fn a_reader_that_is_not_lapped_is_told_of_no_loss() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut lossy, mut random) = (door.lossy(), Random(5));
        for _ in 0..500 {
            // The oldest unread byte is less than a ring, less a block and the largest of these records, behind.
            let behind = writer.position();
            while writer.position() - behind < CAPACITY - CAPACITY / 16 - 3 * 112 {
                let payload = vec![0; random.below(100) as usize];
                writer.try_publish(&payload).expect("nobody holds it back");
            }
            assert_eq!(drain(&mut lossy).last().map(|record| record.sequence), Some(writer.sequence() - 1));
        }
    });
}

#[test]
fn a_lapped_reader_goes_on_where_it_was_told_to() {
    let (mut writer, door) = heap(&smallest());
    let starts = [Start::Oldest, Start::Middle, Start::Newest];
    let mut readers = starts.map(|resume| door.reader(&Options::new().lossy(true).resume(resume)));
    publish_numbered(&mut writer, 1000, 100);
    let [oldest, middle, newest] = readers.each_mut().map(|reader| match reader.try_recv() {
        Err(TryRecvError::Lagged(lost)) => lost,
        other => panic!("{other:?}"),
    });
    assert!(oldest < middle && middle < newest, "lost {oldest}, {middle}, {newest}");
    assert!(newest < writer.sequence(), "the newest boundary is one to read from");
}

#[test]
fn a_ring_that_holds_one_record_keeps_its_counts() {
    on_every_kind(&smallest(), |mut writer, door| {
        for resume in [Start::Oldest, Start::Middle, Start::Newest] {
            let mut reader = door.reader(&Options::new().lossy(true).start(Start::Newest).resume(resume));
            let before = writer.sequence();
            let (mut received, mut lost) = (0, 0);
            for round in 0..40 {
                for _ in 0..=round % 4 {
                    let payload = vec![writer.sequence() as u8; MAX - round % 3];
                    writer.try_publish(&payload).expect("room");
                }
                loop {
                    match reader.try_recv() {
                        Ok(record) => {
                            assert!(record.payload.iter().all(|&byte| byte == record.sequence as u8));
                            received += 1;
                        }
                        Err(TryRecvError::Lagged(n)) => lost += n,
                        Err(error) => break assert_eq!(error, TryRecvError::Empty),
                    }
                }
                assert_eq!(before + received + lost, writer.sequence());
            }
            assert!(received > 0 && lost > 0);
        }
    });
}

#[test]
fn resubscribing_begins_with_the_next_record_also_from_a_lagging_reader() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut lossless = door.lossless();
        publish_numbered(&mut writer, 5, 100);
        let mut second = lossless.resubscribe().expect("a free slot");
        assert!(second.is_lossless());
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
        publish_numbered(&mut writer, 1, 100);
        assert_eq!(second.try_recv().map(|record| record.sequence), Ok(5));
        assert_eq!(drain(&mut lossless).len(), 6, "the first one is where it was");
        drop((lossless, second));
        let mut lossy = door.lossy();
        publish_numbered(&mut writer, 1000, 100);
        let mut fresh = lossy.resubscribe().expect("a reader");
        assert_eq!(fresh.try_recv(), Err(TryRecvError::Empty));
        assert!(matches!(lossy.try_recv(), Err(TryRecvError::Lagged(_))));
        writer.close();
        assert_eq!(fresh.resubscribe().expect("a reader").try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn lag_counts_what_is_unread() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut reader, lossy) = (door.lossless(), door.lossy());
        assert_eq!((reader.lag(), lossy.lag()), (0, 0));
        for unread in 1..=40 {
            publish_numbered(&mut writer, 1, 60);
            assert_eq!((reader.lag(), lossy.lag()), (unread, unread));
        }
        for unread in (0..40).rev() {
            reader.try_recv().expect("a record");
            assert_eq!(reader.lag(), unread);
        }
        drop(reader);
        publish_numbered(&mut writer, 1000 - 40, 1);
        assert_eq!(lossy.lag(), 1000, "also what is lost already");
    });
}
