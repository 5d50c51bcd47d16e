//! One measurement, as both of its ends see it.
#![allow(clippy::disallowed_types, reason = "words beside the rings, for the harness's own use")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::carrier::{Batches, Carrier, Singles};
use super::floors::{Floors, Lines};
use super::mailbox::Mailboxes;
use super::words::{expected_sum, fill, sum};

/// From this size of a record on, rings are larger.
const LARGE: usize = 1 << 20;
/// Memory of each ring for them.
const LARGE_RING_BYTES: usize = 8 << 20;
/// Round trips of a ping-pong.
const TRIPS: u64 = 50_000;

/// Memory of each ring for records of so many bytes, about: see [`slots`].
pub(crate) const fn ring_bytes(size: usize) -> usize {
    if size < LARGE { 1 << 20 } else { LARGE_RING_BYTES }
}

/// Slots of a ring of about [`ring_bytes`], for rings that have slots of one size.
///
/// The power of two that comes nearest.
pub(crate) fn slots(slot_bytes: usize) -> usize {
    let bytes = ring_bytes(slot_bytes);
    let below = 1 << (bytes / slot_bytes).ilog2();
    if 2 * below * slot_bytes - bytes < bytes - below * slot_bytes { 2 * below } else { below }
}

/// Records of a batch.
pub(crate) fn batch(size: usize) -> usize {
    match size {
        ..65536 => 32,
        65536..LARGE => 4,
        _ => 2,
    }
}

/// Records of one measurement: about 20 ms; a multiple of every batch.
fn records(size: usize) -> u64 {
    match size {
        8 => 3_200_000,
        64 => 1_920_000,
        1024 => 320_000,
        65536 => 6_400,
        _ => 300,
    }
}

/// Records or round trips that go before: a lap of the ring at least, so that its lines are as warm as they stay.
fn warm_up(size: usize) -> u64 {
    let lap = slots(size) as u64;
    lap + lap / 4
}

/// Round trips of one measurement.
fn trips(size: usize) -> u64 {
    match size {
        ..=64 => 100_000,
        1024 => 30_000,
        65536 => 1_500,
        _ => 60,
    }
}

/// Which end of the measurement this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes, and takes the time.
    First,
    /// Reads.
    Second,
}

/// Memory that both ends share beside the rings.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    lines: Lines,
    mailboxes: Mailboxes,
    /// How many records a paced reader has taken.
    taken: *const AtomicU64,
}

// SAFETY: everything in it is pointers to memory that lives for ever and is shared between processes anyway.
unsafe impl Send for Shared {}

impl Shared {
    const TAKEN_BYTES: usize = 128;

    /// Bytes that it needs.
    pub(crate) const fn bytes() -> usize {
        Shared::TAKEN_BYTES + Mailboxes::bytes(LARGE) + Floors::bytes(LARGE_RING_BYTES)
    }

    /// # Safety
    /// `memory` is [`Shared::bytes`] zeroed bytes, aligned to 128, that live for ever and are used through this only.
    pub(crate) unsafe fn new(memory: std::ptr::NonNull<u8>) -> Shared {
        let taken = memory.as_ptr();
        let boxes = taken.wrapping_add(Shared::TAKEN_BYTES);
        let floors = boxes.wrapping_add(Mailboxes::bytes(LARGE));
        // SAFETY: a part of the memory, zeroed and used through `Mailboxes` only; its offset is a multiple of 128.
        let mailboxes = unsafe { Mailboxes::new(boxes, LARGE) };
        let floors = std::ptr::NonNull::new(floors).expect("within the memory");
        // SAFETY: the rest of the memory, zeroed and used through `Lines` only.
        let lines = unsafe { Lines::new(floors, LARGE_RING_BYTES) };
        Shared { lines, mailboxes, taken: taken.cast() }
    }

    /// How many records a paced reader has taken: an agreement beside the ring.
    pub(crate) fn taken(&self) -> &'static AtomicU64 {
        // SAFETY: the first word of the memory, by the contract of `new`: it lives for ever.
        unsafe { &*self.taken }
    }
}

/// One measurement.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) role: Role,
    pub(crate) shared: Shared,
    /// This run's directory, in memory.
    pub(crate) directory: PathBuf,
    /// Counts the measurements: both ends have the same.
    pub(crate) serial: u64,
    /// The records are divided by it: 1, or more for who is slow.
    pub(crate) slowness: u64,
    /// Everything is divided by it: 1, or more where only correctness counts.
    pub(crate) hurry: u64,
}

impl Session {
    /// A path of this measurement's own, for the channel `what`.
    pub(crate) fn path(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}-{what}", self.serial))
    }

    /// A name of this measurement's own in /dev/shm: it begins like the run's directory, and is swept with it.
    pub(crate) fn name(&self, what: &str) -> String {
        let run = self.directory.file_name().unwrap_or_default().to_string_lossy();
        format!("{run}-{}-{what}", self.serial)
    }

    fn meet(&self) {
        self.shared.lines.meet(if self.role == Role::First { 1 } else { 2 });
    }

    fn records(&self, size: usize) -> u64 {
        let batch = batch(size) as u64;
        (records(size) / self.slowness / self.hurry).next_multiple_of(batch)
    }

    fn warm_up(&self, size: usize) -> u64 {
        (warm_up(size) / self.hurry).next_multiple_of(batch(size) as u64)
    }

    fn trips(&self, size: usize) -> u64 {
        (trips(size) / self.slowness / self.hurry).max(1)
    }
}

/// Removes what begins with `prefix` in `directory`: files, and directories with all that is in them.
pub(crate) fn sweep(directory: &Path, prefix: &str) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        // Whatever is gone already need not be removed.
        let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
    }
}

/// Says which call to run for each size that everybody is measured at.
macro_rules! by_size {
    ($size:expr, $function:ident $(::<$kind:ident>)? ($($argument:expr),*)) => {
        match $size {
            16 => $function::<$($kind,)? 2>($($argument),*),
            32 => $function::<$($kind,)? 4>($($argument),*),
            48 => $function::<$($kind,)? 6>($($argument),*),
            size => by_stream_size!(size, $function $(::<$kind>)? ($($argument),*)),
        }
    };
}

/// The same without those that only round trips have.
macro_rules! by_stream_size {
    ($size:expr, $function:ident $(::<$kind:ident>)? ($($argument:expr),*)) => {
        match $size {
            8 => $function::<$($kind,)? 1>($($argument),*),
            64 => $function::<$($kind,)? 8>($($argument),*),
            1024 => $function::<$($kind,)? 128>($($argument),*),
            65536 => $function::<$($kind,)? 8192>($($argument),*),
            size => unreachable!("{size} bytes are not measured"),
        }
    };
}

/// Words of the size that not everybody is measured at.
const LARGE_WORDS: usize = LARGE / 8;

/// A measurement, of records of so many bytes and so many readers. The first end answers nanoseconds per record or per
/// round trip; what the second one answers means nothing.
pub(crate) type Procedure = fn(&Session, usize, usize) -> f64;

/// `size` bytes a record, one record per call, `readers` readers in one thread that take turns.
pub(crate) fn singles<C: Singles>(session: &Session, size: usize, readers: usize) -> f64 {
    by_stream_size!(size, stream::<C>(session, readers))
}

/// The same up to 1 MiB.
pub(crate) fn large_singles<C: Singles>(session: &Session, size: usize, readers: usize) -> f64 {
    if size == LARGE { stream::<C, LARGE_WORDS>(session, readers) } else { singles::<C>(session, size, readers) }
}

/// In batches.
pub(crate) fn batches<C: Batches>(session: &Session, size: usize, readers: usize) -> f64 {
    by_stream_size!(size, stream_batches::<C>(session, readers))
}

/// The same up to 1 MiB.
pub(crate) fn large_batches<C: Batches>(session: &Session, size: usize, readers: usize) -> f64 {
    if size == LARGE {
        stream_batches::<C, LARGE_WORDS>(session, readers)
    } else {
        batches::<C>(session, size, readers)
    }
}

/// The same for who has to know the number of records in a batch beforehand: 32, 4 or 2.
pub(crate) fn items<C32: Batches, C4: Batches, C2: Batches>(session: &Session, size: usize, readers: usize) -> f64 {
    match size {
        8 => stream_batches::<C32, 1>(session, readers),
        64 => stream_batches::<C32, 8>(session, readers),
        1024 => stream_batches::<C32, 128>(session, readers),
        65536 => stream_batches::<C4, 8192>(session, readers),
        LARGE => stream_batches::<C2, LARGE_WORDS>(session, readers),
        size => unreachable!("{size} bytes are not measured"),
    }
}

/// A record there and one back, over two channels, one after the other.
pub(crate) fn round_trips<C: Singles>(session: &Session, size: usize, _readers: usize) -> f64 {
    by_size!(size, exchange::<C>(session))
}

/// The same up to 1 MiB.
pub(crate) fn large_round_trips<C: Singles>(session: &Session, size: usize, readers: usize) -> f64 {
    if size == LARGE { exchange::<C, LARGE_WORDS>(session) } else { round_trips::<C>(session, size, readers) }
}

fn each(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}

fn stream<C: Singles, const W: usize>(session: &Session, readers: usize) -> f64 {
    let write = |writer: &mut C::Writer<W>, records| {
        for sequence in 0..records {
            C::send(writer, sequence);
        }
    };
    let read = |readers: &mut [C::Reader<W>], records| {
        let mut total = 0u64;
        if let [reader] = readers {
            for _ in 0..records {
                total = total.wrapping_add(C::receive(reader));
            }
        } else {
            for _ in 0..records {
                for reader in readers.iter_mut() {
                    total = total.wrapping_add(C::receive(reader));
                }
            }
        }
        total
    };
    measure::<C, W>(session, readers, write, read)
}

fn stream_batches<C: Batches, const W: usize>(session: &Session, readers: usize) -> f64 {
    let batch = batch(W * 8);
    let write = |writer: &mut C::Writer<W>, records: u64| {
        for first in (0..records).step_by(batch) {
            C::send_batch(writer, first, batch);
        }
    };
    let read = |readers: &mut [C::Reader<W>], records: u64| {
        let mut total = 0u64;
        let mut left = [records; 2];
        while left[..readers.len()].iter().any(|&left| left > 0) {
            for (reader, left) in readers.iter_mut().zip(&mut left).filter(|(_, left)| **left > 0) {
                let (count, sum) = C::receive_batch(reader, batch);
                *left = left.checked_sub(count as u64).expect("no more records than were sent");
                total = total.wrapping_add(sum);
            }
        }
        total
    };
    measure::<C, W>(session, readers, write, read)
}

/// Sets up a channel, warms it, and takes the time of `write` and `read`.
#[inline(always)]
fn measure<C: Carrier, const W: usize>(
    session: &Session,
    readers: usize,
    write: impl Fn(&mut C::Writer<W>, u64),
    read: impl Fn(&mut [C::Reader<W>], u64) -> u64,
) -> f64 {
    let (warm, records) = (session.warm_up(W * 8), session.records(W * 8));
    let lines = &session.shared.lines;
    session.shared.taken().store(0, Ordering::Release);
    match session.role {
        Role::First => {
            let mut writer = C::writer::<W>(session, "stream", readers);
            session.meet();
            session.meet();
            C::joined(&mut writer, readers);
            write(&mut writer, warm);
            session.meet();
            let start = Instant::now();
            write(&mut writer, records);
            let total = lines.wait_for_result();
            let took = start.elapsed();
            // The readers leave before the writer.
            session.meet();
            let expected = expected_sum(W, warm).wrapping_add(expected_sum(W, records));
            assert_eq!(
                total,
                expected.wrapping_mul(readers as u64),
                "checksum of {records} records of {} bytes",
                W * 8
            );
            each(took, records)
        }
        Role::Second => {
            session.meet();
            let mut ends = Vec::new();
            for _ in 0..readers {
                ends.push(C::reader::<W>(session, "stream", &ends));
            }
            session.meet();
            let before = read(&mut ends, warm);
            session.meet();
            let total = read(&mut ends, records);
            lines.give_result(total.wrapping_add(before));
            drop(ends);
            session.meet();
            0.0
        }
    }
}

fn exchange<C: Singles, const W: usize>(session: &Session) -> f64 {
    let (warm, trips) = (session.warm_up(W * 8), session.trips(W * 8));
    let (mine, other) = if session.role == Role::First { ("ping", "pong") } else { ("pong", "ping") };
    let mut writer = C::writer::<W>(session, mine, 1);
    session.meet();
    let mut reader = C::reader::<W>(session, other, &[]);
    session.meet();
    C::joined(&mut writer, 1);
    let run = |writer: &mut C::Writer<W>, reader: &mut C::Reader<W>, trips| {
        let mut total = 0u64;
        for trip in 0..trips {
            if session.role == Role::First {
                C::send(writer, trip);
            }
            total = total.wrapping_add(C::receive(reader));
            if session.role == Role::Second {
                C::send(writer, trip);
            }
        }
        total
    };
    let before = run(&mut writer, &mut reader, warm);
    session.meet();
    let start = Instant::now();
    let total = run(&mut writer, &mut reader, trips);
    let took = start.elapsed();
    let expected = expected_sum(W, warm).wrapping_add(expected_sum(W, trips));
    assert_eq!(before.wrapping_add(total), expected, "checksum of {trips} round trips of {} bytes", W * 8);
    drop(reader);
    session.meet();
    drop(writer);
    session.meet();
    each(took, trips)
}

/// The floors. Times of round trips are of one.
pub(crate) fn one_line(session: &Session, _size: usize, _readers: usize) -> f64 {
    ping_pong(session, Lines::one_line)
}

/// Each side writes a line of its own.
pub(crate) fn two_lines(session: &Session, _size: usize, _readers: usize) -> f64 {
    ping_pong(session, Lines::two_lines)
}

fn ping_pong(session: &Session, floor: impl Fn(&Lines, u64, u64)) -> f64 {
    session.meet();
    let trips = TRIPS / session.hurry;
    let start = Instant::now();
    floor(&session.shared.lines, trips, if session.role == Role::First { 0 } else { 1 });
    let took = start.elapsed();
    session.meet();
    each(took, trips)
}

/// A payload there and one back, through one mailbox each way.
pub(crate) fn mailbox(session: &Session, size: usize, _readers: usize) -> f64 {
    if size == LARGE { mailboxes::<LARGE_WORDS>(session) } else { by_size!(size, mailboxes(session)) }
}

fn mailboxes<const W: usize>(session: &Session) -> f64 {
    let trips = session.trips(W * 8);
    // The flags count on from session to session: both sides know how far they are by the serial number.
    let (boxes, done) = (&session.shared.mailboxes, session.serial << 32);
    let side = if session.role == Role::First { 0 } else { 1 };
    let warm = 64;
    let before = boxes.exchange::<W>(side, done, warm, fill, sum);
    session.meet();
    let start = Instant::now();
    let total = boxes.exchange::<W>(side, done + warm, trips, fill, sum);
    let took = start.elapsed();
    session.meet();
    let expected = expected_sum(W, warm).wrapping_add(expected_sum(W, trips));
    assert_eq!(before.wrapping_add(total), expected, "checksum of the mailboxes");
    each(took, trips)
}

/// A bare hand-off of as many records.
pub(crate) fn hand_off(session: &Session, size: usize, _readers: usize) -> f64 {
    if size == LARGE { hand_offs::<LARGE_WORDS>(session) } else { by_stream_size!(size, hand_offs(session)) }
}

fn hand_offs<const W: usize>(session: &Session) -> f64 {
    let (warm, records) = (session.warm_up(W * 8), session.records(W * 8));
    let (lines, bytes) = (&session.shared.lines, ring_bytes(W * 8));
    match session.role {
        Role::First => {
            lines.hand_off_write::<W>(bytes, warm, fill);
            session.meet();
            let start = Instant::now();
            lines.hand_off_write::<W>(bytes, records, fill);
            let total = lines.wait_for_result();
            let took = start.elapsed();
            assert_eq!(total, expected_sum(W, records), "checksum of the hand-off");
            each(took, records)
        }
        Role::Second => {
            lines.hand_off_read::<W>(bytes, warm, sum);
            session.meet();
            lines.give_result(lines.hand_off_read::<W>(bytes, records, sum));
            0.0
        }
    }
}
