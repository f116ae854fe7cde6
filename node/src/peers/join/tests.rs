use super::dial::{JoinDialError, connect, dial};
use super::{JOIN_ALPN, JoinAnswer, JoinHost};
use crate::auth::cert::Identity;
use crate::auth::proof;
use crate::peers::close::describe;
use crate::peers::limits::JOINS_OF_SOURCE_MAX;
use crate::peers::tests::{Cluster, Node};
use crate::peers::tls;
use crate::peers::transport::ALPN;
use bytes::{Bytes, BytesMut};
use kvorum_protocol::join::PROOF_BYTES;
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{
    AuthorityHash, ClusterId, FolderId, JoinReply, JoinRequest, JoinToken, NewNode, NodeId, TokenId, TokenKey,
    TokenSecret, frame,
};
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rand::{Rng, SeedableRng};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: TokenSecret = TokenSecret([3; 32]);

/// Refuses everybody, and keeps what was asked and whether the proof holds.
struct Refuses {
    asked: Mutex<Vec<(JoinRequest, bool)>>,
    /// An answer takes one of these.
    may_answer: Semaphore,
}

impl JoinHost for Refuses {
    fn join(self: Arc<Self>, request: JoinRequest, binding: [u8; 32]) -> JoinAnswer {
        let pair = Ed25519KeyPair::from_seed_unchecked(&SECRET.0).unwrap();
        let key = TokenKey(pair.public_key().as_ref().try_into().unwrap());
        let holds = proof::is_signed(&request, &key, &binding);
        self.asked.lock().push((request, holds));
        Box::pin(async move {
            self.may_answer.acquire().await.unwrap().forget();
            JoinReply::Refused("nobody joins here".to_owned())
        })
    }
}

struct Scene {
    node: Node,
    host: Arc<Refuses>,
    token: JoinToken,
    authority: CertificateDer<'static>,
}

/// A node alone, and a token of its cluster. `answers`: how many are answered.
async fn scene(answers: usize) -> Scene {
    let (cluster, id) = (Cluster::new(), NodeId(Uuid::new_v4()));
    let tls = cluster.config(id, "127.0.0.1:0".parse().unwrap(), &[]).tls;
    let node = cluster.node(id, &[]).await;
    let host = Arc::new(Refuses { asked: Mutex::default(), may_answer: Semaphore::new(answers) });
    node.peers.serve_joins(Arc::clone(&host) as _);
    let id = TokenId(Uuid::new_v4());
    let token = JoinToken { cluster: cluster.id, authority: tls.authority().unwrap(), id, secret: SECRET };
    Scene { node, host, token, authority: tls.authorities()[0].clone() }
}

fn joiner() -> NewNode {
    NewNode {
        id: NodeId(Uuid::from_u128(4)),
        name: "node-4".to_owned(),
        zone: String::new(),
        client: "127.0.0.1:1".to_owned(),
        peer: "127.0.0.1:2".to_owned(),
        folder: FolderId(Uuid::from_u128(5)),
        levels: Levels::OWN,
    }
}

impl Scene {
    async fn ask(&self, token: &JoinToken) -> Result<JoinReply, JoinDialError> {
        let address = self.node.peers.local_address().to_string();
        dial(&address, token, joiner(), Bytes::from_static(b"a request")).await
    }

    /// Sends these bytes in place of a question; returns how the node ends the connection.
    async fn send(&self, bytes: Bytes, ends: bool) -> String {
        let address = self.node.peers.local_address();
        let (_endpoint, connection) = connect(address, &self.token, JOIN_ALPN).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        // The node may have closed the connection before it has all of it.
        let written = send.write_chunk(bytes).await;
        if ends && written.is_ok() {
            let _ = send.finish();
        }
        describe(&timeout(PATIENCE, connection.closed()).await.expect("the node ends it"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_and_its_proof_is_of_this_connection() {
    let scene = scene(2).await;
    let refused = JoinReply::Refused("nobody joins here".to_owned());
    for _ in 0..2 {
        assert_eq!(scene.ask(&scene.token).await.unwrap(), refused);
    }
    let asked = scene.host.asked.lock();
    assert!(asked.iter().all(|(request, holds)| *holds && request.node == joiner() && request.token == scene.token.id));
    assert_ne!(asked[0].0.proof, asked[1].0.proof, "each connection has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_who_is_not_of_the_tokens_cluster() {
    let scene = scene(0).await;
    let foreign = [
        JoinToken { authority: AuthorityHash([9; 32]), ..scene.token.clone() },
        JoinToken { cluster: ClusterId(Uuid::new_v4()), ..scene.token.clone() },
    ];
    for token in foreign {
        let error = scene.ask(&token).await.unwrap_err();
        assert!(matches!(error, JoinDialError::Foreign(_)), "{error}");
    }
    assert!(scene.host.asked.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_certificate_is_no_peer() {
    let scene = scene(0).await;
    let mut roots = RootCertStore::empty();
    roots.add(scene.authority.clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = Identity { cluster: scene.token.cluster, node: scene.node.id }.name();
    let address = scene.node.peers.local_address();
    let dialled = endpoint.connect_with(ClientConfig::new(Arc::new(crypto)), address, &name).unwrap();
    let connection = timeout(PATIENCE, dialled).await.expect("in time").expect("TLS lets it in");
    let end = describe(&timeout(PATIENCE, connection.closed()).await.expect("the node ends it"));
    assert!(end.starts_with("closed by the peer: unknown node: no certificate"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_ends_the_connection() {
    let scene = scene(1).await;
    let question = JoinRequest {
        token: scene.token.id,
        node: joiner(),
        signing_request: Bytes::from_static(b"a request"),
        proof: [1; PROOF_BYTES],
    };
    let mut sound = BytesMut::new();
    frame::encode(&mut sound, |out| question.encode(out));
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut inputs: Vec<(Bytes, bool)> = vec![
        (Bytes::new(), true),
        (Bytes::from(vec![0xff; 64]), true),
        // More than a question may have; and one that never ends.
        (Bytes::from(vec![0; 256 * 1024]), true),
        (Bytes::copy_from_slice(&sound), false),
        ([&sound[..], b"more"].concat().into(), true),
        (sound.clone().split_to(sound.len() - 1).freeze(), true),
    ];
    for _ in 0..24 {
        let mut changed = sound.to_vec();
        let at = random.random_range(0..changed.len());
        changed[at] ^= 1 << random.random_range(0..8);
        inputs.push((changed.into(), true));
    }
    for (input, ends) in inputs {
        let (length, end) = (input.len(), scene.send(input, ends).await);
        assert!(end.starts_with("closed by the peer: broken protocol"), "{length} bytes: {end}");
    }
    assert!(scene.host.asked.lock().is_empty(), "nobody was asked");
    scene.ask(&scene.token).await.expect("the next one is served as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_join_from_one_address_at_a_time() {
    let scene = Arc::new(scene(0).await);
    let asking: Vec<_> = (0..JOINS_OF_SOURCE_MAX)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.ask(&scene.token).await })
        })
        .collect();
    let all_wait = async {
        while scene.host.asked.lock().len() < JOINS_OF_SOURCE_MAX {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_wait).await.expect("all have a place");
    let error = scene.ask(&scene.token).await.unwrap_err();
    assert!(error.to_string().contains("not now: 2 nodes join from this address at the moment"), "{error}");
    scene.host.may_answer.add_permits(JOINS_OF_SOURCE_MAX + 1);
    for asked in asking {
        asked.await.unwrap().expect("it is answered");
    }
    scene.ask(&scene.token).await.expect("there are places again");
}
