//! The counts that are written down, and how those of now compare.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::callgrind::Run;

/// Counts may differ by so much of the recorded one.
const TOLERANCE: f64 = 0.05;

const HEAD: &str = "\
# Instructions of one call on the fast path, counted by callgrind: see main.rs. Checked within 5 % by
#   cargo bench --bench fast_path
# After a change of the source or of the compiler that is meant to change them:
#   cargo bench --bench fast_path -- --record
";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/fast_path/instructions.txt")
}

/// `compiler` and `processor`: what the counts depend on besides the source.
fn setting() -> Result<[(&'static str, String); 2], String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().map_err(|error| format!("rustc --version: {error}"))?;
    let compiler = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // The copies of 1024 bytes have a loop for each.
    let avx = if std::is_x86_feature_detected!("avx") { "with AVX" } else { "without AVX" };
    Ok([("compiler", compiler), ("processor", format!("x86-64 {avx}"))])
}

/// # Errors
/// The file cannot be written.
pub(crate) fn write(runs: &[Run]) -> Result<(), String> {
    let mut text = HEAD.to_owned();
    for (key, value) in setting()? {
        writeln!(text, "{key} = {value}").map_err(|error| error.to_string())?;
    }
    for run in runs {
        writeln!(text, "{} = {}", run.name, run.instructions).map_err(|error| error.to_string())?;
    }
    print!("{text}");
    std::fs::write(path(), text).map_err(|error| format!("{}: {error}", path().display()))
}

/// Prints every count beside the recorded one; answers what is off.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn check(runs: &[Run]) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path()).map_err(|error| format!("{}: {error}", path().display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let recorded: Vec<(&str, &str)> = lines.collect();
    let value = |key| recorded.iter().find(|(found, _)| *found == key).map(|(_, value)| *value);

    let mut faults = Vec::new();
    for run in runs {
        let Some(before) = value(run.name).and_then(|count| count.parse::<u64>().ok()) else {
            faults.push(format!("{}: not recorded; {HOW}", run.name));
            continue;
        };
        let change = run.instructions as f64 / before as f64 - 1.0;
        println!("{:12} {:4} instructions, recorded {before:4} ({:+.1} %)", run.name, run.instructions, change * 100.0);
        if change.abs() > TOLERANCE {
            faults.push(format!("{}: {} instructions, recorded {before}", run.name, run.instructions));
        }
    }
    for (key, now) in setting()? {
        let then = value(key).unwrap_or("unknown");
        if then != now {
            println!("recorded with the {key} {then}, but this is {now}");
            println!("  that may change the counts by itself; if nothing else did: {HOW}");
        }
    }
    if !faults.is_empty() {
        faults.push(format!("if the change is meant, or the compiler's: {HOW}"));
    }
    Ok(faults)
}

const HOW: &str = "cargo bench --bench fast_path -- --record";
