//! Rules 7 to 12 of the table in `main.rs`: what a peer can reach, how long it can keep one busy, what it gets to see.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use shmcast::layout::slot::{FREE, JOINING, PRESENT};
use shmcast::layout::{CELL_OPEN, Geometry};
use shmcast::memory::Word;
use shmcast::ring::{Payload, Site, Start, Stop, Writer};
use shmcast::{Options, TryRecvError};

use super::support::{Child, Random, file, hear, record_of, say, smallest};
use super::words::{BOUND, Bench, CAPACITY, Look, SLOTS, Words, copy_out, drain, publish, receive, receive_whole};

// ---- rule 7: readers' words lie in another segment, and the ring is mapped read-only ----

/// In a process of its own, which has nothing but the reader's mappings.
pub(crate) fn show_mappings(path: &std::path::Path) {
    let _reader = Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}"));
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a table");
    for line in maps.lines().filter(|line| line.ends_with("/ring") || line.ends_with("/ring.registry")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        say(format_args!("{name} {}", words[1]));
    }
    say("end");
    hear();
}

#[test]
fn rule_7_a_reader_maps_the_ring_read_only() {
    let (_writer, door) = file(&smallest());
    let super::support::Door::File(directory) = &door else { unreachable!("a file ring") };
    let mut child = Child::start("shows its mappings", &[directory.path().join("ring").to_str().expect("UTF-8")]);
    let mut seen = BTreeSet::new();
    loop {
        let said = child.expect("");
        if said == "end" {
            break;
        }
        seen.insert(said);
    }
    child.tell("go");
    child.finish();
    // The second mapping of the registry is the lock's, of one page.
    let expected = ["ring r--s", "ring.registry r--s", "ring.registry rw-s"].map(str::to_owned);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    // And by its layout no word that a reader writes lies in the ring segment, nor on a line that the writer alone reads.
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    publish(&mut writer).expect("room");
    let before: Vec<u64> = (0..bench.ring.len()).map(|word| bench.ring.peek(Word(word))).collect();
    drain(&mut reader);
    reader.park(Duration::ZERO);
    let _ = reader.lag();
    reader.leave();
    let after: Vec<u64> = (0..bench.ring.len()).map(|word| bench.ring.peek(Word(word))).collect();
    assert!(before == after, "a reader stores nothing in the ring segment");
}

// ---- rule 8: each call ends, after a bounded number of accesses ----

/// Words that are there for the purpose of keeping others busy.
fn adversary(bench: &Bench, which: u64) {
    let layout = bench.layouts.0.clone();
    let data = layout.data();
    let count = Cell::new(which);
    let mut random = Random(which);
    let place = move |word: usize| (word - data.word(0).0) as u64 * 8;
    let limit = layout.limit().0;
    bench.ring.lie(move |word, look, truth| {
        let now = count.replace(count.get() + 1);
        let Look::Load(site) = look else { return truth };
        match (which, site) {
            // Lapped at each look, by ever more.
            (0, Site::LimitLook) => truth.wrapping_add(now * 4096),
            // Records without end.
            (1, Site::Header | Site::Peek | Site::RecoverHeader) => 1,
            // Pads without end, where there can be one.
            (2, Site::Header | Site::Peek | Site::HeaderAfterClosed | Site::RecoverHeader) => {
                let room = data.room_to_end(place(word));
                if room < CAPACITY { Geometry::pad_header(room) } else { 1 }
            }
            // Cells that are always being written.
            (3, Site::CellFirstLook) => CELL_OPEN,
            // Cells that never say the same twice.
            (4, Site::CellFirstLook | Site::CellSecondLook) => now * 8,
            // Always lapped, and a boundary a little further on each time.
            (5, Site::LimitLook) if word == limit => truth.wrapping_add(2 * CAPACITY + now * 8),
            (5, Site::CellFirstLook | Site::CellSecondLook) => truth.wrapping_add(2 * CAPACITY + (now & !3) * 8),
            (5, Site::CellSequenceLook) => 0,
            // Closed, but not quite.
            (6, Site::ClosedLook | Site::SleepClosedLook) => 1,
            (6, Site::Header | Site::Peek) => 0,
            (6, Site::HeaderAfterClosed) => now % 3,
            // Anything.
            (7.., _) if random.below(3) == 0 => match random.below(4) {
                0 => random.next(),
                1 => random.below(70),
                2 => truth.wrapping_add(random.below(200) * 8).wrapping_sub(800),
                _ => Geometry::pad_header(8 + random.below(500) * 8),
            },
            _ => truth,
        }
    });
}

fn hash(what: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn rule_8_every_call_of_a_reader_ends() {
    let blocks = 4;
    // What a look for a place to go on costs, and so what a call does.
    let look = 3 * (blocks + 2) + 2;
    let (receiving, walking) = (8 * (64 * look + 8), 8 * 64 * look + CAPACITY / 8 * 2);
    let joining = walking + (CAPACITY / 8 + 2) * 8 * 8 + 2 * 64 * look * 65 + 400;
    let (mut most, mut ends) = ([0; 3], BTreeSet::new());
    for which in 0..400 {
        for lossless in [false, true] {
            let bench = Bench::new();
            let mut writer = bench.writer();
            let mut reader = if lossless { bench.lossless() } else { bench.follower() };
            for _ in 0..which % 60 {
                let _ = publish(&mut writer);
            }
            adversary(&bench, which);
            bench.ring.take_steps();
            for _ in 0..20 {
                let end = reader.read(|_| ()).map(|read| read.next());
                most[0] = most[0].max(bench.ring.take_steps());
                ends.insert(end.err().map(|stop| std::mem::discriminant(&stop)).map_or(0, |kind| hash(&kind)));
                if let Ok(next) = end {
                    reader.release(next);
                }
                let _ = reader.look_run(8, 1000, &mut |_: Payload<'_, Words>| true);
                reader.park(Duration::ZERO);
                reader.poll(3);
                bench.ring.take_steps();
                let _ = reader.lag();
                most[1] = most[1].max(bench.ring.take_steps());
                let _ = reader.rejoin();
                let _ = reader.outlives_writer(|| true);
                bench.ring.take_steps();
            }
            for start in [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(9), Start::Sequence(u64::MAX)] {
                let _ = bench.try_follower(start);
                let (ring, registry) = bench.views();
                let _ = shmcast::ring::Reader::join_lossless(ring, registry, start, true, 0);
                most[2] = most[2].max(bench.ring.take_steps() / 2);
            }
        }
    }
    println!(
        "receive: at most {} accesses of {receiving}, lag: {} of {walking}, join: {} of {joining}",
        most[0], most[1], most[2]
    );
    assert!(most[0] <= receiving && most[1] <= walking && most[2] <= joining);
    assert_eq!(ends.len(), 6, "a record, and every way to have none");
}

#[test]
fn rule_8_every_call_of_a_writer_ends() {
    let mut most = [0; 2];
    for seed in 0..300 {
        let bench = Bench::new();
        let (mut writer, mut follower) = (bench.writer(), bench.follower());
        let mut random = Random(seed);
        bench.registry.lie(move |_, _, truth| match random.below(5) {
            0 => random.next(),
            1 => random.below(5),
            2 => truth.wrapping_add(random.below(40) * 8),
            _ => truth,
        });
        for round in 0..60 {
            bench.registry.take_steps();
            let _ = publish(&mut writer);
            most[0] = most[0].max(bench.registry.take_steps());
            let sequence = writer.sequence();
            if writer.stage(&record_of(sequence, BOUND)).is_ok() {
                writer.flush();
            }
            writer.park_for_room(100, Duration::ZERO);
            assert!(writer.reader_count() <= SLOTS);
            if let Some(blocker) = writer.blocker() {
                writer.pass_over(blocker);
                if round % 3 == 0 {
                    let _ = writer.reap(blocker.slot);
                }
            }
            writer.reap_all(|slot| (slot % 2 == 0).then_some(()));
            // Whatever stands in the registry, the records are right.
            match receive_whole(&mut follower) {
                Ok(()) | Err(Stop::Empty | Stop::Lagged(_)) => {}
                Err(stop) => panic!("{stop:?}"),
            }
        }
        // A successor's recovery, of a ring that somebody damages meanwhile.
        adversary(&bench, seed);
        bench.ring.take_steps();
        let (ring, registry) = bench.views();
        let _ = Writer::take_over(ring, registry, true);
        most[1] = most[1].max(bench.ring.take_steps());
    }
    println!("publish: at most {} accesses of the registry; take-over: {} of the ring", most[0], most[1]);
    // The flag, the mark, a state and a cursor for each slot, what a wake stores; the cells and a lap of headers.
    assert!(most[0] <= 2 * SLOTS + 8 && most[1] <= CAPACITY / 8 + 40, "{most:?}");
}

// ---- rule 9: a hostile waiter costs wakes and slices, nothing else ----

#[test]
fn rule_9_flags_that_are_always_set_cost_one_wake_for_each_record() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    let flags = [bench.layouts.1.sleeping().0, bench.layouts.1.writer_sleeping().0];
    let mut random = Random(9);
    bench.registry.lie(move |word, _, truth| if flags.contains(&word) { 1 + random.next() / 2 } else { truth });
    let mut wakes = 0;
    for _ in 0..300 {
        bench.ring.take_wakes();
        bench.registry.take_wakes();
        publish(&mut writer).expect("room");
        let woken = bench.ring.take_wakes();
        assert_eq!(woken, 1, "of the readers");
        receive_whole(&mut reader).expect("a record");
        let woken = bench.registry.take_wakes();
        assert!(woken <= 1, "of the writer: {woken}");
        wakes += woken;
    }
    assert!(wakes > 100);
}

#[test]
fn rule_9_a_wait_ends_at_its_deadline_whatever_the_wake_words_say() {
    use std::os::unix::fs::FileExt;
    use std::time::Instant;
    let (mut writer, door) = file(&smallest());
    let super::support::Door::File(directory) = &door else { unreachable!("a file ring") };
    let mut reader = door.lossless();
    let [ring, registry] = ["ring", "ring.registry"]
        .map(|name| std::fs::File::options().write(true).open(directory.path().join(name)).expect("a segment"));
    let (layout, slots) = Bench::new().layouts;
    let (stop, limit) = (std::sync::atomic::AtomicBool::new(false), Duration::from_millis(60));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(10);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for at in [slots.sleeping(), slots.writer_sleeping(), slots.room()] {
                    registry.write_all_at(&random.next().to_ne_bytes(), at.0 as u64 * 8).expect("a word");
                }
                ring.write_all_at(&random.next().to_ne_bytes(), layout.wake().0 as u64 * 8).expect("a word");
            }
        });
        let start = Instant::now();
        assert!(reader.recv_timeout(limit).is_err(), "there is nothing");
        assert!(start.elapsed() >= limit && start.elapsed() < super::support::LIMIT);
        while writer.try_publish(&[1; 500]).is_ok() {}
        let start = Instant::now();
        assert!(writer.publish_timeout(&[1; 500], limit).is_err(), "there is no room");
        assert!(start.elapsed() >= limit && start.elapsed() < super::support::LIMIT);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(reader.try_recv().map(|record| record.len()), Ok(500));
}

// ---- rule 10: no SIGBUS where the kernel can prevent it ----

#[test]
fn rule_10_the_registry_of_a_memfd_ring_cannot_be_truncated_by_who_can_write_it() {
    use std::os::fd::AsFd;
    let mut writer = smallest().create_memfd().expect("a small ring");
    let handed_out = writer.descriptors().expect("two");
    for file in [handed_out.ring, handed_out.registry] {
        let file = std::fs::File::from(file.as_fd().try_clone_to_owned().expect("a copy"));
        for length in [0, 100, 4096, 1 << 20] {
            assert!(file.set_len(length).is_err());
        }
    }
    let mut reader = writer.subscriber().reader().expect("a slot");
    writer.publish(b"still there").expect("room");
    assert_eq!(reader.recv().map(|record| record.payload), Ok(b"still there".to_vec()));
}

// ---- rule 11: copy, then validate, then parse ----

#[test]
fn rule_11_what_changes_under_a_copy_is_void_or_comes_out_as_it_was_copied() {
    let (mut void, mut wrong) = (0, 0);
    for nth in 0..40 {
        for laps in [false, true] {
            let bench = Bench::new();
            let (mut writer, mut reader) = (bench.writer(), bench.follower());
            writer.try_publish(&[7; 256]).expect("room");
            // In the middle of the copy the peer overwrites all of the payload; and says so by the limit, or lies.
            let (ring, count) = (bench.ring.clone(), Cell::new(0));
            let (payload, limit) = (bench.layouts.0.data().word(0).plus(1), bench.layouts.0.limit());
            bench.ring.lie(move |_, look, truth| {
                if look == Look::Copy && count.replace(count.get() + 1) == nth {
                    (0..32).for_each(|n| ring.poke(payload.plus(n), u64::MAX));
                    if laps {
                        ring.poke(limit, CAPACITY + 4096);
                    }
                }
                truth
            });
            match reader.read(copy_out).map(|read| read.value) {
                Ok(bytes) => {
                    assert!(!laps || nth >= 32, "void, and told as whole");
                    assert_eq!(bytes.len(), 256);
                    wrong += u64::from(bytes != [7; 256]);
                }
                // No boundary is left, by this limit.
                Err(stop) => {
                    assert!(laps && stop == Stop::Empty, "{stop:?}");
                    void += 1;
                }
            }
        }
    }
    assert!(void > 10 && wrong > 10, "{void} void, {wrong} wrong");
}

#[test]
fn rule_11_nothing_is_lent_where_a_peer_could_change_it() {
    let (mut writer, door) = file(&smallest().stall_limit(Duration::from_secs(60)));
    writer.publish(b"copied").expect("room");
    let mut reader = door.lossless();
    assert!(!reader.can_borrow());
    assert!(matches!(reader.try_recv_ref(), Err(TryRecvError::NotBorrowable)));
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"copied".to_vec()));
}

// ---- rule 12: nothing older shows through ----

#[test]
fn rule_12_no_older_bytes_show_in_a_record_or_in_its_padding() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    let data = bench.layouts.0.data();
    for word in 0..CAPACITY / 8 {
        bench.ring.poke(data.word(word * 8), u64::from_ne_bytes(*b"secretly"));
    }
    bench.ring.poke(data.word(0), 0);
    // No wrap.
    for len in 0..60 {
        let at = data.word(writer.position());
        writer.try_publish(&vec![0xEE; len]).expect("room");
        for word in 0..len.div_ceil(8) {
            let bytes = bench.ring.peek(at.plus(1 + word)).to_ne_bytes();
            let (written, padding) = bytes.split_at((len - word * 8).min(8));
            assert!(written.iter().all(|&byte| byte == 0xEE) && padding.iter().all(|&byte| byte == 0), "{len} bytes");
        }
        assert_eq!(bench.ring.peek(data.word(writer.position())), 0, "the header of the next one");
    }
}

// ---- what else was seen in peers: section 4 ----

#[test]
fn no_stray_store_makes_a_reader_deaf_without_a_word() {
    let mut told = 0;
    for word in 0..16 {
        for value in [1, 9, 40, u64::MAX, 1 << 32, 1 << 40] {
            let bench = Bench::new();
            let (mut writer, mut reader) = (bench.writer(), bench.follower());
            publish(&mut writer).expect("room");
            drain(&mut reader);
            // Somewhere at, or behind, the place that the reader polls.
            bench.ring.poke(bench.layouts.0.data().word(writer.position() + word * 8), value);
            let first = writer.sequence();
            let mut heard = false;
            for _ in 0..10 {
                publish(&mut writer).expect("room");
                heard |= !matches!(receive(&mut reader), Err(Stop::Empty));
            }
            assert!(heard, "deaf by {value:#x} in word {word}");
            told += u64::from(reader.poison().is_some() || reader.sequence() > first);
        }
    }
    assert!(told > 50);
}

#[test]
fn a_state_that_is_none_is_nobodys() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    bench.registry.poke(bench.layouts.1.high_water(), SLOTS);
    for state in [4, 5, 1 << 32, u64::MAX, JOINING, PRESENT, FREE] {
        bench.registry.poke(bench.layouts.1.slot_state(0), state);
        bench.registry.poke(bench.layouts.1.slot_cursor(0), writer.position());
        for _ in 0..40 {
            publish(&mut writer).expect("it holds nobody");
        }
        assert_eq!(writer.reader_count(), u64::from(state == PRESENT));
    }
}
