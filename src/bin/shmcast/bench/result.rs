//! What a run has found: the JSON of `--json`, which the HTML report is drawn from, too.
//!
//! Times are nanoseconds and rates are per second, as floating-point numbers. A *size* is the column that was asked for; *bytes* is how long the
//! records really were: less where the transport carries no more (a queued signal 7 bytes, an eventfd none).

use serde::{Deserialize, Serialize};

/// Of this file's types: one more whenever a field goes or changes its meaning. New fields may come without that.
pub(crate) const SCHEMA: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Of shmcast.
    pub(crate) version: String,
    /// The command line.
    pub(crate) command: String,
    /// When it began: RFC 3339, UTC.
    pub(crate) date: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// `--quick`: each measurement is shorter, and there are fewer rounds.
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// Bytes: the columns, ascending.
    pub(crate) sizes: Vec<usize>,
    pub(crate) machine: Machine,
    /// What spoils the figures; empty is best.
    pub(crate) warnings: Vec<Warning>,
    pub(crate) floors: Floors,
    /// In the order in which they were measured; the rings come last.
    pub(crate) transports: Vec<Transport>,
    /// "The ring beats every kernel transport", computed: a row for each figure and size.
    pub(crate) claims: Vec<Claim>,
    /// The same of the rings of each way to wait alone.
    #[serde(default)]
    pub(crate) claims_by_wait: Vec<Claim>,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Its processor's model.
    pub(crate) cpu: String,
    /// Processors that are online.
    pub(crate) processors: usize,
    /// Where the sender ran.
    pub(crate) sender_cpu: usize,
    /// Where the receivers ran, all of them.
    pub(crate) receiver_cpu: usize,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) memory_bytes: u64,
    /// It is a virtual machine: its kind, or `unknown`.
    pub(crate) hypervisor: Option<String>,
    /// Frequency scaling of the sender's processor.
    pub(crate) governor: Option<String>,
    /// Of 1, 5 and 15 minutes, before the run.
    pub(crate) load: [f64; 3],
    /// Share of the processors' time that the hypervisor took away during the run: 0 to 1.
    pub(crate) steal: Option<f64>,
    /// Share of the processors' time that other processes used during the run: 0 to 1.
    pub(crate) others: Option<f64>,
    /// The build has debug assertions.
    pub(crate) debug_build: bool,
}

/// Something that spoils a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Warning {
    /// A word for programs, such as `steal`.
    pub(crate) kind: String,
    /// A sentence for people, which says what to do.
    pub(crate) text: String,
}

/// Of the rounds' values: the middle one, the smallest, the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// What no transport can beat, measured in the same rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Floors {
    /// A round trip over one cache line, without a clock in between: ns.
    pub(crate) one_line: Spread,
    /// A round trip over two cache lines: ns.
    pub(crate) two_lines: Spread,
    /// A look at the clock: ns. Each round trip of a ping-pong has one in it.
    pub(crate) clock: Spread,
    /// `memcpy` within one process.
    pub(crate) memcpy: Vec<Memcpy>,
}

/// `memcpy` of records of one size from a buffer into a ring-like one of 4 MiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Memcpy {
    pub(crate) size: usize,
    pub(crate) bytes_per_second: Spread,
}

/// A transport with its rules and its figures. A figure that could not be had is absent; [`notes`](Self::notes) says why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Transport {
    pub(crate) name: String,
    pub(crate) family: Family,
    /// `ring` only: `park`, `park-at-once`, `yield`, `spin`.
    pub(crate) wait: Option<String>,
    pub(crate) rules: Rules,
    /// One record there and one back; by size.
    pub(crate) ping_pong: Vec<PingPong>,
    /// One way, at a fixed rate; by size.
    pub(crate) paced: Vec<Paced>,
    /// One way, as fast as it goes; by size.
    pub(crate) throughput: Vec<Throughput>,
    /// One sender, several receivers; by size and number.
    pub(crate) fan_out: Vec<FanOut>,
    pub(crate) idle: Option<Idle>,
    /// What a publish costs with so many readers present that do not read; rings only.
    pub(crate) attached: Vec<Attached>,
    /// What is missing, and why; and what else a reader should know.
    pub(crate) notes: Vec<String>,
}

/// Kinds of transports: every run has one of each at least, unless `--only` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    /// Anonymous pipe, FIFO.
    Pipe,
    /// Unix sockets, TCP, UDP.
    Socket,
    /// System V and POSIX message queues.
    Queue,
    /// A shared buffer with semaphores.
    Semaphore,
    /// A file with locks, a mapped file.
    Board,
    Signal,
    Eventfd,
    Ring,
}

/// What it can and cannot, in words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rules {
    pub(crate) reach: Reach,
    /// The reach in words.
    pub(crate) reach_text: String,
    /// The two sides know each other: a connection, as with TCP. Otherwise they meet at a name, an address or an object.
    pub(crate) connected: bool,
    /// Who may come in, in words.
    pub(crate) access: String,
    pub(crate) loss: Loss,
    /// What becomes of records that nobody takes, and of a slow receiver, in words.
    pub(crate) loss_text: String,
    pub(crate) fan_out: FanOutWay,
    /// How several receivers are reached, in words: "sent to each in turn", "multicast", "broadcast ring".
    pub(crate) fan_out_text: String,
    /// What keeps two senders, or a sender and a receiver, from mixing their bytes: races, in words.
    pub(crate) races: String,
    /// How the end of the other side is seen, in words.
    pub(crate) death: String,
    /// Borders of records are kept, or each record is sent behind its length (`framed`).
    pub(crate) framed: bool,
    /// Bytes of the longest record.
    pub(crate) max_record: usize,
    /// How a receiver is woken: "by the kernel", "looks and naps up to 1 ms", "spins".
    pub(crate) wake: String,
    /// `epoll` can wait for it.
    pub(crate) pollable: bool,
    /// Its objects outlive the processes, unless somebody removes them.
    pub(crate) outlives: bool,
}

/// Ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reach {
    Threads,
    /// Related by fork.
    Forks,
    /// Processes that inherit descriptors, or are handed them.
    Descriptors,
    /// Any process of this machine.
    Host,
    /// Other machines, too.
    Network,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loss {
    Lossless,
    /// The receiver is told how many.
    Counted,
    /// Nobody can tell.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FanOutWay {
    SendToEach,
    Once,
    One,
}

/// Latencies, of all rounds together and round by round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// How many were measured, in all rounds.
    pub(crate) count: u64,
    /// ns, each the spread of the rounds' own values.
    pub(crate) min: Spread,
    pub(crate) p50: Spread,
    pub(crate) p90: Spread,
    pub(crate) p99: Spread,
    pub(crate) p999: Spread,
    pub(crate) max: Spread,
    pub(crate) mean: Spread,
    /// Of all rounds together, for a plot: ascending in both.
    pub(crate) points: Vec<Point>,
}

/// So large a share of the latencies was at most this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// 0 to 100.
    pub(crate) percentile: f64,
    pub(crate) ns: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PingPong {
    pub(crate) size: usize,
    pub(crate) bytes: usize,
    /// Of the round trip, over two links.
    pub(crate) round_trip: Latency,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Paced {
    pub(crate) size: usize,
    pub(crate) bytes: usize,
    /// Records each second that were meant to be sent.
    pub(crate) rate: f64,
    /// From the time at which a record was *meant* to be sent to the return of its receive.
    pub(crate) one_way: Latency,
    /// Share of the records that did not arrive: 0 to 1.
    pub(crate) lost: Spread,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Throughput {
    pub(crate) size: usize,
    pub(crate) bytes: usize,
    /// That arrived.
    pub(crate) records_per_second: Spread,
    /// Of payload that arrived.
    pub(crate) bytes_per_second: Spread,
    /// Share of the records that did not arrive: 0 to 1.
    pub(crate) lost: Spread,
    /// CPU time (user and system) of the sender for each record that it sent: ns.
    pub(crate) sender_cpu: Spread,
    /// CPU time of the receiver for each record that arrived: ns.
    pub(crate) receiver_cpu: Spread,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FanOut {
    pub(crate) size: usize,
    pub(crate) bytes: usize,
    pub(crate) receivers: usize,
    /// Records that reached all receivers (each of the lossy ones: on the average).
    pub(crate) records_per_second: Spread,
    pub(crate) lost: Spread,
    /// CPU time of the sender for each record, whatever the number of receivers: ns.
    pub(crate) sender_cpu: Spread,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// For how long a receiver waited and nothing came, each time: ns.
    pub(crate) waited: f64,
    /// Share of one processor that it used: 0 to 1 (and a little more where the clocks disagree).
    pub(crate) cpu_share: Spread,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// Lossy readers that have joined and do not read.
    pub(crate) readers: usize,
    /// Of the records.
    pub(crate) bytes: usize,
    /// Time of one publish: ns.
    pub(crate) publish: Spread,
}

/// What a row of claims compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// Median of the round trip: a larger ratio means that the ring is faster.
    Latency,
    /// Records each second.
    Throughput,
}

/// The best ring against the best of the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) figure: Figure,
    pub(crate) size: usize,
    pub(crate) ring: String,
    pub(crate) ring_value: f64,
    pub(crate) rival: String,
    pub(crate) rival_value: f64,
    /// So many times as good is the ring, whatever the figure. Below 1 it loses.
    pub(crate) ratio: f64,
    /// It is more than 1.
    pub(crate) wins: bool,
}
