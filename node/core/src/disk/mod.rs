//! The seam between the log, the journal and the file system.
//!
//! [`Disk`] is what log and journal ask for. [`FileDisk`] gives it over a [`FileSystem`], which is what the system offers:
//! the machine's own, or the simulator's. (Unit tests use a simpler disk in memory, without files below it.)
//!
//! Contract of every method of the disk and its files: when it returns `Ok`, what it says is done *and survives power loss*, except for
//! [`JournalFile::write_at`] and stores into a mapping, which survive only once the file has been synced. An error other
//! than "full" leaves the medium in an unknown state; the caller ends the process.

mod file_disk;
mod file_system;
mod layout;
pub mod map;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod real;
mod scratch;

pub use file_disk::{FileDisk, RealDisk};
pub use file_system::{FileHandle, FileSystem, FolderHandle, MappedFile};
pub use layout::{DATA_SEGMENT, HINT_FILE, MANIFEST_FILE};
pub(crate) use layout::{segment_path, shard_file_path};
pub use map::lost_pages;
pub use real::{RealFile, RealFileSystem, copies_on_write};
pub use scratch::Scratch;

use crate::disk::map::Mapping;
use bytes::Bytes;
use kvorum_protocol::ShardId;
use rustix::io::Errno;
use std::sync::Arc;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No space is left, or a quota is reached. Nothing was changed.
    #[error("no space is left ({operation} {path})")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
    },
    /// The process or the system has no file descriptor left, or no room for another mapping. Nothing was changed, and it
    /// may have some again at any time.
    #[error("could not {operation} {path}, nothing was changed: {source}")]
    Exhausted {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused or the medium failed.
    #[error("could not {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process uses the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The folder.
        path: String,
    },
}

impl DiskError {
    /// Sorts a system error.
    pub fn new(operation: &'static str, path: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match source.kind() {
            // A sync that finds no room has lost what it was to write: that is a failure like any other.
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded if operation != "sync" => {
                Self::Full { operation, path: path.into() }
            }
            _ if operation != "sync" && is_exhaustion(operation, &source) => {
                Self::Exhausted { operation, path: path.into(), source }
            }
            _ => Self::Io { operation, path: path.into(), source },
        }
    }

    /// Whether it is only that something is used up for now: space, descriptors, mappings. Nothing was changed then.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Exhausted { .. })
    }

    /// Whether the medium gave an error in place of what was written there.
    pub fn is_unreadable(&self) -> bool {
        let is_medium = |source: &std::io::Error| Errno::from_io_error(source) == Some(Errno::IO);
        matches!(self, Self::Io { operation: "read", source, .. } if is_medium(source))
    }
}

/// Whether the system refused for want of a descriptor, or of room for a mapping.
fn is_exhaustion(operation: &str, source: &std::io::Error) -> bool {
    match Errno::from_io_error(source) {
        Some(Errno::MFILE | Errno::NFILE) => true,
        Some(Errno::NOMEM) => operation == "map",
        _ => false,
    }
}

/// A segment file, mapped.
pub struct OpenedSegment {
    /// Its bytes; the writer has not been taken yet.
    pub mapping: Arc<Mapping>,
    /// The file, for syncing it.
    pub file: Box<dyn SegmentFile>,
}

/// The file behind a mapping.
pub trait SegmentFile: Send + Sync {
    /// Makes every byte stored into the mapping so far survive power loss. Blocks; milliseconds at best.
    ///
    /// # Errors
    /// Never retry: the kernel may have dropped the bytes and marked them clean.
    fn sync(&self) -> Result<(), DiskError>;
}

/// A segment's file, to be read past its mapping and past what the system has cached of it, as far as the system allows.
pub trait ColdFile: Send {
    /// Its size.
    fn bytes(&self) -> u32;
    /// Fills `bytes` from `offset`, inside the file.
    ///
    /// # Errors
    /// If the medium fails.
    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError>;
    /// Drops what is cached of the file, but for what is mapped and in use: what is read next comes from the medium, and
    /// what was read does not push out what others need.
    ///
    /// # Errors
    /// If the system refuses.
    fn forget_cached(&self) -> Result<(), DiskError>;
}

/// One file of the journal's ring.
pub trait JournalFile: Send {
    /// Its size, which does not change.
    fn bytes(&self) -> u32;
    /// From here on [`JournalFile::write_at`] is given places, lengths and memory that are multiples of `alignment`, and
    /// may go past the system's cache.
    fn write_past_cache(&self, alignment: u32) {
        let _ = alignment;
    }
    /// Writes all of `bytes` at `offset`, inside the file. Not durable before [`JournalFile::sync`].
    ///
    /// # Errors
    /// Never retry.
    fn write_at(&self, offset: u32, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes every write so far survive power loss.
    ///
    /// # Errors
    /// Never retry.
    fn sync(&self) -> Result<(), DiskError>;
    /// Fills `bytes` from `offset`, inside the file.
    ///
    /// # Errors
    /// If the medium fails.
    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError>;
}

/// Everything that the log and the journal ask of a file system.
#[expect(clippy::missing_errors_doc, reason = "every method fails in the ways that DiskError lists")]
pub trait Disk: Send + Sync {
    /// The shards that have a directory, in order.
    fn list_shards(&self) -> Result<Vec<ShardId>, DiskError>;
    /// The numbers of a shard's segments, in order; those of data segments have [`DATA_SEGMENT`] set and so come
    /// last. Leftovers of interrupted creations are removed, not listed.
    fn list_segments(&self, shard: ShardId) -> Result<Vec<u32>, DiskError>;
    /// Creates a segment of `bytes` bytes with real blocks: `header`, then zeros. It is there whole or not at all. Fails
    /// if the segment exists.
    fn create_segment(
        &self,
        shard: ShardId,
        number: u32,
        bytes: u32,
        header: &[u8],
    ) -> Result<OpenedSegment, DiskError>;
    /// Opens and maps a segment; `None` if there is none of that number.
    fn open_segment(&self, shard: ShardId, number: u32) -> Result<Option<OpenedSegment>, DiskError>;
    /// Opens a segment's file for checking it; `None` if there is none of that number.
    fn open_cold(&self, shard: ShardId, number: u32) -> Result<Option<Box<dyn ColdFile>>, DiskError>;
    /// Removes a segment's name; mappings of it stay usable.
    fn remove_segment(&self, shard: ShardId, number: u32) -> Result<(), DiskError>;

    /// The content of a small named file of a shard; `None` if there is none.
    fn read_shard_file(&self, shard: ShardId, name: &str) -> Result<Option<Vec<u8>>, DiskError>;
    /// As [`Disk::read_shard_file`], for a file that may be large: it is read where it lies, as far as the system can, and
    /// not into memory that an allocator may keep. What it holds does not change when the file is replaced.
    fn map_shard_file(&self, shard: ShardId, name: &str) -> Result<Option<Bytes>, DiskError> {
        Ok(self.read_shard_file(shard, name)?.map(Bytes::from))
    }
    /// Replaces a named file of a shard as a whole: after a crash it has the old content or the new one, which is given in parts.
    fn write_shard_file(&self, shard: ShardId, name: &str, parts: &[&[u8]]) -> Result<(), DiskError>;
    /// Removes a small named file of a shard, if it is there.
    fn remove_shard_file(&self, shard: ShardId, name: &str) -> Result<(), DiskError>;

    /// The numbers of the journal's files, in order.
    fn list_journal_files(&self) -> Result<Vec<u32>, DiskError>;
    /// Creates a journal file of `bytes` zeros with real blocks. Fails if it exists.
    fn create_journal_file(&self, number: u32, bytes: u32) -> Result<Box<dyn JournalFile>, DiskError>;
    /// Opens a journal file that was listed.
    fn open_journal_file(&self, number: u32) -> Result<Box<dyn JournalFile>, DiskError>;
    /// Removes a journal file.
    fn remove_journal_file(&self, number: u32) -> Result<(), DiskError>;

    /// The content of a small named file; `None` if there is none.
    fn read_metadata(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError>;
    /// Replaces a small named file as a whole: after a crash it has the old content or the new one.
    fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes every later reading see the medium, not what the system has cached of it: what is only in memory is written
    /// out first, then the cache is dropped. After a sync that failed, a cache may hold bytes that the medium lacks and take
    /// them for written; the next sync of the file succeeds and writes nothing. To be called at a node's start, before
    /// anything of it is opened: files that are mapped keep their cache. Costs a sync of every file.
    fn forget_cached(&self) -> Result<(), DiskError>;

    /// How many more bytes this process may store on the file system now. Other users of it change that at any time.
    /// A microsecond on a healthy disk; may hang with a disk that does.
    fn free_bytes(&self) -> Result<u64, DiskError>;
    /// How many bytes the file system holds in all; `u64::MAX` if it has no limit.
    fn total_bytes(&self) -> Result<u64, DiskError>;

    /// A number that this disk has never given before and that no one can guess. Random in production; derived from
    /// the seed in the simulator.
    fn fresh_number(&self) -> u64;
}
