//! disruptor-mp: the LMAX Disruptor between processes, one writer, every reader sees everything.

use disruptor_mp::{
    CoordinationMode, SharedConsumer, SharedProducer, attach_shared_consumer, build_shared_single_producer,
};

use crate::harness::carrier::{Batches, Carrier, Singles};
use crate::harness::session::{Session, slots};
use crate::payload::Payload;

/// `publish` and `consume_next_leased`; `batch_publish` and `process_available`.
pub(crate) struct DisruptorMp;

fn consumer_id(number: usize) -> String {
    format!("r{number}")
}

impl Carrier for DisruptorMp {
    type Writer<const W: usize> = SharedProducer<Payload<W>>;
    type Reader<const W: usize> = SharedConsumer<Payload<W>>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
        build_shared_single_producer(&session.name(what), slots(W * 8))
            .disable_discovery()
            .with_coordination(CoordinationMode::Immediate)
            .build_producer(Payload::default)
            .expect("disruptor-mp producer")
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, others: &[Self::Reader<W>]) -> Self::Reader<W> {
        attach_shared_consumer(&session.name(what), slots(W * 8))
            .with_consumer_id(&consumer_id(others.len()))
            .build_consumer()
            .expect("disruptor-mp consumer")
    }

    fn joined<const W: usize>(writer: &mut Self::Writer<W>, readers: usize) {
        // By name, for good: no search while it runs.
        for number in 0..readers {
            assert!(writer.discover_consumer_id(&consumer_id(number)), "disruptor-mp consumer {number}");
        }
    }
}

impl Singles for DisruptorMp {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        writer.publish(|slot| slot.fill(sequence));
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        reader.consume_next_leased().sum()
    }
}

impl Batches for DisruptorMp {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, count: usize) {
        while writer.batch_publish(count, |slot, i| slot.fill(first + i as u64)).is_err() {
            std::hint::spin_loop();
        }
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, _most: usize) -> (usize, u64) {
        let mut total = 0u64;
        loop {
            let count = reader.process_available(|slot, _| total = total.wrapping_add(slot.sum()));
            if count > 0 {
                return (count, total);
            }
            std::hint::spin_loop();
        }
    }
}
