//! The processes: those of one measurement, who watches them, and who cleans up when the watcher is gone.
//!
//! ```text
//!   guard ◀── a pipe that ends with the last of the others ── watcher (this process) ──▶ sender, receivers: forked for each measurement
//!   removes what is left of the run's directory               waits for answers, until a deadline; kills whoever is left
//! ```
//! The watcher has one thread, so that it can fork. The others die with it (`PR_SET_PDEATHSIG`), and only then does the guard's pipe end: nobody
//! makes anything any more when it removes what it finds. Killed all at once, they leave a directory that nobody holds locked: the next run removes
//! that, and what belongs to it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, geteuid, getppid, pipe2, setsid};
use serde::{Deserialize, Serialize};
use shmcast::baseline::{Object, Place};

use super::control::{Control, now};

/// What the names of all runs' directories begin with; the watcher's process number follows, and the time.
const RUN: &str = "shmcast-cli-";
/// How often the watcher looks whether somebody wants it to end, when the signal came at a bad moment.
const LOOK: Duration = Duration::from_millis(200);

/// See `limit_signals`.
const SIGNALS: u64 = 1024;

/// The signal that wants the run to end; 0: none.
static WANTED: AtomicI32 = AtomicI32::new(0);

/// Why there is no figure.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Somebody wants the run to end.
    Interrupted(i32),
    /// It took too long, and was ended.
    Late,
    /// This machine lacks what it needs.
    Missing(String),
    /// A process failed, or died.
    Failed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Failed(error.to_string())
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble::Failed(errno.to_string())
    }
}

impl From<shmcast::baseline::SetupError> for Trouble {
    fn from(error: shmcast::baseline::SetupError) -> Trouble {
        match error {
            shmcast::baseline::SetupError::Missing { reason, .. } => Trouble::Missing(reason),
            error => Trouble::Failed(error.to_string()),
        }
    }
}

/// What an end of a measurement has found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Records, or round trips, that were sent.
    pub(super) sent: u64,
    /// Records that arrived.
    pub(super) received: u64,
    /// From the first record's send to the last one's arrival: ns.
    pub(super) took: u64,
    /// CPU time: ns.
    pub(super) cpu: u64,
    /// Latencies in ns, and how often each came.
    pub(super) latencies: Vec<(u64, u64)>,
    /// Of the floors.
    pub(super) values: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Done(Vec<Outcome>),
    Missing(String),
    Failed(String),
}

/// What a process does.
pub(super) type Body<'a> = Box<dyn FnOnce() -> Result<Vec<Outcome>, Trouble> + 'a>;

/// One process of a measurement.
pub(super) struct Part<'a> {
    /// For `ps`.
    pub(super) name: &'static CStr,
    pub(super) processor: usize,
    pub(super) body: Body<'a>,
}

/// A child, and the pipe on which it answers.
struct Child {
    name: &'static CStr,
    pid: Pid,
    answers: File,
    answer: Vec<u8>,
    /// None: it has not ended.
    ended: Option<WaitStatus>,
}

/// Runs measurements. Dropped, it leaves nothing behind.
pub(super) struct Crew {
    pub(super) control: Control,
    /// Of places.
    pub(super) directory: PathBuf,
    /// The sender's processor and the receivers'.
    pub(super) processors: (usize, usize),
    guard: Pid,
    /// The guard waits for the end of this pipe.
    _line: OwnedFd,
    /// Held by all processes of this run but the guard.
    _lock: Flock<File>,
}

impl Crew {
    /// Starts the guard. This process must have one thread.
    pub(super) fn gather() -> Result<Crew, Trouble> {
        remove_abandoned_runs();
        let processors = processors()?;
        let control = Control::map()?;
        on_end(SigHandler::Handler(note))?;
        let (directory, lock) = make_directory()?;
        let (hears, line) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread.
        let guard = match unsafe { fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop(line);
                watch_over(&directory, hears)
            }
        };
        Ok(Crew { control, directory, processors, guard, _line: line, _lock: lock })
    }

    /// Runs the processes of one measurement, and answers what each found, in their order.
    pub(super) fn run(&self, parts: Vec<Part<'_>>, patience: Duration) -> Result<Vec<Outcome>, Trouble> {
        self.control.reset();
        let mut parts: Vec<Option<Part<'_>>> = parts.into_iter().map(Some).collect();
        let mut children: Vec<Child> = Vec::new();
        let mut outcome = Ok(());
        for at in 0..parts.len() {
            match start(&mut parts, at, &children) {
                Ok(child) => children.push(child),
                Err(errno) => outcome = Err(Trouble::Failed(format!("could not start a process: {errno}"))),
            }
        }
        // The ends of the links are the children's now.
        drop(parts);
        let deadline = Instant::now() + patience;
        while outcome.is_ok() && children.iter().any(|child| child.ended.is_none()) {
            outcome = hear(&mut children, deadline);
        }
        for child in children.iter_mut().filter(|child| child.ended.is_none()) {
            // It is not waited for yet, so that the number is still its own.
            let _ = kill(child.pid, Signal::SIGKILL);
            child.ended = waited_for(child.pid).ok();
        }
        outcome?;
        let mut found = Vec::new();
        for child in &children {
            found.extend(child.outcome()?);
        }
        Ok(found)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        clear(&self.directory);
        // The guard has nothing to do any more. (Its pipe would end only behind this value.)
        let _ = kill(self.guard, Signal::SIGKILL);
        let _ = waited_for(self.guard);
    }
}

/// Forks part `at`; the child never returns from here.
fn start<'a>(parts: &mut [Option<Part<'a>>], at: usize, before: &[Child]) -> Result<Child, Errno> {
    let name = parts[at].as_ref().map_or(c"bench", |part| part.name);
    let (answers, says) = pipe2(OFlag::O_CLOEXEC)?;
    let parent = Pid::this();
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            Ok(Child { name, pid: child, answers: answers.into(), answer: Vec::new(), ended: None })
        }
        ForkResult::Child => {
            drop(answers);
            for child in before {
                // SAFETY: this process never uses nor closes it otherwise: it ends without destructors of what it inherited.
                unsafe { libc::close(child.answers.as_raw_fd()) };
            }
            let part = parts[at].take();
            // Ends of other processes: as long as they are open here, too, nobody sees them closed.
            parts.iter_mut().for_each(|other| drop(other.take()));
            let answer = match part {
                Some(part) => play(part, parent),
                None => Answer::Failed("there is nothing to do".to_owned()),
            };
            let text = serde_json::to_vec(&answer).unwrap_or_default();
            let told = File::from(says).write_all(&text).is_ok();
            // SAFETY: ends this process, and runs nothing of the parent's.
            unsafe { libc::_exit(if told { 0 } else { 1 }) }
        }
    }
}

fn play(part: Part<'_>, parent: Pid) -> Answer {
    let ready = || {
        set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before that.
        if getppid() != parent {
            return Err(Errno::ESRCH);
        }
        on_end(SigHandler::SigDfl)?;
        let _ = set_name(part.name);
        limit_signals();
        pin(part.processor);
        Ok(())
    };
    if let Err(errno) = ready() {
        return Answer::Failed(errno.to_string());
    }
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(part.body)) {
        Ok(Ok(outcomes)) => Answer::Done(outcomes),
        Ok(Err(Trouble::Missing(reason))) => Answer::Missing(reason),
        Ok(Err(Trouble::Failed(reason))) => Answer::Failed(reason),
        Ok(Err(trouble)) => Answer::Failed(format!("{trouble:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Answer::Failed(format!("panicked: {}", text.unwrap_or("no reason given")))
        }
    }
}

/// Waits for the next answers.
fn hear(children: &mut [Child], deadline: Instant) -> Result<(), Trouble> {
    // Relaxed: the number of a signal, and nothing behind it.
    let wanted = WANTED.load(Ordering::Relaxed);
    if wanted != 0 {
        return Err(Trouble::Interrupted(wanted));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::Late);
    }
    let mut open: Vec<&mut Child> = children.iter_mut().filter(|child| child.ended.is_none()).collect();
    let mut looks: Vec<PollFd<'_>> =
        open.iter().map(|child| PollFd::new(child.answers.as_fd(), PollFlags::POLLIN)).collect();
    let millis = left.min(LOOK).as_millis() as u16 + 1;
    match poll(&mut looks, PollTimeout::from(millis)) {
        Err(Errno::EINTR) => return Ok(()),
        other => other?,
    };
    let ready: Vec<bool> = looks.iter().map(|look| look.any().unwrap_or(false)).collect();
    drop(looks);
    for (child, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        let mut part = [0; 1 << 16];
        match child.answers.read(&mut part)? {
            0 => {
                child.ended = Some(waited_for(child.pid)?);
                // If it failed the others would wait for it.
                child.outcome()?;
            }
            count => child.answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(())
}

impl Child {
    fn outcome(&self) -> Result<Vec<Outcome>, Trouble> {
        let name = self.name.to_string_lossy();
        match self.ended {
            Some(WaitStatus::Exited(_, 0)) => {}
            Some(WaitStatus::Signaled(_, signal, _)) => {
                return Err(Trouble::Failed(format!("{name} was killed by {signal}")));
            }
            Some(status) => return Err(Trouble::Failed(format!("{name} ended badly: {status:?}"))),
            None => return Err(Trouble::Failed(format!("{name} has not ended"))),
        }
        match serde_json::from_slice(&self.answer) {
            Ok(Answer::Done(outcomes)) => Ok(outcomes),
            Ok(Answer::Missing(reason)) => Err(Trouble::Missing(reason)),
            Ok(Answer::Failed(reason)) => Err(Trouble::Failed(format!("{name}: {reason}"))),
            Err(error) => Err(Trouble::Failed(format!("{name} answered nonsense: {error}"))),
        }
    }
}

/// Waits for a child; signals do not disturb.
fn waited_for(pid: Pid) -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

// ---- signals ----

/// What ends a run.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

extern "C" fn note(signal: libc::c_int) {
    // Relaxed: as in `hear`.
    WANTED.store(signal, Ordering::Relaxed);
}

/// What becomes of them, from now on: but who starts this program may have them ignored, as `nohup` does.
fn on_end(handler: SigHandler) -> Result<(), Errno> {
    // Without SA_RESTART: a `poll` ends.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for signal in ENDS {
        // SAFETY: the handler stores a word, or is the default.
        let before = unsafe { sigaction(signal, &action) }?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: what it was before.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

/// Signals that may wait for this process: the system counts all of a user's, and one process must not use them up.
fn limit_signals() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_SIGPENDING) {
        let _ = setrlimit(Resource::RLIMIT_SIGPENDING, soft.min(SIGNALS), hard);
    }
}

// ---- processors ----

/// The first and the last of those that this process may use.
fn processors() -> Result<(usize, usize), Errno> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let is_allowed = |&processor: &usize| allowed.is_set(processor).unwrap_or(false);
    let first = (0..CpuSet::count()).find(is_allowed).unwrap_or(0);
    let last = (0..CpuSet::count()).rfind(is_allowed).unwrap_or(0);
    Ok((first, last))
}

/// This thread stays on that processor. Where that is not allowed the figures spread more, and show it.
pub(super) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

// ---- cleaning up ----

/// Where runs have their directories: in memory, if there is such a place.
fn home() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Removes all that a run could have left behind, of which nobody is alive any more.
fn clear(directory: &Path) {
    Place::left_in(directory).iter().for_each(Object::remove);
    let _ = std::fs::remove_dir_all(directory);
}

/// The guard: of a session of its own, so that it is not killed with the group; with no descriptor but the pipe, so that nobody waits
/// for it.
fn watch_over(directory: &Path, hears: OwnedFd) -> ! {
    let _ = setsid();
    let _ = set_name(c"bench-guard");
    // SAFETY: the descriptors are this process's own, and none but `hears` is used from here on, under its new number.
    unsafe { libc::dup2(hears.as_raw_fd(), 0) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) };
    let mut nothing = [0_u8; 1];
    // SAFETY: `nothing` has room for a byte. Nobody writes one: it answers 0 at the end, and before that only when a signal came.
    while unsafe { libc::read(0, nothing.as_mut_ptr().cast(), 1) } < 0 {}
    clear(directory);
    // SAFETY: ends this process, and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

/// A directory for this run, locked.
fn make_directory() -> io::Result<(PathBuf, Flock<File>)> {
    loop {
        let directory = home().join(format!("{RUN}{}-{:x}", std::process::id(), now()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        // Another run that begins may have found it before it was locked, and removed it.
        if let Some(lock) = locked(&directory).filter(|_| directory.exists()) {
            return Ok((directory, lock));
        }
    }
}

/// Nobody else holds it.
fn locked(directory: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(directory).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// What runs left behind that were killed whole.
fn remove_abandoned_runs() {
    for entry in std::fs::read_dir(home()).into_iter().flatten().flatten() {
        let is_run = entry.file_name().to_str().is_some_and(|name| name.starts_with(RUN));
        if is_run && is_own(&entry.path()) {
            let lock = locked(&entry.path());
            if lock.is_some() {
                clear(&entry.path());
            }
        }
    }
}

/// A directory that this user has made: nobody else says what is removed.
fn is_own(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}
