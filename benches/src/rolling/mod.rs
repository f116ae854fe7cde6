//! Rolling restarts and upgrades: what clients that do not retry see of them.
//!
//! Every shard is written to all the time, in an open loop, through the client library; each write is sent once. A node is
//! stopped by SIGTERM and started again, and the next one follows once all replicas are whole, as OPERATIONS.md tells an operator
//! to. An upgrade goes as upgrades go: half of the nodes, a node that joins and one that is drained between two versions,
//! back, on again to the end, and the level.
//!
//! ```text
//! options ─► rolling (here) ─► nodes (processes of two programs), client (verbs), rings (the map)
//!                    └───────► outage: writers (client library), gaps (arithmetic) ─► table
//! ```

mod options;

pub use options::RollingOptions;

use crate::control::Control;
use crate::limits::NODES;
use crate::outage::gaps::{longest, milliseconds, percentile};
use crate::outage::writers::{Retries, Writers};
use crate::stop;
use crate::storage::nodes::{Nodes, Shape};
use crate::storage::{MeasureError, StorageError, Table, program, rings, statuses, whole_replicas};
use kvorum_client::{Client, ClusterVerb};
use kvorum_protocol::{NodeId, ShardId, Topology};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The pause between two looks at the cluster. Figures come from the times of answers, not from these looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Replicas of each group of a cluster of three nodes or four.
const REPLICAS: usize = 3;
/// For how long a node is drained at most.
const DRAINED_MS: u64 = 60_000;

/// What was measured.
pub struct RollingOutcome {
    /// For people and programs.
    pub table: Table,
    /// Writes that failed.
    pub failed: u64,
}

/// What is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Restart,
    Upgrade,
    Back,
    Join,
    Drain,
    Remove,
    Finalize,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Restart => "a node is restarted",
            Self::Upgrade => "a node is upgraded",
            Self::Back => "a node goes back",
            Self::Join => "a node joins between the versions",
            Self::Drain => "a node is drained and undrained between the versions",
            Self::Remove => "a node is removed",
            Self::Finalize => "the level rises",
        }
    }
}

/// What was seen of one kind of step.
#[derive(Default)]
struct Seen {
    /// Of each step: the longest gap of any shard.
    gaps: Vec<Duration>,
    /// Of each step: until all replicas were whole.
    whole: Vec<Duration>,
    failed: u64,
}

/// Takes about `(nodes × rounds) × (restart + 2 × pause)`, and as much again for an upgrade; `progress` is told what goes on.
///
/// # Errors
/// The cluster does not start, or a step is not over within its limit. Everything that was started is gone by then.
pub fn rolling(options: &RollingOptions, progress: &mut dyn FnMut(String)) -> Result<RollingOutcome, MeasureError> {
    options.check()?;
    let newer = program(options.place.kvorum.as_ref());
    let mut place = options.place.clone();
    place.kvorum = Some(options.from.clone().unwrap_or_else(|| newer.clone()));
    let shape = Shape { nodes: NODES, shards: options.shards, port_offset: 0, environment: &[], secure: false };
    let nodes = Nodes::start_new(&place, &shape)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    let mut control = Control::new(nodes.addresses());
    let topology = runtime.block_on(control.topology()).map_err(StorageError::cluster("TOPOLOGY"))?;
    let client = runtime.block_on(Client::builder().seeds(nodes.addresses()).connect());
    let client = client.map_err(StorageError::cluster("connecting"))?;
    let rate = options.rate / u32::from(options.shards);
    let writers = Writers::start(&nodes.addresses(), &topology, rate, options.value_size, Retries::Never)?;
    let mut test =
        Test { options, writers, client, control, runtime, nodes, seen: BTreeMap::new(), undisturbed: Vec::new() };
    test.wait_until_whole()?;
    for _ in 0..options.rounds {
        (1..=NODES).try_for_each(|node| test.restart(Step::Restart, node, progress))?;
    }
    let mut notes = Vec::new();
    if let Some(older) = &options.from {
        notes.push(test.upgrade(older, &newer, progress)?);
    }
    Ok(test.outcome(notes))
}

struct Test<'a> {
    options: &'a RollingOptions,
    // Dropped before the nodes that it writes to.
    writers: Writers,
    client: Client,
    control: Control,
    runtime: Runtime,
    nodes: Nodes,
    seen: BTreeMap<Step, Seen>,
    /// Longest gaps of any shard before each step, in the pause that nothing is done in.
    undisturbed: Vec<Duration>,
}

impl Test<'_> {
    /// From the older program to the newer one, by way of what may happen between. Returns what became of the level.
    fn upgrade(
        &mut self,
        older: &Path,
        newer: &Path,
        progress: &mut dyn FnMut(String),
    ) -> Result<String, StorageError> {
        self.nodes.use_program(newer.to_path_buf());
        self.restart(Step::Upgrade, 1, progress)?;
        let mut joined = 0;
        self.step(Step::Join, "a node joins", progress, |test| {
            joined = test.nodes.add()?;
            test.wait_until_settled()
        })?;
        self.step(Step::Drain, "node 2 is drained", progress, |test| test.drain(2))?;
        self.restart(Step::Upgrade, 2, progress)?;
        self.nodes.use_program(older.to_path_buf());
        for node in [joined, 2, 1] {
            self.restart(Step::Back, node, progress)?;
        }
        self.nodes.use_program(newer.to_path_buf());
        for node in 1..=joined {
            self.restart(Step::Upgrade, node, progress)?;
        }
        self.step(Step::Remove, "the node that joined is removed", progress, |test| test.remove(joined))?;
        let plan = self.runtime.block_on(self.client.admin().plan(None));
        let plan = plan.map_err(StorageError::cluster("CLUSTER PLAN"))?;
        let Some(next) = plan.next_level else {
            return Ok(format!("Both programs speak level {} and no higher one: it stays.", plan.level));
        };
        self.step(Step::Finalize, "the level rises", progress, |test| test.ask(ClusterVerb::Finalize))?;
        Ok(format!("The cluster went from level {} to level {next}.", plan.level))
    }

    fn restart(&mut self, step: Step, node: usize, progress: &mut dyn FnMut(String)) -> Result<(), StorageError> {
        self.step(step, &format!("node {node}: {}", step.name()), progress, |test| {
            test.nodes.stop(node)?;
            test.nodes.start(node)
        })
    }

    /// Does something, waits until all replicas are whole again, and looks at what writers saw meanwhile.
    fn step(
        &mut self,
        step: Step,
        told: &str,
        progress: &mut dyn FnMut(String),
        act: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let quiet_from = Instant::now();
        self.writers.forget(quiet_from);
        stop::sleep(self.options.pause)?;
        let failed_before = self.failed();
        let began = Instant::now();
        let (undisturbed, _) = self.longest_gap(quiet_from, began);
        act(self)?;
        self.wait_until_whole()?;
        let whole = began.elapsed();
        // Leadership comes back only now.
        stop::sleep(self.options.pause)?;
        let (gap, shard) = self.longest_gap(began, Instant::now());
        let failed = self.failed() - failed_before;
        self.undisturbed.push(undisturbed);
        let seen = self.seen.entry(step).or_default();
        seen.gaps.push(gap);
        seen.whole.push(whole);
        seen.failed += failed;
        let (gap, whole) = (milliseconds(gap), milliseconds(whole));
        progress(format!(
            "{told}: longest gap {gap} ms (shard {shard}), whole after {whole} ms, {failed} writes failed"
        ));
        Ok(())
    }

    fn drain(&mut self, node: usize) -> Result<(), StorageError> {
        let (id, address) = (self.id(node)?, self.nodes.address(node));
        self.ask(ClusterVerb::Drain { node: id, for_ms: DRAINED_MS })?;
        self.wait("a drained node leads nothing", |test| {
            let topology = test.topology()?;
            let leads = |shard| topology.leader_of(shard).is_some_and(|node| node.client_address == address);
            Ok(!(0..test.options.shards).map(ShardId).any(leads))
        })?;
        self.ask(ClusterVerb::Undrain(id))
    }

    fn remove(&mut self, node: usize) -> Result<(), StorageError> {
        let id = self.id(node)?;
        self.nodes.expect_removed(node);
        self.ask(ClusterVerb::Remove { node: id, accept_fewer_zones: false })?;
        self.nodes.await_removed(node)
    }

    fn ask(&self, verb: ClusterVerb) -> Result<(), StorageError> {
        self.runtime.block_on(self.client.admin().ask(verb)).map_err(StorageError::cluster("a verb"))
    }

    fn id(&mut self, node: usize) -> Result<NodeId, StorageError> {
        let address = self.nodes.address(node);
        let found = self.topology()?.nodes.into_iter().find(|node| node.client_address == address);
        found.map(|node| node.id).ok_or_else(|| StorageError::cluster("TOPOLOGY")("the node is not in it"))
    }

    fn topology(&mut self) -> Result<Topology, StorageError> {
        self.runtime.block_on(self.control.topology()).map_err(StorageError::cluster("TOPOLOGY"))
    }

    /// The longest time in which a shard acknowledged nothing, and which one that was.
    fn longest_gap(&self, from: Instant, to: Instant) -> (Duration, ShardId) {
        let gap = |shard| (self.writers.look(shard, |answers| longest(answers, from, to)), shard);
        (0..self.options.shards).map(ShardId).map(gap).max().expect("there is a shard")
    }

    fn failed(&self) -> u64 {
        self.writers.failed().values().sum()
    }

    /// Waits until each group has all its replicas, and all are in step; the group of the ring map is one more.
    fn wait_until_whole(&mut self) -> Result<(), StorageError> {
        self.wait("every replica is whole", |test| {
            let statuses = test.runtime.block_on(statuses(&test.nodes.addresses()));
            let whole: usize =
                test.nodes.processes().into_iter().map(|process| whole_replicas(&statuses, process)).sum();
            Ok(whole >= REPLICAS * (usize::from(test.options.shards) + 1))
        })
    }

    /// Waits until each node that runs holds its share, and nothing moves.
    fn wait_until_settled(&mut self) -> Result<(), StorageError> {
        self.wait("every node holds its share", |test| {
            let ring = rings::newest(&test.nodes.data_dirs());
            let names: Vec<String> = (1..=test.nodes.processes().len()).map(|node| format!("node-{node}")).collect();
            Ok(ring.is_some_and(|ring| rings::is_settled(&ring, &names)))
        })
    }

    /// # Errors
    /// It is not so within the limit, or a node has ended by itself.
    fn wait(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        while !is_so(self)? {
            self.nodes.check(began, what)?;
            if began.elapsed() > self.options.limit {
                return Err(StorageError::TooLate { what: what.to_owned(), limit: self.options.limit });
            }
            stop::sleep(LOOK_PAUSE)?;
        }
        Ok(())
    }

    fn outcome(&self, notes: Vec<String>) -> RollingOutcome {
        let Self { options, .. } = self;
        let title = format!(
            "rolling: {NODES} nodes, {} shards, durability fsync; {} writes of {} B per second are due, each sent once",
            options.shards, options.rate, options.value_size
        );
        let head = ["", "times", "failed writes", "longest gap: median, ms", "max, ms", "whole again: median, ms"];
        let mut table = Table::new(title, &head);
        for (step, seen) in &self.seen {
            let cell = |times: &[Duration], share| milliseconds(percentile(times, share));
            table.row(vec![
                step.name().to_owned(),
                seen.gaps.len().to_string(),
                seen.failed.to_string(),
                cell(&seen.gaps, 0.5),
                cell(&seen.gaps, 1.0),
                cell(&seen.whole, 0.5),
            ]);
        }
        let cell = |share| milliseconds(percentile(&self.undisturbed, share));
        table.notes.push(format!(
            "Before a step the longest gap was {} ms in the median, {} ms at most.",
            cell(0.5),
            cell(1.0)
        ));
        table.notes.push(self.writers.told());
        table.notes.extend(notes);
        RollingOutcome { table, failed: self.failed() }
    }
}
