//! `shmcast report`: a saved run, shown again.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::bench::{Shape, saved, shown, write};
use crate::{Failure, out};

/// Shows a report that `shmcast bench --json FILE` has saved: as one HTML page with plots, or as tables.
///
/// The page needs no network and no scripts, and can be read on a phone, in the dark and on paper.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The report; `-`: from standard input
    file: PathBuf,
    /// What it becomes
    #[arg(long = "as", value_name = "SHAPE", default_value = "html")]
    shape: Name,
    /// Where that goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Html,
    Table,
    Markdown,
    Json,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let shape = match arguments.shape {
        Name::Html => Shape::Page,
        Name::Table => Shape::Table,
        Name::Markdown => Shape::Markdown,
        Name::Json => Shape::Json,
    };
    let text = shown(&saved(&arguments.file)?, shape)?;
    match &arguments.output {
        Some(path) => write(path, &text),
        None => out(&text),
    }
}
