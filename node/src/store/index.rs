//! The index of one shard: from a key's hash to where its record lies. Holds no key bytes.
//!
//! Two keys may share a hash: then there are two slots with it, and whoever looks one up compares the key in the
//! record. Slots are kept in buckets by the hash's leading bits, each an open-addressing table under its own lock, so
//! that readers on other threads rarely meet the writer, and so that a scan can walk the shard in hash order, one bucket
//! at a time, and take up again at any hash.
//!
//! A table doubles when it is full. Were all buckets alike, all would double at about the same number of keys, and a key
//! would take twice as much just after it as just before. So the widths of the buckets grow evenly, from one to twice
//! as much: bucket `i` of `n` has a width in proportion to 2^(i/n). Of any number of keys some tables are nearly full then
//! and some have just doubled, and a key takes 27 to 29 bytes.

use crate::log::Position;
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

const BUCKETS: usize = 256;
/// 2^(1/256), times 2^63.
const RATIO: u128 = 9_248_379_135_337_035_440;
/// The order at which each bucket begins. The last one ends where `u64` does.
const STARTS: [u64; BUCKETS] = {
    let mut starts = [0; BUCKETS];
    // 2^(i/256) - 1 goes from 0 to 1, in steps of the widths.
    let mut power = 1 << 63;
    let mut bucket = 1;
    while bucket < BUCKETS {
        power = (power * RATIO) >> 63;
        starts[bucket] = ((power - (1 << 63)) << 1) as u64;
        bucket += 1;
    }
    starts
};
/// The bucket that each 256th part of all orders begins in. It ends in one of the next two at most.
const FIRST: [u8; 256] = {
    let mut first = [0; 256];
    let mut part = 1;
    while part < 256 {
        let mut bucket = first[part - 1] as usize;
        while bucket + 1 < BUCKETS && STARTS[bucket + 1] <= (part as u64) << 56 {
            bucket += 1;
        }
        first[part] = bucket as u8;
        part += 1;
    }
    first
};

/// One key: 16 bytes, and 11 to 13 for what a table keeps free and its own use.
#[derive(Clone, Copy, Debug)]
struct Slot {
    order: u64,
    position: Position,
}

/// From hashes to positions.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[RwLock<HashTable<Slot>>]>,
    keys: AtomicU64,
    /// Allocated for the tables.
    table_bytes: AtomicU64,
    hash_mask: u64,
}

/// A slot that a scan passed, in hash order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Scanned {
    /// Where in the scan it stands.
    pub(super) order: u64,
    /// Its record.
    pub(super) position: Position,
}

impl Index {
    /// An empty index that looks at `hash_bits` bits of each hash: 64, or fewer in tests of collisions.
    pub(super) fn new(hash_bits: u32) -> Self {
        Index {
            buckets: (0..BUCKETS).map(|_| RwLock::new(HashTable::new())).collect(),
            keys: AtomicU64::new(0),
            table_bytes: AtomicU64::new(0),
            hash_mask: if hash_bits == 64 { u64::MAX } else { (1 << hash_bits) - 1 },
        }
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// What it takes in memory, in bytes. Two loads.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.buckets) as u64 + self.table_bytes.load(Ordering::Relaxed)
    }

    /// The keys of one shard share their hash's leading bits, which named the shard. Turned round, the bits that differ
    /// come first: they choose the bucket and the order of a scan.
    pub(super) fn order(&self, hash: u64) -> u64 {
        (hash & self.hash_mask).rotate_left(16)
    }

    /// The bucket of a slot, by number.
    pub(super) fn bucket_number(order: u64) -> usize {
        let mut bucket = usize::from(FIRST[(order >> 56) as usize]);
        while bucket + 1 < BUCKETS && STARTS[bucket + 1] <= order {
            bucket += 1;
        }
        bucket
    }

    fn bucket(&self, order: u64) -> &RwLock<HashTable<Slot>> {
        &self.buckets[Self::bucket_number(order)]
    }

    /// The table's own hash: within a bucket the leading bits of `order` are all alike, and the table wants its entropy
    /// there and at the other end.
    fn table_hash(order: u64) -> u64 {
        order.rotate_left(8) ^ order.rotate_left(40)
    }

    /// Calls `visit` with each position whose key may have this hash, until it returns something. The positions are
    /// copied out first, so no lock is held while `visit` reads the log.
    pub(super) fn find<T>(&self, hash: u64, mut visit: impl FnMut(Position) -> Option<T>) -> Option<T> {
        let order = self.order(hash);
        let mut first = None;
        let mut others = Vec::new();
        {
            let table = self.bucket(order).read();
            for slot in table.iter_hash(Self::table_hash(order)).filter(|slot| slot.order == order) {
                match first {
                    None => first = Some(slot.position),
                    Some(_) => others.push(slot.position),
                }
            }
        }
        first.and_then(&mut visit).or_else(|| others.into_iter().find_map(visit))
    }

    /// All slots of an order, which may be those of several keys.
    pub(super) fn slots_at(&self, order: u64) -> Vec<Scanned> {
        let table = self.bucket(order).read();
        let slots = table.iter_hash(Self::table_hash(order)).filter(|slot| slot.order == order);
        slots.map(|slot| Scanned { order, position: slot.position }).collect()
    }

    /// Whether a key with this hash is at `position`.
    pub(super) fn points_at(&self, hash: u64, position: Position) -> bool {
        let order = self.order(hash);
        let same = |slot: &Slot| slot.order == order && slot.position == position;
        self.bucket(order).read().find(Self::table_hash(order), same).is_some()
    }

    /// Points the key that is at `old` (`None`: a new key) at `new`.
    pub(super) fn put(&self, hash: u64, old: Option<Position>, new: Position) {
        if let Some(old) = old {
            assert!(self.relocate(hash, old, new), "only the writer changes the index, and it has just found the slot");
            return;
        }
        let order = self.order(hash);
        let mut table = self.bucket(order).write();
        let before = table.allocation_size();
        table
            .insert_unique(Self::table_hash(order), Slot { order, position: new }, |slot| Self::table_hash(slot.order));
        // A table only ever grows, and its old memory is gone by now.
        self.table_bytes.fetch_add((table.allocation_size() - before) as u64, Ordering::Relaxed);
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Points the key that is at `old` at `new`, if one is. Returns whether one was.
    pub(super) fn relocate(&self, hash: u64, old: Position, new: Position) -> bool {
        let order = self.order(hash);
        let mut table = self.bucket(order).write();
        let found = table.find_mut(Self::table_hash(order), |slot| slot.order == order && slot.position == old);
        match found {
            Some(slot) => {
                slot.position = new;
                true
            }
            None => false,
        }
    }

    /// Removes the slot that points at `position`. Returns whether there was one.
    pub(super) fn remove(&self, hash: u64, position: Position) -> bool {
        let order = self.order(hash);
        let mut table = self.bucket(order).write();
        let found = table.find_entry(Self::table_hash(order), |slot| slot.order == order && slot.position == position);
        let Ok(slot) = found else { return false };
        slot.remove();
        self.keys.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Fills a bucket that is still empty with all of its slots; its table is made as large as they need, once.
    pub(super) fn load(&self, bucket: usize, slots: impl ExactSizeIterator<Item = Scanned>) {
        let mut table = self.buckets[bucket].write();
        assert!(table.is_empty(), "a bucket is loaded once, before anything else is put into it");
        let (count, before) = (slots.len() as u64, table.allocation_size());
        *table = HashTable::with_capacity(slots.len());
        for Scanned { order, position } in slots {
            assert_eq!(Self::bucket_number(order), bucket, "a slot's order names its bucket");
            let slot = Slot { order, position };
            table.insert_unique(Self::table_hash(order), slot, |slot| Self::table_hash(slot.order));
        }
        let after = table.allocation_size();
        self.table_bytes.fetch_add(after as u64, Ordering::Relaxed);
        self.table_bytes.fetch_sub(before as u64, Ordering::Relaxed);
        self.keys.fetch_add(count, Ordering::Relaxed);
    }

    /// Hands out all slots in order, bucket by bucket. Costs about 30 ns per slot, most of it for putting them in order.
    pub(super) fn for_each_bucket(&self, mut visit: impl FnMut(&[Scanned])) {
        let mut slots = Vec::new();
        for bucket in &self.buckets {
            slots.clear();
            let table = bucket.read();
            slots.extend(table.iter().map(|slot| Scanned { order: slot.order, position: slot.position }));
            drop(table);
            slots.sort_unstable();
            visit(&slots);
        }
    }

    /// The next slots from `from` on, in order: at least `limit` of them unless the bucket or the index ends first, and
    /// always all slots that share the last one's order, so that the next page can begin behind it. Also says where the
    /// next page begins. One bucket's slots are looked at, so a page costs at most about 1/185 of the index.
    pub(super) fn scan(&self, from: u64, limit: usize) -> (Vec<Scanned>, Option<u64>) {
        let bucket_number = Self::bucket_number(from);
        let mut slots: Vec<Scanned> = self.buckets[bucket_number]
            .read()
            .iter()
            .filter(|slot| slot.order >= from)
            .map(|slot| Scanned { order: slot.order, position: slot.position })
            .collect();
        slots.sort_unstable();
        let mut end = slots.len().min(limit.max(1));
        while end > 0 && end < slots.len() && slots[end].order == slots[end - 1].order {
            end += 1;
        }
        let next = match slots.get(end) {
            Some(slot) => Some(slot.order),
            None => STARTS.get(bucket_number + 1).copied(),
        };
        slots.truncate(end);
        (slots, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::hash::hash64;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    fn positions(index: &Index, hash: u64) -> Vec<Position> {
        let mut all = Vec::new();
        index.find(hash, |position| -> Option<()> {
            all.push(position);
            None
        });
        all
    }

    #[test]
    fn colliding_keys_each_keep_their_slot() {
        let index = Index::new(2);
        for key in 0..64 {
            index.put(hash64(&[key]), None, at(u32::from(key)));
        }
        assert_eq!(index.keys(), 64);
        for key in 0..64 {
            assert!(positions(&index, hash64(&[key])).contains(&at(u32::from(key))));
        }
        index.put(hash64(&[7]), Some(at(7)), at(1007));
        assert!(index.remove(hash64(&[8]), at(8)));
        assert!(!index.remove(hash64(&[8]), at(8)), "it is gone");
        assert_eq!(index.keys(), 63);
        assert!(positions(&index, hash64(&[7])).contains(&at(1007)));
        assert!(!positions(&index, hash64(&[7])).contains(&at(7)));
        assert!(!positions(&index, hash64(&[8])).contains(&at(8)));
    }

    #[test]
    fn a_slot_moves_only_from_where_it_points() {
        let index = Index::new(2);
        let hash = hash64(b"key");
        index.put(hash, None, at(1));
        index.put(hash, None, at(2));
        assert!(index.relocate(hash, at(1), at(3)));
        assert!(!index.relocate(hash, at(1), at(4)), "it does not point there any more");
        assert!(index.points_at(hash, at(3)) && index.points_at(hash, at(2)) && !index.points_at(hash, at(1)));
        assert_eq!((index.slots_at(index.order(hash)).len(), index.keys()), (2, 2));
    }

    #[test]
    fn knows_what_its_tables_take() {
        let allocated =
            |index: &Index| -> u64 { index.buckets.iter().map(|bucket| bucket.read().allocation_size() as u64).sum() };
        let (grown, loaded) = (Index::new(64), Index::new(64));
        let empty = grown.bytes();
        for key in 0..20_000_u32 {
            grown.put(hash64(&key.to_le_bytes()), None, at(key));
        }
        assert_eq!(grown.bytes(), empty + allocated(&grown));
        let mut slots = Vec::new();
        grown.for_each_bucket(|bucket| slots.extend_from_slice(bucket));
        assert!(slots.is_sorted() && slots.len() == 20_000);
        for bucket in slots.chunk_by(|a, b| Index::bucket_number(a.order) == Index::bucket_number(b.order)) {
            loaded.load(Index::bucket_number(bucket[0].order), bucket.iter().copied());
        }
        assert_eq!(loaded.bytes(), empty + allocated(&loaded));
        assert_eq!(loaded.keys(), 20_000);
        assert!(loaded.bytes() <= grown.bytes() && loaded.bytes() >= 20_000 * 16);
        for key in 0..20_000_u32 {
            assert!(loaded.points_at(hash64(&key.to_le_bytes()), at(key)));
        }
    }

    #[test]
    fn each_order_is_in_the_bucket_that_begins_at_or_before_it() {
        assert!(STARTS.is_sorted_by(|one, next| one < next));
        for (bucket, &start) in STARTS.iter().enumerate() {
            assert_eq!(Index::bucket_number(start), bucket);
            assert_eq!(Index::bucket_number(start.wrapping_sub(1)), bucket.checked_sub(1).unwrap_or(BUCKETS - 1));
        }
        let width = |bucket: usize| STARTS.get(bucket + 1).copied().unwrap_or(u64::MAX) - STARTS[bucket];
        let growth = width(BUCKETS - 1) as f64 / width(0) as f64;
        assert!((1.99..2.0).contains(&growth), "the last bucket is {growth} times as wide as the first");
    }

    #[test]
    fn a_key_takes_about_as_much_however_many_there_are() {
        let index = Index::new(64);
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for key in 1..=800_000_u64 {
            index.put(hash64(&key.to_le_bytes()), None, at(key as u32));
            // Two doublings.
            if key >= 200_000 && key % 10_000 == 0 {
                let per_key = index.bytes() as f64 / key as f64;
                (least, most) = (least.min(per_key), most.max(per_key));
            }
        }
        assert!(least > 26.0 && most < 30.0, "{least} to {most} bytes");
    }

    #[test]
    fn a_scan_meets_every_slot_once_in_order() {
        for hash_bits in [3, 12, 64] {
            let index = Index::new(hash_bits);
            for key in 0..2000_u32 {
                index.put(hash64(&key.to_le_bytes()), None, at(key));
            }
            let (mut met, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let (page, next) = index.scan(at, 7);
                assert!(next.is_none_or(|next| next > at));
                met.extend(page);
                from = next;
            }
            assert!(met.is_sorted_by_key(|slot| slot.order));
            let mut offsets: Vec<u32> = met.iter().map(|slot| slot.position.offset).collect();
            offsets.sort_unstable();
            assert_eq!(offsets, (0..2000).collect::<Vec<_>>(), "{hash_bits} bits");
        }
    }
}
