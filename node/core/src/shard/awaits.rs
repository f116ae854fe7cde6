//! What became of writes that were answered when the leader had merely accepted them.
//!
//! A receipt names the entry that holds such a write by its term and index. There is never more than one entry of a term at an
//! index, so what the log has there once that is applied says what became of the write: its own entry, or another one that a
//! later leader put in its place. Both are final, and any replica may say so.
//!
//! Whoever asks earlier waits. A lost write need not wait until its index is reached. Terms never fall along a log, and what is
//! applied is in the log of every later leader; so once an entry of a later term is applied, none of the receipt's term comes
//! behind it.

use super::{Operation, Shard, ShardReply, ShardRequest, Ticket, late};
use crate::clock::Nanos;
use crate::cost;
use crate::seeded::{Bug, planted};
use kvorum_protocol::{Awaited, ErrorCode, LogIndex, Outcome, Receipt, ServerError, Term};

/// Most of them that wait in one shard.
pub(super) const AWAITS_MAX: usize = 1_024;

/// Those that ask, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Awaits {
    waiting: Vec<AsksForReceipt>,
    /// The last entry that was applied when they were looked at; `None` if one of them was not looked at yet.
    looked_at: Option<LogIndex>,
}

/// One that waits until it is known what became of a write.
#[derive(Debug)]
struct AsksForReceipt {
    ticket: Ticket,
    deadline: Nanos,
    /// The term of the leader that it is for.
    term: Term,
    receipt: Receipt,
    wait_ms: u32,
}

impl Awaits {
    /// Keeps those for which this holds, of their ticket and deadline.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Ticket, Nanos) -> bool) {
        self.waiting.retain(|asks| keep(asks.ticket, asks.deadline));
    }
}

impl Shard {
    /// Takes a request to wait; the next poll looks at it first.
    pub(super) fn begin_await(&mut self, request: ShardRequest, receipt: Receipt, wait_ms: u32) {
        let ShardRequest { ticket, deadline, term, .. } = request;
        if self.awaits.waiting.len() >= AWAITS_MAX {
            let error = ServerError::new(ErrorCode::Overloaded, "too many wait for accepted writes of this shard");
            self.replies.push((ticket, ShardReply::Error(error)));
            return;
        }
        self.awaits.waiting.push(AsksForReceipt { ticket, deadline, term, receipt, wait_ms });
        self.awaits.looked_at = None;
    }

    /// Answers those of whose write it is known by now what became of it.
    pub(super) fn settle_awaits(&mut self, now: Nanos) {
        let applied = self.store.applied();
        if self.awaits.waiting.is_empty() || self.awaits.looked_at == Some(applied) {
            return;
        }
        self.awaits.looked_at = Some(applied);
        let (log, replies) = (self.consensus.log(), &mut self.replies);
        let applied_term = log.term_of(applied);
        self.awaits.waiting.retain(|asks| {
            let Receipt { term, index, .. } = asks.receipt;
            let awaited = match () {
                () if index <= applied => Some(became_of(term, log.term_of(index))),
                () if applied_term.is_some_and(|applied| applied > term) => Some(Awaited::Lost),
                () if log.term_of(index) == Some(term) && planted(Bug::AwaitBeforeApplied) => Some(Awaited::Applied),
                () => None,
            };
            let reply = match awaited {
                Some(awaited) => ShardReply::Awaited(awaited),
                None if asks.deadline <= now => ShardReply::Error(late(Outcome::Unknown)),
                None => return true,
            };
            cost::parts(1);
            replies.push((asks.ticket, reply));
            false
        });
    }

    /// Leadership is lost: the next leader is asked.
    pub(super) fn give_awaits_back(&mut self) {
        for asks in std::mem::take(&mut self.awaits).waiting {
            let AsksForReceipt { ticket, term, receipt, wait_ms, .. } = asks;
            self.give_back(ticket, Operation::Await { receipt, wait_ms }, term);
        }
    }
}

/// What became of a write in an entry of `term`, given the term of the entry that was applied at its index, if the log still
/// knows that.
fn became_of(term: Term, found: Option<Term>) -> Awaited {
    match found {
        Some(found) if found == term || planted(Bug::AwaitIgnoresTerm) => Awaited::Applied,
        Some(_) => Awaited::Lost,
        None => Awaited::Forgotten,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_at_the_index_tells_if_the_log_still_has_it() {
        assert_eq!(became_of(Term(3), Some(Term(3))), Awaited::Applied);
        assert_eq!(became_of(Term(3), Some(Term(4))), Awaited::Lost);
        assert_eq!(became_of(Term(3), None), Awaited::Forgotten, "it was compacted away");
    }
}
