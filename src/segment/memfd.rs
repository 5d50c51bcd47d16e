//! A ring in two memfds: without a name, for those who are handed the descriptors.
//!
//! ```text
//!   create     two memfds, space reserved, mapped; 0600; sealed SHRINK | GROW | SEAL, a strict ring also FUTURE_WRITE; formatted
//!   hand       ring: a read-only descriptor       registry: a writable one, or none (a follower)
//!   open       both are checked: sealed, regular, as long as their headers say
//!   take over  as open, but the ring to write; a strict one never
//!   remove     nothing: the memory goes with the last descriptor and the last mapping
//! ```
//!
//! The seals keep everybody, also this user, from truncating the memory under the others: no SIGBUS. The mode keeps other
//! users from opening the read-only descriptor again as a writable one, through /proc. The seal of a strict ring keeps everybody
//! from it. What each may do stands in `kinds.md`; `tests/sealed.rs` tries it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open as open_path};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod, fstat};

use super::attach::{Opened, attach, descriptor_path};
use super::build::reserve;
use super::lives::Lease;
use super::place::{kind, open_error};
use super::{Lives, Segments, mapping};
use crate::error::{CreateError, OpenError};
use crate::layout::{Geometry, GeometryError, Wakeup};
use crate::memory::Backing;

/// What nobody may do to a segment any more, and that nobody may seal more: a peer could seal writing.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);
/// The seals without which a mapping is not safe from a truncation.
const NEEDED: SealFlag = SealFlag::F_SEAL_SHRINK;
/// What a strict ring segment has besides: only mappings that exist may be written, and no hole is punched under them.
const STRICT: SealFlag = SealFlag::F_SEAL_FUTURE_WRITE;

/// Who can write the ring segment of a memfd ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Its user, so that a successor can take it over.
    Restartable,
    /// The mapping of its creator, and nothing else ever.
    Strict,
}

/// Creates a ring without a name. Costs as [`file::create`](super::file::create).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(profile: Profile, geometry: Geometry) -> Result<Segments, CreateError> {
    if profile == Profile::Strict && geometry.waking.means == Wakeup::PosixSemaphore {
        // Readers write the registry, and who may write a semaphore of the C library has power over all who use it.
        let rule = "other than POSIX semaphores, for a strict ring";
        return Err(GeometryError { field: "wakeup", value: 1, rule }.into());
    }
    let layouts = super::layouts(geometry)?;
    let needed = layouts.0.length + layouts.1.length;
    // A memfd has no limit of its own.
    super::check_memory(None, needed)?;
    let no_space = || CreateError::NoSpace { path: None, needed, available: super::memory_available().unwrap_or(0) };
    let fresh = |name: &str, length, seals| {
        let failed = |errno| match errno {
            Errno::ENOSPC | Errno::ENOMEM | Errno::EDQUOT => no_space(),
            errno => CreateError::Io { path: None, doing: "create a memfd", source: errno.into() },
        };
        fresh(name, length, seals).map_err(failed)
    };
    let strict = if profile == Profile::Strict { SEALS | STRICT } else { SEALS };
    let (ring, ring_file) = fresh("shmcast-ring", layouts.0.length, strict)?;
    let (registry, registry_file) = fresh("shmcast-registry", layouts.1.length, SEALS)?;
    // What is handed out cannot write the ring.
    let failed = |errno: Errno| CreateError::Io { path: None, doing: "open a memfd again", source: errno.into() };
    let read_only = again(&ring_file, OFlag::O_RDONLY).map_err(failed)?;
    // Nor have those who get it a say in the locks of this process.
    let registry_out = again(&registry_file, OFlag::O_RDWR).map_err(failed)?;
    let io = |source| CreateError::Io { path: None, doing: "lock a memfd", source };
    let lives = Lives::new(registry_file, Lease::Registry);
    let lease = lives.lock_writer().map_err(io)?;
    // For those who get no descriptor of the registry.
    let lease = lease.map(|lease| lease.with_sign_of_life(&read_only)).transpose().map_err(io)?;
    let descriptors = Some([read_only, registry_out]);
    Ok(Segments { descriptors, lives: Some(lives), lease, ..Segments::unnamed(ring, registry, layouts) })
}

/// A new segment, with all its space, mapped and then sealed.
fn fresh(name: &str, length: u64, seals: SealFlag) -> Result<(Arc<dyn Backing>, OwnedFd), Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let file = match memfd_create(name, not_executable) {
        // A kernel before 6.3.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        made => made,
    }?;
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    reserve(&file, length)?;
    let failed = |error: io::Error| error.raw_os_error().map_or(Errno::ENOMEM, Errno::from_raw);
    // The seal of a strict ring leaves those mappings writable that are there.
    let mapped = mapping::file(&file, length, true).map_err(failed)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok((mapped, file))
}

/// Opens an open file anew: what is done to the one is not done to the other (access, locks, flags).
pub(crate) fn again(file: &impl AsFd, access: OFlag) -> Result<OwnedFd, Errno> {
    open_path(&descriptor_path(file), access | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a ring by the descriptors that were handed out. Never formats, never waits, takes neither away.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(ring: BorrowedFd<'_>, registry: Option<BorrowedFd<'_>>) -> Result<Segments, OpenError> {
    let (ring, _) = opened(ring)?;
    let path = ring.at.clone();
    let registry = || registry.map_or(Ok(None), opened_to_write);
    Ok(attach(&ring, false, registry, || Ok(Some(Lease::Registry)), path)?.0)
}

/// Takes over a restartable ring whose writer is gone.
///
/// # Errors
/// See [`CreateError`]: [`Sealed`](CreateError::Sealed), [`WriterAlive`](CreateError::WriterAlive), or why it cannot be used.
pub(crate) fn take_over(ring: BorrowedFd<'_>, registry: BorrowedFd<'_>) -> Result<Segments, CreateError> {
    let path = descriptor_path(&ring);
    let refused = |source| CreateError::TakeOver { path: path.clone(), source: Box::new(source) };
    let (read_only, seals) = opened(ring).map_err(refused)?;
    if is_strict(seals) {
        return Err(CreateError::Sealed { path });
    }
    let failed = |errno| refused(open_error(errno, &path, "open"));
    // Not the descriptor that came: it may be shared with others, or able to write.
    let handed_out = again(&ring, OFlag::O_RDONLY).map_err(failed)?;
    let to_write = Opened { file: again(&ring, OFlag::O_RDWR).map_err(failed)?, ..read_only };
    let registry = opened_to_write(registry).map_err(refused)?;
    let unwritable = || refused(OpenError::NeedsRegistry { path: None });
    let registry = registry.ok_or_else(unwritable)?;
    let registry_out = again(&registry.file, OFlag::O_RDWR).map_err(failed)?;
    let attached = attach(&to_write, true, || Ok(Some(registry)), || Ok(Some(Lease::Registry)), path.clone());
    let (mut segments, _) = attached.map_err(refused)?;
    segments.take_lease(&to_write, &path)?;
    segments.descriptors = Some([handed_out, registry_out]);
    Ok(segments)
}

/// Can nobody write the ring segment but through mappings that exist?
pub(crate) fn is_strictly_sealed(ring: BorrowedFd<'_>) -> bool {
    seals(ring).is_ok_and(is_strict)
}

fn is_strict(seals: SealFlag) -> bool {
    seals.intersects(STRICT | SealFlag::F_SEAL_WRITE)
}

fn seals(file: BorrowedFd<'_>) -> Result<SealFlag, Errno> {
    fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain)
}

/// Checks the descriptor of a registry. None for another user, who could write it but not lock a slot: a follower.
fn opened_to_write(file: BorrowedFd<'_>) -> Result<Option<Opened>, OpenError> {
    let (opened, _) = opened(file)?;
    let failed = |errno| open_error(errno, &opened.at, "open");
    let flags = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).map_err(failed)?;
    if flags & OFlag::O_ACCMODE != OFlag::O_RDWR {
        return Err(failed(Errno::EACCES));
    }
    match again(&file, OFlag::O_RDWR) {
        Ok(file) => Ok(Some(Opened { file, ..opened })),
        Err(Errno::EACCES | Errno::EPERM) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Checks a descriptor that came from somebody else. Answers its seals with it.
fn opened(file: BorrowedFd<'_>) -> Result<(Opened, SealFlag), OpenError> {
    let at = descriptor_path(&file);
    // First of all: only a memfd can be sealed, and whoever could shrink it before its length is known could do so after. (Nor does
    // this question go to a file system that lets us wait for its answer.)
    let seals = match seals(file) {
        Ok(seals) if seals.contains(NEEDED) => seals,
        _ => {
            return Err(OpenError::NotARing { path: at, reason: "it is not a memfd that is sealed against shrinking" });
        }
    };
    let stat = fstat(file).map_err(|errno| open_error(errno, &at, "look at"))?;
    if let Some(reason) = kind(&stat) {
        return Err(OpenError::NotARing { path: at, reason });
    }
    let io = |source| OpenError::Io { path: Some(at.clone()), doing: "duplicate", source };
    Ok((Opened { file: file.try_clone_to_owned().map_err(io)?, stat, at }, seals))
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::layout::FormatError;
    use crate::segment::tests::geometry;
    use nix::unistd::{ftruncate, write};

    fn made() -> (Segments, [OwnedFd; 2]) {
        made_as(Profile::Restartable)
    }

    fn made_as(profile: Profile) -> (Segments, [OwnedFd; 2]) {
        let mut segments = create(profile, geometry()).expect("a small ring");
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
        let (segments, [ring, _]) = made();
        let follower = open(ring.as_fd(), None).expect("a ring");
        assert!(follower.registry.is_none() && !follower.trusted);
        let lives = follower.lives.expect("the ring's file");
        assert!(!lives.writer_is_dead());
        drop(segments);
        assert!(lives.writer_is_dead());
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

    #[test]
    fn a_strict_ring_is_written_by_its_creator_alone() {
        let (segments, [ring, registry]) = made_as(Profile::Strict);
        assert!(is_strictly_sealed(ring.as_fd()) && !is_strictly_sealed(registry.as_fd()));
        let writable = again(&ring, OFlag::O_RDWR).expect("our own");
        assert_eq!(write(&writable, b"x"), Err(Errno::EPERM));
        let mapped = mapping::file(&writable, 8, true).map(drop).map_err(|error| error.raw_os_error());
        assert_eq!(mapped, Err(Some(Errno::EPERM as i32)));
        // It is whole all the same.
        let reader = open(ring.as_fd(), Some(registry.as_fd())).expect("a ring");
        assert_eq!(reader.ring_layout, segments.ring_layout);
        drop(segments);
        let refused = take_over(ring.as_fd(), registry.as_fd()).err();
        assert!(matches!(refused, Some(CreateError::Sealed { .. })), "{refused:?}");
    }

    #[test]
    fn a_restartable_ring_is_taken_over_when_its_writer_is_gone() {
        let (segments, [ring, registry]) = made();
        let refused = take_over(ring.as_fd(), registry.as_fd()).err();
        assert!(matches!(refused, Some(CreateError::WriterAlive { .. })), "{refused:?}");
        let layout = segments.ring_layout.clone();
        drop(segments);
        let taken = take_over(ring.as_fd(), registry.as_fd()).expect("nobody has it");
        assert_eq!(taken.ring_layout, layout);
        assert!(taken.ring.writable() && taken.lease.is_some() && taken.descriptors.is_some());
        // What others can write in the ring is not believed for a position to write to; the registry never is.
        drop(taken);
        fchmod(&registry, Mode::from_bits_retain(0o620)).expect("our own");
        drop(take_over(ring.as_fd(), registry.as_fd()).expect("nobody has it"));
        fchmod(&ring, Mode::from_bits_retain(0o620)).expect("our own");
        let refused = take_over(ring.as_fd(), registry.as_fd()).err();
        assert!(matches!(refused, Some(CreateError::TakeOver { .. })), "{refused:?}");
    }

    /// A peer shrinks a memfd and seals it just while it is looked at: the length that is believed is that of afterwards.
    #[test]
    fn a_length_is_believed_only_once_it_is_sealed() {
        use std::sync::Barrier;
        let start = Barrier::new(2);
        let shrinking = || memfd_create("shrinks", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC);
        for _ in 0..30 {
            let files = [(); 100].map(|()| shrinking().expect("a memfd"));
            files.iter().for_each(|file| ftruncate(file, 4096).expect("our own"));
            let believed = std::thread::scope(|scope| {
                scope.spawn(|| {
                    for file in &files {
                        start.wait();
                        ftruncate(file, 0).expect("not sealed yet");
                        fcntl(file, FcntlArg::F_ADD_SEALS(SEALS)).expect("our own");
                    }
                });
                let look = |file: &OwnedFd| {
                    start.wait();
                    // As long as it is not sealed.
                    let looks = std::iter::repeat_with(|| opened(file.as_fd()).ok());
                    looks.flatten().next().map(|(opened, _)| opened.stat.st_size)
                };
                files.iter().filter_map(look).filter(|&length| length != 0).count()
            });
            assert_eq!(believed, 0, "lengths are those from before the seal");
        }
    }
}
