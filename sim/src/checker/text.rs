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
//! client 7: [1..2] put x=2 if =1 failed v4
//! client 7: [3..4] range x 2 ab ok v5 = 4
//! client 7: [5..6] bit x 9 1 ok v6 = 0
//! client 7: [7..8] quarters x -3 ok v7 = -0.75
//! client 7: [9..10] expire x if shorter ok v8
//! client 8: [1..2] together x if v3 do get x = 1 v3 ; put x=2 ok v4 ; incr x 1 refused end ok
//! client 8: [3..4] together x if v3 do get x ; put x=2 end failed v4
//! # a comment
//! ```
//!
//! Conditions are `if absent`, `if present`, `if v3`, `if absent or v3` and `if =VALUE`; other ends of a write are `missing`, and among
//! what is done together `refused`. What an expire wants of the time to live is `if none`, `if some`, `if longer` or `if shorter`. A value that has a time to live
//! is `expiring`; of one that was found and has none it may be told that it is `lasting`. A put that leaves the time to live as it is is
//! `keeping`. `before some` and `before none` say whether the key existed before a write. Versions, numbers and that may be left out where
//! the store did not tell them. Bytes that are not printable ASCII, and spaces, `=`, `\`, `"` and `#`, are written `\x20`; `""` is the empty
//! value.

use super::history::{
    Action, Call, Completion, Condition, ExpireWhen, Found, History, Operation, Reply, WriteStatus, Written,
};
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
        if let (Call::Together { condition, steps }, Completion::Answered { reply: Reply::Together(replies), .. }) =
            (&self.call, &self.completion)
        {
            write_together(f, &self.key, condition)?;
            for (number, (step, reply)) in steps.iter().zip(replies).enumerate() {
                f.write_str(if number == 0 { " " } else { " ; " })?;
                write_call(f, &self.key, step)?;
                write_reply(f, reply)?;
            }
            return f.write_str(" end ok");
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
    let (condition, action) = match call {
        Call::Get => return write!(f, "get {}", Escaped(key)),
        Call::Write { condition, action } => (condition, action),
        Call::Together { condition, steps } => {
            write_together(f, key, condition)?;
            for (number, step) in steps.iter().enumerate() {
                f.write_str(if number == 0 { " " } else { " ; " })?;
                write_call(f, key, step)?;
            }
            return f.write_str(" end");
        }
    };
    let key = Escaped(key);
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
        Action::ExpireIf(when) => {
            let when = match when {
                ExpireWhen::None => "none",
                ExpireWhen::Some => "some",
                ExpireWhen::Longer => "longer",
                ExpireWhen::Shorter => "shorter",
            };
            write!(f, "expire {key} if {when}")?;
        }
        Action::SetRange { offset, bytes } => write!(f, "range {key} {offset} {}", Escaped(bytes))?,
        Action::SetBit { offset, bit } => write!(f, "bit {key} {offset} {}", u8::from(*bit))?,
        Action::IncrQuarters(by) => write!(f, "quarters {key} {by}")?,
    }
    write_condition(f, condition)
}

fn write_together(f: &mut fmt::Formatter<'_>, key: &[u8], condition: &Condition) -> fmt::Result {
    write!(f, "together {}", Escaped(key))?;
    write_condition(f, condition)?;
    f.write_str(" do")
}

fn write_condition(f: &mut fmt::Formatter<'_>, condition: &Condition) -> fmt::Result {
    match condition {
        Condition::Always => Ok(()),
        Condition::IfAbsent => f.write_str(" if absent"),
        Condition::IfPresent => f.write_str(" if present"),
        Condition::IfVersion(version) => write!(f, " if v{version}"),
        Condition::IfAbsentOrVersion(version) => write!(f, " if absent or v{version}"),
        Condition::IfEquals(value) => write!(f, " if ={}", Escaped(value)),
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
            written.decimal.as_ref().map_or(Ok(()), |decimal| write!(f, " = {}", Escaped(decimal)))?;
            f.write_str(written.existed.map_or("", |existed| if existed { " before some" } else { " before none" }))
        }
        Reply::Refused => f.write_str(" refused"),
        Reply::Together(_) => f.write_str(" ok"),
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

    fn take_number<T: FromStr>(&mut self, expected: Expected) -> Result<T, Expected> {
        self.take().and_then(|word| word.parse().ok()).ok_or(expected)
    }

    /// `if` and what an expire wants of the time to live, if that comes next.
    fn take_when(&mut self) -> Option<ExpireWhen> {
        let when = match self.rest.clone().next().filter(|_| self.word == Some("if"))? {
            "none" => ExpireWhen::None,
            "some" => ExpireWhen::Some,
            "longer" => ExpireWhen::Longer,
            "shorter" => ExpireWhen::Shorter,
            _ => return None,
        };
        self.take();
        self.take();
        Some(when)
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
    let (key, call, completion) = if words.take_if("together") {
        parse_together(&mut words, returned_at)?
    } else {
        let (key, call) = parse_call(&mut words)?;
        let completion = parse_completion(&mut words, &call, returned_at)?;
        (key, call, completion)
    };
    if words.word.is_some() {
        return Err("the end of the line");
    }
    let client = client.parse().map_err(|_| "a number after `client`")?;
    Ok(Operation { client, invoked_at, key, call, completion })
}

/// What is done together: its steps have answers, or all of it has one.
fn parse_together(words: &mut Words<'_>, returned_at: Option<u64>) -> Result<(Vec<u8>, Call, Completion), Expected> {
    let key = words.take_bytes("a key")?;
    let condition = if words.take_if("if") { parse_condition(words)? } else { Condition::Always };
    let (mut steps, mut replies) = (Vec::new(), Vec::new());
    if !words.take_if("do") {
        return Err("`do`");
    }
    while !words.take_if("end") {
        if !steps.is_empty() && !words.take_if(";") {
            return Err("`;` or `end`");
        }
        let (of_step, step) = parse_call(words)?;
        if of_step != key {
            return Err("steps on the key of the whole");
        }
        if !matches!(words.word, Some(";" | "end")) {
            replies.push(match parse_completion(words, &step, Some(0))? {
                Completion::Answered { reply, .. } => reply,
                _ => return Err("an answer"),
            });
        }
        steps.push(step);
    }
    let call = Call::Together { condition, steps };
    let completion = match returned_at {
        Some(at) if words.take_if("ok") => {
            let reply = Reply::Together(replies);
            Completion::Answered { at, reply }
        }
        _ => parse_completion(words, &call, returned_at)?,
    };
    Ok((key, call, completion))
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
        "expire" => {
            let key = words.take_bytes("a key")?;
            (key, words.take_when().map_or(Action::Expire, Action::ExpireIf))
        }
        "range" => {
            let (key, offset) = (words.take_bytes("a key")?, words.take_number("an offset")?);
            (key, Action::SetRange { offset, bytes: words.take_bytes("bytes to write")? })
        }
        "bit" => {
            let (key, offset) = (words.take_bytes("a key")?, words.take_number("an offset")?);
            (key, Action::SetBit { offset, bit: words.take_number::<u8>("0 or 1")? == 1 })
        }
        "quarters" => (words.take_bytes("a key")?, Action::IncrQuarters(words.take_number("quarters to add")?)),
        "persist" => (words.take_bytes("a key")?, Action::Persist),
        _ => return Err("get, put, delete, incr, append, expire, persist, range, bit, quarters or together"),
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
    if let Some(value) = words.word.and_then(|word| word.strip_prefix('=')) {
        words.take();
        return unescape(value).map(Condition::IfEquals);
    }
    words.take_version().map(Condition::IfVersion).ok_or("absent, present, a version or =VALUE after `if`")
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
        Some("refused") => return Ok(Completion::Answered { at, reply: Reply::Refused }),
        _ => return Err("ok, failed, missing or applied"),
    };
    let version = words.take_version();
    let (mut number, mut decimal) = (None, None);
    if words.take_if("=") {
        match call {
            Call::Write { action: Action::IncrQuarters(_), .. } => {
                decimal = Some(words.take_bytes("a number after `=`")?);
            }
            _ => number = Some(words.take_number("a number after `=`")?),
        }
    }
    let existed = match words.take_if("before") {
        true if words.take_if("some") => Some(true),
        true if words.take_if("none") => Some(false),
        true => return Err("some or none after `before`"),
        false => None,
    };
    Ok(Completion::Answered { at, reply: Reply::Written(Written { status, version, number, decimal, existed }) })
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
