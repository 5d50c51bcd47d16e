//! Scripts of `names`, by hand.

use super::script::{Call, Entry, Name, Part, Script, What};

fn known(which: u8) -> Name {
    Name::Known { which }
}

fn parts(ring: Part, registry: Part, lease: Part) -> What {
    What::Parts { old: false, ring, registry, lease, more: false }
}

fn entries(whats: Vec<What>) -> Vec<Entry> {
    whats.into_iter().enumerate().map(|(which, what)| Entry { name: known(which as u8), what }).collect()
}

/// Every call about one name.
fn every(name: &Name) -> Vec<Call> {
    let name = || name.clone();
    vec![
        Call::Open { name: name(), lossy: false, follower: false },
        Call::Open { name: name(), lossy: true, follower: true },
        Call::Create { name: name() },
        Call::OpenOrCreate { name: name(), keep: true },
        Call::DropWriter,
        Call::Remove { name: name() },
    ]
}

fn all_around(calls: impl IntoIterator<Item = Call>) -> Vec<Call> {
    let look = || [Call::List, Call::Gc, Call::List];
    look().into_iter().chain(calls).chain(look()).collect()
}

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Script)> {
    let damaged = |at, value, less| Part::Damaged { at, value, less };
    let odd = |range: std::ops::Range<u8>| range.flat_map(|which| every(&Name::Odd { which })[..4].to_vec());
    let temporary = |which, what| Entry { name: Name::Temporary { which }, what };
    let old = |ring, more| What::Parts { old: true, ring, registry: Part::Whole, lease: Part::Empty, more };
    vec![
        (
            "states",
            Script {
                entries: entries(vec![What::Live, What::Closed, What::Orphan, What::File { bytes: b"hello".to_vec() }]),
                calls: all_around((0..3).flat_map(|which| every(&known(which)))),
            },
        ),
        (
            "links",
            Script {
                entries: entries(vec![
                    What::Link { to: 1 },
                    parts(Part::Link { to: 2 }, Part::Whole, Part::Whole),
                    parts(Part::Whole, Part::Link { to: 0 }, Part::Whole),
                    parts(Part::Whole, Part::Whole, Part::Link { to: 0 }),
                ]),
                calls: all_around((0..3).flat_map(|which| every(&known(which)))),
            },
        ),
        (
            "pipes_and_directories",
            Script {
                entries: entries(vec![
                    What::Fifo,
                    parts(Part::Fifo, Part::Whole, Part::Whole),
                    parts(Part::Whole, Part::Fifo, Part::Fifo),
                    parts(Part::Directory, Part::Directory, Part::Directory),
                ]),
                calls: all_around((0..3).flat_map(|which| every(&known(which)))),
            },
        ),
        (
            "halves",
            Script {
                entries: entries(vec![
                    parts(Part::Missing, Part::Whole, Part::Empty),
                    parts(Part::Empty, Part::Whole, Part::Missing),
                    parts(Part::Whole, Part::Missing, Part::Empty),
                    parts(Part::Other, Part::Whole, Part::Empty),
                ]),
                calls: all_around((0..3).flat_map(|which| every(&known(which)))),
            },
        ),
        (
            "damaged",
            Script {
                entries: entries(vec![
                    parts(damaged(48, 7, 0), Part::Whole, Part::Whole),
                    parts(Part::Whole, damaged(0, 0, 0), Part::Whole),
                    parts(damaged(0, b's', 600), damaged(0, b's', 1), Part::Whole),
                    parts(Part::Bytes { bytes: b"precious".to_vec() }, Part::Whole, Part::Bytes { bytes: vec![1] }),
                ]),
                calls: all_around((0..4).map(|which| Call::Remove { name: known(which) })),
            },
        ),
        (
            "left_by_a_create",
            Script {
                entries: vec![
                    temporary(0, old(Part::Whole, false)),
                    temporary(1, old(Part::Whole, true)),
                    temporary(2, parts(Part::Whole, Part::Whole, Part::Empty)),
                    temporary(3, What::Link { to: 1 }),
                    temporary(4, old(Part::Directory, false)),
                ],
                calls: all_around([]),
            },
        ),
        ("odd_names", Script { entries: vec![], calls: odd(0..6).collect() }),
        ("odd_names_too", Script { entries: vec![], calls: odd(6..12).collect() }),
        (
            "odd_entries",
            Script {
                entries: (0..16)
                    .map(|which| Entry { name: Name::Odd { which }, what: What::Orphan })
                    .chain([Entry { name: Name::Long { len: 201, byte: b'x' }, what: What::Orphan }])
                    .skip(9)
                    .take(6)
                    .collect(),
                calls: all_around([Call::Remove { name: Name::Odd { which: 14 } }]),
            },
        ),
        (
            "long_names",
            Script {
                entries: vec![],
                calls: [199, 200, 201, 246, 247, 255, 256]
                    .into_iter()
                    .flat_map(|len| {
                        let name = || Name::Long { len, byte: b'x' };
                        [Call::Create { name: name() }, Call::CreateFile { name: name() }, Call::DropWriter]
                    })
                    .collect(),
            },
        ),
        (
            "files",
            Script {
                entries: vec![],
                calls: (0..16)
                    .flat_map(|which| {
                        let name = || Name::Odd { which };
                        [
                            Call::CreateFile { name: name() },
                            Call::OpenFile { name: name() },
                            Call::RemoveFile { name: name() },
                            Call::Posix { name: name(), slash: which % 2 == 0 },
                        ]
                    })
                    .skip(20)
                    .take(24)
                    .collect(),
            },
        ),
        (
            "a_name_again",
            Script {
                entries: entries(vec![What::Live]),
                calls: vec![
                    Call::Remove { name: known(0) },
                    Call::Create { name: known(0) },
                    Call::DropWriter,
                    Call::OpenOrCreate { name: known(0), keep: false },
                    Call::DropWriter,
                    Call::List,
                ],
            },
        ),
    ]
}
