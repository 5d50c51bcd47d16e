//! Shared mappings: of a file, or of anonymous memory that forks share.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::memory::Backing;

/// Bytes of a huge page, where pages have 4 KiB. A mapping of as much starts at a multiple of it, or the kernel could
/// never put huge pages under it.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A mapping, unmapped with this value.
struct Mapping {
    base: NonNull<c_void>,
    bytes: NonZeroUsize,
    writable: bool,
}

// SAFETY: the mapping belongs to this value, which hands out nothing but its address.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&self` only answers what never changes.
unsafe impl Sync for Mapping {}

// SAFETY: `base` is the address of a live mapping of `bytes` bytes, page-aligned, unmapped by `drop` only, of which nobody
// in this process forms a reference; the kernel initialised its bytes; it is writable if it was mapped so.
// Other processes reach the memory through this crate, atomically by words; what a hostile one does is to this
// process one more such access, or a SIGBUS, but no data race.
unsafe impl Backing for Mapping {
    fn base(&self) -> *mut u64 {
        self.base.as_ptr().cast()
    }

    fn words(&self) -> usize {
        self.bytes.get() / 8
    }

    fn writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; nobody uses the address after its `Backing` is gone.
        let _ = unsafe { munmap(self.base, self.bytes.get()) };
    }
}

/// Maps the first `length` bytes of a file, which must be that long.
pub(super) fn file(file: impl AsFd, length: u64, writable: bool) -> io::Result<Arc<dyn Backing>> {
    let bytes = size(length)?;
    let write = if writable { ProtFlags::PROT_WRITE } else { ProtFlags::empty() };
    let base = aligned(bytes, |address| {
        let flags = MapFlags::MAP_SHARED | fixed(address);
        // SAFETY: `aligned` answers no address (the kernel chooses) or that of memory which it reserved for this.
        unsafe { mmap(address, bytes, ProtFlags::PROT_READ | write, flags, file, 0) }
    })?;
    Ok(Arc::new(Mapping { base, bytes, writable }))
}

/// Maps zeroed memory that the children of this process share.
pub(super) fn anonymous(length: u64) -> Result<Arc<dyn Backing>, Errno> {
    let bytes = size(length)?;
    let base = aligned(bytes, |address| {
        let flags = MapFlags::MAP_SHARED | fixed(address);
        // SAFETY: as in `file`.
        unsafe { mmap_anonymous(address, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }
    })?;
    Ok(Arc::new(Mapping { base, bytes, writable: true }))
}

fn size(length: u64) -> Result<NonZeroUsize, Errno> {
    usize::try_from(length).ok().and_then(NonZeroUsize::new).ok_or(Errno::ENOMEM)
}

fn fixed(address: Option<NonZeroUsize>) -> MapFlags {
    if address.is_some() { MapFlags::MAP_FIXED } else { MapFlags::empty() }
}

/// Finds an address for a mapping of that size, and lets `map` map it there. From a huge page on it is a multiple of
/// [`HUGE_PAGE_BYTES`]: memory is reserved for it, which `map` must replace, whole pages from there on and no others.
pub(super) fn aligned(
    bytes: NonZeroUsize,
    map: impl FnOnce(Option<NonZeroUsize>) -> Result<NonNull<c_void>, Errno>,
) -> Result<NonNull<c_void>, Errno> {
    if bytes.get() < HUGE_PAGE_BYTES {
        return map(None);
    }
    // Whole huge pages, so that it also ends on a page, whatever their size.
    let wanted = bytes.get().checked_next_multiple_of(HUGE_PAGE_BYTES).ok_or(Errno::ENOMEM)?;
    let reserved = wanted.checked_add(HUGE_PAGE_BYTES).and_then(NonZeroUsize::new).ok_or(Errno::ENOMEM)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
    let start = unsafe { mmap_anonymous(None, reserved, ProtFlags::PROT_NONE, flags) }?;
    let before = start.as_ptr().addr().next_multiple_of(HUGE_PAGE_BYTES) - start.as_ptr().addr();
    let unmap = |from: usize, to: usize| {
        if let (Some(first), true) = (NonNull::new(start.as_ptr().wrapping_byte_add(from)), from < to) {
            // SAFETY: a part of the reservation above that nobody has mapped anything to.
            let _ = unsafe { munmap(first, to - from) };
        }
    };
    let base = map(NonZeroUsize::new(start.as_ptr().addr() + before)).inspect_err(|_| unmap(0, reserved.get()))?;
    unmap(0, before);
    let page = super::pages::page_bytes();
    unmap(before + bytes.get().next_multiple_of(page), reserved.get());
    Ok(base)
}

#[cfg(test)]
#[cfg(not(miri))] // Miri has no shared mappings.
mod tests {
    use super::*;

    #[test]
    fn what_can_have_huge_pages_is_aligned_to_them() {
        for (length, at) in [(4096, 4096), (2 << 20, 2 << 20), ((2 << 20) + 8, 2 << 20), ((6 << 20) - 8, 2 << 20)] {
            let backing = anonymous(length).expect("a little memory");
            assert_eq!(backing.words() as u64, length / 8);
            assert!(backing.base().addr().is_multiple_of(at), "{length}");
        }
        for length in [0, u64::MAX, u64::MAX - (4 << 20)] {
            assert_eq!(anonymous(length).err(), Some(Errno::ENOMEM), "{length}");
        }
    }

    /// Is there a page at this address?
    fn mapped(address: usize) -> bool {
        let (page, mut resident) = (std::ptr::without_provenance_mut(address), 0_u8);
        // SAFETY: asks about one page, for which `resident` has a byte.
        let answer = Errno::result(unsafe { nix::libc::mincore(page, 4096, &raw mut resident) });
        answer != Err(Errno::ENOMEM)
    }

    #[test]
    fn nothing_of_the_reservation_stays() {
        let bytes = HUGE_PAGE_BYTES + 4096;
        let succeeding = || {
            let backing = anonymous(bytes as u64).expect("a little memory");
            let base = backing.base().addr();
            assert!(mapped(base) && mapped(base + bytes - 4096));
            !mapped(base + bytes)
        };
        let failing = || {
            let mut at = 0;
            let failed = aligned(NonZeroUsize::new(bytes).expect("some"), |address| {
                at = address.map_or(0, NonZeroUsize::get);
                assert!(mapped(at) && mapped(at + bytes), "it is reserved");
                Err(Errno::EPERM)
            });
            assert_eq!(failed, Err(Errno::EPERM));
            !mapped(at) && !mapped(at + bytes)
        };
        // Another thread may map something there at once, but not each time.
        assert!((0..100).any(|_| succeeding()) && (0..100).any(|_| failing()));
    }
}
