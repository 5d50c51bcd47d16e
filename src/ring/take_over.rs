//! A successor takes the ring over from a writer that is dead, or done: what was committed stays, what was not was never
//! there (I5).
//!
//! ```text
//!    newer head cell            the chain, over records and pads              first header that is 0
//!         ├────────────────────────────────────────────────────────────────────────▶│ here the successor goes on
//!    (the other cell always stands while this one is written)             announced and limit are never lowered
//! ```
//! Two writers never work at one time: that is the lease's job, which is not the ring's. A crash during a take-over
//! leaves what it found, and the next one begins again.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::join::is_valid;
use super::{Boundary, Registry, Ring, Site, Writer, cell};
use crate::layout::Header;
use crate::memory::Memory;

/// Why a ring cannot be taken over: its words are not what a writer leaves, wherever it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverError {
    /// Neither head cell can be.
    NoHeadCell,
    /// The words at this position cannot be a record.
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

impl<M: Memory> Writer<M> {
    /// The successor of a writer that is gone. `registered` as in [`new`](Self::new). Walks about a block of records; loops a
    /// bounded number of times.
    ///
    /// # Errors
    /// [`TakeOverError`]; nothing was changed.
    pub fn take_over(ring: Ring<M>, registry: Registry<M>, registered: bool) -> Result<Writer<M>, TakeOverError> {
        // Relaxed, both: who held the lease before is gone, and the lease's own order covers all that it stored.
        let limit = ring.memory.load(ring.layout.limit(), Relaxed, Site::RecoverLimit);
        // Relaxed: likewise.
        let announced = ring.memory.load(ring.layout.announced(), Relaxed, Site::RecoverLimit);
        let (head, start) = newer_head(&ring, limit, announced).ok_or(TakeOverError::NoHeadCell)?;
        let here = end_of_chain(&ring, start, limit)?;
        // Relaxed: as above.
        let epoch = ring.memory.load(ring.layout.epoch(), Relaxed, Site::EpochLook).wrapping_add(1);
        // Relaxed: as above; the next bump must be another value than any that a sleeper has seen.
        let wake = ring.memory.load(ring.layout.wake(), Relaxed, Site::RecoverWake);
        let mut writer = Writer::new(ring, registry, registered);
        writer.resume(here, (announced, limit), 1 - head, start.position, (epoch, wake));
        let Ring { memory, layout } = &writer.ring;
        // Release (P2): pairs with `ReadFence`. The predecessor may have died between `limit` and its own fence; what that allows may
        // be overwritten from here on without another look at anything.
        memory.fence(Release, Site::RecoverFence);
        // Relaxed: ordered by the epoch's release.
        memory.store(layout.closed(), 0, Relaxed, Site::Reopen);
        // Release: whoever sees the new epoch sees that the ring is open.
        memory.store(layout.epoch(), epoch, Release, Site::EpochStore);
        // The dead writer may have cleared the flag and not have woken: its debt.
        writer.wake_everybody();
        Ok(writer)
    }
}

/// The newer of the head cells that can be: index and content. Neither `limit` nor what is announced is ever a ring beyond it:
/// else no reader could read or join any more.
fn newer_head<M: Memory>(ring: &Ring<M>, limit: u64, announced: u64) -> Option<(usize, Boundary)> {
    (0..2)
        .filter_map(|index| Some((index, cell::read(&ring.memory, ring.layout.head_cell(index))?)))
        .filter(|&(_, boundary)| is_valid(ring, boundary, limit) && is_valid(ring, boundary, announced))
        .max_by_key(|(_, boundary)| boundary.position)
}

/// Follows the chain to the first header that is not committed.
fn end_of_chain<M: Memory>(ring: &Ring<M>, start: Boundary, limit: u64) -> Result<Boundary, TakeOverError> {
    let data = ring.layout.data();
    let Boundary { mut position, mut sequence } = start;
    // A chain is no longer than the ring, so it ends: each step takes a header at least.
    for _ in 0..=data.capacity() / ring.layout.geometry.alignment {
        // Acquire (P1): as in a read.
        let header = ring.memory.load(data.word(position), Acquire, Site::RecoverHeader);
        match data.read_header(header, position) {
            Header::Empty => return Ok(Boundary { position, sequence }),
            Header::Data { size } if position + size < limit => (position, sequence) = (position + size, sequence + 1),
            Header::Pad { size } if position + size < limit => position += size,
            // No writer commits beyond `limit`, less the zero ahead.
            Header::Data { .. } | Header::Pad { .. } | Header::Impossible => {
                return Err(TakeOverError::Corrupt { position, header });
            }
        }
    }
    Err(TakeOverError::Corrupt { position, header: 0 })
}
