//! One measurement: makes its links, starts its processes, and answers what they found.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use shmcast::WaitStrategy;
use shmcast::baseline::{End, Link, Patience, Place, Receiver, Sender};

use super::contenders::Contender;
use super::control::now;
use super::crew::{Body, Crew, Outcome, Part, Trouble, pin};
use super::work::{Audience, Task};

/// How long a measurement may take, whatever it is: far more than any of them needs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Round trips of the floors.
const TRIPS: u64 = 30_000;
/// The same on one processor, where each waits for the other one's turn.
const TRIPS_OF_ONE: u64 = 10;
/// `memcpy` writes into a buffer as large as a transport's ring.
const COPY_BYTES: usize = 4 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Workload {
    PingPong,
    /// One way, as fast as it goes, to so many receivers. One is the throughput; it is not in the fan-out's column.
    Stream(usize),
    /// The same, for the fan-out.
    FanOut(usize),
    /// At an interval in ns.
    Paced(u64),
    Idle,
    /// So many lossy readers are there.
    Attached(usize),
}

type SendBy = fn(Task, &mut dyn Sender, Workload) -> Result<Outcome, Trouble>;

/// Measures a contender. The outcomes are the sender's, then the receivers'.
pub(super) fn measure(crew: &Crew, one: &Contender, workload: Workload, task: Task) -> Result<Vec<Outcome>, Trouble> {
    match workload {
        Workload::PingPong => there_and_back(crew, one, task),
        Workload::Attached(readers) => attached(crew, one, task, readers),
        _ => one_way(crew, one, task, workload),
    }
}

fn link(crew: &Crew, one: &Contender, receivers: usize) -> Result<Link, Trouble> {
    let place = Place::new(&crew.directory)?;
    Ok(Link::make(&*one.transport, place, receivers)?)
}

fn sender(end: End) -> Result<Box<dyn Sender>, Trouble> {
    Ok(end.sender(Patience::Forever)?)
}

fn receiver(end: End) -> Result<Box<dyn Receiver>, Trouble> {
    Ok(end.receiver(Patience::Forever)?)
}

fn one_way(crew: &Crew, one: &Contender, task: Task, workload: Workload) -> Result<Vec<Outcome>, Trouble> {
    let send: SendBy = |task, sender, workload| match workload {
        Workload::Paced(interval) => task.send_paced(sender, interval),
        Workload::Idle => task.send_late(sender),
        _ => task.send_stream(sender),
    };
    let receive = move |receiver: &mut dyn Receiver, who: usize| match workload {
        Workload::Paced(interval) => task.receive_paced(receiver, interval),
        Workload::Idle => task.receive_late(receiver),
        _ => task.receive_stream(receiver, who),
    };
    let make = || link(crew, one, task.receivers);
    let sends = move |end| send(task, &mut *sender(end)?, workload);
    let receives = move |end, who| receive(&mut *receiver(end)?, who);
    if one.needs_threads() {
        let parts = move |link: Link| {
            let mut threads: Vec<Thread> = vec![Box::new(move || sends(link.sender))];
            threads.extend(
                link.receivers
                    .into_iter()
                    .enumerate()
                    .map(|(who, end)| -> Thread { Box::new(move || receives(end, who)) }),
            );
            (threads, vec![link.names])
        };
        return in_threads(crew, || Ok(parts(make()?)));
    }
    let link = make()?;
    let part = |name, processor, body| Part { name, processor, body };
    let (first, last) = crew.processors;
    let end = link.sender;
    let mut parts = vec![part(c"bench-sender", first, Box::new(move || Ok(vec![sends(end)?])) as Body<'_>)];
    parts.extend(
        link.receivers.into_iter().enumerate().map(|(who, end)| {
            part(c"bench-receiver", last, Box::new(move || Ok(vec![receives(end, who)?])) as Body<'_>)
        }),
    );
    crew.run(parts, PATIENCE)
    // Here the names go.
}

fn there_and_back(crew: &Crew, one: &Contender, task: Task) -> Result<Vec<Outcome>, Trouble> {
    let make = || Ok::<_, Trouble>((link(crew, one, 1)?, link(crew, one, 1)?));
    let missing = || Trouble::Failed("a link has no receiver".to_owned());
    // Both wait for each other, so both connect the first link first.
    let asks = move |there: End, back: End| {
        let (mut sender, mut receiver) = (sender(there)?, receiver(back)?);
        task.ask(&mut *sender, &mut *receiver)
    };
    let answers = move |there: End, back: End| {
        let (mut receiver, mut sender) = (receiver(there)?, sender(back)?);
        task.answer(&mut *receiver, &mut *sender)
    };
    if one.needs_threads() {
        return in_threads(crew, || {
            let (mut there, mut back) = make()?;
            let (heard, returned) = (there.receivers.pop(), back.receivers.pop());
            let (heard, returned) = (heard.ok_or_else(missing)?, returned.ok_or_else(missing)?);
            let threads: Vec<Thread> =
                vec![Box::new(move || asks(there.sender, returned)), Box::new(move || answers(heard, back.sender))];
            Ok((threads, vec![there.names, back.names]))
        });
    }
    let (mut there, mut back) = make()?;
    let (heard, returned) = (there.receivers.pop(), back.receivers.pop());
    let (heard, returned) = (heard.ok_or_else(missing)?, returned.ok_or_else(missing)?);
    let (first, last) = crew.processors;
    let (out, home) = (there.sender, back.sender);
    let parts = vec![
        Part {
            name: c"bench-sender",
            processor: first,
            body: Box::new(move || Ok(vec![asks(out, returned)?])) as Body<'_>,
        },
        Part {
            name: c"bench-receiver",
            processor: last,
            body: Box::new(move || Ok(vec![answers(heard, home)?])) as Body<'_>,
        },
    ];
    crew.run(parts, PATIENCE)
}

type Thread = Box<dyn FnOnce() -> Result<Outcome, Trouble> + Send>;

/// For rings whose ends cannot leave the process that made them: one process, a thread for each end. The first of them runs on the
/// first processor.
fn in_threads<N>(
    crew: &Crew,
    make: impl FnOnce() -> Result<(Vec<Thread>, N), Trouble>,
) -> Result<Vec<Outcome>, Trouble> {
    let (first, last) = crew.processors;
    let body = move || {
        let (threads, names) = make()?;
        let (tells, hears) = channel();
        let count = threads.len();
        for (at, run) in threads.into_iter().enumerate() {
            let tells = tells.clone();
            std::thread::spawn(move || {
                pin(if at == 0 { first } else { last });
                let run = std::panic::AssertUnwindSafe(run);
                let outcome = std::panic::catch_unwind(run)
                    .unwrap_or_else(|_| Err(Trouble::Failed("a thread panicked".to_owned())));
                let _ = tells.send((at, outcome));
            });
        }
        let mut found = vec![Outcome::default(); count];
        for _ in 0..count {
            // Who fails ends the process, and with it whoever waits for it.
            let (at, outcome) = hears.recv().map_err(|error| Trouble::Failed(error.to_string()))?;
            found[at] = outcome?;
        }
        drop(names);
        Ok(found)
    };
    crew.run(vec![Part { name: c"bench-threads", processor: first, body: Box::new(body) }], PATIENCE)
}

fn attached(crew: &Crew, one: &Contender, task: Task, readers: usize) -> Result<Vec<Outcome>, Trouble> {
    let wait = match one.wait() {
        Some("spin") => WaitStrategy::Spin,
        Some("yield") => WaitStrategy::Yield,
        Some("park-at-once") => WaitStrategy::ParkAtOnce,
        _ => WaitStrategy::Park,
    };
    let audience = Audience { control: task.control, bytes: task.bytes, readers, wait, slice: task.slice };
    let path = crew.directory.join("ring");
    let (first, last) = crew.processors;
    let parts = vec![
        Part {
            name: c"bench-sender",
            processor: first,
            body: Box::new(|| Ok(vec![audience.publish(&path)?])) as Body<'_>,
        },
        Part {
            name: c"bench-receiver",
            processor: last,
            body: Box::new(|| Ok(vec![audience.listen(&path)?])) as Body<'_>,
        },
    ];
    crew.run(parts, PATIENCE)
}

/// The floors, in one process on each processor. The values: one line, two lines, clock (ns), then `memcpy` by size (bytes each second).
pub(super) fn floors(crew: &Crew, sizes: &[usize], slice: Duration) -> Result<Vec<f64>, Trouble> {
    let (first, last) = crew.processors;
    let (control, trips) = (crew.control, if first == last { TRIPS_OF_ONE } else { TRIPS });
    let ping_pong = move |side: u64| {
        let lines = &control.lines;
        let mut values = Vec::new();
        for both in [false, true] {
            lines.meet(side as usize + 1);
            let start = now();
            if both {
                lines.two_lines(trips, side)
            } else {
                lines.one_line(trips, side)
            }
            values.push((now() - start) as f64 / trips as f64);
        }
        values
    };
    let alone = || {
        let mut values = ping_pong(0);
        values.push(clock());
        values.extend(sizes.iter().map(|&size| copied(size, slice)));
        Ok(vec![Outcome { values, ..Outcome::default() }])
    };
    let other = move || Ok(vec![Outcome { values: ping_pong(1), ..Outcome::default() }]);
    let parts = vec![
        Part { name: c"bench-sender", processor: first, body: Box::new(alone) as Body<'_> },
        Part { name: c"bench-receiver", processor: last, body: Box::new(other) as Body<'_> },
    ];
    let outcomes = crew.run(parts, PATIENCE)?;
    Ok(outcomes.into_iter().next().map(|outcome| outcome.values).unwrap_or_default())
}

fn clock() -> f64 {
    const LOOKS: u64 = 20_000;
    let start = now();
    for _ in 0..LOOKS {
        std::hint::black_box(now());
    }
    (now() - start) as f64 / LOOKS as f64
}

fn copied(size: usize, slice: Duration) -> f64 {
    let from = vec![0x5A_u8; size];
    let mut to = vec![0_u8; COPY_BYTES.max(size)];
    // All of it is there before the time is taken.
    to.fill(1);
    let lap = to.len() / size;
    let (start, mut laps) = (Instant::now(), 0_u64);
    while laps == 0 || start.elapsed() < slice {
        for place in to.chunks_exact_mut(size) {
            place.copy_from_slice(std::hint::black_box(&from));
        }
        std::hint::black_box(&mut to);
        laps += 1;
    }
    (laps * (lap * size) as u64) as f64 / start.elapsed().as_secs_f64()
}
