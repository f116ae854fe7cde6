//! The data folder: whose it is, that one process uses it, and how its last process ended.
//!
//! | file | holds |
//! |---|---|
//! | `LOCK` | nothing but the process id of who holds the lock on it, for messages |
//! | `identity`, `identity.copy` | cluster, node, disk, and what is fixed for the cluster's life; written once, and again with a new disk after amnesia |
//! | `starts`, `starts.copy` | how often a process was started with the folder, this one included |
//! | `run-state` | whether a process runs, since which boot, and whether amnesia is left |
//!
//! A folder is never guessed to be right: without its identity, or with another one, the node does not start. A wiped
//! disk therefore comes back with a new disk id, and can't vote under its old name. A folder with amnesia draws a new disk
//! id too: it is as good as wiped. A folder that was copied, or put back from a copy, keeps its disk id and has counted fewer starts
//! than its peers have seen: they notice ([`kvorum_core::folder::known_folders`]).

mod record;
mod start_kind;

pub use start_kind::{RunState, StartKind};

use crate::cli::exit::Exit;
use kvorum_core::formats::{self, FormatError, UnsupportedVersion};
use kvorum_protocol::{ClusterId, Durability, FolderId, NodeId};
use record::Record;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const LOCK: &str = "LOCK";
const IDENTITY: &str = "identity";
/// Written before `identity` itself, so it is never the older one. If one of the two is damaged, the other one mends it.
const IDENTITY_COPY: &str = "identity.copy";
const RUN_STATE: &str = "run-state";
const STARTS: &str = "starts";
/// Written before `starts` itself, so it is never the older one.
const STARTS_COPY: &str = "starts.copy";
const STARTS_TITLE: &str = "kvorum starts";
/// The lines of the identity. Every version has the title, this first line behind it, and the checksum in the end.
const IDENTITY_NAMES: [&str; 6] = ["format", "cluster", "node", "shards", "durability", "disk"];
const TITLE: &str = "kvorum data folder";

/// Whose a data folder is, and what can't change as long as it exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Shards of the ring.
    pub shards: u16,
    /// What "committed" means.
    pub durability: Durability,
}

/// A data folder, opened and locked. Dropping it frees the lock and leaves the folder as after a crash.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    owner: Owner,
    disk: FolderId,
    start: StartKind,
    starts: u64,
    run_state: RunState,
    _lock: File,
}

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It can't be created or opened.
    #[error("data folder {path} cannot be created or opened: {error}")]
    CannotCreate {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("data folder {path} is in use by {}", holder(process))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that uses it, if it could be read.
        process: Option<u32>,
    },
    /// It belongs to another node or cluster, or a setting that is fixed differs.
    #[error("data folder {path} has {field} {found}, the configuration says {expected}")]
    Mismatch {
        /// The folder.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// What the folder says.
        found: String,
        /// What the configuration says.
        expected: String,
    },
    /// Another program has made it, or has gone on with it. Nothing in it was changed, but for the second copy of `identity` if that
    /// was missing or damaged.
    #[error("{path}: {version}")]
    Unsupported {
        /// The folder.
        path: PathBuf,
        /// Its version.
        version: UnsupportedVersion,
    },
    /// It holds files and no identity: it is somebody else's folder, or has lost its identity.
    #[error(
        "data folder {path} holds files ({example}) but no identity: it is not a data folder, or a damaged one; \
         name an empty folder, and the node will rejoin with a new disk"
    )]
    NoIdentity {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        example: String,
    },
    /// Its identity is damaged.
    #[error(
        "data folder {path}: the file {file} is damaged, and so is its copy; name an empty folder, and the node will \
         rejoin with a new disk"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The damaged file.
        file: &'static str,
    },
    /// Reading, writing or syncing one of its files failed.
    #[error("data folder {path}: {file}: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The file.
        file: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl FolderError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::CannotCreate { .. } => Exit::CannotCreate,
            Self::InUse { .. } => Exit::InUse,
            Self::Mismatch { .. } | Self::Unsupported { .. } | Self::NoIdentity { .. } => Exit::Config,
            Self::Damaged { .. } | Self::Io { .. } => Exit::Disk,
        }
    }
}

fn holder(process: &Option<u32>) -> String {
    process.map_or("another process".to_owned(), |process| format!("process {process}"))
}

/// The process that uses a data folder, if one does, has said so, and can be seen to have the lock's file open. A number that another
/// program has by now, or that is of another machine or container, names no process.
///
/// # Errors
/// The folder can't be looked at.
pub fn process_of(path: &Path) -> io::Result<Option<i32>> {
    let mut file = File::open(path.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            (&mut file).take(32).read_to_string(&mut text)?;
            let lock = file.metadata()?;
            Ok(text.trim().parse().ok().filter(|process| has_open(*process, &lock)))
        }
    }
}

/// Whether a process of this machine has a file open, as far as this one may know.
fn has_open(process: i32, file: &Metadata) -> bool {
    let mut opened = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let is_file = |opened: Metadata| (opened.dev(), opened.ino()) == (file.dev(), file.ino());
    opened.any(|entry| fs::metadata(entry.path()).is_ok_and(is_file))
}

impl DataFolder {
    /// Opens the folder for its owner: creates it if it is not there, locks it, gives it an identity if it is new, and
    /// notes durably that a process runs. `boot` is the kernel's boot id, see [`boot_id`]. Costs a few fsyncs.
    ///
    /// # Errors
    /// Every way in which the folder is not this owner's alone.
    pub fn open(path: &Path, owner: Owner, boot: &str) -> Result<Self, FolderError> {
        Self::open_or_make(path, owner, boot, FolderId(Uuid::new_v4()))
    }

    /// [`DataFolder::open`]; a folder that is new has the id `new`, which nobody may have used.
    ///
    /// # Errors
    /// As [`DataFolder::open`].
    pub fn open_or_make(path: &Path, owner: Owner, boot: &str, new: FolderId) -> Result<Self, FolderError> {
        let lock = lock(path)?;
        let io = |file| move |error| FolderError::Io { path: path.to_owned(), file, error };
        let identity = read_identity(path)?;
        let (disk, start) = match &identity {
            Some(text) => {
                let disk = check_identity(path, text, owner)?;
                let last = record::read(&path.join(RUN_STATE)).map_err(io(RUN_STATE))?;
                let last = last.as_deref().and_then(RunState::decode);
                match start_kind::decide(last.as_ref(), boot, owner.durability) {
                    StartKind::Amnesiac => (FolderId(Uuid::new_v4()), StartKind::Amnesiac),
                    other => (disk, other),
                }
            }
            None => {
                refuse_foreign_files(path)?;
                (new, StartKind::First)
            }
        };
        // Before anybody hears of this process: no two of them say the same number.
        let starts = if identity.is_some() { read_starts(path)? } else { 0 } + 1;
        write_starts(path, starts)?;
        let run_state = RunState { running: true, boot: boot.to_owned(), amnesia: start == StartKind::Amnesiac };
        record::write(path, RUN_STATE, &run_state.encode()).map_err(io(RUN_STATE))?;
        if identity.is_none() || start == StartKind::Amnesiac {
            // Last, because it is what makes the folder a data folder; and amnesia is noted before it is acted upon, so that a
            // crash in between only draws yet another disk.
            write_identity(path, &identity_text(owner, disk))?;
        }
        Ok(Self { path: path.to_owned(), owner, disk, start, starts, run_state, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// A random id made with the folder, and anew after amnesia: a node whose disk was wiped or swapped has another one.
    pub fn disk(&self) -> FolderId {
        self.disk
    }

    /// How often a process was started with the folder, this one included.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// What the node may believe of its data.
    pub fn start_kind(&self) -> StartKind {
        self.start
    }

    /// What this folder's replicas have promised can't be known any more, because the journal is damaged: notes durably that
    /// they have amnesia, and draws another disk id, as after a restart of the machine with durability `memory`.
    ///
    /// # Errors
    /// `Io`; no replica may be opened then.
    pub fn lose_memory(&mut self) -> Result<(), FolderError> {
        self.write_run_state(RunState { amnesia: true, ..self.run_state.clone() })?;
        self.disk = FolderId(Uuid::new_v4());
        self.start = StartKind::Amnesiac;
        write_identity(&self.path, &identity_text(self.owner, self.disk))
    }

    /// Notes durably that no replica with amnesia is left: each has been given up, and carries a durable note of its own.
    ///
    /// # Errors
    /// `Io`; the amnesia stays then.
    pub fn amnesia_healed(&mut self) -> Result<(), FolderError> {
        self.write_run_state(RunState { amnesia: false, ..self.run_state.clone() })
    }

    /// Notes durably that everything is synced and the process ends, and frees the folder. Must come after the last
    /// write and sync of everything else in the folder.
    ///
    /// # Errors
    /// `Io`; the next start is one after a crash then.
    pub fn stop_clean(mut self) -> Result<(), FolderError> {
        self.write_run_state(RunState { running: false, ..self.run_state.clone() })
    }

    fn write_run_state(&mut self, state: RunState) -> Result<(), FolderError> {
        let io = |error| FolderError::Io { path: self.path.clone(), file: RUN_STATE, error };
        record::write(&self.path, RUN_STATE, &state.encode()).map_err(io)?;
        self.run_state = state;
        Ok(())
    }
}

/// A file of the folder, for somebody who only looks.
#[derive(Debug)]
pub enum Part<T> {
    /// It is there and sound.
    Found(T),
    /// It is not there.
    Missing,
    /// It is damaged.
    Damaged,
    /// It is sound, and of a version that is not read.
    Unsupported(UnsupportedVersion),
    /// The system does not give it.
    Unreadable(io::Error),
}

/// What a folder says of itself.
#[derive(Debug)]
pub struct Inspected {
    /// Whose it is, and its id.
    pub identity: Part<(Owner, FolderId)>,
    /// The same, from the copy that is kept of it.
    pub identity_copy: Part<(Owner, FolderId)>,
    /// How its last process ended.
    pub run_state: Part<RunState>,
    /// How often a process was started with it, twice.
    pub starts: [Part<u64>; 2],
}

impl Inspected {
    /// Whose the folder is, and its id, by whichever of the two copies is sound.
    pub fn owner(&self) -> Option<(Owner, FolderId)> {
        [&self.identity, &self.identity_copy].into_iter().find_map(|part| match part {
            Part::Found(found) => Some(*found),
            _ => None,
        })
    }

    /// How often a process was started with it; `None` if neither copy is sound.
    pub fn starts(&self) -> Option<u64> {
        self.starts.iter().filter_map(|part| if let Part::Found(starts) = part { Some(*starts) } else { None }).max()
    }

    /// What a start would believe of its data. `boot` is the kernel's boot id, see [`boot_id`].
    pub fn start_kind(&self, durability: Durability, boot: &str) -> StartKind {
        let last = if let Part::Found(last) = &self.run_state { Some(last) } else { None };
        start_kind::decide(last, boot, durability)
    }
}

/// Writes down that everything in a folder is synced, that no process runs, and that no replica with amnesia is left. Its lock is held.
///
/// # Errors
/// `Io`.
pub(crate) fn note_clean_stop(path: &Path, boot: &str) -> Result<(), FolderError> {
    let state = RunState { running: false, boot: boot.to_owned(), amnesia: false };
    record::write(path, RUN_STATE, &state.encode()).map_err(|error| FolderError::Io {
        path: path.to_owned(),
        file: RUN_STATE,
        error,
    })
}

/// Reads what a folder says of itself, and changes nothing.
pub fn inspect(path: &Path) -> Inspected {
    Inspected {
        identity: inspect_part(&path.join(IDENTITY), decode_identity),
        identity_copy: inspect_part(&path.join(IDENTITY_COPY), decode_identity),
        run_state: inspect_part(&path.join(RUN_STATE), |text| RunState::decode(text).ok_or(FormatError::Damaged)),
        starts: [STARTS, STARTS_COPY]
            .map(|file| inspect_part(&path.join(file), |text| decode_starts(text).ok_or(FormatError::Damaged))),
    }
}

fn inspect_part<T>(path: &Path, decode: impl FnOnce(&str) -> Result<T, FormatError>) -> Part<T> {
    match record::read(path) {
        Ok(Some(text)) => match decode(&text) {
            Ok(found) => Part::Found(found),
            Err(FormatError::Damaged) => Part::Damaged,
            Err(FormatError::Unsupported(version)) => Part::Unsupported(version),
        },
        Ok(None) => Part::Missing,
        Err(error) => Part::Unreadable(error),
    }
}

fn decode_identity(text: &str) -> Result<(Owner, FolderId), FormatError> {
    let [_, cluster, node, shards, durability, disk] = identity_values(text)?;
    let parsed = || {
        let durability = [Durability::Fsync, Durability::Memory].into_iter().find(|of| of.to_string() == durability)?;
        let cluster = ClusterId(Uuid::parse_str(&cluster).ok()?);
        let node = NodeId(Uuid::parse_str(&node).ok()?);
        let owner = Owner { cluster, node, shards: shards.parse().ok()?, durability };
        Some((owner, FolderId(Uuid::parse_str(&disk).ok()?)))
    };
    parsed().ok_or(FormatError::Damaged)
}

/// The values of an identity's lines.
fn identity_values(text: &str) -> Result<[String; IDENTITY_NAMES.len()], FormatError> {
    let version = Record::first_value(text, TITLE, IDENTITY_NAMES[0]).and_then(|version| version.parse().ok());
    formats::DATA_FOLDER.check(version.ok_or(FormatError::Damaged)?)?;
    Record::decode(text, TITLE, IDENTITY_NAMES).ok_or(FormatError::Damaged)
}

/// The kernel's boot id: another one means that the machine, and with it every page cache, went down in between.
///
/// # Errors
/// What the system says.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Creates the folder if need be, for its owner only, and takes the lock that the process keeps until it ends.
pub(crate) fn lock(path: &Path) -> Result<File, FolderError> {
    let cannot = |error| FolderError::CannotCreate { path: path.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot)?;
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    let mut file = options.open(path.join(LOCK)).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let process = (&mut file).take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(FolderError::InUse { path: path.to_owned(), process });
        }
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(cannot)?;
    writeln!(file, "{}", std::process::id()).map_err(cannot)?;
    Ok(file)
}

/// A new folder may hold what this module itself left behind when it was interrupted, and what a file system puts at
/// its root; anything else makes it somebody's.
fn refuse_foreign_files(path: &Path) -> Result<(), FolderError> {
    let cannot = |error| FolderError::CannotCreate { path: path.to_owned(), error };
    let ours = [
        LOCK,
        RUN_STATE,
        "run-state.new",
        IDENTITY_COPY,
        "identity.new",
        "identity.copy.new",
        STARTS,
        STARTS_COPY,
        "starts.new",
        "starts.copy.new",
        "lost+found",
    ];
    for entry in fs::read_dir(path).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        if !ours.iter().any(|ours| name == *ours) {
            let example = name.to_string_lossy().into_owned();
            return Err(FolderError::NoIdentity { path: path.to_owned(), example });
        }
    }
    Ok(())
}

fn identity_text(owner: Owner, disk: FolderId) -> String {
    let lines = vec![
        ("format", formats::DATA_FOLDER.written().to_string()),
        ("cluster", owner.cluster.to_string()),
        ("node", owner.node.to_string()),
        ("shards", owner.shards.to_string()),
        ("durability", owner.durability.to_string()),
        ("disk", disk.to_string()),
    ];
    Record { title: TITLE, lines }.encode()
}

/// The text of a folder's identity, mended from its copy if it is damaged; `None` if there is none. What is missing is not
/// mended: somebody has removed it.
fn read_identity(path: &Path) -> Result<Option<String>, FolderError> {
    let io = |file| move |error| FolderError::Io { path: path.to_owned(), file, error };
    let Some(text) = record::read(&path.join(IDENTITY)).map_err(io(IDENTITY))? else { return Ok(None) };
    let copy = record::read(&path.join(IDENTITY_COPY)).map_err(io(IDENTITY_COPY))?;
    // One of another version is: it is not to be mended from anything.
    let is_sound = |text: &str| identity_values(text) != Err(FormatError::Damaged);
    let copy = copy.filter(|copy| is_sound(copy));
    match (is_sound(&text), copy) {
        (true, Some(_)) => Ok(Some(text)),
        // Folders from before there were copies get one.
        (true, None) => {
            record::write(path, IDENTITY_COPY, &text).map_err(io(IDENTITY_COPY))?;
            Ok(Some(text))
        }
        (false, Some(copy)) => {
            tracing::error!(folder = %path.display(), "the identity was damaged, and is mended from its copy");
            record::write(path, IDENTITY, &copy).map_err(io(IDENTITY))?;
            Ok(Some(copy))
        }
        (false, None) => Err(FolderError::Damaged { path: path.to_owned(), file: IDENTITY }),
    }
}

fn write_identity(path: &Path, text: &str) -> Result<(), FolderError> {
    for file in [IDENTITY_COPY, IDENTITY] {
        record::write(path, file, text).map_err(|error| FolderError::Io { path: path.to_owned(), file, error })?;
    }
    Ok(())
}

/// How often a process was started with the folder, by whichever of the two copies counts more. None of them is to be there
/// only if somebody has removed them: the count is never begun anew, since peers would take the folder for an old one.
fn read_starts(path: &Path) -> Result<u64, FolderError> {
    let mut counted = None;
    for file in [STARTS_COPY, STARTS] {
        let text = record::read(&path.join(file));
        let text = text.map_err(|error| FolderError::Io { path: path.to_owned(), file, error })?;
        counted = counted.max(text.as_deref().and_then(decode_starts));
    }
    counted.ok_or_else(|| FolderError::Damaged { path: path.to_owned(), file: STARTS })
}

fn decode_starts(text: &str) -> Option<u64> {
    let [starts] = Record::decode(text, STARTS_TITLE, ["starts"])?;
    starts.parse().ok()
}

fn write_starts(path: &Path, starts: u64) -> Result<(), FolderError> {
    let text = Record { title: STARTS_TITLE, lines: vec![("starts", starts.to_string())] }.encode();
    for file in [STARTS_COPY, STARTS] {
        record::write(path, file, &text).map_err(|error| FolderError::Io { path: path.to_owned(), file, error })?;
    }
    Ok(())
}

/// Compares a folder's identity with the owner that wants it; gives the disk id.
fn check_identity(path: &Path, text: &str, owner: Owner) -> Result<FolderId, FolderError> {
    let damaged = || FolderError::Damaged { path: path.to_owned(), file: IDENTITY };
    let [_, cluster, node, shards, durability, disk] = identity_values(text).map_err(|error| match error {
        FormatError::Damaged => damaged(),
        FormatError::Unsupported(version) => FolderError::Unsupported { path: path.to_owned(), version },
    })?;
    let fields = [
        ("cluster_id", cluster, owner.cluster.to_string()),
        ("node_id", node, owner.node.to_string()),
        ("shards", shards, owner.shards.to_string()),
        ("durability", durability, owner.durability.to_string()),
    ];
    for (field, found, expected) in fields {
        if found != expected {
            return Err(FolderError::Mismatch { path: path.to_owned(), field, found, expected });
        }
    }
    Uuid::parse_str(&disk).map(FolderId).map_err(|_| damaged())
}

#[cfg(test)]
mod tests;
