//! The message that hands a ring in memfds over a unix socket; the descriptors travel beside it (`SCM_RIGHTS`), in one
//! message with it. The [format](super#the-hand-over-message) is written down with the others.

/// Bytes of the message.
pub const MESSAGE_BYTES: usize = 24;
/// The version of the message that this crate writes and reads.
pub const MESSAGE_VERSION: u32 = 1;
/// The first bytes of the message.
pub const MESSAGE_MAGIC: [u8; 8] = *b"shmcHAND";

/// The descriptor of the ring segment travels with it: always.
const WITH_RING: u32 = 1;
/// That of the registry, too, behind it.
const WITH_REGISTRY: u32 = 2;

/// What the message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Does the registry's descriptor follow that of the ring?
    pub registry: bool,
    /// That of the ring: so that nobody takes the descriptors of another one for it.
    pub incarnation: u64,
}

/// Why some bytes are no hand-over message, or none that this program can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// Something else was said on the socket.
    #[error("it begins with {found:x?}, which is no hand-over; check what else the other end sends")]
    Magic {
        /// The first bytes.
        found: [u8; 8],
    },
    /// The other end uses another version of this crate.
    #[error(
        "the hand-over has version {found}, this program reads version {supported}; use the same release of shmcast on both sides"
    )]
    Version {
        /// The version in the message.
        found: u32,
        /// The version that this crate reads.
        supported: u32,
    },
    /// The message was cut, or its sender writes in pieces.
    #[error("the hand-over was cut: {found} of {needed} bytes came; close the connection and make a new one")]
    Truncated {
        /// Bytes that came.
        found: usize,
        /// Bytes that it has.
        needed: usize,
    },
    /// The message is longer than a hand-over.
    #[error("the message has more than the {needed} bytes of a hand-over; check what else the other end sends")]
    TooLong {
        /// Bytes that it has.
        needed: usize,
    },
    /// No ring has these descriptors.
    #[error("the hand-over announces descriptors {found:#x}, not the ring's, or the ring's and the registry's")]
    Descriptors {
        /// The set in the message.
        found: u32,
    },
}

impl Message {
    /// The bytes to send.
    #[must_use]
    pub fn encode(self) -> [u8; MESSAGE_BYTES] {
        let descriptors = if self.registry { WITH_RING | WITH_REGISTRY } else { WITH_RING };
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..8].copy_from_slice(&MESSAGE_MAGIC);
        bytes[8..12].copy_from_slice(&MESSAGE_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&descriptors.to_le_bytes());
        bytes[16..].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes
    }

    /// Reads a message: these bytes, all of them, whatever they are. What a stream brings first decides: a wrong
    /// magic is told before a wrong length.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn parse(bytes: &[u8]) -> Result<Message, HandoverError> {
        let needed = MESSAGE_BYTES;
        let cut = HandoverError::Truncated { found: bytes.len(), needed };
        let (magic, rest) = bytes.split_first_chunk().ok_or(cut)?;
        if *magic != MESSAGE_MAGIC {
            return Err(HandoverError::Magic { found: *magic });
        }
        let (version, rest) = rest.split_first_chunk().ok_or(cut)?;
        let (found, supported) = (u32::from_le_bytes(*version), MESSAGE_VERSION);
        // Before the length: that of another version may be another one.
        if found != supported {
            return Err(HandoverError::Version { found, supported });
        }
        let (descriptors, rest) = rest.split_first_chunk().ok_or(cut)?;
        let (incarnation, rest) = rest.split_first_chunk().ok_or(cut)?;
        if !rest.is_empty() {
            return Err(HandoverError::TooLong { needed });
        }
        let registry = match u32::from_le_bytes(*descriptors) {
            WITH_RING => false,
            found if found == WITH_RING | WITH_REGISTRY => true,
            found => return Err(HandoverError::Descriptors { found }),
        };
        Ok(Message { registry, incarnation: u64::from_le_bytes(*incarnation) })
    }

    /// How many descriptors travel with it.
    #[must_use]
    pub fn descriptors(self) -> usize {
        1 + usize::from(self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Message = Message { registry: true, incarnation: 0x4388_172D_6BC6_CE32 };

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = *b"shmcHAND\x01\0\0\0\x03\0\0\0\x32\xce\xc6\x6b\x2d\x17\x88\x43";
        assert_eq!(FULL.encode(), bytes);
        assert_eq!(Message { registry: false, ..FULL }.encode()[12..16], [1, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        for registry in [false, true] {
            for incarnation in [0, 1, u64::MAX] {
                let message = Message { registry, incarnation };
                assert_eq!(Message::parse(&message.encode()), Ok(message));
                assert_eq!(message.descriptors(), if registry { 2 } else { 1 });
            }
        }
    }

    #[test]
    fn every_cut_is_told() {
        let bytes = FULL.encode();
        for found in 0..MESSAGE_BYTES {
            let cut = HandoverError::Truncated { found, needed: MESSAGE_BYTES };
            assert_eq!(Message::parse(&bytes[..found]), Err(cut));
        }
        let long = [&bytes[..], b"x"].concat();
        assert_eq!(Message::parse(&long), Err(HandoverError::TooLong { needed: MESSAGE_BYTES }));
    }

    #[test]
    fn every_wrong_byte_in_front_of_the_incarnation_is_told() {
        for at in 0..16 {
            for flip in [1, 0x80, 0xFF] {
                let mut bytes = FULL.encode();
                bytes[at] ^= flip;
                let told = Message::parse(&bytes).expect_err("another message");
                match at {
                    0..8 => assert!(matches!(told, HandoverError::Magic { .. }), "{told}"),
                    8..12 => assert!(matches!(told, HandoverError::Version { .. }), "{told}"),
                    _ => assert!(matches!(told, HandoverError::Descriptors { .. }), "{told}"),
                }
            }
        }
        // The registry alone.
        let mut bytes = FULL.encode();
        bytes[12] = 2;
        assert_eq!(Message::parse(&bytes), Err(HandoverError::Descriptors { found: 2 }));
        // Another version is told by name, however long it is.
        let mut bytes = FULL.encode();
        bytes[8] = 2;
        let version = Err(HandoverError::Version { found: 2, supported: 1 });
        assert_eq!(Message::parse(&bytes[..12]), version);
        assert_eq!(Message::parse(&[&bytes[..], b"more"].concat()), version);
    }
}
