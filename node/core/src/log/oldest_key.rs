//! With which data keys the records of segments are sealed: what has an old key is moved, and so sealed with the key of now.
//!
//! No file says it. Who writes a data segment knows; of other segments the records are looked at once per process, if anything is sealed.

use super::compaction::visit_records;
use super::error::LogError;
use super::operations::{Record, RecordHeader};
use super::segment::Segment;
use crate::sealing::{KeyEpoch, decode_front};
use std::sync::Arc;

/// What a segment without records says: nothing of it is old.
pub(super) const NO_RECORDS: KeyEpoch = KeyEpoch(u16::MAX);

/// Segments whose records are yet to be looked at. Runs on any thread.
pub struct KeyLook {
    pub(super) segments: Vec<Arc<Segment>>,
}

impl KeyLook {
    /// Looks at all records: reads all bytes. `pace` is told of bytes that were read, and may wait; if it says `false`, the rest is left for
    /// another time.
    ///
    /// # Errors
    /// `Damaged` if a record does not match its checksums.
    pub fn run(self, pace: &mut dyn FnMut(u64) -> bool) -> Result<(), LogError> {
        for segment in &self.segments {
            let written = segment.written();
            let mut oldest = NO_RECORDS;
            visit_records(segment, None, &mut |record, _| {
                oldest = oldest.min(key_of(record));
                Ok(())
            })?;
            segment.note_oldest_key(oldest);
            if !pace(written.into()) {
                break;
            }
        }
        Ok(())
    }
}

fn key_of(record: &Record<'_>) -> KeyEpoch {
    record.sealed_with().map_or(KeyEpoch(0), |(epoch, _)| epoch)
}

/// The key of a record, of which these are the bytes.
pub(super) fn key_of_bytes(record: &[u8]) -> KeyEpoch {
    let header = record.first_chunk().and_then(|bytes| RecordHeader::parse(bytes).ok());
    let stored = header.filter(RecordHeader::is_sealed).and_then(|header| record.get(header.front_bytes()..));
    stored.and_then(decode_front).map_or(KeyEpoch(0), |(epoch, _, _)| epoch)
}
