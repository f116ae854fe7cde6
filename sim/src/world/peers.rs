//! What a node sends to others, until the world takes it away.

use bytes::{Bytes, BytesMut};
use kvorum_core::routing::network::{PeerNetwork, SendError};
use kvorum_protocol::NodeId;
use kvorum_protocol::peer::PeerMessage;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The way to other nodes, as one process has it.
pub(super) struct Outbox {
    up: Mutex<BTreeSet<NodeId>>,
    waiting: Mutex<Vec<(NodeId, Bytes)>>,
    cut: AtomicBool,
    /// Most answers to forwarded requests that wait for one peer.
    replies_max: usize,
    /// Those that found no room, and none went in their place yet.
    owed: Mutex<BTreeSet<(NodeId, u64)>>,
    /// Those that found no room since somebody looked last.
    newly_owed: Mutex<Vec<(NodeId, u64)>>,
    refused: AtomicU64,
}

impl Outbox {
    pub(super) fn new(replies_max: usize) -> Self {
        Self {
            up: Mutex::default(),
            waiting: Mutex::default(),
            cut: AtomicBool::default(),
            replies_max,
            owed: Mutex::default(),
            newly_owed: Mutex::default(),
            refused: AtomicU64::default(),
        }
    }

    pub(super) fn set_up(&self, node: NodeId, up: bool) {
        let mut all = self.up.lock();
        if up {
            all.insert(node);
        } else {
            all.remove(&node);
            // It gives up all that it has asked.
            self.owed.lock().retain(|(to, _)| *to != node);
        }
    }

    /// Answers that found no room and were neither sent later nor replaced.
    pub(super) fn owed(&self) -> Vec<(NodeId, u64)> {
        self.owed.lock().iter().copied().collect()
    }

    /// Whether an answer found no room, and did not leave since.
    pub(super) fn owes(&self, to: NodeId, id: u64) -> bool {
        self.owed.lock().contains(&(to, id))
    }

    /// Answers that found no room since this was asked last.
    pub(super) fn take_newly_owed(&self) -> Vec<(NodeId, u64)> {
        std::mem::take(&mut *self.newly_owed.lock())
    }

    /// How many answers found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether there is room for another answer; notes it if there isn't.
    fn has_room_for(&self, to: NodeId, id: u64) -> bool {
        let is_reply = |bytes: &Bytes| {
            let message = PeerMessage::decode(bytes.clone());
            matches!(message, Ok(PeerMessage::ForwardReply { .. } | PeerMessage::Returned { .. }))
        };
        let waiting = self.waiting.lock();
        let has_room = waiting.iter().filter(|(node, bytes)| *node == to && is_reply(bytes)).count() < self.replies_max;
        if has_room {
            self.owed.lock().remove(&(to, id));
        } else {
            self.owed.lock().insert((to, id));
            self.newly_owed.lock().push((to, id));
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    pub(super) fn take(&self) -> Vec<(NodeId, Bytes)> {
        std::mem::take(&mut *self.waiting.lock())
    }
}

impl PeerNetwork for Outbox {
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError> {
        if !self.is_up(to) {
            return Err(SendError::Disconnected);
        }
        if let PeerMessage::ForwardReply { id, .. } | PeerMessage::Returned { id, .. } = message
            && !self.has_room_for(to, *id)
        {
            return Err(SendError::Full);
        }
        if !self.cut.load(Ordering::Relaxed) {
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes);
            self.waiting.lock().push((to, bytes.freeze()));
        }
        Ok(())
    }

    fn up(&self) -> Vec<NodeId> {
        self.up.lock().iter().copied().collect()
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.up.lock().contains(&node)
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}
