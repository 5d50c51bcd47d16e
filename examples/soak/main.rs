//! A long verified run: one writer after the other and readers of every kind, in processes that join, leave, stall and are killed.
//!
//! ```text
//! cargo run --release --example soak -- [--seconds N] [--records N] [--interval SECS]
//! ```
//!
//! Runs for a time (a minute by default) or until so many records are published, and prints a line of account per interval. Each
//! record proves itself: its length and every byte follow from its number. Every reader checks each record that it receives, and
//! that the numbers go on, but for losses that it was told. A lossless, a lossy and a following reader stay for the whole run; others
//! come and go, are killed, or stopped until they are evicted. The writer is killed every other second, and the next one takes over.
//!
//! On two cores that do other things, too, 3 to 4 million records are published and 10 to 13 million checked per second: 10^10 checked
//! records take a quarter of an hour, and as many published ones an hour (`--records 10000000000`).
//!
//! `--plant N` makes the writer spoil one byte of a record, the first of at least number N that goes in a batch: the run must find it.
//!
//! Exit codes: 0 if nothing was torn, lost or reordered, 1 with one line if something was, 2 for wrong arguments, 130 when
//! stopped (Ctrl-C). Nothing is left behind; after a SIGKILL `shmcast::gc` removes the ring.

mod parties;
mod records;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::{Arg, ValueExt};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use parties::Kind;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Laps are what is tested: a small ring has many.
const CAPACITY_BYTES: u64 = 1 << 20;
/// A reader that is stopped for longer is evicted.
const STALL_LIMIT: Duration = Duration::from_millis(200);
/// Readers that come and go at one time.
const GUESTS: usize = 2;
/// Between two things that the parent does to the others.
const TICK: Duration = Duration::from_millis(50);
/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Set by Ctrl-C.
static STOPPED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct Arguments {
    seconds: Option<u64>,
    records: Option<u64>,
    interval: Duration,
    planted: Option<u64>,
    role: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("soak: {error}; usage: soak [--seconds N] [--records N] [--interval SECS] [--plant N]");
            return ExitCode::from(2);
        }
    };
    let result = match &arguments.role[..] {
        [] => soak(&arguments),
        [role, ring, rest @ ..] => play(role, ring, rest, arguments.planted),
        [_] => Err("a role without a ring".into()),
    };
    match result {
        Ok(()) if STOPPED.load(Ordering::Relaxed) => ExitCode::from(130),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever it is.
            eprintln!("soak: {}", error.to_string().replace('\n', "; "));
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> std::result::Result<Arguments, lexopt::Error> {
    let mut arguments =
        Arguments { seconds: None, records: None, interval: Duration::from_secs(10), planted: None, role: Vec::new() };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("seconds") => arguments.seconds = Some(parser.value()?.parse()?),
            Arg::Long("records") => arguments.records = Some(parser.value()?.parse()?),
            Arg::Long("interval") => arguments.interval = Duration::from_secs(parser.value()?.parse::<u64>()?.max(1)),
            Arg::Long("plant") => arguments.planted = Some(parser.value()?.parse()?),
            // How this program starts its own processes.
            Arg::Long("role") => {
                arguments.role = parser.values()?.map(ValueExt::string).collect::<std::result::Result<_, _>>()?
            }
            _ => return Err(argument.unexpected()),
        }
    }
    if arguments.seconds.is_none() && arguments.records.is_none() {
        arguments.seconds = Some(60);
    }
    Ok(arguments)
}

/// What a process of the soak does.
fn play(role: &str, ring: &str, rest: &[String], planted: Option<u64>) -> Result<()> {
    // When the parent dies, however it does. Ctrl-C goes to the parent alone.
    set_pdeathsig(Signal::SIGKILL)?;
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    if role == "writer" {
        return parties::writer(ring, planted);
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == role).ok_or("no such role")?;
    let [start, stays] = rest else { return Err("a reader's role has two arguments".into()) };
    let stays = stays.parse().ok().map(Duration::from_millis);
    parties::reader(ring, kind, start == "newest", stays)
}

// ---- the parent ----

/// A process of the soak. Killed when dropped.
struct Party {
    process: Child,
    kind: Option<Kind>,
    /// It stays for the whole run.
    stays: bool,
    /// A writer that has the ring.
    begun: bool,
    killed: bool,
    /// Stopped until then.
    stopped: Option<Instant>,
    ended: bool,
}

impl Party {
    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), signal);
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a party said, or that it said its last word.
enum Event {
    Said(u32, String),
    Silent(u32, String),
}

/// What has happened.
#[derive(Clone, Copy, Default)]
struct Account {
    records: u64,
    position: u64,
    received: u64,
    lost: u64,
    bytes: u64,
    evicted: u64,
    joins: u64,
    leaves: u64,
    writers_killed: u64,
    readers_killed: u64,
}

impl Account {
    fn print(&self, before: &Account, elapsed: Duration, interval: Duration) {
        let rate = |now: u64, before: u64| (now - before) as f64 / interval.as_secs_f64() / 1e6;
        println!(
            "{:>7.1} s  {} records, {} laps, {} received, {} bytes, {} lost, {} evicted, {} joins, {} leaves, {} writers and {} readers killed, 0 torn; {:.2} M published/s, {:.2} M checked/s",
            elapsed.as_secs_f64(),
            self.records,
            self.position / CAPACITY_BYTES,
            self.received,
            self.bytes,
            self.lost,
            self.evicted,
            self.joins,
            self.leaves,
            self.writers_killed,
            self.readers_killed,
            rate(self.records, before.records),
            rate(self.received, before.received),
        );
    }
}

/// The run as the parent sees it.
struct Soak<'a> {
    ring: String,
    arguments: &'a Arguments,
    parties: BTreeMap<u32, Party>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    account: Account,
    random: u64,
    closed: Option<u64>,
    /// Where readers ended that read to the end.
    ends: Vec<u64>,
}

/// Removes the ring, however the run ends.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = shmcast::remove(&self.0);
    }
}

fn soak(arguments: &Arguments) -> Result<()> {
    stop_on_signals()?;
    let (sender, events) = channel();
    let ring = format!("soak-{}", std::process::id());
    // Dropped behind the parties.
    let _removed = Removed(ring.clone());
    let (account, random) = (Account::default(), u64::from(std::process::id()));
    let mut soak = Soak {
        ring,
        arguments,
        parties: BTreeMap::new(),
        events,
        sender,
        account,
        random,
        closed: None,
        ends: Vec::new(),
    };
    soak.run()
}

/// Children inherit the mask, and unblock nothing: they end when they are told to, or with this process.
fn stop_on_signals() -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    thread::spawn(move || {
        let _ = signals.wait();
        STOPPED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

impl Soak<'_> {
    fn run(&mut self) -> Result<()> {
        self.begin_writing()?;
        for kind in [Kind::Lossless, Kind::Lossy, Kind::Follower] {
            self.begin_reading(kind, false, None)?;
        }
        let start = Instant::now();
        let (mut printed, mut before) = (start, self.account);
        let (mut next_death, mut due) = (start + Duration::from_secs(1), false);
        while !due && !STOPPED.load(Ordering::Relaxed) {
            self.hear(TICK)?;
            self.disturb()?;
            if Instant::now() >= next_death {
                self.replace_writer()?;
                next_death = Instant::now() + Duration::from_secs(2);
            }
            if printed.elapsed() >= self.arguments.interval {
                self.account.print(&before, start.elapsed(), printed.elapsed());
                (printed, before) = (Instant::now(), self.account);
            }
            let Arguments { seconds, records, .. } = self.arguments;
            due = seconds.is_some_and(|seconds| start.elapsed().as_secs() >= seconds)
                || records.is_some_and(|records| self.account.records >= records);
        }
        self.end()?;
        self.account.print(&Account::default(), start.elapsed(), start.elapsed());
        Ok(())
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn start(&mut self, role: &[&str], kind: Option<Kind>, stays: bool) -> Result<u32> {
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(planted) = self.arguments.planted {
            command.args(["--plant", &planted.to_string()]);
        }
        command.arg("--role").args(role).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let id = process.id();
        let (out, error) = (process.stdout.take().ok_or("no pipe")?, process.stderr.take().ok_or("no pipe")?);
        let sender = self.sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
                if sender.send(Event::Said(id, line)).is_err() {
                    return;
                }
            }
            let mut complaint = String::new();
            let _ = BufReader::new(error).read_to_string(&mut complaint);
            let _ = sender.send(Event::Silent(id, complaint));
        });
        let party = Party { process, kind, stays, begun: false, killed: false, stopped: None, ended: false };
        self.parties.insert(id, party);
        Ok(id)
    }

    fn begin_writing(&mut self) -> Result<()> {
        let ring = self.ring.clone();
        let id = self.start(&["writer", &ring], None, true)?;
        let begun = Instant::now();
        // The others wait until there is a ring.
        while self.parties.get(&id).is_some_and(|party| !party.begun) {
            self.hear(TICK)?;
            if begun.elapsed() > LIMIT {
                return Err("the writer does not begin".into());
            }
        }
        Ok(())
    }

    fn begin_reading(&mut self, kind: Kind, newest: bool, stays: Option<u64>) -> Result<()> {
        let ring = self.ring.clone();
        let (start, time) =
            (if newest { "newest" } else { "oldest" }, stays.map_or("-".into(), |time| time.to_string()));
        self.start(&[kind.name(), &ring, start, &time], Some(kind), stays.is_none())?;
        Ok(())
    }

    /// Kills the writer wherever it is, and starts the next one.
    fn replace_writer(&mut self) -> Result<()> {
        let writer = self.parties.iter_mut().find(|(_, party)| party.kind.is_none());
        if let Some((_, party)) = writer {
            party.killed = true;
            let _ = party.process.kill();
            let _ = party.process.wait();
            self.account.writers_killed += 1;
        }
        self.begin_writing()
    }

    /// One thing to one of the guests: another one, a death, or a stop.
    fn disturb(&mut self) -> Result<()> {
        for party in self.parties.values_mut() {
            if party.stopped.is_some_and(|until| Instant::now() >= until) {
                party.signal(Signal::SIGCONT);
                party.stopped = None;
            }
        }
        let guests: Vec<u32> = self
            .parties
            .iter()
            .filter(|(_, party)| !party.stays && !party.killed && !party.ended)
            .map(|(&id, _)| id)
            .collect();
        if guests.len() < GUESTS {
            let (kind, newest) = (Kind::ALL[self.draw(4) as usize], self.draw(2) == 0);
            let stays = 100 + self.draw(3000);
            return self.begin_reading(kind, newest, Some(stays));
        }
        let guest = guests[self.draw(guests.len() as u64) as usize];
        let (kills, stops) = (self.draw(40) == 0, self.draw(40) == 0);
        if let Some(party) = self.parties.get_mut(&guest) {
            if kills {
                party.killed = true;
                let _ = party.process.kill();
                self.account.readers_killed += 1;
            } else if stops && party.stopped.is_none() {
                party.signal(Signal::SIGSTOP);
                party.stopped = Some(Instant::now() + 2 * STALL_LIMIT);
            }
        }
        Ok(())
    }

    /// Hears what the parties have to say, for some time.
    fn hear(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Said(id, line)) => self.said(id, &line)?,
                Ok(Event::Silent(id, complaint)) => self.silent(id, complaint.trim())?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    fn said(&mut self, id: u32, line: &str) -> Result<()> {
        let Some(party) = self.parties.get_mut(&id) else { return Ok(()) };
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let account = &mut self.account;
        match (what, &numbers[..]) {
            ("begins", &[sequence, position]) => {
                party.begun = true;
                if sequence < account.records {
                    return Err(format!("a successor begins at {sequence}, behind {}", account.records).into());
                }
                (account.records, account.position) = (sequence, position);
            }
            ("wrote", &[sequence, position]) => (account.records, account.position) = (sequence, position),
            ("closed", &[sequence, position]) => {
                (account.records, account.position) = (sequence, position);
                self.closed = Some(sequence);
            }
            ("joined", [_]) => account.joins += 1,
            ("read", &[received, lost, bytes, evicted]) => {
                account.received += received;
                account.lost += lost;
                account.bytes += bytes;
                account.evicted += evicted;
            }
            ("left", [_, _]) => {
                account.leaves += 1;
                party.ended = true;
            }
            ("ended", &[_, next]) => {
                party.ended = true;
                self.ends.push(next);
            }
            _ => return Err(format!("a process said {line:?}").into()),
        }
        Ok(())
    }

    /// A party has ended: was it to?
    fn silent(&mut self, id: u32, complaint: &str) -> Result<()> {
        let Some(mut party) = self.parties.remove(&id) else { return Ok(()) };
        let status = party.process.wait()?;
        let well = status.success() && (party.ended || self.closed.is_some()) || party.killed;
        let who = party.kind.map_or("writer", Kind::name);
        if well {
            Ok(())
        } else {
            Err(format!("{who} {id}: {} ({status})", complaint.trim_start_matches("soak: ")).into())
        }
    }

    /// The writer closes the ring, the readers read it to its end.
    fn end(&mut self) -> Result<()> {
        for party in self.parties.values_mut() {
            party.signal(Signal::SIGCONT);
            if party.kind.is_none() {
                // It hears this.
                drop(party.process.stdin.take());
            }
        }
        let start = Instant::now();
        while !self.parties.is_empty() {
            self.hear(TICK)?;
            if start.elapsed() > LIMIT {
                return Err(format!("{} processes did not end", self.parties.len()).into());
            }
        }
        let closed = self.closed.ok_or("the ring was not closed")?;
        match self.ends.iter().find(|&&end| end != closed) {
            None if self.ends.len() >= 3 => Ok(()),
            None => Err(format!("only {} readers came to the end", self.ends.len()).into()),
            Some(end) => Err(format!("a reader ended at record {end} of {closed}").into()),
        }
    }
}
