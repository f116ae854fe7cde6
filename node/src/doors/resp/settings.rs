//! CONFIG: settings that clients of Redis ask for. Few mean something here; the others are checked, kept and told again.

mod values;

use super::RespDoor;
use super::acl::told;
use kvorum_resp::ReplyWriter;
use kvorum_resp::command::ConfigCommand;
use kvorum_resp::glob::Pattern;
use kvorum_resp::number::parse_integer;
use std::collections::BTreeMap;
use values::SettingKind;

/// Steps that a pattern may take for the names of settings.
const PATTERN_STEPS: u64 = 1_000_000;

/// What is told of a setting that can't be changed.
const IMMUTABLE: &str = "can't set immutable config";

/// A number of 0 or more.
const COUNT: SettingKind = SettingKind::Whole(0, i64::MAX);
/// The same, of 31 bits.
const SMALL_COUNT: SettingKind = SettingKind::Whole(0, i32::MAX as i64);
/// Any number of 32 bits.
const WHOLE_32: SettingKind = SettingKind::Whole(i32::MIN as i64, i32::MAX as i64);

/// Settings that clients and tools ask for, what they are at first, and what they may be set to.
const KNOWN: &[(&str, &str, SettingKind)] = &[
    ("active-expire-effort", "1", SettingKind::Whole(1, 10)),
    ("activedefrag", "no", SettingKind::YesNo),
    ("appendfsync", "always", SettingKind::OneOf(&["everysec", "always", "no"])),
    ("appendonly", "yes", SettingKind::YesNo),
    ("auto-aof-rewrite-percentage", "100", SMALL_COUNT),
    ("bind", "*", SettingKind::Fixed),
    ("client-query-buffer-limit", "1073741824", SettingKind::Bytes(1 << 20)),
    ("close-on-oom", "no", SettingKind::YesNo),
    ("daemonize", "no", SettingKind::Fixed),
    ("databases", "1", SettingKind::Fixed),
    ("hash-max-listpack-entries", "128", COUNT),
    ("hash-max-listpack-value", "64", COUNT),
    ("hash-max-ziplist-entries", "128", COUNT),
    ("hash-max-ziplist-value", "64", COUNT),
    ("hz", "10", SMALL_COUNT),
    ("latency-monitor-threshold", "0", COUNT),
    ("lazyfree-lazy-user-del", "no", SettingKind::YesNo),
    ("lazyfree-lazy-user-flush", "no", SettingKind::YesNo),
    ("list-compress-depth", "0", SMALL_COUNT),
    ("list-max-listpack-size", "-2", WHOLE_32),
    ("list-max-ziplist-size", "-2", WHOLE_32),
    ("lua-time-limit", "5000", COUNT),
    ("maxmemory", "0", SettingKind::Bytes(0)),
    ("maxmemory-clients", "0", SettingKind::BytesOrPercent),
    ("maxmemory-policy", "noeviction", SettingKind::Fixed),
    ("maxmemory-samples", "5", SettingKind::Whole(1, i32::MAX as i64)),
    ("min-replicas-to-write", "0", SMALL_COUNT),
    ("notify-keyspace-events", "", SettingKind::Text),
    ("proto-max-bulk-len", "16777216", SettingKind::Fixed),
    ("rdb-key-save-delay", "0", WHOLE_32),
    ("repl-backlog-size", "1048576", SettingKind::Bytes(1)),
    ("replica-read-only", "no", SettingKind::YesNo),
    ("replicaof", "", SettingKind::Fixed),
    ("save", "", SettingKind::Text),
    ("set-max-intset-entries", "512", COUNT),
    ("set-max-listpack-entries", "128", COUNT),
    ("set-max-listpack-value", "64", COUNT),
    ("slave-read-only", "no", SettingKind::YesNo),
    ("slaveof", "", SettingKind::Fixed),
    ("slowlog-log-slower-than", "10000", SettingKind::Whole(-1, i64::MAX)),
    ("slowlog-max-len", "128", COUNT),
    ("stream-node-max-bytes", "4096", SettingKind::Bytes(0)),
    ("stream-node-max-entries", "100", COUNT),
    ("tcp-keepalive", "300", SMALL_COUNT),
    ("timeout", "0", SMALL_COUNT),
    ("zset-max-listpack-entries", "128", COUNT),
    ("zset-max-listpack-value", "64", COUNT),
    ("zset-max-ziplist-entries", "128", COUNT),
    ("zset-max-ziplist-value", "64", COUNT),
];

/// What settings were set to; of one node, until it ends.
#[derive(Debug)]
pub(super) struct Settings(BTreeMap<&'static str, Vec<u8>>);

impl Default for Settings {
    fn default() -> Self {
        Self(KNOWN.iter().map(|(name, value, _)| (*name, value.as_bytes().to_vec())).collect())
    }
}

impl Settings {
    /// What is to be changed, if all of it can be. `own`: settings that are the door's own, and can't.
    ///
    /// # Errors
    /// What the client is told.
    fn changes<'a>(
        &self,
        own: &[(&'static str, String)],
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
        let mut changes: Vec<(&'static str, Vec<u8>)> = Vec::new();
        for (name, value) in pairs {
            let is_meant = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
            let of_door = own.iter().find(|(known, _)| is_meant(known));
            let of_door = of_door.map(|(known, now)| (*known, now.as_bytes(), SettingKind::Fixed));
            let kept = KNOWN.iter().find(|(known, ..)| is_meant(known));
            let kept = kept.map(|(known, first, kind)| {
                (*known, self.0.get(known).map_or(first.as_bytes(), |now| now.as_slice()), *kind)
            });
            let Some((known, now, kind)) = of_door.or(kept) else {
                let name = told(name);
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            };
            let failed = |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{known}') - {why}");
            if changes.iter().any(|(changed, _)| *changed == known) {
                return Err(failed("duplicate parameter"));
            }
            match kind.check(value) {
                // Some set all settings to what they are.
                Ok(None) if value == now => {}
                Ok(None) => return Err(failed(IMMUTABLE)),
                Ok(Some(value)) => changes.push((known, value)),
                Err(why) => return Err(failed(&why)),
            }
        }
        Ok(changes)
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
        ConfigCommand::Set(pairs) => {
            let changes = door.node.settings.lock().changes(&of_door(door), pairs);
            match changes {
                Ok(changes) => {
                    changes.iter().for_each(|(name, value)| apply(door, name, value));
                    door.node.settings.lock().0.extend(changes);
                    reply.ok();
                }
                Err(text) => reply.error(text.as_bytes()),
            }
        }
        ConfigCommand::ResetStat => {
            door.node.command_counts.clear();
            reply.ok();
        }
        ConfigCommand::Rewrite => reply.error(b"ERR The server is running without a config file"),
    }
}

/// Settings of which each door has its own.
fn of_door(door: &RespDoor) -> [(&'static str, String); 2] {
    let is_cluster = if door.is_cluster() { "yes" } else { "no" };
    [("cluster-enabled", is_cluster.to_owned()), ("port", door.address.port().to_string())]
}

/// Does what a setting means, if it means something.
fn apply(door: &RespDoor, name: &str, value: &[u8]) {
    let Some(number) = parse_integer(value) else { return };
    match name {
        "slowlog-log-slower-than" => door.node.slowlog.set_slower_than(number),
        "slowlog-max-len" => door.node.slowlog.set_max(usize::try_from(number).unwrap_or(usize::MAX)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(pairs: &[(&str, &str)]) -> Result<String, String> {
        let own = [("port", "7430".to_owned())];
        let changes =
            Settings::default().changes(&own, pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))?;
        let text = |(name, value): &(&str, Vec<u8>)| format!("{name}={}", String::from_utf8_lossy(value));
        Ok(changes.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn settings_can_be_what_they_are_at_first() {
        for (name, value, kind) in KNOWN {
            let expected = if *kind == SettingKind::Fixed { String::new() } else { format!("{name}={value}") };
            assert_eq!(changes(&[(name, value)]), Ok(expected), "{name}");
        }
        assert!(KNOWN.is_sorted_by_key(|(name, ..)| *name));
    }

    #[test]
    fn settings_change_together_or_not_at_all() {
        assert_eq!(
            changes(&[("maxmemory", "10mb"), ("SAVE", "3000 5")]),
            Ok("maxmemory=10485760 save=3000 5".to_owned())
        );
        let failed = |name: &str, why: &str| {
            Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
        };
        assert_eq!(changes(&[("maxmemory", "1"), ("MaxMemory", "2")]), failed("maxmemory", "duplicate parameter"));
        assert_eq!(
            changes(&[("hz", "1"), ("maxmemory-clients", "200%"), ("hz", "x")]),
            failed("maxmemory-clients", "percentage argument must be less or equal to 100")
        );
        assert_eq!(changes(&[("maxmemory", "bla")]), failed("maxmemory", "argument must be a memory value"));
        assert_eq!(changes(&[("daemonize", "yes")]), failed("daemonize", IMMUTABLE));
        assert_eq!(changes(&[("port", "1")]), failed("port", IMMUTABLE));
        assert_eq!(changes(&[("port", "7430")]), Ok(String::new()));
        assert_eq!(
            changes(&[("hz", "1"), ("no-such", "1")]),
            Err("ERR Unknown option or number of arguments for CONFIG SET - 'no-such'".to_owned())
        );
    }
}
