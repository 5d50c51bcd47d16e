//! Payloads that can be told apart, and that look like headers wherever they can.

/// The payload of record `sequence` of this length. Every third one is made of words that would pass for commit words,
/// every third of words that would pass for pads: no old byte may ever be taken for a header (I1).
pub(crate) fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let word = |index: usize| {
        let mixed = (sequence ^ (index as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17;
        match sequence % 3 {
            0 => mixed % 64 + 1,
            1 => mixed,
            _ => (mixed % 512 * 8 + 1) | 1 << 32,
        }
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|index| word(index).to_le_bytes()).collect();
    bytes.truncate(len);
    // Two records of one kind differ also where they are short.
    if let Some(last) = bytes.last_mut() {
        *last ^= sequence as u8;
    }
    bytes
}
