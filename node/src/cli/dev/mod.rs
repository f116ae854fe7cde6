//! `kvorum dev`: a whole cluster on this machine, one process per node, with a REPL in front.
//!
//! The nodes are children that stop when their stdin ends. So whatever happens to this process, `kill -9` included,
//! nothing keeps running.

mod fleet;
mod logs;
mod nodes;
mod ports;
mod probe;
mod repl;

use crate::cli::add_node::AddNodeError;
use crate::cli::exit::Exit;
use crate::cli::init::{self, InitError, NewAccess, NewAuth, Purpose, Shape, ShapeFlags};
use crate::cli::say;
use crate::cli::{start, stop};
use crate::config::{Config, ConfigErrors, FIELDS, TlsDoors};
use fleet::Fleet;
use kvorum_cli::{NodeRequester, ReplOptions};
use kvorum_client::Tls;
use ports::{Doors, PortTaken};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long the cluster may take until every shard has a leader.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How many lines of each node's log are shown when it takes longer.
const TAIL_LINES: usize = 15;

/// Flags of `kvorum dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// The cluster's folder; its data stays there for the next start
    #[arg(long, value_name = "FOLDER", default_value = "./kvorum-dev")]
    dir: PathBuf,
    #[command(flatten)]
    shape: ShapeFlags,
    /// Have clients log in, and all doors speak TLS
    #[arg(long)]
    secure: bool,
    /// No REPL: run until SIGINT (ctrl-c) or SIGTERM
    #[arg(long)]
    no_repl: bool,
}

/// Why a cluster did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The cluster's folder can't be made or used.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A node's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The folder of one more node can't be made.
    #[error(transparent)]
    AddNode(#[from] AddNodeError),
    /// A port is taken.
    #[error(transparent)]
    Port(#[from] PortTaken),
    /// A variable of the environment would say the same to every node.
    #[error("{variable} is set: all {nodes} nodes would get it, and each needs its own; unset it")]
    SameForAll {
        /// The variable.
        variable: String,
        /// How many nodes there are.
        nodes: u16,
    },
    /// The certificates of the cluster's folder can't be used.
    #[error("{0}")]
    Tls(String),
    /// The process could not be set up.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The cluster was not ready in time.
    #[error("not ready within {} s: {lacking}", READY_WITHIN.as_secs())]
    NotReady {
        /// What was lacking at the end.
        lacking: String,
    },
    /// A node ended too often to be started again.
    #[error("{node} can't be kept running: {reason}")]
    GaveUp {
        /// The node.
        node: String,
        /// How it ended last.
        reason: String,
    },
}

impl DevError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Init(error) => error.exit(),
            Self::AddNode(error) => error.exit(),
            Self::Config(_) | Self::SameForAll { .. } | Self::Tls(_) => Exit::Config,
            Self::Port(_) | Self::Process { .. } | Self::NotReady { .. } | Self::GaveUp { .. } => Exit::Failure,
        }
    }
}

/// One node of the cluster, and where its files are.
#[derive(Clone, Debug)]
struct DevNode {
    number: u16,
    name: String,
    config: Config,
    config_path: PathBuf,
    log_path: PathBuf,
    /// How TLS is spoken with it, as the first administrator, if it is.
    tls: Option<Tls>,
    /// The administrator's certificate and key, by which a new node has itself let in.
    admin: Option<[PathBuf; 2]>,
}

impl DevNode {
    fn doors(&self) -> Doors {
        let Config { client_listen, peer_listen, http_listen, resp_listen, resp_cluster_listen, .. } = self.config;
        let node = self.name.clone();
        Doors {
            node,
            client: client_listen,
            peer: peer_listen,
            http: http_listen,
            resp: resp_listen,
            resp_cluster: resp_cluster_listen,
        }
    }
}

/// Runs a cluster until the REPL ends, whose exit code this gives, or a signal comes.
///
/// # Errors
/// Whatever keeps the cluster from getting ready, or a node from being kept running.
pub fn run(args: DevArgs) -> Result<ExitCode, DevError> {
    let started = Instant::now();
    let process = |what| move |error| DevError::Process { what, error };
    let (shape, is_new) = init::open_or_plan(&args.dir, &flags(&args)?)?;
    if is_new {
        refuse_common_variables(shape.nodes, variables())?;
        // Before anything is made, so that a cluster that can't run leaves nothing behind.
        ports::check((1..=shape.nodes).map(|node| Doors::new(init::node_name(node), shape.doors(node))))?;
        let access = match args.secure {
            true => NewAccess { auth: Some(NewAuth::Required), doors: TlsDoors::ALL },
            false => NewAccess::default(),
        };
        init::create(&args.dir, &shape, Purpose::Development, access)?;
    }
    let numbers = init::nodes_in(&args.dir)?;
    refuse_common_variables(numbers.len() as u16, variables())?;
    let nodes = numbers.into_iter().map(|number| load_node(&args.dir, number)).collect::<Result<Vec<_>, _>>()?;
    if args.secure && nodes.iter().any(|node| node.tls.is_none()) {
        let (dir, flag) = (args.dir.clone(), "secure");
        return Err(InitError::Differs { dir, flag, found: "off".to_owned(), wanted: "on".to_owned() }.into());
    }
    ports::check(nodes.iter().map(DevNode::doors))?;
    let program = std::env::current_exe().map_err(process("the path of this program"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(process("the runtime"))?;
    let ended = runtime.block_on(async {
        let stop = Stop { token: CancellationToken::new(), interrupts_are_taken: Arc::default() };
        stop::on_signals_but(stop.token.clone(), Arc::clone(&stop.interrupts_are_taken))
            .map_err(process("signal handlers"))?;
        let (requester, requests) = kvorum_cli::node_requests(init::NODES_PER_HOST_MAX);
        let mut fleet = Fleet::start(&args.dir, &shape, &program, nodes, requests);
        let ended = lead(&args, &shape, is_new, &mut fleet, requester, &stop, started).await;
        stop.interrupts_are_taken.store(false, Ordering::Release);
        say("stopping the nodes");
        fleet.stop().await;
        ended
    });
    // A REPL may still sit in a blocking read of the terminal.
    runtime.shutdown_background();
    ended
}

/// The flags by which the cluster is opened. It may have more nodes than it was created with, or fewer; whoever names as many as
/// there are now is right, too.
fn flags(args: &DevArgs) -> Result<ShapeFlags, InitError> {
    let mut flags = args.shape.clone();
    if init::is_cluster(&args.dir) && flags.nodes == Some(init::nodes_in(&args.dir)?.len() as u16) {
        flags.nodes = None;
    }
    Ok(flags)
}

/// What makes the cluster stop.
struct Stop {
    token: CancellationToken,
    /// The REPL takes ctrl-c: it interrupts the command that runs, and not the cluster.
    interrupts_are_taken: Arc<AtomicBool>,
}

/// From the start of the children to the reason to stop them.
async fn lead(
    args: &DevArgs,
    shape: &Shape,
    is_new: bool,
    fleet: &mut Fleet,
    requester: NodeRequester,
    stop: &Stop,
    started: Instant,
) -> Result<ExitCode, DevError> {
    let age = if is_new { "new cluster" } else { "cluster" };
    say(format_args!("{age} {} in {}", shape.cluster_id, args.dir.display()));
    for node in fleet.nodes() {
        say(format_args!("  {}  {}  log {}", node.name, node.config.client_advertise, node.log_path.display()));
    }
    let deadline = started + READY_WITHIN;
    let ready = loop {
        // A node may learn now that it was removed while it was down.
        let nodes = fleet.nodes().to_vec();
        tokio::select! {
            ready = wait_ready(&nodes, deadline) => break ready,
            handled = fleet.handle_next(&say) => if let Err(gave_up) = handled { break Err(gave_up) },
            () = stop.token.cancelled() => return Ok(ExitCode::SUCCESS),
        }
    };
    if let Err(error) = ready {
        fleet.nodes().iter().for_each(show_log);
        return Err(error);
    }
    let nodes = fleet.nodes();
    let url = url(nodes);
    say(format_args!("clients connect to {url}"));
    let http: Vec<_> = nodes.iter().filter_map(|node| node.config.http_listen).collect();
    let doors = nodes.first().map(|node| node.config.tls.doors).unwrap_or_default();
    let s = |speaks_tls: bool| if speaks_tls { "s" } else { "" };
    if let Some(first) = http.first() {
        let http = format!("http{}://{first}", s(doors.http));
        say(format_args!("HTTP is spoken at {http} and the like; {http}/docs shows how"));
    }
    if let Some(first) = nodes.iter().find_map(|node| node.config.resp_listen) {
        say(format_args!("RESP is spoken at redis{}://{first} and the like", s(doors.resp)));
    }
    if let Some(first) = nodes.iter().find_map(|node| node.config.resp_cluster_listen) {
        say(format_args!("clients of Redis Cluster begin at redis{}://{first}", s(doors.resp_cluster)));
    }
    if let Some(node) = nodes.iter().find(|node| node.tls.is_some()) {
        tell_secure(&args.dir, &node.config, &url);
    }
    say(format_args!(
        "ready in {:.1} s: {} nodes, {} shards of {} replicas, durability {}",
        started.elapsed().as_secs_f32(),
        nodes.len(),
        shape.shards,
        shape.replication_factor,
        shape.durability,
    ));
    if args.no_repl {
        return tokio::select! {
            gave_up = handle_all(fleet, &say) => Err(gave_up),
            () = stop.token.cancelled() => Ok(ExitCode::SUCCESS),
        };
    }
    let tls = nodes.iter().find_map(|node| node.tls.clone());
    let mut options = ReplOptions::new(url).with_nodes(requester).with_tls(tls);
    let notifier = options.notifier();
    let tell = |line: String| match &notifier {
        Some(notifier) => notifier.notify(line),
        None => say(line),
    };
    let _terminal = repl::TerminalGuard::new();
    stop.interrupts_are_taken.store(io::stdin().is_terminal(), Ordering::Release);
    let repl = tokio::task::spawn_blocking(move || repl::run(options));
    let telling = async {
        // The rest of the cluster may still answer; the person at the REPL decides when it is over.
        loop {
            tell(handle_all(fleet, &tell).await.to_string());
        }
    };
    tokio::select! {
        ended = repl => {
            let ended = ended.map_err(|error| DevError::Process { what: "the REPL", error: io::Error::other(error) })?;
            if ended.input_ended {
                say("stdin has ended, and so does the cluster; with --no-repl it runs until SIGINT or SIGTERM");
            }
            Ok(ended.code)
        }
        () = telling => Ok(ExitCode::SUCCESS),
        () = stop.token.cancelled() => {
            if notifier.is_some() {
                // Leaves the prompt's line; the terminal is still in the REPL's mode, which needs the return.
                say("\r");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says how the first administrator comes in by each door.
fn tell_secure(dir: &Path, config: &Config, url: &str) {
    let [certificate, key, authority] = init::admin_files(dir);
    say("clients must log in; the administrator's certificate does that:");
    say(format_args!("  kvorum-cli -u {url} {} STATUS", init::by_certificate(dir)));
    let (certificate, key, authority) = (certificate.display(), key.display(), authority.display());
    if let Some(http) = config.http_listen {
        say(format_args!("  curl --cacert {authority} --cert {certificate} --key {key} https://{http}/health"));
    }
    if let Some(resp) = config.resp_listen {
        let (host, port) = (resp.ip(), resp.port());
        say(format_args!(
            "  redis-cli -h {host} -p {port} --tls --cacert {authority} --cert {certificate} --key {key} PING"
        ));
    }
}

/// Fields of which each node has its own value.
const FIELDS_OF_ONE_NODE: [&str; 13] = [
    "node_id",
    "data_dir",
    "client_listen",
    "client_advertise",
    "peer_listen",
    "peer_advertise",
    "http_listen",
    "resp_listen",
    "resp_announce",
    "resp_cluster_listen",
    "resp_cluster_announce",
    "tls.certificate",
    "tls.key",
];

/// The names of this process's variables.
fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// The nodes inherit this process's environment. What must differ between them can't stand there.
fn refuse_common_variables(nodes: u16, names: impl Iterator<Item = String>) -> Result<(), DevError> {
    let of_one_node = |name: &String| {
        FIELDS.iter().any(|field| field.variable() == *name && FIELDS_OF_ONE_NODE.contains(&field.path))
    };
    match names.into_iter().find(of_one_node) {
        Some(variable) if nodes > 1 => Err(DevError::SameForAll { variable, nodes }),
        _ => Ok(()),
    }
}

fn load_node(dir: &Path, number: u16) -> Result<DevNode, DevError> {
    let config_path = init::config_path(dir, number);
    // As its process will see it: with this process's environment, which it inherits.
    let config = start::load(Some(&config_path), Vec::new())?;
    let log_path = init::node_folder(dir, number).join("node.log");
    let [certificate, key, _] = init::admin_files(dir);
    // A cluster that was made in another way has no such certificate.
    let admin = (config.tls.doors.client && key.exists()).then_some([certificate, key]);
    let tls = config.tls.doors.client.then(|| {
        let tls = Tls::from_file(&config.tls.ca)?;
        match &admin {
            Some([certificate, key]) => tls.certificate_files(certificate, key),
            None => Ok(tls),
        }
    });
    let tls = tls.transpose().map_err(|error| DevError::Tls(error.to_string()))?;
    Ok(DevNode { number, name: config.name.clone(), config, config_path, log_path, tls, admin })
}

/// Waits until every node says that every shard has a leader.
async fn wait_ready(nodes: &[DevNode], deadline: Instant) -> Result<(), DevError> {
    loop {
        let lacking = match first_lacking(nodes).await {
            None => return Ok(()),
            Some(lacking) => lacking,
        };
        if Instant::now() >= deadline {
            return Err(DevError::NotReady { lacking });
        }
        tokio::time::sleep(probe::PAUSE).await;
    }
}

async fn first_lacking(nodes: &[DevNode]) -> Option<String> {
    for node in nodes {
        match probe::topology(&node.config.client_advertise, node.tls.as_ref()).await {
            Err(error) => return Some(format!("{} does not answer: {error}", node.name)),
            Ok(topology) => {
                let leaderless = topology.shards.iter().filter(|shard| shard.leader.is_none()).count();
                if leaderless > 0 {
                    return Some(format!(
                        "{} knows no leader of {leaderless} of {} shards",
                        node.name,
                        topology.shards.len()
                    ));
                }
            }
        }
    }
    None
}

/// Does what follows from what happens to the nodes until one is given up.
async fn handle_all(fleet: &mut Fleet, tell: &(impl Fn(String) + Sync)) -> DevError {
    loop {
        if let Err(gave_up) = fleet.handle_next(tell).await {
            return gave_up;
        }
    }
}

fn show_log(node: &DevNode) {
    say(format_args!("--- the end of {}", node.log_path.display()));
    match logs::tail(&node.log_path, TAIL_LINES) {
        Ok(lines) => lines.iter().for_each(say),
        Err(error) => say(error),
    }
}

fn url(nodes: &[DevNode]) -> String {
    let addresses: Vec<&str> = nodes.iter().map(|node| node.config.client_advertise.as_str()).collect();
    let scheme = if nodes.iter().any(|node| node.tls.is_some()) { "kvs" } else { "kv" };
    format!("{scheme}://{}", addresses.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_every_node_would_get_is_refused() {
        let names = |name: &str| ["PATH".to_owned(), name.to_owned()].into_iter();
        for name in ["KVORUM_CLIENT_LISTEN", "KVORUM_DATA_DIR", "KVORUM_TLS_KEY"] {
            let error = refuse_common_variables(3, names(name)).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{name} is set: all 3 nodes")), "{error}");
            assert_eq!(error.exit(), Exit::Config);
            refuse_common_variables(1, names(name)).unwrap();
        }
        refuse_common_variables(3, names("KVORUM_DURABILITY")).unwrap();
    }

    #[test]
    fn every_field_of_one_node_is_a_field() {
        for path in FIELDS_OF_ONE_NODE {
            assert!(FIELDS.iter().any(|field| field.path == path), "{path}");
        }
    }
}
