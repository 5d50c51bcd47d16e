//! Close (I1, I4): all records, then `Closed`, for readers that poll and for readers that sleep. Exhaustive for one reader.

use loom_tests::models::close;

#[test]
fn a_closed_ring_is_read_to_its_end() {
    close::READING.check();
}

#[test]
fn close_wakes_a_reader_that_sleeps() {
    close::SLEEPING.check();
}

#[test]
fn close_wakes_all_readers_that_sleep() {
    close::SLEEPERS.check();
}

#[test]
fn close_reaches_a_reader_that_cannot_sleep() {
    close::AWAKE.check();
}
