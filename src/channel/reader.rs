//! The reading handle.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use super::record::{Received, Record};
use super::shared::Shared;
use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::layout::Geometry;
use crate::memory::{Mapped, ReadPayload};
use crate::ring::{self, Start, Stop};
use crate::schema::PayloadSchema;
use crate::segment::Lock;
use crate::wait::{Pace, Step, Waiting, fork};

/// Makes attempts until one succeeds, or waiting for the next one fails.
macro_rules! block {
    ($reader:ident, $attempt:expr, $deadline:expr) => {{
        let mut waiting = None;
        loop {
            match $attempt {
                Ok(received) => break Ok(received),
                Err(error) => match $reader.wait(&mut waiting, error, $deadline) {
                    Ok(polls) => $reader.core.poll(polls),
                    Err(error) => break Err(error),
                },
            }
        }
    }};
}

type Core = ring::Reader<Mapped>;

/// A reader of a ring: lossless (it holds the writer back rather than miss a record) or lossy (it is told how many records
/// it missed). Dropping it gives its slot back.
///
/// ```no_run
/// let mut reader = shmcast::Reader::open("ticks")?;
/// println!("{:?}", reader.recv()?.payload);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `Send`, not `Sync`. A forked child that inherits the handle gets `Inherited` from it; dropping it there does nothing.
///
/// # Lagging
/// A lossy reader that was lapped gets `Lagged(n)` once, with the exact number of records lost, and goes on at the place
/// that [`Options::resume`] names. Lagging does not close anything.
///
/// # Eviction
/// A lossless reader that stalled for longer than the [stall limit](Options::stall_limit) of its ring (a process that was stopped and
/// resumed, say) gets `Evicted { lost }` once, with the exact number, and is a lossy reader from then on: it reads on
/// behind the loss, holds nobody back, and is told of further losses by `Lagged`. [`rejoin`](Self::rejoin) makes it lossless again.
/// On a ring without such a limit it only happens if another process damaged the registry.
///
/// # Damage
/// A reader that finds words that no writer leaves gets `Corrupt`, with what it saw, and is poisoned: it says the same at every later
/// call, and holds the writer back no more. Being lapped is never taken for that.
///
/// # Bounds
/// A call that does not wait ends, whatever other processes do, stopped at any instruction or malicious: it polls no word in a loop that
/// another process could keep up. Beside an honest writer, wherever that is stopped, `try_recv_into` takes at most 1,000
/// instructions; if it is lapped meanwhile, wherever it is stopped itself, at most 4,000 on a ring of 16 blocks. (Of a build that is
/// hardly optimised, with small copies and without system calls: `tests/kill_points` counts them one by one.) A hostile
/// writer can have it look for a place to go on 512 times, at 3 words for each [block](Options::blocks), and so it can
/// [`lag`](Self::lag), which walks at most a lap of headers besides; a join walks two and looks ten times as often.
///
/// # Closing
/// When the writer closes the ring, or is dropped, readers get `Closed` after the last record.
pub struct Reader {
    pub(super) core: Core,
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    /// The lock of the slot.
    _lock: Option<Lock>,
    /// When it was last asked whether the writer lives.
    asked: Option<Instant>,
    pace: Pace,
    /// The process's generation when this was made: a forked child does not own the slot.
    pub(super) born: usize,
    not_sync: PhantomData<std::cell::Cell<()>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.shared.path)
            .field("lossless", &self.is_lossless())
            .field("position", &self.position())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the named ring `name` as a lossless reader from the oldest record on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(name: &str) -> Result<Reader, OpenError> {
        Options::new().open(name)
    }

    pub(super) fn new(core: Core, shared: Arc<Shared>, lock: Option<Lock>, options: Options) -> Reader {
        let pace = options.pace().of_reader(core.is_lossless(), core.geometry().capacity);
        let born = fork::watch();
        Reader { core, shared, options, _lock: lock, asked: None, pace, born, not_sync: PhantomData }
    }

    /// The core, unless this process is a forked child that inherited it: the slot and the cursor are its parent's.
    #[inline(always)]
    pub(super) fn mine(&mut self) -> Option<&mut Core> {
        (self.born == fork::generation()).then_some(&mut self.core)
    }

    fn own(&mut self) -> Result<Record, TryRecvError> {
        own(self.mine().ok_or(TryRecvError::Inherited)?)
    }

    fn copy_slowly(&mut self, buffer: &mut [u8]) -> Result<Received, TryRecvError> {
        copy_slowly(self.mine().ok_or(TryRecvError::Inherited)?, buffer)
    }

    // ---- owned records ----

    /// Receives a record if there is one. Never waits. Allocates the record's payload; [`try_recv_into`](Self::try_recv_into)
    /// and [`try_recv_ref`](Self::try_recv_ref) do not.
    ///
    /// # Errors
    /// [`TryRecvError`].
    pub fn try_recv(&mut self) -> Result<Record, TryRecvError> {
        self.own().or_else(|error| self.heed_death(error))
    }

    /// Receives a record, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv(&mut self) -> Result<Record, RecvError> {
        block!(self, self.own(), None).map_err(forever)
    }

    /// Receives a record, waiting for a limited time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Record, RecvTimeoutError> {
        let deadline = Instant::now().checked_add(timeout);
        block!(self, self.own(), deadline)
    }

    /// Receives a record, waiting until a point in time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Record, RecvTimeoutError> {
        block!(self, self.own(), Some(deadline))
    }

    // ---- into a buffer ----

    /// Receives a record into a buffer if there is one. Never waits, never allocates.
    ///
    /// # Errors
    /// [`TryRecvError`]; the buffer may hold garbage then. After [`TooSmall`](TryRecvError::TooSmall) the record is still
    /// there.
    #[inline(always)]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Received, TryRecvError> {
        self.mine().and_then(|core| copy(core, buffer)).map_or_else(|| self.try_recv_into_slowly(buffer), Ok)
    }

    #[cold]
    #[inline(never)]
    fn try_recv_into_slowly(&mut self, buffer: &mut [u8]) -> Result<Received, TryRecvError> {
        self.copy_slowly(buffer).or_else(|error| self.heed_death(error))
    }

    /// Receives a record into a buffer, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`], as [`try_recv_into`](Self::try_recv_into).
    #[inline(always)]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        let mut waiting = None;
        loop {
            if let Some(received) = self.mine().and_then(|core| copy(core, buffer)) {
                return Ok(received);
            }
            let polls = self.wait_for_record(&mut waiting, buffer.len())?;
            self.core.poll(polls);
        }
    }

    /// Receives a record into a buffer, waiting for a limited time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`], as [`try_recv_into`](Self::try_recv_into).
    pub fn recv_into_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, RecvTimeoutError> {
        let deadline = Instant::now().checked_add(timeout);
        block!(self, self.copy_slowly(buffer), deadline)
    }

    // ---- batches and iterators ----

    /// Appends up to `most` records that are there now to `records`; answers their number, at least 1 if `most` is. Never waits.
    ///
    /// # Errors
    /// [`TryRecvError`] if there is none; what comes behind some records is reported by the next call.
    pub fn try_recv_batch(&mut self, records: &mut Vec<Record>, most: usize) -> Result<usize, TryRecvError> {
        if most == 0 {
            return Ok(0);
        }
        let first = self.try_recv()?;
        Ok(self.fill(first, records, most))
    }

    /// As [`try_recv_batch`](Self::try_recv_batch), waiting for the first record if need be.
    ///
    /// # Errors
    /// [`RecvError`] if there is none; what comes behind some records is reported by the next call.
    pub fn recv_batch(&mut self, records: &mut Vec<Record>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let first = self.recv()?;
        Ok(self.fill(first, records, most))
    }

    fn fill(&mut self, first: Record, records: &mut Vec<Record>, most: usize) -> usize {
        let before = records.len();
        records.push(first);
        while records.len() - before < most {
            match self.try_recv() {
                Ok(record) => records.push(record),
                Err(TryRecvError::Lagged(lost)) => {
                    self.core.owe(Stop::Lagged(lost));
                    break;
                }
                Err(TryRecvError::Evicted { lost }) => {
                    self.core.owe(Stop::Evicted { lost });
                    break;
                }
                Err(_) => break,
            }
        }
        records.len() - before
    }

    /// Iterates over owned records, waiting for each; ends when the ring is closed, or after a final error.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { reader: self, done: false }
    }

    /// Iterates over the owned records that are there now, without waiting; ends when there is none, or after a final
    /// error.
    pub fn try_iter(&mut self) -> TryIter<'_> {
        TryIter { reader: self, done: false }
    }

    // ---- state ----

    /// Records published and not yet received, at least: exact when the writer rests. May be out of date at once; it can only
    /// have grown. Walks up to a block of record headers, a few microseconds at worst, and once more if it is lapped meanwhile; 0 if
    /// that happens eight times.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.core.lag()
    }

    /// Bytes since the ring began, headers and pads included, up to the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.core.position()
    }

    /// The sequence number of the next record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.core.sequence()
    }

    /// Does this reader hold the writer back rather than miss a record? No more once it was evicted, until it
    /// [rejoins](Self::rejoin).
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.core.is_lossless()
    }

    /// Bytes of the ring's data area.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.core.geometry().capacity
    }

    /// The largest payload in bytes: a buffer of this size is never too small.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.geometry().max_payload() as usize
    }

    /// What the records are: [raw](PayloadSchema::is_raw) bytes, or values of a type.
    #[must_use]
    pub fn payload_schema(&self) -> PayloadSchema {
        self.shared.payload_schema()
    }

    /// Another reader with the same options, that begins with the next record to be published. It shares this one's mapping: two
    /// readers of one processor, or of one thread, are faster so than with the ring opened twice, because the processor's nearest cache
    /// knows a line by its address (64-byte values, AMD Zen 3: a fifth).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn resubscribe(&self) -> Result<Reader, OpenError> {
        self.options.clone().start(Start::Newest).attach(Arc::clone(&self.shared))
    }

    /// Makes a reader that was evicted lossless again, from its next record on. Answers how many records that cost: 0, unless the
    /// writer was about to overwrite the next one; then it goes on where a lapped reader does. A loss behind a batch, not told
    /// yet, is counted in. (So it does with a lossy reader that is counted.) Takes its place in its own slot, so none has to be free.
    ///
    /// # Errors
    /// [`OpenError`]: [`Busy`](OpenError::Busy) if the writer outran every attempt, [`Corrupt`](OpenError::Corrupt) if the reader is
    /// poisoned, [`NoFreeSlot`](OpenError::NoFreeSlot) for a lossy reader without a slot,
    /// [`Inherited`](OpenError::Inherited) in a forked child. It is what it was before.
    pub fn rejoin(&mut self) -> Result<u64, OpenError> {
        let slots = self.core.geometry().reader_slots;
        let rejoined = self.mine().ok_or(OpenError::Inherited)?.rejoin();
        rejoined.map_err(|error| self.options.refused(error, slots))
    }

    // ---- waiting ----

    /// After a look that found no record that fits into `room` bytes: why? Answers how often to poll before the next look;
    /// the polling itself is inlined into the caller, so that nothing stands between it and the record.
    #[cold]
    #[inline(never)]
    pub(super) fn wait_for_record(&mut self, waiting: &mut Option<Waiting>, room: usize) -> Result<u32, RecvError> {
        let Some(core) = self.mine() else { return Err(RecvError::Inherited) };
        match core.read(|_| ()) {
            Ok(read) if read.len > room => Err(RecvError::TooSmall { needed: read.len }),
            Ok(_) => Ok(0),
            Err(stop) => self.wait(waiting, stop.into(), None).map_err(forever),
        }
    }

    /// After an attempt that failed: waits until it may be time for the next one, if a record was what was missing.
    pub(super) fn wait(
        &mut self,
        waiting: &mut Option<Waiting>,
        error: TryRecvError,
        deadline: Option<Instant>,
    ) -> Result<u32, RecvTimeoutError> {
        if error != TryRecvError::Empty {
            return Err(error.into());
        }
        // Not before the first polls, which a question would delay.
        if waiting.is_some() && self.writer_died() {
            return Err(RecvTimeoutError::WriterDied);
        }
        match waiting
            .get_or_insert_with(|| self.pace.wait_for_record(self.core.sequence(), deadline))
            .step(&mut self.pace)
        {
            Step::Poll(polls) => Ok(polls),
            Step::Park(slice) => {
                // Nobody wakes a reader when the writer dies.
                let watched = self.shared.lives.is_some() && !self.options.wait_for_successor;
                let began = Instant::now();
                if self.core.park(if watched { slice.min(WATCH) } else { slice }) {
                    self.pace.slept_since(began);
                }
                Ok(0)
            }
            // Perhaps not asked yet: there may have been no time for it.
            Step::TimedOut if self.writer_died() => Err(RecvTimeoutError::WriterDied),
            Step::TimedOut => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Is an empty ring one whose writer has died?
    pub(super) fn heed_death<T>(&mut self, error: TryRecvError) -> Result<T, TryRecvError> {
        let died = error == TryRecvError::Empty && self.writer_died();
        Err(if died { TryRecvError::WriterDied } else { error })
    }

    /// Asked of a ring that was found empty: has its writer died, and is it still empty? Asks the system, but not more often
    /// than it is worth.
    fn writer_died(&mut self) -> bool {
        let Some(lives) = self.shared.lives.as_ref().filter(|_| !self.options.wait_for_successor) else { return false };
        let now = Instant::now();
        if self.asked.is_some_and(|asked| now.duration_since(asked) < ASK_EVERY) {
            return false;
        }
        self.asked = Some(now);
        let died = self.core.outlives_writer(|| lives.writer_is_dead());
        if died {
            // Whoever comes next is asked at once.
            self.asked = None;
        }
        died
    }
}

/// Between two questions whether the writer lives, for a reader that polls, and for one that sleeps.
const ASK_EVERY: Duration = Duration::from_millis(1);
const WATCH: Duration = Duration::from_millis(75);

impl Drop for Reader {
    fn drop(&mut self) {
        // A forked child does not own the slot.
        if self.born == fork::generation() {
            self.core.leave();
        }
    }
}

/// An owned copy of the next record. Two reads: the first one finds out how long it really is, because a reader that was
/// lapped sees garbage for a length, and must not allocate by it.
fn own(core: &mut Core) -> Result<Record, TryRecvError> {
    let len = core.read(|_| ())?.len;
    let mut payload = Vec::with_capacity(len);
    let read = core.read(|found| {
        payload.clear();
        found.append_out(found.len().min(len), &mut payload);
    })?;
    if read.len != len {
        // A record that was whole does not change before it is released, or is lost: only a hostile writer comes here.
        return Err(core.condemn(Geometry::data_header(read.len)).into());
    }
    core.release(read.next());
    Ok(Record { sequence: read.sequence, payload })
}

/// The next record, copied into a buffer, if it is there and fits.
#[inline(always)]
fn copy(core: &mut Core, buffer: &mut [u8]) -> Option<Received> {
    let read = core.look_into(buffer)?;
    if !read.value {
        return None;
    }
    core.release(read.next());
    Some(Received { sequence: read.sequence, len: read.len })
}

/// The next record, copied into a buffer, or why not.
#[cold]
#[inline(never)]
fn copy_slowly(core: &mut Core, buffer: &mut [u8]) -> Result<Received, TryRecvError> {
    let room = buffer.len();
    let read = core.read(|payload| payload.copy_out(&mut buffer[..payload.len().min(room)]))?;
    if read.len > room {
        return Err(TryRecvError::TooSmall { needed: read.len });
    }
    core.release(read.next());
    Ok(Received { sequence: read.sequence, len: read.len })
}

/// The error of a call that has no time limit.
pub(super) fn forever(error: RecvTimeoutError) -> RecvError {
    match error {
        RecvTimeoutError::Lagged(n) => RecvError::Lagged(n),
        RecvTimeoutError::Closed => RecvError::Closed,
        RecvTimeoutError::WriterDied => RecvError::WriterDied,
        RecvTimeoutError::Inherited => RecvError::Inherited,
        RecvTimeoutError::Evicted { lost } => RecvError::Evicted { lost },
        RecvTimeoutError::TooSmall { needed } => RecvError::TooSmall { needed },
        RecvTimeoutError::Invalid { sequence, len } => RecvError::Invalid { sequence, len },
        RecvTimeoutError::NotBorrowable => RecvError::NotBorrowable,
        RecvTimeoutError::Corrupt { position, header } => RecvError::Corrupt { position, header },
        // Without a deadline there is no timeout.
        RecvTimeoutError::Timeout => unreachable!("no deadline was set"),
    }
}

/// See [`Reader::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    reader: &'a mut Reader,
    done: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Record, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.reader.recv();
        self.done = result.as_ref().is_err_and(|error| error.ends());
        if result == Err(RecvError::Closed) { None } else { Some(result) }
    }
}

/// See [`Reader::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a> {
    reader: &'a mut Reader,
    done: bool,
}

impl Iterator for TryIter<'_> {
    type Item = Result<Record, TryRecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.reader.try_recv();
        self.done = result.as_ref().is_err_and(|error| error.ends());
        if matches!(result, Err(TryRecvError::Empty | TryRecvError::Closed)) { None } else { Some(result) }
    }
}
