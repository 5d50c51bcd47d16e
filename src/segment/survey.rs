//! Which rings there are under the ring directory, and the removal of those that nobody uses any more.
//!
//! ```text
//!   writer's lock held ────────────────▶ Live
//!   free, and the ring is closed ──────▶ Closed      its writer kept it
//!   free, and it is not ───────────────▶ Orphaned    its writer died: a successor may take it over, gc may remove it
//!   no ring by its header ─────────────▶ Corrupt
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::Segments;
use super::access::{Manner, Whose};
use super::build::Temporary;
use super::directory::{self, LEASE, REGISTRY, RING};
use super::place::stat_at;
use crate::error::OpenError;
use crate::memory::{Mapped, Memory};
use crate::ring::Site;

/// What a killed create left is removed when it is older than this: one that is at work takes less.
const ABANDONED: Duration = Duration::from_secs(60);

/// A named ring that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingInfo {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Who uses it.
    pub state: RingState,
}

/// Who uses a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingState {
    /// It has a living writer.
    Live {
        /// The writer's process id, as it gave it, in its own container.
        process: u64,
    },
    /// Its writer has closed it, and kept it.
    Closed,
    /// Its writer died. [`open_or_create`](crate::Options::open_or_create) takes it over; [`gc`](crate::gc) removes it.
    Orphaned {
        /// Readers that live and hold a lossless slot or a counted one: [`gc`](crate::gc) leaves it to them.
        readers: u64,
    },
    /// This user may not look into it, or could not [open](crate::Options::owner) it without naming its owner; or may follow
    /// it, but not see whether readers wait for a successor of its dead writer.
    Hidden,
    /// It is not a ring, or damaged.
    Corrupt {
        /// What is wrong.
        reason: String,
    },
}

/// The named rings, sorted by name. Some system calls for each.
///
/// # Errors
/// Of reading the ring directory. That there is none is no error: then there are no rings.
pub(crate) fn list() -> io::Result<Vec<RingInfo>> {
    list_in(&directory::ring_directory())
}

/// Removes orphaned rings of this user that no living reader is attached to, and what killed creators left for longer than a
/// minute; answers the names of the rings.
///
/// # Errors
/// Of reading the ring directory. What cannot be removed stays.
pub(crate) fn gc() -> io::Result<Vec<String>> {
    gc_in(&directory::ring_directory(), ABANDONED)
}

fn entries(rings: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(rings) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn list_in(rings: &Path) -> io::Result<Vec<RingInfo>> {
    let names = entries(rings)?.into_iter().filter(|name| directory::broken_rule(name).is_none());
    Ok(names.filter_map(|name| look_at(rings, name)).collect())
}

/// `None`: gone meanwhile.
fn look_at(rings: &Path, name: String) -> Option<RingInfo> {
    let path = rings.join(&name);
    // Nobody's whom an open would refuse: who owns a file can end all that have it mapped.
    let state = match directory::open_in(rings, &name, Manner::default()) {
        Ok(segments) => state_of(&segments),
        Err(OpenError::NotFound { .. }) if !path.exists() => return None,
        Err(OpenError::Permission { .. } | OpenError::ForeignOwner { .. } | OpenError::RingDirectory { .. }) => {
            RingState::Hidden
        }
        Err(error) => RingState::Corrupt { reason: error.to_string() },
    };
    Some(RingInfo { name, path, state })
}

fn state_of(segments: &Segments) -> RingState {
    let Some(lives) = &segments.lives else { return RingState::Hidden };
    let ring = Mapped::new(segments.ring.clone());
    if !lives.writer_is_dead() {
        // Relaxed: for people.
        let process = ring.load(segments.ring_layout.writer_process(), Relaxed, Site::EpochLook);
        return RingState::Live { process };
    }
    // Relaxed: nobody writes any more.
    if ring.load(segments.ring_layout.closed(), Relaxed, Site::ClosedLook) != 0 {
        return RingState::Closed;
    }
    if segments.registry.is_none() {
        return RingState::Hidden;
    }
    RingState::Orphaned { readers: living_readers(segments) }
}

/// Slots whose locks are held.
fn living_readers(segments: &Segments) -> u64 {
    let slots = segments.registry_layout.as_ref().map_or(0, |layout| layout.reader_slots);
    let Some(lives) = &segments.lives else { return 0 };
    (0..slots).filter(|&slot| !lives.slot_is_free(slot)).count() as u64
}

fn gc_in(rings: &Path, abandoned: Duration) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for name in entries(rings)? {
        if name.starts_with('.') && name.ends_with(".tmp") {
            let _ = sweep_abandoned(rings, &name, abandoned);
        } else if directory::broken_rule(&name).is_none() && remove_orphan(rings, &name) {
            removed.push(name);
        }
    }
    Ok(removed)
}

/// True if it was an orphan, and is gone.
fn remove_orphan(rings: &Path, name: &str) -> bool {
    let manner = Manner { whose: Whose::Of(geteuid().as_raw()), follower: false };
    let Ok(segments) = directory::open_in(rings, name, manner) else { return false };
    if !matches!(state_of(&segments), RingState::Orphaned { readers: 0 }) {
        return false;
    }
    // The writer's lock, so that no successor comes meanwhile.
    let Ok(taken) = directory::take_over_in(rings, name) else { return false };
    let orphaned = living_readers(&taken) == 0;
    orphaned && directory::remove_in(rings, name).is_ok()
}

/// What creators of named rings left that were killed before the ring had its name: in the ring directory, of all rings of that name.
#[cfg(feature = "baseline")]
pub(crate) fn half_made(name: &str) -> Vec<String> {
    let begins = format!(".{name}.");
    let entries = entries(&directory::ring_directory()).unwrap_or_default().into_iter();
    entries.filter(|entry| entry.starts_with(&begins) && entry.ends_with(".tmp")).collect()
}

/// Removes that, however young: for whoever knows that all of them are dead.
#[cfg(feature = "baseline")]
pub(crate) fn sweep_half_made(name: &str) {
    let rings = directory::ring_directory();
    for entry in half_made(name) {
        // What cannot be removed stays.
        let _ = sweep_abandoned(&rings, &entry, Duration::ZERO);
    }
}

/// A directory that a create was building when it was killed: its files have fixed names, and nothing else is touched.
fn sweep_abandoned(rings: &Path, name: &str, abandoned: Duration) -> Result<(), Errno> {
    let age = std::fs::symlink_metadata(rings.join(name)).and_then(|found| found.modified());
    let old = age.ok().and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age >= abandoned);
    if !old {
        return Ok(());
    }
    let home = directory::reach(rings)?;
    let inner = directory::reach_ring(&home, name)?;
    for file in [RING, REGISTRY, LEASE] {
        if stat_at(&inner, OsStr::new(file)).is_ok() {
            drop(Temporary::new(inner.as_fd(), file.into(), nix::unistd::UnlinkatFlags::NoRemoveDir));
        }
    }
    drop(Temporary::new(home.as_fd(), name.into(), nix::unistd::UnlinkatFlags::RemoveDir));
    Ok(())
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::segment::access::Permissions;
    use crate::segment::tests::{geometry, names_in};
    use std::fs;

    fn state(rings: &Path, name: &str) -> Option<RingState> {
        list_in(rings).expect("a directory").into_iter().find(|ring| ring.name == name).map(|ring| ring.state)
    }

    #[test]
    fn every_state_is_told_and_only_orphans_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let rings = directory.path().join("rings");
        assert!(list_in(&rings).expect("none is no error").is_empty());
        let make = |name: &str| {
            let segments = directory::create_in(&rings, name, geometry(), Permissions::default());
            segments.unwrap_or_else(|error| panic!("{error}"))
        };
        let live = make("live");
        let closed = make("closed");
        let word = closed.ring_layout.closed();
        // Relaxed: one thread.
        Mapped::new(closed.ring.clone()).store(word, 1, Relaxed, Site::Close);
        drop(closed);
        drop(make("orphaned"));
        drop(make("awaited"));
        let reader = directory::open_in(&rings, "awaited", Manner::default()).unwrap_or_else(|error| panic!("{error}"));
        let lock = reader.lives.as_ref().and_then(|lives| lives.lock_dead_slot(1)).expect("a free slot");
        fs::create_dir(rings.join("foreign")).expect("a directory");
        assert_eq!(state(&rings, "live"), Some(RingState::Live { process: 0 }));
        assert_eq!(state(&rings, "closed"), Some(RingState::Closed));
        assert_eq!(state(&rings, "orphaned"), Some(RingState::Orphaned { readers: 0 }));
        assert_eq!(state(&rings, "awaited"), Some(RingState::Orphaned { readers: 1 }));
        assert!(matches!(state(&rings, "foreign"), Some(RingState::Corrupt { .. })));

        assert_eq!(gc_in(&rings, ABANDONED).expect("a directory"), ["orphaned"]);
        assert_eq!(names_in(&rings), ["awaited", "closed", "foreign", "live"]);
        drop(lock);
        assert_eq!(gc_in(&rings, ABANDONED).expect("a directory"), ["awaited"]);
        drop(live);
        assert_eq!(gc_in(&rings, ABANDONED).expect("a directory"), ["live"]);
        assert_eq!(names_in(&rings), ["closed", "foreign"]);
    }

    #[test]
    fn what_a_killed_create_left_goes_when_it_is_old() {
        let directory = tempfile::tempdir().expect("a directory");
        let rings = directory.path();
        for (name, files) in
            [(".a.1.2.tmp", &[][..]), (".b.1.3.tmp", &[RING]), (".c.1.4.tmp", &[RING, REGISTRY, LEASE])]
        {
            fs::create_dir(rings.join(name)).expect("a directory");
            for file in files {
                fs::write(rings.join(name).join(file), "half").expect("a file");
            }
        }
        fs::create_dir(rings.join(".d.1.5.tmp")).expect("a directory");
        fs::write(rings.join(".d.1.5.tmp/precious"), "kept").expect("a file");
        fs::write(rings.join(".e.tmp"), "no directory").expect("a file");
        assert!(gc_in(rings, ABANDONED).expect("a directory").is_empty());
        assert_eq!(names_in(rings).len(), 5, "too young");
        assert!(gc_in(rings, Duration::ZERO).expect("a directory").is_empty());
        assert_eq!(names_in(rings), [".d.1.5.tmp", ".e.tmp"], "what is not ours stays");
    }
}
