//! What a node answers of itself: about the connection, the server and its commands.

use super::acl::told;
use super::clients::Client;
use super::{RespDoor, cluster, settings};
use crate::runtime::system_clock;
use kvorum_protocol::Durability;
use kvorum_resp::command::{
    ClientCommand, ClientFilter, ClientInfo, ClientReply, Hello, IntrospectionCommand, LatencyCommand,
};
use kvorum_resp::{Command, ReplyWriter, RespVersion, table};
use std::sync::Arc;

/// The version of Redis whose commands and texts these are.
pub(super) const REDIS_VERSION: &str = "7.2.4";
/// Steps that a pattern may take for the names of commands.
const PATTERN_STEPS: u64 = 1_000_000;

/// How a connection is spoken with. All that it has and keeps while it is parked, beside its stream.
#[derive(Debug)]
pub(super) struct Manners {
    /// The connection, as others see it.
    pub(super) client: Arc<Client>,
    /// What it speaks.
    pub(super) version: RespVersion,
    /// Which replies it wants.
    pub(super) replies: Replies,
    /// It is to be closed once it has its reply.
    pub(super) ends: bool,
    /// The command that came last.
    pub(super) last_command: &'static str,
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

impl Manners {
    /// With a client that has said nothing.
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, version: RespVersion::Two, replies: Replies::On, ends: false, last_command: "NULL" }
    }

    fn speak(&mut self, version: RespVersion) {
        self.version = version;
        self.client.about(|about| about.version = version);
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
pub(super) fn answer(
    door: &RespDoor,
    manners: &mut Manners,
    command: &Command<'_>,
    reply: &mut ReplyWriter<'_>,
) -> bool {
    match *command {
        Command::Ping(None) => reply.simple("PONG"),
        Command::Ping(Some(text)) | Command::Echo(text) => reply.bulk(text),
        Command::Hello(hello) => unreachable!("{hello:?} is answered in the version that it asks for"),
        Command::Auth(_) => reply.error(b"ERR AUTH inside MULTI is not allowed"),
        Command::Quit
        | Command::Asking
        | Command::ReadOnly
        | Command::ReadWrite
        | Command::FunctionFlush
        | Command::Select(0) => reply.ok(),
        Command::Select(_) if door.is_cluster() => reply.error(b"ERR SELECT is not allowed in cluster mode"),
        Command::Select(_) => reply.error(b"ERR DB index is out of range: Kvorum has database 0"),
        Command::Reset => {
            // It answers in the version that it goes back to.
            manners.speak(RespVersion::Two);
            manners.replies = Replies::On;
            manners.client.about(|about| about.name.clear());
            door.node.clients.stop_monitoring(&manners.client);
            reply.simple("RESET");
        }
        Command::Client(command) => answer_client(door, manners, &command, reply),
        Command::Time => {
            let now_us = door.wall_ms() * 1000;
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
        Command::Config(command) => settings::answer(door, &command, reply),
        Command::Introspection(command) => answer_introspection(&command, reply),
        Command::ModuleList => reply.array(0),
        Command::Slowlog(command) => door.node.slowlog.answer(&command, reply),
        Command::Latency(LatencyCommand::Histogram(names)) => door.node.command_counts.answer_histogram(names, reply),
        Command::Latency(command) => answer_latency(&command, reply),
        // An answered write is with a quorum, and this is told behind the answers to the writes before it.
        Command::Wait { replicas, .. } if replicas <= door.acked_replicas() => reply.integer(door.acked_replicas()),
        Command::WaitAof { .. } => {
            let is_synced = door.node.context.router.ring().durability == Durability::Fsync;
            reply.array(2);
            reply.integer(i64::from(is_synced));
            reply.integer(if is_synced { door.acked_replicas() } else { 0 });
        }
        Command::Monitor => {
            door.node.clients.begin_monitoring(&manners.client);
            reply.ok();
        }
        // Nobody can subscribe yet.
        Command::Publish { .. } => reply.integer(0),
        Command::Help(spec) => table::write_help(reply, spec),
        Command::Cluster(_) if !door.is_cluster() => reply.error(b"ERR This instance has cluster support disabled"),
        Command::Cluster(command) => return cluster::answer(door, &command, manners.client.to.ip(), reply),
        _ => return false,
    }
    true
}

/// HELLO. The reply has the version that it asks for.
pub(super) fn answer_hello(
    door: &RespDoor,
    manners: &mut Manners,
    hello: &Hello<'_>,
    output: &mut kvorum_resp::Output,
) {
    manners.speak(hello.version.unwrap_or(manners.version));
    if let Some(name) = hello.client_name {
        manners.client.about(|about| about.name = name.to_vec());
    }
    let mut reply = ReplyWriter::new(output, manners.version);
    reply.map(7);
    let text = |reply: &mut ReplyWriter<'_>, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(&mut reply, "server", "redis");
    text(&mut reply, "version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(manners.version.number());
    reply.bulk(b"id");
    reply.integer(manners.client.number as i64);
    text(&mut reply, "mode", if door.is_cluster() { "cluster" } else { "standalone" });
    text(&mut reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
}

pub(super) const WRONG_PASSWORD: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

/// Whether there is a user of that name. Who has said none is called `default`.
fn is_user(door: &RespDoor, user: &[u8]) -> bool {
    let table = door.node.context.router.auth().table();
    user == b"default" || std::str::from_utf8(user).is_ok_and(|user| table.users.contains_key(user))
}

fn answer_client(door: &RespDoor, manners: &mut Manners, command: &ClientCommand<'_>, reply: &mut ReplyWriter<'_>) {
    let client = &manners.client;
    match *command {
        ClientCommand::Id => reply.integer(client.number as i64),
        ClientCommand::GetName => match client.about(|about| about.name.clone()) {
            name if name.is_empty() => reply.null(),
            name => reply.bulk(&name),
        },
        ClientCommand::SetName(name) => {
            client.about(|about| about.name = name.to_vec());
            reply.ok();
        }
        ClientCommand::SetInfo(info) => {
            client.about(|about| match info {
                ClientInfo::LibraryName(name) => about.library = name.to_vec(),
                ClientInfo::LibraryVersion(version) => about.library_version = version.to_vec(),
            });
            reply.ok();
        }
        ClientCommand::Info => reply.verbatim(&client.line(system_clock::monotonic())),
        ClientCommand::List(filter) => reply.verbatim(&door.node.clients.list(filter)),
        ClientCommand::NoEvict(_) | ClientCommand::NoTouch(_) => reply.ok(),
        ClientCommand::GetRedirection => reply.integer(-1),
        ClientCommand::Reply(wanted) => {
            manners.replies = match wanted {
                ClientReply::On => Replies::On,
                ClientReply::Off => Replies::Off,
                ClientReply::SkipNext if manners.replies == Replies::Off => Replies::Off,
                ClientReply::SkipNext => Replies::SkipNext,
            };
            reply.ok();
        }
        ClientCommand::KillAddress(address) => {
            let filter = ClientFilter {
                id: None,
                kind: None,
                address: Some(address),
                local_address: None,
                user: None,
                age_min_s: None,
                skips_me: false,
            };
            let (killed, is_asking) = door.node.clients.kill(&filter, client.number);
            manners.ends |= is_asking;
            if killed > 0 { reply.ok() } else { reply.error(b"ERR No such client") }
        }
        ClientCommand::Kill(ClientFilter { user: Some(user), .. }) if !is_user(door, user) => {
            let user = told(user);
            reply.error(format!("ERR No such user '{user}'").as_bytes());
        }
        ClientCommand::Kill(filter) => {
            let (killed, is_asking) = door.node.clients.kill(&filter, client.number);
            manners.ends |= is_asking;
            reply.count(killed);
        }
    }
}

/// LATENCY: nothing is watched, as in a Redis whose `latency-monitor-threshold` is 0.
fn answer_latency(command: &LatencyCommand<'_>, reply: &mut ReplyWriter<'_>) {
    match *command {
        LatencyCommand::Doctor => reply.verbatim(
            b"Kvorum watches latency in its metrics (docs/METRICS.md), not here. SLOWLOG has the commands that took long.\n",
        ),
        LatencyCommand::Graph(event) => {
            let event = told(event);
            reply.error(format!("ERR No samples available for event '{event}'").as_bytes());
        }
        LatencyCommand::Histogram(_) | LatencyCommand::History(_) | LatencyCommand::Latest => reply.array(0),
        LatencyCommand::Reset(_) => reply.integer(0),
    }
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
