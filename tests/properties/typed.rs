//! Values of any bits, through typed rings.

use std::fmt::Debug;

use bytemuck::{Pod, Zeroable, bytes_of};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use shmcast::{Options, PayloadSchema, Schema, TryRecvError, TypedReader};

use crate::config;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Mixed {
    id: u64,
    price: f64,
    parts: [i16; 3],
    flags: [u8; 2],
}
shmcast::schema!(Mixed { id: u64, price: f64, parts: [i16; 3], flags: [u8; 2] });

/// As large as a ring of 4096 bytes takes.
type Largest = [u64; 255];

/// Values of any bits, NaNs of all kinds among them.
fn bits<T: Pod>() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), size_of::<T>()), 1..40)
}

/// Publishes the values in runs of `run` and singly in turn, and receives them by every call.
fn come_out_as_they_went_in<T: Schema + Pod + Debug>(
    values: &[Vec<u8>],
    run: usize,
    memfd: bool,
    wide: bool,
) -> TestCaseResult {
    let options = Options::new().capacity(4096).blocks(4).record_alignment(if wide { 64 } else { 8 }).typed::<T>();
    let mut writer = if memfd { options.create_memfd() } else { options.create_heap() }.expect("a small ring");
    let mut readers: Vec<TypedReader<T>> =
        (0..5).map(|_| TypedReader::join(&writer.subscriber()).expect("a slot")).collect();
    prop_assert_eq!(readers[0].as_bytes().payload_schema(), PayloadSchema::of::<T>());
    let values: Vec<T> = values.iter().map(|bytes| bytemuck::pod_read_unaligned(bytes)).collect();
    let (mut left, mut first) = (&values[..], 0);
    while !left.is_empty() {
        let count = if left.len().is_multiple_of(2) {
            writer.try_publish_batch(&left[..run.min(left.len())]).expect("room")
        } else {
            usize::from(writer.try_publish(&left[0]) == Ok(first))
        };
        prop_assert!(count > 0, "everybody has read everything");
        let sent = &left[..count];
        left = &left[count..];
        let got: [Vec<T>; 5] = std::array::from_fn(|way| receive(&mut readers[way], way, count, first));
        for got in &got {
            prop_assert!(got.iter().map(bytes_of).eq(sent.iter().map(bytes_of)), "{:?}, not {:?}", got, sent);
        }
        first += count as u64;
        for reader in &mut readers {
            prop_assert_eq!(reader.sequence(), first);
            prop_assert_eq!(reader.try_recv().err(), Some(TryRecvError::Empty));
        }
    }
    Ok(())
}

fn receive<T: Schema + Pod + Debug>(reader: &mut TypedReader<T>, way: usize, count: usize, first: u64) -> Vec<T> {
    let mut values = Vec::new();
    match way {
        0 => assert_eq!(reader.recv_batch(&mut values, count + 1), Ok(count)),
        1 => values.extend((first..).zip(reader.try_iter().take(count)).map(|(number, item)| {
            let record = item.expect("a value");
            assert_eq!(record.sequence, number);
            record.value
        })),
        2 => (0..count).for_each(|_| {
            let mut value = T::zeroed();
            reader.recv_into(&mut value).expect("a value");
            values.push(value);
        }),
        3 if reader.can_borrow() => (0..count).for_each(|_| values.push(*reader.recv_ref().expect("a value"))),
        _ => (0..count).for_each(|_| values.push(reader.try_recv().expect("a value").value)),
    }
    values
}

macro_rules! round_trips {
    ($($test:ident: $type:ty;)*) => {
        proptest! {
            #![proptest_config(config(40))]
            $(
                #[test]
                fn $test(values in bits::<$type>(), run in 1..9_usize, memfd: bool, wide: bool) {
                    come_out_as_they_went_in::<$type>(&values, run, memfd, wide)?;
                }
            )*
        }
    };
}

round_trips! {
    bytes: u8;
    words: i64;
    floats: f32;
    arrays_of_an_odd_length: [u8; 13];
    arrays_of_two_dimensions: [[i32; 3]; 7];
    structs: Mixed;
    values_as_large_as_a_record: Largest;
    values_of_no_bytes: [u32; 0];
}
