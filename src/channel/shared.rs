//! An attached ring, which several handles of a process may share.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Options, Reader};
use crate::error::OpenError;
use crate::layout::{PayloadType, RegistryLayout, RingLayout};
use crate::memory::{Mapped, Memory};
use crate::ring;
use crate::schema::PayloadSchema;
use crate::segment::pages::{self, PageReport, Wishes};
use crate::segment::{Lives, Segments, semaphores};

/// What is needed to make another reader of an attached ring.
pub(super) struct Shared {
    pub(super) ring: (Mapped, RingLayout),
    pub(super) registry: Option<(Mapped, RegistryLayout)>,
    /// May records be lent? See [trust](crate#trust).
    pub(super) trusted: bool,
    pub(super) path: Option<PathBuf>,
    pub(super) lives: Option<Lives>,
    pub(super) pages: PageReport,
    /// Of a ring without a name, in the process that created it.
    pub(super) descriptors: Option<[OwnedFd; 2]>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).field("trusted", &self.trusted).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(segments: Segments, wishes: Wishes) -> Shared {
        let pages = pages::apply(wishes, &segments.ring, segments.registry.as_ref());
        let registry = segments.registry.zip(segments.registry_layout);
        let geometry = &segments.ring_layout.geometry;
        let (may_evict, semaphores) = (geometry.may_evict, semaphores::usable(geometry, segments.trusted));
        let registry = registry.map(|(backing, layout)| (Mapped::new(backing).with_semaphores(semaphores), layout));
        Shared {
            ring: (Mapped::new(segments.ring), segments.ring_layout),
            registry,
            trusted: segments.trusted && !may_evict,
            path: segments.path,
            lives: segments.lives,
            pages,
            descriptors: segments.descriptors,
        }
    }

    pub(super) fn views(&self) -> (ring::Ring<Mapped>, Option<ring::Registry<Mapped>>) {
        let (memory, layout) = &self.ring;
        let ring = ring::Ring::new(memory.clone(), layout.clone());
        let registry = self.registry.as_ref();
        (ring, registry.map(|(memory, layout)| ring::Registry::new(memory.clone(), layout.clone())))
    }

    pub(super) fn payload(&self) -> PayloadType {
        self.ring.1.geometry.payload
    }

    /// What the ring says of its records. The text is looked at anew each time, and shown whatever it is.
    pub(super) fn payload_schema(&self) -> PayloadSchema {
        let (memory, layout) = &self.ring;
        let ((at, len), mut text) = (layout.schema_text(), Vec::new());
        memory.append_out(at, len, &mut text);
        PayloadSchema::found(&self.payload(), &text)
    }

    /// What tells the ring from every other.
    pub(super) fn incarnation(&self) -> u64 {
        self.ring.1.incarnation
    }

    pub(super) fn only_followed(&self) -> bool {
        self.registry.is_none()
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }
}

/// Makes readers of a ring in the process that created it and in its forked children. Cheap to clone; keeps the memory
/// mapped, not the ring open.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub(super) shared: Arc<Shared>,
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Shared>) -> Subscriber {
        Subscriber { shared }
    }

    /// A lossless reader from the oldest record on: [`Options::join`] with the defaults.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn reader(&self) -> Result<Reader, OpenError> {
        Options::new().join(self)
    }
}
