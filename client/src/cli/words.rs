//! A command line split into words. Pure.
//!
//! Words are separated by blanks. `"…"` and `'…'` keep blanks; `\n \r \t \0 \\ \" \' \xHH` work outside of single quotes, so
//! that any bytes can be written, and what is printed quoted can be read back. A line that begins with `#` is a comment.

/// One word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    /// What it means.
    pub(crate) bytes: Vec<u8>,
    /// Where it begins in the line, in bytes, its quote included.
    pub(crate) start: usize,
    /// Where it ends in the line, in bytes.
    pub(crate) end: usize,
    /// Whether any part of it is quoted.
    pub(crate) is_quoted: bool,
}

/// Why a line is not a list of words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WordError {
    /// A quote is not closed.
    #[error("the quote {0} is not closed")]
    OpenQuote(char),
    /// A `\` is followed by something that it does not go with.
    #[error("\\{0} is not an escape; known are \\n \\r \\t \\0 \\\\ \\\" \\' and \\xHH")]
    UnknownEscape(char),
    /// The line ends with a `\`.
    #[error("the line ends with a \\")]
    OpenEscape,
}

/// Splits a line.
///
/// # Errors
/// What is wrong with the last word, beside all words before it.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, (Vec<Word>, WordError)> {
    let mut words = Vec::new();
    let mut rest = line.char_indices().peekable();
    while let Some(&(start, first)) = rest.peek() {
        if first.is_whitespace() {
            rest.next();
            continue;
        }
        if first == '#' && words.is_empty() {
            break;
        }
        match word(line, start, &mut rest) {
            Ok(word) => words.push(word),
            Err(error) => return Err((words, error)),
        }
    }
    Ok(words)
}

type Rest<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

fn word(line: &str, start: usize, rest: &mut Rest<'_>) -> Result<Word, WordError> {
    let mut word = Word { bytes: Vec::new(), start, end: line.len(), is_quoted: false };
    let mut quote = None;
    while let Some(&(position, letter)) = rest.peek() {
        if quote.is_none() && letter.is_whitespace() {
            word.end = position;
            return Ok(word);
        }
        rest.next();
        match (letter, quote) {
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.is_quoted = true;
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => word.bytes.extend(escape(rest)?),
            (letter, _) => word.bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    match quote {
        Some(open) => Err(WordError::OpenQuote(open)),
        None => Ok(word),
    }
}

/// What follows a backslash.
fn escape(rest: &mut Rest<'_>) -> Result<Vec<u8>, WordError> {
    let (_, letter) = rest.next().ok_or(WordError::OpenEscape)?;
    let byte = match letter {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0' => 0,
        '\\' | '"' | '\'' | ' ' => letter as u8,
        'x' => {
            let mut digit = || rest.next().and_then(|(_, letter)| letter.to_digit(16));
            match (digit(), digit()) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(WordError::UnknownEscape('x')),
            }
        }
        other => return Err(WordError::UnknownEscape(other)),
    };
    Ok(vec![byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(line: &str) -> Vec<Vec<u8>> {
        split(line).unwrap().into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn words_quotes_and_escapes() {
        for (line, words) in [
            ("", vec![]),
            ("  GET  k ", vec!["GET", "k"]),
            (r#"PUT "a key" "with \"quotes\"""#, vec!["PUT", "a key", "with \"quotes\""]),
            (r"PUT 'single \n' x", vec!["PUT", r"single \n", "x"]),
            (r#"half"quoted word"s"#, vec!["halfquoted words"]),
            (r#""""#, vec![""]),
            (r"a\ b \t", vec!["a b", "\t"]),
            ("größe {tag}.x", vec!["größe", "{tag}.x"]),
            ("# a comment", vec![]),
            ("PUT k #1", vec!["PUT", "k", "#1"]),
        ] {
            assert_eq!(bytes(line), words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>(), "{line}");
        }
        assert_eq!(bytes(r"\x00\xff"), vec![vec![0, 255]]);
    }

    #[test]
    fn positions_cover_the_quotes() {
        let words = split(r#"GET "a b" c"#).unwrap();
        let spans: Vec<_> = words.iter().map(|word| (word.start, word.end, word.is_quoted)).collect();
        assert_eq!(spans, [(0, 3, false), (4, 9, true), (10, 11, false)]);
    }

    #[test]
    fn what_is_wrong_is_named_and_what_came_before_is_kept() {
        assert_eq!(split("GET \"k").unwrap_err(), (split("GET").unwrap(), WordError::OpenQuote('"')));
        assert_eq!(split(r"\q").unwrap_err().1, WordError::UnknownEscape('q'));
        assert_eq!(split(r"\xZZ").unwrap_err().1, WordError::UnknownEscape('x'));
        assert_eq!(split("\\").unwrap_err().1, WordError::OpenEscape);
    }
}
