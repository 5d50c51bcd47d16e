//! Sleeping on a word of shared memory: the two futex calls.
//!
//! The calls are not private to the process, and the kernel keys the word by its file and offset, so the processes
//! may map it at different addresses, and the sleeper read-only. The caller always loops: [`wait()`] returns for many
//! reasons, and the word is the only one that counts.

use std::time::Duration;

use nix::libc;
use nix::time::{ClockId, clock_gettime};

/// Sleeps while the word is `seen`, until it is woken, or for about `slice`; or returns for no reason (a signal).
///
/// One syscall (0.5 us) if the word differs. The pointer is only handed to the kernel: any value is safe, a bad one
/// makes the call return at once.
pub(crate) fn wait(word: *const u32, seen: u32, slice: Duration) {
    // An absolute deadline: a signal handler that interrupts the call does not start the time again.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return };
    let deadline = deadline(now.tv_sec(), now.tv_nsec(), slice);
    // SAFETY: the kernel checks the address of the word itself and only reads it; `deadline` outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT_BITSET,
            seen,
            &raw const deadline,
            core::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    // Whatever came back (woken, EAGAIN, EINTR, ETIMEDOUT): the caller looks at the word again.
}

/// Wakes all that sleep on the word, in any process. One syscall: 0.3 us if nobody sleeps, else about 3 us for each.
///
/// The pointer is only handed to the kernel: any value is safe.
pub(crate) fn wake_all(word: *const u32) {
    // SAFETY: the kernel uses the address as a key, checks it itself and does not access the word.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
}

/// Now + `slice`, as the kernel takes it; the end of time if that is beyond it.
pub(crate) fn deadline(seconds: libc::time_t, nanos: libc::c_long, slice: Duration) -> libc::timespec {
    const SECOND: libc::c_long = 1_000_000_000;
    let nanos = nanos + libc::c_long::from(slice.subsec_nanos() as i32);
    let whole = libc::time_t::try_from(slice.as_secs()).unwrap_or(libc::time_t::MAX);
    let seconds = seconds.saturating_add(whole).saturating_add(libc::time_t::from(nanos >= SECOND));
    libc::timespec { tv_sec: seconds, tv_nsec: nanos % SECOND }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Instant;

    // A word of the test's own, not of a segment.
    #[allow(clippy::disallowed_types)]
    type Word = std::sync::atomic::AtomicU32;

    #[test]
    fn a_word_that_differs_does_not_wait() {
        let word = Word::new(7);
        let start = Instant::now();
        wait(word.as_ptr(), 8, Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_slice_ends() {
        let word = Word::new(7);
        let slice = Duration::from_millis(2);
        let start = Instant::now();
        // A signal may end one wait early, so loop as every caller does.
        while start.elapsed() < slice {
            wait(word.as_ptr(), 7, slice);
        }
        assert!(start.elapsed() >= slice);
    }

    #[test]
    fn a_waker_ends_a_long_sleep() {
        let word = Word::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SeqCst, both sides: a test of the call, not of an order.
                while word.load(SeqCst) == 0 {
                    wait(word.as_ptr(), 0, Duration::from_secs(60));
                }
            });
            // SeqCst: likewise.
            word.store(1, SeqCst);
            wake_all(word.as_ptr());
        });
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri calls a bad address undefined behaviour, the kernel calls it EFAULT")]
    fn a_bad_address_returns() {
        wait(core::ptr::null(), 0, Duration::from_secs(60));
        wake_all(core::ptr::without_provenance(3));
    }

    #[test]
    fn deadlines_carry_and_saturate() {
        let at = |deadline: libc::timespec| (deadline.tv_sec, deadline.tv_nsec);
        assert_eq!(at(deadline(5, 999_999_999, Duration::from_nanos(1))), (6, 0));
        assert_eq!(at(deadline(5, 1, Duration::from_millis(1500))), (6, 500_000_001));
        assert_eq!(at(deadline(5, 0, Duration::MAX)).0, libc::time_t::MAX);
    }
}
