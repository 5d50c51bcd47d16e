//! The semaphores of a ring: POSIX ones in its registry, or a System V set with a random key that the ring's header names.
//!
//! ```text
//!   create      the ring first, then its set                       whoever opens it between the two naps, then finds it
//!   take over   the set that is there, or a new one with its key   after a reboot a ring in files has none
//!   remove      the set first, then the ring                       so that there is never a set whose key nobody knows
//! ```
//! A process that is killed in the middle leaves a ring without a set, never the other way round.

use std::io;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::{Segments, random};
use crate::error::CreateError;
use crate::layout::{
    Geometry, GeometryError, HEADER_WORDS, MAX_SEMAPHORE_KEY, RegistryLayout, Wakeup, Waking, sysv_semaphores,
};
use crate::memory::Mapped;
use crate::wait::semaphore::{Semaphores, Set, sysv};

/// Keys that are tried: each is taken with a probability of one in a million, if the system has as many sets as it can have.
const MAX_ATTEMPTS: usize = 16;

/// A set that exists, to be removed with its ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owned {
    pub(super) key: i32,
    pub(super) id: i32,
}

impl Owned {
    /// Removes the set, unless its number is another one's by now. Best effort.
    pub(super) fn remove(self) {
        if sysv::stat(self.id).is_ok_and(|stat| stat.sem_perm.__key == self.key) {
            let _ = sysv::remove(self.id);
        }
    }
}

/// Chooses a key, where the ring needs one and has none: one that no set has.
pub(crate) fn choose_key(waking: &mut Waking) -> Result<(), CreateError> {
    if waking.means != Wakeup::SysvSemaphore {
        waking.key = 0;
        return Ok(());
    }
    for _ in 0..MAX_ATTEMPTS {
        if waking.key == 0 {
            waking.key = (random()? as u32 & MAX_SEMAPHORE_KEY).max(1);
        }
        if sysv::find(waking.key.cast_signed()) == Err(Errno::ENOENT) {
            return Ok(());
        }
        waking.key = 0;
    }
    let doing = "find a free key for semaphores";
    Err(CreateError::Io { path: None, doing, source: io::ErrorKind::AddrInUse.into() })
}

/// Makes the POSIX semaphores in a registry that nobody else has seen yet.
pub(super) fn format(registry: &Mapped, layout: &RegistryLayout, means: Wakeup) {
    if means == Wakeup::PosixSemaphore {
        let slots = (0..layout.reader_slots).map(|slot| layout.slot_semaphore(slot));
        slots.chain([layout.writer_semaphore()]).for_each(|semaphore| registry.format_posix(semaphore));
    }
}

/// Makes the set of a ring that is in place, if it needs one; or finds it, for a successor. It goes with the ring. A system call
/// or three.
///
/// # Errors
/// A ring that cannot have one, or what the system says; then the ring is removed again, unless it is taken over.
pub(crate) fn provide(segments: &mut Segments, successor: bool) -> Result<(), CreateError> {
    let Geometry { waking: Waking { means, key, .. }, reader_slots, .. } = segments.ring_layout.geometry;
    if means != Wakeup::SysvSemaphore {
        return Ok(());
    }
    let path = segments.path.clone();
    let Some(cleanup) = &mut segments.cleanup else {
        // Nobody could remove the set after a death.
        let rule = "other than System V semaphores, for a ring without a name";
        return Err(CreateError::Geometry(GeometryError { field: "wakeup", value: 2, rule }));
    };
    let (key, count) = (key.cast_signed(), reader_slots + 1);
    let id = match sysv::make(key, count) {
        Err(Errno::EEXIST) if successor => sysv::find(key).and_then(|id| {
            let stat = sysv::stat(id)?;
            let ours = stat.sem_perm.uid == geteuid().as_raw() && stat.sem_nsems == count;
            // It will be removed with the ring.
            if ours { Ok(id) } else { Err(Errno::EEXIST) }
        }),
        made => made,
    };
    match id {
        Ok(id) => {
            cleanup.semaphores.push(Owned { key, id });
            Ok(())
        }
        Err(errno) => {
            if !successor {
                cleanup.run();
            }
            let doing = "make a set of semaphores within kernel.sem for";
            Err(CreateError::Io { path, doing, source: errno.into() })
        }
    }
}

/// The semaphores of a ring that this process may use: those of a ring of which the trust rule holds.
pub(crate) fn usable(geometry: &Geometry, trusted: bool) -> Semaphores {
    match geometry.waking {
        _ if !trusted => Semaphores::None,
        Waking { means: Wakeup::Futex, .. } => Semaphores::None,
        Waking { means: Wakeup::PosixSemaphore, .. } => Semaphores::Posix,
        Waking { means: Wakeup::SysvSemaphore, key, .. } => {
            Semaphores::Sysv(Set::new(key, geometry.reader_slots + 1).into())
        }
    }
}

/// Removes the set of a ring that is about to be removed, whose owner is `user` and whose header may be damaged. What does not
/// look like its set is left alone.
pub(super) fn remove_of(words: &[u64; HEADER_WORDS], user: u32) {
    let Some((key, count)) = sysv_semaphores(words) else { return };
    let Ok(id) = sysv::find(key.cast_signed()) else { return };
    let fits = sysv::stat(id).is_ok_and(|stat| {
        // Root removes for others, but nothing that is not of the ring's owner.
        let theirs = [stat.sem_perm.uid, stat.sem_perm.cuid].iter().all(|&uid| uid == user);
        theirs && stat.sem_nsems == count && (geteuid().is_root() || geteuid().as_raw() == user)
    });
    if fits {
        let _ = sysv::remove(id);
    }
}

/// As [`remove_of`], for a ring in a file.
pub(super) fn remove_of_file(file: &std::fs::File, user: u32) {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; HEADER_WORDS * 8];
    if file.read_exact_at(&mut bytes, 0).is_ok() {
        let (words, _) = bytes.as_chunks::<8>();
        remove_of(&std::array::from_fn(|at| u64::from_ne_bytes(words[at])), user);
    }
}
