//! One command that shows what shmcast does: a producer process streams a file to three consumer processes.
//!
//! ```text
//! cargo run --release --example quickstart -- [FILE]     (this program itself, if no file is named)
//!
//!                                      ┌──▶ consumer 1, lossless  ──┐
//!   FILE ──▶ producer ──▶ named ring ──┼──▶ consumer 2, lossless  ──┼──▶ report of the parent
//!                                      └──▶ consumer 3, lossy     ──┘
//! ```
//!
//! The parent starts itself four more times, in the two roles below: [`producer`] and [`consumer`] are all that uses the
//! ring, and each runs in a process of its own. What the consumers received comes back through pipes.
//!
//! Exit code: 0 if both lossless consumers received the file, byte for byte, and the lossy one knows exactly how many
//! records it missed.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::pause;
use sha2::{Digest, Sha256};
use shmcast::{Options, RecvError, RemoveError, Writer};

/// A record is the time at which it was sent, in this many bytes, and a piece of the file.
const HEADER_BYTES: usize = size_of::<u64>();
const MAX_PIECE_BYTES: usize = 2000;
const CONSUMERS: [&str; 3] = ["lossless", "lossless", "lossy"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = match &arguments[..] {
        [] => std::env::current_exe().map_err(Into::into).and_then(|program| parent(&program)),
        [file] => parent(Path::new(file)),
        [role, ring, file] if role == "producer" => producer(&ring.to_string_lossy(), Path::new(file)),
        [role, ring, kind] if role == "consumer" => consumer(&ring.to_string_lossy(), kind == "lossy"),
        _ => {
            eprintln!("usage: quickstart [FILE]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if io::stderr().is_terminal() {
                eprint!("\r\x1b[K"); // What may be left of the progress bar.
            }
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

// ---- the two roles ----

/// Creates the ring, waits for the consumers, and publishes the file record by record.
fn producer(ring: &str, file: &Path) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?; // When the parent dies.
    let mut file = BufReader::new(File::open(file)?);
    let size = file.get_ref().metadata()?.len();
    // Shows nothing unless stderr is a terminal.
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")?;
    let bar = ProgressBar::new(size).with_style(style);

    let mut writer = Writer::create(ring)?;
    writeln!(io::stdout(), "ready")?; // From now on the ring can be opened.
    writer.wait_for_readers(CONSUMERS.len() as u64, Duration::from_secs(10))?;

    let mut record = [0; HEADER_BYTES + MAX_PIECE_BYTES];
    let mut sent = 0;
    loop {
        // Records are as long as one likes. These have all lengths up to the largest.
        let most = 1 + writer.sequence() as usize * 997 % MAX_PIECE_BYTES;
        let len = file.read(&mut record[HEADER_BYTES..][..most])?;
        if len == 0 {
            break;
        }
        record[..HEADER_BYTES].copy_from_slice(&now()?.to_le_bytes());
        // Waits for room as long as a lossless reader is that far behind. Never waits for a lossy one.
        writer.publish(&record[..HEADER_BYTES + len])?;
        sent += len as u64;
        if writer.sequence() % 1024 == 0 {
            bar.set_position(sent);
        }
    }
    bar.finish_and_clear();
    writeln!(io::stdout(), "{}", writer.sequence())?;
    // Dropping the writer closes the ring and removes its name. Consumers read on to the end.
    Ok(())
}

/// Opens the ring, receives until it is closed, and reports.
fn consumer(ring: &str, lossy: bool) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut reader = Options::new().lossy(lossy).open(ring)?;

    let mut report = Report::default();
    let mut latency = Histogram::<u64>::new(3)?;
    let mut digest = Sha256::new();
    let mut first = None;
    let mut buffer = vec![0; reader.max_payload()];
    loop {
        match reader.recv_into(&mut buffer) {
            Ok(received) => {
                let now = now()?;
                let record = buffer[..received.len].split_first_chunk::<HEADER_BYTES>();
                let (sent, piece) = record.ok_or("a record without a header")?;
                let sent = u64::from_le_bytes(*sent);
                report.received += 1;
                report.bytes += piece.len() as u64;
                report.nanoseconds = now - *first.get_or_insert(sent);
                latency.record(now - sent)?;
                digest.update(piece);
            }
            // Only lossy readers get this: the writer was a whole ring ahead, and overwrote this many records. It is no
            // failure. Count them, or ask somebody for what is missing, and go on: the next receive reads behind the gap.
            Err(RecvError::Lagged(records)) => report.lost += records,
            // The writer is done, and so is this reader: there was nothing left to read.
            Err(RecvError::Closed) => break,
            // The parent has lost its producer, says so, and ends this process, too.
            Err(RecvError::WriterDied) => pause(),
            Err(error) => return Err(error.into()),
        }
    }
    report.latency = [0.5, 0.99, 0.999].map(|quantile| latency.value_at_quantile(quantile));
    report.digest = format!("{:x}", digest.finalize());
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

/// The time in nanoseconds, by a clock that all processes of a machine share. (`Instant` cannot be sent to another one.)
fn now() -> Result<u64> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())?)
}

// ---- the parent ----

/// Runs the four processes and prints what they report.
fn parent(file: &Path) -> Result<()> {
    let at = |error: io::Error| format!("{}: {error}", file.display());
    if !fs::metadata(file).map_err(at)?.is_file() {
        return Err(format!("{}: not a regular file", file.display()).into());
    }
    File::open(file).map_err(at)?;
    let mut run = Run::new()?;

    // A consumer opens the ring once it is there.
    let mut published = run.start("producer", file.as_os_str())?;
    let mut ready = String::new();
    published.read_line(&mut ready)?;
    let mut outputs = Vec::new();
    if !ready.is_empty() {
        for kind in CONSUMERS {
            outputs.push(run.start("consumer", kind.as_ref())?);
        }
    }
    run.wait()?;
    drop(run);

    let published: u64 = io::read_to_string(published)?.trim().parse()?;
    let mut reports = Vec::new();
    for output in outputs {
        reports.push(Report::parse(&io::read_to_string(output)?).ok_or("a consumer sent no report")?);
    }
    let mut digest = Sha256::new();
    let size = io::copy(&mut File::open(file).map_err(at)?, &mut digest)?;
    let digest = format!("{:x}", digest.finalize());

    let (text, good) = render(published, &digest, &reports);
    let head = format!("{}: {} bytes in {} records\n\n", file.display(), HumanCount(size), HumanCount(published));
    match io::stdout().write_all((head + &text).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if good { Ok(()) } else { Err("not everything arrived as it should".into()) }
}

/// The processes of one run and the name of their ring. Dropping it leaves neither. (If the parent itself is killed with
/// SIGKILL, its children die with it, but the ring stays: `shmcast::remove` removes it.)
struct Run {
    ring: String,
    children: Vec<(&'static str, Child)>,
    signals: SigSet,
}

impl Run {
    fn new() -> Result<Run> {
        // Signals wait until `wait` takes them, so that none ends the parent before it has cleaned up. Children inherit
        // that: Ctrl-C reaches them too, but it is the parent that ends them.
        let signals =
            SigSet::from_iter([Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
        signals.thread_block()?;
        // A name that no other run has.
        let ring = format!("quickstart-{}-{:x}", std::process::id(), getrandom::u64()?);
        Ok(Run { ring, children: Vec::new(), signals })
    }

    /// Starts this program in a role. Answers what it prints.
    fn start(&mut self, role: &'static str, argument: &OsStr) -> Result<BufReader<ChildStdout>> {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.arg(role).arg(&self.ring).arg(argument).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("a child without a pipe")?;
        self.children.push((role, child));
        Ok(BufReader::new(output))
    }

    /// Waits until all children have ended well, or the first has not, or a signal says stop.
    fn wait(&mut self) -> Result<()> {
        loop {
            let mut running = 0;
            for (role, child) in &mut self.children {
                match child.try_wait()? {
                    None => running += 1,
                    Some(status) if status.success() => {}
                    Some(status) => return Err(format!("a {role} failed: {status}").into()),
                }
            }
            if running == 0 {
                return Ok(());
            }
            match self.signals.wait()? {
                Signal::SIGCHLD => {}
                signal => return Err(format!("stopped by {signal}").into()),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // No effect on those that have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        // The producer removes its ring, unless it was killed.
        match shmcast::remove(&self.ring) {
            Ok(()) | Err(RemoveError::NotFound { .. }) => {}
            Err(error) => eprintln!("quickstart: {error}"),
        }
        let _ = self.signals.thread_unblock();
    }
}

// ---- the report ----

/// What a consumer found, as it is sent to the parent: on one line, in this order.
#[derive(Default)]
struct Report {
    received: u64,
    lost: u64,
    bytes: u64,
    /// From the send of its first record to the receipt of its last.
    nanoseconds: u64,
    /// p50, p99, p99.9 in nanoseconds.
    latency: [u64; 3],
    digest: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { received, lost, bytes, nanoseconds, latency: [p50, p99, p999], digest } = self;
        write!(f, "{received} {lost} {bytes} {nanoseconds} {p50} {p99} {p999} {digest}")
    }
}

impl Report {
    fn parse(line: &str) -> Option<Report> {
        let mut words = line.split_whitespace();
        let mut number = || words.next()?.parse().ok();
        Some(Report {
            received: number()?,
            lost: number()?,
            bytes: number()?,
            nanoseconds: number()?,
            latency: [number()?, number()?, number()?],
            digest: words.next()?.to_owned(),
        })
    }

    /// So much per second.
    fn rate(&self, amount: u64) -> f64 {
        amount as f64 * 1e9 / self.nanoseconds.max(1) as f64
    }
}

/// The table and the verdicts below it, and whether these are good.
fn render(published: u64, digest: &str, reports: &[Report]) -> (String, bool) {
    let mut rows = vec![
        ["consumer", "received", "lost", "bytes", "MB/s", "records/s", "p50 µs", "p99 µs", "p99.9 µs"]
            .map(str::to_owned),
    ];
    let (mut verdicts, mut good) = (String::new(), true);
    for (number, (kind, report)) in (1..).zip(CONSUMERS.iter().zip(reports)) {
        let Report { received, lost, bytes, .. } = report;
        let count = |count| HumanCount(count).to_string();
        let [p50, p99, p999] = report.latency.map(|nanoseconds| format!("{:.1}", nanoseconds as f64 / 1e3));
        rows.push([
            format!("{number} {kind}"),
            count(*received),
            count(*lost),
            count(*bytes),
            format!("{:.1}", report.rate(*bytes) / 1e6),
            count(report.rate(*received) as u64),
            p50,
            p99,
            p999,
        ]);
        let (verdict, holds) = if *kind == "lossless" {
            let whole = report.digest == digest && *lost == 0;
            let equal = if whole { "equal to the file" } else { "NOT EQUAL to the file" };
            (format!("sha256 {}, {equal}", report.digest), whole)
        } else {
            let sum = received + lost;
            let equal = if sum == published { "all" } else { "NOT all" };
            (format!("received {received} + lost {lost} = {sum}: {equal} of {published} published"), sum == published)
        };
        good &= holds;
        let _ = writeln!(verdicts, "{number} {kind}: {verdict}");
    }
    let mut text = String::new();
    for [name, numbers @ ..] in &rows {
        let _ = write!(text, "{name:<10}");
        for (number, width) in numbers.iter().zip([11, 11, 15, 8, 11, 11, 11, 11]) {
            let _ = write!(text, "  {number:>width$}");
        }
        text.push('\n');
    }
    let _ = writeln!(text, "\n{verdicts}\n{NOTE}");
    (text, good)
}

const NOTE: &str = "\
Every consumer hashes what it receives, and that sets the pace: `cargo bench` measures the ring alone. Latency is from
just before a record is published until it is received, and the producer runs flat out: so it is mostly queueing (waiting
for room, then in a full ring) and grows with the ring's capacity. It is not the ring's own delay.";
