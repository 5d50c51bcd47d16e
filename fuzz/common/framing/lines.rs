//! Lines out of pieces, and the texts of ends.

use std::io::{ErrorKind, Read};

use shmcast::baseline::stream::LineReader;
use shmcast::baseline::{End, SetupError};

use super::script;

/// Answers the bytes in pieces, and is interrupted before each.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
    interrupted: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        let count = self.size.min(self.bytes.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

/// The lines are what they are however they are cut, up to the first that is too long.
pub(super) fn read(bytes: &[u8], cut: usize, most: usize) {
    let mut reader = LineReader::new(Pieces { bytes, size: cut.max(1), interrupted: false }, most);
    let mut left = bytes;
    loop {
        let end = left.iter().position(|&byte| byte == b'\n');
        let line = &left[..end.unwrap_or(left.len())];
        match reader.read_line() {
            Ok(None) => {
                assert!(left.is_empty());
                break;
            }
            Ok(Some(found)) => assert!(found == line && !left.is_empty() && found.len() <= most, "{found:?}"),
            Err(error) => {
                assert!(error.kind() == ErrorKind::InvalidData && line.len() > most, "{error}");
                break;
            }
        }
        left = &left[end.map_or(left.len(), |end| end + 1)..];
    }
}

/// The text of an end is one, or `BadEnd` says what is wrong.
pub(super) fn end(end: &script::End) {
    const TRANSPORTS: [&str; 5] = ["pipe", "tcp", "unix-stream", "", "no%7Csuch%25one"];
    const ROLES: [&str; 4] = ["sender", "receiver", "", "Sender"];
    let transport = TRANSPORTS[usize::from(end.transport) % TRANSPORTS.len()];
    let role = ROLES[usize::from(end.role) % ROLES.len()];
    let words: Vec<String> = end.words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    // No descriptor of this process: those are numbers.
    let descriptors: String = words
        .first()
        .map(|word| word.chars().filter(|c| !c.is_ascii_digit() && *c != '|').collect())
        .unwrap_or_default();
    let text = format!("{transport}|{role}|{descriptors}|{}", words.join("|"));
    // SAFETY: it names no descriptor.
    match unsafe { End::from_text(&text) } {
        Ok(end) => {
            assert!(matches!(role, "sender" | "receiver") && descriptors.chars().all(|c| c == ','));
            assert_eq!(end.transport_name(), transport.replace("%7C", "|").replace("%25", "%"));
        }
        Err(error) => {
            let SetupError::BadEnd { text: told, reason } = error else { panic!("{error}") };
            assert!(told == text && reason.len() > 5);
        }
    }
}
