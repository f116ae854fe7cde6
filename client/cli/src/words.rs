//! A command line split into words. Pure.
//!
//! Words are separated by blanks. `"…"` and `'…'` keep blanks; `\n \r \t \0 \\ \" \' \xHH` work outside of single quotes, so
//! that any bytes can be written, and what is printed quoted can be read back. A line that begins with `#` is a comment. A `\`
//! at the end of a line joins it with the next one.

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

impl Word {
    /// A word that somebody else has split off, such as an argument of the process.
    pub(crate) fn bare(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { bytes, start: 0, end, is_quoted: false }
    }

    /// The same as text, with a sign in place of what is none.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
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
        if line[start..].starts_with(JOINT) {
            rest.next();
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

/// What joins a line with the next one.
const JOINT: &str = "\\\n";

/// The commands of a text that may have many lines: a line end outside of quotes ends a command. Blank lines and comments are
/// left out.
pub(crate) fn commands(text: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = command_end(text, start);
        // What is at the end may belong to the last word: an escaped blank.
        let command = text[start..end].trim_start();
        if !command.is_empty() && !command.starts_with('#') {
            commands.push(command);
        }
        start = end + 1;
    }
    commands
}

/// Where the command that begins at `start` ends: at a line end, or at the end of the text.
fn command_end(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    if rest.trim_start_matches([' ', '\t']).starts_with('#') {
        return rest.find('\n').map_or(text.len(), |end| start + end);
    }
    let mut quote = None;
    let mut letters = rest.char_indices();
    while let Some((position, letter)) = letters.next() {
        match (letter, quote) {
            ('\n', None) => return start + position,
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => {
                letters.next();
            }
            _ => {}
        }
    }
    text.len()
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
        '\n' => return Ok(Vec::new()),
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
    fn a_line_end_outside_of_quotes_ends_a_command() {
        for (text, wanted) in [
            ("", vec![]),
            ("GET a", vec!["GET a"]),
            ("MPUT pa 1\nDEL pb\n", vec!["MPUT pa 1", "DEL pb"]),
            ("GET a\r\n\r\n  GET b\\ ", vec!["GET a\r", "GET b\\ "]),
            ("PUT a \"1\n2\"\nGET a", vec!["PUT a \"1\n2\"", "GET a"]),
            ("PUT a '1\n\\'\nGET a", vec!["PUT a '1\n\\'", "GET a"]),
            ("PUT a \\\n 1\nGET a", vec!["PUT a \\\n 1", "GET a"]),
            ("PUT a it\\'s\nGET a", vec!["PUT a it\\'s", "GET a"]),
            ("# don't\nGET a\n # \"\nGET b", vec!["GET a", "GET b"]),
            ("GET a\nPUT b \"open\nGET c", vec!["GET a", "PUT b \"open\nGET c"]),
        ] {
            assert_eq!(commands(text), wanted, "{text:?}");
        }
        assert_eq!(bytes("PUT a \\\n 1"), bytes("PUT a 1"));
        assert_eq!(bytes("PUT a \\\n1\\\n2"), bytes("PUT a 12"));
    }

    #[test]
    fn what_is_wrong_is_named_and_what_came_before_is_kept() {
        assert_eq!(split("GET \"k").unwrap_err(), (split("GET").unwrap(), WordError::OpenQuote('"')));
        assert_eq!(split(r"\q").unwrap_err().1, WordError::UnknownEscape('q'));
        assert_eq!(split(r"\xZZ").unwrap_err().1, WordError::UnknownEscape('x'));
        assert_eq!(split("\\").unwrap_err().1, WordError::OpenEscape);
    }
}
