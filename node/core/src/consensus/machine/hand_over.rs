//! Handing leadership over, and what becomes of a leader from whom nobody takes it.
//!
//! The library gives a hand-over up after an election timeout. What it does not give back is the lease: "campaign now" may still be
//! on its way, and whoever gets it is voted for in spite of the followers' refusal. So a leader from whom nobody took over begins a
//! term of its own. In that one, "campaign now" of the term before is ignored, or leads to a campaign for the very term in which a
//! majority has voted already.

use super::Consensus;
use crate::clock::Nanos;
use crate::log::limits::VOTE_BYTES;
use crate::seeded::{Bug, planted};
use kvorum_protocol::ReplicaId;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

impl Consensus {
    /// Whether a hand-over of leadership is under way.
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// To whom a hand-over is under way.
    pub fn successor(&self) -> Option<ReplicaId> {
        self.raw.raft.lead_transferee.map(ReplicaId)
    }

    /// Whether a replica has answered, in this term, something that was sent within half the shortest election timeout: it is
    /// there, and counts messages of this group. A replica that has just gone passes for active much longer.
    pub fn was_heard_lately(&self, replica: ReplicaId, now: Nanos) -> bool {
        let half_ms = u64::from(self.config.election_ticks) * self.config.tick_ms / 2;
        let heard = self.lease.as_ref().filter(|(term, _)| *term == self.term());
        let heard = heard.and_then(|(_, lease)| lease.heard_at(replica));
        heard.is_some_and(|heard| now.ms_since(heard) <= half_ms)
    }

    /// Whether a replica would campaign if it were asked now, by its answer to one of the last two heartbeats. For one election
    /// timeout after its start a replica ignores "campaign now", and the shard would wait for as long.
    pub fn would_campaign(&self, replica: ReplicaId, now: Nanos) -> bool {
        let lease = self.lease.as_ref().filter(|(term, _)| *term == self.term());
        let fresh_ms = 2 * u64::from(self.config.heartbeat_ticks) * self.config.tick_ms;
        let answered = lease.and_then(|(_, lease)| lease.would_campaign_at(replica));
        answered.is_some_and(|sent| now.ms_since(sent) <= fresh_ms)
    }

    /// The voter other than this one that holds most of the log and has not been silent for long, of those that `may_lead`. Whoever
    /// must be sure that it takes over asks [`Consensus::would_campaign`].
    pub fn best_successor(&self, may_lead: impl Fn(ReplicaId) -> bool) -> Option<ReplicaId> {
        let [voters, _] = &self.voters;
        voters
            .iter()
            .filter(|&&voter| voter != self.config.replica && may_lead(voter))
            .filter_map(|&voter| Some((self.raw.raft.prs().get(voter.0)?, voter)))
            .filter(|(progress, _)| progress.recent_active)
            .max_by_key(|(progress, voter)| (progress.matched, u64::MAX - voter.0))
            .map(|(_, voter)| voter)
    }

    /// Hands leadership to `successor`. The lease is given up first, for the rest of the term.
    pub fn transfer_to(&mut self, successor: ReplicaId) {
        self.refresh_lease();
        if let Some((_, lease)) = &mut self.lease
            && !planted(Bug::LeaseKeptOverTransfer)
        {
            lease.abandon();
        }
        self.handed_over_at = self.last_tick;
        self.raw.transfer_leader(successor.0);
    }

    /// Goes on as the leader, if a hand-over is under way. "Campaign now" may be heeded nevertheless, so the lease stays given up.
    pub fn give_hand_over_up(&mut self) {
        self.raw.raft.abort_leader_transfer();
    }

    /// Begins a term of its own to have a lease again, if this replica has given that of the term up for a hand-over, and
    /// nobody took over. The library gives a hand-over up after an election timeout; this waits for as long again. It is
    /// done while a majority answers, and with nothing on its way, so that it costs one election without a wait.
    pub(super) fn lead_anew_if_due(&mut self, now: Nanos) {
        if self.raw.raft.state != StateRole::Leader || self.raw.raft.lead_transferee.is_some() {
            return;
        }
        if planted(Bug::MapNeedsLease) {
            return;
        }
        let timeout_ms = u64::from(self.config.election_ticks) * self.config.tick_ms;
        let (term, me) = (self.term(), self.replica());
        let Some((of, lease)) = &self.lease else { return };
        if *of != term || !lease.is_abandoned() || now.ms_since(self.handed_over_at) < 2 * timeout_ms {
            return;
        }
        let since = Nanos(now.0.saturating_sub(timeout_ms * 1_000_000 / 2));
        let log = &self.raw.raft.raft_log;
        // An entry that followers have no room for would hold up the one that the new term begins with, and all reads with it.
        let holds_nothing_up = log.applied == log.committed && log.committed == log.last_index();
        // Nor is a term begun that can't be written down, or whose first entry can't.
        if !self.log().can_append_vote() || !self.log().can_append_first_of_term(2 * VOTE_BYTES) {
            return;
        }
        let is_idle = holds_nothing_up && !self.raw.raft.has_pending_conf() && self.voters[1].is_empty();
        if !is_idle || !lease.was_heard_since(me, now, since, &self.voters) {
            return;
        }
        // What the library does for whom leadership is handed to; here the leader takes the hand-over up itself.
        self.raw.raft.become_follower(term.0, raft::INVALID_ID);
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgTimeoutNow);
        (message.from, message.to, message.term) = (me.0, me.0, term.0);
        // It refuses nothing that was not looked at above; without a campaign the next election timeout brings one.
        let _ = self.raw.raft.step(message);
        self.fix_election_timeout();
    }
}
