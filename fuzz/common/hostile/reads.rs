//! A reader whose ring changes between any two of its accesses.

use std::time::Duration;

use shmcast::layout::MAX_POSITION;
use shmcast::memory::ReadPayload;
use shmcast::ring::{JoinError, Payload, Reader, Refused, Start, Stop, Writer};

use super::script::{Call, Kind, Reads};
use super::{Bench, MOST_CALLS, MOST_STROKES, strike};
use crate::memory::Guarded;
use crate::pattern;

struct Reading<'a> {
    bench: &'a Bench,
    writer: Writer<Guarded>,
    /// Bytes of payload of each record.
    lens: Vec<usize>,
    reader: Reader<Guarded>,
    /// The number of the next record, as far as the ring is honest.
    next: u64,
    poison: Option<Stop>,
}

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Reads) {
    let bench = Bench::new(&script.shape);
    let mut writer = bench.writer();
    let mut lens = Vec::new();
    for &len in script.fill.iter().take(64) {
        publish(&mut writer, &mut lens, usize::from(len));
    }
    let start = script.start.start();
    bench.allow();
    let Some(mut reader) = join(&bench, &script.kind, start, false) else { return };
    reader.set_resume(script.resume.start());
    let strokes = script.strokes.iter().take(MOST_STROKES).map(|stroke| strike(stroke, writer.position()));
    bench.ring.set_strikes(strokes.collect());
    let next = reader.sequence();
    let mut reading = Reading { bench: &bench, writer, lens, reader, next, poison: None };
    for call in script.calls.iter().take(MOST_CALLS) {
        reading.call(call, script);
    }
    for _ in 0..3 {
        reading.read();
    }
}

fn publish(writer: &mut Writer<Guarded>, lens: &mut Vec<usize>, len: usize) {
    let len = len % (writer.geometry().max_payload() as usize + 1);
    if writer.try_publish(&pattern::payload(writer.sequence(), len)).is_ok() {
        lens.push(len);
    }
}

fn join(bench: &Bench, kind: &Kind, start: Start, damaged: bool) -> Option<Reader<Guarded>> {
    let (ring, registry) = bench.views();
    let joined = match kind {
        Kind::Lossless => Reader::join_lossless(ring, registry, start, true, 1),
        Kind::Lossy => Reader::join_lossy(ring, Some(registry), start, true, 1),
        Kind::Follower => Reader::join_lossy(ring, None, start, false, 1),
    };
    match joined {
        Ok(reader) => Some(reader),
        Err(JoinError::Busy | JoinError::Corrupt { .. }) => {
            assert!(damaged, "the ring is honest");
            None
        }
        Err(JoinError::NoFreeSlot | JoinError::SequenceGone { .. } | JoinError::SequenceNotYet { .. }) => None,
    }
}

impl Reading<'_> {
    fn honest(&self) -> bool {
        self.bench.ring.struck() == 0
    }

    /// A call of the reader's, with the peer at work.
    fn under_fire<T>(&mut self, call: impl FnOnce(&mut Reader<Guarded>) -> T) -> T {
        self.bench.allow();
        let (position, lossless) = (self.reader.position(), self.reader.is_lossless());
        self.bench.ring.arm(true);
        let answer = call(&mut self.reader);
        self.bench.ring.arm(false);
        assert!(self.reader.position() >= position, "positions only grow");
        let top = MAX_POSITION + 2 * self.bench.geometry().capacity * MOST_CALLS as u64;
        assert!(self.reader.position() <= top && self.reader.sequence() <= self.reader.position() / 8);
        assert!(lossless || !self.reader.is_lossless() || self.poison.is_none(), "the poisoned do not rejoin");
        if let Some(poison) = self.poison {
            assert_eq!((self.reader.poison(), self.reader.position()), (Some(poison), position), "final");
        }
        self.poison = self.reader.poison();
        assert!(self.poison.is_none() || !self.honest(), "an ordinary lap is no corruption");
        answer
    }

    /// What a copy finds lies within the data area, and is no longer than a record can be.
    fn copy(bench: &Bench) -> impl FnMut(Payload<'_, Guarded>) -> Vec<u8> {
        let (most, first) = (bench.geometry().max_payload() as usize, bench.layouts.0.data().word(0).0);
        let end = first + (bench.geometry().capacity / 8) as usize;
        move |payload| {
            let (at, len) = (payload.word(), payload.len());
            assert!(len <= most && at.0 > first && at.0 + len.div_ceil(8) <= end, "{len} bytes at {at:?}");
            let mut bytes = vec![0; len];
            payload.copy_out(&mut bytes);
            bytes
        }
    }

    fn read(&mut self) {
        let mut copy = Self::copy(self.bench);
        let (sequence, lossless) = (self.reader.sequence(), self.reader.is_lossless());
        let answer = self.under_fire(|reader| reader.read(&mut copy));
        let honest = self.honest();
        match answer {
            Ok(read) => {
                assert!(self.poison.is_none() && read.value.len() == read.len);
                if honest {
                    assert!(read.sequence == sequence && sequence == self.next, "a gap, or a repetition");
                    let expected = pattern::payload(sequence, self.lens[sequence as usize]);
                    assert!(read.value == expected, "record {sequence} is torn");
                }
                self.under_fire(|reader| reader.release(read.next()));
                self.next = self.reader.sequence();
            }
            Err(stop) => self.stopped(stop, lossless),
        }
    }

    fn stopped(&mut self, stop: Stop, lossless: bool) {
        let honest = self.honest();
        match stop {
            Stop::Empty | Stop::Closed => assert!(!honest || self.next == self.writer.sequence(), "{stop:?}"),
            Stop::Lagged(lost) => assert!(!honest || !lossless && self.reader.sequence() == self.next + lost),
            Stop::Evicted { lost } => {
                assert!(!self.reader.is_lossless(), "a lossy reader from now on");
                assert!(!honest || lossless && self.reader.sequence() == self.next + lost);
            }
            Stop::Corrupt { .. } => assert_eq!(self.poison, Some(stop)),
        }
        self.next = self.reader.sequence();
    }

    fn call(&mut self, call: &Call, script: &Reads) {
        match *call {
            Call::Read { count } => (0..=count % 16).for_each(|_| self.read()),
            Call::Again => {
                let mut copy = Self::copy(self.bench);
                let sequence = self.reader.sequence();
                let lossless = self.reader.is_lossless();
                // Read, and not released.
                match self.under_fire(|reader| reader.read(&mut copy).map(|read| read.len)) {
                    Ok(_) => assert_eq!(self.reader.sequence() - sequence, self.reader.sequence() - self.next),
                    Err(stop) => self.stopped(stop, lossless),
                }
            }
            Call::Into { room } => {
                let mut buffer = vec![0; usize::from(room)];
                if let Some(read) = self.under_fire(|reader| reader.look_into(&mut buffer)) {
                    assert!(self.poison.is_none() && read.len as u64 <= self.bench.geometry().max_payload());
                    self.under_fire(|reader| reader.release(read.next()));
                    self.next = self.reader.sequence();
                }
            }
            Call::Exact { len } => {
                // Also longer ones than a record can have.
                let len = usize::from(len) % (self.bench.geometry().max_payload() as usize + 64);
                let mut copy = Self::copy(self.bench);
                if !self.reader.expect(len) {
                    return;
                }
                if let Some(read) = self.under_fire(|reader| reader.look_exact(len, &mut copy)) {
                    assert!(self.poison.is_none() && read.len == len);
                    self.under_fire(|reader| reader.release(read.next()));
                    self.next = self.reader.sequence();
                }
            }
            Call::Run { len, most } => {
                // Also longer ones than a record can have.
                let len = usize::from(len) % (self.bench.geometry().max_payload() as usize + 64);
                let mut copy = Self::copy(self.bench);
                let run = self.under_fire(|reader| {
                    reader.look_run(len, usize::from(most), &mut |payload: Payload<'_, Guarded>| {
                        copy(payload);
                        true
                    })
                });
                if let Some(run) = run {
                    assert!(self.poison.is_none() && run.count <= usize::from(most));
                    self.under_fire(|reader| reader.release_run(run));
                    self.next = self.reader.sequence();
                }
            }
            Call::Poll { most } => self.under_fire(|reader| reader.poll(u32::from(most))),
            Call::Lag => {
                let lag = self.under_fire(|reader| reader.lag());
                assert!(!self.honest() || lag == self.writer.sequence() - self.reader.sequence());
            }
            Call::Park => self.under_fire(|reader| {
                let _ = reader.park(Duration::from_millis(1));
            }),
            Call::Rejoin => {
                let rejoined = self.under_fire(|reader| reader.rejoin());
                match rejoined {
                    Ok(lost) => {
                        assert!(self.reader.is_lossless() && self.reader.is_counted());
                        assert!(!self.honest() || self.reader.sequence() == self.next + lost);
                        self.next = self.reader.sequence();
                    }
                    Err(JoinError::NoFreeSlot) => assert!(!self.reader.is_counted()),
                    Err(_) => assert!(!self.honest(), "the ring is honest"),
                }
            }
            Call::Outlives => {
                let lossless = self.reader.is_lossless();
                let _ = self.under_fire(|reader| reader.outlives_writer(|| true));
                // A loss that this found is told by the next read; an eviction also before it.
                if let Some(stop) = self.reader.take_eviction() {
                    self.stopped(stop, lossless);
                }
            }
            Call::Owe { lost } => {
                if !self.honest() && self.poison.is_none() {
                    self.reader.owe(Stop::Lagged(u64::from(lost)));
                    self.read();
                }
            }
            Call::Publish { len, count } => {
                // The writer keeps its position to itself, but for its own word of honour: the epoch.
                for _ in 0..count % 32 {
                    publish(&mut self.writer, &mut self.lens, usize::from(len));
                }
            }
            Call::PassOver => {
                if let Some(blocker) = self.writer.blocker() {
                    self.writer.pass_over(blocker);
                }
                let answer = self.writer.try_publish(&[]);
                match answer {
                    Ok(_) => self.lens.push(0),
                    Err(Refused::Fenced | Refused::Corrupt) => assert!(!self.honest()),
                    Err(_) => {}
                }
            }
            Call::Close => self.writer.close(),
            Call::Join { ref start } => {
                // Another reader, whose join is under fire as a whole.
                self.bench.allow();
                self.bench.ring.arm(true);
                let joined = join(self.bench, &script.kind, start.start(), true);
                self.bench.ring.arm(false);
                if let Some(mut joined) = joined {
                    joined.leave();
                }
            }
        }
    }
}
