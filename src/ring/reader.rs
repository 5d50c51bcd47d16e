//! The reader: lossless and lossy take the same steps and judge by the same rule.
//!
//! ```text
//!   header at position ──▶ copy what it says, clamped ──▶ fence ──▶ limit still allows it? ──▶ yes: judge the header
//!                                                                        └─ no: all void, on from a checkpoint
//!                                                                            lossless ▶ Evicted { lost }, lossy from now on
//!                                                                            lossy    ▶ Lagged(n)
//! ```
//! A reader that is lapped sees arbitrary bytes as a header: so the header says how much to copy, within bounds, and is
//! judged only when `limit` has shown that it was one. One that was and cannot be poisons the reader: it says `Corrupt` from
//! then on, whatever it is asked, and holds the writer back no more.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Boundary, Registry, Ring, Site, Start, join};
use crate::layout::{Geometry, WORD_BYTES};
use crate::memory::{Barrier, Memory, ReadArea, ReadPayload, ReadView};

mod ends;

/// Looks of one read: a pad, a skip over nothing but a pad, a pad once more and a close leave some over. What takes more turns is no
/// honest ring; there is nothing in it, then.
pub(super) const MAX_TURNS: u32 = 8;

/// A kept header that no record can have: sends the next read to the cold path.
const DETOUR: u64 = u64::MAX;

/// Why a receive yields no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing there now.
    Empty,
    /// This many records were overwritten before this lossy reader came to them; it goes on behind them.
    Lagged(u64),
    /// The writer has closed the ring, and everything is read.
    Closed,
    /// The writer went on without this lossless reader, which is a lossy one from now on, behind what it lost.
    Evicted {
        /// This many records were overwritten before it came to them.
        lost: u64,
    },
    /// The words at this position cannot be a record: the segment is damaged. Final.
    Corrupt {
        /// Where.
        position: u64,
        /// The header word found there.
        header: u64,
    },
}

/// A record that was read and judged whole. It counts as received once it is [released](Reader::release).
#[derive(Clone, Copy, Debug)]
pub struct Read<T> {
    /// What the copy made of it.
    pub value: T,
    /// Bytes of payload.
    pub len: usize,
    /// Its number, counted from the start of the ring.
    pub sequence: u64,
    /// The position behind it.
    next: u64,
}

impl<T> Read<T> {
    /// What [`Reader::release`] needs to know.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// Records that were read one after the other and judged whole together.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How many.
    pub count: usize,
    /// The position behind them.
    next: u64,
}

/// A payload that lies within the data area and may still turn out to be garbage.
pub type Payload<'a, M> = <<<M as Memory>::ReadArea as ReadArea>::View<'a> as ReadView>::Payload;

/// What a read does with a payload. A trait, because a closure cannot be told to be inlined.
pub trait CopyOut<M: Memory> {
    /// What it makes of it.
    type Value;
    /// Copies what it wants.
    fn copy(&mut self, payload: Payload<'_, M>) -> Self::Value;
}

impl<M: Memory, T, F: FnMut(Payload<'_, M>) -> T> CopyOut<M> for F {
    type Value = T;

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, M>) -> T {
        self(payload)
    }
}

/// Into a buffer, if it fits.
struct CopyInto<'a>(&'a mut [u8]);

impl<M: Memory> CopyOut<M> for CopyInto<'_> {
    type Value = bool;

    #[inline(always)]
    fn copy(&mut self, payload: Payload<'_, M>) -> bool {
        let len = payload.len();
        if len > self.0.len() {
            return false;
        }
        if len == self.0.len() {
            // The copy is straight-line code where the compiler knows the buffer's length.
            payload.copy_out(self.0);
        } else {
            copy_part(payload, &mut self.0[..len]);
        }
        true
    }
}

#[inline(never)]
fn copy_part(payload: impl ReadPayload, bytes: &mut [u8]) {
    payload.copy_out(bytes);
}

/// The last word that looked like a record's header, or the one that is [expected](Reader::expect), and what follows from it. Most
/// records of a ring have the length of the one before: then the place of the next header does not wait for the load of this
/// one, because a branch is predicted and a load is not.
#[derive(Clone, Copy, Debug)]
struct Usual {
    header: u64,
    size: u64,
}

/// What leads here stands out of line.
#[cold]
fn seldom() {}

/// One reader of a ring.
#[derive(Debug)]
pub struct Reader<M: Memory> {
    pub(super) ring: Ring<M>,
    /// `None`: a follower, which nobody can see.
    pub(super) registry: Option<Registry<M>>,
    pub(super) barrier: Barrier,
    pub(super) slot: Option<u64>,
    lossless: bool,
    resume: Start,
    /// The data area, and the one word that everything is judged by.
    pub(super) data: M::ReadArea,
    limit: M::ReadArea,
    /// Wraps: a hostile writer can drive it beyond all bounds, and then it finds nothing whole there.
    pub(super) position: u64,
    pub(super) sequence: u64,
    /// The header at the position if it was seen to be there, else 0.
    header: u64,
    usual: Usual,
    /// Is that what its user [expects](Reader::expect), for good?
    expects: bool,
    /// The cursor as the writer was last woken for it.
    cursor: u64,
    /// The position where this stream's next cursor is due; before it nothing but the next header is looked at behind a record.
    /// 0: not in a stream, but waiting for a record.
    due: u64,
    /// A loss that was found and is yet to be told.
    owed: Option<Stop>,
    /// How often it went on from a checkpoint, for those who have had enough of it.
    pub(super) skips: u32,
    ended: Option<Stop>,
}

impl<M: Memory> Reader<M> {
    /// A reader that stands at a boundary: made by the joins.
    pub(super) fn at(
        ring: Ring<M>,
        registry: Option<Registry<M>>,
        lossless: bool,
        slot: Option<u64>,
        barrier: Barrier,
        start: Boundary,
    ) -> Self {
        let Boundary { position, sequence } = start;
        let (header, cursor, owed, ended, resume) = (0, position, None, None, Start::Middle);
        let data = ring.layout.data();
        let usual = Usual { header: Geometry::data_header(0), size: data.record_size(0) };
        let area = ring.memory.read_area(data.first(), data.capacity());
        let limit = ring.memory.read_area(ring.layout.limit(), WORD_BYTES);
        let mut reader = Reader {
            ring,
            registry,
            barrier,
            slot,
            lossless,
            resume,
            data: area,
            limit,
            position,
            sequence,
            header,
            usual,
            expects: false,
            cursor,
            due: 0,
            owed,
            skips: 0,
            ended,
        };
        reader.due = reader.next_due();
        reader
    }

    /// Says what most records' length will be, for good: what [`look_exact`](Self::look_exact) goes by. False, and nothing is changed,
    /// if no record can have it.
    pub fn expect(&mut self, len: usize) -> bool {
        let header = Geometry::data_header(len);
        let Some(size) = self.ring.layout.data().size_of(header) else { return false };
        (self.usual, self.expects) = (Usual { header, size }, true);
        true
    }

    /// Reads the record at the position: `copy` is given its [`Payload`], which may be garbage; what it makes of it is returned only
    /// if it was whole. One load of the header, one of `limit`, and what `copy` loads. Does not block; loops a bounded number of times, over pads and resyncs.
    ///
    /// # Errors
    /// [`Stop`].
    #[inline]
    pub fn read<T>(&mut self, mut copy: impl FnMut(Payload<'_, M>) -> T) -> Result<Read<T>, Stop> {
        for _ in 0..MAX_TURNS {
            if let Some(read) = self.look_with(&mut copy) {
                return Ok(read);
            }
            self.settle()?;
        }
        Err(Stop::Empty)
    }

    /// The fast path of [`read`](Self::read), a single look. `None`: there is no whole record, and [`read`](Self::read) tells why.
    #[inline(always)]
    pub fn look<C: CopyOut<M>>(&mut self, copy: &mut C) -> Option<Read<C::Value>> {
        self.look_with(copy)
    }

    /// As [`look`](Self::look), copying the payload into a buffer; the value says whether it fits.
    #[inline(always)]
    pub fn look_into(&mut self, buffer: &mut [u8]) -> Option<Read<bool>> {
        self.look_with(&mut CopyInto(buffer))
    }

    /// As [`look`](Self::look), for a record of the `len` bytes that were [expected](Self::expect): at best a constant, so that the header
    /// is compared with one and the copy is straight-line code. `None` also for a record of any other length.
    #[inline(always)]
    pub fn look_exact<C: CopyOut<M>>(&mut self, len: usize, copy: &mut C) -> Option<Read<C::Value>> {
        let expected = Geometry::data_header(len);
        debug_assert!(self.expects && self.usual.header == expected, "{len} bytes are not what was expected");
        let header = self.header_if(expected);
        let found = if header == expected { self.copy_whole(len, self.usual.size, copy) } else { None };
        if found.is_none() {
            self.keep(header);
        }
        found
    }

    /// As [`look_exact`](Self::look_exact), for a run of such records: up to `most` of them, up to an eighth of the ring, up
    /// to anything else, and up to the first of which `copy` says that it is of no use. They are judged together, by the
    /// first one: what allows the writer to overwrite none of it allows it none of those behind. `None`: there is no whole
    /// record of this length, and whatever was copied is void.
    #[inline(always)]
    pub fn look_run<C: CopyOut<M, Value = bool>>(&mut self, len: usize, most: usize, copy: &mut C) -> Option<Run> {
        let expected = Geometry::data_header(len);
        let mut header = self.header();
        if header != expected {
            self.header = header;
            return None;
        }
        let (data, view, start) = (self.ring.layout.data(), self.data.view(), self.position);
        // Of the length of no record there is none, whatever a header says.
        let size = data.size_of(expected)?;
        let far = start.wrapping_add(data.capacity() / 8);
        let (mut next, mut count) = (start, 0);
        while count < most && header == expected {
            // The length of a record that would end behind the lap is none.
            let Some(payload) = view.payload(next, len) else { break };
            if !copy.copy(payload) {
                break;
            }
            (next, count) = (next.wrapping_add(size), count + 1);
            if next >= far || count == most {
                break;
            }
            // Acquire (P1): as in `header`.
            header = view.load(next, Acquire, Site::Header);
        }
        if self.still_whole(start) {
            return Some(Run { count, next });
        }
        self.header = expected;
        None
    }

    /// Counts the records of a run as received.
    #[inline(always)]
    pub fn release_run(&mut self, run: Run) {
        if run.count > 0 {
            // All but one, which is released as any.
            self.sequence += run.count as u64 - 1;
            self.release(run.next);
        }
    }

    #[inline(always)]
    fn look_with<C: CopyOut<M>>(&mut self, copy: &mut C) -> Option<Read<C::Value>> {
        let header = self.header_if(self.usual.header);
        let usual = if header == self.usual.header { Some(self.usual) } else { self.measure(header) };
        let found = usual.and_then(|Usual { header, size }| self.copy_whole((header - 1) as usize, size, copy));
        if found.is_none() {
            self.keep(header);
        }
        found
    }

    /// There is no whole record, or none yet. Out of line, so that the compiler takes it for what seldom happens.
    #[cold]
    #[inline(never)]
    fn keep(&mut self, header: u64) {
        self.header = header;
    }

    /// The header at the position, which is loaded unless it was before. Whoever finds no whole record there keeps it, for the cold
    /// path to judge; of one that is received nothing is kept.
    #[inline(always)]
    fn header(&self) -> u64 {
        if self.header != 0 {
            return self.header;
        }
        // Acquire (P1): pairs with `Commit`; the payload and the zero behind it.
        self.data.view().load(self.position, Acquire, Site::Header)
    }

    /// The same where it is most likely to be kept, and this one, as in a stream.
    #[inline(always)]
    fn header_if(&self, expected: u64) -> u64 {
        if self.header == expected {
            return expected;
        }
        seldom();
        self.header()
    }

    /// The record at the position, which by its header has these sizes, if it was whole.
    #[inline(always)]
    fn copy_whole<C: CopyOut<M>>(&self, len: usize, size: u64, copy: &mut C) -> Option<Read<C::Value>> {
        let (position, sequence) = (self.position, self.sequence);
        // Positions (`join::is_valid`) and the lap are multiples of the alignment: a payload that ends within the lap does so with its
        // padding.
        debug_assert!(position.is_multiple_of(self.geometry().alignment));
        let value = copy.copy(self.data.view().payload(position, len)?);
        self.still_whole(position).then_some(Read { value, len, sequence, next: position.wrapping_add(size) })
    }

    /// Did the last look see that nothing was committed yet?
    #[inline(always)]
    pub fn saw_nothing(&self) -> bool {
        self.header == 0
    }

    /// A header that is not the usual one. If it is a record's, it is the usual one from now on, unless another one is expected.
    #[cold]
    #[inline(never)]
    fn measure(&mut self, header: u64) -> Option<Usual> {
        let found = Usual { header, size: self.ring.layout.data().size_of(header)? };
        if !self.expects {
            self.usual = found;
        }
        Some(found)
    }

    /// Polls the header at the position, with a pause before each poll; ends when it is there, or after `most` polls.
    #[inline(always)]
    pub fn poll(&mut self, most: u32) {
        if self.header != 0 {
            return;
        }
        let (view, position) = (self.data.view(), self.position);
        for _ in 0..most {
            self.ring.memory.pause();
            // Acquire (P1): as in `read`, which goes on with it.
            let header = view.load(position, Acquire, Site::Header);
            if header != 0 {
                self.header = header;
                return;
            }
        }
    }

    /// Counts the record that [`read`](Self::read) found as received and goes on [behind](Read::next) it.
    #[inline(always)]
    pub fn release(&mut self, next: u64) {
        self.sequence += 1;
        self.position = next;
        if next < self.due {
            if self.peek() != self.usual.header {
                self.give_back();
            }
        } else {
            self.begin_or_give_back();
        }
    }

    /// The one rule: is everything that was read at the position so far what the writer committed there?
    #[inline(always)]
    pub(super) fn still_whole(&self, position: u64) -> bool {
        let Ring { memory, layout } = &self.ring;
        // Acquire (P2): pairs with `LimitFence`. If any load before this fence saw a byte of the next lap, the load
        // behind it sees the `limit` that allowed the writer to store it.
        memory.fence(Acquire, Site::ReadFence);
        // Relaxed: ordered by the fence.
        let limit = self.limit.view().load(0, Relaxed, Site::LimitLook);
        limit.wrapping_sub(position) <= layout.geometry.capacity
    }

    /// Behind a record with which a stream begins, or where the cursor is due.
    ///
    /// A lossless reader that has taken the last record must not hold the writer back, even if it never receives again. Was
    /// the record waited for, then it is likely to be the last: the room is given back without a look, which
    /// would take the next line from the writer. Else a look at the next header, which the next read goes on
    /// with, tells whether the ring runs dry; an eighth of the ring is given back in any case.
    ///
    /// At a pad the room before it is given back, too. The pad itself holds nobody up: it is shorter than the record that
    /// did not fit, which is at most half the ring, and so is the record that comes behind it. A lossy reader takes the same steps
    /// and stores nothing.
    #[inline(never)]
    fn begin_or_give_back(&mut self) {
        if self.due == 0 {
            self.header = 0;
            self.due = self.next_due();
            self.settle_cursor();
        } else {
            self.peek();
            self.give_back();
        }
    }

    /// Keeps the header at the position, and answers it.
    #[inline(always)]
    fn peek(&mut self) -> u64 {
        // Acquire (P1): as `Header`; a header other than 0 is kept and not loaded again.
        self.header = self.data.view().load(self.position, Acquire, Site::Peek);
        self.header
    }

    /// In a stream, where more is to be done than to go on.
    #[inline(never)]
    fn give_back(&mut self) {
        let far = self.position >= self.due;
        let more = self.header.wrapping_sub(1) < u64::from(u32::MAX);
        if more && (!far || self.shows_each() && !self.show()) {
            return;
        }
        self.due = if self.header == 0 { 0 } else { self.next_due() };
        self.settle_cursor();
    }

    /// Must the writer see this reader's cursor with every record?
    fn shows_each(&self) -> bool {
        self.lossless && self.geometry().may_evict
    }

    /// Where the next cursor is due, seen from here.
    fn next_due(&self) -> u64 {
        // No record is that short.
        let stride = if self.shows_each() { 1 } else { self.geometry().capacity / 8 };
        self.position.wrapping_add(stride)
    }

    /// Where the writer may evict who stalls, it has to see that this reader reads on, with every record; but it is not woken
    /// for each. Has an eighth of the ring been read since it was?
    fn show(&self) -> bool {
        if let (Some(registry), Some(slot)) = (&self.registry, self.slot) {
            // Release (P5): as in `settle_cursor`.
            registry.memory.store(registry.layout.slot_cursor(slot), self.position, Release, Site::Cursor);
        }
        self.position.wrapping_sub(self.cursor) >= self.geometry().capacity / 8
    }

    /// Stores the cursor if it moved, and wakes the writer if that sleeps.
    pub(super) fn settle_cursor(&mut self) {
        if !self.lossless || self.cursor == self.position {
            return;
        }
        let (Some(registry), Some(slot)) = (&self.registry, self.slot) else { return };
        self.cursor = self.position;
        // Release (P5): pairs with `SlotCursorLook`; the loads of everything below it are over (I2).
        registry.memory.store(registry.layout.slot_cursor(slot), self.position, Release, Site::Cursor);
        self.notify_writer();
    }

    /// Where a lossy reader goes on after it was lapped; [`Start::Middle`] unless set.
    pub fn set_resume(&mut self, resume: Start) {
        self.resume = resume;
    }

    /// Where it would.
    pub(super) fn resume(&self) -> Start {
        self.resume
    }

    /// The sizes.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        &self.ring.layout.geometry
    }

    /// The ring segment's words.
    pub fn memory(&self) -> &M {
        &self.ring.memory
    }

    /// Position of the next record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Sequence number of the next record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Does this reader hold the writer back?
    pub fn is_lossless(&self) -> bool {
        self.lossless
    }

    /// Does it hold a slot, so that the writer counts it?
    pub fn is_counted(&self) -> bool {
        self.slot.is_some()
    }

    /// Records published and not read, at least; exact when the writer is idle. Walks the last block.
    pub fn lag(&self) -> u64 {
        join::newest(&self.ring).map_or(0, |newest| newest.sequence.saturating_sub(self.sequence))
    }
}
