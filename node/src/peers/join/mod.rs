//! How a node joins that has no certificate yet: a connection of its own kind at the peers' port, on which it asks once.
//!
//! ```text
//! new node ─► QUIC, ALPN kvorum-join/1 ─► serve ─► JoinHost ─► one answer
//! ```
//!
//! Anybody who reaches the port may open such a connection. So nothing is set aside on its word: it has a small window, one stream
//! that is read, a few seconds, and one of few places. The node that dials checks by the token whom it has reached before it says
//! anything.

mod dial;
mod pin;
mod places;
mod serve;
#[cfg(test)]
mod tests;

pub use dial::{JoinDialError, dial};
pub(super) use places::JoinPlaces;
pub(super) use serve::serve;

use kvorum_protocol::{JoinReply, JoinRequest};
use quinn::Connection;
use quinn::crypto::ExportKeyingMaterialError;
use std::pin::Pin;
use std::sync::Arc;

/// What the two ends agree to speak.
pub(super) const JOIN_ALPN: &[u8] = b"kvorum-join/1";
/// Under which name the two ends draw what ties a proof to their connection.
const BINDING_LABEL: &[u8] = b"EXPORTER-kvorum-join";

/// The answer to a node that wants to join, which takes a moment.
pub type JoinAnswer = Pin<Box<dyn Future<Output = JoinReply> + Send>>;

/// Decides whether nodes may join.
pub trait JoinHost: Send + Sync + 'static {
    /// Answers a node. `binding` is what its proof must be tied to. Nothing of the request was checked yet.
    fn join(self: Arc<Self>, request: JoinRequest, binding: [u8; 32]) -> JoinAnswer;
}

/// What both ends of a connection can draw from its keys, and nobody else.
fn binding(connection: &Connection) -> Result<[u8; 32], ExportKeyingMaterialError> {
    let mut binding = [0; 32];
    connection.export_keying_material(&mut binding, BINDING_LABEL, b"")?;
    Ok(binding)
}
