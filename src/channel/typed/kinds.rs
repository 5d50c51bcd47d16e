//! Typed rings of the kinds in `channel/kinds.rs`: the same calls, with a type.

use std::os::fd::BorrowedFd;

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{TypedOptions, TypedReader, TypedWriter};
use crate::channel::Options;
use crate::error::{CreateError, OpenError};
use crate::schema::Schema;
use crate::segment::sysv::SysvKey;

impl<T: Schema + NoUninit> TypedOptions<T> {
    /// As [`Options::create_posix`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_posix(&self, name: &str) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.create_posix(name))
    }

    /// As [`Options::open_or_create_posix`]. A ring is taken over only if its values are of this type.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_posix(&self, name: &str) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.open_or_create_posix(name))
    }

    /// As [`Options::create_memfd`]; the descriptors are those of [`as_bytes`](TypedWriter::as_bytes).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_memfd(&self) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(Options::create_memfd)
    }

    /// As [`Options::create_memfd_strict`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_memfd_strict(&self) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(Options::create_memfd_strict)
    }

    /// As [`Options::take_over_descriptors`]. A ring is taken over only if its values are of this type.
    ///
    /// # Errors
    /// As [`Options::take_over_descriptors`].
    pub fn take_over_descriptors(
        &self,
        ring: BorrowedFd<'_>,
        registry: BorrowedFd<'_>,
    ) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.take_over_descriptors(ring, registry))
    }

    /// As [`Options::create_sysv`].
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_sysv(&self, key: SysvKey) -> Result<TypedWriter<T>, CreateError> {
        self.create_with(|options| options.create_sysv(key))
    }
}

impl<T: Schema + CheckedBitPattern> TypedOptions<T> {
    /// As [`Options::open_posix`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_posix(&self, name: &str) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.open_posix(name))
    }

    /// As [`Options::open_descriptors`]: also for those of a [`SharedRing`](crate::SharedRing).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_descriptors(
        &self,
        ring: BorrowedFd<'_>,
        registry: Option<BorrowedFd<'_>>,
    ) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.open_descriptors(ring, registry))
    }

    /// As [`Options::open_sysv`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_sysv(&self, key: SysvKey) -> Result<TypedReader<T>, OpenError> {
        self.open_with(|options| options.open_sysv(key))
    }
}
