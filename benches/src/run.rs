//! A whole run: look at the cluster, write the keys, load, measure, report.

use crate::control::Control;
use crate::draw::Draw;
use crate::engine::{ConnectionError, Schedule, Settings};
use crate::fleet::{Fleet, FleetPlan};
use crate::keys::KeySpace;
use crate::limits::{
    FILL_DURATION_MAX, FILL_PIPELINE, FILL_STALL_MAX, LEADERS_PAUSE, LEADERS_WAIT, RESP_CLUSTER_PORT_ABOVE,
};
use crate::options::{BenchProtocol, Distribution, Plan, Workload};
use crate::recorder::Recorder;
use crate::report::{Latency, Measured, Report};
use crate::routes::Router;
use crate::server_use::{self, NodeUse};
use crate::stop::{Stopped, unless_stopped};
use crate::wire::{Http, Kvorum, Protocol, Resp, above};
use crate::work::{Fill, FillClaims, Kind, Load, Work};
use kvorum_protocol::{NodeInfo, NodeStatus, Topology};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// No node answered.
    #[error("no node of {seeds} answered: {reason}")]
    Unreachable {
        /// The addresses that were tried.
        seeds: String,
        /// What the last one did.
        reason: String,
    },
    /// The keys could not be written before the run.
    #[error("{filled} of {keys} keys were written before the run; {reason}")]
    Fill {
        /// Keys written.
        filled: u64,
        /// Keys wanted.
        keys: u32,
        /// The most frequent trouble.
        reason: String,
    },
    /// The operating system refused a thread or an event queue.
    #[error("the operating system refused a thread: {0}")]
    System(#[from] io::Error),
    /// A fault of this program.
    #[error("a load thread panicked")]
    Panicked,
    /// A signal has come.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A run's state, told about once per second.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// Writing all keys.
    Filling {
        /// Keys written so far.
        filled: u64,
        /// Keys to write.
        keys: u32,
    },
    /// Loading and measuring.
    Measuring {
        /// Since the measured time began.
        elapsed: Duration,
        /// Operations that worked in the last second.
        operations_per_second: f64,
        /// Latency of those.
        latency: Latency,
        /// Errors of the last second, `Overloaded` among them.
        errors: u64,
    },
}

/// Runs `plan` to its end, which its durations bound. Blocks; starts its own threads and executors.
///
/// # Errors
/// The cluster can't be reached at all, the keys can't be written, or a signal has come. Trouble during the load is in the
/// report instead.
pub fn run(plan: &Plan, mut progress: impl FnMut(Progress) + Send) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = runtime.block_on(unless_stopped(Target::find(&plan.seeds)))?;
    match plan.protocol {
        BenchProtocol::Binary => Run::<Kvorum>::new(plan, target).go(&runtime, &mut progress),
        BenchProtocol::Http => Run::<Http>::new(plan, target).go(&runtime, &mut progress),
        BenchProtocol::Resp => {
            // Keys are written through the binary door, whose nodes pass on what they don't lead.
            let filled = Run::<Kvorum>::new(plan, target).filled(&runtime, &mut progress)?;
            let target = runtime.block_on(unless_stopped(Target::find(&plan.seeds)))?;
            Run::<Resp>::new(plan, target.by_resp()).loaded(filled, &runtime, &mut progress)
        }
    }
}

/// As [`run`], on servers that are known.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_on<P: Protocol>(plan: &Plan, target: Target) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Run::<P>::new(plan, target).go(&runtime, &mut |_| {})
}

/// What is loaded.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where which keys go. Systems without shards have one of them.
    pub(crate) topology: Topology,
    pub(crate) servers: Servers,
}

/// How the servers are asked what they spent.
#[derive(Debug)]
pub(crate) enum Servers {
    /// By STATUS.
    Cluster(Control),
    /// They are processes on this machine.
    Processes(Vec<u32>),
}

/// An answer to that.
enum Spent {
    Cluster(Vec<NodeStatus>),
    /// CPU time of all; `None` if one is gone.
    Processes(Option<Duration>),
}

impl Target {
    /// The cluster that answers at one of the addresses, once its shards have leaders.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(crate) async fn find(seeds: &[String]) -> Result<Self, BenchError> {
        let topology = find_cluster(seeds)
            .await
            .map_err(|error| BenchError::Unreachable { seeds: seeds.join(", "), reason: error.to_string() })?;
        let addresses = topology.nodes.iter().map(|node| node.client_address.clone()).collect();
        Ok(Self { topology, servers: Servers::Cluster(Control::new(addresses)) })
    }

    /// The same nodes where clients of Redis Cluster find them.
    pub(crate) fn by_resp(mut self) -> Self {
        for node in &mut self.topology.nodes {
            // An address that is none is told when it can't be connected to.
            node.client_address = above(&node.client_address, RESP_CLUSTER_PORT_ABOVE).unwrap_or_default();
        }
        self
    }
}

impl Servers {
    async fn spent(&mut self, nodes: &[NodeInfo]) -> Spent {
        match self {
            Self::Cluster(control) => Spent::Cluster(control.statuses(nodes).await),
            Self::Processes(processes) => Spent::Processes(processes.iter().copied().map(server_use::cpu_of).sum()),
        }
    }
}

struct Run<'a, P> {
    plan: &'a Plan,
    servers: Servers,
    keys: Arc<KeySpace>,
    router: Arc<Router>,
    /// None is held, so it need not be one that threads may share.
    protocol: PhantomData<fn() -> P>,
}

impl<'a, P: Protocol> Run<'a, P> {
    fn new(plan: &'a Plan, target: Target) -> Self {
        let Target { topology, servers } = target;
        // Inserts double the keys at most; then the last ones are written again.
        let room = if plan.distribution == Distribution::Latest { 2 * plan.keys } else { plan.keys };
        let shards = topology.shards.len() as u16;
        let keys = Arc::new(KeySpace::with_room(plan.keys, room, plan.key_bytes, shards));
        let router = Arc::new(Router::new(topology, Arc::clone(&keys)));
        Run { plan, servers, keys, router, protocol: PhantomData }
    }

    fn go(
        self,
        runtime: &tokio::runtime::Runtime,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Report, BenchError> {
        let filled = self.filled(runtime, progress)?;
        self.loaded(filled, runtime, progress)
    }

    fn filled(
        &self,
        runtime: &tokio::runtime::Runtime,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<u64, BenchError> {
        if self.plan.fill { runtime.block_on(unless_stopped(self.fill(progress))) } else { Ok(0) }
    }

    fn loaded(
        mut self,
        filled: u64,
        runtime: &tokio::runtime::Runtime,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Report, BenchError> {
        runtime.block_on(unless_stopped(self.load(filled, progress)))
    }

    /// Writes every key once. Ends when all are written, when none was for [`FILL_STALL_MAX`], or after
    /// [`FILL_DURATION_MAX`].
    async fn fill(&self, progress: &mut (impl FnMut(Progress) + Send)) -> Result<u64, BenchError> {
        let claims = Arc::new(FillClaims::new(&self.keys));
        let fleet_plan = self.fleet_plan(self.plan.pipeline.max(FILL_PIPELINE), false, None);
        let work = || Work::Fill(Fill::new(Arc::clone(&self.keys), Arc::clone(&claims)));
        let mut fleet = Fleet::launch::<P>(fleet_plan, work)?;
        self.require_open(&mut fleet).await?;
        let begin = Instant::now();
        fleet.begin(Schedule { begin, measure_from: begin, stop_at: begin + FILL_DURATION_MAX });
        let keys = self.plan.keys;
        let (mut filled, mut filled_at) = (0, begin);
        let mut tick = seconds_from(begin);
        loop {
            tokio::select! {
                () = fleet.finished() => break,
                _ = tick.tick() => {}
            }
            let now_filled = fleet.snapshot().filled;
            if now_filled > filled {
                (filled, filled_at) = (now_filled, Instant::now());
            } else if filled_at.elapsed() > FILL_STALL_MAX {
                fleet.halt();
            }
            progress(Progress::Filling { filled, keys });
        }
        let recorder = fleet.join().ok_or(BenchError::Panicked)?;
        if recorder.filled < u64::from(keys) {
            return Err(BenchError::Fill { filled: recorder.filled, keys, reason: main_trouble(&recorder) });
        }
        Ok(recorder.filled)
    }

    async fn load(&mut self, filled: u64, progress: &mut (impl FnMut(Progress) + Send)) -> Result<Report, BenchError> {
        let plan = self.plan;
        let budget = plan.operations.map(|operations| Arc::new(AtomicU64::new(operations)));
        let fleet_plan = self.fleet_plan(plan.pipeline, budget.is_some(), plan.rate);
        let draw = match plan.distribution {
            Distribution::Uniform => Draw::Even,
            Distribution::Zipfian => Draw::zipf(&self.keys),
            Distribution::Latest => Draw::latest(&self.keys),
        };
        let other = match plan.workload {
            Workload::YcsbD => Kind::Insert,
            Workload::YcsbF => Kind::ReadModifyWrite,
            _ => Kind::Put,
        };
        let work = || {
            Work::Load(Load {
                keys: Arc::clone(&self.keys),
                draw: draw.clone(),
                read_ratio: plan.read_ratio,
                other,
                route: plan.route,
                budget: budget.clone(),
            })
        };
        let mut fleet = Fleet::launch::<P>(fleet_plan, work)?;
        self.require_open(&mut fleet).await?;
        let begin = Instant::now();
        let measure_from = begin + plan.warmup;
        let stop_at = measure_from + plan.duration;
        fleet.begin(Schedule { begin, measure_from, stop_at });
        tokio::time::sleep_until(measure_from.into()).await;

        let nodes = self.router.current().topology.nodes.clone();
        let bench_cpu = process_cpu();
        let before = self.servers.spent(&nodes).await;
        watch(&mut fleet, measure_from, stop_at, progress).await;
        let ended = Instant::now().min(stop_at);
        let bench_cpu = process_cpu().saturating_sub(bench_cpu);
        let after = self.servers.spent(&nodes).await;

        let recorder = fleet.join().ok_or(BenchError::Panicked)?;
        let ended = if budget.is_some() { recorder.last_answer.unwrap_or(ended) } else { ended };
        let elapsed = ended.saturating_duration_since(measure_from);
        let (server_cpu, servers) = spent_between(&nodes, before, after);
        let topology = &self.router.current().topology;
        Ok(Report::new(plan, topology, &recorder, Measured { elapsed, filled, bench_cpu, server_cpu, servers }))
    }

    fn fleet_plan(&self, pipeline: usize, by_operations: bool, rate: Option<f64>) -> FleetPlan {
        let plan = self.plan;
        FleetPlan {
            connections: plan.connections,
            threads: plan.threads,
            seed: plan.seed,
            rate,
            settings: Arc::new(Settings {
                pipeline,
                value_bytes: plan.value_bytes,
                ack: plan.ack,
                read_mode: plan.read_mode,
                replicated: plan.replicated,
                route: plan.route,
                timeout: plan.timeout,
                by_operations,
                halt: AtomicBool::new(false),
            }),
            keys: Arc::clone(&self.keys),
            router: Arc::clone(&self.router),
        }
    }

    /// A run with some connections open is worth going on with (the report names the others), one with none is not.
    async fn require_open(&self, fleet: &mut Fleet) -> Result<(), BenchError> {
        if fleet.ready().await > 0 {
            return Ok(());
        }
        let routes = self.router.current();
        let seeds = routes.topology.nodes.iter().map(|node| node.client_address.as_str());
        let reason = "no connection could be opened to the nodes of the topology".to_owned();
        Err(BenchError::Unreachable { seeds: seeds.collect::<Vec<_>>().join(", "), reason })
    }
}

/// The topology, once every shard has a leader; without some after [`LEADERS_WAIT`], since the others still work.
async fn find_cluster(seeds: &[String]) -> Result<Topology, ConnectionError> {
    let mut control = Control::new(seeds.to_vec());
    let begin = Instant::now();
    loop {
        let topology = control.topology().await?;
        if topology.shards.iter().all(|shard| shard.leader.is_some()) || begin.elapsed() > LEADERS_WAIT {
            return Ok(topology);
        }
        tokio::time::sleep(LEADERS_PAUSE).await;
    }
}

/// Tells about each second until the measured time, or the work, is over.
async fn watch(
    fleet: &mut Fleet,
    measure_from: Instant,
    stop_at: Instant,
    progress: &mut (impl FnMut(Progress) + Send),
) {
    let mut tick = seconds_from(measure_from);
    let (mut last, mut last_at) = (fleet.snapshot(), Instant::now());
    loop {
        tokio::select! {
            () = fleet.finished() => return,
            () = tokio::time::sleep_until(stop_at.into()) => return,
            _ = tick.tick() => {}
        }
        let (now, snapshot) = (Instant::now(), fleet.snapshot());
        let mut histogram = snapshot.all();
        histogram.subtract(last.all()).expect("counts only grow");
        let seconds = (now - last_at).as_secs_f64();
        progress(Progress::Measuring {
            elapsed: now - measure_from,
            operations_per_second: histogram.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            latency: Latency::new(&histogram),
            errors: errors(&snapshot) - errors(&last),
        });
        (last, last_at) = (snapshot, now);
    }
}

/// CPU time of all servers, and what each of them spent, if that is known.
fn spent_between(nodes: &[NodeInfo], before: Spent, after: Spent) -> (Option<Duration>, Option<Vec<NodeUse>>) {
    match (before, after) {
        (Spent::Cluster(before), Spent::Cluster(after)) => {
            let servers = server_use::between(nodes, &before, &after);
            let sum = |servers: &Vec<NodeUse>| servers.iter().map(|server| server.cpu_us).sum();
            (servers.as_ref().map(sum).map(Duration::from_micros), servers)
        }
        (Spent::Processes(before), Spent::Processes(after)) => {
            (after.zip(before).map(|(after, before)| after - before), None)
        }
        _ => (None, None),
    }
}

fn errors(recorder: &Recorder) -> u64 {
    recorder.overloaded + recorder.errors.values().sum::<u64>()
}

fn seconds_from(begin: Instant) -> tokio::time::Interval {
    let second = Duration::from_secs(1);
    let mut tick = tokio::time::interval_at((begin + second).into(), second);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    tick
}

/// The most frequent error or loss, for a message.
fn main_trouble(recorder: &Recorder) -> String {
    let errors = recorder.errors.iter().map(|(name, &count)| (count, name.clone()));
    let lost = recorder.lost.iter().map(|(reason, &count)| (count, reason.clone()));
    let overloaded = std::iter::once((recorder.overloaded, "Overloaded".to_owned()));
    match errors.chain(lost).chain(overloaded).max() {
        Some((count, what)) if count > 0 => format!("{count} × {what}"),
        _ => "the servers are too slow".to_owned(),
    }
}

/// CPU time of this process.
fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
