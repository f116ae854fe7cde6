//! A file system that looks like a data folder and keeps every change to itself.
//!
//! Whoever judges a folder runs the code of a start over it: replay, recovery. That code writes. Here what it writes stays
//! in memory: the folder is opened for reading only, nothing is synced, nothing is removed, no cache is dropped. What would
//! have been removed can be asked for.

use kvorum_core::disk::map::Mapping;
use kvorum_core::disk::{FileHandle, FileSystem, FolderHandle, MappedFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file system. Cheap to clone; clones share what was changed.
#[derive(Clone)]
pub(in crate::cli) struct ScratchFileSystem {
    root: PathBuf,
    changed: Arc<Mutex<Changed>>,
}

#[derive(Default)]
struct Changed {
    /// Files that are other than in the folder.
    files: BTreeMap<String, Content>,
    /// Files of the folder that were removed.
    removed: BTreeSet<String>,
}

#[derive(Clone)]
enum Content {
    Bytes(Arc<Vec<u8>>),
    /// A private mapping of the folder's file, stored into up to its watermark.
    Stored(Arc<Mapping>),
}

impl ScratchFileSystem {
    pub(in crate::cli) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), changed: Arc::default() }
    }

    /// The files of the folder that have been removed, in order.
    pub(in crate::cli) fn removed(&self) -> Vec<String> {
        self.changed.lock().removed.iter().cloned().collect()
    }

    fn real(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn is_there(&self, path: &str) -> bool {
        let changed = self.changed.lock();
        changed.files.contains_key(path) || (!changed.removed.contains(path) && self.real(path).exists())
    }
}

impl FileSystem for ScratchFileSystem {
    type File = ScratchFile;
    type Folder = ScratchFolder;

    fn open(&self, path: &str) -> io::Result<ScratchFile> {
        if !self.is_there(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changed = self.changed.lock().files.contains_key(path);
        let real = if changed { None } else { Some(File::open(self.real(path))?) };
        Ok(ScratchFile { system: self.clone(), path: path.to_owned(), real, mapped: Mutex::default() })
    }

    fn create(&self, path: &str) -> io::Result<ScratchFile> {
        self.changed.lock().files.insert(path.to_owned(), Content::Bytes(Arc::default()));
        self.open(path)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(self.is_there(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut changed = self.changed.lock();
        // Only what was just made is ever renamed.
        let content = changed.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        changed.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if !self.is_there(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut changed = self.changed.lock();
        changed.files.remove(path);
        if self.real(path).exists() {
            changed.removed.insert(path.to_owned());
        }
        Ok(())
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        if self.real(path).is_dir() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn open_folder(&self, _path: &str) -> io::Result<ScratchFolder> {
        Ok(ScratchFolder)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        match fs::read_dir(self.real(path)) {
            Ok(entries) => {
                for entry in entries {
                    names.extend(entry?.file_name().to_str().map(str::to_owned));
                }
            }
            // A folder that a start would have made.
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let within = if path.is_empty() { String::new() } else { format!("{path}/") };
        let changed = self.changed.lock();
        names.retain(|name| !changed.removed.contains(&format!("{within}{name}")));
        let made =
            changed.files.keys().filter_map(|file| file.strip_prefix(&within)).filter(|name| !name.contains('/'));
        names.extend(made.map(str::to_owned));
        Ok(names.into_iter().collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn fresh_number(&self) -> u64 {
        rand::random()
    }

    fn display(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// A folder of it, of which nothing needs to last.
pub(in crate::cli) struct ScratchFolder;

impl FolderHandle for ScratchFolder {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An open file of it.
pub(in crate::cli) struct ScratchFile {
    system: ScratchFileSystem,
    path: String,
    /// The folder's file; `None` for one that was changed.
    real: Option<File>,
    mapped: Mutex<Option<Arc<Mapping>>>,
}

impl ScratchFile {
    fn changed(&self) -> Option<Content> {
        self.system.changed.lock().files.get(&self.path).cloned()
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()? as usize];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn edit(&self, edit: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = self.content()?;
        edit(&mut bytes);
        self.system.changed.lock().files.insert(self.path.clone(), Content::Bytes(Arc::new(bytes)));
        Ok(())
    }
}

fn copy_from(content: &[u8], offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    let range = offset as usize..offset as usize + bytes.len();
    bytes.copy_from_slice(content.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

impl MappedFile for ScratchFile {
    fn sync(&self) -> io::Result<()> {
        FileHandle::sync(self)
    }
}

impl FileHandle for ScratchFile {
    type Mapped = Self;

    fn into_mapped(self, _mapping: &Arc<Mapping>) -> Self {
        self
    }

    fn length(&self) -> io::Result<u64> {
        match (self.changed(), &self.real) {
            (Some(Content::Bytes(bytes)), _) => Ok(bytes.len() as u64),
            (Some(Content::Stored(mapping)), _) => Ok(mapping.length().into()),
            (None, Some(real)) => Ok(real.metadata()?.len()),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        self.edit(|content| content.resize(bytes as usize, 0))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match (self.changed(), &self.real) {
            (Some(Content::Bytes(content)), _) => copy_from(&content, offset, bytes),
            (Some(Content::Stored(mapping)), _) => {
                let written = mapping.read(0, mapping.written()).expect("all of it is below the watermark");
                copy_from(written, offset, bytes)
            }
            (None, Some(real)) => real.read_exact_at(bytes, offset),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.edit(|content| {
            let end = offset as usize + bytes.len();
            content.resize(content.len().max(end), 0);
            content[offset as usize..end].copy_from_slice(bytes);
        })
    }

    /// Takes over what was stored into its mapping, if all of that is complete: so does replay leave it.
    fn sync(&self) -> io::Result<()> {
        if let Some(mapping) = self.mapped.lock().clone()
            && mapping.written() == mapping.length()
        {
            self.system.changed.lock().files.insert(self.path.clone(), Content::Stored(mapping));
        }
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, length: u32) -> io::Result<Arc<Mapping>> {
        let mapping = match (self.changed(), &self.real) {
            (None, Some(real)) => Mapping::private_copy(real, length)?,
            _ => Mapping::in_memory(self.content()?.get(..length as usize).ok_or(io::ErrorKind::UnexpectedEof)?)?,
        };
        let mapping = Arc::new(mapping);
        *self.mapped.lock() = Some(Arc::clone(&mapping));
        Ok(mapping)
    }
}
