//! Two pinned processes: throughput and latency of the ring beside a well-known in-process queue and bare floors.
//!
//! ```text
//! cargo bench --bench two_process              all sizes, at least 9 rounds kept
//! cargo bench --bench two_process -- 5         at least 5 rounds kept
//! ```
//!
//! Every round runs every contender once, one behind the other (A/B/C/A/B/C), on the same two processors: the writer on
//! the first, the reader on the last. A round whose raw ping-pong moved by more than 30 % between its two ends is thrown
//! away: the machine changed under it. Medians and ratios of the rounds kept are printed. Every payload is written in full,
//! read in full, and checksummed; a wrong sum ends the run.
//!
//! | contender | what it is |
//! |---|---|
//! | hand-off | the floor: memcpy into a shared 1 MiB buffer, one flag per 64 KiB block each way |
//! | rtrb | `push` and `pop` of arrays, 1 MiB, two threads (it has no other way), pinned alike |
//! | copy | `publish` and `recv_into`, one lossless reader |
//! | borrow | `publish` and `recv_ref`, one lossless reader |
//! | lossy | `publish` and `recv_into`, one lossy reader kept from being lapped by a lossless one in the same process |

use std::hint::{black_box, spin_loop};
use std::io::{Read, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::{ForkResult, Pid, fork, pipe};
use shmcast::{Options, Reader, WaitStrategy, Writer};

mod floors;
use floors::{Floors, Lines};

const RING_BYTES: usize = 1 << 20;
const SIZES: [usize; 4] = [8, 64, 1024, 65536];
const LATENCY_SIZES: [usize; 6] = [8, 16, 32, 48, 64, 1024];
/// Record alignments of the two rings that each latency is measured with.
const ALIGNMENTS: [u64; 2] = [8, 64];
/// A round is thrown away if its two ping-pongs differ by more.
const MOST_DRIFT: f64 = 0.3;
const ROUNDS_KEPT: usize = 9;
const MOST_ROUNDS: usize = 60;
/// Round trips of the floors.
const TRIPS: u64 = 100_000;

/// Round trips of one measurement: three laps of the ring at least, so that its lines are as warm as they stay.
fn trips(size: usize) -> u64 {
    (3 * RING_BYTES / (size + 8)).max(TRIPS as usize) as u64
}

/// Records of one measurement: about 20 ms.
fn records(size: usize) -> u64 {
    match size {
        8 => 3_000_000,
        64 => 2_000_000,
        1024 => 300_000,
        _ => 6_000,
    }
}

/// What the two processes do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    OneLine,
    TwoLines,
    HandOff(usize),
    Rtrb(usize),
    Copy(usize),
    Borrow(usize),
    /// Size, and alignment of the records.
    Latency(usize, usize),
}

fn cases() -> Vec<Case> {
    let mut cases = vec![Case::OneLine, Case::TwoLines];
    for size in 0..SIZES.len() {
        cases.extend([Case::HandOff(size), Case::Rtrb(size), Case::Copy(size), Case::Borrow(size)]);
    }
    cases.push(Case::TwoLines);
    for size in 0..LATENCY_SIZES.len() {
        cases.extend([Case::Latency(size, 0), Case::Latency(size, 1)]);
    }
    cases.extend([Case::TwoLines, Case::OneLine]);
    cases
}

/// Fills a payload: every word depends on the record.
#[inline(always)]
fn fill(words: &mut [u64], sequence: u64) {
    for (i, word) in words.iter_mut().enumerate() {
        *word = sequence.wrapping_add(i as u64);
    }
}

/// Reads a payload in full.
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

/// What the reader's sums must add up to.
fn expected_sum(size: usize, records: u64) -> u64 {
    let words = size as u64 / 8;
    let sequences = records.wrapping_mul(records - 1) / 2;
    sequences.wrapping_mul(words).wrapping_add(records.wrapping_mul(words * (words - 1) / 2))
}

/// One side of a measurement over a ring.
fn write_ring<const WORDS: usize>(writer: &mut Writer, records: u64) {
    let mut payload = [0u64; WORDS];
    for sequence in 0..records {
        fill(&mut payload, sequence);
        writer.publish(bytemuck::cast_slice(&payload)).expect("publish");
    }
}

fn read_copies<const WORDS: usize>(reader: &mut Reader, records: u64) -> u64 {
    let mut buffer = [0u64; WORDS];
    let mut total = 0u64;
    for _ in 0..records {
        let received = reader.recv_into(bytemuck::cast_slice_mut(&mut buffer)).expect("recv_into");
        total = total.wrapping_add(sum(&bytemuck::cast_slice(&buffer)[..received.len]));
    }
    total
}

fn read_borrowed(reader: &mut Reader, records: u64) -> u64 {
    let mut total = 0u64;
    for _ in 0..records {
        total = total.wrapping_add(sum(&reader.recv_ref().expect("recv_ref")));
    }
    total
}

fn rtrb_both<const WORDS: usize>(records: u64) -> (Duration, u64) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<[u64; WORDS]>::new(RING_BYTES / (WORDS * 8));
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            pin(last_processor());
            ready.wait();
            let mut total = 0u64;
            let mut left = records;
            while left > 0 {
                if let Ok(value) = consumer.pop() {
                    total = total.wrapping_add(sum(bytemuck::cast_slice(&value)));
                    left -= 1;
                } else {
                    spin_loop();
                }
            }
            total
        });
        ready.wait();
        let start = Instant::now();
        let mut payload = [0u64; WORDS];
        for sequence in 0..records {
            fill(&mut payload, sequence);
            while producer.is_full() {
                spin_loop();
            }
            producer.push(payload).expect("not full");
        }
        let total = reader.join().expect("rtrb reader");
        (start.elapsed(), total)
    })
}

macro_rules! by_size {
    ($size:expr, $function:ident($($argument:expr),*)) => {
        match SIZES[$size] {
            8 => $function::<1>($($argument),*),
            64 => $function::<8>($($argument),*),
            1024 => $function::<128>($($argument),*),
            _ => $function::<8192>($($argument),*),
        }
    };
}

/// The first process: writes, and answers what a measurement took.
struct First {
    lines: Lines,
    writers: Vec<Writer>,
    pings: Vec<(Writer, Reader)>,
    to_second: std::fs::File,
}

impl First {
    fn run(&mut self, index: usize, case: Case) -> Duration {
        if let Case::Rtrb(size) = case {
            let records = records(SIZES[size]);
            let (took, total) = by_size!(size, rtrb_both(records));
            assert_eq!(total, expected_sum(SIZES[size], records), "checksum of {case:?}");
            return took;
        }
        // The second process sleeps in this pipe between measurements; then both meet at a spinning barrier.
        self.to_second.write_all(&[index as u8]).expect("pipe");
        self.lines.meet(1);
        let start = Instant::now();
        match case {
            Case::OneLine => self.lines.one_line(TRIPS, 0),
            Case::TwoLines => self.lines.two_lines(TRIPS, 0),
            Case::HandOff(size) => by_size!(size, hand_off_write(&self.lines, size)),
            Case::Copy(size) | Case::Borrow(size) => {
                by_size!(size, write_ring(&mut self.writers[size], records(SIZES[size])));
            }
            Case::Latency(size, alignment) => {
                let (ping, pong) = &mut self.pings[alignment];
                let payload = vec![7u8; LATENCY_SIZES[size]];
                let mut buffer = vec![0; LATENCY_SIZES[size]];
                for _ in 0..trips(LATENCY_SIZES[size]) {
                    ping.publish(&payload).expect("ping");
                    pong.recv_into(&mut buffer).expect("pong");
                }
                black_box(&buffer);
            }
            Case::Rtrb(_) => {}
        }
        let total = self.lines.wait_for_result();
        let took = start.elapsed();
        if let Case::HandOff(size) | Case::Copy(size) | Case::Borrow(size) = case {
            assert_eq!(total, expected_sum(SIZES[size], records(SIZES[size])), "checksum of {case:?}");
        }
        took
    }
}

fn hand_off_write<const WORDS: usize>(lines: &Lines, size: usize) {
    lines.hand_off_write::<WORDS>(records(SIZES[size]), fill);
}

fn hand_off_read<const WORDS: usize>(lines: &Lines, size: usize) -> u64 {
    lines.hand_off_read::<WORDS>(records(SIZES[size]), sum)
}

/// The second process: reads, until the pipe closes.
fn second(lines: &Lines, mut readers: Vec<Reader>, mut pongs: Vec<(Reader, Writer)>, mut commands: std::fs::File) {
    pin(last_processor());
    let cases = cases();
    let mut index = [0u8];
    while commands.read(&mut index).expect("pipe") == 1 {
        lines.meet(2);
        let total = match cases[usize::from(index[0])] {
            Case::OneLine => {
                lines.one_line(TRIPS, 1);
                0
            }
            Case::TwoLines => {
                lines.two_lines(TRIPS, 1);
                0
            }
            Case::HandOff(size) => by_size!(size, hand_off_read(lines, size)),
            Case::Copy(size) => by_size!(size, read_copies(&mut readers[size], records(SIZES[size]))),
            Case::Borrow(size) => read_borrowed(&mut readers[size], records(SIZES[size])),
            Case::Latency(size, alignment) => {
                let (ping, pong) = &mut pongs[alignment];
                let mut buffer = vec![0; LATENCY_SIZES[size]];
                for _ in 0..trips(LATENCY_SIZES[size]) {
                    let received = ping.recv_into(&mut buffer).expect("ping");
                    pong.publish(&buffer[..received.len]).expect("pong");
                }
                0
            }
            Case::Rtrb(_) => 0,
        };
        lines.give_result(total);
    }
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("processor number");
    // Where it is not allowed the figures are worth less, which the spread shows.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Asked once, before any pinning: afterwards there is only one to be seen.
fn last_processor() -> usize {
    static LAST: OnceLock<usize> = OnceLock::new();
    *LAST.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()) - 1)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    assert!(last_processor() > 0, "two processors are needed");
    let kept_wanted = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS_KEPT);
    let bytes = Floors::bytes(RING_BYTES).try_into().expect("not 0");
    // SAFETY: a new mapping; nothing else lies there. Shared, so that the child sees it; never unmapped.
    let memory =
        unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }
            .expect("shared memory");
    // SAFETY: the mapping is large enough, page-aligned, zeroed, lives for ever, and is used through `Lines` only.
    let lines = unsafe { Lines::new(memory.cast(), RING_BYTES) };
    let options = Options::new().capacity(RING_BYTES as u64).wait(WaitStrategy::Spin);
    let create = || options.create_anonymous().expect("ring");
    let mut writers: Vec<Writer> = SIZES.iter().map(|_| create()).collect();
    let aligned = |alignment: u64| options.clone().record_alignment(alignment);
    let pings: Vec<Writer> = ALIGNMENTS.iter().map(|&a| aligned(a).create_anonymous().expect("ring")).collect();
    // The second process writes the rings of the answers, so it creates them, in files.
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let pong_path = |alignment: u64| directory.path().join(format!("pong-{alignment}"));
    let join = |writer: &Writer| options.join(&writer.subscriber()).expect("join");
    let (commands, to_second) = pipe().expect("pipe");
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop(to_second);
            let pong = |&alignment: &u64| aligned(alignment).create_file(pong_path(alignment)).expect("ring");
            let pongs = pings.iter().map(join).zip(ALIGNMENTS.iter().map(pong)).collect();
            let readers = writers.iter().map(join).collect();
            second(&lines, readers, pongs, commands.into());
            // The directory is the first one's to remove.
            std::mem::forget(directory);
        }
        ForkResult::Parent { child } => {
            drop(commands);
            pin(0);
            let mut pings = pings;
            for writer in writers.iter_mut().chain(&mut pings) {
                // The second process joins the last of them when its own rings are there.
                writer.wait_for_readers(1, Duration::from_secs(10)).expect("the second process joins");
            }
            let pong = |&alignment: &u64| options.open_file(pong_path(alignment)).expect("the ring of the answers");
            let pings = pings.into_iter().zip(ALIGNMENTS.iter().map(pong)).collect();
            let mut first = First { lines, writers, pings, to_second: to_second.into() };
            report(&mut first, kept_wanted);
            drop(first);
            nix::sys::wait::waitpid(child, None).expect("second process");
        }
    }
}

/// Runs the rounds and prints the tables.
fn report(first: &mut First, kept_wanted: usize) {
    let cases = cases();
    let mut kept: Vec<Vec<f64>> = Vec::new();
    let mut thrown = 0;
    while kept.len() < kept_wanted && kept.len() + thrown < MOST_ROUNDS {
        let round: Vec<f64> = cases.iter().enumerate().map(|(i, &case)| first.run(i, case).as_nanos() as f64).collect();
        let (begin, end) = (round[0], round[round.len() - 1]);
        if (begin / end - 1.0).abs() > MOST_DRIFT || (end / begin - 1.0).abs() > MOST_DRIFT {
            thrown += 1;
        } else {
            kept.push(round);
        }
    }
    println!(
        "{} rounds kept, {thrown} thrown away (ping-pong moved by more than {:.0} %)",
        kept.len(),
        MOST_DRIFT * 100.0
    );
    let at = |case: Case| cases.iter().position(|&c| c == case).expect("a case");
    let of = |case: Case| kept.iter().map(|round| round[at(case)]).collect::<Vec<_>>();
    let ratio = |slow: Case, fast: Case| median(of(slow).iter().zip(of(fast)).map(|(a, b)| a / b).collect());

    println!("\nthroughput, million records/s (medians; ratios are medians of each round's ratio)");
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12} {:>16}",
        "bytes", "hand-off", "rtrb", "copy", "borrow", "copy/rtrb", "borrow/rtrb", "borrow/hand-off"
    );
    for (i, &size) in SIZES.iter().enumerate() {
        let rate = |case| records(size) as f64 * 1e3 / median(of(case));
        let (floor, rtrb, copy, borrow) = (Case::HandOff(i), Case::Rtrb(i), Case::Copy(i), Case::Borrow(i));
        println!(
            "{size:>8} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>12.2} {:>12.2} {:>16.2}",
            rate(floor),
            rate(rtrb),
            rate(copy),
            rate(borrow),
            ratio(rtrb, copy),
            ratio(rtrb, borrow),
            ratio(floor, borrow)
        );
    }
    println!(
        "\nround trip, ns (raw ping-pong: one line {:.0}, two lines {:.0})",
        median(of(Case::OneLine)) / TRIPS as f64,
        median(of(Case::TwoLines)) / TRIPS as f64
    );
    let latency_floor: Vec<f64> = {
        // The two-line ping-pongs nearest to the latencies: before and behind them.
        let positions: Vec<usize> =
            cases.iter().enumerate().filter(|(_, c)| **c == Case::TwoLines).map(|(i, _)| i).skip(1).collect();
        kept.iter()
            .map(|round| positions.iter().map(|&i| round[i]).sum::<f64>() / (positions.len() as u64 * TRIPS) as f64)
            .collect()
    };
    println!("{:>8} {:>10} {:>14} {:>14}", "bytes", "alignment", "ring", "x two lines");
    for (i, &size) in LATENCY_SIZES.iter().enumerate() {
        for (j, alignment) in ALIGNMENTS.iter().enumerate() {
            let took = of(Case::Latency(i, j));
            let took: Vec<f64> = took.iter().map(|all| all / trips(size) as f64).collect();
            let share = median(took.iter().zip(&latency_floor).map(|(a, b)| a / b).collect());
            println!("{size:>8} {alignment:>10} {:>14.0} {share:>14.2}", median(took));
        }
    }
}
