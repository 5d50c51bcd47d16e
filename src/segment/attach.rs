//! Maps the segments of a ring from open files, whatever kind of file: each header is checked before the rest is mapped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::lives::Lease;
use super::{Lives, Segments, mapping};
use crate::error::OpenError;
use crate::layout::{FormatError, HEADER_WORDS, RegistryLayout, RingLayout, WORD_BYTES, load_header};
use crate::memory::Mapped;

/// An open file that may be a segment.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) stat: FileStat,
    /// For people.
    pub(super) at: PathBuf,
}

/// Maps a ring: its segment first, and once that one is checked its registry, unless `registry` answers none. `lease` answers
/// none if this user may not open it. `path` is that of the ring, for people. Answers what the two files are with it.
pub(super) fn attach(
    ring: &Opened,
    writable: bool,
    registry: impl FnOnce() -> Result<Option<Opened>, OpenError>,
    lease: impl FnOnce() -> Result<Option<Lease>, OpenError>,
    path: PathBuf,
) -> Result<(Segments, Option<[FileStat; 2]>), OpenError> {
    let map = |opened: &Opened, length, writable| {
        mapping::file(&opened.file, length, writable).map_err(|source| map_error(&opened.at, source))
    };
    let (words, length) = load(ring, "ring")?;
    let ring_layout = RingLayout::parse(&words, length).map_err(|source| format_error(&ring.at, source))?;
    let mut segments = Segments {
        ring: map(ring, ring_layout.length, writable)?,
        registry: None,
        ring_layout,
        registry_layout: None,
        trusted: false,
        path: Some(path),
        cleanup: None,
        descriptors: None,
        lives: None,
        lease: None,
    };
    let copy = || {
        let failed = |source| OpenError::Io { path: Some(ring.at.clone()), doing: "duplicate", source };
        ring.file.try_clone().map_err(failed)
    };
    let Some(registry) = registry()? else {
        segments.lives = Some(Lives::of_follower(copy()?));
        return Ok((segments, None));
    };
    let (words, length) = load(&registry, "registry")?;
    let parsed = RegistryLayout::parse(&words, length, &segments.ring_layout);
    let layout = parsed.map_err(|source| format_error(&registry.at, source))?;
    segments.registry = Some(map(&registry, layout.length, true)?);
    segments.registry_layout = Some(layout);
    segments.trusted = super::trusted(&ring.stat, &registry.stat);
    let lease = lease()?.map_or_else(|| Ok(Lease::Hidden(copy()?)), Ok)?;
    segments.lives = Some(Lives::new(registry.file, lease));
    Ok((segments, Some([ring.stat, registry.stat])))
}

/// Where this process finds an open file.
pub(super) fn descriptor_path(file: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Loads a header into private memory, once. Answers the length of the file with it.
fn load(opened: &Opened, segment: &'static str) -> Result<([u64; HEADER_WORDS], u64), OpenError> {
    let found = u64::try_from(opened.stat.st_size).unwrap_or(0);
    let needed = HEADER_WORDS as u64 * WORD_BYTES;
    // Before the mapping: pages beyond the end of a file answer with SIGBUS.
    if found < needed {
        return Err(format_error(&opened.at, FormatError::Truncated { segment, needed, found }));
    }
    // The header alone: how much more to map is what it says, once it is checked.
    let header = mapping::file(&opened.file, needed, false).map_err(|source| map_error(&opened.at, source))?;
    Ok((load_header(&Mapped::new(header)), found))
}

pub(super) fn format_error(at: &Path, source: FormatError) -> OpenError {
    OpenError::Format { path: Some(at.to_owned()), source }
}

fn map_error(at: &Path, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        // A descriptor that was handed over without the right to write.
        return OpenError::Permission { path: at.to_owned(), source };
    }
    OpenError::Io { path: Some(at.to_owned()), doing: "map the segment", source }
}
