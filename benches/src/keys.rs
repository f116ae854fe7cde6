//! The keys of a run.

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::hash;

/// Bytes of the shortest key that can name each of `count` keys.
pub(crate) fn key_bytes_min(count: u32) -> usize {
    1 + (count - 1).checked_ilog10().unwrap_or(0) as usize + 1
}

/// The keys' numbers, ordered by the shard that each belongs to. The keys themselves are made when they are sent: that is
/// cheaper than sharing them between threads.
#[derive(Debug)]
pub(crate) struct KeySpace {
    key_bytes: usize,
    by_shard: Vec<u32>,
    /// Shard s has positions `starts[s]..starts[s + 1]` of `by_shard`.
    starts: Vec<u32>,
    /// Those below are the keys of shard s that are there to begin with: its positions are in the order of the numbers.
    initial_ends: Vec<u32>,
    initial: u32,
}

impl KeySpace {
    /// Lays out `count` keys of `key_bytes` each over `shards` shards; hashes each key once.
    pub(crate) fn new(count: u32, key_bytes: usize, shards: u16) -> Self {
        Self::with_room(count, count, key_bytes, shards)
    }

    /// As `new`; those from number `initial` on are inserted later.
    pub(crate) fn with_room(initial: u32, count: u32, key_bytes: usize, shards: u16) -> Self {
        assert!((1..=count).contains(&initial));
        assert!(count > 0 && key_bytes >= key_bytes_min(count));
        let mut text = BytesMut::with_capacity(key_bytes);
        let mut shard_of = |key: u32| {
            text.clear();
            put_key(&mut text, key, key_bytes);
            usize::from(hash::shard_of(&text, shards).0)
        };
        // A counting sort: once to count, once to place.
        let mut starts = vec![0u32; usize::from(shards) + 1];
        let shards_of_keys: Vec<u16> = (0..count).map(|key| shard_of(key) as u16).collect();
        shards_of_keys.iter().for_each(|&shard| starts[usize::from(shard) + 1] += 1);
        for shard in 0..usize::from(shards) {
            starts[shard + 1] += starts[shard];
        }
        let mut next = starts.clone();
        let mut by_shard = vec![0u32; count as usize];
        for (key, &shard) in shards_of_keys.iter().enumerate() {
            let position = &mut next[usize::from(shard)];
            by_shard[*position as usize] = key as u32;
            *position += 1;
        }
        let end_of = |shard: usize| {
            let (start, end) = (starts[shard], starts[shard + 1]);
            start + by_shard[start as usize..end as usize].partition_point(|&key| key < initial) as u32
        };
        let initial_ends = (0..usize::from(shards)).map(end_of).collect();
        Self { key_bytes, by_shard, starts, initial_ends, initial }
    }

    pub(crate) fn count(&self) -> u32 {
        self.by_shard.len() as u32
    }

    pub(crate) fn shards(&self) -> usize {
        self.starts.len() - 1
    }

    /// The positions of a shard's keys.
    pub(crate) fn positions_of(&self, shard: usize) -> std::ops::Range<u32> {
        self.starts[shard]..self.starts[shard + 1]
    }

    /// The positions of those of its keys that are there to begin with.
    pub(crate) fn initial_of(&self, shard: usize) -> std::ops::Range<u32> {
        self.starts[shard]..self.initial_ends[shard]
    }

    /// How many keys are there to begin with.
    pub(crate) fn initial(&self) -> u32 {
        self.initial
    }

    /// The shard of the key at a position.
    pub(crate) fn shard_at(&self, position: u32) -> usize {
        self.starts.partition_point(|&start| start <= position) - 1
    }

    /// The key's number at a position.
    pub(crate) fn key_at(&self, position: u32) -> u32 {
        self.by_shard[position as usize]
    }

    /// Bytes of each key.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Appends the key's bytes.
    pub(crate) fn put(&self, key: u32, out: &mut BytesMut) {
        put_key(out, key, self.key_bytes);
    }

    /// The key's bytes. `scratch` is reused, so that no memory is allocated once the last key it gave was dropped.
    pub(crate) fn bytes_of(&self, key: u32, scratch: &mut BytesMut) -> Bytes {
        put_key(scratch, key, self.key_bytes);
        scratch.split().freeze()
    }
}

/// `k`, then the number with leading zeros.
pub(crate) fn put_key(out: &mut BytesMut, key: u32, key_bytes: usize) {
    let start = out.len();
    out.put_u8(b'k');
    out.put_bytes(b'0', key_bytes - 1);
    let mut rest = key;
    for digit in out[start + 1..].iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_number_padded_to_its_size() {
        let keys = KeySpace::new(1000, 16, 4);
        let mut scratch = BytesMut::new();
        assert_eq!(keys.bytes_of(0, &mut scratch), "k000000000000000");
        assert_eq!(keys.bytes_of(907, &mut scratch), "k000000000000907");
        assert_eq!((key_bytes_min(1), key_bytes_min(10), key_bytes_min(11)), (2, 2, 3));
        assert_eq!(KeySpace::new(11, 3, 1).bytes_of(10, &mut scratch), "k10");
    }

    #[test]
    fn each_key_stands_once_and_under_its_shard() {
        let keys = KeySpace::new(5000, 8, 16);
        let mut scratch = BytesMut::new();
        let mut seen = vec![false; 5000];
        for shard in 0..keys.shards() {
            assert!(!keys.positions_of(shard).is_empty(), "5000 keys reach all of 16 shards");
            for position in keys.positions_of(shard) {
                let key = keys.key_at(position);
                assert!(!std::mem::replace(&mut seen[key as usize], true));
                assert_eq!(usize::from(hash::shard_of(&keys.bytes_of(key, &mut scratch), 16).0), shard);
            }
        }
        assert!(seen.iter().all(|&seen| seen));
    }
}
