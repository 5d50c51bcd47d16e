//! Joins while the writer goes on: it publishes between any two loads of the joiner.

use std::cell::RefCell;
use std::rc::Rc;

use shmcast::memory::Word;
use shmcast::ring::{JoinError, Start, Stop};

use super::words::{Bench, TestReader, publish, receive_whole};

/// What a reader that starts there is told if so many records come right before its load number `at`, and how many there are at
/// the end.
fn join_during(
    bench: &Bench,
    lossless: bool,
    start: Start,
    before: u64,
    at: usize,
    burst: u64,
) -> (Result<TestReader, JoinError>, u64) {
    let writer = Rc::new(RefCell::new(bench.writer()));
    for _ in 0..before {
        publish(&mut writer.borrow_mut()).expect("nobody is waited for");
    }
    let (words, lapping, mut looks) = (bench.ring.clone(), Rc::clone(&writer), 0);
    bench.ring.lie(move |word, _, _| {
        looks += 1;
        if looks == at {
            // A lossless joiner may hold the writer up.
            while looks < at + burst as usize && publish(&mut lapping.borrow_mut()).is_ok() {
                looks += 1;
            }
        }
        words.peek(Word(word))
    });
    let joined = bench.try_reader(lossless, start);
    bench.ring.tell_the_truth();
    let next = writer.borrow().sequence();
    (joined, next)
}

/// Whatever is answered was true at some time between the call and its return; nobody is refused for being lapped.
fn join_at_numbers(lossless: bool) {
    let (mut joined, mut gone, mut not_yet) = (0, 0, 0);
    for at in 1..100 {
        for wanted in (0..180).step_by(15) {
            for (before, burst) in [(10, 25), (60, 7), (60, 80), (100, 40)] {
                let what = format!("{wanted} of {before}, and {burst} more before load {at}");
                let bench = Bench::new();
                let (result, next) = join_during(&bench, lossless, Start::Sequence(wanted), before, at, burst);
                match result {
                    Ok(mut reader) => {
                        assert_eq!(reader.sequence(), wanted, "{what}");
                        match receive_whole(&mut reader) {
                            Ok(()) => assert!(wanted < next, "{what}"),
                            Err(Stop::Empty) => assert_eq!(wanted, next, "{what}"),
                            Err(Stop::Lagged(lost)) => assert!(!lossless && wanted + lost <= next, "{what}"),
                            Err(stop) => panic!("{what}: {stop:?}"),
                        }
                        joined += 1;
                    }
                    Err(JoinError::SequenceGone { oldest: told }) => {
                        // To a lossless joiner is gone what the writer has announced that it will overwrite.
                        let oldest = if lossless { next } else { bench.follower().sequence() };
                        assert!(wanted < told && told <= oldest, "{what}: {told} of {oldest}");
                        gone += 1;
                    }
                    Err(JoinError::SequenceNotYet { next: told }) => {
                        assert!(wanted > told && told <= next, "{what}: {told} of {next}");
                        not_yet += 1;
                    }
                    Err(other) => panic!("{what}: {other:?}"),
                }
            }
        }
    }
    assert!(joined > 500 && gone > 500 && not_yet > 500, "{joined} joined, {gone} gone, {not_yet} not yet");
}

#[test]
fn a_join_at_a_number_is_refused_only_if_nothing_leads_there_any_more() {
    join_at_numbers(false);
}

#[test]
fn a_lossless_join_at_a_number_is_refused_only_if_nothing_leads_there_any_more() {
    join_at_numbers(true);
}

#[test]
fn a_join_at_the_newest_record_is_never_refused_and_comes_no_earlier() {
    for (before, lossless) in [(0, false), (10, false), (100, false), (0, true), (10, true), (100, true)] {
        for at in 1..60 {
            for burst in [1, 7, 40, 100, 300] {
                let bench = Bench::new();
                let (joined, next) = join_during(&bench, lossless, Start::Newest, before, at, burst);
                let what = format!("{before}, and {burst} more before load {at}");
                let reader = joined.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!((before..=next).contains(&reader.sequence()), "{what}: {}", reader.sequence());
            }
        }
    }
}

/// A writer that outruns every look of the joiner leaves nothing to say about the record.
#[test]
fn a_joiner_that_is_outrun_is_told_so() {
    for start in [Start::Sequence(99), Start::Newest] {
        let bench = Bench::new();
        let writer = Rc::new(RefCell::new(bench.writer()));
        for _ in 0..100 {
            publish(&mut writer.borrow_mut()).expect("nobody is waited for");
        }
        let (words, limit) = (bench.ring.clone(), bench.layouts.0.limit().0);
        let mut looks = 0;
        bench.ring.lie(move |word, _, _| {
            // It stands still until the joiner has a boundary to begin at.
            looks += u32::from(word == limit);
            if word == limit && looks > 4 {
                for _ in 0..50 {
                    publish(&mut writer.borrow_mut()).expect("nobody is waited for");
                }
            }
            words.peek(Word(word))
        });
        let joined = bench.try_reader(false, start).map(|reader| reader.sequence());
        assert_eq!(joined, Err(JoinError::Busy), "{start:?}");
        bench.ring.tell_the_truth();
    }
}
