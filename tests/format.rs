//! The bytes of a ring, as files show them: golden bytes, every header field damaged, files cut short, words scribbled on.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shmcast::layout::{BYTE_ORDER_MARK, FORMAT_VERSION, HEADER_WORDS};
use shmcast::{FormatError, OpenError, Options, Reader, Start, TryRecvError, Writer};
use support::{Door, Random, file, smallest};

/// Words of the header that every test here knows by heart. The rest is in the tables.
const INCARNATION: usize = 3;
const LENGTH: usize = 4;
const CHECKSUM: usize = HEADER_WORDS - 1;
const HEADER_BYTES: usize = HEADER_WORDS * 8;

/// A ring in two files whose bytes the test changes.
struct Files {
    directory: tempfile::TempDir,
    writer: Writer,
}

impl Files {
    fn new(options: &Options) -> Files {
        let (writer, Door::File(directory)) = file(options) else { unreachable!("a file ring") };
        Files { directory, writer }
    }

    fn ring(&self) -> PathBuf {
        self.directory.path().join("ring")
    }

    fn path(&self, segment: &str) -> PathBuf {
        self.directory.path().join(if segment == "ring" { "ring" } else { "ring.registry" })
    }

    fn open(&self) -> Result<Reader, OpenError> {
        Options::new().open_file(self.ring())
    }

    /// The error of an open that must fail by the format.
    fn refused(&self, what: &str) -> FormatError {
        match self.open() {
            Err(OpenError::Format { source, .. }) => source,
            Err(error) => panic!("{what}: another error: {error}"),
            Ok(_) => panic!("{what}: it was opened"),
        }
    }

    /// Runs `test` with one word of a segment changed.
    fn with_word<T>(&self, segment: &str, word: usize, value: u64, test: impl FnOnce() -> T) -> T {
        let file = fs::File::options().read(true).write(true).open(self.path(segment)).expect("a segment");
        let mut before = [0; 8];
        file.read_exact_at(&mut before, word as u64 * 8).expect("a word");
        file.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("a word");
        let answer = test();
        file.write_all_at(&before, word as u64 * 8).expect("a word");
        answer
    }

    fn word(&self, segment: &str, word: usize) -> u64 {
        word_of(&fs::read(self.path(segment)).expect("a segment"), word)
    }
}

fn word_of(bytes: &[u8], word: usize) -> u64 {
    u64::from_ne_bytes(bytes[word * 8..word * 8 + 8].try_into().expect("8 bytes"))
}

fn set_word(bytes: &mut [u8], word: usize, value: u64) {
    bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
}

/// The header's checksum, written down a second time: what another implementation of the format would compute.
fn checksum(bytes: &[u8]) -> u64 {
    (0..CHECKSUM).fold(0xCBF2_9CE4_8422_2325, |sum: u64, word| {
        let sum = (sum ^ word_of(bytes, word)).wrapping_mul(0x0000_0100_0000_01B3);
        sum ^ sum >> 32
    })
}

// ---- golden bytes ----

/// A script that meets everything: records of odd lengths, an empty one, a pad before a wrap, a second lap.
fn golden_ring() -> Files {
    let mut files = Files::new(&smallest());
    files.writer.publish(b"golden").expect("room");
    files.writer.publish(b"").expect("room");
    // The third does not fit before the end of the first lap, nor the sixth before that of the second: its pad stays.
    for (length, fill) in [(1500, b'a'), (1500, b'b'), (1300, b'c'), (1700, b'd'), (17, b'e'), (1034, b'f')] {
        files.writer.publish(&vec![fill; length]).expect("room");
    }
    files
}

/// The bytes of both segments, without what differs from run to run: the incarnation (and the checksum over it), the
/// barrier mode, which is the machine's, and the process ids.
fn normal(files: &Files) -> [Vec<u8>; 2] {
    let read = |segment| fs::read(files.path(segment)).expect("a segment");
    let (mut ring, mut registry) = (read("ring"), read("registry"));
    for bytes in [&mut ring, &mut registry] {
        assert_eq!(word_of(bytes, CHECKSUM), checksum(bytes), "the checksum is computed another way");
        assert_ne!(word_of(bytes, INCARNATION), 0);
        set_word(bytes, INCARNATION, 0x0123_4567_89AB_CDEF);
        let sum = checksum(bytes);
        set_word(bytes, CHECKSUM, sum);
    }
    set_word(&mut ring, HEADER_WORDS + 16 + 3, 0);
    set_word(&mut ring, HEADER_WORDS + 16 + 16, 0);
    for slot in 0..4 {
        set_word(&mut registry, HEADER_WORDS + 32 + slot * 16 + 2, 0);
    }
    [ring, registry]
}

/// Bytes as text: offset, then 16 bytes; equal lines are left out, as `hexdump` does.
fn to_text(bytes: &[u8]) -> String {
    let (mut text, mut last) = (String::new(), &[][..]);
    for (line, chunk) in bytes.chunks(16).enumerate() {
        if chunk != last {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{:06x} {}\n", line * 16, hex.join(" "));
        }
        last = chunk;
    }
    text + &format!("{:06x}\n", bytes.len())
}

fn from_text(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let offset = usize::from_str_radix(words.next().expect("an offset"), 16).expect("an offset");
        while bytes.len() < offset {
            bytes.extend_from_within(bytes.len() - 16..);
        }
        bytes.extend(words.map(|hex| u8::from_str_radix(hex, 16).expect("a byte")));
    }
    bytes
}

fn golden(segment: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{segment}-v{FORMAT_VERSION}.hex"))
}

/// To write the golden files anew, after the version was raised: `SHMCAST_BLESS=1 cargo test --test format`.
#[test]
#[cfg_attr(target_endian = "big", ignore = "the golden bytes are those of a little-endian machine")]
fn the_same_script_gives_the_golden_bytes() {
    let files = golden_ring();
    let _lossless = Options::new().start(Start::Newest).open_file(files.ring()).expect("a reader");
    let _present = Options::new().lossy(true).open_file(files.ring()).expect("a reader");
    let [ring, registry] = normal(&files);
    assert_eq!(normal(&golden_ring())[0], ring, "the same script gives the same bytes");
    for (segment, bytes) in [("ring", ring), ("registry", registry)] {
        let (path, text) = (golden(segment), to_text(&bytes));
        if std::env::var_os("SHMCAST_BLESS").is_some() {
            fs::write(&path, &text).expect("the golden file");
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        let differ = stored.lines().zip(text.lines()).find(|(stored, now)| stored != now);
        assert!(
            stored == text,
            "the format changed: bump FORMAT_VERSION, write its specification and the golden files anew \
             ({}; first difference, stored and now: {differ:#?})",
            path.display()
        );
    }
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "the golden bytes are those of a little-endian machine")]
fn a_ring_that_was_stored_long_ago_still_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    for (segment, name) in [("ring", "ring"), ("registry", "ring.registry")] {
        let text = fs::read_to_string(golden(segment)).expect("a golden file");
        assert_eq!(to_text(&from_text(&text)), text);
        fs::write(directory.path().join(name), from_text(&text)).expect("a file");
    }
    // The golden registry has one lossless reader at the end: a second one may start with the oldest record.
    let mut reader = Options::new().wait_for_successor(true).open_file(&path).expect("a ring of this version");
    let records: Vec<_> = reader.try_iter().map(|record| record.expect("no loss")).collect();
    let seen: Vec<_> = records.iter().map(|record| (record.sequence, record.len(), record.first().copied())).collect();
    assert_eq!(seen, [(5, 1700, Some(b'd')), (6, 17, Some(b'e')), (7, 1034, Some(b'f'))]);
    assert_eq!((reader.capacity(), reader.sequence(), reader.try_recv()), (4096, 8, Err(TryRecvError::Empty)));
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "the bytes are those of a little-endian machine")]
fn a_fresh_ring_has_the_words_of_the_specification() {
    let files = Files::new(&smallest());
    let ring = fs::read(files.path("ring")).expect("a segment");
    let registry = fs::read(files.path("registry")).expect("a segment");
    assert_eq!((&ring[..8], &registry[..8]), (&b"shmcRING"[..], &b"shmcREGI"[..]));
    assert_eq!((ring.len(), registry.len()), (5376, 1280));
    let words =
        |bytes: &[u8], range: std::ops::Range<usize>| -> Vec<u64> { range.map(|at| word_of(bytes, at)).collect() };
    assert_eq!(words(&ring, 1..3), [0x0102_0304_0506_0708, 1]);
    // length, slots, capacity, blocks, alignment, start, options, wakeup, and 20 zeros for raw bytes.
    assert_eq!(words(&ring, 4..12), [5376, 4, 4096, 16, 8, 0, 0, 0]);
    assert_eq!(words(&ring, 12..32), [0; 20]);
    // limits, status, head cells, checkpoints, data; two regions of later versions.
    assert_eq!(words(&ring, 32..46), [512, 128, 640, 256, 896, 128, 1024, 256, 1280, 4096, 0, 0, 0, 0]);
    assert_eq!(words(&ring, 46..63), [0; 17]);
    assert_eq!(words(&registry, 4..6), [1280, 4]);
    assert_eq!(words(&registry, 6..32), [0; 26]);
    assert_eq!(words(&registry, 32..44), [512, 128, 640, 128, 768, 512, 0, 0, 0, 0, 0, 0]);
    assert_eq!(word_of(&ring, INCARNATION), word_of(&registry, INCARNATION));
    // One checkpoint, at the start; the others are marked as open. Nothing else but the barrier mode is set.
    assert_eq!(words(&ring, 128..132), [0, 0, u64::MAX, 0]);
    assert_eq!(words(&ring, 160..672), [0; 512]);
}

// ---- damage ----

/// One damaged word: where, what is put there, and the field that the error must name.
type Row = (usize, u64, &'static str);

const RING_ROWS: &[Row] = &[
    (0, 0, "magic"),
    (0, u64::from_ne_bytes(*b"shmcREGI"), "magic"),
    (1, 0, "byte_order"),
    (4, 5375, "length"),
    (4, 0, "length"),
    (5, 1025, "reader_slots"),
    (5, u64::MAX, "reader_slots"),
    (6, 0, "capacity"),
    (6, 16, "capacity"),
    (6, 4097, "capacity"),
    (6, 1 << 41, "capacity"),
    (6, 1 << 63, "capacity"),
    (6, 8192, "data"),
    (7, 0, "blocks"),
    (7, 1, "blocks"),
    (7, 3, "blocks"),
    (7, 1024, "blocks"),
    (7, 2048, "blocks"),
    (8, 0, "alignment"),
    (8, 16, "alignment"),
    (8, 1 << 63, "alignment"),
    (9, 4, "start"),
    (9, (1 << 63) + 8, "start"),
    (9, u64::MAX, "start"),
    (10, 4, "options"),
    (11, 3, "wakeup"),
    (11, u64::MAX, "wakeup"),
    // System V semaphores have a key, and nothing else has one.
    (11, 2, "semaphore_key"),
    (12, 1, "schema_low"),
    (13, 1, "schema_high"),
    (14, 8, "payload_size"),
    (14, u64::MAX, "payload_size"),
    (15, 3, "payload_alignment"),
    (15, 16, "payload_alignment"),
    (16, 1, "payload_name"),
    (23, 1, "payload_name"),
    (24, 1, "semaphore_key"),
    (24, 1 << 32, "semaphore_key"),
    (25, 1, "reserved"),
    (31, 1, "reserved"),
    (32, 520, "limits"),
    (33, 64, "limits"),
    (34, 512, "status"),
    (35, 0, "status"),
    (36, u64::MAX, "head_cells"),
    (37, u64::MAX, "head_cells"),
    (38, 1025, "checkpoints"),
    (39, 248, "checkpoints"),
    (40, u64::MAX - 127, "data"),
    (41, 8192, "data"),
    (42, 128, "schema_text"),
    (43, 128, "schema_text"),
    (44, 128, "statistics"),
    (45, u64::MAX, "statistics"),
    (46, 1, "reserved"),
    (62, 1, "reserved"),
];

const REGISTRY_ROWS: &[Row] = &[
    (0, 0, "magic"),
    (0, u64::from_ne_bytes(*b"shmcRING"), "magic"),
    (1, 0, "byte_order"),
    (3, 1, "incarnation"),
    (4, 1279, "length"),
    (4, 0, "length"),
    (5, 3, "reader_slots"),
    (5, u64::MAX, "reader_slots"),
    (6, 1, "reserved"),
    (31, 1, "reserved"),
    (32, 640, "reader_flags"),
    (33, 256, "reader_flags"),
    (34, 512, "writer_flags"),
    (35, 0, "writer_flags"),
    (36, 769, "slots"),
    (37, 640, "slots"),
    (38, 128, "durable_cursors"),
    (39, 128, "durable_cursors"),
    (40, 128, "semaphores"),
    (41, 128, "semaphores"),
    (42, 128, "wakeup_descriptors"),
    (43, u64::MAX, "wakeup_descriptors"),
    (44, 1, "reserved"),
    (62, 1, "reserved"),
];

#[test]
fn every_damaged_field_is_refused_by_its_name() {
    let files = Files::new(&smallest());
    for (segment, rows) in [("ring", RING_ROWS), ("registry", REGISTRY_ROWS)] {
        for &(word, value, field) in rows {
            let what = format!("{segment} word {word} = {value:#x}");
            // With the old checksum, and with one that fits: the rules do not lean on it.
            let fitting = {
                let mut bytes = fs::read(files.path(segment)).expect("a segment");
                set_word(&mut bytes, word, value);
                checksum(&bytes)
            };
            for sum in [files.word(segment, CHECKSUM), fitting] {
                let error = files.with_word(segment, CHECKSUM, sum, || {
                    files.with_word(segment, word, value, || files.refused(&what))
                });
                match error {
                    FormatError::Field { segment: named, field: found, .. } => {
                        assert_eq!((named, found), (segment, field), "{what}");
                    }
                    other => panic!("{what}: {other}"),
                }
                assert!(error.to_string().contains(field), "{error}");
            }
        }
        // No rule but the checksum's knows these: any incarnation is legal in a ring alone.
        let words: &[usize] = if segment == "ring" { &[INCARNATION, CHECKSUM] } else { &[CHECKSUM] };
        for &word in words {
            let value = files.word(segment, word) ^ 1;
            let error = files.with_word(segment, word, value, || files.refused("checksum"));
            assert!(matches!(error, FormatError::Field { field: "checksum", .. }), "{segment} word {word}: {error}");
        }
    }
    assert!(files.open().is_ok(), "the files are as they were");
}

#[test]
fn another_version_and_the_other_byte_order_have_errors_of_their_own() {
    let files = Files::new(&smallest());
    for segment in ["ring", "registry"] {
        for version in [0, FORMAT_VERSION + 1, u64::MAX] {
            let error = files.with_word(segment, 2, version, || files.refused("version"));
            let (found, supported) = (version, FORMAT_VERSION);
            assert_eq!(error, FormatError::Version { segment, found, supported });
        }
        let error = files.with_word(segment, 1, BYTE_ORDER_MARK.swap_bytes(), || files.refused("byte order"));
        assert_eq!(error, FormatError::ByteOrder { segment });
        // The length is looked at after both: a later version may have another one.
        let error = files.with_word(segment, LENGTH, u64::MAX, || {
            files.with_word(segment, 2, FORMAT_VERSION + 1, || files.refused("version"))
        });
        assert!(matches!(error, FormatError::Version { .. }), "{error}");
    }
}

#[test]
fn every_single_flipped_bit_of_a_header_is_refused() {
    let files = Files::new(&smallest());
    let mut count = 0;
    for segment in ["ring", "registry"] {
        for word in 0..HEADER_WORDS {
            let before = files.word(segment, word);
            for bit in 0..64 {
                files.with_word(segment, word, before ^ 1 << bit, || {
                    files.refused(&format!("{segment} word {word} bit {bit}"))
                });
                count += 1;
            }
        }
    }
    assert_eq!(count, 2 * 64 * 64);
    assert!(files.open().is_ok(), "the files are as they were");
}

#[test]
fn files_of_every_shorter_length_are_truncated_and_not_a_bus_error() {
    let files = Files::new(&smallest());
    for segment in ["registry", "ring"] {
        let whole = fs::metadata(files.path(segment)).expect("a segment").len();
        let bytes = fs::read(files.path(segment)).expect("a segment");
        // A file of its own: nobody truncates what the writer has mapped.
        for length in [0, 1, 8, 511, 512, 513, 640, whole / 2, whole - 8, whole - 1] {
            let short = &bytes[..length as usize];
            let directory = tempfile::tempdir().expect("a directory");
            for name in ["ring", "registry"] {
                let to = directory.path().join(if name == "ring" { "ring" } else { "ring.registry" });
                let content =
                    if name == segment { short.to_vec() } else { fs::read(files.path(name)).expect("a segment") };
                fs::write(to, content).expect("a file");
            }
            let Err(OpenError::Format { source, .. }) = Options::new().open_file(directory.path().join("ring")) else {
                panic!("a {segment} segment of {length} bytes was opened");
            };
            let FormatError::Truncated { segment: named, needed, found } = source else { panic!("{source}") };
            let expected = if length < HEADER_BYTES as u64 { HEADER_BYTES as u64 } else { whole };
            assert_eq!((named, needed, found), (segment, expected, length));
        }
    }
}

#[test]
fn a_file_longer_than_the_ring_opens() {
    let mut files = Files::new(&smallest());
    for segment in ["ring", "registry"] {
        let file = fs::File::options().write(true).open(files.path(segment)).expect("a segment");
        let length = file.metadata().expect("a length").len();
        file.set_len(length + 8192).expect("more room");
    }
    let mut reader = files.open().expect("a ring");
    files.writer.publish(b"x").expect("room");
    assert_eq!(reader.try_recv().expect("a record").payload, b"x");
}

#[test]
fn a_registry_of_another_ring_is_refused() {
    let (one, other) = (Files::new(&smallest()), Files::new(&smallest()));
    fs::copy(other.path("registry"), one.path("other")).expect("a copy");
    fs::rename(one.path("other"), one.path("registry")).expect("a copy");
    let error = one.refused("another registry");
    assert!(matches!(error, FormatError::Field { segment: "registry", field: "incarnation", .. }), "{error}");
}

// ---- one ring, two addresses ----

#[test]
fn a_ring_that_is_mapped_twice_reads_the_same_at_both_addresses() {
    let mut files = Files::new(&smallest());
    let (mut one, mut other) = (files.open().expect("a reader"), files.open().expect("a reader"));
    let mut random = Random(7);
    for round in 0..200 {
        let payload = vec![round as u8; random.below(900) as usize];
        files.writer.try_publish(&payload).expect("room: both have read everything");
        let (a, b) = (one.try_recv_ref().expect("a record"), other.try_recv_ref().expect("a record"));
        assert_eq!((&*a, a.sequence()), (&payload[..], round));
        assert_eq!((&*b, b.sequence()), (&payload[..], round));
        assert_ne!(a.as_ptr(), b.as_ptr(), "two mappings");
    }
    assert!(files.writer.position() > 4 * 4096, "it lapped");
}

// ---- words of a hostile or broken peer (I6) ----

/// Values that arithmetic trips over.
fn odd_values(position: u64) -> Vec<u64> {
    let mut values = vec![0, 1, 7, 8, 2041, 4088, 4089, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 7, u64::MAX - 15];
    values.extend([(1 << 32) | 1, (1 << 32) | 4089, (1 << 32) - 1]);
    values.extend((0..64).step_by(8).flat_map(|d| [position.wrapping_add(d), position.wrapping_sub(d)]));
    values.extend([position + 4096, position.wrapping_sub(4096), position + 4104, position.wrapping_sub(4104)]);
    values
}

#[test]
fn a_word_that_no_record_can_begin_with_is_corrupt_and_final() {
    for lossy in [false, true] {
        let mut files = Files::new(&smallest());
        let mut reader = Options::new().lossy(lossy).open_file(files.ring()).expect("a reader");
        files.writer.publish(b"one").expect("room");
        files.writer.publish(b"two").expect("room");
        assert_eq!(reader.try_recv().expect("a record").payload, b"one");
        // A lossless reader has peeked at the second header already; the third one nobody has seen.
        let third = 160 + files.writer.position() as usize / 8;
        files.with_word("ring", third, u64::MAX, || {
            assert_eq!(reader.try_recv().expect("a record").payload, b"two");
            let corrupt = TryRecvError::Corrupt { position: files.writer.position(), header: u64::MAX };
            assert_eq!(reader.try_recv(), Err(corrupt), "it is told, and not deaf");
            assert_eq!(
                reader.recv_timeout(support::LIMIT).map_err(|error| error.to_string()).err(),
                Some(corrupt.to_string())
            );
            assert_eq!(reader.iter().count(), 1, "the error, and then the end");
        });
        assert!(matches!(reader.try_recv(), Err(TryRecvError::Corrupt { .. })), "final");
    }
}

/// Every word of the ring segment behind the header takes every odd value, under readers of every kind: each call ends,
/// and none panics. (What they read may be wrong: who can write the ring segment can feed a reader wrong bytes.)
#[test]
fn whatever_one_word_of_the_ring_says_receiving_ends() {
    let files = golden_ring();
    let values = odd_values(files.writer.position());
    let starts = [Start::Oldest, Start::Middle, Start::Newest, Start::Sequence(6), Start::Sequence(u64::MAX)];
    let data = 160..160 + 512;
    let interesting: Vec<usize> = (HEADER_WORDS..160).chain(data.step_by(9)).chain(160..176).collect();
    let mut opened = 0;
    for word in interesting {
        for &value in &values {
            files.with_word("ring", word, value, || {
                for (index, start) in starts.into_iter().enumerate() {
                    let options = Options::new().lossy((index + word) % 2 == 0).start(start).resume(start);
                    let Ok(mut reader) = options.open_file(files.ring()) else { continue };
                    opened += 1;
                    for _ in 0..4 {
                        let _ = reader.try_recv();
                        let _ = reader.lag();
                    }
                }
            });
        }
    }
    assert!(opened > 1000, "{opened} readers came to read something");
}

/// The cursors, the states, the flags and the rest of the registry, with every odd value: the writer goes on or is held,
/// and never panics.
#[test]
fn whatever_one_word_of_the_registry_says_the_writer_goes_on_or_is_held() {
    const STATE: usize = HEADER_WORDS + 32;
    const HIGH_WATER: usize = HEADER_WORDS + 18;
    let (mut published, mut held) = (0, 0);
    for (start, words) in [(0, STATE..STATE + 3), (1 << 40, HEADER_WORDS..HEADER_WORDS + 96)] {
        for word in words {
            let values = odd_values(start).len();
            let mut files = None;
            for index in 0..values {
                // At the very start of a ring the numbers below the position are huge ones.
                let files = match &mut files {
                    Some(files) if start > 0 => files,
                    files => files.insert(Files::new(&smallest().start_position(start))),
                };
                let file = fs::File::options().write(true).open(files.path("registry")).expect("a segment");
                let put = |word: usize, value: u64| {
                    file.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("a word");
                };
                // A lossless slot is what the writer looks at: the one that the word lies in, alone.
                let state = STATE + word.saturating_sub(STATE) / 16 * 16;
                put(HIGH_WATER, 4);
                put(state, 2);
                put(word, odd_values(files.writer.position())[index]);
                for _ in 0..60 {
                    match files.writer.try_publish(&[1; 100]) {
                        Ok(_) => published += 1,
                        Err(_) => held += 1,
                    }
                }
                assert!(files.writer.reader_count() <= 4);
                let _ = files.writer.wait_for_readers(5, std::time::Duration::ZERO);
                put(word, 0);
                put(state, 0);
                files.writer.try_publish(&[2; 100]).expect("nobody is there");
            }
        }
    }
    assert!(published > 1000 && held > 1000, "{published} published, {held} times held");
}

#[test]
fn a_forged_cursor_evicts_at_most_its_owner() {
    let mut files = Files::new(&smallest());
    let (mut victim, mut other) = (files.open().expect("a reader"), files.open().expect("a reader"));
    files.writer.publish(b"first").expect("room");
    // Slot 0 claims to be far ahead: the writer must not take that for room.
    let file = fs::File::options().write(true).open(files.path("registry")).expect("a segment");
    let cursor = |slot: usize| ((HEADER_WORDS + 32 + slot * 16 + 1) * 8) as u64;
    file.write_all_at(&(1u64 << 40).to_ne_bytes(), cursor(0)).expect("a word");
    let mut count = 0;
    while files.writer.try_publish(&[3; 56]).is_ok() {
        count += 1;
        assert!(count < 1000, "the other reader holds the writer back all the same");
    }
    assert_eq!(other.try_recv().expect("a record").payload, b"first");
    assert_eq!(other.try_iter().inspect(|record| assert!(record.is_ok(), "no loss")).count(), count);
    while files.writer.sequence() < 500 {
        files.writer.try_publish(&[4; 56]).expect("only the forger is behind");
        let _ = other.try_recv().expect("a record");
    }
    match victim.try_recv() {
        Err(TryRecvError::Evicted { lost }) => assert_eq!(victim.sequence(), lost, "exactly"),
        other => panic!("{other:?}"),
    }
    assert!(!victim.is_lossless() && victim.try_recv().is_ok(), "a lossy reader from now on");
    // Nor does a cursor hold that the limit has passed already: what lies below it may be overwritten by now.
    let fresh = files.writer.position();
    files.writer.try_publish(&[5; 1000]).expect("room");
    let _ = other.try_recv().expect("a record");
    file.write_all_at(&(fresh - 4096 + 1008 + 8).to_ne_bytes(), cursor(0)).expect("a word");
    files.writer.try_publish(&[6; 2040]).expect("who is evicted holds nothing back");
    assert_eq!(other.try_recv().map(|record| record.len()), Ok(2040));
}
