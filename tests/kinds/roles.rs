//! What the peers do: each role is the other side of one or more rows.

use std::time::Duration;

use nix::unistd::{Uid, gettid, setuid};
use shmcast::{CreateError, OpenError, Options, Reader, RecvError, RemoveError, TryRecvError, WaitStrategy};

use crate::kind::View;
use crate::peer::Line;
use crate::support::{assert_whole, smallest};
use crate::{BOUND, LARGE, check_report, publish, wishing};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65534;

pub(crate) fn play(role: &str, view: &View, line: &mut Line) {
    let open = |options: Options| view.open(&options).unwrap_or_else(|error| panic!("{error}"));
    match role {
        "lossless" => receive(open(Options::new()), false, line),
        "late" => receive(open(Options::new()), true, line),
        "lossy" => receive(open(Options::new().lossy(true)), true, line),
        "patient" => patient(view, line),
        "sleeper" => sleeper(open(restless(Options::new())), line),
        "two mappings" => two_mappings([open(Options::new()), open(Options::new())], line),
        "rival" => line.say(match view.create(&smallest()) {
            Err(CreateError::NameTaken { .. }) => "refused".to_owned(),
            other => format!("not refused: {:?}", other.err()),
        }),
        "stranger" => stranger(view, line),
        "paged" => paged(view, line),
        "writer" => write_until_killed(view, line),
        other => panic!("no role {other:?}"),
    }
}

/// Sleeps at once, and for ever: only a wake ends it.
pub(crate) fn restless(options: Options) -> Options {
    options.wait(WaitStrategy::ParkAtOnce).slice(Duration::from_secs(3600))
}

/// Receives to the end of the ring, and says what it got: received and lost.
fn receive(mut reader: Reader, rests: bool, line: &mut Line) {
    line.say("joined");
    if rests {
        assert_eq!(line.hear(), "go");
    }
    let (mut received, mut lost) = (0, 0);
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.sequence, received + lost, "every gap is told");
                assert_whole(record.sequence, &record, BOUND);
                received += 1;
            }
            Err(RecvError::Lagged(n)) => {
                assert!(n > 0, "a loss of nothing is no loss");
                lost += n;
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    line.say(format_args!("received {received} {lost}"));
}

/// Asks for a ring until there is one: it is whole at once.
fn patient(view: &View, line: &mut Line) {
    line.say("asking");
    let reader = loop {
        match view.open(&Options::new()) {
            Ok(reader) => break reader,
            Err(OpenError::NotFound { .. }) => std::hint::spin_loop(),
            Err(error) => panic!("{error}"),
        }
    };
    receive(reader, false, line);
}

fn sleeper(mut reader: Reader, line: &mut Line) {
    line.say(format_args!("ready {} {}", std::process::id(), gettid()));
    let record = reader.recv().expect("a record");
    assert_whole(record.sequence, &record, BOUND);
    line.say(format_args!("woken {}", record.sequence));
    assert_eq!(reader.recv(), Err(RecvError::Closed));
    line.say("closed");
}

/// Of one process: they cannot be at one address, so at least one is not where the writer has the ring.
fn two_mappings(mut readers: [Reader; 2], line: &mut Line) {
    line.say("joined");
    let addresses = readers.each_mut().map(|reader| {
        let record = reader.recv_ref().expect("a record");
        assert_whole(0, &record, BOUND);
        record.as_ptr().addr()
    });
    line.say(format_args!("addresses {} {}", addresses[0], addresses[1]));
}

fn write_until_killed(view: &View, line: &mut Line) {
    let mut ring = view.create(&smallest()).unwrap_or_else(|error| panic!("{error}"));
    publish(&mut ring, 10);
    line.say("published");
    line.hear();
}

/// Of another user: first without any permission, then with that to read the ring segment.
fn stranger(view: &View, line: &mut Line) {
    let offered = view.offered();
    setuid(Uid::from_raw(NOBODY)).expect("root may");
    let open = |options: Options| view.open_offered(&options, offered.as_ref());
    if !view.kind.is_memfd() {
        // A memfd is whose descriptor it is.
        let opened = open(Options::new().lossy(true));
        assert!(matches!(opened, Err(OpenError::Permission { .. })), "{opened:?}");
        assert!(matches!(view.remove(), Err(RemoveError::Permission { .. })));
    }
    line.say("kept out");
    line.hear();
    let opened = open(Options::new());
    assert!(matches!(opened, Err(OpenError::NeedsRegistry { .. })), "{opened:?}");
    let mut reader = open(Options::new().lossy(true)).unwrap_or_else(|error| panic!("{error}"));
    assert!(!reader.can_borrow());
    assert_whole(0, &reader.recv().expect("a record"), BOUND);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty), "it sees that the writer lives");
    if view.kind.is_memfd() {
        assert!(view.is_read_only(offered.as_ref()), "nor made writable");
    } else {
        assert!(matches!(view.remove(), Err(RemoveError::Permission { .. })));
    }
    line.say("followed");
}

fn paged(view: &View, line: &mut Line) {
    let reader = view.open(&wishing(Options::new())).unwrap_or_else(|error| panic!("{error}"));
    if view.kind.can_be_opened() {
        check_report(reader.page_report(), LARGE);
    }
    receive(reader, false, line);
}
