//! Rules 1 to 6 of the table in `main.rs`: what a peer's words are taken for. Most of the tests run on words that change
//! between any two accesses.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use shmcast::layout::slot::{FREE, LOSSLESS, PRESENT};
use shmcast::layout::{Geometry, HEADER_WORDS};
use shmcast::memory::Word;
use shmcast::ring::{Payload, Refused, Site, Start, Stop, TakeOverError, Writer};

use super::support::{Random, record_of};
use super::words::{BOUND, Bench, CAPACITY, Look, SLOTS, Words, drain, odd_values, publish, receive, receive_whole};

// ---- rule 1: one writer per word; one's own words are never read back ----

#[test]
fn rule_1_nobody_reads_its_own_words_back() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    let slot = bench.layouts.1.slot_state(0).0;
    let own = [slot, slot + 1, slot + 2];
    for round in 0..400 {
        bench.ring.take_looks();
        bench.registry.take_looks();
        publish(&mut writer).expect("the reader has read everything");
        let looks: BTreeSet<usize> = bench.ring.take_looks().into_iter().map(|(word, _)| word).collect();
        assert!(looks.iter().all(|&word| word == bench.layouts.0.epoch().0), "the writer read back {looks:?}");
        bench.registry.take_looks();
        receive_whole(&mut reader).expect("a record");
        let looks = bench.registry.take_looks();
        assert!(looks.iter().all(|(word, _)| !own.contains(word)), "the reader read back {looks:?} in round {round}");
    }
    // So whatever stands there is nothing to them: the writer's position, the reader's.
    let (ring, registry) = &bench.layouts;
    for at in [ring.announced(), ring.head_cell(0), ring.head_cell(1), ring.checkpoint_at(0)] {
        bench.ring.poke(at, 0x5CA1_AB1E);
    }
    bench.registry.poke(registry.slot_cursor(0), u64::MAX);
    let (sequence, position) = (writer.sequence(), reader.position());
    assert_eq!((publish(&mut writer), reader.position()), (Ok(sequence), position));
    receive_whole(&mut reader).expect("the record");
}

// ---- rule 2: each word of a peer is loaded once, and the copy of it is what is judged and used ----

#[test]
fn rule_2_a_header_is_loaded_once_for_each_record() {
    for lossless in [false, true] {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let mut reader = if lossless { bench.lossless() } else { bench.follower() };
        for _ in 0..200 {
            publish(&mut writer).expect("room");
            let header = bench.layouts.0.data().word(reader.position()).0;
            bench.ring.take_looks();
            let found = reader.read(|_| ()).map(|read| read.next());
            let loads = bench.ring.take_looks().iter().filter(|(word, _)| *word == header).count();
            match found {
                // One that was peeked at when the record before was released is not loaded again.
                Ok(next) => {
                    assert!(loads <= 1, "{loads} loads of one header");
                    reader.release(next);
                }
                Err(stop) => panic!("{stop:?}"),
            }
        }
    }
}

#[test]
fn rule_2_a_cursor_is_loaded_once_for_each_scan() {
    let bench = Bench::new();
    let (mut writer, mut reader) = (bench.writer(), bench.lossless());
    let cursor = bench.layouts.1.slot_cursor(0).0;
    let mut scans = 0;
    for _ in 0..200 {
        bench.registry.take_looks();
        publish(&mut writer).expect("room");
        let looks = bench.registry.take_looks();
        let marks = looks.iter().filter(|(_, look)| *look == Look::Load(Site::HighWaterLook)).count();
        assert_eq!(looks.iter().filter(|(word, _)| *word == cursor).count(), marks, "one for each scan");
        scans += marks;
        receive_whole(&mut reader).expect("a record");
    }
    assert!(scans > 20, "{scans} scans");
}

/// Every load of a call in turn is answered with every odd value, the others truly: where a word were loaded twice, checked the
/// first time and used the second, this would lead out of the segment (which panics here).
#[test]
fn rule_2_a_word_that_changes_between_two_loads_leads_nowhere() {
    let (mut wrong, mut right) = (0, 0);
    for lossless in [false, true] {
        for value in odd_values(2000).into_iter().chain([600, 1800]) {
            for nth in 0.. {
                let bench = Bench::new();
                let mut writer = bench.writer();
                let mut reader = if lossless { bench.lossless() } else { bench.follower() };
                while writer.position() < 2000 {
                    publish(&mut writer).expect("room");
                }
                let told = Rc::new(Cell::new(false));
                let (count, lied) = (Cell::new(0), Rc::clone(&told));
                bench.ring.lie(move |_, _, truth| {
                    let now = count.replace(count.get() + 1);
                    lied.set(lied.get() || now == nth);
                    if now == nth { value } else { truth }
                });
                let answer = receive(&mut reader);
                bench.ring.tell_the_truth();
                match answer {
                    Ok(bytes) if bytes == record_of(0, BOUND) => right += 1,
                    Ok(bytes) => wrong += usize::from(bytes.len() <= bench.layouts.0.data().max_payload() as usize),
                    Err(_) => wrong += 1,
                }
                let _ = receive(&mut reader);
                if !told.get() {
                    break;
                }
            }
        }
    }
    assert!(wrong > 100 && right > 100, "{wrong} wrong or refused, {right} right");
}

// ---- rule 3: indices are masked, and lengths compared without a sum that may wrap ----

#[test]
fn rule_3_no_header_at_any_place_leads_out_of_the_data_area() {
    let data = Bench::new().layouts.0.data();
    let area = data.word(0).0..data.word(0).0 + (CAPACITY / 8) as usize;
    let (mut records, mut corrupt) = (0, 0);
    for position in (0..CAPACITY).step_by(8) {
        let bench = Bench::starting_at(position);
        let room = data.room_to_end(position);
        let headers = odd_values(position).into_iter().chain([
            room,
            room - 8 + 1,
            room + 1,
            Geometry::pad_header(room),
            Geometry::pad_header(8),
            data.max_payload() + 1,
            data.max_payload() + 2,
        ]);
        for header in headers {
            let mut reader = bench.follower();
            bench.ring.poke(data.word(position), header);
            bench.ring.take_looks();
            match receive(&mut reader) {
                Ok(bytes) => {
                    assert!(bytes.len() as u64 <= room - 8, "{header:#x} at {position}");
                    records += 1;
                }
                Err(Stop::Corrupt { .. }) => corrupt += 1,
                Err(stop) => assert!(matches!(stop, Stop::Empty | Stop::Lagged(_)), "{stop:?}"),
            }
            let copied = bench.ring.take_looks().into_iter().filter(|(_, look)| *look == Look::Copy);
            assert!(copied.clone().all(|(word, _)| area.contains(&word)), "{header:#x} at {position}");
        }
    }
    assert!(records > 1000 && corrupt > 1000, "{records} records, {corrupt} corrupt");
}

// ---- rule 4: what no honest peer stores is an error that stays, or is passed over; never a loop or a panic ----

#[test]
fn rule_4_an_impossible_header_poisons_the_reader_and_says_what_it_saw() {
    for lossless in [false, true] {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let mut reader = if lossless { bench.lossless() } else { bench.follower() };
        for _ in 0..3 {
            publish(&mut writer).expect("room");
        }
        drain(&mut reader);
        let word = bench.layouts.0.data().word(reader.position());
        bench.ring.poke(word, 0xBAD_C0DE_0000);
        let corrupt = Stop::Corrupt { position: reader.position(), header: 0xBAD_C0DE_0000 };
        assert_eq!(receive(&mut reader), Err(corrupt));
        // Also when it is mended, and whatever it is asked.
        bench.ring.poke(word, 0);
        for _ in 0..100 {
            publish(&mut writer).expect("who is poisoned holds nobody back");
            assert_eq!(receive(&mut reader), Err(corrupt), "final");
        }
        assert!(
            reader.look(&mut |_: Payload<'_, Words>| ()).is_none()
                && reader.look_run(8, 3, &mut |_: Payload<'_, Words>| true).is_none()
        );
        assert_eq!(reader.poison(), Some(corrupt));
        assert!(!lossless || reader.rejoin().is_err());
        reader.park(Duration::ZERO);
        assert_eq!(receive(&mut reader), Err(corrupt), "final");
    }
}

#[test]
fn rule_4_a_run_of_a_length_that_no_record_can_have_finds_none() {
    for len in [CAPACITY as usize - 8, CAPACITY as usize, 10 * CAPACITY as usize] {
        let bench = Bench::new();
        let mut reader = bench.follower();
        bench.ring.poke(bench.layouts.0.data().word(0), len as u64 + 1);
        let copy = &mut |_: Payload<'_, Words>| -> bool { panic!("{len} bytes are not there") };
        assert!(reader.look_run(len, 3, copy).is_none());
        assert!(!reader.expect(len));
    }
}

/// No writer commits beyond its limit, nor so close to it that the zero ahead has no place.
#[test]
fn rule_4_a_successor_takes_no_chain_that_passes_the_limit() {
    // The last record of a lap, or the pad there.
    const SIZE: u64 = 64;
    let (start, end) = (CAPACITY - SIZE, CAPACITY);
    for header in [Geometry::data_header(SIZE as usize - 8), Geometry::pad_header(SIZE)] {
        for (limit, taken) in [(end + 8, true), (end, false), (end - 8, false), (start, false)] {
            let bench = Bench::starting_at(start);
            bench.writer().try_publish(&[1; SIZE as usize - 8]).expect("room");
            bench.ring.poke(bench.layouts.0.data().word(start), header);
            bench.ring.poke(bench.layouts.0.limit(), limit);
            let (ring, registry) = bench.views();
            let found = Writer::take_over(ring, registry, true).map(|writer| writer.position());
            match found {
                Ok(position) => assert!(taken && position == end, "up to {position} with a limit of {limit}"),
                Err(TakeOverError::Corrupt { position, .. }) => {
                    assert!(!taken && position == start, "not with a limit of {limit}")
                }
                Err(error) => panic!("{error:?} with a limit of {limit}"),
            }
        }
    }
}

#[test]
fn rule_4_a_cursor_that_no_reader_can_have_is_passed_over() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    bench.registry.poke(bench.layouts.1.high_water(), u64::MAX);
    for slot in 0..SLOTS {
        bench.registry.poke(bench.layouts.1.slot_state(slot), LOSSLESS);
    }
    let mut held = 0;
    for round in 0..200_usize {
        let position = writer.position();
        let values = odd_values(position);
        let cursor = values[round % values.len()];
        for slot in 0..SLOTS {
            bench.registry.poke(bench.layouts.1.slot_cursor(slot), cursor);
        }
        // Or may be once the writer has come there.
        let honest = cursor.wrapping_add(CAPACITY).wrapping_sub(position) <= 4 * CAPACITY;
        while publish(&mut writer).is_ok() && writer.position() < position + 3 * CAPACITY {}
        assert!(honest || writer.position() >= position + 3 * CAPACITY, "held by {cursor:#x} at {position:#x}");
        held += u64::from(writer.position() < position + 3 * CAPACITY);
    }
    assert!(held > 10, "one that could be is heeded");
}

/// The writer's own poison: what counts the ring's writers is neither its own number nor that of a successor.
#[test]
fn rule_4_a_writer_whose_number_was_changed_is_poisoned() {
    for (found, refused) in
        [(1, Refused::Fenced), (7, Refused::Fenced), (u64::MAX, Refused::Corrupt), (1 << 40, Refused::Corrupt)]
    {
        let bench = Bench::new();
        let (mut writer, mut follower) = (bench.writer(), bench.follower());
        publish(&mut writer).expect("room");
        bench.ring.poke(bench.layouts.0.epoch(), found);
        let mut count = 0;
        let end = loop {
            match publish(&mut writer) {
                Ok(_) => count += 1,
                Err(end) => break end,
            }
            assert!(count < 100, "it is seen at the next slow path");
        };
        assert_eq!((end, writer.found_epoch()), (refused, (0, Some(found))));
        bench.ring.poke(bench.layouts.0.epoch(), 0);
        for len in [0, 8, 3000] {
            assert_eq!(writer.try_publish(&vec![0; len]), Err(refused), "final");
            assert_eq!(writer.stage(&vec![0; len]), Err(refused), "final");
        }
        writer.close();
        assert_eq!(publish(&mut writer), Err(refused), "final");
        drain(&mut follower);
        assert_eq!(receive(&mut follower), Err(Stop::Empty), "it closes nothing: the ring is another one's");
    }
}

#[test]
fn an_ordinary_lap_is_never_taken_for_corruption() {
    // Every word of the new lap looks like no header at all, and the reader stands at each place of the old one.
    for header in [u64::MAX, 1 << 40, (1 << 32) | 77, 4090, 1 << 63] {
        for lossless in [false, true] {
            for (behind, kept) in (0..30).flat_map(|behind| [(behind, false), (behind, true)]) {
                let bench = Bench::new();
                let mut writer = bench.writer();
                let mut reader = if lossless { bench.lossless() } else { bench.follower() };
                for _ in 0..30 {
                    writer.try_publish(&[3; 64]).expect("room");
                }
                for _ in 0..behind {
                    let next = reader.read(|_| ()).expect("a record").next();
                    reader.release(next);
                }
                if kept {
                    // It knows the header already when it is lapped.
                    let _ = reader.read(|_| ());
                }
                let bytes: Vec<u8> = header.to_ne_bytes().repeat(100);
                let mut len = 40;
                while writer.position() < 3 * CAPACITY {
                    len = (len * 7 + 24) % 800;
                    match writer.try_publish(&bytes[..len]) {
                        Ok(_) => {}
                        Err(Refused::Full) => writer.pass_over(writer.blocker().expect("the reader")),
                        Err(refused) => panic!("{refused:?}"),
                    }
                }
                let before = reader.sequence();
                match reader.read(|_| ()).map(|read| read.next()) {
                    Err(Stop::Evicted { lost }) if lossless => assert_eq!(before + lost, reader.sequence()),
                    Err(Stop::Lagged(lost)) if !lossless => assert_eq!(before + lost, reader.sequence()),
                    other => panic!("{other:?}"),
                }
                while let Ok(next) = reader.read(|_| ()).map(|read| read.next()) {
                    reader.release(next);
                }
                assert_eq!((reader.sequence(), reader.poison()), (writer.sequence(), None));
                let state = bench.registry.peek(bench.layouts.1.slot_state(0));
                assert_eq!(state, if lossless { PRESENT } else { FREE }, "it is counted, and holds nobody");
            }
        }
    }
}

// ---- rule 5: the geometry is read once, checked against the mapping, and private from then on ----

#[test]
fn rule_5_headers_that_change_after_the_open_change_nothing() {
    let bench = Bench::new();
    let (mut writer, mut reader, mut follower) = (bench.writer(), bench.lossless(), bench.follower());
    for (round, value) in odd_values(0).into_iter().enumerate() {
        for word in 0..HEADER_WORDS {
            bench.ring.poke(Word(word), value);
            bench.registry.poke(Word(word), value);
        }
        for _ in 0..30 {
            publish(&mut writer).expect("room");
            receive_whole(&mut reader).unwrap_or_else(|stop| panic!("{stop:?} in round {round}"));
            receive_whole(&mut follower).expect("a record");
        }
    }
    bench.ring.take_looks();
    publish(&mut writer).expect("room");
    receive_whole(&mut reader).expect("a record");
    assert!(bench.ring.take_looks().iter().all(|(word, _)| *word >= HEADER_WORDS), "nobody looks there again");
}

// ---- rule 6: the writer depends on readers' words for back-pressure alone, and only so far ----

#[test]
fn rule_6_a_writer_with_lossy_readers_looks_at_no_slot() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    let (ring, registry) = bench.views();
    let mut lossy = shmcast::ring::Reader::join_lossy(ring, Some(registry), Start::Oldest, true, 0).expect("a reader");
    assert!(lossy.is_counted());
    let slots = bench.layouts.1.slot_state(0).0;
    bench.registry.take_looks();
    for _ in 0..500 {
        publish(&mut writer).expect("room");
    }
    assert!(bench.registry.take_looks().iter().all(|(word, _)| *word < slots), "reader memory");
    assert!(matches!(receive(&mut lossy), Err(Stop::Lagged(1..))));
}

#[test]
fn rule_6_no_word_of_the_registry_pushes_the_limit() {
    let mut random = Random(66);
    let (mut published, mut refused) = (0, 0);
    for _ in 0..200 {
        let bench = Bench::new();
        let (mut writer, mut honest) = (bench.writer(), bench.lossless());
        for _ in 0..100 {
            let limit = bench.ring.peek(bench.layouts.0.limit());
            // Everything but the honest reader's own slot.
            for slot in 1..SLOTS {
                let values = odd_values(writer.position());
                bench.registry.poke(bench.layouts.1.slot_state(slot), random.below(5));
                let cursor = values[random.below(values.len() as u64) as usize];
                bench.registry.poke(bench.layouts.1.slot_cursor(slot), cursor);
            }
            bench.registry.poke(bench.layouts.1.high_water(), 1 + random.next() % 9);
            match publish(&mut writer) {
                Ok(_) => published += 1,
                Err(_) => refused += 1,
            }
            let raised = bench.ring.peek(bench.layouts.0.limit());
            assert!(raised >= limit && raised <= writer.position() + CAPACITY);
            assert!(raised <= honest.position() + CAPACITY, "nothing that the honest reader has not read");
            assert!(bench.ring.peek(bench.layouts.0.announced()) <= writer.position() + CAPACITY);
            if random.below(4) == 0 {
                let end = receive_whole(&mut honest);
                assert!(matches!(end, Ok(()) | Err(Stop::Empty)), "{end:?}");
            }
        }
    }
    assert!(published > 1000 && refused > 1000, "{published} published, {refused} refused");
}

/// Whoever can write the registry can hold the writer up to its stall limit for each cursor it forges, and no further.
#[test]
fn rule_6_every_forged_cursor_can_be_passed_over() {
    let bench = Bench::new();
    let mut writer = bench.writer();
    bench.registry.poke(bench.layouts.1.high_water(), SLOTS);
    for round in 0..50 {
        for slot in 0..SLOTS {
            bench.registry.poke(bench.layouts.1.slot_state(slot), LOSSLESS);
            bench
                .registry
                .poke(bench.layouts.1.slot_cursor(slot), writer.position() - 8 * slot.min(writer.position() / 8));
        }
        let (before, mut stalls) = (writer.position(), 0);
        while writer.position() < before + 2 * CAPACITY {
            match publish(&mut writer) {
                Ok(_) => {}
                Err(Refused::Full) => {
                    stalls += 1;
                    writer.pass_over(writer.blocker().expect("a forged one"));
                }
                Err(refused) => panic!("{refused:?}"),
            }
            assert!(stalls <= SLOTS * 20, "held for ever in round {round}");
        }
        assert!(stalls > 0, "it was held");
    }
}

/// A forged checkpoint is a loss of as many records as it says, or damage; never a loss that cannot be.
#[test]
fn rule_4_no_loss_is_longer_in_records_than_in_bytes_or_negative() {
    let corrupt = None;
    for (more, expected) in [(1, Some(1)), (64, Some(64)), (65, corrupt), (300, corrupt), (u64::MAX, corrupt)] {
        let bench = Bench::starting_at(1 << 20);
        let (mut writer, mut reader) = (bench.writer(), bench.follower());
        for _ in 0..2 {
            publish(&mut writer).expect("nobody is waited for");
            receive_whole(&mut reader).expect("the record");
        }
        let (forged, number) = (reader.position() + 64, reader.sequence().wrapping_add(more));
        let layout = &bench.layouts.0;
        let checkpoints = (0..4).map(|block| layout.checkpoint_at(block * CAPACITY / 4));
        for cell in checkpoints.chain([layout.head_cell(0), layout.head_cell(1)]) {
            bench.ring.poke(cell, forged);
            bench.ring.poke(cell.plus(1), number);
        }
        // The forged position is the first one that is still valid.
        bench.ring.poke(layout.limit(), forged + CAPACITY);
        let told = reader.read(|_| ()).map(drop).expect_err("it is lapped");
        match expected {
            Some(lost) => assert_eq!((told, reader.position()), (Stop::Lagged(lost), forged)),
            None => assert_eq!(told, Stop::Corrupt { position: forged, header: 0 }, "{more} records in 64 bytes"),
        }
    }
}
