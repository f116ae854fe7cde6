//! Logs: one line per event that an operator cares about, on stderr.
//!
//! Text lines are `time LEVEL message field=value …`, JSON lines one object each. The default shows this program's
//! `info` and what others warn of; `KVORUM_LOG` replaces it with any filter of `tracing-subscriber`, such as
//! `debug` or `warn,kvorum_node::peers=trace`.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The environment variable that holds the filter.
pub const FILTER_VARIABLE: &str = "KVORUM_LOG";
/// `ractor_cluster` warns of each connection that ends, which this program's own lines say better.
const FILTER_DEFAULT: &str = "warn,kvorum=info,ractor_cluster=error";

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
}

/// Starts logging, once per process. `filter` is what [`FILTER_VARIABLE`] holds, if it is set.
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn start(format: LogFormat, filter: Option<String>) -> Result<(), TelemetryError> {
    let filter = filter.filter(|filter| !filter.trim().is_empty()).unwrap_or_else(|| FILTER_DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| TelemetryError::Filter { value: filter, detail: error.to_string() })?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    match format {
        LogFormat::Text => lines.compact().with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
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
