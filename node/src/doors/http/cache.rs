//! Hits, misses and memory: of this node, or of all of them together.

use super::Api;
use super::cluster::NODES_WITHIN;
use super::kv::json_response;
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use crate::runtime::cache_figures::CacheFigures;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// What is counted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CacheScope)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// This node.
    Node,
    /// All nodes of the cluster that answer.
    Cluster,
}

/// Figures of reads.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CacheStats)]
pub(super) struct CacheStats {
    /// GETs, of clients and of nodes that passed them on, that were answered out of the memory of the node that was asked.
    hits: u64,
    /// Those for which another node, a quorum or a disk was asked. One that is passed on is a miss where it came in.
    misses: u64,
    /// The share of hits, 0 to 1; `null` before the first read.
    hit_ratio: Option<f64>,
    /// Keys of replicas. Of the cluster, a key counts once for each node that holds it.
    keys: u64,
    /// Memory.
    memory: CacheMemory,
    /// Always 0: nothing is evicted.
    evictions: u64,
    /// Keys that replicas took out since their time had come; of the cluster, once for each node that held them.
    expired: u64,
    /// `null`: there is no such limit.
    capacity_keys: Option<u64>,
    /// What is kept in memory.
    policy: &'static str,
    /// What is counted.
    scope: Scope,
    /// Of the cluster: the nodes that are counted, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<String>>,
    /// Of the cluster: the nodes that did not answer in time, by name. They are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered: Option<Vec<String>>,
}

/// Memory, in bytes.
#[derive(Debug, Serialize, ToSchema)]
struct CacheMemory {
    /// Of the indexes.
    index_bytes: u64,
    /// What the indexes may take; `null` without a limit.
    index_limit_bytes: Option<u64>,
    /// Resident, with the mapped pages of the log.
    resident_bytes: u64,
    /// Of the logs, which are mapped.
    mapped_bytes: u64,
}

impl CacheStats {
    fn new(figures: CacheFigures, scope: Scope) -> Self {
        let CacheFigures { hits, misses, keys, expired, index_bytes, index_limit_bytes, resident_bytes, mapped_bytes } =
            figures;
        let all = hits + misses;
        Self {
            hits,
            misses,
            hit_ratio: (all > 0).then(|| hits as f64 / all as f64),
            keys,
            memory: CacheMemory { index_bytes, index_limit_bytes, resident_bytes, mapped_bytes },
            evictions: 0,
            expired,
            capacity_keys: None,
            policy: "none: the log is the database",
            scope,
            nodes: None,
            unanswered: None,
        }
    }
}

/// `GET /cache/stats`.
#[utoipa::path(
    get, path = "/cache/stats", tag = "health", operation_id = "cache_stats",
    summary = "Hits, misses and memory of this node, or of all nodes",
    description = "With scope=cluster it asks every node, and waits a second at most. A node that does not answer is named and \
                   not counted. Counts begin at 0 when a node starts, so sums go back when one starts again.",
    params(
        ("scope" = Option<Scope>, Query, description = "node: this one, and the default. cluster: the sum over all nodes"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses((status = 200, description = "Figures since the start", body = CacheStats),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn cache_stats(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["scope"])?;
    let scope = match asked.query.bytes("scope").map(|scope| &scope[..]) {
        None | Some(b"node") => Scope::Node,
        Some(b"cluster") => Scope::Cluster,
        Some(_) => return Err(Problem::invalid("the parameter scope is \"node\" or \"cluster\", or is left out")),
    };
    let stats = match scope {
        Scope::Node => CacheStats::new(api.inspector.cache_figures(), scope),
        Scope::Cluster => of_cluster(&api, asked.within.min(NODES_WITHIN)).await,
    };
    Ok(json_response(StatusCode::OK, &stats))
}

async fn of_cluster(api: &Api, within: Duration) -> CacheStats {
    let figures = api.inspector.cache_figures_of_all(within).await;
    // After the answers: who has answered is in the map by then, unless it has just gone.
    let topology = api.topology();
    let (mut nodes, mut unanswered) = (Vec::new(), Vec::new());
    let mut sum: Option<CacheFigures> = None;
    for node in &topology.nodes {
        match figures.iter().find(|(of, _)| *of == node.id) {
            Some((_, figures)) => {
                sum = Some(sum.map_or(*figures, |sum| sum.plus(*figures)));
                nodes.push(node.name.clone());
            }
            None => unanswered.push(node.name.clone()),
        }
    }
    let stats = CacheStats::new(sum.unwrap_or_default(), Scope::Cluster);
    CacheStats { nodes: Some(nodes), unanswered: Some(unanswered), ..stats }
}
