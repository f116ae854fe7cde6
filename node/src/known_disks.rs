//! Which data folder each peer came with when this node first met it.
//!
//! A node whose folder was wiped or swapped comes back under its old name and certificate, and has forgotten its votes and
//! its log: counted as a voter it could help to elect a leader that lacks acknowledged writes. So a peer that comes with
//! another folder than before is turned away, by each node that had met it. It takes part again once it is replaced by an
//! operator.

use crate::log::{Disk, DiskError};
use crate::seeded::{Bug, planted};
use kvorum_protocol::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The name of the file in the data folder.
pub const KNOWN_DISKS: &str = "known-disks.json";

/// Why what is known can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KnownDisksError {
    /// The medium failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is damaged.
    #[error("{KNOWN_DISKS} can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The peers' folders, kept in this node's own.
pub struct KnownDisks {
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<Uuid, Uuid>>,
}

impl KnownDisks {
    /// Reads what is known.
    ///
    /// # Errors
    /// If that can't be read; a node must not start on a guess.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, KnownDisksError> {
        let known = match disk.read_metadata(KNOWN_DISKS)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => BTreeMap::new(),
        };
        Ok(KnownDisks { disk, known: Mutex::new(known) })
    }

    /// Whether the peer may come with this folder: with the one it had, or with any at the first meeting, which is then
    /// written down.
    ///
    /// # Errors
    /// A sentence for the logs of both nodes.
    pub fn admit(&self, peer: NodeId, folder: Uuid) -> Result<(), String> {
        let mut known = self.known.lock();
        match known.get(&peer.0) {
            Some(before) if *before == folder => Ok(()),
            Some(_) if planted(Bug::WipedDiskAdmitted) => Ok(()),
            Some(_) => Err("it comes with another data folder than it had, and must be replaced".to_owned()),
            None => {
                known.insert(peer.0, folder);
                let bytes = serde_json::to_vec(&*known).expect("identities have a form in JSON");
                self.disk.write_metadata(KNOWN_DISKS, &bytes).map_err(|error| {
                    known.remove(&peer.0);
                    format!("its data folder can't be written down: {error}")
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::memory::MemoryDisk;

    #[test]
    fn the_first_folder_is_kept_over_restarts_and_another_one_turned_away() {
        let disk = MemoryDisk::new();
        let (peer, first, second) = (NodeId(Uuid::from_u128(1)), Uuid::from_u128(2), Uuid::from_u128(3));
        let known = KnownDisks::open(Arc::clone(&disk) as _).unwrap();
        assert_eq!(known.admit(peer, first), Ok(()));
        assert_eq!(known.admit(peer, first), Ok(()));
        assert!(known.admit(peer, second).is_err());
        let restarted = KnownDisks::open(disk.after_kill() as _).unwrap();
        assert!(restarted.admit(peer, second).is_err());
        assert_eq!(restarted.admit(peer, first), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_no_guess() {
        let disk = MemoryDisk::new();
        disk.write_metadata(KNOWN_DISKS, b"{").unwrap();
        assert!(matches!(KnownDisks::open(disk as _), Err(KnownDisksError::Malformed(_))));
    }
}
