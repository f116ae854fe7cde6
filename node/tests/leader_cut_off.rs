//! A leader that is cut off from its peers stops answering linearizable reads before another leader can take writes; clients
//! move on; healing needs no help.

use crate::common;
use crate::common::wire::{get, new_client};
use crate::common::{ClusterOptions, RawConnection, Recorder, TestCluster, eventually, key_in_shard};
use kvorum_client::{Client, ShardId};
use kvorum_protocol::ResponseBody;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the cut-off leader may keep a read waiting; short, so that it is asked often.
const READ_DEADLINE_MS: u32 = 100;
/// How long anything here may take: elections, moving on, healing.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_falls_silent_before_another_takes_over() {
    let cluster = TestCluster::start(ClusterOptions { fault_hooks: true, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let shard = ShardId(0);
    let key = key_in_shard("cut", shard, cluster.shards());
    let old_leader = cluster.leader_of(&topology, shard);
    let old_id = cluster.id_of(&topology, old_leader);
    let others = cluster.client_of(cluster.nodes().filter(|node| *node != old_leader)).await;
    let recorder = Arc::new(Recorder::new());
    recorder.put(0, &client, &key, "before").await.expect("a healthy cluster takes writes");

    let watch = Watch::default();
    let reader = tokio::spawn(watch.clone().read(cluster.address(old_leader), key.clone(), Arc::clone(&recorder)));
    watch.wait_answers(20).await;
    let admin = cluster.client_of([old_leader]).await;
    admin.admin().cut_peers(old_id, true).await.expect("fault hooks are on");

    write_until_acknowledged(&recorder, 1, &others, &key, "after").await;
    let taken_over_at = recorder.now();
    // It has been asked all the time. From now on it must not answer; several deadlines' worth of asking shows it.
    watch.wait_refusals_after(taken_over_at, 5).await;
    write_until_acknowledged(&recorder, 0, &client, &key, "and again").await;

    let healed_at = recorder.now();
    admin.admin().cut_peers(old_id, false).await.expect("fault hooks are on");
    cluster.wait_caught_up(old_leader).await;
    watch.wait_answers_after(recorder.now(), 20).await;
    watch.stop.store(true, Ordering::Relaxed);
    reader.await.expect("the reader does not panic");
    let early = watch.count(|read| read.answered && read.invoked_at > taken_over_at && read.returned_at < healed_at);
    let entry = recorder.get(0, &client, &key).await.expect("a healed cluster answers").expect("the key is there");
    assert_eq!(entry.value, "and again");
    assert_eq!(early, 0, "the old leader answered reads after another had taken a write, and before it was healed");
    Arc::into_inner(recorder).expect("the reader has ended").assert_linearizable("leader_cut_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_off_each_node_in_turn_under_load_keeps_the_history_linearizable() {
    let cluster = TestCluster::start(ClusterOptions { fault_hooks: true, ..ClusterOptions::default() }).await;
    let workload = common::Workload::start(&cluster, 3).await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    for node in cluster.nodes() {
        let admin = cluster.client_of([node]).await;
        let id = cluster.id_of(&topology, node);
        workload.wait_acknowledged(200).await;
        admin.admin().cut_peers(id, true).await.expect("fault hooks are on");
        workload.wait_acknowledged(200).await;
        admin.admin().cut_peers(id, false).await.expect("fault hooks are on");
        cluster.wait_caught_up(node).await;
    }
    let recorder = workload.stop().await;
    common::workload::read_all(&recorder, &client).await;
    recorder.assert_linearizable("leader_cut_off_under_load");
}

/// A new call of the same write is harmless here: a put of the same value by the only writer.
async fn write_until_acknowledged(recorder: &Recorder, number: u32, client: &Client, key: &str, value: &str) {
    eventually("clients move on to another leader", DEADLINE, async || recorder.put(number, client, key, value).await)
        .await;
}

/// What the reader of the old leader saw.
#[derive(Clone, Default)]
struct Watch {
    stop: Arc<AtomicBool>,
    reads: Arc<std::sync::Mutex<Vec<Read>>>,
}

/// A read of the old leader: when it was called and ended, and whether it was answered with a value.
#[derive(Clone, Copy)]
struct Read {
    invoked_at: u64,
    returned_at: u64,
    answered: bool,
}

impl Watch {
    /// Reads the key from one node until told to stop, each read sent once; answers go to the recorder, refusals don't.
    async fn read(self, address: SocketAddr, key: String, recorder: Arc<Recorder>) {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            if connection.is_none() {
                connection = RawConnection::greet(address, new_client()).await.ok();
            }
            let Some(open) = &mut connection else { continue };
            let invoked_at = recorder.now();
            let answered = match open.call_within(get(&key), READ_DEADLINE_MS).await {
                Ok(ResponseBody::Value(entry)) => {
                    let found = entry.map(|entry| (entry.value.to_vec(), entry.version.0));
                    recorder.record_get(u32::MAX, invoked_at, &key, found);
                    true
                }
                Ok(ResponseBody::Error(_)) => false,
                Ok(other) => panic!("a get was answered with {other:?}"),
                Err(_) => {
                    connection = None;
                    continue;
                }
            };
            self.lock().push(Read { invoked_at, returned_at: recorder.now(), answered });
        }
    }

    async fn wait_answers(&self, count: usize) {
        self.wait(count, |read| read.answered).await;
    }

    async fn wait_answers_after(&self, at: u64, count: usize) {
        self.wait(count, |read| read.answered && read.invoked_at > at).await;
    }

    async fn wait_refusals_after(&self, at: u64, count: usize) {
        self.wait(count, |read| !read.answered && read.invoked_at > at).await;
    }

    fn count(&self, wanted: impl Fn(&Read) -> bool) -> usize {
        self.lock().iter().filter(|read| wanted(read)).count()
    }

    async fn wait(&self, count: usize, wanted: impl Fn(&Read) -> bool + Send + Sync) {
        eventually("the old leader has been asked often enough", DEADLINE, async || {
            let found = self.count(&wanted);
            if found >= count { Ok(()) } else { Err(format!("{found} of {count}")) }
        })
        .await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Read>> {
        self.reads.lock().expect("no thread panics with the reads locked")
    }
}
