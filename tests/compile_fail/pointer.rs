// error: `*const u8` has no schema
#[repr(C)]
#[derive(Clone, Copy)]
struct Tick {
    symbol: *const u8,
}
shmcast::schema!(Tick { symbol: *const u8 });

fn main() {}
