//! The tables: medians over the rounds kept, as Markdown.

use super::ours::{BYTES_COPY, BYTES_LOSSY, TYPED_COPY, TYPED_LOSSY};
use super::plan::{Entry, Group, HAND_OFF, Kind, MAILBOX, ONE_LINE, TWO_LINES, Table};

/// Lossy readers, and the lossless ones that differ in nothing else.
pub(crate) const LOSSY: [(&str, &str); 2] = [(BYTES_LOSSY, BYTES_COPY), (TYPED_LOSSY, TYPED_COPY)];

/// A group with its rounds: nanoseconds per record or round trip, one for each entry, in the entries' order.
pub(crate) struct Measured {
    pub(crate) group: Group,
    pub(crate) kept: Vec<Vec<f64>>,
    pub(crate) thrown: usize,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

impl Measured {
    fn position(&self, name: &str) -> Option<usize> {
        self.group.entries.iter().position(|entry| entry.name == name)
    }

    /// The median of one entry.
    pub(crate) fn of(&self, name: &str) -> Option<f64> {
        let at = self.position(name)?;
        Some(median(self.kept.iter().map(|round| round[at]).collect()))
    }

    /// The median of the ratios of one entry to another, round by round.
    pub(crate) fn ratio(&self, over: &str, under: &str) -> Option<f64> {
        let (over, under) = (self.position(over)?, self.position(under)?);
        Some(median(self.kept.iter().map(|round| round[over] / round[under]).collect()))
    }

    /// Who takes the least time, of those that `keep` says.
    pub(crate) fn fastest(&self, keep: impl Fn(&Entry) -> bool) -> Option<&'static str> {
        let entries = self.group.entries.iter().filter(|entry| keep(entry));
        let medians = entries.filter_map(|entry| Some((entry.name, self.of(entry.name)?)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    }

    pub(crate) fn best_rival(&self) -> Option<&'static str> {
        self.fastest(|entry| entry.kind == Kind::Rival)
    }
}

/// For people.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A number, if there is one.
pub(crate) fn cell(value: Option<f64>, digits: usize) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// About three digits.
fn figure(value: Option<f64>) -> String {
    let digits = match value {
        Some(value) if value >= 99.95 => 0,
        Some(value) if value >= 9.995 => 1,
        Some(value) if value >= 0.9995 => 2,
        _ => 3,
    };
    cell(value, digits)
}

/// Names of the entries that some group of the table has, in order, each once.
fn names(measured: &[&Measured], keep: impl Fn(&Entry) -> bool) -> Vec<&'static str> {
    let mut names = Vec::new();
    for entry in measured.iter().flat_map(|one| &one.group.entries).filter(|entry| keep(entry)) {
        if !names.contains(&entry.name) {
            names.push(entry.name);
        }
    }
    names
}

fn row(first: &str, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    println!("| {first} | {} |", cells.join(" | "));
}

fn header(first: &str, measured: &[&Measured]) {
    row(first, measured.iter().map(|one| size(one.group.size)));
    println!("|---|{}", "--:|".repeat(measured.len()));
}

/// Prints all tables.
pub(crate) fn print_tables(measured: &[Measured]) {
    for table in Table::ALL {
        let of_table: Vec<&Measured> = measured.iter().filter(|one| one.group.table == table).collect();
        if of_table.is_empty() {
            continue;
        }
        match table {
            Table::Single { readers } => streams(&of_table, "one record per call", readers),
            Table::Batch { readers } => streams(&of_table, "in batches of 32 (4 of 64 KiB, 2 of 1 MiB)", readers),
            Table::RoundTrip => round_trips(&of_table),
        }
        let counts = of_table.iter().map(|one| (one.kept.len(), one.thrown));
        let counts: Vec<String> = counts.map(|(kept, thrown)| format!("{kept} + {thrown}")).collect();
        println!("\nRounds kept + thrown away, by size: {}.", counts.join(", "));
    }
}

fn streams(measured: &[&Measured], how: &str, readers: usize) {
    let readers = if readers == 1 { "One reader" } else { "Two lossless readers on one processor" };
    println!("\n## {readers}, {how}\n\nMillion records/s (share of the bare hand-off).\n");
    header("", measured);
    for name in names(measured, |entry| entry.kind != Kind::PingPong) {
        row(
            name,
            measured.iter().map(|one| {
                let rate = one.of(name).map(|nanoseconds| 1e3 / nanoseconds);
                if name == HAND_OFF || rate.is_none() {
                    figure(rate)
                } else {
                    format!("{} ({})", figure(rate), cell(one.ratio(HAND_OFF, name), 2))
                }
            }),
        );
    }
    against_rivals(measured, "Rate, x the best rival");
    let pairs = LOSSY.iter().filter(|(lossy, _)| measured.iter().any(|one| one.of(lossy).is_some()));
    for (i, (lossy, lossless)) in pairs.enumerate() {
        if i == 0 {
            println!();
            header("Rate, x the lossless one", measured);
        }
        row(lossy, measured.iter().map(|one| cell(one.ratio(lossless, lossy), 2)));
    }
}

/// Ratios that are better the larger they are: a rival's time by ours.
fn against_rivals(measured: &[&Measured], what: &str) {
    let ours = names(measured, |entry| entry.kind == Kind::Ours);
    if ours.is_empty() || measured.iter().all(|one| one.best_rival().is_none()) {
        return;
    }
    println!();
    header(what, measured);
    row("best rival", measured.iter().map(|one| one.best_rival().unwrap_or("-").to_owned()));
    for name in ours {
        row(name, measured.iter().map(|one| cell(one.best_rival().and_then(|best| one.ratio(best, name)), 2)));
    }
}

fn round_trips(measured: &[&Measured]) {
    println!("\n## Round trip, one record there and one back\n\nNanoseconds.\n");
    header("", measured);
    let all = names(measured, |_| true);
    for name in &all {
        row(name, measured.iter().map(|one| figure(one.of(name))));
    }
    for floor in [ONE_LINE, TWO_LINES, MAILBOX] {
        println!();
        header(&format!("Time, x {floor}"), measured);
        for name in all.iter().filter(|name| ![ONE_LINE, TWO_LINES, MAILBOX].contains(name)) {
            row(name, measured.iter().map(|one| cell(one.ratio(name, floor), 2)));
        }
    }
    against_rivals(measured, "The best rival's time, x ours");
}
