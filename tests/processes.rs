//! Rings between real processes: every child is this binary again, in a role (see `support`).

mod support;

use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shmcast::{
    OpenError, Options, PublishError, Reader, RecvError, RecvTimeoutError, Start, TryPublishError, TryRecvError, Writer,
};
use support::{Child, LIMIT, Random, assert_whole, hear, record_of, role, say, smallest, unique_name};

/// Payloads of the streams are shorter than this.
const BOUND: u64 = 300;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let path = Path::new(arguments.first().map_or("", String::as_str));
    match role.as_str() {
        "lossless" => receive_all(Options::new().open_file(path)),
        "lossless by name" => receive_all(Options::new().open(&arguments[0])),
        "newest" => receive_all(Options::new().start(Start::Newest).open_file(path)),
        "lossy" => receive_lossy(path),
        "visitor" => visit(path),
        "two addresses" => two_addresses(path),
        "forks a writer" => fork_a_writer(path),
        "forks a reader" => fork_a_reader(path),
        "forks a family" => fork_a_family(),
        "dies in a claim" => die_in_a_claim(path),
        other => panic!("no role {other:?}"),
    }
}

/// A ring in files of a directory that lives as long as this.
fn ring(options: &Options) -> (Writer, tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = options.create_file(&path).expect("a small ring");
    let path = path.to_str().expect("UTF-8").to_owned();
    (writer, directory, path)
}

/// Publishes records of the stream. Nobody hangs if a child is stuck.
fn publish_stream(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

// ---- streams ----

/// Receives to the end of the ring; says where it began, and how many it got: all of them whole, and in order.
fn receive_all(reader: Result<Reader, OpenError>) {
    let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
    let first = reader.sequence();
    say(format_args!("joined {first}"));
    let (mut expected, mut buffer) = (first, vec![0; reader.max_payload()]);
    loop {
        // Each way to receive has its turn.
        let outcome = match expected % 3 {
            0 => reader.recv().map(|record| (record.sequence, record.payload)),
            1 => reader.recv_into(&mut buffer).map(|got| (got.sequence, buffer[..got.len].to_vec())),
            _ => reader.recv_ref().map(|record| (record.sequence(), record.to_vec())),
        };
        match outcome {
            Ok((sequence, payload)) => {
                assert_eq!(sequence, expected, "no gap, none twice");
                assert_whole(sequence, &payload, BOUND);
                expected += 1;
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("behind record {expected}: {error}"),
        }
    }
    say(format_args!("received {first} {}", expected - first));
}

/// As `receive_all`, lossy; rests in the middle until it is told to go on.
fn receive_lossy(path: &Path) {
    let mut reader = Options::new().lossy(true).open_file(path).unwrap_or_else(|error| panic!("{error}"));
    say("joined");
    let (mut received, mut lost, mut rested) = (0, 0, false);
    loop {
        if received == 1000 && !rested {
            rested = true;
            say("resting");
            hear();
        }
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.sequence, received + lost, "every gap is told");
                assert_whole(record.sequence, &record, BOUND);
                received += 1;
            }
            Err(RecvError::Lagged(n)) => {
                assert!(n > 0);
                lost += n;
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    say(format_args!("received {received} {lost}"));
}

#[test]
fn a_lossless_reader_receives_200_000_records_whole_and_in_order() {
    const COUNT: u64 = 200_000;
    let (mut writer, _directory, path) = ring(&Options::new().capacity(16 * 1024));
    let mut child = Child::start("lossless", &[&path]);
    child.expect("joined 0");
    publish_stream(&mut writer, COUNT);
    // It overlapped: the ring holds a hundred records.
    assert!(writer.position() > 1000 * writer.capacity());
    drop(writer);
    assert_eq!(child.expect_numbers("received"), [0, COUNT]);
    child.finish();
}

#[test]
fn two_lossless_readers_and_a_lossy_one_share_a_ring() {
    const COUNT: u64 = 30_000;
    let (mut writer, _directory, path) = ring(&smallest());
    let mut lossless = [(); 2].map(|()| Child::start("lossless", &[&path]));
    let mut lossy = Child::start("lossy", &[&path]);
    for child in lossless.iter_mut().chain([&mut lossy]) {
        child.expect("joined");
    }
    assert_eq!(writer.reader_count(), 3);
    publish_stream(&mut writer, COUNT / 2);
    // It may have lost some before that; while it rests it loses for certain.
    while lossy.try_expect("resting").is_none() {
        publish_stream(&mut writer, 100);
    }
    publish_stream(&mut writer, COUNT / 2);
    lossy.tell("go");
    let published = writer.sequence();
    drop(writer);
    for mut child in lossless {
        assert_eq!(child.expect_numbers("received"), [0, published]);
        child.finish();
    }
    let [received, lost] = lossy.expect_numbers("received");
    assert_eq!(received + lost, published, "I3");
    assert!(received >= 1000 && lost >= COUNT / 2 - 500, "{received} received, {lost} lost");
    lossy.finish();
}

#[test]
fn readers_that_join_in_the_middle_of_a_stream_get_all_that_follows() {
    let (mut writer, _directory, path) = ring(&Options::new().capacity(16 * 1024).reader_slots(8));
    publish_stream(&mut writer, 1000);
    let mut children: Vec<_> =
        (0..6).map(|n| Child::start(if n % 2 == 0 { "newest" } else { "lossless" }, &[&path])).collect();
    let mut joined = vec![None; children.len()];
    // The stream goes on while they come.
    while joined.contains(&None) {
        publish_stream(&mut writer, 200);
        for (child, first) in children.iter_mut().zip(&mut joined) {
            if let (None, Some(said)) = (&first, child.try_expect("joined")) {
                *first = Some((said.parse::<u64>().expect("a number"), writer.sequence()));
            }
        }
    }
    publish_stream(&mut writer, 2000);
    let published = writer.sequence();
    drop(writer);
    for (mut child, joined) in children.into_iter().zip(joined) {
        let (first, by) = joined.expect("all have joined");
        assert!((500..=by).contains(&first), "it joined at {first}, by {by}: in the middle");
        assert_eq!(child.expect_numbers("received"), [first, published - first], "a suffix without a gap");
        child.finish();
    }
}

#[test]
fn a_ring_is_found_by_its_name() {
    let name = unique_name("processes");
    let mut writer = smallest().create(&name).expect("a free name");
    let mut child = Child::start("lossless by name", &[&name]);
    child.expect("joined 0");
    publish_stream(&mut writer, 5000);
    drop(writer);
    assert_eq!(child.expect_numbers("received"), [0, 5000]);
    child.finish();
    assert!(!Path::new("/dev/shm/shmcast").join(&name).exists());
}

// ---- slots ----

/// Joins, stays until it is told to go, and goes.
fn visit(path: &Path) {
    let reader = Options::new().open_file(path);
    let Ok(reader) = reader else {
        assert!(matches!(reader, Err(OpenError::NoFreeSlot { slots: 1 })), "{reader:?}");
        return say("refused");
    };
    say("joined");
    hear();
    drop(reader);
    say("left");
}

#[test]
fn a_reader_process_that_goes_frees_its_slot() {
    let (mut writer, _directory, path) = ring(&smallest().reader_slots(1));
    for round in 1..=3 {
        let mut child = Child::start("visitor", &[&path]);
        child.expect("joined");
        assert_eq!(writer.reader_count(), 1);
        while writer.try_publish(&record_of(writer.sequence(), BOUND)).is_ok() {}
        let mut other = Child::start("visitor", &[&path]);
        other.expect("refused");
        other.finish();
        child.tell("go");
        child.expect("left");
        child.finish();
        assert_eq!(writer.reader_count(), 0, "round {round}");
        publish_stream(&mut writer, 200);
    }
}

// ---- addresses ----

/// Maps the ring twice, so that at least one of the two is not where the parent has it.
fn two_addresses(path: &Path) {
    let open = || Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}"));
    let mut readers = [open(), open()];
    say("joined");
    let mut expected = 0;
    loop {
        let [one, other] = &mut readers;
        let (a, b) = match (one.recv_ref(), other.recv_ref()) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(RecvError::Closed), Err(RecvError::Closed)) => break,
            (a, b) => panic!("{:?} {:?}", a.err(), b.err()),
        };
        assert_eq!((a.sequence(), b.sequence()), (expected, expected));
        assert_whole(expected, &a, BOUND);
        assert_whole(expected, &b, BOUND);
        if expected == 0 {
            assert_ne!(a.as_ptr(), b.as_ptr());
            say(format_args!("addresses {} {}", a.as_ptr().addr(), b.as_ptr().addr()));
        }
        expected += 1;
    }
    say(format_args!("received {expected}"));
}

#[test]
fn a_process_reads_the_ring_at_another_address() {
    let (mut writer, _directory, path) = ring(&smallest());
    let mut here = Options::new().open_file(&path).expect("a reader");
    let mut child = Child::start("two addresses", &[&path]);
    child.expect("joined");
    publish_stream(&mut writer, 1);
    let address = here.try_recv_ref().expect("a record").as_ptr().addr() as u64;
    let there: [u64; 2] = child.expect_numbers("addresses");
    assert!(there.iter().any(|&other| other != address), "{there:x?} against {address:x}");
    drop(here);
    publish_stream(&mut writer, 2000);
    drop(writer);
    assert_eq!(child.expect_numbers("received"), [2001]);
    child.finish();
}

// ---- forks ----

/// Forks; the child runs `work` and ends at once, without unwinding into what belongs to the parent. The forking process
/// has one thread only, so the child may allocate.
fn in_a_fork(work: impl FnOnce()) {
    // SAFETY: this process has no thread but this one and those that only read pipes: nobody else holds a lock.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends this process, and runs nothing of the parent's.
            unsafe { nix::libc::_exit(i32::from(outcome.is_err())) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
    }
}

fn fork_a_writer(path: &Path) {
    let mut writer = smallest().create_file(path).unwrap_or_else(|error| panic!("{error}"));
    let mut reader = Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}"));
    writer.publish(b"before").expect("room");
    let mut inherited = Some(writer);
    in_a_fork(|| {
        // What the child maps may come to lie where the parent has what the child does not inherit: it stays.
        let mut own: Vec<Writer> = (0..8).map(|_| smallest().create_anonymous().expect("a small ring")).collect();
        drop(inherited.take());
        for writer in &mut own {
            writer.publish(&[7; 1000]).expect("room");
        }
    });
    let mut writer = inherited.take().expect("the parent still has it");
    assert!(path.exists(), "the child has not removed the ring");
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"before".to_vec()));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "nor has it closed it");
    let mut inherited = Some(&mut writer);
    in_a_fork(|| {
        let writer = inherited.take().expect("inherited");
        assert_eq!(writer.publish(b"from the child"), Err(PublishError::Inherited));
        assert_eq!(writer.try_publish(b"from the child"), Err(TryPublishError::Inherited));
        assert_eq!(writer.publish_batch([b"from the child"]), Err(PublishError::Inherited));
        assert_eq!(writer.claim(1).map(|_| ()), Err(PublishError::Inherited));
        writer.close();
    });
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "nor by a call");
    assert_eq!(writer.publish(b"after"), Ok(1));
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"after".to_vec()));
    drop(writer);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed), "but the owner does");
    assert!(!path.exists());
    say("done");
}

fn fork_a_reader(path: &Path) {
    let mut writer = smallest().reader_slots(1).create_file(path).unwrap_or_else(|error| panic!("{error}"));
    let mut inherited = Some(Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}")));
    writer.publish(b"for the parent").expect("room");
    in_a_fork(|| {
        let mut reader = inherited.take().expect("inherited");
        assert_eq!(reader.try_recv(), Err(TryRecvError::Inherited));
        assert_eq!(reader.recv(), Err(RecvError::Inherited));
        assert_eq!(reader.recv_into(&mut [0; 100]), Err(RecvError::Inherited));
        assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Inherited));
        assert_eq!(reader.recv_ref().map(|_| ()), Err(RecvError::Inherited));
    });
    let record = inherited.as_mut().map(|reader| reader.try_recv().map(|record| record.payload));
    assert_eq!(record, Some(Ok(b"for the parent".to_vec())), "the child took nothing");
    assert_eq!(writer.reader_count(), 1, "the child has not given the slot back");
    let refused = Options::new().open_file(path);
    assert!(matches!(refused, Err(OpenError::NoFreeSlot { .. })), "{refused:?}");
    let mut count = 1;
    while writer.try_publish(&record_of(count, BOUND)).is_ok() {
        count += 1;
    }
    assert!(count < 100, "the reader still holds the writer back");
    let mut reader = inherited.take().expect("the parent still has it");
    for expected in 1..count {
        assert_whole(expected, &reader.try_recv().expect("a record"), BOUND);
    }
    drop(reader);
    assert_eq!(writer.reader_count(), 0);
    say("done");
}

/// A ring without a name, shared with children by the fork alone: here the child writes what the parent reads, and joins
/// the parent's ring as well.
fn fork_a_family() {
    let mut writer = smallest().create_anonymous().unwrap_or_else(|error| panic!("{error}"));
    let answers = smallest().create_anonymous().unwrap_or_else(|error| panic!("{error}"));
    let (subscriber, mut listening) = (writer.subscriber(), answers.subscriber().reader().expect("a slot"));
    // SAFETY: as in `in_a_fork`.
    let child = match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let work = move || {
                let mut reader = subscriber.reader().unwrap_or_else(|error| panic!("{error}"));
                for expected in 0..5000 {
                    let record = reader.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(record.sequence, expected);
                    assert_whole(expected, &record, BOUND);
                }
                assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Closed));
            };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: as in `in_a_fork`.
            unsafe { nix::libc::_exit(i32::from(outcome.is_err())) }
        }
        ForkResult::Parent { child } => child,
    };
    writer.wait_for_readers(1, LIMIT).expect("the child joins");
    for sequence in 0..5000 {
        writer.publish_timeout(&record_of(sequence, BOUND), LIMIT).expect("the child reads");
    }
    drop(writer);
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    assert_eq!(listening.try_recv(), Err(TryRecvError::Empty), "the other ring is still open");
    drop(answers);
    assert_eq!(listening.try_recv(), Err(TryRecvError::Closed));
    say("done");
}

#[test]
fn a_forked_child_that_drops_what_it_inherited_changes_nothing() {
    for role in ["forks a writer", "forks a reader"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut child = Child::start(role, &[path.to_str().expect("UTF-8")]);
        child.expect("done");
        child.finish();
    }
}

#[test]
fn an_anonymous_ring_is_shared_by_a_fork() {
    let mut child = Child::start("forks a family", &[]);
    child.expect("done");
    child.finish();
}

// ---- deaths ----

/// Publishes some records, and is killed over half a claim.
fn die_in_a_claim(path: &Path) {
    use std::io::Write;
    let mut writer = smallest().create_file(path).unwrap_or_else(|error| panic!("{error}"));
    say("created");
    hear();
    for sequence in 0..100 {
        writer.publish(&record_of(sequence, BOUND)).expect("room");
    }
    let mut claim = writer.claim(1000).expect("room");
    claim.write_all(&[0xEE; 500]).expect("room");
    say("claimed");
    hear();
    claim.commit();
}

/// What a killed writer committed is there; what it did not was never there; and nobody hangs or spins on it.
#[test]
fn readers_of_a_killed_writer_get_what_it_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut child = Child::start("dies in a claim", &[path.to_str().expect("UTF-8")]);
    child.expect("created");
    let mut reader = Options::new().lossy(true).open_file(&path).expect("a ring");
    child.tell("go");
    child.expect("claimed");
    child.kill();
    let mut late = Options::new().open_file(&path).expect("a ring");
    let Err(TryRecvError::Lagged(lost)) = reader.try_recv() else { panic!("a hundred records are more than a lap") };
    assert!(late.sequence() <= lost);
    for reader in [&mut reader, &mut late] {
        for sequence in reader.sequence()..100 {
            let record = reader.try_recv().expect("it was committed");
            assert_eq!(record.sequence, sequence);
            assert_whole(sequence, &record, BOUND);
        }
        assert_eq!(reader.try_recv(), Err(TryRecvError::WriterDied));
        assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::WriterDied));
    }
}

/// A generator that both sides agree on is what all of this stands on.
#[test]
fn records_prove_themselves() {
    let lengths: Vec<_> = (0..1000).map(|sequence| record_of(sequence, BOUND).len()).collect();
    assert!(
        lengths.contains(&0) && lengths.iter().all(|&len| len < BOUND as usize) && lengths.iter().any(|&len| len > 290)
    );
    let mut random = Random(11);
    for sequence in 0..100 {
        let mut payload = record_of(sequence, BOUND);
        if !payload.is_empty() {
            let at = random.below(payload.len() as u64) as usize;
            payload[at] ^= 1;
            let torn = std::panic::catch_unwind(|| assert_whole(sequence, &payload, BOUND));
            assert!(torn.is_err(), "the detector detects");
        }
    }
}
