//! What the payloads of a typed ring are: field names, offsets and types, as a text that is the same in every program.
//!
//! ```text
//!   struct Tick { price: u64, side: Side, quantity: u32 }        and        schema!(Tick { ... })
//!          │
//!          ▼  Schema::SHAPE, at compile time
//!   "Tick{price:u64@0,side:Side{Bid=0,Ask=1}:u32@8,quantity:u32@12}:16/8"
//!          │                                                       │  │
//!          ▼  FNV-1a, 64 bits                               size ──┘  └── alignment
//!   id 0x........                        both stand in the ring; whoever opens it compares both
//! ```
//!
//! # The text
//! | type | text |
//! |---|---|
//! | `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `bool`, `char` | its name |
//! | `()` | `()` |
//! | `[T; N]` | `[` text of T `;` N `]` |
//! | a struct | its name `{` field `:` text of its type `@` offset in bytes `,` ... `}:` size `/` alignment |
//! | an enum without fields | its name `{` variant `=` value `,` ... `}:` primitive type |
//!
//! No module or crate is part of it, no spaces, and nothing that depends on the program. The fields of a tuple struct are
//! named `0`, `1`, ... There is no text, and so no schema, for what means something else in another process or on another
//! machine: `usize`, `isize`, pointers, references. The id is the
//! [FNV-1a](https://datatracker.ietf.org/doc/draft-eastlake-fnv/) hash of the text's bytes.

use std::borrow::Cow;
use std::fmt;

use crate::layout::{MAX_PAYLOAD_NAME_BYTES, MAX_SCHEMA_TEXT_BYTES, PayloadType};

/// Largest alignment of a payload type in bytes: payloads lie behind an 8-byte header.
const MAX_ALIGNMENT_BYTES: usize = 8;

/// A type whose values can be the payloads of a [typed ring](crate::TypedWriter): field names, offsets and types are known.
/// Implemented with [`schema!`](crate::schema!).
///
/// A wrong implementation lets programs take values for what they are not, and no more: what a value may look like is
/// checked by the traits of `bytemuck`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema: it cannot be, or be part of, the payload of a typed ring",
    note = "for a struct or an enum of yours: `shmcast::schema!({Self} {{ field: Type, .. }})`",
    note = "`usize`, `isize`, pointers and references have none: they mean something else in another process"
)]
pub trait Schema: Copy + 'static {
    /// How its values are laid out.
    const SHAPE: Shape;
}

/// How the values of a type are laid out. Made by [`schema!`](crate::schema!).
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A type that Rust itself knows.
    Primitive(&'static str),
    /// An array.
    Array {
        /// Of these,
        element: &'static Shape,
        /// this many.
        len: usize,
    },
    /// A struct.
    Struct {
        /// Its name, without the path.
        name: &'static str,
        /// All fields, by offset.
        fields: &'static [Field],
        /// Its size in bytes.
        size: usize,
        /// Its alignment in bytes.
        alignment: usize,
    },
    /// An enum without fields.
    Enum {
        /// Its name, without the path.
        name: &'static str,
        /// The primitive type that it is represented by.
        repr: &'static str,
        /// The name and value of each variant.
        variants: &'static [(&'static str, i128)],
    },
}

/// A field of a [`Shape::Struct`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name; its number in a tuple struct.
    pub name: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its type.
    pub shape: &'static Shape,
}

impl Shape {
    /// The name for people: the type's, or the text of what has none.
    const fn name(&self) -> Option<&'static str> {
        match *self {
            Shape::Struct { name, .. } | Shape::Enum { name, .. } | Shape::Primitive(name) => Some(name),
            Shape::Array { .. } => None,
        }
    }
}

macro_rules! primitives {
    ($($type:ty)*) => {
        $(impl Schema for $type {
            const SHAPE: Shape = Shape::Primitive(stringify!($type));
        })*
    };
}

primitives!(() bool char u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);

impl<T: Schema, const N: usize> Schema for [T; N] {
    const SHAPE: Shape = Shape::Array { element: &T::SHAPE, len: N };
}

/// Implements [`Schema`](trait@crate::Schema) for a struct or an enum without fields: give its fields, or its variants, once more.
///
/// What is given is checked: a field that is missing, has another type, or stands in another order than in memory does not
/// compile. The struct should be `repr(C)`, so that every compiler lays it out alike (`bytemuck` insists on it).
///
/// ```
/// use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// struct Level {
///     price: i64,
///     quantity: [u32; 2],
/// }
/// shmcast::schema!(Level { price: i64, quantity: [u32; 2] });
///
/// #[repr(u8)]
/// #[derive(Clone, Copy, NoUninit, CheckedBitPattern)]
/// enum Side {
///     Bid,
///     Ask,
/// }
/// shmcast::schema!(enum Side: u8 { Bid, Ask });
///
/// let text = shmcast::PayloadSchema::of::<Level>().text;
/// assert_eq!(text, "Level{price:i64@0,quantity:[u32;2]@8}:16/8");
/// assert_eq!(shmcast::PayloadSchema::of::<Side>().text, "Side{Bid=0,Ask=1}:u8");
/// ```
#[macro_export]
macro_rules! schema {
    (enum $name:ident: $repr:ident { $($variant:ident),+ $(,)? }) => {
        const _: () = {
            const _: fn($name) = |value| match value { $($name::$variant => {})+ };
            assert!(
                ::core::mem::size_of::<$name>() == ::core::mem::size_of::<$repr>(),
                concat!("give the type in the `repr` of `", stringify!($name), "`")
            );
        };
        impl $crate::Schema for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Enum {
                name: stringify!($name),
                repr: stringify!($repr),
                variants: &[$((stringify!($variant), $name::$variant as i128)),+],
            };
        }
    };
    ($name:ident { $($field:tt: $type:ty),* $(,)? }) => {
        const _: () = {
            const _: fn($name) -> $name = |_value| $name {
                $($field: {
                    let field: $type = _value.$field;
                    field
                }),*
            };
            assert!(
                ::core::mem::align_of::<$name>() <= 8,
                concat!("`", stringify!($name), "` is aligned to more than 8 bytes, which no payload is")
            );
            let (mut _end, _size) = (0, ::core::mem::size_of::<$name>());
            $(
                assert!(
                    ::core::mem::offset_of!($name, $field) >= _end,
                    concat!("give the fields of `", stringify!($name), "` in the order of their offsets (use `repr(C)`)")
                );
                _end = ::core::mem::offset_of!($name, $field) + ::core::mem::size_of::<$type>();
            )*
        };
        impl $crate::Schema for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Struct {
                name: stringify!($name),
                fields: &[$($crate::schema::Field {
                    name: stringify!($field),
                    offset: ::core::mem::offset_of!($name, $field),
                    shape: &<$type as $crate::Schema>::SHAPE,
                }),*],
                size: ::core::mem::size_of::<$name>(),
                alignment: ::core::mem::align_of::<$name>(),
            };
        }
    };
}

// ---- the text, at compile time ----

/// Writes a text into a buffer that is large enough for any.
struct Pen {
    text: [u8; MAX_SCHEMA_TEXT_BYTES],
    len: usize,
}

impl Pen {
    const fn put(&mut self, part: &str) {
        let (part, mut at) = (part.as_bytes(), 0);
        assert!(part.len() <= self.text.len() - self.len, "the schema's text is longer than 4096 bytes");
        while at < part.len() {
            self.text[self.len] = part[at];
            (self.len, at) = (self.len + 1, at + 1);
        }
    }

    const fn put_number(&mut self, number: i128) {
        if number < 0 {
            self.put("-");
        }
        let mut scale: u128 = 1;
        while number.unsigned_abs() / scale >= 10 {
            scale *= 10;
        }
        while scale > 0 {
            let digit = [b'0' + (number.unsigned_abs() / scale % 10) as u8];
            match core::str::from_utf8(&digit) {
                Ok(digit) => self.put(digit),
                Err(_) => panic!("a digit is a character"),
            }
            scale /= 10;
        }
    }

    const fn put_shape(&mut self, shape: &Shape) {
        match *shape {
            Shape::Primitive(name) => self.put(name),
            Shape::Array { element, len } => {
                self.put("[");
                self.put_shape(element);
                self.put(";");
                self.put_number(len as i128);
                self.put("]");
            }
            Shape::Struct { name, fields, size, alignment } => {
                self.put(name);
                let mut at = 0;
                while at < fields.len() {
                    let Field { name, offset, shape } = fields[at];
                    self.put(if at == 0 { "{" } else { "," });
                    self.put(name);
                    self.put(":");
                    self.put_shape(shape);
                    self.put("@");
                    self.put_number(offset as i128);
                    at += 1;
                }
                self.put(if at == 0 { "{}:" } else { "}:" });
                self.put_number(size as i128);
                self.put("/");
                self.put_number(alignment as i128);
            }
            Shape::Enum { name, repr, variants } => {
                self.put(name);
                let mut at = 0;
                while at < variants.len() {
                    self.put(if at == 0 { "{" } else { "," });
                    self.put(variants[at].0);
                    self.put("=");
                    self.put_number(variants[at].1);
                    at += 1;
                }
                self.put("}:");
                self.put(repr);
            }
        }
    }
}

/// FNV-1a, 64 bits.
const fn hash(text: &str) -> u64 {
    let (text, mut at, mut hash) = (text.as_bytes(), 0, 0xCBF2_9CE4_8422_2325u64);
    while at < text.len() {
        hash = (hash ^ text[at] as u64).wrapping_mul(0x0000_0100_0000_01B3);
        at += 1;
    }
    hash
}

/// What is computed of a type at compile time.
struct Of<T>(T);

impl<T: Schema> Of<T> {
    const WRITTEN: Pen = {
        let mut pen = Pen { text: [0; MAX_SCHEMA_TEXT_BYTES], len: 0 };
        pen.put_shape(&T::SHAPE);
        pen
    };

    const TEXT: &'static str = match core::str::from_utf8(Self::WRITTEN.text.split_at(Self::WRITTEN.len).0) {
        Ok(text) => text,
        Err(_) => panic!("names are UTF-8"),
    };

    const PAYLOAD: PayloadType = {
        assert!(
            align_of::<T>() <= MAX_ALIGNMENT_BYTES,
            "the type is aligned to more than 8 bytes, which no payload is"
        );
        let (size, alignment) = (size_of::<T>() as u64, align_of::<T>() as u64);
        let name = match T::SHAPE.name() {
            Some(name) => name,
            None => Self::TEXT,
        };
        PayloadType { schema: hash(Self::TEXT) as u128, size, alignment, name: name_words(name), text: Self::TEXT }
    };
}

/// A name as the header has it: as many of its first characters as fit, padded with zeros.
const fn name_words(name: &str) -> [u64; MAX_PAYLOAD_NAME_BYTES / 8] {
    let (name, mut len) = (name.as_bytes(), name.len());
    while len > MAX_PAYLOAD_NAME_BYTES || len < name.len() && name[len] & 0xC0 == 0x80 {
        len -= 1;
    }
    let (mut words, mut at) = ([0; MAX_PAYLOAD_NAME_BYTES / 8], 0);
    while at < words.len() {
        let (mut bytes, mut byte) = ([0; 8], 0);
        while byte < 8 && at * 8 + byte < len {
            bytes[byte] = name[at * 8 + byte];
            byte += 1;
        }
        words[at] = u64::from_ne_bytes(bytes);
        at += 1;
    }
    words
}

/// What the header of a ring says of payloads of this type.
pub(crate) const fn payload_type<T: Schema>() -> PayloadType {
    Of::<T>::PAYLOAD
}

// ---- what a ring says ----

/// What the payloads of a ring are: in [`OpenError::WrongType`](crate::OpenError::WrongType), and for tools that show rings.
/// Its `Display` is the text and the id, or `raw bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PayloadSchema {
    /// The text form of the type, as [`schema`](mod@crate::schema) says; empty for raw bytes.
    pub text: Cow<'static, str>,
    /// The hash of the text; 0 for raw bytes.
    pub id: u64,
}

impl PayloadSchema {
    /// That of a type.
    #[must_use]
    pub fn of<T: Schema>() -> PayloadSchema {
        PayloadSchema { text: Cow::Borrowed(Of::<T>::TEXT), id: hash(Of::<T>::TEXT) }
    }

    /// Are the payloads bytes of any length and meaning?
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.text.is_empty() && self.id == 0
    }

    /// What a header says. `text` comes from a ring that others may have written: it is shown, and compared.
    pub(crate) fn found(payload: &PayloadType, text: &[u8]) -> PayloadSchema {
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let text: String = String::from_utf8_lossy(text).chars().map(shown).collect();
        PayloadSchema { text: Cow::Owned(text), id: payload.schema as u64 }
    }
}

impl fmt::Display for PayloadSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_raw() { f.write_str("raw bytes") } else { write!(f, "{} (id {:#018x})", self.text, self.id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the draft's test vectors.
        assert_eq!(hash(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(hash("a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(hash("foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn numbers() {
        let mut pen = Pen { text: [0; MAX_SCHEMA_TEXT_BYTES], len: 0 };
        for number in [0, 7, 10, 1_000_000, -1, i128::from(u64::MAX), i128::from(i64::MIN)] {
            pen.put_number(number);
            pen.put(" ");
        }
        assert_eq!(&pen.text[..pen.len], b"0 7 10 1000000 -1 18446744073709551615 -9223372036854775808 ");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = |name: &str| PayloadType { name: name_words(name), ..PayloadType::default() }.name();
        assert_eq!(name("Tick"), "Tick");
        assert_eq!(name(&"x".repeat(64)), "x".repeat(64));
        assert_eq!(name(&"x".repeat(70)), "x".repeat(64));
        assert_eq!(name(&"é".repeat(40)), "é".repeat(32));
        assert_eq!(name(&format!("x{}", "é".repeat(40))), format!("x{}", "é".repeat(31)));
    }

    #[test]
    fn what_a_ring_says_is_shown_without_control_characters() {
        let found = PayloadSchema::found(&PayloadType { schema: 7, ..PayloadType::default() }, b"T\x1b[2J\xFF\0rest");
        assert_eq!(found.to_string(), "T\u{FFFD}[2J\u{FFFD} (id 0x0000000000000007)");
        assert_eq!(PayloadSchema::found(&PayloadType::default(), b"").to_string(), "raw bytes");
    }
}
