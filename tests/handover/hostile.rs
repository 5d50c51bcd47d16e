//! What a hostile sender can do: nothing, and no descriptor stays.

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::stat::Mode;
use shmcast::{FormatError, Handover, HandoverError, OpenError, Options, ReceiveError, ShareError, SharedRing};

use crate::support::{Child, say, smallest};

#[test]
fn a_hostile_sender_gets_a_typed_error_and_leaves_no_descriptor() {
    let mut child = Child::start("hostile senders", &[]);
    let [tried] = child.expect_numbers("tried");
    assert!(tried > 100, "{tried}");
    child.finish();
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("this process's").count()
}

/// The message as it should be, written down by hand.
fn message(descriptors: u32, incarnation: u64) -> Vec<u8> {
    let mut bytes = b"shmcHAND\x01\0\0\0".to_vec();
    bytes.extend(descriptors.to_le_bytes().into_iter().chain(incarnation.to_le_bytes()));
    bytes
}

fn incarnation(ring: &SharedRing) -> u64 {
    let header = fs::File::from(ring.ring().try_clone_to_owned().expect("a copy"));
    let mut word = [0; 8];
    header.read_exact_at(&mut word, 24).expect("a header");
    u64::from_ne_bytes(word)
}

/// Sends it over a fresh pair of sockets, and receives it.
fn deliver(kind: SockType, bytes: &[u8], files: &[BorrowedFd<'_>]) -> Result<SharedRing, ReceiveError> {
    let (here, there) = pair(kind);
    send(&here, bytes, files);
    // Whatever is missing does not come.
    drop(here);
    Handover::new().receive(&there)
}

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("a pair")
}

fn send(socket: &OwnedFd, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if files.is_empty() { &rights[..0] } else { &rights[..] };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(bytes.len()));
}

fn again(file: BorrowedFd<'_>, flags: OFlag) -> OwnedFd {
    open(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).expect("ours")
}

fn sealed(bytes: &[u8], seals: SealFlag) -> OwnedFd {
    let file = memfd_create("hostile", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let file = fs::File::from(file);
    file.write_all_at(bytes, 0).expect("a little memory");
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("our own");
    file.into()
}

/// In a process of its own, whose descriptors nobody else opens or closes.
pub(crate) fn hostile_senders() {
    let writer = smallest().create_memfd().expect("a small ring");
    let other = smallest().create_memfd_strict().expect("a small ring");
    let [ours, others] = [&writer, &other].map(|writer| writer.shared_ring().expect("a memfd"));
    let (ring, registry) = (ours.ring(), ours.registry().expect("the writer's"));
    let (follower, full) = (message(1, incarnation(&ours)), message(3, incarnation(&ours)));
    let mut tried = 0;
    // Every one is refused in the expected way, on both kinds of sockets, and nothing of it stays.
    let mut refused = |bytes: &[u8], files: &[BorrowedFd<'_>], expected: &dyn Fn(&ReceiveError) -> bool| {
        for kind in [SockType::Stream, SockType::SeqPacket] {
            // A stream has no empty messages.
            if kind == SockType::Stream && bytes.is_empty() {
                continue;
            }
            let before = open_descriptors();
            let received = deliver(kind, bytes, files);
            let error = received.err().unwrap_or_else(|| panic!("taken: {bytes:x?} with {}", files.len()));
            assert!(expected(&error), "{bytes:x?} with {}: {error:?}", files.len());
            drop(error);
            assert_eq!(open_descriptors(), before, "{bytes:x?} with {}", files.len());
            tried += 1;
        }
    };

    // What is said.
    let said = |wanted: fn(&HandoverError) -> bool| move |error: &ReceiveError| matches!(error, ReceiveError::Message(found) if wanted(found));
    for files in [&[][..], &[ring], &[ring, registry], &[ring; 18]] {
        for cut in 1..24 {
            let truncated = |found: &HandoverError| matches!(found, HandoverError::Truncated { needed: 24, .. });
            refused(&full[..cut], files, &said(truncated));
        }
        for (at, wanted) in [
            (0, (|found| matches!(found, HandoverError::Magic { .. })) as fn(&HandoverError) -> bool),
            (7, |found| matches!(found, HandoverError::Magic { .. })),
            (8, |found| matches!(found, HandoverError::Version { found: 0, supported: 1 })),
            (12, |found| matches!(found, HandoverError::Descriptors { found: 2 })),
            (15, |found| matches!(found, HandoverError::Descriptors { .. })),
        ] {
            let mut bytes = full.clone();
            bytes[at] ^= 1;
            refused(&bytes, files, &said(wanted));
        }
    }
    // A message without a byte that has descriptors all the same is cut; without them it is the end.
    refused(&[], &[ring, registry], &said(|found| matches!(found, HandoverError::Truncated { found: 0, .. })));
    refused(&[], &[], &|error| matches!(error, ReceiveError::Closed));

    // How many come with it.
    for (bytes, announced) in [(&follower, 1), (&full, 2)] {
        for count in (0..19).filter(|&count| count != announced) {
            refused(
                bytes,
                &vec![ring; count],
                &|error| matches!(error, ReceiveError::WrongDescriptors { announced: a, found } if (*a, *found) == (announced, count)),
            );
        }
        for count in [19, 20, 100, 253] {
            refused(bytes, &vec![ring; count], &|error| matches!(error, ReceiveError::DescriptorsLost));
        }
    }

    // What comes with it.
    let not_a_ring = |error: &ReceiveError| matches!(error, ReceiveError::Open(OpenError::NotARing { .. }));
    let (pipe, pipe_end) = nix::unistd::pipe().expect("a pipe");
    let device = OwnedFd::from(fs::File::open("/dev/null").expect("a device"));
    let directory = OwnedFd::from(fs::File::open("/").expect("the root"));
    let file = OwnedFd::from(tempfile::tempfile().expect("a file"));
    let (socket, _socket_end) = pair(SockType::Stream);
    let path = again(ring, OFlag::O_PATH);
    let copy = |length: u64| {
        let mut bytes = vec![0; length as usize];
        fs::File::from(ring.try_clone_to_owned().expect("a copy")).read_exact_at(&mut bytes, 0).expect("so much");
        bytes
    };
    let length = fs::File::from(ring.try_clone_to_owned().expect("a copy")).metadata().expect("a memfd").len();
    let unsealed = sealed(&copy(length), SealFlag::F_SEAL_GROW);
    for wrong in [&pipe, &pipe_end, &device, &directory, &file, &socket, &path, &unsealed] {
        refused(&follower, &[wrong.as_fd()], &not_a_ring);
        refused(&full, &[wrong.as_fd(), registry], &not_a_ring);
        refused(&full, &[ring, wrong.as_fd()], &not_a_ring);
    }
    // Sealed memfds: empty, with anything in it, a ring that is too short, and those of the wrong place.
    let format = |error: &ReceiveError| matches!(error, ReceiveError::Open(OpenError::Format { .. }));
    let shrink = SealFlag::F_SEAL_SHRINK;
    for wrong in [sealed(&[], shrink), sealed(&[7; 8192], shrink), sealed(&copy(511), shrink)] {
        refused(&follower, &[wrong.as_fd()], &format);
        refused(&full, &[ring, wrong.as_fd()], &format);
    }
    let short = sealed(&copy(length - 8), shrink);
    refused(&follower, &[short.as_fd()], &|error| {
        let ReceiveError::Open(OpenError::Format { source, .. }) = error else { return false };
        matches!(source, FormatError::Truncated { needed, found, .. } if (*needed, *found) == (length, length - 8))
    });
    refused(&full, &[registry, ring], &format);
    refused(&full, &[ring, again(ring, OFlag::O_RDWR).as_fd()], &format);
    refused(&full, &[ring, others.registry().expect("the writer's")], &format);
    refused(
        &message(1, incarnation(&ours) ^ 1),
        &[ring],
        &|error| matches!(error, ReceiveError::WrongRing { announced, found } if announced ^ found == 1),
    );
    // Descriptors that cannot do what they should.
    let permission = |error: &ReceiveError| matches!(error, ReceiveError::Open(OpenError::Permission { .. }));
    refused(&full, &[ring, again(registry, OFlag::O_RDONLY).as_fd()], &permission);
    refused(&full, &[ring, ring], &permission);
    refused(&follower, &[again(ring, OFlag::O_WRONLY).as_fd()], &permission);

    // And what is right is taken, with or without what options of the socket put beside it.
    for kind in [SockType::Stream, SockType::SeqPacket] {
        for option in ["", "credentials", "pidfd", "both"] {
            let before = open_descriptors();
            let (here, there) = pair(kind);
            if matches!(option, "credentials" | "both") {
                setsockopt(&there, sockopt::PassCred, &true).expect("our own");
            }
            if matches!(option, "pidfd" | "both") {
                pass_pidfd(&there);
            }
            send(&here, &full, &[ring, registry]);
            let received = Handover::new().receive(&there).unwrap_or_else(|error| panic!("{option}: {error}"));
            assert!(received.registry().is_some() && !received.is_strict());
            assert_eq!(open_descriptors(), before + 4, "{option}: the pair's, and two that came");
            received.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
            drop((received, here, there));
            assert_eq!(open_descriptors(), before);
        }
        // A message that is too long, where messages have ends.
        let long = [&full[..], b"x"].concat();
        let before = open_descriptors();
        let received = deliver(kind, &long, &[ring, registry]);
        match kind {
            SockType::SeqPacket => {
                assert!(matches!(received, Err(ReceiveError::Message(HandoverError::TooLong { needed: 24 }))));
                assert_eq!(open_descriptors(), before);
            }
            _ => assert!(received.is_ok()),
        }
    }
    // A strict ring is asked for.
    for (ring, strict) in [(&ours, false), (&others, true)] {
        let before = open_descriptors();
        let (here, there) = UnixStream::pair().expect("a pair");
        Handover::new().share(ring, &here).unwrap_or_else(|error| panic!("{error}"));
        let received = Handover::new().require_strict(true).receive(&there);
        assert_eq!(received.as_ref().is_ok_and(SharedRing::is_strict), strict);
        assert!(strict || matches!(received, Err(ReceiveError::NotStrict)), "{received:?}");
        drop((here, there, received));
        assert_eq!(open_descriptors(), before);
    }
    say(format_args!("tried {tried}"));
}

/// From Linux 6.5 on; before, nothing.
fn pass_pidfd(socket: &OwnedFd) {
    let (one, size) = (1_i32, size_of::<i32>() as libc::socklen_t);
    const SO_PASSPIDFD: i32 = 76;
    // SAFETY: `one` is what is read.
    unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const one).cast(), size) };
}

#[test]
fn descriptors_that_this_process_may_not_have_are_told() {
    let mut child = Child::start("no descriptor left", &[]);
    child.expect("told");
    child.finish();
}

pub(crate) fn no_descriptor_left() {
    let writer = smallest().create_memfd().expect("a small ring");
    let (here, there) = UnixStream::pair().expect("a pair");
    writer.share(&here).unwrap_or_else(|error| panic!("{error}"));
    writer.share(&here).unwrap_or_else(|error| panic!("{error}"));
    let before = open_descriptors();
    let next = OwnedFd::from(fs::File::open("/dev/null").expect("a device")).as_raw_fd();
    // Room for one of the two.
    setrlimit(Resource::RLIMIT_NOFILE, next as u64 + 1, 4096).expect("less is allowed");
    let received = Handover::new().receive(&there);
    assert!(matches!(received, Err(ReceiveError::DescriptorsLost)), "{received:?}");
    let shared = writer.shared_ring();
    assert!(matches!(shared, Err(ShareError::Io { .. })), "{shared:?}");
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 4096).expect("as much as before");
    assert_eq!(open_descriptors(), before);
    Handover::new().receive(&there).unwrap_or_else(|error| panic!("the next one: {error}"));
    say("told");
}
