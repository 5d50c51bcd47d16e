//! Semaphores of the C library that are shared between processes.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Duration;

use nix::libc::{self, c_int, sem_t, timespec};
use nix::time::{ClockId, clock_gettime};

use crate::layout::SEMAPHORE_BYTES;
use crate::wait::futex::deadline;

const _: () = assert!(size_of::<sem_t>() as u64 <= SEMAPHORE_BYTES && align_of::<sem_t>() <= align_of::<u64>());

/// Where a semaphore is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(NonNull<sem_t>);

impl Place {
    /// At this word, with room behind it.
    pub(crate) fn new(word: *mut u64) -> Option<Place> {
        NonNull::new(word.cast()).map(Place)
    }
}

/// Makes a semaphore without tokens.
///
/// # Safety
/// `SEMAPHORE_BYTES` bytes at the place are mapped, writable, and used by nobody else yet.
pub(crate) unsafe fn init(Place(at): Place) {
    // SAFETY: by the caller. It cannot fail: the value is small, and processes can share semaphores on Linux.
    unsafe { libc::sem_init(at.as_ptr(), 1, 0) };
}

/// Takes up to `most` tokens, without sleeping and without a system call. True.
///
/// # Safety
/// There is a semaphore at the place, mapped and writable, and only the C library has written there since it was made.
pub(crate) unsafe fn drain(Place(at): Place, most: u64) -> bool {
    for _ in 0..most {
        // SAFETY: by the caller.
        if unsafe { libc::sem_trywait(at.as_ptr()) } != 0 {
            break;
        }
    }
    true
}

/// Takes a token, sleeping for about `slice` until there is one; or returns for no reason (a signal).
///
/// # Safety
/// As for [`drain`].
pub(crate) unsafe fn take(Place(at): Place, slice: Duration) {
    type ClockWait = unsafe extern "C" fn(*mut sem_t, libc::clockid_t, *const timespec) -> c_int;
    static CLOCK_WAIT: OnceLock<Option<ClockWait>> = OnceLock::new();
    // Of glibc since 2.30, not of musl.
    let clock_wait = *CLOCK_WAIT.get_or_init(|| {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"sem_clockwait".as_ptr()) };
        // SAFETY: a function of the C library, of the type that its manual says; or null, which is `None`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<ClockWait>>(found) }
    });
    // Without it only the clock that can be set: then a sleep ends early or late if it is.
    let clock = if clock_wait.is_some() { ClockId::CLOCK_MONOTONIC } else { ClockId::CLOCK_REALTIME };
    let Ok(now) = clock_gettime(clock) else { return };
    let deadline = deadline(now.tv_sec(), now.tv_nsec(), slice);
    match clock_wait {
        // SAFETY: by the caller; `deadline` outlives the call.
        Some(clock_wait) => unsafe { clock_wait(at.as_ptr(), clock.as_raw(), &raw const deadline) },
        // SAFETY: as above.
        None => unsafe { libc::sem_timedwait(at.as_ptr(), &raw const deadline) },
    };
}

/// Adds a token. A system call only if somebody sleeps.
///
/// # Safety
/// As for [`drain`].
pub(crate) unsafe fn post(Place(at): Place) {
    // SAFETY: by the caller. That there are too many tokens already is a wake, too.
    unsafe { libc::sem_post(at.as_ptr()) };
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no semaphores.
mod tests {
    use super::*;
    use crate::memory::{Mapped, Memory, Semaphore, Word};
    use crate::ring::Site;
    use crate::segment::heap;
    use crate::wait::semaphore::Semaphores;
    use std::time::Instant;

    const HERE: Semaphore = Semaphore { at: Word(0), number: 0 };

    fn semaphore() -> Mapped {
        let memory = Mapped::new(heap::zeroed(8));
        memory.format_posix(HERE);
        memory.with_semaphores(Semaphores::Posix)
    }

    #[test]
    fn tokens_are_counted_and_drained() {
        let memory = semaphore();
        let long = Duration::from_secs(60);
        let start = Instant::now();
        for _ in 0..3 {
            memory.post(HERE, Site::PostReader);
        }
        assert!(memory.drain(HERE, 2, Site::ReaderDrain), "two of three");
        memory.take(HERE, long, Site::ReaderTake);
        assert!(start.elapsed() < long / 2, "the third");
        memory.post(HERE, Site::PostReader);
        assert!(memory.drain(HERE, 100, Site::ReaderDrain));
        let (start, slice) = (Instant::now(), Duration::from_millis(2));
        // A signal may end one early.
        while start.elapsed() < slice {
            memory.take(HERE, slice, Site::ReaderTake);
        }
    }

    #[test]
    fn a_post_ends_a_long_sleep() {
        let memory = semaphore();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| memory.take(HERE, Duration::from_secs(60), Site::ReaderTake));
            memory.post(HERE, Site::PostReader);
        });
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_lies_beyond_the_segment_is_no_semaphore() {
        let memory = Mapped::new(heap::zeroed(8));
        assert!(!memory.drain(HERE, 1, Site::ReaderDrain), "nor what may not be used");
        // Neither sleeps nor wakes.
        memory.take(HERE, Duration::from_secs(60), Site::ReaderTake);
        memory.post(HERE, Site::PostReader);
    }
}
