//! A plot of losses over steps, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 480.0;
/// Space around the axes: left, right, above, below.
const MARGINS: [f64; 4] = [64.0, 24.0, 48.0, 48.0];

/// A line of a plot.
pub struct Curve<'a> {
    /// What it is.
    pub name: &'a str,
    /// As CSS has it.
    pub colour: &'a str,
    /// How thick it is.
    pub width: f64,
    /// Points by step. What is not finite is left out.
    pub points: &'a [(u64, f64)],
}

/// The text of an SVG file with some curves.
#[must_use]
pub fn plot(title: &str, curves: &[Curve<'_>]) -> String {
    let points = || curves.iter().flat_map(|curve| finite(curve.points));
    let x = Axis::over(points().map(|(x, _)| x), WIDTH / 100.0);
    let y = Axis::over(points().map(|(_, y)| y), HEIGHT / 60.0);
    let [left, right, above, below] = MARGINS;
    let at_x = |value: f64| left + x.share(value) * (WIDTH - left - right);
    let at_y = |value: f64| HEIGHT - below - y.share(value) * (HEIGHT - above - below);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"26\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    for value in y.ticks() {
        let at = at_y(value);
        let (end, text) = (WIDTH - right, left - 8.0);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            at + 4.0,
            y.label(value)
        );
    }
    for value in x.ticks() {
        let (at, text) = (at_x(value), HEIGHT - below + 20.0);
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{text}\" text-anchor=\"middle\">{}</text>",
            x.label(value)
        );
    }
    let _ =
        writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">step</text>", WIDTH - right, HEIGHT - 8.0);
    for (number, curve) in curves.iter().enumerate() {
        let points = finite(curve.points).map(|(x, y)| format!("{:.1},{:.1}", at_x(x), at_y(y)));
        let points: Vec<_> = points.collect();
        let (colour, width) = (escaped(curve.colour), curve.width);
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        );
        let text = WIDTH - right - 130.0 * (curves.len() - number) as f64;
        let _ = writeln!(
            out,
            "<path d=\"M{text} 22h24\" stroke=\"{colour}\" stroke-width=\"{width}\"/><text x=\"{}\" y=\"26\">{}</text>",
            text + 30.0,
            escaped(curve.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The mean of values so far, in which each later step counts a tenth less: as torch's and TensorBoard's smoothing.
#[must_use]
pub fn smoothed(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut mean = Smoothed::default();
    points.iter().map(|&(step, value)| (step, mean.next(value))).collect()
}

/// A running mean, corrected at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Smoothed {
    sum: f64,
    weight: f64,
}

impl Smoothed {
    /// The mean with one value more.
    pub fn next(&mut self, value: f64) -> f64 {
        const KEPT: f64 = 0.9;
        self.sum = KEPT * self.sum + (1.0 - KEPT) * value;
        self.weight = KEPT * self.weight + (1.0 - KEPT);
        self.sum / self.weight
    }
}

fn finite(points: &[(u64, f64)]) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
    points.iter().filter(|(_, y)| y.is_finite()).map(|&(x, y)| (x as f64, y))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// A range of values with marks at round ones.
struct Axis {
    first: f64,
    last: f64,
    /// Between marks: 1, 2 or 5 times a power of ten.
    step: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, marks: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high {
            (low, high)
        } else if low.is_finite() {
            (low - 0.5, low + 0.5)
        } else {
            (0.0, 1.0)
        };
        let rough = (high - low) / marks;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough);
        Axis { first: (low / step).floor() * step, last: (high / step).ceil() * step, step }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.first) / (self.last - self.first)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.last - self.first) / self.step).round() as usize;
        (0..=count).map(|n| self.first + n as f64 * self.step)
    }

    fn label(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        format!("{value:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_points_make_a_plot() {
        let many: Vec<_> = (1..500).map(|step| (step, 3.0 / step as f64)).collect();
        let with_nan = [(1, f64::NAN), (2, 1.0), (3, f64::INFINITY)];
        for points in [&many[..], &many[..1], &with_nan, &[]] {
            let curve = Curve { name: "loss", colour: "#07c", width: 1.0, points };
            let svg = plot("a < b", &[curve]);
            assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn marks_are_round() {
        let axis = Axis::over([0.31, 4.2].into_iter(), 8.0);
        let labels: Vec<_> = axis.ticks().map(|value| axis.label(value)).collect();
        assert_eq!(labels, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5"]);
    }

    #[test]
    fn the_first_value_is_its_own_mean() {
        assert_eq!(smoothed(&[(1, 4.0)]), [(1, 4.0)]);
        let mean = smoothed(&[(1, 4.0), (2, 2.0)])[1].1;
        assert!((mean - (0.9 * 4.0 + 2.0) / 1.9).abs() < 1e-12);
    }
}
