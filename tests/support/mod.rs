//! What the test files share: rings of every kind, records that prove themselves, and child processes.
//!
//! A child process is this very test binary again, which runs one test, the role player, and nothing else:
//!
//! ```text
//!   parent                                   child: the test `a_child_plays_its_role`, which does nothing without a role
//!   Child::start("reader", &[path])  ─────▶  role() ─▶ ("reader", [path])
//!   child.expect("joined")           ◀─────  say("joined 17")
//!   child.tell("go")                 ─────▶  hear() ─▶ "go"
//! ```
//! Every wait for a child has a limit; a child that fails or hangs is killed, and its standard error is in the panic.
#![allow(dead_code)] // Each test file uses a part of it.

pub(crate) mod guard;
pub(crate) mod peer;
pub(crate) mod words;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shmcast::{OpenError, Options, Reader, Subscriber, SysvKey, Wakeup, Writer};

/// Far more than anything here takes on a loaded machine: who waits this long hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

// ---- rings ----

/// How the readers of a ring come to it.
pub(crate) enum Door {
    /// Heap and anonymous rings.
    Subscriber(Subscriber),
    /// A file, in a directory that goes with this value.
    File(tempfile::TempDir),
    /// A named ring, in /dev/shm.
    Name(String),
    /// A name of POSIX shared memory.
    Posix(String),
    /// The descriptors of memfds: the ring's and the registry's.
    Descriptors([OwnedFd; 2]),
    /// A key of System V shared memory.
    Sysv(SysvKey),
}

impl Door {
    /// Opens or joins the ring: a mapping of its own, where there is something to map.
    pub(crate) fn join(&self, options: &Options) -> Result<Reader, OpenError> {
        match self {
            Door::Subscriber(subscriber) => options.join(subscriber),
            Door::File(directory) => options.open_file(directory.path().join("ring")),
            Door::Name(name) => options.open(name),
            Door::Posix(name) => options.open_posix(name),
            Door::Descriptors([ring, registry]) => options.open_descriptors(ring.as_fd(), Some(registry.as_fd())),
            Door::Sysv(key) => options.open_sysv(*key),
        }
    }

    /// A reader that must come to be.
    pub(crate) fn reader(&self, options: &Options) -> Reader {
        self.join(options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn lossless(&self) -> Reader {
        self.reader(&Options::new())
    }

    pub(crate) fn lossy(&self) -> Reader {
        self.reader(&Options::new().lossy(true))
    }
}

/// A name that no other test, and no other run, has.
pub(crate) fn unique_name(what: &str) -> String {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("test-{what}-{}-{count}", std::process::id())
}

pub(crate) fn heap(options: &Options) -> (Writer, Door) {
    let writer = options.create_heap().expect("a small ring");
    let door = Door::Subscriber(writer.subscriber());
    (writer, door)
}

pub(crate) fn anonymous(options: &Options) -> (Writer, Door) {
    let writer = options.create_anonymous().expect("a small ring");
    let door = Door::Subscriber(writer.subscriber());
    (writer, door)
}

pub(crate) fn file(options: &Options) -> (Writer, Door) {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = options.create_file(directory.path().join("ring")).expect("a small ring");
    (writer, Door::File(directory))
}

pub(crate) fn named(options: &Options) -> (Writer, Door) {
    let name = unique_name("ring");
    let writer = options.create(&name).expect("a small ring");
    (writer, Door::Name(name))
}

pub(crate) fn posix(options: &Options) -> (Writer, Door) {
    let name = unique_name("posix");
    let writer = options.create_posix(&name).expect("a small ring");
    (writer, Door::Posix(name))
}

pub(crate) fn memfd(options: &Options) -> (Writer, Door) {
    handed_out(options.create_memfd().expect("a small ring"))
}

pub(crate) fn memfd_strict(options: &Options) -> (Writer, Door) {
    handed_out(options.create_memfd_strict().expect("a small ring"))
}

fn handed_out(writer: Writer) -> (Writer, Door) {
    let handed_out = writer.descriptors().expect("a memfd");
    let copies = [handed_out.ring, handed_out.registry].map(|file| file.try_clone_to_owned().expect("a copy"));
    (writer, Door::Descriptors(copies))
}

pub(crate) fn sysv(options: &Options) -> (Writer, Door) {
    let key = SysvKey::new(guard::fresh_key());
    let writer = options.create_sysv(key).expect("a small ring");
    (writer, Door::Sysv(key))
}

/// Runs a test on a ring of each kind.
pub(crate) fn on_every_kind(options: &Options, test: impl Fn(Writer, &Door)) {
    type Make = fn(&Options) -> (Writer, Door);
    let kinds: [(&str, Make); 8] = [
        ("heap", heap),
        ("anonymous", anonymous),
        ("file", file),
        ("named", named),
        ("POSIX", posix),
        ("memfd", memfd),
        ("strict memfd", memfd_strict),
        ("System V", sysv),
    ];
    for (kind, make) in kinds {
        println!("on a ring of kind {kind}");
        let (writer, door) = make(options);
        test(writer, &door);
    }
}

/// What a sleeper can be woken by, and "no_wake": not at all.
pub(crate) fn woken_by(options: Options, how: &str) -> Options {
    match how {
        "futex" => options.wakeup(Wakeup::Futex),
        "posix" => options.wakeup(Wakeup::PosixSemaphore),
        "sysv" => options.wakeup(Wakeup::SysvSemaphore).semaphore_key(guard::fresh_key()),
        "no_wake" => options.no_wake(true),
        other => panic!("nobody is woken by {other}"),
    }
}

/// The smallest ring: what laps early shows early.
pub(crate) fn smallest() -> Options {
    Options::new().capacity(4096).reader_slots(4)
}

// ---- records that prove themselves ----

/// A small generator of numbers (splitmix64): the seed says all.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Record number `sequence` of a stream whose payloads are shorter than `bound`: length and every byte follow from the
/// number, so that whoever receives it can tell that it is whole, and the right one.
pub(crate) fn record_of(sequence: u64, bound: u64) -> Vec<u8> {
    let mut random = Random(sequence ^ 0x5EED);
    let len = random.below(bound) as usize;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Panics unless this is record number `sequence` of such a stream, whole.
pub(crate) fn assert_whole(sequence: u64, payload: &[u8], bound: u64) {
    let expected = record_of(sequence, bound);
    assert!(
        payload == expected,
        "record {sequence} is torn: {} bytes {:x?}, not {} bytes {:x?}",
        payload.len(),
        &payload[..payload.len().min(16)],
        expected.len(),
        &expected[..expected.len().min(16)]
    );
}

// ---- the parent's side of a child ----

/// The variable that makes a test process a child: its role and its arguments, one a line.
const ROLE: &str = "SHMCAST_TEST_ROLE";
/// The test that plays the roles, in each file that has some.
const PLAYER: &str = "a_child_plays_its_role";
/// What tells a child's words from the harness's.
const MARK: &str = "@ ";

/// A child process that plays a role. Killed when dropped.
pub(crate) struct Child {
    role: String,
    process: std::process::Child,
    words: Receiver<String>,
    errors: Arc<Mutex<String>>,
    drains: Vec<JoinHandle<()>>,
}

impl Child {
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Child {
        Child::start_with(role, arguments, &[])
    }

    /// As `start`, with more variables in the child's environment.
    pub(crate) fn start_with(role: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
        Child::start_prepared(role, |command| {
            command.envs(environment.iter().copied());
            arguments.iter().map(|&argument| argument.to_owned()).collect()
        })
    }

    /// As `start`, with a command that `prepare` has changed, and the arguments that it answers. What the command holds is dropped
    /// as soon as the child has it.
    pub(crate) fn start_prepared(role: &str, prepare: impl FnOnce(&mut Command) -> Vec<String>) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("a test binary"));
        command
            .args([PLAYER, "--exact", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut line = vec![role.to_owned()];
        line.extend(prepare(&mut command));
        let mut process = command.env(ROLE, line.join("\n")).spawn().expect("a process");
        drop(command);
        let (sender, words) = channel();
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let talk = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(word) = line.strip_prefix(MARK) {
                    let _ = sender.send(word.to_owned());
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let (mut pipe, log) = (process.stderr.take().expect("a pipe"), Arc::clone(&errors));
        let complaints = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                log.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Child { role: role.to_owned(), process, words, errors, drains: vec![talk, complaints] }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the child to say something that begins with `word`; answers the rest.
    pub(crate) fn expect(&mut self, word: &str) -> String {
        self.expect_within(word, LIMIT)
    }

    pub(crate) fn expect_within(&mut self, word: &str, limit: Duration) -> String {
        match self.words.recv_timeout(limit) {
            Ok(said) => match said.strip_prefix(word) {
                Some(rest) => rest.trim().to_owned(),
                None => self.fail(&format!("said {said:?} instead of {word:?}")),
            },
            Err(RecvTimeoutError::Timeout) => self.fail(&format!("did not say {word:?} within {limit:?}: it hangs")),
            Err(RecvTimeoutError::Disconnected) => self.fail(&format!("ended without saying {word:?}")),
        }
    }

    /// As `expect`, if the child has said something already.
    pub(crate) fn try_expect(&mut self, word: &str) -> Option<String> {
        match self.words.try_recv() {
            Ok(said) => match said.strip_prefix(word) {
                Some(rest) => Some(rest.trim().to_owned()),
                None => self.fail(&format!("said {said:?} instead of {word:?}")),
            },
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.fail(&format!("ended without saying {word:?}")),
        }
    }

    /// As `expect`, for an answer that is numbers.
    pub(crate) fn expect_numbers<const N: usize>(&mut self, word: &str) -> [u64; N] {
        let said = self.expect(word);
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        numbers.try_into().unwrap_or_else(|_| self.fail(&format!("said {said:?}, not {N} numbers")))
    }

    pub(crate) fn tell(&mut self, word: &str) {
        let pipe = self.process.stdin.as_mut().expect("a pipe");
        if writeln!(pipe, "{word}").and_then(|()| pipe.flush()).is_err() {
            self.fail(&format!("was gone before it heard {word:?}"));
        }
    }

    /// Waits until the child has ended well.
    pub(crate) fn finish(mut self) {
        let start = Instant::now();
        loop {
            match self.process.try_wait().expect("a child") {
                Some(status) if status.success() => return,
                Some(status) => self.fail(&format!("ended with {status}")),
                None if start.elapsed() > LIMIT => self.fail("did not end"),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Waits until the child has ended, however it does.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            match self.process.try_wait().expect("a child") {
                Some(status) => return status,
                None if start.elapsed() > LIMIT => self.fail("did not end"),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn fail(&mut self, what: &str) -> ! {
        self.kill();
        for drain in self.drains.drain(..) {
            let _ = drain.join();
        }
        let errors = self.errors.lock().expect("no panic").clone();
        panic!("the child in the role of {:?} {what}; its standard error:\n{errors}", self.role);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

// ---- the child's side ----

/// The role of this process and its arguments; none in a test run proper.
pub(crate) fn role() -> Option<(String, Vec<String>)> {
    let lines = std::env::var(ROLE).ok()?;
    // A parent that is killed takes its children with it.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let mut words = lines.split('\n').map(str::to_owned);
    Some((words.next()?, words.collect()))
}

/// Says something to the parent.
pub(crate) fn say(words: impl std::fmt::Display) {
    // The harness may have left its line open.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{words}").and_then(|()| out.flush()).expect("a parent that listens");
}

/// Says that a test could not run, and why, past the harness, which swallows what a test prints that passes. With
/// `SHMCAST_FORBID_SKIPS` set, as in `.ci/run`, that is a failure.
pub(crate) fn skipped(why: impl std::fmt::Display) {
    assert!(std::env::var_os("SHMCAST_FORBID_SKIPS").is_none(), "SKIPPED: {why}");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\nSKIPPED: {why}").and_then(|()| out.flush());
}

/// Waits for a word of the parent.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("a parent that talks");
    assert!(!line.is_empty(), "the parent is gone");
    line.trim_end().to_owned()
}

// ---- looking at threads ----

/// Waits until a thread of this or another process sleeps in the kernel.
pub(crate) fn wait_until_asleep(process: u32, thread: i32) {
    let start = Instant::now();
    // The state follows the command's name, which is in parentheses.
    let sleeps = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    };
    while !sleeps() {
        assert!(start.elapsed() < LIMIT, "the thread does not fall asleep");
        std::thread::yield_now();
    }
}

/// How often this process went to sleep of its own accord so far.
pub(crate) fn sleeps_so_far() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("a process");
    u64::try_from(usage.voluntary_context_switches()).unwrap_or(0)
}
