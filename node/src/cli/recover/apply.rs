//! `kvorum recover apply`: carries a plan out in the data folder of a stopped node.
//!
//! The order makes a crash at any moment harmless, and the command repeatable:
//!
//! ```text
//! nothing has changed? ─► per group: whose files they are ─► its new base
//!                      ─► other replicas are over ─► amnesia ends ─► the ring map
//! ```
//!
//! The first step of a group takes its files from the replica that they were of. A node that is started in between follows its old ring
//! map, and leaves such files alone, since they came with a later one. Before amnesia ends, each replica that had it and does not go on
//! is noted as over: by the old map it would vote. The ring map comes last: where it is, all is done.

use super::{Durable, Place, RecoverError, keys};
use crate::cli::verify::scratch::ScratchFileSystem;
use crate::folder::{self, StartKind};
use kvorum_core::disk::{Disk, FileDisk, RealDisk};
use kvorum_core::folder::replica_files::{Readiness, ReplicaFiles, RetireReason, WantedReplica};
use kvorum_core::journal::{self, ShardJournal};
use kvorum_core::log::{InlineSource, Position};
use kvorum_core::map_keeper;
use kvorum_core::recover::{FolderPlan, PlanStanding, PlannedReplica, RecoveryPlan};
use kvorum_core::ring::RingMap;
use kvorum_core::sealing::Keyring;
use kvorum_core::shard::remains::RemainsOptions;
use kvorum_protocol::{LogIndex, NodeId, ShardId, Term};
use std::path::Path;
use std::sync::Arc;

/// What was done in a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Nothing: all was done before.
    Before,
    /// The plan is carried out.
    Now {
        /// The node's name.
        node: String,
        /// The groups that go on from here.
        groups: usize,
    },
}

/// Carries a plan out in a folder. May be repeated, also after it was interrupted. Reads the log of each replica that goes on, and writes
/// the index of its keys.
///
/// # Errors
/// If the plan says nothing of the folder, its node runs, or it has changed since the plan was made: nothing has changed then. If the
/// disk fails: repeat it.
pub fn apply(plan: &RecoveryPlan, path: &Path, key: Option<&str>) -> Result<Applied, RecoverError> {
    let place = Place(path);
    let before = folder::inspect(path);
    let (owner, id) = before.owner().ok_or_else(|| place.unknown("identity"))?;
    let refused = |why| RecoverError::NotInPlan { path: path.to_owned(), id: plan.id.clone(), why };
    if owner.cluster.0 != plan.cluster {
        return Err(refused("is for another cluster"));
    }
    let Some(planned) = plan.folder(id) else {
        let gone = plan.gone.iter().any(|gone| gone.node == owner.node.0);
        return Err(refused(if gone {
            "has given this node up: it never returns"
        } else {
            "does not speak of this folder"
        }));
    };
    let _lock = folder::lock(path)?;
    let keys = keys(path, key)?;
    let inspected = folder::inspect(path);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(path).map_err(|error| place.disk(error))?);
    let ring = map_keeper::read_copy(&*disk).map_err(|error| place.ring(error))?;
    match plan.standing(ring.as_ref()) {
        PlanStanding::Ahead => {}
        PlanStanding::Followed => return Ok(Applied::Before),
        PlanStanding::Contradicted => {
            return Err(refused(
                "is not the one that was applied here, or a node that it keeps was removed since: nothing was changed",
            ));
        }
    }
    if inspected.starts() != Some(planned.starts) {
        return Err(place.changed("its node was started"));
    }
    let boot = folder::boot_id().map_err(|error| RecoverError::File { path: "/proc".into(), error })?;
    let start = inspected.start_kind(owner.durability, &boot);
    if start == StartKind::Amnesiac && !planned.heals {
        return Err(place.changed("it has amnesia by now: the machine was started again"));
    }
    let carrying = Carrying { place, plan, planned, keys, after_clean_stop: start == StartKind::AfterCleanStop };
    carrying.check(path)?;
    carrying.carry_out(&disk)?;
    if planned.heals {
        carrying.end_others(&disk, ring.as_ref())?;
        folder::note_clean_stop(path, &boot)?;
    }
    map_keeper::write_copy(&*disk, &plan.ring).map_err(|error| carrying.place.disk(error))?;
    Ok(Applied::Now { node: planned.name.clone(), groups: planned.replicas.len() })
}

struct Carrying<'a> {
    place: Place<'a>,
    plan: &'a RecoveryPlan,
    planned: &'a FolderPlan,
    keys: Arc<Keyring>,
    after_clean_stop: bool,
}

/// A disk, and what is known of what lies on it.
struct Opened<'a> {
    disk: &'a Arc<dyn Disk>,
    files: ReplicaFiles,
    journal: Arc<dyn ShardJournal>,
}

impl Carrying<'_> {
    fn open<'a>(&self, disk: &'a Arc<dyn Disk>) -> Result<Opened<'a>, RecoverError> {
        let (replayed, damage) =
            journal::replay_or_give_up(&**disk, self.after_clean_stop).map_err(|error| self.place.journal(error))?;
        if let Some(damage) = damage.filter(|_| !self.after_clean_stop && !self.planned.heals) {
            return Err(self.place.changed(format!("the journal is damaged: {damage}")));
        }
        let files = ReplicaFiles::new(Arc::clone(disk), Arc::new(InlineSource::new(Arc::clone(disk))));
        Ok(Opened { disk, files, journal: Arc::new(Durable(replayed.durable)) })
    }

    fn options<'a>(&'a self, opened: &'a Opened<'_>, shard: ShardId) -> RemainsOptions<'a> {
        RemainsOptions { disk: opened.disk, ring: &self.plan.ring, shard, keys: &self.keys }
    }

    fn durable(&self, opened: &Opened<'_>, planned: &PlannedReplica) -> Result<Option<Position>, RecoverError> {
        if planned.given_up {
            return Ok(None);
        }
        let shard = planned.shard();
        let journal = opened.files.journal_of(shard, &opened.journal).map_err(self.place.log(shard))?;
        Ok(journal.durable(shard))
    }

    /// Whether all logs end where the plan says. What a start would write for that stays in memory.
    fn check(&self, path: &Path) -> Result<(), RecoverError> {
        let scratch: Arc<dyn Disk> =
            Arc::new(FileDisk::over(ScratchFileSystem::new(path)).map_err(|error| self.place.disk(error))?);
        let opened = self.open(&scratch)?;
        for planned in self.planned.replicas.iter().filter(|planned| planned.last_index.is_some()) {
            let shard = planned.shard();
            let durable = self.durable(&opened, planned)?;
            let found = self.options(&opened, shard).last_index(durable).map_err(self.place.log(shard))?;
            if found.map(|found| found.0) != planned.last_index {
                let found = found.unwrap_or(LogIndex(0));
                return Err(self.place.changed(format!("the last entry of shard {shard} is {found}")));
            }
        }
        Ok(())
    }

    fn carry_out(&self, disk: &Arc<dyn Disk>) -> Result<(), RecoverError> {
        let opened = self.open(disk)?;
        self.planned.replicas.iter().try_for_each(|planned| self.go_on(&opened, planned))
    }

    /// Notes that the replicas which the folder holds by its own ring map, and which do not go on, are over.
    fn end_others(&self, disk: &Arc<dyn Disk>, ring: Option<&RingMap>) -> Result<(), RecoverError> {
        let files = ReplicaFiles::new(Arc::clone(disk), Arc::new(InlineSource::new(Arc::clone(disk))));
        let held = ring.map(|ring| ring.held_by(NodeId(self.planned.node))).unwrap_or_default();
        let goes_on = |shard: ShardId| self.planned.replicas.iter().any(|planned| planned.shard() == shard);
        for (shard, replica) in held.into_iter().filter(|(shard, _)| !goes_on(*shard)) {
            let reason = RetireReason::Distrusted { replica };
            files.retire(shard, reason).map_err(self.place.log(shard))?;
        }
        Ok(())
    }

    fn go_on(&self, opened: &Opened<'_>, planned: &PlannedReplica) -> Result<(), RecoverError> {
        let (shard, replica, term) = (planned.shard(), planned.replica(), Term(planned.term));
        let options = self.options(opened, shard);
        // A damaged manifest is in the way of none but a group that goes on from it.
        if options.is_alone(replica).unwrap_or(false) {
            return Ok(());
        }
        let wanted = WantedReplica { shard, replica, epoch: self.plan.ring.epoch, may_begin: true };
        let later = || self.place.changed(format!("the files of shard {shard} came with a later ring map"));
        if planned.last_index.is_none() {
            let readiness = opened.files.prepare(&wanted).map_err(self.place.log(shard))?;
            if readiness != Readiness::Open {
                return Err(later());
            }
            return options.begin_empty(replica, term).map_err(self.place.shard(shard));
        }
        let durable = self.durable(opened, planned)?;
        if !opened.files.go_on_as(&wanted).map_err(self.place.log(shard))? {
            return Err(later());
        }
        let remains = options.open(replica, durable).map_err(self.place.shard(shard))?.ok_or_else(later)?;
        remains.go_on_alone(&**opened.disk, replica, term).map_err(self.place.shard(shard))
    }
}
