//! What can go wrong: one enum for each verb. Every message is one line that names the ring, the cause, and what to
//! do next; the numbers are in the fields.

mod handover;
mod verbs;

pub use handover::{ReceiveError, ShareError};
pub use verbs::{
    PublishError, PublishTimeoutError, RecvError, RecvTimeoutError, TryPublishError, TryRecvError, WaitForReadersError,
};

use std::io;
use std::path::PathBuf;

use crate::layout::{FormatError, GeometryError};
use crate::schema::PayloadSchema;

/// Why a ring could not be created. Nothing was left behind, and nothing that was there before was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No ring can have these sizes.
    #[error("no ring has this geometry: {0}; change that option")]
    Geometry(#[from] GeometryError),
    /// The name breaks a rule.
    #[error("{name:?} is no name for a ring: it must be {rule}; choose another name")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// Something is there already.
    #[error("{} exists already; choose another name, or remove the old ring first", .path.display())]
    NameTaken {
        /// What exists.
        path: PathBuf,
    },
    /// The ring has a writer, and a ring has only one.
    #[error("{} has a writer, process {process}; stop that one first, or choose another name", .path.display())]
    WriterAlive {
        /// The ring.
        path: PathBuf,
        /// The writer's process id, as it gave it, in its own container.
        process: u64,
    },
    /// The ring is strict: its creator is gone, or will go, and nobody can write it in his place. (The seal cannot be taken off.)
    #[error("{} is sealed: nobody but its first writer can write it; create a new ring and hand that to its readers", .path.display())]
    Sealed {
        /// The ring.
        path: PathBuf,
    },
    /// What is there cannot be taken over.
    #[error("cannot take over {}: {source}", .path.display())]
    TakeOver {
        /// The ring.
        path: PathBuf,
        /// Why.
        source: Box<OpenError>,
    },
    /// The ring would not fit into the file system, or into memory.
    #[error(
        "no space for the ring{}: it needs {needed} bytes, {available} are available; choose a smaller capacity, or make room",
        at(.path)
    )]
    NoSpace {
        /// Where, if it is a file.
        path: Option<PathBuf>,
        /// Bytes that the ring takes.
        needed: u64,
        /// Bytes that there were.
        available: u64,
    },
    /// The system does not let this user do it.
    #[error("may not create {}: {source}; choose a directory that this user can write", .path.display())]
    Permission {
        /// What was refused.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The ring directory is not one in which this ring can be safe, or be reached.
    #[error("cannot use the ring directory {}: {reason} (SHMCAST_DIR)", .path.display())]
    RingDirectory {
        /// The directory.
        path: PathBuf,
        /// The rule that it breaks, and what to do.
        reason: &'static str,
    },
    /// The ring cannot be given to that group.
    #[error("may not give {} to group {group}: {source}; name a group that this user is a member of", .path.display())]
    Group {
        /// The ring.
        path: PathBuf,
        /// The group's number.
        group: u32,
        /// The system's answer.
        source: io::Error,
    },
    /// No group has that name.
    #[error("no group is called {name:?}; check the name, or give its number")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// The system refused for another reason.
    #[error("could not {doing}{}: {source}; resolve that and try again", at(.path))]
    Io {
        /// Where, if it is a file.
        path: Option<PathBuf>,
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a ring could not be opened, or joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name breaks a rule, so no ring has it.
    #[error("{name:?} is no name for a ring: it must be {rule}; check the name")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// There is no such ring (or not yet, or no longer).
    #[error("{} does not exist; start the writer that creates it, or check the name", .path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// The system does not let this user read the ring.
    #[error("may not open {}: {source}; ask its owner to create it for followers, or for readers", .path.display())]
    Permission {
        /// What was refused.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{} is not part of a ring: {reason}; check the name", .path.display())]
    NotARing {
        /// What was looked at.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The ring belongs to a user who may not be the one that is meant: where anybody can take a name, somebody may have taken
    /// this one first.
    #[error(
        "{} belongs to user {owner}{}; if that is the one you mean, say so (Options::owner), or check the name",
        .path.display(), not(.wanted)
    )]
    ForeignOwner {
        /// The ring.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be, if that was said.
        wanted: Option<u32>,
    },
    /// No user has that name.
    #[error("no user is called {name:?}; check the name, or give the number")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// Somebody else can exchange the rings in the ring directory.
    #[error("cannot use the ring directory {}: {reason} (SHMCAST_DIR)", .path.display())]
    RingDirectory {
        /// The directory.
        path: PathBuf,
        /// The rule that it breaks, and what to do.
        reason: &'static str,
    },
    /// The bytes are not those of a ring, or of none that this program can use.
    #[error("cannot use the ring{}: {source}", at(.path))]
    Format {
        /// Where, if it is a file.
        path: Option<PathBuf>,
        /// The field that is wrong, and what to do.
        source: FormatError,
    },
    /// The records of the ring are not what this reader takes them for.
    #[error("the ring{} holds {found}, not {expected}; open it as that, or check the name", at(.path))]
    WrongType {
        /// Where, if it is a file.
        path: Option<PathBuf>,
        /// What the reader expects.
        expected: PayloadSchema,
        /// What the ring says.
        found: PayloadSchema,
    },
    /// The system refused for another reason.
    #[error("could not {doing}{}: {source}; resolve that and try again", at(.path))]
    Io {
        /// Where, if it is a file.
        path: Option<PathBuf>,
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// All reader slots are taken.
    #[error("all {slots} reader slots are taken; close a reader, join as a lossy one, or create the ring with more")]
    NoFreeSlot {
        /// Slots that the ring has.
        slots: u64,
    },
    /// A lossless reader must write the registry, which this process may not.
    #[error("a lossless reader writes to the registry{}, which this user may not; join as a lossy reader, or ask the owner to create the ring for readers", at(.path))]
    NeedsRegistry {
        /// The registry, if it is a file.
        path: Option<PathBuf>,
    },
    /// The record to start at has been overwritten.
    #[error("record {wanted} is gone, the oldest is {oldest}; start at that one, or use a ring of larger capacity")]
    SequenceGone {
        /// The sequence number asked for.
        wanted: u64,
        /// The oldest from which one can start: that of the oldest checkpoint that is left.
        oldest: u64,
    },
    /// The record to start at has not been written.
    #[error("record {wanted} is not written yet, the next one is {next}; start there, or try again later")]
    SequenceNotYet {
        /// The sequence number asked for.
        wanted: u64,
        /// That of the next record.
        next: u64,
    },
    /// This process is a forked child, and the handle that was to rejoin its parent's.
    #[error("a forked child cannot use a handle that it inherited: open the ring, or join it, in the child")]
    Inherited,
    /// The writer outran every attempt to join.
    #[error("the writer outran every attempt to join; try again, join at the newest record, or use a larger capacity")]
    Busy,
    /// The segment is damaged.
    #[error(
        "the ring is damaged: {header:#x} at position {position} cannot begin a record; remove it and create it again"
    )]
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

/// Why a ring could not be removed. What is not a ring of this user's was left alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The name breaks a rule, so no ring has it.
    #[error("{name:?} is no name for a ring: it must be {rule}; check the name")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// There is no such ring.
    #[error("{} does not exist; there is nothing to remove, or check the name", .path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not part of a ring: {reason}; it was left alone: remove it by hand if you must", .path.display())]
    NotARing {
        /// What was looked at.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The ring is another user's, or the system says no.
    #[error("may not remove {}: {source}; ask its owner", .path.display())]
    Permission {
        /// What was refused.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The system refused for another reason; part of the ring may be removed already.
    #[error("could not {doing} {}: {source}; resolve that and try again", .path.display())]
    Io {
        /// What was being removed.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// `, not <user>`, or nothing.
fn not(wanted: &Option<u32>) -> String {
    wanted.map(|wanted| format!(", not {wanted}")).unwrap_or_default()
}

/// ` at <path>`, or nothing.
fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default()
}
