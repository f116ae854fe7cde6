//! Operations on many keys: reads and independent writes that fan out to the shard leaders, and atomic ones in one shard.

use crate::client::{Client, check_key};
use crate::core::{Call, unexpected};
use crate::grouped::{Member, run_grouped, sort_by_leader};
use crate::operation::{Entry, WriteOp, WriteResult, mutation_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{
    Ack, AtomicCheck, AtomicRequest, Condition, Mutation, ReadMode, RequestBody, ResponseBody, Version, WriteId,
};
use std::future::IntoFuture;
use std::time::Duration;

/// A read of many keys; see [`Client::get_many`]. It resolves to a result per key, in the order asked.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct GetMany {
    client: Client,
    keys: Vec<Bytes>,
    mode: ReadMode,
    deadline: Option<Duration>,
}

impl GetMany {
    pub(crate) fn new(client: &Client, keys: Vec<Bytes>) -> Self {
        GetMany { client: client.clone(), keys, mode: client.core.options.read_mode, deadline: None }
    }

    /// Whatever some replica of each key's shard holds; may be old.
    pub fn stale(mut self) -> Self {
        self.mode = ReadMode::Stale;
        self
    }

    /// How long it may take as a whole.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Vec<Result<Option<Entry>, Error>> {
        let deadline = self.client.deadline(self.deadline);
        let mut results: Vec<Option<Result<Option<Entry>, Error>>> = Vec::with_capacity(self.keys.len());
        let mut members = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let refused = check_key(key).err();
            if refused.is_none() {
                members.push(Member::new(index, key.clone(), key.len() + 8));
            }
            results.push(refused.map(Err));
        }
        let build = |members: &[Member]| RequestBody::MultiGet {
            keys: members.iter().map(|member| member.key.clone()).collect(),
            mode: self.mode,
        };
        let unpack = |body: ResponseBody| match body {
            ResponseBody::Values(values) => Ok(values),
            other => Err(unexpected(&other, Kind::Read)),
        };
        for (index, result) in run_grouped(&self.client, Kind::Read, deadline, members, build, unpack).await {
            let key = self.keys[index].clone();
            results[index] = Some(result.map(|entry| entry.map(|entry| Entry::new(key, entry))));
        }
        results.into_iter().map(|result| result.expect("every key was refused or answered")).collect()
    }
}

impl IntoFuture for GetMany {
    type Output = Vec<Result<Option<Entry>, Error>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Independent writes; see [`Client::batch`]. It resolves to a result per write, in the order they were added. Writes to
/// one key take effect in that order unless one of them has to be retried.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Batch {
    client: Client,
    ops: Vec<WriteOp>,
    ack: Ack,
    deadline: Option<Duration>,
}

impl Batch {
    pub(crate) fn new(client: &Client) -> Self {
        Batch { client: client.clone(), ops: Vec::new(), ack: Ack::Committed, deadline: None }
    }

    /// Adds a put.
    pub fn put(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.write(WriteOp::put(key, value))
    }

    /// Adds a delete.
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.write(WriteOp::delete(key))
    }

    /// Adds an increment.
    pub fn incr(self, key: impl AsRef<[u8]>, by: i64) -> Self {
        self.write(WriteOp::incr(key, by))
    }

    /// Adds any write.
    pub fn write(mut self, op: WriteOp) -> Self {
        self.ops.push(op);
        self
    }

    /// When each is answered; see [`crate::Write::ack`].
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// How long it may take as a whole.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Vec<Result<WriteResult, Error>> {
        let deadline = self.client.deadline(self.deadline);
        let mut results: Vec<Option<Result<WriteResult, Error>>> = Vec::with_capacity(self.ops.len());
        let mut mutations = Vec::with_capacity(self.ops.len());
        let mut members = Vec::with_capacity(self.ops.len());
        for (index, op) in self.ops.into_iter().enumerate() {
            let checked = op.checked();
            if let Ok(mutation) = &checked {
                members.push(Member::new(index, mutation.key.clone(), mutation_bytes(mutation)));
            }
            results.push(checked.as_ref().err().cloned().map(Err));
            mutations.push(checked.ok());
        }
        // Numbered in the order of their leaders, the writes of one request have numbers in a row.
        sort_by_leader(&self.client, &mut members);
        let sequences = self.client.core.sequences(members.len());
        for (member, sequence) in members.iter_mut().zip(sequences.first..) {
            member.sequence = sequence;
        }
        let mutation =
            |index: usize| -> Mutation { mutations[index].clone().expect("only checked writes are members") };
        let build = |members: &[Member]| RequestBody::Batch {
            id: WriteId {
                sequence: members[0].sequence,
                first_unanswered: sequences.first,
                retry: members.iter().any(|member| member.is_unresolved),
            },
            ack: self.ack,
            mutations: members.iter().map(|member| mutation(member.index)).collect(),
        };
        let unpack = |body: ResponseBody| match body {
            ResponseBody::Batch(results) => Ok(results),
            other => Err(unexpected(&other, Kind::Write)),
        };
        for (index, result) in run_grouped(&self.client, Kind::Write, deadline, members, build, unpack).await {
            results[index] = Some(result.map(|result| WriteResult::new(&mutation(index).key, result)));
        }
        results.into_iter().map(|result| result.expect("every write was refused or answered")).collect()
    }
}

impl IntoFuture for Batch {
    type Output = Vec<Result<WriteResult, Error>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Checks and writes in one shard that take effect together or not at all; see [`Client::atomic`]. At most 4096 of them.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Atomic {
    client: Client,
    tag: Bytes,
    checks: Vec<AtomicCheck>,
    ops: Vec<WriteOp>,
    ack: Ack,
    deadline: Option<Duration>,
}

/// What became of an atomic that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AtomicResult {
    /// All of it took effect: a result per write, in order.
    Applied(Vec<WriteResult>),
    /// Nothing did.
    ConditionFailed {
        /// The first check that did not hold, counted from 0: first the checks, then the writes.
        position: u32,
        /// The version that its key has, 0 if there is no such key.
        version: Version,
    },
}

impl Atomic {
    pub(crate) fn new(client: &Client, tag: &[u8]) -> Self {
        Atomic {
            client: client.clone(),
            tag: Bytes::copy_from_slice(tag),
            checks: Vec::new(),
            ops: Vec::new(),
            ack: Ack::Committed,
            deadline: None,
        }
    }

    /// Adds a condition on a key that need not be written.
    pub fn check(mut self, key: impl AsRef<[u8]>, condition: Condition) -> Self {
        self.checks.push(AtomicCheck { key: Bytes::copy_from_slice(key.as_ref()), condition });
        self
    }

    /// Adds a put.
    pub fn put(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.write(WriteOp::put(key, value))
    }

    /// Adds a delete.
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.write(WriteOp::delete(key))
    }

    /// Adds an increment.
    pub fn incr(self, key: impl AsRef<[u8]>, by: i64) -> Self {
        self.write(WriteOp::incr(key, by))
    }

    /// Adds any write; a later one sees the effects of the earlier ones.
    pub fn write(mut self, op: WriteOp) -> Self {
        self.ops.push(op);
        self
    }

    /// When it is answered; see [`crate::Write::ack`].
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Result<AtomicResult, Error> {
        check_key(&self.tag)?;
        let size = self.checks.len() + self.ops.len();
        if size > BATCH_OPERATIONS_MAX {
            return Err(Error::TooLarge { what: "the number of checks and writes", size, limit: BATCH_OPERATIONS_MAX });
        }
        self.checks.iter().try_for_each(|check| check_key(&check.key))?;
        let mutations = self.ops.into_iter().map(WriteOp::checked).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = mutations.iter().map(|mutation| mutation.key.clone()).collect();
        let bytes = mutations.iter().map(mutation_bytes).sum::<usize>()
            + self.checks.iter().map(|check| check.key.len() + 32).sum::<usize>();
        let limit = kvorum_protocol::limits::FRAME_BYTES_MAX - 64;
        if bytes > limit {
            return Err(Error::TooLarge { what: "the atomic's length in bytes", size: bytes, limit });
        }
        let sequence = self.client.core.sequences(1);
        let request = AtomicRequest { id: sequence.write_id(), ack: self.ack, checks: self.checks, mutations };
        let call = Call {
            need: self.client.need_leader(&self.tag),
            kind: Kind::Write,
            body: RequestBody::Atomic(request),
            bytes,
            deadline: self.client.deadline(self.deadline),
            sequence: Some(sequence),
        };
        match self.client.core.execute(call).await? {
            ResponseBody::Atomic(kvorum_protocol::AtomicResult::Applied(results)) if results.len() == keys.len() => {
                let results = keys.iter().zip(results).map(|(key, result)| WriteResult::new(key, result));
                Ok(AtomicResult::Applied(results.collect()))
            }
            ResponseBody::Atomic(kvorum_protocol::AtomicResult::ConditionFailed { position, version }) => {
                Ok(AtomicResult::ConditionFailed { position, version })
            }
            other => Err(unexpected(&other, Kind::Write)),
        }
    }
}

impl IntoFuture for Atomic {
    type Output = Result<AtomicResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
