//! Lines on stderr that change in place while something goes on. Where stderr is no terminal, or one that obeys nothing, there
//! are none.

use crate::is_dumb;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often lines change, at most, in times per second.
const REDRAWS_PER_SECOND: u8 = 10;
/// Of work whose end is known.
const WITH_TOTAL: &str = "{wide_bar} {percent:>3} %  {msg}  {eta} left";
/// Of work whose end nobody knows, and of what has a picture of its own.
const WITHOUT_TOTAL: &str = "{msg}";

/// A bar for this much work, or a line where it is not known how much there is.
pub(crate) fn bar(total: Option<u64>) -> ProgressBar {
    let target =
        if is_dumb() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND) };
    let template = if total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(total, target).with_style(style.progress_chars("━╸─"))
}

/// A number with marks between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_marked() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_templates_are_understood() {
        for template in [WITH_TOTAL, WITHOUT_TOTAL] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
