//! Nodes in one process, over loopback, with real certificates. Everything waits for events, nothing for time to pass.

use super::*;
use crate::auth::cert::ClusterAuthority;
use bytes::Bytes;
use kvorum_core::ring::decide::KnownOfPeer;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{ClientId, FolderId, LogIndex, ReplicaId, ShardId, Term};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::large_enum_variant, reason = "a few of them live for the length of a test")]
#[derive(Debug, PartialEq)]
enum Event {
    Connected(NodeId),
    Disconnected(NodeId),
    Message(NodeId, PeerMessage),
    TurnedAway(NodeId),
}

struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    /// The data folder that peers must come with; `None` lets all in.
    admits: Option<FolderId>,
}

impl PeerHandler for Recorder {
    fn removed(&self, _: NodeId, _: Removal) {}

    fn was_removed(&self, _: NodeId) -> Option<Removal> {
        None
    }

    fn knows(&self, _: NodeId) -> KnownOfPeer {
        KnownOfPeer::default()
    }
    fn admit(&self, hello: &PeerHello) -> Result<(), AdmitError> {
        if self.admits.is_none_or(|admits| admits == hello.disk) {
            return Ok(());
        }
        let _ = self.events.send(Event::TurnedAway(hello.node));
        Err(AdmitError::Folder("another data folder".to_owned()))
    }
    fn connected(&self, peer: NodeId) {
        let _ = self.events.send(Event::Connected(peer));
    }
    fn disconnected(&self, peer: NodeId) {
        let _ = self.events.send(Event::Disconnected(peer));
    }
    fn message(&self, from: NodeId, message: PeerMessage) {
        if message == panic_order() {
            panic!("ordered by the test");
        }
        let _ = self.events.send(Event::Message(from, message));
    }
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) peers: Peers,
    actor: ActorCell,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Node {
    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the recorder lives")
    }

    async fn connected(&mut self, peer: NodeId) {
        assert_eq!(self.event().await, Event::Connected(peer));
    }

    async fn message(&mut self, from: &Self) -> PeerMessage {
        match self.event().await {
            Event::Message(node, message) if node == from.id => message,
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// Skips events until that peer is connected once more after having been gone.
    async fn reconnected(&mut self, peer: NodeId) {
        while self.event().await != Event::Disconnected(peer) {}
        while self.event().await != Event::Connected(peer) {}
    }

    async fn stop(self) -> SocketAddr {
        self.actor.stop_and_wait(None, None).await.expect("the supervisor stops");
        self.peers.local_address()
    }
}

pub(super) struct Cluster {
    pub(super) id: ClusterId,
    authority: ClusterAuthority,
}

const NOWHERE: &str = "127.0.0.1:9";

impl Cluster {
    pub(super) fn new() -> Self {
        Self { id: ClusterId(Uuid::new_v4()), authority: ClusterAuthority::create().unwrap() }
    }

    pub(super) fn config(&self, node: NodeId, listen: SocketAddr, peers: &[(NodeId, String)]) -> PeerConfig {
        let tls = TlsIdentity::from_pem(&self.authority.issue(self.id, node, &[]).unwrap()).unwrap();
        let peers = peers.iter().map(|(node, address)| PeerAddress { node: *node, address: address.clone() });
        let program = "test".to_owned();
        let client = "127.0.0.1:7400".to_owned();
        PeerConfig {
            node,
            cluster: self.id,
            disk: FolderId(node.0),
            starts: 1,
            client,
            resp: RespAddresses::default(),
            listen,
            peers: peers.collect(),
            seeds: BTreeMap::new(),
            tls,
            levels: Levels::OWN,
            program,
            mtu: None,
        }
    }

    pub(super) async fn node(&self, node: NodeId, peers: &[(NodeId, String)]) -> Node {
        start(self.config(node, "127.0.0.1:0".parse().unwrap(), peers)).await
    }

    /// Two nodes, connected. The first dials.
    async fn pair(&self) -> (Node, Node) {
        let (small, large) = two_ids();
        let mut acceptor = self.node(large, &[(small, NOWHERE.to_owned())]).await;
        let mut dialler = self.node(small, &[(large, acceptor.peers.local_address().to_string())]).await;
        dialler.connected(large).await;
        acceptor.connected(small).await;
        (dialler, acceptor)
    }
}

async fn start(config: PeerConfig) -> Node {
    try_start(config).await.unwrap()
}

async fn try_start(config: PeerConfig) -> Result<Node, PeerError> {
    start_admitting(config, None).await
}

/// A node that lets only peers in that come with one data folder.
async fn start_admitting(config: PeerConfig, admits: Option<FolderId>) -> Result<Node, PeerError> {
    let id = config.node;
    let (sender, events) = mpsc::unbounded_channel();
    let (actor, peers) = Peers::start(config, Arc::new(Recorder { events: sender, admits }), None, None).await?;
    Ok(Node { id, peers, actor, events })
}

/// In order: the first is the one that dials.
fn two_ids() -> (NodeId, NodeId) {
    let (one, other) = (NodeId(Uuid::new_v4()), NodeId(Uuid::new_v4()));
    if one < other { (one, other) } else { (other, one) }
}

fn leading(number: u64) -> PeerMessage {
    PeerMessage::Leading(vec![(ShardId(1), Term(number))])
}

fn panic_order() -> PeerMessage {
    leading(u64::MAX)
}

fn forward(id: u64, bytes: usize) -> PeerMessage {
    PeerMessage::Forward {
        id,
        client: ClientId(Uuid::from_u128(7)),
        term: Term(1),
        in_order: false,
        request: Bytes::from(vec![id as u8; bytes]),
    }
}

fn chunk(bytes: usize) -> PeerMessage {
    let (part, bytes) = (SnapshotPart::Records, Bytes::from(vec![7; bytes]));
    let message = SnapshotMessage {
        from: ReplicaId(1),
        to: ReplicaId(2),
        id: SnapshotId { term: Term(1), index: LogIndex(1), nonce: 1 },
        body: SnapshotBody::Chunk { part, at: 0, count: 1, bytes },
    };
    PeerMessage::Snapshot(ShardId(1), message)
}

/// The message cannot have been overtaken, since it has come.
async fn exchange(a: &mut Node, b: &mut Node, number: u64) {
    a.peers.send(b.id, &leading(number)).unwrap();
    b.peers.send(a.id, &leading(number)).unwrap();
    assert_eq!(b.message(a).await, leading(number));
    assert_eq!(a.message(b).await, leading(number));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_both_ways_on_both_lanes() {
    let (mut a, mut b) = Cluster::new().pair().await;
    assert_eq!((a.peers.up(), b.peers.up()), (vec![b.id], vec![a.id]));
    for _ in 0..2 {
        let (from, to) = (&a.peers, &mut b);
        let batch: Vec<_> = (0..200).flat_map(|number| [leading(number), forward(number, 10_000)]).collect();
        from.send_batch(to.id, &batch[..100]).unwrap();
        for message in &batch[100..] {
            from.send(to.id, message).unwrap();
        }
        let (mut consensus, mut forwards) = (Vec::new(), Vec::new());
        for _ in 0..batch.len() {
            match to.event().await {
                Event::Message(_, message @ PeerMessage::Leading(_)) => consensus.push(message),
                Event::Message(_, message) => forwards.push(message),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(consensus, (0..200).map(leading).collect::<Vec<_>>());
        assert_eq!(forwards, (0..200).map(|number| forward(number, 10_000)).collect::<Vec<_>>());
        std::mem::swap(&mut a, &mut b);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_forward_passes() {
    let (a, mut b) = Cluster::new().pair().await;
    let largest = forward(1, kvorum_protocol::limits::FRAME_BYTES_MAX);
    a.peers.send(b.id, &largest).unwrap();
    assert!(b.message(&a).await == largest, "it came unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_have_a_lane_of_their_own_that_takes_the_largest_chunk() {
    let (a, mut b) = Cluster::new().pair().await;
    let largest = chunk(kvorum_protocol::limits::SNAPSHOT_CHUNK_BYTES_MAX);
    // The first on the last stream: the peer hears of the one before it only by this.
    a.peers.send(b.id, &largest).unwrap();
    a.peers.send(b.id, &forward(1, 10)).unwrap();
    a.peers.send(b.id, &leading(1)).unwrap();
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(b.message(&a).await);
    }
    for message in [&largest, &forward(1, 10), &leading(1)] {
        assert!(came.contains(message), "it came unchanged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_connect_each_with_each() {
    let cluster = Cluster::new();
    let mut ids: Vec<_> = (0..3).map(|_| NodeId(Uuid::new_v4())).collect();
    ids.sort();
    // Each is started after those it has to dial.
    let mut addresses = vec![NOWHERE.to_owned(); 3];
    let mut nodes = Vec::new();
    for number in [2, 1, 0] {
        let others: Vec<_> =
            (0..3).filter(|other| *other != number).map(|other| (ids[other], addresses[other].clone())).collect();
        let node = cluster.node(ids[number], &others).await;
        addresses[number] = node.peers.local_address().to_string();
        nodes.push(node);
    }
    for node in &mut nodes {
        for _ in 0..2 {
            assert!(matches!(node.event().await, Event::Connected(_)));
        }
        assert_eq!(node.peers.up().len(), 2);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_says_why() {
    let (own, peer) = two_ids();
    let node = Cluster::new().node(own, &[(peer, NOWHERE.to_owned())]).await;
    assert_eq!(node.peers.send(peer, &leading(1)), Err(SendError::Disconnected));
    assert_eq!(node.peers.send(NodeId(Uuid::nil()), &leading(1)), Err(SendError::Unknown));
    assert!(!node.peers.is_up(peer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_fills_the_bounded_buffer() {
    /// Takes no message until it is told to.
    struct Stuck(std::sync::Mutex<()>);
    impl PeerHandler for Stuck {
        fn removed(&self, _: NodeId, _: Removal) {}

        fn was_removed(&self, _: NodeId) -> Option<Removal> {
            None
        }

        fn knows(&self, _: NodeId) -> KnownOfPeer {
            KnownOfPeer::default()
        }
        fn admit(&self, _: &PeerHello) -> Result<(), AdmitError> {
            Ok(())
        }
        fn connected(&self, _: NodeId) {}
        fn disconnected(&self, _: NodeId) {}
        fn message(&self, _: NodeId, _: PeerMessage) {
            drop(self.0.lock());
        }
    }
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    let stuck = Arc::new(Stuck(std::sync::Mutex::new(())));
    let config = cluster.config(large, "127.0.0.1:0".parse().unwrap(), &[(small, NOWHERE.to_owned())]);
    let (_actor, acceptor) = Peers::start(config, stuck.clone(), None, None).await.unwrap();
    let mut dialler = cluster.node(small, &[(large, acceptor.local_address().to_string())]).await;
    dialler.connected(large).await;
    let held = stuck.0.lock().unwrap();
    let message = forward(1, 1 << 20);
    // What the lane, QUIC's window and the reader hold together is bounded, so that a loop of that length meets it.
    let bound = limits::FORWARD_OUTBOUND_BYTES_MAX + limits::SEND_WINDOW_BYTES as usize;
    let full = (0..2 * bound / (1 << 20)).find_map(|_| dialler.peers.send(large, &message).err());
    drop(held);
    assert_eq!(full, Some(SendError::Full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_connected_again() {
    let cluster = Cluster::new();
    let (mut dialler, acceptor) = cluster.pair().await;
    let (small, large) = (dialler.id, acceptor.id);

    let address = acceptor.stop().await;
    assert_eq!(dialler.event().await, Event::Disconnected(large));
    assert_eq!(dialler.peers.send(large, &leading(1)), Err(SendError::Disconnected));
    // The socket is free again a moment after the actors are gone.
    let mut acceptor = timeout(PATIENCE, async {
        loop {
            let config = cluster.config(large, address, &[(small, NOWHERE.to_owned())]);
            match try_start(config).await {
                Err(PeerError::Bind { .. }) => tokio::task::yield_now().await,
                started => break started.unwrap(),
            }
        }
    })
    .await
    .expect("the address is free in time");
    dialler.connected(large).await;
    acceptor.connected(small).await;
    exchange(&mut dialler, &mut acceptor, 1).await;

    dialler.stop().await;
    assert_eq!(acceptor.event().await, Event::Disconnected(small));
    let mut dialler = cluster.node(small, &[(large, address.to_string())]).await;
    dialler.connected(large).await;
    acceptor.connected(small).await;
    exchange(&mut dialler, &mut acceptor, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_that_died_without_a_word_is_replaced_by_its_successor() {
    let cluster = Cluster::new();
    let (mut first, mut acceptor) = cluster.pair().await;
    let address = acceptor.peers.local_address().to_string();
    // The first is not told to stop: to the acceptor its successor is a second connection of the same node.
    let tls = cluster.config(first.id, "127.0.0.1:0".parse().unwrap(), &[]).tls;
    let transport = Transport::bind("127.0.0.1:0".parse().unwrap(), &tls, None).unwrap();
    let expected = Identity { cluster: cluster.id, node: acceptor.id };
    let second = transport.dial(address.parse().unwrap(), expected).unwrap().await.unwrap();
    let hello = PeerHello { program: "second".to_owned(), ..first.peers.shared.hello.clone() };
    let said = hello::exchange(&second, &hello, expected, &first.peers.shared.handler)
        .await
        .expect("the successor is welcome");
    assert_eq!(said.program, "test");
    assert_eq!(acceptor.event().await, Event::Disconnected(first.id), "the old one is gone before the new one serves");
    assert_eq!(first.event().await, Event::Disconnected(acceptor.id));
}

/// A machine that was replaced boots again: it has the node's name and certificate, and another data folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_turned_away_does_not_end_the_connection_of_the_one_that_is_let_in() {
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = cluster.config(large, listen, &[(small, NOWHERE.to_owned())]);
    let mut acceptor = start_admitting(config, Some(FolderId(small.0))).await.unwrap();
    let address = acceptor.peers.local_address().to_string();
    let mut dialler = cluster.node(small, &[(large, address.clone())]).await;
    dialler.connected(large).await;
    acceptor.connected(small).await;
    let tls = cluster.config(small, listen, &[]).tls;
    let transport = Transport::bind(listen, &tls, None).unwrap();
    let expected = Identity { cluster: cluster.id, node: large };
    let hello = PeerHello { disk: FolderId(Uuid::new_v4()), ..dialler.peers.shared.hello.clone() };
    // It dials again and again.
    for number in 0..3 {
        let connection = transport.dial(address.parse().unwrap(), expected).unwrap().await.unwrap();
        // What it is told depends on which end reads first.
        let _ = hello::exchange(&connection, &hello, expected, &dialler.peers.shared.handler).await;
        assert_eq!(acceptor.event().await, Event::TurnedAway(small));
        acceptor.peers.send(small, &leading(number)).unwrap();
        assert_eq!(dialler.message(&acceptor).await, leading(number), "the first connection is the one that counts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_loses_everything_and_closes_nothing() {
    let (mut a, mut b) = Cluster::new().pair().await;
    exchange(&mut a, &mut b, 1).await;
    a.peers.cut(true);
    a.peers.send(b.id, &leading(2)).unwrap();
    b.peers.send(a.id, &leading(2)).unwrap();
    b.peers.send(a.id, &forward(2, 10)).unwrap();
    timeout(PATIENCE, async {
        while a.peers.shared.lost_to_cut.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all three reach a and are lost there");
    assert!(a.peers.is_up(b.id) && b.peers.is_up(a.id));
    a.peers.cut(false);
    exchange(&mut a, &mut b, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_connection_and_it_is_made_anew() {
    let (mut a, mut b) = Cluster::new().pair().await;
    // A frame that is whole, and no message; and one that no peer may send on that lane.
    for message in [PeerMessage::Hello(a.peers.shared.hello.clone()), forward(1, 10)] {
        a.peers.shared.slot(b.id).unwrap().outbound(Lane::Consensus).push([&message]).unwrap();
        a.reconnected(b.id).await;
        b.reconnected(a.id).await;
        exchange(&mut a, &mut b, 5).await;
    }
    a.peers.shared.slot(b.id).unwrap().outbound(Lane::Forward).push_bytes(&[0xff; 64]);
    a.reconnected(b.id).await;
    b.reconnected(a.id).await;
    exchange(&mut a, &mut b, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_peer_actor_is_restarted_and_connects_again() {
    let (mut a, mut b) = Cluster::new().pair().await;
    for _ in 0..2 {
        // Once it is the dialling end that fails, once the accepting one.
        a.peers.send(b.id, &panic_order()).unwrap();
        a.reconnected(b.id).await;
        b.reconnected(a.id).await;
        exchange(&mut a, &mut b, 1).await;
        std::mem::swap(&mut a, &mut b);
    }
}

#[tokio::test]
async fn one_failure_too_many_ends_the_supervisor() {
    let peers: Vec<_> = (0..=kvorum_core::health::restart_policy::RESTARTS_MAX)
        .map(|_| (NodeId(Uuid::new_v4()), NOWHERE.to_owned()))
        .collect();
    let node = Cluster::new().node(NodeId(Uuid::new_v4()), &peers).await;
    let children = node.actor.get_children();
    assert_eq!(children.len(), peers.len());
    for child in &children[1..] {
        child.kill_and_wait(None).await.unwrap();
    }
    assert_eq!(node.actor.get_status(), ractor::ActorStatus::Running);
    children[0].kill_and_wait(None).await.unwrap();
    node.actor.wait(Some(PATIENCE)).await.expect("the supervisor ends");
}

/// A node dials `acceptor` as `who`; returns how the acceptor or the TLS of the dialler refused it.
async fn dial(who: &TlsIdentity, acceptor: &Node, expected: Identity) -> String {
    let transport = Transport::bind("127.0.0.1:0".parse().unwrap(), who, None).unwrap();
    let refusal = match transport.dial(acceptor.peers.local_address(), expected).unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    close::describe(&refusal)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_with_the_reason_and_the_others_notice_nothing() {
    let cluster = Cluster::new();
    let (mut a, mut b) = cluster.pair().await;
    let expected = Identity { cluster: cluster.id, node: b.id };
    let identity = |authority: &ClusterAuthority, cluster, node| {
        TlsIdentity::from_pem(&authority.issue(cluster, node, &[]).unwrap()).unwrap()
    };

    let other_cluster = ClusterId(Uuid::new_v4());
    let refusal = dial(&identity(&cluster.authority, other_cluster, a.id), &b, expected).await;
    assert!(refusal.starts_with("closed by the peer: wrong cluster: the certificate is for cluster"), "{refusal}");

    let unknown = NodeId(Uuid::nil());
    let refusal = dial(&identity(&cluster.authority, cluster.id, unknown), &b, expected).await;
    assert!(refusal.starts_with("closed by the peer: unknown node: node 00000000-"), "{refusal}");

    // It knows the right authority's certificate, but its own is signed by another one.
    let other = ClusterAuthority::create().unwrap();
    let mut pem = other.issue(cluster.id, a.id, &[]).unwrap();
    pem.authority_pem = cluster.authority.issue(cluster.id, a.id, &[]).unwrap().authority_pem;
    let refusal = dial(&TlsIdentity::from_pem(&pem).unwrap(), &b, expected).await;
    assert!(refusal.starts_with("the peer refused this node's certificate"), "{refusal}");

    // The other way round: the dialling node refuses the one it has dialled.
    let refusal = dial(&identity(&other, cluster.id, a.id), &b, expected).await;
    assert!(refusal.starts_with("wrong certificate: ") && refusal.contains("UnknownIssuer"), "{refusal}");
    let refusal =
        dial(&identity(&cluster.authority, cluster.id, a.id), &b, Identity { node: unknown, ..expected }).await;
    assert!(refusal.starts_with("wrong certificate: ") && refusal.contains(&b.id.to_string()), "{refusal}");

    exchange(&mut a, &mut b, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_dialled_dials_and_one_connection_stays() {
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    // It moved, and its peer does not know where.
    let mut stays = cluster.node(small, &[(large, NOWHERE.to_owned())]).await;
    let mut moved = cluster.node(large, &[(small, stays.peers.local_address().to_string())]).await;
    stays.connected(large).await;
    moved.connected(small).await;
    exchange(&mut stays, &mut moved, 1).await;

    // Dialled once more by the same process, the first connection stays.
    let hello = moved.peers.shared.hello.clone();
    assert!(stays.peers.shared.slot(large).unwrap().serves(hello.process));
    exchange(&mut moved, &mut stays, 2).await;
}

/// The first packets of that many dials.
async fn first_packets(who: &TlsIdentity, expected: Identity, count: usize) -> Vec<Vec<u8>> {
    let recorder = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = recorder.local_addr().unwrap();
    let mut packets = Vec::new();
    for _ in 0..count {
        let transport = Transport::bind("127.0.0.1:0".parse().unwrap(), who, None).unwrap();
        let connecting = transport.dial(address, expected).unwrap();
        let mut packet = vec![0; 65_536];
        let length = timeout(PATIENCE, recorder.recv(&mut packet)).await.unwrap().unwrap();
        packet.truncate(length);
        packets.push(packet);
        drop(connecting);
    }
    packets
}

/// Packets that were recorded on the way to somebody else fill the door: nobody answers the handshakes that they begin.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_first_packets_do_not_keep_a_peer_out() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (small, large) = two_ids();
    let acceptor = cluster.node(large, &[(small, NOWHERE.to_owned())]).await;
    let stranger = other.config(small, "127.0.0.1:0".parse().unwrap(), &[]).tls;
    let expected = Identity { cluster: other.id, node: large };
    let packets = first_packets(&stranger, expected, 3 * limits::INCOMING_HANDSHAKES_MAX).await;
    let door = acceptor.peers.local_address();
    let mut sockets = Vec::new();
    for _ in &packets {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(door).await.unwrap();
        sockets.push(socket);
    }
    let (filled, mut is_filled) = mpsc::channel(1);
    let attack = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut rounds = tokio::time::interval(Duration::from_millis(100));
        loop {
            rounds.tick().await;
            for (socket, packet) in sockets.iter().zip(&packets) {
                let _ = socket.send(packet).await;
            }
            let _ = filled.try_send(());
        }
    }));
    is_filled.recv().await.unwrap();
    let mut dialler = cluster.node(small, &[(large, door.to_string())]).await;
    dialler.connected(large).await;
    drop(attack);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_of_another_version_is_refused() {
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    let acceptor = cluster.node(large, &[(small, NOWHERE.to_owned())]).await;
    let tls = cluster.config(small, "127.0.0.1:0".parse().unwrap(), &[]).tls;
    let transport = Transport::bind("127.0.0.1:0".parse().unwrap(), &tls, None).unwrap();
    let expected = Identity { cluster: cluster.id, node: large };
    let connection = transport.dial(acceptor.peers.local_address(), expected).unwrap().await.unwrap();
    let old = PeerHello { levels: Levels { min: 0, max: 0 }, node: small, ..acceptor.peers.shared.hello.clone() };
    let _ = hello::exchange(&connection, &old, expected, &acceptor.peers.shared.handler).await;
    let refusal = close::describe(&connection.closed().await);
    assert!(refusal.contains("no common version of the protocol: it speaks level 0"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_whose_levels_meet_talk_and_others_hear_why_not() {
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    let listen = "127.0.0.1:0".parse().unwrap();
    let of_levels =
        |node, peers: &[_], min, max| PeerConfig { levels: Levels { min, max }, ..cluster.config(node, listen, peers) };
    let mut acceptor = start(of_levels(large, &[(small, NOWHERE.to_owned())], 1, 1)).await;
    let to = [(large, acceptor.peers.local_address().to_string())];
    let mut newer = start(of_levels(small, &to, 1, 2)).await;
    newer.connected(large).await;
    acceptor.connected(small).await;
    exchange(&mut newer, &mut acceptor, 1).await;
    newer.stop().await;

    let tls = cluster.config(small, listen, &[]).tls;
    let transport = Transport::bind(listen, &tls, None).unwrap();
    let expected = Identity { cluster: cluster.id, node: large };
    let connection = transport.dial(acceptor.peers.local_address(), expected).unwrap().await.unwrap();
    let levels = Levels { min: 2, max: 2 };
    let newest = PeerHello { levels, node: small, ..acceptor.peers.shared.hello.clone() };
    let Err(refused) = hello::exchange(&connection, &newest, expected, &acceptor.peers.shared.handler).await else {
        panic!("a program of level 2 greets one of level 1");
    };
    let here = "refused the peer: no common version of the protocol: it speaks level 1, this node speaks level 2";
    let there = close::describe(&connection.closed().await);
    let told = "no common version of the protocol: it speaks level 2, this node speaks level 1";
    assert!(refused.to_string() == here || there.contains(told), "{refused}; {there}");
}

/// Passes datagrams between whoever sends to it and one node at a time.
struct Relay {
    address: SocketAddr,
    behind: watch::Sender<SocketAddr>,
}

impl Relay {
    async fn to(behind: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let (behind, target) = watch::channel(behind);
        tokio::spawn(async move {
            let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = front.local_addr().unwrap();
            loop {
                tokio::select! {
                    Ok((bytes, from)) = front.recv_from(&mut there) => {
                        client = from;
                        let node = *target.borrow();
                        let _ = back.send_to(&there[..bytes], node).await;
                    }
                    Ok((bytes, from)) = back.recv_from(&mut here) => {
                        if from == *target.borrow() {
                            let _ = front.send_to(&here[..bytes], client).await;
                        }
                    }
                }
            }
        });
        Self { address, behind }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_acceptor_that_is_back_says_so_with_a_reset() {
    let cluster = Cluster::new();
    let (small, large) = two_ids();
    let pem = cluster.authority.issue(cluster.id, large, &[]).unwrap();
    let config = || PeerConfig {
        tls: TlsIdentity::from_pem(&pem).unwrap(),
        ..cluster.config(large, "127.0.0.1:0".parse().unwrap(), &[(small, NOWHERE.to_owned())])
    };
    let killed = start(config()).await;
    let relay = Relay::to(killed.peers.local_address()).await;
    let mut dialler = cluster.node(small, &[(large, relay.address.to_string())]).await;
    dialler.connected(large).await;

    // Nothing that the first one says on its way out reaches the dialler, as if it had been killed.
    relay.behind.send_replace(NOWHERE.parse().unwrap());
    killed.stop().await;
    let mut back = start(config()).await;
    relay.behind.send_replace(back.peers.local_address());
    let since = Instant::now();
    dialler.peers.send(large, &leading(1)).unwrap();
    assert_eq!(dialler.event().await, Event::Disconnected(large));
    assert!(since.elapsed() < limits::IDLE_TIMEOUT / 2, "by the reset, not by silence: {:?}", since.elapsed());
    dialler.connected(large).await;
    back.connected(small).await;
    exchange(&mut dialler, &mut back, 2).await;
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let cluster = Cluster::new();
    let (own, peer) = two_ids();
    let listen = "127.0.0.1:0".parse().unwrap();
    let attempt = async |config| try_start(config).await.map(drop);
    let (here, twice) = ((own, NOWHERE.to_owned()), (peer, NOWHERE.to_owned()));
    assert!(matches!(attempt(cluster.config(own, listen, &[here])).await, Err(PeerError::ListedTwice(_))));
    assert!(matches!(
        attempt(cluster.config(own, listen, &[twice.clone(), twice])).await,
        Err(PeerError::ListedTwice(_))
    ));
    let foreign = PeerConfig { node: peer, ..cluster.config(own, listen, &[]) };
    assert!(matches!(attempt(foreign).await, Err(PeerError::ForeignCertificate { .. })));
    let taken = std::net::UdpSocket::bind(listen).unwrap();
    let config = cluster.config(own, taken.local_addr().unwrap(), &[]);
    assert!(matches!(attempt(config).await, Err(PeerError::Bind { .. })));
}
