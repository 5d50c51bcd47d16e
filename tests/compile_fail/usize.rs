// error: `usize` has no schema
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick {
    index: usize,
}
shmcast::schema!(Tick { index: usize });

fn main() {}
