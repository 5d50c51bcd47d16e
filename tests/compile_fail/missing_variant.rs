// error: pattern `Side::Ask` not covered
#[repr(u8)]
#[derive(Clone, Copy)]
enum Side {
    Bid,
    Ask,
}
shmcast::schema!(enum Side: u8 { Bid });

fn main() {
    let _ = (Side::Bid, Side::Ask);
}
