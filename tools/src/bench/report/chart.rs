//! Line charts as SVG: axes, lines, points, marks. Not what they show.

use std::fmt::Write as _;

use super::escape;

/// Size of a chart and of the room around its plane, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 82.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;
/// Marks of a linear axis, about.
const TICKS: f64 = 5.0;
/// Points of a line; more are thinned.
const POINTS_MAX: usize = 600;

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// At even distances, from zero.
    Linear,
    /// By their logarithm.
    Log,
    /// Percentiles: 90, 99, 99.9 at even distances.
    Nines,
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) scale: Scale,
    /// How its numbers are written.
    pub(crate) label: fn(f64) -> String,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Class of its colour.
    pub(crate) class: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether each point is drawn, not only the line.
    pub(crate) is_dotted: bool,
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Places on the x axis with a word.
    pub(crate) marks: Vec<(f64, String)>,
}

/// An axis with its ends, in the numbers of its scale.
struct Span<'a> {
    axis: &'a Axis,
    from: f64,
    to: f64,
    /// Pixels of the ends.
    pixels: (f64, f64),
}

impl Axis {
    fn place(&self, number: f64) -> f64 {
        match self.scale {
            Scale::Linear => number,
            Scale::Log => number.max(1e-3).log10(),
            // The last is told as 99.9999.
            Scale::Nines => -(1.0 - number.min(99.9999) / 100.0).log10(),
        }
    }
}

impl Span<'_> {
    fn pixel(&self, number: f64) -> f64 {
        let share = (self.axis.place(number) - self.from) / (self.to - self.from);
        self.pixels.0 + share.clamp(0.0, 1.0) * (self.pixels.1 - self.pixels.0)
    }

    /// Returns the numbers that are written at the axis.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "powers of ten of numbers that are shown"
    )]
    fn ticks(&self) -> Vec<f64> {
        let is_within =
            |number: &f64| (self.from - 1e-9..=self.to + 1e-9).contains(&self.axis.place(*number));
        let all: Vec<f64> = match self.axis.scale {
            Scale::Linear => {
                let step = nice((self.to - self.from) / TICKS);
                (0..=12)
                    .map(|n| (self.from / step).ceil().mul_add(step, f64::from(n) * step))
                    .collect()
            }
            Scale::Log => {
                let (from, to) = (self.from.floor() as i32, self.to.ceil() as i32);
                let steps: &[f64] = match self.to - self.from {
                    ..1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
                    1.0..3.0 => &[1.0, 2.0, 5.0],
                    _ => &[1.0],
                };
                let decade = |power: i32| steps.iter().map(move |step| step * 10_f64.powi(power));
                (from..=to).flat_map(decade).collect()
            }
            Scale::Nines => vec![0.0, 90.0, 99.0, 99.9, 99.99, 99.999],
        };
        all.into_iter().filter(is_within).collect()
    }
}

/// Returns the round number nearest above.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| step <= factor * power);
    factor.unwrap_or(10.0) * power
}

impl Chart {
    /// Returns the chart as an SVG element.
    pub(crate) fn svg(&self) -> String {
        let x = self.span(&self.x, |point| point.0, (LEFT, WIDTH - RIGHT));
        let y = self.span(&self.y, |point| point.1, (HEIGHT - BOTTOM, TOP));
        let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
        grid(&mut out, &x, &y);
        for (at, word) in &self.marks {
            let at = x.pixel(*at);
            let word = escape(word);
            writeln!(
                out,
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
                 <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{word}</text>",
                HEIGHT - BOTTOM,
                at - 6.0,
                TOP + 12.0
            )
            .expect("a string takes all");
        }
        for series in &self.series {
            line(&mut out, series, (&x, &y));
        }
        out + "</svg>\n"
    }

    fn span<'a>(
        &self,
        axis: &'a Axis,
        pick: fn(&(f64, f64)) -> f64,
        pixels: (f64, f64),
    ) -> Span<'a> {
        let numbers = self
            .series
            .iter()
            .flat_map(|series| &series.points)
            .map(pick);
        let places: Vec<f64> = numbers
            .filter(|number| number.is_finite())
            .map(|number| axis.place(number))
            .collect();
        let least = places.iter().copied().fold(f64::INFINITY, f64::min);
        let most = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (from, to) = match (places.is_empty(), axis.scale) {
            (true, _) => (0.0, 1.0),
            (false, Scale::Linear) => (0.0, most * 1.05),
            (false, Scale::Log) => (least - 0.1, most + 0.1),
            (false, Scale::Nines) => (0.0, most),
        };
        Span {
            axis,
            from,
            to: to.max(from + 1e-6),
            pixels,
        }
    }
}

fn grid(out: &mut String, x: &Span<'_>, y: &Span<'_>) {
    let mut add = |text: String| out.push_str(&(text + "\n"));
    for tick in y.ticks() {
        let at = y.pixel(tick);
        add(format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        ));
        let label = escape(&(y.axis.label)(tick));
        add(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            at + 4.0
        ));
    }
    for tick in x.ticks() {
        let at = x.pixel(tick);
        let bottom = HEIGHT - BOTTOM;
        add(format!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        ));
        let label = escape(&(x.axis.label)(tick));
        add(format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0
        ));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let name = escape(&x.axis.name);
    add(format!(
        "<text class=\"axis\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
        HEIGHT - 6.0
    ));
    let name = escape(&y.axis.name);
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    add(format!(
        "<text class=\"axis\" transform=\"translate(12 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{name}</text>"
    ));
}

fn line(out: &mut String, series: &Series, (x, y): (&Span<'_>, &Span<'_>)) {
    let thin = series.points.len().div_ceil(POINTS_MAX).max(1);
    let points: Vec<(f64, f64)> = series
        .points
        .iter()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .step_by(thin)
        .map(|(px, py)| (x.pixel(*px), y.pixel(*py)))
        .collect();
    let path: Vec<String> = points
        .iter()
        .map(|(px, py)| format!("{px:.1},{py:.1}"))
        .collect();
    let class = &series.class;
    writeln!(
        out,
        "<polyline class=\"line {class}\" points=\"{}\"/>",
        path.join(" ")
    )
    .expect("a string takes all");
    if series.is_dotted || points.len() == 1 {
        for (px, py) in points {
            writeln!(
                out,
                "<circle class=\"dot {class}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\"/>"
            )
            .expect("a string takes all");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis {
            name: "a & b".to_owned(),
            scale,
            label: |number| format!("{number}"),
        }
    }

    fn span(axis: &Axis, from: f64, to: f64) -> Span<'_> {
        Span {
            axis,
            from,
            to,
            pixels: (0.0, 100.0),
        }
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(
            span(&axis(Scale::Linear), 0.0, 47.0).ticks(),
            [0.0, 10.0, 20.0, 30.0, 40.0]
        );
        assert_eq!(
            span(&axis(Scale::Log), 0.9, 4.2).ticks(),
            [10.0, 100.0, 1_000.0, 10_000.0]
        );
        assert_eq!(
            span(&axis(Scale::Log), 1.9, 3.1).ticks(),
            [100.0, 200.0, 500.0, 1_000.0]
        );
        assert_eq!(
            span(&axis(Scale::Log), 3.7, 4.1).ticks(),
            [6_000.0, 7_000.0, 8_000.0, 9_000.0, 10_000.0]
        );
        assert_eq!(
            span(&axis(Scale::Nines), 0.0, 3.0).ticks(),
            [0.0, 90.0, 99.0, 99.9]
        );
    }

    #[test]
    fn numbers_lie_within_the_plane() {
        let nines = axis(Scale::Nines);
        let span = span(&nines, 0.0, 3.0);
        assert!((span.pixel(90.0) - 100.0 / 3.0).abs() < 0.01);
        assert!((span.pixel(100.0) - 100.0).abs() < 0.01);
    }

    #[test]
    fn a_chart_is_drawn_from_any_points() {
        for points in [
            Vec::new(),
            vec![(0.0, 0.0)],
            vec![(f64::NAN, 1.0)],
            vec![(1.0, 2.0); 5_000],
        ] {
            let series = Series {
                name: "s".to_owned(),
                class: "c0".to_owned(),
                points,
                is_dotted: false,
            };
            let chart = Chart {
                x: axis(Scale::Linear),
                y: axis(Scale::Log),
                series: vec![series],
                marks: vec![(1.0, "<knee>".to_owned())],
            };
            let svg = chart.svg();
            assert!(
                svg.contains("a &amp; b") && svg.contains("&lt;knee&gt;"),
                "{svg}"
            );
            assert!(!svg.contains("NaN") && svg.len() < 40_000, "{svg}");
        }
    }
}
