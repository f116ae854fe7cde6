//! Replies in RESP2 and RESP3.

use crate::command::CommandError;
use crate::number::IntegerText;
use crate::number::float::float_text;
use crate::output::Output;
use crate::parser::ProtocolError;
use bytes::Bytes;

/// The version of the protocol that a connection speaks: 2 until it says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RespVersion {
    /// RESP2: strings, numbers, errors, arrays.
    #[default]
    Two,
    /// RESP3: maps, sets, floats, truth values, one null, pushes.
    Three,
}

impl RespVersion {
    /// As HELLO writes it.
    pub fn number(self) -> i64 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

/// Adds replies to a connection's output. What RESP2 lacks becomes the next best of it, as Redis does: maps are flat arrays,
/// sets and pushes arrays, floats and verbatim text bulk strings, truth values numbers.
///
/// An aggregate announces how many elements follow; the caller then writes that many.
#[derive(Debug)]
pub struct ReplyWriter<'a> {
    output: &'a mut Output,
    version: RespVersion,
}

impl<'a> ReplyWriter<'a> {
    /// Adds to `output` in `version`.
    pub fn new(output: &'a mut Output, version: RespVersion) -> Self {
        Self { output, version }
    }

    /// The version that is written.
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// A reply that was written before, in the same version.
    pub fn written(&mut self, reply: Output) {
        self.output.append(reply);
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.output.put(b"+OK\r\n");
    }

    /// A short text of the server's own, such as `PONG`. It must hold no end of a line.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.line(b'+', text.as_bytes());
    }

    /// An error: its prefix and its text, such as `ERR syntax error`. Ends of lines in it become blanks.
    pub fn error(&mut self, text: &[u8]) {
        if memchr::memchr2(b'\r', b'\n', text).is_none() {
            self.line(b'-', text);
            return;
        }
        let blank = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        let text: Vec<u8> = text.iter().map(blank).collect();
        self.line(b'-', &text);
    }

    /// The error of a command that was not carried out.
    pub fn command_error(&mut self, error: &CommandError) {
        self.error(&error.text());
    }

    /// The last thing that a connection is told.
    pub fn protocol_error(&mut self, error: ProtocolError) {
        self.error(&error.text());
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A count or a length. Above `i64::MAX` it says that.
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Any bytes, copied.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.output.put(bytes);
        self.output.put(b"\r\n");
    }

    /// Any bytes. From [`crate::limits::UNCOPIED_BYTES_MIN`] on they are not copied, and live until they are written.
    pub fn bulk_shared(&mut self, value: &Bytes) {
        self.length(b'$', value.len());
        self.output.put_shared(value);
        self.output.put(b"\r\n");
    }

    /// A value, or none.
    pub fn bulk_or_null(&mut self, value: Option<&Bytes>) {
        match value {
            Some(value) => self.bulk_shared(value),
            None => self.null(),
        }
    }

    /// A whole number as a bulk string: a cursor of SCAN.
    pub fn bulk_integer(&mut self, value: u64) {
        self.bulk(value.to_string().as_bytes());
    }

    /// No value.
    pub fn null(&mut self) {
        self.output.put(match self.version {
            RespVersion::Two => b"$-1\r\n",
            RespVersion::Three => b"_\r\n",
        });
    }

    /// No array: what EXEC answers when a watched key has changed.
    pub fn null_array(&mut self) {
        self.output.put(match self.version {
            RespVersion::Two => b"*-1\r\n",
            RespVersion::Three => b"_\r\n",
        });
    }

    /// An array of so many elements.
    pub fn array(&mut self, elements: usize) {
        self.length(b'*', elements);
    }

    /// A map of so many pairs: a key and a value each.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            RespVersion::Two => self.length(b'*', pairs * 2),
            RespVersion::Three => self.length(b'%', pairs),
        }
    }

    /// A set of so many elements.
    pub fn set(&mut self, elements: usize) {
        match self.version {
            RespVersion::Two => self.length(b'*', elements),
            RespVersion::Three => self.length(b'~', elements),
        }
    }

    /// What nobody asked for, of so many elements.
    pub fn push(&mut self, elements: usize) {
        match self.version {
            RespVersion::Two => self.length(b'*', elements),
            RespVersion::Three => self.length(b'>', elements),
        }
    }

    /// A float.
    pub fn double(&mut self, value: f64) {
        let text = float_text(value);
        match self.version {
            RespVersion::Two => self.bulk(text.as_bytes()),
            RespVersion::Three => self.line(b',', text.as_bytes()),
        }
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        self.output.put(match (self.version, value) {
            (RespVersion::Two, true) => b":1\r\n",
            (RespVersion::Two, false) => b":0\r\n",
            (RespVersion::Three, true) => b"#t\r\n",
            (RespVersion::Three, false) => b"#f\r\n",
        });
    }

    /// Text for people's eyes, such as that of INFO.
    pub fn verbatim(&mut self, text: &[u8]) {
        const FORMAT: &[u8] = b"txt:";
        match self.version {
            RespVersion::Two => self.bulk(text),
            RespVersion::Three => {
                self.length(b'=', FORMAT.len() + text.len());
                self.output.put(FORMAT);
                self.output.put(text);
                self.output.put(b"\r\n");
            }
        }
    }

    /// A whole number of any size: digits, and a `-` before them where it is negative.
    pub fn big_number(&mut self, digits: &str) {
        match self.version {
            RespVersion::Two => self.bulk(digits.as_bytes()),
            RespVersion::Three => self.line(b'(', digits.as_bytes()),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.output.put(&[kind]);
        self.output.put(text);
        self.output.put(b"\r\n");
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.header(kind, i64::try_from(length).unwrap_or(i64::MAX));
    }

    fn header(&mut self, kind: u8, value: i64) {
        self.line(kind, IntegerText::of(value).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    fn written(version: RespVersion, write: impl Fn(&mut ReplyWriter<'_>)) -> String {
        let mut output = Output::new();
        write(&mut ReplyWriter::new(&mut output, version));
        let length = output.len();
        String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap()
    }

    #[test]
    fn replies_have_the_form_of_their_version() {
        type Write = fn(&mut ReplyWriter<'_>);
        let cases: [(Write, &str, &str); 19] = [
            (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|reply| reply.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|reply| reply.integer(-7), ":-7\r\n", ":-7\r\n"),
            (|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|reply| reply.bulk_integer(42), "$2\r\n42\r\n", "$2\r\n42\r\n"),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.array(0), "*0\r\n", "*0\r\n"),
            (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
            (|reply| reply.set(3), "*3\r\n", "~3\r\n"),
            (|reply| reply.push(3), "*3\r\n", ">3\r\n"),
            (|reply| reply.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|reply| reply.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (|reply| reply.boolean(true), ":1\r\n", "#t\r\n"),
            (|reply| reply.boolean(false), ":0\r\n", "#f\r\n"),
            (|reply| reply.verbatim(b"text"), "$4\r\ntext\r\n", "=8\r\ntxt:text\r\n"),
            (|reply| reply.big_number("-12"), "$3\r\n-12\r\n", "(-12\r\n"),
        ];
        for (write, two, three) in cases {
            assert_eq!(written(RespVersion::Two, write), two);
            assert_eq!(written(RespVersion::Three, write), three);
        }
    }
}
