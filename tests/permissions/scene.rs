//! A ring of one kind, made by the owner in a process of his own, and what others can try with it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use shmcast::{Access, CreateError, OpenError, Options, Reader, RemoveError, SysvKey, Writer};

use crate::people::{Person, TEAM};
use crate::support::{Child, guard, smallest, unique_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Named,
    Posix,
    Sysv,
}

/// Kinds whose segments are files, with locks.
pub(crate) const WITH_FILES: [Kind; 3] = [Kind::File, Kind::Named, Kind::Posix];

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::File, Kind::Named, Kind::Posix, Kind::Sysv];

    pub(crate) fn of(name: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name).expect("a kind")
    }
}

/// For whom a ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Me,
    GroupToFollow,
    AllToFollow,
    GroupToRead,
    AllToRead,
    AllToFollowGroupToRead,
}

impl For {
    pub(crate) const ALL: [For; 6] =
        [For::Me, For::GroupToFollow, For::AllToFollow, For::GroupToRead, For::AllToRead, For::AllToFollowGroupToRead];

    pub(crate) fn of(name: &str) -> For {
        For::ALL.into_iter().find(|whom| format!("{whom:?}") == name).expect("for somebody")
    }

    pub(crate) fn options(self) -> Options {
        let (followers, readers) = match self {
            For::Me => (Access::Owner, Access::Owner),
            For::GroupToFollow => (Access::Group, Access::Owner),
            For::AllToFollow => (Access::Everyone, Access::Owner),
            For::GroupToRead => (Access::Owner, Access::Group),
            For::AllToRead => (Access::Owner, Access::Everyone),
            For::AllToFollowGroupToRead => (Access::Everyone, Access::Group),
        };
        smallest().followers(followers).readers(readers).group(TEAM)
    }
}

/// Where a ring is: as others are told.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) kind: Kind,
    /// A path, a name, a number.
    pub(crate) address: String,
    /// The ring directory, for named rings.
    rings: PathBuf,
}

impl Spot {
    pub(crate) fn of(kind: &str, address: &str) -> Spot {
        let rings = std::env::var_os("SHMCAST_DIR").map(PathBuf::from).unwrap_or_default();
        Spot { kind: Kind::of(kind), address: address.to_owned(), rings }
    }

    fn key(&self) -> i32 {
        self.address.parse().expect("a number")
    }

    pub(crate) fn create(&self, options: &Options) -> Result<Writer, CreateError> {
        match self.kind {
            Kind::File => options.create_file(&self.address),
            Kind::Named => options.create(&self.address),
            Kind::Posix => options.create_posix(&self.address),
            Kind::Sysv => options.create_sysv(SysvKey::new(self.key())),
        }
    }

    /// None for System V segments, which cannot be taken over.
    pub(crate) fn take_over(&self, options: &Options) -> Option<Result<Writer, CreateError>> {
        match self.kind {
            Kind::File => Some(options.open_or_create_file(&self.address)),
            Kind::Named => Some(options.open_or_create(&self.address)),
            Kind::Posix => Some(options.open_or_create_posix(&self.address)),
            Kind::Sysv => None,
        }
    }

    pub(crate) fn open(&self, options: &Options) -> Result<Reader, OpenError> {
        match self.kind {
            Kind::File => options.open_file(&self.address),
            Kind::Named => options.open(&self.address),
            Kind::Posix => options.open_posix(&self.address),
            Kind::Sysv => options.open_sysv(SysvKey::new(self.key())),
        }
    }

    pub(crate) fn remove(&self) -> Result<(), RemoveError> {
        match self.kind {
            Kind::File => shmcast::remove_file(&self.address),
            Kind::Named => shmcast::remove(&self.address),
            Kind::Posix => shmcast::remove_posix(&self.address),
            Kind::Sysv => shmcast::remove_sysv(SysvKey::new(self.key())),
        }
    }

    /// The file of a segment; of a System V segment there is none.
    pub(crate) fn file(&self, part: Part) -> PathBuf {
        let suffix = if part == Part::Ring { "" } else { ".registry" };
        match (self.kind, part) {
            (Kind::Named, Part::Ring) => self.rings.join(&self.address).join("ring"),
            (Kind::Named, Part::Registry) => self.rings.join(&self.address).join("registry"),
            (Kind::Named, Part::Lease) => self.rings.join(&self.address).join("lease"),
            (Kind::File, _) => PathBuf::from(format!("{}{suffix}", self.address)),
            (Kind::Posix, _) => PathBuf::from(format!("/dev/shm/{}{suffix}", self.address)),
            (Kind::Sysv, _) => panic!("no file"),
        }
    }

    /// Maps a segment to write it, past the library.
    pub(crate) fn map_to_write(&self, part: Part) -> Result<(), Errno> {
        if self.kind == Kind::Sysv {
            let key = self.key() + i32::from(part == Part::Registry);
            // SAFETY: no memory is involved.
            let id = Errno::result(unsafe { libc::shmget(key, 0, 0) })?;
            // SAFETY: at an address that the system chooses; nothing uses it.
            let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
            if at.addr() == usize::MAX {
                return Err(Errno::last());
            }
            // SAFETY: attached above.
            return Errno::result(unsafe { libc::shmdt(at) }).map(drop);
        }
        let file = open(&self.file(part), true)?;
        let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        memmap2::MmapOptions::new().len(4096).map_raw(&file).map(drop).map_err(failed)
    }

    /// Overwrites the header of the registry, past the library.
    pub(crate) fn scribble(&self) {
        let garbage = [0xA5; 512];
        if self.kind != Kind::Sysv {
            let file = open(&self.file(Part::Registry), true).unwrap_or_else(|errno| panic!("{errno}"));
            return std::os::unix::fs::FileExt::write_all_at(&file, &garbage, 0).expect("it may be written");
        }
        // SAFETY: no memory is involved.
        let id = Errno::result(unsafe { libc::shmget(self.key() + 1, 0, 0) }).expect("a segment");
        // SAFETY: at an address that the system chooses.
        let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        assert_ne!(at.addr(), usize::MAX, "it may be written");
        // SAFETY: a registry is longer than that, and this process has no other pointer to it.
        unsafe { std::ptr::copy_nonoverlapping(garbage.as_ptr(), at.cast(), garbage.len()) };
        // SAFETY: attached above.
        Errno::result(unsafe { libc::shmdt(at) }).expect("it was attached");
    }

    /// Maps a segment to read it, past the library, and then makes the mapping writable.
    pub(crate) fn make_writable(&self, part: Part) -> Result<(), Errno> {
        let file = open(&self.file(part), false)?;
        let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let map = memmap2::MmapOptions::new().len(4096).map_raw_read_only(&file).map_err(failed)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: this process's own mapping, which nothing else uses.
        Errno::result(unsafe { libc::mprotect(map.as_mut_ptr().cast(), 4096, protection) }).map(drop)?;
        Ok(())
    }

    /// Asks to set the length of a file to what it is: what is refused is the right to.
    pub(crate) fn truncate(&self, part: Part) -> Result<(), Errno> {
        let path = self.file(part);
        let length = fs::metadata(&path).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        nix::unistd::truncate(&path, length.len().try_into().expect("a small file"))
    }

    /// Tries to take the writer's lock, which the writer holds: `EAGAIN` for who can get so far.
    pub(crate) fn lock_like_a_writer(&self) -> Result<(), Errno> {
        let (part, at) = if self.kind == Kind::Named { (Part::Lease, 0) } else { (Part::Registry, 1 << 41) };
        lock(&open(&self.file(part), true)?, libc::F_WRLCK, at)
    }
}

pub(crate) fn open(path: &Path, write: bool) -> Result<File, Errno> {
    let opened = File::options().read(true).write(write).open(path);
    opened.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// A lock of the open file's.
pub(crate) fn lock(file: &File, kind: i32, at: i64) -> Result<(), Errno> {
    let byte = libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: at, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&byte)).map(drop)
}

/// Opens what a process has open again, through /proc, to write it.
pub(crate) fn open_again_to_write(path: &Path) -> Result<(), Errno> {
    let file = open(path, false)?;
    open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), true).map(drop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Ring,
    Registry,
    Lease,
}

/// A ring that the owner keeps, in a process of his own. What is there goes with this value.
pub(crate) struct Scene {
    pub(crate) spot: Spot,
    pub(crate) owner: Child,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new(kind: Kind, whom: For) -> Scene {
        let (spot, directory) = Scene::spot(kind);
        let mut owner = start("owner", &spot, &[&format!("{whom:?}")]);
        owner.expect("created");
        Scene { spot, owner, _directory: directory }
    }

    /// An address where the owner can create a ring.
    pub(crate) fn spot(kind: Kind) -> (Spot, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        chown(path, Some(Person::Owner.uid()), Some(Person::Owner.uid())).expect("root may");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("root may");
        let address = match kind {
            Kind::File => path.join("ring").to_str().expect("UTF-8").to_owned(),
            Kind::Named => "prices".to_owned(),
            Kind::Posix => unique_name("permissions"),
            Kind::Sysv => guard::fresh_key().to_string(),
        };
        (Spot { kind, address, rings: path.join("rings") }, directory)
    }

    /// Somebody else, in a process of his own.
    pub(crate) fn start(&self, role: &str, more: &[&str]) -> Child {
        start(role, &self.spot, more)
    }
}

/// A process with a role at an address.
pub(crate) fn start(role: &str, spot: &Spot, more: &[&str]) -> Child {
    let kind = format!("{:?}", spot.kind);
    let mut arguments = vec![kind.as_str(), spot.address.as_str()];
    arguments.extend_from_slice(more);
    Child::start_with(role, &arguments, &[("SHMCAST_DIR", spot.rings.to_str().expect("UTF-8"))])
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.owner.kill();
        match self.spot.kind {
            Kind::Posix => {
                for part in [Part::Ring, Part::Registry] {
                    let _ = fs::remove_file(self.spot.file(part));
                }
            }
            Kind::Sysv => drop(self.spot.remove()),
            // They go with the directory.
            Kind::File | Kind::Named => {}
        }
    }
}

/// What an operation answered, as the name of the variant. Every message is one line that says what to do.
pub(crate) fn variant<T>(result: Result<T, impl std::error::Error>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() > 20, "one line that says what to do: {message:?}");
            format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

/// The same, of a system call.
pub(crate) fn errno(result: Result<(), Errno>) -> String {
    result.map_or_else(|errno| format!("{errno:?}"), |()| "Ok".to_owned())
}
