//! Where the bytes come from. Each kind of segment has a file here, which answers with [`Segments`]: the two
//! segments of one ring, mapped, with layouts that are checked. Called by [`channel`](crate::channel) only; the
//! protocol never learns which kind it runs on.
//!
//! What existed before is never followed, truncated or deleted. `unsafe` in these files is mapping, and the system calls
//! that `nix` lacks.
#![doc = include_str!("kinds.md")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nix::sys::stat::FileStat;
use nix::unistd::geteuid;

use crate::error::{CreateError, OpenError};
use crate::layout::{Geometry, RegistryLayout, RingLayout};
use crate::memory::{Backing, Mapped, Memory};
use crate::ring::Site;

pub(crate) mod access;
pub(crate) mod anon;
mod attach;
mod build;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod handover;
pub(crate) mod heap;
mod key;
mod lives;
mod mapping;
pub(crate) mod memfd;
pub(crate) mod pages;
mod place;
#[cfg(feature = "baseline")]
pub(crate) mod plain;
pub(crate) mod posix;
pub(crate) mod semaphores;
pub(crate) mod survey;
pub(crate) mod sysv;
mod undo;

pub(crate) use lives::{Lives, Lock};

/// What a create or an open yields: the two segments of one ring with their checked layouts.
pub(crate) struct Segments {
    /// The ring segment; read-only after an open.
    pub(crate) ring: Arc<dyn Backing>,
    /// The registry segment; none for a follower, who may not write it.
    pub(crate) registry: Option<Arc<dyn Backing>>,
    /// Where everything is in the ring segment.
    pub(crate) ring_layout: RingLayout,
    /// Where everything is in the registry segment.
    pub(crate) registry_layout: Option<RegistryLayout>,
    /// May borrowing from the ring be a safe call? Only if whoever could write its bytes already has power over this
    /// process: the same user (or root) owns both segments and nobody else may write either. Judged once, when the
    /// ring is opened, by the open files themselves.
    pub(crate) trusted: bool,
    /// The file or directory of the ring, absolute.
    pub(crate) path: Option<PathBuf>,
    /// How to remove what a create made.
    pub(crate) cleanup: Option<Cleanup>,
    /// Where it can be seen who lives; none on the heap, where all die together.
    pub(crate) lives: Option<Lives>,
    /// The writer's lock, after a create or a take-over.
    pub(crate) lease: Option<Lock>,
    /// Of a ring that has no name: the ring's, read-only, and the registry's.
    pub(crate) descriptors: Option<[OwnedFd; 2]>,
}

impl Segments {
    /// Of a ring that only this process and its forks can reach. Formats it.
    fn unnamed(ring: Arc<dyn Backing>, registry: Arc<dyn Backing>, layouts: (RingLayout, RegistryLayout)) -> Segments {
        format(&ring, &registry, &layouts);
        let (ring_layout, registry_layout) = layouts;
        Segments {
            ring,
            registry: Some(registry),
            ring_layout,
            registry_layout: Some(registry_layout),
            trusted: true,
            path: None,
            cleanup: None,
            lives: None,
            lease: None,
            descriptors: None,
        }
    }

    /// Takes the writer's lock of a ring that was opened to be taken over. `ring`: the file of its segment. `path`: for people.
    fn take_lease(&mut self, ring: &attach::Opened, path: &Path) -> Result<(), CreateError> {
        let refused = |source| CreateError::TakeOver { path: path.to_owned(), source: Box::new(source) };
        if !is_private(&ring.stat) {
            // Whoever else could write the ring could feed this process a position to write to. (The registry is believed
            // by no writer, whoever writes it.)
            let reason = "another user owns it, or may write it; remove it and create a new one";
            return Err(refused(OpenError::NotARing { path: path.to_owned(), reason }));
        }
        let unwritable = || refused(OpenError::NeedsRegistry { path: None });
        let locked = self.lives.as_ref().ok_or_else(unwritable)?.lock_writer();
        let io = |source| CreateError::Io { path: Some(path.to_owned()), doing: "lock the lease of", source };
        let Some(lease) = locked.map_err(io)? else {
            let word = self.ring_layout.writer_process();
            // Relaxed: for people.
            let process = Mapped::new(self.ring.clone()).load(word, Relaxed, Site::EpochLook);
            return Err(CreateError::WriterAlive { path: path.to_owned(), process });
        };
        self.lease = Some(lease.with_sign_of_life(&ring.file).map_err(io)?);
        Ok(())
    }
}

/// Removes the files of a ring when its writer is done with it. Best effort: nobody is there to hear of an error.
pub(crate) struct Cleanup {
    /// A forked child inherits this value, but not the job.
    process: u32,
    /// Where its files are. Held open, so that nobody can put another directory in the way.
    place: Option<place::Place>,
    /// Ring and registry, there.
    inodes: Option<[Inode; 2]>,
    /// The same, of a ring in System V segments.
    sysv: Vec<sysv::Id>,
    /// Its sets of System V semaphores.
    semaphores: Vec<semaphores::Owned>,
    /// The mappings keep the inodes alive, so that their numbers are not given to the files of a new ring.
    _pins: [Arc<dyn Backing>; 2],
}

impl Cleanup {
    /// Removes each path that still names what was created: a new ring in the same place stays. Does nothing in any
    /// process but the one that created the ring.
    pub(crate) fn run(&self) {
        if std::process::id() != self.process {
            return;
        }
        // The set before the ring, which alone names its key.
        self.semaphores.iter().copied().for_each(semaphores::Owned::remove);
        if let (Some(place), Some(created)) = (&self.place, self.inodes) {
            place.remove_own(created);
        }
        self.sysv.iter().for_each(sysv::Id::remove);
    }
}

/// What tells two files apart, as long as both exist.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(stat: &FileStat) -> Inode {
        Inode { device: stat.st_dev, number: stat.st_ino }
    }
}

/// The layouts of a new ring.
fn layouts(geometry: Geometry) -> Result<(RingLayout, RegistryLayout), CreateError> {
    // Before anything else: no failure below may hide a bad option.
    geometry.validate()?;
    // Never 0, which a segment that was not formatted would have.
    let incarnation = random()?.max(1);
    Ok((RingLayout::new(geometry, incarnation)?, RegistryLayout::new(geometry.reader_slots, incarnation)))
}

fn random() -> Result<u64, CreateError> {
    let failed = |error: getrandom::Error| CreateError::Io {
        path: None,
        doing: "get random bytes",
        source: io::Error::other(error.to_string()),
    };
    getrandom::u64().map_err(failed)
}

/// Formats fresh, zeroed segments. The registry first: a ring with its magic word has a registry.
fn format(ring: &Arc<dyn Backing>, registry: &Arc<dyn Backing>, layouts: &(RingLayout, RegistryLayout)) {
    let registry = Mapped::new(registry.clone());
    semaphores::format(&registry, &layouts.1, layouts.0.geometry.waking.means);
    layouts.1.format(&registry);
    layouts.0.format(&Mapped::new(ring.clone()));
}

/// The trust rule, for files: the same user, or root, owns both, and nobody else may write either. (Where there is
/// an access control list, the group bits are its mask, so this holds there too.)
fn trusted(ring: &FileStat, registry: &FileStat) -> bool {
    is_private(ring) && is_private(registry)
}

/// Does this user, or root, own the file, and may nobody else write it?
fn is_private(file: &FileStat) -> bool {
    ours(file, true) && file.st_mode & 0o022 == 0
}

/// Does this user (or root, if root counts) own the file?
fn ours(file: &FileStat, or_root: bool) -> bool {
    file.st_uid == geteuid().as_raw() || or_root && file.st_uid == 0
}

/// Refuses what would not fit into memory, before the system notices too late and kills processes to make room.
fn check_memory(path: Option<&Path>, needed: u64) -> Result<(), CreateError> {
    match memory_available() {
        Some(available) if needed > available => {
            Err(CreateError::NoSpace { path: path.map(Path::to_owned), needed, available })
        }
        _ => Ok(()),
    }
}

/// Bytes of memory that can be had without swapping; none if the system does not say. (The limit of a container may
/// be lower.)
fn memory_available() -> Option<u64> {
    // Miri has no such file.
    if cfg!(miri) { None } else { parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?) }
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
#[path = "../../tests/support/guard.rs"]
pub(crate) mod guard;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layout::{PayloadType, Waking};

    /// A small ring.
    pub(crate) fn geometry() -> Geometry {
        let payload = PayloadType::default();
        Geometry {
            capacity: 4096,
            blocks: 16,
            alignment: 8,
            reader_slots: 4,
            start: 0,
            may_evict: false,
            waking: Waking::default(),
            payload,
        }
    }

    /// What is in a directory, sorted.
    #[cfg(not(miri))]
    pub(crate) fn names_in(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).expect("a directory");
        let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn meminfo() {
        let text = "MemTotal:  24683992 kB\nMemAvailable:   1024 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_meminfo(text), Some(1 << 20));
        for bad in ["", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 18446744073709551615 kB"] {
            assert_eq!(parse_meminfo(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_bad_geometry_is_named() {
        let bad = Geometry { blocks: 3, ..geometry() };
        let error = layouts(bad).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("blocks is 3"), "{error}");
    }

    #[test]
    fn what_exceeds_memory_is_refused() {
        assert!(check_memory(None, 1).is_ok());
        if memory_available().is_some() {
            assert!(matches!(
                check_memory(None, u64::MAX),
                Err(CreateError::NoSpace { path: None, needed: u64::MAX, .. })
            ));
        }
    }
}
