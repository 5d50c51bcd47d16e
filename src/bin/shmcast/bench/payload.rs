//! What is carried: bytes that all depend on the record's number, written in full, read in full, and added up.

/// Records are at least this long, unless the transport carries no more: then they are as long as it carries.
pub(super) const MIN_BYTES: usize = 8;

/// "That was all", where records can be lost, and so cannot be counted.
pub(super) const END: u64 = u64::MAX;

/// A buffer that is aligned to words.
pub(super) struct Buffer {
    words: Vec<u64>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn new(bytes: usize) -> Buffer {
        Buffer { words: vec![0; bytes.div_ceil(8)], bytes }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// Writes all of record `number`: word i is `number + i`, and what is left of the last word is cut off.
    #[inline]
    pub(super) fn fill(&mut self, number: u64) -> &[u8] {
        for (i, word) in self.words.iter_mut().enumerate() {
            *word = number.wrapping_add(i as u64).to_le();
        }
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }
}

/// The number of a record, of as many bytes as there are; none if there are none.
#[inline]
pub(super) fn number(record: &[u8]) -> Option<u64> {
    match record {
        [] => None,
        [a, b, c, d, e, f, g, h, ..] => Some(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        short => {
            let mut word = [0; 8];
            word[..short.len()].copy_from_slice(short);
            Some(u64::from_le_bytes(word))
        }
    }
}

/// Reads all of it, and compares: the length, the number, the sum of its words.
#[inline]
pub(super) fn check(record: &[u8], bytes: usize, expected: u64) -> Result<(), String> {
    if record.len() != bytes {
        return Err(format!("record {expected} has {} bytes instead of {bytes}", record.len()));
    }
    let Some(number) = number(record) else { return Ok(()) };
    let kept = if bytes < 8 { expected & ((1 << (bytes * 8)) - 1) } else { expected };
    if number != kept {
        return Err(format!("record {number} came instead of record {kept}"));
    }
    let (words, rest) = record.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    let count = words.len() as u64;
    let due = count.wrapping_mul(expected).wrapping_add(count.wrapping_mul(count.wrapping_sub(1)) / 2);
    let last = expected.wrapping_add(count).to_le_bytes();
    if sum != due || rest != &last[..rest.len()] {
        return Err(format!("the checksum of record {expected}, of {bytes} bytes, is wrong"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_length_is_seen() {
        for bytes in [1, 7, 8, 13, 64, 1027] {
            let mut buffer = Buffer::new(bytes);
            for expected in [0, 77, (1 << 40) + 3] {
                let record = buffer.fill(expected).to_vec();
                assert_eq!(check(&record, bytes, expected), Ok(()), "{bytes} bytes");
                assert!(check(&record[..bytes - 1], bytes, expected).is_err());
                assert!(check(&record, bytes, expected + 1).is_err(), "{bytes} bytes, record {expected}");
                for at in 0..bytes {
                    let mut damaged = record.clone();
                    damaged[at] ^= 0x10;
                    assert!(check(&damaged, bytes, expected).is_err(), "byte {at} of {bytes}");
                }
            }
        }
    }
}
