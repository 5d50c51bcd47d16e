//! iceoryx2: publish-subscribe of a middleware, samples loaned from a pool, one queue of offsets for each reader.

use std::hint::spin_loop;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::harness::carrier::{Carrier, Singles};
use crate::harness::session::{Session, ring_bytes};
use crate::payload::Payload;

/// `loan_uninit`, filled in place, `send`; `receive`, read in place.
pub(crate) struct Iceoryx2;

type Service = ipc::Service;
type PubSub<const W: usize> = iceoryx2::service::port_factory::publish_subscribe::PortFactory<Service, Payload<W>, ()>;

/// A port, and what it must not outlive.
pub(crate) struct Port<P, const W: usize> {
    port: P,
    _service: PubSub<W>,
    _node: Node<Service>,
}

/// Samples that a subscriber may be behind.
fn buffer(size: usize) -> usize {
    (ring_bytes(size) / size).min(MOST_BUFFERED)
}

/// Its pool has a header for every sample, and its offsets lie elsewhere: as many small samples as the others have slots
/// would be several times their memory. A choice, not the end of a search.
const MOST_BUFFERED: usize = 512;

fn open<const W: usize>(session: &Session, what: &str) -> (Node<Service>, PubSub<W>) {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    let root = session.directory.join("iceoryx2");
    let root = root.to_str().expect("an ordinary path");
    config.global.set_root_path(&Path::new(root.as_bytes()).expect("iceoryx2 path"));
    // So that whatever stays behind has the run's name, and is swept with it.
    config.global.prefix = FileName::new(session.name("").as_bytes()).expect("iceoryx2 prefix");
    let node = NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Service>()
        .expect("iceoryx2 node");
    let service = node
        .service_builder(&what.try_into().expect("iceoryx2 name"))
        .publish_subscribe::<Payload<W>>()
        .enable_safe_overflow(false)
        .history_size(0)
        .max_nodes(3)
        .max_publishers(1)
        .max_subscribers(2)
        .subscriber_max_buffer_size(buffer(W * 8))
        .subscriber_max_borrowed_samples(1)
        .open_or_create()
        .expect("iceoryx2 service");
    (node, service)
}

impl Carrier for Iceoryx2 {
    type Writer<const W: usize> = Port<Publisher<Service, Payload<W>, ()>, W>;
    type Reader<const W: usize> = Port<Subscriber<Service, Payload<W>, ()>, W>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
        let (node, service) = open(session, what);
        let builder = service.publisher_builder().max_loaned_samples(1);
        let builder = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        Port { port: builder.create().expect("iceoryx2 publisher"), _service: service, _node: node }
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _others: &[Self::Reader<W>]) -> Self::Reader<W> {
        let (node, service) = open(session, what);
        let builder = service.subscriber_builder().buffer_size(buffer(W * 8));
        Port { port: builder.create().expect("iceoryx2 subscriber"), _service: service, _node: node }
    }
}

impl Singles for Iceoryx2 {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        let mut sample = writer.port.loan_uninit().expect("iceoryx2 loan");
        Payload::fill_in(sample.payload_mut(), sequence);
        // SAFETY: all of the payload was filled.
        unsafe { sample.assume_init() }.send().expect("iceoryx2 send");
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        loop {
            if let Some(sample) = reader.port.receive().expect("iceoryx2 receive") {
                return sample.payload().sum();
            }
            spin_loop();
        }
    }
}
