//! The servers of each system: started with fresh folders on loopback, killed when they are dropped.

use super::options::{CompareOptions, Family, System};
use super::process::{Process, wait_until};
use crate::limits::NODES;
use crate::options::{BenchProtocol, Plan, Replicated, Route};
use crate::run::{Servers, Target, run_on};
use crate::stop::unless_stopped;
use crate::storage::StorageError;
use crate::storage::nodes::{Nodes, START_LIMIT, Shape};
use crate::storage::options::Place;
use crate::wire::{Grpc, Http, Kvorum, Resp, command};
use crate::{Report, null};
use kvorum_client::{Client, ClusterVerb, EncryptVerb};
use kvorum_protocol::{ClusterId, Durability, Epoch, NodeId, NodeInfo, ShardInfo, Term, Topology};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Replicas of Redis's node.
const REPLICAS: u16 = 2;
/// More than the longest such answer has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Clusters that run beside each other have their ports so far apart.
pub(super) const OTHER_PORTS_ABOVE: u16 = 100;
/// The pause between two looks at a cluster that begins to seal.
const SEALED_PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for a server's answer while it starts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A system that runs.
pub(super) struct Deployed {
    servers: Running,
}

enum Running {
    Kvorum(Nodes),
    Redis { processes: Vec<Process>, address: String, _folder: TempDir },
    Etcd { processes: Vec<Process>, addresses: Vec<String>, _folder: TempDir },
    Null { processes: Vec<Process>, addresses: Vec<String>, _folder: TempDir },
}

impl Deployed {
    /// Starts the servers that `system` has for loads of this family, and waits until they serve.
    pub(super) fn start(system: System, family: Family, options: &CompareOptions) -> Result<Self, StorageError> {
        let servers = match system {
            System::Kvorum | System::KvorumHttp | System::KvorumResp => start_kvorum(family, options, Extra::None)?,
            System::KvorumSealed => start_kvorum(family, options, Extra::Sealed)?,
            System::KvorumTls | System::KvorumTlsHttp | System::KvorumTlsResp => {
                start_kvorum(family, options, Extra::Tls)?
            }
            System::Redis | System::RedisBatch => start_redis(family, options)?,
            System::Etcd => start_etcd(options)?,
            System::Null => start_null(family, options)?,
        };
        Ok(Self { servers })
    }

    /// The processes of its servers.
    pub(super) fn processes(&self) -> Vec<u32> {
        match &self.servers {
            Running::Kvorum(nodes) => nodes.processes(),
            Running::Redis { processes, .. } | Running::Etcd { processes, .. } | Running::Null { processes, .. } => {
                processes.iter().map(Process::id).collect()
            }
        }
    }

    /// Writes every key once, if reads and writes of keys that are there differ from those of keys that are not.
    pub(super) fn fill(&self, plan: &Plan) -> Result<(), StorageError> {
        if matches!(self.servers, Running::Null { .. }) {
            return Ok(());
        }
        let plan = Plan {
            fill: true,
            rate: None,
            connections: 8,
            pipeline: 16,
            threads: 1,
            replicated: Replicated::No,
            operations: Some(1),
            warmup: Duration::ZERO,
            ..plan.clone()
        };
        self.load(&plan).map(|_| ())
    }

    /// Runs `plan` against it.
    pub(super) fn load(&self, plan: &Plan) -> Result<Report, StorageError> {
        let servers = Servers::Processes(self.processes());
        Ok(match &self.servers {
            Running::Kvorum(nodes) => {
                let target = Target { servers, ..find(&nodes.addresses())? };
                match plan.protocol {
                    BenchProtocol::Binary => run_on::<Kvorum>(plan, target)?,
                    BenchProtocol::Http => run_on::<Http>(plan, target)?,
                    BenchProtocol::Resp => run_on::<Resp>(plan, target.by_resp())?,
                }
            }
            Running::Null { addresses, .. } => run_on::<Kvorum>(plan, Target { servers, ..find(addresses)? })?,
            Running::Redis { address, .. } => {
                run_on::<Resp>(plan, Target { topology: without_shards(std::slice::from_ref(address)), servers })?
            }
            Running::Etcd { addresses, .. } => {
                // Any node takes any key.
                let plan = Plan { route: Route::Any, ..plan.clone() };
                run_on::<Grpc>(&plan, Target { topology: without_shards(addresses), servers })?
            }
        })
    }
}

/// The shards and their leaders, as they are now.
fn find(addresses: &[String]) -> Result<Target, StorageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    Ok(runtime.block_on(unless_stopped(Target::find(addresses)))?)
}

/// Servers that have no shards, as the engine sees them: it spreads connections over nodes that lead some.
fn without_shards(addresses: &[String]) -> Topology {
    let node = |(number, address): (usize, &String)| NodeInfo {
        id: NodeId(uuid::Uuid::from_u128(number as u128)),
        name: String::new(),
        client_address: address.clone(),
        zone: String::new(),
    };
    let nodes: Vec<NodeInfo> = addresses.iter().enumerate().map(node).collect();
    let shard = |leader: usize| ShardInfo { leader: Some(leader as u16), term: Term(1), replicas: vec![leader as u16] };
    Topology {
        epoch: Epoch(1),
        cluster: ClusterId(uuid::Uuid::nil()),
        durability: Durability::Fsync,
        shards: (0..nodes.len().next_power_of_two()).map(|number| shard(number % nodes.len())).collect(),
        nodes,
    }
}

/// What a cluster does besides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    None,
    /// It seals what it stores.
    Sealed,
    /// Its doors speak TLS, and let in users only.
    Tls,
}

fn start_kvorum(family: Family, options: &CompareOptions, extra: Extra) -> Result<Running, StorageError> {
    // Each has ports of its own: they run beside each other.
    let above = match extra {
        Extra::None => 0,
        Extra::Sealed => OTHER_PORTS_ABOVE,
        Extra::Tls => 2 * OTHER_PORTS_ABOVE,
    };
    let base_port = options.base_port + above;
    let place = Place { kvorum: options.kvorum.clone(), dir: options.dir.clone(), base_port };
    let durability = if family == Family::Memory { "memory" } else { "fsync" };
    let mut environment = vec![("KVORUM_DURABILITY", durability.to_owned())];
    if extra == Extra::Sealed {
        environment.extend([("KVORUM_ENCRYPTION_KEY", "env:KVORUM_BENCH_KEY".to_owned())]);
        environment.extend([("KVORUM_BENCH_KEY", "5a".repeat(32))]);
    }
    let secure = extra == Extra::Tls;
    let shape = Shape { nodes: 3, shards: options.shards, port_offset: 0, environment: &environment, secure };
    let nodes = Nodes::start_new(&place, &shape)?;
    if extra == Extra::Sealed {
        seal(&nodes)?;
    }
    Ok(Running::Kvorum(nodes))
}

/// Has a cluster seal what it stores, and waits until all of its nodes do.
fn seal(nodes: &Nodes) -> Result<(), StorageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    runtime.block_on(async {
        let client = Client::builder().seeds(nodes.addresses()).connect().await;
        let client = client.map_err(StorageError::cluster("a client"))?;
        let began = Instant::now();
        loop {
            // Refused until every node has said that it has the key.
            let asked = client.admin().ask(ClusterVerb::Encrypt(EncryptVerb::On)).await;
            let plan = client.admin().plan(None).await.map_err(StorageError::cluster("looking at the plan"))?;
            if plan.sealing.is_some_and(|sealing| sealing.active != 0 && sealing.waits_for.is_empty()) {
                return Ok(());
            }
            if began.elapsed() > START_LIMIT {
                return asked.map_err(StorageError::cluster("switching encryption on"));
            }
            tokio::time::sleep(SEALED_PAUSE).await;
        }
    })
}

fn start_redis(family: Family, options: &CompareOptions) -> Result<Running, StorageError> {
    let folder = folder("redis", options)?;
    let first = options.base_port + 50;
    let replicas = if family == Family::Get { 0 } else { REPLICAS };
    let mut processes = Vec::new();
    for number in 0..=replicas {
        let name = format!("redis-{number}");
        let dir = folder.path().join(&name);
        std::fs::create_dir(&dir).map_err(StorageError::system("a folder"))?;
        let port = (first + number).to_string();
        let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""];
        // Nothing but the load is to be measured: no rewriting of the AOF, and replicas join at once.
        arguments.extend(["--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0"]);
        if family == Family::Durable {
            arguments.extend(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        let dir = dir.display().to_string();
        arguments.extend(["--dir", &dir]);
        let master = format!("127.0.0.1 {first}");
        if number > 0 {
            arguments.extend(["--replicaof", &master]);
        }
        processes.push(Process::start(&name, &options.redis, &arguments, folder.path())?);
    }
    let address = format!("127.0.0.1:{first}");
    let serves = || {
        let state = ask_redis(&address, &[b"INFO", b"replication"]).unwrap_or_default();
        state.contains("role:master") && state.matches("state=online").count() == usize::from(replicas)
    };
    wait_until("Redis serves and its replicas are in step", &mut processes, serves)?;
    Ok(Running::Redis { processes, address, _folder: folder })
}

/// A bulk string, or nothing.
fn ask_redis(address: &str, words: &[&[u8]]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&command(words))?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some(bytes) = line.trim_end().strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok()) else {
        return Ok(String::new());
    };
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX.min(bytes as u64)).read_to_string(&mut text)?;
    Ok(text)
}

fn start_etcd(options: &CompareOptions) -> Result<Running, StorageError> {
    let folder = folder("etcd", options)?;
    let first = options.base_port + 80;
    let client = |number: u16| format!("127.0.0.1:{}", first + number);
    let url = |number: u16| format!("http://{}", client(number));
    let peer = |number: u16| format!("http://127.0.0.1:{}", first + 10 + number);
    let name = |number: u16| format!("etcd-{number}");
    let members: Vec<String> = (0..NODES as u16).map(|number| format!("{}={}", name(number), peer(number))).collect();
    let members = members.join(",");
    let mut processes = Vec::new();
    for number in 0..NODES as u16 {
        let (name, url, peer) = (name(number), url(number), peer(number));
        let dir = folder.path().join(&name).display().to_string();
        let arguments = [
            ["--name", &name],
            ["--data-dir", &dir],
            ["--listen-client-urls", &url],
            ["--advertise-client-urls", &url],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", &members],
            ["--initial-cluster-state", "new"],
            // It keeps every version of a key until it is told not to.
            ["--quota-backend-bytes", "8589934592"],
            ["--log-level", "warn"],
        ];
        processes.push(Process::start(&name, &options.etcd, arguments.as_flattened(), folder.path())?);
    }
    let addresses: Vec<String> = (0..NODES as u16).map(client).collect();
    let serves = || addresses.iter().all(|address| etcd_is_healthy(address).unwrap_or(false));
    wait_until("etcd has a leader", &mut processes, serves)?;
    Ok(Running::Etcd { processes, addresses, _folder: folder })
}

/// Whether a node says that it has a leader and can write.
fn etcd_is_healthy(address: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer.contains("\"health\":\"true\""))
}

fn start_null(family: Family, options: &CompareOptions) -> Result<Running, StorageError> {
    let folder = folder("null", options)?;
    let program = std::env::current_exe().map_err(StorageError::system("this program's path"))?;
    let first = options.base_port + 60;
    let address = |number: u16| format!("127.0.0.1:{}", first + number);
    let value_bytes = options.value_size.to_string();
    let all = (0..NODES as u16).map(address).collect::<Vec<_>>();
    let mut processes = Vec::new();
    // A reader per node, or followers first and the leader last, which connects to them.
    for number in (0..NODES as u16).rev() {
        let listen = address(number);
        let peers = all.join(",");
        let file = folder.path().join(format!("file-{number}")).display().to_string();
        let role = match (family, number) {
            (Family::Get, _) => "reader",
            (_, 0) => "leader",
            _ => "follower",
        };
        let mut arguments = vec![null::COMMAND, "--role", role, "--listen", &listen, "--nodes", &peers];
        arguments.extend(["--value-size", &value_bytes]);
        if family == Family::Durable {
            arguments.extend(["--file", &file]);
        }
        processes.push(Process::start(&format!("null-{number}"), &program, &arguments, folder.path())?);
        wait_until("the null server listens", &mut processes, || TcpStream::connect(&listen).is_ok())?;
    }
    let addresses = if family == Family::Get { all } else { vec![address(0)] };
    Ok(Running::Null { processes, addresses, _folder: folder })
}

fn folder(name: &str, options: &CompareOptions) -> Result<TempDir, StorageError> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{name}-bench-");
    builder.prefix(&prefix);
    let folder = match &options.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    folder.map_err(StorageError::system("a temporary folder"))
}
