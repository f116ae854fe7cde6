//! Lines that hold on to each other. Whoever changes, removes or inserts one has to make all later ones anew, and who has kept the
//! hash of a later one sees that. Pure.
//!
//! What was cut off at the end can't be seen by this alone: who must know keeps the last hash elsewhere, or sends the lines there.

use kvorum_core::audit::AuditEvent;
use kvorum_protocol::hexadecimal;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest line, in bytes: two texts of which each byte is escaped take 6 KiB.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// What the first line of all says of the one before.
pub const NO_LINE: [u8; 32] = [0; 32];

/// The hash of a line, without its end.
pub fn hash(line: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, line).as_ref());
    hash
}

/// A line, as it is written. `prev` comes first, so that a line says at once where it belongs.
#[derive(Debug, Serialize, Deserialize)]
struct AuditLine<'a> {
    prev: Cow<'a, str>,
    n: u64,
    at: Cow<'a, str>,
    node: Cow<'a, str>,
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    door: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    from: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    user: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    what: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    repeats: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where a log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainEnd {
    /// The hash of the last line; [`NO_LINE`] before the first one.
    pub last: [u8; 32],
    /// The number of the next line.
    pub next: u64,
}

impl ChainEnd {
    /// Before the first line.
    pub const BEGIN: Self = Self { last: NO_LINE, next: 1 };

    /// After a file's last line, which may have been cut short by a crash.
    pub fn after(line: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<AuditLine<'_>>(line);
        Self { last: hash(line), next: parsed.map_or(1, |line| line.n.saturating_add(1)) }
    }

    /// The line of an event, with its end; the next one comes after it.
    pub fn line(&mut self, node: &str, event: &AuditEvent) -> String {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.at_ms) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        let kind = serde_json::to_value(event.kind).ok();
        let line = AuditLine {
            prev: hexadecimal::encode(&self.last).into(),
            n: self.next,
            at: at.unwrap_or_default().into(),
            node: node.into(),
            kind: kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().into(),
            door: event.door.map_or("", |door| door.name()).into(),
            from: event.from.map(|from| from.to_string()).unwrap_or_default().into(),
            user: event.user.as_str().into(),
            what: event.what.as_str().into(),
            repeats: event.repeats,
        };
        let mut text = serde_json::to_string(&line).expect("texts and numbers can be written");
        *self = Self { last: hash(text.as_bytes()), next: self.next.saturating_add(1) };
        text.push('\n');
        text
    }
}

/// What a log is worth.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// Lines that are whole.
    pub lines: u64,
    /// Lines that a crash has cut short; the log goes on behind them.
    pub cut_short: u64,
    /// How often a log begins: more than once where the lines of several processes went to the standard error output.
    pub begins: u64,
    /// The line is there of which somebody has kept the hash.
    pub has_kept: bool,
    /// The time of the first and of the last line.
    pub times: Option<(String, String)>,
}

/// Why a log is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// It can't be read.
    #[error("line {line} can't be read: {error}")]
    Io {
        /// Counted from 1, over all files.
        line: u64,
        /// What the system says.
        error: io::Error,
    },
    /// It is no line of a log.
    #[error("line {line} is no line of an audit log")]
    NoLine {
        /// Counted from 1, over all files.
        line: u64,
    },
    /// It does not belong behind the one before it.
    #[error("line {line} does not follow from the one before: it says {says}, the one before is {is}")]
    Broken {
        /// Counted from 1, over all files.
        line: u64,
        /// The hash that it says.
        says: String,
        /// The hash of what is before it.
        is: String,
    },
    /// A line is missing in its count.
    #[error("line {line} is number {says}, expected {expected}")]
    Number {
        /// Counted from 1, over all files.
        line: u64,
        /// What it says.
        says: u64,
        /// What it should say.
        expected: u64,
    },
}

impl ChainError {
    /// Whether it could not be looked at.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// Checks one file after the other; each goes on where the one before has ended.
#[derive(Debug, Default)]
pub struct Checker {
    /// The hash of the line before, and its number; `None` before the first one.
    before: Option<([u8; 32], u64)>,
    /// The line before is none: a crash may have cut it short, if what follows says so.
    doubt: bool,
    seen: u64,
    /// The hash of a line, as somebody has kept it.
    kept: Option<String>,
    found: Checked,
}

impl Checker {
    /// Looks for the line, besides, of which somebody has kept the hash.
    pub fn new(kept: Option<&str>) -> Self {
        Self { kept: kept.map(str::to_lowercase), ..Self::default() }
    }

    /// Checks a file. What is before its first line is not known if it is the first file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&mut self, mut file: impl BufRead) -> Result<(), ChainError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let line = self.seen + 1;
            let read = file.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
            if read.map_err(|error| ChainError::Io { line, error })? == 0 {
                return Ok(());
            }
            self.seen = line;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            } else if bytes.len() > LINE_BYTES_MAX {
                return Err(ChainError::NoLine { line });
            }
            self.take(line, &bytes)?;
        }
    }

    fn take(&mut self, line: u64, bytes: &[u8]) -> Result<(), ChainError> {
        let Ok(parsed) = serde_json::from_slice::<AuditLine<'_>>(bytes) else {
            if self.doubt {
                return Err(ChainError::NoLine { line: line - 1 });
            }
            // Whether it was a crash, the next line says, which has its hash.
            (self.doubt, self.before) = (true, Some((hash(bytes), 0)));
            return Ok(());
        };
        let begins = parsed.n == 1 && parsed.prev == hexadecimal::encode(&NO_LINE) && !self.doubt;
        self.found.begins += u64::from(begins);
        if let Some((before, number)) = self.before.filter(|_| !begins) {
            let is = hexadecimal::encode(&before);
            if parsed.prev != is {
                return Err(ChainError::Broken { line, says: parsed.prev.into_owned(), is });
            }
            let expected = number.saturating_add(1);
            if !self.doubt && parsed.n != expected {
                return Err(ChainError::Number { line, says: parsed.n, expected });
            }
        }
        self.found.cut_short += u64::from(std::mem::take(&mut self.doubt));
        self.found.lines += 1;
        let own = hash(bytes);
        self.found.has_kept |= self.kept.as_ref().is_some_and(|kept| *kept == hexadecimal::encode(&own));
        self.before = Some((own, parsed.n));
        let at = parsed.at.into_owned();
        let first = self.found.times.take().map_or_else(|| at.clone(), |(first, _)| first);
        self.found.times = Some((first, at));
        Ok(())
    }

    /// What was found, and the hash of the last line.
    ///
    /// # Errors
    /// `NoLine` if the last line is none.
    pub fn finish(self) -> Result<(Checked, [u8; 32]), ChainError> {
        if self.doubt {
            return Err(ChainError::NoLine { line: self.seen });
        }
        Ok((self.found, self.before.map_or(NO_LINE, |(last, _)| last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::audit::AuditKind;
    use kvorum_core::measure::meter::Door;

    fn event(number: u64) -> AuditEvent {
        let from = Some("10.0.0.7".parse().unwrap());
        let event = AuditEvent::at_door(AuditKind::Asked, Door::Binary, from, "ada", "NODE REMOVE \"x\"\n");
        AuditEvent { at_ms: 1_764_000_000_000 + number, ..event }
    }

    fn log(lines: u64) -> Vec<String> {
        let mut end = ChainEnd::BEGIN;
        (0..lines).map(|number| end.line("node-1", &event(number))).collect()
    }

    fn check(text: &[u8]) -> Result<(Checked, [u8; 32]), ChainError> {
        let mut checker = Checker::default();
        checker.check(text)?;
        checker.finish()
    }

    #[test]
    fn a_line_reads_as_documented() {
        let expected = concat!(
            r#"{"prev":"0000000000000000000000000000000000000000000000000000000000000000","n":1,"#,
            r#""at":"2025-11-24T16:00:00Z","node":"node-1","kind":"asked","door":"binary","from":"10.0.0.7","user":"ada","#,
            r#""what":"NODE REMOVE \"x\"\n"}"#,
            "\n"
        );
        assert_eq!(log(1), [expected]);
    }

    #[test]
    fn a_log_that_was_left_alone_is_sound_and_goes_on_from_its_last_line() {
        let lines = log(5);
        let (found, last) = check(lines.concat().as_bytes()).unwrap();
        assert_eq!((found.lines, found.cut_short, found.begins), (5, 0, 1));
        let middle = hexadecimal::encode(&hash(lines[2].trim_end().as_bytes()));
        for (kept, lines, is_there) in [(&middle, &lines[..], true), (&middle, &lines[..2], false)] {
            let mut checker = Checker::new(Some(kept));
            checker.check(lines.concat().as_bytes()).unwrap();
            assert_eq!(checker.finish().unwrap().0.has_kept, is_there);
        }
        assert_eq!(ChainEnd::after(lines[4].trim_end().as_bytes()), ChainEnd { last, next: 6 });
        assert_eq!(check(b"").unwrap().1, NO_LINE);
    }

    #[test]
    fn every_changed_byte_and_every_missing_doubled_or_exchanged_line_is_found() {
        let lines = log(4);
        let whole = lines.concat();
        let last = check(whole.as_bytes()).unwrap().1;
        for at in 0..whole.len() {
            let mut changed = whole.clone().into_bytes();
            changed[at] ^= 1;
            // A change of the last line shows in the hash that somebody has kept.
            assert!(check(&changed).map_or(true, |(_, end)| end != last), "byte {at}");
        }
        for at in 1..3 {
            let mut missing = lines.clone();
            missing.remove(at);
            assert!(check(missing.concat().as_bytes()).is_err(), "line {at} is missing");
            let mut doubled = lines.clone();
            doubled.insert(at, lines[at].clone());
            assert!(check(doubled.concat().as_bytes()).is_err(), "line {at} is there twice");
            let mut exchanged = lines.clone();
            exchanged.swap(at, at + 1);
            assert!(check(exchanged.concat().as_bytes()).is_err(), "line {at} is exchanged");
        }
    }

    #[test]
    fn a_line_that_a_crash_has_cut_short_is_part_of_the_chain() {
        let mut lines = log(3);
        let cut = &lines[2].as_bytes()[..40].to_vec();
        let mut end = ChainEnd::after(cut);
        lines[2] = format!("{}\n", String::from_utf8_lossy(cut));
        lines.push(end.line("node-1", &event(9)));
        let (found, _) = check(lines.concat().as_bytes()).unwrap();
        assert_eq!((found.lines, found.cut_short), (3, 1));
        lines[2] = lines[2].replace("prev", "pref");
        assert!(matches!(check(lines.concat().as_bytes()), Err(ChainError::Broken { line: 4, .. })));
    }

    #[test]
    fn the_highest_number_is_followed_by_itself() {
        let first = log(1)[0].replace("\"n\":1,", &format!("\"n\":{},", u64::MAX));
        let mut end = ChainEnd::after(first.trim_end().as_bytes());
        let lines = [first, end.line("node-1", &event(1)), end.line("node-1", &event(2))];
        assert_eq!(check(lines.concat().as_bytes()).unwrap().0.lines, 3);
    }

    #[test]
    fn files_follow_each_other() {
        let lines = log(6);
        let mut checker = Checker::default();
        checker.check(lines[2..4].concat().as_bytes()).unwrap();
        checker.check(lines[4..].concat().as_bytes()).unwrap();
        assert_eq!(checker.finish().unwrap().0.lines, 4);
        let mut checker = Checker::default();
        checker.check(lines[..2].concat().as_bytes()).unwrap();
        assert!(matches!(checker.check(lines[4..].concat().as_bytes()), Err(ChainError::Broken { line: 3, .. })));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = check(&bytes);
        }
    }
}
