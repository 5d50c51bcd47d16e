//! The report of a run as one page: HTML with its plots and its style in it, that needs no network and no scripts.
//!
//! ```text
//!   Report ── View::of ─▶ View: names, colours ─▶ one function for each section ─▶ Markup ─▶ the page
//!                                                   └── plot::{Lines, Rows} ─▶ SVG, for wide pages and for phones
//! ```
//!
//! Every text of the report is escaped by `maud`, every text in a plot by `plotters`. A figure is shown with three digits, and
//! stands with all of them in the `value` of its `<data>`.

mod advice;
mod latency;
mod method;
mod numbers;
mod plot;
mod readers;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod throughput;
mod view;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::result::Report;
use view::View;

const STYLE: &str = include_str!("style.css");
/// Opens the tables for a printer. The page can be read without it.
const SCRIPT: &str = include_str!("script.js");

/// The mark to jump to, the name in the contents, and what writes it.
type Section = (&'static str, &'static str, fn(&View<'_>) -> Markup);

/// Every section, in its order.
const SECTIONS: [Section; 10] = [
    ("summary", "Summary", summary::section),
    ("which", "Which one should I use?", advice::section),
    ("latency", "Latency", latency::section),
    ("paced", "At a fixed rate", latency::paced_section),
    ("throughput", "Throughput", throughput::section),
    ("cpu", "CPU time", throughput::cpu_section),
    ("fan-out", "Fan-out", readers::fan_out_section),
    ("attached", "Attached readers", readers::attached_section),
    ("idle", "Idle cost", readers::idle_section),
    ("method", "How it was measured", method::section),
];

/// The page.
pub(crate) fn render(report: &Report) -> String {
    let view = View::of(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "shmcast bench, " (report.date) }
                style { (PreEscaped(plot::css())) (PreEscaped(STYLE)) }
            }
            body {
                (method::head(&view))
                nav aria-label="Contents" {
                    @for (mark, name, _) in SECTIONS { a href={ "#" (mark) } { (name) } }
                }
                main { @for (_, _, section) in SECTIONS { (section(&view)) } }
                footer { "Written by shmcast " (report.version) "." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}
