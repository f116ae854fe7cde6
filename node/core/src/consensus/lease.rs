//! The leader lease: until when a leader may answer reads from its own state without asking anyone.
//!
//! The argument. A follower that hears from its leader refuses votes for one shortest election timeout, counted in its
//! ticks. The leader knows when it *sent* the messages that a quorum has answered in its own term; each of those
//! followers heard it no earlier, and counts its refusal from a time that it read *after* the message had come in
//! ([`crate::shard::host::ShardHost::step`]): from an earlier one, the refusal would be over too soon by as much as the follower was
//! held up. So no other leader can be elected before
//! `quorum-oldest send time + shortest election timeout - one tick`, as far as clocks agree on the length of a second.
//! The lease ends well before that, by [`LeaseLength`]'s margin. (Ongaro's thesis, section 6.4.1, with send times
//! instead of receive times.)
//!
//! The lease answers reads through the gate only, which is looked at before and after each ([`crate::shard::gate`]). It never
//! answers a replica that asks whether it leads: that takes a quorum, since an answer may be late, and a lease then be over.
//!
//! What else it needs, and where that is kept: a restarted replica neither votes nor campaigns for one shortest election
//! timeout (`Consensus::handle_message`); a lease is never taken again in a term in which a hand-over was begun, since a
//! delayed "campaign now" overrides the followers' refusal ([`Lease::abandon`]). If nobody takes over, the leader begins a
//! new term itself to have a lease again (`Consensus::lead_anew_if_due`): "campaign now" of the old term is ignored in it.

use crate::clock::Nanos;
use crate::seeded::{Bug, planted};
use kvorum_protocol::ReplicaId;
use std::collections::BTreeMap;

/// How long a lease lasts from the moment its messages were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLength {
    nanos: u64,
}

impl LeaseLength {
    /// Out of 100: how much two clocks may disagree on the length of a second, and the time a tick may be late.
    const DRIFT_MARGIN_PERCENT: u64 = 15;

    /// The lease of a group whose followers refuse votes for `election_ticks` ticks of `tick_ms` milliseconds: one tick
    /// less, because a tick may fall right behind the message, and less the drift margin.
    pub fn new(election_ticks: u32, tick_ms: u64) -> Self {
        assert!(election_ticks >= 2, "a lease needs an election timeout of at least two ticks");
        let mut refusal_ms = u64::from(election_ticks - 1) * tick_ms;
        if planted(Bug::LeaseOfLongestTimeout) {
            refusal_ms = 2 * u64::from(election_ticks) * tick_ms;
        }
        Self { nanos: refusal_ms * 1_000_000 * (100 - Self::DRIFT_MARGIN_PERCENT) / 100 }
    }

    /// In milliseconds.
    pub fn ms(self) -> u64 {
        self.nanos / 1_000_000
    }
}

/// A leader's lease in one term.
#[derive(Debug)]
pub struct Lease {
    length: LeaseLength,
    acknowledged: BTreeMap<ReplicaId, Nanos>,
    /// When the last heartbeat was sent that was answered by a replica that would campaign if it were asked.
    campaigns: BTreeMap<ReplicaId, Nanos>,
    abandoned: bool,
}

impl Lease {
    /// The lease of a leader that has just been elected: none yet.
    pub fn new(length: LeaseLength) -> Self {
        Self { length, acknowledged: BTreeMap::new(), campaigns: BTreeMap::new(), abandoned: false }
    }

    /// A replica has answered, in this term, a message that was sent at `sent`.
    pub fn acknowledge(&mut self, replica: ReplicaId, sent: Nanos) {
        let latest = self.acknowledged.entry(replica).or_default();
        *latest = (*latest).max(sent);
    }

    /// A replica has answered a heartbeat that was sent at `sent`. One that has just started neither votes nor campaigns yet.
    pub fn note_heartbeat(&mut self, replica: ReplicaId, sent: Nanos, has_just_started: bool) {
        if has_just_started {
            self.campaigns.remove(&replica);
        } else {
            self.campaigns.insert(replica, sent);
        }
    }

    /// When the last heartbeat was sent that a replica has answered, if it would campaign then.
    pub fn would_campaign_at(&self, replica: ReplicaId) -> Option<Nanos> {
        self.campaigns.get(&replica).copied()
    }

    /// When what a replica has answered last in this term was sent; `None` if it has answered nothing.
    pub fn heard_at(&self, replica: ReplicaId) -> Option<Nanos> {
        self.acknowledged.get(&replica).copied()
    }

    /// Whether it was given up for the rest of the term.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether a majority of each of these voter sets has answered, in this term, something that was sent since `since`.
    pub fn was_heard_since(&self, me: ReplicaId, now: Nanos, since: Nanos, quorums: &[Vec<ReplicaId>]) -> bool {
        let mut sets = quorums.iter().filter(|voters| !voters.is_empty());
        sets.all(|voters| self.majority_heard_at(me, now, voters).is_some_and(|heard| heard >= since))
    }

    /// Gives the lease up for the rest of the term. Must precede every attempt to hand leadership over.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Until when the lease holds. `quorums` are the voter sets that each need a majority: one, or two during a joint
    /// membership change. `None`: no lease.
    pub fn until(&self, me: ReplicaId, now: Nanos, quorums: &[Vec<ReplicaId>]) -> Option<Nanos> {
        if self.abandoned {
            return None;
        }
        let oldest = self.heard_by_majority_at(me, now, quorums)?;
        Some(Nanos(oldest.0.saturating_add(self.length.nanos)))
    }

    /// The latest moment such that a majority of each of these voter sets has answered, in this term, something that was sent from then on;
    /// `None` if there is none.
    pub fn heard_by_majority_at(&self, me: ReplicaId, now: Nanos, quorums: &[Vec<ReplicaId>]) -> Option<Nanos> {
        let sets = quorums.iter().filter(|voters| !voters.is_empty());
        sets.map(|voters| self.majority_heard_at(me, now, voters))
            .try_fold(now, |oldest, heard| Some(oldest.min(heard?)))
    }

    /// The latest moment by which a majority of `voters` is known to have heard the leader.
    fn majority_heard_at(&self, me: ReplicaId, now: Nanos, voters: &[ReplicaId]) -> Option<Nanos> {
        let mut heard: Vec<Nanos> = voters
            .iter()
            .filter_map(|voter| if *voter == me { Some(now) } else { self.acknowledged.get(voter).copied() })
            .collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        heard.get(voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: LeaseLength = LeaseLength { nanos: 400 };

    fn replicas(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().map(|&id| ReplicaId(id)).collect()
    }

    #[test]
    fn length_leaves_a_tick_and_the_drift_out() {
        assert_eq!(LeaseLength::new(10, 50).nanos, 9 * 50 * 1_000_000 * 85 / 100);
    }

    #[test]
    fn counts_from_the_send_time_that_a_majority_has_answered() {
        let three = [replicas(&[1, 2, 3])];
        let mut lease = Lease::new(LENGTH);
        let now = Nanos(1000);
        assert_eq!(lease.until(ReplicaId(1), now, &three), None, "nobody has answered");
        lease.acknowledge(ReplicaId(2), Nanos(700));
        assert_eq!(lease.until(ReplicaId(1), now, &three), Some(Nanos(1100)));
        lease.acknowledge(ReplicaId(3), Nanos(900));
        assert_eq!(lease.until(ReplicaId(1), now, &three), Some(Nanos(1300)), "the newer of two followers makes two");
        lease.acknowledge(ReplicaId(3), Nanos(800));
        assert_eq!(lease.until(ReplicaId(1), now, &three), Some(Nanos(1300)), "a late answer takes nothing back");
    }

    #[test]
    fn five_need_two_others_and_one_needs_nobody() {
        let mut lease = Lease::new(LENGTH);
        let now = Nanos(1000);
        let five = [replicas(&[1, 2, 3, 4, 5])];
        lease.acknowledge(ReplicaId(2), Nanos(900));
        assert_eq!(lease.until(ReplicaId(1), now, &five), None);
        lease.acknowledge(ReplicaId(4), Nanos(600));
        assert_eq!(lease.until(ReplicaId(1), now, &five), Some(Nanos(1000)));
        assert_eq!(lease.until(ReplicaId(1), now, &[replicas(&[1])]), Some(Nanos(1400)));
    }

    #[test]
    fn a_joint_change_needs_both_majorities() {
        let mut lease = Lease::new(LENGTH);
        let now = Nanos(1000);
        let both = [replicas(&[1, 2, 3]), replicas(&[1, 4, 5])];
        lease.acknowledge(ReplicaId(2), Nanos(900));
        assert_eq!(lease.until(ReplicaId(1), now, &both), None);
        lease.acknowledge(ReplicaId(5), Nanos(500));
        assert_eq!(lease.until(ReplicaId(1), now, &both), Some(Nanos(900)));
    }

    #[test]
    fn abandoned_stays_abandoned() {
        let mut lease = Lease::new(LENGTH);
        lease.acknowledge(ReplicaId(2), Nanos(900));
        lease.abandon();
        lease.acknowledge(ReplicaId(3), Nanos(1000));
        assert_eq!(lease.until(ReplicaId(1), Nanos(1000), &[replicas(&[1, 2, 3])]), None);
    }
}
