//! The rules of System V semaphores, and of the buffers over them and over POSIX ones.

use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::gettid;
use shmcast::baseline::sysv::{Operation, Semaphores};
use shmcast::baseline::{Patience, PosixSemaphores, SendError, SysvMemory, Transport};

use crate::Spot;
use crate::peer;
use crate::support::{Child, LIMIT, guard, hear, say, wait_until_asleep};

const NOW: Option<Duration> = Some(Duration::ZERO);

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("takes a semaphore", [key, undo]) => {
            let set = Semaphores::open(key.parse().expect("a key")).expect("a set");
            let operation = if *undo == "undo" { Operation::p(0).undone() } else { Operation::p(0) };
            set.operate(&[operation], None).expect("free");
            say("taken");
            hear();
        }
        ("waits for a semaphore", [key]) => {
            let set = Semaphores::open(key.parse().expect("a key")).expect("a set");
            say(format_args!("waiting {} {}", std::process::id(), gettid()));
            let outcome = set.operate(&[Operation::p(0)], None);
            say(format_args!("outcome {outcome:?}"));
        }
        _ => return false,
    }
    true
}

/// A set that is removed with this value.
struct Removed(Semaphores);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn new_set(values: &[u16]) -> (Removed, String) {
    let key = guard::fresh_key();
    (Removed(Semaphores::create(key, values).expect("a set")), key.to_string())
}

#[test]
fn what_a_dead_process_took_comes_back_with_undo_and_only_with_it() {
    for undo in ["undo", "keep"] {
        let (set, key) = new_set(&[1]);
        let mut child = Child::start("takes a semaphore", &[&key, undo]);
        child.expect("taken");
        assert_eq!(set.0.operate(&[Operation::p(0)], NOW), Err(Errno::EAGAIN), "it is taken");
        child.kill();
        let outcome = set.0.operate(&[Operation::p(0)], if undo == "undo" { Some(LIMIT) } else { NOW });
        assert_eq!(outcome, if undo == "undo" { Ok(()) } else { Err(Errno::EAGAIN) }, "{undo}");
    }
}

#[test]
fn a_death_wakes_who_waits() {
    let (_set, key) = new_set(&[1]);
    let mut holder = Child::start("takes a semaphore", &[&key, "undo"]);
    holder.expect("taken");
    let mut waiter = Child::start("waits for a semaphore", &[&key]);
    let [process, thread] = waiter.expect_numbers("waiting");
    wait_until_asleep(process as u32, thread as i32);
    holder.kill();
    assert_eq!(waiter.expect("outcome"), "Ok(())");
    waiter.finish();
}

#[test]
fn several_operations_happen_together_or_not_at_all() {
    let (set, _) = new_set(&[2, 1, 0]);
    let both = [Operation::p(0), Operation::p(1)];
    assert_eq!(set.0.operate(&both, NOW), Ok(()));
    assert_eq!(set.0.operate(&both, NOW), Err(Errno::EAGAIN));
    assert_eq!([0, 1].map(|number| set.0.value(number)), [Ok(1), Ok(0)], "nothing of the refused one");
    assert_eq!(
        set.0.operate(&[Operation { semaphore: 1, change: 0, undo: false }, Operation::v(2)], NOW),
        Ok(()),
        "it is 0"
    );
    assert_eq!(set.0.value(2), Ok(1));
    let timed_out = set.0.operate(&both, Some(Duration::from_millis(20)));
    assert_eq!(timed_out, Err(Errno::EAGAIN));
    assert_eq!(set.0.operate(&[Operation::p(3)], NOW), Err(Errno::EFBIG), "there are three");
}

#[test]
fn who_waits_for_a_semaphore_is_told_of_its_removal() {
    let (set, key) = new_set(&[0]);
    let mut waiter = Child::start("waits for a semaphore", &[&key]);
    let [process, thread] = waiter.expect_numbers("waiting");
    wait_until_asleep(process as u32, thread as i32);
    set.0.remove().expect("a set");
    assert_eq!(waiter.expect("outcome"), "Err(EIDRM)");
    waiter.finish();
}

#[test]
fn a_bounded_buffer_holds_its_slots_and_a_dead_reader_holds_no_other() {
    let (_spot, link) = Spot::must_link(&SysvMemory, 2);
    let reach = SysvMemory.rules().reach;
    let mut receivers = link.receivers.into_iter();
    let mut reads = receivers.next().expect("two").receiver(Patience::Forever).expect("a receiver");
    let mut dies = peer::start("waits", receivers.next().expect("two"), reach);
    dies.expect("ready");
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    for number in 0..64_u8 {
        sender.try_send(&[number]).expect("64 slots");
    }
    assert!(matches!(sender.try_send(&[64]), Err(SendError::Full)));
    let mut buffer = [0; 8];
    for number in 0..64 {
        assert_eq!(reads.receive(&mut buffer).expect("a record").len, 1);
        assert_eq!(buffer[0], number);
    }
    assert!(matches!(sender.try_send(&[64]), Err(SendError::Full)), "one reader has read nothing");
    // It waits for room; the death wakes it.
    let (this, thread) = (std::process::id(), gettid().as_raw());
    let killer = std::thread::spawn(move || {
        wait_until_asleep(this, thread);
        dies.kill();
    });
    for number in 64..200 {
        sender.send_timeout(&[number], LIMIT).expect("a dead reader holds nobody");
        assert_eq!(reads.receive(&mut buffer).expect("a record").len, 1);
        assert_eq!(buffer[0], number);
    }
    killer.join().expect("no panic");
}

#[test]
fn a_buffer_with_posix_semaphores_is_held_by_whoever_does_not_say_goodbye() {
    for transport in PosixSemaphores::ALL {
        let (_spot, link) = Spot::must_link(&transport, 2);
        let mut receivers = link.receivers.into_iter();
        let mut reads = receivers.next().expect("two").receiver(Patience::Forever).expect("a receiver");
        let mut says_goodbye = receivers.next().expect("two").receiver(Patience::Forever).expect("a receiver");
        let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
        let mut buffer = [0; 8];
        for number in 0..64 {
            sender.try_send(&[number]).expect("64 slots");
            reads.receive(&mut buffer).expect("a record");
        }
        assert!(matches!(sender.try_send(&[64]), Err(SendError::Full)));
        says_goodbye.close();
        for number in 64..200 {
            sender.try_send(&[number]).expect("the other one is gone");
            assert_eq!(reads.receive(&mut buffer).map(|received| received.len).ok(), Some(1));
            assert_eq!(buffer[0], number, "in order, none twice");
        }
    }
}
