// error: `Tick: bytemuck::no_uninit::NoUninit`
// A schema alone is not enough to publish.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tick {
    price: u64,
}
shmcast::schema!(Tick { price: u64 });

fn main() {
    shmcast::TypedWriter::<Tick>::create("never").unwrap();
}
