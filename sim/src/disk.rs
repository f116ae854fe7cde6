//! A file system in memory that lies as real ones do, under the node's own [`FileDisk`].
//!
//! Everything is there twice: in the *cache*, which processes see, and on the *medium*, which survives power loss. A sync
//! carries a file's new sectors of 512 bytes over, or the names of a folder. What was not synced may reach the medium all
//! the same, each sector and each name on its own. [`SimFileSystem`] is the machine: it outlives the processes that it
//! serves, and is where faults are planned. A process gets its view with [`SimFileSystem::mount`], which dies with it.
//!
//! What a mapping holds counts as stored up to its watermark, looked at whenever the file is synced, opened or the process
//! ends; what lies above the watermark of a log is zero. Bytes of a mapping never change under their readers (`Mapping`
//! forbids it), so damage to a mapped file shows when it is opened or read next.
//!
//! All randomness comes from the generators that callers pass in, or from the seed.

mod content;
mod faults;
mod mounted;
mod names;
mod state;
#[cfg(test)]
mod tests;

pub use faults::{Counts, FaultCounts, FileKind, FlippedBit, OperationCounts};
pub use mounted::{MountedFile, MountedFileSystem};

use kvorum_core::disk::{Disk, DiskError, FileDisk};
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use state::DiskState;
use std::sync::Arc;

/// Bytes that reach the medium together or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A machine's file system. A cheap handle: clones are the same file system.
#[derive(Clone)]
pub struct SimFileSystem {
    state: Arc<Mutex<DiskState>>,
}

impl SimFileSystem {
    /// An empty one. The seed decides what fresh numbers it gives, how much of a write happens at a crash, and where a
    /// misdirected write lands.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(DiskState::new(seed))) }
    }

    /// The file system as the process sees it that runs now. Every operation fails once that process is gone.
    pub fn mount(&self) -> MountedFileSystem {
        MountedFileSystem::new(Arc::clone(&self.state))
    }

    /// Opens the node's disk on it, for the process that runs now.
    ///
    /// # Errors
    /// What a planned fault makes of it.
    pub fn open_disk(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(Arc::new(FileDisk::over(self.mount())?))
    }

    /// The process dies. Its page cache survives; what it stores into its mappings from now on reaches nobody.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.counts.faults.kills += 1;
        state.end_process();
    }

    /// The power fails, and with it the process dies. What was synced is there afterwards; of the rest, by draw, all,
    /// nothing, single sectors and names, or only the first or last sectors of a file.
    pub fn power_loss(&self, rng: &mut ChaCha8Rng) {
        self.state.lock().power_loss(rng);
    }

    /// The process dies and everything that was stored is gone.
    pub fn wipe(&self) {
        self.state.lock().wipe();
    }

    /// Of the operations that change something (create, write, allocate, sync, rename, remove, make or sync a folder), the
    /// next `operations` happen. The one after them does not (a write may happen in part), it fails, and so does
    /// everything later until the process ends.
    pub fn crash_after(&self, operations: u32) {
        self.state.lock().faults.crash_after = Some(operations);
    }

    /// As [`SimFileSystem::crash_after`], at the next write to the beginning of a journal file: the moment at which what the
    /// file held before is gone and what is new is not whole.
    pub fn crash_at_journal_file_start(&self) {
        self.state.lock().faults.crash_at_file_start = true;
    }

    /// Whether the operation that [`SimFileSystem::crash_after`] speaks of was tried: the process must end now.
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The next sync of a file of this kind (of any, if `None`) fails. What was to be synced stays in the cache, counts
    /// as clean, and reaches the medium only if it is written again.
    pub fn fail_next_sync(&self, kind: Option<FileKind>) {
        self.state.lock().faults.sync_fails = Some(kind);
    }

    /// The next write to a file of this kind (of any, if `None`) fails and changes nothing.
    pub fn fail_next_write(&self, kind: Option<FileKind>) {
        self.state.lock().faults.write_fails = Some(kind);
    }

    /// The next `count` operations that open, map, read or list fail.
    pub fn fail_next_reads(&self, count: u32) {
        self.state.lock().faults.reads_fail = count;
    }

    /// Whether the next operation that opens, maps, reads or lists fails.
    pub fn reads_fail(&self) -> bool {
        self.state.lock().faults.reads_fail > 0
    }

    /// Whether no room is left at all: nothing can be created, allocated or grown.
    pub fn set_full(&self, full: bool) {
        self.state.lock().faults.full = full;
    }

    /// How many bytes the files may have together; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().faults.capacity = bytes;
    }

    /// The next write to a journal file lands at another multiple of 4096 of it or of another journal file, on the
    /// medium. The right place keeps its old bytes there, however often it is synced. The cache shows what was meant.
    pub fn misdirect_next_write(&self) {
        self.state.lock().faults.misdirect = true;
    }

    /// Turns one bit of a stored file of this kind, on the medium and in the cache. Every second time in a sector that is
    /// not all zeros, if there is one. `None` if there is nothing stored of this kind.
    pub fn flip_bit(&self, kind: FileKind, rng: &mut ChaCha8Rng) -> Option<FlippedBit> {
        self.state.lock().flip_bit(kind, rng)
    }

    /// Changes bits of one byte of a stored file, on the medium and in the cache: those that are set in `bits`. Returns
    /// `false` if the medium has no such byte.
    pub fn damage(&self, path: &str, offset: u64, bits: u8) -> bool {
        usize::try_from(offset).is_ok_and(|offset| self.state.lock().damage(path, offset, bits))
    }

    /// Another file system that holds the same now, and goes its own way from here on. Must not be called while a process
    /// runs on this one.
    pub fn fork(&self) -> Self {
        let mut state = self.state.lock().clone();
        // Whatever is mapped belongs to a process of this one.
        state.end_process();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The paths of all files with what they hold, in order, as processes see them.
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().contents()
    }

    /// Removes the hints of all shards for good. Returns whether there were any.
    pub fn lose_hints(&self) -> bool {
        self.state.lock().lose_hints()
    }

    /// Removes the manifests of all shards whose first segment is gone, for good: of the others a log without one may be the
    /// whole truth. Returns whether there were any.
    pub fn lose_manifests(&self) -> bool {
        self.state.lock().lose_manifests()
    }

    /// Takes back every planned fault that has not met anything, and frees a full disk.
    pub fn clear_faults(&self) {
        self.state.lock().faults = faults::Faults::default();
    }

    /// What was done so far, and what went wrong.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// What the files take together, in bytes, as processes see them.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// The paths of all files with their lengths, in order, as processes see them.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.state.lock().files()
    }
}
