//! How the cluster stands, and what operators ask of it.

use super::Api;
use super::cluster::{find_node, name_of};
use super::kv::{json_response, unexpected};
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use kvorum_client::verdict::{self, ClusterHealth};
use kvorum_protocol::limits::{ABSENCE_MS_MAX, MOVE_RATE_MB_MAX, NODE_WEIGHT_MAX};
use kvorum_protocol::{
    AdminCommand, ClusterPlan, ClusterVerb, Epoch, MovePurpose, NodeInfo, PlannedMove, RequestBody, ResponseBody,
    ShardId, StatusScope, Topology,
};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// How long other nodes are waited for.
const CLUSTER_WITHIN: Duration = Duration::from_millis(1_500);
/// For how long a node is drained, unless said otherwise.
const ABSENCE_DEFAULT_MS: u64 = 600_000;

/// How the cluster stands.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(super) struct ClusterJson {
    /// `ok`; `healing`, while some shard lacks replicas and that mends itself; `at_risk`, if it does not; `unavailable`, if some
    /// shard has no leader.
    verdict: &'static str,
    /// The same in a sentence.
    summary: String,
    /// So many nodes, whichever they are, may be lost now, and each shard still has a majority.
    can_lose_nodes: usize,
    /// So many zones.
    can_lose_zones: usize,
    /// What is the matter with nodes and moves, a sentence each.
    findings: Vec<String>,
    /// Moves of replicas that are under way.
    moves_under_way: usize,
    /// Moves of replicas that are to come.
    moves_to_come: usize,
    /// About how many seconds the moves take, if anything tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves_end_in_s: Option<u64>,
    /// What an operator should do.
    next: String,
    /// The epoch of the ring map.
    epoch: u64,
}

impl ClusterJson {
    /// What was found, under the ring map of `epoch`.
    pub(super) fn new(health: ClusterHealth, epoch: Epoch) -> Self {
        Self {
            verdict: health.verdict.name(),
            summary: health.summary,
            can_lose_nodes: health.can_lose_nodes,
            can_lose_zones: health.can_lose_zones,
            findings: health.findings,
            moves_under_way: health.moves_under_way,
            moves_to_come: health.moves_to_come,
            moves_end_in_s: health.moves_end_in.map(|time| time.as_secs()),
            next: health.advice,
            epoch: epoch.0,
        }
    }
}

/// `GET /cluster`.
#[utoipa::path(
    get, path = "/cluster", tag = "cluster", operation_id = "cluster",
    summary = "How the cluster stands",
    description = "Asks every node, and waits 1.5 s at most.",
    params(
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The verdict, whatever it is", body = ClusterJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cluster(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let within = asked.within.min(CLUSTER_WITHIN);
    let status = api.caller.read(&asked.whose, RequestBody::Status(StatusScope::Cluster), within);
    let plan = api.caller.read(&asked.whose, RequestBody::Admin(AdminCommand::Plan(None)), within);
    let (status, plan) = tokio::join!(status, plan);
    let ResponseBody::Status(statuses) = status?.body else { return Err(unexpected()) };
    // That nobody speaks for the ring map is part of how the cluster stands.
    let plan = plan.ok().and_then(|reply| match reply.body {
        ResponseBody::Plan(plan) => Some(plan),
        _ => None,
    });
    let statuses: Vec<kvorum_client::NodeStatus> = statuses.into_iter().map(Into::into).collect();
    let topology = api.topology();
    let health = verdict::verdict(&topology, &statuses, plan.as_deref());
    Ok(json_response(StatusCode::OK, &ClusterJson::new(health, topology.epoch)))
}

/// What the cluster does and what is to come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub(super) struct PlanJson {
    /// The epoch of the ring map that it starts from.
    epoch: u64,
    /// The moves of replicas: those under way, then the others in the order in which they begin.
    moves: Vec<PlannedMoveJson>,
    /// How many shards are to be led by another node, once everything has moved.
    leadership_moves: u16,
    /// No replica begins to move, repair aside.
    paused: bool,
    /// How many MiB per second a node sends of snapshots at most, if an operator has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_mb: Option<u32>,
    /// Why something does not go on.
    reasons: Vec<String>,
    /// The cluster's feature level.
    level: u16,
    /// The level to which it could go now, if that is a higher one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_level: Option<u16>,
}

/// A move of a replica.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlannedMove)]
pub(super) struct PlannedMoveJson {
    /// The shard's number, or `meta` for the group that holds the ring map.
    shard: String,
    /// The node whose replica goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The node that takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// `repair`, `removal` or `balance`.
    purpose: &'static str,
    /// It has begun.
    under_way: bool,
}

impl PlanJson {
    fn new(topology: &Topology, plan: ClusterPlan) -> Self {
        let name = |node| name_of(topology, node);
        let json = |one: PlannedMove| PlannedMoveJson {
            shard: if one.shard == ShardId::META { "meta".to_owned() } else { one.shard.to_string() },
            from: one.from.map(name),
            to: one.to.map(name),
            purpose: match one.purpose {
                MovePurpose::Repair => "repair",
                MovePurpose::Removal => "removal",
                MovePurpose::Balance => "balance",
            },
            under_way: one.under_way,
        };
        Self {
            epoch: plan.epoch.0,
            moves: plan.moves.into_iter().map(json).collect(),
            leadership_moves: plan.leads,
            paused: plan.paused,
            rate_mb: plan.rate_mb,
            reasons: plan.reasons.into_iter().map(|reason| reason.text).collect(),
            level: plan.level,
            next_level: plan.next_level,
        }
    }
}

/// `GET /cluster/plan`.
#[utoipa::path(
    get, path = "/cluster/plan", tag = "cluster", operation_id = "plan",
    summary = "Which replicas move, and which are to move",
    description = "",
    params(
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The plan", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn plan(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    plan_of(&api, &asked, None).await
}

async fn plan_of(api: &Api, asked: &Asked<'_>, verb: Option<ClusterVerb>) -> Result<Response, Problem> {
    let body = RequestBody::Admin(AdminCommand::Plan(verb));
    let reply = api.caller.read(&asked.whose, body, asked.within).await?;
    let ResponseBody::Plan(plan) = reply.body else { return Err(unexpected()) };
    Ok(json_response(StatusCode::OK, &PlanJson::new(&api.topology(), *plan)))
}

/// What is wanted of a node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeState)]
pub(super) struct NodeStateJson {
    /// Its name.
    node: String,
    /// `up`, `draining` or `removing`.
    state: &'static str,
    /// The epoch of the ring map that this node knows.
    epoch: u64,
}

/// Asks the cluster for something that concerns a node.
async fn ask_of(
    api: &Api,
    asked: &Asked<'_>,
    node: NodeInfo,
    verb: ClusterVerb,
    (status, state): (StatusCode, &'static str),
) -> Result<Response, Problem> {
    api.caller.read(&asked.whose, RequestBody::Admin(AdminCommand::Ask(verb)), asked.within).await?;
    Ok(json_response(status, &NodeStateJson { node: node.name, state, epoch: api.topology().epoch.0 }))
}

/// `POST /nodes/{node}/drain`.
#[utoipa::path(
    post, path = "/nodes/{node}/drain", tag = "cluster", operation_id = "drain_node",
    summary = "Announce that a node will be away for a while",
    description = "It hands over what it leads, is given nothing, and what it holds is not made anew. May be repeated.",
    params(
        ("node" = String, Path, description = "The node's name or id"),
        ("for_ms" = Option<u64>, Query, description = "For how long, in milliseconds; ten minutes by default",
            minimum = 1, maximum = 604800000),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "It is drained", body = NodeStateJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["for_ms"])?;
    let for_ms = asked.query.value("for_ms", "milliseconds")?.unwrap_or(ABSENCE_DEFAULT_MS);
    if !(1..=ABSENCE_MS_MAX).contains(&for_ms) {
        return Err(Problem::invalid("for_ms is 1 to 604800000, which is a week"));
    }
    let found = find_node(&api, &node)?;
    let verb = ClusterVerb::Drain { node: found.id, for_ms };
    ask_of(&api, &asked, found, verb, (StatusCode::OK, "draining")).await
}

/// `POST /nodes/{node}/undrain`.
#[utoipa::path(
    post, path = "/nodes/{node}/undrain", tag = "cluster", operation_id = "undrain_node",
    summary = "A node that was drained is as any other again",
    description = "May be repeated.",
    params(
        ("node" = String, Path, description = "The node's name or id"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "It is as any other", body = NodeStateJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn undrain(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let found = find_node(&api, &node)?;
    let verb = ClusterVerb::Undrain(found.id);
    ask_of(&api, &asked, found, verb, (StatusCode::OK, "up")).await
}

/// `POST /nodes/{node}/remove`.
#[utoipa::path(
    post, path = "/nodes/{node}/remove", tag = "cluster", operation_id = "remove_node",
    summary = "Have a node give all it holds to others and leave for good",
    description = "The node may be dead. Answered once that is recorded; the replicas move then. May be repeated.",
    params(
        ("node" = String, Path, description = "The node's name or id"),
        ("accept_fewer_zones" = Option<bool>, Query, description = "Even if replicas stand in fewer zones then"),
        ("dry_run" = Option<bool>, Query, description = "Only say what would move"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "What would move", body = PlanJson),
        (status = 202, description = "It is under way", body = NodeStateJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["accept_fewer_zones", "dry_run"])?;
    let accept_fewer_zones = asked.query.flag("accept_fewer_zones")?;
    let found = find_node(&api, &node)?;
    let verb = ClusterVerb::Remove { node: found.id, accept_fewer_zones };
    leave(&api, &asked, found, verb).await
}

async fn leave(api: &Api, asked: &Asked<'_>, node: NodeInfo, verb: ClusterVerb) -> Result<Response, Problem> {
    match asked.query.flag("dry_run")? {
        true => plan_of(api, asked, Some(verb)).await,
        false => ask_of(api, asked, node, verb, (StatusCode::ACCEPTED, "removing")).await,
    }
}

/// `POST /nodes/{node}/keep`.
#[utoipa::path(
    post, path = "/nodes/{node}/keep", tag = "cluster", operation_id = "keep_node",
    summary = "Have a node stay that is being removed",
    description = "What has moved by then stays where it is, and evens out again. May be repeated.",
    params(
        ("node" = String, Path, description = "The node's name or id"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "It stays", body = NodeStateJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn keep(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let found = find_node(&api, &node)?;
    let verb = ClusterVerb::Keep(found.id);
    ask_of(&api, &asked, found, verb, (StatusCode::OK, "up")).await
}

/// `POST /nodes/{node}/replace`.
#[utoipa::path(
    post, path = "/nodes/{node}/replace", tag = "cluster", operation_id = "replace_node",
    summary = "Have another node take a node's place",
    description = "The node, which may be dead, gives all it holds to the other one, and leaves for good. May be repeated.",
    params(
        ("node" = String, Path, description = "The name or id of the node that leaves"),
        ("by" = String, Query, description = "The name or id of the node that takes its place"),
        ("dry_run" = Option<bool>, Query, description = "Only say what would move"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "What would move", body = PlanJson),
        (status = 202, description = "It is under way", body = NodeStateJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["by", "dry_run"])?;
    let by = asked.query.text("by")?.ok_or_else(|| Problem::invalid("by is missing: the node that takes its place"))?;
    let (found, new) = (find_node(&api, &node)?, find_node(&api, by)?);
    let verb = ClusterVerb::Replace { old: found.id, new: new.id };
    leave(&api, &asked, found, verb).await
}

/// `POST /cluster/pause`.
#[utoipa::path(
    post, path = "/cluster/pause", tag = "cluster", operation_id = "pause",
    summary = "Have no replica begin to move",
    description = "Moves that have begun end, and repair goes on. May be repeated.",
    responses(
        (status = 200, description = "The plan, which is paused", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    ask_cluster(&api, request, ClusterVerb::Pause(true)).await
}

/// `POST /cluster/resume`.
#[utoipa::path(
    post, path = "/cluster/resume", tag = "cluster", operation_id = "resume",
    summary = "Let replicas move again",
    description = "May be repeated.",
    responses(
        (status = 200, description = "The plan", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    ask_cluster(&api, request, ClusterVerb::Pause(false)).await
}

/// `POST /cluster/repair`.
#[utoipa::path(
    post, path = "/cluster/repair", tag = "cluster", operation_id = "repair",
    summary = "Make anew at once what nodes that are down hold",
    description = "However many they are, and however short they have been away. May be repeated.",
    responses(
        (status = 200, description = "The plan", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn repair(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    ask_cluster(&api, request, ClusterVerb::AllowRepair).await
}

/// `POST /cluster/rate`.
#[utoipa::path(
    post, path = "/cluster/rate", tag = "cluster", operation_id = "rate",
    summary = "Set how fast replicas move",
    description = "How many MiB per second a node sends of snapshots at most. May be repeated.",
    params(("mb" = Option<u32>, Query, description = "MiB per second; the default, if it is left out", minimum = 1, maximum = 16384)),
    responses(
        (status = 200, description = "The plan", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rate(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["mb"])?;
    let mb: Option<u32> = asked.query.value("mb", "MiB per second")?;
    if mb.is_some_and(|mb| !(1..=MOVE_RATE_MB_MAX).contains(&mb)) {
        return Err(Problem::invalid("mb is 1 to 16384"));
    }
    ask_and_plan(&api, &asked, ClusterVerb::Rate(mb)).await
}

/// `POST /cluster/finalize`.
#[utoipa::path(
    post, path = "/cluster/finalize", tag = "cluster", operation_id = "finalize",
    summary = "Raise the cluster to the highest level that all its nodes speak",
    description = "There is no way back: an older program can't join any more. Refused while a node is away or older.",
    responses(
        (status = 200, description = "The plan, with the new level", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn finalize(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    ask_cluster(&api, request, ClusterVerb::Finalize).await
}

/// `POST /nodes/{node}/set`.
#[utoipa::path(
    post, path = "/nodes/{node}/set", tag = "cluster", operation_id = "set_node",
    summary = "Change a node's zone or weight",
    description = "Replicas move until they stand as they then should. What is left out stays as it is. May be repeated.",
    params(
        ("node" = String, Path, description = "The node's name or id"),
        ("zone" = Option<String>, Query, description = "Its failure zone from now on; empty for one of its own", max_length = 255),
        ("weight" = Option<u32>, Query, description = "How much it takes, relative to the others", minimum = 1, maximum = 1000),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The plan", body = PlanJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["zone", "weight"])?;
    let zone = asked.query.name("zone")?;
    let weight: Option<u32> = asked.query.value("weight", "a number")?;
    if weight.is_some_and(|weight| !(1..=NODE_WEIGHT_MAX).contains(&weight)) {
        return Err(Problem::invalid("weight is 1 to 1000"));
    }
    let verb = ClusterVerb::Set { node: find_node(&api, &node)?.id, zone, weight };
    ask_and_plan(&api, &asked, verb).await
}

async fn ask_cluster(api: &Api, request: axum::extract::Request, verb: ClusterVerb) -> Result<Response, Problem> {
    // Its body, which nobody reads, can't be kept while others are waited for.
    let (parts, _) = request.into_parts();
    ask_and_plan(api, &Asked::of_parts(&parts, &[])?, verb).await
}

async fn ask_and_plan(api: &Api, asked: &Asked<'_>, verb: ClusterVerb) -> Result<Response, Problem> {
    api.caller.read(&asked.whose, RequestBody::Admin(AdminCommand::Ask(verb)), asked.within).await?;
    plan_of(api, asked, None).await
}
