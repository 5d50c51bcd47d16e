//! A bulletin board: a file on which one writer posts its newest record, and which any number of readers look at.
//!
//! ```text
//!   words   0 generation: odd while it is written    1 length    2 flags    3 payload ...
//! ```
//! Every look and every post holds a lock of the file. A record that was replaced before a reader looked is lost to that reader, which
//! counts it by the generation; a reader holds nobody up. Nothing wakes a reader: it looks again and again.
//!
//! A second file is locked by the writer for as long as it lives: that is how readers tell that it died. What it died in the middle of
//! has an odd generation, and is never read: the lock is free then, but the board is not whole.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::Ordering;

use nix::fcntl::{FallocateFlags, fallocate};

use super::each::check_length;
use super::error::During;
use super::link::Plug;
use super::locks::{FileLock, LockKind};
use super::rules::{Delivery, FanOut, Reach, Seen, Wake};
use super::wait::Naps;
use super::{
    Patience, Place, Plugs, ReceiveError, Received, Receiver, Rules, SendError, Sender, SetupError, Transport,
};
use crate::memory::{Mapped, Memory, Word};
use crate::ring::Site;
use crate::segment::plain;

/// The longest record of a board.
const MAX_BYTES: usize = 1 << 20;
const HEADER_WORDS: usize = 3;
const HEADER_BYTES: usize = HEADER_WORDS * 8;
const JOINED: u64 = 1;
const CLOSED: u64 = 2;
/// The real memory ignores it.
const SITE: Site = Site::Commit;

/// A board, by its lock and by how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// The lock.
    pub lock: LockKind,
    /// Mapped: the bytes are written and read in place, without a copy through the kernel.
    pub mapped: bool,
}

impl Board {
    /// Each lock with a file that is read and written, and a mapped one.
    pub const ALL: [Board; 4] = [
        Board { lock: LockKind::Flock, mapped: false },
        Board { lock: LockKind::Lockf, mapped: false },
        Board { lock: LockKind::Record, mapped: false },
        Board { lock: LockKind::OpenFile, mapped: true },
    ];

    fn open(self, plug: &Plug) -> Result<(Notice, FileLock), SetupError> {
        let open = |at| {
            let file = OpenOptions::new().read(true).write(true).open(plug.word(at)?).setup("open a board")?;
            Ok::<_, SetupError>(FileLock::new(file, self.lock))
        };
        let lock = open(0)?;
        let file = lock.file();
        let memory = if self.mapped {
            let bytes = (HEADER_BYTES + MAX_BYTES) as u64;
            if file.metadata().setup("look at a board")?.len() < bytes {
                return Err(SetupError::BadEnd {
                    text: plug.word(0)?.to_owned(),
                    reason: "it is too short for a board",
                });
            }
            Some(plain::file(file, bytes).setup("map a board")?)
        } else {
            None
        };
        Ok((Notice { lock, memory }, open(1)?))
    }
}

impl Transport for Board {
    fn name(&self) -> String {
        let lock = match self.lock {
            _ if self.mapped => "mapped",
            LockKind::Flock => "flock",
            LockKind::Lockf => "lockf",
            LockKind::Record => "record",
            LockKind::OpenFile => "open-file",
        };
        format!("board-{lock}")
    }

    fn rules(&self) -> Rules {
        Rules {
            delivery: Delivery::Counted,
            fan_out: FanOut::Once,
            reach: Reach::Names,
            sender_end: Seen::BOTH,
            receiver_end: Seen::NOTHING,
            holds_sender: false,
            wake: Wake::Polled,
            pollable: false,
            outlives: true,
            ..Rules::messages(MAX_BYTES)
        }
    }

    fn make(&self, place: &Place, receivers: usize) -> Result<Plugs, SetupError> {
        let create = |name| {
            let path = place.file(name);
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            Ok::<_, SetupError>((file.setup("make a board")?, path.to_string_lossy().into_owned()))
        };
        let ((board, board_path), (_, writer_path)) = (create("board")?, create("writer")?);
        // All of it, so that no access to a mapping finds no room.
        fallocate(&board, FallocateFlags::empty(), 0, (HEADER_BYTES + MAX_BYTES) as i64)
            .setup("make room for a board")?;
        let plug = || Plug::words([board_path.clone(), writer_path.clone()]);
        Ok(Plugs { sender: plug(), receivers: (0..receivers).map(|_| plug()).collect() })
    }

    fn sender(&self, plug: Plug, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let (notice, presence) = self.open(&plug)?;
        if !presence.lock(true, patience).setup("lock a board for its writer")? {
            return Err(SetupError::Unable { transport: self.name(), reason: "it has a writer; wait for its end" });
        }
        notice.locked(true, Patience::Forever).setup("lock a board")?;
        let [generation, len, flags] = notice.header().setup("read a board")?;
        // What a writer died in the middle of is no record.
        let generation = generation & !1;
        notice.set_header([generation, len, flags | JOINED]).setup("write to a board")?;
        notice.lock.unlock().setup("unlock a board")?;
        Ok(Box::new(BoardSender { notice, generation, closed: false, _presence: presence }))
    }

    fn receiver(&self, plug: Plug, _: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let (notice, presence) = self.open(&plug)?;
        Ok(Box::new(BoardReceiver { notice, presence, seen: 0, closed: false }))
    }
}

/// The board itself. All that reads or writes it holds the lock.
#[derive(Debug)]
struct Notice {
    lock: FileLock,
    memory: Option<Mapped>,
}

impl Notice {
    fn file(&self) -> &File {
        self.lock.file()
    }

    fn locked(&self, exclusive: bool, patience: Patience) -> nix::Result<bool> {
        self.lock.lock(exclusive, patience)
    }

    // Relaxed, in a mapping: the kernel's lock orders what two holders do.

    fn header(&self) -> std::io::Result<[u64; HEADER_WORDS]> {
        if let Some(memory) = &self.memory {
            // Relaxed: ordered by the kernel's lock, as all of these.
            return Ok([0, 1, 2].map(|word| memory.load(Word(word), Ordering::Relaxed, SITE)));
        }
        let mut bytes = [0; HEADER_BYTES];
        self.file().read_exact_at(&mut bytes, 0)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok([0, 1, 2].map(|word| u64::from_ne_bytes(words[word])))
    }

    fn set_header(&self, header: [u64; HEADER_WORDS]) -> std::io::Result<()> {
        if let Some(memory) = &self.memory {
            for (word, value) in header.into_iter().enumerate() {
                // Relaxed: as in `header`.
                memory.store(Word(word), value, Ordering::Relaxed, SITE);
            }
            return Ok(());
        }
        self.file().write_all_at(&header.map(u64::to_ne_bytes).concat(), 0)
    }

    fn read(&self, record: &mut [u8]) -> std::io::Result<()> {
        match &self.memory {
            Some(memory) => memory.copy_out(Word(HEADER_WORDS), record),
            None => self.file().read_exact_at(record, HEADER_BYTES as u64)?,
        }
        Ok(())
    }

    fn write(&self, record: &[u8]) -> std::io::Result<()> {
        match &self.memory {
            Some(memory) => memory.copy_in(Word(HEADER_WORDS), record),
            None => self.file().write_all_at(record, HEADER_BYTES as u64)?,
        }
        Ok(())
    }
}

#[derive(Debug)]
struct BoardSender {
    notice: Notice,
    /// Even: of what is on the board.
    generation: u64,
    closed: bool,
    /// Locked as long as this one lives.
    _presence: FileLock,
}

impl BoardSender {
    fn post(&mut self, record: &[u8]) -> std::io::Result<()> {
        let (notice, len) = (&self.notice, record.len() as u64);
        notice.set_header([self.generation + 1, len, JOINED])?;
        notice.write(record)?;
        self.generation += 2;
        notice.set_header([self.generation, len, JOINED])
    }
}

impl Sender for BoardSender {
    fn send_within(&mut self, record: &[u8], patience: Patience) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        check_length(record.len(), 0, MAX_BYTES)?;
        if !self.notice.locked(true, patience).sending("lock a board")? {
            return Err(patience.full());
        }
        let outcome = self.post(record);
        self.notice.lock.unlock().sending("unlock a board")?;
        outcome.sending("write to a board")
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if let Ok(true) = self.notice.locked(true, Patience::of(super::CLOSE)) {
            if let Ok([generation, len, flags]) = self.notice.header() {
                let _ = self.notice.set_header([generation, len, flags | CLOSED]);
            }
            let _ = self.notice.lock.unlock();
        }
    }
}

impl Drop for BoardSender {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct BoardReceiver {
    notice: Notice,
    presence: FileLock,
    /// Records that this one has received, or lost.
    seen: u64,
    closed: bool,
}

/// What a look at the board finds.
enum Look {
    New(Received),
    Old { flags: u64 },
    TooLong(usize),
    Locked,
}

impl BoardReceiver {
    fn look(&mut self, buffer: &mut [u8], patience: Patience) -> std::io::Result<Look> {
        if !self.notice.locked(false, patience)? {
            return Ok(Look::Locked);
        }
        let outcome = self.look_locked(buffer);
        self.notice.lock.unlock()?;
        outcome
    }

    fn look_locked(&mut self, buffer: &mut [u8]) -> std::io::Result<Look> {
        let [generation, len, flags] = self.notice.header()?;
        let posted = generation / 2;
        // Odd: its writer died in the middle, or lives on and wants the lock; there is nothing to read.
        if generation % 2 == 1 || posted <= self.seen {
            return Ok(Look::Old { flags });
        }
        let lost = posted - self.seen - 1;
        self.seen = posted;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(record) = buffer.get_mut(..len).filter(|_| len <= MAX_BYTES) else { return Ok(Look::TooLong(len)) };
        self.notice.read(record)?;
        Ok(Look::New(Received { len, lost }))
    }
}

impl Receiver for BoardReceiver {
    fn receive_within(&mut self, buffer: &mut [u8], patience: Patience) -> Result<Received, ReceiveError> {
        let mut naps = Naps::new(patience);
        let mut writer_is_gone = false;
        while !self.closed {
            match self.look(buffer, patience).receiving("read a board")? {
                Look::New(received) => return Ok(received),
                Look::TooLong(len) => return Err(ReceiveError::TooLong { len, room: buffer.len() }),
                Look::Locked => return Err(patience.empty()),
                Look::Old { flags } if flags & CLOSED != 0 => return Err(ReceiveError::Closed),
                // Looked at once more after it was gone: it may have posted in between.
                Look::Old { .. } if writer_is_gone => return Err(ReceiveError::SenderDied),
                Look::Old { flags } if flags & JOINED != 0 => {
                    writer_is_gone = !self.presence.is_held().receiving("look for the writer of a board")?;
                    if writer_is_gone {
                        continue;
                    }
                }
                Look::Old { .. } => {}
            }
            if !naps.nap() {
                return Err(patience.empty());
            }
        }
        Err(ReceiveError::Closed)
    }

    fn close(&mut self) {
        self.closed = true;
    }
}
