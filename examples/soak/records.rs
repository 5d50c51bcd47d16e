//! Records that prove themselves: their length and every word follow from their number.

/// Longest record in bytes.
pub(crate) const MOST_BYTES: usize = 1024;

/// Records that follow on each other and are of one length.
pub(crate) const BLOCK: u64 = 1024;

fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word ^ word >> 29
}

/// The length of a record: small ones most of the time, and some of a kilobyte.
pub(crate) fn len(sequence: u64) -> usize {
    match mix(sequence / BLOCK + 1) % 64 {
        0 => MOST_BYTES,
        1 => 203,
        2..=5 => 64,
        6..=11 => 41,
        12..=20 => 24,
        21..=36 => 8,
        _ => 16,
    }
}

/// A word of a record: of another value in each record and place.
fn word(sequence: u64, place: usize) -> [u8; 8] {
    mix(sequence.wrapping_add((place as u64 + 1) << 48)).to_le_bytes()
}

/// Fills a record.
pub(crate) fn fill(sequence: u64, record: &mut [u8]) {
    for (place, bytes) in record.chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&word(sequence, place)[..bytes.len()]);
    }
}

/// Is this the record of this number, whole? `len` is what [`len`] says of it.
pub(crate) fn is_whole(sequence: u64, len: usize, record: &[u8]) -> bool {
    let same = |(place, bytes): (usize, &[u8])| *bytes == word(sequence, place)[..bytes.len()];
    record.len() == len && record.chunks(8).enumerate().all(same)
}
