//! Handing a shard over: when, to whom, and what becomes of the requests that wait meanwhile.
//!
//! A hand-over has two stages. First the leader proposes nothing any more and lets the entries that are on their way commit,
//! so that whoever waits for them is answered by the leader that proposed them. Then it asks its successor to campaign.
//! Requests that come meanwhile wait in the backlog. If leadership goes, they are returned as they came, since none of them
//! was ever in a log; if nobody takes over, they go on here.
//!
//! **Order.** A request names the term of the leader that it is for, and a leader of another term returns it. So once one
//! request is returned by the leader of a term, all that were sent to that leader after it are returned, too: whoever sent
//! them can put them in order and send them on, and none has overtaken another.

use super::{
    BALANCE_AFTER_MS, BALANCE_EVERY_MS, LAG_MAX, Operation, STEP_ASIDE_EVERY_MS, Shard, ShardReply, ShardRequest,
    Ticket,
};
use crate::clock::Nanos;
use crate::consensus::Role;
use crate::seeded::{Bug, planted};
use kvorum_protocol::{ReplicaId, Term};

/// A leader that is not fit brings its group on for so long before it hands over to a replica that is to leave, which would only hand the
/// shard back, in milliseconds.
const STAYS_MS: u64 = 3_000;

/// A request that was not proposed and never will be by this replica, on its way back to whoever sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned {
    /// What was asked.
    pub operation: Operation,
    /// The term of the leader that it was for: it is of use only to the leader of a later one. 0 if it was for any.
    pub term: Term,
}

/// A hand-over that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    to: ReplicaId,
    /// Whether the successor was fit to lead when it began. One that no longer is may be about to go.
    to_fit: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Entries are on their way. The next stage begins at this time at the latest: ones that do not commit may be waiting for a
    /// better leader.
    Settles(Option<Nanos>),
    /// The successor was asked to campaign.
    Asked,
}

impl Shard {
    /// Hands leadership to the follower that holds most, if this replica leads: to one that is fit to lead and would take over at
    /// once, if there is one, and else to one that is fit. Returns whether it tries.
    pub fn hand_over(&mut self, now: Nanos) -> bool {
        if self.consensus.role() != Role::Leader {
            return false;
        }
        let is_fit = |replica| (self.fitness)(replica);
        let at_once =
            self.consensus.best_successor(|replica| is_fit(replica) && self.consensus.would_campaign(replica, now));
        let fit = at_once.or_else(|| self.consensus.best_successor(is_fit));
        let Some(successor) = fit.or_else(|| self.consensus.best_successor(|_| true)) else { return false };
        self.transfer_to(successor);
        true
    }

    /// Hands leadership to `successor`, if this replica leads and that one votes.
    pub fn transfer_to(&mut self, successor: ReplicaId) {
        // A hand-over to itself, or to one that can't lead, would only cost it the lease, for the rest of the term.
        let may_lead = successor != self.consensus.replica() && self.consensus.is_voter(successor);
        if self.consensus.role() != Role::Leader || !may_lead {
            return;
        }
        let to_fit = (self.fitness)(successor);
        self.handing_over = Some(HandOver { to: successor, to_fit, stage: Stage::Settles(None) });
        if self.in_flight.is_empty() {
            self.ask_to_campaign(successor);
        }
    }

    /// A hand-over is under way, in either stage.
    pub(super) fn is_handing_over(&self) -> bool {
        let settles = self.handing_over.is_some_and(|hand_over| matches!(hand_over.stage, Stage::Settles(_)));
        settles || self.consensus.is_handing_over()
    }

    /// Gives a hand-over up whose successor is not fit to lead any more: it may be about to stop, and whoever waits for it waits
    /// for an election timeout.
    pub(super) fn give_vain_hand_over_up(&mut self) {
        if self.handing_over.is_some_and(|hand_over| hand_over.to_fit && !(self.fitness)(hand_over.to)) {
            self.handing_over = None;
            self.consensus.give_hand_over_up();
        }
    }

    /// To whom a hand-over is under way, in either stage.
    pub fn successor(&self) -> Option<ReplicaId> {
        self.handing_over.map(|hand_over| hand_over.to).or(self.consensus.successor())
    }

    /// Begins the second stage once everything that was proposed is answered.
    pub(super) fn advance_hand_over(&mut self, now: Nanos) {
        let timeout_ms = u64::from(self.config.consensus.election_ticks) * self.config.consensus.tick_ms;
        let Some(hand_over) = &mut self.handing_over else { return };
        match &mut hand_over.stage {
            Stage::Settles(until) => {
                let until = *until.get_or_insert(now.after_ms(timeout_ms));
                if self.in_flight.is_empty() || now >= until {
                    let to = hand_over.to;
                    self.ask_to_campaign(to);
                }
            }
            Stage::Asked if !self.consensus.is_handing_over() => self.handing_over = None,
            Stage::Asked => {}
        }
    }

    fn ask_to_campaign(&mut self, successor: ReplicaId) {
        if self.consensus.role() != Role::Leader {
            return;
        }
        // The gate closes before the hand-over begins: from here on another leader may take writes.
        if !planted(Bug::LeaseKeptOverTransfer) {
            self.gate.set(None);
        }
        self.consensus.transfer_to(successor);
        if let Some(hand_over) = &mut self.handing_over {
            hand_over.stage = Stage::Asked;
        }
    }

    /// Gives leadership up while another replica is fit to lead and this one isn't.
    pub(super) fn step_aside(&mut self, now: Nanos) {
        let rested = self.withdrew_at.is_none_or(|at| now.ms_since(at) >= STEP_ASIDE_EVERY_MS);
        if !rested || !self.may_propose() || (self.fitness)(self.consensus.replica()) {
            return;
        }
        let had_its_time = now.ms_since(self.leader_since) >= STAYS_MS;
        let stays = |replica| self.config.target.voters.contains(&replica);
        let may_lead = |replica| {
            (self.fitness)(replica)
                && (stays(replica) || had_its_time)
                && self.consensus.is_caught_up(replica, LAG_MAX)
                && self.consensus.would_campaign(replica, now)
        };
        if let Some(successor) = self.consensus.best_successor(may_lead).filter(|_| !planted(Bug::LeadsOnFullDisk)) {
            self.withdrew_at = Some(now);
            self.transfer_to(successor);
        }
    }

    /// Gives the shard back to the replica that should lead it, once that one is well again.
    pub(super) fn balance(&mut self, now: Nanos) {
        let Some(&preferred) = self.config.target.voters.first() else { return };
        let settled = now.ms_since(self.leader_since) >= BALANCE_AFTER_MS;
        let rested = now.ms_since(self.balanced_at) >= BALANCE_EVERY_MS;
        if preferred != self.consensus.replica()
            && settled
            && rested
            && self.may_propose()
            && self.consensus.is_voter(preferred)
            && (self.fitness)(preferred)
            && self.consensus.would_campaign(preferred, now)
            && (self.consensus.is_caught_up(preferred, LAG_MAX) || planted(Bug::LaggardPreferred))
        {
            self.balanced_at = now;
            self.transfer_to(preferred);
        }
    }

    /// Whether a request is not for this replica: it does not lead, or not in the term that the request is for. A leader that can
    /// not answer yet, or hands over, keeps it.
    pub(super) fn returns(&self, request: &ShardRequest) -> bool {
        let is_other_term = request.term != Term(0) && request.term != self.consensus.term();
        self.consensus.role() != Role::Leader || (is_other_term && !planted(Bug::HeldOutOfOrder))
    }

    /// Gives a request back.
    pub(super) fn give_back(&mut self, ticket: Ticket, operation: Operation, term: Term) {
        self.replies.push((ticket, ShardReply::Returned(Box::new(Returned { operation, term }))));
    }

    /// Leadership is lost: gives back, in order, whatever was not proposed.
    pub(super) fn give_all_back(&mut self) {
        let round = std::mem::take(&mut self.confirmations);
        self.confirmations.next_tag = round.next_tag;
        for asked in round.in_round.into_iter().chain(round.next_round) {
            self.give_back(asked.ticket, Operation::Confirm, asked.term);
        }
        self.give_awaits_back();
        let waiting: Vec<ShardRequest> = self.backlog.drain().collect();
        for ShardRequest { ticket, term, operation, .. } in waiting {
            self.give_back(ticket, operation, term);
        }
    }
}
