//! The writing handle.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use super::shared::Shared;
use super::{Claim, Options, Subscriber};
use crate::error::{CreateError, PublishError, PublishTimeoutError, TryPublishError, WaitForReadersError};
use crate::memory::Mapped;
use crate::ring::{self, Refused, Reserved};
use crate::segment::{Cleanup, Lock};
use crate::wait::{Pace, Step, fork};

/// Between two looks of a sleeping writer at whether the reader that holds it back is alive.
const WATCH: Duration = Duration::from_millis(4);

/// The one writer of a ring. Dropping it closes the ring and, unless [`Options::keep`] was set, removes its name; readers
/// that are attached read on to the end.
///
/// ```no_run
/// let mut writer = shmcast::Writer::create("ticks")?;
/// writer.publish(b"hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `Send`, not `Sync`: publishing needs `&mut`, so there is one writer by type. A forked child that inherits the handle
/// gets `Inherited` from it; dropping it there does nothing.
pub struct Writer {
    pub(super) core: ring::Writer<Mapped>,
    pub(super) shared: Arc<Shared>,
    cleanup: Option<Cleanup>,
    /// Held until the very end: a successor must find the ring closed, or its name gone.
    _lease: Option<Lock>,
    pace: Pace,
    patience: Patience,
    /// There has been a reader: what [`Options::need_readers`] waits for.
    had_readers: bool,
    /// The process's generation when this was made: a forked child neither closes the ring nor removes its name.
    born: usize,
    not_sync: PhantomData<std::cell::Cell<()>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.shared.path)
            .field("position", &self.position())
            .field("sequence", &self.sequence())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Creates the named ring `name` with the default [`Options`].
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::NameTaken`].
    pub fn create(name: &str) -> Result<Writer, CreateError> {
        Options::new().create(name)
    }

    pub(super) fn new(
        core: ring::Writer<Mapped>,
        shared: Arc<Shared>,
        cleanup: Option<Cleanup>,
        lease: Option<Lock>,
        pace: Pace,
        patience: Patience,
    ) -> Writer {
        let born = fork::watch();
        let (had_readers, not_sync) = (false, PhantomData);
        Writer { core, shared, cleanup, _lease: lease, pace, patience, had_readers, born, not_sync }
    }

    /// The core, unless this process is a forked child that inherited it: the lease is its parent's.
    #[inline(always)]
    pub(super) fn mine(&mut self) -> Option<&mut ring::Writer<Mapped>> {
        (self.born == fork::generation()).then_some(&mut self.core)
    }

    /// Publishes one record; answers its sequence number. Waits while a lossless reader holds the writer back. A few
    /// nanoseconds for small payloads, whatever the number of readers; a system call only if a reader sleeps.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was published.
    #[inline(always)]
    pub fn publish(&mut self, payload: &[u8]) -> Result<u64, PublishError> {
        let reserved = self.reserve(payload.len())?;
        Ok(self.core.put(reserved, payload))
    }

    /// As [`publish`](Self::publish), of a length whose [size](ring::Writer::size_for) is known.
    #[inline(always)]
    pub(super) fn publish_sized(&mut self, payload: &[u8], size: u64) -> Result<u64, PublishError> {
        if let Some(reserved) = self.mine().and_then(|core| core.reserve_sized(payload.len(), size)) {
            return Ok(self.core.put(reserved, payload));
        }
        self.wait_for_room(payload.len())?;
        Ok(self.core.put(self.core.reserved(payload.len()), payload))
    }

    /// Publishes one record, or none if there is no room now. Never waits.
    ///
    /// # Errors
    /// [`TryPublishError`]; nothing was published.
    #[inline(always)]
    pub fn try_publish(&mut self, payload: &[u8]) -> Result<u64, TryPublishError> {
        let reserved = self.try_reserve(payload.len())?;
        Ok(self.core.put(reserved, payload))
    }

    /// It was refused: is it time for another attempt, because a dead or stalled reader is out of the way now, or because somebody
    /// reads? For whoever only tries. Not more often than once a millisecond and once a block, so a loop over this ends.
    #[cold]
    fn is_helped(&mut self, refused: Refused) -> bool {
        match refused {
            Refused::Full => {
                let helped = self.patience.glance(&mut self.core, self.shared.lives.as_ref());
                self.had_readers |= helped;
                helped
            }
            Refused::RollCall => self.somebody_reads(),
            _ => false,
        }
    }

    /// Does somebody read, or has nobody come yet? One load and, where deaths are seen, one system call for each slot that is taken.
    fn somebody_reads(&mut self) -> bool {
        self.had_readers |= self.core.take_leaves() || self.core.reader_count() > 0;
        if let Some(lives) = &self.shared.lives {
            self.core.reap_all(|slot| lives.lock_dead_slot(slot));
        }
        let goes_on = !self.had_readers || self.core.reader_count() > 0;
        if goes_on {
            self.core.roll_called();
        }
        goes_on
    }

    /// As [`publish`](Self::publish), for a limited time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`]; nothing was published.
    pub fn publish_timeout(&mut self, payload: &[u8], timeout: Duration) -> Result<u64, PublishTimeoutError> {
        let reserved = self.reserve_until(payload.len(), Instant::now().checked_add(timeout))?;
        Ok(self.core.put(reserved, payload))
    }

    /// As [`publish`](Self::publish), until a point in time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`]; nothing was published.
    pub fn publish_deadline(&mut self, payload: &[u8], deadline: Instant) -> Result<u64, PublishTimeoutError> {
        let reserved = self.reserve_until(payload.len(), Some(deadline))?;
        Ok(self.core.put(reserved, payload))
    }

    /// Claims room for a record of `len` bytes, to be filled in place. Waits while a lossless reader holds the writer back.
    ///
    /// # Errors
    /// [`PublishError`].
    #[inline(always)]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, PublishError> {
        let reserved = self.reserve(len)?;
        Ok(Claim::new(self, reserved))
    }

    /// Claims room for a record of `len` bytes, if there is some now.
    ///
    /// # Errors
    /// [`TryPublishError`].
    #[inline(always)]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, TryPublishError> {
        let reserved = self.try_reserve(len)?;
        Ok(Claim::new(self, reserved))
    }

    /// As [`claim`](Self::claim), for a limited time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`].
    pub fn claim_timeout(&mut self, len: usize, timeout: Duration) -> Result<Claim<'_>, PublishTimeoutError> {
        let reserved = self.reserve_until(len, Instant::now().checked_add(timeout))?;
        Ok(Claim::new(self, reserved))
    }

    /// Room for a record. What has to be done for it that is not done at once stands out of line, and is given no payload: so a
    /// value that is built to be published need never be in memory. It answers no reservation either, which would then be in
    /// memory, too.
    #[inline(always)]
    fn reserve(&mut self, len: usize) -> Result<Reserved, PublishError> {
        if let Some(reserved) = self.mine().and_then(|core| core.reserve_at_once(len)) {
            return Ok(reserved);
        }
        self.wait_for_room(len)?;
        Ok(self.core.reserved(len))
    }

    #[inline(always)]
    fn try_reserve(&mut self, len: usize) -> Result<Reserved, TryPublishError> {
        if let Some(reserved) = self.mine().and_then(|core| core.reserve_at_once(len)) {
            return Ok(reserved);
        }
        self.make_room(len)?;
        Ok(self.core.reserved(len))
    }

    fn reserve_until(&mut self, len: usize, deadline: Option<Instant>) -> Result<Reserved, PublishTimeoutError> {
        self.make_room_until(len, deadline)?;
        Ok(self.core.reserved(len))
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, len: usize) -> Result<(), TryPublishError> {
        let mut made = self.mine().ok_or(TryPublishError::Inherited)?.make_room(len);
        while let Err(refused) = made
            && self.is_helped(refused)
        {
            made = self.core.make_room(len);
        }
        made.map_err(|refused| self.refused(refused, len))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize) -> Result<(), PublishError> {
        self.make_room_until(len, None).map_err(forever)
    }

    fn make_room_until(&mut self, len: usize, deadline: Option<Instant>) -> Result<(), PublishTimeoutError> {
        loop {
            match self.make_room(len) {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_out(error, len, deadline)?,
            }
        }
    }

    /// Publishes records that become visible together, as far as one block of the ring holds them: readers are woken once.
    /// Waits for room where needed; what is stored by then becomes visible first. Answers the number of records.
    ///
    /// # Errors
    /// [`PublishError`]; the records before the one that failed were published.
    pub fn publish_batch<P: AsRef<[u8]>>(
        &mut self,
        records: impl IntoIterator<Item = P>,
    ) -> Result<usize, PublishError> {
        self.batch(records, |writer, error, len| writer.wait_out(error, len, None)).map_err(forever)
    }

    /// As [`publish_batch`](Self::publish_batch), but ends at the first record for which there is no room: answers the
    /// number of records published, which may be 0.
    ///
    /// # Errors
    /// [`TryPublishError`], but never [`Full`](TryPublishError::Full); the records before the one that failed were
    /// published.
    pub fn try_publish_batch<P: AsRef<[u8]>>(
        &mut self,
        records: impl IntoIterator<Item = P>,
    ) -> Result<usize, TryPublishError> {
        let mut count = 0;
        let counted = records.into_iter().inspect(|_| count += 1);
        let helped = |writer: &mut Writer, error, _| {
            if error == TryPublishError::Full && writer.is_helped(Refused::Full) { Ok(()) } else { Err(error) }
        };
        match self.batch(counted, helped) {
            Ok(count) => Ok(count),
            Err(TryPublishError::Full) => Ok(count - 1),
            Err(error) => Err(error),
        }
    }

    /// Stages records one by one; `wait` says what to do when one finds no room. Whatever happens, what is staged is
    /// committed at the end: also when the iterator panics.
    fn batch<P: AsRef<[u8]>, E: From<TryPublishError>>(
        &mut self,
        records: impl IntoIterator<Item = P>,
        mut wait: impl FnMut(&mut Writer, TryPublishError, usize) -> Result<(), E>,
    ) -> Result<usize, E> {
        struct Flush<'a>(&'a mut Writer);
        impl Drop for Flush<'_> {
            fn drop(&mut self) {
                self.0.core.flush();
            }
        }
        self.mine().ok_or(TryPublishError::Inherited)?;
        let flush = Flush(self);
        let mut count = 0;
        for record in records {
            let payload = record.as_ref();
            loop {
                match flush.0.core.stage(payload) {
                    Ok(_) => break,
                    Err(Refused::RollCall) if flush.0.somebody_reads() => {}
                    Err(refused) => {
                        let error = flush.0.refused(refused, payload.len());
                        wait(flush.0, error, payload.len())?;
                    }
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Closes the ring: readers get `Closed` once they have read everything. Also done on drop.
    pub fn close(&mut self) {
        if !self.is_closed() && self.born == fork::generation() {
            self.core.close();
        }
    }

    /// Has this writer closed the ring?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Readers that hold a slot: all lossless ones, and the lossy ones that found a slot free. One load per slot. May be
    /// out of date at once; a reader whose open has returned is counted until it is dropped, or, if it died, until somebody
    /// needs its slot or [waits for readers](Self::wait_for_readers).
    #[must_use]
    pub fn reader_count(&self) -> u64 {
        self.core.reader_count()
    }

    /// Waits until at least `n` readers are there, so that no early record is missed by one of them. Only living ones count,
    /// where that can be seen: not on the heap.
    ///
    /// # Errors
    /// [`WaitForReadersError`] with the number found.
    pub fn wait_for_readers(&mut self, n: u64, timeout: Duration) -> Result<(), WaitForReadersError> {
        let deadline = Instant::now().checked_add(timeout);
        // A wait of another kind: nothing is to be learnt from it.
        let mut pace = self.pace;
        let mut waiting = pace.wait(deadline);
        loop {
            let mut found = self.reader_count();
            // Also if it turns out to be dead.
            self.had_readers |= found > 0;
            if found >= n {
                // Do they live?
                if let Some(lives) = &self.shared.lives {
                    self.core.reap_all(|slot| lives.lock_dead_slot(slot));
                    found = self.reader_count();
                }
                if found >= n {
                    return Ok(());
                }
            }
            match waiting.step(&mut pace) {
                Step::Poll(_) => std::hint::spin_loop(),
                Step::Park(slice) => {
                    self.core.park(slice, |core| core.reader_count() >= n);
                }
                Step::TimedOut => return Err(WaitForReadersError { wanted: n, found }),
            }
        }
    }

    /// Makes readers of this ring in this process and in its forked children: the way to join a ring without a name.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(Arc::clone(&self.shared))
    }

    /// Bytes of the ring's data area.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.core.geometry().capacity
    }

    /// The largest payload in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.geometry().max_payload() as usize
    }

    /// Bytes since the ring began, headers and pads included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.core.position()
    }

    /// The sequence number of the next record: the number of records published.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.core.sequence()
    }

    #[cold]
    fn refused(&self, refused: Refused, len: usize) -> TryPublishError {
        match refused {
            Refused::Full => TryPublishError::Full,
            Refused::TooLarge => TryPublishError::TooLarge { len, max: self.max_payload() },
            Refused::Exhausted => TryPublishError::Exhausted,
            Refused::Closed => TryPublishError::Closed,
            Refused::Fenced => TryPublishError::Fenced,
            Refused::Corrupt => {
                let (expected, found) = self.core.found_epoch();
                TryPublishError::Corrupt { expected, found: found.unwrap_or(expected) }
            }
            Refused::RollCall => TryPublishError::NoReaders,
        }
    }

    /// After a failed attempt: waits until there may be room, if that is what was missing.
    #[cold]
    fn wait_out(
        &mut self,
        error: TryPublishError,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<(), PublishTimeoutError> {
        if error != TryPublishError::Full {
            return Err(error.into());
        }
        let mut waiting = self.pace.wait(deadline);
        loop {
            let polls = match waiting.step(&mut self.pace) {
                Step::Poll(most) => {
                    // Who only polls looks, too.
                    self.had_readers |= self.patience.glance(&mut self.core, self.shared.lives.as_ref());
                    most
                }
                Step::Park(slice) => {
                    if self.patience.look(&mut self.core, self.shared.lives.as_ref()) {
                        self.had_readers = true;
                    } else {
                        // Nobody wakes the writer when a reader dies, or has stalled for too long.
                        let watched = self.patience.watches(self.shared.lives.as_ref());
                        let slice = if watched { slice.min(WATCH) } else { slice };
                        let began = Instant::now();
                        self.core.park_for_room(len, slice);
                        self.pace.slept_since(began);
                    }
                    1
                }
                Step::TimedOut => return Err(PublishTimeoutError::Timeout),
            };
            for _ in 0..polls {
                // Announces and scans; the attempt that follows then costs next to nothing.
                if !matches!(self.core.reserve(len), Err(Refused::Full)) {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
        if let Some(cleanup) = self.cleanup.take()
            && !self.core.has_successor()
        {
            cleanup.run();
        }
    }
}

/// The error of a call that has no time limit.
fn forever(error: PublishTimeoutError) -> PublishError {
    match error {
        PublishTimeoutError::TooLarge { len, max } => PublishError::TooLarge { len, max },
        PublishTimeoutError::Exhausted => PublishError::Exhausted,
        PublishTimeoutError::Closed => PublishError::Closed,
        PublishTimeoutError::Fenced => PublishError::Fenced,
        PublishTimeoutError::Corrupt { expected, found } => PublishError::Corrupt { expected, found },
        PublishTimeoutError::NoReaders => PublishError::NoReaders,
        PublishTimeoutError::Inherited => PublishError::Inherited,
        // Without a deadline there is no timeout.
        PublishTimeoutError::Timeout => unreachable!("no deadline was set"),
    }
}
