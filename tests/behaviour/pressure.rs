//! Back-pressure and large positions.

use super::*;

// ---- back-pressure ----

#[test]
fn a_reader_that_took_the_last_record_never_holds_the_writer_back() {
    for (alignment, offset) in [8, 64].into_iter().flat_map(|a| (0..CAPACITY).step_by(64).map(move |at| (a, at))) {
        for bound in [1, 30, 500, MAX as u64 + 1] {
            let (mut writer, door) = heap(&smallest().record_alignment(alignment).start_position(offset));
            let mut reader = door.lossless();
            for round in 0..4 {
                let count = fill(&mut writer, bound);
                assert!(count > 0);
                // Takes the last one, and then asks for nothing more.
                for _ in 0..count {
                    match round % 3 {
                        0 => drop(reader.try_recv_ref().expect("a record")),
                        1 => drop(reader.try_recv().expect("a record")),
                        _ => drop(reader.try_recv_into(&mut [0; MAX]).expect("a record")),
                    }
                }
                // Also over a pad that a claim has left behind.
                drop(writer.try_claim((offset as usize * 7 + round) % MAX).expect("room"));
                let largest = writer.try_publish(&[1; MAX]);
                assert!(largest.is_ok(), "alignment {alignment}, offset {offset}, records below {bound}: {largest:?}");
                assert_eq!(reader.try_recv().map(|record| record.len()), Ok(MAX));
            }
        }
    }
}

/// A claim that was dropped has left a pad behind the records, and the reader comes to it without having run dry.
#[test]
fn a_pad_behind_the_last_record_gives_the_room_before_it_back() {
    let mut longest = 0;
    for offset in (0..CAPACITY).step_by(8) {
        let (mut writer, door) = heap(&smallest().start_position(offset));
        let mut reader = door.lossless();
        for _ in 0..3 {
            writer.try_publish(&[1; 120]).expect("room");
        }
        // The smallest claim that needs a pad as long as the rest of the lap.
        let rest = (CAPACITY - writer.position() % CAPACITY) as usize;
        if rest <= MAX && writer.try_claim(rest).is_ok() {
            longest = longest.max(rest);
        }
        for _ in 0..3 {
            assert_eq!(reader.try_recv().map(|record| record.len()), Ok(120));
        }
        assert_eq!(writer.try_publish(&[2; MAX]), Ok(3), "offset {offset}");
        assert_eq!(reader.try_recv().map(|record| record.sequence), Ok(3));
    }
    assert!(longest > 1700, "the longest pad had {longest} bytes: what was read before it matters");
}

#[test]
fn room_is_given_back_before_a_reader_runs_dry() {
    on_every_kind(&smallest(), |mut writer, door| {
        let mut reader = door.lossless();
        for _ in 0..100 {
            while writer.try_publish(&[0; 100]).is_ok() {}
            // An eighth of the ring, and a record: it need not run dry.
            for _ in 0..CAPACITY / 8 / 112 + 2 {
                reader.try_recv().expect("a record");
            }
            assert!(reader.lag() > 10);
            assert!(writer.try_publish(&[0; 100]).is_ok());
        }
    });
}

#[test]
fn a_lossless_reader_is_never_overwritten() {
    on_every_kind(&smallest(), |mut writer, door| {
        let (mut slow, mut fast, mut random) = (door.lossless(), door.lossless(), Random(4));
        let mut next = 0;
        for _ in 0..500 {
            fill(&mut writer, 300);
            drain(&mut fast);
            for _ in 0..random.below(20) {
                match slow.try_recv() {
                    Ok(record) => {
                        assert_eq!(record.sequence, next);
                        assert_whole(next, &record, 300);
                        next += 1;
                    }
                    Err(error) => assert_eq!(error, TryRecvError::Empty),
                }
            }
        }
        assert!(next > 2000 && writer.position() > 50 * CAPACITY);
    });
}

/// Both sides wait for each other in every strategy, in threads.
#[test]
fn lossless_threads_receive_everything_under_back_pressure() {
    for strategy in [WaitStrategy::Yield, WaitStrategy::Park, WaitStrategy::ParkAtOnce] {
        on_every_kind(&smallest().wait(strategy), |mut writer, door| {
            const COUNT: u64 = 5000;
            let readers = [(); 2].map(|()| door.reader(&Options::new().wait(strategy)));
            std::thread::scope(|scope| {
                let threads = readers.map(|mut reader| {
                    scope.spawn(move || {
                        for expected in 0..COUNT {
                            let record = reader.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{error}"));
                            assert_eq!(record.sequence, expected);
                            assert_whole(expected, &record, 300);
                        }
                        reader.recv_timeout(LIMIT).err()
                    })
                });
                for sequence in 0..COUNT {
                    writer.publish_timeout(&record_of(sequence, 300), LIMIT).expect("the readers read");
                }
                // It overlapped: the ring holds less than a hundredth of what went through it.
                assert!(writer.position() > 100 * CAPACITY);
                drop(writer);
                for thread in threads {
                    assert_eq!(thread.join().expect("no panic"), Some(RecvTimeoutError::Closed));
                }
            });
        });
    }
}

/// A writer at full speed laps readers that read at full speed: lengths that vary are what made other rings hang.
#[test]
fn readers_that_are_lapped_all_the_time_get_whole_records_and_exact_counts() {
    for bound in [1, 9, 100, 600, MAX as u64 + 1] {
        for resume in [Start::Oldest, Start::Middle, Start::Newest] {
            let (mut writer, door) = heap(&smallest());
            let running = AtomicBool::new(true);
            let mut reader = door.reader(&Options::new().lossy(true).resume(resume));
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let _end = OnDrop(|| running.store(false, SeqCst));
                    let (mut received, mut lost, mut losses) = (0, 0, 0);
                    let start = Instant::now();
                    while received < 1000 || losses < 10 {
                        assert!(start.elapsed() < LIMIT, "stuck after {received} records and {losses} losses");
                        match reader.try_recv() {
                            Ok(record) => {
                                assert_eq!(record.sequence, received + lost);
                                assert_whole(record.sequence, &record, bound);
                                received += 1;
                            }
                            Err(TryRecvError::Lagged(n)) => {
                                assert!(n > 0);
                                (lost, losses) = (lost + n, losses + 1);
                            }
                            Err(error) => assert_eq!(error, TryRecvError::Empty),
                        }
                    }
                    (reader, received + lost)
                });
                while running.load(SeqCst) {
                    publish_numbered(&mut writer, 100, bound);
                }
                let (mut reader, so_far) = thread.join().expect("no panic");
                let (rest, lost) = drain_lossy(&mut reader);
                assert_eq!(so_far + rest.len() as u64 + lost, writer.sequence(), "records below {bound}, {resume:?}");
            });
        }
    }
}

// ---- positions ----

/// A script that wraps and laps; all that it shows depends on the position only modulo the capacity.
fn script(start: u64) -> Vec<String> {
    let (mut writer, door) = heap(&smallest().start_position(start));
    let (mut lossless, mut lossy, mut random) = (door.lossless(), door.lossy(), Random(6));
    let mut log = Vec::new();
    for round in 0..60 {
        for _ in 0..random.below(8) {
            let len = random.below(400) as usize;
            log.push(format!("publish {:?}", writer.try_publish(&record_of(len as u64, 400))));
        }
        for _ in 0..random.below(6) {
            log.push(format!("lossless {:?}", lossless.try_recv()));
        }
        for _ in 0..random.below(3) {
            log.push(format!("lossy {:?}", lossy.try_recv()));
        }
        if round % 16 == 15 {
            drop(std::mem::replace(&mut lossless, door.reader(&Options::new().start(Start::Newest))));
            log.push(format!("lag {} {}", lossless.lag(), lossy.lag()));
            let starts = [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(writer.sequence() - 2)];
            for start in starts {
                let reader = door.join(&Options::new().lossy(true).start(start));
                log.push(format!("{start:?} {:?}", reader.map(|reader| reader.sequence())));
            }
        }
        log.push(format!(
            "at {} {} {}",
            writer.position() - start,
            lossless.position() - start,
            lossy.position() - start
        ));
    }
    log
}

#[test]
fn large_positions_are_like_small_ones() {
    let small = script(0);
    assert!(small.iter().any(|line| line.contains("Lagged")) && small.iter().any(|line| line.contains("Full")));
    for near in [1 << 31, 1 << 32, 1 << 33, 1 << 62] {
        for laps in [0, 1, 3] {
            assert_eq!(script(near - laps * CAPACITY), small, "from {laps} laps before {near:#x}");
        }
    }
    assert_eq!(script((1 << 63) - 100 * CAPACITY), small);
    // Not a multiple of the capacity: every place of the ring, at the same distance from the end of the lap.
    for offset in [8, 2048, 4088] {
        assert_eq!(script((1 << 32) - CAPACITY + offset), script(offset));
    }
}

#[test]
fn the_last_position_ends_the_ring_and_nothing_wraps() {
    for before in [0, 8, 512, 4096, 8192] {
        let (mut writer, door) = heap(&smallest().start_position((1 << 63) - before));
        let (mut lossless, mut lossy) = (door.lossless(), door.lossy());
        let mut count = 0;
        let error = loop {
            match writer.try_publish(&[7; 100]) {
                Ok(sequence) => assert_eq!(sequence, count),
                Err(error) => break error,
            }
            assert_eq!(lossless.try_recv().map(|record| record.sequence), Ok(count));
            count += 1;
            assert!(count < 1000, "it never ends");
        };
        assert_eq!(error, TryPublishError::Exhausted);
        assert!(writer.position() > 1 << 63 && writer.position() < (1 << 63) + CAPACITY);
        assert_eq!(writer.publish(b"x"), Err(PublishError::Exhausted));
        assert_eq!(writer.publish_timeout(b"x", LIMIT), Err(PublishTimeoutError::Exhausted));
        assert_eq!(writer.try_publish_batch([b"x"]), Err(TryPublishError::Exhausted));
        assert!(matches!(writer.claim(1), Err(PublishError::Exhausted)));
        let mut late = door.reader(&Options::new().start(Start::Sequence(count - 1)));
        assert_eq!(late.try_recv().map(|record| record.sequence), Ok(count - 1));
        let (records, lost) = drain_lossy(&mut lossy);
        assert_eq!(records.len() as u64 + lost, count);
        drop(writer);
        assert_eq!((lossless.try_recv(), lossy.try_recv()), (Err(TryRecvError::Closed), Err(TryRecvError::Closed)));
    }
}
