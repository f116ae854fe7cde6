//! A disk in memory for tests: it loses what was not synced, and fails on demand.
//!
//! A file has a *cache* (what the system would show) and a *medium* (what survives power loss). A mapping's bytes count
//! as stored once its watermark has passed them, which log and replay see to before they sync.

use super::{ColdFile, Disk, DiskError, JournalFile, OpenedSegment, SegmentFile};
use crate::disk::map::Mapping;
use kvorum_protocol::ShardId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

const SECTOR_BYTES: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    /// Every sync of a segment.
    pub segment_sync_fails: bool,
    /// Every sync of a journal file.
    pub journal_sync_fails: bool,
    /// Every write into a journal file.
    pub journal_write_fails: bool,
    /// What is read past the mappings can't be read.
    pub cold_reads_fail: bool,
    /// No segment can be created, and no room is left.
    pub full: bool,
    /// How much room is left; plenty if not given. Only reported: files don't use it up.
    pub free_bytes: Option<u64>,
    /// So many more operations that change something succeed, all later ones fail.
    pub operations_left: Option<u64>,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Syncs of segments.
    pub segment_syncs: u64,
    /// Syncs of journal files.
    pub journal_syncs: u64,
    /// Writes into journal files.
    pub journal_writes: u64,
}

/// A disk that loses what was not synced, as told.
#[derive(Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    segments: BTreeMap<(ShardId, u32), Content>,
    journal: BTreeMap<u32, Content>,
    metadata: BTreeMap<String, Vec<u8>>,
    shard_files: BTreeMap<(ShardId, String), Vec<u8>>,
    numbers_given: u64,
    faults: Faults,
    counts: Counts,
}

#[derive(Default)]
struct Content {
    cache: Vec<u8>,
    medium: Vec<u8>,
    mapping: Option<Arc<Mapping>>,
}

impl Content {
    fn new(bytes: u32, header: &[u8]) -> Self {
        let mut cache = vec![0; bytes as usize];
        cache[..header.len()].copy_from_slice(header);
        Self { medium: cache.clone(), cache, mapping: None }
    }

    /// Takes what was stored into the mapping over into the cache. What is above the watermark is zero in an open log.
    fn absorb(&mut self) {
        if let Some(mapping) = self.mapping.as_ref().filter(|mapping| mapping.written() > 0) {
            let written = mapping.written();
            self.cache.fill(0);
            self.cache[..written as usize].copy_from_slice(mapping.read(0, written).expect("it is in memory"));
        }
    }

    fn sync(&mut self) {
        self.absorb();
        self.medium.clone_from(&self.cache);
    }

    fn after_kill(&mut self) -> Self {
        self.absorb();
        Self { cache: self.cache.clone(), medium: self.medium.clone(), mapping: None }
    }

    fn after_power_loss(&mut self, survives: &mut dyn FnMut() -> bool) -> Self {
        self.absorb();
        let mut medium = self.medium.clone();
        for (old, new) in medium.chunks_mut(SECTOR_BYTES).zip(self.cache.chunks(SECTOR_BYTES)) {
            if old != new && survives() {
                old.copy_from_slice(new);
            }
        }
        Self { cache: medium.clone(), medium, mapping: None }
    }
}

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From here on this goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// The disk after `kill -9`: the page cache is still there.
    pub fn after_kill(&self) -> Arc<Self> {
        self.map(&mut |content| content.after_kill())
    }

    /// The disk after power loss. `survives` decides for each 512-byte sector that was not synced.
    pub fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Arc<Self> {
        self.map(&mut |content| content.after_power_loss(&mut survives))
    }

    fn map(&self, change: &mut dyn FnMut(&mut Content) -> Content) -> Arc<Self> {
        let mut state = self.state.lock();
        let mut next = State { numbers_given: state.numbers_given, ..State::default() };
        next.metadata.clone_from(&state.metadata);
        next.shard_files.clone_from(&state.shard_files);
        next.segments = state.segments.iter_mut().map(|(key, content)| (*key, change(content))).collect();
        next.journal = state.journal.iter_mut().map(|(key, content)| (*key, change(content))).collect();
        Arc::new(Self { state: Arc::new(Mutex::new(next)) })
    }

    /// Changes the stored bytes of a segment behind everyone's back.
    pub fn edit_segment(&self, shard: ShardId, number: u32, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let content = state.segments.get_mut(&(shard, number)).expect("there is such a segment");
        content.absorb();
        content.mapping = None;
        edit(&mut content.cache);
        content.medium.clone_from(&content.cache);
    }

    /// Changes the stored bytes of a journal file behind everyone's back.
    pub fn edit_journal(&self, number: u32, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let content = state.journal.get_mut(&number).expect("there is such a file");
        edit(&mut content.cache);
        content.medium.clone_from(&content.cache);
    }

    /// A segment as a reader sees it.
    ///
    /// # Panics
    /// If there is none of that number.
    pub fn segment_bytes(&self, shard: ShardId, number: u32) -> Vec<u8> {
        let mut state = self.state.lock();
        let content = state.segments.get_mut(&(shard, number)).expect("there is such a segment");
        content.absorb();
        content.cache.clone()
    }
}

impl State {
    /// One operation that changes something is about to happen.
    fn step(&mut self) -> Result<(), DiskError> {
        match &mut self.faults.operations_left {
            Some(0) => Err(failure("operate")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn failure(operation: &'static str) -> DiskError {
    DiskError::new(operation, "memory", std::io::Error::other("injected"))
}

impl Disk for MemoryDisk {
    fn list_shards(&self) -> Result<Vec<ShardId>, DiskError> {
        let mut shards: Vec<_> = self.state.lock().segments.keys().map(|(shard, _)| *shard).collect();
        shards.dedup();
        Ok(shards)
    }

    fn list_segments(&self, shard: ShardId) -> Result<Vec<u32>, DiskError> {
        let state = self.state.lock();
        Ok(state.segments.keys().filter(|(of, _)| *of == shard).map(|(_, number)| *number).collect())
    }

    fn create_segment(
        &self,
        shard: ShardId,
        number: u32,
        bytes: u32,
        header: &[u8],
    ) -> Result<OpenedSegment, DiskError> {
        let mut state = self.state.lock();
        if state.faults.full {
            return Err(DiskError::new("create", "memory", std::io::ErrorKind::StorageFull.into()));
        }
        state.step()?;
        assert!(state.segments.insert((shard, number), Content::new(bytes, header)).is_none(), "it exists");
        drop(state);
        Ok(self.open_segment(shard, number)?.expect("it was just made"))
    }

    fn open_segment(&self, shard: ShardId, number: u32) -> Result<Option<OpenedSegment>, DiskError> {
        let mut state = self.state.lock();
        let Some(content) = state.segments.get_mut(&(shard, number)) else { return Ok(None) };
        content.absorb();
        let mapping = Arc::new(Mapping::in_memory(&content.cache).expect("memory is there"));
        content.mapping = Some(Arc::clone(&mapping));
        let file = Box::new(MemorySegment { state: Arc::clone(&self.state), key: (shard, number) });
        Ok(Some(OpenedSegment { mapping, file }))
    }

    fn open_cold(&self, shard: ShardId, number: u32) -> Result<Option<Box<dyn ColdFile>>, DiskError> {
        let mut state = self.state.lock();
        let Some(content) = state.segments.get_mut(&(shard, number)) else { return Ok(None) };
        content.absorb();
        Ok(Some(Box::new(MemoryColdFile { bytes: content.cache.clone(), unreadable: state.faults.cold_reads_fail })))
    }

    fn remove_segment(&self, shard: ShardId, number: u32) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.segments.remove(&(shard, number)).map(drop).ok_or(failure("remove"))
    }

    fn read_shard_file(&self, shard: ShardId, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.state.lock().shard_files.get(&(shard, name.to_owned())).cloned())
    }

    fn write_shard_file(&self, shard: ShardId, name: &str, parts: &[&[u8]]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.shard_files.insert((shard, name.to_owned()), parts.concat());
        Ok(())
    }

    fn remove_shard_file(&self, shard: ShardId, name: &str) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.shard_files.remove(&(shard, name.to_owned()));
        Ok(())
    }

    fn list_journal_files(&self) -> Result<Vec<u32>, DiskError> {
        Ok(self.state.lock().journal.keys().copied().collect())
    }

    fn create_journal_file(&self, number: u32, bytes: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        assert!(state.journal.insert(number, Content::new(bytes, &[])).is_none(), "it exists");
        drop(state);
        self.open_journal_file(number)
    }

    fn open_journal_file(&self, number: u32) -> Result<Box<dyn JournalFile>, DiskError> {
        let bytes = self.state.lock().journal[&number].cache.len() as u32;
        Ok(Box::new(MemoryJournalFile { state: Arc::clone(&self.state), number, bytes }))
    }

    fn remove_journal_file(&self, number: u32) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.journal.remove(&number).map(drop).ok_or(failure("remove"))
    }

    fn read_metadata(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.state.lock().metadata.get(name).cloned())
    }

    fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.metadata.insert(name.to_owned(), bytes.to_owned());
        Ok(())
    }

    /// Its failed syncs leave nothing that looks clean.
    fn forget_cached(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let faults = self.state.lock().faults;
        Ok(if faults.full { 0 } else { faults.free_bytes.unwrap_or(u64::MAX) })
    }

    fn total_bytes(&self) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }

    fn fresh_number(&self) -> u64 {
        let mut state = self.state.lock();
        state.numbers_given += 1;
        state.numbers_given.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct MemorySegment {
    state: Arc<Mutex<State>>,
    key: (ShardId, u32),
}

impl SegmentFile for MemorySegment {
    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.counts.segment_syncs += 1;
        if state.faults.segment_sync_fails {
            return Err(failure("sync"));
        }
        if let Some(content) = state.segments.get_mut(&self.key) {
            content.sync();
        }
        Ok(())
    }
}

struct MemoryColdFile {
    bytes: Vec<u8>,
    unreadable: bool,
}

impl ColdFile for MemoryColdFile {
    fn bytes(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        if self.unreadable {
            return Err(failure("read"));
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }

    fn forget_cached(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

struct MemoryJournalFile {
    state: Arc<Mutex<State>>,
    number: u32,
    bytes: u32,
}

impl JournalFile for MemoryJournalFile {
    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn write_at(&self, offset: u32, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.counts.journal_writes += 1;
        if state.faults.journal_write_fails {
            return Err(failure("write"));
        }
        let content = state.journal.get_mut(&self.number).expect("there is such a file");
        content.cache[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step()?;
        state.counts.journal_syncs += 1;
        if state.faults.journal_sync_fails {
            return Err(failure("sync"));
        }
        state.journal.get_mut(&self.number).expect("there is such a file").sync();
        Ok(())
    }

    fn read_at(&self, offset: u32, bytes: &mut [u8]) -> Result<(), DiskError> {
        let state = self.state.lock();
        let cache = &state.journal[&self.number].cache;
        bytes.copy_from_slice(&cache[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }
}
