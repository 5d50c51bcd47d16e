//! One table of kinds and behaviours, and every kind passes every row, between processes. What a row cannot ask of a kind
//! is listed, with the reason: `cargo test --test kinds -- --nocapture the_table` prints it.

mod kind;
mod peer;
mod roles;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use kind::{Kind, Spot, View, Wrong};
use nix::unistd::{geteuid, gettid};
use peer::{Line, Peer};
use roles::{play, restless};
use shmcast::{
    CreateError, OpenError, Options, PageOutcome, RemoveError, TryPublishError, TryRecvError, Wakeup, Writer,
};
use support::{Child, LIMIT, assert_whole, guard, hear, record_of, role, say, smallest, wait_until_asleep, woken_by};

/// Payloads of the streams are shorter than this.
const BOUND: u64 = 300;

/// A behaviour, and why it cannot be asked of a kind.
struct Row {
    name: &'static str,
    run: fn(&mut Spot),
    not_for: fn(Kind) -> Option<&'static str>,
}

const ROWS: [Row; 20] = [
    Row { name: "lossless delivery", run: lossless_delivery, not_for: all },
    Row { name: "lossy delivery", run: lossy_delivery, not_for: all },
    Row { name: "a lap with its exact loss", run: exact_loss, not_for: all },
    Row { name: "back-pressure", run: back_pressure, not_for: all },
    Row { name: "a record wakes a sleeping reader", run: reader_is_woken, not_for: all },
    Row { name: "room wakes a sleeping writer", run: writer_is_woken, not_for: all },
    Row { name: "POSIX semaphores wake both sides", run: posix_semaphores_wake, not_for: not_strict },
    Row { name: "System V semaphores wake both sides", run: sysv_semaphores_wake, not_for: named },
    Row { name: "close is seen", run: close_is_seen, not_for: all },
    Row { name: "the same ring at two addresses", run: two_addresses, not_for: openable },
    Row { name: "whole or not at all", run: whole_or_not_at_all, not_for: named },
    Row { name: "a taken name is refused", run: taken_name, not_for: named },
    Row { name: "what is not a ring is refused", run: wrong_objects, not_for: openable },
    Row { name: "trust ends where others can write", run: trust, not_for: openable },
    Row { name: "another user follows, or nothing", run: another_user, not_for: reachable },
    Row { name: "pages as wished, or a report", run: pages, not_for: all },
    Row { name: "removed at the end", run: removed_at_the_end, not_for: owning },
    Row { name: "a killed writer's ring can be removed", run: killed_writer, not_for: writable_by_peers },
    Row { name: "a killed writer's ring can be taken over", run: take_over, not_for: found_again },
    Row { name: "a killed reader holds nobody", run: killed_reader, not_for: locked },
];

fn all(_: Kind) -> Option<&'static str> {
    None
}

fn openable(kind: Kind) -> Option<&'static str> {
    (!kind.can_be_opened()).then_some("nothing is opened: readers share the one mapping, or a fork's copy of it")
}

fn reachable(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Named => Some("its directory is of one user; tests/failures.rs has one that users share"),
        kind => openable(kind),
    }
}

fn not_strict(kind: Kind) -> Option<&'static str> {
    (kind == Kind::MemfdStrict).then_some("its readers are to have no power over the writer: tests/semaphores.rs")
}

fn named(kind: Kind) -> Option<&'static str> {
    (!kind.has_name()).then_some("it has no name")
}

fn owning(kind: Kind) -> Option<&'static str> {
    (!kind.can_be_opened()).then_some("it is memory of the process, and goes with it")
}

fn writable_by_peers(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Heap => Some("the writer is a thread"),
        Kind::Anonymous => Some("readers are children of the writer's, or the writer itself"),
        _ => None,
    }
}

fn found_again(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Sysv | Kind::SysvPath => Some("it is removed and created anew: there is no take-over"),
        kind => named(kind),
    }
}

fn locked(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Heap => Some("the reader is a thread"),
        _ => None,
    }
}

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("peer", [role, kind, address]) => play(role, &View::of(Kind::of(kind), address), &mut Line::Stdio),
        // Here a fork is safe: there is one thread.
        ("row", [row, kind]) => {
            let row = ROWS.iter().find(|candidate| candidate.name == *row).expect("a row");
            (row.run)(&mut Spot::new(Kind::of(kind)));
            say("passed");
        }
        ("leaves segments", []) => leave_segments(),
        other => panic!("no role {other:?}"),
    }
}

/// Runs a row on each kind.
fn check(name: &str) {
    let row = ROWS.iter().find(|row| row.name == name).expect("a row");
    for kind in Kind::ALL {
        match (row.not_for)(kind) {
            Some(reason) => println!("{kind:?}: not asked: {reason}"),
            None if kind == Kind::Anonymous => {
                let mut child = Child::start("row", &[row.name, &kind.name()]);
                child.expect("passed");
                child.finish();
            }
            None => (row.run)(&mut Spot::new(kind)),
        }
        println!("{kind:?}: {name}");
    }
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
    every_kind_delivers_to_lossless_readers: "lossless delivery",
    every_kind_delivers_to_lossy_readers: "lossy delivery",
    every_kind_counts_what_a_lap_loses: "a lap with its exact loss",
    every_kind_holds_the_writer_back: "back-pressure",
    every_kind_wakes_readers: "a record wakes a sleeping reader",
    every_kind_wakes_writers: "room wakes a sleeping writer",
    every_kind_wakes_by_posix_semaphores: "POSIX semaphores wake both sides",
    every_kind_wakes_by_system_v_semaphores: "System V semaphores wake both sides",
    every_kind_closes: "close is seen",
    every_kind_can_be_anywhere: "the same ring at two addresses",
    every_kind_is_whole_or_not_at_all: "whole or not at all",
    every_kind_refuses_a_taken_name: "a taken name is refused",
    every_kind_refuses_what_is_not_a_ring: "what is not a ring is refused",
    every_kind_judges_trust: "trust ends where others can write",
    every_kind_keeps_other_users_out: "another user follows, or nothing",
    every_kind_takes_wishes_for_pages: "pages as wished, or a report",
    every_kind_is_removed_at_the_end: "removed at the end",
    every_kind_survives_a_killed_writer: "a killed writer's ring can be removed",
    every_kind_is_taken_over: "a killed writer's ring can be taken over",
    every_kind_survives_a_killed_reader: "a killed reader holds nobody",
}

/// No row is forgotten, and only few are not asked.
#[test]
fn the_table_is_complete() {
    let (rows, tested): (BTreeSet<_>, BTreeSet<_>) =
        (ROWS.iter().map(|row| row.name).collect(), TESTED.iter().copied().collect());
    assert_eq!(rows, tested);
    for row in &ROWS {
        let asked: Vec<_> = Kind::ALL.into_iter().filter(|&kind| (row.not_for)(kind).is_none()).collect();
        println!("{}: {asked:?}", row.name);
        for kind in Kind::ALL {
            if let Some(reason) = (row.not_for)(kind) {
                println!("    not {kind:?}: {reason}");
                let elsewhere = kind == Kind::Named && row.name.starts_with("another user");
                let dead = matches!(kind, Kind::Sysv | Kind::SysvPath) && row.name.contains("killed");
                assert!(!kind.has_name() || elsewhere || dead, "every kind with a name passes every row");
            }
        }
    }
}

// ---- the rows ----

/// Publishes records of the stream. Nobody hangs if a peer is stuck.
fn publish(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn start(role: &'static str, spot: &Spot) -> Peer {
    peer::start(role, spot, play)
}

fn lossless_delivery(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peers = [start("lossless", spot), start("lossless", spot)];
    for peer in &mut peers {
        peer.expect("joined");
    }
    publish(&mut ring, 3000);
    assert!(ring.position() > 100 * ring.capacity(), "it overlapped");
    drop(ring);
    for mut peer in peers {
        assert_eq!(peer.expect_numbers("received"), [3000, 0]);
        peer.finish();
    }
}

fn lossy_delivery(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("lossy", spot);
    peer.expect("joined");
    publish(&mut ring, 8);
    peer.tell("go");
    drop(ring);
    assert_eq!(peer.expect_numbers("received"), [8, 0]);
    peer.finish();
}

fn exact_loss(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("lossy", spot);
    peer.expect("joined");
    publish(&mut ring, 1000);
    peer.tell("go");
    drop(ring);
    let [received, lost] = peer.expect_numbers("received");
    assert_eq!(received + lost, 1000);
    // A ring holds some thirty of them.
    assert!((1..100).contains(&received), "{received} received, {lost} lost");
    peer.finish();
}

/// Publishes until a lossless reader holds the writer back; answers how many that were.
fn fill(writer: &mut Writer) -> u64 {
    let before = writer.sequence();
    loop {
        match writer.try_publish(&record_of(writer.sequence(), BOUND)) {
            Ok(_) => {}
            Err(TryPublishError::Full) => return writer.sequence() - before,
            Err(error) => panic!("{error}"),
        }
    }
}

fn back_pressure(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("late", spot);
    peer.expect("joined");
    let held = fill(&mut ring);
    assert!((1..100).contains(&held), "{held}");
    peer.tell("go");
    publish(&mut ring, 100);
    drop(ring);
    assert_eq!(peer.expect_numbers("received"), [held + 100, 0]);
    peer.finish();
}

fn asleep(peer: &mut Peer) {
    let [process, thread] = peer.expect_numbers("ready");
    wait_until_asleep(u32::try_from(process).expect("a number"), i32::try_from(thread).expect("a number"));
}

fn reader_is_woken(spot: &mut Spot) {
    reader_is_woken_in(spot, &smallest());
}

fn reader_is_woken_in(spot: &mut Spot, options: &Options) {
    let mut ring = spot.create(options);
    let mut peer = start("sleeper", spot);
    asleep(&mut peer);
    publish(&mut ring, 1);
    assert_eq!(peer.expect_numbers("woken"), [0]);
    drop(ring);
    peer.expect("closed");
    peer.finish();
}

fn writer_is_woken(spot: &mut Spot) {
    writer_is_woken_in(spot, &restless(smallest()));
}

fn posix_semaphores_wake(spot: &mut Spot) {
    reader_is_woken_in(spot, &woken_by(smallest(), "posix"));
    writer_is_woken_in(&mut Spot::new(spot.kind), &restless(woken_by(smallest(), "posix")));
}

/// And no set stays behind.
fn sysv_semaphores_wake(spot: &mut Spot) {
    let key = guard::fresh_key();
    let options = smallest().wakeup(Wakeup::SysvSemaphore).semaphore_key(key);
    reader_is_woken_in(spot, &options);
    assert!(guard::sets(&[key]).is_empty());
    writer_is_woken_in(&mut Spot::new(spot.kind), &restless(options));
    assert!(guard::sets(&[key]).is_empty());
}

fn writer_is_woken_in(spot: &mut Spot, options: &Options) {
    let mut ring = spot.create(options);
    let mut peer = start("late", spot);
    peer.expect("joined");
    let held = fill(&mut ring);
    let (process, thread) = (std::process::id(), gettid().as_raw());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until_asleep(process, thread);
            peer.tell("go");
        });
        let payload = record_of(held, BOUND);
        // Only a wake ends it; but where there are locks the writer looks by itself every few milliseconds, too.
        assert_eq!(ring.publish(&payload), Ok(held));
    });
    drop(ring);
    assert_eq!(peer.expect_numbers("received"), [held + 1, 0]);
    peer.finish();
}

fn close_is_seen(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("sleeper", spot);
    let [process, thread] = peer.expect_numbers("ready");
    publish(&mut ring, 1);
    peer.expect("woken 0");
    // Again asleep, now for the close.
    wait_until_asleep(u32::try_from(process).expect("a number"), i32::try_from(thread).expect("a number"));
    ring.close();
    peer.expect("closed");
    peer.finish();
}

fn two_addresses(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut here = spot.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    let mut peer = start("two mappings", spot);
    peer.expect("joined");
    publish(&mut ring, 1);
    let address = here.recv_ref().expect("a record").as_ptr().addr() as u64;
    let there: [u64; 2] = peer.expect_numbers("addresses");
    assert!(there[0] != there[1] && there.iter().any(|&other| other != address), "{there:x?} against {address:x}");
    peer.finish();
}

fn whole_or_not_at_all(first: &mut Spot) {
    // Large enough to take a while.
    let options = Options::new().capacity(512 * 1024).reader_slots(1024);
    for _ in 0..10 {
        let mut spot = Spot::new(first.kind);
        let mut peer = start("patient", &spot);
        peer.expect("asking");
        let mut ring = spot.create(&options);
        peer.expect("joined");
        publish(&mut ring, 3);
        drop(ring);
        assert_eq!(peer.expect_numbers("received"), [3, 0]);
        peer.finish();
    }
}

fn taken_name(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut reader = spot.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    let mut peer = start("rival", spot);
    peer.expect("refused");
    peer.finish();
    publish(&mut ring, 1);
    assert_whole(0, &reader.try_recv().expect("the ring goes on"), BOUND);
    // Of many creators of one name one wins: the early look may find it free for all.
    for _ in 0..30 {
        race(&Spot::new(spot.kind));
    }
}

fn race(spot: &Spot) {
    let together = std::sync::Barrier::new(4);
    let create = || {
        together.wait();
        spot.view.create(&smallest())
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(create));
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((winners.len(), losers.len()), (1, 3));
    assert!(losers.iter().all(|loser| matches!(loser, Err(CreateError::NameTaken { .. }))));
    spot.open(&Options::new()).unwrap_or_else(|error| panic!("the winner's: {error}"));
}

fn wrong_objects(spot: &mut Spot) {
    // Kept: the wrong thing comes in the place of a right one.
    drop(spot.create(&smallest().keep(true)).into_writer());
    for wrong in [Wrong::Magic, Wrong::Short] {
        let opened = spot.open_wrong(wrong);
        assert!(matches!(opened, Err(OpenError::Format { .. })), "{:?} {wrong:?}: {opened:?}", spot.kind);
        if spot.kind.has_name() {
            assert!(matches!(spot.remove(), Err(RemoveError::NotARing { .. })), "it is left alone");
            assert!(matches!(spot.view.create(&smallest()).err(), Some(CreateError::NameTaken { .. })));
            assert!(!spot.left().is_empty());
        }
    }
}

fn trust(spot: &mut Spot) {
    let ring = spot.create(&smallest());
    let borrows = || spot.open(&Options::new()).map(|reader| reader.can_borrow()).unwrap_or_else(|e| panic!("{e}"));
    assert!(borrows());
    for registry in [false, true] {
        for (mode, trusted) in [(0o620, false), (0o602, false), (0o644, true), (0o600, true)] {
            spot.set_mode(registry, mode, &ring);
            assert_eq!(borrows(), trusted, "{:?} {registry} {mode:o}", spot.kind);
        }
    }
}

fn another_user(spot: &mut Spot) {
    if !geteuid().is_root() {
        return println!("SKIPPED: only root can be another user");
    }
    let mut ring = spot.create(&smallest());
    spot.let_others_reach();
    let mut peer = start("stranger", spot);
    peer.expect("kept out");
    publish(&mut ring, 1);
    if !spot.kind.is_memfd() {
        spot.set_mode(false, 0o644, &ring);
    }
    peer.tell("go");
    peer.expect("followed");
    peer.finish();
    assert!(!spot.left().is_empty());
}

fn wishing(options: Options) -> Options {
    options.prefault(true).lock_memory(true).huge_pages(true)
}

fn check_report(report: shmcast::PageReport, least: u64) {
    let done = |outcome| matches!(outcome, PageOutcome::Done { bytes } if bytes >= least);
    assert!(done(report.prefault), "{report:?}");
    // A user may lock only so much.
    assert!(done(report.lock) || matches!(report.lock, PageOutcome::Refused { .. }), "{report:?}");
    match report.huge {
        PageOutcome::Done { bytes } => assert!(bytes >= 2 << 20 && bytes.is_multiple_of(2 << 20), "{report:?}"),
        PageOutcome::Hinted { errno } | PageOutcome::Refused { errno } => assert!(errno > 0, "{report:?}"),
        _ => panic!("it was asked: {report:?}"),
    }
}

const LARGE: u64 = 4 << 20;

fn pages(spot: &mut Spot) {
    let mut ring = spot.create(&wishing(Options::new().capacity(LARGE)));
    // Of the heap, only pages that are the ring's alone.
    check_report(ring.page_report(), if spot.kind == Kind::Heap { LARGE - 8192 } else { LARGE });
    println!("{:?}: {:?}", spot.kind, ring.page_report());
    let mut peer = start("paged", spot);
    peer.expect("joined");
    publish(&mut ring, 2000);
    drop(ring);
    assert_eq!(peer.expect_numbers("received"), [2000, 0]);
    peer.finish();
    let unasked = spot.create(&smallest()).page_report();
    assert_eq!(unasked, shmcast::PageReport::default());
}

fn removed_at_the_end(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("lossless", spot);
    peer.expect("joined");
    assert!(!spot.left().is_empty(), "the check sees what is there");
    publish(&mut ring, 1);
    drop(ring);
    assert_eq!(spot.left(), [""; 0], "although a reader has it");
    assert!(matches!(spot.open(&Options::new()), Err(OpenError::NotFound { .. })));
    assert_eq!(peer.expect_numbers("received"), [1, 0]);
    peer.finish();
    // Also after the writer has gone first, a new one gets the name; and the old one's end leaves it alone.
    if spot.kind.has_name() {
        let old = spot.create(&smallest());
        spot.remove().unwrap_or_else(|error| panic!("{error}"));
        let mut new = spot.create(&smallest());
        drop(old);
        let mut reader = spot.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
        publish(&mut new, 1);
        assert!(reader.try_recv().is_ok(), "of the new one");
        drop(new);
        assert_eq!(spot.left(), [""; 0]);
    }
}

fn killed_writer(spot: &mut Spot) {
    let mut peer = start("writer", spot);
    peer.expect("published");
    let mut reader = spot.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    peer.kill();
    for sequence in 0..10 {
        assert_whole(sequence, &reader.try_recv().expect("it was published"), BOUND);
    }
    let end = if locked(spot.kind).is_none() { TryRecvError::WriterDied } else { TryRecvError::Empty };
    assert_eq!(reader.try_recv(), Err(end), "{:?}", spot.kind);
    if spot.kind.has_name() {
        assert!(
            !spot.left().is_empty()
                && matches!(spot.view.create(&smallest()).err(), Some(CreateError::NameTaken { .. }))
        );
        spot.remove().unwrap_or_else(|error| panic!("{:?}: {error}", spot.kind));
        assert_eq!(spot.left(), [""; 0]);
        assert!(matches!(spot.remove(), Err(RemoveError::NotFound { .. })));
    } else {
        // Nobody hands it out any more: it goes with its last reader.
        assert!(matches!(spot.open(&Options::new()), Err(OpenError::NotFound { .. })));
    }
    if spot.kind.has_name() {
        let again = reader.resubscribe().unwrap_or_else(|error| panic!("{:?}: {error}", spot.kind));
        assert_eq!(again.sequence(), 10);
    }
    // What tells who lives goes with a System V ring, as its segments cannot be found any more either.
    let sysv = matches!(spot.kind, Kind::Sysv | Kind::SysvPath);
    assert_eq!(reader.try_recv(), Err(if sysv { TryRecvError::Empty } else { end }), "who has it keeps it");
}

fn take_over(spot: &mut Spot) {
    let mut peer = start("writer", spot);
    peer.expect("published");
    assert!(matches!(spot.take_over(&smallest()).err(), Some(CreateError::WriterAlive { .. })));
    let mut reader = spot.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    peer.kill();
    let mut successor = spot.take_over(&smallest()).unwrap_or_else(|error| panic!("{:?}: {error}", spot.kind));
    publish(&mut successor, 10);
    for sequence in 0..20 {
        assert_whole(sequence, &reader.try_recv().expect("both wrote on"), BOUND);
    }
    drop(successor);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(spot.left(), [""; 0]);
}

fn killed_reader(spot: &mut Spot) {
    let mut ring = spot.create(&smallest());
    let mut peer = start("late", spot);
    peer.expect("joined");
    fill(&mut ring);
    peer.kill();
    publish(&mut ring, 100);
    assert_eq!(ring.reader_count(), 0);
}

// ---- tests that are killed ----

fn leave_segments() {
    let key = guard::fresh_key();
    // Keys of segments and of semaphores are different things.
    let options = smallest().wakeup(Wakeup::SysvSemaphore).semaphore_key(key);
    let _ring = options.create_sysv(shmcast::SysvKey::new(key)).unwrap_or_else(|error| panic!("{error}"));
    say(format_args!("made {key}"));
    hear();
}

/// What every test here relies on.
#[test]
fn a_killed_test_leaves_no_segments_and_no_semaphores() {
    let mut child = Child::start("leaves segments", &[]);
    let key: i32 = child.expect("made").parse().expect("a number");
    assert_eq!((guard::segments(&[key, key + 1]).len(), guard::sets(&[key]).len()), (2, 1));
    child.kill();
    let start = std::time::Instant::now();
    while !guard::segments(&[key, key + 1]).is_empty() || !guard::sets(&[key]).is_empty() {
        assert!(start.elapsed() < LIMIT, "the guard does not do its work");
        std::thread::yield_now();
    }
}
