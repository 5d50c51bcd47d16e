//! The rules of unix sockets.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, geteuid, setuid};
use shmcast::baseline::{Patience, SendError, SetupError, Unix, UnixKind, peer_of, set_queue};

use crate::Spot;
use crate::peer::{self, Peer};
use crate::support::{Child, LIMIT, hear, say, skipped};

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("connects as nobody", [path]) => {
            setuid(Uid::from_raw(65534)).expect("root may");
            let refused = UnixStream::connect(path);
            assert!(refused.is_err(), "its directory is closed to others");
            say("refused");
            hear();
            // Connected by the system, for the file is open to all now; but the sender takes nobody's connections.
            let _stream = UnixStream::connect(path).expect("a listener");
            say("connected");
            hear();
        }
        _ => return false,
    }
    true
}

#[test]
fn a_named_datagram_socket_queues_as_many_as_the_system_says() {
    let limit = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("a limit");
    let limit: usize = limit.trim().parse().expect("a number");
    let (_spot, mut link) = Spot::must_link(&Unix { kind: UnixKind::Datagram, named: true }, 1);
    let _receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    let fit = (0..).take_while(|_| sender.try_send(b"small").is_ok()).count();
    // The queue is full when it has more than the limit.
    assert_eq!(fit, limit + 1);
    assert!(matches!(sender.try_send(b"small"), Err(SendError::Full)));
}

#[test]
fn the_queue_of_a_socket_can_be_lengthened() {
    let unix = Unix { kind: UnixKind::Seqpacket, named: false };
    let (_spot, mut link) = Spot::must_link(&unix, 1);
    let _receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    let count =
        |sender: &mut dyn shmcast::baseline::Sender| (0..).take_while(|_| sender.try_send(&[1; 4096]).is_ok()).count();
    let before = count(&mut *sender);
    set_queue(sender.descriptor().expect("a socket"), 400_000).expect("a socket");
    let more = count(&mut *sender);
    assert!(before > 10 && more > before / 2, "{before} and {more} more");
}

#[test]
fn the_system_tells_who_is_at_the_other_end() {
    // Of a pair: who made it, whoever has it now.
    let (_spot, mut link) = Spot::must_link(&Unix { kind: UnixKind::Stream, named: false }, 1);
    let mut peer = peer::start("waits", link.receivers.remove(0), shmcast::baseline::Reach::Descriptors);
    peer.expect("ready");
    let sender = link.sender.sender(Patience::Forever).expect("a sender");
    let maker = peer_of(sender.descriptor().expect("a socket")).expect("a unix socket");
    assert_eq!(maker.pid(), std::process::id().cast_signed());
    peer.tell("end");
    peer.finish();
    // Of a connection: who connected.
    let (_spot, mut link) = Spot::must_link(&Unix { kind: UnixKind::Seqpacket, named: true }, 1);
    let mut peer = peer::start("waits", link.receivers.remove(0), shmcast::baseline::Reach::Names);
    let sender = link.sender.sender(Patience::of(LIMIT)).expect("a sender");
    peer.expect("ready");
    let Peer::Process(child) = &peer else { panic!("a process") };
    let connected = peer_of(sender.descriptor().expect("a socket")).expect("a unix socket");
    assert_eq!((connected.pid(), connected.uid()), (child.pid().cast_signed(), geteuid().as_raw()));
    peer.tell("end");
    peer.finish();
}

#[test]
fn another_user_does_not_become_a_receiver() {
    if !geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let (spot, mut link) = Spot::must_link(&Unix { kind: UnixKind::Stream, named: true }, 1);
    let inside =
        std::fs::read_dir(spot.directory.path()).expect("a directory").next().expect("an entry").expect("an entry");
    let socket = inside.path().join("socket");
    let mut child = Child::start("connects as nobody", &[socket.to_str().expect("UTF-8")]);
    child.expect("refused");
    for path in [spot.directory.path(), &inside.path(), &socket] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("its owner may");
    }
    child.tell("go on");
    child.expect("connected");
    // That connection is first in the queue, and passed over.
    let waiting = link.sender;
    let receiver = link.receivers.remove(0);
    let receiver = std::thread::spawn(move || receiver.receiver(Patience::of(LIMIT)).expect("a receiver"));
    let mut sender = waiting.sender(Patience::of(LIMIT)).expect("a sender");
    let mut receiver = receiver.join().expect("no panic");
    sender.send(b"ours").expect("room");
    assert_eq!(receiver.receive(&mut [0; 10]).expect("a record").len, 4);
    child.tell("end");
    child.finish();
}

#[test]
fn connecting_to_nobody_ends_in_time() {
    let (_spot, mut link) = Spot::must_link(&Unix { kind: UnixKind::Stream, named: true }, 1);
    let end = link.receivers.remove(0);
    // The listener goes.
    drop(link.sender);
    let refused = end.receiver(Patience::of(crate::roles::SHORT));
    assert!(matches!(refused, Err(SetupError::Timeout { .. })), "{refused:?}");
}
