//! The other side of a row: a process that has run `exec`, a forked child, or a thread. All of them talk the same way.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use super::{Child, LIMIT, hear, say};

/// The peer's end of the line to the row.
pub(crate) enum Line {
    Stdio,
    Channels(Sender<String>, Receiver<String>),
    Pipes(File, BufReader<File>),
}

impl Line {
    pub(crate) fn say(&mut self, words: impl std::fmt::Display) {
        match self {
            Line::Stdio => say(words),
            Line::Channels(sender, _) => sender.send(words.to_string()).expect("a row that listens"),
            Line::Pipes(pipe, _) => writeln!(pipe, "{words}").expect("a row that listens"),
        }
    }

    pub(crate) fn hear(&mut self) -> String {
        match self {
            Line::Stdio => hear(),
            Line::Channels(_, receiver) => receiver.recv().expect("a row that talks"),
            Line::Pipes(_, pipe) => read_line(pipe),
        }
    }
}

fn read_line(pipe: &mut BufReader<File>) -> String {
    let mut line = String::new();
    pipe.read_line(&mut line).expect("a pipe");
    assert!(!line.is_empty(), "the other side is gone");
    line.trim_end().to_owned()
}

/// The row's end. Whoever hangs is killed: by the limit of the child that this is, or in which this is.
pub(crate) enum Peer {
    Process(Child),
    Thread(Sender<String>, Receiver<String>, Option<JoinHandle<()>>),
    Fork(Option<Pid>, File, BufReader<File>),
}

impl Peer {
    /// A thread of this process that plays.
    pub(crate) fn thread(play: impl FnOnce(&mut Line) + Send + 'static) -> Peer {
        let ((sender, hears), (says, receiver)) = (channel(), channel());
        let run = move || play(&mut Line::Channels(says, hears));
        Peer::Thread(sender, receiver, Some(std::thread::spawn(run)))
    }

    /// A forked child that plays. Only in a child of the test process that runs one row, in one thread.
    pub(crate) fn fork(play: impl FnOnce(&mut Line)) -> Peer {
        let ((hears, sender), (receiver, says)) = (pipe().expect("a pipe"), pipe().expect("a pipe"));
        // SAFETY: by the words above nobody else holds a lock.
        match unsafe { fork() }.expect("a fork") {
            ForkResult::Child => {
                drop((sender, receiver));
                let mut line = Line::Pipes(says.into(), BufReader::new(hears.into()));
                let run = std::panic::AssertUnwindSafe(|| play(&mut line));
                let failed = std::panic::catch_unwind(run).is_err();
                // SAFETY: ends this process, and runs nothing of the parent's.
                unsafe { nix::libc::_exit(i32::from(failed)) }
            }
            ForkResult::Parent { child } => Peer::Fork(Some(child), sender.into(), BufReader::new(receiver.into())),
        }
    }

    /// Waits for the peer to say something that begins with `word`; answers the rest.
    pub(crate) fn expect(&mut self, word: &str) -> String {
        let said = match self {
            Peer::Process(child) => return child.expect(word),
            Peer::Thread(_, receiver, _) => receiver.recv_timeout(LIMIT).expect("a peer that talks"),
            Peer::Fork(_, _, pipe) => read_line(pipe),
        };
        said.strip_prefix(word).unwrap_or_else(|| panic!("said {said:?} instead of {word:?}")).trim().to_owned()
    }

    pub(crate) fn expect_numbers<const N: usize>(&mut self, word: &str) -> [u64; N] {
        let said = self.expect(word);
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        numbers.try_into().unwrap_or_else(|_| panic!("said {said:?}, not {N} numbers"))
    }

    pub(crate) fn tell(&mut self, word: &str) {
        match self {
            Peer::Process(child) => child.tell(word),
            Peer::Thread(sender, _, _) => sender.send(word.to_owned()).expect("a peer that listens"),
            Peer::Fork(_, pipe, _) => writeln!(pipe, "{word}").expect("a peer that listens"),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        match self {
            Peer::Process(child) => child.kill(),
            Peer::Thread(..) => panic!("a thread cannot be killed"),
            Peer::Fork(child, _, _) => end(child.take()),
        }
    }

    /// Waits until it has ended well.
    pub(crate) fn finish(mut self) {
        match &mut self {
            Peer::Thread(_, _, thread) => {
                thread.take().map(JoinHandle::join).expect("not before").expect("no panic");
            }
            Peer::Fork(child, _, _) => {
                let child = child.take().expect("not before");
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
            Peer::Process(_) => {
                let Peer::Process(child) = self else { return };
                child.finish();
            }
        }
    }
}

fn end(child: Option<Pid>) {
    if let Some(child) = child {
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
    }
}
