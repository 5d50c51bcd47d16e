//! What the fuzz targets do. It is a library, so that `cargo test` runs every seed and every regression without a
//! fuzzer; the targets themselves are shims.
//!
//! ```text
//!   bytes ──▶ wire ──▶ script ──┬─▶ attach   damaged and hostile segments in `Guarded` memory, which panics out of bounds
//!    ▲                          ├─▶ hostile  segments that change between any two accesses of a call
//!    │                          ├─▶ ops      calls of the public API, each compared with a model
//!    │                          ├─▶ typed    the same of typed rings, and of values that are none
//!    │                          ├─▶ handover messages with descriptors, over a real socket
//!    │                          ├─▶ schema   headers that say what a typed ring holds
//!    │                          ├─▶ names    names, and a ring directory with anything in it
//!    │                          └─▶ framing  the streams and datagrams of feature `baseline`
//!    └── seeds (tests): scripts by hand
//! ```
//! All panic when a promise is broken; that is all a fuzzer needs.

mod attach;
mod framing;
mod handover;
mod hostile;
mod memory;
mod names;
mod ops;
mod pattern;
mod schema;
#[cfg(test)]
mod seeds;
mod typed;
mod wire;

use arbitrary::{Arbitrary, Unstructured};

/// Any bytes as the two segments of a ring: no panic, no access out of bounds, no endless loop, whatever they hold
/// (invariant I6); and where only the registry is hostile, nobody gets a wrong record.
pub fn run_attach(data: &[u8]) {
    if let Ok(script) = attach::Script::arbitrary(&mut Unstructured::new(data)) {
        attach::run(&script);
    }
}

/// A ring segment that changes at any moment under a reader (invariant I6).
pub fn run_hostile_reads(data: &[u8]) {
    if let Ok(script) = hostile::script::Reads::arbitrary(&mut Unstructured::new(data)) {
        hostile::run_reads(&script);
    }
}

/// A registry that changes at any moment under the writer, its successors and those who join (invariants I1, I2, I3 and I6).
pub fn run_hostile_registry(data: &[u8]) {
    if let Ok(script) = hostile::script::Registry::arbitrary(&mut Unstructured::new(data)) {
        hostile::run_registry(&script);
    }
}

/// Any calls of the public API, in one thread, so that each answer is known beforehand (invariants I1, I2, I3).
pub fn run_ops(data: &[u8]) {
    if let Ok(script) = ops::Script::arbitrary(&mut Unstructured::new(data)) {
        ops::run(&script);
    }
}

/// Any message with any descriptors from the other end of a socket: a ring, or a typed error, and every descriptor is closed
/// (invariant I6).
pub fn run_handover(data: &[u8]) {
    handover::parse(data);
    if let Ok(script) = handover::Script::arbitrary(&mut Unstructured::new(data)) {
        handover::run(&script);
    }
}

/// Any calls on typed rings, of values that are some and of bytes that are none (invariants I1, I2, I3 and I6).
pub fn run_typed(data: &[u8]) {
    if let Ok(script) = typed::Script::arbitrary(&mut Unstructured::new(data)) {
        typed::run(&script);
    }
}

/// Any header of a typed ring: opened as what it says, or refused with a text that can be shown (invariant I6).
pub fn run_schema(data: &[u8]) {
    if let Ok(script) = schema::Script::arbitrary(&mut Unstructured::new(data)) {
        schema::run(&script);
    }
}

/// Any names, and any ring directory: nothing is taken for a ring that is none, and nothing else is touched.
pub fn run_names(data: &[u8]) {
    if let Ok(script) = names::Script::arbitrary(&mut Unstructured::new(data)) {
        names::run(&script);
    }
}

/// Any bytes from the peer of a transport, cut anywhere: whole records, or a typed error.
pub fn run_framing(data: &[u8]) {
    if let Ok(script) = framing::Script::arbitrary(&mut Unstructured::new(data)) {
        framing::run(&script);
    }
}
