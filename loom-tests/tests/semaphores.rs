//! Sleep and wake with semaphores (I4): a lost token is a deadlock, and too many tokens fail, too.

use loom_tests::models::semaphores;

#[test]
fn a_record_wakes_the_reader_on_its_semaphore() {
    semaphores::SLEEPER.check();
}

#[test]
fn a_record_wakes_the_reader_on_its_semaphore_again() {
    semaphores::SLEEPER_AGAIN.check();
}

#[test]
fn a_record_wakes_all_readers_on_their_semaphores() {
    semaphores::SLEEPERS.check();
}

#[test]
fn who_falls_asleep_while_another_is_woken_is_woken_by_the_next_record() {
    semaphores::NEWCOMER.check();
}

#[test]
fn room_wakes_the_writer_on_its_semaphore() {
    semaphores::ROOM.check();
}

#[test]
fn room_wakes_the_writer_on_its_semaphore_again() {
    semaphores::ROOM_AGAIN.check();
}

#[test]
fn each_step_of_a_reader_wakes_the_writer_on_its_semaphore() {
    semaphores::ROOM_IN_STEPS.check();
}

#[test]
fn the_last_of_two_readers_wakes_the_writer_on_its_semaphore() {
    semaphores::ROOM_OF_TWO.check();
}

#[test]
fn a_reader_that_leaves_posts_for_the_writer() {
    semaphores::LEAVER.check();
}

#[test]
fn close_wakes_a_reader_on_its_semaphore() {
    semaphores::CLOSE.check();
}

#[test]
fn a_successor_wakes_the_reader_on_its_semaphore() {
    semaphores::SUCCESSOR.check();
}

#[test]
fn a_record_wakes_a_reader_whose_last_sleep_on_its_semaphore_timed_out() {
    semaphores::TIMED_OUT.check();
}

#[test]
fn a_record_wakes_a_reader_on_its_semaphore_beside_one_that_gave_up() {
    semaphores::CANCELLED.check();
}
