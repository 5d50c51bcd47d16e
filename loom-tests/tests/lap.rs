//! Readers that are overtaken (I1, I3): torn reads are void, losses exact, boundaries whole. One writer, one reader;
//! exhaustive, or with the bound of preemptions that the model states.

use loom_tests::audit::{Audit, Plan};
use loom_tests::memory::Plain;
use loom_tests::models::lap;
use shmcast::layout::{Geometry, PayloadType, RegistryLayout, RingLayout, Waking};
use shmcast::ring::{Reader, Registry, Ring, Start, Writer};

#[test]
fn received_plus_lagged_plus_left_equals_published() {
    lap::EXACT.check();
}

#[test]
fn loss_is_exact_at_the_largest_positions() {
    lap::LARGE.check();
}

#[test]
fn a_reader_never_receives_a_torn_record() {
    lap::TORN.check();
}

#[test]
fn a_reader_never_receives_a_torn_run() {
    lap::RUN.check();
}

#[test]
fn a_writer_that_was_refused_overwrites_under_its_limit() {
    lap::RESUMED.check();
}

#[test]
fn an_old_payload_never_passes_for_a_record() {
    lap::PHANTOM.check();
}

#[test]
fn a_head_cell_is_never_taken_half_written() {
    lap::HEADS.check();
}

#[test]
fn a_checkpoint_is_never_taken_half_written() {
    lap::CHECKPOINTS.check();
}

#[test]
fn a_reader_that_goes_on_from_the_middle_is_told_what_it_missed() {
    lap::MIDDLE.check();
}

#[test]
fn who_is_behind_by_less_than_a_ring_loses_nothing() {
    lap::BEHIND_BY_LESS.check();
}

#[test]
fn who_is_behind_by_a_ring_is_told_exactly() {
    lap::BEHIND_BY_A_RING.check();
}

#[test]
fn who_is_behind_by_a_record_more_than_a_ring_is_told_exactly() {
    lap::BEHIND_BY_MORE.check();
}

#[test]
fn who_is_behind_by_two_rings_is_told_exactly() {
    lap::BEHIND_BY_TWO_RINGS.check();
}

#[test]
fn a_ring_ends_at_the_largest_position_and_not_before() {
    lap::END.check();
}

/// One thread: a reader that is behind by 0 to 40 records, in a ring that holds 7 of the smallest, for each way to go on.
#[test]
fn a_reader_that_is_behind_by_any_number_is_told_exactly() {
    const WORDS: [usize; 40] = [
        1, 0, 3, 2, 0, 0, 1, 2, 3, 3, 1, 1, 0, 2, 1, 0, 0, 0, 3, 1, 2, 2, 2, 0, 1, 3, 0, 3, 1, 2, 1, 0, 0, 1, 2, 3, 0,
        1, 1, 2,
    ];
    let payload = PayloadType::default();
    let geometry = Geometry {
        capacity: 64,
        blocks: 4,
        alignment: 8,
        reader_slots: 0,
        start: 0,
        may_evict: false,
        waking: Waking::default(),
        payload,
    };
    let plan = Plan { geometry, words: &WORDS };
    let mut lagged = 0;
    for resume in [Start::Oldest, Start::Middle, Start::Newest] {
        for (before, behind) in (0..WORDS.len()).flat_map(|before| (0..=WORDS.len() - before).map(move |n| (before, n)))
        {
            let layout = RingLayout::new(geometry, 1).expect("a geometry");
            let registry_layout = RegistryLayout::new(0, 1);
            let (words, registry_words) = (Plain::new(layout.length), Plain::new(registry_layout.length));
            layout.format(&words);
            registry_layout.format(&registry_words);
            let ring = Ring::new(words, layout);
            let mut writer = Writer::new(ring.clone(), Registry::new(registry_words, registry_layout), false);
            let mut reader = Reader::join_lossy(ring, None, Start::Oldest, false, 0).expect("a reader");
            reader.set_resume(resume);
            let mut audit = Audit::of(&reader, &plan);
            for record in 0..before + behind {
                let sequence = writer.try_publish(&plan.payload(record as u64)).expect("room");
                if record < before {
                    assert_eq!(audit.step(&mut reader), Ok(()), "record {sequence}");
                }
            }
            audit.close(&mut reader, (before + behind) as u64);
            lagged += u64::from(audit.lagged > 0);
        }
    }
    assert!(lagged > 1000, "only {lagged} lags");
}
