//! What a command asks of the cluster: requests of the session, and how their answers become a reply.

use super::walk::{Ground, Walk, WalkKind};
use bytes::Bytes;
use kvorum_protocol::hash::{hash64, shard_of, shard_of_slot};
use kvorum_protocol::limits::{BATCH_OPERATIONS_MAX, DECIMAL_BYTES_MAX, EXPIRY_MS_MAX, TTL_MS_MAX};
use kvorum_protocol::{
    Ack, Action, AtomicRequest, Condition, ExpireWhen, Mutation, ReadMode, RequestBody, ReturnPrevious, ShardId,
    TimeToLive, TransactionOperation, TransactionRequest, WriteId,
};
use kvorum_resp::command::{
    BitRange, BitSearch, ClusterCommand, Deadline, ExpireCondition, GetExpiry, LcsForm, ObjectQuestion, Pairs, Set,
    SetCondition, SetExpiry, SetReply, TtlForm,
};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{Command, CommandError, Request};
use std::collections::{BTreeMap, HashSet};

/// What is to be done for a command.
#[derive(Debug)]
pub(super) struct Planned {
    /// What is asked at once; each is answered once.
    pub(super) asked: Vec<RequestBody>,
    /// Or what is asked one after the other.
    pub(super) walk: Option<Walk>,
    /// How the answers become a reply.
    pub(super) form: ReplyForm,
    /// What it does to which keys.
    pub(super) touches: Touches,
}

impl Planned {
    /// One read of one key.
    pub(super) fn read(key: &[u8], body: RequestBody, form: ReplyForm) -> Self {
        Self { asked: vec![body], walk: None, form, touches: Touches::Reads(vec![hash64(key)]) }
    }
}

/// What a command is planned by.
pub(super) struct Circumstances<'a> {
    /// The time, in milliseconds since 1970.
    pub(super) now_ms: u64,
    /// The shards that commands of all keys go through.
    pub(super) ground: &'a dyn Fn() -> Ground,
    /// How many shards the cluster has.
    pub(super) shards: u16,
    /// A random number.
    pub(super) drawn: u64,
}

/// What a command does to which keys, of which the hashes are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touches {
    /// Reads these.
    Reads(Vec<u64>),
    /// Writes these.
    Writes(Vec<u64>),
    /// All there are.
    All {
        /// Removes them.
        writes: bool,
    },
}

impl Touches {
    /// Whether two commands touch the same key.
    pub(super) fn meet(&self, other: &Self) -> bool {
        let (Self::Reads(keys) | Self::Writes(keys), Self::Reads(others) | Self::Writes(others)) = (self, other) else {
            return true;
        };
        match (keys.len(), others.len()) {
            (0..8, _) | (_, 0..8) => keys.iter().any(|key| others.contains(key)),
            _ => {
                let keys: HashSet<u64> = keys.iter().copied().collect();
                others.iter().any(|key| keys.contains(key))
            }
        }
    }

    /// Whether it writes.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Writes(_) | Self::All { writes: true })
    }
}

/// How answers become a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyForm {
    /// The value, or null.
    Value,
    /// How long the value is.
    Length,
    /// A part of the value.
    Range {
        /// The first byte; negative from the end.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// Each value, or null.
    Values,
    /// How many keys are there.
    Present,
    /// `string` or `none`.
    Type,
    /// How long the key lives.
    Ttl(TtlForm),
    /// OK.
    Ok,
    /// OK, or null if nothing was written.
    OkOrNull,
    /// The value that was there before, or null.
    Previous,
    /// The new number, or the new length.
    Number,
    /// How many of the writes took effect.
    Applied,
    /// How many keys the leaders hold.
    Keys,
    /// The text that is at hand.
    Text,
    /// How many keys this node leads.
    KeysHere,
    /// How many replicas have what was written before, once they are enough or the time is over.
    Wait {
        /// So many are enough.
        replicas: i64,
        /// So long; 0 for ever.
        timeout_ms: u64,
    },
    /// So many replicas.
    Reached(i64),
    /// INFO, of which the text so far is at hand. So many keys there are if nobody says.
    Info {
        /// Keys that this node has copies of.
        held_keys: u64,
    },
    /// What all commands of a transaction answer.
    Exec,
    /// OK: the keys are watched.
    Watch,
    /// The new decimal number.
    Decimal,
    /// OK, or 1 and 0; an error without the key.
    Renamed {
        /// RENAMENX.
        only_if_absent: bool,
    },
    /// 1 if all was written, 0 if nothing was.
    AllOrNothing,
    /// What two values have in common.
    Lcs(LcsForm),
    /// A bit of the value.
    Bit(usize),
    /// How many of its bits are 1.
    BitCount(Option<BitRange>),
    /// Where its first bit of this kind is.
    BitPosition {
        /// One that is 1.
        bit: bool,
        /// In this part.
        range: Option<BitSearch>,
    },
    /// What Redis knows of it.
    Object(ObjectQuestion),
    /// Bytes that it takes.
    MemoryUsage {
        /// Those of the key.
        key_bytes: usize,
    },
    /// What the walk has found.
    Walked,
}

/// Why a command is not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its arguments are wrong.
    Command(CommandError),
    /// As this text says.
    Text(String),
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// The key of a command that reads a single one, and how its entry becomes a reply.
pub(super) fn single_read<'k>(command: &Command<'k>) -> Option<(&'k [u8], ReplyForm)> {
    Some(match *command {
        Command::Get(key) => (key, ReplyForm::Value),
        Command::StrLen(key) => (key, ReplyForm::Length),
        Command::GetRange { key, start, end } => (key, ReplyForm::Range { start, end }),
        Command::Type(key) => (key, ReplyForm::Type),
        Command::Ttl { key, form } => (key, ReplyForm::Ttl(form)),
        Command::GetBit { key, offset } => (key, ReplyForm::Bit(offset)),
        Command::BitCount { key, range } => (key, ReplyForm::BitCount(range)),
        Command::BitPosition { key, bit, range } => (key, ReplyForm::BitPosition { bit, range }),
        Command::Object { key, question } => (key, ReplyForm::Object(question)),
        Command::MemoryUsage(key) => (key, ReplyForm::MemoryUsage { key_bytes: key.len() }),
        Command::SetRange { key, value: [], .. } => (key, ReplyForm::Length),
        _ => return None,
    })
}

/// What to do for a command of keys.
///
/// # Errors
/// It is not there yet, or what it asks for can't be written.
pub(super) fn plan(
    command: &Command<'_>,
    spec: &'static CommandSpec,
    request: &Request,
    place: &Circumstances<'_>,
) -> Result<Planned, Refusal> {
    let planner = Planner { request, spec, now_ms: place.now_ms, shards: place.shards };
    let ground = place.ground;
    if let Some((key, form)) = single_read(command) {
        return Ok(planner.read(key, form));
    }
    let write = |key: &[u8], action, form| planner.write(key, Condition::Always, ReturnPrevious::Nothing, action, form);
    Ok(match *command {
        Command::Lcs { left, right, form } => planner.reads([left, right].into_iter(), ReplyForm::Lcs(form)),
        Command::MGet(keys) => planner.reads(keys, ReplyForm::Values),
        Command::Exists(keys) => planner.reads(keys, ReplyForm::Present),
        Command::Set(set) => planner.set(&set)?,
        Command::Append { key, value } => write(key, Action::Append { value: request.share(value) }, ReplyForm::Number),
        Command::IncrBy { key, by } => write(key, Action::Incr { by }, ReplyForm::Number),
        Command::Persist(key) => write(key, Action::Persist, ReplyForm::Applied),
        Command::GetDel(key) => {
            planner.write(key, Condition::Always, ReturnPrevious::Entry, Action::Delete, ReplyForm::Previous)
        }
        Command::GetEx { key, expiry } => planner.get_ex(key, expiry)?,
        Command::MSet(pairs) => {
            let put = |(key, value)| {
                let action = Action::Put { value: request.share(value), ttl: TimeToLive::Forever };
                mutation(request.share(key), action)
            };
            planner.writes(pairs.map(put), ReplyForm::Ok)
        }
        Command::MSetNx(pairs) => planner.set_all_or_nothing(pairs)?,
        Command::Delete(keys) => {
            planner.writes(keys.map(|key| mutation(request.share(key), Action::Delete)), ReplyForm::Applied)
        }
        Command::Expire { key, deadline, condition } => {
            write(key, planner.expire_if(deadline, condition)?, ReplyForm::Applied)
        }
        Command::SetRange { key, offset, value } => {
            let action = Action::SetRange { offset: offset as u64, value: request.share(value) };
            write(key, action, ReplyForm::Number)
        }
        Command::SetBit { key, offset, bit } => {
            write(key, Action::SetBit { offset: offset as u64, bit }, ReplyForm::Number)
        }
        Command::IncrByFloat { by, .. } if by.len() > DECIMAL_BYTES_MAX => return Err(CommandError::NotAFloat.into()),
        Command::IncrByFloat { key, by } => {
            write(key, Action::IncrDecimal { by: request.share(by) }, ReplyForm::Decimal)
        }
        Command::DelIfEqual { key, value } => {
            let condition = Condition::IfEquals(request.share(value));
            planner.write(key, condition, ReturnPrevious::Nothing, Action::Delete, ReplyForm::Applied)
        }
        Command::Rename { from, to, only_if_absent } => {
            let (from, to) = (request.share(from), request.share(to));
            let form = ReplyForm::Renamed { only_if_absent };
            planner.moves(TransactionOperation::Rename { from, to, if_absent: only_if_absent }, form)
        }
        Command::Copy { database: Some(1..), .. } => return Err(CommandError::DatabaseOutOfRange.into()),
        Command::Copy { from, to, replace, .. } => {
            let (from, to) = (request.share(from), request.share(to));
            planner.moves(TransactionOperation::Copy { from, to, if_absent: !replace }, ReplyForm::Applied)
        }
        Command::Scan(scan) => walked(Walk::scan(&scan, ground())?, false),
        Command::Keys(pattern) => walked(Walk::keys(pattern, ground()), false),
        Command::RandomKey => walked(Walk::random(ground(), place.drawn), false),
        Command::Flush { .. } => walked(Walk::new(WalkKind::Flush, ground()), true),
        Command::Cluster(ClusterCommand::CountKeysInSlot(slot)) => {
            walked(Walk::count_of_slot(slot, shard_of_slot(slot, planner.shards), ground()), false)
        }
        Command::Cluster(ClusterCommand::GetKeysInSlot { slot, count }) => {
            walked(Walk::keys_of_slot(slot, count, shard_of_slot(slot, planner.shards), ground()), false)
        }
        _ => return Err(planner.absent()),
    })
}

fn walked(walk: Walk, writes: bool) -> Planned {
    Planned { asked: Vec::new(), walk: Some(walk), form: ReplyForm::Walked, touches: Touches::All { writes } }
}

fn mutation(key: Bytes, action: Action) -> Mutation {
    Mutation { key, condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action }
}

/// A write that has no number yet.
pub(super) const UNNUMBERED: WriteId = WriteId { sequence: 0, first_unanswered: 0, retry: false, once: None };

/// How long something lives.
#[derive(Clone, Copy)]
enum Life {
    /// So many milliseconds.
    Ms(u64),
    /// Up to this time of the clock, in milliseconds since 1970.
    Until(u64),
}

impl From<Life> for TimeToLive {
    fn from(life: Life) -> Self {
        match life {
            Life::Ms(ttl_ms) => Self::Ms(ttl_ms),
            Life::Until(at_ms) => Self::Until(at_ms),
        }
    }
}

struct Planner<'a> {
    request: &'a Request,
    spec: &'static CommandSpec,
    now_ms: u64,
    shards: u16,
}

impl Planner<'_> {
    fn absent(&self) -> Refusal {
        Refusal::Text(format!("ERR {} is not there yet", self.spec.full_name.replace('|', " ").to_ascii_uppercase()))
    }

    /// RENAME and COPY: a transaction of one operation.
    fn moves(&self, operation: TransactionOperation, form: ReplyForm) -> Planned {
        let keys = match &operation {
            TransactionOperation::Rename { from, to, .. } | TransactionOperation::Copy { from, to, .. } => {
                vec![from, to]
            }
            TransactionOperation::Read(key) => vec![key],
            TransactionOperation::Write(mutation) => vec![&mutation.key],
        };
        let touches = Touches::Writes(keys.into_iter().map(|key| hash64(key)).collect());
        let transaction = TransactionRequest { id: UNNUMBERED, checks: Vec::new(), operations: vec![operation] };
        Planned { asked: vec![RequestBody::Transaction(transaction)], walk: None, form, touches }
    }

    fn read(&self, key: &[u8], form: ReplyForm) -> Planned {
        let body = RequestBody::Get { key: self.request.share(key), mode: ReadMode::Linearizable };
        Planned::read(key, body, form)
    }

    fn reads<'k>(&self, keys: impl Iterator<Item = &'k [u8]>, form: ReplyForm) -> Planned {
        let keys: Vec<Bytes> = keys.map(|key| self.request.share(key)).collect();
        let touches = Touches::Reads(keys.iter().map(|key| hash64(key)).collect());
        let ask = |keys: &[Bytes]| RequestBody::MultiGet { keys: keys.to_vec(), mode: ReadMode::Linearizable };
        Planned { asked: keys.chunks(BATCH_OPERATIONS_MAX).map(ask).collect(), walk: None, form, touches }
    }

    fn write(
        &self,
        key: &[u8],
        condition: Condition,
        return_previous: ReturnPrevious,
        action: Action,
        form: ReplyForm,
    ) -> Planned {
        let mutation = Mutation { key: self.request.share(key), condition, return_previous, action };
        let body = RequestBody::Write { id: UNNUMBERED, ack: Ack::Committed, mutation };
        Planned { asked: vec![body], walk: None, form, touches: Touches::Writes(vec![hash64(key)]) }
    }

    fn writes(&self, mutations: impl Iterator<Item = Mutation>, form: ReplyForm) -> Planned {
        let mutations: Vec<Mutation> = mutations.collect();
        let touches = Touches::Writes(mutations.iter().map(|mutation| hash64(&mutation.key)).collect());
        Planned { asked: grouped(mutations, self.shards), walk: None, form, touches }
    }

    /// MSETNX: all of it or nothing, so all of one shard.
    fn set_all_or_nothing(&self, pairs: Pairs<'_>) -> Result<Planned, Refusal> {
        if pairs.len() > BATCH_OPERATIONS_MAX {
            return Err(Refusal::Text(format!("ERR MSETNX takes {BATCH_OPERATIONS_MAX} keys at most")));
        }
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let put = |(key, value)| {
            // A key that is named again is there by then.
            let condition = if seen.insert(key) { Condition::IfAbsent } else { Condition::Always };
            let action = Action::Put { value: self.request.share(value), ttl: TimeToLive::Forever };
            Mutation { condition, ..mutation(self.request.share(key), action) }
        };
        let mutations: Vec<Mutation> = pairs.map(put).collect();
        let touches = Touches::Writes(mutations.iter().map(|mutation| hash64(&mutation.key)).collect());
        let asked = vec![atomic(mutations)];
        Ok(Planned { asked, walk: None, form: ReplyForm::AllOrNothing, touches })
    }

    fn set(&self, set: &Set<'_>) -> Result<Planned, Refusal> {
        let condition = match set.condition {
            SetCondition::Always => Condition::Always,
            SetCondition::IfAbsent => Condition::IfAbsent,
            SetCondition::IfPresent => Condition::IfPresent,
            SetCondition::IfEqual(value) => Condition::IfEquals(self.request.share(value)),
        };
        let value = self.request.share(set.value);
        let action = match set.expiry {
            SetExpiry::Never => Action::Put { value, ttl: TimeToLive::Forever },
            SetExpiry::Keep => Action::Put { value, ttl: TimeToLive::Keep },
            SetExpiry::At(deadline) => match self.life(deadline)? {
                Some(ttl) => Action::Put { value, ttl: ttl.into() },
                // It has expired before it is there.
                None => Action::Delete,
            },
        };
        let (previous, form) = match set.reply {
            SetReply::OkOrNull => (ReturnPrevious::Nothing, ReplyForm::OkOrNull),
            SetReply::OldValue => (ReturnPrevious::Entry, ReplyForm::Previous),
            SetReply::OneOrZero => (ReturnPrevious::Nothing, ReplyForm::Applied),
        };
        Ok(self.write(set.key, condition, previous, action, form))
    }

    fn get_ex(&self, key: &[u8], expiry: GetExpiry) -> Result<Planned, Refusal> {
        let action = match expiry {
            GetExpiry::Keep => return Ok(self.read(key, ReplyForm::Value)),
            GetExpiry::Remove => Action::Persist,
            GetExpiry::At(deadline) => self.expire(deadline)?,
        };
        Ok(self.write(key, Condition::Always, ReturnPrevious::Entry, action, ReplyForm::Previous))
    }

    fn expire(&self, deadline: Deadline) -> Result<Action, Refusal> {
        Ok(match self.life(deadline)? {
            Some(Life::Ms(ttl_ms)) => Action::Expire { ttl_ms },
            Some(Life::Until(at_ms)) => Action::ExpireAt { at_ms, when: None },
            None => Action::Delete,
        })
    }

    /// EXPIRE, if something holds for the key's expiry.
    fn expire_if(&self, deadline: Deadline, condition: ExpireCondition) -> Result<Action, Refusal> {
        let when = match condition {
            ExpireCondition::Always => return self.expire(deadline),
            ExpireCondition::IfNone => ExpireWhen::None,
            ExpireCondition::IfSome => ExpireWhen::Some,
            ExpireCondition::IfLater => ExpireWhen::Longer,
            ExpireCondition::IfEarlier => ExpireWhen::Shorter,
            ExpireCondition::IfSomeAndEarlier => ExpireWhen::SomeAndShorter,
        };
        Ok(match self.life(deadline)? {
            Some(Life::Ms(ttl_ms)) => Action::ExpireIf { ttl_ms, when },
            Some(Life::Until(at_ms)) => Action::ExpireAt { at_ms, when: Some(when) },
            None => Action::ExpireIf { ttl_ms: 0, when },
        })
    }

    /// How long something lives that expires then; nothing if that has passed. What is too far away is brought nearer.
    fn life(&self, deadline: Deadline) -> Result<Option<Life>, Refusal> {
        let invalid = CommandError::InvalidExpireTime(self.spec.full_name);
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let at_ms = deadline.at_ms(now_ms).ok_or(invalid)?;
        let (Ok(ttl_ms @ 1..), Ok(at_ms)) = (u64::try_from(at_ms.saturating_sub(now_ms)), u64::try_from(at_ms)) else {
            return Ok(None);
        };
        Ok(Some(match deadline {
            Deadline::After(_) => Life::Ms(ttl_ms.min(TTL_MS_MAX)),
            Deadline::At(_) => Life::Until(at_ms.min(EXPIRY_MS_MAX)),
        }))
    }
}

/// Requests that write all of these: one for each shard, which goes through or leaves nothing, or more where these are many.
pub(super) fn grouped(mutations: Vec<Mutation>, shards: u16) -> Vec<RequestBody> {
    let mut of_shards: BTreeMap<ShardId, Vec<Vec<Mutation>>> = BTreeMap::new();
    let mut bytes: BTreeMap<ShardId, usize> = BTreeMap::new();
    for mutation in mutations {
        let shard = shard_of(&mutation.key, shards);
        let (groups, bytes) = (of_shards.entry(shard).or_default(), bytes.entry(shard).or_default());
        let added = mutation.key.len() + value_bytes(&mutation.action);
        match groups.last_mut() {
            Some(group) if group.len() < BATCH_OPERATIONS_MAX && *bytes + added <= GROUP_BYTES_MAX => {
                group.push(mutation);
                *bytes += added;
            }
            _ => {
                groups.push(vec![mutation]);
                *bytes = added;
            }
        }
    }
    of_shards.into_values().flatten().map(one_request).collect()
}

/// Most bytes of keys and values that one request writes, unless it is a single write.
const GROUP_BYTES_MAX: usize = 8 << 20;

fn value_bytes(action: &Action) -> usize {
    match action {
        Action::Put { value, .. } | Action::Append { value } | Action::SetRange { value, .. } => value.len(),
        _ => 0,
    }
}

fn one_request(mut mutations: Vec<Mutation>) -> RequestBody {
    if mutations.len() == 1 {
        let mutation = mutations.remove(0);
        return RequestBody::Write { id: UNNUMBERED, ack: Ack::Committed, mutation };
    }
    atomic(mutations)
}

fn atomic(mutations: Vec<Mutation>) -> RequestBody {
    let checks = Vec::new();
    RequestBody::Atomic(AtomicRequest { id: UNNUMBERED, ack: Ack::Committed, checks, mutations })
}

/// Whether a request writes: then it has a number.
pub(super) fn is_write(body: &RequestBody) -> bool {
    matches!(body, RequestBody::Write { .. } | RequestBody::Atomic(_) | RequestBody::Transaction(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: String, bytes: usize) -> Mutation {
        mutation(key.into(), Action::Put { value: vec![0; bytes].into(), ttl: TimeToLive::Forever })
    }

    #[test]
    fn writes_of_a_shard_go_together_in_their_order() {
        let all: Vec<Mutation> = (0..200).map(|number| put(format!("key-{}", number % 60), number)).collect();
        let asked = grouped(all.clone(), 4);
        assert_eq!(asked.len(), 4);
        let mut seen = 0;
        for body in asked {
            let RequestBody::Atomic(AtomicRequest { mutations, .. }) = body else { panic!("{body:?}") };
            let shard = shard_of(&mutations[0].key, 4);
            let expected = all.iter().filter(|mutation| shard_of(&mutation.key, 4) == shard);
            assert!(mutations.iter().eq(expected));
            seen += mutations.len();
        }
        assert_eq!(seen, 200);
    }

    #[test]
    fn what_is_too_much_for_one_request_is_divided() {
        let many = grouped((0..BATCH_OPERATIONS_MAX + 1).map(|number| put(number.to_string(), 1)).collect(), 1);
        assert!(matches!(&many[..], [RequestBody::Atomic(_), RequestBody::Write { .. }]));
        let large = grouped((0..3).map(|number| put(number.to_string(), GROUP_BYTES_MAX / 2)).collect(), 1);
        assert_eq!(large.len(), 3);
        assert!(grouped(Vec::new(), 1).is_empty());
    }

    #[test]
    fn times_of_the_clock_stay_what_they_are_and_what_is_far_away_is_brought_nearer() {
        let action = |words: &[&[u8]]| {
            let request = Request::of(words);
            let spec = kvorum_resp::table::resolve(&request).unwrap();
            let command = Command::parse(spec, &request).unwrap();
            let place = Circumstances { now_ms: 1_000, ground: &|| Ground::All(1), shards: 1, drawn: 0 };
            match plan(&command, spec, &request, &place).unwrap().asked.remove(0) {
                RequestBody::Write { mutation, .. } => mutation.action,
                body => panic!("{body:?}"),
            }
        };
        let at = |at_ms| Action::ExpireAt { at_ms, when: None };
        assert_eq!(action(&[b"PEXPIREAT", b"k", b"1001"]), at(1001));
        assert_eq!(action(&[b"PEXPIREAT", b"k", b"1000"]), Action::Delete);
        assert_eq!(action(&[b"PEXPIREAT", b"k", b"-9223372036854770000"]), Action::Delete);
        assert_eq!(action(&[b"GETEX", b"k", b"PXAT", b"1001"]), at(1001));
        assert_eq!(action(&[b"PEXPIREAT", b"k", b"9223372036854770000"]), at(EXPIRY_MS_MAX));
        assert_eq!(action(&[b"EXPIRE", b"k", b"9223372036854"]), Action::Expire { ttl_ms: TTL_MS_MAX });
        assert_eq!(action(&[b"EXPIRE", b"k", b"7", b"NX"]), Action::ExpireIf { ttl_ms: 7_000, when: ExpireWhen::None });
        let when = Some(ExpireWhen::Longer);
        assert_eq!(action(&[b"EXPIREAT", b"k", b"7", b"GT"]), Action::ExpireAt { at_ms: 7_000, when });
        let put = |ttl| Action::Put { value: "v".into(), ttl };
        assert_eq!(action(&[b"SET", b"k", b"v", b"PXAT", b"1001"]), put(TimeToLive::Until(1001)));
        assert_eq!(action(&[b"SET", b"k", b"v", b"PX", b"1"]), put(TimeToLive::Ms(1)));
    }

    #[test]
    fn commands_meet_in_their_keys() {
        let (few, many) = (Touches::Reads(vec![1, 2]), Touches::Writes((2..100).collect()));
        assert!(few.meet(&many) && many.meet(&few) && many.meet(&many));
        assert!(!few.meet(&Touches::Reads(vec![3])) && few.meet(&Touches::All { writes: false }));
        assert!(!many.meet(&Touches::Writes((200..300).collect())));
    }
}
