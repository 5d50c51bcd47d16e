//! Lines over steps: sizes, numbers of receivers. Each has its name beside its end.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::Ranged;
use plotters::element::PathElement;
use plotters::prelude::{Color, SVGBackend};
use plotters::style::text_anchor::HPos;
use plotters::style::{IntoTextStyle, TRANSPARENT};

use super::{Axis, Canvas, Drawn, Floor, Ink, LEADER, Mark, Page, Plot, names_below, spread, text};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// A value at a step, and between which values it was in the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) step: f64,
    pub(crate) value: f64,
    pub(crate) range: (f64, f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) ink: Ink,
    pub(crate) mark: Mark,
    /// A thicker line, with the rounds' range.
    pub(crate) strong: bool,
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) title: String,
    /// What the steps are, and what the values.
    pub(crate) steps: String,
    pub(crate) values: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Across.
    pub(crate) floors: Vec<Floor>,
}

/// A label: where its line ends, and where it stands.
struct Label<'s> {
    series: &'s Series,
    end: (i32, i32),
}

impl Lines {
    fn label_width(&self, page: Page) -> i32 {
        self.series.iter().map(|series| page.text_width(&series.label, series.strong)).max().unwrap_or(0) + 20
    }

    fn tick_width(&self, page: Page) -> i32 {
        self.y.ticks().iter().map(|(_, name)| page.text_width(name, false)).max().unwrap_or(0) + 8
    }

    /// Above the plot: what the values are.
    fn head(page: Page) -> i32 {
        page.leading() + 8
    }

    /// Below: the steps' names, and what they are.
    fn foot(page: Page) -> i32 {
        2 * page.leading() + 6
    }

    fn chart<'a, 'b>(&self, page: Page, canvas: &'a Canvas<'b>) -> Result<Chart<'a, 'b>, super::Failed> {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(Self::head(page))
            .margin_right(self.label_width(page))
            .margin_left(2)
            .x_label_area_size(Self::foot(page))
            .y_label_area_size(self.tick_width(page))
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let quiet = Ink::Quiet.light();
        let letters = ("sans-serif", page.letter() * 1.24).into_text_style(canvas).color(&quiet);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Ink::Grid.light())
            .axis_style(Ink::Grid.light())
            .set_all_tick_mark_size(3)
            .label_style(letters)
            .x_labels(self.x.ticks().len())
            .y_labels(self.y.ticks().len())
            // Ours, because these would lie upon each other on a phone.
            .x_label_formatter(&|_| String::new())
            .draw()?;
        let (_, down) = chart.plotting_area().get_pixel_range();
        let at = |tick: f64| chart.backend_coord(&(tick, self.y.range().start)).0;
        let names = self.x.ticks().iter().map(|(tick, name)| (at(*tick), name.as_str()));
        names_below(canvas, page, down.end + page.leading() / 2 + 5, names)?;
        Ok(chart)
    }

    /// The points that have a place, in runs that a line connects: none leads over a step at which there was nothing.
    fn runs(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let mut runs: Vec<Vec<Point>> = Vec::new();
        for point in points.iter().filter(|point| self.x.holds(point.step) && self.y.holds(point.value)) {
            let over = |from: f64| self.x.ticks().iter().any(|(tick, _)| (from < *tick) && (*tick < point.step));
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| !over(last.step)) => run.push(*point),
                _ => runs.push(vec![*point]),
            }
        }
        runs
    }

    fn draw_series<'s>(
        &self,
        page: Page,
        canvas: &Canvas<'_>,
        chart: &Chart<'_, '_>,
        series: &'s Series,
    ) -> Result<Option<Label<'s>>, super::Failed> {
        let pixel = |step: f64, value: f64| {
            (self.x.holds(step) && self.y.holds(value)).then(|| chart.backend_coord(&(step, value)))
        };
        if series.strong {
            for point in &series.points {
                if let (Some(low), Some(high)) = (pixel(point.step, point.range.0), pixel(point.step, point.range.1)) {
                    canvas.draw(&PathElement::new(vec![low, high], series.ink.line(1)))?;
                }
            }
        }
        let width = if series.strong { 3 } else { 1 };
        let runs = self.runs(&series.points);
        for run in runs.iter().filter(|run| run.len() > 1) {
            let points: Vec<(i32, i32)> = run.iter().filter_map(|point| pixel(point.step, point.value)).collect();
            canvas.draw(&PathElement::new(points, series.ink.line(width)))?;
        }
        let points: Vec<(i32, i32)> =
            runs.iter().flatten().filter_map(|point| pixel(point.step, point.value)).collect();
        let radius = if series.strong { 4 } else { 3 } - i32::from(page == Page::Phone && !series.strong);
        for point in &points {
            series.mark.draw(canvas, *point, radius, series.ink)?;
        }
        Ok(points.last().map(|end| Label { series, end: *end }))
    }
}

impl Plot for Lines {
    fn title(&self) -> &str {
        &self.title
    }

    fn is_empty(&self) -> bool {
        let has_place = |point: &Point| self.x.holds(point.step) && self.y.holds(point.value);
        !self.series.iter().any(|series| series.points.iter().any(has_place))
    }

    fn height(&self, page: Page) -> i32 {
        let least = if page == Page::Wide { 430 } else { 340 };
        let labels = self.series.len() as i32 * page.leading();
        least.max(labels + Self::head(page) + Self::foot(page))
    }

    fn draw(&self, page: Page, canvas: &Canvas<'_>) -> Drawn {
        let chart = self.chart(page, canvas)?;
        let (across, down) = chart.plotting_area().get_pixel_range();
        let floors = || self.floors.iter().filter(|floor| self.y.holds(floor.value));
        let level = |floor: &Floor| chart.backend_coord(&(self.x.range().start, floor.value)).1;
        for floor in floors() {
            let y = level(floor);
            canvas.draw(&PathElement::new(vec![(across.start, y), (across.end, y)], Ink::Floor.line(1)))?;
        }
        // What matters is drawn last, upon the others.
        let mut labels = Vec::new();
        for strong in [false, true] {
            for series in self.series.iter().filter(|series| series.strong == strong) {
                labels.extend(self.draw_series(page, canvas, &chart, series)?);
            }
        }
        for floor in floors() {
            let at = (across.start + 6, level(floor) - page.leading() / 2);
            text(canvas, page, Ink::Floor, at, HPos::Left, false, &floor.text)?;
        }
        labels.sort_by_key(|label| label.end.1);
        let wanted: Vec<i32> = labels.iter().map(|label| label.end.1).collect();
        let places = spread(&wanted, page.leading() - 1, down.start, down.end);
        for (label, y) in labels.iter().zip(places) {
            let (series, (from, level)) = (label.series, label.end);
            // From the end of the line to the name: thin, and only as far as it must slant.
            let bend = (across.end - 4).max(from + 6);
            let leader = vec![(from + 6, level), (bend, level), (across.end + 12, y)];
            let leader = if from + 6 < bend { leader } else { leader[1..].to_vec() };
            canvas.draw(&PathElement::new(leader, series.ink.light().mix(LEADER).stroke_width(1)))?;
            text(canvas, page, series.ink, (across.end + 16, y), HPos::Left, series.strong, &series.label)?;
        }
        let middle = page.leading() / 2;
        text(canvas, page, Ink::Quiet, (2, middle), HPos::Left, false, &self.values)?;
        let below = (across.start + (across.end - across.start) / 2, self.height(page) - middle - 2);
        text(canvas, page, Ink::Quiet, below, HPos::Center, false, &self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::numbers::time;
    use super::*;

    /// A size that a transport does not carry, and a value of zero on a logarithmic axis.
    #[test]
    fn a_line_does_not_lead_over_what_is_missing() {
        let point = |step: f64, value: f64| Point { step, value, range: (value, value) };
        let plot = Lines {
            title: String::new(),
            steps: String::new(),
            values: String::new(),
            x: Axis::named((0..6).map(|step| (f64::from(step), step.to_string())).collect()).expect("has steps"),
            y: Axis::log([1.0, 100.0], time).expect("has values"),
            series: Vec::new(),
            floors: Vec::new(),
        };
        let lengths = |points: &[Point]| plot.runs(points).iter().map(Vec::len).collect::<Vec<_>>();
        let whole: Vec<Point> = (0..6).map(|step| point(f64::from(step), 10.0)).collect();
        assert_eq!(lengths(&whole), [6]);
        assert_eq!(lengths(&[whole[0], point(0.5, 10.0), whole[1]]), [3]);
        assert_eq!(lengths(&[whole[0], whole[1], whole[3], whole[4], whole[5]]), [2, 3]);
        assert_eq!(lengths(&[whole[0], point(1.0, 0.0), whole[2]]), [1, 1]);
        assert_eq!(lengths(&[]), [0; 0]);
    }
}
