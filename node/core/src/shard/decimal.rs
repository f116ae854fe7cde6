//! Sums of decimal numbers in text, as Redis' INCRBYFLOAT makes them.
//!
//! Redis adds in the processor's long double and prints 17 digits after the point, without zeros at the end. Here numbers below
//! 10^21 are added as decimals, with as many digits, so that sums are exact where Redis' show the binary form (`1000000.1` and
//! `0.1` are `1000000.2`), and the same on every machine. Larger ones are added as 64-bit floating point.

/// Digits after the point.
const PLACES: i64 = 17;
/// One, in units of the last place.
const ONE: i128 = 10_i128.pow(PLACES as u32);
/// Most digits of a number that is added as a decimal.
const DIGITS_MAX: i64 = 38;

/// Why there is no sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoSum {
    /// One of them is not a decimal number.
    NotADecimal,
    /// It would not be finite.
    NotFinite,
}

/// The sum of two numbers in text, as text: at most 310 bytes.
pub(super) fn add(left: &[u8], right: &[u8]) -> Result<String, NoSum> {
    let (left, right) = (parse(left)?, parse(right)?);
    if let (Number::Exact(left, _), Number::Exact(right, _)) = (&left, &right)
        && let Some(sum) = left.checked_add(*right)
    {
        return Ok(written(sum));
    }
    let sum = left.rounded() + right.rounded();
    if !sum.is_finite() {
        return Err(NoSum::NotFinite);
    }
    Ok(if sum == 0.0 { "0".into() } else { sum.to_string() })
}

enum Number<'a> {
    /// In units of the last place, and the text.
    Exact(i128, &'a str),
    Large(&'a str),
}

impl Number<'_> {
    fn rounded(&self) -> f64 {
        let (Self::Exact(_, text) | Self::Large(text)) = self;
        text.parse().unwrap_or(f64::INFINITY)
    }
}

/// An optional sign, digits with a point among them or without, and an exponent or none.
fn parse(text: &[u8]) -> Result<Number<'_>, NoSum> {
    let text = std::str::from_utf8(text).map_err(|_| NoSum::NotADecimal)?;
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Err(NoSum::NotFinite);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(NoSum::NotADecimal);
    }
    let zeros = whole.bytes().chain(fraction.bytes()).take_while(|byte| *byte == b'0').count();
    let digits = || whole.bytes().chain(fraction.bytes()).skip(zeros).map(|byte| i128::from(byte - b'0'));
    if digits().next().is_none() {
        return Ok(Number::Exact(0, text));
    }
    // Of the digits so many are kept; those behind are rounded, to even if they are just half of the last one.
    let kept = (whole.len() as i64 - zeros as i64).saturating_add(exponent).saturating_add(PLACES);
    if kept > DIGITS_MAX {
        return Ok(Number::Large(text));
    }
    let Ok(kept) = usize::try_from(kept) else { return Ok(Number::Exact(0, text)) };
    let units = digits().chain(std::iter::repeat(0)).take(kept).fold(0, |units, digit| units * 10 + digit);
    let mut behind = digits().skip(kept);
    let first = behind.next().unwrap_or(0);
    let is_more = first > 5 || (first == 5 && behind.any(|digit| digit > 0));
    let units = units + i128::from(is_more || (first == 5 && units % 2 == 1));
    Ok(Number::Exact(if negative { -units } else { units }, text))
}

/// An exponent; one that is past any number's counts as the largest.
fn parse_exponent(text: &str) -> Result<i64, NoSum> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoSum::NotADecimal);
    }
    let value = digits.bytes().fold(0_i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(1_000_000));
    Ok(if negative { -value } else { value })
}

fn written(units: i128) -> String {
    let (sign, units) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
    let (whole, fraction) = (units / ONE as u128, units % ONE as u128);
    let fraction = format!(".{fraction:017}");
    format!("{sign}{whole}{}", fraction.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(left: &str, right: &str) -> String {
        match add(left.as_bytes(), right.as_bytes()) {
            Ok(sum) => sum,
            Err(why) => format!("{why:?}"),
        }
    }

    /// Those of Redis' own tests, and where it prints a binary form.
    #[test]
    fn sums_are_written_as_redis_writes_them() {
        for (left, right, expected) in [
            ("0", "1", "1"),
            ("1", "0.25", "1.25"),
            ("1.5", "1.5", "3"),
            ("17179869184", "1.5", "17179869185.5"),
            ("17179869184", "17179869184", "34359738368"),
            ("1", "-1.1", "-0.1"),
            ("3", "1.1", "4.1"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1000000.1", "0.1", "1000000.2"),
            ("-0", "0", "0"),
            ("1", "-1", "0"),
            (".5", "5.", "5.5"),
            ("+1", "1e-17", "1.00000000000000001"),
            ("1", "1e-30", "1"),
            ("0", "5e-18", "0"),
            ("1e-17", "5e-18", "0.00000000000000001"),
            ("1e-17", "15e-18", "0.00000000000000003"),
            ("999999999999999999999", "1", "1000000000000000000000"),
            ("1e22", "1", "10000000000000000000000"),
            ("1e20", "-1e20", "0"),
            ("1e30", "-1e30", "0"),
            ("1e-999999999999999999999", "1", "1"),
        ] {
            assert_eq!(sum(left, right), expected, "{left} + {right}");
        }
        let third = "0.024390243902439025";
        assert_eq!(sum(&sum("0", third), &format!("-{third}")), "0", "no negative zero");
        assert_eq!(sum("1e300", "1e300").len(), 301);
    }

    #[test]
    fn what_is_no_number_and_what_is_not_finite_is_told_apart() {
        for bad in ["", "-", "+", ".", "e5", "1e", "1e+", " 1", "1 ", "0x10", "nan", "1.2.3", "--1", "1\0", "\u{661}"] {
            assert_eq!(sum(bad, "1"), "NotADecimal", "{bad:?}");
            assert_eq!(sum("1", bad), "NotADecimal", "{bad:?}");
        }
        for large in ["inf", "+inf", "-Infinity", "1e999", "1e999999999999999999999"] {
            assert_eq!(sum("0", large), "NotFinite", "{large:?}");
        }
        assert_eq!(sum("1.7e308", "1.7e308"), "NotFinite");
    }

    proptest! {
        #[test]
        fn sums_agree_with_floating_point_and_are_numbers_again(left in -1e15..1e15_f64, right in -1e15..1e15_f64) {
            let text = sum(&left.to_string(), &right.to_string());
            let value: f64 = text.parse().unwrap();
            prop_assert!((value - (left + right)).abs() <= (left.abs() + right.abs()) * f64::EPSILON + 1e-17, "{text}");
            prop_assert_eq!(sum(&text, "0"), text);
        }

        #[test]
        fn garbage_never_panics(left in proptest::collection::vec(any::<u8>(), 0..40), right in "[-+0-9.eE]{0,40}") {
            if let Ok(text) = add(&left, right.as_bytes()) {
                prop_assert!(text.len() <= 330, "{}", text);
            }
        }
    }
}
