//! One `epoll` loop that serves a ring, a socket and a pipe, each from a process of its own; and what the ring pays for it.
//!
//! ```text
//! cargo run --release --features baseline --example multiplexer -- --records 2000
//! ```
//!
//! A socket and a pipe have a descriptor, and `epoll` waits for it. A ring has none: its readers wait on a word in shared memory. So a
//! thread, the bridge, receives from the ring and rings an `eventfd`. That costs, for each record, a copy, an allocation and, when the
//! loop had caught up, a system call and the wakeup of a thread: far more than the ring itself. The last line of the table shows
//! it: the same ring, from the same kind of process, read without a bridge. A program with a thread to spare for the ring does that.

use std::error::Error;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use lexopt::prelude::*;
use nix::time::{ClockId, clock_gettime};
use shmcast::baseline::{
    self, Bridge, End, Event, Link, Multiplexer, Names, Patience, Place, ReceiveError, Receiver, With,
};

/// What is served.
const SOURCES: [&str; 3] = ["ring-memfd-park", "unix-seqpacket-named", "pipe"];
/// Each record is a time and a number.
const RECORD_BYTES: usize = 16;
/// Between two records of a source.
const PACE: Duration = Duration::from_micros(200);
/// Far more than another process needs to start.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let (records, end) = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("multiplexer: {error}; usage: multiplexer [--records N]");
            return ExitCode::from(2);
        }
    };
    let outcome = match end {
        Some(text) => send(&text, records),
        None => serve(records),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multiplexer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The number of records, and, in a child that this program starts, its end of a link.
fn arguments() -> Result<(u64, Option<String>), lexopt::Error> {
    let (mut records, mut end) = (2000, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("records") => records = parser.value()?.parse()?,
            Long("end") => end = Some(parser.value()?.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((records, end))
}

/// Nanoseconds of the clock that all processes share.
fn now() -> Result<u64, nix::Error> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos()).unwrap_or(u64::MAX))
}

// ---- a source ----

fn send(text: &str, records: u64) -> Result<(), Box<dyn Error>> {
    // SAFETY: the text comes from the parent, which passed the end on to this process, and this is the only use of it.
    let mut sender = unsafe { End::from_text(text) }?.sender(Patience::of(PATIENCE))?;
    for number in 0..records {
        std::thread::sleep(PACE);
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&now()?.to_be_bytes());
        record[8..].copy_from_slice(&number.to_be_bytes());
        sender.send(&record)?;
    }
    sender.close();
    Ok(())
}

/// A started source, and what its link left in the system.
struct Source {
    process: Child,
    _names: Names,
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Source {
    fn start(name: &str, records: u64) -> Result<(Source, Box<dyn Receiver>), Box<dyn Error>> {
        let transport = baseline::by_name(name).ok_or("there is no such transport")?;
        let place = Place::new(std::env::temp_dir())?;
        let Link { sender, mut receivers, names, .. } = Link::make(&*transport, place, 1)?;
        let mut command = Command::new(std::env::current_exe()?);
        let text = sender.pass_to(&mut command)?;
        let process = command.arg("--records").arg(records.to_string()).arg("--end").arg(text).spawn()?;
        drop(command);
        let source = Source { process, _names: names };
        Ok((source, receivers.remove(0).receiver(Patience::of(PATIENCE))?))
    }
}

// ---- the loop ----

/// What came from one source.
#[derive(Default)]
struct Arrivals {
    /// Nanoseconds on the way.
    delays: Vec<u64>,
}

impl Arrivals {
    fn add(&mut self, record: &[u8]) -> Result<(), Box<dyn Error>> {
        let (sent, number) = record.split_first_chunk().ok_or("a short record")?;
        let number = u64::from_be_bytes(number.try_into()?);
        if number != self.delays.len() as u64 {
            return Err(format!("record {number} came instead of {}", self.delays.len()).into());
        }
        self.delays.push(now()?.saturating_sub(u64::from_be_bytes(*sent)));
        Ok(())
    }

    fn print(mut self, name: &str, expected: u64) -> Result<(), Box<dyn Error>> {
        if self.delays.len() as u64 != expected {
            return Err(format!("{} records of {expected} came from {name}", self.delays.len()).into());
        }
        self.delays.sort_unstable();
        let at =
            |share: usize| self.delays.get(self.delays.len() * share / 100).map_or(0.0, |nanos| *nanos as f64 / 1e3);
        println!("{name:34} {expected:8} {:10.1} {:10.1}", at(50), at(99));
        Ok(())
    }
}

fn serve(records: u64) -> Result<(), Box<dyn Error>> {
    let mut many = Multiplexer::new(With::Epoll)?;
    let mut sources = Vec::new();
    for name in SOURCES {
        let (source, receiver) = Source::start(name, records)?;
        sources.push(source);
        // What has no descriptor is put behind a bridge.
        let receiver = match receiver.descriptor() {
            Some(_) => receiver,
            None => Box::new(Bridge::over(receiver, RECORD_BYTES)?),
        };
        many.add(receiver)?;
    }
    let mut arrivals: Vec<Arrivals> = SOURCES.map(|_| Arrivals::default()).into();
    let mut buffer = [0; RECORD_BYTES];
    while many.count() > 0 {
        match many.next(&mut buffer, Patience::of(PATIENCE))? {
            (number, Event::Record(received)) => arrivals[number].add(&buffer[..received.len])?,
            (_, Event::End(ReceiveError::Closed)) => {}
            (number, Event::End(error)) => return Err(format!("{}: {error}", SOURCES[number]).into()),
        }
    }
    drop(sources);

    println!("{:34} {:>8} {:>10} {:>10}", "one epoll loop", "records", "median us", "99 % us");
    for (name, arrivals) in SOURCES.into_iter().zip(arrivals) {
        let bridged = if name.starts_with("ring") { " (bridged)" } else { "" };
        arrivals.print(&format!("{name}{bridged}"), records)?;
    }

    let (_source, mut receiver) = Source::start(SOURCES[0], records)?;
    let mut direct = Arrivals::default();
    loop {
        match receiver.receive_timeout(&mut buffer, PATIENCE) {
            Ok(received) => direct.add(&buffer[..received.len])?,
            Err(ReceiveError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    direct.print(&format!("{} (no bridge, no epoll)", SOURCES[0]), records)
}
