//! Process groups are global to a process, so the control plane of several nodes needs several: a test that wants other
//! nodes starts this test binary again, with the same test and a variable that says which node to be.

use super::*;
use crate::auth::cert::{ClusterAuthority, NodeCertificate, TlsIdentity};
use crate::peers::{PeerAddress, PeerConfig, PeerHandler, Peers, Removal};
use crate::runtime::issuing::IssueRequest;
use kvorum_core::ring::decide::KnownOfPeer;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::routing::network::PeerNetwork as _;
use kvorum_core::routing::peer_desk::AdmitError;
use kvorum_protocol::peer::{Levels, PeerMessage};
use kvorum_protocol::{AuthVerb, FolderId};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);
const CHILD: &str = "KVORUM_TEST_CONTROL_NODE";
const TEST: &str = "runtime::control::tests::three_processes_see_and_ask_each_other_through_deaths_and_cuts";
const ANY_PORT: &str = "127.0.0.1:0";
const SHARD: ShardId = ShardId(3);
const UNKNOWN_SHARD: ShardId = ShardId(9);

/// Answers with its name, and refuses to transfer one of the shards.
struct Handler {
    node: NodeId,
    transfers: AtomicUsize,
}

impl Handler {
    fn new(node: NodeId) -> Arc<Self> {
        Arc::new(Self { node, transfers: AtomicUsize::new(0) })
    }
}

impl AdminHandler for Handler {
    fn status(&self) -> Vec<u8> {
        status_of(self.node, self.transfers.load(Ordering::Relaxed))
    }

    fn node_figures(&self) -> Option<Vec<u8>> {
        None
    }

    fn cache_figures(&self) -> Vec<u8> {
        self.node.0.as_bytes().to_vec()
    }

    fn transfer_leadership(&self, shard: ShardId, to: NodeId) -> Result<(), String> {
        if shard == UNKNOWN_SHARD {
            return Err(format!("does not lead shard {shard}, to be led by {to}"));
        }
        assert_ne!(shard, ShardId::META, "ordered by the test");
        self.transfers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn plan(self: Arc<Self>, _verb: Option<Verb>) -> KeeperAnswer {
        Box::pin(async { VerbAnswer::Done(b"the plan".to_vec()) })
    }

    fn change_auth(self: Arc<Self>, _verb: AuthVerb) -> KeeperAnswer {
        Box::pin(async { VerbAnswer::Refused("there is no such user".to_owned()) })
    }

    fn ask(self: Arc<Self>, verb: Verb) -> KeeperAnswer {
        let answer = match verb {
            Verb::Keep(_) => VerbAnswer::Done(Vec::new()),
            _ => VerbAnswer::Refused("it is the last one".to_owned()),
        };
        Box::pin(async { answer })
    }

    fn issue(self: Arc<Self>, _asked: Option<IssueRequest>) -> KeeperAnswer {
        Box::pin(async { VerbAnswer::Refused("no issuer".to_owned()) })
    }
}

fn status_of(node: NodeId, transfers: usize) -> Vec<u8> {
    format!("{node} has transferred {transfers}").into_bytes()
}

impl PeerHandler for Handler {
    fn removed(&self, _: NodeId, _: Removal) {}

    fn was_removed(&self, _: NodeId) -> Option<Removal> {
        None
    }

    fn knows(&self, _: NodeId) -> KnownOfPeer {
        KnownOfPeer::default()
    }
    fn admit(&self, _: &kvorum_protocol::peer::PeerHello) -> Result<(), AdmitError> {
        Ok(())
    }
    fn connected(&self, _: NodeId) {}
    fn disconnected(&self, _: NodeId) {}
    fn message(&self, _: NodeId, _: PeerMessage) {}
}

struct Node {
    peers: Peers,
    control: Control,
    admin: Arc<Handler>,
}

async fn node(cluster: ClusterId, node: NodeId, listen: &str, tls: TlsIdentity, peers: Vec<PeerAddress>) -> Node {
    let admin = Handler::new(node);
    let (_, control) = Control::start(cluster, node, admin.clone(), None).await.unwrap();
    let listen = listen.parse().unwrap();
    let (client, program) = (String::new(), "test".to_owned());
    let config = PeerConfig {
        node,
        cluster,
        disk: FolderId(node.0),
        starts: 1,
        client,
        resp: kvorum_protocol::peer::RespAddresses::default(),
        listen,
        peers,
        seeds: BTreeMap::new(),
        tls,
        levels: Levels::OWN,
        program,
        mtu: None,
    };
    let (_, peers) = Peers::start(config, admin.clone(), Some(control.session_host()), None).await.unwrap();
    Node { peers, control, admin }
}

/// Polls, because ractor tells of groups only to actors.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let polled = async {
        let mut interval = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            interval.tick().await;
        }
    };
    timeout(PATIENCE, polled).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn a_lonely_node_sees_itself_and_restarts_its_admin_actor_in_all_groups() {
    let (cluster, node) = (ClusterId(Uuid::new_v4()), NodeId(Uuid::new_v4()));
    let (actor, control) = Control::start(cluster, node, Handler::new(node), None).await.unwrap();
    control.join_shard(SHARD);
    assert_eq!((control.present(), control.shard_members(SHARD)), (vec![node], vec![node]));
    assert_eq!(control.status_of(node, PATIENCE).await, Ok(status_of(node, 0)));
    control.transfer_leadership(node, SHARD, node).await.unwrap();
    assert_eq!(control.statuses(PATIENCE).await, vec![(node, Ok(status_of(node, 1)))]);
    let refused = control.transfer_leadership(node, UNKNOWN_SHARD, node).await;
    assert!(matches!(refused, Err(ControlError::Refused { reason, .. }) if reason.contains("does not lead shard 9")));

    let panicked = control.transfer_leadership(node, ShardId::META, node).await;
    assert_eq!(panicked, Err(ControlError::Lost(node)));
    until("the admin actor is back", || control.shard_members(SHARD) == vec![node]).await;
    assert_eq!(control.status_of(node, PATIENCE).await, Ok(status_of(node, 1)));

    control.leave_shard(SHARD);
    assert_eq!(control.shard_members(SHARD), vec![]);
    actor.stop_and_wait(None, None).await.unwrap();
    until("it has left", || control.present().is_empty()).await;
    assert_eq!(control.status_of(node, PATIENCE).await, Err(ControlError::NotPresent(node)));
}

#[tokio::test]
async fn the_tcp_port_of_the_node_server_lets_nobody_in() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let client = tokio::spawn(connector.connect("localhost".try_into().unwrap(), client));
    let (accepted, _) = listener.accept().await.unwrap();
    let error = supervisor::closed_door().unwrap().accept(accepted).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "not for want of a proper client: {error}");
    assert!(client.await.unwrap().is_err());
}

struct OtherProcess {
    id: NodeId,
    process: Child,
    _lines: BufReader<ChildStdout>,
    address: String,
}

impl OtherProcess {
    /// Starts a node in a process of its own. It ends with this one, at the latest when its input does.
    async fn start(cluster: ClusterId, id: NodeId, listen: &str, directory: &Path, peers: &[PeerAddress]) -> Self {
        let peers: Vec<_> = peers.iter().map(|peer| format!("{}={}", peer.node, peer.address)).collect();
        let role = format!("{cluster} {id} {listen} {} {}", directory.display(), peers.join(" "));
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(CHILD, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            let read = timeout(PATIENCE, lines.read_line(&mut line)).await.expect("an address in time").unwrap();
            assert!(read > 0, "the other process ended early");
            if let Some((_, address)) = line.trim_end().split_once("listens at ") {
                break address.to_owned();
            }
        };
        Self { id, process, _lines: lines, address }
    }

    fn at(&self) -> PeerAddress {
        PeerAddress { node: self.id, address: self.address.clone() }
    }
}

/// What such a process does.
async fn be_the_other_process(role: &str) {
    let mut words = role.split(' ');
    let mut word = || words.next().unwrap();
    let (cluster, id) = (ClusterId(word().parse().unwrap()), NodeId(word().parse().unwrap()));
    let (listen, directory) = (word(), word());
    let tls = TlsIdentity::load(Path::new(directory)).unwrap();
    let peers = words.map(|peer| {
        let (node, address) = peer.split_once('=').unwrap();
        PeerAddress { node: NodeId(node.parse().unwrap()), address: address.to_owned() }
    });
    let node = node(cluster, id, listen, tls, peers.collect()).await;
    node.control.join_shard(SHARD);
    println!("\nlistens at {}", node.peers.local_address());
    std::io::stdout().flush().unwrap();
    tokio::io::stdin().read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_see_and_ask_each_other_through_deaths_and_cuts() {
    if let Ok(role) = std::env::var(CHILD) {
        return be_the_other_process(&role).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cluster, authority) = (ClusterId(Uuid::new_v4()), ClusterAuthority::create().unwrap());
    let mut ids: Vec<_> = (0..3).map(|_| NodeId(Uuid::new_v4())).collect();
    ids.sort();
    let path = |id: NodeId| directory.path().join(id.to_string());
    let issue = |id: NodeId| -> NodeCertificate { authority.issue(cluster, id, &[]).unwrap() };
    ids.iter().for_each(|id| issue(*id).write(&path(*id)).unwrap());
    let later = |id: NodeId| PeerAddress { node: id, address: "127.0.0.1:9".to_owned() };

    let last = OtherProcess::start(cluster, ids[2], ANY_PORT, &path(ids[2]), &[later(ids[0]), later(ids[1])]).await;
    let mut middle = OtherProcess::start(cluster, ids[1], ANY_PORT, &path(ids[1]), &[later(ids[0]), last.at()]).await;
    let own_tls = TlsIdentity::load(&path(ids[0])).unwrap();
    let own = node(cluster, ids[0], ANY_PORT, own_tls, vec![middle.at(), last.at()]).await;

    let control = &own.control;
    until("all three present", || control.present() == ids).await;
    until("the shard's groups are known", || control.shard_members(SHARD) == ids[1..]).await;
    control.transfer_leadership(last.id, SHARD, ids[0]).await.unwrap();
    let refused = control.transfer_leadership(middle.id, UNKNOWN_SHARD, ids[0]).await;
    assert!(matches!(refused, Err(ControlError::Refused { node, .. }) if node == middle.id));
    let statuses: Vec<_> = (0..3).map(|number| (ids[number], Ok(status_of(ids[number], number / 2)))).collect();
    assert_eq!(control.statuses(PATIENCE).await, statuses);
    let figures: Vec<_> = ids.iter().map(|id| (*id, Ok(id.0.as_bytes().to_vec()))).collect();
    assert_eq!(control.cache_figures(PATIENCE).await, figures);
    assert_eq!(own.admin.transfers.load(Ordering::Relaxed), 0);

    middle.process.kill().await.unwrap();
    until("the killed one is gone", || {
        control.present() == [ids[0], ids[2]] && control.shard_members(SHARD) == [ids[2]]
    })
    .await;
    assert_eq!(control.status_of(middle.id, PATIENCE).await, Err(ControlError::NotPresent(middle.id)));
    let again = OtherProcess::start(cluster, ids[1], &middle.address, &path(ids[1]), &[later(ids[0]), last.at()]).await;
    until("it is back", || control.present() == ids && control.shard_members(SHARD) == ids[1..]).await;
    assert_eq!(control.status_of(again.id, PATIENCE).await, Ok(status_of(again.id, 0)));

    // A cut ends the session though not the connection, and healing brings it back.
    own.peers.cut(true);
    until("alone while cut", || control.present() == [ids[0]]).await;
    assert!(own.peers.is_up(last.id));
    own.peers.cut(false);
    until("healed", || control.present() == ids).await;
    assert_eq!(control.status_of(last.id, PATIENCE).await, Ok(status_of(last.id, 1)));
}
