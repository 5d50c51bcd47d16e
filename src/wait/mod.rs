//! How a thread waits: spin, yield, or sleep, on a futex or a semaphore.
//!
//! ```text
//!   a receive finds nothing ──▶ back off, if more comes for it (`back_off`) ──▶ poll, with a pause between two polls
//!                                                                                  │ Spin: for ever
//!                                                                                  │ Yield: then give the processor away
//!                                                                                  └ Park: then sleep, a slice at a time;
//!                                                                                     how soon is learnt (`habit`)
//! ```
//! The decisions of the sleeping protocol are the ring's (`ring::notify`); here are its pace and the system calls.

mod back_off;
pub(crate) mod fork;
pub(crate) mod futex;
mod habit;
pub(crate) mod membarrier;
pub(crate) mod semaphore;

use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

use back_off::BackOff;
use habit::Habit;

/// What a blocking call does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency, for a processor of its own. (In a stream, a reader that has caught up
    /// rests for some microseconds between two polls if records come faster for it.)
    Spin,
    /// Polls for a short while, then yields the processor between two polls. Never sleeps, so it still costs a core.
    Yield,
    /// Polls for about 30 microseconds, then sleeps until it is woken: next to no processor time while idle. Where the waits of this
    /// handle usually take much longer than that, it polls for less, down to 2 microseconds.
    #[default]
    Park,
    /// Sleeps at once: for threads that share their core with the other side.
    ParkAtOnce,
}

/// Longest sleep without a look. Who clears a flag may be killed before it wakes the sleeper: then this is the delay.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Polls between two looks at everything else: the clock, `closed`, `limit`.
const POLLS_PER_STEP: u32 = 32;

/// The pace of one handle's waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) strategy: WaitStrategy,
    pub(crate) slice: Duration,
    back_off: BackOff,
    habit: Habit,
}

/// What to do before the next poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Poll up to this many times, with a pause before each poll.
    Poll(u32),
    /// Sleep for at most this long.
    Park(Duration),
    TimedOut,
}

/// One wait, from the first empty poll to the end.
#[derive(Debug)]
pub(crate) struct Waiting {
    strategy: WaitStrategy,
    slice: Duration,
    deadline: Option<Instant>,
    /// Steps of polling that are left before a sleep.
    patience: u32,
    backoff: Backoff,
}

impl Pace {
    /// Of a writer.
    pub(crate) fn new(strategy: WaitStrategy, slice: Duration) -> Pace {
        Pace { strategy, slice, back_off: BackOff::new(true, 0), habit: Habit::default() }
    }

    /// Of a reader of a ring of so many bytes.
    pub(crate) fn of_reader(self, lossless: bool, capacity: u64) -> Pace {
        Pace { back_off: BackOff::new(lossless, capacity), ..self }
    }

    /// Begins a wait before the record with this sequence number. A reader that has caught up with a stream may back off
    /// before it polls again.
    #[cold]
    pub(crate) fn wait_for_record(&mut self, sequence: u64, deadline: Option<Instant>) -> Waiting {
        if self.strategy == WaitStrategy::ParkAtOnce {
            // The writer may need this very processor.
            return self.wait(deadline);
        }
        for _ in 0..self.back_off.pauses(sequence, Instant::now) {
            core::hint::spin_loop();
        }
        self.wait(deadline)
    }

    /// Begins a wait.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> Waiting {
        let Pace { strategy, slice, .. } = *self;
        let patience = self.habit.begin();
        Waiting { strategy, slice, deadline, patience, backoff: Backoff::new() }
    }

    /// The wait that began last took a sleep, which began then.
    pub(crate) fn slept_since(&mut self, began: Instant) {
        self.habit.slept(began.elapsed());
    }
}

impl Waiting {
    /// What to do before the next look at everything. `pace` is the one that the wait began with.
    pub(crate) fn step(&mut self, pace: &mut Pace) -> Step {
        let mut slice = self.slice;
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Step::TimedOut;
            }
            slice = slice.min(left);
        }
        match self.strategy {
            WaitStrategy::Spin => Step::Poll(POLLS_PER_STEP),
            WaitStrategy::Yield => {
                self.backoff.snooze();
                Step::Poll(1)
            }
            WaitStrategy::Park if self.patience > 0 => {
                self.patience -= 1;
                pace.habit.polled();
                Step::Poll(POLLS_PER_STEP)
            }
            WaitStrategy::Park | WaitStrategy::ParkAtOnce => Step::Park(slice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::habit::MOST_STEPS;
    use super::*;

    fn steps(strategy: WaitStrategy, deadline: Option<Instant>, most: u32) -> Vec<Step> {
        let mut pace = Pace::new(strategy, SLICE);
        let mut waiting = pace.wait(deadline);
        (0..most).map(|_| waiting.step(&mut pace)).collect()
    }

    #[test]
    fn park_polls_first_and_then_sleeps_for_a_slice() {
        let steps = steps(WaitStrategy::Park, None, MOST_STEPS + 2);
        let (first, last) = steps.split_at(MOST_STEPS as usize);
        assert!(first.iter().all(|step| *step == Step::Poll(POLLS_PER_STEP)));
        assert_eq!(last, [Step::Park(SLICE), Step::Park(SLICE)]);
    }

    #[test]
    fn a_park_that_always_sleeps_long_soon_polls_less() {
        let mut pace = Pace::new(WaitStrategy::Park, SLICE);
        let mut polls = Vec::new();
        for _ in 0..50 {
            let mut waiting = pace.wait(None);
            polls.push(std::iter::from_fn(|| (waiting.step(&mut pace) != Step::Park(SLICE)).then_some(())).count());
            // As if it had slept for a second.
            let began = Instant::now().checked_sub(Duration::from_secs(1)).expect("a machine that runs for a second");
            pace.slept_since(began);
        }
        assert!(polls[0] == MOST_STEPS as usize && polls[49] < 4, "{polls:?}");
    }

    /// A nap takes a millisecond, whenever something came: who learnt from naps would soon nap through everything.
    #[test]
    fn a_park_that_naps_polls_for_as_long_as_ever() {
        let mut pace = Pace::new(WaitStrategy::Park, SLICE);
        for _ in 0..50 {
            let mut waiting = pace.wait(None);
            assert!((0..MOST_STEPS).all(|_| waiting.step(&mut pace) == Step::Poll(POLLS_PER_STEP)));
            assert_eq!(waiting.step(&mut pace), Step::Park(SLICE));
        }
    }

    #[test]
    fn spin_and_yield_never_sleep() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Yield] {
            assert!(steps(strategy, None, 3000).iter().all(|step| matches!(step, Step::Poll(_))));
        }
    }

    #[test]
    fn every_strategy_ends_at_a_deadline_that_has_passed() {
        use WaitStrategy::{Park, ParkAtOnce, Spin, Yield};
        for strategy in [Spin, Yield, Park, ParkAtOnce] {
            assert_eq!(steps(strategy, Some(Instant::now()), 1), [Step::TimedOut], "{strategy:?}");
        }
    }

    #[test]
    fn a_sleep_ends_no_later_than_the_deadline() {
        let soon = Instant::now() + SLICE / 2;
        assert!(
            matches!(steps(WaitStrategy::ParkAtOnce, Some(soon), 1)[..], [Step::Park(slice)] if slice <= SLICE / 2)
        );
    }
}
