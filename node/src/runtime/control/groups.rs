//! The process groups of the control plane, and how a member of one says which node it is.
//!
//! Groups and actor names are global to a process and shared by all nodes that are connected: both carry the cluster.

use kvorum_protocol::{ClusterId, NodeId, ShardId};
use ractor::pg;
use ractor::{ActorCell, ActorId, ActorStatus, GroupName};
use std::collections::BTreeMap;

/// Every admin actor that is present.
pub(super) fn nodes(cluster: ClusterId) -> GroupName {
    format!("kvorum/{cluster}/nodes")
}

/// The admin actors of the nodes that hold a replica of a shard.
pub(super) fn shard(cluster: ClusterId, shard: ShardId) -> GroupName {
    format!("kvorum/{cluster}/shard/{shard}")
}

/// The name of a node's admin actor; a remote actor carries the name of the one it stands for.
pub(super) fn admin_name(cluster: ClusterId, node: NodeId) -> String {
    format!("{}{node}", admin_prefix(cluster))
}

/// The group's live members by the node they belong to. A node that has just reconnected may be in twice, by its old
/// session and its new one: the newest counts.
pub(super) fn members(cluster: ClusterId, group: &GroupName) -> BTreeMap<NodeId, ActorCell> {
    let prefix = admin_prefix(cluster);
    let mut members = BTreeMap::<NodeId, ActorCell>::new();
    for cell in pg::get_members(group) {
        let node = cell.get_name().and_then(|name| Some(NodeId(name.strip_prefix(&prefix)?.parse().ok()?)));
        let Some(node) = node.filter(|_| cell.get_status() <= ActorStatus::Running) else { continue };
        let newest = members.get(&node).is_none_or(|known| session(known) < session(&cell));
        if newest {
            members.insert(node, cell);
        }
    }
    members
}

/// Which session a member came by; sessions are numbered upwards. An actor of this process comes by none, and counts more.
fn session(cell: &ActorCell) -> u64 {
    match cell.get_id() {
        ActorId::Local(_) => u64::MAX,
        ActorId::Remote { node_id, .. } => node_id,
    }
}

fn admin_prefix(cluster: ClusterId) -> String {
    format!("kvorum/{cluster}/admin/")
}
