//! A bounded buffer in shared memory: slots of one size, written in turn by one sender, read by each receiver. It has no wakeup of its
//! own: System V or POSIX semaphores count its records and its room.
//!
//! ```text
//!   words 0..4   slots, bytes of a slot, receivers, flags of the sender     4   records published
//!   words 8..72  flags of each receiver                                   128   slot 0: length, payload;  slot 1; ...
//! ```
//! Nobody trusts what is read here: sizes are checked once, lengths each time.

use std::sync::atomic::Ordering;

use super::{MAX_RECEIVERS, ReceiveError, SetupError};
use crate::memory::{Mapped, Memory, Word};
use crate::ring::Site;

/// The real memory ignores it.
const SITE: Site = Site::Commit;

const SLOTS: Word = Word(0);
const SLOT_BYTES: Word = Word(1);
const RECEIVERS: Word = Word(2);
const SENDER: Word = Word(3);
const PUBLISHED: Word = Word(4);
const RECEIVER: Word = Word(8);
const FIRST_SLOT: usize = 128;
const _: () = assert!(RECEIVER.0 + MAX_RECEIVERS <= FIRST_SLOT);

/// Has connected.
pub(super) const JOINED: u64 = 1;
/// Has closed its end.
pub(super) const CLOSED: u64 = 2;

/// The records of one buffer, unless a caller says otherwise.
pub(super) const DEFAULT_SLOTS: usize = 64;
/// The longest record of one buffer, unless a caller says otherwise.
pub(super) const DEFAULT_SLOT_BYTES: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(super) struct Buffer {
    memory: Mapped,
    pub(super) slots: usize,
    pub(super) slot_bytes: usize,
    pub(super) receivers: usize,
}

/// The bytes of a buffer.
pub(super) fn length(slots: usize, slot_bytes: usize) -> u64 {
    ((FIRST_SLOT + slots * slot_words(slot_bytes)) * 8) as u64
}

fn slot_words(slot_bytes: usize) -> usize {
    1 + slot_bytes.div_ceil(8)
}

impl Buffer {
    /// Formats memory of that length.
    pub(super) fn create(memory: Mapped, slots: usize, slot_bytes: usize, receivers: usize) -> Buffer {
        for (word, value) in [(SLOTS, slots), (SLOT_BYTES, slot_bytes), (RECEIVERS, receivers)] {
            // Relaxed: nobody else has it yet; whoever gets it gets it from this process afterwards.
            memory.store(word, value as u64, Ordering::Relaxed, SITE);
        }
        Buffer { memory, slots, slot_bytes, receivers }
    }

    /// Reads the sizes of a buffer that another process has made.
    pub(super) fn open(memory: Mapped) -> Result<Buffer, SetupError> {
        let damaged = || SetupError::BadEnd { text: "shared memory".to_owned(), reason: "it holds no bounded buffer" };
        if memory.words() < FIRST_SLOT {
            return Err(damaged());
        }
        // Relaxed: written before this process was told of it.
        let size = |word| usize::try_from(memory.load(word, Ordering::Relaxed, SITE)).unwrap_or(usize::MAX);
        let [slots, slot_bytes, receivers] = [SLOTS, SLOT_BYTES, RECEIVERS].map(size);
        let words = slot_bytes.div_ceil(8).checked_add(1).and_then(|words| words.checked_mul(slots));
        let fits = words.and_then(|words| words.checked_add(FIRST_SLOT)).is_some_and(|words| words <= memory.words());
        if !fits || slots == 0 || !(1..=MAX_RECEIVERS).contains(&receivers) {
            return Err(damaged());
        }
        Ok(Buffer { memory, slots, slot_bytes, receivers })
    }

    fn slot(&self, number: u64) -> Word {
        Word(FIRST_SLOT + (number % self.slots as u64) as usize * slot_words(self.slot_bytes))
    }

    /// Writes record number `number`, which is at most `slot_bytes` long, and counts it. There must be room.
    pub(super) fn write(&self, number: u64, record: &[u8]) {
        let slot = self.slot(number);
        // Relaxed: the count below carries it.
        self.memory.store(slot, record.len() as u64, Ordering::Relaxed, SITE);
        self.memory.copy_in(slot.plus(1), &record[..record.len().min(self.slot_bytes)]);
        // Release: whoever sees the count (with Acquire, in `published`) sees the record.
        self.memory.store(PUBLISHED, number + 1, Ordering::Release, SITE);
    }

    /// The records counted so far.
    pub(super) fn published(&self) -> u64 {
        // Acquire: pairs with `write`.
        self.memory.load(PUBLISHED, Ordering::Acquire, SITE)
    }

    /// Reads record number `number`, which must be published.
    pub(super) fn read(&self, number: u64, buffer: &mut [u8]) -> Result<usize, ReceiveError> {
        let slot = self.slot(number);
        // Relaxed: `published` was asked before.
        let len = usize::try_from(self.memory.load(slot, Ordering::Relaxed, SITE)).unwrap_or(usize::MAX);
        if len > self.slot_bytes {
            return Err(ReceiveError::Damaged { what: "a length that no record has" });
        }
        let room = buffer.len();
        let buffer = buffer.get_mut(..len).ok_or(ReceiveError::TooLong { len, room })?;
        self.memory.copy_out(slot.plus(1), buffer);
        Ok(len)
    }

    /// The flags of the sender, or of a receiver.
    fn flags(&self, receiver: Option<usize>) -> Word {
        receiver.map_or(SENDER, |receiver| RECEIVER.plus(receiver.min(MAX_RECEIVERS - 1)))
    }

    pub(super) fn has(&self, receiver: Option<usize>, flag: u64) -> bool {
        // Acquire: pairs with `set`: what was done before the flag was set is seen.
        self.memory.load(self.flags(receiver), Ordering::Acquire, SITE) & flag != 0
    }

    /// Sets a flag; each word has one process that sets.
    pub(super) fn set(&self, receiver: Option<usize>, flag: u64) {
        let word = self.flags(receiver);
        // Relaxed: this process's own.
        let flags = self.memory.load(word, Ordering::Relaxed, SITE) | flag;
        // Release: pairs with `has`.
        self.memory.store(word, flags, Ordering::Release, SITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::heap;

    fn memory(slots: usize, bytes: usize) -> Mapped {
        Mapped::new(heap::zeroed((length(slots, bytes) / 8) as usize))
    }

    #[test]
    fn slots_are_used_in_turn() {
        let buffer = Buffer::create(memory(3, 20), 3, 20, 2);
        let other = Buffer::open(buffer.memory.clone()).expect("a buffer");
        let mut out = [0; 20];
        for number in 0..10_u64 {
            let record = vec![number as u8; (number * 2) as usize];
            buffer.write(number, &record);
            assert_eq!(other.published(), number + 1);
            let len = other.read(number, &mut out).expect("a record");
            assert_eq!(out[..len], record);
        }
    }

    #[test]
    fn hostile_sizes_are_refused() {
        assert!(Buffer::open(Mapped::new(heap::zeroed(8))).is_err(), "too short");
        let memory = memory(3, 20);
        assert!(Buffer::open(memory.clone()).is_err(), "zeros");
        let buffer = Buffer::create(memory.clone(), 3, 20, 1);
        for (word, value) in [(SLOTS, 4), (SLOTS, u64::MAX), (SLOT_BYTES, 30), (SLOT_BYTES, u64::MAX), (RECEIVERS, 65)]
        {
            // Relaxed, here and below: one thread.
            let before = memory.load(word, Ordering::Relaxed, SITE);
            // Relaxed: likewise.
            memory.store(word, value, Ordering::Relaxed, SITE);
            assert!(Buffer::open(memory.clone()).is_err(), "{word:?} {value}");
            // Relaxed: likewise.
            memory.store(word, before, Ordering::Relaxed, SITE);
        }
        buffer.write(0, b"abc");
        // Relaxed: likewise.
        memory.store(buffer.slot(0), 21, Ordering::Relaxed, SITE);
        assert!(matches!(buffer.read(0, &mut [0; 100]), Err(ReceiveError::Damaged { .. })));
    }
}
