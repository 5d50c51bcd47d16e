//! A ring in two System V shared memory segments, found by two keys.
//!
//! ```text
//!   create   registry, then ring: IPC_EXCL, 0600, populated; both formatted, the magic word of the ring last; then the mode
//!            and group
//!   open     ring: read-only    registry: writable, or none if it may not be written (a follower)
//!   remove   ring, then registry: IPC_RMID           only what has our magic word and our owner
//! ```
//!
//! A key cannot be given to a segment that exists, so there is one under the key before it is whole. Until then it has no
//! magic word, and whoever opens it is told that there is no ring. What a killed creator leaves of it is all zeros and
//! attached by nobody, which is how [`remove`] knows it.
//!
//! No file: who is alive is told by a set of semaphores, see `undo`; and no limit but those of the kernel (`kernel.shmmax`,
//! `shmall`, `shmmni`, `sem`). Nothing can shrink a segment, so no access ends in a SIGBUS.

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use nix::errno::Errno;
use nix::libc::{self, key_t, shmid_ds};
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};

use super::access::{Manner, Permissions};
use super::attach::format_error;
pub use super::key::SysvKey;
use super::place::{create_error, open_error, remove_error};
use super::undo::{Fresh as FreshLife, Undo};
use super::{Cleanup, Lives, Segments, mapping, pages, semaphores};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::{
    FormatError, Geometry, HEADER_WORDS, REGISTRY_MAGIC, RING_MAGIC, RegistryLayout, RingLayout, WORD_BYTES,
    load_header,
};
use crate::memory::{Backing, Mapped, Memory, Word};
use crate::ring::Site;

/// Owner, read and write.
const OWNER: c_int = 0o600;
/// The same, as a mode.
const OWNER_ONLY: u32 = 0o600;
/// The segment is removed, and goes with its last attachment.
const REMOVED: u32 = 0o1000;

fn label(key: key_t) -> PathBuf {
    PathBuf::from(format!("SysV key {key:#010x}"))
}

/// A segment's number, which is never used again while somebody has the segment attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(c_int);

impl Id {
    /// The segment that has this key now.
    pub(super) fn find(key: key_t) -> Result<Id, Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::shmget(key, 0, 0) }).map(Id)
    }

    pub(super) fn make(key: key_t, bytes: u64) -> Result<Id, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: as above.
        Errno::result(unsafe { libc::shmget(key, bytes, OWNER | libc::IPC_CREAT | libc::IPC_EXCL) }).map(Id)
    }

    fn stat(self) -> Result<shmid_ds, Errno> {
        let mut stat = std::mem::MaybeUninit::<shmid_ds>::zeroed();
        // SAFETY: `stat` is a place for what IPC_STAT answers.
        Errno::result(unsafe { libc::shmctl(self.0, libc::IPC_STAT, stat.as_mut_ptr()) })?;
        // SAFETY: integers, of which zeros are valid as well as what the call has answered.
        Ok(unsafe { stat.assume_init() })
    }

    /// Gives the segment its group and its mode.
    fn give(self, permissions: Permissions, mode: u32, path: &Path) -> Result<(), CreateError> {
        let failed = |errno| create_error(errno, path, "set the mode of");
        let mut stat = self.stat().map_err(failed)?;
        stat.shm_perm.gid = permissions.group().unwrap_or(stat.shm_perm.gid);
        // The type of the mode differs between systems; nine bits fit them all.
        stat.shm_perm.mode = mode as _;
        // SAFETY: `stat` is what is read.
        Errno::result(unsafe { libc::shmctl(self.0, libc::IPC_SET, &raw mut stat) }).map(drop).map_err(failed)
    }

    /// Takes the key away; the memory goes with the last attachment. Best effort.
    pub(super) fn remove(&self) {
        let _ = self.try_remove();
    }

    fn try_remove(self) -> Result<(), Errno> {
        // SAFETY: whoever has it attached keeps it.
        Errno::result(unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
    }

    pub(super) fn attach(self, writable: bool) -> Result<Arc<dyn Backing>, Errno> {
        let bytes = self.stat()?.shm_segsz;
        let base = mapping::aligned(NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?, |address| {
            let read_only = if writable { 0 } else { libc::SHM_RDONLY };
            let replace = if address.is_some() { libc::SHM_REMAP } else { 0 };
            let address = address.map_or(0, NonZeroUsize::get);
            let address = std::ptr::without_provenance::<c_void>(address);
            // SAFETY: no address (the kernel chooses), or that of memory that was reserved for this many bytes.
            let base = unsafe { libc::shmat(self.0, address, read_only | replace) };
            if base.addr() == usize::MAX { Err(Errno::last()) } else { NonNull::new(base).ok_or(Errno::EINVAL) }
        })?;
        let attached = Attached { base, bytes, writable };
        // Of another size: it is another segment, which got the number just now.
        if self.stat()?.shm_segsz == bytes { Ok(Arc::new(attached)) } else { Err(Errno::EIDRM) }
    }
}

/// An attached segment, detached with this value.
struct Attached {
    base: NonNull<c_void>,
    bytes: usize,
    writable: bool,
}

// SAFETY: the attachment belongs to this value, which hands out nothing but its address.
unsafe impl Send for Attached {}
// SAFETY: as above; `&self` only answers what never changes.
unsafe impl Sync for Attached {}

// SAFETY: `base` is the address of an attached segment of `bytes` bytes, which can neither shrink nor go while it is
// attached, page-aligned, zeroed by the kernel, writable if it was attached so; this type forms no reference to
// it. Other processes reach the memory through this crate, atomically by words.
unsafe impl Backing for Attached {
    fn base(&self) -> *mut u64 {
        self.base.as_ptr().cast()
    }

    fn words(&self) -> usize {
        self.bytes / 8
    }

    fn writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached in `Id::attach`; nobody uses the address after its `Backing` is gone.
        let _ = unsafe { libc::shmdt(self.base.as_ptr()) };
    }
}

/// A new segment that is removed again, unless it is kept.
struct Fresh {
    id: Id,
    backing: Arc<dyn Backing>,
    kept: bool,
}

impl Fresh {
    fn new(key: key_t, length: u64, needed: u64) -> Result<Fresh, CreateError> {
        let path = label(key);
        let no_space = || {
            let available = super::memory_available().unwrap_or(0);
            CreateError::NoSpace { path: Some(path.clone()), needed, available }
        };
        let failed = |errno| match errno {
            Errno::ENOMEM | Errno::EFAULT => no_space(),
            Errno::EINVAL | Errno::ENOSPC => CreateError::Io {
                path: Some(path.clone()),
                doing: "make a segment within kernel.shmmax, shmall and shmmni",
                source: errno.into(),
            },
            errno => create_error(errno, &path, "make a segment"),
        };
        let id = Id::make(key, length).map_err(failed)?;
        let backing = id.attach(true).inspect_err(|_| id.remove()).map_err(failed)?;
        let fresh = Fresh { id, backing, kept: false };
        // Now rather than in the middle of a publish, where the system could only kill.
        pages::populate(&fresh.backing).map_err(failed)?;
        Ok(fresh)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            self.id.remove();
        }
    }
}

/// Creates a ring under two keys. A dozen syscalls, and the time to zero the memory (1 ms per MiB).
///
/// # Errors
/// See [`CreateError`]; nothing is left behind.
pub(crate) fn create(key: SysvKey, geometry: Geometry, permissions: Permissions) -> Result<Segments, CreateError> {
    if let Some(rule) = key.broken_rule() {
        return Err(CreateError::InvalidName { name: key.name(), rule });
    }
    let layouts = super::layouts(geometry)?;
    let needed = layouts.0.length + layouts.1.length;
    let path = label(key.ring);
    super::check_memory(Some(&path), needed)?;
    // An early answer, which names the ring; the makes below are what decides.
    if Id::find(key.ring) != Err(Errno::ENOENT) {
        return Err(CreateError::NameTaken { path });
    }
    let mut registry = Fresh::new(key.registry, layouts.1.length, needed)?;
    let mut ring = Fresh::new(key.ring, layouts.0.length, needed)?;
    // Before anybody can find the ring, and take its writer for dead.
    let mut life = match permissions.registry() {
        OWNER_ONLY => Some(FreshLife::new(key.registry, geometry.reader_slots, &path)?),
        _ => {
            Undo::remove_of(key.registry, geteuid().as_raw());
            None
        }
    };
    registry.id.give(permissions, permissions.registry(), &path)?;
    ring.id.give(permissions, permissions.ring(), &path)?;
    // Without its magic word nobody has opened it.
    super::format(&ring.backing, &registry.backing, &layouts);
    let trusted = trusted_now(&[ring.id, registry.id]);
    (ring.kept, registry.kept) = (true, true);
    let life = life.as_mut().map(|life| life.keep());
    let cleanup = Cleanup {
        process: std::process::id(),
        place: None,
        inodes: None,
        sysv: vec![ring.id, registry.id],
        semaphores: life.iter().map(|(set, _)| set.owned(key.registry)).collect(),
        _pins: [ring.backing.clone(), registry.backing.clone()],
    };
    let (lives, lease) = life.map(|(set, lease)| (Lives::Semaphores(set), lease)).unzip();
    let (ring_layout, registry_layout) = layouts;
    Ok(Segments {
        ring: ring.backing.clone(),
        registry: Some(registry.backing.clone()),
        ring_layout,
        registry_layout: Some(registry_layout),
        trusted,
        path: Some(path),
        cleanup: Some(cleanup),
        descriptors: None,
        lives,
        lease: lease.flatten(),
    })
}

/// Opens a ring that another process created. Never formats, never waits.
///
/// # Errors
/// See [`OpenError`]; a ring that is not whole yet is not found.
pub(crate) fn open(key: SysvKey, manner: Manner) -> Result<Segments, OpenError> {
    if let Some(rule) = key.broken_rule() {
        return Err(OpenError::InvalidName { name: key.name(), rule });
    }
    let path = label(key.ring);
    let failed = |errno| open_failed(errno, &path);
    let id = Id::find(key.ring).map_err(failed)?;
    let ring = id.attach(false).map_err(failed)?;
    // Anybody can take a key; and give a segment to somebody else, so its creator counts as much as its owner.
    let owners = |id: Id| id.stat().map(|stat| [stat.shm_perm.uid, stat.shm_perm.cuid]).map_err(failed);
    let ring_owners = owners(id)?;
    for owner in ring_owners {
        manner.whose.check(owner, None, &path)?;
    }
    let (words, length) = load(&ring, "ring", &path)?;
    if words[0] == 0 {
        // Its creator has not finished, or never will.
        return Err(OpenError::NotFound { path });
    }
    let ring_layout = RingLayout::parse(&words, length).map_err(|source| format_error(&path, source))?;

    let at = label(key.registry);
    let find = || Id::find(key.registry).and_then(|id| Ok((id, id.attach(true)?)));
    let registry = match if manner.follower { Err(Errno::EACCES) } else { find() } {
        Ok(found) => Some(found),
        Err(Errno::EACCES) => None,
        Err(errno) => {
            // Gone is gone: a remove took the ring first.
            let gone = id.stat().is_ok_and(|stat| u32::from(stat.shm_perm.mode) & REMOVED != 0);
            return Err(match open_failed(errno, &at) {
                OpenError::NotFound { .. } if gone => OpenError::NotFound { path },
                OpenError::NotFound { path } => {
                    OpenError::NotARing { path, reason: "the registry is missing, remove the ring" }
                }
                error => error,
            });
        }
    };
    let (mut backing, mut registry_layout, mut trusted) = (None, None, false);
    if let Some((registry_id, registry)) = registry {
        if owners(registry_id)? != ring_owners {
            return Err(OpenError::NotARing { path: at, reason: "its owner is not that of the ring" });
        }
        let (words, length) = load(&registry, "registry", &at)?;
        let parsed = RegistryLayout::parse(&words, length, &ring_layout);
        registry_layout = Some(parsed.map_err(|source| format_error(&at, source))?);
        backing = Some(registry);
        trusted = trusted_now(&[id, registry_id]);
    }
    let lives = match Id::find(key.registry).and_then(Id::stat) {
        Ok(stat) if u32::from(stat.shm_perm.mode) & 0o022 == 0 => {
            let failed = |errno| open_error(errno, &at, "look at the set of semaphores of");
            Undo::find(key.registry, ring_layout.geometry.reader_slots, ring_owners).map_err(failed)?
        }
        _ => None,
    };
    if lives.is_some() && id.stat().map_or(true, |stat| u32::from(stat.shm_perm.mode) & REMOVED != 0) {
        // The set may be that of the next ring.
        return Err(OpenError::NotFound { path });
    }
    Ok(Segments {
        ring,
        registry: backing,
        ring_layout,
        registry_layout,
        trusted,
        path: Some(path),
        cleanup: None,
        descriptors: None,
        lives: lives.map(Lives::Semaphores),
        lease: None,
    })
}

fn open_failed(errno: Errno, path: &Path) -> OpenError {
    match errno {
        // Removed between two of our steps.
        Errno::EIDRM | Errno::EINVAL => OpenError::NotFound { path: path.to_owned() },
        errno => open_error(errno, path, "attach"),
    }
}

/// Loads a header into private memory, once. Answers the length of the segment with it.
fn load(segment: &Arc<dyn Backing>, name: &'static str, path: &Path) -> Result<([u64; HEADER_WORDS], u64), OpenError> {
    let (found, needed) = ((segment.words() * 8) as u64, HEADER_WORDS as u64 * WORD_BYTES);
    if found < needed {
        return Err(format_error(path, FormatError::Truncated { segment: name, needed, found }));
    }
    Ok((load_header(&Mapped::new(segment.clone())), found))
}

/// The trust rule. Who made a segment keeps power over it when it is given to somebody else.
fn trusted_now(ids: &[Id]) -> bool {
    let ours = |uid| uid == geteuid().as_raw() || uid == 0;
    ids.iter().all(|id| {
        id.stat().is_ok_and(|stat| {
            let owner = &stat.shm_perm;
            ours(owner.uid) && ours(owner.cuid) && u32::from(owner.mode) & 0o022 == 0
        })
    })
}

/// Removes a ring, or what a killed creator left of one. Processes that have it attached keep it.
///
/// # Errors
/// See [`RemoveError`]; what is not a ring of this user's is left alone.
pub(crate) fn remove(key: SysvKey) -> Result<(), RemoveError> {
    if let Some(rule) = key.broken_rule() {
        return Err(RemoveError::InvalidName { name: key.name(), rule });
    }
    let ring = doomed(key.ring, RING_MAGIC, false)?;
    // Others may have written to it, but never to the ring, which says that it is one.
    let registry = doomed(key.registry, REGISTRY_MAGIC, ring.is_some())?;
    if ring.is_none() && registry.is_none() {
        return Err(RemoveError::NotFound { path: label(key.ring) });
    }
    if let Some((Ok(segment), Ok(stat))) = ring.map(|id| (id.attach(false), id.stat()))
        && segment.words() >= HEADER_WORDS
    {
        semaphores::remove_of(&load_header(&Mapped::new(segment)), stat.shm_perm.uid);
    }
    if let Some(Ok(stat)) = registry.or(ring).map(Id::stat) {
        Undo::remove_of(key.registry, stat.shm_perm.uid);
    }
    for (id, key) in [(ring, key.ring), (registry, key.registry)] {
        match id.map_or(Ok(()), Id::try_remove) {
            // Somebody else was faster.
            Ok(()) | Err(Errno::EINVAL | Errno::EIDRM) => {}
            Err(errno) => return Err(remove_error(errno, &label(key), "remove")),
        }
    }
    Ok(())
}

/// The segment that may be removed: one by its magic word (the rest may be damaged) or that was never finished, and ours.
/// Or one without a magic word, `beside` a ring, if others may write it.
fn doomed(key: key_t, magic: u64, beside: bool) -> Result<Option<Id>, RemoveError> {
    let path = label(key);
    let failed = |errno| remove_error(errno, &path, "attach");
    let found = Id::find(key).and_then(|id| Ok((id, id.attach(false)?, id.stat()?)));
    let (id, segment, stat) = match found {
        Err(Errno::ENOENT | Errno::EIDRM | Errno::EINVAL) => return Ok(None),
        found => found.map_err(failed)?,
    };
    if segment.words() == 0 {
        return Err(RemoveError::NotARing { path, reason: "its first bytes are not those of a ring" });
    }
    let memory = Mapped::new(segment.clone());
    // Acquire: as `load_header`.
    let word = |at| memory.load(Word(at), Acquire, Site::Header);
    if word(0) == 0 && (0..segment.words()).all(|at| word(at) == 0) {
        if !abandoned(&stat) {
            return Err(RemoveError::NotARing { path, reason: "it is all zeros, but somebody may be at work on it" });
        }
    } else if word(0) != magic && !(beside && u32::from(stat.shm_perm.mode) & 0o022 != 0) {
        return Err(RemoveError::NotARing { path, reason: "its first bytes are not those of a ring" });
    }
    let user = geteuid();
    if stat.shm_perm.uid != user.as_raw() && stat.shm_perm.cuid != user.as_raw() && !user.is_root() {
        return Err(failed(Errno::EPERM));
    }
    Ok(Some(id))
}

/// Is the creator of a segment dead, and nobody but this process attached? (No process number: it is one of another
/// namespace, of which nothing can be said.)
fn abandoned(stat: &shmid_ds) -> bool {
    stat.shm_nattch == 1 && stat.shm_cpid > 0 && kill(Pid::from_raw(stat.shm_cpid), None) == Err(Errno::ESRCH)
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::segment::guard;
    use crate::segment::tests::geometry;
    use std::sync::atomic::Ordering::SeqCst;

    /// Keys of this test; what has them is gone with this value, or with the process if it is killed.
    struct Keys(SysvKey);

    impl Keys {
        fn new() -> Keys {
            Keys(SysvKey::new(guard::fresh_key()))
        }
    }

    impl Drop for Keys {
        fn drop(&mut self) {
            [self.0.ring, self.0.registry].iter().filter_map(|&key| Id::find(key).ok()).for_each(|id| id.remove());
        }
    }

    fn made(key: SysvKey) -> Segments {
        create(key, geometry(), Permissions::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn both_sides_see_the_same_words_at_two_addresses() {
        let keys = Keys::new();
        let (writer, reader) =
            (made(keys.0), open(keys.0, Manner::default()).unwrap_or_else(|error| panic!("{error}")));
        assert_eq!((&writer.ring_layout, &writer.registry_layout), (&reader.ring_layout, &reader.registry_layout));
        assert!(writer.trusted && reader.trusted && reader.cleanup.is_none());
        assert!(!reader.ring.writable() && reader.registry.as_ref().is_some_and(|registry| registry.writable()));
        assert_ne!(writer.ring.base(), reader.ring.base());
        let (one, other) = (Mapped::new(writer.ring), Mapped::new(reader.ring));
        let last = Word(one.words() - 1);
        // SeqCst, all: any would do in one thread.
        one.store(last, 42, SeqCst, Site::Commit);
        // SeqCst: likewise.
        assert_eq!(other.load(last, SeqCst, Site::Header), 42);
        let stat = Id::find(keys.0.ring).and_then(Id::stat).expect("a segment");
        assert_eq!(u32::from(stat.shm_perm.mode) & 0o777, 0o600);
        assert!(matches!(create(keys.0, geometry(), Permissions::default()), Err(CreateError::NameTaken { .. })));
        remove(keys.0).expect("a ring of ours");
        assert!(matches!(open(keys.0, Manner::default()), Err(OpenError::NotFound { .. })));
        assert!(matches!(remove(keys.0), Err(RemoveError::NotFound { .. })));
        // SeqCst: likewise.
        assert_eq!(other.load(last, SeqCst, Site::Header), 42, "who has it attached keeps it");
    }

    #[test]
    fn keys_that_no_ring_can_have() {
        for key in [0, -1] {
            let key = SysvKey::new(key);
            assert!(matches!(create(key, geometry(), Permissions::default()), Err(CreateError::InvalidName { .. })));
            assert!(matches!(open(key, Manner::default()), Err(OpenError::InvalidName { .. })));
            assert!(matches!(remove(key), Err(RemoveError::InvalidName { .. })));
        }
        for project in [0, 255] {
            assert!(matches!(SysvKey::of_path("/", project), Err(OpenError::InvalidName { .. })));
        }
        assert!(matches!(SysvKey::of_path("/no/such/file", 1), Err(OpenError::NotFound { .. })));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let key = SysvKey::of_path(file.path(), b'R').expect("a file");
        assert_eq!(Ok(key), SysvKey::of_path(file.path(), b'R').map_err(|_| ()));
        assert!((key.ring >> 24, key.registry >> 24) == (i32::from(b'R'), i32::from(b'S')), "{key:?}");
    }

    #[test]
    fn a_failing_create_leaves_nothing() {
        let keys = Keys::new();
        let taken = Id::make(keys.0.registry, 4096).expect("a segment");
        assert!(matches!(create(keys.0, geometry(), Permissions::default()), Err(CreateError::NameTaken { .. })));
        assert_eq!(Id::find(keys.0.ring), Err(Errno::ENOENT));
        assert!(matches!(remove(keys.0), Err(RemoveError::NotARing { .. })), "whose creator lives");
        taken.try_remove().expect("our own");
        assert!(Fresh::new(keys.0.ring, u64::MAX / 2, u64::MAX / 2).is_err());
        assert!(matches!(
            create(keys.0, Geometry { blocks: 3, ..geometry() }, Permissions::default()),
            Err(CreateError::Geometry(_))
        ));
        assert_eq!((Id::find(keys.0.ring), Id::find(keys.0.registry)), (Err(Errno::ENOENT), Err(Errno::ENOENT)));
    }

    #[test]
    fn what_is_not_a_ring_is_left_alone() {
        let keys = Keys::new();
        let planted = Id::make(keys.0.ring, 8192).expect("a segment");
        let words = Mapped::new(planted.attach(true).expect("our own"));
        // All zeros: not whole yet.
        assert!(matches!(open(keys.0, Manner::default()), Err(OpenError::NotFound { .. })));
        // SeqCst, here and below: any would do in one thread.
        words.store(Word(0), u64::MAX, SeqCst, Site::Commit);
        assert!(matches!(open(keys.0, Manner::default()), Err(OpenError::Format { .. })));
        assert!(matches!(remove(keys.0), Err(RemoveError::NotARing { .. })));
        // SeqCst: likewise.
        words.store(Word(0), 0, SeqCst, Site::Commit);
        // SeqCst: likewise.
        words.store(Word(1000), 1, SeqCst, Site::Commit);
        assert!(matches!(remove(keys.0), Err(RemoveError::NotARing { .. })));
        assert_eq!(Id::find(keys.0.ring), Ok(planted));
        planted.try_remove().expect("our own");
        // Shorter than any header.
        let short = Id::make(keys.0.ring, 8).expect("a segment");
        // SeqCst: likewise.
        Mapped::new(short.attach(true).expect("our own")).store(Word(0), RING_MAGIC, SeqCst, Site::Commit);
        let refused = open(keys.0, Manner::default()).err();
        assert!(matches!(refused, Some(OpenError::Format { source: FormatError::Truncated { found: 8, .. }, .. })));
        remove(keys.0).expect("a damaged ring can be removed");
    }

    /// What a creator leaves that is killed before its segments are whole.
    #[test]
    fn an_abandoned_segment_of_zeros_can_be_removed() {
        let keys = Keys::new();
        // SAFETY: the child makes two system calls and ends: it allocates nothing and takes no lock.
        match unsafe { nix::unistd::fork() }.expect("a fork") {
            nix::unistd::ForkResult::Child => {
                let made = Id::make(keys.0.registry, 4096).is_ok();
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!made)) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let ended = nix::sys::wait::waitpid(child, None);
                assert_eq!(ended, Ok(nix::sys::wait::WaitStatus::Exited(child, 0)));
            }
        }
        assert!(matches!(create(keys.0, geometry(), Permissions::default()), Err(CreateError::NameTaken { .. })));
        remove(keys.0).expect("nobody is at work on it");
        drop(made(keys.0));
    }

    #[test]
    fn whoever_others_can_write_is_not_trusted() {
        let keys = Keys::new();
        let _writer = made(keys.0);
        for id in [Id::find(keys.0.ring), Id::find(keys.0.registry)].map(|id| id.expect("a segment")) {
            for (mode, trusted) in [(0o620, false), (0o602, false), (0o644, true)] {
                let mut stat = id.stat().expect("a segment");
                stat.shm_perm.mode = mode;
                // SAFETY: `stat` is what IPC_SET reads.
                Errno::result(unsafe { libc::shmctl(id.0, libc::IPC_SET, &raw mut stat) }).expect("our own");
                assert_eq!(
                    open(keys.0, Manner::default()).map(|segments| segments.trusted).ok(),
                    Some(trusted),
                    "{mode:o}"
                );
            }
        }
    }

    #[test]
    fn the_cleanup_of_an_old_ring_leaves_a_new_one_alone() {
        let keys = Keys::new();
        let old = made(keys.0).cleanup.expect("created here");
        remove(keys.0).expect("a ring of ours");
        let new = made(keys.0);
        old.run();
        let opened = open(keys.0, Manner::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(opened.ring_layout.incarnation, new.ring_layout.incarnation);
        new.cleanup.expect("created here").run();
        assert!(matches!(open(keys.0, Manner::default()), Err(OpenError::NotFound { .. })));
    }

    #[test]
    fn large_segments_suit_huge_pages() {
        let keys = Keys::new();
        let segments =
            create(keys.0, Geometry { capacity: 4 << 20, ..geometry() }, Permissions::default()).expect("4 MiB");
        assert!(segments.ring.base().addr().is_multiple_of(mapping::HUGE_PAGE_BYTES));
        let last = Word(segments.ring.words() - 1);
        // SeqCst: any would do in one thread.
        assert_eq!(Mapped::new(segments.ring).load(last, SeqCst, Site::Header), 0);
    }
}
