//! CONFIG: settings that clients of Redis ask for. Few mean something here; the others are kept and told again.

use super::RespDoor;
use kvorum_resp::ReplyWriter;
use kvorum_resp::command::ConfigCommand;
use kvorum_resp::glob::Pattern;
use kvorum_resp::number::parse_integer;
use std::collections::BTreeMap;

/// Steps that a pattern may take for the names of settings.
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
const FIXED: &[&str] = &["bind", "databases", "maxmemory-policy", "proto-max-bulk-len"];

/// What inert settings were set to; of one node, until it ends.
#[derive(Debug)]
pub(super) struct Settings(BTreeMap<&'static str, Vec<u8>>);

impl Default for Settings {
    fn default() -> Self {
        Self(INERT.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect())
    }
}

/// Answers CONFIG.
pub(super) fn answer(door: &RespDoor, command: &ConfigCommand<'_>, reply: &mut ReplyWriter<'_>) {
    match *command {
        ConfigCommand::Get(patterns) => {
            let patterns: Vec<Pattern> = patterns.map(|pattern| Pattern::new(pattern, true)).collect();
            let mut steps = PATTERN_STEPS;
            let mut is_asked =
                |name: &str| patterns.iter().any(|pattern| pattern.matches(name.as_bytes(), &mut steps) == Ok(true));
            let settings = door.node.settings.lock();
            let own = of_door(door);
            let all = own.iter().map(|(name, value)| (*name, value.as_bytes()));
            let all = all.chain(settings.0.iter().map(|(name, value)| (*name, &value[..])));
            let asked: Vec<_> = all.filter(|(name, _)| is_asked(name)).collect();
            reply.map(asked.len());
            for (name, value) in asked {
                reply.bulk(name.as_bytes());
                reply.bulk(value);
            }
        }
        ConfigCommand::Set(pairs) => match changes(door, pairs) {
            Ok(changes) => {
                changes.iter().for_each(|(name, value)| apply(door, name, value));
                door.node.settings.lock().0.extend(changes);
                reply.ok();
            }
            Err(text) => reply.error(text.as_bytes()),
        },
        ConfigCommand::ResetStat => reply.ok(),
    }
}

/// Settings of which each door has its own.
fn of_door(door: &RespDoor) -> [(&'static str, String); 2] {
    let is_cluster = if door.is_cluster() { "yes" } else { "no" };
    [("cluster-enabled", is_cluster.to_owned()), ("port", door.address.port().to_string())]
}

/// What is to be changed, if all of it can be.
fn changes<'a>(
    door: &RespDoor,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
    let mut changes: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let settings = door.node.settings.lock();
    for (name, value) in pairs {
        let failed =
            |known: &str, why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{known}') - {why}");
        if let Some((known, _)) = of_door(door).iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)) {
            return Err(failed(known, "can't set immutable config"));
        }
        let known = INERT.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        let Some((known, _)) = known else {
            let name = String::from_utf8_lossy(&name[..name.len().min(128)]);
            return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        };
        if changes.iter().any(|(changed, _)| changed == known) {
            return Err(failed(known, "duplicate parameter"));
        }
        let is_fixed = FIXED.contains(known) || value.len() > SETTING_BYTES_MAX;
        if is_fixed && settings.0.get(known).is_none_or(|now| now != value) {
            return Err(failed(known, "can't set immutable config"));
        }
        let is_number = known.starts_with("slowlog-");
        if is_number && parse_integer(value).is_none_or(|number| number < -1) {
            return Err(failed(known, "argument couldn't be parsed into an integer"));
        }
        changes.push((*known, value.to_vec()));
    }
    Ok(changes)
}

/// Does what a setting means, if it means something.
fn apply(door: &RespDoor, name: &str, value: &[u8]) {
    let Some(number) = parse_integer(value) else { return };
    match name {
        "slowlog-log-slower-than" => door.node.slowlog.set_slower_than(number),
        "slowlog-max-len" => door.node.slowlog.set_max(usize::try_from(number).unwrap_or(0)),
        _ => {}
    }
}
