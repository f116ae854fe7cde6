//! What is remembered of clients' writes, so that a retried one takes effect once.
//!
//! The table is part of the replicated state: it changes only by applied entries, in log order, and so is the same on
//! every replica. (Ongaro's thesis, section 6.3.)

use crate::log::operations::{Remembered, SessionRecord};
use kvorum_protocol::{ClientId, LogIndex};
use std::collections::{BTreeMap, HashMap};

/// Most answers remembered per client and shard. A client must not have more unanswered writes than this.
const REPLIES_PER_SESSION_MAX: usize = 4096;
/// Most bytes of remembered answers per client and shard, as [`Remembered::bytes`] counts them; the newest is kept
/// whatever its size. Only clients that ask for large previous values meet it.
const REPLY_BYTES_PER_SESSION_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of remembered answers of one shard; past it the least recently used session goes.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most sessions of one shard; past it the least recently used goes.
const SESSIONS_MAX: usize = 65_536;
/// A session that was not used for this long, in log time, may go.
const IDLE_MS_MAX: u64 = 60 * 60 * 1000;
/// Most sessions dropped for age by one applied write.
const EXPIRED_PER_WRITE_MAX: usize = 4;

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
    /// Key in `SessionTable::by_use`.
    last_use: (LogIndex, u32),
    last_use_ms: u64,
    /// Nothing below is remembered.
    floor: u64,
    replies: BTreeMap<u64, Remembered>,
    /// Of `replies`.
    bytes: usize,
}

impl Session {
    fn insert(&mut self, sequence: u64, reply: Remembered) {
        self.bytes += reply.bytes();
        self.bytes -= self.replies.insert(sequence, reply).map_or(0, |before| before.bytes());
    }

    /// Forgets everything below `floor`, or below a floor that was higher already: a copy of a write that was given up
    /// may come after it.
    fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        if self.replies.first_key_value().is_some_and(|(&oldest, _)| oldest < self.floor) {
            let kept = self.replies.split_off(&self.floor);
            let forgotten = std::mem::replace(&mut self.replies, kept);
            self.bytes -= forgotten.values().map(Remembered::bytes).sum::<usize>();
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
    // Looked up by key only; its order never reaches an effect.
    sessions: HashMap<ClientId, Session>,
    by_use: BTreeMap<(LogIndex, u32), ClientId>,
    uses_of_entry: (LogIndex, u32),
    any_dropped: bool,
    /// Of all remembered answers.
    bytes: usize,
}

impl SessionTable {
    /// What is known of a client's write. `retry`: the client says that it has sent it before.
    pub fn look_up(&self, client: ClientId, sequence: u64, retry: bool) -> Known {
        match self.sessions.get(&client) {
            // A first attempt of a client without a session can't have taken effect before. A retry might have, in a
            // session that has since been dropped.
            None if retry && self.any_dropped => Known::Forgotten,
            None => Known::New,
            Some(session) => match session.replies.get(&sequence) {
                Some(reply) => Known::Answered(reply.clone()),
                None if sequence < session.floor => Known::Forgotten,
                None => Known::New,
            },
        }
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Remembers an applied write. `index` and `now_ms` are its entry's.
    pub(super) fn remember(&mut self, record: SessionRecord, index: LogIndex, now_ms: u64) {
        let use_number = self.next_use(index);
        let session = self.sessions.entry(record.client).or_default();
        self.by_use.remove(&session.last_use);
        self.by_use.insert(use_number, record.client);
        session.last_use = use_number;
        session.last_use_ms = now_ms;
        let bytes_before = session.bytes;
        session.insert(record.sequence, record.reply);
        session.raise_floor(record.first_unanswered);
        while session.is_over_its_limits() {
            let oldest = *session.replies.keys().next().expect("it holds more than one");
            session.raise_floor(oldest + 1);
        }
        self.bytes = self.bytes - bytes_before + session.bytes;
        self.drop_old(now_ms);
        self.drop_heavy();
    }

    fn next_use(&mut self, index: LogIndex) -> (LogIndex, u32) {
        let (last_index, last_number) = self.uses_of_entry;
        self.uses_of_entry = if last_index == index { (index, last_number + 1) } else { (index, 0) };
        self.uses_of_entry
    }

    fn drop_old(&mut self, now_ms: u64) {
        for _ in 0..EXPIRED_PER_WRITE_MAX {
            let Some((&oldest, &client)) = self.by_use.first_key_value() else { return };
            let idle_ms = now_ms.saturating_sub(self.sessions[&client].last_use_ms);
            if self.sessions.len() <= SESSIONS_MAX && idle_ms <= IDLE_MS_MAX {
                return;
            }
            self.drop_session(oldest, client);
        }
    }

    /// Drops sessions until the table is within its bytes. What one write adds is what it drops, but for the size of a
    /// session.
    fn drop_heavy(&mut self) {
        while self.bytes > REPLY_BYTES_MAX && self.sessions.len() > 1 {
            let Some((&oldest, &client)) = self.by_use.first_key_value() else { return };
            self.drop_session(oldest, client);
        }
    }

    fn drop_session(&mut self, last_use: (LogIndex, u32), client: ClientId) {
        self.by_use.remove(&last_use);
        self.bytes -= self.sessions.remove(&client).map_or(0, |session| session.bytes);
        self.any_dropped = true;
    }
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

    #[test]
    fn remembers_until_the_client_has_its_answer() {
        let mut table = SessionTable::default();
        assert_eq!(table.look_up(client(1), 1, false), Known::New);
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(1, 3, 1), LogIndex(1), 0);
        assert_eq!(table.look_up(client(1), 1, true), Known::Answered(Remembered::Applied(Version(10))));
        assert_eq!(table.look_up(client(1), 2, true), Known::New, "overtaken, never applied");
        table.remember(write(1, 4, 3), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), 1, true), Known::Forgotten);
        assert_eq!(table.look_up(client(1), 3, true), Known::Answered(Remembered::Applied(Version(30))));
        assert_eq!(table.look_up(client(2), 1, true), Known::New, "nothing was ever dropped");
    }

    #[test]
    fn an_idle_session_goes_and_a_retry_is_told_so() {
        let mut table = SessionTable::default();
        table.remember(write(1, 1, 1), LogIndex(1), 0);
        table.remember(write(2, 1, 1), LogIndex(2), IDLE_MS_MAX);
        assert_eq!(table.len(), 2);
        table.remember(write(2, 2, 1), LogIndex(3), IDLE_MS_MAX + 1);
        assert_eq!(table.len(), 1);
        assert_eq!(table.look_up(client(1), 1, true), Known::Forgotten);
        assert_eq!(table.look_up(client(1), 2, false), Known::New, "a first attempt needs no memory");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut table = SessionTable::default();
        for sequence in 1..=REPLIES_PER_SESSION_MAX as u64 + 1 {
            table.remember(write(1, sequence, 1), LogIndex(sequence), 0);
        }
        assert_eq!(table.look_up(client(1), 1, true), Known::Forgotten);
        assert!(matches!(table.look_up(client(1), 2, true), Known::Answered(_)));
    }

    #[test]
    fn a_late_copy_of_a_write_that_was_given_up_is_not_remembered() {
        let mut table = SessionTable::default();
        table.remember(write(1, 10, 10), LogIndex(1), 0);
        table.remember(write(1, 5, 5), LogIndex(2), 0);
        assert_eq!(table.look_up(client(1), 5, true), Known::Forgotten);
        assert!(matches!(table.look_up(client(1), 10, true), Known::Answered(_)));
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
        assert!(matches!(table.look_up(client(20), 20, true), Known::Answered(_)));
        assert_eq!(table.look_up(client(20), 1, true), Known::Forgotten, "over the client's bytes");
        assert_eq!(table.look_up(client(1), 20, true), Known::Forgotten, "over the shard's");
        table.remember(write(20, 21, 21), LogIndex(5000), 0);
        assert_eq!(table.sessions[&client(20)].bytes, Remembered::Applied(Version(1)).bytes());
    }
}
