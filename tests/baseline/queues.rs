//! The rules of message queues.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;
use shmcast::SysvKey;
use shmcast::baseline::posix_queue::{self, Queue as PosixQueueEnd};
use shmcast::baseline::sysv::{Queue, TYPE_BYTES, queue_limits};
use shmcast::baseline::{Patience, Place, PosixQueue, ReceiveError, SysvQueue};

use crate::Spot;
use crate::support::{Child, LIMIT, guard, hear, say, skipped, unique_name, wait_until_asleep};

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("waits in a queue", [key]) => {
            let queue = Queue::open(key.parse().expect("a key")).expect("a queue");
            say(format_args!("waiting {} {}", std::process::id(), gettid()));
            let outcome = queue.receive(0, &mut [0; 100], true);
            say(format_args!("outcome {outcome:?}"));
        }
        ("makes a queue", [key]) => {
            let queue = Queue::create(key.parse().expect("a key")).expect("a queue");
            let mut message = message_of(b"left");
            queue.send(1, &mut message, false).expect("room");
            say("made");
            hear();
        }
        _ => return false,
    }
    true
}

fn message_of(text: &[u8]) -> Vec<u8> {
    [&[0; TYPE_BYTES], text].concat()
}

/// A queue that is removed with this value.
struct Removed(Queue);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn new_queue() -> (Removed, i32) {
    let key = guard::fresh_key();
    (Removed(Queue::create(key).expect("a queue")), key)
}

fn is_listed(table: &str, key: i32) -> bool {
    let table = std::fs::read_to_string(format!("/proc/sysvipc/{table}")).expect("a table");
    table.lines().skip(1).any(|line| line.split_whitespace().next() == Some(&key.to_string()))
}

// ---- System V ----

#[test]
fn a_path_has_one_key() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let paths = ["one", "other"].map(|name| directory.path().join(name));
    for path in &paths {
        std::fs::write(path, "").expect("a file");
    }
    let key = |path, project| SysvKey::of_path(path, project).expect("a file");
    assert_eq!(key(&paths[0], 64), key(&paths[0], 64), "in every process");
    assert_ne!(key(&paths[0], 64), key(&paths[1], 64));
    assert_ne!(key(&paths[0], 64), key(&paths[0], 66));
    assert!(SysvKey::of_path(directory.path().join("none"), 64).is_err(), "the file must exist");
}

#[test]
fn types_choose_among_the_messages() {
    let (queue, _) = new_queue();
    for (kind, text) in [(3, b"c"), (1, b"a"), (2, b"b"), (3, b"d"), (1, b"e")] {
        queue.0.send(kind, &mut message_of(text), false).expect("room");
    }
    let receive = |kind| {
        let mut message = message_of(&[0; 10]);
        let bytes = queue.0.receive(kind, &mut message, false)?;
        Ok::<_, Errno>(String::from_utf8_lossy(&message[TYPE_BYTES..TYPE_BYTES + bytes]).into_owned())
    };
    assert_eq!(receive(2).as_deref(), Ok("b"), "the first of a type");
    assert_eq!(receive(2), Err(Errno::ENOMSG));
    assert_eq!(receive(0).as_deref(), Ok("c"), "the first of all");
    assert_eq!(receive(-3).as_deref(), Ok("a"), "the first of the lowest type");
    assert_eq!(receive(-1).as_deref(), Ok("e"));
    assert_eq!(receive(-2), Err(Errno::ENOMSG), "none up to that type");
    assert_eq!(queue.0.state().expect("a queue"), (1, std::process::id().cast_signed()), "who sent last");
}

#[test]
fn a_queue_holds_what_the_system_says() {
    let (queue, _) = new_queue();
    let (longest, whole) = queue_limits();
    let too_long = queue.0.send(1, &mut message_of(&vec![0; longest + 1]), false);
    assert_eq!(too_long, Err(Errno::EINVAL));
    let send = |bytes: usize| queue.0.send(1, &mut message_of(&vec![0; bytes]), false);
    assert_eq!((0..).take_while(|_| send(1024).is_ok()).count(), whole / 1024);
    assert_eq!(send(1), Err(Errno::EAGAIN));
    // What does not fit into the buffer stays in the queue.
    assert_eq!(queue.0.receive(0, &mut message_of(&[0; 10]), false), Err(Errno::E2BIG));
    assert_eq!(queue.0.receive(0, &mut message_of(&[0; 1024]), false), Ok(1024));
}

#[test]
fn who_waits_in_a_queue_is_told_of_its_removal() {
    let (queue, key) = new_queue();
    let mut child = Child::start("waits in a queue", &[&key.to_string()]);
    let [process, thread] = child.expect_numbers("waiting");
    wait_until_asleep(process as u32, thread as i32);
    queue.0.remove().expect("a queue");
    assert_eq!(child.expect("outcome"), "Err(EIDRM)");
    child.finish();
    assert!(!is_listed("msg", key));
}

#[test]
fn a_queue_outlives_its_maker_and_is_cleaned() {
    let key = guard::fresh_key();
    let mut child = Child::start("makes a queue", &[&key.to_string()]);
    child.expect("made");
    child.kill();
    assert!(is_listed("msg", key), "the system removes nothing");
    let queue = Removed(Queue::open(key).expect("it is still there"));
    let mut message = message_of(&[0; 10]);
    assert_eq!(queue.0.receive(0, &mut message, false), Ok(4), "with what is in it");
    drop(queue);
    assert!(!is_listed("msg", key));
}

#[test]
fn one_receiver_that_does_not_read_holds_the_others_up() {
    // All share the queue: as the module says.
    let (_spot, mut link) = Spot::must_link(&SysvQueue, 2);
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    let mut reads = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut sent = 0;
    while sender.try_send(&[1; 1000]).is_ok() {
        sent += 1;
        assert_eq!(reads.receive(&mut [0; 1000]).expect("a record").len, 1000);
    }
    assert!(sent < 20, "{sent} of 1000 bytes");
}

// ---- POSIX ----

/// A queue whose name goes with this value.
struct Named(String);

impl Named {
    fn create(messages: usize, bytes: usize) -> Result<(Named, PosixQueueEnd), Errno> {
        let name = format!("/{}", unique_name("queue"));
        guard::protect_one(guard::Left::Queue(&name));
        let queue = PosixQueueEnd::create(&name, messages, bytes)?;
        Ok((Named(name), queue))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = PosixQueueEnd::unlink(&self.0);
    }
}

#[test]
fn the_highest_priority_comes_first_and_equals_stay_in_order() {
    let (_name, queue) = Named::create(8, 16).expect("a queue");
    for (priority, text) in [(1, "a"), (5, "b"), (0, "c"), (5, "d"), (31, "e")] {
        queue.send(text.as_bytes(), priority, Patience::Not).expect("room");
    }
    let mut buffer = [0; 16];
    let mut order = String::new();
    while let Ok((len, priority)) = queue.receive(&mut buffer, Patience::Not) {
        order.push_str(&format!("{}{priority} ", String::from_utf8_lossy(&buffer[..len])));
    }
    assert_eq!(order.trim(), "e31 b5 d5 a1 c0");
}

#[test]
fn the_limits_are_those_of_proc() {
    let (messages, bytes) = posix_queue::limits();
    let (_name, queue) = Named::create(messages, bytes).expect("as much as is allowed");
    assert_eq!((0..).take_while(|_| queue.send(&[1], 1, Patience::Not).is_ok()).count(), messages);
    assert_eq!(queue.send(&[1], 1, Patience::Not), Err(Errno::ETIMEDOUT), "full");
    assert_eq!(queue.send(&vec![1; bytes + 1], 1, Patience::Not), Err(Errno::EMSGSIZE));
    let short = queue.receive(&mut vec![0; bytes - 1], Patience::Not);
    assert_eq!(short, Err(Errno::EMSGSIZE), "whatever the length of the next message");
    assert_eq!(queue.count(), Ok(messages));
    match Named::create(messages + 1, bytes) {
        // With CAP_SYS_RESOURCE only the kernel's own limit holds.
        Ok(_) => assert!(Named::create(1 << 20, bytes).is_err()),
        Err(errno) => assert_eq!(errno, Errno::EINVAL),
    }
}

static NOTICES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn notice(_: libc::c_int) {
    NOTICES.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn the_first_message_of_an_empty_queue_is_noticed_once() {
    let counts = SigAction::new(SigHandler::Handler(notice), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler adds to an atomic. Nobody else here uses this signal.
    unsafe { sigaction(Signal::SIGALRM, &counts) }.expect("a handler");
    let (_name, queue) = Named::create(4, 16).expect("a queue");
    let receive = || queue.receive(&mut [0; 16], Patience::Not).expect("a message");
    let send = || queue.send(b"news", 1, Patience::Not).expect("room");
    let seen = |count| {
        let start = Instant::now();
        while NOTICES.load(Ordering::SeqCst) < count {
            assert!(start.elapsed() < LIMIT, "no notice");
            std::thread::yield_now();
        }
        assert_eq!(NOTICES.load(Ordering::SeqCst), count);
    };
    queue.notify(Some(libc::SIGALRM)).expect("nobody has asked");
    assert_eq!(queue.notify(Some(libc::SIGALRM)), Err(Errno::EBUSY), "one at a time");
    send();
    seen(1);
    // It was for once; and the queue is not empty.
    queue.notify(Some(libc::SIGALRM)).expect("nobody has asked");
    send();
    receive();
    receive();
    send();
    seen(2);
    queue.notify(Some(libc::SIGALRM)).expect("nobody has asked");
    receive();
    queue.notify(None).expect("taken back");
    send();
    seen(2);
}

/// The queues of this machine: their file system, mounted for a moment in a mount namespace of its own. None if that cannot be done.
fn listed() -> Option<Vec<String>> {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let script = "mount -t mqueue none \"$0\" && ls -A \"$0\"";
    let output = Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(directory.path()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().map(str::to_owned).collect())
}

#[test]
fn a_queue_is_listed_as_long_as_its_name_lives() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let place = Place::new(directory.path()).expect("a place");
    let objects = place.objects(2);
    crate::protect(&objects, "posix-queue");
    let names: Vec<String> = objects
        .iter()
        .filter_map(|object| match object {
            shmcast::baseline::Object::Queue(name) => Some(name[1..].to_owned()),
            _ => None,
        })
        .collect();
    let link = shmcast::baseline::Link::make(&PosixQueue, place, 2).expect("a link");
    let Some(there) = listed() else {
        return skipped("the file system of message queues cannot be mounted here (root, unshare)");
    };
    assert!(names.len() == 2 && names.iter().all(|name| there.contains(name)), "{names:?} {there:?}");
    // Who has it open keeps it.
    let mut receivers = link.receivers.into_iter();
    let mut receiver = receivers.next().expect("two").receiver(Patience::Forever).expect("a receiver");
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    drop(link.names);
    let there = listed().expect("as before");
    assert!(!names.iter().any(|name| there.contains(name)), "{names:?} {there:?}");
    sender.send(b"without a name").expect("room");
    assert_eq!(receiver.receive(&mut [0; 8192]).expect("a record").len, 14);
    sender.close();
    let end = receiver.receive(&mut [0; 8192]);
    assert!(matches!(end, Err(ReceiveError::Closed)), "{end:?}");
}
