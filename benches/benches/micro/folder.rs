//! A node's data folder for as long as something is measured in it.

use kvorum_core::disk::{Disk, RealDisk};
use kvorum_core::log::{LogOptions, SegmentSource, ShardLog};
use kvorum_node::runtime::segment_thread::SpareSource;
use kvorum_protocol::ShardId;
use std::sync::Arc;
use tempfile::TempDir;

/// Removed when it is dropped.
pub(crate) struct Folder {
    source: Arc<dyn SegmentSource>,
    disk: Arc<dyn Disk>,
    // Dropped last.
    _place: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let place = tempfile::Builder::new().prefix("kvorum-micro-").tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(place.path()).unwrap());
        let source = Arc::new(SpareSource::start(Arc::clone(&disk), || {}).unwrap());
        Self { source, disk, _place: place }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// A shard's empty log whose first segment has this size, with nothing that waits for the journal.
    pub(crate) fn log(&self, shard: ShardId, segment_bytes: u32) -> ShardLog {
        let options = LogOptions { segment_bytes_first: segment_bytes, ..LogOptions::new(Arc::clone(&self.source)) };
        let (mut log, recovered) = ShardLog::open(&self.disk, shard, None, options).unwrap();
        assert!(recovered.created);
        log.take_appended();
        log
    }
}
