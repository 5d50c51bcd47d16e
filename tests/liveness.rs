//! Who holds whom up, and for how long (invariants I2, I3 and I5): dead and stalled readers, writers that come and go.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shmcast::{CreateError, OpenError, Options, RecvTimeoutError, TryRecvError, WaitStrategy, Writer};
use support::{Child, heap, hear, on_every_kind, record_of, role, say, smallest, unique_name};

const BOUND: u64 = 300;
const LIMIT: Duration = Duration::from_secs(8);
const STRATEGIES: [WaitStrategy; 4] =
    [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Park, WaitStrategy::ParkAtOnce];

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let path = Path::new(arguments.first().map_or("", String::as_str));
    let options = match role.as_str() {
        "joins without a descriptor left" => {
            let writer = smallest().create_file(path).unwrap_or_else(|error| panic!("{error}"));
            let none = nix::libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the call only reads the value that it is given.
            assert_eq!(unsafe { nix::libc::setrlimit(nix::libc::RLIMIT_NOFILE, &raw const none) }, 0);
            match Options::new().join(&writer.subscriber()) {
                Err(OpenError::Io { source, .. }) => {
                    say(format_args!("refused {}", source.raw_os_error().unwrap_or(0)))
                }
                other => panic!("{other:?}"),
            }
            return;
        }
        "creates, then waits" => {
            let _writer = smallest().keep(true).create_file(path).unwrap_or_else(|error| panic!("{error}"));
            say("created");
            hear();
            return;
        }
        "joins, then waits" => Options::new(),
        "joins as a lossy one, then waits" => Options::new().lossy(true),
        other => panic!("no role {other:?}"),
    };
    let _reader = options.open_file(path).unwrap_or_else(|error| panic!("{error}"));
    say("joined");
    hear();
}

fn ring(options: &Options) -> (Writer, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (options.create_file(directory.path().join("ring")).expect("a small ring"), directory)
}

fn joined(directory: &tempfile::TempDir, role: &str) -> Child {
    let mut child = Child::start(role, &[directory.path().join("ring").to_str().expect("UTF-8")]);
    child.expect("joined");
    child
}

fn fill(writer: &mut Writer) {
    while writer.try_publish(&record_of(writer.sequence(), BOUND)).is_ok() {
        assert!(writer.sequence() < 1000, "nobody holds it back");
    }
}

// ---- readers that hold the writer back ----

#[test]
fn readers_that_stall_at_one_place_are_all_passed_over() {
    for limit in [Duration::ZERO, Duration::from_millis(3)] {
        on_every_kind(&smallest().stall_limit(limit), |mut writer, door| {
            let mut stalled = [door.lossless(), door.lossless(), door.lossless()];
            for sequence in 0..50 {
                writer.publish_timeout(&record_of(sequence, BOUND), LIMIT).expect("room is made");
            }
            for reader in &mut stalled {
                assert!(matches!(reader.try_recv(), Err(TryRecvError::Evicted { lost: 1.. })));
            }
        });
    }
}

#[test]
fn a_reader_that_dies_while_the_writer_waits_frees_it_whatever_the_strategy() {
    for strategy in STRATEGIES {
        let (mut writer, directory) = ring(&smallest().wait(strategy));
        let mut child = joined(&directory, "joins, then waits");
        fill(&mut writer);
        let payload = record_of(writer.sequence(), BOUND);
        std::thread::scope(|scope| {
            let publish = scope.spawn(|| writer.publish_timeout(&payload, LIMIT));
            child.kill();
            publish.join().expect("no panic").unwrap_or_else(|error| panic!("{strategy:?}: {error}"));
        });
    }
}

#[test]
fn a_stalled_reader_is_passed_over_whatever_the_strategy() {
    for strategy in STRATEGIES {
        let (mut writer, door) = heap(&smallest().wait(strategy).stall_limit(Duration::from_millis(3)));
        let mut stalled = door.lossless();
        for sequence in 0..50 {
            let published = writer.publish_timeout(&record_of(sequence, BOUND), LIMIT);
            published.unwrap_or_else(|error| panic!("{strategy:?}: {error}"));
        }
        assert!(matches!(stalled.try_recv(), Err(TryRecvError::Evicted { lost: 1.. })));
    }
}

/// Tries until it works: every way to try clears the dead away.
#[test]
fn whatever_only_tries_is_freed_from_a_dead_reader_too() {
    type Try = fn(&mut Writer, &[u8]) -> bool;
    let ways: [(&str, Try); 3] = [
        ("try_publish", |writer, payload| writer.try_publish(payload).is_ok()),
        ("try_claim", |writer, payload| writer.try_claim(payload.len()).map(|claim| claim.commit()).is_ok()),
        ("try_publish_batch", |writer, payload| writer.try_publish_batch([payload]) == Ok(1)),
    ];
    for (way, attempt) in ways {
        let (mut writer, directory) = ring(&smallest());
        let mut child = joined(&directory, "joins, then waits");
        fill(&mut writer);
        let payload = record_of(writer.sequence(), BOUND);
        assert!(!attempt(&mut writer, &payload), "{way}: it lives");
        child.kill();
        let start = Instant::now();
        while !attempt(&mut writer, &payload) {
            assert!(start.elapsed() < LIMIT, "{way}: the dead reader holds it back");
            std::thread::yield_now();
        }
    }
}

/// A reader that reads on, however slowly, does not stall.
#[test]
fn a_slow_reader_that_reads_on_is_not_evicted() {
    let limit = Duration::from_secs(1);
    let (mut writer, door) = heap(&smallest().stall_limit(limit));
    let mut slow = door.lossless();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !done.load(Relaxed) {
                let _ = writer.publish_timeout(&[7; 8], Duration::from_millis(10));
            }
        });
        // An eighth of the ring, after which it reports by itself, takes this reader several limits.
        for sequence in 0..64 {
            let received = slow.recv_timeout(LIMIT).map(|record| record.sequence);
            if received != Ok(sequence) {
                done.store(true, Relaxed);
            }
            assert_eq!(received, Ok(sequence));
            // The work that it does with a record.
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(40) {
                std::thread::yield_now();
            }
        }
        done.store(true, Relaxed);
        writing.join().expect("no panic");
    });
}

#[test]
fn dead_readers_are_not_waited_for_as_if_they_were_there() {
    for role in ["joins, then waits", "joins as a lossy one, then waits"] {
        let (mut writer, directory) = ring(&smallest());
        let mut child = joined(&directory, role);
        writer.wait_for_readers(1, LIMIT).expect("it is there");
        child.kill();
        let error = writer.wait_for_readers(1, Duration::from_millis(20)).expect_err("it is dead");
        assert_eq!((error.wanted, error.found), (1, 0), "{role}");
        let _second = joined(&directory, role);
        writer.wait_for_readers(1, LIMIT).expect("it is there");
    }
}

#[test]
fn a_reader_that_cannot_lock_a_slot_is_told_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut child = Child::start("joins without a descriptor left", &[path.to_str().expect("UTF-8")]);
    assert_eq!(child.expect_numbers("refused"), [nix::libc::EMFILE as u64], "and not that all slots are taken");
    child.finish();
}

// ---- writers that come and go ----

type Open<'a> = &'a (dyn Fn() -> Result<Writer, CreateError> + Sync);

/// Opens until it is this one's turn.
fn opened(open: Open) -> Writer {
    let start = Instant::now();
    loop {
        match open() {
            Ok(writer) => return writer,
            Err(CreateError::WriterAlive { .. }) => assert!(start.elapsed() < LIMIT, "it never ends"),
            Err(error) => panic!("{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn writers_that_take_turns_meet_nothing_but_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let name = unique_name("turns");
    let ways: [Open; 2] = [&|| smallest().open_or_create_file(&path), &|| smallest().open_or_create(&name)];
    for open in ways {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        opened(open).publish(b"mine").expect("room");
                    }
                });
            }
        });
    }
}

/// What is left when a writer, or a remove, is killed between two steps blocks no restart.
#[test]
fn half_removed_rings_are_created_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    for _ in 0..2 {
        drop(smallest().keep(true).open_or_create_file(&path).expect("nothing is in the way"));
        std::fs::remove_file(&path).expect("the ring");
        let mut writer = smallest().open_or_create_file(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(writer.publish(b"the first"), Ok(0));
        assert!(matches!(smallest().open_or_create_file(&path), Err(CreateError::WriterAlive { .. })));
    }
    let rings = Path::new(&std::env::var("SHMCAST_DIR").unwrap_or("/dev/shm/shmcast".into())).to_owned();
    let name = unique_name("half");
    for gone in [&["ring"][..], &["ring", "registry"], &["ring", "registry", "lease"]] {
        drop(smallest().keep(true).open_or_create(&name).expect("nothing is in the way"));
        for file in gone {
            std::fs::remove_file(rings.join(&name).join(file)).expect("a file");
        }
        let mut writer = smallest().open_or_create(&name).unwrap_or_else(|error| panic!("{gone:?}: {error}"));
        assert_eq!(writer.publish(b"the first"), Ok(0));
    }
    // What is not a ring's stays.
    std::fs::write(directory.path().join("other.registry"), "precious").expect("a file");
    assert!(smallest().open_or_create_file(directory.path().join("other")).is_err());
    assert_eq!(std::fs::read(directory.path().join("other.registry")).expect("a file"), b"precious");
}

#[test]
fn who_waits_for_no_time_at_all_learns_that_the_writer_died() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut writer = Child::start("creates, then waits", &[path.to_str().expect("UTF-8")]);
    writer.expect("created");
    let mut reader = smallest().open_file(&path).expect("a slot");
    assert_eq!(reader.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    writer.kill();
    let start = Instant::now();
    while reader.recv_timeout(Duration::ZERO) != Err(RecvTimeoutError::WriterDied) {
        assert!(start.elapsed() < LIMIT, "never told");
        std::thread::yield_now();
    }
}
