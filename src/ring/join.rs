//! Where a reader starts, and where a lapped one goes on.
//!
//! A boundary comes from a cell that the writer wrote: a head cell (at most a block old) or a checkpoint (one per block).
//! It may be stale by the time it is used, so whoever uses it judges it again: a lossless joiner by `announced`, once its
//! slot is visible (P3); everybody else by `limit`, like any read.

use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use super::reader::MAX_TURNS;
use super::{Boundary, MAX_RESTARTS, Reader, Registry, Ring, Site, Stop, cell, notify};
use crate::layout::{Geometry, Header, MAX_POSITION, RECORD_HEADER_BYTES};
use crate::memory::Memory;

/// Where in the ring to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest record from which one can start: the first of the oldest block that is still whole.
    #[default]
    Oldest,
    /// About half a ring behind the writer: much history, and time to read it.
    Middle,
    /// With the next record to be published.
    Newest,
    /// With the record of this sequence number.
    Sequence(u64),
}

/// Why a reader could not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// All slots are taken.
    NoFreeSlot,
    /// No checkpoint at or before the record is left; the oldest record from which one can start has this number.
    SequenceGone {
        /// The oldest sequence number.
        oldest: u64,
    },
    /// The record is not there yet; the next one has this number.
    SequenceNotYet {
        /// The next sequence number.
        next: u64,
    },
    /// The writer outran every attempt.
    Busy,
    /// The segment is damaged.
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

/// A boundary for `start` that `limit` allows now. `None`: the writer outran every look.
pub(super) fn find<M: Memory>(ring: &Ring<M>, start: Start) -> Option<Boundary> {
    for _ in 0..MAX_RESTARTS {
        // Relaxed: judged again by whoever reads at the boundary.
        let limit = || ring.memory.load(ring.layout.limit(), Relaxed, Site::LimitLook);
        let found = pick(ring, start, limit());
        if found.is_some_and(|boundary| is_valid(ring, boundary, limit())) {
            return found;
        }
        ring.memory.pause();
    }
    None
}

/// May one read at the boundary, if the writer may overwrite up to `bound`? Cells are words that a peer wrote (I6).
pub(super) fn is_valid<M: Memory>(ring: &Ring<M>, boundary: Boundary, bound: u64) -> bool {
    let Boundary { position, sequence } = boundary;
    let Geometry { capacity, alignment, .. } = ring.layout.geometry;
    bound.wrapping_sub(position) <= capacity
        && position.is_multiple_of(alignment)
        // No sum with either may overflow; a record takes a header at least.
        && position <= MAX_POSITION + capacity
        && sequence <= position / RECORD_HEADER_BYTES
}

/// The best boundary for `start` among those that are valid below `bound`.
fn pick<M: Memory>(ring: &Ring<M>, start: Start, bound: u64) -> Option<Boundary> {
    let Ring { memory, layout } = ring;
    let geometry = &layout.geometry;
    let newest =
        (0..2).filter_map(|index| cell::read(memory, layout.head_cell(index))).max_by_key(|cell| cell.position);
    if start == Start::Newest {
        return newest;
    }
    let blocks = (0..geometry.blocks).map(|block| block * geometry.block());
    let valid = blocks
        .filter_map(|offset| cell::read(memory, layout.checkpoint_at(offset)))
        .chain(newest)
        .filter(|&boundary| is_valid(ring, boundary, bound));
    match start {
        Start::Oldest | Start::Newest => valid.min_by_key(|boundary| boundary.position),
        Start::Middle => {
            let middle = bound.saturating_sub(geometry.capacity / 2);
            valid.min_by_key(|boundary| boundary.position.abs_diff(middle))
        }
        Start::Sequence(wanted) => {
            // The last one at or before it; if there is none, the oldest, so that the caller can name it.
            valid.min_by_key(|boundary| match wanted.checked_sub(boundary.sequence) {
                Some(short) => (false, short),
                None => (true, boundary.sequence),
            })
        }
    }
}

/// Just behind the last record: from the newer head cell along the chain to the first header that is 0. Who is outrun begins again,
/// and is content with a boundary before it when the steps of a lap are used up. `None`: the writer outran every look.
pub(super) fn newest<M: Memory>(ring: &Ring<M>) -> Option<Boundary> {
    let (geometry, data) = (&ring.layout.geometry, ring.layout.data());
    let Boundary { mut position, mut sequence } = find(ring, Start::Newest)?;
    let mut restarts = 1..MAX_TURNS;
    for _ in 0..geometry.capacity / geometry.alignment {
        // Acquire (P1): as in a read; nothing but the length is used.
        let word = ring.memory.load(data.word(position), Acquire, Site::Header);
        // Acquire (P2): as in a read.
        ring.memory.fence(Acquire, Site::ReadFence);
        // Relaxed: ordered by the fence.
        let limit = ring.memory.load(ring.layout.limit(), Relaxed, Site::LimitLook);
        if !is_valid(ring, Boundary { position, sequence }, limit) {
            restarts.next()?;
            Boundary { position, sequence } = find(ring, Start::Newest)?;
            continue;
        }
        let (size, records) = match data.read_header(word, position) {
            Header::Data { size } => (size, 1),
            Header::Pad { size } => (size, 0),
            Header::Empty | Header::Impossible => break,
        };
        (position, sequence) = (position + size, sequence + records);
    }
    Some(Boundary { position, sequence })
}

impl<M: Memory> Reader<M> {
    /// Joins as a lossless reader: from the record it starts with, nothing is overwritten before it has read it (I2).
    /// `registered`: this process can be interrupted by `membarrier`. `process` is noted in the slot, for people.
    ///
    /// # Errors
    /// [`JoinError`]; the slot is free again.
    pub fn join_lossless(
        ring: Ring<M>,
        registry: Registry<M>,
        start: Start,
        registered: bool,
        process: u64,
    ) -> Result<Self, JoinError> {
        Ok(Self::join_lossless_owned(ring, registry, start, registered, process, false, |_| Some(()))?.0)
    }

    /// As [`join_lossless`](Self::join_lossless), where slots have locks: `lock` takes the one of a slot. With `orphans`,
    /// slots of dead owners are taken, too.
    ///
    /// # Errors
    /// [`JoinError`]; the slot is free again.
    pub fn join_lossless_owned<L>(
        ring: Ring<M>,
        registry: Registry<M>,
        start: Start,
        registered: bool,
        process: u64,
        orphans: bool,
        lock: impl FnMut(u64) -> Option<L>,
    ) -> Result<(Self, L), JoinError> {
        let (slot, lock) = registry.claim(true, orphans, lock).ok_or(JoinError::NoFreeSlot)?;
        registry.sign(slot, process);
        let held = hold(&ring, &registry, slot, start);
        let barrier = notify::fast_side(ring.barrier_mode(), registered);
        let boundary = held.unwrap_or(Boundary { position: 0, sequence: 0 });
        let mut reader = Reader::at(ring, Some(registry), true, Some(slot), barrier, boundary);
        let joined = if held.is_some() { reader.walk_to(start) } else { Err(JoinError::Busy) };
        Ok((reader.end_join(joined)?, lock))
    }

    /// Joins as a lossy reader: holds nothing, and is told what it missed. With a registry it can be woken, and takes a
    /// slot if one is free, so that it is counted; without, it is a follower.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join_lossy(
        ring: Ring<M>,
        registry: Option<Registry<M>>,
        start: Start,
        registered: bool,
        process: u64,
    ) -> Result<Self, JoinError> {
        Ok(Self::join_lossy_owned(ring, registry, start, registered, process, false, |_| Some(()))?.0)
    }

    /// As [`join_lossy`](Self::join_lossy), where slots have locks; see
    /// [`join_lossless_owned`](Self::join_lossless_owned).
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join_lossy_owned<L>(
        ring: Ring<M>,
        registry: Option<Registry<M>>,
        start: Start,
        registered: bool,
        process: u64,
        orphans: bool,
        lock: impl FnMut(u64) -> Option<L>,
    ) -> Result<(Self, Option<L>), JoinError> {
        let boundary = find(&ring, start).ok_or(JoinError::Busy)?;
        let barrier = notify::fast_side(ring.barrier_mode(), registered);
        let claimed = registry.as_ref().and_then(|registry| {
            let (slot, lock) = registry.claim(false, orphans, lock)?;
            registry.sign(slot, process);
            registry.be_present(slot);
            Some((slot, lock))
        });
        let (slot, lock) = claimed.unzip();
        let mut reader = Reader::at(ring, registry, false, slot, barrier, boundary);
        let joined = reader.walk_to(start);
        Ok((reader.end_join(joined)?, lock))
    }

    /// The writer may be waiting for this reader to come; or a slot that failed to join may have held it back.
    fn end_join(mut self, joined: Result<(), JoinError>) -> Result<Self, JoinError> {
        match joined {
            Ok(()) => {
                self.notify_writer();
                Ok(self)
            }
            Err(error) => {
                self.withdraw();
                Err(error)
            }
        }
    }

    /// From the boundary of a cell to the very record, over records that are read and dropped. Bounded: by the records
    /// that fit, and for a writer that never pauses "newest" is what was newest when the walk began.
    fn walk_to(&mut self, start: Start) -> Result<(), JoinError> {
        let target = match start {
            Start::Newest => newest(&self.ring).ok_or(JoinError::Busy)?.sequence,
            Start::Sequence(wanted) if wanted < self.sequence => {
                return Err(JoinError::SequenceGone { oldest: self.sequence });
            }
            Start::Sequence(wanted) => wanted,
            Start::Oldest | Start::Middle => return Ok(()),
        };
        // Who is lapped on its way goes on where it would have begun, so that nothing but what is gone is missed.
        let resume = self.resume();
        self.set_resume(start);
        let walked = self.walk(start, target);
        self.set_resume(resume);
        walked
    }

    /// The walk itself, to the record of this number.
    fn walk(&mut self, start: Start, target: u64) -> Result<(), JoinError> {
        let most = self.geometry().capacity / self.geometry().alignment + 1;
        let (skips, mut outrun) = (self.skips, 0);
        for _ in 0..=most {
            if self.sequence >= target {
                return Ok(());
            }
            // Each skip is a look at all checkpoints, and who is outrun may have looked many times.
            if self.skips.wrapping_sub(skips) > MAX_RESTARTS || outrun == MAX_TURNS {
                break;
            }
            match self.read(|_| ()) {
                Ok(read) => self.release(read.next()),
                // Lapped behind the look, or in every look for where to go on: there is more by now.
                Err(Stop::Empty) if !self.still_whole(self.position) => outrun += 1,
                Err(Stop::Empty | Stop::Closed) if start == Start::Newest => return Ok(()),
                Err(Stop::Empty | Stop::Closed) => return Err(JoinError::SequenceNotYet { next: self.sequence }),
                Err(Stop::Lagged(_)) if start == Start::Newest || self.sequence <= target => {}
                Err(Stop::Lagged(_)) => return Err(JoinError::SequenceGone { oldest: self.sequence }),
                Err(Stop::Corrupt { position, header }) => return Err(JoinError::Corrupt { position, header }),
                Err(Stop::Evicted { .. }) => return Err(JoinError::Busy),
            }
        }
        Err(JoinError::Busy)
    }

    /// Makes a reader that has a slot lossless from the next record on: one that was evicted, most of all. Answers how many
    /// records were lost by it, and by a loss that no read has told yet: none, unless the writer is about to overwrite the
    /// next one; then it goes on where a lapped reader does. Loops a bounded number of times.
    ///
    /// # Errors
    /// [`JoinError`]; it is as lossy as before.
    pub fn rejoin(&mut self) -> Result<u64, JoinError> {
        let corrupt = |stop| match stop {
            Stop::Corrupt { position, header } => JoinError::Corrupt { position, header },
            _ => JoinError::Busy,
        };
        if let Some(poison) = self.poison() {
            return Err(corrupt(poison));
        }
        let (Some(registry), Some(slot)) = (&self.registry, self.slot) else { return Err(JoinError::NoFreeSlot) };
        if self.is_lossless() {
            return Ok(0);
        }
        let here = Boundary { position: self.position, sequence: self.sequence };
        let mut lost = 0;
        if !hold_at(&self.ring, registry, slot, here) {
            let Some(boundary) = hold(&self.ring, registry, slot, self.resume()) else {
                registry.be_present(slot);
                self.notify_writer();
                return Err(JoinError::Busy);
            };
            lost = self.skip_to(boundary).map_err(corrupt)?;
        }
        // Told here: no read of a lossless reader may speak of a lossy one's past.
        lost = self.take_owed().map_or(lost, |owed| owed.saturating_add(lost));
        self.be_lossless();
        Ok(lost)
    }
}

/// Puts a boundary into a claimed slot such that the writer cannot have passed it, nor ever will: the joiner's side of
/// the store-buffering pattern P3.
fn hold<M: Memory>(ring: &Ring<M>, registry: &Registry<M>, slot: u64, start: Start) -> Option<Boundary> {
    for _ in 0..MAX_RESTARTS {
        // Relaxed: a first guess, judged below.
        let announced = ring.memory.load(ring.layout.announced(), Relaxed, Site::JoinAnnouncedLook);
        if let Some(boundary) = pick(ring, start, announced)
            && hold_at(ring, registry, slot, boundary)
        {
            return Some(boundary);
        }
        ring.memory.pause();
    }
    None
}

/// One attempt of that. False: the writer may have passed the boundary, and the slot still says so.
fn hold_at<M: Memory>(ring: &Ring<M>, registry: &Registry<M>, slot: u64, boundary: Boundary) -> bool {
    registry.activate(slot, boundary.position);
    // SeqCst (P3): pairs with `AnnounceFence`. Either the writer's scan sees this slot, or this load sees where
    // the writer means to go.
    ring.memory.fence(SeqCst, Site::JoinFence);
    // Relaxed: ordered by the fence.
    let announced = ring.memory.load(ring.layout.announced(), Relaxed, Site::JoinAnnouncedLook);
    is_valid(ring, boundary, announced)
}
