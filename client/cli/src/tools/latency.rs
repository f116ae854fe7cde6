//! `--latency`: how long one operation after the other takes, as this program sees it.

use super::Bench;
use super::spans::Spans;
use crate::args::Pace;
use crate::exit::Exit;
use crate::live::{bar, thousands};
use crate::output::{Cell, Output};
use crate::parse::Action;
use crate::run::{Emit, Failure, run};
use crate::text::duration;
use kvorum_client::Error;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Between two pictures of the histogram.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Columns where the terminal does not say how many it has.
const COLUMNS_DEFAULT: usize = 80;

/// What was measured so far.
struct Measured {
    spans: Spans,
    began: Instant,
    errors: u64,
    last_error: Option<Error>,
}

/// Whether --latency may do this over and over.
pub(super) fn can_measure(action: &Action) -> bool {
    matches!(
        action,
        Action::Ping(_)
            | Action::Get(_)
            | Action::Ttl(_)
            | Action::Exists(_)
            | Action::MultiGet(_)
            | Action::MultiPut(_)
            | Action::Write(_)
            | Action::Explain(_)
    )
}

/// Measures until ctrl-c, the number of samples, or the time ends it.
///
/// # Errors
/// The command is none that can be measured, or every sample failed.
pub(super) async fn latency(bench: Bench<'_>, pace: Pace, emit: Emit<'_>) -> Result<Exit, Failure> {
    if !can_measure(bench.action) {
        return Err(Failure::Usage("--latency measures PING and commands on single keys, such as GET key".to_owned()));
    }
    let mut measured = Measured { spans: Spans::new(), began: Instant::now(), errors: 0, last_error: None };
    let picture = bar(None);
    let columns = bench.printer.width.map_or(COLUMNS_DEFAULT, usize::from);
    let end = tokio::time::sleep(pace.lasts.min(Duration::from_secs(86_400)));
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(end, interrupt);
    let mut ticks = tokio::time::interval(pace.every.max(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn: Option<Instant> = None;
    let sampling = async {
        while measured.spans.count() + measured.errors < pace.samples {
            ticks.tick().await;
            measured.sample(&bench).await?;
            if drawn.is_none_or(|at| at.elapsed() >= REDRAW_EVERY) {
                picture.set_message(measured.picture(bench.typed, columns));
                drawn = Some(Instant::now());
            }
        }
        Ok(())
    };
    let sampled: Result<(), Failure> = tokio::select! {
        sampled = sampling => sampled,
        () = &mut end => Ok(()),
        Ok(()) = &mut interrupt => Ok(()),
    };
    picture.finish_and_clear();
    sampled?;
    if bench.is_for_people() {
        emit(Output::Text(measured.picture(bench.typed, columns) + "\n"));
    } else {
        emit(measured.facts());
    }
    match measured.last_error {
        Some(error) if measured.spans.count() == 0 => Err(error.into()),
        Some(_) => Ok(Exit::Failed),
        None => Ok(Exit::Ok),
    }
}

impl Measured {
    /// # Errors
    /// It makes no sense in this cluster. That an operation fails is counted.
    async fn sample(&mut self, bench: &Bench<'_>) -> Result<(), Failure> {
        let client = bench.client.within(bench.deadline);
        let began = Instant::now();
        match run(&client, bench.action, bench.settings, &mut |_| true).await {
            Ok(_) => self.spans.note(began.elapsed()),
            Err(Failure::Operation(error)) => {
                self.errors += 1;
                self.last_error = Some(error);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn picture(&self, typed: &str, columns: usize) -> String {
        let samples = format!("{} samples in {}", thousands(self.spans.count()), duration(self.began.elapsed()));
        let name: String = typed.chars().take(columns.saturating_sub(samples.len() + 2)).collect();
        let mut lines = vec![format!("{name}  {samples}")];
        if let Some(error) = &self.last_error {
            lines.push(format!("{} errors, the last: {}", thousands(self.errors), error.report()));
        }
        lines.extend(wrapped(&self.spans.line(), columns));
        lines.extend(self.spans.rows(columns));
        lines.join("\n")
    }

    fn facts(&self) -> Output {
        let elapsed = self.began.elapsed();
        let mut facts = vec![
            ("samples", Cell::plain(self.spans.count())),
            ("errors", Cell::plain(self.errors)),
            ("elapsed_ms", Cell::shown(elapsed.as_millis() as u64, duration(elapsed))),
        ];
        facts.extend(self.spans.facts());
        Output::Facts(facts)
    }
}

/// A line of parts with two blanks between, broken so that it fits.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in line.split("  ").filter(|part| !part.is_empty()) {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 2 + part.chars().count() <= columns => *last += &format!("  {part}"),
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_percentiles_fits_a_narrow_terminal() {
        let line = "min 0.10 ms  p50 0.10 ms  max 2.00 ms";
        assert_eq!(wrapped(line, 80), [line]);
        assert_eq!(wrapped(line, 26), ["min 0.10 ms  p50 0.10 ms", "max 2.00 ms"]);
        assert_eq!(wrapped("", 26), Vec::<String>::new());
    }

    #[test]
    fn only_what_is_about_single_keys_is_measured() {
        let parsed = |line: &str| crate::parse::parse(&crate::words::split(line).unwrap()).unwrap();
        for (line, wanted) in
            [("PING", true), ("GET k", true), ("PUT k v", true), ("SCAN", false), ("SHUTDOWN a", false)]
        {
            assert_eq!(can_measure(&parsed(line)), wanted, "{line}");
        }
    }
}
