//! Joins while the writer goes on: it publishes between any two loads of the joiner.

use std::cell::RefCell;
use std::rc::Rc;

use shmcast::memory::Word;
use shmcast::ring::{JoinError, Start};

use super::words::{Bench, TestReader, publish, receive_whole};

/// What a follower that starts there is told if so many records come right before its load number `at`, and how many there are at
/// the end.
fn join_during(
    bench: &Bench,
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
            for _ in 0..burst {
                publish(&mut lapping.borrow_mut()).expect("nobody is waited for");
            }
        }
        words.peek(Word(word))
    });
    let joined = bench.try_follower(start);
    bench.ring.tell_the_truth();
    let next = writer.borrow().sequence();
    (joined, next)
}

#[test]
fn a_join_at_a_number_is_refused_only_if_nothing_leads_there_any_more() {
    let (mut joined, mut gone, mut not_yet) = (0, 0, 0);
    for wanted in (0..180).step_by(3) {
        for before in [10, 60, 100] {
            for (at, burst) in [(1, 0), (20, 7), (30, 25), (30, 60), (45, 40), (60, 15), (60, 80), (90, 40)] {
                let what = format!("{wanted} of {before}, and {burst} more before load {at}");
                let bench = Bench::new();
                let (result, next) = join_during(&bench, Start::Sequence(wanted), before, at, burst);
                let oldest = bench.follower().sequence();
                let again = bench.try_follower(Start::Sequence(wanted)).map(|reader| reader.sequence());
                match result {
                    Ok(mut reader) => {
                        assert_eq!(reader.sequence(), wanted, "{what}");
                        if wanted >= oldest && wanted < next {
                            receive_whole(&mut reader).unwrap_or_else(|stop| panic!("{what}: {stop:?}"));
                        }
                        joined += 1;
                    }
                    Err(refused @ JoinError::SequenceGone { oldest: told }) => {
                        assert!(told == oldest && wanted < oldest, "{what}: {told} of {oldest}");
                        assert_eq!(again, Err(refused), "{what}");
                        gone += 1;
                    }
                    Err(JoinError::SequenceNotYet { next: told }) => {
                        assert!(told == next && wanted > next, "{what}: {told} of {next}");
                        not_yet += 1;
                    }
                    Err(other) => panic!("{what}: {other:?}"),
                }
            }
        }
    }
    assert!(joined > 100 && gone > 200 && not_yet > 200, "{joined} joined, {gone} gone, {not_yet} not yet");
}

#[test]
fn a_join_at_the_newest_record_is_never_refused_and_comes_no_earlier() {
    for before in [0, 10, 100] {
        for at in 1..60 {
            for burst in [1, 7, 40, 100, 300] {
                let bench = Bench::new();
                let (joined, next) = join_during(&bench, Start::Newest, before, at, burst);
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
        let joined = bench.try_follower(start).map(|reader| reader.sequence());
        assert_eq!(joined, Err(JoinError::Busy), "{start:?}");
        bench.ring.tell_the_truth();
    }
}
