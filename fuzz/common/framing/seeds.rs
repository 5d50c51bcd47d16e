//! Scripts of `framing`, by hand.

use super::script::{Carrier, End, How, Room, Script, Step, What};

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Script)> {
    let record = |len, cut| Step::Send { what: What::Record { len, cut } };
    let room = |bytes| Room::Any { bytes };
    let receive = |bytes, how| Step::Receive { room: room(bytes), how };
    let lengths = [0, 1, 2, 7, 8, 9, 100, 4096, 8999];
    let records = || {
        let mut steps: Vec<_> = lengths.map(|len| record(len, 0)).to_vec();
        for how in [How::Try, How::Timeout, How::Forever] {
            steps.extend([receive(9000, how.clone()), receive(3, how.clone()), receive(100, how)]);
        }
        steps
    };
    let cut = || {
        let mut steps = Vec::new();
        for (len, cut) in lengths.into_iter().zip([4, 1, 3, 2, 9, 10, 50, 255, 255]) {
            steps.extend([record(len, cut), receive(9000, How::Try), Step::SendRest, receive(9000, How::Forever)]);
        }
        steps
    };
    let raw = |steps: Vec<What>| {
        let mut steps: Vec<_> = steps.into_iter().map(|what| Step::Send { what }).collect();
        steps.extend([receive(50, How::Try), receive(50, How::Timeout), receive(50, How::Forever)]);
        steps
    };
    let numbered = |number, ours| What::Numbered { number, ours, len: 9 };
    let with = |carrier, steps| Script {
        carrier,
        steps,
        lines: b"one\ntwo\n\nthree and more\nlast".to_vec(),
        cut: 3,
        longest: 14,
        end: End { transport: 2, role: 1, words: vec![b",,".to_vec(), b"a%7Cb".to_vec()] },
    };
    let sends = |drain: u16| {
        let steps = (0..40).flat_map(|nth: u16| {
            [Step::TrySend { len: nth * 301 }, Step::TrySend { len: 3 }, Step::Drain { bytes: drain }]
        });
        steps.collect::<Vec<_>>()
    };
    vec![
        ("stream", with(Carrier::Stream, records())),
        ("stream_cut", with(Carrier::Stream, cut())),
        ("pipe", with(Carrier::Pipe, records())),
        ("pipe_cut", with(Carrier::Pipe, cut())),
        ("datagram", with(Carrier::Datagram, records())),
        ("seqpacket", with(Carrier::Seqpacket, records())),
        ("lengths", with(Carrier::Stream, raw(vec![What::Length { len: 60 }, What::Bytes { bytes: vec![7; 40] }]))),
        (
            "too_long",
            with(Carrier::Stream, raw(vec![What::Length { len: 16 << 20 }, What::Bytes { bytes: vec![7; 9] }])),
        ),
        ("damaged", with(Carrier::Stream, raw(vec![What::Length { len: (16 << 20) + 1 }]))),
        ("largest_length", with(Carrier::Pipe, raw(vec![What::Length { len: u32::MAX }]))),
        ("half_a_length", with(Carrier::Pipe, raw(vec![What::Bytes { bytes: vec![0, 0] }]))),
        (
            "numbers",
            with(
                Carrier::Datagram,
                raw(vec![
                    numbered(0, true),
                    numbered(5, false),
                    numbered(7, true),
                    numbered(3, true),
                    numbered(u64::MAX - 1, true),
                    What::Bytes { bytes: vec![1; 15] },
                    What::Last,
                    numbered(9, true),
                ]),
            ),
        ),
        (
            "lost_before_one_that_is_too_long",
            with(
                Carrier::Datagram,
                vec![
                    Step::Send { what: numbered(4, true) },
                    Step::Send { what: numbered(5, true) },
                    receive(1, How::Try),
                    receive(50, How::Try),
                ],
            ),
        ),
        (
            "no_bytes",
            with(Carrier::Seqpacket, raw(vec![What::Bytes { bytes: vec![] }, What::Bytes { bytes: vec![1] }])),
        ),
        (
            "dies_within_a_record",
            with(
                Carrier::Stream,
                vec![
                    record(100, 50),
                    Step::End { close: false },
                    receive(200, How::Forever),
                    receive(200, How::Forever),
                    receive(200, How::Try),
                ],
            ),
        ),
        (
            "closed_here",
            with(
                Carrier::Stream,
                vec![record(5, 0), record(6, 0), receive(9, How::Try), Step::CloseHere, receive(9, How::Try)],
            ),
        ),
        ("sender", with(Carrier::Sender, sends(2000))),
        ("sender_slow", with(Carrier::Sender, sends(3))),
        ("sender_alone", with(Carrier::Sender, vec![Step::TrySend { len: 9 }, Step::End { close: true }])),
    ]
}
