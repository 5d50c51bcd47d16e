//! Who lives: locks on open files, which the kernel drops when a process dies, however it dies.
//!
//! ```text
//!   registry (file, memfd)   ... data ...      2^40 + slot: the reader in that slot      2^41: the writer, if there is no
//!   lease (named rings)      0: the writer                                                     lease of its own
//!   ring                     ... data ...      2^41: the writer's sign of life, a read lock
//! ```
//! Who may read the ring, and no more, sees by the *sign of life* whether the writer lives. It is a read lock, so that nobody
//! else's read lock can keep a successor from taking it; and who asks looks for any lock at all. So one that may read the
//! ring can hide a death from the others, by a lock of its own, but cannot make a living writer look dead.
//!
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

use super::undo::Undo;
use crate::wait::fork;

const SLOTS_AT: i64 = 1 << 40;
const WRITER_AT: i64 = 1 << 41;
const PAGE_BYTES: usize = 4096;

/// A lock that this process holds until the value is dropped, or the process dies. A forked child does not have it.
#[derive(Debug)]
pub(crate) struct Lock {
    held: Held,
    born: usize,
    /// Of a writer: its sign of life.
    sign: Option<Box<Lock>>,
}

#[derive(Debug)]
enum Held {
    /// Keeps the open file, and with it the lock, alive. Never accessed.
    Pin(ManuallyDrop<MmapRaw>),
    /// A semaphore of the set.
    Semaphore(Undo, u64),
}

impl Lock {
    /// This lock, of a writer, with a sign of life on the file of the ring. Some microseconds.
    pub(super) fn with_sign_of_life(mut self, ring: impl AsFd) -> io::Result<Lock> {
        self.sign = lock(ring.as_fd(), WRITER_AT, libc::F_RDLCK)?.map(Box::new);
        Ok(self)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A forked child does not have the mapping, and may have mapped something else there by now.
        if self.born == fork::generation() {
            match &mut self.held {
                // SAFETY: not used afterwards.
                Held::Pin(pin) => unsafe { ManuallyDrop::drop(pin) },
                Held::Semaphore(set, number) => set.give_back(*number),
            }
        }
    }
}

/// Where the locks of one ring are.
#[derive(Debug)]
pub(crate) enum Lives {
    /// On its files.
    Files {
        /// None for a follower.
        registry: Option<OwnedFd>,
        lease: Lease,
    },
    /// It has no files: in a set of semaphores, which the kernel takes back just so.
    Semaphores(Undo),
}

const WRITER: u64 = 0;

/// Where the writer's lock is.
#[derive(Debug)]
pub(crate) enum Lease {
    /// In the registry.
    Registry,
    /// In a file of its own, that of a named ring.
    File(OwnedFd),
    /// This user may not open it; but here is the ring's file, with the sign of life.
    Hidden(OwnedFd),
}

impl Lives {
    /// `registry` may be any file that all who use the ring share: no byte of it is touched.
    pub(super) fn new(registry: OwnedFd, lease: Lease) -> Lives {
        Lives::Files { registry: Some(registry), lease }
    }

    /// For a follower, who has the file of the ring and no other.
    pub(super) fn of_follower(ring: OwnedFd) -> Lives {
        Lives::Files { registry: None, lease: Lease::Hidden(ring) }
    }

    /// Takes the writer's lock; none if a writer lives. Some microseconds.
    pub(crate) fn lock_writer(&self) -> io::Result<Option<Lock>> {
        match self {
            Lives::Files { lease: Lease::Registry, registry: Some(registry) } => {
                lock(registry.as_fd(), WRITER_AT, libc::F_WRLCK)
            }
            Lives::Files { lease: Lease::File(lease), .. } => lock(lease.as_fd(), 0, libc::F_WRLCK),
            Lives::Files { .. } => Err(io::ErrorKind::PermissionDenied.into()),
            Lives::Semaphores(set) => take(*set, WRITER),
        }
    }

    /// Can it be told at all? Not once a ring was removed that has no files.
    pub(crate) fn can_tell(&self) -> bool {
        match self {
            Lives::Files { .. } => true,
            Lives::Semaphores(set) => set.is_there(),
        }
    }

    /// Is the writer gone? False where it cannot be told. A system call: 0.3 microseconds.
    pub(crate) fn writer_is_dead(&self) -> bool {
        match self {
            Lives::Files { lease: Lease::Registry, registry: Some(registry) } => is_free(registry.as_fd(), WRITER_AT),
            Lives::Files { lease: Lease::Registry, registry: None } => false,
            Lives::Files { lease: Lease::File(lease), .. } => is_free(lease.as_fd(), 0),
            Lives::Files { lease: Lease::Hidden(ring), .. } => is_free_of(ring.as_fd(), WRITER_AT, libc::F_WRLCK),
            Lives::Semaphores(set) => set.is_free(WRITER),
        }
    }

    /// Does nobody hold the lock of a reader slot? A system call.
    pub(super) fn slot_is_free(&self, slot: u64) -> bool {
        match (self, i64::try_from(slot)) {
            (Lives::Files { registry: Some(registry), .. }, Ok(slot)) => is_free(registry.as_fd(), SLOTS_AT + slot),
            (Lives::Semaphores(set), Ok(_)) => set.is_free(1 + slot),
            _ => false,
        }
    }

    /// Takes the lock of a reader slot; none if its owner lives. Some microseconds.
    pub(crate) fn lock_slot(&self, slot: u64) -> io::Result<Option<Lock>> {
        let at = SLOTS_AT + i64::try_from(slot).map_err(io::Error::other)?;
        let registry = match self {
            Lives::Files { registry: Some(registry), .. } => registry,
            Lives::Files { registry: None, .. } => return Err(io::ErrorKind::PermissionDenied.into()),
            Lives::Semaphores(set) => return take(*set, 1 + slot),
        };
        // A look first: in a search most are taken.
        if is_free(registry.as_fd(), at) { lock(registry.as_fd(), at, libc::F_WRLCK) } else { Ok(None) }
    }

    /// Takes the lock of a reader slot whose owner is dead; none if it lives, or the system refuses.
    pub(crate) fn lock_dead_slot(&self, slot: u64) -> Option<Lock> {
        self.lock_slot(slot).ok().flatten()
    }
}

fn take(set: Undo, number: u64) -> io::Result<Option<Lock>> {
    let held = Held::Semaphore(set, number);
    Ok(set.take(number)?.then(|| Lock { held, born: fork::watch(), sign: None }))
}

fn byte(kind: i32, at: i64) -> libc::flock {
    // The type of the kinds differs between C libraries; the values fit them all.
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: at, l_len: 1, l_pid: 0 }
}

fn lock(file: BorrowedFd<'_>, at: i64, kind: i32) -> io::Result<Option<Lock>> {
    // An open file of its own: a received, inherited or shared one would share the lock.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let access = if kind == libc::F_WRLCK { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let own = open(path.as_str(), access | OFlag::O_CLOEXEC, Mode::empty())?;
    match fcntl(&own, FcntlArg::F_OFD_SETLK(&byte(kind, at))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let pin = MmapOptions::new().len(PAGE_BYTES).map_raw_read_only(&own)?;
    pin.advise(Advice::DontFork)?;
    Ok(Some(Lock { held: Held::Pin(ManuallyDrop::new(pin)), born: fork::watch(), sign: None }))
}

/// Does nobody hold a write lock on the byte?
fn is_free(file: BorrowedFd<'_>, at: i64) -> bool {
    is_free_of(file, at, libc::F_RDLCK)
}

/// Could the byte be locked in this way? To ask needs no permission to write.
fn is_free_of(file: BorrowedFd<'_>, at: i64, kind: i32) -> bool {
    let mut found = byte(kind, at);
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
        // What other tests fork meanwhile shares the locks until it ends.
        let soon = |is_so: &dyn Fn() -> bool| {
            let start = std::time::Instant::now();
            while !is_so() {
                assert!(start.elapsed() < std::time::Duration::from_secs(60), "held for ever");
                std::thread::yield_now();
            }
        };
        drop(slots);
        soon(&|| lives.lock_dead_slot(1).is_some());
        assert!(!lives.writer_is_dead(), "each byte for itself");
        drop(writer);
        soon(&|| lives.writer_is_dead());
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
        let Held::Pin(pin) = &writer.held else { panic!("a lock on a file") };
        let place = NonZeroUsize::new(pin.as_ptr() as usize);
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
        let Lives::Files { registry: Some(registry), .. } = &lives else { panic!("a file") };
        let registry = registry.as_raw_fd();
        let path = format!("/proc/self/fd/{registry}");
        let other = std::fs::File::options().read(true).write(true).open(path).expect("a second opening");
        let other = Lives::new(other.into(), Lease::Registry);
        let _writer = lives.lock_writer().expect("a lock").expect("free");
        assert!(!other.writer_is_dead() && other.lock_writer().expect("an answer").is_none());
    }

    /// Who may only read: sees the writer's sign of life, can hide its end, and cannot fake it.
    #[test]
    fn a_sign_of_life_is_seen_by_who_may_only_read() {
        let (lives, ring) = (lives(), tempfile::NamedTempFile::new().expect("a file"));
        let read_only = || OwnedFd::from(std::fs::File::open(ring.path()).expect("the same file"));
        let follower = Lives::of_follower(read_only());
        assert!(follower.writer_is_dead() && follower.lock_writer().is_err());
        assert!(follower.lock_slot(0).is_err() && !follower.slot_is_free(0));
        let take = || lives.lock_writer().expect("a lock").expect("free").with_sign_of_life(&ring).expect("a file");
        let writer = take();
        assert!(!follower.writer_is_dead());
        drop(writer);
        assert!(follower.writer_is_dead());
        let forged = lock(read_only().as_fd(), WRITER_AT, libc::F_RDLCK).expect("a lock").expect("free");
        assert!(!follower.writer_is_dead(), "hidden");
        let successor = take();
        assert!(successor.sign.is_some(), "nobody keeps it from that");
        drop(forged);
        assert!(!follower.writer_is_dead());
        drop(successor);
        assert!(follower.writer_is_dead());
        let forged = lock(read_only().as_fd(), WRITER_AT, libc::F_WRLCK);
        // Root may open it anew to write.
        assert!(forged.is_err() || nix::unistd::geteuid().is_root());
    }
}
