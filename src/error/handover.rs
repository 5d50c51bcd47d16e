//! Why a ring was not handed over a socket: one enum for each end.

use std::io;

use super::OpenError;
use crate::layout::HandoverError;
use crate::segment::handover::Peer;

/// Why a ring was not [shared](crate::Handover::share). Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Rings of other kinds have no descriptors to hand over.
    #[error("only a ring in memfds goes over a socket; create it with create_memfd or create_memfd_strict")]
    NotAMemfd,
    /// The socket leads to nobody that the kernel could name.
    #[error("this is no connected unix socket, so nobody is known at its other end; connect one, stream or seqpacket")]
    NoPeer,
    /// The process at the other end is not one of those allowed.
    #[error("{} may not have the ring; close the connection, or allow its user or group", who(.peer))]
    PeerRefused {
        /// The process.
        peer: Peer,
    },
    /// The process could hold the writer up with the registry, but not lock a slot in it.
    #[error("{} may not open the registry, so it cannot be a full reader; hand it the ring as to a follower", who(.peer))]
    NeedsFollower {
        /// The process.
        peer: Peer,
    },
    /// The other end closed the connection.
    #[error("the other end closed the connection; wait for the next one")]
    Closed,
    /// The socket has no room, and does not wait for it (any longer).
    #[error("the socket is full; try again once the other end has read")]
    WouldBlock,
    /// The system refused for another reason.
    #[error("could not {doing}: {source}; resolve that and try again")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a ring was not [received](crate::Handover::receive). Every descriptor that came was closed. What the other end sent may
/// be left in the socket: after any of these but [`NothingYet`](Self::NothingYet), close it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The socket leads to nobody that the kernel could name. Nothing was read.
    #[error("this is no connected unix socket, so nobody is known at its other end; connect one, stream or seqpacket")]
    NoPeer,
    /// The process at the other end is not one of those allowed. Nothing was read.
    #[error("no ring is taken from {}; close the connection, or allow its user or group", who(.peer))]
    PeerRefused {
        /// The process.
        peer: Peer,
    },
    /// The other end closed the connection without handing anything over.
    #[error("the other end closed the connection without handing a ring over; ask it why")]
    Closed,
    /// Nothing is there, and the socket does not wait for it (any longer).
    #[error("no hand-over has come yet; try again when the socket is readable, or give it a longer timeout")]
    NothingYet,
    /// What came is no hand-over message that this program can use.
    #[error("no ring was handed over: {0}")]
    Message(#[from] HandoverError),
    /// Not all descriptors could be delivered: the kernel closed the rest.
    #[error(
        "descriptors of the hand-over were lost: the other end sent too many, or this process may open no more; raise its limit (RLIMIT_NOFILE) or check the other end"
    )]
    DescriptorsLost,
    /// The descriptors are not those that the message announces.
    #[error("the hand-over announces {announced} descriptors, but came with {found}; check the other end")]
    WrongDescriptors {
        /// Announced by the message.
        announced: usize,
        /// Came with it.
        found: usize,
    },
    /// The descriptors are of another ring than the message says.
    #[error("the descriptors are of ring {found:#x}, the hand-over is of ring {announced:#x}; check the other end")]
    WrongRing {
        /// The incarnation in the message.
        announced: u64,
        /// That of the ring.
        found: u64,
    },
    /// [Required](crate::Handover::require_strict) was a strict ring.
    #[error("the ring can be written by others than its writer; ask for one made with create_memfd_strict")]
    NotStrict,
    /// The descriptors are not those of a ring that this program can use; or, from
    /// [`Options::receive`](crate::Options::receive), it could not be joined.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused for another reason.
    #[error("could not {doing}: {source}; resolve that and try again")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn who(peer: &Peer) -> String {
    let Peer { process, user, group } = peer;
    format!("process {process} of user {user} and group {group}")
}
