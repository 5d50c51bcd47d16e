//! What a writer does: single records, claims that are shortened or dropped, batches and runs; it waits for room, evicts and reaps,
//! rests until everybody sleeps, and closes. Its successor takes over, after a death or a close.

use std::rc::Rc;

use shmcast::ring::{Refused, Writer};

use super::plan::MOST_PAYLOAD;
use super::stage::{Mode, Stage};
use super::{SLICE, Seam};

type Pen = Writer<Seam>;

/// The first writer.
pub(super) fn first(stage: &Rc<Stage>, party: usize) {
    let (ring, registry) = stage.views(party);
    write(stage, party, Writer::new(ring, registry, stage.plan.writers_registered));
}

/// The next one, who begins when the one before it is gone.
pub(super) fn successor(stage: &Rc<Stage>, party: usize) {
    {
        let mut state = stage.state.borrow_mut();
        // The lease is a lock.
        if let Some(last) = state.books.last_writer {
            state.memory.hand_over(last, party);
        }
    }
    let (ring, registry) = stage.views(party);
    let writer = match Writer::take_over(ring, registry, stage.plan.writers_registered) {
        Ok(writer) => writer,
        Err(error) => panic!("a ring that cannot be taken over: {error:?}"),
    };
    let recovered = writer.sequence();
    stage.books(|books| {
        books.tally.take_overs += 1;
        let least = books.published.max(books.seen);
        let most = books.attempted;
        assert!((least..=most).contains(&recovered), "a successor found {recovered} records of {least} to {most}");
        books.attempted = recovered;
        books.positions.truncate(recovered as usize);
        books.publish(recovered);
    });
    write(stage, party, writer);
}

fn write(stage: &Rc<Stage>, party: usize, mut writer: Pen) {
    let plan = &stage.plan;
    stage.books(|books| books.is_open = true);
    if plan.heeds_readers {
        writer.heed_readers(true);
    }
    // Where a successor waits, the writer before it may close early.
    let others = stage.books(|books| books.writers_left) > 1;
    let early = if others && stage.random(|random| random.chance(64)) {
        stage.random(|random| random.below(plan.records))
    } else {
        plan.records
    };
    while writer.sequence() < plan.records && writer.sequence() < early.max(1) {
        match stage.random(|random| random.below(12)) {
            0..5 => single(stage, party, &mut writer),
            5 => claim(stage, party, &mut writer),
            6 => dropped(stage, party, &mut writer),
            7 | 8 => batch(stage, party, &mut writer),
            9 => run(stage, party, &mut writer),
            10 if stage.random(|random| random.chance(plan.rests)) => stage.wait(party, Mode::Resting),
            _ => {
                // It is bound to go on.
                stage.books(|books| books.progress += 1);
                stage.nap(party, 40);
            }
        }
    }
    let done = writer.sequence() >= plan.records;
    if done && stage.random(|random| random.chance(plan.rests)) {
        stage.wait(party, Mode::Resting);
    }
    stage.books(|books| {
        books.last_writer = Some(party);
        books.closes += 1;
        books.is_open = false;
        books.tally.laps += (writer.position() - plan.ring.geometry.start) / plan.ring.geometry.capacity;
    });
    writer.close();
    stage.books(|books| {
        books.writers_left -= 1;
        books.is_over |= done || books.writers_left == 0;
        books.progress += 1;
    });
}

/// Notes that the next record is about to be published where the writer stands, which may be in front of the pad.
fn attempt(stage: &Stage, writer: &Pen) {
    stage.books(|books| books.attempt(writer.sequence(), writer.position()));
}

fn published(stage: &Stage, writer: &Pen) {
    stage.books(|books| books.publish(writer.sequence()));
}

/// After a refusal.
fn make_way(stage: &Rc<Stage>, party: usize, writer: &mut Pen, refused: Refused, len: usize) {
    match refused {
        Refused::Full => {}
        Refused::RollCall => return writer.roll_called(),
        other => panic!("{other:?}"),
    }
    if let Some(blocker) = writer.blocker() {
        // Alive, or dead? Its lock tells.
        if stage.plan.locks && stage.lock(party, blocker.slot) {
            writer.reap(blocker.slot);
            stage.unlock(party);
            return;
        }
        if stage.plan.ring.geometry.may_evict && stage.random(|random| random.chance(128)) {
            return writer.pass_over(blocker);
        }
    }
    writer.park_for_room(len, SLICE);
}

fn single(stage: &Rc<Stage>, party: usize, writer: &mut Pen) {
    let mut buffer = [0; MOST_PAYLOAD];
    let payload = stage.plan.payload(writer.sequence(), &mut buffer);
    loop {
        attempt(stage, writer);
        let sequence = writer.sequence();
        let at_once = stage.random(|random| random.chance(64)).then(|| writer.reserve_at_once(payload.len())).flatten();
        let at_once = at_once.map(|reserved| writer.put(reserved, payload));
        match at_once.map_or_else(|| writer.try_publish(payload), Ok) {
            Ok(number) => {
                assert_eq!(number, sequence, "the number of the record");
                return published(stage, writer);
            }
            Err(refused) => make_way(stage, party, writer, refused, payload.len()),
        }
    }
}

/// A claim that is filled, perhaps shortened, and committed.
fn claim(stage: &Rc<Stage>, party: usize, writer: &mut Pen) {
    let mut buffer = [0; MOST_PAYLOAD];
    let payload = stage.plan.payload(writer.sequence(), &mut buffer);
    let most = stage.plan.ring.geometry.max_payload() as usize - payload.len();
    let longer = payload.len() + stage.random(|random| random.below(most.min(32) as u64 + 1)) as usize;
    match writer.reserve(longer) {
        Ok(mut claim) => {
            attempt(stage, writer);
            writer.fill(&claim, payload);
            writer.truncate(&mut claim, payload.len());
            writer.commit(claim);
            published(stage, writer);
        }
        Err(refused) => make_way(stage, party, writer, refused, longer),
    }
}

/// A claim that is filled and dropped.
fn dropped(stage: &Rc<Stage>, party: usize, writer: &mut Pen) {
    let longest = stage.plan.ring.geometry.max_payload();
    let len = stage.random(|random| random.below(longest + 1)) as usize;
    match writer.reserve(len) {
        Ok(claim) => writer.fill(&claim, &[0xFF; MOST_PAYLOAD][..len.min(16)]),
        Err(refused) => make_way(stage, party, writer, refused, len),
    }
}

fn batch(stage: &Rc<Stage>, party: usize, writer: &mut Pen) {
    let most = stage.random(|random| 1 + random.below(4));
    for _ in 0..most {
        if writer.sequence() >= stage.plan.records {
            break;
        }
        let mut buffer = [0; MOST_PAYLOAD];
        let payload = stage.plan.payload(writer.sequence(), &mut buffer);
        attempt(stage, writer);
        if let Err(refused) = writer.stage(payload) {
            // What was staged is committed by now.
            published(stage, writer);
            make_way(stage, party, writer, refused, payload.len());
            break;
        }
    }
    writer.flush();
    published(stage, writer);
}

/// Records of one length, as many as are.
fn run(stage: &Rc<Stage>, party: usize, writer: &mut Pen) {
    let (plan, first) = (&stage.plan, writer.sequence());
    let len = plan.len(first);
    let same = (first..plan.records).take_while(|&sequence| plan.len(sequence) == len).take(4).count();
    let mut position = writer.position();
    for sequence in first..first + same as u64 {
        stage.books(|books| books.attempt(sequence, position));
        position += plan.size(sequence);
    }
    let mut buffers = [[0; MOST_PAYLOAD]; 4];
    let records = buffers.iter_mut().zip(first..).take(same).map(|(buffer, sequence)| plan.payload(sequence, buffer));
    let staged = writer.stage_run(len, records);
    stage.books(|books| {
        books.attempted = writer.sequence();
        books.positions.truncate(writer.sequence() as usize);
    });
    if staged == 0 {
        single(stage, party, writer);
    } else {
        writer.flush();
        published(stage, writer);
    }
}
