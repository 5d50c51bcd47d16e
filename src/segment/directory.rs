//! Named rings: a ring is a directory with its name, under the ring directory.
//!
//! ```text
//!   /dev/shm/shmcast/            the ring directory: SHMCAST_DIR, or this one, made when it is missing
//!     prices/                    one ring, there whole or not at all: built as `.prices.7.9f.tmp`, then renamed
//!       ring  registry           the two segments
//!       lease                    empty; the writer's lock is on it
//! ```
//!
//! The ring directory is made for one user, mode 0700, or, by the first create of a ring that others may use, for all:
//! like `/tmp`, mode 1777. A default one of this user's is opened to all by that, too. It is removed again with its last ring.
//! One that somebody else could exchange rings in is used neither to create nor to open.
//!
//! Every step is relative to a directory that is held open, takes one component of a checked name, and follows no link: so
//! no name leads out of the ring directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open as open_path, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use super::Segments;
use super::access::{self, Manner, Permissions};
use super::attach::descriptor_path;
use super::build::{Temporary, build, temporary_name};
use super::lives::Lease;
use super::place::{Place, create_error, open_error, remove_error, stat_at};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::{Geometry, RegistryLayout, RingLayout};

pub(super) const DEFAULT_RING_DIRECTORY: &str = "/dev/shm/shmcast";
const MAX_NAME_BYTES: usize = 200;
/// How often a create makes the ring directory again that another process has just removed, because it was empty.
const MAX_ATTEMPTS: usize = 100;

pub(super) const RING: &str = "ring";
pub(super) const REGISTRY: &str = "registry";
pub(super) const LEASE: &str = "lease";

/// Of a ring directory for all, as of `/tmp`.
const SHARED: Mode = Mode::S_ISVTX.union(Mode::S_IRWXU).union(Mode::S_IRWXG).union(Mode::S_IRWXO);

/// Only to reach what is in it: works without permission to list it.
const REACH: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Creates a named ring. Costs as [`file::create`](super::file::create).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(name: &str, geometry: Geometry, permissions: Permissions) -> Result<Segments, CreateError> {
    create_in(&ring_directory(), name, geometry, permissions)
}

/// Opens a named ring that another process created. Never formats, never waits.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(name: &str, manner: Manner) -> Result<Segments, OpenError> {
    open_in(&ring_directory(), name, manner)
}

/// Takes over a named ring whose writer is gone.
///
/// # Errors
/// See [`CreateError`]: [`WriterAlive`](CreateError::WriterAlive), or why it cannot be used.
pub(crate) fn take_over(name: &str) -> Result<Segments, CreateError> {
    take_over_in(&ring_directory(), name)
}

/// Removes a named ring, or what a killed remove left of one. Processes that have it open keep what they have mapped.
///
/// # Errors
/// See [`RemoveError`]; what is not a ring of this user's is left alone.
pub(crate) fn remove(name: &str) -> Result<(), RemoveError> {
    remove_in(&ring_directory(), name)
}

/// Removes what is left of a named ring whose writer, or remover, was killed in the middle. Leaves a ring alone.
///
/// # Errors
/// See [`RemoveError`].
pub(crate) fn clear(name: &str) -> Result<(), RemoveError> {
    let rings = ring_directory();
    match place(&rings, name) {
        // The directory never gets another ring.
        Ok(place) if stat_at(&place.directory, &place.ring).err() == Some(Errno::ENOENT) => {
            remove_at(place, rings.join(name))
        }
        _ => Ok(()),
    }
}

/// Where named rings are.
pub(crate) fn ring_directory() -> PathBuf {
    let chosen = std::env::var_os("SHMCAST_DIR").filter(|path| !path.is_empty());
    let chosen = PathBuf::from(chosen.unwrap_or_else(|| DEFAULT_RING_DIRECTORY.into()));
    // Absolute, so that the paths that are kept outlive a change of the working directory.
    std::path::absolute(&chosen).unwrap_or(chosen)
}

/// The rule that a name breaks. A good one is one component of a path, and shows up in a terminal as it is.
pub(super) fn broken_rule(name: &str) -> Option<&'static str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        Some("1 to 200 bytes long")
    } else if name.starts_with('.') {
        Some("without a dot in front")
    } else if !name.bytes().all(known) {
        Some("made of ASCII letters, digits, '.', '_' and '-' only")
    } else {
        None
    }
}

pub(super) fn create_in(
    rings: &Path,
    name: &str,
    geometry: Geometry,
    permissions: Permissions,
) -> Result<Segments, CreateError> {
    if let Some(rule) = broken_rule(name) {
        return Err(CreateError::InvalidName { name: name.to_owned(), rule });
    }
    let layouts = super::layouts(geometry)?;
    build_in(rings, name, layouts, permissions).inspect_err(|_| tidy(rings))
}

fn build_in(
    rings: &Path,
    name: &str,
    layouts: (RingLayout, RegistryLayout),
    permissions: Permissions,
) -> Result<Segments, CreateError> {
    let path = rings.join(name);
    let failed = |doing| {
        let path = &path;
        move |errno| create_error(errno, path, doing)
    };
    // Declared in this order: what is in the new directory is removed before the directory itself.
    let (home, hidden) = enter(rings, name, permissions)?;
    let mut aside = Temporary::new(home.as_fd(), hidden.clone(), UnlinkatFlags::RemoveDir);
    let inner = openat(&home, hidden.as_os_str(), REACH | OFlag::O_NOFOLLOW, Mode::empty());
    let inner = inner.map_err(failed("open the directory of"))?;
    set_mode(&inner, Mode::S_IRWXU).map_err(failed("set the mode of"))?;
    // One that can be given to a group, too.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let inner = openat(&inner, ".", flags, Mode::empty()).map_err(failed("open the directory of"))?;
    let io = |source| CreateError::Io { path: Some(path.clone()), doing: "reach the directory of", source };
    let place = in_place(home.try_clone().map_err(io)?, inner.try_clone().map_err(io)?, &path);
    let mut built = build(inner.as_fd(), [RING.into(), REGISTRY.into()], &path, layouts)?;
    let (lease, file) = Temporary::file(inner.as_fd(), LEASE.into()).map_err(failed("create a file for"))?;
    let lock = built.lease(Lease::File(file), permissions, &path)?;
    permissions.give(&inner, permissions.directory(), &path)?;
    aside.rename(name.as_ref()).map_err(failed("rename into place"))?;
    aside.keep();
    lease.keep();
    Ok(built.keep(path, place, lock))
}

/// Opens the ring directory, made if it is missing, with a new directory of a hidden name in it (from then on nobody
/// takes the ring directory for empty).
fn enter(rings: &Path, name: &str, permissions: Permissions) -> Result<(OwnedFd, std::ffi::OsString), CreateError> {
    let hidden = temporary_name(name.as_ref())?;
    for _ in 0..MAX_ATTEMPTS {
        let made = match mkdir(rings, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(create_error(errno, rings, "create the ring directory")),
        };
        let home = match reach(rings) {
            Err(Errno::ENOENT) => continue,
            home => home.map_err(|errno| create_error(errno, rings, "open the ring directory"))?,
        };
        if made {
            let mode = if permissions.is_shared() { SHARED } else { Mode::S_IRWXU };
            set_mode(&home, mode).map_err(|errno| create_error(errno, rings, "set the mode of"))?;
        }
        inspect(&home, rings, permissions)?;
        // An early answer, before any work; the rename is what decides.
        if stat_at(&home, name.as_ref()).is_ok() {
            return Err(CreateError::NameTaken { path: rings.join(name) });
        }
        match mkdirat(&home, hidden.as_os_str(), Mode::S_IRWXU) {
            Err(Errno::ENOENT) => {}
            made => {
                made.map_err(|errno| create_error(errno, rings, "create a directory in"))?;
                return Ok((home, hidden));
            }
        }
    }
    let source = io::Error::from(Errno::ENOENT);
    Err(CreateError::Io { path: Some(rings.to_owned()), doing: "keep the ring directory", source })
}

/// The mode of a directory that is held open only to reach what is in it.
fn set_mode(directory: &OwnedFd, mode: Mode) -> Result<(), Errno> {
    fchmodat(AT_FDCWD, &descriptor_path(directory), mode, FchmodatFlags::FollowSymlink)
}

/// Is the ring directory one to create a ring in? The default one of this user's, of which nobody chose the mode, is
/// opened to all if the ring is for others.
fn inspect(home: &OwnedFd, rings: &Path, permissions: Permissions) -> Result<(), CreateError> {
    let failed = |errno| create_error(errno, rings, "look at the ring directory");
    let mut stat = fstat(home).map_err(failed)?;
    let own_default = super::ours(&stat, false) && rings == Path::new(DEFAULT_RING_DIRECTORY);
    if own_default && !access::lets_in(&stat, permissions) {
        set_mode(home, SHARED).map_err(failed)?;
        stat = fstat(home).map_err(failed)?;
    }
    let rule = access::broken_rule(&stat, Some(nix::unistd::geteuid().as_raw()));
    let closed =
        "those whom the ring is for cannot reach what is in it; open it to them (chmod 1777), or choose another one";
    match rule.or((!access::lets_in(&stat, permissions)).then_some(closed)) {
        Some(reason) => Err(CreateError::RingDirectory { path: rings.to_owned(), reason }),
        None => Ok(()),
    }
}

/// Opens the ring directory. Anybody may write to /dev/shm, so no link is followed to the default one.
pub(super) fn reach(rings: &Path) -> Result<OwnedFd, Errno> {
    let extra = if rings == Path::new(DEFAULT_RING_DIRECTORY) { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    open_path(rings, REACH | extra, Mode::empty())
}

/// Opens the directory of one ring. A link in its place is not followed.
pub(super) fn reach_ring(rings: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(rings, name, REACH | OFlag::O_NOFOLLOW, Mode::empty())
}

/// The files of a named ring. A link in place of its directory is not followed.
fn place(rings: &Path, name: &str) -> Result<Place, Errno> {
    let home = reach(rings)?;
    let directory = reach_ring(&home, name)?;
    Ok(in_place(home, directory, &rings.join(name)))
}

/// The same, with both directories held open. `path` is that of the ring.
fn in_place(home: OwnedFd, directory: OwnedFd, path: &Path) -> Place {
    let (ring, registry, lease, home) = (RING.into(), REGISTRY.into(), Some(LEASE.into()), Some(home));
    Place { directory, ring, registry, lease, home, shown: path.to_owned(), posix: false }
}

pub(super) fn open_in(rings: &Path, name: &str, manner: Manner) -> Result<Segments, OpenError> {
    if let Some(rule) = broken_rule(name) {
        return Err(OpenError::InvalidName { name: name.to_owned(), rule });
    }
    let path = rings.join(name);
    place(rings, name).map_err(|errno| open_error(errno, &path, "open the directory of"))?.open(path, manner)
}

pub(super) fn take_over_in(rings: &Path, name: &str) -> Result<Segments, CreateError> {
    if let Some(rule) = broken_rule(name) {
        return Err(CreateError::InvalidName { name: name.to_owned(), rule });
    }
    let path = rings.join(name);
    let refused = |errno| {
        let source = Box::new(open_error(errno, &path, "open the directory of"));
        CreateError::TakeOver { path: path.clone(), source }
    };
    let place = place(rings, name).map_err(refused)?;
    place.take_over(path)
}

pub(super) fn remove_in(rings: &Path, name: &str) -> Result<(), RemoveError> {
    if let Some(rule) = broken_rule(name) {
        return Err(RemoveError::InvalidName { name: name.to_owned(), rule });
    }
    let path = rings.join(name);
    let place = place(rings, name).map_err(|errno| remove_error(errno, &path, "remove"))?;
    remove_at(place, path)
}

/// Removes the files of a ring in a directory that is held open, and the directory.
fn remove_at(place: Place, path: PathBuf) -> Result<(), RemoveError> {
    let failed = |errno| remove_error(errno, &path, "remove");
    let removed = place.remove();
    if !matches!(removed, Ok(()) | Err(RemoveError::NotFound { .. })) {
        return removed;
    }
    match (sweep(&place), removed) {
        // Without its segments it may be what a killed remove left, but not with anything else in it.
        (Err(Errno::ENOTEMPTY | Errno::EEXIST), Err(_)) => {
            Err(RemoveError::NotARing { path, reason: "it is a directory without a ring in it" })
        }
        // Another remove was faster.
        (Err(Errno::ENOENT), removed) => removed,
        (swept, _) => swept.map_err(failed),
    }
}

/// Removes the directory of a named ring whose segments are gone: it never gets others, because a ring is renamed
/// into place with its directory. Any other directory is left alone.
pub(super) fn sweep(place: &Place) -> Result<(), Errno> {
    let (Some(home), Some(name)) = (&place.home, place.shown.file_name()) else { return Ok(()) };
    let gone = |name: &str| stat_at(&place.directory, OsStr::new(name)).err() == Some(Errno::ENOENT);
    if !gone(RING) || !gone(REGISTRY) {
        return Err(Errno::ENOTEMPTY);
    }
    // What is not an empty file is not a lease.
    let regular = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    if stat_at(&place.directory, OsStr::new(LEASE)).is_ok_and(|stat| regular(stat.st_mode) && stat.st_size == 0) {
        unlinkat(&place.directory, LEASE, UnlinkatFlags::NoRemoveDir)?;
    }
    // Whatever has the name by now, it stays if there is anything in it.
    unlinkat(home, name, UnlinkatFlags::RemoveDir)?;
    if let Some(rings) = place.shown.parent() {
        tidy(rings);
    }
    Ok(())
}

/// Removes the default ring directory if it is empty.
fn tidy(rings: &Path) {
    if rings == Path::new(DEFAULT_RING_DIRECTORY) {
        let _ = unlinkat(AT_FDCWD, rings, UnlinkatFlags::RemoveDir);
    }
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::segment::tests::{geometry, names_in};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn made(rings: &Path, name: &str) -> Segments {
        create_in(rings, name, geometry(), Permissions::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_ring_is_there_whole_or_not_at_all() {
        let directory = directory();
        // Made when it is missing.
        let rings = directory.path().join("rings");
        assert!(matches!(open_in(&rings, "a", Manner::default()), Err(OpenError::NotFound { .. })));
        assert!(matches!(remove_in(&rings, "a"), Err(RemoveError::NotFound { .. })));
        let writer = made(&rings, "a");
        assert!(matches!(open_in(&rings, "b", Manner::default()), Err(OpenError::NotFound { .. })));
        let reader = open_in(&rings, "a", Manner::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(names_in(&rings), ["a"]);
        assert_eq!(names_in(&rings.join("a")), [LEASE, REGISTRY, RING]);
        for (path, mode) in [("", 0o700), ("a", 0o700), ("a/ring", 0o600), ("a/registry", 0o600), ("a/lease", 0o600)] {
            assert_eq!(fs::metadata(rings.join(path)).unwrap().permissions().mode() & 0o7777, mode, "{path}");
        }
        assert_eq!(writer.ring_layout, reader.ring_layout);
        assert_eq!(reader.path, Some(rings.join("a")));
        assert_eq!(writer.path, reader.path);
        assert!(writer.trusted && reader.trusted && writer.ring.base() != reader.ring.base());
        assert!(matches!(
            create_in(&rings, "a", geometry(), Permissions::default()),
            Err(CreateError::NameTaken { .. })
        ));
        assert_eq!(names_in(&rings), ["a"], "no temporaries");
        remove_in(&rings, "a").expect("a ring of ours");
        assert!(names_in(&rings).is_empty(), "remove removes everything");
    }

    #[test]
    fn a_link_in_place_of_a_ring_is_not_followed() {
        let directory = directory();
        let rings = directory.path();
        let _writer = made(rings, "a");
        symlink("a", rings.join("b")).unwrap();
        assert!(matches!(
            create_in(rings, "b", geometry(), Permissions::default()),
            Err(CreateError::NameTaken { .. })
        ));
        assert!(matches!(open_in(rings, "b", Manner::default()), Err(OpenError::NotARing { .. })));
        assert!(matches!(remove_in(rings, "b"), Err(RemoveError::NotARing { .. })));
        assert_eq!(names_in(&rings.join("a")).len(), 3);
        assert_eq!(names_in(rings), ["a", "b"]);
    }

    #[test]
    fn what_is_not_a_ring_is_left_alone() {
        let directory = directory();
        let rings = directory.path();
        fs::write(rings.join("file"), "precious").unwrap();
        fs::create_dir(rings.join("foreign")).unwrap();
        fs::write(rings.join("foreign/lease"), "precious").unwrap();
        for name in ["file", "foreign"] {
            assert!(matches!(
                create_in(rings, name, geometry(), Permissions::default()),
                Err(CreateError::NameTaken { .. })
            ));
            assert!(open_in(rings, name, Manner::default()).is_err());
            assert!(matches!(remove_in(rings, name), Err(RemoveError::NotARing { .. })), "{name}");
        }
        for path in ["file", "foreign/lease"] {
            assert_eq!(fs::read(rings.join(path)).unwrap(), b"precious");
        }
        assert_eq!(names_in(rings), ["file", "foreign"]);
    }

    #[test]
    fn a_failing_create_leaves_nothing() {
        let directory = directory();
        let rings = directory.path();
        let bad = Geometry { blocks: 3, ..geometry() };
        assert!(matches!(create_in(rings, "a", bad, Permissions::default()), Err(CreateError::Geometry(_))));
        let huge = Geometry { capacity: crate::layout::MAX_CAPACITY_BYTES, ..geometry() };
        let free = nix::sys::statvfs::statvfs(rings).unwrap();
        // Never reserve that much: only where the guard must refuse it.
        if free.blocks() > 0 && free.blocks_available() * free.fragment_size() < huge.capacity {
            assert!(matches!(
                create_in(rings, "a", huge, Permissions::default()),
                Err(CreateError::NoSpace { path: Some(_), .. })
            ));
        }
        assert!(names_in(rings).is_empty());
    }

    #[test]
    fn the_cleanup_of_an_old_ring_leaves_a_new_one_alone() {
        let directory = directory();
        let rings = directory.path();
        let old = made(rings, "a").cleanup.expect("created here");
        remove_in(rings, "a").unwrap();
        let new = made(rings, "a").cleanup.expect("created here");
        old.run();
        assert_eq!(names_in(&rings.join("a")).len(), 3);
        assert!(open_in(rings, "a", Manner::default()).is_ok());
        new.run();
        assert!(names_in(rings).is_empty());
    }

    #[test]
    fn what_a_killed_remove_leaves_can_be_removed() {
        let directory = directory();
        let rings = directory.path();
        for gone in [&[RING][..], &[RING, REGISTRY], &[RING, REGISTRY, LEASE]] {
            let _writer = made(rings, "a");
            for name in gone {
                fs::remove_file(rings.join("a").join(name)).unwrap();
            }
            assert!(matches!(open_in(rings, "a", Manner::default()), Err(OpenError::NotFound { .. })));
            remove_in(rings, "a").unwrap_or_else(|error| panic!("{gone:?}: {error}"));
            assert!(names_in(rings).is_empty());
        }
    }

    #[test]
    fn creates_survive_that_the_default_directory_comes_and_goes() {
        let rings = Path::new(DEFAULT_RING_DIRECTORY);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    let name = format!("unit-test-{}-{thread}", std::process::id());
                    for _ in 0..50 {
                        let ring = match create_in(rings, &name, geometry(), Permissions::default()) {
                            // Another user's: nothing to see here.
                            Err(CreateError::Permission { .. }) => return,
                            ring => ring.unwrap_or_else(|error| panic!("{error}")),
                        };
                        assert!(matches!(
                            create_in(rings, &name, geometry(), Permissions::default()),
                            Err(CreateError::NameTaken { .. })
                        ));
                        ring.cleanup.expect("created here").run();
                        assert!(!rings.join(&name).exists());
                    }
                });
            }
        });
    }

    #[test]
    fn names() {
        let longest = "x".repeat(MAX_NAME_BYTES);
        for good in ["a", "A-1_b.c", "-", "_", "a..b", longest.as_str()] {
            assert_eq!(broken_rule(good), None, "{good}");
        }
        let longer = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", ".", "..", ".a", "a/b", "/a", "a b", "a\0", "ä", "a\n", longer.as_str()] {
            assert!(broken_rule(bad).is_some(), "{bad:?}");
            let rings = Path::new("/nonexistent");
            assert!(matches!(
                create_in(rings, bad, geometry(), Permissions::default()),
                Err(CreateError::InvalidName { .. })
            ));
            assert!(matches!(open_in(rings, bad, Manner::default()), Err(OpenError::InvalidName { .. })));
            assert!(matches!(remove_in(rings, bad), Err(RemoveError::InvalidName { .. })));
        }
        let directory = directory();
        let _writer = made(directory.path(), &longest);
        assert_eq!(names_in(directory.path()), [longest]);
    }
}
