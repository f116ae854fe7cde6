//! From the acts of a plan to transactions, and from their answers to what was done to each key.
//!
//! The checker judges each key by itself. So a transaction is, of each of its keys, a check and some operations at one instant.

use super::workload::{ClientOperation, Maker, Recorder, mutation, note_entry, note_written, written_of};
use crate::checker::{self, Call, Completion, Found, Reply, WriteStatus, Written};
use bytes::Bytes;
use kvorum_protocol::{
    Action, AtomicCheck, Condition, Entry, RequestBody, TimeToLive, TransactionOperation, TransactionReply,
    TransactionRequest, TransactionResult, Version, WriteId,
};
use std::collections::BTreeMap;

/// A key that was renamed, or takes another one's entry, lives for so long, in milliseconds: longer than any run.
const RENAMED_TTL_MS: u64 = 3_600_000;

/// What a transaction has come to: calls to keys, and what each was answered.
pub(super) struct Judged {
    pub(super) calls: Vec<(Bytes, Call)>,
    pub(super) completions: Vec<Option<Completion>>,
}

impl Maker<'_> {
    /// A transaction on a pair of keys. Each four bits of the script are an operation: its key, and what it does.
    pub(super) fn transaction(
        &mut self,
        pair: u32,
        watch: bool,
        script: u32,
        recorder: &mut Recorder,
    ) -> (ClientOperation, Option<(u64, u64)>) {
        let keys = ["a", "b"].map(|name| Bytes::from(format!("{{t{pair}}}{name}")));
        let checks = match watch {
            true => keys.iter().map(|key| AtomicCheck { key: key.clone(), condition: self.unchanged(key) }).collect(),
            false => Vec::new(),
        };
        let count = 2 + script % 6;
        let operations = (0..count).map(|number| {
            let bits = script >> (3 + 4 * number);
            let key = keys[(bits & 1) as usize].clone();
            let write = |action| mutation(key.clone(), Condition::Always, action);
            TransactionOperation::Write(match bits >> 1 & 7 {
                0 | 1 => return TransactionOperation::Read(key),
                2 => write(self.put()),
                3 => write(Action::Incr { by: 1 }),
                4 => write(Action::Append { value: self.value(0) }),
                5 => write(Action::Delete),
                6 => mutation(key, Condition::IfAbsent, self.put()),
                _ => write(Action::Put { value: Bytes::from_static(b"7"), ttl: TimeToLive::Forever }),
            })
        });
        let operations: Vec<_> = operations.collect();
        self.transaction_of(checks, operations, recorder)
    }

    /// Renames a key of a pair to the other one; before, it is stored if it does not exist, and read.
    pub(super) fn rename(
        &mut self,
        pair: u32,
        back: bool,
        recorder: &mut Recorder,
    ) -> (ClientOperation, Option<(u64, u64)>) {
        let [a, b] = ["a", "b"].map(|name| Bytes::from(format!("{{r{pair}}}{name}")));
        let (from, to) = if back { (b, a) } else { (a, b) };
        let put = Action::Put { value: self.value(0), ttl: TimeToLive::Ms(RENAMED_TTL_MS) };
        let operations = vec![
            TransactionOperation::Write(mutation(from.clone(), Condition::IfAbsent, put)),
            TransactionOperation::Read(from.clone()),
            TransactionOperation::Rename { from, to: to.clone(), if_absent: false },
            TransactionOperation::Read(to),
        ];
        self.transaction_of(Vec::new(), operations, recorder)
    }

    fn transaction_of(
        &mut self,
        checks: Vec<AtomicCheck>,
        operations: Vec<TransactionOperation>,
        recorder: &mut Recorder,
    ) -> (ClientOperation, Option<(u64, u64)>) {
        let sequence = self.sequences.allocate(1);
        let id = WriteId { sequence, first_unanswered: sequence, retry: false, once: None };
        let request = TransactionRequest { id, checks, operations };
        let calls = calls_of(&request);
        let body = RequestBody::Transaction(request);
        let (client, invoked_at) = (self.client, recorder.tick());
        (ClientOperation::new(body, client, invoked_at, calls, false), Some((sequence, 1)))
    }
}

/// Whether what it does to a key can't be told without its answer.
pub(super) fn renames(request: &TransactionRequest) -> bool {
    request.operations.iter().any(|operation| matches!(operation, TransactionOperation::Rename { .. }))
}

/// What it asks of each key, in the order in which it names them.
fn calls_of(request: &TransactionRequest) -> Vec<(Bytes, Call)> {
    let mut keys: Vec<Bytes> = Vec::new();
    for key in request.keys() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let of_key = |key: Bytes| {
        let check = request.checks.iter().find(|check| check.key == key);
        let condition =
            check.map_or(checker::Condition::Always, |check| super::workload::condition_of(&check.condition));
        let steps = request.operations.iter().filter_map(|operation| match operation {
            TransactionOperation::Read(of) => (*of == key).then_some(Call::Get),
            TransactionOperation::Write(mutation) => (mutation.key == key).then(|| super::workload::call_of(mutation)),
            // Its answer tells.
            TransactionOperation::Rename { .. } | TransactionOperation::Copy { .. } => None,
        });
        (key.clone(), Call::Together { condition, steps: steps.collect() })
    };
    keys.into_iter().map(of_key).collect()
}

/// What the answer says of each key; an error, if no correct node gives it.
pub(super) fn judge(
    request: &TransactionRequest,
    calls: Vec<(Bytes, Call)>,
    result: &TransactionResult,
    seen: &mut BTreeMap<Vec<u8>, Version>,
    at: u64,
) -> Result<Judged, String> {
    let nonsense = || format!("{result:?} answers {request:?}");
    let replies = match result {
        TransactionResult::Aborted { position, version } => {
            let check = request.checks.get(*position as usize).ok_or_else(nonsense)?;
            seen.insert(check.key.to_vec(), *version);
            let status = WriteStatus::ConditionFailed;
            let failed = Reply::Written(Written { status, version: Some(version.0), ..Written::default() });
            let of = |(key, _): &(Bytes, Call)| {
                (*key == check.key).then(|| Completion::Answered { at, reply: failed.clone() })
            };
            let completions = calls.iter().map(of).collect();
            return Ok(Judged { calls, completions });
        }
        TransactionResult::Done(replies) if replies.len() == request.operations.len() => replies,
        TransactionResult::Done(_) => return Err(nonsense()),
    };
    if renames(request) {
        return judge_rename(request, replies, seen, at).ok_or_else(nonsense);
    }
    let mut told: BTreeMap<&[u8], Vec<Reply>> = BTreeMap::new();
    for (operation, reply) in request.operations.iter().zip(replies) {
        let Some(key) = operation.keys().next() else { return Err(nonsense()) };
        let reply = match (operation, reply) {
            (TransactionOperation::Read(_), TransactionReply::Value(entry)) => {
                note_entry(seen, key, entry.as_ref());
                Reply::Value(entry.as_ref().map(found))
            }
            (TransactionOperation::Write(_), TransactionReply::Written(result)) => {
                note_written(seen, key, result);
                Reply::Written(written_of(result))
            }
            (TransactionOperation::Write(_), TransactionReply::Failed(_)) => Reply::Refused,
            _ => return Err(nonsense()),
        };
        told.entry(key).or_default().push(reply);
    }
    let of = |(key, _): &(Bytes, Call)| {
        let reply = Reply::Together(told.remove(&key[..]).unwrap_or_default());
        Some(Completion::Answered { at, reply })
    };
    let completions = calls.iter().map(of).collect();
    Ok(Judged { calls, completions })
}

/// Of a rename: the one key is removed, and the other one takes what it had.
fn judge_rename(
    request: &TransactionRequest,
    replies: &[TransactionReply],
    seen: &mut BTreeMap<Vec<u8>, Version>,
    at: u64,
) -> Option<Judged> {
    use TransactionReply::{Value, Written as Wrote};
    let [Wrote(stored), Value(Some(before)), Wrote(renamed), Value(Some(after))] = replies else { return None };
    let [TransactionOperation::Write(put), _, TransactionOperation::Rename { from, to, .. }, _] =
        &request.operations[..]
    else {
        return None;
    };
    seen.insert(from.to_vec(), Version(0));
    note_entry(seen, to, Some(after));
    let write = |action| Call::Write { condition: checker::Condition::Always, action };
    let together = |steps| Call::Together { condition: checker::Condition::Always, steps };
    let answered = |replies| Some(Completion::Answered { at, reply: Reply::Together(replies) });
    let taken = checker::Action::Put { value: before.value.to_vec(), expires: before.expires_at_ms.is_some() };
    let gone = Written { status: WriteStatus::Applied, ..Written::default() };
    let calls = vec![
        (from.clone(), together(vec![super::workload::call_of(put), Call::Get, write(checker::Action::Delete)])),
        (to.clone(), together(vec![write(taken), Call::Get])),
    ];
    let completions = vec![
        answered(vec![Reply::Written(written_of(stored)), Reply::Value(Some(found(before))), Reply::Written(gone)]),
        answered(vec![Reply::Written(written_of(renamed)), Reply::Value(Some(found(after)))]),
    ];
    Some(Judged { calls, completions })
}

fn found(entry: &Entry) -> Found {
    Found { value: entry.value.to_vec(), version: Some(entry.version.0), expires: Some(entry.expires_at_ms.is_some()) }
}
