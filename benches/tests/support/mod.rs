//! A cluster that lives in the test's process: the binary door of each node, over one shared map, with faults on demand.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    Ack, Action, ClientId, ClusterId, Durability, Entry, Epoch, ErrorCode, Hello, HelloReply, NodeId, NodeInfo,
    NodeStatus, Request, RequestBody, RequestId, Response, ResponseBody, ServerError, ShardId, ShardInfo, StatusScope,
    Term, Topology, Version, WriteId, WriteResult, WriteStatus, frame,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// Faults that a test switches on.
#[derive(Default)]
pub(crate) struct Faults {
    /// Every n-th operation is answered with `Overloaded`; 0 is never.
    pub(crate) overloaded_every: AtomicU64,
    /// Every n-th operation ends its connection; 0 is never.
    pub(crate) close_every: AtomicU64,
    /// Operations are read and never answered.
    pub(crate) silent: AtomicBool,
    /// Operations are answered with bytes that are not a frame.
    pub(crate) garbage: AtomicBool,
    /// A node that does not lead the shard answers `NotLeader` instead of forwarding.
    pub(crate) refuse_others: AtomicBool,
    /// STATUS of the cluster answers for the asked node only.
    pub(crate) status_alone: AtomicBool,
}

#[derive(Default)]
struct Session {
    last_sequence: u64,
    first_unanswered: u64,
}

/// What all nodes share.
pub(crate) struct Cluster {
    pub(crate) faults: Faults,
    topology: Mutex<Topology>,
    data: Mutex<HashMap<Bytes, Bytes>>,
    sessions: Mutex<HashMap<ClientId, Session>>,
    operations: AtomicU64,
    /// Operations per node, which is also what its STATUS gives as CPU time.
    served: Vec<AtomicU64>,
    /// After this many operations all leaders move one node on; 0 is never.
    pub(crate) move_leaders_at: AtomicU64,
}

/// The cluster and the executor that serves it; both end when this is dropped.
pub(crate) struct FakeCluster {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) url: String,
    _runtime: tokio::runtime::Runtime,
}

impl FakeCluster {
    pub(crate) fn start(nodes: usize, shards: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listeners: Vec<TcpListener> =
            (0..nodes).map(|_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap()).collect();
        let addresses: Vec<String> = listeners.iter().map(|door| door.local_addr().unwrap().to_string()).collect();
        let node = |number: usize| NodeInfo {
            id: NodeId(Uuid::from_u128(number as u128 + 1)),
            name: format!("node-{}", number + 1),
            client_address: addresses[number].clone(),
            zone: String::new(),
        };
        let shard = |number: usize| ShardInfo {
            leader: Some((number % nodes) as u16),
            term: Term(1),
            replicas: (0..nodes as u16).collect(),
        };
        let cluster = Arc::new(Cluster {
            faults: Faults::default(),
            topology: Mutex::new(Topology {
                epoch: Epoch(1),
                cluster: ClusterId(Uuid::from_u128(77)),
                durability: Durability::Fsync,
                nodes: (0..nodes).map(node).collect(),
                shards: (0..shards).map(shard).collect(),
            }),
            data: Mutex::default(),
            sessions: Mutex::default(),
            operations: AtomicU64::new(0),
            served: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            move_leaders_at: AtomicU64::new(0),
        });
        for (number, listener) in listeners.into_iter().enumerate() {
            let cluster = Arc::clone(&cluster);
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, number, Arc::clone(&cluster)));
                }
            });
        }
        Self { cluster, url: format!("kv://{}", addresses.join(",")), _runtime: runtime }
    }
}

impl Cluster {
    pub(crate) fn keys(&self) -> usize {
        self.data.lock().unwrap().len()
    }

    pub(crate) fn all_values_have(&self, bytes: usize) -> bool {
        self.data.lock().unwrap().values().all(|value| value.len() == bytes)
    }

    pub(crate) fn served_by(&self, node: usize) -> u64 {
        self.served[node].load(Ordering::Relaxed)
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.iter().map(|served| served.load(Ordering::Relaxed)).sum()
    }

    fn status(&self, node: usize) -> NodeStatus {
        let topology = self.topology.lock().unwrap();
        let served = self.served[node].load(Ordering::Relaxed);
        NodeStatus {
            node: topology.nodes[node].id,
            name: topology.nodes[node].name.clone(),
            program_version: "fake".into(),
            process: node as u32 + 1,
            uptime_ms: 1,
            durability: Durability::Fsync,
            http_port: 0,
            connections: 0,
            peers_up: Vec::new(),
            epoch: Epoch(1),
            stranger: false,
            resident_bytes: 1024,
            cpu_us: served,
            journal_rounds: served,
            overloaded: 0,
            disk_free_bytes: 1 << 40,
            disk_full: false,
            clock_ahead_ms: 0,
            clock_off: false,
            index_bytes: 27 * 5,
            hot_keys: Vec::new(),
            shards: Vec::new(),
        }
    }

    /// The answer to anything but HELLO; `None` ends the connection.
    fn answer(&self, node: usize, client: ClientId, body: RequestBody) -> Option<(bool, ResponseBody)> {
        match body {
            RequestBody::Topology => Some((false, ResponseBody::Topology(self.topology.lock().unwrap().clone()))),
            RequestBody::Status(StatusScope::Cluster) if !self.faults.status_alone.load(Ordering::Relaxed) => {
                Some((false, ResponseBody::Status((0..self.served.len()).map(|node| self.status(node)).collect())))
            }
            RequestBody::Status(_) => Some((false, ResponseBody::Status(vec![self.status(node)]))),
            RequestBody::Get { key, .. } => self.operate(node, &key, || {
                let value = self.data.lock().unwrap().get(&key).cloned();
                ResponseBody::Value(value.map(|value| Entry { value, version: Version(1), expires_at_ms: None }))
            }),
            RequestBody::Write { id, ack, mutation } => self.operate(node, &mutation.key, || {
                self.check_sequence(client, id);
                let Action::Put { value, .. } = &mutation.action else { panic!("only PUT is expected") };
                self.data.lock().unwrap().insert(mutation.key.clone(), value.clone());
                ResponseBody::Written(written(ack))
            }),
            other => panic!("{other:?} is not expected"),
        }
    }

    fn operate(&self, node: usize, key: &[u8], act: impl FnOnce() -> ResponseBody) -> Option<(bool, ResponseBody)> {
        let count = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.move_leaders_at.load(Ordering::Relaxed) {
            self.move_leaders();
        }
        let due = |every: &AtomicU64| count.checked_rem(every.load(Ordering::Relaxed)) == Some(0);
        if due(&self.faults.close_every) {
            return None;
        }
        let error = |code| Some((false, ResponseBody::Error(ServerError::new(code, "as the test wants"))));
        if due(&self.faults.overloaded_every) {
            return error(ErrorCode::Overloaded);
        }
        let leads = {
            let topology = self.topology.lock().unwrap();
            let ShardId(shard) = topology.shard_of(key);
            topology.shards[usize::from(shard)].leader == Some(node as u16)
        };
        if !leads && self.faults.refuse_others.load(Ordering::Relaxed) {
            return error(ErrorCode::NotLeader);
        }
        self.served[node].fetch_add(1, Ordering::Relaxed);
        Some((!leads, act()))
    }

    fn move_leaders(&self) {
        let mut topology = self.topology.lock().unwrap();
        let nodes = topology.nodes.len() as u16;
        for shard in &mut topology.shards {
            shard.leader = shard.leader.map(|leader| (leader + 1) % nodes);
            shard.term.0 += 1;
        }
    }

    /// The rules that every client owes: numbers from 1 on, never twice, and no write below `first_unanswered`.
    fn check_sequence(&self, client: ClientId, id: WriteId) {
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.entry(client).or_default();
        assert!(!id.retry && id.sequence > session.last_sequence, "{id:?} after {}", session.last_sequence);
        assert!(id.first_unanswered >= session.first_unanswered && id.first_unanswered <= id.sequence);
        *session = Session { last_sequence: id.sequence, first_unanswered: id.first_unanswered };
    }
}

fn written(ack: Ack) -> WriteResult {
    WriteResult {
        status: WriteStatus::Applied,
        version: Version(1),
        ack,
        durability: Durability::Fsync,
        number: None,
        decimal: None,
        previous: None,
        receipt: None,
        existed: None,
        replayed: false,
    }
}

async fn serve(mut stream: TcpStream, node: usize, cluster: Arc<Cluster>) -> Option<()> {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut client = None;
    loop {
        while let Some(body) = frame::decode(&mut input, FRAME_BYTES_MAX).expect("the bench sends sound frames") {
            let request = Request::decode(body).expect("the bench sends sound requests");
            let is_operation = matches!(request.body, RequestBody::Get { .. } | RequestBody::Write { .. });
            if is_operation && cluster.faults.silent.load(Ordering::Relaxed) {
                continue;
            }
            let (forwarded, body) = match (client, request.body) {
                (None, RequestBody::Hello(hello)) => (false, greet(&mut client, hello, node, &cluster)),
                (None, other) => panic!("{other:?} before HELLO"),
                (Some(client), body) => cluster.answer(node, client, body)?,
            };
            if is_operation && cluster.faults.garbage.load(Ordering::Relaxed) {
                output.extend_from_slice(&[0xff; 64]);
            } else {
                respond(&mut output, request.id, forwarded, body, &cluster);
            }
        }
        if !output.is_empty() {
            stream.write_all_buf(&mut output).await.ok()?;
        }
        if stream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
    }
}

fn greet(client: &mut Option<ClientId>, hello: Hello, node: usize, cluster: &Cluster) -> ResponseBody {
    *client = Some(hello.client);
    let topology = cluster.topology.lock().unwrap();
    ResponseBody::Hello(HelloReply {
        version: hello.version_max,
        features: hello.features,
        cluster: topology.cluster,
        node: topology.nodes[node].id,
        durability: topology.durability,
        program: "fake".into(),
    })
}

fn respond(output: &mut BytesMut, id: RequestId, forwarded: bool, body: ResponseBody, cluster: &Cluster) {
    let epoch = cluster.topology.lock().unwrap().epoch;
    Response { id, epoch, forwarded, body }.encode(output);
}
