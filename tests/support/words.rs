//! Files of shared words, seen as the library sees them.

use memmap2::MmapRaw;
use shmcast::memory::Backing;

/// Words of a mapping.
pub(crate) struct Words(pub(crate) MmapRaw);

// SAFETY: the mapping begins at a page, lives as long as this value, is initialised and writable, and nobody here forms a
// reference to it; the processes that share it access whole aligned words.
unsafe impl Backing for Words {
    fn base(&self) -> *mut u64 {
        self.0.as_mut_ptr().cast()
    }

    fn words(&self) -> usize {
        self.0.len() / 8
    }

    fn writable(&self) -> bool {
        true
    }
}
