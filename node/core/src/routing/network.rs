//! The way to other nodes, as what a node decides uses it: `kvorum_node::peers` in a node, the simulator's links in a simulation.

use kvorum_protocol::NodeId;
use kvorum_protocol::peer::PeerMessage;
use std::time::Duration;

/// Most bytes of snapshots that wait for one peer or are being written to it. A larger chunk passes when nothing does.
pub const SNAPSHOT_OUTBOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages with more than this many bytes of entries or values go by the bulk lane.
pub const BULK_MESSAGE_BYTES: usize = 256 * 1024;

/// The way to other nodes, as the rest of the node uses it.
pub trait PeerNetwork: Send + Sync {
    /// Sends one message; never a hello. Never waits: the message is copied into the peer's buffer, and goes out with
    /// whatever else is in it.
    ///
    /// # Errors
    /// See [`SendError`]; the message has then not been sent. `Ok` is no promise that it arrives.
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError>;
    /// The peers that are connected, in the order of their ids.
    fn up(&self) -> Vec<NodeId>;
    /// Whether that node is a peer and connected.
    fn is_up(&self, node: NodeId) -> bool;
    /// How it stands with each peer, connected or not, in the order of their ids.
    fn links(&self) -> Vec<PeerLink> {
        Vec::new()
    }
    /// A fault for tests: while `true`, everything this node sends is lost, and everything sent to it, without any
    /// connection being closed. Control sessions end, connections are neither made nor accepted, `send` answers `Ok`.
    fn cut(&self, cut: bool);
}

/// How it stands with one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerLink {
    /// The peer.
    pub node: NodeId,
    /// It is connected.
    pub up: bool,
    /// The round trip, as the transport sees it; `None` without a connection.
    pub rtt: Option<Duration>,
    /// Bytes that left for it since the process began, packets' heads and what was sent again included.
    pub sent_bytes: u64,
    /// Bytes that came from it, likewise.
    pub received_bytes: u64,
    /// Bytes that wait to be sent, by lane.
    pub queued_bytes: Vec<(&'static str, u64)>,
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// No connection with that node at the moment.
    #[error("the peer is not connected")]
    Disconnected,
    /// Too many bytes wait for that node already. Try again later, or drop the message.
    #[error("too much is waiting for the peer")]
    Full,
    /// The message is over the limit of a frame and can never be sent.
    #[error("the message is too large for a frame")]
    TooLarge,
    /// That node is not among this node's peers.
    #[error("no such peer")]
    Unknown,
}
