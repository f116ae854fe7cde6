//! What a batch of requests does to a shard, decided by its leader before the batch is proposed.
//!
//! The leader knows every entry before its next one: those that are applied (the store) and those that it has proposed
//! in this term and are still on their way (the [`Overlay`]). So it can decide conditions, increments and retries at
//! once, and the log holds results instead of commands. If leadership is lost, the overlay is dropped: entries that are
//! committed nevertheless were decided on the very log that precedes them, since raft's log matching gives an entry of a
//! term only one possible past.

mod recall;
mod transaction;

pub(super) use recall::Recalled;

use super::Returned;
use super::backlog::ENTRY_BYTES;
use super::decide::{
    NewValue, PREVIOUS_BYTES_MAX, Refusal, Size, State, Value, WriteDecision, decide, depends_on_value, holds,
};
use super::room::{Need, Room};
use crate::cost;
use crate::log::once::{OnceAnswer, OnceRecord};
use crate::log::operations::{IndexSecret, OperationsBuilder};
use crate::log::remembered::Remembered;
use crate::log::session_section::SessionRecord;
use crate::seeded::{Bug, planted};
use crate::store::{ReadError, Store};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet, hash_map};
use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, FRAME_BYTES_MAX, KEY_BYTES_MAX, RAFT_ENTRY_BYTES_MAX, VALUE_BYTES_MAX,
};
use kvorum_protocol::{
    Ack, Action, AtomicRequest, AtomicResult, Awaited, ClientId, Condition, Durability, Entry, ErrorCode, LogIndex,
    Mutation, Once, OnceId, Outcome, Receipt, ReturnPrevious, ServerError, TimeToLive, TransactionResult, Version,
    WriteId, WriteResult, WriteStatus,
};
use recall::WriteKind;

/// Most bytes of keys and values that one ATOMIC writes. Its request is under a frame's limit, but APPEND, EXPIRE and
/// PERSIST write the whole value anew.
const ATOMIC_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Most bytes of previous values that the answer to one ATOMIC holds.
const ATOMIC_PREVIOUS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a record or a remembered answer takes in an entry besides keys and values, rounded up.
const OVERHEAD_BYTES: usize = 128;
/// What looking a key up counts as, besides the bytes that are read: index and record wait for memory.
const LOOK_UP_BYTES: usize = 256;

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
    /// To a TRANSACTION.
    Transaction(TransactionResult),
    /// To a GET that had to keep its place behind a write.
    Value(Option<Entry>),
    /// To who awaited an accepted write.
    Awaited(Awaited),
    /// To a read that asked whether this replica still leads: it does, and what it has applied may be read.
    MayRead,
    /// It was not proposed, and is given back: see [`super::hand_over`].
    Returned(Box<Returned>),
    /// It failed.
    Error(ServerError),
}

impl ShardReply {
    /// The same answer, to a write that took effect and is merely accepted: where it stands.
    pub(super) fn with_receipt(mut self, receipt: Receipt) -> Self {
        match &mut self {
            Self::Written(result) => result.receipt = Some(receipt),
            Self::Atomic(AtomicResult::Applied(results)) => {
                results.iter_mut().for_each(|result| result.receipt = Some(receipt));
            }
            _ => {}
        }
        self
    }
}

/// When a write is answered. An earlier copy of a retry may stand in a log that this leader has not seen, and take effect
/// although this copy is lost. So a receipt could not tell what becomes of it, and it is answered once it is committed.
pub(super) fn ack_of(id: WriteId, asked: Ack) -> Ack {
    if id.retry { Ack::Committed } else { asked }
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
    /// One-shot names, and the entries that they are in.
    once: HashMap<OnceId, (LogIndex, OnceRecord)>,
    last_version: Option<Version>,
    last_time_ms: u64,
}

/// The keys, writes and one-shot names that an entry put into the overlay, to be taken out when it is applied.
#[derive(Debug, Default)]
pub(super) struct OverlayMarks {
    keys: Vec<Bytes>,
    writes: Vec<(ClientId, u64)>,
    once: Vec<OnceId>,
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
        for id in marks.once {
            self.once.remove(&id);
        }
    }

    /// Leadership is lost.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
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
    /// What was looked up and read to decide it.
    read_bytes: usize,
    /// Of that, values.
    value_bytes: usize,
    /// No more bytes of values are read for this entry.
    value_bytes_max: usize,
    /// A request would have taken more. It has no answer, and left nothing.
    needs_long_turn: bool,
    /// Where the entry will stand.
    place: Receipt,
    durability: Durability,
}

impl<'a> Evaluation<'a> {
    /// Begins the entry that will stand at `place` and get the log time `time_ms`, and brings the shard its secret if there is one. What
    /// finds no `room` is refused.
    pub(super) fn new(
        store: &'a Store,
        overlay: &'a mut Overlay,
        room: Room<'a>,
        place: Receipt,
        time_ms: u64,
        durability: Durability,
        secret: Option<IndexSecret>,
    ) -> Self {
        let last_version = overlay.last_version(store);
        let mut builder = match secret {
            Some(secret) => OperationsBuilder::with_secret(time_ms, last_version, secret),
            None => OperationsBuilder::new(time_ms, last_version),
        };
        builder.seal_at(store.reader().keys_of_log(), place.term, place.index);
        Evaluation {
            store,
            overlay,
            room,
            builder,
            marks: OverlayMarks::default(),
            read_bytes: 0,
            value_bytes: 0,
            value_bytes_max: usize::MAX,
            needs_long_turn: false,
            place,
            durability,
        }
    }

    /// From here on at most so many bytes of values are read for the entry.
    pub(super) fn set_value_bytes_max(&mut self, bytes: usize) {
        self.value_bytes_max = bytes;
    }

    /// The last request would have read more than that. What it was answered means nothing; it has left nothing.
    pub(super) fn needs_long_turn(&self) -> bool {
        self.needs_long_turn
    }

    /// Makes room at once for so many requests, of so many bytes together, that are about to come.
    pub(super) fn reserve(&mut self, requests: usize, bytes: usize) {
        self.builder.reserve(bytes);
        self.marks.keys.reserve(requests);
        self.marks.writes.reserve(requests);
    }

    /// What the entry costs so far, in bytes: those in it, and those that were read to decide it.
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

    /// A single write, of which nothing is known yet but perhaps its one-shot name.
    pub(super) fn write(&mut self, client: ClientId, id: WriteId, ack: Ack, mutation: &Mutation) -> ShardReply {
        if let Some(reply) = self.replay_to_retry(client, id, WriteKind::Single) {
            return reply;
        }
        match self.mutate(mutation, ack) {
            Ok(result) => {
                let takes_effect = result.status == WriteStatus::Applied;
                let once = self.kept(id, takes_effect, || OnceAnswer::Write(Box::new(result.clone())));
                // A refusal changes nothing, and is decided anew when the write is sent again. But to a retry it is final for its
                // client, and an earlier copy of the write may still come.
                if takes_effect || id.retry || once.is_some() {
                    self.remember(client, id, Remembered::of_write(&result), once);
                }
                ShardReply::Written(result)
            }
            Err(error) => self.refuse(client, id, error),
        }
    }

    /// What is remembered under the write's one-shot name, if it has one.
    fn kept(&self, id: WriteId, takes_effect: bool, answer: impl FnOnce() -> OnceAnswer) -> Option<OnceRecord> {
        let Once { id, digest, .. } = id.once.filter(|once| takes_effect || once.keeps_refusal)?;
        Some(OnceRecord { id, digest, answer: answer().with_receipt(self.place) })
    }

    /// The write fails. To a retry a verdict is final, as every other answer.
    fn refuse(&mut self, client: ClientId, id: WriteId, error: ServerError) -> ShardReply {
        if id.retry && error.code.is_verdict() && !planted(Bug::VerdictOnRetryForgotten) {
            self.remember(client, id, Remembered::Refused(Box::new(error.clone())), None);
        }
        ShardReply::Error(error)
    }

    /// Checks and writes, all or nothing, of which nothing is known yet.
    pub(super) fn atomic(&mut self, client: ClientId, request: &AtomicRequest) -> ShardReply {
        if let Some(reply) = self.replay_to_retry(client, request.id, WriteKind::Atomic) {
            return reply;
        }
        let ack = ack_of(request.id, request.ack);
        let plans = match self.plan(request) {
            Ok(Planned::All(plans)) => plans,
            Ok(Planned::ConditionFailed(position, version)) => {
                if let Some(first) = request.mutations.first().filter(|_| planted(Bug::AtomicHalfApplied)) {
                    let first = Mutation { condition: Condition::Always, ..first.clone() };
                    // What it would have been told doesn't matter any more.
                    let _ = self.mutate(&first, ack);
                }
                let refused = AtomicResult::ConditionFailed { position: position as u32, version, replayed: false };
                let once = self.kept(request.id, false, || OnceAnswer::Atomic(Box::new(refused.clone())));
                if request.id.retry || once.is_some() {
                    self.remember(client, request.id, Remembered::of_atomic(&refused), once);
                }
                return ShardReply::Atomic(refused);
            }
            Err(error) => return self.refuse(client, request.id, error),
        };
        let results = request.mutations.iter().zip(plans).map(|(mutation, plan)| self.carry_out(mutation, plan, ack));
        let applied = AtomicResult::Applied(results.collect());
        let once = self.kept(request.id, true, || OnceAnswer::Atomic(Box::new(applied.clone())));
        self.remember(client, request.id, Remembered::of_atomic(&applied), once);
        ShardReply::Atomic(applied)
    }

    /// A read that keeps its place among the writes.
    pub(super) fn get(&mut self, key: &Bytes) -> ShardReply {
        let entry = self.current(key).and_then(|state| match state {
            Some(state) => self.entry(&state).map(Some),
            None => Ok(None),
        });
        entry.map_or_else(ShardReply::Error, ShardReply::Value)
    }

    /// Decides all of an ATOMIC before any of it is written, so that it goes through or leaves nothing: what each mutation
    /// does, or the first condition that fails. Later mutations see earlier ones, so the states that they leave are kept
    /// aside. A value is read once it is certain that the ATOMIC stays within its bounds with it.
    fn plan(&mut self, request: &AtomicRequest) -> Result<Planned, ServerError> {
        for (position, check) in request.checks.iter().enumerate() {
            let state = self.current(&check.key)?;
            if !self.holds(&check.condition, state.as_ref())? {
                return Ok(Planned::ConditionFailed(position, state.map_or(Version(0), |state| state.version)));
            }
        }
        let mut aside: HashMap<Bytes, Option<State>> = HashMap::new();
        let mut next_version = self.builder.next_version();
        let (mut written_bytes, mut previous_bytes, mut adds_key, mut takes_room) = (0, 0, false, false);
        let mut plans = Vec::with_capacity(request.mutations.len());
        for (position, mutation) in request.mutations.iter().enumerate() {
            let before = match aside.get(&mutation.key) {
                Some(state) => state.clone(),
                None => self.current(&mutation.key)?,
            };
            let before = self.loaded(&mutation.condition, Some(&mutation.action), before)?;
            let decision = self.decide(mutation, before.as_ref())?;
            if let WriteDecision::ConditionFailed = decision {
                let position = request.checks.len() + position;
                return Ok(Planned::ConditionFailed(position, before.map_or(Version(0), |state| state.version)));
            }
            let size = Size::of(mutation, before.as_ref(), &decision);
            written_bytes += size.written;
            previous_bytes += size.previous;
            if written_bytes > ATOMIC_BYTES_MAX || previous_bytes > ATOMIC_PREVIOUS_BYTES_MAX {
                let detail = format!(
                    "an ATOMIC writes at most {ATOMIC_BYTES_MAX} bytes of keys and values, and returns at most \
                     {ATOMIC_PREVIOUS_BYTES_MAX} of previous values"
                );
                return Err(ServerError::new(ErrorCode::TooLarge, detail));
            }
            let is_new = before.is_none() && !aside.contains_key(&mutation.key);
            let plan = self.read_for(mutation, before, decision)?;
            if let Plan { write: Some(write), .. } = &plan {
                takes_room |= write.value.is_some();
                adds_key |= is_new && write.value.is_some();
                let (version, expires_at_ms) = (next_version, write.expires_at_ms);
                let state =
                    write.value.clone().map(|value| State { value: Value::Here(value), version, expires_at_ms });
                aside.insert(mutation.key.clone(), state);
                next_version.0 += 1;
            }
            plans.push(plan);
        }
        let bytes = written_bytes + previous_bytes + 2 * OVERHEAD_BYTES * (request.mutations.len() + 1);
        self.room.admit(self.builder.bytes(), Need::of(takes_room, adds_key, bytes))?;
        Ok(Planned::All(plans))
    }

    fn mutate(&mut self, mutation: &Mutation, ack: Ack) -> Result<WriteResult, ServerError> {
        // A plain PUT takes effect whatever was there before.
        let is_blind = matches!(
            mutation.action,
            Action::Put { ttl: TimeToLive::Forever | TimeToLive::Ms(_) | TimeToLive::Until(_), .. }
        ) && mutation.condition == Condition::Always
            && mutation.return_previous == ReturnPrevious::Nothing
            && !self.room.refuses_new_keys();
        let before = if is_blind { None } else { self.current(&mutation.key)? };
        let before = self.with_expiry_of_before_the_entry(mutation, before)?;
        let before = self.loaded(&mutation.condition, Some(&mutation.action), before)?;
        let decision = self.decide(mutation, before.as_ref())?;
        if let WriteDecision::Write { value, .. } = &decision {
            let (stores, is_new) = (value.is_some(), before.is_none());
            let size = Size::of(mutation, before.as_ref(), &decision);
            // First: looking for so much room may make a file.
            match (value, &before) {
                (Some(NewValue::Unchanged | NewValue::Appended(_)), Some(before)) => {
                    self.may_read(before.value_bytes())?;
                }
                (Some(NewValue::Overwritten { .. }), _) => self.may_read(size.written)?,
                _ => {}
            }
            let bytes = size.written + size.previous + 2 * OVERHEAD_BYTES;
            self.room.admit(self.builder.bytes(), Need::of(stores, stores && is_new, bytes))?;
        }
        let plan = self.read_for(mutation, before, decision)?;
        Ok(self.carry_out(mutation, plan, ack))
    }

    /// Decides one mutation at this entry's log time.
    fn decide(&self, mutation: &Mutation, before: Option<&State>) -> Result<WriteDecision, ServerError> {
        decide(mutation, before, self.builder.log_time_ms()).map_err(|refusal| self.refused(refusal))
    }

    /// Whether a condition holds.
    fn holds(&mut self, condition: &Condition, before: Option<&State>) -> Result<bool, ServerError> {
        let before = self.loaded(condition, None, before.cloned())?;
        holds(condition, before.as_ref()).map_err(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> ServerError {
        match refusal {
            Refusal::Error(error) => error,
            Refusal::Unreadable(error) => self.unreadable(error),
        }
    }

    /// The key's state, with its value if a decision depends on that.
    fn loaded(
        &mut self,
        condition: &Condition,
        action: Option<&Action>,
        before: Option<State>,
    ) -> Result<Option<State>, ServerError> {
        match before {
            Some(state) if depends_on_value(condition, action, &state) => {
                let value = Value::Here(self.entry(&state)?.value);
                Ok(Some(State { value, ..state }))
            }
            before => Ok(before),
        }
    }

    /// Reads what a decision needs of the value that is there.
    fn read_for(
        &mut self,
        mutation: &Mutation,
        before: Option<State>,
        decision: WriteDecision,
    ) -> Result<Plan, ServerError> {
        let version = before.as_ref().map_or(Version(0), |state| state.version);
        let (status, write, number, decimal) = match decision {
            WriteDecision::ConditionFailed => (WriteStatus::ConditionFailed, None, None, None),
            WriteDecision::Missing => (WriteStatus::Missing, None, None, None),
            WriteDecision::Write { value, expires_at_ms, number, decimal } => {
                let value = value.map(|value| self.value_of(value, before.as_ref())).transpose()?;
                (WriteStatus::Applied, Some(Write { value, expires_at_ms }), number, decimal)
            }
        };
        let existed = match mutation.return_previous {
            ReturnPrevious::Existence => Some(self.told_to_exist(mutation, before.is_some())?),
            ReturnPrevious::Nothing | ReturnPrevious::Entry => None,
        };
        let previous = match before.filter(|_| mutation.return_previous == ReturnPrevious::Entry) {
            Some(state) => {
                // A copy: the answer is kept for long, and would keep a whole segment.
                let Entry { value, version, expires_at_ms } = self.entry(&state)?;
                Some(Entry { value: Bytes::copy_from_slice(&value), version, expires_at_ms })
            }
            None => None,
        };
        Ok(Plan { status, version, write, number, decimal, previous, existed })
    }

    fn value_of(&mut self, value: NewValue, before: Option<&State>) -> Result<Bytes, ServerError> {
        match (value, before) {
            (NewValue::Given(value), _) | (NewValue::Appended(value), None) => Ok(value),
            (NewValue::Unchanged, None) => Ok(Bytes::new()),
            (NewValue::Unchanged, Some(state)) => Ok(self.entry(state)?.value),
            (NewValue::Appended(value), Some(state)) => {
                let appended = [self.entry(state)?.value, value].concat();
                cost::copied(appended.len());
                Ok(appended.into())
            }
            (NewValue::Overwritten { offset, bytes }, before) => {
                let there =
                    before.map(|state| self.entry(state)).transpose()?.map_or(Bytes::new(), |entry| entry.value);
                let end = offset + bytes.len();
                // Zeros are as many bytes to write as what is there.
                let zeros = offset.saturating_sub(there.len());
                self.may_read(zeros)?;
                self.read_bytes += zeros;
                self.value_bytes += zeros;
                let mut value = Vec::with_capacity(there.len().max(end));
                value.extend_from_slice(&there[..there.len().min(offset)]);
                value.resize(offset, 0);
                value.extend_from_slice(&bytes);
                value.extend_from_slice(there.get(end..).unwrap_or_default());
                cost::copied(value.len());
                Ok(value.into())
            }
        }
    }

    /// Puts what was decided into the entry.
    fn carry_out(&mut self, mutation: &Mutation, plan: Plan, ack: Ack) -> WriteResult {
        let Plan { status, mut version, write, number, decimal, previous, existed } = plan;
        if let Some(write) = write {
            version = self.put(&mutation.key, write);
        }
        WriteResult {
            status,
            version,
            ack,
            durability: self.durability,
            number,
            decimal,
            previous,
            receipt: None,
            existed,
            replayed: false,
        }
    }

    /// Puts a record into the entry.
    fn put(&mut self, key: &Bytes, Write { value, expires_at_ms }: Write) -> Version {
        let version = self.builder.push_record(key, value.as_deref(), expires_at_ms);
        let pending = Pending { index: self.place.index, version, value, expires_at_ms };
        self.overlay.keys.insert(key.clone(), pending);
        self.marks.keys.push(key.clone());
        version
    }

    /// Whether the key existed: as the mutation found it, with all that was proposed before.
    fn told_to_exist(&self, mutation: &Mutation, found: bool) -> Result<bool, ServerError> {
        if !planted(Bug::ExistedToldWrong) {
            return Ok(found);
        }
        self.store.reader().find(&mutation.key).map(|stored| stored.is_some()).map_err(damaged)
    }

    /// The key's state as it was found; with the bug planted, a PUT that keeps the time to live sees that of what is applied.
    fn with_expiry_of_before_the_entry(
        &self,
        mutation: &Mutation,
        found: Option<State>,
    ) -> Result<Option<State>, ServerError> {
        let keeps = matches!(mutation.action, Action::Put { ttl: TimeToLive::Keep, .. });
        match found {
            Some(state) if keeps && planted(Bug::KeepTtlSeesOld) => {
                let stored = self.store.reader().find(&mutation.key).map_err(damaged)?;
                Ok(Some(State { expires_at_ms: stored.and_then(|stored| stored.expires_at_ms()), ..state }))
            }
            found => Ok(found),
        }
    }

    fn remember(&mut self, client: ClientId, id: WriteId, reply: Remembered, once: Option<OnceRecord>) {
        let WriteId { sequence, first_unanswered, .. } = id;
        let record = SessionRecord { client, sequence, first_unanswered, reply, once };
        self.builder.push_session(&record);
        self.overlay.writes.insert((client, sequence));
        self.marks.writes.push((client, sequence));
        if let Some(once) = record.once {
            self.marks.once.push(once.id);
            self.overlay.once.insert(once.id, (self.place.index, once));
        }
    }

    /// The key's state as of the last entry that was applied.
    fn applied(&mut self, key: &Bytes) -> Result<Option<State>, ServerError> {
        let stored = self.store.reader().find(key).map_err(damaged)?;
        Ok(stored.map(|stored| State {
            version: stored.version(),
            expires_at_ms: stored.expires_at_ms(),
            value: Value::Stored(stored),
        }))
    }

    /// The key's state as of everything proposed so far, at this entry's log time.
    fn current(&mut self, key: &Bytes) -> Result<Option<State>, ServerError> {
        self.read_bytes += LOOK_UP_BYTES + key.len();
        let state = match self.overlay.keys.get(key).filter(|_| !planted(Bug::OverlayNotConsulted)) {
            Some(Pending { value, version, expires_at_ms, .. }) => value.clone().map(|value| State {
                value: Value::Here(value),
                version: *version,
                expires_at_ms: *expires_at_ms,
            }),
            None => self.applied(key)?,
        };
        let now_ms = self.builder.log_time_ms();
        Ok(state.filter(|state| state.expires_at_ms.is_none_or(|at| at > now_ms)))
    }

    /// A key's state with its value.
    fn entry(&mut self, state: &State) -> Result<Entry, ServerError> {
        self.may_read(state.value_bytes())?;
        self.read_bytes += state.value_bytes();
        self.value_bytes += state.value_bytes();
        let value = state.value.read().map_err(|error| self.unreadable(error))?;
        Ok(Entry { value, version: state.version, expires_at_ms: state.expires_at_ms })
    }

    /// Whether a value of so many bytes may be read for this entry. If not, its request waits for a long turn.
    fn may_read(&mut self, bytes: usize) -> Result<(), ServerError> {
        self.needs_long_turn |= self.value_bytes + bytes > self.value_bytes_max;
        if self.needs_long_turn {
            return Err(ServerError::new(ErrorCode::Internal, "the request takes another turn"));
        }
        Ok(())
    }

    /// A value that was found can't be read.
    fn unreadable(&self, error: ReadError) -> ServerError {
        self.store.reader().report_damage(error);
        damaged(error)
    }
}

/// What becomes of a mutation, with all that was read for it: nothing can go wrong with it any more.
struct Plan {
    status: WriteStatus,
    /// What the key had before.
    version: Version,
    write: Option<Write>,
    number: Option<i64>,
    decimal: Option<Bytes>,
    previous: Option<Entry>,
    /// Whether the key was there before, if that was asked for.
    existed: Option<bool>,
}

struct Write {
    /// `None`: removed.
    value: Option<Bytes>,
    expires_at_ms: Option<u64>,
}

/// What becomes of an ATOMIC.
enum Planned {
    /// Its mutations, in order.
    All(Vec<Plan>),
    /// The condition of this number fails at a key of this version.
    ConditionFailed(usize, Version),
}

/// The reader has noted it, and the next poll ends this replica; another one will lead.
fn damaged(error: ReadError) -> ServerError {
    ServerError::new(ErrorCode::Unavailable, format!("damage was found: {error}")).with_outcome(Outcome::NotApplied)
}
