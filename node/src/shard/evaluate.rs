//! What a batch of requests does to a shard, decided by its leader before the batch is proposed.
//!
//! The leader knows every entry before its next one: those that are applied (the store) and those that it has proposed
//! in this term and are still on their way (the [`Overlay`]). So it can decide conditions, increments and retries at
//! once, and the log holds results instead of commands. If leadership is lost, the overlay is dropped: entries that are
//! committed nevertheless were decided on the very log that precedes them, since raft's log matching gives an entry of a
//! term only one possible past.

use super::room::{Need, Room};
use super::{ENTRY_BYTES, Operation};
use crate::log::operations::{OperationsBuilder, Remembered, SessionRecord};
use crate::seeded::{Bug, planted};
use crate::store::{Known, ReadError, Store, sequence_max};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet, hash_map};
use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, FRAME_BYTES_MAX, KEY_BYTES_MAX, RAFT_ENTRY_BYTES_MAX, VALUE_BYTES_MAX,
};
use kvorum_protocol::{
    Ack, Action, AtomicRequest, AtomicResult, ClientId, Condition, Durability, Entry, ErrorCode, LogIndex, Mutation,
    Outcome, ServerError, Version, WriteId, WriteResult, WriteStatus,
};

/// Longest previous value that an answer may hold, in bytes: the answer is kept in the log for the sake of retries.
const PREVIOUS_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of keys and values that one ATOMIC writes. Its request is under a frame's limit, but APPEND, EXPIRE and
/// PERSIST write the whole value anew.
const ATOMIC_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Most bytes of previous values that the answer to one ATOMIC holds.
const ATOMIC_PREVIOUS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a record or a remembered answer takes in an entry besides keys and values, rounded up.
const OVERHEAD_BYTES: usize = 128;

const _: () = assert!(
    ENTRY_BYTES + ATOMIC_BYTES_MAX + ATOMIC_PREVIOUS_BYTES_MAX + 2 * OVERHEAD_BYTES * BATCH_OPERATIONS_MAX
        < RAFT_ENTRY_BYTES_MAX,
    "the largest ATOMIC fits an entry that is almost full"
);
const _: () = assert!(
    ENTRY_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + PREVIOUS_BYTES_MAX + 2 * OVERHEAD_BYTES < RAFT_ENTRY_BYTES_MAX,
    "so does the largest write"
);
const _: () = assert!(
    ATOMIC_PREVIOUS_BYTES_MAX + OVERHEAD_BYTES * BATCH_OPERATIONS_MAX < VALUE_BYTES_MAX,
    "the largest answer is one that an entry may remember, and that fits a frame"
);

/// What a request is answered once its entry has committed, or at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardReply {
    /// To a write.
    Written(WriteResult),
    /// To an ATOMIC.
    Atomic(AtomicResult),
    /// To a GET that had to keep its place behind a write.
    Value(Option<Entry>),
    /// To a read that asked whether this replica still leads: it does, and what it has applied may be read.
    MayRead,
    /// It failed.
    Error(ServerError),
}

/// One key's state, as of the last entry that was proposed.
#[derive(Clone, Debug)]
struct Pending {
    index: LogIndex,
    version: Version,
    /// `None`: removed.
    value: Option<Bytes>,
    expires_at_ms: Option<u64>,
}

/// Proposed and not yet applied writes of this leader's term.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    // Looked up by key only; their order never reaches an effect.
    keys: HashMap<Bytes, Pending>,
    writes: HashSet<(ClientId, u64)>,
    last_version: Option<Version>,
    last_time_ms: u64,
}

/// The keys and writes that an entry put into the overlay, to be taken out when it is applied.
#[derive(Debug, Default)]
pub(super) struct OverlayMarks {
    keys: Vec<Bytes>,
    writes: Vec<(ClientId, u64)>,
}

impl Overlay {
    /// The log time of the last entry that was proposed, in milliseconds.
    pub(super) fn last_time_ms(&self, store: &Store) -> u64 {
        self.last_time_ms.max(store.log_time_ms())
    }

    /// The version of the last record that was proposed.
    pub(super) fn last_version(&self, store: &Store) -> Version {
        self.last_version.unwrap_or_default().max(store.version())
    }

    /// Whether this write was proposed and not yet applied.
    fn is_on_its_way(&self, client: ClientId, sequence: u64) -> bool {
        self.writes.contains(&(client, sequence))
    }

    /// The entry that left `marks` has been applied: the store knows it now.
    pub(super) fn forget(&mut self, index: LogIndex, marks: OverlayMarks) {
        for key in marks.keys {
            if let hash_map::Entry::Occupied(pending) = self.keys.entry(key)
                && pending.get().index == index
            {
                pending.remove();
            }
        }
        for write in marks.writes {
            self.writes.remove(&write);
        }
    }

    /// Leadership is lost.
    pub(super) fn clear(&mut self) {
        *self = Overlay::default();
    }

    fn proposed(&mut self, builder: &OperationsBuilder) {
        self.last_version = Some(Version(builder.next_version().0 - 1));
        self.last_time_ms = builder.log_time_ms();
    }
}

/// Decides the requests of one entry.
pub(super) struct Evaluation<'a> {
    store: &'a Store,
    overlay: &'a mut Overlay,
    room: Room<'a>,
    builder: OperationsBuilder,
    marks: OverlayMarks,
    read_bytes: usize,
    index: LogIndex,
    durability: Durability,
}

impl<'a> Evaluation<'a> {
    /// Begins the entry that will get `index` and the log time `time_ms`. What finds no `room` is refused.
    pub(super) fn new(
        store: &'a Store,
        overlay: &'a mut Overlay,
        room: Room<'a>,
        index: LogIndex,
        time_ms: u64,
        durability: Durability,
    ) -> Self {
        let builder = OperationsBuilder::new(time_ms, overlay.last_version(store));
        Evaluation { store, overlay, room, builder, marks: OverlayMarks::default(), read_bytes: 0, index, durability }
    }

    /// Makes room at once for so many requests, of so many bytes together, that are about to come.
    pub(super) fn reserve(&mut self, requests: usize, bytes: usize) {
        self.builder.reserve(bytes);
        self.marks.keys.reserve(requests);
        self.marks.writes.reserve(requests);
    }

    /// Bytes of the entry so far, and of the values that were read and wait with it.
    pub(super) fn bytes(&self) -> usize {
        self.builder.bytes() + self.read_bytes
    }

    /// Nothing would be in the entry.
    pub(super) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Records of the entry so far.
    pub(super) fn records(&self) -> usize {
        self.builder.records()
    }

    /// The entry's payload, and what it left in the overlay.
    pub(super) fn finish(self) -> (Vec<u8>, OverlayMarks) {
        self.overlay.proposed(&self.builder);
        (self.builder.finish(), self.marks)
    }

    /// Whether there is room for anything at all: even what writes no record waits for the entry.
    pub(super) fn admit_any(&self) -> Result<(), ServerError> {
        self.room.admit(self.builder.bytes(), Need::Urgent { bytes: OVERHEAD_BYTES })
    }

    /// The answer to a write that was sent before, if anything is known of it. It is about another entry than this one,
    /// so it must not depend on what becomes of this one.
    pub(super) fn recall(&self, operation: &Operation) -> Option<ShardReply> {
        let (client, id, is_atomic) = match operation {
            Operation::Write { client, id, .. } => (*client, *id, false),
            Operation::Atomic { client, request } => (*client, request.id, true),
            Operation::Get(_) | Operation::Confirm => return None,
        };
        if self.overlay.is_on_its_way(client, id.sequence) && !planted(Bug::InFlightNotDeduplicated) {
            return Some(ShardReply::Error(still_on_its_way()));
        }
        match (self.store.sessions().look_up(client, id.sequence), is_atomic) {
            (Known::New, _) => {
                let sequence_max = sequence_max(self.builder.log_time_ms());
                (id.sequence > sequence_max).then(|| ShardReply::Error(sequence_too_high(sequence_max)))
            }
            (Known::Answered(_), _) if planted(Bug::NoDeduplication) => None,
            // The only copy has no effect; of several, an earlier one may have had it.
            (Known::Forgotten { floor }, _) => {
                let error = if id.retry { session_expired() } else { ServerError::sequence_too_low(floor) };
                Some(ShardReply::Error(error))
            }
            (Known::Answered(Remembered::Refused(error)), _) => Some(ShardReply::Error(*error)),
            (Known::Answered(Remembered::Atomic(result)), true) => Some(ShardReply::Atomic(*result)),
            (Known::Answered(_), true) => Some(ShardReply::Error(sequence_reused())),
            (Known::Answered(reply), false) => Some(match reply.as_write(self.durability) {
                Some(result) => ShardReply::Written(result),
                None => ShardReply::Error(sequence_reused()),
            }),
        }
    }

    /// A single write, of which nothing is known yet.
    pub(super) fn write(&mut self, client: ClientId, id: WriteId, ack: Ack, mutation: &Mutation) -> ShardReply {
        match self.mutate(mutation, ack, Admission::Asked) {
            Ok(result) => {
                // A refusal changes nothing, and is decided anew when the write is sent again. But to a retry it is final for its
                // client, and an earlier copy of the write may still come.
                if result.status == WriteStatus::Applied || id.retry {
                    self.remember(client, id, Remembered::of_write(&result));
                }
                ShardReply::Written(result)
            }
            Err(error) => self.refuse(client, id, error),
        }
    }

    /// The write fails. To a retry a verdict is final, as every other answer.
    fn refuse(&mut self, client: ClientId, id: WriteId, error: ServerError) -> ShardReply {
        if id.retry && error.code.is_verdict() && !planted(Bug::VerdictOnRetryForgotten) {
            self.remember(client, id, Remembered::Refused(Box::new(error.clone())));
        }
        ShardReply::Error(error)
    }

    /// Checks and writes, all or nothing, of which nothing is known yet.
    pub(super) fn atomic(&mut self, client: ClientId, request: &AtomicRequest) -> ShardReply {
        match self.dry_run(request) {
            Ok(None) => {}
            Ok(Some((position, version))) => {
                if let Some(first) = request.mutations.first().filter(|_| planted(Bug::AtomicHalfApplied)) {
                    let first = Mutation { condition: Condition::Always, ..first.clone() };
                    // What it would have been told doesn't matter any more.
                    let _ = self.mutate(&first, request.ack, Admission::Given);
                }
                let refused = AtomicResult::ConditionFailed { position: position as u32, version };
                if request.id.retry {
                    self.remember(client, request.id, Remembered::Atomic(Box::new(refused.clone())));
                }
                return ShardReply::Atomic(refused);
            }
            Err(error) => return self.refuse(client, request.id, error),
        }
        let results: Result<Vec<_>, _> =
            request.mutations.iter().map(|mutation| self.mutate(mutation, request.ack, Admission::Given)).collect();
        let result = AtomicResult::Applied(results.expect("the dry run went through the same steps"));
        self.remember(client, request.id, Remembered::Atomic(Box::new(result.clone())));
        ShardReply::Atomic(result)
    }

    /// A read that keeps its place among the writes.
    pub(super) fn get(&mut self, key: &Bytes) -> ShardReply {
        match self.current(key) {
            Ok(entry) => {
                self.read_bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
                ShardReply::Value(entry)
            }
            Err(error) => ShardReply::Error(error),
        }
    }

    /// Whether an ATOMIC would go through: the first condition that fails, if one does. Later mutations see earlier
    /// ones, so the run keeps the states it would leave aside.
    fn dry_run(&mut self, request: &AtomicRequest) -> Result<Option<(usize, Version)>, ServerError> {
        for (position, check) in request.checks.iter().enumerate() {
            let entry = self.current(&check.key)?;
            if !holds(check.condition, entry.as_ref()) {
                return Ok(Some((position, entry.map_or(Version(0), |entry| entry.version))));
            }
        }
        let mut aside: HashMap<Bytes, Option<Entry>> = HashMap::new();
        let mut next_version = self.builder.next_version();
        let (mut written_bytes, mut previous_bytes, mut new_keys, mut takes_room) = (0, 0, 0, false);
        for (position, mutation) in request.mutations.iter().enumerate() {
            let before = match aside.get(&mutation.key) {
                Some(entry) => entry.clone(),
                None => {
                    let before = self.current(&mutation.key)?;
                    new_keys += usize::from(before.is_none());
                    before
                }
            };
            match decide(mutation, before.as_ref(), self.builder.log_time_ms())? {
                Decision::ConditionFailed => {
                    let position = request.checks.len() + position;
                    return Ok(Some((position, before.map_or(Version(0), |entry| entry.version))));
                }
                Decision::Missing => {}
                Decision::Write { value, expires_at_ms, .. } => {
                    written_bytes += mutation.key.len() + value.as_ref().map_or(0, Bytes::len);
                    takes_room |= value.is_some();
                    let entry = value.map(|value| Entry { value, version: next_version, expires_at_ms });
                    aside.insert(mutation.key.clone(), entry);
                    next_version.0 += 1;
                }
            }
            if mutation.return_previous {
                previous_bytes += before.map_or(0, |entry| entry.value.len());
            }
            if written_bytes > ATOMIC_BYTES_MAX || previous_bytes > ATOMIC_PREVIOUS_BYTES_MAX {
                let detail = format!(
                    "an ATOMIC writes at most {ATOMIC_BYTES_MAX} bytes of keys and values, and returns at most \
                     {ATOMIC_PREVIOUS_BYTES_MAX} of previous values"
                );
                return Err(ServerError::new(ErrorCode::TooLarge, detail));
            }
        }
        let bytes = written_bytes + previous_bytes + 2 * OVERHEAD_BYTES * (request.mutations.len() + 1);
        self.room.admit(self.builder.bytes(), Need::of(takes_room, takes_room && new_keys > 0, bytes))?;
        Ok(None)
    }

    fn mutate(&mut self, mutation: &Mutation, ack: Ack, admission: Admission) -> Result<WriteResult, ServerError> {
        // A plain PUT takes effect whatever was there before.
        let is_blind = matches!(mutation.action, Action::Put { .. })
            && mutation.condition == Condition::Always
            && !mutation.return_previous
            && !self.room.refuses_new_keys();
        let before = if is_blind { None } else { self.current(&mutation.key)? };
        let before_version = before.as_ref().map_or(Version(0), |entry| entry.version);
        let decision = decide(mutation, before.as_ref(), self.builder.log_time_ms())?;
        let (status, version, number) = match decision {
            Decision::ConditionFailed => (WriteStatus::ConditionFailed, before_version, None),
            Decision::Missing => (WriteStatus::Missing, before_version, None),
            Decision::Write { value, expires_at_ms, number } => {
                if admission == Admission::Asked {
                    let previous = if mutation.return_previous { before.as_ref() } else { None };
                    let values = value.as_ref().map_or(0, Bytes::len) + previous.map_or(0, |entry| entry.value.len());
                    let bytes = mutation.key.len() + values + 2 * OVERHEAD_BYTES;
                    let need = Need::of(value.is_some(), value.is_some() && before.is_none(), bytes);
                    self.room.admit(self.builder.bytes(), need)?;
                }
                let version = self.builder.push_record(&mutation.key, value.as_deref(), expires_at_ms);
                let pending = Pending { index: self.index, version, value, expires_at_ms };
                self.overlay.keys.insert(mutation.key.clone(), pending);
                self.marks.keys.push(mutation.key.clone());
                (WriteStatus::Applied, version, number)
            }
        };
        let previous = if mutation.return_previous { before } else { None };
        Ok(WriteResult { status, version, ack, durability: self.durability, number, previous })
    }

    fn remember(&mut self, client: ClientId, id: WriteId, reply: Remembered) {
        let WriteId { sequence, first_unanswered, .. } = id;
        self.builder.push_session(&SessionRecord { client, sequence, first_unanswered, reply });
        self.overlay.writes.insert((client, sequence));
        self.marks.writes.push((client, sequence));
    }

    /// The key's entry as of everything proposed so far, at this entry's log time.
    fn current(&self, key: &Bytes) -> Result<Option<Entry>, ServerError> {
        let entry = match self.overlay.keys.get(key).filter(|_| !planted(Bug::OverlayNotConsulted)) {
            Some(Pending { value, version, expires_at_ms, .. }) => value.as_ref().map(|value| Entry {
                value: value.clone(),
                version: *version,
                expires_at_ms: *expires_at_ms,
            }),
            None => self.store.reader().get(key).map_err(damaged)?.map(|found| found.entry),
        };
        let now_ms = self.builder.log_time_ms();
        Ok(entry.filter(|entry| entry.expires_at_ms.is_none_or(|at| at > now_ms)))
    }
}

/// Whether it is still to be decided that there is room for a mutation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// It is.
    Asked,
    /// There is: for all of an ATOMIC, found when it was tried.
    Given,
}

/// What a mutation does.
enum Decision {
    ConditionFailed,
    Missing,
    Write { value: Option<Bytes>, expires_at_ms: Option<u64>, number: Option<i64> },
}

/// Decides one mutation. Pure.
fn decide(mutation: &Mutation, before: Option<&Entry>, now_ms: u64) -> Result<Decision, ServerError> {
    if !holds(mutation.condition, before) {
        return Ok(Decision::ConditionFailed);
    }
    if mutation.return_previous && before.is_some_and(|entry| entry.value.len() > PREVIOUS_BYTES_MAX) {
        let detail =
            format!("the previous value is over {PREVIOUS_BYTES_MAX} bytes and can't be returned with a write");
        return Err(ServerError::new(ErrorCode::TooLarge, detail));
    }
    let keep = before.and_then(|entry| entry.expires_at_ms);
    let write = |value: Option<Bytes>, expires_at_ms, number| Ok(Decision::Write { value, expires_at_ms, number });
    match (&mutation.action, before) {
        (Action::Put { value, ttl_ms }, _) => write(Some(value.clone()), ttl_ms.map(|ttl| now_ms + ttl), None),
        (Action::Incr { by }, _) => {
            let number = add(before, *by)?;
            write(Some(number.to_string().into()), keep, Some(number))
        }
        (Action::Append { value }, _) => {
            let value = append(before, value)?;
            let length = value.len() as i64;
            write(Some(value), keep, Some(length))
        }
        (Action::Delete | Action::Expire { .. } | Action::Persist, None) => Ok(Decision::Missing),
        (Action::Delete, Some(_)) => write(None, None, None),
        (Action::Expire { ttl_ms }, Some(entry)) => write(Some(entry.value.clone()), Some(now_ms + ttl_ms), None),
        (Action::Persist, Some(entry)) if entry.expires_at_ms.is_none() => Ok(Decision::Missing),
        (Action::Persist, Some(entry)) => write(Some(entry.value.clone()), None, None),
    }
}

fn holds(condition: Condition, before: Option<&Entry>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
        Condition::IfVersion(version) => before.is_some_and(|entry| entry.version == version),
    }
}

fn add(before: Option<&Entry>, by: i64) -> Result<i64, ServerError> {
    let current = match before {
        None => 0,
        Some(entry) => parse_integer(&entry.value)
            .ok_or_else(|| ServerError::new(ErrorCode::NotAnInteger, "the value is not a decimal 64-bit integer"))?,
    };
    current.checked_add(by).ok_or_else(|| {
        ServerError::new(ErrorCode::IntegerOverflow, format!("{current} + {by} is past the range of a 64-bit integer"))
    })
}

/// A decimal integer in its one canonical form, as INCR writes it: no sign but `-`, no leading zeros.
fn parse_integer(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn append(before: Option<&Entry>, value: &Bytes) -> Result<Bytes, ServerError> {
    let Some(entry) = before else { return Ok(value.clone()) };
    let length = entry.value.len() + value.len();
    if length > VALUE_BYTES_MAX {
        let detail = format!("the value would be {length} bytes long, the limit is {VALUE_BYTES_MAX}");
        return Err(ServerError::new(ErrorCode::TooLarge, detail));
    }
    Ok([&entry.value[..], &value[..]].concat().into())
}

fn session_expired() -> ServerError {
    let detail = "what this write may have done is no longer remembered; read the key before writing again";
    ServerError::new(ErrorCode::SessionExpired, detail)
}

/// The same write is sent again while its first copy is being committed: the next try will find the answer.
fn still_on_its_way() -> ServerError {
    ServerError::new(ErrorCode::Unavailable, "this write is being committed; ask again").with_outcome(Outcome::Unknown)
}

fn sequence_too_high(sequence_max: u64) -> ServerError {
    let detail = format!("the shard takes sequence numbers up to {sequence_max} now");
    ServerError::new(ErrorCode::InvalidArgument, detail)
}

fn sequence_reused() -> ServerError {
    let detail = "this sequence number was used for another kind of write";
    ServerError::new(ErrorCode::InvalidArgument, detail)
}

/// The reader has noted it, and the next poll ends this replica; another one will lead.
fn damaged(error: ReadError) -> ServerError {
    ServerError::new(ErrorCode::Unavailable, format!("damage was found: {error}")).with_outcome(Outcome::NotApplied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, version: u64, expires_at_ms: Option<u64>) -> Entry {
        Entry { value: Bytes::copy_from_slice(value.as_bytes()), version: Version(version), expires_at_ms }
    }

    fn mutation(condition: Condition, action: Action) -> Mutation {
        Mutation { key: "k".into(), condition, return_previous: false, action }
    }

    /// The decision as text: what is written, until when, and the number that is answered.
    fn decided(condition: Condition, action: Action, before: Option<&Entry>) -> String {
        match decide(&mutation(condition, action), before, 1000) {
            Err(error) => format!("{}", error.code),
            Ok(Decision::ConditionFailed) => "condition failed".into(),
            Ok(Decision::Missing) => "missing".into(),
            Ok(Decision::Write { value, expires_at_ms, number }) => {
                let value = value.map(|value| String::from_utf8_lossy(&value).into_owned());
                format!("{value:?} until {expires_at_ms:?} number {number:?}")
            }
        }
    }

    #[test]
    fn actions_do_what_they_say() {
        use Condition::Always;
        let put = |ttl_ms| Action::Put { value: "new".into(), ttl_ms };
        let old = entry("old", 5, Some(2000));
        assert_eq!(decided(Always, put(None), Some(&old)), r#"Some("new") until None number None"#);
        assert_eq!(decided(Always, put(Some(10)), None), r#"Some("new") until Some(1010) number None"#);
        assert_eq!(decided(Always, Action::Delete, Some(&old)), "None until None number None");
        assert_eq!(decided(Always, Action::Delete, None), "missing");
        assert_eq!(
            decided(Always, Action::Append { value: "er".into() }, Some(&old)),
            r#"Some("older") until Some(2000) number Some(5)"#
        );
        assert_eq!(
            decided(Always, Action::Expire { ttl_ms: 7 }, Some(&old)),
            r#"Some("old") until Some(1007) number None"#
        );
        assert_eq!(decided(Always, Action::Persist, Some(&old)), r#"Some("old") until None number None"#);
        assert_eq!(decided(Always, Action::Persist, Some(&entry("old", 5, None))), "missing");
        assert_eq!(decided(Always, Action::Expire { ttl_ms: 7 }, None), "missing");
    }

    #[test]
    fn incr_adds_and_refuses_what_is_no_integer() {
        let incr = |by| Action::Incr { by };
        assert_eq!(decided(Condition::Always, incr(3), None), r#"Some("3") until None number Some(3)"#);
        let five = entry("5", 1, Some(9000));
        assert_eq!(decided(Condition::Always, incr(-7), Some(&five)), r#"Some("-2") until Some(9000) number Some(-2)"#);
        for bad in ["five", "", "+5", "05", " 5", "5.0", "99999999999999999999"] {
            assert_eq!(decided(Condition::Always, incr(1), Some(&entry(bad, 1, None))), "NotAnInteger", "{bad:?}");
        }
        let top = entry(&i64::MAX.to_string(), 1, None);
        assert_eq!(decided(Condition::Always, incr(1), Some(&top)), "IntegerOverflow");
    }

    #[test]
    fn conditions_hold_or_fail() {
        let put = || Action::Put { value: "new".into(), ttl_ms: None };
        let old = entry("old", 5, None);
        for (condition, absent, present) in [
            (Condition::Always, true, true),
            (Condition::IfAbsent, true, false),
            (Condition::IfPresent, false, true),
            (Condition::IfVersion(Version(5)), false, true),
            (Condition::IfVersion(Version(4)), false, false),
        ] {
            assert_eq!(decided(condition, put(), None) != "condition failed", absent, "{condition:?} absent");
            assert_eq!(decided(condition, put(), Some(&old)) != "condition failed", present, "{condition:?} present");
        }
    }
}
