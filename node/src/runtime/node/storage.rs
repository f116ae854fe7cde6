//! What a node keeps on its disk: the data folder as its shards find it, the journal, and the thread that prepares segments.

use super::root::if_panics;
use super::{NodeError, StartContext};
use crate::config::Config;
use crate::folder::{DataFolder, StartKind};
use crate::runtime::disk_loop::DiskStalls;
use crate::runtime::journal_threads::{Journal, JournalHandle};
use crate::runtime::segment_thread::SpareSource;
use crate::runtime::unsynced::UnsyncedLogs;
use kvorum_core::disk::{Disk, RealDisk};
use kvorum_core::folder::mirrored::KeptError;
use kvorum_core::folder::replica_files::ReplicaFiles;
use kvorum_core::journal::{self, JournalError, JournalOptions, Replayed};
use kvorum_core::limits::DISK_STALL_FATAL;
use kvorum_core::log::{InlineSource, SegmentSource};
use kvorum_core::map_keeper;
use kvorum_core::ring::RingMap;
use kvorum_protocol::{Durability, NodeId, ShardId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{error, info, warn};

/// A stop waits no longer for all syncs together. One that stalls is noticed before, by the watch of the disk, if it is the journal's.
const STOP_STORAGE_TIMEOUT: Duration = Duration::from_secs(30);
const _: () = assert!(STOP_STORAGE_TIMEOUT.as_secs() > DISK_STALL_FATAL.as_secs());

/// The storage of a running node.
pub(super) struct Storage {
    /// The data folder's disk.
    pub(super) disk: Arc<dyn Disk>,
    /// The ring map that this node has seen last, if it has seen any.
    pub(super) known_ring: Option<RingMap>,
    /// How shards reach the journal.
    pub(super) journal: JournalHandle,
    /// Logs that may hold what is not synced yet.
    pub(super) unsynced: Arc<UnsyncedLogs>,
    running: Option<Running>,
}

/// The threads, which stop together.
struct Running {
    journal: Journal,
    segments: Arc<dyn SegmentSource>,
}

impl Storage {
    /// Opens what a former process of this node left, or begins anew, and starts the threads. A folder with amnesia holds
    /// nothing that counts afterwards.
    ///
    /// # Errors
    /// If the disk fails or what it holds can't be used. Nothing runs then.
    pub(super) async fn open(context: &StartContext<'_>, folder: &mut DataFolder) -> Result<Self, NodeError> {
        let config = context.config;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).map_err(NodeError::disk)?);
        let known_ring = known_ring(&*disk)?;
        let replayed = replay_journal(config, &disk, folder).await?;
        if folder.start_kind() == StartKind::Amnesiac {
            forget_everything(&disk, known_ring.as_ref().unwrap_or(&context.initial), config.node_id).await?;
            folder.amnesia_healed().map_err(NodeError::disk)?;
        }
        let was_killed = folder.start_kind() == StartKind::AfterCrash && config.durability == Durability::Memory;
        let unsynced = if was_killed {
            UnsyncedLogs::after_crash(&*disk).map_err(NodeError::disk)?
        } else {
            UnsyncedLogs::default()
        };
        let segments = Arc::new(
            SpareSource::start(Arc::clone(&disk), if_panics("the thread that prepares segments", &context.fatal))
                .map_err(NodeError::disk)?,
        );
        let (journal, handle) = start_journal(context, &disk, replayed).await?;
        let unsynced = Arc::new(unsynced);
        Ok(Self { disk, known_ring, journal: handle, unsynced, running: Some(Running { journal, segments }) })
    }

    /// Where shards get new segments from.
    ///
    /// # Panics
    /// If it was stopped.
    pub(super) fn segments(&self) -> Arc<dyn SegmentSource> {
        Arc::clone(&self.running.as_ref().expect("shards are opened while storage runs").segments)
    }

    /// Whether this folder has files of the `meta` group.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn began_meta(&self) -> Result<bool, NodeError> {
        Ok(!self.disk.list_segments(ShardId::META).map_err(NodeError::disk)?.is_empty())
    }

    /// Makes durable all that shards have submitted, and ends the threads. A failed write or sync is reported as fatal.
    ///
    /// # Errors
    /// If a thread panicked, or the disk takes too long.
    pub(super) async fn stop(&mut self) -> Result<(), NodeError> {
        let Some(Running { journal, segments }) = self.running.take() else { return Ok(()) };
        let stopping = tokio::task::spawn_blocking(move || {
            drop(segments);
            journal.stop();
        });
        let stopped = timeout(STOP_STORAGE_TIMEOUT, stopping).await.map_err(|_| NodeError::disk(DiskStalls))?;
        stopped.map_err(NodeError::disk)
    }

    /// Whether everything in the folder is synced, once this has stopped: all logs were opened that may not have been before.
    pub(super) async fn is_synced(&self) -> bool {
        let (unsynced, disk) = (Arc::clone(&self.unsynced), Arc::clone(&self.disk));
        tokio::task::spawn_blocking(move || !unsynced.any_left(&*disk)).await.unwrap_or(false)
    }
}

/// Compares a configuration with the cluster that the node knows from before. The data folder's identity holds the rest of what
/// is fixed.
///
/// # Errors
/// `Mismatch`; what keeps the ring map from being read.
pub fn check_fixed(config: &Config, folder: &DataFolder) -> Result<(), NodeError> {
    let disk = RealDisk::open(folder.path()).map_err(NodeError::disk)?;
    let found = known_ring(&disk)?.map(|ring| usize::from(ring.replication_factor));
    let expected = usize::from(config.replication_factor);
    match found {
        Some(found) if found != expected => Err(NodeError::Mismatch { field: "replication_factor", found, expected }),
        _ => Ok(()),
    }
}

/// Whether this node has ever seen a ring map that was agreed on.
///
/// # Errors
/// What keeps it from being read.
pub fn knows_ring(folder: &DataFolder) -> Result<bool, NodeError> {
    let disk = RealDisk::open(folder.path()).map_err(NodeError::disk)?;
    Ok(known_ring(&disk)?.is_some())
}

/// The ring map that this node has seen last.
fn known_ring(disk: &dyn Disk) -> Result<Option<RingMap>, NodeError> {
    map_keeper::read_copy(disk).map_err(|error| match error {
        KeptError::Disk(error) => NodeError::disk(error),
        KeptError::Damaged(error) => NodeError::Ring(error),
        KeptError::Unsupported(error) => NodeError::Unsupported(error.into()),
    })
}

/// Writes back what the journal holds for the segments. If it is damaged and was needed, the folder has amnesia from here on.
async fn replay_journal(config: &Config, disk: &Arc<dyn Disk>, folder: &mut DataFolder) -> Result<Replayed, NodeError> {
    let (disk, after_clean_stop) = (Arc::clone(disk), folder.start_kind() == StartKind::AfterCleanStop);
    let replayed = tokio::task::spawn_blocking(move || journal::replay_or_give_up(&*disk, after_clean_stop));
    let (replayed, damage) = replayed.await.map_err(NodeError::disk)??;
    if replayed.chunks > 0 {
        info!(rounds = replayed.rounds, appends = replayed.chunks, "wrote the journal back into the shards' logs");
    }
    match damage {
        None => {}
        Some(damage) if after_clean_stop => {
            error!(error = %damage, "the journal is damaged; nothing is lost, since the node stopped cleanly: begins another");
        }
        // Nobody else holds what this node does; what its files are worth is for an operator to say.
        Some(damage) if config.replication_factor == 1 => return Err(damage.into()),
        Some(damage) => {
            error!(error = %damage, "the journal is damaged: what this node has promised is not known any more");
            folder.lose_memory().map_err(NodeError::disk)?;
        }
    }
    Ok(replayed)
}

async fn start_journal(
    context: &StartContext<'_>,
    disk: &Arc<dyn Disk>,
    replayed: Replayed,
) -> Result<(Journal, JournalHandle), NodeError> {
    let config = context.config;
    let options = JournalOptions {
        file_bytes: u32::try_from(config.journal.file_bytes).unwrap_or(u32::MAX),
        files: config.journal.files.into(),
        ..JournalOptions::default()
    };
    let (disk, durability, fatal) = (Arc::clone(disk), config.durability, context.fatal.clone());
    let started = tokio::task::spawn_blocking(move || {
        let on_fatal = Box::new(move |error: JournalError| {
            // A full channel holds a reason already.
            let _ = fatal.try_send(error.into());
        });
        Journal::start(&*disk, options, durability, replayed, on_fatal)
    });
    Ok(started.await.map_err(NodeError::disk)??)
}

/// Writes down for each replica of a folder with amnesia that it is over: none of them may be opened again. Those that take
/// their place erase what is there and begin with nothing. May be repeated.
async fn forget_everything(disk: &Arc<dyn Disk>, ring: &RingMap, me: NodeId) -> Result<(), NodeError> {
    warn!(
        "this node has amnesia (its journal is damaged, or its machine went down without a clean stop and durability is \
         `memory`): what it held does not count any more, and its replicas wait to be replaced"
    );
    let files = ReplicaFiles::new(Arc::clone(disk), Arc::new(InlineSource::new(Arc::clone(disk))));
    let held = ring.held_by(me);
    let noted = tokio::task::spawn_blocking(move || files.distrust_all(held));
    noted.await.map_err(NodeError::disk)?.map_err(NodeError::disk)
}
