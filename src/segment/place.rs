//! Two files in a directory: what rings in [`file`](super::file) and in [`directory`](super::directory) have in common.
//!
//! Everything is relative to a directory that is held open, so that nobody can exchange it between two steps, and
//! follows no link in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::access::{self, Manner, Whose};
use super::attach::{Opened, attach};
use super::build::Fresh;
use super::lives::Lease;
use super::{Cleanup, Inode, Lives, Segments, directory, posix, semaphores};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::{REGISTRY_MAGIC, RING_MAGIC, WORD_BYTES};

/// Whatever is at the path, the open neither follows it, nor waits for it, nor takes it for a terminal.
pub(super) const OPEN: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// Where the two files of a ring are: a directory that is held open, so that it cannot be exchanged, and two names.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) ring: OsString,
    pub(super) registry: OsString,
    /// The file that the writer's lock is on, if it has one of its own.
    pub(super) lease: Option<OsString>,
    /// The ring directory, of a named ring.
    pub(super) home: Option<OwnedFd>,
    /// Of the directory, absolute.
    pub(super) shown: PathBuf,
    /// They are shared memory objects: opened and unlinked by their names.
    pub(super) posix: bool,
}

impl Place {
    pub(super) fn path(&self, name: &OsStr) -> PathBuf {
        self.shown.join(name)
    }

    /// A second descriptor of the directory, for what is built in it while this value goes with the ring.
    pub(super) fn reach(&self) -> Result<OwnedFd, CreateError> {
        let io =
            |source| CreateError::Io { path: Some(self.path(&self.ring)), doing: "reach the directory of", source };
        self.directory.try_clone().map_err(io)
    }

    /// An early answer, before any work; the rename is what decides.
    pub(super) fn check_free(&self, name: &OsStr) -> Result<(), CreateError> {
        match stat_at(&self.directory, name) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => Err(CreateError::NameTaken { path: self.path(name) }),
            Err(errno) => Err(create_error(errno, &self.path(name), "look for")),
        }
    }

    /// Opens both files, to read. `path` is that of the ring for people.
    pub(super) fn open(&self, path: PathBuf, manner: Manner) -> Result<Segments, OpenError> {
        // Mapped read-only: whatever this process does, it cannot damage the data.
        Ok(self.attach(path, OFlag::O_RDONLY, manner)?.0)
    }

    /// Opens both files to write, if their writer is gone. `path` is that of the ring, for people.
    pub(super) fn take_over(self, path: PathBuf) -> Result<Segments, CreateError> {
        let refused = |source| CreateError::TakeOver { path: path.clone(), source: Box::new(source) };
        let attached = self.attach(path.clone(), OFlag::O_RDWR, Manner::default());
        let (mut segments, opened, stats) = attached.map_err(refused)?;
        let unwritable = || OpenError::NeedsRegistry { path: Some(self.path(&self.registry)) };
        let Some([ring, registry]) = stats else { return Err(refused(unwritable())) };
        segments.take_lease(&opened, &path)?;
        // What was locked may have been removed just before.
        let still_there = |name: &OsStr, stat: &FileStat| {
            stat_at(&self.directory, name).is_ok_and(|found| Inode::of(&found) == Inode::of(stat))
        };
        if !still_there(&self.ring, &ring) || !still_there(&self.registry, &registry) {
            return Err(refused(OpenError::NotFound { path: path.clone() }));
        }
        segments.cleanup = segments.registry.clone().map(|mapped| Cleanup {
            process: std::process::id(),
            inodes: Some([Inode::of(&ring), Inode::of(&registry)]),
            place: Some(self),
            sysv: Vec::new(),
            semaphores: Vec::new(),
            _pins: [segments.ring.clone(), mapped],
        });
        Ok(segments)
    }

    /// Answers the ring's file, and what both are, with it.
    fn attach(
        &self,
        path: PathBuf,
        access: OFlag,
        manner: Manner,
    ) -> Result<(Segments, Opened, Option<[FileStat; 2]>), OpenError> {
        let ring = self.open_file(&self.ring, access)?;
        self.judge(&ring.stat, manner.whose, &path)?;
        // Who could exchange a part of the ring would be another owner of it.
        let same_owner = |part: Opened| match part.stat.st_uid == ring.stat.st_uid {
            true => Ok(part),
            false => Err(OpenError::NotARing { path: part.at, reason: "its owner is not that of the ring" }),
        };
        let removed = || fstat(&ring.file).is_ok_and(|stat| stat.st_nlink == 0);
        let write = || if manner.follower { Ok(None) } else { self.open_file(&self.registry, OFlag::O_RDWR).map(Some) };
        let registry = || match write().and_then(|opened| opened.map(same_owner).transpose()) {
            Ok(opened) => Ok(opened),
            Err(OpenError::Permission { .. }) => Ok(None),
            // Gone is gone: a remove took the ring first.
            Err(OpenError::NotFound { .. }) if removed() => Err(OpenError::NotFound { path: self.path(&self.ring) }),
            Err(OpenError::NotFound { path }) => {
                Err(OpenError::NotARing { path, reason: "the registry is missing, remove the ring" })
            }
            Err(error) => Err(error),
        };
        let lease = || match &self.lease {
            None => Ok(Some(Lease::Registry)),
            Some(name) => match self.open_file(name, access).and_then(same_owner) {
                Ok(opened) => Ok(Some(Lease::File(opened.file))),
                Err(OpenError::Permission { .. }) => Ok(None),
                Err(OpenError::NotFound { .. }) if removed() => {
                    Err(OpenError::NotFound { path: self.path(&self.ring) })
                }
                Err(OpenError::NotFound { path }) => {
                    Err(OpenError::NotARing { path, reason: "the lease is missing, remove the ring" })
                }
                Err(error) => Err(error),
            },
        };
        let (segments, stats) = attach(&ring, access == OFlag::O_RDWR, registry, lease, path)?;
        Ok((segments, ring, stats))
    }

    /// May a ring of this owner be opened here? By what is held open: nobody can exchange it meanwhile.
    fn judge(&self, ring: &FileStat, whose: Whose, path: &Path) -> Result<(), OpenError> {
        let look = |directory| fstat(directory).map_err(|errno| open_error(errno, path, "look at the directory of"));
        let (owner, inner) = (ring.st_uid, look(&self.directory)?);
        let Some(home) = &self.home else { return whose.check(owner, Some(&inner), path) };
        let home = look(home)?;
        if let Some(reason) = access::broken_rule(&home, Some(owner)) {
            let path = path.parent().unwrap_or(path).to_owned();
            return Err(OpenError::RingDirectory { path, reason });
        }
        if inner.st_uid != owner || inner.st_mode & 0o022 != 0 {
            let (path, reason) =
                (path.to_owned(), "somebody else than the owner of the ring may exchange what is in it");
            return Err(OpenError::NotARing { path, reason });
        }
        // Anybody can be the first to make the default one; any other was chosen, and its owner with it.
        let chosen = path.parent().is_some_and(|rings| rings != Path::new(directory::DEFAULT_RING_DIRECTORY));
        whose.check(owner, Some(&home).filter(|_| chosen), path)
    }

    /// Opens a regular file.
    fn open_file(&self, name: &OsStr, access: OFlag) -> Result<Opened, OpenError> {
        let at = self.path(name);
        let failed = |errno| open_error(errno, &at, "open");
        let file = self.open_at(name, access).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        match kind(&stat) {
            None => Ok(Opened { file, stat, at }),
            Some(reason) => Err(OpenError::NotARing { path: at, reason }),
        }
    }

    /// Removes what is left of a ring whose creator, or remover, was killed: a registry without a ring. Leaves a ring alone,
    /// and one that is being made.
    pub(super) fn clear(&self) -> Result<(), RemoveError> {
        let there = || stat_at(&self.directory, &self.ring).err() != Some(Errno::ENOENT);
        if there() {
            return Ok(());
        }
        if self.doomed(&self.registry, REGISTRY_MAGIC, |_| false)?.is_none() {
            return Ok(());
        }
        let failed = |error: OpenError| match error {
            OpenError::NotFound { path } => RemoveError::NotFound { path },
            OpenError::Permission { path, source } => RemoveError::Permission { path, source },
            other => {
                RemoveError::Io { path: self.path(&self.registry), doing: "open", source: io::Error::other(other) }
            }
        };
        let opened = self.open_file(&self.registry, OFlag::O_RDWR).map_err(failed)?;
        let found = Inode::of(&opened.stat);
        // Who is about to put the ring beside it, or to remove it, holds the writer's lock: it is there before the name is.
        let lock = Lives::new(opened.file, Lease::Registry).lock_writer();
        let io = |source| RemoveError::Io { path: self.path(&self.registry), doing: "lock", source };
        let Some(_lock) = lock.map_err(io)? else { return Ok(()) };
        let same = stat_at(&self.directory, &self.registry).is_ok_and(|stat| Inode::of(&stat) == found);
        if there() || !same {
            return Ok(());
        }
        self.unlink_at(&self.registry).map_err(|errno| remove_error(errno, &self.path(&self.registry), "remove"))
    }

    fn open_at(&self, name: &OsStr, access: OFlag) -> Result<OwnedFd, Errno> {
        if self.posix {
            return posix::open_object(name, OPEN | access);
        }
        openat(&self.directory, name, OPEN | access, Mode::empty())
    }

    fn unlink_at(&self, name: &OsStr) -> Result<(), Errno> {
        if self.posix {
            return posix::unlink_object(name);
        }
        unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Does the name lead to what was built, also for others?
    pub(super) fn finds(&self, name: &OsStr, built: &Fresh<'_>) -> Result<bool, Errno> {
        Ok(Inode::of(&fstat(self.open_at(name, OFlag::O_RDONLY)?)?) == Inode::of(&built.stat))
    }

    /// Removes what still has the names and is what was created, and a named ring's directory. Best effort.
    pub(super) fn remove_own(&self, created: [Inode; 2]) {
        // The ring first: without it there is nothing that could be opened.
        for (name, created) in [&self.ring, &self.registry].into_iter().zip(created) {
            if stat_at(&self.directory, name).is_ok_and(|found| Inode::of(&found) == created) {
                let _ = unlinkat(&self.directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
        // Leaves a directory alone that holds a ring.
        let _ = directory::sweep(self);
    }

    /// Removes both files, after a look at both: the ring first, since without it nothing can be opened.
    pub(super) fn remove(&self) -> Result<(), RemoveError> {
        // What is empty holds nothing; and others may have written to a registry, but never to a ring.
        let ring = self.doomed(&self.ring, RING_MAGIC, |stat| stat.st_size == 0)?;
        let damaged = |stat: &FileStat| stat.st_size == 0 || stat.st_mode & 0o022 != 0;
        let registry = self.doomed(&self.registry, REGISTRY_MAGIC, damaged)?;
        let parts = [(&self.ring, ring), (&self.registry, registry)];
        let whole = |part: &Option<Doomed>| part.as_ref().is_some_and(|part| part.whole);
        if parts.iter().all(|(_, part)| part.is_none()) {
            return Err(RemoveError::NotFound { path: self.path(&self.ring) });
        }
        // A part that a peer has damaged is known by the one beside it.
        if !parts.iter().any(|(_, part)| whole(part)) {
            return Err(self.no_magic(&self.ring));
        }
        // The set before the ring, which alone names its key.
        if let Some(doomed) = &parts[0].1 {
            self.remove_semaphores(doomed.inode);
        }
        for (name, doomed) in parts {
            let Some(doomed) = doomed else { continue };
            let failed = |errno| remove_error(errno, &self.path(name), "remove");
            match stat_at(&self.directory, name) {
                Ok(stat) if Inode::of(&stat) == doomed.inode => {
                    self.unlink_at(name).map_err(failed)?;
                }
                Ok(_) => {
                    return Err(RemoveError::NotARing { path: self.path(name), reason: "it was replaced just now" });
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// Removes the System V semaphores of a ring that may be removed, if it has some.
    fn remove_semaphores(&self, ring: Inode) {
        let Ok(file) = self.open_at(&self.ring, OFlag::O_RDONLY) else { return };
        if let Some(stat) = fstat(&file).ok().filter(|stat| Inode::of(stat) == ring) {
            semaphores::remove_of_file(&File::from(file), stat.st_uid);
        }
    }

    fn no_magic(&self, name: &OsStr) -> RemoveError {
        RemoveError::NotARing { path: self.path(name), reason: "its first bytes are not those of a ring" }
    }

    /// A file that may be removed: a segment by its magic word (the rest may be damaged) and ours; or one without it, if
    /// `damaged` says that a peer may have done that.
    fn doomed(
        &self,
        name: &OsStr,
        magic: u64,
        damaged: impl Fn(&FileStat) -> bool,
    ) -> Result<Option<Doomed>, RemoveError> {
        let failed = |errno| remove_error(errno, &self.path(name), "open");
        let not_a_ring = |reason| RemoveError::NotARing { path: self.path(name), reason };
        let file = match self.open_at(name, OFlag::O_RDONLY) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let stat = fstat(&file).map_err(failed)?;
        if let Some(reason) = kind(&stat) {
            return Err(not_a_ring(reason));
        }
        let mut found = [0; WORD_BYTES as usize];
        // A file that is too short for a magic word has none.
        let read = File::from(file).read_exact_at(&mut found, 0).is_ok();
        let whole = read && u64::from_ne_bytes(found) == magic;
        if !whole && !damaged(&stat) {
            return Err(self.no_magic(name));
        }
        if !super::ours(&stat, false) && !geteuid().is_root() {
            return Err(failed(Errno::EPERM));
        }
        Ok(Some(Doomed { inode: Inode::of(&stat), whole }))
    }
}

/// A file that may be removed.
struct Doomed {
    inode: Inode,
    /// It has its magic word.
    whole: bool,
}

/// Looks at what has this name, without following it.
pub(super) fn stat_at(directory: &OwnedFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// What a thing is that cannot be a segment.
pub(super) fn kind(stat: &FileStat) -> Option<&'static str> {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => None,
        SFlag::S_IFDIR => Some("it is a directory"),
        SFlag::S_IFIFO => Some("it is a FIFO"),
        _ => Some("it is not a regular file"),
    }
}

/// What an open tells about a thing that cannot be a segment.
fn misfit(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::ELOOP => Some("it is a symbolic link, which is not followed"),
        Errno::EISDIR => Some("it is a directory"),
        Errno::ENOTDIR => Some("it, or a part of the path to it, is not a directory"),
        Errno::ENXIO => Some("it is a socket or a device"),
        _ => None,
    }
}

pub(super) fn create_error(errno: Errno, path: &Path, doing: &'static str) -> CreateError {
    let (path, source) = (path.to_owned(), io::Error::from(errno));
    match errno {
        Errno::EEXIST | Errno::EISDIR | Errno::ENOTEMPTY => CreateError::NameTaken { path },
        Errno::EACCES | Errno::EPERM => CreateError::Permission { path, source },
        _ => CreateError::Io { path: Some(path), doing, source },
    }
}

pub(super) fn open_error(errno: Errno, path: &Path, doing: &'static str) -> OpenError {
    let (path, source) = (path.to_owned(), io::Error::from(errno));
    match (errno, misfit(errno)) {
        (_, Some(reason)) => OpenError::NotARing { path, reason },
        (Errno::ENOENT, _) => OpenError::NotFound { path },
        (Errno::EACCES | Errno::EPERM | Errno::EROFS, _) => OpenError::Permission { path, source },
        _ => OpenError::Io { path: Some(path), doing, source },
    }
}

pub(super) fn remove_error(errno: Errno, path: &Path, doing: &'static str) -> RemoveError {
    let (path, source) = (path.to_owned(), io::Error::from(errno));
    match (errno, misfit(errno)) {
        (_, Some(reason)) => RemoveError::NotARing { path, reason },
        (Errno::ENOENT, _) => RemoveError::NotFound { path },
        (Errno::EACCES | Errno::EPERM, _) => RemoveError::Permission { path, source },
        _ => RemoveError::Io { path, doing, source },
    }
}
