//! The seeds: scripts by hand, written to `seeds/<target>/`, and every input that was ever found to break something, in
//! `regressions/<target>/`. Ordinary tests: all of them run without a fuzzer.
//!
//! The files are there to be committed. A test compares them with what the scripts encode to now; where they differ (a
//! script or a type of its was changed) `SHMCAST_WRITE_SEEDS=1 cargo test` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};

use crate::wire::Encode;
use crate::{attach, framing, handover, hostile, names, ops, schema, typed};
use crate::{
    run_attach, run_framing, run_handover, run_hostile_reads, run_hostile_registry, run_names, run_ops, run_schema,
    run_typed,
};

/// A target, and what runs an input of it.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 9] = [
    ("attach", run_attach),
    ("framing", run_framing),
    ("handover", run_handover),
    ("hostile_reads", run_hostile_reads),
    ("hostile_registry", run_hostile_registry),
    ("names", run_names),
    ("ops_vs_model", run_ops),
    ("schema", run_schema),
    ("typed", run_typed),
];
const MOST_FILES: usize = 150;
const MOST_BYTES: usize = 100_000;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// Holds a script against its file, and its bytes against the script.
fn seed<T: Encode + for<'a> Arbitrary<'a> + PartialEq + std::fmt::Debug>(
    target: &str,
    name: &str,
    script: &T,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    script.encode(&mut bytes);
    let decoded = T::arbitrary(&mut Unstructured::new(&bytes)).expect("whole");
    assert_eq!(&decoded, script, "{name}: what is encoded is what is decoded");
    let path = folder("seeds", target).join(name);
    if std::env::var_os("SHMCAST_WRITE_SEEDS").is_some() {
        fs::create_dir_all(folder("seeds", target)).expect("a folder");
        fs::write(&path, &bytes).expect("a file");
    }
    let stored = fs::read(&path).unwrap_or_default();
    assert!(stored == bytes, "{} is out of date: run with SHMCAST_WRITE_SEEDS=1", path.display());
    bytes
}

fn files(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(kind, target)) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

/// All scripts of a target: written, or compared with what is written; then run.
fn pass<T: Encode + for<'a> Arbitrary<'a> + PartialEq + std::fmt::Debug>(
    target: &str,
    run: fn(&[u8]),
    scripts: &[(&'static str, T)],
) {
    let seeds: Vec<_> = scripts.iter().map(|(name, script)| (name, seed(target, name, script))).collect();
    for (name, bytes) in seeds {
        println!("{name}");
        run(&bytes);
    }
}

#[test]
fn every_attach_seed_passes() {
    pass("attach", run_attach, &attach_seeds());
}

#[test]
fn every_framing_seed_passes() {
    pass("framing", run_framing, &framing::seeds::all());
}

#[test]
fn every_handover_seed_passes() {
    pass("handover", run_handover, &handover_seeds());
}

#[test]
fn every_hostile_reads_seed_passes() {
    pass("hostile_reads", run_hostile_reads, &hostile::seeds::reads());
}

#[test]
fn every_hostile_registry_seed_passes() {
    pass("hostile_registry", run_hostile_registry, &hostile::seeds::registry());
}

#[test]
fn every_names_seed_passes() {
    pass("names", run_names, &names::seeds::all());
}

#[test]
fn every_ops_seed_passes() {
    pass("ops_vs_model", run_ops, &ops_seeds());
}

#[test]
fn every_schema_seed_passes() {
    pass("schema", run_schema, &schema::seeds::all());
}

#[test]
fn every_typed_seed_passes() {
    pass("typed", run_typed, &typed::seeds::all());
}

#[test]
fn every_regression_passes() {
    for (target, run) in TARGETS {
        for (path, bytes) in files("regressions", target) {
            println!("{}", path.display());
            run(&bytes);
        }
    }
}

/// What a fuzzer has found, in the folder that is named: for `coverage.sh`.
#[test]
fn every_input_of_the_corpus_passes() {
    let Some(corpus) = std::env::var_os("SHMCAST_CORPUS") else { return };
    for (target, run) in TARGETS {
        let inputs = files(&corpus.to_string_lossy(), target);
        println!("{target}: {} inputs", inputs.len());
        inputs.iter().for_each(|(_, bytes)| run(bytes));
    }
}

#[test]
fn the_seeds_stay_few_and_small() {
    let all: Vec<_> = TARGETS.iter().flat_map(|(target, _)| files("seeds", target)).collect();
    assert!(all.len() < MOST_FILES);
    assert!(all.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < MOST_BYTES);
}

#[test]
fn odd_inputs_are_scripts_too() {
    for bytes in [&[][..], &[0xFF; 64], &[0; 64], &[1; 4096]] {
        TARGETS.iter().for_each(|(_, run)| run(bytes));
    }
}

/// Bytes at random, which are scripts of some sort: what a fuzzer begins with, in each run of the tests.
#[test]
fn a_thousand_random_inputs_pass() {
    for (target, run) in TARGETS {
        let mut state = 0x5EED_u64;
        for n in 0..1000 {
            let mut next = || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                (state >> 33) as u8
            };
            let bytes: Vec<u8> = (0..100 + n).map(|_| next()).collect();
            if std::panic::catch_unwind(|| run(&bytes)).is_err() {
                panic!("{target}, input {n}");
            }
        }
    }
}

// ---- the scripts ----

fn handover_seeds() -> Vec<(&'static str, handover::Script)> {
    use handover::script::{Base, Edit, File, Length, Script, WordEdit};
    let full = || Script {
        stream: true,
        message: Base { strict: false, registry: true },
        edits: Vec::new(),
        length: Length::Whole,
        files: vec![File::Ring { strict: false }, File::Registry { strict: false }],
        require_strict: false,
    };
    let follower = |stream, files| Script {
        stream,
        message: Base { strict: true, registry: false },
        files,
        require_strict: true,
        ..full()
    };
    let copy = |edits, less| Script {
        message: Base { strict: false, registry: false },
        files: vec![File::Copy { registry: false, edits, less }],
        ..full()
    };
    vec![
        ("full_reader", full()),
        ("follower", follower(false, vec![File::Ring { strict: true }])),
        ("writable", follower(true, vec![File::WritableRing { strict: true }])),
        ("too_many", follower(true, (0..25).map(|_| File::Pipe).collect())),
        ("cut", Script { length: Length::Less { by: 5 }, files: vec![File::Pipe, File::Pipe], ..full() }),
        ("long", Script { stream: false, length: Length::More { by: 3 }, ..full() }),
        ("other_version", Script { edits: vec![Edit { at: 8, value: 2 }], ..full() }),
        ("other_ring", Script { message: Base { strict: true, registry: true }, ..full() }),
        (
            "read_only",
            Script { files: vec![File::Ring { strict: false }, File::ReadOnlyRegistry { strict: false }], ..full() },
        ),
        (
            "memfds",
            Script {
                files: vec![
                    File::Memfd { sealed: true, bytes: vec![7; 600] },
                    File::Memfd { sealed: false, bytes: Vec::new() },
                ],
                ..full()
            },
        ),
        ("copy", copy(Vec::new(), 0)),
        ("copy_short", copy(Vec::new(), 8)),
        ("copy_changed", copy(vec![WordEdit { word: 6, value: 0 }], 0)),
    ]
}

fn ops_seeds() -> Vec<(&'static str, ops::Script)> {
    use ops::script::{Fill, From, Len, Op, Publish, Receive, Script, Shape, StartAt};
    let shape = |start| Shape { capacity: 0, wide: false, blocks: 3, slots: 2, start };
    let publish = |len| Op::Publish { len, how: Publish::Try };
    let small = |len| publish(Len::Small { len });
    let join = |lossy, start| Op::Join { lossy, start, resume: From::Middle };
    let receive = |reader, how| Op::Receive { reader, how };
    let all = || {
        vec![
            Receive::Owned,
            Receive::Wait,
            Receive::Timeout,
            Receive::Into { room: 3 },
            Receive::Into { room: 4000 },
            Receive::Borrowed { forget: true },
            Receive::Borrowed { forget: false },
            Receive::Unchecked { forget: false },
            Receive::Batch { most: 3, wait: false },
            Receive::TryIter { most: 3 },
            Receive::Iter { most: 2 },
        ]
    };
    let every_receive = {
        let mut list = vec![join(false, From::Oldest), join(true, From::Oldest), small(0), small(1), small(255)];
        for how in all() {
            list.extend([small(9), small(8), receive(0, how.clone()), receive(1, how)]);
        }
        list.push(Op::Close);
        for how in all() {
            list.extend([receive(0, how.clone()), receive(1, how)]);
        }
        list
    };
    let lapped = {
        let mut list: Vec<Op> = [From::Oldest, From::Middle, From::Newest]
            .into_iter()
            .map(|resume| Op::Join { lossy: true, start: From::Oldest, resume })
            .collect();
        for round in 0..4u8 {
            list.extend((0..40).map(|n| small(n * 6 + round)));
            list.extend((0..3).flat_map(|reader| [receive(reader, Receive::Owned), receive(reader, Receive::Owned)]));
        }
        list
    };
    let held = {
        let mut list = vec![join(false, From::Oldest), join(true, From::Newest)];
        list.extend((0..50).map(|_| small(200)));
        list.extend([receive(0, Receive::Batch { most: 4, wait: false }), publish(Len::Largest { less: 0 })]);
        list.extend([Op::Drain { reader: 0 }, publish(Len::Largest { less: 0 }), publish(Len::Largest { less: 0 })]);
        list.extend((0..8).map(|_| Op::Publish { len: Len::Any { len: 700 }, how: Publish::Timeout }));
        list
    };
    let pads = {
        let mut list = vec![join(false, From::Oldest), join(true, From::Oldest)];
        for less in [0, 8, 15, 16, 1, 64, 72] {
            list.extend([publish(Len::Largest { less: 100 }), publish(Len::ToEnd { less }), small(3)]);
            list.extend([Op::Drain { reader: 0 }, receive(1, Receive::Owned)]);
        }
        list
    };
    let fills = vec![
        Fill::Write { len: 13 },
        Fill::Truncate { len: 11 },
        Fill::Write { len: 2 },
        Fill::Value { value: 77 },
        Fill::Truncate { len: 5 },
        Fill::Value { value: 78 },
    ];
    let claims = {
        let claim = |len, fills: &[Fill], commit| Op::Claim { len, wait: false, fills: fills.to_vec(), commit };
        let mut list = vec![join(false, From::Oldest)];
        for commit in [false, true] {
            list.extend([
                claim(Len::Small { len: 40 }, &fills[..1], commit),
                claim(Len::Small { len: 40 }, &fills, commit),
                claim(Len::Small { len: 200 }, &[Fill::All, Fill::Truncate { len: 9 }], commit),
                claim(Len::Small { len: 9 }, &[Fill::Slice], commit),
                claim(Len::Largest { less: 0 }, &[], commit),
                claim(Len::TooLarge { more: 0 }, &[], commit),
                claim(Len::ToEnd { less: 0 }, &fills, commit),
                Op::Drain { reader: 0 },
            ]);
        }
        list
    };
    let huge = {
        let claim = |less| Op::Claim { len: Len::Huge { less }, wait: less == 0, fills: Vec::new(), commit: true };
        vec![join(false, From::Oldest), small(1), claim(0), claim(7), claim(8), claim(15), claim(200), small(2)]
    };
    let batches = {
        let batch = |count, len, shorter, wait| Op::Batch { count, len, shorter, wait };
        let mut list = vec![join(true, From::Oldest), batch(19, Len::Small { len: 250 }, 13, true)];
        list.extend([batch(19, Len::Any { len: 900 }, 0, true), join(false, From::Oldest)]);
        list.extend((0..4).map(|_| batch(19, Len::Any { len: 700 }, 30, false)));
        list.extend([batch(3, Len::TooLarge { more: 0 }, 0, false), batch(3, Len::TooLarge { more: 0 }, 1, false)]);
        list.extend([Op::Drain { reader: 1 }, batch(19, Len::Small { len: 8 }, 0, false), Op::Close]);
        list.push(batch(2, Len::Small { len: 8 }, 0, false));
        list
    };
    let joins = {
        let mut list: Vec<Op> = (0..60).map(|n| small(n * 4)).collect();
        for lossy in [true, false] {
            let starts = [
                From::Oldest,
                From::Middle,
                From::Newest,
                From::Back { records: 1 },
                From::Back { records: 59 },
                From::Ahead { records: 0 },
                From::Ahead { records: 1 },
                From::Sequence { sequence: u64::MAX },
                From::Sequence { sequence: 0 },
            ];
            list.extend(starts.into_iter().flat_map(|start| [join(lossy, start), small(1), Op::Leave { reader: 0 }]));
        }
        list
    };
    let slots = {
        let mut list: Vec<Op> = (0..3).map(|_| join(true, From::Newest)).collect();
        list.extend([join(false, From::Newest), Op::Leave { reader: 0 }, join(false, From::Newest)]);
        list.extend([Op::Resubscribe { reader: 1 }, Op::WaitForReaders { n: 2 }, Op::WaitForReaders { n: 3 }]);
        list.extend([small(5), Op::DropWriter, join(true, From::Oldest), small(5), Op::Resubscribe { reader: 0 }]);
        list
    };
    let many = |list: &[Op]| list.iter().cycle().take(list.len() * 3).cloned().collect::<Vec<_>>();
    let script = |start, ops| Script { shape: shape(start), ops };
    let wide = |ops| {
        let shape = Shape { capacity: 1, wide: true, blocks: 5, slots: 4, start: StartAt::Anywhere { at: 1 << 50 } };
        Script { shape, ops }
    };
    vec![
        ("every_receive", script(StartAt::Zero, every_receive.clone())),
        ("every_receive_wide", wide(every_receive)),
        ("lapped", script(StartAt::Below32 { back: 300 }, lapped.clone())),
        ("lapped_wide", wide(lapped)),
        ("held_back", script(StartAt::Zero, held.clone())),
        ("exhausted", script(StartAt::Below63 { back: 900 }, many(&held))),
        ("pads", script(StartAt::Zero, pads.clone())),
        ("pads_wide", wide(pads)),
        ("claims", script(StartAt::Zero, claims)),
        ("claims_huge", script(StartAt::Zero, huge)),
        ("batches", script(StartAt::Below32 { back: 100 }, batches)),
        ("joins", script(StartAt::Zero, joins)),
        ("slots", script(StartAt::Zero, slots)),
    ]
}

fn attach_seeds() -> Vec<(&'static str, attach::Script)> {
    use attach::script::{Case, Claimed, Edit, Falsehood, From, Place, Script, Shape, Step, Value};
    let shape = || Shape { capacity: 4, wide: false, blocks: 1, slots: 3, start: 0, back: 0 };
    let join = |lossless, start| Step::Join { lossless, blind: false, start, resume: From::Middle };
    let edit = |place, value| Edit { place, value };
    let change = |place, value| Step::Change { edit: edit(place, value) };
    let read = |reader| Step::Read { reader, count: 9 };
    let attach_all = || {
        vec![
            join(true, From::Oldest),
            join(true, From::Newest),
            join(false, From::Oldest),
            join(false, From::Middle),
            join(false, From::Sequence { sequence: 5 }),
            Step::Join { lossless: false, blind: true, start: From::Oldest, resume: From::Oldest },
            join(false, From::AnySequence { sequence: u64::MAX }),
        ]
    };
    let then_all = |mut steps: Vec<Step>| {
        for reader in 0..6 {
            steps.extend([Step::Lag { reader }, Step::Park { reader }, read(reader), Step::Poll { reader, most: 3 }]);
        }
        steps.extend([Step::ReadOnly { reader: 0 }, Step::Release { reader: 0 }, Step::Owe { reader: 2, lost: 3 }]);
        steps.extend([Step::Leave { reader: 0 }, Step::Count, Step::ParkForRoom { len: 9 }]);
        steps
    };
    let base = Script {
        shape: shape(),
        case: Case::Damaged,
        fill: (0..40).map(|n| n * 3).collect(),
        close: false,
        edits: Vec::new(),
        seal: true,
        ring_lies: Vec::new(),
        registry_lies: Vec::new(),
        steps: then_all(attach_all()),
    };
    let with = |change: &dyn Fn(&mut Script)| {
        let mut script = base.clone();
        change(&mut script);
        script
    };
    let headers = |ring, registry| Case::Headers { ring, registry };
    let traffic = {
        let mut steps = attach_all();
        for round in 0..6u8 {
            steps.extend([Step::Publish { len: round }, Step::Stage { len: 30, count: 5 }]);
            steps.push(Step::PublishLong { less: round });
            steps.extend((0..3).map(|slot| change(Place::Slot { slot, word: 1 }, Value::Position { words: 1 })));
            steps.extend([read(0), read(2), change(Place::Flags { word: 2 }, Value::Small { value: 1 }), read(5)]);
        }
        steps.push(Step::Close);
        then_all(steps)
    };
    let before_zero = Value::Mark { which: 6 };
    vec![
        ("headers", with(&|script| script.case = headers(Claimed::True, Claimed::True))),
        ("headers_short", with(&|script| script.case = headers(Claimed::Less { by: 1 }, Claimed::More { by: 8 }))),
        (
            "headers_geometry",
            with(&|script| {
                script.case = headers(Claimed::Any { bytes: u64::MAX }, Claimed::True);
                script.edits = vec![edit(Place::RingHeader { word: 6 }, Value::Mark { which: 15 })];
            }),
        ),
        (
            "headers_no_capacity",
            with(&|script| {
                script.case = headers(Claimed::True, Claimed::True);
                script.edits = vec![edit(Place::RingHeader { word: 6 }, Value::Raw { value: 0 })];
            }),
        ),
        ("whole", base.clone()),
        (
            "closed",
            with(&|script| {
                script.close = true;
                script.shape.wide = true;
            }),
        ),
        (
            "length_beyond_the_end",
            with(&|script| {
                let len = Value::Small { value: 500 };
                script.edits = (0..40).map(|record| edit(Place::RecordHeader { record }, len.clone())).collect();
            }),
        ),
        (
            "pads",
            with(&|script| {
                let pad = |record| edit(Place::RecordHeader { record }, Value::Pad { of: u16::from(record) * 3 });
                script.edits = (0..40).map(pad).collect();
            }),
        ),
        (
            "last_position",
            with(&|script| {
                let last = || Value::Mark { which: 6 };
                script.edits = vec![edit(Place::Limit, last()), edit(Place::Announced, last())];
                for cell in [false, true] {
                    script.edits.push(edit(Place::HeadCell { cell, sequence: false }, last()));
                    script.edits.push(edit(Place::HeadCell { cell, sequence: true }, Value::Raw { value: u64::MAX }));
                }
                // The last words of the data area.
                script.edits.extend((262..272).map(|word| edit(Place::AnyRing { word }, Value::Small { value: 1 })));
            }),
        ),
        (
            "limit_runs",
            with(&|script| {
                let runs = [100, 1000, 5000, -5000].map(|delta| change(Place::Limit, Value::Add { delta }));
                script.steps.extend(runs.into_iter().flat_map(|run| [run, read(0), read(1), read(2)]));
            }),
        ),
        (
            "lies",
            with(&|script| {
                let lie = |n: i16| Falsehood {
                    skip: n as u8 % 5,
                    last: n % 7 == 0,
                    value: if n % 2 == 0 { Value::Position { words: n - 30 } } else { Value::Add { delta: 8 * n } },
                };
                script.ring_lies = (0..60).map(lie).collect();
            }),
        ),
        (
            "registry",
            with(&|script| {
                script.case = Case::Registry;
                script.steps = traffic.clone();
            }),
        ),
        (
            "semaphores",
            with(&|script| {
                script.case = Case::Registry;
                script.shape.slots |= 64;
                script.steps = traffic.clone();
                let own = |slot| change(Place::Slot { slot, word: 3 }, Value::Small { value: 1 });
                script.steps.splice(7..7, (0..3).map(own));
            }),
        ),
        (
            "cursor_before_zero",
            with(&|script| {
                script.case = Case::Registry;
                script.fill.clear();
                let forged = |word, value| change(Place::Slot { slot: 0, word }, value);
                script.steps = vec![
                    change(Place::Flags { word: 2 }, Value::Small { value: 3 }),
                    forged(0, Value::Small { value: 2 }),
                    forged(1, before_zero.clone()),
                    Step::Publish { len: 9 },
                    Step::PublishLong { less: 0 },
                ];
            }),
        ),
        ("files", with(&|script| script.case = Case::Files { share: 5, ring_cut: 0, registry_cut: 0 })),
        (
            "files_cut",
            with(&|script| {
                script.case = Case::Files { share: 5, ring_cut: 41, registry_cut: 42 };
                script.edits = vec![edit(Place::RecordHeader { record: 3 }, Value::Raw { value: u64::MAX })];
            }),
        ),
    ]
}
