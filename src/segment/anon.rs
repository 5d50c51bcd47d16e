//! A ring in anonymous shared memory: it has no name, and a child that forks after the create shares it.

use std::io;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::lives::Lease;
use super::{Lives, Segments, mapping};
use crate::error::CreateError;
use crate::layout::Geometry;

/// Creates a ring for this process and the children that it forks from now on.
///
/// # Errors
/// A geometry that no ring can have, or more than there is memory.
pub(crate) fn create(geometry: Geometry) -> Result<Segments, CreateError> {
    let layouts = super::layouts(geometry)?;
    let needed = layouts.0.length + layouts.1.length;
    super::check_memory(None, needed)?;
    let segment = |length| {
        mapping::anonymous(length).map_err(|errno| match errno {
            Errno::ENOMEM => {
                CreateError::NoSpace { path: None, needed, available: super::memory_available().unwrap_or(0) }
            }
            errno => CreateError::Io { path: None, doing: "map shared memory", source: io::Error::from(errno) },
        })
    };
    let mut segments = Segments::unnamed(segment(layouts.0.length)?, segment(layouts.1.length)?, layouts);
    if !cfg!(miri) {
        // Anonymous memory has no file to lock, so it gets an empty one.
        let io = |source| CreateError::Io { path: None, doing: "make a file for the locks", source };
        let file = memfd_create("shmcast-locks", MFdFlags::MFD_CLOEXEC).map_err(|errno| io(errno.into()))?;
        let lives = Lives::new(file, Lease::Registry);
        segments.lease = lives.lock_writer().map_err(io)?;
        segments.lives = Some(lives);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MAX_CAPACITY_BYTES, RingLayout, load_header};
    use crate::memory::{Mapped, Memory, Word};
    use crate::ring::Site;
    use crate::segment::tests::geometry;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no shared mappings")]
    fn a_forked_child_shares_the_words() {
        let segments = create(geometry()).expect("a small ring");
        let ring = Mapped::new(segments.ring);
        assert_eq!(RingLayout::parse(&load_header(&ring), segments.ring_layout.length), Ok(segments.ring_layout));
        let last = Word(ring.words() - 1);
        // SAFETY: the child only stores a word and ends: it allocates nothing and takes no lock.
        match unsafe { fork() }.expect("a fork") {
            ForkResult::Child => {
                // SeqCst, both: a test of the mapping, not of an order; the end of the child orders them.
                ring.store(last, 42, SeqCst, Site::Commit);
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
        // SeqCst: likewise.
        assert_eq!(ring.load(last, SeqCst, Site::Header), 42);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no shared mappings")]
    fn more_than_the_memory_is_refused() {
        // Nothing is allocated: on a machine of a larger memory than the largest ring there is nothing to see.
        if super::super::memory_available().is_some_and(|available| available < MAX_CAPACITY_BYTES) {
            let huge = Geometry { capacity: MAX_CAPACITY_BYTES, ..geometry() };
            assert!(matches!(create(huge), Err(CreateError::NoSpace { path: None, .. })));
        }
    }
}
