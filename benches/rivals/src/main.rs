//! shmcast beside its rivals, in the same run. README.md says who they are and how each is tuned.

#[path = "../../harness/mod.rs"]
mod harness;
mod payload;
mod promises;
mod rivals;

use std::process::ExitCode;

use harness::plan::{Contender, Sizes};
use harness::report::Measured;
use harness::rtrb::{Chunks, PushPop};
use harness::{Bench, ours, report};
use rivals::disruptor_mp::DisruptorMp;
use rivals::iceoryx2::Iceoryx2;
use rivals::ringfire::Ringfire;
use rivals::shaq::{Broadcasts, Spsc};

/// All of them, ours first.
fn contenders() -> Vec<Contender> {
    let mut contenders = ours::contenders();
    contenders.extend([
        Contender::rival::<Ringfire>("ringfire").broadcasts().batches::<Ringfire>(),
        Contender::rival::<DisruptorMp>("disruptor-mp").broadcasts().batches::<DisruptorMp>(),
        Contender::rival::<Spsc>("shaq spsc").batches::<Spsc>(),
        Contender::rival::<Broadcasts>("shaq broadcast").broadcasts().batches::<Broadcasts>(),
        Contender::rival::<Iceoryx2>("iceoryx2").broadcasts().slow(8),
        Contender::rival::<PushPop>("rtrb push/pop").threads(),
        Contender::rival::<Chunks>("rtrb chunks").threads().batches::<Chunks>(),
    ]);
    contenders
}

fn print(measured: &[Measured]) {
    report::print_tables(measured);
    promises::print(measured);
}

fn main() -> ExitCode {
    let bench = Bench {
        command: "cargo run --release --",
        about: "Measures shmcast beside other queues and rings, in the same run, and prints tables of medians.",
        run: "shmcast-rivals-",
        sizes: Sizes { streams: &[8, 64, 1024, 65536], round_trips: &[8, 16, 32, 48, 64, 1024, 65536] },
        contenders,
        print,
    };
    bench.run()
}
