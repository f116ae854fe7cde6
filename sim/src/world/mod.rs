//! A cluster, its clients and everything that goes wrong, on one thread. See docs/SIMULATION.md.
//!
//! [`World::run`] takes the next event, lets the node or client that it concerns do what it does, and plans what follows
//! from it. Between two events nothing happens; what takes time takes an event.

mod client;
mod clock;
mod faults;
pub mod flips;
mod invariants;
mod journal;
mod judgement;
mod links;
mod lives;
mod log_times;
mod meta;
mod moves;
mod node;
mod peers;
mod processes;
mod queue;
mod refusals;
mod replicas;
mod resize;
mod stops;
mod storage;
mod trace;
mod transactions;
mod watch;
mod workload;

use crate::disk::SimFileSystem;
use crate::plan::Plan;
use crate::run::{Run, RunSettings, Violation};
use bytes::{Bytes, BytesMut};
use client::{Client, Context, Wish};
use clock::{NodeClock, TrueTime};
use invariants::Invariants;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_protocol::{ClusterId, Durability, FolderId, NodeId, ShardId};
use links::{ClientLinks, PeerLinks};
use log_times::LogTimes;
use node::{Node, TICK_MS};
use queue::{Moment, Queue};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use refusals::Refusals;
use std::collections::BTreeMap;
use std::time::Duration;
use trace::Trace;
use uuid::Uuid;
use workload::Recorder;

/// After everything has healed, each shard must take writes again within so many milliseconds: ten election timeouts
/// for what remains of the faults to be noticed, and ten for the rest.
const PROGRESS_MS: u64 = 20 * 10 * TICK_MS;
/// A client's operation that was begun before the world healed may take until its deadline.
const SETTLE_MS: u64 = 10_000;
/// Replicas that were lost must be whole again after so many times as long: a snapshot that was held up is pulled again
/// after up to a minute.
const SETTLES_MAX: u32 = 9;
/// Most events of one run: a run that goes on for ever is a bug, too.
const EVENTS_MAX: u64 = 3_000_000;

/// Runs a plan.
pub fn run(plan: &Plan, settings: &RunSettings) -> Run {
    let _planted = crate::bugs::plant(settings.bug.as_deref());
    World::new(plan, settings).run()
}

/// What happens.
#[derive(Debug)]
enum Event {
    /// A process starts on this node.
    Start(usize),
    /// A node's ticker, of this process.
    Tick(usize, u64),
    /// A shard's replica gets its turn.
    Turn(usize, u64, ShardId),
    /// A shard's replica is opened again.
    Reopen(usize, u64, ShardId),
    /// Answers are collected.
    Collect(usize, u64),
    /// The upkeep of the shards' files takes its next step.
    Upkeep(usize, u64),
    /// The scrubber takes its next step.
    Scrub(usize, u64),
    /// The journal's round is over.
    RoundEnds(usize, u64, u64),
    /// A message reaches a peer.
    Deliver(Packet),
    /// Two nodes find each other.
    PeersMeet(usize, usize),
    /// Two nodes notice that they have lost each other.
    PeersPart(usize, usize, u64),
    /// A client's connection reaches the node, or fails.
    Connects { client: usize, connection: u64, node: usize, given_up: bool },
    /// Bytes of a client reach the node.
    ToNode { connection: u64, bytes: BytesMut },
    /// A write that was held up on its way reaches the node.
    LateCopy { client: usize, node: usize, bytes: BytesMut },
    /// Bytes of the node reach a client.
    ToClient { connection: u64, bytes: BytesMut },
    /// A client learns that its connection is gone.
    ClientLoses { connection: u64 },
    /// A client's timer.
    Timer { client: usize, number: u64 },
    /// A node that stops looks whether it may go on; at last at `until`.
    Stops { node: usize, process: u64, until: Moment, down_ms: u64 },
    /// A machine loses power, because of what the node has promised.
    LosesPower { node: usize, process: u64, down_ms: u64 },
    /// A fault of the plan begins.
    Fault(usize),
    /// A fault ends.
    Ends(faults::Ending),
    /// An operator asks for something, again and again until it is done or refused, or this moment has come.
    Asks(Box<Verb>, Moment),
    /// Everything heals.
    Heal,
    /// Progress must have been made.
    Judge,
    /// Nothing happens: somebody wants to look.
    Pause,
}

/// A message between nodes, on its way.
#[derive(Debug, Clone)]
struct Packet {
    from: usize,
    to: usize,
    /// The connection that it travels on.
    session: u64,
    bytes: Bytes,
}

/// Everything there is.
struct World<'a> {
    plan: &'a Plan,
    /// What nodes begin with.
    initial: RingMap,
    /// The newest map that a node has put in force.
    ring: RingMap,
    /// The highest epoch of a map that a leader of its group has proposed.
    proposed_epoch: u64,
    time: TrueTime,
    queue: Queue<Event>,
    trace: Trace,
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// The client that asks for progress and reads everything at the end; the last of `clients`.
    prober: usize,
    peer_links: PeerLinks,
    client_links: ClientLinks,
    recorder: Recorder,
    invariants: Invariants,
    refusals: Refusals,
    log_times: LogTimes,
    /// Since when leaders lead on a full disk although somebody could take over.
    full_leaders: BTreeMap<(usize, ShardId), Moment>,
    /// See [`lives::most_clocks_are_right`].
    most_clocks_are_right: bool,
    processes: u64,
    violation: Option<Violation>,
    /// See [`invariants::Seen`].
    beyond_help: bool,
    operations: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    coverage: BTreeMap<&'static str, u64>,
    healed: bool,
    phase: Phase,
    /// How often the end was put off because replicas were not whole yet.
    settles: u32,
    /// When the prober first read everything.
    settled: Option<Moment>,
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Faults and clients.
    Faults,
    /// Healed; the prober writes to every shard.
    Probing,
    /// The prober reads every key.
    Reading,
    /// Every node was started once more; the prober reads every key again.
    Rereading,
}

/// States that are reached seldom by chance. A counter that stays at zero over many seeds is a defect of the simulator.
const COVERAGE: [&str; 59] = [
    "elections",
    "leaders that lost leadership",
    "hand-overs asked for",
    "hand-overs done",
    "stops that left nothing behind",
    "shards restarted by their supervisor",
    "processes that gave up",
    "processes ended by a failed sync or write",
    "starts with rounds to replay",
    "torn tails cut",
    "segments of cut tails removed",
    "segments beyond the first",
    "journal files used again",
    "faulty replicas",
    "wiped nodes met as strangers",
    "writes sent again",
    "awaited writes that were applied",
    "awaited writes that were lost",
    "writes given another number",
    "copies of writes that were late",
    "operations redirected",
    "requests that found no leader",
    "operations of unknown outcome",
    "crash points reached",
    "keys expired",
    "checkpoints",
    "compactions",
    "upkeep cut short by a crash",
    "upkeep cancelled",
    "snapshots installed",
    "membership changes",
    "joint states interrupted",
    "wiped disks replaced",
    "faulty replicas replaced",
    "groups settled",
    "nodes found down, or up again",
    "steps of replicas",
    "moves whose target was lost",
    "machines lost while replicas moved",
    "nodes removed",
    "verbs done",
    "replicas erased after a move",
    "verbs refused",
    "processes of removed nodes",
    "hints used",
    "indexes rebuilt",
    "writes refused for want of room",
    "disks that filled up",
    "disks with room again",
    "disks that stalled",
    "processes ended by a stalled disk",
    "scrub passes",
    "cold damage found by the scrubber",
    "requests turned away by a full queue",
    "answers that found a full lane",
    "turns held up",
    "turns held up until a heartbeat",
    "power lost behind a misdirected round",
    "wall clocks found to be off",
];

impl<'a> World<'a> {
    fn new(plan: &'a Plan, settings: &RunSettings) -> Self {
        let options = &plan.options;
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let time = TrueTime::default();
        let cluster = ClusterId(Uuid::from_u128(rng.random()));
        let durability = if options.fsync { Durability::Fsync } else { Durability::Memory };
        let ids: Vec<Uuid> = (0..options.nodes + options.spares).map(|_| Uuid::from_u128(rng.random())).collect();
        let founders = &ids[..usize::from(options.nodes)];
        let ring_nodes = founders.iter().zip(1..).map(|(id, number)| RingNode {
            client: format!("node-{number}:7400"),
            peer: format!("node-{number}:7401"),
            ..RingNode::new(*id, format!("node-{number}"))
        });
        let mut initial = RingMap::initial(cluster, durability, ring_nodes.collect(), options.shards, 3)
            .expect("a plan has at least as many nodes as replicas");
        initial.repair_hold_ms = options.repair_hold_ms;
        let of_node = |list: &[i64], node: usize| list.get(node).copied().unwrap_or(0);
        let rates: Vec<i64> = options.clock_rate_ppm.iter().map(|rate| i64::from(*rate)).collect();
        let nodes: Vec<Node> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| {
                let uptime_ms = rng.random_range(1_000..100_000_000);
                let rate = of_node(&rates, at).clamp(-50_000, 50_000) as i32;
                let clock = NodeClock::new(time.clone(), uptime_ms, of_node(&options.wall_offset_ms, at), rate);
                let folder_id = FolderId(Uuid::from_u128(rng.random()));
                let files = SimFileSystem::new(rng.random());
                Node::new(NodeId(*id), folder_id, files, clock, at < usize::from(options.nodes))
            })
            .collect();
        let node_ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        let scripts = plan.clients.iter().cloned().chain([Vec::new()]);
        let mut clients: Vec<Client> = scripts
            .zip(0..)
            .map(|(script, number)| Client::new(number, rng.random(), options, node_ids.clone(), script))
            .collect();
        clients.last_mut().expect("the prober is there").set_deadline(Duration::from_millis(PROGRESS_MS));
        clients.iter_mut().for_each(|client| client.tells = settings.keep_trace);
        World {
            plan,
            ring: initial.clone(),
            proposed_epoch: 0,
            initial,
            settles: 0,
            settled: None,
            time,
            queue: Queue::new(),
            trace: Trace::new(settings.keep_trace),
            peer_links: PeerLinks::new(nodes.len()),
            client_links: ClientLinks::default(),
            prober: clients.len() - 1,
            nodes,
            clients,
            rng,
            recorder: Recorder::default(),
            invariants: Invariants::default(),
            refusals: Refusals::default(),
            log_times: LogTimes::default(),
            full_leaders: BTreeMap::new(),
            most_clocks_are_right: lives::most_clocks_are_right(plan),
            processes: 0,
            violation: None,
            beyond_help: false,
            operations: BTreeMap::from([("answered", 0), ("refused", 0), ("unknown", 0)]),
            faults: BTreeMap::new(),
            coverage: COVERAGE.iter().map(|name| (*name, 0)).collect(),
            healed: false,
            phase: Phase::Faults,
        }
    }

    fn run(mut self) -> Run {
        self.begin();
        let mut events = 0;
        while self.violation.is_none() && !self.beyond_help {
            events += 1;
            if events > EVENTS_MAX {
                self.violate("events", format!("more than {EVENTS_MAX} events"));
            }
            if self.step() {
                break;
            }
        }
        self.finish()
    }

    /// Plans how everything begins.
    fn begin(&mut self) {
        for node in 0..usize::from(self.plan.options.nodes) {
            let at = Moment(0).after_ms(self.rng.random_range(0..200));
            self.queue.push(at, Event::Start(node));
        }
        for (number, fault) in self.plan.faults.iter().enumerate() {
            self.queue.push(Moment(0).after_ms(fault.at_ms), Event::Fault(number));
        }
        self.queue.push(Moment(0).after_ms(self.plan.options.safety_ms), Event::Heal);
        for client in 0..self.clients.len() {
            self.with_client(client, |client, context| client.start(context));
        }
    }

    /// The next event. Returns whether the run is over.
    fn step(&mut self) -> bool {
        let Some((now, number, event)) = self.queue.pop() else { return true };
        self.time.set(now);
        if let Some(until) = self.held_up(&event) {
            self.queue.put_off(until, number, event);
            return false;
        }
        self.handle(event)
    }

    fn now(&self) -> Moment {
        self.time.now()
    }

    fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    fn add(&mut self, name: &'static str, count: u64) {
        *self.coverage.entry(name).or_default() += count;
    }

    fn violate(&mut self, property: &'static str, detail: String) {
        let at_ms = self.now().ms();
        self.trace.note(self.time.now(), "VIOLATION", &[], format_args!("{property}: {detail}"));
        self.violation.get_or_insert(Violation { property, detail, at_ms });
    }

    /// Handles one event. Returns whether the run is over.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Start(node) => self.start(node),
            Event::Tick(node, process) => self.tick(node, process),
            Event::Turn(node, process, shard) => self.turn(node, process, shard),
            Event::Reopen(node, process, shard) => self.reopen(node, process, shard),
            Event::Collect(node, process) => self.collect(node, process),
            Event::Upkeep(node, process) => self.upkeep(node, process),
            Event::Scrub(node, process) => self.scrub(node, process),
            Event::RoundEnds(node, process, round) => self.round_ends(node, process, round),
            Event::Deliver(packet) => self.message_arrives(packet),
            Event::PeersMeet(one, other) => self.peers_meet(one, other),
            Event::PeersPart(one, other, session) => self.peers_part(one, other, session),
            Event::Connects { client, connection, node, given_up } => self.connects(client, connection, node, given_up),
            Event::ToNode { connection, bytes } => self.reaches_node(connection, bytes),
            Event::LateCopy { client, node, bytes } => self.late_copy(client, node, bytes),
            Event::ToClient { connection, bytes } => self.reaches_client(connection, bytes),
            Event::ClientLoses { connection } => self.client_loses(connection),
            Event::Timer { client, number } => {
                self.with_client(client, |client, context| client.handle_timer(number, context));
            }
            Event::Stops { node, process, until, down_ms } => self.go_on_stopping(node, process, until, down_ms),
            Event::LosesPower { node, process, down_ms } => self.lose_power(node, process, down_ms),
            Event::Fault(number) => self.begin_fault(number),
            Event::Ends(ending) => self.end_fault(ending),
            Event::Asks(verb, until) => self.ask(verb, until),
            Event::Heal => self.heal(),
            Event::Judge => return self.judge(),
            Event::Pause => {}
        }
        false
    }

    /// A node that stands still does nothing until it goes on.
    fn held_up(&self, event: &Event) -> Option<Moment> {
        let node = node_of(event, &self.client_links)?;
        self.nodes[node].paused_until.filter(|until| *until > self.now())
    }

    fn is_current(&self, node: usize, process: u64) -> bool {
        self.nodes[node].number() == Some(process)
    }

    /// Lets a client do something, and does what it wishes for.
    fn with_client(&mut self, at: usize, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
        let now = self.now();
        self.recorder.now = now;
        let mut context = Context { now, recorder: &mut self.recorder, wishes: Vec::new() };
        act(&mut self.clients[at], &mut context);
        for wish in context.wishes {
            match wish {
                Wish::Timer { after_ns, number } => {
                    self.queue.push(now.after_ns(after_ns), Event::Timer { client: at, number });
                }
                Wish::Connect { connection, node, timeout_ms } => self.begin_connect(at, connection, node, timeout_ms),
                Wish::Send { connection, bytes, late } => self.send_to_node(connection, bytes, late),
                Wish::Tell(text) => self.trace.tell(now, &text),
                Wish::OutOfOrder(detail) => self.violate("session-order", detail),
                Wish::Ended { outcome } => *self.operations.entry(outcome).or_default() += 1,
            }
        }
    }
}

/// The node that an event is something to do for.
fn node_of(event: &Event, links: &ClientLinks) -> Option<usize> {
    match event {
        Event::Tick(node, _)
        | Event::Turn(node, ..)
        | Event::Reopen(node, ..)
        | Event::Collect(node, _)
        | Event::Upkeep(node, _)
        | Event::Scrub(node, _)
        | Event::RoundEnds(node, ..)
        | Event::Stops { node, .. } => Some(*node),
        Event::Deliver(packet) => Some(packet.to),
        Event::LateCopy { node, .. } => Some(*node),
        Event::ToNode { connection, .. } => links.node_of(*connection),
        _ => None,
    }
}
