//! When an operation is tried again, and when it is given up. Pure: the time comes in as an argument (since an origin of
//! the caller's choice), and so does the source of randomness, so that a simulator can host exactly this code.

use crate::error::{ConnectionError, Error, with_outcome};
use crate::limits::{REDIRECTS_MAX, RENUMBERINGS_MAX};
use kvorum_protocol::limits::DEADLINE_MS_MAX;
use kvorum_protocol::{ErrorCode, Outcome, ResponseBody, Retry, ServerError};
use rand::Rng;
use std::time::Duration;

/// How failed attempts are repeated. It begins with [`RetryPolicy::default`]; new fields may come.
///
/// An operation is repeated until its deadline. A pause lies before each attempt but the first, unless a node has named the
/// leader to turn to. Each repetition takes one retry out of a budget that all operations of a client share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The longest pause after a first failure; 4 ms by default. It doubles with each further one; the actual pause is drawn uniformly
    /// from zero up to it ("full jitter").
    pub backoff_first: Duration,
    /// The longest pause after any failure, unless the node asked for a longer one; 50 ms by default.
    pub backoff_max: Duration,
    /// After this long without an answer, an attempt is abandoned for another node, if the budget allows; one second by
    /// default, never zero. While a large request or reply makes progress it is not.
    pub attempt_timeout: Duration,
    /// Retries allowed per hundred operations; 10 by default.
    pub budget_percent: u32,
    /// Retries saved up at most; what a burst of failures can draw on. 256 by default.
    pub budget_reserve: u32,
    /// Retries allowed per second however few operations there are, so that a single blocked caller goes on trying; 100 by
    /// default.
    pub budget_per_second: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff_first: Duration::from_millis(4),
            backoff_max: Duration::from_millis(50),
            attempt_timeout: Duration::from_secs(1),
            budget_percent: 10,
            budget_reserve: 256,
            budget_per_second: 100,
        }
    }
}

impl RetryPolicy {
    /// Sets the longest pause after a first failure, and after any. Each further failure doubles it.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client_core::retry::RetryPolicy;
    /// # use std::time::Duration;
    /// let policy = RetryPolicy::default().with_backoff(Duration::from_millis(10), Duration::from_millis(200));
    /// ```
    #[must_use]
    pub fn with_backoff(self, first: Duration, max: Duration) -> Self {
        Self { backoff_first: first, backoff_max: max, ..self }
    }

    /// Sets how long an attempt may go without an answer before another node is tried. Zero is refused when the client
    /// connects.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client_core::retry::RetryPolicy;
    /// # use std::time::Duration;
    /// let policy = RetryPolicy::default().with_attempt_timeout(Duration::from_millis(250));
    /// ```
    #[must_use]
    pub fn with_attempt_timeout(self, timeout: Duration) -> Self {
        Self { attempt_timeout: timeout, ..self }
    }

    /// Sets the budget that all operations share: the retries that a hundred operations earn, how many are saved up at most,
    /// and how many come per second without any operation.
    ///
    /// # Examples
    /// ```
    /// # use kvorum_client_core::retry::RetryPolicy;
    /// let fewer = RetryPolicy::default().with_budget(5, 64, 10);
    /// ```
    #[must_use]
    pub fn with_budget(self, percent: u32, reserve: u32, per_second: u32) -> Self {
        Self { budget_percent: percent, budget_reserve: reserve, budget_per_second: per_second, ..self }
    }
}

/// A token bucket shared by all operations of a client: retries add at most a fixed share to its load, so that a
/// struggling cluster is not pushed over by its clients.
#[derive(Debug)]
pub struct RetryBudget {
    policy: RetryPolicy,
    /// In thousandths of a retry.
    tokens_milli: u64,
    refilled_at: Duration,
}

const TOKEN_MILLI: u64 = 1000;

impl RetryBudget {
    /// A full bucket.
    pub fn new(policy: RetryPolicy, now: Duration) -> Self {
        Self { policy, tokens_milli: u64::from(policy.budget_reserve) * TOKEN_MILLI, refilled_at: now }
    }

    /// A new operation began; it earns its share of a retry.
    pub fn handle_operation(&mut self) {
        self.add(u64::from(self.policy.budget_percent) * TOKEN_MILLI / 100);
    }

    /// Takes one retry, or says how long to wait before asking again.
    ///
    /// # Errors
    /// The time until a retry is there, if nobody else takes it.
    pub fn withdraw(&mut self, now: Duration) -> Result<(), Duration> {
        let elapsed = now.saturating_sub(self.refilled_at);
        let earned = elapsed.as_millis() as u64 * u64::from(self.policy.budget_per_second);
        // Less than a millisecond earns nothing and must not be forgotten either, so the clock stays where it is.
        if elapsed >= Duration::from_millis(1) {
            self.refilled_at += Duration::from_millis(elapsed.as_millis() as u64);
            self.add(earned);
        }
        if self.tokens_milli >= TOKEN_MILLI {
            self.tokens_milli -= TOKEN_MILLI;
            return Ok(());
        }
        let missing = TOKEN_MILLI - self.tokens_milli;
        Err(Duration::from_millis(missing.div_ceil(u64::from(self.policy.budget_per_second.max(1)))))
    }

    fn add(&mut self, milli: u64) {
        let most = u64::from(self.policy.budget_reserve) * TOKEN_MILLI;
        self.tokens_milli = self.tokens_milli.saturating_add(milli).min(most.max(TOKEN_MILLI));
    }
}

/// What an operation may suffer without harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It has no effect, so it may be sent any number of times.
    Read,
    /// It takes effect once however often it is sent: it carries a sequence number.
    Write,
    /// It asks that something be so, and asking again changes nothing more: it may be sent again although it may have had an effect.
    Wish,
    /// It may be sent again only if it certainly had no effect, such as to stop a node.
    Command,
}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The node answered with an error.
    Answered(ServerError),
    /// The request can't have left: there was no connection.
    NotSent(ConnectionError),
    /// The request can't have left, and no node is left that has not failed lately.
    NobodyLeft(ConnectionError),
    /// The connection ended before the answer.
    Lost(ConnectionError),
    /// No answer came within the attempt's time.
    Unresponsive,
}

/// The number for a write that was given another one so often before. A shard that forgets clients, for want of room, takes numbers from
/// where all that it has forgotten had got to. Others get further while a write is on its way: so each time it gets twice as far ahead.
pub fn above(sequence_min: u64, renumberings: u32) -> u64 {
    sequence_min.saturating_add((1 << renumberings.min(RENUMBERINGS_MAX)) - 1)
}

/// What to do about a failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Try again now. The budget is not charged: the failure itself named where to go, or was paid for before.
    AtOnce,
    /// Try again after this pause, if the budget has a retry.
    Pause(Duration),
    /// Try again now, under a number that is not lower than this. The write has had no effect under the one it had, and never
    /// will.
    Renumber {
        /// The lowest number that the shard takes.
        sequence_min: u64,
    },
    /// Give up.
    GiveUp(Error),
}

/// The attempts of one operation.
#[derive(Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    kind: Kind,
    began: Duration,
    deadline: Duration,
    sent: u32,
    /// Attempts of which nobody has said that they had no effect.
    unresolved: u32,
    redirects: u32,
    renumberings: u32,
    backoffs: u32,
    /// Where a node has refused the connection for good.
    refused_at: Option<String>,
    last: Option<Error>,
}

impl Attempts {
    /// The attempts of an operation that begins now and must end by `deadline`.
    pub fn new(policy: RetryPolicy, kind: Kind, now: Duration, deadline: Duration) -> Self {
        Self {
            policy,
            kind,
            began: now,
            deadline,
            sent: 0,
            unresolved: 0,
            redirects: 0,
            renumberings: 0,
            backoffs: 0,
            refused_at: None,
            last: None,
        }
    }

    /// Whether the next attempt must be marked as a retry: an earlier one may have taken effect. A node refuses marked
    /// writes of a session it no longer knows, so attempts that certainly had no effect do not count.
    pub fn is_retry(&self) -> bool {
        self.unresolved > 0
    }

    /// What became of the operation, if it ends now without an answer.
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            Kind::Read => Outcome::NotApplied,
            Kind::Write | Kind::Wish | Kind::Command if self.unresolved > 0 => Outcome::Unknown,
            Kind::Write | Kind::Wish | Kind::Command => Outcome::NotApplied,
        }
    }

    /// The request goes out.
    pub fn handle_sent(&mut self) {
        self.sent += 1;
        self.unresolved += 1;
    }

    /// An answer has come. What it says of the parts of a batch may be about the last attempt only: a part that this one
    /// certainly left alone may have been applied by an earlier one of which nobody has heard. A verdict is about all.
    pub fn handle_answer(&self, mut body: ResponseBody) -> ResponseBody {
        if let ResponseBody::Batch(results) = &mut body
            && self.unresolved > 1
        {
            for error in results.iter_mut().filter_map(|result| result.as_mut().err()) {
                if error.outcome == Outcome::NotApplied && !error.code.is_verdict() {
                    error.outcome = Outcome::Unknown;
                }
            }
        }
        body
    }

    /// An attempt failed. `now` only decides whether there is time left.
    pub fn handle_failure(&mut self, failure: Failure, now: Duration, rng: &mut impl Rng) -> Decision {
        match failure {
            Failure::Answered(error) => self.handle_error(error, now, rng),
            Failure::NotSent(source) => match self.refused_twice(&source) {
                Some(error) => Decision::GiveUp(error),
                None => {
                    self.note_not_sent(source);
                    self.elsewhere_or_pause(Duration::ZERO, now, rng)
                }
            },
            Failure::NobodyLeft(source) => match (self.refused_twice(&source), source.pause()) {
                (Some(error), _) => Decision::GiveUp(error),
                (None, pause) => {
                    self.note_not_sent(source);
                    match pause {
                        Some(pause) => self.pause(pause, now, rng),
                        None => self.elsewhere_or_pause(Duration::ZERO, now, rng),
                    }
                }
            },
            Failure::Lost(source) => {
                let error = Error::ConnectionLost { outcome: Outcome::Unknown, source };
                self.last = Some(error.clone());
                if self.kind == Kind::Command {
                    return Decision::GiveUp(error);
                }
                self.pause(Duration::ZERO, now, rng)
            }
            Failure::Unresponsive => {
                self.last = None;
                if self.kind == Kind::Command {
                    return Decision::GiveUp(self.deadline_exceeded(now));
                }
                // The wait was pause enough, and the budget was charged when the attempt was abandoned.
                Decision::AtOnce
            }
        }
    }

    /// The deadline passed.
    pub fn deadline_exceeded(&self, now: Duration) -> Error {
        let outcome = self.outcome();
        match &self.last {
            Some(error) => with_outcome(error.clone(), outcome),
            None => Error::DeadlineExceeded { outcome, attempts: self.sent, waited: now.saturating_sub(self.began) },
        }
    }

    /// The operation is cut short at `now` for a reason that says that nothing was sent. It only counts if no attempt is open.
    pub fn stopped(&self, reason: Error, now: Duration) -> Error {
        match self.outcome() {
            Outcome::Unknown => self.deadline_exceeded(now),
            Outcome::NotApplied | Outcome::Applied => reason,
        }
    }

    /// An attempt is under way again, so an older failure no longer says why the operation stands still.
    pub fn handle_waiting(&mut self) {
        self.last = None;
    }

    /// One node that refuses its connections for good may itself be the odd one: it may run another version, or belong to
    /// another cluster by now. A second one is believed.
    fn refused_twice(&mut self, source: &ConnectionError) -> Option<Error> {
        let (ConnectionError::Refused { address, .. }, Some(refusal)) = (source, source.refusal()) else { return None };
        match &self.refused_at {
            Some(first) if first != address => Some(Error::Server(refusal.clone().with_outcome(self.outcome()))),
            Some(_) => None,
            None => {
                self.refused_at = Some(address.clone());
                None
            }
        }
    }

    fn note_not_sent(&mut self, source: ConnectionError) {
        // What a node has answered says more than that another one can't be reached. That it does not lead says less.
        let explains = |error: &Error| matches!(error, Error::Server(said) if said.code != ErrorCode::NotLeader);
        if !self.last.as_ref().is_some_and(explains) {
            self.last = Some(Error::Unreachable { outcome: Outcome::NotApplied, source });
        }
    }

    fn handle_error(&mut self, error: ServerError, now: Duration, rng: &mut impl Rng) -> Decision {
        if error.outcome == Outcome::NotApplied {
            // A verdict says that no copy has had an effect or will have one, other errors that this copy has not.
            self.unresolved = if error.code.is_verdict() { 0 } else { self.unresolved.saturating_sub(1) };
        }
        let outcome = match error.outcome {
            Outcome::Applied => Outcome::Applied,
            Outcome::NotApplied | Outcome::Unknown => self.outcome(),
        };
        if let Some(sequence_min) = error.sequence_min
            && error.code == ErrorCode::SequenceTooLow
            && self.kind == Kind::Write
            && outcome == Outcome::NotApplied
            && self.renumberings < RENUMBERINGS_MAX
            && now < self.deadline
        {
            let sequence_min = above(sequence_min, self.renumberings);
            self.renumberings += 1;
            return Decision::Renumber { sequence_min };
        }
        let again = error.clone();
        let final_error = Error::Server(error.with_outcome(outcome));
        let Retry::AfterMs(ms) = again.retry else { return Decision::GiveUp(final_error) };
        if self.kind == Kind::Command && outcome == Outcome::Unknown {
            return Decision::GiveUp(final_error);
        }
        self.last = Some(final_error);
        let knows_better = again.code == ErrorCode::NotLeader && again.leader.is_some();
        let is_leaving = again.code == ErrorCode::ShuttingDown && again.outcome == Outcome::NotApplied;
        let pause = Duration::from_millis(ms.into());
        if knows_better || is_leaving { self.elsewhere_or_pause(pause, now, rng) } else { self.pause(pause, now, rng) }
    }

    /// This node is not the one to ask, and the request has certainly done nothing here: another one is asked at once, a few
    /// times.
    fn elsewhere_or_pause(&mut self, pause: Duration, now: Duration, rng: &mut impl Rng) -> Decision {
        if self.redirects < REDIRECTS_MAX && now < self.deadline {
            self.redirects += 1;
            return Decision::AtOnce;
        }
        self.pause(pause, now, rng)
    }

    /// Exponential backoff with full jitter, not shorter than the node asked for.
    fn pause(&mut self, at_least: Duration, now: Duration, rng: &mut impl Rng) -> Decision {
        let ceiling = self.policy.backoff_first.saturating_mul(1 << self.backoffs.min(16)).min(self.policy.backoff_max);
        self.backoffs += 1;
        let drawn = ceiling.mul_f64(rng.random_range(0.0..=1.0));
        let pause = if at_least.is_zero() { drawn } else { at_least + drawn.min(at_least) };
        if now + at_least >= self.deadline {
            return Decision::GiveUp(self.deadline_exceeded(now));
        }
        Decision::Pause(pause)
    }
}

/// What the node is told of the time left: a little less than there is, so that its verdict on a request that it gives up
/// still arrives in time.
pub fn node_deadline_ms(left: Duration) -> u32 {
    let margin = (left / 10).min(Duration::from_millis(20));
    u32::try_from((left - margin).as_millis()).unwrap_or(DEADLINE_MS_MAX).clamp(1, DEADLINE_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;
    use kvorum_protocol::NodeId;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const MS: Duration = Duration::from_millis(1);

    fn attempts(kind: Kind) -> Attempts {
        Attempts::new(RetryPolicy::default(), kind, Duration::ZERO, Duration::from_secs(5))
    }

    fn lost() -> Failure {
        Failure::Lost(ConnectionError::Closed { address: "a:1".into(), reason: CloseReason::ByNode })
    }

    fn not_sent() -> Failure {
        Failure::NotSent(ConnectionError::TimedOut { address: "b:1".into(), timeout: MS })
    }

    fn answered(code: ErrorCode) -> Failure {
        Failure::Answered(ServerError::new(code, "because"))
    }

    #[test]
    fn a_blocked_operation_goes_on_until_its_deadline() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut budget = RetryBudget::new(RetryPolicy::default(), Duration::ZERO);
        let mut attempts = attempts(Kind::Write);
        let (mut now, mut tried) = (Duration::ZERO, 0);
        let error = loop {
            attempts.handle_sent();
            tried += 1;
            match attempts.handle_failure(answered(ErrorCode::Unavailable), now, &mut rng) {
                Decision::Pause(pause) => now += pause,
                Decision::GiveUp(error) => break error,
                other => panic!("nobody named a leader or a number: {other:?}"),
            }
            while let Err(wait) = budget.withdraw(now) {
                now += wait;
            }
        };
        assert!(now > Duration::from_millis(4900), "gave up after {now:?}");
        assert!(tried > 100, "only {tried} attempts");
        assert_eq!((error.outcome(), error.code()), (Outcome::NotApplied, ErrorCode::Unavailable));
    }

    #[test]
    fn the_reason_that_a_node_gave_is_not_hidden_by_another_that_is_gone() {
        let mut rng = SmallRng::seed_from_u64(7);
        let code_after = |first: Failure| {
            let mut attempts = attempts(Kind::Read);
            attempts.handle_sent();
            attempts.handle_failure(first, MS, &mut rng);
            attempts.handle_failure(not_sent(), 2 * MS, &mut rng);
            attempts.deadline_exceeded(Duration::from_secs(5))
        };
        let mut code_after = code_after;
        assert!(matches!(code_after(answered(ErrorCode::Unavailable)), Error::Server(_)), "the shard has no quorum");
        assert!(matches!(code_after(answered(ErrorCode::NotLeader)), Error::Unreachable { .. }));
        assert!(matches!(code_after(not_sent()), Error::Unreachable { .. }));
    }

    #[test]
    fn pauses_grow_up_to_the_bound_and_respect_the_node() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut attempts = attempts(Kind::Read);
        let mut longest = Duration::ZERO;
        for attempt in 0..200 {
            let failure = lost();
            let Decision::Pause(pause) = attempts.handle_failure(failure, Duration::ZERO, &mut rng) else { panic!() };
            assert!(attempt > 0 || pause <= 4 * MS, "first pause {pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest > 40 * MS && longest <= 50 * MS, "longest pause {longest:?}");
        let overloaded = answered(ErrorCode::Overloaded);
        let Decision::Pause(pause) = attempts.handle_failure(overloaded, Duration::ZERO, &mut rng) else { panic!() };
        assert!(pause >= 50 * MS && pause <= 100 * MS, "{pause:?}");
    }

    #[test]
    fn a_pointer_to_the_leader_is_followed_at_once_but_not_for_ever() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut attempts = attempts(Kind::Write);
        let leader = Some(NodeId(uuid::Uuid::from_u128(3)));
        let not_leader = Failure::Answered(ServerError::new(ErrorCode::NotLeader, "").with_leader(leader));
        for _ in 0..REDIRECTS_MAX {
            attempts.handle_sent();
            assert_eq!(attempts.handle_failure(not_leader.clone(), MS, &mut rng), Decision::AtOnce);
        }
        attempts.handle_sent();
        assert!(matches!(attempts.handle_failure(not_leader, MS, &mut rng), Decision::Pause(_)));
        assert!(!attempts.is_retry(), "none of these attempts can have had an effect");
    }

    #[test]
    fn another_node_is_asked_at_once_if_one_is_about_to_stop_or_can_not_be_reached() {
        for failure in [answered(ErrorCode::ShuttingDown), not_sent()] {
            let mut rng = SmallRng::seed_from_u64(7);
            let mut attempts = attempts(Kind::Write);
            for _ in 0..REDIRECTS_MAX {
                assert_eq!(attempts.handle_failure(failure.clone(), MS, &mut rng), Decision::AtOnce);
            }
            assert!(matches!(attempts.handle_failure(failure, MS, &mut rng), Decision::Pause(_)));
            assert!(!attempts.is_retry());
        }
    }

    fn refused(address: &str, code: ErrorCode) -> ConnectionError {
        ConnectionError::Refused { address: address.into(), source: ServerError::new(code, "because") }
    }

    #[test]
    fn a_refusal_for_good_is_believed_only_if_a_second_node_refuses() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut write = attempts(Kind::Write);
        write.handle_sent();
        write.handle_failure(lost(), MS, &mut rng);
        let mut refuse = |write: &mut Attempts, address: &str| {
            let failure = Failure::NotSent(refused(address, ErrorCode::Unauthenticated));
            write.handle_failure(failure, MS, &mut rng)
        };
        assert_eq!(refuse(&mut write, "a:1"), Decision::AtOnce);
        assert_eq!(refuse(&mut write, "a:1"), Decision::AtOnce, "the same node is no second one");
        let Decision::GiveUp(error) = refuse(&mut write, "b:1") else { panic!("two have refused") };
        assert_eq!((error.code(), error.outcome()), (ErrorCode::Unauthenticated, Outcome::Unknown));
        let mut alone = attempts(Kind::Read);
        refuse(&mut alone, "a:1");
        let expired = alone.deadline_exceeded(MS);
        assert!(matches!(&expired, Error::Unreachable { source: ConnectionError::Refused { .. }, .. }), "{expired:?}");
    }

    #[test]
    fn the_pause_that_a_full_node_asks_for_is_kept_if_nobody_else_is_left() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut attempts = attempts(Kind::Write);
        let full = refused("a:1", ErrorCode::TooManyConnections);
        let elsewhere = attempts.handle_failure(Failure::NotSent(full.clone()), MS, &mut rng);
        assert_eq!(elsewhere, Decision::AtOnce);
        let seeds = ConnectionError::Seeds(vec![ConnectionError::UnknownNode(NodeId(uuid::Uuid::nil())), full.clone()]);
        for full in [full.clone(), seeds] {
            let decision = attempts.handle_failure(Failure::NobodyLeft(full), MS, &mut rng);
            assert!(matches!(decision, Decision::Pause(pause) if pause >= 1000 * MS), "{decision:?}");
        }
        let gone = ConnectionError::TimedOut { address: "b:1".into(), timeout: MS };
        assert_eq!(attempts.handle_failure(Failure::NobodyLeft(gone), MS, &mut rng), Decision::AtOnce);
        let late = Duration::from_millis(4500);
        let decision = attempts.handle_failure(Failure::NobodyLeft(full), late, &mut rng);
        assert!(matches!(decision, Decision::GiveUp(Error::Unreachable { .. })), "{decision:?}");
    }

    #[test]
    fn an_unresolved_attempt_leaves_the_outcome_open_whatever_comes_later() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut attempts = attempts(Kind::Write);
        attempts.handle_sent();
        assert!(matches!(attempts.handle_failure(lost(), MS, &mut rng), Decision::Pause(_)));
        assert!(attempts.is_retry());
        attempts.handle_sent();
        attempts.handle_failure(answered(ErrorCode::Unavailable), MS, &mut rng);
        assert!(attempts.is_retry(), "the first attempt may still take effect");
        attempts.handle_sent();
        let Decision::GiveUp(error) = attempts.handle_failure(answered(ErrorCode::InvalidArgument), MS, &mut rng)
        else {
            panic!("an invalid argument stays invalid")
        };
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(attempts.deadline_exceeded(MS).outcome(), Outcome::Unknown);
    }

    #[test]
    fn an_operation_that_is_cut_short_while_an_attempt_is_open_does_not_say_that_nothing_was_sent() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut unsent = attempts(Kind::Write);
        assert_eq!(unsent.stopped(Error::Closed, MS), Error::Closed);
        unsent.handle_failure(not_sent(), MS, &mut rng);
        assert_eq!(unsent.stopped(Error::Closed, MS), Error::Closed);
        let mut silent = attempts(Kind::Write);
        silent.handle_sent();
        assert_eq!(silent.handle_failure(Failure::Unresponsive, MS, &mut rng), Decision::AtOnce);
        let expected = Error::DeadlineExceeded { outcome: Outcome::Unknown, attempts: 1, waited: 2 * MS };
        assert_eq!(silent.stopped(Error::Closed, 2 * MS), expected);
        silent.handle_failure(lost(), 3 * MS, &mut rng);
        let stopped = silent.stopped(Error::Closed, 3 * MS);
        assert!(matches!(stopped, Error::ConnectionLost { outcome: Outcome::Unknown, .. }), "{stopped:?}");
    }

    #[test]
    fn a_write_gets_another_number_only_if_no_copy_of_it_can_take_effect() {
        let mut rng = SmallRng::seed_from_u64(7);
        let too_low = || Failure::Answered(ServerError::sequence_too_low(40));
        let mut once = attempts(Kind::Write);
        for before in 0..RENUMBERINGS_MAX {
            once.handle_sent();
            let ahead = Decision::Renumber { sequence_min: 39 + (1 << before) };
            assert_eq!(once.handle_failure(too_low(), MS, &mut rng), ahead);
            assert!(!once.is_retry());
        }
        once.handle_sent();
        let Decision::GiveUp(error) = once.handle_failure(too_low(), MS, &mut rng) else { panic!("not for ever") };
        assert_eq!((error.outcome(), error.code()), (Outcome::NotApplied, ErrorCode::SequenceTooLow));
        let mut twice = attempts(Kind::Write);
        twice.handle_sent();
        twice.handle_failure(lost(), MS, &mut rng);
        twice.handle_sent();
        let Decision::GiveUp(error) = twice.handle_failure(too_low(), MS, &mut rng) else {
            panic!("it may have been applied")
        };
        assert_eq!(error.outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_verdict_on_a_retry_settles_what_became_of_earlier_attempts() {
        let mut rng = SmallRng::seed_from_u64(7);
        for (code, outcome) in [
            (ErrorCode::NotAnInteger, Outcome::NotApplied),
            (ErrorCode::TooLarge, Outcome::NotApplied),
            (ErrorCode::NotPermitted, Outcome::Unknown),
        ] {
            let mut attempts = attempts(Kind::Write);
            attempts.handle_sent();
            attempts.handle_failure(lost(), MS, &mut rng);
            attempts.handle_sent();
            let Decision::GiveUp(error) = attempts.handle_failure(answered(code), MS, &mut rng) else {
                panic!("{code}")
            };
            assert_eq!(error.outcome(), outcome, "{code}");
        }
    }

    #[test]
    fn a_part_of_a_batch_stays_open_if_an_earlier_attempt_of_the_batch_is() {
        let mut rng = SmallRng::seed_from_u64(7);
        let part = || Err(ServerError::new(ErrorCode::Unavailable, "no leader"));
        let outcome_after = |attempts: &Attempts| match attempts.handle_answer(ResponseBody::Batch(vec![part()])) {
            ResponseBody::Batch(results) => results[0].as_ref().unwrap_err().outcome,
            other => panic!("{other:?}"),
        };
        let mut attempts = attempts(Kind::Write);
        attempts.handle_sent();
        assert_eq!(outcome_after(&attempts), Outcome::NotApplied);
        attempts.handle_failure(lost(), MS, &mut rng);
        attempts.handle_sent();
        assert_eq!(outcome_after(&attempts), Outcome::Unknown, "the lost attempt may have applied it");
    }

    #[test]
    fn reads_never_have_an_unknown_outcome_and_commands_are_not_repeated_blindly() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut read = attempts(Kind::Read);
        read.handle_sent();
        assert_eq!(read.deadline_exceeded(MS).outcome(), Outcome::NotApplied);
        let mut command = attempts(Kind::Command);
        command.handle_sent();
        let Decision::GiveUp(error) = command.handle_failure(lost(), MS, &mut rng) else { panic!() };
        assert_eq!(error.outcome(), Outcome::Unknown);
        let mut wish = attempts(Kind::Wish);
        wish.handle_sent();
        assert!(
            matches!(wish.handle_failure(lost(), MS, &mut rng), Decision::Pause(_)),
            "the node may be the one that leaves"
        );
        assert_eq!(wish.deadline_exceeded(MS).outcome(), Outcome::Unknown);
    }

    #[test]
    fn the_budget_lets_through_its_share_and_its_reserve() {
        let policy = RetryPolicy { budget_reserve: 5, budget_per_second: 10, ..RetryPolicy::default() };
        let mut budget = RetryBudget::new(policy, Duration::ZERO);
        assert_eq!((0..100).filter(|_| budget.withdraw(Duration::ZERO).is_ok()).count(), 5);
        assert_eq!(budget.withdraw(Duration::ZERO), Err(100 * MS));
        let mut retries = 0;
        for _ in 0..1000 {
            budget.handle_operation();
            retries += u32::from(budget.withdraw(Duration::ZERO).is_ok());
        }
        assert_eq!(retries, 100, "a tenth of the operations");
        assert!(budget.withdraw(99 * MS).is_err());
        assert_eq!(budget.withdraw(100 * MS), Ok(()));
        assert_eq!((0..100).filter(|_| budget.withdraw(Duration::from_secs(60)).is_ok()).count(), 5);
    }
}
