//! The seeds of `hostile_reads` and `hostile_registry`: see `common/seeds.rs`.

use super::script::{Aim, Call, Deed, Kind, Reads, Registry, Shape, Stroke, Value};
use crate::attach::script::From;

pub(crate) fn reads() -> Vec<(&'static str, Reads)> {
    let stroke = |after, aim, value| Stroke { after, aim, value };
    let every_call = || {
        vec![
            Call::Read { count: 1 },
            Call::Again,
            Call::Into { room: 40 },
            Call::Exact { len: 9 },
            Call::Run { len: 9, most: 200 },
            Call::Poll { most: 3 },
            Call::Lag,
            Call::Park,
            Call::Owe { lost: 2 },
            Call::Publish { len: 9, count: 6 },
            Call::Outlives,
            Call::Rejoin,
            Call::Join { start: From::Oldest },
            Call::Join { start: From::Newest },
            Call::Join { start: From::Sequence { sequence: 12 } },
        ]
    };
    let script = |kind, strokes, calls: Vec<Call>| Reads {
        shape: Shape { capacity: 4, wide: false, blocks: 1, slots: 3, late: false },
        fill: (0..40).map(|n| n * 3).collect(),
        kind,
        start: From::Oldest,
        resume: From::Middle,
        strokes,
        calls: calls.iter().cycle().take(3 * calls.len()).cloned().collect(),
    };
    let here = |value: Value| (0..60).map(|n| stroke(n % 4, Aim::Here, value.clone())).collect::<Vec<_>>();
    let lapping = vec![
        Call::Publish { len: 200, count: 31 },
        Call::PassOver,
        Call::Publish { len: 90, count: 31 },
        Call::Read { count: 2 },
        Call::Rejoin,
        Call::Read { count: 9 },
    ];
    let limits = (0..40).map(|n| {
        let value = Value::Position { words: i16::from(n) * 40 - 600 };
        stroke(n % 5, Aim::Head { word: n % 2 }, value)
    });
    let cells = (0..60).map(|n| {
        let value = if n % 2 == 0 { Value::Position { words: -i16::from(n) } } else { Value::Below { words: 1 } };
        stroke(n % 3, Aim::Head { word: 48 + n % 20 }, value)
    });
    let mut late = script(Kind::Lossless, here(Value::Below { words: 3 }), every_call());
    (late.shape.late, late.shape.wide) = (true, true);
    vec![
        ("whole", script(Kind::Lossless, Vec::new(), every_call())),
        ("whole_follower", script(Kind::Follower, Vec::new(), every_call())),
        ("lapped", script(Kind::Lossy, Vec::new(), lapping.clone())),
        ("evicted", script(Kind::Lossless, Vec::new(), lapping.clone())),
        ("lengths", script(Kind::Lossy, here(Value::Small { value: 300 }), every_call())),
        ("pads", script(Kind::Lossless, here(Value::Pad { words: 9 }), every_call())),
        ("limits", script(Kind::Lossless, limits.collect(), lapping.clone())),
        ("cells", script(Kind::Follower, cells.collect(), lapping)),
        ("late", late),
    ]
}

pub(crate) fn registry() -> Vec<(&'static str, Registry)> {
    let stroke = |after, aim, value| Stroke { after, aim, value };
    let publish = |len, count| Deed::Publish { len, count };
    let join = |lossless, start| Deed::Join { lossless, start };
    let every_deed = || {
        vec![
            join(true, From::Oldest),
            join(false, From::Newest),
            publish(9, 20),
            Deed::PublishLong { less: 0 },
            Deed::Stage { len: 30, count: 5 },
            Deed::Claim { len: 40, shorter: 20, commit: true },
            Deed::Claim { len: 40, shorter: 40, commit: false },
            Deed::Park { len: 9 },
            Deed::PassOver,
            publish(90, 20),
            Deed::Read { reader: 1, count: 3 },
            Deed::Rejoin { reader: 1 },
            Deed::Read { reader: 0, count: 3 },
            Deed::Reap { slot: 1 },
            Deed::ReapAll { which: 2 },
            Deed::Count,
            Deed::Heed { heed: true },
            publish(5, 9),
            Deed::ParkReader { reader: 1 },
            Deed::Leave { reader: 1 },
            publish(5, 9),
            Deed::TakeOver,
        ]
    };
    let script = |strokes, calls: Vec<Deed>| Registry {
        shape: Shape { capacity: 4, wide: false, blocks: 1, slots: 3, late: false },
        strokes,
        calls: calls.iter().cycle().take(4 * calls.len()).cloned().collect(),
    };
    // The flags begin behind the header, the slots 32 words further on, 16 words each.
    let at = |slot: u8, word: u8| Aim::Head { word: 32 + slot * 16 + word };
    let forged = |n: u8, value| stroke(n % 7, at(n % 3, 1), value);
    let cursors = (0..80).map(|n| forged(n, Value::Position { words: i16::from(n) * 8 - 300 }));
    let far = (0..80).map(|n| forged(n, Value::Below { words: u16::from(n) }));
    let states = (0..80).map(|n| stroke(n % 5, at(n % 3, 0), Value::Small { value: u16::from(n % 5) }));
    let flags = (0..80)
        .map(|n| stroke(n % 3, Aim::Head { word: [0, 16, 17, 18, 19][usize::from(n % 5)] }, Value::Small { value: 2 }));
    let anywhere = (0..80).map(|n| stroke(n % 4, Aim::Here, Value::Raw { value: u64::from(n) << (n % 57) }));
    let held = vec![
        Deed::Strike { stroke: stroke(0, Aim::Head { word: 18 }, Value::Small { value: 3 }) },
        Deed::Strike { stroke: stroke(0, at(0, 0), Value::Small { value: 2 }) },
        Deed::Strike { stroke: stroke(0, at(0, 1), Value::Position { words: -2 }) },
        publish(9, 31),
        publish(200, 31),
        Deed::PassOver,
        publish(200, 31),
    ];
    let mut late = script(Vec::new(), every_deed());
    (late.shape.late, late.shape.wide) = (true, true);
    let mut closing = every_deed();
    closing.push(Deed::Close);
    vec![
        ("honest", script(Vec::new(), every_deed())),
        ("closing", script(Vec::new(), closing)),
        ("late", late),
        ("cursors", script(cursors.collect(), every_deed())),
        ("cursors_far_away", script(far.collect(), every_deed())),
        ("states", script(states.collect(), every_deed())),
        ("flags", script(flags.collect(), every_deed())),
        ("anywhere", script(anywhere.collect(), every_deed())),
        ("held", script(Vec::new(), held)),
    ]
}
