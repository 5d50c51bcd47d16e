//! Axes: where a value lies, and where the grid has its lines. To `plotters` each is a coordinate.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How the numbers of an axis are written.
pub(crate) type Unit = fn(f64) -> String;

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    log: bool,
    unit: Unit,
    /// Powers of ten, if it is logarithmic.
    low: f64,
    high: f64,
    /// Values with their names, ascending.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A logarithmic one that holds all of these; those that are not above zero have no place on it.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>, unit: Unit) -> Option<Axis> {
        let powers = values.into_iter().filter(|value| has_log(*value)).map(f64::log10);
        let (low, high) = bounds(powers)?;
        // A little room, and never less than a third of a decade.
        let room = (0.04 * (high - low)).max(0.08).max((0.33 - (high - low)) / 2.0);
        let (low, high) = (low - room, high + room);
        let steps: &[f64] = match high - low {
            narrow if narrow < 0.7 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            short if short < 1.5 => &[1.0, 2.0, 5.0],
            medium if medium < 2.6 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let decades = (low.floor() as i32)..=(high.ceil() as i32);
        let ticks = decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|tick| (low..=high).contains(&tick.log10()))
            .map(|tick| (tick, round(unit, tick)))
            .collect();
        Some(Axis { log: true, unit, low, high, ticks })
    }

    /// From zero to a little more than the largest.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, unit: Unit) -> Option<Axis> {
        let (_, most) = bounds(values)?;
        let high = if most > 0.0 { most * 1.15 } else { 1.0 };
        let rough = high / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * decade);
        let count = (high / step).floor() as usize;
        let ticks = (0..=count).map(|number| number as f64 * step).map(|tick| (tick, round(unit, tick))).collect();
        Some(Axis { log: false, unit, low: 0.0, high, ticks })
    }

    /// Of steps that have names: each at its place, with its name.
    pub(crate) fn named(ticks: Vec<(f64, String)>) -> Option<Axis> {
        let (low, high) = bounds(ticks.iter().map(|(place, _)| *place))?;
        let room = (0.03 * (high - low)).max(0.1);
        Some(Axis { log: false, unit: |value| value.to_string(), low: low - room, high: high + room, ticks })
    }

    /// A value has a place on it.
    pub(crate) fn holds(&self, value: f64) -> bool {
        if self.log { has_log(value) } else { (self.low..=self.high).contains(&value) }
    }

    /// Where the grid's lines are, and what stands beside them.
    pub(crate) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    pub(crate) fn write(&self, value: f64) -> String {
        (self.unit)(value)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    /// Ask [`holds`](Axis::holds) before: what has no place is put at the low end, and what lies beyond an end at that end.
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let place = match self.log {
            _ if !self.holds(*value) => self.low,
            true => value.log10(),
            false => *value,
        };
        let share = ((place - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light lines would be between the named ones.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        if self.log { 10_f64.powf(self.low)..10_f64.powf(self.high) } else { self.low..self.high }
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(tick: &f64) -> String {
        tick.to_string()
    }

    fn format_ext(&self, tick: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == tick).map_or_else(String::new, |(_, name)| name.clone())
    }
}

fn has_log(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |so_far, value| match so_far {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// Round numbers need no places behind the point: `1 µs`, not `1.00 µs`.
fn round(unit: Unit, tick: f64) -> String {
    let text = unit(tick);
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, name) = text.split_at(end);
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{name}")
}

#[cfg(test)]
mod tests {
    use super::super::super::numbers::time;
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks().iter().map(|(_, name)| name.replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn decades() {
        let axis = Axis::log([480.0, 36e6], time).expect("has values");
        assert_eq!(names(&axis), ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms"]);
        let axis = Axis::log([24_000.0, 35_000.0], time).expect("has values");
        assert_eq!(names(&axis), ["20 µs", "30 µs", "40 µs"]);
    }

    #[test]
    fn what_has_no_place() {
        assert!(Axis::log([0.0, -1.0, f64::NAN], time).is_none());
        assert!(Axis::linear([], time).is_none());
        let axis = Axis::log([0.0, 5.0], time).expect("has a value");
        assert!(!axis.holds(0.0));
        assert!(axis.low < axis.high);
        let axis = Axis::linear([0.0], time).expect("has a value");
        assert!(axis.low < axis.high);
    }

    #[test]
    fn from_zero() {
        let axis = Axis::linear([9.1, 9.8], time).expect("has values");
        assert_eq!(names(&axis), ["0 ns", "5 ns", "10 ns"]);
    }
}
