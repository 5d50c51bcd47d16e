//! Rings that go over a unix socket: who may have which, what a hostile sender can do (nothing, and no descriptor stays), and that
//! a ring outlives its writer where it should.

mod hostile;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Gid, Uid, geteuid, getpid, setgid, setuid};
use shmcast::{
    CreateError, Handover, OpenError, Options, Peer, ReceiveError, RecvError, ShareError, SharedRing, TryRecvError,
    Writer,
};
use support::{Child, LIMIT, assert_whole, heap, hear, record_of, role, say, skipped, smallest};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65534;
const BOUND: u64 = 300;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("reader", [path]) => receive_all(path),
        ("stranger", [path]) => stranger(path),
        ("hostile senders", []) => hostile::hostile_senders(),
        ("no descriptor left", []) => hostile::no_descriptor_left(),
        ("writer", [path]) => write_until_killed(path),
        other => panic!("no role {other:?}"),
    }
}

fn publish(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A socket that anybody may connect to, gone with this value.
struct Door {
    listener: UnixListener,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Door {
    fn new() -> Door {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("our own");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own");
        Door { listener, path, _directory: directory }
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// The connection of a child that says when it has made it.
    fn accept(&self, child: &mut Child) -> UnixStream {
        child.expect("connected");
        self.listener.accept().expect("it is there").0
    }
}

// ---- from process to process ----

fn receive_all(path: &str) {
    let stream = UnixStream::connect(path).expect("a socket");
    say("connected");
    let mut reader = Options::new().receive(&stream).unwrap_or_else(|error| panic!("{error}"));
    assert!(reader.is_lossless());
    say("joined");
    let mut received = 0;
    loop {
        match reader.recv() {
            Ok(record) => assert_whole(received, &record, BOUND),
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        received += 1;
    }
    say(format_args!("received {received}"));
}

#[test]
fn full_readers_of_this_user_receive_everything() {
    for strict in [false, true] {
        let writer = if strict { smallest().create_memfd_strict() } else { smallest().create_memfd() };
        let mut writer = writer.expect("a small ring");
        let door = Door::new();
        let children = [(); 2].map(|()| {
            let mut child = Child::start("reader", &[door.path()]);
            let stream = door.accept(&mut child);
            let peer = writer.share(&stream).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((u32::try_from(peer.process), peer.user), (Ok(child.pid()), geteuid().as_raw()));
            child.expect("joined");
            child
        });
        assert_eq!(writer.reader_count(), 2);
        publish(&mut writer, 3000);
        assert!(writer.position() > 100 * writer.capacity(), "it overlapped");
        drop(writer);
        for mut child in children {
            assert_eq!(child.expect_numbers("received"), [3000]);
            child.finish();
        }
    }
}

/// Of another user: told apart by the kernel at both ends, and never a full reader.
fn stranger(path: &str) {
    setgid(Gid::from_raw(NOBODY)).expect("root may");
    setuid(Uid::from_raw(NOBODY)).expect("root may");
    let connect = || {
        let stream = UnixStream::connect(path).expect("a socket");
        say("connected");
        stream
    };
    let stream = connect();
    let refused = Handover::new().receive(&stream);
    assert!(matches!(refused, Err(ReceiveError::PeerRefused { peer: Peer { user: 0, .. } })), "{refused:?}");
    // Nothing was read: it is still there.
    let ring = Handover::new().allow_user(0).receive(&stream).unwrap_or_else(|error| panic!("{error}"));
    assert!(ring.registry().is_none());
    let lossless = ring.open(&Options::new());
    assert!(matches!(lossless, Err(OpenError::NeedsRegistry { .. })), "{lossless:?}");
    let mut reader = ring.open(&Options::new().lossy(true)).unwrap_or_else(|error| panic!("{error}"));
    assert_whole(0, &reader.recv().expect("a record"), BOUND);
    assert!(!reader.can_borrow());
    say("followed");
    // A follower passes on what it has.
    let (here, there) = UnixStream::pair().expect("a pair");
    Handover::new().share(&ring, &here).unwrap_or_else(|error| panic!("{error}"));
    let passed_on = Handover::new().receive(&there).unwrap_or_else(|error| panic!("{error}"));
    let mut reader = passed_on.open(&Options::new().lossy(true)).unwrap_or_else(|error| panic!("{error}"));
    assert_whole(0, &reader.recv().expect("a record"), BOUND);
    say("passed on");
    for _ in 0..3 {
        // The rest is tried on the other side.
        let stream = connect();
        hear();
        drop(stream);
    }
}

#[test]
fn another_user_follows_if_both_ends_allow_it() {
    if !geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let mut writer = smallest().create_memfd_strict().expect("a small ring");
    publish(&mut writer, 1);
    let ring = writer.shared_ring().expect("a memfd");
    let door = Door::new();
    let mut child = Child::start("stranger", &[door.path()]);
    let stream = door.accept(&mut child);
    let refused = writer.share(&stream);
    assert!(
        matches!(refused, Err(ShareError::PeerRefused { peer: Peer { user: NOBODY, group: NOBODY, .. } })),
        "{refused:?}"
    );
    let refused = Handover::new().allow_user(NOBODY).share(&ring, &stream);
    assert!(matches!(refused, Err(ShareError::NeedsFollower { .. })), "{refused:?}");
    Handover::new().follower(true).allow_user(NOBODY).share(&ring, &stream).unwrap_or_else(|e| panic!("{e}"));
    child.expect("followed");
    child.expect("passed on");
    for (handover, allowed) in [
        (Handover::new().allow_group(NOBODY), true),
        (Handover::new().allow_anyone(), true),
        (Handover::new().allow_user(NOBODY - 1).allow_group(NOBODY - 1), false),
    ] {
        let stream = door.accept(&mut child);
        assert_eq!(handover.follower(true).share(&ring, &stream).is_ok(), allowed);
        child.tell("next");
    }
    child.finish();
}

#[test]
fn what_is_received_is_closed_on_exec_and_an_open_file_of_its_own() {
    let writer = smallest().create_memfd().expect("a small ring");
    let receive = || {
        let (here, there) = UnixStream::pair().expect("a pair");
        writer.share(&here).unwrap_or_else(|error| panic!("{error}"));
        Handover::new().receive(&there).unwrap_or_else(|error| panic!("{error}"))
    };
    let [one, two] = [receive(), receive()];
    for file in [one.ring(), one.registry().expect("a full reader's")] {
        let flags = fcntl(file, FcntlArg::F_GETFD).map(FdFlag::from_bits_retain);
        assert_eq!(flags, Ok(FdFlag::FD_CLOEXEC));
    }
    // A lock of the one is seen by the other, and by the writer.
    let lock = |kind: i32| libc::flock {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 1 << 50,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(one.registry().expect("as above"), FcntlArg::F_OFD_SETLK(&lock(libc::F_WRLCK))).expect("free");
    for other in [two.registry().expect("as above"), writer.descriptors().expect("a memfd").registry] {
        let mut found = lock(libc::F_RDLCK);
        fcntl(other, FcntlArg::F_OFD_GETLK(&mut found)).expect("an answer");
        assert_eq!(i32::from(found.l_type), libc::F_WRLCK);
    }
}

#[test]
fn what_else_is_said_on_the_socket_stays_there() {
    let mut writer = smallest().create_memfd().expect("a small ring");
    let (mut here, mut there) = UnixStream::pair().expect("a pair");
    here.write_all(b"before").expect("room");
    let mut before = [0; 6];
    there.read_exact(&mut before).expect("as much");
    // Two in a row, and then something else.
    writer.share(&here).unwrap_or_else(|error| panic!("{error}"));
    Handover::new().follower(true).share(&writer.shared_ring().expect("a memfd"), &here).expect("room");
    here.write_all(b"behind").expect("room");
    let mut reader = Options::new().receive(&there).unwrap_or_else(|error| panic!("{error}"));
    let follower = Handover::new().receive(&there).unwrap_or_else(|error| panic!("{error}"));
    assert!(follower.registry().is_none() && !follower.is_strict());
    assert_eq!(follower.peer().map(|peer| (peer.process, peer.user)), Some((getpid().as_raw(), geteuid().as_raw())));
    let mut behind = [0; 6];
    there.read_exact(&mut behind).expect("as much");
    assert_eq!((&before, &behind), (b"before", b"behind"));
    publish(&mut writer, 1);
    assert_whole(0, &reader.recv().expect("a record"), BOUND);
}

// ---- sockets that lead nowhere ----

#[test]
fn a_socket_without_a_known_peer_is_refused() {
    let writer = smallest().create_memfd().expect("a small ring");
    let ring = writer.shared_ring().expect("a memfd");
    let anyone = Handover::new().allow_anyone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let tcp = TcpStream::connect(listener.local_addr().expect("a port")).expect("a connection");
    let alone = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let datagrams = UnixDatagram::unbound().expect("a socket");
    let file = tempfile::tempfile().expect("a file");
    let door = Door::new();
    let sockets = [tcp.as_fd(), alone.as_fd(), datagrams.as_fd(), file.as_fd(), door.listener.as_fd()];
    for (number, socket) in sockets.into_iter().enumerate() {
        let (shared, received) = (anyone.share(&ring, socket), anyone.receive(socket));
        assert!(matches!(shared, Err(ShareError::NoPeer)), "{number}: {shared:?}");
        assert!(matches!(received, Err(ReceiveError::NoPeer)), "{number}: {received:?}");
    }
}

#[test]
fn an_end_and_a_wait_are_told() {
    let writer = smallest().create_memfd().expect("a small ring");
    let (here, there) = UnixStream::pair().expect("a pair");
    here.set_nonblocking(true).expect("our own");
    there.set_read_timeout(Some(std::time::Duration::from_millis(1))).expect("our own");
    for socket in [&here, &there] {
        assert!(matches!(Handover::new().receive(socket), Err(ReceiveError::NothingYet)));
    }
    // Nobody reads.
    let full = (0..100_000).find_map(|_| writer.share(&here).err());
    assert!(matches!(full, Some(ShareError::WouldBlock | ShareError::Io { .. })), "{full:?}");
    drop(there);
    // A child of another test has it until its exec.
    let start = std::time::Instant::now();
    let shared = loop {
        match writer.share(&here) {
            Err(ShareError::WouldBlock) if start.elapsed() < LIMIT => std::thread::yield_now(),
            shared => break shared,
        }
    };
    assert!(matches!(shared, Err(ShareError::Closed)), "{shared:?}");
    let received = Handover::new().receive(&here);
    // What it did not read is gone.
    assert!(matches!(received, Err(ReceiveError::Closed)), "{received:?}");
}

#[test]
fn rings_of_other_kinds_are_not_shared() {
    let (writer, _door) = heap(&smallest());
    let (here, _there) = UnixStream::pair().expect("a pair");
    assert!(matches!(writer.share(&here), Err(ShareError::NotAMemfd)));
}

// ---- successors ----

/// Creates the rings, hands them to whoever connects, and publishes.
fn write_until_killed(path: &str) {
    let mut writers = [smallest().create_memfd(), smallest().create_memfd_strict()].map(|ring| ring.expect("a ring"));
    let stream = UnixStream::connect(path).expect("a socket");
    say("connected");
    for writer in &mut writers {
        writer.share(&stream).unwrap_or_else(|error| panic!("{error}"));
        publish(writer, 10);
    }
    say("published");
    hear();
}

#[test]
fn a_restartable_ring_outlives_its_writer_and_a_strict_one_does_not() {
    let door = Door::new();
    let mut child = Child::start("writer", &[door.path()]);
    let stream = door.accept(&mut child);
    child.expect("published");
    let receive = || Handover::new().receive(&stream).unwrap_or_else(|error| panic!("{error}"));
    let [restartable, strict] = [receive(), receive()];
    assert!(!restartable.is_strict() && strict.is_strict());
    let mut readers = [&restartable, &strict].map(|ring| ring.open(&Options::new()).expect("a reader"));
    let take_over = |ring: &SharedRing| {
        Options::new().take_over_descriptors(ring.ring(), ring.registry().expect("a full reader's"))
    };
    let alive = take_over(&restartable).err();
    assert!(
        matches!(alive, Some(CreateError::WriterAlive { process, .. }) if process == u64::from(child.pid())),
        "{alive:?}"
    );
    child.kill();
    for reader in &mut readers {
        for sequence in 0..10 {
            assert_whole(sequence, &reader.recv().expect("it was published"), BOUND);
        }
        assert_eq!(reader.try_recv(), Err(TryRecvError::WriterDied));
    }

    let refused = take_over(&strict).expect_err("sealed");
    assert!(matches!(refused, CreateError::Sealed { .. }), "{refused:?}");
    assert!(refused.to_string().contains("create a new ring"), "{refused}");
    // Without a registry that one could write there is nothing to lock.
    let by_ring_alone = Options::new().take_over_descriptors(restartable.ring(), restartable.ring()).err();
    assert!(matches!(by_ring_alone, Some(CreateError::TakeOver { .. })), "{by_ring_alone:?}");

    let mut successor = take_over(&restartable).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(take_over(&restartable), Err(CreateError::WriterAlive { .. })));
    publish(&mut successor, 10);
    // It hands its ring out as the first one did.
    let (here, there) = UnixStream::pair().expect("a pair");
    successor.share(&here).unwrap_or_else(|error| panic!("{error}"));
    let mut late = Options::new().receive(&there).unwrap_or_else(|error| panic!("{error}"));
    for sequence in 0..20 {
        assert_whole(sequence, &late.recv().expect("of both writers"), BOUND);
    }
    for sequence in 10..20 {
        assert_whole(sequence, &readers[0].recv().expect("the reader carries on"), BOUND);
    }
    drop(successor);
    assert_eq!(readers[0].try_recv(), Err(TryRecvError::Closed));
    assert_eq!(readers[1].try_recv(), Err(TryRecvError::WriterDied));
}

#[test]
fn a_typed_ring_goes_over_a_socket_too() {
    let writer = Options::new().typed::<u64>().create_memfd_strict().expect("a small ring");
    let (here, there) = UnixStream::pair().expect("a pair");
    writer.as_bytes().share(&here).unwrap_or_else(|error| panic!("{error}"));
    let ring = Handover::new().receive(&there).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(ring.open(&Options::new()), Err(OpenError::WrongType { .. })));
    let opened = Options::new().typed::<u64>().open_descriptors(ring.ring(), ring.registry());
    assert!(opened.is_ok(), "{:?}", opened.err());
}
