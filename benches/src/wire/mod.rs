//! How the engine speaks to a server. One engine drives every system, so that the client is not what differs between them;
//! the protocol is a type parameter, so that its calls cost nothing by themselves.

mod grpc;
mod http;
mod kvorum;
mod resp;

pub(crate) use grpc::{Grpc, VALUE_BYTES_MAX as GRPC_VALUE_BYTES_MAX};
pub(crate) use http::Http;
pub(crate) use kvorum::{Kvorum, hello};
pub(crate) use resp::{Resp, command};

use crate::engine::{ConnectionError, Settings};
use crate::keys::KeySpace;
use crate::routes::Router;
use crate::socket::Socket;
use bytes::{Bytes, BytesMut};
use kvorum_protocol::{ClientId, NodeInfo};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Another door of a node, by the address of its binary one: where `init` and `dev` place it. `None` if that is no address.
pub(crate) fn above(client_address: &str, ports: u16) -> Option<String> {
    let (host, port) = client_address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_add(ports)?;
    Some(format!("{host}:{port}"))
}

/// One connection's half of a wire protocol. Requests are told apart by their slot, a number below the pipeline's depth.
pub(crate) trait Protocol: std::fmt::Debug + Send + Sized + 'static {
    fn new(settings: &Arc<Settings>, keys: &Arc<KeySpace>, router: &Arc<Router>) -> Self;

    /// Connects to a node until `deadline`, and says what the protocol wants said first.
    fn open(
        node: &NodeInfo,
        client: ClientId,
        deadline: Instant,
    ) -> impl Future<Output = Result<Socket, ConnectionError>> + Send;

    /// A new socket is open: what was under way on the last one will never be answered.
    fn handle_connected(&mut self);

    /// Whether the protocol's own rules let another request be sent.
    fn has_room(&self) -> bool;

    /// Appends what the protocol has to ask on its own behalf.
    fn encode_housekeeping(&mut self, now: Instant, output: &mut BytesMut);

    /// Appends the read of a key.
    fn encode_get(&mut self, slot: u32, key: u32, output: &mut BytesMut);

    /// Appends the write of a key.
    fn encode_put(&mut self, slot: u32, key: u32, value: Value<'_>, output: &mut BytesMut);

    /// All requests that are due now were appended.
    fn end_batch(&mut self, output: &mut BytesMut);

    /// Takes the next answer to a request off `input`, and everything before it; `None`: more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no answer to anything that was asked: the connection can't be used any more.
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, ConnectionError>;

    /// The request in this slot was given up; it will not be sent again.
    fn give_up(&mut self, slot: u32);
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) slot: u32,
    /// Another server gave it than the one that was asked.
    pub(crate) forwarded: bool,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// To a read.
    Value { found: bool },
    /// To a write, which took effect.
    Written,
    /// To any request.
    Refused(Refusal),
}

/// Why a request did not work.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What the report calls it.
    pub(crate) name: Cow<'static, str>,
    /// The server has too much to do.
    pub(crate) is_overload: bool,
    /// When the server advises to ask again.
    pub(crate) pause: Duration,
}

/// A value to write: a window of a block of random bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) block: &'a Bytes,
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl Value<'_> {
    /// Shares the block's memory.
    pub(crate) fn shared(&self) -> Bytes {
        self.block.slice(self.start..self.start + self.bytes)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.block[self.start..self.start + self.bytes]
    }
}

/// What tests of a protocol stand on.
#[cfg(test)]
mod fixture {
    use crate::engine::Settings;
    use crate::keys::KeySpace;
    use crate::options::{Replicated, Route};
    use crate::routes::Router;
    use kvorum_protocol::{Ack, ClusterId, Durability, Epoch, NodeId, NodeInfo, ReadMode, ShardInfo, Term, Topology};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;
    use uuid::Uuid;

    /// Settings that a test changes as it needs.
    pub(super) fn settings() -> Settings {
        Settings {
            pipeline: 4,
            value_bytes: 3,
            ack: Ack::Committed,
            read_mode: ReadMode::Linearizable,
            replicated: Replicated::No,
            route: Route::Any,
            timeout: Duration::from_secs(1),
            by_operations: false,
            halt: AtomicBool::new(false),
        }
    }

    /// Ten keys, and a router to the one node that holds them.
    pub(super) fn keys_of_one_node() -> (Arc<KeySpace>, Arc<Router>) {
        let keys = Arc::new(KeySpace::new(10, 4, 1));
        let id = NodeId(Uuid::nil());
        let node = NodeInfo { id, name: String::new(), client_address: String::new(), zone: String::new() };
        let topology = Topology {
            epoch: Epoch(1),
            cluster: ClusterId(Uuid::nil()),
            durability: Durability::Fsync,
            nodes: vec![node],
            shards: vec![ShardInfo { leader: Some(0), term: Term(1), replicas: vec![0] }],
        };
        let router = Arc::new(Router::new(topology, Arc::clone(&keys)));
        (keys, router)
    }
}
