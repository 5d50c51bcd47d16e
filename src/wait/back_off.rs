//! How long a reader that has caught up with a stream keeps its hands off the writer's lines.
//!
//! Each poll takes the line that the writer is about to write away from it. Two rules, of which the longer wins:
//!
//! ```text
//!   records came one behind the other      ──▶ a pause for each of them
//!   records come one by one, each waited for:
//!        off ── now and then, for a few waits ──▶ on trial: rest before each poll
//!         ▲                                          │ do records now come faster by a fourth?
//!         ├── no, or a rest brought a single one ────┤
//!         │                                          ▼ yes
//!         └── come as fast without, or slower now ── on
//! ```
//! A writer that is held up by the polls speeds up when it is left alone, and one that has nothing to send does not: so
//! only a rate tells a stream from an answer, or from a steady trickle, that should be polled for. Where lines
//! travel slowly, between sockets for one, records of a few lines come up to three times as fast with rests.

use std::time::Instant;

/// From this many records without an empty poll on, a stream is a streak: an answer to a question is none.
const STREAK: u64 = 4;
/// Most pauses of the back-off after a streak, of one pause for each record. The more records one back-off lets come, the
/// longer is the next: a stream of more than one record in a pause soon runs at the longest one, and an answer of several records
/// to each question, of which no more come however long the pause, does not wait for long.
const MOST_PAUSES: u64 = 256;

/// Pauses of a rest: 2 to 6 microseconds.
const REST_PAUSES: u64 = 128;
/// Waits over which a rate is measured.
const WINDOW: u32 = 32;
/// As much, on trial: whoever would rather be polled for is late by a rest as often.
const TRIAL: u32 = 8;
/// Windows between two trials: so many at first, twice as many after each that failed. At the end one wait in a hundred
/// thousand is a rest in vain, and a stream that begins then is found after as many records.
const FIRST_TRIAL: u32 = 1;
const LAST_TRIAL: u32 = 1 << 15;
/// At the end as many while rests are on: eight records that come slowly cost little.
const LAST_TRIAL_WITHOUT: u32 = 64;

/// What one reader has learnt of its writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    /// The sequence number at the last empty poll: what came since then is the streak.
    streak_began: u64,
    /// Is there a rest before each poll?
    rests: bool,
    /// Is this window one that tries the other way?
    trial: bool,
    /// Nanoseconds for a record, in the last window before the trial.
    usual: f64,
    window: Option<Window>,
    /// Windows until the next trial, and then until the one after it.
    until_trial: u32,
    interval: u32,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    sequence: u64,
    waits: u32,
}

impl BackOff {
    pub(super) const fn new() -> BackOff {
        let (until_trial, interval) = (FIRST_TRIAL, FIRST_TRIAL);
        BackOff { streak_began: 0, rests: false, trial: false, usual: 0.0, window: None, until_trial, interval }
    }

    /// Pauses before the first poll for the record with this sequence number. Reads the clock once in a window.
    pub(super) fn pauses(&mut self, sequence: u64, clock: impl Fn() -> Instant) -> u64 {
        let streak = sequence.wrapping_sub(self.streak_began);
        self.streak_began = sequence;
        if self.rests && streak < 2 {
            // There is nothing to gain, whatever the rate.
            self.rests = false;
            self.failed();
            self.window = None;
        }
        match &mut self.window {
            None => self.open(sequence, clock()),
            Some(Window { waits: 1, began, sequence: first }) => {
                let (now, records) = (clock(), sequence.wrapping_sub(*first));
                let cost = now.saturating_duration_since(*began).as_nanos() as f64 / records.max(1) as f64;
                self.judge(cost);
                self.open(sequence, now);
            }
            Some(window) => window.waits -= 1,
        }
        let rest = if self.rests { REST_PAUSES } else { 0 };
        for_streak(streak).max(rest)
    }

    fn open(&mut self, sequence: u64, began: Instant) {
        let waits = if self.trial { TRIAL } else { WINDOW };
        self.window = Some(Window { began, sequence, waits });
    }

    /// A window is over, in which a record took so many nanoseconds.
    fn judge(&mut self, cost: f64) {
        if self.trial {
            let holds = if self.rests { cost * 1.25 <= self.usual } else { cost <= self.usual * 1.1 };
            if holds {
                (self.trial, self.usual) = (false, cost);
                // What looked like a gain may have been a burst: soon tried the other way.
                (self.interval, self.until_trial) = (FIRST_TRIAL, FIRST_TRIAL);
            } else {
                self.rests = !self.rests;
                self.failed();
            }
            return;
        }
        // Does a stream that rests were good for come more slowly now? It may have become a trickle.
        let slower = self.rests && cost > self.usual * 1.5;
        self.until_trial -= 1;
        if self.until_trial == 0 || slower {
            (self.trial, self.usual) = (true, cost);
            self.rests = !self.rests;
        }
    }

    /// The trial showed nothing: the next one is later.
    fn failed(&mut self) {
        self.trial = false;
        self.interval = (self.interval * 2).min(if self.rests { LAST_TRIAL_WITHOUT } else { LAST_TRIAL });
        self.until_trial = self.interval;
    }
}

/// Pauses after so many records that came one behind the other.
fn for_streak(streak: u64) -> u64 {
    if streak < STREAK { 0 } else { streak.min(MOST_PAUSES) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Nanoseconds of a pause.
    const PAUSE: u64 = 20;

    /// A writer and a reader that always catches up with it: what a wait behind so many pauses takes, and brings.
    struct Play<F> {
        back_off: BackOff,
        start: Instant,
        nanos: u64,
        sequence: u64,
        wait: F,
    }

    impl<F: FnMut(u64) -> (u64, u64)> Play<F> {
        fn new(wait: F) -> Self {
            Play { back_off: BackOff::new(), start: Instant::now(), nanos: 0, sequence: 0, wait }
        }

        /// So many waits; answers how many of them were rests.
        fn rests_in(&mut self, waits: u64) -> u64 {
            (0..waits).map(|_| u64::from(self.one() >= REST_PAUSES)).sum()
        }

        fn one(&mut self) -> u64 {
            let now = self.start + Duration::from_nanos(self.nanos);
            let pauses = self.back_off.pauses(self.sequence, || now);
            let (nanos, records) = (self.wait)(pauses * PAUSE);
            self.nanos += nanos;
            self.sequence += records;
            pauses
        }
    }

    /// A record takes 240 ns if it is polled for, else 80.
    fn held_up_by_polls(rest: u64) -> (u64, u64) {
        (rest + 240, rest / 80 + 1)
    }

    /// A record every 300 ns, whatever the reader does.
    fn trickle() -> impl FnMut(u64) -> (u64, u64) {
        let mut now = 0;
        move |rest| {
            let begin = now;
            now = (now + rest.max(1)).next_multiple_of(300);
            (now - begin, now / 300 - begin / 300)
        }
    }

    #[test]
    fn a_writer_that_polls_hold_up_is_left_alone() {
        let mut play = Play::new(held_up_by_polls);
        play.rests_in(100);
        let rests = play.rests_in(10_000);
        assert!(rests > 9_600, "{rests} of 10,000");
    }

    #[test]
    fn a_trickle_is_polled_for() {
        let mut play = Play::new(trickle());
        play.rests_in(10_000);
        let rests = play.rests_in(1_000_000);
        assert!(rests < 100, "{rests} of 1,000,000");
    }

    #[test]
    fn a_single_answer_to_each_question_is_polled_for() {
        let mut play = Play::new(|rest| (rest.max(400), 1));
        assert!(play.rests_in(10_000) < 10);
        assert!(play.rests_in(1_000_000) < 10);
    }

    #[test]
    fn an_answer_of_several_records_does_not_wait_longer_than_it_takes_to_come() {
        assert_eq!([0, 1, 2, STREAK - 1].map(for_streak), [0; 4]);
        // A pause takes as long as several records: more than one for each is time lost when no more come.
        assert!((0..1000).all(|streak| for_streak(streak) <= streak));
        assert_eq!([MOST_PAUSES, MOST_PAUSES + 1, u64::MAX].map(for_streak), [MOST_PAUSES; 3], "a stream");
        let mut play = Play::new(|rest| (500 + rest.max(100), 8));
        play.rests_in(10_000);
        assert!(play.rests_in(1_000_000) < 200);
    }

    #[test]
    fn a_stream_that_becomes_a_trickle_is_polled_for_again() {
        let streams = std::cell::Cell::new(true);
        let mut trickle = trickle();
        let mut play = Play::new(|rest| if streams.get() { held_up_by_polls(rest) } else { trickle(rest) });
        play.rests_in(10_000);
        streams.set(false);
        let rests = play.rests_in(10_000);
        assert!(rests < 200, "{rests} of 10,000");
        streams.set(true);
        play.rests_in(u64::from(2 * LAST_TRIAL * WINDOW));
        let rests = play.rests_in(10_000);
        assert!(rests > 9_600, "{rests} of 10,000");
    }

    #[test]
    fn a_burst_behind_a_silence_is_no_gain() {
        let mut trickle = trickle();
        let mut waits = 0u64;
        // A millisecond of silence before each thousand records.
        let mut play = Play::new(|rest| {
            let (nanos, records) = trickle(rest);
            waits += 1;
            if waits.is_multiple_of(1000) { (nanos + 1_000_000, records) } else { (nanos, records) }
        });
        play.rests_in(10_000);
        let rests = play.rests_in(1_000_000);
        assert!(rests < 20_000, "{rests} of 1,000,000");
    }
}
