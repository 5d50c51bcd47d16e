//! The report as tables: aligned for a terminal, or as Markdown.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::result::{Claim, Family, Figure, Report, Spread, Throughput, Transport};

/// How tables are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Medians, with the rounds' smallest and largest values.
    Terminal,
    /// Medians.
    Markdown,
}

/// Everything.
pub(super) fn print(report: &Report, style: Style) -> String {
    let mut text = about(report, style);
    let mut part = |title: &str, table: Option<Table>| {
        if let Some(table) = table {
            let title = if style == Style::Markdown { format!("**{title}**\n") } else { title.to_owned() };
            // Writing to a String does not fail.
            let _ = write!(text, "\n{title}\n{table}\n");
        }
    };
    let ranges = if style == Style::Terminal { " (smallest-largest of the rounds)" } else { "" };
    part(&format!("Round trip, one record there and one back: median, µs{ranges}"), round_trips(report, style));
    part(&format!("One way, as fast as it goes: thousand records/s{ranges}"), throughput(report, style));
    part(&format!("One way, as fast as it goes: MB/s of payload{ranges}"), bandwidth(report, style));
    part(&at_a_rate(report), paced(report));
    part("What it costs the processors: ns of CPU time a record, share of one while nothing comes", costs(report));
    part("Fan-out: thousand records/s that reach all receivers, which share a processor", fan_out(report, style));
    part("A publish with lossy readers there that do not read: ns", attached(report, style));
    part("Floors, in the same rounds", floors(report, style));
    part("The best ring against the best of all others, x (above 1 the ring wins)", claims(&report.claims, report));
    part("The same for the rings of each way to wait", by_wait(report));
    text.push('\n');
    text.push_str(&verdict(report));
    let mut notes = String::new();
    for transport in &report.transports {
        for note in &transport.notes {
            let _ = writeln!(notes, "  {}: {note}", transport.name);
        }
    }
    if !notes.is_empty() && style == Style::Terminal {
        let _ = write!(text, "\nNotes\n{notes}");
    }
    text
}

fn about(report: &Report, style: Style) -> String {
    let machine = &report.machine;
    let mut about = format!(
        "{}, {} processors (sender on {}, receivers on {}), {}",
        machine.cpu, machine.processors, machine.sender_cpu, machine.receiver_cpu, machine.kernel
    );
    if let Some(kind) = &machine.hypervisor {
        about.push_str(", a virtual machine");
        if kind != "unknown" {
            let _ = write!(about, " ({kind})");
        }
    }
    let date = report.date.split('T').next().unwrap_or_default();
    let rounds = if report.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", report.rounds) };
    if style == Style::Markdown {
        format!(
            "From `{}` on {date}: {about}; shmcast {}, {rounds}, {:.0} s.\n",
            report.command, report.version, report.seconds
        )
    } else {
        format!(
            "{} · shmcast {} · {}\n{about}\n{rounds} in {:.0} s\n",
            report.command, report.version, report.date, report.seconds
        )
    }
}

// ---- cells ----

/// A number with about three digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// For people.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn spread(value: Option<Spread>, scale: f64, style: Style) -> String {
    let Some(Spread { median, min, max }) = value else { return "-".to_owned() };
    let cell = number(median * scale);
    if style == Style::Terminal && min < max {
        format!("{cell} ({}-{})", number(min * scale), number(max * scale))
    } else {
        cell
    }
}

fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// A table whose first column is text, and whose other ones are numbers, unless they are named.
fn table(header: Vec<String>, rows: Vec<Vec<String>>, text: &[usize]) -> Option<Table> {
    // A row of which nothing was measured says nothing.
    let rows: Vec<_> = rows.into_iter().filter(|row| row[1..].iter().any(|cell| cell != "-")).collect();
    if rows.is_empty() {
        return None;
    }
    let count = header.len();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for at in (1..count).filter(|at| !text.contains(at)) {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Some(table)
}

fn header(first: &str, rest: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(rest).collect()
}

fn sizes(report: &Report) -> impl Iterator<Item = String> + '_ {
    report.sizes.iter().map(|&bytes| size(bytes))
}

/// A row for each transport, a column for each size.
fn by_size(
    report: &Report,
    style: Style,
    scale: f64,
    of: impl Fn(&Transport, usize) -> Option<Spread>,
) -> Option<Table> {
    let row = |one: &Transport| {
        let cells = report.sizes.iter().map(|&size| spread(of(one, size), scale, style));
        header(&one.name, cells)
    };
    table(header("", sizes(report)), report.transports.iter().map(row).collect(), &[])
}

fn stream(one: &Transport, size: usize) -> Option<&Throughput> {
    one.throughput.iter().find(|at| at.size == size)
}

// ---- tables ----

fn round_trips(report: &Report, style: Style) -> Option<Table> {
    by_size(report, style, 1e-3, |one, size| Some(one.ping_pong.iter().find(|at| at.size == size)?.round_trip.p50))
}

fn throughput(report: &Report, style: Style) -> Option<Table> {
    by_size(report, style, 1e-3, |one, size| Some(stream(one, size)?.records_per_second))
}

fn bandwidth(report: &Report, style: Style) -> Option<Table> {
    by_size(report, style, 1e-6, |one, size| stream(one, size).filter(|at| at.bytes > 0).map(|at| at.bytes_per_second))
}

fn at_a_rate(report: &Report) -> String {
    let first = report.transports.iter().flat_map(|one| &one.paced).next();
    let (rate, bytes) = first.map_or((0.0, 0), |at| (at.rate, at.size));
    format!("One way at {rate:.0} records/s of {}, from when each was meant to be sent: µs", size(bytes))
}

fn paced(report: &Report) -> Option<Table> {
    let columns = ["p50", "p90", "p99", "p99.9", "largest", "lost"].map(str::to_owned);
    let rows = report.transports.iter().flat_map(|one| {
        one.paced.iter().map(|at| {
            let of = &at.one_way;
            let cells = [of.p50, of.p90, of.p99, of.p999, of.max].map(|value| number(value.median * 1e-3));
            header(&one.name, cells.into_iter().chain([percent(at.lost.median)]))
        })
    });
    table(header("", columns), rows.collect(), &[])
}

fn costs(report: &Report) -> Option<Table> {
    let small = report.sizes.iter().copied().find(|&size| size == 64).or(report.sizes.first().copied())?;
    let columns = [
        format!("{} (or what it carries): sender", size(small)),
        "receiver".to_owned(),
        "lost".to_owned(),
        "waiting".to_owned(),
        "woken".to_owned(),
    ];
    let row = |one: &Transport| {
        let at = stream(one, small).or(one.throughput.first());
        let cells = [
            at.map(|at| number(at.sender_cpu.median)),
            at.map(|at| number(at.receiver_cpu.median)),
            at.map(|at| percent(at.lost.median)),
            one.idle.as_ref().map(|idle| percent(idle.cpu_share.median)),
            Some(one.rules.wake.clone()),
        ];
        header(&one.name, cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())))
    };
    table(header("", columns), report.transports.iter().map(row).collect(), &[5])
}

fn fan_out(report: &Report, style: Style) -> Option<Table> {
    let all = report.transports.iter().flat_map(|one| &one.fan_out);
    let mut counts: Vec<usize> = all.map(|at| at.receivers).collect();
    counts.sort_unstable();
    counts.dedup();
    let columns = counts.iter().map(|count| format!("to {count}")).chain(["how".to_owned()]);
    let row = |one: &Transport| {
        let cells = counts.iter().map(|&count| {
            let at = one.fan_out.iter().find(|at| at.receivers == count);
            spread(at.map(|at| at.records_per_second), 1e-3, style)
        });
        header(&one.name, cells.chain([one.rules.fan_out_text.clone()]))
    };
    let measured = report.transports.iter().filter(|one| !one.fan_out.is_empty());
    table(header("", columns), measured.map(row).collect(), &[counts.len() + 1])
}

fn attached(report: &Report, style: Style) -> Option<Table> {
    let measured: Vec<&Transport> = report.transports.iter().filter(|one| !one.attached.is_empty()).collect();
    let columns = measured.first()?.attached.iter().map(|at| format!("{} readers", at.readers));
    let row = |one: &&Transport| {
        let cells = one.attached.iter().map(|at| spread(Some(at.publish), 1.0, style));
        header(&format!("ring that waits by {}", one.wait.as_deref().unwrap_or_default()), cells)
    };
    table(header("", columns), measured.iter().map(row).collect(), &[])
}

fn floors(report: &Report, style: Style) -> Option<Table> {
    let floors = &report.floors;
    let mut rows = vec![
        header("round trip over one cache line, ns", [spread(Some(floors.one_line), 1.0, style)]),
        header("round trip over two cache lines, ns", [spread(Some(floors.two_lines), 1.0, style)]),
        header(
            "a look at the clock (each round trip above has one in it), ns",
            [spread(Some(floors.clock), 1.0, style)],
        ),
    ];
    rows.extend(floors.memcpy.iter().map(|at| {
        header(
            &format!("memcpy of {} in one process, MB/s", size(at.size)),
            [spread(Some(at.bytes_per_second), 1e-6, style)],
        )
    }));
    table(header("", [String::new()]), rows, &[])
}

fn claims(claims: &[Claim], report: &Report) -> Option<Table> {
    let row = |figure: Figure| {
        let cells = report.sizes.iter().map(|&size| {
            let at = claims.iter().find(|claim| claim.figure == figure && claim.size == size);
            at.map_or_else(
                || "-".to_owned(),
                |at| format!("{} {}: {}", number(at.ratio), at.ring.trim_start_matches("ring-"), at.rival),
            )
        });
        header(name(figure), cells)
    };
    table(header("ring: best other", sizes(report)), vec![row(Figure::Latency), row(Figure::Throughput)], &[])
}

fn name(figure: Figure) -> &'static str {
    match figure {
        Figure::Latency => "round trip",
        Figure::Throughput => "throughput",
    }
}

fn by_wait(report: &Report) -> Option<Table> {
    let mut rows = Vec::new();
    for figure in [Figure::Latency, Figure::Throughput] {
        for wait in ["park-at-once", "park", "yield", "spin"] {
            let wait_of = |ring: &str| {
                report.transports.iter().find(|one| one.name == ring).and_then(|one| one.wait.as_deref()) == Some(wait)
            };
            let cells = report.sizes.iter().map(|&size| {
                let of = |claim: &&Claim| claim.figure == figure && claim.size == size && wait_of(&claim.ring);
                report.claims_by_wait.iter().find(of).map_or_else(|| "-".to_owned(), |claim| number(claim.ratio))
            });
            rows.push(header(&format!("{}, {wait}", name(figure)), cells));
        }
    }
    table(header("", sizes(report)), rows, &[])
}

/// In a sentence, where the ring wins and where it does not.
fn verdict(report: &Report) -> String {
    if report.claims.is_empty() {
        let is_ring = |one: &Transport| one.family == Family::Ring;
        let missing = if report.transports.iter().any(is_ring) { "no other transport" } else { "no ring" };
        return format!("No comparison: {missing} was measured.\n");
    }
    let lost: Vec<&Claim> = report.claims.iter().filter(|claim| !claim.wins).collect();
    if lost.is_empty() {
        return "The best ring beats all others here, in round trip and throughput, at every size.\n".to_owned();
    }
    let mut text = "The ring does NOT beat all others here:\n".to_owned();
    for claim in lost {
        let (figure, bytes) = (name(claim.figure), size(claim.size));
        let _ = writeln!(text, "  {figure} at {bytes}: {} is {} x {}", claim.ring, number(claim.ratio), claim.rival);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let pairs =
            [(0.0, "0"), (0.01234, "0.0123"), (0.5, "0.50"), (1.2345, "1.23"), (12.345, "12.3"), (123.45, "123")];
        for (value, text) in pairs {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [(8, "8 B"), (1000, "1000 B"), (1024, "1 KiB"), (65536, "64 KiB"), (1 << 20, "1 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
