//! Cells: a boundary that can be read while it is rewritten. Head cells and checkpoints have this form.
//!
//! ```text
//!   word 0   position, or CELL_OPEN while the cell is being written
//!   word 1   sequence
//! ```
//! Positions only grow, so a position that is read twice the same was not rewritten in between (no ABA).

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Site;
use crate::layout::CELL_OPEN;
use crate::memory::{Memory, Word};

/// A committed record boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Position of the header word that stands, or will stand, there.
    pub position: u64,
    /// Sequence number of the first data record at or behind it.
    pub sequence: u64,
}

/// Rewrites a cell. Only the writer does.
pub(super) fn write(memory: &impl Memory, cell: Word, boundary: Boundary) {
    // Relaxed: ordered before the new content by the fence.
    memory.store(cell, CELL_OPEN, Relaxed, Site::CellOpen);
    // Release (P6): who reads the new sequence sees at least the mark, so no old position goes with it.
    memory.fence(Release, Site::CellFence);
    // Relaxed: made visible by the store below.
    memory.store(cell.plus(1), boundary.sequence, Relaxed, Site::CellSequence);
    // Release (P6): the sequence, and every commit up to this boundary.
    memory.store(cell, boundary.position, Release, Site::CellPosition);
}

/// Reads a cell; `None` while it is being written.
pub(super) fn read(memory: &impl Memory, cell: Word) -> Option<Boundary> {
    // Acquire (P6): pairs with `CellPosition`; the sequence and the chain up to the boundary.
    let position = memory.load(cell, Acquire, Site::CellFirstLook);
    if position == CELL_OPEN {
        return None;
    }
    // Relaxed: judged by the second look.
    let sequence = memory.load(cell.plus(1), Relaxed, Site::CellSequenceLook);
    // Acquire (P6): if the sequence is of a later writing, the second look sees that writing's mark or later.
    memory.fence(Acquire, Site::CellLookFence);
    // Relaxed: the fence orders it.
    let again = memory.load(cell, Relaxed, Site::CellSecondLook);
    (again == position).then_some(Boundary { position, sequence })
}
