//! What goes wrong on purpose: names, permissions, planted things, full file systems. Every error is typed, and nothing
//! that was there before is touched.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::{Uid, geteuid, mkfifo, setuid};
use shmcast::{CreateError, OpenError, Options, Reader, RemoveError, TryRecvError, Writer, remove, remove_file};
use support::{Child, hear, role, say, smallest, unique_name};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65534;

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "stranger" => stranger(Path::new(&arguments[0])),
        "full tmpfs" => full_tmpfs(Path::new(&arguments[0])),
        "named" => named_writer(&arguments[0]),
        other => panic!("no role {other:?}"),
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What an operation must answer, as the name of the variant.
fn variant<T>(result: Result<T, impl std::fmt::Debug + std::fmt::Display>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() > 20, "one line that says what to do: {message:?}");
            let debug = format!("{error:?}");
            debug.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

// ---- names ----

#[test]
fn a_taken_name_is_refused_and_the_ring_that_has_it_goes_on() {
    let name = unique_name("taken");
    let mut writer = Writer::create(&name).expect("a ring");
    let mut reader = Reader::open(&name).expect("a ring");
    match Writer::create(&name) {
        Err(CreateError::NameTaken { path }) => assert!(path.ends_with(&name), "{}", path.display()),
        other => panic!("{other:?}"),
    }
    let directory = directory();
    let path = directory.path().join("ring");
    let _writer = smallest().create_file(&path).expect("a ring");
    assert_eq!(variant(smallest().create_file(&path)), "NameTaken");
    assert_eq!(variant(smallest().create_file(directory.path().join("ring.registry"))), "NameTaken");
    assert_eq!(names_in(directory.path()), ["ring", "ring.registry"]);
    writer.publish(b"still").expect("room");
    assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"still".to_vec()));
}

/// The look before the work may find the name free for all of them: the last step decides.
#[test]
fn of_many_creators_of_one_name_one_wins() {
    for round in 0..50 {
        let (directory, name) = (directory(), unique_name("raced"));
        let path = directory.path().join("ring");
        let create = || if round % 2 == 0 { smallest().create_file(&path) } else { smallest().create(&name) };
        let start = std::sync::Barrier::new(4);
        let race = || {
            start.wait();
            create()
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(race));
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let open = || if round % 2 == 0 { Options::new().open_file(&path) } else { Reader::open(&name) };
        let mut reader = open().expect("one was made, whole");
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((winners.len(), losers.len()), (1, 3));
        assert!(losers.into_iter().all(|loser| variant(loser) == "NameTaken"));
        for mut writer in winners.into_iter().flatten() {
            writer.publish(b"mine").expect("room");
        }
        assert_eq!(reader.recv().map(|record| record.payload), Ok(b"mine".to_vec()));
        assert!(names_in(directory.path()).is_empty(), "no temporaries");
    }
}

#[test]
fn names_that_no_ring_can_have_are_refused_by_every_call() {
    let too_long = "x".repeat(201);
    let names = ["", ".", "..", ".a", "../a", "a/b", "/a", "/", "a b", "a\0b", "a\n", "ä", "a:b", "~", "*", &too_long];
    for name in names {
        assert_eq!(variant(Writer::create(name)), "InvalidName", "{name:?}");
        assert_eq!(variant(Reader::open(name)), "InvalidName", "{name:?}");
        assert_eq!(variant(remove(name)), "InvalidName", "{name:?}");
    }
    let longest = format!("{:x<200}", unique_name("A-1_b.c"));
    for name in [longest.as_str(), &unique_name("..")[2..], &format!("-{}", unique_name("_"))] {
        let _writer = smallest().create(name).unwrap_or_else(|error| panic!("{error}"));
        Reader::open(name).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let (name, directory) = (unique_name("missing"), directory());
    assert_eq!(variant(Reader::open(&name)), "NotFound");
    assert_eq!(variant(remove(&name)), "NotFound");
    for path in [directory.path().join("ring"), directory.path().join("no/such/directory/ring")] {
        assert_eq!(variant(Options::new().open_file(&path)), "NotFound");
        assert_eq!(variant(remove_file(&path)), "NotFound");
    }
    assert_eq!(variant(smallest().create_file(directory.path().join("no/ring"))), "Io");
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn a_ring_goes_with_its_writer_unless_it_is_kept() {
    let (name, directory) = (unique_name("kept"), directory());
    let path = directory.path().join("ring");
    drop((smallest().create(&name).expect("a ring"), smallest().create_file(&path).expect("a ring")));
    assert_eq!(
        (variant(Reader::open(&name)), variant(Options::new().open_file(&path))),
        ("NotFound".into(), "NotFound".into())
    );
    assert!(names_in(directory.path()).is_empty());
    let keep = smallest().keep(true);
    for mut writer in [keep.create(&name).expect("a ring"), keep.create_file(&path).expect("a ring")] {
        writer.publish(b"kept").expect("room");
    }
    for mut reader in [Reader::open(&name).expect("it was kept"), Options::new().open_file(&path).expect("it was kept")]
    {
        assert_eq!(reader.recv().map(|record| record.payload), Ok(b"kept".to_vec()));
        assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    }
    assert_eq!((variant(remove(&name)), variant(remove_file(&path))), ("Ok".into(), "Ok".into()));
    assert_eq!((variant(remove(&name)), variant(remove_file(&path))), ("NotFound".into(), "NotFound".into()));
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn a_removed_ring_goes_on_for_those_who_have_it() {
    let name = unique_name("removed");
    let mut writer = smallest().create(&name).expect("a ring");
    let mut reader = Reader::open(&name).expect("a ring");
    remove(&name).expect("a ring of ours");
    assert_eq!(variant(Reader::open(&name)), "NotFound");
    for _ in 0..500 {
        writer.try_publish(&[1; 100]).expect("room");
        assert_eq!(reader.try_recv().map(|record| record.len()), Ok(100));
    }
    drop(writer);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn the_writer_of_a_replaced_ring_leaves_the_new_one_alone() {
    let (name, directory) = (unique_name("replaced"), directory());
    let path = directory.path().join("ring");
    let old = (smallest().create(&name).expect("a ring"), smallest().create_file(&path).expect("a ring"));
    remove(&name).expect("a ring of ours");
    remove_file(&path).expect("a ring of ours");
    let mut new = [smallest().create(&name).expect("a free name"), smallest().create_file(&path).expect("a free name")];
    drop(old);
    let readers = [Reader::open(&name).expect("it is there"), Options::new().open_file(&path).expect("it is there")];
    for (writer, mut reader) in new.iter_mut().zip(readers) {
        writer.publish(b"new").expect("room");
        assert_eq!(reader.try_recv().map(|record| record.payload), Ok(b"new".to_vec()));
    }
}

// ---- planted things ----

#[test]
fn planted_things_are_refused_and_left_as_they_are() {
    let directory = directory();
    let (path, target) = (directory.path().join("ring"), directory.path().join("target"));
    fs::write(&target, "precious").expect("a file");
    let symlinked = |to: &str| symlink(to, &path).expect("a link");
    type Plant<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str, &'a str);
    let plants: [Plant<'_>; 7] = [
        ("a file", Box::new(|| fs::write(&path, "precious").expect("a file")), "Format", "NotARing"),
        ("an empty file", Box::new(|| fs::write(&path, "").expect("a file")), "Format", "NotARing"),
        ("a large file", Box::new(|| fs::write(&path, [b'x'; 20_000]).expect("a file")), "Format", "NotARing"),
        ("a link", Box::new(|| symlinked("target")), "NotARing", "NotARing"),
        ("a dangling link", Box::new(|| symlinked("nowhere")), "NotARing", "NotARing"),
        ("a directory", Box::new(|| fs::create_dir(&path).expect("a directory")), "NotARing", "NotARing"),
        ("a FIFO", Box::new(|| mkfifo(&path, Mode::S_IRWXU).expect("a FIFO")), "NotARing", "NotARing"),
    ];
    for (what, plant, open, removed) in plants {
        plant();
        let before = (names_in(directory.path()), fs::symlink_metadata(&path).expect("a thing").len());
        assert_eq!(variant(smallest().create_file(&path)), "NameTaken", "{what}");
        assert_eq!(variant(Options::new().open_file(&path)), open, "{what}");
        assert_eq!(variant(Options::new().lossy(true).open_file(&path)), open, "{what}");
        assert_eq!(variant(remove_file(&path)), removed, "{what}");
        assert_eq!((names_in(directory.path()), fs::symlink_metadata(&path).expect("a thing").len()), before, "{what}");
        if fs::symlink_metadata(&path).expect("a thing").is_dir() {
            fs::remove_dir(&path).expect("a directory");
        } else {
            fs::remove_file(&path).expect("a thing");
        }
    }
    assert_eq!(fs::read(&target).expect("a file"), b"precious");
}

#[test]
fn a_planted_registry_is_refused_and_left_as_it_is() {
    let directory = directory();
    let (path, registry) = (directory.path().join("ring"), directory.path().join("ring.registry"));
    fs::write(directory.path().join("target"), "precious").expect("a file");
    symlink("target", &registry).expect("a link");
    assert_eq!(variant(smallest().create_file(&path)), "NameTaken");
    fs::remove_file(&registry).expect("a link");
    let _writer = smallest().create_file(&path).expect("a ring");
    fs::rename(&registry, directory.path().join("aside")).expect("a file");
    assert_eq!(variant(Options::new().open_file(&path)), "NotARing", "the registry is missing");
    mkfifo(&registry, Mode::S_IRWXU).expect("a FIFO");
    assert_eq!(
        (variant(Options::new().open_file(&path)), variant(remove_file(&path))),
        ("NotARing".into(), "NotARing".into())
    );
    fs::remove_file(&registry).expect("a FIFO");
    symlink("target", &registry).expect("a link");
    assert_eq!(
        (variant(Options::new().open_file(&path)), variant(remove_file(&path))),
        ("NotARing".into(), "NotARing".into())
    );
    assert_eq!(fs::read(directory.path().join("target")).expect("a file"), b"precious");
    assert!(path.exists(), "the ring beside it is left alone, too");
}

#[test]
fn a_second_ring_beside_the_first_is_not_mistaken_for_it() {
    let directory = directory();
    let path = directory.path().join("ring");
    let mut writer = smallest().create_file(&path).expect("a ring");
    // Its registry has that name already: a ring named like the registry would be one file too many.
    assert_eq!(variant(smallest().create_file(directory.path().join("ring.registry"))), "NameTaken");
    let error = Options::new().open_file(directory.path().join("ring.registry"));
    assert!(matches!(error, Err(OpenError::Format { .. })), "{error:?}");
    assert_eq!(variant(remove_file(directory.path().join("ring.registry"))), "NotARing");
    writer.publish(b"x").expect("room");
    assert!(Options::new().open_file(&path).is_ok());
}

// ---- permissions ----

#[test]
fn another_user_gets_what_the_modes_allow() {
    if !geteuid().is_root() {
        return support::skipped("only root can become somebody else");
    }
    let directory = directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our directory");
    let make = |name: &str, ring: u32, registry: u32| {
        let path = directory.path().join(name);
        let mut writer = smallest().create_file(&path).expect("a ring");
        writer.publish(b"seen").expect("room");
        for (file, mode) in [(path.clone(), ring), (path.with_extension("registry"), registry)] {
            fs::set_permissions(file, Permissions::from_mode(mode)).expect("our file");
        }
        writer
    };
    let _private = make("private", 0o600, 0o600);
    let _followed = make("followed", 0o644, 0o600);
    let shared = make("shared", 0o644, 0o666);
    assert_eq!(shared.reader_count(), 0);
    let before = names_in(directory.path());
    let mut child = Child::start("stranger", &[directory.path().to_str().expect("UTF-8")]);
    child.expect("joined");
    assert_eq!(shared.reader_count(), 1, "who may write the registry is a full reader");
    assert!(!Options::new().open_file(directory.path().join("shared")).expect("a reader").can_borrow(), "not trusted");
    child.tell("go");
    child.expect("done");
    child.finish();
    assert_eq!(names_in(directory.path()), before, "nothing was removed");
}

/// Somebody who owns nothing here.
fn stranger(directory: &Path) {
    setuid(Uid::from_raw(NOBODY)).expect("root may");
    let path = |name: &str| directory.join(name);
    let lossy = Options::new().lossy(true);
    assert_eq!(variant(Options::new().open_file(path("private"))), "Permission");
    assert_eq!(variant(lossy.open_file(path("private"))), "Permission");
    // The ring alone may be read: no lossless reader, but one that follows.
    assert_eq!(variant(Options::new().open_file(path("followed"))), "NeedsRegistry");
    let mut follower = lossy.open_file(path("followed")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(follower.recv().map(|record| record.payload), Ok(b"seen".to_vec()));
    assert!(follower.recv_timeout(Duration::from_millis(5)).is_err(), "it can wait, too");
    let mut full = Options::new().open_file(path("shared")).unwrap_or_else(|error| panic!("{error}"));
    assert!(!full.can_borrow(), "the writer's user is another one");
    assert!(matches!(full.try_recv_ref(), Err(TryRecvError::NotBorrowable)));
    assert_eq!(full.recv().map(|record| record.payload), Ok(b"seen".to_vec()));
    say("joined");
    hear();
    for name in ["private", "followed", "shared"] {
        let answer = variant(remove_file(path(name)));
        assert!(answer == "Permission", "{name}: {answer}");
    }
    assert_eq!(variant(Options::new().capacity(4096).create_file(path("mine"))), "Permission");
    say("done");
}

#[test]
fn a_stranger_with_a_ring_directory_of_his_own_is_nobodys_problem() {
    let directory = directory();
    let rings = directory.path().join("rings");
    let mut child = Child::start_with("named", &["prices"], &[("SHMCAST_DIR", rings.to_str().expect("UTF-8"))]);
    child.expect("created");
    assert_eq!(names_in(&rings), ["prices"]);
    let mode = |path: &Path| fs::metadata(path).expect("a path").permissions().mode() & 0o7777;
    assert_eq!(
        [
            mode(&rings),
            mode(&rings.join("prices")),
            mode(&rings.join("prices/ring")),
            mode(&rings.join("prices/registry"))
        ],
        [0o700, 0o700, 0o600, 0o600]
    );
    // Not found where this process looks.
    assert_eq!(variant(Reader::open("prices")), "NotFound");
    child.tell("go");
    child.finish();
    assert!(names_in(&rings).is_empty());
}

fn named_writer(name: &str) {
    let mut writer = smallest().create(name).unwrap_or_else(|error| panic!("{error}"));
    let mut reader = Reader::open(name).unwrap_or_else(|error| panic!("{error}"));
    writer.publish(b"x").expect("room");
    assert_eq!(reader.recv().map(|record| record.payload), Ok(b"x".to_vec()));
    say("created");
    hear();
}

// ---- space ----

#[test]
fn a_ring_that_does_not_fit_is_refused_before_anything_is_written() {
    let directory = directory();
    match Options::new().capacity(1 << 40).create_file(directory.path().join("ring")) {
        Err(CreateError::NoSpace { needed, available, .. }) => assert!(needed > 1 << 40 && available < needed),
        // A machine with a terabyte to spare: nothing was written to it all the same, because this is a tmpfs or a
        // file system that could.
        other => panic!("{other:?}"),
    }
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn a_full_file_system_is_an_error_and_never_a_bus_error() {
    let directory = directory();
    let mut child = Child::start("full tmpfs", &[directory.path().to_str().expect("UTF-8")]);
    let answer = child.expect("full tmpfs:");
    child.finish();
    match answer.strip_prefix("SKIPPED: ") {
        Some(why) => support::skipped(why),
        None => println!("{answer}"),
    }
}

/// In a mount namespace of its own, where it may mount what it likes.
fn full_tmpfs(directory: &Path) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let none: Option<&str> = None;
    let prepared = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("size=1m")));
    if let Err(errno) = prepared {
        return say(format_args!("full tmpfs: SKIPPED: no tmpfs of one's own: {errno}"));
    }
    let path = directory.join("ring");
    match Options::new().capacity(2 << 20).create_file(&path) {
        Err(CreateError::NoSpace { path: Some(named), needed, available }) => {
            assert_eq!(named, path);
            assert!(needed > 2 << 20 && available <= 1 << 20, "{needed} of {available}");
        }
        other => panic!("{other:?}"),
    }
    assert!(names_in(directory).is_empty(), "nothing is left");
    // At every number of free pages around what is needed: refused, or whole.
    let (mut refused, mut created) = (0, 0);
    for pages in 0..12usize {
        let filler = directory.join("filler");
        fs::write(&filler, vec![1; (256 - pages) * 4096]).expect("up to the brim");
        match smallest().create_file(&path) {
            Err(CreateError::NoSpace { needed, available, .. }) => {
                assert!(available <= pages as u64 * 4096 && needed > available);
                assert_eq!(names_in(directory), ["filler"], "nothing is left with {pages} pages");
                refused += 1;
            }
            Err(error) => panic!("with {pages} pages: {error}"),
            Ok(mut writer) => {
                // Fill whatever is left: what was reserved stays reserved.
                let _ = fs::write(directory.join("more"), vec![1; 64 * 4096]);
                let mut reader = Options::new().open_file(&path).expect("a whole ring");
                for _ in 0..500 {
                    writer.try_publish(&[5; 100]).expect("room");
                    reader.try_recv().expect("a record");
                }
                drop(writer);
                let _ = fs::remove_file(directory.join("more"));
                assert_eq!(names_in(directory), ["filler"]);
                created += 1;
            }
        }
        fs::remove_file(filler).expect("a file");
    }
    assert!(refused > 2 && created > 2, "{refused} refused, {created} created");
    say(format_args!("full tmpfs: {refused} numbers of free pages refused, {created} enough"));
}

// ---- removing ----

#[test]
fn a_damaged_ring_can_be_removed_and_a_foreign_one_cannot() {
    let directory = directory();
    let path = directory.path().join("ring");
    drop(smallest().keep(true).create_file(&path).expect("a ring"));
    let mut bytes = fs::read(&path).expect("a ring");
    bytes.truncate(600);
    bytes[16] ^= 0xFF;
    fs::write(&path, &bytes).expect("a file");
    assert_eq!(variant(Options::new().open_file(&path)), "Format");
    assert_eq!(variant(remove_file(&path)), "Ok", "its magic word is ours");
    assert!(names_in(directory.path()).is_empty());
    // One word of magic decides: everything else is somebody's file.
    drop(smallest().keep(true).create_file(&path).expect("a ring"));
    let mut bytes = fs::read(&path).expect("a ring");
    bytes[0] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    assert!(matches!(remove_file(&path), Err(RemoveError::NotARing { .. })));
    assert_eq!(fs::read(&path).expect("a file"), bytes);
    assert_eq!(names_in(directory.path()), ["ring", "ring.registry"]);
}
