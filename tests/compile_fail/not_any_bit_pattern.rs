// error: CheckedBitPattern`
// What is read may be any bytes.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Tick {
    price: u64,
}
shmcast::schema!(Tick { price: u64 });

fn main() {
    shmcast::TypedReader::<Tick>::open("never").unwrap();
}
