//! The calls that are guarded: one function each, never inlined and with a name that tools can find.

use std::hint::black_box;

use shmcast::{Options, Reader, Writer};

/// Calls that are counted. So few that none of the ring's marks is passed: see [`Ring`].
pub(crate) const CALLS: u64 = 100;

/// For each size: one publish, one claim, one receive into a buffer, one borrowed receive. Lengths are known to the compiler.
macro_rules! calls {
    ($($size:literal $publish:ident $claim:ident $copy:ident $borrow:ident)*) => {
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
            fn $borrow(reader: &mut Reader) -> Option<u8> {
                reader.recv_ref().ok().and_then(|record| record.first_chunk::<$size>().map(|payload| payload[$size - 1]))
            }
        )*

        /// The functions' names.
        pub(crate) fn names() -> impl Iterator<Item = &'static str> {
            [$(stringify!($publish)),*, $(stringify!($claim)),*, $(stringify!($copy)),*, $(stringify!($borrow)),*].into_iter()
        }

        /// Calls one of them [`CALLS`] times.
        ///
        /// # Errors
        /// What went wrong.
        pub(crate) fn run(name: &str) -> Result<(), String> {
            let mut done = 0;
            $(
                let mut ring = Ring::new($size)?;
                let payload = [7; $size];
                if name == stringify!($publish) {
                    done = (0..CALLS).filter_map(|_| $publish(&mut ring.writer, black_box(&payload))).count();
                } else if name == stringify!($claim) {
                    done = (0..CALLS).filter_map(|_| $claim(&mut ring.writer, black_box(&payload))).count();
                } else {
                    // One more than is received, so that the ring does not run dry.
                    (0..=CALLS).try_for_each(|_| ring.writer.publish(&payload).map(|_| ())).map_err(|e| e.to_string())?;
                    let mut buffer = [0; $size];
                    if name == stringify!($copy) {
                        done = (0..CALLS).filter_map(|_| $copy(&mut ring.reader, black_box(&mut buffer))).count();
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
    8 publish_8 claim_8 copy_8 borrow_8
    64 publish_64 claim_64 copy_64 borrow_64
    1024 publish_1024 claim_1024 copy_1024 borrow_1024
}

/// A ring in which the next [`CALLS`] records are nothing but fast path: the slow path is next taken after half the ring,
/// the cursor next stored after an eighth of it.
struct Ring {
    writer: Writer,
    reader: Reader,
}

impl Ring {
    fn new(size: usize) -> Result<Ring, String> {
        let options = Options::new().capacity(1 << 20).blocks(2);
        let mut writer = options.create_heap().map_err(|error| error.to_string())?;
        let mut reader = writer.subscriber().reader().map_err(|error| error.to_string())?;
        // The slow path of the first record; two, so that the reader knows the usual length and does not run dry.
        let payload = vec![1; size];
        for _ in 0..2 {
            writer.publish(&payload).map_err(|error| error.to_string())?;
        }
        reader.recv().map_err(|error| error.to_string())?;
        Ok(Ring { writer, reader })
    }
}
