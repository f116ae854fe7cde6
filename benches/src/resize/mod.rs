//! Growing and shrinking under load: nodes come and go while a cluster is written to.
//!
//! Writes go through the client library, with the retries that it has by default. At the end every key is read: it must hold what
//! was acknowledged last. How far a step is, the ring map tells, which nodes keep beside their data.
//!
//! ```text
//! options ─► resize (here) ─► nodes (processes), client (NODE REMOVE), rings (the map), counters (/metrics)
//!                  └────────► load (client library) ─► outcome
//! ```

mod counters;
mod load;
mod options;
mod outcome;

pub use options::ResizeOptions;
pub use outcome::{Figures, LoadOutcome, ResizeOutcome, StepOutcome};

use crate::limits::NODES;
use crate::stop;
use crate::storage::nodes::{Nodes, Shape};
use crate::storage::{MeasureError, StorageError, rings};
use counters::{Counters, Processors};
use kvorum_client::{ClusterVerb, NodeId};
use kvorum_core::ring::RingMap;
use load::{Sizes, WriteLoad};
use options::Pressure;
use std::time::{Duration, Instant};

/// The pause between two looks at the ring map.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// The pause between two looks at what the nodes count.
const COUNT_PAUSE: Duration = Duration::from_millis(500);
/// Load before the first thing is measured.
const WARMUP: Duration = Duration::from_secs(3);
const MEBIBYTE: f64 = (1 << 20) as f64;

/// Takes each cluster from three nodes through all steps; `progress` is told what goes on.
///
/// # Errors
/// A cluster does not start, or a step is not over within its limit. Everything that was started is gone by then.
pub fn resize(options: &ResizeOptions, progress: &mut dyn FnMut(String)) -> Result<ResizeOutcome, MeasureError> {
    options.check()?;
    let mut loads = Vec::new();
    for pressure in &options.load {
        loads.push(under(options, *pressure, progress)?);
    }
    let title = format!(
        "resize: {} shards of 3 replicas, durability fsync, {} MiB of values of {} to {} B; {} writers, one client",
        options.shards, options.preload_mb, options.value_min, options.value_max, options.writers
    );
    Ok(ResizeOutcome { title, loads })
}

fn under(
    options: &ResizeOptions,
    pressure: Pressure,
    progress: &mut dyn FnMut(String),
) -> Result<LoadOutcome, StorageError> {
    let hold = [("KVORUM_REPAIR_HOLD_S", options.hold.as_secs().to_string())];
    let shape = Shape { nodes: NODES, shards: options.shards, port_offset: 0, environment: &hold, secure: false };
    let nodes = Nodes::start_new(&options.place, &shape)?;
    let sizes = Sizes { min: options.value_min, max: options.value_max };
    let keys = u64::from(options.preload_mb) * (1 << 20) / ((sizes.min + sizes.max) as u64 / 2);
    let load = WriteLoad::start(&nodes.addresses(), keys, options.writers, sizes)?;
    progress(format!("load {pressure}: {keys} keys are written"));
    if options.rate_mb.is_some() {
        let asked = load.block_on(load.client().admin().ask(ClusterVerb::Rate(options.rate_mb)));
        asked.map_err(StorageError::cluster("CLUSTER REBALANCE RATE"))?;
    }
    let mut test = Test { options, load, nodes, counters: Counters::default(), processors: Processors::new() };
    test.watch_for(WARMUP)?;
    let peak = test.measure()?;
    let told = match pressure {
        Pressure::Full => {
            format!("as fast as {} writers can, {:.0}/s with three nodes", options.writers, peak.per_second)
        }
        Pressure::Share(share) => {
            let rate = peak.per_second * share;
            test.load.pace(rate);
            test.watch_for(WARMUP)?;
            format!("{rate:.0}/s are due, {share} of what {} writers can with three nodes", options.writers)
        }
    };
    progress(told.clone());
    let steps = test.run(progress)?;
    let Test { load, nodes, .. } = test;
    let checked = load.check()?;
    drop(nodes);
    Ok(LoadOutcome::new(told, steps, checked))
}

struct Test<'a> {
    options: &'a ResizeOptions,
    // Dropped before the nodes that it writes to.
    load: WriteLoad,
    nodes: Nodes,
    counters: Counters,
    processors: Processors,
}

impl Test<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(String)) -> Result<Vec<StepOutcome>, StorageError> {
        let mut steps: Vec<StepOutcome> = Vec::new();
        let mut before = self.measure()?;
        let mut is_kill_due = self.options.kill;
        let mut add = |test: &mut Self, step: StepOutcome| -> Result<(), StorageError> {
            let after = test.measure()?;
            let step = StepOutcome { before: std::mem::replace(&mut before, after), after, ..step };
            let ratio = step.during.p99_ms / step.before.p99_ms;
            progress(format!(
                "{}: settled after {:.1} s, moved {} (at least {}), {} failed, p99 {:.2} ms, {ratio:.2} × that before",
                step.step, step.settled_s, step.moved, step.least, step.failed, step.during.p99_ms
            ));
            steps.push(step);
            Ok(())
        };
        for wanted in &self.options.to {
            if *wanted < self.names()?.len() && std::mem::take(&mut is_kill_due) {
                let step = self.kill()?;
                add(self, step)?;
            }
            let step = self.go_to(*wanted)?;
            add(self, step)?;
        }
        if is_kill_due {
            let step = self.kill()?;
            add(self, step)?;
        }
        Ok(steps)
    }

    /// Adds or removes nodes, all at once, until there are so many and nothing moves.
    fn go_to(&mut self, wanted: usize) -> Result<StepOutcome, StorageError> {
        let ring = self.ring()?;
        let mut names = self.names()?;
        let has = names.len();
        let leaving = names.split_off(wanted.min(has));
        let least = rings::least_made(&ring, wanted.saturating_sub(has), &leaving);
        self.begin();
        let began = Instant::now();
        for _ in has..wanted {
            names.push(name(self.nodes.add()?));
        }
        for name in &leaving {
            let node = ring.nodes.iter().find(|node| node.name == *name).expect("names come from the map");
            self.nodes.expect_removed(number(name));
            let admin = self.load.client().admin();
            let removed = self.load.block_on(admin.remove_node(NodeId(node.id), false));
            removed.map_err(StorageError::cluster("NODE REMOVE"))?;
        }
        self.wait(began, &format!("{wanted} nodes have their shares"), |ring| rings::is_settled(ring, &names))?;
        let step = self.end(format!("{has} → {wanted}"), &ring, least, began.elapsed(), None)?;
        leaving.iter().try_for_each(|name| self.nodes.await_removed(number(name)))?;
        Ok(step)
    }

    /// Kills the last node, which does not come back, and waits until what it held is made anew.
    fn kill(&mut self) -> Result<StepOutcome, StorageError> {
        let ring = self.ring()?;
        let killed = self.names()?.pop().expect("there are nodes");
        let least = rings::least_made(&ring, 0, std::slice::from_ref(&killed));
        self.begin();
        let began = Instant::now();
        self.nodes.kill(number(&killed));
        let is_down = |ring: &RingMap| ring.nodes.iter().any(|node| node.name == killed && node.down);
        self.wait(began, "the killed node counts as down", is_down)?;
        let down = began.elapsed();
        let what = "what the killed node held is made anew";
        self.wait(began, what, |ring| rings::is_whole_without(ring, &killed))?;
        self.end(format!("kill -9 {killed}"), &ring, least, began.elapsed(), Some(down))
    }

    /// What is measured from here on belongs to a step.
    fn begin(&mut self) {
        self.look();
        self.counters.forget();
        self.take();
    }

    fn look(&mut self) {
        self.counters.look(self.nodes.http_doors());
        self.processors.look(self.nodes.processes());
    }

    /// What the load got since this was asked last, and how many writes failed.
    fn take(&mut self) -> (Figures, u64) {
        self.processors.look(self.nodes.processes());
        let measured = self.load.take();
        (Figures::of(&measured, self.processors.others()), measured.failed)
    }

    fn end(
        &mut self,
        step: String,
        before: &RingMap,
        least: usize,
        settled: Duration,
        down: Option<Duration>,
    ) -> Result<StepOutcome, StorageError> {
        let (during, failed) = self.take();
        self.look();
        let moved = rings::made(&self.ring()?) - rings::made(before);
        Ok(StepOutcome {
            step,
            settled_s: settled.as_secs_f64(),
            down_s: down.map(|down| down.as_secs_f64()),
            moved,
            least: least as u64,
            snapshots: self.counters.snapshots(),
            snapshot_mib: self.counters.snapshot_bytes() as f64 / MEBIBYTE,
            failed,
            before: Figures::default(),
            during,
            after: Figures::default(),
        })
    }

    /// What the load gets while nothing else happens.
    fn measure(&mut self) -> Result<Figures, StorageError> {
        self.take();
        self.watch_for(self.options.around)?;
        Ok(self.take().0)
    }

    fn watch_for(&mut self, span: Duration) -> Result<(), StorageError> {
        stop::sleep(span)?;
        self.nodes.check(Instant::now(), "the nodes run")
    }

    /// The names of all nodes of the cluster, in the order of their numbers.
    fn names(&self) -> Result<Vec<String>, StorageError> {
        let mut names: Vec<String> = self.ring()?.nodes.into_iter().map(|node| node.name).collect();
        names.sort_by_key(|name| number(name));
        Ok(names)
    }

    fn ring(&self) -> Result<RingMap, StorageError> {
        let ring = rings::newest(&self.nodes.data_dirs());
        ring.ok_or_else(|| StorageError::cluster("the ring map")("no node has one"))
    }

    /// # Errors
    /// It is not so within the limit, or a node has ended by itself that was not removed.
    fn wait(
        &mut self,
        began: Instant,
        what: &str,
        mut is_so: impl FnMut(&RingMap) -> bool,
    ) -> Result<(), StorageError> {
        let mut counted = Instant::now();
        let mut ring = self.ring()?;
        while !is_so(&ring) {
            stop::sleep(LOOK_PAUSE)?;
            self.nodes.check(Instant::now(), what)?;
            if counted.elapsed() > COUNT_PAUSE {
                self.look();
                counted = Instant::now();
            }
            if began.elapsed() > self.options.limit {
                return Err(StorageError::TooLate { what: what.to_owned(), limit: self.options.limit });
            }
            ring = self.ring()?;
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

/// The number in the name of a node that was laid out here.
fn number(name: &str) -> usize {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("nodes are named by their numbers")
}
