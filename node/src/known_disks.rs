//! Which data folder each peer came with when this node first met it.
//!
//! A node whose folder was wiped or swapped comes back under its old name and certificate, and has forgotten its votes and
//! its log: counted as a voter it could help to elect a leader that lacks acknowledged writes. So a peer that comes with
//! another folder than before is a stranger to each node that had met it: it is connected, and nothing that it says about
//! consensus counts. This memory serves until the ring map names the peer's folder; from then on the map decides
//! ([`crate::ring::keeper`]).

use crate::checked_json;
use crate::kept_twice::{self, KeptError};
use crate::log::{Disk, DiskError};
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
    /// The file is damaged, and so is its copy.
    #[error(
        "{KNOWN_DISKS}.metadata and its copy are damaged; name an empty folder, and the node will rejoin with a new disk"
    )]
    Malformed,
}

/// What a file of known folders says: the folder of each peer.
///
/// # Errors
/// `Malformed`.
pub fn decode(bytes: &[u8]) -> Result<BTreeMap<Uuid, Uuid>, KnownDisksError> {
    let json = checked_json::unseal_or_plain(bytes);
    json.and_then(|json| serde_json::from_str(json).ok()).ok_or(KnownDisksError::Malformed)
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
        let known = kept_twice::read(&*disk, KNOWN_DISKS, decode).map_err(|error| match error {
            KeptError::Disk(error) => KnownDisksError::Disk(error),
            KeptError::Damaged(damage) => damage,
        })?;
        Ok(KnownDisks { disk, known: Mutex::new(known.unwrap_or_default()) })
    }

    /// The folder with which a peer was first met; `None` if it never was.
    pub fn get(&self, peer: NodeId) -> Option<Uuid> {
        self.known.lock().get(&peer.0).copied()
    }

    /// A peer comes with this folder. Returns the one with which it was first met: this one at the first meeting, which is
    /// written down before this returns.
    ///
    /// # Errors
    /// If it can't be written down: the peer must be turned away then.
    pub fn meet(&self, peer: NodeId, folder: Uuid) -> Result<Uuid, DiskError> {
        let mut known = self.known.lock();
        if let Some(before) = known.get(&peer.0) {
            return Ok(*before);
        }
        known.insert(peer.0, folder);
        let bytes = checked_json::encode(&*known);
        kept_twice::write(&*self.disk, KNOWN_DISKS, &bytes).inspect_err(|_| {
            known.remove(&peer.0);
        })?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::memory::MemoryDisk;

    #[test]
    fn the_first_folder_is_kept_over_restarts() {
        let disk = MemoryDisk::new();
        let (peer, first, second) = (NodeId(Uuid::from_u128(1)), Uuid::from_u128(2), Uuid::from_u128(3));
        let known = KnownDisks::open(Arc::clone(&disk) as _).unwrap();
        assert_eq!(known.get(peer), None);
        assert_eq!(known.meet(peer, first).unwrap(), first);
        assert_eq!(known.meet(peer, second).unwrap(), first);
        let restarted = KnownDisks::open(disk.after_kill() as _).unwrap();
        assert_eq!(restarted.get(peer), Some(first));
        assert_eq!(restarted.meet(peer, second).unwrap(), first);
    }

    #[test]
    fn a_damaged_file_is_no_guess() {
        let disk = MemoryDisk::new();
        disk.write_metadata(KNOWN_DISKS, b"{").unwrap();
        assert!(matches!(KnownDisks::open(disk as _), Err(KnownDisksError::Malformed)));
    }
}
