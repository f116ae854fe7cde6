//! The file system of the machine, as [`FileSystem`] wants it. `<root>/lock` is held exclusively while the node runs.

use super::DiskError;
use super::file_system::{FileHandle, FileSystem, FolderHandle, MappedFile};
use crate::disk::map::Mapping;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of the machine's file system, locked for this process.
#[derive(Debug)]
pub struct RealFileSystem {
    root: PathBuf,
    /// Holds the lock; released by the system when the process ends, however it ends.
    _lock: File,
}

impl RealFileSystem {
    /// Opens the folder, creating it if need be, and locks it. Its own name is durable then.
    ///
    /// # Errors
    /// `Locked` if another process has it, else what the system says.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let root = root.into();
        let error = |operation, path: &Path| {
            let path = path.display().to_string();
            move |source| DiskError::new(operation, path, source)
        };
        fs::create_dir_all(&root).map_err(error("create", &root))?;
        sync_ancestors(&root).map_err(error("sync the folders above", &root))?;
        let path = root.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DiskError::Locked { path: root.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(error("lock", &path)(source)),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        // Joining with an empty path would add a slash.
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

/// The name of the file system below a folder, if it is known to write what is stored into new blocks: blocks that were
/// allocated ahead are no promise there, and a store into a mapping may find the disk full.
///
/// # Errors
/// What the system says.
#[cfg(target_os = "linux")]
pub fn copies_on_write(folder: &Path) -> io::Result<Option<&'static str>> {
    // The first two from linux/magic.h, the others from their projects.
    const KNOWN: [(u64, &str); 4] =
        [(0x9123_683e, "btrfs"), (0xf2f5_2010, "f2fs"), (0x2fc1_2fc1, "zfs"), (0xca45_1a4e, "bcachefs")];
    let found = rustix::fs::statfs(folder)?.f_type as u64 & u64::from(u32::MAX);
    Ok(KNOWN.iter().find(|(magic, _)| *magic == found).map(|(_, name)| *name))
}

/// Elsewhere nobody knows.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn copies_on_write(_folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

impl FileSystem for RealFileSystem {
    type File = RealFile;
    type Folder = RealFolder;

    fn open(&self, path: &str) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).open(self.path(path)).map(RealFile)
    }

    fn create(&self, path: &str) -> io::Result<RealFile> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.path(path)).map(RealFile)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.path(path).try_exists()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.path(path))
    }

    fn open_folder(&self, path: &str) -> io::Result<RealFolder> {
        File::open(self.path(path)).map(RealFolder)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            // A name that is not text is not ours.
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.root)?;
        // What is kept back for the superuser is not ours.
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }

    fn fresh_number(&self) -> u64 {
        rand::random()
    }

    fn display(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

/// An open folder of the machine.
#[derive(Debug)]
pub struct RealFolder(File);

impl FolderHandle for RealFolder {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// A mapped file of the machine. The mapping keeps the file open inside the kernel, and takes no descriptor for it.
#[derive(Debug)]
pub struct RealMapped(Arc<Mapping>);

impl MappedFile for RealMapped {
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// An open file of the machine.
#[derive(Debug)]
pub struct RealFile(File);

impl FileHandle for RealFile {
    type Mapped = RealMapped;

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes.into()) {
            Ok(()) => Ok(()),
            // Some file systems can't allocate ahead; written zeros are the next best.
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&self.0, bytes),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_past_cache(&self, alignment: u32) {
        if let Err(error) = self.set_direct(alignment) {
            tracing::debug!(%error, "writes go through the system's cache");
        }
    }

    fn sync(&self) -> io::Result<()> {
        // Without the times, but with the length and everything else that reading it back takes.
        self.0.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        // Elsewhere the system can't be asked to.
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    fn map(&self, length: u32) -> io::Result<Arc<Mapping>> {
        Mapping::of_file(&self.0, length).map(Arc::new)
    }

    fn into_mapped(self, mapping: &Arc<Mapping>) -> RealMapped {
        RealMapped(Arc::clone(mapping))
    }
}

#[cfg(target_os = "linux")]
impl RealFile {
    /// Sets `O_DIRECT`, if the file system says that it can do with this alignment.
    fn set_direct(&self, alignment: u32) -> io::Result<()> {
        use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, statx};
        let found = statx(&self.0, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
        // Both are 0 where it can't, and left out by a system that does not know the question.
        let known = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let fits = |wanted: u32| wanted > 0 && alignment.is_multiple_of(wanted);
        if known && fits(found.stx_dio_mem_align) && fits(found.stx_dio_offset_align) {
            fcntl_setfl(&self.0, fcntl_getfl(&self.0)? | OFlags::DIRECT)?;
        }
        Ok(())
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

/// Makes the names of a folder and of those above it durable, up to the file system's own root: whoever made them, in
/// this process or one before, need not have done it.
fn sync_ancestors(folder: &Path) -> io::Result<()> {
    let folder = folder.canonicalize()?;
    let device = folder.metadata()?.dev();
    for ancestor in folder.ancestors().skip(1) {
        match File::open(ancestor) {
            Ok(opened) if opened.metadata()?.dev() == device => opened.sync_all()?,
            Ok(_) => break,
            // What this user made, it may read: this one was there before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, RealDisk};
    use kvorum_protocol::ShardId;

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
    fn a_file_system_is_named_if_it_copies_on_write() {
        let folder = tempfile::tempdir().unwrap();
        let found = copies_on_write(folder.path()).unwrap();
        assert!(found.is_none_or(|name| ["btrfs", "f2fs", "zfs", "bcachefs"].contains(&name)));
        assert_eq!(copies_on_write(Path::new("/proc")).unwrap(), None);
        assert!(copies_on_write(&folder.path().join("gone")).is_err());
    }

    #[test]
    fn what_is_used_up_is_told_from_what_is_broken() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(DiskError::new("open", "x", error(errno)).is_full());
            assert!(!DiskError::new("sync", "x", error(errno)).is_full(), "a sync never asks for one");
        }
        assert!(DiskError::new("map", "x", error(Errno::NOMEM)).is_full());
        assert!(!DiskError::new("create", "x", error(Errno::NOMEM)).is_full());
        assert!(DiskError::new("read", "x", error(Errno::IO)).is_unreadable());
        assert!(!DiskError::new("write", "x", error(Errno::IO)).is_unreadable());
    }

    #[test]
    fn a_mapped_segment_takes_no_descriptor_and_can_be_synced() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let opened = disk.create_segment(ShardId(1), 1, 4096, b"header").unwrap();
        let path = folder.path().join("shards/00001/0000000001.segment");
        let is_open = || {
            let links =
                fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
            links.into_iter().any(|target| target == path)
        };
        if cfg!(target_os = "linux") {
            assert!(!is_open());
        }
        let mut writer = opened.mapping.writer().unwrap();
        writer.tail()[100..103].copy_from_slice(b"abc");
        opened.file.sync().unwrap();
        assert_eq!(&fs::read(&path).unwrap()[100..103], b"abc");
        fs::remove_file(&path).unwrap();
        opened.file.sync().unwrap();
    }

    #[test]
    fn blocks_are_real() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.create_journal_file(1, 1 << 20).unwrap();
        let metadata = fs::metadata(folder.path().join("journal/0000000001.journal")).unwrap();
        assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn forgetting_the_cache_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.forget_cached().unwrap();
        disk.create_segment(ShardId(1), 1, 4096, b"header").unwrap();
        let journal = disk.create_journal_file(1, 4096).unwrap();
        journal.write_at(1000, b"unsynced").unwrap();
        disk.write_metadata("x", b"content").unwrap();
        disk.forget_cached().unwrap();
        let mut bytes = [0; 8];
        journal.read_at(1000, &mut bytes).unwrap();
        assert_eq!((&bytes, disk.read_metadata("x").unwrap().unwrap()), (b"unsynced", b"content".to_vec()));
        let segment = disk.open_segment(ShardId(1), 1).unwrap().unwrap();
        assert_eq!(segment.mapping.writer().unwrap().tail()[..6], *b"header");
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
    fn the_file_system_says_how_much_room_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let (free, total) = (disk.free_bytes().unwrap(), disk.total_bytes().unwrap());
        assert!(0 < free && free <= total, "{free} of {total}");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        assert!(DiskError::new("create", "x", io::ErrorKind::StorageFull.into()).is_full());
        assert!(!DiskError::new("create", "x", io::ErrorKind::PermissionDenied.into()).is_full());
    }
}
