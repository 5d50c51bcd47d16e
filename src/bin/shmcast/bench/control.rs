//! What the processes of a measurement agree on, beside the transport: memory that all of them share.
//!
//! ```text
//!   sender                                         receivers
//!   opens phase p: so many records           ──▶   are in it, and about to receive
//!   sends them; says that it has sent all    ──▶   (looked at where records can be lost)
//!   waits for all, reads when the last ended ◀──   are through, at that time
//! ```
//! None of these waits is within a time that is measured.
#![allow(clippy::disallowed_types, reason = "words beside the transports, for the benchmark's own use")]

use std::hint::spin_loop;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::time::{ClockId, clock_gettime};
use shmcast::baseline::MAX_RECEIVERS;

use super::lines::{Floors, Lines};

/// Set in a phase's count: it is the last one.
const LAST: u64 = 1 << 63;

/// A word on cache lines of its own.
#[repr(C, align(128))]
struct Line(AtomicU64);

/// One receiver's words: nobody else writes them.
#[repr(C, align(128))]
struct Progress {
    /// The phase that it is in.
    entered: AtomicU64,
    /// The phase that it is through.
    left: AtomicU64,
    /// When it was: ns.
    ended: AtomicU64,
}

#[repr(C)]
struct Words {
    phase: Line,
    count: Line,
    /// When the first record is meant to be sent: ns.
    start: Line,
    /// The phase of which everything has been sent.
    sent: Line,
    progress: [Progress; MAX_RECEIVERS],
}

/// The shared words, which live as long as the process.
#[derive(Clone, Copy)]
pub(super) struct Control {
    words: &'static Words,
    pub(super) lines: Lines,
}

// SAFETY: `lines` is a pointer to memory that lives for ever and is used as atomics; the threads of a ring on the heap share it as the
// processes do.
unsafe impl Send for Control {}

// Each word has one writer. What it stores with Release, the others load with Acquire: with it comes all that the writer did
// before. Relaxed: a word that is read only behind such a load of another.
impl Control {
    /// Maps memory that is shared with the processes that are forked from here on.
    pub(super) fn map() -> io::Result<Control> {
        let map = |bytes: usize| {
            let bytes = bytes.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
            // SAFETY: a new mapping; nothing else lies there. It is never unmapped.
            let memory = unsafe {
                mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)
            };
            Ok::<NonNull<u8>, io::Error>(memory.map_err(io::Error::from)?.cast())
        };
        let words = map(size_of::<Words>())?;
        let lines = map(Floors::bytes(0))?;
        // SAFETY: page-aligned, large enough, zeroed, and it lives for ever; a `Words` is atomics only, for which 0 is a value.
        let words = unsafe { words.cast::<Words>().as_ref() };
        // SAFETY: `Floors::bytes(0)` zeroed bytes that live for ever, for nothing else.
        let lines = unsafe { Lines::new(lines, 0) };
        Ok(Control { words, lines })
    }

    /// For the next measurement, when nobody uses it.
    pub(super) fn reset(&self) {
        let Words { phase, count, start, sent, progress } = self.words;
        for line in [phase, count, start, sent] {
            // Release: the processes of the next task, which are forked behind it, see no older value.
            line.0.store(0, Release);
        }
        for Progress { entered, left, ended } in progress {
            // Release: as above.
            [entered, left, ended].into_iter().for_each(|word| word.store(0, Release));
        }
    }

    /// The sender: opens the next phase, and waits until all receivers are in it.
    pub(super) fn open(&self, receivers: usize, count: u64, last: bool) {
        let phase = self.phase() + 1;
        // Relaxed: the phase's release shows it.
        self.words.count.0.store(count | if last { LAST } else { 0 }, Relaxed);
        // Release: the count, to who sees the phase.
        self.words.phase.0.store(phase, Release);
        // Acquire: who has entered is ready.
        wait_until(|| self.words.progress[..receivers].iter().all(|one| one.entered.load(Acquire) == phase));
    }

    /// The sender: everything of this phase is sent.
    pub(super) fn say_sent(&self) {
        // Release: pairs with `is_sent`'s load.
        self.words.sent.0.store(self.phase(), Release);
    }

    /// The sender: are all receivers through?
    pub(super) fn all_left(&self, receivers: usize) -> bool {
        let phase = self.phase();
        // Acquire: pairs with `leave`; when the receiver ended.
        self.words.progress[..receivers].iter().all(|one| one.left.load(Acquire) == phase)
    }

    /// The sender: waits for that; answers when the last receiver was through.
    pub(super) fn close(&self, receivers: usize) -> u64 {
        wait_until(|| self.all_left(receivers));
        // Relaxed: behind the acquire that saw it leave.
        let ends = self.words.progress[..receivers].iter().map(|one| one.ended.load(Relaxed));
        ends.max().unwrap_or_default()
    }

    /// The sender: when the first record is meant to be sent.
    pub(super) fn set_start(&self, start: u64) {
        // Release: pairs with `start`.
        self.words.start.0.store(start, Release);
    }

    pub(super) fn start(&self) -> u64 {
        // Acquire: pairs with `set_start`.
        self.words.start.0.load(Acquire)
    }

    /// A receiver: waits for the phase behind `phase`; answers how many records come, and whether it is the last one.
    pub(super) fn next(&self, phase: u64) -> (u64, bool) {
        // Acquire: pairs with `open`; the count.
        wait_until(|| self.words.phase.0.load(Acquire) > phase);
        // Relaxed: behind that acquire.
        let count = self.words.count.0.load(Relaxed);
        (count & !LAST, count & LAST != 0)
    }

    /// A receiver: is about to receive.
    pub(super) fn enter(&self, receiver: usize) {
        // Release: pairs with `open`; this receiver is ready.
        self.words.progress[receiver].entered.store(self.phase(), Release);
    }

    /// A receiver: has everything, since then.
    pub(super) fn leave(&self, receiver: usize, ended: u64) {
        let Progress { left, ended: word, .. } = &self.words.progress[receiver];
        // Relaxed: shown by the release behind it.
        word.store(ended, Relaxed);
        // Release: pairs with `all_left`; when it ended.
        left.store(self.phase(), Release);
    }

    /// A receiver: has everything of this phase been sent?
    #[inline]
    pub(super) fn is_sent(&self) -> bool {
        // Acquire: pairs with `say_sent`; all of the phase is sent.
        self.words.sent.0.load(Acquire) == self.phase()
    }

    /// The phase that is open: it changes only when all receivers are through.
    fn phase(&self) -> u64 {
        // Acquire: pairs with `open`.
        self.words.phase.0.load(Acquire)
    }
}

/// Waits for what another process does. If that one dies, the watcher ends this one.
pub(super) fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        spin_loop();
    }
    // From here on others of this processor must have it.
    while !is_so() {
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// The time, of one clock for all processes: ns.
#[inline]
pub(super) fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The processor's time, user and system, that this thread has used: ns. A process here has one thread.
pub(super) fn cpu() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

#[inline]
fn read(clock: ClockId) -> u64 {
    // These clocks are always there.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
