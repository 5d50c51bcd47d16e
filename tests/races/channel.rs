//! By the public API. The ring is lapped several times, and a lossless reader holds the writer back, so neither can be done
//! before the other has begun.

use std::thread;

use bytemuck::{Pod, Zeroable};
use shmcast::{Options, Reader, RecvError, Start, Subscriber, TypedReader, WaitStrategy, Writer};

const RECORDS: u64 = if cfg!(miri) { 24 } else { 20_000 };

/// Of each reader that comes and goes.
const JOINS: usize = if cfg!(miri) { 3 } else { 1_000 };

fn options() -> Options {
    Options::new().capacity(4096).reader_slots(6).wait(WaitStrategy::ParkAtOnce)
}

/// Up to 600 bytes, other ones in each of 256 records that follow each other.
fn payload(sequence: u64) -> Vec<u8> {
    vec![(sequence * 131 + 7) as u8; ((sequence * 37 + 11) % 75) as usize * 8 + (sequence % 3) as usize]
}

fn writer(options: &Options) -> (Writer, Subscriber) {
    let writer = options.create_heap().expect("a ring");
    let subscriber = writer.subscriber();
    (writer, subscriber)
}

/// One by one, in claims that are dropped, shortened or filled, and in batches; then the close.
fn publish_all(mut writer: Writer) {
    while writer.sequence() < RECORDS {
        let next = writer.sequence();
        match next % 5 {
            0 => {
                drop(writer.claim(600).expect("room"));
                let payload = payload(next);
                let mut claim = writer.claim(payload.len() + 9).expect("room");
                claim.truncate(payload.len());
                claim.copy_from_slice(&payload);
                assert_eq!(claim.commit(), next);
            }
            1 => {
                let batch = (next..(next + 3).min(RECORDS)).map(payload);
                writer.publish_batch(batch).expect("room");
            }
            _ => assert_eq!(writer.publish(&payload(next)), Ok(next)),
        }
    }
}

/// Owned records, without a gap.
fn owns(mut reader: Reader) {
    let mut next = 0;
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!((record.sequence, record.payload), (next, payload(next)));
                next += 1;
            }
            Err(error) => {
                assert_eq!((error, next), (RecvError::Closed, RECORDS));
                return;
            }
        }
    }
}

/// Records in the ring itself, without a gap.
fn borrows(mut reader: Reader) {
    assert!(reader.can_borrow());
    let mut next = 0;
    loop {
        match reader.recv_ref() {
            Ok(record) => {
                assert_eq!((record.sequence(), &record[..]), (next, &payload(next)[..]));
                next += 1;
            }
            Err(error) => {
                assert_eq!((error, next), (RecvError::Closed, RECORDS));
                return;
            }
        }
    }
}

/// Batches, and losses that are told exactly.
fn counts_losses(mut reader: Reader) {
    let (mut next, mut records) = (reader.sequence(), Vec::new());
    loop {
        match reader.recv_batch(&mut records, 4) {
            Ok(count) => {
                assert_eq!(count, records.len());
                for record in records.drain(..) {
                    assert_eq!((record.sequence, record.payload), (next, payload(next)));
                    next += 1;
                }
            }
            Err(RecvError::Lagged(lost)) => next += lost,
            Err(error) => {
                assert_eq!((error, next), (RecvError::Closed, RECORDS), "received + lost = published");
                return;
            }
        }
    }
}

#[test]
fn every_reader_gets_what_was_published_while_it_is_published() {
    let (writer, subscriber) = writer(&options());
    let join = |options: Options| options.join(&subscriber).expect("a slot");
    let (owner, borrower) = (join(options()), join(options()));
    let lossy = join(options().lossy(true).start(Start::Oldest).resume(Start::Oldest));
    let late = join(options().lossy(true).start(Start::Newest).resume(Start::Newest));
    thread::scope(|scope| {
        scope.spawn(|| owns(owner));
        scope.spawn(|| borrows(borrower));
        scope.spawn(|| counts_losses(lossy));
        scope.spawn(|| counts_losses(late));
        scope.spawn(|| publish_all(writer));
    });
}

/// Whoever joins stands somewhere from which nothing is missing that it is not told of.
#[test]
fn readers_join_and_leave_while_records_are_published() {
    let (writer, subscriber) = writer(&options());
    let owner = options().join(&subscriber).expect("a slot");
    thread::scope(|scope| {
        scope.spawn(|| owns(owner));
        scope.spawn(|| publish_all(writer));
        // Not both lossless: who always joins anew at the oldest record would hold the writer there.
        for options in [options().lossy(true).start(Start::Oldest), options().start(Start::Newest)] {
            let subscriber = &subscriber;
            scope.spawn(move || {
                for _ in 0..JOINS {
                    let mut reader = options.join(subscriber).expect("a slot");
                    let mut next = reader.sequence();
                    for _ in 0..4 {
                        match reader.recv() {
                            Ok(record) => {
                                assert_eq!((record.sequence, record.payload), (next, payload(next)));
                                next += 1;
                            }
                            Err(RecvError::Lagged(lost)) if !reader.is_lossless() => next += lost,
                            Err(error) => {
                                assert_eq!((error, next), (RecvError::Closed, RECORDS));
                                break;
                            }
                        }
                    }
                }
            });
        }
    });
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Tick {
    number: u64,
    half: u32,
    bytes: [u8; 4],
}
shmcast::schema!(Tick { number: u64, half: u32, bytes: [u8; 4] });

fn tick(number: u64) -> Tick {
    Tick { number, half: !number as u32, bytes: (number as u32).wrapping_mul(0x9E37_79B9).to_ne_bytes() }
}

#[test]
fn values_of_a_type_race_too() {
    let mut writer = options().typed::<Tick>().create_heap().expect("a ring");
    let mut by_value = TypedReader::<Tick>::join(&writer.subscriber()).expect("a slot");
    let mut by_reference = TypedReader::<Tick>::join(&writer.subscriber()).expect("a slot");
    let mut in_batches = TypedReader::<Tick>::join(&writer.subscriber()).expect("a slot");
    let count = RECORDS * 3;
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in (0..count).step_by(3) {
                assert_eq!(writer.publish(&tick(number)), Ok(number));
                assert_eq!(writer.publish_batch(&[tick(number + 1), tick(number + 2)]), Ok(2));
            }
        });
        scope.spawn(move || {
            for number in 0..count {
                let record = by_value.recv().expect("a value");
                assert_eq!((record.sequence, record.value), (number, tick(number)));
            }
            assert_eq!(by_value.recv().map(|_| ()), Err(RecvError::Closed));
        });
        scope.spawn(move || {
            for number in 0..count {
                let value = by_reference.recv_ref().expect("a value");
                assert_eq!((value.sequence(), *value), (number, tick(number)));
            }
        });
        scope.spawn(move || {
            let (mut values, mut next) = (Vec::new(), 0);
            while next < count {
                in_batches.recv_batch(&mut values, 5).expect("values");
                for value in values.drain(..) {
                    assert_eq!(value, tick(next));
                    next += 1;
                }
            }
        });
    });
}
