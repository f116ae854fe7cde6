//! Plots as SVG, drawn by hand: a few lines and texts need no library.

mod bars;
mod latencies;

pub(crate) use bars::{Bar, Group, bars};
pub(crate) use latencies::latencies;

use std::fmt::{Arguments, Write};

const WIDTH: f64 = 900.0;
/// Told apart also by those who see few colours.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// The colour of the line or bar of this number.
fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A document in the making.
struct Svg(String);

impl Svg {
    /// A white page with a title that begins at `left`.
    fn new(height: f64, left: f64, title: &str) -> Self {
        let mut svg = Self(String::new());
        svg.append(format_args!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' \
             font-size='13'>\n<rect width='100%' height='100%' fill='white'/>\n\
             <text x='{left}' y='24' font-size='15'>{}</text>\n",
            escaped(title)
        ));
        svg
    }

    fn append(&mut self, text: Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to memory works");
    }

    /// The whole document.
    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
