//! "Which one should I use?": five questions, each answered by figures of this run and by the transports' rules.

use maud::{Markup, html};

use super::super::result::{Family, Figure, Loss, Reach, Transport};
use super::numbers::{bytes, count, percent, rate, share, time, times};
use super::readers::way;
use super::summary::{Verdict, list, verdict};
use super::table::{absent, best, cards, cell, figure, folded, mention, name};
use super::view::{ASLEEP, Contender, View, family};

pub(super) fn section(view: &View<'_>) -> Markup {
    html! {
        section #which {
            h2 { "Which one should I use?" }
            @match view.small() {
                Some(size) if view.contenders.iter().any(|one| one.ping_pong(size).or(None).is_some() || one.throughput(size).is_some()) => {
                    p {
                        "Five questions decide. Each answer is computed from the figures of this very run and from the rules of the transports \
                         that took part in it, at " (bytes(size)) " a record where nothing else is said."
                    }
                    (needs(view, size))
                    (speed(view, size))
                    (connected(view, size))
                    (reach(view, size))
                    (access(view, size))
                    (races(view, size))
                    (rules(view))
                }
                _ => {
                    (absent())
                    (rules(view))
                }
            }
        }
    }
}

/// A need, who meets it best, and by which figure.
struct Need<'v, 'r> {
    need: String,
    best: Option<(&'v Contender<'r>, f64)>,
    written: fn(f64) -> String,
}

fn needs(view: &View<'_>, size: usize) -> Markup {
    let fastest = |may: &dyn Fn(&Contender<'_>) -> bool| {
        view.least(|one| one.carries(size) && may(one), |one| one.round_trip(size))
    };
    let rules = |one: &Contender<'_>| one.transport.rules.clone();
    let mut needs = vec![
        Need { need: "The shortest round trip, whatever it costs".to_owned(), best: fastest(&|_| true), written: time },
        Need {
            need: "The shortest round trip with a receiver that sleeps while nothing comes".to_owned(),
            best: fastest(&|one| one.sleeps()),
            written: time,
        },
        Need {
            need: "No shared memory: the kernel between the two".to_owned(),
            best: fastest(&|one| is_kernel(one)),
            written: time,
        },
        Need {
            need: format!("The most records of {}", bytes(size)),
            best: view.most(|one| one.carries(size), |one| one.rate(size)),
            written: rate,
        },
    ];
    if let Some(large) = view.large() {
        needs.push(Need {
            need: format!("The most records of {}", bytes(large)),
            best: view.most(|one| one.carries(large), |one| one.rate(large)),
            written: rate,
        });
    }
    if let Some(receivers) = view.most_receivers().filter(|receivers| *receivers > 1) {
        needs.push(Need {
            need: format!("The same records for {}", count(receivers, "receiver")),
            best: view.most(|_| true, |one| one.fan_out(receivers)),
            written: rate,
        });
    }
    needs.extend([
        Need {
            need: "Processes that know nothing of each other but a name".to_owned(),
            best: fastest(&|one| rules(one).reach == Reach::Host),
            written: time,
        },
        Need {
            need: "Other machines, too".to_owned(),
            best: fastest(&|one| rules(one).reach == Reach::Network),
            written: time,
        },
        Need {
            need: "One loop that waits for many things (epoll)".to_owned(),
            best: fastest(&|one| rules(one).pollable),
            written: time,
        },
        Need {
            need: "Nothing to clean up after a crash".to_owned(),
            best: fastest(&|one| !rules(one).outlives),
            written: time,
        },
    ]);
    let body = html! {
        @for need in &needs {
            @if let Some((best, value)) = need.best {
                tr {
                    th scope="row" { (need.need) }
                    (cell("Best here", "word", &mention(best)))
                    (cell("Its figure", "", &figure(value, need.written)))
                }
            }
        }
    };
    cards(&["You need", "Best here", "Its figure"], &body)
}

/// Its bytes go through the kernel.
fn is_kernel(one: &Contender<'_>) -> bool {
    matches!(one.transport.family, Family::Pipe | Family::Socket | Family::Queue)
}

fn speed(view: &View<'_>, size: usize) -> Markup {
    let fastest = view.least(|one| one.carries(size), |one| one.round_trip(size));
    let asleep = view.least(|one| one.carries(size) && one.sleeps(), |one| one.round_trip(size));
    let other = view.least(|one| one.carries(size) && !one.is_ring(), |one| one.round_trip(size));
    let floor = view.report.floors.one_line.median;
    let even = |figure| {
        let claims = view.claims(figure);
        let even = claims.into_iter().filter(|claim| verdict(view, claim) != Verdict::Wins);
        even.map(|claim| bytes(claim.size)).collect::<Vec<_>>()
    };
    let even = (even(Figure::Latency), even(Figure::Throughput));
    html! {
        h3 { "1. How fast must it be?" }
        ul {
            @if let Some((best, value)) = fastest {
                li {
                    "The shortest round trip is that of " (mention(best)) ": " (time(value))
                    @if floor > 0.0 { ", " (times(value / floor)) " a bare ping-pong over one cache line" }
                    "."
                    @if let Some((other, its)) = other.filter(|(other, _)| other.transport.name != best.transport.name) {
                        " The best that is no ring, " (mention(other)) ", takes " (time(its)) ", " (times(its / value)) " as long."
                    }
                }
            }
            @match (fastest, asleep) {
                (Some((best, _)), Some((sleeper, value))) if sleeper.transport.name != best.transport.name => li {
                    "It keeps a processor busy while it waits"
                    @if let Some(idle) = &best.transport.idle { " (" (share(idle.cpu_share.median)) " of one)" }
                    ". Of those that use less than " (percent(ASLEEP)) ", " (mention(sleeper)) " is the fastest: " (time(value))
                    @if let Some(idle) = &sleeper.transport.idle { " at " (share(idle.cpu_share.median)) }
                    "."
                },
                _ => {}
            }
            @if let Some(slow) = paced_sleep(view) { li { (slow) } }
            @if !even.0.is_empty() { li { "Round trips of " (list(&even.0)) ": the ring is not clearly ahead; choose by the other questions." } }
            @if !even.1.is_empty() { li { "Throughput at " (list(&even.1)) ": the ring is not clearly ahead; choose by the other questions." } }
        }
        (families(view, size))
    }
}

/// At a fixed rate receivers fall asleep, and what counts is how they are woken.
fn paced_sleep(view: &View<'_>) -> Option<Markup> {
    let paced = |one: &Contender<'_>| one.transport.paced.first().map(|paced| paced.one_way.p50.median);
    let (ring, its) = view.least(|one| one.is_ring() && one.sleeps(), paced)?;
    let (other, theirs) = view.least(|one| !one.is_ring(), paced)?;
    let rate_of = ring.transport.paced.first().map(|paced| paced.rate)?;
    Some(html! {
        "At a fixed " (rate(rate_of)) " most receivers fall asleep between two records, and their wakeup decides: " (time(its)) " one way with "
        (mention(ring)) ", " (time(theirs)) " with " (mention(other)) "."
    })
}

/// The best of each family.
fn families(view: &View<'_>, size: usize) -> Markup {
    let large = view.large();
    let mut all: Vec<Family> = view.contenders.iter().map(|one| one.transport.family).collect();
    all.sort_unstable();
    all.dedup();
    let (round_trip, few) = (format!("Round trip, {}", bytes(size)), format!("Records, {}", bytes(size)));
    let many = large.map(|large| format!("Records, {}", bytes(large)));
    let p99 = |one: &Contender<'_>| one.ping_pong(size).map(|one| one.round_trip.p99.median);
    let idle = |one: &Contender<'_>| one.transport.idle.as_ref().map(|idle| idle.cpu_share.median);
    let body = html! {
        @for kind in all {
            @let of = |one: &Contender<'_>| one.transport.family == kind;
            tr {
                th scope="row" { (family(kind)) }
                (best(&round_trip, view.least(of, |one| one.round_trip(size)), time))
                (best("99 %", view.least(of, p99), time))
                (best(&few, view.most(of, |one| one.rate(size)), rate))
                @if let (Some(large), Some(many)) = (large, &many) { (best(many, view.most(of, |one| one.rate(large)), rate)) }
                (best("Idle", view.least(of, idle), share))
            }
        }
    };
    let heads = ["Best of its kind", &round_trip, "99 %", &few].into_iter().chain(many.as_deref()).chain(["Idle"]);
    cards(&heads.collect::<Vec<_>>(), &body)
}

/// Transports that have something in common.
type Group<'v, 'r> = (String, Vec<&'v Contender<'r>>);

fn groups<'v, 'r>(view: &'v View<'r>, key: impl Fn(&Transport) -> String) -> Vec<Group<'v, 'r>> {
    let mut groups: Vec<Group<'v, 'r>> = Vec::new();
    for one in &view.contenders {
        let key = key(one.transport);
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, members)) => members.push(one),
            None => groups.push((key, vec![one])),
        }
    }
    groups
}

/// A row for each group: who is in it, and the best figures of it.
fn grouped(view: &View<'_>, groups: &[Group<'_, '_>], title: &str, size: usize) -> Markup {
    const HEADS: [&str; 3] = ["Shortest round trip", "Most records", "Transports"];
    let body = html! {
        @for (key, members) in groups {
            @let of = |one: &Contender<'_>| {
                one.carries(size) && members.iter().any(|member| std::ptr::eq(member.transport, one.transport))
            };
            tr {
                th.prose scope="row" { (key) }
                (best(HEADS[0], view.least(of, |one| one.round_trip(size)), time))
                (best(HEADS[1], view.most(of, |one| one.rate(size)), rate))
                (cell(HEADS[2], "names", &html! { @for one in members { (mention(one)) " " } }))
            }
        }
    };
    cards(&[title, HEADS[0], HEADS[1], HEADS[2]], &body)
}

fn connected(view: &View<'_>, size: usize) -> Markup {
    let groups = groups(view, |one| {
        if one.rules.connected {
            "connected: the two sides know each other"
        } else {
            "not connected: they meet at a name or an object"
        }
        .to_owned()
    });
    let receivers = view.most_receivers().filter(|receivers| *receivers > 1);
    let kept = |one: &Contender<'_>, receivers: usize| Some(one.fan_out(receivers)? / one.fan_out(1)?);
    html! {
        h3 { "2. Connected, or not?" }
        p {
            "A connection is between two: each learns of the other's end, and each further receiver is a further connection. Without one the \
             sender leaves its records where any number of receivers find them, as on a notice board, and they may come and go."
        }
        (grouped(view, &groups, "Connected?", size))
        @if let Some(receivers) = receivers {
            @let fan_out = |connected: bool| view.most(|one| one.transport.rules.connected == connected, |one| one.fan_out(receivers));
            ul {
                @for (connected, words) in [(true, "with a connection to each"), (false, "without connections")] {
                    @if let Some((best, value)) = fan_out(connected) {
                        li {
                            "To " (count(receivers, "receiver")) " " (words) ", " (mention(best)) " brings the most: " (rate(value))
                            @if let Some(kept) = kept(best, receivers) { ", " (share(kept)) " of what it brings to one" }
                            ". It " (way(best.transport.rules.fan_out)) "."
                        }
                    }
                }
            }
        }
    }
}

fn reach(view: &View<'_>, size: usize) -> Markup {
    let mut groups = groups(view, |one| one.rules.reach_text.clone());
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.first().map(|one| one.transport.rules.reach)));
    let fastest = |network: bool| {
        view.least(
            |one| one.carries(size) && (one.transport.rules.reach == Reach::Network) == network,
            |one| one.round_trip(size),
        )
    };
    html! {
        h3 { "3. How far must it reach: this host, or the network?" }
        @match (fastest(true), fastest(false)) {
            (Some((far, slow)), Some((near, fast))) => p {
                "Only " (mention(far)) " and its like reach other machines. Even on this one, where no wire is in between, it takes " (time(slow))
                " there and back; " (mention(near)) ", which stays here, takes " (time(fast)) ": " (times(slow / fast))
                " is the price of a reach that you may not need."
            },
            (None, Some((near, fast))) => p {
                "Nothing in this run reaches other machines. On this one " (mention(near)) " is the fastest: " (time(fast)) " there and back."
            },
            (Some((far, slow)), None) => p { (mention(far)) " reaches other machines, and takes " (time(slow)) " there and back on this one." },
            (None, None) => {}
        }
        (grouped(view, &groups, "Reaches", size))
    }
}

fn access(view: &View<'_>, size: usize) -> Markup {
    let groups = groups(view, |one| one.rules.access.clone());
    let network: Vec<String> = view
        .contenders
        .iter()
        .filter(|one| one.transport.rules.reach == Reach::Network)
        .map(|one| one.label.clone())
        .collect();
    html! {
        h3 { "4. Who may come in?" }
        p {
            "What has a name has a mode, and the kernel asks it of everybody who opens it. A descriptor has whoever inherits it or is handed it, \
             and nobody else."
            @if !network.is_empty() {
                " A port has no mode: with " (list(&network)) " your program must ask who is there."
            }
        }
        (grouped(view, &groups, "May come in", size))
    }
}

fn races(view: &View<'_>, size: usize) -> Markup {
    let groups = groups(view, |one| one.rules.races.clone());
    let lost = |one: &Contender<'_>| {
        one.transport.throughput.iter().map(|one| one.lost.median).filter(|lost| lost.is_finite()).reduce(f64::max)
    };
    let losing: Vec<(&Contender<'_>, f64)> =
        view.contenders.iter().filter_map(|one| Some((one, lost(one)?))).filter(|(_, lost)| *lost > 0.0).collect();
    let measured = view.contenders.iter().filter(|one| lost(one).is_some()).count();
    html! {
        h3 { "5. What of races, and of losses?" }
        p {
            "The kernel keeps the records of its queues apart. In shared memory and in files nobody does unless the transport does it: so every \
             record of this run was checked by its sequence and by its bytes, as far as it has any, and one that was mixed with another would have ended the run."
        }
        (grouped(view, &groups, "Kept apart", size))
        @if measured > 0 {
            p {
                @if losing.is_empty() {
                    "At full speed none of the " (measured) " lost a record."
                } @else {
                    "At full speed records were lost by "
                    @for (number, (one, lost)) in losing.iter().enumerate() {
                        @if number > 0 { ", " }
                        (mention(one)) " (up to " (share(*lost)) @if one.transport.rules.loss == Loss::Silent { ", untold" } ")"
                    }
                    "; the other " (measured - losing.len()) " lost none."
                }
            }
        }
    }
}

/// What each can and cannot.
fn rules(view: &View<'_>) -> Markup {
    let head = html! {
        tr {
            th { "Transport" } th.word { "Reach" } th.word { "Connected" } th.word { "May come in" } th.word { "Losses" }
            th.word { "Several receivers" } th.word { "Kept apart by" } th.word { "The other's end" } th.word { "Borders" }
            th { "Longest record" } th.word { "Woken" } th.word { "epoll" } th.word { "Outlives" }
        }
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let body = html! {
        @for contender in &view.contenders {
            @let rules = &contender.transport.rules;
            tr {
                (name(contender))
                td.prose { (rules.reach_text) }
                td.word { (yes(rules.connected)) }
                td.prose { (rules.access) }
                td.prose { (rules.loss_text) }
                td.prose { (rules.fan_out_text) }
                td.prose { (rules.races) }
                td.prose { (rules.death) }
                td.word { @if rules.framed { "framed" } @else { "kept" } }
                td { (figure(rules.max_record as f64, |length| bytes(length as usize))) }
                td.prose { (rules.wake) }
                td.word { (yes(rules.pollable)) }
                td.word { (yes(rules.outlives)) }
            }
        }
    };
    folded("The rules of every transport", &head, &body)
}
