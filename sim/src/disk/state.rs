//! The file system as a whole: names, files, the process that runs on it, and what is planned to go wrong.

use super::SECTOR_BYTES;
use super::content::{Content, Survival};
use super::faults::{self, Counts, Faults, FileKind, FlippedBit};
use super::names::{Entry, Names, folder_of};
use kvorum_core::disk::map::Mapping;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Misdirected writes land at multiples of this, as all writes of the journal do.
const WRITE_ALIGNMENT: usize = 4096;

#[derive(Clone)]
pub(super) struct DiskState {
    seed: u64,
    numbers_given: u64,
    rng: ChaCha8Rng,
    names: Names,
    files: BTreeMap<u64, Content>,
    files_made: u64,
    /// Which process runs; operations of earlier ones fail.
    process: u64,
    pub(super) crashed: bool,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
}

impl DiskState {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            numbers_given: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            names: Names::default(),
            files: BTreeMap::new(),
            files_made: 0,
            process: 0,
            crashed: false,
            faults: Faults::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn process(&self) -> u64 {
        self.process
    }

    pub(super) fn fresh_number(&mut self) -> u64 {
        self.numbers_given += 1;
        // SplitMix64 (Steele, Lea and Flood, 2014): each step is a bijection, so no number comes twice.
        let mut number = self.seed.wrapping_add(self.numbers_given.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.files().iter().map(|(_, length)| length).sum()
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        self.names.files().map(|(path, id)| (path.to_owned(), self.files[&id].length() as u64)).collect()
    }

    /// The process dies; its page cache does not.
    pub(super) fn end_process(&mut self) {
        self.process += 1;
        self.crashed = false;
        self.faults.crash_after = None;
        self.faults.crash_at_file_start = false;
        self.files.values_mut().for_each(Content::detach);
        self.forget_nameless();
    }

    pub(super) fn power_loss(&mut self, rng: &mut ChaCha8Rng) {
        self.end_process();
        self.counts.faults.power_losses += 1;
        let everywhere = match rng.random_range(0..8) {
            0 => Some(Survival::Everything),
            1 => Some(Survival::Nothing),
            _ => None,
        };
        for content in self.files.values_mut() {
            let survival = everywhere.unwrap_or_else(|| Survival::draw(rng));
            let (kept, lost) = content.power_loss(survival, rng);
            self.counts.faults.kept_sectors += kept;
            self.counts.faults.lost_sectors += lost;
        }
        self.counts.faults.lost_names += self.names.power_loss(everywhere.unwrap_or(Survival::Coins), rng);
        self.forget_nameless();
    }

    pub(super) fn wipe(&mut self) {
        self.end_process();
        self.counts.faults.wipes += 1;
        self.names = Names::default();
        self.files.clear();
        self.faults.misdirect = false;
    }

    pub(super) fn lose_hints(&mut self) -> bool {
        let hints: Vec<String> =
            self.names.files().map(|(path, _)| path.to_owned()).filter(|path| path.ends_with("/hint")).collect();
        self.lose(&hints)
    }

    pub(super) fn lose_manifests(&mut self) -> bool {
        let names: BTreeSet<&str> = self.names.files().map(|(path, _)| path).collect();
        let is_needed = |path: &&&str| {
            path.strip_suffix("/manifest")
                .is_some_and(|folder| !names.contains(&*format!("{folder}/0000000001.segment")))
        };
        let manifests: Vec<String> = names.iter().filter(is_needed).map(|path| (*path).to_owned()).collect();
        self.lose(&manifests)
    }

    /// Makes files go. Returns whether there were any.
    fn lose(&mut self, paths: &[String]) -> bool {
        for path in paths {
            self.names.set(path, None);
            self.names.sync(folder_of(path));
        }
        !paths.is_empty()
    }

    fn forget_nameless(&mut self) {
        let in_use = self.names.in_use();
        self.files.retain(|id, _| in_use.contains(id));
    }

    pub(super) fn flip_bit(&mut self, kind: FileKind, rng: &mut ChaCha8Rng) -> Option<FlippedBit> {
        let stored = |id: &u64| self.files[id].medium();
        let of_kind = self.names.durable_files().filter(|(path, _)| FileKind::of(path) == kind);
        let candidates: Vec<_> = of_kind.filter(|(_, id)| !stored(id).is_empty()).collect();
        if candidates.is_empty() {
            return None;
        }
        let (path, id) = candidates[rng.random_range(0..candidates.len())];
        let (path, medium) = (path.to_owned(), stored(&id));
        let used = medium.chunks(SECTOR_BYTES).enumerate().filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        let used: Vec<_> = used.map(|(number, sector)| (number * SECTOR_BYTES, sector.len())).collect();
        let (start, length) = match used.len() {
            sectors if sectors > 0 && rng.random_bool(0.5) => used[rng.random_range(0..sectors)],
            _ => (0, medium.len()),
        };
        let (offset, bit) = (start + rng.random_range(0..length), rng.random_range(0..8));
        self.files.get_mut(&id)?.damage(offset, 1 << bit);
        self.counts.faults.flipped_bits += 1;
        Some(FlippedBit { path, offset: offset as u64, bit })
    }

    /// What the files hold, as processes see it.
    pub(super) fn contents(&mut self) -> Vec<(String, Vec<u8>)> {
        let names: Vec<_> = self.names.files().map(|(path, id)| (path.to_owned(), id)).collect();
        names.into_iter().map(|(path, id)| (path, self.files.entry(id).or_default().bytes().to_vec())).collect()
    }

    /// Changes bits of a byte on the medium and in the cache; `false` if there is no such byte.
    pub(super) fn damage(&mut self, path: &str, offset: usize, bits: u8) -> bool {
        let content = self.names.file(path).and_then(|id| self.files.get_mut(&id));
        let changed = content.is_some_and(|content| content.damage(offset, bits));
        self.counts.faults.flipped_bits += u64::from(changed) * u64::from(bits.count_ones());
        changed
    }

    /// A process does something. Fails if it is dead.
    pub(super) fn enter(&self, process: u64) -> io::Result<()> {
        if self.crashed || process != self.process { Err(injected("the process is dead")) } else { Ok(()) }
    }

    /// A process is about to change something. Fails if it crashes here.
    fn change(&mut self, process: u64) -> io::Result<()> {
        self.enter(process)?;
        match &mut self.faults.crash_after {
            Some(0) => {
                self.faults.crash_after = None;
                self.crashed = true;
                self.counts.faults.crash_points += 1;
                Err(injected("the process crashes"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A process is about to read something.
    fn look(&mut self, process: u64) -> io::Result<()> {
        self.enter(process)?;
        if self.faults.reads_fail > 0 {
            self.faults.reads_fail -= 1;
            self.counts.faults.failed_reads += 1;
            return Err(injected("a read fails"));
        }
        Ok(())
    }

    /// Whether there is room for so many more bytes, or for another name.
    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let over = |capacity| self.used_bytes() + bytes as u64 > capacity;
        if self.faults.full || self.faults.capacity.is_some_and(over) {
            self.counts.faults.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// What is left of the capacity; nothing while the disk is full.
    pub(super) fn free_bytes(&self, process: u64) -> io::Result<u64> {
        let capacity = self.total_bytes(process)?;
        Ok(if self.faults.full { 0 } else { capacity.saturating_sub(self.used_bytes()) })
    }

    pub(super) fn total_bytes(&self, process: u64) -> io::Result<u64> {
        self.enter(process)?;
        Ok(self.faults.capacity.unwrap_or(u64::MAX))
    }

    fn content(&mut self, id: u64) -> io::Result<&mut Content> {
        // Files without a name are kept until their process is gone.
        self.files.get_mut(&id).ok_or_else(|| injected("the file is gone"))
    }

    pub(super) fn open(&mut self, process: u64, path: &str) -> io::Result<u64> {
        self.look(process)?;
        self.counts.operations.opens += 1;
        self.names.file(path).ok_or_else(not_found)
    }

    pub(super) fn create(&mut self, process: u64, path: &str) -> io::Result<u64> {
        self.change(process)?;
        self.counts.operations.creates += 1;
        self.make_room(0)?;
        if !self.names.is_folder(folder_of(path)) {
            return Err(not_found());
        }
        if let Some(id) = self.names.file(path) {
            self.content(id)?.empty();
            return Ok(id);
        }
        self.files_made += 1;
        let id = self.files_made;
        self.files.insert(id, Content::default());
        self.names.set(path, Some(Entry::File(id)));
        Ok(id)
    }

    pub(super) fn exists(&mut self, process: u64, path: &str) -> io::Result<bool> {
        self.enter(process)?;
        Ok(self.names.get(path).is_some())
    }

    pub(super) fn rename(&mut self, process: u64, from: &str, to: &str) -> io::Result<()> {
        self.change(process)?;
        self.counts.operations.renames += 1;
        let id = self.names.file(from).ok_or_else(not_found)?;
        self.names.set(to, Some(Entry::File(id)));
        self.names.set(from, None);
        Ok(())
    }

    pub(super) fn remove(&mut self, process: u64, path: &str) -> io::Result<()> {
        self.change(process)?;
        self.counts.operations.removes += 1;
        self.names.file(path).ok_or_else(not_found)?;
        self.names.set(path, None);
        Ok(())
    }

    pub(super) fn create_folder(&mut self, process: u64, path: &str) -> io::Result<()> {
        self.enter(process)?;
        if self.names.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(process)?;
        self.counts.operations.folders += 1;
        self.make_room(0)?;
        if !self.names.is_folder(folder_of(path)) {
            return Err(not_found());
        }
        self.names.set(path, Some(Entry::Folder));
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, process: u64, path: &str) -> io::Result<()> {
        self.change(process)?;
        self.counts.operations.folder_syncs += 1;
        if !self.names.is_folder(path) {
            return Err(not_found());
        }
        if !self.faults.folder_syncs_ignored {
            self.names.sync(path);
        }
        Ok(())
    }

    pub(super) fn list(&mut self, process: u64, path: &str) -> io::Result<Vec<String>> {
        self.look(process)?;
        self.counts.operations.lists += 1;
        if !self.names.is_folder(path) {
            return Err(not_found());
        }
        Ok(self.names.list(path))
    }

    pub(super) fn length(&mut self, process: u64, id: u64) -> io::Result<u64> {
        self.enter(process)?;
        Ok(self.content(id)?.length() as u64)
    }

    pub(super) fn allocate(&mut self, process: u64, id: u64, bytes: usize) -> io::Result<()> {
        self.change(process)?;
        self.counts.operations.allocations += 1;
        let more = bytes.saturating_sub(self.content(id)?.length());
        if more > 0 {
            self.make_room(more)?;
            self.content(id)?.grow(bytes);
        }
        Ok(())
    }

    pub(super) fn read_at(&mut self, process: u64, id: u64, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.look(process)?;
        self.counts.operations.reads += 1;
        self.content(id)?.read(offset, bytes)
    }

    pub(super) fn map(&mut self, process: u64, id: u64, length: u32) -> io::Result<Arc<Mapping>> {
        self.look(process)?;
        self.counts.operations.maps += 1;
        self.content(id)?.map(length)
    }

    pub(super) fn write_at(
        &mut self,
        process: u64,
        (id, kind): (u64, FileKind),
        offset: usize,
        bytes: &[u8],
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return self.enter(process);
        }
        let starts_file = kind == FileKind::Journal && offset == 0;
        if starts_file && std::mem::take(&mut self.faults.crash_at_file_start) {
            self.faults.crash_after = Some(0);
        }
        let alive = !self.crashed;
        if let Err(error) = self.change(process) {
            if alive && self.crashed {
                self.write_part(id, offset, bytes)?;
            }
            return Err(error);
        }
        self.counts.operations.writes += 1;
        self.counts.operations.written_bytes += bytes.len() as u64;
        if faults::meets(&mut self.faults.write_fails, kind) {
            self.counts.faults.failed_writes += 1;
            return Err(injected("a write fails"));
        }
        let more = (offset + bytes.len()).saturating_sub(self.content(id)?.length());
        if more > 0 {
            self.make_room(more)?;
        }
        if self.faults.misdirect && kind == FileKind::Journal && more == 0 && self.misdirect(id, offset, bytes) {
            self.content(id)?.write_cache_only(offset, bytes);
            return Ok(());
        }
        self.content(id)?.write(offset, bytes);
        Ok(())
    }

    /// The process dies during a write: some of its first sectors are written.
    fn write_part(&mut self, id: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let sectors = self.rng.random_range(0..=bytes.len().div_ceil(SECTOR_BYTES));
        let part = bytes.len().min(sectors * SECTOR_BYTES);
        if part > 0 && offset + part <= self.content(id)?.length() {
            self.content(id)?.write(offset, &bytes[..part]);
        }
        Ok(())
    }

    /// Lets a write land elsewhere in the journal. Whether there was such a place.
    fn misdirect(&mut self, id: u64, offset: usize, bytes: &[u8]) -> bool {
        let mut places = Vec::new();
        for (_, other) in self.names.durable_files().filter(|(path, _)| FileKind::of(path) == FileKind::Journal) {
            let length = self.files[&other].medium().len();
            let starts = (0..length).step_by(WRITE_ALIGNMENT).take_while(|start| start + bytes.len() <= length);
            let apart = |start: &usize| other != id || start.abs_diff(offset) >= bytes.len();
            places.extend(starts.filter(apart).map(|start| (other, start)));
        }
        if places.is_empty() {
            return false;
        }
        let (other, start) = places[self.rng.random_range(0..places.len())];
        if let Some(content) = self.files.get_mut(&other) {
            content.write_medium(start, bytes);
        }
        self.faults.misdirect = false;
        self.counts.faults.misdirected_writes += 1;
        true
    }

    pub(super) fn forget_cached(&mut self, process: u64, id: u64) -> io::Result<()> {
        self.enter(process)?;
        if !self.faults.forgetting_ignored {
            self.content(id)?.forget_cached();
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, process: u64, (id, kind): (u64, FileKind)) -> io::Result<()> {
        self.change(process)?;
        self.counts.operations.syncs += 1;
        if faults::meets(&mut self.faults.sync_fails, kind) {
            self.counts.faults.failed_syncs += 1;
            self.content(id)?.fail_sync();
            return Err(injected("a sync fails"));
        }
        self.content(id)?.sync();
        Ok(())
    }
}

fn injected(what: &'static str) -> io::Error {
    io::Error::other(format!("injected: {what}"))
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
