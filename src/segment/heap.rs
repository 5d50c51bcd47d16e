//! A ring on the heap: for threads of one process, for tests, and for Miri, which can follow nothing else.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use super::Segments;
use crate::error::CreateError;
use crate::layout::{Geometry, LINE_BYTES, WORD_BYTES};
use crate::memory::Backing;

/// Zeroed words, aligned to a line.
struct Heap {
    base: NonNull<u64>,
    layout: Layout,
}

// SAFETY: the words belong to this value alone, which hands out nothing but their address.
unsafe impl Send for Heap {}
// SAFETY: as above; `&self` only answers the address and the size.
unsafe impl Sync for Heap {}

// SAFETY: `base` is the address of `layout.size()` bytes, aligned to more than 8, zeroed at allocation and freed by
// `drop` only; this type forms no reference to them.
unsafe impl Backing for Heap {
    fn base(&self) -> *mut u64 {
        self.base.as_ptr()
    }

    fn words(&self) -> usize {
        self.layout.size() / WORD_BYTES as usize
    }

    fn writable(&self) -> bool {
        true
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated in `allocate` with this layout, and not freed before.
        unsafe { dealloc(self.base.as_ptr().cast(), self.layout) }
    }
}

/// Allocates at least one word; none if the allocator has no such block, and then the layout if there is one.
fn allocate(words: usize) -> Result<Arc<dyn Backing>, Option<Layout>> {
    let size = words.max(1).checked_mul(WORD_BYTES as usize).ok_or(None)?;
    let layout = Layout::from_size_align(size, LINE_BYTES as usize).map_err(|_| None)?;
    // SAFETY: the layout is not of size 0.
    let base = unsafe { alloc_zeroed(layout) };
    let base = NonNull::new(base.cast()).ok_or(Some(layout))?;
    Ok(Arc::new(Heap { base, layout }))
}

/// Zeroed words, at least one. Aborts where there is no memory, as any allocation does.
#[must_use]
pub(crate) fn zeroed(words: usize) -> Arc<dyn Backing> {
    match allocate(words) {
        Ok(heap) => heap,
        Err(layout) => std::alloc::handle_alloc_error(layout.unwrap_or(Layout::new::<u64>())),
    }
}

/// Creates a ring for the threads of this process.
///
/// # Errors
/// A geometry that no ring can have, or more than there is memory.
pub(crate) fn create(geometry: Geometry) -> Result<Segments, CreateError> {
    let layouts = super::layouts(geometry)?;
    let needed = layouts.0.length + layouts.1.length;
    super::check_memory(None, needed)?;
    let segment = |length: u64| {
        let words = usize::try_from(length / WORD_BYTES).map_err(|_| None);
        let no_space = |_| CreateError::NoSpace { path: None, needed, available: 0 };
        words.and_then(allocate).map_err(no_space)
    };
    Ok(Segments::unnamed(segment(layouts.0.length)?, segment(layouts.1.length)?, layouts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{RegistryLayout, RingLayout, load_header};
    use crate::memory::Mapped;
    use crate::segment::tests::geometry;

    #[test]
    fn zeroed_words() {
        for words in [0, 1, 64] {
            let heap = zeroed(words);
            assert_eq!(heap.words(), words.max(1));
            assert!(heap.base().addr().is_multiple_of(128) && heap.writable());
        }
    }

    #[test]
    fn a_created_ring_parses() {
        let Segments { ring, registry, ring_layout, registry_layout, trusted, .. } =
            create(geometry()).expect("a small ring");
        let registry = Mapped::new(registry.expect("a registry"));
        let parsed = RingLayout::parse(&load_header(&Mapped::new(ring)), ring_layout.length);
        assert_eq!(parsed.as_ref(), Ok(&ring_layout));
        let parsed = RegistryLayout::parse(&load_header(&registry), registry.words() as u64 * 8, &ring_layout);
        assert_eq!(parsed.ok(), registry_layout);
        assert!(trusted && ring_layout.incarnation != 0);
    }
}
