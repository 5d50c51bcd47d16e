//! The asymmetric fence: one side pays nothing, the other side pays for both.
//!
//! Two parties that each store a word and then look at the other's word need a full fence each, or both may miss
//! the other's store. That fence would cost the writer ten times the price of a small record. So the writer's side
//! is a compiler fence only, and the side that is slow anyway (it is about to sleep) asks the kernel to run a full
//! fence on every processor where a thread of a *registered* process runs.
//!
//! ```text
//!   fast side (registered)          slow side
//!   store record                    store "I sleep"
//!   compiler fence: free            interrupt_all(): 10 us, 50 to 90 us under load, 0.4 us if no such thread runs
//!   load "I sleep"                  load record
//! ```
//!
//! The kernel does not say when nobody is registered: then the slow side's call does nothing, and succeeds. So whether
//! the fast side is registered must be known from elsewhere (the ring's barrier mode). A fork inherits the
//! registration, as it inherits the answer that is kept here; exec clears both.

/// Registers this process as a fast side, once; false if the system does not have the call or refuses it.
///
/// The first call costs 1 us in a process of one thread and 10 ms in one of many, later ones a load.
#[must_use]
pub(crate) fn register() -> bool {
    #[cfg(not(miri))]
    {
        static REGISTERED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *REGISTERED.get_or_init(|| {
            let needed = GLOBAL_EXPEDITED | REGISTER_GLOBAL_EXPEDITED;
            let supported = command(QUERY);
            supported >= 0 && supported & needed == needed && command(REGISTER_GLOBAL_EXPEDITED) == 0
        })
    }
    #[cfg(miri)]
    false
}

/// Runs a full fence on all processors where a registered process runs; false if the system refuses. The caller's
/// own fence is not included in what this promises: it has one already.
#[must_use]
pub(crate) fn interrupt_all() -> bool {
    #[cfg(not(miri))]
    {
        command(GLOBAL_EXPEDITED) == 0
    }
    #[cfg(miri)]
    false
}

#[cfg(not(miri))]
use commands::{GLOBAL_EXPEDITED, QUERY, REGISTER_GLOBAL_EXPEDITED, command};

#[cfg(not(miri))]
mod commands {
    use nix::libc;

    // Of the kernel's interface, which does not change.
    pub(super) const QUERY: libc::c_long = 0;
    pub(super) const GLOBAL_EXPEDITED: libc::c_long = 1 << 1;
    pub(super) const REGISTER_GLOBAL_EXPEDITED: libc::c_long = 1 << 2;

    /// One call; negative if it was refused.
    pub(super) fn command(command: libc::c_long) -> libc::c_long {
        // SAFETY: the call takes numbers only and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_process_may_interrupt() {
        // Twice: the answer does not change.
        assert_eq!(register(), register());
        if register() {
            assert!(interrupt_all());
        }
    }
}
