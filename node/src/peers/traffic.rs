//! What has passed between this node and a peer, over all connections.

use parking_lot::Mutex;
use quinn::Connection;
use std::time::Duration;

/// Bytes to and from one peer.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    /// The connection that is up.
    connection: Option<Connection>,
    /// Through those before it.
    sent_bytes: u64,
    received_bytes: u64,
}

impl Traffic {
    /// A connection is up.
    pub(super) fn began(&self, connection: &Connection) {
        self.0.lock().connection = Some(connection.clone());
    }

    /// It is over.
    pub(super) fn ended(&self) {
        let mut passed = self.0.lock();
        if let Some(connection) = passed.connection.take() {
            let stats = connection.stats();
            passed.sent_bytes += stats.udp_tx.bytes;
            passed.received_bytes += stats.udp_rx.bytes;
        }
    }

    /// The round trip, and the bytes that were sent and received so far.
    pub(super) fn now(&self) -> (Option<Duration>, u64, u64) {
        let passed = self.0.lock();
        let (sent, received) = (passed.sent_bytes, passed.received_bytes);
        match &passed.connection {
            None => (None, sent, received),
            Some(connection) => {
                let stats = connection.stats();
                (Some(connection.rtt()), sent + stats.udp_tx.bytes, received + stats.udp_rx.bytes)
            }
        }
    }
}
