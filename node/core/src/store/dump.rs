//! The index as bytes: the body of a hint, and the list of records of a snapshot.
//!
//! ```text
//!  0  slots     u64
//!  8  expiries  u64
//! 16  segments  u64
//! 24  per slot     order u64, position u64      in the order of a scan, then of position
//!     per expiry   log time u64, order u64      in the order of time, then of the scan; one for each key that expires
//!     per segment  number u64, live bytes u64   in the order of numbers
//! ```
//!
//! Integers are little-endian. Whoever keeps the bytes sees to their checksum and their format's version: a dump is only
//! of use with the base and the segments of the same moment.

use super::Store;
use super::index::{Index, Slot};
use crate::cost;
use crate::disk::Scratch;
use crate::log::Position;
use bytes::{BufMut, Bytes};
use kvorum_protocol::DecodeError;
use std::collections::BTreeMap;

const HEADER_BYTES: usize = 24;
/// Everything behind the header is pairs of numbers.
const PAIR_BYTES: usize = 16;

type Pair = [u8; PAIR_BYTES];

/// Where all records of a shard lay at one moment: 16 bytes per key. The records themselves stay where they are for as long
/// as somebody holds their segments.
#[derive(Clone, Debug)]
pub struct IndexDump {
    bytes: Bytes,
    slots: usize,
}

impl IndexDump {
    /// How many slots there are, one per key.
    pub fn len(&self) -> usize {
        self.slots
    }

    /// There are no keys.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Where the record of a slot lies, slots being numbered from 0 in the order of a scan. The record may have expired.
    pub fn position(&self, slot: usize) -> Option<Position> {
        (slot < self.slots).then(|| {
            let (pairs, _) = self.bytes[HEADER_BYTES..].as_chunks();
            Position::unpack(numbers(&pairs[slot]).1)
        })
    }

    /// The bytes that [`Store::load_index`] reads.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A dump in the making. How much of everything there will be is said at once; the pairs follow in the order of the format.
#[derive(Debug)]
pub(super) struct DumpWriter {
    out: Scratch,
    slots: usize,
    length: usize,
}

impl DumpWriter {
    pub(super) fn new(slots: usize, expiries: usize, segments: usize) -> Self {
        let length = HEADER_BYTES + PAIR_BYTES * (slots + expiries + segments);
        // As with any other memory: nothing goes on without.
        let mut out = Scratch::new(length).expect("the system has memory");
        out.write(|out| [slots, expiries, segments].into_iter().for_each(|count| out.put_u64_le(count as u64)));
        Self { out, slots, length }
    }

    pub(super) fn put(&mut self, pairs: impl IntoIterator<Item = (u64, u64)>) {
        let before = self.out.written();
        self.out.write(|out| {
            for (first, second) in pairs {
                out.put_u64_le(first);
                out.put_u64_le(second);
            }
        });
        cost::copied(self.out.written() - before);
    }

    /// # Panics
    /// If it was not given as many pairs as it was told of.
    pub(super) fn finish(self) -> IndexDump {
        assert_eq!(self.out.written(), self.length, "there are as many pairs as were counted");
        IndexDump { bytes: self.out.finish(), slots: self.slots }
    }
}

impl Store {
    /// The index, expiry and live bytes as they are now.
    #[cfg(any(test, feature = "testing"))]
    pub fn dump_index(&self) -> IndexDump {
        let live = self.reader.live.all();
        let mut out = DumpWriter::new(self.reader.index.keys() as usize, self.expiry.len(), live.len());
        self.reader.index.for_each_bucket(|bucket| out.put(bucket.iter().map(Slot::pair)));
        out.put(self.expiry.iter());
        out.put(live.into_iter().map(|(segment, live)| (segment.into(), live)));
        out.finish()
    }

    /// Fills the index, which must be empty, from [`IndexDump::bytes`]. Costs about 30 ns per key; reads no record.
    ///
    /// # Errors
    /// If the bytes are not a dump; the store is as it was then.
    ///
    /// # Panics
    /// If there are keys in the index.
    pub fn load_index(&mut self, dump: &[u8]) -> Result<(), DecodeError> {
        assert_eq!(self.reader.keys(), 0, "an index is loaded before anything is put into it");
        let Parts { slots, expiries, segments } = Parts::of(dump)?;
        check_order(slots.iter().map(numbers), "slots of an index dump")?;
        check_order(segments.iter().map(|pair| numbers(pair).0), "segments of an index dump")?;
        let mut live = BTreeMap::new();
        for pair in segments {
            let (number, bytes) = numbers(pair);
            let value = u32::try_from(number);
            let number = value.map_err(|_| DecodeError::UnknownValue { field: "segment", value: number })?;
            live.insert(number, bytes);
        }
        for bucket in slots.chunk_by(|one, next| bucket_of(one) == bucket_of(next)) {
            self.reader.index.load(bucket_of(&bucket[0]), bucket.iter().map(slot_of));
        }
        self.reader.live.set(live);
        self.expiry = expiries.iter().map(numbers).collect();
        self.reader.set_expiry_bytes(self.expiry.bytes());
        Ok(())
    }
}

/// The three lists of a dump.
struct Parts<'a> {
    slots: &'a [Pair],
    expiries: &'a [Pair],
    segments: &'a [Pair],
}

impl<'a> Parts<'a> {
    fn of(dump: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, pairs) = dump.split_at_checked(HEADER_BYTES).ok_or(DecodeError::Truncated)?;
        let (counts, _) = header.as_chunks();
        let count = |number: usize| usize::try_from(u64::from_le_bytes(counts[number])).unwrap_or(usize::MAX);
        let (pairs, rest) = pairs.as_chunks();
        let (slots, pairs) = pairs.split_at_checked(count(0)).ok_or(DecodeError::Truncated)?;
        let (expiries, pairs) = pairs.split_at_checked(count(1)).ok_or(DecodeError::Truncated)?;
        let (segments, pairs) = pairs.split_at_checked(count(2)).ok_or(DecodeError::Truncated)?;
        match pairs.len() * PAIR_BYTES + rest.len() {
            0 => Ok(Parts { slots, expiries, segments }),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

fn numbers(pair: &Pair) -> (u64, u64) {
    let (numbers, _) = pair.as_chunks();
    (u64::from_le_bytes(numbers[0]), u64::from_le_bytes(numbers[1]))
}

fn slot_of(pair: &Pair) -> Slot {
    let (order, position) = numbers(pair);
    Slot { order, position: Position::unpack(position) }
}

fn bucket_of(pair: &Pair) -> usize {
    Index::bucket_number(numbers(pair).0)
}

fn check_order<T: PartialOrd>(mut items: impl Iterator<Item = T>, field: &'static str) -> Result<(), DecodeError> {
    let Some(mut last) = items.next() else { return Ok(()) };
    for (number, item) in (1..).zip(items) {
        if item <= last {
            return Err(DecodeError::UnknownValue { field, value: number });
        }
        last = item;
    }
    Ok(())
}
