//! Publishes the lines of stdin: the one end of a pipe with many other ends. See `consumer.rs` for those.
//!
//! ```text
//! cargo run --example producer -- NAME [--readers N] [--capacity BYTES] < input
//! ```
//!
//! Each line is a record, without its newline. `--readers N` waits for N readers before the first line, so that none of
//! them misses it. At the end of the input, or when it is stopped (Ctrl-C), the ring is closed and its name removed;
//! readers that are there read on to the end.
//!
//! Exit codes: 0, 1 for an error, 2 for wrong arguments, 130 when stopped.

use std::error::Error;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use lexopt::{Arg, ValueExt};
use nix::sys::signal::{SigSet, Signal};
use shmcast::{Options, PublishTimeoutError, Writer};

/// Set by Ctrl-C.
static STOPPED: AtomicBool = AtomicBool::new(false);
/// How long a call may wait until it is time to look at [`STOPPED`].
const LOOK: Duration = Duration::from_millis(100);

struct Arguments {
    name: String,
    readers: u64,
    options: Options,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("producer: {error}; usage: producer NAME [--readers N] [--capacity BYTES] < input");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) if STOPPED.load(Ordering::Relaxed) => ExitCode::from(130),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("producer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    let (mut name, mut readers, mut options) = (None, 0, Options::new());
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("readers") => readers = parser.value()?.parse()?,
            Arg::Long("capacity") => options = options.capacity(parser.value()?.parse()?),
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Arguments { name: name.ok_or("no NAME")?, readers, options })
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let lines = lines_until_stopped()?;
    let mut writer = arguments.options.create(&arguments.name)?;
    while writer.wait_for_readers(arguments.readers, LOOK).is_err() {
        if STOPPED.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    for (number, line) in (1..).zip(lines) {
        let Some(line) = line else { break };
        publish(&mut writer, &line?).map_err(|error| format!("line {number}: {error}"))?;
    }
    // Dropping the writer closes the ring and removes its name.
    Ok(())
}

/// Publishes one record, unless stopped while there is no room for it: a lossless reader may take its time.
fn publish(writer: &mut Writer, line: &[u8]) -> Result<(), PublishTimeoutError> {
    loop {
        match writer.publish_timeout(line, LOOK) {
            Err(PublishTimeoutError::Timeout) if !STOPPED.load(Ordering::Relaxed) => {}
            Err(PublishTimeoutError::Timeout) | Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

type Line = Option<io::Result<Vec<u8>>>;

/// The lines of stdin, then `None`. That comes early when a signal says stop: were the process to die of it instead, the
/// ring would never be closed.
fn lines_until_stopped() -> nix::Result<Receiver<Line>> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Threads inherit this: the signals wait until one thread takes them.
    signals.thread_block()?;
    let (sender, lines) = sync_channel(1024);
    let stop = sender.clone();
    thread::spawn(move || send_lines(&sender));
    thread::spawn(move || {
        let _ = signals.wait();
        STOPPED.store(true, Ordering::Relaxed);
        let _ = stop.send(None);
    });
    Ok(lines)
}

fn send_lines(sender: &SyncSender<Line>) {
    for line in io::stdin().lock().split(b'\n') {
        if sender.send(Some(line)).is_err() {
            return;
        }
    }
    let _ = sender.send(None);
}
