//! A writer, its successors and its readers, whose registry changes between any two of their accesses.

use std::time::Duration;

use shmcast::memory::ReadPayload;
use shmcast::ring::{JoinError, Reader, Refused, Start, Stop, Writer};

use super::script::{Deed, Registry};
use super::{Bench, MOST_CALLS, MOST_STROKES, strike};
use crate::memory::Guarded;
use crate::pattern;

const MOST_READERS: usize = 5;

struct Attached {
    reader: Reader<Guarded>,
    next: u64,
}

struct Writing<'a> {
    bench: &'a Bench,
    writer: Writer<Guarded>,
    lens: Vec<usize>,
    heeds: bool,
    closed: bool,
    limit: u64,
    /// The first one has no registry, and so is out of reach.
    readers: Vec<Attached>,
}

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Registry) {
    let bench = Bench::new(&script.shape);
    let writer = bench.writer();
    let (ring, _) = bench.views();
    let follower = Reader::join_lossy(ring, None, Start::Oldest, false, 1).expect("a boundary");
    let strokes = script.strokes.iter().take(MOST_STROKES).map(|stroke| strike(stroke, writer.position()));
    bench.registry.set_strikes(strokes.collect());
    let readers = vec![Attached { next: follower.sequence(), reader: follower }];
    let limit = writer.position();
    let mut writing = Writing { bench: &bench, writer, lens: Vec::new(), heeds: false, closed: false, limit, readers };
    for deed in script.calls.iter().take(MOST_CALLS) {
        writing.deed(deed);
        writing.check_limits();
    }
    writing.goes_on();
    for index in 0..writing.readers.len() {
        writing.drain(index);
    }
}

impl Writing<'_> {
    /// A call, with the peer at work.
    fn under_fire<T>(&mut self, call: impl FnOnce(&mut Writer<Guarded>) -> T) -> T {
        self.bench.allow();
        self.bench.registry.arm(true);
        let answer = call(&mut self.writer);
        self.bench.registry.arm(false);
        answer
    }

    /// `limit` and what is announced only grow, and never run away from the writer.
    fn check_limits(&mut self) {
        let peek = |word: shmcast::memory::Word| self.bench.ring.peek(word.0).expect("within");
        let (limit, announced) = (peek(self.bench.layouts.0.limit()), peek(self.bench.layouts.0.announced()));
        let most = self.writer.position() + self.bench.geometry().capacity;
        assert!((self.limit..=most).contains(&limit) && (limit..=most).contains(&announced), "{limit} {announced}");
        self.limit = limit;
    }

    fn answered(&mut self, len: usize, answer: Result<u64, Refused>) -> bool {
        let most = self.bench.geometry().max_payload() as usize;
        match answer {
            Ok(sequence) => {
                assert!(!self.closed && len <= most && sequence == self.lens.len() as u64);
                self.lens.push(len);
            }
            Err(Refused::Full) => assert!(self.writer.blocker().is_some() && !self.closed, "held by nobody"),
            Err(Refused::TooLarge) => assert!(len > most && !self.closed),
            Err(Refused::Closed) => assert!(self.closed),
            Err(Refused::RollCall) => {
                assert!(self.heeds && !self.closed);
                let _ = self.under_fire(|writer| (writer.take_leaves(), writer.reader_count()));
                self.writer.roll_called();
            }
            Err(refused @ (Refused::Fenced | Refused::Corrupt | Refused::Exhausted)) => panic!("{refused:?}"),
        }
        answer.is_ok()
    }

    fn publish(&mut self, len: usize) -> bool {
        let payload = pattern::payload(self.writer.sequence(), len);
        let answer = self.under_fire(|writer| writer.try_publish(&payload));
        self.answered(len, answer)
    }

    /// Whoever can write the registry can hold the writer up only until it has passed over each slot once.
    fn goes_on(&mut self) {
        if self.closed {
            return;
        }
        let slots = self.bench.geometry().reader_slots;
        let (mut evicted, mut called) = (0, 0);
        loop {
            self.bench.allow();
            let sequence = self.writer.sequence();
            match self.writer.try_publish(&pattern::payload(sequence, 0)) {
                Ok(_) => {
                    self.lens.push(0);
                    break;
                }
                Err(Refused::Full) => {
                    evicted += 1;
                    assert!(evicted <= slots, "held for ever");
                    let blocker = self.writer.blocker().expect("somebody holds it");
                    self.writer.pass_over(blocker);
                }
                // Here, and behind a pad.
                Err(Refused::RollCall) => {
                    called += 1;
                    assert!(called <= 2, "called for ever");
                    self.writer.roll_called();
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }

    fn reader(&self, choice: u8) -> usize {
        usize::from(choice) % self.readers.len()
    }

    /// One receive: the ring is honest, so what it answers is right.
    fn read(&mut self, index: usize) -> bool {
        let at = &mut self.readers[index];
        let lossless = at.reader.is_lossless();
        self.bench.allow();
        self.bench.registry.arm(true);
        let answer = at.reader.read(|payload| {
            let mut bytes = vec![0; payload.len()];
            payload.copy_out(&mut bytes);
            bytes
        });
        match answer {
            Ok(read) => {
                assert_eq!(read.sequence, at.next, "a gap, or a repetition");
                let expected = pattern::payload(at.next, self.lens[at.next as usize]);
                assert!(read.value == expected, "record {} is torn", at.next);
                at.reader.release(read.next());
                at.next += 1;
            }
            Err(Stop::Lagged(lost)) => {
                assert!(!lossless && lost > 0);
                at.next += lost;
            }
            // Somebody forged its cursor, or its state; it is told exactly what that cost.
            Err(Stop::Evicted { lost }) => {
                assert!(lossless && !at.reader.is_lossless());
                at.next += lost;
            }
            Err(stop @ (Stop::Empty | Stop::Closed)) => {
                assert_eq!((at.next, stop == Stop::Closed), (self.lens.len() as u64, self.closed));
                self.bench.registry.arm(false);
                return false;
            }
            Err(stop) => panic!("{stop:?}"),
        }
        self.bench.registry.arm(false);
        assert_eq!(at.reader.sequence(), at.next);
        true
    }

    fn drain(&mut self, index: usize) {
        while self.read(index) {}
        assert_eq!(self.readers[index].next, self.lens.len() as u64);
    }

    fn deed(&mut self, deed: &Deed) {
        let most = self.bench.geometry().max_payload() as usize;
        match *deed {
            Deed::Publish { len, count } => {
                for _ in 0..=count % 32 {
                    self.publish(usize::from(len));
                }
            }
            Deed::PublishLong { less } => {
                self.publish(most.saturating_sub(usize::from(less)));
            }
            Deed::Stage { len, count } => {
                for _ in 0..count % 8 {
                    let payload = pattern::payload(self.writer.sequence(), usize::from(len));
                    let answer = self.under_fire(|writer| writer.stage(&payload));
                    self.answered(payload.len(), answer);
                }
                self.under_fire(Writer::flush);
            }
            Deed::Claim { len, shorter, commit } => {
                let (len, shorter) = (usize::from(len), usize::from(shorter));
                let payload = pattern::payload(self.writer.sequence(), len.min(shorter));
                let claimed = self.under_fire(|writer| {
                    writer.reserve(len).map(|mut reserved| {
                        writer.truncate(&mut reserved, shorter);
                        writer.fill(&reserved, &payload);
                        if commit { Some(writer.commit(reserved)) } else { None }
                    })
                });
                match claimed {
                    Ok(None) => {}
                    Ok(Some(sequence)) => {
                        self.answered(payload.len(), Ok(sequence));
                    }
                    Err(refused) => {
                        self.answered(len, Err(refused));
                    }
                }
            }
            Deed::Park { len } => {
                self.under_fire(|writer| writer.park_for_room(usize::from(len), Duration::from_millis(1)));
            }
            Deed::PassOver => {
                if let Some(blocker) = self.writer.blocker() {
                    self.writer.pass_over(blocker);
                }
            }
            Deed::Reap { slot } => {
                if let Some(slots @ 1..) = Some(self.bench.geometry().reader_slots) {
                    let _ = self.under_fire(|writer| writer.reap(u64::from(slot) % slots));
                }
            }
            Deed::ReapAll { which } => {
                self.under_fire(|writer| writer.reap_all(|slot| (which >> (slot % 8) & 1 == 1).then_some(())));
            }
            Deed::Count => {
                let count = self.under_fire(|writer| writer.reader_count());
                assert!(count <= self.bench.geometry().reader_slots);
            }
            Deed::Heed { heed } => {
                self.heeds = heed;
                self.under_fire(|writer| writer.heed_readers(heed));
            }
            Deed::TakeOver => {
                let (ring, registry) = self.bench.views();
                let (position, sequence) = (self.writer.position(), self.writer.sequence());
                let successor = self.under_fire(|_| Writer::take_over(ring, registry, true));
                self.writer = successor.expect("the ring is honest");
                assert_eq!((self.writer.position(), self.writer.sequence()), (position, sequence));
                (self.heeds, self.closed) = (false, false);
            }
            Deed::Close => {
                self.under_fire(Writer::close);
                self.closed = true;
            }
            Deed::Join { lossless, ref start } => {
                if self.readers.len() >= MOST_READERS {
                    return;
                }
                let (ring, registry) = self.bench.views();
                let start = start.start();
                let joined = self.under_fire(|_| {
                    if lossless {
                        Reader::join_lossless(ring, registry, start, true, 1)
                    } else {
                        Reader::join_lossy(ring, Some(registry), start, true, 1)
                    }
                });
                match joined {
                    Ok(reader) => self.readers.push(Attached { next: reader.sequence(), reader }),
                    Err(JoinError::Corrupt { position, header }) => panic!("{header:#x} at {position}"),
                    Err(JoinError::NoFreeSlot) => assert!(lossless),
                    Err(_) => {}
                }
            }
            Deed::Read { reader, count } => {
                let index = self.reader(reader);
                for _ in 0..=count % 16 {
                    self.read(index);
                }
            }
            Deed::Rejoin { reader } => {
                let index = self.reader(reader);
                let at = &mut self.readers[index];
                self.bench.allow();
                self.bench.registry.arm(true);
                match at.reader.rejoin() {
                    Ok(lost) => at.next += lost,
                    Err(JoinError::Corrupt { position, header }) => panic!("{header:#x} at {position}"),
                    Err(_) => assert!(!at.reader.is_lossless()),
                }
                self.bench.registry.arm(false);
                assert_eq!(at.reader.sequence(), at.next);
            }
            Deed::ParkReader { reader } => {
                let index = self.reader(reader);
                self.bench.allow();
                self.bench.registry.arm(true);
                self.readers[index].reader.park(Duration::from_millis(1));
                self.bench.registry.arm(false);
            }
            Deed::Leave { reader } => {
                let index = self.reader(reader);
                if index > 0 {
                    self.bench.allow();
                    self.bench.registry.arm(true);
                    self.readers.swap_remove(index).reader.leave();
                    self.bench.registry.arm(false);
                }
            }
            Deed::Strike { ref stroke } => self.bench.registry.strike(strike(stroke, self.writer.position()), 0),
        }
    }
}
