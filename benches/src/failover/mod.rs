//! Failover: how long shards take no writes when a node is killed, and when a leader hands over.
//!
//! Every shard is written to all the time, in an open loop and through the client library. An outage counts from just before
//! the signal until the acknowledgement of the first write that was due after the process was gone. Its resolution is the
//! time between two writes of a shard; what the gaps are without any fault is measured beside it.
//!
//! ```text
//! options ─► failover (here) ─► nodes (processes), control (TOPOLOGY, STATUS), client (hand over)
//!                    └────────► writers (client library) ─► gaps (arithmetic) ─► table
//! ```

mod options;

pub use options::FailoverOptions;

use crate::control::Control;
use crate::limits::NODES;
use crate::outage::gaps::{first_after, longest, milliseconds, percentile};
use crate::outage::writers::{Retries, Writers};
use crate::stop;
use crate::storage::nodes::{Nodes, Shape};
use crate::storage::{MeasureError, StorageError, Table, statuses, whole_replicas};
use kvorum_client::Client;
use kvorum_protocol::{NodeId, ShardId, Topology};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The pause between two looks at the cluster. Figures come from the times of answers, not from these looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// How long all leaders may take to be where they are wanted before a kill; it is done with those that are.
const SPREAD_LIMIT: Duration = Duration::from_secs(10);
/// A hand-over that has not happened by then is asked for again while leaders are spread.
const SPREAD_PAUSE: Duration = Duration::from_millis(200);
/// How long a planned hand-over may take.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Default)]
struct Outcome {
    /// Of each kill: until all shards had taken a write.
    all_shards: Vec<Duration>,
    /// Of each kill and shard that the killed node led.
    led_shards: Vec<Duration>,
    /// Of each kill and shard that another node led: the longest gap.
    other_shards: Vec<Duration>,
    /// From the start of the killed node until its replicas were in step again.
    whole: Vec<Duration>,
    /// Of each hand-over: the longest gap.
    handed_over: Vec<Duration>,
    /// Longest gaps in the same time without any fault.
    undisturbed: Vec<Duration>,
    /// Hand-overs that did not happen.
    refused: Vec<String>,
}

/// Takes about `kills × (pause + outage + restart) + 2 × hand-overs × pause`; `progress` is told what goes on.
///
/// # Errors
/// The cluster does not start, or is not written to or whole again within the limit. Everything that was started is gone by
/// then.
pub fn failover(options: &FailoverOptions, progress: &mut dyn FnMut(String)) -> Result<Table, MeasureError> {
    options.check()?;
    let shape = Shape { nodes: NODES, shards: options.shards, port_offset: 0, environment: &[], secure: false };
    let nodes = Nodes::start_new(&options.place, &shape)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    let mut control = Control::new(nodes.addresses());
    let topology = runtime.block_on(control.topology()).map_err(StorageError::cluster("TOPOLOGY"))?;
    let client = runtime.block_on(Client::builder().seeds(nodes.addresses()).connect());
    let client = client.map_err(StorageError::cluster("connecting"))?;
    let writers = Writers::start(&nodes.addresses(), &topology, options.rate, options.value_size, Retries::Default)?;
    let mut test = Test { options, nodes, runtime, control, client, writers };
    let mut outcome = Outcome::default();
    for round in 0..options.kills {
        let killed = test.kill(round as usize % NODES + 1, &mut outcome)?;
        progress(format!("kill {} of {}: {killed}", round + 1, options.kills));
    }
    for round in 0..options.hand_overs {
        let handed = test.hand_over(round, &mut outcome)?;
        progress(format!("hand-over {} of {}: {handed}", round + 1, options.hand_overs));
    }
    Ok(table(options, &outcome, &test.writers))
}

struct Test<'a> {
    options: &'a FailoverOptions,
    // Dropped before the nodes that it writes to.
    writers: Writers,
    client: Client,
    control: Control,
    runtime: Runtime,
    nodes: Nodes,
}

impl Test<'_> {
    /// Kills a node that leads its share of the shards, and waits until it is whole again. Returns what it saw.
    fn kill(&mut self, node: usize, outcome: &mut Outcome) -> Result<String, StorageError> {
        let topology = self.spread_leaders()?;
        self.writers.forget(Instant::now());
        stop::sleep(self.options.pause)?;

        let led = self.led_by(&topology, node);
        let signalled = Instant::now();
        self.nodes.kill(node);
        let gone = Instant::now();
        self.wait("every shard is written to again", |test| {
            test.shards().all(|shard| test.writers.look(shard, |answers| first_after(answers, gone)).is_some())
        })?;
        let again = |shard| self.writers.look(shard, |answers| first_after(answers, gone)).expect("it was waited for");
        let all_again = self.shards().map(again).max().expect("there is a shard");
        for shard in self.shards() {
            if led.contains(&shard) {
                outcome.led_shards.push(again(shard) - signalled);
            } else {
                let gap = self.writers.look(shard, |answers| longest(answers, signalled, all_again));
                outcome.other_shards.push(gap);
            }
        }
        let all = all_again - signalled;
        outcome.all_shards.push(all);

        let began = Instant::now();
        self.nodes.start(node)?;
        let process = self.nodes.process(node);
        // One group more: that of the ring map.
        let wanted = usize::from(self.options.shards) + 1;
        self.wait("the node is whole again", |test| {
            let statuses = test.runtime.block_on(statuses(&test.nodes.addresses()));
            whole_replicas(&statuses, process) >= wanted
        })?;
        outcome.whole.push(began.elapsed());
        let (all, whole) = (milliseconds(all), milliseconds(began.elapsed()));
        Ok(format!("node {node} led {} shards; all were written to after {all} ms; whole after {whole} ms", led.len()))
    }

    /// Asks the leader of a shard to hand over to the next node. Returns what it saw.
    fn hand_over(&mut self, round: u32, outcome: &mut Outcome) -> Result<String, StorageError> {
        let shard = ShardId((round % u32::from(self.options.shards)) as u16);
        let quiet_from = Instant::now();
        self.writers.forget(quiet_from);
        stop::sleep(self.options.pause)?;

        let topology = self.topology()?;
        let info = &topology.shards[usize::from(shard.0)];
        let (Some(leader), replicas) = (info.leader, &info.replicas) else {
            outcome.refused.push("the shard has no leader".to_owned());
            return Ok("the shard has no leader".to_owned());
        };
        let at = replicas.iter().position(|&replica| replica == leader).unwrap_or(0);
        let to = topology.nodes[usize::from(replicas[(at + 1) % replicas.len()])].id;
        let asked = Instant::now();
        let done = self.runtime.block_on(self.client.admin().transfer_leadership(shard, to));
        let until = asked + HAND_OVER_LIMIT;
        let mut leads = false;
        while done.is_ok() && !leads && Instant::now() < until {
            stop::sleep(LOOK_PAUSE)?;
            leads = self.topology()?.leader_of(shard).is_some_and(|leader| leader.id == to);
        }
        let settled = Instant::now();
        self.wait("the shard is written to again", |test| {
            let again = test.writers.look(shard, |answers| first_after(answers, settled));
            again.is_some() && asked.elapsed() >= test.options.pause
        })?;
        // As long as the time without a fault, unless the hand-over took longer.
        let end = settled.max(asked + self.options.pause);
        let (undisturbed, gap) = self.writers.look(shard, |answers| {
            (longest(answers, quiet_from, quiet_from + self.options.pause), longest(answers, asked, end))
        });
        outcome.undisturbed.push(undisturbed);
        if leads {
            outcome.handed_over.push(gap);
            return Ok(format!("shard {}: longest gap {} ms", shard.0, milliseconds(gap)));
        }
        let why = done.map_or_else(|error| error.to_string(), |()| format!("not done within {HAND_OVER_LIMIT:?}"));
        outcome.refused.push(why.clone());
        Ok(format!("shard {} did not change its leader: {why}", shard.0))
    }

    /// Makes the nodes lead the same number of shards, as far as they are ready to.
    fn spread_leaders(&mut self) -> Result<Topology, StorageError> {
        let began = Instant::now();
        loop {
            let topology = self.topology()?;
            let misplaced: Vec<(ShardId, NodeId)> = self
                .shards()
                .filter_map(|shard| {
                    let wanted = &topology.nodes[usize::from(shard.0) % topology.nodes.len()];
                    let leads = topology.leader_of(shard).is_some_and(|leader| leader.id == wanted.id);
                    (!leads).then_some((shard, wanted.id))
                })
                .collect();
            if misplaced.is_empty() || began.elapsed() > SPREAD_LIMIT {
                return Ok(topology);
            }
            for (shard, to) in misplaced {
                // A refusal is no reason to end: the next turn asks again, and what was reached in the end is told.
                let _ = self.runtime.block_on(self.client.admin().transfer_leadership(shard, to));
            }
            stop::sleep(SPREAD_PAUSE)?;
        }
    }

    fn led_by(&self, topology: &Topology, node: usize) -> Vec<ShardId> {
        let address = self.nodes.address(node);
        let leads = |shard: &ShardId| topology.leader_of(*shard).is_some_and(|node| node.client_address == address);
        self.shards().filter(leads).collect()
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.options.shards).map(ShardId)
    }

    fn topology(&mut self) -> Result<Topology, StorageError> {
        self.runtime.block_on(self.control.topology()).map_err(StorageError::cluster("TOPOLOGY"))
    }

    /// # Errors
    /// It is not so within the limit, or a node has ended by itself.
    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) -> Result<(), StorageError> {
        let began = Instant::now();
        while !is_so(self) {
            self.nodes.check(began, what)?;
            if began.elapsed() > self.options.limit {
                return Err(StorageError::TooLate { what: what.to_owned(), limit: self.options.limit });
            }
            stop::sleep(LOOK_PAUSE)?;
        }
        Ok(())
    }
}

fn table(options: &FailoverOptions, outcome: &Outcome, writers: &Writers) -> Table {
    let title = format!(
        "failover: {NODES} nodes, {} shards, durability fsync; {} writes of {} B per second are due on each shard",
        options.shards, options.rate, options.value_size
    );
    let mut table = Table::new(title, &["", "times", "median, ms", "p99, ms", "max, ms"]);
    let rows = [
        ("kill -9: until every shard takes writes again", &outcome.all_shards),
        ("kill -9: until a shard takes writes again that the node led", &outcome.led_shards),
        ("kill -9: longest gap of a shard that another node led", &outcome.other_shards),
        ("start of the killed node: until its replicas are in step", &outcome.whole),
        ("planned hand-over: longest gap of the shard", &outcome.handed_over),
        ("no fault, the same time: longest gap of the shard", &outcome.undisturbed),
    ];
    for (what, times) in rows.into_iter().filter(|(_, times)| !times.is_empty()) {
        let cell = |share| milliseconds(percentile(times, share));
        table.row(vec![what.to_owned(), times.len().to_string(), cell(0.5), cell(0.99), cell(1.0)]);
    }
    table.notes.push(writers.told());
    if !outcome.refused.is_empty() {
        let (count, first) = (outcome.refused.len(), &outcome.refused[0]);
        table.notes.push(format!("{count} hand-overs did not happen; the first: {first}."));
    }
    table
}
