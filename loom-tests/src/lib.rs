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
//! # Scenarios
//! What a proof of such a protocol has to go through, and the models (in `src/models`) or tests that do. *No sleep*: the models of
//! the same property in which nobody sleeps, so that no modelled futex hides a missing order.
//!
//! | | scenario | models | no sleep |
//! |---|---|---|---|
//! | L1 | message passing | `publish`: `WHOLE`, `PEEKED`, `POLLED` | these |
//! | L2 | overwrite while reading: 2 records of 2 words, 3 messages; runs of records | `lap`: `TORN`, `RUN`, `RESUMED` | these |
//! | L3 | controls: without a fence of the writer's, of a reader's, without the re-check | `tests/mutants.rs`: drop `LimitFence`, drop `ReadFence`, `LimitLook` answers 64 | these |
//! | L4 | one writer, two readers | `publish::BROADCAST`; `registry`: `SLOWEST`, `BESIDE` (one lossless, one lossy) | these |
//! | L5 | one writer, three readers | `publish::THREE` | this |
//! | L6 | behind by N-1, N, N+1, 2N records, with exact counts | `lap`: `BEHIND_BY_LESS`, `BEHIND_BY_A_RING`, `BEHIND_BY_MORE`, `BEHIND_BY_TWO_RINGS`, `EXACT`, `MIDDLE`; `tests/lap.rs` by 0 to 40 records, one thread | these |
//! | L7 | ABA of laps: here positions never repeat, but places do | `lap`: `PHANTOM`, `HEADS`, `CHECKPOINTS`; `batch::PHANTOM` | these |
//! | L8 | the largest positions | `lap`: `LARGE`, `END` | these |
//! | L9 | sleep and wake, one reader | `notify::SLEEPER`; `semaphores`: `SLEEPER`, `SLEEPER_AGAIN` | `notify::AWAKE` |
//! | L10 | wake all of two readers | `notify`: `SLEEPERS`, `NEWCOMER`; `semaphores`: the same; `close::SLEEPERS` | `publish::BROADCAST` |
//! | L11 | a wake against a timeout, and against a reader that gives up | `notify`: `TIMED_OUT`, `CANCELLED`; `semaphores`: the same | `publish::POLLED` |
//! | L12 | a waiter dies behind any of its stores | `crash`: `SLEEPER`, `SEMAPHORE_SLEEPER` | `crash::READER` |
//! | L13 | join at the oldest, or newest, record during a publish | `registry`: `OLDEST`, `NEWEST`, `LOSSY` | these |
//! | L14 | join during an overwrite | `registry`: `CHASED`, `UNOBTRUSIVE`, `LOSSY` | these |
//! | L15 | two joiners, one slot | `registry`: `ONE_SLOT`, `JOINERS`, `REUSED` | these |
//! | L16 | a reader is evicted while it reads on; its return | `registry`: `EVICTED`, `REJOINED` | these |
//! | L17 | back-pressure: the slowest cursor, a leave while the writer waits, nothing unread overwritten | `registry`: `BACK_PRESSURE`, `SLOWEST`, `LEAVE`; `notify`: `ROOM`, `ROOM_AGAIN`, `ROOM_IN_STEPS`, `ROOM_OF_TWO`, `LEAVER`; `semaphores`: the same | `notify::ROOM_AWAKE` and those of `registry` |
//! | L18 | two would-be writers | no model: the kernel's lock decides (the lease). `tests/crashes.rs`, `tests/liveness.rs`: real processes | |
//! | L19 | take-over against a writer that comes back | `take_over::REOPENED`; `tests/crash.rs`: fenced at its next look. That the two do not work at one time is the lease's promise | this |
//! | L20 | close while reading, while sleeping; then `Closed` | `close`: `READING`, `SLEEPING`, `SLEEPERS`; `semaphores::CLOSE`; `crash::CLOSER` | `close`: `READING`, `AWAKE` |
//! | L21 | claim, truncate, commit, abort; the pad at the wrap | `claim`: `ABORTED`, `SHORTENED` | these |
//! | L22 | lengths that straddle the end | `lap`: `TORN`, `RESUMED`; `take_over::READING`; `crash::FOLLOWED` | these |
//! | L23 | creation: whole or not there, two creators | no model: names and links of the kernel's. `tests/kill_points` (each instruction), `tests/failures.rs` | |
//! | L24 | a batch is a prefix; an observer of the counts | `batch`: `AT_ONCE`, `RUNS`, `LONG`, `HELD_UP`, `OBSERVED`; `notify::BATCH` | those of `batch` |
//! | crash | the writer, or a successor, dies behind any store: readers beside it, and a sleeper | `crash`: `FOLLOWED`, `HELD`, `SUCCESSOR`, `WAKER`, `CLOSER`; `tests/crash.rs`: every store of two laps, and of a take-over | `crash`: `FOLLOWED`, `HELD`, `SUCCESSOR` |
//!
//! # Bounds
//! The tests run the *quick* bounds, which each model states; `cargo test -p loom-tests` prints the executions of each. The
//! deep ones (one reader: at least 3 preemptions, two and three: 2, and all of them without a bound as far as there is time):
//!
//! ```text
//! cargo run -p loom-tests --example deep -- --each 3600 [--total SECONDS] [part of a name ...]
//! ```
//! `PROOF.md` has what the last long run of it came to.
//!
//! # What loom can say, and what not
//! - At most five threads, and the last seven stores of a word.
//! - Sequentially consistent *accesses* count as acquire-release, so the protocol has none: it has fences. Two
//!   `fence(SeqCst)` of a model synchronise with each other, in the order in which they run, which is more than the
//!   language promises. So a barrier that exists for sleepers only must not lend its order to a model that is about
//!   something else: where nobody sleeps, the barriers do nothing at all ([`Waiting::Yields`](memory::Waiting)).
//! - Load buffering (a load that sees a store which the program order puts behind it, in another thread's chain) does not
//!   occur. What only guards against that (P5) is argued from the accesses that the source makes, and its mutants are hunted
//!   there: [`trace`], `tests/buffering.rs`.
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
pub mod trace;
pub mod weaken;
