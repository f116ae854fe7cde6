//! The [`Disk`] over a file system: which files there are, and the order of operations that makes each change durable.
//!
//! Where each file lies is [`super::layout`]'s. Files are made under a name that ends in `.new`, synced, renamed, and their folder is synced: a name without `.new`
//! always stands for a whole file.

use super::file_system::{FileHandle, FileSystem, FolderHandle, MappedFile};
use super::layout::{
    DATA_SEGMENT, DATA_SUFFIX, HINT_FILE, JOURNAL_FOLDER, JOURNAL_SUFFIX, MANIFEST_FILE, METADATA_SUFFIX, NEW_SUFFIX,
    ROOT_FOLDER, SEGMENT_SUFFIX, SHARDS_FOLDER, folder_of, journal_path, metadata_path, segment_path, shard_file_path,
    shard_folder,
};
use super::real::RealFileSystem;
use super::{ColdFile, Disk, DiskError, JournalFile, OpenedSegment, SegmentFile};
use crate::disk::map::Mapping;
use bytes::Bytes;
use kvorum_protocol::ShardId;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Metadata files are small; a longer one is not ours.
const METADATA_BYTES_MAX: u64 = 1024 * 1024;
/// So are a shard's files besides its segments, but for the index.
const SHARD_FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// The data folder of a file system. One value per folder at a time.
#[derive(Debug)]
pub struct FileDisk<F> {
    system: F,
}

/// A folder of the machine's file system, locked for this process.
pub type RealDisk = FileDisk<RealFileSystem>;

impl RealDisk {
    /// Opens the folder, creating it if need be, and locks it.
    ///
    /// # Errors
    /// `Locked` if another process has it, else what the system says.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, DiskError> {
        Self::over(RealFileSystem::open(root)?)
    }
}

impl<F: FileSystem> FileDisk<F> {
    /// Opens the data folder of a file system. Every name that is found there is durable afterwards: a process that died
    /// between a rename and the sync of the folder leaves a file that is there until the power fails, and what is
    /// promised on it must not vanish with it.
    ///
    /// # Errors
    /// What the system says.
    pub fn over(system: F) -> Result<Self, DiskError> {
        let disk = Self { system };
        for folder in [SHARDS_FOLDER, JOURNAL_FOLDER] {
            disk.create_folder(folder)?;
        }
        for folder in [ROOT_FOLDER, SHARDS_FOLDER, JOURNAL_FOLDER] {
            disk.open_folder(folder)?.sync()?;
        }
        for shard in disk.list_shards()? {
            disk.open_folder(&shard_folder(shard))?.sync()?;
        }
        Ok(disk)
    }

    fn error(&self, operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::new(operation, self.system.display(path), source)
    }

    /// Opens a file; `None` if there is none.
    fn open_file(&self, path: &str) -> Result<Option<OpenFile<F::File>>, DiskError> {
        let handle = match self.system.open(path) {
            Ok(handle) => handle,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.error("open", path)(source)),
        };
        let bytes = handle.length().map_err(self.error("look at", path))?;
        let too_large = |_| self.error("open", path)(io::Error::other("the file is 4 GiB or larger"));
        let bytes = u32::try_from(bytes).map_err(too_large)?;
        Ok(Some(OpenFile { handle, bytes, path: self.system.display(path) }))
    }

    /// Maps a file and closes it.
    fn open_mapped(&self, file: OpenFile<F::File>) -> Result<OpenedSegment, DiskError> {
        let mapping = file.handle.map(file.bytes).map_err(file.error("map"))?;
        let OpenFile { handle, path, .. } = file;
        let file = Box::new(MappedSegment { file: handle.into_mapped(&mapping), path });
        Ok(OpenedSegment { mapping, file })
    }

    /// A file of `bytes` bytes with real blocks that begins with `header`, durable under its name.
    fn create_allocated(&self, path: &str, bytes: u32, header: &[u8]) -> Result<OpenFile<F::File>, DiskError> {
        if self.system.exists(path).map_err(self.error("look at", path))? {
            return Err(self.error("create", path)(io::ErrorKind::AlreadyExists.into()));
        }
        let handle = self.write_new(path, |handle| {
            handle.allocate(bytes)?;
            handle.write_at(0, header)
        })?;
        Ok(OpenFile { handle, bytes, path: self.system.display(path) })
    }

    /// Makes a file whole and durable, or leaves what was there. If that fails, nothing stays behind under the temporary
    /// name, so that a full disk is not fuller for having tried.
    fn write_new(&self, path: &str, fill: impl FnOnce(&F::File) -> io::Result<()>) -> Result<F::File, DiskError> {
        let temporary = format!("{path}{NEW_SUFFIX}");
        // First of all: from the rename on, only a sync may fail.
        let folder = self.open_folder(folder_of(path))?;
        let made = self.system.create(&temporary).and_then(|handle| {
            fill(&handle)?;
            handle.sync()?;
            self.system.rename(&temporary, path)?;
            Ok(handle)
        });
        let handle = made.map_err(|source| {
            // The first error is the one that matters; listing the folder removes leftovers again.
            let _ = self.system.remove(&temporary);
            self.error("create", path)(source)
        })?;
        folder.sync()?;
        Ok(handle)
    }

    fn create_folder(&self, path: &str) -> Result<(), DiskError> {
        let above = self.open_folder(folder_of(path))?;
        match self.system.create_folder(path) {
            Ok(()) => above.sync(),
            // It is durable: made by this process, or found when the disk was opened.
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(self.error("create", path)(source)),
        }
    }

    /// The first `most` bytes of a file; `None` if there is none.
    fn read_whole(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = vec![0; u64::from(file.bytes).min(most) as usize];
        file.handle.read_at(0, &mut bytes).map_err(file.error("read"))?;
        Ok(Some(bytes))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let folder = self.open_folder(folder_of(path))?;
        self.system.remove(path).map_err(self.error("remove", path))?;
        folder.sync()
    }

    /// Opens a folder: the first step of every change to one.
    fn open_folder(&self, path: &str) -> Result<OpenFolder<F::Folder>, DiskError> {
        let handle = self.system.open_folder(path).map_err(self.error("open", path))?;
        Ok(OpenFolder { handle, path: self.system.display(path) })
    }

    /// Writes a file out, then drops what is cached of it.
    fn forget_file(&self, path: &str) -> Result<(), DiskError> {
        let Some(file) = self.open_file(path)? else { return Ok(()) };
        file.handle.sync().map_err(file.error("sync"))?;
        file.handle.forget_cached().map_err(file.error("drop the cache of"))
    }

    /// The numbers of the files with this suffix, in order; what an interrupted creation left is removed. None if there
    /// is no such folder.
    fn numbers_in(&self, folder: &str, suffix: &str) -> Result<Vec<u32>, DiskError> {
        let names = match self.system.list(folder) {
            Ok(names) => names,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.error("list", folder)(source)),
        };
        let mut numbers = Vec::new();
        for name in names {
            if name.ends_with(NEW_SUFFIX) {
                let path = format!("{folder}/{name}");
                // Not synced: should it come back, it is removed again.
                self.system.remove(&path).map_err(self.error("remove", &path))?;
            } else if let Some(number) = name.strip_suffix(suffix).and_then(|number| number.parse().ok()) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl<F: FileSystem> Disk for FileDisk<F> {
    fn list_shards(&self) -> Result<Vec<ShardId>, DiskError> {
        let names = self.system.list(SHARDS_FOLDER).map_err(self.error("list", SHARDS_FOLDER))?;
        let mut shards: Vec<_> = names.iter().filter_map(|name| name.parse().ok().map(ShardId)).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    fn list_segments(&self, shard: ShardId) -> Result<Vec<u32>, DiskError> {
        let folder = shard_folder(shard);
        let mut numbers = self.numbers_in(&folder, SEGMENT_SUFFIX)?;
        numbers.extend(self.numbers_in(&folder, DATA_SUFFIX)?.into_iter().map(|number| number | DATA_SEGMENT));
        Ok(numbers)
    }

    fn create_segment(
        &self,
        shard: ShardId,
        number: u32,
        bytes: u32,
        header: &[u8],
    ) -> Result<OpenedSegment, DiskError> {
        self.create_folder(&shard_folder(shard))?;
        let path = segment_path(shard, number);
        self.open_mapped(self.create_allocated(&path, bytes, header)?).or_else(|error| {
            if error.is_full() {
                // What can't be mapped now is made again later.
                self.remove(&path)?;
            }
            Err(error)
        })
    }

    fn open_segment(&self, shard: ShardId, number: u32) -> Result<Option<OpenedSegment>, DiskError> {
        let file = self.open_file(&segment_path(shard, number))?;
        file.map(|file| self.open_mapped(file)).transpose()
    }

    fn open_cold(&self, shard: ShardId, number: u32) -> Result<Option<Box<dyn ColdFile>>, DiskError> {
        let file = self.open_file(&segment_path(shard, number))?;
        Ok(file.map(|file| Box::new(file) as _))
    }

    fn remove_segment(&self, shard: ShardId, number: u32) -> Result<(), DiskError> {
        self.remove(&segment_path(shard, number))
    }

    fn read_shard_file(&self, shard: ShardId, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        self.read_whole(&shard_file_path(shard, name), SHARD_FILE_BYTES_MAX)
    }

    fn map_shard_file(&self, shard: ShardId, name: &str) -> Result<Option<Bytes>, DiskError> {
        let Some(file) = self.open_file(&shard_file_path(shard, name))? else { return Ok(None) };
        if file.bytes == 0 {
            return Ok(Some(Bytes::new()));
        }
        let mapping = file.handle.map(file.bytes).map_err(file.error("map"))?;
        Ok(Some(Bytes::from_owner(Mapped::whole(mapping))))
    }

    fn write_shard_file(&self, shard: ShardId, name: &str, parts: &[&[u8]]) -> Result<(), DiskError> {
        self.create_folder(&shard_folder(shard))?;
        let write = |handle: &F::File| {
            let mut offset = 0;
            parts.iter().try_for_each(|part| {
                handle.write_at(offset, part)?;
                offset += part.len() as u64;
                Ok(())
            })
        };
        self.write_new(&shard_file_path(shard, name), write).map(drop)
    }

    fn remove_shard_file(&self, shard: ShardId, name: &str) -> Result<(), DiskError> {
        let path = shard_file_path(shard, name);
        match self.system.exists(&path).map_err(self.error("look at", &path))? {
            true => self.remove(&path),
            false => Ok(()),
        }
    }

    fn list_journal_files(&self) -> Result<Vec<u32>, DiskError> {
        self.numbers_in(JOURNAL_FOLDER, JOURNAL_SUFFIX)
    }

    fn create_journal_file(&self, number: u32, bytes: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        Ok(Box::new(self.create_allocated(&journal_path(number), bytes, &[])?))
    }

    fn open_journal_file(&self, number: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        let path = journal_path(number);
        let missing = || self.error("open", &path)(io::ErrorKind::NotFound.into());
        Ok(Box::new(self.open_file(&path)?.ok_or_else(missing)?))
    }

    fn remove_journal_file(&self, number: u32) -> Result<(), DiskError> {
        self.remove(&journal_path(number))
    }

    fn read_metadata(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        self.read_whole(&metadata_path(name), METADATA_BYTES_MAX)
    }

    fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_new(&metadata_path(name), |handle| handle.write_at(0, bytes)).map(drop)
    }

    fn forget_cached(&self) -> Result<(), DiskError> {
        for shard in self.list_shards()? {
            for number in self.list_segments(shard)? {
                self.forget_file(&segment_path(shard, number))?;
            }
            for name in [MANIFEST_FILE, HINT_FILE] {
                self.forget_file(&shard_file_path(shard, name))?;
            }
        }
        for number in self.list_journal_files()? {
            self.forget_file(&journal_path(number))?;
        }
        for name in self.system.list(ROOT_FOLDER).map_err(self.error("list", ROOT_FOLDER))? {
            if name.ends_with(METADATA_SUFFIX) {
                self.forget_file(&name)?;
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.system.free_bytes().map_err(self.error("look at", ROOT_FOLDER))
    }

    fn total_bytes(&self) -> Result<u64, DiskError> {
        self.system.total_bytes().map_err(self.error("look at", ROOT_FOLDER))
    }

    fn fresh_number(&self) -> u64 {
        self.system.fresh_number()
    }
}

/// A file that is whole and does not change, mapped.
struct Mapped(Arc<Mapping>);

impl Mapped {
    fn whole(mapping: Arc<Mapping>) -> Self {
        mapping.writer().expect("a mapping just made has its writer").advance(mapping.length());
        Self(mapping)
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.read(0, self.0.length()).expect("all of it is below the watermark")
    }
}

/// A folder that is about to change, and its name for messages.
struct OpenFolder<H> {
    handle: H,
    path: String,
}

impl<H: FolderHandle> OpenFolder<H> {
    /// Makes the names in it durable: the last step of every change to it.
    fn sync(&self) -> Result<(), DiskError> {
        self.handle.sync().map_err(|source| DiskError::new("sync", self.path.clone(), source))
    }
}

/// A segment's file once it is mapped, and its name for messages.
struct MappedSegment<M> {
    file: M,
    path: String,
}

impl<M: MappedFile> SegmentFile for MappedSegment<M> {
    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync().map_err(|source| DiskError::new("sync", self.path.clone(), source))
    }
}

/// A file with its size, which does not change, and its name for messages.
struct OpenFile<H> {
    handle: H,
    bytes: u32,
    path: String,
}

impl<H> OpenFile<H> {
    fn error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::new(operation, self.path.clone(), source)
    }
}

impl<H: FileHandle> ColdFile for OpenFile<H> {
    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.handle.read_at(offset.into(), bytes).map_err(self.error("read"))
    }

    fn forget_cached(&self) -> Result<(), DiskError> {
        self.handle.forget_cached().map_err(self.error("drop the cache of"))
    }
}

impl<H: FileHandle> JournalFile for OpenFile<H> {
    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn write_past_cache(&self, alignment: u32) {
        self.handle.write_past_cache(alignment);
    }

    fn write_at(&self, offset: u32, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(offset as usize + bytes.len() <= self.bytes as usize, "a journal file never grows");
        self.handle.write_at(offset.into(), bytes).map_err(self.error("write"))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.handle.sync().map_err(self.error("sync"))
    }

    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.handle.read_at(offset.into(), bytes).map_err(self.error("read"))
    }
}
