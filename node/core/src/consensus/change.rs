//! Changes of a group's membership: what an entry of that kind holds, and when it may be made.
//!
//! A replica joins as a learner. Learners become voters, and voters learners, through a joint state in which both the old and
//! the new voters must agree (Ongaro's thesis, section 4.3). Joint states are left by an entry of the leader's own, which is
//! empty. Only learners leave.

use crate::log::Membership;
use bytes::Bytes;
use kvorum_protocol::ReplicaId;
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::limits::REPLICAS_MAX;

/// One change of who replicates a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipChange {
    /// A replica that is no member begins to receive the log.
    AddLearner(ReplicaId),
    /// Learners become voters and voters become learners, in one step through a joint state. No voter leaves straight from
    /// there: until each new voter knows that the joint state is over, the old voters may be needed to elect a leader.
    Exchange {
        /// Learners that become voters.
        promote: Vec<ReplicaId>,
        /// Voters that become learners.
        demote: Vec<ReplicaId>,
    },
    /// A learner leaves.
    RemoveLearner(ReplicaId),
}

/// What a membership entry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum MembershipStep {
    /// A change.
    Change(MembershipChange),
    /// The joint state is left. Its entry is empty: the library makes it.
    LeaveJoint,
}

const ADD_LEARNER: u8 = 1;
const REMOVE_LEARNER: u8 = 3;
/// 2 was an exchange whose voters left at once.
const EXCHANGE: u8 = 4;

impl MembershipChange {
    /// The payload of the entry: a kind byte, then one id, or the two lists of an exchange, each a count and as many ids.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |kind: u8, lists: &[&[ReplicaId]], counted: bool| {
            out.push(kind);
            for list in lists {
                if counted {
                    out.count(list.len());
                }
                list.iter().for_each(|replica| out.extend_from_slice(&replica.0.to_le_bytes()));
            }
        };
        match self {
            Self::AddLearner(replica) => put(ADD_LEARNER, &[&[*replica]], false),
            Self::Exchange { promote, demote } => put(EXCHANGE, &[promote, demote], true),
            Self::RemoveLearner(replica) => put(REMOVE_LEARNER, &[&[*replica]], false),
        }
        out
    }
}

impl MembershipStep {
    /// Reads the payload of a membership entry. It may come from anyone: whatever it holds, this does not panic.
    pub(super) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        if payload.is_empty() {
            return Ok(Self::LeaveJoint);
        }
        let mut reader = Reader::new(payload);
        let change = match reader.u8()? {
            ADD_LEARNER => MembershipChange::AddLearner(replica(&mut reader)?),
            EXCHANGE => {
                let promote = replicas("promoted learners", &mut reader)?;
                let demote = replicas("demoted voters", &mut reader)?;
                MembershipChange::Exchange { promote, demote }
            }
            REMOVE_LEARNER => MembershipChange::RemoveLearner(replica(&mut reader)?),
            kind => return Err(DecodeError::UnknownValue { field: "membership change", value: kind.into() }),
        };
        reader.finish()?;
        Ok(Self::Change(change))
    }

    /// Why this can't be done to a group with `membership`; `Ok` if it can. Every replica comes to the same answer,
    /// since all have the same membership where the entry stands in the log.
    pub(super) fn check(&self, membership: &Membership) -> Result<(), &'static str> {
        let joint = !membership.voters_outgoing.is_empty();
        let Self::Change(change) = self else {
            return if joint { Ok(()) } else { Err("the group is in no joint state") };
        };
        if joint {
            return Err("the group is in a joint state");
        }
        let (voters, learners) = (&membership.voters, &membership.learners);
        match change {
            MembershipChange::AddLearner(replica) if voters.contains(replica) || learners.contains(replica) => {
                Err("the replica to be added is a member")
            }
            MembershipChange::AddLearner(_) if learners.len() >= REPLICAS_MAX => Err("the group has too many learners"),
            MembershipChange::AddLearner(_) if voters.is_empty() => Err("the group has no voters"),
            MembershipChange::RemoveLearner(replica) if !learners.contains(replica) => {
                Err("the replica to be removed is no learner")
            }
            MembershipChange::Exchange { promote, demote } => {
                let voters_after = (voters.len() + promote.len()).saturating_sub(demote.len());
                let learners_after = (learners.len() + demote.len()).saturating_sub(promote.len());
                if has_repeats(promote) || has_repeats(demote) || promote.len() + demote.len() == 0 {
                    Err("the exchange names nobody, or somebody twice")
                } else if !promote.iter().all(|replica| learners.contains(replica)) {
                    Err("a replica to be promoted is no learner")
                } else if !demote.iter().all(|replica| voters.contains(replica)) {
                    Err("a replica to be demoted is no voter")
                } else if voters_after == 0 || voters_after > REPLICAS_MAX || learners_after > REPLICAS_MAX {
                    Err("the group would have no voters, or too many voters or learners")
                } else {
                    Ok(())
                }
            }
            MembershipChange::AddLearner(_) | MembershipChange::RemoveLearner(_) => Ok(()),
        }
    }
}

fn has_repeats(replicas: &[ReplicaId]) -> bool {
    replicas.iter().enumerate().any(|(at, replica)| replicas[..at].contains(replica))
}

fn replica(reader: &mut Reader) -> Result<ReplicaId, DecodeError> {
    // The library takes a change of replica 0 for none.
    match reader.u64()? {
        0 => Err(DecodeError::UnknownValue { field: "replica", value: 0 }),
        id => Ok(ReplicaId(id)),
    }
}

fn replicas(field: &'static str, reader: &mut Reader) -> Result<Vec<ReplicaId>, DecodeError> {
    let count = reader.count(field, REPLICAS_MAX, 8)?;
    (0..count).map(|_| replica(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use MembershipChange::{AddLearner, Exchange, RemoveLearner};

    fn ids(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().map(|&id| ReplicaId(id)).collect()
    }

    fn exchange(promote: &[u64], demote: &[u64]) -> MembershipChange {
        Exchange { promote: ids(promote), demote: ids(demote) }
    }

    #[test]
    fn payloads_are_frozen_and_every_truncation_is_refused() {
        let golden: [(MembershipChange, &[u8]); 3] = [
            (AddLearner(ReplicaId(4)), &[1, 4, 0, 0, 0, 0, 0, 0, 0]),
            (
                exchange(&[4], &[2, 3]),
                &[4, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            ),
            (RemoveLearner(ReplicaId(5)), &[3, 5, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (change, bytes) in golden {
            assert_eq!(change.encode(), bytes);
            let payload = Bytes::from_static(bytes);
            for end in 1..bytes.len() {
                assert!(MembershipStep::decode(payload.slice(..end)).is_err(), "{change:?} cut to {end} bytes");
            }
            assert_eq!(MembershipStep::decode(payload), Ok(MembershipStep::Change(change)));
        }
        assert_eq!(MembershipStep::decode(Bytes::new()), Ok(MembershipStep::LeaveJoint));
    }

    #[test]
    fn payloads_that_mean_nothing_are_refused() {
        let hostile: [&[u8]; 7] = [
            &[0],
            &[5, 1, 0, 0, 0, 0, 0, 0, 0],
            &[2, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 4, 0, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0xff, 0xff, 0xff, 0xff],
            &[4, 16, 0, 0, 0],
        ];
        for bytes in hostile {
            assert!(MembershipStep::decode(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_change_must_fit_the_membership() {
        let plain = Membership { voters: ids(&[1, 2, 3]), learners: ids(&[4]), ..Membership::default() };
        let joint = Membership {
            voters: ids(&[1, 2, 4]),
            voters_outgoing: ids(&[1, 2, 3]),
            auto_leave: true,
            ..Membership::default()
        };
        let none = Membership::default();
        let change = |change| MembershipStep::Change(change);
        for (step, membership, fits) in [
            (change(AddLearner(ReplicaId(5))), &plain, true),
            (change(AddLearner(ReplicaId(4))), &plain, false),
            (change(AddLearner(ReplicaId(1))), &plain, false),
            (change(AddLearner(ReplicaId(5))), &joint, false),
            (change(AddLearner(ReplicaId(5))), &none, false),
            (change(RemoveLearner(ReplicaId(4))), &plain, true),
            (change(RemoveLearner(ReplicaId(1))), &plain, false),
            (change(exchange(&[4], &[3])), &plain, true),
            (change(exchange(&[], &[3])), &plain, true),
            (change(exchange(&[], &[])), &plain, false),
            (change(exchange(&[5], &[])), &plain, false),
            (change(exchange(&[4, 4], &[])), &plain, false),
            (change(exchange(&[4], &[3, 3])), &plain, false),
            (change(exchange(&[4], &[4])), &plain, false),
            (change(exchange(&[], &[1, 2, 3])), &plain, false),
            (change(exchange(&[4], &[1, 2, 3])), &plain, true),
            (change(exchange(&[4], &[3])), &joint, false),
            (MembershipStep::LeaveJoint, &joint, true),
            (MembershipStep::LeaveJoint, &plain, false),
        ] {
            assert_eq!(step.check(membership).is_ok(), fits, "{step:?} of {membership:?}");
        }
    }
}
