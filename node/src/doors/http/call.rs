//! Requests to the cluster, each in a session of its own that lives as long as the request.
//!
//! A session passes on what another node leads, and holds what nobody leads yet. What fails in spite of that, and certainly had no
//! effect, is repeated here under the same number until the deadline, by the rules of the client library.

use super::problem::{INTERNAL, Problem};
use super::whose::Whose;
use crate::doors::writers::{WriteNumbers, Writers};
use crate::runtime::system_clock;
use bytes::Bytes;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::{Attempts, Decision, Failure, Kind, RetryBudget, RetryPolicy, node_deadline_ms};
use kvorum_core::disk::lost_pages;
use kvorum_core::measure::meter::{Door, ReadSource};
use kvorum_core::session::{Answered, Session, SessionContext};
use kvorum_protocol::{ClientId, Request, RequestBody, RequestId, ResponseBody};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A node that does not answer by its deadline is given so much longer.
const GRACE: Duration = Duration::from_millis(500);

/// An answer, and how the node came by it.
#[derive(Debug)]
pub(super) struct Reply {
    /// What was answered.
    pub(super) body: ResponseBody,
    /// Where the answer to a GET came from.
    pub(super) source: Option<ReadSource>,
}

/// The door's way to the cluster.
pub(super) struct Caller {
    context: Arc<SessionContext>,
    writers: Writers,
    policy: RetryPolicy,
    budget: Mutex<RetryBudget>,
}

impl Caller {
    /// A way to the cluster through `context`.
    pub(super) fn new(context: Arc<SessionContext>) -> Self {
        let policy = RetryPolicy::default();
        let budget = Mutex::new(RetryBudget::new(policy, now()));
        Self { context, writers: Writers::new(), policy, budget }
    }

    /// The routing table, for what needs no request.
    pub(super) fn context(&self) -> &Arc<SessionContext> {
        &self.context
    }

    /// Reads, or asks something that has no effect, for the client on a connection.
    ///
    /// # Errors
    /// What repeating did not mend.
    pub(super) async fn read(&self, whose: &Whose, body: RequestBody, within: Duration) -> Result<Reply, Error> {
        self.call(whose, Kind::Read, body, within, |_, _| {}).await
    }

    /// Writes, for the client on a connection. The body's number is chosen here; a batch of `count` writes takes as many.
    ///
    /// # Errors
    /// What repeating did not mend. The outcome covers all attempts.
    pub(super) async fn write(
        &self,
        whose: &Whose,
        mut body: RequestBody,
        count: u64,
        within: Duration,
    ) -> Result<Reply, Error> {
        let mut numbers = WriteNumbers::new(self.writers.of(whose.connection), count, &mut body);
        let stamp = |body: &mut RequestBody, step: Step| match step {
            Step::Attempt { retry } => numbers.stamp(body, retry),
            Step::Renumber { sequence_min } => numbers.take_others(sequence_min, body),
        };
        self.call(whose, Kind::Write, body, within, stamp).await
    }

    async fn call(
        &self,
        whose: &Whose,
        kind: Kind,
        mut body: RequestBody,
        within: Duration,
        mut prepare: impl FnMut(&mut RequestBody, Step),
    ) -> Result<Reply, Error> {
        let client = self.writers.of(whose.connection).client();
        let began = now();
        let deadline = began + within;
        let mut attempts = Attempts::new(self.policy, kind, began, deadline);
        self.budget.lock().handle_operation();
        loop {
            prepare(&mut body, Step::Attempt { retry: attempts.is_retry() });
            attempts.handle_sent();
            let left = deadline.saturating_sub(now());
            let request = Request { id: RequestId(0), deadline_ms: node_deadline_ms(left).max(1), body: body.clone() };
            let (mut asking, at_once) = Asking::begin(&self.context, whose, client, request);
            let reply = match at_once {
                Some(reply) => reply,
                None => match tokio::time::timeout(left + GRACE, asking.reply()).await {
                    Ok(reply) => reply,
                    Err(_) => return Err(attempts.deadline_exceeded(now())),
                },
            };
            let ResponseBody::Error(error) = reply.body else {
                return Ok(Reply { body: attempts.handle_answer(reply.body), ..reply });
            };
            if asking.0.is_over_limit() {
                return Err(Error::Server(error));
            }
            let decision = attempts.handle_failure(Failure::Answered(error), now(), &mut rand::rng());
            match decision {
                Decision::AtOnce => {}
                Decision::Pause(pause) => {
                    let charged = self.budget.lock().withdraw(now());
                    tokio::time::sleep(pause.max(charged.err().unwrap_or_default())).await;
                }
                Decision::Renumber { sequence_min } => prepare(&mut body, Step::Renumber { sequence_min }),
                Decision::GiveUp(error) => return Err(error),
            }
            if now() >= deadline {
                return Err(attempts.deadline_exceeded(now()));
            }
        }
    }
}

/// One attempt.
struct Asking(Session<()>);

impl Asking {
    /// Asks. Many reads are answered at once: then there is nothing to wait for.
    fn begin(
        context: &Arc<SessionContext>,
        whose: &Whose,
        client: ClientId,
        request: Request,
    ) -> (Self, Option<Reply>) {
        let mut session = Session::new(Arc::clone(context), Door::Http);
        session.comes_from(whose.address);
        let mut reply = None;
        if let Err(error) = session.log_in_as(&whose.principal, &whose.access) {
            reply = Some(Reply { body: ResponseBody::Error(error.error()), source: None });
            return (Self(session), reply);
        }
        whose.trace.into_iter().for_each(|context| session.follows(context));
        session.handle(client, (), system_clock::monotonic(), request, &mut |answered| reply = Some(taken(answered)));
        (Self(session), reply)
    }

    /// Waits for the answer.
    async fn reply(&mut self) -> Reply {
        let sink = Arc::clone(self.0.sink());
        let mut reply = None;
        loop {
            sink.ready().await;
            self.0.collect(&mut |answered| reply = Some(taken(answered)));
            if let Some(reply) = reply {
                return reply;
            }
        }
    }
}

fn taken(answered: Answered<()>) -> Reply {
    let Answered { origin: (), forwarded: _, source, body } = answered;
    Reply { body, source }
}

/// What a request is prepared for.
enum Step {
    /// Its next attempt.
    Attempt { retry: bool },
    /// A number that is not lower than this.
    Renumber { sequence_min: u64 },
}

/// A copy of what a read gave out, which must not lie in a mapping when it leaves later.
pub(super) fn detach(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

/// Whether what was copied out of mappings since `before` pages were lost is what was verified there.
///
/// # Errors
/// `Internal`: a page was lost, and nobody knows whose.
pub(super) fn check_pages(before: u64) -> Result<(), Problem> {
    let lost = || Problem::new(&INTERNAL, "the medium lost bytes that may be among the answer");
    (lost_pages() == before).then_some(()).ok_or_else(lost)
}

fn now() -> Duration {
    Duration::from_nanos(system_clock::monotonic().0)
}
