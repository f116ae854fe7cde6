//! Operations on one key, as builders that run when they are awaited.

use crate::client::{Client, check_key};
use crate::core::{Call, unexpected};
use crate::limits::DETACHED_VALUE_BYTES;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::limits::{TTL_MS_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{
    Ack, Action, Condition, Mutation, ReadMode, RequestBody, ResponseBody, Version, WriteResult as WireResult,
};
use kvorum_protocol::{Durability, WriteStatus};
use std::future::IntoFuture;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; empty from a scan that did not ask for values.
    pub value: Bytes,
    /// Grows with every write of the key's shard; what `if_version` compares.
    pub version: Version,
    /// When the key expires, in milliseconds of its shard's log time, which is close to Unix time. `None` is never.
    pub expires_at_ms: Option<u64>,
}

/// What became of a write that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteResult {
    /// Whether it took effect.
    pub status: WriteStatus,
    /// After an effect, the key's new version (for a delete, the one that the removal was given); else the version the
    /// key has, or 0 if there is no such key.
    pub version: Version,
    /// What was waited for.
    pub ack: Ack,
    /// What that is worth.
    pub durability: Durability,
    /// After `incr` the new number, after `append` the new length in bytes.
    pub number: Option<i64>,
    /// The entry that was there before, if it was asked for and there was one.
    pub previous: Option<Entry>,
}

impl Entry {
    pub(crate) fn new(key: Bytes, entry: kvorum_protocol::Entry) -> Self {
        Entry { key, value: detach(entry.value), version: entry.version, expires_at_ms: entry.expires_at_ms }
    }

    /// When the key expires, by the clock of this machine if it agrees with the cluster's.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at_ms.map(|at| UNIX_EPOCH + Duration::from_millis(at))
    }

    /// The time that is left, by the clock of this machine. `None` if the key does not expire.
    pub fn ttl(&self) -> Option<Duration> {
        self.expires_at().map(|at| at.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl WriteResult {
    pub(crate) fn new(key: &Bytes, result: WireResult) -> Self {
        WriteResult {
            status: result.status,
            version: result.version,
            ack: result.ack,
            durability: result.durability,
            number: result.number,
            previous: result.previous.map(|entry| Entry::new(key.clone(), entry)),
        }
    }

    /// Whether the write took effect.
    pub fn is_applied(&self) -> bool {
        self.status == WriteStatus::Applied
    }
}

/// A small value shares the memory of the buffer it was read into, with everything else that came with it. Whoever keeps
/// it should not keep all of that.
fn detach(value: Bytes) -> Bytes {
    if value.len() <= DETACHED_VALUE_BYTES { Bytes::copy_from_slice(&value) } else { value }
}

/// A read of one key; see [`Client::get`].
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Get {
    client: Client,
    key: Bytes,
    mode: ReadMode,
    deadline: Option<Duration>,
}

impl Get {
    pub(crate) fn new(client: &Client, key: &[u8]) -> Self {
        let mode = client.core.options.read_mode;
        Get { client: client.clone(), key: Bytes::copy_from_slice(key), mode, deadline: None }
    }

    /// Whatever some replica of the key's shard holds; may be old.
    pub fn stale(self) -> Self {
        self.mode(ReadMode::Stale)
    }

    /// How fresh the answer must be.
    pub fn mode(mut self, mode: ReadMode) -> Self {
        self.mode = mode;
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Result<Option<Entry>, Error> {
        check_key(&self.key)?;
        let need = self.client.need_read(&self.key, self.mode);
        let body = RequestBody::Get { key: self.key.clone(), mode: self.mode };
        match self.client.call(need, Kind::Read, body, self.deadline).await? {
            ResponseBody::Value(entry) => Ok(entry.map(|entry| Entry::new(self.key, entry))),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }
}

impl IntoFuture for Get {
    type Output = Result<Option<Entry>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// One write as a value: what a single write, a batch or an atomic is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteOp {
    mutation: Mutation,
    /// The first thing about it that makes no sense; told when it is sent.
    invalid: Option<Error>,
}

impl WriteOp {
    /// Stores a value, of at most 16 MiB, under a key, of at most 64 KiB.
    #[must_use]
    pub fn put(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        WriteOp::new(key, Action::Put { value: value.into(), ttl_ms: None })
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        WriteOp::new(key, Action::Delete)
    }

    /// Adds to a decimal 64-bit integer; a missing key counts as 0.
    #[must_use]
    pub fn incr(key: impl AsRef<[u8]>, by: i64) -> Self {
        WriteOp::new(key, Action::Incr { by })
    }

    /// Appends bytes; a missing key counts as empty.
    #[must_use]
    pub fn append(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        WriteOp::new(key, Action::Append { value: value.into() })
    }

    /// Sets the time to live of an existing key, from one millisecond to 100 years.
    #[must_use]
    pub fn expire(key: impl AsRef<[u8]>, ttl: Duration) -> Self {
        WriteOp::new(key, Action::Expire { ttl_ms: 0 }).ttl(ttl)
    }

    /// Takes the time to live off an existing key.
    #[must_use]
    pub fn persist(key: impl AsRef<[u8]>) -> Self {
        WriteOp::new(key, Action::Persist)
    }

    /// The time to live that a put gives its key, from one millisecond to 100 years; without it the key lives for ever.
    /// Parts of a millisecond count as a whole one.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let problem = match &mut self.mutation.action {
            Action::Put { ttl_ms, .. } if (1..=TTL_MS_MAX).contains(&ms) => {
                *ttl_ms = Some(ms);
                return self;
            }
            Action::Expire { ttl_ms } if (1..=TTL_MS_MAX).contains(&ms) => {
                *ttl_ms = ms;
                return self;
            }
            Action::Put { .. } | Action::Expire { .. } => "a time to live is from one millisecond to 100 years",
            Action::Delete | Action::Incr { .. } | Action::Append { .. } | Action::Persist => {
                "only a put and an expire take a time to live"
            }
        };
        self.invalid.get_or_insert(Error::InvalidArgument(problem.to_owned()));
        self
    }

    /// Only if there is no such key.
    #[must_use]
    pub fn if_absent(self) -> Self {
        self.condition(Condition::IfAbsent)
    }

    /// Only if there is such a key.
    #[must_use]
    pub fn if_present(self) -> Self {
        self.condition(Condition::IfPresent)
    }

    /// Only if the key has this version: compare and set.
    #[must_use]
    pub fn if_version(self, version: Version) -> Self {
        self.condition(Condition::IfVersion(version))
    }

    /// What must hold; the last one said counts.
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.mutation.condition = condition;
        self
    }

    /// Asks for the entry that was there before.
    #[must_use]
    pub fn return_previous(mut self) -> Self {
        self.mutation.return_previous = true;
        self
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.mutation.key
    }

    /// Whether the entry that was there before is asked for.
    pub fn returns_previous(&self) -> bool {
        self.mutation.return_previous
    }

    /// Whether writing it twice in a row leaves what writing it once leaves, so that it may be written again when it is not
    /// known whether it took effect.
    pub fn is_idempotent(&self) -> bool {
        let is_absolute = match self.mutation.action {
            Action::Put { .. } | Action::Delete | Action::Expire { .. } | Action::Persist => true,
            Action::Incr { .. } | Action::Append { .. } => false,
        };
        // A condition that failed the second time would hide that it held the first time.
        is_absolute && matches!(self.mutation.condition, Condition::Always | Condition::IfPresent)
    }

    fn new(key: impl AsRef<[u8]>, action: Action) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        WriteOp {
            mutation: Mutation { key, condition: Condition::Always, return_previous: false, action },
            invalid: None,
        }
    }

    /// The mutation, unless no node would take it.
    pub(crate) fn checked(self) -> Result<Mutation, Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        check_key(&self.mutation.key)?;
        match &self.mutation.action {
            Action::Put { value, .. } | Action::Append { value } if value.len() > VALUE_BYTES_MAX => {
                Err(Error::TooLarge { what: "the value's length in bytes", size: value.len(), limit: VALUE_BYTES_MAX })
            }
            _ => Ok(self.mutation),
        }
    }
}

/// About how many bytes a mutation takes in a request.
pub(crate) fn mutation_bytes(mutation: &Mutation) -> usize {
    let value = match &mutation.action {
        Action::Put { value, .. } | Action::Append { value } => value.len(),
        Action::Delete | Action::Incr { .. } | Action::Expire { .. } | Action::Persist => 0,
    };
    mutation.key.len() + value + 32
}

/// A write to one key; see [`Client::put`] and its neighbours. What it resolves to says whether the condition held: a
/// condition that fails is a result, not an error.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Write {
    client: Client,
    op: WriteOp,
    ack: Ack,
    deadline: Option<Duration>,
}

impl Write {
    pub(crate) fn new(client: &Client, op: WriteOp) -> Self {
        Write { client: client.clone(), op, ack: Ack::Committed, deadline: None }
    }

    /// See [`WriteOp::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.op = self.op.ttl(ttl);
        self
    }

    /// Only if there is no such key.
    pub fn if_absent(self) -> Self {
        self.condition(Condition::IfAbsent)
    }

    /// Only if there is such a key.
    pub fn if_present(self) -> Self {
        self.condition(Condition::IfPresent)
    }

    /// Only if the key has this version: compare and set.
    pub fn if_version(self, version: Version) -> Self {
        self.condition(Condition::IfVersion(version))
    }

    /// What must hold; the last one said counts.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.op = self.op.condition(condition);
        self
    }

    /// Asks for the entry that was there before.
    pub fn return_previous(mut self) -> Self {
        self.op = self.op.return_previous();
        self
    }

    /// When to answer: committed by a quorum (the default), or merely accepted by the leader.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Result<WriteResult, Error> {
        let Write { client, op, ack, deadline } = self;
        let mutation = op.checked()?;
        let key = mutation.key.clone();
        let sequence = client.core.sequences(1);
        let call = Call {
            need: client.need_leader(&key),
            kind: Kind::Write,
            bytes: mutation_bytes(&mutation),
            deadline: client.deadline(deadline),
            body: RequestBody::Write { id: sequence.write_id(), ack, mutation },
            sequence: Some(sequence),
        };
        match client.core.execute(call).await? {
            ResponseBody::Written(result) => Ok(WriteResult::new(&key, result)),
            other => Err(unexpected(&other, Kind::Write)),
        }
    }
}

impl IntoFuture for Write {
    type Output = Result<WriteResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
