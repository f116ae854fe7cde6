//! Clients of the standalone RESP door through all nodes, while each node is killed once: no acknowledged write is lost, no read is
//! stale, and no increment is done twice.

use crate::common;
use crate::common::recorder::Recorder;
use crate::common::resp::{Caller, Reply};
use crate::common::workload::{COUNTERS, REGISTERS, TEXTS, counter, read_all, register, text};
use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_sim::checker::{Action, Call, Completion, Condition, Operation, WriteStatus, Written};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const CLIENTS: u32 = 16;
const SEED: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

/// A client whose library knows nothing but RESP: when its connection is gone, it goes to the next node.
struct Client {
    number: u32,
    doors: Vec<SocketAddr>,
    next: usize,
    open: Option<Caller>,
    rng: StdRng,
    recorder: Arc<Recorder>,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(mut self) {
        let mut operation = 0;
        while !self.shared.stop.load(Ordering::Relaxed) && !self.recorder.is_full() {
            self.step(operation).await;
            operation += 1;
        }
    }

    async fn caller(&mut self) -> &mut Caller {
        while self.open.is_none() {
            self.open = Caller::open(self.doors[self.next % self.doors.len()]).await.ok();
            if self.open.is_none() {
                self.next += 1;
                common::let_run(Duration::from_millis(5)).await;
            }
        }
        self.open.as_mut().expect("it was opened")
    }

    async fn step(&mut self, operation: u64) {
        let value = format!("{}.{operation}", self.number);
        let register = register(self.rng.random_range(0..REGISTERS));
        let counter = counter(self.rng.random_range(0..COUNTERS));
        let text = text(self.rng.random_range(0..TEXTS));
        let put = || Action::Put { value: value.clone().into_bytes(), expires: false };
        let write = |condition, action| Call::Write { condition, action };
        let (key, call, command) = match self.rng.random_range(0..100) {
            0..25 => (register, Call::Get, "GET {}".to_owned()),
            25..30 => (counter, Call::Get, "GET {}".to_owned()),
            30..35 => (text, Call::Get, "GET {}".to_owned()),
            35..55 => (register, write(Condition::Always, put()), format!("SET {{}} {value}")),
            55..65 => (register, write(Condition::IfAbsent, put()), format!("SET {{}} {value} NX")),
            65..72 => (register, write(Condition::IfPresent, put()), format!("SET {{}} {value} XX")),
            72..80 => (register, write(Condition::Always, Action::Delete), "DEL {}".to_owned()),
            80..92 => {
                let by = self.rng.random_range(-5..10);
                (counter, write(Condition::Always, Action::Incr(by)), format!("INCRBY {{}} {by}"))
            }
            92..98 => {
                let tail = value.clone().into_bytes();
                (text, write(Condition::Always, Action::Append(tail)), format!("APPEND {{}} {value}"))
            }
            _ => (text, write(Condition::Always, put()), format!("SET {{}} {value}")),
        };
        self.caller().await;
        let invoked_at = self.recorder.now();
        let reply = self.caller().await.call(&command.replace("{}", &key)).await;
        if reply.is_err() {
            self.open = None;
            self.next += 1;
        }
        self.note(invoked_at, key, call, reply.ok());
    }

    fn note(&self, invoked_at: u64, key: String, call: Call, reply: Option<Reply>) {
        let at = self.recorder.now();
        let action = match &call {
            Call::Get => {
                match reply {
                    Some(Reply::Text(value)) => {
                        self.recorder.record_value(self.number, invoked_at, &key, Some(value.into_bytes()));
                    }
                    Some(Reply::Null) => self.recorder.record_value(self.number, invoked_at, &key, None),
                    // A read that failed says nothing.
                    Some(Reply::Error(_)) | None => {}
                    other => panic!("GET {key}: {other:?}"),
                }
                return;
            }
            Call::Write { action, .. } => action,
            Call::Together { .. } => unreachable!("no command here is a transaction"),
        };
        let written = |status, number| {
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            let reply = Written { status, number, ..Written::default() };
            Completion::Answered { at, reply: kvorum_sim::checker::Reply::Written(reply) }
        };
        let completion = match (reply, action) {
            (None, _) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                Completion::Open
            }
            (Some(Reply::Error(text)), _) if text.starts_with("ERR outcome applied") => {
                Completion::AppliedUnseen { at }
            }
            (Some(Reply::Error(text)), _) if text.starts_with("ERR outcome unknown") => Completion::Open,
            // The promise of these: nothing has taken effect.
            (Some(Reply::Error(text)), _) if text.starts_with("TRYAGAIN") || text.starts_with("CLUSTERDOWN") => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            (Some(Reply::Text(ok)), Action::Put { .. }) if ok == "OK" => written(WriteStatus::Applied, None),
            (Some(Reply::Null), Action::Put { .. }) => written(WriteStatus::ConditionFailed, None),
            (Some(Reply::Integer(1)), Action::Delete) => written(WriteStatus::Applied, None),
            (Some(Reply::Integer(0)), Action::Delete) => written(WriteStatus::Missing, None),
            (Some(Reply::Integer(number)), Action::Incr(_) | Action::Append(_)) => {
                written(WriteStatus::Applied, Some(number))
            }
            (reply, action) => panic!("{key}: {reply:?} to {action:?}"),
        };
        self.recorder.record(Operation { client: self.number, invoked_at, key: key.into(), call, completion });
    }
}

async fn acknowledged(shared: &Shared, more: u64) {
    let goal = shared.acknowledged.load(Ordering::Relaxed) + more;
    eventually("writes are acknowledged", PATIENCE, async || {
        let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
        if acknowledged >= goal { Ok(()) } else { Err(format!("{acknowledged} of {goal}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_through_every_node_is_linearizable_while_each_is_killed() {
    println!("the choices have seed {SEED}");
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let (recorder, shared) = (Arc::new(Recorder::new()), Arc::new(Shared::default()));
    let doors: Vec<SocketAddr> = cluster.nodes().map(|node| cluster.resp_address(node)).collect();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            number,
            doors: doors.clone(),
            next: number as usize,
            open: None,
            rng: StdRng::seed_from_u64(SEED ^ u64::from(number) << 32),
            recorder: Arc::clone(&recorder),
            shared: Arc::clone(&shared),
        };
        clients.spawn(client.run());
    }
    for node in cluster.nodes() {
        acknowledged(&shared, 300).await;
        cluster.kill(node);
        acknowledged(&shared, 300).await;
        cluster.start_node(node);
        cluster.wait_caught_up(node).await;
    }
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    assert!(shared.lost.load(Ordering::Relaxed) > 0, "not one kill hit a client, so this showed little");
    println!(
        "{} writes were refused, {} lost their connection",
        shared.refused.load(Ordering::Relaxed),
        shared.lost.load(Ordering::Relaxed)
    );
    let recorder = Arc::into_inner(recorder).expect("the clients have ended, and their recorders with them");
    read_all(&recorder, &cluster.client().await).await;
    recorder.assert_linearizable("resp_history");
}
