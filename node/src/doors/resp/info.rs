//! INFO.

use super::RespDoor;
use super::introspect::REDIS_VERSION;
use crate::runtime::process::ProcessUse;
use crate::runtime::system_clock;
use kvorum_core::measure::meter::{Door, OperationKind};
use kvorum_protocol::ShardId;
use std::fmt::Write as _;

/// Sections of INFO but the last one, `keyspace`.
const SECTIONS: [&str; 9] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", COMMAND_STATS, "cluster"];
/// Not among the usual ones.
const COMMAND_STATS: &str = "commandstats";

/// The text of INFO for the sections that are asked for; the usual ones if none is named. And whether the keyspace is one of them,
/// which comes behind it.
pub(super) fn text<'a>(door: &RespDoor, asked: impl Iterator<Item = &'a [u8]> + Clone) -> (String, bool) {
    let any = |word: &str| asked.clone().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let is_all = ["all", "everything"].into_iter().any(any);
    let is_usual = is_all || asked.clone().next().is_none() || any("default");
    let is_asked = |section: &str| any(section) || if section == COMMAND_STATS { is_all } else { is_usual };
    let sections = SECTIONS.into_iter().filter(|section| is_asked(section));
    let texts: Vec<String> =
        sections.map(|section| format!("# {}\r\n{}", title(section), fields(door, section))).collect();
    (texts.join("\r\n"), is_asked("keyspace"))
}

/// Adds the keyspace to a text of INFO. `keys`: how many the leaders hold.
pub(super) fn add_keyspace(text: &mut String, keys: u64) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    text.push_str("# Keyspace\r\n");
    if keys > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, "db0:keys={keys},expires=0,avg_ttl=0\r\n");
    }
}

/// Whether this node has copies of all shards.
pub(super) fn holds_all(door: &RespDoor) -> bool {
    let router = &door.node.context.router;
    router.all_local().iter().filter(|handle| handle.shard != ShardId::META).count() == usize::from(router.shards())
}

/// Keys that this node has copies of: what the leaders hold, about, where it has one of each shard.
pub(super) fn held_keys(door: &RespDoor) -> u64 {
    let held = door.node.context.router.all_local();
    held.iter().filter(|handle| handle.shard != ShardId::META).map(|handle| handle.reader.keys()).sum()
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
            let uptime_s = system_clock::monotonic().0.saturating_sub(door.node.started.0) / 1_000_000_000;
            field("redis_version", &REDIS_VERSION);
            field("server_name", &"kvorum");
            field("kvorum_version", &env!("CARGO_PKG_VERSION"));
            field("redis_mode", &if door.is_cluster() { "cluster" } else { "standalone" });
            field("os", &std::env::consts::OS);
            field("arch_bits", &usize::BITS);
            field("process_id", &std::process::id());
            field("run_id", &door.node.run_id);
            field("tcp_port", &door.address.port());
            field("uptime_in_seconds", &uptime_s);
            field("uptime_in_days", &(uptime_s / 86_400));
        }
        "clients" => {
            field("connected_clients", &door.node.clients.count());
            field("maxclients", &door.node.places.max());
            field("parked_clients", &door.node.clients.parked());
            field("blocked_clients", &0);
        }
        "memory" => {
            field("used_memory", &ProcessUse::look().resident_bytes);
            field("maxmemory", &0);
            field("maxmemory_policy", &"noeviction");
        }
        "persistence" => field("loading", &0),
        "stats" => {
            let (received, sent) = door.node.counts.bytes(Door::Resp);
            let (let_in, turned_away) = door.node.places.let_in_and_turned_away(Door::Resp);
            let answered = OperationKind::ALL.iter().map(|kind| door.node.counts.durations(Door::Resp, *kind).count());
            field("total_connections_received", &let_in);
            field("total_commands_processed", &answered.sum::<u64>());
            field("total_net_input_bytes", &received);
            field("total_net_output_bytes", &sent);
            field("rejected_connections", &turned_away);
        }
        "replication" => {
            field("role", &"master");
            field("connected_slaves", &0);
            field("master_replid", &door.node.run_id);
            field("master_repl_offset", &0);
        }
        "cpu" => {
            let ProcessUse { cpu_us, system_us, .. } = ProcessUse::look();
            let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            field("used_cpu_sys", &seconds(system_us));
            field("used_cpu_user", &seconds(cpu_us.saturating_sub(system_us)));
            field("used_cpu_sys_children", &seconds(0));
            field("used_cpu_user_children", &seconds(0));
        }
        COMMAND_STATS => text = door.node.command_counts.fields(),
        _ => field("cluster_enabled", &u8::from(door.is_cluster())),
    }
    text
}
