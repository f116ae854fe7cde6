//! The web console: its files, and what its pages ask this node (docs/HTTP.md, "Console").
//!
//! One task looks once a second at what the node has counted, and keeps it in rings of fixed size. Other nodes are asked only while
//! somebody looks. What a second has brought is encoded once, for however many look.
//!
//! The addresses below `/console/` belong to the pages, and change with them. They are not described in `/openapi.json`.

mod alarms;
mod counted;
mod events;
mod files;
mod happened;
mod heard;
mod heat;
mod history;
mod jobs;
mod login;
mod memory;
mod model;
mod node;
mod security;
mod sessions;
mod state;

use super::Api;
use super::kv::json_response;
use crate::config::{AuthMode, Config};
use crate::runtime::node_figures::NodeFigures;
use crate::runtime::status::Inspector;
use crate::runtime::system_clock;
use crate::runtime::threads::{ThreadsSeen, ThreadsUse};
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use counted::Counted;
use events::{Hub, Stay};
use files::Files;
use heard::Found;
use heat::HeatView;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use kvorum_core::clock::Nanos;
use kvorum_protocol::{ClusterClasses, HotKey, NodeId};
use memory::Memory;
use parking_lot::Mutex;
use serde::Serialize;
pub(super) use sessions::Login;
use sessions::Sessions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// How often the node looks at itself.
const TICK: Duration = Duration::from_secs(1);
/// Other nodes are asked this often while somebody looks,
const LOOK_EVERY_MS: u64 = 2_000;
/// and less often if it takes long: this many times as long is not looked.
const REST_TIMES: u32 = 10;
/// Who has asked for the state looks for so long, in milliseconds.
const LOOKS_FOR_MS: u64 = 10_000;
/// How long other nodes are waited for.
const OTHERS_WITHIN: Duration = Duration::from_secs(2);
/// How long the word of whoever speaks for the ring map is waited for.
const PLAN_WITHIN: Duration = Duration::from_millis(1_500);
/// How long who asks for the state waits for a look.
const FIRST_LOOK_WITHIN: Duration = Duration::from_millis(2_200);
/// Where the files of the pages are, while somebody works on them: instead of those in the program.
const FOLDER_VARIABLE: &str = "KVORUM_CONSOLE_DIR";

/// What the console knows of the node's configuration.
pub(super) struct OwnConfig {
    settings: Vec<(&'static str, Option<String>, &'static str)>,
    data_dir: PathBuf,
    workers: usize,
    headroom_bytes: u64,
    compaction_bytes_s: u64,
    scrub_bytes_s: u64,
    tls: crate::config::TlsConfig,
    mode: AuthMode,
}

/// The console of a node.
pub(crate) struct Console {
    inspector: Arc<Inspector>,
    config: OwnConfig,
    memory: Mutex<Memory>,
    hub: Hub,
    sessions: Sessions,
    files: Files,
    threads: Mutex<Option<ThreadsSeen>>,
    /// When somebody last asked for what a look finds, on the monotonic clock; 0 if never.
    asked_at: AtomicU64,
    /// A look is under way.
    looking: AtomicBool,
    /// Looks so far.
    looks: watch::Sender<u64>,
}

impl Console {
    /// The console of a node that starts.
    pub(crate) fn new(inspector: Arc<Inspector>, config: &Config) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shown = |setting: &crate::config::Setting| {
            (setting.path, setting.shown().map(str::to_owned), setting.origin.name())
        };
        let own = OwnConfig {
            settings: config.settings.iter().map(shown).collect(),
            data_dir: config.data_dir.clone(),
            workers: config.workers_on(processors),
            headroom_bytes: config.disk_headroom_bytes,
            compaction_bytes_s: config.compaction_bytes_per_second,
            scrub_bytes_s: config.scrub_bytes_per_second,
            tls: config.tls.clone(),
            mode: config.auth.mode,
        };
        let console = Arc::new_cyclic(|console: &Weak<Self>| {
            let figures = Weak::clone(console);
            inspector.set_figures(Box::new(move || Some(figures.upgrade()?.own_figures())));
            Self {
                inspector: Arc::clone(&inspector),
                config: own,
                memory: Mutex::new(Memory::new()),
                hub: Hub::default(),
                sessions: Sessions::new(),
                files: Files::new(std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)),
                threads: Mutex::default(),
                asked_at: AtomicU64::new(0),
                looking: AtomicBool::new(false),
                looks: watch::Sender::new(0),
            }
        });
        let started = format!("{} has started, version {}", config.name, env!("CARGO_PKG_VERSION"));
        let wall_ms = console.inspector.router().clock().now().wall_ms;
        console.memory.lock().happened.note(wall_ms, "start", started);
        console
    }

    /// Looks at the node once a second, and tells whoever listens, until the doors close.
    pub(crate) async fn run(self: Arc<Self>, drain: CancellationToken) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = drain.cancelled() => break,
            }
            let now = system_clock::monotonic();
            if self.is_watched(now) && self.is_due(now) {
                self.look();
            }
            // A fault of what only shows the node must not end the node.
            if catch_unwind(AssertUnwindSafe(|| self.tick())).is_err() {
                error!("the console has failed, and begins anew: its history is lost");
                let mut memory = self.memory.lock();
                *memory = memory.anew();
            }
        }
        // Their answers have no end of their own.
        self.hub.close();
    }

    fn tick(&self) {
        let router = self.inspector.router();
        let (now, counted) = (router.clock().now(), Counted::look(&self.inspector));
        let mut memory = self.memory.lock();
        memory.handle_tick(&self.inspector, now, &counted);
        if !self.hub.is_empty() {
            let frame = memory.frame(&self.inspector, now);
            drop(memory);
            self.hub.send(&frame, |stays| self.may_stay(stays, now.wall_ms));
        }
    }

    /// Whether who listens may go on.
    fn may_stay(&self, stays: &mut Stay, wall_ms: u64) -> bool {
        let router = self.inspector.router();
        if stays.login.as_ref().is_some_and(|login| !self.sessions.holds(login, wall_ms)) {
            return false;
        }
        if stays.access.generation() != router.auth().generation() {
            let Ok(access) = router.auth().access(&stays.principal, wall_ms) else { return false };
            stays.access = access;
        }
        !stays.access.is_over(router) && stays.access.may_cluster(ClusterClasses::STATUS)
    }

    fn is_watched(&self, now: Nanos) -> bool {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        !self.hub.is_empty() || (asked_at != 0 && now.ms_since(Nanos(asked_at)) < LOOKS_FOR_MS)
    }

    fn is_due(&self, now: Nanos) -> bool {
        self.memory.lock().looks_again_at.is_none_or(|at| now >= at)
    }

    /// Asks all nodes, unless that is under way.
    fn look(self: &Arc<Self>) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let looking = Looking(Arc::clone(self));
        tokio::spawn(async move {
            let inspector = &looking.0.inspector;
            let (statuses, figures, plan) = tokio::join!(
                inspector.statuses(OTHERS_WITHIN),
                inspector.figures_of_others(OTHERS_WITHIN),
                inspector.plan_within(PLAN_WITHIN),
            );
            let topology = inspector.router().topology_now();
            let (began, now) = (system_clock::monotonic(), inspector.router().clock().now());
            let mut memory = looking.0.memory.lock();
            memory.handle_look(Found { statuses, figures, plan }, &topology, now);
            let took_ms = system_clock::monotonic().ms_since(began);
            memory.looks_again_at = Some(now.monotonic.after_ms(LOOK_EVERY_MS.max(took_ms * u64::from(REST_TIMES))));
        });
    }

    /// Has the nodes asked, if nobody has for a while, and waits for that, but not for long.
    async fn look_if_due(self: &Arc<Self>) {
        let now = system_clock::monotonic();
        self.asked_at.store(now.0.max(1), Ordering::Relaxed);
        let looked_at = self.memory.lock().heard.looked_at();
        if looked_at.is_some_and(|at| now.ms_since(at) < LOOKS_FOR_MS) {
            return;
        }
        let mut looks = self.looks.subscribe();
        self.look();
        // What is known is told then, with its age.
        let _ = tokio::time::timeout(FIRST_LOOK_WITHIN, looks.changed()).await;
    }

    /// What other nodes' consoles show of this one.
    fn own_figures(&self) -> NodeFigures {
        self.memory.lock().own_figures(&self.inspector)
    }

    /// How many pages listen.
    pub(super) fn listeners(&self) -> usize {
        self.hub.len()
    }

    fn heat(&self) -> HeatView {
        self.memory.lock().heat.view()
    }

    /// What nodes told of hot keys; this one's are new.
    fn hot_keys(&self) -> Vec<(NodeId, HotKey)> {
        let own = self.inspector.status();
        let memory = self.memory.lock();
        let others = memory.heard.nodes().filter(|heard| heard.answers && heard.status.node != own.node);
        let others = others.map(|heard| (heard.status.node, heard.status.hot_keys.clone()));
        let all = others.chain([(own.node, own.hot_keys)]);
        all.flat_map(|(node, keys)| keys.into_iter().map(move |key| (node, key))).collect()
    }

    /// What the threads have done since the last look at them.
    fn threads(&self) -> Vec<ThreadsUse> {
        let seen = ThreadsSeen::look(system_clock::monotonic());
        let mut last = self.threads.lock();
        let told = seen.since(last.as_ref(), rustix::param::clock_ticks_per_second());
        *last = Some(seen);
        told
    }

    /// Who has logged in by a request's cookie.
    pub(super) fn login_of(&self, headers: &HeaderMap) -> Option<Login> {
        let value = sessions::cookie_of(headers)?;
        self.sessions.read(value, self.inspector.router().clock().now().wall_ms)
    }

    /// The state as everybody gets it, encoded once a second at most.
    fn shared_state(&self) -> Bytes {
        let now = self.inspector.router().clock().now();
        let listened = !self.hub.is_empty();
        self.memory.lock().state(&self.inspector, now, listened)
    }
}

/// A look that is under way, however it ends.
struct Looking(Arc<Console>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
        self.0.looks.send_modify(|looks| *looks += 1);
    }
}

/// An answer that nobody keeps.
fn no_store(body: &impl Serialize) -> Response {
    let mut response = json_response(StatusCode::OK, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The console's addresses, with their methods: all that are not files.
#[cfg(test)]
pub(super) const ADDRESSES: [(&str, &str); 12] = [
    ("GET", "/"),
    ("GET", "/console/state"),
    ("GET", "/console/history"),
    ("GET", "/console/events"),
    ("GET", "/console/node"),
    ("GET", "/console/log"),
    ("GET", "/console/heat"),
    ("GET", "/console/jobs"),
    ("GET", "/console/security"),
    ("GET", "/console/who"),
    ("POST", "/console/login"),
    ("POST", "/console/logout"),
];

/// How they are answered.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/", get(files::index))
        .route("/console", get(files::home))
        .route("/console/", get(files::home))
        .route("/console/{*file}", get(files::file))
        .route("/console/state", get(state::state))
        .route("/console/history", get(state::history))
        .route("/console/events", get(events::events))
        .route("/console/node", get(node::node))
        .route("/console/log", get(node::log))
        .route("/console/heat", get(heat::heat))
        .route("/console/jobs", get(jobs::jobs))
        .route("/console/security", get(security::security))
        .route("/console/who", get(login::who))
        .route("/console/login", post(login::login))
        .route("/console/logout", post(login::logout))
}
