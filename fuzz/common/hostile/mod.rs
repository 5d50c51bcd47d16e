//! Segments that change under a call: a peer stores whatever it likes, wherever it likes, between any two accesses.
//!
//! | target | what changes | what must hold |
//! |---|---|---|
//! | `hostile_reads` | every word of the ring, under a reader | nothing out of bounds, bounded steps, positions only grow, `Corrupt` is final, an eviction is told once; right records until the first store |
//! | `hostile_registry` | every word of the registry, under a writer, a successor, and readers that join | the same; and nobody gets a wrong record or a wrong count, the limit only grows and never runs away, every forged cursor can be passed over |
//!
//! The stores stay: they differ from the lies of `attach`, which are told once, by being there at the next load too.

pub(crate) mod script;

mod reads;
mod registry;
#[cfg(test)]
pub(crate) mod seeds;

use shmcast::layout::{Geometry, HEADER_WORDS, MAX_POSITION, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::ring::{Registry, Ring, Writer};

use crate::memory::{Change, Guarded, Spot, Strike};
pub(crate) use reads::run as run_reads;
pub(crate) use registry::run as run_registry;
use script::{Aim, Shape, Stroke, Value};

const MOST_CALLS: usize = 100;
const MOST_STROKES: usize = 200;

/// Both segments of a ring, and its sizes.
struct Bench {
    ring: Guarded,
    registry: Guarded,
    layouts: (RingLayout, RegistryLayout),
}

impl Bench {
    fn new(shape: &Shape) -> Bench {
        let Shape { capacity, wide, blocks, slots, late } = *shape;
        let capacity = 64 << (capacity % 7);
        let alignment = if wide && capacity >= 256 { 64 } else { 8 };
        let blocks = (2 << (blocks % 5)).min(capacity / alignment);
        let reader_slots = u64::from(slots % 5);
        // Up to where a run can come, and no further.
        let start = if late { MAX_POSITION - (1 << 20) } else { 0 };
        let payload = PayloadType::default();
        let geometry = Geometry {
            capacity,
            blocks,
            alignment,
            reader_slots,
            start,
            may_evict: true,
            waking: Waking::default(),
            payload,
        };
        let ring_layout = RingLayout::new(geometry, 7).unwrap_or_else(|error| panic!("{error}"));
        let registry_layout = RegistryLayout::new(reader_slots, 7);
        let (ring, registry) = (Guarded::zeroed(ring_layout.length), Guarded::zeroed(registry_layout.length));
        registry_layout.format(&registry);
        ring_layout.format(&ring);
        Bench { ring, registry, layouts: (ring_layout, registry_layout) }
    }

    fn views(&self) -> (Ring<Guarded>, Registry<Guarded>) {
        let (ring, registry) = self.layouts.clone();
        (Ring::new(self.ring.clone(), ring), Registry::new(self.registry.clone(), registry))
    }

    fn writer(&self) -> Writer<Guarded> {
        let (ring, registry) = self.views();
        Writer::new(ring, registry, true)
    }

    fn geometry(&self) -> &Geometry {
        &self.layouts.0.geometry
    }

    /// What one call may cost: the bounded loops of the protocol, with the bounds of this ring. A step is a load or a store.
    fn allow(&self) {
        let Geometry { capacity, alignment, blocks, reader_slots, .. } = *self.geometry();
        let look = 64 * (3 * (blocks + 2) + 4);
        // A read takes 8 turns, with a look for a place to go on in each; a join looks 8 times for the newest record, skips 65 times and
        // is outrun 8 times, and walks a lap twice.
        let budget = 90 * look + (capacity / alignment + 2) * 2 * 64 + 16 * (reader_slots + 4);
        self.ring.set_budget(budget);
        self.registry.set_budget(budget);
    }
}

/// A stroke as the memory takes it; `position` is about where the writer is.
fn strike(stroke: &Stroke, position: u64) -> Strike {
    let spot = match stroke.aim {
        Aim::Here => Spot::Near(0),
        Aim::Near { words } => Spot::Near(isize::from(words)),
        Aim::Any { word } => Spot::At(usize::from(word)),
        Aim::Head { word } => Spot::At(HEADER_WORDS + usize::from(word)),
    };
    let change = match stroke.value {
        Value::Raw { value } => Change::To(value),
        Value::Small { value } => Change::To(u64::from(value)),
        Value::Add { delta } => Change::Add(i64::from(delta)),
        Value::Position { words } => Change::To(position.wrapping_add_signed(i64::from(words) * 8)),
        Value::Pad { words } => Change::To(Geometry::pad_header((u64::from(words) * 8).max(8))),
        Value::Below { words } => Change::To(0_u64.wrapping_sub(u64::from(words) * 8)),
    };
    Strike { after: stroke.after, spot, change }
}
