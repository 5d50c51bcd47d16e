//! The processes of the soak: one writer at a time, and readers of every kind. Each says on stdout what it did since it last said so.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shmcast::{OpenError, Options, Reader, Record, RecvTimeoutError, Start, TryRecvError, Writer};

use crate::records::{self, BLOCK, MOST_BYTES};
use crate::{CAPACITY_BYTES, Result, STALL_LIMIT};

/// Records of a batch.
const BATCH: u64 = 64;
/// How often a party says what it did.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 1 << 14;

/// Set when stdin ends: it is time to stop.
static STOPPED: AtomicBool = AtomicBool::new(false);

fn watch_stdin() {
    thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        STOPPED.store(true, Ordering::Relaxed);
    });
}

fn say(words: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{words}")?;
    out.flush()?;
    Ok(())
}

/// Creates the ring or takes it over, and publishes until it is stopped or killed.
pub(crate) fn writer(ring: &str, mut planted: Option<u64>) -> Result<()> {
    watch_stdin();
    let options = Options::new().capacity(CAPACITY_BYTES).stall_limit(STALL_LIMIT).keep(true);
    let mut writer = options.open_or_create(ring)?;
    say(format_args!("begins {} {}", writer.sequence(), writer.position()))?;
    let (mut buffer, mut reported) = (vec![0; BATCH as usize * MOST_BYTES], Instant::now());
    while !STOPPED.load(Ordering::Relaxed) {
        // Batches, single records and claims take turns.
        match writer.sequence() / BLOCK % 16 {
            0 => single(&mut writer, &mut buffer)?,
            1 => claim(&mut writer)?,
            _ => batch(&mut writer, &mut buffer, &mut planted)?,
        }
        if writer.sequence() % 4096 < BATCH && reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            say(format_args!("wrote {} {}", writer.sequence(), writer.position()))?;
        }
    }
    writer.close();
    say(format_args!("closed {} {}", writer.sequence(), writer.position()))
}

fn single(writer: &mut Writer, buffer: &mut [u8]) -> Result<()> {
    let sequence = writer.sequence();
    let record = &mut buffer[..records::len(sequence)];
    records::fill(sequence, record);
    writer.publish(record)?;
    Ok(())
}

fn claim(writer: &mut Writer) -> Result<()> {
    let sequence = writer.sequence();
    let mut record = [0; MOST_BYTES];
    let record = &mut record[..records::len(sequence)];
    records::fill(sequence, record);
    let mut claim = writer.claim(MOST_BYTES.min(record.len() + 8))?;
    claim.write_all(record)?;
    claim.truncate(record.len());
    claim.commit();
    Ok(())
}

fn batch(writer: &mut Writer, buffer: &mut [u8], planted: &mut Option<u64>) -> Result<()> {
    let first = writer.sequence();
    let (len, count) = (records::len(first), BATCH.min(BLOCK - first % BLOCK));
    let buffer = &mut buffer[..len * count as usize];
    for (record, sequence) in buffer.chunks_exact_mut(len).zip(first..) {
        records::fill(sequence, record);
    }
    if planted.take_if(|planted| *planted <= first).is_some() {
        buffer[len - 1] ^= 1;
    }
    writer.publish_batch(buffer.chunks_exact(len))?;
    Ok(())
}

/// How a reader joins and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lossless,
    Lossy,
    Follower,
    /// Lossless, in batches of owned records.
    Batches,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Lossless, Kind::Lossy, Kind::Follower, Kind::Batches];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Lossless => "lossless",
            Kind::Lossy => "lossy",
            Kind::Follower => "follower",
            Kind::Batches => "batches",
        }
    }

    fn options(self, newest: bool) -> Options {
        let options = Options::new().wait_for_successor(true);
        let options = options.start(if newest { Start::Newest } else { Start::Oldest });
        match self {
            Kind::Lossless | Kind::Batches => options,
            Kind::Lossy => options.lossy(true),
            Kind::Follower => options.lossy(true).follower(true),
        }
    }
}

/// What a reader did since it last said so, and where it is.
#[derive(Default)]
struct Account {
    first: u64,
    next: u64,
    /// Of the record that comes next, for as long as the block lasts.
    len: usize,
    received: u64,
    lost: u64,
    bytes: u64,
    evicted: u64,
}

impl Account {
    fn receive(&mut self, sequence: u64, record: &[u8]) -> Result<()> {
        if sequence != self.next {
            return Err(format!("record {sequence} came where {} was expected", self.next).into());
        }
        if self.len == 0 || sequence.is_multiple_of(BLOCK) {
            self.len = records::len(sequence);
        }
        if !records::is_whole(sequence, self.len, record) {
            return Err(format!("record {sequence} is torn").into());
        }
        (self.next, self.received, self.bytes) = (sequence + 1, self.received + 1, self.bytes + record.len() as u64);
        Ok(())
    }

    fn lose(&mut self, lost: u64) {
        (self.next, self.lost, self.len) = (self.next + lost, self.lost + lost, 0);
    }

    fn say(&mut self) -> Result<()> {
        let Account { received, lost, bytes, evicted, .. } = *self;
        (self.received, self.lost, self.bytes, self.evicted) = (0, 0, 0, 0);
        say(format_args!("read {received} {lost} {bytes} {evicted}"))
    }
}

/// Joins, and reads until the ring is closed, or for a time; whoever was evicted joins in again.
pub(crate) fn reader(ring: &str, kind: Kind, newest: bool, stays: Option<Duration>) -> Result<()> {
    watch_stdin();
    let options = kind.options(newest);
    let mut attempts = 0;
    let mut reader = loop {
        match options.open(ring) {
            // The writer goes round faster than a joiner can look.
            Err(OpenError::Busy) if attempts < 1000 => attempts += 1,
            opened => break opened?,
        }
    };
    let mut account = Account { first: reader.sequence(), next: reader.sequence(), ..Account::default() };
    say(format_args!("joined {}", account.first))?;
    let (start, mut reported) = (Instant::now(), Instant::now());
    let closed = loop {
        match turn(&mut reader, kind, &mut account)? {
            Turn::Closed => break true,
            Turn::Evicted => {
                if let Ok(lost) = reader.rejoin() {
                    account.lose(lost);
                }
            }
            Turn::More => {}
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            account.say()?;
            if STOPPED.load(Ordering::Relaxed) || stays.is_some_and(|stays| start.elapsed() >= stays) {
                break false;
            }
        }
    };
    // A batch may have ended before a loss, which only the next one would have told.
    if (closed || kind != Kind::Batches) && account.next != reader.sequence() {
        return Err(format!("stands at record {}, not at {}", reader.sequence(), account.next).into());
    }
    account.say()?;
    say(format_args!("{} {} {}", if closed { "ended" } else { "left" }, account.first, account.next))
}

/// What came of some receives.
enum Turn {
    More,
    Evicted,
    Closed,
}

fn turn(reader: &mut Reader, kind: Kind, account: &mut Account) -> Result<Turn> {
    if kind == Kind::Batches { read_batch(reader, account) } else { read_single(reader, account) }
}

fn read_single(reader: &mut Reader, account: &mut Account) -> Result<Turn> {
    let mut buffer = [0; MOST_BYTES];
    for _ in 0..LOOK_EVERY {
        match reader.try_recv_into(&mut buffer) {
            Ok(received) => account.receive(received.sequence, &buffer[..received.len])?,
            Err(TryRecvError::Empty) => match reader.recv_into_timeout(&mut buffer, REPORT_EVERY) {
                Ok(received) => account.receive(received.sequence, &buffer[..received.len])?,
                Err(error) => return stopped(account, error),
            },
            Err(error) => return stopped(account, error.into()),
        }
    }
    Ok(Turn::More)
}

fn read_batch(reader: &mut Reader, account: &mut Account) -> Result<Turn> {
    let mut records: Vec<Record> = Vec::new();
    match reader.recv_timeout(REPORT_EVERY) {
        Ok(record) => records.push(record),
        Err(error) => return stopped(account, error),
    }
    let more = reader.try_recv_batch(&mut records, BATCH as usize);
    for record in &records {
        account.receive(record.sequence, record)?;
    }
    match more {
        Ok(_) | Err(TryRecvError::Empty) => Ok(Turn::More),
        Err(error) => stopped(account, error.into()),
    }
}

fn stopped(account: &mut Account, error: RecvTimeoutError) -> Result<Turn> {
    match error {
        RecvTimeoutError::Timeout => Ok(Turn::More),
        RecvTimeoutError::Closed => Ok(Turn::Closed),
        RecvTimeoutError::Lagged(lost) => {
            account.lose(lost);
            Ok(Turn::More)
        }
        RecvTimeoutError::Evicted { lost } => {
            account.lose(lost);
            account.evicted += 1;
            Ok(Turn::Evicted)
        }
        error => Err(error.into()),
    }
}
