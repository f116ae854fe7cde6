//! Outputs as machines get them: records of named fields, and their forms in JSON and CSV. Pure.

use crate::output::{Cell, Output, outcome_name, status_name};
use base64::Engine;
use kvorum_client::{Bytes, Entry, Error, Version, WriteResult};
use serde_json::Value;

/// Fields in order.
pub(crate) type Record = Vec<(&'static str, Value)>;

/// An output as machines get it.
pub(crate) fn records(output: &Output) -> Vec<Record> {
    match output {
        Output::Entry { key, entry } => vec![entry_record(key, entry.as_ref(), true)],
        Output::Ttl { key, entry } => {
            let (ms, version) = entry.unwrap_or((None, Version(0)));
            let key = bytes_field("key", "key_base64", key);
            vec![vec![key, ("ttl_ms", ms.into()), ("version", version.0.into())]]
        }
        Output::Written { key, result, returns } => vec![write_record(key, result, *returns)],
        Output::Entries(results) => {
            let record = |(key, result): &(Bytes, Result<Option<Entry>, Error>)| match result {
                Ok(entry) => entry_record(key, entry.as_ref(), true),
                Err(error) => error_record(key, error),
            };
            results.iter().map(record).collect()
        }
        Output::Writes(results) => {
            let record = |(key, result): &(Bytes, Result<WriteResult, Error>)| match result {
                Ok(result) => write_record(key, result, false),
                Err(error) => error_record(key, error),
            };
            results.iter().map(record).collect()
        }
        Output::Page { entries, values } => {
            entries.iter().map(|entry| entry_record(&entry.key, Some(entry), *values)).collect()
        }
        Output::Scalar { name, cell, .. } => vec![vec![(*name, cell.value.clone())]],
        Output::Facts(facts) | Output::Report { facts, .. } | Output::Line { facts, .. } => {
            vec![facts.iter().map(|(name, cell)| (*name, cell.value.clone())).collect()]
        }
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
pub(crate) fn bytes_field(name: &'static str, base64_name: &'static str, bytes: &[u8]) -> (&'static str, Value) {
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

fn write_record(key: &[u8], result: &WriteResult, returns: bool) -> Record {
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
    if let Some(receipt) = result.receipt {
        record.push(("write", receipt.to_string().into()));
    }
    if let Some(existed) = result.existed {
        record.push(("existed", existed.into()));
    }
    match &result.previous {
        Some(previous) => {
            record.push(bytes_field("previous", "previous_base64", &previous.value));
            record.push(("previous_version", previous.version.0.into()));
        }
        None if returns => record.extend([("previous", Value::Null), ("previous_version", 0.into())]),
        None => {}
    }
    record
}

fn error_record(key: &[u8], error: &Error) -> Record {
    vec![
        bytes_field("key", "key_base64", key),
        ("error", error.code().to_string().into()),
        ("outcome", outcome_name(error.outcome()).into()),
        ("message", error.report().into()),
    ]
}

pub(crate) fn json_line(record: &[(&'static str, Value)]) -> String {
    let fields: Vec<_> = record.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}\n", fields.join(","))
}

/// The columns of an output in CSV. What may be bytes has a column that says how they are written (`utf8` or `base64`).
pub(crate) fn csv_columns(output: &Output) -> Vec<&'static str> {
    match output {
        Output::Entry { .. } | Output::Entries(_) | Output::Page { values: true, .. } => {
            vec!["key", "value", "version", "expires_at_ms", "key_encoding", "value_encoding", "error", "message"]
        }
        Output::Page { values: false, .. } => vec!["key", "version", "expires_at_ms", "key_encoding"],
        Output::Ttl { .. } => vec!["key", "ttl_ms", "version", "key_encoding"],
        Output::Written { .. } | Output::Writes(_) => vec![
            "key",
            "status",
            "version",
            "ack",
            "durability",
            "number",
            "previous",
            "previous_version",
            "key_encoding",
            "previous_encoding",
            "error",
            "outcome",
            "message",
            "write",
            "existed",
        ],
        Output::Scalar { name, .. } => vec![*name],
        Output::Facts(facts) | Output::Report { facts, .. } | Output::Line { facts, .. } => {
            facts.iter().map(|(name, _)| *name).collect()
        }
        Output::Table { columns, .. } => columns.to_vec(),
        Output::Text(_) | Output::Note(_) => vec!["text"],
    }
}

/// What a record has for a column.
pub(crate) fn csv_cell(record: &Record, column: &str) -> String {
    let field = |wanted: &str| record.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    if let Some(of) = column.strip_suffix("_encoding") {
        return match (field(of), field(&format!("{of}_base64"))) {
            (Some(Value::String(_)), _) => "utf8".to_owned(),
            (_, Some(_)) => "base64".to_owned(),
            _ => String::new(),
        };
    }
    field(column).or_else(|| field(&format!("{column}_base64"))).map(csv_text).unwrap_or_default()
}

pub(crate) fn csv_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(csv_text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A field as RFC 4180 has it.
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
