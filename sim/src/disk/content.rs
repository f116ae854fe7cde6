//! One file: what processes see, what the medium holds, and which sectors make the difference.

use super::SECTOR_BYTES;
use kvorum_core::disk::map::Mapping;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What of all that was not synced a power loss leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Survival {
    Everything,
    Nothing,
    /// Each sector by a coin of its own.
    Coins,
    /// The first sectors of a file, in order of place.
    Prefix,
    /// The last.
    Suffix,
}

impl Survival {
    /// What a file's sectors do if the whole machine has no rule. Mixtures are the hardest to survive and come most often.
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        match rng.random_range(0..8) {
            0 => Self::Everything,
            1 => Self::Nothing,
            2 => Self::Prefix,
            3 => Self::Suffix,
            _ => Self::Coins,
        }
    }

    /// Which of `count` things in order survive.
    fn choose(self, count: usize, rng: &mut ChaCha8Rng) -> Vec<bool> {
        let kept = match self {
            Self::Everything => 0..count,
            Self::Nothing => 0..0,
            Self::Prefix => 0..rng.random_range(0..=count),
            Self::Suffix => rng.random_range(0..=count)..count,
            Self::Coins => return (0..count).map(|_| rng.random_bool(0.5)).collect(),
        };
        (0..count).map(|at| kept.contains(&at)).collect()
    }

    /// Whether a single thing survives.
    pub(super) fn keeps(self, rng: &mut ChaCha8Rng) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Coins | Self::Prefix | Self::Suffix => rng.random_bool(0.5),
        }
    }
}

/// How a file's length has changed since it was synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resized {
    Grown,
    /// Cut to nothing first: what the medium holds is no part of the file any more.
    Emptied,
}

#[derive(Clone, Default)]
pub(super) struct Content {
    cache: Vec<u8>,
    medium: Vec<u8>,
    /// Sectors that were changed in the cache since they were last synced (or failed to be).
    dirty: BTreeSet<usize>,
    resized: Option<Resized>,
    mapped: Option<Mapped>,
}

#[derive(Clone)]
struct Mapped {
    mapping: Arc<Mapping>,
    /// Bytes below this are in the cache.
    absorbed: u32,
}

impl Content {
    pub(super) fn length(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn medium(&self) -> &[u8] {
        &self.medium
    }

    /// Cuts it to nothing.
    pub(super) fn empty(&mut self) {
        self.cache.clear();
        self.dirty.clear();
        self.mapped = None;
        self.resized = Some(Resized::Emptied);
    }

    /// Makes it at least so long, with zeros.
    pub(super) fn grow(&mut self, length: usize) {
        if length > self.cache.len() {
            self.cache.resize(length, 0);
            self.resized.get_or_insert(Resized::Grown);
        }
    }

    pub(super) fn read(&mut self, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.absorb();
        let found = offset.checked_add(bytes.len()).and_then(|end| self.cache.get(offset..end));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.grow(end);
        self.cache[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    /// Puts bytes into the cache without ever carrying them over to the medium.
    pub(super) fn write_cache_only(&mut self, offset: usize, bytes: &[u8]) {
        self.cache[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts bytes on the medium behind the cache's back, as far as they fit.
    pub(super) fn write_medium(&mut self, offset: usize, bytes: &[u8]) {
        let end = self.medium.len().min(offset + bytes.len());
        if offset < end {
            self.medium[offset..end].copy_from_slice(&bytes[..end - offset]);
        }
    }

    /// What processes see.
    pub(super) fn bytes(&mut self) -> &[u8] {
        self.absorb();
        &self.cache
    }

    /// Changes bits of a byte on the medium and in the cache. Whether the medium has such a byte.
    pub(super) fn damage(&mut self, offset: usize, bits: u8) -> bool {
        self.absorb();
        let Some(stored) = self.medium.get_mut(offset) else { return false };
        *stored ^= bits;
        if let Some(byte) = self.cache.get_mut(offset) {
            *byte ^= bits;
        }
        true
    }

    /// A new mapping of the first `length` bytes. What an earlier one holds is taken over; later stores into it are lost.
    pub(super) fn map(&mut self, length: u32) -> io::Result<Arc<Mapping>> {
        self.absorb();
        let bytes = self.cache.get(..length as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mapping = Arc::new(Mapping::in_memory(bytes)?);
        self.mapped = Some(Mapped { mapping: Arc::clone(&mapping), absorbed: 0 });
        Ok(mapping)
    }

    /// Carries what is new over to the medium.
    pub(super) fn sync(&mut self) {
        self.absorb();
        self.carry_length();
        for sector in std::mem::take(&mut self.dirty) {
            self.carry(sector);
        }
    }

    /// What was to be synced is clean from now on, and only in the cache.
    pub(super) fn fail_sync(&mut self) {
        self.absorb();
        self.dirty.clear();
    }

    /// Shows what the medium has, unless there is something to sync first or it is mapped.
    pub(super) fn forget_cached(&mut self) {
        self.absorb();
        if self.mapped.is_none() && self.dirty.is_empty() && self.resized.is_none() {
            self.cache.clone_from(&self.medium);
        }
    }

    /// Its process is gone.
    pub(super) fn detach(&mut self) {
        self.absorb();
        self.mapped = None;
    }

    /// Its cache is gone. Returns how many unsynced sectors survived and how many did not.
    pub(super) fn power_loss(&mut self, survival: Survival, rng: &mut ChaCha8Rng) -> (u64, u64) {
        self.detach();
        let changed = self.dirty.len();
        if self.resized.is_some() {
            if survival.keeps(rng) {
                self.carry_length();
            } else if self.resized == Some(Resized::Emptied) {
                // These are sectors of another life of the file, and the medium still has the one before.
                self.dirty.clear();
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        let kept = survival.choose(dirty.len(), rng);
        let mut kept_sectors = 0;
        for (sector, _) in dirty.into_iter().zip(kept).filter(|(_, kept)| *kept) {
            if sector * SECTOR_BYTES < self.medium.len() {
                self.carry(sector);
                kept_sectors += 1;
            }
        }
        self.resized = None;
        self.cache.clone_from(&self.medium);
        (kept_sectors, changed as u64 - kept_sectors)
    }

    fn carry_length(&mut self) {
        match self.resized.take() {
            Some(Resized::Emptied) => {
                self.medium.clear();
                self.medium.resize(self.cache.len(), 0);
            }
            Some(Resized::Grown) => self.medium.resize(self.cache.len(), 0),
            None => {}
        }
    }

    fn carry(&mut self, sector: usize) {
        let range = self.sector(sector, self.medium.len());
        self.medium[range.clone()].copy_from_slice(&self.cache[range]);
    }

    fn sector(&self, sector: usize, length: usize) -> Range<usize> {
        let start = sector * SECTOR_BYTES;
        start..length.min(start + SECTOR_BYTES)
    }

    /// Takes what was stored into the mapping since the last look over into the cache.
    fn absorb(&mut self) {
        let Some(Mapped { mapping, absorbed }) = &mut self.mapped else { return };
        let (mapping, from) = (Arc::clone(mapping), *absorbed);
        let written = mapping.written();
        *absorbed = written;
        if written > from {
            let bytes = mapping.read(from, written - from).expect("bytes below the watermark are readable");
            self.store(from as usize, bytes);
        }
        if from == 0 && written > 0 {
            // Recovery zeroes what it cuts, above the watermark, where it can't be seen.
            let rest = vec![0; mapping.length() as usize - written as usize];
            self.store(written as usize, &rest);
        }
        // Only this function and the file itself hold it: no one can store into it any more.
        if Arc::strong_count(&mapping) == 2 {
            self.mapped = None;
        }
    }

    /// Writes, but leaves sectors alone that hold the bytes already: who finds the right bytes does not store them.
    fn store(&mut self, mut offset: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sector = offset / SECTOR_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min((sector + 1) * SECTOR_BYTES - offset));
            let place = &mut self.cache[offset..offset + now.len()];
            if place != now {
                place.copy_from_slice(now);
                self.dirty.insert(sector);
            }
            offset += now.len();
            bytes = later;
        }
    }
}
