//! Who lives, where there is no file to lock: a set of System V semaphores, number 0 for the writer, number 1 + n for the reader
//! in slot n. Whoever lives has added one to its own, to be undone by the kernel when the process ends, however it ends.
//! A forked child has no part in that; a program that the process execs keeps it.
//!
//! The set has the key of the registry segment, and goes with the ring. There is none for a ring that others may write: whoever
//! may take such a semaphore may also set it, and make the living look dead.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_short, c_ushort, key_t};
use nix::unistd::geteuid;

use super::semaphores::Owned;
use super::{Lives, Lock};
use crate::error::CreateError;
use crate::wait::semaphore::sysv;

/// What is done when the set of semaphores that tells who lives is made.
const SET: &str = "make the set of semaphores, under the registry's key and within kernel.sem, of";
/// The set of one ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    id: c_int,
}

/// The value of the last semaphore, one more than there are parties: so that nobody takes another program's set for a ring's.
const MARK: c_int = 0x5C5C;

impl Undo {
    /// Makes the set of a ring whose segments this process has just made, so that nobody else makes one now: one that is there
    /// was left behind.
    pub(super) fn make(key: key_t, slots: u64) -> Result<Undo, Errno> {
        let id = match sysv::make(key, slots + 2) {
            Err(Errno::EEXIST) => {
                Undo::left_behind(key, slots).ok_or(Errno::EEXIST)?.remove();
                sysv::make(key, slots + 2)
            }
            made => made,
        };
        let set = Undo { id: id? };
        // SAFETY: the call takes numbers only.
        let marked = Errno::result(unsafe { libc::semctl(set.id, (slots + 1) as c_int, libc::SETVAL, MARK) });
        marked.map(|_| set).inspect_err(|_| set.remove())
    }

    /// The set of a private ring with these owners. None if it has none any more: then its writer, which made it, sees nobody die
    /// either.
    ///
    /// # Errors
    /// There is one, and this process may not use it.
    pub(super) fn find(key: key_t, slots: u64, owners: [u32; 2]) -> Result<Option<Undo>, Errno> {
        match Undo::of(key, |uid| owners.contains(&uid)) {
            Ok((set, stat, mark)) => Ok((mark == MARK && stat.sem_nsems == slots + 2).then_some(set)),
            Err(Errno::ENOENT | Errno::EIDRM | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What the creator of a ring with this key left behind, perhaps in the middle of making it.
    fn left_behind(key: key_t, slots: u64) -> Option<Undo> {
        let (set, stat, mark) = Undo::of(key, |uid| uid == geteuid().as_raw()).ok()?;
        let unfinished = mark == 0 && stat.sem_nsems == slots + 2 && stat.sem_otime == 0;
        (mark == MARK || unfinished).then_some(set)
    }

    /// The set that a key names, if it is private to these users; what the system says of it; and the value of its last semaphore.
    fn of(key: key_t, theirs: impl Fn(u32) -> bool) -> Result<(Undo, libc::semid_ds, c_int), Errno> {
        let set = Undo { id: sysv::find(key)? };
        let stat = sysv::stat(set.id)?;
        let owner = &stat.sem_perm;
        let private = theirs(owner.uid) && theirs(owner.cuid) && u32::from(owner.mode) & 0o777 == 0o600;
        let last = stat.sem_nsems.checked_sub(1).and_then(|last| c_int::try_from(last).ok());
        let last = last.filter(|_| private).ok_or(Errno::ENOENT)?;
        // SAFETY: the call takes numbers only.
        let mark = Errno::result(unsafe { libc::semctl(set.id, last, libc::GETVAL) })?;
        Ok((set, stat, mark))
    }

    /// Removes the set of a ring that is being removed, whose owner is `user`. Best effort; what is not like one is left alone.
    pub(super) fn remove_of(key: key_t, user: u32) {
        if let Ok((set, _, MARK)) = Undo::of(key, |uid| uid == user) {
            set.remove();
        }
    }

    /// To be removed with its ring.
    pub(super) fn owned(self, key: key_t) -> Owned {
        Owned { key, id: self.id }
    }

    /// Removes it: from now on nobody can tell who lives. Best effort.
    pub(super) fn remove(self) {
        let _ = sysv::remove(self.id);
    }

    /// Takes a semaphore until it is given back, or the process ends; false if it is taken.
    pub(super) fn take(self, number: u64) -> io::Result<bool> {
        // If it is 0, one more: both or neither.
        let (zero, more) = (operation(number, 0), operation(number, 1));
        match operate(self.id, &mut [zero, more]) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives back what this process took.
    pub(super) fn give_back(self, number: u64) {
        // The set may be gone.
        let _ = operate(self.id, &mut [operation(number, -1)]);
    }

    /// Is it there?
    pub(super) fn is_there(self) -> bool {
        // SAFETY: the call takes numbers only.
        unsafe { libc::semctl(self.id, 0, libc::GETVAL) >= 0 }
    }

    /// Has nobody taken it? False where it cannot be told.
    pub(super) fn is_free(self, number: u64) -> bool {
        // SAFETY: the call takes numbers only.
        unsafe { libc::semctl(self.id, number as c_int, libc::GETVAL) == 0 }
    }
}

/// The set of a new ring, and the writer's semaphore of it; removed again, unless it is kept.
pub(super) struct Fresh {
    set: Undo,
    lease: Option<Lock>,
    kept: bool,
}

impl Fresh {
    pub(super) fn new(key: key_t, slots: u64, path: &Path) -> Result<Fresh, CreateError> {
        let failed = |source| CreateError::Io { path: Some(path.to_owned()), doing: SET, source };
        let set = Undo::make(key, slots).map_err(|errno| failed(errno.into()))?;
        let mut life = Fresh { set, lease: None, kept: false };
        life.lease = Lives::Semaphores(set).lock_writer().map_err(failed)?;
        Ok(life)
    }

    pub(super) fn keep(&mut self) -> (Undo, Option<Lock>) {
        self.kept = true;
        (self.set, self.lease.take())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            self.set.remove();
        }
    }
}

fn operation(number: u64, change: c_short) -> libc::sembuf {
    let flags = (libc::IPC_NOWAIT | libc::SEM_UNDO) as c_short;
    libc::sembuf { sem_num: number as c_ushort, sem_op: change, sem_flg: flags }
}

fn operate(id: c_int, operations: &mut [libc::sembuf]) -> Result<(), Errno> {
    // SAFETY: the kernel reads the operations, as many as there are, during the call.
    Errno::result(unsafe { libc::semop(id, operations.as_mut_ptr(), operations.len()) }).map(drop)
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no semaphores.
mod tests {
    use super::*;
    use crate::segment::guard;

    fn find(key: key_t, slots: u64) -> Option<Undo> {
        Undo::find(key, slots, [geteuid().as_raw(); 2]).expect("ours")
    }

    #[test]
    fn a_semaphore_excludes_until_it_is_given_back() {
        let key = guard::fresh_key();
        let set = Undo::make(key, 3).expect("a set within kernel.sem");
        let (lives, other) = (Lives::Semaphores(set), Lives::Semaphores(find(key, 3).expect("the same")));
        assert!(other.writer_is_dead());
        let writer = lives.lock_writer().expect("a set").expect("free");
        assert!(!other.writer_is_dead() && other.lock_writer().expect("a set").is_none());
        let slot = other.lock_slot(2).expect("a set").expect("free");
        assert!(!lives.slot_is_free(2) && lives.slot_is_free(1) && lives.lock_dead_slot(2).is_none());
        drop((writer, slot));
        assert!(other.writer_is_dead() && lives.slot_is_free(2));
        set.remove();
        assert!(!other.writer_is_dead() && other.lock_writer().is_err(), "nobody can tell");
    }

    #[test]
    fn what_was_left_behind_is_replaced_and_what_is_not_a_rings_is_left_alone() {
        let key = guard::fresh_key();
        let left = Undo::make(key, 7).expect("a set within kernel.sem");
        assert!(find(key, 3).is_none(), "of another size");
        let set = Undo::make(key, 3).expect("the place of what was left");
        assert!(set.id != left.id && find(key, 3).is_some());
        Undo::remove_of(key, geteuid().as_raw());
        // Killed before it was marked.
        let unfinished = sysv::make(key, 3 + 2).expect("a free key");
        let set = Undo::make(key, 3).expect("the place of what was left");
        assert!(set.id != unfinished && find(key, 3).is_some());
        set.remove();
        let foreign = sysv::make(key, 4).expect("a free key");
        assert!(find(key, 3).is_none() && matches!(Undo::make(key, 3), Err(Errno::EEXIST)));
        Undo::remove_of(key, geteuid().as_raw());
        assert_eq!(sysv::find(key), Ok(foreign));
        sysv::remove(foreign).expect("our own");
    }
}
