//! Reader slots: what readers write and the writer scans. Input that the writer does not trust (invariant I6): a slot can
//! hold `limit` back, never push it.
//!
//! ```text
//!            claim             activate
//!    FREE ──────────▶ JOINING ──────────▶ LOSSLESS ──┐      lossless readers take slots from the bottom up, lossy ones
//!     ▲                  │        evicted │ ▲ rejoin │      from the top down, so that the writer's scan, which ends at
//!     │                  │                ▼ │        │      the lossless high-water mark, does not meet the lossy ones
//!     │                  └──────────────▶ PRESENT ───┤
//!     └──────────────────── leave ───────────────────┘
//! ```
//! A slot belongs to whoever holds its lock, where there are locks: the kernel drops them when a process dies, and only then
//! may another joiner, or the writer, take the slot away.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Site;
use crate::layout::RegistryLayout;
use crate::layout::slot::{FREE, JOINING, LOSSLESS, PRESENT};
use crate::memory::Memory;

/// In `roll_call`: a reader has left since the writer asked to be told.
const SOMEBODY_LEFT: u64 = 2;

/// The lossless reader that holds the writer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its slot.
    pub slot: u64,
    /// Its cursor as it stands there.
    pub cursor: u64,
}

/// The registry segment as both sides see it.
#[derive(Clone, Debug)]
pub struct Registry<M> {
    pub(super) memory: M,
    pub(super) layout: RegistryLayout,
}

impl<M: Memory> Registry<M> {
    /// The registry in a segment whose header was checked.
    pub fn new(memory: M, layout: RegistryLayout) -> Registry<M> {
        Registry { memory, layout }
    }

    /// Readers that hold a slot. May be out of date at once; a reader whose open has returned is counted, if it got a slot.
    pub fn count(&self) -> u64 {
        self.held().count() as u64
    }

    /// The slots that have a reader, alive or dead.
    pub(super) fn held(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.layout.reader_slots).filter(|&index| {
            // Relaxed: nothing is read through it.
            let state = self.memory.load(self.layout.slot_state(index), Relaxed, Site::SlotStateLook);
            state == LOSSLESS || state == PRESENT
        })
    }

    /// The smallest cursor that holds the writer at `position` back, if any: the scan of the slow path. A cursor that no
    /// honest reader can have, or one that `limit` has passed already (an evicted reader's), is ignored, and so is one
    /// that is passed over, whoever holds it: all that stand there have stood there as long as the one that was seen
    /// (nobody joins at a cursor that holds the writer back, because what is announced lies beyond its reach).
    pub(super) fn smallest_cursor(
        &self,
        position: u64,
        limit: u64,
        capacity: u64,
        passed_over: Option<u64>,
    ) -> Option<Blocker> {
        // Relaxed: raised before the joiner's fence, so the writer's fence (P3) covers it like the slot itself.
        let mark = self.memory.load(self.layout.high_water(), Relaxed, Site::HighWaterLook);
        let mut smallest: Option<Blocker> = None;
        for slot in 0..mark.min(self.layout.reader_slots) {
            // Acquire (P4): pairs with `JoinState`, makes the owner's cursor visible; (P5) with `LeaveState`.
            if self.memory.load(self.layout.slot_state(slot), Acquire, Site::SlotStateLook) != LOSSLESS {
                continue;
            }
            // Acquire (P5): pairs with `Cursor`; the reader is done with the bytes before it. No model can see this one:
            // it orders the reader's loads before the writer's later stores (load buffering).
            let cursor = self.memory.load(self.layout.slot_cursor(slot), Acquire, Site::SlotCursorLook);
            // No sum with it may overflow.
            let honest = cursor <= position && position - cursor <= capacity && limit - cursor <= capacity;
            if honest && passed_over != Some(cursor) && smallest.is_none_or(|least| cursor < least.cursor) {
                smallest = Some(Blocker { slot, cursor });
            }
        }
        smallest
    }

    /// Takes a slot, lossless readers from below, others from above: a free one, or else one whose owner is dead. `lock`
    /// takes the lock of a slot, which its owner holds for as long as it lives; where there are no locks it always says
    /// yes, and `orphans` must be false: then only a free slot is taken.
    pub(super) fn claim<L>(
        &self,
        lossless: bool,
        orphans: bool,
        mut lock: impl FnMut(u64) -> Option<L>,
    ) -> Option<(u64, L)> {
        let slots = self.layout.reader_slots;
        for orphaned in if orphans { &[false, true][..] } else { &[false] } {
            for index in (0..slots).map(|n| if lossless { n } else { slots - 1 - n }) {
                let state = self.layout.slot_state(index);
                // Relaxed: a guess, which the exchange confirms.
                let found = self.memory.load(state, Relaxed, Site::SlotStateLook);
                if (found != FREE) != *orphaned {
                    continue;
                }
                let Some(lock) = lock(index) else { continue };
                // Acquire-release (P12): pairs with `LeaveState` of the slot's last owner, if it came to that.
                if self.memory.compare_exchange(state, found, JOINING, Site::SlotClaim).is_ok() {
                    return Some((index, lock));
                }
            }
        }
        None
    }

    /// Frees a slot whose dead owner's lock the caller holds. False if it is free.
    pub(super) fn reap(&self, index: u64) -> bool {
        let state = self.layout.slot_state(index);
        // Relaxed: a guess, which the exchange confirms.
        let found = self.memory.load(state, Relaxed, Site::SlotStateLook);
        // The owner's loads are over, as it is: the end of a process is an edge of its own.
        found != FREE && self.memory.compare_exchange(state, found, FREE, Site::SlotReap).is_ok()
    }

    /// Makes a claimed slot a lossless one with a cursor. The caller's fence (P3) must follow.
    pub(super) fn activate(&self, index: u64, cursor: u64) {
        // Relaxed: before the fence of P3; a mark that is too high costs a look.
        self.memory.fetch_max(self.layout.high_water(), index + 1, Relaxed, Site::HighWaterRaise);
        // Relaxed: made visible by the state.
        self.memory.store(self.layout.slot_cursor(index), cursor, Relaxed, Site::JoinCursor);
        // Release (P4): pairs with the writer's scan.
        self.memory.store(self.layout.slot_state(index), LOSSLESS, Release, Site::JoinState);
    }

    /// Makes a claimed slot one that is counted and holds nothing.
    pub(super) fn be_present(&self, index: u64) {
        // Release: as above, though nobody reads anything through it.
        self.memory.store(self.layout.slot_state(index), PRESENT, Release, Site::JoinState);
    }

    /// Gives a slot back.
    pub(super) fn leave(&self, index: u64) {
        // Release (P5, P12): the reader's loads are over, and so is its use of the slot.
        self.memory.store(self.layout.slot_state(index), FREE, Release, Site::LeaveState);
    }

    /// After a reader left: has the writer asked to hear of it? Then it looks who is left, at its next record but one.
    pub(super) fn tell_of_leave(&self) {
        let (memory, layout) = (&self.memory, &self.layout);
        // Relaxed, all three: a hint. A writer that misses it looks a block later.
        if memory.load(layout.roll_call(), Relaxed, Site::RollCallLook) != 0 {
            // Relaxed: likewise.
            memory.store(layout.roll_call(), SOMEBODY_LEFT, Relaxed, Site::RollCallTell);
            // Relaxed: likewise; the one flag that the writer looks at anyway.
            memory.store(layout.sleeping(), 1, Relaxed, Site::SleepingSet);
        }
    }

    /// Says whether the writer wants to hear of readers that leave.
    pub(super) fn heed_leaves(&self, heed: bool) {
        // Relaxed: as in `tell_of_leave`.
        self.memory.store(self.layout.roll_call(), u64::from(heed), Relaxed, Site::RollCallSet);
    }

    /// Has a reader left since the writer said that it wants to hear of it?
    pub(super) fn somebody_left(&self) -> bool {
        // Relaxed: as in `tell_of_leave`.
        self.memory.load(self.layout.roll_call(), Relaxed, Site::RollCallLook) == SOMEBODY_LEFT
    }

    /// Notes the owner's process id in a slot, for people; never used for a decision.
    pub(super) fn sign(&self, index: u64, process: u64) {
        // Relaxed: for people.
        self.memory.store(self.layout.slot_process(index), process, Relaxed, Site::JoinCursor);
    }
}
