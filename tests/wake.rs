//! Sleep and wake between processes (invariants I4 and I8). A sleep has no slice to save it here: it ends when somebody
//! wakes it, or after an hour, and then the parent's limit has killed the test long before.
//!
//! The long runs: `cargo test --release --test wake -- --ignored --nocapture`, a million rounds each.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::TimeValLike;
use nix::unistd::gettid;
use shmcast::{Options, Reader, RecvTimeoutError, Start, WaitStrategy, Writer};
use support::{Child, LIMIT, Random, hear, role, say, sleeps_so_far, smallest, wait_until_asleep};

const ROUNDS: u64 = 20_000;
const MANY_ROUNDS: u64 = 1_000_000;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("ping", [rounds, to, from @ ..]) => ping(number(rounds), to, from),
        ("pong", [rounds, lossy, from, to]) => pong(number(rounds), *lossy == "lossy", from, to),
        ("fill", [rounds, path]) => fill(number(rounds), path),
        ("drain", [rounds, path]) => drain(number(rounds), path),
        ("idle", [path]) => idle(path),
        ("stormed", [path]) => stormed(path),
        ("sleeper", [path]) => sleeper(path),
        other => panic!("no role {other:?}"),
    }
}

/// Sleeps at once, and for ever.
fn restless(options: Options) -> Options {
    options.wait(WaitStrategy::ParkAtOnce).slice(Duration::from_secs(3600))
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn create(path: &str) -> Writer {
    restless(smallest()).create_file(path).unwrap_or_else(|error| panic!("{error}"))
}

fn open(path: &str, lossy: bool) -> Reader {
    restless(Options::new()).lossy(lossy).open_file(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Paths in a directory of the test's own.
fn paths<const N: usize>() -> (tempfile::TempDir, [String; N]) {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = std::array::from_fn(|n| directory.path().join(n.to_string()).to_str().expect("UTF-8").to_owned());
    (directory, paths)
}

fn at_most(rounds: u64) -> Duration {
    // A round is two or three sleeps: 20 microseconds, more on a loaded machine.
    LIMIT + Duration::from_millis(rounds)
}

/// Some microseconds, or none: so that each side finds the other about to sleep, asleep, and awake.
fn dawdle(random: &mut Random, magnitudes: u64) {
    let most = 1 << random.below(magnitudes);
    for _ in 0..random.below(most) {
        std::hint::spin_loop();
    }
}

// ---- records wake readers ----

/// Sends a record round to each pong, and waits for all the answers.
fn ping(rounds: u64, to: &str, from: &[&str]) {
    let mut writer = create(to);
    say("created");
    hear();
    let mut readers: Vec<_> = from.iter().map(|path| open(path, false)).collect();
    say("opened");
    hear();
    let (before, mut random) = (sleeps_so_far(), Random(3));
    for round in 0..rounds {
        dawdle(&mut random, 14);
        writer.publish(&round.to_ne_bytes()).expect("an open ring");
        for reader in &mut readers {
            let record = reader.recv().expect("an answer");
            assert_eq!((record.sequence, &record[..]), (round, &round.to_ne_bytes()[..]));
        }
    }
    say(format_args!("done {}", sleeps_so_far() - before));
    hear();
}

fn pong(rounds: u64, lossy: bool, from: &str, to: &str) {
    let mut writer = create(to);
    say("created");
    hear();
    let mut reader = open(from, lossy);
    say("opened");
    hear();
    let (before, mut random) = (sleeps_so_far(), Random(4));
    for round in 0..rounds {
        let record = reader.recv().expect("a question");
        assert_eq!(record.sequence, round);
        dawdle(&mut random, 14);
        writer.publish(&record).expect("an open ring");
    }
    say(format_args!("done {}", sleeps_so_far() - before));
    hear();
}

/// Plays some rounds; a lost wakeup makes both sides sleep, and the limit here fails.
fn play(rounds: u64, pongs: &[&str]) {
    let (_directory, [question, answer, other]) = paths();
    let answers = &[answer, other][..pongs.len()];
    let count = rounds.to_string();
    let mut arguments = vec![count.as_str(), &question];
    arguments.extend(answers.iter().map(String::as_str));
    let mut children = vec![Child::start("ping", &arguments)];
    for (lossy, answer) in pongs.iter().zip(answers) {
        children.push(Child::start("pong", &[&count, lossy, &question, answer]));
    }
    for step in ["created", "opened"] {
        children.iter_mut().for_each(|child| drop(child.expect(step)));
        children.iter_mut().for_each(|child| child.tell("go"));
    }
    for child in &mut children {
        let sleeps = number(&child.expect_within("done", at_most(rounds)));
        println!("{rounds} rounds, {sleeps} sleeps");
        assert!(sleeps > 100, "only {sleeps} sleeps in {rounds} rounds: nothing was tested");
    }
    for mut child in children {
        child.tell("go");
        child.finish();
    }
}

#[test]
fn no_wakeup_is_lost_between_a_writer_and_a_sleeping_reader() {
    play(ROUNDS, &["lossless"]);
}

#[test]
fn no_wakeup_is_lost_between_a_writer_and_a_sleeping_lossy_reader() {
    play(ROUNDS / 4, &["lossy"]);
}

#[test]
fn no_wakeup_is_lost_between_a_writer_and_two_sleeping_readers() {
    play(ROUNDS / 2, &["lossless", "lossy"]);
}

#[test]
#[ignore = "a minute or more"]
fn no_wakeup_is_lost_in_a_million_rounds() {
    play(MANY_ROUNDS, &["lossless"]);
}

#[test]
#[ignore = "minutes"]
fn no_wakeup_is_lost_in_a_million_rounds_with_two_readers() {
    play(MANY_ROUNDS, &["lossless", "lossy"]);
}

// ---- room wakes writers ----

/// Publishes records of half the ring: it must wait for room for every one but the first.
fn fill(rounds: u64, path: &str) {
    let mut writer = create(path);
    say("created");
    hear();
    let (before, mut random) = (sleeps_so_far(), Random(1));
    for round in 0..rounds {
        dawdle(&mut random, 14);
        let payload = [round as u8; 2040];
        assert_eq!(writer.publish(&payload[..2033 + round as usize % 8]), Ok(round));
    }
    say(format_args!("done {}", sleeps_so_far() - before));
    hear();
}

fn drain(rounds: u64, path: &str) {
    let mut reader = open(path, false);
    say("opened");
    hear();
    let (before, mut random) = (sleeps_so_far(), Random(2));
    let mut buffer = [0; 2040];
    for round in 0..rounds {
        dawdle(&mut random, 11);
        let received = reader.recv_into(&mut buffer).expect("a record");
        assert_eq!((received.sequence, received.len as u64), (round, 2033 + round % 8));
        assert!(buffer[..received.len].iter().all(|&byte| byte == round as u8));
    }
    say(format_args!("done {}", sleeps_so_far() - before));
    hear();
}

fn play_for_room(rounds: u64) {
    let (_directory, [path]) = paths();
    let count = rounds.to_string();
    let mut writer = Child::start("fill", &[&count, &path]);
    writer.expect("created");
    let mut reader = Child::start("drain", &[&count, &path]);
    reader.expect("opened");
    writer.tell("go");
    reader.tell("go");
    let [written, read] = [&mut writer, &mut reader].map(|child| number(&child.expect_within("done", at_most(rounds))));
    println!("{rounds} rounds, {written} sleeps for room, {read} sleeps for records");
    assert!(written > 100 && read > 100, "{written} and {read} sleeps: nothing was tested");
    for mut child in [writer, reader] {
        child.tell("go");
        child.finish();
    }
}

#[test]
fn no_wakeup_is_lost_between_a_sleeping_writer_and_a_sleeping_reader() {
    play_for_room(ROUNDS);
}

#[test]
#[ignore = "a minute or more"]
fn no_wakeup_for_room_is_lost_in_a_million_rounds() {
    play_for_room(MANY_ROUNDS);
}

// ---- the other events that must wake ----

/// Starts `sleep` in a thread, waits until it sleeps, and runs `event`, which must wake it: nothing else will.
fn must_wake<T: Send>(sleep: impl FnOnce() -> T + Send, event: impl FnOnce()) -> T {
    let (said, thread) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            said.send(gettid().as_raw()).expect("somebody listens");
            sleep()
        });
        wait_until_asleep(std::process::id(), thread.recv_timeout(LIMIT).expect("a thread"));
        let start = Instant::now();
        event();
        while !sleeper.is_finished() {
            if start.elapsed() > LIMIT {
                // It cannot be joined, and a scope would wait for it.
                eprintln!("a wakeup was lost: the sleeper sleeps on");
                std::process::abort();
            }
            std::thread::yield_now();
        }
        sleeper.join().expect("no panic")
    })
}

#[test]
fn a_close_a_join_and_a_leave_wake_who_sleeps_for_them() {
    for round in 0..20 {
        let (mut writer, door) = support::file(&restless(smallest()));
        // A writer that waits for readers is woken by one that joins.
        let lossy = round % 2 == 0;
        let mut joined = None;
        let waited = must_wake(
            || writer.wait_for_readers(1, 10 * LIMIT),
            || joined = Some(door.reader(&restless(Options::new()).lossy(lossy))),
        );
        assert_eq!(waited, Ok(()));
        drop(joined);
        // A writer that waits for room is woken by the reader that leaves.
        let reader = door.reader(&restless(Options::new()));
        while writer.try_publish(&[0; 100]).is_ok() {}
        assert!(must_wake(|| writer.publish(&[1; 2000]), || drop(reader)).is_ok());
        // A reader that waits for records is woken by the close.
        let mut reader = door.reader(&restless(Options::new()).lossy(lossy).start(Start::Newest));
        let end = must_wake(|| reader.recv().err(), || drop(writer));
        assert_eq!(end, Some(shmcast::RecvError::Closed));
    }
}

#[test]
fn a_batch_wakes_a_sleeping_reader() {
    for _ in 0..20 {
        let (mut writer, door) = support::file(&restless(smallest()));
        let mut reader = door.reader(&restless(Options::new()));
        let records = must_wake(
            || {
                let mut records = Vec::new();
                while records.len() < 3 {
                    reader.recv_batch(&mut records, 3).expect("records");
                }
                records.len()
            },
            || assert_eq!(writer.publish_batch([b"a", b"b", b"c"]), Ok(3)),
        );
        assert_eq!(records, 3);
    }
}

#[test]
fn a_reader_that_takes_the_last_record_wakes_a_sleeping_writer() {
    for _ in 0..20 {
        let (mut writer, door) = support::file(&restless(smallest()));
        let mut reader = door.reader(&restless(Options::new()));
        let mut count = 0;
        while writer.try_publish(&[0; 1000]).is_ok() {
            count += 1;
        }
        let take_all = || (0..count).for_each(|_| drop(reader.try_recv().expect("a record")));
        assert_eq!(must_wake(|| writer.publish(&[1; 2000]), take_all), Ok(count));
    }
}

// ---- deaths in sleep ----

fn sleeper(path: &str) {
    let mut reader = open(path, true);
    say(format_args!("sleeping {}", gettid()));
    let _ = reader.recv();
    panic!("it was to be killed in its sleep");
}

/// In other rings a count of sleepers stays too high for ever when one is killed, and makes every publish a system call.
#[test]
fn a_reader_that_is_killed_in_its_sleep_leaves_nothing_behind() {
    let (_directory, [path]) = paths();
    let mut writer = create(&path);
    for _ in 0..3 {
        let mut child = Child::start("sleeper", &[&path]);
        let thread = child.expect("sleeping");
        let pid = child.pid();
        wait_until_asleep(pid, thread.parse().expect("a number"));
        child.kill();
    }
    // The first word behind the registry's header: somebody sleeps.
    let sleeping = || std::fs::read(format!("{path}.registry")).expect("a registry")[512];
    assert_eq!(sleeping(), 1, "the dead one has left its flag");
    writer.publish(b"x").expect("room");
    assert_eq!(sleeping(), 0, "one publish clears it");
    let before = sleeps_so_far();
    for _ in 0..1000 {
        writer.publish(b"x").expect("the dead were lossy");
    }
    assert_eq!(sleeping(), 0);
    assert!(sleeps_so_far() >= before);
}

// ---- quiet ----

fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).expect("no time before the start"))
}

/// Sleeps for a second as every reader does by default, three times; says what the cheapest took, so that what else the
/// machine does meanwhile does not count.
fn idle(path: &str) {
    let mut reader = Options::new().open_file(path).unwrap_or_else(|error| panic!("{error}"));
    // The first sleep touches what the others touch.
    assert_eq!(reader.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    let mut window = || {
        let before = (cpu_time(), sleeps_so_far());
        assert_eq!(reader.recv_timeout(Duration::from_secs(1)), Err(RecvTimeoutError::Timeout));
        ((cpu_time() - before.0).as_micros(), sleeps_so_far() - before.1)
    };
    let (micros, sleeps) = [window(), window(), window()].into_iter().min().expect("three");
    say(format_args!("spent {micros} {sleeps}"));
}

#[test]
fn an_idle_reader_uses_less_than_a_five_hundredth_of_a_core() {
    let (_directory, [path]) = paths();
    let _writer = create(&path);
    let mut child = Child::start("idle", &[&path]);
    let [micros, sleeps] = child.expect_numbers("spent");
    println!("{micros} microseconds of processor time in a second, {sleeps} sleeps");
    assert!((1..40).contains(&sleeps), "{sleeps} sleeps: it slept, in slices");
    assert!(micros < 2000, "{micros} microseconds of processor time in a second");
    child.finish();
}

// ---- signals ----

static ALARMS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_alarm(_: libc::c_int) {
    ALARMS.fetch_add(1, Relaxed);
}

/// A signal every millisecond, from now on, into whatever this process does.
fn storm() {
    let action = SigAction::new(SigHandler::Handler(count_alarm), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number.
    unsafe { sigaction(Signal::SIGALRM, &action) }.expect("a handler");
    let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the kernel reads `timer`, and writes nothing for a null pointer.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

fn stormed(path: &str) {
    storm();
    for strategy in [WaitStrategy::Park, WaitStrategy::ParkAtOnce, WaitStrategy::Yield] {
        let mut reader = Options::new()
            .wait(strategy)
            .start(Start::Newest)
            .open_file(path)
            .unwrap_or_else(|error| panic!("{error}"));
        let (start, before, timeout) = (Instant::now(), ALARMS.load(Relaxed), Duration::from_millis(300));
        assert_eq!(reader.recv_timeout(timeout), Err(RecvTimeoutError::Timeout), "{strategy:?}");
        assert!(start.elapsed() >= timeout, "{strategy:?}: {:?} is early", start.elapsed());
        assert!(ALARMS.load(Relaxed) - before > 100, "a storm");
        let alarms = ALARMS.load(Relaxed);
        while ALARMS.load(Relaxed) == alarms {}
        say("waiting");
        assert_eq!(reader.recv().map(|record| record.payload), Ok(b"through".to_vec()), "{strategy:?}");
    }
    // The writer's side: it waits for room that does not come, and then does.
    let (mut writer, mut reader) = (create(&format!("{path}.back")), open(&format!("{path}.back"), false));
    while writer.try_publish(&[0; 1000]).is_ok() {}
    let (start, timeout) = (Instant::now(), Duration::from_millis(100));
    assert_eq!(writer.publish_timeout(&[0; 1000], timeout), Err(shmcast::PublishTimeoutError::Timeout));
    assert!(start.elapsed() >= timeout);
    drop(reader.try_recv().expect("a record"));
    while reader.try_recv().is_ok() {}
    writer.publish_timeout(&[0; 1000], LIMIT).expect("room");
    say("done");
}

#[test]
fn a_storm_of_signals_neither_ends_a_wait_nor_shows() {
    let (_directory, [path]) = paths();
    let mut writer = create(&path);
    let mut child = Child::start("stormed", &[&path]);
    for _ in 0..3 {
        child.expect("waiting");
        wait_some_alarms(child.pid());
        writer.publish_timeout(b"through", LIMIT).expect("room");
    }
    child.expect("done");
    child.finish();
    assert!(Path::new(&path).exists());
}

/// Gives a stormed process the time for some signals: its context switches grow.
fn wait_some_alarms(process: u32) {
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let count = |line: &str| line.split_whitespace().last().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        status.lines().filter(|line| line.contains("ctxt_switches")).map(count).sum::<u64>()
    };
    let (start, before) = (Instant::now(), switches());
    while switches() < before + 10 {
        assert!(start.elapsed() < LIMIT, "no signals");
        std::thread::yield_now();
    }
}
