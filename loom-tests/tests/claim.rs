//! Claim, truncate, commit, abort, and the pad at the wrap (I1). One writer, one reader, exhaustive.

use loom_tests::models::claim;

#[test]
fn a_dropped_claim_leaves_nothing_but_its_pad() {
    claim::ABORTED.check();
}

#[test]
fn a_shortened_claim_is_received_at_its_length() {
    claim::SHORTENED.check();
}
