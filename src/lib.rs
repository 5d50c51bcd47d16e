#![doc = include_str!("lib.md")]
#![doc = include_str!("segment/kinds.md")]
#![doc = include_str!("trust.md")]
#![deny(missing_docs, unsafe_code, unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "linux"))]
compile_error!("shmcast runs on Linux: it needs futexes that are shared between processes");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("shmcast needs a 64-bit target: its words are 64-bit atomics and its offsets are usize");

#[cfg(feature = "baseline")]
#[allow(unsafe_code)]
pub mod baseline;
mod channel;
mod error;
#[doc(hidden)]
pub mod layout;
#[doc(hidden)]
#[allow(unsafe_code)]
pub mod memory;
#[doc(hidden)]
pub mod ring;
pub mod schema;
#[allow(unsafe_code)]
mod segment;
#[allow(unsafe_code)]
mod wait;

pub use channel::{
    Claim, Descriptors, GroupId, Handover, Iter, Options, Reader, Received, Record, RecordRef, SharedRing, Subscriber,
    TryIter, TypedClaim, TypedIter, TypedOptions, TypedReader, TypedRecord, TypedRef, TypedTryIter, TypedWriter,
    UserId, Writer, gc, list, remove, remove_file, remove_posix, remove_sysv,
};
pub use error::{
    CreateError, OpenError, PublishError, PublishTimeoutError, ReceiveError, RecvError, RecvTimeoutError, RemoveError,
    ShareError, TryPublishError, TryRecvError, WaitForReadersError,
};
pub use layout::{FormatError, GeometryError, HandoverError, Wakeup};
pub use ring::Start;
pub use schema::{PayloadSchema, Schema};
pub use segment::access::Access;
pub use segment::handover::Peer;
pub use segment::pages::{PageOutcome, PageReport};
pub use segment::survey::{RingInfo, RingState};
pub use segment::sysv::SysvKey;
pub use wait::WaitStrategy;
