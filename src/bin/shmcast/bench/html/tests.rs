//! The page of a sample report, read by a parser of HTML: what is in it, and what must not be.

use std::collections::BTreeMap;

use scraper::{ElementRef, Html, Selector};

use super::super::result::{Claim, Family, Figure, Latency, Report, Spread, Transport};
use super::numbers::exact;
use super::{SECTIONS, render};

/// A run of a few transports, with a figure of each kind.
fn sample() -> Report {
    serde_json::from_str(include_str!("sample.json")).expect("the sample is a report")
}

fn parsed(report: &Report) -> Html {
    let page = Html::parse_document(&render(report));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    page
}

fn all<'p>(page: &'p Html, selector: &str) -> Vec<ElementRef<'p>> {
    page.select(&Selector::parse(selector).expect("a selector")).collect()
}

fn text(element: ElementRef<'_>) -> String {
    element.text().collect::<String>().replace('\u{a0}', " ")
}

fn count(page: &Html, selector: &str) -> usize {
    all(page, selector).len()
}

/// How often each number stands there.
type Numbers = BTreeMap<String, usize>;

fn add(numbers: &mut Numbers, values: impl IntoIterator<Item = f64>) {
    for value in values {
        *numbers.entry(exact(value)).or_default() += 1;
    }
}

fn spreads<'s>(spreads: impl IntoIterator<Item = &'s Spread>) -> Vec<f64> {
    spreads.into_iter().flat_map(|one| [one.median, one.min, one.max]).collect()
}

fn latency(one: &Latency) -> Vec<f64> {
    let mut all = spreads([&one.min, &one.p50, &one.p90, &one.p99, &one.p999, &one.max, &one.mean]);
    all.push(one.count as f64);
    all
}

/// The numbers in the tables that unfold in a section.
fn shown(page: &Html, section: &str) -> Numbers {
    let mut numbers = Numbers::new();
    for data in all(page, &format!("section#{section} > details > .scroll data")) {
        *numbers.entry(data.attr("value").expect("a value").to_owned()).or_default() += 1;
    }
    numbers
}

/// The numbers that the report has for that section.
fn of(report: &Report, values: impl Fn(&Transport) -> Vec<f64>) -> Numbers {
    let mut numbers = Numbers::new();
    add(&mut numbers, report.transports.iter().flat_map(values));
    assert!(!numbers.is_empty(), "the sample has none of these");
    numbers
}

#[test]
fn every_section_is_there_and_named_in_the_contents() {
    let page = parsed(&sample());
    let sections: Vec<_> =
        all(&page, "main > section").iter().map(|one| one.attr("id").unwrap_or("").to_owned()).collect();
    assert_eq!(sections, SECTIONS.map(|(mark, ..)| mark));
    let links: Vec<_> = all(&page, "nav a").iter().map(|one| one.attr("href").unwrap_or("").to_owned()).collect();
    assert_eq!(links, SECTIONS.map(|(mark, ..)| format!("#{mark}")));
    assert_eq!(count(&page, "section#which h3"), 5, "five questions");
    assert_eq!(count(&page, ".absent"), 0, "the sample has figures of each kind");
}

#[test]
fn each_plot_is_there_for_wide_pages_and_for_phones() {
    let page = parsed(&sample());
    let at_least = [
        ("summary", 1),
        ("latency", 3),
        ("paced", 1),
        ("throughput", 2),
        ("cpu", 1),
        ("fan-out", 1),
        ("attached", 1),
        ("idle", 1),
    ];
    for (section, plots) in at_least {
        let here = count(&page, &format!("section#{section} > figure.plot"));
        assert_eq!(here, plots, "{section}");
    }
    for figure in all(&page, "figure.plot") {
        let classes: Vec<_> = figure.child_elements().map(|child| child.attr("class").unwrap_or("caption")).collect();
        assert_eq!(classes, ["wide", "phone", "caption"]);
        for svg in figure.child_elements().take(2) {
            assert!(svg.attr("aria-label").is_some_and(|label| !label.is_empty()));
            let drawn = svg.child_elements().filter(|one| one.value().name() != "text").count();
            assert!(drawn > 3, "an empty picture: {}", svg.html());
        }
    }
}

/// A series of the report is a series of the plot: named once on each page, with a mark at each of its points.
#[test]
fn a_plot_has_every_transport() {
    let report = sample();
    let page = parsed(&report);
    for (section, has) in [
        ("paced", (|one: &Transport| !one.paced.is_empty()) as fn(&Transport) -> bool),
        ("idle", |one| one.idle.is_some()),
        ("fan-out", |one| !one.fan_out.is_empty()),
        ("attached", |one| !one.attached.is_empty()),
    ] {
        let texts: Vec<String> = all(&page, &format!("section#{section} > figure svg.wide text"))
            .into_iter()
            .map(|one| text(one).trim().to_owned())
            .collect();
        for contender in super::View::of(&report).contenders {
            let named = texts.iter().filter(|text| **text == contender.label).count();
            assert_eq!(named, usize::from(has(contender.transport)), "{} in {section}: {texts:?}", contender.label);
        }
    }
}

#[test]
fn nothing_is_fetched() {
    let page = render(&sample());
    assert!(!page.contains("http"), "an address");
    assert!(!page.contains("url(") && !page.contains("@import"), "a resource of the style sheet");
    let page = Html::parse_document(&page);
    assert_eq!(count(&page, "[src], [srcset], link, iframe, object, embed, img, use"), 0);
    assert!(all(&page, "[href]").iter().all(|one| one.attr("href").is_some_and(|to| to.starts_with('#'))));
}

#[test]
fn tables_hold_exactly_the_figures_of_the_report() {
    let report = sample();
    let page = parsed(&report);
    let percentiles = |one: &Transport| {
        let round_trips = one.ping_pong.iter().flat_map(|one| {
            let points = one.round_trip.points.iter().map(|point| point.ns);
            [vec![one.bytes as f64], latency(&one.round_trip), points.collect()].concat()
        });
        round_trips.collect::<Vec<f64>>()
    };
    assert_eq!(shown(&page, "latency"), of(&report, percentiles));
    let paced = |one: &Transport| {
        let paced = one
            .paced
            .iter()
            .flat_map(|one| [vec![one.bytes as f64, one.rate], latency(&one.one_way), spreads([&one.lost])].concat());
        paced.collect()
    };
    assert_eq!(shown(&page, "paced"), of(&report, paced));
    let throughput = |one: &Transport| {
        let throughput = one.throughput.iter().flat_map(|one| {
            [vec![one.bytes as f64], spreads([&one.records_per_second, &one.bytes_per_second, &one.lost])].concat()
        });
        throughput.collect()
    };
    assert_eq!(shown(&page, "throughput"), of(&report, throughput));
    let cpu = |one: &Transport| {
        let cpu = one
            .throughput
            .iter()
            .flat_map(|one| [vec![one.bytes as f64], spreads([&one.sender_cpu, &one.receiver_cpu])].concat());
        cpu.collect()
    };
    assert_eq!(shown(&page, "cpu"), of(&report, cpu));
    let fan_out = |one: &Transport| {
        let fan_out = one.fan_out.iter().flat_map(|one| {
            let figures = spreads([&one.records_per_second, &one.lost, &one.sender_cpu]);
            [vec![one.bytes as f64, one.receivers as f64], figures].concat()
        });
        fan_out.collect()
    };
    assert_eq!(shown(&page, "fan-out"), of(&report, fan_out));
    let attached = |one: &Transport| {
        let attached = one
            .attached
            .iter()
            .flat_map(|one| [vec![one.readers as f64, one.bytes as f64], spreads([&one.publish])].concat());
        attached.collect()
    };
    assert_eq!(shown(&page, "attached"), of(&report, attached));
    let idle = |one: &Transport| {
        one.idle.iter().flat_map(|one| [vec![one.waited], spreads([&one.cpu_share])].concat()).collect()
    };
    assert_eq!(shown(&page, "idle"), of(&report, idle));
    let mut claims = Numbers::new();
    add(&mut claims, report.claims.iter().flat_map(|one| [one.ratio, one.ring_value, one.rival_value]));
    assert_eq!(shown(&page, "summary"), claims);
}

/// Wherever a number stands outside these tables, the report has it, too.
#[test]
fn no_figure_is_made_up() {
    let report = sample();
    let page = parsed(&report);
    let json = serde_json::to_value(&report).expect("a report is JSON");
    let mut known = std::collections::BTreeSet::new();
    fn collect(value: &serde_json::Value, known: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Number(number) => {
                known.extend(number.as_f64().map(exact));
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, known)),
            serde_json::Value::Object(values) => values.values().for_each(|value| collect(value, known)),
            _ => {}
        }
    }
    collect(&json, &mut known);
    for data in all(&page, "data") {
        let value = data.attr("value").expect("a value");
        assert!(known.contains(value), "{value} ({}) is no figure of the report", text(data));
    }
}

#[test]
fn names_and_texts_are_escaped() {
    let mut report = sample();
    let evil = "<script>alert(1)</script>\"'`<i>code</i>`&amp;";
    report.command = evil.to_owned();
    report.machine.cpu = evil.to_owned();
    report.warnings[0].text = evil.to_owned();
    report.date = evil.to_owned();
    for transport in &mut report.transports {
        for claim in &mut report.claims {
            for name in [&mut claim.ring, &mut claim.rival] {
                if *name == transport.name {
                    *name = format!("{name}{evil}");
                }
            }
        }
        transport.name.push_str(evil);
        transport.wait = None;
        transport.rules.access.push_str(evil);
        transport.rules.races.push_str(evil);
        transport.notes.push(evil.to_owned());
    }
    let page = parsed(&report);
    assert_eq!((count(&page, "script"), count(&page, "i")), (1, 0), "only the page's own script");
    let names: Vec<String> = all(&page, "section#paced details th[scope=row]").into_iter().map(text).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.ends_with(evil)), "{names:?}");
    let labels: Vec<String> = all(&page, "section#paced svg.wide text").into_iter().map(text).collect();
    assert!(labels.iter().any(|label| label.trim().ends_with(evil)), "{labels:?}");
}

/// What `--only` and one size leave of a report.
#[test]
fn what_is_missing_breaks_nothing() {
    let whole = sample();
    let sections = SECTIONS.len();
    let mut nothing = whole.clone();
    nothing.transports.clear();
    nothing.claims.clear();
    nothing.warnings.clear();
    nothing.sizes.clear();
    nothing.floors.memcpy.clear();
    let page = parsed(&nothing);
    assert_eq!((count(&page, "main > section"), count(&page, "figure")), (sections, 0));
    assert_eq!(count(&page, "section .absent"), sections - 1, "all but how it was measured");
    assert_eq!(count(&page, ".warnings"), 0);

    let mut unmeasured = whole.clone();
    unmeasured.claims.clear();
    for transport in &mut unmeasured.transports {
        transport.ping_pong.clear();
        transport.paced.clear();
        transport.throughput.clear();
        transport.fan_out.clear();
        transport.attached.clear();
        transport.idle = None;
    }
    let page = parsed(&unmeasured);
    assert_eq!((count(&page, "main > section"), count(&page, "figure.plot svg.wide circle")), (sections, 0));

    for transport in &whole.transports {
        for size in &whole.sizes {
            let mut one = whole.clone();
            let name = &transport.name;
            one.transports.retain(|other| other.name == *name);
            one.claims.clear();
            one.sizes = vec![*size];
            for kept in &mut one.transports {
                kept.ping_pong.retain(|one| one.size == *size);
                kept.throughput.retain(|one| one.size == *size);
            }
            let page = parsed(&one);
            assert_eq!(count(&page, "main > section"), sections, "{name} at {size}");
            // A line over sizes would be a dot: one size has rows.
            let carried = one.transports.iter().any(|kept| !kept.throughput.is_empty());
            assert_eq!(count(&page, "section#throughput > figure"), usize::from(carried), "{name} at {size}");
        }
    }
}

/// Numbers that no clock and no division should yield, but might.
#[test]
fn strange_numbers_break_nothing() {
    let strange = [0.0, -1.0, f64::INFINITY, f64::NAN, 1e-300, 1e300];
    for value in strange {
        let mut report = sample();
        let spread = Spread { median: value, min: value, max: value };
        report.floors.one_line = spread;
        report.floors.memcpy[0].bytes_per_second = spread;
        for claim in &mut report.claims {
            claim.ratio = value;
        }
        for transport in &mut report.transports {
            for one in &mut transport.ping_pong {
                one.round_trip.p50 = spread;
                one.round_trip.points.iter_mut().for_each(|point| point.ns = value);
            }
            for one in &mut transport.throughput {
                (one.records_per_second, one.bytes_per_second) = (spread, spread);
                (one.sender_cpu, one.receiver_cpu) = (spread, spread);
            }
            transport.fan_out.iter_mut().for_each(|one| one.records_per_second = spread);
            transport.attached.iter_mut().for_each(|one| one.publish = spread);
            transport.idle.iter_mut().for_each(|one| one.cpu_share = spread);
        }
        let page = parsed(&report);
        assert_eq!(count(&page, "main > section"), SECTIONS.len(), "{value}");
        for svg in all(&page, "svg") {
            let picture = svg.html();
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{value}: {picture}");
        }
    }
}

#[test]
fn warnings_stand_before_the_figures() {
    let report = sample();
    let page = render(&report);
    let warning = page.find("What spoils these figures").expect("the sample has warnings");
    assert!(warning < page.find("<main").expect("a main part"));
    let page = parsed(&report);
    assert_eq!(count(&page, "header .warnings li"), report.warnings.len());
}

/// Wins, draws and losses are told as they are.
#[test]
fn a_defeat_is_told() {
    let mut report = sample();
    let ring = report.transports.iter().find(|one| one.family == Family::Ring).expect("a ring").clone();
    let rival = report.transports.iter().find(|one| one.family == Family::Pipe).expect("a pipe").clone();
    let size = report.sizes[0];
    let claim = |ratio: f64| Claim {
        figure: Figure::Latency,
        size,
        ring: ring.name.clone(),
        ring_value: 1000.0 / ratio,
        rival: rival.name.clone(),
        rival_value: 1000.0,
        ratio,
        wins: ratio > 1.0,
    };
    let told = |report: &Report| text(all(&parsed(report), "section#summary p.lead")[0]);
    report.claims = vec![claim(0.5)];
    assert!(told(&report).contains("wins at none") && told(&report).contains("it loses at"), "{}", told(&report));
    report.claims = vec![claim(1.02)];
    assert!(told(&report).contains("no better and no worse") && !told(&report).contains("loses"), "{}", told(&report));
    report.claims = vec![claim(2.0)];
    assert!(told(&report).contains("wins at every size") && told(&report).contains("2.00×"), "{}", told(&report));
    report.claims = vec![claim(2.0), claim(0.5)];
    assert!(told(&report).contains("loses at") && !told(&report).contains("every size"), "{}", told(&report));
}

/// The answers are those of the figures: with others there are others.
#[test]
fn advice_follows_the_figures() {
    let mut report = sample();
    let need = |report: &Report, need: &str| {
        let page = parsed(report);
        let row = all(&page, "section#which .cards tr").into_iter().find(|row| text(*row).starts_with(need));
        row.map(|row| text(row.child_elements().nth(1).expect("whose it is")))
    };
    let fastest = "The shortest round trip, whatever";
    assert!(need(&report, fastest).is_some_and(|name| name.starts_with("ring-")));
    let tcp = report.transports.iter_mut().find(|one| one.name == "tcp").expect("the sample has TCP");
    for one in &mut tcp.ping_pong {
        one.round_trip.p50.median = 1.0;
    }
    assert_eq!(need(&report, fastest).as_deref(), Some("tcp"));
    assert_eq!(need(&report, "Other machines").as_deref(), Some("tcp"));
    report.transports.retain(|one| one.name != "tcp" && !one.name.starts_with("udp"));
    assert_eq!(need(&report, "Other machines"), None);
    // A ring that wins by staying awake is no answer for those who want to sleep.
    for ring in report.transports.iter_mut().filter(|one| one.family == Family::Ring) {
        ring.idle.iter_mut().for_each(|idle| idle.cpu_share.median = 1.0);
    }
    let asleep = need(&report, "The shortest round trip with a receiver that sleeps").expect("a pipe sleeps");
    assert!(!asleep.starts_with("ring-"), "{asleep}");
}
