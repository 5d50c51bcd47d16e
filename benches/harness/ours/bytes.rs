//! Bytes: `publish` or `claim`, and `recv_into` or `recv_ref`.

use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use shmcast::{Options, TryRecvError};

use super::{Again, Ends, OneByOne, Together};
use crate::harness::words::{boxed, fill, fill_in, sum};

/// Writes bytes.
pub(crate) struct Sender<const W: usize> {
    ring: shmcast::Writer,
    batch: Vec<[u64; W]>,
}

impl<const W: usize> Sender<W> {
    fn create(options: &Options, path: &Path) -> Sender<W> {
        Sender { ring: options.create_file(path).expect("shmcast ring"), batch: Vec::new() }
    }

    fn wait_for_readers(&mut self, readers: u64, timeout: Duration) {
        self.ring.wait_for_readers(readers, timeout).expect("shmcast readers");
    }

    #[inline(always)]
    fn send(&mut self, sequence: u64) -> u64 {
        let mut place = MaybeUninit::uninit();
        let words = fill_in::<W>(&mut place, sequence);
        self.ring.publish(bytemuck::cast_slice(words)).expect("publish")
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) {
        if self.batch.len() != count {
            self.batch.resize(count, [0; W]);
        }
        for (words, sequence) in self.batch.iter_mut().zip(first..) {
            fill(words, sequence);
        }
        let records = self.batch.iter().map(|words| bytemuck::cast_slice::<u64, u8>(words));
        self.ring.publish_batch(records).expect("publish_batch");
    }
}

/// Says that `Sender` is the writing end, of an implementation of `Ends`.
macro_rules! writes_with_sender {
    () => {
        type Writer<const W: usize> = Sender<W>;

        fn create<const W: usize>(options: Options, path: &Path) -> Sender<W> {
            Sender::create(&options, path)
        }

        fn wait_for_readers<const W: usize>(writer: &mut Sender<W>, readers: u64, timeout: Duration) {
            writer.wait_for_readers(readers, timeout);
        }
    };
}

/// `publish` and `recv_into`; `publish_batch`, and `recv_into` with `try_recv_into`.
pub(crate) struct Copied;

/// Copies bytes out.
pub(crate) struct Copier<const W: usize> {
    ring: shmcast::Reader,
    buffer: Box<[[u64; W]; 1]>,
}

impl<const W: usize> Again for Copier<W> {
    fn again(&self) -> Self {
        Copier { ring: self.ring.again(), buffer: boxed() }
    }
}

impl Ends for Copied {
    writes_with_sender!();
    type Reader<const W: usize> = Copier<W>;

    fn open<const W: usize>(options: Options, path: &Path) -> Copier<W> {
        Copier { ring: options.open_file(path).expect("shmcast reader"), buffer: boxed() }
    }
}

impl OneByOne for Copied {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        writer.send(sequence)
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Copier<W>) -> (u64, u64) {
        let bytes = bytemuck::cast_slice_mut(&mut reader.buffer[0]);
        let received = reader.ring.recv_into(bytes).expect("recv_into");
        (received.sequence, sum(&bytes[..received.len]))
    }
}

impl Together for Copied {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Sender<W>, first: u64, count: usize) {
        writer.send_batch(first, count);
    }

    /// One that is waited for, and then what else is there.
    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Copier<W>, most: usize) -> (usize, u64) {
        let (_, mut total) = Self::receive(reader);
        for count in 1..most {
            let bytes = bytemuck::cast_slice_mut(&mut reader.buffer[0]);
            match reader.ring.try_recv_into(bytes) {
                Ok(received) => total = total.wrapping_add(sum(&bytes[..received.len])),
                Err(TryRecvError::Empty) => return (count, total),
                Err(error) => panic!("try_recv_into: {error}"),
            }
        }
        (most, total)
    }
}

/// `publish` and `recv_ref`; `publish_batch`, and `recv_ref` with `try_recv_ref`.
pub(crate) struct Borrowed;

impl Ends for Borrowed {
    writes_with_sender!();
    type Reader<const W: usize> = shmcast::Reader;

    fn open<const W: usize>(options: Options, path: &Path) -> shmcast::Reader {
        options.open_file(path).expect("shmcast reader")
    }
}

impl OneByOne for Borrowed {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        writer.send(sequence)
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut shmcast::Reader) -> (u64, u64) {
        let record = reader.recv_ref().expect("recv_ref");
        (record.sequence(), sum(&record))
    }
}

impl Together for Borrowed {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Sender<W>, first: u64, count: usize) {
        writer.send_batch(first, count);
    }

    /// One that is waited for, and then what else is there.
    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut shmcast::Reader, most: usize) -> (usize, u64) {
        let (_, mut total) = Self::receive::<W>(reader);
        for count in 1..most {
            match reader.try_recv_ref() {
                Ok(record) => total = total.wrapping_add(sum(&record)),
                Err(TryRecvError::Empty) => return (count, total),
                Err(error) => panic!("try_recv_ref: {error}"),
            }
        }
        (most, total)
    }
}

/// `claim`, filled in place, and `recv_ref`: no copy at all.
pub(crate) struct Claimed;

impl Ends for Claimed {
    writes_with_sender!();
    type Reader<const W: usize> = shmcast::Reader;

    fn open<const W: usize>(options: Options, path: &Path) -> shmcast::Reader {
        Borrowed::open::<W>(options, path)
    }
}

impl OneByOne for Claimed {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        let mut claim = writer.ring.claim(W * 8).expect("claim");
        // SAFETY: all readers are lossless, have joined, and ask for no lag.
        let place = unsafe { claim.as_mut_slice() };
        fill(bytemuck::cast_slice_mut(place), sequence);
        claim.commit()
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut shmcast::Reader) -> (u64, u64) {
        Borrowed::receive::<W>(reader)
    }
}
