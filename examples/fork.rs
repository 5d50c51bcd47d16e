//! A ring without a name, for a process and the children that it forks.
//!
//! ```text
//! cargo run --example fork
//! ```
//!
//! The parent creates an anonymous ring and forks two children. Each of them opens a reader of its own, behind the fork,
//! and checks that it receives every record in order.

use std::error::Error;
use std::process::{ExitCode, exit};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shmcast::{Options, RecvError, Subscriber};

const CHILDREN: u64 = 2;
const RECORDS: u64 = 100_000;

fn main() -> ExitCode {
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fork: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let mut writer = Options::new().create_anonymous()?;
    // What a child joins by. Inherited handles, the writer and any reader, belong to the parent: a child leaves them alone.
    let subscriber = writer.subscriber();
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        // SAFETY: this process has one thread, so no lock can be held by a thread that the child does not have.
        match unsafe { fork() }? {
            // Does not return into the code of the parent.
            ForkResult::Child => exit(match child(&subscriber) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("fork: child: {error}");
                    1
                }
            }),
            ForkResult::Parent { child } => children.push(child),
        }
    }

    writer.wait_for_readers(CHILDREN, Duration::from_secs(10))?;
    for number in 0..RECORDS {
        writer.publish(&number.to_le_bytes())?;
    }
    writer.close();

    for child in children {
        match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => println!("child {child} received {RECORDS} records in order"),
            status => return Err(format!("a child failed: {status:?}").into()),
        }
    }
    Ok(())
}

fn child(subscriber: &Subscriber) -> Result<(), Box<dyn Error>> {
    let mut reader = subscriber.reader()?;
    let mut expected = 0u64;
    loop {
        match reader.recv() {
            Ok(record) if record.payload == expected.to_le_bytes() => expected += 1,
            Ok(record) => return Err(format!("expected record {expected}, received {record:?}").into()),
            Err(RecvError::Closed) if expected == RECORDS => return Ok(()),
            Err(RecvError::Closed) => return Err(format!("{expected} records, not {RECORDS}").into()),
            Err(error) => return Err(error.into()),
        }
    }
}
