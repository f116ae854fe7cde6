//! A cluster that only pretends: every node speaks the protocol over a real socket, all of them share one small store, and
//! a test may script what a node answers, hold answers back, cut connections, and kill nodes.

#![allow(dead_code, unreachable_pub)] // each test binary uses its own part of this
#![allow(clippy::unwrap_used)] // a test helper: what fails here fails the test

mod store;

use bytes::BytesMut;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::request::PROTOCOL_VERSION;
use kvorum_protocol::{
    ClientId, ClusterId, Durability, Epoch, ErrorCode, HelloReply, NodeId, NodeInfo, Request, RequestBody, RequestId,
    Response, ResponseBody, Retry, ServerError, ShardId, ShardInfo, Term, Topology, frame,
};
use parking_lot::Mutex;
use std::sync::Arc;
use store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What a script does with a request.
pub enum Step {
    /// What the store answers.
    Default,
    /// This.
    Reply(ResponseBody),
    /// What the store answers, marked as another node's answer.
    Forwarded,
    /// Nothing, ever.
    Silence,
    /// Nothing until [`FakeCluster::release`].
    Hold,
    /// Apply it, then close the connection instead of answering.
    ApplyAndHangUp,
    /// Close the connection.
    HangUp,
    /// These raw bytes.
    Raw(Vec<u8>),
}

/// What a node does with HELLO.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Greeting {
    /// It answers.
    #[default]
    Welcome,
    /// It refuses the client.
    Refuse(ErrorCode),
    /// It refuses the client for so many milliseconds.
    Pause(u32),
    /// Nothing until another greeting is set.
    Hold,
}

/// Frames on their way to one client.
type Outbox = mpsc::Sender<Vec<u8>>;
type Script = Box<dyn FnMut(&Request) -> Step + Send>;

pub struct FakeCluster {
    pub nodes: Vec<Arc<FakeNode>>,
    shared: Arc<Shared>,
}

struct Shared {
    topology: Mutex<Topology>,
    store: Mutex<Store>,
}

pub struct FakeNode {
    pub id: NodeId,
    pub address: String,
    shared: Arc<Shared>,
    script: Mutex<Option<Script>>,
    greeting: watch::Sender<Greeting>,
    /// Every request but HELLO, in the order of arrival.
    log: watch::Sender<Vec<Request>>,
    connections: watch::Sender<usize>,
    held: Mutex<Vec<(ClientId, Request, Outbox)>>,
    outboxes: Mutex<Vec<Outbox>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

pub fn error(code: ErrorCode) -> ResponseBody {
    ResponseBody::Error(ServerError::new(code, "scripted"))
}

pub fn is_topology(request: &Request) -> bool {
    matches!(request.body, RequestBody::Topology)
}

impl FakeCluster {
    /// Nodes 1 to `nodes` on free ports; node i leads every shard whose number is i - 1 modulo `nodes`.
    pub async fn start(nodes: usize, shards: u16) -> Self {
        let listeners = {
            let mut listeners = Vec::new();
            for _ in 0..nodes {
                listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
            }
            listeners
        };
        let infos: Vec<_> = (1..).zip(&listeners).map(|(number, listener)| info(number, listener)).collect();
        let shard = |shard: u16| ShardInfo {
            leader: Some(shard % nodes as u16),
            term: Term(1),
            replicas: (0..nodes.min(3) as u16).map(|replica| (shard + replica) % nodes as u16).collect(),
        };
        let shared = Arc::new(Shared {
            topology: Mutex::new(Topology {
                epoch: Epoch(1),
                cluster: ClusterId(Uuid::from_u128(0xc1)),
                durability: Durability::Fsync,
                nodes: infos.clone(),
                shards: (0..shards).map(shard).collect(),
            }),
            store: Mutex::default(),
        });
        let nodes = infos.into_iter().zip(listeners).map(|(info, listener)| {
            let node = Arc::new(FakeNode {
                id: info.id,
                address: info.client_address,
                shared: shared.clone(),
                script: Mutex::default(),
                greeting: watch::Sender::default(),
                log: watch::Sender::default(),
                connections: watch::Sender::default(),
                held: Mutex::default(),
                outboxes: Mutex::default(),
                tasks: Mutex::default(),
            });
            node.accept_on(listener);
            node
        });
        Self { nodes: nodes.collect(), shared }
    }

    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        format!("kv://{}", addresses.join(","))
    }

    pub fn topology(&self) -> Topology {
        self.shared.topology.lock().clone()
    }

    /// From now on this node leads the shard, in the next term. Nobody is told.
    pub fn set_leader(&self, shard: u16, node: Option<usize>) {
        let mut topology = self.shared.topology.lock();
        let shard = &mut topology.shards[usize::from(shard)];
        shard.leader = node.map(|node| node as u16);
        shard.term = Term(shard.term.0 + 1);
    }

    pub fn bump_epoch(&self) {
        self.shared.topology.lock().epoch.0 += 1;
    }

    /// A key whose shard this node leads.
    pub fn key_of(&self, node: usize) -> String {
        let topology = self.topology();
        let leads = |key: &String| topology.leader_of(topology.shard_of(key.as_bytes())) == Some(&topology.nodes[node]);
        (0..).map(|number| format!("key-{number}")).find(leads).unwrap()
    }

    pub fn shard_of(&self, key: &str) -> u16 {
        self.topology().shard_of(key.as_bytes()).0
    }
}

fn info(number: u128, listener: &TcpListener) -> NodeInfo {
    NodeInfo {
        id: NodeId(Uuid::from_u128(number)),
        name: format!("node-{number}"),
        client_address: listener.local_addr().unwrap().to_string(),
        zone: String::new(),
    }
}

impl FakeNode {
    /// What this node does with its requests, TOPOLOGY included, from now on.
    pub fn script(&self, script: impl FnMut(&Request) -> Step + Send + 'static) {
        *self.script.lock() = Some(Box::new(script));
    }

    /// What this node does with its requests other than TOPOLOGY.
    pub fn script_operations(&self, mut script: impl FnMut(&Request) -> Step + Send + 'static) {
        self.script(move |request| if is_topology(request) { Step::Default } else { script(request) });
    }

    /// What this node does with HELLO, from now on.
    pub fn greet(&self, greeting: Greeting) {
        self.greeting.send_replace(greeting);
    }

    /// Cuts every connection, and listens again at once.
    pub async fn hang_up(self: &Arc<Self>) {
        self.outboxes.lock().clear();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            // It has ended then, as was asked.
            let _ = task.await;
        }
        self.restart().await;
    }

    /// Waits until so many connections were opened, from the first one on.
    pub async fn wait_for_connections(&self, count: usize) {
        self.connections.subscribe().wait_for(|connections| *connections >= count).await.unwrap();
    }

    /// Every request but HELLO that has come so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.borrow().clone()
    }

    /// The requests that are neither HELLO nor TOPOLOGY.
    pub fn operations(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !is_topology(request)).collect()
    }

    /// Connections that were ever opened.
    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until so many requests of a kind have come.
    pub async fn wait_for(&self, count: usize, kind: impl Fn(&Request) -> bool + Send + Sync) {
        let mut log = self.log.subscribe();
        log.wait_for(|log| log.iter().filter(|request| kind(request)).count() >= count).await.unwrap();
    }

    /// Sends the topology to everyone who is connected, unasked.
    pub async fn push_topology(&self) {
        let topology = self.shared.topology.lock().clone();
        let frame = self.encode(RequestId(0), false, ResponseBody::Topology(topology));
        let outboxes = self.outboxes.lock().clone();
        for outbox in outboxes {
            // Connections that have ended are not told.
            let _ = outbox.send(frame.clone()).await;
        }
    }

    /// Answers what is held, the last first.
    pub async fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for (client, request, outbox) in held.into_iter().rev() {
            let body = self.default(client, &request);
            let _ = outbox.send(self.encode(request.id, false, body)).await;
        }
    }

    /// Stops listening and cuts every connection.
    pub fn kill(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.outboxes.lock().clear();
    }

    /// Listens again where it did before.
    pub async fn restart(self: &Arc<Self>) {
        self.accept_on(TcpListener::bind(&self.address).await.unwrap());
    }

    fn accept_on(self: &Arc<Self>, listener: TcpListener) {
        let node = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                node.connections.send_modify(|connections| *connections += 1);
                let task = tokio::spawn(node.clone().serve(stream));
                node.tasks.lock().push(task);
            }
        });
        self.tasks.lock().push(task);
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let (mut reader, mut writer) = stream.into_split();
        let (outbox, mut outgoing) = mpsc::channel::<Vec<u8>>(4096);
        let writing = async {
            while let Some(frame) = outgoing.recv().await {
                if frame.is_empty() || writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            let mut buffer = BytesMut::new();
            let mut client = ClientId(Uuid::nil());
            loop {
                while let Some(body) = frame::decode(&mut buffer, FRAME_BYTES_MAX).unwrap() {
                    let request = Request::decode(body).unwrap();
                    if let RequestBody::Hello(hello) = &request.body {
                        client = hello.client;
                    }
                    self.handle(client, request, &outbox).await;
                }
                match reader.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    }

    async fn handle(&self, client: ClientId, request: Request, outbox: &Outbox) {
        if let RequestBody::Hello(hello) = &request.body {
            let cluster = self.shared.topology.lock().cluster;
            let refused = hello.cluster.is_some_and(|wanted| wanted != cluster);
            let mut greetings = self.greeting.subscribe();
            let greeting = *greetings.wait_for(|greeting| *greeting != Greeting::Hold).await.unwrap();
            let body = match greeting {
                Greeting::Refuse(code) => error(code),
                Greeting::Pause(ms) => {
                    let full = ServerError::new(ErrorCode::TooManyConnections, "scripted");
                    ResponseBody::Error(full.with_retry(Retry::AfterMs(ms)))
                }
                _ if refused => error(ErrorCode::WrongCluster),
                Greeting::Welcome | Greeting::Hold => self.hello(cluster),
            };
            self.outboxes.lock().push(outbox.clone());
            let _ = outbox.send(self.encode(request.id, false, body)).await;
            return;
        }
        let step = self.script.lock().as_mut().map_or(Step::Default, |script| script(&request));
        let frame = match step {
            Step::Default => Some(self.encode(request.id, false, self.default(client, &request))),
            Step::Forwarded => Some(self.encode(request.id, true, self.default(client, &request))),
            Step::Reply(body) => Some(self.encode(request.id, false, body)),
            Step::Raw(bytes) => Some(bytes),
            Step::HangUp => Some(Vec::new()),
            Step::ApplyAndHangUp => {
                self.default(client, &request);
                Some(Vec::new())
            }
            Step::Silence => None,
            Step::Hold => {
                self.held.lock().push((client, request.clone(), outbox.clone()));
                None
            }
        };
        self.log.send_modify(|log| log.push(request));
        if let Some(frame) = frame {
            // An empty frame tells the writer to close.
            let _ = outbox.send(frame).await;
        }
    }

    fn hello(&self, cluster: ClusterId) -> ResponseBody {
        ResponseBody::Hello(HelloReply {
            version: PROTOCOL_VERSION,
            features: 1,
            cluster,
            node: self.id,
            durability: Durability::Fsync,
            program: "fake".into(),
        })
    }

    fn default(&self, client: ClientId, request: &Request) -> ResponseBody {
        let topology = self.shared.topology.lock().clone();
        if let RequestBody::Topology = request.body {
            return ResponseBody::Topology(topology);
        }
        self.shared.store.lock().answer(client, &request.body, &topology)
    }

    fn encode(&self, id: RequestId, forwarded: bool, body: ResponseBody) -> Vec<u8> {
        let mut out = BytesMut::new();
        Response { id, epoch: self.shared.topology.lock().epoch, forwarded, body }.encode(&mut out);
        out.to_vec()
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.kill());
    }
}

/// The shard as the tests name it.
pub fn shard(number: u16) -> ShardId {
    ShardId(number)
}
