//! Plays seeded schedules of the protocol: see [`loom_tests::simulator`].
//!
//! ```text
//! cargo run --release -p loom-tests --bin simulate -- [--seeds N] [--from SEED]
//! cargo run --release -p loom-tests --bin simulate -- --mutants N
//! ```
//!
//! Plays N schedules (a million by default) from a seed on (0), and says what happened in them. Ends at the first in which something is
//! wrong, with its seed, what is wrong, the last accesses of each party, and the command that plays it again. `--mutants N` hunts each
//! mutant of `loom_tests::mutants` with N schedules, and prints the table.
//!
//! Exit codes: 0, 1 if something was wrong, 2 for wrong arguments.

use std::process::ExitCode;
use std::time::Instant;

use loom_tests::mutants;
use loom_tests::simulator::{Simulator, hunt};

fn main() -> ExitCode {
    let Some(Arguments { from, seeds, mutants }) = arguments() else {
        eprintln!("usage: simulate [--seeds N] [--from SEED], or simulate --mutants N");
        return ExitCode::from(2);
    };
    if let Some(seeds) = mutants {
        return hunt_all(seeds);
    }
    // What a party panicked with is in the report; where is said here.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            println!("at {place}:");
        }
    }));
    let (start, mut simulator) = (Instant::now(), Simulator::new(&[]));
    for (count, seed) in (1..).zip(from..from + seeds) {
        if let Err(why) = simulator.play(seed) {
            println!("seed {seed}: {why}");
            println!("again: cargo run --release -p loom-tests --bin simulate -- --from {seed} --seeds 1");
            return ExitCode::FAILURE;
        }
        if count % 100_000 == 0 || count == seeds {
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "seeds {from}..={seed}, {seconds:.1} s, {:.0} schedules/s: {}",
                count as f64 / seconds,
                simulator.tally()
            );
        }
    }
    ExitCode::SUCCESS
}

struct Arguments {
    from: u64,
    seeds: u64,
    mutants: Option<u64>,
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments { from: 0, seeds: 1_000_000, mutants: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--from" => found.from = value,
            "--seeds" => found.seeds = value,
            "--mutants" => found.mutants = Some(value),
            _ => return None,
        }
    }
    Some(found)
}

/// The table of mutants: after how many schedules one failed, and how.
fn hunt_all(seeds: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mutants = [mutants::all(), mutants::beyond_loom(), mutants::beyond_both()].concat();
    let mut unseen = Vec::new();
    for mutant in &mutants {
        let found = hunt(&mutant.mutations, seeds);
        let (count, why) = found.as_ref().map_or(("-".to_owned(), "not seen"), |(count, why)| {
            (count.to_string(), why.lines().next().unwrap_or_default())
        });
        println!("{:<50} | {:<22} | {count:>7} | {why}", mutant.name(), mutant.pair);
        if found.is_none() {
            unseen.push(mutant.name());
        }
    }
    println!(
        "{} of {} seen within {seeds} schedules each; not seen: {unseen:?}",
        mutants.len() - unseen.len(),
        mutants.len()
    );
    ExitCode::SUCCESS
}
