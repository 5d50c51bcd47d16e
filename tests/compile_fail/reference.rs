// error: `&'static str` has no schema
#[repr(C)]
#[derive(Clone, Copy)]
struct Tick {
    symbol: &'static str,
}
shmcast::schema!(Tick { symbol: &'static str });

fn main() {}
