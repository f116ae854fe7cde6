//! Requests for one key take effect in the order in which one connection sends them.

mod common;

use common::wire::{Received, get, new_client, put};
use common::{ClusterOptions, RawConnection, TestCluster};
use kvorum_protocol::{Ack, Outcome, RequestBody, ResponseBody};

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
