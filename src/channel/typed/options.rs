//! How typed rings are created, opened and joined: the options of bytes, with a type.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{TypedReader, TypedWriter};
use crate::channel::{Options, Reader, Subscriber, Writer};
use crate::error::{CreateError, OpenError};
use crate::schema::Schema;

/// [`Options`] for rings whose records are values of one type, from [`Options::typed`].
///
/// ```
/// use shmcast::Options;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = Options::new().capacity(64 * 1024).typed::<u32>().create_heap()?;
/// let mut reader = Options::new().lossy(true).typed::<u32>().join(&writer.subscriber())?;
/// writer.publish(&7)?;
/// assert_eq!(reader.recv()?.value, 7);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct TypedOptions<T> {
    options: Options,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedOptions<T> {
    fn clone(&self) -> Self {
        TypedOptions { options: self.options.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for TypedOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedOptions").field(&self.options).finish()
    }
}

impl Options {
    /// These options, for rings whose records are values of type `T`. A type that is aligned to more than 8 bytes does not
    /// compile.
    pub fn typed<T: Schema>(self) -> TypedOptions<T> {
        TypedOptions { options: self.with_payload(crate::schema::payload_type::<T>()), of: PhantomData }
    }
}

impl<T: Schema + NoUninit> TypedOptions<T> {
    /// As [`Options::create`]; the ring says what its values are.
    ///
    /// # Errors
    /// [`CreateError`]; [`Geometry`](CreateError::Geometry) also if a value is larger than the largest payload.
    pub fn create(&self, name: &str) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.create(name))
    }

    /// As [`Options::create_file`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.create_file(path))
    }

    /// As [`Options::create_anonymous`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_anonymous(&self) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(Options::create_anonymous)
    }

    /// As [`Options::create_heap`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_heap(&self) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(Options::create_heap)
    }

    /// As [`Options::open_or_create`]. A ring is taken over only if its values are of this type.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`TakeOver`](CreateError::TakeOver) also for a ring of another type.
    pub fn open_or_create(&self, name: &str) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.open_or_create(name))
    }

    /// As [`Options::open_or_create_file`]. A ring is taken over only if its values are of this type.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_file(&self, path: impl AsRef<Path>) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.open_or_create_file(path))
    }

    /// The `create` calls here differ from those of [`Options`] in nothing else.
    pub(super) fn create_with(
        &self,
        create: impl FnOnce(&Options) -> Result<Writer, CreateError>,
    ) -> Result<TypedWriter<T>, CreateError> {
        create(&self.options).map(TypedWriter::new)
    }
}

impl<T: Schema + CheckedBitPattern> TypedOptions<T> {
    /// As [`Options::open`].
    ///
    /// # Errors
    /// [`OpenError`]; [`WrongType`](OpenError::WrongType) if the ring's values are of another type, or raw bytes.
    pub fn open(&self, name: &str) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.open(name))
    }

    /// As [`Options::open_file`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.open_file(path))
    }

    /// As [`Options::join`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn join(&self, subscriber: &Subscriber) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.join(subscriber))
    }

    /// The `open` calls here differ from those of [`Options`] in nothing else.
    pub(super) fn open_with(
        &self,
        open: impl FnOnce(&Options) -> Result<Reader, OpenError>,
    ) -> Result<TypedReader<T>, OpenError> {
        open(&self.options).map(TypedReader::new)
    }
}
