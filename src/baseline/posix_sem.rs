//! POSIX semaphores as the wakeup of a bounded buffer in shared memory: named ones, or unnamed ones that lie in shared memory themselves.
//!
//! A post costs a few nanoseconds when nobody waits: the count is a word in shared memory, and the kernel is called only to sleep and to
//! wake. There is no undo: nobody learns that the other side has died, and a dead receiver holds the sender up. A name (`sem.` in
//! `/dev/shm`) stays until it is unlinked; unnamed ones go with their memory.

use std::ffi::{CString, c_char, c_int, c_uint};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{self, sem_t};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::time::{ClockId, clock_gettime};

use super::bounded::{self, Buffer, CLOSED, DEFAULT_SLOT_BYTES, DEFAULT_SLOTS};
use super::each::check_length;
use super::error::{During, restarted};
use super::link::Plug;
use super::rules::{FanOut, Reach, Seen};
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};
use crate::segment::plain;

// glibc has them; the `libc` crate does not.
unsafe extern "C" {
    fn sem_open(name: *const c_char, flags: c_int, ...) -> *mut sem_t;
    fn sem_close(semaphore: *mut sem_t) -> c_int;
    fn sem_timedwait(semaphore: *mut sem_t, deadline: *const libc::timespec) -> c_int;
}

/// A semaphore of its own name, or one of those in a shared page.
#[derive(Debug)]
struct Semaphore {
    at: NonNull<sem_t>,
    /// Closed with this value; otherwise it lies in a [`Page`].
    named: bool,
}

// SAFETY: a semaphore is made to be used by several threads, and processes; this value only has its address.
unsafe impl Send for Semaphore {}

impl Drop for Semaphore {
    fn drop(&mut self) {
        if self.named {
            // SAFETY: `sem_open` answered it, and nobody uses it any more.
            unsafe { sem_close(self.at.as_ptr()) };
        }
    }
}

impl Semaphore {
    /// Opens a named one; makes it first, with a value, if one is given: then nothing may have the name.
    fn named(name: &str, value: Option<c_uint>) -> Result<Semaphore, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let at = match value {
            // SAFETY: the name ends with a zero; the arguments are those that go with O_CREAT.
            Some(value) => unsafe { sem_open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o600 as c_uint, value) },
            // SAFETY: the name ends with a zero.
            None => unsafe { sem_open(name.as_ptr(), 0) },
        };
        NonNull::new(at).map(|at| Semaphore { at, named: true }).ok_or_else(Errno::last)
    }

    /// V. A few nanoseconds, and a system call if somebody waits.
    fn post(&self) -> Result<(), Errno> {
        // SAFETY: by the invariant of the type it is a live semaphore.
        Errno::result(unsafe { libc::sem_post(self.at.as_ptr()) }).map(drop)
    }

    /// P. False: it was not posted in time.
    fn wait(&self, patience: Patience) -> Result<bool, Errno> {
        let at = self.at.as_ptr();
        let outcome = match patience.left() {
            // SAFETY: by the invariant of the type it is a live semaphore.
            None => restarted(|| Errno::result(unsafe { libc::sem_wait(at) })),
            // SAFETY: as above.
            Some(Duration::ZERO) => restarted(|| Errno::result(unsafe { libc::sem_trywait(at) })),
            Some(left) => {
                let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from)?;
                let end = now.saturating_add(left);
                let tv_sec = libc::time_t::try_from(end.as_secs()).unwrap_or(libc::time_t::MAX);
                let deadline = libc::timespec { tv_sec, tv_nsec: end.subsec_nanos().into() };
                // SAFETY: as above; the deadline is a `timespec`.
                restarted(|| Errno::result(unsafe { sem_timedwait(at, &raw const deadline) }))
            }
        };
        match outcome {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ETIMEDOUT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Shared memory with nothing but semaphores in it.
#[derive(Debug)]
struct Page {
    base: NonNull<sem_t>,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping is this value's own; it is unmapped by whichever thread drops it.
unsafe impl Send for Page {}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped with this length in `map`; the semaphores that point here are dropped with the same value, or before.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}

/// Two for each receiver.
fn page_bytes(receivers: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(receivers * 2 * size_of::<sem_t>())
}

impl Page {
    /// Maps a file that holds that many pairs of semaphores.
    fn map(file: impl AsFd, receivers: usize) -> io::Result<Page> {
        let bytes = page_bytes(receivers).ok_or(Errno::EINVAL)?;
        let length = nix::sys::stat::fstat(&file)?.st_size;
        if usize::try_from(length).map_or(true, |length| length < bytes.get()) {
            return Err(Errno::EINVAL.into());
        }
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let base = unsafe { mmap(None, bytes, access, flags, file, 0) }?;
        Ok(Page { base: base.cast(), bytes })
    }

    /// Makes semaphore `number`, for all processes that have the page.
    fn init(&self, number: usize, value: c_uint) -> Result<(), Errno> {
        let at = self.get(number)?.at;
        // SAFETY: the page has that many semaphores, and nobody else has the page yet.
        Errno::result(unsafe { libc::sem_init(at.as_ptr(), 1, value) }).map(drop)
    }

    fn get(&self, number: usize) -> Result<Semaphore, Errno> {
        if (number + 1) * size_of::<sem_t>() > self.bytes.get() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: as just checked, it is within the mapping.
        Ok(Semaphore { at: unsafe { self.base.add(number) }, named: false })
    }
}

/// Memory without a name, of that many bytes.
fn memory(name: &str, bytes: u64) -> Result<OwnedFd, Errno> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
    fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes).map_err(|_| Errno::EINVAL)?)?;
    Ok(file)
}

fn copy(file: &OwnedFd) -> Result<OwnedFd, SetupError> {
    file.try_clone().setup("copy a descriptor")
}

/// A bounded buffer in shared memory, 64 slots of 64 KiB, with POSIX semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixSemaphores {
    /// Named semaphores; otherwise unnamed ones in shared memory.
    pub named: bool,
}

impl PosixSemaphores {
    /// Both.
    pub const ALL: [PosixSemaphores; 2] = [PosixSemaphores { named: true }, PosixSemaphores { named: false }];

    /// Those of the buffer: items and room for each receiver; and what keeps them alive.
    fn semaphores(self, plug: &mut Plug, receivers: usize) -> Result<(Vec<Semaphore>, Option<Page>), SetupError> {
        if self.named {
            let names = plug.words.iter().skip(1);
            let all: Result<Vec<_>, _> = names.map(|name| Semaphore::named(name, None)).collect();
            return Ok((all.setup("open a semaphore")?, None));
        }
        let page = Page::map(plug.descriptor()?, receivers).setup("map semaphores")?;
        let all: Result<Vec<_>, _> = (0..receivers * 2).map(|number| page.get(number)).collect();
        Ok((all.setup("use semaphores")?, Some(page)))
    }

    fn connect(self, plug: &mut Plug) -> Result<Shared, SetupError> {
        let file = plug.descriptor()?;
        let bytes = bounded::length(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES);
        let length = nix::sys::stat::fstat(&file).setup("look at shared memory")?.st_size;
        if u64::try_from(length).map_or(true, |length| length < bytes) {
            return Err(SetupError::BadEnd { text: "shared memory".to_owned(), reason: "it is too short" });
        }
        let buffer = Buffer::open(plain::file(&file, bytes).setup("map shared memory")?)?;
        let (semaphores, page) = self.semaphores(plug, buffer.receivers)?;
        if semaphores.len() != buffer.receivers * 2 {
            return Err(SetupError::BadEnd { text: plug.words.join("|"), reason: "a semaphore is missing" });
        }
        Ok(Shared { buffer, semaphores, _page: page })
    }
}

impl Transport for PosixSemaphores {
    fn name(&self) -> String {
        format!("posix-sem-{}", if self.named { "named" } else { "unnamed" })
    }

    fn rules(&self) -> Rules {
        Rules {
            fan_out: FanOut::Once,
            sender_end: Seen::CLOSE,
            receiver_end: Seen::CLOSE,
            dead_holds_sender: true,
            pollable: false,
            outlives: self.named,
            // The buffer itself has no name.
            reach: Reach::Descriptors,
            ..Rules::messages(DEFAULT_SLOT_BYTES)
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let bytes = bounded::length(DEFAULT_SLOTS, DEFAULT_SLOT_BYTES);
        let file = memory("shmcast-buffer", bytes).setup("make shared memory")?;
        let memory_of_it = plain::file(&file, bytes).setup("map shared memory")?;
        Buffer::create(memory_of_it, DEFAULT_SLOTS, DEFAULT_SLOT_BYTES, receivers);
        // Items, then room, of each receiver.
        let value = |number: usize| if number.is_multiple_of(2) { 0 } else { DEFAULT_SLOTS as c_uint };
        let (mut names, mut page) = (Vec::new(), None);
        if self.named {
            for number in 0..receivers * 2 {
                let name = place.name(number);
                Semaphore::named(&name, Some(value(number))).setup("make a semaphore")?;
                names.push(name);
            }
        } else {
            let bytes = page_bytes(receivers).map_or(0, NonZeroUsize::get);
            let of_semaphores = memory("shmcast-semaphores", bytes as u64).setup("make shared memory")?;
            let mapped = Page::map(&of_semaphores, receivers).setup("map semaphores")?;
            for number in 0..receivers * 2 {
                mapped.init(number, value(number)).setup("make a semaphore")?;
            }
            page = Some(of_semaphores);
        }
        let plug = |number: usize| {
            let plug = Plug::words([number.to_string()].into_iter().chain(names.clone())).with([copy(&file)?]);
            Ok(match &page {
                Some(page) => plug.with([copy(page)?]),
                None => plug,
            })
        };
        let receivers: Result<_, SetupError> = (0..receivers).map(plug).collect();
        Ok(Plugs { sender: plug(0)?, receivers: receivers? })
    }

    fn sender(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let shared = self.connect(&mut plug)?;
        let receivers = (0..shared.buffer.receivers).collect();
        Ok(Box::new(SemaphoreSender { next: shared.buffer.published(), shared, receivers, taken: 0, closed: false }))
    }

    fn receiver(&self, mut plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let number = plug.number::<usize>(0)?;
        let shared = self.connect(&mut plug)?;
        if number >= shared.buffer.receivers {
            return Err(SetupError::BadEnd { text: number.to_string(), reason: "there is no such receiver" });
        }
        Ok(Box::new(SemaphoreReceiver { shared, number, next: 0, closed: false }))
    }
}

#[derive(Debug)]
struct Shared {
    buffer: Buffer,
    semaphores: Vec<Semaphore>,
    /// Behind the semaphores: dropped after them.
    _page: Option<Page>,
}

impl Shared {
    fn items(&self, receiver: usize) -> &Semaphore {
        &self.semaphores[receiver * 2]
    }

    fn room(&self, receiver: usize) -> &Semaphore {
        &self.semaphores[receiver * 2 + 1]
    }
}

#[derive(Debug)]
struct SemaphoreSender {
    shared: Shared,
    /// Those that have not closed their end.
    receivers: Vec<usize>,
    /// The first so many of them have room for the next record.
    taken: usize,
    next: u64,
    closed: bool,
}

impl Sender for SemaphoreSender {
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        check_length(record.len(), 0, self.shared.buffer.slot_bytes)?;
        while let Some(&receiver) = self.receivers.get(self.taken) {
            if !self.shared.room(receiver).wait(patience).sending("wait for room")? {
                return Err(patience.full());
            }
            if self.shared.buffer.has(Some(receiver), CLOSED) {
                self.receivers.remove(self.taken);
            } else {
                self.taken += 1;
            }
        }
        self.taken = 0;
        if self.receivers.is_empty() {
            return Err(SendError::PeerGone);
        }
        self.shared.buffer.write(self.next, record);
        self.next += 1;
        for &receiver in &self.receivers {
            self.shared.items(receiver).post().sending("announce a record")?;
        }
        Ok(())
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.shared.buffer.set(None, CLOSED);
            for receiver in 0..self.shared.buffer.receivers {
                let _ = self.shared.items(receiver).post();
            }
        }
    }
}

impl Drop for SemaphoreSender {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct SemaphoreReceiver {
    shared: Shared,
    number: usize,
    next: u64,
    closed: bool,
}

impl Receiver for SemaphoreReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let shared = &self.shared;
        if self.closed {
            return Err(ReceiveError::Closed);
        }
        if !shared.items(self.number).wait(patience).receiving("wait for a record")? {
            return Err(patience.empty());
        }
        if self.next >= shared.buffer.published() {
            // The post of the close; it stays for the next call.
            shared.items(self.number).post().receiving("keep the end")?;
            return Err(ReceiveError::Closed);
        }
        let outcome = shared.buffer.read(self.next, buffer);
        self.next += 1;
        shared.room(self.number).post().receiving("give a slot back")?;
        outcome.map(Received::whole)
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.shared.buffer.set(Some(self.number), CLOSED);
            let _ = self.shared.room(self.number).post();
        }
    }
}

impl Drop for SemaphoreReceiver {
    fn drop(&mut self) {
        self.close();
    }
}
