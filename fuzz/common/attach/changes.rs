//! Changes of words: between two calls, and, as lies, within one.

use std::collections::VecDeque;

use shmcast::layout::{BYTE_ORDER_MARK, CELL_OPEN, Geometry, HEADER_WORDS, MAX_POSITION, REGISTRY_MAGIC, RING_MAGIC};

use super::script::{Edit, Falsehood, Place, Value};
use super::{Bench, MOST_STEPS};
use crate::memory::{Lie, LieKind};

/// Values that mean something somewhere.
const MARKS: [u64; 20] = [
    0,
    1,
    2,
    3,
    CELL_OPEN,
    u64::MAX - 1,
    u64::MAX - 7,
    u64::MAX - 63,
    MAX_POSITION,
    MAX_POSITION - 8,
    MAX_POSITION + 8,
    1 << 32,
    (1 << 32) + 1,
    u32::MAX as u64,
    u32::MAX as u64 - 64,
    1 << 40,
    i64::MAX as u64,
    RING_MAGIC,
    REGISTRY_MAGIC,
    BYTE_ORDER_MARK.swap_bytes(),
];

impl Bench {
    pub(super) fn change(&self, edit: &Edit) {
        let (ring, registry) = &self.made;
        let slots = ring.geometry.reader_slots;
        let back = |words: u16| self.writer.position().wrapping_sub(u64::from(words) * 8);
        let (in_ring, word) = match edit.place {
            Place::RingHeader { word } => (true, usize::from(word) % HEADER_WORDS),
            Place::Limit => (true, ring.limit().0),
            Place::Announced => (true, ring.announced().0),
            Place::Status { word } => (true, ring.wake().0 + usize::from(word % 4)),
            Place::HeadCell { cell, sequence } => (true, ring.head_cell(usize::from(cell)).0 + usize::from(sequence)),
            Place::Checkpoint { block, sequence } => {
                let position = u64::from(block) % ring.geometry.blocks * ring.geometry.block();
                (true, ring.checkpoint_at(position).0 + usize::from(sequence))
            }
            Place::Data { back: words } => (true, ring.data().word(back(words)).0),
            Place::RecordHeader { record } => {
                let position = usize::from(record).checked_rem(self.positions.len()).map(|at| self.positions[at]);
                (true, ring.data().word(position.unwrap_or(self.writer.position())).0)
            }
            Place::AnyRing { word } => (true, usize::from(word) % self.ring.len()),
            Place::RegistryHeader { word } => (false, usize::from(word) % HEADER_WORDS),
            Place::Flags { word: 0 } => (false, registry.sleeping().0),
            Place::Flags { word } => (false, registry.room().0 + usize::from(word % 3)),
            Place::Slot { slot, word } if slots > 0 => {
                (false, registry.slot_state(u64::from(slot) % slots).0 + usize::from(word % 4))
            }
            Place::Slot { .. } => return,
            Place::AnyRegistry { word } => (false, usize::from(word) % self.registry.len()),
        };
        if in_ring && !self.damage {
            return;
        }
        let segment = if in_ring { &self.ring } else { &self.registry };
        segment.poke(word, self.value(&edit.value, segment.peek(word).unwrap_or(0)));
    }

    pub(super) fn value(&self, value: &Value, there: u64) -> u64 {
        let geometry = &self.made.0.geometry;
        match *value {
            Value::Raw { value } => value,
            Value::Small { value } => u64::from(value),
            Value::Add { delta } => there.wrapping_add_signed(i64::from(delta)),
            Value::Position { words } => self.writer.position().wrapping_add_signed(i64::from(words) * 8),
            Value::Pad { of } => Geometry::pad_header((u64::from(of) * 8 % geometry.capacity).max(8)),
            Value::Mark { which } => MARKS[usize::from(which) % MARKS.len()],
            Value::Copy { word } => self.ring.peek(usize::from(word) % self.ring.len()).unwrap_or(0),
        }
    }

    pub(super) fn lies(&self, falsehoods: &[Falsehood]) -> VecDeque<Lie> {
        let lie = |Falsehood { skip, last, value }: &Falsehood| {
            let kind = match value {
                _ if *last => LieKind::Last,
                Value::Add { delta } => LieKind::Add(i64::from(*delta)),
                value => LieKind::Raw(self.value(value, 0)),
            };
            Lie { skip: *skip, kind }
        };
        falsehoods.iter().take(MOST_STEPS).map(lie).collect()
    }
}
