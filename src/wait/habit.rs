//! How long to poll before a sleep, learnt from how long the waits before took.
//!
//! A sleep costs about as much as [`MOST_STEPS`] of polling: to poll for as long as that and then to sleep costs at most twice what
//! the best choice would have, whatever comes. That is where every handle begins. Where waits are usually longer, the polling is
//! wasted each time, so it becomes shorter; as soon as they are short again, it becomes as long as it was.
//!
//! ```text
//!   steps of polling
//!   MOST ───────────────┐
//!                       └───╲                  the estimate: a moving mean of the lengths of the waits, of which
//!                            ───╲              none counts for more than LONGEST: a pause of an hour is one long wait
//!   LEAST                        ───────────
//!        0             MOST            LONGEST
//! ```
//! Lengths are counted in steps, which are about a microsecond each, so that the clock is asked for sleeps only. A sleeper cannot tell
//! how long it was that nothing came, and how long to fall asleep and to wake took: so all but what is beyond doubt is
//! taken off, or it would go on sleeping early through what comes in time.

use std::time::Duration;

/// Steps of polling before a sleep: at least, so that what comes at once is not slept through, and is learnt from.
const LEAST_STEPS: u32 = 2;
/// At most: about as long as a wake takes.
pub(super) const MOST_STEPS: u32 = 32;
/// No wait counts for more.
const LONGEST_STEPS: u32 = 4 * MOST_STEPS;
/// So much of a sleep may be falling asleep and waking.
const SLEEP_ADDS_STEPS: u32 = 3 * MOST_STEPS;
/// Each wait moves the estimate by so much of the difference: 1 / 2^3.
const WEIGHT: u32 = 3;
/// Parts of a step that the estimate is kept in.
const PARTS: u32 = 64;

/// What one handle knows of its waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habit {
    /// The mean length, in parts of steps.
    mean: u32,
    /// How long the wait that is under way, or was the last one, polled, in steps.
    polled: u32,
    /// How long it slept, and to fall asleep and to wake took, in steps.
    slept: u32,
}

impl Habit {
    /// A wait begins: how many steps to poll for, before it sleeps.
    pub(super) fn begin(&mut self) -> u32 {
        let mut length = self.polled;
        if self.slept > 0 {
            // It did not come in time, perhaps by little.
            length = length.saturating_add(self.slept).saturating_sub(SLEEP_ADDS_STEPS).max(MOST_STEPS);
        }
        let length = length.min(LONGEST_STEPS) * PARTS;
        // The same as mean + (length - mean) / 8, without a sign, and never stuck short of the length.
        self.mean = (self.mean * ((1 << WEIGHT) - 1) + length) >> WEIGHT;
        (self.polled, self.slept) = (0, 0);
        self.patience()
    }

    /// The wait took another step of polling.
    pub(super) fn polled(&mut self) {
        self.polled = self.polled.saturating_add(1);
    }

    /// The wait took a sleep.
    pub(super) fn slept(&mut self, time: Duration) {
        let steps = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.slept = self.slept.saturating_add(steps.max(1));
    }

    /// Steps of polling that the estimate is worth.
    fn patience(&self) -> u32 {
        let spare = (LONGEST_STEPS * PARTS).saturating_sub(self.mean);
        // All of it up to `MOST_STEPS`, none of it from `LONGEST_STEPS` on.
        (spare * MOST_STEPS / ((LONGEST_STEPS - MOST_STEPS) * PARTS)).clamp(LEAST_STEPS, MOST_STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait for something that comes after so many microseconds; a sleeper is so much too late. Answers its patience, and whether
    /// it slept.
    fn wait(habit: &mut Habit, comes_after: u32, too_late: u32) -> (u32, bool) {
        let patience = habit.begin();
        let polls = comes_after.max(1).min(patience);
        (0..polls).for_each(|_| habit.polled());
        let sleeps = comes_after > patience;
        if sleeps {
            habit.slept(Duration::from_micros(u64::from(comes_after - patience + too_late)));
        }
        (patience, sleeps)
    }

    /// The patience after many such waits.
    fn used_to(habit: &mut Habit, comes_after: u32) -> u32 {
        (0..100).map(|_| wait(habit, comes_after, 20).0).last().unwrap_or_default()
    }

    #[test]
    fn at_first_it_polls_for_as_long_as_a_wake_takes() {
        assert_eq!(Habit::default().begin(), MOST_STEPS);
    }

    #[test]
    fn what_comes_in_time_is_polled_for() {
        for comes_after in [0, 1, 5, MOST_STEPS - 1, MOST_STEPS] {
            let mut habit = Habit::default();
            for _ in 0..100 {
                assert_eq!(wait(&mut habit, comes_after, 20), (MOST_STEPS, false), "{comes_after}");
            }
        }
    }

    #[test]
    fn what_comes_much_later_is_slept_for_early() {
        let mut habit = Habit::default();
        let least = [300, 10_000, 3_600_000_000].map(|comes_after| used_to(&mut habit, comes_after));
        assert_eq!(least, [LEAST_STEPS; 3]);
        // The longer, the less.
        let patience = [33, 100, 130, 160, 180, 240].map(|comes_after| used_to(&mut Habit::default(), comes_after));
        assert!(patience.is_sorted_by(|a, b| a >= b) && patience[0] > patience[5], "{patience:?}");
        assert!(patience.iter().all(|steps| (LEAST_STEPS..=MOST_STEPS).contains(steps)));
    }

    #[test]
    fn a_rare_pause_changes_little() {
        let mut habit = Habit::default();
        for round in 0..1000 {
            // One of twenty waits is an hour.
            let (patience, slept) = wait(&mut habit, if round % 20 == 19 { u32::MAX } else { 3 }, 20);
            assert!(patience == MOST_STEPS && slept == (round % 20 == 19), "round {round}: {patience}");
        }
    }

    #[test]
    fn it_learns_in_some_waits_and_forgets_in_some() {
        // Whatever a wake takes, as long as it is less than the longest wait that counts.
        for too_late in [0, 20, 40, 80] {
            for comes_after in [1, 3, 10, 25] {
                let mut habit = Habit::default();
                assert_eq!(used_to(&mut habit, 100_000), LEAST_STEPS);
                let waits = (0..60).position(|_| wait(&mut habit, comes_after, too_late) == (MOST_STEPS, false));
                assert!(waits.is_some(), "{comes_after} and {too_late}: {habit:?}");
                let waits = (0..60).position(|_| wait(&mut habit, 100_000, too_late).0 == LEAST_STEPS);
                assert!(waits.is_some_and(|waits| waits > 2), "{comes_after} and {too_late}: {waits:?}");
            }
        }
    }

    #[test]
    fn no_length_overflows() {
        let mut habit = Habit { mean: 0, polled: u32::MAX - 1, slept: u32::MAX - 1 };
        (0..3).for_each(|_| habit.polled());
        assert!((0..100).all(|_| {
            habit.slept(Duration::MAX);
            (LEAST_STEPS..=MOST_STEPS).contains(&habit.begin())
        }));
    }
}
