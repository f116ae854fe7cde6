//! The connection on which a run asks about the cluster: TOPOLOGY to begin with, STATUS before and after.

use crate::engine::ConnectionError;
use crate::limits::CONTROL_TIMEOUT;
use crate::socket::Socket;
use crate::wire;
use bytes::Bytes;
use kvorum_protocol::{
    ClientId, Hello, NodeInfo, NodeStatus, ReadMode, Request, RequestBody, RequestId, ResponseBody, StatusScope,
    Topology,
};
use tokio::time::{Instant, timeout_at};

/// Holds one socket, and opens another one where it can when that fails.
#[derive(Debug)]
pub(crate) struct Control {
    addresses: Vec<String>,
    hello: Hello,
    socket: Option<Socket>,
    next_id: u32,
}

impl Control {
    /// Will talk to the first of `addresses` (`host:port`, at least one) that answers.
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        assert!(!addresses.is_empty());
        // No features: nothing is pushed, so that each frame answers the request before it.
        let hello = wire::hello(ClientId(uuid::Uuid::new_v4()), 0);
        Self { addresses, hello, socket: None, next_id: 2 }
    }

    /// The ring map.
    ///
    /// # Errors
    /// No address answered; the error of the last one.
    pub(crate) async fn topology(&mut self) -> Result<Topology, ConnectionError> {
        match self.call(RequestBody::Topology).await? {
            ResponseBody::Topology(topology) if !topology.nodes.is_empty() => Ok(topology),
            _ => Err(ConnectionError::Unexpected),
        }
    }

    /// The states of as many of `nodes` as can be reached: all from one answer, or where that lacks some, from each of
    /// these by itself.
    pub(crate) async fn statuses(&mut self, nodes: &[NodeInfo]) -> Vec<NodeStatus> {
        let mut statuses = match self.call(RequestBody::Status(StatusScope::Cluster)).await {
            Ok(ResponseBody::Status(statuses)) => statuses,
            _ => Vec::new(),
        };
        for node in nodes {
            if statuses.iter().any(|status| status.node == node.id) {
                continue;
            }
            let mut direct = Self::new(vec![node.client_address.clone()]);
            if let Ok(ResponseBody::Status(own)) = direct.call(RequestBody::Status(StatusScope::Node)).await {
                statuses.extend(own.into_iter().filter(|status| status.node == node.id));
            }
        }
        statuses
    }

    /// The state of the node that answers, if one does.
    pub(crate) async fn own_status(&mut self) -> Option<NodeStatus> {
        match self.call(RequestBody::Status(StatusScope::Node)).await {
            Ok(ResponseBody::Status(mut statuses)) => statuses.pop(),
            _ => None,
        }
    }

    /// A key's value, if it is there.
    ///
    /// # Errors
    /// No address answered, or the answer was an error.
    pub(crate) async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, ConnectionError> {
        match self.call(RequestBody::Get { key, mode: ReadMode::Linearizable }).await? {
            ResponseBody::Value(entry) => Ok(entry.map(|entry| entry.value)),
            _ => Err(ConnectionError::Unexpected),
        }
    }

    /// Asks on the open socket, else on a new one to each address in turn.
    async fn call(&mut self, body: RequestBody) -> Result<ResponseBody, ConnectionError> {
        let mut last = ConnectionError::Closed;
        if let Some(socket) = self.socket.take() {
            match self.call_on(socket, &body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        for position in 0..self.addresses.len() {
            let deadline = Instant::now() + CONTROL_TIMEOUT;
            let answer = match Socket::open(&self.addresses[position], &self.hello, deadline).await {
                Ok(socket) => self.call_on(socket, &body).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Keeps the socket only if it answered.
    async fn call_on(&mut self, mut socket: Socket, body: &RequestBody) -> Result<ResponseBody, ConnectionError> {
        let request = Request { id: RequestId(self.next_id), deadline_ms: 0, body: body.clone() };
        self.next_id = self.next_id.wrapping_add(1).max(2);
        let answer = timeout_at(Instant::now() + CONTROL_TIMEOUT, socket.exchange(&request)).await;
        let answer = answer.unwrap_or(Err(ConnectionError::Silent))?;
        self.socket = Some(socket);
        Ok(answer)
    }
}
