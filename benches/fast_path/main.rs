//! Guards of the fast path, without a clock and so without noise: instructions of one publish and of one receive, and what
//! the machine code of a publish may not contain. Linux on x86-64, with valgrind and objdump.
//!
//! ```text
//! cargo bench --bench fast_path                 checks; fails if a count is off by more than 5 %
//! cargo bench --bench fast_path -- --record     writes the counts into benches/fast_path/instructions.txt
//! ```
//!
//! For each of the functions in `calls.rs` this program runs itself under callgrind and collects only within that function,
//! over calls that are nothing but fast path: no slow path, no wrap, nobody asleep, no cursor due. So every call costs
//! the same, and the total divided by the number of calls is exact.
//!
//! Callgrind also says which instructions ran. Those of a publish **are** its fast path; objdump shows what they are:
//! `assembly.rs` says what is forbidden there, and which functions may be called off it.
//!
//! A new compiler may cost or save an instruction without any change of the source. The file names the compiler that it was
//! recorded with; if another one goes beyond the 5 %, look at the difference, then record anew.

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
mod assembly;
#[cfg(target_arch = "x86_64")]
mod callgrind;
#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod record;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => guard(false),
        ["--record"] => guard(true),
        // Under callgrind.
        ["call", name] => calls::run(name),
        _ => {
            eprintln!("fast_path: usage: cargo bench --bench fast_path [-- --record]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fast_path: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn guard(write: bool) -> Result<(), String> {
    if cfg!(debug_assertions) {
        return Err("this build is not optimised: cargo bench --bench fast_path".to_owned());
    }
    let runs = calls::names().map(callgrind::run).collect::<Result<Vec<_>, _>>()?;
    // Every fault in one run: what is in the machine code, then the counts.
    let program = assembly::Program::this()?;
    let mut faults = Vec::new();
    for run in &runs {
        faults.extend(program.faults(run)?);
    }
    if write {
        record::write(&runs)?;
    } else {
        faults.extend(record::check(&runs)?);
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("the fast path is not what it was\n  {}", faults.join("\n  "))) }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    eprintln!("fast_path: SKIPPED: the guards read x86-64 machine code");
    ExitCode::FAILURE
}
