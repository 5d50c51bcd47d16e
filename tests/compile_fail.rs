//! What must not compile: each program in `tests/compile_fail` fails with the error that its first line names.
//!
//! `trybuild` builds the programs. It would compare the compiler's whole output, which differs between the releases of the
//! compiler (lists of other types that implement a trait, wording around the errors), so that the tests would hold for one
//! release only. Therefore the programs are copied to a directory of their own, where `trybuild` is told to record what the
//! compiler says, and what it recorded is asked for the one line that matters. That a program fails at all is `trybuild`'s
//! own check, and `ok.rs`, which has everything that the others get wrong, must compile and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells this binary that it is the process in which `trybuild` runs: that takes its orders by the environment.
const DIRECTORY: &str = "SHMCAST_COMPILE_FAIL";
const MARK: &str = "// error: ";

#[test]
fn trybuild_records() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let cases = trybuild::TestCases::new();
    // With a program that runs, `trybuild` builds them all: errors that come with the code's generation are found, too.
    cases.pass(directory.join("ok.rs"));
    for (name, _) in programs(&directory) {
        cases.compile_fail(directory.join(name));
    }
}

#[test]
fn each_program_fails_for_its_reason() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let directory = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(&source).expect("the programs") {
        let path = entry.expect("a program").path();
        fs::copy(&path, directory.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["trybuild_records", "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env("TRYBUILD", "overwrite")
        .output()
        .expect("a process");
    let log = [output.stdout, output.stderr].map(|log| String::from_utf8_lossy(&log).into_owned()).concat();
    assert!(output.status.success(), "{log}");

    let programs = programs(directory.path());
    assert!(programs.len() >= 10, "{programs:?}");
    for (name, expected) in programs {
        let recorded = directory.path().join(&name).with_extension("stderr");
        let errors = fs::read_to_string(recorded).unwrap_or_else(|error| panic!("{name}: {error}\n{log}"));
        assert!(errors.contains(&expected), "{name} fails without {expected:?}:\n{errors}");
    }
}

/// The programs that must not compile, each with what the compiler must say.
fn programs(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).expect("the programs");
    let paths = entries.map(|entry| entry.expect("a program").path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let program = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a program");
        let expected = text.lines().next().and_then(|line| line.strip_prefix(MARK)).map(str::to_owned);
        (name, expected)
    };
    let programs = sources.map(program).filter(|(name, _)| name != "ok.rs");
    programs.map(|(name, expected)| (name.clone(), expected.unwrap_or_else(|| panic!("{name}: no {MARK}")))).collect()
}
