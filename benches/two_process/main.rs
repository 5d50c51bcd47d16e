//! Two pinned processes: throughput and latency of the ring beside a well-known in-process queue and bare floors.
//!
//! ```text
//! cargo bench --bench two_process                             everything, 9 rounds kept of each size of a table
//! cargo bench --bench two_process -- 15 single latency        15 rounds kept, these tables only
//! cargo bench --bench two_process -- --sizes 8,64 --only bytes,rtrb
//! cargo bench --bench two_process -- --help
//! ```
//!
//! In every round every contender of a size runs once, one behind the other (A/B/C/A/B/C), on the same two processors:
//! the writer on the first, the readers on the last. A round of a size whose raw ping-pong moved by more than 30 % between
//! its two ends is thrown away: the machine changed under it. Medians and ratios of the rounds kept are printed. Every
//! payload is written in full, read in full, and checksummed; a wrong sum ends the run. Each measurement has a ring of its
//! own, of 1 MiB (8 MiB for records of 1 MiB), through which a lap and a quarter went before.
//!
//! | contender | what it is |
//! |---|---|
//! | hand-off | the floor: memcpy into a buffer as large as a ring, one flag per 64 KiB (or 1 MiB record) each way |
//! | ping-pong, mailbox | the floors of latency: one line, two lines; memcpy into one buffer each way, with a flag |
//! | rtrb push/pop | arrays, 1 MiB, two threads (it has no other way), pinned alike |
//! | rtrb chunks | the same, filled and read in place, one by one or in batches |
//! | shmcast bytes copy | `publish` and `recv_into` |
//! | shmcast bytes borrow | `publish` and `recv_ref` |
//! | shmcast bytes claim | `claim`, filled in place, and `recv_ref` |
//! | shmcast bytes lossy | as copy, by a lossy reader; a word beside the ring keeps it from being lapped |
//! | shmcast typed copy | values of arrays: `publish`, and `recv` (above 64 bytes `recv_into`) |
//! | shmcast typed borrow | `publish` and `recv_ref` of values |
//! | shmcast typed lossy | as typed copy, by a lossy reader |
//! | ... aligned 64 | records that begin at cache lines; latency only |
//! | ... one record | a batch is one record of as many items, not as many records |
//!
//! Two readers are two handles in one thread that take turns: two processes on one processor would measure the
//! scheduler.

#[allow(dead_code, reason = "the rivals' bench needs more of it")]
#[path = "../harness/mod.rs"]
mod harness;

use std::process::ExitCode;

use harness::ours::{BYTES_ALIGNED, BYTES_BORROW, BYTES_COPY};
use harness::plan::{Contender, HAND_OFF, MAILBOX, ONE_LINE, Sizes, TWO_LINES, Table};
use harness::report::{Measured, cell};
use harness::rtrb::{Chunks, PushPop};
use harness::{Bench, MOST_DRIFT, ours, report};

const RTRB: &str = "rtrb push/pop";

fn contenders() -> Vec<Contender> {
    let mut contenders = vec![
        Contender::rival::<PushPop>(RTRB).threads(),
        Contender::rival::<Chunks>("rtrb chunks").threads().batches::<Chunks>(),
    ];
    contenders.extend(ours::contenders());
    contenders
}

/// What the README quotes, then all tables.
fn print(measured: &[Measured]) {
    let of = |table| measured.iter().filter(move |one| one.group.table == table).collect::<Vec<_>>();
    let kept = measured.iter().map(|one| one.kept.len()).min().unwrap_or(0);
    let thrown: usize = measured.iter().map(|one| one.thrown).sum();
    let percent = MOST_DRIFT * 100.0;
    println!("{kept} rounds kept of each size, {thrown} thrown away (ping-pong moved by more than {percent:.0} %)");
    streams(&of(Table::Single { readers: 1 }));
    round_trips(&of(Table::RoundTrip));
    report::print_tables(measured);
}

fn streams(measured: &[&Measured]) {
    if measured.is_empty() {
        return;
    }
    println!("\nthroughput, million records/s (medians; ratios are medians of each round's ratio)");
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12} {:>16}",
        "bytes", "hand-off", "rtrb", "copy", "borrow", "copy/rtrb", "borrow/rtrb", "borrow/hand-off"
    );
    for one in measured {
        let rate = |name| cell(one.of(name).map(|nanoseconds| 1e3 / nanoseconds), 2);
        let ratio = |slow, fast| cell(one.ratio(slow, fast), 2);
        println!(
            "{:>8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12} {:>16}",
            one.group.size,
            rate(HAND_OFF),
            rate(RTRB),
            rate(BYTES_COPY),
            rate(BYTES_BORROW),
            ratio(RTRB, BYTES_COPY),
            ratio(RTRB, BYTES_BORROW),
            ratio(HAND_OFF, BYTES_BORROW)
        );
    }
}

fn round_trips(measured: &[&Measured]) {
    let Some(first) = measured.first() else { return };
    println!(
        "\nround trip, ns (raw ping-pong: one line {}, two lines {})",
        cell(first.of(ONE_LINE), 0),
        cell(first.of(TWO_LINES), 0)
    );
    println!("{:>8} {:>10} {:>14} {:>14} {:>14}", "bytes", "alignment", "ring", "x two lines", "x mailbox");
    for one in measured {
        for (alignment, name) in [(8, BYTES_COPY), (64, BYTES_ALIGNED)] {
            println!(
                "{:>8} {alignment:>10} {:>14} {:>14} {:>14}",
                one.group.size,
                cell(one.of(name), 0),
                cell(one.ratio(name, TWO_LINES), 2),
                cell(one.ratio(name, MAILBOX), 2)
            );
        }
    }
}

fn main() -> ExitCode {
    let bench = Bench {
        command: "cargo bench --bench two_process --",
        about: "Measures the rings beside a well-known in-process queue and bare floors, and prints tables of medians.",
        run: "shmcast-bench-",
        sizes: Sizes {
            streams: &[8, 64, 1024, 65536, 1 << 20],
            round_trips: &[8, 16, 32, 48, 64, 1024, 65536, 1 << 20],
        },
        contenders,
        print,
    };
    bench.run()
}
