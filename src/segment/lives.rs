//! Who lives: locks on open files, which the kernel drops when a process dies, however it dies.
//!
//! ```text
//!   registry (file, memfd)   ... data ...      2^40 + slot: the reader in that slot      2^41: the writer, if there is no
//!   lease (named rings)      0: the writer                                                     lease of its own
//! ```
//! The bytes lie behind the end of the file: a lock needs no data. A lock belongs to an *open file*, which a fork shares
//! with its parent, so that a child would keep a dead parent's lock. Hence the recipe: open the file anew, lock it, map a page of
//! it that no child inherits, close it. The mapping holds the lock, and dies with the process.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::stat::Mode;

use crate::wait::fork;

const SLOTS_AT: i64 = 1 << 40;
const WRITER_AT: i64 = 1 << 41;
const PAGE_BYTES: usize = 4096;

/// A lock that this process holds until the value is dropped, or the process dies. A forked child does not have it.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Keeps the open file, and with it the lock, alive. Never accessed.
    pin: ManuallyDrop<MmapRaw>,
    born: usize,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A forked child does not have the mapping, and may have mapped something else there by now.
        if self.born == fork::generation() {
            // SAFETY: not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.pin) };
        }
    }
}

/// Where the locks of one ring are.
#[derive(Debug)]
pub(crate) struct Lives {
    registry: OwnedFd,
    lease: Lease,
}

/// Where the writer's lock is.
#[derive(Debug)]
pub(super) enum Lease {
    /// In the registry.
    Registry,
    /// In a file of its own, that of a named ring.
    File(OwnedFd),
    /// There, too, but this user may not open it.
    Hidden,
}

impl Lives {
    /// `registry` may be any file that all who use the ring share: no byte of it is touched.
    pub(super) fn new(registry: OwnedFd, lease: Lease) -> Lives {
        Lives { registry, lease }
    }

    /// Takes the writer's lock; none if a writer lives. Some microseconds.
    pub(crate) fn lock_writer(&self) -> io::Result<Option<Lock>> {
        match self.writer() {
            Some((file, at)) => lock(file, at),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Is the writer gone? False where it cannot be told. A system call: 0.3 microseconds.
    pub(crate) fn writer_is_dead(&self) -> bool {
        self.writer().is_some_and(|(file, at)| is_free(file, at))
    }

    /// Does nobody hold the lock of a reader slot? A system call.
    pub(super) fn slot_is_free(&self, slot: u64) -> bool {
        i64::try_from(slot).is_ok_and(|slot| is_free(self.registry.as_fd(), SLOTS_AT + slot))
    }

    /// Takes the lock of a reader slot; none if its owner lives. Some microseconds.
    pub(crate) fn lock_slot(&self, slot: u64) -> io::Result<Option<Lock>> {
        let at = SLOTS_AT + i64::try_from(slot).map_err(io::Error::other)?;
        // A look first: in a search most are taken.
        if is_free(self.registry.as_fd(), at) { lock(self.registry.as_fd(), at) } else { Ok(None) }
    }

    /// Takes the lock of a reader slot whose owner is dead; none if it lives, or the system refuses.
    pub(crate) fn lock_dead_slot(&self, slot: u64) -> Option<Lock> {
        self.lock_slot(slot).ok().flatten()
    }

    fn writer(&self) -> Option<(BorrowedFd<'_>, i64)> {
        match &self.lease {
            Lease::Registry => Some((self.registry.as_fd(), WRITER_AT)),
            Lease::File(lease) => Some((lease.as_fd(), 0)),
            Lease::Hidden => None,
        }
    }
}

fn byte(kind: i32, at: i64) -> libc::flock {
    // The type of the kinds differs between C libraries; the values fit them all.
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: at, l_len: 1, l_pid: 0 }
}

fn lock(file: BorrowedFd<'_>, at: i64) -> io::Result<Option<Lock>> {
    // An open file of its own: a received, inherited or shared one would share the lock.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    match fcntl(&own, FcntlArg::F_OFD_SETLK(&byte(libc::F_WRLCK, at))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let pin = MmapOptions::new().len(PAGE_BYTES).map_raw_read_only(&own)?;
    pin.advise(Advice::DontFork)?;
    Ok(Some(Lock { pin: ManuallyDrop::new(pin), born: fork::watch() }))
}

/// Does nobody hold the byte's lock? Asks for a read lock, which needs no permission to write.
fn is_free(file: BorrowedFd<'_>, at: i64) -> bool {
    let mut found = byte(libc::F_RDLCK, at);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut found));
    asked.is_ok() && i32::from(found.l_type) == libc::F_UNLCK
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no locks.
mod tests {
    use super::*;

    fn lives() -> Lives {
        Lives::new(tempfile::tempfile().expect("a file").into(), Lease::Registry)
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let lives = lives();
        assert!(lives.writer_is_dead());
        let writer = lives.lock_writer().expect("a lock").expect("free");
        assert!(!lives.writer_is_dead());
        assert!(lives.lock_writer().expect("an answer").is_none());
        let slots = [0, 1, 1023].map(|slot| lives.lock_dead_slot(slot).expect("free"));
        assert!(lives.lock_dead_slot(1).is_none());
        drop(slots);
        assert!(lives.lock_dead_slot(1).is_some());
        assert!(!lives.writer_is_dead(), "each byte for itself");
        drop(writer);
        assert!(lives.writer_is_dead());
    }

    /// What a child maps may come to lie where its parent maps the lock, which the child does not inherit.
    #[test]
    fn a_forked_child_that_drops_a_lock_unmaps_nothing() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        use std::num::NonZeroUsize;
        let lives = lives();
        let writer = lives.lock_writer().expect("a lock").expect("free");
        let place = NonZeroUsize::new(writer.pin.as_ptr() as usize);
        let length = NonZeroUsize::new(PAGE_BYTES).expect("a page");
        // SAFETY: the child maps, unmaps, and ends: it allocates nothing and takes no lock.
        match unsafe { fork() }.expect("a fork") {
            ForkResult::Child => {
                let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
                let map = || {
                    // SAFETY: a new mapping where there is none: it replaces nothing.
                    unsafe { mmap_anonymous(place, length, ProtFlags::PROT_READ, flags) }
                };
                // Free in the child; then taken, and still so after the drop.
                let free = map().is_ok();
                drop(writer);
                let kept = map().is_err();
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!free) + 2 * i32::from(!kept)) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
        assert!(!lives.writer_is_dead(), "and the parent still holds it");
    }

    #[test]
    fn a_lock_of_another_opening_is_seen() {
        let lives = lives();
        let path = format!("/proc/self/fd/{}", lives.registry.as_raw_fd());
        let other = std::fs::File::options().read(true).write(true).open(path).expect("a second opening");
        let other = Lives::new(other.into(), Lease::Registry);
        let _writer = lives.lock_writer().expect("a lock").expect("free");
        assert!(!other.writer_is_dead() && other.lock_writer().expect("an answer").is_none());
    }
}
