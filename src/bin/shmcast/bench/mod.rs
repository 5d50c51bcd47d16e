//! `shmcast bench`: what each way of talking costs on this machine, on the same work, in separate processes.
//!
//! ```text
//!   contenders ──▶ run: rounds of jobs ──▶ measure ──▶ crew: forks, watches, cleans up ──▶ work: the loops, in the processes
//!                   │                                                                       control: what they agree on
//!                   ▼                                                                       payload: what they carry
//!                  figures ──▶ result::Report ──▶ table, JSON, html
//! ```

mod contenders;
mod control;
mod crew;
mod figures;
mod html;
#[allow(dead_code, reason = "the benches need more of it")]
#[path = "../../../../benches/floors/mod.rs"]
mod lines;
mod machine;
mod measure;
mod payload;
mod result;
mod run;
mod table;
mod work;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::{Failure, complain, out};
use result::Report;
use run::Plan;
use table::Style;

/// Bytes of the records, unless `--sizes` says otherwise. 4 KiB is the last that every queue carries.
const SIZES: [usize; 6] = [8, 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20];
const MOST_BYTES: usize = 1 << 20;
/// Where the page goes.
const HTML: &str = "shmcast-bench.html";

/// Compares the ring with every classic way for processes to talk, on this machine.
///
/// Sender and receivers are processes of their own, on the first and the last processor. Every record is written in full, read in full and
/// checked. The contenders take turns in every round; the tables have the medians of the rounds. It takes less than 5 minutes, and twice as
/// long with --all; run nothing beside it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Less than a minute: shorter measurements, fewer rounds
    #[arg(long)]
    quick: bool,
    /// Every transport, not only the usual ones of each family
    #[arg(long)]
    all: bool,
    /// Only these transports, or families; --list shows them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Bytes of the records, from 8 to 1M [default: 8,64,1K,4K,64K,1M]
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', value_parser = bytes)]
    sizes: Vec<usize>,
    /// How often everything is measured [default: 7; --quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Writes the report as JSON; `-`: to standard output, instead of the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the report as one page with plots
    #[arg(long, value_name = "FILE", default_value = HTML)]
    html: PathBuf,
    /// Writes no page
    #[arg(long, conflicts_with = "html")]
    no_html: bool,
    /// Prints the tables as Markdown
    #[arg(long)]
    markdown: bool,
    /// Shows the transports that can be measured
    #[arg(long)]
    list: bool,
    /// For tests: how long each measurement takes
    #[arg(long, hide = true, value_name = "MS")]
    slice: Option<u64>,
}

/// `64`, `64K`, `64KiB`, `1M`.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return Err("not a number of bytes, such as 64, 4K or 1M".to_owned()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    let allowed = payload::MIN_BYTES..=MOST_BYTES;
    bytes.filter(|bytes| allowed.contains(bytes)).ok_or_else(|| "records have from 8 bytes to 1M".to_owned())
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        return out(&contenders::list());
    }
    let report = measured(arguments)?;
    for warning in &report.warnings {
        complain(&format!("warning: {}", warning.text));
    }
    if let Some(path) = arguments.json.as_deref().filter(|path| !is_standard(path)) {
        write(path, &shown(&report, Shape::Json)?)?;
    }
    if !arguments.no_html {
        write(&arguments.html, &shown(&report, Shape::Page)?)?;
        complain(&format!("the report with plots is in {}", arguments.html.display()));
    }
    let shape = match &arguments.json {
        Some(path) if is_standard(path) => Shape::Json,
        _ if arguments.markdown => Shape::Markdown,
        _ => Shape::Table,
    };
    out(&shown(&report, shape)?)
}

/// What a report can be shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// HTML with plots.
    Page,
    /// Tables for a terminal.
    Table,
    Markdown,
    Json,
}

pub(crate) fn shown(report: &Report, shape: Shape) -> Result<String, Failure> {
    Ok(match shape {
        Shape::Page => html::render(report),
        Shape::Table => table::print(report, Style::Terminal),
        Shape::Markdown => table::print(report, Style::Markdown),
        Shape::Json => {
            let text = serde_json::to_string_pretty(report);
            text.map_err(|error| Failure::Runtime(format!("could not write JSON: {error}")))? + "\n"
        }
    })
}

fn measured(arguments: &Arguments) -> Result<Report, Failure> {
    let chosen = contenders::chosen(&arguments.only, arguments.all)?;
    let mut sizes = if arguments.sizes.is_empty() { SIZES.to_vec() } else { arguments.sizes.clone() };
    sizes.sort_unstable();
    sizes.dedup();
    let mut files = vec![];
    files.extend(arguments.json.as_deref().filter(|path| !is_standard(path)));
    files.extend((!arguments.no_html).then_some(arguments.html.as_path()));
    for file in files {
        // Now, not in five minutes.
        can_be_written(file)?;
    }
    // Seconds: what it should take, and what it must not exceed.
    let (budget, limit) = if arguments.quick { (44, 55) } else { (235, 285) };
    let times = if arguments.all { 2 } else { 1 };
    let plan = Plan {
        command: command(),
        quick: arguments.quick,
        sizes,
        rounds: arguments.rounds.map_or(if arguments.quick { 3 } else { 7 }, usize::from),
        budget: Duration::from_secs(budget * times),
        limit: Duration::from_secs(limit * times),
        slice: arguments.slice.map(Duration::from_millis),
    };
    run::run(&plan, &chosen)
}

/// What was called, without the directory that it lies in.
fn command() -> String {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    format!("shmcast {}", words.join(" "))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

pub(crate) fn saved(path: &Path) -> Result<Report, Failure> {
    let text = if is_standard(path) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Failure::Runtime(format!("could not read {}: {error}", path.display())))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| Failure::Runtime(format!("{} is no report of `shmcast bench`: {error}", path.display())))?;
    if report.schema != result::SCHEMA {
        let (found, known) = (report.schema, result::SCHEMA);
        return Err(Failure::Runtime(format!("the report has schema {found}, and this program knows {known}")));
    }
    Ok(report)
}

fn could_not_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Runtime(format!("could not write {}: {error}", path.display()))
}

fn can_be_written(path: &Path) -> Result<(), Failure> {
    let existed = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| could_not_write(path, &error))?;
    if !existed {
        std::fs::remove_file(path).map_err(|error| could_not_write(path, &error))?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| could_not_write(path, &error))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (text, value) in [("8", 8), ("64b", 64), ("1K", 1024), ("64KiB", 65536), ("1m", 1 << 20)] {
            assert_eq!(bytes(text), Ok(value));
        }
        for text in ["", "7", "2M", "-8", "8x", "1e3", "K", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }
}
