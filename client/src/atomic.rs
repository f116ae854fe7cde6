//! Checks and writes in one shard that take effect together or not at all.

use crate::client::Client;
use crate::core::{Call, unexpected};
use crate::key::check_key;
use crate::setters::{addition_setters, write_setters};
use crate::write::{WriteOptions, WriteResult};
use crate::write_op::{WriteOp, compared_bytes, mutation_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{Ack, AtomicCheck, AtomicRequest, Condition, RequestBody, ResponseBody, Version};
use std::future::IntoFuture;
use std::time::Duration;

/// Checks and writes in one shard that take effect together or not at all; see [`Client::atomic`]. At most 4096 of them. It
/// resolves to an [`AtomicResult`].
///
/// Later writes see the effects of earlier ones. Conditions of writes count like checks.
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Atomic {
    client: Client,
    tag: Bytes,
    checks: Vec<AtomicCheck>,
    ops: Vec<WriteOp>,
    options: WriteOptions,
}

/// What became of an atomic that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "nothing may have been written: a condition that does not hold is no error"]
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
        let tag = Bytes::copy_from_slice(tag);
        Self { client: client.clone(), tag, checks: Vec::new(), ops: Vec::new(), options: WriteOptions::DEFAULT }
    }

    /// Adds a condition on a key that need not be written.
    ///
    /// # Examples
    /// ```no_run
    /// # use kvorum_client::{AtomicResult, Condition};
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// let order = client.atomic("cart").check("{cart}.closed", Condition::IfAbsent).put("{cart}.1", "tea");
    /// if let AtomicResult::ConditionFailed { .. } = order.await? {
    ///     println!("the cart is closed");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(mut self, key: impl AsRef<[u8]>, condition: Condition) -> Self {
        self.checks.push(AtomicCheck { key: Bytes::copy_from_slice(key.as_ref()), condition });
        self
    }

    addition_setters!("client.atomic(\"cart\")");
    write_setters!("client.atomic(\"cart\").put(\"{cart}.1\", \"tea\")", options);

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
            + self.checks.iter().map(|check| check.key.len() + compared_bytes(&check.condition) + 32).sum::<usize>();
        let limit = kvorum_protocol::limits::FRAME_BYTES_MAX - 64;
        if bytes > limit {
            return Err(Error::TooLarge { what: "the atomic's length in bytes", size: bytes, limit });
        }
        let sequence = self.client.core.sequences(1);
        let request = AtomicRequest { id: sequence.write_id(), ack: self.options.ack, checks: self.checks, mutations };
        let call = Call {
            need: self.client.need_leader(&self.tag),
            kind: Kind::Write,
            body: RequestBody::Atomic(request),
            bytes,
            deadline: self.client.deadline(self.options.deadline),
            sequence: Some(sequence),
        };
        match self.client.core.execute(call).await? {
            ResponseBody::Atomic(kvorum_protocol::AtomicResult::Applied(results)) if results.len() == keys.len() => {
                let results = keys.iter().zip(results).map(|(key, result)| WriteResult::from_wire(key, result));
                Ok(AtomicResult::Applied(results.collect()))
            }
            ResponseBody::Atomic(kvorum_protocol::AtomicResult::ConditionFailed { position, version, .. }) => {
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

impl Extend<WriteOp> for Atomic {
    fn extend<T: IntoIterator<Item = WriteOp>>(&mut self, ops: T) {
        self.ops.extend(ops);
    }
}
