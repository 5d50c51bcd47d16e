//! P5: a reader's loads are over before the writer overwrites. Load buffering does not occur in loom, so this is argued from
//! what the source does, access by access: see [`loom_tests::trace`]. And each half, weakened, is found to be missing.

use loom_tests::memory::Plain;
use loom_tests::model::tell;
use loom_tests::trace::{Book, Trace, loads_are_over};
use loom_tests::weaken::{Mutation, Segment, Weaken};
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::memory::ReadPayload;
use shmcast::ring::{Reader, Registry, Ring, Site, Start, Writer};

/// What the reader does.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Releases all that there are, which moves its cursor.
    Releases,
    /// The same in a ring whose writer may evict: then the cursor is shown with each record.
    Shows,
    /// Leaves in the middle of it.
    Leaves,
}

/// A full ring: the reader lets go, and the writer, which was refused, overwrites what it has read.
fn overwrites(end: End, mutations: &[Mutation]) -> Result<usize, &'static str> {
    let geometry = Geometry {
        capacity: 64,
        blocks: 2,
        alignment: 8,
        reader_slots: 1,
        start: 0,
        may_evict: matches!(end, End::Shows),
        waking: Waking::default(),
        payload: PayloadType::default(),
    };
    let layouts = (RingLayout::new(geometry, 1).expect("a geometry"), RegistryLayout::new(1, 1));
    let (ring, registry) = (Plain::new(layouts.0.length), Plain::new(layouts.1.length));
    layouts.0.format(&ring);
    layouts.1.format(&registry);
    let mutations = mutations.into();
    let party = |book: &Book| {
        let ring = Trace::new(ring.clone(), Segment::Ring, book);
        let registry = Trace::new(registry.clone(), Segment::Registry, book);
        let (ring, registry) = Weaken::party(&ring, &registry, &mutations);
        (Ring::new(ring, layouts.0.clone()), Registry::new(registry, layouts.1.clone()))
    };
    let (writers, readers) = (Book::default(), Book::default());
    let (in_ring, in_registry) = party(&writers);
    let mut writer = Writer::new(in_ring, in_registry, false);
    let (in_ring, in_registry) = party(&readers);
    let mut reader = Reader::join_lossless(in_ring, in_registry, Start::Oldest, false, 0).expect("a slot");
    while writer.try_publish(&[7; 8]).is_ok() {}
    let _ = (writers.take(), readers.take());

    let flag = match end {
        End::Releases | End::Shows => {
            while let Ok(read) = reader.read(|payload| payload.copy_out(&mut vec![0; payload.len()])) {
                reader.release(read.next());
            }
            layouts.1.slot_cursor(0)
        }
        End::Leaves => {
            let _ = reader.read(|payload| payload.copy_out(&mut vec![0; payload.len()])).expect("a record");
            reader.leave();
            layouts.1.slot_state(0)
        }
    };
    for _ in 0..3 {
        writer.try_publish(&[8; 8]).expect("room");
    }
    let data = layouts.0.data().word(0)..layouts.0.data().word(0).plus(8);
    loads_are_over(|word| data.contains(&word), &readers.take(), flag, &writers.take())
}

#[test]
fn a_readers_loads_are_over_before_the_writer_overwrites() {
    for end in [End::Releases, End::Shows, End::Leaves] {
        let words = overwrites(end, &[]).unwrap_or_else(|missing| panic!("{end:?}: {missing}"));
        // At least the header and the payload of the first record.
        assert!(words >= 2, "{end:?}: {words} words are read, and then overwritten");
        tell(format_args!("P5, {end:?}: {words} words are read, let go, and overwritten, in this order"));
    }
}

#[test]
fn either_half_of_that_order_is_missed_where_it_is_weakened() {
    let mutants = [
        (End::Releases, Site::Cursor, "the loads may come after the flag"),
        (End::Shows, Site::Cursor, "the loads may come after the flag"),
        (End::Leaves, Site::LeaveState, "the loads may come after the flag"),
        (End::Releases, Site::SlotCursorLook, "the stores may come before the look at the flag"),
        (End::Shows, Site::SlotCursorLook, "the stores may come before the look at the flag"),
        (End::Leaves, Site::SlotStateLook, "the stores may come before the look at the flag"),
    ];
    for (end, site, missing) in mutants {
        assert_eq!(overwrites(end, &[Mutation::Demote(site)]), Err(missing), "{end:?}, demote {site:?}");
        tell(format_args!("demote {site:?} ({end:?}) | P5 | killed: {missing}"));
    }
}
