//! What is planned to go wrong, and what was done and went wrong.

/// What a file is for, told by where it lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// A file of the journal's ring.
    Journal,
    /// A segment of a shard's log.
    Segment,
    /// A small named file.
    Metadata,
}

impl FileKind {
    /// The kind of the file at a path.
    pub fn of(path: &str) -> Self {
        match path.split_once('/') {
            Some(("journal", _)) => Self::Journal,
            Some(("shards", _)) => Self::Segment,
            _ => Self::Metadata,
        }
    }
}

/// Where a bit was turned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlippedBit {
    /// The file.
    pub path: String,
    /// The byte in it.
    pub offset: u64,
    /// The byte's bit, 0 to 7.
    pub bit: u8,
}

/// What is planned.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Faults {
    pub(super) crash_after: Option<u32>,
    /// At the next write to the beginning of a journal file.
    pub(super) crash_at_file_start: bool,
    pub(super) sync_fails: Option<Option<FileKind>>,
    pub(super) write_fails: Option<Option<FileKind>>,
    pub(super) reads_fail: u32,
    pub(super) misdirect: bool,
    pub(super) full: bool,
    pub(super) capacity: Option<u64>,
    /// Syncs of folders do nothing: for tests that show what they are for.
    pub(super) folder_syncs_ignored: bool,
    /// The cache is never dropped, likewise.
    pub(super) forgetting_ignored: bool,
}

/// Whether a fault planned for a kind of file (any, if that is `None`) meets this one; it is used up then.
pub(super) fn meets(planned: &mut Option<Option<FileKind>>, kind: FileKind) -> bool {
    let met = planned.is_some_and(|wanted| wanted.is_none_or(|wanted| wanted == kind));
    if met {
        *planned = None;
    }
    met
}

/// What was done and what went wrong, since the file system was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// What was done.
    pub operations: OperationCounts,
    /// What went wrong.
    pub faults: FaultCounts,
}

/// Operations that were tried by a living process.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OperationCounts {
    /// Files that were made or emptied.
    pub creates: u64,
    /// Files that were opened.
    pub opens: u64,
    /// Reads of a file.
    pub reads: u64,
    /// Folders that were listed.
    pub lists: u64,
    /// Writes to a file.
    pub writes: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Allocations.
    pub allocations: u64,
    /// Syncs of a file.
    pub syncs: u64,
    /// Files that were mapped.
    pub maps: u64,
    /// Renamed files.
    pub renames: u64,
    /// Removed files.
    pub removes: u64,
    /// Folders that were made.
    pub folders: u64,
    /// Syncs of a folder.
    pub folder_syncs: u64,
}

/// Faults that took effect. One that was planned and met nothing is not among them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultCounts {
    /// Processes that died while their machine lived on.
    pub kills: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Sectors that a power loss took.
    pub lost_sectors: u64,
    /// Sectors that survived a power loss without having been synced.
    pub kept_sectors: u64,
    /// Changes to names that a power loss took back.
    pub lost_names: u64,
    /// Wipes.
    pub wipes: u64,
    /// Crashes at an operation.
    pub crash_points: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Reads, openings, mappings and listings that failed.
    pub failed_reads: u64,
    /// Operations that found no room.
    pub full: u64,
    /// Bits that were turned.
    pub flipped_bits: u64,
    /// Writes that landed elsewhere.
    pub misdirected_writes: u64,
}
