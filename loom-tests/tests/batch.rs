//! Batches (I1): prefixes, in order, at once. One writer, one reader, exhaustive.

use loom_tests::models::batch;

#[test]
fn a_batch_appears_at_once() {
    batch::AT_ONCE.check();
}

#[test]
fn a_run_of_a_batch_is_received_whole() {
    batch::RUNS.check();
}

#[test]
fn no_old_payload_follows_a_batch() {
    batch::PHANTOM.check();
}

#[test]
fn a_batch_longer_than_the_ring_is_received_as_prefixes() {
    batch::LONG.check();
}

#[test]
fn a_batch_that_finds_no_room_has_committed_what_it_staged() {
    batch::HELD_UP.check();
}

#[test]
fn an_observer_sees_a_batch_at_once() {
    batch::OBSERVED.check();
}
