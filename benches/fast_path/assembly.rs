//! What the machine code of a call may contain: on its fast path, the instructions that ran, no call, no locked instruction
//! and no fence. In a publish there is no locked instruction and no fence at all, and calls, off the fast path, only of the
//! few cold functions that make up the slow path: so of nothing that panics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::callgrind::Run;
use crate::calls::CALLS;

/// All that a publish may call, off its fast path; the last one finds out, once in a process, what the processor can do.
const SLOW: [&str; 4] = ["wait_for_room", "wake_readers", "full_fence", "detect_and_initialize"];

/// This program, as objdump shows it.
pub(crate) struct Program {
    path: PathBuf,
    /// The names of the functions, by address.
    functions: BTreeMap<u64, String>,
    /// The functions that are called through a table, by the address of its entry.
    table: BTreeMap<u64, u64>,
}

/// One line of a disassembly.
struct Instruction<'a> {
    address: u64,
    mnemonic: &'a str,
    operands: &'a str,
}

impl Program {
    /// # Errors
    /// There is no objdump.
    pub(crate) fn this() -> Result<Program, String> {
        let path = std::env::current_exe().map_err(|error| error.to_string())?;
        let (mut functions, mut table) = (BTreeMap::new(), BTreeMap::new());
        // `0000000000035ee0 g     F .text` a tab `0000000000000007              shmcast::memory::full_fence`
        for line in objdump(&path, &["--syms", "--demangle"])?.lines() {
            if let Some((address, rest)) = line.split_once(' ')
                && let (Some(address), Some((_, name))) = (hex(address), rest.split_once(".text\t"))
            {
                // Its size comes first.
                let name = name.split_once(' ').map_or(name, |(_, name)| name.trim_start());
                functions.insert(address, name.to_owned());
            }
        }
        // `0000000000092650 R_X86_64_RELATIVE  *ABS*+0x0000000000035ee0`
        for line in objdump(&path, &["--dynamic-reloc"])?.lines() {
            if let Some((entry, relocation)) = line.split_once(' ')
                && let (Some(entry), Some((_, function))) = (hex(entry), relocation.split_once("*ABS*+0x"))
            {
                table.insert(entry, hex(function).unwrap_or(0));
            }
        }
        Ok(Program { path, functions, table })
    }

    /// What is forbidden in the function that a run measured.
    ///
    /// # Errors
    /// objdump shows something else than a function.
    pub(crate) fn faults(&self, run: &Run) -> Result<Vec<String>, String> {
        let text = objdump(&self.path, &["--no-show-raw-insn", &format!("--disassemble={}", run.name)])?;
        let body: Vec<Instruction<'_>> = text.lines().filter_map(instruction).collect();
        let ran = |line: &Instruction<'_>| run.executed.contains_key(&line.address);
        let begins = body.first().is_some_and(ran);
        if !begins || !body.iter().any(|line| ran(line) && line.mnemonic == "ret") {
            return Err(format!("callgrind and objdump do not speak of the same {}", run.name));
        }
        let mut faults = Vec::new();
        // Are all instructions that were counted the function's own?
        let inside: u64 = body.iter().filter_map(|line| run.executed.get(&line.address)).sum();
        if inside != run.instructions * CALLS {
            let outside = run.instructions - inside / CALLS;
            faults.push(format!("{}: {outside} of {} instructions are in other functions", run.name, run.instructions));
        }
        for line in &body {
            if let Some(what) = self.fault(line, &body, ran(line), run.name.starts_with("publish")) {
                let Instruction { address, mnemonic, operands } = line;
                faults.push(format!("{}: {address:x}: {mnemonic} {operands}: {what}", run.name));
            }
        }
        let fast = body.iter().filter(|line| ran(line)).count();
        println!("{:12} {fast:4} of {:4} instructions are its fast path", run.name, body.len());
        Ok(faults)
    }

    fn fault(&self, line: &Instruction<'_>, body: &[Instruction<'_>], fast: bool, publish: bool) -> Option<String> {
        let Instruction { mnemonic, operands, .. } = *line;
        let jump = mnemonic.starts_with('j');
        let target = self.target(operands);
        let within = jump && target.is_some_and(|target| body.iter().any(|line| line.address == target));
        let calls = mnemonic == "call" || jump && !within;
        // An exchange with memory is locked without saying so.
        let locked = mnemonic == "lock" || mnemonic == "xchg" && operands.contains('(');
        let fence = ["mfence", "sfence", "lfence", "cpuid", "syscall"].contains(&mnemonic);
        if fast && mnemonic == "call" {
            Some("a call on the fast path".to_owned())
        } else if (fast || publish) && locked {
            Some("a locked instruction".to_owned())
        } else if (fast || publish) && fence {
            Some("a fence".to_owned())
        } else if publish && calls {
            let name =
                target.and_then(|target| self.functions.get(&target)).map_or("something unknown", String::as_str);
            let slow = SLOW.iter().any(|slow| name.split("::").any(|part| part == *slow));
            (!slow).then(|| format!("a call of {name}, which is no part of the slow path"))
        } else if publish && mnemonic.starts_with("ud") {
            Some("a trap".to_owned())
        } else {
            None
        }
    }

    /// Where a jump or a call goes: `27495 <publish_64+0xe5>`, or `*0x6b0f2(%rip)        # 92650 <_DYNAMIC+0x298>`.
    fn target(&self, operands: &str) -> Option<u64> {
        match operands.split_once("# ") {
            Some((_, entry)) => self.table.get(&first_hex(entry)?).copied(),
            None => first_hex(operands),
        }
    }
}

fn objdump(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("objdump").args(arguments).arg(path).output();
    let output = output.map_err(|error| format!("SKIPPED: needs objdump (apt-get install binutils): {error}"))?;
    String::from_utf8(output.stdout).map_err(|error| format!("objdump: {error}"))
}

/// `  1c2f40:` a tab `mov    %rsp,%rbp`
fn instruction(line: &str) -> Option<Instruction<'_>> {
    let (address, text) = line.split_once(":\t")?;
    let (mnemonic, operands) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    Some(Instruction { address: hex(address.trim())?, mnemonic, operands: operands.trim() })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn first_hex(text: &str) -> Option<u64> {
    hex(text.split(' ').next()?)
}
