//! The modelled memory as the protocol sees it: each access is a step of the party on the stage.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Relaxed, SeqCst};
use std::time::Duration;

use shmcast::layout::{RegistryLayout, RingLayout};
use shmcast::memory::{Barrier, Memory, Semaphore, Word};
use shmcast::ring::Site;

use super::stage::{Bed, Mode, Stage, State};
use crate::memory::Plain;

/// Sleeps that are this short are naps, which end by themselves.
const NAP: Duration = Duration::from_millis(1);

/// Steps of all parties that a nap takes at most.
pub(super) const NAP_STEPS: u64 = 200;

/// What a word is in the model.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nobody races for it: the header, the process ids.
    Constant(Cell<u64>),
    /// A word of the protocol: its place.
    Place(usize),
}

/// The words of both segments, and the first values of those that parties race for. All writers are of one barrier mode, and no reader
/// comes before it is known: who goes by a stale mode sleeps for a slice, and here no slice ends.
pub(super) fn contents(ring: &RingLayout, registry: &RegistryLayout, mode: u64) -> ([Vec<Content>; 2], Vec<u64>) {
    let mut values = Vec::new();
    let mut segment = |length: u64, format: &dyn Fn(&Plain), shared: &[Word]| {
        let plain = Plain::new(length);
        format(&plain);
        let load = |word: usize| plain.load(Word(word), Relaxed, Site::Header);
        let mut words: Vec<Content> =
            (0..length as usize / 8).map(|word| Content::Constant(Cell::new(load(word)))).collect();
        for &Word(word) in shared {
            words[word] = Content::Place(values.len());
            values.push(load(word));
        }
        words
    };
    let geometry = &ring.geometry;
    let mut shared = vec![ring.limit(), ring.announced(), ring.wake(), ring.closed(), ring.epoch()];
    let blocks = (0..geometry.blocks).map(|block| ring.checkpoint_at(block * geometry.block()));
    for cell in (0..2).map(|index| ring.head_cell(index)).chain(blocks) {
        shared.extend([cell, cell.plus(1)]);
    }
    shared.extend((0..geometry.capacity / 8).map(|word| ring.data().word(word * 8)));
    let format = |memory: &Plain| {
        ring.format(memory);
        memory.store(ring.barrier_mode(), mode, Relaxed, Site::ModeStore);
    };
    let first = segment(ring.length, &format, &shared);
    let mut shared = vec![registry.sleeping(), registry.room(), registry.writer_sleeping(), registry.high_water()];
    shared.push(registry.roll_call());
    for slot in 0..registry.reader_slots {
        shared.extend([registry.slot_state(slot), registry.slot_cursor(slot), registry.slot_sleeping(slot)]);
    }
    let second = segment(registry.length, &|memory| registry.format(memory), &shared);
    ([first, second], values)
}

/// One party's handle of one segment.
#[derive(Clone)]
pub(super) struct SimMemory {
    stage: Rc<Stage>,
    party: usize,
    segment: usize,
}

impl fmt::Debug for SimMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMemory").field("party", &self.party).field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl SimMemory {
    /// The handles of the ring and of the registry.
    pub(super) fn pair(stage: &Rc<Stage>, party: usize) -> (SimMemory, SimMemory) {
        let handle = |segment| SimMemory { stage: Rc::clone(stage), party, segment };
        (handle(0), handle(1))
    }

    fn content(&self, at: Word) -> &Content {
        &self.stage.words[self.segment][at.0]
    }

    fn place(&self, at: Word) -> usize {
        match self.content(at) {
            Content::Place(place) => *place,
            Content::Constant(_) => panic!("word {} of segment {} is none that parties race for", at.0, self.segment),
        }
    }

    fn load_word(&self, at: Word, order: Ordering, site: Option<Site>) -> u64 {
        let party = self.party;
        match self.content(at) {
            Content::Constant(cell) => cell.get(),
            &Content::Place(place) => self.stage.access(party, |state| {
                let value = state.memory.load(party, place, order, &mut state.random);
                state.note(party, "load", site, at, value);
                value
            }),
        }
    }

    fn store_word(&self, at: Word, value: u64, order: Ordering, site: Option<Site>) {
        let party = self.party;
        match self.content(at) {
            Content::Constant(cell) => cell.set(value),
            &Content::Place(place) => self.stage.access(party, |state| {
                state.note(party, "store", site, at, value);
                state.memory.store(party, place, value, order, &mut state.random);
            }),
        }
    }

    fn update(&self, at: Word, order: Ordering, site: Site, change: impl Fn(u64) -> Option<u64>) -> u64 {
        let party = self.party;
        match self.content(at) {
            Content::Constant(cell) => {
                let old = cell.get();
                cell.set(change(old).unwrap_or(old));
                old
            }
            &Content::Place(place) => self.stage.access(party, |state| {
                let old = state.memory.update(party, place, order, &change);
                state.note(party, "update", Some(site), at, old);
                old
            }),
        }
    }

    fn full_fence(&self, site: Site, all: bool) {
        let party = self.party;
        self.stage.access(party, |state| {
            state.note(party, "fence", Some(site), Word(0), u64::from(all));
            state.memory.fence(party, SeqCst);
            if all {
                // Each of the others executes a full fence, some time between two of this one's.
                state.fence_all();
                state.memory.fence(party, SeqCst);
            }
        });
    }

    /// Goes to bed, unless it `rises` at once, which it may do for no reason, too. Answers whether it slept.
    fn sleep(&self, bed: Bed, slice: Duration, site: Site, at: Word, rises: impl FnOnce(&mut State) -> bool) -> bool {
        let party = self.party;
        let rises = self.stage.access(party, |state| {
            let rises = rises(state) || state.random.chance(2);
            state.note(party, "sleep", Some(site), at, u64::from(rises));
            state.books.tally.sleeps += u64::from(!rises && slice > NAP);
            rises
        });
        if rises {
            return false;
        }
        if slice <= NAP {
            self.stage.nap(party, NAP_STEPS);
        } else {
            self.stage.wait(party, Mode::Asleep(bed));
        }
        true
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

impl Memory for SimMemory {
    shmcast::areas_by_word!();

    fn load(&self, at: Word, order: Ordering, site: Site) -> u64 {
        self.load_word(at, order, Some(site))
    }

    fn store(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.store_word(at, value, order, Some(site));
    }

    fn compare_exchange(&self, at: Word, current: u64, new: u64, site: Site) -> Result<u64, u64> {
        let old = self.update(at, AcqRel, site, |old| (old == current).then_some(new));
        if old == current { Ok(old) } else { Err(old) }
    }

    fn fetch_add(&self, at: Word, n: u64, order: Ordering, site: Site) -> u64 {
        self.update(at, order, site, |old| Some(old.wrapping_add(n)))
    }

    fn fetch_max(&self, at: Word, value: u64, order: Ordering, site: Site) {
        self.update(at, order, site, |old| Some(old.max(value)));
    }

    fn fence(&self, order: Ordering, site: Site) {
        if order == SeqCst {
            self.full_fence(site, false);
        } else {
            // Nobody else can tell when: no step.
            self.stage.state.borrow_mut().memory.fence(self.party, order);
        }
    }

    fn light_barrier(&self, mode: Barrier, site: Site) {
        if mode == Barrier::Fence {
            self.full_fence(site, false);
        }
    }

    fn heavy_barrier(&self, mode: Barrier, site: Site) -> bool {
        self.full_fence(site, mode == Barrier::Asymmetric);
        true
    }

    fn copy_in(&self, at: Word, bytes: &[u8]) {
        for (n, bytes) in bytes.chunks(8).enumerate() {
            self.store_word(at.plus(n), word_of(bytes), Relaxed, None);
        }
    }

    fn copy_out(&self, at: Word, bytes: &mut [u8]) {
        for (n, bytes) in bytes.chunks_mut(8).enumerate() {
            let word = self.load_word(at.plus(n), Relaxed, None).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }

    fn pause(&self) {
        self.stage.nap(self.party, 8);
    }

    fn wait(&self, at: Word, seen: u32, slice: Duration, site: Site) {
        let place = self.place(at);
        self.sleep(Bed::Futex(place), slice, site, at, |state| state.memory.newest(place) as u32 != seen);
    }

    fn wake(&self, at: Word, site: Site) {
        let (party, place) = (self.party, self.place(at));
        self.stage.access(party, |state| {
            state.note(party, "wake", Some(site), at, 0);
            state.wake(Bed::Futex(place), true);
        });
    }

    fn drain(&self, semaphore: Semaphore, most: u64, site: Site) -> bool {
        let party = self.party;
        self.stage.access(party, |state| {
            let taken = (0..most).take_while(|_| state.memory.take(party, semaphore.number)).count();
            state.note(party, "drain", Some(site), semaphore.at, taken as u64);
        });
        true
    }

    fn take(&self, semaphore: Semaphore, slice: Duration, site: Site) {
        let (party, number) = (self.party, semaphore.number);
        let take = |state: &mut State| state.memory.take(party, number);
        if self.sleep(Bed::Semaphore(number), slice, site, semaphore.at, take) {
            // Whoever was woken takes the token that woke it; a sleep that ended otherwise finds none.
            self.stage.state.borrow_mut().memory.take(party, number);
        }
    }

    fn post(&self, semaphore: Semaphore, site: Site) {
        let party = self.party;
        self.stage.access(party, |state| {
            state.note(party, "post", Some(site), semaphore.at, 0);
            state.memory.post(party, semaphore.number);
            state.wake(Bed::Semaphore(semaphore.number), false);
        });
    }
}
