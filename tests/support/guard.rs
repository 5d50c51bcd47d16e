//! System V segments and sets of semaphores outlive everybody, so a test process that is killed would leave its own behind. Before
//! it makes one it tells the keys to a guard: a child that does nothing but wait for the end of a pipe, which comes with the
//! end of the test process, however it ends; and then removes what still has one of the keys.
//!
//! Also used by the unit tests of `src/segment/sysv.rs` and `src/wait/semaphore/sysv.rs`.
#![allow(dead_code)] // Each test file uses a part of it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::libc;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

/// Far more than any test process has.
const MAX_KEYS: usize = 4096;

/// From now on nothing stays behind under these keys, which must be of this test process alone.
pub(crate) fn protect(keys: &[i32]) {
    static PIPE: OnceLock<File> = OnceLock::new();
    let mut pipe = PIPE.get_or_init(start);
    for key in keys {
        // One write each: the guard reads whole keys.
        pipe.write_all(&key.to_ne_bytes()).expect("a guard that listens");
    }
}

fn start() -> File {
    let (hears, says) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    // SAFETY: the child makes system calls on what it has on its stack: it allocates nothing, takes no lock, never returns.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => watch(&hears),
        ForkResult::Parent { .. } => says.into(),
    }
}

/// The guard: of a session of its own, so that it is not killed with the group; with no descriptor but the pipe, so that
/// nobody waits for it.
fn watch(hears: &OwnedFd) -> ! {
    let _ = setsid();
    let mut keys = [0_i32; MAX_KEYS];
    let mut count = 0;
    // SAFETY: the descriptors are this process's own, and none but `hears` is used from here on, under its new number.
    unsafe { libc::dup2(hears.as_raw_fd(), 0) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) };
    loop {
        let mut key = [0_u8; 4];
        // SAFETY: `key` has room for 4 bytes.
        match unsafe { libc::read(0, key.as_mut_ptr().cast(), 4) } {
            4 if count < MAX_KEYS => {
                keys[count] = i32::from_ne_bytes(key);
                count += 1;
            }
            // The end of the test process. A signal does not end the guard.
            0 => break,
            _ => {}
        }
    }
    for &key in &keys[..count] {
        // SAFETY: no memory is involved.
        let id = unsafe { libc::shmget(key, 0, 0) };
        if id >= 0 {
            // SAFETY: whoever has it attached keeps it.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
        // SAFETY: no memory is involved.
        let set = unsafe { libc::semget(key, 0, 0) };
        if set >= 0 {
            // SAFETY: as above.
            unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
        }
    }
    // SAFETY: ends this process without running what belongs to its parent.
    unsafe { libc::_exit(0) }
}

/// Two neighbouring keys that nothing has, protected. Different in every process and at every call.
pub(crate) fn fresh_key() -> i32 {
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
    static NEXT: AtomicI32 = AtomicI32::new(0);
    loop {
        // Relaxed: any number will do.
        let next = NEXT.fetch_add(2, Relaxed) & 0xFFE;
        let key = 0x4000_0000 | ((std::process::id() & 0x3_FFFF) << 12) as i32 | next;
        // SAFETY: no memory is involved.
        if [key, key + 1].iter().all(|&key| unsafe { libc::shmget(key, 0, 0) } < 0) {
            protect(&[key, key + 1]);
            return key;
        }
    }
}

/// The segments that there are with one of these keys.
pub(crate) fn segments(keys: &[i32]) -> Vec<String> {
    listed("/proc/sysvipc/shm", keys)
}

/// The sets of semaphores that there are with one of these keys.
pub(crate) fn sets(keys: &[i32]) -> Vec<String> {
    listed("/proc/sysvipc/sem", keys)
}

fn listed(table: &str, keys: &[i32]) -> Vec<String> {
    let table = std::fs::read_to_string(table).expect("a table of the system");
    let has_key = |line: &&str| {
        line.split_whitespace().next().and_then(|key| key.parse().ok()).is_some_and(|key: i32| keys.contains(&key))
    };
    table.lines().skip(1).filter(has_key).map(str::to_owned).collect()
}
