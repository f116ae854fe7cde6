//! The one-shot names that a shard has seen lately, with what was answered under each: so that a write which comes again from
//! somebody else is answered and not done again.
//!
//! It stands beside the sessions, whose room it must not take: a name is used by one write, a session by all of a client's. It is
//! part of the replicated state, and changes only by applied entries, in log order.
//!
//! Names go in the order in which they came: the oldest first, for age or for want of room. Nothing remains of one that has gone.
//! A write that comes with it later is a new write. (A session leaves a floor behind; a name has no order that allowed for one.)

use crate::cost;
use crate::disk::Scratch;
use crate::limits::{NODE_ONCE_BYTES_MAX, SHARD_ONCE_BYTES_MAX, SHARD_ONCE_BYTES_MIN, SHARD_SESSION_BYTES_MAX};
use crate::log::once::OnceRecord;
use crate::seeded::{Bug, planted};
use crate::store::capture::{CaptureId, CaptureSlice};
use hashbrown::HashMap;
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::SNAPSHOT_HEADER_BYTES_MAX;
use kvorum_protocol::{DecodeError, OnceId};
use std::collections::VecDeque;
use xxhash_rust::xxh3::Xxh3;

/// Most names of one shard.
const IDS_MAX: usize = 65_536;
/// A name is remembered for this long, on the memory's clock.
const AGE_MS_MAX: u64 = 120 * 1000;
/// The memory's clock follows log time from entry to entry, but by no more than this at once: log time jumps when all replicas
/// were down, and no name grows old by that.
const CLOCK_STEP_MS_MAX: u64 = 10 * 1000;
/// Most names dropped for age by one entry.
const EXPIRED_PER_ENTRY_MAX: usize = 512;
/// What a name counts besides its answer: more than it takes in memory, and more than its encoded form.
const ID_OVERHEAD_BYTES: usize = 112;
/// Bytes of an encoded memory without names.
const HEAD_BYTES: usize = 8 + 4;
/// Fewest bytes of an encoded name.
const ID_BYTES_MIN: usize = 8 + 16 + 8 + 1 + 4;

const _: () = assert!(
    SHARD_SESSION_BYTES_MAX + SHARD_ONCE_BYTES_MAX < SNAPSHOT_HEADER_BYTES_MAX as usize / 8 * 7,
    "the state of a shard fits the header of a snapshot"
);
const _: () = assert!(
    SHARD_ONCE_BYTES_MAX >= IDS_MAX * (ID_OVERHEAD_BYTES + 144),
    "where there is room, as many plain writes as names are remembered"
);

/// How much a shard remembers of one-shot names. All replicas of a shard must have the same limits, and keep them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnceLimits {
    /// Most names.
    pub ids: usize,
    /// Most bytes of names and answers.
    pub bytes: usize,
}

impl OnceLimits {
    /// The limits of each shard of a cluster that has so many: see [`super::SessionLimits::of_shards`].
    pub const fn of_shards(shards: usize) -> Self {
        let share = NODE_ONCE_BYTES_MAX / if shards == 0 { 1 } else { shards };
        let bytes = if share > SHARD_ONCE_BYTES_MIN { share } else { SHARD_ONCE_BYTES_MIN };
        Self { ids: IDS_MAX, bytes: if bytes < SHARD_ONCE_BYTES_MAX { bytes } else { SHARD_ONCE_BYTES_MAX } }
    }
}

impl Default for OnceLimits {
    /// Those of a cluster of few shards.
    fn default() -> Self {
        Self::of_shards(1)
    }
}

#[derive(Clone, Debug)]
struct Kept {
    /// When it came, on the memory's clock.
    at_ms: u64,
    record: OnceRecord,
}

impl Kept {
    fn bytes(&self) -> usize {
        ID_OVERHEAD_BYTES + self.record.answer.bytes()
    }

    fn encode(&self, out: &mut impl Writer) {
        out.put_u64_le(self.at_ms);
        self.record.encode(out);
    }
}

/// The one-shot names of one shard.
#[derive(Debug, Default)]
pub struct OnceMemory {
    limits: OnceLimits,
    /// In the order in which they came.
    kept: VecDeque<Kept>,
    /// How many came before the first of them.
    gone: u64,
    /// How many had come before each name. Looked up by name only.
    places: HashMap<OnceId, u64>,
    clock_ms: u64,
    bytes: usize,
    captures: Vec<OnceCapture>,
}

/// The memory as of one moment, written down slice by slice while it changes: see [`super::capture`]. Names are written in their
/// order. One that goes before its turn is put aside.
#[derive(Debug)]
struct OnceCapture {
    id: CaptureId,
    clock_ms: u64,
    /// The names that are still to be written, by how many had come before each, but for those that were put aside.
    next: u64,
    end: u64,
    aside: VecDeque<Kept>,
    has_head: bool,
}

impl OnceMemory {
    /// Has it remember so much from now on.
    pub(super) fn set_limits(&mut self, limits: OnceLimits) {
        self.limits = limits;
    }

    /// What was asked for and answered under a name, as an entry sees it whose log time is so much later than that of the last one.
    pub fn look_up(&self, id: OnceId, later_ms: u64) -> Option<&OnceRecord> {
        let place = *self.places.get(&id)?;
        let kept = &self.kept[(place - self.gone) as usize];
        let now_ms = self.clock_ms.saturating_add(later_ms.min(CLOCK_STEP_MS_MAX));
        (now_ms - kept.at_ms <= AGE_MS_MAX).then_some(&kept.record)
    }

    /// How many names are remembered.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// None is remembered.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What it counts as: no more than its limit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// An entry is applied, with a log time that is so much later than that of the one before.
    pub(super) fn advance(&mut self, later_ms: u64) {
        self.clock_ms = self.clock_ms.saturating_add(later_ms.min(CLOCK_STEP_MS_MAX));
        for _ in 0..EXPIRED_PER_ENTRY_MAX {
            if self.kept.front().is_none_or(|oldest| self.clock_ms - oldest.at_ms <= AGE_MS_MAX) {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Remembers a write of the entry that is applied.
    pub(super) fn remember(&mut self, record: OnceRecord) {
        let kept = Kept { at_ms: self.clock_ms, record };
        self.push(kept);
        while self.kept.len() > self.limits.ids || self.bytes > self.limits.bytes {
            self.drop_oldest();
        }
    }

    fn push(&mut self, kept: Kept) {
        // One that is too old to be found may still be there: it goes in its turn.
        self.places.insert(kept.record.id, self.gone + self.kept.len() as u64);
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
    }

    fn drop_oldest(&mut self) {
        let Some(kept) = self.kept.pop_front() else { return };
        let (place, id) = (self.gone, kept.record.id);
        self.gone += 1;
        self.bytes -= kept.bytes();
        if self.places.get(&id) == Some(&place) {
            self.places.remove(&id);
        }
        for capture in self.captures.iter_mut().filter(|capture| capture.next == place && place < capture.end) {
            capture.aside.push_back(kept.clone());
            capture.next += 1;
        }
    }

    /// Hashes everything that replicas have in common.
    pub(super) fn digest(&self, hasher: &mut Xxh3) {
        hasher.update(&self.clock_ms.to_le_bytes());
        for kept in &self.kept {
            hasher.update(format!("{kept:?}").as_bytes());
        }
    }

    /// Most bytes that [`OnceMemory::encode`] writes now.
    pub(super) fn encoded_bytes_max(&self) -> usize {
        HEAD_BYTES + self.bytes
    }

    /// Appends the whole memory. Memories that are equal have equal bytes.
    ///
    /// ```text
    /// clock u64
    /// count u32, then per name, the oldest first: when it came u64 on that clock, then as in an operation entry
    /// ```
    pub(super) fn encode(&self, out: &mut impl Writer) {
        encode_head(self.clock_ms, self.kept.len(), out);
        self.kept.iter().for_each(|kept| kept.encode(out));
    }

    /// Reads what [`OnceMemory::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut memory = Self { clock_ms: reader.u64()?, ..Self::default() };
        for _ in 0..reader.count("one-shot names", IDS_MAX, ID_BYTES_MIN)? {
            let kept = Kept { at_ms: reader.u64()?, record: OnceRecord::decode(reader)? };
            let follows = memory.kept.back().is_none_or(|before| before.at_ms <= kept.at_ms);
            if !follows || kept.at_ms > memory.clock_ms {
                return Err(DecodeError::UnknownValue { field: "time of a one-shot name", value: kept.at_ms });
            }
            memory.push(kept);
        }
        Ok(memory)
    }

    /// Begins to write down what [`OnceMemory::encode`] would write now.
    pub(super) fn begin_capture(&mut self, id: CaptureId) {
        let end = self.gone + self.kept.len() as u64;
        let leaves_out = !self.is_empty() && planted(Bug::OnceIdNotRemembered);
        let next = if leaves_out { end } else { self.gone };
        let (clock_ms, aside) = (self.clock_ms, VecDeque::new());
        self.captures.push(OnceCapture { id, clock_ms, next, end, aside, has_head: false });
    }

    /// Writes about so many bytes more behind what `out` holds. Returns how many of `bytes` are left once it is whole.
    pub(super) fn go_on_capture(&mut self, id: CaptureId, out: &mut Scratch, bytes: usize) -> Option<usize> {
        let at = self.captures.iter().position(|capture| capture.id == id).expect("the capture is under way");
        let capture = &mut self.captures[at];
        if !capture.has_head {
            capture.has_head = true;
            let count = (capture.end - capture.next) as usize + capture.aside.len();
            out.write(|out| encode_head(capture.clock_ms, count, out));
        }
        let (mut left, began_at) = (bytes, out.written());
        while !capture.aside.is_empty() || capture.next < capture.end {
            // However little it is, something is done.
            if left == 0 && out.written() > began_at {
                return None;
            }
            let before = out.written();
            match capture.aside.pop_front() {
                Some(kept) => out.write(|out| kept.encode(out)),
                None => {
                    let kept = &self.kept[(capture.next - self.gone) as usize];
                    out.write(|out| kept.encode(out));
                    capture.next += 1;
                }
            }
            let written = out.written() - before;
            cost::copied(written);
            left = left.saturating_sub(written.max(CaptureSlice::SESSION_BYTES));
        }
        self.captures.remove(at);
        Some(left)
    }
}

fn encode_head(clock_ms: u64, count: usize, out: &mut impl Writer) {
    out.put_u64_le(clock_ms);
    out.count(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::once::OnceAnswer;
    use kvorum_protocol::{Ack, AtomicResult, Durability, Version, WriteResult, WriteStatus};
    use uuid::Uuid;

    fn id(number: u128) -> OnceId {
        OnceId(Uuid::from_u128(number))
    }

    fn result(version: u64) -> WriteResult {
        WriteResult {
            status: WriteStatus::Applied,
            version: Version(version),
            ack: Ack::Committed,
            durability: Durability::Fsync,
            number: Some(-1),
            decimal: None,
            previous: None,
            receipt: None,
            existed: Some(true),
            replayed: false,
        }
    }

    fn record(number: u128) -> OnceRecord {
        let answer = OnceAnswer::Write(Box::new(result(number as u64)));
        OnceRecord { id: id(number), digest: 7, answer }
    }

    fn encoded(memory: &OnceMemory) -> Vec<u8> {
        let mut out = Vec::new();
        memory.encode(&mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<OnceMemory, DecodeError> {
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(bytes));
        let memory = OnceMemory::decode(&mut reader)?;
        reader.finish()?;
        Ok(memory)
    }

    fn knows(memory: &OnceMemory, number: u128) -> bool {
        memory.look_up(id(number), 0).is_some_and(|found| *found == record(number))
    }

    #[test]
    fn a_name_is_remembered_for_its_time() {
        let mut memory = OnceMemory::default();
        memory.advance(5);
        memory.remember(record(1));
        for _ in 0..AGE_MS_MAX / 1000 {
            memory.advance(1000);
        }
        assert!(knows(&memory, 1));
        assert_eq!(memory.look_up(id(1), 1), None, "an entry of a later time sees it no more");
        memory.advance(1);
        assert!(memory.is_empty());
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn a_jump_of_log_time_makes_no_name_old() {
        let mut memory = OnceMemory::default();
        memory.advance(1_764_000_000_000);
        memory.remember(record(1));
        memory.advance(10 * 365 * 24 * 3600 * 1000);
        assert!(knows(&memory, 1));
    }

    #[test]
    fn the_oldest_goes_for_want_of_room() {
        let mut memory = OnceMemory::default();
        memory.set_limits(OnceLimits { ids: 3, ..OnceLimits::default() });
        (1..=4).for_each(|number| memory.remember(record(number)));
        assert_eq!((knows(&memory, 1), knows(&memory, 2), knows(&memory, 4), memory.len()), (false, true, true, 3));
        let each = memory.bytes() / 3;
        memory.set_limits(OnceLimits { ids: 9, bytes: 2 * each });
        memory.remember(record(5));
        assert_eq!((knows(&memory, 3), knows(&memory, 4), knows(&memory, 5)), (false, true, true));
        memory.set_limits(OnceLimits { ids: 9, bytes: each - 1 });
        memory.remember(record(6));
        assert!(memory.is_empty(), "what has no room is not remembered");
    }

    /// The old one is still there, since few go for their age with each entry.
    #[test]
    fn a_name_may_be_used_again_once_it_is_forgotten() {
        let mut memory = OnceMemory::default();
        for number in 0..2 * EXPIRED_PER_ENTRY_MAX as u128 {
            memory.remember(record(number));
        }
        (0..=AGE_MS_MAX / CLOCK_STEP_MS_MAX).for_each(|_| memory.advance(CLOCK_STEP_MS_MAX));
        let last = 2 * EXPIRED_PER_ENTRY_MAX as u128 - 1;
        assert_eq!((memory.len(), memory.look_up(id(last), 0)), (EXPIRED_PER_ENTRY_MAX, None));
        memory.remember(record(last));
        assert!(knows(&memory, last));
        memory.advance(0);
        assert_eq!((memory.len(), knows(&memory, last)), (1, true));
    }

    #[test]
    fn bytes_come_back_as_they_were_and_nothing_else_is_taken() {
        let mut memory = OnceMemory::default();
        memory.advance(100);
        memory.remember(record(1));
        let failed = AtomicResult::ConditionFailed { position: 1, version: Version(9), replayed: false };
        for (number, atomic) in [(2, failed), (3, AtomicResult::Applied(vec![result(4), result(5)]))] {
            memory.advance(1);
            memory.remember(OnceRecord { id: id(number), digest: 1, answer: OnceAnswer::Atomic(Box::new(atomic)) });
        }
        let bytes = encoded(&memory);
        assert!(bytes.len() <= memory.encoded_bytes_max());
        let again = decoded(&bytes).unwrap();
        assert_eq!((encoded(&again), again.bytes(), again.len()), (bytes.clone(), memory.bytes(), 3));
        for end in 0..bytes.len() {
            assert!(decoded(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut late = bytes;
        late[0] = 0;
        assert!(decoded(&late).is_err(), "a name from the future");
    }

    /// Whatever comes and goes meanwhile.
    #[test]
    fn a_capture_is_the_memory_at_its_begin() {
        for slice in [1, 100, 1000] {
            let mut memory = OnceMemory::default();
            memory.set_limits(OnceLimits { ids: 20, ..OnceLimits::default() });
            (0..20).for_each(|number| memory.remember(record(number)));
            let expected = encoded(&memory);
            let capture = CaptureId::default();
            memory.begin_capture(capture);
            let mut out = Scratch::new(memory.encoded_bytes_max()).unwrap();
            let mut number = 20;
            while memory.go_on_capture(capture, &mut out, slice).is_none() {
                (0..3).for_each(|more| memory.remember(record(number + more)));
                number += 3;
                memory.advance(1000);
            }
            assert_eq!(out.finish(), expected, "slices of {slice}");
            assert!(memory.captures.is_empty());
        }
    }
}
