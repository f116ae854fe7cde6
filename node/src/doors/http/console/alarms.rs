//! What somebody should look at, worst first. Pure.

use super::history::Line;
use super::model::{IllShard, Known, Level, NodeView, ReplicaState, ShardRow};
use kvorum_protocol::ShardRole;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most alarms that are told.
const ALARMS_MAX: usize = 64;
/// With less than this part of the disk free it is low.
const DISK_LOW_PART: f64 = 0.1;
/// A certificate that ends sooner is told of, in milliseconds.
const CERTIFICATE_MS: u64 = 14 * 24 * 3_600_000;
/// More requests than this part that fail are told of.
const FAILING_PART: f64 = 0.01;
/// A shard with more than this part of all writes is hot, if there are many shards,
const HOT_PART: f64 = 0.25;
/// and these are so many per second.
const HOT_WRITES_S: f64 = 1_000.0;

/// Something that somebody should look at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Alarm {
    pub(super) level: Level,
    /// The kind, for programs.
    pub(super) code: &'static str,
    pub(super) title: String,
    pub(super) text: String,
    /// Since when this node knows of it: Unix time in milliseconds.
    pub(super) since_ms: u64,
    pub(super) node: Option<u16>,
    pub(super) shard: Option<u16>,
}

/// What is known of this node alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnState {
    /// Until when its certificate is valid: Unix time in milliseconds.
    pub(super) certificate_to_ms: u64,
    /// The files of certificates can't be used.
    pub(super) certificates_refused: bool,
    /// The audit log can't be written.
    pub(super) audit_fails: bool,
    /// Damage was found in files.
    pub(super) damage: u64,
}

/// Since when something has been told.
#[derive(Debug, Default)]
pub(super) struct Since(BTreeMap<(&'static str, Option<u16>, Option<u16>), u64>);

impl Since {
    /// Gives each alarm the time at which it was first told, and forgets what is over.
    pub(super) fn stamp(&mut self, alarms: &mut [Alarm], wall_ms: u64) {
        let name = |alarm: &Alarm| (alarm.code, alarm.node, alarm.shard);
        let before = std::mem::take(&mut self.0);
        for alarm in alarms {
            alarm.since_ms = before.get(&name(alarm)).copied().unwrap_or(wall_ms);
            self.0.insert(name(alarm), alarm.since_ms);
        }
    }
}

/// All that there is to tell, without the time.
pub(super) fn alarms(
    known: &Known<'_>,
    nodes: &[NodeView],
    (rows, ill): (&[ShardRow], &[IllShard]),
    own: OwnState,
    wall_ms: u64,
) -> Vec<Alarm> {
    let mut found = Vec::new();
    of_shards(known, rows, ill, &mut found);
    of_nodes(known, nodes, &mut found);
    of_this_node(known, own, wall_ms, &mut found);
    found.sort_by_key(|alarm| (alarm.level, alarm.node, alarm.shard));
    found.truncate(ALARMS_MAX);
    found
}

fn alarm(level: Level, code: &'static str, title: String, text: impl Into<String>) -> Alarm {
    Alarm { level, code, title, text: text.into(), since_ms: 0, node: None, shard: None }
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn of_shards(known: &Known<'_>, rows: &[ShardRow], ill: &[IllShard], found: &mut Vec<Alarm>) {
    let bad: Vec<_> = ill.iter().filter(|ill| ill.level == Level::Bad).collect();
    let leaderless = bad.iter().filter(|ill| rows[usize::from(ill.shard)].leader.is_none()).count();
    if let Some(first) = bad.first() {
        let title = match leaderless {
            0 => format!("{} have lost a majority of their replicas", many(bad.len(), "shard")),
            1 => "1 shard has no leader".to_owned(),
            more => format!("{more} shards have no leader"),
        };
        let text = "Reads and writes of their keys are answered Unavailable, until enough of their nodes are back.";
        let shard = (bad.len() == 1).then_some(first.shard);
        found.push(Alarm { shard, ..alarm(Level::Bad, "no_leader", title, text) });
    }
    let thin: Vec<_> = ill.iter().filter(|ill| matches!(ill.level, Level::Risk | Level::Heal)).collect();
    let lacking = thin.iter().filter(|ill| ill.states.iter().any(|state| *state != ReplicaState::Well)).count();
    if let (Some(worst), true) = (thin.first(), lacking > 0) {
        let text = match worst.level {
            Level::Risk => "Nothing makes them anew: see what stands in the way.",
            _ => "They are made anew, or their nodes come back.",
        };
        let title = format!("{} lack replicas", many(lacking, "shard"));
        found.push(alarm(worst.level, "thin", title, text));
    }
    let writes: f64 = rows.iter().filter_map(|row| row.writes_s).map(|rate| rate.0).sum();
    let hottest = (0_u16..).zip(rows).filter_map(|(shard, row)| Some((shard, row.writes_s?.0)));
    let hottest = hottest.max_by(|(_, a), (_, b)| a.total_cmp(b));
    if let Some((shard, rate)) = hottest.filter(|(_, rate)| *rate > HOT_WRITES_S && *rate > HOT_PART * writes)
        && rows.len() >= 16
    {
        let title = format!("Shard {shard} takes {:.0} % of all writes", 100.0 * rate / writes);
        let text = "If it is one key, moving the shard won't help: the page Heat shows its top keys.";
        found.push(Alarm { shard: Some(shard), ..alarm(Level::Risk, "hot_shard", title, text) });
    }
    for reason in known.plan().iter().flat_map(|plan| &plan.reasons).filter(|reason| reason.of_repair) {
        found.push(alarm(Level::Risk, "repair_blocked", "Repair is blocked".to_owned(), reason.text.clone()));
    }
}

fn of_nodes(known: &Known<'_>, views: &[NodeView], found: &mut Vec<Alarm>) {
    for (at, (info, view)) in (0_u16..).zip(known.topology.nodes.iter().zip(views)) {
        let name = &info.name;
        let mut tell = |level, code, title: String, text: String| {
            found.push(Alarm { node: Some(at), ..alarm(level, code, title, text) });
        };
        match (view.level, view.word) {
            (Level::Bad, _) => tell(
                Level::Bad,
                "node_down",
                format!("{name} is down"),
                match view.ends_in_ms {
                    Some(0) if known.plan().is_some_and(|plan| plan.makes_anew(info.id)) => {
                        "No node hears it. What it holds is made anew on others.".to_owned()
                    }
                    _ => "No node hears it.".to_owned(),
                },
            ),
            (Level::Risk, "Away") => {
                let text = "It is drained, and does not answer.".to_owned();
                tell(Level::Risk, "node_silent", format!("{name} is away"), text);
            }
            // All of them at once is told below.
            (Level::Quiet, _) if known.heard.looked_at().is_some() && !known.is_alone() => {
                tell(
                    Level::Risk,
                    "node_silent",
                    format!("{name} does not answer"),
                    format!("Asked at {}.", info.client_address),
                );
            }
            _ => {}
        }
        let Some(heard) = known.heard.node(info.id).filter(|heard| heard.answers) else { continue };
        let status = &heard.status;
        let free = view.disk_total.map(|total| status.disk_free_bytes as f64 / total.max(1) as f64);
        if status.disk_full {
            let text = "Writes that take room are refused there. Free some space, or add disks.".to_owned();
            tell(Level::Bad, "disk_full", format!("The disk of {name} is full"), text);
        } else if let Some(free) = free.filter(|free| *free < DISK_LOW_PART) {
            let text = format!("{} MiB are free.", status.disk_free_bytes >> 20);
            tell(Level::Risk, "disk_low", format!("The disk of {name} is {:.0} % full", 100.0 * (1.0 - free)), text);
        }
        if status.clock_off {
            let text =
                format!("It is {} ms ahead of most nodes' clocks; it hands leadership over.", status.clock_ahead_ms);
            tell(Level::Risk, "clock_off", format!("The clock of {name} is off"), text);
        }
        let faulty =
            status.shards.iter().filter(|shard| matches!(shard.role, ShardRole::Faulty | ShardRole::Amnesiac)).count();
        if status.stranger {
            let text = "The ring map names another data folder for it: what it holds does not count.".to_owned();
            tell(Level::Bad, "damaged", format!("{name} runs with a folder that is not its own"), text);
        } else if faulty > 0 {
            let text = "They take no part, and are made anew.".to_owned();
            tell(Level::Risk, "damaged", format!("{} of {name} can't be used", many(faulty, "replica")), text);
        }
    }
}

fn of_this_node(known: &Known<'_>, own: OwnState, wall_ms: u64, found: &mut Vec<Alarm>) {
    let me = known.place_of(known.me);
    let name =
        me.and_then(|at| known.topology.nodes.get(usize::from(at))).map_or("this node", |info| info.name.as_str());
    let mut tell = |level, code, title: String, text: String| {
        found.push(Alarm { node: me, ..alarm(level, code, title, text) });
    };
    if known.is_alone() {
        let text = "Its network may be cut. What is shown of others is what they told last.".to_owned();
        tell(Level::Bad, "alone", format!("{name} hears no other node"), text);
    }
    let shed = known.newest.get(Line::Shed).unwrap_or(0.0);
    if shed > 0.0 {
        let text = "A queue is full: clients that ask less at once are answered.".to_owned();
        tell(Level::Risk, "overloaded", format!("{name} refuses {shed:.0} requests a second"), text);
    }
    if let (Some(failed), Some(answered)) = (known.newest.get(Line::Failed), known.newest.operations_s())
        && failed > FAILING_PART * (failed + answered)
        && failed >= 1.0
    {
        let part = 100.0 * failed / (failed + answered);
        let title = format!("{part:.0} % of the requests at {name} fail");
        tell(Level::Risk, "failing", title, "The metric kvorum_errors tells with which code.".to_owned());
    }
    let left_ms = own.certificate_to_ms.saturating_sub(wall_ms);
    if own.certificate_to_ms > 0 && left_ms < CERTIFICATE_MS {
        let (level, title) = match left_ms {
            0 => (Level::Bad, format!("The certificate of {name} is over")),
            ms => (Level::Risk, format!("The certificate of {name} ends in {} days", ms / 86_400_000)),
        };
        tell(level, "cert_expires", title, "Issue another one: docs/SECURITY.md says how.".to_owned());
    }
    if own.certificates_refused {
        let text = "Those from before are in force. The log says why.".to_owned();
        tell(Level::Risk, "cert_expires", format!("The files of certificates of {name} can't be used"), text);
    }
    if own.audit_fails {
        let text = "Nothing is changed through this node until it can.".to_owned();
        tell(Level::Risk, "audit", format!("The audit log of {name} can't be written"), text);
    }
    if own.damage > 0 {
        let text = "What was damaged takes no part, and is made anew from other nodes.".to_owned();
        tell(Level::Risk, "damaged", format!("Damage was found on {name}, {} times", own.damage), text);
    }
}
