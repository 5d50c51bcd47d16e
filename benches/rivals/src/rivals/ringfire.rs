//! ringfire: slots with a sequence lock, a registry of readers, one writer.

use std::mem::MaybeUninit;

use ringfire::spmc::{FlowControl, RingConsumer, RingConsumerBuilder, RingProducer, RingProducerBuilder};
use ringfire::wait::BusySpin;

use crate::harness::carrier::{Batches, Carrier, Singles};
use crate::harness::session::{Session, slots};
use crate::payload::Payload;

/// `push` and `recv_blocking` with `BusySpin`; `push_batch` and `recv_batch`.
pub(crate) struct Ringfire;

pub(crate) struct Producer<const W: usize> {
    ring: RingProducer<Payload<W>>,
    batch: Vec<Payload<W>>,
}

pub(crate) struct Consumer<const W: usize> {
    ring: RingConsumer<Payload<W>>,
    batch: Vec<Payload<W>>,
}

impl Carrier for Ringfire {
    type Writer<const W: usize> = Producer<W>;
    type Reader<const W: usize> = Consumer<W>;

    fn writer<const W: usize>(session: &Session, what: &'static str, readers: usize) -> Producer<W> {
        let ring = RingProducerBuilder::new(slots(W * 8 + 8) as u64)
            .flow_control(FlowControl::LosslessBackpressure)
            .max_readers(readers)
            .build(session.path(what))
            .expect("ringfire producer");
        Producer { ring, batch: Vec::new() }
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _others: &[Consumer<W>]) -> Consumer<W> {
        let builder = RingConsumerBuilder::new().start_from_oldest();
        let ring = builder.attach(session.path(what)).expect("ringfire consumer");
        Consumer { ring, batch: Vec::new() }
    }
}

impl Singles for Ringfire {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Producer<W>, sequence: u64) {
        writer.ring.push(Payload::fill_in(&mut MaybeUninit::uninit(), sequence));
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Consumer<W>) -> u64 {
        reader.ring.recv_blocking(&mut BusySpin).sum()
    }
}

impl Batches for Ringfire {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Producer<W>, first: u64, count: usize) {
        if writer.batch.len() != count {
            writer.batch.resize(count, Payload::default());
        }
        for (payload, sequence) in writer.batch.iter_mut().zip(first..) {
            payload.fill(sequence);
        }
        writer.ring.push_batch(&writer.batch);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Consumer<W>, most: usize) -> (usize, u64) {
        if reader.batch.len() != most {
            reader.batch.resize(most, Payload::default());
        }
        loop {
            let count = reader.ring.recv_batch(&mut reader.batch);
            if count > 0 {
                let total = reader.batch[..count].iter().fold(0u64, |total, payload| total.wrapping_add(payload.sum()));
                return (count, total);
            }
            std::hint::spin_loop();
        }
    }
}
