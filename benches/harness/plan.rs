//! What is measured, and in which groups.

use super::carrier::{Batches, Singles};
use super::session::{self, Procedure};

/// One of those that are compared.
#[derive(Clone)]
pub(crate) struct Contender {
    name: &'static str,
    kind: Kind,
    /// Both ends are threads of the first process.
    threads: bool,
    slowness: u64,
    most_readers: usize,
    most_bytes: usize,
    single: Option<Procedure>,
    batch: Option<Procedure>,
    round_trip: Option<Procedure>,
}

impl Contender {
    /// Single records to one reader, between processes, up to 64 KiB.
    pub(crate) fn rival<C: Singles>(name: &'static str) -> Contender {
        Contender {
            name,
            kind: Kind::Rival,
            threads: false,
            slowness: 1,
            most_readers: 1,
            most_bytes: 64 << 10,
            single: Some(session::singles::<C>),
            batch: None,
            round_trip: Some(session::round_trips::<C>),
        }
    }

    /// One of shmcast's, up to 1 MiB.
    pub(crate) fn ours<C: Singles>(name: &'static str) -> Contender {
        Contender {
            kind: Kind::Ours,
            most_bytes: 1 << 20,
            single: Some(session::large_singles::<C>),
            round_trip: Some(session::large_round_trips::<C>),
            ..Contender::rival::<C>(name)
        }
    }

    /// One of shmcast's that has nothing but batches, of 32, 4 or 2 items in one record, to two readers too.
    pub(crate) fn items<C32: Batches, C4: Batches, C2: Batches>(name: &'static str) -> Contender {
        Contender {
            name,
            kind: Kind::Ours,
            threads: false,
            slowness: 1,
            most_readers: 2,
            most_bytes: 1 << 20,
            single: None,
            batch: Some(session::items::<C32, C4, C2>),
            round_trip: None,
        }
    }

    pub(crate) fn threads(self) -> Contender {
        Contender { threads: true, ..self }
    }

    pub(crate) fn broadcasts(self) -> Contender {
        Contender { most_readers: 2, ..self }
    }

    pub(crate) fn batches<C: Batches>(self) -> Contender {
        Contender { batch: Some(session::batches::<C>), ..self }
    }

    /// Up to 1 MiB.
    pub(crate) fn large_batches<C: Batches>(self) -> Contender {
        Contender { batch: Some(session::large_batches::<C>), ..self }
    }

    pub(crate) fn no_streams(self) -> Contender {
        Contender { single: None, ..self }
    }

    pub(crate) fn no_round_trips(self) -> Contender {
        Contender { round_trip: None, ..self }
    }

    /// Carries fewer records by that factor, so that a round stays short.
    pub(crate) fn slow(self, slowness: u64) -> Contender {
        Contender { slowness, ..self }
    }

    /// Its part in a table, if it has one.
    fn entry(&self, table: Table, size: usize) -> Option<Entry> {
        let Contender { name, kind, threads, slowness, .. } = *self;
        let procedure = match table {
            Table::Single { .. } => self.single,
            Table::Batch { .. } => self.batch,
            Table::RoundTrip => self.round_trip,
        };
        let procedure = procedure.filter(|_| table.readers() <= self.most_readers && size <= self.most_bytes)?;
        Some(Entry { name, kind, threads, slowness, procedure })
    }
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

    /// As the command line has it.
    fn name(self) -> &'static str {
        match self {
            Table::Single { readers: 1 } => "single",
            Table::Single { .. } => "two-single",
            Table::Batch { readers: 1 } => "batch",
            Table::Batch { .. } => "two-batch",
            Table::RoundTrip => "latency",
        }
    }

    /// Does this part of the command line mean it? `two` means both tables of two readers.
    fn is_meant(self, part: &str) -> bool {
        self.name() == part || part == "two" && self.readers() == 2
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

/// Sizes in bytes that are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) streams: &'static [usize],
    pub(crate) round_trips: &'static [usize],
}

impl Sizes {
    fn of(&self, table: Table) -> &'static [usize] {
        if table == Table::RoundTrip { self.round_trips } else { self.streams }
    }
}

/// What the command line leaves of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Sizes in bytes; none means all.
    sizes: Vec<usize>,
    /// Parts of names; none means all.
    names: Vec<String>,
    /// Tables; none means all.
    tables: Vec<Table>,
}

impl Choice {
    /// Adds a size that is measured in some table.
    pub(crate) fn add_size(&mut self, size: &str, sizes: &Sizes) -> Result<(), String> {
        let known = |size: &usize| Table::ALL.iter().any(|&table| sizes.of(table).contains(size));
        match size.parse().ok().filter(known) {
            Some(size) => self.sizes.push(size),
            None => return Err(format!("`{size}` is not one of the sizes that are measured")),
        }
        Ok(())
    }

    pub(crate) fn add_name(&mut self, part: &str) {
        self.names.push(part.to_owned());
    }

    pub(crate) fn add_tables(&mut self, part: &str) -> Result<(), String> {
        let before = self.tables.len();
        self.tables.extend(Table::ALL.iter().filter(|table| table.is_meant(part)));
        if self.tables.len() > before { Ok(()) } else { Err(format!("`{part}` is none of the tables")) }
    }

    fn has_size(&self, size: usize) -> bool {
        self.sizes.is_empty() || self.sizes.contains(&size)
    }

    fn has_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    fn has_table(&self, table: Table) -> bool {
        self.tables.is_empty() || self.tables.contains(&table)
    }

    /// The groups that are chosen; one without a contender is left out.
    pub(crate) fn groups(&self, contenders: &[Contender], sizes: &Sizes) -> Vec<Group> {
        let mut groups = Vec::new();
        for table in Table::ALL.into_iter().filter(|&table| self.has_table(table)) {
            for &size in sizes.of(table).iter().filter(|&&size| self.has_size(size)) {
                let chosen = contenders.iter().filter(|contender| self.has_name(contender.name));
                let chosen: Vec<Entry> = chosen.filter_map(|contender| contender.entry(table, size)).collect();
                if !chosen.is_empty() {
                    groups.push(Group { table, size, entries: with_floors(table, chosen) });
                }
            }
        }
        groups
    }
}

fn with_floors(table: Table, chosen: Vec<Entry>) -> Vec<Entry> {
    let ping_pong = || floor(ONE_LINE, Kind::PingPong, session::one_line);
    let mut entries = vec![ping_pong()];
    if table == Table::RoundTrip {
        entries.push(floor(TWO_LINES, Kind::Floor, session::two_lines));
        entries.push(floor(MAILBOX, Kind::Floor, session::mailbox));
    } else {
        entries.push(floor(HAND_OFF, Kind::Floor, session::hand_off));
    }
    entries.extend(chosen);
    entries.push(ping_pong());
    entries
}
