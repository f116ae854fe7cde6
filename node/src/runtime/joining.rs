//! Letting nodes join by a token. Any node that is asked checks the proof, has the leader of `meta` use the token and add the node in
//! one change, and has a node with an issuer sign the certificate.

use crate::auth::issuer::SigningRequest;
use crate::auth::proof;
use crate::peers::join::{JoinAnswer, JoinHost};
use crate::runtime::control::{Control, VerbAnswer};
use crate::runtime::issuing::{IssueRequest, Issuing};
use crate::runtime::status::Inspector;
use kvorum_core::ring::RingMap;
use kvorum_core::ring::verbs::{Verb, VerbRefusal};
use kvorum_core::routing::router::Router;
use kvorum_protocol::{Admitted, JoinReply, JoinRequest, NodeId, TokenKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// A token that was made a moment ago may reach this node a little later than the node that has it.
const TOKEN_PATIENCE: Duration = Duration::from_secs(2);
/// How long the whole answer may take: less than the connection is given.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);
/// What is not so yet is looked at again so often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long another node may take to say whether it can sign.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(2);

/// Who signs.
#[derive(Clone, Copy)]
enum Signer {
    Here,
    Node(NodeId),
}

/// Answers nodes that want to join.
pub struct JoinDesk {
    router: Arc<Router>,
    inspector: Arc<Inspector>,
    control: Control,
    issuing: Arc<Issuing>,
}

impl JoinHost for JoinDesk {
    fn join(self: Arc<Self>, request: JoinRequest, binding: [u8; 32]) -> JoinAnswer {
        Box::pin(async move {
            let later = "the cluster has not said in time that the node may join: ask again";
            match timeout(ANSWER_PATIENCE, self.admit(request, binding)).await {
                Ok(Ok(admitted)) => JoinReply::Admitted(Box::new(admitted)),
                Ok(Err(why)) => JoinReply::Refused(why),
                Err(_) => JoinReply::Later(later.to_owned()),
            }
        })
    }
}

impl JoinDesk {
    /// A desk that is told nothing more.
    pub fn new(router: Arc<Router>, inspector: Arc<Inspector>, control: Control, issuing: Arc<Issuing>) -> Arc<Self> {
        Arc::new(Self { router, inspector, control, issuing })
    }

    async fn admit(&self, asked: JoinRequest, binding: [u8; 32]) -> Result<Admitted, String> {
        let key = timeout(TOKEN_PATIENCE, self.when(|ring| ring.token(asked.token).map(|token| token.key))).await;
        // Who has no token learns only that.
        let is_signed = |key: &TokenKey| proof::is_signed(&asked, key, &binding);
        key.ok().filter(is_signed).ok_or_else(|| VerbRefusal::UnknownToken.to_string())?;
        let request = SigningRequest::from_der(&asked.signing_request)
            .map_err(|error| format!("the certificate signing request can't be used: {error}"))?;
        // First, so that no token is used up in vain.
        let signer = self.signer().await?;
        let (token, key, node) = (asked.token, request.key(), Box::new(asked.node));
        let id = node.id;
        self.inspector.ask_until_done(Verb::JoinByToken { token, key, node }).await?;
        let issue = IssueRequest { token, node: id, signing_request: asked.signing_request };
        let certificate = self.issue(signer, issue).await?;
        let map = self.when(|ring| ring.admits(token, id, key).then(|| ring.to_bytes())).await;
        let certificate = String::from_utf8(certificate).map_err(|_| "the certificate is no text".to_owned())?;
        let authorities = self.inspector.certificates().in_force().identity().authority_pem().to_owned();
        Ok(Admitted { certificate, authorities, map: map.into() })
    }

    /// What the map in force says, once it says so.
    async fn when<T>(&self, look: impl Fn(&RingMap) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.router.agreed_ring().and_then(|ring| look(&ring)) {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// A node that can sign: this one, or any that is there.
    async fn signer(&self) -> Result<Signer, String> {
        let issuing = Arc::clone(&self.issuing);
        if blocking(move || issuing.can_issue()).await == VerbAnswer::Done(Vec::new()) {
            return Ok(Signer::Here);
        }
        let answers = self.control.issuers(ISSUER_TIMEOUT).await;
        let can_sign = answers.into_iter().find_map(|(node, answer)| answer.is_ok().then_some(Signer::Node(node)));
        can_sign.ok_or_else(|| {
            "no node that runs has an issuer (issuer.pem and issuer.key beside its own key): lay the node's folder out where the \
             authority's key is, with `kvorum add-node` or `kvorum cert node`"
                .to_owned()
        })
    }

    async fn issue(&self, signer: Signer, asked: IssueRequest) -> Result<Vec<u8>, String> {
        loop {
            let (issuing, asked) = (Arc::clone(&self.issuing), asked.clone());
            let answer = match signer {
                Signer::Here => blocking(move || issuing.issue(&asked)).await,
                Signer::Node(node) => self.control.issue(node, asked).await,
            };
            match answer {
                VerbAnswer::Done(certificate) => return Ok(certificate),
                VerbAnswer::Refused(why) => return Err(why),
                VerbAnswer::AskAgain => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    }
}

/// Runs what reads files. One that panics is as good as no answer.
pub async fn blocking(work: impl FnOnce() -> VerbAnswer + Send + 'static) -> VerbAnswer {
    spawn_blocking(work).await.unwrap_or(VerbAnswer::AskAgain)
}
