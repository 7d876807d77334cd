//! Curves and bars as SVG, made here: no library, no script, and each says in words what it shows.

use maud::{Markup, html};

/// Width of a curve in its own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;
/// Half of the width of a dot.
const DOT: f64 = 4.0;
/// Points of a curve at most; more would be closer than a pixel.
const POINTS_MAX: usize = 400;

/// One line of a chart.
pub(in crate::console) struct Line<'a> {
    pub name: &'a str,
    /// The class that gives its colour: `a` to `d`.
    pub class: &'static str,
    /// Moment and value, oldest first.
    pub points: Vec<(u64, f64)>,
}

/// Curves over one time axis, with a legend and the largest value.
pub(in crate::console) fn curves(title: &str, lines: &[Line<'_>], number: impl Fn(f64) -> String) -> Markup {
    let all = || lines.iter().flat_map(|line| &line.points);
    let (from, to) = all().fold((u64::MAX, 0), |(from, to), (at, _)| (from.min(*at), to.max(*at)));
    let top = all().fold(0.0_f64, |top, (_, value)| top.max(*value));
    let last = |line: &Line<'_>| line.points.last().map_or(0.0, |(_, value)| *value);
    html! {
        figure.chart {
            figcaption {
                span.chart-title { (title) }
                span.legend {
                    @for line in lines {
                        span.key { svg.swatch.(line.class) viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" { rect width="10" height="10" rx="2" {} } (line.name) " " strong { (number(last(line))) } }
                    }
                }
            }
            svg.curve viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(describe(title, lines, &number)) {
                @for quarter in 1..4 {
                    line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 4.0 * f64::from(quarter)) y2=(HEIGHT / 4.0 * f64::from(quarter)) {}
                }
                @for line in lines {
                    @let (drawn, is_dot) = (points(&line.points, from, to, top), line.points.len() == 1);
                    polyline.(line.class).dot[is_dot] points=(drawn) {}
                }
            }
            div.axis aria-hidden="true" { span { "0 – " (number(top)) } }
        }
    }
}

fn describe(title: &str, lines: &[Line<'_>], number: &impl Fn(f64) -> String) -> String {
    let line = |line: &Line<'_>| {
        let (low, high) = line
            .points
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
        let low = if low == f64::MAX { 0.0 } else { low };
        format!("{}: {} – {}", line.name, number(low), number(high))
    };
    format!("{title}. {}", lines.iter().map(line).collect::<Vec<_>>().join("; "))
}

fn points(points: &[(u64, f64)], from: u64, to: u64, top: f64) -> String {
    let (span, top) = (to.saturating_sub(from).max(1) as f64, if top > 0.0 { top } else { 1.0 });
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let y = |value: &f64| HEIGHT - value / top * (HEIGHT - 4.0) - 2.0;
    let place = |(at, value): &(u64, f64)| {
        let x = at.saturating_sub(from) as f64 / span * WIDTH;
        format!("{x:.1},{:.1}", y(value))
    };
    if let [(at, value)] = points {
        // A line of no length is not drawn, and half of a dot at the edge would be cut off.
        let x = match to > from {
            true => (at.saturating_sub(from) as f64 / span * WIDTH).clamp(DOT, WIDTH - DOT),
            false => WIDTH / 2.0,
        };
        let y = y(value);
        return format!("{:.1},{y:.1} {:.1},{y:.1}", x - 0.5, x + 0.5);
    }
    points.iter().step_by(every).map(place).collect::<Vec<_>>().join(" ")
}

/// One part of a whole.
pub(in crate::console) struct Part {
    pub name: String,
    /// The class that gives its colour.
    pub class: &'static str,
    pub count: u64,
}

/// A bar of parts, with a legend that has the numbers.
pub(in crate::console) fn stacked(label: &str, parts: &[Part], number: impl Fn(u64) -> String) -> Markup {
    let all: u64 = parts.iter().map(|part| part.count).sum();
    let shown: Vec<_> = parts.iter().filter(|part| part.count > 0).collect();
    let describe =
        shown.iter().map(|part| format!("{} {}", part.name, number(part.count))).collect::<Vec<_>>();
    let place = |at: usize| {
        let before: u64 = shown.iter().take(at).map(|part| part.count).sum();
        before as f64 / all.max(1) as f64 * 1000.0
    };
    html! {
        div.stacked {
            svg.bar viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" aria-label={ (label) ": " (describe.join(", ")) } {
                rect.track width="1000" height="16" {}
                @for (at, part) in shown.iter().enumerate() {
                    @let width = part.count as f64 / all.max(1) as f64 * 1000.0;
                    rect.(part.class) x=(format!("{:.2}", place(at))) width=(format!("{width:.2}")) height="16" {}
                }
            }
            ul.legend aria-hidden="true" {
                @for part in &shown {
                    li.key { svg.swatch.(part.class) viewBox="0 0 10 10" width="10" height="10" { rect width="10" height="10" rx="2" {} } (part.name) " " strong { (number(part.count)) } }
                }
            }
        }
    }
}

/// A row of a list of bars: its share of the largest.
pub(in crate::console) fn bar(class: &'static str, count: u64, of: u64) -> Markup {
    let width = count as f64 / of.max(1) as f64 * 100.0;
    html! {
        svg.bar.thin viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="100" height="6" {}
            rect.(class) width=(format!("{width:.2}")) height="6" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fits_its_box_and_says_its_range() {
        let line =
            Line { name: "<online>", class: "a", points: vec![(1_000, 0.0), (2_000, 5.0), (3_000, 10.0)] };
        let made = curves("Online", &[line], |value| format!("{value:.0}")).into_string();
        assert!(made.contains("0.0,118.0 300.0,60.0 600.0,2.0"), "{made}");
        assert!(made.contains("Online. &lt;online&gt;: 0 – 10"), "{made}");
        let none = curves("Online", &[Line { name: "x", class: "a", points: vec![] }], |v| v.to_string());
        assert!(none.into_string().contains("points=\"\""));
    }

    #[test]
    fn one_point_is_a_dot_in_the_middle_or_where_it_lies_among_others() {
        let line = |points| Line { name: "x", class: "a", points };
        let draw = |lines: &[Line<'_>]| curves("Online", lines, |value| value.to_string()).into_string();
        let alone = draw(&[line(vec![(1_000, 5.0)])]);
        assert!(alone.contains("class=\"a dot\" points=\"299.5,2.0 300.5,2.0\""), "{alone}");
        let among = draw(&[line(vec![(1_000, 0.0), (2_000, 10.0)]), line(vec![(2_000, 0.0)])]);
        assert!(among.contains("class=\"a dot\" points=\"595.5,118.0 596.5,118.0\""), "{among}");
        assert_eq!(among.matches("dot").count(), 1, "{among}");
    }

    #[test]
    fn the_parts_of_a_bar_are_the_whole() {
        let part = |count| Part { name: format!("n{count}"), class: "good", count };
        let made = stacked("funnel", &[part(3), part(0), part(1)], |n| n.to_string()).into_string();
        assert!(
            made.contains("x=\"0.00\" width=\"750.00\"") && made.contains("x=\"750.00\" width=\"250.00\""),
            "{made}"
        );
        assert!(made.contains("funnel: n3 3, n1 1") && !made.contains("n0"), "{made}");
    }
}
