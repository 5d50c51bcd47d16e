//! The models, by the part of the protocol that they attack. `tests/` runs each of them; `tests/mutants.rs` runs them
//! again with weakened accesses.

pub mod batch;
pub mod claim;
pub mod close;
pub mod lap;
pub mod notify;
pub mod publish;
pub mod registry;
pub mod semaphores;
pub mod take_over;
