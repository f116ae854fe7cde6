//! The file system as one process sees it.

use super::faults::FileKind;
use super::state::DiskState;
use kvorum_core::disk::map::Mapping;
use kvorum_core::disk::{FileHandle, FileSystem, FolderHandle, MappedFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// A process's view of the file system. Fails once the process is gone.
#[derive(Clone)]
pub struct MountedFileSystem {
    state: Arc<Mutex<DiskState>>,
    process: u64,
}

impl MountedFileSystem {
    pub(super) fn new(state: Arc<Mutex<DiskState>>) -> Self {
        let process = state.lock().process();
        Self { state, process }
    }

    fn file(&self, path: &str, id: u64) -> MountedFile {
        MountedFile { state: Arc::clone(&self.state), process: self.process, file: (id, FileKind::of(path)) }
    }
}

impl FileSystem for MountedFileSystem {
    type File = MountedFile;
    type Folder = MountedFolder;

    fn open(&self, path: &str) -> io::Result<MountedFile> {
        let id = self.state.lock().open(self.process, path)?;
        Ok(self.file(path, id))
    }

    fn create(&self, path: &str) -> io::Result<MountedFile> {
        let id = self.state.lock().create(self.process, path)?;
        Ok(self.file(path, id))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.state.lock().exists(self.process, path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().rename(self.process, from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.state.lock().remove(self.process, path)
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.state.lock().create_folder(self.process, path)
    }

    fn open_folder(&self, path: &str) -> io::Result<MountedFolder> {
        Ok(MountedFolder { system: self.clone(), path: path.to_owned() })
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.state.lock().list(self.process, path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.state.lock().free_bytes(self.process)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        self.state.lock().total_bytes(self.process)
    }

    fn fresh_number(&self) -> u64 {
        self.state.lock().fresh_number()
    }

    fn display(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// An open folder of a [`MountedFileSystem`].
pub struct MountedFolder {
    system: MountedFileSystem,
    path: String,
}

impl FolderHandle for MountedFolder {
    fn sync(&self) -> io::Result<()> {
        self.system.state.lock().sync_folder(self.system.process, &self.path)
    }
}

/// An open file of a [`MountedFileSystem`].
pub struct MountedFile {
    state: Arc<Mutex<DiskState>>,
    process: u64,
    file: (u64, FileKind),
}

impl MappedFile for MountedFile {
    fn sync(&self) -> io::Result<()> {
        FileHandle::sync(self)
    }
}

impl FileHandle for MountedFile {
    type Mapped = Self;

    fn into_mapped(self, _mapping: &Arc<Mapping>) -> Self {
        self
    }

    fn length(&self) -> io::Result<u64> {
        self.state.lock().length(self.process, self.file.0)
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        self.state.lock().allocate(self.process, self.file.0, bytes as usize)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.state.lock().read_at(self.process, self.file.0, offset as usize, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().write_at(self.process, self.file, offset as usize, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().sync(self.process, self.file)
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.state.lock().forget_cached(self.process, self.file.0)
    }

    fn map(&self, length: u32) -> io::Result<Arc<Mapping>> {
        self.state.lock().map(self.process, self.file.0, length)
    }
}
