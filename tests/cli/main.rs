//! The command line tool, as a user calls it.

mod ends;
#[path = "../../src/bin/shmcast/bench/result.rs"]
#[allow(dead_code)] // The tool uses the rest.
mod result;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use result::{Family, Figure, Latency, Report, Spread};
use shmcast::baseline;

/// Far more than any of the runs here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(150);

/// Runs of the benchmark disturb each other: one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn tool(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmcast"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, and kills it if that does not come.
fn call_with(words: &[&str], input: &[u8]) -> Output {
    let mut child = tool(words).stdin(Stdio::piped()).spawn().expect("the tool");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let (mut stdout, mut stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let id = child.id();
    let (tells, done) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if done.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // It is not waited for yet, so that the number is still its own.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id as i32), nix::sys::signal::Signal::SIGKILL);
        }
    });
    let mut complaint = Vec::new();
    stderr.read_to_end(&mut complaint).expect("a pipe");
    let stdout = read.join().expect("no panic").expect("a pipe");
    drop(tells);
    watch.join().expect("no panic");
    Output { status: child.wait().expect("a child"), stdout, stderr: complaint }
}

fn call(words: &[&str]) -> Output {
    call_with(words, b"")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// It ended with that code, said one line about it, and printed nothing.
fn assert_refused(words: &[&str], code: i32, about: &str) {
    let output = call(words);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {complaint}");
    assert_eq!(complaint.lines().count(), 1, "{words:?}: {complaint}");
    assert!(complaint.starts_with("shmcast: ") && complaint.contains(about), "{words:?}: {complaint}");
    assert_eq!(text(&output.stdout), "", "{words:?}");
}

// ---- how it is called ----

#[test]
fn help_is_data() {
    for words in [&["--help"][..], &["help"], &["bench", "--help"], &["--version"]] {
        let output = call(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(text(&output.stdout).contains("shmcast"), "{words:?}");
        assert_eq!(text(&output.stderr), "", "{words:?}");
    }
    assert_eq!(call(&[]).status.code(), Some(2), "no command");
}

#[test]
fn who_calls_it_wrongly_is_told_in_a_line() {
    assert_refused(&["bench", "--nonsense"], 2, "--nonsense");
    assert_refused(&["nonsense"], 2, "nonsense");
    assert_refused(&["bench", "--only", "pipe,carrier-pigeon"], 2, "carrier-pigeon");
    for size in ["7", "2M", "-1", "many"] {
        assert_refused(&["bench", &format!("--sizes={size}")], 2, size);
    }
    assert_refused(&["bench", "--rounds", "0"], 2, "rounds");
    assert_refused(&["bench", "--no-html", "--html", "page.html"], 2, "html");
    assert_refused(&["report"], 2, "FILE");
    assert_refused(&["report", "-", "--as", "poem"], 2, "poem");
}

#[test]
fn what_cannot_be_written_or_read_is_told_at_once() {
    let nowhere = "/nonexistent/directory/file";
    assert_refused(&["bench", "--no-html", "--json", nowhere], 1, nowhere);
    assert_refused(&["bench", "--html", nowhere], 1, nowhere);
    assert_refused(&["report", nowhere], 1, nowhere);
    let output = call_with(&["report", "-"], b"{\"schema\": 1}");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no report"), "{}", text(&output.stderr));
}

#[test]
fn every_transport_is_listed_once() {
    let output = call(&["bench", "--list"]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let list = text(&output.stdout);
    for transport in baseline::all() {
        let name = transport.name();
        let count = list.lines().filter(|line| line.split_whitespace().any(|word| word == name)).count();
        let family = ["eventfd"].contains(&name.as_str());
        assert_eq!(count, 1 + usize::from(family), "{name} in\n{list}");
    }
}

#[test]
fn who_has_read_enough_is_not_complained_about() {
    let mut child = tool(&["bench", "--list"]).spawn().expect("the tool");
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut complaint).expect("UTF-8");
    assert!(child.wait().expect("a child").success());
    assert_eq!(complaint, "");
}

// ---- what it measures ----

fn assert_positive(what: &str, spread: Spread) {
    let Spread { median, min, max } = spread;
    assert!(0.0 < min && min <= median && median <= max && max.is_finite(), "{what}: {spread:?}");
}

fn assert_share(what: &str, spread: Spread) {
    let Spread { median, min, max } = spread;
    assert!(0.0 <= min && min <= median && median <= max && max <= 1.0, "{what}: {spread:?}");
}

fn assert_latency(what: &str, latency: &Latency) {
    let Latency { count, min, p50, p90, p99, p999, max, mean, points } = latency;
    assert!(*count > 0, "{what}");
    for spread in [min, p50, p90, p99, p999, max, mean] {
        assert_positive(what, *spread);
    }
    let ascending = [min, p50, p90, p99, p999, max];
    assert!(ascending.windows(2).all(|pair| pair[0].median <= pair[1].median), "{what}: {latency:?}");
    assert!(points.len() > 10 && points.windows(2).all(|pair| pair[0].ns <= pair[1].ns), "{what}: {points:?}");
}

/// Measures, and answers the report, each figure of which makes sense.
fn measured(words: &[&str]) -> Report {
    let _alone = alone();
    let all = [&["bench", "--no-html", "--json", "-", "--rounds", "1"], words].concat();
    let output = call(&all);
    assert_eq!(output.status.code(), Some(0), "{all:?}: {}", text(&output.stderr));
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report and nothing else");
    assert!(report.schema == result::SCHEMA && report.rounds == 1 && report.seconds > 0.0);
    assert!(report.machine.processors > 0 && report.date.ends_with('Z'), "{}", report.date);
    for warning in &report.warnings {
        assert!(text(&output.stderr).contains(&warning.text), "{} is told, too", warning.kind);
    }
    for floor in [report.floors.one_line, report.floors.two_lines, report.floors.clock] {
        assert_positive("a floor", floor);
    }
    assert_eq!(report.floors.memcpy.len(), report.sizes.len());
    report.floors.memcpy.iter().for_each(|at| assert_positive("memcpy", at.bytes_per_second));
    for one in &report.transports {
        let name = &one.name;
        one.ping_pong.iter().for_each(|at| assert_latency(name, &at.round_trip));
        for at in &one.paced {
            assert_latency(name, &at.one_way);
            assert_share(name, at.lost);
            assert_eq!(at.rate, 10_000.0);
        }
        for at in &one.throughput {
            assert_positive(name, at.sender_cpu);
            assert_share(name, at.lost);
            // A short burst can be lost whole, where records can be lost.
            if at.lost.max < 1.0 {
                assert_positive(name, at.records_per_second);
                assert_eq!(at.bytes_per_second.median, at.records_per_second.median * at.bytes as f64, "{name}");
            }
        }
        for at in &one.fan_out {
            assert_positive(name, at.sender_cpu);
            assert_share(name, at.lost);
            if at.lost.max < 1.0 {
                assert_positive(name, at.records_per_second);
            }
        }
        let idle = one.idle.as_ref().expect("an idle cost");
        assert!(idle.waited > 1e6 && idle.cpu_share.min >= 0.0 && idle.cpu_share.max < 1.1, "{name}: {idle:?}");
        one.attached.iter().for_each(|at| assert_positive(name, at.publish));
        assert_eq!(one.wait.is_some(), one.family == Family::Ring, "{name}");
        // Measured once for each way to wait.
        let alike = report.transports.iter().filter(|other| other.wait == one.wait && !other.attached.is_empty());
        assert_eq!(alike.count(), usize::from(one.wait.is_some()), "{name}");
    }
    report
}

#[test]
fn a_short_run_has_every_figure() {
    let words = ["--only", "pipe,ring-memfd-park", "--sizes", "1K,8", "--slice", "2"];
    let report = measured(&words);
    assert_eq!(report.sizes, [8, 1024]);
    assert!(!report.quick && report.command.contains("pipe,ring-memfd-park"), "{}", report.command);
    let names: Vec<&str> = report.transports.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["pipe", "ring-memfd-park"]);
    for one in &report.transports {
        assert_eq!(one.ping_pong.iter().map(|at| (at.size, at.bytes)).collect::<Vec<_>>(), [(8, 8), (1024, 1024)]);
        assert_eq!(one.throughput.len(), 2);
        assert!(one.throughput.iter().all(|at| at.lost.max == 0.0), "both are lossless");
        assert_eq!(one.fan_out.iter().map(|at| at.receivers).collect::<Vec<_>>(), [1, 2, 4, 8]);
        assert_eq!((one.paced.len(), one.notes.len()), (1, 0), "{:?}", one.notes);
    }
    let ring = &report.transports[1];
    assert_eq!(ring.wait.as_deref(), Some("park"));
    assert_eq!(ring.attached.iter().map(|at| at.readers).collect::<Vec<_>>(), [0, 1, 8, 64]);
    // The claim is computed from the figures.
    assert_eq!(report.claims.len(), 4);
    for claim in &report.claims {
        let value = |at: usize| {
            let one = &report.transports[at];
            match claim.figure {
                Figure::Latency => {
                    let at = one.ping_pong.iter().find(|at| at.size == claim.size).expect("each size");
                    at.round_trip.p50.median
                }
                Figure::Throughput => {
                    let at = one.throughput.iter().find(|at| at.size == claim.size).expect("each size");
                    at.records_per_second.median
                }
            }
        };
        assert_eq!((claim.rival_value, claim.ring_value), (value(0), value(1)));
        let ratio = if claim.figure == Figure::Latency { value(0) / value(1) } else { value(1) / value(0) };
        assert!((claim.ratio - ratio).abs() < 1e-9 && claim.wins == (ratio > 1.0), "{claim:?}");
    }
    assert_shown(&report);
}

/// A saved report is shown as it was measured: in tables, and as Markdown.
fn assert_shown(report: &Report) {
    let json = serde_json::to_vec(report).expect("JSON");
    let shown = |shape: &str| {
        let output = call_with(&["report", "-", "--as", shape], &json);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (tables, markdown) = (shown("table"), shown("markdown"));
    for shown in [&tables, &markdown] {
        for one in &report.transports {
            assert!(shown.lines().filter(|line| line.starts_with(&format!("| {} ", one.name))).count() >= 4, "{shown}");
        }
        // Aligned: the lines of a table are equally long.
        let lengths = |table: &[&str]| table.iter().map(|line| line.chars().count()).collect::<Vec<_>>();
        let lines: Vec<&str> = shown.lines().collect();
        for table in lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty()) {
            let lengths = lengths(table);
            assert!(lengths.iter().all(|length| *length == lengths[0]), "{shown}");
        }
        assert!(shown.contains(&report.machine.cpu) && shown.contains(&report.command));
        assert!(shown.contains("beat"), "the claim stands there, won or lost: {shown}");
        assert!(!shown.contains('\x1b'), "no colours in data");
    }
    let lost: Vec<_> = report.claims.iter().filter(|claim| !claim.wins).collect();
    assert_eq!(tables.contains("does NOT beat"), !lost.is_empty(), "{tables}");
    let again: Report = serde_json::from_str(&shown("json")).expect("the same report");
    assert_eq!(serde_json::to_vec(&again).expect("JSON"), json);
    assert!(shown("html").contains("<svg"));
}

#[test]
fn every_family_is_measured_each_with_its_limits() {
    let report = measured(&["--sizes", "8,4K,64K", "--slice", "1"]);
    let families = [
        Family::Pipe,
        Family::Socket,
        Family::Queue,
        Family::Semaphore,
        Family::Board,
        Family::Signal,
        Family::Eventfd,
        Family::Ring,
    ];
    for family in families {
        assert!(report.transports.iter().any(|one| one.family == family), "{family:?}");
    }
    for one in &report.transports {
        let (most, name) = (one.rules.max_record, &one.name);
        let due: Vec<(usize, usize)> = match most {
            most if most < 8 => vec![(8, most)],
            most => [8, 4096, 65536].into_iter().filter(|size| *size <= most).map(|size| (size, size)).collect(),
        };
        let missing = |what: &str| one.notes.iter().any(|note| note.starts_with(what));
        if !missing("ping-pong") {
            assert_eq!(one.ping_pong.iter().map(|at| (at.size, at.bytes)).collect::<Vec<_>>(), due, "{name}");
        }
        assert_eq!(one.throughput.iter().map(|at| (at.size, at.bytes)).collect::<Vec<_>>(), due, "{name}");
        assert!(one.fan_out.len() == 4 || missing("fan-out"), "{name}: {:?}", one.notes);
        let lossless = one.rules.loss == result::Loss::Lossless;
        let lost = one.throughput.iter().map(|at| at.lost).chain(one.fan_out.iter().map(|at| at.lost));
        assert!(
            !lossless || lost.chain(one.paced.iter().map(|at| at.lost)).all(|lost| lost.max == 0.0),
            "{name} loses nothing"
        );
        assert_eq!(most < 65536, one.notes.iter().any(|note| note.contains("bytes")), "{name}: {:?}", one.notes);
    }
}

#[test]
fn rings_that_stay_in_their_process_and_what_loses_are_measured() {
    let words = "ring-heap-spin,ring-anonymous-park,signal-standard,udp-broadcast";
    let report = measured(&["--only", words, "--sizes", "64", "--slice", "1"]);
    let by_name = |name: &str| report.transports.iter().find(|one| one.name == name).expect("each that was asked for");
    for name in ["ring-heap-spin", "ring-anonymous-park"] {
        let one = by_name(name);
        assert!(one.notes.iter().any(|note| note.contains("threads")), "{:?}", one.notes);
        assert_eq!((one.ping_pong.len(), one.throughput.len(), one.fan_out.len()), (1, 1, 4));
    }
    let standard = by_name("signal-standard");
    assert!(standard.paced.is_empty() && standard.notes.iter().any(|note| note.contains("which signals were lost")));
    assert_eq!(by_name("udp-broadcast").paced.len(), 1);
}

#[test]
fn files_are_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let (json, page) = (path("report.json"), path("report.html"));
    let alone = alone();
    let words = ["bench", "--only", "eventfd", "--sizes", "8", "--rounds", "1", "--slice", "1"];
    let output = call(&[&words[..], &["--json", &json, "--html", &page]].concat());
    drop(alone);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&page), "it says where the page is");
    let report = std::fs::read_to_string(&json).expect("a file");
    let report: Report = serde_json::from_str(&report).expect("a report");
    assert!(text(&output.stdout).contains("| eventfd "));
    assert!(report.claims.is_empty() && text(&output.stdout).contains("no ring was measured"));
    let page = std::fs::read_to_string(Path::new(&page)).expect("a file");
    assert!(page.contains("eventfd") && page.contains("<svg"), "a page with plots");
}

/// Waits for it.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{what} did not come");
        std::thread::yield_now();
    }
}
