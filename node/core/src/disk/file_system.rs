//! What an operating system's file system offers to [`super::FileDisk`], and no more. Whatever it takes to survive a
//! crash (write aside, sync, rename, sync the folder) is above this seam, so that the simulator's file system, which
//! lies as real ones do, puts it to the test.

use crate::disk::map::Mapping;
use std::io;
use std::sync::Arc;

/// A file system, seen from the data folder.
///
/// Paths are relative to the data folder, with `/` between names and none in front; the data folder itself is the empty
/// path. Names of files and folders that come, go or change survive power loss only once their folder has been synced;
/// until then each may survive or not.
#[expect(clippy::missing_errors_doc, reason = "every method fails as the system says")]
pub trait FileSystem: Send + Sync + 'static {
    /// An open file.
    type File: FileHandle;
    /// An open folder.
    type Folder: FolderHandle;

    /// Opens a file for reading and writing. `NotFound` if there is none.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Makes an empty file, or empties the one that is there, and opens it.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Whether there is a file or folder of that name.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Gives a file another name in the same folder, at once; a file that had that name loses it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file's name. Open handles and mappings of it stay usable.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder in one that exists. `AlreadyExists` if it is there.
    fn create_folder(&self, path: &str) -> io::Result<()>;
    /// Opens a folder, so that what changes in it can be synced without asking the system for anything more.
    fn open_folder(&self, path: &str) -> io::Result<Self::Folder>;
    /// The names in a folder, in any order. `NotFound` if there is no such folder.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// How many more bytes this process may store on it now. Changes whenever anyone stores or removes something.
    fn free_bytes(&self) -> io::Result<u64>;
    /// How many bytes it holds in all, free ones included; `u64::MAX` if it has no limit.
    fn total_bytes(&self) -> io::Result<u64>;

    /// A number that was never given before and that no one can guess.
    fn fresh_number(&self) -> u64;
    /// A path as messages show it.
    fn display(&self, path: &str) -> String;
}

/// An open folder of a [`FileSystem`].
#[expect(clippy::missing_errors_doc, reason = "every method fails as the system says")]
pub trait FolderHandle {
    /// Makes the names in the folder, and which files they stand for, survive power loss. Blocks.
    fn sync(&self) -> io::Result<()>;
}

/// What is kept of a file that stays mapped: enough to sync it.
#[expect(clippy::missing_errors_doc, reason = "every method fails as the system says")]
pub trait MappedFile: Send + Sync + 'static {
    /// As [`FileHandle::sync`].
    fn sync(&self) -> io::Result<()>;
}

/// An open file of a [`FileSystem`].
#[expect(clippy::missing_errors_doc, reason = "every method fails as the system says")]
pub trait FileHandle: Send + Sync + 'static {
    /// What is kept of it while it is mapped.
    type Mapped: MappedFile;

    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Makes it `bytes` long, with real blocks, so that a store into its mapping never finds the disk full. New bytes are
    /// zero. `StorageFull` if there is no room.
    fn allocate(&self, bytes: u32) -> io::Result<()>;
    /// Fills `bytes` from `offset`. `UnexpectedEof` past the file's end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; the file grows if need be. Survives power loss only once synced.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// From here on what is written goes past the system's cache, if the system can do that with writes whose place, length
    /// and memory are multiples of `alignment`: all of this handle are from here on. An optimisation. Bytes that were
    /// written are durable no sooner for it.
    fn write_past_cache(&self, alignment: u32) {
        let _ = alignment;
    }
    /// Makes the file's length, everything written to it and everything stored into its mappings survive power loss.
    /// Blocks. After an error nothing is known about what was written since the last sync, and a second one that succeeds
    /// says nothing about it either.
    fn sync(&self) -> io::Result<()>;
    /// Drops what is cached of the file, as far as it is written out and not mapped, so that it is read from the medium
    /// next.
    fn forget_cached(&self) -> io::Result<()>;
    /// Maps its first `length` bytes, shared. `UnexpectedEof` if the file is shorter.
    fn map(&self, length: u32) -> io::Result<Arc<Mapping>>;
    /// Gives the open file up for what can sync it through `mapping`, which is one of this file as a whole.
    fn into_mapped(self, mapping: &Arc<Mapping>) -> Self::Mapped;
}
