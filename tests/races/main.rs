//! Threads that race for one ring on the heap: a writer, lossless and lossy readers. Small enough for Miri, which runs them by
//! the rules of its memory model, of borrows and of provenance (`.ci/miri`), and the same for the sanitizers
//! (`.ci/sanitizers`).
//!
//! `channel` goes by the public API. `words` has rings of 64 bytes over heap words, which are lapped every few records: there
//! a missing order shows within a few seeds. `planted` has a bug for each thing that a tool has to see: the scripts demand
//! that it is found.

mod channel;
#[cfg(any(miri, shmcast_planted))]
mod planted;
mod words;
