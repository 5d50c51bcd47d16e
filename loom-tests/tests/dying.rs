//! A party dies behind each of its stores while the others go on (I4, I5), in every order of steps: see `crash.rs` for all the
//! stores of a long life, on the words of one thread.

use loom_tests::models::crash;

#[test]
fn a_follower_counts_exactly_whatever_store_the_writer_dies_behind() {
    crash::FOLLOWED.check();
}

#[test]
fn a_lossless_reader_misses_nothing_whatever_store_the_writer_dies_behind() {
    crash::HELD.check();
}

#[test]
fn a_follower_counts_exactly_whatever_store_a_successor_dies_behind() {
    crash::SUCCESSOR.check();
}

#[test]
fn a_reader_holds_nobody_whatever_store_it_dies_behind() {
    crash::READER.check();
}

#[test]
fn a_reader_is_woken_whatever_store_another_sleeper_dies_behind() {
    crash::SLEEPER.check();
}

#[test]
fn a_reader_that_sleeps_is_woken_whatever_store_the_writer_dies_behind() {
    crash::WAKER.check();
}

#[test]
fn a_reader_learns_of_the_close_whatever_store_the_writer_dies_behind() {
    crash::CLOSER.check();
}

#[test]
fn a_reader_gets_its_token_whatever_store_another_sleeper_dies_behind() {
    crash::SEMAPHORE_SLEEPER.check();
}

#[test]
fn a_reader_gets_a_token_whatever_store_the_writer_dies_behind() {
    crash::SEMAPHORE_WAKER.check();
}
