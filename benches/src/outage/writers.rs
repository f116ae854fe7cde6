//! Writes to every shard all the time: an open loop, through the client library, so that what is measured is what its users
//! get, its routes included, and its retries unless they are left out.

use super::gaps::AnsweredAt;
use crate::storage::StorageError;
use kvorum_client::{Client, Error, RetryPolicy};
use kvorum_protocol::{ShardId, Topology};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

/// How long one write is tried.
const DEADLINE: Duration = Duration::from_secs(10);
/// Keys of a shard that are written in turn.
const KEYS_PER_SHARD: usize = 16;
/// Most writes that one shard has under way; those that are due beyond it are counted as failed.
const IN_FLIGHT_MAX: usize = 16_384;
/// Different errors that are told apart.
const REASONS_MAX: usize = 16;

/// What a writer does with a write that was not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retries {
    /// What the library does by default.
    Default,
    /// Nothing: each write is sent once.
    Never,
}

/// What became of the writes of one shard since they were last forgotten.
#[derive(Default)]
struct Log {
    answers: Vec<AnsweredAt>,
    failed: BTreeMap<String, u64>,
    written: u64,
}

/// Writers of all shards; they end when this is dropped.
pub(crate) struct Writers {
    runtime: Option<Runtime>,
    logs: Vec<Arc<Mutex<Log>>>,
}

impl Writers {
    /// Starts to write to every shard of `topology`, `rate` times per second each. A shard has a client of its own: one
    /// whose writes wait does not use up the retries of another.
    ///
    /// # Errors
    /// The cluster can't be reached, or the system has no thread to give.
    pub(crate) fn start(
        addresses: &[String],
        topology: &Topology,
        rate: u32,
        value_bytes: usize,
        retries: Retries,
    ) -> Result<Self, StorageError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(StorageError::system("a runtime"))?;
        let keys = keys_of(topology);
        let logs: Vec<_> = keys.iter().map(|_| Arc::new(Mutex::new(Log::default()))).collect();
        let every = Duration::from_secs(1) / rate;
        let policy = match retries {
            Retries::Default => RetryPolicy::default(),
            Retries::Never => RetryPolicy::default().with_budget(0, 0, 0).with_attempt_timeout(DEADLINE),
        };
        for (keys, log) in keys.into_iter().zip(&logs) {
            let client = Client::builder().seeds(addresses).deadline(DEADLINE).max_in_flight(IN_FLIGHT_MAX);
            let client =
                runtime.block_on(client.retry_policy(policy).connect()).map_err(StorageError::cluster("connecting"))?;
            runtime.spawn(write_all_the_time(client, keys, vec![b'v'; value_bytes], every, Arc::clone(log)));
        }
        Ok(Self { runtime: Some(runtime), logs })
    }

    /// Looks at the acknowledged writes of a shard since they were last forgotten, in the order of their answers.
    pub(crate) fn look<T>(&self, shard: ShardId, look: impl FnOnce(&[AnsweredAt]) -> T) -> T {
        look(&lock(&self.logs[usize::from(shard.0)]).answers)
    }

    /// Forgets the times of all writes before `before`; counts go on.
    pub(crate) fn forget(&self, before: Instant) {
        self.logs.iter().for_each(|log| lock(log).answers.retain(|answer| answer.at >= before));
    }

    /// Writes that were acknowledged since the start.
    pub(crate) fn written(&self) -> u64 {
        self.logs.iter().map(|log| lock(log).written).sum()
    }

    /// What was acknowledged, and what was given up, for a note below a table.
    pub(crate) fn told(&self) -> String {
        let named: Vec<String> = self.failed().iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
        let given_up = if named.is_empty() { "none was given up".to_owned() } else { named.join(", ") };
        format!("{} writes were acknowledged; {given_up}.", self.written())
    }

    /// Writes that were given up since the start, by reason.
    pub(crate) fn failed(&self) -> BTreeMap<String, u64> {
        let mut failed = BTreeMap::new();
        for log in &self.logs {
            lock(log).failed.iter().for_each(|(reason, count)| *failed.entry(reason.clone()).or_default() += count);
        }
        failed
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Writes under way are given up; their servers are about to be killed.
            runtime.shutdown_background();
        }
    }
}

async fn write_all_the_time(client: Client, keys: Vec<Vec<u8>>, value: Vec<u8>, every: Duration, log: Arc<Mutex<Log>>) {
    let value = kvorum_client::Bytes::from(value);
    let mut clock = tokio::time::interval(every);
    // What was missed is still due; its latency counts from then.
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let turns = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT_MAX));
    for key in keys.iter().cycle() {
        let due = clock.tick().await.into_std();
        let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else {
            lock(&log).count_failed("too many are under way".to_owned());
            continue;
        };
        let (write, log) = (client.put(key, value.clone()), Arc::clone(&log));
        tokio::spawn(async move {
            let result = write.await;
            let at = Instant::now();
            drop(turn);
            let mut log = lock(&log);
            match result {
                Ok(_) => {
                    log.written += 1;
                    log.answers.push(AnsweredAt { due, at });
                }
                Err(error) => log.count_failed(reason(&error)),
            }
        });
    }
}

impl Log {
    fn count_failed(&mut self, reason: String) {
        let known = self.failed.len() < REASONS_MAX || self.failed.contains_key(&reason);
        *self.failed.entry(if known { reason } else { "other reasons".to_owned() }).or_default() += 1;
    }
}

/// Without what differs from one write to the next.
fn reason(error: &Error) -> String {
    format!("{} ({})", error.code(), error.outcome())
}

/// Some keys of every shard.
fn keys_of(topology: &Topology) -> Vec<Vec<Vec<u8>>> {
    let mut keys = vec![Vec::new(); topology.shards.len()];
    let mut missing = keys.len() * KEYS_PER_SHARD;
    // Keys are spread evenly, so this ends soon.
    for number in 0u64.. {
        let key = format!("outage:{number}").into_bytes();
        let of_shard = &mut keys[usize::from(topology.shard_of(&key).0)];
        if of_shard.len() < KEYS_PER_SHARD {
            of_shard.push(key);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    keys
}

/// A log is sound after each change of it, even if whoever made one died.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, Epoch, ShardInfo};

    #[test]
    fn every_shard_has_keys_of_its_own() {
        let topology = Topology {
            epoch: Epoch(1),
            cluster: ClusterId(uuid::Uuid::nil()),
            durability: Durability::Fsync,
            nodes: Vec::new(),
            shards: vec![ShardInfo::default(); 64],
        };
        let keys = keys_of(&topology);
        assert_eq!(keys.len(), 64);
        for (shard, keys) in keys.iter().enumerate() {
            assert_eq!(keys.len(), KEYS_PER_SHARD);
            assert!(keys.iter().all(|key| usize::from(topology.shard_of(key).0) == shard));
        }
    }

    #[test]
    fn reasons_are_bounded() {
        let mut log = Log::default();
        (0..1000).for_each(|number| log.count_failed(format!("reason {number}")));
        assert!(log.failed.len() <= REASONS_MAX + 1);
        assert_eq!(log.failed.values().sum::<u64>(), 1000);
    }
}
