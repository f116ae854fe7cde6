//! A write that is retried with the same sequence number after a leader's death takes effect once. INCR proves it, sent as
//! raw frames, so that no client library decides what is retried.

use crate::common;
use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::wire::{get, new_client, write};
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, key_in_shard};
use kvorum_client::{
    ClientId, Condition, ErrorCode, Outcome, ShardId, TransactionReply, TransactionResult, Version, WriteOp,
};
use kvorum_protocol::{Action, ResponseBody, WriteResult, WriteStatus};
use std::time::Duration;

/// How long a retry may have to wait for another leader.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_write_that_is_sent_again_gets_the_same_answer() {
    let mut scenario = Scenario::start().await;
    for sequence in 1..=2 {
        let leader = scenario.leader().await;
        let mut connection = scenario.connect(leader).await;
        let first = written(connection.call(incr(&scenario.key, sequence, false)).await.expect("the leader answers"));
        assert_eq!(first.number, Some(sequence as i64));
        scenario.cluster.kill(leader);
        let again = scenario.retry(leader, sequence).await;
        assert_eq!((again.status, again.number, again.version), (first.status, first.number, first.version));
        scenario.revive(leader).await;
    }
    scenario.assert_counter(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_done_in_turn_and_each_operation_has_its_reply() {
    let scenario = Scenario::start().await;
    let client = scenario.cluster.client().await;
    client.put("{job}.text", "no number").await.unwrap();
    let begun = client.put("{job}.new", "dig").await.unwrap();
    let unchanged = Condition::IfVersion(begun.version);
    let work = || {
        let work = client.transaction("job").check("{job}.new", unchanged.clone()).rename("{job}.new", "{job}.taken");
        let work = work.get("{job}.taken").incr("{job}.text", 1).incr("{job}.count", 2).copy("{job}.none", "{job}.x");
        work.copy_if_absent("{job}.taken", "{job}.text").get("{job}.new")
    };
    let replies = work().await.unwrap().done().unwrap();
    let status = |at: usize| match &replies[at] {
        TransactionReply::Written(result) => result.status,
        other => panic!("reply {at} is {other:?}"),
    };
    assert_eq!(
        (status(0), status(4), status(5)),
        (WriteStatus::Applied, WriteStatus::Missing, WriteStatus::ConditionFailed)
    );
    let TransactionReply::Value(Some(taken)) = &replies[1] else { panic!("{replies:?}") };
    assert_eq!((&taken.key[..], &taken.value[..]), (&b"{job}.taken"[..], &b"dig"[..]));
    assert!(
        matches!(&replies[2], TransactionReply::Failed(error) if error.code == ErrorCode::NotAnInteger),
        "{replies:?}"
    );
    assert!(matches!(&replies[3], TransactionReply::Written(result) if result.number == Some(2)), "{replies:?}");
    assert_eq!(replies[6], TransactionReply::Value(None), "a later one sees what an earlier one did");
    assert_eq!(work().await.unwrap(), TransactionResult::Aborted { position: 0, version: Version(0) });
    let [one, other] = [0, 1].map(|shard| key_in_shard("key", ShardId(shard), scenario.cluster.shards()));
    let across = client.transaction("job").get(one).get(other).await;
    assert_eq!(across.unwrap_err().code(), ErrorCode::CrossShard);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_takes_effect_once() {
    let mut scenario = Scenario::start().await;
    for sequence in 1..=4 {
        let leader = scenario.leader().await;
        let mut connection = scenario.connect(leader).await;
        connection.send(incr(&scenario.key, sequence, false), 0).await.expect("the leader's door is open");
        if sequence % 2 == 0 {
            // Killed with the answer on its way, which nobody reads. In odd rounds the write itself may not have arrived.
            connection.receive().await;
        }
        scenario.cluster.kill(leader);
        let result = scenario.retry(leader, sequence).await;
        assert_eq!((result.status, result.number), (WriteStatus::Applied, Some(sequence as i64)));
        scenario.revive(leader).await;
    }
    scenario.assert_counter(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_sent_many_times_at_once_through_all_nodes_takes_effect_once() {
    let scenario = Scenario::start().await;
    for sequence in 1..=20 {
        let mut connections = Vec::new();
        for node in scenario.cluster.nodes() {
            let mut connection = scenario.connect(node).await;
            connection.send(incr(&scenario.key, sequence, node > 1), 0).await.expect("the door is open");
            connections.push(connection);
        }
        for mut connection in connections {
            if let common::wire::Received::Response(response) = connection.receive().await {
                match response.body {
                    ResponseBody::Written(result) => assert_eq!(result.number, Some(sequence as i64)),
                    // Allowed, as long as it does not claim that a write that others saw was not applied twice.
                    ResponseBody::Error(error) => assert_ne!(error.outcome, Outcome::NotApplied, "{error}"),
                    other => panic!("an INCR was answered with {other:?}"),
                }
            }
        }
    }
    scenario.assert_counter(20).await;
}

/// What the library's users have for it: a name, which other clients may use as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_a_name_is_done_once_whichever_client_sends_it_and_whoever_leads() {
    let mut scenario = Scenario::start().await;
    let first = scenario.cluster.client().await.write(WriteOp::incr(&scenario.key, 1)).once("order-17").await;
    let first = first.expect("the cluster is well").into_result();
    assert_eq!((first.number, first.replayed), (Some(1), false));
    let leader = scenario.leader().await;
    scenario.cluster.kill(leader);
    let client = scenario.cluster.client_of(scenario.cluster.nodes().filter(|node| *node != leader)).await;
    let again = eventually("another leader answers", FAILOVER_DEADLINE, async || {
        client.write(WriteOp::incr(&scenario.key, 1)).once("order-17").await
    });
    let again = again.await.into_result();
    assert_eq!((again.number, again.version, again.replayed), (first.number, first.version, true));
    let reused = client.put(&scenario.key, "7").once("order-17").await.expect_err("it was used for an increment");
    assert_eq!((reused.code(), reused.outcome()), (ErrorCode::OnceIdReused, Outcome::NotApplied));
    assert_eq!(client.incr(&scenario.key, 1).once("order-18").await, Ok(2));
    scenario.revive(leader).await;
    scenario.assert_counter(2).await;
}

struct Scenario {
    cluster: TestCluster,
    client: ClientId,
    shard: ShardId,
    key: String,
}

impl Scenario {
    async fn start() -> Self {
        let cluster = TestCluster::start(ClusterOptions::default()).await;
        let shard = ShardId(1);
        let key = key_in_shard("counter", shard, cluster.shards());
        Self { cluster, client: new_client(), shard, key }
    }

    async fn connect(&self, node: usize) -> RawConnection {
        RawConnection::greet(self.cluster.address(node), self.client).await.expect("the node's door is open")
    }

    async fn leader(&self) -> usize {
        let client = self.cluster.client().await;
        let topology = self.cluster.settled_topology(&client).await;
        self.cluster.leader_of(&topology, self.shard)
    }

    /// Sends the write again to a node that is not `dead`, until it is answered.
    async fn retry(&self, dead: usize, sequence: u64) -> WriteResult {
        let node = self.cluster.nodes().find(|node| *node != dead).expect("there are three nodes");
        eventually("the retried write is answered", FAILOVER_DEADLINE, async || {
            let connection = RawConnection::greet(self.cluster.address(node), self.client).await;
            let mut connection = connection.map_err(|error| error.to_string())?;
            match connection.call(incr(&self.key, sequence, true)).await.map_err(|error| error.to_string())? {
                ResponseBody::Written(result) => Ok(result),
                ResponseBody::Error(error) => Err(error.to_string()),
                other => panic!("an INCR was answered with {other:?}"),
            }
        })
        .await
    }

    async fn revive(&mut self, node: usize) {
        self.cluster.start_node(node);
        self.cluster.wait_ready().await;
    }

    async fn assert_counter(&self, expected: u64) {
        for node in self.cluster.nodes() {
            let mut connection = self.connect(node).await;
            eventually("every node reads the counter", OPERATION_DEADLINE, async || {
                match connection.call(get(&self.key)).await.map_err(|error| error.to_string())? {
                    ResponseBody::Value(Some(entry)) => {
                        assert_eq!(entry.value, expected.to_string(), "read through node {node}");
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
    }
}

fn incr(key: &str, sequence: u64, retry: bool) -> kvorum_protocol::RequestBody {
    write(sequence, retry, key.to_owned(), Action::Incr { by: 1 })
}

fn written(body: ResponseBody) -> WriteResult {
    match body {
        ResponseBody::Written(result) => result,
        other => panic!("an INCR was answered with {other:?}"),
    }
}
