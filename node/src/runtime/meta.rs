//! The actor that keeps the ring map and the table of users on this node: it lets a [`MapKeeper`] and an [`AuthKeeper`] look at them now
//! and then, and has what they find carried out.

use crate::runtime::system_clock;
use kvorum_core::auth::keeper::{AuthAsked, AuthKeeper};
use kvorum_core::clock::Nanos;
use kvorum_core::map_keeper::{Asked, LOOK_EVERY, Looked, MapKeeper, Planned};
use kvorum_core::ring::RingMap;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::sealing::KeyFailure;
use kvorum_protocol::AuthVerb;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

/// What the keeper is told.
#[derive(Debug)]
pub enum MetaMessage {
    /// Look at the map.
    Look,
    /// An operator asks for something: what becomes of it is said at once.
    Ask(Verb, oneshot::Sender<Asked>),
    /// An operator wants to know what the cluster does, or would do if this were asked of it.
    Plan(Option<Verb>, oneshot::Sender<Planned>),
    /// An operator wants to change who may do what: what becomes of it is said at once.
    ChangeAuth(Box<AuthVerb>, oneshot::Sender<AuthAsked>),
}

impl ractor::Message for MetaMessage {}

/// What the actor needs.
pub struct MetaArguments {
    /// What decides.
    pub keeper: MapKeeper,
    /// What follows the table of users.
    pub auth: AuthKeeper,
    /// Told whenever a newer table of users is in force.
    pub auth_changed: Box<dyn Fn() + Send + Sync>,
    /// Told whenever a newer map is in force.
    pub changed: Box<dyn Fn(&RingMap) + Send + Sync>,
    /// The node was removed from the cluster, perhaps by an operator who has given it up: ends the process.
    pub removed: Box<dyn Fn(bool) + Send + Sync>,
    /// The node can't open what the cluster stores: ends the process.
    pub closed: Box<dyn Fn(KeyFailure) + Send + Sync>,
    /// Opens this node's replica of `meta`, to found the group.
    pub bootstrap: Box<dyn Fn() + Send + Sync>,
}

/// The actor.
pub struct MetaActor;

impl Actor for MetaActor {
    type Msg = MetaMessage;
    type State = MetaArguments;
    type Arguments = MetaArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MetaMessage>,
        arguments: MetaArguments,
    ) -> Result<MetaArguments, ActorProcessingErr> {
        myself.send_interval(LOOK_EVERY, || MetaMessage::Look);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _myself: ActorRef<MetaMessage>,
        message: MetaMessage,
        state: &mut MetaArguments,
    ) -> Result<(), ActorProcessingErr> {
        // Copies of the map and of the table are synced, keys come from a program that may take its time, and a plan of a large
        // cluster takes long.
        may_block(|| state.handle(message, system_clock::monotonic()));
        Ok(())
    }
}

/// Does what may block, with the other tasks of this worker going on elsewhere meanwhile.
fn may_block(work: impl FnOnce()) {
    match Handle::current().runtime_flavor() {
        // It has no other worker.
        RuntimeFlavor::CurrentThread => work(),
        _ => block_in_place(work),
    }
}

impl MetaArguments {
    fn handle(&mut self, message: MetaMessage, now: Nanos) {
        // Whoever asked may have stopped waiting; what they ask is then not done for nobody.
        match message {
            MetaMessage::Look => self.look(now),
            MetaMessage::Ask(verb, reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(self.keeper.ask(&verb, now));
                }
            }
            MetaMessage::ChangeAuth(verb, reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(self.auth.ask(&verb, now));
                }
            }
            MetaMessage::Plan(verb, reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(self.keeper.plan(verb.as_ref(), now));
                }
            }
        }
    }

    fn look(&mut self, now: Nanos) {
        if self.auth.look(now) {
            (self.auth_changed)();
        }
        let Looked { in_force, bootstraps, removed, given_up, closed, .. } = self.keeper.look(now);
        if let Some(failure) = closed {
            (self.closed)(failure);
        }
        if bootstraps {
            (self.bootstrap)();
        }
        if let Some(ring) = in_force {
            (self.changed)(&ring);
        }
        if removed || given_up {
            (self.removed)(given_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_works_on_runtimes_of_either_kind() {
        use tokio::runtime::Builder;
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = builder.build().unwrap();
            let worked = runtime.block_on(async {
                let working = tokio::spawn(async {
                    let mut worked = false;
                    may_block(|| worked = true);
                    worked
                });
                working.await.unwrap()
            });
            assert!(worked);
        }
    }
}
