//! Two files in a directory: what rings in [`file`](super::file) and in [`directory`](super::directory) have in common.
//!
//! Everything is relative to a directory that is held open, so that nobody can exchange it between two steps, and
//! follows no link in it. What is made is a [`Temporary`] until it is complete: any failure on the way removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, openat, posix_fallocate, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};

use super::attach::{Opened, attach, descriptor_path};
use super::lives::Lease;
use super::{Cleanup, Inode, Lives, Lock, Segments, mapping, posix};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::{REGISTRY_MAGIC, RING_MAGIC, RegistryLayout, RingLayout, WORD_BYTES};
use crate::memory::Backing;

/// Whatever is at the path, the open neither follows it, nor waits for it, nor takes it for a terminal.
const OPEN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);
const PAGE_BYTES: u64 = 4096;

/// Where the two files of a ring are: a directory that is held open, so that it cannot be exchanged, and two names.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) ring: OsString,
    pub(super) registry: OsString,
    /// The file that the writer's lock is on, if it has one of its own.
    pub(super) lease: Option<OsString>,
    /// Of the directory, absolute.
    pub(super) shown: PathBuf,
    /// They are shared memory objects: opened and unlinked by their names.
    pub(super) posix: bool,
}

impl Place {
    pub(super) fn path(&self, name: &OsStr) -> PathBuf {
        self.shown.join(name)
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
    pub(super) fn open(&self, path: PathBuf) -> Result<Segments, OpenError> {
        // Mapped read-only: whatever this process does, it cannot damage the data.
        Ok(self.attach(path, OFlag::O_RDONLY)?.0)
    }

    /// Opens both files to write, if their writer is gone. `directory`: that of a named ring.
    pub(super) fn take_over(&self, path: PathBuf, directory: Option<PathBuf>) -> Result<Segments, CreateError> {
        let refused = |source| CreateError::TakeOver { path: path.clone(), source: Box::new(source) };
        let (mut segments, stats) = self.attach(path.clone(), OFlag::O_RDWR).map_err(refused)?;
        let unwritable = || OpenError::NeedsRegistry { path: Some(self.path(&self.registry)) };
        let Some([ring, registry]) = stats else { return Err(refused(unwritable())) };
        segments.take_lease(&path)?;
        // What was locked may have been removed just before.
        let still_there = |name: &OsStr, stat: &FileStat| {
            stat_at(&self.directory, name).is_ok_and(|found| Inode::of(&found) == Inode::of(stat))
        };
        if !still_there(&self.ring, &ring) || !still_there(&self.registry, &registry) {
            return Err(refused(OpenError::NotFound { path: path.clone() }));
        }
        segments.cleanup = segments.registry.clone().map(|mapped| Cleanup {
            process: std::process::id(),
            files: vec![(self.path(&self.ring), Inode::of(&ring)), (self.path(&self.registry), Inode::of(&registry))],
            sysv: Vec::new(),
            directory,
            _pins: [segments.ring.clone(), mapped],
        });
        Ok(segments)
    }

    fn attach(&self, path: PathBuf, access: OFlag) -> Result<(Segments, Option<[FileStat; 2]>), OpenError> {
        let ring = self.open_file(&self.ring, access)?;
        let removed = || fstat(&ring.file).is_ok_and(|stat| stat.st_nlink == 0);
        let registry = || match self.open_file(&self.registry, OFlag::O_RDWR) {
            Ok(opened) => Ok(Some(opened)),
            Err(OpenError::Permission { .. }) => Ok(None),
            // Gone is gone: a remove took the ring first.
            Err(OpenError::NotFound { .. }) if removed() => Err(OpenError::NotFound { path: self.path(&self.ring) }),
            Err(OpenError::NotFound { path }) => {
                Err(OpenError::NotARing { path, reason: "the registry is missing, remove the ring" })
            }
            Err(error) => Err(error),
        };
        let lease = || match &self.lease {
            None => Ok(Lease::Registry),
            Some(name) => match self.open_file(name, access) {
                Ok(opened) => Ok(Lease::File(opened.file)),
                Err(OpenError::Permission { .. }) => Ok(Lease::Hidden),
                Err(OpenError::NotFound { .. }) if removed() => {
                    Err(OpenError::NotFound { path: self.path(&self.ring) })
                }
                Err(OpenError::NotFound { path }) => {
                    Err(OpenError::NotARing { path, reason: "the lease is missing, remove the ring" })
                }
                Err(error) => Err(error),
            },
        };
        attach(&ring, access == OFlag::O_RDWR, registry, lease, path)
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
        if there() || self.doomed(&self.registry, REGISTRY_MAGIC)?.is_none() {
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

    /// Removes both files, after a look at both: the ring first, since without it nothing can be opened.
    pub(super) fn remove(&self) -> Result<(), RemoveError> {
        let ring = self.doomed(&self.ring, RING_MAGIC)?;
        let registry = self.doomed(&self.registry, REGISTRY_MAGIC)?;
        if ring.is_none() && registry.is_none() {
            return Err(RemoveError::NotFound { path: self.path(&self.ring) });
        }
        for (name, looked_at) in [(&self.ring, ring), (&self.registry, registry)] {
            let Some(looked_at) = looked_at else { continue };
            let failed = |errno| remove_error(errno, &self.path(name), "remove");
            match stat_at(&self.directory, name) {
                Ok(stat) if Inode::of(&stat) == looked_at => {
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

    /// The inode of a file that may be removed: a segment by its magic word (the rest may be damaged) and ours.
    fn doomed(&self, name: &OsStr, magic: u64) -> Result<Option<Inode>, RemoveError> {
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
        let whole = File::from(file).read_exact_at(&mut found, 0).is_ok();
        if !whole || u64::from_ne_bytes(found) != magic {
            return Err(not_a_ring("its first bytes are not those of a ring"));
        }
        if !super::ours(&stat, false) && !geteuid().is_root() {
            return Err(failed(Errno::EPERM));
        }
        Ok(Some(Inode::of(&stat)))
    }
}

/// A new directory entry that is removed again, unless it is kept.
pub(super) struct Temporary<'a> {
    directory: BorrowedFd<'a>,
    /// Empty if there is nothing to remove.
    name: OsString,
    flag: UnlinkatFlags,
    /// A file that has no name yet, and goes by itself until it has one.
    unnamed: Option<OwnedFd>,
}

impl<'a> Temporary<'a> {
    /// Stands for a file or directory that the caller has just made.
    pub(super) fn new(directory: BorrowedFd<'a>, name: OsString, flag: UnlinkatFlags) -> Temporary<'a> {
        Temporary { directory, name, flag, unnamed: None }
    }

    /// Makes an empty file that has no name before it is renamed, mode 0600 whatever the umask.
    pub(super) fn unnamed(directory: BorrowedFd<'a>) -> Result<(Temporary<'a>, OwnedFd), Errno> {
        let file = openat(directory, ".", OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, OWNER)?;
        fchmod(&file, OWNER)?;
        let unnamed = Some(file.try_clone().map_err(|_| Errno::EMFILE)?);
        let (name, flag) = (OsString::new(), UnlinkatFlags::NoRemoveDir);
        Ok((Temporary { directory, name, flag, unnamed }, file))
    }

    /// Makes an empty file, mode 0600 whatever the umask.
    pub(super) fn file(directory: BorrowedFd<'a>, name: OsString) -> Result<(Temporary<'a>, OwnedFd), Errno> {
        let flags = OPEN | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = openat(directory, name.as_os_str(), flags, OWNER)?;
        let entry = Temporary::new(directory, name, UnlinkatFlags::NoRemoveDir);
        fchmod(&file, OWNER)?;
        Ok((entry, file))
    }

    /// Renames it within its directory, never over anything. It is still removed unless it is kept.
    pub(super) fn rename(&mut self, to: &OsStr) -> Result<(), Errno> {
        if let Some(file) = self.unnamed.take() {
            linkat(AT_FDCWD, &descriptor_path(&file), self.directory, to, AtFlags::AT_SYMLINK_FOLLOW)?;
            self.name = to.to_owned();
            return Ok(());
        }
        let flags = RenameFlags::RENAME_NOREPLACE;
        renameat2(self.directory, self.name.as_os_str(), self.directory, to, flags)?;
        self.name = to.to_owned();
        Ok(())
    }

    /// From now on it stays.
    pub(super) fn keep(mut self) {
        self.name.clear();
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = unlinkat(self.directory, self.name.as_os_str(), self.flag);
        }
    }
}

const OWNER: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// One formatted file that is not in place yet.
pub(super) struct Fresh<'a> {
    pub(super) entry: Temporary<'a>,
    file: OwnedFd,
    backing: Arc<dyn Backing>,
    stat: FileStat,
}

/// Both files of a ring, formatted, and removed again unless they are kept.
pub(super) struct Built<'a> {
    pub(super) ring: Fresh<'a>,
    pub(super) registry: Fresh<'a>,
    layouts: (RingLayout, RegistryLayout),
}

/// Makes both files under two names, or for now without one where that is empty. `path` is that of the ring, for people.
pub(super) fn build<'a>(
    directory: BorrowedFd<'a>,
    [ring, registry]: [OsString; 2],
    path: &Path,
    layouts: (RingLayout, RegistryLayout),
) -> Result<Built<'a>, CreateError> {
    let pages = |length: u64| length.next_multiple_of(PAGE_BYTES);
    let needed = pages(layouts.0.length) + pages(layouts.1.length);
    let no_space = |available| CreateError::NoSpace { path: Some(path.to_owned()), needed, available };
    let available = space(directory).map_err(|errno| create_error(errno, path, "ask for the free space at"))?;
    if needed > available {
        return Err(no_space(available));
    }
    let fresh = |name: OsString, length: u64| {
        let failed = |doing| move |errno| create_error(errno, path, doing);
        let made = if name.is_empty() { Temporary::unnamed(directory) } else { Temporary::file(directory, name) };
        let (entry, file) = made.map_err(failed("create a file for"))?;
        match reserve(&file, length) {
            // Somebody else was faster.
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM) => {
                return Err(no_space(space(directory).unwrap_or(0).min(available)));
            }
            reserved => reserved.map_err(failed("reserve the space for"))?,
        }
        let stat = fstat(&file).map_err(failed("create a file for"))?;
        let mapped = mapping::file(&file, length, true);
        let io = |source| CreateError::Io { path: Some(path.to_owned()), doing: "map the ring", source };
        Ok(Fresh { entry, file, backing: mapped.map_err(io)?, stat })
    };
    let built = Built { ring: fresh(ring, layouts.0.length)?, registry: fresh(registry, layouts.1.length)?, layouts };
    super::format(&built.ring.backing, &built.registry.backing, &built.layouts);
    Ok(built)
}

impl Built<'_> {
    /// Takes the writer's lock, before anybody can find the ring: in a file of its own, or in the registry.
    pub(super) fn lease(&self, lease: Lease, path: &Path) -> Result<(Lives, Lock), CreateError> {
        let io = |source| CreateError::Io { path: Some(path.to_owned()), doing: "lock the lease of", source };
        let lives = Lives::new(self.registry.file.try_clone().map_err(io)?, lease);
        let lock = lives.lock_writer().map_err(io)?;
        // Nobody knows the file yet.
        let lock = lock.ok_or_else(|| io(io::ErrorKind::WouldBlock.into()))?;
        Ok((lives, lock))
    }

    /// The files stay. `files` are where they are now, `directory` is that of a named ring.
    pub(super) fn keep(self, files: [PathBuf; 2], directory: Option<PathBuf>, lease: (Lives, Lock)) -> Segments {
        let Built { ring, registry, layouts: (ring_layout, registry_layout) } = self;
        let path = directory.clone().unwrap_or_else(|| files[0].clone());
        let [ring_path, registry_path] = files;
        let cleanup = Cleanup {
            process: std::process::id(),
            files: vec![(ring_path, Inode::of(&ring.stat)), (registry_path, Inode::of(&registry.stat))],
            sysv: Vec::new(),
            directory,
            _pins: [ring.backing.clone(), registry.backing.clone()],
        };
        let trusted = super::trusted(&ring.stat, &registry.stat);
        ring.entry.keep();
        registry.entry.keep();
        Segments {
            ring: ring.backing,
            registry: Some(registry.backing),
            ring_layout,
            registry_layout: Some(registry_layout),
            trusted,
            path: Some(path),
            cleanup: Some(cleanup),
            descriptors: None,
            lives: Some(lease.0),
            lease: Some(lease.1),
        }
    }
}

/// Reserves every page: from now on no access can find the file system full.
pub(super) fn reserve(file: &OwnedFd, length: u64) -> Result<(), Errno> {
    let length = i64::try_from(length).map_err(|_| Errno::ENOSPC)?;
    loop {
        match posix_fallocate(file, 0, length) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// Bytes that a new file here may take. A file system in memory can promise more than there is, and the kernel then
/// kills processes instead of failing.
fn space(directory: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = fstatvfs(directory)?;
    // A tmpfs without a limit says that it has no blocks at all.
    let unlimited = stat.blocks() == 0;
    let free = if unlimited { u64::MAX } else { stat.blocks_available().saturating_mul(stat.fragment_size()) };
    let in_memory = unlimited || fstatfs(directory)?.filesystem_type() == TMPFS_MAGIC;
    let memory = if in_memory { super::memory_available() } else { None };
    Ok(free.min(memory.unwrap_or(u64::MAX)))
}

/// A name that nothing else has, hidden, and short enough whatever the name.
pub(super) fn temporary_name(name: &OsStr) -> Result<OsString, CreateError> {
    let bytes = name.as_bytes();
    let mut hidden = OsString::from(".");
    hidden.push(OsStr::from_bytes(&bytes[..bytes.len().min(200)]));
    hidden.push(format!(".{}.{:x}.tmp", std::process::id(), super::random()?));
    Ok(hidden)
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

#[cfg(test)]
#[cfg(not(miri))] // Miri has no directories that are held open.
mod tests {
    use super::*;
    use crate::segment::tests::{geometry, names_in};
    use std::os::fd::AsFd;

    #[test]
    fn what_is_not_kept_is_removed_under_whatever_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = OwnedFd::from(File::open(directory.path()).expect("the directory"));
        let build = || {
            let layouts = super::super::layouts(geometry()).expect("a small ring");
            build(home.as_fd(), ["a".into(), "b".into()], directory.path(), layouts).ok()
        };
        let mut built = build().expect("two files");
        built.registry.entry.rename("c".as_ref()).expect("a free name");
        // Never over anything.
        assert_eq!(built.ring.entry.rename("c".as_ref()), Err(Errno::EEXIST));
        assert_eq!(names_in(directory.path()), ["a", "c"]);
        drop(built);
        assert!(names_in(directory.path()).is_empty());
        // The second file fails: the first one goes, what was in the way stays.
        std::fs::write(directory.path().join("b"), "precious").expect("a file");
        assert!(build().is_none());
        assert_eq!(names_in(directory.path()), ["b"]);
    }

    #[test]
    fn temporary_names_are_hidden_and_fit() {
        for name in ["ring".to_owned(), "x".repeat(255)] {
            let hidden = temporary_name(name.as_ref()).expect("random bytes").into_string().expect("ASCII");
            assert!(hidden.starts_with('.') && hidden.ends_with(".tmp") && hidden.len() <= 255, "{hidden}");
        }
    }
}
