//! Sizes that a ring is made with: accepted and written, or refused by the rule that is broken.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use shmcast::layout::{Geometry, HEADER_WORDS, MAX_POSITION, PayloadType, RegistryLayout, RingLayout, Wakeup, Waking};
use shmcast::{CreateError, GeometryError, OpenError, Options, Start};

use crate::config;

/// Numbers around the powers of two, the small ones, and any.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..64_u32).prop_map(|bit| 1 << bit),
        2 => (0..64_u32, 1..10_u64).prop_map(|(bit, less)| (1_u64 << bit).wrapping_sub(less)),
        1 => (0..64_u32, 1..10_u64).prop_map(|(bit, more)| (1_u64 << bit).wrapping_add(more)),
        2 => 0..1100_u64,
        1 => any::<u64>(),
    ]
}

fn mostly(usual: impl Strategy<Value = u64> + 'static) -> impl Strategy<Value = u64> {
    prop_oneof![5 => usual, 1 => numbers()]
}

fn alignments() -> impl Strategy<Value = u64> {
    mostly(prop_oneof![Just(8), Just(64)])
}

fn payloads() -> impl Strategy<Value = PayloadType> {
    let typed = (mostly(0..3000_u64), mostly(prop_oneof![Just(1), Just(2), Just(4), Just(8)]), any::<u64>());
    let typed = typed.prop_map(|(size, alignment, schema)| {
        let name = [u64::from_ne_bytes(*b"Tick\0\0\0\0"), 0, 0, 0, 0, 0, 0, 0];
        let (schema, text) = (u128::from(schema), if alignment == 0 { "" } else { "Tick{}:0/1" });
        PayloadType { schema, size, alignment, name, text }
    });
    prop_oneof![2 => Just(PayloadType::default()), 1 => typed]
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let means = prop_oneof![Just(Wakeup::Futex), Just(Wakeup::PosixSemaphore), Just(Wakeup::SysvSemaphore)];
    let waking = (means, prop_oneof![3 => Just(0), 1 => Just(7), 1 => any::<u32>()], any::<bool>());
    let sizes = (
        mostly((5..41_u32).prop_map(|bits| 1 << bits)),
        mostly((1..11_u32).prop_map(|bits| 1 << bits)),
        alignments(),
        mostly(0..1025_u64),
        mostly((0..1_u64 << 40).prop_map(|at| at * 64)),
    );
    (sizes, any::<bool>(), waking, payloads()).prop_map(|(sizes, may_evict, (means, key, no_wake), payload)| {
        let (capacity, blocks, alignment, reader_slots, start) = sizes;
        let key = if means == Wakeup::SysvSemaphore && key == 0 { 9 } else { key };
        let waking = Waking { means, key, no_wake };
        Geometry { capacity, blocks, alignment, reader_slots, start, may_evict, waking, payload }
    })
}

/// The rules of `layout.md`, said once more: which fields break theirs.
fn broken(geometry: &Geometry) -> Vec<&'static str> {
    let Geometry { capacity, blocks, alignment, reader_slots, start, waking, payload, .. } = *geometry;
    let power = |number: u64| number.count_ones() == 1;
    let sysv = waking.means == Wakeup::SysvSemaphore;
    let largest = (capacity / 2).saturating_sub(8).min(u64::from(u32::MAX) - 71);
    let rules = [
        ("capacity", power(capacity) && (32..=1 << 40).contains(&capacity)),
        ("blocks", power(blocks) && (2..=1024).contains(&blocks) && capacity / blocks >= alignment),
        ("alignment", [8, 64].contains(&alignment) && alignment <= capacity / 4),
        ("reader_slots", reader_slots <= 1024),
        ("start", start <= MAX_POSITION && (alignment == 0 || start % alignment == 0)),
        ("semaphore_key", if sysv { (1..1 << 31).contains(&waking.key) } else { waking.key == 0 }),
        ("payload_alignment", [0, 1, 2, 4, 8].contains(&payload.alignment)),
        (
            "payload_size",
            payload.size <= largest
                && if payload.alignment == 0 { payload.size == 0 } else { payload.size % payload.alignment == 0 },
        ),
    ];
    rules.into_iter().filter(|(_, holds)| !holds).map(|(field, _)| field).collect()
}

/// Does the refusal name a field that breaks its rule, with its value?
fn is_right(error: &GeometryError, geometry: &Geometry) -> TestCaseResult {
    let value = match error.field {
        "capacity" => geometry.capacity,
        "blocks" => geometry.blocks,
        "alignment" => geometry.alignment,
        "reader_slots" => geometry.reader_slots,
        "start" => geometry.start,
        "semaphore_key" => geometry.waking.key.into(),
        "payload_alignment" => geometry.payload.alignment,
        "payload_size" => geometry.payload.size,
        field => return Err(TestCaseError::fail(format!("no field {field}"))),
    };
    prop_assert!(broken(geometry).contains(&error.field), "{}, but {:?} are broken", error, broken(geometry));
    prop_assert_eq!(error.value, value);
    let told = error.to_string();
    prop_assert!(told.contains(error.field) && told.contains(&value.to_string()) && error.rule.len() > 10, "{}", told);
    Ok(())
}

proptest! {
    #![proptest_config(config(3000))]

    /// Without a segment: the header alone, also of rings that are too large for this machine.
    #[test]
    fn what_is_accepted_is_read_as_it_was_written(geometry in geometries(), incarnation in 1..u64::MAX) {
        match RingLayout::new(geometry, incarnation) {
            Err(error) => is_right(&error, &geometry)?,
            Ok(layout) => {
                prop_assert_eq!(broken(&geometry), Vec::<&str>::new());
                let parsed = RingLayout::parse(&layout.header(), layout.length);
                let parsed = parsed.map_err(|error| TestCaseError::fail(error.to_string()))?;
                // The text stands behind the header.
                let payload = PayloadType { text: "", ..geometry.payload };
                prop_assert_eq!(parsed.geometry, Geometry { payload, ..geometry });
                prop_assert_eq!((parsed.incarnation, parsed.length), (incarnation, layout.length));
                prop_assert!(RingLayout::parse(&layout.header(), layout.length - 1).is_err(), "one byte is missing");
                let registry = RegistryLayout::new(geometry.reader_slots, incarnation);
                prop_assert_eq!(RegistryLayout::parse(&registry.header(), registry.length, &layout).ok(), Some(registry));
            }
        }
    }

    /// Any one changed word of a header is noticed.
    #[test]
    fn a_changed_header_is_refused(slots in 0..9_u64, word in 0..HEADER_WORDS, bit in 0..64_u32) {
        let geometry = Geometry { capacity: 4096, blocks: 4, alignment: 8, reader_slots: slots, start: 64, may_evict: true,
            waking: Waking::default(), payload: PayloadType::default() };
        let layout = RingLayout::new(geometry, 7).expect("a geometry");
        let mut header = layout.header();
        header[word] ^= 1 << bit;
        prop_assert!(RingLayout::parse(&header, u64::MAX).is_err());
        let mut header = RegistryLayout::new(slots, 7).header();
        header[word] ^= 1 << bit;
        prop_assert!(RegistryLayout::parse(&header, u64::MAX, &layout).is_err());
    }
}

proptest! {
    #![proptest_config(config(150))]

    /// Through the options, a file, and those who open it.
    #[test]
    fn a_ring_has_the_sizes_that_were_asked_for(
        capacity in 0..70_000_u64,
        blocks in mostly((1..8_u32).prop_map(|bits| 1 << bits)),
        alignment in alignments(),
        slots in mostly(0..9_u64),
        start in mostly((0..1_u64 << 50).prop_map(|at| at * 64)),
    ) {
        let options = Options::new().capacity(capacity).blocks(blocks).record_alignment(alignment);
        let options = options.reader_slots(slots).start_position(start);
        let capacity = capacity.next_power_of_two();
        let (waking, payload) = (Waking::default(), PayloadType::default());
        let asked = Geometry { capacity, blocks, alignment, reader_slots: slots, start, may_evict: false, waking, payload };
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut writer = match options.create_file(&path) {
            Ok(writer) => writer,
            Err(CreateError::Geometry(error)) => {
                if capacity < 4096 && error.field == "capacity" {
                    prop_assert_eq!(error.value, capacity);
                } else {
                    is_right(&error, &asked)?;
                }
                prop_assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert!(capacity >= 4096 && broken(&asked).is_empty());
        prop_assert_eq!((writer.capacity(), writer.position(), writer.sequence()), (capacity, start, 0));
        prop_assert_eq!(writer.max_payload() as u64, capacity / 2 - 8);
        let reader = Options::new().lossy(true).open_file(&path);
        let reader = reader.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!((reader.capacity(), reader.max_payload()), (capacity, writer.max_payload()));
        let counted = u64::from(slots > 0);
        prop_assert_eq!((reader.position(), writer.reader_count()), (start, counted));
        // As many lossless ones as there are slots, and not one more.
        let more: Vec<_> = (counted..slots.min(40)).map(|_| Options::new().start(Start::Newest).open_file(&path)).collect();
        prop_assert!(more.iter().all(Result::is_ok));
        if slots <= 40 {
            let refused = Options::new().open_file(&path).map(drop);
            prop_assert!(matches!(refused, Err(OpenError::NoFreeSlot { slots: told }) if told == slots), "{:?}", refused);
        }
        drop(more);
        let mut bytes = [0; HEADER_WORDS * 8];
        std::fs::File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, 0)).expect("a header");
        let words = std::array::from_fn(|word| u64::from_ne_bytes(bytes[word * 8..][..8].try_into().expect("a word")));
        prop_assert_eq!(RingLayout::parse(&words, u64::MAX).map(|layout| layout.geometry), Ok(asked));
        if start <= MAX_POSITION - capacity {
            prop_assert_eq!(writer.publish(&vec![7; writer.max_payload()]), Ok(0));
        }
    }
}
