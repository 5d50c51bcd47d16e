//! A ring in two files of the caller's choosing: `path` is the ring segment, `path.registry` the registry.
//!
//! ```text
//!   create   .ring.7.9f.tmp, .ring.registry.7.3c.tmp    new, 0600, space reserved, formatted; then the mode and group
//!            └─ rename, never over anything ─┐          registry first: who finds the ring finds both
//!   open     ring: read-only    ring.registry: writable, or none if it may not be written (a follower)
//!   remove   ring, then ring.registry                   only what has our magic word and our owner
//! ```
//!
//! The file system must know `fallocate` and `RENAME_NOREPLACE`, as tmpfs, ext4, xfs and btrfs do. A creator that is
//! killed between the two renames leaves a registry without a ring, for [`clear`] or [`remove`].
//!
//! [`Place`] does the work.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::Mode;

use super::Segments;
use super::access::{Manner, Permissions};
use super::build::{build, temporary_name};
use super::lives::Lease;
use super::place::{Place, create_error, open_error, remove_error};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::Geometry;

/// Creates a ring in two new files. A syscall or twenty, and the time to zero the memory (0.4 ms per MiB).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(path: &Path, geometry: Geometry, permissions: Permissions) -> Result<Segments, CreateError> {
    let layouts = super::layouts(geometry)?;
    let place = place_of(path).map_err(|errno| create_error(errno, path, "open the directory of"))?;
    place.check_free(&place.ring)?;
    place.check_free(&place.registry)?;
    let aside = [temporary_name(&place.ring)?, temporary_name(&place.registry)?];
    let directory = place.reach()?;
    let mut built = build(directory.as_fd(), aside, &place.path(&place.ring), layouts)?;
    let path = place.path(&place.ring);
    let lease = built.lease(Lease::Registry, permissions, &path)?;
    for (entry, name) in [(&mut built.registry.entry, &place.registry), (&mut built.ring.entry, &place.ring)] {
        entry.rename(name).map_err(|errno| create_error(errno, &place.path(name), "rename into place"))?;
    }
    Ok(built.keep(path, place, lease))
}

/// Opens a ring that another process created. Never formats, never waits.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(path: &Path, manner: Manner) -> Result<Segments, OpenError> {
    let place = place_of(path).map_err(|errno| open_error(errno, path, "open the directory of"))?;
    let path = place.path(&place.ring);
    place.open(path, manner)
}

/// Takes over a ring whose writer is gone.
///
/// # Errors
/// See [`CreateError`]: [`WriterAlive`](CreateError::WriterAlive), or why it cannot be used.
pub(crate) fn take_over(path: &Path) -> Result<Segments, CreateError> {
    let place = place_of(path).map_err(|errno| create_error(errno, path, "open the directory of"))?;
    let path = place.path(&place.ring);
    place.take_over(path)
}

/// Removes a ring. Processes that have it open keep what they have mapped.
///
/// # Errors
/// See [`RemoveError`]; what is not a ring of this user's is left alone.
pub(crate) fn remove(path: &Path) -> Result<(), RemoveError> {
    place_of(path).map_err(|errno| remove_error(errno, path, "open the directory of"))?.remove()
}

/// Removes what is left of a ring whose creator, writer or remover was killed in the middle. Leaves a ring alone.
///
/// # Errors
/// See [`RemoveError`].
pub(crate) fn clear(path: &Path) -> Result<(), RemoveError> {
    place_of(path).map_err(|errno| remove_error(errno, path, "look for"))?.clear()
}

/// The directory and the two names of a ring at `path`.
fn place_of(path: &Path) -> Result<Place, Errno> {
    let path = std::path::absolute(path).map_err(|_| Errno::ENOENT)?;
    let (Some(shown), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EISDIR) };
    let directory = open_path(shown, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut registry = name.to_owned();
    registry.push(".registry");
    let (ring, lease, home, shown) = (name.to_owned(), None, None, shown.to_owned());
    Ok(Place { directory, ring, registry, lease, home, shown, posix: false })
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::layout::{FormatError, HEADER_WORDS, REGISTRY_MAGIC, RING_MAGIC};
    use crate::memory::{Mapped, Memory, Word};
    use crate::ring::Site;
    use crate::segment::Segments;
    use crate::segment::tests::{geometry, names_in};
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::Ordering::SeqCst;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn made(path: &Path) -> Segments {
        create(path, geometry(), super::Permissions::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn opened(path: &Path) -> Segments {
        open(path, Manner::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn both_sides_see_the_same_words_at_two_addresses() {
        let directory = directory();
        let path = directory.path().join("ring");
        let (writer, reader) = (made(&path), opened(&path));
        assert_eq!(names_in(directory.path()), ["ring", "ring.registry"]);
        assert_eq!(writer.ring_layout, reader.ring_layout);
        assert_eq!(writer.registry_layout, reader.registry_layout);
        assert!(writer.trusted && reader.trusted && reader.cleanup.is_none());
        assert_eq!(reader.path.as_deref(), Some(path.as_path()));
        assert!(!reader.ring.writable() && reader.registry.as_ref().is_some_and(|registry| registry.writable()));
        let pairs = [(writer.ring, reader.ring), (writer.registry.unwrap(), reader.registry.unwrap())];
        for (one, other) in pairs {
            assert_ne!(one.base(), other.base());
            assert_eq!(one.words(), other.words());
            let (one, other) = (Mapped::new(one), Mapped::new(other));
            let last = Word(one.words() - 1);
            // SeqCst, both: any would do in one thread.
            one.store(last, 42, SeqCst, Site::Commit);
            // SeqCst: likewise.
            assert_eq!(other.load(last, SeqCst, Site::Header), 42);
        }
        for name in ["ring", "ring.registry"] {
            let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        remove(&path).expect("a ring of ours");
        assert!(names_in(directory.path()).is_empty(), "remove removes everything");
        assert!(matches!(remove(&path), Err(RemoveError::NotFound { .. })));
        assert!(matches!(open(&path, Manner::default()), Err(OpenError::NotFound { .. })));
    }

    #[test]
    fn whoever_others_can_write_is_not_trusted() {
        let directory = directory();
        let path = directory.path().join("ring");
        let _writer = made(&path);
        for name in ["ring", "ring.registry"] {
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o620)).unwrap();
            assert!(!opened(&path).trusted, "{name}");
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o644)).unwrap();
            assert!(opened(&path).trusted, "{name}");
        }
    }

    #[test]
    fn who_may_not_write_the_registry_is_a_follower() {
        if nix::unistd::geteuid().is_root() {
            return; // Whom no mode stops.
        }
        let directory = directory();
        let path = directory.path().join("ring");
        let _writer = made(&path);
        fs::set_permissions(directory.path().join("ring.registry"), Permissions::from_mode(0o400)).unwrap();
        let follower = opened(&path);
        assert!(follower.registry.is_none() && follower.registry_layout.is_none() && !follower.trusted);
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        assert!(matches!(open(&path, Manner::default()), Err(OpenError::Permission { .. })));
        assert!(matches!(
            create(Path::new("/ring"), geometry(), super::Permissions::default()),
            Err(CreateError::Permission { .. })
        ));
    }

    #[test]
    fn a_taken_name_stays_as_it_is() {
        let directory = directory();
        let path = directory.path().join("ring");
        let registry = directory.path().join("ring.registry");
        fs::write(directory.path().join("target"), "precious").unwrap();
        for taken in [&path, &registry] {
            for link in [None, Some("target"), Some("nowhere")] {
                match link {
                    None => fs::write(taken, "precious").unwrap(),
                    Some(target) => symlink(target, taken).unwrap(),
                }
                let before = names_in(directory.path());
                assert!(
                    matches!(create(&path, geometry(), super::Permissions::default()), Err(CreateError::NameTaken { path }) if path == *taken)
                );
                assert_eq!(names_in(directory.path()), before, "no temporaries");
                fs::remove_file(taken).unwrap();
            }
        }
        assert_eq!(fs::read(directory.path().join("target")).unwrap(), b"precious");
        for taken in [directory.path(), Path::new("/")] {
            assert!(matches!(
                create(taken, geometry(), super::Permissions::default()),
                Err(CreateError::NameTaken { .. })
            ));
        }
        let _writer = made(&path);
        assert!(matches!(create(&path, geometry(), super::Permissions::default()), Err(CreateError::NameTaken { .. })));
        assert_eq!(opened(&path).ring_layout.geometry, geometry());
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = directory();
        let (path, link) = (directory.path().join("ring"), directory.path().join("link"));
        let _writer = made(&path);
        symlink("ring", &link).unwrap();
        assert!(matches!(open(&link, Manner::default()), Err(OpenError::NotARing { .. })));
        assert!(matches!(remove(&link), Err(RemoveError::NotARing { .. })));
        assert_eq!(names_in(directory.path()), ["link", "ring", "ring.registry"]);
        // Also not to the registry.
        fs::rename(directory.path().join("ring.registry"), directory.path().join("elsewhere")).unwrap();
        symlink("elsewhere", directory.path().join("ring.registry")).unwrap();
        assert!(matches!(open(&path, Manner::default()), Err(OpenError::NotARing { .. })));
        assert!(matches!(remove(&path), Err(RemoveError::NotARing { .. })));
        assert_eq!(names_in(directory.path()), ["elsewhere", "link", "ring", "ring.registry"]);
    }

    #[test]
    fn what_is_not_a_ring_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("thing");
        let refused = || {
            assert!(matches!(
                create(&path, geometry(), super::Permissions::default()),
                Err(CreateError::NameTaken { .. })
            ));
            assert!(matches!(remove(&path), Err(RemoveError::NotARing { .. })));
            open(&path, Manner::default()).err().expect("no ring")
        };
        for content in [vec![], b"short".to_vec(), vec![b'x'; 8192]] {
            fs::write(&path, &content).unwrap();
            assert!(matches!(refused(), OpenError::Format { .. }));
            assert_eq!(fs::read(&path).unwrap(), content);
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert!(matches!(refused(), OpenError::NotARing { .. }));
        fs::remove_dir(&path).unwrap();
        // Must not block until somebody writes to it.
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(matches!(refused(), OpenError::NotARing { .. }));
        fs::remove_file(&path).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(refused(), OpenError::NotARing { .. }));
        // A foreign registry protects the ring beside it.
        let ring = directory.path().join("ring");
        let _writer = made(&ring);
        fs::write(directory.path().join("ring.registry"), RING_MAGIC.to_ne_bytes()).unwrap();
        assert!(matches!(remove(&ring), Err(RemoveError::NotARing { .. })));
        assert!(ring.exists());
    }

    #[test]
    fn short_files_are_refused_before_they_are_mapped() {
        let directory = directory();
        let path = directory.path().join("ring");
        let registry = directory.path().join("ring.registry");
        let whole = made(&path).ring_layout.length;
        let header = HEADER_WORDS as u64 * 8;
        for (file, segment) in [(&registry, "registry"), (&path, "ring")] {
            for length in [fs::metadata(file).unwrap().len() - 1, header, header - 1, 0] {
                File::options().write(true).open(file).unwrap().set_len(length).unwrap();
                let Err(OpenError::Format { path: at, source }) = open(&path, Manner::default()) else {
                    panic!("{segment} of {length}")
                };
                let FormatError::Truncated { segment: named, needed, found } = source else { panic!("{source}") };
                assert_eq!((at.as_ref(), named, found), (Some(file), segment, length));
                assert!(needed > length && needed <= whole);
            }
        }
        // Damaged, but by their magic words still ours to remove.
        fs::write(&path, RING_MAGIC.to_ne_bytes()).unwrap();
        fs::write(&registry, REGISTRY_MAGIC.to_ne_bytes()).unwrap();
        remove(&path).expect("a damaged ring can be removed");
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn the_registry_must_be_there_and_of_this_ring() {
        let directory = directory();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        let (_one, _other) = (made(&one), made(&other));
        fs::rename(directory.path().join("other.registry"), directory.path().join("one.registry")).unwrap();
        let error = open(&one, Manner::default()).err().expect("of another ring").to_string();
        assert!(error.contains("incarnation"), "{error}");
        match open(&other, Manner::default()).err() {
            Some(OpenError::NotARing { path, .. }) => assert!(path.ends_with("other.registry")),
            error => panic!("{error:?}"),
        }
        // What a killed create or remove leaves of a ring can be removed.
        fs::remove_file(&one).unwrap();
        remove(&one).expect("a lone registry");
        remove(&other).expect("a lone ring");
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn too_large_a_ring_leaves_nothing() {
        let directory = directory();
        let path = directory.path().join("ring");
        let huge = Geometry { capacity: crate::layout::MAX_CAPACITY_BYTES, ..geometry() };
        let free = nix::sys::statvfs::statvfs(directory.path()).unwrap();
        // Never reserve that much: only where the guard must refuse it.
        if free.blocks() > 0 && free.blocks_available() * free.fragment_size() < huge.capacity {
            match create(&path, huge, super::Permissions::default()).err() {
                Some(CreateError::NoSpace { path: Some(at), needed, available }) => {
                    assert!(at == path && needed > huge.capacity && available < needed);
                }
                error => panic!("{error:?}"),
            }
        }
        let bad = Geometry { blocks: 3, ..geometry() };
        assert!(matches!(create(&path, bad, super::Permissions::default()), Err(CreateError::Geometry(_))));
        let nowhere = directory.path().join("missing/ring");
        assert!(matches!(create(&nowhere, geometry(), super::Permissions::default()), Err(CreateError::Io { .. })));
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn the_cleanup_of_an_old_ring_leaves_a_new_one_alone() {
        let directory = directory();
        let path = directory.path().join("ring");
        let old = made(&path).cleanup.expect("created here");
        remove(&path).unwrap();
        let new = made(&path);
        old.run();
        assert_eq!(opened(&path).ring_layout.incarnation, new.ring_layout.incarnation);
        let new = new.cleanup.expect("created here");
        new.run();
        assert!(names_in(directory.path()).is_empty());
        new.run();
    }
}
