//! The rules of TCP and UDP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::TcpNoDelay;
use nix::unistd::gettid;
use shmcast::baseline::stream::{LineReader, read_n, write_n};
use shmcast::baseline::{Patience, ReceiveError, SetupError, Tcp, Udp, tcp};

use crate::Spot;
use crate::roles::SHORT;
use crate::support::{Child, LIMIT, say, wait_until_asleep};

/// Clients of a server.
const CLIENTS: usize = 4;
/// Lines of each.
const LINES: usize = 200;

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("asks", [port, name]) => {
            let port = port.parse().expect("a port");
            let (mut stream, _) = tcp::connect("localhost", port, Patience::of(LIMIT)).expect("a server");
            let mut answers = LineReader::new(stream.try_clone().expect("a copy"), 1000);
            for number in 0..LINES {
                write_n(&mut stream, format!("{name} {number}\n").as_bytes()).expect("a server");
                let answer = answers.read_line().expect("a server").expect("an answer");
                assert_eq!(answer, format!("{name} {number}, yes").into_bytes());
            }
            stream.shutdown(Shutdown::Write).expect("a connection");
            assert_eq!(answers.read_line().expect("a server"), None, "the server ends, too");
            say("done");
        }
        _ => return false,
    }
    true
}

#[test]
fn a_server_gives_each_client_a_thread() {
    let (listener, address) = tcp::listen("localhost", 0, tcp::BACKLOG).expect("a port");
    let start = |number: usize| Child::start("asks", &[&address.port().to_string(), &format!("client {number}")]);
    let mut clients: Vec<Child> = (0..CLIENTS).map(start).collect();
    let serve = |mut stream: TcpStream| {
        let mut questions = LineReader::new(stream.try_clone().expect("a copy"), 1000);
        let mut count = 0;
        while let Some(mut line) = questions.read_line().expect("a client") {
            line.extend_from_slice(b", yes\n");
            write_n(&mut stream, &line).expect("a client");
            count += 1;
        }
        count
    };
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let stream = tcp::accept(&listener, Patience::of(LIMIT)).expect("a client");
            std::thread::spawn(move || serve(stream))
        })
        .collect();
    let served: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!(served, CLIENTS * LINES);
    clients.iter_mut().for_each(|client| drop(client.expect("done")));
    clients.into_iter().for_each(Child::finish);
}

#[test]
fn names_are_looked_up_both_ways() {
    let (listener, address) = tcp::listen("localhost", 0, 1).expect("the name of this machine's loopback");
    assert!(address.ip().is_loopback());
    let (host, service) = tcp::names_of(&address).expect("a name, or numbers");
    // The name leads back to the listener, whatever it is.
    tcp::connect(&host, service.parse().unwrap_or(address.port()), Patience::of(LIMIT)).expect("the listener");
    drop(listener);
    let unknown = tcp::connect("no-such-host.invalid", 9, Patience::Not);
    assert!(matches!(unknown, Err(SetupError::Io { .. })), "{unknown:?}");
}

/// A port that nobody has now.
fn free_port() -> u16 {
    tcp::listen("localhost", 0, 1).expect("a port").1.port()
}

/// Waits until a thread of this process sleeps for a time: it could also be asleep in a look-up.
fn wait_until_it_naps(thread: i32) {
    let start = std::time::Instant::now();
    let naps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].map(|number| number.to_string());
    let calls = || std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    while !naps.iter().any(|nap| calls().split(' ').next() == Some(nap)) {
        assert!(start.elapsed() < LIMIT, "the thread does not nap");
        std::thread::yield_now();
    }
}

#[test]
fn connecting_tries_again_on_a_fresh_socket() {
    let port = free_port();
    let nobody = tcp::connect("localhost", port, Patience::of(SHORT));
    assert!(matches!(nobody, Err(SetupError::Timeout { .. })), "{nobody:?}");
    let (sender, thread) = channel();
    let connecting = std::thread::spawn(move || {
        sender.send(gettid().as_raw()).expect("a test");
        tcp::connect("localhost", port, Patience::of(LIMIT)).expect("somebody in the end")
    });
    // It naps between two tries: the first one has failed.
    wait_until_it_naps(thread.recv().expect("a thread"));
    let (listener, _) = tcp::listen("localhost", port, 1).expect("the port");
    let mut accepted = tcp::accept(&listener, Patience::of(LIMIT)).expect("a connection");
    let (mut stream, sockets) = connecting.join().expect("no panic");
    assert!(sockets > 1, "{sockets} sockets");
    stream.write_all(b"hello").expect("a connection");
    let mut text = [0; 5];
    accepted.read_exact(&mut text).expect("a text");
}

#[test]
fn a_full_backlog_makes_others_wait() {
    let (listener, address) = tcp::listen("localhost", 0, 1).expect("a port");
    let connect = |patience| tcp::connect("localhost", address.port(), Patience::of(patience));
    let mut connected = Vec::new();
    let refused = loop {
        match connect(SHORT) {
            Ok((stream, _)) => connected.push(stream),
            Err(error) => break error,
        }
        assert!(connected.len() < 10, "a backlog of 1 holds {}", connected.len());
    };
    assert!(matches!(refused, SetupError::Timeout { .. }), "{refused}");
    // The queue is full when it has more than the backlog.
    assert_eq!(connected.len(), 2);
    tcp::accept(&listener, Patience::of(LIMIT)).expect("the first of them");
    connect(LIMIT).expect("there is room again");
}

#[test]
fn short_records_are_not_held_back() {
    let (_spot, mut link) = Spot::must_link(&Tcp::new(), 1);
    let receiver = link.receivers.remove(0);
    let receiver = std::thread::spawn(move || receiver.receiver(Patience::of(LIMIT)).expect("a receiver"));
    let sender = link.sender.sender(Patience::of(LIMIT)).expect("a sender");
    receiver.join().expect("no panic");
    assert_eq!(getsockopt(&sender.descriptor().expect("a socket"), TcpNoDelay), Ok(true));
}

#[test]
fn who_has_not_the_tag_is_no_receiver() {
    let (_spot, mut link) = Spot::must_link(&Tcp::new(), 1);
    let receiver = link.receivers.remove(0);
    // The address is that of the listener, which is the sender's first descriptor.
    let port = receiver_port(&receiver);
    let mut stranger =
        TcpStream::connect(("127.0.0.1", port)).or_else(|_| TcpStream::connect(("::1", port))).expect("a listener");
    stranger.write_all(b"guessing").expect("a connection");
    let receiver = std::thread::spawn(move || receiver.receiver(Patience::of(LIMIT)).expect("a receiver"));
    let mut sender = link.sender.sender(Patience::of(LIMIT)).expect("a sender");
    sender.send(b"secret").expect("room");
    assert_eq!(receiver.join().expect("no panic").receive(&mut [0; 10]).expect("a record").len, 6);
    let mut text = Vec::new();
    let _ = stranger.read_to_end(&mut text);
    assert!(text.is_empty(), "the stranger got {text:?}");
}

/// From its text: `tcp|receiver||address|tag|port`.
fn receiver_port(end: &shmcast::baseline::End) -> u16 {
    let shown = format!("{end:?}");
    let words: Vec<&str> = shown.split('"').collect();
    words.iter().rev().find_map(|word| word.parse().ok()).expect("a port")
}

fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = tcp::listen("localhost", 0, 1).expect("a port");
    let (one, _) = tcp::connect("localhost", address.port(), Patience::of(LIMIT)).expect("a listener");
    (one, tcp::accept(&listener, Patience::of(LIMIT)).expect("a connection"))
}

#[test]
fn a_shutdown_ends_a_connection_that_others_have_too_and_a_close_does_not() {
    let (one, mut other) = pair();
    let copy = one.try_clone().expect("a copy");
    other.set_read_timeout(Some(SHORT)).expect("a socket");
    drop(one);
    let waiting = other.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(waiting, Err(ErrorKind::WouldBlock), "closed, but not by the last one");
    copy.shutdown(Shutdown::Write).expect("a connection");
    assert_eq!(other.read(&mut [0]).expect("the end"), 0);
    // One direction only: the other one is open.
    other.write_all(b"still").expect("a connection");
    let (mut copy, mut text) = (copy, [0; 5]);
    copy.read_exact(&mut text).expect("a text");
}

extern "C" fn ignore(_: libc::c_int) {}

#[test]
fn reading_outlasts_real_signals() {
    let nothing = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing. Nobody else here uses this signal. Without SA_RESTART, so that calls are interrupted.
    unsafe { sigaction(Signal::SIGUSR1, &nothing) }.expect("a handler");
    let (mut one, mut other) = pair();
    let (sender, thread) = channel();
    let reading = std::thread::spawn(move || {
        sender.send(gettid().as_raw()).expect("a test");
        let mut bytes = [0; 10];
        let count = read_n(&mut other, &mut bytes).expect("no error");
        (count, bytes)
    });
    let thread = thread.recv().expect("a thread");
    for at in 0..10_u8 {
        wait_until_asleep(std::process::id(), thread);
        // SAFETY: no memory is involved.
        let outcome = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
        assert_eq!(outcome, 0);
        one.write_all(&[at]).expect("a connection");
    }
    assert_eq!(reading.join().expect("no panic"), (10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[test]
fn lost_datagrams_are_counted() {
    for udp in Udp::ALL {
        let (_spot, mut link) = Spot::must_link(&udp, 1);
        let mut receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
        let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
        // More than any queue holds: the sender is neither held up nor told.
        let record = vec![1; 30_000];
        for _ in 0..1000 {
            sender.try_send(&record).unwrap_or_else(|error| panic!("{error}"));
        }
        let mut buffer = vec![0; 60_000];
        let (mut received, mut lost) = (0, 0);
        while let Ok(some) = receiver.try_receive(&mut buffer) {
            received += 1;
            lost += some.lost;
        }
        sender.send(&record).expect("room");
        let last = receiver.receive_timeout(&mut buffer, LIMIT).expect("there is room now");
        assert_eq!(received + lost + last.lost, 1000, "{udp:?}: each one is received or counted");
        assert!(received > 0 && lost + last.lost > 0, "{udp:?}: {received} received");
    }
}

#[test]
fn strangers_datagrams_are_not_received() {
    for udp in [Udp::Unconnected, Udp::Connected] {
        let (_spot, mut link) = Spot::must_link(&udp, 1);
        let mut receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
        let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
        let socket = receiver.descriptor().expect("a socket").try_clone_to_owned().expect("a copy");
        let address: SocketAddr = UdpSocket::from(socket).local_addr().expect("an address");
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for len in [0, 3, 16, 100] {
            let _ = stranger.send_to(&vec![0; len], address);
        }
        sender.send(b"ours").expect("room");
        let received = receiver.receive_timeout(&mut [0; 100], LIMIT).expect("a record");
        assert_eq!((received.len, received.lost), (4, 0), "{udp:?}");
        // To a connected socket the system lets nobody but its peer: a stranger is told that nobody is there.
        stranger.connect(address).expect("an address");
        stranger.set_read_timeout(Some(SHORT)).expect("a socket");
        stranger.send(b"hello").expect("a socket");
        let told = stranger.recv(&mut [0; 8]).map_err(|error| error.kind());
        let expected = if udp == Udp::Connected { ErrorKind::ConnectionRefused } else { ErrorKind::WouldBlock };
        assert_eq!(told, Err(expected), "{udp:?}");
        let empty = receiver.receive_timeout(&mut [0; 100], Duration::from_millis(20));
        assert!(matches!(empty, Err(ReceiveError::Timeout)), "{udp:?}: {empty:?}");
    }
}

#[test]
fn a_broadcast_must_be_allowed() {
    let (_spot, link) = Spot::must_link(&Udp::Broadcast, 1);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let refused = socket.send_to(b"hello", "127.255.255.255:9").map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::PermissionDenied), "without SO_BROADCAST");
    socket.set_broadcast(true).expect("a socket");
    socket.send_to(b"hello", "127.255.255.255:9").expect("with it");
    drop(link);
}
