//! The format as another language sees it: `examples/c/reader.c`, compiled with the machine's C compiler, follows rings that
//! this process writes.
//!
//! Without a C compiler these tests say SKIPPED and pass; with `SHMCAST_FORBID_SKIPS` set, as in `.ci/run`, they fail.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shmcast::{Options, Writer};
use support::{LIMIT, record_of, smallest, unique_name};

/// Payloads are shorter than this.
const BOUND: u64 = 600;

// ---- the program ----

/// The compiled reader; `None` where there is no C compiler.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(compile).as_deref()
}

fn compile() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c/reader.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("c_reader-{}", std::process::id()));
    let flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-o"];
    let output = match Command::new("cc").args(flags).arg(&program).arg(source).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = "SKIPPED: tests/c_reader.rs needs a C compiler, and there is no `cc`";
            assert!(std::env::var_os("SHMCAST_FORBID_SKIPS").is_none(), "{reason}");
            // Not by a macro: the harness would swallow it.
            let _ = writeln!(std::io::stderr(), "{reason}");
            return None;
        }
        Err(error) => panic!("cc: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    // One name for all runs, so that no more than one file stays behind; whole at any time.
    let name = program.with_file_name("c_reader");
    fs::rename(&program, &name).expect("a program");
    Some(name)
}

/// The path of the program, or the end of a test that is skipped.
macro_rules! program_or_skip {
    () => {
        match program() {
            Some(program) => program,
            None => return,
        }
    };
}

/// A reader that runs. Killed when dropped.
struct Follower {
    process: Child,
    lines: Receiver<String>,
}

fn follow(program: &Path, options: &[&str], ring: &Path) -> Follower {
    let mut command = Command::new(program);
    command.args(options).arg(ring).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("the C reader starts");
    let output = BufReader::new(process.stdout.take().expect("a pipe"));
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    Follower { process, lines }
}

impl Follower {
    fn line(&mut self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("no line of the C reader: {error}"))
    }

    /// Fails unless these are its next lines: for records from `first` on, below `end`.
    fn expect_records(&mut self, first: u64, end: u64) {
        for sequence in first..end {
            assert_eq!(self.line(), line_of(sequence, &record_of(sequence, BOUND)));
        }
    }

    /// Fails unless nothing more comes, and it ends well.
    fn finish(mut self) {
        assert_eq!(self.lines.recv_timeout(LIMIT).ok(), None);
        assert!(self.process.wait().expect("a child").success());
    }

    /// Stops it in its tracks; it has stopped when this returns.
    fn stop(&self) {
        let process = self.process.id();
        self.signal(Signal::SIGSTOP);
        let start = Instant::now();
        let stopped = || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while !stopped() {
            assert!(start.elapsed() < LIMIT, "it does not stop");
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).expect("it runs");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ---- what it must print ----

fn line_of(sequence: u64, payload: &[u8]) -> String {
    let mut line = format!("{sequence} {} ", payload.len());
    for &byte in payload {
        match byte {
            b' '..=b'~' if byte != b'\\' => line.push(byte.into()),
            _ => write!(line, "\\{byte:02x}").expect("memory"),
        }
    }
    line
}

/// What it has received, to be compared with its last line.
struct Sum {
    records: u64,
    bytes: usize,
    lost: u64,
    digest: u64,
}

impl Sum {
    fn new() -> Sum {
        Sum { records: 0, bytes: 0, lost: 0, digest: 0xCBF2_9CE4_8422_2325 }
    }

    fn of(sequences: std::ops::Range<u64>) -> Sum {
        let mut sum = Sum::new();
        sequences.for_each(|sequence| sum.add(sequence));
        sum
    }

    fn add(&mut self, sequence: u64) {
        let payload = record_of(sequence, BOUND);
        for byte in (payload.len() as u64).to_le_bytes().into_iter().chain(payload.iter().copied()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.records += 1;
        self.bytes += payload.len();
    }

    fn line(&self) -> String {
        let Sum { records, bytes, lost, digest } = self;
        format!("closed after {records} records, {bytes} bytes, {lost} lost, digest {digest:016x}")
    }
}

/// A ring in files of a directory that goes with the last value.
fn ring(options: &Options) -> (Writer, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = options.create_file(&path).expect("a small ring");
    (writer, path, directory)
}

/// Publishes records up to this number. No reader holds the writer back: a follower cannot.
fn publish_until(writer: &mut Writer, end: u64) {
    while writer.sequence() < end {
        let payload = record_of(writer.sequence(), BOUND);
        writer.try_publish(&payload).expect("room");
    }
}

// ---- following ----

/// Streams records over many laps, a quarter of the ring at a time: the follower is behind by no more, so it may lose nothing.
fn stream(writer: &mut Writer, follower: &mut Follower) {
    let (mut told, quarter) = (0, writer.capacity() / 4);
    assert_eq!(follower.line(), "begins at record 0");
    while writer.position() < 40 * writer.capacity() {
        let end = writer.position() + quarter - BOUND;
        while writer.position() < end {
            let next = writer.sequence() + 1;
            publish_until(writer, next);
        }
        follower.expect_records(told, writer.sequence());
        told = writer.sequence();
    }
}

#[test]
fn every_record_of_a_named_ring_comes_out_over_forty_laps() {
    let program = program_or_skip!();
    let name = unique_name("c-reader");
    let mut writer = Options::new().capacity(16 * 1024).create(&name).expect("a small ring");
    let rings = std::env::var_os("SHMCAST_DIR").unwrap_or_else(|| "/dev/shm/shmcast".into());
    let mut follower = follow(program, &[], &Path::new(&rings).join(name).join("ring"));
    stream(&mut writer, &mut follower);
    let published = writer.sequence();
    drop(writer);
    assert_eq!(follower.line(), Sum::of(0..published).line());
    follower.finish();
}

#[test]
fn every_record_comes_out_at_another_alignment_and_a_large_position() {
    let program = program_or_skip!();
    let options = Options::new().capacity(16 * 1024).record_alignment(64).start_position(1 << 62).blocks(4);
    let (mut writer, path, _directory) = ring(&options);
    let mut follower = follow(program, &[], &path);
    assert_eq!(follower.line(), "begins at record 0");
    for end in (10..2000).step_by(10) {
        publish_until(&mut writer, end);
        follower.expect_records(end - 10, end);
    }
    writer.close();
    assert_eq!(follower.line(), Sum::of(0..writer.sequence()).line());
    follower.finish();
}

#[test]
fn a_digest_stands_for_all_records() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&Options::new());
    publish_until(&mut writer, 1000);
    let mut follower = follow(program, &["--digest"], &path);
    assert_eq!(follower.line(), "begins at record 0");
    publish_until(&mut writer, 2000);
    assert!(writer.position() < writer.capacity());
    writer.close();
    assert_eq!(follower.line(), Sum::of(0..2000).line());
    follower.finish();
}

#[test]
fn what_is_left_of_a_closed_ring_is_read() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&Options::new().keep(true));
    publish_until(&mut writer, 100);
    drop(writer);
    let mut follower = follow(program, &[], &path);
    assert_eq!(follower.line(), "begins at record 0");
    follower.expect_records(0, 100);
    assert_eq!(follower.line(), Sum::of(0..100).line());
    follower.finish();
}

#[test]
fn the_newest_record_is_the_next_one() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&smallest());
    publish_until(&mut writer, 123);
    let mut follower = follow(program, &["--newest"], &path);
    assert_eq!(follower.line(), "begins at record 123");
    publish_until(&mut writer, 125);
    writer.close();
    follower.expect_records(123, 125);
    assert_eq!(follower.line(), Sum::of(123..125).line());
    follower.finish();
}

#[test]
fn a_follower_that_was_lapped_in_its_sleep_tells_the_exact_loss() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&smallest());
    publish_until(&mut writer, 5);
    let mut follower = follow(program, &[], &path);
    assert_eq!(follower.line(), "begins at record 0");
    let mut sum = Sum::new();
    for round in 0..20 {
        let first = writer.sequence();
        follower.expect_records(first - 5, first);
        (first - 5..first).for_each(|sequence| sum.add(sequence));
        follower.stop();
        // Several laps, that end at different places.
        publish_until(&mut writer, first + 200 + round);
        follower.signal(Signal::SIGCONT);
        let told = follower.line();
        let lost: u64 = told.strip_prefix("lost ").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{told:?}"));
        assert!(lost > 150, "{lost} records of {} are lost: the ring holds a dozen", 200 + round);
        sum.lost += lost;
        let left = first + lost..writer.sequence();
        // It goes on from the middle of the ring, or from behind the last checkpoint.
        assert!(left.end - left.start < 50, "{left:?}");
        follower.expect_records(left.start, left.end);
        left.for_each(|sequence| sum.add(sequence));
        let next = writer.sequence() + 5;
        publish_until(&mut writer, next);
    }
    let end = writer.sequence();
    follower.expect_records(end - 5, end);
    (end - 5..end).for_each(|sequence| sum.add(sequence));
    assert_eq!(sum.records + sum.lost, end);
    writer.close();
    assert_eq!(follower.line(), sum.line());
    follower.finish();
}

#[test]
fn a_follower_of_a_writer_without_mercy_prints_whole_records_only_and_counts_the_rest() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&smallest());
    publish_until(&mut writer, 10);
    let mut follower = follow(program, &[], &path);
    assert_eq!(follower.line(), "begins at record 0");
    publish_until(&mut writer, 300_000);
    writer.close();
    let mut sum = Sum::new();
    let end = loop {
        let line = follower.line();
        let next = sum.records + sum.lost;
        if let Some(lost) = line.strip_prefix("lost ") {
            sum.lost += lost.parse::<u64>().expect("a number");
        } else if line.starts_with("closed") {
            break line;
        } else {
            assert_eq!(line, line_of(next, &record_of(next, BOUND)));
            sum.add(next);
        }
    };
    assert_eq!(sum.records + sum.lost, 300_000);
    assert_eq!(end, sum.line());
    println!("{} received, {} lost", sum.records, sum.lost);
    follower.finish();
}

// ---- refusals ----

fn assert_fails(program: &Path, arguments: &[&Path], code: i32, part: &str) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the C reader starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{part}: {said}");
    assert!(said.lines().count() == 1 && said.ends_with('\n') && said.contains(part), "{part}: {said:?}");
}

/// A copy of a ring file, with some words changed; with a checksum that holds all the same, if asked for.
fn damaged(file: &[u8], to: &Path, words: &[(usize, u64)], repaired: bool) {
    let mut bytes = file.to_vec();
    for &(at, value) in words {
        bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    if repaired {
        let words = bytes[..504].chunks(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        let sum = words.fold(0xCBF2_9CE4_8422_2325, |sum: u64, word| {
            let sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3);
            sum ^ sum >> 32
        });
        bytes[504..512].copy_from_slice(&sum.to_ne_bytes());
    }
    fs::write(to, bytes).expect("a file");
}

#[test]
fn a_damaged_header_is_refused() {
    let program = program_or_skip!();
    let (mut writer, path, directory) = ring(&smallest());
    publish_until(&mut writer, 3);
    let (file, copy) = (fs::read(&path).expect("a ring"), directory.path().join("copy"));
    let word = |at: usize| u64::from_ne_bytes(file[at..at + 8].try_into().expect("8 bytes"));

    // Undamaged but never closed: it would be followed, so the copy itself is not what is refused.
    damaged(&file, &copy, &[], true);
    assert_eq!(follow(program, &[], &copy).line(), "begins at record 0");

    // As they are: each is found before the checksum is looked at, or by it.
    let first_looks: [(usize, u64, &str); 6] = [
        (0, u64::from_ne_bytes(*b"shmcREGI"), "magic"),
        (8, 0x0807_0605_0403_0201, "byte order"),
        (16, 2, "version 2"),
        (32, word(32) + 1, "truncated"),
        (48, 8192, "checksum"),
        (400, 1, "checksum"),
    ];
    for (at, value, part) in first_looks {
        damaged(&file, &copy, &[(at, value)], false);
        assert_fails(program, &[&copy], 1, part);
    }
    // With a checksum that holds: every value is judged on its own.
    let judged: [(usize, u64, &str); 17] = [
        (48, 0, "capacity"),
        (48, 3000, "capacity"),
        (48, 1 << 41, "capacity"),
        (48, 8192, "region at byte 320"),
        (56, 1, "blocks"),
        (56, 3, "blocks"),
        (56, 1024, "blocks"),
        (64, 16, "alignment"),
        (72, 4, "start"),
        (80, 4, "options"),
        (256, 0, "region at byte 256"),
        (264, 0, "region at byte 256"),
        (272, word(272) + 8, "region at byte 272"),
        (288, word(32), "region at byte 288"),
        (304, u64::MAX - 127, "region at byte 304"),
        (320, word(320) + 128, "region at byte 320"),
        (328, u64::MAX, "region at byte 320"),
    ];
    for (at, value, part) in judged {
        damaged(&file, &copy, &[(at, value)], true);
        assert_fails(program, &[&copy], 1, part);
    }
    fs::write(&copy, &file[..511]).expect("a file");
    assert_fails(program, &[&copy], 1, "not a ring");
    fs::write(&copy, &file[..file.len() - 1]).expect("a file");
    assert_fails(program, &[&copy], 1, "truncated");
    assert_fails(program, &[directory.path()], 1, "not a ring");
    assert_fails(program, &[&directory.path().join("nothing")], 1, "No such file");
}

#[test]
fn a_damaged_record_ends_it_with_an_error() {
    let program = program_or_skip!();
    let (mut writer, path, _directory) = ring(&smallest());
    publish_until(&mut writer, 1);
    let header = u64::from_ne_bytes(fs::read(&path).expect("a ring")[320..328].try_into().expect("8 bytes"));
    let file = fs::File::options().write(true).open(&path).expect("a ring");
    for word in [u64::MAX, 4096 / 2 - 8 + 2, 1 << 32 | 1, 2 << 32 | 1, 1 << 40 | 1] {
        // The writer's own words, behind its back.
        file.write_all_at(&word.to_ne_bytes(), header).expect("a word");
        assert_fails(program, &[&path], 1, "position 0");
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    let program = program_or_skip!();
    for arguments in [&[][..], &["--unknown", "ring"], &["one", "two"]] {
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        assert_fails(program, &arguments, 2, "usage:");
    }
}
