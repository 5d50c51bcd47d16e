//! A child under single step: one instruction at a time, between two marks that it sets itself.
//!
//! ```text
//!   child    trace_me() … mark() ┃ the window: every instruction is a stop here ┃ mark() …
//!   parent   start(), run_to_mark() ┗━ step() step() step() … until it is false ━━━┛ run_to_mark(), or kill()
//! ```
//! Both run on one processor: a stop is then a plain context switch, several times faster than a wake across processors.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

use crate::support::{self, Child};

/// A child that is traced by the thread that started it.
pub(crate) struct Traced {
    child: Child,
    thread: Pid,
    /// A signal that stopped the child and that it has not been given yet.
    pending: Option<Signal>,
}

/// Puts this thread, and the children that it starts from now on, on one processor; `nth` spreads the tests.
pub(crate) fn pin(nth: usize) {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return };
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect();
    let mut one = CpuSet::new();
    if one.set(usable[nth % usable.len()]).is_ok() {
        // Without it the steps are slower, and nothing else.
        let _ = sched_setaffinity(Pid::from_raw(0), &one);
    }
}

/// In the child: from here on the parent traces this thread; says so, or why not.
pub(crate) fn trace_me() {
    match ptrace::traceme() {
        Ok(()) => support::say(format_args!("traced {}", gettid())),
        Err(errno) => support::say(format_args!("traced 0 {errno}")),
    }
    mark();
}

/// In the child: a mark, at which the parent takes over.
pub(crate) fn mark() {
    raise(Signal::SIGSTOP).expect("a signal to oneself");
}

impl Traced {
    /// Starts a child that calls [`trace_me`] first.
    ///
    /// # Errors
    /// Why the system permits no tracing.
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Result<Traced, String> {
        let mut child = Child::start(role, arguments);
        let said = child.expect("traced");
        let (thread, why) = said.split_once(' ').unwrap_or((&said, ""));
        let thread = Pid::from_raw(thread.parse().expect("a number"));
        if thread.as_raw() == 0 {
            child.kill();
            return Err(why.to_owned());
        }
        let mut traced = Traced { child, thread, pending: None };
        assert!(!traced.wait(), "it stands at its first mark");
        ptrace::setoptions(thread, ptrace::Options::PTRACE_O_EXITKILL).expect("a traced child");
        Ok(traced)
    }

    /// Lets the child run to its next mark.
    pub(crate) fn run_to_mark(&mut self) {
        loop {
            ptrace::cont(self.thread, self.pending.take()).expect("a stopped child");
            if !self.wait() {
                return;
            }
        }
    }

    /// One instruction. False: that was the one that set the next mark.
    pub(crate) fn step(&mut self) -> bool {
        ptrace::step(self.thread, self.pending.take()).expect("a stopped child");
        self.wait()
    }

    /// Waits for the next stop; false if it is a mark.
    fn wait(&mut self) -> bool {
        loop {
            match waitpid(self.thread, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return true,
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => return false,
                Ok(WaitStatus::Stopped(_, signal)) => {
                    self.pending = Some(signal);
                    return true;
                }
                Err(Errno::EINTR) => {}
                // It has failed, and says why.
                other => {
                    self.child.expect("(nothing)");
                    panic!("the traced child: {other:?}");
                }
            }
        }
    }

    /// A real SIGKILL, here and now; the child is gone when this returns.
    pub(crate) fn kill(self) {}
}

impl Drop for Traced {
    fn drop(&mut self) {
        let process = Pid::from_raw(self.child.pid() as i32);
        let _ = kill(process, Signal::SIGKILL);
        // A traced thread that is not the first is waited for by its tracer, before the process is.
        while self.thread != process
            && matches!(waitpid(self.thread, Some(WaitPidFlag::__WALL)), Ok(status) if !ended(&status))
        {}
        self.child.kill();
    }
}

fn ended(status: &WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}
