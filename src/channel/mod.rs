//! The public API: segment + real memory + protocol + waiting, with no generics of memory shown.
//!
//! ```text
//!   Options ── create* ──▶ Writer ── subscriber ──▶ Subscriber ── join ──▶ Reader     (threads, forked children)
//!      └────── open* ─────────────────────────────────────────────────────▶ Reader     (other processes)
//! ```

mod access;
mod claim;
#[allow(unsafe_code)]
mod door;
mod handover;
mod kinds;
mod options;
mod pages;
mod patience;
mod reader;
mod record;
mod shared;
mod typed;
mod writer;

pub use access::{GroupId, UserId};
pub use claim::Claim;
pub use door::{RecordRef, TypedRef};
pub use handover::{Handover, SharedRing};
pub use kinds::{Descriptors, remove_posix, remove_sysv};
pub use options::{Options, gc, list, remove, remove_file};
pub use reader::{Iter, Reader, TryIter};
pub use record::{Received, Record};
pub use shared::Subscriber;
pub use typed::{TypedClaim, TypedIter, TypedOptions, TypedReader, TypedRecord, TypedTryIter, TypedWriter};
pub use writer::Writer;
