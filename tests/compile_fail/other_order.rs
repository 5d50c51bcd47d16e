// error: give the fields of `Tick` in the order of their offsets
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick {
    price: u64,
    quantity: u64,
}
shmcast::schema!(Tick { quantity: u64, price: u64 });

fn main() {}
