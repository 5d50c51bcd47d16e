//! The two headers: what is written at create, once, and checked field by field at open.

use super::{
    BYTE_ORDER_MARK, CELL_OPEN, DataArea, FORMAT_VERSION, Geometry, GeometryError, HEADER_WORDS, LINE_BYTES,
    MAX_READER_SLOTS, MAX_SCHEMA_TEXT_BYTES, MAX_SEMAPHORE_KEY, PayloadType, REGISTRY_MAGIC, RING_MAGIC, WORD_BYTES,
    Wakeup, Waking,
};
use crate::memory::{Memory, Word};
use crate::ring::Site;
use core::sync::atomic::Ordering::{Relaxed, Release};

/// Words of the fields that both headers share.
const MAGIC: usize = 0;
const BYTE_ORDER: usize = 1;
const VERSION: usize = 2;
const INCARNATION: usize = 3;
const LENGTH: usize = 4;
const READER_SLOTS: usize = 5;
const CHECKSUM: usize = HEADER_WORDS - 1;

/// Words of the ring header's own fields.
const CAPACITY: usize = 6;
const BLOCKS: usize = 7;
const ALIGNMENT: usize = 8;
const START: usize = 9;
const OPTIONS: usize = 10;
/// Bit 0 of the options: the writer may go on without a lossless reader that stalls.
const MAY_EVICT: u64 = 1;
/// Bit 1 of the options: the writer wakes no reader.
const NO_WAKE: u64 = 2;
const WAKEUP: usize = 11;
/// The values of `wakeup`.
const WAKEUPS: [Wakeup; 3] = [Wakeup::Futex, Wakeup::PosixSemaphore, Wakeup::SysvSemaphore];
const SCHEMA_LOW: usize = 12;
const SCHEMA_HIGH: usize = 13;
const PAYLOAD_SIZE: usize = 14;
const PAYLOAD_ALIGNMENT: usize = 15;
const PAYLOAD_NAME: usize = 16;
const SEMAPHORE_KEY: usize = 24;

/// First word of the region table: pairs of offset and length in bytes.
const REGIONS: usize = 32;

/// Regions of a ring segment, in the order of the table. The last one is room for later versions: of length 0.
const RING_REGIONS: [&str; 7] = ["limits", "status", "head_cells", "checkpoints", "data", "schema_text", "statistics"];
/// The length of the region `schema_text`: the only one that the other fields do not say.
const SCHEMA_TEXT_LENGTH: usize = REGIONS + 5 * 2 + 1;
/// Regions of a registry segment. The last three are room for later versions: of length 0.
const REGISTRY_REGIONS: [&str; 6] =
    ["reader_flags", "writer_flags", "slots", "durable_cursors", "semaphores", "wakeup_descriptors"];

/// Why some bytes are no ring, or none that this program can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file is shorter than its header says, or than any header.
    #[error(
        "the {segment} segment is truncated: `length` needs {needed} bytes, there are {found}; remove the ring and create it again"
    )]
    Truncated {
        /// `ring` or `registry`.
        segment: &'static str,
        /// Bytes that it must have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The ring was made on a machine of the other byte order.
    #[error(
        "the {segment} segment has the other `byte_order`: it was made on another kind of machine; create the ring here"
    )]
    ByteOrder {
        /// `ring` or `registry`.
        segment: &'static str,
    },
    /// Another version of this crate made the ring.
    #[error(
        "the {segment} segment has format `version` {found}, this program reads version {supported}; use the same release of shmcast on both sides"
    )]
    Version {
        /// `ring` or `registry`.
        segment: &'static str,
        /// The version in the header.
        found: u64,
        /// The version that this crate reads.
        supported: u64,
    },
    /// A header field breaks its rule: this is no ring, or a damaged one.
    #[error(
        "the {segment} segment is not a ring, or damaged: `{field}` is {found:#x}, but must be {rule}; remove it and create the ring again"
    )]
    Field {
        /// `ring` or `registry`.
        segment: &'static str,
        /// The header field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it must be.
        rule: &'static str,
    },
}

/// Where everything is in a ring segment. Only made from checked values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// The sizes.
    pub geometry: Geometry,
    /// Random; ties the two segments of one ring to each other.
    pub incarnation: u64,
    /// Bytes of the segment.
    pub length: u64,
    pub(super) limits: Word,
    pub(super) status: Word,
    pub(super) heads: Word,
    pub(super) checkpoints: Word,
    pub(super) data: DataArea,
    /// The first word, and the length in bytes.
    schema_text: (Word, u64),
}

/// Where everything is in a registry segment. Only made from checked values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryLayout {
    /// Slots for readers.
    pub reader_slots: u64,
    /// Random; ties the two segments of one ring to each other.
    pub incarnation: u64,
    /// Bytes of the segment.
    pub length: u64,
    pub(super) readers: Word,
    pub(super) writer: Word,
    pub(super) slots: Word,
}

/// A region: offset and length in bytes.
type Region = (u64, u64);

impl RingLayout {
    /// The layout that this version writes for a geometry.
    ///
    /// # Errors
    /// The field of the geometry that breaks its rule.
    pub fn new(geometry: Geometry, incarnation: u64) -> Result<RingLayout, GeometryError> {
        geometry.validate()?;
        let text_length = (geometry.payload.text.len() as u64).next_multiple_of(LINE_BYTES);
        let (regions, length) = place(&Self::region_lengths(&geometry, text_length));
        Ok(Self::from_regions(geometry, incarnation, length, &regions))
    }

    fn region_lengths(geometry: &Geometry, text_length: u64) -> [u64; RING_REGIONS.len()] {
        let checkpoints = (geometry.blocks * 2 * WORD_BYTES).next_multiple_of(LINE_BYTES);
        [LINE_BYTES, 2 * LINE_BYTES, LINE_BYTES, checkpoints, geometry.capacity, text_length, 0]
    }

    fn from_regions(geometry: Geometry, incarnation: u64, length: u64, regions: &[Region]) -> RingLayout {
        let word = |index: usize| Word((regions[index].0 / WORD_BYTES) as usize);
        let (limits, status, heads, checkpoints, data) =
            (word(0), word(1), word(2), word(3), DataArea::new(word(4), &geometry));
        let schema_text = (word(5), regions[5].1);
        RingLayout { geometry, incarnation, length, limits, status, heads, checkpoints, data, schema_text }
    }

    /// The region of the schema's text: its first word, and its length in bytes, at most [`MAX_SCHEMA_TEXT_BYTES`]. The text
    /// ends before the first byte that is 0.
    #[must_use]
    pub const fn schema_text(&self) -> (Word, usize) {
        (self.schema_text.0, self.schema_text.1 as usize)
    }

    /// The header words of this layout.
    #[must_use]
    pub fn header(&self) -> [u64; HEADER_WORDS] {
        let mut words = common(RING_MAGIC, self.incarnation, self.length, self.geometry.reader_slots);
        let Geometry { capacity, blocks, alignment, reader_slots: _, start, may_evict, waking, payload } =
            self.geometry;
        words[CAPACITY] = capacity;
        words[BLOCKS] = blocks;
        words[ALIGNMENT] = alignment;
        words[START] = start;
        words[OPTIONS] = if may_evict { MAY_EVICT } else { 0 } | if waking.no_wake { NO_WAKE } else { 0 };
        words[WAKEUP] = WAKEUPS.iter().position(|&known| known == waking.means).unwrap_or(0) as u64;
        words[SEMAPHORE_KEY] = waking.key.into();
        words[SCHEMA_LOW] = payload.schema as u64;
        words[SCHEMA_HIGH] = (payload.schema >> 64) as u64;
        words[PAYLOAD_SIZE] = payload.size;
        words[PAYLOAD_ALIGNMENT] = payload.alignment;
        words[PAYLOAD_NAME..PAYLOAD_NAME + payload.name.len()].copy_from_slice(&payload.name);
        finish(words, &Self::region_lengths(&self.geometry, self.schema_text.1))
    }

    /// Checks a header that came from outside. `words` is a private copy (each shared word is loaded once), `mapped`
    /// the number of bytes that are really there.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(words: &[u64; HEADER_WORDS], mapped: u64) -> Result<RingLayout, FormatError> {
        let check = Check { segment: "ring", words };
        check.common(RING_MAGIC, mapped)?;
        let name: [u64; super::MAX_PAYLOAD_NAME_BYTES / 8] = core::array::from_fn(|word| words[PAYLOAD_NAME + word]);
        let payload = PayloadType {
            schema: u128::from(words[SCHEMA_LOW]) | u128::from(words[SCHEMA_HIGH]) << 64,
            size: words[PAYLOAD_SIZE],
            alignment: words[PAYLOAD_ALIGNMENT],
            name,
            text: "",
        };
        let means = usize::try_from(words[WAKEUP]).ok().and_then(|wakeup| WAKEUPS.get(wakeup)).copied();
        check.rule(means.is_some(), "wakeup", WAKEUP, "0 (futex), 1 (POSIX semaphores) or 2 (System V semaphores)")?;
        let key = u32::try_from(words[SEMAPHORE_KEY]).map_err(|_| {
            check.field("semaphore_key", words[SEMAPHORE_KEY], "from 1 to 2^31 - 1 with System V semaphores, else 0")
        })?;
        let no_wake = words[OPTIONS] & NO_WAKE != 0;
        let geometry = Geometry {
            capacity: words[CAPACITY],
            blocks: words[BLOCKS],
            alignment: words[ALIGNMENT],
            reader_slots: words[READER_SLOTS],
            start: words[START],
            may_evict: words[OPTIONS] & MAY_EVICT != 0,
            waking: Waking { means: means.unwrap_or_default(), key, no_wake },
            payload,
        };
        geometry.validate().map_err(|GeometryError { field, value, rule }| check.field(field, value, rule))?;
        let known = words[OPTIONS] & !(MAY_EVICT | NO_WAKE) == 0;
        check.rule(known, "options", OPTIONS, "0 to 3: no other option is known")?;
        let raw = payload.alignment == 0;
        check.rule(raw == (words[SCHEMA_LOW] == 0), "schema_low", SCHEMA_LOW, "0 for raw bytes, and else not")?;
        check.rule(!raw || words[SCHEMA_HIGH] == 0, "schema_high", SCHEMA_HIGH, "0 for raw bytes")?;
        let unnamed = |at: usize| check.rule(!raw || words[at] == 0, "payload_name", at, "empty for raw bytes");
        (PAYLOAD_NAME..PAYLOAD_NAME + name.len()).try_for_each(unnamed)?;
        check.zeros(SEMAPHORE_KEY + 1..REGIONS)?;
        let text_length = words[SCHEMA_TEXT_LENGTH];
        let whole_lines = text_length.is_multiple_of(LINE_BYTES) && text_length <= MAX_SCHEMA_TEXT_BYTES as u64;
        let fits = whole_lines && (!raw || text_length == 0);
        check.rule(fits, "schema_text", SCHEMA_TEXT_LENGTH, "a multiple of 128, at most 4096, and 0 for raw bytes")?;
        let regions = check.regions(&RING_REGIONS, &Self::region_lengths(&geometry, text_length))?;
        check.checksum()?;
        Ok(Self::from_regions(geometry, words[INCARNATION], words[LENGTH], &regions))
    }

    /// Formats fresh, zeroed memory: the magic word is written last.
    pub fn format(&self, memory: &impl Memory) {
        let start = self.geometry.start;
        for block in 0..self.geometry.blocks {
            // Relaxed: nobody else sees the memory before the magic word, whose store is the release.
            memory.store(self.checkpoints.plus(block as usize * 2), CELL_OPEN, Relaxed, Site::CellPosition);
        }
        // Relaxed: likewise.
        memory.store(self.checkpoint_at(start), start, Relaxed, Site::CellPosition);
        for cell in 0..2 {
            // Relaxed: likewise.
            memory.store(self.head_cell(cell), start, Relaxed, Site::CellPosition);
        }
        // Relaxed: likewise.
        memory.store(self.limit(), start, Relaxed, Site::Limit);
        // Relaxed: likewise.
        memory.store(self.announced(), start, Relaxed, Site::Announce);
        memory.copy_in(self.schema_text.0, self.geometry.payload.text.as_bytes());
        write_header(memory, &self.header());
    }
}

impl RegistryLayout {
    /// The layout that this version writes for a number of reader slots.
    #[must_use]
    pub fn new(reader_slots: u64, incarnation: u64) -> RegistryLayout {
        let (regions, length) = place(&Self::region_lengths(reader_slots));
        Self::from_regions(reader_slots, incarnation, length, &regions)
    }

    fn region_lengths(reader_slots: u64) -> [u64; REGISTRY_REGIONS.len()] {
        [LINE_BYTES, LINE_BYTES, reader_slots * LINE_BYTES, 0, 0, 0]
    }

    fn from_regions(reader_slots: u64, incarnation: u64, length: u64, regions: &[Region]) -> RegistryLayout {
        let word = |index: usize| Word((regions[index].0 / WORD_BYTES) as usize);
        RegistryLayout { reader_slots, incarnation, length, readers: word(0), writer: word(1), slots: word(2) }
    }

    /// The header words of this layout.
    #[must_use]
    pub fn header(&self) -> [u64; HEADER_WORDS] {
        let words = common(REGISTRY_MAGIC, self.incarnation, self.length, self.reader_slots);
        finish(words, &Self::region_lengths(self.reader_slots))
    }

    /// Checks a header that came from outside, and that it belongs to `ring`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(words: &[u64; HEADER_WORDS], mapped: u64, ring: &RingLayout) -> Result<RegistryLayout, FormatError> {
        let check = Check { segment: "registry", words };
        check.common(REGISTRY_MAGIC, mapped)?;
        let slots = words[READER_SLOTS];
        check.rule(slots == ring.geometry.reader_slots, "reader_slots", READER_SLOTS, "that of the ring segment")?;
        check.zeros(READER_SLOTS + 1..REGIONS)?;
        let regions = check.regions(&REGISTRY_REGIONS, &Self::region_lengths(slots))?;
        let same = words[INCARNATION] == ring.incarnation;
        check.rule(same, "incarnation", INCARNATION, "that of the ring segment: these two are of different rings")?;
        check.checksum()?;
        Ok(Self::from_regions(slots, words[INCARNATION], words[LENGTH], &regions))
    }

    /// Formats fresh, zeroed memory: the magic word is written last.
    pub fn format(&self, memory: &impl Memory) {
        write_header(memory, &self.header());
    }
}

/// The key of the System V semaphores, and their number, of a ring that has some by its header, which may be damaged.
#[must_use]
pub(crate) fn sysv_semaphores(words: &[u64; HEADER_WORDS]) -> Option<(u32, u64)> {
    let has_some = words[MAGIC] == RING_MAGIC
        && WAKEUPS.get(usize::try_from(words[WAKEUP]).ok()?) == Some(&Wakeup::SysvSemaphore)
        && words[READER_SLOTS] <= MAX_READER_SLOTS;
    let key = u32::try_from(words[SEMAPHORE_KEY]).ok().filter(|key| (1..=MAX_SEMAPHORE_KEY).contains(key));
    has_some.then_some(key?).map(|key| (key, words[READER_SLOTS] + 1))
}

/// Loads the header of a segment, each word once.
#[must_use]
pub(crate) fn load_header(memory: &impl Memory) -> [u64; HEADER_WORDS] {
    // Acquire: pairs with the release of the magic word in `write_header`; the copy is checked, never the original.
    core::array::from_fn(|word| memory.load(Word(word), core::sync::atomic::Ordering::Acquire, Site::Header))
}

fn write_header(memory: &impl Memory, words: &[u64; HEADER_WORDS]) {
    for (at, &word) in words.iter().enumerate().skip(1) {
        // Relaxed: ordered by the release of the magic word below.
        memory.store(Word(at), word, Relaxed, Site::ZeroAhead);
    }
    // Release: whoever sees the magic word sees a whole segment (pairs with `load_header`).
    memory.store(Word(MAGIC), words[MAGIC], Release, Site::Commit);
}

/// Puts regions one behind the other, each on lines of its own.
fn place(lengths: &[u64]) -> (Vec<Region>, u64) {
    let mut end = HEADER_WORDS as u64 * WORD_BYTES;
    let regions = lengths.iter().map(|&length| {
        let offset = if length == 0 { 0 } else { end.next_multiple_of(LINE_BYTES) };
        end = if length == 0 { end } else { offset + length };
        (offset, length)
    });
    (regions.collect(), end)
}

fn common(magic: u64, incarnation: u64, length: u64, reader_slots: u64) -> [u64; HEADER_WORDS] {
    let mut words = [0; HEADER_WORDS];
    words[MAGIC] = magic;
    words[BYTE_ORDER] = BYTE_ORDER_MARK;
    words[VERSION] = FORMAT_VERSION;
    words[INCARNATION] = incarnation;
    words[LENGTH] = length;
    words[READER_SLOTS] = reader_slots;
    words
}

fn finish(mut words: [u64; HEADER_WORDS], lengths: &[u64]) -> [u64; HEADER_WORDS] {
    for (index, (offset, length)) in place(lengths).0.into_iter().enumerate() {
        words[REGIONS + index * 2] = offset;
        words[REGIONS + index * 2 + 1] = length;
    }
    words[CHECKSUM] = checksum(&words);
    words
}

/// Over all words but the last. Each step is a bijection of the sum and of the word, so any one changed word changes
/// the result. Against accidents, not against malice.
fn checksum(words: &[u64; HEADER_WORDS]) -> u64 {
    words[..CHECKSUM].iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, word| {
        let sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        sum ^ sum >> 32
    })
}

/// A header under examination.
struct Check<'a> {
    segment: &'static str,
    words: &'a [u64; HEADER_WORDS],
}

impl Check<'_> {
    fn field(&self, field: &'static str, found: u64, rule: &'static str) -> FormatError {
        FormatError::Field { segment: self.segment, field, found, rule }
    }

    fn rule(&self, holds: bool, field: &'static str, at: usize, rule: &'static str) -> Result<(), FormatError> {
        if holds { Ok(()) } else { Err(self.field(field, self.words[at], rule)) }
    }

    /// The fields that both headers share.
    fn common(&self, magic: u64, mapped: u64) -> Result<(), FormatError> {
        let &Check { segment, words } = self;
        if words[MAGIC] != magic {
            return Err(self.field("magic", words[MAGIC], "the mark of this kind of segment"));
        }
        if words[BYTE_ORDER] == BYTE_ORDER_MARK.swap_bytes() {
            return Err(FormatError::ByteOrder { segment });
        }
        self.rule(words[BYTE_ORDER] == BYTE_ORDER_MARK, "byte_order", BYTE_ORDER, "0x102030405060708")?;
        if words[VERSION] != FORMAT_VERSION {
            return Err(FormatError::Version { segment, found: words[VERSION], supported: FORMAT_VERSION });
        }
        if words[LENGTH] > mapped {
            return Err(FormatError::Truncated { segment, needed: words[LENGTH], found: mapped });
        }
        Ok(())
    }

    fn zeros(&self, range: core::ops::Range<usize>) -> Result<(), FormatError> {
        range.into_iter().try_for_each(|at| self.rule(self.words[at] == 0, "reserved", at, "0"))
    }

    /// The region table: every region is as long as the geometry says, on a line, behind the one before, and the last
    /// one ends with the segment.
    fn regions(&self, names: &[&'static str], lengths: &[u64]) -> Result<Vec<Region>, FormatError> {
        let mut end = HEADER_WORDS as u64 * WORD_BYTES;
        let mut regions = Vec::with_capacity(names.len());
        for (index, (&name, &expected)) in names.iter().zip(lengths).enumerate() {
            let at = REGIONS + index * 2;
            let (offset, length) = (self.words[at], self.words[at + 1]);
            self.rule(length == expected, name, at + 1, "as long as the geometry says")?;
            let placed = if length == 0 {
                offset == 0
            } else {
                // No overflow: `end` is at most `length` so far, and an offset that passes is next to it.
                offset == end.next_multiple_of(LINE_BYTES)
            };
            self.rule(placed, name, at, "the offset of the first line behind the region before it")?;
            end = if length == 0 { end } else { offset + length };
            regions.push((offset, length));
        }
        self.rule(self.words[LENGTH] == end, "length", LENGTH, "the end of the last region")?;
        self.zeros(REGIONS + names.len() * 2..CHECKSUM)?;
        Ok(regions)
    }

    fn checksum(&self) -> Result<(), FormatError> {
        let holds = self.words[CHECKSUM] == checksum(self.words);
        self.rule(holds, "checksum", CHECKSUM, "that of the header's other words: one of them was changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(waking: Waking, payload: PayloadType, may_evict: bool) -> Geometry {
        Geometry { capacity: 4096, blocks: 2, alignment: 8, reader_slots: 3, start: 64, may_evict, waking, payload }
    }

    fn typed() -> PayloadType {
        let name = [11, 12, 13, 14, 15, 16, 17, 18];
        PayloadType { schema: 5 << 64 | 7, size: 24, alignment: 8, name, text: "" }
    }

    #[test]
    fn every_field_of_a_geometry_comes_back_out_of_its_header() {
        let text = "a: u64; b: u64; c: u64";
        for (may_evict, no_wake) in [(false, false), (true, false), (false, true), (true, true)] {
            for (means, key) in [(Wakeup::Futex, 0), (Wakeup::PosixSemaphore, 0), (Wakeup::SysvSemaphore, 77)] {
                for payload in [PayloadType::default(), typed(), PayloadType { text, ..typed() }] {
                    let geometry = geometry(Waking { means, key, no_wake }, payload, may_evict);
                    let layout = RingLayout::new(geometry, 3).expect("a geometry");
                    let parsed = RingLayout::parse(&layout.header(), layout.length).expect("a header");
                    // The text stands in its region.
                    let payload = PayloadType { text: "", ..payload };
                    assert_eq!(parsed, RingLayout { geometry: Geometry { payload, ..geometry }, ..layout.clone() });
                    let semaphores = (means == Wakeup::SysvSemaphore).then_some((77, 4));
                    assert_eq!(sysv_semaphores(&layout.header()), semaphores);
                }
            }
        }
    }

    /// What a header says that is whole but for one thing, which other fields and the checksum agree with.
    fn refusal(payload: PayloadType, text_length: u64, change: impl FnOnce(&mut [u64; HEADER_WORDS])) -> FormatError {
        let geometry = geometry(Waking::default(), payload, false);
        let layout = RingLayout::new(geometry, 3).expect("a geometry");
        let lengths = RingLayout::region_lengths(&geometry, text_length);
        let mut words = layout.header();
        words[LENGTH] = place(&lengths).1;
        change(&mut words);
        let words = finish(words, &lengths);
        RingLayout::parse(&words, u64::MAX).expect_err("a header that breaks a rule")
    }

    #[test]
    fn what_nothing_but_its_own_rule_forbids_is_refused() {
        let raw = PayloadType::default();
        let field = |field, found| (field, found);
        let named = |error| match error {
            FormatError::Field { field, found, .. } => (field, found),
            other => panic!("{other}"),
        };
        assert_eq!(named(refusal(raw, 0, |words| words[SCHEMA_HIGH] = 1)), field("schema_high", 1));
        for at in [PAYLOAD_NAME, PAYLOAD_NAME + 7] {
            assert_eq!(named(refusal(raw, 0, |words| words[at] = 9)), field("payload_name", 9));
        }
        assert_eq!(named(refusal(raw, 128, |_| ())), field("schema_text", 128));
        for length in [64, 4096 + 128] {
            assert_eq!(named(refusal(typed(), length, |_| ())), field("schema_text", length));
        }
        assert_eq!(named(refusal(raw, 0, |words| words[CAPACITY] = 8192)), field("data", 4096));
    }

    #[test]
    fn who_cleans_up_takes_no_key_from_what_is_no_ring_with_semaphores() {
        let waking = Waking { means: Wakeup::SysvSemaphore, key: 77, no_wake: false };
        let geometry = geometry(waking, PayloadType::default(), false);
        let words = RingLayout::new(geometry, 3).expect("a geometry").header();
        assert_eq!(sysv_semaphores(&words), Some((77, 4)));
        let most = MAX_READER_SLOTS;
        for (at, value, expected) in [
            (MAGIC, REGISTRY_MAGIC, None),
            (WAKEUP, 0, None),
            (WAKEUP, 3, None),
            (WAKEUP, u64::MAX, None),
            (READER_SLOTS, most, Some((77, most + 1))),
            (READER_SLOTS, most + 1, None),
            (SEMAPHORE_KEY, 0, None),
            (SEMAPHORE_KEY, 1 << 31, None),
            (SEMAPHORE_KEY, 1 << 32 | 77, None),
        ] {
            let mut words = words;
            words[at] = value;
            assert_eq!(sysv_semaphores(&words), expected, "word {at} = {value:#x}");
        }
    }
}
