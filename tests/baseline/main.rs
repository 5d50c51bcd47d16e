//! The conformance suite of `shmcast::baseline`: every transport passes every row, between processes, as its own rules say; and the
//! rules of each family, in modules of their own.
//!
//! After each row nothing of the link may be left, in the file system, in `/dev/shm`, in `/proc/sysvipc`, among the message queues.

mod boards;
mod internet;
mod multiplexing;
mod peer;
mod pipes;
mod programs;
mod queues;
mod roles;
mod semaphores;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod unix;

use std::time::{Duration, Instant};

use nix::unistd::gettid;
use peer::{Line, Peer};
use roles::{SHORT, assert_record, checksum, play, record_of};
use shmcast::baseline::{
    Death, Delivery, End, FanOut, FileLock, Link, LockKind, Object, Patience, Place, Reach, ReceiveError, Received,
    Rules, SendError, SetupError, Transport, Wake, all, by_name,
};
use support::{Child, LIMIT, guard, role, say, skipped, wait_until_asleep};

/// Records of a stream.
const COUNT: u64 = 400;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        // SAFETY: the parent passed this end on to this process, and this is the only place that takes it.
        ("peer", [role, text]) => play(role, unsafe { End::from_text(text) }.expect("an end"), &mut Line::Stdio),
        // Here a fork is safe: there is one thread.
        ("row", [row, transport]) => {
            let row = ROWS.iter().find(|candidate| candidate.name == *row).expect("a row");
            run(row, &*by_name(transport).expect("a transport"));
            say("passed");
        }
        ("leaves all behind", [directory]) => leave_all_behind(directory),
        (role, arguments) => {
            let played = [pipes::play, internet::play, semaphores::play, boards::play, unix::play, queues::play];
            assert!(played.iter().any(|play| play(role, arguments)), "no role {role:?}");
        }
    }
}

/// What an end's transport can.
pub(crate) fn rules_of(end: &End) -> Rules {
    by_name(end.transport_name()).expect("a transport").rules()
}

// ---- links of a test ----

/// A link at a place of its own, guarded: nothing stays behind even if this process is killed.
pub(crate) struct Spot {
    objects: Vec<Object>,
    directory: tempfile::TempDir,
    /// The system counts the signals of a user, not of a process: one test at a time fills its queue, of all test processes.
    _alone: Option<FileLock>,
}

impl Spot {
    pub(crate) fn link(transport: &dyn Transport, receivers: usize) -> Result<(Spot, Link), SetupError> {
        let signals = transport.name().starts_with("signal");
        let alone = signals.then(|| {
            let everywhere = std::fs::File::open(std::env::temp_dir()).expect("a directory");
            let lock = FileLock::new(everywhere, LockKind::Flock);
            assert_eq!(lock.lock(true, Patience::of(2 * LIMIT)), Ok(true), "other tests hang");
            lock
        });
        let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
        let place = Place::new(directory.path())?;
        // Two directories can have one key: that of another test is none of ours.
        let keys = transport.name().contains("sysv");
        let mut objects = place.objects(receivers);
        objects.retain(|object| keys || !matches!(object, Object::Key(_)));
        if transport.rules().outlives {
            protect(&objects, &transport.name());
        }
        let link = Link::make(transport, place, receivers)?;
        Ok((Spot { objects, directory, _alone: alone }, link))
    }

    pub(crate) fn must_link(transport: &dyn Transport, receivers: usize) -> (Spot, Link) {
        Spot::link(transport, receivers).unwrap_or_else(|error| panic!("{}: {error}", transport.name()))
    }

    /// What is still there of the link.
    pub(crate) fn left(&self) -> Vec<Object> {
        self.objects.iter().filter(|object| object.exists()).cloned().collect()
    }

    pub(crate) fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(), Vec::<Object>::new());
        let names = std::fs::read_dir(self.directory.path()).expect("the directory").count();
        assert_eq!(names, 0, "files are left");
    }
}

/// Tells the guard of those that this transport may make.
fn protect(objects: &[Object], transport: &str) {
    let memory = |name: &str| transport.starts_with(if name.starts_with("/sem.") { "posix-sem" } else { "ring-posix" });
    for object in objects {
        match object {
            Object::Key(key) if transport.contains("sysv") => guard::protect_one(guard::Left::Key(*key)),
            Object::Queue(name) if transport == "posix-queue" => guard::protect_one(guard::Left::Queue(name)),
            Object::Memory(name) if memory(name) => {
                guard::protect_one(guard::Left::Path(format!("/dev/shm{name}").as_ref()))
            }
            Object::Ring(name) if transport.starts_with("ring-named") => {
                guard::protect_one(guard::Left::Path(format!("/dev/shm/shmcast/{name}").as_ref()));
            }
            _ => {}
        }
    }
}

// ---- the rows ----

struct Row {
    name: &'static str,
    run: fn(&Rules, Link),
    receivers: usize,
    not_for: fn(&Rules) -> Option<&'static str>,
}

const ROWS: [Row; 9] = [
    Row { name: "to a process, in order", run: order_to_a_process, receivers: 1, not_for: all_of_them },
    Row { name: "from a process, in order", run: order_from_a_process, receivers: 1, not_for: sends_elsewhere },
    Row { name: "sizes", run: sizes, receivers: 1, not_for: all_of_them },
    Row { name: "without waiting", run: without_waiting, receivers: 1, not_for: all_of_them },
    Row { name: "a record wakes a sleeper", run: wakes_a_sleeper, receivers: 1, not_for: all_of_them },
    Row { name: "a receiver's close", run: receivers_close, receivers: 1, not_for: all_of_them },
    Row { name: "a killed sender", run: killed_sender, receivers: 1, not_for: sends_elsewhere },
    Row { name: "a killed receiver", run: killed_receiver, receivers: 1, not_for: has_processes },
    Row { name: "to three receivers", run: to_three, receivers: 3, not_for: all_of_them },
];

fn all_of_them(_: &Rules) -> Option<&'static str> {
    None
}

fn sends_elsewhere(rules: &Rules) -> Option<&'static str> {
    (rules.reach <= Reach::Forks).then_some("the sender cannot be another process: the ring is memory of this one")
}

fn has_processes(rules: &Rules) -> Option<&'static str> {
    (rules.reach == Reach::Threads).then_some("the receiver is a thread")
}

/// Runs a row on each transport.
fn check(name: &str) {
    let row = ROWS.iter().find(|row| row.name == name).expect("a row");
    for transport in all() {
        let rules = transport.rules();
        let start = Instant::now();
        if let Some(reason) = (row.not_for)(&rules) {
            println!("{}: not asked: {reason}", transport.name());
        } else if rules.reach == Reach::Forks {
            let mut child = Child::start("row", &[row.name, &transport.name()]);
            child.expect("passed");
            child.finish();
        } else {
            println!("{}: {name}", transport.name());
            run(row, &*transport);
        }
        println!("{}: {name}: {:?}", transport.name(), start.elapsed());
    }
}

fn run(row: &Row, transport: &dyn Transport) {
    let (spot, link) = match Spot::link(transport, row.receivers) {
        Err(error @ SetupError::Missing { .. }) => return skipped(error),
        other => other.unwrap_or_else(|error| panic!("{}: {error}", transport.name())),
    };
    (row.run)(&transport.rules(), link);
    spot.assert_nothing_is_left();
}

macro_rules! rows {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*

        const TESTED: &[&str] = &[$($name),*];
    };
}

rows! {
    every_transport_delivers_to_a_process_in_order: "to a process, in order",
    every_transport_delivers_from_a_process_in_order: "from a process, in order",
    every_transport_keeps_its_sizes: "sizes",
    every_transport_can_be_used_without_waiting: "without waiting",
    every_transport_wakes_a_sleeper: "a record wakes a sleeper",
    every_transport_shows_a_receivers_close_as_its_rules_say: "a receiver's close",
    every_transport_shows_a_senders_death_as_its_rules_say: "a killed sender",
    every_transport_shows_a_receivers_death_as_its_rules_say: "a killed receiver",
    every_transport_reaches_three_receivers: "to three receivers",
}

#[test]
fn every_row_is_tested() {
    assert!(ROWS.iter().map(|row| row.name).eq(TESTED.iter().copied()));
}

#[test]
fn the_rules_are_a_table() {
    for transport in all() {
        let name = transport.name();
        let rules = transport.rules();
        println!("{name}: {rules:?}");
        assert!(rules.min_record <= rules.max_record, "{name}");
        assert!(by_name(&name).is_some_and(|found| found.name() == name), "a name finds its transport");
        assert!(
            !rules.dead_holds_sender || rules.receiver_end.death == Death::Unseen,
            "{name}: who is told is not held"
        );
    }
}

// ---- what the rows do ----

fn ends(link: Link) -> (End, End, shmcast::baseline::Names) {
    let Link { sender, mut receivers, names } = link;
    (sender, receivers.remove(0), names)
}

/// What a receiver got of `COUNT` records must be so.
fn assert_delivered(rules: &Rules, received: u64, lost: u64, sent: u64) {
    match rules.delivery {
        Delivery::Lossless => assert_eq!((received, lost), (sent, 0)),
        // The last of a board is always seen; the last datagrams can be lost without a later one that tells.
        Delivery::Counted if rules.wake == Wake::Polled => assert_eq!(received + lost, sent),
        Delivery::Counted => {
            assert!(received > 0 && received + lost <= sent, "{received} received, {lost} lost of {sent}")
        }
        Delivery::Silent => assert!(received > 0 && received <= sent, "{received} received of {sent}"),
    }
}

/// Where a close is not seen, the row tells.
fn tell_the_end(rules: &Rules, peer: &mut Peer) {
    if !rules.sender_end.close {
        peer.tell("sent");
    }
}

fn order_to_a_process(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("receives", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    peer.expect("ready");
    for number in 0..COUNT {
        sender.send(&record_of(number, rules)).unwrap_or_else(|error| panic!("record {number}: {error}"));
    }
    sender.close();
    tell_the_end(rules, &mut peer);
    let [received, lost] = peer.expect_numbers("received");
    assert_delivered(rules, received, lost, COUNT);
    peer.finish();
}

fn order_from_a_process(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("sends", sender_end, rules.reach);
    let mut receiver = roles::receiver(receiver_end);
    peer.tell(&COUNT.to_string());
    let mut buffer = vec![0; rules.max_record];
    let (mut received, mut lost) = (0, 0);
    let patience = if rules.sender_end.close { LIMIT } else { SHORT };
    loop {
        match receiver.receive_timeout(&mut buffer, patience) {
            Ok(Received { len, lost: more }) => {
                lost += more;
                assert_record(received + lost, &buffer[..len], rules);
                received += 1;
            }
            Err(ReceiveError::Closed) => break,
            // An end that is not said is not seen; at first the peer has to start.
            Err(ReceiveError::Timeout) if !rules.sender_end.close && received == COUNT => break,
            Err(ReceiveError::Timeout) if !rules.sender_end.close => {}
            Err(error) => panic!("after {received} records: {error}"),
        }
    }
    assert_delivered(rules, received, lost, COUNT);
    peer.expect("closed");
    peer.tell("end");
    peer.finish();
}

fn sizes(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("echoes sizes", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    peer.expect("ready");
    let longest: Vec<u8> = (0..rules.max_record).map(|at| (at % 251) as u8).collect();
    let lengths = [rules.min_record, rules.max_record, rules.max_record / 2, rules.max_record.min(1)];
    for len in lengths.map(|len| len.max(rules.min_record)) {
        peer.tell("all");
        sender.send(&longest[..len]).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        assert_eq!(peer.expect_numbers("got"), [len as u64, checksum(&longest[..len])]);
    }
    let too_long = sender.send(&vec![0; rules.max_record + 1]);
    assert!(matches!(too_long, Err(SendError::TooLong { max, .. }) if max == rules.max_record), "{too_long:?}");
    if rules.min_record > 0 {
        let too_short = sender.send(&longest[..rules.min_record - 1]);
        assert!(matches!(too_short, Err(SendError::TooShort { .. })), "{too_short:?}");
    }
    if rules.max_record > 1 {
        // What does not fit is told, and gone; what comes next is whole.
        let len = rules.max_record.min(100);
        peer.tell("1");
        sender.send(&longest[..len]).expect("room");
        assert_eq!(peer.expect_numbers("too long"), [len as u64]);
        peer.tell("all");
        sender.send(&longest[..len - 1]).expect("room");
        assert_eq!(peer.expect_numbers("got"), [len as u64 - 1, checksum(&longest[..len - 1])]);
    }
    peer.tell("end");
    peer.finish();
}

/// Far more than any of them holds.
const MOST: u64 = 300_000;

fn without_waiting(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("holds", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    peer.expect("ready");
    let mut sent = 0;
    let most = if rules.holds_sender { MOST } else { 2 * COUNT };
    let full = loop {
        match sender.try_send(&record_of(sent, rules)) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => break true,
            Err(error) => panic!("after {sent} records: {error}"),
        }
        if sent == most {
            break false;
        }
    };
    assert_eq!(full, rules.holds_sender, "after {sent} records");
    if full {
        let start = Instant::now();
        let timed_out = sender.send_timeout(&record_of(sent, rules), SHORT);
        assert!(matches!(timed_out, Err(SendError::Timeout)), "{timed_out:?}");
        assert!(start.elapsed() >= SHORT, "it waited {:?}", start.elapsed());
    }
    peer.tell("drain");
    if full {
        // Room comes while this call waits.
        sender.send(&record_of(sent, rules)).expect("room");
        sent += 1;
    }
    sender.close();
    tell_the_end(rules, &mut peer);
    let [received, lost] = peer.expect_numbers("received");
    assert_delivered(rules, received, lost, sent);
    peer.finish();
}

fn wakes_a_sleeper(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("sleeps", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    let [process, thread] = peer.expect_numbers("ready");
    if rules.wake == Wake::Kernel {
        wait_until_asleep(process as u32, thread as i32);
    }
    sender.send(&record_of(0, rules)).expect("room");
    peer.expect("woken");
    peer.tell("end");
    peer.finish();
}

/// Sends until the sender is told that there is nobody, or far more than any queue holds was sent.
fn send_on(sender: &mut dyn shmcast::baseline::Sender, rules: &Rules, least: u64) -> Result<(), SendError> {
    let record = vec![7; rules.max_record.min(1024)];
    let start = Instant::now();
    let mut sent = 0;
    // Some are told by an answer that comes from the other side, a moment later.
    while sent < least || (rules.receiver_end.close && start.elapsed() < LIMIT) {
        sender.send_timeout(&record, SHORT)?;
        sent += 1;
    }
    Ok(())
}

fn receivers_close(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("closes", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    sender.send(&record_of(0, rules)).expect("room");
    peer.expect("ready");
    peer.tell("close");
    peer.expect("closed");
    let outcome = send_on(&mut *sender, rules, 100);
    match outcome {
        Err(SendError::PeerGone) => assert!(rules.receiver_end.close, "seen, but not said so"),
        Ok(()) => assert!(!rules.receiver_end.close, "not seen"),
        Err(SendError::Timeout) => assert!(rules.dead_holds_sender, "held up by nobody"),
        Err(error) => panic!("{error}"),
    }
    peer.tell("end");
    peer.finish();
}

fn killed_sender(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, names) = ends(link);
    let mut peer = peer::start("sends and waits", sender_end, rules.reach);
    let mut receiver = roles::receiver(receiver_end);
    let mut buffer = vec![0; rules.max_record];
    for number in 0..3 {
        if number < 2 {
            peer.expect("sent");
        }
        let received = receiver.receive_timeout(&mut buffer, LIMIT).expect("a record");
        assert_record(number, &buffer[..received.len], rules);
        if number < 2 {
            peer.tell("go on");
        }
    }
    peer.expect("sent");
    let patience = if rules.sender_end.death == Death::Unseen { SHORT } else { LIMIT };
    // It sleeps already when the sender is killed.
    let (this, thread) = (std::process::id(), gettid().as_raw());
    let sleeps = rules.wake == Wake::Kernel;
    let killer = std::thread::spawn(move || {
        if sleeps {
            wait_until_asleep(this, thread);
        }
        peer.kill();
    });
    let outcome = receiver.receive_timeout(&mut buffer, patience);
    match rules.sender_end.death {
        Death::Told => assert!(matches!(outcome, Err(ReceiveError::SenderDied)), "{outcome:?}"),
        Death::LooksClosed => assert!(matches!(outcome, Err(ReceiveError::Closed)), "{outcome:?}"),
        Death::Unseen => assert!(matches!(outcome, Err(ReceiveError::Timeout)), "{outcome:?}"),
    }
    killer.join().expect("no panic");
    if rules.sender_end.death == Death::Unseen {
        let outcome = receiver.receive_timeout(&mut buffer, Duration::from_millis(20));
        assert!(matches!(outcome, Err(ReceiveError::Timeout)), "dead by now, and not seen: {outcome:?}");
    }
    drop(names);
}

fn killed_receiver(rules: &Rules, link: Link) {
    let (sender_end, receiver_end, _names) = ends(link);
    let mut peer = peer::start("waits", receiver_end, rules.reach);
    let mut sender = roles::sender(sender_end);
    peer.expect("ready");
    sender.send(&record_of(0, rules)).expect("room");
    peer.kill();
    // More than 4 MiB: a ring of that size would be full.
    let outcome = send_on(&mut *sender, rules, 6000);
    match outcome {
        Err(SendError::PeerGone) => assert_ne!(rules.receiver_end.death, Death::Unseen, "seen, but not said so"),
        Ok(()) => {
            assert_eq!(rules.receiver_end.death, Death::Unseen, "not seen");
            assert!(!rules.dead_holds_sender, "a dead receiver holds nobody up, but the rules say so");
        }
        Err(SendError::Timeout) => assert!(rules.dead_holds_sender, "held up by a dead one"),
        Err(error) => panic!("{error}"),
    }
}

fn to_three(rules: &Rules, link: Link) {
    let Link { sender, receivers, names: _names } = link;
    assert_ne!(rules.fan_out, FanOut::One);
    let mut peers: Vec<Peer> = receivers.into_iter().map(|end| peer::start("receives", end, rules.reach)).collect();
    let mut sender = roles::sender(sender);
    for peer in &mut peers {
        peer.expect("ready");
    }
    for number in 0..COUNT {
        sender.send(&record_of(number, rules)).unwrap_or_else(|error| panic!("record {number}: {error}"));
    }
    sender.close();
    for mut peer in peers {
        tell_the_end(rules, &mut peer);
        let [received, lost] = peer.expect_numbers("received");
        assert_delivered(rules, received, lost, COUNT);
        peer.finish();
    }
}

// ---- nothing stays behind, whoever is killed ----

/// Makes a link of every transport that outlives its processes, and connects what connects at once.
fn leave_all_behind(directory: &str) -> ! {
    let mut kept = Vec::new();
    for transport in all().into_iter().filter(|transport| transport.rules().outlives) {
        let place = Place::new(directory).expect("a place");
        let objects = place.objects(1);
        protect(&objects, &transport.name());
        let mut link = match Link::make(&*transport, place, 1) {
            Err(SetupError::Missing { .. }) => continue,
            other => other.expect("a link"),
        };
        let receiver = link.receivers.remove(0);
        let receiver = std::thread::spawn(move || receiver.receiver(Patience::of(LIMIT)).expect("a receiver"));
        let sender = link.sender.sender(Patience::of(LIMIT)).expect("a sender");
        kept.push((sender, receiver.join().expect("no panic"), link.names));
        for object in objects.iter().filter(|object| object.exists()) {
            say(format_args!("left {object:?}"));
        }
    }
    say("all");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let mut child = Child::start("leaves all behind", &[path]);
    let mut left = Vec::new();
    loop {
        let said = child.expect("");
        match said.strip_prefix("left ") {
            Some(object) => left.push(object.to_owned()),
            None => break,
        }
    }
    let count = |what: &str| left.iter().filter(|object| object.starts_with(what)).count();
    for what in ["Key", "Memory", "Ring", "Queue", "Directory"] {
        assert!(count(what) > 0, "there was a {what} to be left behind: {left:?}");
    }
    child.kill();
    // Its guard removes what has a name of its own; the directory is this test's.
    let start = Instant::now();
    loop {
        let still = system_objects(&left);
        if still.is_empty() {
            break;
        }
        assert!(start.elapsed() < LIMIT, "left behind: {still:?}");
        std::thread::yield_now();
    }
}

/// Those of the objects, as `Debug` shows them, that the system still lists, outside the directory.
fn system_objects(left: &[String]) -> Vec<String> {
    let mut listed = Vec::new();
    for table in ["msg", "sem", "shm"] {
        let table = std::fs::read_to_string(format!("/proc/sysvipc/{table}")).expect("a table");
        let keys = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        listed.extend(keys.map(|key| format!("Key({key})")));
    }
    for (directory, kind, before) in [("/dev/shm", "Memory", "/"), ("/dev/shm/shmcast", "Ring", "")] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            listed.push(format!("{kind}({:?})", format!("{before}{}", entry.file_name().to_string_lossy())));
        }
    }
    let is_queue = |object: &str| {
        let name = object.strip_prefix("Queue(\"").and_then(|rest| rest.strip_suffix("\")"));
        name.is_some_and(|name| Object::Queue(name.to_owned()).exists())
    };
    left.iter().filter(|object| listed.contains(object) || is_queue(object)).cloned().collect()
}
