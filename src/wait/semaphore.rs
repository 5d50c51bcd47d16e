//! Sleeping on a semaphore: that of the C library in shared memory, or one of a System V set.
//!
//! ```text
//!            drain                    take                                    post
//!   POSIX    sem_trywait, user space  sem_clockwait, a futex if it sleeps     sem_post, a futex if somebody sleeps
//!   System V SETVAL 0, a system call  semtimedop -1, a system call            semop +1, a system call
//! ```
//! Whoever takes loops, as with a futex: a token only says that it is time for a look. Hence nothing here fails: what the system
//! refuses is a wake, or a sleep, that does not come.
//!
//! The C library trusts its semaphores: glibc takes the kind of futex call from a word in them, and ends the process when the
//! answer is not one that it knows. So they are only used where nobody can have written there who has no
//! power over this process anyway: [`Semaphores::None`] elsewhere.

use std::sync::Arc;

pub(crate) mod posix;
pub(crate) mod sysv;

pub(crate) use sysv::Set;

/// The semaphores of a registry.
#[derive(Clone, Debug)]
pub(crate) enum Semaphores {
    /// There are none, or none that may be used.
    None,
    /// In the registry.
    Posix,
    /// In a set of the system's.
    Sysv(Arc<Set>),
}
