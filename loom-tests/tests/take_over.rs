//! Take-over (I4, I5). What a writer leaves that dies behind any of its stores is in `crash.rs`.

use loom_tests::models::take_over;

#[test]
fn a_reader_carries_on_over_a_take_over() {
    take_over::READING.check();
}

#[test]
fn a_successor_wakes_the_reader_that_sleeps() {
    take_over::SLEEPING.check();
}

#[test]
fn a_successor_opens_the_ring_again() {
    take_over::REOPENED.check();
}
