//! Compiles: what the others leave out or get wrong is here, right.
use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit};

#[repr(u8)]
#[derive(Clone, Copy, NoUninit, CheckedBitPattern)]
enum Side {
    Bid,
    Ask,
}
shmcast::schema!(enum Side: u8 { Bid, Ask });

#[repr(C)]
#[derive(Clone, Copy, NoUninit, CheckedBitPattern)]
struct Tick {
    price: u64,
    quantity: u32,
    side: Side,
    open: bool,
    reserved: [u8; 2],
}
shmcast::schema!(Tick { price: u64, quantity: u32, side: Side, open: bool, reserved: [u8; 2] });

#[repr(C)]
#[derive(Clone, Copy, NoUninit, AnyBitPattern)]
struct Price(u64);
shmcast::schema!(Price { 0: u64 });

fn main() {
    let options = shmcast::Options::new();
    let mut writer = options.clone().typed::<Tick>().create_heap().unwrap();
    shmcast::TypedReader::<Tick>::join(&writer.subscriber()).unwrap();
    let tick = Tick { price: 1, quantity: 2, side: Side::Ask, open: true, reserved: [0; 2] };
    writer.publish(&tick).unwrap();
    let _ = (options.typed::<Price>().create_heap().unwrap(), Side::Bid);
}
