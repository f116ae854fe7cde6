//! Reads, writes, renames and copies in one shard that are done in turn at one moment.

use crate::client::Client;
use crate::core::{Call, unexpected};
use crate::entry::Entry;
use crate::key::check_key;
use crate::setters::addition_setters;
use crate::write::WriteResult;
use crate::write_op::{WriteOp, compared_bytes, mutation_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::limits::{BATCH_OPERATIONS_MAX, FRAME_BYTES_MAX};
use kvorum_protocol::{
    AtomicCheck, Condition, RequestBody, ResponseBody, ServerError, TransactionOperation, TransactionRequest, Version,
};
use std::future::IntoFuture;
use std::time::Duration;

/// Operations in one shard that are done in turn, with nothing between them; see [`Client::transaction`]. At most 4096 of them, checks
/// included. It resolves to a [`TransactionResult`].
///
/// Each operation has a reply of its own, and sees what those before it have done. One that fails, or whose condition does not hold,
/// does nothing; the others are done all the same. That is what sets it apart from an [`Atomic`](crate::Atomic). Only a check that does
/// not hold keeps all of it from being done.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Transaction {
    client: Client,
    tag: Bytes,
    checks: Vec<AtomicCheck>,
    ops: Operations,
    deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Op {
    Read(Bytes),
    Write(WriteOp),
    Rename { from: Bytes, to: Bytes, if_absent: bool },
    Copy { from: Bytes, to: Bytes, if_absent: bool },
}

/// The operations so far.
#[derive(Clone, Debug, Default)]
struct Operations(Vec<Op>);

impl Operations {
    fn push(&mut self, op: WriteOp) {
        self.0.push(Op::Write(op));
    }
}

/// What became of a transaction that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "nothing may have been done: a check that does not hold is no error"]
pub enum TransactionResult {
    /// It was done: a reply per operation, in order.
    Done(Vec<TransactionReply>),
    /// A check did not hold, and nothing was done.
    Aborted {
        /// The first check that did not hold, counted from 0.
        position: u32,
        /// The version that its key has, 0 if there is no such key.
        version: Version,
    },
}

/// What an operation of a transaction was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionReply {
    /// To a read: the entry, if there is one.
    Value(Option<Entry>),
    /// To a write, a rename or a copy. The version is that of the key that was written.
    Written(WriteResult),
    /// It did nothing.
    Failed(ServerError),
}

impl TransactionResult {
    /// The replies.
    ///
    /// # Errors
    /// The position of the check that did not hold.
    pub fn done(self) -> Result<Vec<TransactionReply>, u32> {
        match self {
            Self::Done(replies) => Ok(replies),
            Self::Aborted { position, .. } => Err(position),
        }
    }
}

impl Transaction {
    pub(crate) fn new(client: &Client, tag: &[u8]) -> Self {
        let tag = Bytes::copy_from_slice(tag);
        Self { client: client.clone(), tag, checks: Vec::new(), ops: Operations::default(), deadline: None }
    }

    /// Adds a condition without which nothing is done: as a rule, that a key still has the version that was read.
    ///
    /// # Examples
    /// ```no_run
    /// # use kvorum_client::{Condition, TransactionResult, Version};
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let read = client.get("{cart}.total").await?.map_or(Version(0), |entry| entry.version);
    /// let order = client.transaction("cart").check("{cart}.total", Condition::IfVersion(read)).put("{cart}.total", "17");
    /// if let TransactionResult::Aborted { .. } = order.await? {
    ///     println!("somebody was faster");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(mut self, key: impl AsRef<[u8]>, condition: Condition) -> Self {
        self.checks.push(AtomicCheck { key: Bytes::copy_from_slice(key.as_ref()), condition });
        self
    }

    /// Adds a read.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let both = client.transaction("bank").get("{bank}.ann").get("{bank}.bob").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(mut self, key: impl AsRef<[u8]>) -> Self {
        self.ops.0.push(Op::Read(Bytes::copy_from_slice(key.as_ref())));
        self
    }

    /// Adds a rename: the entry of `from` becomes that of `to`, with its time to live. If there is none, the reply is a write with
    /// [`WriteStatus::Missing`](crate::WriteStatus::Missing).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let answer = client.transaction("job").rename("{job}.new", "{job}.old").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rename(self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.pair(from.as_ref(), to.as_ref(), |from, to| Op::Rename { from, to, if_absent: false })
    }

    /// Adds a rename that does nothing if there is an entry of `to`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let answer = client.transaction("job").rename_if_absent("{job}.new", "{job}.old").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rename_if_absent(self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.pair(from.as_ref(), to.as_ref(), |from, to| Op::Rename { from, to, if_absent: true })
    }

    /// Adds a copy: as [`Transaction::rename`], and the entry of `from` stays.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let answer = client.transaction("job").copy("{job}.new", "{job}.kept").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy(self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.pair(from.as_ref(), to.as_ref(), |from, to| Op::Copy { from, to, if_absent: false })
    }

    /// Adds a copy that does nothing if there is an entry of `to`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let answer = client.transaction("job").copy_if_absent("{job}.new", "{job}.kept").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_if_absent(self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.pair(from.as_ref(), to.as_ref(), |from, to| Op::Copy { from, to, if_absent: true })
    }

    fn pair(mut self, from: &[u8], to: &[u8], op: impl FnOnce(Bytes, Bytes) -> Op) -> Self {
        self.ops.0.push(op(Bytes::copy_from_slice(from), Bytes::copy_from_slice(to)));
        self
    }

    addition_setters!("client.transaction(\"cart\")");

    /// Sets how long it may take with all its attempts: at most ten minutes, and five seconds unless
    /// [`ClientBuilder::deadline`](crate::ClientBuilder::deadline) says otherwise.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let answer = client.transaction("cart").get("{cart}.1").deadline(Duration::from_millis(200)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn run(self) -> Result<TransactionResult, Error> {
        check_key(&self.tag)?;
        let size = self.checks.len() + self.ops.0.len();
        if size > BATCH_OPERATIONS_MAX {
            return Err(Error::TooLarge {
                what: "the number of checks and operations",
                size,
                limit: BATCH_OPERATIONS_MAX,
            });
        }
        self.checks.iter().try_for_each(|check| check_key(&check.key))?;
        let operations = self.ops.0.into_iter().map(Op::checked).collect::<Result<Vec<_>, _>>()?;
        // The key whose entry a reply may have.
        let keys: Vec<Bytes> =
            operations.iter().map(|operation| operation.keys().last().cloned().unwrap_or_default()).collect();
        let checks =
            self.checks.iter().map(|check| check.key.len() + compared_bytes(&check.condition) + 32).sum::<usize>();
        let bytes = checks + operations.iter().map(operation_bytes).sum::<usize>();
        let limit = FRAME_BYTES_MAX - 64;
        if bytes > limit {
            return Err(Error::TooLarge { what: "the transaction's length in bytes", size: bytes, limit });
        }
        let sequence = self.client.core.sequences(1);
        let request = TransactionRequest { id: sequence.write_id(), checks: self.checks, operations };
        let call = Call {
            need: self.client.need_leader(&self.tag),
            kind: Kind::Write,
            body: RequestBody::Transaction(request),
            bytes,
            deadline: self.client.deadline(self.deadline),
            sequence: Some(sequence),
        };
        match self.client.core.execute(call).await? {
            ResponseBody::Transaction(kvorum_protocol::TransactionResult::Done(replies))
                if replies.len() == keys.len() =>
            {
                let replies = keys.into_iter().zip(replies).map(|(key, reply)| TransactionReply::from_wire(key, reply));
                Ok(TransactionResult::Done(replies.collect()))
            }
            ResponseBody::Transaction(kvorum_protocol::TransactionResult::Aborted { position, version }) => {
                Ok(TransactionResult::Aborted { position, version })
            }
            other => Err(unexpected(&other, Kind::Write)),
        }
    }
}

impl TransactionReply {
    fn from_wire(key: Bytes, reply: kvorum_protocol::TransactionReply) -> Self {
        match reply {
            kvorum_protocol::TransactionReply::Value(entry) => {
                Self::Value(entry.map(|entry| Entry::from_wire(key, entry)))
            }
            kvorum_protocol::TransactionReply::Written(result) => Self::Written(WriteResult::from_wire(&key, result)),
            kvorum_protocol::TransactionReply::Failed(error) => Self::Failed(error),
        }
    }
}

impl Op {
    fn checked(self) -> Result<TransactionOperation, Error> {
        Ok(match self {
            Self::Read(key) => {
                check_key(&key)?;
                TransactionOperation::Read(key)
            }
            Self::Write(op) => TransactionOperation::Write(op.checked()?),
            Self::Rename { from, to, if_absent } => {
                [&from, &to].into_iter().try_for_each(|key| check_key(key))?;
                TransactionOperation::Rename { from, to, if_absent }
            }
            Self::Copy { from, to, if_absent } => {
                [&from, &to].into_iter().try_for_each(|key| check_key(key))?;
                TransactionOperation::Copy { from, to, if_absent }
            }
        })
    }
}

/// Bytes of an operation in a request, at most.
fn operation_bytes(operation: &TransactionOperation) -> usize {
    match operation {
        TransactionOperation::Write(mutation) => mutation_bytes(mutation) + 1,
        _ => operation.keys().map(|key| key.len() + 4).sum::<usize>() + 2,
    }
}

impl IntoFuture for Transaction {
    type Output = Result<TransactionResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
