//! What is remembered of clients' writes, so that a retried one takes effect once.
//!
//! The table is part of the replicated state: it changes only by applied entries, in log order, and so is the same on
//! every replica. (Ongaro's thesis, section 6.3.)
//!
//! Sessions are forgotten, for their age or for want of room, and a copy of a write may be on its way for longer than any
//! session lasts. So the table keeps one number of all sessions that it has dropped: the highest that any of them had used.
//! A write of an unknown client with a higher number can't have taken effect in a dropped session. One with a lower number
//! may have, and is not applied; its client sends it again under a higher number. No time enters into that.

mod capture;

use super::once::OnceLimits;
use super::replies::Replies;
use crate::limits::{NODE_SESSION_BYTES_MAX, SHARD_SESSION_BYTES_MAX, SHARD_SESSION_BYTES_MIN};
use crate::log::operations::RECORDS_MAX;
use crate::log::remembered::Remembered;
use crate::log::session_section::SessionRecord;
use crate::seeded::{Bug, planted};
use hashlink::LinkedHashMap;
use hashlink::linked_hash_map::Entry;
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::SEQUENCE_MAX;
use kvorum_protocol::{ClientId, DecodeError, LogIndex};
use xxhash_rust::xxh3::Xxh3;

/// Most answers remembered per client and shard. A client must not have more unanswered writes than this.
const REPLIES_PER_SESSION_MAX: usize = 4096;
/// One client's answers take this part of a shard's bytes at most, or what [`REPLIES_PER_SESSION_MAX`] plain ones take if that is more. The
/// newest is kept whatever its size, if the shard's bytes allow it. Only clients that ask for large previous values meet it.
const SHARE_OF_ONE_CLIENT: usize = 8;
/// What a session counts besides its answers: about what it takes in memory.
const SESSION_OVERHEAD_BYTES: usize = 256;
/// Most sessions of one shard.
const SESSIONS_MAX: usize = 65_536;
/// A session that was not used for this long, on the table's clock, may go.
const IDLE_MS_MAX: u64 = 60 * 60 * 1000;
/// The table's clock follows log time from write to write, but by no more than this at once: log time jumps when a leader
/// with another wall clock takes over, and no session grows old by that.
const CLOCK_STEP_MS_MAX: u64 = 60 * 1000;
/// Most sessions dropped for age by one applied write.
const EXPIRED_PER_WRITE_MAX: usize = 4;
/// Bytes of an encoded table without sessions.
const TABLE_HEAD_BYTES: usize = 8 + 8 + 8 + 12 + 4;
/// Fewest bytes of an encoded session, one without answers.
const SESSION_BYTES_MIN: usize = 16 + 12 + 8 + 8 + 4;
/// Fewest bytes of an encoded answer, with its number.
const REPLY_BYTES_MIN: usize = 8 + 1 + 8;

/// A shard takes no number above its log time in milliseconds, and a day, times this: no client that counts gets there, and
/// whatever numbers are used, higher ones are left for those who come later.
const SEQUENCES_PER_MS: u64 = 1 << 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The highest number that a write may have at this log time.
pub fn sequence_max(log_time_ms: u64) -> u64 {
    log_time_ms.saturating_add(DAY_MS).saturating_mul(SEQUENCES_PER_MS)
}

/// How much a shard remembers of its clients. All replicas of a shard must have the same limits, and keep them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Most sessions; past it the least recently used goes.
    pub sessions: usize,
    /// Most bytes of sessions and their answers, as [`Remembered::bytes`] counts those; past it the least recently used session goes,
    /// in the end the very one that was written: what is not remembered is not applied again either.
    pub bytes: usize,
    /// How much is remembered under one-shot names besides.
    pub once: OnceLimits,
}

impl SessionLimits {
    /// The limits of each shard of a cluster that has so many: a share of what a node may remember in all.
    ///
    /// A limit is part of the replicated state machine, for replicas that dropped different sessions would not be the same. So
    /// it must not depend on what a node has open, nor on its configuration. The number of a cluster's shards is the same everywhere, in every
    /// ring map, and never changes. A node holds each shard once at most, so it stays within its bytes.
    pub const fn of_shards(shards: usize) -> Self {
        let share = NODE_SESSION_BYTES_MAX / if shards == 0 { 1 } else { shards };
        let bytes = if share > SHARD_SESSION_BYTES_MIN { share } else { SHARD_SESSION_BYTES_MIN };
        Self {
            sessions: SESSIONS_MAX,
            bytes: if bytes < SHARD_SESSION_BYTES_MAX { bytes } else { SHARD_SESSION_BYTES_MAX },
            once: OnceLimits::of_shards(shards),
        }
    }

    /// Most bytes of one client's answers.
    fn of_one_client(&self) -> usize {
        const PLAIN: usize = REPLIES_PER_SESSION_MAX * Remembered::OVERHEAD_BYTES;
        (self.bytes / SHARE_OF_ONE_CLIENT).max(PLAIN)
    }
}

impl Default for SessionLimits {
    /// Those of a cluster of few shards.
    fn default() -> Self {
        Self::of_shards(1)
    }
}

const _: () = assert!(
    SHARD_SESSION_BYTES_MIN >= SESSION_OVERHEAD_BYTES + (REPLIES_PER_SESSION_MAX + 1) * Remembered::OVERHEAD_BYTES,
    "a client that has sent as much as it may is remembered, however small the share"
);

/// What is known of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KnownWrite {
    /// It has not taken effect.
    New,
    /// It has, and this was the answer.
    Answered(Remembered),
    /// It may have taken effect, and what came of it is not remembered.
    Forgotten {
        /// Of its client, whatever has this number or a higher one either has not taken effect or is remembered.
        floor: u64,
    },
}

#[derive(Clone, Debug, Default)]
struct WriteHistory {
    /// The entry, and the number of the use there.
    last_use: (LogIndex, u32),
    last_use_ms: u64,
    /// Nothing below is remembered, and may have taken effect nevertheless.
    floor: u64,
    replies: Replies,
    /// Of `replies`.
    bytes: usize,
}

impl WriteHistory {
    /// See [`SessionTable::encode`].
    fn encode(&self, client: ClientId, out: &mut impl Writer) {
        self.encode_head(client, out);
        for (sequence, reply) in self.replies.iter() {
            out.put_u64_le(*sequence);
            reply.encode(out);
        }
    }

    fn decode(reader: &mut Reader) -> Result<(ClientId, Self), DecodeError> {
        let client = reader.client_id()?;
        let mut session = Self {
            last_use: (LogIndex(reader.u64()?), reader.u32()?),
            last_use_ms: reader.u64()?,
            floor: reader.u64()?,
            ..Self::default()
        };
        for _ in 0..reader.count("answers of a session", REPLIES_PER_SESSION_MAX, REPLY_BYTES_MIN)? {
            let sequence = reader.u64()?;
            let follows = session.replies.newest().is_none_or(|newest| newest < sequence);
            check(follows && sequence >= session.floor, "sequence of an answer", sequence)?;
            session.insert(sequence, Remembered::decode(reader)?);
        }
        Ok((client, session))
    }

    fn insert(&mut self, sequence: u64, reply: Remembered) {
        self.bytes += reply.bytes();
        self.bytes -= self.replies.insert(sequence, reply).map_or(0, |before| before.bytes());
    }

    /// The highest number that this session has seen. Its floor may be higher than all numbers that it remembers.
    fn highest(&self) -> u64 {
        self.replies.newest().unwrap_or(0).max(self.floor.saturating_sub(1))
    }

    fn is_newest(&self, sequence: u64) -> bool {
        self.replies.newest() == Some(sequence)
    }

    /// Forgets everything below `floor`, or below a floor that was higher already: a copy of a write that was given up
    /// may come after it.
    fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while let Some(forgotten) = self.replies.pop_below(self.floor) {
            self.bytes -= forgotten.bytes();
        }
    }

    fn is_over(&self, bytes_max: usize) -> bool {
        self.replies.len() > REPLIES_PER_SESSION_MAX || (self.bytes > bytes_max && self.replies.len() > 1)
    }
}

/// The sessions of one shard.
#[derive(Debug, Default)]
pub struct SessionTable {
    limits: SessionLimits,
    /// In the order of their last use, the least recent first.
    sessions: LinkedHashMap<ClientId, WriteHistory>,
    uses_of_entry: (LogIndex, u32),
    /// The highest number that any session had seen that was dropped, 0 if none was.
    dropped: u64,
    /// Milliseconds, from write to write; see [`CLOCK_STEP_MS_MAX`].
    clock_ms: u64,
    /// The log time of the last write.
    log_time_ms: u64,
    /// Of all sessions and remembered answers.
    bytes: usize,
    /// See [`capture`].
    captures: Vec<capture::SessionCapture>,
}

impl SessionTable {
    /// A table that remembers so much.
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How much it remembers.
    pub(super) fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Has it remember so much from now on.
    pub(super) fn set_limits(&mut self, limits: SessionLimits) {
        self.limits = limits;
    }

    /// What is known of a client's write. Whether it is called a retry makes no difference: a copy that is called the first
    /// may be late.
    pub fn look_up(&self, client: ClientId, sequence: u64) -> KnownWrite {
        match self.sessions.get(&client) {
            None if sequence <= self.dropped && !planted(Bug::DroppedSessionWritesAgain) => {
                KnownWrite::Forgotten { floor: self.dropped.saturating_add(1) }
            }
            None => KnownWrite::New,
            Some(session) => match session.replies.get(sequence) {
                Some(_) if planted(Bug::OnlyNewestAnswerRemembered) && !session.is_newest(sequence) => KnownWrite::New,
                Some(reply) => KnownWrite::Answered(reply.clone()),
                None if sequence < session.floor && !planted(Bug::ForgottenWriteAppliedAgain) => {
                    KnownWrite::Forgotten { floor: session.floor }
                }
                None => KnownWrite::New,
            },
        }
    }

    /// Hashes everything that replicas have in common, clients in the order of their last use.
    pub(super) fn digest(&self, hasher: &mut Xxh3) {
        for (client, session) in &self.sessions {
            let (index, number) = session.last_use;
            hasher.update(client.0.as_bytes());
            for part in [index.0, u64::from(number), session.last_use_ms, session.floor] {
                hasher.update(&part.to_le_bytes());
            }
            for (sequence, reply) in session.replies.iter() {
                hasher.update(&sequence.to_le_bytes());
                hasher.update(format!("{reply:?}").as_bytes());
            }
        }
        for part in [self.dropped, self.clock_ms, self.log_time_ms] {
            hasher.update(&part.to_le_bytes());
        }
    }

    /// Appends the whole table. Tables that are equal have equal bytes.
    ///
    /// ```text
    /// clock u64, log time u64, highest number of a dropped session u64
    /// entry of the last use u64, its number there u32
    /// count u32, then per session, the least recently used first:
    ///   client u128 BE, entry of its last use u64, number there u32, its time u64
    ///   floor u64
    ///   count u32, then per answer, in the order of their numbers: sequence u64, kind u8, as in an operation entry
    /// ```
    pub(super) fn encode(&self, out: &mut impl Writer) {
        self.encode_head(out);
        for (client, session) in &self.sessions {
            session.encode(*client, out);
        }
    }

    /// All but the sessions.
    fn encode_head(&self, out: &mut impl Writer) {
        out.put_u64_le(self.clock_ms);
        out.put_u64_le(self.log_time_ms);
        out.put_u64_le(self.dropped);
        out.put_u64_le(self.uses_of_entry.0.0);
        out.put_u32_le(self.uses_of_entry.1);
        out.count(self.sessions.len());
    }

    /// Reads what [`SessionTable::encode`] wrote. The bytes may have come from another node: whatever would break a
    /// table's own rules is refused.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut table = Self {
            clock_ms: reader.u64()?,
            log_time_ms: reader.u64()?,
            dropped: reader.u64()?,
            uses_of_entry: (LogIndex(reader.u64()?), reader.u32()?),
            ..Self::default()
        };
        check(table.clock_ms <= table.log_time_ms, "clock of the sessions", table.clock_ms)?;
        check(table.dropped <= SEQUENCE_MAX, "number of a dropped session", table.dropped)?;
        check(table.uses_of_entry.1 as usize <= RECORDS_MAX, "uses of an entry", table.uses_of_entry.1.into())?;
        for _ in 0..reader.count("sessions", SESSIONS_MAX, SESSION_BYTES_MIN)? {
            let (client, session) = WriteHistory::decode(reader)?;
            let last_use = session.last_use;
            let follows = table.sessions.back().is_none_or(|(_, before)| before.last_use < last_use);
            check(follows && last_use <= table.uses_of_entry, "last use of a session", last_use.0.0)?;
            check(session.last_use_ms <= table.clock_ms, "time of a session", session.last_use_ms)?;
            table.bytes += SESSION_OVERHEAD_BYTES + session.bytes;
            let twice = table.sessions.insert(client, session).is_some();
            check(!twice, "client with two sessions", last_use.0.0)?;
        }
        Ok(table)
    }

    /// The last entry of which anything is remembered.
    pub(super) fn last_entry(&self) -> LogIndex {
        self.uses_of_entry.0
    }

    /// What it counts as: no more than its limit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Remembers an applied write. `index` and `log_time_ms` are its entry's.
    pub(super) fn remember(&mut self, record: SessionRecord, index: LogIndex, log_time_ms: u64) {
        let step_ms = log_time_ms.saturating_sub(self.log_time_ms).min(CLOCK_STEP_MS_MAX);
        self.clock_ms = self.clock_ms.saturating_add(step_ms);
        self.log_time_ms = self.log_time_ms.max(log_time_ms);
        let now_ms = self.clock_ms;
        let use_number = self.next_use(index);
        let bytes_max = self.limits.of_one_client();
        self.put_aside(record.client);
        let session = match self.sessions.entry(record.client) {
            Entry::Occupied(mut entry) => {
                entry.to_back();
                entry.into_mut()
            }
            // Its client may have had a session that was dropped, even by this very entry.
            Entry::Vacant(entry) => {
                let floor = if self.dropped == 0 { 0 } else { self.dropped.saturating_add(1) };
                self.bytes += SESSION_OVERHEAD_BYTES;
                entry.insert(WriteHistory { floor, ..WriteHistory::default() })
            }
        };
        session.last_use = use_number;
        session.last_use_ms = now_ms;
        let bytes_before = session.bytes;
        session.insert(record.sequence, record.reply);
        session.raise_floor(record.first_unanswered);
        while session.is_over(bytes_max) {
            let oldest = session.replies.oldest().expect("it holds more than one");
            session.raise_floor(oldest + 1);
        }
        self.bytes = self.bytes - bytes_before + session.bytes;
        self.drop_old();
        self.drop_heavy();
    }

    fn next_use(&mut self, index: LogIndex) -> (LogIndex, u32) {
        let (last_index, last_number) = self.uses_of_entry;
        self.uses_of_entry = if last_index == index { (index, last_number + 1) } else { (index, 0) };
        self.uses_of_entry
    }

    fn drop_old(&mut self) {
        for _ in 0..EXPIRED_PER_WRITE_MAX {
            let Some((_, oldest)) = self.sessions.front() else { return };
            let idle_ms = self.clock_ms - oldest.last_use_ms;
            if self.sessions.len() <= self.limits.sessions && idle_ms <= IDLE_MS_MAX {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Drops sessions until the table is within its bytes. What one write adds is what it drops, but for the size of a
    /// session.
    fn drop_heavy(&mut self) {
        while self.bytes > self.limits.bytes && !self.sessions.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((client, _)) = self.sessions.front() {
            let client = *client;
            self.put_aside(client);
        }
        let Some((_, session)) = self.sessions.pop_front() else { return };
        self.dropped = self.dropped.max(session.highest());
        self.bytes -= SESSION_OVERHEAD_BYTES + session.bytes;
    }
}

fn check(holds: bool, field: &'static str, value: u64) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::UnknownValue { field, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Ack, Durability, Entry, Version, WriteResult, WriteStatus};
    use uuid::Uuid;

    fn client(number: u128) -> ClientId {
        ClientId(Uuid::from_u128(number))
    }

    fn write(number: u128, sequence: u64, first_unanswered: u64) -> SessionRecord {
        let reply = Remembered::Applied(Version(sequence * 10));
        SessionRecord { client: client(number), sequence, first_unanswered, reply, once: None }
    }

    #[test]
    fn remembers_until_the_client_has_its_answer() {
        let mut table = SessionTable::default();
        assert_eq!(table.look_up(client(1), 1), KnownWrite::New);
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(1, 3, 1), LogIndex(1), 0);
        assert_eq!(table.look_up(client(1), 1), KnownWrite::Answered(Remembered::Applied(Version(10))));
        assert_eq!(table.look_up(client(1), 2), KnownWrite::New, "overtaken, never applied");
        table.remember(write(1, 4, 3), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), 1), KnownWrite::Forgotten { floor: 3 });
        assert_eq!(table.look_up(client(1), 3), KnownWrite::Answered(Remembered::Applied(Version(30))));
        assert_eq!(table.look_up(client(2), 1), KnownWrite::New, "nothing was ever dropped");
    }

    #[test]
    fn an_idle_session_goes_and_whatever_it_remembered_is_never_applied_again() {
        let mut table = SessionTable::default();
        table.remember(write(1, 5, 5), LogIndex(1), 0);
        let steps = IDLE_MS_MAX / CLOCK_STEP_MS_MAX;
        for step in 1..=steps {
            table.remember(write(2, step, 1), LogIndex(1 + step), step * CLOCK_STEP_MS_MAX);
        }
        assert_eq!(table.len(), 2);
        table.remember(write(2, steps + 1, 1), LogIndex(steps + 2), IDLE_MS_MAX + 1);
        assert_eq!(table.len(), 1);
        assert_eq!(table.look_up(client(1), 5), KnownWrite::Forgotten { floor: 6 });
        assert_eq!(table.look_up(client(1), 6), KnownWrite::New, "a number that no dropped session had");
        assert_eq!(table.look_up(client(3), 1), KnownWrite::Forgotten { floor: 6 }, "nobody knows that it had none");
        assert_eq!(table.look_up(client(3), 6), KnownWrite::New);
        assert!(
            matches!(table.look_up(client(2), 1), KnownWrite::Answered(_)),
            "a session that lasts knows all of its writes"
        );
    }

    #[test]
    fn a_jump_of_log_time_makes_no_session_old() {
        let mut table = SessionTable::default();
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(2, 1, 1), LogIndex(2), 10 * IDLE_MS_MAX);
        assert!(matches!(table.look_up(client(1), 1), KnownWrite::Answered(_)));
    }

    /// A small table, full of sessions of other clients, in which client 1 had one with writes 7 and 9.
    fn crowded() -> SessionTable {
        let mut table = SessionTable::new(SessionLimits { sessions: 3, ..SessionLimits::default() });
        table.remember(write(1, 7, 7), LogIndex(1), 0);
        table.remember(write(1, 9, 7), LogIndex(1), 0);
        for number in 2..=4 {
            table.remember(write(number, 1, 1), LogIndex(number as u64), 0);
        }
        assert!(!table.sessions.contains_key(&client(1)));
        table
    }

    #[test]
    fn late_copies_of_writes_in_a_dropped_session_do_not_take_effect_again() {
        let mut table = crowded();
        for sequence in [7, 9] {
            assert_eq!(table.look_up(client(1), sequence), KnownWrite::Forgotten { floor: 10 });
        }
        assert_eq!(table.look_up(client(1), 10), KnownWrite::New);
        table.remember(write(1, 10, 10), LogIndex(10), 0);
        table.remember(write(1, 8, 7), LogIndex(10), 0);
        for sequence in 7..10 {
            assert_eq!(
                table.look_up(client(1), sequence),
                KnownWrite::Forgotten { floor: 10 },
                "its new session knows no better"
            );
        }
        table.remember(write(5, 20, 20), LogIndex(11), 20 * IDLE_MS_MAX);
        assert_eq!(table.look_up(client(1), 9), KnownWrite::Forgotten { floor: 10 }, "however late it is");
    }

    /// A write that was found to be new before its client's session was dropped by the same entry.
    #[test]
    fn a_session_that_goes_in_the_middle_of_an_entry_is_not_begun_below_what_it_had() {
        let mut table = crowded();
        table.remember(write(1, 8, 8), LogIndex(9), 0);
        assert_eq!(table.look_up(client(1), 8), KnownWrite::Forgotten { floor: 10 });
        assert_eq!(table.look_up(client(1), 9), KnownWrite::Forgotten { floor: 10 });
        assert_eq!(table.look_up(client(1), 10), KnownWrite::New);
        assert_eq!(digest(&decoded(&encoded(&table)).unwrap()), digest(&table));
    }

    #[test]
    fn numbers_that_nobody_counts_to_leave_higher_ones() {
        assert!(sequence_max(0) > 1 << 40);
        assert!(sequence_max(1_764_000_000_001) > sequence_max(1_764_000_000_000) + 1_000_000);
        assert!(sequence_max(4_000_000_000_000) <= u64::MAX / 2, "until 2096 the wire's limit is above");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut table = SessionTable::default();
        for sequence in 1..=REPLIES_PER_SESSION_MAX as u64 + 1 {
            table.remember(write(1, sequence, 1), LogIndex(sequence), 0);
        }
        assert_eq!(table.look_up(client(1), 1), KnownWrite::Forgotten { floor: 2 });
        assert!(matches!(table.look_up(client(1), 2), KnownWrite::Answered(_)));
    }

    #[test]
    fn a_late_copy_of_a_write_that_was_given_up_is_not_remembered() {
        let mut table = SessionTable::default();
        table.remember(write(1, 10, 10), LogIndex(1), 0);
        table.remember(write(1, 5, 5), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), 5), KnownWrite::Forgotten { floor: 10 });
        assert!(matches!(table.look_up(client(1), 10), KnownWrite::Answered(_)));
    }

    fn encoded(table: &SessionTable) -> Vec<u8> {
        let mut out = Vec::new();
        table.encode(&mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<SessionTable, DecodeError> {
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(bytes));
        let table = SessionTable::decode(&mut reader)?;
        reader.finish()?;
        Ok(table)
    }

    fn digest(table: &SessionTable) -> u64 {
        let mut hasher = Xxh3::new();
        table.digest(&mut hasher);
        hasher.digest()
    }

    fn sample() -> SessionTable {
        let mut table = SessionTable::default();
        table.remember(write(1, 1, 1), LogIndex(5), 100);
        table.remember(write(2, 9, 8), LogIndex(5), 100);
        let result = WriteResult {
            status: WriteStatus::ConditionFailed,
            version: Version(7),
            ack: Ack::Committed,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: Some(Entry { value: "old".into(), version: Version(3), expires_at_ms: None }),
            receipt: None,
            existed: None,
            replayed: false,
        };
        let reply = Remembered::Write(Box::new(result));
        table.remember(SessionRecord { reply, ..write(1, 2, 1) }, LogIndex(6), 250);
        table
    }

    /// docs/LOG_FORMAT.md describes these bytes; manifests on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let hex: String = encoded(&sample()).iter().map(|byte| format!("{byte:02x}")).collect();
        let frozen = concat!(
            "fa00000000000000fa0000000000000000000000000000000600000000000000",
            "0000000002000000000000000000000000000000000000020500000000000000",
            "0100000064000000000000000800000000000000010000000900000000000000",
            "005a000000000000000000000000000000000000000000000106000000000000",
            "0000000000fa0000000000000001000000000000000200000001000000000000",
            "00000a000000000000000200000000000000011d000000010700000000000000",
            "00000001030000000000000000030000006f6c64",
        );
        assert_eq!(hex, frozen);
    }

    #[test]
    fn every_truncation_and_contradiction_is_refused() {
        let bytes = encoded(&sample());
        assert_eq!(digest(&decoded(&bytes).unwrap()), digest(&sample()));
        for end in 0..bytes.len() {
            assert!(decoded(&bytes[..end]).is_err(), "cut at {end}");
        }
        let changed = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            assert_ne!(std::mem::replace(&mut changed[at], value), value);
            decoded(&changed).map(|_| ())
        };
        assert!(changed(0, 0xff).is_err(), "the clock is ahead of log time");
        assert!(changed(24, 4).is_err(), "a session was used after the last use");
        assert!(changed(39, 0xff).is_err(), "more sessions than there are bytes");
        assert!(changed(38, 0xff).is_err(), "more sessions than the limit");
        assert!(changed(55, 1).is_err(), "two sessions of one client");
        assert!(changed(56, 7).is_err(), "sessions out of order");
        assert!(changed(69, 1).is_err(), "a time to come");
    }

    proptest::proptest! {
        /// A table that was put away and taken out again goes on as if it never had been.
        #[test]
        fn goes_on_after_coming_back(
            writes in proptest::collection::vec((1..6_u128, 1..40_u64, 0..10_u64, 0..2_u64, 0..90_000_u64), 1..120),
            cut in 0..120_usize,
        ) {
            let mut original = SessionTable::default();
            let mut restored = None;
            let (mut index, mut time_ms) = (1, 1_000);
            for (number, (who, sequence, unanswered, entries, passed_ms)) in writes.iter().copied().enumerate() {
                index += entries;
                time_ms += passed_ms * 40;
                if number == cut.min(writes.len() - 1) {
                    restored = Some(decoded(&encoded(&original)).unwrap());
                }
                let record = write(who, sequence, sequence.saturating_sub(unanswered));
                if let Some(restored) = &mut restored {
                    restored.remember(record.clone(), LogIndex(index), time_ms);
                }
                original.remember(record, LogIndex(index), time_ms);
            }
            let restored = restored.unwrap();
            proptest::prop_assert_eq!(encoded(&restored), encoded(&original));
            proptest::prop_assert_eq!(digest(&restored), digest(&original));
            proptest::prop_assert_eq!(restored.bytes, original.bytes);
            for who in 1..6 {
                for sequence in 1..42 {
                    let both = [&restored, &original].map(|table| table.look_up(client(who), sequence));
                    proptest::prop_assert_eq!(&both[0], &both[1]);
                }
            }
        }
    }

    /// What only a table that had to drop sessions holds.
    #[test]
    fn what_was_dropped_comes_back() {
        let mut table = crowded();
        table.remember(write(1, 12, 10), LogIndex(1_000_000), 0);
        let restored = decoded(&encoded(&table)).unwrap();
        assert_eq!((restored.dropped, restored.sessions[&client(1)].floor), (9, 10));
        assert_eq!(encoded(&restored), encoded(&table));
        assert_eq!(digest(&restored), digest(&table));
    }

    proptest::proptest! {
        /// Writes come in any order, as often as they like, into a table that forgets two sessions of three: none takes
        /// effect twice, whatever was forgotten meanwhile.
        #[test]
        fn no_write_takes_effect_twice(
            copies in proptest::collection::vec((1..7_u128, 1..12_u64, 0..3_u64), 1..200),
        ) {
            let mut table = SessionTable::new(SessionLimits { sessions: 2, bytes: 1_100, ..SessionLimits::default() });
            let mut applied = std::collections::BTreeSet::new();
            for (index, entry) in (1..).zip(copies.chunks(3)) {
                // A leader decides about all writes of an entry before the first of them counts.
                let mut new: Vec<_> = entry.to_vec();
                new.retain(|(who, sequence, _)| table.look_up(client(*who), *sequence) == KnownWrite::New);
                new.sort_unstable();
                new.dedup_by_key(|(who, sequence, _)| (*who, *sequence));
                for (who, sequence, unanswered) in new {
                    proptest::prop_assert!(applied.insert((who, sequence)), "{} {} took effect twice", who, sequence);
                    table.remember(write(who, sequence, sequence.saturating_sub(unanswered)), LogIndex(index), 0);
                }
            }
        }
    }

    fn large(number: u128, sequence: u64, value_bytes: usize) -> SessionRecord {
        let result = WriteResult {
            status: WriteStatus::Applied,
            version: Version(sequence),
            ack: Ack::Committed,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: Some(Entry { value: vec![0; value_bytes].into(), version: Version(1), expires_at_ms: None }),
            receipt: None,
            existed: None,
            replayed: false,
        };
        SessionRecord { reply: Remembered::Write(Box::new(result)), ..write(number, sequence, 1) }
    }

    fn assert_counted(table: &SessionTable) {
        let counted: usize = table.sessions.values().map(|session| SESSION_OVERHEAD_BYTES + session.bytes).sum();
        assert_eq!(table.bytes, counted);
        assert!(table.bytes <= table.limits.bytes, "{} of {}", table.bytes, table.limits.bytes);
        let head = encoded(table).len();
        assert!(head <= table.encoded_bytes_max(), "{head} bytes, and room for {}", table.encoded_bytes_max());
    }

    #[test]
    fn large_answers_are_bounded_by_their_bytes() {
        const VALUE_BYTES: usize = 64 * 1024;
        let mut table = SessionTable::new(SessionLimits::of_shards(64));
        for number in 1..=20 {
            for sequence in 1..=20 {
                let sequence = number as u64 * 100 + sequence;
                table.remember(large(number, sequence, VALUE_BYTES), LogIndex(sequence), 0);
                assert_counted(&table);
            }
        }
        assert!(matches!(table.look_up(client(20), 2020), KnownWrite::Answered(_)));
        assert_eq!(table.look_up(client(20), 2001), KnownWrite::Forgotten { floor: 2006 }, "over the client's bytes");
        assert!(matches!(table.look_up(client(1), 120), KnownWrite::Forgotten { .. }), "over the shard's");
        table.remember(write(20, 2021, 2021), LogIndex(5000), 0);
        assert_eq!(table.sessions[&client(20)].bytes, Remembered::Applied(Version(1)).bytes());
    }

    #[test]
    fn shards_share_what_a_node_may_remember() {
        for (shards, bytes) in
            [(1, SHARD_SESSION_BYTES_MAX), (64, NODE_SESSION_BYTES_MAX / 64), (4_096, SHARD_SESSION_BYTES_MIN)]
        {
            let limits = SessionLimits::of_shards(shards);
            assert_eq!(limits.bytes, bytes, "{shards} shards");
            assert!(limits.bytes * shards <= NODE_SESSION_BYTES_MAX.max(shards * SHARD_SESSION_BYTES_MIN));
            assert!(limits.of_one_client() < limits.bytes);
        }
    }

    /// The least share, and more clients and answers than fit: sessions count although what they remember is little.
    #[test]
    fn a_table_keeps_to_its_share() {
        let mut table = SessionTable::new(SessionLimits::of_shards(4_096));
        for number in 1..=10_000 {
            table.remember(write(number, number as u64, 1), LogIndex(number as u64), 0);
        }
        assert_counted(&table);
        assert!((2_900..3_000).contains(&table.len()), "{} clients", table.len());
        // As many as a client may have under way are remembered, all of them.
        for sequence in 1..=REPLIES_PER_SESSION_MAX as u64 {
            table.remember(write(20_000, 10_000 + sequence, 1), LogIndex(20_000 + sequence), 0);
        }
        assert_counted(&table);
        assert!(matches!(table.look_up(client(20_000), 10_001), KnownWrite::Answered(_)));
        // One answer that is more than the share is not remembered, and its write not applied again either.
        table.remember(large(7, 50_000, 2 * SHARD_SESSION_BYTES_MIN), LogIndex(30_000), 0);
        assert_counted(&table);
        assert!(table.is_empty());
        assert_eq!(table.look_up(client(7), 50_000), KnownWrite::Forgotten { floor: 50_001 });
        assert_eq!(table.look_up(client(7), 50_001), KnownWrite::New);
        let restored = decoded(&encoded(&table)).unwrap();
        assert_eq!(encoded(&restored), encoded(&table));
    }
}
