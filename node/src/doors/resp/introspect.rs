//! What a node answers of itself: about the connection, the server and its commands.

use super::RespDoor;
use crate::runtime::process::ProcessUse;
use crate::runtime::system_clock;
use kvorum_core::measure::meter::{Door, OperationKind};
use kvorum_protocol::ShardId;
use kvorum_resp::command::{
    ClientCommand, ClientInfo, ClientListFilter, ClientReply, ConfigCommand, Credentials, Hello, IntrospectionCommand,
};
use kvorum_resp::glob::Pattern;
use kvorum_resp::{Command, ReplyWriter, RespVersion, table};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// The version of Redis whose commands and texts these are.
pub(super) const REDIS_VERSION: &str = "7.2.4";
/// Steps that a pattern may take for the names of settings or commands.
const PATTERN_STEPS: u64 = 1_000_000;
/// Longest value of an inert setting.
const SETTING_BYTES_MAX: usize = 1024;

/// Settings that clients and tools ask for, and change, without any effect.
const INERT: &[(&str, &str)] = &[
    ("active-expire-effort", "1"),
    ("activedefrag", "no"),
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("auto-aof-rewrite-percentage", "100"),
    ("bind", "*"),
    ("close-on-oom", "no"),
    ("cluster-enabled", "no"),
    ("databases", "1"),
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "128"),
    ("hash-max-ziplist-value", "64"),
    ("hz", "10"),
    ("latency-monitor-threshold", "0"),
    ("lazyfree-lazy-user-del", "no"),
    ("lazyfree-lazy-user-flush", "no"),
    ("list-compress-depth", "0"),
    ("list-max-listpack-size", "-2"),
    ("list-max-ziplist-size", "-2"),
    ("lua-time-limit", "5000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("min-replicas-to-write", "0"),
    ("notify-keyspace-events", ""),
    ("port", "7430"),
    ("proto-max-bulk-len", "16777216"),
    ("rdb-key-save-delay", "0"),
    ("replica-read-only", "no"),
    ("save", ""),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-max-listpack-value", "64"),
    ("slave-read-only", "no"),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("stream-node-max-bytes", "4096"),
    ("stream-node-max-entries", "100"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("zset-max-ziplist-entries", "128"),
    ("zset-max-ziplist-value", "64"),
];

/// Settings that can't be changed.
const FIXED: &[&str] = &["bind", "cluster-enabled", "databases", "maxmemory-policy", "port", "proto-max-bulk-len"];

/// What inert settings were set to; of one node, until it ends.
#[derive(Debug)]
pub(super) struct Settings(BTreeMap<&'static str, Vec<u8>>);

impl Default for Settings {
    fn default() -> Self {
        Self(INERT.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect())
    }
}

/// What a connection has said of itself.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number, of this node.
    pub(super) number: u64,
    /// Where it comes from.
    pub(super) from: SocketAddr,
    /// What it speaks.
    pub(super) version: RespVersion,
    /// Which replies it wants.
    pub(super) replies: Replies,
    name: Vec<u8>,
    library: Vec<u8>,
    library_version: Vec<u8>,
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// All but the next one.
    SkipNext,
}

impl Client {
    /// One that has said nothing.
    pub(super) fn new(number: u64, from: SocketAddr) -> Self {
        Self {
            number,
            from,
            version: RespVersion::Two,
            replies: Replies::On,
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
        }
    }

    /// As it was when it was new.
    fn reset(&mut self) {
        *self = Self { library: std::mem::take(&mut self.library), ..Self::new(self.number, self.from) };
    }

    /// Whether replies are wanted from here on, other than the next one.
    pub(super) fn wants_replies(&self) -> bool {
        self.replies == Replies::On
    }

    /// Whether the reply to the command that comes now is wanted.
    pub(super) fn wants_reply(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipNext => {
                self.replies = Replies::On;
                false
            }
        }
    }
}

/// Answers a command that needs no key. Gives false, and writes nothing, if it is none of these.
pub(super) fn answer(door: &RespDoor, client: &mut Client, command: &Command<'_>, reply: &mut ReplyWriter<'_>) -> bool {
    match *command {
        Command::Ping(None) => reply.simple("PONG"),
        Command::Ping(Some(text)) | Command::Echo(text) => reply.bulk(text),
        Command::Hello(hello) => unreachable!("{hello:?} is answered in the version that it asks for"),
        Command::Auth(credentials) => authenticate(&credentials, reply),
        Command::Quit
        | Command::Asking
        | Command::ReadOnly
        | Command::ReadWrite
        | Command::FunctionFlush
        | Command::Select(0) => reply.ok(),
        Command::Select(_) => reply.error(b"ERR DB index is out of range: Kvorum has database 0"),
        Command::Reset => {
            client.reset();
            reply.simple("RESET");
        }
        Command::Client(command) => return answer_client(door, client, &command, reply),
        Command::Time => {
            let now_us = door.context.router.clock().now().wall_ms * 1000;
            reply.array(2);
            reply.bulk((now_us / 1_000_000).to_string().as_bytes());
            reply.bulk((now_us % 1_000_000).to_string().as_bytes());
        }
        Command::Role => {
            reply.array(3);
            reply.bulk(b"master");
            reply.integer(0);
            reply.array(0);
        }
        Command::Info(sections) => reply.verbatim(info(door, sections.rest()).as_bytes()),
        Command::Config(command) => answer_config(door, &command, reply),
        Command::Introspection(command) => answer_introspection(&command, reply),
        Command::ModuleList => reply.array(0),
        Command::Help(spec) => table::write_help(reply, spec),
        Command::Cluster(_) => reply.error(b"ERR This instance has cluster support disabled"),
        _ => return false,
    }
    true
}

/// HELLO. The reply has the version that it asks for.
pub(super) fn answer_hello(client: &mut Client, hello: &Hello<'_>, output: &mut kvorum_resp::Output) {
    if let Some(credentials) = &hello.credentials
        && !is_known(credentials)
    {
        return ReplyWriter::new(output, client.version).error(WRONG_PASSWORD);
    }
    client.version = hello.version.unwrap_or(client.version);
    if let Some(name) = hello.client_name {
        client.name = name.to_vec();
    }
    let mut reply = ReplyWriter::new(output, client.version);
    reply.map(7);
    let text = |reply: &mut ReplyWriter<'_>, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(&mut reply, "server", "redis");
    text(&mut reply, "version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(client.version.number());
    reply.bulk(b"id");
    reply.integer(client.number as i64);
    text(&mut reply, "mode", "standalone");
    text(&mut reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
}

const WRONG_PASSWORD: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

/// There is the user `default`, who needs no password.
fn is_known(credentials: &Credentials<'_>) -> bool {
    credentials.user.is_none_or(|user| user == b"default")
}

fn authenticate(credentials: &Credentials<'_>, reply: &mut ReplyWriter<'_>) {
    match credentials.user {
        None => reply.error(
            b"ERR AUTH <password> called without any password configured for the default user. Are you sure your \
              configuration is correct?",
        ),
        Some(_) if is_known(credentials) => reply.ok(),
        Some(_) => reply.error(WRONG_PASSWORD),
    }
}

fn answer_client(
    door: &RespDoor,
    client: &mut Client,
    command: &ClientCommand<'_>,
    reply: &mut ReplyWriter<'_>,
) -> bool {
    match *command {
        ClientCommand::Id => reply.integer(client.number as i64),
        ClientCommand::GetName if client.name.is_empty() => reply.null(),
        ClientCommand::GetName => reply.bulk(&client.name),
        ClientCommand::SetName(name) => {
            client.name = name.to_vec();
            reply.ok();
        }
        ClientCommand::SetInfo(ClientInfo::LibraryName(name)) => {
            client.library = name.to_vec();
            reply.ok();
        }
        ClientCommand::SetInfo(ClientInfo::LibraryVersion(version)) => {
            client.library_version = version.to_vec();
            reply.ok();
        }
        ClientCommand::Info => reply.verbatim(&about(door, client)),
        // The others are not told: a node keeps no list of them yet.
        ClientCommand::List(ClientListFilter::All) => reply.verbatim(&about(door, client)),
        ClientCommand::NoEvict(_) | ClientCommand::NoTouch(_) => reply.ok(),
        ClientCommand::GetRedirection => reply.integer(-1),
        ClientCommand::Reply(wanted) => {
            client.replies = match wanted {
                ClientReply::On => Replies::On,
                ClientReply::Off => Replies::Off,
                ClientReply::SkipNext if client.replies == Replies::Off => Replies::Off,
                ClientReply::SkipNext => Replies::SkipNext,
            };
            reply.ok();
        }
        ClientCommand::List(_) | ClientCommand::Kill(_) | ClientCommand::KillAddress(_) => return false,
    }
    true
}

fn about(door: &RespDoor, client: &Client) -> Vec<u8> {
    let mut line = format!("id={} addr={} laddr={} name=", client.number, client.from, door.address).into_bytes();
    line.extend_from_slice(&client.name);
    let resp = client.version.number();
    line.extend_from_slice(format!(" db=0 sub=0 psub=0 multi=-1 user=default resp={resp} lib-name=").as_bytes());
    line.extend_from_slice(&client.library);
    line.extend_from_slice(b" lib-ver=");
    line.extend_from_slice(&client.library_version);
    line.push(b'\n');
    line
}

fn answer_introspection(command: &IntrospectionCommand<'_>, reply: &mut ReplyWriter<'_>) {
    match *command {
        IntrospectionCommand::Count => reply.count(table::commands().len()),
        IntrospectionCommand::Info(names) => table::write_info(reply, names),
        IntrospectionCommand::Docs(names) => table::write_docs(reply, names),
        IntrospectionCommand::List(filter) => table::write_list(reply, filter, PATTERN_STEPS),
        IntrospectionCommand::GetKeys { command, with_access } => {
            if let Err(error) = table::write_keys(reply, command, with_access) {
                reply.command_error(&error);
            }
        }
    }
}

fn answer_config(door: &RespDoor, command: &ConfigCommand<'_>, reply: &mut ReplyWriter<'_>) {
    let mut settings = door.settings.lock();
    match *command {
        ConfigCommand::Get(patterns) => {
            let patterns: Vec<Pattern> = patterns.map(|pattern| Pattern::new(pattern, true)).collect();
            let mut steps = PATTERN_STEPS;
            let mut is_asked =
                |name: &str| patterns.iter().any(|pattern| pattern.matches(name.as_bytes(), &mut steps) == Ok(true));
            let asked: Vec<_> = settings.0.iter().filter(|(name, _)| is_asked(name)).collect();
            reply.map(asked.len());
            for (name, value) in asked {
                reply.bulk(name.as_bytes());
                reply.bulk(value);
            }
        }
        ConfigCommand::Set(pairs) => {
            let mut changes = Vec::new();
            for (name, value) in pairs {
                let known = INERT.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
                let Some((known, _)) = known else {
                    let name = String::from_utf8_lossy(&name[..name.len().min(128)]);
                    let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
                    return reply.error(text.as_bytes());
                };
                let is_fixed = FIXED.contains(known) || value.len() > SETTING_BYTES_MAX;
                if is_fixed && settings.0.get(known).is_none_or(|now| now != value) {
                    let text = format!(
                        "ERR CONFIG SET failed (possibly related to argument '{known}') - can't set immutable config"
                    );
                    return reply.error(text.as_bytes());
                }
                changes.push((*known, value.to_vec()));
            }
            settings.0.extend(changes);
            reply.ok();
        }
        ConfigCommand::ResetStat => reply.ok(),
    }
}

/// Sections of INFO.
const SECTIONS: [&str; 8] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace"];

fn info<'a>(door: &RespDoor, asked: impl Iterator<Item = &'a [u8]> + Clone) -> String {
    let any = |word: &str| asked.clone().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let is_all = asked.clone().next().is_none() || ["all", "everything", "default"].into_iter().any(any);
    let sections = SECTIONS.into_iter().filter(|section| is_all || any(section));
    let texts: Vec<String> =
        sections.map(|section| format!("# {}\r\n{}", title(section), fields(door, section))).collect();
    texts.join("\r\n")
}

fn title(section: &str) -> String {
    let (first, rest) = section.split_at(1);
    first.to_ascii_uppercase() + rest
}

fn fields(door: &RespDoor, section: &str) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = write!(text, "{name}:{value}\r\n");
    };
    match section {
        "server" => {
            let uptime_s = system_clock::monotonic().0.saturating_sub(door.started.0) / 1_000_000_000;
            field("redis_version", &REDIS_VERSION);
            field("server_name", &"kvorum");
            field("kvorum_version", &env!("CARGO_PKG_VERSION"));
            field("redis_mode", &"standalone");
            field("os", &std::env::consts::OS);
            field("arch_bits", &usize::BITS);
            field("process_id", &std::process::id());
            field("run_id", &door.run_id);
            field("tcp_port", &door.address.port());
            field("uptime_in_seconds", &uptime_s);
            field("uptime_in_days", &(uptime_s / 86_400));
        }
        "clients" => {
            field("connected_clients", &door.places.open(Door::Resp));
            field("maxclients", &door.places.max());
            field("blocked_clients", &0);
        }
        "memory" => {
            field("used_memory", &ProcessUse::look().resident_bytes);
            field("maxmemory", &0);
            field("maxmemory_policy", &"noeviction");
        }
        "persistence" => field("loading", &0),
        "stats" => {
            let (received, sent) = door.counts.bytes(Door::Resp);
            let (let_in, turned_away) = door.places.let_in_and_turned_away(Door::Resp);
            let answered = OperationKind::ALL.iter().map(|kind| door.counts.durations(Door::Resp, *kind).count());
            field("total_connections_received", &let_in);
            field("total_commands_processed", &answered.sum::<u64>());
            field("total_net_input_bytes", &received);
            field("total_net_output_bytes", &sent);
            field("rejected_connections", &turned_away);
        }
        "replication" => {
            field("role", &"master");
            field("connected_slaves", &0);
            field("master_replid", &door.run_id);
            field("master_repl_offset", &0);
        }
        "cluster" => field("cluster_enabled", &0),
        _ => {
            let held = door.context.router.all_local();
            let held = held.iter().filter(|handle| handle.shard != ShardId::META);
            let keys: u64 = held.map(|handle| handle.reader.keys()).sum();
            if keys > 0 {
                field("db0", &format!("keys={keys},expires=0,avg_ttl=0"));
            }
        }
    }
    text
}
