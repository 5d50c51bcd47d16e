//! A writer dies after each of its stores; a successor takes over, and dies after each of its own; another takes over (I5).
//! On the words of one thread: every point is visited, and the same ones each time.

use loom_tests::memory::Plain;
use loom_tests::model::tell;
use loom_tests::mortal::{Life, Mortal};
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::memory::{Memory, ReadPayload};
use shmcast::ring::{Reader, Refused, Registry, Ring, Start, Stop, TakeOverError, Writer};

type Dying = Writer<Mortal<Plain>>;

/// One ring on plain words.
struct World {
    ring: Plain,
    registry: Plain,
    layouts: (RingLayout, RegistryLayout),
}

/// Payload words look like headers, and lengths differ, so that the end of the data area is met at many places.
fn payload(sequence: u64) -> Vec<u8> {
    let words = [1, 0, 3, 2, 7, 1, 5][sequence as usize % 7];
    let mut bytes: Vec<u8> = (0..words).flat_map(|place| (1 + sequence + 8 * place).to_ne_bytes()).collect();
    bytes.truncate(bytes.len().saturating_sub(sequence as usize % 3));
    bytes
}

impl World {
    fn new(alignment: u64, start: u64) -> World {
        let payload = PayloadType::default();
        let geometry = Geometry {
            capacity: 512,
            blocks: 4,
            alignment,
            reader_slots: 2,
            start,
            may_evict: true,
            waking: Waking::default(),
            payload,
        };
        let ring_layout = RingLayout::new(geometry, 1).expect("a geometry");
        let registry_layout = RegistryLayout::new(2, 1);
        let (ring, registry) = (Plain::new(ring_layout.length), Plain::new(registry_layout.length));
        ring_layout.format(&ring);
        registry_layout.format(&registry);
        World { ring, registry, layouts: (ring_layout, registry_layout) }
    }

    fn party<M: Memory>(&self, wrap: impl Fn(Plain) -> M) -> (Ring<M>, Registry<M>) {
        let (ring, registry) = &self.layouts;
        (Ring::new(wrap(self.ring.clone()), ring.clone()), Registry::new(wrap(self.registry.clone()), registry.clone()))
    }

    fn writer(&self, life: &Life) -> Dying {
        let (ring, registry) = self.party(|memory| Mortal::new(memory, life));
        Writer::new(ring, registry, false)
    }

    fn take_over(&self, life: &Life) -> Result<Dying, TakeOverError> {
        let (ring, registry) = self.party(|memory| Mortal::new(memory, life));
        Writer::take_over(ring, registry, false)
    }

    fn lossy(&self) -> Reader<Plain> {
        let (ring, registry) = self.party(|memory| memory);
        Reader::join_lossy(ring, Some(registry), Start::Oldest, false, 1).expect("a boundary")
    }

    fn lossless(&self) -> Reader<Plain> {
        let (ring, registry) = self.party(|memory| memory);
        Reader::join_lossless(ring, registry, Start::Oldest, false, 1).expect("a slot")
    }
}

/// Reads to the end: no record but the right one, and every loss is told. Answers where it ended.
fn read_all(reader: &mut Reader<Plain>) -> u64 {
    let mut expected = reader.sequence();
    loop {
        let result = reader.read(|payload| {
            let mut bytes = vec![0; payload.len()];
            payload.copy_out(&mut bytes);
            bytes
        });
        match result {
            Ok(read) => {
                assert_eq!((read.sequence, &read.value), (expected, &payload(expected)), "torn, or another record");
                reader.release(read.next());
                expected += 1;
            }
            Err(Stop::Lagged(lost)) => expected += lost,
            Err(Stop::Empty | Stop::Closed) => return expected,
            Err(stop) => panic!("{stop:?}"),
        }
    }
}

fn publish(writer: &mut Dying) -> Result<u64, Refused> {
    writer.try_publish(&payload(writer.sequence()))
}

/// What a writer does until it dies: two laps of single records, claims that are aborted, batches, and a close.
fn script(writer: &mut Dying, life: &Life, mut after_each: impl FnMut(&mut Dying)) {
    for round in 0..40u64 {
        match round % 5 {
            3 => {
                // An aborted claim leaves a pad at most.
                let _ = writer.reserve(payload(writer.sequence()).len());
            }
            4 => {
                for _ in 0..3 {
                    let _ = writer.stage(&payload(writer.sequence()));
                }
                writer.flush();
            }
            _ => {
                let _ = publish(writer);
            }
        }
        if life.is_over() {
            return;
        }
        after_each(writer);
    }
    writer.close();
}

/// How many stores the whole script is, and the sequence number and the stores that were left after each of its steps.
fn dry_run(alignment: u64, start: u64) -> (u64, Vec<(u64, u64)>) {
    const PLENTY: u64 = 1 << 40;
    let world = World::new(alignment, start);
    let life = Life::new(PLENTY);
    let mut steps = vec![(0, 0)];
    // The mode is stored at once.
    let mut writer = world.writer(&life);
    script(&mut writer, &life, |writer| steps.push((PLENTY - life.left(), writer.sequence())));
    (PLENTY - life.left(), steps)
}

/// What the ring must hold after a death behind so many stores: at least what was published by then, at most one step more.
fn bounds(steps: &[(u64, u64)], stores: u64) -> (u64, u64) {
    let least = steps.iter().filter(|step| step.0 <= stores).map(|step| step.1).max().unwrap_or(0);
    let most = steps.iter().find(|step| step.0 > stores).map_or(least, |step| step.1);
    (least, most.max(least))
}

#[test]
fn whatever_store_a_writer_dies_behind_its_successor_loses_nothing() {
    let mut points = 0;
    for (alignment, start) in [(8, 0), (64, 0), (8, 504), (8, 1 << 62)] {
        let (stores, steps) = dry_run(alignment, start);
        assert!(stores > 200 && steps.last().is_some_and(|step| step.1 > 40), "{stores} stores, {steps:?}");
        for death in 1..=stores {
            points += 1;
            let world = World::new(alignment, start);
            let mut early = world.lossy();
            let life = Life::new(death);
            let mut writer = world.writer(&life);
            script(&mut writer, &life, |_| {});
            let (least, most) = bounds(&steps, death);

            let mut successor = world.take_over(&Life::new(u64::MAX)).expect("what a writer leaves");
            let recovered = successor.sequence();
            assert!((least..=most).contains(&recovered), "{recovered} of {least} to {most} behind store {death}");
            // A reader that was there, and one that comes now, read up to there.
            assert_eq!(read_all(&mut early), recovered);
            assert_eq!(read_all(&mut world.lossy()), recovered);
            for next in recovered..recovered + 30 {
                assert_eq!(publish(&mut successor), Ok(next), "the numbers go on");
            }
            assert_eq!(read_all(&mut early), recovered + 30);
            assert_eq!(read_all(&mut world.lossy()), recovered + 30);
        }
    }
    tell(format_args!("{points} points of death of a writer"));
}

/// Nor does a successor that dies, wherever it does, and what it published by then.
#[test]
fn whatever_store_a_successor_dies_behind_the_next_one_loses_nothing() {
    let mut points = 0;
    let (stores, _) = dry_run(8, 0);
    for death in (1..=stores).step_by(7) {
        for second in 1..30 {
            points += 1;
            let world = World::new(8, 0);
            let mut early = world.lossy();
            let life = Life::new(death);
            script(&mut world.writer(&life), &life, |_| {});
            let life = Life::new(second);
            let mut successor = world.take_over(&life).expect("what a writer leaves");
            let mut published = successor.sequence();
            while publish(&mut successor).is_ok() && !life.is_over() {
                published = successor.sequence();
            }
            let third = world.take_over(&Life::new(u64::MAX)).expect("what a successor leaves");
            let recovered = third.sequence();
            assert!((published..=published + 1).contains(&recovered), "{recovered} after {published}");
            assert_eq!(read_all(&mut early), recovered);
        }
    }
    tell(format_args!("{points} points of death of a successor"));
}

/// A lossless reader holds a successor as it held the dead writer: it reads everything, and only then is there room.
#[test]
fn a_successor_respects_the_cursors_that_it_finds() {
    let (stores, _) = dry_run(8, 0);
    for death in 1..=stores {
        let world = World::new(8, 0);
        let mut held = world.lossless();
        let life = Life::new(death);
        script(&mut world.writer(&life), &life, |_| {});
        let mut successor = world.take_over(&Life::new(u64::MAX)).expect("what a writer leaves");
        while publish(&mut successor).is_ok() {}
        let full = successor.sequence();
        assert_eq!(read_all(&mut held), full, "nothing was overwritten");
        assert!(publish(&mut successor).is_ok());
    }
}

#[test]
fn a_writer_that_was_replaced_is_fenced_at_its_next_look() {
    let world = World::new(8, 0);
    let mut old = world.writer(&Life::new(u64::MAX));
    publish(&mut old).expect("room");
    let mut successor = world.take_over(&Life::new(u64::MAX)).expect("a ring");
    let refused = loop {
        match publish(&mut old) {
            Ok(sequence) => assert!(sequence < 30, "it goes on and on"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::Fenced);
    assert_eq!(publish(&mut old), Err(Refused::Fenced), "final");
    let _ = publish(&mut successor);
}

#[test]
fn a_reader_that_died_is_cleared_away_and_one_that_stalls_is_passed_over() {
    for dead in [false, true] {
        let world = World::new(8, 0);
        let mut writer = world.writer(&Life::new(u64::MAX));
        let mut stalled = world.lossless();
        let mut reads = world.lossless();
        while publish(&mut writer).is_ok() {
            read_all(&mut reads);
        }
        let blocker = writer.blocker().expect("somebody");
        assert_eq!(blocker.slot, 0);
        if dead {
            assert!(writer.reap(blocker.slot));
            assert!(!writer.reap(blocker.slot), "it is free already");
        } else {
            writer.pass_over(blocker);
        }
        for _ in 0..20 {
            assert!(publish(&mut writer).is_ok());
            assert_eq!(read_all(&mut reads), writer.sequence(), "the other one loses nothing");
        }
        assert_eq!(writer.reader_count(), if dead { 1 } else { 2 });
        if !dead {
            // It is told how many it lost, and is a lossy reader from then on.
            match stalled.read(|_| ()).map(|_| ()) {
                Err(Stop::Evicted { lost }) => assert_eq!(stalled.sequence(), lost),
                other => panic!("{other:?}"),
            }
            assert!(!stalled.is_lossless() && read_all(&mut stalled) == writer.sequence());
            for _ in 0..20 {
                read_all(&mut reads);
                assert!(publish(&mut writer).is_ok(), "it holds nobody back");
            }
            // Until it rejoins; what that costs is told, and nothing is lost from there on.
            let before = stalled.sequence();
            assert_eq!(stalled.rejoin().map(|lost| before + lost), Ok(stalled.sequence()));
            assert!(stalled.is_lossless());
            while publish(&mut writer).is_ok() {
                read_all(&mut reads);
            }
            let next = stalled.sequence();
            assert_eq!(stalled.read(|_| ()).map(|read| read.sequence), Ok(next), "it holds the writer");
            assert_eq!(read_all(&mut stalled), writer.sequence());
        }
    }
}

/// A slot is passed over for the cursor that was seen in it, not for the reader that comes into it later.
#[test]
fn whoever_reads_on_is_not_passed_over() {
    let world = World::new(8, 0);
    let mut writer = world.writer(&Life::new(u64::MAX));
    let mut slow = world.lossless();
    while publish(&mut writer).is_ok() {}
    let blocker = writer.blocker().expect("somebody");
    // It moves just before the writer goes on without it.
    let first = slow.read(|_| ()).expect("a record").next();
    slow.release(first);
    for _ in 0..9 {
        let next = slow.read(|_| ()).expect("a record").next();
        slow.release(next);
    }
    writer.pass_over(blocker);
    while publish(&mut writer).is_ok() {}
    assert_eq!(read_all(&mut slow), writer.sequence());
}

#[test]
fn words_that_no_writer_leaves_are_refused() {
    use shmcast::ring::Site;
    use std::sync::atomic::Ordering::Relaxed;
    let damaged = |word: fn(&RingLayout) -> shmcast::memory::Word, value: u64| {
        let world = World::new(8, 0);
        let mut writer = world.writer(&Life::new(u64::MAX));
        for _ in 0..20 {
            publish(&mut writer).expect("room");
        }
        world.ring.store(word(&world.layouts.0), value, Relaxed, Site::Commit);
        world.take_over(&Life::new(u64::MAX)).map(|writer| writer.sequence())
    };
    for value in [0, 1, 8, u64::MAX, 1 << 63, (1 << 63) - 8] {
        let _ = damaged(|layout| layout.head_cell(0), value);
        let _ = damaged(|layout| layout.head_cell(1), value);
        let announced = damaged(RingLayout::announced, value);
        assert!(announced.is_err(), "announced {value:#x}: {announced:?}");
        let limit = damaged(RingLayout::limit, value);
        assert!(limit.is_err(), "limit {value:#x}: {limit:?}");
    }
}
