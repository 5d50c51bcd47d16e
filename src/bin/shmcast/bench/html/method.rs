//! Where and how it was measured: the head of the page, and its last section.

use maud::{Markup, html};

use super::super::result::Machine;
use super::numbers::{bandwidth, bytes, count, exact, percent, share, time};
use super::table::{plain, spread, swatch};
use super::view::{View, family, ink};

const GIB: f64 = (1_u64 << 30) as f64;

/// What was run, when and where.
pub(super) fn head(view: &View<'_>) -> Markup {
    let report = view.report;
    let machine = &report.machine;
    html! {
        header {
            h1 { "What does each way of talking cost on this machine?" }
            p.lead { "The classic ways for processes to talk, and the shmcast ring, measured side by side." }
            dl.facts {
                div { dt { "Date" } dd { time datetime=(report.date) { (date(&report.date)) } } }
                div { dt { "Command" } dd { code.command { @for word in report.command.split(' ') { span { (word) } " " } } } }
                div {
                    dt { "Run" }
                    dd {
                        "shmcast " (report.version) ", " (count(report.transports.len(), "transport")) ", " (count(report.rounds, "round")) ", "
                        (time(report.seconds * 1e9)) @if report.quick { ", " strong { "quick" } }
                    }
                }
                (facts(machine))
            }
            @if !report.warnings.is_empty() {
                div.warnings role="note" {
                    h2 { "What spoils these figures" }
                    ul { @for warning in &report.warnings { li { strong { (warning.kind) } " — " (marked(&warning.text)) } } }
                }
            }
            @if report.transports.is_empty() { p.absent { "No transport took part in this run." } }
        }
    }
}

fn facts(machine: &Machine) -> Markup {
    html! {
        div { dt { "Processor" } dd { (machine.cpu) ", " (machine.processors) " online, " (machine.architecture) } }
        div {
            dt { "Pinned to" }
            dd { "sender " (machine.sender_cpu) ", receivers " (machine.receiver_cpu) }
        }
        div { dt { "Memory" } dd { (format!("{:.1}", machine.memory_bytes as f64 / GIB)) " GiB" } }
        div { dt { "Kernel" } dd { (machine.kernel) } }
        div {
            dt { "Virtual machine" }
            dd { (machine.hypervisor.as_deref().unwrap_or("none that shows")) }
        }
        div { dt { "Governor" } dd { (machine.governor.as_deref().unwrap_or("none that shows")) } }
        div {
            dt { "Load before" }
            dd { @for (number, load) in machine.load.iter().enumerate() { @if number > 0 { ", " } (exact(*load)) } }
        }
        div {
            dt { "Taken by others" }
            dd {
                (machine.steal.map_or("–".to_owned(), share)) " by the host, "
                (machine.others.map_or("–".to_owned(), share)) " by other processes"
            }
        }
        @if machine.debug_build { div { dt { "Build" } dd { strong { "with debug assertions" } } } }
    }
}

/// What stands between backquotes is code.
fn marked(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// `2026-11-21T18:50:00Z`, for people.
fn date(date: &str) -> String {
    match (date.get(..10), date.get(11..16), date.ends_with('Z')) {
        (Some(day), Some(minute), true) => format!("{day}, {minute} UTC"),
        _ => date.to_owned(),
    }
}

pub(super) fn section(view: &View<'_>) -> Markup {
    let mut families: Vec<_> = view.contenders.iter().map(|one| one.transport.family).collect();
    families.sort_unstable();
    families.dedup();
    let noted: Vec<_> = view.contenders.iter().filter(|one| !one.transport.notes.is_empty()).collect();
    html! {
        section #method {
            h2 { "How it was measured" }
            dl.glossary {
                dt { "pinned" }
                dd { "The sender has one processor and the receivers another, each a process of its own." }
                dt { "interleaved" }
                dd { "In each round every transport has its turn, one behind the other, so that a bad minute strikes all alike." }
                dt { "verified" }
                dd { "Every record is written in full and read in full; its sequence and its bytes are checked. A wrong byte ends the run." }
                dt { "median and range" }
                dd {
                    "A figure is the median of the rounds; beside it, in small letters, stand the smallest and the largest of them. The "
                    code { "value" } " of each cell holds all digits."
                }
                dt { "no coordinated omission" }
                dd { "At a fixed rate a latency counts from the time at which its record was due, also if the sender came late." }
                dt { "round trip" }
                dd { "One record there and one back. It holds one look at the clock." }
                dt { "floor" }
                dd { "What no transport can beat, measured in the same rounds: cache lines that go to and fro, a look at the clock, a bare copy." }
                dt { "CPU time" }
                dd { "User and system time, as the kernel counts it, of one process." }
                dt { "asleep" }
                dd { "A receiver that uses less than " (percent(super::view::ASLEEP)) " of a processor while it waits." }
                dt { "size" }
                dd { "The column that was asked for. A transport that cannot carry it is absent, or carries fewer bytes: the tables say how many." }
            }
            h3 { "Floors" }
            (floors(view))
            @if !families.is_empty() {
                h3 { "Colours" }
                p.colours { @for one in families { span { (swatch(ink(one))) (family(one)) } } }
            }
            @if !noted.is_empty() {
                h3 { "What is missing, and why" }
                ul.notes {
                    @for one in noted { @for note in &one.transport.notes { li { strong { (one.transport.name) } ": " (marked(note)) } } }
                }
            }
        }
    }
}

fn floors(view: &View<'_>) -> Markup {
    let floors = &view.report.floors;
    let head = html! { tr { th { "Floor" } th { "Measured" } } };
    let body = html! {
        tr { th scope="row" { "ping-pong over one cache line" } (spread(&floors.one_line, time)) }
        tr { th scope="row" { "ping-pong over two cache lines" } (spread(&floors.two_lines, time)) }
        tr { th scope="row" { "a look at the clock" } (spread(&floors.clock, time)) }
        @for one in &floors.memcpy {
            tr { th scope="row" { "memcpy, " (bytes(one.size)) } (spread(&one.bytes_per_second, bandwidth)) }
        }
    };
    html! {
        (plain(&head, &body))
        p.note { "Measured in the same " (count(view.report.rounds, "round")) " as everything else." }
    }
}
