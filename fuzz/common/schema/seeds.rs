//! Scripts of `schema`, by hand.

use super::script::{Edit, Script, Type, Value};

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Script)> {
    let with = |written, wanted, edits| Script { written, wanted, edits, sealed: true };
    let text = |at, text: &[u8]| Edit::TextBytes { at, bytes: text.to_vec() };
    let field = |which, value| Edit::Field { which, value };
    vec![
        ("same", with(Type::Order, Type::Order, vec![])),
        ("other", with(Type::Order, Type::Odd, vec![])),
        ("raw", with(Type::Raw, Type::Raw, vec![])),
        ("raw_wanted", with(Type::Flag, Type::Raw, vec![])),
        ("raw_found", with(Type::Raw, Type::Unit, vec![])),
        ("largest", with(Type::Largest, Type::Largest, vec![])),
        ("hostile_text", with(Type::Order, Type::Order, vec![text(3, b"\x1b[2J\xff\xfe\xc3\x28\r\n\xc2\x9b31m")])),
        ("text_ends_early", with(Type::Flag, Type::Flag, vec![Edit::Text { at: 2, value: 0 }])),
        ("text_behind_its_end", with(Type::Flag, Type::Flag, vec![text(5, b"not shown")])),
        ("no_text", with(Type::Flag, Type::Flag, vec![Edit::Lines { lines: 0 }])),
        ("longest_text", with(Type::Flag, Type::Flag, vec![Edit::Lines { lines: 32 }])),
        ("too_long_a_text", with(Type::Flag, Type::Flag, vec![Edit::Lines { lines: 33 }])),
        ("text_of_raw_bytes", with(Type::Raw, Type::Raw, vec![Edit::Lines { lines: 1 }])),
        ("name", with(Type::Odd, Type::Odd, (0..64).map(|at| Edit::Name { at, value: 0x80 + at }).collect())),
        (
            "same_but_the_text",
            with(Type::Odd, Type::Largest, (0..4).map(|which| field(which, Value::Wanted)).collect()),
        ),
        ("high_half", with(Type::Unit, Type::Unit, vec![field(1, Value::Small { value: 1 })])),
        ("sizes", with(Type::Flag, Type::Flag, vec![field(2, Value::Raw { value: 2041 })])),
        ("alignments", with(Type::Flag, Type::Flag, vec![field(3, Value::Small { value: 3 })])),
        (
            "not_sealed",
            Script { sealed: false, ..with(Type::Unit, Type::Unit, vec![field(0, Value::Flip { bit: 9 })]) },
        ),
        ("any_word", with(Type::Unit, Type::Unit, vec![Edit::Any { word: 42, value: 4097 }])),
    ]
}
