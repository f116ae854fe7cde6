//! What the node is short of: said by whoever watches the machine, looked at by every shard before it takes a write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The state of one node, shared by all its shards. Looking at it costs nothing worth mentioning; it may be a second old.
#[derive(Debug)]
pub struct Pressure {
    disk_full: AtomicBool,
    disk_free_bytes: AtomicU64,
    index_bytes: AtomicU64,
    index_bytes_max: u64,
    disk_headroom_bytes: AtomicU64,
}

impl Pressure {
    /// Nothing is short yet. The indexes of all shards together may take `index_bytes_max`; `u64::MAX` for no limit.
    pub fn new(index_bytes_max: u64) -> Self {
        Self {
            disk_full: AtomicBool::new(false),
            disk_free_bytes: AtomicU64::new(u64::MAX),
            index_bytes: AtomicU64::new(0),
            index_bytes_max,
            disk_headroom_bytes: AtomicU64::new(0),
        }
    }

    /// So many bytes of the disk are free, and whether that is so little that it counts as full.
    pub fn set_disk(&self, free_bytes: u64, full: bool) {
        self.disk_free_bytes.store(free_bytes, Ordering::Relaxed);
        self.disk_full.store(full, Ordering::Relaxed);
    }

    /// With fewer free bytes than this the disk counts as full.
    pub fn set_disk_headroom(&self, bytes: u64) {
        self.disk_headroom_bytes.store(bytes, Ordering::Relaxed);
    }

    /// With fewer free bytes than this the disk counts as full; 0 if nobody has looked.
    pub fn disk_headroom_bytes(&self) -> u64 {
        self.disk_headroom_bytes.load(Ordering::Relaxed)
    }

    /// What the indexes of all shards may take in memory, in bytes; `u64::MAX` for no limit.
    pub fn index_bytes_max(&self) -> u64 {
        self.index_bytes_max
    }

    /// The indexes of all shards take so many bytes.
    pub fn set_index_bytes(&self, bytes: u64) {
        self.index_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether the disk counts as full: writes that take room are refused.
    pub fn disk_is_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Free bytes of the disk; `u64::MAX` if nobody has looked.
    pub fn disk_free_bytes(&self) -> u64 {
        self.disk_free_bytes.load(Ordering::Relaxed)
    }

    /// What the indexes of all shards take in memory, in bytes.
    pub fn index_bytes(&self) -> u64 {
        self.index_bytes.load(Ordering::Relaxed)
    }

    /// Whether the indexes take all the memory that they may: keys that are not there yet are refused.
    pub fn index_is_full(&self) -> bool {
        self.index_bytes() >= self.index_bytes_max
    }
}

impl Default for Pressure {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_short_before_anyone_has_looked() {
        let pressure = Pressure::default();
        assert!(!pressure.disk_is_full() && !pressure.index_is_full());
        pressure.set_index_bytes(u64::MAX - 1);
        assert!(!pressure.index_is_full(), "no limit");
    }

    #[test]
    fn an_index_at_its_limit_is_full() {
        let pressure = Pressure::new(100);
        pressure.set_index_bytes(99);
        assert!(!pressure.index_is_full());
        pressure.set_index_bytes(100);
        assert!(pressure.index_is_full());
    }
}
