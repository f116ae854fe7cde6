//! The shard replicas of a process: the host of production's [`Roster`], as the node's supervisor of shards is. It carries out what the
//! roster asks for at once, and says what became of each replica.

use super::clock::NodeClock;
use super::node::{Process, UPKEEP};
use super::queue::Moment;
use crate::disk::SimFileSystem;
use kvorum_core::clock::Clock as _;
use kvorum_core::folder::replica_files::{Noted, Readiness, ReplicaFiles, RetireReason, WantedReplica};
use kvorum_core::journal::ShardJournal;
use kvorum_core::map_keeper::{Asked, LOOK_EVERY, Looked};
use kvorum_core::ring::RingMap;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::roster::{Action, Failure, Opened, Opening, ProcessEnd};
use kvorum_core::shard::host::{ShardArguments, ShardHost, ShardOutlet as _, TurnEnd, TurnStep};
use kvorum_core::shard::inbox::{ShardCommand, Waker};
use kvorum_core::shard::{Remedy, ShardConfig};
use kvorum_protocol::{ReplicaId, ShardId};
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The next turn of a shard's replica is to be held up for so many milliseconds after this step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) shard: ShardId,
    pub(super) after: TurnStep,
    pub(super) ms: u64,
    /// If not 0, the turn goes on once a heartbeat has come in after that, and its sender is not heard for so long then.
    pub(super) deaf_ms: u64,
}

/// A replica whose turn is held up waits for a heartbeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) shard: ShardId,
    pub(super) since: Moment,
    pub(super) deaf_ms: u64,
}

/// What a shard's turn has come to.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is over, and all is well if nothing became of the replica.
    Over(Vec<(ShardId, Ended)>),
    /// It goes on when this is over.
    HeldUp(Hold),
}

/// A shard of which a process has, or had, a replica.
#[derive(Default)]
pub(super) struct Replica {
    pub(super) host: Option<ShardHost>,
    /// Its log is damaged; it waits to be replaced.
    pub(super) faulty: bool,
    /// A turn is planned.
    pub(super) turn_planned: bool,
    /// Its turn has begun, and what is planned is that it goes on.
    pub(super) held_up: bool,
}

/// What became of a replica.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was opened, or its files say that it must wait.
    Fine,
    /// Nothing is wrong, and it will be opened again at once.
    Reopens(String),
    /// It will be opened again after this long.
    RestartsAfter { ms: u64, why: String },
    /// Its log is damaged.
    Faulty(String),
    /// A file operation failed, and the process ends.
    DiskFailed(String),
    /// The ring map has put another replica in its place.
    Replaced(String),
    /// It failed too often, and the process ends.
    GaveUp(String),
    /// Its files are of another version, and the process ends.
    Unsupported(String),
}

impl Process {
    /// An operator asks this node.
    pub(super) fn ask(&mut self, verb: &Verb, clock: &NodeClock) -> Asked {
        self.keeper.ask(verb, clock.monotonic())
    }

    /// Carries out what the roster asks for, in order. Returns what became of the replicas.
    fn perform(&mut self, actions: Vec<Action>, clock: &NodeClock) -> Vec<(ShardId, Ended)> {
        let mut became = Vec::new();
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            let follows = match action {
                Action::Open(opening) => {
                    let wanted = opening.wanted;
                    let opened = self.open(*opening);
                    if !matches!(opened, Opened::Failed(_)) {
                        became.push((wanted.shard, Ended::Fine));
                    }
                    self.roster.opening_over(&wanted, opened, clock.monotonic())
                }
                Action::EraseSurplus { kept, epoch } => {
                    let before = self.live_but(&kept);
                    let erased = self.files().erase_surplus(&kept, epoch);
                    // Files that came with a later map stay.
                    let after = self.live_but(&kept);
                    self.erased.extend(before.into_iter().filter(|live| !after.contains(live)));
                    match erased {
                        Ok(()) => Vec::new(),
                        Err((shard, error)) => self.roster.failed(shard, error.into(), clock.monotonic()),
                    }
                }
                other => {
                    let ends = matches!(other, Action::EndProcess(_));
                    became.extend(self.perform_at_once(other));
                    if ends {
                        return became;
                    }
                    Vec::new()
                }
            };
            follows.into_iter().rev().for_each(|action| left.push_front(action));
        }
        became
    }

    /// The replicas of other shards that have files.
    fn live_but(&self, kept: &BTreeSet<ShardId>) -> Vec<(ShardId, ReplicaId)> {
        let shards = self.disk.list_shards().unwrap_or_default();
        let files = self.files();
        let live = |shard| match files.noted(shard) {
            Ok(Noted::Live(replica)) => Some((shard, replica)),
            _ => None,
        };
        shards.into_iter().filter(|shard| !kept.contains(shard)).filter_map(live).collect()
    }

    /// Carries out an action of which nothing follows for the roster.
    fn perform_at_once(&mut self, action: Action) -> Option<(ShardId, Ended)> {
        match action {
            Action::Stop { shard, replica } => {
                self.router.closed(shard);
                let stopped = self.shards.entry(shard).or_default();
                stopped.host = None;
                if std::mem::take(&mut stopped.held_up) {
                    stopped.turn_planned = false;
                }
                Some((shard, Ended::Replaced(format!("replica {replica}"))))
            }
            Action::Close { shard } => {
                self.router.closed(shard);
                self.shards.entry(shard).or_default().host = None;
                None
            }
            Action::SetTarget { shard, target } => {
                if let Some(handle) = self.router.local(shard) {
                    handle.inbox.command(ShardCommand::SetTarget(target));
                }
                None
            }
            Action::SetUsable { shard } => {
                self.router.set_faulty(shard, None);
                self.shards.entry(shard).or_default().faulty = false;
                None
            }
            Action::SetUnusable { shard, replica, reason, .. } => {
                self.router.set_faulty(shard, replica);
                self.shards.entry(shard).or_default().faulty = true;
                reason.map(|why| (shard, Ended::Faulty(why)))
            }
            Action::Retire { shard, replica } => {
                let retired = self.files().retire(shard, RetireReason::Amnesiac { replica });
                retired.err().map(|error| (shard, Ended::DiskFailed(error.to_string())))
            }
            Action::RestartAfter { shard, reopens: true, reason, .. } => Some((shard, Ended::Reopens(reason))),
            Action::RestartAfter { shard, delay, reason, .. } => {
                Some((shard, Ended::RestartsAfter { ms: delay.as_millis() as u64, why: reason }))
            }
            Action::EndProcess(end) => Some(match end {
                ProcessEnd::Disk { shard, source } => (shard, Ended::DiskFailed(source.to_string())),
                ProcessEnd::Unsupported { shard, source } => (shard, Ended::Unsupported(source.to_string())),
                ProcessEnd::GaveUp { shard, source: gave_up } => (shard, Ended::GaveUp(gave_up.source.to_string())),
            }),
            Action::Open(_) | Action::EraseSurplus { .. } => unreachable!("more follows of these"),
        }
    }

    /// Opens a replica from its log.
    fn open(&mut self, opening: Opening) -> Opened {
        let Opening { wanted, config, incarnation } = opening;
        match self.open_host(&wanted, config, incarnation) {
            Ok(Ok(host)) => {
                let shard = wanted.shard;
                self.router.opened(Arc::clone(host.handle()));
                host.handle().inbox.tick();
                self.shards.entry(shard).or_default().host = Some(host);
                Opened::Runs
            }
            Ok(Err(readiness)) => {
                self.shards.entry(wanted.shard).or_default();
                Opened::NotReady(readiness)
            }
            Err(failure) => Opened::Failed(failure),
        }
    }

    fn open_host(
        &mut self,
        wanted: &WantedReplica,
        config: ShardConfig,
        incarnation: u32,
    ) -> Result<Result<ShardHost, Readiness>, Failure> {
        let shard = wanted.shard;
        let files = self.files();
        let journal: Arc<dyn ShardJournal> = Arc::clone(self.journal.submissions()) as _;
        let prepared = files.prepare(wanted).and_then(|ready| Ok((ready, files.journal_of(shard, &journal)?)));
        let (readiness, journal) = prepared?;
        if readiness != Readiness::Open {
            return Ok(Err(readiness));
        }
        let arguments = ShardArguments {
            // Every replica of a group has the same, the founders of `meta` included.
            config: ShardConfig { order_bits: self.order_bits, sessions: self.session_limits, ..config },
            incarnation,
            disk: Arc::clone(&self.disk),
            log: self.log.clone(),
            journal,
            queue_budget: Arc::clone(&self.queue_budget),
            pressure: Arc::clone(&self.pressure),
            upkeep: self.upkeep.submissions(),
            upkeep_options: UPKEEP,
            outlet: Arc::clone(&self.router) as _,
            counts: self.router.counts().of(shard),
            clock: self.router.shared_clock(),
        };
        let ready = Arc::clone(&self.ready);
        let waker = Waker::new(move || ready.lock().push(shard));
        let before = unlisted(&self.machine, shard);
        match catch_unwind(AssertUnwindSafe(|| ShardHost::open(arguments, waker))) {
            Ok(Ok(host)) => Ok(Ok(host)),
            Ok(Err(error)) => {
                if error.remedy() == Remedy::LeaveOut {
                    self.lost_by_opening = before.difference(&unlisted(&self.machine, shard)).next().cloned();
                }
                Err(error.into())
            }
            Err(panic) => Err(Failure::OfNoFile(panic_text(&*panic))),
        }
    }

    /// A replica that has failed is started again.
    pub(super) fn restart(&mut self, shard: ShardId, clock: &NodeClock) -> Vec<(ShardId, Ended)> {
        let actions = self.roster.restart(shard);
        self.perform(actions, clock)
    }

    /// Gives a shard its turn, or goes on with it.
    pub(super) fn turn(&mut self, shard: ShardId, clock: &NodeClock) -> Turned {
        let Some(replica) = self.shards.get_mut(&shard) else { return Turned::Over(Vec::new()) };
        (replica.turn_planned, replica.held_up) = (false, false);
        let Some(host) = &mut replica.host else { return Turned::Over(Vec::new()) };
        let failure = loop {
            match catch_unwind(AssertUnwindSafe(|| host.step())) {
                Ok(Ok(TurnStep::Over(TurnEnd::Done))) => return Turned::Over(Vec::new()),
                Ok(Ok(TurnStep::Over(TurnEnd::Reopen { index }))) => break Failure::Reopens(index),
                Ok(Ok(step)) => {
                    let hold = self.holds.iter().position(|hold| hold.shard == shard && hold.after == step);
                    if let Some(hold) = hold {
                        (replica.turn_planned, replica.held_up) = (true, true);
                        return Turned::HeldUp(self.holds.remove(hold));
                    }
                }
                Ok(Err(error)) => break error.into(),
                Err(panic) => break Failure::OfNoFile(panic_text(&*panic)),
            }
        };
        let actions = self.roster.failed(shard, failure, clock.monotonic());
        Turned::Over(self.perform(actions, clock))
    }

    /// Nothing is held up any more. Returns the shards whose turns go on.
    pub(super) fn end_holds(&mut self) -> Vec<ShardId> {
        self.holds.clear();
        self.listening = None;
        let held = self.shards.iter_mut().filter(|(_, replica)| replica.held_up);
        held.map(|(shard, _)| *shard).collect()
    }

    fn files(&self) -> ReplicaFiles {
        ReplicaFiles::new(Arc::clone(&self.disk), Arc::clone(&self.log.source))
    }

    /// The keeper of the ring map looks at it, if that is due; what it finds is carried out, as the node's actors do. Returns
    /// what it found, and what became of each replica that it concerns.
    pub(super) fn look_at_map(&mut self, clock: &NodeClock) -> (Looked, Vec<(ShardId, Ended)>) {
        let now = self.router.clock().monotonic();
        if now.ms_since(self.map_looked_at) < LOOK_EVERY.as_millis() as u64 {
            return (Looked::default(), Vec::new());
        }
        self.map_looked_at = now;
        let looked = self.keeper.look(now);
        let mut became = if looked.bootstraps { self.bootstrap_meta(clock) } else { Vec::new() };
        if let Some(ring) = &looked.in_force {
            became.extend(self.follow(ring, clock));
        }
        (looked, became)
    }

    /// Opens the first replica of `meta` on this node, to found the group.
    pub(super) fn bootstrap_meta(&mut self, clock: &NodeClock) -> Vec<(ShardId, Ended)> {
        let first = self.plan.configs(&self.initial).into_iter().find(|config| config.shard == ShardId::META);
        let actions = first.map(|config| self.roster.bootstrap(config)).unwrap_or_default();
        self.perform(actions, clock)
    }

    /// Runs what a map asks for.
    pub(super) fn follow(&mut self, ring: &RingMap, clock: &NodeClock) -> Vec<(ShardId, Ended)> {
        let actions = self.roster.follow(self.plan.orders(ring, self.folder));
        self.perform(actions, clock)
    }
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panicked: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text"))
}

/// The data segments in a shard's folder that has no manifest to list them.
fn unlisted(machine: &SimFileSystem, shard: ShardId) -> BTreeSet<String> {
    let folder = format!("shards/{:05}/", shard.0);
    let names = machine.files().into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&folder));
    let names: BTreeSet<String> = names.collect();
    match names.contains(&format!("{folder}manifest")) {
        true => BTreeSet::new(),
        false => names.into_iter().filter(|name| name.ends_with(".data")).collect(),
    }
}
