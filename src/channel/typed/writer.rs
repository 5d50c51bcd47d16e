//! The writing handle of a typed ring.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use bytemuck::{AnyBitPattern, NoUninit, bytes_of};

use super::TypedClaim;
use crate::channel::{Options, Subscriber, Writer};
use crate::error::{CreateError, PublishError, PublishTimeoutError, TryPublishError, WaitForReadersError};
use crate::schema::Schema;

/// The one writer of a ring whose records are values of type `T`: a [`Writer`] that publishes nothing else.
///
/// ```
/// use shmcast::{TypedReader, TypedWriter};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
/// struct Tick {
///     price: i64,
///     quantity: u64,
/// }
/// shmcast::schema!(Tick { price: i64, quantity: u64 });
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = TypedWriter::<Tick>::create("docs-typed")?; // in one process
/// let mut reader = TypedReader::<Tick>::open("docs-typed")?; // in others
///
/// writer.publish(&Tick { price: 101, quantity: 7 })?;
/// assert_eq!(reader.recv()?.price, 101);
/// # Ok(())
/// # }
/// ```
///
/// `T` has a [`Schema`], and no byte that may be uninitialised, which would show other processes what was in memory before
/// ([`NoUninit`]): so no padding. A small value that is built for a call of [`publish`](Self::publish) goes from the processor's
/// registers into the ring; a large one can be built there, in a [`claim`](Self::claim).
pub struct TypedWriter<T> {
    bytes: Writer,
    /// What a record of one value takes.
    size: u64,
    of: PhantomData<fn(T)>,
}

impl<T> fmt::Debug for TypedWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedWriter").field(&self.bytes).finish()
    }
}

impl<T: Schema + NoUninit> TypedWriter<T> {
    /// Creates the named ring `name` with the default [`Options`]. Others: [`Options::typed`].
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::NameTaken`].
    pub fn create(name: &str) -> Result<TypedWriter<T>, CreateError> {
        Options::new().typed().create(name)
    }

    pub(super) fn new(bytes: Writer) -> TypedWriter<T> {
        let size = bytes.core.size_for(size_of::<T>());
        TypedWriter { bytes, size, of: PhantomData }
    }

    /// Publishes one value; answers its sequence number. Waits while a lossless reader holds the writer back. Straight-line
    /// code for small types, whatever the number of readers; a system call only if a reader sleeps.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was published.
    #[inline(always)]
    pub fn publish(&mut self, value: &T) -> Result<u64, PublishError> {
        self.bytes.publish_sized(bytes_of(value), self.size)
    }

    /// Publishes one value, or none if there is no room now. Never waits.
    ///
    /// # Errors
    /// [`TryPublishError`]; nothing was published.
    #[inline(always)]
    pub fn try_publish(&mut self, value: &T) -> Result<u64, TryPublishError> {
        self.bytes.try_publish(bytes_of(value))
    }

    /// As [`publish`](Self::publish), for a limited time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`]; nothing was published.
    pub fn publish_timeout(&mut self, value: &T, timeout: Duration) -> Result<u64, PublishTimeoutError> {
        self.bytes.publish_timeout(bytes_of(value), timeout)
    }

    /// As [`publish`](Self::publish), until a point in time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`]; nothing was published.
    pub fn publish_deadline(&mut self, value: &T, deadline: Instant) -> Result<u64, PublishTimeoutError> {
        self.bytes.publish_deadline(bytes_of(value), deadline)
    }

    /// Claims room for one value, to be built in place. Waits while a lossless reader holds the writer back.
    ///
    /// # Errors
    /// [`PublishError`].
    #[inline(always)]
    pub fn claim(&mut self) -> Result<TypedClaim<'_, T>, PublishError>
    where
        T: AnyBitPattern,
    {
        self.bytes.claim(size_of::<T>()).map(TypedClaim::new)
    }

    /// Claims room for one value, if there is some now.
    ///
    /// # Errors
    /// [`TryPublishError`].
    #[inline(always)]
    pub fn try_claim(&mut self) -> Result<TypedClaim<'_, T>, TryPublishError>
    where
        T: AnyBitPattern,
    {
        self.bytes.try_claim(size_of::<T>()).map(TypedClaim::new)
    }

    /// As [`claim`](Self::claim), for a limited time.
    ///
    /// # Errors
    /// [`PublishTimeoutError`].
    pub fn claim_timeout(&mut self, timeout: Duration) -> Result<TypedClaim<'_, T>, PublishTimeoutError>
    where
        T: AnyBitPattern,
    {
        self.bytes.claim_timeout(size_of::<T>(), timeout).map(TypedClaim::new)
    }

    /// Publishes values, each as a record, that become visible together, as far as one block of the ring holds them: see
    /// [`Writer::publish_batch`].
    ///
    /// # Errors
    /// [`PublishError`]; the values before the one that failed were published.
    pub fn publish_batch(&mut self, values: &[T]) -> Result<usize, PublishError> {
        let done = self.stage(values);
        if done == values.len() {
            self.bytes.core.flush();
            return Ok(done);
        }
        Ok(done + self.bytes.publish_batch(values[done..].iter().map(bytes_of))?)
    }

    /// As [`publish_batch`](Self::publish_batch), but ends at the first value for which there is no room: answers the number
    /// published, which may be 0.
    ///
    /// # Errors
    /// [`TryPublishError`], but never [`Full`](TryPublishError::Full); the values before the one that failed were published.
    pub fn try_publish_batch(&mut self, values: &[T]) -> Result<usize, TryPublishError> {
        let done = self.stage(values);
        if done == values.len() {
            self.bytes.core.flush();
            return Ok(done);
        }
        Ok(done + self.bytes.try_publish_batch(values[done..].iter().map(bytes_of))?)
    }

    /// Stages values as long as there is room. Those that are left, and the commit of all, are the handle of bytes' job.
    #[inline(always)]
    fn stage(&mut self, values: &[T]) -> usize {
        let Some(core) = self.bytes.mine() else { return 0 };
        let mut done = 0;
        loop {
            done += core.stage_run(size_of::<T>(), values[done..].iter().map(bytes_of));
            // The next one needs the slow path, which may find room for more.
            match values.get(done).map(|value| core.stage(bytes_of(value))) {
                Some(Ok(_)) => done += 1,
                Some(Err(_)) | None => return done,
            }
        }
    }

    /// As [`Writer::close`].
    pub fn close(&mut self) {
        self.bytes.close();
    }

    /// As [`Writer::wait_for_readers`].
    ///
    /// # Errors
    /// [`WaitForReadersError`] with the number found.
    pub fn wait_for_readers(&mut self, n: u64, timeout: Duration) -> Result<(), WaitForReadersError> {
        self.bytes.wait_for_readers(n, timeout)
    }
}

impl<T> TypedWriter<T> {
    /// As [`Writer::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.bytes.is_closed()
    }

    /// As [`Writer::reader_count`].
    #[must_use]
    pub fn reader_count(&self) -> u64 {
        self.bytes.reader_count()
    }

    /// As [`Writer::subscriber`]; join with [`TypedReader::join`](crate::TypedReader::join).
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        self.bytes.subscriber()
    }

    /// As [`Writer::sequence`].
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.bytes.sequence()
    }

    /// The handle of bytes, for what it says of the ring. Nothing can be published through it.
    #[must_use]
    pub fn as_bytes(&self) -> &Writer {
        &self.bytes
    }
}
