//! What comes from other nodes: consensus messages for the shards, requests that they pass on, and who leads what.

use crate::peers::{PeerHandler, Removal};
use crate::runtime::system_clock;
use kvorum_core::folder::known_folders::KnownFolders;
use kvorum_core::ring::decide::KnownOfPeer;
use kvorum_core::routing::peer_desk::{AdmitError, PeerDesk, SnapshotReads};
use kvorum_core::session::SessionContext;
use kvorum_core::session::reply::ReplySink;
use kvorum_core::snapshot::SnapshotRead;
use kvorum_protocol::NodeId;
use kvorum_protocol::peer::{PeerHello, PeerMessage};
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// Hands the messages of all peers to a [`PeerDesk`]. Never blocks: the peers' reading tasks call it.
pub struct PeerDoor {
    desk: PeerDesk,
}

impl PeerDoor {
    /// A door that stops answering when `stop` is cancelled.
    pub fn new(context: Arc<SessionContext>, known_folders: KnownFolders, stop: CancellationToken) -> Arc<Self> {
        Arc::new_cyclic(|door: &Weak<Self>| {
            let (door, reads_for) = (Weak::clone(door), Weak::clone(door));
            let watch = move |peer, sink| {
                // One task per peer for the life of the node: it sends the answers that come later.
                tokio::spawn(collect(Weak::clone(&door), peer, sink, stop.clone()));
            };
            // Few: one per offered snapshot at a time.
            let read = move |read: SnapshotRead| {
                let door = Weak::clone(&reads_for);
                tokio::task::spawn_blocking(move || {
                    let answer = read.run();
                    if let Some(door) = door.upgrade() {
                        door.desk.snapshot_read(answer, system_clock::monotonic());
                    }
                });
            };
            let reads = SnapshotReads::Elsewhere(Box::new(read));
            Self { desk: PeerDesk::new(context, known_folders, Box::new(watch), reads) }
        })
    }

    /// The node's tick.
    pub fn tick(&self) {
        self.desk.tick(system_clock::monotonic());
    }
}

async fn collect(door: Weak<PeerDoor>, peer: NodeId, sink: Arc<ReplySink>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sink.ready() => {}
            () = stop.cancelled() => return,
        }
        let Some(door) = door.upgrade() else { return };
        door.desk.collect(peer);
    }
}

impl PeerHandler for PeerDoor {
    fn knows(&self, peer: NodeId) -> KnownOfPeer {
        self.desk.knows(peer)
    }

    fn admit(&self, hello: &PeerHello) -> Result<(), AdmitError> {
        self.desk.admit(hello)
    }

    fn connected(&self, peer: NodeId) {
        self.desk.connected(peer);
    }

    fn disconnected(&self, peer: NodeId) {
        self.desk.disconnected(peer);
    }

    fn message(&self, from: NodeId, message: PeerMessage) {
        self.desk.message(from, message, system_clock::monotonic());
    }

    fn removed(&self, by: NodeId, how: Removal) {
        match how {
            Removal::Asked => self.desk.said_removed(by),
            Removal::GivenUp => self.desk.said_given_up(),
        }
    }

    fn rumoured_address(&self, node: NodeId) -> Option<String> {
        self.desk.rumoured_address(node)
    }

    fn denies(&self, serial: &[u8]) -> bool {
        self.desk.denies(serial)
    }

    fn was_removed(&self, node: NodeId) -> Option<Removal> {
        match (self.desk.was_removed(node), self.desk.is_recovered()) {
            (false, _) => None,
            (true, false) => Some(Removal::Asked),
            (true, true) => Some(Removal::GivenUp),
        }
    }
}
