//! What a process can do to a ring segment in a memfd that it received: every attack that we know, on every descriptor that it can
//! get hold of, in processes of this user and of another one. The table is in the crate's documentation, under *Memfds: who can do
//! what*; a ring of each profile and a plain memfd show that each attack works where it is allowed.

mod support;

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mprotect, munmap};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::uio::pwrite;
use nix::unistd::{Gid, Uid, ftruncate, geteuid, setgid, setuid};
use shmcast::{CreateError, Handover, OpenError, Options, SharedRing, Writer};
use support::{Child, LIMIT, assert_whole, hear, record_of, role, say, skipped, smallest};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65534;
const BOUND: u64 = 300;

// ---- the attacks ----

/// A byte of the header that is always 0, so that writing it changes nothing.
const SPARE: i64 = 400;

/// An attack on an open file of so many bytes.
type Attack = fn(BorrowedFd<'_>, NonZeroUsize) -> Result<(), Errno>;

const ATTACKS: [(&str, Attack); 11] = [
    ("write", |file, _| pwrite(file, b"\0", SPARE).map(drop)),
    ("copy into it", |file, _| {
        let from = memfd_create("zeros", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&from, 1)?;
        let (mut here, mut there) = (0, SPARE);
        let (from, to) = (from.as_raw_fd(), file.as_raw_fd());
        // SAFETY: both positions are there to be read and written.
        let copied = unsafe { libc::copy_file_range(from, &raw mut here, to, &raw mut there, 1, 0) };
        if Errno::result(copied)? == 1 { Ok(()) } else { Err(Errno::EIO) }
    }),
    ("map to write", |file, size| {
        let map = Map::new(file, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        map.store();
        Ok(())
    }),
    ("make a mapping writable", |file, size| {
        let map = Map::new(file, size, ProtFlags::PROT_READ)?;
        // SAFETY: the mapping is this function's.
        unsafe { mprotect(map.at, size.get(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE) }?;
        map.store();
        Ok(())
    }),
    ("truncate", |file, _| ftruncate(file, 0)),
    ("truncate to more", |file, size| ftruncate(file, 2 * size.get() as i64)),
    ("allocate more", |file, size| fallocate(file, FallocateFlags::empty(), size.get() as i64, 4096)),
    ("seal", |file, _| fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).map(drop)),
    ("change the mode", |file, _| fchmod(file, Mode::from_bits_retain(0o666))),
    // What destroys the data comes last.
    ("remove pages", |file, size| {
        let map = Map::new(file, size, ProtFlags::PROT_READ)?;
        // SAFETY: nobody in this process has a reference to what is there.
        unsafe { madvise(map.at, 4096, MmapAdvise::MADV_REMOVE) }
    }),
    ("punch a hole", |file, _| {
        fallocate(file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 4096)
    }),
];

/// Attacks that nobody has success with, sealed or not: the kernel is to write into a mapping that may only be read.
const NEVER: [(&str, Attack); 2] = [
    ("force it by /proc/self/mem", |file, size| {
        let map = Map::new(file, size, ProtFlags::PROT_READ)?;
        let memory = open("/proc/self/mem", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        pwrite(&memory, b"\0", map.at.addr().get() as i64 + SPARE).map(drop)
    }),
    ("read into it", |file, size| {
        let map = Map::new(file, size, ProtFlags::PROT_READ)?;
        let zeros = open("/dev/zero", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let to = map.at.as_ptr().wrapping_byte_add(SPARE as usize);
        // SAFETY: that byte is mapped, and nobody in this process has a reference to it.
        Errno::result(unsafe { libc::read(zeros.as_raw_fd(), to, 1) }).map(drop)
    }),
];

/// A shared mapping of a whole file.
struct Map {
    at: NonNull<c_void>,
    size: NonZeroUsize,
}

impl Map {
    fn new(file: BorrowedFd<'_>, size: NonZeroUsize, access: ProtFlags) -> Result<Map, Errno> {
        // SAFETY: at an address that the system chooses.
        let at = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Map { at, size })
    }

    fn store(&self) {
        // SAFETY: the header is longer.
        let byte = unsafe { self.at.cast::<u8>().add(SPARE as usize) };
        // SAFETY: nobody else uses this byte; it is mapped to be written, or this test dies of it.
        unsafe { byte.write_volatile(0) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, with this length.
        let _ = unsafe { munmap(self.at, self.size.get()) };
    }
}

/// Every descriptor of the segment that this process can get hold of, and how; the others with the system's answer.
fn ways(received: BorrowedFd<'_>, writer: u32) -> Vec<(String, Result<OwnedFd, Errno>)> {
    let own = PathBuf::from(format!("/proc/self/fd/{}", received.as_raw_fd()));
    let stat = fstat(received).expect("a memfd");
    let is_it = |device, inode| (device, inode) == (stat.st_dev, stat.st_ino);
    let reopen = |path: &Path, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty());
    let mut ways = vec![("as received".to_owned(), received.try_clone_to_owned().map_err(|_| Errno::EMFILE))];
    let mut add = |name: &str, path: &Path| {
        ways.push((format!("{name}, to write"), reopen(path, OFlag::O_RDWR)));
        ways.push((format!("{name}, to write only"), reopen(path, OFlag::O_WRONLY)));
        ways.push((format!("{name}, to truncate"), reopen(path, OFlag::O_RDWR | OFlag::O_TRUNC)));
    };
    add("by /proc/self/fd", &own);
    // The writer's: its descriptors, and what it has mapped.
    for folder in ["fd", "map_files"] {
        let folder = format!("/proc/{writer}/{folder}");
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if fs::metadata(entry.path()).is_ok_and(|found| is_it(found.dev(), found.ino())) {
                add(&format!("by {folder}"), &entry.path());
            }
        }
    }
    // SAFETY: no memory is involved.
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, writer, 0) });
    for number in 0..64 {
        let taken = pidfd.and_then(|pidfd| {
            // SAFETY: no memory is involved.
            Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) })
        });
        // SAFETY: it is this process's, and nobody else's.
        let taken = taken.map(|file| unsafe { OwnedFd::from_raw_fd(file as i32) });
        let found = taken.as_ref().map(|file| fstat(file).expect("a descriptor"));
        if found.is_ok_and(|found| is_it(found.st_dev, found.st_ino)) {
            ways.push(("by pidfd_getfd".to_owned(), taken));
        }
    }
    if let Ok(pidfd) = pidfd {
        // SAFETY: opened above.
        drop(unsafe { OwnedFd::from_raw_fd(pidfd as i32) });
    }
    ways
}

/// What went through, and how many attacks were tried on how many descriptors.
struct Outcome {
    allowed: BTreeSet<&'static str>,
    opened: BTreeSet<String>,
    tried: usize,
}

fn attack(received: BorrowedFd<'_>, writer: u32) -> Outcome {
    let size = fstat(received).expect("a memfd").st_size;
    let length = NonZeroUsize::new(size as usize).expect("not empty");
    let mut outcome = Outcome { allowed: BTreeSet::new(), opened: BTreeSet::new(), tried: 0 };
    let ways = ways(received, writer);
    for (name, attack) in NEVER.into_iter().chain(ATTACKS) {
        for (way, file) in &ways {
            let Ok(file) = file else { continue };
            outcome.opened.insert(way.replace(|c: char| c.is_ascii_digit(), ""));
            outcome.tried += 1;
            let done = attack(file.as_fd(), length);
            eprintln!("{name} {way}: {done:?}");
            if done.is_ok() {
                outcome.allowed.insert(name);
            }
        }
    }
    if ways.iter().any(|(way, file)| way.ends_with("to truncate") && file.is_ok()) {
        outcome.allowed.insert("open to truncate");
    }
    outcome
}

// ---- the attacker ----

#[test]
fn a_child_plays_its_role() {
    let Some((role, arguments)) = role() else { return };
    match (role.as_str(), &arguments[..]) {
        ("attacker", [socket, user, writer]) => attacker(socket, user == "other", writer.parse().expect("a number")),
        other => panic!("no role {other:?}"),
    }
}

/// Receives the ring, attacks it, and follows it all the while.
fn attacker(socket: &str, other: bool, writer: u32) {
    if other {
        setgid(Gid::from_raw(NOBODY)).expect("root may");
        setuid(Uid::from_raw(NOBODY)).expect("root may");
        nix::sys::prctl::set_dumpable(true).expect("so that /proc/self is its own");
        // That /proc refuses it the ring is not because /proc refuses it everything.
        let own = memfd_create("own", MFdFlags::MFD_CLOEXEC).expect("a memfd");
        open(format!("/proc/self/fd/{}", own.as_raw_fd()).as_str(), OFlag::O_RDWR, Mode::empty()).expect("its own");
    }
    let stream = UnixStream::connect(socket).expect("a socket");
    say("connected");
    let ring = Handover::new().allow_anyone().receive(&stream).unwrap_or_else(|error| panic!("{error}"));
    let mut reader = ring.open(&Options::new().lossy(true)).unwrap_or_else(|error| panic!("{error}"));
    assert_whole(0, &reader.recv().expect("a record"), BOUND);
    assert!(!other || !reader.can_borrow());

    // A private copy can be written, and is nobody else's.
    let size = NonZeroUsize::new(4096).expect("a page");
    // SAFETY: at an address that the system chooses.
    let copy = unsafe {
        mmap(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE, ring.ring(), 0)
    };
    // SAFETY: mapped above, for this alone.
    unsafe { copy.expect("a mapping").cast::<u8>().write_volatile(b'?') };

    let registry = ring.registry().unwrap_or(ring.ring());
    let taken = Options::new().take_over_descriptors(ring.ring(), registry).expect_err("not while its writer lives");
    say(match taken {
        CreateError::Sealed { .. } => "Sealed",
        CreateError::WriterAlive { .. } => "WriterAlive",
        CreateError::TakeOver { source, .. } if matches!(*source, OpenError::Permission { .. }) => "Permission",
        other => panic!("{other}"),
    });
    let memory = fs::File::options().write(true).open(format!("/proc/{writer}/mem"));
    assert!(!other || memory.is_err(), "nor into the writer itself");

    let outcome = attack(ring.ring(), writer);
    say(format_args!("tried {}", outcome.tried));
    say(format_args!("opened {}", outcome.opened.into_iter().collect::<Vec<_>>().join("; ")));
    say(format_args!("allowed {}", outcome.allowed.into_iter().collect::<Vec<_>>().join("; ")));
    if hear() == "read on" {
        for sequence in 1..4 {
            assert_whole(sequence, &reader.recv().expect("a record"), BOUND);
        }
        say("read");
    }
}

/// A ring under attack. What the attacker could do, and whether it could take the ring over.
struct Attacked {
    writer: Writer,
    ring: SharedRing,
    child: Child,
    take_over: String,
    opened: String,
    allowed: Vec<String>,
}

fn attacked(mut writer: Writer, other: bool) -> Attacked {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("our own");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own");
    let user = if other { "other" } else { "same" };
    let process = std::process::id().to_string();
    let mut child = Child::start("attacker", &[path.to_str().expect("UTF-8"), user, &process]);
    child.expect("connected");
    let (stream, _) = listener.accept().expect("it is there");
    let ring = writer.shared_ring().expect("a memfd");
    let peer = Handover::new().allow_anyone().follower(other).share(&ring, &stream).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(u32::try_from(peer.process), Ok(child.pid()));
    assert_eq!(peer.user, if other { NOBODY } else { geteuid().as_raw() });
    let size = fstat(ring.ring()).expect("a memfd").st_size;
    publish(&mut writer, 1);
    let take_over = child.expect("");
    let [tried] = child.expect_numbers("tried");
    let opened = child.expect("opened");
    let allowed = child.expect("allowed");
    println!("{user} user: {tried} attacks on descriptors {opened}: allowed: {allowed:?}; take-over: {take_over}");
    assert!(tried as usize >= ATTACKS.len() + NEVER.len());
    assert_eq!(fstat(ring.ring()).expect("a memfd").st_size, size);
    let allowed = allowed.split("; ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Attacked { writer, ring, child, take_over, opened, allowed }
}

fn publish(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), BOUND);
        writer.publish_timeout(&payload, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Attacked {
    /// Nothing happened to it: both ends go on, and so does somebody new.
    fn goes_on(mut self) {
        publish(&mut self.writer, 3);
        self.child.tell("read on");
        self.child.expect("read");
        self.child.finish();
        let mut reader = self.ring.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
        for sequence in 0..4 {
            assert_whole(sequence, &reader.recv().expect("a record"), BOUND);
        }
    }
}

// ---- the cells of the table ----

#[test]
fn this_user_can_in_no_way_change_a_strict_ring() {
    let ring = attacked(smallest().create_memfd_strict().expect("a small ring"), false);
    // It could open it to write, which is of no use.
    assert!(
        ring.opened.contains("by /proc/self/fd, to write;") && ring.opened.contains("/fd, to write"),
        "{}",
        ring.opened
    );
    assert_eq!(ring.allowed, ["change the mode"], "which is its own");
    assert_eq!(ring.take_over, "Sealed");
    ring.goes_on();
}

#[test]
fn another_user_can_in_no_way_change_a_strict_ring() {
    if !geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let ring = attacked(smallest().create_memfd_strict().expect("a small ring"), true);
    assert_eq!(ring.opened, "as received");
    assert_eq!(ring.allowed, [""; 0]);
    assert_eq!(ring.take_over, "Sealed");
    ring.goes_on();
}

/// Not even where the mode would let it open the ring to write.
#[test]
fn another_user_cannot_change_a_strict_ring_whatever_its_mode() {
    if !geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let writer = smallest().create_memfd_strict().expect("a small ring");
    fchmod(writer.descriptors().expect("a memfd").ring, Mode::from_bits_retain(0o666)).expect("our own");
    let ring = attacked(writer, true);
    assert!(ring.opened.contains("by /proc/self/fd, to write;"), "{}", ring.opened);
    assert_eq!(ring.allowed, [""; 0]);
    ring.goes_on();
}

#[test]
fn another_user_can_in_no_way_change_a_restartable_ring() {
    if !geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let ring = attacked(smallest().create_memfd().expect("a small ring"), true);
    assert_eq!(ring.opened, "as received");
    assert_eq!(ring.allowed, [""; 0]);
    assert_eq!(ring.take_over, "Permission");
    ring.goes_on();
}

/// It must be able to take it over. It can punch holes, too, but never make it shorter.
#[test]
fn this_user_can_write_a_restartable_ring_but_not_truncate_it() {
    let ring = attacked(smallest().create_memfd().expect("a small ring"), false);
    let allowed = [
        "change the mode",
        "copy into it",
        "make a mapping writable",
        "map to write",
        "punch a hole",
        "remove pages",
        "write",
    ];
    assert_eq!(ring.allowed, allowed);
    assert_eq!(ring.take_over, "WriterAlive");
    // Not a signal, whatever is read.
    let mut reader = Options::new().lossy(true).open_descriptors(ring.ring.ring(), None);
    if let Ok(reader) = &mut reader {
        let _ = reader.try_recv();
    }
}

/// It publishes through the mapping that it has, and gets no other one.
#[test]
fn the_writer_itself_changes_a_strict_ring_by_publishing_only() {
    let mut writer = smallest().create_memfd_strict().expect("a small ring");
    let ring = writer.shared_ring().expect("a memfd");
    publish(&mut writer, 1);
    assert_eq!(attack(ring.ring(), std::process::id()).allowed, ["change the mode"].into());
    publish(&mut writer, 1);
    let mut reader = ring.open(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    for sequence in 0..2 {
        assert_whole(sequence, &reader.recv().expect("a record"), BOUND);
    }
}

/// The registry has the seals of the restartable profile, also beside a strict ring.
#[test]
fn nobody_can_truncate_a_registry() {
    for writer in [smallest().create_memfd(), smallest().create_memfd_strict()] {
        let writer = writer.expect("a small ring");
        let registry = writer.descriptors().expect("a memfd").registry;
        let allowed = attack(registry, std::process::id()).allowed;
        for name in ["truncate", "truncate to more", "allocate more", "seal", "open to truncate"] {
            assert!(!allowed.contains(name), "{name}");
        }
        assert!(allowed.contains("write"));
    }
}

/// The attacks work: on a memfd without a seal, all of them.
#[test]
fn every_attack_goes_through_where_nothing_is_sealed() {
    for (name, attack) in ATTACKS {
        let file = memfd_create("victim", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
        ftruncate(&file, 8192).expect("our own");
        let size = NonZeroUsize::new(8192).expect("some");
        assert_eq!(attack(file.as_fd(), size), Ok(()), "{name}");
    }
}
