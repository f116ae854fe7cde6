//! The admin actor: one per node, known to all nodes, answers what [`super::request`] asks.

use super::AdminHandler;
use super::request::{AdminReply, AdminRequest, REPLY_BYTES_MAX};
use kvorum_protocol::codec::DecodeError;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorClusterMessage;
use std::sync::Arc;

/// The only message: see [`super::request`] for why.
#[derive(RactorClusterMessage)]
pub(super) enum AdminMessage {
    #[rpc]
    Ask(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

pub(super) struct Admin {
    pub(super) handler: Arc<dyn AdminHandler>,
}

impl Actor for Admin {
    type Msg = AdminMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        AdminMessage::Ask(request, reply): AdminMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let asking = match AdminRequest::decode(request) {
            Ok(AdminRequest::Ask(verb)) => Arc::clone(&self.handler).ask(verb),
            Ok(AdminRequest::Plan(verb)) => Arc::clone(&self.handler).plan(verb),
            Ok(AdminRequest::ChangeAuth(verb)) => Arc::clone(&self.handler).change_auth(verb),
            Ok(AdminRequest::CanIssue) => Arc::clone(&self.handler).issue(None),
            Ok(AdminRequest::Issue(asked)) => Arc::clone(&self.handler).issue(Some(asked)),
            other => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.answer(other).encode());
                return Ok(());
            }
        };
        tokio::spawn(async move { reply.send(asking.await.into_reply().encode()) });
        Ok(())
    }
}

impl Admin {
    fn answer(&self, request: Result<AdminRequest, DecodeError>) -> AdminReply {
        match request {
            Ok(AdminRequest::Status) => {
                let status = self.handler.status();
                // The session would break on a larger one, and take everything else on it along.
                if status.len() > REPLY_BYTES_MAX {
                    return AdminReply::Refused(format!("the status has {} bytes, which is too many", status.len()));
                }
                AdminReply::Done(status)
            }
            Ok(AdminRequest::CacheFigures) => AdminReply::Done(self.handler.cache_figures()),
            Ok(AdminRequest::NodeFigures) => match self.handler.node_figures() {
                Some(figures) => AdminReply::Done(figures),
                None => AdminReply::Refused("the node has no HTTP door, and keeps no figures for a console".to_owned()),
            },
            Ok(AdminRequest::TransferLeadership { shard, to }) => match self.handler.transfer_leadership(shard, to) {
                Ok(()) => AdminReply::Done(Vec::new()),
                Err(text) => AdminReply::Refused(text),
            },
            // It was answered before.
            Ok(
                AdminRequest::Ask(_)
                | AdminRequest::Plan(_)
                | AdminRequest::ChangeAuth(_)
                | AdminRequest::CanIssue
                | AdminRequest::Issue(_),
            ) => AdminReply::AskAgain,
            Err(error) => {
                tracing::warn!(%error, "a node asks what this one does not understand");
                AdminReply::NotUnderstood
            }
        }
    }
}
