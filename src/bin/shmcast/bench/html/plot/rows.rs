//! A row for each transport, with its values as dots along one axis: for what has no steps, or several values at once.
//!
//! On a wide page the name stands before its row, on a phone above it: the axis wants the width.

use plotters::coord::ranged1d::Ranged;
use plotters::element::{PathElement, Rectangle};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::{Axis, Canvas, Drawn, Floor, Ink, Mark, Page, Plot, names_below, text};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Dot {
    pub(crate) value: f64,
    pub(crate) mark: Mark,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) ink: Ink,
    pub(crate) strong: bool,
    /// The first is the one that is written out, at the end of the row.
    pub(crate) dots: Vec<Dot>,
    /// A thin line from one value to the other.
    pub(crate) range: Option<(f64, f64)>,
    /// A bar from here to the first dot, instead of dots.
    pub(crate) bar_from: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) title: String,
    /// What the axis has.
    pub(crate) values: String,
    /// What is written out at the end of the rows.
    pub(crate) written: String,
    pub(crate) axis: Axis,
    pub(crate) rows: Vec<Row>,
    /// Down.
    pub(crate) floors: Vec<Floor>,
}

/// Where the rows are.
struct Plan {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    pitch: i32,
    /// From the top of a row to its text, and to its dots.
    to_text: i32,
    to_dots: i32,
}

impl Rows {
    fn plan(&self, page: Page) -> Plan {
        let labels = self.rows.iter().map(|row| page.text_width(&row.label, row.strong)).max().unwrap_or(0);
        let written = self.rows.iter().map(|row| page.text_width(&self.first(row), row.strong)).max().unwrap_or(0);
        let written = written.max(page.text_width(&self.written, false));
        // Above the rows: what is written out, and a line for each floor's name.
        let top = page.leading() * (1 + self.floors.len() as i32) + 6;
        let count = self.rows.len() as i32;
        match page {
            Page::Wide => {
                let (left, right, pitch) = (labels + 12, page.width() - written - 10, page.leading() + 4);
                let (to_text, to_dots) = (pitch / 2, pitch / 2);
                Plan { left, right, top, bottom: top + pitch * count, pitch, to_text, to_dots }
            }
            Page::Phone => {
                let (left, right, pitch) = (4, page.width() - 6, page.leading() * 2 + 2);
                let (to_text, to_dots) = (page.leading() / 2 + 2, page.leading() + 8);
                Plan { left, right, top, bottom: top + pitch * count, pitch, to_text, to_dots }
            }
        }
    }

    fn first(&self, row: &Row) -> String {
        row.dots.first().map_or_else(String::new, |dot| self.axis.write(dot.value))
    }

    fn draw_row(&self, canvas: &Canvas<'_>, row: &Row, y: i32, pixel: impl Fn(f64) -> Option<i32>) -> Drawn {
        if let (Some(from), Some(to)) =
            (row.bar_from.and_then(&pixel), row.dots.first().and_then(|dot| pixel(dot.value)))
        {
            let bar = [(from.min(to), y - 5), (from.max(to), y + 5)];
            return canvas.draw(&Rectangle::new(bar, row.ink.fill()));
        }
        if let Some((Some(from), Some(to))) = row.range.map(|(from, to)| (pixel(from), pixel(to))) {
            canvas.draw(&PathElement::new(vec![(from, y), (to, y)], row.ink.light().mix(0.6).stroke_width(1)))?;
        }
        // The first one lies upon the others.
        for (number, dot) in row.dots.iter().enumerate().rev() {
            if let Some(x) = pixel(dot.value) {
                let radius = if number == 0 { 4 } else { 3 };
                dot.mark.draw(canvas, (x, y), radius + i32::from(row.strong && number == 0), row.ink)?;
            }
        }
        Ok(())
    }
}

impl Plot for Rows {
    fn title(&self) -> &str {
        &self.title
    }

    fn is_empty(&self) -> bool {
        !self.rows.iter().any(|row| row.dots.iter().any(|dot| self.axis.holds(dot.value)))
    }

    fn height(&self, page: Page) -> i32 {
        self.plan(page).bottom + 2 * page.leading() + 8
    }

    fn draw(&self, page: Page, canvas: &Canvas<'_>) -> Drawn {
        let plan = self.plan(page);
        let at = |value: f64| self.axis.map(&value, (plan.left, plan.right));
        let pixel = |value: f64| self.axis.holds(value).then(|| at(value));
        let middle = page.leading() / 2;
        for (tick, _) in self.axis.ticks() {
            let x = at(*tick);
            canvas.draw(&PathElement::new(vec![(x, plan.top), (x, plan.bottom + 3)], Ink::Grid.line(1)))?;
        }
        let names = self.axis.ticks().iter().map(|(tick, name)| (at(*tick), name.as_str()));
        names_below(canvas, page, plan.bottom + middle + 5, names)?;
        let below = (plan.left + (plan.right - plan.left) / 2, plan.bottom + middle + page.leading() + 5);
        text(canvas, page, Ink::Quiet, below, HPos::Center, false, &self.values)?;
        text(canvas, page, Ink::Quiet, (page.width() - 2, plan.top - middle - 3), HPos::Right, false, &self.written)?;
        for (number, floor) in self.floors.iter().enumerate() {
            if let Some(x) = pixel(floor.value) {
                let y = middle + page.leading() * number as i32 + 1;
                canvas.draw(&PathElement::new(vec![(x, y), (x, plan.bottom)], Ink::Floor.line(1)))?;
                // Beside its line, on the side where there is room.
                let fits = x + 6 + page.text_width(&floor.text, false) <= page.width();
                let (x, side) = if fits { (x + 6, HPos::Left) } else { (x - 6, HPos::Right) };
                text(canvas, page, Ink::Floor, (x, y), side, false, &floor.text)?;
            }
        }
        for (number, row) in self.rows.iter().enumerate() {
            let top = plan.top + plan.pitch * number as i32;
            let y = top + plan.to_text;
            let (x, side) = if page == Page::Wide { (plan.left - 8, HPos::Right) } else { (plan.left, HPos::Left) };
            text(canvas, page, row.ink, (x, y), side, row.strong, &row.label)?;
            self.draw_row(canvas, row, top + plan.to_dots, pixel)?;
            text(canvas, page, Ink::Text, (page.width() - 2, y), HPos::Right, row.strong, &self.first(row))?;
        }
        Ok(())
    }
}
