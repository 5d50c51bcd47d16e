//! A ring in two memfds: without a name, for those who are handed the descriptors.
//!
//! ```text
//!   create   two memfds, space reserved, formatted; 0600; sealed SHRINK | GROW | SEAL
//!   hand     ring: a read-only descriptor       registry: a writable one, or none (a follower)
//!   open     both are checked: regular, sealed, as long as their headers say
//!   remove   nothing: the memory goes with the last descriptor and the last mapping
//! ```
//!
//! The seals keep everybody, also this user, from truncating the memory under the others: no SIGBUS. The mode keeps other
//! users from opening the read-only descriptor again as a writable one, through /proc.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open as open_path};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod, fstat};

use super::attach::{Opened, attach, descriptor_path};
use super::lives::Lease;
use super::place::{kind, open_error, reserve};
use super::{Lives, Segments, mapping};
use crate::error::{CreateError, OpenError};
use crate::layout::Geometry;
use crate::memory::Backing;

/// What nobody may do to a segment any more, and that nobody may seal more: a peer could seal writing.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);
/// The seals without which a mapping is not safe from a truncation.
const NEEDED: SealFlag = SealFlag::F_SEAL_SHRINK;

/// Creates a ring without a name. Costs as [`file::create`](super::file::create).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(geometry: Geometry) -> Result<Segments, CreateError> {
    let layouts = super::layouts(geometry)?;
    let needed = layouts.0.length + layouts.1.length;
    // A memfd has no limit of its own.
    super::check_memory(None, needed)?;
    let no_space = || CreateError::NoSpace { path: None, needed, available: super::memory_available().unwrap_or(0) };
    let fresh = |name: &str, length| {
        let failed = |errno| match errno {
            Errno::ENOSPC | Errno::ENOMEM | Errno::EDQUOT => no_space(),
            errno => CreateError::Io { path: None, doing: "create a memfd", source: errno.into() },
        };
        fresh(name, length).map_err(failed)
    };
    let (ring, ring_file) = fresh("shmcast-ring", layouts.0.length)?;
    let (registry, registry_file) = fresh("shmcast-registry", layouts.1.length)?;
    // What is handed out cannot write the ring.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let read_only = open_path(&descriptor_path(&ring_file), flags, Mode::empty());
    let failed = |errno: Errno| CreateError::Io { path: None, doing: "open a memfd again", source: errno.into() };
    let read_only = read_only.map_err(failed)?;
    let io = |source| CreateError::Io { path: None, doing: "lock a memfd", source };
    let lives = Lives::new(registry_file.try_clone().map_err(io)?, Lease::Registry);
    let lease = lives.lock_writer().map_err(io)?;
    let descriptors = Some([read_only, registry_file]);
    Ok(Segments { descriptors, lives: Some(lives), lease, ..Segments::unnamed(ring, registry, layouts) })
}

/// A new segment, sealed, with all its space.
fn fresh(name: &str, length: u64) -> Result<(Arc<dyn Backing>, OwnedFd), Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let file = match memfd_create(name, not_executable) {
        // A kernel before 6.3.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        made => made,
    }?;
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    reserve(&file, length)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    let failed = |error: io::Error| error.raw_os_error().map_or(Errno::ENOMEM, Errno::from_raw);
    Ok((mapping::file(&file, length, true).map_err(failed)?, file))
}

/// Opens a ring by the descriptors that were handed out. Never formats, never waits, takes neither away.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(ring: BorrowedFd<'_>, registry: Option<BorrowedFd<'_>>) -> Result<Segments, OpenError> {
    let ring = opened(ring)?;
    let path = ring.at.clone();
    let registry = || registry.map_or(Ok(None), opened_to_write);
    Ok(attach(&ring, false, registry, || Ok(Lease::Registry), path)?.0)
}

/// Checks the descriptor of a registry. None for another user, who could write it but not lock a slot: a follower.
fn opened_to_write(file: BorrowedFd<'_>) -> Result<Option<Opened>, OpenError> {
    let opened = opened(file)?;
    let failed = |errno| open_error(errno, &opened.at, "open");
    let flags = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).map_err(failed)?;
    if flags & OFlag::O_ACCMODE != OFlag::O_RDWR {
        return Err(failed(Errno::EACCES));
    }
    match open_path(&opened.at, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Some(Opened { file, ..opened })),
        Err(Errno::EACCES | Errno::EPERM) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Checks a descriptor that came from somebody else.
fn opened(file: BorrowedFd<'_>) -> Result<Opened, OpenError> {
    let at = descriptor_path(&file);
    let stat = fstat(file).map_err(|errno| open_error(errno, &at, "look at"))?;
    if let Some(reason) = kind(&stat) {
        return Err(OpenError::NotARing { path: at, reason });
    }
    // Only a memfd can be sealed.
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    if !seals.is_ok_and(|seals| seals.contains(NEEDED)) {
        return Err(OpenError::NotARing { path: at, reason: "it is not a memfd that is sealed against shrinking" });
    }
    let io = |source| OpenError::Io { path: Some(at.clone()), doing: "duplicate", source };
    Ok(Opened { file: file.try_clone_to_owned().map_err(io)?, stat, at })
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::layout::FormatError;
    use crate::segment::tests::geometry;
    use nix::unistd::{ftruncate, write};
    use std::os::fd::AsFd;

    fn made() -> (Segments, [OwnedFd; 2]) {
        let mut segments = create(geometry()).expect("a small ring");
        let descriptors = segments.descriptors.take().expect("two descriptors");
        (segments, descriptors)
    }

    #[test]
    fn what_is_handed_out_is_sealed_and_private() {
        let (segments, [ring, registry]) = made();
        for file in [&ring, &registry] {
            let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS).expect("a memfd"));
            assert!(seals.contains(SEALS), "{seals:?}");
            let stat = fstat(file).expect("a memfd");
            assert_eq!(stat.st_mode & 0o777, 0o600);
            assert!(stat.st_blocks * 512 >= stat.st_size, "reserved");
        }
        // Nobody can shrink it, by whatever descriptor; the one of the ring cannot write either.
        for length in [0, 1 << 20] {
            assert_eq!(ftruncate(&registry, length), Err(Errno::EPERM));
        }
        assert!(ftruncate(&ring, 0).is_err() && write(&ring, b"x").is_err());
        assert!(mapping::file(&ring, 8, true).is_err(), "read-only is read-only");
        let reader = open(ring.as_fd(), Some(registry.as_fd())).expect("a ring");
        assert_eq!(reader.ring_layout, segments.ring_layout);
        assert!(reader.trusted && segments.trusted && reader.ring.base() != segments.ring.base());
    }

    #[test]
    fn without_the_registry_it_is_a_follower() {
        let (_segments, [ring, _]) = made();
        let follower = open(ring.as_fd(), None).expect("a ring");
        assert!(follower.registry.is_none() && !follower.trusted);
    }

    #[test]
    fn whoever_others_can_write_is_not_trusted() {
        let (_segments, [ring, registry]) = made();
        for file in [&ring, &registry] {
            fchmod(file, Mode::from_bits_retain(0o620)).expect("our own");
            assert!(!open(ring.as_fd(), Some(registry.as_fd())).expect("a ring").trusted);
            fchmod(file, Mode::from_bits_retain(0o600)).expect("our own");
        }
        assert!(open(ring.as_fd(), Some(registry.as_fd())).expect("a ring").trusted);
    }

    #[test]
    fn what_is_not_a_sealed_memfd_is_refused() {
        let (_segments, [ring, registry]) = made();
        let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
        let file = OwnedFd::from(tempfile::tempfile().expect("a file"));
        let unsealed = memfd_create("unsealed", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).expect("a memfd");
        let directory = OwnedFd::from(std::fs::File::open("/").expect("the root"));
        for other in [&reader, &file, &unsealed, &directory] {
            for (ring, registry) in [(other, Some(&registry)), (&ring, Some(other)), (other, None)] {
                let opened = open(ring.as_fd(), registry.map(OwnedFd::as_fd));
                assert!(matches!(opened, Err(OpenError::NotARing { .. })), "{:?}", opened.err());
            }
        }
        // Sealed, but no ring.
        fcntl(&unsealed, FcntlArg::F_ADD_SEALS(SEALS)).expect("our own");
        let truncated = open(unsealed.as_fd(), None).err();
        assert!(matches!(truncated, Some(OpenError::Format { source: FormatError::Truncated { found: 0, .. }, .. })));
        // The two exchanged; a registry that cannot be written.
        let exchanged = open(registry.as_fd(), Some(ring.as_fd())).err();
        assert!(matches!(exchanged, Some(OpenError::Format { .. })), "{exchanged:?}");
        let path = descriptor_path(&registry);
        let read_only = open_path(&path, OFlag::O_RDONLY, Mode::empty()).expect("our own");
        let refused = open(ring.as_fd(), Some(read_only.as_fd())).err();
        assert!(matches!(refused, Some(OpenError::Permission { .. })), "{refused:?}");
    }
}
