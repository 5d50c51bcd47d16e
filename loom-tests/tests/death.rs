//! What a reader says of a writer that is gone: died, closed, or followed by another. On the words of one thread.

use loom_tests::memory::Plain;
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::ring::{Reader, Registry, Ring, Start, Stop, Writer};

struct World {
    ring: (Plain, RingLayout),
    registry: (Plain, RegistryLayout),
}

impl World {
    fn new() -> World {
        let payload = PayloadType::default();
        let geometry = Geometry {
            capacity: 1024,
            blocks: 4,
            alignment: 8,
            reader_slots: 2,
            start: 0,
            may_evict: false,
            waking: Waking::default(),
            payload,
        };
        let (layout, registry_layout) = (RingLayout::new(geometry, 1).expect("a geometry"), RegistryLayout::new(2, 1));
        let (ring, registry) = (Plain::new(layout.length), Plain::new(registry_layout.length));
        layout.format(&ring);
        registry_layout.format(&registry);
        World { ring: (ring, layout), registry: (registry, registry_layout) }
    }

    fn views(&self) -> (Ring<Plain>, Registry<Plain>) {
        let ((ring, layout), (registry, registry_layout)) = (self.ring.clone(), self.registry.clone());
        (Ring::new(ring, layout), Registry::new(registry, registry_layout))
    }

    fn writer(&self) -> Writer<Plain> {
        let (ring, registry) = self.views();
        Writer::new(ring, registry, false)
    }

    fn taken_over(&self) -> Writer<Plain> {
        let (ring, registry) = self.views();
        Writer::take_over(ring, registry, false).expect("what a writer leaves")
    }

    fn lossy(&self) -> Reader<Plain> {
        let (ring, registry) = self.views();
        Reader::join_lossy(ring, Some(registry), Start::Newest, false, 1).expect("a boundary")
    }
}

#[test]
fn a_ring_that_changes_hands_has_no_dead_writer() {
    let world = World::new();
    let mut writer = world.writer();
    let mut reader = world.lossy();
    assert!(!reader.outlives_writer(|| false), "it lives");
    assert!(reader.outlives_writer(|| true), "it is dead");
    writer.close();
    assert!(!reader.outlives_writer(|| true), "it has closed");
    // Dead at the first question, because it has closed; there is a successor at the second.
    let mut answers = [true, false].into_iter();
    assert!(!reader.outlives_writer(|| {
        world.taken_over();
        answers.next() == Some(true)
    }));
    // That one has closed as well by the second question.
    world.taken_over().close();
    assert!(!reader.outlives_writer(|| {
        world.taken_over();
        true
    }));
    assert!(reader.outlives_writer(|| true));
}

#[test]
fn a_question_after_the_writer_swallows_no_loss() {
    let world = World::new();
    let mut writer = world.writer();
    let mut reader = world.lossy();
    assert_eq!(reader.read(|_| ()).map(|_| ()), Err(Stop::Empty));
    // It publishes more than a lap, and dies.
    while writer.position() < 4 * 1024 {
        writer.try_publish(&[1; 56]).expect("room");
    }
    assert!(!reader.outlives_writer(|| true));
    let mut lost = 0;
    let first = loop {
        match reader.read(|_| ()) {
            Ok(read) => break read.sequence,
            Err(Stop::Lagged(n)) => lost += n,
            Err(stop) => panic!("{stop:?}"),
        }
    };
    assert_eq!(lost, first, "I3: exactly");
    assert!(lost > 0);
}
