//! How numbers are written: three digits that count, and a unit.
//!
//! Between a number and its unit stands a space that no line breaks at. Whoever wants all digits finds them in the tables' `<data>`.

const SPACE: char = '\u{a0}';

/// Nanoseconds.
pub(super) fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// Something each second.
pub(super) fn rate(per_second: f64) -> String {
    scaled(per_second, &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")])
}

/// Bytes each second, in powers of ten.
pub(super) fn bandwidth(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")])
}

/// A length in bytes, in powers of two where these are whole.
pub(super) fn bytes(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    const KIB: usize = 1 << 10;
    const GIB: usize = 1 << 30;
    match bytes {
        0 => format!("0{SPACE}B"),
        whole if whole.is_multiple_of(GIB) => format!("{}{SPACE}GiB", whole / GIB),
        whole if whole.is_multiple_of(MIB) => format!("{}{SPACE}MiB", whole / MIB),
        whole if whole.is_multiple_of(KIB) => format!("{}{SPACE}KiB", whole / KIB),
        odd if odd >= 10 * MIB => format!("{:.1}{SPACE}MiB", odd as f64 / MIB as f64),
        odd if odd >= 10 * KIB => format!("{:.0}{SPACE}KiB", odd as f64 / KIB as f64),
        odd => format!("{odd}{SPACE}B"),
    }
}

/// A share of one, in percent.
pub(super) fn share(share: f64) -> String {
    format!("{}{SPACE}%", digits(share * 100.0))
}

/// A share of one that somebody has chosen, in whole percents.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}{SPACE}%", share * 100.0)
}

/// So many times as much.
pub(super) fn times(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

/// A number of things, with its thousands apart.
pub(super) fn whole(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut apart = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) {
            apart.push('\u{202f}');
        }
        apart.push(digit);
    }
    apart
}

/// `count` things: `1 receiver`, `2 receivers`.
pub(super) fn count(count: usize, one: &str) -> String {
    if count == 1 { format!("1{SPACE}{one}") } else { format!("{count}{SPACE}{one}s") }
}

/// Every digit: what reads back as the same number.
pub(super) fn exact(value: f64) -> String {
    format!("{value}")
}

/// With the largest unit of which there is at least one.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let smallest = units[units.len() - 1];
    // What would be rounded up to a thousand has the next unit.
    let (unit, name) = units.iter().copied().find(|(unit, _)| value.abs() >= unit * 0.9995).unwrap_or(smallest);
    format!("{}{SPACE}{name}", digits(value / unit))
}

/// Three digits that count, or all of them before the point; one and a bit more than one are told apart.
fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    let places = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.places$}");
    // Of a small share two digits count.
    let text = if size < 0.0995 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    match text.trim_start_matches('-').parse::<f64>() {
        Ok(0.0) if size > 0.0 => format!("{value:.1e}"),
        Ok(0.0) => "0".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let told = |text: String| text.replace(SPACE, " ");
        assert_eq!(told(time(481.6)), "482 ns");
        assert_eq!(told(time(24_034.5)), "24.0 µs");
        assert_eq!(told(time(999_960.0)), "1.00 ms");
        assert_eq!(told(time(0.25)), "0.250 ns");
        assert_eq!(told(time(0.0)), "0 ns");
        assert_eq!(told(time(3e10)), "30.0 s");
        assert_eq!(told(rate(950.0)), "950 /s");
        assert_eq!(told(rate(57_000_000.0)), "57.0 M/s");
        assert_eq!(told(bandwidth(90e9)), "90.0 GB/s");
        assert_eq!(told(share(0.0004)), "0.04 %");
        assert_eq!(told(share(1.0)), "100 %");
        assert_eq!(told(share(3e-9)), "3.0e-7 %");
        assert_eq!(told(percent(0.02)), "2 %");
        assert_eq!(told(times(1.0053)), "1.01×");
        assert_eq!(told(time(f64::NAN)), "– ns");
        assert_eq!(told(count(1, "receiver")), "1 receiver");
        assert_eq!(told(count(8, "receiver")), "8 receivers");
    }

    #[test]
    fn lengths_are_whole_where_they_can() {
        let told = |length| bytes(length).replace(SPACE, " ");
        let lengths = [0, 7, 64, 1024, 4096, 65_536, 212_000, 1 << 20, 1 << 30, 65_507, 1_000_000_000].map(told);
        let wanted =
            ["0 B", "7 B", "64 B", "1 KiB", "4 KiB", "64 KiB", "207 KiB", "1 MiB", "1 GiB", "64 KiB", "953.7 MiB"];
        assert_eq!(lengths, wanted);
    }

    #[test]
    fn exact_reads_back() {
        for value in [0.1 + 0.2, 24_034.477_632_683_556, 1e300, 0.0] {
            assert_eq!(exact(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }
    }
}
