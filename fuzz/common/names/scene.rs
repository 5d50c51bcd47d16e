//! A ring directory, a place for files, and a place outside, which nobody may touch.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use shmcast::layout::{REGISTRY_MAGIC, WORD_BYTES};

use super::options;
use super::script::Part;

const PARTS: [&str; 3] = ["ring", "registry", "lease"];

/// What is at a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Directory,
    File(Vec<u8>),
    /// A registry, which every reader writes.
    Registry(usize),
    Link(PathBuf),
    Other,
}

/// Gone with this value.
pub(super) struct Scene {
    base: PathBuf,
    /// The ring directory is the process's.
    _alone: MutexGuard<'static, ()>,
}

/// The files of a ring whose writer is gone, as another process would have left them, and of another ring.
fn templates() -> &'static [[Vec<u8>; 3]; 2] {
    static TEMPLATES: OnceLock<[[Vec<u8>; 3]; 2]> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        ["one", "another"].map(|name| {
            let _writer = options().create(name).unwrap_or_else(|error| panic!("{error}"));
            PARTS.map(|part| fs::read(base().join("rings").join(name).join(part)).expect("a part"))
        })
    })
}

fn base() -> PathBuf {
    PathBuf::from(format!("/dev/shm/shmcast-fuzz-names-{}", std::process::id()))
}

impl Scene {
    pub(super) fn new() -> Scene {
        static ALONE: Mutex<()> = Mutex::new(());
        static CHOSEN: OnceLock<()> = OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let base = base();
        // SAFETY: nothing here reads the environment but through the standard library, which locks it.
        CHOSEN.get_or_init(|| unsafe { std::env::set_var("SHMCAST_DIR", base.join("rings")) });
        // Of a process that was killed and had this number.
        let _ = fs::remove_dir_all(&base);
        let scene = Scene { base, _alone: alone };
        for directory in ["", "rings", "files", "outside", "outside/ring"] {
            make_directory(&scene.base.join(directory));
        }
        for (part, bytes) in PARTS.iter().zip(&templates()[0]) {
            write(&scene.base.join("outside/ring").join(part), bytes);
        }
        write(&scene.base.join("outside/file"), b"precious");
        scene
    }

    pub(super) fn rings(&self) -> PathBuf {
        self.base.join("rings")
    }

    pub(super) fn files(&self) -> PathBuf {
        self.base.join("files")
    }

    /// All that there is, by its path.
    pub(super) fn look(&self) -> BTreeMap<PathBuf, Seen> {
        let (mut found, mut left) = (BTreeMap::new(), vec![PathBuf::new()]);
        while let Some(at) = left.pop() {
            for entry in fs::read_dir(self.base.join(&at)).expect("a directory") {
                let entry = entry.expect("an entry");
                let (kind, path) = (entry.file_type().expect("a type"), at.join(entry.file_name()));
                let seen = if kind.is_dir() {
                    left.push(path.clone());
                    Seen::Directory
                } else if kind.is_symlink() {
                    Seen::Link(fs::read_link(entry.path()).expect("a link"))
                } else if kind.is_fifo() || !kind.is_file() {
                    Seen::Other
                } else {
                    let bytes = fs::read(entry.path()).expect("a file");
                    if bytes.starts_with(&REGISTRY_MAGIC.to_ne_bytes()) && bytes.len() as u64 > WORD_BYTES {
                        Seen::Registry(bytes.len())
                    } else {
                        Seen::File(bytes)
                    }
                };
                found.insert(path, seen);
            }
        }
        found
    }

    /// A directory with the parts of a ring, or what stands in their place.
    pub(super) fn parts(&self, path: &Path, parts: [&Part; 3], more: bool) {
        make_directory(path);
        for (nth, (name, part)) in PARTS.iter().zip(parts).enumerate() {
            let (at, whole) = (path.join(name), &templates()[0][nth]);
            match part {
                Part::Whole => write(&at, whole),
                Part::Missing => {}
                Part::Empty => write(&at, b""),
                Part::Other => write(&at, &templates()[1][nth]),
                Part::Damaged { at: byte, value, less } => {
                    let mut bytes = whole.clone();
                    if let Some(byte) = usize::from(*byte).checked_rem(bytes.len()) {
                        bytes[byte] = *value;
                    }
                    bytes.truncate(bytes.len().saturating_sub(usize::from(*less)));
                    write(&at, &bytes);
                }
                Part::Bytes { bytes } => write(&at, bytes),
                Part::Link { to } => self.link(&at, *to),
                Part::Fifo => fifo(&at),
                Part::Directory => make_directory(&at),
            }
        }
        if more {
            write(&path.join("more"), b"more");
        }
    }

    pub(super) fn link(&self, path: &Path, to: u8) {
        let to = match to % 6 {
            0 => self.base.join("outside/file"),
            1 => self.base.join("outside/ring"),
            2 => PathBuf::from("../outside/ring/ring"),
            3 => PathBuf::from("a"),
            4 => path.to_owned(),
            _ => PathBuf::from("/proc/self/fd"),
        };
        symlink(to, path).expect("a link");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn make_directory(path: &Path) {
    DirBuilder::new().mode(0o700).create(path).expect("a directory in /dev/shm");
}

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("a small file");
}

pub(super) fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("a pipe");
}

/// As if it had been left there long ago.
pub(super) fn make_old(path: &Path) {
    let long_ago = SystemTime::now().checked_sub(Duration::from_secs(3600)).expect("an hour since 1970");
    File::open(path).and_then(|directory| directory.set_modified(long_ago)).expect("our own");
}
