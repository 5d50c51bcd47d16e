//! Models of the shmcast protocol: the very source of `shmcast::ring`, on loom's memory instead of a mapped segment.
//!
//! ```text
//!   ring/  ──  M: Memory  ──┬──  LoomMemory   loom atomics: every order of steps, every value that a load may see
//!                           ├──  Plain        words of one thread: exact counts without noise
//!                           ├──  Count<M>     counts what an operation asks of memory
//!                           ├──  Mortal<M>    dies after its k-th store, for every k
//!                           ├──  SimMemory    weak memory under seeded schedules of many parties: see [`simulator`]
//!                           └──  Weaken<M>    does one access wrongly, to show that a model notices
//! ```
//! A [`Model`](model::Model) is a small ring, a few threads and assertions, with bounds that are explored whole. The
//! files in `tests/` run them, one test per property; `tests/mutants.rs` runs them again, once per weakened access, and
//! there they must fail.
//!
//! # What loom can say, and what not
//! - At most five threads, and the last seven stores of a word.
//! - Sequentially consistent *accesses* count as acquire-release, so the protocol has none: it has fences. Two
//!   `fence(SeqCst)` of a model synchronise with each other, in the order in which they run, which is more than the
//!   language promises. So a barrier that exists for sleepers only must not lend its order to a model that is about
//!   something else: where nobody sleeps, the barriers do nothing at all ([`Waiting::Yields`](memory::Waiting)).
//! - Load buffering (a load that sees a store which the program order puts behind it, in another thread's chain) does not
//!   occur. What only guards against that is listed, with its reason, in `tests/mutants.rs`.
//! - There is no time: a sleep ends by a wake or never, so a lost wakeup is a deadlock, which loom reports.
#![forbid(unsafe_code)]

pub mod audit;
pub mod count;
pub mod memory;
pub mod model;
pub mod models;
pub mod mortal;
pub mod mutants;
pub mod simulator;
pub mod weaken;
