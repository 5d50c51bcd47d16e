//! Reader slots: what readers write and the writer scans. Input that the writer does not trust (invariant I6): a slot can
//! hold `limit` back, never push it.
//!
//! ```text
//!            claim             activate                    
//!    FREE ──────────▶ JOINING ──────────▶ LOSSLESS ──┐      lossless readers take slots from the bottom up, lossy ones
//!     ▲                  │                           │      from the top down, so that the writer's scan, which ends at
//!     │                  └──────────────▶ PRESENT ───┤      the lossless high-water mark, does not meet the lossy ones
//!     └──────────────────── leave ───────────────────┘
//! ```

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Site;
use crate::layout::{RegistryLayout, slot};
use crate::memory::Memory;

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
        let held = |&index: &u64| {
            // Relaxed: a count, nothing is read through it.
            let state = self.memory.load(self.layout.slot_state(index), Relaxed, Site::SlotStateLook);
            state == slot::LOSSLESS || state == slot::PRESENT
        };
        (0..self.layout.reader_slots).filter(held).count() as u64
    }

    /// The smallest cursor that holds the writer at `position` back, if any: the scan of the slow path. A cursor that no
    /// honest reader can have, or one that `limit` has passed already (an evicted reader's), is ignored.
    pub(super) fn smallest_cursor(&self, position: u64, limit: u64, capacity: u64) -> Option<u64> {
        // Relaxed: raised before the joiner's fence, so the writer's fence (P3) covers it like the slot itself.
        let mark = self.memory.load(self.layout.high_water(), Relaxed, Site::HighWaterLook);
        let mut smallest: Option<u64> = None;
        for index in 0..mark.min(self.layout.reader_slots) {
            // Acquire (P4): pairs with `JoinState`, makes the owner's cursor visible; (P5) with `LeaveState`.
            if self.memory.load(self.layout.slot_state(index), Acquire, Site::SlotStateLook) != slot::LOSSLESS {
                continue;
            }
            // Acquire (P5): pairs with `Cursor`; the reader is done with the bytes before it. No model can see this one:
            // it orders the reader's loads before the writer's later stores (load buffering).
            let cursor = self.memory.load(self.layout.slot_cursor(index), Acquire, Site::SlotCursorLook);
            // No sum with it may overflow.
            let honest = cursor <= position && position - cursor <= capacity && limit - cursor <= capacity;
            if honest && smallest.is_none_or(|least| cursor < least) {
                smallest = Some(cursor);
            }
        }
        smallest
    }

    /// Takes a free slot, lossless ones from below, others from above. At most one attempt per slot.
    pub(super) fn claim(&self, lossless: bool) -> Option<u64> {
        let slots = self.layout.reader_slots;
        (0..slots).map(|n| if lossless { n } else { slots - 1 - n }).find(|&index| {
            let state = self.layout.slot_state(index);
            // Acquire-release (P12): pairs with `LeaveState` of the slot's last owner.
            self.memory.compare_exchange(state, slot::FREE, slot::JOINING, Site::SlotClaim).is_ok()
        })
    }

    /// Makes a claimed slot a lossless one with a cursor. The caller's fence (P3) must follow.
    pub(super) fn activate(&self, index: u64, cursor: u64) {
        // Relaxed: before the fence of P3; a mark that is too high costs a look.
        self.memory.fetch_max(self.layout.high_water(), index + 1, Relaxed, Site::HighWaterRaise);
        // Relaxed: made visible by the state.
        self.memory.store(self.layout.slot_cursor(index), cursor, Relaxed, Site::JoinCursor);
        // Release (P4): pairs with the writer's scan.
        self.memory.store(self.layout.slot_state(index), slot::LOSSLESS, Release, Site::JoinState);
    }

    /// Makes a claimed slot one that is counted and holds nothing.
    pub(super) fn be_present(&self, index: u64) {
        // Release: as above, though nobody reads anything through it.
        self.memory.store(self.layout.slot_state(index), slot::PRESENT, Release, Site::JoinState);
    }

    /// Gives a slot back.
    pub(super) fn leave(&self, index: u64) {
        // Release (P5, P12): the reader's loads are over, and so is its use of the slot.
        self.memory.store(self.layout.slot_state(index), slot::FREE, Release, Site::LeaveState);
    }

    /// Notes the owner's process id in a slot, for people; never used for a decision.
    pub(super) fn sign(&self, index: u64, process: u64) {
        // Relaxed: for people.
        self.memory.store(self.layout.slot_process(index), process, Relaxed, Site::JoinCursor);
    }
}
