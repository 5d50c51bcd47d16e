//! rtrb: one producer and one consumer, threads of one process.

use std::any::Any;
use std::collections::HashMap;
use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::sync::{LazyLock, Mutex};

use super::carrier::{Batches, Carrier, Singles};
use super::session::{Session, slots};
use super::words::{add_up, fill_in};

/// `push` and `pop`, guarded by `is_full` and `is_empty`.
pub(crate) struct PushPop;

/// `write_chunk_uninit` and `read_chunk`, filled and read in place.
pub(crate) struct Chunks;

/// Both ends are made at once: the reader's waits here for its thread.
static READERS: LazyLock<Mutex<HashMap<&'static str, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

/// Says that both ends are rtrb's own, in an implementation of `Carrier`.
macro_rules! carries_with_rtrb {
    () => {
        type Writer<const W: usize> = rtrb::Producer<[u64; W]>;
        type Reader<const W: usize> = rtrb::Consumer<[u64; W]>;

        fn writer<const W: usize>(_session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
            let (producer, consumer) = rtrb::RingBuffer::<[u64; W]>::new(slots(W * 8));
            READERS.lock().expect("nobody panics with the lock").insert(what, Box::new(consumer));
            producer
        }

        fn reader<const W: usize>(
            _session: &Session,
            what: &'static str,
            _others: &[Self::Reader<W>],
        ) -> Self::Reader<W> {
            let consumer = READERS.lock().expect("nobody panics with the lock").remove(what).expect("made before");
            *consumer.downcast().expect("of the same size")
        }
    };
}

impl Carrier for PushPop {
    carries_with_rtrb!();
}

impl Singles for PushPop {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        while writer.is_full() {
            spin_loop();
        }
        let mut place = MaybeUninit::uninit();
        assert!(writer.push(*fill_in(&mut place, sequence)).is_ok(), "not full");
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        while reader.is_empty() {
            spin_loop();
        }
        add_up(&reader.pop().expect("not empty"))
    }
}

impl Carrier for Chunks {
    carries_with_rtrb!();
}

impl Singles for Chunks {
    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        Self::send_batch(writer, sequence, 1);
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        Self::receive_batch(reader, 1).1
    }
}

impl Batches for Chunks {
    #[inline(always)]
    fn send_batch<const W: usize>(writer: &mut Self::Writer<W>, first: u64, count: usize) {
        loop {
            if let Ok(mut chunk) = writer.write_chunk_uninit(count) {
                let (one, two) = chunk.as_mut_slices();
                for (place, sequence) in one.iter_mut().chain(two).zip(first..) {
                    fill_in(place, sequence);
                }
                // SAFETY: all of the chunk was filled.
                unsafe { chunk.commit_all() };
                return;
            }
            spin_loop();
        }
    }

    #[inline(always)]
    fn receive_batch<const W: usize>(reader: &mut Self::Reader<W>, most: usize) -> (usize, u64) {
        // What is known to be there is enough; else what there is by now.
        let count = loop {
            let known = reader.cached_slots();
            let count = if known < most { reader.slots().min(most) } else { most };
            if count > 0 {
                break count;
            }
            spin_loop();
        };
        let chunk = reader.read_chunk(count).expect("not fewer than there were");
        let (one, two) = chunk.as_slices();
        let total = add_up(one.as_flattened()).wrapping_add(add_up(two.as_flattened()));
        chunk.commit_all();
        (count, total)
    }
}
