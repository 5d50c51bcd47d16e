//! One loop for many receivers, by `epoll`, `poll` and `select`.

use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmcast::baseline::{
    Bridge, Delivery, Event, Link, Multiplexer, Patience, ReceiveError, Receiver, SetupError, Transport, With, by_name,
};

use crate::Spot;
use crate::peer;
use crate::roles::{SHORT, assert_record};
use crate::support::{LIMIT, skipped};

/// Those with a descriptor, and some that need a bridge.
const NAMES: [&str; 14] = [
    "pipe",
    "fifo",
    "unix-stream",
    "unix-datagram-named",
    "unix-seqpacket-named",
    "tcp",
    "udp-multicast",
    "posix-queue",
    "signal-queued",
    "sysv-queue",
    "sysv-shm",
    "posix-sem-unnamed",
    "board-mapped",
    "ring-memfd-park",
];
const COUNT: u64 = 300;

#[test]
fn one_loop_serves_them_all() {
    for with in [With::Epoll, With::Poll, With::Select] {
        let (mut spots, mut peers, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let mut many = Multiplexer::new(with).expect("a multiplexer");
        for name in NAMES {
            let transport = by_name(name).expect("a transport");
            let rules = transport.rules();
            let (spot, link) = match Spot::link(&*transport, 1) {
                Err(error @ SetupError::Missing { .. }) => {
                    skipped(error);
                    continue;
                }
                other => other.unwrap_or_else(|error| panic!("{name}: {error}")),
            };
            let Link { sender, mut receivers, names } = link;
            let mut peer = peer::start("sends", sender, rules.reach);
            let receiver = crate::roles::receiver(receivers.remove(0));
            let receiver: Box<dyn shmcast::baseline::Receiver> = if rules.pollable {
                receiver
            } else {
                assert!(receiver.descriptor().is_none(), "{name}: as its rules say");
                Box::new(Bridge::over(receiver, 1000).expect("a bridge"))
            };
            assert_eq!(many.add(receiver).expect("a descriptor"), kinds.len());
            peer.tell(&COUNT.to_string());
            spots.push((spot, names));
            peers.push(peer);
            kinds.push((name, rules, 0, 0, false));
        }
        let mut buffer = vec![0; 1000];
        while many.count() > 0 {
            match many.next(&mut buffer, Patience::of(LIMIT)).expect("something") {
                (number, Event::Record(received)) => {
                    let (_, rules, count, lost, _) = &mut kinds[number];
                    *lost += received.lost;
                    assert_record(*count + *lost, &buffer[..received.len], rules);
                    *count += 1;
                }
                (number, Event::End(error)) => {
                    assert!(matches!(error, ReceiveError::Closed), "{}: {error}", kinds[number].0);
                    kinds[number].4 = true;
                }
            }
        }
        for (name, rules, count, lost, ended) in kinds {
            assert!(ended, "{with:?}: {name}");
            match rules.delivery {
                Delivery::Lossless => assert_eq!((count, lost), (COUNT, 0), "{with:?}: {name}"),
                _ => assert!(count > 0 && count + lost <= COUNT, "{with:?}: {name}: {count} {lost}"),
            }
        }
        for mut peer in peers {
            peer.expect("closed");
            peer.tell("end");
            peer.finish();
        }
        for (spot, names) in spots {
            drop(names);
            spot.assert_nothing_is_left();
        }
    }
}

#[test]
fn a_wait_for_many_ends_in_time() {
    for with in [With::Epoll, With::Poll, With::Select] {
        let mut many = Multiplexer::new(with).expect("a multiplexer");
        let nobody = many.next(&mut [0; 8], Patience::Forever);
        assert!(matches!(nobody, Err(ReceiveError::Closed)), "{nobody:?}");
        let (_spot, mut link) = Spot::must_link(&shmcast::baseline::Pipe::new(), 1);
        many.add(link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver")).expect("a descriptor");
        let empty = many.next(&mut [0; 8], Patience::Not);
        assert!(matches!(empty, Err(ReceiveError::Empty)), "{empty:?}");
        let start = Instant::now();
        let timed_out = many.next(&mut [0; 8], Patience::of(SHORT));
        assert!(matches!(timed_out, Err(ReceiveError::Timeout)), "{timed_out:?}");
        assert!(start.elapsed() >= SHORT);
    }
}

#[test]
fn nobody_is_starved() {
    // One sends far more than the other; they take turns.
    let mut many = Multiplexer::new(With::Epoll).expect("a multiplexer");
    let mut senders = Vec::new();
    let mut spots = Vec::new();
    for count in [1000, 10] {
        let (spot, mut link) = Spot::must_link(&shmcast::baseline::Pipe::new(), 1);
        many.add(link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver")).expect("a descriptor");
        let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
        for _ in 0..count {
            sender.send(&[1; 8]).expect("room");
        }
        senders.push(sender);
        spots.push(spot);
    }
    let order: Vec<usize> = (0..20).map(|_| many.next(&mut [0; 8], Patience::Not).expect("records").0).collect();
    assert_eq!(order.iter().filter(|number| **number == 1).count(), 10, "{order:?}");
}

#[test]
fn a_bridge_is_ready_as_long_as_it_has_something() {
    let transport = shmcast::baseline::SysvMemory;
    let (_spot, mut link) = Spot::must_link(&transport, 1);
    let receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    let mut bridge = Bridge::over(receiver, 100).expect("a bridge");
    let mut buffer = [0; 100];
    for round in 0..50 {
        for len in 1..=10 {
            sender.send(&buffer[..len]).expect("room");
        }
        for len in 1..=10 {
            assert_eq!(bridge.receive_timeout(&mut buffer, LIMIT).expect("a record").len, len);
        }
        // Or a loop would never sleep again.
        assert!(!is_ready(&bridge), "round {round}: nothing is there");
    }
    sender.close();
    let end = bridge.receive_timeout(&mut buffer, LIMIT);
    assert!(matches!(end, Err(ReceiveError::Closed)), "{end:?}");
}

fn is_ready(bridge: &Bridge) -> bool {
    let descriptor = shmcast::baseline::Receiver::descriptor(bridge).expect("a descriptor");
    let mut look = [PollFd::new(descriptor, PollFlags::POLLIN)];
    poll(&mut look, PollTimeout::ZERO).expect("a descriptor") > 0
}

#[test]
fn what_has_no_descriptor_is_refused() {
    let transport = shmcast::baseline::SysvQueue;
    let (_spot, mut link) = Spot::must_link(&transport, 1);
    assert!(!transport.rules().pollable);
    let receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let refused = Multiplexer::new(With::Epoll).expect("a multiplexer").add(receiver);
    assert!(matches!(refused, Err(SetupError::Unable { .. })), "{refused:?}");
}
