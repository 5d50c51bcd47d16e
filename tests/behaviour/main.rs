//! What the API promises, on rings of every kind. Many of the behaviours are those that the tests of tokio's broadcast
//! channel ask for (`sync_broadcast.rs`, MIT), asked here of this ring.

mod closing;
mod delivery;
mod filling;
mod joining;
mod oracle;
mod pressure;
#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shmcast::{
    CreateError, OpenError, Options, PublishError, PublishTimeoutError, Reader, Record, RecvError, RecvTimeoutError,
    Start, TryPublishError, TryRecvError, WaitForReadersError, WaitStrategy, Writer,
};
use support::{LIMIT, Random, assert_whole, heap, on_every_kind, record_of, smallest};

const CAPACITY: u64 = 4096;
const MAX: usize = 2040;

/// Everything that is there now, which must be without a loss.
fn drain(reader: &mut Reader) -> Vec<Record> {
    reader.try_iter().map(|record| record.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// What a lossy reader gets until nothing is there: the records, and how many it was told it missed.
fn drain_lossy(reader: &mut Reader) -> (Vec<Record>, u64) {
    let (mut records, mut lost) = (Vec::new(), 0);
    for record in reader.try_iter() {
        match record {
            Ok(record) => records.push(record),
            Err(TryRecvError::Lagged(n)) => {
                assert!(n > 0, "a loss of nothing is no loss");
                lost += n;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (records, lost)
}

fn publish_numbered(writer: &mut Writer, count: u64, bound: u64) {
    for _ in 0..count {
        let payload = record_of(writer.sequence(), bound);
        writer.try_publish(&payload).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Publishes until a lossless reader holds the writer back; answers how many that were.
fn fill(writer: &mut Writer, bound: u64) -> u64 {
    let before = writer.sequence();
    loop {
        match writer.try_publish(&record_of(writer.sequence(), bound)) {
            Ok(_) => {}
            Err(TryPublishError::Full) => return writer.sequence() - before,
            Err(error) => panic!("{error}"),
        }
    }
}

// ---- types ----

/// Compiles only if `T` is not `Sync`: otherwise two implementations fit.
trait NotSync<A> {
    fn holds() {}
}
impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

const fn is_send<T: Send>() {}

const _: () = {
    is_send::<Writer>();
    is_send::<Reader>();
    is_send::<shmcast::Subscriber>();
    let _ = <Writer as NotSync<_>>::holds;
    let _ = <Reader as NotSync<_>>::holds;
};

/// Runs on the way out, also of a panic: so that no test hangs on a thread that has failed.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
