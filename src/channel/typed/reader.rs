//! The reading handle of a typed ring.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, CheckedBitPattern};

use super::{Invalid, TypedRecord};
use crate::channel::reader::forever;
use crate::channel::{Options, Reader, Subscriber, TypedRef};
use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::memory::{Mapped, checked};
use crate::ring::{CopyOut, Payload, Stop};
use crate::schema::Schema;
use crate::wait::Waiting;

/// A reader of a ring whose records are values of type `T`: a [`Reader`] that knows what it reads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = shmcast::Options::new().typed::<[f32; 3]>().create_heap()?;
/// let mut reader = shmcast::TypedReader::<[f32; 3]>::join(&writer.subscriber())?;
/// writer.publish(&[1.0, 2.0, 3.0])?;
/// let point = reader.recv()?;
/// assert_eq!((point.sequence, point.value), (0, [1.0, 2.0, 3.0]));
/// # Ok(())
/// # }
/// ```
///
/// `T` has a [`Schema`], which must be that of the ring. What is read is a value of `T` whatever the bytes are
/// ([`AnyBitPattern`]), or is checked before it becomes one ([`CheckedBitPattern`]: `bool`, `char`, enums).
///
/// # Invalid records
/// A record of another length, or one that is checked and is no value, was not published by a [`TypedWriter`](crate::TypedWriter)
/// of this type. It is skipped, and told as `Invalid`; receive again to go on behind it.
pub struct TypedReader<T> {
    bytes: Reader,
    of: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for TypedReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReader").field(&self.bytes).finish()
    }
}

/// Reads a record's bits as a value.
struct TakeBits<B>(PhantomData<B>);

impl<B: AnyBitPattern> CopyOut<Mapped> for TakeBits<B> {
    type Value = B;

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, Mapped>) -> B {
        payload.value()
    }
}

/// Reads a record's bits into a value.
struct FillValue<'a, T>(&'a mut T);

impl<T: AnyBitPattern> CopyOut<Mapped> for FillValue<'_, T> {
    type Value = ();

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, Mapped>) {
        payload.value_into(self.0);
    }
}

/// Appends a record's value, if its bits are one.
struct AppendValue<'a, T>(&'a mut Vec<T>);

impl<T: CheckedBitPattern> CopyOut<Mapped> for AppendValue<'_, T> {
    type Value = bool;

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, Mapped>) -> bool {
        payload.append_value(self.0)
    }
}

/// Looks of one call that does not wait. There is another one only if a record came, or went, between a look and the question why it
/// found none: whoever makes that happen again and again holds nobody up.
const MAX_TURNS: u32 = 8;

/// Makes attempts until one yields something. Between the last poll and the attempt stands nothing.
macro_rules! until_there {
    ($reader:ident, $attempt:expr, $deadline:expr) => {{
        let mut waiting = None;
        loop {
            if let Some(received) = $attempt {
                break Ok(received?);
            }
            match $reader.wait_for_value(&mut waiting, $deadline) {
                Ok(polls) => $reader.bytes.core.poll(polls),
                Err(error) => break Err(error),
            }
        }
    }};
}

impl<T: Schema + CheckedBitPattern> TypedReader<T> {
    /// Opens the named ring `name` as a lossless reader from the oldest value on. Others: [`Options::typed`].
    ///
    /// # Errors
    /// [`OpenError`]; [`WrongType`](OpenError::WrongType) if the ring's values are of another type, or raw bytes.
    pub fn open(name: &str) -> Result<TypedReader<T>, OpenError> {
        Options::new().typed().open(name)
    }

    /// Joins a ring of this process, or of the process that forked it, as [`open`](Self::open) does.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn join(subscriber: &Subscriber) -> Result<TypedReader<T>, OpenError> {
        Options::new().typed().join(subscriber)
    }

    pub(super) fn new(mut bytes: Reader) -> TypedReader<T> {
        let expects = bytes.core.expect(size_of::<T>());
        debug_assert!(expects, "a ring of values that no record can hold was refused");
        TypedReader { bytes, of: PhantomData }
    }

    // ---- values ----

    /// Receives a value if there is one. Never waits, never allocates.
    ///
    /// # Errors
    /// [`TryRecvError`].
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<TypedRecord<T>, TryRecvError> {
        for _ in 0..MAX_TURNS {
            match self.take() {
                Some(received) => return Ok(received?),
                None => self.why().or_else(|error| self.bytes.heed_death(error))?,
            }
        }
        Err(TryRecvError::Empty)
    }

    /// Receives a value, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<TypedRecord<T>, RecvError> {
        until_there!(self, self.take(), None).map_err(forever)
    }

    /// Receives a value, waiting for a limited time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<TypedRecord<T>, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Receives a value, waiting until a point in time.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<TypedRecord<T>, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<TypedRecord<T>, RecvTimeoutError> {
        until_there!(self, self.take(), deadline)
    }

    /// The next value, if there is a record of its length.
    #[inline(always)]
    fn take(&mut self) -> Option<Result<TypedRecord<T>, Invalid>> {
        let core = self.bytes.mine()?;
        let read = core.look_exact(size_of::<T>(), &mut TakeBits::<T::Bits>(PhantomData))?;
        core.release(read.next());
        let sequence = read.sequence;
        Some(match checked(&read.value) {
            Some(value) => Ok(TypedRecord { sequence, value }),
            None => Err(Invalid { sequence, len: size_of::<T>() }),
        })
    }

    // ---- in place ----

    /// Borrows the next value in place if there is one: no copy. For lossless readers of a ring that can be
    /// [trusted](crate#trust), as [`Reader::try_recv_ref`].
    ///
    /// # Errors
    /// [`TryRecvError`]; [`NotBorrowable`](TryRecvError::NotBorrowable): see [`can_borrow`](Self::can_borrow).
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<TypedRef<'_, T>, TryRecvError> {
        TypedRef::new(self.bytes.try_recv_ref()?)
    }

    /// Borrows the next value in place, waiting for it if need be.
    ///
    /// # Errors
    /// [`RecvError`]; [`NotBorrowable`](RecvError::NotBorrowable): see [`can_borrow`](Self::can_borrow).
    #[inline(always)]
    pub fn recv_ref(&mut self) -> Result<TypedRef<'_, T>, RecvError> {
        TypedRef::new(self.bytes.recv_ref()?)
    }

    /// Can values be borrowed in safety? As [`Reader::can_borrow`].
    #[must_use]
    pub fn can_borrow(&self) -> bool {
        self.bytes.can_borrow()
    }

    // ---- batches and iterators ----

    /// Appends up to `most` values that are there now to `values`; answers their number, at least 1 if `most` is. Their
    /// numbers follow one another; the last one's is [`sequence`](Self::sequence) - 1 then. Never waits, and allocates only
    /// if `values` has no room.
    ///
    /// # Errors
    /// [`TryRecvError`] if there is none; what comes behind some values is reported by the next call.
    pub fn try_recv_batch(&mut self, values: &mut Vec<T>, most: usize) -> Result<usize, TryRecvError> {
        match self.fill(values, most) {
            0 if most > 0 => {}
            count => return Ok(count),
        }
        values.push(self.try_recv()?.value);
        Ok(1 + self.fill(values, most - 1))
    }

    /// As [`try_recv_batch`](Self::try_recv_batch), waiting for the first value if need be.
    ///
    /// # Errors
    /// [`RecvError`] if there is none; what comes behind some values is reported by the next call.
    pub fn recv_batch(&mut self, values: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        match self.fill(values, most) {
            0 if most > 0 => {}
            count => return Ok(count),
        }
        values.push(self.recv()?.value);
        Ok(1 + self.fill(values, most - 1))
    }

    /// Values that are there, up to anything else, which stays there for the next call.
    #[inline(always)]
    fn fill(&mut self, values: &mut Vec<T>, most: usize) -> usize {
        if self.bytes.mine().is_none() {
            return 0;
        }
        let (mut count, mut turns) = (0, 0);
        while count < most {
            let before = values.len();
            match self.bytes.core.look_run(size_of::<T>(), most - count, &mut AppendValue(values)) {
                Some(run) if run.count > 0 => {
                    self.bytes.core.release_run(run);
                    (count, turns) = (count + run.count, 0);
                }
                // It is no value.
                Some(_) => break,
                None => {
                    // What was appended is void.
                    values.truncate(before);
                    turns += 1;
                    if turns > MAX_TURNS || !self.goes_on() {
                        break;
                    }
                }
            }
        }
        count
    }

    /// Within a batch, after a look that found no value: is there one after all, behind a pad?
    #[inline(never)]
    fn goes_on(&mut self) -> bool {
        if self.bytes.core.saw_nothing() {
            return false;
        }
        match self.bytes.core.read(|_| ()) {
            Ok(read) => read.len == size_of::<T>(),
            Err(loss @ (Stop::Lagged(_) | Stop::Evicted { .. })) => {
                self.bytes.core.owe(loss);
                false
            }
            Err(_) => false,
        }
    }

    /// Iterates over values, waiting for each; ends when the ring is closed, or after a final error.
    pub fn iter(&mut self) -> TypedIter<'_, T> {
        TypedIter { reader: self, done: false }
    }

    /// Iterates over the values that are there now, without waiting; ends when there is none, or after a final error.
    pub fn try_iter(&mut self) -> TypedTryIter<'_, T> {
        TypedTryIter { reader: self, done: false }
    }

    /// Another reader with the same options, that begins with the next value to be published.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn resubscribe(&self) -> Result<TypedReader<T>, OpenError> {
        self.bytes.resubscribe().map(TypedReader::new)
    }

    /// Makes a reader that was evicted lossless again: [`Reader::rejoin`].
    ///
    /// # Errors
    /// [`OpenError`]; it is what it was before.
    pub fn rejoin(&mut self) -> Result<u64, OpenError> {
        self.bytes.rejoin()
    }

    // ---- waiting ----

    /// After a look that found no value: is there one after all? If not, why?
    #[cold]
    #[inline(never)]
    fn why(&mut self) -> Result<(), TryRecvError> {
        let core = self.bytes.mine().ok_or(TryRecvError::Inherited)?;
        let read = core.read(|_| ())?;
        if read.len == size_of::<T>() {
            return Ok(());
        }
        core.release(read.next());
        Err(Invalid { sequence: read.sequence, len: read.len }.into())
    }

    /// As [`why`](Self::why), and waits until it may be time for another look. Answers how often to poll before it.
    #[cold]
    #[inline(never)]
    fn wait_for_value(
        &mut self,
        waiting: &mut Option<Waiting>,
        deadline: Option<Instant>,
    ) -> Result<u32, RecvTimeoutError> {
        match self.why() {
            Ok(()) => Ok(0),
            Err(error) => self.bytes.wait(waiting, error, deadline),
        }
    }
}

impl<T: Schema + AnyBitPattern> TypedReader<T> {
    /// Receives a value into one of the caller's if there is one, for types that are too large to be moved around; answers its
    /// sequence number. Never waits.
    ///
    /// # Errors
    /// [`TryRecvError`]; the value may be garbage then.
    #[inline(always)]
    pub fn try_recv_into(&mut self, value: &mut T) -> Result<u64, TryRecvError> {
        for _ in 0..MAX_TURNS {
            match self.take_into(value) {
                Some(received) => return Ok(received?),
                None => self.why().or_else(|error| self.bytes.heed_death(error))?,
            }
        }
        Err(TryRecvError::Empty)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for the value if need be.
    ///
    /// # Errors
    /// [`RecvError`]; the value may be garbage then.
    #[inline(always)]
    pub fn recv_into(&mut self, value: &mut T) -> Result<u64, RecvError> {
        until_there!(self, self.take_into(value), None).map_err(forever)
    }

    #[inline(always)]
    fn take_into(&mut self, value: &mut T) -> Option<Result<u64, Invalid>> {
        let core = self.bytes.mine()?;
        let read = core.look_exact(size_of::<T>(), &mut FillValue(value))?;
        core.release(read.next());
        Some(Ok(read.sequence))
    }
}

impl<T> TypedReader<T> {
    /// As [`Reader::lag`].
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.bytes.lag()
    }

    /// As [`Reader::sequence`].
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.bytes.sequence()
    }

    /// As [`Reader::is_lossless`].
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.bytes.is_lossless()
    }

    /// The handle of bytes, for what it says of the ring.
    #[must_use]
    pub fn as_bytes(&self) -> &Reader {
        &self.bytes
    }

    /// The handle of bytes, to read on with.
    #[must_use]
    pub fn into_bytes(self) -> Reader {
        self.bytes
    }
}

/// See [`TypedReader::iter`].
#[derive(Debug)]
pub struct TypedIter<'a, T> {
    reader: &'a mut TypedReader<T>,
    done: bool,
}

impl<T: Schema + CheckedBitPattern> Iterator for TypedIter<'_, T> {
    type Item = Result<TypedRecord<T>, RecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.reader.recv();
        self.done = result.as_ref().is_err_and(|error| error.ends());
        if matches!(result, Err(RecvError::Closed)) { None } else { Some(result) }
    }
}

/// See [`TypedReader::try_iter`].
#[derive(Debug)]
pub struct TypedTryIter<'a, T> {
    reader: &'a mut TypedReader<T>,
    done: bool,
}

impl<T: Schema + CheckedBitPattern> Iterator for TypedTryIter<'_, T> {
    type Item = Result<TypedRecord<T>, TryRecvError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.reader.try_recv();
        self.done = result.as_ref().is_err_and(|error| error.ends());
        if matches!(result, Err(TryRecvError::Empty | TryRecvError::Closed)) { None } else { Some(result) }
    }
}
