//! Who replicates the shard: proposing and applying changes of it, and followers that need a snapshot.
//!
//! A change counts from the entry's being *applied*, as the library has it. What keeps two disjoint majorities apart:
//!
//! - One change at a time: the next is proposed only after the leader has applied the one before, and after an entry of
//!   its own term ([`Consensus::propose_membership`]).
//! - Voters change through a joint state only.
//! - A replica whose log holds a change knows, durably, that the change before it is committed: the leader says so in the
//!   very message that carries the later one, and the commit position is written down with it (`write_hard_state`). So
//!   no replica campaigns with a membership that lies more than one change behind its log, not even after a restart,
//!   and memberships one change apart have no disjoint majorities. (The library refuses to campaign while a change that
//!   is known to be committed is not applied.)

use super::super::change::{MembershipChange, MembershipStep};
use super::{Committed, Consensus, ConsensusError, library_error};
use crate::consensus::convert;
use crate::log::Membership;
use crate::seeded::{Bug, planted};
use kvorum_protocol::peer::{RaftEntryKind, RaftMessage, RaftMessageKind};
use kvorum_protocol::{LogIndex, ReplicaId, Term};
use raft::eraftpb::{Entry, EntryType};
use raft::{ProgressState, SnapshotStatus, StateRole};

/// What a snapshot of a replica's applied state stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotBase {
    /// The last entry in it.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// Who replicates the shard as of that entry.
    pub membership: Membership,
}

impl Consensus {
    /// Who replicates the shard as of the last applied entry, each list sorted. Nobody, on a replica that has just
    /// joined.
    pub fn membership(&self) -> Membership {
        convert::membership_from_library(&self.raw.raft.prs().conf().to_conf_state())
    }

    /// To be called when the membership has changed.
    pub(super) fn note_voters(&mut self) {
        let Membership { voters, voters_outgoing, .. } = self.membership();
        self.voters = [voters, voters_outgoing];
        // The timeouts' order is that of the voters.
        self.timeout_of = None;
        self.fix_election_timeout();
    }

    /// Whether a replica votes, and does not leave with the joint state, if the group is in one.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters[0].contains(&replica)
    }

    /// Up to where the log of a member is known to be the leader's; `None` if it is no member.
    pub fn matched(&self, replica: ReplicaId) -> Option<LogIndex> {
        self.raw.raft.prs().get(replica.0).map(|progress| LogIndex(progress.matched))
    }

    /// What a snapshot of the applied state stands for; `None` before the first entry.
    pub fn snapshot_base(&self) -> Option<SnapshotBase> {
        self.raw.store().snapshot_base()
    }

    /// Appends a change of the membership to the group's log. Returns its position; it counts once it is applied.
    ///
    /// # Errors
    /// `Refused` if this replica doesn't lead, has not applied an entry of its own term, hands over, or has a change on
    /// its way, or if the change doesn't fit the membership.
    pub fn propose_membership(&mut self, change: &MembershipChange) -> Result<(LogIndex, Term), ConsensusError> {
        let raft = &mut self.raw.raft;
        let leads = raft.state == StateRole::Leader && raft.apply_to_current_term() && raft.lead_transferee.is_none();
        if !leads || raft.has_pending_conf() {
            return Err(ConsensusError::Refused);
        }
        if MembershipStep::Change(change.clone()).check(&self.membership()).is_err() {
            return Err(ConsensusError::Refused);
        }
        // What the library's own way does, except that it takes the payload for protobuf.
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = change.encode().into();
        let raft = &mut self.raw.raft;
        if !raft.append_entry(&mut [entry]) {
            return Err(ConsensusError::Refused);
        }
        raft.pending_conf_index = raft.raft_log.last_index();
        raft.bcast_append();
        Ok((self.last_index(), self.term()))
    }

    /// Applies a committed change of the membership. Returns the membership that counts from here on.
    ///
    /// # Errors
    /// `Membership` if it can't be applied, which no correct leader brings about.
    ///
    /// # Panics
    /// If the entry is of another kind.
    pub fn apply_membership(&mut self, entry: &Committed) -> Result<Membership, ConsensusError> {
        assert_eq!(entry.kind, RaftEntryKind::Membership, "entry {} changes no membership", entry.index);
        let step = MembershipStep::decode(entry.payload.clone())
            .map_err(|_| ConsensusError::Membership("it can't be understood"))?;
        step.check(&self.membership()).map_err(ConsensusError::Membership)?;
        let mut state = self.raw.apply_conf_change(&convert::change_to_library(&step)).map_err(library_error)?;
        if !state.voters_outgoing.is_empty() && planted(Bug::SingleStepMembership) {
            let leave = convert::change_to_library(&MembershipStep::LeaveJoint);
            state = self.raw.apply_conf_change(&leave).map_err(library_error)?;
        }
        let raft = &mut self.raw.raft;
        let is_member = state.voters.contains(&raft.id) || state.voters_outgoing.contains(&raft.id);
        if raft.state == StateRole::Leader && !is_member {
            // It has led the group to here; the library would go on, and fail over its own missing progress.
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        self.note_voters();
        Ok(convert::membership_from_library(&state))
    }

    /// A snapshot that [`super::Output::snapshots`] asked for has been installed by its receiver, or has failed. The
    /// follower gets no entries before this is called; if it has failed, the snapshot is asked for again.
    pub fn report_snapshot(&mut self, replica: ReplicaId, installed: bool) {
        let status = if installed { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(replica.0, status);
        // After a failure the library begins with the first entry, which an empty learner does not take.
        let raft = &mut self.raw.raft;
        let applied = raft.raft_log.applied;
        let leads = raft.state == StateRole::Leader;
        if leads
            && !installed
            && raft.prs().conf().learners().contains(&replica.0)
            && let Some(progress) = raft.mut_prs().get_mut(replica.0)
            && progress.matched == 0
        {
            progress.pending_request_snapshot = applied;
        }
    }

    /// Whether this replica has joined and knows nobody yet.
    pub(super) fn knows_nobody(&self) -> bool {
        self.voters[0].is_empty()
    }

    /// A learner with an empty log needs a snapshot even if the leader has all entries: they don't tell who replicated
    /// the shard before the first of them. Called before the library takes the refusal, and sends what it asks for.
    pub(super) fn ask_for_snapshot(&mut self, message: &RaftMessage) {
        let refused = message.kind == RaftMessageKind::AppendResponse && message.reject;
        let raft = &mut self.raw.raft;
        let here = raft.state == StateRole::Leader && message.term.0 == raft.term;
        if !here || !refused || message.reject_hint != LogIndex(0) {
            return;
        }
        let from = message.from.0;
        let applied = raft.raft_log.applied;
        if raft.prs().conf().learners().contains(&from)
            && let Some(progress) = raft.mut_prs().get_mut(from)
            && progress.matched == 0
            && progress.state == ProgressState::Probe
            && progress.next_idx == message.index.0 + 1
        {
            progress.pending_request_snapshot = applied;
        }
    }
}
