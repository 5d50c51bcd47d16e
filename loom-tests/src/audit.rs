//! What a reader may receive: the plan of all records, and the audit of one reader against it (invariants I1 to I3).
//!
//! Payload words look like headers of records, on purpose: a reader that follows a wrong chain finds something there.

use shmcast::layout::Geometry;
use shmcast::memory::{Memory, ReadPayload};
use shmcast::ring::{Payload, Reader, Stop};

/// The records that a model publishes: how many payload words record `n` has.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ring's sizes.
    pub geometry: Geometry,
    /// Payload words of each record.
    pub words: &'static [usize],
}

impl Plan {
    /// A payload word: never 0, of another value in each record and place, and a header for whoever takes it for one.
    #[must_use]
    pub fn word(sequence: u64, place: usize) -> u64 {
        1 + sequence + 8 * place as u64
    }

    /// The payload of a record.
    ///
    /// # Panics
    /// If there is no such record: a reader received more than was published.
    #[must_use]
    pub fn payload(&self, sequence: u64) -> Vec<u8> {
        let words = self.words.get(sequence as usize);
        let words = *words.unwrap_or_else(|| panic!("record {sequence} was never published"));
        (0..words).flat_map(|place| Plan::word(sequence, place).to_ne_bytes()).collect()
    }

    /// The two positions at which a reader may stand that receives record `sequence` next: before and behind the pad.
    fn boundary(&self, sequence: u64) -> (u64, u64) {
        let mut position = self.geometry.start;
        let mut before = position;
        for (record, &words) in self.words.iter().enumerate() {
            before = position;
            // Computed anew, not by the source under test.
            let size = (8 + words as u64 * 8).next_multiple_of(self.geometry.alignment);
            let room = self.geometry.capacity - position % self.geometry.capacity;
            position += if size > room { room } else { 0 };
            if record as u64 == sequence {
                return (before, position);
            }
            before = position + size;
            position = before;
        }
        (before, position)
    }
}

/// The books of one reader.
#[derive(Clone, Debug)]
pub struct Audit {
    plan: Plan,
    /// The record that comes next.
    next: u64,
    first: u64,
    /// Records received.
    pub received: u64,
    /// Records that the reader was told it lost.
    pub lagged: u64,
    /// Copies that were thrown away, because the record was overwritten meanwhile.
    pub void: u64,
    /// Evicted? Only where [`may_be_evicted`](Self::may_be_evicted).
    pub evicted: bool,
    /// May the writer go on without this reader?
    pub may_be_evicted: bool,
    /// Aborted claims leave pads that the plan does not know: then positions are not compared.
    pub positions: bool,
}

impl Audit {
    /// Opens the books of a reader where it stands.
    #[must_use]
    pub fn of<M: Memory>(reader: &Reader<M>, plan: &Plan) -> Audit {
        let next = reader.sequence();
        let (received, lagged, void, evicted, may_be_evicted) = (0, 0, 0, false, false);
        let plan = plan.clone();
        let audit = Audit { plan, next, first: next, received, lagged, void, evicted, may_be_evicted, positions: true };
        audit.stands(reader);
        audit
    }

    /// Position and sequence number belong together.
    fn stands<M: Memory>(&self, reader: &Reader<M>) {
        assert_eq!(reader.sequence(), self.next, "sequence number");
        if self.positions {
            let (before, behind) = self.plan.boundary(self.next);
            let position = reader.position();
            assert!(position == before || position == behind, "record {} is not at {position}", self.next);
        }
    }

    /// Receives once, or learns why not.
    ///
    /// # Panics
    /// If what was received is not the next record, whole.
    pub fn step<M: Memory>(&mut self, reader: &mut Reader<M>) -> Result<(), Stop> {
        let mut copies = 0;
        let result = reader.read(|payload| {
            copies += 1;
            let mut bytes = vec![0; payload.len()];
            payload.copy_out(&mut bytes);
            bytes
        });
        match result {
            Ok(read) => {
                self.void += copies - 1;
                assert_eq!(read.sequence, self.next, "the record that was received");
                assert_eq!(read.value, self.plan.payload(self.next), "payload of record {}", self.next);
                reader.release(read.next());
                self.received += 1;
                self.next += 1;
                self.stands(reader);
                Ok(())
            }
            Err(stop) => {
                self.void += copies;
                match stop {
                    Stop::Lagged(lost) => {
                        assert!(lost > 0, "a lag of nothing");
                        self.lagged += lost;
                        self.next += lost;
                        self.stands(reader);
                    }
                    Stop::Evicted { lost } if self.may_be_evicted && !self.evicted => {
                        self.evicted = true;
                        self.lagged += lost;
                        self.next += lost;
                        self.stands(reader);
                    }
                    Stop::Empty | Stop::Closed => self.stands(reader),
                    Stop::Evicted { .. } | Stop::Corrupt { .. } => panic!("{stop:?} at record {}", self.next),
                }
                Err(stop)
            }
        }
    }

    /// Receives a run of up to `most` records that are as long as the next one; answers how many.
    ///
    /// # Panics
    /// If what was received are not the next records, whole.
    pub fn run<M: Memory>(&mut self, reader: &mut Reader<M>, most: usize) -> usize {
        let (len, mut run) = (self.plan.payload(self.next).len(), Vec::new());
        let found = reader.look_run(len, most, &mut |payload: Payload<'_, M>| {
            let mut bytes = vec![0; len];
            payload.copy_out(&mut bytes);
            run.push(bytes);
            true
        });
        let Some(found) = found else {
            self.void += run.len() as u64;
            return 0;
        };
        assert_eq!(found.count, run.len());
        for payload in run {
            assert_eq!(payload, self.plan.payload(self.next), "payload of record {}", self.next);
            self.received += 1;
            self.next += 1;
        }
        reader.release_run(found);
        self.stands(reader);
        found.count
    }

    /// Receives up to `attempts` times.
    pub fn attempts<M: Memory>(&mut self, reader: &mut Reader<M>, attempts: usize) {
        for _ in 0..attempts {
            let _ = self.step(reader);
        }
    }

    /// Receives what is there, when nobody writes any more, and closes the books: received + lagged = published.
    pub fn close<M: Memory>(&mut self, reader: &mut Reader<M>, published: u64) {
        while let Ok(()) | Err(Stop::Lagged(_) | Stop::Evicted { .. }) = self.step(reader) {}
        assert_eq!(self.first + self.received + self.lagged, published, "received + lagged = published");
    }
}
