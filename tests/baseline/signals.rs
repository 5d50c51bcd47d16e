//! The rules of signals.

use shmcast::baseline::{Patience, Reach, ReceiveError, Signals};

use crate::Spot;
use crate::peer;
use crate::roles::record_of;
use crate::support::LIMIT;

/// Fewer than may wait.
const COUNT: u64 = 100;

#[test]
fn standard_signals_get_lost_and_queued_ones_do_not() {
    for (signals, arrive) in [(Signals::Queued, COUNT), (Signals::Standard, 1)] {
        let (_spot, mut link) = Spot::must_link(&signals, 1);
        let rules = shmcast::baseline::Transport::rules(&signals);
        let mut peer = peer::start("holds", link.receivers.remove(0), Reach::Descriptors);
        let mut sender = link.sender.sender(Patience::of(LIMIT)).expect("a sender");
        peer.expect("ready");
        // It does not look at them yet.
        for number in 0..COUNT {
            sender.try_send(&record_of(number, &rules)).expect("room");
        }
        sender.close();
        peer.tell("drain");
        // In order, and each with its value: the peer checks them.
        assert_eq!(peer.expect_numbers("received"), [arrive, 0], "{signals:?}");
        peer.finish();
    }
}

#[test]
fn signals_are_for_the_thread_that_connected() {
    let (_spot, mut link) = Spot::must_link(&Signals::Queued, 1);
    let mut receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let outcome = std::thread::spawn(move || receiver.try_receive(&mut [0; 8])).join().expect("no panic");
    assert!(matches!(outcome, Err(ReceiveError::Damaged { .. })), "{outcome:?}");
}
