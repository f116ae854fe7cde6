//! What a command has to say, and how it is said: to people, raw, as JSON lines, or as CSV. Pure: the time comes in as an
//! argument.

use crate::records::{bytes_field, csv_cell, csv_columns, csv_field, csv_text, json_line, records};
use crate::text::{duration, printable, word};
use anstyle::{AnsiColor, Style};
use comfy_table::{Cell as TableCell, ContentArrangement, Table, presets};
use kvorum_client::verdict::Verdict;
use kvorum_client::{Bytes, Entry, Error, Outcome, Version, WriteResult, WriteStatus};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// One thing that a command says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Output {
    /// A key's value, if there is one.
    Entry { key: Bytes, entry: Option<Entry> },
    /// When a key expires, if ever, and its version; `None` if there is no such key.
    Ttl { key: Bytes, entry: Option<(Option<u64>, Version)> },
    /// What became of a write; and whether what was there before it is what was asked for.
    Written { key: Bytes, result: WriteResult, returns: bool },
    /// The values of many keys.
    Entries(Vec<(Bytes, Result<Option<Entry>, Error>)>),
    /// What became of many writes.
    Writes(Vec<(Bytes, Result<WriteResult, Error>)>),
    /// Some of the keys of a scan.
    Page { entries: Vec<Entry>, values: bool },
    /// One value and a note on it.
    Scalar { name: &'static str, cell: Cell, note: String },
    /// Names with a value each.
    Facts(Vec<(&'static str, Cell)>),
    /// Facts that people get as a verdict and lines below it.
    Report { verdict: Verdict, head: String, lines: Vec<String>, facts: Vec<(&'static str, Cell)> },
    /// Facts that people get as a line.
    Line { text: String, facts: Vec<(&'static str, Cell)> },
    /// Rows.
    Table { columns: &'static [&'static str], rows: Vec<Vec<Cell>> },
    /// Running text.
    Text(String),
    /// A remark that only people get.
    Note(String),
}

impl Output {
    /// About what it takes of memory, in bytes: rather too much than too little for what has values.
    pub(crate) fn bytes_about(&self) -> usize {
        let of_entry = |entry: &Entry| entry.key.len() + entry.value.len();
        let of_write = |result: &WriteResult| result.previous.as_ref().map_or(0, of_entry);
        let content = match self {
            Self::Entry { key, entry } => key.len() + entry.as_ref().map_or(0, of_entry),
            Self::Ttl { key, .. } => key.len(),
            Self::Written { key, result, .. } => key.len() + of_write(result),
            Self::Entries(results) => {
                let found = |result: &Result<Option<Entry>, Error>| {
                    result.as_ref().ok().and_then(Option::as_ref).map_or(0, of_entry)
                };
                results.iter().map(|(key, result)| size_of::<Entry>() + key.len() + found(result)).sum()
            }
            Self::Writes(results) => {
                let written = |result: &Result<WriteResult, Error>| result.as_ref().map_or(0, of_write);
                results.iter().map(|(key, result)| size_of::<WriteResult>() + key.len() + written(result)).sum()
            }
            Self::Page { entries, .. } => entries.iter().map(|entry| size_of::<Entry>() + of_entry(entry)).sum(),
            Self::Text(text) | Self::Note(text) | Self::Line { text, .. } => text.len(),
            Self::Scalar { .. } | Self::Facts(_) | Self::Report { .. } | Self::Table { .. } => 0,
        };
        size_of::<Self>() + content
    }
}

/// A value as machines get it and as people see it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cell {
    pub(crate) value: Value,
    pub(crate) shown: String,
}

impl Cell {
    /// A number or text that looks the same to both.
    pub(crate) fn plain(value: impl Into<Value>) -> Self {
        let value = value.into();
        let shown = match &value {
            Value::String(text) => printable(text.as_bytes()),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        Self { value, shown }
    }

    /// A value that people see in other words.
    pub(crate) fn shown(value: impl Into<Value>, shown: impl Into<String>) -> Self {
        Self { value: value.into(), shown: shown.into() }
    }
}

/// Who reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Human,
    Raw,
    Json,
    Csv,
}

/// Turns outputs into bytes.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) colors: bool,
    /// Columns of the terminal, if it is one.
    pub(crate) width: Option<u16>,
    /// A single raw value is printed byte for byte, with no line end after it.
    pub(crate) exact: bool,
    /// The CSV header that was printed last; another kind of command has another one.
    csv_header: Vec<&'static str>,
}

/// Blanks between two columns of a table.
const COLUMN_GAP: usize = 2;
/// A table of so many columns that does not fit is easier to read row by row than with broken cells.
const COLUMNS_UNFOLDED: usize = 4;
/// Columns that a table may go without where the terminal is narrow. JSON and CSV have them, and STATUS tells them.
const DISPENSABLE: [&str; 2] = ["id", "memory_bytes"];

const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const NAME: Style = AnsiColor::Cyan.on_default();

impl Printer {
    pub(crate) fn new(format: Format, colors: bool, width: Option<u16>) -> Self {
        Self { format, colors, width, exact: false, csv_header: Vec::new() }
    }

    /// The bytes to print.
    pub(crate) fn render(&mut self, output: &Output, now_ms: u64) -> Vec<u8> {
        match self.format {
            Format::Human => self.human(output, now_ms).into_bytes(),
            Format::Raw => self.raw(output),
            Format::Json => records(output).iter().flat_map(|record| json_line(record).into_bytes()).collect(),
            Format::Csv => self.csv(output).into_bytes(),
        }
    }

    /// What goes to stderr beside the output: the errors of single keys, for which raw output has no place.
    pub(crate) fn render_failures(&self, output: &Output) -> String {
        let line =
            |key: &Bytes, error: &Error| format!("{}: {}: {}\n", self.paint(BAD, "error"), word(key), error.report());
        match (self.format, output) {
            (Format::Raw, Output::Entries(results)) => failures(results).map(|(key, error)| line(key, error)).collect(),
            (Format::Raw, Output::Writes(results)) => failures(results).map(|(key, error)| line(key, error)).collect(),
            _ => String::new(),
        }
    }

    /// An error as it goes to stderr.
    pub(crate) fn render_error(&self, error: &Error, repeat_is_safe: bool) -> String {
        if self.format == Format::Json {
            return json_line(&[("error", error_fields(error))]);
        }
        let (prefix, advice) = match (error.outcome(), repeat_is_safe) {
            (Outcome::Unknown, true) => ("outcome unknown", "; retry is safe"),
            (Outcome::Unknown, false) => ("outcome unknown", "; retry is unsafe: it may take effect twice"),
            (Outcome::Applied, _) => ("it took effect, but", ""),
            (Outcome::NotApplied, _) if error.is_retryable() => ("error", "; nothing was changed, retry is safe"),
            (Outcome::NotApplied, _) => ("error", ""),
        };
        format!("{}: {}{advice}\n", self.paint(BAD, prefix), sentence(error))
    }

    /// The error of one of many commands, with its place in the input.
    pub(crate) fn render_error_at(&self, place: &str, error: &Error) -> String {
        if self.format == Format::Json {
            return json_line(&[("at", place.into()), ("error", error_fields(error))]);
        }
        format!("{}: {place}: {}\n", self.paint(BAD, "error"), error.report())
    }

    /// A mistake of the user's as it goes to stderr.
    pub(crate) fn render_usage(&self, problem: &str) -> String {
        self.render_problem("Usage", problem)
    }

    /// What this machine refuses, as it goes to stderr.
    pub(crate) fn render_refusal(&self, problem: &str) -> String {
        self.render_problem("System", problem)
    }

    fn render_problem(&self, code: &str, problem: &str) -> String {
        if self.format == Format::Json {
            return json_line(&[("error", serde_json::json!({"code": code, "message": problem}))]);
        }
        format!("{}: {problem}\n", self.paint(BAD, "error"))
    }

    /// Faint text, for remarks.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint(DIM, text)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colors && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn human(&self, output: &Output, now_ms: u64) -> String {
        match output {
            Output::Entry { entry: Some(entry), .. } => {
                let notes = self.dim(&format!("  {}", entry_notes(entry, now_ms)));
                format!("{}\n{notes}\n", printable(&entry.value))
            }
            Output::Entry { entry: None, .. } => format!("{}\n", self.paint(ODD, "no such key")),
            Output::Ttl { entry: None, .. } => format!("{}\n", self.paint(ODD, "no such key")),
            Output::Ttl { entry: Some((None, _)), .. } => "never expires\n".to_owned(),
            Output::Ttl { entry: Some((Some(ms), _)), .. } => format!("{}\n", duration(Duration::from_millis(*ms))),
            Output::Written { result, returns, .. } => {
                let none = *returns && result.previous.is_none();
                let before = if none { "\nbefore: no such key" } else { "" };
                format!("{}{before}\n", self.written(result, now_ms))
            }
            Output::Entries(results) => self.entries(results, now_ms),
            Output::Writes(results) => {
                let line = |(key, result): &(Bytes, Result<WriteResult, Error>)| {
                    let said = match result {
                        Ok(result) => self.written(result, now_ms),
                        Err(error) => self.paint(BAD, &error.report()),
                    };
                    format!("{}  {said}\n", self.paint(NAME, &word(key)))
                };
                results.iter().map(line).collect()
            }
            Output::Page { entries, values: false } => {
                entries.iter().map(|entry| format!("{}\n", word(&entry.key))).collect()
            }
            Output::Page { entries, values: true } => {
                let some = entries.iter().map(|entry| (entry.key.clone(), Ok(Some(entry.clone()))));
                self.entries(&some.collect::<Vec<_>>(), now_ms)
            }
            Output::Scalar { cell, note, .. } if note.is_empty() => format!("{}\n", cell.shown),
            Output::Scalar { cell, note, .. } => format!("{}  {}\n", cell.shown, self.dim(note)),
            Output::Facts(facts) => {
                let width = facts.iter().map(|(name, _)| label(name).len()).max().unwrap_or_default();
                let line = |(name, cell): &(&str, Cell)| {
                    let label = self.paint(NAME, &format!("{:width$}", label(name)));
                    format!("{label}  {}\n", cell.shown)
                };
                facts.iter().map(line).collect()
            }
            Output::Report { verdict, head, lines, .. } => {
                let style = match verdict {
                    Verdict::Ok => GOOD,
                    Verdict::Healing => ODD,
                    Verdict::AtRisk | Verdict::Unavailable => BAD,
                };
                let lines = lines.iter().map(|line| format!("  {line}\n"));
                let first = format!("{}  {head}\n", self.paint(style, &verdict.to_string()));
                std::iter::once(first).chain(lines).collect()
            }
            Output::Table { columns, rows } => {
                let is_shown = |column: &&str| !FOR_MACHINES.contains(column);
                let shown = |row: &Vec<Cell>| {
                    let cells = columns.iter().zip(row).filter(|(column, _)| is_shown(column));
                    cells.map(|(_, cell)| cell.shown.clone()).collect()
                };
                let heads: Vec<_> = columns.iter().copied().filter(is_shown).collect();
                self.fitting_table(&heads, rows.iter().map(shown).collect())
            }
            Output::Line { text, .. } => format!("{text}\n"),
            Output::Text(text) => text.clone(),
            Output::Note(text) => format!("{}\n", self.dim(text)),
        }
    }

    fn written(&self, result: &WriteResult, now_ms: u64) -> String {
        let mut out = match (result.status, result.number) {
            (WriteStatus::Applied, Some(number)) => number.to_string(),
            (WriteStatus::Applied, None) => self.paint(GOOD, "OK"),
            (WriteStatus::Missing, _) => self.paint(ODD, "nothing to change"),
            (WriteStatus::ConditionFailed, _) => self.paint(ODD, "not written: the condition does not hold"),
        };
        let note = match (result.status, result.version.0) {
            (WriteStatus::Applied, version) => {
                let receipt = result.receipt.map(|receipt| format!(", write {receipt}")).unwrap_or_default();
                format!("version {version}, {} ({}){receipt}", result.ack, result.durability)
            }
            (WriteStatus::ConditionFailed, 0) => "there is no such key".to_owned(),
            (WriteStatus::ConditionFailed, version) => format!("the key has version {version}"),
            (WriteStatus::Missing, 0) => "there is no such key".to_owned(),
            (WriteStatus::Missing, version) => format!("version {version} stays"),
        };
        write!(out, "  {}", self.dim(&note)).expect("writing to a string can't fail");
        if let Some(existed) = result.existed {
            out += if existed { "\nbefore: the key was there" } else { "\nbefore: no such key" };
        }
        if let Some(previous) = &result.previous {
            let notes = self.dim(&entry_notes(previous, now_ms));
            write!(out, "\nbefore: {}  {notes}", printable(&previous.value)).expect("writing to a string can't fail");
        }
        out
    }

    fn entries(&self, results: &[(Bytes, Result<Option<Entry>, Error>)], now_ms: u64) -> String {
        let rows = results.iter().map(|(key, result)| {
            let (value, version, expiry) = match result {
                Ok(Some(entry)) => (printable(&entry.value), entry.version.to_string(), expiry(entry, now_ms)),
                Ok(None) => ("-".to_owned(), "-".to_owned(), "no such key".to_owned()),
                Err(error) => ("-".to_owned(), "-".to_owned(), error.report()),
            };
            vec![word(key), value, version, expiry]
        });
        self.table(&["key", "value", "version", "expires"], rows)
    }

    /// A table whose cells stay in one piece: columns that people can do without go first. Where that is not enough, each row
    /// becomes lines of its own.
    fn fitting_table(&self, columns: &[&str], mut rows: Vec<Vec<String>>) -> String {
        let mut columns = columns.to_vec();
        while let Some(at) = columns.iter().rposition(|column| DISPENSABLE.contains(column)) {
            if self.width.is_none_or(|width| natural_width(&columns, &rows) <= usize::from(width)) {
                break;
            }
            columns.remove(at);
            rows.iter_mut().for_each(|row| {
                row.remove(at);
            });
        }
        let is_broken = self.width.is_some_and(|width| natural_width(&columns, &rows) > usize::from(width));
        if is_broken && columns.len() >= COLUMNS_UNFOLDED {
            self.unfolded(&columns, &rows)
        } else {
            self.table(&columns, rows.into_iter())
        }
    }

    /// A line for each cell of a row, and a blank one between two rows.
    fn unfolded(&self, columns: &[&str], rows: &[Vec<String>]) -> String {
        let width = columns.iter().map(|column| label(column).len()).max().unwrap_or_default();
        let line = |(column, cell): (&&str, &String)| {
            format!("{}  {cell}\n", self.paint(NAME, &format!("{:width$}", label(column))))
        };
        let rows = rows.iter().map(|row| columns.iter().zip(row).map(line).collect::<String>());
        rows.collect::<Vec<_>>().join("\n")
    }

    fn table(&self, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        match self.width {
            Some(width) => table.set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        table.set_header(columns.iter().map(|name| TableCell::new(label(name))));
        rows.for_each(|row| {
            table.add_row(row);
        });
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, COLUMN_GAP as u16));
        });
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        let painted = lines.iter().enumerate().map(|(number, line)| match number {
            0 => self.dim(line),
            _ => line.clone(),
        });
        painted.map(|line| line + "\n").collect()
    }

    fn raw(&self, output: &Output) -> Vec<u8> {
        let line_end: &[u8] = if self.exact { b"" } else { b"\n" };
        match output {
            Output::Entry { entry, .. } => {
                entry.as_ref().map(|entry| [&entry.value, line_end].concat()).unwrap_or_default()
            }
            Output::Ttl { entry: None, .. } => Vec::new(),
            Output::Ttl { entry: Some((None, _)), .. } => b"never\n".to_vec(),
            Output::Ttl { entry: Some((Some(ms), _)), .. } => format!("{ms}\n").into_bytes(),
            // As GET would have shown it before.
            Output::Written { result, returns: true, .. } => {
                result.previous.as_ref().map(|previous| [&previous.value, line_end].concat()).unwrap_or_default()
            }
            Output::Written { result, .. } => raw_written(result).into_bytes(),
            Output::Entries(results) => {
                // One line per key, so that the lines can be matched with the keys; what is missing is an empty one. So is
                // what could not be read, which stderr tells of.
                let line = |(_, result): &(Bytes, Result<Option<Entry>, Error>)| match result {
                    Ok(Some(entry)) => [&entry.value[..], b"\n"].concat(),
                    Ok(None) | Err(_) => b"\n".to_vec(),
                };
                results.iter().flat_map(line).collect()
            }
            Output::Writes(results) => {
                let line = |(_, result): &(Bytes, Result<WriteResult, Error>)| match result {
                    Ok(result) => raw_written(result),
                    Err(_) => "error\n".to_owned(),
                };
                results.iter().flat_map(|result| line(result).into_bytes()).collect()
            }
            Output::Page { entries, values } => {
                let line = |entry: &Entry| match values {
                    true => [&entry.key[..], b"\t", &entry.value, b"\n"].concat(),
                    false => [&entry.key[..], b"\n"].concat(),
                };
                entries.iter().flat_map(line).collect()
            }
            Output::Scalar { cell, .. } => format!("{}\n", csv_text(&cell.value)).into_bytes(),
            Output::Facts(facts) | Output::Report { facts, .. } => {
                let line = |(name, cell): &(&str, Cell)| format!("{name}\t{}\n", csv_text(&cell.value));
                facts.iter().map(line).collect::<String>().into_bytes()
            }
            Output::Line { facts, .. } => {
                let cells: Vec<_> = facts.iter().map(|(_, cell)| csv_text(&cell.value)).collect();
                (cells.join("\t") + "\n").into_bytes()
            }
            Output::Table { rows, .. } => {
                let line =
                    |row: &Vec<Cell>| row.iter().map(|cell| csv_text(&cell.value)).collect::<Vec<_>>().join("\t");
                rows.iter().map(|row| line(row) + "\n").collect::<String>().into_bytes()
            }
            Output::Text(text) => text.clone().into_bytes(),
            Output::Note(_) => Vec::new(),
        }
    }

    /// The header depends on the command alone and never on the data, so each command has one.
    fn csv(&mut self, output: &Output) -> String {
        let mut out = String::new();
        let header = csv_columns(output);
        for record in records(output) {
            if header != self.csv_header {
                out.push_str(&(header.join(",") + "\r\n"));
                self.csv_header.clone_from(&header);
            }
            let fields: Vec<_> = header.iter().map(|column| csv_field(&csv_cell(&record, column))).collect();
            out.push_str(&(fields.join(",") + "\r\n"));
        }
        out
    }
}

/// An error as programs get it.
fn error_fields(error: &Error) -> Value {
    let fields = [
        ("code", error.code().to_string().into()),
        ("outcome", outcome_name(error.outcome()).into()),
        ("retryable", error.is_retryable().into()),
        ("message", error.report().into()),
    ];
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

/// The keys that failed, with their errors.
fn failures<T>(results: &[(Bytes, Result<T, Error>)]) -> impl Iterator<Item = (&Bytes, &Error)> {
    results.iter().filter_map(|(key, result)| Some((key, result.as_ref().err()?)))
}

/// The columns of a table that no cell of it is broken in.
fn natural_width(columns: &[&str], rows: &[Vec<String>]) -> usize {
    let width = |(at, column): (usize, &&str)| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([label(column).chars().count()]).max().unwrap_or_default() + COLUMN_GAP
    };
    columns.iter().enumerate().map(width).sum::<usize>().saturating_sub(COLUMN_GAP)
}

/// A name as people read it: without its unit, which its value has.
/// Columns that people see as part of the key.
const FOR_MACHINES: [&str; 2] = ["key_base64", "key_bytes"];

/// A key of so many bytes, of which the first are known, as a table has it: in `key`, `key_base64` and `key_bytes`.
pub(crate) fn key_cells(key: &[u8], key_bytes: u64) -> [Cell; 3] {
    let is_cut = (key.len() as u64) < key_bytes;
    let known = whole_characters(key, is_cut);
    let shown = if is_cut { format!("{}… ({key_bytes} bytes)", word(known)) } else { word(known) };
    let (name, value) = bytes_field("key", "key_base64", known);
    let (text, base64) = if name == "key" { (value, Value::Null) } else { (Value::Null, value) };
    [Cell::shown(text, shown), Cell::plain(base64), Cell::plain(key_bytes)]
}

/// What is known of a key that was cut, without the part of a character at its end.
pub(crate) fn whole_characters(key: &[u8], is_cut: bool) -> &[u8] {
    match std::str::from_utf8(key) {
        Err(error) if is_cut && error.error_len().is_none() => &key[..error.valid_up_to()],
        _ => key,
    }
}

fn label(name: &str) -> String {
    let units = ["_bytes", "_ms", "_us", "_ns"];
    units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name).replace('_', " ")
}

/// An error in words that need no knowledge of codes.
fn sentence(error: &Error) -> String {
    match error {
        Error::Server(server) if server.detail.is_empty() => server.code.to_string(),
        Error::Server(server) => format!("{} ({})", printable(server.detail.as_bytes()), server.code),
        other => other.report().replace(&format!(" ({})", other.outcome()), ""),
    }
}

pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Applied => "applied",
        Outcome::Unknown => "unknown",
    }
}

fn entry_notes(entry: &Entry, now_ms: u64) -> String {
    match entry.expires_at_ms {
        None => format!("version {}", entry.version),
        Some(_) => format!("version {}, expires {}", entry.version, expiry(entry, now_ms)),
    }
}

/// When an entry expires, as people say it.
fn expiry(entry: &Entry, now_ms: u64) -> String {
    match entry.expires_at_ms {
        None => "never".to_owned(),
        Some(at) if at <= now_ms => "now".to_owned(),
        Some(at) => format!("in {}", duration(Duration::from_millis(at - now_ms))),
    }
}

fn raw_written(result: &WriteResult) -> String {
    match (result.status, result.number) {
        (WriteStatus::Applied, Some(number)) => format!("{number}\n"),
        (status, _) => format!("{}\n", status_name(status)),
    }
}

pub(crate) fn status_name(status: WriteStatus) -> &'static str {
    match status {
        WriteStatus::Applied => "applied",
        WriteStatus::ConditionFailed => "condition_failed",
        WriteStatus::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::{ErrorCode, ServerError, Version};

    const NOW_MS: u64 = 1_000_000;

    fn entry(key: &'static str, value: &'static [u8], expires_at_ms: Option<u64>) -> Entry {
        let mut entry = Entry::new(key, value, Version(12));
        entry.expires_at_ms = expires_at_ms;
        entry
    }

    fn written(status: WriteStatus, version: u64) -> WriteResult {
        WriteResult::new(status, Version(version))
    }

    fn number(mut result: WriteResult, number: i64) -> WriteResult {
        result.number = Some(number);
        result
    }

    fn after(previous: Entry) -> WriteResult {
        let mut result = written(WriteStatus::Applied, 15);
        result.previous = Some(previous);
        result
    }

    fn outputs() -> Vec<Output> {
        let unavailable = || Error::Server(ServerError::new(ErrorCode::Unavailable, "shard 3 has no leader"));
        vec![
            Output::Entry {
                key: "greeting".into(),
                entry: Some(entry("greeting", b"hello world", Some(NOW_MS + 9_300))),
            },
            Output::Entry { key: "bytes".into(), entry: Some(entry("bytes", b"\xff,\x00", None)) },
            Output::Entry { key: "none".into(), entry: None },
            Output::Written { key: "k".into(), result: written(WriteStatus::Applied, 13), returns: false },
            Output::Written { key: "k".into(), result: number(written(WriteStatus::Applied, 14), -5), returns: false },
            Output::Written { key: "k".into(), result: written(WriteStatus::ConditionFailed, 13), returns: false },
            Output::Written { key: "k".into(), result: written(WriteStatus::Missing, 0), returns: false },
            Output::Written { key: "k".into(), result: after(entry("k", b"old", None)), returns: true },
            Output::Written { key: "new".into(), result: written(WriteStatus::Applied, 16), returns: true },
            Output::Entries(vec![
                ("a".into(), Ok(Some(entry("a", b"1", None)))),
                ("longer key".into(), Ok(None)),
                ("c".into(), Err(unavailable())),
            ]),
            Output::Writes(vec![("a".into(), Ok(written(WriteStatus::Applied, 16))), ("b".into(), Err(unavailable()))]),
            Output::Page { entries: vec![entry("x", b"", None), entry("y \"q\"", b"", None)], values: false },
            Output::Page { entries: vec![entry("x", b"1", None)], values: true },
            Output::Ttl { key: "k".into(), entry: Some((Some(9_300), Version(12))) },
            Output::Ttl { key: "k".into(), entry: Some((None, Version(12))) },
            Output::Ttl { key: "none".into(), entry: None },
            Output::Scalar { name: "round_trip_us", cell: Cell::shown(930, "PONG"), note: "0.93 ms".into() },
            Output::Facts(vec![("shard", Cell::plain(3)), ("log_bytes", Cell::shown(2048, "2.0 KiB"))]),
            Output::Table {
                columns: &["name", "shards_led"],
                rows: vec![vec![Cell::plain("node-1"), Cell::plain(5)], vec![Cell::plain("node-22"), Cell::plain(11)]],
            },
            Output::Note("3 keys".into()),
        ]
    }

    fn rendered(format: Format) -> String {
        let mut printer = Printer::new(format, false, Some(100));
        let bytes: Vec<u8> = outputs().iter().flat_map(|output| printer.render(output, NOW_MS)).collect();
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    #[test]
    fn an_accepted_write_shows_its_receipt() {
        let mut result = written(WriteStatus::Applied, 20);
        (result.ack, result.receipt) = (kvorum_client::Ack::Accepted, "3.7.1204".parse().ok());
        let output = Output::Written { key: "k".into(), result, returns: false };
        let shown = |format| String::from_utf8(Printer::new(format, false, None).render(&output, NOW_MS)).unwrap();
        assert_eq!(shown(Format::Human), "OK  version 20, accepted (fsync), write 3.7.1204\n");
        assert!(shown(Format::Json).contains(r#""write":"3.7.1204""#));
        assert!(shown(Format::Csv).ends_with(",3.7.1204,\r\n"));
    }

    #[test]
    fn people() {
        assert_eq!(
            rendered(Format::Human),
            r#"hello world
  version 12, expires in 9.3 s
"\xff,\x00"
  version 12
no such key
OK  version 13, committed (fsync)
-5  version 14, committed (fsync)
not written: the condition does not hold  the key has version 13
nothing to change  there is no such key
OK  version 15, committed (fsync)
before: old  version 12
OK  version 16, committed (fsync)
before: no such key
key           value  version  expires
a             1      12       never
"longer key"  -      -        no such key
c             -      -        Unavailable (not applied): shard 3 has no leader
a  OK  version 16, committed (fsync)
b  Unavailable (not applied): shard 3 has no leader
x
"y \"q\""
key  value  version  expires
x    1      12       never
9.3 s
never expires
no such key
PONG  0.93 ms
shard  3
log    2.0 KiB
name     shards led
node-1   5
node-22  11
3 keys
"#
        );
    }

    #[test]
    fn raw() {
        assert_eq!(
            rendered(Format::Raw),
            "hello world
\u{fffd},\0
applied
-5
condition_failed
missing
old
1


applied
error
x
y \"q\"
x\t1
9300
never
930
shard\t3
log_bytes\t2048
node-1\t5
node-22\t11
"
        );
    }

    #[test]
    fn a_single_raw_value_is_exact() {
        let mut printer = Printer::new(Format::Raw, false, None);
        printer.exact = true;
        let output = Output::Entry { key: "k".into(), entry: Some(entry("k", b"\x00\xff\n", None)) };
        assert_eq!(printer.render(&output, NOW_MS), b"\x00\xff\n");
    }

    #[test]
    fn json() {
        assert_eq!(
            rendered(Format::Json),
            r#"{"key":"greeting","value":"hello world","version":12,"expires_at_ms":1009300}
{"key":"bytes","value_base64":"/ywA","version":12,"expires_at_ms":null}
{"key":"none","value":null,"version":0,"expires_at_ms":null}
{"key":"k","status":"applied","version":13,"ack":"committed","durability":"fsync"}
{"key":"k","status":"applied","version":14,"ack":"committed","durability":"fsync","number":-5}
{"key":"k","status":"condition_failed","version":13,"ack":"committed","durability":"fsync"}
{"key":"k","status":"missing","version":0,"ack":"committed","durability":"fsync"}
{"key":"k","status":"applied","version":15,"ack":"committed","durability":"fsync","previous":"old","previous_version":12}
{"key":"new","status":"applied","version":16,"ack":"committed","durability":"fsync","previous":null,"previous_version":0}
{"key":"a","value":"1","version":12,"expires_at_ms":null}
{"key":"longer key","value":null,"version":0,"expires_at_ms":null}
{"key":"c","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"a","status":"applied","version":16,"ack":"committed","durability":"fsync"}
{"key":"b","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"x","version":12,"expires_at_ms":null}
{"key":"y \"q\"","version":12,"expires_at_ms":null}
{"key":"x","value":"1","version":12,"expires_at_ms":null}
{"key":"k","ttl_ms":9300,"version":12}
{"key":"k","ttl_ms":null,"version":12}
{"key":"none","ttl_ms":null,"version":0}
{"round_trip_us":930}
{"shard":3,"log_bytes":2048}
{"name":"node-1","shards_led":5}
{"name":"node-22","shards_led":11}
"#
        );
    }

    #[test]
    fn csv_has_one_header_whatever_the_bytes_are() {
        let mut printer = Printer::new(Format::Csv, false, None);
        let mut csv = |output: &Output| String::from_utf8(printer.render(output, NOW_MS)).unwrap();
        let page = |key: &'static [u8], value: &'static [u8]| Output::Page {
            entries: vec![Entry::new(key, value, Version(12))],
            values: true,
        };
        assert_eq!(
            csv(&page(b"x", b"1")),
            "key,value,version,expires_at_ms,key_encoding,value_encoding,error,message\r\nx,1,12,,utf8,utf8,,\r\n"
        );
        assert_eq!(csv(&page(b"y, \"q\"", b"2\n")), "\"y, \"\"q\"\"\",\"2\n\",12,,utf8,utf8,,\r\n");
        assert_eq!(csv(&page(b"\xff", b"")), "/w==,,12,,base64,utf8,,\r\n");
        let unavailable = Error::Server(ServerError::new(ErrorCode::Unavailable, "no leader"));
        assert_eq!(
            csv(&Output::Entries(vec![("a".into(), Ok(None)), ("b".into(), Err(unavailable))])),
            "a,,0,,utf8,,,\r\nb,,,,utf8,,Unavailable,Unavailable (not applied): no leader\r\n"
        );
        let header = "key,status,version,ack,durability,number,previous,previous_version,key_encoding,\
                      previous_encoding,error,outcome,message,write,existed\r\n";
        let write = |result| Output::Written { key: "k".into(), result, returns: true };
        let returning = after(entry("k", b"\xff", None));
        assert_eq!(
            csv(&write(written(WriteStatus::Applied, 13))),
            format!("{header}k,applied,13,committed,fsync,,,0,utf8,,,,,,\r\n")
        );
        assert_eq!(csv(&write(returning)), "k,applied,15,committed,fsync,,/w==,12,utf8,base64,,,,,\r\n");
    }

    #[test]
    fn raw_output_tells_the_errors_of_single_keys_on_stderr() {
        let printer = Printer::new(Format::Raw, false, None);
        let told: Vec<_> = outputs().iter().map(|output| printer.render_failures(output)).collect();
        assert_eq!(
            told.concat(),
            "error: c: Unavailable (not applied): shard 3 has no leader\n\
             error: b: Unavailable (not applied): shard 3 has no leader\n"
        );
        let printer = Printer::new(Format::Json, false, None);
        assert!(outputs().iter().all(|output| printer.render_failures(output).is_empty()), "JSON has a place for them");
    }

    #[test]
    fn a_table_breaks_no_cell_and_goes_without_what_can_be_done_without() {
        let cells = ["node-1", "127.0.0.1:23701", "64.0 MiB", "0191d1c6"].map(Cell::plain);
        let output = Output::Table { columns: &["name", "address", "memory_bytes", "id"], rows: vec![cells.to_vec()] };
        let lines = |width| {
            let bytes = Printer::new(Format::Human, false, Some(width)).render(&output, NOW_MS);
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(45), ["name    address          memory    id", "node-1  127.0.0.1:23701  64.0 MiB  0191d1c6"]);
        assert_eq!(lines(40), ["name    address          memory", "node-1  127.0.0.1:23701  64.0 MiB"]);
        assert_eq!(lines(30), ["name    address", "node-1  127.0.0.1:23701"]);
    }

    #[test]
    fn a_table_of_many_columns_is_unfolded_where_it_does_not_fit() {
        let row = |shard: u16| {
            vec![Cell::plain(shard), Cell::plain("node-1"), Cell::plain("node-1 node-2 node-3"), Cell::plain(7)]
        };
        let output = Output::Table { columns: &["shard", "leader", "replicas", "keys"], rows: vec![row(0), row(1)] };
        let shown =
            |width| String::from_utf8(Printer::new(Format::Human, false, Some(width)).render(&output, NOW_MS)).unwrap();
        assert_eq!(shown(60).lines().next(), Some("shard  leader  replicas              keys"));
        let unfolded = "shard     0\nleader    node-1\nreplicas  node-1 node-2 node-3\nkeys      7\n";
        assert_eq!(shown(36), format!("{unfolded}\n{}", unfolded.replace('0', "1")));
    }

    #[test]
    fn errors_say_what_happened_and_what_to_do() {
        let printer = Printer::new(Format::Human, false, None);
        let unavailable = ServerError::new(ErrorCode::Unavailable, "shard 3 has no leader");
        let deadline = |outcome| Error::DeadlineExceeded { outcome, attempts: 2, waited: Duration::from_secs(5) };
        for (error, safe, text) in [
            (
                Error::Server(unavailable.clone()),
                false,
                "error: shard 3 has no leader (Unavailable); nothing was changed, retry is safe\n",
            ),
            (
                Error::Server(unavailable.with_outcome(Outcome::Unknown)),
                false,
                "outcome unknown: shard 3 has no leader (Unavailable); retry is unsafe: it may take effect twice\n",
            ),
            (deadline(Outcome::Unknown), true, "outcome unknown: no answer within 5 s and 2 attempts; retry is safe\n"),
            (
                Error::TooLarge { what: "the value's length in bytes", size: 20, limit: 10 },
                true,
                "error: the value's length in bytes is 20, the limit is 10\n",
            ),
        ] {
            assert_eq!(printer.render_error(&error, safe), text);
        }
        let json = Printer::new(Format::Json, false, None).render_error(&deadline(Outcome::Unknown), true);
        assert_eq!(
            json,
            "{\"error\":{\"code\":\"DeadlineExceeded\",\"message\":\"no answer within 5 s and 2 attempts (outcome unknown)\",\
         \"outcome\":\"unknown\",\"retryable\":false}}\n"
        );
    }

    #[test]
    fn colours_only_when_wanted() {
        let output = Output::Entry { key: "none".into(), entry: None };
        let coloured = Printer::new(Format::Human, true, None).render(&output, NOW_MS);
        assert_eq!(String::from_utf8(coloured).unwrap(), "\u{1b}[33mno such key\u{1b}[0m\n");
    }
}
