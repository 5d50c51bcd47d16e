//! What becomes of a ring's semaphores: they are there with the ring, and go with it, whoever was killed.

mod support;

use nix::libc;
use shmcast::{CreateError, Options, Reader, RecvError, RecvTimeoutError, WaitStrategy, Wakeup, Writer};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::{Child, Door, LIMIT, guard, hear, role, say, smallest, unique_name, woken_by};

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role.as_str(), &arguments[..]) {
        ("writer", [name, key]) => {
            let mut writer =
                options(key.parse().expect("a number")).create(name).unwrap_or_else(|error| panic!("{error}"));
            writer.publish(b"before").expect("room");
            say("published");
            hear();
        }
        ("cramped", [name]) => cramped(name),
        ("collector", []) => say(format_args!("collected {}", shmcast::gc().expect("a directory").join(" "))),
        other => panic!("no role {other:?}"),
    }
}

fn options(key: i32) -> Options {
    smallest().wakeup(Wakeup::SysvSemaphore).semaphore_key(key)
}

/// The sets that there are with this key.
fn sets(key: i32) -> usize {
    guard::sets(&[key]).len()
}

fn remove_set(key: i32) {
    // SAFETY: the call takes numbers only.
    let set = unsafe { libc::semget(key, 0, 0) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::semctl(set, 0, libc::IPC_RMID) }, 0);
}

/// Sleeps until the writer says something; answers how long, or none if it was not woken in time.
fn sleep(reader: &mut Reader, wake: impl FnOnce()) -> Result<Vec<u8>, RecvError> {
    let (said, thread) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            said.send(nix::unistd::gettid().as_raw()).expect("somebody listens");
            reader.recv().map(|record| record.payload)
        });
        support::wait_until_asleep(std::process::id(), thread.recv_timeout(LIMIT).expect("a thread"));
        wake();
        sleeper.join().expect("no panic")
    })
}

fn restless(options: &Options) -> Options {
    options.clone().wait(WaitStrategy::ParkAtOnce).slice(Duration::from_secs(3600))
}

// ---- they go with the ring ----

#[test]
fn the_set_goes_with_the_writer_unless_the_ring_is_kept() {
    for keep in [false, true] {
        let (key, name) = (guard::fresh_key(), unique_name("set"));
        let writer = options(key).keep(keep).create(&name).expect("a small ring");
        let mut reader = Options::new().open(&name).expect("a ring");
        assert_eq!(sets(key), 1);
        drop(writer);
        assert_eq!(sets(key), usize::from(keep));
        assert_eq!(reader.recv(), Err(RecvError::Closed));
        if keep {
            shmcast::remove(&name).expect("a ring of ours");
            assert_eq!(sets(key), 0);
        }
    }
}

#[test]
fn every_kind_that_has_a_name_removes_the_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let (name, segment) = (unique_name("set"), shmcast::SysvKey::new(guard::fresh_key()));
    type Make<'a> = &'a dyn Fn(&Options) -> Result<Writer, CreateError>;
    type Remove<'a> = &'a dyn Fn() -> Result<(), shmcast::RemoveError>;
    let kinds: [(Make<'_>, Remove<'_>); 4] = [
        (&|options| options.create(&name), &|| shmcast::remove(&name)),
        (&|options| options.create_file(&path), &|| shmcast::remove_file(&path)),
        (&|options| options.create_posix(&name), &|| shmcast::remove_posix(&name)),
        (&|options| options.create_sysv(segment), &|| shmcast::remove_sysv(segment)),
    ];
    for (create, remove) in kinds {
        let key = guard::fresh_key();
        drop(create(&options(key)).expect("a small ring"));
        assert_eq!(sets(key), 0);
        drop(create(&options(key).keep(true)).expect("a small ring"));
        assert_eq!(sets(key), 1);
        // A name that is taken costs nobody a set.
        let other = guard::fresh_key();
        assert!(matches!(create(&options(other)), Err(CreateError::NameTaken { .. })));
        assert_eq!((sets(key), sets(other)), (1, 0));
        remove().expect("a ring of ours");
        assert_eq!(sets(key), 0);
    }
}

#[test]
fn a_ring_without_a_name_has_no_set() {
    let key = guard::fresh_key();
    type Make = fn(&Options) -> Result<Writer, CreateError>;
    let kinds: [Make; 4] =
        [Options::create_heap, Options::create_anonymous, Options::create_memfd, Options::create_memfd_strict];
    for create in kinds {
        let refused = create(&options(key)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("wakeup") && refused.contains("without a name"), "{refused}");
        assert_eq!(sets(key), 0);
    }
}

/// Its readers write the registry, and are to have no power over the writer.
#[test]
fn a_strict_ring_has_no_posix_semaphores() {
    let strict = |wakeup| smallest().wakeup(wakeup).create_memfd_strict();
    let refused = strict(Wakeup::PosixSemaphore).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("wakeup") && refused.contains("strict"), "{refused}");
    strict(Wakeup::Futex).expect("a small ring");
}

#[test]
fn the_largest_ring_has_a_set() {
    let (key, name) = (guard::fresh_key(), unique_name("set"));
    // 1025 semaphores: Linux has room for 32,000 unless it is told otherwise.
    let ring = options(key).reader_slots(1024).create(&name).expect("within kernel.sem");
    assert_eq!(sets(key), 1);
    drop(ring);
    assert_eq!(sets(key), 0);
}

/// In a world of its own, where a set has two semaphores at most.
fn cramped(name: &str) {
    if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC) {
        return say(format_args!("cannot {errno}"));
    }
    std::fs::write("/proc/sys/kernel/sem", "2 100 10 100").expect("limits of this process's own");
    let refused = smallest().wakeup(Wakeup::SysvSemaphore).create(name).err().map(|error| error.to_string());
    let told = refused.as_ref().is_some_and(|error| error.contains("kernel.sem") && error.contains(name));
    assert!(told, "{refused:?}");
    smallest().create(name).expect("the name is free again");
    say("refused");
}

#[test]
fn a_ring_whose_set_is_refused_is_not_there_either() {
    let mut child = Child::start("cramped", &[&unique_name("cramped")]);
    let said = child.expect("");
    child.finish();
    if said != "refused" {
        support::skipped(format_args!("{said}: making a namespace takes root"));
    }
}

// ---- deaths ----

/// A writer that is killed leaves the ring and its set. The key is one of the parent's guard: the child's goes with the child.
fn killed(name: &str, key: i32, environment: &[(&str, &str)]) {
    let mut child = Child::start_with("writer", &[name, &key.to_string()], environment);
    child.expect("published");
    assert_eq!(sets(key), 1);
    child.kill();
    assert_eq!(sets(key), 1);
}

#[test]
fn what_a_killed_writer_leaves_can_be_removed() {
    let (key, name) = (guard::fresh_key(), unique_name("killed"));
    killed(&name, key, &[]);
    shmcast::remove(&name).expect("a ring of ours");
    assert_eq!(sets(key), 0);
}

#[test]
fn what_a_killed_writer_leaves_is_collected() {
    // Of its own: nobody else's rings are collected.
    let rings = tempfile::tempdir().expect("a directory");
    let environment = [("SHMCAST_DIR", rings.path().to_str().expect("UTF-8"))];
    let key = guard::fresh_key();
    killed("orphan", key, &environment);
    let mut collector = Child::start_with("collector", &[], &environment);
    assert_eq!(collector.expect("collected"), "orphan");
    collector.finish();
    assert_eq!(sets(key), 0);
}

#[test]
fn a_successor_uses_the_set_or_makes_it_anew() {
    for rebooted in [false, true] {
        let (key, name) = (guard::fresh_key(), unique_name("taken"));
        killed(&name, key, &[]);
        let wait = restless(&Options::new()).wait_for_successor(true);
        let mut reader = wait.open(&name).expect("a ring");
        assert_eq!(reader.recv().map(|record| record.payload), Ok(b"before".to_vec()));
        if rebooted {
            remove_set(key);
        }
        // Options that say otherwise change nothing: the ring has what it was created with.
        let mut successor = Options::new().open_or_create(&name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sets(key), 1);
        for record in [b"after", b"again"] {
            assert_eq!(sleep(&mut reader, || assert!(successor.publish(record).is_ok())), Ok(record.to_vec()));
        }
        drop(successor);
        assert_eq!(sets(key), 0, "it goes with the successor");
        assert_eq!(reader.recv(), Err(RecvError::Closed));
    }
}

// ---- without them ----

#[test]
fn a_set_that_is_gone_costs_naps_and_nothing_else() {
    let (key, name) = (guard::fresh_key(), unique_name("gone"));
    let mut writer = restless(&options(key)).create(&name).expect("a small ring");
    let mut reader = restless(&Options::new()).open(&name).expect("a ring");
    assert_eq!(sleep(&mut reader, || assert!(writer.publish(b"woken").is_ok())), Ok(b"woken".to_vec()));
    // While it sleeps.
    assert_eq!(
        sleep(&mut reader, || {
            remove_set(key);
            writer.publish(b"seen").expect("room");
        }),
        Ok(b"seen".to_vec())
    );
    let start = Instant::now();
    let timeout = Duration::from_millis(50);
    assert_eq!(reader.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
    assert!(start.elapsed() >= timeout);
    // The other direction.
    while writer.try_publish(&[0; 100]).is_ok() {}
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| while reader.recv_timeout(LIMIT).is_ok_and(|record| record.len() != 2000) {});
        writer.publish(&[1; 2000]).expect("room");
        taken.join().expect("no panic");
    });
}

/// Whoever may write the registry could make the C library do anything, so where others may, nobody sleeps on a semaphore, nor posts one.
#[test]
fn where_others_may_write_nobody_touches_a_semaphore() {
    for how in ["posix", "sysv"] {
        let (mut writer, door) = support::file(&woken_by(restless(&smallest()), how));
        let Door::File(directory) = &door else { unreachable!("a file ring") };
        let registry = directory.path().join("ring.registry");
        let set_mode = |mode| {
            std::fs::set_permissions(&registry, std::fs::Permissions::from_mode(mode)).expect("our own");
        };
        set_mode(0o620);
        let mut stranger = door.reader(&restless(&Options::new()));
        set_mode(0o600);
        let mut friend = door.reader(&restless(&Options::new()));
        let semaphores = || {
            let bytes = std::fs::read(&registry).expect("a registry");
            // Where the slots are, by the table of regions; the reader's own flag is the fourth word.
            let slots = usize::from_ne_bytes(bytes[288..296].try_into().expect("a word"));
            [0, 1].map(|slot| bytes[slots + slot * 128 + 24])
        };
        let nap = || {
            assert_eq!(semaphores(), [0, 0], "it naps, unseen");
            writer.publish(b"x").expect("room");
        };
        assert_eq!(sleep(&mut stranger, nap), Ok(b"x".to_vec()));
        assert_eq!(friend.recv().map(|record| record.payload), Ok(b"x".to_vec()));
        let night = || {
            assert_eq!(semaphores(), [0, 1]);
            writer.publish(b"y").expect("room");
            assert_eq!(semaphores(), [0, 0]);
        };
        assert_eq!(sleep(&mut friend, night), Ok(b"y".to_vec()));
    }
}
