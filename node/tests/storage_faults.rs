//! What happens to a node's files while it is down must not change what the cluster answers: a folder that was wiped under
//! load, bytes that were flipped, hints that are gone or damaged.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::wire::new_client;
use crate::common::workload::read_all;
use crate::common::{ClusterOptions, RawConnection, TestCluster, Workload, eventually};
use kvorum_client::Client;
use kvorum_protocol::{ErrorCode, ReadMode, RequestBody, ResponseBody, ShardRole};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a node that lost its data may take to be whole again on a busy machine.
const WHOLE_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Values that a test writes, and how long they are: together far more than the offset of the flipped byte in every shard.
const KEYS: usize = 600;
const VALUE_BYTES: usize = 2_000;
/// So long that a clean stop finds a hint worth writing, with few shards.
const LONG_VALUE_BYTES: usize = 8_000;
/// Rounds of random flips, and how many flips each has; `KVORUM_FLIP_ROUNDS` for more.
const FLIP_ROUNDS_DEFAULT: u32 = 2;
const FLIPS_PER_ROUND: usize = 4;
/// Where segments are cut short: behind their headers, before most values.
const CUT_AT: u64 = 8192;
/// Where a byte is flipped: behind the first entries, before the last ones.
const FLIPPED_AT: usize = 48 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_wiped_under_load_becomes_whole_and_holds_every_acknowledged_write() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let expected = write_values(&client, "wiped", VALUE_BYTES).await;
    let workload = Workload::start(&cluster, 9).await;
    workload.wait_acknowledged(300).await;

    cluster.kill(3);
    std::fs::remove_dir_all(cluster.node_dir(3).join("data")).expect("a node that ran has a data folder");
    cluster.start_node(3);
    wait_whole(&cluster, &client, 3).await;
    workload.wait_acknowledged(300).await;
    wait_whole(&cluster, &client, 3).await;

    // From here on nothing is acknowledged without the node that was wiped.
    cluster.kill(1);
    workload.wait_acknowledged(100).await;
    let recorder = workload.stop().await;
    let client = cluster.client_of([2, 3]).await;
    read_all(&recorder, &client).await;
    assert_values(&client, &expected).await;
    recorder.assert_linearizable("wiped_under_load");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_damaged_segments_never_answers_wrongly_and_is_repaired_by_its_peers() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let expected = write_values(&client, "damaged", VALUE_BYTES).await;
    cluster.kill(3);
    let segments = named(&cluster.node_dir(3).join("data/shards"), "0000000001.segment");
    let flipped = segments.iter().filter(|segment| flip(segment, FLIPPED_AT)).count();
    assert!(flipped >= usize::from(cluster.shards()), "{flipped} segments hold values where the byte is flipped");
    cluster.start_node(3);
    assert_values(&client, &expected).await;
    wait_whole(&cluster, &client, 3).await;

    // Half of what answers now is the repaired node.
    cluster.kill(1);
    let client = cluster.client_of([2, 3]).await;
    assert_values(&client, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_hints_are_gone_or_damaged_serve_the_same_data() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 2, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let mut expected = write_values(&client, "hints", LONG_VALUE_BYTES).await;
    for (number, (key, value)) in expected.iter_mut().enumerate() {
        match number % 3 {
            0 => {
                client.delete(key.clone()).await.expect("a healthy cluster deletes");
                *value = None;
            }
            1 => {
                client.put(key.clone(), "newer").await.expect("a healthy cluster takes writes");
                *value = Some("newer".to_owned());
            }
            _ => {}
        }
    }
    stop_all(&mut cluster).await;
    for node in cluster.nodes() {
        let hints = hints(&cluster, node);
        for hint in hints {
            match node {
                1 => std::fs::remove_file(&hint).expect("the test may remove it"),
                2 => assert!((40..80).any(|at| flip(&hint, at)), "a hint holds more than zeros"),
                _ => truncate(&hint),
            }
        }
    }
    cluster.nodes().for_each(|node| cluster.start_node(node));
    cluster.wait_ready().await;
    assert_values(&cluster.client().await, &expected).await;
    // Each node in turn is missing from the quorum, so whatever another one has rebuilt wrongly is asked for.
    for node in cluster.nodes() {
        cluster.kill(node);
        let others: Vec<usize> = cluster.nodes().filter(|other| *other != node).collect();
        assert_values(&cluster.client_of(others).await, &expected).await;
        cluster.start_node(node);
        cluster.wait_caught_up(node).await;
    }
    // Whoever had to rebuild its index writes it down, or every start would be as slow.
    stop_all(&mut cluster).await;
    cluster.nodes().for_each(|node| drop(hints(&cluster, node)));
}

/// The kernel raises SIGBUS for a mapped page that it can't read: here past the end of a file that was cut short, elsewhere for
/// a sector that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_cut_short_under_a_running_node_costs_replicas_and_not_the_process() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 2, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let expected = write_values(&client, "cut", LONG_VALUE_BYTES).await;
    wait_whole(&cluster, &client, 3).await;
    let shards = cluster.node_dir(3).join("data/shards");
    let cut = (1..9).flat_map(|number| named(&shards, &format!("{number:010}.segment")));
    let cut = cut.filter(|segment| std::fs::metadata(segment).is_ok_and(|file| file.len() > CUT_AT));
    let cut: Vec<PathBuf> = cut.collect();
    assert!(cut.len() > usize::from(cluster.shards()), "{} segments hold values", cut.len());
    for segment in cut {
        let file = std::fs::File::options().write(true).open(segment).expect("the test may write it");
        file.set_len(CUT_AT).expect("the test may cut it");
    }
    read_own(&cluster, 3, &expected).await;
    assert!(cluster.process(3).is_running(), "node 3 has ended: {}", cluster.log(3).last_line());
    assert_values(&client, &expected).await;
    wait_whole(&cluster, &client, 3).await;
    read_own(&cluster, 3, &expected).await;
    assert!(cluster.process(3).is_running(), "node 3 has ended: {}", cluster.log(3).last_line());
}

/// As [`read_through`], of a node that may close connections: it does where it can't be sure any more of what it was about to
/// write to them.
async fn read_own(cluster: &TestCluster, node: usize, expected: &Values) {
    for (key, value) in expected {
        eventually("the node answers", WHOLE_DEADLINE, async || {
            let asked =
                async { RawConnection::greet(cluster.address(node), new_client()).await?.call(stale_get(key)).await };
            let answer = asked.await.map_err(|error: io::Error| error.to_string())?;
            check_answer(key, value.as_ref(), &answer)
        })
        .await;
    }
}

fn stale_get(key: &str) -> RequestBody {
    RequestBody::Get { key: key.to_owned().into(), mode: ReadMode::Stale }
}

/// Whether a stale read of a key found its last value. It may find an older one, or nothing, for a while: the replica is being
/// filled, or the node has asked another one, which has not applied the last write yet. It may never find what was not written.
fn check_answer(key: &str, value: Option<&String>, answer: &ResponseBody) -> Result<(), String> {
    match answer {
        ResponseBody::Value(found) => {
            let found = found.as_ref().map(|entry| String::from_utf8_lossy(&entry.value));
            let (found, value) = (found.as_deref(), value.map(String::as_str));
            if found == value {
                return Ok(());
            }
            let start = |value: &str| value.trim_end_matches('x').to_owned();
            let of_length = |found: &str, filler: usize| found.len() == start(found).len() + filler;
            let was_written = found.is_none_or(|found| {
                value.is_some_and(|value| start(value) == start(found))
                    && (of_length(found, VALUE_BYTES) || of_length(found, LONG_VALUE_BYTES))
            });
            assert!(was_written, "{key} holds {found:?}");
            Err(format!("{key} holds what was there before: {} bytes", found.map_or(0, str::len)))
        }
        ResponseBody::Error(error) => {
            assert_eq!(error.code, ErrorCode::Unavailable, "{key}: {error}");
            Ok(())
        }
        other => panic!("{other:?} to a GET"),
    }
}

/// Random bytes of a larger node's files; every byte of a small one is the simulator's (`sim/tests/flips.rs`). Each round stops a
/// node, now in good order and now not, flips bytes of a few of its files, and starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_over_random_flips_in_any_of_its_files() {
    let rounds = match std::env::var("KVORUM_FLIP_ROUNDS") {
        Ok(text) => text.parse().expect("KVORUM_FLIP_ROUNDS is a number"),
        Err(_) => FLIP_ROUNDS_DEFAULT,
    };
    let seed =
        std::env::var("KVORUM_FLIP_SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
    println!("KVORUM_FLIP_SEED={seed}, {rounds} rounds of {FLIPS_PER_ROUND} flips");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    write_values(&client, "flips", LONG_VALUE_BYTES).await;
    let expected = write_values(&client, "flips", VALUE_BYTES).await;
    wait_whole(&cluster, &client, 3).await;
    for round in 0..rounds {
        if round % 2 == 0 {
            stop(&mut cluster, 3);
            let status = cluster.wait_exit(3, STOP_DEADLINE).await;
            assert!(status.success(), "node 3 stopped with {status}");
        } else {
            cluster.kill(3);
        }
        let flips = flip_some(&cluster.node_dir(3).join("data"), &mut rng);
        println!("round {round}: {}", flips.join(" "));
        cluster.start_node(3);
        assert_values(&client, &expected).await;
        wait_whole(&cluster, &client, 3).await;
        // Reads meet what a start does not; then the replica is replaced, too.
        assert!(cluster.process(3).is_running(), "round {round}: node 3 has ended\n{}", cluster.log(3).last_line());
        read_through(&cluster, 3, &expected).await;
        wait_whole(&cluster, &client, 3).await;
    }
    // Not with another node dead: damage in what nothing has read yet would be the second fault of its shard.
}

/// Flips a byte in each of a few files, and says where. Not in both copies of a file that is kept twice: that is two faults.
fn flip_some(data: &Path, rng: &mut StdRng) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| std::fs::metadata(file).is_ok_and(|file| file.len() > 0));
    files.sort();
    let mut flips = Vec::new();
    let mut met = HashSet::new();
    while flips.len() < FLIPS_PER_ROUND {
        let file = &files[rng.random_range(0..files.len())];
        let kept_twice = file.to_string_lossy().replace(".copy", "");
        if !met.insert(kept_twice) {
            continue;
        }
        let mut bytes = std::fs::read(file).expect("the test may read it");
        // Somewhere in what is in use: most of a preallocated file is not.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        let (at, bits) = (rng.random_range(0..used), rng.random_range(1..=255_u8));
        bytes[at] ^= bits;
        std::fs::write(file, bytes).expect("the test may write it");
        flips.push(format!("{}:{at}:{bits:02x}", file.strip_prefix(data).expect("it lies in there").display()));
    }
    flips
}

/// Reads every key from a node's own replicas, each until [`check_answer`] is content. A replica that has met damage does not answer.
async fn read_through(cluster: &TestCluster, node: usize, expected: &Values) {
    let mut connection = RawConnection::greet(cluster.address(node), new_client()).await.expect("the node listens");
    for (key, value) in expected {
        let ends = Instant::now() + WHOLE_DEADLINE;
        loop {
            let answer = connection.call(stale_get(key)).await.expect("the connection lasts");
            match check_answer(key, value.as_ref(), &answer) {
                Ok(()) => break,
                Err(missing) => assert!(Instant::now() < ends, "{missing} at node {node} after {WHOLE_DEADLINE:?}"),
            }
        }
    }
}

/// Asks a node to stop in good order.
fn stop(cluster: &mut TestCluster, node: usize) {
    let process = Pid::from_raw(cluster.process(node).id() as i32).expect("a process has an id");
    kill_process(process, Signal::TERM).expect("the process is a child of ours");
}

/// Stops every node cleanly.
async fn stop_all(cluster: &mut TestCluster) {
    for node in cluster.nodes() {
        stop(cluster, node);
    }
    for node in cluster.nodes() {
        let status = cluster.wait_exit(node, STOP_DEADLINE).await;
        assert!(status.success(), "node {node} stopped with {status}");
    }
}

/// The hints of a node; there must be one of each shard.
fn hints(cluster: &TestCluster, node: usize) -> Vec<PathBuf> {
    let hints = named(&cluster.node_dir(node).join("data/shards"), "hint");
    assert!(hints.len() >= usize::from(cluster.shards()), "node {node} has {} hints after a clean stop", hints.len());
    hints
}

type Values = HashMap<String, Option<String>>;

/// Writes values of every shard; returns them.
async fn write_values(client: &Client, prefix: &str, value_bytes: usize) -> Values {
    let mut expected = Values::new();
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let mut batch = client.batch();
        for number in chunk {
            let (key, filler) = (format!("{prefix}-{number}"), "x".repeat(value_bytes));
            let value = format!("{number}-{filler}");
            batch = batch.put(key.clone(), value.clone());
            expected.insert(key, Some(value));
        }
        let results = batch.await;
        assert!(results.iter().all(Result::is_ok), "a healthy cluster takes every write: {results:?}");
    }
    expected
}

async fn assert_values(client: &Client, expected: &Values) {
    for (key, value) in expected {
        let found = eventually("a quorum answers", WHOLE_DEADLINE, async || {
            client.get(key).deadline(OPERATION_DEADLINE).await.map_err(|error| error.to_string())
        });
        let found = found.await.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        assert!(found == *value, "{key} holds {found:?}");
    }
}

/// Waits until a node holds a voting replica of every group, each of which has applied what was committed when this began.
async fn wait_whole(cluster: &TestCluster, client: &Client, node: usize) {
    let name = format!("node-{node}");
    let mut goal: Option<HashMap<_, u64>> = None;
    eventually("the node is whole", WHOLE_DEADLINE, async || {
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let wanted = usize::from(cluster.shards()) + 1;
        if goal.is_none() {
            let mut committed = HashMap::new();
            let open =
                statuses.iter().flat_map(|status| &status.shards).filter(|shard| shard.role != ShardRole::Missing);
            for shard in open {
                let known = committed.entry(shard.shard).or_insert(0);
                *known = shard.committed.0.max(*known);
            }
            // A node that has just been started may be the only one that answers in time, and hold nothing yet.
            if committed.len() < wanted {
                return Err(format!("{} of {wanted} groups are known", committed.len()));
            }
            goal = Some(committed);
        }
        let status = statuses.iter().find(|status| status.name == name).ok_or("it does not answer")?;
        for (shard, index) in goal.iter().flatten() {
            let held = status.shards.iter().find(|held| held.shard == *shard);
            let held = held.ok_or_else(|| format!("shard {shard} is missing"))?;
            if !matches!(held.role, ShardRole::Follower | ShardRole::Leader) || held.applied.0 < *index {
                return Err(format!("shard {shard} is {:?} and has applied {} of {index}", held.role, held.applied));
            }
        }
        Ok(())
    })
    .await;
}

/// The files with this name in the folders of `folder`.
fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("the folder can be read").path().join(name));
    files.filter(|file| file.exists()).collect()
}

/// Flips a byte of a file, if it has one there that is not zero.
fn flip(file: &Path, at: usize) -> bool {
    let mut bytes = std::fs::read(file).expect("the test may read it");
    let Some(byte) = bytes.get_mut(at).filter(|byte| **byte != 0) else { return false };
    *byte ^= 0x20;
    std::fs::write(file, bytes).expect("the test may write it");
    true
}

fn truncate(file: &Path) {
    let bytes = std::fs::read(file).expect("the test may read it");
    std::fs::write(file, &bytes[..bytes.len() / 2]).expect("the test may write it");
}
