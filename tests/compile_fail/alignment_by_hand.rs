// error: the type is aligned to more than 8 bytes, which no payload is
// Also without the macro. This error comes when the code is generated.
#[repr(C, align(16))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Tick([u64; 2]);

impl shmcast::Schema for Tick {
    const SHAPE: shmcast::schema::Shape = shmcast::schema::Shape::Primitive("Tick");
}

fn main() {
    shmcast::TypedWriter::<Tick>::create("never").unwrap();
}
