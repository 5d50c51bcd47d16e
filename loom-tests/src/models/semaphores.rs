//! Sleep and wake with a semaphore for each slot and one for the writer, in both directions (I4): the models of
//! [`notify`], [`close`] and [`take_over`] again, where a lost token is a deadlock, and more tokens than
//! [`MOST_TOKENS`](crate::memory::MOST_TOKENS) fail as well.

use super::{close, notify, take_over};
use crate::model::Model;

/// Two records for one sleeper.
pub const SLEEPER: Model = notify::SLEEPER.with_semaphores("a_record_wakes_the_reader_on_its_semaphore", 1);

/// Three records for one sleeper: what one sleep leaves must not be in the way of the next.
pub const SLEEPER_AGAIN: Model = Model {
    words: &[0, 0, 0],
    preemptions: Some(2),
    ..SLEEPER.with_semaphores("a_record_wakes_the_reader_on_its_semaphore_again", 1)
};

/// One record for two sleepers.
pub const SLEEPERS: Model =
    Model { words: &[0], ..notify::SLEEPERS.with_semaphores("a_record_wakes_all_readers_on_their_semaphores", 2) };

/// Two records: one sleeper is woken by the first, while another goes to sleep for the second.
pub const NEWCOMER: Model =
    notify::NEWCOMER.with_semaphores("who_falls_asleep_while_another_is_woken_is_woken_by_the_next_record", 2);

/// A sleep times out, and the token comes later.
pub const TIMED_OUT: Model = Model {
    preemptions: Some(2),
    ..notify::TIMED_OUT.with_semaphores("a_record_wakes_a_reader_whose_last_sleep_on_its_semaphore_timed_out", 1)
};

/// A reader's sleep times out, and it goes away; the other one gets its own token.
pub const CANCELLED: Model =
    notify::CANCELLED.with_semaphores("a_record_wakes_a_reader_on_its_semaphore_beside_one_that_gave_up", 2);

/// The writer sleeps for room, the reader for records.
pub const ROOM: Model = notify::ROOM.with_semaphores("room_wakes_the_writer_on_its_semaphore", 1);

/// As [`ROOM`], twice.
pub const ROOM_AGAIN: Model = notify::ROOM_AGAIN.with_semaphores("room_wakes_the_writer_on_its_semaphore_again", 1);

/// The writer sleeps twice, the reader never.
pub const ROOM_IN_STEPS: Model =
    notify::ROOM_IN_STEPS.with_semaphores("each_step_of_a_reader_wakes_the_writer_on_its_semaphore", 1);

/// The writer sleeps for room that two readers make.
pub const ROOM_OF_TWO: Model =
    notify::ROOM_OF_TWO.with_semaphores("the_last_of_two_readers_wakes_the_writer_on_its_semaphore", 2);

/// The writer sleeps for room that a reader holds which leaves.
pub const LEAVER: Model = notify::LEAVER.with_semaphores("a_reader_that_leaves_posts_for_the_writer", 1);

/// A reader sleeps when the ring is closed.
pub const CLOSE: Model = close::SLEEPING.with_semaphores("close_wakes_a_reader_on_its_semaphore", 1);

/// The dead writer had woken the reader once before; it sleeps when the successor comes.
pub const SUCCESSOR: Model = take_over::SLEEPING.with_semaphores("a_successor_wakes_the_reader_on_its_semaphore", 1);

/// All of this file.
pub const ALL: &[Model] = &[
    SLEEPER,
    SLEEPER_AGAIN,
    SLEEPERS,
    NEWCOMER,
    TIMED_OUT,
    CANCELLED,
    ROOM,
    ROOM_AGAIN,
    ROOM_IN_STEPS,
    ROOM_OF_TWO,
    LEAVER,
    CLOSE,
    SUCCESSOR,
];
