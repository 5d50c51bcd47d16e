//! Copies between private bytes and shared words.
//!
//! Their meaning is a loop of relaxed 64-bit loads or stores, which is what the portable functions are. On x86-64
//! larger copies go through assembly that refines this loop: relaxed accesses need no order among each other, and
//! processors copy aligned 8-byte pieces whole (by all observation; the manuals promise it for plain loads and stores). The
//! protocol does not depend on it: a copy that raced with the writer is void, torn words and all. The assembly is
//! off under Miri and the fuzzer. Under the sanitizers, which cannot see through it either, switch it off by hand:
//! `--cfg shmcast_portable`.

// The cells are laid over shared words here, as in the parent module.
#[allow(clippy::disallowed_types)]
type Cell = core::sync::atomic::AtomicU64;

use core::sync::atomic::Ordering::Relaxed;

/// From this size on, a copy goes in pieces of 16 bytes, each through a register that the compiler knows of: a value that is known in
/// registers, or that is wanted there, need not be in memory at all. Out: whoever reads a piece next in such pieces gets it from the
/// store buffer, which cannot join two stores of 8. In: a writer waits for the lines that it stores into, and has room for so many
/// stores meanwhile, whatever their size.
const PIECE_BYTES: usize = 16;
/// From this size on, a vector loop. Below, all pieces stand one behind the other: what the compiler knows the length of stays in registers
/// (128 bytes are published, and received, 2.7 and 1.6 times as fast as by the loop).
const VECTOR_BYTES: usize = 256;
/// From this size on, `rep movsb` copies out: of lines that travel slowly it brings up to 1.7 times as many as the vector loop,
/// and it leaves the writer its own. (In, there is no difference.) Not where the target begins less than a line behind the
/// source, counted within their pages: then AMD's processors take up to thirty times as long.
const STRING_BYTES: usize = 16 * 1024;
const PAGE_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// Does a thing for each of the words from `$word` up to `$end`, in runs of 8, 4, 2 and 1: for the small records that
/// matter a few branches that are all predicted beat a loop, and where there is no assembly the rest is a loop.
macro_rules! for_words {
    ($word:ident in $start:expr, $end:expr, $do:block) => {{
        let (mut at, end) = ($start, $end);
        for_words!(@run while, 8, $word, at, end, $do);
        for_words!(@run if, 4, $word, at, end, $do);
        for_words!(@run if, 2, $word, at, end, $do);
        for_words!(@run if, 1, $word, at, end, $do);
        at
    }};
    (@run $loop:ident, $count:literal, $word:ident, $at:ident, $end:ident, $do:block) => {
        $loop $end - $at >= $count {
            for i in 0..$count {
                let $word = $at + i;
                $do
            }
            $at += $count;
        }
    };
}

/// As many of `$len` bytes, fewer than [`VECTOR_BYTES`], as are whole pieces, by a macro for some of them; how many bytes that is.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
macro_rules! in_pieces {
    ($len:expr, $copy:ident) => {{
        let mut done = 0;
        if $len >= 128 {
            $copy!(done: 0 16 32 48 64 80 96 112);
        }
        if $len - done >= 64 {
            $copy!(done: 0 16 32 48);
        }
        if $len - done >= 32 {
            $copy!(done: 0 16);
        }
        if $len - done >= 16 {
            $copy!(done: 0);
        }
        done
    }};
}

/// Copies `len` bytes into shared words; the rest of the last word becomes zero.
///
/// # Safety
/// `to` is aligned and valid for relaxed atomic stores of `len.div_ceil(8)` words; `from` is valid for reads of
/// `len` bytes, which nobody writes meanwhile.
#[inline(always)]
pub(super) unsafe fn words_in(to: *mut u64, from: *const u8, len: usize) {
    let mut done = 0;
    if len >= VECTOR_BYTES {
        // SAFETY: the caller's contract; one side is private, the other shared words.
        done = unsafe { bulk(to.cast(), from, len) };
    } else if len >= PIECE_BYTES {
        // SAFETY: likewise.
        done = unsafe { pairs(to, from, len) };
    }
    let word = for_words!(word in done / 8, len / 8, {
        // SAFETY: `word` is one of the whole words within `len` bytes, by the caller's contract.
        let value = unsafe { from.wrapping_add(word * 8).cast::<u64>().read_unaligned() };
        // Relaxed: the commit behind it orders it. SAFETY: likewise on the shared side.
        unsafe { Cell::from_ptr(to.wrapping_add(word)) }.store(value, Relaxed);
    });
    if word * 8 < len {
        let mut last = [0; 8];
        for (byte, at) in last.iter_mut().zip(word * 8..len) {
            // SAFETY: `at` is less than `len`.
            *byte = unsafe { from.wrapping_add(at).read() };
        }
        // Relaxed: likewise. SAFETY: the word of the last bytes is one of the caller's.
        unsafe { Cell::from_ptr(to.wrapping_add(word)) }.store(u64::from_ne_bytes(last), Relaxed);
    }
}

/// Copies `len` bytes out of shared words.
///
/// # Safety
/// `from` is aligned and valid for relaxed atomic loads of `len.div_ceil(8)` words; `to` is valid for writes of
/// `len` bytes, which nobody else accesses meanwhile.
#[inline(always)]
pub(super) unsafe fn words_out(from: *mut u64, to: *mut u8, len: usize) {
    let mut done = 0;
    if len >= PIECE_BYTES {
        // SAFETY: the caller's contract; one side is private, the other shared words.
        done = unsafe { string_out(to, from.cast(), len) };
        if done == 0 {
            // SAFETY: likewise.
            done = unsafe { bulk(to, from.cast(), len) };
        }
    }
    let word = for_words!(word in done / 8, len / 8, {
        // Relaxed: the reader's fence behind it orders it. SAFETY: `word` is one of the whole words within `len` bytes, by the caller's
        // contract.
        let value = unsafe { Cell::from_ptr(from.wrapping_add(word)) }.load(Relaxed);
        // SAFETY: likewise on the private side.
        unsafe { to.wrapping_add(word * 8).cast::<u64>().write_unaligned(value) };
    });
    if word * 8 < len {
        // Relaxed: likewise. SAFETY: the word of the last bytes is one of the caller's.
        let last = unsafe { Cell::from_ptr(from.wrapping_add(word)) }.load(Relaxed).to_ne_bytes();
        for (byte, at) in last.into_iter().zip(word * 8..len) {
            // SAFETY: `at` is less than `len`.
            unsafe { to.wrapping_add(at).write(byte) };
        }
    }
}

/// Copies as many of `len` bytes, fewer than [`VECTOR_BYTES`], into shared words as are whole pieces. Each is made of two words: what the
/// compiler still has in registers goes there from them, and it is free to load the two as one.
///
/// # Safety
/// As for [`bulk`].
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
#[inline(always)]
unsafe fn pairs(to: *mut u64, from: *const u8, len: usize) -> usize {
    use core::arch::x86_64::_mm_set_epi64x;

    /// Copies pieces at these offsets from what is done, and counts them as done.
    macro_rules! pairs_at {
        ($done:ident: $($offset:literal)*) => {
            $(
                let at = $done + $offset;
                // SAFETY: `at` and the 16 bytes behind it lie within `len`.
                let first = unsafe { from.wrapping_add(at).cast::<i64>().read_unaligned() };
                // SAFETY: likewise.
                let second = unsafe { from.wrapping_add(at + 8).cast::<i64>().read_unaligned() };
                // SAFETY: SSE2 is part of x86-64.
                let piece = unsafe { _mm_set_epi64x(second, first) };
                // SAFETY: stores 16 bytes within `len`. What it refines: one relaxed store of each of two aligned words.
                unsafe {
                    core::arch::asm!(
                        concat!("movups [{to} + ", $offset, "], {piece}"),
                        to = in(reg) to.wrapping_byte_add($done), piece = in(xmm_reg) piece,
                        options(nostack, preserves_flags)
                    );
                }
            )*
            $done += [$($offset),*].len() * 16;
        };
    }
    in_pieces!(len, pairs_at)
}

/// As below.
///
/// # Safety
/// None is needed: it copies nothing.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable)))))]
#[inline(always)]
unsafe fn pairs(_: *mut u64, _: *const u8, _: usize) -> usize {
    0
}

/// Copies as many of `len` bytes, fewer than [`VECTOR_BYTES`], out of shared words as are whole pieces: by assembly into a
/// register, and by plain code from there on, which the compiler may leave out.
///
/// # Safety
/// As for [`bulk`].
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
#[inline(always)]
unsafe fn pieces(to: *mut u8, from: *const u8, len: usize) -> usize {
    use core::arch::x86_64::{__m128i, _mm_storeu_si128};

    /// Copies pieces at these offsets from what is done, and counts them as done.
    macro_rules! pieces_at {
        ($done:ident: $($offset:literal)*) => {
            $(
                let piece: __m128i;
                // SAFETY: loads 16 bytes at an offset, which lie below `len`. What it refines: one relaxed load of each of two aligned
                // words. Not `pure`: it is one load, on its side of every fence, and never made twice.
                unsafe {
                    core::arch::asm!(
                        concat!("movups {piece}, [{from} + ", $offset, "]"),
                        from = in(reg) from.wrapping_add($done), piece = out(xmm_reg) piece,
                        options(nostack, preserves_flags, readonly)
                    );
                }
                // SAFETY: stores them at the same offset of the private side.
                unsafe { _mm_storeu_si128(to.wrapping_add($done + $offset).cast(), piece) };
            )*
            $done += [$($offset),*].len() * 16;
        };
    }
    in_pieces!(len, pieces_at)
}

/// Copies the whole words of many bytes out, if that goes well from here to there; says how many bytes it copied.
///
/// # Safety
/// As for [`bulk`].
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
#[inline(always)]
unsafe fn string_out(to: *mut u8, from: *const u8, len: usize) -> usize {
    let behind = (to as usize).wrapping_sub(from as usize) % PAGE_BYTES;
    if len < STRING_BYTES || (1..LINE_BYTES).contains(&behind) {
        return 0;
    }
    let whole = len & !7;
    // SAFETY: copies `whole` bytes, which the caller vouches for. What it refines: one relaxed load of each aligned word. The
    // direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") whole => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    whole
}

/// Copies as many of `len` bytes as assembly does well and says how many: a multiple of 8.
///
/// # Safety
/// One side is private memory of `len` bytes, the other `len.div_ceil(8)` aligned shared words.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable))))]
#[inline(always)]
unsafe fn bulk(to: *mut u8, from: *const u8, len: usize) -> usize {
    if len < VECTOR_BYTES {
        // SAFETY: the caller's contract.
        return unsafe { pieces(to, from, len) };
    }
    let whole = len & !63;
    if std::is_x86_feature_detected!("avx") {
        // SAFETY: copies `whole` bytes, at least 64, in pieces of 64; AVX is there. What it refines: one relaxed
        // access of each aligned word of the shared side.
        unsafe {
            core::arch::asm!(
                "2:",
                "vmovdqu ymm0, [rsi]",
                "vmovdqu ymm1, [rsi + 32]",
                "vmovdqu [rdi], ymm0",
                "vmovdqu [rdi + 32], ymm1",
                "add rsi, 64",
                "add rdi, 64",
                "sub rcx, 64",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") whole => _, inout("rdi") to => _, inout("rsi") from => _,
                // All of them: `vzeroupper` clears the upper halves of registers that a caller compiled for AVX may use.
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack)
            );
        }
    } else {
        // SAFETY: as above, in four pieces of 16 bytes; SSE2 is part of x86-64.
        unsafe {
            core::arch::asm!(
                "2:",
                "movups xmm0, [rsi]",
                "movups xmm1, [rsi + 16]",
                "movups xmm2, [rsi + 32]",
                "movups xmm3, [rsi + 48]",
                "movups [rdi], xmm0",
                "movups [rdi + 16], xmm1",
                "movups [rdi + 32], xmm2",
                "movups [rdi + 48], xmm3",
                "add rsi, 64",
                "add rdi, 64",
                "sub rcx, 64",
                "jnz 2b",
                inout("rcx") whole => _, inout("rdi") to => _, inout("rsi") from => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, options(nostack)
            );
        }
    }
    whole
}

/// Elsewhere the word loop does it all.
///
/// # Safety
/// None is needed: it copies nothing.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable)))))]
#[inline(always)]
unsafe fn bulk(_: *mut u8, _: *const u8, _: usize) -> usize {
    0
}

/// As above.
///
/// # Safety
/// None is needed: it copies nothing.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing, shmcast_portable)))))]
#[inline(always)]
unsafe fn string_out(_: *mut u8, _: *const u8, _: usize) -> usize {
    let _ = (STRING_BYTES, PAGE_BYTES, LINE_BYTES);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The meaning, in its plainest form.
    fn word_loop(to: &mut [u64], from: &[u8]) {
        for (word, bytes) in to.iter_mut().zip(from.chunks(8)) {
            let mut last = [0; 8];
            last[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(last);
        }
    }

    /// A caller that keeps values in AVX registers across a copy.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2")]
    fn copies_between_additions(to: &mut [u64; VECTOR_BYTES / 8]) -> [u64; 4] {
        use core::arch::x86_64::{__m256i, _mm256_add_epi64, _mm256_set1_epi64x, _mm256_setzero_si256};
        let mut sum: __m256i = _mm256_setzero_si256();
        for _ in 0..1000 {
            sum = _mm256_add_epi64(sum, _mm256_set1_epi64x(1));
            // SAFETY: both buffers are private and of so many bytes.
            unsafe { words_in(to.as_mut_ptr(), [7u8; VECTOR_BYTES].as_ptr(), VECTOR_BYTES) };
        }
        // SAFETY: 32 bytes either way, and any bit pattern is a value.
        unsafe { core::mem::transmute::<__m256i, [u64; 4]>(sum) }
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn a_copy_leaves_its_callers_registers_alone() {
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 is there.
            assert_eq!(unsafe { copies_between_additions(&mut [0; VECTOR_BYTES / 8]) }, [1000; 4]);
        }
    }

    #[test]
    fn every_path_means_the_word_loop() {
        let source: Vec<u8> = (0..70_000u32).map(|i| (i * 31 + i / 251) as u8).collect();
        let lengths = (0..=VECTOR_BYTES + 64).chain([
            1023,
            1024,
            1031,
            4096,
            STRING_BYTES - 1,
            STRING_BYTES,
            STRING_BYTES + 13,
            65_536,
        ]);
        for len in lengths {
            for skew in [0, 1, 3] {
                let source = &source[skew..skew + len];
                let words = len.div_ceil(8);
                let (mut shared, mut expected) = (vec![!0; words + 1], vec![!0; words + 1]);
                word_loop(&mut expected[..words], source);
                // SAFETY: both buffers are private to this test and large enough.
                unsafe { words_in(shared.as_mut_ptr(), source.as_ptr(), len) };
                assert_eq!(shared, expected, "in, {len} bytes");
                let mut back = vec![0xEE; len + skew + 1];
                // SAFETY: as above.
                unsafe { words_out(shared.as_mut_ptr(), back.as_mut_ptr().wrapping_add(skew), len) };
                assert_eq!(&back[skew..skew + len], source, "out, {len} bytes");
                assert_eq!(back[skew + len], 0xEE, "nothing is written behind the buffer");
            }
        }
    }

    /// Lengths that the compiler knows, and a target that has no value yet.
    #[test]
    fn a_length_that_is_known_means_the_word_loop_too() {
        fn round_trip<const LEN: usize>() {
            let source: [u8; LEN] = core::array::from_fn(|byte| (byte * 31 + 7) as u8);
            let (mut shared, mut expected) = ([!0; VECTOR_BYTES / 8 + 1], [!0; VECTOR_BYTES / 8 + 1]);
            word_loop(&mut expected[..LEN.div_ceil(8)], &source);
            // SAFETY: both buffers are private to this test and large enough.
            unsafe { words_in(shared.as_mut_ptr(), source.as_ptr(), LEN) };
            assert_eq!(shared, expected, "in, {LEN} bytes");
            let mut back = core::mem::MaybeUninit::<[u8; LEN]>::uninit();
            // SAFETY: as above.
            unsafe { words_out(shared.as_mut_ptr(), back.as_mut_ptr().cast(), LEN) };
            // SAFETY: `words_out` wrote all its bytes.
            assert_eq!(unsafe { back.assume_init() }, source, "out, {LEN} bytes");
        }
        macro_rules! lengths {
            ($($len:literal)*) => { $(round_trip::<$len>();)* };
        }
        lengths!(0 1 7 8 9 15 16 17 24 31 32 33 40 47 48 49 56 63 64 65 72 80 96 112 120 127 128 129 136 144 160 176 191);
        lengths!(192 193 200 208 224 239 240 241 247 248 249 255 256);
    }

    /// Whichever way a large copy takes: each place of the target within its page, as seen from the source.
    #[test]
    fn a_large_copy_means_the_same_wherever_it_goes() {
        const LEN: usize = STRING_BYTES + 8;
        let source: Vec<u8> = (0..LEN).map(|i| (i * 31 + i / 256) as u8).collect();
        let mut words = vec![0; (LEN + PAGE_BYTES) / 8];
        for offset in (0..PAGE_BYTES / 8).step_by(if cfg!(miri) { 100 } else { 1 }) {
            let target = &mut words[offset..offset + LEN / 8];
            target.fill(!0);
            // SAFETY: both buffers are private to this test and large enough.
            unsafe { words_in(target.as_mut_ptr(), source.as_ptr(), LEN) };
            assert!(bytemuck::cast_slice::<u64, u8>(target) == source, "in, {offset} words into the page");
            let mut back = vec![0; LEN];
            // SAFETY: as above.
            unsafe { words_out(target.as_mut_ptr(), back.as_mut_ptr(), LEN) };
            assert!(back == source, "out, {offset} words into the page");
        }
    }
}
