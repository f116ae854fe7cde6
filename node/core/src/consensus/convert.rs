//! Between the consensus library's types and ours. Only values cross here, never the library's bytes.

use super::change::{MembershipChange, MembershipStep};
use crate::log::{HardState, Membership};
use crate::seeded::{Bug, planted};
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind, RaftMessage, RaftMessageKind};
use kvorum_protocol::{LogIndex, ReplicaId, Term};
use raft::eraftpb::{self, ConfChangeSingle, ConfChangeTransition, ConfChangeType, EntryType, MessageType};

/// The library's message as ours; `None` for kinds that don't travel (snapshots have a stream of their own).
pub(super) fn message_to_wire(message: &mut eraftpb::Message, lease_stamp: u64) -> Option<RaftMessage> {
    let kind = match message.get_msg_type() {
        MessageType::MsgAppend => RaftMessageKind::Append,
        MessageType::MsgAppendResponse => RaftMessageKind::AppendResponse,
        MessageType::MsgRequestVote => RaftMessageKind::RequestVote,
        MessageType::MsgRequestVoteResponse => RaftMessageKind::RequestVoteResponse,
        MessageType::MsgRequestPreVote => RaftMessageKind::RequestPreVote,
        MessageType::MsgRequestPreVoteResponse => RaftMessageKind::RequestPreVoteResponse,
        MessageType::MsgHeartbeat => RaftMessageKind::Heartbeat,
        MessageType::MsgHeartbeatResponse => RaftMessageKind::HeartbeatResponse,
        MessageType::MsgTimeoutNow => RaftMessageKind::TimeoutNow,
        _ => return None,
    };
    Some(RaftMessage {
        kind,
        from: ReplicaId(message.from),
        to: ReplicaId(message.to),
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: LogIndex(message.index),
        commit: LogIndex(message.commit),
        commit_term: Term(message.commit_term),
        reject: message.reject,
        reject_hint: LogIndex(message.reject_hint),
        priority: message.priority,
        lease_stamp,
        log_time_ms: 0,
        context: std::mem::take(&mut message.context),
        entries: message.entries.iter().map(entry_to_wire).collect(),
    })
}

/// Our message as the library's.
pub(super) fn message_from_wire(message: RaftMessage) -> eraftpb::Message {
    let mut out = eraftpb::Message::default();
    out.set_msg_type(match message.kind {
        RaftMessageKind::Append => MessageType::MsgAppend,
        RaftMessageKind::AppendResponse => MessageType::MsgAppendResponse,
        RaftMessageKind::RequestVote => MessageType::MsgRequestVote,
        RaftMessageKind::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
        RaftMessageKind::RequestPreVote => MessageType::MsgRequestPreVote,
        RaftMessageKind::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        RaftMessageKind::Heartbeat => MessageType::MsgHeartbeat,
        RaftMessageKind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        RaftMessageKind::TimeoutNow => MessageType::MsgTimeoutNow,
    });
    out.from = message.from.0;
    out.to = message.to.0;
    out.term = message.term.0;
    out.log_term = message.log_term.0;
    out.index = message.index.0;
    out.commit = message.commit.0;
    out.commit_term = message.commit_term.0;
    out.reject = message.reject;
    out.reject_hint = message.reject_hint.0;
    out.priority = message.priority;
    out.context = message.context;
    out.entries = message.entries.into_iter().map(entry_from_wire).collect();
    out
}

pub(super) fn entry_to_wire(entry: &eraftpb::Entry) -> RaftEntry {
    RaftEntry {
        term: Term(entry.term),
        index: LogIndex(entry.index),
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => RaftEntryKind::Operations,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => RaftEntryKind::Membership,
        },
        payload: entry.data.clone(),
    }
}

pub(super) fn entry_from_wire(entry: RaftEntry) -> eraftpb::Entry {
    let mut out = eraftpb::Entry::default();
    out.set_entry_type(match entry.kind {
        RaftEntryKind::Operations => EntryType::EntryNormal,
        RaftEntryKind::Membership => EntryType::EntryConfChangeV2,
    });
    out.term = entry.term.0;
    out.index = entry.index.0;
    out.data = entry.payload;
    out
}

pub(super) fn hard_state_from_library(state: &eraftpb::HardState) -> HardState {
    HardState {
        term: Term(state.term),
        vote: (state.vote != 0).then_some(ReplicaId(state.vote)),
        commit: LogIndex(state.commit),
    }
}

pub(super) fn hard_state_to_library(state: &HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term.0,
        vote: state.vote.map_or(0, |vote| vote.0),
        commit: state.commit.0,
        ..eraftpb::HardState::default()
    }
}

pub(super) fn membership_to_library(membership: &Membership) -> eraftpb::ConfState {
    let ids = |replicas: &[ReplicaId]| replicas.iter().map(|replica| replica.0).collect();
    eraftpb::ConfState {
        voters: ids(&membership.voters),
        learners: ids(&membership.learners),
        voters_outgoing: ids(&membership.voters_outgoing),
        learners_next: ids(&membership.learners_next),
        auto_leave: membership.auto_leave,
        ..eraftpb::ConfState::default()
    }
}

/// The lists come in the order of a hash map; sorted, they are the same on every replica.
pub(super) fn membership_from_library(state: &eraftpb::ConfState) -> Membership {
    let ids = |ids: &[u64]| {
        let mut ids: Vec<ReplicaId> = ids.iter().map(|&id| ReplicaId(id)).collect();
        ids.sort_unstable();
        ids
    };
    Membership {
        voters: ids(&state.voters),
        learners: ids(&state.learners),
        voters_outgoing: ids(&state.voters_outgoing),
        learners_next: ids(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

/// Voters change through a joint state that is left automatically, even if only one does; a learner in a plain step.
pub(super) fn change_to_library(step: &MembershipStep) -> eraftpb::ConfChangeV2 {
    let mut out = eraftpb::ConfChangeV2::default();
    let mut push = |kind, replica: &ReplicaId| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = replica.0;
        out.mut_changes().push(single);
    };
    match step {
        MembershipStep::Change(MembershipChange::AddLearner(replica)) => push(ConfChangeType::AddLearnerNode, replica),
        MembershipStep::Change(MembershipChange::RemoveLearner(replica)) => push(ConfChangeType::RemoveNode, replica),
        MembershipStep::Change(MembershipChange::Exchange { promote, demote }) => {
            promote.iter().for_each(|replica| push(ConfChangeType::AddNode, replica));
            for replica in demote {
                let at_once = planted(Bug::VoterRemovedUndemoted);
                let kind = if at_once { ConfChangeType::RemoveNode } else { ConfChangeType::AddLearnerNode };
                push(kind, replica);
            }
            out.set_transition(ConfChangeTransition::Implicit);
        }
        // The library's own form: nothing at all.
        MembershipStep::LeaveJoint => {}
    }
    out
}
