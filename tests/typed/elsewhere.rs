//! The same type in another module, as it would be in another program; and some that only look like it.

use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct Tick {
    pub(crate) number: u64,
    pub(crate) price: i64,
    pub(crate) quantity: u32,
    pub(crate) flags: [u8; 4],
}
shmcast::schema!(Tick { number: u64, price: i64, quantity: u32, flags: [u8; 4] });

pub(crate) mod swapped {
    use super::{Pod, Zeroable};

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Pod, Zeroable)]
    pub(crate) struct Tick {
        price: i64,
        number: u64,
        quantity: u32,
        flags: [u8; 4],
    }
    shmcast::schema!(Tick { price: i64, number: u64, quantity: u32, flags: [u8; 4] });
}

pub(crate) mod unsigned {
    use super::{Pod, Zeroable};

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Pod, Zeroable)]
    pub(crate) struct Tick {
        number: u64,
        price: u64,
        quantity: u32,
        flags: [u8; 4],
    }
    shmcast::schema!(Tick { number: u64, price: u64, quantity: u32, flags: [u8; 4] });
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct Tock {
    number: u64,
    price: i64,
    quantity: u32,
    flags: [u8; 4],
}
shmcast::schema!(Tock { number: u64, price: i64, quantity: u32, flags: [u8; 4] });
