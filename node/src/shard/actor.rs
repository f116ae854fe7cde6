//! Where a shard meets the actor library: the only place.
//!
//! The actor opens a [`ShardHost`] and gives it its turns. If it fails, its state is gone; the supervisor starts a new one,
//! which rebuilds everything from the log and gets an inbox of its own, so that nothing meant for the old one reaches it.

use super::host::{ShardArguments, ShardHost};
use super::inbox::Waker;
use crate::clock;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;

/// What a shard's actor is told. Everything else comes through the inbox.
#[derive(Debug)]
pub enum ShardMessage {
    /// The inbox holds something.
    Wake,
}

impl ractor::Message for ShardMessage {}

/// The actor.
pub struct ShardActor;

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardHost;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> Result<ShardHost, ActorProcessingErr> {
        let outlet = Arc::clone(&arguments.outlet);
        // It only fails when the actor has stopped; what is queued is then answered as the host is dropped.
        let waker = Waker::new(move || drop(myself.cast(ShardMessage::Wake)));
        // Recovery reads and syncs files, so it stays off the async workers.
        let open = move || ShardHost::open(arguments, waker, clock::monotonic());
        let host = tokio::task::spawn_blocking(open).await??;
        outlet.opened(Arc::clone(host.handle()));
        host.handle().inbox.tick();
        Ok(host)
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMessage>,
        ShardMessage::Wake: ShardMessage,
        host: &mut ShardHost,
    ) -> Result<(), ActorProcessingErr> {
        Ok(host.turn(clock::now())?)
    }

    async fn post_stop(&self, _myself: ActorRef<ShardMessage>, host: &mut ShardHost) -> Result<(), ActorProcessingErr> {
        Ok(host.stop()?)
    }
}
