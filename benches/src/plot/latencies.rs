//! Latency by percentile, as lines.

use super::{Svg, WIDTH, colour, escaped};
use hdrhistogram::Histogram;
use std::fmt::Write;

const HEIGHT: f64 = 500.0;
/// Room for the axes' texts: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (90.0, 150.0, 40.0, 50.0);
/// The axis of percentiles ends with this many nines.
const NINES: f64 = 5.0;

/// A line of the plot: its name, and latencies in nanoseconds.
pub(crate) type Line<'a> = (&'a str, &'a Histogram<u64>);

/// A whole SVG document. The horizontal axis gives each further nine of the percentile the same room, the vertical one is
/// logarithmic.
pub(crate) fn latencies(title: &str, lines: &[Line<'_>]) -> String {
    let lines: Vec<Line<'_>> = lines.iter().copied().filter(|(_, histogram)| !histogram.is_empty()).collect();
    let exponent = |nanoseconds: u64| (nanoseconds.max(1) as f64).log10();
    let lowest = lines.iter().map(|(_, histogram)| exponent(histogram.min())).fold(f64::INFINITY, f64::min);
    let highest = lines.iter().map(|(_, histogram)| exponent(histogram.max())).fold(0.0, f64::max);
    let (from, to) =
        if lines.is_empty() { (3.0, 6.0) } else { (lowest.floor(), highest.ceil().max(lowest.floor() + 1.0)) };
    let scale = Scale { from, to };
    let mut svg = Svg::new(HEIGHT, MARGIN.0, title);
    scale.draw(&mut svg);
    for (number, (name, histogram)) in lines.iter().enumerate() {
        let colour = colour(number);
        let mut points = String::new();
        for value in histogram.iter_quantiles(10) {
            let nines = -(1.0 - value.quantile_iterated_to()).max(1e-9).log10();
            let nanoseconds = exponent(value.value_iterated_to());
            let (x, y) = (scale.x(nines.min(NINES)), scale.y(nanoseconds));
            write!(points, "{x:.1},{y:.1} ").expect("writing to memory works");
            if nines >= NINES {
                break;
            }
        }
        svg.append(format_args!("<polyline fill='none' stroke='{colour}' stroke-width='2' points='{points}'/>\n"));
        let (x, y) = (WIDTH - MARGIN.1 + 12.0, MARGIN.2 + 14.0 + 20.0 * number as f64);
        svg.append(format_args!("<text x='{x:.0}' y='{y:.0}' fill='{colour}'>{}</text>\n", escaped(name)));
    }
    svg.finish()
}

/// The exponents of ten, in nanoseconds, at the ends of the vertical axis.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    fn x(&self, nines: f64) -> f64 {
        MARGIN.0 + nines / NINES * (WIDTH - MARGIN.0 - MARGIN.1)
    }

    fn y(&self, exponent: f64) -> f64 {
        let share = (exponent - self.from) / (self.to - self.from);
        HEIGHT - MARGIN.3 - share * (HEIGHT - MARGIN.2 - MARGIN.3)
    }

    /// Both axes.
    fn draw(&self, svg: &mut Svg) {
        let (left, right, bottom) = (MARGIN.0, WIDTH - MARGIN.1, HEIGHT - MARGIN.3);
        for exponent in self.from as i32..=self.to as i32 {
            let y = self.y(exponent.into());
            svg.append(format_args!("<path d='M{left} {y:.1}H{right}' stroke='#ddd'/>\n"));
            let (x, y, text) = (left - 8.0, y + 4.0, unit(exponent));
            svg.append(format_args!("<text x='{x}' y='{y:.1}' text-anchor='end'>{text}</text>\n"));
        }
        for (nines, text) in ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"].iter().enumerate() {
            let (x, y) = (self.x(nines as f64), bottom + 22.0);
            svg.append(format_args!("<path d='M{x:.1} {}V{bottom}' stroke='#ddd'/>\n", MARGIN.2));
            svg.append(format_args!("<text x='{x:.1}' y='{y}' text-anchor='middle'>{text}</text>\n"));
        }
    }
}

/// 10 to this many nanoseconds.
fn unit(exponent: i32) -> String {
    let (unit, names) = ((exponent.div_euclid(3)).clamp(0, 3), ["ns", "µs", "ms", "s"]);
    format!("{} {}", 10f64.powi(exponent - 3 * unit), names[unit as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_lies_within_the_axes_and_rises() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=100_000u64).for_each(|value| histogram.record(value * 1000).unwrap());
        let svg = latencies("a < b", &[("one", &histogram), ("none", &Histogram::new(3).unwrap())]);
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<polyline").count(), 1, "an empty histogram has no line");
        let points = svg.split("points='").nth(1).unwrap().split('\'').next().unwrap();
        let points: Vec<(f64, f64)> = points
            .split_whitespace()
            .map(|point| point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert!(points.len() > 20);
        assert!(points.iter().all(|&(x, y)| (MARGIN.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y)));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
    }

    #[test]
    fn units_are_those_of_people() {
        assert_eq!([0, 3, 5, 6, 8, 9, 10].map(unit), ["1 ns", "1 µs", "100 µs", "1 ms", "100 ms", "1 s", "10 s"]);
        assert!(latencies("nothing", &[]).contains("1 ms"));
    }
}
