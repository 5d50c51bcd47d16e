//! Rings without a name: what a descriptor lets another user do, whom no mode stops any more.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{ftruncate, write};
use shmcast::{OpenError, Options, RecvTimeoutError, TryRecvError, Writer};

use crate::people::{Person, can_be_others};
use crate::scene::errno;
use crate::support::{Child, LIMIT, hear, say, smallest};

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("heir", [person, ring, registry]) => {
            Person::of(person).act();
            let descriptor = |number: &str| {
                let number: RawFd = number.parse().expect("a number");
                // SAFETY: this process has inherited it, and nothing else here knows of it.
                unsafe { OwnedFd::from_raw_fd(number) }
            };
            inherit(&descriptor(ring), &descriptor(registry));
        }
        ("memfd owner", []) => memfd_owner(),
        _ => return false,
    }
    true
}

/// Has a ring of root's, and tells the numbers of its descriptors.
fn memfd_owner() {
    let mut writer: Writer = smallest().create_memfd().unwrap_or_else(|error| panic!("{error}"));
    writer.publish(b"seen").expect("room");
    let descriptors = writer.descriptors().expect("a memfd");
    let [ring, registry] = [descriptors.ring, descriptors.registry].map(|file| file.as_raw_fd());
    say(format_args!("created {ring} {registry}"));
    hear();
    writer.publish(b"more").expect("room");
    say("published");
    hear();
}

fn inherit(ring: &OwnedFd, registry: &OwnedFd) {
    let map = || {
        let writable = memmap2::MmapOptions::new().len(4096).map_raw(ring).map(drop);
        errno(writable.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))
    };
    let protect = || {
        let map = memmap2::MmapOptions::new().len(4096).map_raw_read_only(ring).expect("it may be read");
        // SAFETY: this process's own mapping, which nothing else uses.
        let changed = unsafe { libc::mprotect(map.as_mut_ptr().cast(), 4096, libc::PROT_READ | libc::PROT_WRITE) };
        errno(Errno::result(changed).map(drop))
    };
    let again = |file: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        errno(open(path.as_str(), OFlag::O_RDWR, Mode::empty()).map(drop))
    };
    let punch = || {
        let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: no memory is involved.
        errno(Errno::result(unsafe { libc::fallocate(ring.as_raw_fd(), flags, 0, 4096) }).map(drop))
    };
    let byte =
        libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 1 << 41, l_len: 1, l_pid: 0 };
    let seal = FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::F_SEAL_WRITE);
    say(format_args!("map ring {}", map()));
    say(format_args!("make ring writable {}", protect()));
    say(format_args!("open ring again {}", again(ring)));
    say(format_args!("write ring {}", errno(write(ring, b"x").map(drop))));
    say(format_args!("truncate ring {}", errno(ftruncate(ring, 0))));
    say(format_args!("punch ring {}", punch()));
    say(format_args!("lock as writer {}", errno(fcntl(ring, FcntlArg::F_OFD_SETLK(&byte)).map(drop))));
    say(format_args!("seal ring {}", errno(fcntl(ring, seal).map(drop))));
    // With this one it could hold the writer up, past the library; not end it.
    say(format_args!("open registry again {}", again(registry)));
    say(format_args!("truncate registry {}", errno(ftruncate(registry, 0))));
    let join = |options: Options| options.open_descriptors(ring.as_fd(), Some(registry.as_fd()));
    let joined = join(Options::new());
    assert!(matches!(joined, Err(OpenError::NeedsRegistry { .. })), "{joined:?}");
    say("join NeedsRegistry");
    let mut reader = join(Options::new().lossy(true)).unwrap_or_else(|error| panic!("{error}"));
    assert!(reader.is_follower() && !reader.can_borrow());
    assert_eq!(reader.recv().map(|record| record.payload), Ok(b"seen".to_vec()));
    say("follow Ok");
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "it lives");
    say("alive");
    assert_eq!(reader.recv().map(|record| record.payload), Ok(b"more".to_vec()));
    say("received");
    assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::WriterDied));
    say("told of the death");
}

#[test]
fn a_descriptor_of_a_memfd_lets_another_user_read_and_nothing_else() {
    if !can_be_others() {
        return;
    }
    let mut owner = Child::start("memfd owner", &[]);
    let [ring, registry]: [u64; 2] = owner.expect_numbers("created");
    // As if they had come over a socket. Those that a child inherits.
    let received = |number: u64, access: OFlag| {
        let path = format!("/proc/{}/fd/{number}", owner.pid());
        open(path.as_str(), access, Mode::empty()).expect("root may")
    };
    let descriptors = [received(ring, OFlag::O_RDONLY), received(registry, OFlag::O_RDWR)];
    let numbers = descriptors.each_ref().map(|file| file.as_raw_fd().to_string());
    let mut heir = Child::start("heir", &["Other", &numbers[0], &numbers[1]]);
    for answer in [
        "map ring EACCES",
        "make ring writable EACCES",
        "open ring again EACCES",
        "write ring EBADF",
        "truncate ring EINVAL",
        "punch ring EBADF",
        "lock as writer EBADF",
        "seal ring EPERM",
        "open registry again EACCES",
        "truncate registry EPERM",
        "join NeedsRegistry",
        "follow Ok",
        "alive",
    ] {
        heir.expect(answer);
    }
    owner.tell("publish");
    owner.expect("published");
    heir.expect("received");
    owner.kill();
    heir.expect("told of the death");
    heir.finish();
}
