//! How soon a record is there: round trips, their percentiles, and one way at a fixed rate.

use maud::{Markup, html};

use super::super::result::{Latency, Paced};
use super::numbers::{bytes, rate, share, time, whole};
use super::plot::{Axis, Dot, Floor, Lines, Mark, Point, Row, Rows, Series};
use super::table::{absent, figure, folded, name, plotted, spread};
use super::view::{Contender, View};

/// From here on percentiles have a place each; the largest value of all comes behind the last.
const LAST_PERCENTILE: f64 = 99.99;

pub(super) fn section(view: &View<'_>) -> Markup {
    let sizes = measured(view);
    let first = view.small().filter(|small| sizes.contains(small)).or(sizes.first().copied());
    html! {
        section #latency {
            h2 { "Latency: there and back" }
            p {
                "One record there and one back, over two links; the receiver answers as soon as it has read all of it. The dashed lines are \
                 floors: a bare ping-pong over one cache line, and over two, with no transport at all."
            }
            @if let Some(first) = first {
                (at_size(view, first))
                (plotted(by_size(view).filter(|_| sizes.len() > 1).as_ref(), &html! {
                    "Median round trip by size of the record. Where the lines of several transports lie upon each other, the plot above \
                     tells them apart."
                }))
                (plotted(tail(view, first).as_ref(), &html! {
                    "The tail at " (bytes(first)) ": so many percent of the round trips took at most so long, all rounds together."
                }))
                @let others: Vec<usize> = sizes.iter().copied().filter(|size| *size != first).collect();
                @if !others.is_empty() {
                    details {
                        summary { "The same at other sizes" }
                        @for size in others { (at_size(view, size)) }
                    }
                }
                (table(view, &sizes))
                (points(view, &sizes))
            } @else { (absent()) }
        }
    }
}

/// Sizes of which there are round trips.
fn measured(view: &View<'_>) -> Vec<usize> {
    let of = |size: &usize| view.contenders.iter().any(|one| one.ping_pong(*size).is_some());
    view.report.sizes.iter().copied().filter(of).collect()
}

fn floors(view: &View<'_>) -> Vec<Floor> {
    let floors = &view.report.floors;
    let lines = [("one cache line", floors.one_line.median), ("two", floors.two_lines.median)];
    lines.map(|(name, value)| Floor { text: format!("{name}: {}", time(value)), value }).to_vec()
}

/// Median, 99 %, 99.9 % and the largest, in a row of dots.
fn row(contender: &Contender<'_>, latency: &Latency) -> Row {
    let dot = |mark, value| Dot { mark, value };
    Row {
        label: contender.label.clone(),
        ink: contender.ink,
        strong: contender.is_ring(),
        dots: vec![
            dot(Mark::Disc, latency.p50.median),
            dot(Mark::Tick, latency.p99.median),
            dot(Mark::Circle, latency.p999.median),
            dot(Mark::Cross, latency.max.median),
        ],
        range: Some((latency.p50.median, latency.max.median)),
        bar_from: None,
    }
}

/// What the dots of [`row`] are.
fn legend() -> Markup {
    html! {
        span.legend {
            "●\u{a0}median, ┃\u{a0}99\u{a0}%, ○\u{a0}99.9\u{a0}%, ×\u{a0}the\u{a0}largest"
        }
    }
}

/// Rows of latencies, the fastest first.
fn rows<'v, 'r: 'v>(
    title: String,
    latencies: impl Iterator<Item = (&'v Contender<'r>, &'r Latency)>,
    floors: Vec<Floor>,
) -> Option<Rows> {
    let mut rows: Vec<Row> = latencies.map(|(contender, latency)| row(contender, latency)).collect();
    rows.sort_by(|one, other| one.dots[0].value.total_cmp(&other.dots[0].value));
    let values = rows.iter().flat_map(|row| row.dots.iter().map(|dot| dot.value));
    let axis = Axis::log(values.chain(floors.iter().map(|floor| floor.value)), time)?;
    let (values, written) = ("time, logarithmic".to_owned(), "median".to_owned());
    Some(Rows { title, values, written, axis, rows, floors })
}

fn at_size(view: &View<'_>, size: usize) -> Markup {
    let latencies = view.contenders.iter().filter_map(|one| Some((one, &one.ping_pong(size)?.round_trip)));
    let plot = rows(format!("Round trips of {}", bytes(size)), latencies, floors(view));
    plotted(plot.as_ref(), &html! { "Round trips of records of " (bytes(size)) ", fastest first: " (legend()) "." })
}

/// A step for each size: its power of two.
pub(super) fn size_axis(sizes: &[usize]) -> Option<Axis> {
    Axis::named(sizes.iter().map(|size| (size_step(*size), bytes(*size))).collect())
}

pub(super) fn size_step(size: usize) -> f64 {
    (size.max(1) as f64).log2()
}

fn by_size(view: &View<'_>) -> Option<Lines> {
    let sizes = measured(view);
    let series = |one: &Contender<'_>| Series {
        label: one.label.clone(),
        ink: one.ink,
        mark: one.mark,
        strong: one.is_ring(),
        points: one
            .transport
            .ping_pong
            .iter()
            .map(|one| {
                let spread = one.round_trip.p50;
                Point { step: size_step(one.size), value: spread.median, range: (spread.min, spread.max) }
            })
            .collect(),
    };
    let series: Vec<Series> = view.contenders.iter().map(series).collect();
    let floors = floors(view);
    let values = series.iter().flat_map(|one| one.points.iter().map(|point| point.value));
    let y = Axis::log(values.chain(floors.iter().map(|floor| floor.value)), time)?;
    Some(Lines {
        title: "Median round trip by size".to_owned(),
        steps: "size of the record".to_owned(),
        values: "median round trip".to_owned(),
        x: size_axis(&sizes)?,
        y,
        series,
        floors: floors.into_iter().take(1).collect(),
    })
}

/// Each further nine has as much room as the one before.
fn nines(percentile: f64) -> f64 {
    if percentile > LAST_PERCENTILE { nines(LAST_PERCENTILE) + 0.6 } else { -(1.0 - percentile / 100.0).log10() }
}

fn tail(view: &View<'_>, size: usize) -> Option<Lines> {
    let point = |one: &super::super::result::Point| Point {
        step: nines(one.percentile),
        value: one.ns,
        range: (one.ns, one.ns),
    };
    let series = |one: &Contender<'_>| {
        let points = one.ping_pong(size)?.round_trip.points.iter();
        // From the median on; and the largest is told once.
        let has_place = |percentile: f64| (50.0..=LAST_PERCENTILE).contains(&percentile) || percentile >= 100.0;
        let points: Vec<Point> = points.filter(|point| has_place(point.percentile)).map(point).collect();
        Some(Series { label: one.label.clone(), ink: one.ink, mark: one.mark, strong: one.is_ring(), points })
    };
    let series: Vec<Series> = view.contenders.iter().filter_map(series).collect();
    let y = Axis::log(series.iter().flat_map(|one| one.points.iter().map(|point| point.value)), time)?;
    let ticks = [(50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99"), (100.0, "max")];
    Some(Lines {
        title: format!("Percentiles of the round trips of {}", bytes(size)),
        steps: "percentile".to_owned(),
        values: "round trip".to_owned(),
        x: Axis::named(ticks.iter().map(|(percentile, name)| (nines(*percentile), (*name).to_owned())).collect())?,
        y,
        series,
        floors: Vec::new(),
    })
}

/// The heads of [`latency_cells`].
fn latency_heads() -> Markup {
    html! {
        th { "Least" } th { "Median" } th { "90 %" } th { "99 %" } th { "99.9 %" } th { "Largest" } th { "Mean" } th { "Count" }
    }
}

fn latency_cells(latency: &Latency) -> Markup {
    html! {
        @for one in [&latency.min, &latency.p50, &latency.p90, &latency.p99, &latency.p999, &latency.max, &latency.mean] {
            (spread(one, time))
        }
        td { (figure(latency.count as f64, whole)) }
    }
}

fn table(view: &View<'_>, sizes: &[usize]) -> Markup {
    let head = html! { tr { th { "Transport" } th { "Size" } (latency_heads()) th { "Bytes" } } };
    let body = html! {
        @for size in sizes {
            @for contender in &view.contenders {
                @if let Some(one) = contender.ping_pong(*size) {
                    tr {
                        (name(contender))
                        td { (bytes(one.size)) }
                        (latency_cells(&one.round_trip))
                        td { (figure(one.bytes as f64, whole)) }
                    }
                }
            }
        }
    };
    folded("All figures: round trips by size", &head, &body)
}

/// What the tail is drawn from.
fn points(view: &View<'_>, sizes: &[usize]) -> Markup {
    let all = view.contenders.iter().flat_map(|one| &one.transport.ping_pong);
    let mut percentiles: Vec<f64> = all.flat_map(|one| &one.round_trip.points).map(|point| point.percentile).collect();
    percentiles.sort_by(f64::total_cmp);
    percentiles.dedup();
    let head = html! {
        tr { th { "Transport" } th { "Size" } @for percentile in &percentiles { th { (percentile) " %" } } }
    };
    let body = html! {
        @for size in sizes {
            @for contender in &view.contenders {
                @if let Some(one) = contender.ping_pong(*size) {
                    tr {
                        (name(contender))
                        td { (bytes(one.size)) }
                        @for percentile in &percentiles {
                            @match one.round_trip.points.iter().find(|point| point.percentile == *percentile) {
                                Some(point) => td { (figure(point.ns, time)) },
                                None => td.none { "–" },
                            }
                        }
                    }
                }
            }
        }
    };
    folded("All figures: percentiles of all rounds together", &head, &body)
}

/// One way, at a fixed rate.
pub(super) fn paced_section(view: &View<'_>) -> Markup {
    let all = || view.contenders.iter().flat_map(|one| one.transport.paced.iter().map(move |paced| (one, paced)));
    let mut sizes: Vec<usize> = all().map(|(_, paced)| paced.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    html! {
        section #paced {
            h2 { "Latency: one way, at a fixed rate" }
            p {
                "Records are due at fixed times. Each latency counts from the time at which its record was due, not from when it was sent \
                 at last: a transport that holds its sender up pays for all the records that wait behind (no coordinated omission). \
                 At this rate receivers fall asleep between records, if they can."
            }
            @if sizes.is_empty() { (absent()) }
            @for size in &sizes { (paced_at(view, *size)) }
            @if !sizes.is_empty() { (paced_table(view)) }
        }
    }
}

fn paced_of<'r>(one: &Contender<'r>, size: usize) -> Option<&'r Paced> {
    one.transport.paced.iter().find(|paced| paced.size == size)
}

fn paced_at(view: &View<'_>, size: usize) -> Markup {
    let latencies = view.contenders.iter().filter_map(|one| Some((one, &paced_of(one, size)?.one_way)));
    let value = view.report.floors.one_line.median / 2.0;
    let floor = Floor { text: format!("half a ping-pong: {}", time(value)), value };
    let plot = rows(format!("One way, records of {}", bytes(size)), latencies, vec![floor]);
    let mut rates: Vec<f64> =
        view.contenders.iter().filter_map(|one| paced_of(one, size)).map(|one| one.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let rates: Vec<String> = rates.into_iter().map(rate).collect();
    plotted(
        plot.as_ref(),
        &html! {
            "From the time at which a record of " (bytes(size)) " was due to its receipt, at " (super::summary::list(&rates))
            ", fastest first: " (legend()) "."
        },
    )
}

fn paced_table(view: &View<'_>) -> Markup {
    let head = html! {
        tr { th { "Transport" } th { "Size" } th { "Rate" } (latency_heads()) th { "Lost" } th { "Bytes" } }
    };
    let body = html! {
        @for contender in &view.contenders {
            @for one in &contender.transport.paced {
                tr {
                    (name(contender))
                    td { (bytes(one.size)) }
                    td { (figure(one.rate, rate)) }
                    (latency_cells(&one.one_way))
                    (spread(&one.lost, share))
                    td { (figure(one.bytes as f64, whole)) }
                }
            }
        }
    };
    folded("All figures: one way, at a fixed rate", &head, &body)
}
