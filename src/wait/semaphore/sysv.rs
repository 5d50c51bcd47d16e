//! A set of System V semaphores, found by its key.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_short, c_ushort, key_t, semid_ds, timespec};
use nix::unistd::geteuid;

/// No set has this number.
const UNKNOWN: c_int = -1;

/// A set that may be there, not yet, or no longer. Looked for whenever it is needed and not known, so that a ring can be there
/// before its set is, and a successor can make it anew.
#[derive(Debug)]
pub(crate) struct Set {
    key: key_t,
    /// How many semaphores it must have.
    count: u64,
    id: AtomicI32,
}

impl Set {
    /// The set with this key, if it is of this user (or root) and has so many semaphores.
    pub(crate) fn new(key: u32, count: u64) -> Set {
        Set { key: key.cast_signed(), count, id: AtomicI32::new(UNKNOWN) }
    }

    /// Its number: a system call or two, once.
    fn id(&self) -> Result<c_int, Errno> {
        // Relaxed: a number, which is checked by its use.
        let known = self.id.load(Relaxed);
        if known != UNKNOWN {
            return Ok(known);
        }
        let id = find(self.key)?;
        let stat = stat(id)?;
        let ours = |uid| uid == geteuid().as_raw() || uid == 0;
        let owner = &stat.sem_perm;
        // Somebody else's set would make this process take tokens that are not for it.
        let fits = ours(owner.uid) && ours(owner.cuid) && u32::from(owner.mode) & 0o022 == 0;
        if !fits || stat.sem_nsems != self.count {
            return Err(Errno::EACCES);
        }
        // Relaxed: a number alone; who sees an older one is told by the kernel.
        self.id.store(id, Relaxed);
        Ok(id)
    }

    /// Asks the set for something; once more if it was replaced.
    fn ask(&self, request: impl Fn(c_int) -> Result<(), Errno>) -> Result<(), Errno> {
        match request(self.id()?) {
            Err(Errno::EIDRM | Errno::EINVAL) => {
                // Relaxed: as above.
                self.id.store(UNKNOWN, Relaxed);
                request(self.id()?)
            }
            answer => answer,
        }
    }

    /// Takes all tokens. False if there is no such set. A system call.
    pub(crate) fn drain(&self, number: u64) -> bool {
        self.ask(|id| {
            // SAFETY: the call takes numbers only.
            Errno::result(unsafe { libc::semctl(id, number as c_int, libc::SETVAL, 0 as c_int) }).map(drop)
        })
        .is_ok()
    }

    /// Takes a token, sleeping for about `slice` until there is one; or returns for no reason. A system call.
    pub(crate) fn take(&self, number: u64, slice: Duration) {
        let slice = timespec {
            tv_sec: libc::time_t::try_from(slice.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(slice.subsec_nanos() as i32),
        };
        // Not asked again when it was replaced meanwhile: who takes has drained before.
        let taken = self.id().and_then(|id| operate(id, number, -1, 0, &raw const slice));
        if matches!(taken, Err(Errno::EIDRM | Errno::EINVAL)) {
            // Relaxed: as above.
            self.id.store(UNKNOWN, Relaxed);
        }
    }

    /// Adds a token. A system call.
    pub(crate) fn post(&self, number: u64) {
        // That there are too many already is a wake, too.
        let _ = self.ask(|id| operate(id, number, 1, libc::IPC_NOWAIT, std::ptr::null()));
    }
}

#[cfg(not(target_arch = "s390x"))]
const SEMTIMEDOP: libc::c_long = libc::SYS_semtimedop;
// The C library's crate lacks it there; the kernel has it since 5.1.
#[cfg(target_arch = "s390x")]
const SEMTIMEDOP: libc::c_long = 392;

fn operate(id: c_int, number: u64, change: c_short, flags: c_int, slice: *const timespec) -> Result<(), Errno> {
    let mut operation = libc::sembuf { sem_num: number as c_ushort, sem_op: change, sem_flg: flags as c_short };
    // SAFETY: one operation, and a time or none, which the kernel reads, and which outlive the call.
    let done = unsafe { libc::syscall(SEMTIMEDOP, id, &raw mut operation, 1, slice) };
    Errno::result(done).map(drop)
}

/// The number of the set with a key.
pub(crate) fn find(key: key_t) -> Result<c_int, Errno> {
    // SAFETY: the call takes numbers only.
    Errno::result(unsafe { libc::semget(key, 0, 0) })
}

/// Makes a new set, without tokens, of mode 0600.
pub(crate) fn make(key: key_t, count: u64) -> Result<c_int, Errno> {
    let count = c_int::try_from(count).map_err(|_| Errno::EINVAL)?;
    // SAFETY: as above. On Linux all semaphores of a new set are 0.
    Errno::result(unsafe { libc::semget(key, count, 0o600 | libc::IPC_CREAT | libc::IPC_EXCL) })
}

/// What the system says of a set.
pub(crate) fn stat(id: c_int) -> Result<semid_ds, Errno> {
    let mut stat = std::mem::MaybeUninit::<semid_ds>::zeroed();
    // SAFETY: `stat` is a place for what IPC_STAT answers.
    Errno::result(unsafe { libc::semctl(id, 0, libc::IPC_STAT, stat.as_mut_ptr()) })?;
    // SAFETY: integers, of which zeros are valid as well as what the call has answered.
    Ok(unsafe { stat.assume_init() })
}

/// Removes a set: who sleeps on it wakes.
pub(crate) fn remove(id: c_int) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    Errno::result(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no semaphores.
mod tests {
    use super::*;
    use crate::segment::guard;
    use std::time::Instant;

    /// A set of this test, gone with this value, or with the process if it is killed.
    struct Made(key_t);

    impl Made {
        fn new(count: u64) -> Made {
            let made = Made(guard::fresh_key());
            make(made.0, count).expect("a set within kernel.sem");
            made
        }

        fn set(&self, count: u64) -> Set {
            Set::new(self.0.cast_unsigned(), count)
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = find(self.0).and_then(remove);
        }
    }

    #[test]
    fn tokens_are_counted_and_drained() {
        let made = Made::new(3);
        let (set, other) = (made.set(3), made.set(3));
        let (start, long) = (Instant::now(), Duration::from_secs(60));
        set.post(1);
        other.post(1);
        set.take(1, long);
        set.take(1, long);
        assert!(start.elapsed() < long / 2, "two tokens");
        other.post(2);
        other.post(2);
        assert!(set.drain(2));
        let (start, slice) = (Instant::now(), Duration::from_millis(2));
        // A signal may end one early.
        while start.elapsed() < slice {
            set.take(2, slice);
        }
    }

    #[test]
    fn a_post_ends_a_long_sleep_and_so_does_the_end_of_the_set() {
        let made = Made::new(2);
        let (set, start) = (made.set(2), Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(|| set.take(1, Duration::from_secs(60)));
            set.post(1);
        });
        std::thread::scope(|scope| {
            scope.spawn(|| set.take(0, Duration::from_secs(60)));
            find(made.0).and_then(remove).expect("our own");
        });
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_set_is_found_when_it_is_there_and_again_when_it_was_replaced() {
        let made = Made::new(2);
        let set = made.set(2);
        assert!(set.drain(0));
        find(made.0).and_then(remove).expect("our own");
        assert!(!set.drain(0), "there is none");
        // Neither sleeps nor wakes.
        set.take(0, Duration::from_secs(60));
        set.post(0);
        make(made.0, 2).expect("a free key");
        assert!(set.drain(0));
        // Of another size: it is not this ring's.
        assert!(!made.set(3).drain(0));
    }
}
