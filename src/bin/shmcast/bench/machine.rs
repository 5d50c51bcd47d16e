//! Where a run ran, and what spoiled it.

use std::fs::read_to_string;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use super::result::{Machine, Spread, Warning};

/// The system's account of the processors' time: in ticks, of all of them together.
#[derive(Clone, Copy, Default)]
struct Account {
    all: f64,
    busy: f64,
    stolen: f64,
}

/// A look at the machine before the run.
pub(super) struct Before {
    account: Account,
    load: [f64; 3],
}

fn file(path: &str) -> Option<String> {
    let text = read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn account() -> Option<Account> {
    let text = read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = numbers[..] else { return None };
    let busy = user + nice + system + irq + softirq;
    Some(Account { all: busy + idle + iowait + stolen, busy, stolen })
}

/// What this run has used so far: in ticks.
fn own() -> Option<f64> {
    let seconds = |usage: Usage| {
        [usage.user_time(), usage.system_time()]
            .iter()
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .sum::<f64>()
    };
    let all = seconds(getrusage(UsageWho::RUSAGE_SELF).ok()?) + seconds(getrusage(UsageWho::RUSAGE_CHILDREN).ok()?);
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    Some(all * per_second)
}

impl Before {
    pub(super) fn look() -> Before {
        let load = file("/proc/loadavg").unwrap_or_default();
        let mut numbers = load.split_whitespace().filter_map(|word| word.parse().ok());
        let load = [(); 3].map(|()| numbers.next().unwrap_or(0.0));
        Before { account: account().unwrap_or_default(), load }
    }

    /// The machine, after the run.
    pub(super) fn machine(&self, (sender_cpu, receiver_cpu): (usize, usize)) -> Machine {
        let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = read_to_string("/proc/meminfo").unwrap_or_default();
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        let name = nix::sys::utsname::uname().ok();
        let words = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            name.as_ref().map_or_else(String::new, |name| of(name).to_string_lossy().into_owned())
        };
        let during = account().map(|after| Account {
            all: (after.all - self.account.all).max(1.0),
            busy: after.busy - self.account.busy,
            stolen: after.stolen - self.account.stolen,
        });
        let governor = format!("/sys/devices/system/cpu/cpu{sender_cpu}/cpufreq/scaling_governor");
        Machine {
            cpu: value("model name").or_else(|| value("CPU implementer")).unwrap_or_else(|| "unknown".to_owned()),
            processors: online(),
            sender_cpu,
            receiver_cpu,
            kernel: format!("{} {}", words(|name| name.sysname()), words(|name| name.release())),
            architecture: std::env::consts::ARCH.to_owned(),
            memory_bytes: kib.unwrap_or(0_u64) * 1024,
            hypervisor: value("flags").filter(|flags| flags.split(' ').any(|flag| flag == "hypervisor")).map(|_| {
                let kind = || file("/sys/hypervisor/type").or_else(|| file("/sys/class/dmi/id/sys_vendor"));
                kind().unwrap_or_else(|| "unknown".to_owned())
            }),
            governor: file(&governor),
            load: self.load,
            steal: during.map(|time| (time.stolen / time.all).clamp(0.0, 1.0)),
            others: during.zip(own()).map(|(time, own)| ((time.busy - own) / time.all).clamp(0.0, 1.0)),
            debug_build: cfg!(debug_assertions),
        }
    }
}

fn online() -> usize {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    count.map_or(1, |count| count.max(1) as usize)
}

/// The ping-pong differs by more from round to round: the machine changed.
const DRIFT: f64 = 1.3;

/// What spoils the figures of this run.
pub(super) fn warnings(machine: &Machine, one_line: &Spread) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind: &str, text: String| warnings.push(Warning { kind: kind.to_owned(), text });
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    if machine.debug_build {
        warn("debug-build", "this is a debug build: measure with `cargo run --release`".to_owned());
    }
    if machine.sender_cpu == machine.receiver_cpu {
        warn(
            "one-processor",
            "sender and receivers share one processor: who spins waits for its turn; allow two or more".to_owned(),
        );
    } else if machine.processors < 4 {
        let count = machine.processors;
        warn(
            "few-processors",
            format!(
                "{count} processors: sender and receivers have them, and everything else runs there, too; use more"
            ),
        );
    }
    if let Some(governor) = machine.governor.as_deref().filter(|governor| *governor != "performance") {
        warn(
            "governor",
            format!("the processors' frequency is scaled ({governor}): `cpupower frequency-set -g performance`"),
        );
    }
    if let Some(steal) = machine.steal.filter(|steal| *steal > 0.01) {
        let text = "the hypervisor took the processors away for";
        warn(
            "steal",
            format!("{text} {} of the time: tails are the host's; repeat it when that is quiet", percent(steal)),
        );
    }
    if let Some(others) = machine.others.filter(|others| *others > 0.05) {
        warn("busy", format!("other processes used {} of the processors' time; end them", percent(others)));
    }
    if machine.load[0] > 0.5 * machine.processors as f64 {
        warn("load", format!("the load average was {:.1} at the beginning; wait until it is near 0", machine.load[0]));
    }
    if one_line.max > DRIFT * one_line.min {
        let (min, max) = (one_line.min, one_line.max);
        warn(
            "drift",
            format!(
                "a bare ping-pong took from {min:.0} to {max:.0} ns: the processors' distance or speed changed between the \
                 rounds; compare figures of this run only with each other"
            ),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Before::look().machine((0, 0));
        assert!(machine.processors > 0 && machine.memory_bytes > 0 && !machine.cpu.is_empty());
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        let steal = machine.steal.expect("/proc/stat");
        assert!((0.0..=1.0).contains(&steal));
    }

    #[test]
    fn what_spoils_a_run_is_told() {
        let quiet = Machine {
            processors: 8,
            sender_cpu: 0,
            receiver_cpu: 7,
            governor: Some("performance".to_owned()),
            load: [0.0; 3],
            steal: Some(0.0),
            others: Some(0.0),
            debug_build: false,
            ..Before::look().machine((0, 0))
        };
        let steady = Spread { median: 100.0, min: 99.0, max: 101.0 };
        let kinds = |machine: &Machine, line: &Spread| {
            warnings(machine, line).into_iter().map(|warning| warning.kind).collect::<Vec<_>>()
        };
        assert!(kinds(&quiet, &steady).is_empty());
        let spoiled = Machine {
            processors: 2,
            governor: Some("powersave".to_owned()),
            load: [3.0; 3],
            steal: Some(0.2),
            others: Some(0.4),
            debug_build: true,
            ..quiet.clone()
        };
        let far = Spread { max: 400.0, ..steady };
        let all = ["debug-build", "few-processors", "governor", "steal", "busy", "load", "drift"];
        assert_eq!(kinds(&spoiled, &far), all);
        assert_eq!(kinds(&Machine { receiver_cpu: 0, ..quiet }, &steady), ["one-processor"]);
    }
}
