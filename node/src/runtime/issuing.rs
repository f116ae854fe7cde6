//! Signing the certificates of nodes that join. What the ring map says is signed, whoever asks: a node that was tricked, or is broken,
//! gets no certificate for anybody else.

use crate::auth::cert::Identity;
use crate::auth::issuer::{NodeIssuer, SigningRequest};
use crate::cli::init::{names_of, without_brackets};
use crate::runtime::control::VerbAnswer;
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_core::ring::RingMap;
use kvorum_core::routing::router::Router;
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::limits::SIGNING_REQUEST_BYTES_MAX;
use kvorum_protocol::{ClusterId, NodeId, TokenId};
use std::path::PathBuf;
use std::sync::Arc;

/// What is to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssueRequest {
    /// The token by which the node has joined.
    pub token: TokenId,
    /// The node.
    pub node: NodeId,
    /// Its certificate signing request (PKCS #10, DER).
    pub signing_request: Bytes,
}

impl IssueRequest {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.uuid(self.token.0);
        out.uuid(self.node.0);
        out.put_u32_le(self.signing_request.len() as u32);
        out.put_slice(&self.signing_request);
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (token, node) = (reader.token_id()?, reader.node_id()?);
        Ok(Self { token, node, signing_request: reader.bytes("signing request", SIGNING_REQUEST_BYTES_MAX)? })
    }
}

/// The issuer of this node, if there is one. Its files are looked for each time, so that they may come and go while the node runs.
pub struct Issuing {
    router: Arc<Router>,
    /// Where the node's key lies.
    directory: PathBuf,
}

impl Issuing {
    /// What signs with the issuer in `directory`, if it lies there.
    pub fn new(router: Arc<Router>, directory: PathBuf) -> Arc<Self> {
        Arc::new(Self { router, directory })
    }

    /// Whether this node can sign. Reads files.
    pub fn can_issue(&self) -> VerbAnswer {
        self.issuer().map_or_else(VerbAnswer::Refused, |_| VerbAnswer::Done(Vec::new()))
    }

    /// The certificate of a node that has joined by a token, and those between it and the authority, as PEM. The ring map in force
    /// must say that it has, with that very key; it may have to be asked for again until it does. Reads files.
    pub fn issue(&self, asked: &IssueRequest) -> VerbAnswer {
        let request = match SigningRequest::from_der(&asked.signing_request) {
            Ok(request) => request,
            Err(error) => {
                return VerbAnswer::Refused(format!("the certificate signing request can't be used: {error}"));
            }
        };
        let issuer = match self.issuer() {
            Ok(issuer) => issuer,
            Err(why) => return VerbAnswer::Refused(why),
        };
        let admits = |ring: &Arc<RingMap>| ring.admits(asked.token, asked.node, request.key());
        let Some(ring) = self.router.agreed_ring().filter(|ring| admits(ring)) else { return VerbAnswer::AskAgain };
        let identity = Identity { cluster: ClusterId(ring.cluster), node: asked.node };
        let own = ring.nodes.iter().find(|node| node.id == asked.node.0);
        let host = own.and_then(|node| Some(without_brackets(node.client.rsplit_once(':')?.0)));
        match issuer.sign(identity, &request, &host.map(|host| names_of(&host)).unwrap_or_default()) {
            Ok(pem) => {
                tracing::info!(node = %asked.node, token = %asked.token, "signed the certificate of a node that joins");
                VerbAnswer::Done(pem.into_bytes())
            }
            Err(error) => VerbAnswer::Refused(format!("the certificate can't be signed: {error}")),
        }
    }

    fn issuer(&self) -> Result<NodeIssuer, String> {
        match NodeIssuer::load(&self.directory) {
            Ok(Some(issuer)) => Ok(issuer),
            Ok(None) => Err("this node has no issuer".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "the issuer of this node can't be used");
                Err(format!("the issuer of this node can't be used: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cert::create_authority;
    use crate::auth::issuer::{create_issuer, new_key};
    use crate::runtime::system_clock::SystemClock;
    use kvorum_core::ring::{RingNode, RingToken, TokenUse, Unknown};
    use kvorum_protocol::{Durability, TokenKey};
    use uuid::Uuid;

    #[test]
    fn nothing_is_signed_but_what_the_map_says() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("node");
        create_authority(folder.path()).unwrap();
        let id = |number| Uuid::from_u128(number);
        let request = || SigningRequest::make(&new_key().unwrap()).unwrap();
        let (ours, other) = (request(), request());
        let key = SigningRequest::from_der(&ours).unwrap().key();
        let nodes = vec![RingNode::new(id(1), "node-1"), RingNode::new(id(4), "node-4")];
        let ring = RingMap::initial(ClusterId(id(99)), Durability::Fsync, nodes, 4, 1).unwrap();
        let token = RingToken {
            id: id(7),
            key: TokenKey([7; 32]),
            name: None,
            zone: None,
            for_ms: 1_000,
            used: Some(TokenUse { node: id(4), key }),
            unknown: Unknown::new(),
        };
        let router = Router::new(NodeId(id(1)), ring.clone(), Arc::new(SystemClock), 1);
        let issuing = Issuing::new(Arc::clone(&router), own.clone());
        let issue = |token, node, signing_request: &[u8]| {
            let signing_request = Bytes::copy_from_slice(signing_request);
            issuing.issue(&IssueRequest { token: TokenId(id(token)), node: NodeId(id(node)), signing_request })
        };
        assert!(matches!(issue(7, 4, &ours), VerbAnswer::Refused(why) if why == "this node has no issuer"));
        create_issuer(folder.path(), &own).unwrap();
        assert_eq!(issuing.can_issue(), VerbAnswer::Done(Vec::new()));
        assert_eq!(issue(7, 4, &ours), VerbAnswer::AskAgain, "no map is agreed on");
        router.set_ring(RingMap { epoch: ring.epoch + 1, tokens: vec![token.clone()], ..ring.clone() });
        assert!(matches!(issue(7, 4, &ours), VerbAnswer::Done(pem) if !pem.is_empty()));
        for (what, asked) in [
            ("another key", issue(7, 4, &other)),
            ("another node", issue(7, 1, &ours)),
            ("another token", issue(8, 4, &ours)),
        ] {
            assert_eq!(asked, VerbAnswer::AskAgain, "{what}");
        }
        assert!(matches!(issue(7, 4, b"no request"), VerbAnswer::Refused(_)));
        let unused = RingToken { used: None, ..token };
        router.set_ring(RingMap { epoch: ring.epoch + 2, tokens: vec![unused], ..ring });
        assert_eq!(issue(7, 4, &ours), VerbAnswer::AskAgain, "nobody has used it");
    }
}
