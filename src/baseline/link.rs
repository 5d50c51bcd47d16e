//! Where a link lives, and how its ends come to the processes that use them.
//!
//! ```text
//!   Place::new(directory) ─▶ Link::make(&transport, place, receivers) ─▶ Link { sender: End, receivers: [End], .. }
//!                                                                        │ here:      End::sender, End::receiver
//!                                                                        │ a child:   End::pass_to(&mut command) ─▶ text
//!                                                                        ▼            End::from_text(text) in the child
//!                                                      Box<dyn Sender>, Box<dyn Receiver>
//! ```
//! All objects with a name are named after the place before any of them is made, so that whoever guards the processes knows
//! what could be left behind if they are killed: [`Place::objects`].

use std::cell::Cell;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::mqueue::{MQ_OFlag, mq_open, mq_unlink};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;

use super::error::{During, SetupError};
use super::{Patience, Receiver, Sender, Transport, by_name};
use crate::segment::directory::ring_directory;
use crate::segment::survey::{half_made, sweep_half_made};
use crate::{Subscriber, SysvKey, Writer};

/// More receivers than this no link has.
pub const MAX_RECEIVERS: usize = 64;
/// What the names of all links begin with.
const PREFIX: &str = "shmcast-";
/// A file that says that the keys of the place were used.
const USES_KEYS: &str = "uses-keys";
/// The numbers for `ftok`: from `@` on, so that the keys are not those of small programs.
const PROJECTS: std::ops::Range<u8> = 0x40..0x7E;

/// An object that can outlive all processes that use it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A directory with all that is in it.
    Directory(PathBuf),
    /// What has this System V key: a message queue, semaphores, shared memory.
    Key(i32),
    /// A POSIX message queue.
    Queue(String),
    /// POSIX shared memory; a semaphore is one too, by the name of `sem.` and its own.
    Memory(String),
    /// A named ring, or what killed creators of it left.
    Ring(String),
}

impl Object {
    /// Is it there?
    #[must_use]
    pub fn exists(&self) -> bool {
        match self {
            Object::Directory(path) => path.exists(),
            Object::Key(key) => shm_id(*key).is_some() || msg_id(*key).is_some() || sem_id(*key).is_some(),
            Object::Queue(name) => {
                let opened = mq_open(name.as_str(), MQ_OFlag::O_RDONLY, Mode::empty(), None);
                let there = !matches!(opened, Err(Errno::ENOENT));
                let _ = opened.map(nix::mqueue::mq_close);
                there
            }
            Object::Memory(name) => {
                let opened = shm_open(name.as_str(), nix::fcntl::OFlag::O_RDONLY, Mode::empty());
                !matches!(opened, Err(Errno::ENOENT))
            }
            Object::Ring(name) => ring_directory().join(name).exists() || !half_made(name).is_empty(),
        }
    }

    /// Removes it, if it is there and may be removed; whoever uses it keeps it, or is told, as the object will have it.
    pub fn remove(&self) {
        match self {
            Object::Directory(path) => drop(std::fs::remove_dir_all(path)),
            Object::Key(key) => {
                if let Some(memory) = shm_id(*key) {
                    // SAFETY: whoever has it attached keeps it.
                    unsafe { libc::shmctl(memory, libc::IPC_RMID, std::ptr::null_mut()) };
                }
                if let Some(queue) = msg_id(*key) {
                    // SAFETY: no memory is involved.
                    unsafe { libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()) };
                }
                if let Some(semaphores) = sem_id(*key) {
                    // SAFETY: as above.
                    unsafe { libc::semctl(semaphores, 0, libc::IPC_RMID) };
                }
            }
            Object::Queue(name) => drop(mq_unlink(name.as_str())),
            Object::Memory(name) => drop(shm_unlink(name.as_str())),
            Object::Ring(name) => {
                sweep_half_made(name);
                drop(crate::remove(name));
            }
        }
    }
}

fn shm_id(key: i32) -> Option<i32> {
    // SAFETY: no memory is involved.
    let id = unsafe { libc::shmget(key, 0, 0) };
    (id >= 0).then_some(id)
}

fn msg_id(key: i32) -> Option<i32> {
    // SAFETY: no memory is involved.
    let id = unsafe { libc::msgget(key, 0) };
    (id >= 0).then_some(id)
}

fn sem_id(key: i32) -> Option<i32> {
    // SAFETY: no memory is involved.
    let id = unsafe { libc::semget(key, 0, 0) };
    (id >= 0).then_some(id)
}

/// Names for the objects of one link: a directory of its own, and names and keys that nothing else has. All of it goes with this value,
/// or, once there is a link, with [`Link::names`].
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    tag: String,
    keys: [i32; 2],
    /// Something was, or will be, made with the keys: what has them is this link's.
    uses_keys: Cell<bool>,
    /// Of the link that was made here.
    receivers: usize,
    /// A forked child removes nothing.
    owner: u32,
}

impl Place {
    /// A place within a directory that exists. One link can be made there.
    ///
    /// # Errors
    /// The directory cannot be written, or its path is not UTF-8.
    pub fn new(within: impl AsRef<Path>) -> Result<Place, SetupError> {
        let within = within.as_ref();
        loop {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(std::io::Error::from).setup("draw a name")?;
            let tag = format!("{:016x}", u64::from_ne_bytes(random));
            let directory = within.join(format!("{PREFIX}{tag}"));
            std::fs::DirBuilder::new().mode(0o700).create(&directory).setup("make a directory")?;
            let keys = keys_of(&directory)?;
            let place =
                Place { directory, tag, keys, uses_keys: Cell::new(false), receivers: 0, owner: std::process::id() };
            if place.directory.to_str().is_none() {
                return Err(SetupError::Unable {
                    transport: "a link".to_owned(),
                    reason: "the path of its directory must be UTF-8; use another directory",
                });
            }
            // Two files can have one key.
            if !place.keys.iter().any(|key| Object::Key(*key).exists()) {
                return Ok(place);
            }
        }
    }

    /// All that a link here could leave behind if its processes are killed; most of it is never made. The directory is the last: as
    /// long as anything is there, so is the directory that tells its name.
    #[must_use]
    pub fn objects(&self, receivers: usize) -> Vec<Object> {
        let mut objects: Vec<Object> = self.keys.map(Object::Key).into();
        objects.extend(named_objects(&self.tag, receivers));
        objects.push(Object::Directory(self.directory.clone()));
        objects
    }

    /// All that links could have left behind whose places were in this directory, and of which nobody is alive any more: for whoever
    /// cleans up after processes that were killed before they told of their places.
    #[must_use]
    pub fn left_in(within: &Path) -> Vec<Object> {
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(within).into_iter().flatten().flatten() {
            let directory = entry.path();
            let name = entry.file_name();
            let tag = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let Some(tag) = tag.filter(|tag| tag.len() == 16) else { continue };
            if directory.join(USES_KEYS).exists() {
                objects.extend(keys_of(&directory).into_iter().flatten().map(Object::Key));
            }
            objects.extend(named_objects(tag, MAX_RECEIVERS));
            objects.push(Object::Directory(directory));
        }
        objects
    }

    /// A file of the link.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A POSIX name, as `mq_open`, `sem_open` and `shm_open` want it.
    pub(super) fn name(&self, number: usize) -> String {
        name_of(&self.tag, number)
    }

    /// The file of which the keys are made, for whoever will make something with them.
    pub(super) fn directory(&self) -> &Path {
        self.will_use_keys();
        &self.directory
    }

    /// The System V key of the link, to make something with it.
    pub(super) fn key(&self) -> i32 {
        self.will_use_keys();
        self.keys[0]
    }

    fn will_use_keys(&self) {
        self.uses_keys.set(true);
        // For `left_in`. Where it cannot be written the link itself still knows.
        let _ = std::fs::write(self.file(USES_KEYS), []);
    }
}

fn name_of(tag: &str, number: usize) -> String {
    format!("/{PREFIX}{tag}-{number}")
}

/// What of a link's objects has a name; see [`Place::objects`].
fn named_objects(tag: &str, receivers: usize) -> Vec<Object> {
    let name = |number| name_of(tag, number);
    let mut objects: Vec<Object> = (0..receivers).map(|receiver| Object::Queue(name(receiver))).collect();
    objects.extend((0..receivers * 2).map(|number| Object::Memory(format!("/sem.{}", &name(number)[1..]))));
    let ring = name(0);
    objects.push(Object::Ring(ring[1..].to_owned()));
    objects.extend([Object::Memory(format!("{ring}.registry")), Object::Memory(ring)]);
    objects
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let is_ours = |object: &&Object| self.uses_keys.get() || !matches!(object, Object::Key(_));
            self.objects(self.receivers).iter().filter(is_ours).for_each(Object::remove);
        }
    }
}

/// `ftok` of the directory: whoever knows the path has the key.
pub(super) fn key_of(path: &Path) -> Result<i32, SetupError> {
    Ok(keys_of(path)?[0])
}

/// The keys of a ring at this path.
pub(super) fn ring_key(path: &Path) -> Result<SysvKey, SetupError> {
    Ok(SysvKey::of_path(path, project_of(path))?)
}

/// Drawn from the random name of the directory, so that everybody finds it: `ftok` takes but 16 bits of the inode, and those of new
/// directories are much alike.
fn project_of(directory: &Path) -> u8 {
    let name = directory.file_name().unwrap_or_default().as_bytes();
    let sum = name.iter().fold(0_usize, |sum, byte| sum * 31 % 1_000_003 + usize::from(*byte));
    PROJECTS.start + (sum % PROJECTS.len()) as u8
}

fn keys_of(path: &Path) -> Result<[i32; 2], SetupError> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT).setup("make a key of a path")?;
    let key = |project: u8| {
        // SAFETY: `name` ends with a zero.
        Errno::result(unsafe { libc::ftok(name.as_ptr(), i32::from(project)) }).setup("make a key of a path")
    };
    let project = project_of(path);
    Ok([key(project)?, key(project + 1)?])
}

/// What only the process that made the link, or a fork of it, can use.
pub(super) enum Local {
    Writer(Box<Writer>),
    Subscriber(Subscriber),
}

/// What one end needs to connect: words, descriptors, or something that cannot leave the process.
#[derive(Default)]
pub struct Plug {
    pub(super) words: Vec<String>,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) local: Option<Local>,
}

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plug { words, descriptors, local } = self;
        f.debug_struct("Plug")
            .field("words", words)
            .field("descriptors", descriptors)
            .field("local", &local.is_some())
            .finish()
    }
}

impl Plug {
    pub(super) fn words(words: impl IntoIterator<Item = String>) -> Plug {
        Plug { words: words.into_iter().collect(), ..Plug::default() }
    }

    pub(super) fn path(path: &Path) -> Plug {
        Plug::words([path.to_string_lossy().into_owned()])
    }

    pub(super) fn with(mut self, descriptors: impl IntoIterator<Item = OwnedFd>) -> Plug {
        self.descriptors.extend(descriptors);
        self
    }

    pub(super) fn word(&self, at: usize) -> Result<&str, SetupError> {
        self.words.get(at).map(String::as_str).ok_or_else(|| bad_end(&self.words.join("|"), "a word is missing"))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T, SetupError> {
        let word = self.word(at)?;
        word.parse().map_err(|_| bad_end(word, "it is no number"))
    }

    /// Takes the next descriptor.
    pub(super) fn descriptor(&mut self) -> Result<OwnedFd, SetupError> {
        if self.descriptors.is_empty() {
            return Err(bad_end(&self.words.join("|"), "a descriptor is missing"));
        }
        Ok(self.descriptors.remove(0))
    }
}

fn bad_end(text: &str, reason: &'static str) -> SetupError {
    SetupError::BadEnd { text: text.to_owned(), reason }
}

/// The plugs of a link that was just made.
#[derive(Debug)]
pub struct Plugs {
    /// The sender's.
    pub sender: Plug,
    /// The receivers'.
    pub receivers: Vec<Plug>,
}

/// One side of a link, not connected yet.
#[derive(Debug)]
pub struct End {
    transport: String,
    sends: bool,
    plug: Plug,
}

impl End {
    /// The name of its transport.
    #[must_use]
    pub fn transport_name(&self) -> &str {
        &self.transport
    }

    /// Connects it as the sender; waits for the other side where the transport wants that.
    ///
    /// # Errors
    /// [`SetupError`]; it is a receiver's end.
    pub fn sender(self, patience: Patience) -> Result<Box<dyn Sender>, SetupError> {
        let transport = self.transport()?;
        match self.sends {
            true => transport.sender(self.plug, patience),
            false => Err(bad_end(&self.transport, "it is a receiver's")),
        }
    }

    /// Connects it as a receiver; waits for the other side where the transport wants that.
    ///
    /// # Errors
    /// [`SetupError`]; it is the sender's end.
    pub fn receiver(self, patience: Patience) -> Result<Box<dyn Receiver>, SetupError> {
        let transport = self.transport()?;
        match self.sends {
            false => transport.receiver(self.plug, patience),
            true => Err(bad_end(&self.transport, "it is the sender's")),
        }
    }

    fn transport(&self) -> Result<Box<dyn Transport>, SetupError> {
        by_name(&self.transport).ok_or_else(|| bad_end(&self.transport, "there is no such transport"))
    }

    /// Passes it to the child that `command` will start: its descriptors are inherited under their numbers, and the text that is
    /// answered tells the child about them, by an argument or otherwise. **Drop the command after the spawn**: until then it
    /// holds the descriptors here, too, and the other side sees no end.
    ///
    /// # Errors
    /// The end is memory of this process: only forks, or threads, can use it.
    pub fn pass_to(self, command: &mut Command) -> Result<String, SetupError> {
        if self.plug.local.is_some() {
            return Err(SetupError::Unable {
                transport: self.transport,
                reason: "its ends cannot leave this process; fork, or use a thread",
            });
        }
        let numbers: Vec<RawFd> = self.plug.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut text = format!("{}|{}|", self.transport, if self.sends { "sender" } else { "receiver" });
        text.push_str(&numbers.iter().map(RawFd::to_string).collect::<Vec<_>>().join(","));
        for word in &self.plug.words {
            text.push('|');
            text.push_str(&word.replace('%', "%25").replace('|', "%7C"));
        }
        let descriptors = self.plug.descriptors;
        let inherit = move || {
            for descriptor in &descriptors {
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: runs in the child between fork and exec: one system call for each descriptor, no allocation, no lock.
        unsafe { command.pre_exec(inherit) };
        Ok(text)
    }

    /// The end that a parent has passed to this process.
    ///
    /// # Errors
    /// [`SetupError::BadEnd`]: the text is none that [`pass_to`](Self::pass_to) answered.
    ///
    /// # Safety
    /// The descriptors that the text names must have been inherited for this, and belong to nobody else in this process: call it
    /// once for each text, which must come from the parent.
    pub unsafe fn from_text(text: &str) -> Result<End, SetupError> {
        let mut words = text.split('|').map(|word| word.replace("%7C", "|").replace("%25", "%"));
        let transport = words.next().unwrap_or_default();
        let sends = match words.next().as_deref() {
            Some("sender") => true,
            Some("receiver") => false,
            _ => return Err(bad_end(text, "it is neither a sender's nor a receiver's")),
        };
        let mut descriptors = Vec::new();
        for number in words.next().unwrap_or_default().split(',').filter(|number| !number.is_empty()) {
            let number: RawFd = number.parse().map_err(|_| bad_end(text, "a descriptor is no number"))?;
            // SAFETY: asks about a number.
            if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(bad_end(text, "a descriptor was not inherited"));
            }
            // SAFETY: it is open, and by the contract of this function nobody else's.
            descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
        }
        let plug = Plug { words: words.collect(), descriptors, local: None };
        Ok(End { transport, sends, plug })
    }
}

/// A link that was made: its two sides, and what must be removed afterwards.
#[derive(Debug)]
pub struct Link {
    /// The sender's side.
    pub sender: End,
    /// The receivers' sides.
    pub receivers: Vec<End>,
    /// Keeps the names of the link.
    pub names: Names,
}

/// The names of a link: dropped, they are removed. Whoever is connected stays connected. (In a forked child nothing is removed.)
#[derive(Debug)]
pub struct Names {
    _place: Place,
}

impl Link {
    /// Makes a link at a place of its own. What it leaves in the system goes with [`Link::names`].
    ///
    /// # Errors
    /// [`SetupError`]: more receivers than [`MAX_RECEIVERS`]; this machine lacks the transport; there is no room for it.
    pub fn make(transport: &dyn Transport, mut place: Place, receivers: usize) -> Result<Link, SetupError> {
        let name = transport.name();
        if !(1..=MAX_RECEIVERS).contains(&receivers) {
            return Err(SetupError::Unable { transport: name, reason: "a link has from 1 to 64 receivers" });
        }
        place.receivers = receivers;
        let plugs = transport.make(&place, receivers)?;
        let names = Names { _place: place };
        let end = |sends, plug| End { transport: name.clone(), sends, plug };
        let ends = plugs.receivers.into_iter().map(|plug| end(false, plug)).collect();
        Ok(Link { sender: end(true, plugs.sender), receivers: ends, names })
    }
}
