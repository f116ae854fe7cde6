//! What the files of a shard amount to, for somebody who looks at them and does not go on with them.
//!
//! Everything is judged by the very code that a start runs. It changes files (it cuts torn tails and removes leftovers), so
//! the disk given here must be one that only pretends to.

use super::error::LogError;
use super::limits::RECENT_BYTES_MAX;
use super::manifest::{self, Base, Manifest};
use super::recovery::{self, LogState, Recovered};
use super::scrub::SegmentPlace;
use super::shard_log::read_manifest;
use super::state::{HardState, Position};
use crate::disk::{self, DATA_SEGMENT, Disk, DiskError, HINT_FILE, MANIFEST_FILE};
use crate::formats::{FormatError, UnsupportedVersion};
use crate::sealing::{SealError, ShardKeys};
use bytes::Bytes;
use kvorum_protocol::{LogIndex, ShardId};

/// What a shard's manifest says of its files.
#[derive(Debug)]
pub struct Layout {
    shard: ShardId,
    manifest: Option<Manifest>,
}

/// What became of the hint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    /// There is none.
    Missing,
    /// It is another manifest's: a crash came between the two. It is of no use, and no harm.
    Stale,
    /// It does not match its checksums.
    Damaged,
    /// It is sound, and of a version that is not read. It is of no use, and no harm.
    Unsupported(UnsupportedVersion),
    /// It is sound, and sealed with a key that is not here.
    Closed(SealError),
    /// The index as of the base.
    Fresh(Bytes),
}

/// A log as a start would leave it.
#[derive(Clone, Copy, Debug)]
pub struct LogSummary {
    /// What recovery found and did.
    pub recovered: Recovered,
    /// The last entry.
    pub last_index: LogIndex,
    /// Term, vote and commit position.
    pub hard_state: HardState,
    /// Where the last record ends.
    pub end: Position,
}

impl Layout {
    /// Reads a shard's manifest.
    ///
    /// # Errors
    /// `Damaged`, or if it can't be read.
    pub fn read(disk: &dyn Disk, shard: ShardId) -> Result<Self, LogError> {
        Ok(Self { shard, manifest: read_manifest(disk, shard)? })
    }

    /// The base, if there is a manifest.
    pub fn base(&self) -> Option<&Base> {
        self.manifest.as_ref().map(|manifest| &manifest.base)
    }

    /// The segments that belong to the state at the base, and to no log any more.
    pub fn listed(&self) -> Vec<SegmentPlace> {
        let listed = self.manifest.iter().flat_map(|manifest| &manifest.listed);
        listed
            .map(|listed| SegmentPlace {
                shard: self.shard,
                number: listed.number,
                generation: listed.generation,
                written: listed.written,
            })
            .collect()
    }

    /// Whether a segment of this number is part of the log.
    pub fn is_of_log(&self, number: u32) -> bool {
        let first = self.manifest.as_ref().map_or(1, |manifest| manifest.start.segment);
        number & DATA_SEGMENT == 0 && number >= first
    }

    /// Reads the hint.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn hint(&self, disk: &dyn Disk, keys: &ShardKeys) -> Result<Hint, DiskError> {
        let Some(manifest) = &self.manifest else { return Ok(Hint::Missing) };
        let Some(bytes) = disk.map_shard_file(self.shard, HINT_FILE)? else { return Ok(Hint::Missing) };
        Ok(match manifest::decode_hint(self.shard, &bytes) {
            Ok(found) => match found.open(keys) {
                Ok(found) => found.of_manifest(manifest.sequence).map_or(Hint::Stale, Hint::Fresh),
                Err(error) => Hint::Closed(error),
            },
            Err(FormatError::Damaged) => Hint::Damaged,
            Err(FormatError::Unsupported(version)) => Hint::Unsupported(version),
        })
    }

    /// Recovers the log as [`super::ShardLog::open`] does; `None` if there is none.
    ///
    /// # Errors
    /// As there.
    pub fn recover(&self, disk: &dyn Disk, durable: Option<Position>) -> Result<Option<LogSummary>, LogError> {
        let manifest = self.manifest.as_ref();
        let state = LogState::new(RECENT_BYTES_MAX, manifest);
        let found = recovery::recover(disk, self.shard, durable, state, manifest)?;
        Ok(found.map(|found| {
            let active = found.segments.last().expect("a recovered log has segments");
            LogSummary {
                recovered: found.recovered,
                last_index: found.state.entries.last(),
                hard_state: found.state.hard_state,
                end: Position { segment: active.number(), offset: active.written() },
            }
        }))
    }
}

/// The file that holds what a position speaks of, below the data folder. Segment 0 is the manifest.
pub fn file_of(shard: ShardId, segment: u32) -> String {
    match segment {
        0 => disk::shard_file_path(shard, MANIFEST_FILE),
        number => disk::segment_path(shard, number),
    }
}
