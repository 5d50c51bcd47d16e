//! Many small records at once: published in batches, received in batches.
//!
//! ```text
//! cargo run --release --example batch
//! ```
//!
//! A batch becomes visible as a whole, as far as a block of the ring holds it, and wakes sleeping readers once; a reader that
//! takes what is there, up to a number, waits for the first record only. What one side does in batches the other
//! need not: a batch is nothing but its records. The reader here is a thread, and as well could be another process
//! (`consumer.rs`) or a forked child (`fork.rs`).

use std::error::Error;
use std::thread;

use shmcast::{Options, Reader, RecvError};

const RECORDS: u64 = 100_000;
const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut writer = Options::new().create_anonymous()?;
    // Lossless, and there before the first record: it misses none.
    let reader = writer.subscriber().reader()?;
    let receiving = thread::spawn(move || receive(reader));

    let records: Vec<[u8; 8]> = (0..RECORDS).map(u64::to_le_bytes).collect();
    for batch in records.chunks(BATCH) {
        // Anything that yields bytes will do: a slice of arrays, an iterator over vectors. Waits for room where needed.
        writer.publish_batch(batch)?;
    }
    writer.close();

    let received = receiving.join().map_err(|_| "the reader panicked")??;
    println!("published {RECORDS} records in {} batches", records.chunks(BATCH).len());
    println!("received {received} records in order");
    Ok(())
}

fn receive(mut reader: Reader) -> Result<u64, String> {
    let (mut records, mut expected) = (Vec::new(), 0u64);
    loop {
        // Waits for a record, then takes what else is there.
        match reader.recv_batch(&mut records, BATCH) {
            Ok(_) => {}
            Err(RecvError::Closed) => return Ok(expected),
            Err(error) => return Err(error.to_string()),
        }
        for record in records.drain(..) {
            if record.payload != expected.to_le_bytes() {
                return Err(format!("expected record {expected}, received {record:?}"));
            }
            expected += 1;
        }
    }
}
