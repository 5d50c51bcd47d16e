//! What a publish and a receive ask of memory, exactly (I7, I8): a performance test without noise, on the words of one
//! thread.
//!
//! A publish of `n` payload words is `n` + 2 stores and 1 load; a receive is 1 + `n` + 1 loads and a fence; whatever the
//! number of readers that are present.

use core::sync::atomic::Ordering::Relaxed;

use loom_tests::count::{Accesses, Count};
use loom_tests::memory::Plain;
use loom_tests::weaken::{Mutation, Weaken};
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Wakeup, Waking};
use shmcast::memory::{Memory, ReadPayload};
use shmcast::ring::{Payload, Reader, Refused, Registry, Ring, Site, Start, Stop, Writer};

const CAPACITY: u64 = 1 << 16;
const SLOTS: u64 = 1024;
const WORDS: [usize; 5] = [0, 1, 2, 8, 128];

type Books = Count<Plain>;

/// One ring on plain words, and the books of its two segments.
struct World {
    ring: Ring<Books>,
    registry: Registry<Books>,
    ring_books: Books,
    registry_books: Books,
}

impl World {
    fn new() -> World {
        World::with(Waking::default())
    }

    fn with(waking: Waking) -> World {
        World::of(waking, false)
    }

    fn of(waking: Waking, may_evict: bool) -> World {
        let payload = PayloadType::default();
        let geometry = Geometry {
            capacity: CAPACITY,
            blocks: 16,
            alignment: 8,
            reader_slots: SLOTS,
            start: 0,
            may_evict,
            waking,
            payload,
        };
        let layout = RingLayout::new(geometry, 1).expect("a geometry");
        let registry_layout = RegistryLayout::new(SLOTS, 1);
        let ring_books = Count::new(Plain::new(layout.length));
        let registry_books = Count::new(Plain::new(registry_layout.length));
        layout.format(&ring_books);
        registry_layout.format(&registry_books);
        let ring = Ring::new(ring_books.clone(), layout);
        let registry = Registry::new(registry_books.clone(), registry_layout);
        World { ring, registry, ring_books, registry_books }
    }

    fn writer(&self) -> Writer<Books> {
        Writer::new(self.ring.clone(), self.registry.clone(), false)
    }

    fn lossy(&self) -> Reader<Books> {
        Reader::join_lossy(self.ring.clone(), Some(self.registry.clone()), Start::Newest, false, 1).expect("a reader")
    }

    fn lossless(&self) -> Reader<Books> {
        Reader::join_lossless(self.ring.clone(), self.registry.clone(), Start::Newest, false, 1).expect("a slot")
    }

    fn reader(&self, lossless: bool) -> Reader<Books> {
        if lossless { self.lossless() } else { self.lossy() }
    }

    /// As a reader that goes to sleep.
    fn set_sleeping(&self) {
        let word = RegistryLayout::new(SLOTS, 1).sleeping();
        self.registry_books.store(word, 1, std::sync::atomic::Ordering::Relaxed, Site::SleepingSet);
    }

    /// What the ring and the registry were asked since the last time.
    fn take(&self) -> (Accesses, Accesses) {
        (self.ring_books.take(), self.registry_books.take())
    }
}

fn receive(reader: &mut Reader<Books>) -> Result<usize, Stop> {
    let mut bytes = [0; 8 * 128];
    let read = reader.read(|payload| payload.copy_out(&mut bytes[..payload.len()]))?;
    reader.release(read.next());
    Ok(read.len)
}

/// The cost of a publish below the limit, with so many readers present.
fn publish_cost(present: usize, words: usize) -> (Accesses, Accesses) {
    let world = World::new();
    let mut writer = world.writer();
    let readers: Vec<_> = (0..present).map(|_| world.lossy()).collect();
    assert_eq!(writer.reader_count(), readers.len() as u64);
    // The first one takes the slow path.
    writer.try_publish(&vec![1; words * 8]).expect("room");
    let _ = world.take();
    writer.try_publish(&vec![1; words * 8]).expect("room");
    world.take()
}

#[test]
fn a_publish_is_two_stores_and_one_load_besides_its_payload() {
    for words in WORDS {
        for present in [0, 1000] {
            let (ring, registry) = publish_cost(present, words);
            let expected = Accesses {
                words_in: words as u64,
                stores: 1,
                release_stores: 1,
                light_barriers: 1,
                ..Accesses::default()
            };
            assert_eq!(ring, expected, "{words} words, {present} readers");
            assert_eq!(registry, Accesses { loads: 1, ..Accesses::default() }, "{words} words, {present} readers");
        }
    }
}

#[test]
fn a_lossy_receive_in_a_stream_is_two_loads_and_a_fence_besides_its_payload() {
    for words in WORDS {
        for present in [0, 1000] {
            let world = World::new();
            let mut writer = world.writer();
            let _readers: Vec<_> = (0..present).map(|_| world.lossy()).collect();
            let mut reader = world.lossy();
            for _ in 0..4 {
                writer.try_publish(&vec![1; words * 8]).expect("room");
            }
            // Its own header, and the next one.
            assert_eq!(receive(&mut reader), Ok(words * 8));
            for _ in 1..4 {
                let _ = world.take();
                assert_eq!(receive(&mut reader), Ok(words * 8));
                let (ring, registry) = world.take();
                let expected = Accesses {
                    acquire_loads: 1,
                    words_out: words as u64,
                    acquire_fences: 1,
                    loads: 1,
                    ..Accesses::default()
                };
                assert_eq!((ring, registry), (expected, Accesses::default()), "{words} words, {present} readers");
            }
        }
    }
}

#[test]
fn a_lossless_reader_stores_its_cursor_each_eighth_of_the_ring_and_when_it_runs_dry() {
    for words in WORDS {
        let world = World::new();
        let mut writer = world.writer();
        let mut reader = world.lossless();
        let size = 8 + words as u64 * 8;
        // Three eighths of the ring, and a record.
        let count = CAPACITY / 8 * 3 / size + 1;
        for _ in 0..count {
            writer.try_publish(&vec![1; words * 8]).expect("room");
        }
        let _ = world.take();
        for _ in 0..count {
            assert_eq!(receive(&mut reader), Ok(words * 8));
        }
        let (mut cursor, mut stores) = (0, 0);
        for record in 1..=count {
            if record * size - cursor >= CAPACITY / 8 || record == count {
                cursor = record * size;
                stores += 1;
            }
        }
        assert!((3..=4).contains(&stores), "{stores} stores of {words} words");
        let (ring, registry) = world.take();
        let expected = Accesses {
            // One header per record, and the zero behind the last one.
            acquire_loads: count + 1,
            words_out: count * words as u64,
            acquire_fences: count,
            loads: count,
            ..Accesses::default()
        };
        assert_eq!(ring, expected, "{words} words");
        let expected =
            Accesses { release_stores: stores, light_barriers: stores, loads: stores, ..Accesses::default() };
        assert_eq!(registry, expected, "{words} words");
        // Dry: one look at the header, at the limit and at `closed`, nothing stored.
        assert_eq!(receive(&mut reader), Err(Stop::Empty));
        let (ring, registry) = world.take();
        assert_eq!(ring, Accesses { acquire_loads: 2, acquire_fences: 1, loads: 1, ..Accesses::default() });
        assert_eq!(registry, Accesses::default());
    }
}

#[test]
fn the_slow_path_costs_the_same_with_a_thousand_lossy_readers() {
    let costs = [0, 1000].map(|present| {
        let world = World::new();
        let mut writer = world.writer();
        let _readers: Vec<_> = (0..present).map(|_| world.lossy()).collect();
        let mut slow = Vec::new();
        for _ in 0..2 * CAPACITY / 1032 {
            let _ = world.take();
            writer.try_publish(&[1; 1024]).expect("room");
            let cost = world.take();
            if cost.0.full_fences > 0 {
                slow.push(cost);
            }
        }
        slow
    });
    assert!(costs[0].len() > 16, "{} slow paths", costs[0].len());
    assert_eq!(costs[0], costs[1]);
    for (ring, registry) in &costs[0] {
        assert_eq!((ring.waits, ring.wakes, ring.rmws), (0, 0, 0));
        // The high-water mark, and the flag of the notify.
        assert_eq!(*registry, Accesses { loads: 2, ..Accesses::default() });
    }
}

#[test]
fn the_slow_path_looks_at_two_words_of_each_lossless_slot() {
    let world = World::new();
    let mut writer = world.writer();
    let _readers: Vec<_> = (0..64).map(|_| world.lossless()).collect();
    let _ = world.take();
    writer.try_publish(&[1; 8]).expect("room");
    let (ring, registry) = world.take();
    assert_eq!((ring.full_fences, ring.release_fences), (1, 1));
    assert_eq!(registry, Accesses { loads: 2, acquire_loads: 2 * 64, ..Accesses::default() });
}

/// Readers judge by the line that `limit` and `announced` are in: a writer that asks for room again and again leaves it to them.
#[test]
fn a_writer_that_waits_for_room_stores_nothing_that_has_not_changed() {
    let world = World::new();
    let mut writer = world.writer();
    let reader = world.lossless();
    while writer.try_publish(&[1; 1000]).is_ok() {}
    let _ = world.take();
    for _ in 0..3 {
        assert_eq!(writer.try_publish(&[1; 1000]), Err(Refused::Full));
        let (ring, registry) = world.take();
        assert_eq!((ring.stores, ring.release_stores, ring.release_fences), (0, 0, 0));
        assert_eq!((registry.stores, registry.release_stores, registry.rmws), (0, 0, 0));
    }
    assert_eq!(reader.sequence(), 0);
}

#[test]
fn only_a_sleeper_costs_a_wake() {
    let world = World::new();
    let mut writer = world.writer();
    let mut reader = world.lossy();
    writer.try_publish(&[1; 8]).expect("room");
    assert_eq!(receive(&mut reader), Ok(8));
    assert_eq!(receive(&mut reader), Err(Stop::Empty));
    reader.park(std::time::Duration::ZERO);
    let (ring, _) = world.take();
    assert_eq!(ring.waits, 1);
    for wakes in [1, 0, 0] {
        writer.try_publish(&[1; 8]).expect("room");
        assert_eq!(world.take().0.wakes, wakes);
    }
}

#[test]
fn a_semaphore_is_posted_for_each_sleeper_and_for_nobody_else() {
    let world = World::with(Waking { means: Wakeup::PosixSemaphore, ..Waking::default() });
    let mut writer = world.writer();
    let mut readers: Vec<_> = (0..5).map(|_| world.lossy()).collect();
    for sleepers in [3, 0, 5, 1] {
        writer.try_publish(&[1; 8]).expect("room");
        for reader in &mut readers {
            assert_eq!(receive(reader), Ok(8));
            assert_eq!(receive(reader), Err(Stop::Empty));
        }
        let _ = world.take();
        for reader in &mut readers[..sleepers as usize] {
            reader.park(std::time::Duration::ZERO);
        }
        let (ring, registry) = world.take();
        assert_eq!((ring.waits, registry.waits, registry.drains), (0, sleepers, sleepers));
        writer.try_publish(&[1; 8]).expect("room");
        let (ring, registry) = world.take();
        assert_eq!((ring.wakes, registry.wakes), (0, sleepers));
        for reader in &mut readers {
            assert_eq!(receive(reader), Ok(8));
        }
    }
}

/// The writer before may have cleared every flag, and died before it woke: no flag is left to go by.
#[test]
fn a_successor_wakes_all_readers_whatever_the_flags_say() {
    for (means, wakes) in [(Wakeup::Futex, (1, 0)), (Wakeup::PosixSemaphore, (0, 5))] {
        let world = World::with(Waking { means, ..Waking::default() });
        let _dead = world.writer();
        let _readers: Vec<_> = (0..5).map(|_| world.lossy()).collect();
        let wake = |world: &World| world.ring_books.load(world.ring.layout().wake(), Relaxed, Site::WakeLook);
        let (before, _) = (wake(&world), world.take());
        Writer::take_over(world.ring.clone(), world.registry.clone(), false).expect("a ring as a writer left it");
        let (ring, registry) = world.take();
        assert_eq!((ring.wakes, registry.wakes), wakes, "{means:?}");
        assert_ne!(wake(&world), before, "{means:?}: who has not slept yet need not");
    }
}

/// The most tokens that a reader's semaphore and the writer's have at any time, when every sleep ends before it begins.
fn most_tokens(mutations: &[Mutation]) -> [u64; 2] {
    let waking = Waking { means: Wakeup::PosixSemaphore, ..Waking::default() };
    let geometry = Geometry {
        capacity: CAPACITY,
        blocks: 16,
        alignment: 8,
        reader_slots: 4,
        start: 0,
        may_evict: false,
        waking,
        payload: PayloadType::default(),
    };
    let layouts = (RingLayout::new(geometry, 1).expect("a geometry"), RegistryLayout::new(4, 1));
    let (ring, registry) = (Plain::new(layouts.0.length), Plain::new(layouts.1.length));
    layouts.0.format(&ring);
    layouts.1.format(&registry);
    let mutations = mutations.into();
    let party = || {
        let (ring, registry) = Weaken::party(&ring, &registry, &mutations);
        (Ring::new(ring, layouts.0.clone()), Registry::new(registry, layouts.1.clone()))
    };
    let (in_ring, in_registry) = party();
    let mut writer = Writer::new(in_ring, in_registry, false);
    let (in_ring, in_registry) = party();
    let mut reader = Reader::join_lossless(in_ring, in_registry, Start::Oldest, false, 1).expect("a slot");
    let mut most = [0; 2];
    for _ in 0..100 {
        writer.try_publish(&[1; 8]).expect("room");
        // There is a record; the next one is posted for.
        reader.park(std::time::Duration::ZERO);
        writer.try_publish(&[1; 8]).expect("room");
        // There is room; the next one is posted for.
        assert!(writer.park(std::time::Duration::ZERO, |_| true));
        for _ in 0..2 {
            let next = reader.read(|_| ()).expect("a record").next();
            reader.release(next);
        }
        let tokens = [layouts.1.slot_semaphore(0), layouts.1.writer_semaphore()].map(|which| registry.tokens(which));
        most = [most[0].max(tokens[0]), most[1].max(tokens[1])];
    }
    most
}

#[test]
fn tokens_do_not_add_up_and_would_without_the_drains() {
    assert_eq!(most_tokens(&[]), [1, 1]);
    assert_eq!(most_tokens(&[Mutation::Skip(Site::ReaderDrain)]), [100, 1]);
    assert_eq!(most_tokens(&[Mutation::Skip(Site::WriterDrain)]), [1, 100]);
}

#[test]
fn who_has_no_slot_naps_and_costs_no_wake() {
    let world = World::with(Waking { means: Wakeup::PosixSemaphore, ..Waking::default() });
    let mut writer = world.writer();
    let _others: Vec<_> = (0..SLOTS).map(|_| world.lossy()).collect();
    let mut reader = world.lossy();
    assert!(!reader.is_counted());
    assert_eq!(receive(&mut reader), Err(Stop::Empty));
    let _ = world.take();
    reader.park(std::time::Duration::ZERO);
    let (ring, registry) = world.take();
    assert_eq!((ring.waits, ring.heavy_barriers, registry), (1, 0, Accesses::default()));
    writer.try_publish(&[1; 8]).expect("room");
    assert_eq!(world.take().1.wakes, 0);
}

/// Also not a reader that sets the flag although the header says that it is of no use.
#[test]
fn a_writer_that_wakes_nobody_makes_no_system_call() {
    for means in [Wakeup::Futex, Wakeup::PosixSemaphore] {
        let world = World::with(Waking { means, no_wake: true, ..Waking::default() });
        let mut writer = world.writer();
        let mut reader = world.lossy();
        assert_eq!(receive(&mut reader), Err(Stop::Empty));
        let _ = world.take();
        reader.park(std::time::Duration::ZERO);
        let (ring, registry) = world.take();
        assert_eq!((ring.waits, ring.heavy_barriers, registry), (1, 0, Accesses::default()), "it naps, unseen");
        writer.try_publish(&[1; 8]).expect("room");
        let (_, registry) = world.take();
        assert_eq!(registry.stores + registry.wakes, 0);
        assert_eq!(receive(&mut reader), Ok(8));
        world.set_sleeping();
        writer.try_publish(&[1; 8]).expect("room");
        writer.close();
        let (ring, registry) = world.take();
        assert_eq!((ring.wakes, registry.wakes), (0, 0));
        assert_eq!(receive(&mut reader), Ok(8));
        assert_eq!(receive(&mut reader), Err(Stop::Closed));
    }
}

#[test]
fn a_reader_that_waits_for_each_record_gives_its_room_back_without_a_look() {
    for (words, lossless) in WORDS.into_iter().flat_map(|words| [(words, false), (words, true)]) {
        let world = World::new();
        let mut writer = world.writer();
        let mut reader = world.reader(lossless);
        for _ in 0..3 {
            assert_eq!(receive(&mut reader), Err(Stop::Empty));
            writer.try_publish(&vec![1; words * 8]).expect("room");
            let _ = world.take();
            assert_eq!(receive(&mut reader), Ok(words * 8));
            let (ring, registry) = world.take();
            let expected = Accesses {
                acquire_loads: 1,
                words_out: words as u64,
                acquire_fences: 1,
                loads: 1,
                ..Accesses::default()
            };
            assert_eq!(ring, expected, "{words} words");
            let cursor = Accesses { release_stores: 1, light_barriers: 1, loads: 1, ..Accesses::default() };
            assert_eq!(registry, if lossless { cursor } else { Accesses::default() }, "{words} words");
        }
    }
}

/// Also if the next record comes before the reader has asked for it.
#[test]
fn a_reader_whose_ring_ran_dry_takes_no_line_behind_the_next_record() {
    for lossless in [false, true] {
        let world = World::new();
        let mut writer = world.writer();
        let mut reader = world.reader(lossless);
        for round in 0..3 {
            writer.try_publish(&[1; 8]).expect("room");
            if round == 0 {
                // A stream of two: the look behind the second finds nothing.
                writer.try_publish(&[1; 8]).expect("room");
                assert_eq!(receive(&mut reader), Ok(8));
            }
            let _ = world.take();
            assert_eq!(receive(&mut reader), Ok(8));
            let (ring, _) = world.take();
            // In turns: who was waited for is followed by a look, which finds nothing again.
            assert_eq!(ring.acquire_loads, [1, 1, 2][round], "round {round}");
        }
    }
}

/// Cursors are for eighths and for rings that run dry, not for records of another length than the one before.
#[test]
fn records_of_changing_lengths_cost_no_cursor() {
    let world = World::new();
    let (mut writer, mut reader) = (world.writer(), world.lossless());
    for record in 0..=100 {
        writer.try_publish(&[1; 32][..8 + record % 4 * 8]).expect("room");
    }
    let _ = world.take();
    for record in 0..100 {
        assert_eq!(receive(&mut reader), Ok(8 + record % 4 * 8));
    }
    assert_eq!(world.take().1, Accesses::default());
}

/// Where who stalls may be evicted, the writer sees each record go; but it is not woken for each.
#[test]
fn a_reader_that_may_be_evicted_shows_each_record_and_asks_for_a_sleeper_once_an_eighth() {
    let world = World::of(Waking::default(), true);
    let (mut writer, mut reader) = (world.writer(), world.lossless());
    let eighth = CAPACITY / 8 / 16;
    for _ in 0..=2 * eighth + 9 {
        writer.try_publish(&[1; 8]).expect("room");
    }
    let _ = world.take();
    for record in 1..=2 * eighth + 9 {
        assert_eq!(receive(&mut reader), Ok(8));
        let asks = u64::from(record % eighth == 0);
        // What it shows is stored a second time where the writer is told.
        let expected = Accesses { release_stores: 1 + asks, light_barriers: asks, loads: asks, ..Accesses::default() };
        assert_eq!(world.take().1, expected, "record {record}");
    }
}

#[test]
fn a_run_ends_where_it_was_told_to_and_at_an_eighth_of_the_ring() {
    let world = World::new();
    let (mut writer, mut reader) = (world.writer(), world.lossless());
    let eighth = (CAPACITY / 8 / 16) as usize;
    for _ in 0..2 * eighth {
        writer.try_publish(&[1; 8]).expect("room");
    }
    for (most, found) in [(0, 0), (1, 1), (3, 3), (eighth, eighth), (2 * eighth, eighth)] {
        let _ = world.take();
        let mut copied = 0;
        let run = reader.look_run(8, most, &mut |payload: Payload<'_, Books>| {
            payload.copy_out(&mut [0; 8]);
            copied += 1;
            true
        });
        let run = run.expect("a run");
        assert_eq!((run.count, copied), (found, found), "up to {most}");
        let expected = Accesses {
            // The first header, also if nothing is asked for; none behind the last record.
            acquire_loads: found.max(1) as u64,
            words_out: found as u64,
            acquire_fences: 1,
            loads: 1,
            ..Accesses::default()
        };
        assert_eq!(world.take().0, expected, "up to {most}");
        if most == 0 {
            let (position, sequence) = (reader.position(), reader.sequence());
            reader.release_run(run);
            assert_eq!((reader.position(), reader.sequence()), (position, sequence));
        }
    }
}

#[test]
fn a_poll_ends_with_the_record_and_asks_no_more() {
    let world = World::new();
    let (mut writer, mut reader) = (world.writer(), world.lossless());
    let _ = world.take();
    reader.poll(3);
    assert_eq!(world.take().0, Accesses { acquire_loads: 3, pauses: 3, ..Accesses::default() });
    writer.try_publish(&[1; 8]).expect("room");
    let _ = world.take();
    reader.poll(3);
    assert_eq!(world.take().0, Accesses { acquire_loads: 1, pauses: 1, ..Accesses::default() });
    reader.poll(3);
    assert_eq!(world.take().0, Accesses::default());
}

#[test]
fn a_length_that_no_record_can_have_has_a_size_that_never_fits() {
    let writer = World::new().writer();
    let most = CAPACITY / 2 - 8;
    assert_eq!(writer.size_for(most as usize), CAPACITY / 2);
    for len in [most as usize + 1, CAPACITY as usize - 8, usize::MAX] {
        assert!(writer.size_for(len) > CAPACITY, "{len} bytes");
    }
}

#[test]
fn a_wake_calls_the_roll_again_only_if_somebody_left() {
    let world = World::new();
    let (mut writer, mut stays, mut leaves) = (world.writer(), world.lossy(), world.lossy());
    writer.heed_readers(true);
    assert_eq!(writer.try_publish(&[1; 8]), Err(Refused::RollCall), "the first one");
    writer.roll_called();
    for _ in 0..3 {
        world.set_sleeping();
        writer.try_publish(&[1; 8]).expect("room, and nobody left");
    }
    leaves.leave();
    writer.try_publish(&[1; 8]).expect("it hears of it behind this one");
    assert_eq!(writer.try_publish(&[1; 8]), Err(Refused::RollCall));
    writer.roll_called();
    writer.try_publish(&[1; 8]).expect("room");
    stays.leave();
}
