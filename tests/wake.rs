//! Sleep and wake between processes (invariants I4 and I8), on the futex and on semaphores. A sleep has no slice to save it here: it ends when somebody
//! wakes it, or after an hour, and then the parent's limit has killed the test long before.
//!
//! The long runs: `cargo test --release --test wake -- --ignored --nocapture --test-threads=1`, a million rounds each, and no round may
//! take 50 ms: on a machine that does nothing else meanwhile, or under `chrt --rr 1`. The short ones print the longest round.

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
use support::{Child, LIMIT, Random, hear, role, say, sleeps_so_far, smallest, wait_until_asleep, woken_by};

const ROUNDS: u64 = 20_000;
const MANY_ROUNDS: u64 = 1_000_000;
/// Half a slice: no sleep that only its slice ended is as short.
const STUCK: Duration = Duration::from_millis(50);

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("ping", [how, rounds, to, from @ ..]) => ping(how, number(rounds), to, from),
        ("pong", [how, rounds, lossy, from, to]) => pong(how, number(rounds), *lossy == "lossy", from, to),
        ("fill", [how, rounds, path]) => fill(how, number(rounds), path),
        ("drain", [rounds, path]) => drain(number(rounds), path),
        ("idle", [path]) => idle(path),
        ("stormed", [how, path]) => stormed(how, path),
        ("sleeper", [path]) => sleeper(path),
        ("mute", [how, path]) => mute(how, path),
        other => panic!("no role {other:?}"),
    }
}

/// A test for each means of waking.
macro_rules! by_all_means {
    ($($(#[$attribute:meta])* fn $name:ident($how:ident) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn test($how: &str) $body

            #[test]
            $(#[$attribute])*
            fn by_futex() {
                test("futex");
            }

            #[test]
            $(#[$attribute])*
            fn by_posix_semaphores() {
                test("posix");
            }

            #[test]
            $(#[$attribute])*
            fn by_system_v_semaphores() {
                test("sysv");
            }
        })*
    };
}

/// Sleeps at once, and for ever.
fn restless(options: Options) -> Options {
    options.wait(WaitStrategy::ParkAtOnce).slice(Duration::from_secs(3600))
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn create(how: &str, path: &str) -> Writer {
    woken_by(restless(smallest()), how).create_file(path).unwrap_or_else(|error| panic!("{error}"))
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

/// What a child did: how often it went to sleep, and how long its longest round took.
struct Rounds {
    sleeps_before: u64,
    longest: Duration,
}

impl Rounds {
    fn time<T>(&mut self, round: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = round();
        self.longest = self.longest.max(start.elapsed());
        result
    }

    fn say(&self) {
        say(format_args!("done {} {}", sleeps_so_far() - self.sleeps_before, self.longest.as_micros()));
    }

    /// The parent's side: the number of sleeps. Many rounds are a long run, in which none may be stuck.
    fn hear(child: &mut Child, rounds: u64) -> u64 {
        let said = child.expect_within("done", at_most(rounds));
        let (sleeps, longest) = said.split_once(' ').expect("two numbers");
        let longest = Duration::from_micros(number(longest));
        println!("{rounds} rounds, {sleeps} sleeps, the longest round {longest:?}");
        assert!(rounds < MANY_ROUNDS || longest < STUCK, "a round took {longest:?}: was anything else running?");
        number(sleeps)
    }
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
fn ping(how: &str, rounds: u64, to: &str, from: &[&str]) {
    let mut writer = create(how, to);
    say("created");
    hear();
    let mut readers: Vec<_> = from.iter().map(|path| open(path, false)).collect();
    say("opened");
    hear();
    let (mut all, mut random) = (Rounds { sleeps_before: sleeps_so_far(), longest: Duration::ZERO }, Random(3));
    for round in 0..rounds {
        dawdle(&mut random, 14);
        all.time(|| {
            writer.publish(&round.to_ne_bytes()).expect("an open ring");
            for reader in &mut readers {
                let record = reader.recv().expect("an answer");
                assert_eq!((record.sequence, &record[..]), (round, &round.to_ne_bytes()[..]));
            }
        });
    }
    all.say();
    hear();
}

fn pong(how: &str, rounds: u64, lossy: bool, from: &str, to: &str) {
    let mut writer = create(how, to);
    say("created");
    hear();
    let mut reader = open(from, lossy);
    say("opened");
    hear();
    let (mut all, mut random) = (Rounds { sleeps_before: sleeps_so_far(), longest: Duration::ZERO }, Random(4));
    for round in 0..rounds {
        let record = all.time(|| reader.recv().expect("a question"));
        assert_eq!(record.sequence, round);
        dawdle(&mut random, 14);
        writer.publish(&record).expect("an open ring");
    }
    all.say();
    hear();
}

/// Plays some rounds; a lost wakeup makes both sides sleep, and the limit here fails.
fn play(how: &str, rounds: u64, pongs: &[&str]) {
    let (_directory, [question, answer, other]) = paths();
    let answers = &[answer, other][..pongs.len()];
    let count = rounds.to_string();
    let mut arguments = vec![how, count.as_str(), &question];
    arguments.extend(answers.iter().map(String::as_str));
    let mut children = vec![Child::start("ping", &arguments)];
    for (lossy, answer) in pongs.iter().zip(answers) {
        children.push(Child::start("pong", &[how, &count, lossy, &question, answer]));
    }
    for step in ["created", "opened"] {
        children.iter_mut().for_each(|child| drop(child.expect(step)));
        children.iter_mut().for_each(|child| child.tell("go"));
    }
    for child in &mut children {
        let sleeps = Rounds::hear(child, rounds);
        assert!(sleeps > 100, "only {sleeps} sleeps in {rounds} rounds: nothing was tested");
    }
    for mut child in children {
        child.tell("go");
        child.finish();
    }
}

by_all_means! {
    fn no_wakeup_is_lost_between_a_writer_and_a_sleeping_reader(how) {
        play(how, ROUNDS, &["lossless"]);
    }

    fn no_wakeup_is_lost_between_a_writer_and_a_sleeping_lossy_reader(how) {
        play(how, ROUNDS / 4, &["lossy"]);
    }

    fn no_wakeup_is_lost_between_a_writer_and_two_sleeping_readers(how) {
        play(how, ROUNDS / 2, &["lossless", "lossy"]);
    }

    #[ignore = "a minute or more"]
    fn no_wakeup_is_lost_in_a_million_rounds(how) {
        play(how, MANY_ROUNDS, &["lossless"]);
    }

    #[ignore = "minutes"]
    fn no_wakeup_is_lost_in_a_million_rounds_with_two_readers(how) {
        play(how, MANY_ROUNDS, &["lossless", "lossy"]);
    }
}

// ---- room wakes writers ----

/// Publishes records of half the ring: it must wait for room for every one but the first.
fn fill(how: &str, rounds: u64, path: &str) {
    let mut writer = create(how, path);
    say("created");
    hear();
    let (mut all, mut random) = (Rounds { sleeps_before: sleeps_so_far(), longest: Duration::ZERO }, Random(1));
    for round in 0..rounds {
        dawdle(&mut random, 14);
        let payload = [round as u8; 2040];
        assert_eq!(all.time(|| writer.publish(&payload[..2033 + round as usize % 8])), Ok(round));
    }
    all.say();
    hear();
}

fn drain(rounds: u64, path: &str) {
    let mut reader = open(path, false);
    say("opened");
    hear();
    let (mut all, mut random) = (Rounds { sleeps_before: sleeps_so_far(), longest: Duration::ZERO }, Random(2));
    let mut buffer = [0; 2040];
    for round in 0..rounds {
        dawdle(&mut random, 11);
        let received = all.time(|| reader.recv_into(&mut buffer).expect("a record"));
        assert_eq!((received.sequence, received.len as u64), (round, 2033 + round % 8));
        assert!(buffer[..received.len].iter().all(|&byte| byte == round as u8));
    }
    all.say();
    hear();
}

fn play_for_room(how: &str, rounds: u64) {
    let (_directory, [path]) = paths();
    let count = rounds.to_string();
    let mut writer = Child::start("fill", &[how, &count, &path]);
    writer.expect("created");
    let mut reader = Child::start("drain", &[&count, &path]);
    reader.expect("opened");
    writer.tell("go");
    reader.tell("go");
    let [written, read] = [&mut writer, &mut reader].map(|child| Rounds::hear(child, rounds));
    assert!(written > 100 && read > 100, "{written} and {read} sleeps: nothing was tested");
    for mut child in [writer, reader] {
        child.tell("go");
        child.finish();
    }
}

by_all_means! {
    fn no_wakeup_is_lost_between_a_sleeping_writer_and_a_sleeping_reader(how) {
        play_for_room(how, ROUNDS);
    }

    #[ignore = "a minute or more"]
    fn no_wakeup_for_room_is_lost_in_a_million_rounds(how) {
        play_for_room(how, MANY_ROUNDS);
    }
}

/// The writer sleeps, and is woken; the reader naps.
#[test]
fn a_writer_that_wakes_nobody_is_woken_for_room() {
    play_for_room("no_wake", ROUNDS / 20);
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

by_all_means! {
    fn a_close_a_join_and_a_leave_wake_who_sleeps_for_them(how) {
        for round in 0..20 {
            let (mut writer, door) = support::file(&woken_by(restless(smallest()), how));
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

    fn a_batch_wakes_a_sleeping_reader(how) {
        for _ in 0..20 {
            let (mut writer, door) = support::file(&woken_by(restless(smallest()), how));
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

    fn a_reader_that_takes_the_last_record_wakes_a_sleeping_writer(how) {
        for _ in 0..20 {
            let (mut writer, door) = support::file(&woken_by(restless(smallest()), how));
            let mut reader = door.reader(&restless(Options::new()));
            let mut count = 0;
            while writer.try_publish(&[0; 1000]).is_ok() {
                count += 1;
            }
            let take_all = || (0..count).for_each(|_| drop(reader.try_recv().expect("a record")));
            assert_eq!(must_wake(|| writer.publish(&[1; 2000]), take_all), Ok(count));
        }
    }
}

// ---- deaths in sleep ----

fn sleeper(path: &str) {
    let mut reader = open(path, true);
    say(format_args!("sleeping {}", gettid()));
    let _ = reader.recv();
    panic!("it was to be killed in its sleep");
}

by_all_means! {
    // In other rings a count of sleepers stays too high for ever when one is killed, and makes every publish a system call.
    fn a_reader_that_is_killed_in_its_sleep_leaves_nothing_behind(how) {
        let (_directory, [path]) = paths();
        let mut writer = create(how, &path);
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

by_all_means! {
    fn an_idle_reader_uses_less_than_a_five_hundredth_of_a_core(how) {
        let (_directory, [path]) = paths();
        let _writer = create(how, &path);
        let mut child = Child::start("idle", &[&path]);
        let [micros, sleeps] = child.expect_numbers("spent");
        println!("{micros} microseconds of processor time in a second, {sleeps} sleeps");
        assert!((1..40).contains(&sleeps), "{sleeps} sleeps: it slept, in slices");
        assert!(micros < 2000, "{micros} microseconds of processor time in a second");
        child.finish();
    }
}

// ---- no system call ----

/// Publishes where every system call but a write and the end is the end of the process.
fn mute(how: &str, path: &str) {
    let mut writer = create(how, path);
    say("created");
    hear();
    forbid_system_calls();
    for round in 0..100 {
        writer.publish(&[round; 16]).expect("room: nobody holds the writer back");
    }
    writer.close();
    say("published");
    // SAFETY: ends this process at once, of which nothing else is left to do.
    unsafe { libc::_exit(0) }
}

fn forbid_system_calls() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let allow = |number: libc::c_long| {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        [
            libc::sock_filter { code, jt: 0, jf: 1, k: number as u32 },
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ]
    };
    // The number of the call is the first word of what a filter is asked about.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    filter.extend([libc::SYS_write, libc::SYS_exit_group].into_iter().flat_map(allow));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs().expect("a promise that anybody may make");
    // SAFETY: the kernel copies the program, which outlives the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// A reader waits for a muted writer; answers what it got: some records, or that the writer died.
fn wait_for_the_mute(how: &str) -> Result<usize, shmcast::RecvError> {
    let (_directory, [path]) = paths();
    let mut child = Child::start("mute", &[how, &path]);
    child.expect("created");
    // By default it looks whether the writer lives.
    let options = Options::new().lossy(true).wait(WaitStrategy::ParkAtOnce);
    let mut reader = options.open_file(&path).unwrap_or_else(|error| panic!("{error}"));
    must_wake(
        || {
            let mut count = 0;
            loop {
                match reader.recv() {
                    Ok(record) => count += usize::from(record.len() == 16),
                    Err(shmcast::RecvError::Closed) => return Ok(count),
                    Err(error) => return Err(error),
                }
            }
        },
        || child.tell("go"),
    )
}

#[test]
fn a_writer_that_wakes_nobody_makes_no_system_call() {
    assert_eq!(wait_for_the_mute("no_wake"), Ok(100));
}

/// So that the test above can fail: the same with a writer that wakes.
#[test]
fn a_writer_that_wakes_makes_a_system_call() {
    assert_eq!(wait_for_the_mute("futex"), Err(shmcast::RecvError::WriterDied));
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

fn stormed(how: &str, path: &str) {
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
    let (mut writer, mut reader) = (create(how, &format!("{path}.back")), open(&format!("{path}.back"), false));
    while writer.try_publish(&[0; 1000]).is_ok() {}
    let (start, timeout) = (Instant::now(), Duration::from_millis(100));
    assert_eq!(writer.publish_timeout(&[0; 1000], timeout), Err(shmcast::PublishTimeoutError::Timeout));
    assert!(start.elapsed() >= timeout);
    drop(reader.try_recv().expect("a record"));
    while reader.try_recv().is_ok() {}
    writer.publish_timeout(&[0; 1000], LIMIT).expect("room");
    say("done");
}

by_all_means! {
    fn a_storm_of_signals_neither_ends_a_wait_nor_shows(how) {
        let (_directory, [path]) = paths();
        let mut writer = create(how, &path);
        let mut child = Child::start("stormed", &[how, &path]);
        for _ in 0..3 {
            child.expect("waiting");
            wait_some_alarms(child.pid());
            writer.publish_timeout(b"through", LIMIT).expect("room");
        }
        child.expect("done");
        child.finish();
        assert!(Path::new(&path).exists());
    }
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
