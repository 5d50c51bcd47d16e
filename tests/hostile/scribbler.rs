//! A malicious process that scribbles random words over the registry, then over the ring, while a stream runs between other
//! processes.
//!
//! ```text
//!   scribbler ── stores anything, anywhere, at any time ──▶ the registry | the ring
//!   writer    ── publishes ──────────────────────────────▶ the ring        goes on; each call ends by its deadline
//!   readers   ◀─ receive, are evicted, rejoin, open again ─ the ring       registry: nothing wrong, every loss exact
//!                                                                          ring: wrong bytes, typed errors, no more than that
//! ```
//! About a second for each segment. `SHMCAST_SCRIBBLE_SECONDS` says otherwise, `SHMCAST_SEED` repeats a seed. Under the
//! address sanitizer: see the README.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use memmap2::MmapRaw;
use shmcast::memory::{Mapped, Memory, Word};
use shmcast::ring::Site;
use shmcast::{OpenError, Options, PublishTimeoutError, Reader, RecvTimeoutError, Start, TryRecvError, Writer};

use super::support::words::Words;
use super::support::{Child, LIMIT, Random, assert_whole, record_of, say, smallest};

const BOUND: u64 = 300;
/// Of each call that waits.
const PATIENCE: Duration = Duration::from_millis(20);

fn map(path: &Path) -> Option<Mapped> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    Some(Mapped::new(Arc::new(Words(MmapRaw::map_raw(&file).ok()?))))
}

// ---- the children ----

struct Part<'a> {
    path: &'a Path,
    /// Is it the ring that is scribbled on?
    on_ring: bool,
    random: Random,
    end: Instant,
    slowest: Duration,
}

impl Part<'_> {
    /// Has everybody else done his part?
    fn is_over(&self) -> bool {
        self.path.with_file_name("over").exists()
    }

    /// Calls something that must end by itself.
    fn timed<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = call();
        self.slowest = self.slowest.max(start.elapsed());
        answer
    }
}

pub(crate) fn play(role: &str, path: &Path, arguments: &[String]) {
    let [milliseconds, seed] = [2, 3].map(|n| arguments[n].parse().expect("a number"));
    let mut part = Part {
        path,
        on_ring: arguments[1] == "ring",
        random: Random(seed),
        end: Instant::now() + Duration::from_millis(milliseconds),
        slowest: Duration::ZERO,
    };
    match role {
        "scribbler" => scribble(&mut part),
        "writer" => write(&mut part),
        _ => read(&mut part, role == "lossy reader"),
    }
}

fn scribble(part: &mut Part) {
    let target = if part.on_ring { part.path.to_owned() } else { part.path.with_extension("registry") };
    let mut count = 0_u64;
    say("scribbles");
    while !part.is_over() {
        // Anew now and then: the writer may have made another ring.
        let Some(words) = map(&target) else { continue };
        for _ in 0..2000 {
            let random = &mut part.random;
            // Of the header less: who opens a ring is to get beyond it.
            let header = random.below(200) == 0;
            let (from, to) = if header { (0, 64) } else { (64, words.words() as u64) };
            let at = Word((from + random.below(to - from)) as usize);
            let there = words.load(at, Relaxed, Site::Header);
            let near = words.load(Word(64 + random.below(2) as usize), Relaxed, Site::Header);
            let value = match random.below(8) {
                0 => random.next(),
                1 => random.below(300),
                2 => 0,
                3 => there ^ 1 << random.below(64),
                4 => there.wrapping_add(random.below(64) * 8).wrapping_sub(256),
                // About where the writer is.
                5 => near.wrapping_sub(random.below(9000)) & !7,
                6 => random.below(300) | 1 << 32,
                _ => u64::MAX - random.below(2) * random.below(5000),
            };
            words.store(at, value, Relaxed, Site::Header);
            if header {
                // Long enough for somebody to see it.
                (0..random.below(3000)).for_each(|_| std::hint::spin_loop());
                words.store(at, there, Relaxed, Site::Header);
            }
            count += 1;
            (0..random.below(400)).for_each(|_| std::hint::spin_loop());
        }
    }
    say(format_args!("scribbled {count}"));
}

/// The patience of the writer with who stalls, and with forged cursors.
fn options() -> Options {
    smallest().stall_limit(Duration::from_millis(1)).keep(true)
}

fn create(path: &Path) -> Writer {
    let _ = shmcast::remove_file(path);
    // What has lost its magic word is no ring of ours any more.
    let _ = (std::fs::remove_file(path), std::fs::remove_file(path.with_extension("registry")));
    options().create_file(path).unwrap_or_else(|error| panic!("{error}"))
}

fn write(part: &mut Part) {
    let path = part.path;
    let mut writer = create(path);
    let (mut published, mut timeouts, mut rings) = (0_u64, 0_u64, 1_u64);
    say("writes");
    let mut turn = 0_u64;
    while !part.is_over() {
        for _ in 0..64 {
            turn += 1;
            let record = record_of(writer.sequence(), BOUND);
            let answer = match turn % 3 {
                0 => part.timed(|| writer.publish_timeout(&record, PATIENCE)),
                1 => part.timed(|| writer.try_publish(&record).map_err(PublishTimeoutError::from)),
                _ => part.timed(|| {
                    let mut claim = writer.claim_timeout(record.len(), PATIENCE)?;
                    claim.copy_from_slice(&record);
                    Ok(claim.commit())
                }),
            };
            match answer {
                Ok(_) => published += 1,
                Err(PublishTimeoutError::Timeout) => timeouts += 1,
                Err(error) => {
                    assert!(part.on_ring, "{error}");
                    (writer, rings) = (create(path), rings + 1);
                }
            }
            let _ = writer.reader_count();
        }
        if part.on_ring && part.random.below(20) == 0 {
            // A successor, of whatever is there.
            drop(writer);
            let taken = part.timed(|| options().open_or_create_file(path));
            writer = taken.unwrap_or_else(|_| {
                rings += 1;
                create(path)
            });
        }
    }
    say(format_args!("wrote {published} {timeouts} {rings} {}", part.slowest.as_millis()));
}

/// What a reader has seen, by name.
type Seen = BTreeMap<String, u64>;

fn name(what: &dyn std::fmt::Debug) -> String {
    format!("{what:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

fn read(part: &mut Part, lossy: bool) {
    let mut seen = Seen::new();
    let (mut received, mut opened) = (0_u64, 0_u64);
    say("reads");
    while Instant::now() < part.end {
        let starts = [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(part.random.below(1000))];
        let start = starts[part.random.below(4) as usize];
        let options = Options::new().lossy(lossy).start(start).wait_for_successor(true);
        let path = part.path;
        match part.timed(|| options.open_file(path)) {
            Ok(reader) => {
                opened += 1;
                received += use_up(part, reader, &mut seen);
            }
            Err(error) => {
                // A damaged registry may have no slot, or no header; the ring is whole.
                let told = matches!(
                    error,
                    OpenError::NoFreeSlot { .. }
                        | OpenError::Format { .. }
                        | OpenError::Busy
                        | OpenError::SequenceGone { .. }
                        | OpenError::SequenceNotYet { .. }
                );
                assert!(part.on_ring || told, "{error}");
                *seen.entry(name(&error)).or_default() += 1;
            }
        }
    }
    say(format_args!("read {received} {opened} {} {seen:?}", part.slowest.as_millis()));
}

/// Reads with one reader for a while; checks all of it where the ring is honest. Answers the number of records.
fn use_up(part: &mut Part, mut reader: Reader, seen: &mut Seen) -> u64 {
    let mut expected = reader.sequence();
    let (mut received, mut buffer) = (0, [0; 4096]);
    let (honest, max) = (!part.on_ring, reader.max_payload());
    // In a row: the ring may be another one by now, that of a writer who could not go on.
    let mut silence = 0;
    for call in 0..300 {
        if Instant::now() >= part.end {
            break;
        }
        let answer = part.timed(|| match call % 3 {
            0 => reader.recv_timeout(PATIENCE).map(|record| (record.sequence, record.payload)),
            1 => match reader.try_recv_into(&mut buffer) {
                Ok(record) => Ok((record.sequence, buffer[..record.len].to_vec())),
                Err(error) => Err(RecvTimeoutError::from(error)),
            },
            _ => {
                let mut records = Vec::new();
                match reader.try_recv_batch(&mut records, 1) {
                    Ok(_) => Ok(records.pop().map(|record| (record.sequence, record.payload)).expect("a record")),
                    Err(error) => Err(error.into()),
                }
            }
        });
        match answer {
            Ok((sequence, payload)) => {
                assert!(payload.len() <= max);
                (received, silence) = (received + 1, 0);
                if honest {
                    assert_eq!(sequence, expected, "no gap that was not told");
                    assert_whole(sequence, &payload, BOUND);
                }
                expected = sequence.wrapping_add(1);
            }
            Err(error) => {
                *seen.entry(name(&error)).or_default() += 1;
                match error {
                    RecvTimeoutError::Timeout => silence += 1,
                    RecvTimeoutError::Lagged(lost) => expected = expected.wrapping_add(lost),
                    RecvTimeoutError::Evicted { lost } => {
                        expected = expected.wrapping_add(lost);
                        assert!(!reader.is_lossless());
                        match part.timed(|| reader.rejoin()) {
                            Ok(lost) => expected = expected.wrapping_add(lost),
                            Err(error) => *seen.entry(name(&error)).or_default() += 1,
                        }
                    }
                    end => {
                        assert!(!honest, "{end}");
                        if matches!(end, RecvTimeoutError::Corrupt { .. }) {
                            let again = reader.try_recv().map_err(RecvTimeoutError::from).map(drop);
                            assert_eq!(again, Err(end), "poisoned");
                        }
                        break;
                    }
                }
            }
        }
        assert!(!honest || reader.sequence() == expected);
        if silence == 3 {
            break;
        }
        if call % 50 == 0 {
            let _ = part.timed(|| reader.lag());
        }
    }
    let _ = reader.try_recv() == Err(TryRecvError::Empty);
    received
}

// ---- the test ----

fn run(on_ring: bool, seed: u64, milliseconds: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let what = if on_ring { "ring" } else { "registry" };
    let start = |role: &str, n: u64| {
        let words = [milliseconds.to_string(), (seed ^ n << 32).to_string()];
        Child::start(role, &[path.to_str().expect("UTF-8"), what, &words[0], &words[1]])
    };
    let mut writer = start("writer", 1);
    writer.expect("writes");
    let mut readers = [start("lossless reader", 2), start("lossless reader", 3), start("lossy reader", 4)];
    for reader in &mut readers {
        reader.expect("reads");
    }
    let mut scribbler = start("scribbler", 5);
    scribbler.expect("scribbles");
    let limit = LIMIT + Duration::from_millis(milliseconds);
    let (mut received, mut slowest) = (0, 0);
    for mut reader in readers {
        let said = reader.expect_within("read", limit);
        let numbers: Vec<u64> = said.split(' ').take(3).filter_map(|word| word.parse().ok()).collect();
        println!("a reader: records, opens, slowest call in ms, what else: {said}");
        (received, slowest) = (received + numbers[0], slowest.max(numbers[2]));
        reader.finish();
    }
    std::fs::write(path.with_file_name("over"), "").expect("a file");
    let [published, timeouts, rings, slowest_write] = writer.expect_numbers("wrote");
    let [scribbled] = scribbler.expect_numbers("scribbled");
    println!(
        "{scribbled} words of the {what} scribbled on, seed {seed}: {published} published, {timeouts} timeouts, {rings} rings, \
         {received} received; slowest call {} ms",
        slowest.max(slowest_write)
    );
    writer.finish();
    scribbler.finish();
    assert!(scribbled > 100 && published > 100 && received > 100, "it went on");
    // Far more than a call may take, on a machine as loaded as this may be.
    assert!(slowest.max(slowest_write) < 10_000, "a call hangs");
}

fn seconds_and_seed() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let (seconds, seed) = (number("SHMCAST_SCRIBBLE_SECONDS").unwrap_or(1), number("SHMCAST_SEED").unwrap_or(now));
    println!("SHMCAST_SEED={seed}");
    (seconds, seed)
}

#[test]
fn a_registry_that_is_scribbled_on_spoils_no_record() {
    let (seconds, seed) = seconds_and_seed();
    run(false, seed, seconds * 1000);
}

#[test]
fn a_ring_that_is_scribbled_on_ends_no_process() {
    let (seconds, seed) = seconds_and_seed();
    run(true, seed, seconds * 1000);
}
