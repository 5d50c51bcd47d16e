//! The models with deep bounds: each up to the bound that is asked of it, then further, then without any, for as long as there
//! is time. Prints what was explored and what was not complete.
//!
//! ```text
//! cargo run -p loom-tests --example deep -- [--each SECONDS] [--total SECONDS] [part of a name ...]
//! ```
//! `--each`: for one model and one bound, an hour unless said otherwise; `--total`: for all of it, without end unless said.
//! Ends with 1 if a property is broken, and with 2 if a model did not get as far as is asked.
#![allow(missing_docs)]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use loom_tests::model::{Explored, Model};
use loom_tests::models;

/// A bound of preemptions; `None`: exhaustive.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bound(Option<usize>);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bound) => write!(f, "{bound} preemptions"),
            None => f.pad("no bound"),
        }
    }
}

impl Bound {
    /// Does it explore all that the other one does?
    fn covers(self, other: Bound) -> bool {
        self.0.is_none_or(|bound| other.0.is_some_and(|other| bound >= other))
    }
}

/// How far a model came.
struct Account {
    model: &'static Model,
    complete: Option<(Bound, Explored)>,
    cut: Option<(Bound, Explored)>,
}

/// What is asked: one reader at 3 preemptions, two and more at 2; or what the quick run does, if that is more.
fn asked(model: &Model) -> Bound {
    let least = if model.threads == 1 { 3 } else { 2 };
    Bound(model.preemptions.map(|quick| quick.max(least)))
}

/// The bounds of each round.
fn round(model: &Model, round: usize) -> Option<Bound> {
    let asked = asked(model);
    match round {
        0 => Some(asked),
        1 => asked.0.map(|bound| Bound(Some(bound + 1))),
        2 => asked.0.map(|_| Bound(None)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let (mut each, mut total, mut parts) = (Duration::from_secs(3600), Duration::MAX, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut seconds = || {
            let number = words.next().and_then(|word| word.parse().ok());
            Duration::from_secs(number.unwrap_or_else(|| panic!("{word} takes a number of seconds")))
        };
        match word.as_str() {
            "--each" => each = seconds(),
            "--total" => total = seconds(),
            _ => parts.push(word),
        }
    }
    let start = Instant::now();
    let wanted = |model: &&Model| parts.is_empty() || parts.iter().any(|part| model.name.contains(part.as_str()));
    let models = models::ALL.iter().copied().flatten().filter(wanted);
    let mut accounts: Vec<Account> = models.map(|model| Account { model, complete: None, cut: None }).collect();
    for number in 0..3 {
        for account in accounts.iter_mut().filter(|account| account.cut.is_none()) {
            let Some(bound) = round(account.model, number) else { continue };
            let time = each.min(total.saturating_sub(start.elapsed()));
            if time.is_zero() {
                continue;
            }
            let model = account.model;
            let Ok(explored) = catch_unwind(AssertUnwindSafe(|| model.explore(bound.0, time))) else {
                println!("BROKEN with {bound}: {}", model.name);
                return ExitCode::from(1);
            };
            let end = if explored.complete { "complete" } else { "CUT" };
            println!("{bound:<14} {end:<8} {explored}  {}", model.name);
            let end = if explored.complete { &mut account.complete } else { &mut account.cut };
            *end = Some((bound, explored));
        }
    }
    summary(&accounts, start.elapsed())
}

fn summary(accounts: &[Account], time: Duration) -> ExitCode {
    println!("\nHow far each model was explored whole, in {} s:", time.as_secs());
    let (mut executions, mut exhaustive, mut short) = (0, 0, 0);
    for Account { model, complete, cut } in accounts {
        let done = complete.as_ref().filter(|(bound, _)| bound.covers(asked(model)));
        short += usize::from(done.is_none());
        exhaustive += usize::from(done.is_some_and(|(bound, _)| bound.0.is_none()));
        executions += [complete, cut].into_iter().flatten().map(|(_, explored)| explored.executions).sum::<usize>();
        let missing = if done.is_some() { "" } else { "  NOT AS FAR AS IS ASKED" };
        match complete {
            Some((bound, explored)) => println!("{bound:<14} {explored}  {}{missing}", model.name),
            None => println!("nothing        {}{missing}", model.name),
        }
    }
    println!("\nNot complete:");
    for Account { model, cut, .. } in accounts {
        if let Some((bound, explored)) = cut {
            println!("{bound:<14} cut after {explored}  {}", model.name);
        }
    }
    println!(
        "\n{} models, {exhaustive} of them without a bound, {executions} executions; {short} short",
        accounts.len()
    );
    if short > 0 { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
