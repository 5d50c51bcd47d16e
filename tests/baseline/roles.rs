//! What the peers do: each role is the other side of one or more rows.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::gettid;
use shmcast::baseline::{End, Patience, ReceiveError, Received, Receiver, Rules, SendError, Sender};

use crate::peer::Line;
use crate::support::{LIMIT, Random};

/// Records of the streams are at most this long, unless a row says otherwise.
const LENGTH: usize = 300;
/// Signals that may wait for one of these processes. The system counts all of a user's, and a test must not use them up.
const SIGNALS: u64 = 256;
/// How long a peer is given to be heard of, where it must not be.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Record number `number` of a stream: as long as the rules allow, and every byte follows from the number.
pub(crate) fn record_of(number: u64, rules: &Rules) -> Vec<u8> {
    let mut random = Random(number ^ 0xBA5E);
    let most = rules.max_record.min(LENGTH);
    let len = rules.min_record + random.below((most - rules.min_record + 1) as u64) as usize;
    (0..len).map(|_| random.next() as u8).collect()
}

pub(crate) fn assert_record(number: u64, record: &[u8], rules: &Rules) {
    assert!(record == record_of(number, rules), "record {number} is not whole: {} bytes", record.len());
}

/// The receiver's end of a row, in the peer or in the row itself.
pub(crate) fn receiver(end: End) -> Box<dyn Receiver> {
    limit_signals();
    end.receiver(Patience::of(LIMIT)).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn sender(end: End) -> Box<dyn Sender> {
    end.sender(Patience::of(LIMIT)).unwrap_or_else(|error| panic!("{error}"))
}

fn limit_signals() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_SIGPENDING).expect("a limit");
    if soft > SIGNALS {
        setrlimit(Resource::RLIMIT_SIGPENDING, SIGNALS, hard).expect("a lower limit");
    }
}

pub(crate) fn play(role: &str, end: End, line: &mut Line) {
    let rules = crate::rules_of(&end);
    match role {
        "receives" => {
            let mut receiver = receiver(end);
            line.say("ready");
            receive_to_the_end(&mut *receiver, &rules, line);
        }
        "holds" => {
            let mut receiver = receiver(end);
            let mut buffer = vec![0; rules.max_record.min(LENGTH)];
            let empty = receiver.try_receive(&mut buffer);
            assert!(matches!(empty, Err(ReceiveError::Empty)), "{empty:?}");
            let start = Instant::now();
            let timed_out = receiver.receive_timeout(&mut buffer, SHORT);
            assert!(matches!(timed_out, Err(ReceiveError::Timeout)), "{timed_out:?}");
            assert!(start.elapsed() >= SHORT, "it waited {:?}", start.elapsed());
            line.say("ready");
            assert_eq!(line.hear(), "drain");
            receive_to_the_end(&mut *receiver, &rules, line);
        }
        "sends" => {
            let mut sender = sender(end);
            let count: u64 = line.hear().parse().expect("a number");
            for number in 0..count {
                sender.send(&record_of(number, &rules)).unwrap_or_else(|error| panic!("record {number}: {error}"));
            }
            sender.close();
            assert!(matches!(sender.send(&record_of(0, &rules)), Err(SendError::Closed)), "a closed end sends nothing");
            line.say("closed");
            line.hear();
        }
        "sends and waits" => {
            let mut sender = sender(end);
            for number in 0..3 {
                sender.send(&record_of(number, &rules)).unwrap_or_else(|error| panic!("record {number}: {error}"));
                line.say("sent");
                line.hear();
            }
        }
        "echoes sizes" => echo_sizes(&mut *receiver(end), &rules, line),
        "closes" => {
            let mut receiver = receiver(end);
            line.say("ready");
            assert_eq!(line.hear(), "close");
            receiver.close();
            let closed = receiver.receive(&mut [0; 8]);
            assert!(matches!(closed, Err(ReceiveError::Closed)), "a closed end receives nothing: {closed:?}");
            line.say("closed");
            line.hear();
        }
        "sleeps" => {
            let mut receiver = receiver(end);
            let mut buffer = vec![0; rules.max_record.min(LENGTH)];
            line.say(format_args!("ready {} {}", std::process::id(), gettid()));
            let received = receiver.receive(&mut buffer).expect("a record");
            assert_record(0, &buffer[..received.len], &rules);
            line.say("woken");
            line.hear();
        }
        "waits" => {
            let _receiver = receiver(end);
            line.say("ready");
            line.hear();
        }
        other => panic!("no role {other:?}"),
    }
}

/// Receives until the sender has closed, or, where that is not seen, until nothing comes any more after it was told that everything was
/// sent; and says what it got: received and lost.
fn receive_to_the_end(receiver: &mut dyn Receiver, rules: &Rules, line: &mut Line) {
    let mut buffer = vec![0; rules.max_record.min(LENGTH)];
    let (mut received, mut lost) = (0, 0);
    if !rules.sender_end.close {
        assert_eq!(line.hear(), "sent");
    }
    let patience = if rules.sender_end.close { LIMIT } else { SHORT };
    loop {
        match receiver.receive_timeout(&mut buffer, patience) {
            Ok(Received { len, lost: more }) => {
                lost += more;
                assert_record(received + lost, &buffer[..len], rules);
                received += 1;
            }
            Err(ReceiveError::Closed) => break,
            Err(ReceiveError::Timeout) if !rules.sender_end.close => break,
            Err(error) => panic!("after {received} records: {error}"),
        }
    }
    if rules.sender_end.close {
        let again = receiver.try_receive(&mut buffer);
        assert!(matches!(again, Err(ReceiveError::Closed)), "the end stays the end: {again:?}");
    }
    line.say(format_args!("received {received} {lost}"));
}

/// Says the length and a checksum of each record, and of each that did not fit, the length.
fn echo_sizes(receiver: &mut dyn Receiver, rules: &Rules, line: &mut Line) {
    let mut buffer = vec![0; rules.max_record];
    line.say("ready");
    loop {
        let word = line.hear();
        let room = match word.as_str() {
            "end" => return,
            "all" => rules.max_record,
            room => room.parse().expect("a number"),
        };
        match receiver.receive(&mut buffer[..room]) {
            Ok(received) => line.say(format_args!("got {} {}", received.len, checksum(&buffer[..received.len]))),
            Err(ReceiveError::TooLong { len, room: offered }) => {
                assert_eq!(offered, room);
                line.say(format_args!("too long {len}"));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// FNV-1a.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
