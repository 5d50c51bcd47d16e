//! The examples, run as a user runs them: as processes, in a ring directory of their own that must be empty afterwards.
//!
//! `cargo test` builds the examples first; after `cargo test --test examples` they are as old as their last build.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory for the input of one test and for its rings.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("rings")).expect("a directory for rings");
        Place { directory }
    }

    fn rings(&self) -> PathBuf {
        self.directory.path().join("rings")
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// An example and its arguments, without input; what it prints is caught.
    fn command<A: AsRef<OsStr>>(&self, example: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(built(example));
        command.args(arguments).env("SHMCAST_DIR", self.rings());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.rings()).expect("the ring directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.names(), Vec::<String>::new());
    }
}

/// The test is `target/<profile>/deps/examples-<hash>`, an example `target/<profile>/examples/<name>`.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("the directory of the profile");
    let path = profile.join("examples").join(example);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

/// A started example. Killed if it does not end in time, or if the test fails before it waits for the end.
struct Running {
    pid: Pid,
    output: mpsc::Receiver<Output>,
    ended: bool,
}

fn start(command: &mut Command) -> Running {
    let child = command.spawn().expect("the example starts");
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, output) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output().expect("its output")));
    Running { pid, output, ended: false }
}

impl Running {
    fn output(mut self) -> Output {
        let output = self.output.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it did not end in {PATIENCE:?}"));
        self.ended = true;
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

fn run(command: &mut Command) -> Output {
    start(command).output()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn assert_succeeded(output: &Output) {
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{status}\n{}\n{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert_eq!(text(stderr), "");
}

fn assert_failed_with_one_line(output: &Output, code: i32, part: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.lines().count() == 1 && stderr.ends_with('\n') && stderr.contains(part), "{stderr:?}");
    assert_eq!(text(&output.stdout), "");
}

/// Waits until something is so, and fails if it takes too long.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("never came true: {what}")
}

// ---- quickstart ----

fn assert_quickstart_delivers(content: &[u8]) {
    let place = Place::new();
    let file = place.file("input", content);
    let output = run(&mut place.command("quickstart", [&file]));
    assert_succeeded(&output);
    let report = text(&output.stdout);
    let digest = format!("sha256 {:x}, equal to the file", Sha256::digest(content));
    assert_eq!(report.matches(&digest).count(), 2, "{report}");
    assert!(report.contains("published\n") && !report.contains("NOT"), "{report}");
    place.assert_nothing_is_left();
}

/// Bytes that look random and are the same each time.
fn noise(len: usize) -> Vec<u8> {
    let blocks = (0u64..).flat_map(|block| Sha256::digest(block.to_le_bytes()));
    blocks.take(len).collect()
}

#[test]
fn quickstart_delivers_a_text_file() {
    let lines: String = (0..).map(|number| format!("line {number} of a text\n")).take(15_000).collect();
    assert!(lines.len() > 300_000);
    assert_quickstart_delivers(lines.as_bytes());
}

#[test]
fn quickstart_delivers_a_binary_file() {
    assert_quickstart_delivers(&noise(400_001));
}

#[test]
fn quickstart_delivers_an_empty_file() {
    assert_quickstart_delivers(b"");
}

#[test]
fn quickstart_refuses_a_missing_file_with_one_line() {
    let place = Place::new();
    let output = run(&mut place.command("quickstart", ["/no/such/file"]));
    assert_failed_with_one_line(&output, 1, "/no/such/file");
    place.assert_nothing_is_left();
}

/// Starts quickstart with a file that it will not get to the end of (it takes no space: it is a hole), and waits until
/// the ring is there.
fn endless_quickstart(place: &Place) -> Running {
    let file = place.file("endless", b"");
    File::options().write(true).open(&file).and_then(|file| file.set_len(1 << 40)).expect("a hole of a file");
    let quickstart = start(&mut place.command("quickstart", [&file]));
    eventually("the ring is there", || place.names().iter().any(|name| name.starts_with("quickstart-")).then_some(()));
    quickstart
}

/// The processes that a process has started, in that role.
fn children(parent: Pid, role: &str) -> Vec<Pid> {
    let is_child = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of_parent = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let has_role = arguments.split(|&byte| byte == 0).nth(1) == Some(role.as_bytes());
        (of_parent && has_role).then_some(Pid::from_raw(pid))
    };
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(is_child)).collect()
}

#[test]
fn quickstart_cleans_up_when_a_child_is_killed() {
    for (role, count) in [("producer", 1), ("consumer", 3)] {
        let place = Place::new();
        let quickstart = endless_quickstart(&place);
        let victim = eventually("its children are there", || {
            let found = children(quickstart.pid, role);
            (found.len() == count).then(|| found[0])
        });
        kill(victim, Signal::SIGKILL).expect("a child that runs");
        assert_failed_with_one_line(&quickstart.output(), 1, &format!("a {role} failed: signal: 9"));
        place.assert_nothing_is_left();
    }
}

#[test]
fn quickstart_cleans_up_when_it_is_interrupted() {
    let place = Place::new();
    let quickstart = endless_quickstart(&place);
    kill(quickstart.pid, Signal::SIGINT).expect("it runs");
    assert_failed_with_one_line(&quickstart.output(), 1, "SIGINT");
    place.assert_nothing_is_left();
}

// ---- producer and consumer ----

/// A consumer may say that it had to wait for the ring, and nothing else.
fn assert_ended_quietly(consumer: &Output) {
    assert!(consumer.status.success(), "{consumer:?}");
    let stderr = text(&consumer.stderr);
    assert!(stderr.lines().all(|line| line.starts_with("consumer: waiting for ")), "{stderr}");
}

#[test]
fn lines_come_out_of_consumers_as_they_went_into_the_producer() {
    let place = Place::new();
    let mut input = b"first\n\n  spaces  \nno \xff UTF-8\n".to_vec();
    for number in 0..2000 {
        writeln!(input, "{}", "x".repeat(number % 100)).expect("a line");
    }
    input.extend([b'y'; 100_000]);
    let file = place.file("input", &input);

    let readers: [&[&str]; 3] = [&["--from", "oldest"], &["--from=newest"], &["--lossy"]];
    let consumers = readers.map(|options| start(place.command("consumer", ["lines", "--wait", "120"]).args(options)));
    let input_file = File::open(&file).expect("the input");
    let mut producer = place.command("producer", ["lines", "--readers", "3"]);
    let produced = run(producer.stdin(input_file));
    assert_succeeded(&produced);
    assert_eq!(produced.stdout, b"");
    // The last line had no newline.
    input.push(b'\n');
    for consumer in consumers {
        let output = consumer.output();
        assert_ended_quietly(&output);
        assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    }
    place.assert_nothing_is_left();
}

#[test]
fn a_line_that_is_too_large_is_named() {
    let place = Place::new();
    let file = place.file("input", &[b"short\n".as_slice(), &[b'z'; 3000]].concat());
    let mut producer = place.command("producer", ["large", "--capacity", "4096"]);
    let output = run(producer.stdin(File::open(file).expect("the input")));
    assert_failed_with_one_line(&output, 1, "line 2: a payload of 3000 bytes is too large");
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_producer_closes_its_ring() {
    let place = Place::new();
    let seen = place.file("seen", b"");
    let mut consumer = place.command("consumer", ["interrupted", "--wait", "120"]);
    let consumer = start(consumer.stdout(File::create(&seen).expect("a file")));
    // An input that does not end by itself.
    let (input, mut open_end) = std::io::pipe().expect("a pipe");
    open_end.write_all(b"the one line\n").expect("room in the pipe");
    let producer = start(place.command("producer", ["interrupted", "--readers", "1"]).stdin(input));
    eventually("the line has arrived", || (fs::read(&seen).expect("a file") == b"the one line\n").then_some(()));
    kill(producer.pid, Signal::SIGINT).expect("it runs");
    assert_eq!(producer.output().status.code(), Some(130));
    assert_ended_quietly(&consumer.output());
    place.assert_nothing_is_left();
}

#[test]
fn a_consumer_whose_stdout_is_closed_ends_quietly() {
    let place = Place::new();
    let (reading_end, writing_end) = std::io::pipe().expect("a pipe");
    drop(reading_end);
    let consumer = start(place.command("consumer", ["quiet", "--wait", "120"]).stdout(writing_end));
    let file = place.file("input", b"a\nb\n");
    let mut producer = place.command("producer", ["quiet", "--readers", "1"]);
    assert_succeeded(&run(producer.stdin(File::open(file).expect("the input"))));
    assert_ended_quietly(&consumer.output());
    place.assert_nothing_is_left();
}

#[test]
fn a_consumer_without_a_ring_says_so_in_one_line() {
    let place = Place::new();
    assert_failed_with_one_line(&run(&mut place.command("consumer", ["nothing"])), 1, "does not exist");
    place.assert_nothing_is_left();
}

#[test]
fn wrong_arguments_exit_with_2_and_one_line() {
    let place = Place::new();
    let none: &[&str] = &[];
    let wrong = [
        ("quickstart", &["a", "b"][..]),
        ("producer", none),
        ("producer", &["a", "b"]),
        ("producer", &["a", "--readers", "many"]),
        ("hand_over_fd", &["a"]),
        ("consumer", none),
        ("consumer", &["a", "--from", "middle"]),
        ("consumer", &["a", "--unknown"]),
        ("soak", &["--seconds", "many"]),
    ];
    for (example, arguments) in wrong {
        assert_failed_with_one_line(&run(&mut place.command(example, arguments)), 2, "usage:");
    }
    place.assert_nothing_is_left();
}

// ---- fork ----

#[test]
fn forked_children_receive_everything() {
    let place = Place::new();
    let output = run(&mut place.command("fork", [] as [&str; 0]));
    assert_succeeded(&output);
    assert_eq!(text(&output.stdout).matches("received 100000 records in order\n").count(), 2);
    place.assert_nothing_is_left();
}

// ---- hand_over_fd ----

#[test]
fn a_handed_over_ring_is_read_and_not_written() {
    let place = Place::new();
    let output = run(&mut place.command("hand_over_fd", [] as [&str; 0]));
    assert_succeeded(&output);
    // What the records are, from their formula.
    let mut digest = Sha256::new();
    (0..100_000_u64).for_each(|number| digest.update(vec![number as u8; (number * 7 % 120) as usize]));
    let received = format!("100000 records, sha256 {:x}", digest.finalize());
    let expected = format!(
        "server: {received}\nreader: {received}\nfollower: {received}, and may not write: Operation not permitted (os error 1)\n"
    );
    assert_eq!(text(&output.stdout), expected);
    place.assert_nothing_is_left();
}

// ---- batch and claim ----

#[test]
fn batches_arrive_in_order() {
    let place = Place::new();
    let output = run(&mut place.command("batch", [] as [&str; 0]));
    assert_succeeded(&output);
    assert_eq!(text(&output.stdout), "published 100000 records in 3125 batches\nreceived 100000 records in order\n");
    place.assert_nothing_is_left();
}

#[test]
fn what_is_claimed_and_committed_arrives_and_an_abort_does_not() {
    let place = Place::new();
    let output = run(&mut place.command("claim", [] as [&str; 0]));
    assert_succeeded(&output);
    assert_eq!(text(&output.stdout), "7 ms: started, 7 bytes\n21 ms: 3 readers, 9 bytes\n");
    place.assert_nothing_is_left();
}

// ---- typed ----

#[test]
fn trades_reach_the_consumer_and_a_wrong_type_does_not() {
    let place = Place::new();
    let output = run(&mut place.command("typed", [] as [&str; 0]));
    assert_succeeded(&output);
    let report = text(&output.stdout);
    let (told, statistics) = report.split_once('\n').expect("two lines");
    assert!(told.contains("holds Trade{symbol:[u8;8]@0,") && told.contains("not [f64;2]"), "{told}");
    // What the trades add up to, from their formula.
    let (mut volume, mut sold, mut value) = (0u64, 0, 0);
    for n in 0..100_000 {
        let quantity = 1 + n % 7;
        volume += quantity;
        sold += if n % 3 == 0 { quantity } else { 0 };
        value += (1_000_000 + n % 100) * quantity;
    }
    let average = value as f64 / volume as f64 / 1e4;
    let expected = format!("100000 trades, {volume} shares, {sold} of them sold, at {average:.4} on average\n");
    assert_eq!(statistics, expected);
    place.assert_nothing_is_left();
}

// ---- soak ----

/// The figures of the last line of account: the number before each word.
fn account(output: &Output) -> impl Fn(&str) -> u64 {
    let line = text(&output.stdout).lines().last().expect("an account").to_owned();
    move |word| {
        let words: Vec<&str> = line.split([' ', ',']).collect();
        let at = words.iter().position(|&found| found == word).unwrap_or_else(|| panic!("no {word} in {line:?}"));
        words[at - 1].parse().unwrap_or_else(|_| panic!("no number of {word} in {line:?}"))
    }
}

#[test]
fn a_short_soak_finds_nothing_torn_lost_or_reordered() {
    let place = Place::new();
    let output = run(&mut place.command("soak", ["--seconds", "4", "--interval", "1"]));
    assert_succeeded(&output);
    println!("{}", text(&output.stdout));
    let account = account(&output);
    assert_eq!(account("torn;"), 0);
    // All of it happened: three readers stay, others come and go, the writer dies every other second.
    assert!(account("laps") > 3 && account("received") > 10_000 && account("joins") > 3 && account("writers") > 0);
    place.assert_nothing_is_left();
}

#[test]
fn a_soak_finds_a_byte_that_its_writer_has_spoiled() {
    let place = Place::new();
    let output = run(&mut place.command("soak", ["--seconds", "60", "--interval", "3600", "--plant", "0"]));
    assert_failed_with_one_line(&output, 1, "is torn");
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_soak_ends_well_and_leaves_nothing() {
    let place = Place::new();
    let soak = start(&mut place.command("soak", ["--seconds", "3600"]));
    eventually("the ring is there", || place.names().iter().any(|name| name.starts_with("soak-")).then_some(()));
    kill(soak.pid, Signal::SIGINT).expect("it runs");
    let output = soak.output();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(130), ""));
    place.assert_nothing_is_left();
}
