//! Weak memory, one step at a time: what a load may see is decided by the orders of the accesses, not by when they run.
//!
//! Each word has the history of all its stores, in modification order, and each party a *view*: how far it has come in every
//! history. A load may see any store from there on.
//!
//! ```text
//!   release store     its message carries the party's view          relaxed store    ... the view of its last release fence
//!   acquire load      joins the message's view                      relaxed load     ... into what the next acquire fence joins
//!   SeqCst fence      joins the global view, both ways              addition, exchange   read the newest, carry its view on
//!   store             behind all that the party has seen of that word, but not always behind all that is there
//! ```
//! That is the machine of "promising semantics" without its promises, so it allows what C11 does, but for load buffering (a load
//! never sees a store that comes later), and but that additions and exchanges always read the newest.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::random::Random;

/// Most words that parties race for.
pub(super) const MOST_PLACES: usize = 128;

/// Between two stores that follow on each other: room for stores that come in between.
const STEP: i16 = 8;

/// How far back a load looks, in stores of the word.
const REACH: usize = 64;

/// How far a party has come in the history of each word. Small numbers, so that joining two is a few instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct View([i16; MOST_PLACES]);

impl View {
    const START: View = View([0; MOST_PLACES]);

    fn join(&mut self, other: &View) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}

/// A store in the history of a word.
#[derive(Clone, Copy, Debug)]
struct Message {
    time: i16,
    /// It read the one before it, so nothing comes in between.
    glued: bool,
    value: u64,
    /// What who reads it may join: an index.
    view: u32,
}

/// What one party knows.
#[derive(Clone, Debug)]
struct Observer {
    now: View,
    /// What an acquire fence would add; never less than `now`.
    acquired: View,
    /// What a relaxed store carries: the view of the last release fence.
    released: u32,
}

/// How badly memory behaves, in chances of 256.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weakness {
    /// A load looks for an older store.
    pub(super) stale: u64,
    /// A store that may come before others does.
    pub(super) early: u64,
}

/// The words that parties race for, and the semaphores.
#[derive(Debug)]
pub(super) struct WeakMemory {
    places: Vec<Vec<Message>>,
    views: Vec<View>,
    global: View,
    observers: Vec<Observer>,
    /// Tokens, and what who takes one joins.
    semaphores: Vec<(u64, View)>,
    weakness: Weakness,
    /// Loads that saw a store that was not the newest.
    pub(super) stale_loads: u64,
    /// Stores that came before others that were there.
    pub(super) early_stores: u64,
}

impl WeakMemory {
    pub(super) fn new() -> WeakMemory {
        WeakMemory {
            places: vec![Vec::new(); MOST_PLACES],
            views: Vec::new(),
            global: View::START,
            observers: Vec::new(),
            semaphores: Vec::new(),
            weakness: Weakness::default(),
            stale_loads: 0,
            early_stores: 0,
        }
    }

    /// Forgets everything, and begins with these values.
    pub(super) fn begin(&mut self, values: &[u64], parties: usize, semaphores: u64, weakness: Weakness) {
        assert!(values.len() <= MOST_PLACES, "{} words that parties race for", values.len());
        for (place, &value) in self.places.iter_mut().zip(values) {
            place.clear();
            place.push(Message { time: 0, glued: false, value, view: 0 });
        }
        self.views.clear();
        self.views.push(View::START);
        self.global = View::START;
        self.observers.clear();
        self.observers.resize(parties, Observer { now: View::START, acquired: View::START, released: 0 });
        self.semaphores.clear();
        self.semaphores.resize(semaphores as usize, (0, View::START));
        self.weakness = weakness;
    }

    fn last(&self, place: usize) -> Message {
        self.places[place][self.places[place].len() - 1]
    }

    /// The newest value.
    pub(super) fn newest(&self, place: usize) -> u64 {
        self.last(place).value
    }

    /// The first message of a word's history that a party may still see.
    fn first_visible(&self, party: usize, place: usize) -> usize {
        let (history, seen) = (&self.places[place], self.observers[party].now.0[place]);
        let mut first = history.len() - 1;
        while first > 0 && history[first - 1].time >= seen {
            first -= 1;
        }
        first
    }

    pub(super) fn load(&mut self, party: usize, place: usize, order: Ordering, random: &mut Random) -> u64 {
        let mut message = self.last(place);
        if message.time != self.observers[party].now.0[place] && random.chance(self.weakness.stale) {
            let (last, first) = (self.places[place].len() - 1, self.first_visible(party, place));
            let most = (last - first).min(REACH);
            // Most often the one before the newest: there the protocol stands or falls.
            let back = if random.chance(128) { random.below(most as u64 + 1) as usize } else { most.min(1) };
            message = self.places[place][last - back];
            self.stale_loads += u64::from(back > 0);
        }
        self.see(party, place, message, order);
        message.value
    }

    fn see(&mut self, party: usize, place: usize, message: Message, order: Ordering) {
        let observer = &mut self.observers[party];
        observer.now.0[place] = observer.now.0[place].max(message.time);
        observer.acquired.0[place] = observer.acquired.0[place].max(message.time);
        if message.view != 0 {
            let view = &self.views[message.view as usize];
            observer.acquired.join(view);
            if matches!(order, Acquire | AcqRel | SeqCst) {
                observer.now.join(view);
            }
        }
    }

    pub(super) fn store(&mut self, party: usize, place: usize, value: u64, order: Ordering, random: &mut Random) {
        let last = self.last(place).time;
        let mut at = self.places[place].len();
        let mut time = last + STEP;
        if self.observers[party].now.0[place] != last && random.chance(self.weakness.early) {
            let first = self.first_visible(party, place);
            let before = first + 1 + random.below((at - first) as u64) as usize;
            if before < at && !self.places[place][before].glued {
                let between = i16::midpoint(self.places[place][before - 1].time, self.places[place][before].time);
                if between > self.places[place][before - 1].time {
                    (at, time) = (before, between);
                    self.early_stores += 1;
                }
            }
        }
        assert!(time < i16::MAX - STEP, "more stores of one word than the model has numbers for");
        self.know(party, place, time);
        let view = if order == Relaxed { self.observers[party].released } else { self.keep(party) };
        self.places[place].insert(at, Message { time, glued: false, value, view });
    }

    fn know(&mut self, party: usize, place: usize, time: i16) {
        let observer = &mut self.observers[party];
        observer.now.0[place] = time;
        observer.acquired.0[place] = observer.acquired.0[place].max(time);
    }

    fn keep(&mut self, party: usize) -> u32 {
        self.views.push(self.observers[party].now);
        self.views.len() as u32 - 1
    }

    /// Reads the newest value, and stores what `change` makes of it, if anything.
    pub(super) fn update(
        &mut self,
        party: usize,
        place: usize,
        order: Ordering,
        change: impl FnOnce(u64) -> Option<u64>,
    ) -> u64 {
        let old = self.last(place);
        self.see(party, place, old, order);
        let Some(value) = change(old.value) else { return old.value };
        let time = old.time + STEP;
        assert!(time < i16::MAX - STEP, "more stores of one word than the model has numbers for");
        self.know(party, place, time);
        let own = if order == Relaxed { self.observers[party].released } else { self.keep(party) };
        let view = if old.view == 0 {
            own
        } else {
            // Who reads this also sees what stood behind the one that it replaced.
            let mut joined = self.views[own as usize];
            joined.join(&self.views[old.view as usize]);
            self.views.push(joined);
            self.views.len() as u32 - 1
        };
        self.places[place].push(Message { time, glued: true, value, view });
        old.value
    }

    pub(super) fn fence(&mut self, party: usize, order: Ordering) {
        if order != Release {
            self.observers[party].now = self.observers[party].acquired;
        }
        if order == SeqCst {
            self.global.join(&self.observers[party].now);
            let observer = &mut self.observers[party];
            (observer.now, observer.acquired) = (self.global, self.global);
        }
        if order != Acquire {
            self.observers[party].released = self.keep(party);
        }
    }

    /// An edge that is none of the ring's: what one party did, another sees.
    pub(super) fn hand_over(&mut self, from: usize, to: usize) {
        let view = self.observers[from].now;
        self.observers[to].now.join(&view);
        self.observers[to].acquired.join(&view);
    }

    /// Time has passed: every store has reached this party.
    pub(super) fn catch_up(&mut self, party: usize) {
        for place in 0..MOST_PLACES {
            if let Some(last) = self.places[place].last().map(|message| message.time) {
                self.know(party, place, last);
            }
        }
    }

    pub(super) fn post(&mut self, party: usize, semaphore: u64) {
        let (tokens, view) = &mut self.semaphores[semaphore as usize];
        *tokens += 1;
        view.join(&self.observers[party].now);
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, party: usize, semaphore: u64) -> bool {
        let (tokens, view) = &mut self.semaphores[semaphore as usize];
        if *tokens == 0 {
            return false;
        }
        *tokens -= 1;
        let observer = &mut self.observers[party];
        observer.now.join(view);
        observer.acquired.join(view);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two words, two parties; every outcome of `play` in so many runs.
    fn outcomes<T: Ord>(play: impl Fn(&mut WeakMemory, &mut Random) -> T) -> std::collections::BTreeSet<T> {
        let mut memory = WeakMemory::new();
        let mut random = Random::new(1);
        let run = |_| {
            memory.begin(&[0, 0], 2, 0, Weakness { stale: 128, early: 128 });
            play(&mut memory, &mut random)
        };
        (0..2000).map(run).collect()
    }

    #[test]
    fn a_message_passes_if_both_sides_order_it() {
        let pass = |release, acquire| {
            outcomes(move |memory, random| {
                memory.store(0, 0, 1, Relaxed, random);
                memory.store(0, 1, 1, release, random);
                (memory.load(1, 1, acquire, random), memory.load(1, 0, Relaxed, random))
            })
        };
        assert!(!pass(Release, Acquire).contains(&(1, 0)));
        assert!(pass(Relaxed, Acquire).contains(&(1, 0)) && pass(Release, Relaxed).contains(&(1, 0)));
    }

    #[test]
    fn fences_pass_messages_over_relaxed_accesses() {
        let pass = |release, acquire| {
            outcomes(move |memory, random| {
                memory.store(0, 0, 1, Relaxed, random);
                if release {
                    memory.fence(0, Release);
                }
                memory.store(0, 1, 1, Relaxed, random);
                let flag = memory.load(1, 1, Relaxed, random);
                if acquire {
                    memory.fence(1, Acquire);
                }
                (flag, memory.load(1, 0, Relaxed, random))
            })
        };
        assert!(!pass(true, true).contains(&(1, 0)));
        assert!(pass(false, true).contains(&(1, 0)) && pass(true, false).contains(&(1, 0)));
    }

    #[test]
    fn of_two_full_fences_one_sees_the_other() {
        let buffered = |first, second| {
            outcomes(move |memory, random| {
                memory.store(0, 0, 1, Relaxed, random);
                memory.store(1, 1, 1, Relaxed, random);
                memory.fence(0, first);
                memory.fence(1, second);
                (memory.load(0, 1, Relaxed, random), memory.load(1, 0, Relaxed, random))
            })
        };
        assert!(!buffered(SeqCst, SeqCst).contains(&(0, 0)));
        assert!(buffered(AcqRel, SeqCst).contains(&(0, 0)) && buffered(SeqCst, AcqRel).contains(&(0, 0)));
    }

    #[test]
    fn nobody_sees_a_word_go_back() {
        let seen = outcomes(|memory, random| {
            memory.store(0, 0, 1, Relaxed, random);
            memory.store(0, 0, 2, Relaxed, random);
            (memory.load(1, 0, Relaxed, random), memory.load(1, 0, Relaxed, random))
        });
        assert!(seen.iter().all(|(first, second)| second >= first) && seen.len() == 6);
    }

    #[test]
    fn a_store_may_come_before_one_that_its_party_has_not_seen() {
        let ends = |order| {
            outcomes(move |memory, random| {
                memory.store(0, 0, 1, Relaxed, random);
                memory.store(0, 1, 1, Release, random);
                memory.load(1, 1, order, random);
                memory.store(1, 0, 2, Relaxed, random);
                (memory.load(1, 1, Relaxed, random), memory.newest(0))
            })
        };
        assert!(ends(Relaxed).contains(&(1, 1)), "unordered");
        let seen = outcomes(|memory, random| {
            memory.store(0, 0, 1, Relaxed, random);
            memory.update(1, 0, Relaxed, |old| Some(old + 1));
            memory.newest(0)
        });
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2], "an addition reads the newest");
    }
}
