//! rtrb: one producer and one consumer, threads of one process.

use std::any::Any;
use std::collections::HashMap;
use std::hint::spin_loop;
use std::mem::MaybeUninit;
use std::sync::{LazyLock, Mutex};

use crate::carrier::{Batches, Carrier};
use crate::payload::Payload;
use crate::session::{Session, slots};

/// `push` and `pop`, guarded by `is_full` and `is_empty`.
pub(crate) struct PushPop;

/// `write_chunk_uninit` and `read_chunk`, filled and read in place.
pub(crate) struct Chunks;

/// Both ends are made at once: the reader's waits here for its thread.
static READERS: LazyLock<Mutex<HashMap<&'static str, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

fn pair<const W: usize>(what: &'static str) -> rtrb::Producer<Payload<W>> {
    let (producer, consumer) = rtrb::RingBuffer::<Payload<W>>::new(slots(W * 8));
    READERS.lock().expect("nobody panics with the lock").insert(what, Box::new(consumer));
    producer
}

fn take<const W: usize>(what: &'static str) -> rtrb::Consumer<Payload<W>> {
    let consumer = READERS.lock().expect("nobody panics with the lock").remove(what).expect("made before");
    *consumer.downcast().expect("of the same size")
}

impl Carrier for PushPop {
    type Writer<const W: usize> = rtrb::Producer<Payload<W>>;
    type Reader<const W: usize> = rtrb::Consumer<Payload<W>>;

    fn writer<const W: usize>(_session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
        pair(what)
    }

    fn reader<const W: usize>(_session: &Session, what: &'static str, _number: usize) -> Self::Reader<W> {
        take(what)
    }

    #[inline(always)]
    fn send<const W: usize>(writer: &mut Self::Writer<W>, sequence: u64) {
        while writer.is_full() {
            spin_loop();
        }
        let mut place = MaybeUninit::uninit();
        assert!(writer.push(*Payload::fill_in(&mut place, sequence)).is_ok(), "not full");
    }

    #[inline(always)]
    fn receive<const W: usize>(reader: &mut Self::Reader<W>) -> u64 {
        while reader.is_empty() {
            spin_loop();
        }
        reader.pop().expect("not empty").sum()
    }
}

impl Carrier for Chunks {
    type Writer<const W: usize> = rtrb::Producer<Payload<W>>;
    type Reader<const W: usize> = rtrb::Consumer<Payload<W>>;

    fn writer<const W: usize>(_session: &Session, what: &'static str, _readers: usize) -> Self::Writer<W> {
        pair(what)
    }

    fn reader<const W: usize>(_session: &Session, what: &'static str, _number: usize) -> Self::Reader<W> {
        take(what)
    }

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
                    Payload::fill_in(place, sequence);
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
        let total = one.iter().chain(two).fold(0u64, |total, payload| total.wrapping_add(payload.sum()));
        chunk.commit_all();
        (count, total)
    }
}
