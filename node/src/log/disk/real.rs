//! The file system of the machine.
//!
//! ```text
//! <root>/lock                              held exclusively while the node runs
//! <root>/shards/00012/0000000003.segment
//! <root>/journal/0000000001.journal
//! <root>/<name>.metadata
//! ```
//!
//! Files are made under a name that ends in `.new`, synced, renamed, and their directory is synced: a name without
//! `.new` always stands for a whole file.

use super::{Disk, DiskError, JournalFile, OpenedSegment, SegmentFile};
use crate::log::map::Mapping;
use kvorum_protocol::ShardId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Metadata files are small; a longer one is not ours.
const METADATA_BYTES_MAX: u64 = 1024 * 1024;
const SEGMENT_SUFFIX: &str = ".segment";
const JOURNAL_SUFFIX: &str = ".journal";
const NEW_SUFFIX: &str = ".new";

/// A folder of the machine's file system, locked for this process.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Holds the lock; released by the system when the process ends, however it ends.
    _lock: File,
}

impl RealDisk {
    /// Opens the folder, creating it if need be, and locks it.
    ///
    /// # Errors
    /// `Locked` if another process has it, else what the system says.
    pub fn open(root: impl Into<PathBuf>) -> Result<RealDisk, DiskError> {
        let root = root.into();
        for folder in [root.clone(), root.join("shards"), root.join("journal")] {
            create_folder(&folder)?;
        }
        let path = root.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(RealDisk { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DiskError::Locked { path: root.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(error("lock", &path)(source)),
        }
    }

    fn shard_folder(&self, shard: ShardId) -> PathBuf {
        self.root.join("shards").join(format!("{:05}", shard.0))
    }

    fn segment_path(&self, shard: ShardId, number: u32) -> PathBuf {
        self.shard_folder(shard).join(format!("{number:010}{SEGMENT_SUFFIX}"))
    }

    fn journal_path(&self, number: u32) -> PathBuf {
        self.root.join("journal").join(format!("{number:010}{JOURNAL_SUFFIX}"))
    }

    fn metadata_path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.metadata"))
    }
}

impl Disk for RealDisk {
    fn list_shards(&self) -> Result<Vec<ShardId>, DiskError> {
        let names = names_in(&self.root.join("shards"))?;
        let mut shards: Vec<_> = names.iter().filter_map(|name| name.parse().ok().map(ShardId)).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    fn list_segments(&self, shard: ShardId) -> Result<Vec<u32>, DiskError> {
        let folder = self.shard_folder(shard);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        numbers_in(&folder, SEGMENT_SUFFIX)
    }

    fn create_segment(
        &self,
        shard: ShardId,
        number: u32,
        bytes: u32,
        header: &[u8],
    ) -> Result<OpenedSegment, DiskError> {
        create_folder(&self.shard_folder(shard))?;
        let path = self.segment_path(shard, number);
        let file = create_allocated(&path, bytes, header)?;
        open_mapped(file, bytes, path)
    }

    fn open_segment(&self, shard: ShardId, number: u32) -> Result<Option<OpenedSegment>, DiskError> {
        let path = self.segment_path(shard, number);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error("open", &path)(source)),
        };
        let bytes = file_bytes(&file, &path)?;
        open_mapped(file, bytes, path).map(Some)
    }

    fn remove_segment(&self, shard: ShardId, number: u32) -> Result<(), DiskError> {
        remove(&self.segment_path(shard, number))
    }

    fn list_journal_files(&self) -> Result<Vec<u32>, DiskError> {
        numbers_in(&self.root.join("journal"), JOURNAL_SUFFIX)
    }

    fn create_journal_file(&self, number: u32, bytes: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        let path = self.journal_path(number);
        let file = create_allocated(&path, bytes, &[])?;
        Ok(Box::new(RealFile { file, bytes, path }))
    }

    fn open_journal_file(&self, number: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        let path = self.journal_path(number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(error("open", &path))?;
        let bytes = file_bytes(&file, &path)?;
        Ok(Box::new(RealFile { file, bytes, path }))
    }

    fn remove_journal_file(&self, number: u32) -> Result<(), DiskError> {
        remove(&self.journal_path(number))
    }

    fn read_metadata(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.metadata_path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error("open", &path)(source)),
        };
        let mut bytes = Vec::new();
        file.take(METADATA_BYTES_MAX).read_to_end(&mut bytes).map_err(error("read", &path))?;
        Ok(Some(bytes))
    }

    fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.metadata_path(name);
        write_new(&path, |file| file.write_all_at(bytes, 0)).map(drop)
    }

    fn fresh_number(&self) -> u64 {
        rand::random()
    }
}

struct RealFile {
    file: File,
    bytes: u32,
    path: PathBuf,
}

impl SegmentFile for RealFile {
    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(error("sync", &self.path))
    }
}

impl JournalFile for RealFile {
    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn write_at(&self, offset: u32, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(offset as usize + bytes.len() <= self.bytes as usize, "a journal file never grows");
        self.file.write_all_at(bytes, offset.into()).map_err(error("write", &self.path))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(error("sync", &self.path))
    }

    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(bytes, offset.into()).map_err(error("read", &self.path))
    }
}

fn error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::new(operation, path.display().to_string(), source)
}

fn open_mapped(file: File, bytes: u32, path: PathBuf) -> Result<OpenedSegment, DiskError> {
    let mapping = Mapping::of_file(&file, bytes).map_err(error("map", &path))?;
    Ok(OpenedSegment { mapping: Arc::new(mapping), file: Box::new(RealFile { file, bytes, path }) })
}

fn file_bytes(file: &File, path: &Path) -> Result<u32, DiskError> {
    let bytes = file.metadata().map_err(error("look at", path))?.len();
    u32::try_from(bytes).map_err(|_| error("map", path)(io::Error::other("the file is 4 GiB or larger")))
}

/// A file of `bytes` bytes with real blocks that begins with `header`, durable under its name.
fn create_allocated(path: &Path, bytes: u32, header: &[u8]) -> Result<File, DiskError> {
    if path.exists() {
        return Err(error("create", path)(io::ErrorKind::AlreadyExists.into()));
    }
    write_new(path, |file| {
        allocate(file, bytes)?;
        file.write_all_at(header, 0)
    })
}

/// Writes a file under a temporary name, then gives it its name; both are synced. If anything fails before the rename,
/// the temporary file is removed, so that a full disk is not fuller for having tried.
fn write_new(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> Result<File, DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(NEW_SUFFIX);
    let temporary = PathBuf::from(temporary);
    let made =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&temporary).and_then(|file| {
            fill(&file)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            Ok(file)
        });
    let file = made.map_err(|source| {
        // The first error is the one that matters; listing the folder removes leftovers again.
        let _ = fs::remove_file(&temporary);
        error("create", path)(source)
    })?;
    sync_folder_of(path)?;
    Ok(file)
}

/// Gives a file real blocks, so that a store into its mapping never finds the disk full.
fn allocate(file: &File, bytes: u32) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, bytes.into()) {
        Ok(()) => Ok(()),
        // Some file systems can't allocate ahead; written zeros are the next best.
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, bytes),
        Err(errno) => Err(errno.into()),
    }
}

fn write_zeros(file: &File, bytes: u32) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    let mut offset = 0;
    while offset < bytes {
        let step = (bytes - offset).min(ZEROS.len() as u32);
        file.write_all_at(&ZEROS[..step as usize], offset.into())?;
        offset += step;
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(error("create", path))?;
    sync_folder_of(path)
}

fn remove(path: &Path) -> Result<(), DiskError> {
    fs::remove_file(path).map_err(error("remove", path))?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> Result<(), DiskError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(error("sync the folder of", path))
}

fn names_in(folder: &Path) -> Result<Vec<String>, DiskError> {
    let entries = fs::read_dir(folder).map_err(error("list", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(error("list", folder))?.file_name();
        names.extend(name.to_str().map(str::to_owned));
    }
    Ok(names)
}

/// The numbers of the files with this suffix, in order; what an interrupted creation left is removed.
fn numbers_in(folder: &Path, suffix: &str) -> Result<Vec<u32>, DiskError> {
    let mut numbers = Vec::new();
    for name in names_in(folder)? {
        if name.ends_with(NEW_SUFFIX) {
            let path = folder.join(&name);
            fs::remove_file(&path).map_err(error("remove", &path))?;
        } else if let Some(number) = name.strip_suffix(suffix).and_then(|number| number.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole_durable_and_shared_between_mappings() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let shard = ShardId(12);
        assert!(disk.list_segments(shard).unwrap().is_empty());
        let opened = disk.create_segment(shard, 3, 8192, b"header").unwrap();
        let mut writer = opened.mapping.writer().unwrap();
        assert_eq!(&writer.tail()[..8], b"header\0\0");
        writer.tail()[4000..4003].copy_from_slice(b"abc");
        writer.advance(8192);
        opened.file.sync().unwrap();
        assert!(disk.create_segment(shard, 3, 8192, b"").is_err(), "a segment is never overwritten");

        let again = disk.open_segment(shard, 3).unwrap().unwrap();
        assert_eq!(&again.mapping.writer().unwrap().tail()[4000..4003], b"abc");
        assert!(disk.open_segment(shard, 4).unwrap().is_none());
        assert_eq!((disk.list_segments(shard).unwrap(), disk.list_shards().unwrap()), (vec![3], vec![shard]));
        disk.remove_segment(shard, 3).unwrap();
        assert_eq!(opened.mapping.read(4000, 3), Some(&b"abc"[..]), "a mapping outlives the name");
        assert!(disk.list_segments(shard).unwrap().is_empty());
    }

    #[test]
    fn blocks_are_real() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.create_journal_file(1, 1 << 20).unwrap();
        let metadata = fs::metadata(folder.path().join("journal/0000000001.journal")).unwrap();
        assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn leftovers_of_an_interrupted_creation_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.create_journal_file(1, 4096).unwrap();
        let leftover = folder.path().join("journal/0000000002.journal.new");
        fs::write(&leftover, b"half").unwrap();
        assert_eq!(disk.list_journal_files().unwrap(), [1]);
        assert!(!leftover.exists());
    }

    #[test]
    fn metadata_is_replaced_as_a_whole_and_the_folder_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert_eq!(disk.read_metadata("x").unwrap(), None);
        disk.write_metadata("x", b"longer content").unwrap();
        disk.write_metadata("x", b"short").unwrap();
        assert_eq!(disk.read_metadata("x").unwrap().unwrap(), b"short");
        assert!(matches!(RealDisk::open(folder.path()), Err(DiskError::Locked { .. })));
        drop(disk);
        assert!(RealDisk::open(folder.path()).is_ok());
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        assert!(DiskError::new("create", "x", io::ErrorKind::StorageFull.into()).is_full());
        assert!(!DiskError::new("create", "x", io::ErrorKind::PermissionDenied.into()).is_full());
    }
}
