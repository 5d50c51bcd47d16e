//! The first answer: how many times as good is the ring as the best of the others, size by size, and where it is not.

use maud::{Markup, html};

use super::super::result::{Claim, Figure, Spread};
use super::numbers::{bytes, rate, share, time, times};
use super::plot::{Axis, Dot, Floor, Ink, Mark, Row, Rows};
use super::table::{absent, figure, folded, mention, plain, plotted};
use super::view::{Contender, View};

/// Medians that differ by less than this are even.
const EVEN: f64 = 1.05;
/// Medians that differ by less than this are even, too, if the rounds' values overlap.
const NEAR: f64 = 1.25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wins,
    Even,
    Loses,
}

/// A claim, judged: a ratio of 1.005 is no victory.
pub(super) fn verdict(view: &View<'_>, claim: &Claim) -> Verdict {
    let apart = claim.ratio.max(1.0 / claim.ratio);
    let overlap = || match (values(view, claim, &claim.ring), values(view, claim, &claim.rival)) {
        (Some(ring), Some(rival)) => ring.min <= rival.max && rival.min <= ring.max,
        _ => false,
    };
    if apart < EVEN || (apart < NEAR && overlap()) {
        Verdict::Even
    } else if claim.ratio > 1.0 {
        Verdict::Wins
    } else {
        Verdict::Loses
    }
}

fn values(view: &View<'_>, claim: &Claim, name: &str) -> Option<Spread> {
    let contender = view.named(name)?;
    match claim.figure {
        Figure::Latency => contender.ping_pong(claim.size).map(|one| one.round_trip.p50),
        Figure::Throughput => contender.throughput(claim.size).map(|one| one.records_per_second),
    }
}

pub(super) fn section(view: &View<'_>) -> Markup {
    let claims = &view.report.claims;
    html! {
        section #summary {
            h2 { "The ring against the best of the others" }
            @if claims.is_empty() {
                (absent())
                p { "That takes a ring and another transport in one run." }
            } @else {
                (told(view))
                (plotted(ratios(view).as_ref(), &caption()))
                (folded("All figures of this comparison", &head(), &html! { @for claim in claims { (row(view, claim)) } }))
                h3 { "Every ring, not only the fastest" }
                p {
                    "The fastest ring may keep a processor busy while it waits. So here is each of them against the same rival: how many \
                     times as good it is as the best transport that is no ring."
                }
                (every_ring(view, Figure::Latency, "Round trip"))
                (every_ring(view, Figure::Throughput, "Throughput"))
            }
        }
    }
}

fn word(figure: Figure) -> &'static str {
    match figure {
        Figure::Latency => "round trip",
        Figure::Throughput => "throughput",
    }
}

fn written(figure: Figure) -> fn(f64) -> String {
    match figure {
        Figure::Latency => time,
        Figure::Throughput => rate,
    }
}

/// In words.
fn told(view: &View<'_>) -> Markup {
    let of = |figure| view.claims(figure);
    html! {
        @for figure in [Figure::Latency, Figure::Throughput] {
            @let claims = of(figure);
            @if !claims.is_empty() {
                p.lead { (sentence(view, figure, &claims)) }
            }
        }
    }
}

fn sentence(view: &View<'_>, figure: Figure, claims: &[&Claim]) -> Markup {
    let sizes = |wanted: Verdict| {
        let found = claims.iter().filter(|claim| verdict(view, claim) == wanted);
        found.map(|claim| bytes(claim.size)).collect::<Vec<_>>()
    };
    let (wins, even, loses) = (sizes(Verdict::Wins), sizes(Verdict::Even), sizes(Verdict::Loses));
    let ratios = || claims.iter().filter(|claim| verdict(view, claim) == Verdict::Wins).map(|claim| claim.ratio);
    let (least, most) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
    let range = if times(least) == times(most) { times(most) } else { format!("{} to {}", times(least), times(most)) };
    html! {
        strong { (capital(word(figure))) ": " }
        @if wins.is_empty() {
            "the ring wins at none of the sizes"
        } @else {
            "the ring wins at " @if wins.len() == claims.len() { "every size" } @else { (list(&wins)) }
            ", and is " (range) " as good as the best of the others"
        }
        @if !even.is_empty() { "; it is no better and no worse at " (list(&even)) }
        @if !loses.is_empty() { "; it " strong { "loses" } " at " (list(&loses)) }
        "."
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

fn caption() -> Markup {
    html! {
        "How many times as good is the fastest ring as the best transport that is no ring, by the size of records: medians of the rounds. \
         To the right of 1× the ring wins, to the left of it, in blue, it loses. Grey: even, that is medians within 5 %, or within 25 % where the rounds overlap."
    }
}

fn ratios(view: &View<'_>) -> Option<Rows> {
    let claims = &view.report.claims;
    let axis = Axis::log(claims.iter().map(|claim| claim.ratio).chain([0.8, 1.25]), times)?;
    let row = |claim: &Claim| {
        let (ink, strong) = match verdict(view, claim) {
            Verdict::Wins => (Ink::Ring, true),
            Verdict::Even => (Ink::Quiet, false),
            Verdict::Loses => (Ink::Worse, true),
        };
        Row {
            label: format!("{}, {}", word(claim.figure), bytes(claim.size)),
            ink,
            strong,
            dots: vec![Dot { value: claim.ratio, mark: Mark::Disc }],
            range: None,
            bar_from: Some(1.0),
        }
    };
    Some(Rows {
        title: "How many times as good is the ring as the best of the others".to_owned(),
        values: "ratio, logarithmic".to_owned(),
        written: "ring / best other".to_owned(),
        axis,
        rows: claims.iter().map(row).collect(),
        floors: vec![Floor { text: "even".to_owned(), value: 1.0 }],
    })
}

fn head() -> Markup {
    html! {
        tr {
            th { "Figure" } th { "Size" } th { "Ratio" } th {} th.word { "Best ring" } th {} th.word { "Best other" } th {}
        }
    }
}

fn row(view: &View<'_>, claim: &Claim) -> Markup {
    let written = written(claim.figure);
    let verdict = verdict(view, claim);
    let name = |name: &str| match view.named(name) {
        Some(contender) => mention(contender),
        None => html! { code { (name) } },
    };
    html! {
        tr {
            th scope="row" { (word(claim.figure)) }
            td { (bytes(claim.size)) }
            td { strong { (figure(claim.ratio, times)) } }
            td.word {
                @match verdict { Verdict::Wins => "wins", Verdict::Even => "even", Verdict::Loses => strong { "loses" } }
            }
            td.word { (name(&claim.ring)) }
            td { (figure(claim.ring_value, written)) }
            td.word { (name(&claim.rival)) }
            td { (figure(claim.rival_value, written)) }
        }
    }
}

/// A row for each ring, a column for each size.
fn every_ring(view: &View<'_>, figure: Figure, title: &str) -> Markup {
    let claims = view.claims(figure);
    let ratio = |ring: &Contender<'_>, claim: &Claim| {
        let value = match figure {
            Figure::Latency => claim.rival_value / ring.round_trip(claim.size)?,
            Figure::Throughput => ring.rate(claim.size)? / claim.rival_value,
        };
        Some(value).filter(|value| value.is_finite())
    };
    let head = html! {
        tr { th { (title) ", times as good" } @for claim in &claims { th { (bytes(claim.size)) } } th.word { "Waits" } }
        tr.against { th scope="row" { "against" } @for claim in &claims { td { (claim.rival) } } td {} }
    };
    let body = html! {
        @for ring in view.rings() {
            tr {
                th scope="row" { (ring.transport.name) }
                @for claim in &claims {
                    @match ratio(ring, claim) {
                        Some(ratio) => td.(shade(ratio)) { (times(ratio)) },
                        None => td.none { "–" },
                    }
                }
                td.word {
                    @if ring.sleeps() { "asleep" } @else { "awake" }
                    @if let Some(idle) = &ring.transport.idle { ", " (share(idle.cpu_share.median)) " of a processor" }
                }
            }
        }
    };
    if claims.is_empty() {
        html! {}
    } else {
        plain(&head, &body)
    }
}

fn shade(ratio: f64) -> &'static str {
    match ratio {
        much if much >= 10.0 => "much-better",
        better if better >= EVEN => "better",
        even if even > 1.0 / EVEN => "even",
        _ => "behind",
    }
}
