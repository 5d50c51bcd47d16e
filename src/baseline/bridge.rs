//! A thread between a receiver that has no descriptor (the ring, semaphores, System V queues, boards) and a loop that waits for descriptors.
//!
//! ```text
//!   receiver ──▶ thread: receives, and waits as that transport waits ──▶ queue in this process + eventfd ──▶ epoll
//! ```
//! What it costs, for each record: a copy, an allocation, one `eventfd` write (a system call) if the loop had caught up, and a
//! wakeup of the loop's thread then; and a thread, all the time. A loop that is behind is not woken for each record.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};

use super::error::{During, restarted};
use super::wait::ready;
use super::{Patience, ReceiveError, Received, Receiver, SetupError};

/// Records that may wait in the queue: then the thread waits, and holds up the transport, not the memory.
const MOST: usize = 1024;
/// How soon the thread sees that the bridge is closed.
const SLICE: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Queue {
    records: VecDeque<(Vec<u8>, u64)>,
    /// What the thread ended with, once the records are received.
    end: Option<ReceiveError>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    room: Condvar,
    /// More than 0 exactly when there is a record, or the end.
    bell: OwnedFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver with a descriptor over one that has none.
#[derive(Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Starts the thread. Records are at most `max_record` bytes long ([`Rules::max_record`](super::Rules::max_record), or less).
    ///
    /// # Errors
    /// No thread, or no descriptor, can be had.
    pub fn over(receiver: Box<dyn Receiver>, max_record: usize) -> Result<Bridge, SetupError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = OwnedFd::from(Counter::from_flags(flags).setup("make an eventfd")?);
        let queue = Mutex::new(Queue { records: VecDeque::new(), end: None, closed: false });
        let shared = Arc::new(Shared { queue, room: Condvar::new(), bell });
        let of_thread = Arc::clone(&shared);
        let run = move || carry(receiver, max_record, &of_thread);
        let thread =
            std::thread::Builder::new().name("shmcast-bridge".to_owned()).spawn(run).setup("start a thread")?;
        Ok(Bridge { shared, thread: Some(thread) })
    }
}

fn carry(mut receiver: Box<dyn Receiver>, max_record: usize, shared: &Shared) {
    let mut buffer = vec![0; max_record];
    loop {
        let outcome = receiver.receive_timeout(&mut buffer, SLICE);
        let mut queue = shared.lock();
        while queue.records.len() >= MOST && !queue.closed {
            queue = shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return;
        }
        let caught_up = queue.records.is_empty();
        match outcome {
            Err(ReceiveError::Timeout) => continue,
            Ok(Received { len, lost }) => queue.records.push_back((buffer[..len].to_vec(), lost)),
            Err(error) => {
                queue.end = Some(error);
                ring(shared);
                return;
            }
        }
        if caught_up {
            ring(shared);
        }
    }
}

fn ring(shared: &Shared) {
    let _ = restarted(|| nix::unistd::write(&shared.bell, &1_u64.to_ne_bytes()));
}

impl Receiver for Bridge {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        loop {
            let mut queue = self.shared.lock();
            if queue.closed {
                return Err(ReceiveError::Closed);
            }
            let next = queue.records.pop_front();
            if queue.records.is_empty() && queue.end.is_none() {
                // Under the lock: a record that comes afterwards rings again.
                let _ = nix::unistd::read(&self.shared.bell, &mut [0; 8]);
            }
            if let Some((record, lost)) = next {
                if queue.records.len() == MOST - 1 {
                    self.shared.room.notify_one();
                }
                let (len, room) = (record.len(), buffer.len());
                buffer.get_mut(..len).ok_or(ReceiveError::TooLong { len, room })?.copy_from_slice(&record);
                return Ok(Received { len, lost });
            }
            if let Some(end) = queue.end.take() {
                queue.closed = true;
                return Err(end);
            }
            drop(queue);
            if !ready(&self.shared.bell, PollFlags::POLLIN, patience).receiving("wait for the bridge")? {
                return Err(patience.empty());
            }
        }
    }

    fn close(&mut self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.bell.as_fd())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.close();
    }
}
