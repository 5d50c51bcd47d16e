//! The kinds of rings besides named rings, files, anonymous memory and the heap: POSIX shared memory, memfds, System V
//! shared memory. The [crate's documentation](crate#kinds-of-rings) compares them.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Options, Reader, Writer};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::segment::sysv::SysvKey;
use crate::segment::{memfd, posix, sysv};

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
    /// whole or not at all, with all its memory reserved. The slash in front may be left out; the rest is as for
    /// [`create`](Self::create).
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_posix(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_in(|geometry| posix::create(name, geometry))
    }

    /// Opens a ring made by [`create_posix`](Self::create_posix) and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_posix(&self, name: &str) -> Result<Reader, OpenError> {
        self.open_in(posix::open(name)?)
    }

    /// As [`open_or_create`](Self::open_or_create), for a ring in POSIX shared memory.
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::WriterAlive`].
    pub fn open_or_create_posix(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_or_take_over(|| self.create_posix(name), || posix::take_over(name), || posix::clear(name))
    }

    /// Creates a ring without a name, in two memfds, for whoever is handed its [descriptors](Writer::descriptors). Nobody can
    /// truncate it, so no access to it ever ends in a SIGBUS; nothing is left of it after its last user.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_memfd(&self) -> Result<Writer, CreateError> {
        self.create_in(memfd::create)
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

    /// Creates a ring in System V shared memory. Mode 0600; all its memory is touched. It is found by the
    /// [key](SysvKey), and only when it is whole, but the key is taken from the start.
    ///
    /// Such segments stay when their process is killed: [`remove_sysv`] removes them. And nobody learns that it was:
    /// they have no file to lock, so the death of a peer is not seen. Use the calls with timeouts, or a
    /// [stall limit](Self::stall_limit).
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_sysv(&self, key: SysvKey) -> Result<Writer, CreateError> {
        self.create_in(|geometry| sysv::create(key, geometry))
    }

    /// Opens a ring made by [`create_sysv`](Self::create_sysv) and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_sysv(&self, key: SysvKey) -> Result<Reader, OpenError> {
        self.open_in(sysv::open(key)?)
    }
}

impl Writer {
    /// The descriptors of a ring made by [`Options::create_memfd`], to be handed to readers: over a unix socket
    /// (`SCM_RIGHTS`), or to a child (both are closed on exec unless they are duplicated). None for other rings.
    ///
    /// That of the ring is harmless: another user cannot make a writable one of it. That of the registry is for processes of
    /// this user (to others it is as if they had none: they could not lock a reader slot with it). Whoever has it can hold the writer up, and make it
    /// leave readers behind, and processes that [borrow](crate#trust) records rely on you to hand it to nobody else.
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
