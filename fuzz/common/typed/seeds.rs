//! Scripts of `typed`, by hand.

use super::script::{From, Op, Publish, Receive, Script, Shape, Type};

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Script)> {
    let shape = || Shape { memfd: false, capacity: 0, wide: false, blocks: 2, slots: 2, late: false };
    let join = |lossy, start| Op::Join { lossy, start };
    let publish = |seed, how| Op::Publish { seed, how };
    let receive = |reader, how| Op::Receive { reader, how };
    let every = || {
        let mut ops = vec![join(false, From::Oldest), join(true, From::Oldest)];
        for seed in 0..8 {
            ops.push(Op::Batch { count: 6, seed: seed * 100, wait: seed % 2 == 0 });
            ops.push(publish(
                seed * 100 + 50,
                [Publish::Try, Publish::Wait, Publish::Timeout][seed as usize % 3].clone(),
            ));
            let claim = |seed, in_place, commit| Op::Claim { seed: seed * 100 + 60, in_place, commit };
            ops.extend([claim(seed, false, true), claim(seed, true, false), claim(seed, true, true)]);
            for reader in 0..2 {
                let hows = [
                    Receive::Try,
                    Receive::Wait,
                    Receive::Timeout,
                    Receive::Into { wait: seed % 2 == 0 },
                    Receive::Borrowed { wait: seed % 2 == 1 },
                    Receive::Batch { most: 3, wait: seed % 2 == 0 },
                    Receive::TryIter { most: 2 },
                    Receive::Iter { most: 2 },
                ];
                ops.extend(hows.into_iter().map(|how| receive(reader, how)));
            }
        }
        ops
    };
    let around = || {
        let mut ops = vec![join(true, From::Oldest), join(false, From::Newest)];
        ops.extend((0..12).map(|seed| Op::Batch { count: 39, seed: seed * 1000, wait: false }));
        ops.push(Op::Leave { reader: 1 });
        ops.extend((0..20).map(|seed| Op::Batch { count: 39, seed: seed * 999, wait: true }));
        ops.extend([receive(0, Receive::Batch { most: 255, wait: false }), Op::Drain { reader: 0 }]);
        ops.extend([join(true, From::Back { records: 3 }), join(true, From::Back { records: 255 })]);
        ops.extend([Op::Resubscribe { reader: 0 }, Op::Close, publish(1, Publish::Wait)]);
        ops.extend((0..4).map(|reader| receive(reader, Receive::Iter { most: 9 })));
        ops
    };
    let changed = || {
        let mut ops = vec![Op::Batch { count: 20, seed: 1, wait: true }];
        ops.extend((0..20).map(|back| Op::Scribble { back, at: u16::from(back) * 3, value: 0xD8 + back }));
        ops.extend((0..20).step_by(3).map(|back| Op::Resize { back, less: back / 2 }));
        ops.extend([join(false, From::Oldest), join(true, From::Oldest), Op::Untyped { seen: 30 }]);
        for reader in [0, 1] {
            ops.push(receive(reader, Receive::Borrowed { wait: false }));
            ops.extend((0..9).map(|most| receive(reader, Receive::Batch { most: 9 - most, wait: false })));
            ops.push(receive(reader, Receive::TryIter { most: 30 }));
        }
        ops
    };
    let wrong = || (0..9).map(|other| Op::JoinWrong { other, lossy: other % 2 == 0 }).collect::<Vec<_>>();
    vec![
        ("unit", Script { of: Type::Unit, lies: false, shape: shape(), ops: every() }),
        ("flag", Script { of: Type::Flag, lies: false, shape: shape(), ops: every() }),
        ("flag_lies", Script { of: Type::Flag, lies: true, shape: shape(), ops: every() }),
        ("letter_lies", Script { of: Type::Letter, lies: true, shape: shape(), ops: every() }),
        ("side_lies", Script { of: Type::Side, lies: true, shape: Shape { wide: true, ..shape() }, ops: around() }),
        ("order", Script { of: Type::Order, lies: false, shape: Shape { late: true, ..shape() }, ops: around() }),
        ("order_lies", Script { of: Type::Order, lies: true, shape: shape(), ops: every() }),
        (
            "order_changed",
            Script { of: Type::Order, lies: false, shape: Shape { memfd: true, ..shape() }, ops: changed() },
        ),
        (
            "odd_changed",
            Script { of: Type::Odd, lies: false, shape: Shape { memfd: true, wide: true, ..shape() }, ops: changed() },
        ),
        ("odd", Script { of: Type::Odd, lies: false, shape: shape(), ops: every() }),
        ("wide", Script { of: Type::Wide, lies: false, shape: Shape { capacity: 1, ..shape() }, ops: around() }),
        ("largest", Script { of: Type::Largest, lies: false, shape: shape(), ops: every() }),
        ("too_large", Script { of: Type::TooLarge, lies: false, shape: shape(), ops: every() }),
        ("wrong_type", Script { of: Type::Order, lies: true, shape: shape(), ops: wrong() }),
        ("wrong_type_of_bytes", Script { of: Type::Odd, lies: false, shape: shape(), ops: wrong() }),
    ]
}
