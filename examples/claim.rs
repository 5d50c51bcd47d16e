//! Records without a copy: written straight into the ring, and read there.
//!
//! ```text
//! cargo run --example claim
//! ```
//!
//! A claim is room for one record in the ring: write into it, cut it to what you wrote, commit. Until then no reader can see
//! it, and a claim that is dropped was never there. A lossless reader of a ring that no other user can write may
//! borrow the record in place.

use std::error::Error;
use std::io::Write;

use shmcast::{Options, RecvError, Writer};

/// Room for the longest line of this log.
const LONGEST: usize = 80;

fn main() -> Result<(), Box<dyn Error>> {
    let mut writer = Options::new().create_anonymous()?;
    // As well could be another process.
    let mut reader = writer.subscriber().reader()?;

    log(&mut writer, 7, "started")?;
    log(&mut writer, 21, &"too long: ".repeat(8)).expect_err("it does not fit");
    log(&mut writer, 21, "3 readers")?;
    writer.close();

    loop {
        match reader.recv_ref() {
            // The bytes lie in the ring; the room is given back when `record` is dropped.
            Ok(record) => {
                let (time, text) = record.split_first_chunk().ok_or("a record without a time")?;
                println!("{} ms: {}", u64::from_le_bytes(*time), std::str::from_utf8(text)?);
            }
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Publishes a time and a line of text; nothing if the text is too long.
fn log(writer: &mut Writer, milliseconds: u64, text: &str) -> Result<(), Box<dyn Error>> {
    let mut claim = writer.claim(8 + LONGEST)?;
    claim.write_value(&milliseconds.to_le_bytes())?;
    // A failure drops the claim: an abort. The next record takes its place.
    write!(claim, "{text}, {} bytes", text.len())?;
    let written = claim.written();
    claim.truncate(written);
    claim.commit();
    Ok(())
}
