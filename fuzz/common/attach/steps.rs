//! Calls of the ring's readers and of its writer, and what they may answer.

use std::time::Duration;

use shmcast::layout::{Geometry, MAX_POSITION, RegistryLayout, RingLayout};
use shmcast::memory::ReadPayload;
use shmcast::ring::{JoinError, Reader, Refused, Registry, Ring, Start, Stop};

use super::script::{Script, Step};
use super::{Attached, Bench, MOST_STEPS, header};
use crate::pattern;

const MOST_READERS: usize = 6;

impl Bench {
    pub(super) fn steps(&mut self, script: &Script) {
        let ring = RingLayout::parse(&header(&self.ring), self.ring.len() as u64 * 8);
        let registry = ring
            .as_ref()
            .ok()
            .and_then(|ring| RegistryLayout::parse(&header(&self.registry), self.registry.len() as u64 * 8, ring).ok());
        // An opener that refuses the registry is no reader; but who attached before goes on.
        self.opened = ring.ok().zip(registry);
        if self.damage {
            self.ring.set_lies(self.lies(&script.ring_lies));
        }
        self.registry.set_lies(self.lies(&script.registry_lies));
        for step in script.steps.iter().take(MOST_STEPS) {
            self.step(step);
        }
        for index in 0..self.readers.len() {
            self.read(index, true);
            self.read(index, true);
        }
    }

    /// What one call may cost: the bounded loops of the protocol, with the bounds of this ring. A step is a load or a store.
    fn allow(&self, calls: u64) {
        let Geometry { capacity, alignment, blocks, .. } = self.made.0.geometry;
        let look = 3 * blocks + 16;
        // Who looks for a boundary does so at most 64 times, and a joiner walks over at most a lap of records. A read has 8 turns, and
        // may look in each; a joiner looks once, 8 times for the newest record, and is outrun 8 times.
        let budget = (64 * look + capacity / alignment * 16 + 64 * 64) * 18 * calls;
        self.ring.set_budget(budget);
        self.registry.set_budget(budget);
    }

    fn reader(&self, choice: u8) -> Option<usize> {
        usize::from(choice).checked_rem(self.readers.len())
    }

    fn step(&mut self, step: &Step) {
        self.allow(1);
        match *step {
            Step::Join { lossless, blind, ref start, ref resume } => {
                self.join(lossless, blind, start.start(), resume.start());
            }
            Step::Read { reader, count } => {
                for _ in 0..=count % 32 {
                    if let Some(index) = self.reader(reader) {
                        self.allow(1);
                        self.read(index, true);
                    }
                }
            }
            Step::ReadOnly { reader } => {
                if let Some(index) = self.reader(reader) {
                    self.read(index, false);
                }
            }
            Step::Release { reader } => {
                if let Some(index) = self.reader(reader) {
                    let at = &mut self.readers[index];
                    // Only after a read, but whatever the ring has become since.
                    if let Some(next) = at.held.take() {
                        at.reader.release(next);
                        at.next = at.reader.sequence();
                    }
                }
            }
            Step::Poll { reader, most } => {
                // Between two receives, never over a record that is lent.
                if let Some(index) = self.reader(reader).filter(|&index| self.readers[index].held.is_none()) {
                    self.readers[index].reader.poll(u32::from(most));
                }
            }
            Step::Owe { reader, lost } => {
                // As a batch does: a loss that was told, told again.
                if let Some(index) = self.reader(reader).filter(|_| self.damage) {
                    self.readers[index].reader.owe(Stop::Lagged(u64::from(lost)));
                    self.read(index, true);
                }
            }
            Step::Lag { reader } => {
                if let Some(index) = self.reader(reader) {
                    let at = &self.readers[index];
                    let lag = at.reader.lag();
                    assert!(self.damage || lag == self.writer.sequence() - at.reader.sequence());
                }
            }
            Step::Park { reader } => {
                if let Some(index) = self.reader(reader) {
                    self.readers[index].reader.park(Duration::from_millis(1));
                }
            }
            Step::Leave { reader } => {
                if let Some(index) = self.reader(reader) {
                    let mut gone = self.readers.swap_remove(index);
                    gone.reader.leave();
                    assert!(!gone.reader.is_counted());
                    let stop = gone.reader.read(|_| ()).err();
                    assert!(stop.is_some_and(|stop| stop == gone.end.unwrap_or(Stop::Closed)), "{stop:?}");
                }
            }
            Step::Change { ref edit } => self.change(edit),
            Step::Publish { len } => self.publish(usize::from(len)),
            Step::PublishLong { less } => {
                let most = self.made.0.geometry.max_payload() as usize;
                self.publish(most.saturating_sub(usize::from(less)));
            }
            Step::Stage { len, count } => {
                for _ in 0..count % 8 {
                    let payload = pattern::payload(self.writer.sequence(), usize::from(len));
                    self.allow(1);
                    let answer = self.writer.stage(&payload);
                    self.published(payload.len(), answer);
                }
                self.writer.flush();
            }
            Step::ParkForRoom { len } => self.writer.park_for_room(usize::from(len), Duration::from_millis(1)),
            Step::Count => assert!(self.writer.reader_count() <= self.made.0.geometry.reader_slots),
            Step::Close => self.close(),
        }
    }

    pub(super) fn publish(&mut self, len: usize) {
        self.allow(1);
        let answer = self.writer.try_publish(&pattern::payload(self.writer.sequence(), len));
        self.published(len, answer);
    }

    fn published(&mut self, len: usize, answer: Result<u64, Refused>) {
        let most = self.made.0.geometry.max_payload() as usize;
        let cut_off = matches!(answer, Err(Refused::Fenced | Refused::Corrupt));
        assert_eq!(len > most && !self.closed && !cut_off, answer == Err(Refused::TooLarge));
        assert_eq!(self.closed && !cut_off, answer == Err(Refused::Closed));
        match answer {
            Ok(sequence) => {
                assert_eq!(sequence, self.lens.len() as u64);
                self.lens.push(len);
            }
            Err(Refused::Exhausted) => assert!(self.writer.position() > MAX_POSITION),
            Err(Refused::Full | Refused::TooLarge) => {}
            Err(Refused::Fenced | Refused::Corrupt) => assert!(self.damage, "there is one writer"),
            Err(Refused::RollCall) => panic!("nobody asked for it"),
            Err(Refused::Closed) => assert!(self.closed),
        }
    }

    pub(super) fn close(&mut self) {
        self.writer.close();
        self.closed = true;
    }

    fn join(&mut self, lossless: bool, blind: bool, start: Start, resume: Start) {
        let Some((ring, registry)) = self.opened.clone() else { return };
        if self.readers.len() >= MOST_READERS {
            return;
        }
        let ring = Ring::new(self.ring.clone(), ring);
        let registry = Registry::new(self.registry.clone(), registry);
        let joined = if lossless {
            Reader::join_lossless(ring, registry, start, true, 1)
        } else {
            Reader::join_lossy(ring, Some(registry).filter(|_| !blind), start, false, 1)
        };
        match joined {
            Ok(mut reader) => {
                reader.set_resume(resume);
                let next = reader.sequence();
                assert!(reader.is_lossless() == lossless && (!lossless || reader.is_counted()));
                assert!(self.damage || next <= self.writer.sequence());
                assert!(self.damage || start != Start::Newest || next == self.writer.sequence());
                self.readers.push(Attached { reader, next, held: None, end: None });
            }
            Err(JoinError::NoFreeSlot) => assert!(lossless),
            Err(JoinError::SequenceGone { oldest }) => {
                assert!(matches!(start, Start::Sequence(wanted) if wanted < oldest || self.damage));
            }
            Err(JoinError::SequenceNotYet { next }) => {
                assert!(matches!(start, Start::Sequence(wanted) if wanted > next));
                assert!(self.damage || next == self.writer.sequence());
            }
            Err(JoinError::Busy | JoinError::Corrupt { .. }) => assert!(self.damage, "the ring is honest"),
        }
    }

    fn read(&mut self, index: usize, release: bool) {
        let at = &mut self.readers[index];
        let geometry = *at.reader.geometry();
        let (position, sequence, lossless) = (at.reader.position(), at.reader.sequence(), at.reader.is_lossless());
        let words = at.reader.memory().len();
        let data = words - (geometry.capacity / 8) as usize;
        if !release {
            // The fast path, into a buffer of any length; what it finds stays, and is read below.
            let mut buffer = vec![0; (position / 8 % 40) as usize];
            if let Some(read) = at.reader.look_into(&mut buffer) {
                assert!(at.end.is_none(), "a record after the end");
                assert!(read.len as u64 <= geometry.max_payload() && read.sequence == sequence);
                assert_eq!(read.value, read.len <= buffer.len(), "it fits, or not");
                if !self.damage {
                    let expected = pattern::payload(sequence, self.lens[sequence as usize]);
                    let copied = !read.value || buffer[..read.len] == expected[..];
                    assert!(read.len == expected.len() && copied, "record {sequence} is torn");
                }
            }
            assert!(at.reader.position() == position, "a look moves nothing");
        }
        let answer = at.reader.read(|payload| {
            let (word, len) = (payload.word(), payload.len());
            assert!(len as u64 <= geometry.max_payload(), "a record of {len} bytes");
            assert!(word.0 > 0 && len.div_ceil(8) <= words - word.0, "at {payload:?}");
            // The data area is the last region of this version.
            assert!(len == 0 || word.0 > data, "at {payload:?}, before the data area");
            let mut bytes = vec![0; len];
            payload.copy_out(&mut bytes);
            bytes
        });
        assert!(at.reader.position() >= position || self.damage, "positions only grow");
        let honest = !self.damage;
        match answer {
            Ok(read) => {
                assert!(at.end.is_none(), "a record after the end");
                assert!(read.len == read.value.len() && read.sequence == at.reader.sequence());
                if honest {
                    assert!(read.sequence == sequence && sequence == at.next, "a gap, or a repetition");
                    let expected = pattern::payload(sequence, self.lens[sequence as usize]);
                    assert!(read.value == expected, "record {sequence} is torn");
                }
                at.held = Some(read.next());
                if release {
                    at.held = None;
                    at.reader.release(read.next());
                    at.next = at.reader.sequence();
                }
            }
            Err(stop) => {
                if let Some(end) = at.end {
                    assert_eq!(stop, end, "an end is final");
                }
                match stop {
                    Stop::Empty | Stop::Closed => {
                        assert!(!honest || at.next == self.writer.sequence(), "{stop:?}");
                        assert!(!honest || (stop == Stop::Closed) == self.closed);
                    }
                    Stop::Lagged(lost) => {
                        assert!((lost > 0 && !at.reader.is_lossless()) || !honest);
                        assert!(!honest || at.reader.sequence() == at.next + lost);
                        assert!(!honest || at.reader.sequence() <= self.writer.sequence());
                    }
                    Stop::Evicted { lost } => {
                        assert!(lossless && !at.reader.is_lossless(), "told once");
                        assert!(!honest || at.reader.sequence() == at.next + lost);
                    }
                    Stop::Corrupt { .. } => {
                        assert!(!honest, "{stop:?}");
                        at.end = Some(stop);
                    }
                }
                at.next = at.reader.sequence();
                at.held = None;
            }
        }
    }
}
