//! shmcast: bytes and values, copied out and borrowed, one by one and in batches, and by a lossy reader that is not
//! lapped.

use std::hint::spin_loop;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use bytemuck::CheckedBitPattern;
use shmcast::{Options, Schema, TypedReader, WaitStrategy};

use super::carrier::{Batches, Carrier, Singles};
use super::plan::Contender;
use super::session::{Session, Shared, ring_bytes};

mod bytes;
mod typed;

/// What the names of all of them begin with, for tables and `--only`.
pub(crate) const BYTES: &str = "shmcast bytes";
/// Typed channels.
pub(crate) const TYPED: &str = "shmcast typed";

pub(crate) const BYTES_COPY: &str = "shmcast bytes copy";
pub(crate) const BYTES_BORROW: &str = "shmcast bytes borrow";
pub(crate) const BYTES_LOSSY: &str = "shmcast bytes lossy";
pub(crate) const BYTES_ALIGNED: &str = "shmcast bytes copy, aligned 64";
pub(crate) const TYPED_COPY: &str = "shmcast typed copy";
pub(crate) const TYPED_LOSSY: &str = "shmcast typed lossy";

/// All of ours.
pub(crate) fn contenders() -> Vec<Contender> {
    use bytes::{Borrowed, Claimed, Copied};
    use typed::{OneBorrowed, OneClaimed, OneCopied};
    vec![
        Contender::ours::<Lossless<Copied>>(BYTES_COPY).broadcasts().large_batches::<Lossless<Copied>>(),
        Contender::ours::<Lossless<Copied, 64>>(BYTES_ALIGNED).no_streams(),
        Contender::ours::<Lossless<Borrowed>>(BYTES_BORROW).broadcasts().large_batches::<Lossless<Borrowed>>(),
        Contender::ours::<Lossless<Claimed>>("shmcast bytes claim").broadcasts(),
        Contender::ours::<Lossy<Copied>>(BYTES_LOSSY).no_round_trips(),
        Contender::ours::<Lossless<typed::Copied>>(TYPED_COPY).broadcasts().large_batches::<Lossless<typed::Copied>>(),
        Contender::ours::<Lossless<typed::Copied, 64>>("shmcast typed copy, aligned 64").no_streams(),
        Contender::ours::<Lossless<typed::Borrowed>>("shmcast typed borrow")
            .broadcasts()
            .large_batches::<Lossless<typed::Borrowed>>(),
        Contender::ours::<Lossless<typed::Claimed>>("shmcast typed claim").broadcasts(),
        Contender::items::<Lossless<OneCopied<32>>, Lossless<OneCopied<4>>, Lossless<OneCopied<2>>>(
            "shmcast typed copy, one record",
        ),
        Contender::items::<Lossless<OneBorrowed<32>>, Lossless<OneBorrowed<4>>, Lossless<OneBorrowed<2>>>(
            "shmcast typed borrow, one record",
        ),
        Contender::items::<Lossless<OneClaimed<32>>, Lossless<OneClaimed<4>>, Lossless<OneClaimed<2>>>(
            "shmcast typed claim, one record",
        ),
        Contender::ours::<Lossy<typed::Copied>>(TYPED_LOSSY).no_round_trips(),
    ]
}

fn options<const W: usize>() -> Options {
    Options::new().capacity(ring_bytes(W * 8) as u64).wait(WaitStrategy::Spin)
}

/// Our two ends, before it is said how the ring is made.
pub(crate) trait Ends {
    /// The writing end.
    type Writer<const W: usize>;
    /// The reading end.
    type Reader<const W: usize>: Again;

    fn create<const W: usize>(options: Options, path: &Path) -> Self::Writer<W>;

    fn open<const W: usize>(options: Options, path: &Path) -> Self::Reader<W>;

    fn wait_for_readers<const W: usize>(writer: &mut Self::Writer<W>, readers: u64, timeout: Duration);
}

/// A reading end that there can be another of in the same process, on the same mapping (`resubscribe`): what one of them has read is
/// in the processor's nearest cache for the other one.
pub(crate) trait Again {
    fn again(&self) -> Self;
}

impl Again for shmcast::Reader {
    fn again(&self) -> Self {
        self.resubscribe().expect("shmcast reader")
    }
}

impl<T: Schema + CheckedBitPattern> Again for TypedReader<T> {
    fn again(&self) -> Self {
        self.resubscribe().expect("shmcast typed reader")
    }
}

/// One record per call.
pub(crate) trait OneByOne: Ends {
    /// Fills and sends; answers the record's number.
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) -> u64;

    /// Receives; answers the record's number, and the sum of its words.
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> (u64, u64);
}

/// Many records per call, as in [`Batches`].
pub(crate) trait Together: Ends {
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, count: usize);

    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, most: usize) -> (usize, u64);
}

/// With lossless readers.
pub(crate) struct Lossless<E, const ALIGNMENT: u64 = 8>(PhantomData<E>);

impl<E: Ends, const ALIGNMENT: u64> Carrier for Lossless<E, ALIGNMENT> {
    type Writer<const W: usize> = E::Writer<W>;
    type Reader<const W: usize> = E::Reader<W>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> E::Writer<W> {
        E::create(options::<W>().record_alignment(ALIGNMENT), &session.path(what))
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, others: &[E::Reader<W>]) -> E::Reader<W> {
        others.first().map_or_else(|| E::open(options::<W>(), &session.path(what)), Again::again)
    }

    fn joined<const W: usize>(writer: &mut E::Writer<W>, readers: usize) {
        E::wait_for_readers(writer, readers as u64, Duration::from_secs(10));
    }
}

impl<E: OneByOne, const ALIGNMENT: u64> Singles for Lossless<E, ALIGNMENT> {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut E::Writer<W>, sequence: u64) {
        E::send(writer, sequence);
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut E::Reader<W>) -> u64 {
        E::receive(reader).1
    }
}

impl<E: Together, const ALIGNMENT: u64> Batches for Lossless<E, ALIGNMENT> {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut E::Writer<W>, first: u64, count: usize) {
        E::send_batch(writer, first, count);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut E::Reader<W>, most: usize) -> (usize, u64) {
        E::receive_batch(reader, most)
    }
}

/// With a lossy reader. A word beside the ring keeps the writer about half a lap ahead at most, so that what is
/// measured is the lossy reader's own way, and nothing is lost.
pub(crate) struct Lossy<E>(PhantomData<E>);

/// How far the writer may be ahead, and how often both sides look: about as a lossless reader's blocks have it.
const fn window(words: usize) -> (u64, u64) {
    let records = (ring_bytes(words * 8) / (words * 8 + 8)) as u64;
    (records / 2, if records < 16 { 1 } else { records / 16 })
}

/// Waits beside the ring. It counts by the numbers that the ring itself answers: nothing is kept for it.
pub(crate) struct Paced<End> {
    end: End,
    shared: Shared,
    /// The number of the record behind which it looks, or tells.
    next: u64,
}

impl<E: Ends> Carrier for Lossy<E> {
    type Writer<const W: usize> = Paced<E::Writer<W>>;
    type Reader<const W: usize> = Paced<E::Reader<W>>;

    fn writer<const W: usize>(session: &Session, what: &'static str, _readers: usize) -> Paced<E::Writer<W>> {
        Paced { end: E::create(options::<W>(), &session.path(what)), shared: session.shared, next: 0 }
    }

    fn reader<const W: usize>(session: &Session, what: &'static str, _others: &[Self::Reader<W>]) -> Self::Reader<W> {
        Paced { end: E::open(options::<W>().lossy(true), &session.path(what)), shared: session.shared, next: 0 }
    }

    fn joined<const W: usize>(writer: &mut Paced<E::Writer<W>>, readers: usize) {
        E::wait_for_readers(&mut writer.end, readers as u64, Duration::from_secs(10));
    }
}

impl<E: OneByOne> Singles for Lossy<E> {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Paced<E::Writer<W>>, sequence: u64) {
        let number = E::send(&mut writer.end, sequence);
        if number == writer.next {
            let (ahead, step) = window(W);
            writer.next += step;
            // None of the records up to the next look may be a lap ahead.
            while writer.next > writer.shared.taken().load(Acquire) + ahead {
                spin_loop();
            }
        }
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Paced<E::Reader<W>>) -> u64 {
        let (number, total) = E::receive(&mut reader.end);
        if number == reader.next {
            reader.next += window(W).1;
            reader.shared.taken().store(number + 1, Release);
        }
        total
    }
}
