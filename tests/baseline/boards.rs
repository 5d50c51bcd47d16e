//! The rules of file locks, and of the board over them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use shmcast::baseline::{Board, FileLock, LockKind, Patience, ReceiveError, SetupError};

use crate::Spot;
use crate::peer::{self, Peer};
use crate::support::{Child, LIMIT, guard, hear, say};

const KINDS: [LockKind; 4] = [LockKind::Flock, LockKind::Lockf, LockKind::Record, LockKind::OpenFile];

fn open(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("a file")
}

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("holds a lock", [path, kind, mode]) => {
            let lock = FileLock::new(open(path), KINDS[kind.parse::<usize>().expect("a number")]);
            assert_eq!(lock.lock(*mode == "alone", Patience::Not), Ok(true));
            say("locked");
            if hear() == "close another" {
                // Another descriptor of the same file, opened and closed.
                drop(open(path));
                say("closed");
                hear();
            }
        }
        ("makes a lock file", [path]) => {
            OpenOptions::new().write(true).create_new(true).open(path).expect("nobody has it");
            say("made");
            hear();
        }
        _ => return false,
    }
    true
}

fn hold(path: &Path, kind: usize, mode: &str) -> Child {
    let mut child = Child::start("holds a lock", &[path.to_str().expect("UTF-8"), &kind.to_string(), mode]);
    child.expect("locked");
    child
}

#[test]
fn a_lock_keeps_others_out_and_ends_with_its_process() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    for (number, kind) in KINDS.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let lock = FileLock::new(open(&path), kind);
        let mut child = hold(&path, number, "alone");
        assert_eq!(lock.lock(true, Patience::Not), Ok(false), "{kind:?}");
        assert_eq!(lock.lock(false, Patience::Not), Ok(false), "{kind:?}");
        assert_eq!(lock.is_held(), Ok(true), "{kind:?}");
        let holder = match kind {
            LockKind::Flock => None,
            LockKind::Lockf | LockKind::Record => Some(child.pid().cast_signed()),
            LockKind::OpenFile => Some(-1),
        };
        assert_eq!(lock.holder(), Ok(holder), "{kind:?}");
        child.kill();
        // However it ended: no lock is stale.
        assert_eq!(lock.is_held(), Ok(false), "{kind:?}");
        assert_eq!(lock.lock(true, Patience::Not), Ok(true), "{kind:?}");
        lock.unlock().expect("a lock");
    }
}

#[test]
fn a_file_that_is_the_lock_stays_when_its_process_is_killed() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let path = directory.path().join("lock");
    let mut child = Child::start("makes a lock file", &[path.to_str().expect("UTF-8")]);
    child.expect("made");
    child.kill();
    let taken = OpenOptions::new().write(true).create_new(true).open(&path);
    assert!(taken.is_err(), "stale: nobody has it, and nobody gets it");
}

#[test]
fn readers_share_a_lock_except_lockf() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    for (number, kind) in KINDS.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let mut child = hold(&path, number, "shared");
        let lock = FileLock::new(open(&path), kind);
        assert_eq!(lock.lock(false, Patience::Not), Ok(kind != LockKind::Lockf), "{kind:?}");
        assert_eq!(lock.lock(true, Patience::Not), Ok(false), "{kind:?}: nobody is alone");
        child.kill();
        assert_eq!(lock.lock(true, Patience::of(LIMIT)), Ok(true), "{kind:?}");
    }
}

#[test]
fn any_close_of_the_file_ends_the_locks_that_belong_to_the_process() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    for (number, kind) in KINDS.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let mut child = hold(&path, number, "alone");
        let lock = FileLock::new(open(&path), kind);
        child.tell("close another");
        child.expect("closed");
        let lost = matches!(kind, LockKind::Lockf | LockKind::Record);
        assert_eq!(lock.is_held(), Ok(!lost), "{kind:?}");
        child.kill();
    }
}

#[test]
fn locks_of_open_files_work_between_the_threads_of_a_process_and_record_locks_do_not() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    for (number, kind) in KINDS.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let (one, other) = (FileLock::new(open(&path), kind), FileLock::new(open(&path), kind));
        assert_eq!(one.lock(true, Patience::Not), Ok(true));
        let of_process = matches!(kind, LockKind::Lockf | LockKind::Record);
        assert_eq!(other.lock(true, Patience::Not), Ok(of_process), "{kind:?}");
    }
}

#[test]
fn a_board_shows_the_newest_and_counts_what_was_replaced() {
    for board in Board::ALL {
        let (_spot, mut link) = Spot::must_link(&board, 3);
        // Of other processes: record locks do not keep threads of one process apart.
        let mut peers: Vec<Peer> = link
            .receivers
            .drain(..)
            .map(|end| peer::start("echoes sizes", end, shmcast::baseline::Reach::Names))
            .collect();
        peers.iter_mut().for_each(|peer| drop(peer.expect("ready")));
        let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
        for len in 1..=100_usize {
            sender.send(&vec![1; len]).expect("no reader holds it");
        }
        for peer in &mut peers {
            peer.tell("all");
            let [len, _] = peer.expect_numbers("got");
            assert_eq!(len, 100, "the newest");
        }
        for mut peer in peers {
            peer.tell("end");
            peer.finish();
        }
    }
}

#[test]
fn a_board_has_one_writer() {
    // Two of one process would not see each other's record locks.
    for board in Board::ALL.into_iter().filter(|board| matches!(board.lock, LockKind::Flock | LockKind::OpenFile)) {
        let (spot, link) = Spot::must_link(&board, 1);
        let _sender = link.sender.sender(Patience::Forever).expect("a sender");
        let place = file_of(&spot, "writer");
        let lock = FileLock::new(open(place), board.lock);
        assert_eq!(lock.lock(true, Patience::Not), Ok(false));
    }
    let (spot, link) = Spot::must_link(&Board::ALL[0], 1);
    let other = FileLock::new(open(file_of(&spot, "writer")), LockKind::Flock);
    assert_eq!(other.lock(true, Patience::Not), Ok(true));
    let refused = link.sender.sender(Patience::Not);
    assert!(matches!(refused, Err(SetupError::Unable { .. })), "{refused:?}");
}

fn file_of(spot: &Spot, name: &str) -> std::path::PathBuf {
    let inside =
        std::fs::read_dir(spot.directory.path()).expect("a directory").next().expect("an entry").expect("an entry");
    inside.path().join(name)
}

#[test]
fn what_a_writer_died_in_the_middle_of_is_not_read() {
    for board in Board::ALL {
        let (spot, link) = Spot::must_link(&board, 2);
        let mut peer = peer::start("sends and waits", link.sender, shmcast::baseline::Reach::Names);
        let receivers = link.receivers.into_iter();
        // One has seen the record before, the other one has seen nothing.
        let mut receivers: Vec<_> = receivers.map(|end| end.receiver(Patience::Forever).expect("a receiver")).collect();
        let mut buffer = vec![0; 2000];
        receivers[0].receive_timeout(&mut buffer, LIMIT).expect("a record");
        peer.expect("sent");
        // As if it were in the middle of the next record: an odd generation. Through another process's eyes the lock is free.
        let file = open(file_of(&spot, "board"));
        file.write_all_at(&3_u64.to_ne_bytes(), 0).expect("a board");
        file.write_all_at(&1000_u64.to_ne_bytes(), 8).expect("a board");
        for receiver in &mut receivers {
            let nothing = receiver.try_receive(&mut buffer);
            assert!(matches!(nothing, Err(ReceiveError::Empty)), "{board:?}: {nothing:?}");
        }
        peer.kill();
        for receiver in &mut receivers {
            let died = receiver.receive_timeout(&mut buffer, LIMIT);
            assert!(matches!(died, Err(ReceiveError::SenderDied)), "{board:?}: {died:?}");
        }
    }
}
