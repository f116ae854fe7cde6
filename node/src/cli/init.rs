//! `kvorum init`: makes the folder of a new cluster, with its certificates and a configuration per node.
//!
//! ```text
//! cluster.toml            what the cluster was created with; written last, so it is there when all the rest is
//! ca/ca.pem, ca.key       the certificate authority; the key is needed only to issue further certificates
//! node-1/kvorum.toml      the configuration of node 1
//! node-1/ca.pem, node.pem, node.key
//! node-1/issuer.pem, issuer.key  what lets node 1 give certificates to nodes that join by a token
//! admin/password          the first password of the user admin, if clients must log in; nodes know what checks it only
//! node-1/data/            its data folder, made by its first start
//! ```

mod auth;

pub use self::auth::{NewAccess, NewAuth};
pub(crate) use self::auth::{admin_files, auth_text, by_certificate, doors, names_of};

use crate::auth::cert::{self, CertError};
use crate::auth::issuer;
use crate::cli::exit::Exit;
use crate::cli::say;
use crate::config::{Member, TlsDoors};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use kvorum_core::ring::address::{is_address, is_unspecified};
use kvorum_protocol::limits::SHARDS_MAX;
use kvorum_protocol::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Most nodes that `init` puts on one host: past it the port ranges of the doors would overlap.
pub const NODES_PER_HOST_MAX: u16 = 9;
/// Most nodes that `init` makes a configuration for.
pub const NODES_MAX: u16 = 99;
/// Ports of one door begin this far from those of the one before.
pub(crate) const PORTS_PER_DOOR: u16 = 10;
/// Doors of a node, each with a port of its own.
pub(crate) const DOORS: usize = 5;
/// Ports above the base port that a host's nodes use.
const PORTS_PER_HOST: u16 = DOORS as u16 * PORTS_PER_DOOR;

/// Size of a journal file of a development cluster: a quarter of the default.
const DEVELOPMENT_JOURNAL_FILE_BYTES: u64 = 16 * 1024 * 1024;

const SHAPE_FILE: &str = "cluster.toml";
pub(crate) const CONFIG_FILE: &str = "kvorum.toml";
const NODE_NAME_PREFIX: &str = "node-";
const REMOVED_SUFFIX: &str = ".removed";
pub(crate) const AUTHORITY_FOLDER: &str = "ca";

/// Flags of `kvorum init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The cluster's folder
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Do nothing, and succeed, if the folder holds a cluster that these flags describe
    #[arg(long)]
    if_absent: bool,
    /// Whether clients must say who they are: required or open. By default required, unless all nodes are on this machine only
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["required", "open"]).map(String::from))]
    auth: Option<String>,
    /// Which doors of clients speak TLS: off (the default), all, or a list of client, http, resp and resp_cluster
    #[arg(long, value_name = "DOORS", value_parser = doors)]
    tls: Option<TlsDoors>,
    #[command(flatten)]
    shape: ShapeFlags,
}

/// What a cluster is created with, as far as flags say so.
#[derive(Clone, PartialEq, Eq, Debug, Default, clap::Args)]
pub struct ShapeFlags {
    /// How many nodes; by default 3, or one per --host
    #[arg(long, value_name = "N", value_parser = small_number)]
    pub nodes: Option<u16>,
    /// Slices of the hash ring, a power of two; by default 16
    #[arg(long, value_name = "N", value_parser = small_number)]
    pub shards: Option<u16>,
    /// Replicas of each shard, an odd number; by default 3, or 1 with fewer nodes
    #[arg(long, value_name = "N", value_parser = small_number)]
    pub replication_factor: Option<u16>,
    /// What a committed write survives: fsync (a quorum has synced it; the default) or memory (a quorum has it in the
    /// page cache)
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["fsync", "memory"]).map(String::from))]
    pub durability: Option<String>,
    /// First port: node i listens on this + i (binary door), this + 10 + i (peers), this + 20 + i (HTTP), this + 30 + i and this + 40 + i (RESP); by
    /// default 7400
    #[arg(long, value_name = "PORT", value_parser = small_number)]
    pub base_port: Option<u16>,
    /// Where the nodes are: one host for all (by default 127.0.0.1), or one per node, separated by commas; with one
    /// per node every node uses the base port itself
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub host: Option<Vec<String>>,
    /// Let admin commands inject faults; for tests only
    #[arg(long)]
    pub fault_hooks: bool,
}

/// What a cluster was created with; the contents of `cluster.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The cluster.
    pub cluster_id: Uuid,
    /// How many nodes.
    pub nodes: u16,
    /// Slices of the hash ring.
    pub shards: u16,
    /// Replicas of each shard.
    pub replication_factor: u16,
    /// `fsync` or `memory`.
    pub durability: String,
    /// First port.
    pub base_port: u16,
    /// One host for all nodes, or one for each.
    pub hosts: Vec<String>,
    /// Whether admin commands may inject faults.
    pub fault_hooks: bool,
}

/// What a cluster is laid out for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Machines of their own.
    Production,
    /// One machine that has other things to do, too: small journals.
    Development,
}

impl Purpose {
    /// Fields of a node's configuration beside those that all nodes have.
    pub(crate) fn fields(self) -> &'static str {
        match self {
            Self::Production => "",
            Self::Development => "\n# At once: whoever looks at it does not want to wait.\nrepair_hold_s = 0\n",
        }
    }

    /// Tables of a node's configuration beside those that all nodes have.
    pub(crate) fn tables(self) -> String {
        match self {
            Self::Production => String::new(),
            Self::Development => format!(
                "\n# Smaller than the default, because all nodes share one disk.\n[journal]\nfile_bytes = {DEVELOPMENT_JOURNAL_FILE_BYTES}\n"
            ),
        }
    }
}

/// Why a cluster's folder can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A flag makes no sense.
    #[error("--{flag} {value} is not allowed; expected {allowed}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What it holds.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// There is a cluster already, and `init` was to make one.
    #[error("{0} holds a cluster already")]
    Exists(PathBuf),
    /// There is a cluster already, created with something else than the flags say.
    #[error(
        "{dir} holds a cluster that was created with --{flag} {found}, not {wanted}: leave the flag out, or name another --dir"
    )]
    Differs {
        /// The folder.
        dir: PathBuf,
        /// The flag.
        flag: &'static str,
        /// What it was created with.
        found: String,
        /// What the flag says now.
        wanted: String,
    },
    /// The folder holds files and no cluster.
    #[error(
        "{dir} holds files ({example}) but no {SHAPE_FILE}: it is no cluster's folder, or making it was interrupted; \
         remove it, or name another --dir"
    )]
    NotACluster {
        /// The folder.
        dir: PathBuf,
        /// One of the files.
        example: String,
    },
    /// A node's folder that should be empty is not.
    #[error("{dir} holds files ({example}): name a new or empty folder")]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// One of the files.
        example: String,
    },
    /// A file can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// `cluster.toml` is not what `init` writes.
    #[error("{path}: {detail}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// All ports that a host's nodes have are taken.
    #[error(
        "there are no ports for one more node: at most {NODES_PER_HOST_MAX} nodes are at one host, from port {base_port} on"
    )]
    NoPorts {
        /// The first port.
        base_port: u16,
    },
    /// A certificate can't be made.
    #[error(transparent)]
    Cert(#[from] CertError),
}

impl InitError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Flag { .. } => Exit::Usage,
            Self::Exists(_)
            | Self::Differs { .. }
            | Self::NotACluster { .. }
            | Self::NotEmpty { .. }
            | Self::Shape { .. }
            | Self::NoPorts { .. } => Exit::Config,
            Self::File { .. } | Self::Cert(_) => Exit::CannotCreate,
        }
    }
}

/// Makes a cluster's folder and says how to go on.
///
/// # Errors
/// Whatever is wrong with the flags or the folder.
pub fn run(args: InitArgs) -> Result<(), InitError> {
    let (shape, is_new) = open_or_plan(&args.dir, &args.shape)?;
    if is_new {
        let auth = args.auth.as_deref().map(|mode| if mode == "open" { NewAuth::Open } else { NewAuth::Required });
        create(&args.dir, &shape, Purpose::Production, NewAccess { auth, doors: args.tls.unwrap_or_default() })?;
    } else {
        if !args.if_absent {
            return Err(InitError::Exists(args.dir));
        }
        auth::refuse_less(&args.dir, args.auth.as_deref() == Some("required"), args.tls.unwrap_or_default())?;
        say(format_args!("{} holds cluster {} already", args.dir.display(), shape.cluster_id));
        return Ok(());
    }
    say(format_args!("cluster {} of {} nodes is laid out in {}", shape.cluster_id, shape.nodes, args.dir.display()));
    say("start each node with");
    for node in 1..=shape.nodes {
        say(format_args!("  kvorum start --config {}", config_path(&args.dir, node).display()));
    }
    auth::tell(&args.dir, shape.is_local(), args.tls.unwrap_or_default());
    Ok(())
}

/// The cluster of a folder, or the one that [`create`] would make there; says whether it is new. Changes nothing.
///
/// # Errors
/// Flags that make no sense or differ from what the cluster was created with.
pub fn open_or_plan(dir: &Path, flags: &ShapeFlags) -> Result<(Shape, bool), InitError> {
    let path = dir.join(SHAPE_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let shape: Shape = toml::from_str(&text)
                .map_err(|error| InitError::Shape { path: path.clone(), detail: error.message().to_owned() })?;
            refuse_difference(dir, flags, &shape)?;
            Ok((shape, false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((flags.resolve()?, true)),
        Err(error) => Err(InitError::File { path, error }),
    }
}

/// The folder of a node, counted from 1.
pub fn node_folder(dir: &Path, node: u16) -> PathBuf {
    dir.join(node_name(node))
}

/// The configuration file of a node, counted from 1.
pub fn config_path(dir: &Path, node: u16) -> PathBuf {
    node_folder(dir, node).join(CONFIG_FILE)
}

/// The name of a node, counted from 1.
pub fn node_name(node: u16) -> String {
    format!("{NODE_NAME_PREFIX}{node}")
}

/// Where the folder of a node lies that was removed from the cluster: aside, so that its number is not given again.
pub(crate) fn removed_folder(dir: &Path, node: u16) -> PathBuf {
    dir.join(node_name(node) + REMOVED_SUFFIX)
}

/// Whether the folder holds a cluster.
pub(crate) fn is_cluster(dir: &Path) -> bool {
    dir.join(SHAPE_FILE).exists()
}

/// The nodes that have a folder with a configuration, in order.
///
/// # Errors
/// A folder that can't be read.
pub(crate) fn nodes_in(dir: &Path) -> Result<Vec<u16>, InitError> {
    let numbers = numbers_in(dir)?.into_iter().filter_map(|(number, is_removed)| (!is_removed).then_some(number));
    Ok(numbers.filter(|number| config_path(dir, *number).exists()).collect())
}

/// A number that no node has or had.
///
/// # Errors
/// A folder that can't be read.
pub(crate) fn next_number(dir: &Path) -> Result<u16, InitError> {
    Ok(numbers_in(dir)?.last().map_or(1, |(last, _)| last.saturating_add(1)))
}

/// The numbers of all nodes that have a folder, in order, and whether each was removed.
fn numbers_in(dir: &Path) -> Result<BTreeSet<(u16, bool)>, InitError> {
    let unreadable = |error| InitError::File { path: dir.to_owned(), error };
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(NODE_NAME_PREFIX)) else { continue };
        let kept = rest.strip_suffix(REMOVED_SUFFIX);
        // Whatever else is called so is none of ours.
        numbers.extend(kept.unwrap_or(rest).parse().ok().map(|number| (number, kept.is_some())));
    }
    Ok(numbers)
}

impl ShapeFlags {
    /// Fills in defaults, checks, and gives the cluster its id.
    pub(crate) fn resolve(&self) -> Result<Shape, InitError> {
        let hosts = self.host.clone().unwrap_or_else(|| vec![Ipv4Addr::LOCALHOST.to_string()]);
        let hosts: Vec<String> = hosts.iter().map(|host| without_brackets(host)).collect();
        let nodes = self.nodes.unwrap_or(if hosts.len() > 1 { hosts.len() as u16 } else { 3 });
        let shards = self.shards.unwrap_or(16);
        let replication_factor = self.replication_factor.unwrap_or(if nodes >= 3 { 3 } else { 1 });
        let base_port = self.base_port.unwrap_or(7400);
        let base_port_max = u16::MAX - PORTS_PER_HOST;

        // First, because what is wrong with it would be blamed on the hosts.
        let is_port = (1..=base_port_max).contains(&base_port);
        check("base-port", base_port, is_port, || format!("a port from 1 to {base_port_max}"))?;
        let nodes_max = if hosts.len() > 1 { NODES_MAX } else { NODES_PER_HOST_MAX };
        check("nodes", nodes, (1..=nodes_max).contains(&nodes), || format!("a number from 1 to {nodes_max}"))?;
        let listed = hosts.join(",");
        check("host", &listed, hosts.len() == 1 || hosts.len() == usize::from(nodes), || {
            format!("1 or {nodes} hosts")
        })?;
        let leads_nowhere = |host: &String| is_unspecified(host);
        check("host", &listed, !hosts.iter().any(leads_nowhere), || {
            "addresses at which nodes can be reached; a node listens on all interfaces if its host is a name".to_owned()
        })?;
        let is_host = |host: &String| is_address(&address(host, base_port));
        check("host", &listed, hosts.iter().all(is_host), || "names or IP addresses, without ports".to_owned())?;
        let repeats = |(at, host): (usize, &String)| hosts[..at].contains(host);
        check("host", &listed, !hosts.iter().enumerate().any(repeats), || {
            "each host once; one host alone is that of all nodes".to_owned()
        })?;
        let is_ring = shards.is_power_of_two() && usize::from(shards) <= SHARDS_MAX;
        check("shards", shards, is_ring, || format!("a power of two from 1 to {SHARDS_MAX}"))?;
        let is_factor = replication_factor % 2 == 1 && replication_factor <= nodes.min(15);
        check("replication-factor", replication_factor, is_factor, || {
            format!("an odd number from 1 to {}, at most the number of nodes", nodes.min(15))
        })?;
        Ok(Shape {
            cluster_id: Uuid::new_v4(),
            nodes,
            shards,
            replication_factor,
            durability: self.durability.clone().unwrap_or_else(|| "fsync".to_owned()),
            base_port,
            hosts,
            fault_hooks: self.fault_hooks,
        })
    }
}

/// What is allowed of it depends on the other flags, see [`ShapeFlags::resolve`].
fn small_number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("must be a whole number from 0 to {}", u16::MAX))
}

fn check(
    flag: &'static str,
    value: impl ToString,
    holds: bool,
    allowed: impl FnOnce() -> String,
) -> Result<(), InitError> {
    if holds { Ok(()) } else { Err(InitError::Flag { flag, value: value.to_string(), allowed: allowed() }) }
}

/// What the flags do not say is as it is; what they say must be as it is.
fn refuse_difference(dir: &Path, flags: &ShapeFlags, shape: &Shape) -> Result<(), InitError> {
    let given = [
        ("nodes", flags.nodes.map(|nodes| nodes.to_string()), shape.nodes.to_string()),
        ("shards", flags.shards.map(|shards| shards.to_string()), shape.shards.to_string()),
        (
            "replication-factor",
            flags.replication_factor.map(|factor| factor.to_string()),
            shape.replication_factor.to_string(),
        ),
        ("durability", flags.durability.clone(), shape.durability.clone()),
        ("base-port", flags.base_port.map(|port| port.to_string()), shape.base_port.to_string()),
        ("host", flags.host.as_ref().map(|hosts| joined(hosts)), joined(&shape.hosts)),
        ("fault-hooks", flags.fault_hooks.then(|| true.to_string()), shape.fault_hooks.to_string()),
    ];
    for (flag, wanted, found) in given {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(InitError::Differs { dir: dir.to_owned(), flag, found, wanted });
        }
    }
    Ok(())
}

/// Makes the folder of a new cluster.
///
/// # Errors
/// A folder that holds something else; a file or certificate that can't be made.
pub fn create(dir: &Path, shape: &Shape, purpose: Purpose, access: NewAccess) -> Result<(), InitError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| InitError::File { path, error }
    };
    fs::create_dir_all(dir).map_err(file(dir))?;
    if let Some(entry) = fs::read_dir(dir).map_err(file(dir))?.next() {
        let example = entry.map_err(file(dir))?.file_name().to_string_lossy().into_owned();
        return Err(InitError::NotACluster { dir: dir.to_owned(), example });
    }
    let cluster = ClusterId(shape.cluster_id);
    let authority = dir.join(AUTHORITY_FOLDER);
    cert::create_authority(&authority)?;
    let auth = auth::lay_out(dir, &authority, shape, access.auth)?;
    let members: Vec<Uuid> = (0..shape.nodes).map(|_| Uuid::new_v4()).collect();
    for (node, id) in (1..).zip(&members) {
        let folder = node_folder(dir, node);
        cert::issue_node(&authority, &folder, cluster, NodeId(*id), &names_of(shape.host(node)))?;
        issuer::create_issuer(&authority, &folder)?;
        let path = folder.join(CONFIG_FILE);
        fs::write(&path, shape.node_config(node, &members, purpose, (&auth, access.doors))).map_err(file(&path))?;
    }
    let path = dir.join(SHAPE_FILE);
    let text =
        toml::to_string(shape).map_err(|error| InitError::Shape { path: path.clone(), detail: error.to_string() })?;
    let head = "# What this cluster was created with. Made by `kvorum init`; changing it changes nothing.\n";
    fs::write(&path, format!("{head}{text}")).map_err(file(&path))
}

impl Shape {
    /// Where a node is going to listen: its binary door, that of its peers, its HTTP door, and its two RESP doors.
    pub fn doors(&self, node: u16) -> [SocketAddr; DOORS] {
        [0, 1, 2, 3, 4].map(|door| self.listen(node, door))
    }

    /// Whether no other machine reaches the nodes.
    pub(crate) fn is_local(&self) -> bool {
        (1..=self.nodes).flat_map(|node| self.doors(node)).all(|door| door.ip().is_loopback())
    }

    /// The text of a founder's configuration file.
    fn node_config(&self, node: u16, members: &[Uuid], purpose: Purpose, (auth, doors): (&str, TlsDoors)) -> String {
        let listen = self.doors(node);
        let mut text =
            self.config_head(&node_name(node), members[usize::from(node) - 1], (&listen, doors), purpose.fields());
        text.push_str(&purpose.tables());
        text.push_str(auth);
        let member = |(node, id): (u16, &Uuid)| Member {
            id: NodeId(*id),
            name: node_name(node),
            zone: String::new(),
            client: self.address(node, 0),
            peer: self.address(node, 1),
        };
        text.extend((1..).zip(members).map(member).map(|member| member_text(&member)));
        text
    }

    /// The text of a node's configuration file up to its members. `listen`: where its doors are, as of [`Shape::doors`], and which of
    /// them speak TLS; `more`: further fields.
    pub(crate) fn config_head(
        &self,
        name: &str,
        id: Uuid,
        (listen, doors): (&[SocketAddr; DOORS], TlsDoors),
        more: &str,
    ) -> String {
        let doors = match doors == TlsDoors::default() {
            true => String::new(),
            false => format!("doors = \"{doors}\"\n"),
        };
        format!(
            r#"# Configuration of {name}. Every field is described in docs/OPERATIONS.md.

cluster_id = "{cluster}"
node_id = "{id}"
data_dir = "data"

# Fixed when the cluster is created.
shards = {shards}
replication_factor = {replication_factor}
durability = "{durability}"

client_listen = "{client_listen}"
peer_listen = "{peer_listen}"
http_listen = "{http_listen}"
resp_listen = "{resp_listen}"
resp_cluster_listen = "{resp_cluster_listen}"
fault_hooks = {fault_hooks}
{more}
[tls]
ca = "{ca}"
certificate = "{certificate}"
key = "{key}"
{doors}"#,
            cluster = self.cluster_id,
            shards = self.shards,
            replication_factor = self.replication_factor,
            durability = self.durability,
            client_listen = listen[0],
            peer_listen = listen[1],
            http_listen = listen[2],
            resp_listen = listen[3],
            resp_cluster_listen = listen[4],
            fault_hooks = self.fault_hooks,
            ca = cert::AUTHORITY_CERTIFICATE_FILE,
            certificate = cert::NODE_CERTIFICATE_FILE,
            key = cert::NODE_KEY_FILE,
        )
    }

    /// The doors of one more node beside `members`. Where all nodes share a host it has the first ports that none of them has
    /// and of which `is_free` says so.
    ///
    /// # Errors
    /// A host that is missing or makes no sense; too many nodes for one host.
    pub(crate) fn new_doors(
        &self,
        members: &[Member],
        host: Option<&str>,
        is_free: impl Fn(&[SocketAddr; DOORS]) -> bool,
    ) -> Result<NewDoors, InitError> {
        let of_one_host = self.hosts.len() == 1 && host.is_none_or(|host| without_brackets(host) == self.hosts[0]);
        if of_one_host {
            let doors = |place: u16| {
                let [client, peer] = [0, 1].map(|door| self.address(place, door));
                NewDoors { client, peer, listen: self.doors(place) }
            };
            let is_others = |doors: &NewDoors| {
                members.iter().any(|member| member.client == doors.client || member.peer == doors.peer)
            };
            let mut all = (1..=NODES_PER_HOST_MAX).map(doors);
            let found = all.find(|doors| !is_others(doors) && is_free(&doors.listen));
            return found.ok_or_else(|| InitError::NoPorts { base_port: self.base_port });
        }
        let host = host.map(without_brackets).unwrap_or_default();
        let reachable =
            is_address(&address(&host, self.base_port)) && !is_unspecified(&host) && !self.hosts.contains(&host);
        check("host", &host, reachable, || "a name or an IP address at which no other node is".to_owned())?;
        let port = |door: u16| self.base_port + door * PORTS_PER_DOOR;
        let [client, peer] = [0, 1].map(|door| address(&host, port(door)));
        Ok(NewDoors { client, peer, listen: [0, 1, 2, 3, 4].map(|door| SocketAddr::new(listen_at(&host), port(door))) })
    }

    /// The host of a node.
    fn host(&self, node: u16) -> &str {
        let index = if self.hosts.len() > 1 { usize::from(node) - 1 } else { 0 };
        &self.hosts[index]
    }

    /// The port of a node's door: 0 is the binary door, 1 is the peers'.
    fn port(&self, node: u16, door: u16) -> u16 {
        let within_host = if self.hosts.len() > 1 { 0 } else { node };
        self.base_port + door * PORTS_PER_DOOR + within_host
    }

    fn address(&self, node: u16, door: u16) -> String {
        address(self.host(node), self.port(node, door))
    }

    /// A node listens where it is reached if that is an IP address, and on every interface if it is a name.
    fn listen(&self, node: u16, door: u16) -> SocketAddr {
        SocketAddr::new(listen_at(self.host(node)), self.port(node, door))
    }
}

/// Where a node at this host listens.
pub(crate) fn listen_at(host: &str) -> IpAddr {
    match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse().unwrap_or(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
    }
}

/// Where a node that joins is reached, and where it listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewDoors {
    /// `host:port` of its binary door.
    pub(crate) client: String,
    /// `host:port` of its peer door.
    pub(crate) peer: String,
    /// As [`Shape::doors`].
    pub(crate) listen: [SocketAddr; DOORS],
}

/// A member's table in a configuration file.
pub(crate) fn member_text(member: &Member) -> String {
    let Member { id, name, zone, client, peer } = member;
    format!(
        "\n[[members]]\nid = \"{id}\"\nname = {name:?}\nzone = {zone:?}\nclient = \"{client}\"\npeer = \"{peer}\"\n"
    )
}

/// The cluster of a folder.
///
/// # Errors
/// A folder that holds none, or a file that can't be read.
pub(crate) fn open(dir: &Path) -> Result<Shape, InitError> {
    let path = dir.join(SHAPE_FILE);
    let text = fs::read_to_string(&path).map_err(|error| InitError::File { path: path.clone(), error })?;
    toml::from_str(&text).map_err(|error| InitError::Shape { path, detail: error.message().to_owned() })
}

/// An IPv6 address may be given in brackets, as it stands before a port.
pub(crate) fn without_brackets(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.filter(|bare| bare.parse::<Ipv6Addr>().is_ok()).unwrap_or(host).to_owned()
}

fn joined(hosts: &[String]) -> String {
    hosts.iter().map(|host| without_brackets(host)).collect::<Vec<_>>().join(",")
}

pub(crate) fn address(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::start;
    use crate::config::AuthMode;
    use kvorum_protocol::Durability;
    use tempfile::TempDir;

    /// The cluster of a folder, made first if the folder is empty or not there; says whether it is new.
    fn open_or_create(dir: &Path, flags: &ShapeFlags, purpose: Purpose) -> Result<(Shape, bool), InitError> {
        let (shape, is_new) = open_or_plan(dir, flags)?;
        if is_new {
            create(dir, &shape, purpose, NewAccess::default())?;
        }
        Ok((shape, is_new))
    }

    fn flags() -> ShapeFlags {
        ShapeFlags::default()
    }

    #[test]
    fn every_node_gets_a_valid_configuration() {
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("cluster");
        let flags = ShapeFlags { durability: Some("memory".to_owned()), shards: Some(64), ..flags() };
        let (shape, is_new) = open_or_create(&dir, &flags, Purpose::Production).unwrap();
        assert!(is_new);
        for node in 1..=3 {
            let config = start::load(Some(&config_path(&dir, node)), Vec::new()).unwrap();
            assert_eq!(config.cluster_id.0, shape.cluster_id);
            assert_eq!(config.name, format!("node-{node}"));
            assert_eq!((config.shards, config.durability), (64, Durability::Memory));
            assert_eq!(config.client_listen.to_string(), format!("127.0.0.1:{}", 7400 + node));
            assert_eq!(config.peer_advertise, format!("127.0.0.1:{}", 7410 + node));
            assert_eq!(config.journal.file_bytes, 64 * 1024 * 1024);
            assert_eq!(config.data_dir, node_folder(&dir, node).join("data"));
            assert!([&config.tls.ca, &config.tls.certificate, &config.tls.key].iter().all(|path| path.is_file()));
        }
    }

    #[test]
    fn one_host_per_node_shares_the_base_port() {
        let folder = TempDir::new().unwrap();
        let hosts = vec!["a.example".to_owned(), "10.0.0.2".to_owned(), "[::1]".to_owned()];
        let flags = ShapeFlags { host: Some(hosts), ..flags() };
        let (shape, _) = open_or_create(folder.path(), &flags, Purpose::Production).unwrap();
        assert_eq!(open_or_create(folder.path(), &flags, Purpose::Production).unwrap(), (shape, false));
        let config = start::load(Some(&config_path(folder.path(), 1)), Vec::new()).unwrap();
        assert_eq!(config.client_listen.to_string(), "0.0.0.0:7400");
        assert_eq!(config.auth.mode, AuthMode::Required);
        let password = fs::read_to_string(folder.path().join("admin/password")).unwrap();
        assert!(config.auth.bootstrap_verifier.unwrap().matches(password.trim_end().as_bytes()));
        let peers: Vec<&str> = config.members.iter().map(|member| member.peer.as_str()).collect();
        assert_eq!(peers, ["a.example:7410", "10.0.0.2:7410", "[::1]:7410"]);
        let config = start::load(Some(&config_path(folder.path(), 3)), Vec::new()).unwrap();
        assert_eq!(config.client_listen.to_string(), "[::1]:7400", "it listens where it is reached");
    }

    #[test]
    fn a_cluster_is_kept_and_other_flags_are_refused() {
        let folder = TempDir::new().unwrap();
        let (first, _) = open_or_create(folder.path(), &flags(), Purpose::Development).unwrap();
        let (again, is_new) =
            open_or_create(folder.path(), &ShapeFlags { nodes: Some(3), ..flags() }, Purpose::Development).unwrap();
        assert_eq!((again, is_new), (first, false));
        let config = start::load(Some(&config_path(folder.path(), 1)), Vec::new()).unwrap();
        assert_eq!(config.journal.file_bytes, DEVELOPMENT_JOURNAL_FILE_BYTES);
        let error = open_or_create(folder.path(), &ShapeFlags { shards: Some(8), ..flags() }, Purpose::Development)
            .unwrap_err();
        let expected = format!(
            "{} holds a cluster that was created with --shards 16, not 8: leave the flag out, or name another --dir",
            folder.path().display()
        );
        assert_eq!((error.to_string(), error.exit()), (expected, Exit::Config));
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("thesis.txt"), "…").unwrap();
        let error = open_or_create(folder.path(), &flags(), Purpose::Development).unwrap_err().to_string();
        assert!(error.contains("holds files (thesis.txt) but no cluster.toml"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn flags_that_make_no_sense_are_named() {
        let cases = [
            (ShapeFlags { nodes: Some(10), ..flags() }, "--nodes 10 is not allowed; expected a number from 1 to 9"),
            (
                ShapeFlags { shards: Some(12), ..flags() },
                "--shards 12 is not allowed; expected a power of two from 1 to 4096",
            ),
            (
                ShapeFlags { replication_factor: Some(5), ..flags() },
                "--replication-factor 5 is not allowed; expected an odd number from 1 to 3, at most the number of nodes",
            ),
            (
                ShapeFlags { base_port: Some(65_500), ..flags() },
                "--base-port 65500 is not allowed; expected a port from 1 to 65485",
            ),
            (
                ShapeFlags { base_port: Some(0), ..flags() },
                "--base-port 0 is not allowed; expected a port from 1 to 65485",
            ),
            (
                ShapeFlags { host: Some(vec!["a".to_owned(), "b".to_owned()]), nodes: Some(3), ..flags() },
                "--host a,b is not allowed; expected 1 or 3 hosts",
            ),
            (
                ShapeFlags { host: Some(vec!["a:1".to_owned()]), ..flags() },
                "--host a:1 is not allowed; expected names or IP addresses, without ports",
            ),
            (
                ShapeFlags { host: Some(vec!["0.0.0.0".to_owned()]), ..flags() },
                "--host 0.0.0.0 is not allowed; expected addresses at which nodes can be reached; a node listens on all interfaces if its host is a name",
            ),
            (
                ShapeFlags { host: Some(vec!["[::]".to_owned()]), ..flags() },
                "--host :: is not allowed; expected addresses at which nodes can be reached; a node listens on all interfaces if its host is a name",
            ),
            (
                ShapeFlags { host: Some(vec!["0".to_owned()]), ..flags() },
                "--host 0 is not allowed; expected names or IP addresses, without ports",
            ),
            (
                ShapeFlags { host: Some(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]), ..flags() },
                "--host a,b,a is not allowed; expected each host once; one host alone is that of all nodes",
            ),
        ];
        for (flags, expected) in cases {
            let error = flags.resolve().unwrap_err();
            assert_eq!((error.to_string().as_str(), error.exit()), (expected, Exit::Usage));
        }
    }
}
