// error: padding
// Three bytes behind `quantity` would show other processes what was in memory before.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Tick {
    price: u64,
    quantity: u32,
    side: u8,
}
shmcast::schema!(Tick { price: u64, quantity: u32, side: u8 });

fn main() {
    shmcast::TypedWriter::<Tick>::create("never").unwrap();
}
