//! Is an image what it must be? The shipped recovery and readers run on it, and every word that the plan knows is compared.

use std::cell::RefCell;

use shmcast::layout::Geometry;
use shmcast::memory::{Mapped, ReadPayload};
use shmcast::ring::{Reader, Refused, Start, Stop, Writer};

use crate::image::{Image, Segments};
use crate::plan::{CAPACITY, Place, Plan, payload};

/// Bytes of the record that a successor publishes, and of one that it cannot do without a wrap.
const NEXT: usize = 16;

/// What was found in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Records that the recovery counts.
    pub(crate) records: u64,
    /// Where the successor goes on.
    pub(crate) position: u64,
}

/// Judges one image of a killed writer, in place: readers find a prefix without being told of any death, the successor goes
/// on behind it, and the same reader reads on. `least` records were reported as committed, `most` were begun.
pub(crate) fn writer(image: &mut Image, plan: &Plan, least: u64, most: u64) -> Result<Found, String> {
    let copy = &image.copy;
    let limit = copy.limit();
    let closed = copy.word(copy.layouts.0.closed()) != 0;
    let epoch = copy.word(copy.layouts.0.epoch());
    let (ring, registry) = copy.views();
    let mut reader = Reader::join_lossy(ring.clone(), None, Start::Oldest, false, 0)
        .map_err(|error| format!("no reader can join: {error:?}"))?;
    // A boundary is kept per block; the limit runs ahead by a block and a record.
    let reach = 2 * copy.layouts.0.geometry.block() + (plan.scenario.size as u64 + 8).next_multiple_of(64);
    if reader.position() > limit.saturating_sub(CAPACITY) + reach {
        return Err(format!("the oldest record stands at {}, the limit at {limit}", reader.position()));
    }
    let end = read_on(&mut reader, |sequence| plan.places.get(sequence as usize).map(|place| &*place.payload))?;
    if end != (if closed { Stop::Closed } else { Stop::Empty }) {
        return Err(format!("the stream ends with {end:?}"));
    }
    let records = reader.sequence();
    if !(least..=most).contains(&records) {
        return Err(format!("{records} records, not {least} to {most}"));
    }
    whole(copy, plan, records, limit)?;
    let mut writer = Writer::take_over(ring, registry, false).map_err(|error| format!("no take-over: {error:?}"))?;
    let found = Found { records: writer.sequence(), position: writer.position() };
    if found.records != records {
        return Err(format!("a reader finds {records} records, the successor {}", found.records));
    }
    let before = records.checked_sub(1).map_or(0, |last| plan.places[last as usize].end);
    // At the end of the last record, or behind the pad that the next one needs.
    let after = plan.places.get(records as usize).map_or(before, |next| next.start);
    let wrapped = before.next_multiple_of(CAPACITY);
    if ![before, after, wrapped].contains(&found.position) {
        return Err(format!("the successor goes on at {}, not at {before} or {after}", found.position));
    }
    if copy.word(copy.layouts.0.epoch()) != epoch + 1 {
        return Err("the epoch was not counted on".to_owned());
    }
    if copy.limit() < limit {
        return Err("the limit was lowered".to_owned());
    }
    // A record that fits, and one so large that it cannot but take the slow path.
    for len in [NEXT, CAPACITY as usize / 4] {
        let next = payload(!writer.sequence(), len);
        let sequence = writer.sequence();
        let mut published = writer.try_publish(&next);
        if published == Err(Refused::Full) {
            // A lossless reader that was in the ring: as good as dead with its slot.
            let blocker = writer.blocker().ok_or("full, and nobody holds the writer back")?;
            if !writer.reap(blocker.slot) {
                return Err(format!("slot {} cannot be freed", blocker.slot));
            }
            published = writer.try_publish(&next);
        }
        if published != Ok(sequence) {
            return Err(format!("record {sequence} of the successor: {published:?}"));
        }
        let end = read_on(&mut reader, |found| (found == sequence).then_some(&next[..]))?;
        if (reader.sequence(), end) != (sequence + 1, Stop::Empty) {
            return Err(format!("behind record {sequence} of the successor: {end:?} at {}", reader.sequence()));
        }
    }
    Ok(found)
}

/// Reads to the end; every record must be the one that its number says.
pub(crate) fn read_on<'a>(
    reader: &mut Reader<Mapped>,
    expected: impl Fn(u64) -> Option<&'a [u8]>,
) -> Result<Stop, String> {
    let mut buffer = [0; CAPACITY as usize];
    loop {
        let sequence = reader.sequence();
        let read = reader.read(|payload| payload.copy_out(&mut buffer[..payload.len()]));
        match read {
            Ok(read) => {
                let expected = expected(sequence).ok_or_else(|| format!("record {sequence} was never published"))?;
                if read.sequence != sequence || buffer[..read.len] != *expected {
                    return Err(format!("record {sequence} is torn: {:x?}", &buffer[..read.len.min(24)]));
                }
                reader.release(read.next());
            }
            Err(stop @ (Stop::Empty | Stop::Closed)) => return Ok(stop),
            Err(stop) => return Err(format!("behind record {sequence}: {stop:?}")),
        }
    }
}

/// Every record that the writer may not have overwritten, by the plan alone and without any code of the library's: a lossless
/// reader may stand before any of them.
fn whole(copy: &Segments, plan: &Plan, records: u64, limit: u64) -> Result<(), String> {
    let floor = limit.saturating_sub(CAPACITY);
    let data = copy.layouts.0.data();
    for Place { start, payload, .. } in plan.places[..records as usize].iter().rev() {
        if *start < floor {
            return Ok(());
        }
        let header = data.word(*start);
        if copy.word(header) != Geometry::data_header(payload.len()) {
            return Err(format!("the header at {start} is {:#x}", copy.word(header)));
        }
        for (n, bytes) in payload.chunks(8).enumerate() {
            if copy.word(header.plus(1 + n)).to_ne_bytes()[..bytes.len()] != *bytes {
                return Err(format!("word {n} of the record at {start} is not what was published"));
            }
        }
    }
    Ok(())
}

/// Judges one image in which a reader was killed: the writer goes on for more than a lap once the slots of the dead are
/// freed, other readers lose nothing, and every slot can be had again. Says whether a slot had to be freed; with `reaps`
/// unset none is, a control.
pub(crate) fn reader(image: &mut Image, records: u64, reaps: bool) -> Result<bool, String> {
    let copy = &image.copy;
    let (ring, registry) = copy.views();
    let mut writer = Writer::take_over(ring.clone(), registry.clone(), false).map_err(|error| format!("{error:?}"))?;
    if writer.sequence() != records {
        return Err(format!("a reader changed what was published: {} records, not {records}", writer.sequence()));
    }
    let slots = copy.layouts.1.reader_slots;
    // The locks of those that live; the dead have none.
    let taken = RefCell::new(Vec::new());
    let join = |start| {
        let lock = |slot| (!taken.borrow().contains(&slot)).then_some(slot);
        let (reader, slot) = Reader::join_lossless_owned(ring.clone(), registry.clone(), start, false, 0, true, lock)
            .map_err(|error| format!("no slot can be had: {error:?}"))?;
        taken.borrow_mut().push(slot);
        Ok::<_, String>(reader)
    };
    let mut other = join(Start::Newest)?;
    let mut freed = false;
    let record = payload(records, 120);
    for sequence in records..records + CAPACITY / 64 {
        let mut published = writer.try_publish(&record);
        if published == Err(Refused::Full) && reaps && !freed {
            let blocker = writer.blocker().ok_or("full, and nobody holds the writer back")?;
            if taken.borrow().contains(&blocker.slot) {
                return Err("a reader that has read everything holds the writer back".to_owned());
            }
            freed = writer.reap(blocker.slot);
            published = writer.try_publish(&record);
        }
        if published != Ok(sequence) {
            return Err(format!("the writer stands at record {sequence}: {published:?}"));
        }
        let end = read_on(&mut other, |found| (found == sequence).then_some(&record[..]))?;
        if (end, other.sequence()) != (Stop::Empty, sequence + 1) {
            return Err(format!("another reader behind record {sequence}: {end:?}"));
        }
    }
    let others: Vec<_> = (1..slots).map(|_| join(Start::Newest)).collect::<Result<_, _>>()?;
    drop(others);
    Ok(freed)
}
