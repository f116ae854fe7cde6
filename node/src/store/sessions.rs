//! What is remembered of clients' writes, so that a retried one takes effect once.
//!
//! The table is part of the replicated state: it changes only by applied entries, in log order, and so is the same on
//! every replica. (Ongaro's thesis, section 6.3.)

use super::replies::Replies;
use crate::log::operations::{RECORDS_MAX, Remembered, SessionRecord};
use crate::seeded::{Bug, planted};
use bytes::BufMut;
use hashlink::LinkedHashMap;
use hashlink::linked_hash_map::Entry;
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::DEADLINE_MS_MAX;
use kvorum_protocol::{ClientId, DecodeError, LogIndex, WriteId};
use xxhash_rust::xxh3::Xxh3;

/// Most answers remembered per client and shard. A client must not have more unanswered writes than this.
const REPLIES_PER_SESSION_MAX: usize = 4096;
/// Most bytes of remembered answers per client and shard, as [`Remembered::bytes`] counts them; the newest is kept
/// whatever its size. Only clients that ask for large previous values meet it.
const REPLY_BYTES_PER_SESSION_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of remembered answers of one shard; past it the least recently used session goes.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most sessions of one shard; past it the least recently used goes.
const SESSIONS_MAX: usize = 65_536;
/// A session that was not used for this long, on the table's clock, may go.
const IDLE_MS_MAX: u64 = 60 * 60 * 1000;
/// The table's clock follows log time from write to write, but by no more than this at once: log time jumps when a leader
/// with another wall clock takes over, and no session grows old by that.
const CLOCK_STEP_MS_MAX: u64 = 60 * 1000;
/// While a session that was in use has been dropped for want of room within this time, on the table's clock, nothing is
/// taken for granted about retries: it exceeds every deadline, so that none of them comes later.
const RETRIES_COME_WITHIN_MS: u64 = 2 * DEADLINE_MS_MAX as u64;

const _: () =
    assert!(IDLE_MS_MAX > RETRIES_COME_WITHIN_MS, "nobody retries a write of a session that was idle so long");
/// Most sessions dropped for age by one applied write.
const EXPIRED_PER_WRITE_MAX: usize = 4;
/// Fewest bytes of an encoded session, one without answers.
const SESSION_BYTES_MIN: usize = 16 + 12 + 8 + 1 + 8 + 4;
/// Fewest bytes of an encoded answer, with its number.
const REPLY_BYTES_MIN: usize = 8 + 1 + 8;

/// What is known of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// It has not taken effect.
    New,
    /// It has, and this was the answer.
    Answered(Remembered),
    /// It is older than what is remembered: it may have taken effect.
    Forgotten,
}

#[derive(Debug, Default)]
struct Session {
    /// The entry, and the number of the use there.
    last_use: (LogIndex, u32),
    last_use_ms: u64,
    /// The write that began it, if the client may have had a session that was dropped shortly before.
    begun_in_doubt: Option<u64>,
    /// Nothing below is remembered.
    floor: u64,
    replies: Replies,
    /// Of `replies`.
    bytes: usize,
}

impl Session {
    /// See [`SessionTable::encode`].
    fn encode(&self, client: ClientId, out: &mut Vec<u8>) {
        out.uuid(client.0);
        out.put_u64_le(self.last_use.0.0);
        out.put_u32_le(self.last_use.1);
        out.put_u64_le(self.last_use_ms);
        out.option(self.begun_in_doubt, |out, began| out.put_u64_le(began));
        out.put_u64_le(self.floor);
        out.count(self.replies.len());
        for (sequence, reply) in self.replies.iter() {
            out.put_u64_le(*sequence);
            reply.encode(out);
        }
    }

    fn decode(reader: &mut Reader) -> Result<(ClientId, Session), DecodeError> {
        let client = reader.client_id()?;
        let mut session = Session {
            last_use: (LogIndex(reader.u64()?), reader.u32()?),
            last_use_ms: reader.u64()?,
            begun_in_doubt: reader.option("begun in doubt", Reader::u64)?,
            floor: reader.u64()?,
            ..Session::default()
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

    fn is_over_its_limits(&self) -> bool {
        self.replies.len() > REPLIES_PER_SESSION_MAX
            || (self.bytes > REPLY_BYTES_PER_SESSION_MAX && self.replies.len() > 1)
    }
}

/// The sessions of one shard.
#[derive(Debug, Default)]
pub struct SessionTable {
    /// In the order of their last use, the least recent first.
    sessions: LinkedHashMap<ClientId, Session>,
    uses_of_entry: (LogIndex, u32),
    any_dropped: bool,
    /// Milliseconds, from write to write; see [`CLOCK_STEP_MS_MAX`].
    clock_ms: u64,
    /// The log time of the last write.
    log_time_ms: u64,
    /// Until then retries may be of writes that were forgotten for want of room.
    doubtful_until_ms: u64,
    /// Of all remembered answers.
    bytes: usize,
}

impl SessionTable {
    /// What is known of a client's write.
    pub fn look_up(&self, client: ClientId, id: WriteId) -> Known {
        let WriteId { sequence, first_unanswered, retry } = id;
        match self.sessions.get(&client) {
            // A first attempt of a client without a session can't have taken effect before. A retry might have, in a
            // session that has since been dropped. If that was for age, the client has had answers since.
            None if retry && (self.is_doubtful() || (self.any_dropped && first_unanswered > 1)) => Known::Forgotten,
            None => Known::New,
            Some(session) => match session.replies.get(sequence) {
                Some(_) if planted(Bug::OnlyNewestAnswerRemembered) && !session.is_newest(sequence) => Known::New,
                Some(reply) => Known::Answered(reply.clone()),
                None if sequence < session.floor && !planted(Bug::ForgottenWriteAppliedAgain) => Known::Forgotten,
                // It may have taken effect in the session before. So may a copy that is called the first, if it is older
                // than what began this session: it may be late.
                None if self.is_doubtful() && session.begun_in_doubt.is_some_and(|began| retry || sequence < began) => {
                    Known::Forgotten
                }
                None => Known::New,
            },
        }
    }

    /// A session that was in use was dropped not long ago.
    fn is_doubtful(&self) -> bool {
        self.clock_ms < self.doubtful_until_ms
    }

    /// Hashes everything that replicas have in common, clients in the order of their last use.
    pub(super) fn digest(&self, hasher: &mut Xxh3) {
        for (client, session) in &self.sessions {
            let (index, number) = session.last_use;
            hasher.update(client.0.as_bytes());
            for part in
                [index.0, u64::from(number), session.last_use_ms, session.floor, session.begun_in_doubt.unwrap_or(0)]
            {
                hasher.update(&part.to_le_bytes());
            }
            for (sequence, reply) in session.replies.iter() {
                hasher.update(&sequence.to_le_bytes());
                hasher.update(format!("{reply:?}").as_bytes());
            }
        }
        for part in [self.any_dropped.into(), self.clock_ms, self.log_time_ms, self.doubtful_until_ms] {
            hasher.update(&part.to_le_bytes());
        }
    }

    /// Appends the whole table. Tables that are equal have equal bytes.
    ///
    /// ```text
    /// clock u64, log time u64, doubtful until u64, any dropped u8
    /// entry of the last use u64, its number there u32
    /// count u32, then per session, the least recently used first:
    ///   client u128 BE, entry of its last use u64, number there u32, its time u64
    ///   begun in doubt: 0 u8, or 1 u8 and u64
    ///   floor u64
    ///   count u32, then per answer, in the order of their numbers: sequence u64, kind u8, as in an operation entry
    /// ```
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.clock_ms);
        out.put_u64_le(self.log_time_ms);
        out.put_u64_le(self.doubtful_until_ms);
        Writer::bool(out, self.any_dropped);
        out.put_u64_le(self.uses_of_entry.0.0);
        out.put_u32_le(self.uses_of_entry.1);
        out.count(self.sessions.len());
        for (client, session) in &self.sessions {
            session.encode(*client, out);
        }
    }

    /// Reads what [`SessionTable::encode`] wrote. The bytes may have come from another node: whatever would break a
    /// table's own rules is refused.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut table = SessionTable {
            clock_ms: reader.u64()?,
            log_time_ms: reader.u64()?,
            doubtful_until_ms: reader.u64()?,
            any_dropped: reader.bool("any dropped")?,
            uses_of_entry: (LogIndex(reader.u64()?), reader.u32()?),
            ..SessionTable::default()
        };
        check(table.clock_ms <= table.log_time_ms, "clock of the sessions", table.clock_ms)?;
        check(table.uses_of_entry.1 as usize <= RECORDS_MAX, "uses of an entry", table.uses_of_entry.1.into())?;
        for _ in 0..reader.count("sessions", SESSIONS_MAX, SESSION_BYTES_MIN)? {
            let (client, session) = Session::decode(reader)?;
            let last_use = session.last_use;
            let follows = table.sessions.back().is_none_or(|(_, before)| before.last_use < last_use);
            check(follows && last_use <= table.uses_of_entry, "last use of a session", last_use.0.0)?;
            check(session.last_use_ms <= table.clock_ms, "time of a session", session.last_use_ms)?;
            table.bytes += session.bytes;
            let twice = table.sessions.insert(client, session).is_some();
            check(!twice, "client with two sessions", last_use.0.0)?;
        }
        Ok(table)
    }

    /// The last entry of which anything is remembered.
    pub(super) fn last_entry(&self) -> LogIndex {
        self.uses_of_entry.0
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
        let begun_in_doubt = self.is_doubtful().then_some(record.sequence);
        let session = match self.sessions.entry(record.client) {
            Entry::Occupied(mut entry) => {
                entry.to_back();
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(Session { begun_in_doubt, ..Session::default() }),
        };
        session.last_use = use_number;
        session.last_use_ms = now_ms;
        let bytes_before = session.bytes;
        session.insert(record.sequence, record.reply);
        session.raise_floor(record.first_unanswered);
        while session.is_over_its_limits() {
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
            if self.sessions.len() <= SESSIONS_MAX && idle_ms <= IDLE_MS_MAX {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Drops sessions until the table is within its bytes. What one write adds is what it drops, but for the size of a
    /// session.
    fn drop_heavy(&mut self) {
        while self.bytes > REPLY_BYTES_MAX && self.sessions.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, session)) = self.sessions.pop_front() else { return };
        self.any_dropped = true;
        self.bytes -= session.bytes;
        if self.clock_ms - session.last_use_ms < RETRIES_COME_WITHIN_MS {
            self.doubtful_until_ms = self.clock_ms.saturating_add(RETRIES_COME_WITHIN_MS);
        }
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
        SessionRecord { client: client(number), sequence, first_unanswered, reply }
    }

    /// The id of a write of which the client has heard nothing, although it has heard of all before it.
    fn retry(sequence: u64) -> WriteId {
        WriteId { sequence, first_unanswered: sequence, retry: true }
    }

    #[test]
    fn remembers_until_the_client_has_its_answer() {
        let mut table = SessionTable::default();
        assert_eq!(table.look_up(client(1), WriteId { retry: false, ..retry(1) }), Known::New);
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(1, 3, 1), LogIndex(1), 0);
        assert_eq!(table.look_up(client(1), retry(1)), Known::Answered(Remembered::Applied(Version(10))));
        assert_eq!(table.look_up(client(1), retry(2)), Known::New, "overtaken, never applied");
        table.remember(write(1, 4, 3), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), retry(1)), Known::Forgotten);
        assert_eq!(table.look_up(client(1), retry(3)), Known::Answered(Remembered::Applied(Version(30))));
        assert_eq!(table.look_up(client(2), retry(1)), Known::New, "nothing was ever dropped");
    }

    #[test]
    fn an_idle_session_goes_and_a_retry_is_told_so() {
        let mut table = SessionTable::default();
        table.remember(write(1, 5, 5), LogIndex(1), 0);
        let steps = IDLE_MS_MAX / CLOCK_STEP_MS_MAX;
        for step in 1..=steps {
            table.remember(write(2, step, 1), LogIndex(1 + step), step * CLOCK_STEP_MS_MAX);
        }
        assert_eq!(table.len(), 2);
        table.remember(write(2, steps + 1, 1), LogIndex(steps + 2), IDLE_MS_MAX + 1);
        assert_eq!(table.len(), 1);
        assert_eq!(table.look_up(client(1), retry(5)), Known::Forgotten);
        let first = WriteId { retry: false, ..retry(6) };
        assert_eq!(table.look_up(client(1), first), Known::New, "a first attempt needs no memory");
        assert_eq!(table.look_up(client(3), retry(1)), Known::New, "a client without an answer never had a session");
    }

    #[test]
    fn a_jump_of_log_time_makes_no_session_old() {
        let mut table = SessionTable::default();
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(2, 1, 1), LogIndex(2), 10 * IDLE_MS_MAX);
        assert!(matches!(table.look_up(client(1), retry(1)), Known::Answered(_)));
    }

    #[test]
    fn a_client_whose_session_was_dropped_for_want_of_room_does_not_write_twice() {
        let mut table = SessionTable::default();
        table.remember(write(1, 7, 7), LogIndex(1), 0);
        for number in 2..=SESSIONS_MAX as u128 + 1 {
            table.remember(write(number, 1, 1), LogIndex(number as u64), 0);
        }
        let of = |sequence| WriteId { sequence, first_unanswered: 7, retry: true };
        assert_eq!(table.look_up(client(1), of(7)), Known::Forgotten, "its session is gone");
        table.remember(write(1, 8, 7), LogIndex(1_000_000), 0);
        assert_eq!(table.look_up(client(1), of(7)), Known::Forgotten, "its new session knows no better");
        assert_eq!(table.look_up(client(1), of(9)), Known::Forgotten, "it may have been sent before");
        assert_eq!(table.look_up(client(1), of(100_000)), Known::Forgotten, "however far ahead it is");
        assert_eq!(table.look_up(client(1), WriteId { retry: false, ..of(9) }), Known::New);
        assert_eq!(table.look_up(client(1), WriteId { retry: false, ..of(7) }), Known::Forgotten, "it may be late");
        for step in 1..=RETRIES_COME_WITHIN_MS / CLOCK_STEP_MS_MAX {
            table.remember(write(1, 100 + step, 9), LogIndex(1_000_000 + step), step * CLOCK_STEP_MS_MAX);
        }
        assert_eq!(table.look_up(client(1), of(300)), Known::New, "nobody retries for so long");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut table = SessionTable::default();
        for sequence in 1..=REPLIES_PER_SESSION_MAX as u64 + 1 {
            table.remember(write(1, sequence, 1), LogIndex(sequence), 0);
        }
        assert_eq!(table.look_up(client(1), retry(1)), Known::Forgotten);
        assert!(matches!(table.look_up(client(1), retry(2)), Known::Answered(_)));
    }

    #[test]
    fn a_late_copy_of_a_write_that_was_given_up_is_not_remembered() {
        let mut table = SessionTable::default();
        table.remember(write(1, 10, 10), LogIndex(1), 0);
        table.remember(write(1, 5, 5), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), retry(5)), Known::Forgotten);
        assert!(matches!(table.look_up(client(1), retry(10)), Known::Answered(_)));
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
            previous: Some(Entry { value: "old".into(), version: Version(3), expires_at_ms: None }),
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
            "fa00000000000000fa0000000000000000000000000000000006000000000000",
            "0000000000020000000000000000000000000000000000000205000000000000",
            "0001000000640000000000000000080000000000000001000000090000000000",
            "0000005a00000000000000000000000000000000000000000000010600000000",
            "00000000000000fa000000000000000001000000000000000200000001000000",
            "00000000000a000000000000000200000000000000011d000000010700000000",
            "00000000000001030000000000000000030000006f6c64",
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
        assert!(changed(25, 4).is_err(), "a session was used after the last use");
        assert!(changed(40, 0xff).is_err(), "more sessions than there are bytes");
        assert!(changed(39, 0xff).is_err(), "more sessions than the limit");
        assert!(changed(56, 1).is_err(), "two sessions of one client");
        assert!(changed(57, 7).is_err(), "sessions out of order");
        assert!(changed(70, 1).is_err(), "a time to come");
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
                    for retry in [false, true] {
                        let id = WriteId { sequence, first_unanswered: sequence, retry };
                        let both = [&restored, &original].map(|table| table.look_up(client(who), id));
                        proptest::prop_assert_eq!(&both[0], &both[1]);
                    }
                }
            }
        }
    }

    /// What only a table that had to drop sessions holds.
    #[test]
    fn doubts_come_back() {
        let mut table = SessionTable::default();
        table.remember(write(1, 7, 7), LogIndex(1), 0);
        for number in 2..=SESSIONS_MAX as u128 + 1 {
            table.remember(write(number, 1, 1), LogIndex(number as u64), 0);
        }
        table.remember(write(1, 8, 7), LogIndex(1_000_000), 0);
        let restored = decoded(&encoded(&table)).unwrap();
        assert!(restored.any_dropped && restored.is_doubtful());
        assert_eq!(restored.sessions[&client(1)].begun_in_doubt, Some(8));
        assert_eq!(encoded(&restored), encoded(&table));
        assert_eq!(digest(&restored), digest(&table));
    }

    #[test]
    fn large_answers_are_bounded_by_their_bytes() {
        const VALUE_BYTES: usize = 1024 * 1024;
        let large = |number, sequence| {
            let value = bytes::Bytes::from(vec![0; VALUE_BYTES]);
            let result = WriteResult {
                status: WriteStatus::Applied,
                version: Version(sequence),
                ack: Ack::Committed,
                durability: Durability::Fsync,
                number: None,
                previous: Some(Entry { value, version: Version(1), expires_at_ms: None }),
            };
            SessionRecord { reply: Remembered::Write(Box::new(result)), ..write(number, sequence, 1) }
        };
        let mut table = SessionTable::default();
        for number in 1..=20 {
            for sequence in 1..=20 {
                table.remember(large(number, sequence), LogIndex(number as u64 * 100 + sequence), 0);
                let counted: usize = table.sessions.values().map(|session| session.bytes).sum();
                assert_eq!(table.bytes, counted);
                assert!(table.bytes <= REPLY_BYTES_MAX + REPLY_BYTES_PER_SESSION_MAX);
            }
        }
        assert!(matches!(table.look_up(client(20), retry(20)), Known::Answered(_)));
        assert_eq!(table.look_up(client(20), retry(1)), Known::Forgotten, "over the client's bytes");
        assert_eq!(table.look_up(client(1), retry(20)), Known::Forgotten, "over the shard's");
        table.remember(write(20, 21, 21), LogIndex(5000), 0);
        assert_eq!(table.sessions[&client(20)].bytes, Remembered::Applied(Version(1)).bytes());
    }
}
