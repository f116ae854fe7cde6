//! What a command asks of the cluster: requests of the session, and how their answers become a reply.

use super::walk::{Walk, WalkKind};
use bytes::Bytes;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::limits::{BATCH_OPERATIONS_MAX, TTL_MS_MAX};
use kvorum_protocol::{
    Ack, Action, Condition, Mutation, ReadMode, RequestBody, ReturnPrevious, StatusScope, TimeToLive, WriteId,
};
use kvorum_resp::command::{Deadline, ExpireCondition, GetExpiry, Set, SetCondition, SetExpiry, SetReply, TtlForm};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{Command, CommandError, Request};

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
    /// What the walk has found.
    Walked,
}

/// Why a command is not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its arguments are wrong.
    Command(CommandError),
    /// Kvorum does not have it yet: this text says what.
    Absent(String),
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// What to do for a command of keys. `now_ms`: the time, in milliseconds since 1970. `shards`: how many the cluster has.
///
/// # Errors
/// It is not there yet, or what it asks for can't be written.
pub(super) fn plan(
    command: &Command<'_>,
    spec: &'static CommandSpec,
    request: &Request,
    now_ms: u64,
    shards: u16,
) -> Result<Planned, Refusal> {
    let planner = Planner { request, spec, now_ms };
    let get = |key: &[u8], form| planner.read(key, form);
    let write = |key: &[u8], action, form| planner.write(key, Condition::Always, ReturnPrevious::Nothing, action, form);
    Ok(match *command {
        Command::Get(key) => get(key, ReplyForm::Value),
        Command::StrLen(key) => get(key, ReplyForm::Length),
        Command::GetRange { key, start, end } => get(key, ReplyForm::Range { start, end }),
        Command::Type(key) => get(key, ReplyForm::Type),
        Command::Ttl { key, form } => get(key, ReplyForm::Ttl(form)),
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
        Command::Delete(keys) => {
            planner.writes(keys.map(|key| mutation(request.share(key), Action::Delete)), ReplyForm::Applied)
        }
        Command::Expire { key, deadline, condition: ExpireCondition::Always } => {
            write(key, planner.expire(deadline)?, ReplyForm::Applied)
        }
        Command::DbSize => Planned {
            asked: vec![RequestBody::Status(StatusScope::Cluster)],
            walk: None,
            form: ReplyForm::Keys,
            touches: Touches::All { writes: false },
        },
        Command::Scan(scan) => walked(Walk::scan(&scan, shards)?, false),
        Command::Keys(pattern) => walked(Walk::keys(pattern, shards), false),
        Command::Flush { .. } => walked(Walk::new(WalkKind::Flush, shards), true),
        Command::Expire { .. } => return Err(planner.absent("with NX, XX, GT or LT")),
        _ => return Err(planner.absent("")),
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

struct Planner<'a> {
    request: &'a Request,
    spec: &'static CommandSpec,
    now_ms: u64,
}

impl Planner<'_> {
    fn absent(&self, how: &str) -> Refusal {
        let name = self.spec.full_name.replace('|', " ").to_ascii_uppercase();
        Refusal::Absent(format!("ERR {} is not there yet", format!("{name} {how}").trim_end()))
    }

    fn read(&self, key: &[u8], form: ReplyForm) -> Planned {
        let body = RequestBody::Get { key: self.request.share(key), mode: ReadMode::Linearizable };
        Planned { asked: vec![body], walk: None, form, touches: Touches::Reads(vec![hash64(key)]) }
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
        Planned { asked: batches(mutations), walk: None, form, touches }
    }

    fn set(&self, set: &Set<'_>) -> Result<Planned, Refusal> {
        let condition = match set.condition {
            SetCondition::Always => Condition::Always,
            SetCondition::IfAbsent => Condition::IfAbsent,
            SetCondition::IfPresent => Condition::IfPresent,
            SetCondition::IfEqual(_) => return Err(self.absent("with IFEQ")),
        };
        let value = self.request.share(set.value);
        let action = match set.expiry {
            SetExpiry::Never => Action::Put { value, ttl: TimeToLive::Forever },
            SetExpiry::Keep => Action::Put { value, ttl: TimeToLive::Keep },
            SetExpiry::At(deadline) => match self.ttl_ms(deadline)? {
                Some(ttl_ms) => Action::Put { value, ttl: TimeToLive::Ms(ttl_ms) },
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
        Ok(self.ttl_ms(deadline)?.map_or(Action::Delete, |ttl_ms| Action::Expire { ttl_ms }))
    }

    /// How long something lives that expires then; nothing if that has passed.
    fn ttl_ms(&self, deadline: Deadline) -> Result<Option<u64>, Refusal> {
        let invalid = CommandError::InvalidExpireTime(self.spec.full_name);
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let at_ms = deadline.at_ms(now_ms).ok_or(invalid.clone())?;
        match u64::try_from(at_ms.saturating_sub(now_ms)) {
            Err(_) | Ok(0) => Ok(None),
            Ok(ttl_ms) if ttl_ms <= TTL_MS_MAX => Ok(Some(ttl_ms)),
            Ok(_) => Err(invalid.into()),
        }
    }
}

/// Requests that write all of these.
pub(super) fn batches(mut mutations: Vec<Mutation>) -> Vec<RequestBody> {
    if mutations.len() == 1 {
        let mutation = mutations.remove(0);
        return vec![RequestBody::Write { id: UNNUMBERED, ack: Ack::Committed, mutation }];
    }
    let mut asked = Vec::new();
    while !mutations.is_empty() {
        let rest = mutations.split_off(mutations.len().min(BATCH_OPERATIONS_MAX));
        asked.push(RequestBody::Batch { id: UNNUMBERED, ack: Ack::Committed, mutations });
        mutations = rest;
    }
    asked
}

/// Writes in a request, each of which has a number.
pub(super) fn writes_in(body: &RequestBody) -> u64 {
    match body {
        RequestBody::Write { .. } => 1,
        RequestBody::Batch { mutations, .. } => mutations.len() as u64,
        _ => 0,
    }
}
