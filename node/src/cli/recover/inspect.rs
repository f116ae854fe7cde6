//! `kvorum recover inspect`: how far each replica in a stopped node's folder has come. Changes nothing: what a start would write stays
//! in memory.

use super::{Durable, Place, RecoverError, keys};
use crate::cli::verify;
use crate::cli::verify::scratch::ScratchFileSystem;
use crate::folder::{self, StartKind};
use kvorum_core::disk::{Disk, DiskError, FileDisk};
use kvorum_core::folder::replica_files::{Noted, ReplicaFiles, note_name};
use kvorum_core::journal::{self, ShardJournal};
use kvorum_core::log::{InlineSource, LogError};
use kvorum_core::map_keeper;
use kvorum_core::recover::{FolderReport, RECOVERY_FORMAT, ReplicaReport};
use kvorum_core::ring::RingMap;
use kvorum_core::sealing::Keyring;
use kvorum_core::shard::ShardError;
use kvorum_core::shard::remains::RemainsOptions;
use kvorum_protocol::{NodeId, ReplicaId, ShardId};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Looks at a folder. Nobody can start a node with it meanwhile. Reads the log of every replica, and all of its records where it has
/// no index of its checkpoint; holds one replica's index in memory at a time.
///
/// # Errors
/// If it can't be looked at, or does not say whose it is.
pub fn inspect(path: &Path, key: Option<&str>) -> Result<FolderReport, RecoverError> {
    let _locks = verify::hold(path)?;
    let keys = keys(path, key)?;
    let place = Place(path);
    let inspected = folder::inspect(path);
    let (owner, id) = inspected.owner().ok_or_else(|| place.unknown("identity"))?;
    let starts = inspected.starts().ok_or_else(|| place.unknown("count of starts"))?;
    let disk: Arc<dyn Disk> =
        Arc::new(FileDisk::over(ScratchFileSystem::new(path)).map_err(|error| place.disk(error))?);
    let ring = map_keeper::read_copy(&*disk).map_err(|error| place.ring(error))?;
    let boot = folder::boot_id().map_err(|error| RecoverError::File { path: "/proc".into(), error })?;
    let start = inspected.start_kind(owner.durability, &boot);
    let after_clean_stop = start == StartKind::AfterCleanStop;
    let (replayed, damage) =
        journal::replay_or_give_up(&*disk, after_clean_stop).map_err(|error| place.journal(error))?;
    let distrusted = match damage.filter(|_| !after_clean_stop) {
        Some(damage) => Some(format!("the journal is damaged: {damage}")),
        None => (start == StartKind::Amnesiac).then(|| "it has amnesia".to_owned()),
    };
    let mut replicas = Vec::new();
    if let Some(ring) = &ring {
        let durable = Arc::new(Durable(replayed.durable));
        let looking = Looking { place, disk: &disk, ring, keys: &keys, node: owner.node, durable };
        replicas = looking.replicas()?;
    }
    Ok(FolderReport {
        format: RECOVERY_FORMAT,
        cluster: owner.cluster.0,
        node: owner.node.0,
        folder: id,
        starts,
        distrusted,
        ring,
        replicas,
    })
}

/// Whether the files themselves are at fault, a sector that can't be read included. What the system refuses for another reason it may
/// give the next time, and what another program has written is not lost.
fn is_damage(error: &ShardError) -> bool {
    match error {
        ShardError::Log(LogError::Unsupported { .. } | LogError::DiskFull(_)) => false,
        ShardError::Log(LogError::Disk(DiskError::Io { source, .. })) => {
            source.kind() != io::ErrorKind::PermissionDenied
        }
        ShardError::Log(LogError::Disk(_)) => false,
        _ => true,
    }
}

struct Looking<'a> {
    place: Place<'a>,
    disk: &'a Arc<dyn Disk>,
    ring: &'a RingMap,
    keys: &'a Arc<Keyring>,
    node: NodeId,
    durable: Arc<Durable>,
}

impl Looking<'_> {
    fn replicas(&self) -> Result<Vec<ReplicaReport>, RecoverError> {
        let mut replicas = Vec::new();
        for shard in self.ring.group_ids() {
            replicas.extend(self.replica(shard)?);
        }
        Ok(replicas)
    }

    /// What is left of a shard's replica; `None` if there was none.
    fn replica(&self, shard: ShardId) -> Result<Option<ReplicaReport>, RecoverError> {
        let source = Arc::new(InlineSource::new(Arc::clone(self.disk)));
        let files = ReplicaFiles::new(Arc::clone(self.disk), source);
        let given = self.ring.replica_on(shard, self.node);
        let (replica, noted) = match files.noted(shard).map_err(|error| self.place.disk(error))? {
            Noted::Live(replica) => (Some(replica), None),
            Noted::Over(replica) => (Some(replica), Some("it was given up before".to_owned())),
            Noted::Damaged => (given, Some(format!("{}.metadata is damaged", note_name(shard)))),
            Noted::Nothing if self.has_no_files(shard)? => return Ok(None),
            Noted::Nothing => (given, None),
        };
        let journal: Arc<dyn ShardJournal> = Arc::clone(&self.durable) as _;
        let journal = files.journal_of(shard, &journal).map_err(self.place.log(shard))?;
        let options = RemainsOptions { disk: self.disk, ring: self.ring, shard, keys: self.keys };
        // Whoever it was, the log says the same.
        let id = replica.unwrap_or(ReplicaId(1));
        // What was given up is read as far as it goes.
        let durable = journal.durable(shard).filter(|_| noted.is_none());
        let (opened, damage) = match options.open(id, durable) {
            Ok(opened) => (opened, None),
            Err(error) if !is_damage(&error) => return Err(self.place.shard(shard)(error)),
            Err(damage) => match options.open(id, None) {
                Err(error) if !is_damage(&error) => return Err(self.place.shard(shard)(error)),
                opened => (opened.unwrap_or(None), Some(damage.to_string())),
            },
        };
        let is_lost = opened.is_none().then(|| "its files are lost".to_owned());
        Ok(Some(ReplicaReport {
            shard: shard.0,
            replica: replica.map(|replica| replica.0),
            problem: noted.or(damage).or(is_lost),
            reach: opened.map(|remains| remains.reach().into()),
        }))
    }

    fn has_no_files(&self, shard: ShardId) -> Result<bool, RecoverError> {
        Ok(self.disk.list_segments(shard).map_err(|error| self.place.disk(error))?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_for_now_is_no_damage() {
        let system = |kind: io::ErrorKind| {
            ShardError::Log(LogError::Disk(DiskError::new("open", "shards/00001", io::Error::from(kind))))
        };
        assert!(!is_damage(&system(io::ErrorKind::PermissionDenied)));
        assert!(is_damage(&system(io::ErrorKind::Other)), "a sector that can't be read");
        let exhausted = DiskError::new("open", "shards/00001", io::Error::from_raw_os_error(24));
        assert!(!is_damage(&ShardError::Log(LogError::from(exhausted))), "no file descriptor is left");
    }
}
