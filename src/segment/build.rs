//! New files of a ring: built whole before anybody can find them, and removed again unless they are kept.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, openat, posix_fallocate, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::access::Permissions;
use super::attach::descriptor_path;
use super::lives::Lease;
use super::place::{OPEN, Place, create_error};
use super::{Cleanup, Inode, Lives, Lock, Segments, mapping};
use crate::error::CreateError;
use crate::layout::{RegistryLayout, RingLayout};
use crate::memory::Backing;

const PAGE_BYTES: u64 = 4096;

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
    pub(super) stat: FileStat,
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
        let stat = fstat(&file).map_err(failed("look at the file of"))?;
        let mapped = mapping::file(&file, length, true);
        let io = |source| CreateError::Io { path: Some(path.to_owned()), doing: "map the ring", source };
        Ok(Fresh { entry, file, backing: mapped.map_err(io)?, stat })
    };
    let built = Built { ring: fresh(ring, layouts.0.length)?, registry: fresh(registry, layouts.1.length)?, layouts };
    super::format(&built.ring.backing, &built.registry.backing, &built.layouts);
    Ok(built)
}

impl Built<'_> {
    /// Takes the writer's lock, before anybody can find the ring: in a file of its own, or in the registry. Then lets those in
    /// for whom the ring is: no other user could open a file of it before.
    pub(super) fn lease(
        &mut self,
        lease: Lease,
        permissions: Permissions,
        path: &Path,
    ) -> Result<(Lives, Lock), CreateError> {
        let io = |source| CreateError::Io { path: Some(path.to_owned()), doing: "lock the lease of", source };
        let lives = Lives::new(self.registry.file.try_clone().map_err(io)?, lease);
        let lock = lives.lock_writer().map_err(io)?;
        // Nobody knows the file yet.
        let lock = lock.ok_or_else(|| io(io::ErrorKind::WouldBlock.into()))?;
        let lock = lock.with_sign_of_life(&self.ring.file).map_err(io)?;
        for (file, mode) in [(&mut self.registry, permissions.registry()), (&mut self.ring, permissions.ring())] {
            permissions.give(&file.file, mode, path)?;
            file.stat = fstat(&file.file).map_err(|errno| create_error(errno, path, "look at the file of"))?;
        }
        Ok((lives, lock))
    }

    /// The files stay; they are at `place` now.
    pub(super) fn keep(self, path: PathBuf, place: Place, lease: (Lives, Lock)) -> Segments {
        let Built { ring, registry, layouts: (ring_layout, registry_layout) } = self;
        let cleanup = Cleanup {
            process: std::process::id(),
            inodes: Some([Inode::of(&ring.stat), Inode::of(&registry.stat)]),
            place: Some(place),
            sysv: Vec::new(),
            semaphores: Vec::new(),
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

#[cfg(test)]
#[cfg(not(miri))] // Miri has no directories that are held open.
mod tests {
    use super::*;
    use crate::segment::tests::{geometry, names_in};
    use std::fs::File;
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
