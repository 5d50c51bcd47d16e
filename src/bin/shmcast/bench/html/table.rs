//! Tables, whose cells hold every digit besides the few that are shown.

use maud::{Markup, html};

use super::super::result::Spread;
use super::numbers::exact;
use super::plot::{Ink, Plot, svg};
use super::view::Contender;

/// A value of the report: the text is for people, the `value` for programs.
pub(super) fn figure(value: f64, written: impl Fn(f64) -> String) -> Markup {
    html! { data value=(exact(value)) { (written(value)) } }
}

/// The cell of a figure: its median, and between what it was in the rounds.
pub(super) fn spread(spread: &Spread, written: impl Fn(f64) -> String) -> Markup {
    // Its unit once, if both have the same.
    let unit = |text: &str| text.split_once('\u{a0}').map(|(_, unit)| unit.to_owned());
    let same = unit(&written(spread.min)) == unit(&written(spread.max));
    let low = |value: f64| {
        let text = written(value);
        text.split_once('\u{a0}').filter(|_| same).map_or(text.clone(), |(number, _)| number.to_owned())
    };
    html! {
        td {
            (figure(spread.median, &written))
            small { (figure(spread.min, low)) "–" (figure(spread.max, &written)) }
        }
    }
}

/// A table that scrolls by itself where it is wider than the page, behind a line that opens it.
pub(super) fn folded(summary: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        details {
            summary { (summary) }
            (plain(head, body))
        }
    }
}

/// A table that scrolls by itself where it is wider than the page.
pub(super) fn plain(head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table {
                thead { (head) }
                tbody { (body) }
            }
        }
    }
}

/// A table with few rows and long texts, each row of which is a card on a phone. Its cells are [`cell`]s.
pub(super) fn cards(heads: &[&str], body: &Markup) -> Markup {
    html! {
        div.scroll.cards tabindex="0" {
            table {
                thead { tr { @for head in heads { th { (head) } } } }
                tbody { (body) }
            }
        }
    }
}

/// A cell of a card, with the head of its column, which a card has not.
pub(super) fn cell(head: &str, class: &str, inner: &Markup) -> Markup {
    html! { td class=(class) data-head=(head) { (inner) } }
}

/// The figure of a card, and whose it is.
pub(super) fn best(head: &str, found: Option<(&Contender<'_>, f64)>, written: fn(f64) -> String) -> Markup {
    let inner = match found {
        Some((contender, value)) => html! { (figure(value, written)) small { (contender.label) } },
        None => html! { "–" },
    };
    cell(head, "", &inner)
}

/// A transport's name, in its colour, as a row's first cell.
pub(super) fn name(contender: &Contender<'_>) -> Markup {
    html! { th scope="row" { (swatch(contender.ink)) (contender.transport.name) } }
}

/// A transport's name within a sentence.
pub(super) fn mention(contender: &Contender<'_>) -> Markup {
    html! { code.(contender.ink.name()) { (contender.transport.name) } }
}

/// A drop of a colour.
pub(super) fn swatch(ink: Ink) -> Markup {
    html! { span.swatch style={ "background:var(--" (ink.name()) ")" } {} }
}

/// A plot with what stands under it, or nothing where there is nothing to draw.
pub(super) fn plotted(plot: Option<&impl Plot>, caption: &Markup) -> Markup {
    match plot.filter(|plot| !plot.is_empty()) {
        Some(plot) => html! {
            figure.plot {
                (maud::PreEscaped(svg(plot)))
                figcaption { (caption) }
            }
        },
        None => html! {},
    }
}

/// What a section says that has no figures.
pub(super) fn absent() -> Markup {
    html! { p.absent { "Not measured in this run." } }
}
