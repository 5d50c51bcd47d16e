//! A static pool of processes behind one TCP port: forked before the first client comes, each accepts for itself.
//!
//! ```text
//! cargo run --release --features baseline --example worker_pool -- --workers 3 --clients 8 --requests 1000
//! ```
//!
//! ```text
//!   parent: listens, forks ──┬─ worker 1: accept ─ serve ─ accept ...     one listening socket, inherited by all: the kernel
//!                            ├─ worker 2: accept ...                      gives each connection to one of those that wait
//!                            └─ worker 3: accept ...
//! ```
//! A client asks line by line: a number; the answer is its factors, and which worker found them. The parent then kills one worker, shows
//! that the others serve on, forks a new one in its place, and at the end wakes all of them by shutting the listening socket down.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use shmcast::baseline::stream::{LineReader, write_n};
use shmcast::baseline::{Patience, tcp};

/// The longest line.
const LINE_BYTES: usize = 100;
/// Far more than a worker needs to accept.
const PATIENCE: Duration = Duration::from_secs(30);

struct Arguments {
    workers: usize,
    clients: u64,
    requests: u64,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("worker_pool: {error}; usage: worker_pool [--workers N] [--clients N] [--requests N]");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    let mut arguments = Arguments { workers: 3, clients: 8, requests: 1000 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("workers") => arguments.workers = parser.value()?.parse()?,
            Long("clients") => arguments.clients = parser.value()?.parse()?,
            Long("requests") => arguments.requests = parser.value()?.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    // One of them is killed.
    if arguments.workers < 2 { Err("there must be two workers at least".into()) } else { Ok(arguments) }
}

fn run(&Arguments { workers, clients, requests }: &Arguments) -> Result<(), Box<dyn Error>> {
    let (listener, address) = tcp::listen("localhost", 0, tcp::BACKLOG)?;
    let mut pool = Pool { workers: Vec::new(), listener };
    for _ in 0..workers {
        pool.fork()?;
    }
    println!("{workers} workers on {address}");
    report(ask(address.port(), clients, requests)?, clients * requests)?;

    let killed = pool.workers[0];
    kill(killed, Signal::SIGKILL)?;
    pool.wait_for(killed)?;
    println!("worker {killed} is killed");
    let served = ask(address.port(), clients, requests)?;
    if served.contains_key(&killed.as_raw()) {
        return Err("a dead worker has answered".into());
    }
    report(served, clients * requests)?;
    println!("worker {} takes its place", pool.fork()?);
    report(ask(address.port(), clients, requests)?, clients * requests)?;
    pool.end()
}

struct Pool {
    workers: Vec<Pid>,
    listener: OwnedFd,
}

impl Pool {
    /// A new worker.
    fn fork(&mut self) -> Result<Pid, Box<dyn Error>> {
        // SAFETY: this process has one thread here (the clients have ended), so no lock can be held by a thread that the child does
        // not have.
        match unsafe { fork() }? {
            ForkResult::Child => {
                // A parent that is killed takes its workers with it.
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                work(&self.listener);
                // SAFETY: ends this process, and runs nothing of the parent's.
                unsafe { nix::libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                self.workers.push(child);
                Ok(child)
            }
        }
    }

    fn wait_for(&mut self, worker: Pid) -> Result<WaitStatus, nix::Error> {
        self.workers.retain(|other| *other != worker);
        waitpid(worker, None)
    }

    /// Wakes all that wait in accept: the socket is the workers', too, so that a close would not.
    fn end(mut self) -> Result<(), Box<dyn Error>> {
        nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both)?;
        for worker in self.workers.clone() {
            match self.wait_for(worker)? {
                WaitStatus::Exited(_, 0) => {}
                other => return Err(format!("a worker ended otherwise: {other:?}").into()),
            }
        }
        println!("all workers have ended");
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &self.workers {
            let _ = kill(*worker, Signal::SIGKILL);
            let _ = waitpid(*worker, None);
        }
    }
}

/// A worker's life: until the listening socket is shut down.
fn work(listener: &OwnedFd) {
    while let Ok(client) = tcp::accept(listener, Patience::Forever) {
        // A client that goes away is no reason to end.
        let _ = serve(client);
    }
}

fn serve(mut client: TcpStream) -> Result<(), Box<dyn Error>> {
    tcp::set_nodelay(&client, true)?;
    let mut lines = LineReader::new(client.try_clone()?, LINE_BYTES);
    while let Some(line) = lines.read_line()? {
        let answer = match std::str::from_utf8(&line).ok().and_then(|text| text.parse().ok()) {
            Some(number) => format!("{} {}\n", std::process::id(), factors(number)),
            None => format!("{} is no number\n", String::from_utf8_lossy(&line)),
        };
        write_n(&mut client, answer.as_bytes())?;
    }
    Ok(())
}

fn factors(mut number: u64) -> String {
    let mut found = Vec::new();
    let mut factor = 2;
    while factor <= number / factor {
        if number.is_multiple_of(factor) {
            found.push(factor.to_string());
            number /= factor;
        } else {
            factor += 1;
        }
    }
    found.push(number.to_string());
    found.join("*")
}

/// Runs clients, each a thread with a connection of its own; answers how many requests each worker has served.
fn ask(port: u16, clients: u64, requests: u64) -> Result<BTreeMap<i32, u64>, Box<dyn Error>> {
    let ask = move |client: u64| -> Result<BTreeMap<i32, u64>, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let (mut stream, _) = tcp::connect("localhost", port, Patience::of(PATIENCE)).map_err(|error| say(&error))?;
        tcp::set_nodelay(&stream, true).map_err(|error| say(&error))?;
        let mut answers = LineReader::new(stream.try_clone().map_err(|error| say(&error))?, LINE_BYTES);
        let mut served = BTreeMap::new();
        for request in 0..requests {
            let number = client * 1_000_003 + request + 2;
            write_n(&mut stream, format!("{number}\n").as_bytes()).map_err(|error| say(&error))?;
            let answer = answers.read_line().map_err(|error| say(&error))?.ok_or("a worker has gone")?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let (worker, found) = answer.split_once(' ').ok_or("half an answer")?;
            let product: u64 = found.split('*').filter_map(|factor| factor.parse::<u64>().ok()).product();
            if product != number {
                return Err(format!("{number} is not {found}"));
            }
            *served.entry(worker.parse().map_err(|error| say(&error))?).or_default() += 1;
        }
        stream.shutdown(Shutdown::Both).map_err(|error| say(&error))?;
        Ok(served)
    };
    let threads: Vec<_> = (0..clients).map(|client| std::thread::spawn(move || ask(client))).collect();
    let mut all = BTreeMap::new();
    for thread in threads {
        for (worker, count) in thread.join().map_err(|_| "a client has panicked")?? {
            *all.entry(worker).or_default() += count;
        }
    }
    Ok(all)
}

fn report(served: BTreeMap<i32, u64>, expected: u64) -> Result<(), Box<dyn Error>> {
    let total: u64 = served.values().sum();
    let each: Vec<String> = served.iter().map(|(worker, count)| format!("{worker}: {count}")).collect();
    println!("{total} requests served, by worker: {}", each.join(", "));
    if total == expected { Ok(()) } else { Err(format!("{expected} were asked").into()) }
}
