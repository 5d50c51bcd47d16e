#![doc = include_str!("layout.md")]
#![forbid(unsafe_code)]

use crate::memory::{Semaphore, Word};

pub mod handover;
mod header;

pub use handover::HandoverError;
pub use header::{FormatError, RegistryLayout, RingLayout};
pub(crate) use header::{load_header, sysv_semaphores};

/// The format version that this crate writes and reads.
pub const FORMAT_VERSION: u64 = 1;
/// The first word of a ring segment: the bytes `shmcRING`.
pub const RING_MAGIC: u64 = u64::from_ne_bytes(*b"shmcRING");
/// The first word of a registry segment: the bytes `shmcREGI`.
pub const REGISTRY_MAGIC: u64 = u64::from_ne_bytes(*b"shmcREGI");
/// The second word of either segment: how a machine of the other byte order is told apart.
pub const BYTE_ORDER_MARK: u64 = 0x0102_0304_0506_0708;

/// Bytes of a word, the one access width.
pub const WORD_BYTES: u64 = 8;
/// Bytes of a line: two cache lines, because processors fetch them in pairs.
pub const LINE_BYTES: u64 = 128;
/// Words of a segment's header.
pub const HEADER_WORDS: usize = 64;
/// Bytes of the header word of a record.
pub const RECORD_HEADER_BYTES: u64 = 8;

/// Smallest capacity through the public options.
pub const MIN_CAPACITY_BYTES: u64 = 4096;
/// Largest capacity.
pub const MAX_CAPACITY_BYTES: u64 = 1 << 40;
/// Smallest capacity of a model.
pub const MIN_MODEL_CAPACITY_BYTES: u64 = 32;
/// Most blocks, and so most checkpoints.
pub const MAX_BLOCKS: u64 = 1024;
/// Most reader slots.
pub const MAX_READER_SLOTS: u64 = 1024;
/// Largest payload of any ring: with its header a multiple of every alignment, just below 4 GiB.
pub const MAX_RECORD_BYTES: u64 = (1 << 32) - 64 - RECORD_HEADER_BYTES;
/// Longest name of a payload type, in bytes.
pub const MAX_PAYLOAD_NAME_BYTES: usize = 64;
/// Longest text of a payload type's schema, in bytes.
pub const MAX_SCHEMA_TEXT_BYTES: usize = 4096;
/// Largest key of a set of System V semaphores.
pub const MAX_SEMAPHORE_KEY: u32 = i32::MAX as u32;
/// Bytes that a POSIX semaphore may take.
pub const SEMAPHORE_BYTES: u64 = 64;
/// The writer stops here: positions never wrap. At 100 GB/s that is a run of almost three years.
pub const MAX_POSITION: u64 = 1 << 63;

/// Marks a cell that is being written; no position is this large.
pub const CELL_OPEN: u64 = u64::MAX;

/// The kind of a pad record, in bits 32..40 of a commit word; a data record has kind 0.
const PAD_KIND: u64 = 1 << 32;

/// States of a reader slot.
pub mod slot {
    /// Nobody's.
    pub const FREE: u64 = 0;
    /// Taken by a reader that is not ready yet; the writer ignores it.
    pub const JOINING: u64 = 1;
    /// A lossless reader: its cursor holds the writer back.
    pub const LOSSLESS: u64 = 2;
    /// A lossy reader that wants to be counted.
    pub const PRESENT: u64 = 3;
}

/// What the payloads of a ring are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadType {
    /// The hash of the schema's text, 64 bits (there is room for 128); 0 for raw bytes.
    pub schema: u128,
    /// Size of a value in bytes; 0 for raw bytes of any length.
    pub size: u64,
    /// Alignment of a value in bytes; 0 for raw bytes.
    pub alignment: u64,
    /// The name for people, UTF-8, padded with zeros.
    pub name: [u64; MAX_PAYLOAD_NAME_BYTES / 8],
    /// The [text](mod@crate::schema) of the schema, to be written when a ring is formatted. Empty for raw bytes, and in a layout that
    /// was parsed: there it stands in the region [`RingLayout::schema_text`].
    pub text: &'static str,
}

/// By what whoever waits is woken: an option of the ring, [`Options::wakeup`](crate::Options::wakeup), which all who join it follow.
///
/// Whatever it is, nobody makes a system call for a peer that does not sleep, and every sleep is sliced: a wake that is lost
/// because a process was killed costs 100 ms at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wakeup {
    /// A futex for all readers and one for the writer: one system call wakes all. For everything but what follows.
    #[default]
    Futex,
    /// POSIX semaphores, one for each reader slot and one for the writer, in the registry: for readers in other languages.
    /// One post for each reader that sleeps. All processes must use the same C library.
    ///
    /// The C library trusts what it finds in a semaphore, so who may write the registry could do anything to a process that
    /// uses it. Hence only processes of which the [trust rule](crate#trust) holds use them; others, and lossy readers
    /// without a slot, look every millisecond, and wake nobody. A [strict](crate::Options::create_memfd_strict) ring, whose readers
    /// are to have no such power, cannot have them.
    PosixSemaphore,
    /// A set of System V semaphores, one for each reader slot and one for the writer: for systems and languages without anything
    /// newer. One system call for each reader that sleeps, and one more for each sleep.
    ///
    /// The set goes with the ring: at the writer's end, with [`remove`](crate::remove()) and its like, with [`gc`](crate::gc). It
    /// outlives a killed writer as the ring's name does, so a ring without a name (heap, anonymous, memfd), which nobody could remove,
    /// cannot have one. Who has a ring open that was removed naps from then on. Limits: `kernel.sem`. Who uses them, and who does not, is as for POSIX semaphores.
    SysvSemaphore,
}

/// How those who wait are woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waking {
    /// By what.
    pub means: Wakeup,
    /// The key of the set of System V semaphores, at most 2^31 - 1; 0 where there is none.
    pub key: u32,
    /// The writer wakes no reader: readers poll or nap.
    pub no_wake: bool,
}

/// The sizes that a ring is made with. Read once at open, checked, and private from then on (invariant I6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the data area, a power of two.
    pub capacity: u64,
    /// Blocks of the data area, a power of two: the writer takes its slow path about once per block.
    pub blocks: u64,
    /// Records start at multiples of this: 8, or 64 for latency at low rates.
    pub alignment: u64,
    /// Reader slots in the registry.
    pub reader_slots: u64,
    /// The position of the first record, a multiple of the alignment; 0 but in tests of large positions.
    pub start: u64,
    /// The writer may go on without a lossless reader that stalls.
    pub may_evict: bool,
    /// How those who wait are woken.
    pub waking: Waking,
    /// What the payloads are.
    pub payload: PayloadType,
}

/// A geometry that no ring can have: the field, its value, and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but must be {rule}")]
pub struct GeometryError {
    /// The field of [`Geometry`].
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The rule.
    pub rule: &'static str,
}

/// What a commit word says, judged against the geometry alone. It may be stale or garbage until the reader has
/// seen that the bytes were still valid (the one rule, in [`ring`](crate::ring)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing committed yet.
    Empty,
    /// A record, which ends with the data area at the latest.
    Data {
        /// Bytes from this header to the next.
        size: u64,
    },
    /// A pad up to the end of the data area.
    Pad {
        /// Bytes from this header to the next.
        size: u64,
    },
    /// No record can begin with this word here.
    Impossible,
}

impl Geometry {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn validate(&self) -> Result<(), GeometryError> {
        let rules = [
            (
                "capacity",
                self.capacity,
                self.capacity.is_power_of_two()
                    && (MIN_MODEL_CAPACITY_BYTES..=MAX_CAPACITY_BYTES).contains(&self.capacity),
                "a power of two of at most 1 TiB",
            ),
            (
                "blocks",
                self.blocks,
                self.blocks.is_power_of_two() && (2..=MAX_BLOCKS).contains(&self.blocks),
                "a power of two from 2 to 1024",
            ),
            (
                "alignment",
                self.alignment,
                (self.alignment == 8 || self.alignment == 64) && self.alignment <= self.capacity / 4,
                "8 or 64, and at most a quarter of the capacity",
            ),
            (
                "blocks",
                self.blocks,
                self.capacity / self.blocks.max(1) >= self.alignment.max(1),
                "so few that a block holds a record",
            ),
            ("reader_slots", self.reader_slots, self.reader_slots <= MAX_READER_SLOTS, "at most 1024"),
            (
                "start",
                self.start,
                self.start.is_multiple_of(self.alignment.max(1)) && self.start <= MAX_POSITION,
                "a multiple of the alignment and at most 2^63",
            ),
            (
                "semaphore_key",
                self.waking.key.into(),
                (self.waking.key != 0) == (self.waking.means == Wakeup::SysvSemaphore)
                    && self.waking.key <= MAX_SEMAPHORE_KEY,
                "from 1 to 2^31 - 1 with System V semaphores, else 0",
            ),
            (
                "payload_alignment",
                self.payload.alignment,
                self.payload.alignment == 0 || [1, 2, 4, 8].contains(&self.payload.alignment),
                "1, 2, 4 or 8 (payloads lie behind an 8-byte header), or 0 for raw bytes",
            ),
            (
                "payload_size",
                self.payload.size,
                self.payload.size <= self.max_payload()
                    && (self.payload.alignment != 0 || self.payload.size == 0)
                    && self.payload.size.is_multiple_of(self.payload.alignment.max(1)),
                "a multiple of the payload's alignment and at most the largest record, or 0 for raw bytes",
            ),
            (
                "schema_text",
                self.payload.text.len() as u64,
                self.payload.text.len() <= MAX_SCHEMA_TEXT_BYTES
                    && (self.payload.alignment != 0 || self.payload.text.is_empty()),
                "at most 4096 bytes long, and empty for raw bytes",
            ),
        ];
        match rules.into_iter().find(|&(_, _, holds, _)| !holds) {
            Some((field, value, _, rule)) => Err(GeometryError { field, value, rule }),
            None => Ok(()),
        }
    }

    /// The largest payload in bytes: `capacity / 2 - 8`, so that a record finds room at any position, also
    /// with a pad before it and the zero word behind it.
    #[inline(always)]
    #[must_use]
    pub const fn max_payload(&self) -> u64 {
        // Saturating: the rules are checked in no order, and this is part of one.
        let half = (self.capacity / 2).saturating_sub(RECORD_HEADER_BYTES);
        // A commit word has 32 bits for length + 1.
        if half < MAX_RECORD_BYTES { half } else { MAX_RECORD_BYTES }
    }

    /// Bytes of one block.
    #[inline]
    #[must_use]
    pub const fn block(&self) -> u64 {
        self.capacity / self.blocks
    }

    /// The commit word of a record with `len` bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn data_header(len: usize) -> u64 {
        len as u64 + 1
    }

    /// The commit word of a pad of `size` bytes, header included.
    #[inline]
    #[must_use]
    pub const fn pad_header(size: u64) -> u64 {
        (size - RECORD_HEADER_BYTES + 1) | PAD_KIND
    }
}

impl PayloadType {
    /// The name as text; empty for raw bytes. Bytes that are not UTF-8 show as replacement characters.
    #[must_use]
    pub fn name(&self) -> String {
        let bytes: Vec<u8> = self.name.iter().flat_map(|word| word.to_ne_bytes()).collect();
        String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    }
}

/// The data area as the hot paths see it: a few numbers that fit in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataArea {
    first: Word,
    mask: u64,
    alignment: u64,
    max_payload: u64,
}

impl DataArea {
    pub(super) const fn new(first: Word, geometry: &Geometry) -> DataArea {
        let (mask, alignment, max_payload) = (geometry.capacity - 1, geometry.alignment, geometry.max_payload());
        DataArea { first, mask, alignment, max_payload }
    }

    /// Its first word.
    #[must_use]
    pub const fn first(self) -> Word {
        self.first
    }

    /// The word at a position.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, position: u64) -> Word {
        self.first.plus(((position & self.mask) / WORD_BYTES) as usize)
    }

    /// Bytes of the data area.
    #[inline(always)]
    #[must_use]
    pub const fn capacity(self) -> u64 {
        self.mask + 1
    }

    /// The largest payload in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn max_payload(self) -> u64 {
        self.max_payload
    }

    /// Bytes from the header of a record with `len` bytes of payload, at most the largest, to the next header.
    #[inline(always)]
    #[must_use]
    pub const fn record_size(self, len: usize) -> u64 {
        (RECORD_HEADER_BYTES + len as u64 + self.alignment - 1) & !(self.alignment - 1)
    }

    /// Bytes from a position to the end of the data area.
    #[inline(always)]
    #[must_use]
    pub const fn room_to_end(self, position: u64) -> u64 {
        self.capacity() - (position & self.mask)
    }

    /// The size of the record that a word is the header of; `None` if no record can have it.
    #[inline(always)]
    #[must_use]
    pub const fn size_of(self, word: u64) -> Option<u64> {
        // One comparison for: not zero, kind data, reserved bits zero, not longer than the longest.
        let len = word.wrapping_sub(1);
        if len <= self.max_payload { Some(self.record_size(len as usize)) } else { None }
    }

    /// What a word says as the header at a position. Never trusts it: a record lies between the header and the end
    /// of the data area whatever the word holds.
    #[inline(always)]
    #[must_use]
    pub const fn read_header(self, word: u64, position: u64) -> Header {
        let room = self.room_to_end(position);
        if let Some(size) = self.size_of(word) {
            if size <= room { Header::Data { size } } else { Header::Impossible }
        } else if word == 0 {
            Header::Empty
        } else if word == Geometry::pad_header(room) && room < self.capacity() {
            Header::Pad { size: room }
        } else {
            Header::Impossible
        }
    }
}

/// Word of slot `index` in a registry whose slots start at `slots`.
const fn slot_word(slots: Word, index: u64, word: usize) -> Word {
    slots.plus(index as usize * (LINE_BYTES / WORD_BYTES) as usize + word)
}

impl RingLayout {
    /// The position up to which the writer may overwrite, one lap on.
    #[inline(always)]
    #[must_use]
    pub const fn limit(&self) -> Word {
        self.limits
    }

    /// Where the writer means to raise `limit` to.
    #[inline(always)]
    #[must_use]
    pub const fn announced(&self) -> Word {
        self.limits.plus(1)
    }

    /// The word that readers sleep on.
    #[must_use]
    pub const fn wake(&self) -> Word {
        self.status
    }

    /// Not 0 once the writer has closed the ring.
    #[must_use]
    pub const fn closed(&self) -> Word {
        self.status.plus(1)
    }

    /// Counts the writers that the ring has had.
    #[must_use]
    pub const fn epoch(&self) -> Word {
        self.status.plus(2)
    }

    /// The barrier mode of the current writer: 0 full fences, 1 asymmetric.
    #[must_use]
    pub const fn barrier_mode(&self) -> Word {
        self.status.plus(3)
    }

    /// The process id of the current writer, for people.
    #[must_use]
    pub const fn writer_process(&self) -> Word {
        self.status.plus((LINE_BYTES / WORD_BYTES) as usize)
    }

    /// Head cell 0 or 1.
    #[must_use]
    pub const fn head_cell(&self, index: usize) -> Word {
        // Each on a cache line of its own.
        self.heads.plus((index & 1) * 8)
    }

    /// The checkpoint of the block that a position lies in.
    #[must_use]
    pub const fn checkpoint_at(&self, position: u64) -> Word {
        let block = (position / self.geometry.block()) & (self.geometry.blocks - 1);
        self.checkpoints.plus(block as usize * 2)
    }

    /// The data area.
    #[inline(always)]
    #[must_use]
    pub const fn data(&self) -> DataArea {
        self.data
    }
}

impl RegistryLayout {
    /// Not 0 if a reader sleeps, or means to.
    #[inline(always)]
    #[must_use]
    pub const fn sleeping(&self) -> Word {
        self.readers
    }

    /// The word that the writer sleeps on.
    #[must_use]
    pub const fn room(&self) -> Word {
        self.writer
    }

    /// Not 0 if the writer sleeps, or means to.
    #[must_use]
    pub const fn writer_sleeping(&self) -> Word {
        self.writer.plus(1)
    }

    /// Not 0 if the writer wants to hear of readers that leave; 2 once one has.
    #[must_use]
    pub const fn roll_call(&self) -> Word {
        self.writer.plus(3)
    }

    /// No slot from this index on was ever LOSSLESS.
    #[must_use]
    pub const fn high_water(&self) -> Word {
        self.writer.plus(2)
    }

    /// The state of a slot.
    #[must_use]
    pub const fn slot_state(&self, index: u64) -> Word {
        slot_word(self.slots, index, 0)
    }

    /// The cursor of a slot: below it, the reader needs nothing.
    #[must_use]
    pub const fn slot_cursor(&self, index: u64) -> Word {
        slot_word(self.slots, index, 1)
    }

    /// The process id of a slot's owner, for people.
    #[must_use]
    pub const fn slot_process(&self, index: u64) -> Word {
        slot_word(self.slots, index, 2)
    }

    /// Not 0 if the owner of a slot sleeps on its semaphore, or means to.
    #[must_use]
    pub const fn slot_sleeping(&self, index: u64) -> Word {
        slot_word(self.slots, index, 3)
    }

    /// The semaphore of a slot, on a cache line of its own.
    #[must_use]
    pub const fn slot_semaphore(&self, index: u64) -> Semaphore {
        let at = slot_word(self.slots, index, (LINE_BYTES - SEMAPHORE_BYTES) as usize / 8);
        Semaphore { at, number: index + 1 }
    }

    /// The writer's semaphore.
    #[must_use]
    pub const fn writer_semaphore(&self) -> Semaphore {
        Semaphore { at: self.writer.plus((LINE_BYTES - SEMAPHORE_BYTES) as usize / 8), number: 0 }
    }

    /// How many semaphores there are: one for the writer and one for each slot.
    #[must_use]
    pub const fn semaphores(&self) -> u64 {
        self.reader_slots + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(capacity: u64) -> Geometry {
        let (waking, payload) = (Waking::default(), PayloadType::default());
        Geometry { capacity, blocks: 2, alignment: 8, reader_slots: 3, start: 0, may_evict: false, waking, payload }
    }

    #[test]
    fn the_largest_payload_is_half_a_ring_and_less_than_4_gib() {
        assert_eq!(geometry(4096).max_payload(), 2040);
        assert_eq!(geometry(1 << 33).max_payload(), (1 << 32) - 72);
        assert_eq!(geometry(MAX_CAPACITY_BYTES).max_payload(), (1 << 32) - 72);
    }

    #[test]
    fn raw_bytes_have_no_schema_and_no_schema_is_longer_than_its_room() {
        let text = |alignment, text| {
            let payload = PayloadType { schema: 1, size: alignment, alignment, name: [0; 8], text };
            Geometry { payload, ..geometry(4096) }.validate().map_err(|error| error.field)
        };
        const LONGEST: &str = match core::str::from_utf8(&[b'x'; MAX_SCHEMA_TEXT_BYTES]) {
            Ok(text) => text,
            Err(_) => "",
        };
        const LONGER: &str = match core::str::from_utf8(&[b'x'; MAX_SCHEMA_TEXT_BYTES + 1]) {
            Ok(text) => text,
            Err(_) => "",
        };
        assert_eq!(
            [text(8, LONGEST), text(8, LONGER), text(0, "u64"), text(0, "")],
            [Ok(()), Err("schema_text"), Err("schema_text"), Ok(())]
        );
    }

    #[test]
    fn a_pad_never_fills_a_lap() {
        let data = DataArea::new(Word(0), &geometry(4096));
        assert_eq!(data.read_header(Geometry::pad_header(4096 - 8), 8), Header::Pad { size: 4096 - 8 });
        assert_eq!(data.read_header(Geometry::pad_header(4096), 4096), Header::Impossible);
    }

    #[test]
    fn each_sleeper_has_a_semaphore_of_its_own() {
        let registry = RegistryLayout::new(3, 1);
        assert_eq!(registry.semaphores(), 4);
        // The second half of a line, which is a pair of cache lines.
        let found = [registry.writer_semaphore(), registry.slot_semaphore(0), registry.slot_semaphore(2)];
        let lines = [registry.writer.0, registry.slots.0, registry.slots.0 + 2 * 16];
        assert_eq!(found.map(|semaphore| semaphore.at.0), lines.map(|line| line + 64 / 8));
        assert_eq!(found.map(|semaphore| semaphore.number), [0, 1, 3]);
    }
}
