//! The newest lines of the process's log, for the console: bounded by lines and by bytes. What the filter lets through to stderr is kept
//! here, too, as far as it fits.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are kept.
pub const LINES_MAX: usize = 10_000;
/// What they take, in bytes.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest text of a line, in bytes; more is cut.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// What a line takes besides its texts.
const LINE_BYTES: usize = size_of::<LoggedLine>();

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedLine {
    /// Counts all lines of the process, from 1.
    pub number: u64,
    /// When: Unix time in milliseconds.
    pub at_ms: u64,
    /// How urgent.
    pub level: Level,
    /// The module that says it.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// `name=value`, with spaces between.
    pub fields: String,
}

/// The lines of a process.
#[derive(Debug, Default)]
pub struct LogRing(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<LoggedLine>,
    bytes: usize,
    /// The number of the last line.
    last: u64,
}

/// Part of the log.
#[derive(Debug)]
pub struct LogPart {
    /// The lines, the oldest first.
    pub lines: Vec<LoggedLine>,
    /// The number of the oldest line that is kept; 0 if there is none.
    pub first: u64,
    /// The number that the next line will have.
    pub next: u64,
}

/// The ring of this process: its log is one, too.
pub fn of_process() -> &'static LogRing {
    static RING: LazyLock<LogRing> = LazyLock::new(LogRing::default);
    &RING
}

impl LoggedLine {
    fn bytes(&self) -> usize {
        LINE_BYTES + self.message.len() + self.fields.len()
    }
}

impl LogRing {
    fn push(&self, at_ms: u64, level: Level, target: &'static str, message: String, fields: String) {
        let mut kept = self.0.lock();
        kept.last += 1;
        let line = LoggedLine { number: kept.last, at_ms, level, target, message, fields };
        kept.bytes += line.bytes();
        kept.lines.push_back(line);
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.lines.pop_front() else { return };
            kept.bytes -= oldest.bytes();
        }
    }

    /// At most so many lines that are at least as urgent: those after a number, the oldest first; without one the newest.
    pub fn part(&self, after: Option<u64>, at_most: usize, level: Level) -> LogPart {
        let kept = self.0.lock();
        // Errors are least.
        let wanted = |line: &&LoggedLine| line.level <= level;
        let lines = match after {
            Some(after) => {
                let from = kept.lines.partition_point(|line| line.number <= after);
                kept.lines.range(from..).filter(wanted).take(at_most).cloned().collect()
            }
            None => {
                let mut newest: Vec<_> = kept.lines.iter().rev().filter(wanted).take(at_most).cloned().collect();
                newest.reverse();
                newest
            }
        };
        LogPart { lines, first: kept.lines.front().map_or(0, |line| line.number), next: kept.last + 1 }
    }
}

/// Puts what is logged into the ring of the process.
#[derive(Clone, Copy, Debug)]
pub struct RingLayer;

impl<S: Subscriber> Layer<S> for RingLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let of = event.metadata();
        // What a line takes is what it has, not what it grew to.
        let [message, fields] = [texts.message, texts.fields].map(|mut text| {
            text.shrink_to_fit();
            text
        });
        of_process().push(at_ms, *of.level(), of.target(), message, fields);
    }
}

/// A text that takes no more than [`TEXT_BYTES_MAX`]. What formats itself into it is told to stop then.
struct Bounded<'a>(&'a mut String);

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX.saturating_sub(self.0.len());
        let fits = &more[..more.floor_char_boundary(room)];
        self.0.push_str(fits);
        if fits.len() == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[derive(Default)]
struct Texts {
    message: String,
    fields: String,
}

impl Texts {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let (text, name) = match field.name() {
            "message" => (&mut self.message, None),
            name => (&mut self.fields, Some(name)),
        };
        let space = if text.is_empty() { "" } else { " " };
        let mut text = Bounded(text);
        // What is cut ends there.
        let _ = match name {
            None => text.write_fmt(value),
            Some(name) => write!(text, "{space}{name}={value}"),
        };
    }
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn ring(lines: u64, text: &str) -> LogRing {
        let ring = LogRing::default();
        for number in 0..lines {
            let level = if number % 10 == 0 { Level::WARN } else { Level::INFO };
            ring.push(number, level, "a", text.to_owned(), String::new());
        }
        ring
    }

    #[test]
    fn lines_and_bytes_are_bounded() {
        let many = ring(25_000, "short");
        let kept = many.part(None, usize::MAX, Level::TRACE);
        assert_eq!((kept.lines.len(), kept.first, kept.next), (LINES_MAX, 15_001, 25_001));
        let long = ring(5_000, &"x".repeat(TEXT_BYTES_MAX));
        let bytes = long.0.lock().bytes;
        assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX / 2, "{bytes}");
    }

    #[test]
    fn parts_go_on_where_the_last_one_ended() {
        let ring = ring(100, "line");
        let numbers = |part: LogPart| part.lines.iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(ring.part(None, 3, Level::TRACE)), [98, 99, 100]);
        assert_eq!(numbers(ring.part(Some(10), 2, Level::TRACE)), [11, 12]);
        assert_eq!(numbers(ring.part(Some(1), 3, Level::WARN)), [11, 21, 31]);
        assert!(numbers(ring.part(Some(100), 3, Level::TRACE)).is_empty());
        assert!(numbers(ring.part(Some(u64::MAX), 3, Level::TRACE)).is_empty());
    }

    #[test]
    fn what_is_logged_is_kept_with_its_fields() {
        let subscriber = tracing_subscriber::registry().with(RingLayer);
        tracing::subscriber::with_default(subscriber, || tracing::warn!(shard = 7, name = %"a b", "log ring test"));
        let part = of_process().part(None, LINES_MAX, Level::WARN);
        let line = part.lines.iter().find(|line| line.message == "log ring test").expect("it was logged");
        assert_eq!((line.level, line.fields.as_str()), (Level::WARN, "shard=7 name=a b"));
    }

    #[test]
    fn a_value_of_a_mebibyte_takes_four_kibibytes() {
        let subscriber = tracing_subscriber::registry().with(RingLayer);
        let large = "ü".repeat(512 * 1024);
        tracing::subscriber::with_default(subscriber, || tracing::warn!(a = %large, b = %large, "large fields"));
        let part = of_process().part(None, LINES_MAX, Level::WARN);
        let line = part.lines.into_iter().find(|line| line.message == "large fields").expect("it was logged");
        assert!(line.fields.starts_with("a=ü") && (TEXT_BYTES_MAX - 4..=TEXT_BYTES_MAX).contains(&line.fields.len()));
    }
}
