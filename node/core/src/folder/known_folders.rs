//! Which data folder each peer came with when this node first met it, and how far each folder of a peer had come when it was last
//! seen.
//!
//! A node whose folder was wiped or swapped comes back under its old name and certificate, and has forgotten its votes and
//! its log: counted as a voter it could help to elect a leader that lacks acknowledged writes. So a peer that comes with
//! another folder than before is a stranger to each node that had met it: it is connected, and nothing that it says about
//! consensus counts. This memory serves until the ring map names the peer's folder; from then on the map decides
//! ([`crate::ring::decide`]).
//!
//! A folder that was copied, or put back from a copy, has forgotten as much and comes under its old id. What gives it away is its
//! count of starts: each process of a folder has another number, so one that comes with a number that was seen before is
//! another process of another copy. It is turned away. That holds for each node that has seen a later process of the folder, or the
//! same start of another copy; two copies that are both started for the first time are told apart once one of them was met.

use crate::disk::{Disk, DiskError};
use crate::folder::checked_json;
use crate::folder::mirrored::{self, DecodeFailure, KeptError};
use crate::folder::stored_id;
use kvorum_protocol::peer::PeerHello;
use kvorum_protocol::{FolderId, NodeId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The name of the file in the data folder.
pub const KNOWN_DISKS: &str = "known-disks.json";

impl DecodeFailure for KnownFoldersError {}

/// Why what is known can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KnownFoldersError {
    /// The medium failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is damaged, and so is its copy.
    #[error(
        "{KNOWN_DISKS}.metadata and its copy are damaged; name an empty folder, and the node will rejoin with a new disk"
    )]
    Malformed,
}

/// Why a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub enum MeetError {
    /// Its folder can't be written down.
    #[error("its data folder can't be written down: {0}")]
    Disk(#[from] DiskError),
    /// Its folder has been seen further on.
    #[error(
        "data folder {folder} is a copy, or was put back from one: it comes with start {starts}, and start {seen} was seen \
         already. Empty it, and the node is taken in"
    )]
    Copied {
        /// The folder.
        folder: FolderId,
        /// The start that it says.
        starts: u64,
        /// The latest one that was seen, of this process or another one.
        seen: u64,
    },
}

/// What is known of a peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownPeer {
    /// The folder with which it was first met.
    #[serde(with = "stored_id")]
    first: FolderId,
    /// How far its folders had come, the one that was seen last at the end; at most [`FOLDERS_MAX`].
    folders: Vec<KnownFolder>,
}

/// How far a folder had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownFolder {
    #[serde(with = "stored_id")]
    folder: FolderId,
    starts: u64,
    process: u64,
}

/// Most folders of a peer that are remembered. Older ones are retired by the ring map.
const FOLDERS_MAX: usize = 4;

/// What a file of known folders says of each peer.
///
/// # Errors
/// `Malformed`.
pub fn decode(bytes: &[u8]) -> Result<BTreeMap<Uuid, KnownPeer>, KnownFoldersError> {
    let json = checked_json::unseal_or_plain(bytes);
    json.and_then(|json| serde_json::from_str(json).ok()).ok_or(KnownFoldersError::Malformed)
}

/// The peers' folders, kept in this node's own.
pub struct KnownFolders {
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<Uuid, KnownPeer>>,
    /// Held while the file is written, so that the newest state is what stays in it. Who looks something up does not wait for it.
    writing: Mutex<()>,
}

impl KnownFolders {
    /// Reads what is known.
    ///
    /// # Errors
    /// If that can't be read; a node must not start on a guess.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, KnownFoldersError> {
        let known = mirrored::read(&*disk, KNOWN_DISKS, decode).map_err(|error| match error {
            KeptError::Disk(error) => KnownFoldersError::Disk(error),
            KeptError::Damaged(error) | KeptError::Unsupported(error) => error,
        })?;
        Ok(Self { disk, known: Mutex::new(known.unwrap_or_default()), writing: Mutex::new(()) })
    }

    /// The folder with which a peer was first met; `None` if it never was.
    pub fn get(&self, peer: NodeId) -> Option<FolderId> {
        self.known.lock().get(&peer.0).map(|known| known.first)
    }

    /// A peer has said hello. Returns the folder with which it was first met: this one at the first meeting, which is written
    /// down before this returns. Blocks.
    ///
    /// # Errors
    /// Why it must be turned away: a folder that is new can't be written down, or it is a copy. How far a folder that is known has
    /// come is kept in memory if there is no room for it on the disk: else a full disk would keep peers out.
    pub fn meet(&self, hello: &PeerHello) -> Result<FolderId, MeetError> {
        // From here on: of two folders that come at once, the second one is judged by what became of the first.
        let _writing = self.writing.lock();
        let mut known = self.known.lock();
        let now = KnownFolder { folder: hello.disk, starts: hello.starts, process: hello.process };
        let before = known.get(&hello.node.0).cloned();
        let seen = before.iter().flat_map(|peer| &peer.folders).find(|seen| seen.folder == now.folder).copied();
        if let Some(seen) = seen {
            if seen == now {
                return Ok(before.map_or(now.folder, |peer| peer.first));
            }
            if now.starts <= seen.starts {
                return Err(MeetError::Copied { folder: now.folder, starts: now.starts, seen: seen.starts });
            }
        }
        let peer = known.entry(hello.node.0).or_insert(KnownPeer { first: now.folder, folders: Vec::new() });
        peer.folders.retain(|other| other.folder != now.folder);
        peer.folders.push(now);
        let surplus = peer.folders.len().saturating_sub(FOLDERS_MAX);
        peer.folders.drain(..surplus);
        let first = peer.first;
        let bytes = checked_json::encode(&*known);
        drop(known);
        if let Err(error) = mirrored::write(&*self.disk, KNOWN_DISKS, &bytes)
            && seen.is_none()
        {
            let mut known = self.known.lock();
            match before {
                Some(before) => known.insert(hello.node.0, before),
                None => known.remove(&hello.node.0),
            };
            return Err(error.into());
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::{Faults, MemoryDisk};
    use kvorum_protocol::ClusterId;
    use kvorum_protocol::peer::Levels;

    const PEER: NodeId = NodeId(Uuid::from_u128(1));

    fn hello(folder: u128, starts: u64, process: u64) -> PeerHello {
        PeerHello {
            levels: Levels::OWN,
            cluster: ClusterId(Uuid::from_u128(9)),
            node: PEER,
            disk: FolderId(Uuid::from_u128(folder)),
            starts,
            process,
            knows: None,
            replaced: false,
            client: String::new(),
            resp: kvorum_protocol::peer::RespAddresses::default(),
            program: String::new(),
            more: bytes::Bytes::new(),
        }
    }

    fn open(disk: &Arc<MemoryDisk>) -> KnownFolders {
        KnownFolders::open(Arc::clone(disk) as _).unwrap()
    }

    #[test]
    fn the_first_folder_is_kept_over_restarts() {
        let disk = MemoryDisk::new();
        let (first, second) = (FolderId(Uuid::from_u128(2)), hello(3, 1, 77));
        let known = open(&disk);
        assert_eq!(known.get(PEER), None);
        assert_eq!(known.meet(&hello(2, 1, 7)).unwrap(), first);
        assert_eq!(known.meet(&second).unwrap(), first);
        let restarted = open(&disk.after_kill());
        assert_eq!(restarted.get(PEER), Some(first));
        assert_eq!(restarted.meet(&second).unwrap(), first);
    }

    #[test]
    fn a_folder_goes_forward_only() {
        let disk = MemoryDisk::new();
        let known = open(&disk);
        known.meet(&hello(2, 5, 50)).unwrap();
        known.meet(&hello(2, 5, 50)).expect("the same process is connected again");
        known.meet(&hello(2, 9, 90)).expect("it was started again, some times unseen");
        let known = open(&disk.after_kill());
        for (starts, process, what) in [(5, 50, "put back"), (9, 91, "a copy"), (8, 90, "nonsense")] {
            let turned_away = known.meet(&hello(2, starts, process));
            assert!(matches!(turned_away, Err(MeetError::Copied { seen: 9, .. })), "{what}: {turned_away:?}");
        }
        known.meet(&hello(2, 9, 90)).expect("the one that was seen is still welcome");
        known.meet(&hello(3, 1, 91)).expect("another folder has its own count");
        known.meet(&hello(2, 8, 92)).expect_err("and does not make the first one forgotten");
        for folder in 10..20 {
            known.meet(&hello(folder, 1, 1)).unwrap();
        }
        assert_eq!(known.known.lock()[&PEER.0].folders.len(), FOLDERS_MAX);
    }

    #[test]
    fn a_full_disk_keeps_new_folders_out_and_no_others() {
        let disk = MemoryDisk::new();
        let known = open(&disk);
        known.meet(&hello(2, 5, 50)).unwrap();
        disk.set_faults(Faults { operations_left: Some(0), ..Faults::default() });
        known.meet(&hello(2, 6, 60)).expect("it is known");
        known.meet(&hello(2, 5, 50)).expect_err("and remembered as far as it has come");
        assert!(matches!(known.meet(&hello(3, 1, 1)), Err(MeetError::Disk(_))));
        known.meet(&hello(2, 6, 60)).expect("nothing was forgotten over it");
    }

    #[test]
    fn a_damaged_file_is_no_guess() {
        let disk = MemoryDisk::new();
        disk.write_metadata(KNOWN_DISKS, b"{").unwrap();
        assert!(matches!(KnownFolders::open(disk as _), Err(KnownFoldersError::Malformed)));
    }
}
