//! Sends a file to another process over any of the transports: in chunks, with an end mark, checked by its digest.
//!
//! ```text
//! cargo run --release --features baseline --example file_transfer -- --list
//! cargo run --release --features baseline --example file_transfer -- --transport unix-seqpacket FROM TO
//! ```
//!
//! This process makes the link and starts itself again as the receiver, which it passes its end of the link. A chunk is its number
//! and bytes of the file; the end mark is a number that no chunk has, the length and the SHA-256 digest. The receiver writes to
//! a file beside `TO`, which takes its name only when everything is there. A transport that may lose records may fail: then
//! the receiver says how much was lost, and `TO` is left as it was.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use sha2::{Digest, Sha256};
use shmcast::baseline::{self, Delivery, End, Link, Patience, Place, Reach, ReceiveError, Rules};

/// Bytes of a chunk, where the transport carries as much.
const CHUNK_BYTES: usize = 32 << 10;
/// The number before each chunk, in network byte order.
const NUMBER_BYTES: usize = 8;
/// The number of the end mark.
const END: u64 = u64::MAX;
/// A number, the length of the file, the digest.
const END_BYTES: usize = NUMBER_BYTES + 8 + 32;
/// Far more than the other side needs to start, or to send the next chunk.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was asked for.
enum Task {
    List,
    Send {
        transport: String,
        from: PathBuf,
        to: PathBuf,
    },
    /// As the child that this program starts.
    Receive {
        end: String,
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    let task = match arguments() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("file_transfer: {error}; usage: file_transfer --transport NAME FROM TO, or file_transfer --list");
            return ExitCode::from(2);
        }
    };
    let outcome = match task {
        Task::List => list(),
        Task::Send { transport, from, to } => send(&transport, &from, &to),
        Task::Receive { end, to } => receive(&end, &to),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("file_transfer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Task, lexopt::Error> {
    let (mut transport, mut end, mut paths) = (None, None, Vec::new());
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("transport") => transport = Some(parser.value()?.string()?),
            Long("end") => end = Some(parser.value()?.string()?),
            Long("list") => return Ok(Task::List),
            Value(path) => paths.push(PathBuf::from(path)),
            _ => return Err(argument.unexpected()),
        }
    }
    let mut paths = paths.into_iter();
    match (end, transport, paths.next(), paths.next(), paths.next()) {
        (Some(end), None, Some(to), None, None) => Ok(Task::Receive { end, to }),
        (None, Some(transport), Some(from), Some(to), None) => Ok(Task::Send { transport, from, to }),
        _ => Err("a transport and two paths are wanted".into()),
    }
}

fn list() -> Result<(), Box<dyn Error>> {
    for transport in baseline::all() {
        let rules = transport.rules();
        let why = unfit(&rules).unwrap_or(match rules.delivery {
            Delivery::Lossless => "",
            _ => "may lose chunks",
        });
        println!("{:28} {why}", transport.name());
    }
    Ok(())
}

/// Why a transport cannot do it.
fn unfit(rules: &Rules) -> Option<&'static str> {
    if rules.max_record < END_BYTES {
        Some("cannot: its records are too short")
    } else if rules.reach <= Reach::Forks {
        Some("cannot: it does not reach a program that is started")
    } else {
        None
    }
}

// ---- sender ----

fn send(name: &str, from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let transport =
        baseline::by_name(name).ok_or_else(|| format!("there is no transport {name:?}; --list shows them"))?;
    let rules = transport.rules();
    if let Some(why) = unfit(&rules) {
        return Err(format!("{name} {why}").into());
    }
    let mut file = File::open(from)?;
    let place = Place::new(std::env::temp_dir())?;
    let mut link = Link::make(&*transport, place, 1)?;
    let mut command = Command::new(std::env::current_exe()?);
    let text = link.receivers.remove(0).pass_to(&mut command)?;
    let mut child = command.arg("--end").arg(text).arg(to).spawn()?;
    // It holds the receiver's descriptors, too: with it the sender would not see that the receiver is gone.
    drop(command);

    let start = Instant::now();
    let outcome = send_file(link.sender, &mut file, rules.max_record);
    let status = child.wait()?;
    let bytes = outcome?;
    if !status.success() {
        return Err("the receiver failed".into());
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: {bytes} bytes in {seconds:.3} s, {:.0} MB/s", bytes as f64 / seconds / 1e6);
    Ok(())
}

fn send_file(end: End, file: &mut File, max_record: usize) -> Result<u64, Box<dyn Error>> {
    let mut sender = end.sender(Patience::of(PATIENCE))?;
    let mut record = vec![0; (NUMBER_BYTES + CHUNK_BYTES).min(max_record)];
    let (mut number, mut length, mut digest) = (0_u64, 0_u64, Sha256::new());
    loop {
        // A chunk may be short: the file is read as it comes.
        let count = file.read(&mut record[NUMBER_BYTES..])?;
        if count == 0 {
            break;
        }
        record[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        let chunk = &record[..NUMBER_BYTES + count];
        sender.send_timeout(chunk, PATIENCE)?;
        digest.update(&chunk[NUMBER_BYTES..]);
        number += 1;
        length += count as u64;
    }
    let mut mark = Vec::with_capacity(END_BYTES);
    mark.extend_from_slice(&END.to_be_bytes());
    mark.extend_from_slice(&length.to_be_bytes());
    mark.extend_from_slice(&digest.finalize());
    sender.send_timeout(&mark, PATIENCE)?;
    sender.close();
    Ok(length)
}

// ---- receiver ----

fn receive(text: &str, to: &Path) -> Result<(), Box<dyn Error>> {
    // SAFETY: the text comes from the parent, which passed the end on to this process, and this is the only use of it.
    let end = unsafe { End::from_text(text) }?;
    let rules = baseline::by_name(end.transport_name()).ok_or("there is no such transport")?.rules();
    let mut receiver = end.receiver(Patience::of(PATIENCE))?;

    let mut beside = to.as_os_str().to_owned();
    beside.push(".part");
    let beside = Unfinished(PathBuf::from(beside));
    let mut file = BufWriter::new(File::create(&beside.0)?);
    let mut record = vec![0; (NUMBER_BYTES + CHUNK_BYTES).min(rules.max_record)];
    let (mut next, mut length, mut digest) = (0_u64, 0_u64, Sha256::new());
    loop {
        let received = match receiver.receive_timeout(&mut record, PATIENCE) {
            Ok(received) => received,
            Err(ReceiveError::Closed) => return Err("the sender ended without an end mark".into()),
            Err(error) => return Err(error.into()),
        };
        let (number, bytes) = record[..received.len].split_first_chunk().ok_or("a record without a number")?;
        match u64::from_be_bytes(*number) {
            _ if received.lost > 0 => {
                return Err(format!("{} chunks were lost behind chunk {next}", received.lost).into());
            }
            END => {
                let (said, expected) = bytes.split_first_chunk().ok_or("an end mark without a length")?;
                if u64::from_be_bytes(*said) != length {
                    return Err("not all of the file came".into());
                }
                if digest.finalize()[..] != *expected {
                    return Err("the digest differs: the file was damaged on its way".into());
                }
                break;
            }
            number if number != next => return Err(format!("chunk {number} came instead of {next}").into()),
            _ => {
                file.write_all(bytes)?;
                digest.update(bytes);
                next += 1;
                length += bytes.len() as u64;
            }
        }
    }
    file.into_inner()?.sync_all()?;
    std::fs::rename(&beside.0, to)?;
    Ok(())
}

/// A file that goes again, unless it got another name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
