//! Where a key lives on the ring. Clients and nodes must agree on this for ever, so it is part of the protocol.

use crate::types::ShardId;

/// The part of a key that decides its shard: the bytes between the first `{` and the next `}` if there are any, else the
/// whole key. As in Redis Cluster, so that keys which share a tag share a shard.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = find(key, b'{') else { return key };
    let rest = &key[open + 1..];
    match find(rest, b'}') {
        Some(0) | None => key,
        Some(close) => &rest[..close],
    }
}

/// Where a byte comes first. `contains` looks at several bytes at a time, `position` at one, and a key may be long.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    const CHUNK_BYTES: usize = 64;
    let (number, chunk) = bytes.chunks(CHUNK_BYTES).enumerate().find(|(_, chunk)| chunk.contains(&wanted))?;
    chunk.iter().position(|&byte| byte == wanted).map(|at| number * CHUNK_BYTES + at)
}

/// A stable 64-bit hash: XXH3-64 with seed 0.
pub fn hash64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The name of [`ring_position`], as a stored ring map says it.
pub const RING_POSITION: &str = "slot14-xxh3";

/// Slots of Redis Cluster.
pub const SLOTS: u16 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 14;

/// The key's slot as Redis Cluster counts it: CRC-16/XMODEM of its tag, modulo [`SLOTS`].
pub fn slot(key: &[u8]) -> u16 {
    slot_of_tag(hash_tag(key))
}

fn slot_of_tag(tag: &[u8]) -> u16 {
    CRC16.checksum(tag) % SLOTS
}

/// The checksum of Redis Cluster.
const CRC16: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);

/// A key's position on the ring: its slot, and below that the hash of its tag. So whole slots lie side by side, and a client that
/// thinks in slots of Redis Cluster finds each of them in one shard, as long as there are no more shards than slots.
pub fn ring_position(key: &[u8]) -> u64 {
    let tag = hash_tag(key);
    position_of_tag(tag, hash64(tag))
}

/// [`ring_position`] of the keys with a tag, whose [`hash64`] is at hand.
pub fn position_of_tag(tag: &[u8], hash: u64) -> u64 {
    u64::from(slot_of_tag(tag)) << (u64::BITS - SLOT_BITS) | hash >> SLOT_BITS
}

/// The shard that owns a position of a ring of `shards` equal slices. `shards` is a power of two, at least 1.
pub fn shard_of_position(position: u64, shards: u16) -> ShardId {
    assert!(shards.is_power_of_two());
    // The top log2(shards) bits. The 128-bit product keeps shards = 1 (a shift by 64) correct.
    ShardId(((u128::from(position) * u128::from(shards)) >> 64) as u16)
}

/// The shard that owns a slot, of `shards` that are no more than there are slots.
pub fn shard_of_slot(slot: u16, shards: u16) -> ShardId {
    shard_of_position(u64::from(slot) << (u64::BITS - SLOT_BITS), shards)
}

/// The shard that owns a key.
pub fn shard_of(key: &[u8], shards: u16) -> ShardId {
    shard_of_position(ring_position(key), shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_redis_cluster() {
        for (key, tag) in [
            ("plain", "plain"),
            ("{user1}.name", "user1"),
            ("a{b}c", "b"),
            ("{}x", "{}x"),
            ("{open", "{open"),
            ("{a}{b}", "a"),
            ("x{{a}}", "{a"),
            ("", ""),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn tags_are_found_wherever_they_are() {
        for open in 0..200 {
            for length in [1, 63, 64, 65, 130] {
                let key = [vec![b'a'; open], vec![b'{'], vec![b'b'; length], vec![b'}', b'}']].concat();
                assert_eq!(hash_tag(&key), vec![b'b'; length], "{length} bytes from {open} on");
            }
        }
    }

    #[test]
    fn hash_is_frozen() {
        // These figures are in docs/PROTOCOL.md. If one changes, every stored key has moved.
        assert_eq!(hash64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash64(b"kvorum"), 0x3584_d81b_35a9_6810);
        assert_eq!(shard_of(b"kvorum", 1), ShardId(0));
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // The check value of CRC-16/XMODEM, and what CLUSTER KEYSLOT answers.
        for (key, expected) in [("123456789", 0x31c3), ("foo", 12182), ("bar", 5061), ("{foo}.x", 12182), ("", 0)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
            assert_eq!(ring_position(key.as_bytes()) >> 50, u64::from(expected), "{key}");
        }
        assert_eq!(shard_of(b"foo", 4096).0, 12182 / 4, "whole slots lie in one shard");
    }

    #[test]
    fn shards_are_equal_slices() {
        assert_eq!(shard_of_position(0, 16), ShardId(0));
        assert_eq!(shard_of_position(u64::MAX, 16), ShardId(15));
        assert_eq!(shard_of_position(1 << 60, 16), ShardId(1));
        assert_eq!(shard_of_position((1 << 60) - 1, 16), ShardId(0));
    }
}
