//! What whoever watches a node's requests is told of them.

use super::Session;
use crate::measure::meter::{Door, OperationKind};
use crate::measure::monitor::Named;
use bytes::Bytes;
use kvorum_protocol::limits::MONITORED_KEY_BYTES_MAX;
use kvorum_protocol::{RequestBody, SeenRequest};

impl<Origin: Copy> Session<Origin> {
    /// Tells of a request that is taken up, if it is about keys and a client's: the node where it came in tells of what was passed on.
    #[cold]
    pub(super) fn tell_monitor(&mut self, body: &RequestBody, operation: OperationKind) {
        let is_about_keys = !matches!(operation, OperationKind::Other | OperationKind::Await);
        if !is_about_keys || self.door == Door::Peer || !self.context.router.monitor().takes() {
            return;
        }
        let user = self.access().user().to_owned();
        let Named { key, keys, bytes } = Named::of(body);
        let router = &self.context.router;
        router.monitor().keep(SeenRequest {
            // The monitor numbers them.
            number: 0,
            at_ms: router.clock().now().wall_ms,
            door: self.door.name().to_owned(),
            user,
            operation: operation.name().to_owned(),
            key_bytes: key.map_or(0, Bytes::len) as u32,
            // A part of a frame would keep all of it.
            key: key.map(|key| Bytes::copy_from_slice(&key[..key.len().min(MONITORED_KEY_BYTES_MAX)])),
            keys: keys as u32,
            bytes: bytes as u64,
        });
    }
}
