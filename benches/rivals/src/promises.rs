//! What was asked of shmcast before it was built, and what this run got.

use crate::harness::ours::{BYTES, TYPED};
use crate::harness::plan::{HAND_OFF, Kind, MAILBOX, TWO_LINES, Table};
use crate::harness::report::{LOSSY, Measured, cell, size};

/// What is wanted of one size: of streams at least, of round trips at most.
struct Wanted {
    typed: f64,
    bytes: f64,
}

/// Rates of single calls, x the best rival's.
fn single(size: usize) -> Wanted {
    let (typed, bytes) = match size {
        8 => (1.0, 0.7),
        64 => (1.4, 1.2),
        1024 => (1.8, 1.8),
        _ => (0.95, 0.95),
    };
    Wanted { typed, bytes }
}

/// Rates of batches, x the best rival's.
const BATCHES: f64 = 1.0;
/// Rates with two readers on one processor, x the best rival's.
const TWO_READERS: f64 = 0.95;
/// Rate of a lossy reader that is not lapped, x the lossless one's.
const OF_LOSSLESS: f64 = 0.9;
/// Round trips, x the best rival's.
const BEHIND_A_RIVAL: f64 = 1.1;

/// Round trips, x which floor.
fn round_trip(size: usize) -> (f64, &'static str) {
    match size {
        ..64 => (1.1, TWO_LINES),
        64 => (1.2, TWO_LINES),
        1024 => (1.2, MAILBOX),
        _ => (1.0, MAILBOX),
    }
}

/// Prints a line for each of them that this run has the figures for.
pub(crate) fn print(measured: &[Measured]) {
    let lines: Vec<String> = measured.iter().flat_map(lines).collect();
    if lines.is_empty() {
        return;
    }
    println!("\n## Wanted and got\n");
    println!("Rates are better the larger they are, times (of latency) the smaller.\n");
    for line in lines {
        println!("- {line}");
    }
}

fn lines(one: &Measured) -> Vec<String> {
    if one.kept.is_empty() {
        return Vec::new();
    }
    let rate = |family, what: &str, wanted| rate(one, family, what, wanted);
    let wanted = single(one.group.size);
    let mut lines = match one.group.table {
        Table::Single { readers: 1 } => {
            vec![rate(TYPED, "typed single", wanted.typed), rate(BYTES, "bytes single", wanted.bytes)]
        }
        Table::Single { .. } => {
            vec![
                rate(TYPED, "typed single, two readers", TWO_READERS),
                rate(BYTES, "bytes single, two readers", TWO_READERS),
            ]
        }
        Table::Batch { readers: 1 } => vec![rate(TYPED, "typed batch", BATCHES)],
        Table::Batch { .. } => vec![rate(TYPED, "typed batch, two readers", TWO_READERS)],
        Table::RoundTrip => [(TYPED, "typed latency"), (BYTES, "bytes latency")]
            .into_iter()
            .flat_map(|(family, what)| [beside_floor(one, family, what), beside_rival(one, family, what)])
            .collect(),
    };
    lines.extend(LOSSY.iter().map(|(lossy, lossless)| {
        let got = one.ratio(lossless, lossy)?;
        Some(line(one, lossy, got, lossless, Bound::AtLeast(OF_LOSSLESS), lossy))
    }));
    lines.into_iter().flatten().collect()
}

/// The fastest of ours whose name begins so, with lossless readers.
fn fastest(one: &Measured, family: &str) -> Option<&'static str> {
    let lossy = |name| LOSSY.iter().any(|(lossy, _)| *lossy == name);
    one.fastest(|entry| entry.kind == Kind::Ours && entry.name.starts_with(family) && !lossy(entry.name))
}

fn rate(one: &Measured, family: &str, what: &str, wanted: f64) -> Option<String> {
    let (ours, rival) = (fastest(one, family)?, one.best_rival()?);
    let share = cell(one.ratio(HAND_OFF, ours), 2);
    let by = format!("{ours}, {share} of the hand-off");
    Some(line(one, what, one.ratio(rival, ours)?, rival, Bound::AtLeast(wanted), &by))
}

fn beside_floor(one: &Measured, family: &str, what: &str) -> Option<String> {
    let (ours, (wanted, floor)) = (fastest(one, family)?, round_trip(one.group.size));
    Some(line(one, what, one.ratio(ours, floor)?, floor, Bound::AtMost(wanted), ours))
}

fn beside_rival(one: &Measured, family: &str, what: &str) -> Option<String> {
    let (ours, rival) = (fastest(one, family)?, one.best_rival()?);
    Some(line(one, what, one.ratio(ours, rival)?, rival, Bound::AtMost(BEHIND_A_RIVAL), ours))
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

fn line(one: &Measured, what: &str, got: f64, of: &str, bound: Bound, by: &str) -> String {
    let (met, wanted) = match bound {
        Bound::AtLeast(wanted) => (got >= wanted, format!("wanted {wanted}")),
        Bound::AtMost(wanted) => (got <= wanted, format!("wanted at most {wanted}")),
    };
    let met = if met { "met" } else { "MISSED" };
    format!("{what} {}: {got:.2} x {of} ({wanted}): {met}, by {by}", size(one.group.size))
}
