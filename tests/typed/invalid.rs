//! Records that are no values of the ring's type, which no typed writer publishes.

use super::*;

/// Overwrites bytes of the first record in the file of a ring of 4096 bytes with 16 blocks.
fn scribble(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the ring");
    let mut word = [0; 8];
    // The region table's entry for the data.
    file.read_exact_at(&mut word, 320).expect("the header");
    file.write_all_at(bytes, u64::from_ne_bytes(word) + at).expect("the data");
}

#[test]
fn a_record_that_is_no_value_is_told_and_skipped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut writer = smallest().typed::<Order>().create_file(&path).expect("a small ring");
    let orders: Vec<Order> = (0..4).map(order).collect();
    assert_eq!(writer.publish_batch(&orders), Ok(4));
    // A bool of 2 in the first; the second says that it is shorter, which leaves the ring whole.
    scribble(&path, 8 + 8, &[2]);
    scribble(&path, 24, &(9u64 + 1).to_ne_bytes());
    scribble(&path, 24 + 16, &0u64.to_ne_bytes());
    let open = || Options::new().typed::<Order>().open_file(&path).expect("a reader");
    let bad_bits = Err(TryRecvError::Invalid { sequence: 0, len: 16 });

    let mut reader = open();
    assert_eq!(reader.try_recv(), bad_bits);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.try_recv().map(|record| record.value), Ok(order(2)), "and on behind them");
    assert_eq!(reader.recv().map(|record| record.value), Ok(order(3)));

    let mut reader = open();
    assert_eq!(reader.try_recv_ref().map(|it| *it), bad_bits.map(|record: TypedRecord<Order>| record.value));
    assert_eq!(reader.recv_ref().map(|it| *it), Err(RecvError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.recv_ref().map(|it| *it), Ok(order(2)));

    let (mut reader, mut got) = (open(), Vec::new());
    assert_eq!(reader.recv_batch(&mut got, 10), Err(RecvError::Invalid { sequence: 0, len: 16 }));
    assert_eq!(reader.recv_timeout(LIMIT), Err(RecvTimeoutError::Invalid { sequence: 1, len: 9 }));
    assert_eq!(reader.recv_batch(&mut got, 10), Ok(2));
    assert_eq!(got, orders[2..]);

    // In the middle of a batch: the batch ends before it.
    writer.publish_batch(&orders).expect("room");
    drop(reader);
    scribble(&path, 24 * 5 + 8 + 9, &[0]);
    scribble(&path, 24 * 7, &(9u64 + 1).to_ne_bytes());
    let mut reader = Options::new().start(shmcast::Start::Sequence(4)).typed::<Order>().open_file(&path).expect("it");
    got.clear();
    assert_eq!(reader.try_recv_batch(&mut got, 10), Ok(1));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Invalid { sequence: 5, len: 16 }));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Ok(1));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Invalid { sequence: 7, len: 9 }));
    assert_eq!(reader.try_recv_batch(&mut got, 10), Err(TryRecvError::Empty));
    assert_eq!(got, [orders[0], orders[2]]);
}
