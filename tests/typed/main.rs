//! Typed rings: what goes in comes out, in other processes too, and a wrong type is told by name.

mod elsewhere;
mod invalid;
mod processes;
mod schemas;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit, Pod, Zeroable};
use shmcast::{
    CreateError, OpenError, Options, PayloadSchema, PublishTimeoutError, RecvError, RecvTimeoutError, Schema,
    TryPublishError, TryRecvError, TypedOptions, TypedReader, TypedRecord, TypedWriter,
};
use support::{Child, LIMIT, Random, hear, role, say, smallest, unique_name};

// ---- types ----

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, NoUninit, CheckedBitPattern)]
enum Side {
    Bid = 1,
    Ask = 2,
}
shmcast::schema!(enum Side: u8 { Bid, Ask });

/// Every byte of it follows from its sequence number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Tick {
    number: u64,
    price: i64,
    quantity: u32,
    flags: [u8; 4],
}
shmcast::schema!(Tick { number: u64, price: i64, quantity: u32, flags: [u8; 4] });

/// Not every pattern of bits is one of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, NoUninit, CheckedBitPattern)]
struct Order {
    id: u64,
    open: bool,
    side: Side,
    level: [u8; 2],
    symbol: char,
}
shmcast::schema!(Order { id: u64, open: bool, side: Side, level: [u8; 2], symbol: char });

/// Too large to be moved around.
#[repr(C)]
#[derive(Clone, Copy, NoUninit, AnyBitPattern)]
struct Frame {
    number: u64,
    pixels: [u64; 2047],
}
shmcast::schema!(Frame { number: u64, pixels: [u64; 2047] });

/// A length that is no multiple of a word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Odd([u8; 13]);
shmcast::schema!(Odd { 0: [u8; 13] });

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Nothing;
shmcast::schema!(Nothing {});

fn tick(number: u64) -> Tick {
    let mut random = Random(number);
    Tick {
        number,
        price: random.next().cast_signed(),
        quantity: random.next() as u32,
        flags: (random.next() as u32).to_ne_bytes(),
    }
}

fn order(id: u64) -> Order {
    let side = if id.is_multiple_of(2) { Side::Bid } else { Side::Ask };
    let symbol = char::from_u32(0x4E00 + (id % 0x5000) as u32).expect("a character");
    Order { id, open: id.is_multiple_of(3), side, level: [id as u8; 2], symbol }
}

fn heap<T: Schema + NoUninit + CheckedBitPattern>(options: Options) -> (TypedWriter<T>, TypedReader<T>) {
    let writer = options.typed().create_heap().expect("a small ring");
    let reader = TypedReader::join(&writer.subscriber()).expect("a reader");
    (writer, reader)
}

/// Compiles only if `T` is not `Sync`: otherwise two implementations fit.
trait NotSync<A> {
    fn holds() {}
}
impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

const fn is_send<T: Send>() {}

const _: () = {
    is_send::<TypedWriter<Tick>>();
    is_send::<TypedReader<Tick>>();
    is_send::<TypedOptions<Tick>>();
    let _ = <TypedWriter<Tick> as NotSync<_>>::holds;
    let _ = <TypedReader<Tick> as NotSync<_>>::holds;
};

/// The error of an open that must fail by the type: what it says, the text expected, the text found.
fn wrong_type<R>(opened: Result<R, OpenError>) -> (String, String, String) {
    match opened {
        Err(error) => match &error {
            OpenError::WrongType { expected, found, .. } => {
                let message = error.to_string();
                assert!(message.contains(&expected.to_string()) && message.contains(&found.to_string()), "{message}");
                (message.clone(), expected.to_string(), found.to_string())
            }
            _ => panic!("another error: {error}"),
        },
        Ok(_) => panic!("it was opened"),
    }
}

// ---- processes ----

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "values" => processes::receive_values(Options::new().typed().open(&arguments[0]).expect("a ring")),
        "lossy values" => {
            processes::receive_lossy(Options::new().lossy(true).typed().open(&arguments[0]).expect("a ring"))
        }
        "forks" => processes::fork_with_handles(),
        "wrong type" => say(wrong_type(TypedReader::<Order>::open(&arguments[0])).0),
        other => panic!("no role {other:?}"),
    }
}

// ---- round trips ----

/// Each way to publish meets each way to receive, over many laps.
fn round_trips<T: Schema + NoUninit + CheckedBitPattern + PartialEq + std::fmt::Debug>(value: impl Fn(u64) -> T) {
    let (mut writer, mut reader) = heap::<T>(smallest());
    let far = || Instant::now() + LIMIT;
    for number in 0..2000u64 {
        let sent = value(number);
        let sequence = match number % 4 {
            0 => writer.publish(&sent).expect("room"),
            1 => writer.try_publish(&sent).expect("room"),
            2 => writer.publish_timeout(&sent, LIMIT).expect("room"),
            _ => writer.publish_deadline(&sent, far()).expect("room"),
        };
        assert_eq!(sequence, number);
        let expected = TypedRecord { sequence: number, value: sent };
        let got = match number % 7 {
            0 => reader.recv().expect("a value"),
            1 => reader.try_recv().expect("a value"),
            2 => reader.recv_timeout(LIMIT).expect("a value"),
            3 => reader.recv_deadline(far()).expect("a value"),
            4 => reader.iter().next().expect("not closed").expect("a value"),
            5 => reader.recv_ref().map(|it| TypedRecord { sequence: it.sequence(), value: *it }).expect("a value"),
            _ => reader.try_recv_ref().map(|it| TypedRecord { sequence: it.sequence(), value: *it }).expect("a value"),
        };
        assert_eq!(got, expected);
        assert_eq!((reader.sequence(), reader.lag()), (number + 1, 0));
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(reader.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    assert!(reader.try_iter().next().is_none());
    writer.close();
    assert_eq!(reader.recv(), Err(RecvError::Closed));
    assert!(reader.iter().next().is_none());
}

#[test]
fn values_make_the_round_trip() {
    round_trips(tick);
    round_trips(order);
    round_trips(|number| number);
    round_trips(|number| number as u8);
    round_trips(|number| number.is_multiple_of(3));
    round_trips(|number| Odd([number as u8; 13]));
    round_trips(|number| [tick(number); 40]);
}

/// A value of no bytes is a signal that only has a number.
#[test]
fn a_type_of_size_zero_is_a_signal() {
    round_trips(|_| Nothing);
    round_trips(|_| ());
    let (mut writer, mut reader) = heap::<Nothing>(smallest());
    assert_eq!(writer.publish_batch(&[Nothing; 100]), Ok(100));
    let mut signals = Vec::new();
    assert_eq!(reader.recv_batch(&mut signals, 1000), Ok(100));
    assert_eq!(signals.len(), 100);
}

#[test]
fn large_values_are_received_in_place() {
    let (mut writer, mut reader) = heap::<Frame>(Options::new().capacity(64 * 1024));
    let mut sent = Frame { number: 0, pixels: std::array::from_fn(|i| i as u64) };
    let mut got = Frame { number: 0, pixels: [0; 2047] };
    for number in 0..20 {
        (sent.number, sent.pixels[number as usize]) = (number, number);
        writer.publish(&sent).expect("room");
        let sequence =
            if number % 2 == 0 { reader.recv_into(&mut got).ok() } else { reader.try_recv_into(&mut got).ok() };
        assert_eq!(sequence, Some(number));
        assert!(got.number == number && got.pixels == sent.pixels);
    }
    assert_eq!(reader.try_recv_into(&mut got), Err(TryRecvError::Empty));
    let mut next = reader.resubscribe().expect("another reader");
    writer.publish(&sent).expect("room");
    assert_eq!(next.recv_into(&mut got), Ok(20));
}

#[test]
fn a_borrowed_value_holds_the_writer_back_until_it_is_dropped() {
    let (mut writer, mut reader) = heap::<Tick>(smallest());
    let mut published = 0;
    while writer.try_publish(&tick(published)).is_ok() {
        published += 1;
    }
    let first = reader.recv_ref().expect("the first value");
    assert_eq!((first.sequence(), *first), (0, tick(0)));
    let text = format!("{first:?}");
    assert!(text.contains("sequence: 0") && text.contains("price"), "{text}");
    assert_eq!(writer.try_publish(&tick(published)), Err(TryPublishError::Full));
    drop(first);
    for number in 1..published {
        assert_eq!(*reader.recv_ref().expect("a value"), tick(number));
    }
    assert!(writer.try_publish(&tick(published)).is_ok());
}

#[test]
fn a_claim_is_a_value_that_is_built_in_place() {
    let (mut writer, mut reader) = heap::<[u64; 100]>(smallest());
    let value = |number: u64| std::array::from_fn(|i| number * 1000 + i as u64);
    for number in 0..100 {
        let mut claim = match number % 3 {
            0 => writer.claim().expect("room"),
            1 => writer.try_claim().expect("room"),
            _ => writer.claim_timeout(Duration::from_secs(10)).expect("room"),
        };
        if number % 2 == 0 {
            claim.write(&value(number));
        } else {
            // SAFETY: the one reader is lossless, and asks for no lag.
            *unsafe { claim.as_mut() } = value(number);
        }
        assert_eq!(claim.commit(), number);
        let record = reader.recv().expect("a value");
        assert_eq!((record.sequence, record.value), (number, value(number)));
    }
    // An abort is seen by nobody; what was never filled is zero, whatever was there.
    let mut aborted = writer.claim().expect("room");
    aborted.write(&[7; 100]);
    drop(aborted);
    assert_eq!(reader.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    assert_eq!(writer.claim().expect("room").commit(), 100);
    assert_eq!(reader.recv().expect("a value").value, [0; 100]);
    while writer.try_publish(&[1; 100]).is_ok() {}
    assert!(matches!(writer.try_claim(), Err(TryPublishError::Full)));
    assert!(matches!(writer.claim_timeout(Duration::ZERO), Err(PublishTimeoutError::Timeout)));
}

// ---- batches ----

#[test]
fn batches_keep_order_and_numbers() {
    fn check<T: Schema + NoUninit + CheckedBitPattern + PartialEq + std::fmt::Debug>(value: fn(u64) -> T) {
        let (mut writer, mut reader) = heap::<T>(smallest());
        let (mut random, mut sent, mut got) = (Random(3), 0, Vec::new());
        let mut received = 0;
        while sent < 5000 {
            let batch: Vec<T> = (sent..sent + random.below(40)).map(value).collect();
            let count = writer.try_publish_batch(&batch).expect("an open ring");
            assert!(count <= batch.len());
            sent += count as u64;
            assert_eq!(writer.sequence(), sent);
            if random.below(2) == 0 {
                continue;
            }
            let most = random.below(50) as usize;
            let before = received;
            match reader.try_recv_batch(&mut got, most) {
                Ok(count) => {
                    assert!(count <= most && (count > 0 || most == 0));
                    received += count as u64;
                }
                Err(error) => assert_eq!((error, before), (TryRecvError::Empty, sent)),
            }
            assert_eq!(reader.sequence(), received, "the last one's number is the reader's less 1");
            assert_eq!(got.len() as u64, received);
        }
        while received < sent {
            received += reader.recv_batch(&mut got, 7).expect("values") as u64;
        }
        assert!(got.iter().copied().eq((0..sent).map(value)), "all of them, in order");
        assert_eq!(reader.try_recv_batch(&mut got, 7), Err(TryRecvError::Empty));
        writer.close();
        assert_eq!(reader.recv_batch(&mut got, 7), Err(RecvError::Closed));
        assert_eq!(writer.publish_batch(&[value(0)]), Err(shmcast::PublishError::Closed));
    }
    check(tick);
    check(order);
    check(|number| number);
}

/// Records of 24 bytes in a ring of 4096: there is a pad in each lap.
#[test]
fn a_batch_goes_on_behind_a_pad() {
    let (mut writer, mut reader) = heap::<Odd>(smallest());
    let (batch, mut got) = ([Odd([7; 13]); 50], Vec::new());
    for _ in 0..100 {
        assert_eq!(writer.publish_batch(&batch), Ok(50));
        got.clear();
        assert_eq!(reader.recv_batch(&mut got, 50), Ok(50));
        assert_eq!(got, batch);
    }
}

#[test]
fn a_lossy_reader_of_values_is_told_exactly_what_it_lost() {
    let mut writer = smallest().typed::<Tick>().create_heap().expect("a small ring");
    let mut reader = Options::new().lossy(true).typed::<Tick>().join(&writer.subscriber()).expect("a reader");
    let (mut random, mut received, mut lost, mut laps, mut got) = (Random(5), 0u64, 0, 0, Vec::new());
    for _ in 0..300 {
        for _ in 0..random.below(200) {
            writer.publish(&tick(writer.sequence())).expect("room");
        }
        for _ in 0..random.below(150) {
            let outcome = if random.below(2) == 0 {
                reader.try_recv().map(|record| {
                    assert_eq!(record.value, tick(record.sequence));
                    1
                })
            } else {
                got.clear();
                reader.try_recv_batch(&mut got, 20).inspect(|&count| {
                    let first = reader.sequence() - count as u64;
                    assert!(got.iter().copied().eq((first..reader.sequence()).map(tick)));
                })
            };
            match outcome {
                Ok(count) => received += count as u64,
                Err(TryRecvError::Lagged(n)) => (lost, laps) = (lost + n, laps + 1),
                Err(TryRecvError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
            assert_eq!(received + lost, reader.sequence());
        }
    }
    assert!(laps > 50, "{laps} laps");
}
