//! Which shard replicas a node runs, and what is to be done about each of them: the decisions of their supervisor, as a value.
//!
//! The roster is told what happens (a ring map is in force, an opening is over, a replica has failed) and answers with
//! [`Action`]s. Whoever hosts it carries them out in order, one after the other, and tells it what came of them. The node's
//! supervisor does so with actors, the simulator with hosts of its own.
//!
//! Opening a replica may take minutes, if its index has to be read from its records. So it is done beside all else. One opening
//! of a shard is under way at a time, since two replicas must never work on the same files; what is wanted then is opened when
//! it is over.

use crate::clock::Nanos;
use crate::folder::replica_files::{Readiness, WantedReplica};
use crate::health::restart_policy::{GaveUp, RestartDecision, RestartPolicy};
use crate::limits::{AWAIT_KEY, AWAIT_SPACE};
use crate::log::LogError;
use crate::shard::{FolderStanding, Orders, Remedy, ShardConfig, ShardError, Target};
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, ShardRole};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// The replicas of one node's process.
#[derive(Debug, Default)]
pub struct Roster {
    replicas: BTreeMap<ShardId, Replica>,
    /// Shards of which a replica is being opened.
    opening: BTreeSet<ShardId>,
    /// What the last map that names this folder asks for, and its epoch.
    ordered: Option<(BTreeSet<ShardId>, u64)>,
    policy: RestartPolicy<ShardId>,
    stopping: bool,
}

#[derive(Debug)]
struct Replica {
    config: ShardConfig,
    /// The epoch of the map that gave it to this node.
    epoch: u64,
    /// It may be opened although it never was here.
    may_begin: bool,
    incarnation: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It is opened as soon as may be, or when its time comes.
    Closed,
    Open,
    /// It can't be opened under the map in force; a newer one will tell.
    AwaitsMap,
    /// It can't be used any more, and waits to be replaced.
    Unusable,
}

impl Replica {
    fn id(&self) -> ReplicaId {
        self.config.consensus.replica
    }
}

/// Something to be done about a replica.
#[derive(Debug)]
pub enum Action {
    /// End the replica of this shard that runs, and wait for it. Whatever it still says must reach nobody.
    Stop {
        /// The shard.
        shard: ShardId,
        /// Its replica.
        replica: ReplicaId,
    },
    /// Drop the replica of this shard that has failed: it is not reachable from now on.
    Close {
        /// The shard.
        shard: ShardId,
    },
    /// Tell the replica that runs who should be in its group. It is said when the replica opens, and when that changes. Its inbox has room
    /// for it at any time; one that is closed belongs to a replica that has ended.
    SetTarget {
        /// The shard.
        shard: ShardId,
        /// The replicas that its group should have.
        target: Target,
    },
    /// Open a replica beside all else, and call [`Roster::opening_over`].
    Open(Box<Opening>),
    /// The shard has a replica that can be used, or none: take back what [`Action::SetUnusable`] said.
    SetUsable {
        /// The shard.
        shard: ShardId,
    },
    /// The replica can't be used any more: status says so, and the leader of `meta` is told.
    SetUnusable {
        /// The shard.
        shard: ShardId,
        /// Its replica, if the node holds one.
        replica: Option<ReplicaId>,
        /// What status says of it.
        role: ShardRole,
        /// How it failed; `None` if it was found so before it was opened.
        reason: Option<String>,
    },
    /// Write down that the replica is never opened again. Nothing else may be done before: no other replica's files may take
    /// their place meanwhile. If that fails, the process must end.
    Retire {
        /// The shard.
        shard: ShardId,
        /// Its replica.
        replica: ReplicaId,
    },
    /// Erase what lies in the folder of all other shards. Failures are told to [`Roster::failed`].
    EraseSurplus {
        /// Shards whose files stay.
        kept: BTreeSet<ShardId>,
        /// The epoch of the map that says so.
        epoch: u64,
    },
    /// Call [`Roster::restart`] after a while.
    RestartAfter {
        /// The shard.
        shard: ShardId,
        /// How long.
        delay: Duration,
        /// Nothing has failed: its files hold another state than it does.
        reopens: bool,
        /// Why it ended.
        reason: String,
    },
    /// End the process.
    EndProcess(ProcessEnd),
}

/// Why a process with a replica that has failed must end, by what may be done then.
#[derive(Debug, thiserror::Error)]
pub enum ProcessEnd {
    /// A file operation failed. The next start looks at the medium itself.
    #[error("shard {shard}: {source}")]
    Disk {
        /// The shard.
        shard: ShardId,
        /// What failed.
        source: Failure,
    },
    /// Its files hold what this program does not read: no start of it will, only one of another program.
    #[error("shard {shard}: {source}")]
    Unsupported {
        /// The shard.
        shard: ShardId,
        /// What they hold.
        source: Failure,
    },
    /// Replicas have failed more often than the restart policy allows.
    #[error("{source}")]
    GaveUp {
        /// The shard whose failure was one too many.
        shard: ShardId,
        /// How it failed.
        source: GaveUp,
    },
}

/// A replica that is to be opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// In which files.
    pub wanted: WantedReplica,
    /// How it runs.
    pub config: ShardConfig,
    /// How often a replica of this shard was opened in this process, this time included.
    pub incarnation: u32,
}

/// What came of opening a replica.
#[derive(Debug)]
pub enum Opened {
    /// It runs.
    Runs,
    /// Its files say that it must not be opened: any [`Readiness`] but [`Readiness::Open`].
    NotReady(Readiness),
    /// It could not be opened.
    Failed(Failure),
}

/// Why a replica can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing has failed: a snapshot up to this entry has taken the place of its files, and it is opened from them.
    #[error("a snapshot up to entry {0} was installed")]
    Reopens(LogIndex),
    /// It says why itself.
    #[error(transparent)]
    Replica(#[from] ShardError),
    /// It panicked, or failed in a way that says nothing of its files; in words.
    #[error("{0}")]
    OfNoFile(String),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        ShardError::Log(error).into()
    }
}

impl Failure {
    /// What is to be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Reopens(_) => Remedy::Reopen,
            Self::Replica(error) => error.remedy(),
            Self::OfNoFile(_) => Remedy::Restart,
        }
    }
}

impl Roster {
    /// Whether a replica is being opened.
    pub fn is_opening(&self) -> bool {
        !self.opening.is_empty()
    }

    /// The shards of which a replica is being opened.
    pub fn opening(&self) -> impl Iterator<Item = ShardId> {
        self.opening.iter().copied()
    }

    /// Opens the first replica of `meta` on this node, to found the group. Does nothing if there is a replica.
    #[must_use]
    pub fn bootstrap(&mut self, config: ShardConfig) -> Vec<Action> {
        let shard = config.shard;
        if self.stopping || self.replicas.contains_key(&shard) {
            return Vec::new();
        }
        let replica = Replica { config, epoch: 0, may_begin: true, incarnation: 0, state: State::Closed };
        self.replicas.insert(shard, replica);
        self.open(shard).into_iter().collect()
    }

    /// A ring map is in force: runs what it asks for. What it asks for no more is stopped, and erased if the map names this folder.
    #[must_use]
    pub fn follow(&mut self, orders: Orders) -> Vec<Action> {
        if self.stopping {
            return Vec::new();
        }
        let Orders { epoch, place, configs, survivors } = orders;
        let is_named = place == FolderStanding::Named;
        let asked: BTreeSet<ShardId> = configs.iter().map(|config| config.shard).collect();
        let mut actions = Vec::new();
        for (shard, replica) in self.replicas.extract_if(.., |shard, _| !asked.contains(shard)) {
            info!(%shard, "stopping a replica that the ring map does not give this node any more");
            actions.extend([Action::Stop { shard, replica: replica.id() }, Action::SetUsable { shard }]);
        }
        let mut opening = Vec::new();
        for config in configs {
            let shard = config.shard;
            let may_begin = is_named && !survivors.contains(&shard);
            let incarnation = match self.replicas.get_mut(&shard) {
                Some(replica) if replica.id() == config.consensus.replica => {
                    let is_news = replica.config.target != config.target;
                    (replica.config, replica.epoch, replica.may_begin) = (config, epoch, may_begin);
                    match replica.state {
                        State::Open if is_news => actions.push(replica.set_target()),
                        // Nearly all maps leave nearly all groups as they are.
                        State::Open => {}
                        State::AwaitsMap => {
                            replica.state = State::Closed;
                            opening.push(shard);
                        }
                        // It is told when it opens.
                        State::Closed | State::Unusable => {}
                    }
                    continue;
                }
                Some(other) => {
                    info!(%shard, "stopping a replica that another one replaces");
                    actions.extend([Action::Stop { shard, replica: other.id() }, Action::SetUsable { shard }]);
                    other.incarnation
                }
                None => 0,
            };
            let replica = Replica { config, epoch, may_begin, incarnation, state: State::Closed };
            self.replicas.insert(shard, replica);
            opening.push(shard);
        }
        self.ordered = is_named.then_some((asked, epoch));
        actions.extend(self.erase_surplus());
        actions.extend(opening.into_iter().filter_map(|shard| self.open(shard)));
        actions
    }

    /// An opening is over. If the replica runs and nobody wants it any more, it is stopped.
    #[must_use]
    pub fn opening_over(&mut self, wanted: &WantedReplica, opened: Opened, now: Nanos) -> Vec<Action> {
        let shard = wanted.shard;
        self.opening.remove(&shard);
        let held = self.replicas.get_mut(&shard).filter(|held| held.id() == wanted.replica && !self.stopping);
        let Some(held) = held else {
            let mut actions = Vec::new();
            match opened {
                Opened::Runs => {
                    info!(%shard, "stopping a replica that was opened too late to be of use");
                    actions.push(Action::Stop { shard, replica: wanted.replica });
                }
                // It may have run for a moment, and be reachable since.
                Opened::Failed(_) => actions.push(Action::Close { shard }),
                Opened::NotReady(_) => {}
            }
            actions.extend(self.erase_surplus());
            actions.extend(self.open(shard));
            return actions;
        };
        let is_outdated = held.epoch != wanted.epoch;
        match opened {
            Opened::Runs => {
                held.state = State::Open;
                if held.incarnation > 1 {
                    info!(%shard, incarnation = held.incarnation, "restarted the shard from its log");
                }
                vec![held.set_target(), Action::SetUsable { shard }]
            }
            // A newer map came meanwhile.
            Opened::NotReady(_) if is_outdated => self.open(shard).into_iter().collect(),
            Opened::NotReady(Readiness::Ended) => {
                warn!(%shard, "the replica has lost its log, and takes no part until it is replaced");
                vec![Action::Close { shard }, self.set_unusable(shard, ShardRole::Amnesiac, None)]
            }
            Opened::NotReady(readiness) => {
                debug!(%shard, ?readiness, "the replica waits for a newer ring map");
                held.state = State::AwaitsMap;
                Vec::new()
            }
            Opened::Failed(failure) => self.failed(shard, failure, now),
        }
    }

    /// A replica has ended, or what was done to a shard's files has failed.
    #[must_use]
    pub fn failed(&mut self, shard: ShardId, failure: Failure, now: Nanos) -> Vec<Action> {
        if let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.state == State::Open) {
            replica.state = State::Closed;
        }
        let mut actions = vec![Action::Close { shard }];
        match failure.remedy() {
            Remedy::Reopen => {
                let reason = failure.to_string();
                info!(%shard, %reason, "opening the shard anew");
                actions.push(Action::RestartAfter { shard, delay: Duration::ZERO, reopens: true, reason });
            }
            Remedy::Restart => actions.push(self.restart_after_failure(shard, failure, now)),
            Remedy::LeaveOut => {
                error!(%shard, error = %failure, "the shard's log is damaged; this replica takes no part until it is replaced");
                actions.push(self.set_unusable(shard, ShardRole::Faulty, Some(failure.to_string())));
            }
            Remedy::EndLife => {
                error!(%shard, error = %failure, "the shard's log has lost what it promised to keep; the replica waits to be replaced");
                actions.push(self.set_unusable(shard, ShardRole::Amnesiac, Some(failure.to_string())));
                let replica = self.replicas.get(&shard).map(Replica::id);
                actions.extend(replica.map(|replica| Action::Retire { shard, replica }));
            }
            Remedy::AwaitSpace => {
                let reason = failure.to_string();
                warn!(%shard, error = %reason, "a shard waits for room on the disk");
                actions.push(Action::RestartAfter { shard, delay: AWAIT_SPACE, reopens: false, reason });
            }
            Remedy::AwaitKey => {
                let reason = failure.to_string();
                warn!(%shard, error = %reason, "a shard waits for a data key");
                actions.push(Action::RestartAfter { shard, delay: AWAIT_KEY, reopens: false, reason });
            }
            Remedy::EndProcess => actions.push(Action::EndProcess(ProcessEnd::Disk { shard, source: failure })),
            Remedy::AwaitProgram => {
                actions.push(Action::EndProcess(ProcessEnd::Unsupported { shard, source: failure }));
            }
        }
        actions
    }

    /// The time has come to start a replica again.
    #[must_use]
    pub fn restart(&mut self, shard: ShardId) -> Vec<Action> {
        self.open(shard).into_iter().collect()
    }

    /// Opens nothing from now on. The host stops what runs; what is being opened is stopped when that is over.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn open(&mut self, shard: ShardId) -> Option<Action> {
        let replica = self.replicas.get_mut(&shard).filter(|replica| replica.state == State::Closed)?;
        if self.stopping || !self.opening.insert(shard) {
            return None;
        }
        replica.incarnation += 1;
        let Replica { epoch, may_begin, incarnation, .. } = *replica;
        let wanted = WantedReplica { shard, replica: replica.id(), epoch, may_begin };
        Some(Action::Open(Box::new(Opening { wanted, config: replica.config.clone(), incarnation })))
    }

    /// Files of a shard that is being opened are left alone until that is over.
    fn erase_surplus(&self) -> Option<Action> {
        let (asked, epoch) = self.ordered.as_ref().filter(|_| !self.stopping)?;
        Some(Action::EraseSurplus { kept: asked.union(&self.opening).copied().collect(), epoch: *epoch })
    }

    fn set_unusable(&mut self, shard: ShardId, role: ShardRole, reason: Option<String>) -> Action {
        let replica = self.replicas.get_mut(&shard).map(|replica| {
            replica.state = State::Unusable;
            replica.id()
        });
        Action::SetUnusable { shard, replica, role, reason }
    }

    fn restart_after_failure(&mut self, shard: ShardId, failure: Failure, now: Nanos) -> Action {
        match self.policy.on_failure(shard, now) {
            RestartDecision::RestartAfter(delay) => {
                let reason = failure.to_string();
                warn!(%shard, %reason, delay_ms = delay.as_millis() as u64, "a shard failed; restarting it");
                Action::RestartAfter { shard, delay, reopens: false, reason }
            }
            RestartDecision::GiveUp => {
                let (supervisor, child) = ("shards".to_owned(), format!("shard {shard}"));
                let source = GaveUp { supervisor, child, source: failure.into() };
                Action::EndProcess(ProcessEnd::GaveUp { shard, source })
            }
        }
    }
}

impl Replica {
    fn set_target(&self) -> Action {
        Action::SetTarget { shard: self.config.shard, target: self.config.target.clone() }
    }
}

#[cfg(test)]
mod tests;
