//! What a reader does, and its books: it joins, reads in every way there is, sleeps, stalls, leaves and joins again; what it receives
//! must be the next record, whole, and every loss exact.

use std::rc::Rc;

use shmcast::memory::ReadPayload;
use shmcast::ring::{JoinError, Payload, Reader, Start, Stop};

use super::memory::NAP_STEPS;
use super::plan::MOST_PAYLOAD;
use super::stage::Stage;
use super::{SLICE, Seam};

type Eye = Reader<Seam>;

/// How a reader joins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lossless,
    Lossy,
    Follower,
}

/// The lock of a slot, which goes with this value; but not with a party that is killed.
struct Lock(Rc<Stage>, usize);

impl Drop for Lock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.unlock(self.1);
        }
    }
}

/// What a session of reading ended with.
#[derive(PartialEq, Eq)]
enum End {
    Left,
    Over,
}

/// Joins again and again, until the ring is closed.
pub(super) fn play(stage: &Rc<Stage>, party: usize) {
    let late = stage.random(|random| random.chance(96));
    if late {
        stage.nap(party, 600);
    }
    if late && !stage.plan.newcomers_know_nothing {
        stage.state.borrow_mut().memory.catch_up(party);
    }
    let kind = stage.random(|random| random.pick(&[Kind::Lossless, Kind::Lossless, Kind::Lossy, Kind::Follower]));
    let mut sessions = stage.random(|random| 1 + random.below(3));
    loop {
        let kind = if stage.random(|random| random.chance(40)) { Kind::Lossy } else { kind };
        match join(stage, party, kind) {
            Ok((reader, lock)) => {
                sessions -= 1;
                stage.books(|books| (books.tally.joins, books.progress) = (books.tally.joins + 1, books.progress + 1));
                let end = Session::new(stage, party, reader).read(sessions > 0);
                drop(lock);
                if end == End::Over {
                    return;
                }
                stage.nap(party, 100);
            }
            Err(refused) => {
                stage.books(|books| books.tally.refused += 1);
                if let JoinError::Corrupt { position, header } = refused {
                    panic!("a joiner found {header:#x} at {position}");
                }
                if stage.books(|books| books.is_over || books.writers_left == 0) {
                    return;
                }
                stage.nap(party, NAP_STEPS);
            }
        }
    }
}

fn join(stage: &Rc<Stage>, party: usize, kind: Kind) -> Result<(Eye, Option<Lock>), JoinError> {
    let start = match stage.random(|random| random.below(8)) {
        0..3 => Start::Oldest,
        3 | 4 => Start::Newest,
        5 => Start::Middle,
        _ => {
            let published = stage.books(|books| books.published);
            Start::Sequence(stage.random(|random| random.below(published + 1)))
        }
    };
    let registered = stage.random(|random| random.chance(192));
    let (ring, registry) = stage.views(party);
    let locks = stage.plan.locks;
    let lock = |slot: u64| if !locks || stage.lock(party, slot) { Some(Lock(Rc::clone(stage), party)) } else { None };
    let joined = match kind {
        Kind::Lossless => Reader::join_lossless_owned(ring, registry, start, registered, 1, locks, lock)
            .map(|(reader, lock)| (reader, Some(lock))),
        Kind::Lossy => Reader::join_lossy_owned(ring, Some(registry), start, registered, 1, locks, lock),
        Kind::Follower => Reader::join_lossy(ring, None, start, registered, 1).map(|reader| (reader, None)),
    };
    match (start, &joined) {
        (Start::Sequence(wanted), Ok((reader, _))) => assert_eq!(reader.sequence(), wanted, "the record to begin with"),
        (Start::Sequence(wanted), Err(JoinError::SequenceGone { oldest })) => {
            assert!(*oldest > wanted, "{wanted} is not gone: {oldest} is there");
        }
        (Start::Sequence(wanted), Err(JoinError::SequenceNotYet { next })) => {
            assert!(*next <= wanted, "{wanted} is there: the next one is {next}");
        }
        (_, Err(refused @ (JoinError::SequenceGone { .. } | JoinError::SequenceNotYet { .. }))) => {
            panic!("a joiner at {start:?} was told {refused:?}");
        }
        _ => {}
    }
    joined
}

/// The books of one reader from its join on.
struct Session<'a> {
    stage: &'a Rc<Stage>,
    party: usize,
    reader: Eye,
    next: u64,
    /// Does it say what length it expects?
    expects: bool,
}

impl<'a> Session<'a> {
    fn new(stage: &'a Rc<Stage>, party: usize, reader: Eye) -> Session<'a> {
        let next = reader.sequence();
        let expects = stage.random(|random| random.chance(128));
        let session = Session { stage, party, reader, next, expects };
        session.stands();
        session
    }

    /// Position and sequence number belong together.
    fn stands(&self) {
        assert_eq!(self.reader.sequence(), self.next, "sequence number");
        let position = self.reader.position();
        let capacity = self.stage.plan.ring.geometry.capacity;
        let stands = self.stage.books(|books| books.positions.get(self.next as usize).copied());
        // Before a pad, or behind it.
        let (before, behind) = match stands {
            None => return,
            Some(at) => (at, at.next_multiple_of(capacity)),
        };
        let last = self
            .next
            .checked_sub(1)
            .and_then(|last| self.stage.books(|books| books.positions.get(last as usize).copied()));
        // Behind the record before, there may be the pad of a claim that was dropped.
        let ends = last.map_or(self.stage.plan.ring.geometry.start, |last| {
            let size = self.stage.plan.size(self.next - 1);
            let room = capacity - last % capacity;
            last + if size > room { room } else { 0 } + size
        });
        assert!(
            [before, behind, ends].contains(&position),
            "record {} stands at {before} or {behind}, not at {position}",
            self.next
        );
    }

    fn read(mut self, may_leave: bool) -> End {
        let (stage, party) = (self.stage, self.party);
        let (mut caught_up, mut told_closed) = (false, None);
        loop {
            match stage.random(|random| random.below(64)) {
                0 if may_leave => {
                    self.reader.leave();
                    stage.books(|books| {
                        (books.tally.leaves, books.progress) = (books.tally.leaves + 1, books.progress + 1)
                    });
                    return End::Left;
                }
                1 | 2 => stage.nap(party, 400),
                3 => drop(self.reader.lag()),
                4 if self.reader.is_counted() && !self.reader.is_lossless() => self.rejoin(),
                5 => self
                    .reader
                    .set_resume(stage.random(|random| random.pick(&[Start::Oldest, Start::Middle, Start::Newest]))),
                6..12 => self.run(),
                12..18 if self.expects => self.exact(),
                _ => {}
            }
            // How often it was closed before, if it is open now.
            let open = || stage.books(|books| books.is_open.then_some(books.closes));
            let opened = open();
            match self.step() {
                Ok(()) => {}
                Err(Stop::Empty) => {
                    if self.is_orphan() {
                        return End::Over;
                    }
                    stage.state.borrow_mut().parties[party].next = self.next;
                    self.reader.park(SLICE);
                }
                Err(Stop::Closed) => {
                    let (over, orphaned) = stage.books(|books| (books.is_over, books.writers_left == 0));
                    let (closes, published) = stage.books(|books| (books.closes, books.published));
                    if (orphaned || over && self.next != published) && closes > u64::from(over) && !caught_up {
                        // That may have been an earlier close, which this reader sees only now.
                        caught_up = true;
                        stage.state.borrow_mut().memory.catch_up(party);
                        continue;
                    }
                    if over {
                        assert_eq!(self.next, published, "received + lost = published");
                        self.reader.leave();
                        return End::Over;
                    }
                    if orphaned {
                        // It was killed in the middle of its close.
                        self.ends_with_all_orphans();
                        return End::Over;
                    }
                    if opened.is_some() && opened == open() {
                        // It may not have seen yet that a successor has opened the ring again; now it has.
                        assert_ne!(told_closed, opened, "an open ring is said to be closed");
                        told_closed = opened;
                        stage.state.borrow_mut().memory.catch_up(party);
                        continue;
                    }
                    stage.nap(party, NAP_STEPS);
                }
                Err(Stop::Lagged(lost)) => {
                    assert!(lost > 0 && !self.reader.is_lossless(), "a loss that may not be");
                    self.lose(lost);
                }
                Err(Stop::Evicted { lost }) => {
                    assert!(stage.plan.ring.geometry.may_evict, "an eviction that may not be");
                    stage.books(|books| books.tally.evictions += 1);
                    self.lose(lost);
                }
                Err(stop @ Stop::Corrupt { .. }) => panic!("{stop:?} at record {}", self.next),
            }
        }
    }

    /// Has the last writer died, and is everything read? Then all readers end behind the same record.
    fn is_orphan(&mut self) -> bool {
        let (stage, party) = (self.stage, self.party);
        if stage.books(|books| books.writers_left > 0 || books.is_over) {
            return false;
        }
        let lock = || {
            let mut state = stage.state.borrow_mut();
            if let Some(last) = state.books.last_writer {
                state.memory.hand_over(last, party);
            }
            true
        };
        let dry = self.reader.outlives_writer(lock);
        if dry {
            self.ends_with_all_orphans();
        }
        dry
    }

    fn ends_with_all_orphans(&self) {
        self.stage.books(|books| {
            let end = *books.orphans.get_or_insert(self.next);
            assert_eq!(self.next, end, "where the readers of a dead writer end");
            assert!((books.published.max(books.seen)..=books.attempted).contains(&end), "what it had published");
        });
    }

    fn lose(&mut self, lost: u64) {
        self.next += lost;
        self.stage.books(|books| {
            assert!(self.next <= books.attempted, "{lost} records lost, of {} at all", books.attempted);
            books.progress += 1;
            books.tally.lost += lost;
        });
        self.stands();
    }

    fn rejoin(&mut self) {
        match self.reader.rejoin() {
            Ok(lost) => {
                self.stage.books(|books| books.tally.rejoins += 1);
                self.lose(lost);
                assert!(self.reader.is_lossless());
            }
            Err(JoinError::Busy) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Is it the next record, whole?
    fn receive(&mut self, payload: &[u8]) {
        let mut buffer = [0; MOST_PAYLOAD];
        self.stage.books(|books| books.receive(self.next));
        let expected = self.stage.plan.payload(self.next, &mut buffer);
        assert!(payload == expected, "record {} is torn: {payload:x?}, not {expected:x?}", self.next);
        self.next += 1;
    }

    /// Receives once, or learns why not.
    fn step(&mut self) -> Result<(), Stop> {
        let (mut copies, mut bytes) = (0, [0; MOST_PAYLOAD]);
        let result = self.reader.read(|payload| {
            copies += 1;
            payload.copy_out(&mut bytes[..payload.len()]);
        });
        self.stage.books(|books| books.tally.void += copies - u64::from(result.is_ok()));
        let read = result?;
        assert_eq!(read.sequence, self.next, "the record that was received");
        self.receive(&bytes[..read.len]);
        self.reader.release(read.next());
        self.stands();
        Ok(())
    }

    /// Some records of one length.
    fn run(&mut self) {
        let len = self.stage.plan.len(self.next);
        let (mut count, mut bytes) = (0, [[0; MOST_PAYLOAD]; 4]);
        let run = self.reader.look_run(len, 4, &mut |payload: Payload<'_, Seam>| {
            payload.copy_out(&mut bytes[count][..len]);
            count += 1;
            true
        });
        let Some(run) = run else {
            return self.stage.books(|books| books.tally.void += count as u64);
        };
        assert_eq!(run.count, count);
        for bytes in &bytes[..count] {
            self.receive(&bytes[..len]);
        }
        self.reader.release_run(run);
        self.stands();
    }

    /// A record of a length that is known beforehand, after some polls.
    fn exact(&mut self) {
        let (len, mut bytes) = (self.stage.plan.len(self.next), [0; MOST_PAYLOAD]);
        self.reader.poll(2);
        let copy = &mut |payload: Payload<'_, Seam>| payload.copy_out(&mut bytes[..len]);
        assert!(self.reader.expect(len));
        let Some(read) = self.reader.look_exact(len, copy) else { return };
        assert_eq!(read.sequence, self.next, "the record that was received");
        self.receive(&bytes[..len]);
        self.reader.release(read.next());
        self.stands();
    }
}
