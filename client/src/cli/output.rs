//! What a command has to say, and how it is said: to people, raw, as JSON lines, or as CSV. Pure: the time comes in as an
//! argument.

use crate::cli::text::{duration, printable};
use crate::{Bytes, Entry, Error, Outcome, WriteResult, WriteStatus};
use anstyle::{AnsiColor, Style};
use base64::Engine;
use comfy_table::{Cell as TableCell, ContentArrangement, Table, presets};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// One thing that a command says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Output {
    /// A key's value, if there is one.
    Entry { key: Bytes, entry: Option<Entry> },
    /// What became of a write.
    Written { key: Bytes, result: WriteResult },
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
    /// Rows.
    Table { columns: &'static [&'static str], rows: Vec<Vec<Cell>> },
    /// Running text.
    Text(String),
    /// A remark that only people get.
    Note(String),
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
        Cell { value, shown }
    }

    /// A value that people see in other words.
    pub(crate) fn shown(value: impl Into<Value>, shown: impl Into<String>) -> Self {
        Cell { value: value.into(), shown: shown.into() }
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
    /// The CSV header that was printed last; it is printed again when it changes.
    csv_header: Vec<&'static str>,
}

const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const NAME: Style = AnsiColor::Cyan.on_default();

impl Printer {
    pub(crate) fn new(format: Format, colors: bool, width: Option<u16>) -> Self {
        Printer { format, colors, width, exact: false, csv_header: Vec::new() }
    }

    /// The bytes to print.
    pub(crate) fn render(&mut self, output: &Output, now_ms: u64) -> Vec<u8> {
        match self.format {
            Format::Human => self.human(output, now_ms).into_bytes(),
            Format::Raw => self.raw(output),
            Format::Json => records(output).iter().flat_map(|record| json_line(record).into_bytes()).collect(),
            Format::Csv => self.csv(&records(output)).into_bytes(),
        }
    }

    /// An error as it goes to stderr.
    pub(crate) fn render_error(&self, error: &Error, repeat_is_safe: bool) -> String {
        if self.format == Format::Json {
            let fields = [
                ("code", error.code().to_string().into()),
                ("outcome", outcome_name(error.outcome()).into()),
                ("retryable", error.is_retryable().into()),
                ("message", error.to_string().into()),
            ];
            let fields = Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
            return json_line(&[("error", fields)]);
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

    /// A mistake of the user's as it goes to stderr.
    pub(crate) fn render_usage(&self, problem: &str) -> String {
        if self.format == Format::Json {
            return json_line(&[("error", serde_json::json!({"code": "Usage", "message": problem}))]);
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
            Output::Written { result, .. } => format!("{}\n", self.written(result, now_ms)),
            Output::Entries(results) => self.entries(results, now_ms),
            Output::Writes(results) => {
                let line = |(key, result): &(Bytes, Result<WriteResult, Error>)| {
                    let said = match result {
                        Ok(result) => self.written(result, now_ms),
                        Err(error) => self.paint(BAD, &error.to_string()),
                    };
                    format!("{}  {said}\n", self.paint(NAME, &printable(key)))
                };
                results.iter().map(line).collect()
            }
            Output::Page { entries, values: false } => {
                entries.iter().map(|entry| format!("{}\n", printable(&entry.key))).collect()
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
            Output::Table { columns, rows } => {
                let rows = rows.iter().map(|row| row.iter().map(|cell| cell.shown.clone()).collect());
                self.table(columns, rows)
            }
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
            (WriteStatus::Applied, version) => format!("version {version}, {} ({})", result.ack, result.durability),
            (WriteStatus::ConditionFailed, 0) => "there is no such key".to_owned(),
            (WriteStatus::ConditionFailed, version) => format!("the key has version {version}"),
            (WriteStatus::Missing, 0) => "there is no such key".to_owned(),
            (WriteStatus::Missing, version) => format!("version {version} stays"),
        };
        write!(out, "  {}", self.dim(&note)).expect("writing to a string can't fail");
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
                Err(error) => ("-".to_owned(), "-".to_owned(), error.to_string()),
            };
            vec![printable(key), value, version, expiry]
        });
        self.table(&["key", "value", "version", "expires"], rows)
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
            column.set_padding((0, 2));
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
            Output::Written { result, .. } => raw_written(result).into_bytes(),
            Output::Entries(results) => {
                // One line per key, so that the lines can be matched with the keys; what is missing is an empty one.
                let line = |(_, result): &(Bytes, Result<Option<Entry>, Error>)| match result {
                    Ok(Some(entry)) => [&entry.value[..], b"\n"].concat(),
                    Ok(None) | Err(_) => b"\n".to_vec(),
                };
                results.iter().flat_map(line).collect()
            }
            Output::Writes(results) => {
                let line = |(_, result): &(Bytes, Result<WriteResult, Error>)| match result {
                    Ok(result) => raw_written(result),
                    Err(error) => format!("error: {error}\n"),
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
            Output::Facts(facts) => {
                let line = |(name, cell): &(&str, Cell)| format!("{name}\t{}\n", csv_text(&cell.value));
                facts.iter().map(line).collect::<String>().into_bytes()
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

    fn csv(&mut self, records: &[Record]) -> String {
        let mut out = String::new();
        for record in records {
            let header: Vec<_> = record.iter().map(|(name, _)| *name).collect();
            if header != self.csv_header {
                out.push_str(&(header.join(",") + "\r\n"));
                self.csv_header = header;
            }
            let fields: Vec<_> = record.iter().map(|(_, value)| csv_field(&csv_text(value))).collect();
            out.push_str(&(fields.join(",") + "\r\n"));
        }
        out
    }
}

/// A name as people read it: without its unit, which its value has.
fn label(name: &str) -> String {
    let units = ["_bytes", "_ms", "_us"];
    units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name).replace('_', " ")
}

/// An error in words that need no knowledge of codes.
fn sentence(error: &Error) -> String {
    match error {
        Error::Server(server) if server.detail.is_empty() => server.code.to_string(),
        Error::Server(server) => format!("{} ({})", printable(server.detail.as_bytes()), server.code),
        other => other.to_string().replace(&format!(" ({})", other.outcome()), ""),
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
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

fn status_name(status: WriteStatus) -> &'static str {
    match status {
        WriteStatus::Applied => "applied",
        WriteStatus::ConditionFailed => "condition_failed",
        WriteStatus::Missing => "missing",
    }
}

/// Fields in order.
type Record = Vec<(&'static str, Value)>;

/// An output as machines get it.
fn records(output: &Output) -> Vec<Record> {
    match output {
        Output::Entry { key, entry } => vec![entry_record(key, entry.as_ref(), true)],
        Output::Written { key, result } => vec![write_record(key, result)],
        Output::Entries(results) => {
            let record = |(key, result): &(Bytes, Result<Option<Entry>, Error>)| match result {
                Ok(entry) => entry_record(key, entry.as_ref(), true),
                Err(error) => error_record(key, error),
            };
            results.iter().map(record).collect()
        }
        Output::Writes(results) => {
            let record = |(key, result): &(Bytes, Result<WriteResult, Error>)| match result {
                Ok(result) => write_record(key, result),
                Err(error) => error_record(key, error),
            };
            results.iter().map(record).collect()
        }
        Output::Page { entries, values } => {
            entries.iter().map(|entry| entry_record(&entry.key, Some(entry), *values)).collect()
        }
        Output::Scalar { name, cell, .. } => vec![vec![(*name, cell.value.clone())]],
        Output::Facts(facts) => vec![facts.iter().map(|(name, cell)| (*name, cell.value.clone())).collect()],
        Output::Table { columns, rows } => {
            let record =
                |row: &Vec<Cell>| columns.iter().copied().zip(row.iter().map(|cell| cell.value.clone())).collect();
            rows.iter().map(record).collect()
        }
        Output::Text(text) => vec![vec![("text", text.clone().into())]],
        Output::Note(_) => Vec::new(),
    }
}

/// Bytes under a name; those that are not UTF-8 go by another name and in base64, so that neither is taken for the other.
fn bytes_field(name: &'static str, base64_name: &'static str, bytes: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name, text.into()),
        Err(_) => (base64_name, base64::engine::general_purpose::STANDARD.encode(bytes).into()),
    }
}

fn entry_record(key: &[u8], entry: Option<&Entry>, value: bool) -> Record {
    let mut record = vec![bytes_field("key", "key_base64", key)];
    if value {
        record.push(match entry {
            Some(entry) => bytes_field("value", "value_base64", &entry.value),
            None => ("value", Value::Null),
        });
    }
    record.push(("version", entry.map_or(0, |entry| entry.version.0).into()));
    record.push(("expires_at_ms", entry.and_then(|entry| entry.expires_at_ms).into()));
    record
}

fn write_record(key: &[u8], result: &WriteResult) -> Record {
    let mut record = vec![
        bytes_field("key", "key_base64", key),
        ("status", status_name(result.status).into()),
        ("version", result.version.0.into()),
        ("ack", result.ack.to_string().into()),
        ("durability", result.durability.to_string().into()),
    ];
    if let Some(number) = result.number {
        record.push(("number", number.into()));
    }
    if let Some(previous) = &result.previous {
        record.push(bytes_field("previous", "previous_base64", &previous.value));
        record.push(("previous_version", previous.version.0.into()));
    }
    record
}

fn error_record(key: &[u8], error: &Error) -> Record {
    vec![
        bytes_field("key", "key_base64", key),
        ("error", error.code().to_string().into()),
        ("outcome", outcome_name(error.outcome()).into()),
        ("message", error.to_string().into()),
    ]
}

fn json_line(record: &[(&'static str, Value)]) -> String {
    let fields: Vec<_> = record.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}\n", fields.join(","))
}

fn csv_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(csv_text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A field as RFC 4180 has it.
fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, Durability, ErrorCode, ServerError, Version};

    const NOW_MS: u64 = 1_000_000;

    fn entry(key: &'static str, value: &'static [u8], expires_at_ms: Option<u64>) -> Entry {
        Entry { key: key.into(), value: Bytes::from_static(value), version: Version(12), expires_at_ms }
    }

    fn written(status: WriteStatus, version: u64) -> WriteResult {
        let durability = Durability::Fsync;
        WriteResult { status, version: Version(version), ack: Ack::Committed, durability, number: None, previous: None }
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
            Output::Written { key: "k".into(), result: written(WriteStatus::Applied, 13) },
            Output::Written {
                key: "k".into(),
                result: WriteResult { number: Some(-5), ..written(WriteStatus::Applied, 14) },
            },
            Output::Written { key: "k".into(), result: written(WriteStatus::ConditionFailed, 13) },
            Output::Written { key: "k".into(), result: written(WriteStatus::Missing, 0) },
            Output::Written {
                key: "k".into(),
                result: WriteResult { previous: Some(entry("k", b"old", None)), ..written(WriteStatus::Applied, 15) },
            },
            Output::Entries(vec![
                ("a".into(), Ok(Some(entry("a", b"1", None)))),
                ("longer key".into(), Ok(None)),
                ("c".into(), Err(unavailable())),
            ]),
            Output::Writes(vec![("a".into(), Ok(written(WriteStatus::Applied, 16))), ("b".into(), Err(unavailable()))]),
            Output::Page { entries: vec![entry("x", b"", None), entry("y \"q\"", b"", None)], values: false },
            Output::Page { entries: vec![entry("x", b"1", None)], values: true },
            Output::Scalar { name: "ttl_ms", cell: Cell::shown(9_300, "9.3 s"), note: String::new() },
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
key         value  version  expires
a           1      12       never
longer key  -      -        no such key
c           -      -        Unavailable (not applied): shard 3 has no leader
a  OK  version 16, committed (fsync)
b  Unavailable (not applied): shard 3 has no leader
x
y "q"
key  value  version  expires
x    1      12       never
9.3 s
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
applied
1


applied
error: Unavailable (not applied): shard 3 has no leader
x
y \"q\"
x\t1
9300
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
{"key":"a","value":"1","version":12,"expires_at_ms":null}
{"key":"longer key","value":null,"version":0,"expires_at_ms":null}
{"key":"c","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"a","status":"applied","version":16,"ack":"committed","durability":"fsync"}
{"key":"b","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"x","version":12,"expires_at_ms":null}
{"key":"y \"q\"","version":12,"expires_at_ms":null}
{"key":"x","value":"1","version":12,"expires_at_ms":null}
{"ttl_ms":9300}
{"shard":3,"log_bytes":2048}
{"name":"node-1","shards_led":5}
{"name":"node-22","shards_led":11}
"#
        );
    }

    #[test]
    fn csv() {
        let mut printer = Printer::new(Format::Csv, false, None);
        let mut csv = |output: &Output| String::from_utf8(printer.render(output, NOW_MS)).unwrap();
        let page = |key: &'static str, value| Output::Page { entries: vec![entry(key, value, None)], values: true };
        assert_eq!(csv(&page("x", b"1")), "key,value,version,expires_at_ms\r\nx,1,12,\r\n");
        assert_eq!(csv(&page("y, \"q\"", b"2\n")), "\"y, \"\"q\"\"\",\"2\n\",12,\r\n", "the header comes once");
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
            (deadline(Outcome::Unknown), true, "outcome unknown: no answer within 5s and 2 attempts; retry is safe\n"),
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
            "{\"error\":{\"code\":\"DeadlineExceeded\",\"message\":\"no answer within 5s and 2 attempts (outcome unknown)\",\
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
