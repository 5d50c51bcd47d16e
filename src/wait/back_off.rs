//! How long a reader that has caught up with a stream keeps its hands off the writer's lines.
//!
//! Each poll takes the line that the writer is about to write away from it. Two rules, of which the longer wins:
//!
//! ```text
//!   records came one behind the other      ──▶ a pause for each of them
//!   records come one by one, each waited for:
//!        off ── now and then, for eight waits ──▶ on trial: rest before each poll
//!         ▲                                          │ do records now come faster by a fourth?
//!         ├── no, or a rest brought a single one ────┤
//!         │                                          ▼ yes
//!         └── eight waits without are as good ────── on
//! ```
//! A writer that is held up by the polls speeds up when it is left alone, and one that has nothing to send does not: so
//! only a rate tells a stream from an answer, or from a steady trickle, that should be polled for. What is compared is
//! the median of eight waits either way, so that a silence here or there counts for nothing. Where lines
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
/// In a smaller ring a lossy reader that rests might be lapped meanwhile.
const LEAST_LOSSY_CAPACITY: u64 = 256 * 1024;
/// Waits that are measured, either way.
const SAMPLES: usize = 8;
/// Waits from one trial to the next: so many at first, twice as many after each that showed nothing. At the end one wait in a
/// hundred thousand is a rest in vain, and a stream that begins then is found after as many records.
const FIRST_INTERVAL: u32 = 32;
const LAST_INTERVAL: u32 = 1 << 20;
/// At the end as many while rests are on: eight records that come slowly cost little.
const LAST_INTERVAL_WITHOUT: u32 = 1 << 9;

/// What one reader has learnt of its writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    /// The sequence number at the last empty poll: what came since then is the streak.
    streak_began: u64,
    /// May there be rests at all?
    learns: bool,
    /// Is there a rest before each poll?
    rests: bool,
    /// Waits until the next trial, and then until the one after it.
    until_trial: u32,
    interval: u32,
    trial: Option<Trial>,
}

/// Waits as usual, and then as many the other way.
#[derive(Clone, Copy, Debug)]
struct Trial {
    began: Instant,
    sequence: u64,
    /// Nanoseconds for a record, wait by wait.
    costs: [f64; 2 * SAMPLES],
    count: usize,
}

impl BackOff {
    /// For a reader of a ring of so many bytes.
    pub(super) const fn new(lossless: bool, capacity: u64) -> BackOff {
        let learns = lossless || capacity >= LEAST_LOSSY_CAPACITY;
        let (until_trial, interval) = (FIRST_INTERVAL, FIRST_INTERVAL);
        BackOff { streak_began: 0, learns, rests: false, until_trial, interval, trial: None }
    }

    /// Pauses before the first poll for the record with this sequence number. Reads the clock during trials only.
    pub(super) fn pauses(&mut self, sequence: u64, clock: impl Fn() -> Instant) -> u64 {
        let streak = sequence.wrapping_sub(self.streak_began);
        self.streak_began = sequence;
        if self.learns {
            self.learn(streak, sequence, clock);
        }
        let rest = if self.rests { REST_PAUSES } else { 0 };
        for_streak(streak).max(rest)
    }

    fn learn(&mut self, streak: u64, sequence: u64, clock: impl Fn() -> Instant) {
        if self.rests && streak < 2 {
            // There is nothing to gain, whatever the rate.
            self.rests = false;
            self.wait_longer();
        }
        let Some(trial) = &mut self.trial else {
            self.until_trial -= 1;
            if self.until_trial == 0 {
                self.trial = Some(Trial { began: clock(), sequence, costs: [0.0; 2 * SAMPLES], count: 0 });
            }
            return;
        };
        let now = clock();
        let records = sequence.wrapping_sub(trial.sequence).max(1);
        trial.costs[trial.count] = now.saturating_duration_since(trial.began).as_nanos() as f64 / records as f64;
        (trial.began, trial.sequence, trial.count) = (now, sequence, trial.count + 1);
        if trial.count == SAMPLES {
            self.rests = !self.rests;
        } else if trial.count == 2 * SAMPLES {
            let (usual, other) = trial.costs.split_at_mut(SAMPLES);
            let (usual, other) = (median(usual), median(other));
            let holds = if self.rests { other * 1.25 <= usual } else { other <= usual * 1.1 };
            if holds {
                // It may have been chance: soon tried the other way.
                (self.interval, self.until_trial, self.trial) = (FIRST_INTERVAL, FIRST_INTERVAL, None);
            } else {
                self.rests = !self.rests;
                self.wait_longer();
            }
        }
    }

    /// The trial showed nothing: the next one is later.
    fn wait_longer(&mut self) {
        let last = if self.rests { LAST_INTERVAL_WITHOUT } else { LAST_INTERVAL };
        self.interval = (self.interval * 2).min(last);
        (self.until_trial, self.trial) = (self.interval, None);
    }
}

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
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
            Play { back_off: BackOff::new(true, 0), start: Instant::now(), nanos: 0, sequence: 0, wait }
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
        assert!(rests < 600, "{rests} of 10,000");
        streams.set(true);
        play.rests_in(u64::from(2 * LAST_INTERVAL));
        let rests = play.rests_in(10_000);
        assert!(rests > 9_600, "{rests} of 10,000");
    }

    #[test]
    fn silences_between_bursts_are_no_gain() {
        for silence in [10, 20, 40, 64, 80, 100, 1000] {
            for records in [2, 8] {
                let mut waits = 0u64;
                let mut play = Play::new(|rest| {
                    waits += 1;
                    (500 + rest.max(100) + if waits.is_multiple_of(silence) { 1_000_000 } else { 0 }, records)
                });
                play.rests_in(10_000);
                let rests = play.rests_in(1_000_000);
                assert!(rests < 1000, "{rests} of 1,000,000, {records} at a time, with a silence every {silence}");
            }
        }
    }

    #[test]
    fn a_lossy_reader_of_a_small_ring_does_not_rest() {
        let mut play = Play { back_off: BackOff::new(false, LEAST_LOSSY_CAPACITY - 1), ..Play::new(held_up_by_polls) };
        assert_eq!(play.rests_in(10_000), 0);
        let mut play = Play { back_off: BackOff::new(false, LEAST_LOSSY_CAPACITY), ..Play::new(held_up_by_polls) };
        assert!(play.rests_in(10_000) > 9_000);
    }
}
