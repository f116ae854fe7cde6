//! A file system that is full to its last byte while clients write: nobody's process ends, nothing acknowledged is lost, and
//! writes work again once there is room. Where mounting is not allowed there is nothing to see, and the test says so.

use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_client::{Client, Outcome, ShardId};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Of all three nodes.
const FILE_SYSTEM_MIB: u32 = 320;
const VALUE_BYTES: usize = 20_000;
/// Writers, each with keys of its own.
const WRITERS: usize = 8;
/// Refusals in a row after which a writer believes that the disk is full.
const REFUSALS: usize = 5;
/// Far more than fits the file system.
const WRITES_MAX: usize = 4_000;
const WRITE_DEADLINE: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_to_the_brim_loses_nothing_and_serves_again_once_there_is_room() {
    let Some(mounted) = Mounted::try_new() else {
        println!("skipped: mounting a file system is not allowed here");
        return;
    };
    let environment = vec![("KVORUM_JOURNAL_FILE_BYTES", (4 << 20).to_string())];
    let options =
        ClusterOptions { environment, within: Some(mounted.path().to_owned()), shards: 4, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    let client = cluster.client().await;
    let ballast = fill(&mounted.path().join("ballast"), 100 << 20);
    let mut acknowledged = write_until_refused(&client, 0).await;
    assert!(acknowledged.len() > 100, "{} writes fit before the disk was full", acknowledged.len());

    // Not even what the nodes keep in reserve for themselves is left.
    let brim = fill(&mounted.path().join("brim"), u64::MAX);
    eventually("every node notices", DEADLINE, async || {
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let full = statuses.iter().filter(|status| status.disk_full).count();
        if full == cluster.nodes().count() { Ok(()) } else { Err(format!("{full} nodes have noticed")) }
    })
    .await;
    acknowledged.extend(write_until_refused(&client, 1).await);
    assert_holds(&client, &acknowledged).await;
    for node in cluster.nodes() {
        assert!(cluster.process(node).is_running(), "node {node} has ended: {}", cluster.log(node).last_line());
    }

    std::fs::remove_file(brim).expect("the test made it");
    std::fs::remove_file(ballast).expect("the test made it");
    // Each replica may need a new segment, twice as large as the one that is full.
    mounted.grow();
    eventually("writes work again", DEADLINE, async || client.put("after", "room").deadline(WRITE_DEADLINE).await)
        .await;
    assert_holds(&client, &acknowledged).await;
    cluster.kill_all();
    cluster.nodes().for_each(|node| cluster.start_node(node));
    cluster.wait_ready().await;
    assert_holds(&cluster.client().await, &acknowledged).await;
}

/// The disk of one node alone is full: it leads no more, and its shards take writes at the others. Once there is room it is given
/// back what it led.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_leaves_a_full_disk_and_comes_back_once_there_is_room() {
    const FULL: usize = 1;
    const LEFT_BYTES: u64 = 8 << 20;
    let environment = vec![("KVORUM_JOURNAL_FILE_BYTES", (4 << 20).to_string())];
    let mut cluster = TestCluster::laid_out(ClusterOptions { environment, ..ClusterOptions::default() });
    let data = cluster.node_dir(FULL).join("data");
    let Some(mounted) = Mounted::try_at(&data) else {
        println!("skipped: mounting a file system is not allowed here");
        return;
    };
    cluster.nodes().for_each(|node| cluster.start_node(node));
    cluster.wait_ready().await;
    let client = cluster.client().await;
    let led = eventually("the node leads", DEADLINE, async || {
        let mut led = led_by(&cluster, &client, FULL).await;
        // What another node should lead is not given back to this one.
        let topology = cluster.settled_topology(&client).await;
        led.retain(|shard| cluster.first_of(&topology, *shard) == FULL);
        if led.is_empty() { Err("it leads nothing that is its own") } else { Ok(led) }
    })
    .await;

    let ballast = fill(&data.join("ballast"), u64::MAX);
    let filled = ballast.metadata().expect("the test made it").len();
    let file = File::options().write(true).open(&ballast);
    file.and_then(|file| file.set_len(filled - LEFT_BYTES)).expect("a file can be made shorter");
    eventually("it leads no more", DEADLINE, async || {
        let led = led_by(&cluster, &client, FULL).await;
        if led.is_empty() { Ok(()) } else { Err(format!("it leads {led:?}")) }
    })
    .await;
    for shard in &led {
        let key = key_in_shard("while it is full", *shard, cluster.shards());
        client.put(key, "taken").deadline(WRITE_DEADLINE).await.expect("another node leads, and has room");
    }

    std::fs::remove_file(ballast).expect("the test made it");
    eventually("it is given back what it led", DEADLINE, async || {
        let now = led_by(&cluster, &client, FULL).await;
        if led.iter().all(|shard| now.contains(shard)) { Ok(()) } else { Err(format!("it leads {now:?}")) }
    })
    .await;
    cluster.kill_all();
    drop(mounted);
}

/// The shards that a node leads.
async fn led_by(cluster: &TestCluster, client: &Client, node: usize) -> Vec<ShardId> {
    let topology = cluster.settled_topology(client).await;
    (0..cluster.shards()).map(ShardId).filter(|shard| cluster.leader_of(&topology, *shard) == node).collect()
}

/// Each writer goes on until it is refused many times in a row; returns what was acknowledged.
async fn write_until_refused(client: &Client, round: usize) -> HashMap<String, String> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            let (mut acknowledged, mut refusals) = (HashMap::new(), 0);
            for number in 0..WRITES_MAX {
                let key = format!("{round}-{writer}-{number}");
                let value = format!("{key}-{}", "x".repeat(VALUE_BYTES));
                match client.put(key.clone(), value.clone()).deadline(WRITE_DEADLINE).await {
                    Ok(_) => {
                        acknowledged.insert(key, value);
                        refusals = 0;
                    }
                    Err(error) => {
                        assert_ne!(error.outcome(), Outcome::Applied, "{error}");
                        refusals += 1;
                    }
                }
                if refusals == REFUSALS {
                    return acknowledged;
                }
            }
            panic!("the disk never became full");
        });
    }
    let mut all = HashMap::new();
    while let Some(acknowledged) = writers.join_next().await {
        all.extend(acknowledged.expect("a writer does not panic"));
    }
    all
}

async fn assert_holds(client: &Client, expected: &HashMap<String, String>) {
    for (key, value) in expected {
        let entry = eventually("the key is read", DEADLINE, async || client.get(key).await).await;
        let entry = entry.unwrap_or_else(|| panic!("{key} was acknowledged and is gone"));
        assert!(entry.value == *value, "{key} holds another value");
    }
}

/// Writes a file of at most `bytes`, or until nothing more fits.
fn fill(path: &Path, bytes: u64) -> PathBuf {
    let mut file = File::create(path).expect("an empty file needs no room");
    let block = vec![0xa5; 64 << 10];
    let mut written = 0;
    // Whole blocks first, then what is left byte by byte, as it were.
    for size in [64 << 10, 4 << 10, 512] {
        while written < bytes && file.write_all(&block[..size]).is_ok() {
            written += size as u64;
        }
    }
    path.to_owned()
}

/// A small file system in memory, gone when this is dropped.
struct Mounted {
    path: PathBuf,
    /// Gone after the file system.
    _folder: Option<TempDir>,
}

impl Mounted {
    fn try_new() -> Option<Self> {
        let folder = TempDir::with_prefix("kvorum-mount-").expect("a temporary folder can be made");
        let mounted = Self::try_at(folder.path())?;
        Some(Self { path: mounted.into_path(), _folder: Some(folder) })
    }

    fn try_at(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder can be made");
        let size = format!("size={FILE_SYSTEM_MIB}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        let path = path.to_owned();
        output.is_ok_and(|output| output.status.success()).then_some(Self { path, _folder: None })
    }

    /// The path alone; it stays mounted.
    fn into_path(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn grow(&self) {
        let size = format!("remount,size={}m", 4 * FILE_SYSTEM_MIB);
        let output = Command::new("mount").args(["-o", &size]).arg(self.path()).output().expect("mount has run before");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        // Nothing else can be done about a failure than to leave it mounted.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}
