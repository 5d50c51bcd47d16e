//! The rules of pipes and FIFOs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{gettid, mkfifo};
use shmcast::baseline::pipe::{PIPE_BUF, capacity, set_capacity};
use shmcast::baseline::stream::read_n;
use shmcast::baseline::{Fifo, Patience, Pipe, ReceiveError, SendError};

use crate::Spot;
use crate::support::{Child, guard, hear, say, wait_until_asleep};

/// Writes of each writer.
const WRITES: usize = 500;

pub(crate) fn play(role: &str, arguments: &[&str]) -> bool {
    match (role, arguments) {
        ("writes frames", [path, byte, bytes]) => {
            let mut fifo = OpenOptions::new().write(true).open(path).expect("a FIFO");
            let frame = vec![byte.parse().expect("a byte"); bytes.parse().expect("a number")];
            say("ready");
            assert_eq!(hear(), "go");
            for _ in 0..WRITES {
                // One write each: nothing puts the halves of a short count together.
                assert_eq!(fifo.write(&frame).expect("a reader"), frame.len());
            }
        }
        ("opens a FIFO", [path]) => {
            say(format_args!("opening {} {}", std::process::id(), gettid()));
            let mut fifo = File::open(path).expect("a FIFO");
            say("opened");
            let mut text = String::new();
            fifo.read_to_string(&mut text).expect("a text");
            say(text);
        }
        _ => return false,
    }
    true
}

/// Three processes write frames into one pipe of one page; answers whether no frame was mixed with another's bytes.
fn frames_stay_together(bytes: usize) -> bool {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let path = directory.path().join("fifo");
    mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
    // Opened for both, so that it does not wait for a writer, nor end with the first one.
    let mut fifo = OpenOptions::new().read(true).write(true).open(&path).expect("a FIFO");
    assert_eq!(set_capacity(&fifo, 4096), Ok(4096));
    let text = path.to_str().expect("UTF-8");
    let start = |byte: u8| Child::start("writes frames", &[text, &byte.to_string(), &bytes.to_string()]);
    let mut writers: Vec<Child> = [1, 2, 3].map(start).into();
    writers.iter_mut().for_each(|writer| drop(writer.expect("ready")));
    writers.iter_mut().for_each(|writer| writer.tell("go"));
    let (mut frame, mut counts, mut together) = (vec![0; bytes], [0; 4], true);
    for _ in 0..3 * WRITES {
        assert_eq!(read_n(&mut fifo, &mut frame).expect("a frame"), bytes);
        together &= frame.iter().all(|byte| *byte == frame[0]);
        frame.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    }
    writers.into_iter().for_each(Child::finish);
    assert_eq!(counts, [0, WRITES * bytes, WRITES * bytes, WRITES * bytes], "nothing is lost either way");
    together
}

#[test]
fn writes_of_pipe_buf_stay_together_with_several_writers() {
    assert!(frames_stay_together(PIPE_BUF));
    assert!(frames_stay_together(PIPE_BUF - 1000));
}

#[test]
fn longer_writes_are_mixed_with_several_writers() {
    // Which is why one sender has a pipe of its own, and frames what it sends.
    assert!(!frames_stay_together(3 * PIPE_BUF));
}

fn nonblocking_pipe() -> (PipeReader, PipeWriter) {
    let (reads, writes) = pipe().expect("a pipe");
    for end in [reads.as_fd(), writes.as_fd()] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
    }
    (reads, writes)
}

fn kind<T>(outcome: std::io::Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[test]
fn a_write_that_may_not_wait_is_whole_up_to_pipe_buf_and_may_be_short_above() {
    let (mut reads, mut writes) = nonblocking_pipe();
    assert_eq!(set_capacity(&writes, 16384), Ok(16384));
    assert_eq!(kind(reads.read(&mut [0; 1])), Some(ErrorKind::WouldBlock), "empty");
    // Too long to fit: a part of it is taken.
    assert_eq!(writes.write(&vec![1; 20000]).expect("a part"), 16384);
    assert_eq!(kind(writes.write(&[1])), Some(ErrorKind::WouldBlock), "full");
    let mut page = [0; 4096];
    reads.read_exact(&mut page).expect("a page");
    assert_eq!(writes.write(&[2; 1000]).expect("room"), 1000);
    // 3096 bytes are left in the page: a write of 4096 bytes is not split, but refused.
    assert_eq!(kind(writes.write(&[3; PIPE_BUF])), Some(ErrorKind::WouldBlock), "not split");
}

#[test]
fn the_capacity_is_a_power_of_two_of_pages() {
    let (_reads, mut writes) = nonblocking_pipe();
    let system: usize =
        std::fs::read_to_string("/proc/sys/fs/pipe-max-size").expect("a limit").trim().parse().expect("a number");
    assert_eq!(capacity(&writes), Ok(65536), "as pipe(7) says");
    assert_eq!(set_capacity(&writes, 5000), Ok(8192));
    assert_eq!(set_capacity(&writes, system), Ok(system));
    assert_eq!(writes.write(&vec![0; system + 1]).expect("room"), system, "it holds what it says");
    assert_eq!(set_capacity(&writes, system / 2), Err(Errno::EBUSY), "less than what is in it");
    let (spot, link) = Spot::must_link(&Pipe::with_capacity(1 << 18), 1);
    let sender = link.sender.sender(Patience::Forever).expect("a sender");
    assert_eq!(capacity(sender.descriptor().expect("a pipe")), Ok(1 << 18));
    drop((sender, link.receivers, link.names));
    spot.assert_nothing_is_left();
}

#[test]
fn the_end_comes_with_the_last_descriptor() {
    let (mut reads, writes) = nonblocking_pipe();
    let copy = writes.try_clone().expect("a copy");
    drop(writes);
    assert_eq!(kind(reads.read(&mut [0])), Some(ErrorKind::WouldBlock), "somebody could still write");
    drop(copy);
    assert_eq!(reads.read(&mut [0]).expect("the end"), 0);

    let (reads, mut writes) = nonblocking_pipe();
    let copy = reads.try_clone().expect("a copy");
    drop(reads);
    assert_eq!(writes.write(&[1]).expect("room"), 1, "somebody could still read");
    drop(copy);
    assert_eq!(kind(writes.write(&[1])), Some(ErrorKind::BrokenPipe), "and no SIGPIPE: Rust programs ignore it");
}

#[test]
fn a_length_goes_in_network_order() {
    let (_spot, mut link) = Spot::must_link(&Pipe::new(), 1);
    let mut sender = link.sender.sender(Patience::Forever).expect("a sender");
    let receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut raw = File::from(receiver.descriptor().expect("a pipe").try_clone_to_owned().expect("a copy"));
    sender.send(&[7; 258]).expect("room");
    let mut bytes = [0; 6];
    raw.read_exact(&mut bytes).expect("bytes");
    assert_eq!(bytes, [0, 0, 1, 2, 7, 7]);
}

#[test]
fn a_stream_that_ends_within_a_record_had_a_sender_that_died() {
    let (_spot, mut link) = Spot::must_link(&Pipe::new(), 1);
    let sender = link.sender.sender(Patience::Forever).expect("a sender");
    let mut receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut raw = File::from(sender.descriptor().expect("a pipe").try_clone_to_owned().expect("a copy"));
    raw.write_all(&[0, 0, 0, 5, 1, 2]).expect("room");
    let part = receiver.try_receive(&mut [0; 10]);
    assert!(matches!(part, Err(ReceiveError::Empty)), "{part:?}");
    raw.write_all(&[3, 4, 5, 0, 0]).expect("room");
    let mut buffer = [0; 10];
    assert_eq!(receiver.try_receive(&mut buffer).expect("a record").len, 5);
    assert_eq!(buffer[..5], [1, 2, 3, 4, 5]);
    drop((raw, sender));
    let torn = receiver.receive(&mut buffer);
    assert!(matches!(torn, Err(ReceiveError::SenderDied)), "{torn:?}");

    let (_spot, mut link) = Spot::must_link(&Pipe::new(), 1);
    let sender = link.sender.sender(Patience::Forever).expect("a sender");
    let mut receiver = link.receivers.remove(0).receiver(Patience::Forever).expect("a receiver");
    let mut raw = File::from(sender.descriptor().expect("a pipe").try_clone_to_owned().expect("a copy"));
    raw.write_all(&[255, 0, 0, 0]).expect("room");
    let hostile = receiver.receive(&mut buffer);
    assert!(matches!(hostile, Err(ReceiveError::Damaged { .. })), "no memory for 4 GiB: {hostile:?}");
}

#[test]
fn opening_a_fifo_waits_for_the_other_end() {
    let directory = tempfile::tempdir_in(guard::directory()).expect("a directory");
    let path = directory.path().join("fifo");
    mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
    let nobody = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    assert_eq!(nobody.err().and_then(|error| error.raw_os_error()), Some(libc::ENXIO), "a writer without a reader");
    let mut child = Child::start("opens a FIFO", &[path.to_str().expect("UTF-8")]);
    let [process, thread] = child.expect_numbers("opening");
    wait_until_asleep(process as u32, thread as i32);
    assert!(child.try_expect("opened").is_none(), "it waits in open");
    let mut fifo = OpenOptions::new().write(true).open(&path).expect("a reader is there");
    child.expect("opened");
    // The name is not the FIFO.
    std::fs::remove_file(&path).expect("a name");
    fifo.write_all(b"hello").expect("a reader");
    drop(fifo);
    child.expect("hello");
    child.finish();
}

#[test]
fn a_fifo_that_nobody_has_opened_is_empty_not_at_its_end() {
    let (spot, mut link) = Spot::must_link(&Fifo, 1);
    let mut receiver = link.receivers.remove(0).receiver(Patience::Not).expect("a receiver");
    for _ in 0..2 {
        let empty = receiver.try_receive(&mut [0; 10]);
        assert!(matches!(empty, Err(ReceiveError::Empty)), "{empty:?}");
    }
    let mut sender = link.sender.sender(Patience::Not).expect("there is a reader");
    sender.send(b"first").expect("room");
    sender.close();
    assert!(matches!(sender.send(b"second"), Err(SendError::Closed)));
    assert_eq!(receiver.receive(&mut [0; 10]).expect("a record").len, 5);
    let end = receiver.receive(&mut [0; 10]);
    assert!(matches!(end, Err(ReceiveError::Closed)), "{end:?}");
    drop(link.names);
    spot.assert_nothing_is_left();
}
