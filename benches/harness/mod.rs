//! Measures contenders beside bare floors, in two pinned processes: what `two_process` and `rivals` have in common.
//!
//! Three processes: one that watches, sleeps meanwhile and cleans up; one that writes, on the first processor; one that
//! reads, on the last. Every group (a size of a table) is measured once a round, all of its contenders one behind the
//! other, between two raw ping-pongs; where these differ by more than 30 %, that group's round is thrown away.

#[path = "../floors/mod.rs"]
mod floors;
#[path = "../floors/mailbox.rs"]
mod mailbox;

pub(crate) mod carrier;
pub(crate) mod ours;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod rtrb;
pub(crate) mod session;
pub(crate) mod words;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use plan::{Choice, Contender, Entry, Group, Sizes};
use report::Measured;
use session::{Role, Session, Shared};

/// A group's round is thrown away if its two ping-pongs differ by more.
pub(crate) const MOST_DRIFT: f64 = 0.3;
const ROUNDS_KEPT: usize = 9;
/// Rounds for each that is to be kept, until it gives up.
const MOST_ROUNDS_PER_KEPT: usize = 5;
/// How many times shorter a quick run's measurements are.
const QUICK: u64 = 50;
/// Where every ring lies.
const MEMORY: &str = "/dev/shm";
/// A thread's stack: some contenders hand whole payloads over by value.
const STACK_BYTES: usize = 8 << 20;

/// What is measured, and how it is shown.
pub(crate) struct Bench {
    /// How it is called, before the options.
    pub(crate) command: &'static str,
    pub(crate) about: &'static str,
    /// What every name of a run begins with; the process id of its watcher follows.
    pub(crate) run: &'static str,
    pub(crate) sizes: Sizes,
    pub(crate) contenders: fn() -> Vec<Contender>,
    pub(crate) print: fn(&[Measured]),
}

struct Arguments {
    rounds: usize,
    /// What everything is divided by.
    hurry: u64,
    choice: Choice,
}

impl Bench {
    fn help(&self) -> String {
        let numbers = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "\
{}

    {} [ROUNDS] [TABLE]... [--sizes BYTES,...] [--only NAME,...] [--quick]

    ROUNDS         rounds kept of each group ({ROUNDS_KEPT})
    TABLE          only this table: single, batch, two-single, two-batch (`two`: both), latency
    --sizes BYTES  only these sizes: {}; latency {}
    --only NAME    only contenders with NAME in their name (the floors are always there)
    --quick        a fiftieth of the records: shows that everybody works here, not how fast

Lists have commas in between, and all but ROUNDS may be repeated.
",
            self.about,
            self.command,
            numbers(self.sizes.streams),
            numbers(self.sizes.round_trips)
        )
    }

    fn arguments(&self) -> Result<Option<Arguments>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut arguments = Arguments { rounds: ROUNDS_KEPT, hurry: 1, choice: Choice::default() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("rounds") => arguments.rounds = parser.value()?.parse()?,
                Long("size" | "sizes") => {
                    for size in parser.value()?.string()?.split(',') {
                        arguments.choice.add_size(size, &self.sizes)?;
                    }
                }
                Long("only") => {
                    for part in parser.value()?.string()?.split(',') {
                        arguments.choice.add_name(part);
                    }
                }
                Long("quick") => arguments.hurry = QUICK,
                // From `cargo bench`.
                Long("bench") => {}
                Short('h') | Long("help") => return Ok(None),
                Value(value) => {
                    let value = value.string()?;
                    match value.parse() {
                        Ok(rounds) => arguments.rounds = rounds,
                        Err(_) => arguments.choice.add_tables(&value)?,
                    }
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(arguments))
    }

    /// Does what the command line says.
    pub(crate) fn run(&self) -> ExitCode {
        let arguments = match self.arguments() {
            Ok(Some(arguments)) => arguments,
            Ok(None) => {
                print!("{}", self.help());
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                eprintln!("{error}\n\n{}", self.help());
                return ExitCode::from(2);
            }
        };
        let groups = arguments.choice.groups(&(self.contenders)(), &self.sizes);
        if groups.is_empty() || arguments.rounds == 0 {
            eprintln!("nothing is left to measure\n\n{}", self.help());
            return ExitCode::from(2);
        }
        let last = last_processor();
        if last == 0 {
            eprintln!("two processors are needed");
            return ExitCode::FAILURE;
        }
        remove_abandoned_runs(self.run);
        let run = format!("{}{}", self.run, std::process::id());
        let directory = Path::new(MEMORY).join(&run);
        std::fs::create_dir(&directory).expect("a new directory in memory");
        let good = watch(&arguments, groups, &directory, last, self.print);
        session::sweep(Path::new(MEMORY), &run);
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Starts the two ends, and waits until both are gone. When one fails, or somebody interrupts, neither is left alone.
fn watch(arguments: &Arguments, groups: Vec<Group>, directory: &Path, last: usize, print: fn(&[Measured])) -> bool {
    let bytes = Shared::bytes().try_into().expect("not 0");
    // SAFETY: a new mapping; nothing else lies there. Shared, so that both ends see it; never unmapped.
    let memory =
        unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }
            .expect("shared memory");
    // SAFETY: large enough, page-aligned, zeroed, and it lives for ever; nothing else uses it.
    let shared = unsafe { Shared::new(memory.cast()) };
    let (commands, to_second) = pipe().expect("pipe");
    let (commands, to_second) = (File::from(commands), File::from(to_second));
    let hurry = arguments.hurry;
    let session = |role| Session { role, shared, directory: directory.to_owned(), serial: 0, slowness: 1, hurry };

    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().expect("signal mask");
    let start = |body: &mut dyn FnMut()| {
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                signals.thread_unblock().expect("signal mask");
                set_pdeathsig(Signal::SIGKILL).expect("prctl");
                body();
                std::process::exit(0);
            }
        }
    };
    let (mut keep_reading, mut keep_writing) = (Some(commands), Some(to_second));
    let second = start(&mut || {
        keep_writing = None;
        pin(last);
        serve(&groups, session(Role::Second), keep_reading.take().expect("the reading end"));
    });
    let first = start(&mut || {
        keep_reading = None;
        pin(0);
        let mut first = First {
            session: session(Role::First),
            to_second: keep_writing.take().expect("the writing end"),
            last_processor: last,
        };
        print(&first.run(arguments.rounds, groups.clone()));
    });
    drop((keep_reading, keep_writing));

    let mut left = vec![first, second];
    let mut good = true;
    while !left.is_empty() {
        let signal = signals.wait().expect("sigwait");
        good &= signal == Signal::SIGCHLD;
        left.retain(|&child| match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("waitpid") {
            WaitStatus::StillAlive => true,
            status => {
                good &= matches!(status, WaitStatus::Exited(_, 0));
                false
            }
        });
        if !good {
            for &child in &left {
                kill(child, Signal::SIGKILL).expect("a child that is not yet waited for");
            }
        }
    }
    good
}

/// What runs left behind that were killed whole.
fn remove_abandoned_runs(run: &str) {
    let entries = std::fs::read_dir(MEMORY).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(run).and_then(|rest| rest.split('-').next()?.parse().ok());
        if let Some(process) = process
            && kill(Pid::from_raw(process), None) == Err(nix::errno::Errno::ESRCH)
        {
            session::sweep(Path::new(MEMORY), &name);
        }
    }
}

/// The second process: the other end of each measurement, until the pipe closes.
fn serve(groups: &[Group], session: Session, mut commands: File) {
    let mut words = [0u8; 24];
    while commands.read_exact(&mut words).is_ok() {
        let [group, entry, serial] = bytemuck::cast::<_, [u64; 3]>(words);
        let group = &groups[group as usize];
        run_end(group, &group.entries[entry as usize], &Session { serial, ..session.clone() });
    }
}

fn run_end(group: &Group, entry: &Entry, session: &Session) -> f64 {
    let session = Session { slowness: entry.slowness, ..session.clone() };
    (entry.procedure)(&session, group.size, group.table.readers())
}

/// The first process.
struct First {
    session: Session,
    to_second: File,
    last_processor: usize,
}

impl First {
    /// Runs the rounds.
    fn run(&mut self, rounds: usize, groups: Vec<Group>) -> Vec<Measured> {
        let mut measured: Vec<Measured> =
            groups.into_iter().map(|group| Measured { group, kept: Vec::new(), thrown: 0 }).collect();
        for round in 0..rounds * MOST_ROUNDS_PER_KEPT {
            for (i, one) in measured.iter_mut().enumerate().filter(|(_, one)| one.kept.len() < rounds) {
                let times = self.round(i, &one.group, round);
                let (begin, end) = (times[0], times[times.len() - 1]);
                // A quick run's figures mean nothing anyway.
                if self.session.hurry == 1 && (begin / end).max(end / begin) > 1.0 + MOST_DRIFT {
                    one.thrown += 1;
                } else {
                    one.kept.push(times);
                }
            }
        }
        describe_machine();
        measured
    }

    /// Runs each entry once; who is first among those between the ping-pongs goes round.
    fn round(&mut self, index: usize, group: &Group, round: usize) -> Vec<f64> {
        let mut times = vec![0.0; group.entries.len()];
        let last = times.len() - 1;
        let mut order: Vec<usize> = (1..last).collect();
        let turn = round % order.len();
        order.rotate_left(turn);
        for entry in std::iter::once(0).chain(order).chain([last]) {
            times[entry] = self.measure(index, group, entry);
        }
        times
    }

    fn measure(&mut self, index: usize, group: &Group, at: usize) -> f64 {
        self.session.serial += 1;
        let entry = &group.entries[at];
        let time = if entry.threads {
            let other = Session { role: Role::Second, ..self.session.clone() };
            let last = self.last_processor;
            std::thread::scope(|scope| {
                let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
                let reader = reader.spawn_scoped(scope, move || {
                    // The writer would wait for it for ever.
                    let guard = AbortOnPanic;
                    pin(last);
                    run_end(group, entry, &other);
                    std::mem::forget(guard);
                });
                // Nor may this one leave the reader alone.
                let guard = AbortOnPanic;
                let time = run_end(group, entry, &self.session);
                std::mem::forget(guard);
                reader.expect("thread").join().expect("reader");
                time
            })
        } else {
            let words = [index as u64, at as u64, self.session.serial];
            self.to_second.write_all(bytemuck::cast_slice(&words)).expect("pipe");
            run_end(group, entry, &self.session)
        };
        // What a contender leaves behind is nobody else's memory.
        session::sweep(Path::new(MEMORY), &self.session.name(""));
        session::sweep(&self.session.directory, "");
        time
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("processor number");
    // Where it is not allowed the figures are worth less, which the rounds thrown away show.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Asked before any pinning: afterwards there is only one to be seen.
fn last_processor() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()) - 1
}

fn describe_machine() {
    let info = std::fs::read_to_string(PathBuf::from("/proc/cpuinfo")).unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let processors = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let command: Vec<String> = std::env::args().skip(1).collect();
    println!("{}, {processors} processors, Linux {}", model.unwrap_or("unknown processor"), kernel.trim());
    println!("Arguments: {}", if command.is_empty() { "none".to_owned() } else { command.join(" ") });
}
