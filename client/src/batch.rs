//! Independent writes to many keys, which fan out to the shard leaders.

use crate::client::Client;
use crate::core::unexpected;
use crate::grouped::{Member, run_grouped, sort_by_leader};
use crate::setters::{addition_setters, write_setters};
use crate::write::{WriteOptions, WriteResult};
use crate::write_op::{WriteOp, mutation_bytes};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kvorum_client_core::Error;
use kvorum_client_core::retry::Kind;
use kvorum_protocol::{Ack, Mutation, RequestBody, ResponseBody, WriteId};
use std::future::IntoFuture;
use std::time::Duration;

/// Independent writes; see [`Client::batch`]. It resolves to a result per write, in the order they were added.
///
/// Writes to one key take effect in that order unless one of them has to be retried. A condition of a write is looked at for
/// that write alone, and one that does not hold is a result and no error: look at [`WriteResult::is_applied`].
#[derive(Clone, Debug)]
#[must_use = "it runs when it is awaited"]
pub struct Batch {
    client: Client,
    ops: Vec<WriteOp>,
    options: WriteOptions,
}

impl Batch {
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: client.clone(), ops: Vec::new(), options: WriteOptions::DEFAULT }
    }

    addition_setters!("client.batch()");
    write_setters!("client.batch().put(\"a\", \"1\").put(\"b\", \"2\")", options);

    async fn run(self) -> Vec<Result<WriteResult, Error>> {
        let deadline = self.client.deadline(self.options.deadline);
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
                once: None,
            },
            ack: self.options.ack,
            mutations: members.iter().map(|member| mutation(member.index)).collect(),
        };
        let unpack = |body: ResponseBody| match body {
            ResponseBody::Batch(results) => Ok(results),
            other => Err(unexpected(&other, Kind::Write)),
        };
        for (index, result) in run_grouped(&self.client, Kind::Write, deadline, members, build, unpack).await {
            results[index] = Some(result.map(|result| WriteResult::from_wire(&mutation(index).key, result)));
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

impl Extend<WriteOp> for Batch {
    fn extend<T: IntoIterator<Item = WriteOp>>(&mut self, ops: T) {
        self.ops.extend(ops);
    }
}
