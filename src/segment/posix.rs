//! A ring in two POSIX shared memory objects: `/name` is the ring segment, `/name.registry` the registry.
//!
//! ```text
//!   create   two files without a name, 0600      new, space reserved, formatted: O_TMPFILE where the objects are; then
//!            │                                   the mode and group
//!            └─ linkat, never over anything ─┐   registry first: who finds the ring finds both
//!   open     shm_open("/name", O_RDONLY)         shm_open("/name.registry", O_RDWR), or none (a follower)
//!   remove   shm_unlink: ring, then registry     only what has our magic word and our owner
//! ```
//!
//! `shm_open` alone can only make objects that are there before they are whole, and POSIX has no rename for them. So they
//! get their names at the end, in the directory in which `shm_open` has them on Linux; that `shm_open` finds them is
//! checked before the create answers. A creator that is killed leaves nothing, but between its two links: then a
//! registry without a ring, for [`remove`] to clear.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;

use super::Segments;
use super::access::{Manner, Permissions};
use super::build::build;
use super::lives::Lease;
use super::place::{Place, create_error, open_error, remove_error};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::Geometry;

/// Where glibc and musl keep the objects.
const OBJECTS: &str = "/dev/shm";
/// The directory of the named rings is there, too.
const RESERVED: &str = "shmcast";

/// Creates a ring in two new objects. Costs as [`file::create`](super::file::create).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(name: &str, geometry: Geometry, permissions: Permissions) -> Result<Segments, CreateError> {
    let name = plain(name).map_err(|rule| CreateError::InvalidName { name: name.to_owned(), rule })?;
    let layouts = super::layouts(geometry)?;
    let place = place_of(name).map_err(|errno| create_error(errno, Path::new(OBJECTS), "open the directory of"))?;
    place.check_free(&place.ring)?;
    place.check_free(&place.registry)?;
    let unnamed = [OsString::new(), OsString::new()];
    let path = place.path(&place.ring);
    let directory = place.reach()?;
    let mut built = build(directory.as_fd(), unnamed, &path, layouts)?;
    let lease = built.lease(Lease::Registry, permissions, &path)?;
    for (fresh, name) in [(&mut built.registry, &place.registry), (&mut built.ring, &place.ring)] {
        let failed = |errno| create_error(errno, &place.path(name), "link into place");
        fresh.entry.rename(name).map_err(failed)?;
        if !place.finds(name, fresh).map_err(failed)? {
            let source = io::Error::from(Errno::ENOTSUP);
            return Err(CreateError::Io { path: Some(place.path(name)), doing: "find with shm_open", source });
        }
    }
    Ok(built.keep(path, place, lease))
}

/// Opens a ring that another process created. Never formats, never waits.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(name: &str, manner: Manner) -> Result<Segments, OpenError> {
    let name = plain(name).map_err(|rule| OpenError::InvalidName { name: name.to_owned(), rule })?;
    let place = place_of(name).map_err(|errno| open_error(errno, Path::new(OBJECTS), "open the directory of"))?;
    let path = place.path(&place.ring);
    place.open(path, manner)
}

/// Takes over a ring whose writer is gone.
///
/// # Errors
/// See [`CreateError`]: [`WriterAlive`](CreateError::WriterAlive), or why it cannot be used.
pub(crate) fn take_over(name: &str) -> Result<Segments, CreateError> {
    let name = plain(name).map_err(|rule| CreateError::InvalidName { name: name.to_owned(), rule })?;
    let place = place_of(name).map_err(|errno| create_error(errno, Path::new(OBJECTS), "open the directory of"))?;
    let path = place.path(&place.ring);
    place.take_over(path)
}

/// Removes a ring. Processes that have it open keep what they have mapped.
///
/// # Errors
/// See [`RemoveError`]; what is not a ring of this user's is left alone.
pub(crate) fn remove(name: &str) -> Result<(), RemoveError> {
    let name = plain(name).map_err(|rule| RemoveError::InvalidName { name: name.to_owned(), rule })?;
    let place = place_of(name).map_err(|errno| remove_error(errno, Path::new(OBJECTS), "open the directory of"))?;
    place.remove()
}

/// Removes what is left of a ring whose creator, or remover, was killed in the middle. Leaves a ring alone.
///
/// # Errors
/// See [`RemoveError`].
pub(crate) fn clear(name: &str) -> Result<(), RemoveError> {
    let name = plain(name).map_err(|rule| RemoveError::InvalidName { name: name.to_owned(), rule })?;
    let place = place_of(name).map_err(|errno| remove_error(errno, Path::new(OBJECTS), "open the directory of"))?;
    place.clear()
}

/// A name without the slash that POSIX wants in front, or the rule that it breaks.
fn plain(name: &str) -> Result<&str, &'static str> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    match super::directory::broken_rule(plain) {
        Some(rule) => Err(rule),
        None if plain == RESERVED => Err("other than that of the directory of named rings"),
        None => Ok(plain),
    }
}

fn place_of(name: &str) -> Result<Place, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open_path(OBJECTS, flags, Mode::empty())?;
    let registry = format!("{name}.registry").into();
    let (ring, lease, home, shown) = (name.into(), None, None, OBJECTS.into());
    Ok(Place { directory, ring, registry, lease, home, shown, posix: true })
}

/// The name as POSIX wants it.
fn object(name: &OsStr) -> OsString {
    let mut object = OsString::from("/");
    object.push(name);
    object
}

/// Opens an object that exists.
pub(super) fn open_object(name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    shm_open(object(name).as_os_str(), flags, Mode::empty()).map_err(|errno| match errno {
        // What glibc says of a directory.
        Errno::EINVAL => Errno::EISDIR,
        errno => errno,
    })
}

/// Takes the name off an object.
pub(super) fn unlink_object(name: &OsStr) -> Result<(), Errno> {
    shm_unlink(object(name).as_os_str())
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::segment::tests::geometry;
    use std::fs;
    use std::path::PathBuf;

    /// A name of this test, gone with this value whatever happens.
    struct Name(String);

    impl Name {
        fn new(what: &str) -> Name {
            Name(format!("shmcast-unit-{what}-{}", std::process::id()))
        }

        fn paths(&self) -> [PathBuf; 2] {
            ["", ".registry"].map(|suffix| Path::new(OBJECTS).join(format!("{}{suffix}", self.0)))
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            self.paths().iter().for_each(|path| drop(fs::remove_file(path)));
        }
    }

    #[test]
    fn names_are_those_of_named_rings_with_or_without_a_slash() {
        assert_eq!(plain("/prices"), Ok("prices"));
        assert_eq!(plain("prices"), Ok("prices"));
        for bad in ["", "/", "//prices", "/a/b", "/.hidden", "a b", "/shmcast", "shmcast", &"x".repeat(201)] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_programs_find_both_objects_by_shm_open() {
        let name = Name::new("found");
        let made = create(&name.0, geometry(), Permissions::default()).expect("a small ring");
        for (suffix, layout) in [("", made.ring_layout.length), (".registry", 128 * (4 + 4 + 2))] {
            let object = format!("/{}{suffix}", name.0);
            let found = shm_open(object.as_str(), OFlag::O_RDWR, Mode::empty()).expect("an object");
            let stat = nix::sys::stat::fstat(&found).expect("an object");
            assert_eq!(stat.st_mode & 0o7777, 0o600);
            assert!(stat.st_size as u64 >= layout.min(1000) && stat.st_blocks * 512 >= stat.st_size, "reserved");
        }
        let opened = open(&format!("/{}", name.0), Manner::default()).expect("the ring");
        assert!(opened.trusted && made.trusted && !opened.ring.writable());
        made.cleanup.expect("created here").run();
        assert!(name.paths().iter().all(|path| !path.exists()));
    }

    #[test]
    fn a_failing_create_leaves_nothing() {
        let name = Name::new("failing");
        // The second link fails: the first is taken back.
        let blocked = Name(format!("{}.registry", name.0));
        let _blocker = create(&blocked.0, geometry(), Permissions::default()).expect("a small ring");
        assert!(matches!(create(&name.0, geometry(), Permissions::default()), Err(CreateError::NameTaken { .. })));
        assert!(!name.paths()[0].exists());
        let bad = Geometry { blocks: 3, ..geometry() };
        assert!(matches!(create("/shmcast-unit-bad", bad, Permissions::default()), Err(CreateError::Geometry(_))));
    }

    #[test]
    fn what_is_not_a_ring_is_left_alone() {
        let name = Name::new("planted");
        let [ring, registry] = name.paths();
        fs::write(&ring, "precious").expect("a file");
        assert!(matches!(create(&name.0, geometry(), Permissions::default()), Err(CreateError::NameTaken { .. })));
        assert!(matches!(open(&name.0, Manner::default()), Err(OpenError::Format { .. })));
        assert!(matches!(remove(&name.0), Err(RemoveError::NotARing { .. })));
        assert_eq!(fs::read(&ring).expect("a file"), b"precious");
        fs::remove_file(&ring).expect("a file");
        fs::create_dir(&ring).expect("a directory");
        let (opened, removed) = (open(&name.0, Manner::default()).err(), remove(&name.0).err());
        fs::remove_dir(&ring).expect("still there");
        assert!(matches!(opened, Some(OpenError::NotARing { .. })), "{opened:?}");
        assert!(matches!(removed, Some(RemoveError::NotARing { .. })), "{removed:?}");
        // What a creator leaves that is killed between its two links.
        let made = create(&name.0, geometry(), Permissions::default()).expect("a small ring");
        fs::remove_file(&ring).expect("the ring");
        assert!(matches!(open(&name.0, Manner::default()), Err(OpenError::NotFound { .. })));
        // Its writer lives: it may be about to link the ring.
        clear(&name.0).expect("nothing to do");
        assert!(registry.exists());
        drop(made);
        clear(&name.0).expect("a lone registry");
        assert!(!registry.exists());
        drop(create(&name.0, geometry(), Permissions::default()).expect("a free name"));
        fs::remove_file(&ring).expect("the ring");
        remove(&name.0).expect("a lone registry");
        assert!(!registry.exists());
    }
}
