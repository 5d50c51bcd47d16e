//! The rounds: which measurements, in which order, how long each; and the report of what they found.
//!
//! ```text
//!   round:   floors │ ping-pong 8 B: A B C ... │ ping-pong 64 B: A B C ... │ ... │ fan-out to 8: A B C ... │ idle: A B C ...
//! ```
//! Contenders are compared that were measured one behind the other, and who is first goes round. The time of a measurement follows from the
//! budget; the first round finds out how many records fill it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::contenders::{Contender, rules};
use super::crew::{Crew, Outcome, Trouble};
use super::figures::Collected;
use super::machine::{Before, warnings};
use super::measure::{Workload, floors, measure};
use super::result::{Claim, Family, Figure, Floors, Memcpy, Report, SCHEMA, Spread, Transport, Warning};
use super::work::Task;
use crate::Failure;

/// Records each second of the paced workload.
const RATE: f64 = 10_000.0;
/// Receivers of the fan-out.
const RECEIVERS: [usize; 4] = [1, 2, 4, 8];
/// Readers that are there and do not read.
const READERS: [usize; 4] = [0, 1, 8, 64];
/// Records of the workloads that have one size only.
const SMALL: usize = 64;
/// What a measurement costs beside its slice: forks, connections, ends.
const OVERHEAD: Duration = Duration::from_millis(12);
/// What the first round costs more, because it finds out how many records fill a slice: in rounds.
const FINDING_OUT: f64 = 1.5;
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// What the command line asks for.
pub(super) struct Plan {
    pub(super) command: String,
    pub(super) quick: bool,
    pub(super) sizes: Vec<usize>,
    pub(super) rounds: usize,
    /// What a run should take, and what it must not exceed.
    pub(super) budget: Duration,
    pub(super) limit: Duration,
    /// Overrides what follows from the budget.
    pub(super) slice: Option<Duration>,
}

/// A figure of one contender.
#[derive(Clone, Copy)]
struct Job {
    workload: Workload,
    size: usize,
    contender: usize,
    bytes: usize,
    /// Rounds in which it is measured.
    rounds: usize,
}

/// The jobs of a round, in groups that are compared.
struct Jobs {
    groups: Vec<Vec<Job>>,
    slice: Duration,
    /// Of a receiver that waits for nothing.
    wait: Duration,
}

fn groups(plan: &Plan, contenders: &[Contender], idle_rounds: usize) -> Vec<Vec<Job>> {
    let small = if plan.sizes.contains(&SMALL) { SMALL } else { plan.sizes[0] };
    let mut workloads = Vec::new();
    for &size in &plan.sizes {
        workloads.extend([(Workload::PingPong, size), (Workload::Stream(1), size)]);
    }
    workloads.push((Workload::Paced((1e9 / RATE) as u64), small));
    workloads.extend(RECEIVERS.map(|count| (Workload::FanOut(count), small)));
    workloads.extend(READERS.map(|count| (Workload::Attached(count), small)));
    workloads.push((Workload::Idle, small));
    let group = |(workload, size): (Workload, usize)| {
        let mut seen = Vec::new();
        let job = |(contender, one): (usize, &Contender)| {
            let bytes = match workload {
                // Who carries fewer bytes is there with those.
                Workload::PingPong | Workload::Stream(_) => one.bytes(size)?,
                _ => size.min(one.rules.max_record),
            };
            match workload {
                // Nobody can tell which of them were lost.
                Workload::Paced(_) if bytes == 0 && !one.is_lossless() => return None,
                // One ring of each way to wait: where its memory is makes no difference here.
                Workload::Attached(_) if one.family != Family::Ring || seen.contains(&one.wait()) => return None,
                _ => seen.push(one.wait()),
            }
            let rounds = if workload == Workload::Idle { idle_rounds } else { plan.rounds };
            Some(Job { workload, size, contender, bytes, rounds })
        };
        contenders.iter().enumerate().filter_map(job).collect::<Vec<_>>()
    };
    workloads.into_iter().map(group).filter(|group| !group.is_empty()).collect()
}

impl Jobs {
    fn new(plan: &Plan, contenders: &[Contender]) -> Jobs {
        let (idle_rounds, mut wait) =
            if plan.quick { (1, Duration::from_millis(150)) } else { (3.min(plan.rounds), Duration::from_millis(350)) };
        let groups = groups(plan, contenders, idle_rounds);
        let jobs = groups.iter().flatten();
        let idle: usize = jobs.clone().filter(|job| job.workload == Workload::Idle).map(|job| job.rounds).sum();
        let others = jobs.filter(|job| job.workload != Workload::Idle).count() as f64;
        let left = plan.budget.saturating_sub(wait * idle as u32).as_secs_f64();
        let each = left / (others * (plan.rounds as f64 + FINDING_OUT)).max(1.0);
        let each = Duration::from_secs_f64(each).saturating_sub(OVERHEAD).clamp(SHORTEST, LONGEST);
        if let Some(slice) = plan.slice {
            wait = wait.min(4 * slice);
        }
        Jobs { groups, slice: plan.slice.unwrap_or(each), wait }
    }

    fn of_round(&self, round: usize) -> impl Iterator<Item = (usize, Job)> + '_ {
        self.groups.iter().enumerate().flat_map(move |(group, jobs)| {
            let turn = round % jobs.len();
            let order = jobs[turn..].iter().chain(&jobs[..turn]);
            order.filter(move |job| round < job.rounds).map(move |job| (group, *job))
        })
    }
}

/// The floors' values, round by round.
#[derive(Default)]
struct Measured {
    values: Vec<Vec<f64>>,
}

impl Measured {
    fn report(&self, sizes: &[usize]) -> Floors {
        let none = Spread { median: 0.0, min: 0.0, max: 0.0 };
        let value = |at: usize| {
            let values: Vec<f64> = self.values.iter().filter_map(|round| round.get(at).copied()).collect();
            Spread::of(&values).unwrap_or(none)
        };
        let memcpy = sizes.iter().enumerate();
        Floors {
            one_line: value(0),
            two_lines: value(1),
            clock: value(2),
            memcpy: memcpy.map(|(at, &size)| Memcpy { size, bytes_per_second: value(3 + at) }).collect(),
        }
    }
}

fn progress(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} + {eta} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

/// Measures everything.
pub(super) fn run(plan: &Plan, contenders: &[Contender]) -> Result<Report, Failure> {
    let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let (start, before) = (Instant::now(), Before::look());
    let crew = Crew::gather().map_err(|trouble| failure(trouble, "the start"))?;
    let jobs = Jobs::new(plan, contenders);
    let in_all = (0..plan.rounds).map(|round| jobs.of_round(round).count()).sum();
    crate::complain(&format!(
        "{} transports, {} rounds, {in_all} measurements of about {} ms each",
        contenders.len(),
        plan.rounds,
        jobs.slice.as_millis()
    ));
    let bar = progress(in_all);
    let mut collected: Vec<Collected> = contenders.iter().map(|_| Collected::default()).collect();
    let mut found_floors = Measured::default();
    let mut hints: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut given_up = BTreeSet::new();
    let (mut rounds, mut late) = (0, false);
    while rounds < plan.rounds && !late {
        let began = Instant::now();
        let slice = (jobs.slice / 4).max(SHORTEST);
        let values = floors(&crew, &plan.sizes, slice).map_err(|trouble| failure(trouble, "the floors"))?;
        found_floors.values.push(values);
        for (group, job) in jobs.of_round(rounds) {
            if given_up.contains(&(group, job.contender)) {
                continue;
            }
            late |= start.elapsed() > plan.limit;
            if late {
                break;
            }
            let one = &contenders[job.contender];
            bar.set_message(format!("round {}: {}, {} B, {:?}", rounds + 1, one.name, job.bytes, job.workload));
            let hint = hints.get(&(group, job.contender)).copied();
            let found = measured(&crew, &jobs, one, job, hint);
            bar.inc(1);
            match found {
                Ok(Some(outcomes)) => {
                    if let Some(count) = count(&outcomes, job, jobs.slice) {
                        hints.insert((group, job.contender), count);
                    }
                    collect(&mut collected[job.contender], job, &outcomes);
                }
                Ok(None) => {
                    let text = format!("{}: a record was lost on the way, so that no answer came", words(job));
                    collected[job.contender].note(text);
                    given_up.insert((group, job.contender));
                }
                Err(Trouble::Missing(reason)) => {
                    collected[job.contender].note(format!("{}: cannot be had here: {reason}", words(job)));
                    given_up.insert((group, job.contender));
                }
                Err(trouble) => {
                    bar.finish_and_clear();
                    return Err(failure(trouble, &format!("{}: {}", one.name, words(job))));
                }
            }
        }
        rounds += 1;
        // A round that would end too late is not begun.
        late |= start.elapsed() + began.elapsed() > plan.limit;
    }
    bar.finish_and_clear();
    let floors = found_floors.report(&plan.sizes);
    let machine = before.machine(crew.processors);
    let mut warnings = warnings(&machine, &floors.one_line);
    if rounds < plan.rounds || start.elapsed() > plan.limit {
        warnings.push(Warning {
            kind: "slow".to_owned(),
            text: format!(
                "there was time for {rounds} of {} rounds only, the last one perhaps in part; choose fewer transports or sizes",
                plan.rounds
            ),
        });
    }
    let transports = contenders.iter().zip(collected).map(|(one, found)| transport(one, found, plan)).collect();
    let mut report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: plan.command.clone(),
        date,
        seconds: start.elapsed().as_secs_f64(),
        quick: plan.quick,
        rounds,
        sizes: plan.sizes.clone(),
        machine,
        warnings,
        floors,
        transports,
        claims: Vec::new(),
        claims_by_wait: Vec::new(),
    };
    report.claims = claims(&report, None);
    for wait in ["park-at-once", "park", "yield", "spin"] {
        report.claims_by_wait.extend(claims(&report, Some(wait)));
    }
    Ok(report)
}

/// None: records can be lost, and one was that would have been answered.
fn measured(
    crew: &Crew,
    jobs: &Jobs,
    one: &Contender,
    job: Job,
    hint: Option<u64>,
) -> Result<Option<Vec<Outcome>>, Trouble> {
    let slice = match job.workload {
        Workload::Idle => jobs.wait,
        // Few records: the rate is given.
        Workload::Paced(_) => 2 * jobs.slice,
        _ => jobs.slice,
    };
    let receivers = match job.workload {
        Workload::Stream(count) | Workload::FanOut(count) => count,
        _ => 1,
    };
    let (control, bytes, lossless) = (crew.control, job.bytes, one.is_lossless());
    let task = Task { control, bytes, lossless, receivers, hint, slice };
    match measure(crew, one, job.workload, task) {
        Err(Trouble::Late) if !lossless && job.workload == Workload::PingPong => Ok(None),
        other => other.map(Some),
    }
}

/// How many records fill the slice, by what this many took.
fn count(outcomes: &[Outcome], job: Job, slice: Duration) -> Option<u64> {
    let Outcome { sent, took, .. } = *outcomes.first()?;
    let is_found_out = matches!(job.workload, Workload::PingPong | Workload::Stream(_) | Workload::FanOut(_));
    if !is_found_out || took == 0 {
        return None;
    }
    // Not by one round that was disturbed.
    let scale = (slice.as_nanos() as f64 / took as f64).clamp(0.5, 2.0);
    Some(((sent as f64 * scale) as u64).max(1))
}

fn collect(collected: &mut Collected, job: Job, outcomes: &[Outcome]) {
    let Job { workload, size, bytes, .. } = job;
    match workload {
        Workload::PingPong => collected.add_ping_pong(size, bytes, outcomes),
        Workload::Stream(_) => collected.add_throughput(size, bytes, outcomes),
        Workload::FanOut(receivers) => collected.add_fan_out(size, bytes, receivers, outcomes),
        Workload::Paced(_) => collected.add_paced(size, bytes, outcomes),
        Workload::Idle => collected.add_idle(outcomes),
        Workload::Attached(readers) => collected.add_attached(readers, bytes, outcomes),
    }
}

/// What a job measures, for people.
fn words(job: Job) -> String {
    let bytes = job.bytes;
    match job.workload {
        Workload::PingPong => format!("ping-pong of {bytes} B"),
        Workload::Stream(_) => format!("throughput of {bytes} B"),
        Workload::FanOut(receivers) => format!("fan-out of {bytes} B to {receivers}"),
        Workload::Paced(_) => format!("one way at a rate, {bytes} B"),
        Workload::Idle => "idle cost".to_owned(),
        Workload::Attached(readers) => format!("publish with {readers} readers"),
    }
}

fn failure(trouble: Trouble, what: &str) -> Failure {
    match trouble {
        Trouble::Interrupted(signal) => Failure::Interrupted(signal),
        Trouble::Late => Failure::Runtime(format!("{what}: took too long, and was ended")),
        Trouble::Missing(reason) => Failure::Runtime(format!("{what}: cannot be had here: {reason}")),
        Trouble::Failed(reason) => Failure::Runtime(format!("{what}: {reason}")),
    }
}

fn transport(one: &Contender, mut found: Collected, plan: &Plan) -> Transport {
    if one.needs_threads() {
        found.note(
            "both ends are threads of one process: it cannot be handed to a process that runs already".to_owned(),
        );
    }
    match one.rules.max_record {
        0 => found.note("carries no bytes: its records are counted, and there is nothing in them to check".to_owned()),
        most if most < super::payload::MIN_BYTES => {
            found.note(format!("carries at most {most} bytes: that is what it was measured with"));
        }
        most if plan.sizes.last().is_some_and(|&size| size > most) => {
            found.note(format!("its longest record has {most} bytes"));
        }
        _ => {}
    }
    if !one.is_lossless() && one.rules.max_record == 0 {
        found.note("nobody can tell which signals were lost: no latency at a rate".to_owned());
    }
    Transport {
        name: one.name.clone(),
        family: one.family,
        wait: one.wait().map(str::to_owned),
        rules: rules(one),
        ping_pong: found.ping_pong(),
        paced: found.paced(RATE),
        throughput: found.throughput(),
        fan_out: found.fan_out(),
        idle: found.idle(),
        attached: found.attached(),
        notes: found.notes(),
    }
}

/// The best ring, of all or of one way to wait, against the best of the others: where both carry records of that size whole.
fn claims(report: &Report, wait: Option<&str>) -> Vec<Claim> {
    let mut claims = Vec::new();
    for figure in [Figure::Latency, Figure::Throughput] {
        for &size in &report.sizes {
            let value = |one: &Transport| match figure {
                Figure::Latency => {
                    let at = one.ping_pong.iter().find(|at| (at.size, at.bytes) == (size, size))?;
                    Some(at.round_trip.p50.median)
                }
                Figure::Throughput => {
                    let at = one.throughput.iter().find(|at| (at.size, at.bytes) == (size, size))?;
                    Some(at.records_per_second.median)
                }
            };
            let best = |is: &dyn Fn(&Transport) -> bool| {
                let of_it = report.transports.iter().filter(|one| is(one));
                // Of a lossy one everything may have been lost.
                let values = of_it.filter_map(|one| Some((value(one).filter(|value| *value > 0.0)?, one.name.clone())));
                values.reduce(|one, other| {
                    let is_better = if figure == Figure::Latency { other.0 < one.0 } else { other.0 > one.0 };
                    if is_better { other } else { one }
                })
            };
            let ring = best(&|one| one.family == Family::Ring && (wait.is_none() || one.wait.as_deref() == wait));
            let rival = best(&|one| one.family != Family::Ring);
            if let (Some((ring_value, ring)), Some((rival_value, rival))) = (ring, rival) {
                let ratio = match figure {
                    Figure::Latency => rival_value / ring_value,
                    Figure::Throughput => ring_value / rival_value,
                };
                claims.push(Claim { figure, size, ring, ring_value, rival, rival_value, ratio, wins: ratio > 1.0 });
            }
        }
    }
    claims
}
