//! Patterns of KEYS, SCAN and CONFIG GET.

/// What one place of a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// Any byte.
    Any,
    /// Any bytes, also none.
    Star,
    /// A byte of a class: the number of it.
    Class(usize),
}

/// A set of bytes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Class([u64; 4]);

impl Class {
    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn holds(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }

    fn invert(&mut self) {
        self.0.iter_mut().for_each(|bits| *bits = !*bits);
    }
}

/// A pattern, taken apart once for many keys: `*` any bytes, `?` one byte, `[a-c]` or `[^a-c]` a class, `\` before a byte that
/// stands for itself. The oddities are those of Redis: a class may lack its `]`, a range may be written backwards, and a `\` at
/// the end stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    classes: Vec<Class>,
    /// Bytes that a match has at least.
    bytes_min: usize,
    ignores_case: bool,
}

/// A match took more steps than its caller gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSteps;

impl Pattern {
    /// Of a pattern's text. With `ignores_case`, letters of ASCII match in both cases.
    pub fn new(text: &[u8], ignores_case: bool) -> Self {
        let mut pattern = Self { tokens: Vec::new(), classes: Vec::new(), bytes_min: 0, ignores_case };
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let token = match first {
                b'*' if pattern.tokens.last() == Some(&Token::Star) => continue,
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => {
                    rest = pattern.class(after);
                    Token::Class(pattern.classes.len() - 1)
                }
                b'\\' if !after.is_empty() => {
                    rest = &after[1..];
                    Token::Byte(pattern.folded(after[0]))
                }
                byte => Token::Byte(pattern.folded(*byte)),
            };
            pattern.bytes_min += usize::from(token != Token::Star);
            pattern.tokens.push(token);
        }
        pattern
    }

    fn folded(&self, byte: u8) -> u8 {
        if self.ignores_case { byte.to_ascii_lowercase() } else { byte }
    }

    /// Adds the class that `rest` begins with, behind its `[`. Gives what is behind it.
    fn class<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let mut class = Class::default();
        let (is_inverted, mut rest) = match rest {
            [b'^', after @ ..] => (true, after),
            all => (false, all),
        };
        loop {
            rest = match rest {
                [] => break,
                [b'\\', byte, after @ ..] => {
                    // Redis compares an escaped byte as it is, whatever the case.
                    class.add(*byte);
                    after
                }
                [b']', after @ ..] => {
                    rest = after;
                    break;
                }
                [from, b'-', to, after @ ..] => {
                    let (from, to) = (*from.min(to), *from.max(to));
                    let (from, to) = (self.folded(from), self.folded(to));
                    (0..=u8::MAX)
                        .filter(|byte| (from..=to).contains(&self.folded(*byte)))
                        .for_each(|byte| class.add(byte));
                    after
                }
                [byte, after @ ..] => {
                    class.add(*byte);
                    if self.ignores_case {
                        class.add(byte.to_ascii_lowercase());
                        class.add(byte.to_ascii_uppercase());
                    }
                    after
                }
            };
        }
        if is_inverted {
            class.invert();
        }
        self.classes.push(class);
        rest
    }

    /// Whether every text matches.
    pub fn is_everything(&self) -> bool {
        self.tokens == [Token::Star]
    }

    /// The only text that matches, if the pattern has no wildcard and heeds case.
    pub fn literal(&self) -> Option<Vec<u8>> {
        let byte = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::Any | Token::Star | Token::Class(_) => None,
        };
        if self.ignores_case { None } else { self.tokens.iter().map(byte).collect() }
    }

    /// What every text begins with that matches: the bytes before the first wildcard. Empty for a pattern that does not heed case.
    pub fn prefix(&self) -> Vec<u8> {
        let byte = |token: &Token| match token {
            Token::Byte(byte) if !self.ignores_case => Some(*byte),
            _ => None,
        };
        self.tokens.iter().map_while(byte).collect()
    }

    /// Whether `text` matches. A step is a comparison of one byte, and taken from `steps`. There are at most as many as the product
    /// of both lengths, for only the last `*` is ever gone back to.
    ///
    /// # Errors
    /// The steps are used up.
    pub fn matches(&self, text: &[u8], steps: &mut u64) -> Result<bool, OutOfSteps> {
        if text.len() < self.bytes_min {
            return Ok(false);
        }
        let (mut token, mut at) = (0, 0);
        // Behind the last star, and where in the text its match ends.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            *steps = steps.checked_sub(1).ok_or(OutOfSteps)?;
            let is_match = match (self.tokens.get(token), text.get(at)) {
                (Some(Token::Star), _) => {
                    token += 1;
                    if token == self.tokens.len() {
                        return Ok(true);
                    }
                    retry = Some((token, at));
                    continue;
                }
                (None, None) => return Ok(true),
                // A longer match of the last star leaves even less.
                (Some(_), None) => return Ok(false),
                (None, Some(_)) => false,
                (Some(wanted), Some(byte)) => self.is_one(wanted, *byte),
            };
            if is_match {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            let Some((behind, end)) = retry else { return Ok(false) };
            retry = Some((behind, end + 1));
            (token, at) = (behind, end + 1);
        }
    }

    fn is_one(&self, token: &Token, byte: u8) -> bool {
        match token {
            Token::Byte(wanted) => *wanted == self.folded(byte),
            Token::Any => true,
            Token::Class(number) => self.classes[*number].holds(byte),
            Token::Star => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLENTY: u64 = u64::MAX;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Pattern::new(pattern, false).matches(text, &mut PLENTY.clone()).unwrap()
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("[a-]", "b", false),
            ("[a-]]", "]", true),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[abc", "b", true),
            ("[abc", "d", false),
            ("[", "[", false),
            (r"[\]]", "]", true),
            (r"[\", r"\", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"a\", r"a\", true),
            (r"\a", "a", true),
            ("a**", "a", true),
            ("[a-z]*[0-9]", "key:7", true),
            ("Key", "key", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn case_is_ignored_on_request() {
        let hits = |pattern: &str, text: &str| {
            Pattern::new(pattern.as_bytes(), true).matches(text.as_bytes(), &mut PLENTY.clone()).unwrap()
        };
        assert!(hits("MAX*", "maxmemory") && hits("[A-C]x", "bX") && hits("[Q]", "q") && hits(r"\A", "a"));
        assert!(!hits("[d]", "q"));
    }

    #[test]
    fn a_literal_pattern_is_told() {
        assert_eq!(Pattern::new(br"a\*b", false).literal().as_deref(), Some(&b"a*b"[..]));
        assert_eq!(Pattern::new(b"a?", false).literal(), None);
        for (pattern, prefix) in [(&br"app/\**"[..], &b"app/*"[..]), (b"app/[a-c]", b"app/"), (b"*", b""), (b"k", b"k")]
        {
            assert_eq!(Pattern::new(pattern, false).prefix(), prefix);
            assert_eq!(Pattern::new(pattern, true).prefix(), b"");
        }
        assert_eq!(Pattern::new(b"a", true).literal(), None);
        assert!(Pattern::new(b"**", false).is_everything() && !Pattern::new(b"*a", false).is_everything());
    }

    #[test]
    fn a_hundred_kilobytes_of_stars_are_no_trouble() {
        let text = vec![b'a'; 64 << 10];
        for part in ["*a", "a*", "*?", "?*", "*[a-z]", "**"] {
            for end in ["", "b"] {
                let pattern = Pattern::new(format!("{}{end}", part.repeat((100 << 10) / part.len())).as_bytes(), false);
                let mut steps = 8 * (100 << 10);
                let expected = end.is_empty();
                assert_eq!(pattern.matches(&text, &mut steps), Ok(expected), "{part}…{end}");
            }
        }
    }

    #[test]
    fn a_costly_match_ends_when_its_steps_do() {
        let pattern = Pattern::new(&[b"*".to_vec(), vec![b'a'; 30_000], b"b".to_vec()].concat(), false);
        let mut steps = 1_000_000;
        assert_eq!(pattern.matches(&[b'a'; 64 << 10], &mut steps), Err(OutOfSteps));
        assert_eq!(steps, 0);
    }

    /// What a pattern of these parts means, written another way.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|skipped| slowly(rest, &text[skipped..])),
            ([b'?', rest @ ..], [_, text @ ..]) => slowly(rest, text),
            ([b'[', b'a', b']', rest @ ..], [byte, text @ ..]) => *byte == b'a' && slowly(rest, text),
            ([wanted, rest @ ..], [byte, text @ ..]) => wanted == byte && slowly(rest, text),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_what_they_mean(parts in proptest::collection::vec("[*?ab]|\\[a\\]", 0..8), text in "[ab]{0,10}") {
            let pattern = parts.concat();
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slowly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_ends(pattern: Vec<u8>, text: Vec<u8>) {
            let mut steps = ((pattern.len() + 2) * (text.len() + 2)) as u64;
            prop_assert!(Pattern::new(&pattern, false).matches(&text, &mut steps).is_ok());
        }
    }
}
