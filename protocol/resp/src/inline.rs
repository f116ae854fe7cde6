//! Inline commands: a line of words, as somebody types it into a terminal.

use crate::request::Span;

/// A quote that does not end, or that a word follows without a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnbalancedQuotes;

/// Splits a line into words. The words' bytes are added to `text`, their places in it to `spans`.
///
/// Blanks part words. Between `"` there are the escapes `\n \r \t \b \a \xhh`, and `\` before any other byte stands for that
/// byte. Between `'` there is `\'` only. A quote may begin inside a word and must end it. A zero byte ends the line.
pub(crate) fn split(line: &[u8], text: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), UnbalancedQuotes> {
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(());
        }
        let start = text.len();
        rest = word(rest, text)?;
        spans.push(Span::new(start, text.len() - start));
    }
}

/// Takes one word off the front of `rest`, and gives what is behind it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', quoted @ ..] => return ended(double_quoted(quoted, text)?),
            [b'\'', quoted @ ..] => return ended(single_quoted(quoted, text)?),
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
}

/// What follows the closing quote must be a blank or nothing.
fn ended(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest {
        [] => Ok(rest),
        [byte, ..] if is_blank(*byte) => Ok(rest),
        _ => Err(UnbalancedQuotes),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescaped(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// Whether C's `isspace` holds.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        split(line, &mut text, &mut spans)?;
        Ok(spans.iter().map(|span| text[span.start as usize..][..span.length as usize].to_vec()).collect())
    }

    #[test]
    fn words_are_split_as_redis_does() {
        for (line, expected) in [
            (&b""[..], &[][..]),
            (b"  \t ", &[]),
            (b"PING", &[&b"PING"[..]]),
            (b" set  k v ", &[b"set", b"k", b"v"]),
            (br#"set k "a b""#, &[b"set", b"k", b"a b"]),
            (br#"set k "" ''"#, &[b"set", b"k", b"", b""]),
            (br#""\x41\xfF\n\r\t\b\a\"\\\q\xg1""#, &[b"A\xff\n\r\t\x08\x07\"\\qxg1"]),
            (br"'a\'b\n'", &[br"a'b\n"]),
            (br#"pre"fix ed""#, &[b"prefix ed"]),
            (b"a\0b c", &[b"a"]),
            (b"\x0bk\x0bv", &[b"k\x0bv"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn quotes_must_end_and_end_the_word() {
        for line in [&br#"a "b"#[..], br"a 'b", br#""a"b"#, br"'a'b", br#""a\"#, br#""a\""#, b"\"a\0\""] {
            assert_eq!(words(line), Err(UnbalancedQuotes), "{}", String::from_utf8_lossy(line));
        }
    }
}
