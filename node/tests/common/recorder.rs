//! Operations through the client library, recorded for the linearizability checker.

use kvorum_client::{Client, Condition, ConditionalResult, Entry, Error, Outcome, WriteOp, WriteResult, WriteStatus};
use kvorum_protocol::{Action, TimeToLive};
use kvorum_sim::checker::{self, Call, Completion, Found, History, Limits, Operation, Reply, Verdict, Written};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Most operations that one history holds. Past it a workload ends by itself: checking more takes too long for a test.
pub(crate) const OPERATIONS_MAX: usize = 300_000;

/// The history of all clients of a test, on one clock.
pub(crate) struct Recorder {
    origin: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), history: Mutex::new(History::default()) }
    }

    /// Nanoseconds since the recorder was made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).expect("tests end within centuries")
    }

    /// Gets a key. A get that failed says nothing, and is not recorded.
    pub(crate) async fn get(&self, number: u32, client: &Client, key: &str) -> Result<Option<Entry>, Error> {
        let invoked_at = self.now();
        let result = client.get(key).await;
        if let Ok(entry) = &result {
            let found = entry.as_ref().map(|entry| (entry.value.to_vec(), entry.version.0));
            self.record_get(number, invoked_at, key, found);
        }
        result
    }

    /// Records a get that was called at `invoked_at` and has been answered now.
    pub(crate) fn record_get(&self, client: u32, invoked_at: u64, key: &str, found: Option<(Vec<u8>, u64)>) {
        let found = found.map(|(value, version)| Found { value, version: Some(version), expires: None });
        let completion = Completion::Answered { at: self.now(), reply: Reply::Value(found) };
        self.push(Operation { client, invoked_at, key: key.into(), call: Call::Get, completion });
    }

    /// Writes. A write that failed without effect is not recorded; one whose outcome is unknown stays open.
    pub(crate) async fn write(
        &self,
        number: u32,
        client: &Client,
        key: &str,
        condition: Condition,
        action: Action,
    ) -> Result<WriteResult, Error> {
        let op = match action.clone() {
            Action::Put { value, ttl: TimeToLive::Forever } => WriteOp::put(key, value),
            Action::Put { value, ttl: TimeToLive::Keep } => WriteOp::put(key, value).keep_ttl(),
            Action::Delete => WriteOp::delete(key),
            Action::Incr { by } => WriteOp::incr(key, by),
            Action::Append { value } => WriteOp::append(key, value),
            Action::Put { ttl: TimeToLive::Ms(_) | TimeToLive::Until(_), .. }
            | Action::Expire { .. }
            | Action::Persist
            | Action::ExpireIf { .. }
            | Action::ExpireAt { .. }
            | Action::SetRange { .. }
            | Action::SetBit { .. }
            | Action::IncrDecimal { .. } => {
                panic!("no test that records asks for it yet")
            }
        };
        let invoked_at = self.now();
        let result = client.write(op.condition(condition.clone())).await.map(ConditionalResult::into_result);
        let at = self.now();
        let completion = match &result {
            Ok(result) => Completion::Answered { at, reply: Reply::Written(written(result)) },
            Err(error) => match error.outcome() {
                Outcome::NotApplied => return result,
                Outcome::Applied => Completion::AppliedUnseen { at },
                Outcome::Unknown => Completion::Open,
            },
        };
        let call = Call::Write { condition: checked_condition(condition), action: checked_action(action) };
        self.push(Operation { client: number, invoked_at, key: key.into(), call, completion });
        result
    }

    /// Puts a value, whatever is there.
    pub(crate) async fn put(&self, number: u32, client: &Client, key: &str, value: &str) -> Result<WriteResult, Error> {
        let action = Action::Put { value: bytes::Bytes::copy_from_slice(value.as_bytes()), ttl: TimeToLive::Forever };
        self.write(number, client, key, Condition::Always, action).await
    }

    /// Whether the history is as long as it may become.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= OPERATIONS_MAX
    }

    /// Operations recorded so far.
    pub(crate) fn len(&self) -> usize {
        self.history.lock().expect("no thread panics while it records").operations().len()
    }

    /// Judges the history.
    ///
    /// # Panics
    /// Unless it is linearizable. The whole history is written to a file first; `History::from_str` reads it again.
    pub(crate) fn assert_linearizable(self, test: &str) {
        let history = self.history.into_inner().expect("no thread panics while it records");
        let began = Instant::now();
        let problem = match checker::check(&history, Limits::default()) {
            Verdict::Linearizable => {
                println!("{}: {}", test, summary(&history, began.elapsed()));
                return;
            }
            Verdict::NotLinearizable(report) => report.to_string(),
            Verdict::Undecided { key, steps } => {
                format!("key {} was not decided within {steps} steps", String::from_utf8_lossy(&key))
            }
        };
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.history"));
        std::fs::write(&path, history.to_string()).expect("the target folder can be written");
        panic!("{problem}\nthe history is in {}", path.display());
    }

    /// Records a read of a value by a client that is told no versions.
    pub(crate) fn record_value(&self, client: u32, invoked_at: u64, key: &str, value: Option<Vec<u8>>) {
        let found = value.map(|value| Found { value, version: None, expires: None });
        let completion = Completion::Answered { at: self.now(), reply: Reply::Value(found) };
        self.push(Operation { client, invoked_at, key: key.into(), call: Call::Get, completion });
    }

    /// Records an operation of a client that is none of the library's.
    pub(crate) fn record(&self, operation: Operation) {
        self.push(operation);
    }

    fn push(&self, operation: Operation) {
        self.history.lock().expect("no thread panics while it records").push(operation);
    }
}

fn summary(history: &History, took: Duration) -> String {
    let operations = history.operations();
    let open = operations.iter().filter(|operation| operation.returned_at().is_none()).count();
    format!("{} operations, {open} of unknown outcome, are linearizable (checked in {took:?})", operations.len())
}

fn written(result: &WriteResult) -> Written {
    let status = match result.status {
        WriteStatus::Applied => checker::WriteStatus::Applied,
        WriteStatus::ConditionFailed => checker::WriteStatus::ConditionFailed,
        WriteStatus::Missing => checker::WriteStatus::Missing,
    };
    Written { status, version: Some(result.version.0), number: result.number, decimal: None, existed: result.existed }
}

fn checked_condition(condition: Condition) -> checker::Condition {
    match condition {
        Condition::Always => checker::Condition::Always,
        Condition::IfAbsent => checker::Condition::IfAbsent,
        Condition::IfPresent => checker::Condition::IfPresent,
        Condition::IfVersion(version) => checker::Condition::IfVersion(version.0),
        Condition::IfAbsentOrVersion(version) => checker::Condition::IfAbsentOrVersion(version.0),
        Condition::IfEquals(value) => checker::Condition::IfEquals(value.to_vec()),
    }
}

fn checked_action(action: Action) -> checker::Action {
    match action {
        Action::Put { value, ttl: TimeToLive::Keep } => checker::Action::PutKeeping(value.to_vec()),
        Action::Put { value, ttl } => {
            checker::Action::Put { value: value.to_vec(), expires: ttl != TimeToLive::Forever }
        }
        Action::Delete => checker::Action::Delete,
        Action::Incr { by } => checker::Action::Incr(by),
        Action::Append { value } => checker::Action::Append(value.to_vec()),
        Action::Expire { .. } => checker::Action::Expire,
        Action::Persist => checker::Action::Persist,
        Action::ExpireIf { .. }
        | Action::ExpireAt { .. }
        | Action::SetRange { .. }
        | Action::SetBit { .. }
        | Action::IncrDecimal { .. } => {
            panic!("the workload has none of these")
        }
    }
}
