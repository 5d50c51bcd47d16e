//! What the processes of a measurement do: the loops that are timed.
//!
//! Each loop runs in phases, which the sender opens (see `control`): first some that warm up and find out how many records fill the time that there is
//! for it, then the one that counts. Records are numbered from 0 in each phase.

use std::time::Duration;

use hdrhistogram::Histogram;
use shmcast::baseline::{ReceiveError, Receiver, SendError, Sender};
use shmcast::{Options, WaitStrategy};

use super::control::{Control, cpu, now};
use super::crew::{Outcome, Trouble};
use super::payload::{Buffer, END, check, number};

/// Phases have at most so many records, and bytes.
const MOST_RECORDS: u64 = 1 << 24;
const MOST_BYTES: u64 = 2 << 30;
/// How often the end is said again where that can be lost.
const AGAIN: Duration = Duration::from_micros(300);
/// Records of that many bytes are few in a slice.
const LARGE: usize = 64 << 10;
/// So long, or some slices, are spent to find out how many records fill a slice: ns.
const ENOUGH: f64 = 400e6;
/// The longest latency that is told from longer ones: ns.
const LONGEST: u64 = 60_000_000_000;

/// One measurement.
#[derive(Clone, Copy)]
pub(super) struct Task {
    pub(super) control: Control,
    pub(super) bytes: usize,
    pub(super) lossless: bool,
    pub(super) receivers: usize,
    /// As many records as filled the time in an earlier round.
    pub(super) hint: Option<u64>,
    /// How long the phase that counts should take.
    pub(super) slice: Duration,
}

/// How many records each phase has.
struct Phases {
    slice: f64,
    next: u64,
    last: bool,
    most: u64,
    /// What the phase before took, and all of them: ns.
    before: f64,
    all: f64,
}

impl Phases {
    fn new(task: &Task) -> Phases {
        let most = (MOST_BYTES / (task.bytes as u64).max(1)).clamp(1, MOST_RECORDS);
        let slice = task.slice.as_nanos() as f64;
        // Of large ones more: every page of a ring should have been there once.
        let warm_up = |hint| hint / if task.bytes >= LARGE { 4 } else { 8 };
        let next = task.hint.map_or(4, warm_up).clamp(1, most);
        Phases { slice, next, last: false, most, before: 0.0, all: 0.0 }
    }

    /// The phase took that long: what comes next?
    fn took(&mut self, hint: Option<u64>, took: u64) {
        let took = (took as f64).max(1.0);
        self.all += took;
        let records = self.next as f64;
        let (next, last) = match hint {
            Some(hint) => (hint as f64, true),
            // Long enough, and not mostly the time that it takes to wake and to switch.
            None if took >= self.slice / 4.0 && took >= 2.0 * self.before || self.next == self.most => {
                (records * self.slice / took, true)
            }
            None if self.all > ENOUGH.max(8.0 * self.slice) => (records, true),
            None => (records * (self.slice / 3.0 / took).clamp(4.0, 64.0), false),
        };
        self.before = took;
        self.next = (next as u64).clamp(1, self.most);
        self.last = last;
    }
}

fn latencies() -> Histogram<u64> {
    // Both are valid bounds, whatever happens.
    Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!())
}

fn recorded(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

fn sent(sender: &mut dyn Sender, buffer: &mut Buffer, number: u64) -> Result<(), Trouble> {
    let record = buffer.fill(number);
    sender.send(record).map_err(|error| Trouble::Failed(format!("record {number}: {error}")))
}

fn failed(error: ReceiveError, received: u64) -> Trouble {
    Trouble::Failed(format!("behind {received} records: {error}"))
}

impl Task {
    /// Everything of a phase is sent: waits for the receivers; answers when the last one had all.
    fn end_phase(&self, sender: &mut dyn Sender, buffer: &mut Buffer) -> Result<u64, Trouble> {
        if !self.lossless {
            self.control.say_sent();
            while !self.control.all_left(self.receivers) {
                match sender.send(buffer.fill(END)) {
                    // The last of them left behind that look, and is gone.
                    Err(SendError::PeerGone) if self.control.all_left(self.receivers) => break,
                    Err(error) => return Err(Trouble::Failed(format!("the end: {error}"))),
                    Ok(()) => {}
                }
                std::thread::sleep(AGAIN);
            }
        }
        Ok(self.control.close(self.receivers))
    }

    // ---- one way, as fast as it goes ----

    pub(super) fn send_stream(self, sender: &mut dyn Sender) -> Result<Outcome, Trouble> {
        let (mut phases, mut buffer) = (Phases::new(&self), Buffer::new(self.bytes));
        loop {
            let (count, last) = (phases.next, phases.last);
            self.control.open(self.receivers, count, last);
            let (busy, start) = (cpu(), now());
            for number in 0..count {
                sent(sender, &mut buffer, number)?;
            }
            let busy = cpu() - busy;
            let took = self.end_phase(sender, &mut buffer)?.saturating_sub(start);
            if last {
                return Ok(Outcome { sent: count, took, cpu: busy, ..Outcome::default() });
            }
            phases.took(self.hint, took);
        }
    }

    pub(super) fn receive_stream(self, receiver: &mut dyn Receiver, who: usize) -> Result<Outcome, Trouble> {
        let mut buffer = Buffer::new(self.bytes);
        let mut phase = 0;
        loop {
            let (count, last) = self.enter(receiver, &mut buffer, who, phase)?;
            phase += 1;
            let busy = cpu();
            let (mut received, mut ended) = (0, 0);
            if self.lossless {
                while received < count {
                    let got = receiver.receive(buffer.bytes()).map_err(|error| failed(error, received))?;
                    check(&buffer.bytes()[..got.len], self.bytes, received).map_err(Trouble::Failed)?;
                    received += 1;
                }
                ended = now();
            } else {
                self.until_the_end(receiver, &mut buffer, |_| {
                    received += 1;
                    ended = now();
                })?;
                // Nothing at all has come.
                ended = ended.max(if received == 0 { now() } else { 0 });
            }
            let busy = cpu() - busy;
            self.control.leave(who, ended);
            if last {
                return Ok(Outcome { received, cpu: busy, ..Outcome::default() });
            }
        }
    }

    /// A receiver enters the next phase; what is left of the phase before is thrown away.
    fn enter(
        &self,
        receiver: &mut dyn Receiver,
        buffer: &mut Buffer,
        who: usize,
        phase: u64,
    ) -> Result<(u64, bool), Trouble> {
        let next = self.control.next(phase);
        if !self.lossless {
            loop {
                match receiver.try_receive(buffer.bytes()) {
                    Ok(_) => {}
                    Err(ReceiveError::Empty) => break,
                    Err(error) => return Err(failed(error, 0)),
                }
            }
        }
        self.control.enter(who);
        Ok(next)
    }

    /// Receives what comes of a phase of which records can be lost: each with its number, if it has one.
    fn until_the_end(
        &self,
        receiver: &mut dyn Receiver,
        buffer: &mut Buffer,
        mut take: impl FnMut(Option<u64>),
    ) -> Result<(), Trouble> {
        let (mut next, mut received) = (0, 0);
        loop {
            let got = receiver.receive(buffer.bytes()).map_err(|error| failed(error, received))?;
            let record = &buffer.bytes()[..got.len];
            let number = number(record);
            match number {
                Some(END) => return Ok(()),
                Some(number) if number < next => {
                    return Err(Trouble::Failed(format!("record {number} came behind record {}", next - 1)));
                }
                Some(number) => {
                    check(record, self.bytes, number).map_err(Trouble::Failed)?;
                    next = number + 1;
                }
                None if self.control.is_sent() => return Ok(()),
                None => {}
            }
            take(number);
            received += 1;
        }
    }

    // ---- there and back ----

    pub(super) fn ask(self, sender: &mut dyn Sender, receiver: &mut dyn Receiver) -> Result<Outcome, Trouble> {
        let (mut phases, mut out, mut back) = (Phases::new(&self), Buffer::new(self.bytes), Buffer::new(self.bytes));
        loop {
            let (count, last) = (phases.next, phases.last);
            let mut histogram = latencies();
            self.control.open(1, count, last);
            let start = now();
            for number in 0..count {
                let asked = now();
                sent(sender, &mut out, number)?;
                let got = receiver.receive(back.bytes()).map_err(|error| failed(error, number))?;
                check(&back.bytes()[..got.len], self.bytes, number).map_err(Trouble::Failed)?;
                histogram.saturating_record(now() - asked);
            }
            let took = now() - start;
            self.control.close(1);
            if last {
                return Ok(Outcome { sent: count, took, latencies: recorded(&histogram), ..Outcome::default() });
            }
            phases.took(self.hint, took);
        }
    }

    pub(super) fn answer(self, receiver: &mut dyn Receiver, sender: &mut dyn Sender) -> Result<Outcome, Trouble> {
        let (mut there, mut out) = (Buffer::new(self.bytes), Buffer::new(self.bytes));
        let mut phase = 0;
        loop {
            let (count, last) = self.control.next(phase);
            phase += 1;
            self.control.enter(0);
            for number in 0..count {
                let got = receiver.receive(there.bytes()).map_err(|error| failed(error, number))?;
                check(&there.bytes()[..got.len], self.bytes, number).map_err(Trouble::Failed)?;
                sent(sender, &mut out, number)?;
            }
            self.control.leave(0, now());
            if last {
                return Ok(Outcome { received: count, ..Outcome::default() });
            }
        }
    }

    // ---- one way, at a rate ----

    /// Sends a record at each of the intended times, or as soon after it as it can: what is late is late for the receiver, too.
    pub(super) fn send_paced(self, sender: &mut dyn Sender, interval: u64) -> Result<Outcome, Trouble> {
        let mut buffer = Buffer::new(self.bytes);
        let due = (self.slice.as_nanos() as u64 / interval).max(2);
        for (count, last) in [(due / 8 + 1, false), (due, true)] {
            self.control.open(self.receivers, count, last);
            let start = now() + 100_000;
            self.control.set_start(start);
            for number in 0..count {
                while now() < start + number * interval {
                    std::hint::spin_loop();
                }
                sent(sender, &mut buffer, number)?;
            }
            self.end_phase(sender, &mut buffer)?;
        }
        Ok(Outcome { sent: due, ..Outcome::default() })
    }

    pub(super) fn receive_paced(self, receiver: &mut dyn Receiver, interval: u64) -> Result<Outcome, Trouble> {
        let mut buffer = Buffer::new(self.bytes);
        let mut phase = 0;
        loop {
            let (count, last) = self.enter(receiver, &mut buffer, 0, phase)?;
            phase += 1;
            let (mut histogram, mut received) = (latencies(), 0);
            let mut take = |number| {
                let late = now().saturating_sub(self.control.start() + number * interval);
                histogram.saturating_record(late);
                received += 1;
            };
            if self.lossless {
                for number in 0..count {
                    let got = receiver.receive(buffer.bytes()).map_err(|error| failed(error, number))?;
                    // Before it is read in full: that it is here is what was waited for.
                    take(number);
                    check(&buffer.bytes()[..got.len], self.bytes, number).map_err(Trouble::Failed)?;
                }
            } else {
                self.until_the_end(receiver, &mut buffer, |number| take(number.unwrap_or(0)))?;
            }
            self.control.leave(0, now());
            if last {
                return Ok(Outcome { received, latencies: recorded(&histogram), ..Outcome::default() });
            }
        }
    }

    // ---- nothing ----

    pub(super) fn send_late(self, sender: &mut dyn Sender) -> Result<Outcome, Trouble> {
        let mut buffer = Buffer::new(self.bytes);
        self.control.open(1, 1, true);
        std::thread::sleep(self.slice);
        sent(sender, &mut buffer, 0)?;
        self.end_phase(sender, &mut buffer)?;
        Ok(Outcome { sent: 1, ..Outcome::default() })
    }

    /// Waits for a record that comes late, and tells what that cost.
    pub(super) fn receive_late(self, receiver: &mut dyn Receiver) -> Result<Outcome, Trouble> {
        let mut buffer = Buffer::new(self.bytes);
        self.enter(receiver, &mut buffer, 0, 0)?;
        let (busy, start) = (cpu(), now());
        let got = receiver.receive(buffer.bytes()).map_err(|error| failed(error, 0))?;
        let (busy, took) = (cpu() - busy, now() - start);
        let record = &buffer.bytes()[..got.len];
        // On a board the end may stand there already.
        if self.lossless || number(record) != Some(END) {
            check(record, self.bytes, 0).map_err(Trouble::Failed)?;
        }
        self.control.leave(0, now());
        Ok(Outcome { received: 1, took, cpu: busy, ..Outcome::default() })
    }
}

// ---- readers that are there and do not read ----

/// A ring in a file, with so many lossy readers.
#[derive(Clone, Copy)]
pub(super) struct Audience {
    pub(super) control: Control,
    pub(super) bytes: usize,
    pub(super) readers: usize,
    pub(super) wait: WaitStrategy,
    pub(super) slice: Duration,
}

impl Audience {
    fn options(&self) -> Options {
        Options::new().wait(self.wait).reader_slots(self.readers.max(1) as u64)
    }

    pub(super) fn publish(self, path: &std::path::Path) -> Result<Outcome, Trouble> {
        let mut writer =
            self.options().create_file(path).map_err(|error| Trouble::Failed(format!("a ring: {error}")))?;
        let mut buffer = Buffer::new(self.bytes);
        self.control.open(1, 0, true);
        let (end, mut sent, mut start) = (now() + self.slice.as_nanos() as u64, 0, 0);
        loop {
            for number in 0..1000 {
                writer.publish(buffer.fill(number)).map_err(|error| Trouble::Failed(error.to_string()))?;
            }
            match now() {
                time if time >= end => {
                    // The first thousand warmed up.
                    let took = if sent == 0 { 0 } else { time - start };
                    self.control.say_sent();
                    self.control.close(1);
                    return Ok(Outcome { sent, took, ..Outcome::default() });
                }
                time if start == 0 => start = time,
                _ => {}
            }
            sent += 1000;
        }
    }

    pub(super) fn listen(self, path: &std::path::Path) -> Result<Outcome, Trouble> {
        // The ring is there when the phase is.
        self.control.next(0);
        let options = self.options().lossy(true);
        let join = |_| options.open_file(path).map_err(|error| Trouble::Failed(format!("a reader: {error}")));
        let readers: Vec<_> = (0..self.readers).map(join).collect::<Result<_, _>>()?;
        self.control.enter(0);
        super::control::wait_until(|| self.control.is_sent());
        drop(readers);
        self.control.leave(0, now());
        Ok(Outcome::default())
    }
}
