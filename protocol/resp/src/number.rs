//! Numbers as Redis reads and writes them: whole ones here, others in [`decimal`] and [`float`].

pub mod decimal;
pub mod float;

/// Most characters of a signed 64-bit number.
const DIGITS_MAX: usize = 20;

/// A whole number as Redis takes it: no blanks, no `+`, no leading zeros, no `-0`, within 64 bits.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let magnitude = match digits {
        [b'0'] if !is_negative => 0,
        [b'1'..=b'9', ..] if text.len() <= DIGITS_MAX => parse_digits(digits)?,
        _ => return None,
    };
    if is_negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// A cursor of SCAN: a number of 64 bits. Leading zeros are allowed, as Redis allows them here.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    if text.is_empty() { None } else { parse_digits(text) }
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The text of a whole number, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct IntegerText {
    bytes: [u8; DIGITS_MAX],
    start: u8,
}

impl IntegerText {
    /// Of `value`.
    pub fn of(value: i64) -> Self {
        let mut text = Self { bytes: [0; DIGITS_MAX], start: DIGITS_MAX as u8 };
        let mut left = value.unsigned_abs();
        loop {
            text.push(b'0' + (left % 10) as u8);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if value < 0 {
            text.push(b'-');
        }
        text
    }

    /// To the front of what is there.
    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[usize::from(self.start)] = byte;
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("99", Some(99)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("-99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("01", None),
            ("00", None),
            ("1.0", None),
            ("0x1", None),
            ("1\0", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn cursors_may_have_leading_zeros_but_no_sign() {
        for (text, expected) in
            [("0", Some(0)), ("007", Some(7)), ("18446744073709551615", Some(u64::MAX)), ("18446744073709551616", None)]
        {
            assert_eq!(parse_cursor(text.as_bytes()), expected, "{text:?}");
        }
        for text in ["", "-1", "+1", "x", "1 "] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64) {
            let text = IntegerText::of(value);
            prop_assert_eq!(String::from_utf8_lossy(text.as_bytes()), value.to_string());
            prop_assert_eq!(parse_integer(text.as_bytes()), Some(value));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[-+ 0-9]{0,22}") {
            if let Some(value) = parse_integer(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}
