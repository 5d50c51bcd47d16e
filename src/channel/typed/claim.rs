//! Building a value in place, in the ring.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{NoUninit, bytes_of};

use crate::channel::Claim;

/// Room in the ring for one value, from [`TypedWriter::claim`](crate::TypedWriter::claim): for values so large that they had
/// better be built where they go. [`commit`](TypedClaim::commit) publishes it; a claim that is dropped is an abort, and no
/// reader ever sees it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = shmcast::Options::new().typed::<[u64; 512]>().create_heap()?;
/// let mut reader = shmcast::TypedReader::<[u64; 512]>::join(&writer.subscriber())?;
/// let mut claim = writer.claim()?;
/// // SAFETY: the one reader of this ring is lossless, and asks for no lag.
/// let samples = unsafe { claim.as_mut() };
/// for (sample, number) in samples.iter_mut().zip(0..) {
///     *sample = number;
/// }
/// claim.commit();
/// assert_eq!(reader.recv_ref()?[511], 511);
/// # Ok(())
/// # }
/// ```
#[must_use = "a claim that is not committed is aborted"]
pub struct TypedClaim<'a, T> {
    /// Of the length of a `T`.
    pub(in crate::channel) bytes: Claim<'a>,
    of: PhantomData<fn(T)>,
}

impl<T> fmt::Debug for TypedClaim<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedClaim").field(&self.bytes).finish()
    }
}

impl<'a, T: NoUninit> TypedClaim<'a, T> {
    #[inline(always)]
    pub(super) fn new(bytes: Claim<'a>) -> TypedClaim<'a, T> {
        TypedClaim { bytes, of: PhantomData }
    }

    /// Fills the claim with a copy of a value.
    #[inline(always)]
    pub fn write(&mut self, value: &T) {
        self.bytes.copy_from_slice(bytes_of(value));
    }

    /// Publishes the value; answers its sequence number. One that was never filled is all zeros.
    #[inline(always)]
    pub fn commit(self) -> u64 {
        self.bytes.commit()
    }
}
