//! Decimal numbers for INCRBYFLOAT.
//!
//! Redis adds in C's `long double`, and prints 17 digits behind the point. Here sums are exact, and then rounded to the same 17
//! digits. So results agree where 64 bits of a mantissa hold both numbers, as they do for what people type. What differs:
//!
//! - A result of more than 19 digits is exact here; Redis prints what its mantissa made of it.
//! - The range is that of a 64-bit float: up to 1.8e308, down to 4.9e-324. Redis' goes to 1.2e4932.
//! - Hexadecimal floats, such as `0x1p3`, are no numbers here.

/// Longest text that is read as a number, as in Redis.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// Digits behind the point that a result keeps.
const FRACTION_DIGITS_MAX: usize = 17;

/// A decimal number, or an infinite one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// `inf` or `-inf`: read, but no result is infinite.
    Infinite,
    /// A number.
    Finite(Finite),
}

/// A finite decimal number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finite {
    is_negative: bool,
    /// Values of the digits, the lowest first; the last one is not 0.
    digits: Vec<u8>,
    /// How many of the digits are behind the point.
    scale: usize,
}

impl Decimal {
    /// A number as C's `strtold` takes it: a sign, digits with a point, an exponent, `inf` or `infinity`. No blanks.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let about: f64 = text.parse().ok()?;
        let has_digits = text.bytes().any(|byte| byte.is_ascii_digit());
        if about.is_nan() || about.is_infinite() && has_digits {
            return None;
        }
        if about.is_infinite() {
            return Some(Self::Infinite);
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (is_negative, mantissa) = match mantissa.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let mut digits: Vec<u8> = mantissa.iter().filter(|byte| **byte != b'.').map(|byte| byte - b'0').collect();
        digits.reverse();
        if digits.iter().all(|digit| *digit == 0) {
            return Some(Self::Finite(Finite::zero()));
        }
        // Nearer to 0 than a float can be.
        if about == 0.0 {
            return None;
        }
        let fraction = mantissa.iter().position(|byte| *byte == b'.').map_or(0, |point| mantissa.len() - point - 1);
        // The number is a float, neither 0 nor infinite, so its exponent is bounded by its digits and a float's range.
        let scale = i64::try_from(fraction).ok()? - exponent.parse::<i64>().ok()?;
        if scale < 0 {
            digits.splice(0..0, std::iter::repeat_n(0, usize::try_from(-scale).ok()?));
        }
        Some(Self::Finite(Finite { is_negative, digits, scale: usize::try_from(scale).unwrap_or(0) }.trimmed()))
    }

    /// The sum, exact; nothing if it is not finite.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let (Self::Finite(left), Self::Finite(right)) = (self, other) else { return None };
        let sum = left.plus(right);
        sum.to_text().parse::<f64>().is_ok_and(f64::is_finite).then_some(Self::Finite(sum))
    }

    /// The text that INCRBYFLOAT stores and answers: without exponent, 17 digits behind the point at most (a half goes to the even
    /// digit), no trailing zeros, no `-0`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Infinite => "inf".to_owned(),
            Self::Finite(finite) => finite.to_text(),
        }
    }
}

impl Finite {
    fn zero() -> Self {
        Self { is_negative: false, digits: Vec::new(), scale: 0 }
    }

    fn trimmed(mut self) -> Self {
        let used = self.digits.iter().rposition(|digit| *digit != 0).map_or(0, |highest| highest + 1);
        self.digits.truncate(used);
        if used == 0 { Self::zero() } else { self }
    }

    /// The digits with `scale` of them behind the point; not fewer than there are.
    fn scaled(&self, scale: usize) -> Vec<u8> {
        let mut digits = vec![0; scale - self.scale];
        digits.extend_from_slice(&self.digits);
        digits
    }

    fn plus(&self, other: &Self) -> Self {
        let scale = self.scale.max(other.scale);
        let (left, right) = (self.scaled(scale), other.scaled(scale));
        if self.is_negative == other.is_negative {
            return Self { is_negative: self.is_negative, digits: sum(&left, &right), scale }.trimmed();
        }
        let (is_negative, digits) = if is_less(&left, &right) {
            (other.is_negative, difference(&right, &left))
        } else {
            (self.is_negative, difference(&left, &right))
        };
        Self { is_negative, digits, scale }.trimmed()
    }

    /// With [`FRACTION_DIGITS_MAX`] digits behind the point at most; a half goes to the even digit.
    fn rounded(&self) -> Self {
        let Some(dropped) = self.scale.checked_sub(FRACTION_DIGITS_MAX).filter(|dropped| *dropped > 0) else {
            return self.clone();
        };
        let cut = dropped.min(self.digits.len());
        let (tail, kept) = self.digits.split_at(cut);
        // The tail has the digits that are dropped, but for zeros above its last.
        let first = if cut == dropped { tail[cut - 1] } else { 0 };
        let is_more = tail[..cut.saturating_sub(1)].iter().any(|digit| *digit != 0);
        let is_odd = kept.first().is_some_and(|digit| digit % 2 == 1);
        let is_up = first > 5 || first == 5 && (is_more || is_odd);
        let digits = if is_up { sum(kept, &[1]) } else { kept.to_vec() };
        Self { is_negative: self.is_negative, digits, scale: FRACTION_DIGITS_MAX }.trimmed()
    }

    fn to_text(&self) -> String {
        let rounded = self.rounded();
        let fraction_zeros = rounded.digits.iter().take_while(|digit| **digit == 0).count().min(rounded.scale);
        let mut text = String::with_capacity(rounded.digits.len() + rounded.scale + 3);
        if rounded.is_negative {
            text.push('-');
        }
        let highest = rounded.digits.len().max(rounded.scale + 1);
        for place in (fraction_zeros..highest).rev() {
            if place + 1 == rounded.scale {
                text.push('.');
            }
            text.push(char::from(b'0' + rounded.digits.get(place).copied().unwrap_or(0)));
        }
        text
    }
}

/// Both lowest digit first.
fn sum(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut digits = Vec::with_capacity(left.len().max(right.len()) + 1);
    let mut carry = 0;
    for place in 0..left.len().max(right.len()) {
        let digit = left.get(place).unwrap_or(&0) + right.get(place).unwrap_or(&0) + carry;
        digits.push(digit % 10);
        carry = digit / 10;
    }
    digits.push(carry);
    digits
}

/// `left` is not less than `right`.
fn difference(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let minus = |(place, digit): (usize, &u8)| {
        let taken = right.get(place).unwrap_or(&0) + borrow;
        borrow = u8::from(*digit < taken);
        digit + 10 * borrow - taken
    };
    left.iter().enumerate().map(minus).collect()
}

fn is_less(left: &[u8], right: &[u8]) -> bool {
    let digit = |digits: &[u8], place: usize| digits.get(place).copied().unwrap_or(0);
    let places = (0..left.len().max(right.len())).rev();
    places
        .map(|place| digit(left, place).cmp(&digit(right, place)))
        .find(|order| order.is_ne())
        .is_some_and(|order| order.is_lt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Option<String> {
        Decimal::parse(text.as_bytes()).map(|decimal| decimal.to_text())
    }

    fn sum_of(left: &str, right: &str) -> Option<String> {
        let (left, right) = (Decimal::parse(left.as_bytes()).unwrap(), Decimal::parse(right.as_bytes()).unwrap());
        left.checked_add(&right).map(|sum| sum.to_text())
    }

    #[test]
    fn numbers_are_read_as_strtold_reads_them() {
        for (number, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("+1.50", "1.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("007", "7"),
            ("3.0e3", "3000"),
            ("1E-3", "0.001"),
            ("123e-2", "1.23"),
            ("0e999999999999999999999999", "0"),
            ("inf", "inf"),
            ("-Infinity", "inf"),
            ("1e-18", "0"),
            ("5e-18", "0"),
            ("6e-18", "0.00000000000000001"),
            ("1.000000000000000005", "1"),
            ("1.000000000000000015", "1.00000000000000002"),
            ("0.999999999999999999", "1"),
        ] {
            assert_eq!(text(number).as_deref(), Some(expected), "{number:?}");
        }
        let long = "1".repeat(TEXT_BYTES_MAX + 1);
        let none = ["", " 1", "1 ", "1e", "e1", ".", "-", "abc", "nan", "1e400", "1e-400", "1_0", "1\0", "0x", &long];
        for number in none {
            assert_eq!(text(number), None, "{number:?}");
        }
    }

    #[test]
    fn sums_are_those_that_redis_documents() {
        for (left, right, expected) in [
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("1", "0.25", "1.25"),
            ("17179869184", "1.5", "17179869185.5"),
            ("17179869184", "17179869184", "34359738368"),
            ("1", "-1", "0"),
            ("-1", "0.5", "-0.5"),
            ("0.02439024390243902", "-0.02439024390243902", "0"),
            ("99.9", "0.1", "100"),
            ("12345678901234567890123", "0.5", "12345678901234567890123.5"),
        ] {
            assert_eq!(sum_of(left, right).as_deref(), Some(expected), "{left} + {right}");
        }
        for (left, right) in [("1", "inf"), ("-inf", "inf"), ("1.7e308", "1.7e308")] {
            assert_eq!(sum_of(left, right), None, "{left} + {right}");
        }
    }

    proptest! {
        #[test]
        fn sums_agree_with_whole_numbers(left in -1i64 << 60..1 << 60, right in -1i64 << 60..1 << 60, shift in 0u32..17) {
            let scale = format!("e-{shift}");
            let sum = sum_of(&format!("{left}{scale}"), &format!("{right}{scale}")).unwrap();
            let total = i128::from(left) + i128::from(right);
            prop_assert_eq!(sum, text(&format!("{total}{scale}")).unwrap());
        }

        #[test]
        fn what_is_written_is_read_as_the_same(whole: i32, fraction in 0u64..100_000_000_000_000_000) {
            let decimal = Decimal::parse(format!("{whole}.{fraction:017}").as_bytes()).unwrap();
            let written = decimal.to_text();
            prop_assert_eq!(Decimal::parse(written.as_bytes()).unwrap().to_text(), written);
        }

        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            let _ = Decimal::parse(&text);
        }
    }
}
