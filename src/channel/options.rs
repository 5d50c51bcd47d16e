//! How rings are created, opened and joined.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::access::Others;
use super::patience::Patience;
use super::shared::Shared;
use super::{Reader, Subscriber, Writer};
use crate::error::{CreateError, OpenError, RemoveError};
use crate::layout::{Geometry, MIN_CAPACITY_BYTES, PayloadType, Wakeup, Waking};
use crate::memory::Mapped;
use crate::ring::{self, JoinError, Start, TakeOverError};
use crate::schema::PayloadSchema;
use crate::segment::pages::Wishes;
use crate::segment::survey::{self, RingInfo};
use crate::segment::{Cleanup, Lock, Segments, anon, directory, file, heap, semaphores};
use crate::wait::{Pace, SLICE, WaitStrategy, membarrier};

/// How often a ring that comes and goes is looked for.
const MAX_ATTEMPTS: usize = 100;
/// The first ones at once, the others with a pause before each.
const EAGER_ATTEMPTS: usize = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(1);

/// How to create a ring, or to join one.
///
/// A ring is created by one of the `create` methods and joined by one of the `open` methods (or [`join`](Self::join)):
/// the first format, the second attach and never format. Each option says which of the two it is for.
///
/// ```
/// use shmcast::{Options, Start};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = Options::new().capacity(64 * 1024).reader_slots(8).create_heap()?;
/// let mut lossless = Options::new().join(&writer.subscriber())?;
/// let mut lossy = Options::new().lossy(true).start(Start::Newest).join(&writer.subscriber())?;
/// writer.publish(b"to both")?;
/// assert_eq!(lossless.recv()?.payload, lossy.recv()?.payload);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    geometry: Geometry,
    keep: bool,
    lossy: bool,
    start: Start,
    resume: Start,
    strategy: WaitStrategy,
    slice: Duration,
    stall_limit: Option<Duration>,
    pub(super) wait_for_successor: bool,
    pub(super) need_readers: bool,
    pub(super) pages: Wishes,
    pub(super) others: Others,
    untyped: bool,
}

impl Default for Options {
    fn default() -> Self {
        let geometry = Geometry {
            capacity: 1 << 20,
            blocks: 16,
            alignment: 8,
            reader_slots: 64,
            start: 0,
            may_evict: false,
            waking: Waking::default(),
            payload: PayloadType::default(),
        };
        Options {
            geometry,
            keep: false,
            lossy: false,
            start: Start::Oldest,
            resume: Start::Middle,
            strategy: WaitStrategy::default(),
            slice: SLICE,
            stall_limit: None,
            wait_for_successor: false,
            need_readers: false,
            pages: Wishes::default(),
            others: Others::default(),
            untyped: false,
        }
    }
}

impl Options {
    /// The defaults: a ring of 1 MiB with 64 reader slots; a lossless reader from the oldest record on; waits that spin,
    /// then sleep.
    pub fn new() -> Options {
        Options::default()
    }

    /// *Create.* Bytes of the data area, rounded up to a power of two; from 4 KiB to 1 TiB, 1 MiB by default. A record
    /// takes its length + 8 bytes, rounded up to the [alignment](Self::record_alignment); the largest payload is half the
    /// capacity less 8 bytes.
    pub fn capacity(mut self, bytes: u64) -> Options {
        self.geometry.capacity = bytes.checked_next_power_of_two().unwrap_or(u64::MAX);
        self
    }

    /// *Create.* Records start at multiples of this many bytes: 8 (the default), or 64 so that a small record never
    /// shares its cache line with the next one, for latency at low rates.
    pub fn record_alignment(mut self, bytes: u64) -> Options {
        self.geometry.alignment = bytes;
        self
    }

    /// *Create.* How many readers can be lossless, or lossy and counted, at one time: 0 to 1024, 64 by default, 128 bytes
    /// each. Lossy readers without a slot work all the same.
    pub fn reader_slots(mut self, slots: u64) -> Options {
        self.geometry.reader_slots = slots;
        self
    }

    /// *Create.* Blocks of the data area, a power of two from 2 to 1024, 16 by default. The writer takes its slow path about
    /// once per block, and a reader can join at the first record of each.
    pub fn blocks(mut self, blocks: u64) -> Options {
        self.geometry.blocks = blocks;
        self
    }

    /// *Create.* Keep the ring's name when the writer is dropped, so that readers can still open it and read the rest.
    /// Off by default. [`remove`] removes it.
    pub fn keep(mut self, keep: bool) -> Options {
        self.keep = keep;
        self
    }

    /// *Open.* A lossy reader never holds the writer back; if it is too slow, it is told how many records it missed. Off by
    /// default.
    pub fn lossy(mut self, lossy: bool) -> Options {
        self.lossy = lossy;
        self
    }

    /// *Open.* Where to begin; [`Start::Oldest`] by default.
    pub fn start(mut self, start: Start) -> Options {
        self.start = start;
        self
    }

    /// *Open.* Where a lossy reader goes on after it was lapped; [`Start::Middle`] by default. After
    /// [`Start::Oldest`] it is likely to be lapped again at once.
    pub fn resume(mut self, resume: Start) -> Options {
        self.resume = resume;
        self
    }

    /// *Both.* What blocking calls do meanwhile; [`WaitStrategy::Park`] by default.
    pub fn wait(mut self, strategy: WaitStrategy) -> Options {
        self.strategy = strategy;
        self
    }

    /// *Create.* How long a living lossless reader may hold the writer back without reading on; then the writer goes on without
    /// it, and it gets `Evicted`, with the number of records that it lost. A record that takes a reader longer than this evicts
    /// it. Zero: at once. Off by default: a lossless reader that is alive holds the writer for as long as it likes. Measured only while the writer waits; a dead reader is not waited for in any case. Records of a
    /// ring with such a limit cannot be [borrowed](crate#trust).
    pub fn stall_limit(mut self, limit: Duration) -> Options {
        self.stall_limit = Some(limit);
        self.geometry.may_evict = true;
        self
    }

    /// *Create.* A publish answers `NoReaders` once there have been readers and the last one has left, or died: as EPIPE does.
    /// It is not final: another reader may come. Off by default.
    ///
    /// Only readers with a slot count: all lossless ones, and the lossy ones that found a slot free. That one left is
    /// noticed with the second record published afterwards at the latest; that one died, within a [block](Self::blocks) of the ring and a record, or
    /// when the writer has to wait for it. (Deaths are not seen on the heap, and in System V shared memory that is for other users.) The fast path costs
    /// nothing more; a system call per block and per reader.
    pub fn need_readers(mut self, need: bool) -> Options {
        self.need_readers = need;
        self
    }

    /// *Create.* By what those who sleep are woken; [`Wakeup::Futex`] by default. Whoever joins follows it.
    ///
    /// ```
    /// use shmcast::{Options, Wakeup};
    /// let ring = Options::new().wakeup(Wakeup::PosixSemaphore).create_anonymous()?;
    /// # Ok::<(), shmcast::CreateError>(())
    /// ```
    pub fn wakeup(mut self, wakeup: Wakeup) -> Options {
        self.geometry.waking.means = wakeup;
        self
    }

    /// *Create.* The writer never makes a system call to wake a reader, also not when it closes the ring: a publish that finds room
    /// is a few nanoseconds, whoever waits. Readers that would sleep look every millisecond instead (with
    /// [`WaitStrategy::Spin`] or [`Yield`](WaitStrategy::Yield) they poll as ever), which costs them half a per cent of a core. A
    /// writer that waits for room still sleeps, and is woken. Off by default.
    pub fn no_wake(mut self, no_wake: bool) -> Options {
        self.geometry.waking.no_wake = no_wake;
        self
    }

    /// *Open.* When the writer has died and everything is read, wait for its successor as if the ring were empty, instead of
    /// answering `WriterDied`. Off by default.
    pub fn wait_for_successor(mut self, wait: bool) -> Options {
        self.wait_for_successor = wait;
        self
    }

    /// *Open.* Take the values of a typed ring as the bytes that they are: for tools that pass on, record or show any ring.
    /// Off by default: [`OpenError::WrongType`] is the answer then.
    pub fn untyped(mut self, untyped: bool) -> Options {
        self.untyped = untyped;
        self
    }

    /// *Both.* What the records are; raw bytes by default.
    pub(super) fn with_payload(mut self, payload: PayloadType) -> Options {
        self.geometry.payload = payload;
        self
    }

    /// The longest sleep without a look. For tests that must not be saved by the next look.
    #[doc(hidden)]
    pub fn slice(mut self, slice: Duration) -> Options {
        self.slice = slice;
        self
    }

    /// The key of the System V semaphores, else a random one. For tests, which leave nothing behind when they are killed.
    #[doc(hidden)]
    pub fn semaphore_key(mut self, key: i32) -> Options {
        self.geometry.waking.key = key.cast_unsigned();
        self
    }

    /// The position of the first record. For tests of large positions.
    #[doc(hidden)]
    pub fn start_position(mut self, position: u64) -> Options {
        self.geometry.start = position;
        self
    }

    /// Creates a named ring, in the directory that `SHMCAST_DIR` names, or `/dev/shm/shmcast`. Mode 0600, unless it is for
    /// [others](Self::followers) as well. It is there whole or not at all, with all its memory reserved.
    ///
    /// The directory is made when it is missing: for this user alone, or, if the ring is for others, for all, and sticky
    /// (1777, like `/tmp`). One that another user owns, or that others can write and is not sticky, is
    /// [refused](CreateError::RingDirectory). For several users that write rings, root makes it.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_in(|geometry| directory::create(name, geometry, self.permissions()?))
    }

    /// Creates a ring in two files: `path`, and `path` with `.registry` behind it. Mode 0600, unless it is for
    /// [others](Self::followers) as well.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<Writer, CreateError> {
        self.create_in(|geometry| file::create(path.as_ref(), geometry, self.permissions()?))
    }

    /// Creates a ring in anonymous shared memory, for this process and the children that it forks.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_anonymous(&self) -> Result<Writer, CreateError> {
        self.create_in(anon::create)
    }

    /// Creates a ring on the heap, for the threads of this process.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_heap(&self) -> Result<Writer, CreateError> {
        self.create_in(heap::create)
    }

    /// Creates the named ring, or, if there is one whose writer has died or has closed and [kept](Self::keep) it, takes that
    /// one over: nothing that was committed is lost, the next record has the next sequence number, and readers carry on
    /// without opening it again. A ring that is taken over has the sizes that it was created with. Its name
    /// is removed with this writer, unless [`keep`](Self::keep) is set.
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::WriterAlive`].
    pub fn open_or_create(&self, name: &str) -> Result<Writer, CreateError> {
        self.create_or_take_over(|| self.create(name), || directory::take_over(name), || directory::clear(name))
    }

    /// As [`open_or_create`](Self::open_or_create), for a ring in files.
    ///
    /// # Errors
    /// [`CreateError`], first of all [`CreateError::WriterAlive`].
    pub fn open_or_create_file(&self, path: impl AsRef<Path>) -> Result<Writer, CreateError> {
        let path = path.as_ref();
        self.create_or_take_over(|| self.create_file(path), || file::take_over(path), || file::clear(path))
    }

    pub(super) fn create_or_take_over(
        &self,
        create: impl Fn() -> Result<Writer, CreateError>,
        take_over: impl Fn() -> Result<Segments, CreateError>,
        clear: impl Fn() -> Result<(), RemoveError>,
    ) -> Result<Writer, CreateError> {
        let mut in_the_way = None;
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > EAGER_ATTEMPTS {
                // Somebody is in the middle of it, and may need this processor.
                std::thread::sleep(BETWEEN_ATTEMPTS);
            }
            match create() {
                Err(CreateError::NameTaken { .. }) => {}
                created => return created,
            }
            match take_over() {
                // Removed between the two, or half removed by one that was killed.
                Err(CreateError::TakeOver { source, .. }) if matches!(*source, OpenError::NotFound { .. }) => {
                    in_the_way = clear().err();
                }
                taken => return self.resume_writer(taken?),
            }
        }
        let source = std::io::ErrorKind::ResourceBusy.into();
        Err(match in_the_way {
            Some(RemoveError::NotARing { path, reason }) => {
                let source = Box::new(OpenError::NotARing { path: path.clone(), reason });
                CreateError::TakeOver { path, source }
            }
            Some(RemoveError::Permission { path, source }) => CreateError::Permission { path, source },
            _ => CreateError::Io { path: None, doing: "keep up with a ring that comes and goes", source },
        })
    }

    pub(super) fn resume_writer(&self, mut segments: Segments) -> Result<Writer, CreateError> {
        let registered = membarrier::register();
        let path = segments.path.clone().unwrap_or_default();
        semaphores::provide(&mut segments, true)?;
        let (cleanup, lease) = (segments.cleanup.take().filter(|_| !self.keep), segments.lease.take());
        let shared = Arc::new(Shared::new(segments, self.pages));
        let (ring, registry) = shared.views();
        let refused = |source| CreateError::TakeOver { path: path.clone(), source: Box::new(source) };
        let registry = registry.ok_or_else(|| refused(OpenError::NeedsRegistry { path: Some(path.clone()) }))?;
        self.check_type(&shared, false).map_err(refused)?;
        if self.stall_limit.is_some() && !ring.layout().geometry.may_evict {
            // Its readers may be borrowing.
            let reason = "it was created without a stall limit, so it cannot have one now";
            return Err(refused(OpenError::NotARing { path: path.clone(), reason }));
        }
        let core = ring::Writer::take_over(ring, registry, registered).map_err(|error| match error {
            TakeOverError::NoHeadCell => refused(OpenError::NotARing { path: path.clone(), reason: "it has no head" }),
            TakeOverError::Corrupt { position, header } => refused(OpenError::Corrupt { position, header }),
        })?;
        Ok(self.writer(core, shared, cleanup, lease))
    }

    fn writer(
        &self,
        mut core: ring::Writer<Mapped>,
        shared: Arc<Shared>,
        cleanup: Option<Cleanup>,
        lease: Option<Lock>,
    ) -> Writer {
        core.sign(u64::from(std::process::id()));
        core.heed_readers(self.need_readers);
        let patience = Patience::new(self.stall_limit);
        Writer::new(core, shared, cleanup, lease, Pace::new(self.strategy, self.slice), patience)
    }

    pub(super) fn create_in(
        &self,
        create: impl FnOnce(Geometry) -> Result<Segments, CreateError>,
    ) -> Result<Writer, CreateError> {
        if self.geometry.capacity < MIN_CAPACITY_BYTES {
            let (field, value, rule) = ("capacity", self.geometry.capacity, "at least 4096");
            return Err(CreateError::Geometry(crate::layout::GeometryError { field, value, rule }));
        }
        let mut geometry = self.geometry;
        semaphores::choose_key(&mut geometry.waking)?;
        geometry.validate()?;
        // Early: it costs 10 ms in a process that has threads already, and must precede the first publish.
        let registered = membarrier::register();
        let mut segments = create(geometry)?;
        semaphores::provide(&mut segments, false)?;
        let (cleanup, lease) = (segments.cleanup.take().filter(|_| !self.keep), segments.lease.take());
        let shared = Arc::new(Shared::new(segments, self.pages));
        let (ring, registry) = shared.views();
        let registry = registry.ok_or(CreateError::Io {
            path: shared.path.clone(),
            doing: "map the registry",
            source: std::io::ErrorKind::Other.into(),
        })?;
        let core = ring::Writer::new(ring, registry, registered);
        Ok(self.writer(core, shared, cleanup, lease))
    }

    /// Opens a named ring and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, name: &str) -> Result<Reader, OpenError> {
        self.open_in(directory::open(name, self.manner()?)?)
    }

    /// Opens a ring made by [`create_file`](Self::create_file) and joins it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<Reader, OpenError> {
        self.open_in(file::open(path.as_ref(), self.manner()?)?)
    }

    /// Joins a ring of this process, or of the process that forked it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn join(&self, subscriber: &Subscriber) -> Result<Reader, OpenError> {
        self.attach(Arc::clone(&subscriber.shared))
    }

    pub(super) fn open_in(&self, segments: Segments) -> Result<Reader, OpenError> {
        self.attach(Arc::new(Shared::new(segments, self.pages)))
    }

    pub(super) fn attach(&self, shared: Arc<Shared>) -> Result<Reader, OpenError> {
        self.check_type(&shared, self.untyped)?;
        let registered = membarrier::register();
        let (ring, registry) = shared.views();
        let process = u64::from(std::process::id());
        let slots = ring.layout().geometry.reader_slots;
        // Where nobody can tell any more who lives, nobody's slot is taken for a dead one's, by the writer either.
        let lives = shared.lives.as_ref().filter(|lives| lives.can_tell());
        let (start, orphans) = (self.start, lives.is_some());
        let mut failed = None;
        let lock = |slot| match lives {
            Some(lives) => lives.lock_slot(slot).unwrap_or_else(|error| failed.replace(error).and(None)).map(Some),
            None => Some(None),
        };
        let joined = if self.lossy || self.others.follower {
            let registry = registry.filter(|_| !self.others.follower);
            ring::Reader::join_lossy_owned(ring, registry, start, registered, process, orphans, lock)
                .map(|(core, lock)| (core, lock.flatten()))
        } else {
            let registry = registry.ok_or_else(|| OpenError::NeedsRegistry { path: shared.path.clone() })?;
            ring::Reader::join_lossless_owned(ring, registry, start, registered, process, orphans, lock)
        };
        let (mut core, lock) = joined.map_err(|error| match (error, failed.take()) {
            // Perhaps one is free, but could not be taken.
            (JoinError::NoFreeSlot, Some(source)) => {
                OpenError::Io { path: shared.path.clone(), doing: "lock a reader slot of", source }
            }
            (error, _) => self.refused(error, slots),
        })?;
        core.set_resume(self.resume);
        Ok(Reader::new(core, shared, lock, self.clone()))
    }

    /// Why a reader with these options could not join.
    pub(super) fn refused(&self, error: JoinError, slots: u64) -> OpenError {
        match error {
            JoinError::NoFreeSlot => OpenError::NoFreeSlot { slots },
            JoinError::SequenceGone { oldest } => OpenError::SequenceGone { wanted: self.wanted(), oldest },
            JoinError::SequenceNotYet { next } => OpenError::SequenceNotYet { wanted: self.wanted(), next },
            JoinError::Busy => OpenError::Busy,
            JoinError::Corrupt { position, header } => OpenError::Corrupt { position, header },
        }
    }

    /// Are the ring's records what these options say? `as_bytes`: raw bytes fit any.
    fn check_type(&self, shared: &Shared, as_bytes: bool) -> Result<(), OpenError> {
        let PayloadType { schema, size, alignment, name, text } = self.geometry.payload;
        let (theirs, found) = (shared.payload(), shared.payload_schema());
        let same = (schema, size, alignment, name) == (theirs.schema, theirs.size, theirs.alignment, theirs.name);
        if as_bytes && alignment == 0 || same && found.text == text {
            return Ok(());
        }
        let expected = PayloadSchema::found(&self.geometry.payload, text.as_bytes());
        Err(OpenError::WrongType { path: shared.path.clone(), expected, found })
    }

    fn wanted(&self) -> u64 {
        if let Start::Sequence(wanted) = self.start { wanted } else { 0 }
    }

    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.strategy, self.slice)
    }
}

/// The named rings in the ring directory, sorted by name, and who uses them. Some system calls for each.
///
/// # Errors
/// Of reading the ring directory. That there is none is no error: then there are no rings.
pub fn list() -> std::io::Result<Vec<RingInfo>> {
    survey::list()
}

/// Removes the named rings of this user whose writer died and to which no living reader is attached, and what killed
/// creators left for longer than a minute; answers the names of the rings. Rings that were closed and kept stay.
///
/// # Errors
/// Of reading the ring directory. What cannot be removed stays.
pub fn gc() -> std::io::Result<Vec<String>> {
    survey::gc()
}

/// Removes a named ring: for one whose writer died, or that was [kept](Options::keep). Readers that are attached read on,
/// but nobody can open it any more. Nothing is removed that is not a ring of this user's.
///
/// # Errors
/// [`RemoveError`].
pub fn remove(name: &str) -> Result<(), RemoveError> {
    directory::remove(name)
}

/// Removes a ring made by [`Options::create_file`], as [`remove`] does.
///
/// # Errors
/// [`RemoveError`].
pub fn remove_file(path: impl AsRef<Path>) -> Result<(), RemoveError> {
    file::remove(path.as_ref())
}
