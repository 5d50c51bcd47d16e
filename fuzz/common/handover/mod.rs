//! A ring that comes over a socket from anybody.
//!
//! The same bytes twice: as a message for the parser, which must write what it has read; and in a script, which sends a message
//! that is somewhat changed, with descriptors of all kinds, to a real receiver. What is whole and right must be taken, all
//! else must not, and every descriptor is closed.

pub(crate) mod script;

use std::fs::File as OpenFile;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use shmcast::layout::handover::{MESSAGE_BYTES, MESSAGE_MAGIC, Message};
use shmcast::{Handover, HandoverError, Options, ReceiveError, SharedRing, TryRecvError, Writer};

pub(crate) use script::Script;
use script::{File, Length};

/// More than a receiver takes, fewer than a message can have.
const MOST_FILES: usize = 30;
const MOST_EDITS: usize = 30;

/// Reads a message, whatever it is.
pub(crate) fn parse(bytes: &[u8]) {
    match Message::parse(bytes) {
        Ok(message) => {
            assert_eq!(message.encode(), bytes, "what is read is what would be written");
            assert!(matches!(message.descriptors(), 1 | 2));
        }
        Err(error) => {
            assert!(error.to_string().len() > 20);
            let needed = MESSAGE_BYTES;
            match error {
                HandoverError::Truncated { found, .. } => assert!(found == bytes.len() && found < needed),
                HandoverError::TooLong { .. } => assert!(bytes.len() > needed),
                HandoverError::Magic { found } => assert!(found != MESSAGE_MAGIC && bytes.starts_with(&found)),
                HandoverError::Version { found, supported } => assert_ne!(found, supported),
                HandoverError::Descriptors { found } => assert!(found != 1 && found != 3),
                other => panic!("{other}"),
            }
        }
    }
}

/// The rings that are sent, made once: nobody changes them.
struct Rings {
    /// Neither is dropped: that would close the ring.
    _writers: Mutex<[Writer; 2]>,
    shared: [SharedRing; 2],
    incarnations: [u64; 2],
}

fn rings() -> &'static Rings {
    static RINGS: OnceLock<Rings> = OnceLock::new();
    RINGS.get_or_init(|| {
        let options = Options::new().capacity(4096).reader_slots(2);
        let made = [options.create_memfd(), options.create_memfd_strict()];
        let mut writers = made.map(|writer| writer.unwrap_or_else(|error| panic!("{error}")));
        for writer in &mut writers {
            writer.publish(b"one record").unwrap_or_else(|error| panic!("{error}"));
        }
        let shared = writers.each_ref().map(|writer| writer.shared_ring().unwrap_or_else(|error| panic!("{error}")));
        let incarnations = shared.each_ref().map(|ring| word(&segment_of(ring, false), 3));
        Rings { _writers: Mutex::new(writers), shared, incarnations }
    })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at * 8..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// The bytes of a segment as they are now.
fn segment_of(ring: &SharedRing, registry: bool) -> Vec<u8> {
    bytes_of(if registry { ring.registry() } else { Some(ring.ring()) }.expect("a full reader's"))
}

/// The bytes of a memfd as they are now.
pub(crate) fn bytes_of(file: BorrowedFd<'_>) -> Vec<u8> {
    let file = OpenFile::from(file.try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("a memfd").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("as many as there are");
    bytes
}

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Script) {
    let rings = rings();
    let base = &script.message;
    let incarnation = rings.incarnations[usize::from(base.strict)];
    let mut bytes = Message { registry: base.registry, incarnation }.encode().to_vec();
    for edit in script.edits.iter().take(MOST_EDITS) {
        bytes[usize::from(edit.at) % MESSAGE_BYTES] = edit.value;
    }
    match script.length {
        Length::Whole => {}
        Length::Less { by } => bytes.truncate(MESSAGE_BYTES - usize::from(by) % MESSAGE_BYTES),
        Length::More { by } => bytes.extend(std::iter::repeat_n(by, 1 + usize::from(by))),
    }
    parse(&bytes);

    let (mut alarm, closing) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map(|(a, b)| (OpenFile::from(a), b)).expect("a pipe");
    let wanted = &script.files[..script.files.len().min(MOST_FILES)];
    let files: Vec<OwnedFd> = wanted.iter().map(|file| made(file, rings, &closing)).collect();
    let kind = if script.stream { SockType::Stream } else { SockType::SeqPacket };
    let (here, there) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
    let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if files.is_empty() { &rights[..0] } else { &rights[..] };
    let sent = sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(bytes.len()));
    drop((here, files));

    let received = Handover::new().require_strict(script.require_strict).receive(&there);
    match expected(script, &bytes, wanted) {
        Some(true) => assert!(received.is_ok(), "{:?}", received.err()),
        Some(false) => assert!(received.is_err(), "{received:?}"),
        None => {}
    }
    match received {
        Ok(ring) => read(&ring),
        Err(ReceiveError::NothingYet | ReceiveError::NoPeer | ReceiveError::PeerRefused { .. }) => panic!("it came"),
        Err(error) => assert!(error.to_string().len() > 20),
    }
    // Nobody has the write end any more: the end of the pipe, and not "nothing yet".
    drop((closing, there));
    assert_eq!(alarm.read(&mut [0]).ok(), Some(0), "a descriptor stayed open");
}

/// Must it be taken? None where that is a matter of what a header parser accepts.
fn expected(script: &Script, bytes: &[u8], files: &[File]) -> Option<bool> {
    // A stream has no ends of messages.
    let said = if script.stream { &bytes[..bytes.len().min(MESSAGE_BYTES)] } else { bytes };
    let Ok(message) = Message::parse(said) else { return Some(false) };
    if files.len() != message.descriptors() {
        return Some(false);
    }
    if files.iter().any(|file| matches!(file, File::Copy { .. })) {
        return None;
    }
    let (File::Ring { strict } | File::WritableRing { strict }) = &files[0] else { return Some(false) };
    let registry = match files.get(1) {
        None => true,
        Some(File::Registry { strict: of }) => of == strict,
        Some(_) => false,
    };
    let same = rings().incarnations[usize::from(*strict)] == message.incarnation;
    Some(registry && same && (*strict || !script.require_strict))
}

fn made(file: &File, rings: &Rings, closing: &OwnedFd) -> OwnedFd {
    let shared = |strict: &bool| &rings.shared[usize::from(*strict)];
    let copy = |file: BorrowedFd<'_>| file.try_clone_to_owned().expect("a descriptor");
    let again = |file: BorrowedFd<'_>, flags: OFlag| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).expect("our own")
    };
    match file {
        File::Ring { strict } => copy(shared(strict).ring()),
        File::Registry { strict } => copy(shared(strict).registry().expect("a full reader's")),
        File::WritableRing { strict } => again(shared(strict).ring(), OFlag::O_RDWR),
        File::ReadOnlyRegistry { strict } => {
            again(shared(strict).registry().expect("a full reader's"), OFlag::O_RDONLY)
        }
        File::Pipe => copy(closing.as_fd()),
        File::Memfd { sealed, bytes } => memfd(bytes, *sealed),
        File::Copy { registry, edits, less } => {
            let mut bytes = segment_of(&rings.shared[0], *registry);
            for edit in edits.iter().take(MOST_EDITS) {
                let at = usize::from(edit.word) * 8 % bytes.len();
                bytes[at..][..8].copy_from_slice(&edit.value.to_ne_bytes());
            }
            bytes.truncate(bytes.len() - usize::from(*less) % bytes.len());
            memfd(&bytes, true)
        }
    }
}

/// As a receiver takes it.
pub(crate) fn sealed_memfd(bytes: &[u8]) -> OwnedFd {
    memfd(bytes, true)
}

fn memfd(bytes: &[u8], sealed: bool) -> OwnedFd {
    let file = memfd_create("fuzz", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let file = OpenFile::from(file);
    file.write_all_at(bytes, 0).expect("a little memory");
    let seals = if sealed { SealFlag::F_SEAL_SHRINK } else { SealFlag::F_SEAL_GROW };
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("our own");
    file.into()
}

/// What was taken can be read, or refused once more, and nothing else happens.
fn read(ring: &SharedRing) {
    let Ok(mut reader) = ring.open(&Options::new().lossy(true)) else { return };
    for _ in 0..8 {
        match reader.try_recv() {
            Ok(record) => assert!(record.payload.len() <= reader.max_payload()),
            Err(TryRecvError::Lagged(lost)) => assert!(lost > 0),
            Err(_) => break,
        }
    }
}
