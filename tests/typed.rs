//! Typed rings: what goes in comes out, in other processes too, and a wrong type is told by name.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit, Pod, Zeroable};
use shmcast::{
    CreateError, OpenError, Options, PayloadSchema, RecvError, RecvTimeoutError, Schema, TryPublishError, TryRecvError,
    TypedOptions, TypedReader, TypedRecord, TypedWriter,
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

// ---- schemas ----

#[test]
fn schemas_are_what_they_were() {
    fn of<T: Schema>() -> (String, u64) {
        let PayloadSchema { text, id } = PayloadSchema::of::<T>();
        (text.into_owned(), id)
    }
    // Both are part of the format: a program of today must find what one of yesterday wrote. FNV-1a, computed elsewhere.
    let rows = [
        (of::<u64>(), "u64", 0x4D35_D319_3E8D_66F2),
        (of::<()>(), "()", 0x07E1_1F07_B4A6_665A),
        (of::<[f32; 3]>(), "[f32;3]", 0x60AA_79BD_FC4A_A952),
        (of::<Nothing>(), "Nothing{}:0/1", 0xF97F_C523_1139_2BB4),
        (of::<Odd>(), "Odd{0:[u8;13]@0}:13/1", 0x24A0_02EC_8D80_09FC),
        (of::<Side>(), "Side{Bid=1,Ask=2}:u8", 0x6BF6_10AA_5315_4E08),
        (of::<Tick>(), "Tick{number:u64@0,price:i64@8,quantity:u32@16,flags:[u8;4]@20}:24/8", 0x5C7F_9365_AD61_2D0A),
        (
            of::<Order>(),
            "Order{id:u64@0,open:bool@8,side:Side{Bid=1,Ask=2}:u8@9,level:[u8;2]@10,symbol:char@12}:16/8",
            0xA843_E1C9_920F_AE32,
        ),
        (of::<[[Odd; 2]; 3]>(), "[[Odd{0:[u8;13]@0}:13/1;2];3]", 0x80B7_A1EA_F213_90CF),
    ];
    for ((text, id), expected_text, expected_id) in rows {
        assert_eq!((text.as_str(), id), (expected_text, expected_id), "{id:#x}");
    }
}

mod elsewhere {
    //! The same type in another module, as it would be in another program; and some that only look like it.
    use super::{Pod, Zeroable};

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
    pub(crate) struct Tick {
        pub(crate) number: u64,
        pub(crate) price: i64,
        pub(crate) quantity: u32,
        pub(crate) flags: [u8; 4],
    }
    shmcast::schema!(Tick { number: u64, price: i64, quantity: u32, flags: [u8; 4] });

    pub(crate) mod swapped {
        use super::{Pod, Zeroable};

        #[repr(C)]
        #[derive(Clone, Copy, Debug, Pod, Zeroable)]
        pub(crate) struct Tick {
            price: i64,
            number: u64,
            quantity: u32,
            flags: [u8; 4],
        }
        shmcast::schema!(Tick { price: i64, number: u64, quantity: u32, flags: [u8; 4] });
    }

    pub(crate) mod unsigned {
        use super::{Pod, Zeroable};

        #[repr(C)]
        #[derive(Clone, Copy, Debug, Pod, Zeroable)]
        pub(crate) struct Tick {
            number: u64,
            price: u64,
            quantity: u32,
            flags: [u8; 4],
        }
        shmcast::schema!(Tick { number: u64, price: u64, quantity: u32, flags: [u8; 4] });
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Pod, Zeroable)]
    pub(crate) struct Tock {
        number: u64,
        price: i64,
        quantity: u32,
        flags: [u8; 4],
    }
    shmcast::schema!(Tock { number: u64, price: i64, quantity: u32, flags: [u8; 4] });
}

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

#[test]
fn a_wrong_type_is_an_error_that_names_both() {
    fn check<T: Schema + CheckedBitPattern>(path: &Path) {
        let (message, expected, found) = wrong_type(Options::new().typed::<T>().open_file(path));
        assert!(expected.contains(&*PayloadSchema::of::<T>().text), "{expected}");
        assert!(found.contains(&*PayloadSchema::of::<Tick>().text), "{found}");
        assert!(message.contains(path.to_str().expect("UTF-8")), "{message}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    check::<elsewhere::swapped::Tick>(&path);
    check::<elsewhere::unsigned::Tick>(&path);
    check::<elsewhere::Tock>(&path);
    check::<Order>(&path);
    check::<u64>(&path);
    check::<()>(&path);
    // By a subscriber, too.
    wrong_type(TypedReader::<u64>::join(&writer.subscriber()));
    // Nothing was joined.
    assert_eq!(writer.reader_count(), 0);
    let mut reader = Options::new().typed::<elsewhere::Tick>().open_file(&path).expect("the same type");
    writer.publish(&tick(0)).expect("room");
    assert_eq!(bytemuck::cast::<_, Tick>(reader.recv().expect("a value").value), tick(0));
}

#[test]
fn raw_and_typed_rings_are_not_taken_for_each_other() {
    let raw = smallest().create_heap().expect("a small ring");
    let (_, expected, found) = wrong_type(TypedReader::<Tick>::join(&raw.subscriber()));
    assert!(expected.starts_with("Tick{") && found == "raw bytes", "{expected}, {found}");
    // That tools may look at typed rings as bytes makes no typed ring of a raw one.
    wrong_type(Options::new().untyped(true).typed::<Tick>().join(&raw.subscriber()));
    assert!(raw.subscriber().reader().expect("a reader").payload_schema().is_raw());

    let mut writer = smallest().typed::<Tick>().create_heap().expect("a small ring");
    let (_, expected, found) = wrong_type(writer.subscriber().reader());
    assert!(expected == "raw bytes" && found.starts_with("Tick{"), "{expected}, {found}");
    let mut bytes = Options::new().untyped(true).join(&writer.subscriber()).expect("a reader");
    assert_eq!(bytes.payload_schema(), PayloadSchema::of::<Tick>());
    writer.publish(&tick(0)).expect("room");
    assert_eq!(bytes.recv().expect("a record").payload, bytemuck::bytes_of(&tick(0)));
    let mut again = bytes.resubscribe().expect("a reader");
    writer.publish(&tick(1)).expect("room");
    assert_eq!(again.recv().expect("a record").payload, bytemuck::bytes_of(&tick(1)));
}

#[test]
fn a_value_that_never_fits_is_refused_at_create() {
    match smallest().typed::<Frame>().create_heap() {
        Err(CreateError::Geometry(error)) => assert_eq!((error.field, error.value), ("payload_size", 16384)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a ring of 4096 bytes for records of 16384"),
    }
}

#[test]
fn a_handle_of_bytes_reads_on_behind_a_typed_one() {
    let (mut writer, mut reader) = heap::<Tick>(smallest());
    assert_eq!(writer.publish_batch(&[tick(0), tick(1)]), Ok(2));
    assert_eq!(reader.recv().expect("a value").number, 0);
    assert_eq!(reader.as_bytes().capacity(), writer.as_bytes().capacity());
    let mut bytes = reader.into_bytes();
    assert_eq!(bytes.recv().expect("a record").payload, bytemuck::bytes_of(&tick(1)));
}

// ---- records that are no values ----

/// Overwrites bytes of the first record in the file of a ring of 4096 bytes with 16 blocks.
fn scribble(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the ring");
    let mut word = [0; 8];
    // The region table's entry for the data.
    file.read_exact_at(&mut word, 320).expect("the header");
    file.write_all_at(bytes, u64::from_ne_bytes(word) + at).expect("the data");
}

#[test]
fn a_record_that_is_no_value_is_told_and_skipped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut writer = smallest().typed::<Order>().create_file(&path).expect("a small ring");
    let orders: Vec<Order> = (0..4).map(order).collect();
    assert_eq!(writer.publish_batch(&orders), Ok(4));
    // A bool of 2 in the first; the second says that it is shorter, which leaves the ring whole.
    scribble(&path, 8 + 8, &[2]);
    scribble(&path, 24, &(9u64 + 1).to_ne_bytes());
    scribble(&path, 24 + 16, &0u64.to_ne_bytes());
    let open = || Options::new().typed::<Order>().open_file(&path).expect("a reader");
    let bad_bits = Err(TryRecvError::Invalid { sequence: 0, len: 16 });

    let mut reader = open();
    assert_eq!(reader.try_recv(), bad_bits);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.try_recv().map(|record| record.value), Ok(order(2)), "and on behind them");
    assert_eq!(reader.recv().map(|record| record.value), Ok(order(3)));

    let mut reader = open();
    assert_eq!(reader.try_recv_ref().map(|it| *it), bad_bits.map(|record: TypedRecord<Order>| record.value));
    assert_eq!(reader.recv_ref().map(|it| *it), Err(RecvError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.recv_ref().map(|it| *it), Ok(order(2)));

    let (mut reader, mut got) = (open(), Vec::new());
    assert_eq!(reader.recv_batch(&mut got, 10), Err(RecvError::Invalid { sequence: 0, len: 16 }));
    assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.recv_batch(&mut got, 10), Ok(2));
    assert_eq!(got, orders[2..]);

    // In the middle of a batch: the batch ends before it.
    writer.publish_batch(&orders).expect("room");
    drop(reader);
    scribble(&path, 24 * 5 + 8 + 9, &[0]);
    scribble(&path, 24 * 7, &(9u64 + 1).to_ne_bytes());
    let mut reader = Options::new().start(shmcast::Start::Sequence(4)).typed::<Order>().open_file(&path).expect("it");
    got.clear();
    assert_eq!(reader.try_recv_batch(&mut got, 10), Ok(1));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Invalid { sequence: 5, len: 16 }));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Ok(1));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Invalid { sequence: 7, len: 9 }));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Empty));
    assert_eq!(got, [orders[0], orders[2]]);
}

// ---- the bytes of the schema ----

#[test]
fn the_ring_says_what_its_values_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    let bytes = std::fs::read(&path).expect("the ring");
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let PayloadSchema { text, id } = PayloadSchema::of::<Tick>();
    assert_eq!([96, 104, 112, 120].map(word), [id, 0, 24, 8]);
    assert_eq!(bytes[128..192], *[b"Tick".as_slice(), &[0; 60]].concat());
    // The text lies behind the data, on a line of its own, padded with zeros.
    let (offset, length) = (word(336) as usize, word(344) as usize);
    assert_eq!((offset, length), ((word(320) + word(328)).next_multiple_of(128) as usize, 128));
    assert_eq!(bytes[offset..offset + text.len()], *text.as_bytes());
    assert!(bytes[offset + text.len()..offset + length].iter().all(|&byte| byte == 0));
    assert_eq!(bytes.len(), offset + length);
    drop(writer);
}

/// Two texts could have one hash; so the texts are compared, too.
#[test]
fn a_text_that_differs_is_a_wrong_type() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("the ring");
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, 336).expect("the header");
    file.write_all_at(b"\x1bick", u64::from_ne_bytes(offset)).expect("the text");
    let (message, _, found) = wrong_type(Options::new().typed::<Tick>().open_file(&path));
    assert!(found.starts_with("\u{FFFD}ick{number"), "{found}");
    assert!(!message.contains('\x1b'), "a terminal is left alone");
    drop(writer);
}

// ---- processes ----

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "values" => receive_values(Options::new().typed().open(&arguments[0]).expect("a ring")),
        "lossy values" => receive_lossy(Options::new().lossy(true).typed().open(&arguments[0]).expect("a ring")),
        "wrong type" => say(wrong_type(TypedReader::<Order>::open(&arguments[0])).0),
        other => panic!("no role {other:?}"),
    }
}

/// Every way to receive has its turn; says how many values there were.
fn receive_values(mut reader: TypedReader<elsewhere::Tick>) {
    say(format_args!("joined {}", reader.sequence()));
    let (mut expected, mut got) = (reader.sequence(), Vec::new());
    loop {
        got.clear();
        let outcome = match expected % 3 {
            0 => reader.recv_batch(&mut got, 10),
            1 => reader.recv().map(|record| {
                got.push(record.value);
                1
            }),
            _ => reader.recv_ref().map(|value| {
                got.push(*value);
                1
            }),
        };
        match outcome {
            Ok(count) => {
                for value in &got[..count] {
                    assert_eq!(
                        bytemuck::cast::<_, Tick>(*value),
                        tick(expected),
                        "value {expected}, whole and in order"
                    );
                    expected += 1;
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("behind value {expected}: {error}"),
        }
    }
    say(format_args!("received {expected}"));
}

/// Rests until it is told that it was lapped.
fn receive_lossy(mut reader: TypedReader<Tick>) {
    say("joined");
    assert_eq!(hear(), "go");
    let (mut received, mut lost) = (0, 0);
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.value, tick(record.sequence));
                received += 1;
            }
            Err(RecvError::Lagged(n)) => lost += n,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    say(format_args!("received {received} {lost}"));
}

#[test]
fn values_reach_other_processes() {
    const COUNT: u64 = 30_000;
    let name = unique_name("typed");
    let mut writer = smallest().typed::<Tick>().create(&name).expect("a small ring");
    let mut wrong = Child::start("wrong type", &[&name]);
    let said = wrong.expect("the ring at ");
    assert!(said.contains("Tick{number:") && said.contains("Order{id:"), "{said}");
    wrong.finish();

    let mut lossless = Child::start("values", &[&name]);
    lossless.expect("joined 0");
    let mut lossy = Child::start("lossy values", &[&name]);
    lossy.expect("joined");
    lossy.tell("go");
    let mut batch = Vec::new();
    while writer.sequence() < COUNT {
        let next = writer.sequence();
        if next % 2 == 0 {
            writer.publish_timeout(&tick(next), LIMIT).expect("room");
        } else {
            batch.clear();
            batch.extend((next..COUNT.min(next + 25)).map(tick));
            writer.publish_batch(&batch).expect("room");
        }
    }
    writer.close();
    assert_eq!(lossless.expect_numbers("received"), [COUNT]);
    let [received, lost] = lossy.expect_numbers("received");
    assert_eq!(received + lost, COUNT);
    lossless.finish();
    lossy.finish();
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
    is_send::<TypedWriter<Tick>>();
    is_send::<TypedReader<Tick>>();
    is_send::<TypedOptions<Tick>>();
    let _ = <TypedWriter<Tick> as NotSync<_>>::holds;
    let _ = <TypedReader<Tick> as NotSync<_>>::holds;
};
