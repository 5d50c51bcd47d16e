//! The kinds of rings besides named rings, files, anonymous memory and the heap: POSIX shared memory, memfds, System V
//! shared memory. The [crate's documentation](crate#kinds-of-rings) compares them.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Options, Reader, Writer};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::segment::memfd::{self, Profile};
use crate::segment::sysv::SysvKey;
use crate::segment::{posix, sysv};

/// The descriptors of a ring without a name: [`Writer::descriptors`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Descriptors<'a> {
    /// Of the ring segment: read-only. Enough for a lossy reader.
    pub ring: BorrowedFd<'a>,
    /// Of the registry: read and write. For lossless readers, and for lossy ones that are to be counted.
    pub registry: BorrowedFd<'a>,
}

impl Options {
    /// Creates a ring in POSIX shared memory: the objects `/name`, which is the ring segment, and `/name.registry`. Mode 0600,
    /// unless it is for [others](Self::followers) as well; whole or not at all, with all its memory reserved. The slash in
    /// front may be left out; the rest is as for [`create`](Self::create).
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_posix(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_in(|geometry| posix::create(name, geometry, self.permissions()?))
    }

    /// Opens a ring made by [`create_posix`](Self::create_posix) and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_posix(&self, name: &str) -> Result<Reader, OpenError> {
        self.open_in(posix::open(name, self.manner()?)?)
    }

    /// As [`open_or_create`](Self::open_or_create), for a ring in POSIX shared memory.
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::WriterAlive`].
    pub fn open_or_create_posix(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_or_take_over(|| self.create_posix(name), || posix::take_over(name), || posix::clear(name))
    }

    /// Creates a ring without a name, in two memfds, for whoever is handed its [descriptors](Writer::descriptors), or
    /// [receives](crate::Handover) it. Nobody can truncate it, so no access to it ever ends in a SIGBUS; nothing is left of it after
    /// its last user.
    ///
    /// The ring is *restartable*: a process of this user that has the descriptors can write it, and [take it
    /// over](Self::take_over_descriptors) when its writer has died. Other users can only read it.
    /// [`create_memfd_strict`](Self::create_memfd_strict) lets nobody write it.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_memfd(&self) -> Result<Writer, CreateError> {
        self.create_in(|geometry| memfd::create(Profile::Restartable, geometry))
    }

    /// As [`create_memfd`](Self::create_memfd), but the ring is *strict*: the kernel lets nobody write it but through the mapping that
    /// this call made (`F_SEAL_FUTURE_WRITE`), neither this user nor root, whatever they hold and open. So what readers
    /// receive is from this writer. The price: when it has gone, nobody can take the ring over; create a new one. (Forked
    /// children of the writer have its mapping, and a debugger can write into any process of its user.)
    ///
    /// The registry, which readers must write, is as in a restartable ring.
    ///
    /// # Errors
    /// [`CreateError`]; [`Io`](CreateError::Io) on a kernel before 5.1, which does not know the seal.
    pub fn create_memfd_strict(&self) -> Result<Writer, CreateError> {
        self.create_in(|geometry| memfd::create(Profile::Strict, geometry))
    }

    /// Takes over a restartable ring in memfds whose writer has died, or has closed it, by descriptors that somebody kept: as
    /// [`open_or_create`](Self::open_or_create) does with a named ring. Readers carry on without opening it again. The
    /// descriptors stay the caller's.
    ///
    /// # Errors
    /// [`CreateError`]: [`Sealed`](CreateError::Sealed) if the ring is strict; [`WriterAlive`](CreateError::WriterAlive);
    /// [`TakeOver`](CreateError::TakeOver) if it cannot be used, or is another user's.
    pub fn take_over_descriptors(&self, ring: BorrowedFd<'_>, registry: BorrowedFd<'_>) -> Result<Writer, CreateError> {
        self.resume_writer(memfd::take_over(ring, registry)?)
    }

    /// Opens a ring by the descriptors that its writer handed out, and joins it; without that of the registry, or as another
    /// user, only a lossy reader can. The descriptors stay the caller's, who may close them afterwards.
    ///
    /// They may come from anybody: what is not a sealed memfd with a ring in it is refused.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_descriptors(
        &self,
        ring: BorrowedFd<'_>,
        registry: Option<BorrowedFd<'_>>,
    ) -> Result<Reader, OpenError> {
        self.open_in(memfd::open(ring, registry)?)
    }

    /// Creates a ring in System V shared memory. Mode 0600, unless it is for [others](Self::followers) as well; all its memory
    /// is touched. It is found by the [key](SysvKey), and only when it is whole, but the key is taken from the start.
    ///
    /// Such segments stay when their process is killed: [`remove_sysv`] removes them. And nobody learns that it was:
    /// they have no file to lock, so the death of a peer is not seen. Use the calls with timeouts, or a
    /// [stall limit](Self::stall_limit).
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_sysv(&self, key: SysvKey) -> Result<Writer, CreateError> {
        self.create_in(|geometry| sysv::create(key, geometry, self.permissions()?))
    }

    /// Opens a ring made by [`create_sysv`](Self::create_sysv) and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_sysv(&self, key: SysvKey) -> Result<Reader, OpenError> {
        self.open_in(sysv::open(key, self.manner()?)?)
    }
}

impl Writer {
    /// The descriptors of a ring in memfds, to be handed to readers: to a child (both are closed on exec unless they are
    /// duplicated), or over a unix socket, which [`share`](Self::share) does and checks. None for other rings.
    ///
    /// That of the ring is harmless: another user cannot make a writable one of it, and of a strict ring nobody can. That of the
    /// registry is for processes of this user (to others it is as if they had none: they could not lock a reader slot with it).
    /// Whoever has it can hold the writer up, and make it leave readers behind, and processes that [borrow](crate#trust) records
    /// rely on you to hand it to nobody else.
    #[must_use]
    pub fn descriptors(&self) -> Option<Descriptors<'_>> {
        let [ring, registry] = self.shared.descriptors.as_ref()?;
        Some(Descriptors { ring: ring.as_fd(), registry: registry.as_fd() })
    }
}

/// Removes a ring made by [`Options::create_posix`], as [`remove`](crate::remove) does.
///
/// # Errors
/// [`RemoveError`].
pub fn remove_posix(name: &str) -> Result<(), RemoveError> {
    posix::remove(name)
}

/// Removes a ring made by [`Options::create_sysv`], as [`remove`](crate::remove) does; or what a killed creator left of one.
///
/// # Errors
/// [`RemoveError`].
pub fn remove_sysv(key: SysvKey) -> Result<(), RemoveError> {
    sysv::remove(key)
}
