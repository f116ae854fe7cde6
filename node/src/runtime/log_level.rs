//! How much the process logs: as its environment says, or for a while as an operator does.

use kvorum_protocol::{LogLevel, LogLevelAsk, LogLevelView};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;
use tracing_subscriber::EnvFilter;

/// Puts a filter in force.
type Apply = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// The log of the process, once it has begun.
static OF_PROCESS: OnceLock<Arc<Verbosity>> = OnceLock::new();

/// How much is logged.
pub struct Verbosity {
    /// The filter that the log began with.
    base: String,
    apply: Apply,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// For how long another filter is in force.
    until: Option<Instant>,
    /// Counts what was asked for: who waits to undo one thing must not undo the next one.
    changes: u64,
    /// The filter that is in force, if it is not the first one.
    filter: Option<String>,
}

/// Says how the filter of this process's log, which began as `base`, is replaced by another one.
pub fn begin(base: String, apply: Apply) {
    // The process's log begins once.
    let _ = OF_PROCESS.set(Arc::new(Verbosity { base, apply, asked: Mutex::default() }));
}

/// The log of this process, if it has begun.
pub fn of_process() -> Option<&'static Arc<Verbosity>> {
    OF_PROCESS.get()
}

impl Verbosity {
    /// Does what is asked. Must be called within a runtime of tokio.
    pub fn ask(self: &Arc<Self>, ask: LogLevelAsk) -> LogLevelView {
        match ask {
            LogLevelAsk::Show => {}
            LogLevelAsk::Set { level, for_ms } => self.set(level, Duration::from_millis(for_ms)),
            LogLevelAsk::Reset => self.reset(None),
        }
        let asked = self.asked.lock();
        let left = asked.until.map(|until| until.saturating_duration_since(Instant::now()));
        LogLevelView {
            filter: asked.filter.as_ref().unwrap_or(&self.base).clone(),
            left_ms: left.map(|left| left.as_millis() as u64),
        }
    }

    fn set(self: &Arc<Self>, level: LogLevel, life: Duration) {
        let Some(filter) = with_level(&self.base, level) else { return };
        let until = Instant::now() + life;
        // Before: behind it there may be nothing but errors.
        warn!(%level, seconds = life.as_secs_f64(), "an operator has the log show more or less for a while");
        let change = {
            let mut asked = self.asked.lock();
            asked.changes += 1;
            asked.until = Some(until);
            asked.filter = Some(filter.to_string());
            (self.apply)(filter);
            asked.changes
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            this.reset(Some(change));
        });
    }

    /// Logs as in the beginning; if `only` is given, unless something else was asked for since that change.
    fn reset(&self, only: Option<u64>) {
        {
            let mut asked = self.asked.lock();
            if asked.filter.is_none() || only.is_some_and(|change| change != asked.changes) {
                return;
            }
            let Ok(base) = EnvFilter::try_new(&self.base) else { return };
            *asked = Asked { changes: asked.changes, ..Asked::default() };
            (self.apply)(base);
        }
        warn!(filter = self.base, "the log shows as much as in the beginning");
    }
}

/// A filter that lets so much through of this program's own lines, and of others as much as before; `None` if that can't be read.
fn with_level(base: &str, level: LogLevel) -> Option<EnvFilter> {
    // What names a part of this program would count for more.
    let others = base.split(',').filter(|directive| !directive.trim_start().starts_with("kvorum"));
    EnvFilter::try_new(others.chain([&*format!("kvorum={level}")]).collect::<Vec<_>>().join(",")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const BASE: &str = "warn,kvorum=info,ractor_cluster=error";

    /// A log, and the filters that are put in force for it.
    fn verbosity() -> (Arc<Verbosity>, mpsc::UnboundedReceiver<String>) {
        let (applied, filters) = mpsc::unbounded_channel();
        let apply: Apply = Box::new(move |filter| drop(applied.send(filter.to_string())));
        (Arc::new(Verbosity { base: BASE.to_owned(), apply, asked: Mutex::default() }), filters)
    }

    fn debug(for_ms: u64) -> LogLevelAsk {
        LogLevelAsk::Set { level: LogLevel::Debug, for_ms }
    }

    #[test]
    fn the_level_of_this_program_replaces_the_one_before() {
        let filter = with_level(BASE, LogLevel::Debug).unwrap().to_string();
        assert!(filter.contains("kvorum=debug") && filter.contains("ractor_cluster=error"), "{filter}");
        assert!(!filter.contains("kvorum=info"), "{filter}");
        let filter = with_level("warn,kvorum_node::peers=trace,kvorum_core=info", LogLevel::Error).unwrap().to_string();
        assert!(!filter.contains("kvorum_"), "{filter}");
        assert!(with_level("debug", LogLevel::Error).unwrap().to_string().contains("kvorum=error"));
    }

    #[tokio::test]
    async fn it_ends_by_itself() {
        let (log, mut filters) = verbosity();
        assert_eq!(log.ask(LogLevelAsk::Show), LogLevelView { filter: BASE.to_owned(), left_ms: None });
        log.ask(debug(1));
        let mut next = async || timeout(Duration::from_secs(30), filters.recv()).await.unwrap().unwrap();
        assert!(next().await.contains("kvorum=debug"));
        assert!(next().await.contains("kvorum=info"));
    }

    #[tokio::test]
    async fn the_end_of_one_time_is_not_that_of_the_next_one() {
        let (log, mut filters) = verbosity();
        let view = log.ask(debug(3_600_000));
        assert!(view.filter.contains("kvorum=debug"), "{}", view.filter);
        assert!(view.left_ms.is_some_and(|ms| ms > 3_000_000), "{view:?}");
        log.ask(debug(7_200_000));
        log.reset(Some(1));
        assert!(log.ask(LogLevelAsk::Show).left_ms.is_some_and(|ms| ms > 6_000_000));
        // An operator ends it; its own end comes too late then.
        assert_eq!(log.ask(LogLevelAsk::Reset), LogLevelView { filter: BASE.to_owned(), left_ms: None });
        log.reset(Some(2));
        let count = std::iter::from_fn(|| filters.try_recv().ok()).count();
        assert_eq!(count, 3, "two for a while, and the first one again");
    }
}
