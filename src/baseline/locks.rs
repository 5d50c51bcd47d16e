//! The locks of files, each as it is.
//!
//! | lock | belongs to | covers | shared | ends |
//! |---|---|---|---|---|
//! | `flock` | the open file; a fork, a copied descriptor have it too | the file | yes | with the last copy of the descriptor |
//! | `lockf` | the process | from here to the end | no; needs a file open for writing | with *any* descriptor of the file that the process closes |
//! | record (`fcntl`) | the process | bytes | yes | as `lockf`, which it is beneath |
//! | open file (`F_OFD_SETLK`) | the open file | bytes | yes | with the last copy of the descriptor |
//!
//! All are advisory: who does not ask is not kept out. All end with their process, however it ends: there is no stale lock. A
//! file that *is* the lock (made with `O_EXCL`) has none of this: it stays.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_short};

use super::Patience;
use super::error::restarted;
use super::wait::Naps;

/// A kind of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `flock`.
    Flock,
    /// `lockf`.
    Lockf,
    /// `fcntl` record locks.
    Record,
    /// Record locks of an open file.
    OpenFile,
}

/// A file and a kind of lock: all processes that share it must use the same kind.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    kind: LockKind,
}

impl FileLock {
    /// Locks of a file that is open for writing.
    #[must_use]
    pub fn new(file: File, kind: LockKind) -> FileLock {
        FileLock { file, kind }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Locks the file: for this one alone, or, where the kind has that, together with others that share it. Answers whether it was locked
    /// in time. With a time limit it looks again and again, because no lock has one.
    ///
    /// # Errors
    /// `EDEADLK`: two processes wait for each other (`lockf`, record); or the system's.
    pub fn lock(&self, exclusive: bool, patience: Patience) -> Result<bool, Errno> {
        if patience == Patience::Forever {
            return restarted(|| self.try_lock(exclusive, true)).map(|()| true);
        }
        let mut naps = Naps::new(patience);
        loop {
            match restarted(|| self.try_lock(exclusive, false)) {
                Ok(()) => return Ok(true),
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    if !naps.nap() {
                        return Ok(false);
                    }
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn try_lock(&self, exclusive: bool, waits: bool) -> Result<(), Errno> {
        match self.kind {
            LockKind::Flock => {
                let how = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
                self.flock(how | if waits { 0 } else { libc::LOCK_NB })
            }
            // It has no shared locks.
            LockKind::Lockf => self.lockf(if waits { libc::F_LOCK } else { libc::F_TLOCK }),
            LockKind::Record | LockKind::OpenFile => {
                self.record(if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }, waits)
            }
        }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// The system's.
    pub fn unlock(&self) -> Result<(), Errno> {
        match self.kind {
            LockKind::Flock => self.flock(libc::LOCK_UN),
            LockKind::Lockf => self.lockf(libc::F_ULOCK),
            LockKind::Record | LockKind::OpenFile => self.record(libc::F_UNLCK, false),
        }
    }

    /// Does another one hold the lock alone, so that it could not be shared now? May change at any time.
    ///
    /// # Errors
    /// The system's.
    pub fn is_held(&self) -> Result<bool, Errno> {
        match self.kind {
            // There is no question that does not take the lock.
            LockKind::Flock => match self.flock(libc::LOCK_SH | libc::LOCK_NB) {
                Ok(()) => self.unlock().map(|()| false),
                Err(Errno::EAGAIN) => Ok(true),
                Err(errno) => Err(errno),
            },
            LockKind::Lockf => match self.lockf(libc::F_TEST) {
                Ok(()) => Ok(false),
                Err(Errno::EAGAIN | Errno::EACCES) => Ok(true),
                Err(errno) => Err(errno),
            },
            LockKind::Record | LockKind::OpenFile => Ok(self.holder()?.is_some()),
        }
    }

    /// The process that holds a record lock alone; -1 for that of an open file, which belongs to no process; the other kinds do not tell.
    ///
    /// # Errors
    /// The system's.
    pub fn holder(&self) -> Result<Option<i32>, Errno> {
        let mut wanted = whole_file(libc::F_RDLCK);
        match self.kind {
            LockKind::Flock => return Ok(None),
            // Beneath it is a record lock.
            LockKind::Lockf | LockKind::Record => fcntl(&self.file, FcntlArg::F_GETLK(&mut wanted))?,
            LockKind::OpenFile => fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut wanted))?,
        };
        Ok((c_int::from(wanted.l_type) != libc::F_UNLCK).then_some(wanted.l_pid))
    }

    fn flock(&self, how: c_int) -> Result<(), Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::flock(self.file.as_fd().as_raw_fd(), how) }).map(drop)
    }

    fn lockf(&self, how: c_int) -> Result<(), Errno> {
        // From the file's offset on, which stays at 0 here, to the end, wherever that will be.
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::lockf(self.file.as_fd().as_raw_fd(), how, 0) }).map(drop)
    }

    fn record(&self, how: c_int, waits: bool) -> Result<(), Errno> {
        let wanted = whole_file(how);
        let call = match (self.kind, waits) {
            (LockKind::OpenFile, true) => FcntlArg::F_OFD_SETLKW(&wanted),
            (LockKind::OpenFile, false) => FcntlArg::F_OFD_SETLK(&wanted),
            (_, true) => FcntlArg::F_SETLKW(&wanted),
            (_, false) => FcntlArg::F_SETLK(&wanted),
        };
        fcntl(&self.file, call).map(drop)
    }
}

fn whole_file(how: c_int) -> libc::flock {
    // A length of 0: to the end, wherever that will be. A process of 0: as the locks of open files want it.
    libc::flock { l_type: how as c_short, l_whence: libc::SEEK_SET as c_short, l_start: 0, l_len: 0, l_pid: 0 }
}
