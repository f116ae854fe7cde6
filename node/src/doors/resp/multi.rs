//! MULTI, EXEC and WATCH.
//!
//! What is queued is looked at when EXEC comes. Then it is one request to the shard's leader, which carries it out command by
//! command, each with a result of its own, in one entry. Commands of the connection and of the server are answered by the door,
//! at their place.

use super::answers;
use super::execute::{Planned, ReplyForm, Touches};
use bytes::Bytes;
use kvorum_core::limits::SESSION_VALUES_BYTES_MAX;
use kvorum_protocol::hash::{hash64, shard_of};
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{
    AtomicCheck, AtomicResult, Condition, RequestBody, ResponseBody, ShardId, TransactionOperation, TransactionReply,
    TransactionRequest, TransactionResult, Version,
};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{Output, ReplyWriter, Request};
use std::collections::BTreeMap;
use std::ops::Range;

/// Most bytes of queued commands.
const QUEUED_BYTES_MAX: usize = SESSION_VALUES_BYTES_MAX / 4;

/// Most commands of a transaction that take milliseconds of a processor each: nothing else goes between.
const COSTLY_MAX: usize = 16;

/// What a connection has begun with MULTI and WATCH.
#[derive(Debug, Default)]
pub(super) struct Multi {
    pub(super) queue: Option<Queue>,
    /// Keys that must not have changed, with the versions that they had; none if they were missing.
    pub(super) watched: Vec<(Bytes, Option<Version>)>,
    /// Keys of a WATCH that is not answered.
    pub(super) watching: Vec<Bytes>,
    /// A WATCH is not answered: nothing more is taken from the client.
    pub(super) is_watching: bool,
}

impl Multi {
    /// Whether nothing was begun.
    pub(super) fn is_empty(&self) -> bool {
        let Self { queue, watched, watching, is_watching } = self;
        queue.is_none() && watched.is_empty() && watching.is_empty() && !is_watching
    }
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) commands: Vec<(&'static CommandSpec, Request)>,
    bytes: usize,
    /// One of them was refused: EXEC carries none of them out.
    pub(super) is_broken: bool,
}

impl Queue {
    /// Adds a command.
    ///
    /// # Errors
    /// There are too many. They are let go, and EXEC will refuse.
    pub(super) fn add(&mut self, spec: &'static CommandSpec, request: &Request) -> Result<(), &'static [u8]> {
        let bytes = self.bytes.saturating_add(request.held_bytes() + size_of::<Request>());
        if bytes > QUEUED_BYTES_MAX || self.commands.len() >= BATCH_OPERATIONS_MAX {
            *self = Self { is_broken: true, ..Self::default() };
            return Err(b"ERR the transaction is too large: it takes 4096 commands and 16 MiB");
        }
        self.bytes = bytes;
        if !self.is_broken {
            self.commands.push((spec, request.clone()));
        }
        Ok(())
    }
}

/// What EXEC answers, once the shard has.
#[derive(Debug)]
pub(super) struct Exec {
    elements: Vec<Element>,
}

/// The reply of one command.
#[derive(Debug)]
enum Element {
    /// It is at hand.
    Done(Output),
    /// It is made of results of a request.
    Of { part: usize, results: Range<usize>, form: ReplyForm, shape: Shape, writes: bool },
}

/// How results are put together for a command.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One by one.
    Single,
    /// As values of one read.
    Values,
    /// As results of writes that went through together.
    Writes,
}

/// Puts EXEC together.
#[derive(Debug)]
pub(super) struct ExecBuilder {
    shards: u16,
    elements: Vec<Element>,
    /// The operations of each shard.
    parts: BTreeMap<ShardId, Vec<TransactionOperation>>,
    touched: Vec<u64>,
    writes: bool,
    /// Commands that take milliseconds of a processor.
    costly: usize,
}

impl ExecBuilder {
    /// Of nothing yet, in a cluster of so many shards.
    pub(super) fn new(shards: u16) -> Self {
        Self { shards, elements: Vec::new(), parts: BTreeMap::new(), touched: Vec::new(), writes: false, costly: 0 }
    }

    /// A command whose reply is at hand.
    pub(super) fn done(&mut self, output: Output) {
        self.elements.push(Element::Done(output));
    }

    /// A command of keys, as it is planned outside of a transaction.
    ///
    /// # Errors
    /// It can't be part of one.
    pub(super) fn planned(&mut self, planned: Planned) -> Result<(), &'static [u8]> {
        let Planned { asked, walk, form, touches } = planned;
        let not_here: &[u8] = b"ERR this command is not there yet in a transaction";
        if walk.is_some() || form == ReplyForm::AllOrNothing {
            return Err(not_here);
        }
        if matches!(form, ReplyForm::Lcs(_)) {
            self.costly += 1;
            if self.costly > COSTLY_MAX {
                return Err(b"ERR a transaction has 16 LCS at most");
            }
        }
        let (mut operations, mut shape) = (Vec::new(), Shape::Single);
        for body in asked {
            match body {
                RequestBody::Get { key, .. } => operations.push(TransactionOperation::Read(key)),
                RequestBody::MultiGet { keys, .. } => {
                    shape = Shape::Values;
                    operations.extend(keys.into_iter().map(TransactionOperation::Read));
                }
                RequestBody::Write { mutation, .. } => operations.push(TransactionOperation::Write(mutation)),
                RequestBody::Atomic(atomic) => {
                    operations.extend(atomic.mutations.into_iter().map(TransactionOperation::Write));
                }
                RequestBody::Transaction(transaction) => operations.extend(transaction.operations),
                _ => return Err(not_here),
            }
        }
        if operations.len() != 1 && matches!(shape, Shape::Single) {
            shape = Shape::Writes;
        }
        let writes = touches.writes();
        self.writes |= writes;
        if let Touches::Reads(keys) | Touches::Writes(keys) = touches {
            self.touched.extend(keys);
        }
        let Some(shard) = operations.first().map(|operation| self.shard_of(operation)) else { return Err(not_here) };
        if operations.iter().any(|operation| self.shard_of(operation) != shard) {
            return Err(b"CROSSSLOT Keys in request don't hash to the same slot");
        }
        let of_shard = self.parts.entry(shard).or_default();
        let first = of_shard.len();
        of_shard.extend(operations);
        let results = first..of_shard.len();
        // The part is the shard's until all are known.
        self.elements.push(Element::Of { part: usize::from(shard.0), results, form, shape, writes });
        Ok(())
    }

    fn shard_of(&self, operation: &TransactionOperation) -> ShardId {
        let key = match operation {
            TransactionOperation::Read(key) => key,
            TransactionOperation::Write(mutation) => &mutation.key,
            TransactionOperation::Rename { from, .. } | TransactionOperation::Copy { from, .. } => from,
        };
        shard_of(key, self.shards)
    }

    /// The requests, and how their answers become a reply. `may_split`: several shards may each do their part, as long as nothing is
    /// watched.
    ///
    /// # Errors
    /// There are several shards.
    pub(super) fn finish(
        mut self,
        watched: Vec<(Bytes, Option<Version>)>,
        may_split: bool,
    ) -> Result<(Planned, Exec), &'static [u8]> {
        let is_watched = !watched.is_empty();
        for (key, _) in &watched {
            self.parts.entry(shard_of(key, self.shards)).or_default();
            self.touched.push(hash64(key));
        }
        if self.parts.len() > 1 && (is_watched || !may_split) {
            return Err(ACROSS_SHARDS);
        }
        let numbers: BTreeMap<usize, usize> =
            self.parts.keys().enumerate().map(|(at, shard)| (usize::from(shard.0), at)).collect();
        for element in &mut self.elements {
            if let Element::Of { part, .. } = element {
                *part = numbers.get(part).copied().unwrap_or_default();
            }
        }
        let check = |(key, version): (Bytes, Option<Version>)| AtomicCheck {
            key,
            condition: version.map_or(Condition::IfAbsent, Condition::IfVersion),
        };
        let mut checks: Vec<AtomicCheck> = watched.into_iter().map(check).collect();
        let request = |operations| {
            let (id, checks) = (super::execute::UNNUMBERED, std::mem::take(&mut checks));
            RequestBody::Transaction(TransactionRequest { id, checks, operations })
        };
        let asked = self.parts.into_values().map(request).collect();
        let touches = if self.writes { Touches::Writes(self.touched) } else { Touches::Reads(self.touched) };
        Ok((Planned { asked, walk: None, form: ReplyForm::Exec, touches }, Exec { elements: self.elements }))
    }
}

/// What is told of a transaction over several shards.
const ACROSS_SHARDS: &[u8] =
    b"CROSSSLOT the keys of a transaction are in several shards: give them the same {tag}, create the \
cluster with --shards 1, or set resp.exec_across_shards to split, which makes it atomic per shard only";

impl Exec {
    /// Writes the reply, of the answers to all requests.
    pub(super) fn write(self, answers: &[ResponseBody], writes: bool, now_ms: u64, reply: &mut ReplyWriter<'_>) {
        if let Some(text) = answers::failure(answers, writes) {
            // Where one shard has done its part, the client must not send all of it again.
            return reply.error(text.as_bytes());
        }
        let mut results: Vec<&[TransactionReply]> = Vec::new();
        for answer in answers {
            match answer {
                ResponseBody::Transaction(TransactionResult::Done(done)) => results.push(done),
                ResponseBody::Transaction(TransactionResult::Aborted { .. }) => return reply.null_array(),
                _ => return reply.error(b"ERR the node has answered something else"),
            }
        }
        reply.array(self.elements.len());
        for element in self.elements {
            match element {
                Element::Done(done) => reply.written(done),
                Element::Of { part, results: range, form, shape, writes } => {
                    let of_command = results.get(part).and_then(|part| part.get(range)).unwrap_or_default();
                    answers::write(form, &bodies(of_command, shape), writes, now_ms, reply);
                }
            }
        }
    }
}

/// The answers that a command would have had by itself.
fn bodies(results: &[TransactionReply], shape: Shape) -> Vec<ResponseBody> {
    let failed = results.iter().find_map(|result| match result {
        TransactionReply::Failed(error) => Some(ResponseBody::Error(error.clone())),
        _ => None,
    });
    if let Some(failed) = failed {
        return vec![failed];
    }
    let single = |result: &TransactionReply| match result {
        TransactionReply::Value(entry) => ResponseBody::Value(entry.clone()),
        TransactionReply::Written(result) => ResponseBody::Written(result.clone()),
        TransactionReply::Failed(error) => ResponseBody::Error(error.clone()),
    };
    let value = |result: &TransactionReply| match result {
        TransactionReply::Value(entry) => Ok(entry.clone()),
        _ => Ok(None),
    };
    let written = |result: &TransactionReply| match result {
        TransactionReply::Written(result) => Some(result.clone()),
        _ => None,
    };
    match shape {
        Shape::Single => results.iter().map(single).collect(),
        Shape::Values => vec![ResponseBody::Values(results.iter().map(value).collect())],
        Shape::Writes => {
            vec![ResponseBody::Atomic(AtomicResult::Applied(results.iter().filter_map(written).collect()))]
        }
    }
}

/// The answer of a request of one operation, as that of the operation.
pub(super) fn unwrapped(body: ResponseBody) -> ResponseBody {
    match body {
        ResponseBody::Transaction(TransactionResult::Done(mut results)) if results.len() == 1 => {
            bodies(&[results.remove(0)], Shape::Single).remove(0)
        }
        body => body,
    }
}
