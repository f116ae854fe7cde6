//! Reads without a lease: a quorum confirms that this replica leads (read index).

use super::{Shard, ShardReply, Ticket};
use crate::clock::Nanos;
use crate::seeded::{Bug, planted};
use kvorum_protocol::{LogIndex, Term};

/// Reads that wait for a quorum's word that this replica leads; one round serves all that came before it began.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    pub(super) next_tag: u64,
    pub(super) asked: Option<u64>,
    pub(super) confirmed_at: Option<LogIndex>,
    pub(super) in_round: Vec<AsksToRead>,
    pub(super) next_round: Vec<AsksToRead>,
}

/// A read that waits for confirmation.
#[derive(Debug)]
pub(super) struct AsksToRead {
    pub(super) ticket: Ticket,
    pub(super) deadline: Nanos,
    pub(super) term: Term,
}

impl Shard {
    /// Asks a quorum for all reads that wait, if it is not being asked. A lease is not taken for an answer: the session that would
    /// act on it does so later.
    pub(super) fn begin_confirmation(&mut self, now: Nanos) {
        if self.confirmations.next_round.is_empty() || !self.consensus.is_serving() {
            return;
        }
        let had_lease = || self.consensus.lease_until(now).is_some_and(|until| now < until);
        if planted(Bug::ReadConfirmedAlone) || (planted(Bug::ConfirmedByPastLease) && had_lease()) {
            let waiting = std::mem::take(&mut self.confirmations.next_round);
            self.replies.extend(waiting.into_iter().map(|asked| (asked.ticket, ShardReply::MayRead)));
        } else if self.confirmations.asked.is_none() {
            self.confirmations.next_tag += 1;
            self.confirmations.asked = Some(self.confirmations.next_tag);
            self.confirmations.in_round = std::mem::take(&mut self.confirmations.next_round);
            self.consensus.read_index(self.confirmations.next_tag);
        }
    }

    /// Answers the reads that a quorum has confirmed. Returns whether there were any.
    pub(super) fn finish_confirmation(&mut self) -> bool {
        let is_confirmed = self.confirmations.confirmed_at.is_some_and(|index| index <= self.store.applied());
        if is_confirmed {
            self.confirmations.asked = None;
            self.confirmations.confirmed_at = None;
            let waiting = std::mem::take(&mut self.confirmations.in_round);
            self.replies.extend(waiting.into_iter().map(|asked| (asked.ticket, ShardReply::MayRead)));
        }
        is_confirmed
    }
}
