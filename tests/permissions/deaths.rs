//! How other users learn of a writer's death, and what they can do to what tells it: the locks.

use std::time::Duration;

use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::{ForkResult, Pid, close, fork};
use shmcast::{OpenError, Options, Reader, RecvTimeoutError};

use crate::people::{Person, can_be_others};
use crate::scene::{For, Kind, Scene, Spot, WITH_FILES, lock, open, start};
use crate::support::{LIMIT, hear, say, smallest};
use crate::trust::part_of;

/// The byte of a ring's file on which the writer's sign of life is, and of the registry's for its lease.
const WRITER_AT: i64 = 1 << 41;

/// Reads what there is, then tells what becomes of the writer.
pub(crate) fn mourn(reader: Result<Reader, OpenError>) {
    let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reader.recv().map(|record| record.payload), Ok(b"seen".to_vec()));
    // It lives.
    assert_eq!(reader.recv_timeout(Duration::from_millis(120)), Err(RecvTimeoutError::Timeout));
    say(format_args!("joined {}", if reader.is_follower() { "follower" } else { "reader" }));
    loop {
        match hear().as_str() {
            "sleep" => {
                say("sleeps");
                say(format_args!("sleeping: {:?}", reader.recv_timeout(LIMIT)));
            }
            "look" => say(format_args!("looking: {:?}", reader.recv_timeout(Duration::from_millis(120)))),
            "poll" => say(format_args!("polling: {:?}", reader.try_recv())),
            _ => return,
        }
    }
}

/// As the owner in `main`, with a child that lives on after it.
pub(crate) fn forking_owner(spot: &Spot, whom: For) {
    Person::Owner.act();
    let mut writer = spot.create(&whom.options()).unwrap_or_else(|error| panic!("{error}"));
    writer.publish(b"seen").expect("room");
    // SAFETY: the child allocates nothing and takes no lock.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => wait_for_the_end(),
        ForkResult::Parent { child } => say(format_args!("created {child}")),
    }
    hear();
}

/// Waits until the test is done with the process that this one was forked from: nobody writes to its input.
fn wait_for_the_end() -> ! {
    // The test waits for the end of these two.
    let _ = (close(1), close(2));
    while nix::unistd::read(std::io::stdin(), &mut [0]).is_ok_and(|count| count > 0) {}
    // SAFETY: ends this process, and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

pub(crate) fn succeed(spot: &Spot) {
    Person::Owner.act();
    let taken = spot.take_over(&smallest()).expect("a kind with files");
    let mut writer = match taken {
        Ok(writer) => writer,
        Err(error) => return say(format_args!("refused {error:?}")),
    };
    let sequence = writer.publish(b"next").expect("room");
    say(format_args!("published {sequence}"));
    hear();
    drop(writer);
    say("closed");
}

/// As the owner: counts its readers, of which the dead are cleared away first.
pub(crate) fn counting_owner(spot: &Spot) {
    Person::Owner.act();
    let mut writer = spot.create(&smallest()).unwrap_or_else(|error| panic!("{error}"));
    say("created");
    hear();
    say(format_args!("counted {:?}", writer.wait_for_readers(1, LIMIT)));
    hear();
}

/// Root may read anybody's ring, and is not taken for dead.
#[test]
fn root_lives_in_everybodys_rings() {
    if !can_be_others() {
        return;
    }
    // Named rings are those of this process's ring directory, and otherwise files.
    for kind in [Kind::File, Kind::Posix, Kind::Sysv] {
        let (spot, _directory) = Scene::spot(kind);
        let mut owner = start("counting owner", &spot, &[]);
        owner.expect("created");
        let reader = spot.open(&Options::new().owner(Person::Owner.uid())).unwrap_or_else(|error| panic!("{error}"));
        owner.tell("count");
        owner.expect("counted Ok(())");
        drop(reader);
        owner.tell("go");
        owner.finish();
    }
}

/// A writer that other users only follow, or read from without its lease, is known to be dead when it is.
#[test]
fn other_users_learn_that_the_writer_died() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        for (person, how, whom, what) in [
            (Person::Other, "lossy", For::AllToFollowGroupToRead, "follower"),
            (Person::Member, "follower", For::AllToFollowGroupToRead, "follower"),
            (Person::Member, "lossless", For::AllToFollowGroupToRead, "reader"),
            (Person::Other, "lossless", For::AllToRead, "reader"),
        ] {
            let (spot, _directory) = Scene::spot(kind);
            let mut owner = start("forking owner", &spot, &[&format!("{whom:?}")]);
            let orphan: i32 = owner.expect("created").parse().expect("a process id");
            let mut mourner = start("mourner", &spot, &[&format!("{person:?}"), how]);
            assert_eq!(mourner.expect("joined"), what, "{kind:?} {person:?}");
            mourner.tell("poll");
            mourner.expect("polling: Err(Empty)");
            mourner.tell("sleep");
            mourner.expect("sleeps");
            owner.kill();
            mourner.expect("sleeping: Err(WriterDied)");
            mourner.tell("poll");
            mourner.expect("polling: Err(WriterDied)");
            // A ring whose registry others may write is taken over like any other, and is alive again.
            let mut successor = start("successor", &spot, &[]);
            assert_eq!(successor.expect("published"), "1", "{kind:?} {person:?}");
            mourner.tell("poll");
            mourner.expect("polling: Ok(Record { sequence: 1");
            mourner.tell("look");
            mourner.expect("looking: Err(Timeout)");
            successor.tell("go");
            successor.expect("closed");
            mourner.tell("poll");
            mourner.expect("polling: Err(Closed)");
            kill(Pid::from_raw(orphan), None).expect("it lives on");
            drop(owner);
        }
    }
}

/// Holds a lock on the writer's byte of a part of the ring.
pub(crate) fn hold_lock(spot: &Spot, part: &str, kind: &str) {
    let write = kind == "write";
    let file = open(&spot.file(part_of(part)), write).unwrap_or_else(|errno| panic!("{errno}"));
    let kind = if write { libc::F_WRLCK } else { libc::F_RDLCK };
    loop {
        match lock(&file, kind, WRITER_AT) {
            Ok(()) => break,
            Err(nix::errno::Errno::EAGAIN) => say("held"),
            Err(errno) => panic!("{errno}"),
        }
        hear();
    }
    say("locked");
    hear();
}

#[test]
fn a_follower_can_hide_a_death_but_neither_fake_one_nor_keep_a_successor_away() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        let mut scene = Scene::new(kind, For::AllToFollow);
        let mut mourner = scene.start("mourner", &["Other", "lossy"]);
        mourner.expect("joined follower");
        // A read lock beside the writer's own.
        let mut locker = scene.start("locker", &["Member", "ring", "read"]);
        locker.expect("locked");
        mourner.tell("look");
        mourner.expect("looking: Err(Timeout)");
        scene.owner.kill();
        mourner.tell("look");
        mourner.expect("looking: Err(Timeout)");
        let mut successor = scene.start("successor", &[]);
        successor.expect("published 1");
        mourner.tell("look");
        mourner.expect("looking: Ok(");
        locker.kill();
        mourner.tell("look");
        mourner.expect("looking: Err(Timeout)");
        successor.kill();
        mourner.tell("look");
        mourner.expect("looking: Err(WriterDied)");
    }
}

/// The lease of a ring in files, or POSIX objects, is in the registry, which readers write; that of a named ring is not.
#[test]
fn a_reader_of_another_user_can_lock_out_a_successor_except_of_a_named_ring() {
    if !can_be_others() {
        return;
    }
    for kind in [Kind::File, Kind::Posix] {
        let mut scene = Scene::new(kind, For::GroupToRead);
        let mut mourner = scene.start("mourner", &["Owner", "lossless"]);
        mourner.expect("joined reader");
        let mut locker = scene.start("locker", &["Member", "registry", "write"]);
        locker.expect("held");
        scene.owner.kill();
        locker.tell("again");
        locker.expect("locked");
        mourner.tell("look");
        mourner.expect("looking: Err(Timeout)");
        let mut successor = scene.start("successor", &[]);
        successor.expect("refused WriterAlive");
        locker.kill();
        mourner.tell("look");
        mourner.expect("looking: Err(WriterDied)");
        scene.start("successor", &[]).expect("published 1");
    }
    let mut scene = Scene::new(Kind::Named, For::GroupToRead);
    let mut locker = scene.start("locker", &["Member", "registry", "write"]);
    locker.expect("locked");
    scene.owner.kill();
    scene.start("successor", &[]).expect("published 1");
}
