//! The command line tool. *Feature `cli`.*
//!
//! Standard output has the data, standard error everything else. Exit codes: 0 well done, 1 failed, 2 called wrongly, 128 + n ended by signal n.

mod bench;
mod report;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use clap::{Parser, Subcommand};

/// Why a command did not do its work.
#[derive(Debug)]
enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// Anything else.
    Runtime(String),
    /// A signal ended it.
    Interrupted(i32),
}

/// A lock-free shared-memory ring: one writer, many readers.
#[derive(Debug, Parser)]
#[command(name = "shmcast", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Arguments),
    Report(report::Arguments),
}

/// Writes data to standard output. Who reads it may have enough.
fn out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Runtime(format!("could not write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// The first line of what clap says, which is what is wrong.
fn called_wrongly(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    // What the argument is, and the values that it could have, may stand in lines of their own.
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty() && !line.starts_with("Usage:"));
    let line = lines.collect::<Vec<_>>().join(" ");
    complain(&format!("{}; see `shmcast help`", line.trim_start_matches("error: ")));
    ExitCode::from(2)
}

fn complain(text: &str) {
    // Where that cannot be written, nothing can.
    let _ = writeln!(std::io::stderr(), "shmcast: {text}");
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion) => {
            // To standard output, in colour if it is a terminal; who reads it may have enough.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) if error.kind() == Usage::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        Err(error) => return called_wrongly(&error),
    };
    let outcome = match &arguments.command {
        Command::Bench(arguments) => bench::run(arguments),
        Command::Report(arguments) => report::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            complain(&text);
            ExitCode::from(2)
        }
        Err(Failure::Runtime(text)) => {
            complain(&text);
            ExitCode::FAILURE
        }
        Err(Failure::Interrupted(signal)) => {
            complain("interrupted");
            ExitCode::from(128 + signal as u8)
        }
    }
}
