//! How soon a sleeping reader has a record: beside the bare call that it sleeps on, in the same run.
//!
//! ```text
//! cargo bench --bench wake              9 rounds of 200 wakes
//! cargo bench --bench wake -- 30        30 rounds
//! cargo bench --bench wake -- 9 same    both processes on one processor
//! ```
//!
//! Two processes on two processors: one sleeps, the other waits until it does and wakes it. What is measured is the time from just
//! before the publish (or the bare wake) to the return of the receive (or of the bare wait) in the other process; the median of the
//! wakes of a round, and of the rounds the median of its ratio. Each round has all contenders, one behind the other.
//!
//! The target: at most 1.3 times the bare call.

use std::fs;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Release};

use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork};
use shmcast::{Options, Reader, WaitStrategy, Wakeup, Writer};

#[path = "../tests/support/guard.rs"]
mod guard;

const ROUNDS: usize = 9;
const WAKES: usize = 200;
/// What comes before them in each round, and does not count.
const WARM_UP: usize = 10;

/// Words of both processes, on lines of their own.
#[repr(C, align(128))]
struct Line(std::cell::UnsafeCell<u64>);

#[repr(C)]
struct Shared {
    /// How often the second process has begun to wait.
    waiting: Line,
    /// How often it was woken, and when it was last.
    woken: Line,
    woken_at: Line,
    futex: Line,
    semaphore: std::cell::UnsafeCell<libc::sem_t>,
}

#[allow(clippy::disallowed_types)]
type Word = std::sync::atomic::AtomicU64;

impl Line {
    fn word(&self) -> &Word {
        // SAFETY: the memory of the cell, zeroed by the kernel, aligned, and accessed in no other way.
        unsafe { Word::from_ptr(self.0.get()) }
    }

    /// The half of the word that a futex compares.
    fn half(&self) -> *mut u32 {
        self.0.get().cast::<u32>().wrapping_add(usize::from(cfg!(target_endian = "big")))
    }
}

const MEANS: [(&str, Wakeup); 3] = [
    ("futex", Wakeup::Futex),
    ("POSIX semaphore", Wakeup::PosixSemaphore),
    ("System V semaphore", Wakeup::SysvSemaphore),
];

/// The bare call of a means, or the ring that uses it.
fn contenders() -> impl Iterator<Item = (usize, bool)> {
    (0..MEANS.len()).flat_map(|means| [(means, false), (means, true)])
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// One of a set of two semaphores.
fn semop(set: i32, change: i16) {
    let mut operation = libc::sembuf { sem_num: 1, sem_op: change, sem_flg: 0 };
    // SAFETY: one operation, which outlives the call.
    while unsafe { libc::semop(set, &raw mut operation, 1) } != 0 {}
}

fn bare_wait(shared: &Shared, means: usize, set: i32, seen: u64) {
    match means {
        0 => {
            while shared.futex.word().load(Acquire) == seen {
                let (word, no_time) = (shared.futex.half(), std::ptr::null::<libc::timespec>());
                // SAFETY: the kernel checks the address itself and only reads the word.
                unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, seen as u32, no_time) };
            }
        }
        // SAFETY: made before the fork, and shared.
        1 => while unsafe { libc::sem_wait(shared.semaphore.get()) } != 0 {},
        _ => semop(set, -1),
    }
}

fn bare_wake(shared: &Shared, means: usize, set: i32, seen: u64) {
    match means {
        0 => {
            shared.futex.word().store(seen + 1, Release);
            // SAFETY: the kernel uses the address as a key.
            unsafe { libc::syscall(libc::SYS_futex, shared.futex.half(), libc::FUTEX_WAKE, i32::MAX) };
        }
        // SAFETY: as in `bare_wait`.
        1 => drop(unsafe { libc::sem_post(shared.semaphore.get()) }),
        _ => semop(set, 1),
    }
}

/// The second process: waits as often as the first one wakes it.
fn second(shared: &Shared, set: i32, mut readers: Vec<Reader>, rounds: usize) {
    let (mut count, mut futex, mut buffer) = (0, 0, [0; 8]);
    for _ in 0..rounds {
        for (means, ring) in contenders() {
            for _ in 0..WARM_UP + WAKES {
                count += 1;
                shared.waiting.word().store(count, Release);
                if ring {
                    readers[means].recv_into(&mut buffer).expect("a record");
                } else {
                    bare_wait(shared, means, set, futex);
                    futex += u64::from(means == 0);
                }
                shared.woken_at.word().store(now(), Release);
                shared.woken.word().store(count, Release);
            }
        }
    }
}

/// Waits until a process sleeps in the kernel.
fn until_asleep(process: Pid) {
    // The state follows the command's name, which is in parentheses.
    let sleeps = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    };
    while !sleeps() {
        std::thread::yield_now();
    }
}

/// The first process: wakes, and answers the median of each contender in each round, in nanoseconds.
fn first(shared: &Shared, set: i32, writers: &mut [Writer], sleeper: Pid, rounds: usize) -> Vec<Vec<f64>> {
    let (mut count, mut futex) = (0, 0);
    let mut one = |means: usize, ring: bool| {
        count += 1;
        while shared.waiting.word().load(Acquire) != count {
            std::thread::yield_now();
        }
        until_asleep(sleeper);
        let began = now();
        if ring {
            writers[means].publish(&count.to_ne_bytes()).expect("room");
        } else {
            bare_wake(shared, means, set, futex);
            futex += u64::from(means == 0);
        }
        while shared.woken.word().load(Acquire) != count {
            // On one processor the other must have it.
            std::thread::yield_now();
        }
        (shared.woken_at.word().load(Acquire) - began) as f64
    };
    let mut round = || {
        contenders()
            .map(|(means, ring)| {
                let wakes: Vec<f64> = (0..WARM_UP + WAKES).map(|_| one(means, ring)).collect();
                median(wakes[WARM_UP..].to_vec())
            })
            .collect()
    };
    (0..rounds).map(|_| round()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("processor number");
    // Where it is not allowed the figures are worth less.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS).max(1);
    let last = std::thread::available_parallelism().map_or(1, |n| n.get()) - 1;
    let other = if std::env::args().any(|arg| arg == "same") { 0 } else { last };
    let bytes = NonZeroUsize::new(size_of::<Shared>()).expect("not 0");
    // SAFETY: a new mapping; nothing else lies there. Shared, so that the child sees it; never unmapped.
    let memory =
        unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) };
    let memory: NonNull<Shared> = memory.expect("shared memory").cast();
    // SAFETY: zeroed, page-aligned and large enough, and all of it is behind cells.
    let shared = unsafe { memory.as_ref() };
    // SAFETY: a place for a semaphore, which nobody else uses yet.
    unsafe { libc::sem_init(shared.semaphore.get(), 1, 0) };
    let keys = [(); 2].map(|()| guard::fresh_key());
    // SAFETY: the call takes numbers only.
    let set = unsafe { libc::semget(keys[0], 2, 0o600 | libc::IPC_CREAT | libc::IPC_EXCL) };
    assert!(set >= 0, "a set of semaphores within kernel.sem");
    // System V semaphores are for rings with a name.
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = |means: usize| directory.path().join(means.to_string());
    let create = |(means, &(_, wakeup)): (usize, &(&str, Wakeup))| {
        let options = Options::new().wakeup(wakeup).semaphore_key(keys[1]);
        options.create_file(path(means)).expect("a ring")
    };
    let mut writers: Vec<Writer> = MEANS.iter().enumerate().map(create).collect();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            pin(other);
            let options = Options::new().wait(WaitStrategy::ParkAtOnce);
            let readers = (0..MEANS.len()).map(|means| options.open_file(path(means)).expect("a ring")).collect();
            second(shared, set, readers, rounds);
            // The directory is the first one's to remove.
            std::mem::forget(directory);
        }
        ForkResult::Parent { child } => {
            pin(0);
            let medians = first(shared, set, &mut writers, child, rounds);
            let place = if other == 0 { "one processor" } else { "two processors" };
            println!("from just before the wake to the return of the wait, p50, {place}, {rounds} rounds of {WAKES}");
            println!("{:<20} {:>10} {:>10} {:>8}  {:>16}", "", "bare, us", "ring, us", "ratio", "of the rounds");
            for (means, (name, _)) in MEANS.iter().enumerate() {
                let of = |column: usize| medians.iter().map(move |round| round[column]);
                let ratios: Vec<f64> = of(2 * means).zip(of(2 * means + 1)).map(|(bare, ring)| ring / bare).collect();
                let (low, high) = ratios.iter().fold((f64::MAX, 0.0), |(low, high), &r| (r.min(low), r.max(high)));
                println!(
                    "{name:<20} {:>10.2} {:>10.2} {:>8.2}  {low:>7.2} to {high:.2}",
                    median(of(2 * means).collect()) / 1000.0,
                    median(of(2 * means + 1).collect()) / 1000.0,
                    median(ratios),
                );
            }
            nix::sys::wait::waitpid(child, None).expect("second process");
            // SAFETY: the call takes numbers only.
            unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
        }
    }
}
