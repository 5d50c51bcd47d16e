//! Sleep and wake in both directions (I4): a lost wakeup is a deadlock. One or two readers; exhaustive for one sleeper, two or
//! three preemptions else.

use loom_tests::models::notify;

#[test]
fn a_record_wakes_the_reader_that_sleeps_for_it() {
    notify::SLEEPER.check();
}

#[test]
fn a_record_wakes_all_readers_that_sleep_for_it() {
    notify::SLEEPERS.check();
}

#[test]
fn who_falls_asleep_while_another_is_woken_is_woken_by_the_next() {
    notify::NEWCOMER.check();
}

#[test]
fn a_reader_that_cannot_sleep_receives_everything() {
    notify::AWAKE.check();
}

#[test]
fn room_wakes_the_writer_that_sleeps_for_it() {
    notify::ROOM.check();
}

#[test]
fn room_wakes_the_writer_that_sleeps_for_it_again() {
    notify::ROOM_AGAIN.check();
}

#[test]
fn a_writer_that_cannot_sleep_finds_room() {
    notify::ROOM_AWAKE.check();
}

#[test]
fn each_step_of_a_reader_wakes_the_writer_that_sleeps_for_it() {
    notify::ROOM_IN_STEPS.check();
}

#[test]
fn the_last_of_two_readers_wakes_the_writer() {
    notify::ROOM_OF_TWO.check();
}

#[test]
fn a_reader_that_leaves_wakes_the_writer() {
    notify::LEAVER.check();
}

#[test]
fn a_batch_that_waits_for_room_has_woken_its_readers() {
    notify::BATCH.check();
}

#[test]
fn a_record_wakes_a_reader_whose_last_sleep_timed_out() {
    notify::TIMED_OUT.check();
}

#[test]
fn a_record_wakes_a_reader_beside_one_that_gave_up() {
    notify::CANCELLED.check();
}
