//! Properties of the public API over real segments, for many scripts, values and sizes; a case that fails is shrunk.
//!
//! | file | property |
//! |---|---|
//! | `delivery` | received + lost + left = published: in order, whole, for every reader, whatever was called in between |
//! | `typed` | a value of any bits comes out as it went in, by every call |
//! | `options` | a ring of every geometry that is accepted says so in its header, and one that is refused is refused by the rule that it breaks |
//!
//! Every run tries the same cases. Others, or more: `PROPTEST_RNG_SEED=7 PROPTEST_CASES=10000 cargo test --release --test properties`.
//! What fails is printed whole, and as a seed; a case that must never fail again becomes a test beside the property.

mod delivery;
mod options;
#[path = "../support/mod.rs"]
mod support;
mod typed;

use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run, unless the environment says otherwise.
fn config(cases: u32) -> Config {
    let given = |name| std::env::var_os(name).is_some();
    let from_environment = Config::default();
    Config {
        cases: if given("PROPTEST_CASES") { from_environment.cases } else { cases },
        rng_seed: if given("PROPTEST_RNG_SEED") { from_environment.rng_seed } else { RngSeed::Fixed(0x5EED) },
        // Nothing is written beside the source: the seed says all.
        failure_persistence: None,
        ..from_environment
    }
}
