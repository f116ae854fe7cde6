//! What the cluster looks like from this node.

use super::Api;
use super::entry::{Text, from_json};
use super::kv::{json_response, unexpected};
use super::problem::{NOT_FOUND, Problem, ProblemBody};
use super::request::Asked;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kvorum_core::ring::{NodeState, RingMap};
use kvorum_protocol::{
    AdminCommand, NodeId, NodeInfo, NodeStatus, RequestBody, ResponseBody, ShardId, ShardRole, StatusScope, Topology,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// How long other nodes are waited for.
pub(super) const NODES_WITHIN: Duration = Duration::from_millis(1_000);

/// Where a key lives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mapping)]
pub(super) struct MappingJson {
    /// The key, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// The node that leads the key's shard; `null` while none does.
    primary: Option<String>,
    /// The other nodes that hold the shard.
    replicas: Vec<String>,
    /// The shard.
    shard: u16,
    /// The epoch of the ring map that says so.
    epoch: u64,
    /// `host:port` of the binary doors of these nodes, the primary's first.
    addresses: Vec<String>,
}

/// `GET /mapping?key=`.
#[utoipa::path(
    get, path = "/mapping", tag = "cluster", operation_id = "mapping",
    summary = "Where a key lives",
    description = "",
    params(
        ("key" = Option<String>, Query, description = "The key, if it is UTF-8", min_length = 1),
        ("key_base64" = Option<String>, Query, description = "The key as base64"),
    ),
    responses(
        (status = 200, description = "The nodes that hold it", body = MappingJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn mapping(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["key", "key_base64"])?;
    let key = asked.query.key()?;
    asked.whose.may_read(&key)?;
    let topology = api.topology();
    let shard = topology.shard_of(&key);
    let leader = topology.leader_of(shard);
    let others = || topology.replicas_of(shard).filter(|node| leader.is_none_or(|leader| leader.id != node.id));
    let Text { plain, base64 } = Text::of(&key);
    let mapping = MappingJson {
        key: plain,
        key_base64: base64,
        primary: leader.map(|leader| leader.name.clone()),
        replicas: others().map(|node| node.name.clone()).collect(),
        shard: shard.0,
        epoch: topology.epoch.0,
        addresses: leader.into_iter().chain(others()).map(|node| node.client_address.clone()).collect(),
    };
    Ok(json_response(StatusCode::OK, &mapping))
}

/// The nodes of the cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Nodes)]
pub(super) struct NodesJson {
    /// Each of them.
    nodes: Vec<NodeJson>,
    /// The epoch of the ring map that names them.
    epoch: u64,
}

/// A node, as this one sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub(super) struct NodeJson {
    /// Its identity.
    id: String,
    /// Its name.
    name: String,
    /// `healthy`; `degraded`, if its disk is full, its clock is off or it holds what does not count; `down`, if it can't be
    /// reached.
    status: &'static str,
    /// `host:port` of its binary door.
    address: String,
    /// `host:port` of its HTTP door, if it answered and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// Its failure zone; empty if none was given.
    zone: String,
    /// What the cluster wants of it: `up`, `draining` or `removing`.
    state: &'static str,
    /// The ring map says that it is down: nobody has heard it for 11 s.
    down: bool,
    /// How many shards it leads.
    leads: usize,
    /// How many replicas the ring map gives it.
    replicas: usize,
    /// Milliseconds since it started, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ms: Option<u64>,
    /// The version of its program, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// `GET /nodes`.
#[utoipa::path(
    get, path = "/nodes", tag = "cluster", operation_id = "nodes",
    summary = "The nodes of the cluster",
    description = "Asks each of them, and waits a second at most.",
    params(
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "All nodes", body = NodesJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn nodes(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let body = RequestBody::Status(StatusScope::Cluster);
    let reply = api.caller.read(&asked.whose, body, asked.within.min(NODES_WITHIN)).await?;
    let ResponseBody::Status(statuses) = reply.body else { return Err(unexpected()) };
    let (topology, ring) = (api.topology(), api.caller.context().router.ring());
    let nodes = (0..topology.nodes.len()).map(|at| node_json(&ring, &topology, at, &statuses)).collect();
    Ok(json_response(StatusCode::OK, &NodesJson { nodes, epoch: topology.epoch.0 }))
}

fn node_json(ring: &RingMap, topology: &Topology, at: usize, statuses: &[NodeStatus]) -> NodeJson {
    let node = &topology.nodes[at];
    let known = ring.nodes.iter().find(|known| known.id == node.id.0);
    let status = statuses.iter().find(|status| status.node == node.id);
    let at = at as u16;
    NodeJson {
        id: node.id.to_string(),
        name: node.name.clone(),
        status: status.map_or("down", health_of),
        address: node.client_address.clone(),
        http: status.and_then(|status| http_address(&node.client_address, status.http_port)),
        zone: node.zone.clone(),
        state: match known.map(|known| known.state) {
            Some(NodeState::Draining) => "draining",
            Some(NodeState::Removing) => "removing",
            Some(NodeState::Up) | None => "up",
        },
        down: known.is_some_and(|known| known.down),
        leads: topology.shards.iter().filter(|shard| shard.leader == Some(at)).count(),
        replicas: topology.shards.iter().filter(|shard| shard.replicas.contains(&at)).count(),
        uptime_ms: status.map(|status| status.uptime_ms),
        version: status.map(|status| status.program_version.clone()),
    }
}

/// The HTTP door is at the host of the binary one.
pub(super) fn http_address(client_address: &str, port: u16) -> Option<String> {
    let (host, _) = client_address.rsplit_once(':')?;
    (port != 0).then(|| format!("{host}:{port}"))
}

/// How a node that answered is doing.
fn health_of(status: &NodeStatus) -> &'static str {
    let lacks = |role| matches!(role, ShardRole::Missing | ShardRole::Faulty | ShardRole::Amnesiac);
    let is_degraded =
        status.disk_full || status.clock_off || status.stranger || status.shards.iter().any(|shard| lacks(shard.role));
    if is_degraded { "degraded" } else { "healthy" }
}

/// Whose heart is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatBody {
    /// The name or the identity of a node.
    #[schema(example = "node-1")]
    node: String,
}

/// What this node sees of another one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Heartbeat)]
pub(super) struct HeartbeatJson {
    /// The node's name.
    node: String,
    /// `healthy`: it is connected to this one, or is this one. `down`: it is not.
    status: &'static str,
    /// The epoch of the ring map that names it.
    epoch: u64,
    /// This node's wall clock, in milliseconds of Unix time.
    time_ms: u64,
}

/// `POST /heartbeat`. Says what this node sees; it never moves membership.
#[utoipa::path(
    post, path = "/heartbeat", tag = "cluster", operation_id = "heartbeat",
    summary = "Whether this node reaches another one",
    description = "It never moves membership.",
    request_body(content = HeartbeatBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What this node sees", body = HeartbeatJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn heartbeat(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    Asked::of_parts(&parts, &[])?;
    let HeartbeatBody { node } = from_json(&api.read_json(&parts, body).await?)?;
    let found = find_node(&api, &node)?;
    let router = &api.caller.context().router;
    let is_up = found.id == router.me() || router.peers().is_some_and(|peers| peers.up().contains(&found.id));
    let heartbeat = HeartbeatJson {
        node: found.name,
        status: if is_up { "healthy" } else { "down" },
        epoch: api.topology().epoch.0,
        time_ms: router.clock().now().wall_ms,
    };
    Ok(json_response(StatusCode::OK, &heartbeat))
}

pub(super) fn find_node(api: &Api, wanted: &str) -> Result<NodeInfo, Problem> {
    let topology = api.topology();
    let found = topology.nodes.iter().find(|known| known.name == wanted || known.id.to_string() == wanted);
    found.cloned().ok_or_else(|| Problem::new(&NOT_FOUND, format!("the ring map names no node {wanted:?}")))
}

/// What a rebalance does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rebalance)]
pub(super) struct RebalanceJson {
    /// The moves of leadership.
    moves: Vec<MoveJson>,
    /// How many there are.
    leadership_moves: usize,
    /// Moves of data; none yet.
    data_moves: usize,
}

impl RebalanceJson {
    fn new(moves: Vec<MoveJson>) -> Self {
        Self { leadership_moves: moves.len(), moves, data_moves: 0 }
    }
}

/// A shard whose leadership moves.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Move)]
pub(super) struct MoveJson {
    /// The shard.
    shard: u16,
    /// The node that leads it.
    from: String,
    /// The node that should.
    to: String,
}

/// What a node is called: its number, where the map does not know it.
pub(super) fn name_of(topology: &Topology, node: NodeId) -> String {
    let known = topology.nodes.iter().find(|known| known.id == node);
    known.map_or_else(|| node.to_string(), |known| known.name.clone())
}

/// `GET /rebalance`: what is left to do.
#[utoipa::path(
    get, path = "/rebalance", tag = "cluster", operation_id = "rebalance_progress",
    summary = "What a rebalance has left to do",
    description = "",
    responses(
        (status = 200, description = "The moves that are left", body = RebalanceJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rebalance_progress(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let moves = leadership_moves(&api, &api.topology()).into_iter().map(|(_, _, json)| json);
    Ok(json_response(StatusCode::OK, &RebalanceJson::new(moves.collect())))
}

/// `POST /rebalance`.
#[utoipa::path(
    post, path = "/rebalance", tag = "cluster", operation_id = "rebalance",
    summary = "Move leadership to where it should be",
    description = "Each shard is to be led by the first of its replicas that can be reached.",
    params(
        ("dry_run" = Option<bool>, Query, description = "Only say what would be moved"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "What would be moved", body = RebalanceJson),
        (status = 202, description = "The moves have begun", body = RebalanceJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rebalance(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["dry_run"])?;
    let moves = leadership_moves(&api, &api.topology());
    let only_looks = asked.query.flag("dry_run")?;
    let json: Vec<_> = moves.iter().map(|(_, _, json)| json.clone()).collect();
    if !only_looks {
        for (shard, to, _) in moves {
            let command = RequestBody::Admin(AdminCommand::TransferLeadership { shard, to });
            // Asks the leader to begin, and does not wait for the new one.
            api.caller.read(&asked.whose, command, asked.within).await?;
        }
    }
    let status = if only_looks { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_response(status, &RebalanceJson::new(json)))
}

/// The shards that are led by another node than the first of their replicas, although that one can be reached.
fn leadership_moves(api: &Api, topology: &Topology) -> Vec<(ShardId, NodeId, MoveJson)> {
    let router = &api.caller.context().router;
    let up = router.peers().map(|peers| peers.up()).unwrap_or_default();
    let is_up = |node: NodeId| node == router.me() || up.contains(&node);
    let shards = (0..topology.shards.len()).map(|shard| ShardId(shard as u16));
    let moves = shards.filter_map(|shard| {
        let (leader, wanted) = (topology.leader_of(shard)?, topology.replicas_of(shard).next()?);
        let json = MoveJson { shard: shard.0, from: leader.name.clone(), to: wanted.name.clone() };
        (leader.id != wanted.id && is_up(wanted.id)).then_some((shard, wanted.id, json))
    });
    moves.collect()
}
