//! Who is measured: families, the usual choice, and the rules of each in words.

use shmcast::baseline::{self, Borders, Death, Delivery, FanOut, Reach, Transport, Wake};

use super::result::{self, Family, FanOutWay, Loss};
use crate::Failure;

/// One that is measured.
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) transport: Box<dyn Transport>,
    pub(super) rules: baseline::Rules,
}

/// Of every family, whatever differs in speed or in rules; not every lock, kind of ring or name of a socket.
const USUAL: [&str; 21] = [
    "pipe",
    "fifo",
    "unix-stream",
    "unix-datagram",
    "unix-seqpacket",
    "tcp",
    "udp",
    "udp-multicast",
    "sysv-queue",
    "posix-queue",
    "sysv-shm",
    "posix-sem-unnamed",
    "board-flock",
    "board-mapped",
    "signal-queued",
    "eventfd",
    "ring-memfd-park",
    "ring-named-park",
    "ring-named-park-at-once",
    "ring-named-yield",
    "ring-named-spin",
];

/// Families as the command line has them. `pipe` and `eventfd` are transports, too.
const FAMILIES: [(&str, Family); 8] = [
    ("pipes", Family::Pipe),
    ("sockets", Family::Socket),
    ("queues", Family::Queue),
    ("semaphores", Family::Semaphore),
    ("boards", Family::Board),
    ("signals", Family::Signal),
    ("eventfd", Family::Eventfd),
    ("rings", Family::Ring),
];

/// How the two ends of a ring wait, longest names first.
const WAITS: [&str; 4] = ["park-at-once", "park", "yield", "spin"];

impl Contender {
    fn new(transport: Box<dyn Transport>) -> Contender {
        let (name, rules) = (transport.name(), transport.rules());
        Contender { family: family_of(&name), name, transport, rules }
    }

    pub(super) fn is_usual(&self) -> bool {
        USUAL.contains(&self.name.as_str())
    }

    /// How a ring waits.
    pub(super) fn wait(&self) -> Option<&'static str> {
        let is = |wait: &&&str| self.name.ends_with(&format!("-{wait}"));
        (self.family == Family::Ring).then(|| WAITS.iter().find(is).copied()).flatten()
    }

    /// Its ends cannot be handed to processes that run already: both are threads of one process.
    pub(super) fn needs_threads(&self) -> bool {
        matches!(self.rules.reach, Reach::Threads | Reach::Forks)
    }

    /// Bytes of its records where `size` is asked for; none if it carries no such records.
    pub(super) fn bytes(&self, size: usize) -> Option<usize> {
        // In the first column stands what each carries at most.
        let short = size <= super::payload::MIN_BYTES && self.rules.max_record < size;
        let bytes = if short { self.rules.max_record } else { size };
        (self.rules.min_record..=self.rules.max_record).contains(&bytes).then_some(bytes)
    }

    pub(super) fn is_lossless(&self) -> bool {
        self.rules.delivery == Delivery::Lossless
    }
}

fn family_of(name: &str) -> Family {
    match name.split('-').next().unwrap_or_default() {
        "pipe" | "fifo" => Family::Pipe,
        "unix" | "tcp" | "udp" => Family::Socket,
        "board" => Family::Board,
        "signal" => Family::Signal,
        "eventfd" => Family::Eventfd,
        "ring" => Family::Ring,
        _ if name.ends_with("-queue") => Family::Queue,
        _ => Family::Semaphore,
    }
}

/// All of them, in the order of the tables.
pub(super) fn everybody() -> Vec<Contender> {
    baseline::all().into_iter().map(Contender::new).collect()
}

/// Those that the command line means.
pub(super) fn chosen(only: &[String], all: bool) -> Result<Vec<Contender>, Failure> {
    let everybody = everybody();
    let mut names = Vec::new();
    for word in only {
        let family = |(name, _): &&(&str, Family)| *name == word || name.strip_suffix('s') == Some(word);
        let before = names.len();
        if everybody.iter().any(|one| one.name == *word) {
            names.push(word.clone());
        } else if let Some((_, family)) = FAMILIES.iter().find(family) {
            let meant = everybody.iter().filter(|one| one.family == *family && (all || one.is_usual()));
            names.extend(meant.map(|one| one.name.clone()));
        }
        if names.len() == before {
            return Err(Failure::Usage(format!(
                "there is no transport and no family called {word:?}; `shmcast bench --list` shows them"
            )));
        }
    }
    let is_meant = |one: &Contender| match only {
        [] => all || one.is_usual(),
        _ => names.contains(&one.name),
    };
    Ok(everybody.into_iter().filter(is_meant).collect())
}

/// What `--list` prints.
pub(super) fn list() -> String {
    let mut text = String::new();
    for (word, family) in FAMILIES {
        text.push_str(word);
        text.push('\n');
        for one in everybody().iter().filter(|one| one.family == family) {
            let usual = if one.is_usual() { '*' } else { ' ' };
            text.push_str(&format!("  {usual} {:<28} {}\n", one.name, reach_text(one.rules.reach)));
        }
    }
    text.push_str(
        "\n* is measured unless --all or --only says otherwise. --only takes these names, and the families'.\n",
    );
    text
}

/// The rules of one, in words.
pub(super) fn rules(one: &Contender) -> result::Rules {
    let Contender { name, rules, family, .. } = one;
    result::Rules {
        reach: match rules.reach {
            Reach::Threads => result::Reach::Threads,
            Reach::Forks => result::Reach::Forks,
            Reach::Descriptors => result::Reach::Descriptors,
            Reach::Names => result::Reach::Host,
            Reach::Network => result::Reach::Network,
        },
        reach_text: reach_text(rules.reach).to_owned(),
        connected: is_connected(name),
        access: access(name, *family).to_owned(),
        loss: match rules.delivery {
            Delivery::Lossless => Loss::Lossless,
            Delivery::Counted => Loss::Counted,
            Delivery::Silent => Loss::Silent,
        },
        loss_text: loss_text(rules).to_owned(),
        fan_out: match rules.fan_out {
            FanOut::SendToEach => FanOutWay::SendToEach,
            FanOut::Once => FanOutWay::Once,
            FanOut::One => FanOutWay::One,
        },
        fan_out_text: fan_out_text(name, *family, rules.fan_out).to_owned(),
        races: races(*family).to_owned(),
        death: death(rules).to_owned(),
        framed: matches!(rules.borders, Borders::Framed { .. }),
        max_record: rules.max_record,
        wake: match rules.wake {
            Wake::Kernel => "by the kernel",
            Wake::Polled => "looks again and again, with naps of up to 1 ms",
            Wake::Spins => "looks without end: a processor of its own",
        }
        .to_owned(),
        pollable: rules.pollable,
        outlives: rules.outlives,
    }
}

fn reach_text(reach: Reach) -> &'static str {
    match reach {
        Reach::Threads => "threads of one process",
        Reach::Forks => "processes related by fork",
        Reach::Descriptors => "processes that inherit its descriptors, or are handed them",
        Reach::Names => "any process of this machine that knows the name",
        Reach::Network => "other machines, too",
    }
}

fn is_connected(name: &str) -> bool {
    match name {
        "pipe" | "fifo" | "tcp" | "udp-connected" | "eventfd" => true,
        // A pair of sockets is connected when it is made.
        "unix-datagram-named" => false,
        _ => name.starts_with("unix-") || name.starts_with("signal-"),
    }
}

fn access(name: &str, family: Family) -> &'static str {
    match (family, name) {
        (Family::Pipe, "fifo") => "the modes of a file, here 0600",
        (Family::Pipe | Family::Eventfd, _) => "whoever holds a descriptor",
        (_, "tcp" | "udp" | "udp-connected" | "udp-broadcast" | "udp-multicast") => {
            "whoever reaches the port: a firewall, or what the program asks for itself"
        }
        (Family::Socket, name) if name.ends_with("-named") => {
            "the modes of a file and its directory; the kernel tells who connected"
        }
        (Family::Socket, _) => "whoever holds a descriptor; the kernel tells whose it is",
        (Family::Queue, "sysv-queue") | (Family::Semaphore, "sysv-shm") => "the modes of the object, here 0600",
        (Family::Queue, _) => "the modes of the queue, here 0600",
        (Family::Semaphore, _) => "whoever holds the descriptors of the memory",
        (Family::Board, _) => "the modes of a file: who may write can also damage",
        (Family::Signal, _) => "processes of the same user",
        (Family::Ring, name) if name.contains("memfd-strict") => {
            "whoever is handed the descriptors; the kernel lets nobody but the writer write"
        }
        (Family::Ring, name) if name.contains("memfd") => {
            "whoever is handed the descriptors; sealed against truncation"
        }
        (Family::Ring, name) if name.contains("anonymous") => "children of the process that made it",
        (Family::Ring, name) if name.contains("heap") => "the process itself",
        (Family::Ring, _) => "modes for owner, group and everyone; readers map it read-only",
    }
}

fn loss_text(rules: &baseline::Rules) -> &'static str {
    match (rules.delivery, rules.holds_sender) {
        (Delivery::Lossless, true) => "none: a sender that finds no room waits for the slowest receiver",
        (Delivery::Lossless, false) => "none: a count that is added up",
        (Delivery::Counted, _) => "what a receiver does not take in time is lost; it is told how much",
        (Delivery::Silent, _) => "sent twice before it is received, it comes once; nobody can tell",
    }
}

fn fan_out_text(name: &str, family: Family, way: FanOut) -> &'static str {
    match (way, family) {
        (FanOut::One, _) => "reaches one receiver only",
        (FanOut::SendToEach, _) => "sent to each receiver in turn",
        (FanOut::Once, Family::Ring) => "broadcast ring: published once, read by each",
        (FanOut::Once, Family::Board) => "posted once, looked at by each",
        (FanOut::Once, Family::Socket) if name == "udp-multicast" => "multicast: sent once, copied by the kernel",
        (FanOut::Once, Family::Socket) => "broadcast: sent once, copied by the kernel",
        (FanOut::Once, _) => "written once, read by each; a semaphore operation for each",
    }
}

fn races(family: Family) -> &'static str {
    match family {
        Family::Pipe => "several writers do not mix up to PIPE_BUF (4096 bytes); larger records need one writer",
        Family::Socket => "the kernel keeps messages whole; a stream needs one writer",
        Family::Queue => "none: the kernel keeps messages whole, whoever sends",
        Family::Semaphore => "semaphores say whose turn it is: who forgets one has a race",
        Family::Board => "a lock around each look and post: who forgets it reads halves",
        Family::Signal => "standard signals merge; queued ones keep their order",
        Family::Eventfd => "none: a count",
        Family::Ring => "none: one writer by type, and a reader returns committed records only",
    }
}

fn death(rules: &baseline::Rules) -> &'static str {
    match (rules.sender_end.death, rules.sender_end.close) {
        (Death::Told, _) => "a death is told apart from a close",
        (Death::LooksClosed, _) => "a death looks like a close",
        (Death::Unseen, true) => "a close is seen, a death is not: use timeouts",
        (Death::Unseen, false) => "nothing is seen: use timeouts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ones_exist_and_have_every_family() {
        let everybody = everybody();
        for name in USUAL {
            assert!(everybody.iter().any(|one| one.name == name), "there is no {name}");
        }
        for (word, family) in FAMILIES {
            assert!(everybody.iter().any(|one| one.family == family && one.is_usual()), "none of the {word}");
        }
        let rings = everybody.iter().filter(|one| one.family == Family::Ring);
        assert!(rings.map(Contender::wait).all(|wait| wait.is_some()));
    }

    #[test]
    fn names_and_families_are_chosen() {
        let names = |only: &[&str], all| {
            let only: Vec<String> = only.iter().map(|&word| word.to_owned()).collect();
            chosen(&only, all).map(|chosen| chosen.into_iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["ring-heap-spin", "pipe"], false).unwrap(), ["pipe", "ring-heap-spin"]);
        assert_eq!(names(&["pipes"], false).unwrap(), ["pipe", "fifo"]);
        assert_eq!(names(&["ring"], false).unwrap().len(), 5);
        assert_eq!(names(&["rings"], true).unwrap().len(), 32);
        assert_eq!(names(&[], true).unwrap().len(), everybody().len());
        assert!(matches!(names(&["pipe", "carrier-pigeon"], false), Err(Failure::Usage(_))));
    }
}
