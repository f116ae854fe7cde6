//! `--intrinsic-latency`: for how long this machine keeps a program from running that always could. No cluster answers faster.

use super::spans::Spans;
use crate::exit::Exit;
use crate::live::bar;
use crate::output::{Cell, Format, Output, Printer};
use crate::run::Emit;
use crate::text::duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the clock there is nothing to do; what takes longer than this was an interruption.
const INTERRUPTION_MIN: Duration = Duration::from_micros(2);
/// Between two lines that say how far it is.
const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// What a busy thread has seen.
struct Seen {
    rounds: u64,
    ran: Duration,
    interruptions: Spans,
    interrupted: Duration,
}

/// Looks at the clock without a pause for this long, or until ctrl-c. It takes one processor.
pub(crate) async fn intrinsic(printer: &Printer, lasts: Duration, emit: Emit<'_>) -> Exit {
    let (is_over, longest_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut busy = tokio::task::spawn_blocking({
        let (is_over, longest_ns) = (Arc::clone(&is_over), Arc::clone(&longest_ns));
        move || look_at_the_clock(lasts, &is_over, &longest_ns)
    });
    let line = bar(None);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(REDRAW_EVERY);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let seen = loop {
        tokio::select! {
            seen = &mut busy => break seen,
            Ok(()) = &mut interrupt, if !is_over.load(Ordering::Relaxed) => is_over.store(true, Ordering::Relaxed),
            _ = ticks.tick() => {
                let longest = Duration::from_nanos(longest_ns.load(Ordering::Relaxed));
                let left = lasts.saturating_sub(began.elapsed());
                line.set_message(format!("longest so far {}  {} left", duration(longest), duration(left)));
            }
        }
    };
    line.finish_and_clear();
    // A thread that panicked has said so.
    let Ok(seen) = seen else { return Exit::Failed };
    let is_for_people = printer.format == Format::Human;
    for output in seen.report() {
        if is_for_people || !matches!(output, Output::Text(_)) {
            emit(output);
        }
    }
    Exit::Ok
}

fn look_at_the_clock(lasts: Duration, is_over: &AtomicBool, longest_ns: &AtomicU64) -> Seen {
    let mut seen = Seen { rounds: 0, ran: Duration::ZERO, interruptions: Spans::new(), interrupted: Duration::ZERO };
    let began = Instant::now();
    let mut last = began;
    while last.duration_since(began) < lasts && !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let span = now.duration_since(last);
        last = now;
        seen.rounds += 1;
        if span >= INTERRUPTION_MIN {
            seen.interruptions.note(span);
            seen.interrupted += span;
            longest_ns.fetch_max(span.as_nanos() as u64, Ordering::Relaxed);
        }
    }
    seen.ran = last.duration_since(began);
    seen
}

impl Seen {
    fn report(&self) -> Vec<Output> {
        let per_round_ns = self.ran.as_nanos() as f64 / self.rounds.max(1) as f64;
        let longest = self.interruptions.longest();
        let share = self.interrupted.as_secs_f64() / self.ran.as_secs_f64().max(1e-9);
        let facts = vec![
            ("ran_ms", Cell::shown(self.ran.as_millis() as u64, duration(self.ran))),
            ("rounds", Cell::plain(self.rounds)),
            ("round_ns", Cell::shown((per_round_ns * 10.0).round() / 10.0, format!("{per_round_ns:.0} ns"))),
            ("interruptions", Cell::plain(self.interruptions.count())),
            ("interrupted_share", Cell::shown((share * 1e4).round() / 1e4, format!("{:.2} %", share * 100.0))),
            ("longest_us", Cell::shown((longest.as_nanos() as f64 / 100.0).round() / 10.0, duration(longest))),
        ];
        let rows: String = self.interruptions.rows(80).into_iter().map(|row| row + "\n").collect();
        vec![Output::Facts(facts), Output::Text(rows)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_at_once_has_looked_once_at_most() {
        let seen = look_at_the_clock(Duration::from_secs(60), &AtomicBool::new(true), &AtomicU64::new(0));
        assert_eq!((seen.rounds, seen.interruptions.count()), (0, 0));
        let Output::Facts(facts) = &seen.report()[0] else { panic!("facts come first") };
        assert_eq!(facts.last().unwrap().1.value, 0.0);
    }

    #[test]
    fn the_longest_interruption_is_the_longest_that_was_noted() {
        let longest_ns = AtomicU64::new(0);
        let seen = look_at_the_clock(Duration::from_millis(20), &AtomicBool::new(false), &longest_ns);
        assert!(seen.ran >= Duration::from_millis(20) && seen.rounds > 0);
        let noted = Duration::from_nanos(longest_ns.load(Ordering::Relaxed));
        // The histogram keeps three digits.
        assert!(seen.interruptions.longest().abs_diff(noted) <= noted / 500);
    }
}
