//! shmcast: bytes copied out, borrowed, in batches, and by a lossy reader that is not lapped.

use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use shmcast::{Options, WaitStrategy};

use crate::carrier::{Batches, Carrier};
use crate::payload::{Payload, sum};
use crate::session::{RING_BYTES, Session};

fn options(alignment: u64) -> Options {
    Options::new().capacity(RING_BYTES as u64).record_alignment(alignment).wait(WaitStrategy::Spin)
}

/// Writes bytes.
pub(crate) struct Sender<const W: usize> {
    ring: shmcast::Writer,
    batch: Vec<Payload<W>>,
}

impl<const W: usize> Sender<W> {
    fn new(session: &Session, what: &str, alignment: u64) -> Sender<W> {
        let ring = options(alignment).create_file(session.path(what)).expect("shmcast ring");
        Sender { ring, batch: Vec::new() }
    }

    fn joined(&mut self, readers: usize) {
        self.ring.wait_for_readers(readers as u64, Duration::from_secs(10)).expect("shmcast readers");
    }

    #[inline(always)]
    fn send(&mut self, sequence: u64) {
        let mut place = MaybeUninit::uninit();
        let payload = Payload::<W>::fill_in(&mut place, sequence);
        self.ring.publish(payload.as_ref()).expect("publish");
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) {
        self.batch.resize(count, Payload::default());
        for (payload, sequence) in self.batch.iter_mut().zip(first..) {
            payload.fill(sequence);
        }
        self.ring.publish_batch(&self.batch).expect("publish_batch");
    }
}

/// Copies bytes out.
pub(crate) struct Copier<const W: usize> {
    ring: shmcast::Reader,
    buffer: Payload<W>,
}

impl<const W: usize> Copier<W> {
    fn new(session: &Session, what: &str, options: &Options) -> Copier<W> {
        let ring = options.open_file(session.path(what)).expect("shmcast reader");
        Copier { ring, buffer: Payload::default() }
    }

    #[inline(always)]
    fn receive(&mut self) -> u64 {
        let bytes = bytemuck::cast_slice_mut(&mut self.buffer.0);
        let received = self.ring.recv_into(bytes).expect("recv_into");
        sum(&bytes[..received.len])
    }

    /// One that waits, and then what else is there.
    #[inline(always)]
    fn receive_batch(&mut self, most: usize) -> (usize, u64) {
        let mut total = self.receive();
        for count in 1..most {
            let bytes = bytemuck::cast_slice_mut(&mut self.buffer.0);
            match self.ring.try_recv_into(bytes) {
                Ok(received) => total = total.wrapping_add(sum(&bytes[..received.len])),
                Err(shmcast::TryRecvError::Empty) => return (count, total),
                Err(error) => panic!("try_recv_into: {error}"),
            }
        }
        (most, total)
    }
}

/// `publish` and `recv_into`; `publish_batch` and `recv_into` with `try_recv_into`.
pub(crate) struct Copied<const ALIGNMENT: u64>;

impl<const ALIGNMENT: u64> Carrier for Copied<ALIGNMENT> {
    type Writer<const W: usize> = Sender<W>;
    type Reader<const W: usize> = Copier<W>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Sender<W> {
        Sender::new(session, what, ALIGNMENT)
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _number: usize) -> Copier<W> {
        Copier::new(session, what, &options(ALIGNMENT))
    }

    fn joined<const W: usize>(writer: &mut Sender<W>, readers: usize) {
        writer.joined(readers);
    }

    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) {
        writer.send(sequence);
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Copier<W>) -> u64 {
        reader.receive()
    }
}

impl<const ALIGNMENT: u64> Batches for Copied<ALIGNMENT> {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Sender<W>, first: u64, count: usize) {
        writer.send_batch(first, count);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Copier<W>, most: usize) -> (usize, u64) {
        reader.receive_batch(most)
    }
}

/// `publish` and `recv_ref`.
pub(crate) struct Borrowed;

impl Carrier for Borrowed {
    type Writer<const W: usize> = Sender<W>;
    type Reader<const W: usize> = shmcast::Reader;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Sender<W> {
        Sender::new(session, what, 8)
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _number: usize) -> shmcast::Reader {
        options(8).open_file(session.path(what)).expect("shmcast reader")
    }

    fn joined<const W: usize>(writer: &mut Sender<W>, readers: usize) {
        writer.joined(readers);
    }

    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) {
        writer.send(sequence);
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut shmcast::Reader) -> u64 {
        sum(&reader.recv_ref().expect("recv_ref"))
    }
}

/// `publish`, and `recv_into` by a lossy reader. A word beside the ring keeps the writer less than a lap ahead, so that
/// what is measured is the lossy reader's own way, and nothing is lost.
pub(crate) struct Lossy;

/// How far the writer may be ahead, and how often both sides look: about as a lossless reader's blocks have it.
const fn window(words: usize) -> (u64, u64) {
    let records = (RING_BYTES / (words * 8 + 8)) as u64;
    (records * 3 / 4, if records < 16 { 1 } else { records / 16 })
}

/// Waits beside the ring.
pub(crate) struct Paced<End> {
    end: End,
    session: Session,
    count: u64,
    next: u64,
}

impl<End> Paced<End> {
    fn new(end: End, session: &Session) -> Paced<End> {
        Paced { end, session: session.clone(), count: 0, next: 0 }
    }
}

impl Carrier for Lossy {
    type Writer<const W: usize> = Paced<Sender<W>>;
    type Reader<const W: usize> = Paced<Copier<W>>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Paced<Sender<W>> {
        Paced::new(Sender::new(session, what, 8), session)
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _number: usize) -> Paced<Copier<W>> {
        Paced::new(Copier::new(session, what, &options(8).lossy(true)), session)
    }

    #[inline(always)]
    fn send<const W: usize>(writer: &mut Paced<Sender<W>>, sequence: u64) {
        let (ahead, step) = window(W);
        if writer.count == writer.next {
            writer.next += step;
            while writer.next > writer.session.shared.taken().load(Acquire) + ahead {
                spin_loop();
            }
        }
        writer.end.send(sequence);
        writer.count += 1;
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Paced<Copier<W>>) -> u64 {
        let total = reader.end.receive();
        reader.count += 1;
        if reader.count >= reader.next {
            reader.next += window(W).1;
            reader.session.shared.taken().store(reader.count, Release);
        }
        total
    }
}

// ---- TYPED CHANNELS GO HERE ----
// A `Carrier` (and `Batches`) over `shmcast::TypedWriter<Payload<W>>` and `TypedReader<Payload<W>>`, one for copies and
// one for borrows, beside `Copied` and `Borrowed`; `Payload` then derives what they ask for. Then add their lines at the
// other mark, in plan.rs.
