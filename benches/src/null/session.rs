//! The connections of clients: as much of Kvorum's protocol as a load needs.

use super::NullOptions;
use super::leader::Leader;
use crate::limits::{NODES, READ_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use kvorum_protocol::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use kvorum_protocol::{
    Ack, Action, ClusterId, Condition, Durability, Entry, Epoch, HelloReply, Mutation, NodeId, NodeInfo, ReadMode,
    Request, RequestBody, RequestId, Response, ResponseBody, ReturnPrevious, ShardInfo, Term, Topology, Version,
    WriteId, WriteResult, WriteStatus, frame,
};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use uuid::Uuid;

/// Shards that the null cluster says it has.
const SHARDS: u16 = 16;

/// What every connection knows.
struct Door {
    topology: Topology,
    node: NodeId,
    /// The first byte of a GET and of a write.
    codes: (u8, u8),
    /// The answers to them, without their frames; the id is filled in.
    value: Bytes,
    written: Bytes,
    leader: Option<Arc<Leader>>,
}

/// The half of a connection that a leader's threads answer on.
pub(super) struct Session {
    writer: OwnedWriteHalf,
    /// What the socket did not take at once.
    left: Mutex<BytesMut>,
    has_left: Notify,
}

/// Accepts connections for ever. A leader gets all shards, readers share them.
pub(super) fn serve(options: &NullOptions, leader: Option<Arc<Leader>>) -> io::Result<()> {
    let door = Arc::new(Door::new(options, leader)?);
    // As a node's: this process's share of the processors, and a thread lets others go first before it is put to sleep.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads((processors / NODES).max(1))
        .on_thread_park(std::thread::yield_now)
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&options.listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            let session = Session { writer, left: Mutex::new(BytesMut::new()), has_left: Notify::new() };
            tokio::spawn(converse(reader, Arc::new(session), Arc::clone(&door)));
        }
    })
}

/// Serves one connection; its end, however it comes, is nobody's trouble.
async fn converse(mut reader: OwnedReadHalf, session: Arc<Session>, door: Arc<Door>) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut output = BytesMut::with_capacity(READ_BYTES);
    loop {
        input.reserve(READ_BYTES);
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                door.take(&mut input, &mut output, &session)?;
                if !output.is_empty() {
                    session.answer(&mut output);
                }
            }
            () = session.has_left.notified() => {
                session.writer.writable().await?;
                session.send(session.lock());
            }
        }
    }
}

impl Door {
    fn new(options: &NullOptions, leader: Option<Arc<Leader>>) -> io::Result<Self> {
        let serving = if leader.is_some() { &options.nodes[..1] } else { &options.nodes[..] };
        let own = options.nodes.iter().position(|address| *address == options.listen);
        let own = own.ok_or_else(|| io::Error::other("the own address is not among the nodes"))?;
        let id = |number: usize| NodeId(Uuid::from_u128(number as u128 + 1));
        let node = |(number, address): (usize, &String)| NodeInfo {
            id: id(number),
            name: String::new(),
            client_address: address.clone(),
            zone: String::new(),
        };
        let shard = |number: u16| ShardInfo {
            leader: Some(number % serving.len() as u16),
            term: Term(1),
            replicas: (0..serving.len() as u16).collect(),
        };
        let entry = Entry { value: vec![b'v'; options.value_size].into(), version: Version(1), expires_at_ms: None };
        Ok(Self {
            topology: Topology {
                epoch: Epoch(1),
                cluster: ClusterId(Uuid::nil()),
                durability: Durability::Fsync,
                nodes: serving.iter().enumerate().map(node).collect(),
                shards: (0..SHARDS).map(shard).collect(),
            },
            node: id(own),
            codes: codes(),
            value: body(ResponseBody::Value(Some(entry))),
            written: body(ResponseBody::Written(WriteResult {
                status: WriteStatus::Applied,
                version: Version(1),
                ack: Ack::Committed,
                durability: Durability::Fsync,
                number: None,
                decimal: None,
                previous: None,
                receipt: None,
                existed: None,
                replayed: false,
            })),
            leader,
        })
    }

    /// Takes every whole request: answers reads, and hands writes in. Of these nothing is looked at but their ids.
    fn take(&self, input: &mut BytesMut, output: &mut BytesMut, session: &Arc<Session>) -> io::Result<()> {
        let (mut taken, mut writes_from, mut ids) = (0, 0, Vec::new());
        while let Some(length) = frame::peek_length(&input[taken..], FRAME_BYTES_MAX).map_err(io::Error::other)? {
            let end = taken + FRAME_HEADER_BYTES + length;
            if input.len() < end {
                break;
            }
            let body = &input[taken + FRAME_HEADER_BYTES..end];
            let id = Request::peek_id(body).ok_or_else(|| io::Error::other("a request without an id"))?;
            taken = end;
            if body[0] == self.codes.1 && self.leader.is_some() {
                ids.push(id);
                continue;
            }
            if body[0] == self.codes.0 {
                respond(output, &self.value, id);
            } else {
                self.converse_about(Bytes::copy_from_slice(body), output)?;
            }
            self.hand_in(&input[writes_from..taken], std::mem::take(&mut ids), session);
            writes_from = taken;
        }
        self.hand_in(&input[writes_from..taken], ids, session);
        input.advance(taken);
        Ok(())
    }

    fn hand_in(&self, writes: &[u8], ids: Vec<RequestId>, session: &Arc<Session>) {
        if let (Some(leader), false) = (&self.leader, ids.is_empty()) {
            leader.hand_in(writes, session, ids, &self.written);
        }
    }

    /// Anything but an operation.
    fn converse_about(&self, body: Bytes, output: &mut BytesMut) -> io::Result<()> {
        let request = Request::decode(body).map_err(io::Error::other)?;
        let body = match request.body {
            RequestBody::Hello(hello) => ResponseBody::Hello(HelloReply {
                version: hello.version_max,
                features: 0,
                cluster: self.topology.cluster,
                node: self.node,
                durability: self.topology.durability,
                program: "null".to_owned(),
            }),
            RequestBody::Topology => ResponseBody::Topology(self.topology.clone()),
            _ => return Err(io::Error::other("the null server only knows GET and PUT")),
        };
        Response { id: request.id, epoch: self.topology.epoch, forwarded: false, body }.encode(output);
        Ok(())
    }
}

impl Session {
    /// From a leader's thread: these writes are on a majority.
    pub(super) fn answer_writes(&self, ids: &[RequestId], written: &[u8]) {
        let mut left = self.lock();
        ids.iter().for_each(|&id| respond(&mut left, written, id));
        self.send(left);
    }

    /// From the session's own task.
    fn answer(&self, output: &mut BytesMut) {
        let mut left = self.lock();
        left.extend_from_slice(output);
        output.clear();
        self.send(left);
    }

    /// Gives the socket as much as it takes; the rest goes when it takes more. A socket that is gone is found by the task
    /// that reads it.
    fn send(&self, mut left: MutexGuard<'_, BytesMut>) {
        if let Ok(bytes) = self.writer.try_write(&left) {
            left.advance(bytes);
        }
        if !left.is_empty() {
            self.has_left.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first byte of a GET and of a write, taken from the codec.
fn codes() -> (u8, u8) {
    let code = |body: RequestBody| {
        let mut bytes = BytesMut::new();
        Request { id: RequestId(1), deadline_ms: 0, body }.encode_body(&mut bytes);
        bytes[0]
    };
    let id = WriteId { sequence: 1, first_unanswered: 1, retry: false, once: None };
    let mutation = Mutation {
        key: Bytes::new(),
        condition: Condition::Always,
        return_previous: ReturnPrevious::Nothing,
        action: Action::Delete,
    };
    (
        code(RequestBody::Get { key: Bytes::new(), mode: ReadMode::Linearizable }),
        code(RequestBody::Write { id, ack: Ack::Committed, mutation }),
    )
}

fn body(body: ResponseBody) -> Bytes {
    let mut bytes = BytesMut::new();
    Response { id: RequestId(0), epoch: Epoch(1), forwarded: false, body }.encode_body(&mut bytes);
    bytes.freeze()
}

/// Appends an answer that was encoded before, with another id.
fn respond(output: &mut BytesMut, body: &[u8], id: RequestId) {
    frame::encode(output, |output| {
        let start = output.len();
        output.extend_from_slice(body);
        output[start + 1..start + 5].copy_from_slice(&id.0.to_le_bytes());
    });
}
