//! Claims, batches, buffers and borrows.

use super::*;

// ---- claims ----

#[test]
fn a_claim_in_any_pieces_is_the_record_that_a_copy_is() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        let lengths = (0..=40).chain([63, 64, 65, 127, 128, 500, 2033, MAX]);
        for (len, piece) in lengths.flat_map(|len| [1, 2, 3, 5, 7, 8, 9, 13, 16, 61, 4096].map(|piece| (len, piece))) {
            // What was there before does not show.
            let payload: Vec<u8> = (0..len).map(|at| (at * 7 + piece) as u8 | 1).collect();
            let mut claim = writer.try_claim(len).expect("room");
            assert_eq!((claim.len(), claim.is_empty(), claim.written()), (len, len == 0, 0));
            for bytes in payload.chunks(piece) {
                claim.write_all(bytes).expect("room");
            }
            claim.flush().expect("nothing to do");
            assert_eq!(claim.written(), len);
            assert_eq!(claim.write(b"more").expect("a count"), 0, "it is full");
            claim.commit();
            assert_eq!(reader.try_recv().map(|record| record.payload).as_ref(), Ok(&payload), "{len} by {piece}");
            let mut claim = writer.try_claim(len).expect("room");
            claim.copy_from_slice(&payload);
            claim.commit();
            assert_eq!(reader.try_recv().map(|record| record.payload), Ok(payload), "{len}");
        }
    });
}

#[test]
fn what_a_claim_leaves_out_is_zero() {
    let (mut writer, door) = heap(&smallest());
    let mut reader = door.lossless();
    for len in (0..64).chain([600, 1999, MAX]) {
        for written in (0..=len).step_by(1 + len / 20) {
            // Every byte of the ring was something else before.
            for _ in 0..3 {
                writer.try_publish(&[0xFF; MAX]).expect("room");
                reader.try_recv().expect("a record");
            }
            let mut claim = writer.try_claim(len).expect("room");
            claim.write_all(&vec![7; written]).expect("room");
            claim.commit();
            let expected = [vec![7; written], vec![0; len - written]].concat();
            assert_eq!(reader.try_recv().map(|record| record.payload), Ok(expected), "{written} of {len}");
        }
    }
}

#[test]
fn a_claim_does_what_a_vector_would() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut writer, door) = heap(&smallest().start_position(random.below(512) * 8));
        let mut reader = door.lossless();
        for _ in 0..20 {
            let mut len = random.below(100) as usize;
            let mut model: Vec<u8> = Vec::new();
            let mut claim = writer.try_claim(len).expect("room");
            for _ in 0..random.below(8) {
                match random.below(5) {
                    0 => {
                        let to = random.below(100) as usize;
                        claim.truncate(to);
                        len = len.min(to);
                        model.truncate(to);
                    }
                    1 => {
                        let value = random.next();
                        let fits = len - model.len() >= 8;
                        assert_eq!(claim.write_value(&value).is_ok(), fits, "seed {seed}");
                        if fits {
                            model.extend(value.to_ne_bytes());
                        }
                    }
                    2 if random.below(4) == 0 => {
                        model = (0..len).map(|_| random.next() as u8).collect();
                        claim.copy_from_slice(&model);
                    }
                    _ => {
                        let bytes: Vec<u8> = (0..random.below(30)).map(|_| random.next() as u8).collect();
                        let count = claim.write(&bytes).expect("a count");
                        assert_eq!(count, bytes.len().min(len - model.len()), "seed {seed}");
                        model.extend(&bytes[..count]);
                    }
                }
                assert_eq!((claim.len(), claim.written()), (len, model.len()), "seed {seed}");
            }
            if random.below(4) == 0 {
                drop(claim);
                assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "seed {seed}");
            } else {
                claim.commit();
                model.resize(len, 0);
                assert_eq!(reader.try_recv().map(|record| record.payload), Ok(model), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_value_that_does_not_fit_a_claim_is_not_written_at_all() {
    let (mut writer, door) = heap(&smallest());
    let mut claim = writer.try_claim(11).expect("room");
    claim.write_value(&0x0102_0304_u32).expect("room");
    assert_eq!(claim.write_value(&[9u8; 8]).expect_err("no room").kind(), std::io::ErrorKind::WriteZero);
    assert_eq!(claim.written(), 4);
    claim.write_value(&[5u8; 7]).expect("room");
    claim.commit();
    let expected = [&0x0102_0304_u32.to_ne_bytes()[..], &[5; 7]].concat();
    assert_eq!(door.lossless().try_recv().map(|record| record.payload), Ok(expected));
}

#[test]
#[should_panic = "as long as the claim"]
fn a_copy_of_another_length_panics() {
    let (mut writer, _door) = heap(&smallest());
    writer.try_claim(8).expect("room").copy_from_slice(b"short");
}

#[test]
fn a_claim_that_is_dropped_leaves_no_trace() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut readers = [door.lossless(), door.lossy()];
        let mut random = Random(9);
        for round in 0..2000 {
            // Often enough one that needs a pad, which then stands behind the last record for nothing.
            let mut claim = writer.try_claim(random.below(MAX as u64 + 1) as usize).expect("everything is read");
            let _ = claim.write(&[0xEE; 700]);
            drop(claim);
            for reader in &mut readers {
                assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
                assert_eq!(reader.lag(), 0);
            }
            let payload = vec![round as u8; random.below(200) as usize];
            assert_eq!(writer.try_publish(&payload), Ok(round));
            for reader in &mut readers {
                assert_eq!(reader.try_recv(), Ok(Record { sequence: round, payload: payload.clone() }));
            }
        }
    });
}

#[test]
fn claims_may_be_aborted_before_and_behind_every_pad() {
    for offset in (0..CAPACITY).step_by(8) {
        let (mut writer, door) = heap(&smallest().start_position(offset));
        let (mut reader, mut lossy) = (door.lossless(), door.lossy());
        // Up to the end, over it, and then one that would have stood before the pad.
        for len in [0, MAX - 1, MAX, 0, 8, 1000] {
            drop(writer.try_claim(len).expect("room"));
        }
        for (sequence, len) in [3, MAX, 0, MAX].into_iter().enumerate() {
            assert_eq!(writer.try_publish(&vec![sequence as u8; len]), Ok(sequence as u64), "offset {offset}");
            for reader in [&mut reader, &mut lossy] {
                let record = reader.try_recv().unwrap_or_else(|error| panic!("offset {offset}: {error}"));
                assert_eq!(record, Record { sequence: sequence as u64, payload: vec![sequence as u8; len] });
            }
            drop(writer.try_claim(MAX).expect("room"));
        }
    }
}

#[test]
fn a_shortened_claim_takes_only_what_it_needs() {
    let (mut writer, door) = heap(&smallest());
    let mut reader = door.lossless();
    let mut claim = writer.try_claim(MAX).expect("room");
    claim.write_all(b"seven b").expect("room");
    claim.truncate(7);
    claim.truncate(100);
    claim.commit();
    assert_eq!(writer.position(), 16);
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"seven b".to_vec()));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

// ---- batches ----

#[test]
fn a_batch_becomes_visible_all_at_once() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        writer.publish(b"first").expect("room");
        drain(&mut reader);
        // While the writer stores the batch, the reader looks.
        let records = (0..6u8).map(|n| {
            assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "record {n} of the batch showed early");
            vec![n; 8]
        });
        assert_eq!(writer.publish_batch(records), Ok(6));
        let mut reader = door.lossy();
        let payloads: Vec<_> = drain(&mut reader).into_iter().map(|record| record.payload[0]).collect();
        assert_eq!(payloads, [b'f', 0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_batch_of_any_size_arrives_whole() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut lossless, mut lossy, mut random) = (door.lossless(), door.lossy(), Random(2));
        for _ in 0..400 {
            let count = random.below(8);
            let first = writer.sequence();
            let bound = if random.below(4) == 0 { 400 } else { 40 };
            let batch: Vec<_> = (first..first + count).map(|sequence| record_of(sequence, bound)).collect();
            assert_eq!(writer.try_publish_batch(&batch), Ok(count as usize));
            for reader in [&mut lossless, &mut lossy] {
                let records = drain(reader);
                assert_eq!(
                    records.iter().map(|record| record.sequence).collect::<Vec<_>>(),
                    Vec::from_iter(first..first + count)
                );
                records.iter().for_each(|record| assert_whole(record.sequence, record, bound));
            }
        }
        assert!(writer.position() > 10 * CAPACITY);
    });
}

/// What is stored becomes visible before the writer asks for more room: readers read, and join, in the middle.
#[test]
fn a_batch_larger_than_the_ring_flows_through_it() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut reader, mut received) = (door.lossless(), Vec::new());
        let records = (0..300u64).map(|sequence| {
            received.extend(drain(&mut reader));
            let mut joined = door.reader(&Options::new().lossy(true).start(Start::Newest));
            assert!(joined.sequence() <= sequence, "nobody joins behind a record that is not there");
            assert_eq!(joined.try_recv(), Err(TryRecvError::Empty));
            record_of(sequence, 100)
        });
        assert_eq!(writer.try_publish_batch(records), Ok(300));
        received.extend(drain(&mut reader));
        assert_eq!(received.len(), 300);
        for (expected, record) in (0..).zip(&received) {
            assert_eq!(record.sequence, expected);
            assert_whole(expected, record, 100);
        }
    });
}

#[test]
fn a_batch_that_finds_no_room_says_how_many_it_published() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        for _ in 0..20 {
            let before = writer.sequence();
            let count = writer.try_publish_batch(std::iter::repeat_n([5u8; 100], 1000)).expect("no error") as u64;
            assert!(count > 20 && count < 1000, "{count}");
            assert_eq!(writer.sequence() - before, count);
            assert_eq!(writer.try_publish_batch([[5u8; 2000]]), Ok(0));
            assert_eq!(writer.try_publish(&[5; 2000]), Err(TryPublishError::Full));
            assert_eq!(drain(&mut reader).len() as u64, count);
        }
    });
}

#[test]
fn what_stands_before_the_bad_record_of_a_batch_is_published() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        let batch = [vec![1; 8], vec![2; 8], vec![3; MAX + 1], vec![4; 8]];
        let (len, max) = (MAX + 1, MAX);
        assert_eq!(writer.publish_batch(&batch), Err(PublishError::TooLarge { len, max }));
        assert_eq!(drain(&mut reader).len(), 2);
        assert_eq!(writer.try_publish_batch(&batch), Err(TryPublishError::TooLarge { len, max }));
        assert_eq!(drain(&mut reader).len(), 2);
        let nothing: [Vec<u8>; 0] = [];
        assert_eq!(writer.publish_batch(nothing), Ok(0));
    });
}

#[test]
fn what_stands_before_a_panic_in_a_batch_is_published() {
    let (mut writer, door) = heap(&smallest());
    let mut reader = door.lossless();
    let batch = (0..5u8).map(|n| if n < 3 { [n; 4] } else { panic!("of the caller's") });
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.publish_batch(batch)));
    assert!(outcome.is_err());
    assert_eq!(drain(&mut reader).len(), 3);
    assert_eq!(writer.publish(b"on"), Ok(3));
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"on".to_vec()));
}

#[test]
fn batches_are_received_up_to_a_number() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut reader, mut records) = (door.lossless(), Vec::new());
        assert_eq!(reader.try_recv_batch(&mut records, 4), Err(TryRecvError::Empty));
        publish_numbered(&mut writer, 10, 50);
        assert_eq!(reader.try_recv_batch(&mut records, 4), Ok(4));
        assert_eq!(reader.recv_batch(&mut records, 4), Ok(4));
        assert_eq!(reader.recv_batch(&mut records, 4), Ok(2));
        assert_eq!(records.iter().map(|record| record.sequence).collect::<Vec<_>>(), Vec::from_iter(0..10));
        publish_numbered(&mut writer, 1, 50);
        writer.close();
        assert_eq!(reader.recv_batch(&mut records, usize::MAX), Ok(1));
        assert_eq!(reader.recv_batch(&mut records, 4), Err(RecvError::Closed));
        assert_eq!(records.len(), 11);
    });
}

/// A writer that laps the reader in the middle of its batches: whatever a batch has met is told by the next call.
#[test]
fn a_batch_that_meets_a_loss_reports_it_by_the_next_call() {
    let (mut writer, door) = heap(&smallest());
    let mut reader = door.lossy();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = OnDrop(|| done.store(true, SeqCst));
            let (mut expected, mut cut, mut full) = (0, 0, false);
            let start = Instant::now();
            // Losses behind records of the same call are what this is about.
            while cut < 50 {
                assert!(start.elapsed() < LIMIT, "only {cut} batches were cut short by a loss");
                let mut records = Vec::new();
                match reader.try_recv_batch(&mut records, 64) {
                    Ok(count) => {
                        assert_eq!(count, records.len());
                        for record in &records {
                            assert_eq!(record.sequence, expected);
                            assert_whole(expected, record, 100);
                            expected += 1;
                        }
                        full = count > 0 && count < 64;
                    }
                    Err(TryRecvError::Lagged(n)) => {
                        assert!(n > 0);
                        expected += n;
                        cut += usize::from(full);
                        full = false;
                    }
                    Err(error) => {
                        assert_eq!(error, TryRecvError::Empty);
                        full = false;
                    }
                }
            }
        });
        while !done.load(SeqCst) {
            publish_numbered(&mut writer, 200, 100);
        }
    });
}

// ---- buffers and borrows ----

#[test]
fn a_buffer_that_is_too_small_keeps_the_record() {
    on_every_kind(&smallest(), |mut writer, door| {
        for mut reader in [door.lossless(), door.lossy()] {
            let sequence = writer.sequence();
            writer.publish(&[6; 100]).expect("room");
            let mut buffer = [0; 200];
            for len in [0, 1, 8, 99] {
                let needed = 100;
                assert_eq!(reader.try_recv_into(&mut buffer[..len]), Err(TryRecvError::TooSmall { needed }));
                assert_eq!(reader.recv_into(&mut buffer[..len]), Err(RecvError::TooSmall { needed }));
                let timed = reader.recv_into_timeout(&mut buffer[..len], LIMIT);
                assert_eq!(timed, Err(RecvTimeoutError::TooSmall { needed }));
            }
            let from = drain_to(&mut reader, sequence);
            assert_eq!(from, sequence);
            buffer.fill(0xAA);
            let received = reader.try_recv_into(&mut buffer).expect("the record");
            assert_eq!((received.sequence, received.len), (sequence, 100));
            assert!(buffer[..100].iter().all(|&byte| byte == 6) && buffer[100..].iter().all(|&byte| byte == 0xAA));
            assert_eq!(reader.try_recv_into(&mut buffer), Err(TryRecvError::Empty));
        }
    });
}

/// Reads up to a record, and no further.
fn drain_to(reader: &mut Reader, sequence: u64) -> u64 {
    while reader.sequence() < sequence {
        reader.try_recv().expect("a record");
    }
    reader.sequence()
}

#[test]
fn a_buffer_that_was_too_small_meets_a_loss() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossy();
        writer.publish(&[6; 100]).expect("room");
        assert_eq!(reader.try_recv_into(&mut []), Err(TryRecvError::TooSmall { needed: 100 }));
        publish_numbered(&mut writer, 500, 100);
        let Err(TryRecvError::Lagged(lost)) = reader.try_recv_into(&mut []) else { panic!("the record is gone") };
        assert_eq!(lost + drain(&mut reader).len() as u64, 501);
    });
}

#[test]
fn a_borrowed_record_counts_when_it_is_dropped_and_not_when_it_is_forgotten() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        assert!(reader.can_borrow());
        publish_numbered(&mut writer, 3, 100);
        for sequence in 0..3 {
            for _ in 0..3 {
                let record = reader.recv_ref().expect("a record");
                assert_eq!(record.sequence(), sequence);
                assert_whole(sequence, &record, 100);
                std::mem::forget(record);
            }
            assert_eq!((reader.sequence(), reader.lag()), (sequence, 3 - sequence));
            // Any call yields it.
            if sequence == 1 {
                assert_eq!(reader.try_recv().map(|record| record.sequence), Ok(1));
            } else {
                drop(reader.try_recv_ref().expect("a record"));
            }
        }
        assert!(matches!(reader.try_recv_ref(), Err(TryRecvError::Empty)));
        // A forgotten one holds the writer back like any unread one.
        publish_numbered(&mut writer, 1, 100);
        std::mem::forget(reader.recv_ref().expect("a record"));
        fill(&mut writer, 100);
        assert_eq!(reader.recv_ref().map(|record| record.sequence()), Ok(3));
    });
}

#[test]
fn a_lossy_reader_cannot_borrow() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossy();
        writer.publish(b"x").expect("room");
        assert!(!reader.can_borrow());
        assert!(matches!(reader.try_recv_ref(), Err(TryRecvError::NotBorrowable)));
        assert!(matches!(reader.recv_ref(), Err(RecvError::NotBorrowable)));
        assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"x".to_vec()), "nothing was lost by asking");
    });
}
