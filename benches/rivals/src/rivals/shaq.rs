//! shaq: queues in files, one for a single reader, and one that broadcasts.

use std::fs::File;
use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use shaq::broadcast::{self, Broadcast, BroadcastConfig, ProducerId};
use shaq::spsc;

use crate::harness::carrier::{Batches, Carrier, Singles};
use crate::harness::session::{Session, slots};
use crate::payload::Payload;

/// `try_write` and `try_read`; `write_batch` and `try_reserve_read_batch`.
pub(crate) struct Spsc;

/// `try_reserve_write` and `try_reserve_read`, filled and read in place, and the same of batches.
pub(crate) struct Broadcasts;

fn create(session: &Session, what: &str) -> File {
    File::options().read(true).write(true).create_new(true).open(session.path(what)).expect("shaq file")
}

fn open(session: &Session, what: &str) -> File {
    File::options().read(true).write(true).open(session.path(what)).expect("shaq file")
}

fn count(most: usize) -> NonZeroUsize {
    NonZeroUsize::new(most).expect("a batch is not empty")
}

impl Carrier for Spsc {
    type Writer<const W: usize> = spsc::Producer<Payload<W>>;
    type Reader<const W: usize> = spsc::Consumer<Payload<W>>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
        let bytes = spsc::minimum_file_size::<Payload<W>>(slots(W * 8));
        // SAFETY: a new file: nobody else has initialised it, nor writes it; both ends have the same type.
        unsafe { spsc::Producer::create(&create(session, what), bytes) }.expect("shaq producer")
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _others: &[Self::Reader<W>]) -> Self::Reader<W> {
        // SAFETY: the only reader of this file; both ends have the same type.
        unsafe { spsc::Consumer::join(&open(session, what)) }.expect("shaq consumer")
    }
}

impl Singles for Spsc {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        let mut place = MaybeUninit::uninit();
        let mut payload = *Payload::fill_in(&mut place, sequence);
        while let Err(again) = writer.try_write(payload) {
            payload = again;
            spin_loop();
        }
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        Self::receive_batch(reader, 1).1
    }
}

impl Batches for Spsc {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, count: usize) {
        let mut sent = 0;
        while sent < count {
            let mut batch = writer.write_batch();
            while sent < count {
                // SAFETY: every place that it gives is filled, below, before the batch is dropped.
                let Some(place) = (unsafe { batch.try_as_mut() }) else { break };
                Payload::fill_in(place, first + sent as u64);
                sent += 1;
            }
            drop(batch);
            if sent < count {
                spin_loop();
            }
        }
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, most: usize) -> (usize, u64) {
        loop {
            if let Some(batch) = reader.try_reserve_read_batch(count(most)) {
                let (one, two) = batch.as_slices();
                let total = one.iter().chain(two).fold(0u64, |total, payload| total.wrapping_add(payload.sum()));
                return (batch.len(), total);
            }
            spin_loop();
        }
    }
}

impl Carrier for Broadcasts {
    type Writer<const W: usize> = broadcast::Producer<Payload<W>>;
    type Reader<const W: usize> = broadcast::Consumer<Payload<W>>;

    fn writer<const W: usize>(session: &Session, what: &'static str, readers: usize) -> Self::Writer<W> {
        let config = BroadcastConfig { capacity: slots(W * 8), producer_slots: 1, consumer_slots: readers };
        // SAFETY: a new file: nobody else has initialised it, and nobody resizes it; both ends have the same type.
        let queue = unsafe { Broadcast::<Payload<W>>::create(&create(session, what), config) }.expect("shaq broadcast");
        queue.producer(ProducerId::new(1)).expect("shaq producer")
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _others: &[Self::Reader<W>]) -> Self::Reader<W> {
        // SAFETY: the queue that the writer made; both ends have the same type.
        unsafe { broadcast::Consumer::join(&open(session, what)) }.expect("shaq consumer")
    }
}

impl Singles for Broadcasts {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        loop {
            // SAFETY: the place is filled, below, before the guard publishes it.
            if let Some(mut guard) = unsafe { writer.try_reserve_write() } {
                Payload::fill_in(guard.as_mut(), sequence);
                return;
            }
            spin_loop();
        }
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        loop {
            if let Some(guard) = reader.try_reserve_read() {
                return guard.as_ref().sum();
            }
            spin_loop();
        }
    }
}

impl Batches for Broadcasts {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, size: usize) {
        loop {
            // SAFETY: every place is filled, below, before the batch publishes them.
            if let Some(mut batch) = unsafe { writer.try_reserve_write_batch(count(size)) } {
                for i in 0..size {
                    // SAFETY: the batch has `size` places.
                    let place = unsafe { batch.as_mut(i) };
                    Payload::fill_in(place, first + i as u64);
                }
                return;
            }
            spin_loop();
        }
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, most: usize) -> (usize, u64) {
        loop {
            if let Some(batch) = reader.try_reserve_read_batch(count(most)) {
                let (one, two) = batch.as_slices();
                let total = one.iter().chain(two).fold(0u64, |total, payload| total.wrapping_add(payload.sum()));
                return (batch.len(), total);
            }
            spin_loop();
        }
    }
}
