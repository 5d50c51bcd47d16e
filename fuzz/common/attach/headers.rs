//! The parsers of the headers: what they accept, this version writes, and all that it names is within the mapping.

use shmcast::layout::{Geometry, HEADER_WORDS, LINE_BYTES, RegistryLayout, RingLayout};
use shmcast::memory::Word;

use super::script::Claimed;
use super::{Bench, header};

impl Bench {
    pub(super) fn headers(&self, ring: &Claimed, registry: &Claimed) {
        let claimed = |claimed: &Claimed, length: u64| match *claimed {
            Claimed::True => length,
            Claimed::Less { by } => length.saturating_sub(u64::from(by)),
            Claimed::More { by } => length + u64::from(by),
            Claimed::Any { bytes } => bytes,
        };
        let (words, mapped) = (header(&self.ring), claimed(ring, self.made.0.length));
        let (parsed, source) = match RingLayout::parse(&words, mapped) {
            Ok(layout) => {
                check_ring(&layout, &words, mapped);
                (layout, true)
            }
            Err(error) => {
                assert!(error.to_string().len() > 20);
                (self.made.0.clone(), false)
            }
        };
        let (words, mapped) = (header(&self.registry), claimed(registry, self.made.1.length));
        match RegistryLayout::parse(&words, mapped, &parsed) {
            Ok(layout) => check_registry(&layout, &words, mapped, &parsed),
            Err(error) => assert!(error.to_string().len() > 20),
        }
        // The wrong way round neither is ever accepted.
        assert!(!source || RegistryLayout::parse(&header(&self.ring), u64::MAX, &parsed).is_err());
    }
}

/// Everything that the layout names is within the mapping, in a region of its own.
fn check_ring(layout: &RingLayout, words: &[u64; HEADER_WORDS], mapped: u64) {
    assert_eq!(&layout.header(), words, "accepted, but not what this version writes");
    assert!(layout.length <= mapped);
    let Geometry { capacity, blocks, .. } = layout.geometry;
    let line = LINE_BYTES / 8;
    let last = layout.checkpoint_at(capacity - 1);
    assert_eq!(last, layout.checkpoint_at(0).plus((blocks as usize - 1) * 2));
    assert_eq!(layout.data().word(capacity - 8), layout.data().word(0).plus((capacity / 8 - 1) as usize));
    assert_eq!(layout.announced(), layout.limit().plus(1));
    let words = |at: Word, count: u64| (at.0 as u64, at.0 as u64 + count);
    disjoint(
        &[
            words(Word(0), HEADER_WORDS as u64),
            words(layout.limit(), line),
            words(layout.wake(), line),
            words(layout.head_cell(0), line),
            words(layout.checkpoint_at(0), blocks * 2),
            words(layout.data().word(0), capacity / 8),
        ],
        layout.length,
    );
    for word in [layout.wake(), layout.closed(), layout.epoch(), layout.barrier_mode()] {
        assert!((layout.wake().0..layout.head_cell(0).0).contains(&word.0));
    }
    assert!(layout.head_cell(0).plus(1) < layout.head_cell(1) && layout.head_cell(1).plus(1) < layout.checkpoint_at(0));
}

/// The same for a registry.
fn check_registry(layout: &RegistryLayout, words: &[u64; HEADER_WORDS], mapped: u64, ring: &RingLayout) {
    assert_eq!(&layout.header(), words, "accepted, but not what this version writes");
    assert!(layout.length <= mapped);
    assert_eq!((layout.reader_slots, layout.incarnation), (ring.geometry.reader_slots, ring.incarnation));
    let line = LINE_BYTES / 8;
    let words = |at: Word, count: u64| (at.0 as u64, at.0 as u64 + count);
    let mut regions =
        vec![words(Word(0), HEADER_WORDS as u64), words(layout.sleeping(), line), words(layout.room(), line)];
    for slot in 0..layout.reader_slots {
        regions.push(words(layout.slot_state(slot), line));
        assert_eq!(layout.slot_cursor(slot), layout.slot_state(slot).plus(1));
        assert_eq!(layout.slot_process(slot), layout.slot_state(slot).plus(2));
        assert_eq!(layout.slot_sleeping(slot), layout.slot_state(slot).plus(3));
        assert_eq!(layout.slot_semaphore(slot).at, layout.slot_state(slot).plus(8));
    }
    disjoint(&regions, layout.length);
    assert_eq!(layout.writer_semaphore().at, layout.room().plus(8));
    assert!([layout.writer_sleeping(), layout.high_water()].iter().all(|word| word.0 - layout.room().0 < 3));
}

/// Regions in order, each behind the one before, all within the length.
fn disjoint(regions: &[(u64, u64)], length: u64) {
    for pair in regions.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{pair:?}");
    }
    assert!(regions.last().is_some_and(|&(_, end)| end * 8 <= length), "{regions:?}, {length} bytes");
}
