//! Runs one of the calls under callgrind.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;

use crate::calls::CALLS;

/// What callgrind saw within one of the functions.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    /// Instructions of one call, with what it calls.
    pub(crate) instructions: u64,
    /// Where the program's instructions ran, by address in the file, with how often.
    pub(crate) executed: BTreeMap<u64, u64>,
}

/// # Errors
/// What went wrong; the machine has no valgrind, first of all.
pub(crate) fn run(name: &'static str) -> Result<Run, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = directory.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"])
        .args([format!("--toggle-collect={name}"), format!("--callgrind-out-file={}", out.display())])
        .arg(&program)
        .args(["call", name])
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "SKIPPED: the guards need valgrind (apt-get install valgrind)".to_owned(),
            _ => format!("valgrind: {error}"),
        })?;
    if !output.status.success() {
        return Err(format!("{name} under valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    parse(name, &text)
}

/// The parts of callgrind's format that matter here: `totals: COUNT`, and lines `0xADDRESS LINE COUNT`. A line behind one
/// that begins with `calls=` is the cost of a call, not of an instruction.
fn parse(name: &'static str, text: &str) -> Result<Run, String> {
    let (mut total, mut executed, mut of_call) = (0, BTreeMap::new(), false);
    let mut object = "";
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("totals: ") {
            total = count.parse().map_err(|_| format!("callgrind's total is {count:?}"))?;
        } else if let Some(path) = line.strip_prefix("ob=") {
            object = path;
        } else if let Some(instruction) = line.strip_prefix("0x") {
            let mut fields = instruction.split(' ');
            let address = fields.next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let count = fields.nth(1).and_then(|count| count.parse::<u64>().ok());
            if let (Some(address), Some(count), false) = (address, count, of_call)
                && Some(object) == program.to_str()
            {
                *executed.entry(address).or_default() += count;
            }
        }
        of_call = line.starts_with("calls=");
    }
    if total == 0 || total % CALLS != 0 {
        return Err(format!("{CALLS} calls of {name} took {total} instructions: they are not alike"));
    }
    Ok(Run { name, instructions: total / CALLS, executed })
}
