//! System V queues and semaphores, as they are: found by a key, alive until somebody removes them.
//!
//! `ftok` makes the key of a path. A process that is killed removes nothing: `ipcs` shows what stays, `ipcrm` removes it.

use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_short, c_ushort};

/// Owner, read and write.
const OWNER: c_int = 0o600;

/// A message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue(c_int);

/// The longest message, and the bytes that a queue holds: `kernel.msgmax`, `kernel.msgmnb`.
#[must_use]
pub fn queue_limits() -> (usize, usize) {
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().parse().ok()
    };
    (limit("msgmax").unwrap_or(8192), limit("msgmnb").unwrap_or(16384))
}

impl Queue {
    /// Makes the queue of a key that nothing has, for this user.
    ///
    /// # Errors
    /// `EEXIST`: the key is taken; `ENOSPC`: `kernel.msgmni` queues exist.
    pub fn create(key: i32) -> Result<Queue, Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::msgget(key, OWNER | libc::IPC_CREAT | libc::IPC_EXCL) }).map(Queue)
    }

    /// The queue of a key.
    ///
    /// # Errors
    /// `ENOENT`: there is none.
    pub fn open(key: i32) -> Result<Queue, Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::msgget(key, 0) }).map(Queue)
    }

    /// Sends a message: its type, at least 1, and its bytes. Waits for room, or answers `EAGAIN`.
    ///
    /// `message` is the room of a `long` for the type, and the bytes; so that nothing is copied here.
    ///
    /// # Errors
    /// `EAGAIN`; `EINTR`; `EIDRM`, `EINVAL`: the queue is removed, or the type or the length are refused.
    pub fn send(self, kind: i64, message: &mut [u8], waits: bool) -> Result<(), Errno> {
        let flags = if waits { 0 } else { libc::IPC_NOWAIT };
        let bytes = message.len().checked_sub(TYPE_BYTES).ok_or(Errno::EINVAL)?;
        message[..TYPE_BYTES].copy_from_slice(&(kind as c_long).to_ne_bytes());
        // SAFETY: `message` is a `long` and `bytes` bytes. The system copies it, whatever its alignment.
        Errno::result(unsafe { libc::msgsnd(self.0, message.as_ptr().cast(), bytes, flags) }).map(drop)
    }

    /// Receives the first message of a type (0: of any type; negative: of the lowest type up to its absolute value) behind the room of
    /// a `long`; answers its bytes. Waits for one, or answers `ENOMSG`.
    ///
    /// # Errors
    /// `ENOMSG`; `EINTR`; `E2BIG`: the message does not fit, and stays; `EIDRM`, `EINVAL`: the queue is removed.
    pub fn receive(self, kind: i64, message: &mut [u8], waits: bool) -> Result<usize, Errno> {
        let flags = if waits { 0 } else { libc::IPC_NOWAIT };
        let room = message.len().checked_sub(TYPE_BYTES).ok_or(Errno::EINVAL)?;
        // SAFETY: `message` has room for a `long` and `room` bytes.
        let count = unsafe { libc::msgrcv(self.0, message.as_mut_ptr().cast(), room, kind as c_long, flags) };
        Errno::result(count).map(|count| count as usize)
    }

    /// Messages in the queue, and the process that sent last.
    ///
    /// # Errors
    /// The queue is removed.
    pub fn state(self) -> Result<(u64, i32), Errno> {
        let mut state = std::mem::MaybeUninit::<libc::msqid_ds>::zeroed();
        // SAFETY: `state` is a place for what IPC_STAT answers.
        Errno::result(unsafe { libc::msgctl(self.0, libc::IPC_STAT, state.as_mut_ptr()) })?;
        // SAFETY: integers, of which zeros are valid as well as what the call has answered.
        let state = unsafe { state.assume_init() };
        Ok((state.msg_qnum, state.msg_lspid))
    }

    /// Removes it: whoever waits in it gets `EIDRM`.
    ///
    /// # Errors
    /// It is removed already, or another user's.
    pub fn remove(self) -> Result<(), Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::msgctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
    }
}

/// Bytes of a message's type.
pub const TYPE_BYTES: usize = size_of::<c_long>();

/// A set of semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Semaphores(c_int);

/// One operation of several that happen together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore.
    pub semaphore: u16,
    /// More than 0: V, adds it. Less: P, waits until it can be subtracted. 0: waits until the value is 0.
    pub change: i16,
    /// The kernel takes it back when the process ends, however it ends (`SEM_UNDO`).
    pub undo: bool,
}

impl Operation {
    /// P: takes one.
    #[must_use]
    pub const fn p(semaphore: u16) -> Operation {
        Operation { semaphore, change: -1, undo: false }
    }

    /// V: adds one.
    #[must_use]
    pub const fn v(semaphore: u16) -> Operation {
        Operation { semaphore, change: 1, undo: false }
    }

    /// The same, taken back when the process ends.
    #[must_use]
    pub const fn undone(self) -> Operation {
        Operation { undo: true, ..self }
    }
}

impl Semaphores {
    /// Makes a set of semaphores, with these values, for a key that nothing has.
    ///
    /// # Errors
    /// `EEXIST`: the key is taken; `ENOSPC`, `EINVAL`: beyond `kernel.sem`.
    pub fn create(key: i32, values: &[u16]) -> Result<Semaphores, Errno> {
        let count = c_int::try_from(values.len()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: no memory is involved.
        let id = unsafe { libc::semget(key, count, OWNER | libc::IPC_CREAT | libc::IPC_EXCL) };
        let set = Errno::result(id).map(Semaphores)?;
        // SAFETY: SETALL reads as many values as the set has semaphores.
        let outcome = Errno::result(unsafe { libc::semctl(set.0, 0, libc::SETALL, values.as_ptr()) });
        outcome.map(|_| set).inspect_err(|_| {
            let _ = set.remove();
        })
    }

    /// The set of a key. Its values may not be set yet: whoever makes it must tell the others afterwards.
    ///
    /// # Errors
    /// `ENOENT`: there is none.
    pub fn open(key: i32) -> Result<Semaphores, Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::semget(key, 0, 0) }).map(Semaphores)
    }

    /// Does all of the operations at once, when all of them can be done. Waits until then; for that long; or, with no time, answers
    /// `EAGAIN`, as it does when the time is over.
    ///
    /// # Errors
    /// `EAGAIN`; `EINTR`; `EIDRM`, `EINVAL`: the set is removed.
    pub fn operate(self, operations: &[Operation], wait: Option<Duration>) -> Result<(), Errno> {
        let now = if wait == Some(Duration::ZERO) { libc::IPC_NOWAIT } else { 0 };
        let mut list: Vec<libc::sembuf> = operations
            .iter()
            .map(|operation| libc::sembuf {
                sem_num: operation.semaphore as c_ushort,
                sem_op: operation.change as c_short,
                sem_flg: (now | if operation.undo { libc::SEM_UNDO } else { 0 }) as c_short,
            })
            .collect();
        let timeout = wait.filter(|wait| !wait.is_zero()).map(|wait| libc::timespec {
            tv_sec: wait.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: c_long::from(wait.subsec_nanos() as i32),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the list has as many operations as it says; the timeout is null or a `timespec`.
        let outcome = unsafe { libc::syscall(libc::SYS_semtimedop, self.0, list.as_mut_ptr(), list.len(), timeout) };
        Errno::result(outcome).map(drop)
    }

    /// The value of one semaphore. It may change at any time.
    ///
    /// # Errors
    /// The set is removed.
    pub fn value(self, semaphore: u16) -> Result<i32, Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::semctl(self.0, c_int::from(semaphore), libc::GETVAL) })
    }

    /// Removes the set: whoever waits for it gets `EIDRM`.
    ///
    /// # Errors
    /// It is removed already, or another user's.
    pub fn remove(self) -> Result<(), Errno> {
        // SAFETY: no memory is involved.
        Errno::result(unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) }).map(drop)
    }
}
