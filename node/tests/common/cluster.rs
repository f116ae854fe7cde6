//! A cluster of real processes in a temporary folder.

use super::ports::free_base_port;
use super::process::{Log, NodeProcess, Surroundings, run_well};
use super::wait::eventually;
use kvorum_client::{Client, Credentials, NodeId, NodeStatus, ShardId, ShardRole, Tls, Topology};
use kvorum_protocol::hash;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a cluster may take from its start until it serves every shard. Generous: the machine may be busy, and nothing
/// is measured by it.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a restarted node may take until it holds all that the others do.
pub(crate) const CATCH_UP_DEADLINE: Duration = Duration::from_secs(30);
/// How long one operation of a test's client may take, failover included.
pub(crate) const OPERATION_DEADLINE: Duration = Duration::from_secs(5);

/// What a cluster is made of.
pub(crate) struct ClusterOptions {
    pub(crate) nodes: usize,
    pub(crate) shards: u16,
    pub(crate) fault_hooks: bool,
    /// Settings of every node, as environment variables.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How many file descriptors each node may have; `None` for as many as the test has.
    pub(crate) descriptors: Option<u64>,
    /// Who the test's clients are, where nodes ask.
    pub(crate) credentials: Option<Credentials>,
    /// Its doors speak TLS, and so do the test's clients.
    pub(crate) tls: bool,
    /// Where its folder is made, if not where the system keeps temporary files.
    pub(crate) within: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            shards: 8,
            fault_hooks: false,
            environment: Vec::new(),
            descriptors: None,
            credentials: None,
            tls: false,
            within: None,
        }
    }
}

/// A cluster. Nodes are counted from 1, as in the names of their folders.
pub(crate) struct TestCluster {
    options: ClusterOptions,
    base_port: u16,
    nodes: Vec<Node>,
    // Dropped last: the processes are gone before their folder is.
    folder: TempDir,
}

#[derive(Default)]
struct Node {
    process: Option<NodeProcess>,
    log: Log,
}

impl TestCluster {
    /// Lays out a cluster, starts its nodes, and waits until it serves every shard.
    pub(crate) async fn start(options: ClusterOptions) -> Self {
        let mut cluster = Self::laid_out(options);
        (1..=cluster.options.nodes).for_each(|node| cluster.start_node(node));
        cluster.wait_ready().await;
        cluster
    }

    /// Lays out a cluster and starts none of its nodes.
    pub(crate) fn laid_out(options: ClusterOptions) -> Self {
        let folder = match &options.within {
            Some(within) => TempDir::with_prefix_in("kvorum-test-", within),
            None => TempDir::with_prefix("kvorum-test-"),
        };
        let folder = folder.expect("a temporary folder can be made");
        let base_port = free_base_port();
        let nodes = (0..options.nodes).map(|_| Node::default()).collect();
        let cluster = Self { options, base_port, nodes, folder };
        cluster.init();
        cluster
    }

    fn init(&self) {
        let dir = self.dir();
        let dir = dir.to_str().expect("temporary folders have names in UTF-8");
        let (nodes, shards) = (self.options.nodes.to_string(), self.options.shards.to_string());
        let base_port = self.base_port.to_string();
        let mut arguments =
            vec!["init", "--dir", dir, "--nodes", &nodes, "--shards", &shards, "--base-port", &base_port];
        if self.options.fault_hooks {
            arguments.push("--fault-hooks");
        }
        run_well(&arguments);
    }

    /// The cluster's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// A node's folder.
    pub(crate) fn node_dir(&self, node: usize) -> PathBuf {
        self.dir().join(format!("node-{node}"))
    }

    /// The id of the replica of which a node has files, by its own note; `None` if it never held one of that shard.
    pub(crate) fn noted_replica(&self, node: usize, shard: ShardId) -> Option<u64> {
        let path = self.node_dir(node).join(format!("data/replica-{:05}.metadata", shard.0));
        let text = std::fs::read_to_string(path).ok()?;
        let (_, rest) = text.split_once("\"replica\":")?;
        let digits = rest.split(|next: char| !next.is_ascii_digit()).next()?;
        text.contains("\"live\"").then(|| digits.parse().ok())?
    }

    /// How many shards the ring has.
    pub(crate) fn shards(&self) -> u16 {
        self.options.shards
    }

    /// The numbers of the nodes.
    pub(crate) fn nodes(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.options.nodes
    }

    /// The address of a node's binary door.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + node as u16))
    }

    /// The address of a node's HTTP door.
    pub(crate) fn http_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 20 + node as u16))
    }

    /// The address of a node's RESP door.
    pub(crate) fn resp_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 30 + node as u16))
    }

    /// The address of a node's RESP door of clients that follow slots.
    pub(crate) fn resp_cluster_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 40 + node as u16))
    }

    /// What clients connect to: the doors of these nodes.
    pub(crate) fn url(&self, nodes: impl IntoIterator<Item = usize>) -> String {
        let doors: Vec<String> = nodes.into_iter().map(|node| self.address(node).to_string()).collect();
        format!("kv://{}", doors.join(","))
    }

    /// Starts a node that does not run. Does not wait for it.
    pub(crate) fn start_node(&mut self, node: usize) {
        let doors = if self.options.tls { "all" } else { "off" };
        self.start_node_with(
            node,
            &[("KVORUM_TLS_DOORS", doors.to_owned())],
            Surroundings { descriptors: self.options.descriptors, ..Default::default() },
        );
    }

    /// [`TestCluster::start_node`], with settings and in surroundings of its own.
    pub(crate) fn start_node_with(
        &mut self,
        node: usize,
        environment: &[(&'static str, String)],
        surroundings: Surroundings,
    ) {
        let config = config_path(&self.node_dir(node));
        let arguments = ["start", "--config", &config, "--exit-with-stdin"];
        let environment = [&self.options.environment[..], environment].concat();
        let slot = &mut self.nodes[node - 1];
        assert!(slot.process.is_none(), "node {node} runs already");
        slot.log.push(format!("--- node {node} is started"));
        slot.process = Some(NodeProcess::spawn_with(&arguments, &environment, &slot.log, surroundings));
    }

    /// Makes the folder of one more node, and starts it. Returns its number. Does not wait for it.
    pub(crate) fn add_node(&mut self) -> usize {
        let dir = self.dir();
        run_well(&["add-node", "--dir", dir.to_str().expect("temporary folders have names in UTF-8")]);
        self.start_joined_node()
    }

    /// Starts a node whose folder is `node_dir` of the next number, and was made by whoever calls. Returns its number.
    pub(crate) fn start_joined_node(&mut self) -> usize {
        self.options.nodes += 1;
        self.nodes.push(Node::default());
        self.start_node(self.options.nodes);
        self.options.nodes
    }

    /// The address of a node's peer door.
    pub(crate) fn peer_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 10 + node as u16))
    }

    /// Kills a node as `kill -9` does, and returns when: it is gone by then.
    pub(crate) fn kill(&mut self, node: usize) -> Instant {
        self.take_process(node).kill();
        self.nodes[node - 1].log.push(format!("--- node {node} is killed"));
        Instant::now()
    }

    /// Kills all nodes at once: all are signalled before any is waited for, so none outlives another by more than a moment.
    pub(crate) fn kill_all(&mut self) {
        self.kill_all_of(&self.nodes().collect::<Vec<_>>());
    }

    /// [`TestCluster::kill_all`] for some of the nodes.
    pub(crate) fn kill_all_of(&mut self, nodes: &[usize]) {
        let processes: Vec<NodeProcess> = nodes.iter().map(|node| self.take_process(*node)).collect();
        let ids = processes.iter().filter_map(|process| rustix::process::Pid::from_raw(process.id() as i32));
        for id in ids {
            rustix::process::kill_process(id, rustix::process::Signal::KILL).expect("the process is a child of ours");
        }
        processes.into_iter().for_each(NodeProcess::kill);
    }

    /// Waits until a node's process ends by itself.
    pub(crate) async fn wait_exit(&mut self, node: usize, deadline: Duration) -> ExitStatus {
        self.take_process(node).wait("the node's process ends", deadline).await
    }

    /// The process of a node that runs.
    pub(crate) fn process(&mut self, node: usize) -> &mut NodeProcess {
        self.nodes[node - 1].process.as_mut().expect("the node was started")
    }

    fn take_process(&mut self, node: usize) -> NodeProcess {
        self.nodes[node - 1].process.take().expect("the node was started")
    }

    /// What a node wrote to stdout and stderr.
    pub(crate) fn log(&self, node: usize) -> Log {
        self.nodes[node - 1].log.clone()
    }

    /// A client that knows the doors of all nodes.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(self.nodes()).await
    }

    /// A client that begins with the doors of these nodes.
    pub(crate) async fn client_of(&self, nodes: impl IntoIterator<Item = usize>) -> Client {
        self.client_as(nodes, self.options.credentials.clone()).await
    }

    /// A client that begins with the doors of these nodes and says that it is this one.
    pub(crate) async fn client_as(
        &self,
        nodes: impl IntoIterator<Item = usize>,
        credentials: Option<Credentials>,
    ) -> Client {
        let url = self.url(nodes);
        eventually("a client connects", READY_DEADLINE, async || {
            let builder = Client::builder().url(&url).name("scenario").deadline(OPERATION_DEADLINE);
            let builder = match self.options.tls {
                true => builder.tls(self.tls()),
                false => builder,
            };
            match credentials.clone() {
                Some(credentials) => builder.credentials(credentials),
                None => builder,
            }
            .connect()
            .await
        })
        .await
    }

    /// Whom clients believe: the cluster's authorities, as the first node has them.
    pub(crate) fn tls(&self) -> Tls {
        Tls::from_file(self.node_dir(1).join("ca.pem")).expect("the node's folder has it")
    }

    /// Waits until every node that was started knows a leader of every shard, is connected to all others that were, and
    /// every shard takes writes.
    pub(crate) async fn wait_ready(&self) {
        let running: Vec<usize> = self.nodes().filter(|node| self.nodes[node - 1].process.is_some()).collect();
        let client = self.client_of(running.iter().copied()).await;
        eventually("every node serves every shard", READY_DEADLINE, async || {
            let statuses = client.status().await.map_err(|error| error.to_string())?;
            if statuses.len() != running.len() {
                return Err(format!("{} of {} nodes answer", statuses.len(), running.len()));
            }
            statuses.iter().try_for_each(|status| is_ready(status, running.len() - 1))
        })
        .await;
        for shard in 0..self.shards() {
            let key = key_in_shard("ready", ShardId(shard), self.shards());
            client.put(key, "yes").await.expect("every shard has a leader and takes writes");
        }
        assert!(client.close(OPERATION_DEADLINE).await, "nothing is in flight, so closing is quick");
    }

    /// Waits until a node holds every write that any node had committed when this was called.
    pub(crate) async fn wait_caught_up(&self, node: usize) {
        let client = self.client().await;
        let mut goal: Option<HashMap<ShardId, u64>> = None;
        let name = format!("node-{node}");
        eventually("the node catches up", CATCH_UP_DEADLINE, async || {
            let statuses = client.status().await.map_err(|error| error.to_string())?;
            let goal = goal.get_or_insert_with(|| committed(&statuses));
            let status = statuses.iter().find(|status| status.name == name).ok_or("it does not answer")?;
            let behind = status.shards.iter().find(|shard| goal.get(&shard.shard) > Some(&shard.applied.0));
            let missing = goal.keys().find(|shard| !status.shards.iter().any(|held| held.shard == **shard));
            match (behind, missing) {
                (None, None) => Ok(()),
                (Some(shard), _) => Err(format!("shard {} has applied {}", shard.shard, shard.applied)),
                (_, Some(shard)) => Err(format!("shard {shard} is missing")),
            }
        })
        .await;
    }

    /// The topology with a leader for every shard.
    pub(crate) async fn settled_topology(&self, client: &Client) -> Topology {
        eventually("every shard has a leader", READY_DEADLINE, async || {
            let topology = client.topology().await.map_err(|error| error.to_string())?;
            match topology.shards.iter().position(|shard| shard.leader.is_none()) {
                None => Ok((*topology).clone()),
                Some(shard) => Err(format!("shard {shard} has no leader")),
            }
        })
        .await
    }

    /// The number of the node with this identity.
    pub(crate) fn number_of(&self, topology: &Topology, id: NodeId) -> usize {
        let node = topology.nodes.iter().find(|node| node.id == id).expect("the node is in the topology");
        self.nodes().find(|number| format!("node-{number}") == node.name).expect("nodes are named by their number")
    }

    /// The identity of a node.
    pub(crate) fn id_of(&self, topology: &Topology, node: usize) -> NodeId {
        let name = format!("node-{node}");
        topology.nodes.iter().find(|node| node.name == name).expect("nodes are named by their number").id
    }

    /// The number of the node that leads a shard.
    pub(crate) fn leader_of(&self, topology: &Topology, shard: ShardId) -> usize {
        let leader = topology.leader_of(shard).expect("the topology is settled");
        self.number_of(topology, leader.id)
    }

    /// The number of the node that should lead a shard when it can.
    pub(crate) fn first_of(&self, topology: &Topology, shard: ShardId) -> usize {
        let first = topology.shards[usize::from(shard.0)].replicas[0];
        self.number_of(topology, topology.nodes[usize::from(first)].id)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| drop(node.process.take()));
        if std::thread::panicking() {
            for (node, number) in self.nodes.iter().zip(1..) {
                eprintln!("=== log of node {number}\n{}", node.log.lines().join("\n"));
            }
        }
    }
}

/// The configuration file in a node's folder.
pub(crate) fn config_path(node_dir: &Path) -> String {
    node_dir.join("kvorum.toml").to_str().expect("temporary folders have names in UTF-8").to_owned()
}

/// A key that begins with `prefix` and lives in `shard`.
pub(crate) fn key_in_shard(prefix: &str, shard: ShardId, shards: u16) -> String {
    let mut keys = (0..).map(|number| format!("{prefix}-{number}"));
    keys.find(|key| hash::shard_of(key.as_bytes(), shards) == shard).expect("every shard has keys")
}

fn is_ready(status: &NodeStatus, peers: usize) -> Result<(), String> {
    if status.peers_up.len() != peers {
        return Err(format!("{} is connected to {} peers", status.name, status.peers_up.len()));
    }
    match status.shards.iter().find(|shard| shard.leader.is_none()) {
        None => Ok(()),
        Some(shard) => Err(format!("{} knows no leader of shard {}", status.name, shard.shard)),
    }
}

fn committed(statuses: &[NodeStatus]) -> HashMap<ShardId, u64> {
    let mut committed = HashMap::new();
    for shard in statuses.iter().flat_map(|status| &status.shards).filter(|shard| shard.role != ShardRole::Missing) {
        let known: &mut u64 = committed.entry(shard.shard).or_default();
        *known = shard.committed.0.max(*known);
    }
    committed
}
