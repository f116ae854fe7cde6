//! What the library wants to send, as what travels.

use super::{Consensus, convert};
use crate::clock::Nanos;
use kvorum_protocol::peer::RaftMessage;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

impl Consensus {
    /// The library's messages as they travel at `now`; `leader_stamp` is the lease stamp of those that renew a lease.
    pub(super) fn to_wire(&self, now: Nanos, messages: Vec<Message>, leader_stamp: u64) -> Vec<RaftMessage> {
        let (heard_term, heard_stamp) = self.heard;
        messages
            .into_iter()
            .filter_map(|mut message| {
                let kind = message.get_msg_type();
                // The library leaves this field of the answer alone. A leader hands over to nobody who has just started.
                if kind == MessageType::MsgHeartbeatResponse {
                    message.reject = now < self.silent_until;
                }
                if kind == MessageType::MsgAppend && !self.name_entry_before(&mut message) {
                    return None;
                }
                let stamp = match kind {
                    MessageType::MsgAppend | MessageType::MsgHeartbeat => leader_stamp,
                    MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
                        if heard_term.0 == message.term =>
                    {
                        heard_stamp
                    }
                    _ => 0,
                };
                convert::message_to_wire(&mut message, stamp)
            })
            .collect()
    }

    /// Makes an append name the entry right before its first one. The library (0.7, `is_continuous_ents`) puts any batch into a
    /// waiting append without entries, which may name an earlier entry; its receiver would refuse that as out of order.
    /// Returns whether the message can be sent: the entry before may be gone, and then the library tries another way once
    /// the follower does not answer.
    fn name_entry_before(&self, message: &mut Message) -> bool {
        let Some(first) = message.entries.first().map(|entry| entry.index) else { return true };
        if message.index.checked_add(1) == Some(first) {
            return true;
        }
        // In another term the log may hold other entries than when the message was made.
        let still_leads = self.raw.raft.state == StateRole::Leader && self.raw.raft.term == message.term;
        let Some(before) = first.checked_sub(1).filter(|_| still_leads) else { return false };
        let Ok(term) = self.raw.raft.raft_log.term(before) else { return false };
        (message.index, message.log_term) = (before, term);
        true
    }
}
