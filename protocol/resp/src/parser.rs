//! From the bytes of a connection to requests: arrays of bulk strings, and inline commands.
//!
//! The parser remembers how far it has looked, so that its cost is linear in the bytes, however they are cut. What a client
//! announces sets no memory aside; only what it has sent does. What comes out, errors too, does not depend on the cutting.

use crate::inline;
use crate::limits::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, COMMAND_BYTES_MAX, LINE_BYTES_MAX, UNAUTHENTICATED_ARGUMENT_BYTES_MAX,
    UNAUTHENTICATED_ARGUMENTS_MAX, VALUE_BYTES_MAX,
};
use crate::number::parse_integer;
use crate::request::{Request, Span};
use bytes::{Buf, Bytes, BytesMut};
use std::borrow::Cow;
use std::fmt;

/// What a client has sent that is no request. The connection is told [`ProtocolError::text`], and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline command that is longer than a line may be.
    LongInlineRequest,
    /// A quote that does not end, or that a word follows without a blank.
    UnbalancedQuotes,
    /// An inline command that only a browser sends: somebody makes it speak to this port.
    Http,
    /// The line that announces the number of arguments is longer than a line may be.
    LongCountLine,
    /// No number of arguments, or more of them than a command may have.
    BadCount,
    /// Too many arguments for a client that is not authenticated.
    UnauthenticatedCount,
    /// The line that announces an argument's length is longer than a line may be.
    LongLengthLine,
    /// Something else than an argument, beginning with this byte.
    NoArgument(u8),
    /// No length of an argument, or a longer one than is read past.
    BadLength,
    /// Too long an argument for a client that is not authenticated.
    UnauthenticatedLength,
    /// An argument is longer or shorter than was announced.
    Unterminated,
    /// The command's arguments are longer than a command may be.
    LongCommand,
}

impl ProtocolError {
    /// What the client is told, without the `-` and the end of the line. As Redis says it, where Redis has the error.
    pub fn text(self) -> Cow<'static, [u8]> {
        Cow::Borrowed(match self {
            Self::LongInlineRequest => b"ERR Protocol error: too big inline request",
            Self::UnbalancedQuotes => b"ERR Protocol error: unbalanced quotes in request",
            Self::Http => b"ERR Protocol error: this port does not speak HTTP",
            Self::LongCountLine => b"ERR Protocol error: too big mbulk count string",
            Self::BadCount => b"ERR Protocol error: invalid multibulk length",
            Self::UnauthenticatedCount => b"ERR Protocol error: unauthenticated multibulk length",
            Self::LongLengthLine => b"ERR Protocol error: too big bulk count string",
            Self::NoArgument(byte) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend_from_slice(&[byte, b'\'']);
                return Cow::Owned(text);
            }
            Self::BadLength => b"ERR Protocol error: invalid bulk length",
            Self::UnauthenticatedLength => b"ERR Protocol error: unauthenticated bulk length",
            Self::Unterminated => b"ERR Protocol error: an argument does not end where it should",
            Self::LongCommand => b"ERR Protocol error: too big request",
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl std::error::Error for ProtocolError {}

/// What a step of the parser came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The input ends before a request does: read more.
    Incomplete,
    /// There is a request.
    Request,
    /// A request had an argument of more than [`VALUE_BYTES_MAX`] bytes, and was read past. The client is told so.
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two requests.
    Begin,
    /// Before the line of an argument's length.
    Length,
    /// Before an argument of so many bytes, and the end of its line.
    Argument(usize),
    /// Inside an argument that nobody will see, with so many bytes to come before the end of its line.
    Skip(usize),
}

/// Takes the requests of one connection off its input. See the module.
#[derive(Debug)]
pub struct RequestParser {
    state: State,
    /// Bytes at the front of the input that are understood, and kept for the request under way.
    position: usize,
    /// Bytes behind `position` that hold no end of a line.
    scanned: usize,
    /// Arguments to come.
    left: usize,
    /// Bytes of the arguments that were announced.
    announced: usize,
    /// The request under way is read past.
    is_skipped: bool,
    is_authenticated: bool,
    failed: Option<ProtocolError>,
    spans: Vec<Span>,
}

/// Room for arguments that is kept from one request to the next.
const SPARE_SPANS: usize = 1024;

/// What is read at a time at least.
const READ_BYTES_MIN: usize = 16 << 10;

impl RequestParser {
    /// Of a connection that has sent nothing. An unauthenticated client has narrower bounds.
    pub fn new(is_authenticated: bool) -> Self {
        Self {
            state: State::Begin,
            position: 0,
            scanned: 0,
            left: 0,
            announced: 0,
            is_skipped: false,
            is_authenticated,
            failed: None,
            spans: Vec::new(),
        }
    }

    /// From the next request on the client counts as authenticated, or no longer. A door that parses ahead of what it carries
    /// out must not go past AUTH, HELLO or RESET.
    pub fn set_authenticated(&mut self, is_authenticated: bool) {
        self.is_authenticated = is_authenticated;
    }

    /// Whether no request is under way, and nothing of `input` belongs to one: an idle connection needs no buffer.
    pub fn is_idle(&self, input: &BytesMut) -> bool {
        self.state == State::Begin && input.is_empty()
    }

    /// Bytes of memory that are worth having for the next read. What is announced counts, up to what has come already:
    /// a client can't make us set aside more than it has sent.
    pub fn read_bytes(&self, input: &BytesMut) -> usize {
        let missing = match self.state {
            State::Argument(length) => (self.position + length + 2).saturating_sub(input.len()),
            State::Begin | State::Length | State::Skip(_) => 0,
        };
        missing.min(input.len()).max(READ_BYTES_MIN)
    }

    /// Whether the next byte begins a request.
    pub fn is_at_start(&self) -> bool {
        matches!(self.state, State::Begin) && self.scanned == 0
    }

    /// Bytes of memory that the request under way has beyond `input`.
    pub fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
    }

    /// Takes the next request off the front of `input`, into `request`. The caller adds what it reads to the end of `input`,
    /// and changes nothing else of it. Call again until the input is incomplete.
    ///
    /// # Errors
    /// What comes is no request. From then on every call gives the same error.
    pub fn next(&mut self, input: &mut BytesMut, request: &mut Request) -> Result<Progress, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let progress = self.advance(input, request);
        if let Err(error) = progress {
            self.failed = Some(error);
            self.spans = Vec::new();
        }
        progress
    }

    fn advance(&mut self, input: &mut BytesMut, request: &mut Request) -> Result<Progress, ProtocolError> {
        loop {
            match self.state {
                State::Begin => match input.first() {
                    None => return Ok(Progress::Incomplete),
                    Some(b'*') => {
                        if !self.count(input)? {
                            return Ok(Progress::Incomplete);
                        }
                    }
                    Some(_) => {
                        let Some(has_words) = self.inline(input, request)? else { return Ok(Progress::Incomplete) };
                        if has_words {
                            return Ok(Progress::Request);
                        }
                    }
                },
                State::Length => {
                    if !self.length(input)? {
                        return Ok(Progress::Incomplete);
                    }
                }
                State::Skip(left) => {
                    let skipped = left.min(input.len());
                    input.advance(skipped);
                    if skipped < left {
                        self.state = State::Skip(left - skipped);
                        return Ok(Progress::Incomplete);
                    }
                    self.state = State::Argument(0);
                }
                State::Argument(length) => {
                    if !self.argument(input, length)? {
                        return Ok(Progress::Incomplete);
                    }
                    if self.left == 0 {
                        return Ok(self.finish(input, request));
                    }
                }
            }
        }
    }

    /// The number of arguments. Gives whether its line is there.
    fn count(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let (line, count) = match short_number(b'*', input) {
            Some(found) => found,
            None => {
                let line = self.line(input, ProtocolError::LongCountLine, ProtocolError::BadCount)?;
                let Some(line) = line else { return Ok(false) };
                (line, parse_integer(&input[1..line]).ok_or(ProtocolError::BadCount)?)
            }
        };
        self.scanned = 0;
        // None, or fewer: there is no request, and no error either.
        let count = usize::try_from(count).unwrap_or(0);
        if count > ARGUMENTS_MAX {
            return Err(ProtocolError::BadCount);
        }
        if count > UNAUTHENTICATED_ARGUMENTS_MAX && !self.is_authenticated {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        if count == 0 {
            input.advance(line + 2);
            return Ok(true);
        }
        (self.left, self.announced, self.is_skipped) = (count, 0, false);
        self.position = line + 2;
        self.state = State::Length;
        Ok(true)
    }

    /// An argument's length. Gives whether its line is there.
    fn length(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let (line, length) = match short_number(b'$', &input[self.position..]) {
            Some((line, length)) => (line, Some(length)),
            None => {
                let line = self.line(input, ProtocolError::LongLengthLine, ProtocolError::BadLength)?;
                let Some(line) = line else { return Ok(false) };
                let text = match &input[self.position..self.position + line] {
                    [b'$', text @ ..] => text,
                    [other, ..] => return Err(ProtocolError::NoArgument(*other)),
                    [] => return Err(ProtocolError::NoArgument(b'\r')),
                };
                (line, parse_integer(text))
            }
        };
        self.scanned = 0;
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= ARGUMENT_BYTES_MAX).ok_or(ProtocolError::BadLength)?;
        if length > UNAUTHENTICATED_ARGUMENT_BYTES_MAX && !self.is_authenticated {
            return Err(ProtocolError::UnauthenticatedLength);
        }
        self.announced += length;
        if self.announced > COMMAND_BYTES_MAX {
            return Err(ProtocolError::LongCommand);
        }
        self.position += line + 2;
        self.is_skipped |= length > VALUE_BYTES_MAX;
        self.state = State::Argument(length);
        if self.is_skipped {
            self.forget(input);
            self.state = State::Skip(length);
        }
        Ok(true)
    }

    /// An argument of `length` bytes, and the end of its line. Gives whether they are there.
    fn argument(&mut self, input: &mut BytesMut, length: usize) -> Result<bool, ProtocolError> {
        let end = self.position + length;
        let Some(terminator) = input.get(end..end + 2) else { return Ok(false) };
        if terminator != b"\r\n" {
            return Err(ProtocolError::Unterminated);
        }
        if !self.is_skipped {
            self.push(Span::new(self.position, length));
        }
        self.position = end + 2;
        self.left -= 1;
        self.state = State::Length;
        if self.is_skipped {
            self.forget(input);
        }
        Ok(true)
    }

    /// Adds the place of an argument. A vector that doubles would be larger than what a client sends for it.
    fn push(&mut self, span: Span) {
        if self.spans.len() == self.spans.capacity() && self.spans.len() >= SPARE_SPANS {
            self.spans.reserve_exact(self.spans.len() / 2);
        }
        self.spans.push(span);
    }

    /// Drops what has come of a request that is read past.
    fn forget(&mut self, input: &mut BytesMut) {
        input.advance(std::mem::take(&mut self.position));
        self.spans = Vec::new();
    }

    /// The last argument is there.
    fn finish(&mut self, input: &mut BytesMut, request: &mut Request) -> Progress {
        self.state = State::Begin;
        if self.is_skipped {
            return Progress::TooLarge;
        }
        let frame = input.split_to(std::mem::take(&mut self.position)).freeze();
        self.hand_over(frame, request);
        Progress::Request
    }

    fn hand_over(&mut self, frame: Bytes, request: &mut Request) {
        request.replace(frame, &mut self.spans);
        if self.spans.capacity() > SPARE_SPANS {
            self.spans = Vec::new();
        }
    }

    /// An inline command. Gives whether it has any words, once its line is there.
    fn inline(&mut self, input: &mut BytesMut, request: &mut Request) -> Result<Option<bool>, ProtocolError> {
        let window = &input[..input.len().min(LINE_BYTES_MAX + 1)];
        let Some(end) = memchr::memchr(b'\n', &window[self.scanned..]).map(|at| at + self.scanned) else {
            self.scanned = window.len();
            let is_short = window.len() <= LINE_BYTES_MAX;
            return if is_short { Ok(None) } else { Err(ProtocolError::LongInlineRequest) };
        };
        self.scanned = 0;
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut text = Vec::with_capacity(line.len());
        inline::split(line, &mut text, &mut self.spans).map_err(|_| ProtocolError::UnbalancedQuotes)?;
        input.advance(end + 1);
        let Some(first) = self.spans.first() else { return Ok(Some(false)) };
        let name = &text[..first.length as usize];
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Err(ProtocolError::Http);
        }
        self.hand_over(text.into(), request);
        Ok(Some(true))
    }

    /// How long the line behind `position` is without its end; nothing while it has none.
    fn line(
        &mut self,
        input: &BytesMut,
        long: ProtocolError,
        bad: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let rest = &input[self.position..];
        let window = &rest[..rest.len().min(LINE_BYTES_MAX + 1)];
        let Some(end) = memchr::memchr(b'\r', &window[self.scanned..]).map(|at| at + self.scanned) else {
            self.scanned = window.len();
            return if window.len() <= LINE_BYTES_MAX { Ok(None) } else { Err(long) };
        };
        match rest.get(end + 1) {
            None => {
                self.scanned = end;
                Ok(None)
            }
            Some(b'\n') => Ok(Some(end)),
            Some(_) => Err(bad),
        }
    }
}

/// The number on the line that `input` begins with, and the line's length without its end. Only for a line that is all there,
/// with its `kind` in front and a few digits as they should be: nearly every one. Others are looked at with more care.
pub(crate) fn short_number(kind: u8, input: &[u8]) -> Option<(usize, i64)> {
    const DIGITS_MAX: usize = 8;
    let digits = input.strip_prefix(&[kind])?;
    let mut value = 0;
    for (count, byte) in digits.iter().take(DIGITS_MAX + 1).enumerate() {
        match byte {
            b'0'..=b'9' if count < DIGITS_MAX => value = value * 10 + i64::from(byte - b'0'),
            b'\r' => {
                let is_plain = count == 1 || count > 1 && digits[0] != b'0';
                let is_whole = digits.get(count + 1) == Some(&b'\n');
                return (is_plain && is_whole).then_some((count + 1, value));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
