//! The models, by the part of the protocol that they attack. `tests/` runs each of them; `tests/mutants.rs` runs them
//! again with weakened accesses, and `examples/deep.rs` without bounds.

use crate::model::Model;

pub mod batch;
pub mod claim;
pub mod close;
pub mod crash;
pub mod lap;
pub mod notify;
pub mod publish;
pub mod registry;
pub mod semaphores;
pub mod take_over;

/// All of them.
pub const ALL: &[&[Model]] = &[
    publish::ALL,
    lap::ALL,
    claim::ALL,
    batch::ALL,
    registry::ALL,
    notify::ALL,
    semaphores::ALL,
    close::ALL,
    take_over::ALL,
    crash::ALL,
];
