//! A data folder that is put back from a copy has forgotten what its node promised since, and comes under its old id. It is
//! noticed by its count of starts.

use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::health;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the copy's folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("an entry has a kind").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file can be copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_put_back_is_turned_away_until_it_is_emptied() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let (data, copy) = (cluster.node_dir(3).join("data"), cluster.node_dir(3).join("copy"));
    cluster.kill(3);
    copy_folder(&data, &copy);
    cluster.start_node(3);
    cluster.wait_caught_up(3).await;
    client.put("key", "acknowledged after the copy").await.expect("the cluster is whole");

    cluster.kill(3);
    std::fs::remove_dir_all(&data).expect("the folder can be removed");
    copy_folder(&copy, &data);
    cluster.start_node(3);
    for other in [1, 2] {
        eventually("a peer turns it away, and says why", DEADLINE, async || {
            let said = cluster.log(other).lines().iter().any(|line| line.contains("or was put back from one"));
            said.then_some(()).ok_or("it has said nothing yet")
        })
        .await;
    }
    client.put("key", "the others go on").await.expect("two nodes are a quorum");
    let topology = client.topology().await.expect("a node answers");
    let statuses = client.status().await.expect("the others answer");
    assert_ne!(health::problems(&topology, &statuses), [] as [&str; 0], "CLUSTER CHECK says so");

    cluster.kill(3);
    std::fs::remove_dir_all(&data).expect("the folder can be removed");
    cluster.start_node(3);
    eventually("an empty folder is taken in", DEADLINE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let problems = health::problems(&topology, &statuses);
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    })
    .await;
}
