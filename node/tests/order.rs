//! Requests for one key take effect in the order in which one connection sends them.

use crate::common::wire::{Received, get, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster};
use kvorum_protocol::{Ack, Outcome, RequestBody, ResponseBody, WriteId};

/// A GET behind a WRITE that is answered when it is accepted, both when that answer has come and when it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_get_sees_the_accepted_write_before_it() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    for node in cluster.nodes() {
        let mut connection = RawConnection::greet(cluster.address(node), new_client()).await.expect("the door is open");
        for number in 1..=200_u64 {
            let key = format!("key {node} {number}");
            let mut write = put(number, key.clone(), "value");
            if let RequestBody::Write { ack, .. } = &mut write {
                *ack = Ack::Accepted;
            }
            let written = connection.send(write, 0).await.expect("the connection lasts");
            // In odd rounds the answer to the write is awaited first.
            let awaits = number % 2 == 1;
            if awaits {
                connection.receive().await;
            }
            let read = connection.send(get(&key), 0).await.expect("the connection lasts");
            for _ in 0..if awaits { 1 } else { 2 } {
                let Received::Response(response) = connection.receive().await else { panic!("the connection lasts") };
                match response.body {
                    ResponseBody::Value(entry) => {
                        assert_eq!(response.id, read);
                        assert!(entry.is_some(), "node {node}, pair {number}: the GET missed the WRITE before it");
                    }
                    ResponseBody::Written(_) => assert_eq!(response.id, written),
                    // Leadership may be balanced meanwhile; after an error there is no order.
                    ResponseBody::Error(error) => assert_ne!(error.outcome, Outcome::Applied),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// The same of a BATCH whose keys are led by several nodes: that another node has answered a part of it changes nothing for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_get_sees_the_accepted_batch_before_it() {
    const KEYS: u64 = 16;
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    for node in cluster.nodes() {
        let mut connection = RawConnection::greet(cluster.address(node), new_client()).await.expect("the door is open");
        for round in 0..40_u64 {
            let keys: Vec<String> = (0..KEYS).map(|key| format!("batch {node} {round} {key}")).collect();
            let sequence = 1 + round * KEYS;
            let id = WriteId { sequence, first_unanswered: sequence, retry: false, once: None };
            let mutation = |key: &String| match put(1, key.clone(), "value") {
                RequestBody::Write { mutation, .. } => mutation,
                other => panic!("{other:?}"),
            };
            let mutations = keys.iter().map(mutation).collect();
            let batch = RequestBody::Batch { id, ack: Ack::Accepted, mutations };
            connection.send(batch, 0).await.expect("the connection lasts");
            let Received::Response(response) = connection.receive().await else { panic!("the connection lasts") };
            let ResponseBody::Batch(results) = response.body else { panic!("{:?}", response.body) };
            for (key, _) in keys.iter().zip(results).filter(|(_, result)| result.is_ok()) {
                connection.send(get(key), 0).await.expect("the connection lasts");
                let Received::Response(response) = connection.receive().await else { panic!("the connection lasts") };
                if let ResponseBody::Value(entry) = response.body {
                    assert!(entry.is_some(), "node {node}, round {round}: the GET of {key} missed the BATCH before it");
                }
            }
        }
    }
}
