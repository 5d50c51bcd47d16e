//! Lossless readers (I2): join during publish, back-pressure, leave, slots. One writer, one or two readers, with two or three
//! preemptions.

use loom_tests::models::registry;

#[test]
fn a_reader_that_joins_at_the_oldest_record_misses_nothing() {
    registry::OLDEST.check();
}

#[test]
fn a_reader_that_joins_at_the_newest_record_misses_nothing() {
    registry::NEWEST.check();
}

#[test]
fn there_is_always_a_boundary_to_join_at() {
    registry::CHASED.check();
}

#[test]
fn a_reader_that_joins_at_the_newest_record_refuses_nothing() {
    registry::UNOBTRUSIVE.check();
}

#[test]
fn the_writer_never_overwrites_what_a_lossless_reader_has_not_read() {
    registry::BACK_PRESSURE.check();
}

#[test]
fn the_slowest_lossless_reader_holds_the_writer() {
    registry::SLOWEST.check();
}

#[test]
fn a_slot_that_changes_hands_holds_the_writer_for_its_new_owner() {
    registry::REUSED.check();
}

#[test]
fn two_readers_never_share_a_slot() {
    registry::JOINERS.check();
}

#[test]
fn a_reader_that_leaves_holds_nobody() {
    registry::LEAVE.check();
}

#[test]
fn a_reader_that_rejoins_misses_nothing_from_there_on() {
    registry::REJOINED.check();
}

#[test]
fn two_readers_never_get_the_same_slot() {
    registry::ONE_SLOT.check();
}

#[test]
fn a_lossy_reader_counts_exactly_from_where_it_joined() {
    registry::LOSSY.check();
}

#[test]
fn a_lossy_reader_beside_a_lossless_one_misses_nothing_either() {
    registry::BESIDE.check();
}

#[test]
fn a_reader_that_is_passed_over_is_told_exactly() {
    registry::EVICTED.check();
}
