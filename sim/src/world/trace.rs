//! What happened, as a hash and, if wanted, as lines.

use super::queue::Moment;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Most lines that are kept; a run that goes on after them keeps the last ones.
const LINES_MAX: usize = 400_000;

/// The trace of a run. Each event is a word and numbers, which are hashed; its text is made only if lines are kept.
pub(super) struct Trace {
    hash: Xxh3,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: Xxh3::new(), lines: keep.then(Vec::new) }
    }

    /// Something happened. `numbers` must tell it from every other thing that could have happened instead.
    pub(super) fn note(&mut self, now: Moment, word: &'static str, numbers: &[u64], text: fmt::Arguments<'_>) {
        self.hash.update(&now.0.to_le_bytes());
        self.hash.update(word.as_bytes());
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
        if let Some(lines) = &mut self.lines {
            if lines.len() >= LINES_MAX {
                lines.drain(..LINES_MAX / 2);
            }
            lines.push(format!("{:>12.6}s {word:<10} {text}", now.0 as f64 / 1e9));
        }
    }

    /// Whether lines are kept.
    pub(super) fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Something that only people want to know: it is not hashed.
    pub(super) fn tell(&mut self, now: Moment, text: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6}s {:<10} {text}", now.0 as f64 / 1e9, ""));
        }
    }

    /// Bytes that went somewhere.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    pub(super) fn finish(self) -> (u64, Vec<String>) {
        (self.hash.digest(), self.lines.unwrap_or_default())
    }
}
