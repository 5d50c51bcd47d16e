//! What is measured, and in which groups.

use crate::carrier::{Batches, Carrier};
use crate::ours::{Borrowed, Copied, Lossy};
use crate::rivals::disruptor_mp::DisruptorMp;
use crate::rivals::iceoryx2::Iceoryx2;
use crate::rivals::ringfire::Ringfire;
use crate::rivals::rtrb::{Chunks, PushPop};
use crate::rivals::shaq::{Broadcasts, Spsc};
use crate::session::{self, Procedure};

/// Sizes of the streams, in bytes.
const STREAM_SIZES: [usize; 4] = [8, 64, 1024, 65536];
/// Sizes of the round trips, in bytes.
const ROUND_TRIP_SIZES: [usize; 7] = [8, 16, 32, 48, 64, 1024, 65536];

/// One of those that are compared.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) ours: bool,
    /// Both ends are threads of the first process.
    pub(crate) threads: bool,
    pub(crate) slowness: u64,
    most_readers: usize,
    single: Option<Procedure>,
    batch: Option<Procedure>,
    round_trip: Option<Procedure>,
}

impl Contender {
    /// Single records to one reader, between processes.
    fn new<C: Carrier>(name: &'static str) -> Contender {
        Contender {
            name,
            ours: false,
            threads: false,
            slowness: 1,
            most_readers: 1,
            single: Some(session::singles::<C>),
            batch: None,
            round_trip: Some(session::round_trips::<C>),
        }
    }

    fn ours(self) -> Contender {
        Contender { ours: true, ..self }
    }

    fn threads(self) -> Contender {
        Contender { threads: true, ..self }
    }

    fn broadcasts(self) -> Contender {
        Contender { most_readers: 2, ..self }
    }

    fn batches<C: Batches>(self) -> Contender {
        Contender { batch: Some(session::batches::<C>), ..self }
    }

    fn no_streams(self) -> Contender {
        Contender { single: None, ..self }
    }

    fn no_round_trips(self) -> Contender {
        Contender { round_trip: None, ..self }
    }

    /// Carries fewer records by that factor, so that a round stays short.
    fn slow(self, slowness: u64) -> Contender {
        Contender { slowness, ..self }
    }
}

/// All of them, ours first.
pub(crate) fn contenders() -> Vec<Contender> {
    vec![
        Contender::new::<Copied<8>>("shmcast copy").ours().broadcasts().batches::<Copied<8>>(),
        Contender::new::<Copied<64>>("shmcast copy, aligned 64").ours().no_streams(),
        Contender::new::<Borrowed>("shmcast borrow").ours().broadcasts(),
        Contender::new::<Lossy>("shmcast lossy").ours().no_round_trips(),
        // ---- TYPED CHANNELS GO HERE: `Contender::new::<..>("shmcast typed copy").ours().broadcasts().batches::<..>()`
        Contender::new::<Ringfire>("ringfire").broadcasts().batches::<Ringfire>(),
        Contender::new::<DisruptorMp>("disruptor-mp").broadcasts().batches::<DisruptorMp>(),
        Contender::new::<Spsc>("shaq spsc").batches::<Spsc>(),
        Contender::new::<Broadcasts>("shaq broadcast").broadcasts().batches::<Broadcasts>(),
        Contender::new::<Iceoryx2>("iceoryx2").broadcasts().slow(8),
        Contender::new::<PushPop>("rtrb push/pop").threads(),
        Contender::new::<Chunks>("rtrb chunks").threads().batches::<Chunks>(),
    ]
}

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Single { readers: usize },
    Batch { readers: usize },
    RoundTrip,
}

impl Table {
    pub(crate) const ALL: [Table; 5] = [
        Table::Single { readers: 1 },
        Table::Batch { readers: 1 },
        Table::Single { readers: 2 },
        Table::Batch { readers: 2 },
        Table::RoundTrip,
    ];

    pub(crate) fn readers(self) -> usize {
        match self {
            Table::Single { readers } | Table::Batch { readers } => readers,
            Table::RoundTrip => 1,
        }
    }
}

/// Something that is run once in each round of its group.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) threads: bool,
    pub(crate) slowness: u64,
    pub(crate) procedure: Procedure,
}

/// What an entry counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Shows whether the machine changed, and is a floor too.
    PingPong,
    Floor,
    Ours,
    Rival,
}

/// What is compared with each other: one size of one table. The ping-pong is first and last.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) table: Table,
    pub(crate) size: usize,
    pub(crate) entries: Vec<Entry>,
}

pub(crate) const ONE_LINE: &str = "ping-pong, one line";
pub(crate) const TWO_LINES: &str = "ping-pong, two lines";
pub(crate) const MAILBOX: &str = "mailbox";
pub(crate) const HAND_OFF: &str = "hand-off";

fn floor(name: &'static str, kind: Kind, procedure: Procedure) -> Entry {
    Entry { name, kind, threads: false, slowness: 1, procedure }
}

/// What the command line leaves of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Sizes in bytes; none means all.
    pub(crate) sizes: Vec<usize>,
    /// Parts of names; none means all.
    pub(crate) only: Vec<String>,
}

impl Choice {
    /// Whether a size is measured at all.
    pub(crate) fn is_size(size: usize) -> bool {
        ROUND_TRIP_SIZES.contains(&size)
    }

    fn has_size(&self, size: usize) -> bool {
        self.sizes.is_empty() || self.sizes.contains(&size)
    }

    fn has_name(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// The groups that are chosen; a group without a contender is left out.
pub(crate) fn groups(choice: &Choice) -> Vec<Group> {
    let mut groups = Vec::new();
    for table in Table::ALL {
        let sizes: &[usize] = if table == Table::RoundTrip { &ROUND_TRIP_SIZES } else { &STREAM_SIZES };
        for &size in sizes.iter().filter(|&&size| choice.has_size(size)) {
            let ping_pong = || floor(ONE_LINE, Kind::PingPong, session::one_line);
            let mut entries = vec![ping_pong()];
            if table == Table::RoundTrip {
                entries.push(floor(TWO_LINES, Kind::Floor, session::two_lines));
                entries.push(floor(MAILBOX, Kind::Floor, session::mailbox));
            } else {
                entries.push(floor(HAND_OFF, Kind::Floor, session::hand_off));
            }
            let floors = entries.len();
            for contender in contenders() {
                let procedure = match table {
                    Table::Single { .. } => contender.single,
                    Table::Batch { .. } => contender.batch,
                    Table::RoundTrip => contender.round_trip,
                };
                let Some(procedure) = procedure else { continue };
                if table.readers() <= contender.most_readers && choice.has_name(contender.name) {
                    let Contender { name, threads, slowness, .. } = contender;
                    let kind = if contender.ours { Kind::Ours } else { Kind::Rival };
                    entries.push(Entry { name, kind, threads, slowness, procedure });
                }
            }
            if entries.len() > floors {
                entries.push(ping_pong());
                groups.push(Group { table, size, entries });
            }
        }
    }
    groups
}
