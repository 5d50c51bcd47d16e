//! The report as the sections want it: transports with their names, colours and marks, and questions that several of them ask.

use super::super::result::{Claim, Family, Figure, PingPong, Report, Throughput, Transport};
use super::plot::{Ink, Mark};

/// A receiver that uses less of a processor than this while it waits sleeps.
pub(super) const ASLEEP: f64 = 0.02;

/// A transport, and how it is shown everywhere.
#[derive(Clone, Debug)]
pub(super) struct Contender<'r> {
    pub(super) transport: &'r Transport,
    /// Its name; that of a ring without its kind, where this leaves no doubt.
    pub(super) label: String,
    pub(super) ink: Ink,
    pub(super) mark: Mark,
}

impl<'r> Contender<'r> {
    pub(super) fn is_ring(&self) -> bool {
        self.transport.family == Family::Ring
    }

    pub(super) fn ping_pong(&self, size: usize) -> Option<&'r PingPong> {
        self.transport.ping_pong.iter().find(|one| one.size == size)
    }

    pub(super) fn throughput(&self, size: usize) -> Option<&'r Throughput> {
        self.transport.throughput.iter().find(|one| one.size == size)
    }

    /// Median of the median round trip: ns.
    pub(super) fn round_trip(&self, size: usize) -> Option<f64> {
        self.ping_pong(size).map(|one| one.round_trip.p50.median)
    }

    /// Records each second that arrived.
    pub(super) fn rate(&self, size: usize) -> Option<f64> {
        self.throughput(size).map(|one| one.records_per_second.median)
    }

    /// Records reach so many receivers: each second.
    pub(super) fn fan_out(&self, receivers: usize) -> Option<f64> {
        let of = |one: &&super::super::result::FanOut| one.receivers == receivers;
        self.transport.fan_out.iter().find(of).map(|one| one.records_per_second.median)
    }

    /// Its receivers leave the processor to others while they wait: measured, or by its rules.
    pub(super) fn sleeps(&self) -> bool {
        match &self.transport.idle {
            Some(idle) => idle.cpu_share.median < ASLEEP,
            None => !self.transport.rules.wake.contains("spin"),
        }
    }

    /// It carries the bytes of records of this size, not only a few of them or none.
    pub(super) fn carries(&self, size: usize) -> bool {
        let of = |one: Option<usize>| one.is_none_or(|bytes| bytes == size);
        of(self.ping_pong(size).map(|one| one.bytes)) && of(self.throughput(size).map(|one| one.bytes))
    }
}

/// The report, and its transports in the order in which they are told.
#[derive(Debug)]
pub(super) struct View<'r> {
    pub(super) report: &'r Report,
    pub(super) contenders: Vec<Contender<'r>>,
}

impl<'r> View<'r> {
    pub(super) fn of(report: &'r Report) -> View<'r> {
        let rings = || report.transports.iter().filter(|one| one.family == Family::Ring);
        let mut contenders: Vec<Contender<'r>> = Vec::new();
        for transport in &report.transports {
            let before = contenders.iter().filter(|one| one.transport.family == transport.family).count();
            let label = match &transport.wait {
                Some(wait) if rings().filter(|ring| ring.wait.as_ref() == Some(wait)).count() == 1 => {
                    format!("ring {wait}")
                }
                _ => transport.name.clone(),
            };
            let ink = ink(transport.family);
            contenders.push(Contender { transport, label, ink, mark: Mark::SERIES[before % Mark::SERIES.len()] });
        }
        View { report, contenders }
    }

    /// The transport of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Contender<'r>> {
        self.contenders.iter().find(|one| one.transport.name == name)
    }

    pub(super) fn rings(&self) -> impl Iterator<Item = &Contender<'r>> {
        self.contenders.iter().filter(|one| one.is_ring())
    }

    pub(super) fn claims(&self, figure: Figure) -> Vec<&'r Claim> {
        self.report.claims.iter().filter(|claim| claim.figure == figure).collect()
    }

    /// Whose figure is the smallest.
    pub(super) fn least<'v>(
        &'v self,
        may: impl Fn(&Contender<'r>) -> bool,
        figure: impl Fn(&Contender<'r>) -> Option<f64>,
    ) -> Option<(&'v Contender<'r>, f64)> {
        let figures = self.contenders.iter().filter(|one| may(one)).filter_map(|one| Some((one, figure(one)?)));
        figures.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// Whose figure is the largest.
    pub(super) fn most<'v>(
        &'v self,
        may: impl Fn(&Contender<'r>) -> bool,
        figure: impl Fn(&Contender<'r>) -> Option<f64>,
    ) -> Option<(&'v Contender<'r>, f64)> {
        self.least(may, |one| figure(one).map(|value| -value)).map(|(one, value)| (one, -value))
    }

    /// The size that stands for small records: 64 bytes, or the one next to it that was measured.
    pub(super) fn small(&self) -> Option<usize> {
        self.report.sizes.iter().copied().min_by_key(|size| size.abs_diff(64))
    }

    /// The one that stands for large records, if there is a larger one than [`small`](Self::small): 64 KiB, or the next to it.
    pub(super) fn large(&self) -> Option<usize> {
        let small = self.small()?;
        self.report.sizes.iter().copied().filter(|size| *size > small).min_by_key(|size| size.abs_diff(64 << 10))
    }

    /// To how many receivers records were sent at most.
    pub(super) fn most_receivers(&self) -> Option<usize> {
        self.contenders.iter().flat_map(|one| &one.transport.fan_out).map(|one| one.receivers).max()
    }
}

pub(super) fn ink(family: Family) -> Ink {
    match family {
        Family::Pipe => Ink::Pipe,
        Family::Socket => Ink::Socket,
        Family::Queue => Ink::Queue,
        Family::Semaphore => Ink::Semaphore,
        Family::Board => Ink::Board,
        Family::Signal => Ink::Signal,
        Family::Eventfd => Ink::Eventfd,
        Family::Ring => Ink::Ring,
    }
}

/// What a family is called.
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::Pipe => "pipes",
        Family::Socket => "sockets",
        Family::Queue => "message queues",
        Family::Semaphore => "shared memory with semaphores",
        Family::Board => "files",
        Family::Signal => "signals",
        Family::Eventfd => "eventfd",
        Family::Ring => "rings",
    }
}
