//! Plots as SVG, written by hand: two kinds of axes, points with names and lines with a legend are all that is needed.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart also by those who see colours differently (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// One axis: what it shows, from where to where.
pub struct Axis {
    /// What it says.
    pub title: &'static str,
    /// The value at its beginning.
    pub from: f64,
    /// The value at its end.
    pub to: f64,
    /// Where it has marks.
    pub marks: &'static [f64],
    /// Whether equal steps are equal factors.
    pub is_logarithmic: bool,
}

impl Axis {
    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = value.clamp(self.from, self.to);
        if self.is_logarithmic {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        }
    }
}

/// A plot that is being drawn.
pub struct Plot {
    svg: String,
    x: Axis,
    y: Axis,
    lines: usize,
}

impl Plot {
    /// The frame with its axes.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        let mut plot = Self { svg: String::new(), x, y, lines: 0 };
        plot.put(&format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="15">{title}</text>"##
        ));
        plot.axes();
        plot
    }

    /// A point with its name.
    pub fn point(&mut self, name: &str, x: f64, y: f64, is_ours: bool) {
        let (x, y) = (self.across(x), self.down(y));
        let (colour, radius) = if is_ours { ("#d55e00", 6) } else { ("#0072b2", 4) };
        self.put(&format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{colour}"/>"#));
        self.put(&format!(r#"<text x="{:.1}" y="{:.1}">{name}</text>"#, x + 8.0, y + 4.0));
    }

    /// A line with its name in the legend.
    pub fn line(&mut self, name: &str, points: impl Iterator<Item = (f64, f64)>) {
        let colour = COLOURS.get(self.lines % COLOURS.len()).copied().unwrap_or("#000");
        let points: Vec<String> =
            points.map(|(x, y)| format!("{:.1},{:.1}", self.across(x), self.down(y))).collect();
        self.put(&format!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            points.join(" ")
        ));
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 10.0 + 20.0 * self.lines as f64);
        self.put(&format!(
            r#"<path d="M{x} {y}h22" stroke="{colour}" stroke-width="2"/><text x="{}" y="{}">{name}</text>"#,
            x + 28.0,
            y + 4.0
        ));
        self.lines += 1;
    }

    /// The whole file.
    pub fn finish(mut self) -> String {
        self.put("</svg>");
        self.svg
    }

    fn axes(&mut self) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in self.x.marks {
            let x = self.across(*mark);
            self.put(&format!(r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#ddd"/>"##));
            self.put(&format!(
                r#"<text x="{x:.1}" y="{}" text-anchor="middle">{mark}</text>"#,
                bottom + 18.0
            ));
        }
        for mark in self.y.marks {
            let y = self.down(*mark);
            self.put(&format!(r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#ddd"/>"##));
            self.put(&format!(
                r#"<text x="{}" y="{:.1}" text-anchor="end">{mark}</text>"#,
                LEFT - 8.0,
                y + 4.0
            ));
        }
        self.put(&format!(r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#555"/>"##));
        let (x_title, y_title, middle) = (self.x.title, self.y.title, (TOP + bottom) / 2.0);
        self.put(&format!(
            r#"<text x="{}" y="{}" text-anchor="middle">{x_title}</text>"#,
            (LEFT + right) / 2.0,
            HEIGHT - 12.0
        ));
        self.put(&format!(
            r#"<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{y_title}</text>"#
        ));
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
    }

    fn down(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM)
    }

    fn put(&mut self, element: &str) {
        let _ = writeln!(self.svg, "{element}"); // a String takes everything
    }
}
