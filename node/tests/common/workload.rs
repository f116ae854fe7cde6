//! Many clients that read and write few keys without pause, each operation recorded.

use super::cluster::{OPERATION_DEADLINE, TestCluster};
use super::recorder::Recorder;
use super::wait::eventually;
use bytes::Bytes;
use kvorum_client::{Client, Condition, Version};
use kvorum_protocol::{Action, TimeToLive};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Clients of a workload, each with connections and a session of its own.
pub(crate) const CLIENTS: u32 = 32;
/// Keys of each kind: few, so that clients meet on them.
pub(crate) const REGISTERS: u32 = 16;
pub(crate) const COUNTERS: u32 = 4;
pub(crate) const TEXTS: u32 = 4;

/// A workload that runs. Choices are random with a fixed seed, which [`Workload::start`] prints; the interleaving is the
/// machine's.
pub(crate) struct Workload {
    recorder: Arc<Recorder>,
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Workload {
    /// Connects the clients and sets them going.
    pub(crate) async fn start(cluster: &TestCluster, seed: u64) -> Self {
        println!("the workload's choices have seed {seed}");
        let recorder = Arc::new(Recorder::new());
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let driver = Driver {
                number,
                client: cluster.client().await,
                recorder: Arc::clone(&recorder),
                shared: Arc::clone(&shared),
                rng: StdRng::seed_from_u64(seed ^ u64::from(number) << 32),
                seen: HashMap::new(),
            };
            clients.spawn(driver.run());
        }
        Self { recorder, shared, clients }
    }

    /// Writes acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Operations that failed so far, outcome known or not.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until this many more writes have been acknowledged.
    pub(crate) async fn wait_acknowledged(&self, more: u64) {
        let goal = self.acknowledged() + more;
        eventually("the workload's writes are acknowledged", Duration::from_secs(30), async || {
            let acknowledged = self.acknowledged();
            if acknowledged >= goal { Ok(()) } else { Err(format!("{acknowledged} of {goal}")) }
        })
        .await;
    }

    /// Lets each client finish its operation. Their outcomes are all in the returned recorder.
    pub(crate) async fn stop(mut self) -> Recorder {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a workload's client does not panic");
        }
        Arc::into_inner(self.recorder).expect("the clients have ended, and their recorders with them")
    }
}

/// Kills every node at once under load, so often, starts them, and has the recorded history judged at the end. Each recovery
/// but the first begins with what the one before wrote.
pub(crate) async fn survive_the_death_of_all(cluster: &mut TestCluster, seed: u64, times: u32, test: &str) {
    let workload = Workload::start(cluster, seed).await;
    for _ in 0..times {
        workload.wait_acknowledged(500).await;
        cluster.kill_all();
        cluster.nodes().for_each(|node| cluster.start_node(node));
        cluster.wait_ready().await;
    }
    // The clients find their way back by themselves.
    workload.wait_acknowledged(100).await;
    let recorder = workload.stop().await;
    read_all(&recorder, &cluster.client().await).await;
    recorder.assert_linearizable(test);
}

/// Reads every key of the workload once, each read recorded: a lost write shows at the latest now.
pub(crate) async fn read_all(recorder: &Recorder, client: &Client) {
    let registers = (0..REGISTERS).map(register);
    let keys = registers.chain((0..COUNTERS).map(counter)).chain((0..TEXTS).map(text));
    for key in keys {
        recorder.get(CLIENTS, client, &key).await.expect("the cluster is whole and answers");
    }
}

pub(crate) fn register(number: u32) -> String {
    format!("register-{number}")
}

pub(crate) fn counter(number: u32) -> String {
    format!("counter-{number}")
}

pub(crate) fn text(number: u32) -> String {
    format!("text-{number}")
}

/// One client.
struct Driver {
    number: u32,
    client: Client,
    recorder: Arc<Recorder>,
    shared: Arc<Shared>,
    rng: StdRng,
    /// The versions this client saw last, for its compare-and-sets.
    seen: HashMap<String, Version>,
}

impl Driver {
    async fn run(mut self) {
        let mut operation = 0;
        while !self.shared.stop.load(Ordering::Relaxed) && !self.recorder.is_full() {
            // Each value is written once in a history, so that a read says which write it saw.
            self.step(operation).await;
            operation += 1;
        }
        self.client.close(OPERATION_DEADLINE).await;
    }

    async fn step(&mut self, operation: u64) {
        let value = Bytes::from(format!("{}.{operation}", self.number));
        let put = || Action::Put { value: value.clone(), ttl: TimeToLive::Forever };
        let register = register(self.rng.random_range(0..REGISTERS));
        let counter = counter(self.rng.random_range(0..COUNTERS));
        let text = text(self.rng.random_range(0..TEXTS));
        match self.rng.random_range(0..100) {
            0..30 => self.get(register).await,
            30..35 => self.get(counter).await,
            35..40 => self.get(text).await,
            40..60 => self.write(register, Condition::Always, put()).await,
            60..65 => self.write(register, Condition::IfAbsent, put()).await,
            65..75 => {
                let condition =
                    self.seen.get(&register).map_or(Condition::IfPresent, |seen| Condition::IfVersion(*seen));
                self.write(register, condition, put()).await;
            }
            75..80 => self.write(register, Condition::Always, Action::Delete).await,
            80..92 => {
                let by = self.rng.random_range(-5..10);
                self.write(counter, Condition::Always, Action::Incr { by }).await;
            }
            92..98 => self.write(text, Condition::Always, Action::Append { value }).await,
            // Now and then a text begins anew, so that texts stay short.
            _ => self.write(text, Condition::Always, put()).await,
        }
    }

    async fn get(&mut self, key: String) {
        match self.recorder.get(self.number, &self.client, &key).await {
            Ok(Some(entry)) => {
                self.seen.insert(key, entry.version);
            }
            Ok(None) => {
                self.seen.remove(&key);
            }
            Err(_) => {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn write(&mut self, key: String, condition: Condition, action: Action) {
        let counter = match self.recorder.write(self.number, &self.client, &key, condition, action).await {
            Ok(result) => {
                self.seen.insert(key, result.version);
                &self.shared.acknowledged
            }
            Err(_) => &self.shared.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
