//! What the API promises, on rings of every kind. Many of the behaviours are those that the tests of tokio's broadcast
//! channel ask for (`sync_broadcast.rs`, MIT), asked here of this ring.

mod support;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmcast::{
    CreateError, OpenError, Options, PublishError, PublishTimeoutError, Reader, Record, RecvError, RecvTimeoutError,
    Start, TryPublishError, TryRecvError, WaitForReadersError, WaitStrategy, Writer,
};
use support::{LIMIT, Random, assert_whole, heap, on_every_kind, record_of, smallest};

const CAPACITY: u64 = 4096;
const MAX: usize = 2040;

/// Everything that is there now, which must be without a loss.
fn drain(reader: &mut Reader) -> Vec<Record> {
    reader.try_iter().map(|record| record.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// What a lossy reader gets until nothing is there: the records, and how many it was told it missed.
fn drain_lossy(reader: &mut Reader) -> (Vec<Record>, u64) {
    let (mut records, mut lost) = (Vec::new(), 0);
    for record in reader.try_iter() {
        match record {
            Ok(record) => records.push(record),
            Err(TryRecvError::Lagged(n)) => {
                assert!(n > 0, "a loss of nothing is no loss");
                lost += n;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (records, lost)
}

fn publish_numbered(writer: &mut Writer, count: u64, bound: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), bound);
        writer.try_publish(&payload).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Publishes until a lossless reader holds the writer back; answers how many that were.
fn fill(writer: &mut Writer, bound: u64) -> u64 {
    let before = writer.sequence();
    loop {
        match writer.try_publish(&record_of(writer.sequence(), bound)) {
            Ok(_) => {}
            Err(TryPublishError::Full) => return writer.sequence() - before,
            Err(error) => panic!("{error}"),
        }
    }
}

// ---- types ----

/// Compiles only if `T` is not `Sync`: otherwise two implementations fit.
trait NotSync<A> {
    fn holds() {}
}
impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

const fn is_send<T: Send>() {}

const _: () = {
    is_send::<Writer>();
    is_send::<Reader>();
    is_send::<shmcast::Subscriber>();
    let _ = <Writer as NotSync<_>>::holds;
    let _ = <Reader as NotSync<_>>::holds;
};

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

/// Runs on the way out, also of a panic: so that no test hangs on a thread that has failed.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
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

// ---- everything at once, against an oracle ----

/// What a reader must see: every record from its start on, in order, or the exact number that it missed.
struct Expected {
    reader: Reader,
    /// The number of the next record that it must get.
    next: u64,
    received: u64,
    lost: u64,
}

impl Expected {
    /// One receive, by one of the three ways, judged by the list of all that was published.
    fn receive(&mut self, oracle: &VecDeque<Vec<u8>>, writer: &Writer, way: u64) {
        let position = self.reader.position();
        let got = match way {
            0 if self.reader.can_borrow() => self
                .reader
                .try_recv_ref()
                .map(|record| Record { sequence: record.sequence(), payload: record.to_vec() }),
            1 => {
                let mut buffer = [0; MAX];
                self.reader
                    .try_recv_into(&mut buffer)
                    .map(|received| Record { sequence: received.sequence, payload: buffer[..received.len].to_vec() })
            }
            _ => self.reader.try_recv(),
        };
        match got {
            Ok(record) => {
                assert_eq!(record.sequence, self.next, "I1, I2: in order, no gap, none twice");
                assert_eq!(Some(&record.payload), oracle.get(self.next as usize), "I1: byte for byte");
                (self.next, self.received) = (self.next + 1, self.received + 1);
            }
            Err(TryRecvError::Lagged(lost)) => {
                assert!(!self.reader.is_lossless(), "I2");
                assert!(lost > 0 && self.next + lost <= oracle.len() as u64, "I3: {lost} is too many");
                // The limit runs ahead of the writer by a block, a pad and two records at most.
                let reach = writer.position() + CAPACITY / 16 + 2 * 320 + 8;
                assert!(reach > position + CAPACITY, "I3: a loss without need");
                (self.next, self.lost) = (self.next + lost, self.lost + lost);
            }
            Err(error) => {
                assert_eq!(error, TryRecvError::Empty);
                assert_eq!(self.next, oracle.len() as u64, "nothing is held from it");
            }
        }
        assert_eq!(self.reader.sequence(), self.next);
        assert_eq!(self.reader.lag(), oracle.len() as u64 - self.next);
    }
}

fn random_script(seed: u64) -> (u64, u64, u64) {
    let mut random = Random(seed);
    let alignment = [8, 8, 64][random.below(3) as usize];
    let start = [0, (1 << 32) - 4096, 1 << 62][random.below(3) as usize] + random.below(64) * 64;
    let options =
        smallest().record_alignment(alignment).start_position(start).blocks([2, 16, 64][random.below(3) as usize]);
    let (mut writer, door) = heap(&options.blocks(16));
    let join = |lossy, resume, oracle: &VecDeque<Vec<u8>>, start| {
        let reader = door.reader(&Options::new().lossy(lossy).resume(resume).start(start));
        let next = reader.sequence();
        assert!(next <= oracle.len() as u64);
        Expected { reader, next, received: 0, lost: 0 }
    };
    let mut oracle = VecDeque::new();
    let mut readers = [
        join(false, Start::Middle, &oracle, Start::Oldest),
        join(true, Start::Middle, &oracle, Start::Oldest),
        join(true, Start::Newest, &oracle, Start::Oldest),
    ];
    let (mut full, mut lost) = (0, 0);
    let payload = |random: &mut Random| -> Vec<u8> {
        let len = random.below(240);
        (0..len).map(|_| random.next() as u8).collect()
    };
    for _ in 0..1500 {
        match random.below(12) {
            0..4 => {
                let payload = payload(&mut random);
                match writer.try_publish(&payload) {
                    Ok(sequence) => {
                        assert_eq!(sequence, oracle.len() as u64);
                        oracle.push_back(payload);
                    }
                    Err(error) => {
                        assert_eq!(error, TryPublishError::Full);
                        assert!(readers[0].next < oracle.len() as u64, "full, but everything is read");
                        full += 1;
                    }
                }
            }
            4 => {
                let batch: Vec<_> = (0..random.below(6)).map(|_| payload(&mut random)).collect();
                let count = writer.try_publish_batch(&batch).expect("no record is too large");
                oracle.extend(batch.into_iter().take(count));
            }
            5 => {
                let payload = payload(&mut random);
                let extra = random.below(40) as usize;
                if let Ok(mut claim) = writer.try_claim(payload.len() + extra) {
                    claim.write_all(&payload).expect("room");
                    if random.below(3) > 0 {
                        claim.truncate(payload.len());
                        claim.commit();
                        oracle.push_back(payload);
                    }
                }
            }
            6..8 => readers[0].receive(&oracle, &writer, random.below(3)),
            // The lossless one catches up; the lossy ones are left behind.
            8 if random.below(4) == 0 => {
                while readers[0].next < oracle.len() as u64 {
                    readers[0].receive(&oracle, &writer, random.below(3));
                }
            }
            9 => readers[1].receive(&oracle, &writer, random.below(3)),
            10 => readers[2].receive(&oracle, &writer, random.below(3)),
            11 if random.below(20) == 0 => {
                let which = random.below(3) as usize;
                let start = [Start::Oldest, Start::Middle, Start::Newest][random.below(3) as usize];
                lost += readers[which].lost;
                readers[which] = join(which > 0, start, &oracle, start);
                if start == Start::Newest {
                    assert_eq!(readers[which].next, oracle.len() as u64);
                }
            }
            _ => {}
        }
        assert_eq!(writer.sequence(), oracle.len() as u64);
    }
    for reader in &mut readers {
        while reader.next < oracle.len() as u64 {
            reader.receive(&oracle, &writer, 2);
        }
        lost += reader.lost;
    }
    (oracle.len() as u64, lost, full)
}

/// To replay one: `SHMCAST_SEED=n cargo test --test behaviour random_scripts`.
#[test]
fn random_scripts_agree_with_an_oracle() {
    let chosen: Option<u64> = std::env::var("SHMCAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let (mut published, mut lost, mut full) = (0, 0, 0);
    for seed in chosen.map_or(0..400, |seed| seed..seed + 1) {
        println!("seed {seed}");
        let (some, gone, held) = random_script(seed);
        (published, lost, full) = (published + some, lost + gone, full + held);
    }
    if chosen.is_none() {
        assert!(published > 100_000 && lost > 10_000 && full > 1000, "{published} published, {lost} lost, {full} full");
    }
}
