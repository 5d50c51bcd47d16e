//! The writer: reserve, fill, commit; batches; the slow path once per block.
//!
//! The writer keeps its position, sequence number, announced and limit in private memory: it never reads back what it
//! published, and of what others write only one flag on the fast path and the slots in the slow path.
//!
//! ```text
//!   reserve(len) ──▶ fill the payload ──▶ commit          a reservation that is dropped is an abort: nothing to undo,
//!      │                                                  the header word at the position is still 0
//!      └─ no room below `limit`, or the end of the lap ──▶ make_way: pad, slow path (cold)
//! ```

use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use super::registry::Blocker;
use super::{Boundary, Registry, Ring, Site, ahead, cell, notify};
use crate::layout::{Geometry, MAX_POSITION, RECORD_HEADER_BYTES, RegistryLayout, RingLayout, WORD_BYTES};
use crate::memory::{Barrier, Memory, Word, WriteArea, WriteView};

mod batch;

use batch::Staged;

/// Why a record could not be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A lossless reader has not read far enough.
    Full,
    /// The payload is longer than [`Geometry::max_payload`].
    TooLarge,
    /// The position reached [`MAX_POSITION`].
    Exhausted,
    /// The ring was closed.
    Closed,
    /// Another writer has taken the ring over. Final.
    Fenced,
    /// The ring's count of its writers is what no successor leaves there ([`Writer::found_epoch`]): the segment is damaged. Final.
    Corrupt,
    /// It is time to look whether anybody reads: see [`Writer::heed_readers`]. Whoever is asked for a record looks, and if so
    /// calls [`Writer::roll_called`] and tries again.
    RollCall,
}

/// Whether a writer looks who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RollCall {
    /// It was not asked to.
    Off,
    /// It is time to.
    Due,
    /// Somebody was there; until a reader leaves or the block is full.
    Done,
}

/// Successors that can come between two looks at the epoch. What is further ahead is none.
const MAX_SUCCESSORS: u64 = u32::MAX as u64;

/// Room for one record at the writer's position.
#[derive(Debug)]
#[must_use = "a reservation that is not committed was never there"]
pub struct Reserved {
    position: u64,
    len: usize,
    /// The position behind it.
    next: u64,
}

impl Reserved {
    /// Bytes of payload that fit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A record may be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The one writer of a ring. What every record changes is in one cache line: it waits between the ring's own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Writer<M: Memory> {
    /// Where the next record goes.
    position: u64,
    /// The sequence number of the next record.
    sequence: u64,
    /// The next record may reach up to here without a look at anything: a word less than up to `limit`, and less than up
    /// to the end of the lap, so that the zero ahead has a place.
    clear_to: u64,
    /// The data area.
    room: M::WriteArea,
    /// The flag that says that somebody sleeps.
    pub(super) sleeping: M::ReadArea,
    pub(super) ring: Ring<M>,
    pub(super) registry: Registry<M>,
    pub(super) barrier: Barrier,
    announced: u64,
    limit: u64,
    /// The head cell that is written next, and the position in the one that was written last.
    head: usize,
    head_position: u64,
    /// The block of the last checkpoint, counted from position 0.
    checkpoint_block: u64,
    /// The wake word's value.
    pub(super) wake: u64,
    staged: Option<Staged>,
    closed: bool,
    /// Counts the writers of this ring.
    epoch: u64,
    /// Who held the writer back when it last looked.
    blocker: Option<Blocker>,
    /// Leave this cursor out of the next scan.
    passed_over: Option<u64>,
    roll_call: RollCall,
    /// Another epoch than this writer's, once it was found: poisoned.
    found_epoch: Option<u64>,
}

impl<M: Memory> Writer<M> {
    /// The writer of a freshly formatted ring. `registered`: this process can be interrupted by `membarrier`, so that its
    /// fast path needs no fence.
    pub fn new(ring: Ring<M>, registry: Registry<M>, registered: bool) -> Writer<M> {
        let barrier = notify::fast_side(Barrier::Asymmetric, registered);
        let mode = u64::from(barrier == Barrier::Asymmetric);
        // Relaxed: before the first publish, and a reader that misses it uses fences, which are never wrong for it
        // but for one slice.
        ring.memory.store(ring.layout.barrier_mode(), mode, Relaxed, Site::ModeStore);
        let (start, data) = (ring.layout.geometry.start, ring.layout.data());
        Writer {
            barrier,
            position: start,
            room: ring.memory.write_area(data.first(), data.capacity()),
            sleeping: registry.memory.read_area(registry.layout.sleeping(), WORD_BYTES),
            sequence: 0,
            clear_to: start,
            announced: start,
            limit: start,
            head: 0,
            head_position: start,
            checkpoint_block: start / ring.layout.geometry.block(),
            wake: 0,
            staged: None,
            closed: false,
            epoch: 0,
            blocker: None,
            passed_over: None,
            roll_call: RollCall::Off,
            found_epoch: None,
            ring,
            registry,
        }
    }

    /// Puts a successor where its predecessor stopped: see [`take_over`](Self::take_over). It begins with `make_way`.
    pub(super) fn resume(
        &mut self,
        here: Boundary,
        (announced, limit): (u64, u64),
        head: usize,
        head_position: u64,
        (epoch, wake): (u64, u64),
    ) {
        (self.position, self.sequence, self.clear_to) = (here.position, here.sequence, here.position);
        (self.announced, self.limit) = (announced.max(limit), limit);
        (self.head, self.head_position) = (head, head_position);
        self.checkpoint_block = head_position / self.ring.layout.geometry.block();
        (self.epoch, self.wake) = (epoch, wake);
    }

    /// Publishes one record; answers its sequence number. For `n` words of payload: n + 2 stores and 1 load, and a load
    /// more for the first and the last record of a lap.
    ///
    /// # Errors
    /// [`Refused`]; nothing was published.
    pub fn try_publish(&mut self, payload: &[u8]) -> Result<u64, Refused> {
        let reserved = self.reserve(payload.len())?;
        Ok(self.put(reserved, payload))
    }

    /// Fills a reservation of the payload's length, and [commits](Self::commit) it.
    #[inline(always)]
    pub fn put(&mut self, reserved: Reserved, payload: &[u8]) -> u64 {
        debug_assert_eq!(payload.len(), reserved.len);
        self.finish(reserved, Some(payload))
    }

    #[inline(always)]
    fn finish(&mut self, Reserved { position, len, next }: Reserved, payload: Option<&[u8]>) -> u64 {
        let (room, sequence) = (self.room.view(), self.sequence);
        if let Some(payload) = payload {
            room.copy_in(position, payload);
        }
        (self.position, self.sequence) = (next, sequence + 1);
        // Zero ahead, BEFORE the commit: a reader that follows the chain finds 0 there until the next commit (I1).
        // Relaxed: ordered by the commit's release.
        room.store(next, 0, Relaxed, Site::ZeroAhead);
        // Release (P1): pairs with `Header` and `Peek`; the payload, the zero ahead and the `limit` that covers them.
        room.store(position, Geometry::data_header(len), Release, Site::Commit);
        ahead::ask_for_one(room, next);
        self.notify();
        sequence
    }

    /// Fills a reservation from its first byte on, with as much as it has room for at most.
    #[inline(always)]
    pub fn fill(&self, reserved: &Reserved, payload: &[u8]) {
        debug_assert!(payload.len() <= reserved.len);
        self.room.view().copy_in(reserved.position, payload);
    }

    /// The fast path of [`reserve`](Self::reserve): `None` if it needs a wrap or the slow path, or will be refused.
    #[inline(always)]
    pub fn reserve_at_once(&self, len: usize) -> Option<Reserved> {
        // The size of one that is longer may be more than fits into a number.
        let fits = len as u64 <= self.ring.layout.data().max_payload();
        if fits { self.reserve_sized(len, self.ring.layout.data().record_size(len)) } else { None }
    }

    /// What [`reserve_sized`](Self::reserve_sized) needs to know of a length.
    pub fn size_for(&self, len: usize) -> u64 {
        let data = self.ring.layout.data();
        // More than there ever is room for, and no overflow.
        if len as u64 <= data.max_payload() { data.record_size(len) } else { MAX_POSITION / 2 }
    }

    /// As [`reserve_at_once`](Self::reserve_at_once), of a length whose [size](Self::size_for) was asked before.
    #[inline(always)]
    pub fn reserve_sized(&self, len: usize, size: u64) -> Option<Reserved> {
        let next = self.position + size;
        (next <= self.clear_to).then_some(Reserved { position: self.position, len, next })
    }

    /// Room that was [made](Self::make_room), for a record of so many bytes.
    #[inline(always)]
    pub fn reserved(&self, len: usize) -> Reserved {
        Reserved { position: self.position, len, next: self.position + self.ring.layout.data().record_size(len) }
    }

    /// The first word of a reservation's payload.
    #[inline(always)]
    pub fn payload(&self, reserved: &Reserved) -> Word {
        self.ring.layout.data().word(reserved.position).plus(1)
    }

    /// Makes room for a record of `len` bytes of payload. To abort, drop the result.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline(always)]
    pub fn reserve(&mut self, len: usize) -> Result<Reserved, Refused> {
        self.make_room(len)?;
        Ok(self.reserved(len))
    }

    /// Makes room for a record of `len` bytes of payload, if there is none.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline(always)]
    pub fn make_room(&mut self, len: usize) -> Result<(), Refused> {
        if self.reserve_at_once(len).is_some() { Ok(()) } else { self.make_way(len) }
    }

    /// Uses only the first `len` bytes of a reservation.
    pub fn truncate(&self, reserved: &mut Reserved, len: usize) {
        *reserved = self.reserved(reserved.len.min(len));
    }

    /// Commits a filled reservation, the last one that was made and with nothing committed since; answers its sequence
    /// number.
    #[inline(always)]
    pub fn commit(&mut self, reserved: Reserved) -> u64 {
        self.finish(reserved, None)
    }

    /// Behind the commit of a record that was filled in place: the next one will be, too.
    #[inline(always)]
    pub fn ask_ahead(&self, len: usize) {
        ahead::ask_for_record(self.room.view(), self.position, len);
    }

    /// Closes the ring: readers get `Closed` once they have read everything. Wakes all, whether a flag is set or not.
    pub fn close(&mut self) {
        self.closed = true;
        if self.is_cut_off() {
            // The ring is its successor's, who goes on.
            self.staged = None;
            return;
        }
        self.flush();
        // An empty record has a size, too: from now on every reservation comes by `make_way`.
        self.clear_to = self.position;
        // Release (P11): pairs with `ClosedLook`; behind the last commit.
        self.ring.memory.store(self.ring.layout.closed(), 1, Release, Site::Close);
        self.wake_readers();
    }

    /// Sleeps until there may be room for `len` bytes of payload, for a slice at most. The look that it takes before it
    /// sleeps announces and scans anew (P3 and P9 at once).
    pub fn park_for_room(&mut self, len: usize, slice: core::time::Duration) {
        self.park(slice, |writer| writer.make_way(len).is_ok());
    }

    /// The cold part of `reserve`: a pad at the end of the lap, the slow path below the limit.
    #[cold]
    #[inline(never)]
    fn make_way(&mut self, len: usize) -> Result<(), Refused> {
        if self.found_epoch.is_some() {
            self.staged = None;
            return Err(self.cut_off());
        }
        // A slow path must not stand over an uncommitted first record.
        self.flush();
        let data = self.ring.layout.data();
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.is_cut_off() {
            return Err(self.cut_off());
        }
        if self.roll_call == RollCall::Due {
            return Err(Refused::RollCall);
        }
        if len as u64 > data.max_payload() {
            return Err(Refused::TooLarge);
        }
        if self.position > MAX_POSITION {
            // Final, also for a shorter record that would still fit.
            self.clear_to = self.position;
            return Err(Refused::Exhausted);
        }
        let (room, size) = (data.room_to_end(self.position), data.record_size(len));
        let pad = if size > room { room } else { 0 };
        let total = pad + size + RECORD_HEADER_BYTES;
        debug_assert!(total <= data.capacity(), "max_payload leaves room for pad and zero ahead");
        if self.position + total > self.limit {
            self.slow_path(total);
            if self.roll_call == RollCall::Due {
                // Also for a shorter record that would still fit.
                self.clear_to = self.position;
                return Err(Refused::RollCall);
            }
            if self.position + total > self.limit {
                return Err(Refused::Full);
            }
        }
        if pad > 0 {
            self.wrap(pad);
        }
        let end_of_lap = self.position + data.room_to_end(self.position);
        self.clear_to = end_of_lap.min(self.limit) - RECORD_HEADER_BYTES;
        Ok(())
    }

    /// Has this ring another writer by now? Final: also if the word is put right again.
    pub fn is_cut_off(&mut self) -> bool {
        if self.found_epoch.is_none() {
            // Relaxed: between honest processes the lease decides; this is for one that was cut off from its lease.
            let found = self.ring.memory.load(self.ring.layout.epoch(), Relaxed, Site::EpochLook);
            self.found_epoch = (found != self.epoch).then_some(found);
        }
        if self.found_epoch.is_some() {
            // From now on every reservation comes by `make_way`.
            self.clear_to = self.position;
        }
        self.found_epoch.is_some()
    }

    /// By whom, or by what.
    fn cut_off(&self) -> Refused {
        if self.has_successor() { Refused::Fenced } else { Refused::Corrupt }
    }

    /// Was another writer found in its place?
    pub fn has_successor(&self) -> bool {
        self.found_epoch.is_some_and(|found| (1..=MAX_SUCCESSORS).contains(&found.wrapping_sub(self.epoch)))
    }

    /// This writer's epoch, and another one if that was found in its place.
    pub fn found_epoch(&self) -> (u64, Option<u64>) {
        (self.epoch, self.found_epoch)
    }

    /// From now on answers [`Refused::RollCall`] when it is time to look whether anybody reads: at first, for each block, and
    /// for the record behind the first one that follows on a reader's leave.
    pub fn heed_readers(&mut self, heed: bool) {
        self.registry.heed_leaves(heed);
        self.roll_call = if heed { RollCall::Due } else { RollCall::Off };
        self.clear_to = self.position;
    }

    /// Somebody reads, or need not.
    pub fn roll_called(&mut self) {
        if self.roll_call == RollCall::Due {
            self.roll_call = RollCall::Done;
        }
    }

    /// Has a reader left since the last time that this was asked? One that died has not. Ask before counting who is there.
    pub fn take_leaves(&mut self) -> bool {
        let left = self.registry.somebody_left();
        if left {
            self.registry.heed_leaves(true);
        }
        left
    }

    /// After a wake, which may have been for one that left: it sets the same flag.
    pub(super) fn hear_of_leaves(&mut self) {
        if self.roll_call == RollCall::Done && self.registry.somebody_left() {
            self.call_roll_again();
        }
    }

    /// Somebody is there no more.
    fn call_roll_again(&mut self) {
        if self.roll_call == RollCall::Done {
            self.roll_call = RollCall::Due;
            // The next reservation comes by `make_way`.
            self.clear_to = self.position;
        }
    }

    /// Fills the rest of the data area and goes on at its start, AT ONCE: an abort, or a slow path, must not stand before
    /// a committed pad.
    fn wrap(&mut self, pad: u64) {
        let (room, next) = (self.room.view(), self.position + pad);
        // Relaxed: the zero ahead of the pad, ordered by its release.
        room.store(next, 0, Relaxed, Site::WrapZero);
        // Release (P1): as `Commit`.
        room.store(self.position, Geometry::pad_header(pad), Release, Site::PadCommit);
        (self.position, self.clear_to) = (next, next);
    }

    /// Raises `limit` as far as the lossless readers allow. About once per block; a full fence and one load per slot that
    /// was ever lossless.
    fn slow_path(&mut self, total: u64) {
        let Ring { memory, layout } = &self.ring;
        let (capacity, block) = (layout.geometry.capacity, layout.geometry.block());
        let here = Boundary { position: self.position, sequence: self.sequence };
        // What a successor trusts, and where "newest" starts. Alternating, so that one always stands.
        if self.head_position != here.position {
            cell::write(memory, layout.head_cell(self.head), here);
            self.head ^= 1;
            self.head_position = here.position;
        }
        // Never beyond position + capacity: this position stays valid, so there is always a boundary to join at.
        let goal = (here.position + total + block).min(here.position + capacity);
        // Stored only if it changes, like `limit` below: readers look at this line with every record, and a writer that
        // waits for room must not take it away from them again and again. What was stored before is before the fence, too.
        if goal > self.announced {
            self.announced = goal;
            // Relaxed: ordered before the scan by the fence.
            memory.store(layout.announced(), self.announced, Relaxed, Site::Announce);
        }
        // SeqCst (P3): pairs with `JoinFence`.
        memory.fence(SeqCst, Site::AnnounceFence);
        self.blocker = self.registry.smallest_cursor(here.position, self.limit, capacity, self.passed_over.take());
        let allowed = self.blocker.map_or(self.announced, |blocker| self.announced.min(blocker.cursor + capacity));
        if allowed > self.limit {
            self.limit = allowed;
            // Relaxed: ordered before what it allows by the fence.
            memory.store(layout.limit(), self.limit, Relaxed, Site::Limit);
            // Release (P2): pairs with `ReadFence`. Only after it may bytes below limit - capacity be overwritten.
            memory.fence(Release, Site::LimitFence);
        }
        if here.position / block != self.checkpoint_block {
            self.checkpoint_block = here.position / block;
            cell::write(memory, layout.checkpoint_at(here.position), here);
            if self.roll_call == RollCall::Done {
                self.roll_call = RollCall::Due;
            }
        }
    }

    /// The lossless reader that held the writer back when it last looked.
    pub fn blocker(&self) -> Option<Blocker> {
        self.blocker
    }

    /// Goes on without the readers that stand where this one was seen, at the next attempt: an eviction, unless they read on before.
    /// Nothing is stored into a slot, which stays its owner's; the reader finds out by the one rule.
    pub fn pass_over(&mut self, blocker: Blocker) {
        self.passed_over = Some(blocker.cursor);
    }

    /// Notes the writer's process id in the ring, for people.
    pub fn sign(&mut self, process: u64) {
        // Relaxed: for people.
        self.ring.memory.store(self.ring.layout.writer_process(), process, Relaxed, Site::ModeStore);
    }

    /// Frees the slot of a dead reader, whose lock the caller holds. False if it is free.
    pub fn reap(&mut self, slot: u64) -> bool {
        self.call_roll_again();
        self.registry.reap(slot)
    }

    /// Frees the slots of all dead readers: those whose lock can be had.
    pub fn reap_all<L>(&mut self, mut lock: impl FnMut(u64) -> Option<L>) {
        for slot in self.registry.held() {
            if let Some(_lock) = lock(slot) {
                self.registry.reap(slot);
            }
        }
    }

    /// The sizes.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        &self.ring.layout.geometry
    }

    /// The ring segment's words, to fill a reservation through.
    pub fn memory(&self) -> &M {
        &self.ring.memory
    }

    /// Where the next record goes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The sequence number of the next record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Has this writer closed the ring?
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Readers that hold a slot.
    pub fn reader_count(&self) -> u64 {
        self.registry.count()
    }

    /// The layouts of both segments.
    pub fn layouts(&self) -> (&RingLayout, &RegistryLayout) {
        (&self.ring.layout, &self.registry.layout)
    }
}
