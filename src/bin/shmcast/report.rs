//! `shmcast report`: a saved run as one page.

use std::path::PathBuf;

use clap::Args;

use crate::bench::{html, saved, write};
use crate::{Failure, out};

/// Draws a report that `shmcast bench --json FILE` has saved, as one HTML page with plots.
///
/// The page needs no network and no scripts, and can be read on a phone, in the dark and on paper.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The report; `-`: from standard input
    file: PathBuf,
    /// Where the page goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let page = html::render(&saved(&arguments.file)?);
    match &arguments.output {
        Some(path) => write(path, &page),
        None => out(&page),
    }
}
