//! What the calls cost within one thread, caches warm and nobody waiting: the processor's share of a publish and of a receive,
//! without the wire between two processors (that is `two_process`).
//!
//! ```text
//! cargo bench --bench one_process                  10 to 20 seconds
//! cargo bench --bench one_process -- publish       those with that in their name
//! cargo bench --bench one_process -- --min-time 1  longer, and so steadier
//! ```
//!
//! A ring of 1 MiB on the heap (4 MiB for batches of 64 KiB), with a lossless reader where records are received. Times are those of
//! one call, or of one record's round, or of a batch of 32; rates are those of records and of payload bytes. A sample is 256 of
//! them (16 batches), so that the clock's grain does not show. Read the medians.

use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, Divan, black_box};
use shmcast::{Options, Reader, Writer};

const SIZES: [usize; 4] = [8, 64, 1024, 65536];
const BATCH: usize = 32;

fn main() {
    Divan::default().min_time(Duration::from_millis(300)).config_with_args().main();
}

/// A ring that holds a whole batch with room to spare, because no one reads while it is published.
fn ring(size: usize) -> Writer {
    let capacity = (2 * BATCH * size).max(1 << 20) as u64;
    Options::new().capacity(capacity).create_heap().expect("a small ring")
}

fn ring_with_reader(size: usize) -> (Writer, Reader) {
    let writer = ring(size);
    let reader = writer.subscriber().reader().expect("a free slot");
    (writer, reader)
}

/// Counts what `records` records of a size are.
fn measure<const SIZE: usize>(bencher: Bencher<'_, '_>, records: usize, call: impl FnMut()) {
    bencher.counter(ItemsCount::new(records)).counter(BytesCount::new(records * SIZE)).bench_local(call);
}

#[divan::bench(consts = SIZES, sample_size = 256)]
fn publish<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let (mut writer, payload) = (ring(SIZE), [7; SIZE]);
    measure::<SIZE>(bencher, 1, || {
        black_box(writer.publish(black_box(&payload))).expect("room");
    });
}

/// The payload is copied once: from a buffer into the ring.
#[divan::bench(consts = SIZES, sample_size = 256)]
fn claim<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let (mut writer, payload) = (ring(SIZE), [7; SIZE]);
    measure::<SIZE>(bencher, 1, || {
        let mut claim = writer.claim(SIZE).expect("room");
        claim.copy_from_slice(black_box(&payload));
        black_box(claim.commit());
    });
}

#[divan::bench(consts = SIZES, sample_size = 256)]
fn publish_and_copy<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let ((mut writer, mut reader), payload, mut buffer) = (ring_with_reader(SIZE), [7; SIZE], [0; SIZE]);
    measure::<SIZE>(bencher, 1, || {
        writer.publish(black_box(&payload)).expect("room");
        black_box(reader.recv_into(black_box(&mut buffer))).expect("a record");
    });
}

/// The record is borrowed and its last byte looked at: what it costs to read the rest is the reader's affair.
#[divan::bench(consts = SIZES, sample_size = 256)]
fn publish_and_borrow<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let ((mut writer, mut reader), payload) = (ring_with_reader(SIZE), [7; SIZE]);
    measure::<SIZE>(bencher, 1, || {
        writer.publish(black_box(&payload)).expect("room");
        black_box(reader.recv_ref().expect("a record").last().copied());
    });
}

/// 32 records that become visible together, then 32 receives.
#[divan::bench(consts = SIZES, sample_size = 16)]
fn publish_batch_and_copy<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let ((mut writer, mut reader), payload, mut buffer) = (ring_with_reader(SIZE), [7; SIZE], [0; SIZE]);
    measure::<SIZE>(bencher, BATCH, || {
        writer.publish_batch((0..BATCH).map(|_| black_box(&payload))).expect("room");
        for _ in 0..BATCH {
            black_box(reader.recv_into(black_box(&mut buffer))).expect("a record");
        }
    });
}

#[divan::bench(consts = SIZES, sample_size = 16)]
fn publish_batch_and_borrow<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let ((mut writer, mut reader), payload) = (ring_with_reader(SIZE), [7; SIZE]);
    measure::<SIZE>(bencher, BATCH, || {
        writer.publish_batch((0..BATCH).map(|_| black_box(&payload))).expect("room");
        for _ in 0..BATCH {
            black_box(reader.recv_ref().expect("a record").last().copied());
        }
    });
}
