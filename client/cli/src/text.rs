//! How bytes, times and sizes look to people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// Bytes as they may be shown on a terminal: as they are if they are plain text, else quoted and escaped so that they can be
/// typed back. Nothing that a terminal would obey gets through.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && is_plain(text) => text.to_owned(),
        _ => quoted(bytes),
    }
}

fn is_plain(text: &str) -> bool {
    let trimmed = text.trim() == text;
    trimmed && !text.starts_with(['"', '\'', '#']) && !text.chars().any(|letter| is_obeyed(letter) || letter == '\\')
}

/// Bytes as one word of a command line, which reads them back: bare where that is the same.
pub(crate) fn word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && is_plain(text) && !text.contains(breaks_a_word) => text.to_owned(),
        _ => quoted(bytes),
    }
}

fn breaks_a_word(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '\'')
}

/// Whether a terminal does something with a character instead of showing it: controls, those that turn the direction of
/// writing, and those that take no room at all. Each can make a text look like another.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}')
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes in double quotes, with escapes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                letter if is_obeyed(letter) => {
                    letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(&mut out, byte));
                }
                letter => out.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut out, *byte));
    }
    out.push('"');
    out
}

/// A text in one line, with nothing that a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            letter if is_obeyed(letter) => {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(&mut out, byte));
            }
            letter => out.push(letter),
        }
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("writing to a string can't fail");
}

/// A span of time in its two largest units, or with one decimal below a minute.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        0 if span.as_micros() < 10_000 => format!("{:.2} ms", span.as_secs_f64() * 1e3),
        0 => format!("{:.0} ms", span.as_secs_f64() * 1e3),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A size in bytes, in binary units.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span of time as people type it: `10s`, `500ms`, `2h`, `1d`; a bare number means seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" | "sec" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::split;
    use proptest::prelude::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        for (bytes, shown) in [
            (&b"hello world"[..], "hello world"),
            ("größe".as_bytes(), "größe"),
            (b"", "\"\""),
            (b" padded", "\" padded\""),
            (b"two\nlines", "\"two\\nlines\""),
            (b"\x1b[31mred", "\"\\x1b[31mred\""),
            (b"\xff\x00", "\"\\xff\\x00\""),
            ("\u{9b}".as_bytes(), "\"\\xc2\\x9b\""),
            (b"C:\\path", "\"C:\\\\path\""),
            (b"say \"hi\"", "say \"hi\""),
            ("\u{feff}PUT".as_bytes(), "\"\\xef\\xbb\\xbfPUT\""),
        ] {
            assert_eq!(printable(bytes), shown);
        }
    }

    #[test]
    fn a_key_is_shown_as_it_is_typed() {
        for (bytes, shown) in [
            (&b"user:7"[..], "user:7"),
            (b"{tag}.x#1", "{tag}.x#1"),
            (b"a b", "\"a b\""),
            (b"quo\"te", "\"quo\\\"te\""),
            (b"it's", "\"it's\""),
            (b"#1", "\"#1\""),
            (b"", "\"\""),
        ] {
            assert_eq!(word(bytes), shown);
        }
    }

    proptest! {
        #[test]
        fn a_word_reads_back(bytes: Vec<u8>, text: String) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let words = split(&word(bytes)).unwrap();
                prop_assert_eq!(words.len(), 1);
                prop_assert_eq!(&words[0].bytes, bytes);
            }
        }

        #[test]
        fn what_is_shown_quoted_can_be_typed_back(bytes: Vec<u8>) {
            let words = split(&quoted(&bytes)).unwrap();
            prop_assert_eq!(&words[0].bytes, &bytes);
        }
    }

    #[test]
    fn spans_and_sizes_are_short() {
        let shown = [40, 12_000, 900_000, 9_300_000, 60_000_000, 3_723_000_000, 90_000_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.04 ms", "12 ms", "900 ms", "9.3 s", "1m", "1h 2m", "1d 1h"]);
        assert_eq!(
            [0, 1023, 1024, 1_048_575, 67_108_864].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "64.0 MiB"]
        );
    }

    #[test]
    fn spans_are_read_with_and_without_a_unit() {
        let ms = |text: &str| parse_duration(text).map(|span| span.as_millis());
        assert_eq!(
            ["10s", "500ms", "2h", "1M", "3", "1d"].map(ms),
            [Some(10_000), Some(500), Some(7_200_000), Some(60_000), Some(3000), Some(86_400_000)]
        );
        assert_eq!(["", "s", "-1s", "1.5s", "10 s", "99999999999999999999s"].map(ms), [None; 6]);
    }
}
