//! Processes that die, stall, and come back (invariants I2, I4 and I5): every child is this binary again, in a role.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};
use shmcast::{CreateError, Options, Reader, RecvError, RecvTimeoutError, TryPublishError, TryRecvError, Writer};
use support::{Child, LIMIT, Random, assert_whole, hear, on_every_kind, record_of, role, say, smallest, unique_name};

const BOUND: u64 = 300;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let path = Path::new(arguments.first().map_or("", String::as_str));
    match role.as_str() {
        "writer" => write_until_killed(path),
        "forks, then waits" => fork_then_wait(path),
        "reader" => read_until_killed(path, false),
        "lossy reader" => read_until_killed(path, true),
        "joins, then waits" => join_then_wait(path),
        other => panic!("no role {other:?}"),
    }
}

fn take_over(path: &Path) -> Writer {
    smallest().keep(true).open_or_create_file(path).unwrap_or_else(|error| panic!("{error}"))
}

fn stream_of(count: u64, writer: &mut Writer) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Takes the ring over, and publishes its stream until it is killed.
fn write_until_killed(path: &Path) {
    let mut writer = take_over(path);
    say(format_args!("writes {}", writer.sequence()));
    loop {
        stream_of(1, &mut writer);
    }
}

/// Creates the ring, forks a child that lives on without doing anything, and waits to be killed.
fn fork_then_wait(path: &Path) {
    let mut writer = take_over(path);
    writer.publish(&record_of(0, BOUND)).expect("room");
    // SAFETY: the child calls nothing but what is allowed between a fork and the end: a sleep and an exit.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => loop {
            nix::unistd::pause();
        },
        ForkResult::Parent { child } => say(format_args!("forked {child}")),
    }
    hear();
    drop(writer);
}

/// Reads a stream over the deaths of its writers; says how far it has come. Joins where it can, and checks everything.
fn read_until_killed(path: &Path, lossy: bool) {
    let options = smallest().lossy(lossy).wait_for_successor(true);
    let mut reader = options.open_file(path).unwrap_or_else(|error| panic!("{error}"));
    let mut expected = reader.sequence();
    say(format_args!("reads {expected}"));
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.sequence, expected, "no gap that was not told");
                assert_whole(record.sequence, &record, BOUND);
                expected += 1;
            }
            Err(RecvError::Lagged(lost)) if lossy => expected += lost,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("behind record {expected}: {error}"),
        }
    }
    say(format_args!("read up to {expected}"));
}

fn join_then_wait(path: &Path) {
    let mut reader = Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}"));
    let first = reader.sequence();
    say(format_args!("joined {first}"));
    hear();
    // What it holds is whole, or it is told how much of it it has lost.
    let (mut expected, mut evicted) = (first, None);
    loop {
        match reader.try_recv() {
            Ok(record) => {
                assert_eq!(record.sequence, expected);
                assert_whole(expected, &record, BOUND);
                expected += 1;
            }
            Err(TryRecvError::Evicted { lost }) => {
                assert!(evicted.replace(lost).is_none() && !reader.is_lossless(), "told once");
                expected += lost;
            }
            Err(TryRecvError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    match evicted {
        Some(lost) => say(format_args!("Evicted {lost} {expected}")),
        None => return say("Empty"),
    }
    // Everything that it holds is read, so this costs nothing; and from here on it holds the writer back again.
    assert_eq!(reader.rejoin().map_err(|error| error.to_string()), Ok(0));
    say("rejoined");
    hear();
    let record = reader.try_recv().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(record.sequence, expected, "from its next record on");
    assert_whole(expected, &record, BOUND);
    say("read on");
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("ring")
    }

    fn child(&self, role: &str) -> Child {
        Child::start(role, &[self.path().to_str().expect("UTF-8")])
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.pid()).expect("a process id")), signal).expect("a child");
}

// ---- the writer dies ----

#[test]
fn a_second_writer_is_refused_and_told_which_process_is_the_first() {
    for named in [false, true] {
        let (place, name) = (Place::new(), unique_name("lease"));
        let again = || {
            if named { smallest().open_or_create(&name) } else { smallest().open_or_create_file(place.path()) }
        };
        let mut first = again().expect("there is none");
        first.publish(b"mine").expect("room");
        match again() {
            Err(CreateError::WriterAlive { process, .. }) => assert_eq!(process, u64::from(std::process::id())),
            other => panic!("{other:?}"),
        }
        first.publish(b"still mine").expect("room");
        drop(first);
        // The name went with it: the next one is a new ring.
        assert_eq!(again().expect("there is none").sequence(), 0);
    }
}

#[test]
fn a_ring_that_was_kept_is_taken_over_and_opened_again() {
    let place = Place::new();
    let mut writer = take_over(&place.path());
    stream_of(100, &mut writer);
    drop(writer);
    let mut reader = Options::new().open_file(place.path()).expect("it was kept");
    while reader.try_recv().is_ok() {}
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    let mut writer = take_over(&place.path());
    assert_eq!((writer.sequence(), writer.is_closed()), (100, false));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    stream_of(5, &mut writer);
    assert_eq!(reader.recv().map(|record| record.sequence), Ok(100));
}

/// Nothing that was committed is lost, the numbers go on, and a reader carries on without opening the ring again.
#[test]
fn successors_carry_on_where_killed_writers_stopped() {
    let place = Place::new();
    let mut writer = place.child("writer");
    writer.expect("writes 0");
    let mut reader = place.child("reader");
    let [mut next] = reader.expect_numbers("reads");
    writer.kill();
    let mut random = Random(1);
    for _ in 0..50 {
        let mut writer = place.child("writer");
        let [first] = writer.expect_numbers("writes");
        assert!(first >= next, "{first} records after there were {next}");
        next = first;
        // Any time between the first record and some thousand: chance decides, what follows is checked in any case.
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
        writer.kill();
    }
    let mut writer = take_over(&place.path());
    assert!(writer.sequence() >= next);
    stream_of(100, &mut writer);
    let total = writer.sequence();
    drop(writer);
    assert_eq!(reader.expect_numbers("read up to"), [total]);
    reader.finish();
}

#[test]
fn a_sleeping_and_a_polling_reader_learn_that_the_writer_died() {
    let place = Place::new();
    let mut writer = place.child("forks, then waits");
    let [orphan] = writer.expect_numbers("forked");
    let mut readers = [false, true].map(|lossy| smallest().lossy(lossy).open_file(place.path()).expect("a ring"));
    for reader in &mut readers {
        assert_eq!(reader.recv().map(|record| record.sequence), Ok(0));
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "it lives");
    }
    let sleepers = readers.map(|mut reader| std::thread::spawn(move || (reader.recv_timeout(LIMIT), reader)));
    writer.kill();
    for sleeper in sleepers {
        let (end, mut reader) = sleeper.join().expect("no panic");
        assert_eq!(end, Err(RecvTimeoutError::WriterDied));
        assert_eq!(reader.try_recv(), Err(TryRecvError::WriterDied));
        assert_eq!(reader.recv(), Err(RecvError::WriterDied));
        assert_eq!(reader.iter().count(), 1, "an iterator ends with it");
    }
    // A child that the writer forked lives on, and has nothing of its lease.
    kill(Pid::from_raw(i32::try_from(orphan).expect("a process id")), None).expect("it lives");
    assert_eq!(take_over(&place.path()).sequence(), 1);
    kill(Pid::from_raw(i32::try_from(orphan).expect("a process id")), Signal::SIGKILL).expect("it lives");
}

#[test]
fn a_reader_may_wait_for_the_successor() {
    let place = Place::new();
    let mut writer = take_over(&place.path());
    let mut reader = smallest().wait_for_successor(true).open_file(place.path()).expect("a ring");
    stream_of(1, &mut writer);
    assert!(reader.recv().is_ok());
    drop(writer);
    // Closed, not dead: that is told.
    assert_eq!(reader.recv(), Err(RecvError::Closed));
    let mut child = place.child("writer");
    child.expect("writes 1");
    assert_eq!(reader.recv().map(|record| record.sequence), Ok(1));
    child.kill();
    while reader.try_recv().is_ok() {}
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "it waits");
    let next = reader.sequence();
    let reading = std::thread::spawn(move || reader.recv_timeout(LIMIT).map(|record| record.sequence));
    let mut writer = take_over(&place.path());
    assert_eq!(writer.sequence(), next);
    stream_of(1, &mut writer);
    assert_eq!(reading.join().expect("no panic"), Ok(next));
}

#[test]
fn a_damaged_ring_is_not_taken_over() {
    use std::os::unix::fs::FileExt;
    let place = Place::new();
    let mut writer = take_over(&place.path());
    stream_of(1, &mut writer);
    drop(writer);
    let file = std::fs::File::options().write(true).open(place.path()).expect("a file");
    let whole = std::fs::read(place.path()).expect("a file");
    // The first record's header: no record begins so.
    let data = whole.len() as u64 - 4096;
    file.write_all_at(&u64::MAX.to_ne_bytes(), data).expect("a word");
    match smallest().open_or_create_file(place.path()) {
        Err(CreateError::TakeOver { source, .. }) => assert!(source.to_string().contains("damaged"), "{source}"),
        other => panic!("{other:?}"),
    }
    file.write_all_at(&whole, 0).expect("the file");
    assert_eq!(take_over(&place.path()).sequence(), 1);
}

// ---- a reader dies, or stalls ----

/// Fills the ring until the writer is held back.
fn fill(writer: &mut Writer) {
    let first = writer.sequence();
    while writer.try_publish(&record_of(writer.sequence(), BOUND)).is_ok() {
        assert!(writer.sequence() < first + 1000, "nobody holds it back");
    }
}

#[test]
fn a_dead_reader_holds_nobody_back() {
    let place = Place::new();
    let mut writer = take_over(&place.path());
    for round in 0..10 {
        let mut child = place.child("joins, then waits");
        child.expect("joined");
        fill(&mut writer);
        let payload = record_of(writer.sequence(), BOUND);
        assert_eq!(writer.try_publish(&payload), Err(TryPublishError::Full), "it lives");
        if round % 2 == 0 {
            child.kill();
            writer.publish_timeout(&payload, LIMIT).expect("the dead one is cleared away");
        } else {
            // The other way round: the writer sleeps already when the reader dies.
            std::thread::scope(|scope| {
                let publish = scope.spawn(|| writer.publish_timeout(&payload, LIMIT));
                child.kill();
                publish.join().expect("no panic").expect("the dead one is cleared away");
            });
        }
        assert_eq!(writer.reader_count(), 0);
    }
}

#[test]
fn the_slots_of_the_dead_are_taken_again() {
    let place = Place::new();
    let mut writer = take_over(&place.path());
    for lossy in [false, true, false] {
        let role = if lossy { "lossy reader" } else { "reader" };
        let mut children: Vec<Child> = (0..4).map(|_| place.child(role)).collect();
        for child in &mut children {
            child.expect("reads");
        }
        assert_eq!(writer.reader_count(), 4);
        assert!(Options::new().open_file(place.path()).is_err(), "all slots are taken");
        for child in &mut children {
            child.kill();
        }
        let readers: Vec<Reader> =
            (0..4).map(|_| Options::new().open_file(place.path()).expect("a slot of a dead one")).collect();
        stream_of(3, &mut writer);
        for mut reader in readers {
            while let Ok(record) = reader.try_recv() {
                assert_whole(record.sequence, &record, BOUND);
            }
            assert_eq!(reader.sequence(), writer.sequence());
        }
    }
}

#[test]
fn a_stopped_reader_is_evicted_only_if_the_ring_was_made_so() {
    for limit in [None, Some(Duration::from_millis(5)), Some(Duration::ZERO)] {
        let place = Place::new();
        let options = limit.map_or_else(smallest, |limit| smallest().stall_limit(limit));
        let mut writer = options.create_file(place.path()).expect("a small ring");
        let mut child = place.child("joins, then waits");
        child.expect("joined 0");
        signal(&child, Signal::SIGSTOP);
        let mut lossless = Options::new().open_file(place.path()).expect("a slot");
        assert_eq!(lossless.can_borrow(), limit.is_none(), "who may be evicted must not borrow");
        for sequence in 0..200 {
            let payload = record_of(sequence, BOUND);
            match limit {
                None if writer.try_publish(&payload).is_err() => {
                    assert_eq!(
                        writer
                            .publish_timeout(&payload, Duration::from_millis(20))
                            .map(|_| ())
                            .map_err(|error| error.to_string()),
                        Err("timed out: a lossless reader has not read far enough; try again later".to_owned())
                    );
                    break;
                }
                None => {}
                Some(_) => drop(writer.publish_timeout(&payload, LIMIT).expect("the stalled one is passed over")),
            }
            // The one that reads loses nothing.
            assert_eq!(lossless.try_recv().map(|record| record.sequence), Ok(sequence));
        }
        signal(&child, Signal::SIGCONT);
        child.tell("go on");
        if limit.is_none() {
            child.expect("Empty");
        } else {
            // received + lost = published, also for who was evicted.
            let [lost, total] = child.expect_numbers("Evicted");
            assert_eq!((lost > 0, total), (true, writer.sequence()));
            child.expect("rejoined");
            // Less than what the ring takes.
            stream_of(5, &mut writer);
            child.tell("go on");
            child.expect("read on");
        }
        child.finish();
    }
}

#[test]
fn the_policy_holds_on_every_kind_of_ring() {
    on_every_kind(&smallest().stall_limit(Duration::ZERO), |mut writer, door| {
        let mut stalled = door.lossless();
        let mut reads = door.lossless();
        for sequence in 0..200 {
            writer.publish(&record_of(sequence, BOUND)).expect("room is made");
            assert_eq!(reads.recv().map(|record| record.sequence), Ok(sequence));
        }
        let lost = match stalled.try_recv() {
            Err(TryRecvError::Evicted { lost }) => lost,
            other => panic!("{other:?}"),
        };
        assert_eq!(stalled.try_recv().map(|record| record.sequence), Ok(lost), "it goes on behind what it lost");
        assert_eq!(lost + 1 + stalled.lag(), writer.sequence());
        // Its slot stays its own until it leaves, and holds nobody.
        assert_eq!(writer.reader_count(), 2);
        drop(stalled);
        assert_eq!(writer.reader_count(), 1);
    });
}

// ---- all of it at once ----

/// Kills at random times, with stops and continues, of writers and readers during a verified stream; nothing is cleaned
/// by hand. `SHMCAST_KILLS` says how many.
#[test]
fn a_storm_of_kills_tears_and_loses_nothing() {
    let kills: u64 = std::env::var("SHMCAST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(300);
    let place = Place::new();
    let mut random = Random(std::env::var("SHMCAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7));
    let mut writer = place.child("writer");
    writer.expect("writes");
    // One of them survives it all.
    let mut survivor = place.child("reader");
    survivor.expect("reads");
    let mut readers = ["reader", "lossy reader"].map(|role| place.child(role));
    for reader in &mut readers {
        reader.expect("reads");
    }
    let pause = |random: &mut Random| {
        for _ in 0..random.below(20_000) {
            std::hint::spin_loop();
        }
    };
    for _ in 0..kills {
        pause(&mut random);
        let who = random.below(3);
        let victim = if who == 0 { &mut writer } else { &mut readers[who as usize - 1] };
        if random.below(4) == 0 {
            signal(victim, Signal::SIGSTOP);
            pause(&mut random);
            if random.below(2) == 0 {
                signal(victim, Signal::SIGCONT);
                pause(&mut random);
            }
        }
        if let Some(end) = victim.try_expect("read up to") {
            panic!("ended at {end} in the middle");
        }
        victim.kill();
        match who {
            0 => {
                writer = place.child("writer");
                writer.expect("writes");
            }
            who => {
                let role = ["reader", "lossy reader"][who as usize - 1];
                readers[who as usize - 1] = place.child(role);
                readers[who as usize - 1].expect("reads");
            }
        }
    }
    writer.kill();
    let mut writer = take_over(&place.path());
    stream_of(10, &mut writer);
    let total = writer.sequence();
    drop(writer);
    for mut reader in readers.into_iter().chain([survivor]) {
        assert_eq!(reader.expect_numbers("read up to"), [total]);
        reader.finish();
    }
    println!("{kills} kills, {total} records");
}

/// The figures: `cargo test --release --test crashes -- --ignored --nocapture`.
#[test]
#[ignore = "measures; timings are no tests"]
fn how_soon_a_death_is_noticed() {
    let mut told = Vec::new();
    let mut freed = Vec::new();
    for _ in 0..200 {
        let place = Place::new();
        let mut writer = place.child("writer");
        writer.expect("writes 0");
        let mut reader = smallest().open_file(place.path()).expect("a ring");
        let start = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                loop {
                    match reader.recv() {
                        Ok(_) => {}
                        Err(end) => break (end, Instant::now()),
                    }
                }
            });
            let start = Instant::now();
            writer.kill();
            let (end, told) = reading.join().expect("no panic");
            assert_eq!(end, RecvError::WriterDied);
            told.duration_since(start)
        });
        told.push(start);
        let mut writer = take_over(&place.path());
        drop(reader);
        let mut child = place.child("joins, then waits");
        child.expect("joined");
        fill(&mut writer);
        let payload = record_of(writer.sequence(), BOUND);
        freed.push(std::thread::scope(|scope| {
            let publish = scope.spawn(|| {
                writer.publish_timeout(&payload, LIMIT).expect("room");
                Instant::now()
            });
            let start = Instant::now();
            child.kill();
            publish.join().expect("no panic").duration_since(start)
        }));
    }
    for (what, mut times) in
        [("the writer's death told to a sleeping reader", told), ("room made by a reader's death", freed)]
    {
        times.sort();
        println!("{what}: median {:?}, p95 {:?}, most {:?} of {}", times[100], times[190], times[199], times.len());
    }
}
