//! What becomes of a TRANSACTION.
//!
//! It is planned as a whole before anything of it is put into the entry: which operations fail, what the others read and write,
//! and whether all that stays within its bounds. So it is done, or it leaves nothing.

use super::{ATOMIC_BYTES_MAX, Evaluation, OVERHEAD_BYTES, Plan, ShardReply, Size, State, Value, Write, WriteDecision};
use crate::log::remembered::Remembered;
use crate::seeded::{Bug, planted};
use crate::shard::room::Need;
use bytes::Bytes;
use hashbrown::HashMap;
use kvorum_protocol::limits::{
    BATCH_OPERATIONS_MAX, RAFT_ENTRY_BYTES_MAX, TRANSACTION_REMEMBERED_BYTES_MAX, TRANSACTION_REPLY_BYTES_MAX,
};
use kvorum_protocol::{
    Ack, AtomicCheck, ClientId, Condition, ErrorCode, Mutation, ServerError, TransactionOperation, TransactionReply,
    TransactionRequest, TransactionResult, Version, WriteResult, WriteStatus,
};

/// Most records that one operation writes: a rename removes a key and stores another.
const RECORDS_PER_OPERATION: usize = 2;

const _: () = assert!(
    super::ENTRY_BYTES
        + ATOMIC_BYTES_MAX
        + TRANSACTION_REMEMBERED_BYTES_MAX
        + (RECORDS_PER_OPERATION + 2) * OVERHEAD_BYTES * BATCH_OPERATIONS_MAX
        < RAFT_ENTRY_BYTES_MAX,
    "the largest TRANSACTION fits an entry that is almost full"
);

/// What becomes of a TRANSACTION.
enum PlannedTransaction<'r> {
    All(Vec<Step<'r>>),
    /// The check of this number fails at a key of this version.
    Aborted(usize, Version),
}

/// What becomes of one of its operations.
enum Step<'r> {
    /// Nothing is written.
    Reply(TransactionReply),
    Mutate(&'r Mutation, Plan),
    /// The second key takes what the first one has, which goes or stays.
    Give {
        from: &'r Bytes,
        to: &'r Bytes,
        write: Write,
        removes: bool,
    },
}

/// What the operations so far would leave, and how much that is.
struct Progress {
    states: HashMap<Bytes, Option<State>>,
    next_version: Version,
    written_bytes: usize,
    reply_bytes: usize,
    records: usize,
    adds_key: bool,
    takes_room: bool,
}

impl Progress {
    /// So many bytes more are written, and are in the answer.
    fn take(&mut self, size: &Size) -> Result<(), ServerError> {
        self.written_bytes += size.written;
        self.reply_bytes += size.previous;
        if self.written_bytes <= ATOMIC_BYTES_MAX && self.reply_bytes <= TRANSACTION_REPLY_BYTES_MAX {
            return Ok(());
        }
        let detail = format!(
            "a TRANSACTION writes at most {ATOMIC_BYTES_MAX} bytes of keys and values, and is answered with at most \
             {TRANSACTION_REPLY_BYTES_MAX} of values"
        );
        Err(ServerError::new(ErrorCode::TooLarge, detail))
    }

    /// A record is written; `is_new`: of a key that was not there.
    fn write(&mut self, key: &Bytes, write: &Write, is_new: bool) -> Version {
        let version = self.next_version;
        let expires_at_ms = write.expires_at_ms;
        let state = write.value.clone().map(|value| State { value: Value::Here(value), version, expires_at_ms });
        self.takes_room |= state.is_some();
        self.adds_key |= state.is_some() && is_new && !self.states.contains_key(key);
        self.states.insert(key.clone(), state);
        self.next_version.0 += 1;
        self.records += 1;
        version
    }
}

impl Evaluation<'_> {
    /// Checks, then operations in turn, of which nothing is known yet.
    pub(in crate::shard) fn transaction(&mut self, client: ClientId, request: &TransactionRequest) -> ShardReply {
        let id = request.id;
        // What writes nothing is decided anew, whichever copy comes when.
        let may_be_remembered = request.writes() && !planted(Bug::TransactionForgotten);
        let steps = match self.plan_transaction(request) {
            Ok(PlannedTransaction::All(steps)) => steps,
            Ok(PlannedTransaction::Aborted(position, version)) => {
                let aborted = TransactionResult::Aborted { position: position as u32, version };
                if id.retry && may_be_remembered {
                    self.remember(client, id, Remembered::of_transaction(&aborted), None);
                }
                return ShardReply::Transaction(aborted);
            }
            Err(error) => return self.refuse(client, id, error),
        };
        let records_before = self.builder.records();
        let replies = steps.into_iter().map(|step| self.carry_out_step(step)).collect();
        let done = TransactionResult::Done(replies);
        let takes_effect = self.builder.records() > records_before;
        if (takes_effect || id.retry) && may_be_remembered {
            self.remember(client, id, Remembered::of_transaction(&done), None);
        }
        ShardReply::Transaction(done)
    }

    fn plan_transaction<'r>(&mut self, request: &'r TransactionRequest) -> Result<PlannedTransaction<'r>, ServerError> {
        for (position, check) in request.checks.iter().enumerate() {
            let state = self.checked(check)?;
            if !self.check_holds(check, state.as_ref())? {
                let version = state.map_or(Version(0), |state| state.version);
                return Ok(PlannedTransaction::Aborted(position, version));
            }
        }
        let mut progress = Progress {
            states: HashMap::new(),
            next_version: self.builder.next_version(),
            written_bytes: 0,
            reply_bytes: 0,
            records: 0,
            adds_key: false,
            takes_room: false,
        };
        let mut steps = Vec::with_capacity(request.operations.len());
        let mut stopped = false;
        for operation in &request.operations {
            let step =
                if stopped { Step::Reply(self.nothing_done(operation)) } else { self.step(operation, &mut progress)? };
            stopped |=
                matches!(step, Step::Reply(TransactionReply::Failed(_))) && planted(Bug::TransactionStopsAtError);
            steps.push(step);
        }
        if progress.records > 0 {
            let overhead = (progress.records + 2 * (request.operations.len() + 1)) * OVERHEAD_BYTES;
            let remembered = progress.reply_bytes.min(TRANSACTION_REMEMBERED_BYTES_MAX);
            let bytes = progress.written_bytes + remembered + overhead;
            self.room.admit(self.builder.bytes(), Need::of(progress.takes_room, progress.adds_key, bytes))?;
        }
        Ok(PlannedTransaction::All(steps))
    }

    /// The state that a check looks at.
    fn checked(&mut self, check: &AtomicCheck) -> Result<Option<State>, ServerError> {
        if planted(Bug::TransactionChecksApplied) {
            return self.applied(&check.key);
        }
        self.current(&check.key)
    }

    fn check_holds(&mut self, check: &AtomicCheck, state: Option<&State>) -> Result<bool, ServerError> {
        let is_gone = state.is_none() && matches!(check.condition, Condition::IfVersion(_));
        Ok((is_gone && planted(Bug::TransactionMissesRemoval)) || self.holds(&check.condition, state)?)
    }

    /// Decides one operation. A refusal for what it asks is its reply; any other error is one of the whole.
    fn step<'r>(
        &mut self,
        operation: &'r TransactionOperation,
        progress: &mut Progress,
    ) -> Result<Step<'r>, ServerError> {
        match operation {
            TransactionOperation::Read(key) => {
                let state = match planted(Bug::TransactionReadsBefore) {
                    true => self.current(key)?,
                    false => self.seen(key, progress)?,
                };
                let Some(state) = state else { return Ok(Step::Reply(TransactionReply::Value(None))) };
                progress.take(&Size { written: 0, previous: state.value_bytes() })?;
                Ok(Step::Reply(TransactionReply::Value(Some(self.entry(&state)?))))
            }
            TransactionOperation::Write(mutation) => self.step_of_write(mutation, progress),
            TransactionOperation::Rename { from, to, if_absent } => {
                self.step_of_gift((from, to), *if_absent, true, progress)
            }
            TransactionOperation::Copy { from, to, if_absent } => {
                self.step_of_gift((from, to), *if_absent, false, progress)
            }
        }
    }

    fn step_of_write<'r>(&mut self, mutation: &'r Mutation, progress: &mut Progress) -> Result<Step<'r>, ServerError> {
        let before = self.seen(&mutation.key, progress)?;
        let before = self.loaded(&mutation.condition, Some(&mutation.action), before)?;
        let decision = match self.decide(mutation, before.as_ref()) {
            Ok(decision) => decision,
            Err(error) if error.code.is_verdict() => return Ok(Step::Reply(TransactionReply::Failed(error))),
            Err(error) => return Err(error),
        };
        let mut size = Size::of(mutation, before.as_ref(), &decision);
        if let WriteDecision::Write { decimal: Some(decimal), .. } = &decision {
            size.previous += decimal.len();
        }
        progress.take(&size)?;
        let is_new = before.is_none();
        let plan = self.read_for(mutation, before, decision)?;
        if let Some(write) = &plan.write {
            progress.write(&mutation.key, write, is_new);
        }
        Ok(Step::Mutate(mutation, plan))
    }

    /// One key takes what another has, which goes or stays.
    fn step_of_gift<'r>(
        &mut self,
        (from, to): (&'r Bytes, &'r Bytes),
        if_absent: bool,
        removes: bool,
        progress: &mut Progress,
    ) -> Result<Step<'r>, ServerError> {
        let source = self.seen(from, progress)?;
        let target = if from == to { source.clone() } else { self.seen(to, progress)? };
        let version = target.as_ref().map_or(Version(0), |target| target.version);
        let status = match source {
            None => WriteStatus::Missing,
            Some(_) if if_absent && target.is_some() => WriteStatus::ConditionFailed,
            Some(_) if from == to => WriteStatus::Applied,
            Some(source) => {
                let removed = if removes { from.len() } else { 0 };
                progress.take(&Size { written: removed + to.len() + source.value_bytes(), previous: 0 })?;
                let value = Some(self.entry(&source)?.value);
                let expires_at_ms = source.expires_at_ms.filter(|_| !planted(Bug::RenameForgetsTtl));
                let write = Write { value, expires_at_ms };
                if removes {
                    progress.write(from, &Write { value: None, expires_at_ms: None }, false);
                }
                progress.write(to, &write, target.is_none());
                return Ok(Step::Give { from, to, write, removes });
            }
        };
        Ok(Step::Reply(TransactionReply::Written(self.written(status, version))))
    }

    /// The key's state as the operations before leave it.
    fn seen(&mut self, key: &Bytes, progress: &Progress) -> Result<Option<State>, ServerError> {
        match progress.states.get(key) {
            // A copy of what is kept aside: nothing is looked up.
            Some(state) => {
                let now_ms = self.builder.log_time_ms();
                Ok(state.clone().filter(|state| state.expires_at_ms.is_none_or(|at| at > now_ms)))
            }
            None => self.current(key),
        }
    }

    fn carry_out_step(&mut self, step: Step<'_>) -> TransactionReply {
        match step {
            Step::Reply(reply) => reply,
            Step::Mutate(mutation, plan) => TransactionReply::Written(self.carry_out(mutation, plan, Ack::Committed)),
            Step::Give { from, to, write, removes } => {
                if removes {
                    self.put(from, Write { value: None, expires_at_ms: None });
                }
                let version = self.put(to, write);
                TransactionReply::Written(self.written(WriteStatus::Applied, version))
            }
        }
    }

    fn written(&self, status: WriteStatus, version: Version) -> WriteResult {
        WriteResult {
            status,
            version,
            ack: Ack::Committed,
            durability: self.durability,
            number: None,
            decimal: None,
            previous: None,
            receipt: None,
            existed: None,
            replayed: false,
        }
    }

    /// Seeded bug: what an operation is told that was left out.
    fn nothing_done(&self, operation: &TransactionOperation) -> TransactionReply {
        match operation {
            TransactionOperation::Read(_) => TransactionReply::Value(None),
            _ => TransactionReply::Written(self.written(WriteStatus::Applied, Version(0))),
        }
    }
}
