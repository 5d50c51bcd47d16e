//! Has this process been forked since? Asked with every borrowed record that is dropped, so it must not cost a system call:
//! a counter that the C library raises in the child.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::libc;

static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// Runs in the child, which has one thread then; only touches an atomic.
extern "C" fn forked() {
    // Relaxed: nothing is published by it, and the only thread that reads it there is this one.
    GENERATION.fetch_add(1, Relaxed);
}

/// From the first call on, forks are counted; answers the generation of this process.
pub(crate) fn watch() -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !cfg!(miri) {
            // SAFETY: the handler is async-signal-safe. That no memory is left for the entry is no reason to fail: then a
            // fork goes unnoticed, as one that passes the C library by does.
            unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        }
    });
    generation()
}

/// The generation of this process: another one in a child than in its parent. One load.
#[inline(always)]
pub(crate) fn generation() -> usize {
    // Relaxed: the thread that forked sees its own addition.
    GENERATION.load(Relaxed)
}
