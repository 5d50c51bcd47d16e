//! Batches: records that become visible together.
//!
//! ```text
//!   position   │ 0 │ payload │ header │ payload │ header │ payload │ 0 │       stored, and nobody sees it: the first header is 0
//!                ▲                                                   ▲
//!   flush        └── 2. the first header (Release: all of it)        └── 1. zero ahead
//! ```

use core::sync::atomic::Ordering::{Relaxed, Release};

use super::{Refused, Reserved, Writer};
use crate::layout::Geometry;
use crate::memory::{Memory, WriteArea, WriteView};
use crate::ring::{Site, ahead};

/// The first record of a batch: filled, but not committed while the ones behind it are being stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    position: u64,
    header: u64,
}

impl<M: Memory> Writer<M> {
    /// Stores one record of a batch, visible at the next [`flush`](Self::flush) at the latest; answers its sequence number.
    ///
    /// # Errors
    /// [`Refused`]; what was staged before is committed if this needed the slow path.
    #[inline]
    pub fn stage(&mut self, payload: &[u8]) -> Result<u64, Refused> {
        let Reserved { position, len, next } = self.reserve(payload.len())?;
        let (room, header) = (self.room.view(), Geometry::data_header(len));
        room.copy_in(position, payload);
        if self.staged.is_none() {
            self.staged = Some(Staged { position, header });
        } else {
            // Relaxed: nobody gets here but over the first record's header, whose release covers it (P1). No zero ahead
            // either: the next header overwrites it, and `flush` stores the last one.
            room.store(position, header, Relaxed, Site::StagedHeader);
        }
        self.position = next;
        ahead::ask_for_one(room, next);
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(sequence)
    }

    /// As [`stage`](Self::stage), for records that are all of `len` bytes (at best a constant: then each is straight-line
    /// code): as many of the first as need no look at anything. Answers their number.
    #[inline(always)]
    pub fn stage_run<'a>(&mut self, len: usize, records: impl Iterator<Item = &'a [u8]>) -> usize {
        let data = self.ring.layout.data();
        if len as u64 > data.max_payload() {
            return 0;
        }
        let (header, size, clear_to) = (Geometry::data_header(len), data.record_size(len), self.clear_to);
        let (room, mut position, mut count) = (self.room.view(), self.position, 0);
        for record in records {
            debug_assert_eq!(record.len(), len, "all of one length");
            if position + size > clear_to {
                break;
            }
            room.copy_in(position, record);
            if self.staged.is_none() {
                self.staged = Some(Staged { position, header });
            } else {
                // Relaxed: as in `stage`.
                room.store(position, header, Relaxed, Site::StagedHeader);
            }
            (position, count) = (position + size, count + 1);
            ahead::ask_for_one(room, position);
        }
        self.sequence += count as u64;
        self.position = position;
        count
    }

    /// Commits all staged records at once.
    #[inline]
    pub fn flush(&mut self) {
        let Some(Staged { position, header }) = self.staged.take() else { return };
        let room = self.room.view();
        // Relaxed: ordered by the commit's release, like the zero ahead of `commit`.
        room.store(self.position, 0, Relaxed, Site::ZeroAhead);
        // Release (P1): the whole batch.
        room.store(position, header, Release, Site::Commit);
        self.notify();
    }
}
