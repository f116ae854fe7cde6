//! CLUSTER, as the door of clients that follow slots answers it.

use super::RespDoor;
use super::slots::{SlotNode, id_text, shard_id_text};
use crate::runtime::system_clock;
use kvorum_protocol::hash::{SLOTS, slot};
use kvorum_resp::ReplyWriter;
use kvorum_resp::command::ClusterCommand;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Redis' nodes talk to each other at a port so far above that of their clients. Nobody connects there.
const BUS_PORT_OFFSET: u16 = 10_000;

/// Answers a subcommand that looks at no keys; false if it looks at some. `asked`: the address at which the client has reached this
/// node.
pub(super) fn answer(
    door: &RespDoor,
    command: &ClusterCommand<'_>,
    asked: IpAddr,
    reply: &mut ReplyWriter<'_>,
) -> bool {
    let router = &door.node.context.router;
    let view = || door.node.slots.view(asked);
    match *command {
        ClusterCommand::Slots => write_slots(&view(), reply),
        ClusterCommand::Shards => write_shards(&view(), reply),
        ClusterCommand::Nodes => reply.verbatim(nodes_text(&view(), router.epoch().0).as_bytes()),
        ClusterCommand::Info => reply.verbatim(info_text(door, &view()).as_bytes()),
        ClusterCommand::MyId => reply.bulk(id_text(router.me()).as_bytes()),
        ClusterCommand::MyShardId => reply.bulk(shard_id_text(router.me()).as_bytes()),
        ClusterCommand::KeySlot(key) => reply.integer(slot(key).into()),
        ClusterCommand::Links => write_links(&view(), reply),
        ClusterCommand::Replicas(id) => {
            if view().iter().any(|node| id_text(node.id).as_bytes().eq_ignore_ascii_case(id)) {
                reply.array(0);
            } else {
                let id = String::from_utf8_lossy(&id[..id.len().min(40)]).into_owned();
                reply.error(format!("ERR Unknown node {id}").as_bytes());
            }
        }
        ClusterCommand::CountKeysInSlot(_) | ClusterCommand::GetKeysInSlot { .. } => return false,
    }
    true
}

/// Ranges in the order of their slots, each with its node.
fn write_slots(nodes: &[SlotNode], reply: &mut ReplyWriter<'_>) {
    let mut ranges: Vec<_> =
        nodes.iter().flat_map(|node| node.ranges.iter().map(move |range| (*range, node))).collect();
    ranges.sort_unstable_by_key(|(range, _)| *range);
    reply.array(ranges.len());
    for ((first, last), node) in ranges {
        reply.array(3);
        reply.integer(first.into());
        reply.integer(last.into());
        reply.array(4);
        reply.bulk(node.endpoint.host.as_bytes());
        reply.integer(node.endpoint.port.into());
        reply.bulk(id_text(node.id).as_bytes());
        reply.array(0);
    }
}

fn write_shards(nodes: &[SlotNode], reply: &mut ReplyWriter<'_>) {
    reply.array(nodes.len());
    for node in nodes {
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2 * node.ranges.len());
        for (first, last) in &node.ranges {
            reply.integer((*first).into());
            reply.integer((*last).into());
        }
        reply.bulk(b"nodes");
        reply.array(1);
        reply.map(7);
        let text = |reply: &mut ReplyWriter<'_>, name: &str, value: &str| {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        };
        text(reply, "id", &id_text(node.id));
        reply.bulk(b"port");
        reply.integer(node.endpoint.port.into());
        text(reply, "ip", &node.endpoint.host);
        text(reply, "endpoint", &node.endpoint.host);
        text(reply, "role", "master");
        reply.bulk(b"replication-offset");
        reply.integer(0);
        text(reply, "health", if node.is_up { "online" } else { "fail" });
    }
}

/// A line per node.
fn nodes_text(nodes: &[SlotNode], epoch: u64) -> String {
    let mut text = String::new();
    for node in nodes {
        let (id, host, port) = (id_text(node.id), &node.endpoint.host, node.endpoint.port);
        let bus_port = port.checked_add(BUS_PORT_OFFSET).unwrap_or(0);
        let name = if host.parse::<IpAddr>().is_ok() { String::new() } else { format!(",{host}") };
        let flags = match (node.is_me, node.is_up) {
            (true, _) => "myself,master",
            (false, true) => "master",
            (false, false) => "master,fail?",
        };
        let link = if node.is_up { "connected" } else { "disconnected" };
        // Writing to a string does not fail.
        let _ = write!(text, "{id} {host}:{port}@{bus_port}{name} {flags} - 0 0 {epoch} {link}");
        for (first, last) in &node.ranges {
            let _ = if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
        }
        text.push('\n');
    }
    text
}

fn info_text(door: &RespDoor, nodes: &[SlotNode]) -> String {
    let health = door.node.slots.health(system_clock::monotonic());
    let state = if health.failed == 0 { "ok" } else { "fail" };
    let (known, epoch) = (nodes.len(), door.node.context.router.epoch().0);
    let size = nodes.iter().filter(|node| !node.ranges.is_empty()).count();
    let (led, lost, failed) = (health.led, health.lost, health.failed);
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{led}\r\n\
         cluster_slots_pfail:{lost}\r\ncluster_slots_fail:{failed}\r\ncluster_known_nodes:{known}\r\n\
         cluster_size:{size}\r\ncluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n\
         cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n"
    )
}

/// A link to each node that this one is connected with. What waits on them is no business of clients.
fn write_links(nodes: &[SlotNode], reply: &mut ReplyWriter<'_>) {
    let up: Vec<_> = nodes.iter().filter(|node| node.is_up && !node.is_me).collect();
    reply.array(up.len());
    for node in up {
        reply.map(6);
        reply.bulk(b"direction");
        reply.bulk(b"to");
        reply.bulk(b"node");
        reply.bulk(id_text(node.id).as_bytes());
        reply.bulk(b"create-time");
        reply.integer(0);
        reply.bulk(b"events");
        reply.bulk(b"rw");
        reply.bulk(b"send-buffer-allocated");
        reply.integer(0);
        reply.bulk(b"send-buffer-used");
        reply.integer(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Endpoint;
    use super::*;
    use bytes::Buf as _;
    use kvorum_protocol::NodeId;
    use kvorum_resp::{Output, RespVersion};
    use uuid::Uuid;

    fn node(number: u128, host: &str, ranges: &[(u16, u16)]) -> SlotNode {
        SlotNode {
            id: NodeId(Uuid::from_u128(number)),
            endpoint: Endpoint { host: host.into(), port: 7440 },
            ranges: ranges.to_vec(),
            is_me: number == 1,
            is_up: number != 3,
        }
    }

    #[test]
    fn nodes_are_told_as_clients_read_them() {
        let nodes = [
            node(1, "10.0.0.1", &[(0, 99), (5461, 5461)]),
            node(2, "node-2.example", &[(100, 5460), (5462, 16383)]),
            node(3, "10.0.0.3", &[]),
        ];
        let [one, two, three] = [1, 2, 3].map(|number| id_text(NodeId(Uuid::from_u128(number))));
        let expected = format!(
            "{one} 10.0.0.1:7440@17440 myself,master - 0 0 7 connected 0-99 5461\n\
             {two} node-2.example:7440@17440,node-2.example master - 0 0 7 connected 100-5460 5462-16383\n\
             {three} 10.0.0.3:7440@17440 master,fail? - 0 0 7 disconnected\n"
        );
        assert_eq!(nodes_text(&nodes, 7), expected);
        let mut output = Output::new();
        write_slots(&nodes, &mut ReplyWriter::new(&mut output, RespVersion::Two));
        let length = output.len();
        let text = String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap();
        let starts: Vec<&str> = text.split("*3\r\n").skip(1).map(|range| range.split("\r\n").next().unwrap()).collect();
        assert_eq!(starts, [":0", ":100", ":5461", ":5462"]);
        assert!(
            text.starts_with(&format!(
                "*4\r\n*3\r\n:0\r\n:99\r\n*4\r\n$8\r\n10.0.0.1\r\n:7440\r\n$40\r\n{one}\r\n*0\r\n"
            ))
        );
    }
}
