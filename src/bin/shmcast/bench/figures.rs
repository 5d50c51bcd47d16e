//! From the rounds' values to the report's.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::crew::Outcome;
use super::result::{Attached, FanOut, Idle, Latency, Paced, PingPong, Point, Spread, Throughput};

/// Of the percentiles that the report has for a plot.
const POINTS: [f64; 24] = [
    0.0, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9,
    99.95, 99.99, 99.995, 99.999, 100.0,
];

impl Spread {
    /// None of no values.
    pub(super) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let even = sorted.len().is_multiple_of(2);
        let median = if even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Spread { median, min, max })
    }
}

/// Latencies, round by round.
struct Rounds {
    bytes: usize,
    all: Histogram<u64>,
    /// min, p50, p90, p99, p99.9, max, mean.
    each: [Vec<f64>; 7],
    lost: Vec<f64>,
}

impl Rounds {
    fn new(bytes: usize) -> Rounds {
        // A histogram that grows has no invalid bounds but its digits.
        let all = Histogram::new(3).unwrap_or_else(|_| unreachable!());
        Rounds { bytes, all, each: Default::default(), lost: Vec::new() }
    }

    fn add(&mut self, latencies: &[(u64, u64)], lost: f64) {
        self.lost.push(lost);
        let Ok(mut round) = Histogram::<u64>::new(3) else { return };
        for &(value, count) in latencies {
            // It grows as far as it must.
            let _ = round.record_n(value, count);
        }
        if round.is_empty() {
            return;
        }
        let at = |quantile| round.value_at_quantile(quantile) as f64;
        let values = [round.min() as f64, at(0.5), at(0.9), at(0.99), at(0.999), round.max() as f64, round.mean()];
        self.each.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
        let _ = self.all.add(&round);
    }

    fn latency(&self) -> Option<Latency> {
        let [min, p50, p90, p99, p999, max, mean] = self.each.each_ref().map(|values| Spread::of(values));
        let point = |&percentile: &f64| Point { percentile, ns: self.all.value_at_percentile(percentile) as f64 };
        Some(Latency {
            count: self.all.len(),
            min: min?,
            p50: p50?,
            p90: p90?,
            p99: p99?,
            p999: p999?,
            max: max?,
            mean: mean?,
            points: POINTS.iter().map(point).collect(),
        })
    }
}

/// Streams, round by round.
#[derive(Default)]
struct Streams {
    bytes: usize,
    rate: Vec<f64>,
    lost: Vec<f64>,
    sender_cpu: Vec<f64>,
    receiver_cpu: Vec<f64>,
}

/// A share that is at least 0: what a second clock makes of "all of them".
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// All that was found about one contender.
#[derive(Default)]
pub(super) struct Collected {
    ping_pong: BTreeMap<usize, Rounds>,
    paced: BTreeMap<usize, Rounds>,
    throughput: BTreeMap<usize, Streams>,
    fan_out: BTreeMap<(usize, usize), Streams>,
    idle: Vec<f64>,
    waited: Vec<f64>,
    attached: BTreeMap<usize, Vec<f64>>,
    attached_bytes: usize,
    notes: Vec<String>,
}

impl Streams {
    fn add(&mut self, outcomes: &[Outcome]) {
        let [sender, receivers @ ..] = outcomes else { return };
        let (sent, count) = (sender.sent as f64, receivers.len().max(1) as f64);
        let received = receivers.iter().map(|one| one.received as f64).sum::<f64>() / count;
        let busy = receivers.iter().map(|one| one.cpu as f64).sum::<f64>() / count;
        self.rate.push(received / (sender.took.max(1) as f64 / 1e9));
        self.lost.push(share(sent - received, sent));
        self.sender_cpu.push(sender.cpu as f64 / sent.max(1.0));
        self.receiver_cpu.push(busy / received.max(1.0));
    }
}

impl Collected {
    /// Says so once.
    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    pub(super) fn add_ping_pong(&mut self, size: usize, bytes: usize, outcomes: &[Outcome]) {
        if let [asker, ..] = outcomes {
            self.ping_pong.entry(size).or_insert_with(|| Rounds::new(bytes)).add(&asker.latencies, 0.0);
        }
    }

    pub(super) fn add_paced(&mut self, size: usize, bytes: usize, outcomes: &[Outcome]) {
        if let [sender, receiver] = outcomes {
            let lost = share(sender.sent as f64 - receiver.received as f64, sender.sent as f64);
            self.paced.entry(size).or_insert_with(|| Rounds::new(bytes)).add(&receiver.latencies, lost);
        }
    }

    pub(super) fn add_throughput(&mut self, size: usize, bytes: usize, outcomes: &[Outcome]) {
        self.throughput.entry(size).or_insert_with(|| Streams { bytes, ..Streams::default() }).add(outcomes);
    }

    pub(super) fn add_fan_out(&mut self, size: usize, bytes: usize, receivers: usize, outcomes: &[Outcome]) {
        let key = (size, receivers);
        self.fan_out.entry(key).or_insert_with(|| Streams { bytes, ..Streams::default() }).add(outcomes);
    }

    pub(super) fn add_idle(&mut self, outcomes: &[Outcome]) {
        if let [_, receiver] = outcomes {
            self.idle.push(receiver.cpu as f64 / receiver.took.max(1) as f64);
            self.waited.push(receiver.took as f64);
        }
    }

    pub(super) fn add_attached(&mut self, readers: usize, bytes: usize, outcomes: &[Outcome]) {
        if let [writer, ..] = outcomes
            && writer.sent > 0
        {
            self.attached_bytes = bytes;
            self.attached.entry(readers).or_default().push(writer.took as f64 / writer.sent as f64);
        }
    }

    pub(super) fn ping_pong(&self) -> Vec<PingPong> {
        let figure = |(&size, rounds): (&usize, &Rounds)| {
            Some(PingPong { size, bytes: rounds.bytes, round_trip: rounds.latency()? })
        };
        self.ping_pong.iter().filter_map(figure).collect()
    }

    pub(super) fn paced(&self, rate: f64) -> Vec<Paced> {
        let figure = |(&size, rounds): (&usize, &Rounds)| {
            let (one_way, lost) = (rounds.latency()?, Spread::of(&rounds.lost)?);
            Some(Paced { size, bytes: rounds.bytes, rate, one_way, lost })
        };
        self.paced.iter().filter_map(figure).collect()
    }

    pub(super) fn throughput(&self) -> Vec<Throughput> {
        let figure = |(&size, streams): (&usize, &Streams)| {
            let bytes = streams.bytes;
            let rate = Spread::of(&streams.rate)?;
            let times = |rate: f64| rate * bytes as f64;
            Some(Throughput {
                size,
                bytes,
                records_per_second: rate,
                bytes_per_second: Spread { median: times(rate.median), min: times(rate.min), max: times(rate.max) },
                lost: Spread::of(&streams.lost)?,
                sender_cpu: Spread::of(&streams.sender_cpu)?,
                receiver_cpu: Spread::of(&streams.receiver_cpu)?,
            })
        };
        self.throughput.iter().filter_map(figure).collect()
    }

    pub(super) fn fan_out(&self) -> Vec<FanOut> {
        let figure = |(&(size, receivers), streams): (&(usize, usize), &Streams)| {
            Some(FanOut {
                size,
                bytes: streams.bytes,
                receivers,
                records_per_second: Spread::of(&streams.rate)?,
                lost: Spread::of(&streams.lost)?,
                sender_cpu: Spread::of(&streams.sender_cpu)?,
            })
        };
        self.fan_out.iter().filter_map(figure).collect()
    }

    pub(super) fn idle(&self) -> Option<Idle> {
        Some(Idle { waited: Spread::of(&self.waited)?.median, cpu_share: Spread::of(&self.idle)? })
    }

    pub(super) fn attached(&self) -> Vec<Attached> {
        let figure = |(&readers, values): (&usize, &Vec<f64>)| {
            Some(Attached { readers, bytes: self.attached_bytes, publish: Spread::of(values)? })
        };
        self.attached.iter().filter_map(figure).collect()
    }

    pub(super) fn notes(self) -> Vec<String> {
        self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_all_values() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn latencies_of_two_rounds() {
        let mut rounds = Rounds::new(8);
        rounds.add(&[(100, 99), (1000, 1)], 0.0);
        rounds.add(&[(200, 100)], 0.5);
        // A round in which everything was lost.
        rounds.add(&[], 1.0);
        let latency = rounds.latency().expect("two rounds");
        assert_eq!(latency.count, 200);
        assert_eq!((latency.p50.min, latency.p50.median, latency.p50.max), (100.0, 150.0, 200.0));
        assert_eq!(latency.points.first().map(|point| point.ns), Some(100.0));
        assert!(latency.points.windows(2).all(|pair| pair[0].ns <= pair[1].ns));
        assert!(latency.max.max >= 1000.0);
        assert_eq!(Spread::of(&rounds.lost), Some(Spread { median: 0.5, min: 0.0, max: 1.0 }));
    }

    #[test]
    fn rates_are_of_what_arrived() {
        let mut streams = Streams::default();
        let sender = Outcome { sent: 1000, took: 1_000_000, cpu: 500_000, ..Outcome::default() };
        let receiver = |received| Outcome { received, cpu: 250_000, ..Outcome::default() };
        streams.add(&[sender, receiver(400), receiver(600)]);
        assert_eq!((streams.rate[0], streams.lost[0]), (500_000.0, 0.5));
        assert_eq!((streams.sender_cpu[0], streams.receiver_cpu[0]), (500.0, 500.0));
    }
}
