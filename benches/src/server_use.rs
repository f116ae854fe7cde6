//! What the servers spent on a run: the difference between their STATUS before and after it.

use kvorum_protocol::{NodeInfo, NodeStatus};
use serde::Serialize;
use std::time::Duration;

/// One node's share.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NodeUse {
    /// The node's name.
    pub name: String,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// Journal rounds, one write and one sync each.
    pub journal_rounds: u64,
    /// Log entries that its replicas appended, those of other leaders included.
    pub entries: u64,
    /// Requests that it answered with `Overloaded`.
    pub overloaded: u64,
    /// Resident memory at the end, in bytes.
    pub resident_bytes: u64,
}

/// The use of each node; `None` if one of them could not be asked both times, or was started again in between: a sum
/// that lacks a node would flatter the cluster.
pub(crate) fn between(nodes: &[NodeInfo], before: &[NodeStatus], after: &[NodeStatus]) -> Option<Vec<NodeUse>> {
    let of = |statuses: &[NodeStatus], node: &NodeInfo| statuses.iter().position(|status| status.node == node.id);
    nodes
        .iter()
        .map(|node| {
            let (before, after) = (&before[of(before, node)?], &after[of(after, node)?]);
            if before.process != after.process || before.uptime_ms > after.uptime_ms {
                return None;
            }
            Some(NodeUse {
                name: after.name.clone(),
                cpu_us: after.cpu_us.checked_sub(before.cpu_us)?,
                journal_rounds: after.journal_rounds.checked_sub(before.journal_rounds)?,
                entries: last_indexes(after).saturating_sub(last_indexes(before)),
                overloaded: after.overloaded.checked_sub(before.overloaded)?,
                resident_bytes: after.resident_bytes,
            })
        })
        .collect()
}

/// Of all replicas of a node. It may fall: a log that ends with what nobody acknowledged is cut.
fn last_indexes(status: &NodeStatus) -> u64 {
    status.shards.iter().map(|shard| shard.last_index.0).sum()
}

/// CPU time of a process on this machine, in steps of the kernel's clock tick (10 ms); `None` if it is gone.
pub(crate) fn cpu_of(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, the second field, is in brackets and may hold anything; user and system time are fields 14 and 15.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs(user + system) / rustix::param::clock_ticks_per_second() as u32)
}

/// CPU time that this machine has spent on anything, in steps of the kernel's clock tick; zero if it does not say.
pub(crate) fn machine_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user nice system idle iowait irq softirq steal; guests are in user.
    let busy = times.take(8).enumerate().filter(|&(field, _)| field != 3 && field != 4);
    let ticks: u64 = busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum();
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Durability, NodeId};
    use uuid::Uuid;

    fn status(node: u128, process: u32, cpu_us: u64) -> NodeStatus {
        NodeStatus {
            node: NodeId(Uuid::from_u128(node)),
            name: format!("node-{node}"),
            program_version: String::new(),
            process,
            uptime_ms: cpu_us,
            durability: Durability::Fsync,
            http_port: 0,
            connections: 0,
            peers_up: Vec::new(),
            epoch: kvorum_protocol::Epoch(1),
            stranger: false,
            resident_bytes: 7,
            cpu_us,
            journal_rounds: cpu_us / 10,
            overloaded: 0,
            disk_free_bytes: 1 << 40,
            disk_full: false,
            clock_ahead_ms: 0,
            clock_off: false,
            index_bytes: 27 * 5,
            hot_keys: Vec::new(),
            shards: Vec::new(),
        }
    }

    fn node(number: u128) -> NodeInfo {
        let id = NodeId(Uuid::from_u128(number));
        NodeInfo { id, name: String::new(), client_address: String::new(), zone: String::new() }
    }

    #[test]
    fn the_cpu_time_of_a_process_grows_and_that_of_none_is_unknown() {
        let begin = cpu_of(std::process::id()).unwrap();
        let mut random = 1u64;
        while cpu_of(std::process::id()).unwrap() < begin + Duration::from_millis(20) {
            random = std::hint::black_box(random.wrapping_mul(6_364_136_223_846_793_005));
        }
        assert_eq!(cpu_of(u32::MAX), None);
    }

    #[test]
    fn use_is_the_difference_and_needs_every_node() {
        let nodes = [node(1), node(2)];
        let before = [status(1, 10, 100), status(2, 20, 1000)];
        let uses = between(&nodes, &before, &[status(2, 20, 1500), status(1, 10, 130)]).unwrap();
        assert_eq!((uses[0].cpu_us, uses[1].cpu_us, uses[1].journal_rounds), (30, 500, 50));
        assert_eq!(between(&nodes, &before, &[status(1, 10, 130)]), None, "a node did not answer");
        assert_eq!(between(&nodes, &before, &[status(1, 10, 130), status(2, 21, 1500)]), None, "a node restarted");
    }
}
