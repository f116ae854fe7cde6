//! What a node sends to others, until the world takes it away.

use bytes::{Bytes, BytesMut};
use kvorum_node::peers::{PeerNetwork, SendError};
use kvorum_protocol::NodeId;
use kvorum_protocol::peer::PeerMessage;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// The way to other nodes, as one process has it.
#[derive(Default)]
pub(super) struct Outbox {
    up: Mutex<BTreeSet<NodeId>>,
    waiting: Mutex<Vec<(NodeId, Bytes)>>,
    cut: AtomicBool,
}

impl Outbox {
    pub(super) fn set_up(&self, node: NodeId, up: bool) {
        let mut all = self.up.lock();
        if up {
            all.insert(node)
        } else {
            all.remove(&node)
        };
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
