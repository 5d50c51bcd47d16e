//! What a ring says of its values, and who may open it.

use std::os::fd::AsFd;

use super::*;

#[test]
fn schemas_are_what_they_were() {
    fn of<T: Schema>() -> (String, u64) {
        let PayloadSchema { text, id } = PayloadSchema::of::<T>();
        (text.into_owned(), id)
    }
    // Both are part of the format: a program of today must find what one of yesterday wrote. FNV-1a, computed elsewhere.
    let rows = [
        (of::<u64>(), "u64", 0x4D35_D319_3E8D_66F2),
        (of::<()>(), "()", 0x07E1_1F07_B4A6_665A),
        (of::<[f32; 3]>(), "[f32;3]", 0x60AA_79BD_FC4A_A952),
        (of::<Nothing>(), "Nothing{}:0/1", 0xF97F_C523_1139_2BB4),
        (of::<Odd>(), "Odd{0:[u8;13]@0}:13/1", 0x24A0_02EC_8D80_09FC),
        (of::<Side>(), "Side{Bid=1,Ask=2}:u8", 0x6BF6_10AA_5315_4E08),
        (of::<Tick>(), "Tick{number:u64@0,price:i64@8,quantity:u32@16,flags:[u8;4]@20}:24/8", 0x5C7F_9365_AD61_2D0A),
        (
            of::<Order>(),
            "Order{id:u64@0,open:bool@8,side:Side{Bid=1,Ask=2}:u8@9,level:[u8;2]@10,symbol:char@12}:16/8",
            0xA843_E1C9_920F_AE32,
        ),
        (of::<[[Odd; 2]; 3]>(), "[[Odd{0:[u8;13]@0}:13/1;2];3]", 0x80B7_A1EA_F213_90CF),
    ];
    for ((text, id), expected_text, expected_id) in rows {
        assert_eq!((text.as_str(), id), (expected_text, expected_id), "{id:#x}");
    }
}

#[test]
fn a_wrong_type_is_an_error_that_names_both() {
    fn check<T: Schema + CheckedBitPattern>(path: &Path) {
        let (message, expected, found) = wrong_type(Options::new().typed::<T>().open_file(path));
        assert!(expected.contains(&*PayloadSchema::of::<T>().text), "{expected}");
        assert!(found.contains(&*PayloadSchema::of::<Tick>().text), "{found}");
        assert!(message.contains(path.to_str().expect("UTF-8")), "{message}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let mut writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    check::<elsewhere::swapped::Tick>(&path);
    check::<elsewhere::unsigned::Tick>(&path);
    check::<elsewhere::Tock>(&path);
    check::<Order>(&path);
    check::<u64>(&path);
    check::<()>(&path);
    // By a subscriber, too.
    wrong_type(TypedReader::<u64>::join(&writer.subscriber()));
    // Nothing was joined.
    assert_eq!(writer.reader_count(), 0);
    let mut reader = Options::new().typed::<elsewhere::Tick>().open_file(&path).expect("the same type");
    writer.publish(&tick(0)).expect("room");
    assert_eq!(bytemuck::cast::<_, Tick>(reader.recv().expect("a value").value), tick(0));
}

#[test]
fn raw_and_typed_rings_are_not_taken_for_each_other() {
    let raw = smallest().create_heap().expect("a small ring");
    let (_, expected, found) = wrong_type(TypedReader::<Tick>::join(&raw.subscriber()));
    assert!(expected.starts_with("Tick{") && found == "raw bytes", "{expected}, {found}");
    // That tools may look at typed rings as bytes makes no typed ring of a raw one.
    wrong_type(Options::new().untyped(true).typed::<Tick>().join(&raw.subscriber()));
    assert!(raw.subscriber().reader().expect("a reader").payload_schema().is_raw());

    let mut writer = smallest().typed::<Tick>().create_heap().expect("a small ring");
    let (_, expected, found) = wrong_type(writer.subscriber().reader());
    assert!(expected == "raw bytes" && found.starts_with("Tick{"), "{expected}, {found}");
    let mut bytes = Options::new().untyped(true).join(&writer.subscriber()).expect("a reader");
    assert_eq!(bytes.payload_schema(), PayloadSchema::of::<Tick>());
    writer.publish(&tick(0)).expect("room");
    assert_eq!(bytes.recv().expect("a record").payload, bytemuck::bytes_of(&tick(0)));
    let mut again = bytes.resubscribe().expect("a reader");
    writer.publish(&tick(1)).expect("room");
    assert_eq!(again.recv().expect("a record").payload, bytemuck::bytes_of(&tick(1)));
}

#[test]
fn a_ring_of_every_kind_says_what_its_values_are() {
    type Made = (TypedWriter<Tick>, Box<dyn Fn() -> Result<TypedReader<Tick>, OpenError>>);
    fn check((mut writer, open): Made) {
        let mut reader = open().expect("a reader");
        writer.publish(&tick(0)).expect("room");
        assert_eq!(reader.recv().map(|record| record.value), Ok(tick(0)));
        assert_eq!(reader.as_bytes().payload_schema(), PayloadSchema::of::<Tick>());
    }
    let typed = || smallest().typed::<Tick>();
    let (name, posix) = (unique_name("kinds"), unique_name("kinds"));
    let key = shmcast::SysvKey::new(support::guard::fresh_key());
    check((typed().create(&name).expect("named"), Box::new(move || typed().open(&name))));
    check((typed().create_posix(&posix).expect("POSIX"), Box::new(move || typed().open_posix(&posix))));
    check((typed().create_sysv(key).expect("System V"), Box::new(move || typed().open_sysv(key))));
    let anonymous = typed().create_anonymous().expect("anonymous");
    let subscriber = anonymous.subscriber();
    check((anonymous, Box::new(move || TypedReader::join(&subscriber))));
    let memfd = typed().create_memfd().expect("memfd");
    let handed_out = memfd.as_bytes().descriptors().expect("a memfd");
    let [ring, registry] =
        [handed_out.ring, handed_out.registry].map(|file| file.try_clone_to_owned().expect("a copy"));
    check((memfd, Box::new(move || typed().open_descriptors(ring.as_fd(), Some(registry.as_fd())))));
}

#[test]
fn a_value_that_never_fits_is_refused_at_create() {
    match smallest().typed::<Frame>().create_heap() {
        Err(CreateError::Geometry(error)) => assert_eq!((error.field, error.value), ("payload_size", 16384)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a ring of 4096 bytes for records of 16384"),
    }
}

#[test]
fn a_ring_is_taken_over_only_as_what_it_is() {
    fn refused<W>(taken: Result<W, CreateError>) -> (String, String) {
        match taken {
            Err(CreateError::TakeOver { source, .. }) => {
                let (_, expected, found) = wrong_type::<()>(Err(*source));
                (expected, found)
            }
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("it was taken over"),
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (typed, raw) = (directory.path().join("typed"), directory.path().join("raw"));
    let kept = || smallest().keep(true);
    let mut writer = kept().typed::<Tick>().create_file(&typed).expect("a small ring");
    let mut reader = Options::new().typed::<Tick>().open_file(&typed).expect("a reader");
    writer.publish(&tick(0)).expect("room");
    drop((writer, kept().create_file(&raw).expect("a small ring")));

    let (expected, found) = refused(kept().untyped(true).open_or_create_file(&typed));
    assert!(expected == "raw bytes" && found.starts_with("Tick{"), "{expected}, {found}");
    refused(kept().typed::<Order>().open_or_create_file(&typed));
    let (expected, found) = refused(kept().typed::<Tick>().open_or_create_file(&raw));
    assert!(expected.starts_with("Tick{") && found == "raw bytes", "{expected}, {found}");

    let mut writer = smallest().typed::<Tick>().open_or_create_file(&typed).expect("the successor");
    assert_eq!(writer.publish(&tick(1)), Ok(1));
    assert_eq!(reader.recv().map(|record| record.value), Ok(tick(0)));
    assert_eq!(reader.recv().map(|record| record.value), Ok(tick(1)));
    Options::new().typed::<Tick>().open_file(&typed).expect("it still says what its values are");
    assert!(kept().open_or_create_file(&raw).is_ok());
}

#[test]
fn a_handle_of_bytes_reads_on_behind_a_typed_one() {
    let (mut writer, mut reader) = heap::<Tick>(smallest());
    assert_eq!(writer.publish_batch(&[tick(0), tick(1)]), Ok(2));
    assert_eq!(reader.recv().expect("a value").number, 0);
    assert_eq!(reader.as_bytes().capacity(), writer.as_bytes().capacity());
    let mut bytes = reader.into_bytes();
    assert_eq!(bytes.recv().expect("a record").payload, bytemuck::bytes_of(&tick(1)));
}

#[test]
fn the_ring_says_what_its_values_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    let bytes = std::fs::read(&path).expect("the ring");
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let PayloadSchema { text, id } = PayloadSchema::of::<Tick>();
    assert_eq!([96, 104, 112, 120].map(word), [id, 0, 24, 8]);
    assert_eq!(bytes[128..192], *[b"Tick".as_slice(), &[0; 60]].concat());
    // The text lies behind the data, on a line of its own, padded with zeros.
    let (offset, length) = (word(336) as usize, word(344) as usize);
    assert_eq!((offset, length), ((word(320) + word(328)).next_multiple_of(128) as usize, 128));
    assert_eq!(bytes[offset..offset + text.len()], *text.as_bytes());
    assert!(bytes[offset + text.len()..offset + length].iter().all(|&byte| byte == 0));
    assert_eq!(bytes.len(), offset + length);
    drop(writer);
}

#[test]
fn a_damaged_description_of_the_type_is_refused_by_name() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let _writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("the ring");
    let rows = [
        (12, 0, "schema_low"),
        (12, 1, "checksum"),
        (14, 25, "payload_size"),
        (14, 1 << 40, "payload_size"),
        (15, 0, "payload_size"),
        (15, 16, "payload_alignment"),
        (16, 1, "checksum"),
        (42, 0, "schema_text"),
        (42, u64::MAX - 127, "schema_text"),
        (43, 0, "schema_text"),
        (43, 129, "schema_text"),
        (43, 256, "length"),
        (43, 4096 + 128, "schema_text"),
        (43, u64::MAX - 127, "schema_text"),
    ];
    for (word, value, field) in rows {
        let mut before = [0; 8];
        file.read_exact_at(&mut before, word * 8).expect("a word");
        file.write_all_at(&u64::to_ne_bytes(value), word * 8).expect("a word");
        match Options::new().typed::<Tick>().open_file(&path) {
            Err(OpenError::Format { source: shmcast::FormatError::Field { field: found, .. }, .. }) => {
                assert_eq!(found, field, "word {word}, {value:#x}");
            }
            other => panic!("word {word}, {value:#x}: {other:?}"),
        }
        file.write_all_at(&before, word * 8).expect("a word");
    }
    Options::new().typed::<Tick>().open_file(&path).expect("all is as it was");
}

/// Two texts could have one hash; so the texts are compared, too.
#[test]
fn a_text_that_differs_is_a_wrong_type() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    let writer = smallest().typed::<Tick>().create_file(&path).expect("a small ring");
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("the ring");
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, 336).expect("the header");
    file.write_all_at(b"\x1bick", u64::from_ne_bytes(offset)).expect("the text");
    let (message, _, found) = wrong_type(Options::new().typed::<Tick>().open_file(&path));
    assert!(found.starts_with("\u{FFFD}ick{number"), "{found}");
    assert!(!message.contains('\x1b'), "a terminal is left alone");
    drop(writer);
}
