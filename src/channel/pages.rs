//! How the pages of a ring are kept, as options of whoever maps it.

use super::{Options, Reader, Writer};
use crate::segment::pages::PageReport;

/// # Pages
/// Each process decides for its own mappings, when it creates or opens the ring, and is [told](Writer::page_report) what
/// the system made of it. Nothing here fails: a ring without works as well, only less evenly. Which memory of a NUMA machine
/// the pages are on is left to the system: it takes that of the processor which touches them first, the creator's, so
/// run the creator under `numactl --membind=...`, or pinned to the node of its readers.
impl Options {
    /// *Both.* Fill the page table at once rather than at the first access of each page (about 1 microsecond each, and
    /// 1 ms per MiB in advance). The memory itself is always reserved at create. In a file on a disk the first store to each
    /// page still faults, for the file system's own books. Off by default.
    pub fn prefault(mut self, prefault: bool) -> Options {
        self.pages.prefault = prefault;
        self
    }

    /// *Both.* Lock the ring in memory, so that it is never swapped out; `ulimit -l` bytes at most, unless the process is
    /// privileged. A forked child has no locks of its own. Off by default.
    pub fn lock_memory(mut self, lock: bool) -> Options {
        self.pages.lock = lock;
        self
    }

    /// *Both.* Move the ring segment to huge pages of 2 MiB, at once (`MADV_COLLAPSE`, Linux 6.1), else hint that the system may
    /// do it later (`MADV_HUGEPAGE`), else go without: [`page_report`](Writer::page_report) tells which. Only whole huge pages
    /// are moved, so a ring under 2 MiB has none; nor has one in a file on most disks. Off by default.
    pub fn huge_pages(mut self, huge: bool) -> Options {
        self.pages.huge = huge;
        self
    }
}

impl Writer {
    /// What the system made of [`Options::prefault`], [`Options::lock_memory`] and [`Options::huge_pages`] at create.
    #[must_use]
    pub fn page_report(&self) -> PageReport {
        self.shared.pages
    }
}

impl Reader {
    /// What the system made of [`Options::prefault`], [`Options::lock_memory`] and [`Options::huge_pages`] when the ring was
    /// opened; of a joined ring, when it was created.
    #[must_use]
    pub fn page_report(&self) -> PageReport {
        self.shared.pages
    }
}
