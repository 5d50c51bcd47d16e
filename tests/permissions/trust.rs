//! The trust table of the documentation (`src/trust.md`): what who holds which right can do at worst.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::libc;
use shmcast::layout::{HEADER_WORDS, RingLayout};
use shmcast::{OpenError, Options, Reader, RecvError, WaitStrategy};

use crate::deaths::{counting_owner, forking_owner, hold_lock, mourn, succeed};
use crate::people::{Person, can_be_others};
use crate::scene::{For, Kind, Part, Scene, Spot, WITH_FILES, open, start, variant};
use crate::support::{LIMIT, hear, say, smallest, wait_until_asleep};

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    let (spot, rest) = match arguments {
        [kind, address, rest @ ..] => (Spot::of(kind, address), rest),
        _ => return false,
    };
    let options = || Options::new().owner(Person::Owner.uid());
    match (role, rest) {
        ("mourner", [person, how]) => {
            Person::of(person).act();
            mourn(spot.open(&options().lossy(*how == "lossy").follower(*how == "follower")));
        }
        ("counting owner", []) => counting_owner(&spot),
        ("forking owner", [whom]) => forking_owner(&spot, For::of(whom)),
        ("impatient owner", []) => impatient_owner(&spot),
        ("successor", []) => succeed(&spot),
        ("locker", [person, part, kind]) => {
            Person::of(person).act();
            hold_lock(&spot, part, kind);
        }
        ("holder", [person]) => {
            Person::of(person).act();
            hold_the_writer(spot.open(&options()));
        }
        ("crowd", [person]) => {
            Person::of(person).act();
            let mut crowd = Vec::new();
            let refused = loop {
                match spot.open(&options()) {
                    Ok(reader) => crowd.push(reader),
                    Err(error) => break error,
                }
            };
            say(format_args!("joined {}, then {refused:?}", crowd.len()));
            hear();
        }
        ("ditherer", [person]) => {
            Person::of(person).act();
            dither(&spot, spot.open(&options()));
        }
        ("forger", [person]) => {
            Person::of(person).act();
            forge(&spot);
        }
        ("scribbler", [person]) => {
            Person::of(person).act();
            spot.scribble();
            say("scribbled");
        }
        ("waker", [person]) => {
            Person::of(person).act();
            wake_for_nothing(&spot);
        }
        ("sleeper", [person]) => {
            Person::of(person).act();
            sleep(spot.open(&options().wait(WaitStrategy::ParkAtOnce)));
        }
        ("resizer", [person]) => {
            Person::of(person).act();
            resize(&spot);
        }
        ("truncater", [person, part]) => {
            Person::of(person).act();
            truncate(&spot, part);
        }
        ("reader", [person]) => {
            Person::of(person).act();
            read_on(spot.open(&options().lossy(true)));
        }
        ("successor of what is left", []) => {
            Person::Owner.act();
            say(format_args!("open: {}", said(spot.open(&options()))));
            say(format_args!("take over: {}", spot.take_over(&smallest()).map_or_else(|| "-".to_owned(), said)));
            say(format_args!("remove: {}", variant(spot.remove())));
            say(format_args!("create: {}", variant(spot.create(&smallest()))));
        }
        _ => return false,
    }
    true
}

pub(crate) fn part_of(name: &str) -> Part {
    if name == "registry" { Part::Registry } else { Part::Ring }
}

fn said<T>(result: Result<T, impl std::error::Error>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |_| "Ok".to_owned())
}

// ---- holding, evicting, crowding ----

/// Joins, reads nothing, and then says what became of it.
fn hold_the_writer(reader: Result<Reader, OpenError>) {
    let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
    say("joined");
    hear();
    say(format_args!("received {:?}", reader.try_recv().map(|record| record.sequence)));
}

fn impatient_owner(spot: &Spot) {
    Person::Owner.act();
    let options = For::GroupToRead.options().stall_limit(Duration::from_millis(20));
    let mut writer = spot.create(&options).unwrap_or_else(|error| panic!("{error}"));
    say("created");
    hear();
    for _ in 0..200 {
        writer.publish_timeout(&[1; 100], LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
    say("published");
    hear();
}

#[test]
fn a_reader_of_another_user_holds_the_writer_up_to_its_stall_limit() {
    if !can_be_others() {
        return;
    }
    for kind in Kind::ALL {
        let mut scene = Scene::new(kind, For::GroupToRead);
        let mut holder = scene.start("holder", &["Member"]);
        holder.expect("joined");
        let mut published = 0;
        loop {
            scene.owner.tell("publish");
            match scene.owner.expect("published").as_str() {
                "Err(Timeout)" => break,
                _ => published += 1,
            }
            assert!(published < 100, "{kind:?}: it holds nobody");
        }
        holder.tell("go");
        holder.expect("received Ok(0)");
        holder.finish();
        scene.owner.tell("publish");
        scene.owner.expect("published Ok");

        let (spot, _directory) = Scene::spot(kind);
        let mut owner = start("impatient owner", &spot, &[]);
        owner.expect("created");
        let mut holder = start("holder", &spot, &["Member"]);
        holder.expect("joined");
        owner.tell("go");
        owner.expect("published");
        holder.tell("go");
        holder.expect("received Err(Evicted");
        owner.tell("go");
        owner.finish();
    }
}

/// Joins, and then moves its cursor back and forth, past the library: it never stands still, and never reads. (It does not
/// get far: where the writer has seen it go on, it cannot go back to.)
fn dither(spot: &Spot, reader: Result<Reader, OpenError>) {
    let _reader = reader.unwrap_or_else(|error| panic!("{error}"));
    let file = open(&spot.file(Part::Registry), true).unwrap_or_else(|errno| panic!("{errno}"));
    say("joined");
    let cursor = (HEADER_WORDS + 32 + 1) * 8;
    for step in 0_u64.. {
        file.write_all_at(&(step % 3 * 8).to_ne_bytes(), cursor as u64).expect("a word");
    }
}

#[test]
fn a_reader_of_another_user_that_moves_without_reading_holds_the_writer_no_longer() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        let (spot, _directory) = Scene::spot(kind);
        let mut owner = start("impatient owner", &spot, &[]);
        owner.expect("created");
        let mut ditherer = start("ditherer", &spot, &["Member"]);
        ditherer.expect("joined");
        owner.tell("go");
        owner.expect("published");
        ditherer.kill();
        owner.tell("go");
        owner.finish();
    }
}

/// Marks every slot of the registry as free, past the library.
fn forge(spot: &Spot) {
    let file = open(&spot.file(Part::Registry), true).unwrap_or_else(|errno| panic!("{errno}"));
    for slot in 0..4 {
        let state = (HEADER_WORDS + 32 + slot * 16) * 8;
        file.write_all_at(&0_u64.to_ne_bytes(), state as u64).expect("a word");
    }
    say("forged");
}

#[test]
fn a_reader_of_another_user_can_evict_another_reader_which_is_told() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        let mut scene = Scene::new(kind, For::GroupToRead);
        let mut victim = scene.start("holder", &["Owner"]);
        victim.expect("joined");
        scene.start("forger", &["Member"]).expect("forged");
        for _ in 0..60 {
            scene.owner.tell("publish");
            scene.owner.expect("published Ok");
        }
        victim.tell("go");
        victim.expect("received Err(Evicted");
    }
}

#[test]
fn readers_of_another_user_can_take_every_slot_and_lossy_ones_still_join() {
    if !can_be_others() {
        return;
    }
    for kind in Kind::ALL {
        let scene = Scene::new(kind, For::GroupToRead);
        let mut crowd = scene.start("crowd", &["Member"]);
        crowd.expect("joined 4, then NoFreeSlot");
        let mut late = scene.start("reader", &["Owner"]);
        late.expect("joined");
        let mut refused = scene.start("crowd", &["Owner"]);
        refused.expect("joined 0, then NoFreeSlot");
        // They are free again with the process that held them, where its death is seen.
        crowd.kill();
        if kind != Kind::Sysv {
            scene.start("crowd", &["Owner"]).expect("joined 4");
        }
    }
}

/// Nobody can open it any more; the writer goes on with those it has, and its owner can remove it.
#[test]
fn a_reader_of_another_user_can_spoil_the_registry_and_its_owner_removes_the_ring() {
    if !can_be_others() {
        return;
    }
    for kind in Kind::ALL {
        let mut scene = Scene::new(kind, For::GroupToRead);
        let mut reader = scene.start("holder", &["Owner"]);
        reader.expect("joined");
        scene.start("scribbler", &["Member"]).expect("scribbled");
        scene.owner.tell("publish");
        scene.owner.expect("published Ok(1)");
        reader.tell("go");
        reader.expect("received Ok(0)");
        scene.owner.kill();
        what_is_left_is_refused(&scene, "magic");
    }
}

// ---- wakes ----

/// Wakes whoever sleeps for records, through a mapping that can only be read.
fn wake_for_nothing(spot: &Spot) {
    let file = open(&spot.file(Part::Ring), false).unwrap_or_else(|errno| panic!("{errno}"));
    let length = file.metadata().expect("a file").len();
    let mut header = [0; HEADER_WORDS];
    for (at, word) in header.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at as u64 * 8).expect("a header");
        *word = u64::from_ne_bytes(bytes);
    }
    let wake = RingLayout::parse(&header, length).expect("a ring").wake();
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).expect("it may be read");
    let low = usize::from(cfg!(target_endian = "big"));
    // SAFETY: the word lies within the file, by its layout.
    let word = unsafe { map.as_ptr().cast::<u32>().add(wake.0 * 2 + low) };
    let mut woken = 0;
    say("wakes");
    // Some of the calls find somebody asleep.
    while woken < 1000 {
        // SAFETY: the call looks at no memory; it takes the address for a name.
        let count = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
        assert!(count >= 0, "a follower may wake");
        woken += count;
    }
    say("woke 1000");
}

/// Sleeps for the second record, and for nothing else.
fn sleep(reader: Result<Reader, OpenError>) {
    let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reader.recv().map(|record| record.sequence), Ok(0));
    say(format_args!("sleeps {} {}", std::process::id(), nix::unistd::gettid()));
    say(format_args!("woken {:?}", reader.recv_timeout(LIMIT).map(|record| record.sequence)));
}

/// Sleeps for each record, and tells what it got.
fn read_on(reader: Result<Reader, OpenError>) {
    let mut reader = reader.unwrap_or_else(|error| panic!("{error}"));
    say(format_args!("joined {} {}", std::process::id(), nix::unistd::gettid()));
    let mut next = 0;
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.sequence, next, "in order");
                next += 1;
            }
            Err(RecvError::Closed | RecvError::WriterDied) => return say(format_args!("received {next}")),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_follower_can_wake_readers_for_nothing_and_nothing_comes_of_it() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        let mut scene = Scene::new(kind, For::AllToFollow);
        let mut sleeper = scene.start("sleeper", &["Owner"]);
        let [process, thread] = sleeper.expect_numbers("sleeps");
        wait_until_asleep(u32::try_from(process).expect("a number"), i32::try_from(thread).expect("a number"));
        let mut waker = scene.start("waker", &["Other"]);
        waker.expect("wakes");
        waker.expect("woke 1000");
        assert_eq!(sleeper.try_expect("woken"), None, "{kind:?}: there was nothing to wake for");
        scene.owner.tell("publish");
        scene.owner.expect("published Ok(1)");
        sleeper.expect("woken Ok(1)");
        sleeper.finish();
    }
}

// ---- truncation ----

fn truncate(spot: &Spot, part: &str) {
    let path = spot.file(part_of(part));
    nix::unistd::truncate(&path, 0).unwrap_or_else(|errno| panic!("{errno}"));
    say("truncated");
}

/// The kernel has no means against it: who may write a file may truncate it, and then whoever has it mapped gets SIGBUS. It
/// ends that process, and damages nothing; and every later call says what is wrong.
#[test]
fn who_may_write_a_file_may_truncate_it_and_what_is_left_is_refused() {
    if !can_be_others() {
        return;
    }
    for kind in WITH_FILES {
        // A reader of another user truncates what he writes: the writer's end.
        let mut scene = Scene::new(kind, For::GroupToRead);
        scene.start("truncater", &["Member", "registry"]).expect("truncated");
        scene.owner.tell("publish");
        assert_eq!(ended_by(scene.owner.end()), "SIGBUS", "{kind:?}: the writer");
        what_is_left_is_refused(&scene, "registry");

        // The owner truncates the ring: the end of those who read it, whoever they are.
        let mut scene = Scene::new(kind, For::AllToFollow);
        let mut reader = scene.start("reader", &["Other"]);
        reader.expect("joined");
        scene.start("truncater", &["Owner", "ring"]).expect("truncated");
        assert_eq!(ended_by(reader.end()), "SIGBUS", "{kind:?}: a reader");
        scene.owner.kill();
        what_is_left_is_refused(&scene, "ring");
    }
}

fn ended_by(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok());
    signal.map_or_else(|| status.to_string(), |signal| signal.to_string())
}

fn what_is_left_is_refused(scene: &Scene, part: &str) {
    let mut heir = scene.start("successor of what is left", &[]);
    let opened = heir.expect("open:");
    let what = format!("Truncated {{ segment: {part:?}");
    assert!(opened.starts_with("Format") && (part == "magic" || opened.contains(&what)), "{opened}");
    assert!(heir.expect("take over:").starts_with(if scene.spot.kind == Kind::Sysv { "-" } else { "TakeOver" }));
    // The other part shows that it was a ring; and the name is free again.
    heir.expect("remove: Ok");
    heir.expect("create: Ok");
    heir.finish();
}

/// A segment without a length that anybody could change: no truncation, no SIGBUS.
#[test]
fn system_v_segments_cannot_be_truncated() {
    if !can_be_others() {
        return;
    }
    let mut scene = Scene::new(Kind::Sysv, For::AllToRead);
    for person in ["Other", "Member", "Owner"] {
        let mut resizer = scene.start("resizer", &[person]);
        resizer.expect("resized nothing");
        scene.owner.tell("publish");
        scene.owner.expect("published Ok");
    }
}

fn resize(spot: &Spot) {
    use nix::errno::Errno;
    let key: i32 = spot.address.parse().expect("a number");
    for key in [key, key + 1] {
        // SAFETY: no memory is involved.
        let id = Errno::result(unsafe { libc::shmget(key, 0, 0) }).expect("a segment");
        // SAFETY: no memory is involved.
        let larger = Errno::result(unsafe { libc::shmget(key, 1 << 24, 0) });
        assert_eq!(larger, Err(Errno::EINVAL));
        let look = || {
            let mut stat = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
            // SAFETY: `stat` is a place for the answer.
            Errno::result(unsafe { libc::shmctl(id, libc::IPC_STAT, stat.as_mut_ptr()) }).expect("it may be read");
            // SAFETY: integers, zeroed and then answered.
            unsafe { stat.assume_init() }
        };
        let before = look();
        let mut smaller = before;
        smaller.shm_segsz = 0;
        // SAFETY: `smaller` is what is read.
        let set = Errno::result(unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut smaller) });
        // The owner may set the mode; the size is none of it.
        let owner = nix::unistd::geteuid().as_raw() == before.shm_perm.uid;
        assert_eq!(set.is_ok(), owner);
        assert_eq!(look().shm_segsz, before.shm_segsz);
    }
    say("resized nothing");
}
