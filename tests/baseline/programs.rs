//! The three examples, run as a user runs them.
//!
//! `cargo test` builds the examples first; after `cargo test --test baseline` they are as old as their last build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use shmcast::baseline::{Delivery, Reach, all};

use crate::support::guard;

/// Not a multiple of any chunk.
const FILE_BYTES: usize = 1_000_003;

/// The test is `target/<profile>/deps/baseline-<hash>`, an example `target/<profile>/examples/<name>`.
fn run(example: &str, arguments: &[&str], temporary: &Path) -> Output {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("the directory of the profile");
    let path = profile.join("examples").join(example);
    assert!(path.exists(), "{} is missing: run `cargo build --examples --features baseline`", path.display());
    // What it makes, it makes there. `timeout` kills all of its processes, should it hang.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(path).args(arguments);
    command.env("TMPDIR", temporary).stdin(Stdio::null());
    command.output().expect("the example starts")
}

/// Two directories: one for files, one for what the example makes, which must be empty afterwards.
fn directories() -> [tempfile::TempDir; 2] {
    [(); 2].map(|()| tempfile::tempdir_in(guard::directory()).expect("a directory"))
}

fn assert_empty(directory: &Path) {
    let left: Vec<PathBuf> =
        std::fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn transfer(transport: &str, from: &Path, to: &Path, temporary: &Path) -> Output {
    let paths = [from, to].map(|path| path.to_str().expect("UTF-8"));
    run("file_transfer", &["--transport", transport, paths[0], paths[1]], temporary)
}

#[test]
fn a_file_goes_over_every_transport_that_can() {
    let [files, temporary] = directories();
    let (from, to) = (files.path().join("from"), files.path().join("to"));
    let content: Vec<u8> = (0..FILE_BYTES).map(|at| (at * at / 7 % 251) as u8).collect();
    std::fs::write(&from, &content).expect("a file");
    for transport in all() {
        let (name, rules) = (transport.name(), transport.rules());
        // The wait strategies differ in nothing here: one of them is enough.
        if name.starts_with("ring") && !name.ends_with("-park") {
            continue;
        }
        let output = transfer(&name, &from, &to, temporary.path());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_empty(temporary.path());
        if rules.max_record < 100 || rules.reach <= Reach::Forks {
            assert!(!output.status.success() && errors.contains("cannot"), "{name}: {errors}");
            assert!(!to.exists(), "{name}");
        } else if rules.delivery == Delivery::Lossless || output.status.success() {
            assert!(output.status.success(), "{name}: {errors}");
            assert!(std::fs::read(&to).expect("a file") == content, "{name}: the file differs");
            std::fs::remove_file(&to).expect("a file");
        } else {
            // Whoever loses chunks says so, and makes no file. (Or the end mark is lost, and that is said.)
            assert!(
                errors.contains("lost") || errors.contains("without an end mark") || errors.contains("timed out"),
                "{name}: {errors}"
            );
            assert!(!to.exists(), "{name}");
        }
        let left = std::fs::read_dir(files.path()).expect("a directory").count();
        assert_eq!(left, 1, "{name}: the file that was sent, and nothing else");
    }
}

#[test]
fn an_empty_file_and_a_missing_one() {
    let [files, temporary] = directories();
    let (from, to) = (files.path().join("from"), files.path().join("to"));
    let output = transfer("pipe", &from, &to, temporary.path());
    assert!(!output.status.success() && !to.exists());
    std::fs::write(&from, "").expect("a file");
    assert!(transfer("unix-seqpacket", &from, &to, temporary.path()).status.success());
    assert_eq!(std::fs::read(&to).expect("a file"), b"");
    let output = run("file_transfer", &["--transport", "pipe"], temporary.path());
    assert_eq!(output.status.code(), Some(2), "wrong arguments");
}

#[test]
fn the_worker_pool_serves_on_when_a_worker_is_killed() {
    let [_, temporary] = directories();
    let output = run("worker_pool", &["--workers", "3", "--clients", "6", "--requests", "50"], temporary.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("300 requests served").count(), 3, "{said}");
    assert!(
        said.contains("is killed") && said.contains("takes its place") && said.ends_with("all workers have ended\n"),
        "{said}"
    );
    assert_eq!(run("worker_pool", &["--workers", "1"], temporary.path()).status.code(), Some(2));
}

#[test]
fn one_epoll_loop_serves_a_ring_a_socket_and_a_pipe() {
    let [_, temporary] = directories();
    let output = run("multiplexer", &["--records", "200"], temporary.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for source in ["ring-memfd-park (bridged)", "unix-seqpacket-named", "pipe", "ring-memfd-park (no bridge"] {
        let line =
            said.lines().find(|line| line.starts_with(source)).unwrap_or_else(|| panic!("no {source} in {said}"));
        assert!(line.split_whitespace().any(|word| word == "200"), "{line}");
    }
    assert_empty(temporary.path());
}
