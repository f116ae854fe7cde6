//! What is known already of a write that comes again, or under a name that was used.

use super::{Evaluation, ShardReply};
use crate::log::once::{OnceAnswer, OnceRecord};
use crate::log::remembered::Remembered;
use crate::seeded::{Bug, planted};
use crate::shard::Operation;
use crate::store::{KnownWrite, sequence_max};
use kvorum_protocol::{ClientId, ErrorCode, LogIndex, Once, OnceId, Outcome, ReturnPrevious, ServerError, WriteId};

/// The answer to a write of which something is known already.
pub(in crate::shard) enum Recalled {
    /// It is there.
    Now(ShardReply),
    /// It is that of a write which is on its way: once the entry at this index is applied, and not before.
    With(LogIndex, ShardReply),
}

/// What was done under a one-shot name, as another request with that name is answered.
pub(super) enum Replay {
    /// The same was asked for.
    Answer(OnceAnswer),
    /// Something else was, or nothing that may be asked under such a name.
    Refused(ServerError),
}

/// Which kind of request a write is: its answer is one to such a request only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteKind {
    Single,
    Atomic,
    Transaction,
}

impl Evaluation<'_> {
    /// The answer to a write that was sent before, or under a name that was used before, if anything is known of it. It is about
    /// another write than this one, so it must not depend on what becomes of this one.
    pub(in crate::shard) fn recall(&self, operation: &Operation) -> Option<Recalled> {
        let (client, id, kind) = match operation {
            Operation::Write { client, id, .. } => (*client, *id, WriteKind::Single),
            Operation::Atomic { client, request } => (*client, request.id, WriteKind::Atomic),
            Operation::Transaction { client, request } => (*client, request.id, WriteKind::Transaction),
            Operation::Get(_) | Operation::Confirm | Operation::Await { .. } => return None,
        };
        let now = |error| Some(Recalled::Now(ShardReply::Error(error)));
        if self.overlay.is_on_its_way(client, id.sequence) && !planted(Bug::InFlightNotDeduplicated) {
            return now(still_on_its_way());
        }
        if let Some(reply) = self.recall_of_session(client, id, kind) {
            return Some(Recalled::Now(reply));
        }
        let once = id.once?;
        if returns_entry(operation) {
            return now(no_entry_under_a_name());
        }
        if let Some((index, record)) = self.overlay.once.get(&once.id)
            && !planted(Bug::OnceIdIgnoresOverlay)
        {
            // What a retry is told is final, and must be in the log: it finds it there when it comes again.
            return match id.retry {
                true => now(still_on_its_way()),
                false => Some(Recalled::With(*index, shown(replay(once, record, kind)))),
            };
        }
        if id.retry { None } else { self.replay(id, kind).map(|replay| Recalled::Now(shown(replay))) }
    }

    /// What the client's own session knows of a write.
    fn recall_of_session(&self, client: ClientId, id: WriteId, kind: WriteKind) -> Option<ShardReply> {
        match (self.store.sessions().look_up(client, id.sequence), kind) {
            (KnownWrite::New, _) => {
                let sequence_max = sequence_max(self.builder.log_time_ms());
                (id.sequence > sequence_max).then(|| ShardReply::Error(sequence_too_high(sequence_max)))
            }
            (KnownWrite::Answered(_), _) if planted(Bug::NoDeduplication) => None,
            // The only copy has no effect; of several, an earlier one may have had it.
            (KnownWrite::Forgotten { floor }, _) => {
                if let Some(Replay::Answer(answer)) = self.replay(id, kind) {
                    return Some(reply_of(answer));
                }
                let error = if id.retry { session_expired() } else { ServerError::sequence_too_low(floor) };
                Some(ShardReply::Error(error))
            }
            (KnownWrite::Answered(Remembered::Refused(error)), _) => Some(ShardReply::Error(*error)),
            (KnownWrite::Answered(Remembered::Atomic(result)), WriteKind::Atomic) => {
                Some(self.whole_answer(id, kind).unwrap_or(ShardReply::Atomic(*result)))
            }
            (KnownWrite::Answered(Remembered::Transaction(result)), WriteKind::Transaction) => Some(match result {
                Some(result) => ShardReply::Transaction(*result),
                None => ShardReply::Error(answer_not_remembered()),
            }),
            (KnownWrite::Answered(reply), WriteKind::Single) => Some(match reply.as_write(self.durability) {
                Some(result) => self.whole_answer(id, kind).unwrap_or(ShardReply::Written(result)),
                None => ShardReply::Error(sequence_reused()),
            }),
            (KnownWrite::Answered(_), WriteKind::Atomic | WriteKind::Transaction) => {
                Some(ShardReply::Error(sequence_reused()))
            }
        }
    }

    /// The answer to a write that its session knows, with all that it told: under a one-shot name more is remembered.
    fn whole_answer(&self, id: WriteId, kind: WriteKind) -> Option<ShardReply> {
        let once = id.once?;
        let record = self.known(once.id).filter(|record| record.digest == once.digest)?;
        match (&record.answer, kind) {
            (OnceAnswer::Write(_), WriteKind::Single) | (OnceAnswer::Atomic(_), WriteKind::Atomic) => {
                Some(reply_of(record.answer.clone()))
            }
            _ => None,
        }
    }

    /// What was done under a one-shot name, if that is remembered.
    fn known(&self, id: OnceId) -> Option<&OnceRecord> {
        self.store.once().look_up(id, self.builder.log_time_ms().saturating_sub(self.store.log_time_ms()))
    }

    /// The answer to a write whose one-shot name was used.
    fn replay(&self, id: WriteId, kind: WriteKind) -> Option<Replay> {
        let once = id.once?;
        self.known(once.id).map(|record| replay(once, record, kind))
    }

    /// To a retry whose name was used the answer is final, as every other one: the session remembers it, so that an earlier copy which
    /// comes when the name is forgotten changes nothing.
    pub(super) fn replay_to_retry(&mut self, client: ClientId, id: WriteId, kind: WriteKind) -> Option<ShardReply> {
        let replay = if id.retry { self.replay(id, kind)? } else { return None };
        Some(match replay {
            Replay::Answer(answer) => {
                self.remember(client, id, answer.of_session(), None);
                reply_of(answer)
            }
            Replay::Refused(error) => self.refuse(client, id, error),
        })
    }
}

/// The answer to a write whose one-shot name was used for this.
fn replay(once: Once, record: &OnceRecord, kind: WriteKind) -> Replay {
    let is_same = record.digest == once.digest || planted(Bug::OnceIdOtherBody);
    match (&record.answer, kind) {
        (OnceAnswer::Write(_), WriteKind::Single) | (OnceAnswer::Atomic(_), WriteKind::Atomic) if is_same => {
            Replay::Answer(record.answer.clone().replayed())
        }
        _ => Replay::Refused(once_id_reused()),
    }
}

fn shown(replay: Replay) -> ShardReply {
    match replay {
        Replay::Answer(answer) => reply_of(answer),
        Replay::Refused(error) => ShardReply::Error(error),
    }
}

fn reply_of(answer: OnceAnswer) -> ShardReply {
    match answer {
        OnceAnswer::Write(result) => ShardReply::Written(*result),
        OnceAnswer::Atomic(result) => ShardReply::Atomic(*result),
    }
}

/// Whether the answer to a write is to hold the entry that was there before.
fn returns_entry(operation: &Operation) -> bool {
    let mutations = match operation {
        Operation::Write { mutation, .. } => std::slice::from_ref(mutation),
        Operation::Atomic { request, .. } => &request.mutations[..],
        Operation::Transaction { .. } | Operation::Get(_) | Operation::Confirm | Operation::Await { .. } => &[],
    };
    mutations.iter().any(|mutation| mutation.return_previous == ReturnPrevious::Entry)
}

fn session_expired() -> ServerError {
    let detail = "what this write may have done is no longer remembered; read the key before writing again";
    ServerError::new(ErrorCode::SessionExpired, detail)
}

/// The same write is sent again while its first copy is being committed: the next try will find the answer.
fn still_on_its_way() -> ServerError {
    ServerError::new(ErrorCode::Unavailable, "this write is being committed; ask again").with_outcome(Outcome::Unknown)
}

fn once_id_reused() -> ServerError {
    ServerError::new(ErrorCode::OnceIdReused, "another write was sent under this one-shot name")
}

/// What is remembered under such names is small.
fn no_entry_under_a_name() -> ServerError {
    let detail = "a write under a one-shot name can't return the entry that was there before";
    ServerError::new(ErrorCode::InvalidArgument, detail)
}

fn sequence_too_high(sequence_max: u64) -> ServerError {
    let detail = format!("the shard takes sequence numbers up to {sequence_max} now");
    ServerError::new(ErrorCode::InvalidArgument, detail)
}

/// It was done, once; what it was answered is gone.
fn answer_not_remembered() -> ServerError {
    let detail = "this transaction was done, and its answer was too long to be remembered";
    ServerError::new(ErrorCode::TooLarge, detail).with_outcome(Outcome::Applied)
}

fn sequence_reused() -> ServerError {
    let detail = "this sequence number was used for another kind of write";
    ServerError::new(ErrorCode::InvalidArgument, detail)
}
