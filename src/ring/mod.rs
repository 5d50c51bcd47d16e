//! The protocol: how one writer broadcasts records to many readers through two segments of shared words.
//!
//! *Outside semver; for the models and the fuzz targets.* Everything here is generic over [`Memory`], so that the models
//! check the very source that ships, and nothing here is unsafe.
//!
//! ```text
//!                 ring segment (the writer writes, readers map it read-only)
//!   ┌──────────┬────────────────┬──────────────────────────────────────┬──────────┬───────────┬──────────────────┐
//!   │ header   │ limit announced│ wake closed epoch mode               │ head     │ check-    │ data: records in │
//!   │ (static) │                │                                      │ cells 0 1│ points    │ a ring of bytes  │
//!   └──────────┴────────────────┴──────────────────────────────────────┴──────────┴───────────┴──────────────────┘
//!                 registry segment (readers write; input that the writer does not trust)
//!   ┌──────────┬──────────┬───────────────────────────────┬─────────────────────────────────────────────────────┐
//!   │ header   │ sleeping │ room writer_sleeping high_water│ slots: state, cursor                               │
//!   └──────────┴──────────┴───────────────────────────────┴─────────────────────────────────────────────────────┘
//!
//!   positions grow for ever; the place of a position is position mod capacity
//!
//!      limit - capacity        slowest cursor         position          limit          announced
//!   ───────┼────────────────────────┼─────────────────────┼───────────────┼─────────────────┼────────▶
//!    void  │  still whole           │ unread by somebody  │ being written │ may be claimed next
//! ```
//!
//! # Publish
//! The writer fills the payload, stores 0 into the *next* header word, then stores its own header word: the commit. A
//! reader follows the chain of headers and finds 0 until the next commit, so no old byte can pass for a record. If the
//! record would cross the end of the data area, a pad record fills the rest first.
//!
//! # The one rule
//! Bytes below `limit - capacity` may be overwritten. The writer raises `limit` *before* it overwrites (in its slow
//! path, about once per block); a reader loads `limit` *after* it has read. If `limit - p > capacity`, all that was
//! read at `p` is void, whatever it looked like. Lossless and lossy readers, joiners and walkers judge by this rule
//! and by no other. A lossless reader keeps it from happening: `limit` never passes its cursor + capacity.
//!
//! # Invariants
//! | | | upheld in | attacked by |
//! |---|---|---|---|
//! | I1 whole | only committed records, byte for byte, in order, each at most once | [`Writer::commit`], [`Reader::read`] | `publish`, `lap` |
//! | I2 lossless | no gap between a lossless reader's join and its end | `Writer::slow_path`, `Reader::join` | `registry` |
//! | I3 exact loss | a lossy reader is told exactly how many records it missed | `Reader::lapped` | `lap` |
//! | I4 no lost wakeup | a record, or room, wakes whoever sleeps for it | `notify` | `notify`, `semaphores` |
//! | I5 crash | nothing committed is lost, the others go on | order of the stores; [`Writer::take_over`]; slices | `crash`, `take_over` |
//! | I6 hostile peers | no undefined behaviour, no endless loop, no panic | [`layout`](crate::layout), bounded loops | fuzz `attach`, `hostile_reads`, `hostile_registry`; `tests/hostile` |
//! | I7 flat | publish costs the same with any number of readers | no read but one flag on the fast path | `counts` |
//! | I8 quiet | no system call without a sleeper, a sleeper costs nothing | `notify` | `counts`, `idle` |
//!
//! # Pairs
//! Each line is one edge of the happens-before order; the [`Site`]s stand at the accesses. A mutant of each pair makes a
//! model fail (`loom-tests`), or the table there says why no model can see it.
//!
//! | pair | release side | acquire side | makes visible |
//! |---|---|---|---|
//! | P1 commit | `Commit`, `PadCommit` Release | `Header`, `Peek`, `HeaderAfterClosed`, `SleepHeaderLook` Acquire | the payload, the zero ahead, and the `limit` that they needed |
//! | P2 limit | `LimitFence` Release, behind `Limit`; `RecoverFence`, where a successor goes by what it found | `ReadFence` Acquire, before `LimitLook` | if a reader read a byte of the new lap, it sees the `limit` that allowed it |
//! | P3 join | `AnnounceFence` SeqCst, between `Announce` and `SlotStateLook` | `JoinFence` SeqCst, between `JoinState` and `JoinAnnouncedLook` | store buffering: the writer sees the slot, or the joiner what is announced |
//! | P4 slot | `JoinState` Release | `SlotStateLook` Acquire | the cursor of the slot's owner |
//! | P5 cursor | `Cursor` Release (and `LeaveState`) | `SlotCursorLook` (`SlotStateLook`) Acquire | the reader's loads are over before the writer overwrites |
//! | P6 cell | `CellPosition` Release; `CellFence` Release | `CellFirstLook` Acquire; `CellLookFence` Acquire | position and sequence of one boundary, and the chain up to it |
//! | P7 sleep | `NotifyBarrier`, between `Commit` and `SleepingLook` | `SleepBarrier`, between `SleepingSet` and the second look | store buffering: the writer sees the flag, or the reader the record |
//! | P8 wake | `WakeBump` Release, behind `SleepingClear` | `WakeSeen` Acquire, before `SleepingSet` | the flag that this sleeper sets is set after it was cleared for earlier ones |
//! | P9 room | `CursorBarrier`, between `Cursor` and `WriterSleepingLook` | `RoomBarrier`, between `WriterSleepingSet` and the second scan | as P7, the other way round |
//! | P10 room wake | `RoomBump` Release, behind `WriterSleepingClear` | `RoomSeen` Acquire, before `WriterSleepingSet` | as P8, the other way round |
//! | P11 close | `Close` Release | `ClosedLook`, `SleepClosedLook` Acquire | the last commit |
//! | P12 slot reuse | `LeaveState` Release | `SlotClaim` acquire-release | the slot's old owner is done with it |
//! | P13 token | `PostFence` SeqCst, between `WakeBump` and `SlotSleepingLook` | `SleepBarrier`, between `SlotSleepingSet` and `WakeLook` | store buffering: the writer sees the slot's flag, or the reader the new wake word (semaphores only) |
//! | P14 stale token | `PostReader`, `PostWriter`, behind `SlotSleepingClear`, `WriterSleepingClear` | `ReaderDrain`, `WriterDrain`, before `SlotSleepingSet`, `WriterSleepingSet` | as P8: the flag that is set is set after it was cleared for the token that was taken |
//!
//! A dead process needs no pair: its lock, outside of the ring, orders its end before whoever takes it next.
//!
//! # Decisions
//! * Readers do not judge by the epoch: that a writer died is told by its lock, and a successor needs nothing from them. They only
//!   see by it that a successor came while they asked. It fences a writer that was cut off from its lease.
//! * An eviction passes over *the cursor that was seen*, so that a reader that reads on is not meant, and all who stall at one
//!   place are: they have stood there as long as the first. Nobody can join there, because what is announced lies beyond
//!   its reach.
//! * An evicted reader is a lossy one from then on, in its own slot, which says PRESENT: so its loss is as exact as any other, it holds
//!   nobody, and it can come back by the very steps of a join (P3) when it likes.
//! * A word of the ring that no writer leaves there poisons who finds it; a word of the registry that no reader leaves there poisons
//!   nobody: else whoever can write the registry could stop the writer, not only hold it up.
//! * A reader that leaves tells the writer by the flag that says that somebody sleeps, if the writer has asked for it: no other word
//!   is looked at with every record.
//! * Where the writer may evict, a reader stores its cursor with every record, so that the writer sees it read on; elsewhere once
//!   per eighth of the ring.
//! * `announced` and `limit` are stored only when they change. A writer that waits for room runs its slow path again and again,
//!   and would take the line that every reader judges by away from them each time; what was stored earlier is before
//!   the fence of P3 all the same.
//! * A reader that had to wait for a record gives its room back without a look at the next header (the look would take
//!   that line from the writer just before it writes it); only within a stream does it look, and gives back when it
//!   runs dry or an eighth of the ring is read. Either way who has taken the last record holds nothing: `Reader::begin_or_give_back`. In a stream
//!   one comparison of positions stands for all of that. A lossy reader, which has nothing to give, goes the same way.
//! * Lossless readers take slots from below, lossy ones from above: the scan ends at the lossless high-water mark, so that a
//!   thousand lossy readers cost the writer nothing (I7).
//! * The heavy barrier is a full fence *and* a membarrier, so a fast side that is not registered uses full fences and nobody has
//!   to know who is.
//! * A reader takes the length of the record before for this one's until it has compared the headers: the branch is predicted, so
//!   the next header is loaded without waiting for this one (8-byte records: 5.9 to 4.3 ns). The last polls before a record
//!   comes are inlined into the receive, with nothing between them and the copy (round trips: 150 to 120 ns).
//! * What every record takes goes by areas ([`ReadArea`](crate::memory::ReadArea), [`WriteArea`](crate::memory::WriteArea)): a position is
//!   masked, so it has a place in the data area whatever it is, and nothing asks for bounds but a payload, once. Beside the position
//!   no index of its word is kept, which would be a store more. (Instructions of a publish of 8 bytes: 64 to 49, of a typed one
//!   64 to 42; of a receive 80 to 66, and 78 to 58.)
//! * The writer asks for the line 512 bytes ahead: stores become visible in order, so a zero ahead that waits for its line delays
//!   the commit (64-byte records in a ring that fits the caches: 60 to 75 million per second; round trips 7 ns less).
//! * A run of records of one length is judged by one look at `limit`, for the first of them: if nothing of that one may be
//!   overwritten, nothing behind it may. A run ends at an eighth of the ring, so that room is given back as often as
//!   otherwise. (Batches of 32 values of 8 bytes, one thread: half the time per value of single calls.)
//! * Semaphores take the place of the futex call and nothing else: who must be woken is found out in the same way. A reader of which the
//!   system, or the trust rule, does not allow it to sleep on one naps, and so does every reader of a ring whose writer wakes nobody
//!   (`no_wake`): none of them sets a flag, so that the writer's fast path is the same for all.
//! * A head cell is rewritten only when the position moved; a batch is committed before any slow path and before a wrap.
//!
//! # Glossary
//! *position* bytes since the ring began; *sequence* data records since the ring began; *boundary* a position at which a
//! record starts, with its sequence number; *lap* one trip round; *dry* nothing more to read. The rest stands in
//! [`layout`](crate::layout).
#![forbid(unsafe_code)]

mod ahead;
mod cell;
mod join;
mod notify;
mod reader;
mod registry;
mod site;
mod take_over;
mod writer;

pub use cell::Boundary;
pub use join::{JoinError, Start};
pub use reader::{CopyOut, Payload, Read, Reader, Run, Stop};
pub use registry::{Blocker, Registry};
pub use site::Site;
pub use take_over::TakeOverError;
pub use writer::{Refused, Reserved, Writer};

use core::time::Duration;

use crate::layout::RingLayout;
use crate::memory::{Barrier, Memory};

/// How long who cannot be woken sleeps between two looks.
const NAP: Duration = Duration::from_millis(1);

/// How often a bounded loop over shared words that change meanwhile starts again.
const MAX_RESTARTS: u32 = 64;

/// The ring segment as both sides see it.
#[derive(Clone, Debug)]
pub struct Ring<M> {
    memory: M,
    layout: RingLayout,
}

impl<M: Memory> Ring<M> {
    /// The ring in a segment whose header was checked.
    pub fn new(memory: M, layout: RingLayout) -> Ring<M> {
        Ring { memory, layout }
    }

    /// Where everything is.
    pub fn layout(&self) -> &RingLayout {
        &self.layout
    }

    /// The barrier mode that the writer has chosen.
    pub fn barrier_mode(&self) -> Barrier {
        // Relaxed: written before the first publish, and who sleeps by a stale mode sleeps for a slice at most.
        match self.memory.load(self.layout.barrier_mode(), core::sync::atomic::Ordering::Relaxed, Site::ModeLook) {
            1 => Barrier::Asymmetric,
            _ => Barrier::Fence,
        }
    }
}
