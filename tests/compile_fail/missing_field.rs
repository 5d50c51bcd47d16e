// error: missing field `quantity` in initializer of `Tick`
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick {
    price: u64,
    quantity: u64,
}
shmcast::schema!(Tick { price: u64 });

fn main() {}
