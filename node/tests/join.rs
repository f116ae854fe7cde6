//! A machine joins a running cluster by a token: with an empty folder, and nothing else in its hands.

use crate::common::process::{Log, NodeProcess, run};
use crate::common::{ClusterOptions, TestCluster, eventually, http};
use kvorum_client::{AuthorityHash, Client, JoinToken, NewNode, TokenWish};
use std::fs;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: u64 = 200;
const ISSUER: [&str; 2] = ["issuer.pem", "issuer.key"];

/// Runs `kvorum join` for node 4 of the cluster, in this folder and by the node `to`; returns how it ended and what it said.
fn join(cluster: &TestCluster, to: usize, token: &JoinToken, dir: &Path) -> (Option<i32>, String) {
    let (status, text) =
        run(&arguments(&cluster.peer_address(to).to_string(), cluster, token, dir).each_ref().map(|one| &**one));
    (status.code(), text)
}

fn arguments(to: &str, cluster: &TestCluster, token: &JoinToken, dir: &Path) -> [String; 9] {
    let dir = dir.to_str().expect("temporary folders have names in UTF-8");
    let base_port = cluster.address(4).port().to_string();
    let token = token.to_string();
    ["join", "--to", to, "--token", &token, "--data-dir", dir, "--base-port", &base_port].map(str::to_owned)
}

async fn token(client: &Client) -> JoinToken {
    client.admin().token(TokenWish::default()).await.expect("the cluster makes tokens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_joins_once_by_a_token_and_takes_its_share() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    for number in 0..KEYS {
        client.put(format!("before-{number}"), format!("{number}")).await.expect("the cluster takes writes");
    }
    let token = token(&client).await;
    let dir = cluster.node_dir(4);

    // Whoever answers is no node of the cluster that the token names. Nothing was said to it: the token is as good as before.
    let [first, ..] = token.authority.0;
    let mut other = token.authority.0;
    other[0] = !first;
    let forged = JoinToken { authority: AuthorityHash(other), ..token.clone() };
    let (code, text) = join(&cluster, 1, &forged, &dir);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("it is no node of the token's cluster: "), "{text}");

    // Nobody could sign a certificate, so the token is not used up either.
    let kept = cluster.dir().join("issuers");
    for node in cluster.nodes() {
        fs::create_dir_all(kept.join(node.to_string())).expect("it can be made");
        for file in ISSUER {
            let (from, to) = (cluster.node_dir(node).join(file), kept.join(node.to_string()).join(file));
            fs::rename(from, to).expect("each founder has an issuer");
        }
    }
    let (code, text) = join(&cluster, 1, &token, &dir);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("no node that runs has an issuer") && text.contains("kvorum add-node"), "{text}");
    // The node that is asked has none, and another one signs.
    for file in ISSUER {
        fs::rename(kept.join("3").join(file), cluster.node_dir(3).join(file)).expect("it is put back");
    }

    let (code, text) = join(&cluster, 1, &token, &dir);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("this machine is node-4 of cluster") && text.contains("kvorum start --config"), "{text}");
    assert!(!dir.join("join.json").exists());
    let (code, text) = join(&cluster, 1, &token, &dir);
    assert_eq!(code, Some(0), "asked again in the same folder it is done: {text}");
    let (code, text) = join(&cluster, 2, &token, &cluster.node_dir(5));
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("the token was used by another node"), "{text}");

    let new = cluster.start_joined_node();
    eventually("the new node holds its share", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let at = topology.nodes.iter().position(|node| node.name == "node-4").ok_or("it is no node yet")?;
        let holds = topology.shards.iter().filter(|shard| shard.replicas.contains(&(at as u16))).count();
        if holds == 3 {
            return Ok(());
        }
        let plan = client.admin().plan(None).await.map_err(|error| error.to_string())?;
        Err(format!("it holds {holds} of 4 shards; moves {:?}; {:?}", plan.moves, plan.reasons))
    })
    .await;
    let through_it = cluster.client_of([new]).await;
    for number in 0..KEYS {
        let found = through_it.get(format!("before-{number}")).await.expect("it can be read");
        assert_eq!(found.map(|entry| entry.value), Some(format!("{number}").into()), "key {number}");
    }
    // It founded nothing, and starts without anybody's help.
    cluster.kill(new);
    cluster.start_node(new);
    cluster.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_killed_while_it_joins_goes_on_as_the_same_node() {
    let cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let (token, dir) = (token(&client).await, cluster.node_dir(4));

    // Nobody waits there, so it has begun and asks on.
    let nobody = cluster.peer_address(9).to_string();
    let log = Log::default();
    let process =
        NodeProcess::spawn(&arguments(&nobody, &cluster, &token, &dir).each_ref().map(|one| &**one), &[], &log);
    eventually("it has begun", PATIENCE, async || match dir.join("node.key").exists() {
        true => Ok(()),
        false => Err(log.last_line()),
    })
    .await;
    process.kill();
    let begun = fs::read_to_string(dir.join("join.json")).expect("it has written down who it is");
    let key = fs::read_to_string(dir.join("node.key")).expect("and has its key");

    let (code, text) = join(&cluster, 2, &token, &dir);
    assert_eq!(code, Some(0), "{text}");
    let config = fs::read_to_string(dir.join("kvorum.toml")).expect("it is whole");
    let id = config.lines().find_map(|line| line.strip_prefix("node_id = ")).expect("it has an id").trim_matches('"');
    assert!(begun.contains(id), "{id} in {begun}");

    // As if it had died just before the last file: the token is used, and the answer is the same.
    fs::remove_file(dir.join("kvorum.toml")).expect("it is there");
    fs::remove_file(dir.join("node.pem")).expect("it is there");
    fs::write(dir.join("join.json"), &begun).expect("it can be written");
    let (code, text) = join(&cluster, 3, &token, &dir);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(fs::read_to_string(dir.join("kvorum.toml")).ok(), Some(config));
    assert_eq!(fs::read_to_string(dir.join("node.key")).ok(), Some(key), "the key never left, and stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_whom_it_says_and_the_clients_door_lets_nobody_in_by_it() {
    let cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let target = "/cluster/tokens?name=db-7&zone=b&for_ms=60000";
    let answer = http::request(cluster.http_address(2), "POST", target, &[], "").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let token: serde_json::Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    assert_eq!(token["for_ms"], 60_000);
    let token: JoinToken = token["token"].as_str().expect("it is a text").parse().expect("it is a token");
    let dir = cluster.node_dir(4);
    let mut named = arguments(&cluster.peer_address(1).to_string(), &cluster, &token, &dir).to_vec();
    named.extend(["--name".to_owned(), "db-8".to_owned()]);
    let (status, text) = run(&named.iter().map(|one| &**one).collect::<Vec<_>>());
    assert_eq!(status.code(), Some(78), "{text}");
    assert!(text.contains("the name \"db-8\" can't be used: the token is for another one"), "{text}");

    let (code, text) = join(&cluster, 1, &token, &dir);
    assert_eq!(code, Some(0), "{text}");
    let topology = client.topology().await.expect("it can be had");
    let node = topology.nodes.iter().find(|node| node.name == "db-7").expect("it is a node");
    assert_eq!(node.zone, "b");

    // Who knows a token's id has nothing: its secret is asked for at the peers' door.
    let verb = kvorum_client::ClusterVerb::JoinByToken {
        token: token.id,
        key: kvorum_protocol::NodeKey([7; 32]),
        node: Box::new(NewNode {
            id: kvorum_client::NodeId(kvorum_client::Uuid::from_u128(7)),
            name: String::new(),
            zone: String::new(),
            client: "10.9.9.9:1".to_owned(),
            peer: "10.9.9.9:2".to_owned(),
            folder: kvorum_protocol::FolderId(kvorum_client::Uuid::from_u128(8)),
            levels: kvorum_protocol::peer::Levels::OWN,
        }),
    };
    let refused = client.admin().ask(verb).await.expect_err("clients don't ask that");
    assert_eq!(refused.code(), kvorum_client::ErrorCode::NotPermitted, "{refused}");
}
