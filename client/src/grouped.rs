//! How an operation on many keys becomes requests: one per leader as far as limits allow, all at once, in rounds, until each
//! key has its answer. What fails as a request is retried as a request; what fails for single keys goes into the next round.

use crate::client::Client;
use crate::core::{Call, Core, SequenceGuard};
use crate::limits::{GROUP_BYTES_MAX, GROUPS_IN_FLIGHT_MAX};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use kvorum_client_core::error::{Error, with_outcome};
use kvorum_client_core::limits::RENUMBERINGS_MAX;
use kvorum_client_core::retry::{Attempts, Decision, Failure, Kind, above};
use kvorum_client_core::routing::Need;
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{ErrorCode, NodeId, Outcome, RequestBody, ResponseBody, Retry, ServerError};
use std::sync::Arc;
use std::time::Duration;

/// One key of an operation on many.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its place in what the caller asked.
    pub(crate) index: usize,
    pub(crate) key: Bytes,
    /// Its sequence number, if it is a write.
    pub(crate) sequence: u64,
    /// An earlier attempt may have taken effect.
    pub(crate) is_unresolved: bool,
    /// About how many bytes it takes in a request.
    bytes: usize,
    /// Its answer did not fit beside the others'.
    wants_own_request: bool,
    /// The number that it was given in place of the first one, and how often that happened.
    renumbered: Option<Arc<SequenceGuard>>,
    renumberings: u32,
    last: Option<ServerError>,
}

impl Member {
    pub(crate) fn new(index: usize, key: Bytes, bytes: usize) -> Self {
        Self {
            index,
            key,
            sequence: 0,
            is_unresolved: false,
            bytes,
            wants_own_request: false,
            renumbered: None,
            renumberings: 0,
            last: None,
        }
    }

    /// Whether the write is to be sent under another number, as this error asks: it has had no effect under the one it has.
    fn may_renumber(&self, error: &ServerError) -> bool {
        error.code == ErrorCode::SequenceTooLow
            && error.outcome == Outcome::NotApplied
            && !self.is_unresolved
            && self.renumberings < RENUMBERINGS_MAX
    }

    /// The request that it was part of has failed. What a node has answered for this key before says more than that the request
    /// could not even be sent now.
    fn end_with(self, error: Error) -> Error {
        match error {
            Error::Unreachable { .. } | Error::DeadlineExceeded { attempts: 0, .. } => self.give_up(error),
            // Both say that nothing was sent, which an earlier request was.
            Error::TooManyInFlight { .. } | Error::Closed if self.is_unresolved => self.give_up(error),
            _ if self.is_unresolved => with_outcome(error, Outcome::Unknown),
            _ => error,
        }
    }

    /// It is not tried again.
    fn give_up(self, error: Error) -> Error {
        let error = match (self.last, error) {
            (Some(last), _) => Error::Server(last),
            (None, Error::TooManyInFlight { waited, .. }) if self.is_unresolved => no_answer(waited),
            (None, Error::Closed) if self.is_unresolved => no_answer(Duration::ZERO),
            (None, error) => error,
        };
        if self.is_unresolved { with_outcome(error, Outcome::Unknown) } else { error }
    }
}

/// Brings the keys of each leader together, and leaves those of one leader in their order.
pub(crate) fn sort_by_leader(client: &Client, members: &mut [Member]) {
    members.sort_by_cached_key(|member| leader(client, member));
}

fn leader(client: &Client, member: &Member) -> Option<NodeId> {
    match client.need_leader(&member.key) {
        Need::Leader(shard) => client.core.directory.leader(shard),
        Need::Replica(_) | Need::Any | Need::Exactly(_) => None,
    }
}

/// Runs the operation to its end and returns each member's index with its answer.
///
/// `build` makes the request for some members, `unpack` takes the answers out of its reply, in the same order.
pub(crate) async fn run_grouped<T: Send>(
    client: &Client,
    kind: Kind,
    deadline: Duration,
    mut members: Vec<Member>,
    build: impl Fn(&[Member]) -> RequestBody + Send + Sync,
    unpack: impl Fn(ResponseBody) -> Result<Vec<Result<T, ServerError>>, Error> + Send + Sync,
) -> Vec<(usize, Result<T, Error>)> {
    let core = &client.core;
    let mut done = Vec::with_capacity(members.len());
    let mut attempts = Attempts::new(core.options.retry, kind, core.directory.now(), deadline);
    // Each round but the last is followed by a pause, or gives a member its own request; the deadline bounds them all.
    while !members.is_empty() {
        let calls = split(client, kind, std::mem::take(&mut members)).into_iter().map(|group| {
            let call = Call {
                need: client.need_leader(&group[0].key),
                kind,
                body: build(&group),
                bytes: group.iter().map(|member| member.bytes).sum(),
                deadline,
                sequence: None,
            };
            async move { (group, core.execute(call).await) }
        });
        let mut replies = stream::iter(calls).buffer_unordered(GROUPS_IN_FLIGHT_MAX);
        let mut advice = None;
        while let Some((group, reply)) = replies.next().await {
            let answers = reply.and_then(&unpack).and_then(|answers| match answers.len() == group.len() {
                true => Ok(answers),
                false => Err(wrong_count(kind)),
            });
            match answers {
                Ok(answers) => settle(core, kind, group, answers, &mut done, &mut members, &mut advice),
                Err(error) => {
                    done.extend(group.into_iter().map(|member| (member.index, Err(member.end_with(error.clone())))));
                }
            }
        }
        drop(replies);
        let Some(advice) = advice else { continue };
        if let Err(error) = wait(client, advice, &members, deadline, &mut attempts).await {
            done.extend(members.drain(..).map(|member| (member.index, Err(member.give_up(error.clone())))));
        }
    }
    done
}

/// Sorts the answers of one request: into what is done, and what goes into the next round.
fn settle<T>(
    core: &Arc<Core>,
    kind: Kind,
    group: Vec<Member>,
    answers: Vec<Result<T, ServerError>>,
    done: &mut Vec<(usize, Result<T, Error>)>,
    again: &mut Vec<Member>,
    advice: &mut Option<ServerError>,
) {
    let is_shared = group.len() > 1;
    for (mut member, answer) in group.into_iter().zip(answers) {
        let error = match answer {
            Ok(value) => {
                done.push((member.index, Ok(value)));
                continue;
            }
            Err(error) => error,
        };
        member.is_unresolved |= kind == Kind::Write && error.outcome == Outcome::Unknown;
        if let Some(sequence_min) = error.sequence_min.filter(|_| kind == Kind::Write && member.may_renumber(&error)) {
            let sequence = core.sequence_from(above(sequence_min, member.renumberings));
            member.sequence = sequence.first;
            member.renumbered = Some(Arc::new(sequence));
            member.renumberings += 1;
            again.push(member);
        } else if kind == Kind::Read && error.code == ErrorCode::TooLarge && is_shared {
            member.wants_own_request = true;
            again.push(member);
        } else if let Retry::AfterMs(_) = error.retry {
            member.last = Some(error.clone());
            again.push(member);
            advice.get_or_insert(error);
        } else {
            let definite = error.outcome == Outcome::Applied || error.code.is_verdict();
            let error = Error::Server(error);
            let open = member.is_unresolved && !definite;
            done.push((member.index, Err(if open { with_outcome(error, Outcome::Unknown) } else { error })));
        }
    }
}

/// Waits before the next round, as the first error of this one advises.
async fn wait(
    client: &Client,
    advice: ServerError,
    members: &[Member],
    deadline: Duration,
    attempts: &mut Attempts,
) -> Result<(), Error> {
    let directory = &client.core.directory;
    let need = members.first().map_or(Need::Any, |member| client.need_leader(&member.key));
    let now = directory.now();
    attempts.handle_sent();
    match directory.with_rng(|rng| attempts.handle_failure(Failure::Answered(advice), now, rng)) {
        Decision::AtOnce => Ok(()),
        Decision::Pause(pause) => client.core.pause(pause, need, deadline, attempts).await,
        Decision::GiveUp(error) => Err(error),
        Decision::Renumber { .. } => Ok(()),
    }
}

/// Splits the members into requests: one leader each, within the limits, and writes with sequence numbers in a row.
fn split(client: &Client, kind: Kind, mut members: Vec<Member>) -> Vec<Vec<Member>> {
    members.sort_by_cached_key(|member| (leader(client, member), member.sequence));
    let mut groups: Vec<Vec<Member>> = Vec::new();
    let (mut group_leader, mut group_bytes) = (None, 0);
    for member in members {
        let leader = leader(client, &member);
        let fits = groups.last().and_then(|group| group.last()).is_some_and(|last| {
            // What certainly had no effect is not called a retry because of its neighbours.
            let in_a_row = kind != Kind::Write
                || (last.sequence + 1 == member.sequence && last.is_unresolved == member.is_unresolved);
            let alone = last.wants_own_request || member.wants_own_request;
            in_a_row && !alone && leader == group_leader && group_bytes + member.bytes <= GROUP_BYTES_MAX
        });
        match groups.last_mut() {
            Some(group) if fits && group.len() < BATCH_OPERATIONS_MAX => {
                group_bytes += member.bytes;
                group.push(member);
            }
            _ => {
                (group_leader, group_bytes) = (leader, member.bytes);
                groups.push(vec![member]);
            }
        }
    }
    groups
}

/// One request was sent, and nobody knows what became of it.
fn no_answer(waited: Duration) -> Error {
    Error::DeadlineExceeded { outcome: Outcome::Unknown, attempts: 1, waited }
}

fn wrong_count(kind: Kind) -> Error {
    let outcome = if kind == Kind::Read { Outcome::NotApplied } else { Outcome::Unknown };
    Error::Protocol { outcome, detail: "a reply has another number of results than the request has keys".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client_core::ConnectionError;

    #[test]
    fn what_a_node_said_of_a_key_is_not_hidden_by_a_later_request_that_was_never_sent() {
        let no_quorum = ServerError::new(ErrorCode::Unavailable, "the shard has no leader now");
        let member = || Member { last: Some(no_quorum.clone()), ..Member::new(0, "k".into(), 1) };
        let unreachable = Error::Unreachable {
            outcome: Outcome::NotApplied,
            source: ConnectionError::OtherNode { address: "b:1".into() },
        };
        let waited = Duration::from_millis(900);
        let outcome = Outcome::NotApplied;
        let expired = |attempts| Error::DeadlineExceeded { outcome, attempts, waited };
        assert_eq!(member().end_with(unreachable.clone()), Error::Server(no_quorum.clone()));
        assert_eq!(member().end_with(expired(0)), Error::Server(no_quorum.clone()));
        assert_eq!(member().end_with(expired(1)), expired(1), "it was sent, and nobody answered");
        assert_eq!(Member::new(0, "k".into(), 1).end_with(unreachable.clone()), unreachable);
    }
    #[test]
    fn a_write_that_may_have_been_applied_does_not_end_with_an_error_that_says_nothing_was_sent() {
        let busy = ServerError::new(ErrorCode::Unavailable, "being committed").with_outcome(Outcome::Unknown);
        let unresolved = |last| Member { is_unresolved: true, last, ..Member::new(0, "k".into(), 1) };
        let waited = Duration::from_millis(900);
        let crowded = Error::TooManyInFlight { limit: 1, waited };
        for error in [crowded.clone(), Error::Closed] {
            let ended = unresolved(Some(busy.clone())).end_with(error.clone());
            assert_eq!(ended, Error::Server(busy.clone()));
            let ended = unresolved(None).end_with(error.clone());
            assert_eq!((ended.outcome(), ended.is_retryable()), (Outcome::Unknown, false));
            assert_eq!(Member::new(0, "k".into(), 1).end_with(error.clone()), error, "it was never sent");
        }
        assert_eq!(unresolved(None).end_with(crowded), no_answer(waited));
    }
}
