//! Logs: one line per event that an operator cares about, on stderr.
//!
//! Text lines are `time LEVEL message field=value …`, JSON lines one object each. The default shows this program's
//! `info` and what others warn of; `KVORUM_LOG` replaces it with any filter of `tracing-subscriber`, such as
//! `debug` or `warn,crate::peers=trace`.
//!
//! Nothing of the node writes to stderr by itself: lines go through [`lines`], which never fails and never waits.

mod lines;

use crate::runtime::log_level;
use crate::runtime::log_ring::RingLayer;
use lines::LogLines;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// The environment variable that holds the filter.
pub const FILTER_VARIABLE: &str = "KVORUM_LOG";
/// `ractor_cluster` warns of each connection that ends, which this program's own lines say better.
const FILTER_DEFAULT: &str = "warn,kvorum=info,ractor_cluster=error";

/// How long the end of the process waits for the last lines to be written: stderr may have a reader that does not read.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// The process's log, once it has begun.
static LINES: OnceLock<LogLines> = OnceLock::new();

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("{FILTER_VARIABLE}: {value:?} is not a log filter ({detail}); examples: info, warn,kvorum=debug")]
    Filter {
        /// The filter.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The process logs already.
    #[error("logging was started twice")]
    Twice,
    /// The system gives no thread.
    #[error("the log's thread: {0}")]
    Thread(io::Error),
}

/// Starts logging, once per process. `filter` is what [`FILTER_VARIABLE`] holds, if it is set.
///
/// # Errors
/// A filter that does not parse, a second call, or no thread for it.
pub fn start(format: LogFormat, filter: Option<String>) -> Result<(), TelemetryError> {
    let filter = filter.filter(|filter| !filter.trim().is_empty()).unwrap_or_else(|| FILTER_DEFAULT.to_owned());
    let parsed = EnvFilter::try_new(&filter)
        .map_err(|error| TelemetryError::Filter { value: filter.clone(), detail: error.to_string() })?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = LogLines::start(io::stderr()).map_err(TelemetryError::Thread)?;
    LINES.set(lines.clone()).map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(report_panic));
    let subscriber = fmt()
        .with_env_filter(parsed)
        .with_writer(lines)
        .with_ansi(colour)
        // It would print what it can't write, and panic if it can't print.
        .log_internal_errors(false);
    let (begun, apply) = match format {
        LogFormat::Text => {
            let subscriber = subscriber.compact().with_target(false).with_filter_reloading();
            let apply = applies(subscriber.reload_handle());
            (subscriber.finish().with(RingLayer).try_init(), apply)
        }
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let apply = applies(subscriber.reload_handle());
            (subscriber.finish().with(RingLayer).try_init(), apply)
        }
    };
    begun.map_err(|_| TelemetryError::Twice)?;
    log_level::begin(filter, apply);
    Ok(())
}

/// Replaces the log's filter. The log lives as long as the process, so that can't fail.
fn applies<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Box<dyn Fn(EnvFilter) + Send + Sync> {
    Box::new(move |filter| drop(handle.reload(filter)))
}

/// Writes the line by which the process ends, after all that was logged. Takes about a second at most if logging has begun,
/// however stuck stderr is.
pub fn last_line(line: impl Display) {
    let text = format!("{line}\n");
    match LINES.get() {
        Some(lines) => {
            lines.push(text.as_bytes());
            flush();
        }
        // Nobody is left to tell if stderr is closed.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Waits for what was logged to be written, a second at most.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_WITHIN);
    }
}

/// What the standard library's hook prints, by way of the log: a shard's panic must not wait for stderr either.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let Some(lines) = LINES.get() else { return };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let mut text = format!("\nthread '{name}' panicked at {place}:\n{message}\n");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("stack backtrace:\n{backtrace}"));
    }
    lines.push(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let error = start(LogFormat::Text, Some("kvorum=loud".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("KVORUM_LOG: \"kvorum=loud\" is not a log filter"), "{error}");
    }
}
