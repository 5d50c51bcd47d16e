//! Market data through a typed ring: one process publishes trades, another one keeps statistics.
//!
//! ```text
//! cargo run --example typed
//!
//!   feed ── publish(&Trade), publish_batch(&[Trade]) ──▶ ring of Trade ──▶ recv_batch(&mut Vec<Trade>) ── statistics
//! ```
//!
//! The process starts itself once more as the consumer. Both sides know the type, and the ring carries its schema: the
//! consumer first takes the ring for one of something else, and shows what it is told.

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bytemuck::{CheckedBitPattern, NoUninit};
use shmcast::{OpenError, RecvError, TypedReader, TypedWriter, schema};

const TRADES: u64 = 100_000;
const BURST: usize = 32;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, NoUninit, CheckedBitPattern)]
enum Side {
    Buy,
    Sell,
}
schema!(enum Side: u8 { Buy, Sell });

/// No padding, no pointers, at most 8-byte alignment: otherwise it would not compile.
#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit, CheckedBitPattern)]
struct Trade {
    symbol: [u8; 8],
    /// In ten-thousandths.
    price: i64,
    quantity: u32,
    side: Side,
    reserved: [u8; 3],
}
schema!(Trade { symbol: [u8; 8], price: i64, quantity: u32, side: Side, reserved: [u8; 3] });

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [] => feed(&format!("trades-{}", std::process::id())),
        [role, ring] if role == "consumer" => consumer(ring),
        _ => {
            eprintln!("usage: typed");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("typed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Trade number `n` of the day.
fn trade(n: u64) -> Trade {
    let side = if n.is_multiple_of(3) { Side::Sell } else { Side::Buy };
    Trade {
        symbol: *b"SHMC    ",
        price: 1_000_000 + (n % 100) as i64,
        quantity: 1 + (n % 7) as u32,
        side,
        reserved: [0; 3],
    }
}

/// Publishes the trades, some of them in bursts that become visible together.
fn feed(ring: &str) -> Result<(), Box<dyn Error>> {
    let mut writer = TypedWriter::<Trade>::create(ring)?;
    let mut consumer = Command::new(std::env::current_exe()?).args(["consumer", ring]).spawn()?;
    writer.wait_for_readers(1, Duration::from_secs(10))?;

    let mut burst = Vec::with_capacity(BURST);
    while writer.sequence() < TRADES {
        let next = writer.sequence();
        if next.is_multiple_of(5) {
            burst.clear();
            burst.extend((next..TRADES.min(next + BURST as u64)).map(trade));
            writer.publish_batch(&burst)?;
        } else {
            writer.publish(&trade(next))?;
        }
    }
    writer.close();
    if consumer.wait()?.success() { Ok(()) } else { Err("the consumer failed".into()) }
}

/// Receives to the end, and checks every trade.
fn consumer(ring: &str) -> Result<(), Box<dyn Error>> {
    match TypedReader::<[f64; 2]>::open(ring) {
        Err(error @ OpenError::WrongType { .. }) => println!("as something else: {error}"),
        other => return Err(format!("it was opened as something else: {other:?}").into()),
    }

    let mut reader = TypedReader::<Trade>::open(ring)?;
    let (mut trades, mut received) = (Vec::with_capacity(BURST), 0);
    let (mut value, mut volume, mut sold) = (0, 0, 0);
    loop {
        trades.clear();
        match reader.recv_batch(&mut trades, BURST) {
            Ok(count) => received += count as u64,
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
        for trade in &trades {
            value += i128::from(trade.price) * i128::from(trade.quantity);
            volume += i128::from(trade.quantity);
            sold += i128::from(trade.side == Side::Sell) * i128::from(trade.quantity);
        }
    }
    if received != TRADES {
        return Err(format!("{received} trades, not {TRADES}").into());
    }
    let average = value as f64 / volume as f64 / 1e4;
    println!("{received} trades, {volume} shares, {sold} of them sold, at {average:.4} on average");
    Ok(())
}
