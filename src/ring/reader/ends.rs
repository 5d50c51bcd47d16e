//! What a reader does that finds no whole record: nothing there, overwritten, closed, impossible (all of it cold).
//!
//! ```text
//!   void (the one rule) ─▶ a boundary that is valid ─▶ lossy: Lagged(n)      lossless: Evicted { lost }, and lossy from now on
//!   impossible ──────────▶ poisoned: Corrupt, for ever                       (rejoin makes it lossless again)
//! ```

use core::sync::atomic::Ordering::Acquire;

use super::{DETOUR, Reader, Stop};
use crate::layout::Header;
use crate::memory::{Memory, ReadArea, ReadView};
use crate::ring::{Boundary, Ring, Site, join};

impl<M: Memory> Reader<M> {
    /// The cold part of [`read`](Self::read): what stands at the position is no whole record. Why? `Ok`: look again.
    #[cold]
    #[inline(never)]
    pub(super) fn settle(&mut self) -> Result<(), Stop> {
        if let Some(stop) = self.ended {
            return Err(stop);
        }
        if let Some(loss) = self.owed.take() {
            self.header = 0;
            return Err(loss);
        }
        if !self.still_whole(self.position) {
            return self.lapped();
        }
        match self.ring.layout.data().read_header(self.header, self.position) {
            // Cannot come true: `limit` only grows, so what is whole now was whole before.
            Header::Data { .. } => Ok(()),
            Header::Pad { size } => {
                self.position = self.position.wrapping_add(size);
                self.header = 0;
                Ok(())
            }
            Header::Impossible => {
                let (position, header) = (self.position, self.header);
                Err(self.end(Stop::Corrupt { position, header }))
            }
            Header::Empty => {
                self.due = 0;
                // It may have come here over a pad.
                self.settle_cursor();
                self.closed_or_empty()
            }
        }
    }

    /// `closed` is loaded BEFORE the header that is found empty: whatever was committed before the close is received.
    fn closed_or_empty(&mut self) -> Result<(), Stop> {
        let Ring { memory, layout } = &self.ring;
        // Acquire (P11): pairs with `Close`.
        if memory.load(layout.closed(), Acquire, Site::ClosedLook) == 0 {
            return Err(Stop::Empty);
        }
        // Acquire (P1): as `Header`.
        self.header = self.data.view().load(self.position, Acquire, Site::HeaderAfterClosed);
        if self.header != 0 {
            return Ok(());
        }
        if self.still_whole(self.position) { Err(Stop::Closed) } else { self.lapped() }
    }

    /// The writer has overwritten what this reader wanted.
    fn lapped(&mut self) -> Result<(), Stop> {
        self.header = 0;
        let Some(boundary) = join::find(&self.ring, self.resume) else {
            // The writer outran every look. The next call tries again.
            return Err(Stop::Empty);
        };
        let lost = self.skip_to(boundary)?;
        if self.lossless {
            (self.lossless, self.due) = (false, 0);
            self.let_go();
            return Err(Stop::Evicted { lost });
        }
        // None if only a pad was overwritten.
        if lost == 0 { Ok(()) } else { Err(Stop::Lagged(lost)) }
    }

    /// Goes on at a boundary that is valid where this reader's position is not; answers how many records lie between them
    /// (I3: exactly).
    pub(in crate::ring) fn skip_to(&mut self, Boundary { position, sequence }: Boundary) -> Result<u64, Stop> {
        self.skips = self.skips.wrapping_add(1);
        let lost = sequence.wrapping_sub(self.sequence);
        if position <= self.position || lost > position - self.position {
            // A boundary that is still valid lies behind one that is not, and no further in records than in bytes.
            return Err(self.end(Stop::Corrupt { position, header: 0 }));
        }
        self.sequence = sequence;
        self.position = position;
        Ok(lost)
    }

    /// The slot is counted, and holds nobody back any more.
    fn let_go(&self) {
        if let (Some(registry), Some(slot)) = (&self.registry, self.slot) {
            registry.be_present(slot);
            self.notify_writer();
        }
    }

    /// Poisons the reader: it will never read another record, so it must not hold the writer back either.
    fn end(&mut self, stop: Stop) -> Stop {
        self.ended = Some(stop);
        self.header = DETOUR;
        self.let_go();
        stop
    }

    /// Poisons a reader that found the record at its position to be another one than before.
    pub fn condemn(&mut self, header: u64) -> Stop {
        self.end(Stop::Corrupt { position: self.position, header })
    }

    /// Makes the next read tell a loss again: for a caller that had records to hand out first.
    pub fn owe(&mut self, loss: Stop) {
        self.owed = Some(loss);
        self.header = DETOUR;
    }

    /// The eviction that the next read would tell, told now.
    pub fn take_eviction(&mut self) -> Option<Stop> {
        let eviction = self.owed.take_if(|loss| matches!(loss, Stop::Evicted { .. }))?;
        self.header = if self.ended.is_some() { DETOUR } else { 0 };
        Some(eviction)
    }

    /// The records that the next read would tell lost.
    pub(in crate::ring) fn take_owed(&mut self) -> Option<u64> {
        match self.owed.take()? {
            Stop::Lagged(lost) | Stop::Evicted { lost } => Some(lost),
            _ => None,
        }
    }

    /// From here on a lossless reader, whose slot holds this position and who owes nothing; see [`rejoin`](Self::rejoin).
    pub(in crate::ring) fn be_lossless(&mut self) {
        self.lossless = true;
        (self.cursor, self.due) = (self.position, self.next_due());
        self.header = 0;
        self.notify_writer();
    }

    /// What it saw, if it is poisoned.
    pub fn poison(&self) -> Option<Stop> {
        self.ended.filter(|stop| matches!(stop, Stop::Corrupt { .. }))
    }

    /// Asked of a ring that was found empty: did its writer die, with everything read? `is_dead` asks whether there is none.
    /// False also for one that has closed, and for one that has a successor.
    pub fn outlives_writer(&mut self, mut is_dead: impl FnMut() -> bool) -> bool {
        // Acquire, both: pairs with `EpochStore`; the successor's reopening.
        let epoch = |reader: &Self| reader.ring.memory.load(reader.ring.layout.epoch(), Acquire, Site::EpochLook);
        let before = epoch(self);
        // What the dead one published, or that it closed, is there by now. But a successor may come any time, and opens what
        // was closed: so once more.
        is_dead() && self.is_dry() && is_dead() && epoch(self) == before
    }

    /// Is there nothing to read, and nothing to tell? A loss that this finds is told by the next read.
    fn is_dry(&mut self) -> bool {
        match self.read(|_| ()) {
            Err(loss @ (Stop::Lagged(_) | Stop::Evicted { .. })) => {
                self.owe(loss);
                false
            }
            found => matches!(found, Err(Stop::Empty)),
        }
    }

    /// Gives the slot back. The reader is done; called on drop by whoever owns it, but not in a forked child.
    pub fn leave(&mut self) {
        self.give_back_slot(true);
    }

    /// As [`leave`](Self::leave), of a reader that never came to read: nobody need hear of it.
    pub(in crate::ring) fn withdraw(&mut self) {
        self.give_back_slot(false);
    }

    fn give_back_slot(&mut self, was_reader: bool) {
        if let (Some(registry), Some(slot)) = (&self.registry, self.slot.take()) {
            registry.leave(slot);
            if was_reader {
                registry.tell_of_leave();
            }
            self.notify_writer();
        }
        self.ended.get_or_insert(Stop::Closed);
        self.header = DETOUR;
    }
}
