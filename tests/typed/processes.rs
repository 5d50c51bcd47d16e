//! Values between processes.

use super::*;

/// Every way to receive has its turn; says how many values there were.
pub(crate) fn receive_values(mut reader: TypedReader<elsewhere::Tick>) {
    say(format_args!("joined {}", reader.sequence()));
    let (mut expected, mut got) = (reader.sequence(), Vec::new());
    loop {
        got.clear();
        let outcome = match expected % 3 {
            0 => reader.recv_batch(&mut got, 10),
            1 => reader.recv().map(|record| {
                got.push(record.value);
                1
            }),
            _ => reader.recv_ref().map(|value| {
                got.push(*value);
                1
            }),
        };
        match outcome {
            Ok(count) => {
                for value in &got[..count] {
                    assert_eq!(
                        bytemuck::cast::<_, Tick>(*value),
                        tick(expected),
                        "value {expected}, whole and in order"
                    );
                    expected += 1;
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("behind value {expected}: {error}"),
        }
    }
    say(format_args!("received {expected}"));
}

/// Rests until it is told that it was lapped.
pub(crate) fn receive_lossy(mut reader: TypedReader<Tick>) {
    say("joined");
    assert_eq!(hear(), "go");
    let (mut received, mut lost) = (0, 0);
    loop {
        match reader.recv() {
            Ok(record) => {
                assert_eq!(record.value, tick(record.sequence));
                received += 1;
            }
            Err(RecvError::Lagged(n)) => lost += n,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    say(format_args!("received {received} {lost}"));
}

/// A child that inherits typed handles is told so, whatever it asks.
pub(crate) fn fork_with_handles() {
    let (mut writer, mut reader) = heap::<Frame>(Options::new().capacity(64 * 1024));
    let frame = Frame { number: 7, pixels: [7; 2047] };
    writer.publish(&frame).expect("room");
    // SAFETY: the child does nothing but use the handles and end.
    let child = match unsafe { nix::unistd::fork() }.expect("a fork") {
        nix::unistd::ForkResult::Child => {
            let mut got = frame;
            let told = matches!(reader.try_recv(), Err(TryRecvError::Inherited))
                && matches!(reader.recv(), Err(RecvError::Inherited))
                && matches!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Inherited))
                && matches!(reader.recv_into(&mut got), Err(RecvError::Inherited))
                && matches!(reader.recv_ref(), Err(RecvError::Inherited))
                && matches!(reader.try_recv_batch(&mut Vec::new(), 3), Err(TryRecvError::Inherited))
                && matches!(reader.iter().count(), 1)
                && matches!(writer.try_publish(&frame), Err(TryPublishError::Inherited))
                && matches!(writer.publish_batch(&[frame]), Err(shmcast::PublishError::Inherited));
            // SAFETY: ends the child without the destructors of what is its parent's.
            unsafe { nix::libc::_exit(i32::from(!told)) }
        }
        nix::unistd::ForkResult::Parent { child } => child,
    };
    let status = nix::sys::wait::waitpid(child, None).expect("the child");
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
    assert_eq!(reader.recv().map(|record| record.number), Ok(7));
    say("done");
}

#[test]
fn a_forked_child_inherits_no_typed_handle() {
    let mut child = Child::start("forks", &[]);
    child.expect("done");
    child.finish();
}

#[test]
fn values_reach_other_processes() {
    const COUNT: u64 = 30_000;
    let name = unique_name("typed");
    let mut writer = smallest().typed::<Tick>().create(&name).expect("a small ring");
    let mut wrong = Child::start("wrong type", &[&name]);
    let said = wrong.expect("the ring at ");
    assert!(said.contains("Tick{number:") && said.contains("Order{id:"), "{said}");
    wrong.finish();

    let mut lossless = Child::start("values", &[&name]);
    lossless.expect("joined 0");
    let mut lossy = Child::start("lossy values", &[&name]);
    lossy.expect("joined");
    lossy.tell("go");
    let mut batch = Vec::new();
    while writer.sequence() < COUNT {
        let next = writer.sequence();
        if next.is_multiple_of(2) {
            writer.publish_timeout(&tick(next), LIMIT).expect("room");
        } else {
            batch.clear();
            batch.extend((next..COUNT.min(next + 25)).map(tick));
            writer.publish_batch(&batch).expect("room");
        }
    }
    writer.close();
    assert_eq!(lossless.expect_numbers("received"), [COUNT]);
    let [received, lost] = lossy.expect_numbers("received");
    assert_eq!(received + lost, COUNT);
    lossless.finish();
    lossy.finish();
}
