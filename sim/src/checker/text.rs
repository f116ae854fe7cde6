//! Histories as text that people read and tests write, one operation per line:
//!
//! ```text
//! client 1: [0..10] put x=1 ok v3
//! client 2: [5..20] get x = 1 v3
//! client 2: [21..30] get x none
//! client 3: [4..9] put x=2 if v3 failed v4
//! client 3: [10..12] delete x ok v5
//! client 4: [10..13] incr x 2 ok v6 = 2
//! client 4: [14..15] append x ab ok v7 = 3
//! client 5: [7..?] put x=9 unknown
//! client 5: [7..9] put x=9 applied
//! client 6: [8..9] put x=7 expiring ok v8
//! client 6: [9..11] expire x ok v9
//! client 6: [12..13] persist x ok v10
//! client 6: [14..15] get x = 7 v10 lasting
//! client 6: [16..17] put x=8 keeping ok v11 before some
//! # a comment
//! ```
//!
//! Conditions are `if absent`, `if present`, `if v3` and `if absent or v3`; other ends of a write are `missing`. A value that has a time to live
//! is `expiring`; of one that was found and has none it may be told that it is `lasting`. A put that leaves the time to live as it is is
//! `keeping`. `before some` and `before none` say whether the key existed before a write. Versions, numbers and that may be left out where
//! the store did not tell them. Bytes that are not printable ASCII, and spaces, `=`, `\`, `"` and `#`, are written `\x20`; `""` is the empty
//! value.

use super::history::{Action, Call, Completion, Condition, Found, History, Operation, Reply, WriteStatus, Written};
use std::fmt;
use std::str::{FromStr, SplitWhitespace};

/// A line of text that is not an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operations().iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut history = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let operation = parse_operation(line).map_err(|expected| ParseError { line: index + 1, expected })?;
                history.push(operation);
            }
        }
        Ok(history)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: [{}..", self.client, self.invoked_at)?;
        match self.returned_at() {
            Some(at) => write!(f, "{at}] ")?,
            None => f.write_str("?] ")?,
        }
        write_call(f, &self.key, &self.call)?;
        match &self.completion {
            Completion::Open => f.write_str(" unknown"),
            Completion::AppliedUnseen { .. } => f.write_str(" applied"),
            Completion::Answered { reply, .. } => write_reply(f, reply),
        }
    }
}

/// Bytes as one word.
pub(super) struct Escaped<'a>(pub(super) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\"\"");
        }
        self.0.iter().try_for_each(|&byte| match byte {
            b'=' | b'\\' | b'"' | b'#' => write!(f, "\\x{byte:02x}"),
            byte if byte.is_ascii_graphic() => write!(f, "{}", char::from(byte)),
            byte => write!(f, "\\x{byte:02x}"),
        })
    }
}

fn write_call(f: &mut fmt::Formatter<'_>, key: &[u8], call: &Call) -> fmt::Result {
    let key = Escaped(key);
    let Call::Write { condition, action } = call else { return write!(f, "get {key}") };
    match action {
        Action::Put { value, expires } => {
            write!(f, "put {key}={}", Escaped(value))?;
            f.write_str(if *expires { " expiring" } else { "" })?;
        }
        Action::PutKeeping(value) => write!(f, "put {key}={} keeping", Escaped(value))?,
        Action::Delete => write!(f, "delete {key}")?,
        Action::Incr(by) => write!(f, "incr {key} {by}")?,
        Action::Append(value) => write!(f, "append {key} {}", Escaped(value))?,
        Action::Expire => write!(f, "expire {key}")?,
        Action::Persist => write!(f, "persist {key}")?,
    }
    match condition {
        Condition::Always => Ok(()),
        Condition::IfAbsent => f.write_str(" if absent"),
        Condition::IfPresent => f.write_str(" if present"),
        Condition::IfVersion(version) => write!(f, " if v{version}"),
        Condition::IfAbsentOrVersion(version) => write!(f, " if absent or v{version}"),
    }
}

fn write_reply(f: &mut fmt::Formatter<'_>, reply: &Reply) -> fmt::Result {
    match reply {
        Reply::Value(None) => f.write_str(" none"),
        Reply::Value(Some(found)) => {
            write!(f, " = {}", Escaped(&found.value))?;
            write_version(f, found.version)?;
            f.write_str(found.expires.map_or("", |expires| if expires { " expiring" } else { " lasting" }))
        }
        Reply::Written(written) => {
            f.write_str(match written.status {
                WriteStatus::Applied => " ok",
                WriteStatus::ConditionFailed => " failed",
                WriteStatus::Missing => " missing",
            })?;
            write_version(f, written.version)?;
            written.number.map_or(Ok(()), |number| write!(f, " = {number}"))?;
            f.write_str(written.existed.map_or("", |existed| if existed { " before some" } else { " before none" }))
        }
    }
}

fn write_version(f: &mut fmt::Formatter<'_>, version: Option<u64>) -> fmt::Result {
    version.map_or(Ok(()), |version| write!(f, " v{version}"))
}

type Expected = &'static str;

/// A line's words, with one of them in view.
struct Words<'a> {
    word: Option<&'a str>,
    rest: SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let mut rest = text.split_whitespace();
        Words { word: rest.next(), rest }
    }

    fn take(&mut self) -> Option<&'a str> {
        std::mem::replace(&mut self.word, self.rest.next())
    }

    fn take_if(&mut self, wanted: &str) -> bool {
        let found = self.word == Some(wanted);
        if found {
            self.take();
        }
        found
    }

    fn take_bytes(&mut self, expected: Expected) -> Result<Vec<u8>, Expected> {
        unescape(self.take().ok_or(expected)?)
    }

    /// `v3`, if that is the next word.
    fn take_version(&mut self) -> Option<u64> {
        let version = self.word?.strip_prefix('v')?.parse().ok()?;
        self.take();
        Some(version)
    }
}

fn parse_operation(line: &str) -> Result<Operation, Expected> {
    const FRAME: Expected = "`client NUMBER: [CALLED..RETURNED] OPERATION`";
    let line = line.strip_prefix("client ").ok_or(FRAME)?;
    let (client, line) = line.split_once(": [").ok_or(FRAME)?;
    let (invoked_at, line) = line.split_once("..").ok_or(FRAME)?;
    let (returned_at, line) = line.split_once("] ").ok_or(FRAME)?;
    let returned_at = match returned_at {
        "?" => None,
        at => Some(at.parse().map_err(|_| "a time or `?` after `..`")?),
    };
    let invoked_at = invoked_at.parse().map_err(|_| "a time before `..`")?;
    if returned_at.is_some_and(|at: u64| at < invoked_at) {
        return Err("an answer that is not before its call");
    }
    let mut words = Words::new(line);
    let (key, call) = parse_call(&mut words)?;
    let completion = parse_completion(&mut words, &call, returned_at)?;
    if words.word.is_some() {
        return Err("the end of the line");
    }
    let client = client.parse().map_err(|_| "a number after `client`")?;
    Ok(Operation { client, invoked_at, key, call, completion })
}

fn parse_call(words: &mut Words<'_>) -> Result<(Vec<u8>, Call), Expected> {
    let verb = words.take().ok_or("a verb")?;
    let (key, action) = match verb {
        "get" => return Ok((words.take_bytes("a key")?, Call::Get)),
        "put" => {
            let (key, value) = words.take().and_then(|word| word.split_once('=')).ok_or("`KEY=VALUE`")?;
            let (key, value) = (unescape(key)?, unescape(value)?);
            match words.take_if("keeping") {
                true => (key, Action::PutKeeping(value)),
                false => (key, Action::Put { value, expires: words.take_if("expiring") }),
            }
        }
        "delete" => (words.take_bytes("a key")?, Action::Delete),
        "incr" => {
            let key = words.take_bytes("a key")?;
            let by = words.take().and_then(|word| word.parse().ok()).ok_or("a number to add")?;
            (key, Action::Incr(by))
        }
        "append" => (words.take_bytes("a key")?, Action::Append(words.take_bytes("bytes to append")?)),
        "expire" => (words.take_bytes("a key")?, Action::Expire),
        "persist" => (words.take_bytes("a key")?, Action::Persist),
        _ => return Err("get, put, delete, incr, append, expire or persist"),
    };
    let condition = if words.take_if("if") { parse_condition(words)? } else { Condition::Always };
    Ok((key, Call::Write { condition, action }))
}

fn parse_condition(words: &mut Words<'_>) -> Result<Condition, Expected> {
    if words.take_if("absent") {
        return match words.take_if("or") {
            true => words.take_version().map(Condition::IfAbsentOrVersion).ok_or("a version after `absent or`"),
            false => Ok(Condition::IfAbsent),
        };
    }
    if words.take_if("present") {
        return Ok(Condition::IfPresent);
    }
    words.take_version().map(Condition::IfVersion).ok_or("absent, present or a version after `if`")
}

fn parse_completion(words: &mut Words<'_>, call: &Call, returned_at: Option<u64>) -> Result<Completion, Expected> {
    let Some(at) = returned_at else {
        return if words.take_if("unknown") { Ok(Completion::Open) } else { Err("`unknown` after `..?`") };
    };
    if *call == Call::Get {
        if words.take_if("none") {
            return Ok(Completion::Answered { at, reply: Reply::Value(None) });
        }
        if !words.take_if("=") {
            return Err("`= VALUE` or `none`");
        }
        let (value, version) = (words.take_bytes("a value")?, words.take_version());
        let expires = if words.take_if("expiring") { Some(true) } else { words.take_if("lasting").then_some(false) };
        let found = Found { value, version, expires };
        return Ok(Completion::Answered { at, reply: Reply::Value(Some(found)) });
    }
    let status = match words.take() {
        Some("ok") => WriteStatus::Applied,
        Some("failed") => WriteStatus::ConditionFailed,
        Some("missing") => WriteStatus::Missing,
        Some("applied") => return Ok(Completion::AppliedUnseen { at }),
        _ => return Err("ok, failed, missing or applied"),
    };
    let version = words.take_version();
    let number = match words.take_if("=") {
        true => Some(words.take().and_then(|word| word.parse().ok()).ok_or("a number after `=`")?),
        false => None,
    };
    let existed = match words.take_if("before") {
        true if words.take_if("some") => Some(true),
        true if words.take_if("none") => Some(false),
        true => return Err("some or none after `before`"),
        false => None,
    };
    Ok(Completion::Answered { at, reply: Reply::Written(Written { status, version, number, existed }) })
}

fn unescape(word: &str) -> Result<Vec<u8>, Expected> {
    if word == "\"\"" {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let digits = tail.strip_prefix(b"x").and_then(<[u8]>::first_chunk::<2>).ok_or("`\\x` and two digits")?;
        let digits = std::str::from_utf8(digits).map_err(|_| "two hexadecimal digits")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "two hexadecimal digits")?);
        rest = &tail[3..];
    }
    Ok(bytes)
}
