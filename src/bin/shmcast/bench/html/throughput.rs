//! How much gets through, and what a record costs the processors.

use maud::{Markup, html};

use super::super::result::Throughput;
use super::latency::{size_axis, size_step};
use super::numbers::{bandwidth, bytes, rate, share, time, whole};
use super::plot::{Axis, Dot, Floor, Ink, Lines, Mark, Point, Row, Rows, Series};
use super::table::{absent, figure, folded, name, plotted, spread};
use super::view::{Contender, View};

pub(super) fn section(view: &View<'_>) -> Markup {
    html! {
        section #throughput {
            h2 { "Throughput" }
            p {
                "One way, as fast as it goes, one record per call. Only what arrived counts: every record is written in full, read in full and \
                 verified. " code { "memcpy" } " copies the same bytes within one process: what they cost at least."
            }
            @let sizes = measured(view);
            @if sizes.is_empty() { (absent()) }
            @if let [size] = sizes[..] {
                (plotted(at_size(view, size).as_ref(), &html! {
                    "Records of " (bytes(size)) " that arrived each second, the most first; the line is the range of the rounds."
                }))
            } @else if !sizes.is_empty() {
                (plotted(by_size(view, Of::Bytes).as_ref(), &html! {
                    "Payload each second, by size of the record. Transports that carry no payload have no place here."
                }))
                (plotted(by_size(view, Of::Records).as_ref(), &html! { "The same in records each second." }))
            }
            @if !sizes.is_empty() { (table(view)) }
        }
    }
}

/// Sizes of which there is throughput.
fn measured(view: &View<'_>) -> Vec<usize> {
    let of = |size: &usize| view.contenders.iter().any(|one| one.throughput(*size).is_some());
    view.report.sizes.iter().copied().filter(of).collect()
}

/// Of a run of one size: a line over sizes would be a dot.
fn at_size(view: &View<'_>, size: usize) -> Option<Rows> {
    let row = |one: &Contender<'_>| {
        let rate = one.throughput(size)?.records_per_second;
        Some(Row {
            label: one.label.clone(),
            ink: one.ink,
            strong: one.is_ring(),
            dots: vec![Dot { value: rate.median, mark: Mark::Disc }],
            range: Some((rate.min, rate.max)),
            bar_from: None,
        })
    };
    let mut rows: Vec<Row> = view.contenders.iter().filter_map(row).collect();
    rows.sort_by(|one, other| other.dots[0].value.total_cmp(&one.dots[0].value));
    Some(Rows {
        title: format!("Records of {} each second", bytes(size)),
        values: "records each second, logarithmic".to_owned(),
        written: "median".to_owned(),
        axis: Axis::log(rows.iter().map(|row| row.dots[0].value), rate)?,
        rows,
        floors: Vec::new(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Bytes,
    Records,
}

fn by_size(view: &View<'_>, of: Of) -> Option<Lines> {
    let point = |one: &Throughput| {
        let spread = if of == Of::Bytes { one.bytes_per_second } else { one.records_per_second };
        Point { step: size_step(one.size), value: spread.median, range: (spread.min, spread.max) }
    };
    let series = |one: &Contender<'_>| Series {
        label: one.label.clone(),
        ink: one.ink,
        mark: one.mark,
        strong: one.is_ring(),
        points: one.transport.throughput.iter().map(point).collect(),
    };
    let mut all: Vec<Series> = view.contenders.iter().map(series).collect();
    if of == Of::Bytes {
        let points = view.report.floors.memcpy.iter().map(|one| {
            let spread = one.bytes_per_second;
            Point { step: size_step(one.size), value: spread.median, range: (spread.min, spread.max) }
        });
        let points = points.collect();
        all.push(Series { label: "memcpy".to_owned(), ink: Ink::Floor, mark: Mark::Tick, strong: false, points });
    }
    let unit = if of == Of::Bytes { bandwidth } else { rate };
    let y = Axis::log(all.iter().flat_map(|one| one.points.iter().map(|point| point.value)), unit)?;
    Some(Lines {
        title: if of == Of::Bytes { "Payload each second, by size" } else { "Records each second, by size" }.to_owned(),
        steps: "size of the record".to_owned(),
        values: if of == Of::Bytes { "payload each second" } else { "records each second" }.to_owned(),
        x: size_axis(&view.report.sizes)?,
        y,
        series: all,
        floors: Vec::new(),
    })
}

fn table(view: &View<'_>) -> Markup {
    let head = html! {
        tr {
            th { "Transport" } th { "Size" } th { "Records" } th { "Payload" } th { "Lost" } th { "Bytes" }
        }
    };
    let body = html! {
        @for size in &view.report.sizes {
            @for contender in &view.contenders {
                @if let Some(one) = contender.throughput(*size) {
                    tr {
                        (name(contender))
                        td { (bytes(one.size)) }
                        (spread(&one.records_per_second, rate))
                        (spread(&one.bytes_per_second, bandwidth))
                        (spread(&one.lost, share))
                        td { (figure(one.bytes as f64, whole)) }
                    }
                }
            }
        }
    };
    folded("All figures: throughput by size", &head, &body)
}

/// What a record costs.
pub(super) fn cpu_section(view: &View<'_>) -> Markup {
    let sizes = measured(view);
    let first = view.small().filter(|small| sizes.contains(small)).or(sizes.first().copied());
    html! {
        section #cpu {
            h2 { "CPU time for each record" }
            p {
                "User and system time of both processes during the throughput run. Where an end waits awake (" code { "spin" } ", "
                code { "yield" } "), its waiting is in here, too."
            }
            @match first {
                Some(first) => {
                    (cpu_at(view, first))
                    @let others: Vec<usize> = sizes.iter().copied().filter(|size| *size != first).collect();
                    @if !others.is_empty() {
                        details {
                            summary { "The same at other sizes" }
                            @for size in others { (cpu_at(view, size)) }
                        }
                    }
                    (cpu_table(view))
                }
                None => (absent()),
            }
        }
    }
}

fn cpu_table(view: &View<'_>) -> Markup {
    let head = html! { tr { th { "Transport" } th { "Size" } th { "Sender" } th { "Receiver" } th { "Bytes" } } };
    let body = html! {
        @for size in &view.report.sizes {
            @for contender in &view.contenders {
                @if let Some(one) = contender.throughput(*size) {
                    tr {
                        (name(contender))
                        td { (bytes(one.size)) }
                        (spread(&one.sender_cpu, time))
                        (spread(&one.receiver_cpu, time))
                        td { (figure(one.bytes as f64, whole)) }
                    }
                }
            }
        }
    };
    folded("All figures: CPU time by size", &head, &body)
}

fn cpu_at(view: &View<'_>, size: usize) -> Markup {
    let row = |one: &Contender<'_>| {
        let throughput = one.throughput(size)?;
        let (sender, receiver) = (throughput.sender_cpu.median, throughput.receiver_cpu.median);
        Some(Row {
            label: one.label.clone(),
            ink: one.ink,
            strong: one.is_ring(),
            dots: vec![
                Dot { value: sender + receiver, mark: Mark::Disc },
                Dot { value: sender, mark: Mark::Triangle },
                Dot { value: receiver, mark: Mark::Circle },
            ],
            range: Some((sender.min(receiver), sender + receiver)),
            bar_from: None,
        })
    };
    let mut rows: Vec<Row> = view.contenders.iter().filter_map(row).collect();
    rows.sort_by(|one, other| one.dots[0].value.total_cmp(&other.dots[0].value));
    let memcpy = view.report.floors.memcpy.iter().find(|one| one.size == size);
    let memcpy = memcpy.map(|one| size as f64 / one.bytes_per_second.median * 1e9);
    let memcpy = memcpy.map(|value| Floor { text: format!("memcpy: {}", time(value)), value });
    let values = rows.iter().flat_map(|row| row.dots.iter().map(|dot| dot.value));
    let axis = Axis::log(values.chain(memcpy.iter().map(|floor| floor.value)), time);
    let plot = axis.map(|axis| Rows {
        title: format!("CPU time for each record of {}", bytes(size)),
        values: "CPU time for each record, logarithmic".to_owned(),
        written: "both".to_owned(),
        axis,
        rows,
        floors: memcpy.into_iter().collect(),
    });
    plotted(
        plot.as_ref(),
        &html! {
            "CPU time for each record of " (bytes(size)) ", the cheapest first: "
            span.legend { "●\u{a0}both ends, ▲\u{a0}the sender, ○\u{a0}the receiver" } "."
        },
    )
}
