//! The stage: parties that take turns on one thread of the system, each on a stack of its own.
//!
//! A party gives its turn away before an access, when it sleeps, and at its end; who comes next is drawn from the seed. When nobody can
//! go on, time passes: what was put off comes due, step by step ([`Stage::rest_of_all`] looks whether somebody sleeps who must not).

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::resume_unwind;
use std::sync::Arc;

use shmcast::layout::slot::FREE;
use shmcast::memory::Word;
use shmcast::ring::Site;

use super::books::{Books, Tally};
use super::memory::{Content, contents};
use super::plan::Plan;
use super::random::Random;
use super::stacks;
use super::weak::WeakMemory;
use crate::weaken::Mutation;

/// Most parties of a schedule.
pub(super) const MOST_PARTIES: usize = 16;

/// More accesses than any schedule of an honest protocol takes: beyond, somebody runs in circles.
const MOST_STEPS: u64 = 120_000;

/// How often whoever only takes its time is given more of it, before it is found to achieve nothing: polls are naps, too.
const MOST_NAPS: u32 = 8;

/// Where a death is worth most: between two stores that belong together.
const FATAL: &[Site] = &[
    Site::Limit,
    Site::Limit,
    Site::CellOpen,
    Site::CellPosition,
    Site::PadCommit,
    Site::Commit,
    Site::SleepingClear,
    Site::WakeBump,
    Site::Reopen,
    Site::Cursor,
    Site::WriterSleepingClear,
    Site::SlotClaim,
    Site::JoinState,
];

/// Accesses of a party that are kept for the report.
const TRAIL: usize = 12;

/// What a party that is killed unwinds with.
struct Killed;

/// Where a party sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bed {
    /// On the futex of a word: its place.
    Futex(usize),
    /// On a semaphore.
    Semaphore(u64),
}

/// What a party can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Go on.
    Ready,
    /// Go on after so many steps of all, or when nobody else can.
    Later(u64),
    /// Go on when woken.
    Asleep(Bed),
    /// Go on when everybody rests: a writer that looks whether all its readers have read.
    Resting,
    /// A successor: when the writer before it is gone.
    Waiting,
    /// Nothing: it has ended.
    Done,
    /// Nothing: it was killed.
    Dead,
}

/// One access, for the report.
#[derive(Clone, Copy)]
struct Step {
    number: u64,
    what: &'static str,
    site: Option<Site>,
    at: Word,
    value: u64,
}

/// One party.
pub(super) struct Party {
    pub(super) mode: Mode,
    /// A writer, else a reader.
    writes: bool,
    /// How often it is drawn.
    weight: u64,
    /// It dies before its access of this number.
    doom: Option<u64>,
    /// Or right behind an access at this site, so many of them later.
    fatal: Option<(Site, u64)>,
    accesses: u64,
    /// The record that it reads next, when it sleeps.
    pub(super) next: u64,
    /// The slot whose lock it has.
    pub(super) slot: Option<u64>,
    trail: [Option<Step>; TRAIL],
}

impl Party {
    fn name(&self) -> &'static str {
        if self.writes { "writer" } else { "reader" }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.mode, Mode::Done | Mode::Dead)
    }
}

/// Everything of one schedule.
pub(super) struct State {
    pub(super) memory: WeakMemory,
    pub(super) books: Books,
    pub(super) random: Random,
    pub(super) parties: Vec<Party>,
    /// Who has the turn, and for how many accesses more.
    pub(super) current: usize,
    pub(super) burst: u64,
    most_burst: u64,
    steps: u64,
    pub(super) ready: u32,
    /// The first step at which somebody comes due.
    due: u64,
    /// Everybody is to end.
    pub(super) aborted: bool,
    pub(super) failure: Option<String>,
    /// What everybody had achieved at the last time that nobody could go on, and how often time has passed since.
    progress: u64,
    naps: u32,
    /// A reader was killed that may have owed the writer a wake.
    pub(super) writer_may_wait: bool,
}

/// What came of the wish to make an access.
enum Turn {
    Mine,
    Other,
    Death,
}

impl State {
    pub(super) fn set(&mut self, party: usize, mode: Mode) {
        self.parties[party].mode = mode;
        self.ready &= !(1 << party);
        match mode {
            Mode::Ready => self.ready |= 1 << party,
            Mode::Later(step) => self.due = self.due.min(step),
            _ => {}
        }
    }

    /// Draws who has the next turn; `None` if nobody can go on.
    pub(super) fn draw(&mut self) -> Option<usize> {
        if self.steps >= self.due {
            self.due = u64::MAX;
            for party in 0..self.parties.len() {
                if let Mode::Later(step) = self.parties[party].mode {
                    let mode = if step <= self.steps { Mode::Ready } else { Mode::Later(step) };
                    self.set(party, mode);
                }
            }
        }
        if self.ready == 0 {
            return None;
        }
        let each = |ready: u32| (0..MOST_PARTIES).filter(move |party| ready >> party & 1 == 1);
        let total: u64 = each(self.ready).map(|party| self.parties[party].weight).sum();
        let mut drawn = self.random.below(total);
        let next = each(self.ready).find(|&party| {
            let mine = drawn < self.parties[party].weight;
            drawn = drawn.wrapping_sub(self.parties[party].weight);
            mine
        });
        self.current = next?;
        self.burst = self.random.below(self.most_burst);
        next
    }

    fn turn(&mut self, party: usize) -> Turn {
        self.steps += 1;
        if self.steps > MOST_STEPS && self.failure.is_none() {
            self.fail(format!("{MOST_STEPS} accesses, and no end"));
        }
        let me = &mut self.parties[party];
        me.accesses += 1;
        if self.aborted || me.doom.is_some_and(|doom| me.accesses >= doom) {
            return Turn::Death;
        }
        if self.burst > 0 {
            self.burst -= 1;
            return Turn::Mine;
        }
        match self.draw() {
            Some(next) if next != party => Turn::Other,
            _ => Turn::Mine,
        }
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.aborted = true;
    }

    /// Notes an access for the report.
    pub(super) fn note(&mut self, party: usize, what: &'static str, site: Option<Site>, at: Word, value: u64) {
        let me = &mut self.parties[party];
        if let Some((fatal, later)) = me.fatal.filter(|&(fatal, _)| site == Some(fatal)) {
            match later.checked_sub(1) {
                Some(later) => me.fatal = Some((fatal, later)),
                None => me.doom = Some(me.accesses + 1),
            }
        }
        me.trail[(me.accesses % TRAIL as u64) as usize] = Some(Step { number: self.steps, what, site, at, value });
    }

    /// Wakes who sleeps in a bed; all, or one.
    pub(super) fn wake(&mut self, bed: Bed, all: bool) {
        for party in 0..self.parties.len() {
            if self.parties[party].mode == Mode::Asleep(bed) {
                self.set(party, Mode::Ready);
                self.books.tally.woken += 1;
                if !all {
                    return;
                }
            }
        }
    }

    /// A full fence of everybody, as by an interrupt.
    pub(super) fn fence_all(&mut self) {
        for party in 0..self.parties.len() {
            if !self.parties[party].is_over() {
                self.memory.fence(party, std::sync::atomic::Ordering::SeqCst);
            }
        }
    }

    pub(super) fn report(&self) -> String {
        let mut report = String::new();
        for (index, party) in self.parties.iter().enumerate() {
            let _ =
                writeln!(report, "{index}: {}, {:?}, {} accesses, the last:", party.name(), party.mode, party.accesses);
            let mut steps: Vec<&Step> = party.trail.iter().flatten().collect();
            steps.sort_by_key(|step| step.number);
            for Step { number, what, site, at, value } in steps {
                let site = site.map_or_else(|| "payload".to_owned(), |site| format!("{site:?}"));
                let _ = writeln!(report, "    {number:>6} {what:<8} {site:<20} word {:>4}: {value:#x}", at.0);
            }
        }
        report
    }
}

/// The stage of one schedule, as its parties see it.
pub(super) struct Stage {
    pub(super) state: RefCell<State>,
    pub(super) plan: Plan,
    /// The words of the ring and of the registry.
    pub(super) words: [Vec<Content>; 2],
    pub(super) mutations: Arc<[Mutation]>,
}

impl Stage {
    /// Before the first step. `memory` is used again.
    pub(super) fn new(plan: Plan, mut memory: WeakMemory, mutations: Arc<[Mutation]>) -> Stage {
        let (words, values) = contents(&plan.ring, &plan.registry, plan.writers_registered.into());
        let mut random = Random::new(!plan.seed);
        let writers = 1 + plan.successors;
        let parties: Vec<Party> = (0..writers + plan.readers)
            .map(|index| Party {
                mode: if index > plan.readers { Mode::Waiting } else { Mode::Ready },
                writes: index == 0 || index > plan.readers,
                weight: random.pick(&[1, 4, 4, 16]),
                doom: random.chance(plan.mortality).then(|| 1 + random.below(300)),
                fatal: random.chance(plan.mortality / 2).then(|| (random.pick(FATAL), random.below(4))),
                accesses: 0,
                next: 0,
                slot: None,
                trail: [None; TRAIL],
            })
            .collect();
        assert!(parties.len() <= MOST_PARTIES);
        memory.begin(&values, parties.len(), plan.registry.semaphores(), plan.weakness);
        let state = State {
            memory,
            books: Books { writers_left: writers, ..Books::default() },
            ready: (2 << plan.readers) - 1,
            parties,
            current: 0,
            burst: 0,
            most_burst: plan.most_burst,
            steps: 0,
            due: u64::MAX,
            aborted: false,
            failure: None,
            progress: 0,
            naps: 0,
            writer_may_wait: false,
            random,
        };
        Stage { state: RefCell::new(state), plan, words, mutations }
    }

    /// Behind the last step: the memory, and what was counted.
    pub(super) fn close(self) -> (WeakMemory, Tally) {
        let State { mut memory, mut books, steps, .. } = self.state.into_inner();
        books.tally.accesses = steps;
        books.tally.stale_loads = std::mem::take(&mut memory.stale_loads);
        books.tally.early_stores = std::mem::take(&mut memory.early_stores);
        (memory, books.tally)
    }

    /// An access of a party: perhaps after other parties' turns.
    #[inline]
    pub(super) fn access<T>(&self, party: usize, access: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.borrow_mut();
        match state.turn(party) {
            Turn::Mine => {}
            Turn::Other => {
                drop(state);
                self.give_turn(party);
                state = self.state.borrow_mut();
            }
            Turn::Death => {
                drop(state);
                resume_unwind(Box::new(Killed));
            }
        }
        access(&mut state)
    }

    /// Lets the others go on; returns when this party has the turn again.
    fn give_turn(&self, party: usize) {
        stacks::switch();
        let state = self.state.borrow();
        debug_assert_eq!(state.current, party);
        if state.aborted {
            drop(state);
            resume_unwind(Box::new(Killed));
        }
    }

    /// Waits in a mode. A party that is to be killed may be so in its sleep.
    pub(super) fn wait(&self, party: usize, mode: Mode) {
        let dies = {
            let mut state = self.state.borrow_mut();
            state.set(party, mode);
            let dies = state.parties[party].doom.is_some() && state.random.chance(16);
            if dies {
                state.books.tally.killed_asleep += u64::from(matches!(mode, Mode::Asleep(_)));
            }
            dies
        };
        if dies {
            resume_unwind(Box::new(Killed));
        }
        self.give_turn(party);
    }

    /// For some steps, or until nobody else can go on.
    pub(super) fn nap(&self, party: usize, most: u64) {
        let until = {
            let mut state = self.state.borrow_mut();
            state.steps + 1 + state.random.below(most)
        };
        self.wait(party, Mode::Later(until));
    }

    /// Draws from the seed.
    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state.borrow_mut().random)
    }

    /// The books of all.
    pub(super) fn books<T>(&self, entry: impl FnOnce(&mut Books) -> T) -> T {
        entry(&mut self.state.borrow_mut().books)
    }

    /// The lock of a slot, if its owner has none, or is dead. Answers whether it could be had.
    pub(super) fn lock(&self, party: usize, slot: u64) -> bool {
        let mut state = self.state.borrow_mut();
        let owner = (0..state.parties.len()).find(|&other| state.parties[other].slot == Some(slot));
        if let Some(owner) = owner {
            if state.parties[owner].mode != Mode::Dead {
                return false;
            }
            state.parties[owner].slot = None;
            state.memory.hand_over(owner, party);
        }
        if let Some(last) = state.books.unlocked.get(&slot).copied() {
            state.memory.hand_over(last, party);
        }
        state.parties[party].slot = Some(slot);
        true
    }

    pub(super) fn unlock(&self, party: usize) {
        let mut state = self.state.borrow_mut();
        if let Some(slot) = state.parties[party].slot.take() {
            state.books.unlocked.insert(slot, party);
        }
    }

    /// Nobody can go on: what comes due now? False if nothing does.
    pub(super) fn rest_of_all(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let progress = state.books.progress;
        // First whoever only takes its time, until nothing comes of it.
        if progress != state.progress {
            (state.progress, state.naps) = (progress, 0);
        }
        if state.naps < MOST_NAPS {
            state.naps += 1;
            let mut any = false;
            for party in 0..state.parties.len() {
                if let Mode::Later(_) = state.parties[party].mode {
                    state.memory.catch_up(party);
                    state.set(party, Mode::Ready);
                    any = true;
                }
            }
            if any {
                return true;
            }
        }
        state.naps = 0;
        let writer =
            state.parties.iter().position(|party| party.writes && !party.is_over() && party.mode != Mode::Waiting);
        let successor = state.parties.iter().position(|party| party.mode == Mode::Waiting);
        // Then a successor, who wakes everybody anyway.
        if let (None, Some(successor), false) = (writer, successor, state.books.is_over) {
            state.set(successor, Mode::Ready);
            return true;
        }
        // A slot of a dead reader, which the writer finds when its slice ends.
        let held = (0..self.plan.registry.reader_slots).any(|slot| self.is_left_behind(&state, slot));
        if let Some(why) = self.sleeps_in_vain(&state) {
            // Where somebody was killed who may have owed the wake, a slice ends.
            let orphaned = writer.is_none() && !state.books.is_over;
            if !orphaned && !state.writer_may_wait && !held {
                state.fail(why);
                return false;
            }
        }
        let slept = state.writer_may_wait || writer.is_none() || held;
        state.writer_may_wait = false;
        // Then a writer that rests.
        if let Some(writer) = writer
            && state.parties[writer].mode == Mode::Resting
        {
            state.books.tally.rests += 1;
            state.set(writer, Mode::Ready);
            return true;
        }
        if slept {
            state.books.tally.slices += 1;
            for party in 0..state.parties.len() {
                if let Mode::Asleep(_) = state.parties[party].mode {
                    state.set(party, Mode::Ready);
                }
            }
        }
        state.ready != 0
    }

    /// Is it taken, and its owner dead? Somebody may have had its lock since, and have found it other than it had looked.
    fn is_left_behind(&self, state: &State, slot: u64) -> bool {
        let owned = || state.parties.iter().any(|party| party.mode != Mode::Dead && party.slot == Some(slot));
        let Content::Place(word) = self.words[1][self.plan.registry.slot_state(slot).0] else { return false };
        self.plan.locks && state.memory.newest(word) != FREE && !owned()
    }

    /// Does somebody sleep who has something to do?
    fn sleeps_in_vain(&self, state: &State) -> Option<String> {
        let published = state.books.published;
        state.parties.iter().enumerate().find_map(|(index, party)| match party.mode {
            Mode::Asleep(_) if party.writes => {
                Some(format!("a lost wakeup: writer {index} sleeps for room, and no reader holds it back"))
            }
            Mode::Asleep(_) if party.next < published => Some(format!(
                "a lost wakeup: reader {index} sleeps for record {}, and {published} are published",
                party.next
            )),
            Mode::Asleep(_) if state.books.is_over => {
                Some(format!("a lost wakeup: reader {index} sleeps, and the ring is closed"))
            }
            _ => None,
        })
    }

    /// Ends a party: well, killed, or with a failure.
    pub(super) fn ended(&self, party: usize, end: Result<(), Box<dyn Any + Send>>) {
        let mut state = self.state.borrow_mut();
        let killed = match end {
            Ok(()) => false,
            Err(panic) if panic.is::<Killed>() => true,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
                let why = format!("{} {party}: {text}", state.parties[party].name());
                state.fail(why);
                true
            }
        };
        state.set(party, if killed { Mode::Dead } else { Mode::Done });
        if killed && !state.aborted {
            let is_writer = state.parties[party].writes;
            state.books.killed(is_writer);
            state.writer_may_wait |= !is_writer;
            if is_writer {
                state.books.last_writer = Some(party);
            }
        }
    }
}
