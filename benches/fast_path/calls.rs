//! The calls that are guarded: one function each, never inlined and with a name that tools can find.

use std::hint::black_box;

use shmcast::{Options, Reader, Schema, TypedReader, TypedWriter, Writer};

/// Calls that are counted. So few that none of the ring's marks is passed: see [`Ring`].
pub(crate) const CALLS: u64 = 100;

/// For each size: one publish, one claim, one receive into a buffer, by a lossless and by a lossy reader, one borrowed
/// receive; a publish and a receive of a value. Lengths are known to the compiler.
macro_rules! calls {
    ($($size:literal $publish:ident $claim:ident $copy:ident $lossy:ident $borrow:ident $publish_value:ident $copy_value:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $publish(writer: &mut Writer, payload: &[u8; $size]) -> Option<u64> {
                writer.publish(payload).ok()
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $claim(writer: &mut Writer, payload: &[u8; $size]) -> Option<u64> {
                let mut claim = writer.claim($size).ok()?;
                claim.copy_from_slice(payload);
                Some(claim.commit())
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $copy(reader: &mut Reader, buffer: &mut [u8; $size]) -> Option<u64> {
                reader.recv_into(buffer).ok().map(|received| received.sequence)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $lossy(reader: &mut Reader, buffer: &mut [u8; $size]) -> Option<u64> {
                // Another function than the one above, also to the linker.
                reader.recv_into(buffer).ok().map(|received| !received.sequence)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $borrow(reader: &mut Reader) -> Option<u8> {
                reader.recv_ref().ok().and_then(|record| record.first_chunk::<$size>().map(|payload| payload[$size - 1]))
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $publish_value(writer: &mut TypedWriter<[u64; $size / 8]>, value: &[u64; $size / 8]) -> Option<u64> {
                writer.publish(value).ok()
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $copy_value(reader: &mut TypedReader<[u64; $size / 8]>, value: &mut [u64; $size / 8]) -> Option<u64> {
                reader.recv_into(value).ok()
            }
        )*

        /// The functions' names.
        pub(crate) fn names() -> impl Iterator<Item = &'static str> {
            [
                $(stringify!($publish)),*, $(stringify!($claim)),*, $(stringify!($copy)),*, $(stringify!($lossy)),*, $(stringify!($borrow)),*,
                $(stringify!($publish_value)),*, $(stringify!($copy_value)),*
            ].into_iter()
        }

        /// Calls one of them [`CALLS`] times.
        ///
        /// # Errors
        /// What went wrong.
        pub(crate) fn run(name: &str) -> Result<(), String> {
            let mut done = 0;
            $(
                if [stringify!($publish_value), stringify!($copy_value)].contains(&name) {
                    let (mut writer, mut reader) = values::<[u64; $size / 8]>(&[1; $size / 8])?;
                    let mut value = [7; $size / 8];
                    if name == stringify!($publish_value) {
                        done = (0..CALLS).filter_map(|_| $publish_value(&mut writer, black_box(&value))).count();
                    } else {
                        (0..=CALLS).try_for_each(|_| writer.publish(&[9; $size / 8]).map(|_| ())).map_err(text)?;
                        done = (0..CALLS).filter_map(|_| $copy_value(&mut reader, black_box(&mut value))).count();
                        assert_eq!(value, [9; $size / 8]);
                    }
                    return if done as u64 == CALLS { Ok(()) } else { Err(format!("{done} calls of {name} worked")) };
                }
                let mut ring = Ring::new($size, name == stringify!($lossy))?;
                let payload = [7; $size];
                if name == stringify!($publish) {
                    done = (0..CALLS).filter_map(|_| $publish(&mut ring.writer, black_box(&payload))).count();
                } else if name == stringify!($claim) {
                    done = (0..CALLS).filter_map(|_| $claim(&mut ring.writer, black_box(&payload))).count();
                } else {
                    // One more than is received, so that the ring does not run dry.
                    (0..=CALLS).try_for_each(|_| ring.writer.publish(&payload).map(|_| ())).map_err(text)?;
                    let mut buffer = [0; $size];
                    if name == stringify!($copy) {
                        done = (0..CALLS).filter_map(|_| $copy(&mut ring.reader, black_box(&mut buffer))).count();
                        assert_eq!(buffer, payload);
                    } else if name == stringify!($lossy) {
                        done = (0..CALLS).filter_map(|_| $lossy(&mut ring.reader, black_box(&mut buffer))).count();
                        assert_eq!(buffer, payload);
                    } else if name == stringify!($borrow) {
                        done = (0..CALLS).filter_map(|_| $borrow(&mut ring.reader)).count();
                    }
                }
                if done > 0 {
                    return if done as u64 == CALLS { Ok(()) } else { Err(format!("{done} calls of {name} worked")) };
                }
            )*
            Err(format!("no function {name}"))
        }
    };
}

calls! {
    8 publish_8 claim_8 copy_8 copy_lossy_8 borrow_8 publish_value_8 copy_value_8
    64 publish_64 claim_64 copy_64 copy_lossy_64 borrow_64 publish_value_64 copy_value_64
    1024 publish_1024 claim_1024 copy_1024 copy_lossy_1024 borrow_1024 publish_value_1024 copy_value_1024
}

/// The options of a ring in which the next [`CALLS`] records are nothing but fast path: the slow path is next taken after half
/// the ring, the cursor next stored after an eighth of it.
fn options() -> Options {
    Options::new().capacity(1 << 20).blocks(2)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Ring {
    writer: Writer,
    reader: Reader,
}

impl Ring {
    fn new(size: usize, lossy: bool) -> Result<Ring, String> {
        let mut writer = options().create_heap().map_err(text)?;
        let mut reader = options().lossy(lossy).join(&writer.subscriber()).map_err(text)?;
        // The slow path of the first record; two, so that the reader knows the usual length and does not run dry.
        let payload = vec![1; size];
        for _ in 0..2 {
            writer.publish(&payload).map_err(text)?;
        }
        reader.recv().map_err(text)?;
        Ok(Ring { writer, reader })
    }
}

/// As [`Ring::new`], for values.
fn values<T: Schema + bytemuck::Pod>(first: &T) -> Result<(TypedWriter<T>, TypedReader<T>), String> {
    let mut writer = options().typed::<T>().create_heap().map_err(text)?;
    let mut reader = options().typed::<T>().join(&writer.subscriber()).map_err(text)?;
    for _ in 0..2 {
        writer.publish(first).map_err(text)?;
    }
    reader.recv().map_err(text)?;
    Ok((writer, reader))
}
