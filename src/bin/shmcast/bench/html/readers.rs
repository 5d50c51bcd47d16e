//! Several receivers, receivers that wait, and readers that are only there.

use maud::{Markup, html};

use super::super::result::{Attached, FanOut, FanOutWay};
use super::numbers::{bytes, rate, share, time, whole};
use super::plot::{Axis, Dot, Floor, Lines, Mark, Point, Row, Rows, Series};
use super::table::{absent, figure, folded, name, plotted, spread};
use super::view::{Contender, View};

/// One sender, several receivers.
pub(super) fn fan_out_section(view: &View<'_>) -> Markup {
    let all = || view.contenders.iter().flat_map(|one| &one.transport.fan_out);
    let mut sizes: Vec<usize> = all().map(|one| one.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    html! {
        section #fan-out {
            h2 { "Fan-out: one sender, several receivers" }
            p {
                "Records each second that reached " em { "all" } " receivers. A transport that sends to each in turn pays for each of them; one \
                 that writes once does not, until the receivers themselves want for processors. Here they share one processor."
            }
            @if sizes.is_empty() { (absent()) }
            @for size in &sizes {
                (plotted(fan_out(view, *size).as_ref(), &html! {
                    "Records of " (bytes(*size)) " that reached all receivers, each second."
                }))
            }
            @if !sizes.is_empty() { (fan_out_table(view)) }
        }
    }
}

/// Equal steps for equal factors, and a place for none.
fn step(number: usize) -> f64 {
    (number as f64 + 1.0).log2()
}

fn steps(numbers: impl Iterator<Item = usize>) -> Option<Axis> {
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    Axis::named(numbers.into_iter().map(|number| (step(number), number.to_string())).collect())
}

fn fan_out(view: &View<'_>, size: usize) -> Option<Lines> {
    let of = |one: &&FanOut| one.size == size;
    let point = |one: &FanOut| {
        let spread = one.records_per_second;
        Point { step: step(one.receivers), value: spread.median, range: (spread.min, spread.max) }
    };
    let series = |one: &Contender<'_>| Series {
        label: one.label.clone(),
        ink: one.ink,
        mark: one.mark,
        strong: one.is_ring(),
        points: one.transport.fan_out.iter().filter(of).map(point).collect(),
    };
    let series: Vec<Series> = view.contenders.iter().map(series).filter(|one| !one.points.is_empty()).collect();
    let receivers = view.contenders.iter().flat_map(|one| one.transport.fan_out.iter().filter(of));
    Some(Lines {
        title: format!("Fan-out of records of {}", bytes(size)),
        steps: "receivers".to_owned(),
        values: "records each second that reached all".to_owned(),
        x: steps(receivers.map(|one| one.receivers))?,
        y: Axis::log(series.iter().flat_map(|one| one.points.iter().map(|point| point.value)), rate)?,
        series,
        floors: Vec::new(),
    })
}

fn fan_out_table(view: &View<'_>) -> Markup {
    let head = html! {
        tr {
            th { "Transport" } th { "Size" } th { "Receivers" } th { "Records" } th { "Lost" } th { "CPU of the sender" }
            th { "Bytes" } th.word { "How" }
        }
    };
    let body = html! {
        @for contender in &view.contenders {
            @for one in &contender.transport.fan_out {
                tr {
                    (name(contender))
                    td { (bytes(one.size)) }
                    td { (figure(one.receivers as f64, whole)) }
                    (spread(&one.records_per_second, rate))
                    (spread(&one.lost, share))
                    (spread(&one.sender_cpu, time))
                    td { (figure(one.bytes as f64, whole)) }
                    td.word { (contender.transport.rules.fan_out_text) }
                }
            }
        }
    };
    folded("All figures: fan-out", &head, &body)
}

/// How it is done, for a sentence.
pub(super) fn way(way: FanOutWay) -> &'static str {
    match way {
        FanOutWay::SendToEach => "sends to each in turn",
        FanOutWay::Once => "sends once, for all",
        FanOutWay::One => "reaches one receiver only",
    }
}

/// What waiting costs.
pub(super) fn idle_section(view: &View<'_>) -> Markup {
    let row = |one: &Contender<'_>| {
        let idle = one.transport.idle.as_ref()?.cpu_share;
        Some(Row {
            label: one.label.clone(),
            ink: one.ink,
            strong: one.is_ring(),
            dots: vec![Dot { value: idle.median, mark: Mark::Disc }],
            range: Some((idle.min, idle.max)),
            bar_from: None,
        })
    };
    let mut rows: Vec<Row> = view.contenders.iter().filter_map(row).collect();
    rows.sort_by(|one, other| one.dots[0].value.total_cmp(&other.dots[0].value));
    let axis = Axis::log(rows.iter().map(|row| row.dots[0].value).chain([1.0]), share);
    let measured = !rows.is_empty();
    let plot = axis.map(|axis| Rows {
        title: "Share of a processor that a waiting receiver uses".to_owned(),
        values: "share of one processor, logarithmic".to_owned(),
        written: "median".to_owned(),
        axis,
        rows,
        floors: vec![Floor { text: "a whole processor".to_owned(), value: 1.0 }],
    });
    html! {
        section #idle {
            h2 { "Idle cost: a receiver that waits" }
            p { "Nothing comes, and the receiver waits in the transport's own way. This is what a fast answer costs while nobody asks." }
            @if measured {
                (plotted(plot.as_ref(), &html! {
                    "Share of one processor that a waiting receiver uses, the least first; the line is the range of the rounds."
                }))
                (idle_table(view))
            } @else { (absent()) }
        }
    }
}

fn idle_table(view: &View<'_>) -> Markup {
    let head = html! { tr { th { "Transport" } th.word { "Waits" } th { "For" } th { "Share of a processor" } } };
    let body = html! {
        @for contender in &view.contenders {
            @if let Some(idle) = &contender.transport.idle {
                tr {
                    (name(contender))
                    td.word { (contender.transport.rules.wake) }
                    td { (figure(idle.waited, time)) }
                    (spread(&idle.cpu_share, share))
                }
            }
        }
    };
    folded("All figures: idle cost", &head, &body)
}

/// What readers cost that are only there.
pub(super) fn attached_section(view: &View<'_>) -> Markup {
    let all = || view.contenders.iter().flat_map(|one| &one.transport.attached);
    let mut lengths: Vec<usize> = all().map(|one| one.bytes).collect();
    lengths.sort_unstable();
    lengths.dedup();
    html! {
        section #attached {
            h2 { "Publish cost against the number of attached readers" }
            p {
                "Lossy readers have joined the ring and do not read. A publish makes the same stores whatever their number: within the \
                 range of the rounds (the upright lines) the line should be flat. The axis begins at zero."
            }
            @if lengths.is_empty() { (absent()) }
            @for length in &lengths {
                (plotted(attached(view, *length).as_ref(), &html! {
                    "Time of one publish of " (bytes(*length)) ", by the number of readers that are attached."
                }))
            }
            @if !lengths.is_empty() { (attached_table(view)) }
        }
    }
}

fn attached(view: &View<'_>, length: usize) -> Option<Lines> {
    let of = |one: &&Attached| one.bytes == length;
    let point = |one: &Attached| Point {
        step: step(one.readers),
        value: one.publish.median,
        range: (one.publish.min, one.publish.max),
    };
    let series = |one: &Contender<'_>| Series {
        label: one.label.clone(),
        ink: one.ink,
        mark: one.mark,
        strong: one.is_ring(),
        points: one.transport.attached.iter().filter(of).map(point).collect(),
    };
    let series: Vec<Series> = view.contenders.iter().map(series).filter(|one| !one.points.is_empty()).collect();
    let readers = view.contenders.iter().flat_map(|one| one.transport.attached.iter().filter(of));
    Some(Lines {
        title: format!("Publish cost of {} by attached readers", bytes(length)),
        steps: "attached readers".to_owned(),
        values: "time of one publish".to_owned(),
        x: steps(readers.map(|one| one.readers))?,
        y: Axis::linear(series.iter().flat_map(|one| one.points.iter().map(|point| point.range.1)), time)?,
        series,
        floors: Vec::new(),
    })
}

fn attached_table(view: &View<'_>) -> Markup {
    let head = html! { tr { th { "Ring" } th { "Readers" } th { "Bytes" } th { "One publish" } } };
    let body = html! {
        @for contender in &view.contenders {
            @for one in &contender.transport.attached {
                tr {
                    (name(contender))
                    td { (figure(one.readers as f64, whole)) }
                    td { (figure(one.bytes as f64, whole)) }
                    (spread(&one.publish, time))
                }
            }
        }
    };
    folded("All figures: publish cost", &head, &body)
}
