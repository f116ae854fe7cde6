//! What comes next, without taking it.

use crate::parser::short_number;

/// A GET begins like this, as clients send it.
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n";

/// The keys of the GETs that `input` begins with, if the clients have sent them in the usual form; ends at whatever is something
/// else, or not whole. It is a guess that a door may prepare for: nothing is checked against limits.
///
/// `input` begins where a request does. Cost: O(1) for each key.
pub fn peek_gets(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (head, body) = rest.split_at_checked(GET.len())?;
        if !head.eq_ignore_ascii_case(GET) {
            return None;
        }
        let (line, length) = short_number(b'$', body)?;
        let key = body.get(line + 2..)?;
        let (key, end) = key.split_at_checked(usize::try_from(length).ok()?)?;
        rest = end.strip_prefix(b"\r\n")?;
        Some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peeked(input: &[u8]) -> Vec<&[u8]> {
        peek_gets(input).collect()
    }

    #[test]
    fn gets_are_seen_until_something_else_comes() {
        let input =
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nget\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n";
        assert_eq!(peeked(input), [&b"a"[..], b"\r\n"]);
        assert_eq!(peeked(b"*2\r\n$3\r\nGET\r\n$1\r\nab"), [b""; 0], "the key does not end there");
        assert_eq!(peeked(b"GET a\r\n"), [b""; 0]);
    }

    #[test]
    fn what_is_not_whole_is_not_seen() {
        let input = b"*2\r\n$3\r\nGET\r\n$3\r\nabc\r\n";
        for length in 0..input.len() {
            assert_eq!(peeked(&input[..length]), [b""; 0], "{length}");
        }
        assert_eq!(peeked(input), [b"abc"]);
        assert_eq!(peeked(b"*2\r\n$3\r\nGET\r\n$99999999\r\nabc\r\n"), [b""; 0]);
    }
}
