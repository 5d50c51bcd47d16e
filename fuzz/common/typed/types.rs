//! Types of all shapes, each beside one that lies: with the same schema, size and alignment, but of any bytes.

use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit, Pod, Zeroable};
use shmcast::schema::Shape;
use shmcast::{Schema, TryPublishError, TryRecvError, TypedReader, TypedWriter};

use crate::pattern;

/// A writer's type.
pub(super) trait Written: Schema + NoUninit + CheckedBitPattern {
    /// Builds a value in the ring, if the type can; publishes it, or not.
    fn claim(_: &mut TypedWriter<Self>, _: Claimed<Self>) -> Option<Result<Option<u64>, TryPublishError>> {
        None
    }
}

/// What a claim is filled with, how, and what becomes of it.
pub(super) struct Claimed<T> {
    pub(super) value: T,
    pub(super) in_place: bool,
    pub(super) commit: bool,
}

fn claim<T: Schema + NoUninit + AnyBitPattern>(
    writer: &mut TypedWriter<T>,
    with: Claimed<T>,
) -> Result<Option<u64>, TryPublishError> {
    let mut claim = writer.try_claim()?;
    if with.in_place {
        // SAFETY: nobody else is at work: this is the only thread.
        *unsafe { claim.as_mut() } = with.value;
    } else {
        claim.write(&with.value);
    }
    Ok(with.commit.then(|| claim.commit()))
}

macro_rules! claims {
    ($($type:ty)*) => {$(
        impl Written for $type {
            fn claim(
                writer: &mut TypedWriter<Self>,
                with: Claimed<Self>,
            ) -> Option<Result<Option<u64>, TryPublishError>> {
                Some(claim(writer, with))
            }
        }
    )*};
}

/// A reader's type.
pub(super) trait Sample: Schema + NoUninit + CheckedBitPattern + std::fmt::Debug {
    /// The bytes of some value.
    fn bytes(seed: u64) -> Vec<u8> {
        pattern::payload(seed, size_of::<Self>())
    }

    /// Are these bytes, as many as a value has, a value? Said once more, by hand: the crate asks `bytemuck`.
    fn is_value(bytes: &[u8]) -> bool;

    /// Receives in place, if the type can.
    fn receive_into(_: &mut TypedReader<Self>, _: bool) -> Option<Result<(u64, Self), TryRecvError>> {
        None
    }
}

fn into<T: Schema + AnyBitPattern>(reader: &mut TypedReader<T>, wait: bool) -> Result<(u64, T), TryRecvError> {
    let mut value = T::zeroed();
    let sequence =
        if wait { reader.recv_into(&mut value).map_err(super::forever) } else { reader.try_recv_into(&mut value) };
    sequence.map(|sequence| (sequence, value))
}

macro_rules! any_bytes {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            fn is_value(_: &[u8]) -> bool {
                true
            }

            fn receive_into(reader: &mut TypedReader<Self>, wait: bool) -> Option<Result<(u64, Self), TryRecvError>> {
                Some(into(reader, wait))
            }
        }
    )*};
}

/// A type that claims to be another one.
macro_rules! lies {
    ($($(#[$meta:meta])* $liar:ident($($field:tt)*) is $honest:ty;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Pod, Zeroable)]
        pub(super) struct $liar($($field)*);

        impl Schema for $liar {
            const SHAPE: Shape = <$honest as Schema>::SHAPE;
        }

        const _: () = assert!(size_of::<$liar>() == size_of::<$honest>() && align_of::<$liar>() == align_of::<$honest>());
    )*};
}

#[repr(u8)]
#[derive(Clone, Copy, Debug, NoUninit, CheckedBitPattern)]
pub(crate) enum Side {
    Bid = 1,
    Ask = 2,
}
shmcast::schema!(enum Side: u8 { Bid, Ask });

#[repr(C)]
#[derive(Clone, Copy, Debug, NoUninit, CheckedBitPattern)]
pub(crate) struct Order {
    id: u64,
    open: bool,
    side: Side,
    level: [u8; 2],
    symbol: char,
}
impl Order {
    pub(crate) fn some() -> Order {
        Order { id: 7, open: true, side: Side::Ask, level: [1, 2], symbol: 'x' }
    }
}
shmcast::schema!(Order { id: u64, open: bool, side: Side, level: [u8; 2], symbol: char });

/// A length that is no multiple of a word.
pub(crate) type Odd = [u8; 13];
/// Long enough for the loops of the copies.
pub(super) type Wide = [u64; 40];
/// The largest payload of a ring of 4096 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct Largest([u64; 255]);
shmcast::schema!(Largest { 0: [u64; 255] });
/// One word more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct TooLarge([u64; 256]);
shmcast::schema!(TooLarge { 0: [u64; 256] });

any_bytes!(() Odd Wide Largest TooLarge);
claims!(() Odd Wide Largest TooLarge AnyFlag AnyLetter AnySide AnyOrder);

impl Written for bool {}
impl Written for char {}
impl Written for Side {}
impl Written for Order {}

impl Sample for bool {
    fn bytes(seed: u64) -> Vec<u8> {
        vec![seed as u8 & 1]
    }

    fn is_value(bytes: &[u8]) -> bool {
        bytes[0] < 2
    }
}

impl Sample for char {
    fn bytes(seed: u64) -> Vec<u8> {
        let number = seed as u32 % 0x11_0000;
        // The values around the gap, and on both sides of it.
        let number = if (0xD800..0xE000).contains(&number) { number ^ 0x2000 } else { number };
        number.to_ne_bytes().to_vec()
    }

    fn is_value(bytes: &[u8]) -> bool {
        let number = bytes.try_into().map_or(u32::MAX, u32::from_ne_bytes);
        number < 0xD800 || (0xE000..0x11_0000).contains(&number)
    }
}

impl Sample for Side {
    fn bytes(seed: u64) -> Vec<u8> {
        vec![seed as u8 % 2 + 1]
    }

    fn is_value(bytes: &[u8]) -> bool {
        matches!(bytes[0], 1 | 2)
    }
}

impl Sample for Order {
    fn bytes(seed: u64) -> Vec<u8> {
        let mut bytes = pattern::payload(seed, 16);
        bytes[8..9].copy_from_slice(&bool::bytes(seed));
        bytes[9..10].copy_from_slice(&Side::bytes(seed >> 1));
        bytes[12..].copy_from_slice(&char::bytes(seed >> 2));
        bytes
    }

    fn is_value(bytes: &[u8]) -> bool {
        bool::is_value(&bytes[8..9]) && Side::is_value(&bytes[9..10]) && char::is_value(&bytes[12..16])
    }
}

lies! {
    #[repr(transparent)]
    AnyFlag(u8) is bool;
    #[repr(transparent)]
    AnyLetter(u32) is char;
    #[repr(transparent)]
    AnySide(u8) is Side;
    #[repr(transparent)]
    AnyOrder([u64; 2]) is Order;
}
