//! Typed channels of arrays of words: a batch is as many records, or one record of as many items.

use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use shmcast::{Options, TryRecvError, TypedReader, TypedWriter};

use super::{Again, Ends, OneByOne, Together};
use crate::harness::words::{add_up, boxed, fill, fill_in};

/// Larger values are received into one of the reader's own, as the documentation of `recv_into` asks for.
const MOST_MOVED_WORDS: usize = 8;

/// Writes values.
pub(crate) struct Sender<const W: usize> {
    ring: TypedWriter<[u64; W]>,
    batch: Vec<[u64; W]>,
}

impl<const W: usize> Sender<W> {
    fn create(options: Options, path: &Path) -> Sender<W> {
        Sender { ring: options.typed().create_file(path).expect("shmcast typed ring"), batch: Vec::new() }
    }

    fn wait_for_readers(&mut self, readers: u64, timeout: Duration) {
        self.ring.wait_for_readers(readers, timeout).expect("shmcast readers");
    }

    #[inline(always)]
    fn send(&mut self, sequence: u64) -> u64 {
        let mut place = MaybeUninit::uninit();
        self.ring.publish(fill_in(&mut place, sequence)).expect("publish")
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) {
        if self.batch.len() != count {
            self.batch.resize(count, [0; W]);
        }
        for (words, sequence) in self.batch.iter_mut().zip(first..) {
            fill(words, sequence);
        }
        self.ring.publish_batch(&self.batch).expect("publish_batch");
    }
}

/// Says that `Sender` is the writing end, of an implementation of `Ends`.
macro_rules! writes_with_sender {
    () => {
        type Writer<const W: usize> = Sender<W>;

        fn create<const W: usize>(options: Options, path: &Path) -> Sender<W> {
            Sender::create(options, path)
        }

        fn wait_for_readers<const W: usize>(writer: &mut Sender<W>, readers: u64, timeout: Duration) {
            writer.wait_for_readers(readers, timeout);
        }
    };
}

/// `publish`, and `recv` (above 64 bytes `recv_into`); `publish_batch` and `recv_batch`.
pub(crate) struct Copied;

/// Copies values out.
pub(crate) struct Copier<const W: usize> {
    ring: TypedReader<[u64; W]>,
    value: Box<[[u64; W]; 1]>,
    values: Vec<[u64; W]>,
}

impl<const W: usize> Again for Copier<W> {
    fn again(&self) -> Self {
        Copier { ring: self.ring.again(), value: boxed(), values: Vec::new() }
    }
}

impl Ends for Copied {
    writes_with_sender!();
    type Reader<const W: usize> = Copier<W>;

    fn open<const W: usize>(options: Options, path: &Path) -> Copier<W> {
        let ring = options.typed().open_file(path).expect("shmcast typed reader");
        Copier { ring, value: boxed(), values: Vec::new() }
    }
}

impl OneByOne for Copied {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        writer.send(sequence)
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Copier<W>) -> (u64, u64) {
        if W <= MOST_MOVED_WORDS {
            let record = reader.ring.recv().expect("recv");
            (record.sequence, add_up(&record.value))
        } else {
            let sequence = reader.ring.recv_into(&mut reader.value[0]).expect("recv_into");
            (sequence, add_up(&reader.value[0]))
        }
    }
}

impl Together for Copied {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Sender<W>, first: u64, count: usize) {
        writer.send_batch(first, count);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Copier<W>, most: usize) -> (usize, u64) {
        reader.values.clear();
        let count = reader.ring.recv_batch(&mut reader.values, most).expect("recv_batch");
        (count, add_up(reader.values.as_flattened()))
    }
}

/// `publish` and `recv_ref`; `publish_batch`, and `recv_ref` with `try_recv_ref`.
pub(crate) struct Borrowed;

impl Ends for Borrowed {
    writes_with_sender!();
    type Reader<const W: usize> = TypedReader<[u64; W]>;

    fn open<const W: usize>(options: Options, path: &Path) -> TypedReader<[u64; W]> {
        options.typed().open_file(path).expect("shmcast typed reader")
    }
}

impl OneByOne for Borrowed {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        writer.send(sequence)
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut TypedReader<[u64; W]>) -> (u64, u64) {
        let record = reader.recv_ref().expect("recv_ref");
        (record.sequence(), add_up(&*record))
    }
}

impl Together for Borrowed {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Sender<W>, first: u64, count: usize) {
        writer.send_batch(first, count);
    }

    /// One that is waited for, and then what else is there.
    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut TypedReader<[u64; W]>, most: usize) -> (usize, u64) {
        let (_, mut total) = Self::receive(reader);
        for count in 1..most {
            match reader.try_recv_ref() {
                Ok(record) => total = total.wrapping_add(add_up(&*record)),
                Err(TryRecvError::Empty) => return (count, total),
                Err(error) => panic!("try_recv_ref: {error}"),
            }
        }
        (most, total)
    }
}

/// A batch is one record of `N` items.
pub(crate) struct OneSender<const W: usize, const N: usize> {
    ring: TypedWriter<[[u64; W]; N]>,
    items: Box<[[u64; W]; N]>,
}

impl<const W: usize, const N: usize> OneSender<W, N> {
    fn create(options: Options, path: &Path) -> OneSender<W, N> {
        OneSender { ring: options.typed().create_file(path).expect("shmcast typed ring"), items: boxed() }
    }

    fn wait_for_readers(&mut self, readers: u64, timeout: Duration) {
        self.ring.wait_for_readers(readers, timeout).expect("shmcast readers");
    }

    #[inline(always)]
    fn send(&mut self, first: u64, count: usize) {
        assert_eq!(count, N, "the batch agreed on");
        for (words, sequence) in self.items.iter_mut().zip(first..) {
            fill(words, sequence);
        }
        self.ring.publish(&self.items).expect("publish");
    }
}

/// The same for `OneSender`.
macro_rules! writes_with_one_sender {
    () => {
        type Writer<const W: usize> = OneSender<W, N>;

        fn create<const W: usize>(options: Options, path: &Path) -> OneSender<W, N> {
            OneSender::create(options, path)
        }

        fn wait_for_readers<const W: usize>(writer: &mut OneSender<W, N>, readers: u64, timeout: Duration) {
            writer.wait_for_readers(readers, timeout);
        }
    };
}

/// `publish` and `recv_into` of `N` items.
pub(crate) struct OneCopied<const N: usize>;

/// Copies items out.
pub(crate) struct OneCopier<const W: usize, const N: usize> {
    ring: TypedReader<[[u64; W]; N]>,
    items: Box<[[u64; W]; N]>,
}

impl<const W: usize, const N: usize> Again for OneCopier<W, N> {
    fn again(&self) -> Self {
        OneCopier { ring: self.ring.again(), items: boxed() }
    }
}

impl<const N: usize> Ends for OneCopied<N> {
    writes_with_one_sender!();
    type Reader<const W: usize> = OneCopier<W, N>;

    fn open<const W: usize>(options: Options, path: &Path) -> OneCopier<W, N> {
        OneCopier { ring: options.typed().open_file(path).expect("shmcast typed reader"), items: boxed() }
    }
}

impl<const N: usize> Together for OneCopied<N> {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut OneSender<W, N>, first: u64, count: usize) {
        writer.send(first, count);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut OneCopier<W, N>, _most: usize) -> (usize, u64) {
        reader.ring.recv_into(&mut reader.items).expect("recv_into");
        (N, add_up(reader.items.as_flattened()))
    }
}

/// `publish` and `recv_ref` of `N` items.
pub(crate) struct OneBorrowed<const N: usize>;

impl<const N: usize> Ends for OneBorrowed<N> {
    writes_with_one_sender!();
    type Reader<const W: usize> = TypedReader<[[u64; W]; N]>;

    fn open<const W: usize>(options: Options, path: &Path) -> TypedReader<[[u64; W]; N]> {
        options.typed().open_file(path).expect("shmcast typed reader")
    }
}

impl<const N: usize> Together for OneBorrowed<N> {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut OneSender<W, N>, first: u64, count: usize) {
        writer.send(first, count);
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut TypedReader<[[u64; W]; N]>, _most: usize) -> (usize, u64) {
        let items = reader.recv_ref().expect("recv_ref");
        (N, add_up(items.as_flattened()))
    }
}

/// `claim`, filled in place, and `recv_ref`: no copy at all.
pub(crate) struct Claimed;

impl Ends for Claimed {
    writes_with_sender!();
    type Reader<const W: usize> = TypedReader<[u64; W]>;

    fn open<const W: usize>(options: Options, path: &Path) -> TypedReader<[u64; W]> {
        Borrowed::open::<W>(options, path)
    }
}

impl OneByOne for Claimed {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Sender<W>, sequence: u64) -> u64 {
        let mut claim = writer.ring.claim().expect("claim");
        // SAFETY: all readers are lossless, have joined, and ask for no lag.
        fill(unsafe { claim.as_mut() }, sequence);
        claim.commit()
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut TypedReader<[u64; W]>) -> (u64, u64) {
        Borrowed::receive::<W>(reader)
    }
}

/// `claim` and `recv_ref` of `N` items.
pub(crate) struct OneClaimed<const N: usize>;

impl<const N: usize> Ends for OneClaimed<N> {
    writes_with_one_sender!();
    type Reader<const W: usize> = TypedReader<[[u64; W]; N]>;

    fn open<const W: usize>(options: Options, path: &Path) -> TypedReader<[[u64; W]; N]> {
        OneBorrowed::<N>::open::<W>(options, path)
    }
}

impl<const N: usize> Together for OneClaimed<N> {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut OneSender<W, N>, first: u64, count: usize) {
        assert_eq!(count, N, "the batch agreed on");
        let mut claim = writer.ring.claim().expect("claim");
        // SAFETY: all readers are lossless, have joined, and ask for no lag.
        let items = unsafe { claim.as_mut() };
        for (words, sequence) in items.iter_mut().zip(first..) {
            fill(words, sequence);
        }
        claim.commit();
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut TypedReader<[[u64; W]; N]>, most: usize) -> (usize, u64) {
        OneBorrowed::<N>::receive_batch::<W>(reader, most)
    }
}
