//! What a typed ring says of its values: fields of the header, a name and a text, all of them from another process.
//!
//! A ring in memfds is opened by its descriptors, as anybody opens one: as its type, as another, as raw bytes, and by a tool
//! that takes any. Who accepts what follows from the fields alone, and is said here once more; a refusal names both types, with a text that
//! can be shown to people whatever the bytes were.

pub(crate) mod script;
#[cfg(test)]
pub(crate) mod seeds;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use bytemuck::CheckedBitPattern;
use nix::sys::stat::{Mode, fchmod};
use shmcast::layout::{HEADER_WORDS, LINE_BYTES, MAX_SCHEMA_TEXT_BYTES, RingLayout};
use shmcast::{CreateError, OpenError, Options, PayloadSchema, Reader, Schema, TryRecvError, TypedReader, TypedWriter};

use crate::handover::sealed_memfd;
use crate::typed::types::{Largest, Odd, Order};
pub(crate) use script::Script;
use script::{Edit, Type, Value};

const MOST_EDITS: usize = 40;
/// Words of the header: see `layout.md`.
const LENGTH: usize = 4;
const SCHEMA_LOW: usize = 12;
const SCHEMA_HIGH: usize = 13;
const SIZE: usize = 14;
const ALIGNMENT: usize = 15;
const NAME: std::ops::Range<usize> = 16..24;
const DATA: usize = 40;
const TEXT: usize = 42;
const CHECKSUM: usize = HEADER_WORDS - 1;
/// The largest payload of the rings here.
const MAX_PAYLOAD: u64 = 4096 / 2 - 8;

/// Runs a script; panics when a promise is broken.
pub(crate) fn run(script: &Script) {
    let (written, wanted) = (index_of(&script.written), index_of(&script.wanted));
    let mut ring = Bytes { words: templates()[written].ring.clone(), odd: false };
    for edit in script.edits.iter().take(MOST_EDITS) {
        ring.edit(edit, &templates()[wanted].ring);
    }
    if script.sealed {
        ring.seal();
    }
    let parsed = ring.parse();
    let files = [ring.bytes(), templates()[written].registry.clone()].map(|bytes| own_memfd(&bytes));
    match script.wanted {
        Type::Raw => open(&ring, parsed, &files, &RAW, &Options::new()),
        Type::Unit => open_typed::<()>(&ring, parsed, &files),
        Type::Flag => open_typed::<bool>(&ring, parsed, &files),
        Type::Order => open_typed::<Order>(&ring, parsed, &files),
        Type::Odd => open_typed::<Odd>(&ring, parsed, &files),
        Type::Largest => open_typed::<Largest>(&ring, parsed, &files),
    }
    // A tool that shows any ring.
    let answer = Options::new().lossy(true).untyped(true).open_descriptors(files[0].as_fd(), Some(files[1].as_fd()));
    match answer {
        Ok(mut reader) => {
            assert!(parsed != Some(false));
            let schema = reader.payload_schema();
            assert!(parsed.is_none() || schema == ring.schema(), "{schema}");
            assert!(!schema.to_string().contains(char::is_control));
            assert!(
                parsed.is_none() || reader.try_recv().is_ok_and(|record| record.payload == templates()[written].value)
            );
        }
        Err(OpenError::Format { source, .. }) => {
            assert!(parsed != Some(true) && source.to_string().len() > 20, "{source}")
        }
        Err(error) => assert!(parsed.is_none(), "{error}"),
    }
}

/// Nobody else may open it: who takes a ring over insists on that.
fn own_memfd(bytes: &[u8]) -> OwnedFd {
    let file = sealed_memfd(bytes);
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR).expect("our own");
    file
}

const RAW: PayloadSchema = PayloadSchema { text: std::borrow::Cow::Borrowed(""), id: 0 };

fn open_typed<T: Schema + CheckedBitPattern + bytemuck::NoUninit>(
    ring: &Bytes,
    parsed: Option<bool>,
    files: &[OwnedFd; 2],
) {
    let wanted = PayloadSchema::of::<T>();
    let options = Options::new().lossy(true).typed::<T>();
    let opened = options.open_descriptors(files[0].as_fd(), Some(files[1].as_fd()));
    judge(opened.map(TypedReader::into_bytes), ring, parsed, &wanted);
    // A writer, too, goes on with a ring of its own type only.
    let taken: Result<TypedWriter<T>, _> =
        Options::new().keep(true).typed().take_over_descriptors(files[0].as_fd(), files[1].as_fd());
    match taken {
        Ok(writer) => {
            assert!(parsed.is_none() || parsed == Some(true) && ring.is_of(&wanted, size_of::<T>(), align_of::<T>()));
            drop(writer);
        }
        Err(CreateError::TakeOver { source, .. }) => judge(Err(*source), ring, parsed, &wanted),
        Err(error) => assert!(parsed.is_none(), "{error}"),
    }
}

fn open(ring: &Bytes, parsed: Option<bool>, files: &[OwnedFd; 2], wanted: &PayloadSchema, options: &Options) {
    let opened = options.clone().lossy(true).open_descriptors(files[0].as_fd(), Some(files[1].as_fd()));
    judge(opened, ring, parsed, wanted);
}

/// Is this the right answer to one who wants that type?
fn judge(opened: Result<Reader, OpenError>, ring: &Bytes, parsed: Option<bool>, wanted: &PayloadSchema) {
    let known = templates().iter().find(|template| template.schema == *wanted).expect("a type of these");
    let same = ring.is_of(wanted, known.ring[SIZE] as usize, known.ring[ALIGNMENT] as usize)
        && ring.words[NAME] == known.ring[NAME];
    match opened {
        Ok(mut reader) => {
            assert!(parsed != Some(false) && same, "values of another type");
            let read = reader.try_recv();
            assert!(parsed.is_none() || matches!(read, Ok(_) | Err(TryRecvError::Empty)), "{read:?}");
        }
        Err(OpenError::WrongType { expected, found, .. }) => {
            assert!(parsed != Some(false) && !same && expected == *wanted);
            assert_eq!(found, ring.schema());
            let told = found.to_string();
            assert!(!told.contains(char::is_control) && told.len() <= 3 * MAX_SCHEMA_TEXT_BYTES + 40);
        }
        Err(OpenError::Format { source, .. }) => {
            assert!(parsed != Some(true) && source.to_string().len() > 20, "{source}");
        }
        Err(error) => assert!(parsed.is_none(), "{error}"),
    }
}

// ---- rings of all types ----

struct Template {
    schema: PayloadSchema,
    ring: Vec<u64>,
    registry: Vec<u8>,
    value: Vec<u8>,
}

fn index_of(of: &Type) -> usize {
    match of {
        Type::Raw => 0,
        Type::Unit => 1,
        Type::Flag => 2,
        Type::Order => 3,
        Type::Odd => 4,
        Type::Largest => 5,
    }
}

/// Rings as they are written, each with a record in it.
fn templates() -> &'static [Template; 6] {
    static TEMPLATES: OnceLock<[Template; 6]> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let options = || Options::new().capacity(4096).blocks(2).reader_slots(2);
        let mut raw = options().create_memfd().expect("a small ring");
        raw.publish(b"raw").expect("room");
        let largest: Largest = bytemuck::Zeroable::zeroed();
        [
            template(&raw, RAW, b"raw"),
            typed((), options()),
            typed(true, options()),
            typed(Order::some(), options()),
            typed([7_u8; 13], options()),
            typed(largest, options()),
        ]
    })
}

fn typed<T: Schema + CheckedBitPattern + bytemuck::NoUninit>(value: T, options: Options) -> Template {
    let mut writer = options.typed::<T>().create_memfd().expect("a small ring");
    writer.publish(&value).expect("room");
    template(writer.as_bytes(), PayloadSchema::of::<T>(), bytemuck::bytes_of(&value))
}

fn template(writer: &shmcast::Writer, schema: PayloadSchema, value: &[u8]) -> Template {
    let files = writer.descriptors().expect("a memfd");
    let [ring, registry] = [files.ring, files.registry].map(crate::handover::bytes_of);
    let ring = ring.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("a word"))).collect();
    Template { schema, ring, registry, value: value.to_vec() }
}

// ---- the ring that is opened ----

struct Bytes {
    words: Vec<u64>,
    /// A word was changed of which nothing is said here.
    odd: bool,
}

impl Bytes {
    fn edit(&mut self, edit: &Edit, wanted: &[u64]) {
        match edit {
            Edit::Field { which, value } => {
                let word = [SCHEMA_LOW, SCHEMA_HIGH, SIZE, ALIGNMENT][usize::from(*which) % 4];
                self.words[word] = match *value {
                    Value::Small { value } => u64::from(value),
                    Value::Raw { value } => value,
                    Value::Flip { bit } => self.words[word] ^ 1 << (bit % 64),
                    Value::Wanted => wanted[word],
                };
            }
            Edit::Name { at, value } => self.set(NAME.start * 8 + usize::from(at % 64), *value),
            Edit::Text { at, value } => self.set_text(usize::from(*at), *value),
            Edit::TextBytes { at, bytes } => {
                bytes.iter().enumerate().for_each(|(nth, &byte)| self.set_text(usize::from(*at) + nth, byte));
            }
            Edit::Lines { lines } => {
                if self.odd {
                    return;
                }
                let length = u64::from(lines % 36) * LINE_BYTES;
                let end = (self.words[DATA] + self.words[DATA + 1]).next_multiple_of(LINE_BYTES);
                self.words[TEXT] = if length == 0 { 0 } else { end };
                self.words[TEXT + 1] = length;
                self.words[LENGTH] = end + length;
                self.words.resize(((end + length) / 8) as usize, 0x4141_4141_4141_4141);
            }
            Edit::Any { word, value } => {
                let word = usize::from(*word) % HEADER_WORDS;
                self.odd |= self.words[word] != *value;
                self.words[word] = *value;
            }
        }
    }

    fn set(&mut self, byte: usize, value: u8) {
        if let Some(word) = self.words.get_mut(byte / 8) {
            let mut bytes = word.to_ne_bytes();
            bytes[byte % 8] = value;
            *word = u64::from_ne_bytes(bytes);
        }
    }

    fn set_text(&mut self, at: usize, value: u8) {
        let [offset, length] = [self.words[TEXT], self.words[TEXT + 1]].map(|word| word as usize);
        if !self.odd && length > 0 {
            self.set(offset + at % length, value);
        }
    }

    /// As `layout.md` says it.
    fn checksum(&self) -> u64 {
        self.words[..CHECKSUM].iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, word| {
            let sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3);
            sum ^ sum >> 32
        })
    }

    fn seal(&mut self) {
        self.words[CHECKSUM] = self.checksum();
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Must the header be accepted? None if that follows from other fields than those of the payload.
    fn parse(&self) -> Option<bool> {
        if let Some(header) = self.words.first_chunk()
            && let Ok(layout) = RingLayout::parse(header, self.words.len() as u64 * 8)
        {
            let name = layout.geometry.payload.name();
            assert!(name.len() <= 3 * 64 && !name.contains('\0'));
        }
        if self.odd {
            return None;
        }
        let (size, alignment, lines) = (self.words[SIZE], self.words[ALIGNMENT], self.words[TEXT + 1] / LINE_BYTES);
        let raw = alignment == 0;
        let named = self.words[NAME].iter().any(|&word| word != 0);
        let fields =
            [0, 1, 2, 4, 8].contains(&alignment) && size <= MAX_PAYLOAD && size.is_multiple_of(alignment.max(1));
        let nothing = size == 0 && lines == 0 && !named && self.words[SCHEMA_LOW] | self.words[SCHEMA_HIGH] == 0;
        let typed = self.words[SCHEMA_LOW] != 0;
        let kind = if raw { nothing } else { typed };
        Some(fields && kind && lines <= 32 && self.words[CHECKSUM] == self.checksum())
    }

    fn text(&self) -> Vec<u8> {
        let [offset, length] = [self.words[TEXT], self.words[TEXT + 1]].map(|word| word as usize);
        let bytes = self.bytes();
        let text = bytes.get(offset..).and_then(|rest| rest.get(..length)).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
    }

    /// What is shown of it.
    fn schema(&self) -> PayloadSchema {
        let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let text: String = String::from_utf8_lossy(&self.text()).chars().map(shown).collect();
        PayloadSchema { text: text.into(), id: self.words[SCHEMA_LOW] }
    }

    /// Is it a ring of values of this type, but for the name?
    fn is_of(&self, wanted: &PayloadSchema, size: usize, alignment: usize) -> bool {
        let alignment = if wanted.is_raw() { 0 } else { alignment };
        self.words[SCHEMA_LOW] == wanted.id
            && self.words[SCHEMA_HIGH] == 0
            && (self.words[SIZE], self.words[ALIGNMENT]) == (size as u64, alignment as u64)
            && self.text() == wanted.text.as_bytes()
    }
}
