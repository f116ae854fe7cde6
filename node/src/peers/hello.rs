//! The first messages of a connection: each end says who it is, and checks what the other says.

use super::PeerHandler;
use super::close::{CloseCode, LinkError};
use super::lane::{Inbound, Lane};
use super::limits::{HANDSHAKE_TIMEOUT, HELLO_FRAME_BYTES_MAX};
use crate::auth::cert::Identity;
use bytes::BytesMut;
use kvorum_core::ring::decide::KnownOfPeer;
use kvorum_core::routing::peer_desk::AdmitError;
use kvorum_protocol::frame;
use kvorum_protocol::peer::{Levels, PeerHello, PeerMessage};
use quinn::{Connection, SendStream};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// A connection whose ends have said hello: both ends of the consensus lane, on which the hellos travel, and the peer's program.
pub(super) struct Greeted {
    pub(super) send: SendStream,
    pub(super) inbound: Inbound,
    pub(super) program: String,
    /// Drawn at random by the peer's process.
    pub(super) process: u64,
}

/// Says hello and waits for the peer's. Only a peer that the handler has admitted is greeted.
pub(super) async fn exchange(
    connection: &Connection,
    own: &PeerHello,
    expected: Identity,
    handler: &Arc<dyn PeerHandler>,
) -> Result<Greeted, LinkError> {
    timeout(HANDSHAKE_TIMEOUT, async {
        let mut send = connection.open_uni().await?;
        send.set_priority(Lane::Consensus.priority()).ok();
        let mut bytes = BytesMut::new();
        let KnownOfPeer { folder: knows, replaced } = handler.knows(expected.node);
        let own = PeerHello { knows, replaced, ..own.clone() };
        let levels = own.levels;
        frame::encode(&mut bytes, |out| PeerMessage::Hello(own).encode(out));
        send.write_chunk(bytes.freeze()).await?;
        let mut inbound = Inbound::new(connection.accept_uni().await?);
        let (program, process) = loop {
            match inbound.next_arrived(HELLO_FRAME_BYTES_MAX)? {
                None => inbound.fill().await?,
                Some(message) => break admit(message, levels, expected, handler).await?,
            }
        };
        Ok(Greeted { send, inbound, program, process })
    })
    .await
    .unwrap_or(Err(LinkError::HelloTimeout))
}

/// As [`check`]. The handler may write down whom it meets, and a disk may take seconds for it: nobody else waits meanwhile.
async fn admit(
    message: PeerMessage,
    own: Levels,
    expected: Identity,
    handler: &Arc<dyn PeerHandler>,
) -> Result<(String, u64), LinkError> {
    let handler = Arc::clone(handler);
    let checked = spawn_blocking(move || check(message, own, expected, &*handler)).await;
    checked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The peer's program and its process, if the message is the hello of the expected node, whose program speaks a level that this one speaks.
fn check(
    message: PeerMessage,
    own: Levels,
    expected: Identity,
    handler: &dyn PeerHandler,
) -> Result<(String, u64), LinkError> {
    let refuse = |code, detail| Err(LinkError::Refused { code, detail });
    let PeerMessage::Hello(hello) = message else {
        return refuse(CloseCode::Protocol, "the first message is no hello".to_owned());
    };
    if hello.levels.common(own).is_none() {
        let detail = format!("it speaks {}, this node speaks {own}", hello.levels);
        return refuse(CloseCode::Version, detail);
    }
    if hello.cluster != expected.cluster {
        let detail = format!("it says it is of cluster {}, this is {}", hello.cluster, expected.cluster);
        return refuse(CloseCode::WrongCluster, detail);
    }
    if hello.node != expected.node {
        let detail = format!("it says it is node {}, its certificate is of {}", hello.node, expected.node);
        return refuse(CloseCode::UnknownNode, detail);
    }
    match handler.admit(&hello) {
        Ok(()) => Ok((hello.program, hello.process)),
        Err(error @ AdmitError::Level { .. }) => refuse(CloseCode::Version, error.to_string()),
        Err(error @ AdmitError::Unknown { .. }) => refuse(CloseCode::UnknownNode, error.to_string()),
        Err(error @ AdmitError::Removed) => refuse(CloseCode::Removed, error.to_string()),
        Err(error @ AdmitError::Folder(_)) => refuse(CloseCode::WrongDisk, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Removal;
    use kvorum_protocol::{ClusterId, FolderId, NodeId};
    use uuid::Uuid;

    struct OneDisk(FolderId);

    impl PeerHandler for OneDisk {
        fn knows(&self, _: NodeId) -> KnownOfPeer {
            KnownOfPeer::default()
        }
        fn admit(&self, hello: &PeerHello) -> Result<(), AdmitError> {
            if !hello.levels.speaks(1) {
                return Err(AdmitError::Level { levels: hello.levels, cluster: 1 });
            }
            if hello.disk == self.0 { Ok(()) } else { Err(AdmitError::Folder("another disk".to_owned())) }
        }
        fn connected(&self, _: NodeId) {}
        fn disconnected(&self, _: NodeId) {}
        fn message(&self, _: NodeId, _: PeerMessage) {}
        fn removed(&self, _: NodeId, _: Removal) {}
        fn was_removed(&self, _: NodeId) -> Option<Removal> {
            None
        }
    }

    #[test]
    fn only_the_expected_nodes_hello_passes() {
        let expected = Identity { cluster: ClusterId(Uuid::from_u128(1)), node: NodeId(Uuid::from_u128(2)) };
        let good = PeerHello {
            levels: Levels::OWN,
            cluster: expected.cluster,
            node: expected.node,
            disk: FolderId(Uuid::from_u128(3)),
            starts: 1,
            process: 4,
            knows: None,
            replaced: false,
            client: "node-2.example:7400".to_owned(),
            resp: kvorum_protocol::peer::RespAddresses::default(),
            program: "kvorum 1".to_owned(),
            more: bytes::Bytes::new(),
        };
        let handler = OneDisk(good.disk);
        let own = Levels { min: 1, max: 2 };
        assert_eq!(
            check(PeerMessage::Hello(good.clone()), own, expected, &handler).unwrap(),
            ("kvorum 1".to_owned(), 4)
        );
        let other_cluster = ClusterId(Uuid::from_u128(9));
        let other_node = NodeId(Uuid::from_u128(9));
        for (message, expected_code) in [
            (PeerMessage::Hello(PeerHello { levels: Levels { min: 9, max: 12 }, ..good.clone() }), CloseCode::Version),
            (PeerMessage::Hello(PeerHello { levels: Levels { min: 2, max: 2 }, ..good.clone() }), CloseCode::Version),
            (PeerMessage::Hello(PeerHello { cluster: other_cluster, ..good.clone() }), CloseCode::WrongCluster),
            (PeerMessage::Hello(PeerHello { node: other_node, ..good.clone() }), CloseCode::UnknownNode),
            (PeerMessage::Hello(PeerHello { disk: FolderId(Uuid::from_u128(4)), ..good }), CloseCode::WrongDisk),
            (PeerMessage::Leading(Vec::new()), CloseCode::Protocol),
        ] {
            match check(message, own, expected, &handler) {
                Err(LinkError::Refused { code, .. }) => assert_eq!(code, expected_code),
                other => panic!("{expected_code:?} was expected, not {other:?}"),
            }
        }
    }
}
