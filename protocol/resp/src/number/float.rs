//! Floats in replies: the shortest text that is read as the same float, in the form that Redis gives it.

/// The text of a float: `inf`, `-inf`, `nan`, a whole number without a point, or else the fewest digits.
pub fn float_text(value: f64) -> String {
    /// Whole numbers up to here are written as such.
    const WHOLE_MAX: f64 = (1u64 << 52) as f64;
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // Rust writes `-0` as Redis does.
    if value == value.trunc() && value.abs() <= WHOLE_MAX {
        return format!("{value}");
    }
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|character| *character != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", placed(&digits, exponent))
}

/// Digits whose first one counts `10^exponent`.
fn placed(digits: &str, exponent: i32) -> String {
    let count = digits.len() as i32;
    // The exponent of the last digit.
    let last = exponent - (count - 1);
    if last >= 0 && exponent < count + 7 {
        return format!("{digits}{}", "0".repeat(last as usize));
    }
    if last < 0 && (last > -7 || exponent.abs() < 4) {
        return match usize::try_from(exponent) {
            Ok(whole) => format!("{}.{}", &digits[..=whole], &digits[whole + 1..]),
            Err(_) => format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        };
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}e{sign}{}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_are_written_as_redis_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (2.625, "2.625"),
            (-1.5, "-1.5"),
            (1e-7, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (0.000123, "0.000123"),
            (1e20, "1e+20"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float_text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn floats_survive(bits: u64) {
            let value = f64::from_bits(bits);
            let read: f64 = float_text(value).parse().unwrap();
            prop_assert!(read == value || value.is_nan() && read.is_nan());
        }
    }
}
