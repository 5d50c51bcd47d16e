//! How the pages of a segment are kept: touched in advance, locked, large. All of it is an advice to the system: what the
//! system does not do is recorded, never an error.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

use super::mapping::HUGE_PAGE_BYTES;
use crate::memory::{Backing, Mapped, Memory, Word};
use crate::ring::Site;

/// What is wanted of the pages of a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) prefault: bool,
    pub(crate) lock: bool,
    pub(crate) huge: bool,
}

/// What became of the wishes for the pages of a ring, in this process: see [`Options::prefault`](crate::Options::prefault),
/// [`Options::lock_memory`](crate::Options::lock_memory), [`Options::huge_pages`](crate::Options::huge_pages).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageReport {
    /// All pages are in the page table: no access faults.
    pub prefault: PageOutcome,
    /// All pages are locked in memory.
    pub lock: PageOutcome,
    /// The ring segment is on huge pages.
    pub huge: PageOutcome,
}

/// What became of one wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageOutcome {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// The system did it.
    Done {
        /// For how many bytes, in whole pages; for huge pages this may be less than the segment.
        bytes: u64,
    },
    /// The system did not, but has taken the wish as a hint (huge pages, `MADV_HUGEPAGE`): it may do it later, by itself.
    Hinted {
        /// Why not now, as a number of the system.
        errno: i32,
    },
    /// The system did not: the ring works without.
    Refused {
        /// Why, as a number of the system. `ENOMEM` of a lock: more than `ulimit -l` allows. `EINVAL` of huge pages: the
        /// segment is smaller than one (2 MiB), or the system knows none.
        errno: i32,
    },
}

impl fmt::Display for PageOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PageOutcome::NotAsked => f.write_str("not asked"),
            PageOutcome::Done { bytes } => write!(f, "{bytes} bytes"),
            PageOutcome::Hinted { errno } => write!(f, "hinted ({})", io::Error::from_raw_os_error(errno)),
            PageOutcome::Refused { errno } => write!(f, "refused ({})", io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Does what is wished for the segments of a ring. The time to fill the page table with them (about 1 ms per MiB), if
/// they are prefaulted, locked or moved to huge pages.
pub(crate) fn apply(wishes: Wishes, ring: &Arc<dyn Backing>, registry: Option<&Arc<dyn Backing>>) -> PageReport {
    let both =
        |each: fn(&Arc<dyn Backing>) -> Result<u64, Errno>| match std::iter::once(ring).chain(registry).map(each).sum()
        {
            Ok(bytes) => PageOutcome::Done { bytes },
            Err(errno) => PageOutcome::Refused { errno: errno as i32 },
        };
    // Huge pages first: what is moved to them must be mapped again.
    let huge = if wishes.huge { collapse(ring) } else { PageOutcome::NotAsked };
    let prefault = if wishes.prefault { both(populate) } else { PageOutcome::NotAsked };
    let lock = if wishes.lock { both(lock) } else { PageOutcome::NotAsked };
    PageReport { prefault, lock, huge }
}

/// Whole pages of a segment: address and length in bytes. Of heap memory, which shares its first and its last page with
/// others, only what is the segment's alone.
fn whole(segment: &Arc<dyn Backing>, page: usize) -> (*mut c_void, usize) {
    let base = segment.base().cast::<c_void>();
    let end = base.addr() + segment.words() * 8;
    let first = base.addr().next_multiple_of(page);
    let end = if first == base.addr() { end.next_multiple_of(page_bytes()) } else { end };
    let length = end.saturating_sub(first) / page * page;
    (base.wrapping_byte_add(first - base.addr()), length)
}

/// Fills the page table, now rather than at the first access.
pub(super) fn populate(segment: &Arc<dyn Backing>) -> Result<u64, Errno> {
    let (first, length) = whole(segment, page_bytes());
    let advice = if segment.writable() { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    match advise(first, length, advice) {
        // A kernel before 5.14.
        Err(Errno::EINVAL) => touch(segment),
        answer => answer?,
    }
    Ok(length as u64)
}

/// As `populate`, by loading a word of each page.
fn touch(segment: &Arc<dyn Backing>) {
    let memory = Mapped::new(Arc::clone(segment));
    for word in (0..segment.words()).step_by(page_bytes() / 8) {
        // Relaxed: the value is not used.
        memory.load(Word(word), Relaxed, Site::Header);
    }
}

fn lock(segment: &Arc<dyn Backing>) -> Result<u64, Errno> {
    let (first, length) = whole(segment, page_bytes());
    if let Some(first) = NonNull::new(first) {
        // SAFETY: the range is mapped for as long as the segment; locking changes none of its bytes. The end of the
        // mapping ends the lock.
        unsafe { nix::sys::mman::mlock(first, length) }?;
    }
    Ok(length as u64)
}

/// Moves a segment to huge pages, one by one; where the system does not, it is asked to do it when it can.
fn collapse(segment: &Arc<dyn Backing>) -> PageOutcome {
    let (first, length) = whole(segment, HUGE_PAGE_BYTES);
    let (mut bytes, mut failed) = (0, if length == 0 { Some(Errno::EINVAL) } else { None });
    for at in (0..length).step_by(HUGE_PAGE_BYTES) {
        match advise(first.wrapping_byte_add(at), HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) {
            Ok(()) => bytes += HUGE_PAGE_BYTES as u64,
            Err(errno) => failed = Some(errno),
        }
    }
    let Some(errno) = failed else { return PageOutcome::Done { bytes } };
    let hinted = length > 0 && advise(first, length, libc::MADV_HUGEPAGE).is_ok();
    match (bytes, hinted) {
        (1.., _) => PageOutcome::Done { bytes },
        (0, true) => PageOutcome::Hinted { errno: errno as i32 },
        (0, false) => PageOutcome::Refused { errno: errno as i32 },
    }
}

/// `advice` is one that changes no byte.
fn advise(first: *mut c_void, length: usize, advice: libc::c_int) -> Result<(), Errno> {
    loop {
        // SAFETY: the range lies in a mapping of the caller's; all advices used here leave its bytes as they are.
        match Errno::result(unsafe { libc::madvise(first, length, advice) }) {
            Err(Errno::EINTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// Bytes of a page of this system.
pub(super) fn page_bytes() -> usize {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;
    use crate::segment::{heap, mapping};

    const ALL: Wishes = Wishes { prefault: true, lock: true, huge: true };

    #[test]
    fn nobody_asked() {
        let segment = mapping::anonymous(8192).expect("a little memory");
        assert_eq!(apply(Wishes::default(), &segment, None), PageReport::default());
    }

    #[test]
    fn both_segments_count() {
        let (ring, registry) = (mapping::anonymous(8192).expect("memory"), mapping::anonymous(100).expect("memory"));
        let report = apply(ALL, &ring, Some(&registry));
        assert_eq!(report.prefault, PageOutcome::Done { bytes: 3 * 4096 });
        assert_eq!(report.lock, PageOutcome::Done { bytes: 3 * 4096 });
        // Smaller than a huge page.
        assert_eq!(report.huge, PageOutcome::Refused { errno: libc::EINVAL });
        assert!(report.huge.to_string().starts_with("refused (Invalid argument"), "{}", report.huge);
    }

    #[test]
    fn heap_memory_counts_where_it_has_pages_of_its_own() {
        let report = apply(ALL, &heap::zeroed(3 * 512), None);
        assert_eq!(report.prefault, report.lock);
        assert!(matches!(report.lock, PageOutcome::Done { bytes: 8192 | 12288 }), "{report:?}");
    }

    #[test]
    fn prefaulted_memory_is_resident_and_unasked_memory_is_not() {
        let resident = |segment: &Arc<dyn Backing>| {
            let (first, length) = whole(segment, page_bytes());
            let mut pages = vec![0_u8; length / page_bytes()];
            // SAFETY: `pages` has a byte for each page of the range, which is mapped.
            Errno::result(unsafe { libc::mincore(first, length, pages.as_mut_ptr()) }).expect("a mapping");
            pages.iter().filter(|&&page| page & 1 == 1).count()
        };
        let segment = mapping::anonymous(64 * 4096).expect("a little memory");
        assert_eq!(resident(&segment), 0);
        assert_eq!(populate(&segment), Ok(64 * 4096));
        assert_eq!(resident(&segment), 64);
        let segment = mapping::anonymous(64 * 4096).expect("a little memory");
        touch(&segment);
        assert_eq!(resident(&segment), 64);
    }

    /// What the report says is what the kernel's own figures say.
    #[test]
    fn huge_pages_are_there_if_they_are_reported() {
        let segment = mapping::anonymous(5 << 20).expect("a little memory");
        let report = apply(Wishes { huge: true, ..Wishes::default() }, &segment, None);
        let start = format!("{:x}-", segment.base().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("the maps of this process");
        let mapped = maps.lines().skip_while(|line| !line.starts_with(&start)).find_map(|line| {
            line.strip_prefix("ShmemPmdMapped:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        match report.huge {
            PageOutcome::Done { bytes } => assert_eq!(mapped.map(|kib| kib * 1024), Some(bytes), "{report:?}"),
            PageOutcome::Hinted { errno } | PageOutcome::Refused { errno } => {
                assert!(errno != 0 && mapped.is_none_or(|kib| kib == 0), "{report:?}");
            }
            PageOutcome::NotAsked => panic!("it was asked"),
        }
    }
}
