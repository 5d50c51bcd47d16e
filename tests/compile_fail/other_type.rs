// error: expected `u64`, found `i64`
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick {
    price: i64,
}
shmcast::schema!(Tick { price: u64 });

fn main() {}
