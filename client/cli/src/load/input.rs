//! What a bulk load reads: command lines, as scripts have them, and RESP, as dumps and generators for Redis write it. A command
//! that begins with `*` is RESP; every other line is a command line. Pure: bytes in, commands out.

use crate::words::{self, Word};
use bytes::{Buf, BytesMut};
use kvorum_resp::limits::LINE_BYTES_MAX as COUNT_LINE_BYTES_MAX;
use kvorum_resp::number::parse_integer;
use kvorum_resp::{Progress, Request, RequestParser};
use std::fmt;

/// Longest command line, in bytes: the largest value, written with every byte escaped, and some.
const LINE_BYTES_MAX: usize = 72 * 1024 * 1024;
/// What some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where a command stands in the input, as it is told in errors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// The number of its line, from 1. What is RESP counts no lines.
    Line(u64),
    /// The number of its RESP command, from 1. Command lines are not counted.
    Command(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Command(number) => write!(f, "command {number}"),
        }
    }
}

/// One command of the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Read {
    pub(crate) place: Place,
    /// Bytes of the input that it takes, with the lines before it that are no commands.
    pub(crate) bytes: usize,
    /// Its words, or why it has none.
    pub(crate) words: Result<Vec<Word>, String>,
}

/// Why nothing more can be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The bytes are no RESP, so nobody knows where the next command begins.
    #[error("{0}: {1}; what follows can't be read")]
    Broken(Place, String),
    /// A line is longer than any command.
    #[error("{0} is too long; what follows can't be read")]
    LongLine(Place),
    /// The input ends inside of a RESP command.
    #[error("the input ends inside of {0}")]
    Cut(Place),
}

/// Takes commands off bytes as they come. Its memory is bounded by the longest command.
#[derive(Debug)]
pub(crate) struct Decoder {
    input: BytesMut,
    parser: RequestParser,
    request: Request,
    lines: u64,
    commands: u64,
    /// Bytes at the front of the input that hold no line end.
    scanned: usize,
    /// Bytes that were taken off the input since the last command: of one under way, and of lines that are none.
    taken: usize,
    is_begun: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            input: BytesMut::new(),
            // The narrow bounds of strangers are not for one's own file.
            parser: RequestParser::new(true),
            request: Request::new(),
            lines: 0,
            commands: 0,
            scanned: 0,
            taken: 0,
            is_begun: false,
        }
    }

    /// More bytes have come.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next command; `None` if more bytes are needed, or at the end. Blank lines and comments are left out.
    ///
    /// # Errors
    /// Nothing more can be read.
    pub(crate) fn next(&mut self, is_end: bool) -> Result<Option<Read>, InputError> {
        if !self.is_begun {
            if self.input.len() < BYTE_ORDER_MARK.len() && !is_end {
                return Ok(None);
            }
            self.is_begun = true;
            if self.input.starts_with(BYTE_ORDER_MARK) {
                self.input.advance(BYTE_ORDER_MARK.len());
            }
        }
        loop {
            let is_resp = !self.parser.is_at_start() || self.input.first() == Some(&b'*');
            let read = if is_resp { self.resp(is_end)? } else { self.line(is_end)? };
            match read {
                Step::Command(read) => return Ok(Some(read)),
                Step::Nothing => {}
                Step::Wanting => return Ok(None),
            }
        }
    }

    fn resp(&mut self, is_end: bool) -> Result<Step, InputError> {
        let place = Place::Command(self.commands + 1);
        if self.parser.is_at_start() {
            // An array of nothing is no command, and the parser would take what follows for one of Redis' own lines.
            match self.input.iter().take(COUNT_LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
                Some(end) if is_count_of_nothing(&self.input[..end]) => {
                    self.input.advance(end + 1);
                    self.taken += end + 1;
                    return Ok(Step::Nothing);
                }
                None if is_end => return Err(InputError::Cut(place)),
                None if self.input.len() < COUNT_LINE_BYTES_MAX => return Ok(Step::Wanting),
                Some(_) | None => {}
            }
        }
        let before = self.input.len();
        let progress = self.parser.next(&mut self.input, &mut self.request);
        let progress = progress.map_err(|error| InputError::Broken(place, plain(&error.to_string())))?;
        self.taken += before - self.input.len();
        let words = match progress {
            Progress::Incomplete if is_end => return Err(InputError::Cut(place)),
            Progress::Incomplete => return Ok(Step::Wanting),
            Progress::TooLarge => Err("an argument has more than 16 MiB, the largest value".to_owned()),
            Progress::Request => Ok(self.request.iter().map(|argument| Word::bare(argument.to_vec())).collect()),
        };
        self.request.forget();
        self.commands += 1;
        Ok(Step::Command(Read { place, bytes: std::mem::take(&mut self.taken), words }))
    }

    fn line(&mut self, is_end: bool) -> Result<Step, InputError> {
        let end = self.input[self.scanned..].iter().position(|byte| *byte == b'\n').map(|end| self.scanned + end);
        let line = match end {
            Some(end) => self.input.split_to(end + 1),
            None if is_end && !self.input.is_empty() => self.input.split(),
            None if self.input.len() > LINE_BYTES_MAX => return Err(InputError::LongLine(Place::Line(self.lines + 1))),
            None => {
                self.scanned = self.input.len();
                return Ok(Step::Wanting);
            }
        };
        self.scanned = 0;
        self.lines += 1;
        self.taken += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let words = match std::str::from_utf8(text) {
            Ok(text) => words::split(text).map_err(|(_, error)| error.to_string()),
            Err(_) => Err("the line is not UTF-8; write other bytes as \\xHH".to_owned()),
        };
        match words {
            Ok(words) if words.is_empty() => Ok(Step::Nothing),
            words => Ok(Step::Command(Read {
                place: Place::Line(self.lines),
                bytes: std::mem::take(&mut self.taken),
                words,
            })),
        }
    }
}

/// What a look at the input came to.
enum Step {
    Command(Read),
    /// Something that is no command; there may be more behind it.
    Nothing,
    /// More bytes are needed.
    Wanting,
}

/// Whether a line without its `\n` announces an array of no arguments.
fn is_count_of_nothing(line: &[u8]) -> bool {
    let count = line.strip_prefix(b"*").and_then(|rest| rest.strip_suffix(b"\r")).and_then(parse_integer);
    count.is_some_and(|count| count <= 0)
}

/// An error of RESP without what only a client of a server needs.
fn plain(error: &str) -> String {
    error.trim_start_matches("ERR Protocol error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read of an input that comes in pieces of this length.
    fn read(input: &[u8], piece: usize) -> String {
        let mut decoder = Decoder::new();
        let mut out = String::new();
        let mut pieces = input.chunks(piece.max(1)).peekable();
        loop {
            let is_end = pieces.peek().is_none();
            match decoder.next(is_end) {
                Ok(Some(read)) => {
                    let said = match read.words {
                        Ok(words) => {
                            words.iter().map(|word| crate::text::word(&word.bytes)).collect::<Vec<_>>().join(" ")
                        }
                        Err(problem) => format!("! {problem}"),
                    };
                    out += &format!("{}, {} bytes: {said}\n", read.place, read.bytes);
                }
                Ok(None) if is_end => return out,
                Ok(None) => decoder.feed(pieces.next().unwrap_or_default()),
                Err(error) => return out + &format!("!! {error}\n"),
            }
        }
    }

    const MIXED: &[u8] =
        b"\xef\xbb\xbf# a comment\nPUT a \"1 2\"\r\n\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$3\r\n\r\n*\r\nPUT c 'open\n\
                           *2\r\n$3\r\nDEL\r\n$2\r\n\xff\x00\r\n\xff\nDEL d";

    #[test]
    fn lines_and_resp_are_told_apart() {
        assert_eq!(
            read(MIXED, MIXED.len()),
            "line 2, 25 bytes: PUT a \"1 2\"\n\
             command 1, 30 bytes: SET b \"\\r\\n*\"\n\
             line 4, 12 bytes: ! the quote ' is not closed\n\
             command 2, 21 bytes: DEL \"\\xff\\x00\"\n\
             line 5, 2 bytes: ! the line is not UTF-8; write other bytes as \\xHH\n\
             line 6, 5 bytes: DEL d\n"
        );
    }

    #[test]
    fn what_can_not_be_read_ends_the_input() {
        for (input, told) in [
            (&b"*1\r\n$x\r\n"[..], "!! command 1: invalid bulk length; what follows can't be read\n"),
            (
                b"PUT a 1\n*1\r\nPUT b 2\r\n",
                "line 1, 8 bytes: PUT a 1\n!! command 1: expected '$', got 'P'; what follows can't be read\n",
            ),
            (b"*2\r\n$3\r\nDEL\r\n$1\r\n", "!! the input ends inside of command 1\n"),
            (b"*2", "!! the input ends inside of command 1\n"),
            (b"", ""),
            (b"*0\r\n*-1\r\nPUT a 1", "line 1, 16 bytes: PUT a 1\n"),
        ] {
            assert_eq!(read(input, input.len()), told, "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_input_is_cut(piece in 1..40usize) {
            prop_assert_eq!(read(MIXED, piece), read(MIXED, MIXED.len()));
        }

        #[test]
        fn no_input_panics(input: Vec<u8>, piece in 1..40usize) {
            prop_assert_eq!(read(&input, piece), read(&input, input.len().max(1)));
        }
    }
}
