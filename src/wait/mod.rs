//! How a thread waits: spin, yield, or sleep on a futex.
//!
//! ```text
//!   a receive finds nothing ──▶ back off, if it came at the end of a streak ──▶ poll, with a pause between two polls
//!                                                                                  │ Spin: for ever
//!                                                                                  │ Yield: then give the processor away
//!                                                                                  └ Park: then sleep, a slice at a time
//! ```
//! The decisions of the sleeping protocol are the ring's (`ring::notify`); here are its pace and the system calls.

pub(crate) mod futex;
pub(crate) mod membarrier;

use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

/// What a blocking call does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency, for a processor of its own.
    Spin,
    /// Polls for a short while, then yields the processor between two polls. Never sleeps, so it still costs a core.
    Yield,
    /// Polls for about 30 microseconds, then sleeps until it is woken: next to no processor time while idle.
    #[default]
    Park,
    /// Sleeps at once: for threads that share their core with the other side.
    ParkAtOnce,
}

/// Longest sleep without a look. Who clears a flag may be killed before it wakes the sleeper: then this is the delay.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Polls before a parking waiter sleeps: about as long as a wake takes, which is the competitive choice.
const POLLS_BEFORE_PARK: u32 = 1000;
/// Polls between two looks at the clock, which costs as much as a poll.
const POLLS_PER_CLOCK: u32 = 32;

/// From this many records without an empty poll on, a stream is a streak.
const STREAK: u32 = 4;
/// Fewest and most pauses of the back-off after a streak.
const BACK_OFF: (u32, u32) = (16, 256);

/// The pace of one handle's waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) strategy: WaitStrategy,
    pub(crate) slice: Duration,
    /// Records since the last empty poll.
    streak: u32,
}

/// What to do before the next poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Poll,
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
    polls: u32,
    backoff: Backoff,
}

impl Pace {
    pub(crate) fn new(strategy: WaitStrategy, slice: Duration) -> Pace {
        Pace { strategy, slice, streak: 0 }
    }

    /// A record came without waiting.
    #[inline(always)]
    pub(crate) fn progress(&mut self) {
        self.streak = self.streak.saturating_add(1);
    }

    /// Begins a wait. A reader that has caught up with a stream backs off before it polls again: each poll takes the line
    /// that the writer is about to write away from it (64-byte records: 54 against 200 million per second).
    #[cold]
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> Waiting {
        if self.streak >= STREAK {
            for _ in 0..self.streak.clamp(BACK_OFF.0, BACK_OFF.1) {
                core::hint::spin_loop();
            }
        }
        self.streak = 0;
        let Pace { strategy, slice, .. } = *self;
        Waiting { strategy, slice, deadline, polls: 0, backoff: Backoff::new() }
    }
}

impl Waiting {
    /// Paces the next poll.
    pub(crate) fn step(&mut self) -> Step {
        self.polls = self.polls.saturating_add(1);
        let parks = match self.strategy {
            WaitStrategy::Spin | WaitStrategy::Yield => false,
            WaitStrategy::Park => self.polls > POLLS_BEFORE_PARK,
            WaitStrategy::ParkAtOnce => true,
        };
        let mut slice = self.slice;
        if let Some(deadline) = self.deadline
            && (parks || self.strategy == WaitStrategy::Yield || self.polls.is_multiple_of(POLLS_PER_CLOCK))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Step::TimedOut;
            }
            slice = slice.min(left);
        }
        if parks {
            return Step::Park(slice);
        }
        if self.strategy == WaitStrategy::Yield {
            self.backoff.snooze();
        } else {
            core::hint::spin_loop();
        }
        Step::Poll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(strategy: WaitStrategy, deadline: Option<Instant>, most: u32) -> Vec<Step> {
        let mut waiting = Pace::new(strategy, SLICE).wait(deadline);
        (0..most).map(|_| waiting.step()).collect()
    }

    #[test]
    fn park_polls_first_and_then_sleeps_for_a_slice() {
        let steps = steps(WaitStrategy::Park, None, POLLS_BEFORE_PARK + 2);
        assert!(steps[..POLLS_BEFORE_PARK as usize].iter().all(|step| *step == Step::Poll));
        assert_eq!(steps[POLLS_BEFORE_PARK as usize..], [Step::Park(SLICE), Step::Park(SLICE)]);
    }

    #[test]
    fn spin_and_yield_never_sleep() {
        for strategy in [WaitStrategy::Spin, WaitStrategy::Yield] {
            assert!(steps(strategy, None, 3000).iter().all(|step| *step == Step::Poll));
        }
    }

    #[test]
    fn every_strategy_ends_at_a_deadline_that_has_passed() {
        use WaitStrategy::{Park, ParkAtOnce, Spin, Yield};
        for strategy in [Spin, Yield, Park, ParkAtOnce] {
            assert!(steps(strategy, Some(Instant::now()), POLLS_PER_CLOCK).contains(&Step::TimedOut), "{strategy:?}");
        }
    }

    #[test]
    fn a_sleep_ends_no_later_than_the_deadline() {
        let soon = Instant::now() + SLICE / 2;
        assert!(matches!(steps(WaitStrategy::ParkAtOnce, Some(soon), 1)[..], [Step::Park(slice)] if slice <= SLICE / 2));
    }
}
