//! When a failed child of a supervisor is started again, and when that is given up: the one restart policy of the node.
//!
//! One for one: a child that fails is restarted alone, its siblings notice nothing. The limit is one for all children of
//! a supervisor together, as in Erlang/OTP: past it the fault is not in one child any more, so the supervisor fails too
//! and hands the question to its own parent, until the root ends the process.
//!
//! The policy is pure. The actor that uses it asks [`RestartPolicy::on_failure`] in `handle_supervisor_evt`, and either
//! sends itself a message after the delay or returns the [`GaveUp`] as its own failure.

use crate::clock::Nanos;
use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

/// Most failures of all children of one supervisor within [`FAILURE_WINDOW`] that are answered by a restart.
pub const RESTARTS_MAX: usize = 10;
/// How long a failure counts.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// The delay before a child's first restart; it doubles with each further failure of the same child.
pub const RESTART_DELAY_MIN: Duration = Duration::from_millis(10);
/// The longest delay before a restart.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(RESTARTS_MAX > 0);
const _: () = assert!(RESTART_DELAY_MIN.as_millis() < RESTART_DELAY_MAX.as_millis());
const _: () = assert!(
    RESTARTS_MAX as u128 * RESTART_DELAY_MAX.as_millis() < FAILURE_WINDOW.as_millis(),
    "a child that fails at each start reaches the limit, for all its delays"
);

/// What to do about a failed child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartDecision {
    /// Start it again, after this long.
    RestartAfter(Duration),
    /// Too many failures: the supervisor itself fails.
    GiveUp,
}

/// Why a supervisor that gave up ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "{supervisor} gave up: its children failed more than {RESTARTS_MAX} times within {} s, the last was {child}: {source}",
    FAILURE_WINDOW.as_secs()
)]
pub struct GaveUp {
    /// The supervisor that gave up.
    pub supervisor: String,
    /// The child whose failure was one too many.
    pub child: String,
    /// How it failed.
    pub source: Box<dyn Error + Send + Sync>,
}

/// The failures that one supervisor remembers: those of the last [`FAILURE_WINDOW`], at most [`RESTARTS_MAX`] of them.
#[derive(Debug)]
pub struct RestartPolicy<Child> {
    failures: VecDeque<(Nanos, Child)>,
}

impl<Child: PartialEq> RestartPolicy<Child> {
    /// A policy that has seen no failure.
    pub fn new() -> Self {
        Self { failures: VecDeque::with_capacity(RESTARTS_MAX) }
    }

    /// Notes that `child` failed at `now`, which must not go back, and decides.
    pub fn on_failure(&mut self, child: Child, now: Nanos) -> RestartDecision {
        while self.failures.front().is_some_and(|(at, _)| now.ms_since(*at) >= FAILURE_WINDOW.as_millis() as u64) {
            self.failures.pop_front();
        }
        if self.failures.len() == RESTARTS_MAX {
            return RestartDecision::GiveUp;
        }
        let before = self.failures.iter().filter(|(_, failed)| *failed == child).count() as u32;
        self.failures.push_back((now, child));
        let delay = RESTART_DELAY_MIN.saturating_mul(2_u32.saturating_pow(before));
        RestartDecision::RestartAfter(delay.min(RESTART_DELAY_MAX))
    }
}

impl<Child: PartialEq> Default for RestartPolicy<Child> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_delay_doubles_up_to_its_limit_and_siblings_start_afresh() {
        let mut policy = RestartPolicy::new();
        let now = Nanos(1);
        let mut expected = RESTART_DELAY_MIN;
        for _ in 0..RESTARTS_MAX - 1 {
            assert_eq!(policy.on_failure("a", now), RestartDecision::RestartAfter(expected.min(RESTART_DELAY_MAX)));
            expected *= 2;
        }
        assert!(expected > RESTART_DELAY_MAX, "the loop reached the longest delay");
        assert_eq!(policy.on_failure("b", now), RestartDecision::RestartAfter(RESTART_DELAY_MIN));
    }

    #[test]
    fn one_failure_too_many_within_the_window_gives_up() {
        let mut policy = RestartPolicy::new();
        let start = Nanos(1);
        for number in 0..RESTARTS_MAX {
            let at = start.after_ms(1000 * number as u64);
            assert!(matches!(policy.on_failure(number, at), RestartDecision::RestartAfter(_)));
        }
        assert_eq!(
            policy.on_failure(0, Nanos(start.0 + FAILURE_WINDOW.as_nanos() as u64 - 1)),
            RestartDecision::GiveUp
        );
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut policy = RestartPolicy::new();
        let start = Nanos(1);
        for number in 0..10 * RESTARTS_MAX as u32 {
            let at = start.after_ms((FAILURE_WINDOW / RESTARTS_MAX as u32 * number).as_millis() as u64);
            assert!(matches!(policy.on_failure("a", at), RestartDecision::RestartAfter(_)), "failure {number}");
            assert!(policy.failures.len() <= RESTARTS_MAX);
        }
        assert_eq!(
            policy.on_failure("a", start.after_ms(100 * FAILURE_WINDOW.as_millis() as u64)),
            RestartDecision::RestartAfter(RESTART_DELAY_MIN),
            "after a quiet window the delay is the shortest again"
        );
    }

    #[test]
    fn the_last_line_names_everything() {
        let text =
            GaveUp { supervisor: "shards".into(), child: "shard 3".into(), source: "panicked".into() }.to_string();
        assert_eq!(
            text,
            "shards gave up: its children failed more than 10 times within 60 s, the last was shard 3: panicked"
        );
    }
}
