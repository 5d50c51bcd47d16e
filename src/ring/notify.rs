//! Who must be woken, and how one falls asleep without missing it (invariants I4, I8). The system calls are the
//! memory's; the decisions are here. Both directions are mirror images:
//!
//! ```text
//!   who sleeps                                     who wakes
//!   seen = wake word      (Acquire, P8)            commit, or cursor
//!   flag = 1                                       light barrier  (P7, P9: store buffering with the heavy one)
//!   heavy barrier         (P7, P9)                 flag?  no: done, no system call
//!   look once more at everything                          yes: flag = 0, THEN wake word + 1 (Release, P8), wake all
//!   sleep while wake word = seen, a slice at most
//! ```
//! The order is load-bearing at every step, and so are the slices: whoever cleared a flag may be killed before it
//! wakes. A flag, not a count: a reader that is killed in its sleep leaves nothing behind that would have to be undone.
//! The readers' wake word lies in the ring segment, where no reader can rewind it; the flags and the room word, which
//! many bump, lie in the registry: whoever can write that can cost wakes, and slices.
//!
//! # Semaphores
//! Instead of the futex, and only where it stood: one for the writer, one for each slot, with a flag of its own there. A token tells
//! no more than that it is time for a look, so one too many costs a pass, and one too few a slice.
//!
//! ```text
//!   reader                                         writer
//!   take what tokens are left                      commit
//!   seen = wake word      (Acquire, P8)            light barrier  (P7)
//!   its own flag = 1, flag = 1                     flag?  yes: flag = 0, THEN wake word + 1 (Release, P8)
//!   heavy barrier         (P7, P13)                fence  (P13)
//!   look once more, and is wake word = seen?       for each slot: its own flag?  yes: = 0, THEN post (P14)
//!   take a token, sleeping a slice at most
//! ```
//! The kernel compares the word for a futex, and blocks, in one step. Here the reader looks at the word itself, behind its own
//! flag, and the writer at that flag, behind the word (P13: store buffering): one of them sees the other. A semaphore is posted
//! for a flag that was set, and each sleep begins with none left, so that it never holds more than one or two tokens.
//!
//! In the other direction there is one sleeper, so every reader that clears the writer's flag posts, and needs to look at nothing.
//! The tokens are as many as readers that saw one flag, and the writer, too, begins each sleep with none.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::time::Duration;

use super::{NAP, Reader, Site, Writer};
use crate::layout::slot::FREE;
use crate::layout::{Wakeup, Waking};
use crate::memory::{Barrier, Memory, ReadArea, ReadView, Semaphore};

/// Where one sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bed {
    /// On the word that is bumped.
    Futex,
    /// On a semaphore, which has no tokens left from earlier sleeps.
    Semaphore(Semaphore),
    /// Where nobody comes to wake: not for long.
    Floor,
}

impl Bed {
    /// On a semaphore, if there is one. The tokens that are left come from whoever cleared a flag BEFORE it posted (P14), so the
    /// flag that is set from now on stands.
    fn on<M: Memory>(memory: &M, semaphore: Semaphore, most: u64, site: Site) -> Bed {
        if memory.drain(semaphore, most, site) { Bed::Semaphore(semaphore) } else { Bed::Floor }
    }

    /// How long.
    fn at_most(self, slice: Duration, can_be_woken: bool) -> Duration {
        if can_be_woken && self != Bed::Floor { slice } else { slice.min(NAP) }
    }
}

impl<M: Memory> Writer<M> {
    /// Step 6 of publish: one load, of a line that changes only when somebody goes to sleep.
    #[inline(always)]
    pub(super) fn notify(&mut self) {
        // P7: pairs with `SleepBarrier`; between the commit and the look.
        self.ring.memory.light_barrier(self.barrier, Site::NotifyBarrier);
        // Relaxed: ordered by the barrier.
        if self.sleeping.view().load(0, Relaxed, Site::SleepingLook) != 0 {
            self.wake_readers();
        }
    }

    /// A system call and about 3 microseconds per sleeper; with semaphores a system call per sleeper, and a look at each slot.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_readers(&mut self) {
        self.bump();
        self.wake_sleepers(false);
        self.hear_of_leaves();
    }

    /// As [`wake_readers`](Self::wake_readers), also those whose flags the writer before may have cleared and not have woken.
    pub(super) fn wake_everybody(&mut self) {
        self.bump();
        self.wake_sleepers(true);
        self.hear_of_leaves();
    }

    fn bump(&mut self) {
        // Relaxed: ordered before the bump by its release. Clear BEFORE bump: see P8.
        self.registry.memory.store(self.registry.layout.sleeping(), 0, Relaxed, Site::SleepingClear);
        self.wake = self.wake.wrapping_add(1);
        // Release (P8): pairs with `WakeSeen`.
        self.ring.memory.store(self.ring.layout.wake(), self.wake, Release, Site::WakeBump);
    }

    fn wake_sleepers(&self, everybody: bool) {
        match self.ring.layout.geometry.waking {
            // Nobody sleeps: they nap. (Only who does not go by the header sets a flag.)
            Waking { no_wake: true, .. } => {}
            Waking { means: Wakeup::Futex, .. } => self.ring.memory.wake(self.ring.layout.wake(), Site::WakeReaders),
            Waking { means: Wakeup::PosixSemaphore | Wakeup::SysvSemaphore, .. } => self.post_slots(everybody),
        }
    }

    /// Posts the semaphores of the slots that say they sleep, or of all that have a reader.
    fn post_slots(&self, everybody: bool) {
        let (memory, layout) = (&self.registry.memory, &self.registry.layout);
        // SeqCst (P13): pairs with `SleepBarrier`; between the wake word and the looks.
        memory.fence(SeqCst, Site::PostFence);
        for slot in 0..layout.reader_slots {
            // Relaxed: ordered by the fence.
            let sleeps = memory.load(layout.slot_sleeping(slot), Relaxed, Site::SlotSleepingLook) != 0;
            // Relaxed: who joins now has slept on nothing yet.
            if sleeps || everybody && memory.load(layout.slot_state(slot), Relaxed, Site::SlotStateLook) != FREE {
                // Relaxed: ordered before the post by the semaphore. Clear BEFORE post: see P14.
                memory.store(layout.slot_sleeping(slot), 0, Relaxed, Site::SlotSleepingClear);
                memory.post(layout.slot_semaphore(slot), Site::PostReader);
            }
        }
    }

    /// Sleeps for a slice at most, unless `ready` holds once everybody can see that the writer is about to sleep. True if
    /// it held. A system call; the sleeper's barrier costs about 10 microseconds.
    pub fn park(&mut self, slice: Duration, mut ready: impl FnMut(&mut Self) -> bool) -> bool {
        let room = self.registry.layout.room();
        let bed = self.bed();
        // Acquire (P10): pairs with `RoomBump`; the flag below is set after it was cleared for that bump.
        let seen = self.registry.memory.load(room, Acquire, Site::RoomSeen) as u32;
        // Relaxed: ordered before the second look by the barrier.
        self.registry.memory.store(self.registry.layout.writer_sleeping(), 1, Relaxed, Site::WriterSleepingSet);
        // P9: pairs with `CursorBarrier`.
        let can_be_woken = self.registry.memory.heavy_barrier(self.barrier, Site::RoomBarrier);
        if ready(self) {
            return true;
        }
        let slice = bed.at_most(slice, can_be_woken);
        match bed {
            Bed::Futex | Bed::Floor => self.registry.memory.wait(room, seen, slice, Site::RoomWait),
            // Whoever cleared the flag posts, sooner or later: no look at the word is needed.
            Bed::Semaphore(semaphore) => self.registry.memory.take(semaphore, slice, Site::WriterTake),
        }
        false
    }

    fn bed(&self) -> Bed {
        let (memory, layout) = (&self.registry.memory, &self.registry.layout);
        match self.ring.layout.geometry.waking.means {
            Wakeup::Futex => Bed::Futex,
            // No more than one token for each reader that saw the flag.
            Wakeup::PosixSemaphore | Wakeup::SysvSemaphore => {
                Bed::on(memory, layout.writer_semaphore(), layout.semaphores(), Site::WriterDrain)
            }
        }
    }
}

impl<M: Memory> Reader<M> {
    /// After a cursor moved, or a slot changed hands: wakes the writer if it sleeps.
    pub(super) fn notify_writer(&self) {
        let Some(registry) = &self.registry else { return };
        let (memory, layout) = (&registry.memory, &registry.layout);
        // P9: pairs with `RoomBarrier`; between the cursor and the look.
        memory.light_barrier(self.barrier, Site::CursorBarrier);
        // Relaxed: ordered by the barrier.
        if memory.load(layout.writer_sleeping(), Relaxed, Site::WriterSleepingLook) == 0 {
            return;
        }
        // Relaxed: ordered before the bump by its release. Clear BEFORE bump: see P10.
        memory.store(layout.writer_sleeping(), 0, Relaxed, Site::WriterSleepingClear);
        // Release (P10): pairs with `RoomSeen`. An addition, because many readers bump.
        memory.fetch_add(layout.room(), 1, Release, Site::RoomBump);
        match self.ring.layout.geometry.waking.means {
            Wakeup::Futex => memory.wake(layout.room(), Site::WakeWriter),
            // Clear BEFORE post: see P14.
            Wakeup::PosixSemaphore | Wakeup::SysvSemaphore => {
                memory.post(layout.writer_semaphore(), Site::PostWriter);
            }
        }
    }

    /// Sleeps for a slice at most, unless there is something to receive once the writer can see that a reader is about to
    /// sleep. A system call; the barrier costs about 10 microseconds. A short nap where nobody would wake it: without a registry,
    /// with semaphores and no slot, and where the writer wakes nobody. False if it was a nap, which says nothing about when
    /// something came.
    pub fn park(&mut self, slice: Duration) -> bool {
        let wake = self.ring.layout.wake();
        // A reader that sleeps holds nothing back.
        self.settle_cursor();
        let bed = self.bed();
        // Acquire (P8): pairs with `WakeBump`; the flag below is set after it was cleared for that bump.
        let seen = self.ring.memory.load(wake, Acquire, Site::WakeSeen) as u32;
        let mut can_be_woken = false;
        if let (Some(registry), Bed::Futex | Bed::Semaphore(_)) = (&self.registry, bed) {
            if let (Some(slot), Bed::Semaphore(_)) = (self.slot, bed) {
                // Relaxed: ordered before the second look by the barrier.
                registry.memory.store(registry.layout.slot_sleeping(slot), 1, Relaxed, Site::SlotSleepingSet);
            }
            // Relaxed: ordered before the second look by the barrier.
            registry.memory.store(registry.layout.sleeping(), 1, Relaxed, Site::SleepingSet);
            // P7, P13: pairs with `NotifyBarrier` and `PostFence`.
            can_be_woken = self.ring.memory.heavy_barrier(self.ring.barrier_mode(), Site::SleepBarrier);
        }
        if self.second_look() {
            return true;
        }
        let slice = bed.at_most(slice, can_be_woken);
        match (&self.registry, bed) {
            (Some(registry), Bed::Semaphore(semaphore)) => {
                // Relaxed (P13): ordered by the barrier. A writer that has bumped may have looked at this slot too early.
                if self.ring.memory.load(wake, Relaxed, Site::WakeLook) as u32 == seen {
                    registry.memory.take(semaphore, slice, Site::ReaderTake);
                }
            }
            _ => self.ring.memory.wait(wake, seen, slice, Site::SleepWait),
        }
        can_be_woken
    }

    fn bed(&self) -> Bed {
        let Some(registry) = &self.registry else { return Bed::Floor };
        match (self.ring.layout.geometry.waking, self.slot) {
            (Waking { no_wake: true, .. }, _) => Bed::Floor,
            (Waking { means: Wakeup::Futex, .. }, _) => Bed::Futex,
            (_, None) => Bed::Floor,
            (_, Some(slot)) => {
                let (memory, layout) = (&registry.memory, &registry.layout);
                Bed::on(memory, layout.slot_semaphore(slot), layout.semaphores(), Site::ReaderDrain)
            }
        }
    }

    /// Is there anything that a receive would not call empty?
    pub(super) fn second_look(&self) -> bool {
        let (memory, layout) = (&self.ring.memory, &self.ring.layout);
        // Acquire (P11): pairs with `Close`.
        let closed = memory.load(layout.closed(), Acquire, Site::SleepClosedLook) != 0;
        // Acquire (P1): pairs with `Commit`.
        let header = self.data.view().load(self.position, Acquire, Site::SleepHeaderLook);
        // Relaxed: the receive that follows judges.
        let limit = memory.load(layout.limit(), Relaxed, Site::SleepLimitLook);
        closed || header != 0 || limit.wrapping_sub(self.position) > layout.geometry.capacity
    }
}

/// The barrier of the side that is fast: nothing, if the ring's writer counts on registered peers and this process is one.
pub(super) fn fast_side(ring: Barrier, registered: bool) -> Barrier {
    if registered { ring } else { Barrier::Fence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Word;

    #[test]
    fn whoever_may_not_be_woken_only_naps() {
        let (long, short) = (NAP * 100, NAP / 2);
        let semaphore = Bed::Semaphore(Semaphore { at: Word(0), number: 0 });
        for (bed, can_be_woken, most) in [
            (Bed::Futex, true, long),
            (Bed::Futex, false, NAP),
            (semaphore, true, long),
            (semaphore, false, NAP),
            (Bed::Floor, true, NAP),
            (Bed::Floor, false, NAP),
        ] {
            assert_eq!(bed.at_most(long, can_be_woken), most, "{bed:?}, can be woken: {can_be_woken}");
            assert_eq!(bed.at_most(short, can_be_woken), short, "{bed:?}");
        }
    }
}
