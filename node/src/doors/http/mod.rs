//! The HTTP door: the same cluster for `curl`, browsers, load balancers, probes and Prometheus (docs/HTTP.md).
//!
//! A request becomes one request of the binary protocol, in a session of its own ([`call`]). What a path, a header and a body mean is
//! decided by pure functions ([`query`], [`negotiate`], [`entry`]); what goes wrong is a [`problem`].

mod batch;
mod body;
mod bulk;
mod cache;
mod call;
mod cluster;
mod console;
mod entry;
mod explain;
mod fast;
mod health;
mod idempotency;
mod kv;
mod limits;
mod metrics;
mod negotiate;
mod openapi;
mod operate;
mod outflow;
mod pages;
mod problem;
mod query;
mod request;
mod scan;
mod serve;
mod slow;
mod slow_log;
mod tokens;
mod whose;

pub(crate) use console::Console;
pub use serve::HttpDoor;

use crate::auth::login::Logins;
use crate::doors::inflow::Inflow;
use crate::runtime::status::Inspector;
use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use call::Caller;
use http::request::Parts;
use kvorum_core::health::pressure::Pressure;
use kvorum_core::session::SessionContext;
use kvorum_protocol::Topology;
use limits::{JSON_BYTES_MAX, LOGIN_BYTES_MAX, RAW_BYTES_MAX};
use metrics::{HttpRequests, KEY_ROUTE};
use outflow::Outflow;
use problem::{NOT_FOUND, Problem};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What answering takes.
pub struct Api {
    caller: Caller,
    inspector: Arc<Inspector>,
    pressure: Arc<Pressure>,
    logins: Arc<Logins>,
    inflow: Arc<Inflow>,
    outflow: Outflow,
    console: Arc<Console>,
    /// The node's name.
    name: String,
    /// The node has caught up since it started.
    was_ready: AtomicBool,
    http_requests: HttpRequests,
}

impl Api {
    /// An API in front of `context`.
    pub(crate) fn new(
        context: Arc<SessionContext>,
        inspector: Arc<Inspector>,
        pressure: Arc<Pressure>,
        logins: Arc<Logins>,
        inflow: Arc<Inflow>,
        console: Arc<Console>,
        name: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            caller: Caller::new(context),
            inspector,
            pressure,
            logins,
            inflow,
            outflow: Outflow::default(),
            console,
            name,
            was_ready: AtomicBool::new(false),
            http_requests: HttpRequests::default(),
        })
    }

    /// The ring map with the leaders that are known.
    fn topology(&self) -> Arc<Topology> {
        self.caller.context().router.topology_now()
    }

    /// Reads a body of JSON.
    async fn read_json(&self, parts: &Parts, body: Body) -> Result<Bytes, Problem> {
        body::read(&parts.headers, body, JSON_BYTES_MAX, self.inflow.share(address(parts))).await
    }

    /// Reads a body of somebody who has not said who he is.
    async fn read_login(&self, parts: &Parts, body: Body) -> Result<Bytes, Problem> {
        body::read(&parts.headers, body, LOGIN_BYTES_MAX, self.inflow.share(address(parts))).await
    }

    /// Reads a body that is a value.
    async fn read_value(&self, parts: &Parts, body: Body) -> Result<Bytes, Problem> {
        body::read(&parts.headers, body, RAW_BYTES_MAX, self.inflow.share(address(parts))).await
    }
}

fn address(parts: &Parts) -> IpAddr {
    parts.extensions.get::<request::From>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.address)
}

/// Which path is answered how.
fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/kv", get(kv::get_by_query).put(kv::put_envelope).delete(kv::delete_by_query))
        .route(KEY_ROUTE, get(kv::get).put(kv::put).delete(kv::delete).post(kv::incr))
        .route("/batch", post(batch::batch))
        .route("/atomic", post(batch::atomic))
        .route("/mapping", get(cluster::mapping))
        .route("/explain", get(explain::explain))
        .route("/nodes", get(cluster::nodes))
        .route("/nodes/{node}/drain", post(operate::drain))
        .route("/nodes/{node}/undrain", post(operate::undrain))
        .route("/nodes/{node}/remove", post(operate::remove))
        .route("/nodes/{node}/keep", post(operate::keep))
        .route("/nodes/{node}/replace", post(operate::replace))
        .route("/nodes/{node}/set", post(operate::set))
        .route("/shards/{shard}/leader", post(explain::lead))
        .route("/cluster", get(operate::cluster))
        .route("/cluster/plan", get(operate::plan))
        .route("/cluster/pause", post(operate::pause))
        .route("/cluster/resume", post(operate::resume))
        .route("/cluster/repair", post(operate::repair))
        .route("/cluster/rate", post(operate::rate))
        .route("/cluster/finalize", post(operate::finalize))
        .route("/cluster/tokens", post(tokens::make))
        .route("/heartbeat", post(cluster::heartbeat))
        .route("/rebalance", get(cluster::rebalance_progress).post(cluster::rebalance))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/cache/stats", get(cache::cache_stats))
        .route("/slowlog", get(slow_log::slow_log))
        .route("/problems/{code}", get(pages::problem))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(pages::docs))
        .route("/docs/{file}", get(pages::docs_file))
        .merge(console::routes())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), metrics::count))
        .with_state(api)
}

async fn not_found(request: axum::extract::Request) -> Problem {
    // `/kv/` and `//` are nobody's: a key has at least one byte.
    if request.uri().path().starts_with("/kv") {
        return Problem::invalid("the key is empty");
    }
    Problem::new(&NOT_FOUND, "nothing is served at this address; see /docs")
}

async fn method_not_allowed(request: axum::extract::Request) -> Problem {
    let path = request.uri().path();
    Problem::method_not_allowed(match path {
        "/kv" => "GET, HEAD, PUT, DELETE",
        "/rebalance" => "GET, HEAD, POST",
        "/batch" | "/atomic" | "/heartbeat" => "POST",
        _ if path.starts_with("/cluster/") && path != "/cluster/plan" => "POST",
        _ if path.starts_with("/nodes/") || path.starts_with("/shards/") => "POST",
        "/console/login" | "/console/logout" => "POST",
        _ if path.starts_with("/kv/") && path.ends_with("/incr") => "GET, HEAD, PUT, DELETE, POST",
        _ if path.starts_with("/kv/") => "GET, HEAD, PUT, DELETE",
        _ => "GET, HEAD",
    })
}
