//! Kvorum's binary protocol.

use super::{Answer, Outcome, Protocol, Refusal, Value};
use crate::engine::{ConnectionError, Settings};
use crate::keys::KeySpace;
use crate::limits::TOPOLOGY_PAUSE;
use crate::options::Route;
use crate::routes::Router;
use crate::sequence::WriteWindow;
use crate::socket::Socket;
use bytes::BytesMut;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::request::{PROTOCOL_VERSION, feature};
use kvorum_protocol::{
    Action, ClientId, Condition, Epoch, ErrorCode, Hello, Mutation, NodeInfo, Request, RequestBody, RequestId,
    Response, ResponseBody, Retry, ReturnPrevious, ServerError, TimeToLive, Topology, WriteId, WriteStatus, frame,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The id of TOPOLOGY requests; operations have the ids from 1 on.
const TOPOLOGY_ID: RequestId = RequestId(u32::MAX);

/// HELLO as this program says it.
pub(crate) fn hello(client: ClientId, features: u64) -> Hello {
    Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features,
        cluster: None,
        client,
        name: concat!("kvorum-bench ", env!("CARGO_PKG_VERSION")).into(),
    }
}

/// See the module. Follows the topology, and numbers the writes.
#[derive(Debug)]
pub(crate) struct Kvorum {
    settings: Arc<Settings>,
    keys: Arc<KeySpace>,
    router: Arc<Router>,
    window: WriteWindow,
    /// The sequence number of the write in each slot, 0 for none.
    sequences: Vec<u64>,
    /// The newest epoch that was asked for, or is held.
    epoch: Epoch,
    topology_wanted: bool,
    topology_asked: bool,
    topology_next: Option<Instant>,
    key_scratch: BytesMut,
}

impl Protocol for Kvorum {
    fn new(settings: &Arc<Settings>, keys: &Arc<KeySpace>, router: &Arc<Router>) -> Self {
        Self {
            settings: Arc::clone(settings),
            keys: Arc::clone(keys),
            router: Arc::clone(router),
            window: WriteWindow::new(),
            sequences: vec![0; settings.pipeline],
            epoch: router.current().topology.epoch,
            topology_wanted: false,
            topology_asked: false,
            topology_next: None,
            key_scratch: BytesMut::new(),
        }
    }

    async fn open(node: &NodeInfo, client: ClientId, deadline: Instant) -> Result<Socket, ConnectionError> {
        Socket::open(&node.client_address, &hello(client, feature::TOPOLOGY_PUSH), deadline.into()).await
    }

    fn handle_connected(&mut self) {
        self.topology_asked = false;
    }

    fn has_room(&self) -> bool {
        self.window.has_room()
    }

    fn encode_housekeeping(&mut self, now: Instant, output: &mut BytesMut) {
        if self.topology_wanted && !self.topology_asked && self.topology_next.is_none_or(|next| next <= now) {
            self.topology_wanted = false;
            self.topology_asked = true;
            self.topology_next = Some(now + TOPOLOGY_PAUSE);
            Request { id: TOPOLOGY_ID, deadline_ms: 0, body: RequestBody::Topology }.encode(output);
        }
    }

    fn encode_get(&mut self, slot: u32, key: u32, output: &mut BytesMut) {
        let key = self.keys.bytes_of(key, &mut self.key_scratch);
        self.encode(slot, RequestBody::Get { key, mode: self.settings.read_mode }, output);
    }

    fn encode_put(&mut self, slot: u32, key: u32, value: Value<'_>, output: &mut BytesMut) {
        let key = self.keys.bytes_of(key, &mut self.key_scratch);
        let sequence = self.window.issue();
        self.sequences[slot as usize] = sequence;
        let id = WriteId { sequence, first_unanswered: self.window.first_unanswered(), retry: false, once: None };
        let mutation = Mutation {
            key,
            condition: Condition::Always,
            return_previous: ReturnPrevious::Nothing,
            action: Action::Put { value: value.shared(), ttl: TimeToLive::Forever },
        };
        self.encode(slot, RequestBody::Write { id, ack: self.settings.ack, mutation }, output);
    }

    fn end_batch(&mut self, _: &mut BytesMut) {}

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, ConnectionError> {
        while let Some(body) = frame::decode(input, FRAME_BYTES_MAX)? {
            let response = Response::decode(body)?;
            if response.epoch > self.epoch {
                self.epoch = response.epoch;
                self.topology_wanted = true;
            }
            match response.id {
                RequestId(0) => self.handle_unasked(response.body)?,
                TOPOLOGY_ID => self.handle_topology(response.body)?,
                id => return self.handle_reply(id, response.forwarded, response.body).map(Some),
            }
        }
        Ok(None)
    }

    fn give_up(&mut self, slot: u32) {
        self.settle(slot);
    }
}

impl Kvorum {
    fn encode(&self, slot: u32, body: RequestBody, output: &mut BytesMut) {
        let deadline_ms = self.settings.timeout.as_millis() as u32;
        Request { id: RequestId(slot + 1), deadline_ms, body }.encode(output);
    }

    /// A frame that was not asked for: a pushed topology, or the reason why the server is about to close.
    fn handle_unasked(&mut self, body: ResponseBody) -> Result<(), ConnectionError> {
        match body {
            ResponseBody::Topology(topology) => {
                self.offer(&topology);
                Ok(())
            }
            ResponseBody::Error(error) => Err(ConnectionError::Refused(error.code)),
            _ => Err(ConnectionError::Unexpected),
        }
    }

    fn handle_topology(&mut self, body: ResponseBody) -> Result<(), ConnectionError> {
        if !std::mem::take(&mut self.topology_asked) {
            return Err(ConnectionError::Unexpected);
        }
        match body {
            ResponseBody::Topology(topology) => self.offer(&topology),
            // It is asked for again when the next reply shows that it is still wanted.
            ResponseBody::Error(_) => self.epoch = self.router.current().topology.epoch,
            _ => return Err(ConnectionError::Unexpected),
        }
        Ok(())
    }

    fn offer(&mut self, topology: &Topology) {
        self.router.offer(topology);
        self.epoch = self.router.current().topology.epoch;
    }

    fn handle_reply(&mut self, id: RequestId, forwarded: bool, body: ResponseBody) -> Result<Answer, ConnectionError> {
        let slot = id.0 - 1;
        self.settle(slot);
        self.topology_wanted |= forwarded && self.settings.route == Route::Leaders;
        let outcome = match body {
            ResponseBody::Value(entry) => Outcome::Value { found: entry.is_some() },
            ResponseBody::Written(result) if result.status == WriteStatus::Applied => Outcome::Written,
            ResponseBody::Error(error) => {
                self.topology_wanted |= matches!(error.code, ErrorCode::NotLeader | ErrorCode::Unavailable);
                self.window.raise(error.sequence_min.unwrap_or(0));
                Outcome::Refused(refusal(&error))
            }
            _ => return Err(ConnectionError::Unexpected),
        };
        Ok(Answer { slot, forwarded, outcome })
    }

    fn settle(&mut self, slot: u32) {
        let sequence = self.sequences.get_mut(slot as usize).map_or(0, std::mem::take);
        if sequence != 0 {
            self.window.settle(sequence);
        }
    }
}

fn refusal(error: &ServerError) -> Refusal {
    Refusal {
        name: Cow::Owned(error.code.to_string()),
        is_overload: error.code == ErrorCode::Overloaded,
        pause: match error.retry {
            Retry::AfterMs(ms) => Duration::from_millis(ms.into()),
            Retry::No => Duration::ZERO,
        },
    }
}
