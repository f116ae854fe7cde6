//! A start that fails stops what had begun. Everything waits for events, nothing for time to pass.

use super::meta::auth_keeper;
use super::*;
use crate::auth::cert::{ClusterAuthority, Identity};
use crate::config::Sources;
use crate::folder::Owner;
use crate::runtime::system_clock::SystemClock;
use kvorum_core::auth::AuthTable;
use kvorum_core::auth::keeper::AUTH_COPY;
use kvorum_core::disk::memory::MemoryDisk;
use kvorum_core::disk::{Disk, DiskError, RealDisk};
use kvorum_core::folder::mirrored;

use ractor::registry::where_is;
use ractor::{ActorProcessingErr, ActorRef};
use std::error::Error as _;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of one node, in a folder of its own.
struct Alone {
    /// Goes with this value.
    _folder: TempDir,
    config: Config,
}

impl Alone {
    fn new(peer_listen: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, node, data) = (Uuid::new_v4(), Uuid::new_v4(), folder.path().join("data"));
        let text = format!(
            r#"
            cluster_id = "{cluster}"
            node_id = "{node}"
            data_dir = "{}"
            replication_factor = 1
            client_listen = "127.0.0.1:0"
            peer_listen = "{peer_listen}"
            http_listen = "off"
            resp_listen = "off"
            resp_cluster_listen = "off"
            journal.file_bytes = 8388608
            tls = {{ ca = "ca.pem", certificate = "node.pem", key = "node.key" }}
            [[members]]
            id = "{node}"
            name = "alone"
            client = "127.0.0.1:7400"
            peer = "127.0.0.1:7410"
            "#,
            data.display()
        );
        let file = Some(("kvorum.toml".to_owned(), text));
        Self { _folder: folder, config: Config::parse(&Sources { file, ..Sources::default() }).unwrap() }
    }

    fn data(&self) -> &Path {
        &self.config.data_dir
    }

    /// The name of one of the node's actors.
    fn actor(&self, part: &str) -> String {
        format!("node/{}/{part}", self.config.node_id)
    }

    fn data_folder(&self) -> DataFolder {
        let Config { cluster_id: cluster, node_id: node, shards, durability, .. } = self.config;
        DataFolder::open(self.data(), Owner { cluster, node, shards, durability }, "a boot").unwrap()
    }

    /// Runs the node in its folder until it ends, which it must do by itself.
    async fn run(&self, folder: DataFolder) -> NodeError {
        let (cluster, node) = (self.config.cluster_id, self.config.node_id);
        let issued = ClusterAuthority::create().unwrap().issue(cluster, node, &[]).unwrap();
        let certificates = NodeCertificates::of(issued, Identity { cluster, node });
        let running = run(self.config.clone(), certificates, folder, Arc::default(), CancellationToken::new());
        let ended = timeout(PATIENCE, running).await.expect("the start fails at once");
        ended.expect_err("the node does not start")
    }

    /// Waits until none of these actors is there.
    async fn ended(&self, parts: &[&str]) {
        let gone = async {
            while parts.iter().any(|part| where_is(self.actor(part)).is_some()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the parts end");
    }

    /// Whether the folder is free for another process: nothing that began holds on to its disk.
    fn assert_disk_is_free(&self) {
        RealDisk::open(self.data()).map(drop).unwrap();
    }
}

/// Bears a name, so that no other actor can.
struct Namesake;

impl Actor for Namesake {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test]
async fn a_start_that_fails_stops_the_parts_before() {
    const PARTS: [&str; 4] = ["control", "peers", "shards", "meta"];
    for (at, part) in PARTS.iter().enumerate() {
        let node = Alone::new("127.0.0.1:0");
        let (namesake, _) = Actor::spawn(Some(node.actor(part)), Namesake, ()).await.unwrap();
        let reason = node.run(node.data_folder()).await;
        assert!(matches!(reason, NodeError::Spawn(_) | NodeError::Peers(_)), "{part}: {reason}");
        if *part == "meta" {
            assert!(where_is(node.actor("shards")).is_none(), "the shards are waited for");
        }
        node.ended(&PARTS[..at]).await;
        namesake.stop_and_wait(None, None).await.unwrap();
        node.ended(&PARTS).await;
    }
}

#[tokio::test]
async fn a_start_without_a_network_lets_go_of_the_disk() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let node = Alone::new(&taken.local_addr().unwrap().to_string());
    assert!(matches!(node.run(node.data_folder()).await, NodeError::Peers(_)));
    node.ended(&["control"]).await;
    node.assert_disk_is_free();
}

#[tokio::test]
async fn an_error_of_the_disk_keeps_its_source() {
    let node = Alone::new("127.0.0.1:0");
    let folder = node.data_folder();
    let other = RealDisk::open(node.data()).unwrap();
    let reason = node.run(folder).await;
    let source = reason.source().and_then(|source| source.downcast_ref::<DiskError>());
    assert!(matches!(source, Some(DiskError::Locked { .. })), "{reason:?}");
    drop(other);
}

#[tokio::test]
async fn the_file_of_the_first_password_is_needed_by_a_node_that_has_seen_no_table_only() {
    let mut node = Alone::new("127.0.0.1:0");
    node.config.auth.bootstrap_password_file = Some(node.data().join("there is none"));
    let router = Router::new(node.config.node_id, initial_ring(&node.config).unwrap(), Arc::new(SystemClock), 1);
    let disk: Arc<dyn Disk> = MemoryDisk::new();
    let refused = auth_keeper(&node.config, &router, &disk).err();
    assert!(matches!(refused, Some(NodeError::BootstrapPassword(_))), "{refused:?}");
    mirrored::write(&*disk, AUTH_COPY, &AuthTable { epoch: 7, ..AuthTable::initial(None) }.to_copy()).unwrap();
    auth_keeper(&node.config, &router, &disk).map(drop).expect("the table counts");
    assert_eq!(router.auth().table().epoch, 7);
}
