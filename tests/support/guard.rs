//! Some objects outlive everybody, so a test process that is killed would leave them behind. Before it makes one it tells its
//! key or name to a guard: a child that does nothing but wait for the end of a pipe, which comes with the end of the
//! test process, however it ends; and then removes what is still there.
//!
//! Also used by the unit tests of `src/segment/sysv.rs` and `src/wait/semaphore/sysv.rs`.
#![allow(dead_code)] // Each test file uses a part of it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::libc;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

/// Far more than any test process has.
const MAX_KEYS: usize = 4096;
const MAX_NAMES: usize = 1024;
/// One write each, less than PIPE_BUF: the guard reads whole words. A tag, and a key or a name that ends with zeros.
const WORD_BYTES: usize = 256;
type Word = [u8; WORD_BYTES];

/// What can be left behind.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// System V shared memory, message queues and semaphores of a key.
    Key(i32),
    /// A POSIX message queue.
    Queue(&'a str),
    /// A file, or a directory with all that is in it.
    Path(&'a Path),
}

/// From now on nothing stays behind under these keys, which must be of this test process alone.
pub(crate) fn protect(keys: &[i32]) {
    for &key in keys {
        protect_one(Left::Key(key));
    }
}

/// From now on it does not stay behind; it must be this test process's alone.
pub(crate) fn protect_one(left: Left<'_>) {
    static PIPE: OnceLock<File> = OnceLock::new();
    let mut word = [0; WORD_BYTES];
    let mut put = |tag, bytes: &[u8]| {
        assert!(bytes.len() < WORD_BYTES - 1, "a name that is too long for the guard");
        word[0] = tag;
        word[1..=bytes.len()].copy_from_slice(bytes);
    };
    match left {
        Left::Key(key) => put(b'k', &key.to_ne_bytes()),
        Left::Queue(name) => put(b'q', name.as_bytes()),
        Left::Path(path) => put(b'p', path.as_os_str().as_bytes()),
    }
    PIPE.get_or_init(start).write_all(&word).expect("a guard that listens");
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
    let mut names = [[0; WORD_BYTES]; MAX_NAMES];
    let (mut key_count, mut name_count) = (0, 0);
    // SAFETY: the descriptors are this process's own, and none but `hears` is used from here on, under its new number.
    unsafe { libc::dup2(hears.as_raw_fd(), 0) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) };
    loop {
        let mut word: Word = [0; WORD_BYTES];
        // SAFETY: `word` has room for as many bytes.
        match unsafe { libc::read(0, word.as_mut_ptr().cast(), WORD_BYTES) } {
            // The end of the test process. A signal does not end the guard.
            0 => break,
            count if count != WORD_BYTES as isize => {}
            _ if word[0] == b'k' && key_count < MAX_KEYS => {
                keys[key_count] = i32::from_ne_bytes([word[1], word[2], word[3], word[4]]);
                key_count += 1;
            }
            _ if word[0] != b'k' && name_count < MAX_NAMES => {
                names[name_count] = word;
                name_count += 1;
            }
            _ => {}
        }
    }
    for &key in &keys[..key_count] {
        remove_key(key);
    }
    remove_names(&names[..name_count])
}

fn remove_key(key: i32) {
    // SAFETY: no memory is involved.
    let memory = unsafe { libc::shmget(key, 0, 0) };
    if memory >= 0 {
        // SAFETY: whoever has it attached keeps it.
        unsafe { libc::shmctl(memory, libc::IPC_RMID, std::ptr::null_mut()) };
    }
    // SAFETY: no memory is involved.
    let queue = unsafe { libc::msgget(key, 0) };
    if queue >= 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()) };
    }
    // SAFETY: no memory is involved.
    let semaphores = unsafe { libc::semget(key, 0, 0) };
    if semaphores >= 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::semctl(semaphores, 0, libc::IPC_RMID) };
    }
}

/// Becomes `rm`, which knows how to remove a directory, where that is needed.
fn remove_names(names: &[Word]) -> ! {
    let mut arguments = [std::ptr::null::<libc::c_char>(); MAX_NAMES + 4];
    let start = [c"rm".as_ptr(), c"-rf".as_ptr(), c"--".as_ptr()];
    arguments[..3].copy_from_slice(&start);
    let mut count = 3;
    for name in names {
        let text = name[1..].as_ptr().cast();
        if name[0] == b'q' {
            // SAFETY: a word ends with zeros.
            unsafe { libc::mq_unlink(text) };
        } else {
            arguments[count] = text;
            count += 1;
        }
    }
    if count > 3 {
        // SAFETY: the arguments are texts that end with zeros, and end with null.
        unsafe { libc::execv(c"/bin/rm".as_ptr(), arguments.as_ptr()) };
    }
    // SAFETY: ends this process without running what belongs to its parent.
    unsafe { libc::_exit(0) }
}

/// A directory for all files of this test process, which goes when the process ends, however it ends.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<std::path::PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("shmcast-test-{}", std::process::id()));
        protect_one(Left::Path(&path));
        // There may be one of a process that had the number before, and no guard.
        std::fs::create_dir_all(&path).expect("a directory");
        path
    })
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
