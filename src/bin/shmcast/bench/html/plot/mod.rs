//! Plots, as SVG within the page.
//!
//! Each is drawn twice, once for a wide page and once for a phone: text that shrinks with its picture cannot be read on a phone. The page's
//! style sheet shows one of them. The SVG has the colours of the light theme; [`css`] gives the page's variables to each of these colours,
//! so that dark pages need no other picture.

mod axis;
mod lines;
mod rows;

use std::fmt::Write;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) use axis::Axis;
pub(super) use lines::{Lines, Point, Series};
pub(super) use rows::{Dot, Row, Rows};

/// Where plots are drawn: into a string, which never fails.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = DrawingAreaErrorKind<std::io::Error>;
pub(super) type Drawn = Result<(), Failed>;

/// A colour of the page, of which the plots know the light one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Paper,
    Text,
    Quiet,
    Grid,
    Ring,
    Floor,
    Pipe,
    Socket,
    Queue,
    Semaphore,
    Board,
    Signal,
    Eventfd,
    Worse,
}

impl Ink {
    /// Each with its variable in the style sheet, its light colour and its dark one. No two light ones are alike.
    const ALL: [(Ink, &str, u32, u32); 14] = [
        (Ink::Paper, "paper", 0xFFFFFF, 0x14181D),
        (Ink::Text, "text", 0x1D2430, 0xE6E9EE),
        (Ink::Quiet, "quiet", 0x5B6472, 0x9AA4B2),
        (Ink::Grid, "grid", 0xE3E7EC, 0x2B323B),
        (Ink::Ring, "ring", 0xC8420B, 0xFF9457),
        (Ink::Floor, "floor", 0x6B7280, 0x9CA3AF),
        (Ink::Pipe, "pipe", 0x2F7898, 0x6FB7D6),
        (Ink::Socket, "socket", 0x5563B5, 0x98A5EE),
        (Ink::Queue, "queue", 0x23806F, 0x62C2AE),
        (Ink::Semaphore, "semaphore", 0x84559B, 0xC69ADB),
        (Ink::Board, "board", 0x66705F, 0xAAB59F),
        (Ink::Signal, "signal", 0xA34D69, 0xE295AE),
        (Ink::Eventfd, "eventfd", 0x7D7127, 0xC9BB63),
        (Ink::Worse, "worse", 0x1D5FBF, 0x7DB1FF),
    ];

    fn row(self) -> &'static (Ink, &'static str, u32, u32) {
        // ALL is in the order of the variants; a test holds it so.
        &Ink::ALL[self as usize]
    }

    /// The variable's name in the style sheet.
    pub(super) fn name(self) -> &'static str {
        self.row().1
    }

    fn light(self) -> RGBColor {
        let [_, red, green, blue] = self.row().2.to_be_bytes();
        RGBColor(red, green, blue)
    }

    fn line(self, width: u32) -> ShapeStyle {
        self.light().stroke_width(width)
    }

    fn fill(self) -> ShapeStyle {
        self.light().filled()
    }
}

/// The variables of both themes, and the rules that colour the plots with them.
pub(super) fn css() -> String {
    let variables = |dark: bool| {
        Ink::ALL.iter().fold(String::new(), |mut all, (_, name, light, night)| {
            let _ = write!(all, "--{name}:#{:06X};", if dark { night } else { light });
            all
        })
    };
    let mut css = format!(
        ":root{{color-scheme:light dark;{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        variables(false),
        variables(true)
    );
    for (_, name, light, _) in Ink::ALL {
        for attribute in ["fill", "stroke"] {
            let _ = writeln!(css, ".plot [{attribute}=\"#{light:06X}\"]{{{attribute}:var(--{name})}}");
        }
    }
    css
}

/// A dashed line through a plot, with its name.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    pub(super) text: String,
    pub(super) value: f64,
}

/// How dense the line is that leads from the end of a series to its name; the style sheet makes dots of lines of this density.
const LEADER: f64 = 0.55;

/// What tells two series apart whose colours are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Disc,
    Square,
    Triangle,
    Diamond,
    Circle,
    Box,
    Cross,
    /// A short upright line.
    Tick,
}

impl Mark {
    /// Those of series, in the order in which they are given out.
    pub(super) const SERIES: [Mark; 7] =
        [Mark::Disc, Mark::Square, Mark::Triangle, Mark::Diamond, Mark::Circle, Mark::Box, Mark::Cross];

    fn draw(self, canvas: &Canvas<'_>, (x, y): (i32, i32), radius: i32, ink: Ink) -> Drawn {
        let r = radius;
        let around = |corners: [(i32, i32); 4]| corners.map(|(dx, dy)| (x + dx, y + dy)).to_vec();
        let square = [(x - r, y - r), (x + r, y + r)];
        match self {
            Mark::Disc => canvas.draw(&Circle::new((x, y), r, ink.fill())),
            Mark::Square => canvas.draw(&Rectangle::new(square, ink.fill())),
            Mark::Triangle => canvas.draw(&TriangleMarker::new((x, y), r + 1, ink.fill())),
            Mark::Diamond => {
                let r = r + 1;
                canvas.draw(&Polygon::new(around([(-r, 0), (0, -r), (r, 0), (0, r)]), ink.fill()))
            }
            Mark::Circle => {
                canvas.draw(&Circle::new((x, y), r, Ink::Paper.fill()))?;
                canvas.draw(&Circle::new((x, y), r, ink.line(2)))
            }
            Mark::Box => {
                canvas.draw(&Rectangle::new(square, Ink::Paper.fill()))?;
                canvas.draw(&Rectangle::new(square, ink.line(1)))
            }
            Mark::Cross => canvas.draw(&Cross::new((x, y), r, ink.line(2))),
            Mark::Tick => canvas.draw(&PathElement::new(vec![(x, y - r - 1), (x, y + r + 1)], ink.line(2))),
        }
    }
}

/// For which page a plot is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Wide,
    Phone,
}

impl Page {
    fn width(self) -> i32 {
        match self {
            Page::Wide => 960,
            Page::Phone => 360,
        }
    }

    /// Of the letters, in the picture's own units.
    fn letter(self) -> f64 {
        match self {
            Page::Wide => 13.0,
            Page::Phone => 11.0,
        }
    }

    /// From one line of text to the next.
    fn leading(self) -> i32 {
        match self {
            Page::Wide => 18,
            Page::Phone => 15,
        }
    }

    /// About so wide is a text. There is no font to ask; the letters of wide ones, such as DejaVu, are on the average as wide as this.
    fn text_width(self, text: &str, bold: bool) -> i32 {
        let letter = if bold { 0.66 } else { 0.62 };
        (text.chars().count() as f64 * self.letter() * letter).ceil() as i32
    }
}

/// Something that can be drawn on each page.
pub(super) trait Plot {
    /// What a screen reader says of it.
    fn title(&self) -> &str;
    /// There is nothing to draw.
    fn is_empty(&self) -> bool;
    fn height(&self, page: Page) -> i32;
    fn draw(&self, page: Page, canvas: &Canvas<'_>) -> Drawn;
}

/// Both pictures of a plot, one behind the other.
pub(super) fn svg(plot: &impl Plot) -> String {
    let mut both = String::new();
    for (page, class) in [(Page::Wide, "wide"), (Page::Phone, "phone")] {
        let (width, height) = (page.width(), plot.height(page));
        let mut picture = String::new();
        {
            let canvas = SVGBackend::with_string(&mut picture, (width as u32, height as u32)).into_drawing_area();
            plot.draw(page, &canvas).and_then(|()| canvas.present()).expect("a picture in memory is always drawn");
        }
        // Its own opening tag has a size in pixels, and a name space that HTML does not need.
        let inner = picture.split_once('>').map_or("", |(_, inner)| inner);
        // What the style sheet says, or what goes without saying, is half of the file; quotes within texts are escaped.
        let inner = inner.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "").replace(">\n", ">");
        let title = maud::html! { (plot.title()) }.into_string();
        let _ = write!(
            both,
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">{inner}"
        );
    }
    both
}

/// Text at a place: left, in the middle, or right of it, and in the middle of its height.
fn text(canvas: &Canvas<'_>, page: Page, ink: Ink, at: (i32, i32), side: HPos, bold: bool, text: &str) -> Drawn {
    // The backend divides sizes by this.
    let size = page.letter() * 1.24;
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = FontDesc::new(FontFamily::SansSerif, size, style);
    let style = font.color(&ink.light()).pos(Pos::new(side, VPos::Center));
    canvas.draw(&Text::new(text.to_owned(), at, style))
}

/// Names under a grid's lines, from the left to the right: those for which there is room.
fn names_below<'t>(canvas: &Canvas<'_>, page: Page, y: i32, names: impl Iterator<Item = (i32, &'t str)>) -> Drawn {
    let mut free = i32::MIN;
    for (x, name) in names {
        let half = page.text_width(name, false) / 2;
        // Those of lines at the edges begin, or end, there.
        let x = x.min(page.width() - half).max(half);
        if x - half >= free {
            text(canvas, page, Ink::Quiet, (x, y), HPos::Center, false, name)?;
            free = x + half + 2;
        }
    }
    Ok(())
}

/// Moves labels apart that would lie upon each other: at least `gap` between any two, within `from..=to`, each as near its own place as
/// that allows. `places` are ascending, and so is what comes back.
fn spread(places: &[i32], gap: i32, from: i32, to: i32) -> Vec<i32> {
    // Clusters of labels that touch: each lies with its middle at the mean of what its members want.
    struct Cluster {
        first: i32,
        wanted: i64,
        members: usize,
    }
    let mut clusters: Vec<Cluster> = Vec::new();
    for &place in places {
        let mut last = Cluster { first: place, wanted: i64::from(place), members: 1 };
        loop {
            let length = gap * (last.members as i32 - 1);
            let middle = (last.wanted / last.members as i64) as i32;
            last.first = (middle - length / 2).min(to - length).max(from);
            match clusters.pop() {
                Some(before) if before.first + gap * before.members as i32 > last.first => {
                    last = Cluster {
                        first: 0,
                        wanted: before.wanted + last.wanted,
                        members: before.members + last.members,
                    };
                }
                Some(before) => {
                    clusters.push(before);
                    break;
                }
                None => break,
            }
        }
        clusters.push(last);
    }
    clusters.iter().flat_map(|one| (0..one.members).map(move |number| one.first + gap * number as i32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_are_in_order_and_told_apart() {
        for (number, (ink, ..)) in Ink::ALL.iter().enumerate() {
            assert_eq!(*ink as usize, number);
        }
        let mut lights = Ink::ALL.map(|(_, _, light, _)| light);
        lights.sort_unstable();
        assert!(lights.windows(2).all(|two| two[0] != two[1]), "two inks have one light colour: {lights:06X?}");
    }

    /// WCAG's contrast of a colour with the page: 4.5 for letters.
    #[test]
    fn every_ink_of_letters_can_be_read() {
        let luminance = |colour: u32| {
            let [_, red, green, blue] = colour.to_be_bytes().map(|byte| {
                let part = f64::from(byte) / 255.0;
                if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let contrast = |one: f64, other: f64| (one.max(other) + 0.05) / (one.min(other) + 0.05);
        for (ink, name, light, dark) in Ink::ALL {
            if matches!(ink, Ink::Paper | Ink::Grid) {
                continue;
            }
            let (paper_light, paper_dark) = (Ink::Paper.row().2, Ink::Paper.row().3);
            let (by_day, by_night) =
                (contrast(luminance(light), luminance(paper_light)), contrast(luminance(dark), luminance(paper_dark)));
            assert!(by_day >= 4.5, "{name} by day: {by_day:.2}");
            assert!(by_night >= 4.5, "{name} by night: {by_night:.2}");
        }
    }

    #[test]
    fn labels_do_not_touch_and_stay_inside() {
        assert_eq!(spread(&[10, 50, 90], 10, 0, 100), [10, 50, 90]);
        assert_eq!(spread(&[50, 50, 50], 10, 0, 100), [40, 50, 60]);
        assert_eq!(spread(&[0, 0, 0], 10, 0, 100), [0, 10, 20]);
        assert_eq!(spread(&[100, 100], 10, 0, 100), [90, 100]);
        assert_eq!(spread(&[], 10, 0, 100), [0; 0]);
        for seed in 0..200_i32 {
            let mut places: Vec<i32> = (0..20).map(|number| (number * 37 + seed * 91) % 401).collect();
            places.sort_unstable();
            let labels = spread(&places, 15, 0, 400);
            assert_eq!(labels.len(), places.len());
            assert!(labels.windows(2).all(|two| two[1] - two[0] >= 15), "{places:?}: {labels:?}");
            assert!(labels.iter().all(|label| (0..=400).contains(label)), "{places:?}: {labels:?}");
        }
    }
}
