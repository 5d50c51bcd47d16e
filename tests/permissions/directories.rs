//! Directories: in which rings may be created and opened, and that nothing but the ring directory can be reached.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use shmcast::{Options, Reader, RingState};

use crate::people::{Person, TEAM, can_be_others};
use crate::scene::{For, variant};
use crate::support::{Child, LIMIT, hear, say, skipped, smallest, unique_name};

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("creator", [person, whom, mask]) => create(Person::of(person), For::of(whom), mask),
        ("visitor", [person, name]) => visit(Person::of(person), name),
        ("first of all", []) => first_of_all(),
        ("restless creator", []) => create_restlessly(),
        ("rival", [person, name]) => compete(Person::of(person), name),
        _ => return false,
    }
    true
}

/// A place for ring directories, where anybody may make one.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        set_mode(directory.path(), 0o1777);
        Place { directory }
    }

    fn rings(&self) -> PathBuf {
        self.directory.path().join("rings")
    }

    /// A ring directory of this person's.
    fn with(owner: Person, mode: u32) -> Place {
        let place = Place::new();
        fs::create_dir(place.rings()).expect("a free name");
        let group = if owner == Person::Owner { TEAM } else { owner.uid() };
        chown(place.rings(), Some(owner.uid()), Some(group)).expect("root may");
        set_mode(&place.rings(), mode);
        place
    }

    fn start(&self, role: &str, arguments: &[&str]) -> Child {
        Child::start_with(role, arguments, &[("SHMCAST_DIR", self.rings().to_str().expect("UTF-8"))])
    }

    /// A ring in it, and the process that has it.
    fn ring(&self, person: Person, whom: For) -> Child {
        let mut child = self.start("creator", &[&format!("{person:?}"), &format!("{whom:?}"), "77"]);
        child.expect("create: Ok");
        child
    }

    fn visit(&self, person: Person, name: &str) -> Child {
        self.start("visitor", &[&format!("{person:?}"), name])
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a path").permissions().mode() & 0o7777
}

fn create(person: Person, whom: For, mask: &str) {
    person.act();
    umask(Mode::from_bits_truncate(u32::from_str_radix(mask, 8).expect("a mask")));
    let mut created = whom.options().create("prices");
    if let Ok(writer) = &mut created {
        writer.publish(b"seen").expect("room");
    }
    say(format_args!("create: {}", variant(created.as_ref())));
    hear();
    drop(created);
    say("gone");
}

/// Opens a ring in each way, looks at the list, and clears up.
fn visit(person: Person, name: &str) {
    person.act();
    say(format_args!("open: {}", variant(Reader::open(name))));
    let followed = Options::new().lossy(true).open(name);
    say(format_args!("follow: {}", variant(followed)));
    for owner in [Person::Owner, Person::Other] {
        let followed = Options::new().follower(true).owner(owner.uid()).open(name);
        if let Ok(follower) = &followed {
            assert!(follower.is_follower() && !follower.is_lossless());
        }
        say(format_args!("of {owner:?}: {}", variant(followed)));
    }
    let state = match shmcast::list() {
        Err(error) => format!("{:?}", error.kind()),
        Ok(rings) => match rings.iter().find(|ring| ring.name == name).map(|ring| &ring.state) {
            Some(RingState::Live { .. }) => "Live".to_owned(),
            other => format!("{other:?}"),
        },
    };
    say(format_args!("listed: {state}"));
    say(format_args!("cleared: {:?}", shmcast::gc().map_err(|error| error.kind())));
}

/// Wants the ring for himself.
fn compete(person: Person, name: &str) {
    person.act();
    say(format_args!("create: {}", variant(smallest().create(name))));
    say(format_args!("take over: {}", variant(smallest().open_or_create(name))));
}

// ---- creating ----

#[test]
fn rings_are_created_where_nobody_can_exchange_them() {
    if !can_be_others() {
        return;
    }
    use For::{AllToFollow, GroupToRead, Me};
    use Person::{Other, Owner, Root};
    // The directory's owner and mode (none: it is made), who creates, for whom, the answer, and the mode then.
    let table = [
        (None, Owner, Me, "Ok", 0o700),
        (None, Owner, AllToFollow, "Ok", 0o1777),
        (None, Other, GroupToRead, "Group", 0),
        (Some((Root, 0o1777)), Owner, Me, "Ok", 0o1777),
        (Some((Root, 0o1777)), Other, AllToFollow, "Ok", 0o1777),
        (Some((Root, 0o755)), Owner, Me, "Permission", 0o755),
        (Some((Root, 0o777)), Owner, Me, "RingDirectory", 0o777),
        (Some((Owner, 0o700)), Owner, Me, "Ok", 0o700),
        // Somebody chose that mode.
        (Some((Owner, 0o700)), Owner, AllToFollow, "RingDirectory", 0o700),
        (Some((Owner, 0o710)), Owner, GroupToRead, "Ok", 0o710),
        (Some((Owner, 0o710)), Owner, AllToFollow, "RingDirectory", 0o710),
        (Some((Owner, 0o775)), Owner, Me, "RingDirectory", 0o775),
        (Some((Owner, 0o1777)), Owner, AllToFollow, "Ok", 0o1777),
        (Some((Owner, 0o1777)), Other, Me, "RingDirectory", 0o1777),
        (Some((Owner, 0o1777)), Root, Me, "RingDirectory", 0o1777),
    ];
    for (directory, person, whom, answer, then) in table {
        let place = directory.map_or_else(Place::new, |(owner, mode)| Place::with(owner, mode));
        let mut child = place.start("creator", &[&format!("{person:?}"), &format!("{whom:?}"), "0"]);
        let row = format!("{directory:?}: {person:?} for {whom:?}");
        assert_eq!(child.expect("create:"), answer, "{row}");
        println!("{row}: {answer}");
        if then != 0 {
            assert_eq!(mode(&place.rings()), then, "{row}");
        }
        child.tell("go");
        child.expect("gone");
        child.finish();
        let left = fs::read_dir(place.rings()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{row}: nothing stays");
    }
}

#[test]
fn the_umask_changes_no_mode_and_the_group_is_the_one_that_was_named() {
    if !can_be_others() {
        return;
    }
    for mask in ["0", "22", "77", "777"] {
        let place = Place::new();
        let mut child = place.start("creator", &["Owner", "AllToFollowGroupToRead", mask]);
        child.expect("create: Ok");
        let ring = place.rings().join("prices");
        let files = [("", 0o711), ("ring", 0o644), ("registry", 0o660)];
        assert_eq!(mode(&place.rings()), 0o1777, "umask {mask}");
        for (file, wanted) in files {
            assert_eq!(mode(&ring.join(file)), wanted, "umask {mask}: {file:?}");
            assert_eq!(fs::metadata(ring.join(file)).expect("a path").gid(), TEAM, "umask {mask}: {file:?}");
        }
        assert_eq!(mode(&ring.join("lease")), 0o600, "nobody else's, in any case");
        child.tell("go");
        child.finish();
    }
}

#[test]
fn the_default_directory_is_opened_to_all_by_the_first_shared_ring() {
    if !can_be_others() {
        return;
    }
    let names = [unique_name("private"), unique_name("shared")];
    let _private = smallest().create(&names[0]).expect("a ring");
    let shared = For::AllToFollow.options().create(&names[1]).expect("a ring");
    let rings = Path::new("/dev/shm/shmcast");
    assert_eq!(mode(rings), 0o1777);
    assert_eq!([mode(&rings.join(&names[0])), mode(&rings.join(&names[1]))], [0o700, 0o711]);
    let mut child = Child::start("visitor", &["Other", &names[1]]);
    child.expect("open: NeedsRegistry");
    child.expect("follow: Ok");
    drop(shared);
}

// ---- opening ----

#[test]
fn who_takes_a_name_first_is_not_mistaken_for_who_was_meant() {
    if !can_be_others() {
        return;
    }
    let place = Place::with(Person::Root, 0o1777);
    let mut squatter = place.ring(Person::Other, For::AllToRead);
    // The one who was meant cannot create his ring, and is told; he does not read the other one.
    let mut rival = place.start("rival", &["Owner", "prices"]);
    rival.expect("create: NameTaken");
    rival.expect("take over: TakeOver");
    rival.finish();
    let mut visitor = place.visit(Person::Owner, "prices");
    visitor.expect("open: ForeignOwner");
    visitor.expect("follow: ForeignOwner");
    visitor.expect("of Owner: ForeignOwner");
    visitor.expect("of Other: Ok");
    visitor.expect("listed: Some(Hidden)");
    visitor.expect("cleared: Ok([])");
    visitor.finish();
    squatter.tell("go");
    squatter.finish();
    // What root makes is everybody's to read without more ado.
    let _writer = place.ring(Person::Root, For::AllToFollow);
    let mut visitor = place.visit(Person::Owner, "prices");
    visitor.expect("open: NeedsRegistry");
    visitor.expect("follow: Ok");
}

/// In a mount namespace of its own, where nobody has made the default ring directory yet.
fn first_of_all() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let none: Option<&str> = None;
    let prepared = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=1777")));
    if let Err(errno) = prepared {
        return say(format_args!("first: SKIPPED: no /dev/shm of one's own: {errno}"));
    }
    let mut squatter = Child::start("creator", &["Other", "AllToRead", "0"]);
    squatter.expect("create: Ok");
    let mut rival = Child::start("rival", &["Owner", "prices"]);
    rival.expect("create: RingDirectory");
    rival.expect("take over: RingDirectory");
    rival.finish();
    let mut visitor = Child::start("visitor", &["Owner", "prices"]);
    visitor.expect("open: ForeignOwner");
    visitor.expect("follow: ForeignOwner");
    visitor.expect("of Owner: ForeignOwner");
    visitor.expect("of Other: Ok");
    visitor.expect("listed: Some(Hidden)");
    visitor.finish();
    squatter.tell("go");
    squatter.finish();
    assert!(!Path::new("/dev/shm/shmcast").exists(), "it goes with its last ring");
    say("first: nobody believed him");
}

#[test]
fn who_makes_the_default_directory_first_is_not_believed_either() {
    if !can_be_others() {
        return;
    }
    let mut child = Child::start_with("first of all", &[], &[("SHMCAST_DIR", "")]);
    let answer = child.expect("first:");
    child.finish();
    if let Some(why) = answer.strip_prefix("SKIPPED: ") {
        skipped(why);
    }
}

#[test]
fn an_owner_may_be_named_and_must_exist() {
    let name = unique_name("named-owner");
    let writer = smallest().create(&name).expect("a ring");
    assert_eq!(variant(Options::new().owner("no such user").open(&name)), "UnknownUser");
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    if let Some(me) = me {
        assert_eq!(variant(Options::new().owner(me.name.as_str()).open(&name)), "Ok");
    }
    assert_eq!(variant(Options::new().owner(nix::unistd::geteuid().as_raw()).open(&name)), "Ok");
    let follower = Options::new().follower(true).open(&name).expect("it may be read");
    assert!(follower.is_follower() && !follower.is_lossless());
    assert_eq!(writer.reader_count(), 0, "although it could have a slot");
    let joined = Options::new().follower(true).join(&writer.subscriber()).expect("it is this process's own");
    assert_eq!((joined.is_follower(), writer.reader_count()), (true, 0));
    let lossy = Options::new().lossy(true).open(&name).expect("it may be read");
    assert_eq!((lossy.is_follower(), writer.reader_count()), (false, 1));
    let error = Options::new().owner(61_005).open(&name).expect_err("another's").to_string();
    assert!(error.contains("not 61005"), "{error}");
    assert_eq!(variant(smallest().readers(shmcast::Access::Group).group("no such group").create("a")), "UnknownGroup");
}

/// A directory that a third user owns, or that anybody can rename things in, is no ring directory.
#[test]
fn rings_are_not_opened_where_a_third_user_can_exchange_them() {
    if !can_be_others() {
        return;
    }
    for (owner, mode) in [(Person::Member, 0o1777), (Person::Root, 0o777)] {
        let place = Place::with(Person::Root, 0o1777);
        let _writer = place.ring(Person::Owner, For::AllToRead);
        chown(place.rings(), Some(owner.uid()), None).expect("root may");
        set_mode(&place.rings(), mode);
        let mut visitor = place.visit(Person::Other, "prices");
        visitor.expect("open: RingDirectory");
        visitor.expect("follow: RingDirectory");
        visitor.expect("of Owner: RingDirectory");
        visitor.expect("of Other: RingDirectory");
    }
}

/// Each part of a ring, as a link, or as another user's.
#[test]
fn every_part_of_a_ring_is_its_owners_and_no_link() {
    if !can_be_others() {
        return;
    }
    let place = Place::with(Person::Root, 0o1777);
    let mut writer = place.ring(Person::Owner, For::AllToRead);
    let ring = place.rings().join("prices");
    let opened = |answer: &str| {
        let mut visitor = place.visit(Person::Owner, "prices");
        visitor.expect(&format!("open: {answer}"));
    };
    opened("Ok");
    for part in ["ring", "registry", "lease"] {
        let (file, aside) = (ring.join(part), ring.join("aside"));
        fs::rename(&file, &aside).expect("root may");
        symlink("aside", &file).expect("a free name");
        opened("NotARing");
        fs::remove_file(&file).expect("a link");
        fs::rename(&aside, &file).expect("root may");
        opened("Ok");
        if part != "ring" {
            chown(&file, Some(Person::Other.uid()), None).expect("root may");
            set_mode(&file, 0o666);
            opened("NotARing");
            chown(&file, Some(Person::Owner.uid()), None).expect("root may");
        }
    }
    set_mode(&ring, 0o777);
    opened("NotARing");
    set_mode(&ring, 0o711);
    chown(&ring, Some(Person::Other.uid()), None).expect("root may");
    opened("NotARing");
    chown(&ring, Some(Person::Owner.uid()), None).expect("root may");
    opened("Ok");
    writer.tell("go");
    writer.finish();
}

/// Whatever takes the place of a ring's directory meanwhile: a writer's end removes what it created, and where it was.
#[test]
fn the_end_of_a_writer_follows_no_link_out_of_the_ring_directory() {
    if !can_be_others() {
        return;
    }
    let place = Place::with(Person::Root, 0o1777);
    let mut writer = place.ring(Person::Owner, For::Me);
    let (ring, aside) = (place.rings().join("prices"), place.rings().join("aside"));
    let precious = place.directory.path().join("precious");
    fs::create_dir(&precious).expect("a free name");
    // The very files that the writer created, so that looking at the inode does not help.
    for part in ["ring", "registry", "lease"] {
        fs::hard_link(ring.join(part), precious.join(part)).expect("root may");
    }
    chown(&precious, Some(Person::Owner.uid()), None).expect("root may");
    fs::rename(&ring, &aside).expect("root may");
    symlink(&precious, &ring).expect("a free name");
    writer.tell("go");
    writer.expect("gone");
    writer.finish();
    assert_eq!(fs::read_dir(&precious).expect("it is there").count(), 3, "nothing outside was touched");
    assert!(
        !aside.join("ring").exists() && !aside.join("registry").exists(),
        "its own files are gone, wherever they are"
    );
}

// ---- leftovers ----

fn skip_opens(visitor: &mut Child) {
    for word in ["open:", "follow:", "of Owner:", "of Other:"] {
        visitor.expect(word);
    }
}

#[test]
fn what_is_left_of_a_ring_is_its_owners_to_clear() {
    if !can_be_others() {
        return;
    }
    let place = Place::with(Person::Owner, 0o1777);
    for (whom, live, dead) in
        [(For::AllToRead, "Live", "Orphaned"), (For::AllToFollow, "Live", "Hidden"), (For::Me, "Hidden", "Hidden")]
    {
        let mut writer = place.ring(Person::Owner, whom);
        for alive in [true, false] {
            let mut visitor = place.visit(Person::Other, "prices");
            skip_opens(&mut visitor);
            let listed = visitor.expect("listed:");
            assert!(listed.contains(if alive { live } else { dead }), "{whom:?}: {listed}");
            visitor.expect("cleared: Ok([])");
            visitor.finish();
            writer.kill();
        }
        let mut visitor = place.visit(Person::Owner, "prices");
        skip_opens(&mut visitor);
        visitor.expect("listed: Some(Orphaned");
        assert_eq!(visitor.expect("cleared:"), r#"Ok(["prices"])"#, "{whom:?}");
        visitor.finish();
        assert_eq!(fs::read_dir(place.rings()).expect("it is there").count(), 0);
    }
}

// ---- modes ----

/// While rings come and go without a umask, whoever looks sees no file with more permissions, or for another group, than
/// it is to have.
#[test]
fn no_file_of_a_ring_is_ever_more_open_than_it_is_to_be() {
    if !can_be_others() {
        return;
    }
    let place = Place::with(Person::Owner, 0o1777);
    let mut creator = place.start("restless creator", &[]);
    creator.expect("ready");
    let (mut seen, mut hidden, start) = (0, 0, std::time::Instant::now());
    while hidden < 20 {
        assert!(start.elapsed() < LIMIT, "{seen} looks, {hidden} of them at what was being made");
        let mut waiting = vec![place.rings()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                // One look: the mode and the group belong together. It may be gone.
                let Ok(stat) = fs::symlink_metadata(entry.path()) else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                let (mode, shared) = (stat.mode() & 0o7777, stat.gid() == TEAM);
                let most = match (stat.is_dir(), name.contains("registry"), name == "lease") {
                    (true, _, _) => 0o710,
                    (_, true, _) => 0o660,
                    (_, _, true) => 0o600,
                    _ => 0o640,
                };
                assert_eq!(mode & !most, 0, "{name}: {mode:o}");
                assert!(shared || mode & 0o077 == 0, "{name}: {mode:o} for another group");
                seen += 1;
                hidden += u64::from(name.starts_with('.'));
                if stat.is_dir() {
                    waiting.push(entry.path());
                }
            }
        }
    }
    fs::write(place.directory.path().join("enough"), "").expect("a free name");
    let rounds = creator.expect("done");
    creator.finish();
    println!("{seen} looks, {hidden} of them at what was being made, in {rounds} rounds");
}

/// Creates rings in files and named ones for a group, until enough have been seen in the making.
fn create_restlessly() {
    Person::Owner.act();
    umask(Mode::empty());
    say("ready");
    let rings = PathBuf::from(std::env::var_os("SHMCAST_DIR").expect("a directory"));
    let options = For::GroupToRead.options().reader_slots(1024).capacity(1 << 18);
    let mut rounds = 0;
    while !rings.with_file_name("enough").exists() {
        drop(options.create_file(rings.join("ring")).unwrap_or_else(|error| panic!("{error}")));
        drop(options.create("named").unwrap_or_else(|error| panic!("{error}")));
        rounds += 1;
    }
    say(format_args!("done {rounds}"));
}
