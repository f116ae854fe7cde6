//! Configuration of a node: parsed from a file, the environment and flags, validated as a whole, then immutable.
//!
//! This module is pure: who calls it has read the file and the environment. Precedence: flags, then environment, then
//! file, then defaults.

mod fields;
mod problem;
mod reading;

pub use fields::{FIELDS, Field, PREFIX};
pub use problem::{ConfigErrors, ConfigProblem, Origin};
pub use reading::{Setting, Sources};

use crate::audit::file::AuditTarget;
use crate::traces::{TraceReceiver, TracesConfig};
use figment::value::Dict;
use kvorum_core::limits::ELECTION_TICKS;
use kvorum_core::ring::address::is_address;
use kvorum_protocol::limits::{NAME_BYTES_MAX, NODES_MAX, REPLICAS_MAX, SHARDS_MAX};
use kvorum_protocol::peer::{Levels, RespAddresses};
use kvorum_protocol::{ClusterId, Durability, NodeId, UserLimits};
use kvorum_scram::Verifier;
use reading::Reading;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// A node's validated configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This node, one of `members`.
    pub node_id: NodeId,
    /// This node's name, as `members` gives it.
    pub name: String,
    /// This node's failure zone, as `members` gives it; empty if none.
    pub zone: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Shards of the ring: a power of two, at most [`SHARDS_MAX`].
    pub shards: u16,
    /// Replicas of each shard: odd, at most [`REPLICAS_MAX`] and the number of members.
    pub replication_factor: u8,
    /// What "committed" means in this cluster.
    pub durability: Durability,
    /// Where the binary door listens.
    pub client_listen: SocketAddr,
    /// `host:port` where clients reach this node.
    pub client_advertise: String,
    /// Where this node listens for its peers.
    pub peer_listen: SocketAddr,
    /// `host:port` where peers reach this node.
    pub peer_advertise: String,
    /// Where the HTTP door listens, unless it is closed.
    pub http_listen: Option<SocketAddr>,
    /// Where the RESP door listens, unless it is closed.
    pub resp_listen: Option<SocketAddr>,
    /// `host:port` where clients of Redis reach that door, if it was said.
    pub resp_announce: Option<String>,
    /// Where the RESP door of clients that follow slots listens, unless it is closed.
    pub resp_cluster_listen: Option<SocketAddr>,
    /// `host:port` where they reach it, if it was said.
    pub resp_cluster_announce: Option<String>,
    /// EXEC may do its part in each of several shards.
    pub resp_splits_exec: bool,
    /// Most client connections at once.
    pub connections_max: u32,
    /// See [`Config::workers_on`].
    pub workers: Option<usize>,
    /// The shortest election timeout; [`ELECTION_TICKS`] ticks.
    pub election_timeout: Duration,
    /// The journal's files.
    pub journal: JournalConfig,
    /// Bytes of the disk that are to be left free.
    pub disk_headroom_bytes: u64,
    /// Bytes that compaction reads and writes per second; 0 turns it off.
    pub compaction_bytes_per_second: u64,
    /// What the indexes may take in memory.
    pub index_limit: IndexLimit,
    /// Whether the kernel may give out memory in huge pages.
    pub huge_pages: bool,
    /// How many bytes per second are read again to verify them; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// Whether admin commands may inject faults.
    pub fault_hooks: bool,
    /// Where the certificates are.
    pub tls: TlsConfig,
    /// Who is let in.
    pub auth: AuthConfig,
    /// How much may come from one address.
    pub limits: LimitsConfig,
    /// Where it is written down who did what.
    pub audit: Option<AuditTarget>,
    /// From how many milliseconds on an operation is slow; 0 if none is.
    pub slow_ms: u64,
    /// What is traced, and where it goes.
    pub traces: TracesConfig,
    /// Where the key-encryption key is, if the node has one.
    pub encryption: EncryptionConfig,
    /// What this program speaks: [`Levels::OWN`]. Not a setting; a test of programs to come puts another value here.
    pub levels: Levels,
    /// How long a node that is down is waited for before what it holds is made anew.
    pub repair_hold: Duration,
    /// This node joins a cluster that is there: it founds nothing, and `members` are the nodes that it asks.
    pub joins: bool,
    /// The cluster's initial members, this node among them; its own entry holds the advertised addresses.
    pub members: Vec<Member>,
    /// All fields with a single value, as they were given, for people.
    pub settings: Vec<Setting>,
}

/// Whether clients must say who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthMode {
    /// Everybody may do everything.
    Open,
    /// Who has not logged in may do nothing.
    Required,
}

/// Who is let in at the doors of clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthConfig {
    /// Whether clients must say who they are.
    pub mode: AuthMode,
    /// Everybody may do everything, whatever the cluster says and whoever can reach the node.
    pub insecure_open: bool,
    /// Where the first password of the user `admin` stands.
    pub bootstrap_password_file: Option<PathBuf>,
    /// What checks the first password of the user `admin`, unless a file holds it.
    pub bootstrap_verifier: Option<Verifier>,
}

/// How much may come from one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Requests and bytes.
    pub rates: UserLimits,
    /// Connections; 0 for no limit.
    pub connections: u32,
}

/// What wraps the keys with which stored data is sealed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EncryptionConfig {
    /// The key-encryption key.
    pub key: Option<KekSource>,
    /// The one before it.
    pub old_key: Option<KekSource>,
}

/// Where a key-encryption key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KekSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
    /// With a program, which does not give it away.
    Program(PathBuf),
}

/// What the indexes of a node may take in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexLimit {
    /// A quarter of what the machine has.
    QuarterOfMemory,
    /// So many bytes.
    Bytes(u64),
    /// As much as they want.
    None,
}

impl IndexLimit {
    /// The limit in bytes on a machine with so much memory (`None` if that is not known); `u64::MAX` if there is none.
    pub fn bytes(self, machine_bytes: Option<u64>) -> u64 {
        match self {
            Self::QuarterOfMemory => machine_bytes.map_or(u64::MAX, |bytes| bytes / 4),
            Self::Bytes(bytes) => bytes,
            Self::None => u64::MAX,
        }
    }
}

/// The ring of journal files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// Size of one file, in bytes; a multiple of 4096.
    pub file_bytes: u64,
    /// How many files are kept allocated.
    pub files: u16,
}

/// The doors of clients that speak TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TlsDoors {
    /// The binary door.
    pub client: bool,
    /// The HTTP door.
    pub http: bool,
    /// The RESP door for clients that know one server.
    pub resp: bool,
    /// The RESP door for clients that follow slots.
    pub resp_cluster: bool,
}

impl TlsDoors {
    /// All of them.
    pub const ALL: Self = Self { client: true, http: true, resp: true, resp_cluster: true };

    /// Those of a text such as `http,resp`; `off` for none, `all` for all.
    pub fn read(text: &str) -> Option<Self> {
        let mut doors = match text {
            "off" => return Some(Self::default()),
            "all" => return Some(Self::ALL),
            _ => Self::default(),
        };
        for name in text.split(',') {
            let door = match name.trim() {
                "client" => &mut doors.client,
                "http" => &mut doors.http,
                "resp" => &mut doors.resp,
                "resp_cluster" => &mut doors.resp_cluster,
                _ => return None,
            };
            *door = true;
        }
        Some(doors)
    }
}

impl fmt::Display for TlsDoors {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            [(self.client, "client"), (self.http, "http"), (self.resp, "resp"), (self.resp_cluster, "resp_cluster")];
        let names: Vec<&str> = named.into_iter().filter_map(|(speaks, name)| speaks.then_some(name)).collect();
        f.write_str(&match names.len() {
            0 => "off".to_owned(),
            4 => "all".to_owned(),
            _ => names.join(","),
        })
    }
}

/// TLS: PEM files, for peers and for clients, and which doors of clients speak it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The cluster's certificate authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// This node's private key.
    pub key: PathBuf,
    /// The doors of clients that speak TLS. Peers always do.
    pub doors: TlsDoors,
}

/// One of the nodes that the cluster is created with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its failure zone; empty if none.
    pub zone: String,
    /// `host:port` where clients reach it.
    pub client: String,
    /// `host:port` where peers reach it.
    pub peer: String,
}

impl Config {
    /// How many threads answer requests on a machine with so many processors: those that were configured, or this node's
    /// share of the processors, at least one. Members whose peers reach them at one host share its processors.
    pub fn workers_on(&self, processors: usize) -> usize {
        let host = |member: &Member| member.peer.rsplit_once(':').map(|(host, _)| host.to_owned());
        let own = self.members.iter().find(|member| member.id == self.node_id).and_then(host);
        let sharing = self.members.iter().filter(|member| host(member) == own).count();
        self.workers.unwrap_or_else(|| (processors / sharing.max(1)).max(1))
    }

    /// Parses and validates.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn parse(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut reading = Reading::new(sources);
        if !reading.is_readable() {
            return Err(ConfigErrors(reading.problems));
        }
        let config = read(&mut reading);
        match config {
            Some(config) if reading.problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(reading.problems)),
        }
    }

    /// Where clients of Redis reach this node, for its peers to know.
    pub fn resp_addresses(&self) -> RespAddresses {
        let address = |announce: &Option<String>, listen: Option<SocketAddr>| match (announce, listen) {
            (_, None) => String::new(),
            (Some(announced), Some(_)) => announced.clone(),
            (None, Some(listen)) => format!(":{}", listen.port()),
        };
        RespAddresses {
            standalone: address(&self.resp_announce, self.resp_listen),
            cluster: address(&self.resp_cluster_announce, self.resp_cluster_listen),
        }
    }

    /// One tick of the consensus clock.
    pub fn tick(&self) -> Duration {
        self.election_timeout / ELECTION_TICKS
    }
}

/// Takes every field before it gives up, so that every problem is reported.
fn read(reading: &mut Reading) -> Option<Config> {
    let cluster_id = reading.required(&fields::CLUSTER_ID, uuid).map(ClusterId);
    let node_id = reading.required(&fields::NODE_ID, uuid).map(NodeId);
    let data_dir = reading.required_with_origin(&fields::DATA_DIR, path);
    let shards = reading.required(&fields::SHARDS, |text| {
        let shards = number(text, 1, SHARDS_MAX as u64)?;
        shards.is_power_of_two().then_some(shards as u16)
    });
    let replication_factor = reading.required(&fields::REPLICATION_FACTOR, |text| {
        let factor = number(text, 1, REPLICAS_MAX as u64)?;
        (factor % 2 == 1).then_some(factor as u8)
    });
    let durability = reading.required(&fields::DURABILITY, durability);
    let client_listen = reading.required(&fields::CLIENT_LISTEN, |text| SocketAddr::from_str(text).ok());
    let client_advertise = reading.optional(&fields::CLIENT_ADVERTISE, address);
    let peer_listen = reading.required(&fields::PEER_LISTEN, |text| SocketAddr::from_str(text).ok());
    let peer_advertise = reading.optional(&fields::PEER_ADVERTISE, address);
    let address_or_off = |text: &str| match text {
        "off" => Some(None),
        text => SocketAddr::from_str(text).ok().map(Some),
    };
    let http_listen = reading.required(&fields::HTTP_LISTEN, address_or_off);
    let resp_listen = reading.required(&fields::RESP_LISTEN, address_or_off);
    let resp_announce = reading.optional(&fields::RESP_ANNOUNCE, address);
    let resp_cluster_listen = reading.required(&fields::RESP_CLUSTER_LISTEN, address_or_off);
    let resp_cluster_announce = reading.optional(&fields::RESP_CLUSTER_ANNOUNCE, address);
    let resp_splits_exec = reading.required(&fields::RESP_EXEC_ACROSS_SHARDS, |text| match text {
        "refuse" => Some(false),
        "split" => Some(true),
        _ => None,
    });
    let connections_max = reading.required(&fields::CONNECTIONS_MAX, |text| Some(number(text, 1, 65_536)? as u32));
    let workers = reading.optional(&fields::WORKERS, |text| number(text, 1, 256).map(|count| count as usize));
    let election_timeout = reading.required(&fields::ELECTION_TIMEOUT_MS, |text| {
        let timeout_ms = number(text, 100, 60_000)?;
        (timeout_ms % u64::from(ELECTION_TICKS) == 0).then_some(Duration::from_millis(timeout_ms))
    });
    let journal = read_journal(reading);
    let disk_headroom_bytes = reading.required(&fields::DISK_HEADROOM_MB, mebibytes);
    let compaction_bytes_per_second = reading.required(&fields::COMPACTION_RATE_MB, mebibytes);
    let index_bytes_max = reading.optional(&fields::MEMORY_INDEX_MAX_MB, mebibytes);
    let huge_pages = reading.required(&fields::MEMORY_HUGE_PAGES, |text| bool::from_str(text).ok());
    let scrub_bytes_per_second = reading.required(&fields::SCRUB_RATE_MB, mebibytes);
    let tls = read_tls(reading);
    let auth = read_auth(
        reading,
        &[client_listen, http_listen.flatten(), resp_listen.flatten(), resp_cluster_listen.flatten()],
    );
    let audit = read_audit(reading);
    let limits = read_limits(reading);
    let slow_ms = reading.required(&fields::SLOW_MS, |text| number(text, 0, 600_000));
    let traces = read_traces(reading);
    let encryption = read_encryption(reading);
    let fault_hooks = reading.required(&fields::FAULT_HOOKS, |text| bool::from_str(text).ok());
    let repair_hold = reading.required(&fields::REPAIR_HOLD_S, |text| number(text, 0, 86_400).map(Duration::from_secs));
    let joins = reading.required(&fields::JOINS, |text| bool::from_str(text).ok());
    let members = read_members(reading);
    reading.reject_unknown(&[("members", fields::member::FIELDS)]);

    let (node_id, replication_factor, mut members) = (node_id?, replication_factor?, members?);
    check_members(reading, &members, node_id, if joins == Some(true) { 1 } else { replication_factor });
    if joins == Some(true) && members.len() == 1 {
        reading.contradiction("members", "a node that joins needs another one to ask".to_owned());
    }
    let own = members.iter_mut().find(|member| member.id == node_id)?;
    own.client = client_advertise.unwrap_or_else(|| own.client.clone());
    own.peer = peer_advertise.unwrap_or_else(|| own.peer.clone());
    let own = own.clone();
    Some(Config {
        cluster_id: cluster_id?,
        node_id,
        name: own.name,
        zone: own.zone,
        data_dir: data_dir?,
        shards: shards?,
        replication_factor,
        durability: durability?,
        client_listen: client_listen?,
        client_advertise: own.client,
        peer_listen: peer_listen?,
        peer_advertise: own.peer,
        http_listen: http_listen?,
        resp_listen: resp_listen?,
        resp_announce,
        resp_cluster_listen: resp_cluster_listen?,
        resp_cluster_announce,
        resp_splits_exec: resp_splits_exec?,
        connections_max: connections_max?,
        workers,
        election_timeout: election_timeout?,
        journal: journal?,
        disk_headroom_bytes: disk_headroom_bytes?,
        compaction_bytes_per_second: compaction_bytes_per_second?,
        scrub_bytes_per_second: scrub_bytes_per_second?,
        index_limit: match index_bytes_max {
            None => IndexLimit::QuarterOfMemory,
            Some(0) => IndexLimit::None,
            Some(bytes) => IndexLimit::Bytes(bytes),
        },
        huge_pages: huge_pages?,
        fault_hooks: fault_hooks?,
        tls: tls?,
        auth: auth?,
        limits: limits?,
        audit: audit?,
        slow_ms: slow_ms?,
        traces: traces?,
        encryption,
        levels: Levels::OWN,
        repair_hold: repair_hold?,
        joins: joins?,
        members,
        settings: std::mem::take(&mut reading.settings),
    })
}

/// A file holds each shard's mark and a chunk that just does not bypass the journal.
pub const JOURNAL_FILE_BYTES_MIN: u64 = 4 * 1024 * 1024;

fn read_journal(reading: &mut Reading) -> Option<JournalConfig> {
    let file_bytes = reading.required(&fields::JOURNAL_FILE_BYTES, |text| {
        let bytes = number(text, JOURNAL_FILE_BYTES_MIN, 1024 * 1024 * 1024)?;
        (bytes % 4096 == 0).then_some(bytes)
    });
    let files = reading.required(&fields::JOURNAL_FILES, |text| Some(number(text, 2, 64)? as u16));
    Some(JournalConfig { file_bytes: file_bytes?, files: files? })
}

fn read_traces(reading: &mut Reading) -> Option<TracesConfig> {
    let receiver = reading.required(&fields::TRACES_OTLP, |text| match text {
        "off" => Some(None),
        text => TraceReceiver::read(text).map(Some),
    });
    let one_of = reading.required(&fields::TRACES_ONE_OF, |text| Some(number(text, 0, u32::MAX.into())? as u32));
    Some(TracesConfig { receiver: receiver?, one_of: one_of? })
}

fn read_tls(reading: &mut Reading) -> Option<TlsConfig> {
    let ca = reading.required_with_origin(&fields::TLS_CA, path);
    let certificate = reading.required_with_origin(&fields::TLS_CERTIFICATE, path);
    let key = reading.required_with_origin(&fields::TLS_KEY, path);
    let doors = reading.required(&fields::TLS_DOORS, TlsDoors::read);
    Some(TlsConfig { ca: ca?, certificate: certificate?, key: key?, doors: doors? })
}

fn read_auth(reading: &mut Reading, doors: &[Option<SocketAddr>]) -> Option<AuthConfig> {
    let mode = reading.required(&fields::AUTH_MODE, |text| match text {
        "open" => Some(AuthMode::Open),
        "required" => Some(AuthMode::Required),
        _ => None,
    });
    let insecure_open = reading.required(&fields::AUTH_INSECURE_OPEN, |text| bool::from_str(text).ok());
    let bootstrap_password_file = reading.with_origin(&fields::AUTH_BOOTSTRAP_PASSWORD_FILE, path);
    let open_door = doors.iter().flatten().find(|door| !door.ip().is_loopback());
    if let (Some(AuthMode::Open), Some(false), Some(door)) = (mode, insecure_open, open_door) {
        reading.contradiction(
            "auth.mode",
            format!(
                "everybody who reaches {door} may do everything: set auth.mode = \"required\", or auth.insecure_open = true if \
                 that is wanted"
            ),
        );
    }
    let bootstrap_verifier = reading.optional(&fields::AUTH_BOOTSTRAP_VERIFIER, |text| text.parse().ok());
    if mode == Some(AuthMode::Required) && insecure_open == Some(true) {
        reading.contradiction("auth.insecure_open", "auth.mode is \"required\": leave one of the two out".to_owned());
    }
    Some(AuthConfig { mode: mode?, insecure_open: insecure_open?, bootstrap_password_file, bootstrap_verifier })
}

fn read_limits(reading: &mut Reading) -> Option<LimitsConfig> {
    let requests = reading.required(&fields::LIMITS_ADDRESS_REQUESTS, |text| number(text, 0, u32::MAX.into()));
    let bytes_per_s = reading.required(&fields::LIMITS_ADDRESS_MB, mebibytes);
    let connections = reading.required(&fields::LIMITS_ADDRESS_CONNECTIONS, |text| number(text, 0, 65_536));
    let rates = UserLimits { requests_per_s: requests? as u32, bytes_per_s: bytes_per_s?, connections: 0 };
    Some(LimitsConfig { rates, connections: connections? as u32 })
}

fn read_audit(reading: &mut Reading) -> Option<Option<AuditTarget>> {
    let bytes_max = reading.required(&fields::AUDIT_FILE_MB, |text| Some(number(text, 1, 1024 * 1024)? << 20));
    let kept = reading.required(&fields::AUDIT_FILES, |text| Some(number(text, 0, 1000)? as u32));
    let (bytes_max, kept) = (bytes_max?, kept?);
    reading.required_with_origin(&fields::AUDIT_FILE, |text, origin| {
        Some(match text {
            "off" => None,
            "stderr" => Some(AuditTarget::Stderr),
            _ => Some(AuditTarget::File { path: path(text, origin)?, bytes_max, kept }),
        })
    })
}

fn read_encryption(reading: &mut Reading) -> EncryptionConfig {
    let key = reading.with_origin(&fields::ENCRYPTION_KEY, kek_source);
    let old_key = reading.with_origin(&fields::ENCRYPTION_OLD_KEY, kek_source);
    if old_key.is_some() && key.is_none() {
        reading.contradiction("encryption.old_key", "there is no encryption.key that has taken its place".to_owned());
    }
    EncryptionConfig { key, old_key }
}

impl KekSource {
    /// Reads `file:PATH`, `env:NAME` or `exec:/PROGRAM`. A relative path begins at `folder`.
    pub fn parse(text: &str, folder: &Path) -> Option<Self> {
        let (kind, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty())?;
        match kind {
            "file" => Some(Self::File(folder.join(rest))),
            "env" => Some(Self::Variable(rest.to_owned())),
            "exec" => Some(Self::Program(rest.into())).filter(|_| Path::new(rest).is_absolute()),
            _ => None,
        }
    }
}

fn kek_source(text: &str, origin: &Origin) -> Option<KekSource> {
    KekSource::parse(text, folder_of(origin))
}

fn read_members(reading: &mut Reading) -> Option<Vec<Member>> {
    let tables = reading.tables("members", "a list of tables [[members]] with id, name, client and peer");
    let members: Vec<Option<Member>> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| read_member(reading, table, &format!("members[{index}]")))
        .collect();
    members.into_iter().collect()
}

fn read_member(reading: &mut Reading, table: &Dict, place: &str) -> Option<Member> {
    use fields::member::{CLIENT, ID, NAME_OF, PEER, ZONE};
    let id = reading.entry(table, place, &ID, uuid).map(NodeId);
    let name = reading.entry(table, place, &NAME_OF, |text| if text.is_empty() { None } else { label(text) });
    let zone = reading.entry(table, place, &ZONE, label);
    let client = reading.entry(table, place, &CLIENT, address);
    let peer = reading.entry(table, place, &PEER, address);
    Some(Member { id: id?, name: name?, zone: zone?, client: client?, peer: peer? })
}

/// What must hold between the members and the other fields.
fn check_members(reading: &mut Reading, members: &[Member], node_id: NodeId, replication_factor: u8) {
    if members.is_empty() || members.len() > NODES_MAX {
        reading.contradiction("members", format!("there are {}, expected 1 to {NODES_MAX}", members.len()));
        return;
    }
    if !members.iter().any(|member| member.id == node_id) {
        reading.contradiction("node_id", format!("{node_id} is not the id of any of the {} members", members.len()));
    }
    if usize::from(replication_factor) > members.len() {
        let members = members.len();
        let detail = format!("{replication_factor} replicas of each shard need as many members, there are {members}");
        reading.contradiction("replication_factor", detail);
    }
    check_unique(reading, "id", members.iter().map(|member| member.id.to_string()));
    check_unique(reading, "name", members.iter().map(|member| member.name.clone()));
    check_unique(reading, "client", members.iter().map(|member| member.client.clone()));
    check_unique(reading, "peer", members.iter().map(|member| member.peer.clone()));
}

fn check_unique(reading: &mut Reading, field: &str, values: impl Iterator<Item = impl Hash + Eq + ToString>) {
    let mut seen = HashSet::new();
    for (index, value) in values.enumerate() {
        let text = value.to_string();
        if !seen.insert(value) {
            reading.contradiction(&format!("members[{index}].{field}"), format!("{text} is another member's too"));
        }
    }
}

fn uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|uuid| !uuid.is_nil())
}

fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

/// A number of MiB as bytes.
fn mebibytes(text: &str) -> Option<u64> {
    Some(number(text, 0, 1024 * 1024)? * 1024 * 1024)
}

fn durability(text: &str) -> Option<Durability> {
    [Durability::Fsync, Durability::Memory].into_iter().find(|durability| durability.to_string() == text)
}

fn label(text: &str) -> Option<String> {
    (text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// An address that others can dial.
fn address(text: &str) -> Option<String> {
    is_address(text).then(|| text.to_owned())
}

/// A relative path in the file starts at the file's folder, anywhere else at the current one.
fn path(text: &str, origin: &Origin) -> Option<PathBuf> {
    (!text.is_empty()).then(|| folder_of(origin).join(text))
}

/// Where relative paths begin.
fn folder_of(origin: &Origin) -> &Path {
    match origin {
        Origin::File(file) => Path::new(file).parent().unwrap_or(Path::new("")),
        _ => Path::new(""),
    }
}

#[cfg(test)]
mod tests;
