//! However a run ends, it leaves no object, no directory and no process behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;
use shmcast::baseline::{Object, Place};

use super::{alone, text, tool, wait_for};

/// A run that would take very long, and what it makes meanwhile.
struct Run {
    child: Child,
    /// Its directory, once there is one.
    directory: Option<PathBuf>,
    /// Objects that were there at some time.
    seen: Vec<Object>,
    /// Names of the rings that there were, or that were to be.
    rings: BTreeSet<String>,
    /// Its processes that were there at some time, with their names.
    processes: BTreeMap<i32, String>,
}

impl Run {
    fn start(only: &str) -> Run {
        let words = ["bench", "--no-html", "--only", only, "--sizes", "8", "--rounds", "1000", "--slice", "40"];
        let mut command = tool(&words);
        // A group of its own, as a shell makes it; and what started the tests in the background may have them ignore SIGINT.
        command.process_group(0);
        let unignore = || {
            // SAFETY: the default is no function of ours.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.map(|_| ()).map_err(Into::into)
        };
        // SAFETY: between fork and exec it makes one system call, and allocates nothing.
        unsafe { command.pre_exec(unignore) };
        let child = command.spawn().expect("the tool");
        Run { child, directory: None, seen: Vec::new(), rings: BTreeSet::new(), processes: BTreeMap::new() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Looks at what is there now.
    fn look(&mut self) {
        assert!(self.child.try_wait().expect("a child").is_none(), "it has ended early");
        let begins = format!("shmcast-cli-{}-", self.child.id());
        let entries = std::fs::read_dir("/dev/shm").expect("a directory").flatten();
        let mut found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins));
        self.directory = self.directory.take().or_else(|| Some(found.next()?.path()));
        if let Some(directory) = &self.directory {
            for object in Place::left_in(directory) {
                if let Object::Ring(name) = &object {
                    self.rings.insert(name.clone());
                }
                if object.exists() && !self.seen.contains(&object) {
                    self.seen.push(object);
                }
            }
        }
        self.processes.extend(children(self.pid()));
    }

    /// Looks until there was an object of each kind, and a receiver at work.
    fn look_for(&mut self, kinds: &[&str]) {
        wait_for("the objects", || {
            self.look();
            let is_seen = |kind: &&str| self.seen.iter().any(|object| format!("{object:?}").starts_with(kind));
            kinds.iter().all(is_seen) && self.processes.values().any(|name| name == "bench-receiver")
        });
    }

    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("a child");
        let mut complaint = Vec::new();
        // Whoever is left of the run, and holds its standard error, would be waited for here.
        self.child.stderr.take().expect("a pipe").read_to_end(&mut complaint).expect("a pipe");
        let directory = self.directory.take().expect("a directory");
        wait_for("the end of all that it made", || !directory.exists() && !self.seen.iter().any(Object::exists));
        // Rings that were being made when it was killed, too.
        let rings = std::fs::read_dir("/dev/shm/shmcast").into_iter().flatten().flatten();
        let names: Vec<String> = rings.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let left = names.iter().find(|name| self.rings.iter().any(|ring| name.contains(ring)));
        assert_eq!(left, None);
        let is_alive = |(pid, name): (&i32, &String)| {
            let now = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            now.is_ok_and(|now| now.trim() == name)
        };
        wait_for("the end of its processes", || !self.processes.iter().any(is_alive));
        (status, text(&complaint))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process, by number, with their names.
fn children(pid: Pid) -> Vec<(i32, String)> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let numbers = list.split_whitespace().filter_map(|word| word.parse().ok());
    let name = |pid: i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        // Not yet what it will be.
        name.starts_with("bench-").then_some((pid, name))
    };
    numbers.filter_map(name).collect()
}

/// What outlives its processes, of every kind.
const LASTING: &str = "fifo,unix-stream-named,sysv-queue,posix-queue,sysv-shm,posix-sem-named,board-mapped,ring-named-park,\
                       ring-posix-park,ring-sysv-park";
const KINDS: [&str; 5] = ["Directory", "Key", "Queue", "Memory", "Ring"];

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let _alone = alone();
    let mut run = Run::start(LASTING);
    run.look_for(&KINDS);
    kill(run.pid(), Signal::SIGKILL).expect("a child");
    let (status, _) = run.end();
    assert!(!status.success());
}

#[test]
fn a_killed_group_leaves_nothing_behind() {
    let _alone = alone();
    for only in ["sysv-queue", "posix-queue", "ring-named-spin"] {
        let mut run = Run::start(only);
        run.look_for(&["Directory"]);
        killpg(run.pid(), Signal::SIGKILL).expect("a group");
        run.end();
    }
}

#[test]
fn an_interrupted_run_says_so_and_leaves_nothing_behind() {
    let _alone = alone();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut run = Run::start("sysv-shm,ring-named-yield");
        run.look_for(&["Directory"]);
        // As a terminal does: everybody gets it.
        killpg(run.pid(), signal).expect("a group");
        let (status, complaint) = run.end();
        assert_eq!(status.code(), Some(code), "{complaint}");
        assert_eq!(complaint.lines().last(), Some("shmcast: interrupted"), "{complaint}");
    }
}

#[test]
fn a_dead_process_ends_the_run() {
    let _alone = alone();
    for (only, name) in
        [("pipe", "bench-receiver"), ("ring-memfd-spin", "bench-sender"), ("sysv-queue", "bench-receiver")]
    {
        let mut run = Run::start(only);
        run.look_for(&["Directory"]);
        let victim = || children(run.pid()).into_iter().find(|(_, one)| one == name);
        wait_for("a victim", || match victim() {
            // It may have ended by itself since.
            Some((pid, _)) => kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok(),
            None => false,
        });
        let mut run = run;
        wait_for("the end of the run", || run.child.try_wait().expect("a child").is_some());
        let (status, complaint) = run.end();
        assert_eq!(status.code(), Some(1), "{complaint}");
        let last = complaint.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("shmcast: {only}: ")), "{complaint}");
    }
}

#[test]
fn what_was_killed_with_its_guard_is_removed_by_the_next_run() {
    let _alone = alone();
    let mut run = Run::start(LASTING);
    run.look_for(&KINDS);
    let guard = children(run.pid()).into_iter().find(|(_, name)| name == "bench-guard").expect("a guard").0;
    // While there is something to be left behind.
    wait_for("an object", || {
        let directory = run.directory.as_ref().expect("seen");
        Place::left_in(directory).iter().any(|object| !matches!(object, Object::Directory(_)) && object.exists())
    });
    kill(Pid::from_raw(guard), Signal::SIGKILL).expect("a guard");
    killpg(run.pid(), Signal::SIGKILL).expect("a group");
    run.child.wait().expect("a child");
    let directory = run.directory.clone().expect("seen");
    assert!(directory.exists(), "there is something for the next run");
    // As long as one of them lives, it is not the next run's.
    let is_alive = |pid: &i32| kill(Pid::from_raw(*pid), None).is_ok();
    wait_for("the end of its processes", || !run.processes.keys().any(is_alive));
    let next = ["bench", "--no-html", "--only", "eventfd", "--sizes", "8", "--rounds", "1", "--slice", "1"];
    assert!(tool(&next).output().expect("the tool").status.success());
    run.end();
}

#[test]
fn a_ring_that_was_being_made_is_an_object_too() {
    let name = format!("test-half-made-{}", std::process::id());
    // So that there is a ring directory.
    let _ring = shmcast::Writer::create(&format!("{name}-other")).expect("a ring");
    let rings = std::path::Path::new("/dev/shm/shmcast");
    let (half, other) = (rings.join(format!(".{name}.1.2f.tmp")), rings.join(format!(".{name}-x.1.2f.tmp")));
    for directory in [&half, &other] {
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(directory).expect("new");
        std::fs::write(directory.join("ring"), "not whole").expect("a file");
    }
    let object = Object::Ring(name);
    assert!(object.exists());
    object.remove();
    assert!(!object.exists() && !half.exists());
    assert!(other.exists(), "it has another name");
    std::fs::remove_dir_all(other).expect("a directory");
}
