//! Prints the records of a ring as lines: one of the many ends of a pipe that begins with `producer.rs`.
//!
//! ```text
//! cargo run --example consumer -- NAME [--lossy] [--from oldest|newest] [--wait SECS]
//! ```
//!
//! Ends when the producer does. `--lossy` never holds the producer back, and tells on stderr how many records it lost.
//! `--from` says where to begin in what is in the ring already; the oldest record is the default. `--wait SECS` waits that
//! long for the ring to be created.
//!
//! Exit codes: 0 when the ring was closed (or nobody reads stdout any more), 1 for an error, 2 for wrong arguments.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lexopt::{Arg, ValueExt};
use shmcast::{OpenError, Options, Reader, RecvError, Start};

struct Arguments {
    name: String,
    options: Options,
    wait: Duration,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("consumer: {error}; usage: consumer NAME [--lossy] [--from oldest|newest] [--wait SECS]");
            return ExitCode::from(2);
        }
    };
    match open(&arguments).map_err(Into::into).and_then(print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("consumer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    let (mut name, mut options, mut wait) = (None, Options::new(), 0);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("lossy") => options = options.lossy(true),
            Arg::Long("from") => {
                options = options.start(match parser.value()?.string()?.as_str() {
                    "oldest" => Start::Oldest,
                    "newest" => Start::Newest,
                    _ => return Err("--from takes oldest or newest".into()),
                });
            }
            Arg::Long("wait") => wait = parser.value()?.parse()?,
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Arguments { name: name.ok_or("no NAME")?, options, wait: Duration::from_secs(wait) })
}

/// Opens the ring, again and again if it is not there yet.
fn open(arguments: &Arguments) -> Result<Reader, OpenError> {
    let start = Instant::now();
    let mut told = false;
    loop {
        match arguments.options.open(&arguments.name) {
            Err(OpenError::NotFound { path }) if start.elapsed() < arguments.wait => {
                if !told {
                    eprintln!("consumer: waiting for {}", path.display());
                    told = true;
                }
                thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

/// Receives until the ring is closed.
fn print(mut reader: Reader) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut records = Vec::new();
    loop {
        // Waits for a record, and takes what else is there: one write to stdout for all of them.
        match reader.recv_batch(&mut records, 1024) {
            Ok(_) => {
                let written = records.drain(..).try_for_each(|record| {
                    out.write_all(&record)?;
                    out.write_all(b"\n")
                });
                match written.and_then(|()| out.flush()) {
                    // `consumer ... | head` is no error.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    written => written?,
                }
            }
            Err(RecvError::Lagged(lost)) => eprintln!("consumer: lagged behind, {lost} records lost"),
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
