//! A key of the `meta` group as its keeper on this node has it: read from the node's own replica, and changed by proposals that name
//! the version that they were decided on. The ring map ([`crate::map_keeper`]) and the table of users ([`crate::auth::keeper`]) are
//! such keys.
//!
//! # Who speaks for the group
//!
//! A replica that leads it and has applied an entry of its own term. No lease is asked for: a change names the version of
//! the key that it was decided on, so the group's log says whether it counts. A lease would even be wrong to ask for. A
//! leader gives its own up for the rest of a term when it hands over, and leads on in that term if nobody takes over.

use crate::clock::Nanos;
use crate::limits::DEADLINE_DEFAULT_MS;
use crate::seeded::{Bug, planted};
use crate::session::reply::{Answer, Reply, ReplySink};
use crate::shard::inbox::QueuedRequest;
use crate::shard::{Operation, ShardHandle, ShardReply};
use bytes::Bytes;
use kvorum_protocol::{Ack, Action, ClientId, Condition, Mutation, ReturnPrevious, Term, TimeToLive, Version, WriteId};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tracing::error;

/// Whether this node's replica of the group speaks for it.
pub(crate) fn speaks_for_group(handle: &ShardHandle, now: Nanos) -> bool {
    let leads = handle.status.lock().serving;
    leads && (!planted(Bug::MapNeedsLease) || handle.gate.pass(now).is_some())
}

/// A key whose value is a `T`.
pub(crate) struct MetaKey<T> {
    key: &'static [u8],
    /// What the value is called in the log.
    what: &'static str,
    /// Under whose name it is written. Nobody else may write under it.
    client: ClientId,
    /// After a proposal, how many ms pass before there may be another: the least, and twice as long after each further one, up to
    /// the most.
    again_ms: RangeInclusive<u64>,
    next_again_ms: u64,
    /// As this node's replica of the group has it.
    stored: Option<(Version, T)>,
    /// Nobody has been given it yet.
    is_news: bool,
    sequence: u64,
    sink: Arc<ReplySink>,
    /// Nothing is proposed before then.
    propose_at: Nanos,
}

impl<T> MetaKey<T> {
    /// A key that was not looked at yet.
    pub(crate) fn new(key: &'static [u8], what: &'static str, client: ClientId, again_ms: RangeInclusive<u64>) -> Self {
        let next_again_ms = *again_ms.start();
        let (stored, sink, propose_at) = (None, Arc::default(), Nanos(0));
        Self { key, what, client, again_ms, next_again_ms, stored, is_news: false, sequence: 0, sink, propose_at }
    }

    /// The value, as it was read last.
    pub(crate) fn stored(&self) -> Option<&T> {
        self.stored.as_ref().map(|(_, value)| value)
    }

    /// Whether the last proposal has shown in the key, or had time enough.
    pub(crate) fn may_propose(&self, now: Nanos) -> bool {
        now >= self.propose_at
    }

    /// Answers to proposals say nothing that the key doesn't, but for one thing: a group that has forgotten who wrote to it takes
    /// higher numbers only.
    pub(crate) fn hear_answers(&mut self) {
        let mut replies: Vec<Reply> = Vec::new();
        self.sink.take(&mut replies);
        for reply in replies {
            if let Answer::Shard(ShardReply::Error(error)) = reply.answer
                && let Some(sequence_min) = error.sequence_min
            {
                self.sequence = self.sequence.max(sequence_min.saturating_sub(1));
            }
        }
    }

    /// The value, if it is another than what was given here before.
    pub(crate) fn take_news(&mut self) -> Option<&T> {
        if std::mem::take(&mut self.is_news) { self.stored() } else { None }
    }

    /// Reads the key. A value that can't be read, or is refused, is only logged: the one before stays. Returns whether the value that is held
    /// here is the stored one.
    pub(crate) fn read<E: Display>(&mut self, handle: &ShardHandle, parse: impl FnOnce(&[u8]) -> Result<T, E>) -> bool {
        let known = self.stored.as_ref().map(|(version, _)| *version);
        let found = match handle.reader.get(self.key) {
            Ok(Some(found)) if Some(found.entry.version) != known => found.entry,
            Ok(found) => return found.is_some() == known.is_some(),
            Err(failure) => {
                error!(error = %failure, "the {} can't be read", self.what);
                return false;
            }
        };
        match parse(&found.value) {
            Ok(value) => {
                (self.propose_at, self.next_again_ms) = (Nanos(0), *self.again_ms.start());
                (self.stored, self.is_news) = (Some((found.version, value)), true);
                true
            }
            Err(failure) => {
                error!(error = %failure, "a committed {} was refused; the one before stays in force", self.what);
                false
            }
        }
    }

    /// Proposes a value, which takes effect only if the key is as it was read. Whether it did shows in the key.
    pub(crate) fn propose(&mut self, handle: &ShardHandle, now: Nanos, value: Vec<u8>) {
        self.propose_at = now.after_ms(self.next_again_ms);
        self.next_again_ms = (self.next_again_ms * 2).min(*self.again_ms.end());
        self.sequence += 1;
        let mutation = Mutation {
            key: Bytes::from_static(self.key),
            condition: self.stored.as_ref().map_or(Condition::IfAbsent, |(version, _)| Condition::IfVersion(*version)),
            return_previous: ReturnPrevious::Nothing,
            action: Action::Put { value: value.into(), ttl: TimeToLive::Forever },
        };
        let id = WriteId { sequence: self.sequence, first_unanswered: self.sequence, retry: false, once: None };
        handle.inbox.request(QueuedRequest {
            reply_to: self.sink.reply_to(0, 0),
            client: self.client,
            queued_at: now,
            deadline: now.after_ms(DEADLINE_DEFAULT_MS.into()),
            term: Term(0),
            traced: false,
            operation: Operation::Write { client: self.client, id, ack: Ack::Committed, mutation },
        });
    }
}
