use super::{bytes, uuid};
use kvorum_protocol::join::PROOF_BYTES;
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{Admitted, FolderId, JoinReply, JoinRequest, NewNode, NodeId, TokenId};

/// A node that joins, as it says itself.
pub(crate) fn new_node() -> NewNode {
    NewNode {
        id: NodeId(uuid(4)),
        name: "node-4".to_owned(),
        zone: "b".to_owned(),
        client: "10.0.0.4:7400".to_owned(),
        peer: "10.0.0.4:7410".to_owned(),
        folder: FolderId(uuid(0x44)),
        levels: Levels { min: 1, max: 2 },
    }
}

pub(crate) fn join_requests() -> Vec<(String, JoinRequest)> {
    let request = JoinRequest {
        token: TokenId(uuid(0x70)),
        node: new_node(),
        signing_request: bytes("a certificate signing request"),
        proof: std::array::from_fn::<u8, PROOF_BYTES, _>(|at| at as u8),
    };
    let node = NewNode { name: String::new(), zone: String::new(), ..new_node() };
    let unnamed = JoinRequest { node, ..request.clone() };
    [("join", request), ("join under any name", unnamed)].map(|(name, request)| (name.to_owned(), request)).into()
}

pub(crate) fn join_replies() -> Vec<(String, JoinReply)> {
    let admitted = Admitted {
        certificate: "-----BEGIN CERTIFICATE-----".to_owned(),
        authorities: "-----BEGIN CERTIFICATE-----".to_owned(),
        map: bytes("{\"epoch\":9}"),
    };
    let replies = [
        ("admitted", JoinReply::Admitted(Box::new(admitted))),
        ("refused", JoinReply::Refused("the token was used".to_owned())),
        ("later", JoinReply::Later("ask again".to_owned())),
    ];
    replies.map(|(name, reply)| (name.to_owned(), reply)).into()
}
