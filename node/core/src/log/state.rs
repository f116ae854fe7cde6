//! The values that a log keeps besides entries, and where in it something is.

use bytes::Bytes;
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::limits::REPLICAS_MAX;
use kvorum_protocol::{LogIndex, ReplicaId, Term};
use std::fmt;

/// A byte of a shard's log. Ordered as the log is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's number, see [`super::Segment::number`].
    pub segment: u32,
    /// The byte's offset in the segment's file.
    pub offset: u32,
}

impl Position {
    /// The position as one number that sorts the same way.
    pub fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// The inverse of [`Position::pack`].
    pub fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

/// What consensus must not forget besides its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The newest term this replica has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
    /// The highest entry it knew to be committed.
    pub commit: LogIndex,
}

impl HardState {
    /// Bytes of [`HardState::encode_payload`]; term and commit are in the record's header.
    pub(super) const PAYLOAD_BYTES: usize = 8;

    pub(super) fn encode_payload(&self) -> [u8; Self::PAYLOAD_BYTES] {
        // Replica ids are never 0, so 0 is free to mean "no vote".
        self.vote.map_or(0, |replica| replica.0).to_le_bytes()
    }

    pub(super) fn decode(term: Term, commit: LogIndex, payload: &[u8]) -> Option<Self> {
        let vote = u64::from_le_bytes(payload.try_into().ok()?);
        Some(Self { term, vote: (vote != 0).then_some(ReplicaId(vote)), commit })
    }
}

/// Who replicates the shard; what the consensus library calls `ConfState`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Replicas that vote.
    pub voters: Vec<ReplicaId>,
    /// Replicas that only receive.
    pub learners: Vec<ReplicaId>,
    /// In a joint configuration: the voters of the outgoing half.
    pub voters_outgoing: Vec<ReplicaId>,
    /// In a joint configuration: outgoing voters that become learners when it is left.
    pub learners_next: Vec<ReplicaId>,
    /// The joint configuration is left without being asked.
    pub auto_leave: bool,
}

impl Membership {
    /// Whether these replicas vote, and nobody else has a part in the group.
    pub fn is_exactly(&self, voters: &[ReplicaId]) -> bool {
        let Self { learners, voters_outgoing, learners_next, .. } = self;
        self.voters.len() == voters.len()
            && self.voters.iter().all(|voter| voters.contains(voter))
            && learners.is_empty()
            && voters_outgoing.is_empty()
            && learners_next.is_empty()
    }

    /// Appends the membership: four lists, each a count and as many ids, then `auto_leave`. At most
    /// 4 × (4 + 8 × `REPLICAS_MAX`) + 1 bytes.
    ///
    /// # Panics
    /// If a list is longer than `REPLICAS_MAX`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for list in [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next] {
            assert!(list.len() <= REPLICAS_MAX, "a membership holds at most {REPLICAS_MAX} replicas in each role");
            out.count(list.len());
            for replica in list {
                out.extend_from_slice(&replica.0.to_le_bytes());
            }
        }
        Writer::bool(out, self.auto_leave);
    }

    /// Reads what [`Membership::encode`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut list = |field| {
            let count = reader.count(field, REPLICAS_MAX, 8)?;
            (0..count).map(|_| reader.u64().map(ReplicaId)).collect::<Result<Vec<_>, _>>()
        };
        let voters = list("voters")?;
        let learners = list("learners")?;
        let voters_outgoing = list("outgoing voters")?;
        let learners_next = list("next learners")?;
        let auto_leave = reader.bool("auto leave")?;
        reader.finish()?;
        Ok(Self { voters, learners, voters_outgoing, learners_next, auto_leave })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_pack_in_log_order() {
        let earlier = Position { segment: 1, offset: u32::MAX };
        let later = Position { segment: 2, offset: 0 };
        assert!(earlier < later && earlier.pack() < later.pack());
        assert_eq!(Position::unpack(earlier.pack()), earlier);
        assert_eq!(later.pack(), 2 << 32);
    }

    #[test]
    fn membership_survives_and_every_truncation_is_refused() {
        let membership = Membership {
            voters: vec![ReplicaId(1), ReplicaId(2)],
            learners: vec![ReplicaId(3)],
            voters_outgoing: vec![ReplicaId(1)],
            learners_next: vec![],
            auto_leave: true,
        };
        let mut bytes = Vec::new();
        membership.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        assert_eq!(Membership::decode(bytes.clone()), Ok(membership));
        for end in 0..bytes.len() {
            assert!(Membership::decode(bytes.slice(..end)).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn hard_state_keeps_the_difference_between_no_vote_and_a_vote() {
        for vote in [None, Some(ReplicaId(7))] {
            let state = HardState { term: Term(3), vote, commit: LogIndex(9) };
            assert_eq!(HardState::decode(state.term, state.commit, &state.encode_payload()), Some(state));
        }
        assert_eq!(HardState::decode(Term(1), LogIndex(0), b"short"), None);
    }
}
