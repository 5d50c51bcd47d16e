// error: give the type in the `repr` of `Side`
#[repr(u8)]
#[derive(Clone, Copy)]
enum Side {
    Bid,
    Ask,
}
shmcast::schema!(enum Side: u32 { Bid, Ask });

fn main() {}
