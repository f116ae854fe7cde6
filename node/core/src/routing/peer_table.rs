//! What the peers have said of themselves and of this node. In memory only: each connection begins with it anew.

use crate::clock::Nanos;
use crate::health::fitness::{Reasons, Unfit};
use crate::ring::RingMap;
use crate::ring::decide::{DiskOfNode, KnownOfPeer, Presence};
use crate::ring::sealing::KeysOfNode;
use kvorum_protocol::peer::{Levels, PeerHello, RespAddresses};
use kvorum_protocol::report::{NodeReport, ShardLoad};
use kvorum_protocol::{FolderId, NodeId, ReplicaId, ShardId};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};

/// A report is believed for this long. It is sent again each second.
const REPORT_HOLDS_MS: u64 = 3_000;

/// What a connected peer has said of the ring map that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapOfPeer {
    /// Since when it has been connected.
    pub connected_at: Nanos,
    /// The epoch of the map that it had when it last reported, 0 for none; `None` if it has not reported on this connection. It has
    /// that map, or a later one, for as long as it is connected.
    pub epoch: Option<u64>,
}

/// The peers that have said hello since the process began. Bounded by the configuration, which lists them.
#[derive(Debug, Default)]
pub struct PeerTable {
    peers: RwLock<BTreeMap<NodeId, Peer>>,
    /// Who has said that this node was removed.
    removed_by: RwLock<BTreeSet<NodeId>>,
    /// Somebody has said that an operator has given this node up.
    given_up: RwLock<bool>,
}

#[derive(Debug)]
struct Peer {
    folder: FolderId,
    remembered: Option<FolderId>,
    knows: KnownOfPeer,
    levels: Levels,
    client: String,
    resp: RespAddresses,
    connected_at: Option<Nanos>,
    report: NodeReport,
    reported_at: Nanos,
    /// See [`MapOfPeer::epoch`].
    map_epoch: Option<u64>,
    /// Why it should not lead; `None` until this connection has said so.
    unfit: Option<Reasons>,
    /// It was about to stop when it last spoke, be it on an earlier connection.
    stops: bool,
    /// What it has said of its keys on this connection: see [`PeerMessage::DataKeys`](kvorum_protocol::peer::PeerMessage::DataKeys).
    data_keys: Option<KeysOfNode>,
}

impl PeerTable {
    /// A peer has said hello. It had the folder `remembered` when this node first met it.
    pub fn met(&self, hello: &PeerHello, remembered: Option<FolderId>) {
        let news = Peer {
            folder: hello.disk,
            remembered,
            knows: KnownOfPeer { folder: hello.knows, replaced: hello.replaced },
            levels: hello.levels,
            client: hello.client.clone(),
            resp: hello.resp.clone(),
            connected_at: None,
            report: NodeReport::default(),
            reported_at: Nanos(0),
            map_epoch: None,
            unfit: None,
            stops: false,
            data_keys: None,
        };
        self.peers.write().insert(hello.node, news);
    }

    /// A peer can be sent to.
    pub fn connected(&self, peer: NodeId, now: Nanos) {
        if let Some(known) = self.peers.write().get_mut(&peer) {
            known.connected_at = Some(now);
        }
    }

    /// A peer can't be sent to any more. What it said of this node stays true.
    pub fn disconnected(&self, peer: NodeId) {
        if let Some(known) = self.peers.write().get_mut(&peer) {
            known.connected_at = None;
            known.report = NodeReport::default();
            known.map_epoch = None;
            known.unfit = None;
            known.data_keys = None;
        }
    }

    /// Whether a peer can be sent to.
    pub fn is_connected(&self, peer: NodeId) -> bool {
        self.peers.read().get(&peer).is_some_and(|known| known.connected_at.is_some())
    }

    /// Whether a peer came with another data folder than it should: it may have forgotten its votes, and its consensus
    /// messages must not be counted.
    pub fn is_stranger(&self, ring: &RingMap, peer: NodeId) -> bool {
        let peers = self.peers.read();
        let Some(known) = peers.get(&peer) else { return false };
        known.presence(Nanos(0)).is_stranger(ring, peer)
    }

    /// What each peer knows of this node.
    pub fn answers(&self) -> BTreeMap<NodeId, KnownOfPeer> {
        self.peers.read().iter().map(|(peer, known)| (*peer, known.knows)).collect()
    }

    /// The peers that are connected.
    pub fn presences(&self, now: Nanos) -> BTreeMap<NodeId, Presence> {
        let peers = self.peers.read();
        let connected = peers.iter().filter(|(_, known)| known.connected_at.is_some());
        connected.map(|(peer, known)| (*peer, known.presence(now))).collect()
    }

    /// What the peers that are connected have said of the ring maps that they have.
    pub fn maps(&self) -> BTreeMap<NodeId, MapOfPeer> {
        let peers = self.peers.read();
        let map = |(peer, known): (&NodeId, &Peer)| {
            Some((*peer, MapOfPeer { connected_at: known.connected_at?, epoch: known.map_epoch }))
        };
        peers.iter().filter_map(map).collect()
    }

    /// A peer says how far it is with data keys.
    pub fn note_data_keys(&self, peer: NodeId, keys: KeysOfNode) {
        if let Some(known) = self.peers.write().get_mut(&peer) {
            known.data_keys = Some(keys);
        }
    }

    /// How far peers are with data keys.
    pub fn data_keys(&self) -> BTreeMap<NodeId, KeysOfNode> {
        self.peers.read().iter().filter_map(|(peer, known)| Some((*peer, known.data_keys?))).collect()
    }

    /// A peer says why it should not lead.
    pub fn note_unfit(&self, peer: NodeId, reasons: Reasons) {
        if let Some(known) = self.peers.write().get_mut(&peer) {
            known.unfit = Some(reasons);
            known.stops = reasons.contains(Unfit::Stopping);
        }
    }

    /// Whether a peer may be handed leadership: it is connected, no stranger, and has said on this connection that nothing
    /// speaks against it.
    pub fn is_fit(&self, ring: &RingMap, peer: NodeId) -> bool {
        let peers = self.peers.read();
        let Some(known) = peers.get(&peer) else { return false };
        known.connected_at.is_some()
            && known.unfit.is_some_and(Reasons::is_empty)
            && !known.presence(Nanos(0)).is_stranger(ring, peer)
    }

    /// Whether a peer has said last that it is about to stop.
    pub fn is_stopping(&self, peer: NodeId) -> bool {
        self.peers.read().get(&peer).is_some_and(|known| known.stops)
    }

    /// The peers that have said last that they are about to stop.
    pub fn stopping(&self) -> BTreeSet<NodeId> {
        self.peers.read().iter().filter(|(_, known)| known.stops).map(|(peer, _)| *peer).collect()
    }

    /// Where clients reach the peers that are connected and are no strangers, as they say.
    pub fn clients(&self, ring: &RingMap) -> BTreeMap<NodeId, String> {
        let peers = self.peers.read();
        let known = peers.iter().filter(|(peer, known)| {
            known.connected_at.is_some() && !known.presence(Nanos(0)).is_stranger(ring, **peer)
        });
        known.map(|(peer, known)| (*peer, known.client.clone())).collect()
    }

    /// Where a peer speaks RESP, as it has said last, be it on an earlier connection.
    pub fn resp(&self, peer: NodeId) -> Option<RespAddresses> {
        self.peers.read().get(&peer).map(|known| known.resp.clone())
    }

    /// Where the peers that are connected and are no strangers wait for their peers, as they say.
    pub fn peer_addresses(&self, ring: &RingMap, now: Nanos) -> BTreeMap<NodeId, String> {
        let peers = self.peers.read();
        let known = peers
            .iter()
            .filter(|(peer, known)| known.report_holds(now) && !known.presence(Nanos(0)).is_stranger(ring, **peer));
        known.map(|(peer, known)| (*peer, known.report.peer_address.clone())).collect()
    }

    /// A peer says that this node was removed from the cluster.
    pub fn note_said_removed(&self, by: NodeId) {
        self.removed_by.write().insert(by);
    }

    /// Whether a majority of the nodes that hold the ring map's group, as far as this node knows, have said that it was removed. One
    /// that is broken is not believed.
    pub fn is_removed(&self, ring: &RingMap) -> bool {
        let removed_by = self.removed_by.read();
        let (said, all) = ring
            .holders(ShardId::META)
            .fold((0, 0), |(said, all), node| (said + usize::from(removed_by.contains(&node)), all + 1));
        said > all / 2
    }

    /// A peer says that the cluster was recovered from a loss, and that an operator has given this node up. One is enough: there may be
    /// no other.
    pub fn note_given_up(&self) {
        *self.given_up.write() = true;
    }

    /// Whether somebody has said that an operator has given this node up.
    pub fn is_given_up(&self) -> bool {
        *self.given_up.read()
    }

    /// A peer reports of itself.
    pub fn note_report(&self, peer: NodeId, report: NodeReport, now: Nanos) {
        if let Some(known) = self.peers.write().get_mut(&peer) {
            known.map_epoch = Some(report.epoch);
            (known.report, known.reported_at) = (report, now);
        }
    }

    /// The peers' replicas that can't be used, by the reports that still hold.
    pub fn faulty(&self, now: Nanos) -> BTreeSet<(NodeId, ShardId, ReplicaId)> {
        let peers = self.peers.read();
        let reports = peers.iter().filter(|(_, known)| known.report_holds(now));
        let replicas = |(peer, known): (&NodeId, &Peer)| -> Vec<(NodeId, ShardId, ReplicaId)> {
            known.report.faulty.iter().map(|(shard, replica)| (*peer, *shard, *replica)).collect()
        };
        reports.flat_map(replicas).collect()
    }

    /// What the peers have of their disks and hold on them, by the reports that still hold.
    pub fn disks(&self, now: Nanos) -> BTreeMap<NodeId, DiskOfNode> {
        let peers = self.peers.read();
        let reports = peers.iter().filter(|(_, known)| known.report_holds(now));
        let disk = |(peer, known): (&NodeId, &Peer)| {
            Some((*peer, DiskOfNode { room: known.report.disk?, held_bytes: known.report.held_bytes }))
        };
        reports.filter_map(disk).collect()
    }

    /// What shards cost the peers that lead them, by the reports that still hold. Of two that both say they lead, who has begun
    /// later does.
    pub fn loads(&self, ring: &RingMap, now: Nanos) -> BTreeMap<ShardId, ShardLoad> {
        let peers = self.peers.read();
        let mut loads: BTreeMap<ShardId, ShardLoad> = BTreeMap::new();
        for (peer, known) in peers.iter().filter(|(_, known)| known.report_holds(now)) {
            for load in known.report.loads.iter().filter(|load| ring.replica_on(load.shard, *peer).is_some()) {
                let known = loads.entry(load.shard).or_insert(*load);
                if load.led_ms < known.led_ms {
                    *known = *load;
                }
            }
        }
        loads
    }

    /// How far the replicas are that come to peers by moves, by the reports that still hold; see [`NodeReport::coming`].
    pub fn coming(&self, now: Nanos) -> BTreeMap<(ShardId, NodeId), u64> {
        let peers = self.peers.read();
        let reports = peers.iter().filter(|(_, known)| known.report_holds(now));
        let coming = |(peer, known): (&NodeId, &Peer)| {
            let coming = known.report.coming.iter().flatten();
            coming.map(|(shard, number)| ((*shard, *peer), *number)).collect::<Vec<_>>()
        };
        reports.flat_map(coming).collect()
    }

    /// How many of the peers are connected with each node, by the reports that still hold; and how many such reports there are.
    pub fn heard(&self, now: Nanos) -> (BTreeMap<NodeId, usize>, usize) {
        let peers = self.peers.read();
        let reports = || peers.values().filter(|known| known.connected_at.is_some() && known.report_holds(now));
        let mut heard = BTreeMap::new();
        reports().flat_map(|known| &known.report.hears).for_each(|node| *heard.entry(*node).or_default() += 1);
        (heard, reports().count())
    }

    /// The groups that have followed a change of the map to its end, by the reports of their leaders that still hold, with the
    /// epoch of the change. Who holds no replica of a group, or is a stranger, can't lead it.
    pub fn settled(&self, ring: &RingMap, now: Nanos) -> BTreeSet<(ShardId, u64)> {
        let peers = self.peers.read();
        let reports = peers
            .iter()
            .filter(|(peer, known)| known.report_holds(now) && !known.presence(Nanos(0)).is_stranger(ring, **peer));
        let groups = |(peer, known): (&NodeId, &Peer)| -> Vec<(ShardId, u64)> {
            let held = known.report.settled.iter().filter(|(shard, _)| ring.replica_on(*shard, *peer).is_some());
            held.copied().collect()
        };
        reports.flat_map(groups).collect()
    }
}

impl Peer {
    fn report_holds(&self, now: Nanos) -> bool {
        self.reported_at != Nanos(0) && now.ms_since(self.reported_at) <= REPORT_HOLDS_MS
    }

    fn presence(&self, now: Nanos) -> Presence {
        let connected_ms = self.connected_at.map_or(0, |since| now.ms_since(since));
        Presence { folder: self.folder, remembered: self.remembered, connected_ms, levels: self.levels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingNode;
    use kvorum_protocol::{ClusterId, Durability};
    use uuid::Uuid;

    fn ring() -> RingMap {
        let node = |number: u128| RingNode::new(Uuid::from_u128(number), format!("node-{number}"));
        let nodes = (1..=3).map(node).collect();
        RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes, 4, 3).unwrap()
    }

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn folder(number: u128) -> FolderId {
        FolderId(Uuid::from_u128(1_000 + number))
    }

    fn hello(number: u128, folder: FolderId, knows: Option<FolderId>) -> PeerHello {
        PeerHello {
            levels: Levels::OWN,
            cluster: ClusterId(Uuid::from_u128(9)),
            node: node(number),
            disk: folder,
            starts: 1,
            process: 1,
            knows,
            replaced: false,
            client: format!("node-{number}.example:7400"),
            resp: RespAddresses::default(),
            program: String::new(),
            more: bytes::Bytes::new(),
        }
    }

    #[test]
    fn addresses_are_those_of_connected_peers_that_count() {
        let table = PeerTable::default();
        table.met(&hello(2, folder(2), None), Some(folder(2)));
        assert_eq!(table.clients(&ring()), BTreeMap::new(), "it can't be sent to yet");
        table.connected(node(2), Nanos(0));
        assert_eq!(table.clients(&ring()), [(node(2), "node-2.example:7400".to_owned())].into());
        table.met(&hello(2, folder(22), None), Some(folder(2)));
        table.connected(node(2), Nanos(0));
        assert_eq!(table.clients(&ring()), BTreeMap::new(), "a stranger has no say in it");
    }

    #[test]
    fn a_stranger_is_known_once_the_map_names_its_folder() {
        let table = PeerTable::default();
        assert!(!table.is_stranger(&ring(), node(2)), "nothing is known of it");
        table.met(&hello(2, folder(2), None), Some(folder(2)));
        assert!(!table.is_stranger(&ring(), node(2)));
        table.met(&hello(2, folder(22), None), Some(folder(2)));
        assert!(table.is_stranger(&ring(), node(2)), "it had another folder when it was first met");
        let replaced = ring().replace_node(node(2), folder(22)).unwrap();
        assert!(!table.is_stranger(&replaced, node(2)), "what the map says counts, not what is remembered");
        table.met(&hello(2, folder(2), None), Some(folder(2)));
        assert!(table.is_stranger(&replaced, node(2)), "the old folder is back");
    }

    #[test]
    fn only_a_connected_peer_that_has_said_so_is_fit_to_lead() {
        let (table, ring) = (PeerTable::default(), ring());
        table.met(&hello(2, folder(2), None), Some(folder(2)));
        table.note_unfit(node(2), Reasons(0));
        assert!(!table.is_fit(&ring, node(2)), "it can't be sent to yet");
        table.connected(node(2), Nanos(1));
        assert!(table.is_fit(&ring, node(2)));
        table.note_unfit(node(2), Reasons(1));
        assert!(!table.is_fit(&ring, node(2)));
        table.note_unfit(node(2), Reasons(0));
        table.disconnected(node(2));
        table.connected(node(2), Nanos(2));
        assert!(!table.is_fit(&ring, node(2)), "what it said on an earlier connection is past");
        table.met(&hello(2, folder(22), None), Some(folder(2)));
        table.connected(node(2), Nanos(3));
        table.note_unfit(node(2), Reasons(0));
        assert!(!table.is_fit(&ring, node(2)), "a stranger");
        assert!(!table.is_fit(&ring, node(3)), "nobody has met it");
    }

    #[test]
    fn the_map_of_a_peer_is_known_for_as_long_as_it_is_connected() {
        let table = PeerTable::default();
        table.met(&hello(2, folder(2), None), Some(folder(2)));
        assert!(table.maps().is_empty(), "it can't be sent to yet");
        table.connected(node(2), Nanos(5));
        let known = |connected_at, epoch| [(node(2), MapOfPeer { connected_at, epoch })].into();
        assert_eq!(table.maps(), known(Nanos(5), None));
        table.note_report(node(2), NodeReport { epoch: 7, ..NodeReport::default() }, Nanos(6));
        assert_eq!(table.maps(), known(Nanos(5), Some(7)));
        table.disconnected(node(2));
        assert!(table.maps().is_empty());
        table.connected(node(2), Nanos(9));
        assert_eq!(table.maps(), known(Nanos(9), None), "it may have begun anew");
    }

    #[test]
    fn only_connected_peers_are_present_and_reports_grow_old() {
        let table = PeerTable::default();
        table.met(&hello(2, folder(2), Some(folder(1))), None);
        assert_eq!(table.answers(), [(node(2), KnownOfPeer { folder: Some(folder(1)), replaced: false })].into());
        assert!(table.presences(Nanos(0)).is_empty());
        table.connected(node(2), Nanos(0).after_ms(100));
        assert_eq!(table.presences(Nanos(0).after_ms(600))[&node(2)].connected_ms, 500);
        let report = NodeReport { faulty: vec![(ShardId(1), ReplicaId(2))], ..NodeReport::default() };
        table.note_report(node(2), report, Nanos(0).after_ms(1_000));
        assert_eq!(table.faulty(Nanos(0).after_ms(1_500)), [(node(2), ShardId(1), ReplicaId(2))].into());
        assert!(table.faulty(Nanos(0).after_ms(1_001 + REPORT_HOLDS_MS)).is_empty());
        table.disconnected(node(2));
        assert!(table.presences(Nanos(0).after_ms(700)).is_empty());
        assert!(table.faulty(Nanos(0).after_ms(1_500)).is_empty());
        assert_eq!(table.answers().len(), 1, "what it said stays true");
    }
}
