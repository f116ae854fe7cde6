//! What tests of a journal have in common, here and in other crates.

use super::PersistListener;
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::log::{InlineSource, LogError, LogOptions, Position, ShardLog};
use kvorum_protocol::ShardId;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Passes on the tokens of durable submissions.
pub struct TokenListener(Sender<u64>);

impl PersistListener for TokenListener {
    fn persisted(&self, token: u64) {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send(token);
    }
}

/// A listener, and the tokens that it is told, in order.
pub fn listener() -> (Arc<TokenListener>, Receiver<u64>) {
    let (sender, receiver) = channel();
    (Arc::new(TokenListener(sender)), receiver)
}

/// Opens the log of a shard with small segments (4 to 16 KiB). The journal knows it as durable up to `durable`.
///
/// # Errors
/// As [`ShardLog::open`].
pub fn open_log(disk: &Arc<MemoryDisk>, shard: ShardId, durable: Option<Position>) -> Result<ShardLog, LogError> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let source = Arc::new(InlineSource::new(Arc::clone(&disk)));
    let options = LogOptions { segment_bytes_first: 4096, segment_bytes_max: 16384, ..LogOptions::new(source) };
    ShardLog::open(&disk, shard, durable, options).map(|(log, _)| log)
}
