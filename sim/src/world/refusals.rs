//! Whether replicas keep the refusal that leases rest on: who has answered a leader votes for nobody else until a lease that rests
//! on the answer is over.

use super::queue::Moment;
use kvorum_protocol::peer::{RaftMessage, RaftMessageKind};
use kvorum_protocol::{ReplicaId, ShardId, Term};
use std::collections::BTreeMap;

/// What was seen of votes and of answers to leaders.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    answered: BTreeMap<(ShardId, ReplicaId), Answered>,
    /// The newest term in which a leader has told another replica to campaign: it gives its lease up before, for the whole term.
    handed_over: BTreeMap<ShardId, Term>,
}

/// What a replica has answered last.
#[derive(Clone, Copy, Debug)]
struct Answered {
    leader: ReplicaId,
    term: Term,
    /// A lease that rests on it is over then, at the latest.
    until: Moment,
}

impl Refusals {
    /// A message leaves a replica. `lease_until` says until when a lease lasts that rests on it, if it answers a leader. Says what is
    /// wrong with it.
    pub(super) fn look(
        &mut self,
        now: Moment,
        shard: ShardId,
        message: &RaftMessage,
        lease_until: Option<Moment>,
    ) -> Option<String> {
        match message.kind {
            RaftMessageKind::TimeoutNow => {
                let newest = self.handed_over.entry(shard).or_default();
                *newest = message.term.max(*newest);
                None
            }
            RaftMessageKind::RequestVoteResponse if !message.reject => self.broken_by_vote(now, shard, message),
            RaftMessageKind::RequestVoteResponse => None,
            _ => {
                let until = lease_until?;
                let said = Answered { leader: message.to, term: message.term, until };
                let known = self.answered.entry((shard, message.from)).or_insert(said);
                if said.term > known.term || (said.term == known.term && said.until > known.until) {
                    *known = said;
                }
                None
            }
        }
    }

    fn broken_by_vote(&self, now: Moment, shard: ShardId, vote: &RaftMessage) -> Option<String> {
        let Answered { leader, term, until } = *self.answered.get(&(shard, vote.from))?;
        let is_over = now >= until || vote.term <= term || vote.to == leader;
        let is_handed_over = self.handed_over.get(&shard).is_some_and(|of| *of >= term);
        (!is_over && !is_handed_over).then(|| {
            let left_ms = until.ms() - now.ms();
            format!(
                "shard {shard}: replica {} votes for {} in term {}, and the lease of {leader} in term {term} that rests on its \
                 answer lasts for {left_ms} ms",
                vote.from, vote.to, vote.term
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvorum_protocol::LogIndex;

    const SHARD: ShardId = ShardId(0);

    fn message(kind: RaftMessageKind, to: u64, term: u64) -> RaftMessage {
        RaftMessage {
            kind,
            from: ReplicaId(2),
            to: ReplicaId(to),
            term: Term(term),
            log_term: Term(0),
            index: LogIndex(0),
            commit: LogIndex(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: LogIndex(0),
            priority: 0,
            lease_stamp: 0,
            log_time_ms: 0,
            context: Bytes::new(),
            entries: Vec::new(),
        }
    }

    fn at(ms: u64) -> Moment {
        Moment(0).after_ms(ms)
    }

    #[test]
    fn a_vote_breaks_the_refusal_unless_the_lease_is_over_or_was_given_up() {
        let vote = |to, term| message(RaftMessageKind::RequestVoteResponse, to, term);
        let answer = message(RaftMessageKind::HeartbeatResponse, 1, 5);
        let mut refusals = Refusals::default();
        assert_eq!(refusals.look(at(0), SHARD, &vote(3, 5), None), None, "it has answered nobody");
        assert_eq!(refusals.look(at(0), SHARD, &answer, Some(at(400))), None);
        assert!(refusals.look(at(399), SHARD, &vote(3, 6), None).is_some());
        assert_eq!(refusals.look(at(399), SHARD, &RaftMessage { reject: true, ..vote(3, 6) }, None), None);
        assert_eq!(refusals.look(at(399), SHARD, &vote(1, 6), None), None, "for the leader itself");
        assert_eq!(refusals.look(at(399), SHARD, &vote(3, 5), None), None, "in the leader's term");
        assert_eq!(refusals.look(at(400), SHARD, &vote(3, 6), None), None);
        refusals.look(at(390), SHARD, &message(RaftMessageKind::TimeoutNow, 3, 5), None);
        assert_eq!(refusals.look(at(399), SHARD, &vote(3, 6), None), None, "the lease was given up");
    }
}
