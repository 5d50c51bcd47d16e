// error: `Tick` is aligned to more than 8 bytes, which no payload is
#[repr(C, align(16))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick {
    price: [u64; 2],
}
shmcast::schema!(Tick { price: [u64; 2] });

fn main() {}
