//! The kinds of rings, behind one face: how a ring of each is created, opened, removed, damaged, and what is left of it.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use shmcast::{CreateError, OpenError, Options, Reader, RemoveError, Subscriber, SysvKey, Writer};

use crate::support::{guard, unique_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Heap,
    Anonymous,
    File,
    Named,
    Posix,
    Memfd,
    MemfdStrict,
    Sysv,
    SysvPath,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Heap,
        Kind::Anonymous,
        Kind::File,
        Kind::Named,
        Kind::Posix,
        Kind::Memfd,
        Kind::MemfdStrict,
        Kind::Sysv,
        Kind::SysvPath,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn of(name: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).expect("a kind")
    }

    /// Has the ring a name that outlives its writer?
    pub(crate) fn has_name(self) -> bool {
        !matches!(self, Kind::Heap | Kind::Anonymous) && !self.is_memfd()
    }

    /// Is it handed out over a socket?
    pub(crate) fn is_memfd(self) -> bool {
        matches!(self, Kind::Memfd | Kind::MemfdStrict)
    }

    /// Can a process that is no child of the writer's open it?
    pub(crate) fn can_be_opened(self) -> bool {
        !matches!(self, Kind::Heap | Kind::Anonymous)
    }
}

/// What readers need to find a ring.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) kind: Kind,
    /// A path, a name, a number: whatever it takes. Of a memfd, the socket on which it is handed out.
    pub(crate) address: String,
    subscriber: Option<Subscriber>,
}

impl View {
    pub(crate) fn of(kind: Kind, address: &str) -> View {
        View { kind, address: address.to_owned(), subscriber: None }
    }

    pub(crate) fn create(&self, options: &Options) -> Result<Owned, CreateError> {
        let address = self.address.as_str();
        let writer = match self.kind {
            Kind::Heap => options.create_heap(),
            Kind::Anonymous => options.create_anonymous(),
            Kind::File => options.create_file(address),
            Kind::Named => options.create(address),
            Kind::Posix => options.create_posix(address),
            Kind::Memfd => options.create_memfd(),
            Kind::MemfdStrict => options.create_memfd_strict(),
            Kind::Sysv | Kind::SysvPath => options.create_sysv(self.key()),
        }?;
        let handover = self.kind.is_memfd().then(|| Handover::start(address, &writer));
        Ok(Owned { writer, handover })
    }

    pub(crate) fn open(&self, options: &Options) -> Result<Reader, OpenError> {
        let address = self.address.as_str();
        match self.kind {
            Kind::Heap | Kind::Anonymous => options.join(self.subscriber.as_ref().expect("it was created")),
            Kind::File => options.open_file(address),
            Kind::Named => options.open(address),
            Kind::Posix => options.open_posix(address),
            Kind::Memfd | Kind::MemfdStrict => {
                // Nobody hands it out: it is not there.
                let Some([ring, registry]) = receive(address) else {
                    return Err(OpenError::NotFound { path: address.into() });
                };
                options.open_descriptors(ring.as_fd(), Some(registry.as_fd()))
            }
            Kind::Sysv | Kind::SysvPath => options.open_sysv(self.key()),
        }
    }

    /// The descriptors that are handed out, if that is how the ring is reached.
    pub(crate) fn offered(&self) -> Option<[OwnedFd; 2]> {
        if self.kind.is_memfd() { receive(&self.address) } else { None }
    }

    /// As `open`, by descriptors that were received before.
    pub(crate) fn open_offered(&self, options: &Options, offered: Option<&[OwnedFd; 2]>) -> Result<Reader, OpenError> {
        match offered {
            Some([ring, registry]) => options.open_descriptors(ring.as_fd(), Some(registry.as_fd())),
            None => self.open(options),
        }
    }

    /// Can the descriptor of the ring segment neither write nor be opened again as one that can?
    pub(crate) fn is_read_only(&self, offered: Option<&[OwnedFd; 2]>) -> bool {
        let Some([ring, _]) = offered else { return false };
        let path = format!("/proc/self/fd/{}", ring.as_raw_fd());
        let again = fs::File::options().read(true).write(true).open(path);
        again.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            && nix::unistd::write(ring, b"x") == Err(Errno::EBADF)
    }

    pub(crate) fn remove(&self) -> Result<(), RemoveError> {
        match self.kind {
            Kind::File => shmcast::remove_file(&self.address),
            Kind::Named => shmcast::remove(&self.address),
            Kind::Posix => shmcast::remove_posix(&self.address),
            Kind::Sysv | Kind::SysvPath => shmcast::remove_sysv(self.key()),
            Kind::Heap | Kind::Anonymous | Kind::Memfd | Kind::MemfdStrict => panic!("it has no name to remove"),
        }
    }

    /// Creates the ring, or takes it over.
    pub(crate) fn take_over(&self, options: &Options) -> Result<Writer, CreateError> {
        match self.kind {
            Kind::File => options.open_or_create_file(&self.address),
            Kind::Named => options.open_or_create(&self.address),
            Kind::Posix => options.open_or_create_posix(&self.address),
            kind => panic!("nobody takes over a ring of kind {kind:?}"),
        }
    }

    fn key(&self) -> SysvKey {
        match self.kind {
            Kind::Sysv => SysvKey::new(self.address.parse().expect("a number")),
            _ => SysvKey::of_path(&self.address, b'R').expect("a file"),
        }
    }

    /// The keys as the system counts them.
    fn keys(&self) -> [i32; 2] {
        if self.kind == Kind::Sysv {
            let key = self.address.parse().expect("a number");
            return [key, key + 1];
        }
        let path = std::ffi::CString::new(Path::new(&self.address).as_os_str().as_bytes()).expect("no zero");
        // SAFETY: `path` ends with a zero.
        [b'R', b'S'].map(|project| unsafe { libc::ftok(path.as_ptr(), i32::from(project)) })
    }

    /// The ring's and the registry's file.
    fn files(&self) -> [PathBuf; 2] {
        let files = match self.kind {
            Kind::Named => ["ring", "registry"].map(|file| format!("/dev/shm/shmcast/{}/{file}", self.address)),
            Kind::Posix => ["", ".registry"].map(|suffix| format!("/dev/shm{}{suffix}", self.address)),
            _ => ["", ".registry"].map(|suffix| format!("{}{suffix}", self.address)),
        };
        files.map(PathBuf::from)
    }

    /// What the system has under the name of the ring.
    pub(crate) fn left(&self) -> Vec<String> {
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        let shown = |path: &Path| path.display().to_string();
        match self.kind {
            Kind::Heap | Kind::Anonymous => Vec::new(),
            Kind::Memfd | Kind::MemfdStrict => {
                Some(&self.address).filter(|path| exists(Path::new(path))).cloned().into_iter().collect()
            }
            Kind::Sysv | Kind::SysvPath => [guard::segments(&self.keys()), guard::sets(&self.keys())].concat(),
            Kind::File | Kind::Posix => {
                self.files().iter().filter(|path| exists(path)).map(|path| shown(path)).collect()
            }
            Kind::Named => {
                let home = self.files()[0].parent().expect("a directory").to_owned();
                Some(home).filter(|path| exists(path)).map(|path| shown(&path)).into_iter().collect()
            }
        }
    }

    /// Lets others write a segment of the ring, or not.
    pub(crate) fn set_mode(&self, registry: bool, mode: u32, owned: &Owned) {
        match self.kind {
            Kind::Heap | Kind::Anonymous => panic!("it has no mode"),
            Kind::Memfd | Kind::MemfdStrict => {
                let descriptors = owned.descriptors().expect("a memfd");
                let file = if registry { descriptors.registry } else { descriptors.ring };
                nix::sys::stat::fchmod(file, nix::sys::stat::Mode::from_bits_retain(mode)).expect("our own");
            }
            Kind::Sysv | Kind::SysvPath => {
                let mut stat = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
                let id = segment(self.keys()[usize::from(registry)]).expect("a segment");
                // SAFETY: `stat` is a place for the answer.
                Errno::result(unsafe { libc::shmctl(id, libc::IPC_STAT, stat.as_mut_ptr()) }).expect("our own");
                // SAFETY: integers, zeroed and then answered.
                let mut stat = unsafe { stat.assume_init() };
                stat.shm_perm.mode = mode.try_into().expect("a small number");
                // SAFETY: `stat` is what is read.
                Errno::result(unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut stat) }).expect("our own");
            }
            Kind::File | Kind::Named | Kind::Posix => {
                let permissions = fs::Permissions::from_mode(mode);
                fs::set_permissions(&self.files()[usize::from(registry)], permissions).expect("our own");
            }
        }
    }

    /// Puts something in the place of the ring segment that is none: other bytes, or fewer than a header. What an open
    /// says of it.
    pub(crate) fn open_wrong(&self, wrong: Wrong) -> Result<Reader, OpenError> {
        match self.kind {
            Kind::Heap | Kind::Anonymous => panic!("it cannot be opened"),
            Kind::Memfd | Kind::MemfdStrict => {
                let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
                let file = fs::File::from(memfd_create("wrong", flags).expect("a memfd"));
                file.write_all_at(&wrong.bytes(), 0).expect("a little memory");
                fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).expect("our own");
                return Options::new().open_descriptors(file.as_fd(), None);
            }
            Kind::Sysv | Kind::SysvPath => {
                let key = self.keys()[0];
                remove_segment(key);
                let bytes = wrong.bytes();
                // SAFETY: no memory is involved.
                let id = unsafe { libc::shmget(key, bytes.len(), libc::IPC_CREAT | libc::IPC_EXCL | 0o600) };
                let id = Errno::result(id).expect("a free key");
                // SAFETY: at an address that the system chooses.
                let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
                assert_ne!(at.addr(), usize::MAX, "our own");
                // SAFETY: the segment has that many bytes, and nobody else knows of it.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast(), bytes.len()) };
                // SAFETY: attached above, and not used any more.
                unsafe { libc::shmdt(at) };
            }
            Kind::File | Kind::Named | Kind::Posix => fs::write(&self.files()[0], wrong.bytes()).expect("our own"),
        }
        self.open(&Options::new())
    }
}

/// What is in the place of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    Magic,
    Short,
}

impl Wrong {
    fn bytes(self) -> Vec<u8> {
        vec![b'x'; if matches!(self, Wrong::Magic) { 16 * 1024 } else { 100 }]
    }
}

/// An address of a test's own. What is there goes with this value, whatever happens.
pub(crate) struct Spot {
    pub(crate) view: View,
    directory: tempfile::TempDir,
}

impl Spot {
    pub(crate) fn new(kind: Kind) -> Spot {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let path = path.to_str().expect("UTF-8").to_owned();
        let address = match kind {
            Kind::Heap | Kind::Anonymous => String::new(),
            Kind::File | Kind::Memfd | Kind::MemfdStrict => path,
            Kind::Named => unique_name("kinds"),
            Kind::Posix => format!("/{}", unique_name("kinds")),
            Kind::Sysv => guard::fresh_key().to_string(),
            Kind::SysvPath => {
                fs::write(&path, "").expect("a file");
                path
            }
        };
        let spot = Spot { view: View::of(kind, &address), directory };
        if kind == Kind::SysvPath {
            guard::protect(&spot.view.keys());
        }
        spot
    }

    /// Lets other users come to where the ring is, by its path.
    pub(crate) fn let_others_reach(&self) {
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o755)).expect("our own");
    }

    /// Creates a ring, and lets it be joined.
    pub(crate) fn create(&mut self, options: &Options) -> Owned {
        let owned = self.view.create(options).unwrap_or_else(|error| panic!("{error}"));
        self.view.subscriber = Some(owned.subscriber());
        owned
    }
}

impl Deref for Spot {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        match self.kind {
            Kind::Sysv | Kind::SysvPath => self.keys().into_iter().for_each(remove_segment),
            Kind::Named if !self.left().is_empty() => {
                let _ = fs::remove_dir_all(&self.left()[0]);
            }
            Kind::Posix => self.files().iter().for_each(|file| drop(fs::remove_file(file))),
            // They go with the directory, or by themselves.
            _ => {}
        }
    }
}

fn segment(key: i32) -> Option<i32> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::shmget(key, 0, 0) }).ok()
}

fn remove_segment(key: i32) {
    if let Some(id) = segment(key) {
        // SAFETY: whoever has it attached keeps it.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
    // SAFETY: no memory is involved.
    let set = unsafe { libc::semget(key, 0, 0) };
    if set >= 0 {
        // SAFETY: as above.
        unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
    }
}

/// A writer; if its ring is in memfds, somebody hands them out.
pub(crate) struct Owned {
    writer: Writer,
    handover: Option<Handover>,
}

impl Owned {
    /// The writer alone; from now on nobody hands its descriptors out.
    pub(crate) fn into_writer(self) -> Writer {
        drop(self.handover);
        self.writer
    }
}

impl Deref for Owned {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

/// A thread that sends the descriptors of a ring to whoever connects to a socket.
struct Handover {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Handover {
    fn start(path: &str, writer: &Writer) -> Handover {
        let listener = UnixListener::bind(path).expect("a socket");
        let descriptors = writer.descriptors().expect("a memfd");
        let files = [descriptors.ring, descriptors.registry].map(|file| file.try_clone_to_owned().expect("a copy"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                if stopped.load(SeqCst) {
                    return;
                }
                let numbers = files.each_ref().map(AsRawFd::as_raw_fd);
                let rights = [ControlMessage::ScmRights(&numbers)];
                let _ = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None);
            }
        });
        Handover { path: path.into(), stop, thread: Some(thread) }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // It sees the flag when somebody connects.
        if let (Ok(_last), Some(thread)) = (UnixStream::connect(&self.path), self.thread.take()) {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Receives the descriptors of a ring; none if nobody hands them out.
fn receive(path: &str) -> Option<[OwnedFd; 2]> {
    let stream = UnixStream::connect(path).ok()?;
    let mut byte = [0];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(files) = control {
            // SAFETY: the message made them this process's own.
            let files: Vec<OwnedFd> = files.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }).collect();
            return files.try_into().ok();
        }
    }
    None
}
