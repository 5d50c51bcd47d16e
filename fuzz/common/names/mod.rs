//! Names, and a ring directory into which anybody has put anything: files, links, pipes, halves of rings.
//!
//! Nothing outside the ring directory changes, ever, nor does anything in it but what the call is about: before and after
//! each call all is looked at. A name that breaks a rule is refused as such; whole rings are listed, opened, taken over and
//! removed as what they are; nothing else is taken for a ring.

mod scene;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod seeds;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use shmcast::{CreateError, OpenError, Options, RemoveError, RingState, Writer};

use scene::{Scene, Seen};
pub(crate) use script::Script;
use script::{Call, Name, Part, What};

const MOST_ENTRIES: usize = 6;
const MOST_CALLS: usize = 24;

/// What a name in the ring directory leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    /// Its writer is in this process.
    Live,
    Closed,
    Orphan,
    /// Parts of which certainly no ring can be opened; of some, a remove may still clear away what is a ring's.
    NoRing,
    /// Half of one, or a changed one: what it is taken for is not said here.
    Damaged,
    /// No directory at all.
    Foreign,
}

/// A writer of this process.
struct Owned {
    /// None if the name is no longer its own.
    name: Option<Vec<u8>>,
    keep: bool,
    writer: Writer,
}

struct Model {
    scene: Scene,
    /// By name, as bytes.
    entries: BTreeMap<Vec<u8>, Status>,
    /// Those that look as if they had been there for an hour.
    old: BTreeSet<Vec<u8>>,
    writers: Vec<Owned>,
    waited: bool,
}

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Script) {
    let mut model = Model {
        scene: Scene::new(),
        entries: BTreeMap::new(),
        old: BTreeSet::new(),
        writers: Vec::new(),
        waited: false,
    };
    for entry in script.entries.iter().take(MOST_ENTRIES) {
        model.place(&bytes_of(&entry.name), &entry.what);
    }
    for call in script.calls.iter().take(MOST_CALLS) {
        model.call(call);
    }
}

fn options() -> Options {
    Options::new().capacity(4096).blocks(2).reader_slots(2)
}

/// The rule for names, said once more.
fn is_good(name: &[u8]) -> bool {
    let fits = (1..=200).contains(&name.len());
    fits && name[0] != b'.' && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

fn bytes_of(name: &Name) -> Vec<u8> {
    const ODD: [&[u8]; 16] = [
        b"",
        b".",
        b"..",
        b"/",
        b"../outside",
        b"a/b",
        b"/a",
        b"a/",
        b".hidden",
        b"a b",
        b"a\n",
        b"a\0b",
        "\u{e4}".as_bytes(),
        b"\xff\xfe",
        b"-",
        b"shmcast",
    ];
    match name {
        Name::Known { which } => vec![b'a' + which % 4],
        Name::Odd { which } => ODD[usize::from(*which) % ODD.len()].to_vec(),
        Name::Bytes { bytes } => bytes.iter().copied().take(300).collect(),
        Name::Long { len, byte } => vec![*byte; usize::from(*len) % 300],
        Name::Temporary { which } => format!(".{}.1.{which:x}.tmp", char::from(b'a' + which % 4)).into_bytes(),
    }
}

impl Model {
    fn path(&self, name: &[u8]) -> PathBuf {
        self.scene.rings().join(OsStr::from_bytes(name))
    }

    /// Puts something there, if the name is one component and free.
    fn place(&mut self, name: &[u8], what: &What) {
        let component = !matches!(name, b"" | b"." | b"..") && name.len() <= 255;
        if !component || name.contains(&0) || name.contains(&b'/') || self.entries.contains_key(name) {
            return;
        }
        let path = self.path(name);
        let status = match what {
            What::Live | What::Closed => {
                let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_good(name.as_bytes())) else { return };
                let live = *what == What::Live;
                let writer = options().keep(!live).create(name).unwrap_or_else(|error| panic!("{error}"));
                if live {
                    self.writers.push(Owned { name: Some(name.as_bytes().to_vec()), keep: false, writer });
                }
                if live { Status::Live } else { Status::Closed }
            }
            What::Orphan => {
                self.scene.parts(&path, [&Part::Whole, &Part::Whole, &Part::Whole], false);
                Status::Orphan
            }
            What::Parts { old, ring, registry, lease, more } => {
                self.scene.parts(&path, [ring, registry, lease], *more);
                if *old {
                    scene::make_old(&path);
                    self.old.insert(name.to_vec());
                }
                match [ring, registry, lease] {
                    [Part::Whole, Part::Whole, Part::Whole] if !more => Status::Orphan,
                    // A remove that was killed leaves a directory without a ring, which a create clears away; and a follower needs
                    // neither of the others.
                    [Part::Missing | Part::Whole | Part::Other | Part::Damaged { .. }, _, _] => Status::Damaged,
                    _ => Status::NoRing,
                }
            }
            What::File { bytes } => {
                std::fs::write(&path, bytes).expect("a small file");
                Status::Foreign
            }
            What::Link { to } => {
                self.scene.link(&path, *to);
                Status::Foreign
            }
            What::Fifo => {
                scene::fifo(&path);
                Status::Foreign
            }
        };
        self.entries.insert(name.to_vec(), status);
    }

    fn status(&self, name: &[u8]) -> Option<Status> {
        self.entries.get(name).copied()
    }

    /// A call that may change what `name` leads to, and no more.
    fn about<T>(&mut self, name: &[u8], call: impl FnOnce(&mut Model) -> T) -> (T, bool) {
        let within =
            |path: &Path| path.strip_prefix("rings").is_ok_and(|rest| rest.starts_with(OsStr::from_bytes(name)));
        let before = self.scene.look();
        let answer = call(self);
        let after = self.scene.look();
        let others = |all: &BTreeMap<PathBuf, Seen>| -> BTreeMap<PathBuf, Seen> {
            all.iter().filter(|(path, _)| !within(path)).map(|(path, seen)| (path.clone(), seen.clone())).collect()
        };
        assert!(others(&before) == others(&after), "more was changed than {name:?}: {before:#?} {after:#?}");
        (answer, before != after)
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Create { name } => self.create(&bytes_of(name)),
            Call::OpenOrCreate { name, keep } => self.open_or_create(&bytes_of(name), *keep),
            Call::Open { name, lossy, follower } => self.open(&bytes_of(name), *lossy, *follower),
            Call::Remove { name } => self.remove(&bytes_of(name)),
            Call::List => self.list(),
            Call::Gc => self.gc(),
            Call::CreateFile { name } => self.create_file(&bytes_of(name)),
            Call::RemoveFile { name } => self.remove_file(&bytes_of(name)),
            Call::OpenFile { name } => self.open_file(&bytes_of(name)),
            Call::Posix { name, slash } => posix(&bytes_of(name), *slash),
            Call::DropWriter => {
                if let Some(Owned { name, keep, writer }) = self.writers.pop() {
                    // A ring that was removed, and whose name another one may have, takes nothing with it.
                    let path = name.clone().unwrap_or_else(|| b"nothing/at/all".to_vec());
                    self.about(&path, |_| drop(writer));
                    let Some(name) = name else { return };
                    assert_eq!(self.path(&name).exists(), keep, "a ring goes with its writer, unless it is kept");
                    if keep {
                        self.entries.insert(name, Status::Closed);
                    } else {
                        self.entries.remove(&name);
                    }
                }
            }
        }
    }

    /// The name is nobody's any more.
    fn removed(&mut self, name: &[u8]) -> Option<Status> {
        for owned in self.writers.iter_mut().filter(|owned| owned.name.as_deref() == Some(name)) {
            owned.name = None;
        }
        self.entries.remove(name)
    }

    fn create(&mut self, name: &[u8]) {
        let (text, status) = (String::from_utf8_lossy(name).into_owned(), self.status(name));
        let (answer, changed) = self.about(name, |_| options().create(&text));
        match answer {
            Ok(writer) => {
                assert!(is_good(name) && status.is_none() && changed);
                self.writers.push(Owned { name: Some(name.to_vec()), keep: false, writer });
                self.entries.insert(name.to_vec(), Status::Live);
            }
            Err(error) => {
                assert!(!changed && error.to_string().len() > 20);
                match error {
                    CreateError::InvalidName { .. } => assert!(!is_good(name)),
                    CreateError::NameTaken { .. } => assert!(status.is_some()),
                    error => panic!("{error}"),
                }
            }
        }
    }

    fn open_or_create(&mut self, name: &[u8], keep: bool) {
        // Parts that nobody can clear away may be a create at work: it looks again, for a tenth of a second. Once is enough.
        if self.status(name) == Some(Status::Damaged) && std::mem::replace(&mut self.waited, true) {
            return;
        }
        let (text, status) = (String::from_utf8_lossy(name).into_owned(), self.status(name));
        let (answer, _) = self.about(name, |_| options().keep(keep).open_or_create(&text));
        match answer {
            Ok(writer) => {
                let taken = matches!(status, Some(Status::Live | Status::NoRing | Status::Foreign));
                assert!(is_good(name) && !taken, "{status:?}");
                self.writers.push(Owned { name: Some(name.to_vec()), keep, writer });
                self.entries.insert(name.to_vec(), Status::Live);
            }
            Err(error) => {
                assert!(error.to_string().len() > 20);
                match error {
                    CreateError::InvalidName { .. } => assert!(!is_good(name)),
                    CreateError::WriterAlive { .. } => assert_eq!(status, Some(Status::Live)),
                    CreateError::TakeOver { .. } | CreateError::NameTaken { .. } => {
                        assert!(no_whole_ring(status), "{status:?}: {error}");
                        self.clear_away(name);
                    }
                    error => panic!("{error}"),
                }
            }
        }
    }

    /// After a call that failed, and may have removed some parts.
    fn clear_away(&mut self, name: &[u8]) {
        let path = self.path(name);
        if path.symlink_metadata().is_err() {
            self.entries.remove(name);
        } else if self.status(name) != Some(Status::Foreign) && path.join("ring").symlink_metadata().is_err() {
            self.entries.insert(name.to_vec(), Status::Damaged);
        }
    }

    /// Is there more in the directory of a ring than a ring?
    fn holds_more(&self, name: &[u8]) -> bool {
        let parts = ["ring", "registry", "lease"];
        let found = std::fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        found.into_iter().any(|entry| parts.iter().all(|part| entry.file_name() != *part))
    }

    fn open(&mut self, name: &[u8], lossy: bool, follower: bool) {
        let (text, status) = (String::from_utf8_lossy(name).into_owned(), self.status(name));
        let (answer, changed) = self.about(name, |_| Options::new().lossy(lossy).follower(follower).open(&text));
        assert!(!changed, "an open changes nothing but the registry");
        check_open(answer.err(), status, is_good(name), &text);
    }

    fn remove(&mut self, name: &[u8]) {
        let (text, status) = (String::from_utf8_lossy(name).into_owned(), self.status(name));
        let (answer, changed) = self.about(name, |_| shmcast::remove(&text));
        match answer {
            Ok(()) => {
                assert!(is_good(name) && changed && status.is_some_and(|status| status != Status::Foreign));
                assert!(self.path(name).symlink_metadata().is_err(), "removed, but still there");
                self.removed(name);
            }
            Err(error) => {
                assert!(error.to_string().len() > 20);
                match error {
                    RemoveError::InvalidName { .. } => assert!(!is_good(name) && !changed),
                    RemoveError::NotFound { .. } => assert!(status.is_none() && !changed, "{error}"),
                    // A ring goes, what somebody else put beside it stays, and is told.
                    error => assert!(no_whole_ring(status) || self.holds_more(name), "{status:?}: {error}"),
                }
                assert!(!changed || status != Some(Status::Foreign));
                self.clear_away(name);
            }
        }
    }

    fn list(&mut self) {
        let (listed, changed) = self.about(b"", |_| shmcast::list());
        let listed = listed.unwrap_or_else(|error| panic!("{error}"));
        assert!(!changed, "a list changes nothing");
        let expected: Vec<_> = self.entries.iter().filter(|(name, _)| is_good(name)).collect();
        let names: Vec<_> = listed.iter().map(|ring| ring.name.as_bytes()).collect();
        assert_eq!(names, expected.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>());
        for (ring, (name, status)) in listed.iter().zip(expected) {
            assert_eq!(ring.path, self.path(name));
            let right = match (status, &ring.state) {
                (Status::Live, RingState::Live { process }) => *process == u64::from(std::process::id()),
                (Status::Closed, RingState::Closed) | (Status::Orphan, RingState::Orphaned { readers: 0 }) => true,
                (Status::NoRing | Status::Foreign, RingState::Corrupt { reason }) => reason.len() > 20,
                (Status::Damaged, state) => !matches!(state, RingState::Live { .. }),
                _ => false,
            };
            assert!(right, "{status:?} is listed as {:?}", ring.state);
        }
    }

    fn gc(&mut self) {
        let before = self.scene.look();
        let removed = shmcast::gc().unwrap_or_else(|error| panic!("{error}"));
        let after = self.scene.look();
        for name in &removed {
            let status = self.removed(name.as_bytes());
            assert!(matches!(status, Some(Status::Orphan | Status::Damaged)), "{name}, {status:?}, was removed");
        }
        let mut left = self.entries.iter().filter(|(name, _)| is_good(name));
        assert!(!left.any(|(_, status)| *status == Status::Orphan), "an orphan stays");
        for (path, seen) in &before {
            let Ok(rest) = path.strip_prefix("rings") else {
                assert_eq!(after.get(path), Some(seen), "{} is not in the ring directory", path.display());
                continue;
            };
            let name = rest.components().next().map_or(&b""[..], |name| name.as_os_str().as_bytes());
            let collected = removed.iter().any(|removed| removed.as_bytes() == name);
            let abandoned = name.starts_with(b".") && name.ends_with(b".tmp") && self.old.contains(name);
            match after.get(path) {
                Some(found) => assert!(found == seen && !collected, "{} is not what it was", path.display()),
                None => {
                    // Of a create that was killed, and of an orphan with more in it, only what is a ring's.
                    let inner = rest.components().nth(1).map(|inner| inner.as_os_str().as_bytes());
                    let part = matches!(inner, Some(b"ring" | b"registry" | b"lease"));
                    let damaged = self.status(name) == Some(Status::Damaged);
                    let fair = collected || damaged && part || abandoned && (part || inner.is_none());
                    assert!(fair, "{} is gone", path.display());
                }
            }
        }
        assert!(after.keys().all(|path| before.contains_key(path)), "a collection makes nothing");
        for name in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.clear_away(&name);
        }
    }

    // ---- paths ----

    /// None for a path that leads out of the scene.
    fn file(&self, name: &[u8]) -> Option<PathBuf> {
        let within = !name.contains(&b'/') || matches!(name, b"../outside" | b"a/b" | b"a/");
        within.then(|| self.scene.files().join(OsStr::from_bytes(name)))
    }

    fn create_file(&mut self, name: &[u8]) {
        let Some(path) = self.file(name) else { return };
        let before = self.scene.look();
        let answer = options().create_file(&path);
        match answer {
            Ok(writer) => {
                assert!(self.scene.look().len() == before.len() + 2, "two files");
                let opened = Options::new().open_file(&path);
                assert!(opened.is_ok(), "{opened:?}");
                assert!(matches!(options().create_file(&path), Err(CreateError::NameTaken { .. })));
                drop((opened, writer));
            }
            Err(error) => assert!(error.to_string().len() > 20),
        }
        assert!(self.scene.look() == before, "it goes with its writer");
    }

    fn remove_file(&mut self, name: &[u8]) {
        let Some(path) = self.file(name) else { return };
        let before = self.scene.look();
        let answer = shmcast::remove_file(&path);
        assert!(
            answer.is_err_and(|error| error.to_string().len() > 20) && self.scene.look() == before,
            "there is no ring"
        );
    }

    fn open_file(&mut self, name: &[u8]) {
        let Some(path) = self.file(name) else { return };
        let before = self.scene.look();
        let answer = Options::new().lossy(true).open_file(&path);
        assert!(
            answer.is_err_and(|error| error.to_string().len() > 20) && self.scene.look() == before,
            "there is no ring"
        );
    }
}

fn no_whole_ring(status: Option<Status>) -> bool {
    matches!(status, Some(Status::NoRing | Status::Damaged | Status::Foreign))
}

fn check_open(error: Option<OpenError>, status: Option<Status>, good: bool, text: &str) {
    let Some(error) = error else {
        let ring = matches!(status, Some(Status::Live | Status::Closed | Status::Orphan | Status::Damaged));
        assert!(good && ring, "{text:?}, {status:?}, is a ring");
        return;
    };
    assert!(error.to_string().len() > 20);
    match error {
        OpenError::InvalidName { ref name, .. } => assert!(!good && name == text),
        OpenError::NotFound { .. } => assert!(status.is_none() || no_whole_ring(status), "{status:?}"),
        error => assert!(no_whole_ring(status), "{status:?}: {error}"),
    }
}

/// A bad name is refused before anything is looked for.
fn posix(name: &[u8], slash: bool) {
    let name = String::from_utf8_lossy(name);
    let name = if slash { format!("/{name}") } else { name.into_owned() };
    let plain = name.strip_prefix('/').unwrap_or(&name);
    if is_good(plain.as_bytes()) && plain != "shmcast" {
        return;
    }
    assert!(matches!(options().create_posix(&name), Err(CreateError::InvalidName { .. })), "{name:?}");
    assert!(matches!(options().open_or_create_posix(&name), Err(CreateError::InvalidName { .. })), "{name:?}");
    assert!(matches!(Options::new().open_posix(&name), Err(OpenError::InvalidName { .. })), "{name:?}");
    assert!(matches!(shmcast::remove_posix(&name), Err(RemoveError::InvalidName { .. })), "{name:?}");
}
